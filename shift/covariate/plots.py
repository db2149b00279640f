"""Pictures of a covariate shift and of the weights that answer it."""

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray

from reweight.diagnostics.plots import GREY, PALETTE
from reweight.normalization import effective_sample_size, normalize_weights
from reweight.validation import check_weights

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SOURCE_COLOR, TARGET_COLOR = PALETTE[:2]


def domain_score_histogram(
    source_scores: ArrayLike,
    target_scores: ArrayLike,
    weights: ArrayLike | None = None,
    ax: "Axes | None" = None,
    *,
    bins: int = 40,
) -> "Axes":
    """Distribution of a score over source rows, over target rows, and over weighted source rows.

    With a score that tells the samples apart, such as the log odds of a
    classifier or one column of the features, weights that work bring the
    source into line with the target; where target rows stand alone no weights can.

    Parameters
    ----------
    source_scores : array-like of shape (n_source,)
        Score of each source row.
    target_scores : array-like of shape (n_target,)
        Score of each target row.
    weights : array-like of shape (n_source,), default=None
        Weights of the source rows on any scale; None draws no weighted source.
    ax : matplotlib.axes.Axes, default=None
        Axes to draw on; None makes a new figure.
    bins : int, default=40
        Number of bins, the same for all.

    Returns
    -------
    matplotlib.axes.Axes

    Raises
    ------
    ValueError
        If scores are not one finite number per row, or weights are negative,
        not finite, all zero or not one per source row.

    Examples
    --------
    >>> from shift import domain_score_histogram
    >>> ax = domain_score_histogram([0.0, 1.0], [1.0, 2.0, 3.0], weights=[0.5, 1.5])
    >>> [text.get_text() for text in ax.get_legend().get_texts()]
    ['target: n = 3', 'source: n = 2', 'source, weighted: ESS = 2']
    """
    caller = "domain_score_histogram"
    source = _check_scores(caller, "source_scores", source_scores)
    target = _check_scores(caller, "target_scores", target_scores)
    edges = np.histogram_bin_edges(np.concatenate([source, target]), bins)
    ax = _axes(ax)
    share = np.histogram(target, edges)[0] / target.size
    ax.stairs(
        share,
        edges,
        fill=True,
        color=TARGET_COLOR,
        alpha=0.35,
        label=f"target: n = {target.size:,}",
    )
    share = np.histogram(source, edges)[0] / source.size
    ax.stairs(share, edges, color=GREY, lw=1.2, label=f"source: n = {source.size:,}")
    if weights is not None:
        w = _check_row_weights(caller, weights, source.size)
        share = np.histogram(source, edges, weights=w)[0] / source.size
        label = f"source, weighted: ESS = {effective_sample_size(w):,.0f}"
        ax.stairs(share, edges, color=SOURCE_COLOR, lw=1.8, label=label)
    ax.set_ylim(bottom=0)
    ax.set_xlabel("Score")
    ax.set_ylabel("Share of the sample")
    ax.legend(frameon=False)
    return ax


def source_weight_plot(
    source_scores: ArrayLike,
    weights: ArrayLike,
    target_scores: ArrayLike | None = None,
    ax: "Axes | None" = None,
) -> "Axes":
    """Weight of each source row over a score, with the target rows below.

    Parameters
    ----------
    source_scores : array-like of shape (n_source,)
        Score of each source row, such as one column of the features.
    weights : array-like of shape (n_source,)
        Weights of the source rows on any scale; they are drawn with mean one.
    target_scores : array-like of shape (n_target,), default=None
        Score of each target row; None draws none.
    ax : matplotlib.axes.Axes, default=None
        Axes to draw on; None makes a new figure.

    Returns
    -------
    matplotlib.axes.Axes

    Raises
    ------
    ValueError
        If scores are not one finite number per row, or weights are negative,
        not finite, all zero or not one per source row.

    Examples
    --------
    >>> from shift import source_weight_plot
    >>> ax = source_weight_plot([0.0, 1.0], [1.0, 3.0], target_scores=[1.5])
    >>> ax.get_ylabel()
    'Weight (mean one)'
    """
    caller = "source_weight_plot"
    source = _check_scores(caller, "source_scores", source_scores)
    w = normalize_weights(_check_row_weights(caller, weights, source.size))
    ax = _axes(ax)
    label = f"source: n = {source.size:,}, ESS = {effective_sample_size(w):,.0f}"
    ax.scatter(source, w, s=14, color=SOURCE_COLOR, alpha=0.6, linewidths=0, label=label)
    ax.axhline(1.0, color=GREY, lw=1, ls="--", label="equal weights")
    low = -0.06 * w.max()
    if target_scores is not None:
        target = _check_scores(caller, "target_scores", target_scores)
        label = f"target: n = {target.size:,}"
        ax.plot(target, np.full(target.size, low), "|", color=TARGET_COLOR, alpha=0.6, label=label)
    ax.set_ylim(1.8 * low, 1.06 * max(w.max(), 1.0))
    ax.set_xlabel("Score")
    ax.set_ylabel("Weight (mean one)")
    ax.legend(frameon=False)
    return ax


def _axes(ax: "Axes | None") -> "Axes":
    if ax is not None:
        return ax
    from matplotlib import pyplot as plt

    axes = plt.subplots(figsize=(6.4, 3.8), layout="constrained")[1]
    axes.spines[["top", "right"]].set_visible(False)
    return axes


def _check_scores(caller: str, name: str, scores: ArrayLike) -> NDArray[np.float64]:
    array = np.asarray(scores, dtype=np.float64)
    if array.ndim == 2 and array.shape[1] == 1:
        array = array[:, 0]
    if array.ndim != 1 or array.size == 0 or not np.isfinite(array).all():
        raise ValueError(
            f"{caller}: {name} must be one finite number per row, got an array of shape "
            f"{array.shape}; pass one column or a classifier's log odds"
        )
    return array


def _check_row_weights(caller: str, weights: ArrayLike, n_rows: int) -> NDArray[np.float64]:
    w = check_weights(weights)
    if w.size != n_rows:
        raise ValueError(
            f"{caller}: weights has {w.size} entries but there are {n_rows} source rows; pass "
            "one weight per row"
        )
    return normalize_weights(w)

"""Pictures of balance, of weights and of propensities."""

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from reweight.diagnostics._checks import check_row_weights
from reweight.normalization import effective_sample_size, normalize_weights
from reweight.validation import check_groups, check_treatment

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

# Colours of Okabe and Ito, which stay apart for all kinds of colour vision.
PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
GREY = "#6B6B6B"
LIGHT_GREY = "#D9D9D9"
NAME_LENGTH = 38
MAX_GROUPS = 6
EQUAL = 1e-9


def _axes(ax: "Axes | None", width: float, height: float) -> "Axes":
    """The axes given, or those of a new figure."""
    if ax is None:
        import matplotlib.pyplot as plt

        _, ax = plt.subplots(figsize=(width, height), layout="constrained")
    ax.spines[["top", "right"]].set_visible(False)
    ax.set_axisbelow(True)
    return ax


def _legend_below(ax: "Axes", n_columns: int) -> None:
    """Put the legend under the label of the horizontal axis, where it hides nothing."""
    from matplotlib.transforms import offset_copy

    below = offset_copy(ax.transAxes, fig=ax.figure, y=-36, units="points")
    ax.legend(
        loc="upper center",
        bbox_to_anchor=(0.5, 0.0),
        bbox_transform=below,
        borderaxespad=0.0,
        ncols=n_columns,
        frameon=False,
    )


def _short(name: str) -> str:
    """A name that fits beside the axes: the middle goes, start and end tell names apart."""
    if len(name) <= NAME_LENGTH:
        return name
    half = (NAME_LENGTH - 1) // 2
    return f"{name[:half]}…{name[-half:]}"


def _check_table(table: "pd.DataFrame", threshold: float | None) -> None:
    missing = {"smd_before", "smd_after"} - set(getattr(table, "columns", ()))
    if missing:
        raise ValueError(
            f"love_plot: the table lacks the columns {sorted(missing)}; pass what "
            "reweight.balance_table returns"
        )
    if not len(table):
        raise ValueError("love_plot: the table has no rows; pass at least one covariate")
    if threshold is not None and not threshold >= 0:
        raise ValueError(f"love_plot: threshold must be non-negative or None, got {threshold}")


def love_plot(
    table: "pd.DataFrame",
    threshold: float | None = 0.1,
    ax: "Axes | None" = None,
    *,
    max_features: int = 50,
) -> "Axes":
    """Absolute standardised mean differences before and after weighting.

    The covariates are sorted by their difference before weighting. Infinite
    differences, of columns without variance, stand at the right edge.

    Parameters
    ----------
    table : pandas.DataFrame
        What `balance_table` returns.
    threshold : float or None, default=0.1
        Where to draw the line of acceptable imbalance; None draws none.
    ax : matplotlib.axes.Axes, default=None
        Axes to draw on; None makes a new figure that is tall enough for all names.
    max_features : int, default=50
        Where the table is longer, only this many covariates, those with the
        largest differences before or after, are drawn, and the axis says so.

    Returns
    -------
    matplotlib.axes.Axes

    Raises
    ------
    ValueError
        If `table` does not come from `balance_table`, or the threshold is negative.

    Examples
    --------
    >>> from reweight import balance_table, love_plot
    >>> X, treatment = [[0.0], [1.0], [1.0], [2.0]], [0, 0, 1, 1]
    >>> ax = love_plot(balance_table(X, treatment, weights=[1, 3, 3, 1]))
    >>> ax.get_xlabel()
    'Absolute standardised mean difference'
    """
    _check_table(table, threshold)
    absolute = table[["smd_before", "smd_after"]].abs()
    shown = absolute.iloc[np.argsort(-absolute.max(axis=1), kind="stable")[:max_features]]
    shown = shown.iloc[np.argsort(shown["smd_before"], kind="stable")]
    before, after = shown.to_numpy().T
    y = np.arange(len(shown))
    ax = _axes(ax, 7.0, 1.7 + 0.27 * len(shown))

    largest = max(shown.to_numpy()[np.isfinite(shown)].max(initial=0.0), threshold or 0.0, 1e-3)
    edge = 1.12 * largest
    before_x, after_x = np.minimum(before, edge), np.minimum(after, edge)
    ax.hlines(y, before_x, after_x, color=LIGHT_GREY, lw=2, zorder=1)
    # The hollow mark is the larger one, so that both show where they coincide.
    marks = {"zorder": 3, "clip_on": False}
    ax.scatter(
        before_x, y, s=62, facecolors="none", edgecolors=PALETTE[1], lw=1.6, label="before", **marks
    )
    if not np.array_equal(before, after):
        ax.scatter(after_x, y, s=26, color=PALETTE[0], label="after", **marks)
    if threshold is not None:
        ax.axvspan(0, threshold, color=LIGHT_GREY, alpha=0.45, lw=0, zorder=0)
        ax.axvline(threshold, color=GREY, lw=1, ls="--", label=f"threshold {threshold:g}", zorder=2)
    for row in np.flatnonzero(np.isinf(shown.to_numpy()).any(axis=1)):
        ax.annotate("∞", (edge, row), xytext=(7, 0), textcoords="offset points", va="center")

    ax.set_xlim(0, edge)
    ax.set_ylim(-0.7, len(shown) - 0.3)
    ax.set_yticks(y, [_short(str(name)) for name in shown.index])
    ax.tick_params(axis="y", length=0, pad=8)
    ax.grid(axis="x", color=LIGHT_GREY, lw=0.6)
    ax.set_xlabel("Absolute standardised mean difference")
    if len(shown) < len(table):
        ax.set_ylabel(f"{len(shown)} of {len(table)} covariates, those with the largest values")
    _legend_below(ax, 3)
    return ax


def _group_label(name: Any, weights: NDArray, log_scale: bool) -> str:
    """Legend entry of a group, with the rows that a logarithmic axis cannot show."""
    label = f"{name}: n = {weights.size:,}, ESS = {effective_sample_size(weights):,.0f}"
    n_zero = int((weights == 0).sum())
    return f"{label}, {n_zero:,} of weight 0" if log_scale and n_zero else label


def weight_histogram(
    weights: ArrayLike,
    groups: ArrayLike | None = None,
    ax: "Axes | None" = None,
    *,
    bins: int = 40,
    log_scale: bool = False,
) -> "Axes":
    """Distribution of the weights of each group, on the mean-one scale.

    Parameters
    ----------
    weights : array-like of shape (n_samples,)
        Non-negative weights on any scale; they are drawn with mean one in each
        group, so 1 is a row that counts as it would without weights.
    groups : array-like of shape (n_samples,), default=None
        Group label of each row, such as the treatment arm, at most six
        different ones; None means one group.
    ax : matplotlib.axes.Axes, default=None
        Axes to draw on; None makes a new figure.
    bins : int, default=40
        Number of bins, the same for all groups.
    log_scale : bool, default=False
        Whether the axis of weights is logarithmic, for long tails. Weights of
        zero have no place on it; the legend counts them.

    Returns
    -------
    matplotlib.axes.Axes

    Raises
    ------
    ValueError
        If weights are negative, not finite or sum to zero in a group, there is
        not one label per row, or there are more than six groups.

    Examples
    --------
    >>> from reweight import weight_histogram
    >>> ax = weight_histogram([1.0, 3.0, 2.0, 2.0], groups=["a", "a", "b", "b"])
    >>> [text.get_text() for text in ax.get_legend().get_texts()]
    ['a: n = 2, ESS = 2', 'b: n = 2, all equal', 'equal weights']
    """
    weights = normalize_weights(weights, groups)
    labels, codes = check_groups(groups, weights.size)
    if len(labels) > MAX_GROUPS:
        raise ValueError(
            f"weight_histogram: groups has {len(labels)} different values; pass at most "
            f"{MAX_GROUPS}, or see reweight.weight_report"
        )
    positive = weights[weights > 0]
    low, high = (positive.min(), positive.max()) if log_scale else (0.0, weights.max())
    if log_scale:
        edges = np.geomspace(low * 0.98, high * 1.02, bins + 1)
    else:
        edges = np.linspace(0.0, high * 1.02, bins + 1)
    ax = _axes(ax, 6.4, 3.6 + 0.22 * len(labels))
    for code, name in enumerate(["all rows"] if groups is None else labels):
        own, color = weights[codes == code], PALETTE[code]
        if own.min() > 1 - EQUAL and own.max() < 1 + EQUAL:
            # One bin that holds a whole group would flatten the others.
            ax.axvline(1.0, color=color, lw=2.5, label=f"{name}: n = {own.size:,}, all equal")
            continue
        share = np.histogram(own, edges)[0] / own.size
        if len(labels) <= 2:
            ax.stairs(share, edges, fill=True, color=color, alpha=0.22)
        ax.stairs(share, edges, color=color, lw=1.6, label=_group_label(name, own, log_scale))
    ax.axvline(1.0, color=GREY, lw=1, ls="--", label="equal weights")
    if log_scale:
        ax.set_xscale("log")
    else:
        ax.set_xlim(0, max(edges[-1], 1.05))
    ax.set_ylim(bottom=0)
    ax.set_xlabel("Weight (mean one)")
    ax.set_ylabel("Share of rows" if groups is None else "Share of the rows of the group")
    _legend_below(ax, 1)
    return ax


def mirrored_propensity_histogram(
    propensity: ArrayLike,
    treatment: ArrayLike,
    weights: ArrayLike | None = None,
    ax: "Axes | None" = None,
    *,
    bins: int = 30,
) -> "Axes":
    """Distribution of the propensity, the treated upwards and the controls downwards.

    Parameters
    ----------
    propensity : array-like of shape (n_samples,)
        Probability of treatment of each row, such as `predict_proba(X)[:, 1]`.
    treatment : array-like of shape (n_samples,)
        Two-valued treatment; the larger label in sorted order is "treated".
    weights : array-like of shape (n_samples,), default=None
        Non-negative weights; the weighted distributions are then drawn in
        front of the unweighted ones. Where they mirror each other the arms
        are alike.
    ax : matplotlib.axes.Axes, default=None
        Axes to draw on; None makes a new figure.
    bins : int, default=30
        Number of bins between 0 and 1.

    Returns
    -------
    matplotlib.axes.Axes

    Raises
    ------
    ValueError
        If propensities are not between 0 and 1, there are not two arms,
        lengths differ, or weights are negative or sum to zero in an arm.

    Examples
    --------
    >>> from reweight import mirrored_propensity_histogram
    >>> ax = mirrored_propensity_histogram([0.2, 0.3, 0.6, 0.8], [0, 0, 1, 1])
    >>> ax.get_xlabel()
    'Propensity'
    """
    from matplotlib.ticker import FuncFormatter, MaxNLocator

    propensity = np.asarray(propensity, dtype=np.float64)
    if propensity.ndim != 1:
        raise ValueError(
            f"mirrored_propensity_histogram: propensity has shape {propensity.shape}; pass one "
            "probability per row, for example predict_proba(X)[:, 1]"
        )
    outside = ~((propensity >= 0) & (propensity <= 1))
    if outside.any():
        raise ValueError(
            f"mirrored_propensity_histogram: propensity has {int(outside.sum())} entries outside "
            f"[0, 1], the first {propensity[outside][0]:g}; pass probabilities"
        )
    classes, codes = check_treatment(treatment, propensity)
    if weights is not None:
        weights = check_row_weights(
            weights, propensity.size, caller="mirrored_propensity_histogram"
        )
        weights = normalize_weights(weights, codes)
    edges = np.linspace(0.0, 1.0, bins + 1)
    ax = _axes(ax, 6.4, 4.4)
    for arm, (sign, color, role) in enumerate(
        [(-1, PALETTE[1], "control"), (1, PALETTE[0], "treated")]
    ):
        own = codes == arm
        plain = sign * np.histogram(propensity[own], edges)[0] / own.sum()
        name = f"{role} ({classes[arm]})"
        if weights is None:
            ax.stairs(plain, edges, fill=True, color=color, alpha=0.55, label=name)
            continue
        weighted = sign * np.histogram(propensity[own], edges, weights=weights[own])[0] / own.sum()
        ax.stairs(weighted, edges, fill=True, color=color, alpha=0.55, label=f"{name}, weighted")
        ax.stairs(plain, edges, color="black", lw=1.1, label="unweighted" if arm else None)
    ax.axhline(0.0, color="black", lw=0.8)
    limit = 1.08 * max(abs(value) for value in ax.dataLim.intervaly)
    ax.set_ylim(-limit, limit)
    ax.set_xlim(0, 1)
    ax.yaxis.set_major_locator(MaxNLocator(6, symmetric=True))
    ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{abs(value):g}"))
    ax.set_xlabel("Propensity")
    ax.set_ylabel("Share of the arm")
    _legend_below(ax, 3)
    return ax

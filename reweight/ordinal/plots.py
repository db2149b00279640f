"""Pictures of ordinal regressions."""

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from reweight.diagnostics.plots import GREY, PALETTE

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MAX_FEATURES = 40


def boundary_coefficient_plot(
    coef: ArrayLike,
    ax: "Axes | None" = None,
    *,
    categories: ArrayLike | None = None,
    feature_names: ArrayLike | None = None,
) -> "Axes":
    """Slopes of each feature at each boundary: spread points are departures from proportional odds.

    Parameters
    ----------
    coef : array-like of shape (n_classes - 1, n_features)
        Slopes by boundary, such as `exceedance_coef_`.
    ax : matplotlib.axes.Axes, default=None
        Axes to draw on; None makes a new figure.
    categories : array-like of shape (n_classes,), default=None
        Names of the levels, such as `classes_`; None numbers them.
    feature_names : array-like of shape (n_features,), default=None
        Names of the features; None numbers them.

    Returns
    -------
    matplotlib.axes.Axes

    Raises
    ------
    ValueError
        If slopes are not finite, features are more than 40, or names do not match.

    Examples
    --------
    >>> from reweight import boundary_coefficient_plot
    >>> ax = boundary_coefficient_plot([[1.0, 0.0], [1.0, 0.5]], categories=["a", "b", "c"])
    >>> [text.get_text() for text in ax.get_legend().get_texts()]
    ['above a', 'above b']
    """
    caller = "boundary_coefficient_plot"
    coef = np.asarray(coef, dtype=np.float64)
    if coef.ndim != 2 or not np.isfinite(coef).all() or coef.shape[1] > MAX_FEATURES:
        raise ValueError(
            f"{caller}: coef must be finite, one row per boundary and one column per feature, at "
            f"most {MAX_FEATURES}, got shape {coef.shape}; pass some columns"
        )
    K, p = coef.shape
    levels = _names(caller, "categories", categories, K + 1)
    features = _names(caller, "feature_names", feature_names, p)
    ax = _axes(ax, 6.4, 1.2 + 0.3 * p)
    place = np.arange(p)
    ax.hlines(place, coef.min(axis=0), coef.max(axis=0), color=GREY, lw=1.2, alpha=0.6)
    for k in range(K):
        color = PALETTE[k % len(PALETTE)]
        # A smaller mark for each later boundary keeps equal slopes visible.
        size = 9 - 4 * k / max(K - 1, 1)
        ax.plot(coef[k], place, "o", color=color, ms=size, label=f"above {levels[k]}")
    ax.axvline(0.0, color=GREY, lw=1, ls="--")
    ax.set_yticks(place, features)
    ax.invert_yaxis()
    ax.set_xlabel("Slope of the log-odds")
    ax.legend(frameon=False, loc="center left", bbox_to_anchor=(1.0, 0.5))
    return ax


def validation_path_plot(
    alphas: ArrayLike,
    mean_loss: ArrayLike,
    stderr: ArrayLike | None = None,
    ax: "Axes | None" = None,
    *,
    chosen: float | None = None,
) -> "Axes":
    """Held-out loss along a path of penalties.

    Parameters
    ----------
    alphas : array-like of shape (n_alphas,)
        Positive strengths of the penalty.
    mean_loss : array-like of shape (n_alphas,)
        Mean held-out loss of each.
    stderr : array-like of shape (n_alphas,), default=None
        Its standard error over folds.
    ax : matplotlib.axes.Axes, default=None
        Axes to draw on; None makes a new figure.
    chosen : float, default=None
        Strength to mark, such as `alpha_`.

    Returns
    -------
    matplotlib.axes.Axes

    Raises
    ------
    ValueError
        If there is not one finite number per strength, or a strength is not positive.

    Examples
    --------
    >>> from reweight import validation_path_plot
    >>> ax = validation_path_plot([1.0, 0.1], [0.5, 0.4], [0.02, 0.03], chosen=0.1)
    >>> ax.get_xscale()
    'log'
    """
    caller = "validation_path_plot"
    alphas, loss = (np.asarray(values, dtype=np.float64) for values in (alphas, mean_loss))
    bars = None if stderr is None else np.asarray(stderr, dtype=np.float64)
    for name, values in (("alphas", alphas), ("mean_loss", loss), ("stderr", bars)):
        if values is None:
            continue
        if values.shape != alphas.shape or values.ndim != 1 or not np.isfinite(values).all():
            raise ValueError(
                f"{caller}: {name} must be one finite number per strength, got shape "
                f"{values.shape} for {alphas.size} strengths"
            )
    if (alphas <= 0).any():
        raise ValueError(f"{caller}: alphas must be positive, the smallest is {alphas.min():g}")
    ax = _axes(ax, 6.4, 3.8)
    if bars is not None:
        ax.fill_between(alphas, loss - bars, loss + bars, color=PALETTE[0], alpha=0.2, lw=0)
    ax.plot(alphas, loss, "o-", color=PALETTE[0], ms=4)
    if chosen is not None:
        ax.axvline(chosen, color=PALETTE[1], lw=1, ls="--", label=f"chosen: {chosen:.3g}")
        ax.legend(frameon=False)
    ax.set_xscale("log")
    ax.set_xlabel("Strength of the penalty")
    ax.set_ylabel("Held-out loss")
    return ax


def _names(caller: str, argument: str, names: Any, wanted: int) -> list[str]:
    names = [str(name) for name in (range(wanted) if names is None else np.asarray(names))]
    if len(names) != wanted:
        raise ValueError(f"{caller}: {argument} has {len(names)} names but {wanted} are needed")
    return names


def _axes(ax: "Axes | None", width: float, height: float) -> "Axes":
    if ax is None:
        from matplotlib import pyplot as plt

        ax = plt.subplots(figsize=(width, height), layout="constrained")[1]
    ax.spines[["top", "right"]].set_visible(False)
    return ax

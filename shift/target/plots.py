"""Pictures of a shift of the outcome and of the weights that answer it."""

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray

from reweight.diagnostics.plots import GREY, PALETTE

if TYPE_CHECKING:
    from matplotlib.axes import Axes

WEIGHT_COLOR, TARGET_COLOR = PALETTE[:2]


def weight_function_plot(
    y: ArrayLike,
    weights: ArrayLike,
    interval: ArrayLike | None = None,
    ax: "Axes | None" = None,
    *,
    source_density: ArrayLike | None = None,
    target_density: ArrayLike | None = None,
    confidence_level: float = 0.95,
) -> "Axes":
    """Weight as a function of the outcome, with its band and the densities behind it.

    Densities are drawn as shapes at the foot of the picture, on one scale of
    their own: where the source's vanishes, the weight rests on few rows.

    Parameters
    ----------
    y : array-like of shape (n_points,)
        Outcomes, such as `grid_` of `ReTaSA`.
    weights : array-like of shape (n_points,)
        Weight of each, such as `grid_weights_`.
    interval : array-like of shape (n_points, 2), default=None
        Ends of an interval for each, such as `weight_interval(grid_)`.
    ax : matplotlib.axes.Axes, default=None
        Axes to draw on; None makes a new figure.
    source_density : array-like of shape (n_points,), default=None
        Density of the outcome in the source, such as `source_density(grid_)`.
    target_density : array-like of shape (n_points,), default=None
        That in the target, such as `target_density(grid_)`.
    confidence_level : float, default=0.95
        Level of `interval`, for the legend.

    Returns
    -------
    matplotlib.axes.Axes

    Raises
    ------
    ValueError
        If numbers are not finite, not one per outcome, or densities are negative.

    Examples
    --------
    >>> from shift import weight_function_plot
    >>> ax = weight_function_plot([0.0, 1.0, 2.0], [0.5, 2.0, 0.5], [[0, 1], [1, 3], [0, 1]])
    >>> [text.get_text() for text in ax.get_legend().get_texts()]
    ['95% interval', 'weight', 'equal weights']
    """
    caller = "weight_function_plot"
    y = _check_curve(caller, "y", y, None)
    order = np.argsort(y, kind="stable")
    weights = _check_curve(caller, "weights", weights, len(y))[order]
    densities = {
        name: _check_density(caller, f"{name}_density", values, len(y))[order]
        for name, values in (("source", source_density), ("target", target_density))
        if values is not None
    }
    ends = None
    if interval is not None:
        ends = np.asarray(interval, dtype=np.float64)
        if ends.shape != (len(y), 2) or not np.isfinite(ends).all():
            raise ValueError(
                f"{caller}: interval must be two finite numbers for each of {len(y)} outcomes, "
                f"got shape {ends.shape}; pass weight_interval(y)"
            )
        ends = ends[order]
    y = y[order]

    ax = _axes(ax)
    if densities:
        _draw_densities(ax, y, densities)
    if ends is not None:
        label = f"{100 * confidence_level:g}% interval"
        ax.fill_between(y, *ends.T, color=WEIGHT_COLOR, alpha=0.22, lw=0, label=label)
    ax.plot(y, weights, color=WEIGHT_COLOR, lw=1.8, label="weight")
    ax.axhline(1.0, color=GREY, lw=1, ls="--", label="equal weights")
    top = max(1.0, weights.max(), 0.0 if ends is None else ends.max())
    ax.set_ylim(0, 1.08 * top)
    ax.set_xlim(y[0], y[-1])
    ax.set_xlabel("Outcome")
    ax.set_ylabel("Weight (mean one)")
    ax.legend(frameon=False)
    return ax


def _draw_densities(
    ax: "Axes", y: NDArray[np.float64], densities: dict[str, NDArray[np.float64]]
) -> None:
    """Densities on a second axis without labels, whose areas compare with each other only."""
    behind = ax.twinx()
    behind.set_zorder(ax.get_zorder() - 1)
    ax.patch.set_visible(False)
    behind.set_yticks([])
    behind.spines[["top", "right", "left"]].set_visible(False)
    colors = {"source": GREY, "target": TARGET_COLOR}
    for name, values in densities.items():
        behind.fill_between(y, values, color=colors[name], alpha=0.18, lw=0)
        behind.plot(y, values, color=colors[name], lw=1)
        # The legend stands in the axes in front.
        ax.plot([], [], color=colors[name], lw=1, label=f"{name} density")
    highest = max(values.max() for values in densities.values())
    behind.set_ylim(0, 2.5 * highest if highest > 0 else 1.0)


def _axes(ax: "Axes | None") -> "Axes":
    if ax is not None:
        return ax
    from matplotlib import pyplot as plt

    axes = plt.subplots(figsize=(6.4, 3.8), layout="constrained")[1]
    axes.spines[["top", "right"]].set_visible(False)
    return axes


def _check_curve(
    caller: str, name: str, values: ArrayLike, n_points: int | None
) -> NDArray[np.float64]:
    array = np.asarray(values, dtype=np.float64)
    wrong = array.ndim != 1 or len(array) < 2 if n_points is None else array.shape != (n_points,)
    if wrong or not np.isfinite(array).all():
        wanted = "at least two" if n_points is None else str(n_points)
        raise ValueError(
            f"{caller}: {name} must be {wanted} finite numbers, one per outcome, got shape "
            f"{array.shape}"
        )
    return array


def _check_density(caller: str, name: str, values: ArrayLike, n_points: int) -> NDArray[np.float64]:
    array = _check_curve(caller, name, values, n_points)
    if array.min() < 0:
        raise ValueError(f"{caller}: {name} has a negative value, {array.min():g}; pass a density")
    return array

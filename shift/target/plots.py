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


def label_prior_plot(
    source_prior: ArrayLike,
    target_prior: ArrayLike,
    interval: ArrayLike | None = None,
    ax: "Axes | None" = None,
    *,
    classes: ArrayLike | None = None,
    confidence_level: float = 0.95,
) -> "Axes":
    """Share of each class in the source and in the target, with intervals.

    Parameters
    ----------
    source_prior : array-like of shape (n_classes,)
        Share of each class in the source, such as `source_prior_` of `MLLS`.
    target_prior : array-like of shape (n_classes,)
        That in the target, such as `target_prior_`.
    interval : array-like of shape (n_classes, 2), default=None
        Ends of an interval for the target, such as `target_prior_interval()`.
    ax : matplotlib.axes.Axes, default=None
        Axes to draw on; None makes a new figure.
    classes : array-like of shape (n_classes,), default=None
        Names of the classes; None numbers them.
    confidence_level : float, default=0.95
        Level of `interval`, for the legend.

    Returns
    -------
    matplotlib.axes.Axes

    Raises
    ------
    ValueError
        If shares are negative, not finite, or not one per class.

    Examples
    --------
    >>> from shift import label_prior_plot
    >>> ax = label_prior_plot([0.5, 0.5], [0.2, 0.8], [[0.1, 0.3], [0.7, 0.9]])
    >>> [text.get_text() for text in ax.get_legend().get_texts()]
    ['95% interval', 'source', 'target']
    """
    caller = "label_prior_plot"
    shares = {}
    n_classes = np.size(source_prior)
    for name, values in (("source", source_prior), ("target", target_prior)):
        shares[name] = np.asarray(values, dtype=np.float64)
        wrong = ~(np.isfinite(shares[name]) & (shares[name] >= 0))
        if shares[name].shape != (n_classes,) or wrong.any():
            raise ValueError(
                f"{caller}: {name}_prior must be {n_classes} non-negative numbers, one per class, "
                f"got shape {shares[name].shape}; pass {name}_prior_ of a weighter"
            )
    names = _check_names(caller, classes, n_classes)
    ax = _axes(ax)
    place = np.arange(n_classes)
    ax.bar(place - 0.2, shares["source"], 0.38, color=GREY, alpha=0.5, label="source")
    ax.bar(place + 0.2, shares["target"], 0.38, color=TARGET_COLOR, alpha=0.6, label="target")
    if interval is not None:
        ends = np.asarray(interval, dtype=np.float64)
        if ends.shape != (n_classes, 2) or not np.isfinite(ends).all():
            raise ValueError(
                f"{caller}: interval must be two finite numbers for each of {n_classes} classes, "
                f"got shape {ends.shape}; pass target_prior_interval()"
            )
        label = f"{100 * confidence_level:g}% interval"
        ax.vlines(place + 0.2, *ends.T, color="black", lw=1.4, label=label)
    ax.set_xticks(place, names)
    ax.set_ylim(bottom=0)
    ax.set_xlabel("Class")
    ax.set_ylabel("Share of rows")
    ax.legend(frameon=False)
    return ax


def class_pair_plot(
    matrix: ArrayLike,
    ax: "Axes | None" = None,
    *,
    classes: ArrayLike | None = None,
    row_label: str = "Predicted class",
    column_label: str = "Class",
    digits: int = 2,
    limits: tuple[float, float] | None = None,
) -> "Axes":
    """Matrix of one number for each pair of classes, as colours and figures.

    Parameters
    ----------
    matrix : array-like of shape (n_classes, n_classes)
        Such as `confusion_` of `BBSE`, or the ratio of edge probabilities of two graphs.
    ax : matplotlib.axes.Axes, default=None
        Axes to draw on; None makes a new figure.
    classes : array-like of shape (n_classes,), default=None
        Names of the classes; None numbers them.
    row_label : str, default="Predicted class"
        What the rows are.
    column_label : str, default="Class"
        What the columns are.
    digits : int, default=2
        Decimals of the figures.
    limits : tuple of two floats, default=None
        Ends of the scale of colours, the same for pictures to be compared;
        None is the smallest and largest number.

    Returns
    -------
    matplotlib.axes.Axes

    Raises
    ------
    ValueError
        If the matrix is not square or not finite, there is not one name per
        class, or the limits do not increase.

    Examples
    --------
    >>> from shift import class_pair_plot
    >>> ax = class_pair_plot([[0.4, 0.1], [0.1, 0.4]], classes=["cat", "dog"])
    >>> [text.get_text() for text in ax.texts]
    ['0.40', '0.10', '0.10', '0.40']
    """
    caller = "class_pair_plot"
    values = np.asarray(matrix, dtype=np.float64)
    if values.ndim != 2 or values.shape[0] != values.shape[1] or not np.isfinite(values).all():
        raise ValueError(
            f"{caller}: matrix must be square and finite, got shape {values.shape}; pass one row "
            "and one column per class"
        )
    names = _check_names(caller, classes, len(values))
    low, high = (values.min(), values.max()) if limits is None else limits
    if limits is not None and not low < high:
        raise ValueError(f"{caller}: limits={limits} must be a lower and a higher number")
    ax = _axes(ax)
    image = ax.imshow(values, cmap="Blues", vmin=low, vmax=high)
    middle = 0.5 * (low + high)
    for (row, column), value in np.ndenumerate(values):
        color = "white" if value > middle else "black"
        ax.text(column, row, f"{value:.{digits}f}", ha="center", va="center", color=color)
    ax.set_xticks(np.arange(len(values)), names)
    ax.set_yticks(np.arange(len(values)), names)
    ax.set_xlabel(column_label)
    ax.set_ylabel(row_label)
    ax.figure.colorbar(image, ax=ax)
    return ax


def _check_names(caller: str, classes: ArrayLike | None, n_classes: int) -> list[str]:
    names = [str(name) for name in (range(n_classes) if classes is None else np.asarray(classes))]
    if len(names) != n_classes:
        raise ValueError(
            f"{caller}: classes has {len(names)} names but there are {n_classes} classes; pass one "
            "name per class"
        )
    return names


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

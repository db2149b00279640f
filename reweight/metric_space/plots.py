"""Pictures of weights over the plane, and of magnitude over scales."""

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from reweight.diagnostics.plots import GREY, PALETTE

if TYPE_CHECKING:
    from matplotlib.axes import Axes

LINE_COLOR, MARK_COLOR = PALETTE[:2]


def weighting_vector_plot(
    X: Any, weighting_vector: ArrayLike, ax: "Axes | None" = None, *, marked: Any = None
) -> "Axes":
    """Rows in the plane, coloured by weight, with some of them ringed.

    Parameters
    ----------
    X : array-like of shape (n_samples, 2)
        Two columns, such as features or principal components.
    weighting_vector : array-like of shape (n_samples,)
        Weight or score of each row, such as `weighting_vector_` or
        `outlier_scores_`.
    ax : matplotlib.axes.Axes, default=None
        Axes to draw on; None makes a new figure.
    marked : array-like of shape (n_samples,) of bool, default=None
        Rows to ring, such as `detector.predict(X) == -1`.

    Returns
    -------
    matplotlib.axes.Axes

    Raises
    ------
    ValueError
        If X has not two columns, or there is not one finite weight per row.

    Examples
    --------
    >>> from reweight import WeightingVector, weighting_vector_plot
    >>> X = [[0.0, 0.0], [1.0, 0.0], [0.0, 1.0], [3.0, 3.0]]
    >>> ax = weighting_vector_plot(X, WeightingVector().fit(X).weighting_vector_)
    >>> len(ax.collections[0].get_offsets())
    4
    """
    caller = "weighting_vector_plot"
    X = np.asarray(X, dtype=np.float64)
    if X.ndim != 2 or X.shape[1] != 2:
        raise ValueError(f"{caller}: X has shape {X.shape}; pass two columns to draw")
    weights = np.asarray(weighting_vector, dtype=np.float64)
    if weights.shape != (len(X),) or not np.isfinite(weights).all():
        raise ValueError(
            f"{caller}: weighting_vector must be {len(X)} finite numbers, one per row, got shape "
            f"{weights.shape}"
        )
    if marked is not None:
        marked = np.asarray(marked)
        if marked.shape != (len(X),) or marked.dtype != bool:
            raise ValueError(
                f"{caller}: marked must be {len(X)} booleans, one per row, got shape "
                f"{marked.shape} of {marked.dtype}"
            )
    ax = _axes(ax)
    # Large weights are drawn last, on top.
    order = np.argsort(weights, kind="stable")
    size = float(np.clip(10_000 / len(X), 5, 30))
    dots = ax.scatter(
        *X[order].T, c=weights[order], s=size, cmap="viridis_r", edgecolors=GREY, linewidths=0.2
    )
    if marked is not None and marked.any():
        ax.scatter(
            *X[marked].T,
            s=5 * size + 20,
            facecolors="none",
            edgecolors=MARK_COLOR,
            linewidths=1.2,
            label=f"marked ({int(marked.sum())})",
        )
        ax.legend(framealpha=0.8, edgecolor="none")
    ax.set_aspect("equal", adjustable="datalim")
    ax.locator_params(nbins=6)
    ax.figure.colorbar(dots, ax=ax, label="Weight")
    return ax


def magnitude_plot(
    scales: ArrayLike,
    magnitudes: ArrayLike,
    ax: "Axes | None" = None,
    *,
    n_points: int | None = None,
    label: str | None = None,
) -> "Axes":
    """Magnitude over scales, both logarithmic; its slope is the dimension that distances see.

    Parameters
    ----------
    scales : array-like of shape (n_scales,)
        Inverse lengths.
    magnitudes : array-like of shape (n_scales,)
        Such as of `magnitude_function`.
    ax : matplotlib.axes.Axes, default=None
        Axes to draw on; None makes a new figure. Curves may share axes.
    n_points : int, default=None
        Number of points, drawn as the bound that the magnitude tends to.
    label : str, default=None
        Name of the curve in a legend.

    Returns
    -------
    matplotlib.axes.Axes

    Raises
    ------
    ValueError
        If scales or magnitudes are not positive, or not as many.

    Examples
    --------
    >>> from reweight import magnitude_function, magnitude_plot
    >>> scales = [0.1, 1.0, 10.0]
    >>> ax = magnitude_plot(scales, magnitude_function([[0.0], [1.0]], scales), n_points=2)
    >>> ax.get_xscale(), ax.get_yscale()
    ('log', 'log')
    """
    caller = "magnitude_plot"
    curve = {}
    for name, values in (("scales", scales), ("magnitudes", magnitudes)):
        curve[name] = np.asarray(values, dtype=np.float64)
        positive = np.isfinite(curve[name]) & (curve[name] > 0)
        if curve[name].ndim != 1 or curve[name].shape != np.shape(scales) or not positive.all():
            raise ValueError(
                f"{caller}: {name} must be positive numbers, one per scale, got shape "
                f"{curve[name].shape}"
            )
    order = np.argsort(curve["scales"], kind="stable")
    ax = _axes(ax)
    (line,) = ax.plot(curve["scales"][order], curve["magnitudes"][order], lw=1.8, label=label)
    if label is None:
        line.set_color(LINE_COLOR)
    if n_points is not None:
        ax.axhline(n_points, color=GREY, lw=1, ls="--")
        ax.annotate(
            f"{n_points} points",
            (curve["scales"].min(), n_points),
            xytext=(2, -11),
            textcoords="offset points",
            color=GREY,
        )
    ax.set_xscale("log")
    ax.set_yscale("log")
    ax.set_xlabel("Scale (one over length)")
    ax.set_ylabel("Magnitude")
    if label is not None:
        ax.legend(frameon=False)
    return ax


def _axes(ax: "Axes | None") -> "Axes":
    if ax is not None:
        return ax
    from matplotlib import pyplot as plt

    axes = plt.subplots(figsize=(6.4, 4.2), layout="constrained")[1]
    axes.spines[["top", "right"]].set_visible(False)
    return axes

"""Pictures of merged models."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike

from reweight.diagnostics.plots import GREY, PALETTE

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def flip_path_plot(
    path: Mapping[str, ArrayLike], old_weight: float | None = None, ax: "Axes | None" = None
) -> "Axes":
    """Accuracy against negative flips, along the way from the new model to the old one.

    Parameters
    ----------
    path : mapping
        `path_` of a `BackwardCompatibleClassifier`.
    old_weight : float, default=None
        The weight to mark, such as `old_weight_`.
    ax : matplotlib.axes.Axes, default=None
        Axes to draw on; None makes a new figure.

    Returns
    -------
    matplotlib.axes.Axes

    Raises
    ------
    ValueError
        If there is no path, or `old_weight` is not on it.

    Examples
    --------
    >>> from reweight import flip_path_plot
    >>> path = {
    ...     "old_weight": [0.0, 0.5, 1.0],
    ...     "negative_flip_rate": [0.02, 0.01, 0.0],
    ...     "accuracy": [0.95, 0.95, 0.9],
    ... }
    >>> flip_path_plot(path, 0.5).get_xlabel()
    'Negative flips (% of rows)'
    """
    if path is None:
        raise ValueError("flip_path_plot: no rows were held out, so that there is no path")
    flips, accuracy = (100 * np.asarray(path[n]) for n in ("negative_flip_rate", "accuracy"))
    points = [(0, "new model", "s", GREY, 7), (-1, "old model", "D", GREY, 7)]
    if old_weight is not None:
        taken = list(path["old_weight"]).index(old_weight)
        points.append((taken, f"taken (weight {old_weight:.2f})", "o", PALETTE[1], 9))
    if ax is None:
        import matplotlib.pyplot as plt

        _, ax = plt.subplots(figsize=(6, 4), layout="constrained")
    ax.plot(flips, accuracy, "o-", color=PALETTE[0], ms=3, lw=1.2, label="interpolated")
    for i, label, marker, color, size in points:
        ax.plot(flips[i], accuracy[i], marker, color=color, ms=size, label=label)
    ax.set(xlabel="Negative flips (% of rows)", ylabel="Accuracy (%)")
    ax.legend(frameon=False)
    return ax

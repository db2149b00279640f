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
        If the path lacks entries, or `old_weight` is not on it.

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
    needed = ("old_weight", "negative_flip_rate", "accuracy")
    if path is None or any(name not in path for name in needed):
        raise ValueError(
            f"flip_path_plot: path must have the entries {needed}; pass path_ of a "
            "BackwardCompatibleClassifier that held rows out"
        )
    weights, flips, accuracy = (np.asarray(path[name], dtype=float) for name in needed)
    points = [(0, "new model", "s", GREY, 7), (-1, "old model", "D", GREY, 7)]
    if old_weight is not None:
        nearest = int(np.argmin(np.abs(weights - old_weight)))
        if abs(weights[nearest] - old_weight) > 1e-9:
            raise ValueError(
                f"flip_path_plot: old_weight={old_weight} is not on the path, which goes from "
                f"{weights.min():g} to {weights.max():g} in {len(weights)} steps"
            )
        points.append((nearest, f"taken (weight {old_weight:.2f})", "o", PALETTE[1], 9))
    if ax is None:
        import matplotlib.pyplot as plt

        _, ax = plt.subplots(figsize=(6, 4), layout="constrained")
    ax.plot(100 * flips, 100 * accuracy, "o-", color=PALETTE[0], ms=3, lw=1.2, label="interpolated")
    for i, label, marker, color, size in points:
        ax.plot(100 * flips[i], 100 * accuracy[i], marker, color=color, ms=size, label=label)
    ax.set(xlabel="Negative flips (% of rows)", ylabel="Accuracy (%)")
    ax.legend(frameon=False)
    return ax

"""Pictures of suspicious outcomes."""

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray

from reweight.diagnostics.plots import GREY, PALETTE

if TYPE_CHECKING:
    from matplotlib.axes import Axes

FLAGGED_COLOR = PALETTE[1]


def response_error_plot(
    predictions: ArrayLike,
    y: ArrayLike,
    is_error: ArrayLike,
    ax: "Axes | None" = None,
    *,
    scale: ArrayLike | None = None,
) -> "Axes":
    """Recorded outcomes against predictions by models that have not seen them.

    Parameters
    ----------
    predictions : array-like of shape (n_samples,)
        Such as `predictions_` of `ResponseErrorDetector`.
    y : array-like of shape (n_samples,)
        Outcomes as recorded.
    is_error : array-like of bool of shape (n_samples,)
        Flagged rows, such as `is_error_`.
    ax : matplotlib.axes.Axes, default=None
        Axes to draw on; None makes a new figure.
    scale : array-like of shape (n_samples,), default=None
        Expected size of residuals, such as `aleatoric_`: then residuals divided
        by it are drawn in place of outcomes, so that rows of uneven noise
        compare.

    Returns
    -------
    matplotlib.axes.Axes

    Raises
    ------
    ValueError
        If lengths differ, numbers are not finite, or a scale is not positive.

    Examples
    --------
    >>> from reweight import response_error_plot
    >>> ax = response_error_plot([1.0, 2.0, 3.0], [1.1, 9.0, 2.9], [False, True, False])
    >>> [text.get_text() for text in ax.get_legend().get_texts()]
    ['recorded', 'flagged (1)']
    """
    predictions, y = _numbers("predictions", predictions), _numbers("y", y)
    flagged = np.asarray(is_error)
    if len(predictions) != len(y) or flagged.shape != y.shape or flagged.dtype != bool:
        raise ValueError(
            f"response_error_plot: predictions has {len(predictions)} rows, y {len(y)} and "
            f"is_error shape {flagged.shape} and type {flagged.dtype}; pass one number, one "
            "outcome and one boolean a row"
        )
    values, name = y, "Recorded"
    if scale is not None:
        scale = _numbers("scale", scale)
        if len(scale) != len(y) or scale.min() <= 0:
            raise ValueError(
                f"response_error_plot: scale has {len(scale)} entries, the smallest "
                f"{scale.min():g}; pass {len(y)} positive ones, such as aleatoric_"
            )
        values, name = (y - predictions) / scale, "Residual over its expected size"
    if ax is None:
        from matplotlib import pyplot as plt

        ax = plt.subplots(figsize=(5.2, 4.2), layout="constrained")[1]
    ax.spines[["top", "right"]].set_visible(False)
    ax.scatter(
        predictions[~flagged], values[~flagged], s=9, color=GREY, alpha=0.5, label="recorded"
    )
    label = f"flagged ({int(flagged.sum())})"
    ax.scatter(predictions[flagged], values[flagged], s=16, color=FLAGGED_COLOR, label=label)
    if scale is None:
        ax.axline((predictions[0], predictions[0]), slope=1, color="black", lw=0.8, zorder=0)
    else:
        ax.axhline(0, color="black", lw=0.8, zorder=0)
    ax.set_xlabel("Predicted")
    ax.set_ylabel(name)
    ax.legend(frameon=False)
    return ax


def _numbers(name: str, values: ArrayLike) -> NDArray[np.float64]:
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 1 or array.size == 0 or not np.isfinite(array).all():
        raise ValueError(
            f"response_error_plot: {name} must be finite numbers, one per row, got shape "
            f"{array.shape}"
        )
    return array

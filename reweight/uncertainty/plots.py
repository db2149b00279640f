"""Pictures of how far stated standard deviations match errors."""

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import ndtr

from reweight.diagnostics.plots import GREY, PALETTE
from reweight.metrics.uncertainty import check_forecast, reliability_bins

if TYPE_CHECKING:
    from matplotlib.axes import Axes

KINDS = ("bins", "coverage")


def uncertainty_plot(
    y: ArrayLike,
    mean: ArrayLike,
    std: ArrayLike,
    ax: "Axes | None" = None,
    *,
    kind: str = "bins",
    n_bins: int = 10,
    sample_weight: ArrayLike | None = None,
    label: str | None = None,
) -> "Axes":
    """Errors against the standard deviations that were stated for them.

    A forecast whose uncertainty is right lies on the diagonal. Call it again
    with the same axes to compare forecasts.

    Parameters
    ----------
    y : array-like of shape (n_samples,)
        What was observed.
    mean : array-like of shape (n_samples,)
        What was predicted.
    std : array-like of shape (n_samples,)
        Standard deviation of each prediction, positive.
    ax : matplotlib.axes.Axes, default=None
        Axes to draw on; None makes a new figure.
    kind : {"bins", "coverage"}, default="bins"
        Root mean squared error against root mean variance in bins along std,
        or the share of rows in central normal intervals against their level.
    n_bins : int, default=10
        Number of bins. Only for "bins".
    sample_weight : array-like of shape (n_samples,), default=None
        Weights of the rows.
    label : str, default=None
        Name of the forecast, for the legend.

    Returns
    -------
    matplotlib.axes.Axes

    Raises
    ------
    ValueError
        If `kind` is unknown, lengths differ, or a std is not positive.

    Examples
    --------
    >>> import numpy as np
    >>> from reweight import uncertainty_plot
    >>> rng = np.random.default_rng(0)
    >>> std = rng.uniform(1, 3, size=500)
    >>> ax = uncertainty_plot(std * rng.normal(size=500), np.zeros(500), std, label="model")
    >>> [text.get_text() for text in ax.get_legend().get_texts()]
    ['error as stated', 'model']
    """
    caller = "uncertainty_plot"
    if kind not in KINDS:
        raise ValueError(f"{caller}: kind must be one of {KINDS}, got {kind!r}")
    y, mean, std, weights = check_forecast(caller, y, mean, std, sample_weight)
    error = y - mean
    first = ax is None or not ax.lines
    if ax is None:
        from matplotlib import pyplot as plt

        ax = plt.subplots(figsize=(4.8, 4.2), layout="constrained")[1]
    ax.spines[["top", "right"]].set_visible(False)
    color = PALETTE[0 if first else (len(ax.lines) - 1) % len(PALETTE)]
    if kind == "bins":
        bins = reliability_bins(error, std, weights, n_bins)
        end = max(bins["rmv"].max(), bins["rmse"].max())
        points = bins["rmv"], bins["rmse"]
        names = "Stated standard deviation", "Root mean squared error"
    else:
        order = np.argsort(np.abs(error) / std)
        level = 2 * ndtr(np.abs(error[order]) / std[order]) - 1
        points = np.append(0, level), np.append(0, np.cumsum(weights[order]))
        end = 1.0
        names = "Level of the central interval", "Share of rows inside"
    if first:
        ax.axline((0, 0), slope=1, color=GREY, lw=1, ls="--", label="error as stated")
        ax.set_xlabel(names[0])
        ax.set_ylabel(names[1])
    ax.plot(*points, color=color, lw=1.6, marker="o" if kind == "bins" else "", ms=4, label=label)
    last = max(end, 0 if first else ax.get_xlim()[1] / 1.05)
    ax.set_xlim(0, 1.05 * last)
    ax.set_ylim(0, 1.05 * last)
    ax.legend(frameon=False, loc="upper left")
    return ax

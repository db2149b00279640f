"""Pictures of quantile forecasts, of how well they are calibrated, and of model weights."""

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from reweight.diagnostics.plots import GREY, PALETTE
from reweight.metrics._quantile_checks import LEVEL_TOLERANCE, central_pairs, check_quantiles
from reweight.validation import check_sample_weight

if TYPE_CHECKING:
    from matplotlib.axes import Axes

FAN_COLOR = PALETTE[0]
LIGHTEST, DARKEST = 0.12, 0.5
MAX_MODELS = len(PALETTE)


def quantile_fan_plot(
    x: ArrayLike,
    q_pred: ArrayLike,
    quantiles: ArrayLike,
    y: ArrayLike | None = None,
    ax: "Axes | None" = None,
    *,
    max_bands: int = 5,
) -> "Axes":
    """Central intervals as bands, darker towards the middle, and outcomes as points.

    Parameters
    ----------
    x : array-like of shape (n_samples,)
        Place of each row on the horizontal axis, such as a feature or time.
    q_pred : array-like of shape (n_samples, n_quantiles)
        Quantiles, finite.
    quantiles : array-like of shape (n_quantiles,)
        Their levels, of which at least two must add up to one.
    y : array-like of shape (n_samples,), default=None
        Outcomes.
    ax : matplotlib.axes.Axes, default=None
        Axes to draw on; None makes a new figure.
    max_bands : int, default=5
        Largest number of bands; of more intervals some are left out.

    Returns
    -------
    matplotlib.axes.Axes

    Raises
    ------
    ValueError
        If shapes do not match, numbers are not finite, or there is no central
        interval.

    Examples
    --------
    >>> from reweight import quantile_fan_plot
    >>> ax = quantile_fan_plot([0, 1], [[0, 1, 2], [1, 2, 3]], [0.1, 0.5, 0.9])
    >>> [text.get_text() for text in ax.get_legend().get_texts()]
    ['80% interval', 'median']
    """
    caller = "quantile_fan_plot"
    levels = check_quantiles(quantiles, caller)
    x = _check_array(caller, "x", x, (None,))
    q = _check_array(caller, "q_pred", q_pred, (len(x), len(levels)))
    pairs = central_pairs(levels)
    if not pairs:
        raise ValueError(
            f"{caller}: no two quantiles add up to one; pass levels of central intervals, such as "
            "[0.1, 0.9]"
        )
    if max_bands < 1:
        raise ValueError(f"{caller}: max_bands must be at least 1, got {max_bands}")
    chosen = np.unique(np.linspace(0, len(pairs) - 1, min(max_bands, len(pairs))).round())
    order = np.argsort(x, kind="stable")
    ax = _axes(ax)
    shades = np.linspace(LIGHTEST, DARKEST, len(chosen)) if len(chosen) > 1 else [0.3]
    for number, shade in zip(chosen.astype(int), shades, strict=True):
        low, high = pairs[number]
        ax.fill_between(
            x[order],
            q[order, low],
            q[order, high],
            color=FAN_COLOR,
            alpha=shade,
            lw=0,
            label=f"{100 * (levels[high] - levels[low]):.4g}% interval",
        )
    middle = int(np.argmin(np.abs(levels - 0.5)))
    if abs(levels[middle] - 0.5) <= LEVEL_TOLERANCE:
        ax.plot(x[order], q[order, middle], color=FAN_COLOR, lw=1.6, label="median")
    if y is not None:
        y = _check_array(caller, "y", y, (len(x),))
        ax.plot(x, y, ".", color="black", ms=3, alpha=0.6, label="outcomes")
    ax.set_xlim(x.min(), x.max())
    ax.set_ylabel("Outcome")
    ax.legend(frameon=False)
    return ax


def quantile_reliability_plot(
    y_true: ArrayLike,
    q_pred: ArrayLike | dict[str, ArrayLike],
    quantiles: ArrayLike,
    ax: "Axes | None" = None,
    *,
    sample_weight: ArrayLike | None = None,
    confidence_level: float = 0.95,
) -> "Axes":
    """Share of outcomes at or below each quantile minus its level.

    A line at zero is calibrated, up to what chance does to a forecast that is:
    the grey band, from the binomial law at each level, with as many rows as
    weights are worth.

    Parameters
    ----------
    y_true : array-like of shape (n_samples,)
        Outcomes.
    q_pred : array-like of shape (n_samples, n_quantiles) or dict of str to such
        Quantiles, of one forecast or of several by name.
    quantiles : array-like of shape (n_quantiles,)
        Their levels.
    ax : matplotlib.axes.Axes, default=None
        Axes to draw on; None makes a new figure.
    sample_weight : array-like of shape (n_samples,), default=None
        Row weights on any scale.
    confidence_level : float, default=0.95
        Probability that a calibrated forecast stays in the band, at each level.

    Returns
    -------
    matplotlib.axes.Axes

    Raises
    ------
    ValueError
        If shapes do not match, or there are more forecasts than colours.

    Examples
    --------
    >>> from reweight import quantile_reliability_plot
    >>> ax = quantile_reliability_plot([1, 2, 3, 4], [[1.5, 2.5, 3.5]] * 4, [0.25, 0.5, 0.75])
    >>> ax.lines[-1].get_ydata()
    array([0., 0., 0.])
    """
    from scipy.stats import norm

    caller = "quantile_reliability_plot"
    levels = check_quantiles(quantiles, caller)
    y = _check_array(caller, "y_true", y_true, (None,))
    named = q_pred if isinstance(q_pred, dict) else {"": q_pred}
    _check_count(caller, "q_pred", len(named))
    if not 0 < confidence_level < 1:
        raise ValueError(
            f"{caller}: confidence_level must be between 0 and 1, got {confidence_level}"
        )
    share = check_sample_weight(sample_weight, y)
    share = share / share.sum()
    half = norm.ppf((1 + confidence_level) / 2) * np.sqrt(levels * (1 - levels) * (share @ share))
    ax = _axes(ax)
    ax.fill_between(levels, -half, half, color=GREY, alpha=0.2, lw=0, label="chance")
    ax.axhline(0.0, color=GREY, lw=1, ls="--")
    for (name, values), color in zip(named.items(), PALETTE, strict=False):
        q = _check_array(caller, f"q_pred {name}".strip(), values, (len(y), len(levels)), True)
        error = share @ (y[:, None] <= q) - levels
        ax.plot(levels, error, "o-", color=color, ms=3, lw=1.4, label=name or None)
    ax.set_xlabel("Level")
    ax.set_ylabel("Share at or below, minus level")
    ax.set_xlim(0, 1)
    ax.legend(frameon=False)
    return ax


def model_weights_plot(
    model_weights: ArrayLike,
    quantiles: ArrayLike,
    names: list[str] | None = None,
    ax: "Axes | None" = None,
) -> "Axes":
    """Weight of each model at each level, stacked up to one.

    Parameters
    ----------
    model_weights : array-like of shape (n_models,), (n_models, n_quantiles) or \
            (n_models, n_quantiles, n_quantiles)
        Such as `model_weights_` of `QuantileAggregator`; those of "fine"
        weights are summed over the levels that go in. With a negative weight
        there are lines in place of the stack.
    quantiles : array-like of shape (n_quantiles,)
        Levels.
    names : list of str, default=None
        Names of the models; None numbers them.
    ax : matplotlib.axes.Axes, default=None
        Axes to draw on; None makes a new figure.

    Returns
    -------
    matplotlib.axes.Axes

    Raises
    ------
    ValueError
        If shapes do not match, or numbers are not finite.

    Examples
    --------
    >>> from reweight import model_weights_plot
    >>> ax = model_weights_plot([[0.2, 0.6], [0.8, 0.4]], [0.1, 0.9], ["tree", "line"])
    >>> [text.get_text() for text in ax.get_legend().get_texts()]
    ['line', 'tree']
    """
    caller = "model_weights_plot"
    levels = check_quantiles(quantiles, caller)
    weights = np.asarray(model_weights, dtype=np.float64)
    if weights.ndim == 3:
        weights = weights.sum(axis=1)
    elif weights.ndim == 1:
        weights = np.repeat(weights[:, None], len(levels), axis=1)
    weights = _check_array(caller, "model_weights", weights, (None, len(levels)))
    labels = [str(name) for name in (range(len(weights)) if names is None else names)]
    if len(labels) != len(weights):
        raise ValueError(
            f"{caller}: {len(labels)} names for {len(weights)} models; pass one for each"
        )
    ax = _axes(ax)
    colors = [_model_color(j) for j in range(len(weights))]
    if weights.min() < 0:
        for row, label, color in zip(weights, labels, colors, strict=True):
            ax.plot(levels, row, "o-", ms=3, color=color, label=label)
        ax.axhline(0.0, color=GREY, lw=1)
    else:
        edges = np.concatenate([[0.0], (levels[1:] + levels[:-1]) / 2, [1.0]])
        base = np.zeros(len(levels))
        for row, label, color in zip(weights, labels, colors, strict=True):
            top = base + row
            ax.stairs(top, edges, baseline=base, fill=True, color=color, lw=0, label=label)
            base = top
        ax.set_ylim(0, max(1.0, base.max()))
    ax.set_xlim(0, 1)
    ax.set_xlabel("Level")
    ax.set_ylabel("Weight")
    handles, shown = ax.get_legend_handles_labels()
    ax.legend(
        handles[::-1], shown[::-1], frameon=False, loc="center left", bbox_to_anchor=(1.0, 0.5)
    )
    return ax


def _model_color(number: int) -> Any:
    """A colour of the palette, paler with each round through it."""
    from matplotlib.colors import to_rgb

    color = np.array(to_rgb(PALETTE[number % MAX_MODELS]))
    return tuple(1 - (1 - color) * 0.55 ** (number // MAX_MODELS))


def _axes(ax: "Axes | None") -> "Axes":
    if ax is not None:
        return ax
    from matplotlib import pyplot as plt

    axes = plt.subplots(figsize=(6.4, 3.8), layout="constrained")[1]
    axes.spines[["top", "right"]].set_visible(False)
    return axes


def _check_count(caller: str, name: str, count: int) -> None:
    if not 1 <= count <= MAX_MODELS:
        raise ValueError(
            f"{caller}: {name} holds {count} forecasts; pass 1 to {MAX_MODELS}, which colours can "
            "tell apart"
        )


def _check_array(
    caller: str,
    name: str,
    values: ArrayLike,
    shape: tuple[int | None, ...],
    infinite: bool = False,
) -> NDArray[np.float64]:
    """Numbers of a shape, in which None is any number of rows but none."""
    array = np.asarray(values, dtype=np.float64)
    fits = array.ndim == len(shape) and array.size > 0
    fits = fits and all(want in (None, got) for want, got in zip(shape, array.shape, strict=True))
    known = ~np.isnan(array) if infinite else np.isfinite(array)
    if not fits or not known.all():
        wanted = ", ".join("n" if size is None else str(size) for size in shape)
        raise ValueError(
            f"{caller}: {name} must be finite numbers of shape ({wanted}), got shape {array.shape} "
            f"with {int((~known).sum())} that are not"
        )
    return array

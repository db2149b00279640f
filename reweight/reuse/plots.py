"""Pictures of posteriors: thresholds, coefficients, and probabilities along a feature."""

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray

from reweight.diagnostics.plots import GREY, LIGHT_GREY, PALETTE

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Array = NDArray[np.float64]
GRID_POINTS = 400


def threshold_posterior_plot(
    threshold_draws: ArrayLike,
    ax: "Axes | None" = None,
    *,
    prior_mean: ArrayLike | None = None,
    prior_sd: ArrayLike | None = None,
    residual: ArrayLike | None = None,
) -> "Axes":
    """Posterior densities of the thresholds, their priors, and the residuals that they cut.

    Parameters
    ----------
    threshold_draws : array-like of shape (n_draws, n_thresholds)
        Such as `threshold_draws_` of `BayesianReuseClassifier`.
    ax : matplotlib.axes.Axes, default=None
        Axes to draw on; None makes a new figure.
    prior_mean : array-like of shape (n_thresholds,), default=None
        Prior means, to draw priors beside the posteriors.
    prior_sd : array-like of shape (n_thresholds,), default=None
        Prior standard deviations; needed with `prior_mean`.
    residual : array-like of shape (n_samples,), default=None
        Residuals, shown as a rug; NaN are left out.

    Returns
    -------
    matplotlib.axes.Axes

    Raises
    ------
    ValueError
        If draws are not finite or a prior is not one number per threshold.

    Examples
    --------
    >>> from reweight import threshold_posterior_plot
    >>> draws = [[0.90, 0.75], [0.91, 0.74], [0.89, 0.76]]
    >>> ax = threshold_posterior_plot(draws, prior_mean=[0.9, 0.75], prior_sd=[0.03, 0.05])
    >>> [text.get_text() for text in ax.get_legend().get_texts()]
    ['threshold 1', 'threshold 2', 'prior']
    """
    caller = "threshold_posterior_plot"
    draws = _check_draws(caller, "threshold_draws", threshold_draws, 2)
    k = draws.shape[1]
    priors = None
    if prior_mean is not None:
        sd = np.broadcast_to(np.asarray(1.0 if prior_sd is None else prior_sd, float), (k,))
        if prior_sd is None or np.shape(prior_mean) != (k,) or (sd <= 0).any():
            raise ValueError(
                f"{caller}: prior_mean and prior_sd must be {k} numbers each, one per threshold; "
                "pass threshold_mean and threshold_sd of the model"
            )
        priors = np.asarray(prior_mean, dtype=np.float64), sd
    ax = _axes(ax, 6.4, 3.6)
    spread = np.maximum(draws.std(axis=0), 1e-12)
    low, high = (draws.mean(axis=0) - 4 * spread).min(), (draws.mean(axis=0) + 4 * spread).max()
    if priors is not None:
        low = min(low, (priors[0] - 2.5 * priors[1]).min())
        high = max(high, (priors[0] + 2.5 * priors[1]).max())
    grid = np.linspace(low, high, GRID_POINTS)
    for j in range(k):
        color = PALETTE[j % len(PALETTE)]
        density = _density(draws[:, j], grid)
        ax.fill_between(grid, density, color=color, alpha=0.35, lw=0)
        ax.plot(grid, density, color=color, lw=1.6, label=f"threshold {j + 1}")
        if priors is not None:
            z = (grid - priors[0][j]) / priors[1][j]
            prior = np.exp(-0.5 * z**2) / (np.sqrt(2 * np.pi) * priors[1][j])
            label = "prior" if j == k - 1 else None
            ax.plot(grid, prior, color=GREY, lw=1.2, ls="--", label=label)
    if residual is not None:
        seen = np.asarray(residual, dtype=np.float64).ravel()
        seen = seen[np.isfinite(seen)]
        shown = seen[(seen >= low) & (seen <= high)]
        height = 0.04 * ax.get_ylim()[1]
        ax.vlines(shown, -height, 0, color=GREY, lw=0.6, alpha=0.6, label="residuals")
    ax.set_xlim(low, high)
    ax.set_xlabel("Residual")
    ax.set_ylabel("Posterior density")
    ax.legend(frameon=False)
    return ax


def coefficient_posterior_plot(
    coef_draws: ArrayLike,
    ax: "Axes | None" = None,
    *,
    feature_names: ArrayLike | None = None,
    class_names: ArrayLike | None = None,
    scale: ArrayLike | None = None,
    confidence_level: float = 0.95,
) -> "Axes":
    """Posterior means and intervals of the coefficients, one row a feature, one colour a class.

    Parameters
    ----------
    coef_draws : array-like of shape (n_draws, n_columns, n_features)
        Such as `coef_draws_` of `HorseshoeMultinomialClassifier`.
    ax : matplotlib.axes.Axes, default=None
        Axes to draw on; None makes a new figure.
    feature_names : array-like of shape (n_features,), default=None
        Names of the features; None numbers them.
    class_names : array-like of shape (n_columns,), default=None
        Names of the classes that columns belong to; None numbers them.
    scale : array-like of shape (n_features,), default=None
        What coefficients are multiplied by, such as `x_scale_`, to compare
        features of different units.
    confidence_level : float, default=0.95
        Posterior probability of the thin interval; the thick one has half.

    Returns
    -------
    matplotlib.axes.Axes

    Raises
    ------
    ValueError
        If draws are not finite, or names do not fit them.

    Examples
    --------
    >>> import numpy as np
    >>> from reweight import coefficient_posterior_plot
    >>> draws = np.random.default_rng(0).normal(size=(100, 2, 3))
    >>> ax = coefficient_posterior_plot(draws, feature_names=["a", "b", "c"])
    >>> [label.get_text() for label in ax.get_yticklabels()]
    ['a', 'b', 'c']
    """
    caller = "coefficient_posterior_plot"
    draws = _check_draws(caller, "coef_draws", coef_draws, 3)
    _, columns, p = draws.shape
    if not 0 < confidence_level < 1:
        raise ValueError(f"{caller}: confidence_level={confidence_level} must lie between 0 and 1")
    features = _names(caller, "feature_names", feature_names, p)
    classes = _names(caller, "class_names", class_names, columns)
    if scale is not None:
        if np.shape(scale) != (p,):
            raise ValueError(
                f"{caller}: scale has shape {np.shape(scale)} but there are {p} features; pass "
                "x_scale_"
            )
        draws = draws * np.asarray(scale, dtype=np.float64)
    ax = _axes(ax, 6.4, 0.9 + 0.24 * p * (columns + 0.6))
    offsets = (np.arange(columns) - (columns - 1) / 2) * min(0.22, 0.7 / columns)
    ax.axvline(0, color=LIGHT_GREY, lw=1, zorder=0)
    for k in range(columns):
        color = PALETTE[k % len(PALETTE)]
        at = np.arange(p) + offsets[k]
        for width, line in ((confidence_level, 1.2), (confidence_level / 2, 3.2)):
            ends = np.quantile(draws[:, k], [0.5 - width / 2, 0.5 + width / 2], axis=0)
            ax.hlines(at, *ends, color=color, lw=line)
        ax.plot(draws[:, k].mean(axis=0), at, "o", color=color, ms=5, label=f"class {classes[k]}")
    ax.set_yticks(np.arange(p), features)
    ax.set_ylim(p - 0.5, -0.5)
    unit = " per standard deviation" if scale is not None else ""
    ax.set_xlabel(f"Coefficient{unit}, mean and {100 * confidence_level:g}% interval")
    ax.legend(frameon=False)
    return ax


def class_probability_plot(
    values: ArrayLike,
    probability: ArrayLike,
    interval: ArrayLike | None = None,
    ax: "Axes | None" = None,
    *,
    class_names: ArrayLike | None = None,
    feature_name: str = "Feature",
    confidence_level: float = 0.95,
) -> "Axes":
    """Probability of each class along a feature, with its interval.

    Parameters
    ----------
    values : array-like of shape (n_points,)
        Values of the feature, or of the residual.
    probability : array-like of shape (n_points, n_classes)
        Such as `predict_proba` of rows that differ in this feature only.
    interval : array-like of shape (n_points, n_classes, 2), default=None
        Such as `predict_proba_interval` of the same rows.
    ax : matplotlib.axes.Axes, default=None
        Axes to draw on; None makes a new figure.
    class_names : array-like of shape (n_classes,), default=None
        Names of the classes; None numbers them.
    feature_name : str, default="Feature"
        Label of the horizontal axis.
    confidence_level : float, default=0.95
        Level of `interval`, for the label.

    Returns
    -------
    matplotlib.axes.Axes

    Raises
    ------
    ValueError
        If shapes do not fit or numbers are not finite.

    Examples
    --------
    >>> from reweight import class_probability_plot
    >>> ax = class_probability_plot([0.0, 1.0], [[0.2, 0.8], [0.6, 0.4]], class_names=["a", "b"])
    >>> [text.get_text() for text in ax.get_legend().get_texts()]
    ['class a', 'class b']
    """
    caller = "class_probability_plot"
    values = np.asarray(values, dtype=np.float64)
    P = _check_draws(caller, "probability", probability, 2)
    if values.shape != (len(P),) or not np.isfinite(values).all():
        raise ValueError(
            f"{caller}: values has shape {values.shape} but probability has {len(P)} rows; pass "
            "one finite value for each"
        )
    classes = _names(caller, "class_names", class_names, P.shape[1])
    ends = None
    if interval is not None:
        ends = _check_draws(caller, "interval", interval, 3)
        if ends.shape != (*P.shape, 2):
            raise ValueError(
                f"{caller}: interval has shape {ends.shape}, but {(*P.shape, 2)} is needed; pass "
                "predict_proba_interval of the same rows"
            )
    order = np.argsort(values, kind="stable")
    ax = _axes(ax, 6.4, 3.6)
    for k, name in enumerate(classes):
        color = PALETTE[k % len(PALETTE)]
        if ends is not None:
            ax.fill_between(values[order], *ends[order, k].T, color=color, alpha=0.2, lw=0)
        ax.plot(values[order], P[order, k], color=color, lw=1.8, label=f"class {name}")
    ax.set_ylim(0, 1)
    ax.set_xlim(values.min(), values.max())
    ax.set_xlabel(feature_name)
    band = "" if ends is None else f", with {100 * confidence_level:g}% interval"
    ax.set_ylabel(f"Probability{band}")
    ax.legend(frameon=False)
    return ax


def _density(draws: Array, grid: Array) -> Array:
    """Kernel density with Silverman's bandwidth; a spike where draws do not vary."""
    spread = draws.std()
    width = max(0.9 * spread * len(draws) ** -0.2, 1e-3 * (grid[-1] - grid[0]))
    z = (grid[:, None] - draws[None, :: max(1, len(draws) // 1000)]) / width
    return np.exp(-0.5 * z**2).mean(axis=1) / (width * np.sqrt(2 * np.pi))


def _check_draws(caller: str, name: str, values: ArrayLike, ndim: int) -> Array:
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != ndim or not array.size or not np.isfinite(array).all():
        raise ValueError(
            f"{caller}: {name} must be a finite array with {ndim} axes, got shape {array.shape}; "
            "see its description"
        )
    return array


def _names(caller: str, name: str, values: ArrayLike | None, n: int) -> list[str]:
    names = [str(value) for value in (range(n) if values is None else np.asarray(values))]
    if len(names) != n:
        raise ValueError(f"{caller}: {name} has {len(names)} names, but {n} are needed")
    return names


def _axes(ax: "Axes | None", width: float, height: float) -> "Axes":
    if ax is not None:
        return ax
    from matplotlib import pyplot as plt

    axes = plt.subplots(figsize=(width, height), layout="constrained")[1]
    axes.spines[["top", "right"]].set_visible(False)
    return axes

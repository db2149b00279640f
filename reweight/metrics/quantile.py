"""Scores of quantile forecasts, over all levels at once."""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from reweight.metrics._quantile_checks import central_pairs, check_forecasts
from reweight.validation import check_sample_weight


def _pinball(y: NDArray, q: NDArray, levels: NDArray) -> NDArray[np.float64]:
    """Loss of each row at each level."""
    residual = y[:, None] - q
    return np.maximum(levels * residual, (levels - 1) * residual)


def pinball_loss(
    y_true: ArrayLike,
    q_pred: ArrayLike,
    quantiles: ArrayLike,
    *,
    sample_weight: ArrayLike | None = None,
    per_quantile: bool = False,
) -> float | NDArray[np.float64]:
    r"""Mean of :math:`\max(\tau r, (\tau - 1) r)`, r = y - q, over rows and levels.

    Parameters
    ----------
    y_true : array-like of shape (n_samples,)
        Outcomes.
    q_pred : array-like of shape (n_samples, n_quantiles)
        Predicted quantiles.
    quantiles : array-like of shape (n_quantiles,)
        Their levels, strictly increasing in (0, 1).
    sample_weight : array-like of shape (n_samples,), default=None
        Row weights on any scale.
    per_quantile : bool, default=False
        Whether to return the loss at each level.

    Returns
    -------
    float or ndarray of shape (n_quantiles,)
        In the units of y.

    Examples
    --------
    >>> from reweight import pinball_loss
    >>> pinball_loss([1.0, 2.0], [[0.0, 1.0], [1.0, 4.0]], [0.25, 0.75])
    0.25
    """
    y, q, levels, share = check_forecasts(y_true, q_pred, quantiles, sample_weight, "pinball_loss")
    losses = share @ _pinball(y, q, levels)
    return losses if per_quantile else float(losses.mean())


def weighted_interval_score(
    y_true: ArrayLike,
    q_pred: ArrayLike,
    quantiles: ArrayLike,
    *,
    reduction: str = "mean",
    sample_weight: ArrayLike | None = None,
) -> float:
    r"""Twice the pinball loss, which weighs the interval scores of all central intervals.

    With the median and K central intervals at the levels, each of nominal
    non-coverage :math:`\alpha_k`, the mean form is
    :math:`\frac{1}{K + 1/2} \{ \frac12 |y - q_{.5}| + \sum_k \frac{\alpha_k}{2} IS_k \}`.
    On an even grid it approaches the CRPS as the grid is refined.

    Parameters
    ----------
    y_true : array-like of shape (n_samples,)
        Outcomes.
    q_pred : array-like of shape (n_samples, n_quantiles)
        Predicted quantiles.
    quantiles : array-like of shape (n_quantiles,)
        Their levels, strictly increasing in (0, 1).
    reduction : {"mean", "sum"}, default="mean"
        Whether losses are averaged or summed over levels.
    sample_weight : array-like of shape (n_samples,), default=None
        Row weights on any scale.

    Returns
    -------
    float
        Mean over rows, in the units of y; smaller is better.

    References
    ----------
    Bracher, J., Ray, E. L., Gneiting, T., Reich, N. G. (2021). Evaluating
    epidemic forecasts in an interval format. PLOS Computational Biology, 17(2).

    Examples
    --------
    >>> from reweight import weighted_interval_score
    >>> round(weighted_interval_score([3.0], [[1.0, 2.0, 2.5]], [0.1, 0.5, 0.9]), 4)
    0.7667
    """
    if reduction not in ("mean", "sum"):
        raise ValueError(
            f"weighted_interval_score: reduction must be 'mean' or 'sum', got {reduction!r}"
        )
    y, q, levels, share = check_forecasts(
        y_true, q_pred, quantiles, sample_weight, "weighted_interval_score"
    )
    losses = share @ _pinball(y, q, levels)
    return 2.0 * float(losses.mean() if reduction == "mean" else losses.sum())


def interval_score(
    y_true: ArrayLike,
    lower: ArrayLike,
    upper: ArrayLike,
    confidence_level: float,
    *,
    sample_weight: ArrayLike | None = None,
) -> float:
    r"""Width of intervals plus :math:`2/\alpha` times what the outcome falls outside by.

    Parameters
    ----------
    y_true : array-like of shape (n_samples,)
        Outcomes.
    lower, upper : array-like of shape (n_samples,)
        Ends of central intervals.
    confidence_level : float
        Their nominal coverage, :math:`1 - \alpha`.
    sample_weight : array-like of shape (n_samples,), default=None
        Row weights on any scale.

    Returns
    -------
    float
        Mean over rows, in the units of y; smaller is better.

    References
    ----------
    Gneiting, T., Raftery, A. E. (2007). Strictly proper scoring rules,
    prediction, and estimation. JASA, 102(477).

    Examples
    --------
    >>> from reweight import interval_score
    >>> round(interval_score([0.0, 3.0], [-1.0, -1.0], [1.0, 1.0], 0.8), 6)
    12.0
    """
    if not 0 < confidence_level < 1:
        raise ValueError(
            f"interval_score: confidence_level must be between 0 and 1, got {confidence_level}"
        )
    arrays = [np.asarray(values, dtype=np.float64) for values in (y_true, lower, upper)]
    y, low, high = arrays
    if y.ndim != 1 or low.shape != y.shape or high.shape != y.shape:
        raise ValueError(
            f"interval_score: y_true, lower and upper have shapes {y.shape}, {low.shape} and "
            f"{high.shape}; pass one of each per row"
        )
    missing = np.isnan(np.stack(arrays)).any(axis=0)
    if missing.any():
        raise ValueError(f"interval_score: {int(missing.sum())} rows have NaN; drop those rows")
    alpha = 1 - confidence_level
    outside = np.maximum(low - y, 0) + np.maximum(y - high, 0)
    share = check_sample_weight(sample_weight, y)
    return float(share @ (high - low + 2 / alpha * outside) / share.sum())


def quantile_calibration_error(
    y_true: ArrayLike,
    q_pred: ArrayLike,
    quantiles: ArrayLike,
    *,
    kind: str = "absolute",
    sample_weight: ArrayLike | None = None,
) -> float:
    """How far the shares of outcomes at or below the quantiles are from the levels.

    Parameters
    ----------
    y_true : array-like of shape (n_samples,)
        Outcomes.
    q_pred : array-like of shape (n_samples, n_quantiles)
        Predicted quantiles.
    quantiles : array-like of shape (n_quantiles,)
        Their levels, strictly increasing in (0, 1).
    kind : {"absolute", "squared"}, default="absolute"
        Mean absolute difference over levels, or the root of the mean squared
        one.
    sample_weight : array-like of shape (n_samples,), default=None
        Row weights on any scale.

    Returns
    -------
    float
        A difference of probabilities; 0 is calibrated.

    See Also
    --------
    interval_calibration_error : The same for central intervals.

    Examples
    --------
    >>> from reweight import quantile_calibration_error
    >>> quantile_calibration_error([1.0, 2.0, 3.0, 4.0], [[2.5]] * 4, [0.5])
    0.0
    """
    if kind not in ("absolute", "squared"):
        raise ValueError(
            f"quantile_calibration_error: kind must be 'absolute' or 'squared', got {kind!r}"
        )
    y, q, levels, share = check_forecasts(
        y_true, q_pred, quantiles, sample_weight, "quantile_calibration_error"
    )
    error = np.abs(share @ (y[:, None] <= q) - levels)
    return float(error.mean() if kind == "absolute" else np.sqrt((error**2).mean()))


def interval_calibration_error(
    y_true: ArrayLike,
    q_pred: ArrayLike,
    quantiles: ArrayLike,
    *,
    sample_weight: ArrayLike | None = None,
) -> float:
    """Mean absolute difference of coverage from nominal over all central intervals.

    Parameters
    ----------
    y_true : array-like of shape (n_samples,)
        Outcomes.
    q_pred : array-like of shape (n_samples, n_quantiles)
        Predicted quantiles.
    quantiles : array-like of shape (n_quantiles,)
        Their levels, of which at least two must add up to one.
    sample_weight : array-like of shape (n_samples,), default=None
        Row weights on any scale.

    Returns
    -------
    float
        A difference of probabilities; 0 is calibrated.

    See Also
    --------
    quantile_calibration_error : The same for single levels.

    Examples
    --------
    >>> from reweight import interval_calibration_error
    >>> interval_calibration_error([0.0, 0.5, 3.0, -3.0], [[-1.0, 1.0]] * 4, [0.25, 0.75])
    0.0
    """
    y, q, levels, share = check_forecasts(
        y_true, q_pred, quantiles, sample_weight, "interval_calibration_error"
    )
    pairs = central_pairs(levels)
    if not pairs:
        raise ValueError(
            "interval_calibration_error: no two quantiles add up to one; pass levels of central "
            "intervals, such as [0.1, 0.9]"
        )
    low, high = np.array(pairs).T
    inside = (q[:, low] <= y[:, None]) & (y[:, None] <= q[:, high])
    return float(np.abs(share @ inside - (levels[high] - levels[low])).mean())


def crps_from_quantiles(
    y_true: ArrayLike,
    q_pred: ArrayLike,
    quantiles: ArrayLike,
    *,
    sample_weight: ArrayLike | None = None,
) -> float:
    r"""Continuous ranked probability score of the law that the quantiles describe.

    The score is :math:`2 \int_0^1 \psi_\tau(y - F^{-1}(\tau)) d\tau`. Between
    the levels :math:`F^{-1}` is linear; beyond the outermost it is constant,
    so that levels close to 0 and 1 matter for heavy tails. The integral is
    exact for that law, not a sum over the grid, which need not be even.

    Parameters
    ----------
    y_true : array-like of shape (n_samples,)
        Outcomes.
    q_pred : array-like of shape (n_samples, n_quantiles)
        Predicted quantiles, finite and non-decreasing in each row.
    quantiles : array-like of shape (n_quantiles,)
        Their levels, strictly increasing in (0, 1).
    sample_weight : array-like of shape (n_samples,), default=None
        Row weights on any scale.

    Returns
    -------
    float
        Mean over rows, in the units of y; smaller is better.

    Raises
    ------
    ValueError
        If quantiles cross or are infinite.

    References
    ----------
    Gneiting, T., Ranjan, R. (2011). Comparing density forecasts using
    threshold- and quantile-weighted scoring rules. Journal of Business and
    Economic Statistics, 29(3).

    Examples
    --------
    >>> from reweight import crps_from_quantiles
    >>> crps_from_quantiles([1.0], [[0.0]], [0.5])
    1.0
    """
    y, q, levels, share = check_forecasts(
        y_true, q_pred, quantiles, sample_weight, "crps_from_quantiles"
    )
    crossing = (np.diff(q, axis=1) < 0).any(axis=1)
    if crossing.any() or not np.isfinite(q).all():
        raise ValueError(
            f"crps_from_quantiles: {int(crossing.sum())} rows have quantiles that cross and "
            f"{int((~np.isfinite(q)).any(axis=1).sum())} have infinite ones; sort them by "
            "sort_quantiles, and score finite ones"
        )
    left, right = q[:, :-1], q[:, 1:]
    low, high = levels[:-1], levels[1:]
    # The loss is quadratic in the level on either side of where the quantile meets the outcome.
    gap = right - left
    part = np.divide(y[:, None] - left, gap, out=np.zeros_like(gap), where=gap > 0)
    meeting = low + np.clip(part, 0.0, 1.0) * (high - low)
    total = _first_tail(y, q[:, 0], levels[0]) + _last_tail(y, q[:, -1], levels[-1])
    for start, end in ((np.broadcast_to(low, gap.shape), meeting), (meeting, high)):
        total = total + _segment(y, left, gap, low, high, start, end).sum(axis=1)
    return float(2 * share @ total)


def _segment(y: NDArray, left: NDArray, gap: NDArray, low: Any, high: Any, start: Any, end: Any):
    """Integral of the loss over levels from start to end; by Simpson's rule, exact here."""

    def loss(tau):
        residual = y[:, None] - left - gap * ((tau - low) / (high - low))
        return np.maximum(tau * residual, (tau - 1) * residual)

    return (end - start) / 6 * (loss(start) + 4 * loss((start + end) / 2) + loss(end))


def _first_tail(y: NDArray, q: NDArray, level: float) -> NDArray[np.float64]:
    """Integral of the loss of a constant over levels from 0 to the first."""
    return np.maximum(y - q, 0) * level**2 / 2 + np.maximum(q - y, 0) * (level - level**2 / 2)


def _last_tail(y: NDArray, q: NDArray, level: float) -> NDArray[np.float64]:
    """The same from the last level to 1."""
    return _first_tail(-y, -q, 1 - level)

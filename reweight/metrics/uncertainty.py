"""Whether the standard deviations that come with predictions tell the truth."""

from numbers import Integral

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import ndtr

from reweight.validation import check_sample_weight

Array = NDArray[np.float64]


def uncertainty_report(
    y: ArrayLike,
    mean: ArrayLike,
    std: ArrayLike,
    *,
    n_bins: int = 10,
    sample_weight: ArrayLike | None = None,
) -> dict[str, float]:
    r"""Figures of merit of predictions that come with a standard deviation.

    With z = (y - mean) / std, a forecast that is right on average and knows its
    errors has z of mean 0 and standard deviation 1. That alone is easy: bins of
    rows of alike std tell whether the std is right where it is small and where
    it is large.

    Parameters
    ----------
    y : array-like of shape (n_samples,)
        What was observed, on rows that were not trained on.
    mean : array-like of shape (n_samples,)
        What was predicted.
    std : array-like of shape (n_samples,)
        Standard deviation of each prediction, in the unit of y, positive.
    n_bins : int, default=10
        Number of bins of equal weight along std. Rows of equal std stay
        together, which may leave fewer.
    sample_weight : array-like of shape (n_samples,), default=None
        Weights of the rows.

    Returns
    -------
    dict
        With these floats:

        z_mean, z_std, z_p95
            Mean and standard deviation of z, and 95th percentile of \|z\|, which
            is 1.96 for normal errors.
        coverage_1std, coverage_2std, coverage_3std
            Share of rows within so many standard deviations; 0.6827, 0.9545,
            0.9973 for normal errors.
        rank_correlation
            Spearman's correlation of \|y - mean\| and std, NaN if either is
            constant.
        ence
            Expected normalised calibration error, the mean over bins of
            \|RMSE - RMV\| / RMV, with RMSE the root mean squared error and RMV
            the root mean variance of the bin.
        calibration_slope
            Slope of RMSE on RMV over the bins, NaN for a single bin.
        miscalibration_area
            Area between the share of rows in central normal intervals and their
            level.
        nll
            Mean negative log likelihood under normal errors.
        crps
            Mean continuous ranked probability score of the normal forecast, in
            the unit of y.
        rmse
            Root mean squared error, in the unit of y.
        sharpness
            Root mean variance, in the unit of y.

    Raises
    ------
    ValueError
        If lengths differ, numbers are not finite, or a std is not positive.

    References
    ----------
    Levi, D., Gispan, L., Giladi, N. and Fetaya, E. (2022). Evaluating and
    calibrating uncertainty prediction in regression tasks. Sensors 22(15).

    Gneiting, T. and Raftery, A. E. (2007). Strictly proper scoring rules,
    prediction, and estimation. Journal of the American Statistical Association
    102(477), 359-378.

    Examples
    --------
    >>> import numpy as np
    >>> from reweight import uncertainty_report
    >>> rng = np.random.default_rng(0)
    >>> std = rng.uniform(1, 3, size=10_000)
    >>> y = std * rng.normal(size=10_000)
    >>> report = uncertainty_report(y, np.zeros(10_000), std / 2)
    >>> print(round(report["z_std"], 2), round(report["ence"], 2))
    2.0 1.0
    """
    y, mean, std, w = check_forecast("uncertainty_report", y, mean, std, sample_weight)
    error = y - mean
    z = error / std
    z_mean = w @ z
    bins = reliability_bins(error, std, w, n_bins)
    rmse, rmv = bins["rmse"], bins["rmv"]
    nll = w @ (0.5 * z**2 + np.log(std)) + 0.5 * np.log(2 * np.pi)
    density = np.exp(-0.5 * z**2) / np.sqrt(2 * np.pi)
    crps = w @ (std * (z * (2 * ndtr(z) - 1) + 2 * density - 1 / np.sqrt(np.pi)))
    size = np.abs(z)
    report = {
        "z_mean": z_mean,
        "z_std": np.sqrt(w @ (z - z_mean) ** 2),
        "z_p95": np.quantile(size, 0.95, weights=w, method="inverted_cdf"),
        "coverage_1std": w @ (size <= 1),
        "coverage_2std": w @ (size <= 2),
        "coverage_3std": w @ (size <= 3),
        "rank_correlation": _rank_correlation(np.abs(error), std, w),
        "ence": np.average(np.abs(rmse - rmv) / rmv, weights=bins["weight"]),
        "calibration_slope": _slope(rmv, rmse, bins["weight"]),
        "miscalibration_area": _area_to_diagonal(2 * ndtr(size) - 1, w),
        "nll": nll,
        "crps": crps,
        "rmse": np.sqrt(w @ error**2),
        "sharpness": np.sqrt(w @ std**2),
    }
    return {name: float(value) for name, value in report.items()}


def check_forecast(
    owner: str,
    y: ArrayLike,
    mean: ArrayLike,
    std: ArrayLike,
    sample_weight: ArrayLike | None = None,
) -> tuple[Array, Array, Array, Array]:
    """Outcomes, means and positive standard deviations as arrays, and weights that sum to one.

    Parameters
    ----------
    owner : str
        Who is asking, for error messages.
    y, mean, std : array-like of shape (n_samples,)
        Outcomes and their forecast.
    sample_weight : array-like of shape (n_samples,), default=None
        Weights.

    Returns
    -------
    y, mean, std, weights : ndarray of shape (n_samples,)

    Raises
    ------
    ValueError
        If lengths differ, numbers are not finite, or a std is not positive.
    """
    arrays = []
    for name, values in (("y", y), ("mean", mean), ("std", std)):
        array = np.asarray(values, dtype=np.float64)
        if array.ndim != 1 or array.size == 0:
            raise ValueError(
                f"{owner}: {name} has shape {array.shape}; pass one number for each row"
            )
        bad = int((~np.isfinite(array)).sum())
        if bad:
            raise ValueError(
                f"{owner}: {name} has {bad} entries that are NaN or infinite; drop those rows first"
            )
        arrays.append(array)
    lengths = [len(array) for array in arrays]
    if len(set(lengths)) > 1:
        raise ValueError(
            f"{owner}: y, mean and std have {lengths} entries; pass one of each for every row"
        )
    std = arrays[2]
    if std.min() <= 0:
        raise ValueError(
            f"{owner}: std has {int((std <= 0).sum())} entries that are not positive, the smallest "
            f"{std.min():g}; calibrate it with StdCalibrator, whose result is positive"
        )
    weights = check_sample_weight(sample_weight, arrays[0])
    return *arrays, weights / weights.sum()


def reliability_bins(error: Array, std: Array, weights: Array, n_bins: int) -> dict[str, Array]:
    """Root mean squared error and root mean variance in bins of equal weight along std.

    Parameters
    ----------
    error, std, weights : ndarray of shape (n_samples,)
        Errors, their standard deviations, and weights.
    n_bins : int
        Number of bins; rows of equal std share one.

    Returns
    -------
    dict of ndarray of shape (n_filled_bins,)
        rmse, rmv, weight.

    Raises
    ------
    ValueError
        If `n_bins` is not a positive integer.
    """
    if not isinstance(n_bins, Integral) or n_bins < 1:
        raise ValueError(f"n_bins must be a positive integer, got {n_bins!r}")
    levels = np.arange(1, n_bins) / n_bins
    edges = np.quantile(std, levels, weights=weights, method="inverted_cdf")
    code = np.searchsorted(edges, std, side="left")
    total, squares, variance = (
        np.bincount(code, values, n_bins)
        for values in (weights, weights * error**2, weights * std**2)
    )
    filled = total > 0
    return {
        "rmse": np.sqrt(squares[filled] / total[filled]),
        "rmv": np.sqrt(variance[filled] / total[filled]),
        "weight": total[filled],
    }


def _ranks(values: Array, weights: Array) -> Array:
    """Weight below each value, plus half that of its ties."""
    _, code = np.unique(values, return_inverse=True)
    mass = np.bincount(code, weights)
    return (np.cumsum(mass) - mass / 2)[code]


def _rank_correlation(a: Array, b: Array, weights: Array) -> float:
    """Spearman's correlation with weights."""
    a, b = _ranks(a, weights), _ranks(b, weights)
    a, b = a - weights @ a, b - weights @ b
    scale = np.sqrt((weights @ a**2) * (weights @ b**2))
    return float(weights @ (a * b) / scale) if scale > 1e-15 else np.nan


def _slope(x: Array, y: Array, weights: Array) -> float:
    """Slope of least squares."""
    x_mean, y_mean = np.average(x, weights=weights), np.average(y, weights=weights)
    spread = weights @ (x - x_mean) ** 2
    return float(weights @ ((x - x_mean) * (y - y_mean)) / spread) if spread > 0 else np.nan


def _area_to_diagonal(levels: Array, weights: Array) -> float:
    """Area between the distribution function of numbers in [0, 1] and the diagonal, exactly."""
    order = np.argsort(levels)
    ends = np.concatenate([[0.0], levels[order], [1.0]])
    heights = np.concatenate([[0.0], np.cumsum(weights[order])])
    # The integral of |height - t| is that of t |t| / 2 between the shifted ends.
    left, right = ends[:-1] - heights, ends[1:] - heights
    return float(0.5 * (right * np.abs(right) - left * np.abs(left)).sum())

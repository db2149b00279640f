"""A map from the standard deviations that a model states to those that its errors have."""

from numbers import Integral, Real

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import minimize
from sklearn.base import BaseEstimator
from sklearn.isotonic import IsotonicRegression
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.validation import check_is_fitted, column_or_1d, validate_data

from reweight.exceptions import WeightWarning
from reweight.validation import (
    as_numbers,
    check_magnitude,
    check_sample_weight,
    warn_user,
)

Array = NDArray[np.float64]

# Rows of a bin below which the root mean square of errors is too noisy to use.
MIN_ROWS = 30
ONE_STD = 0.6827
MAD_TO_STD = 1.4826


def _scale_of(size: Array, weights: Array, kind: str) -> float:
    """Standard deviation of errors from their absolute values."""
    if kind == "rms":
        return float(np.sqrt(np.average(size**2, weights=weights)))
    level, factor = (0.5, MAD_TO_STD) if kind == "mad" else (ONE_STD, 1.0)
    return factor * float(np.quantile(size, level, weights=weights, method="inverted_cdf"))


class StdCalibrator(BaseEstimator):
    r"""Calibrate the standard deviations of any model that states them.

    Fit on pairs of a stated standard deviation s and the error e of the same
    prediction, on rows that the model was not trained on; then `transform`
    turns stated standard deviations into ones that match the errors.

    Parameters
    ----------
    method : {"bins", "scaling", "affine", "isotonic"}, default="bins"
        What is fitted.

        - "bins": in bins along s, the ratio of the scale of errors to the root
          mean square of s.
        - "scaling": sigma = a s, by maximum likelihood under normal errors.
        - "affine": sigma^2 = a + b s^2 with a, b >= 0, likewise; a is the noise
          that no spread of the model shows.
        - "isotonic": sigma^2 is the increasing function of s closest to e^2.
    scale : {"rms", "mad", "quantile"}, default="rms"
        Scale of errors in a bin: root mean square, 1.4826 times the median of
        \|e\|, or the 68.27 % quantile of \|e\|. The latter two describe the bulk
        and ignore gross errors. Only for "bins".
    n_bins : int, default=20
        Largest number of bins of equal count; there are fewer if rows are
        less than 30 a bin or share their s. Only for "bins".
    bin_width : float, default=None
        Width of bins that start at zero, in the unit of s, in place of bins of
        equal count: a row falls in bin floor(s / bin_width), the last of which
        is open. Bins of less than 30 rows are merged with the one before.
    interpolate : bool, default=True
        Whether the logarithm of the ratio is linear in the logarithm of s
        between the centres of bins, and constant beyond the outer ones. False
        is a step function, which meets the errors of each bin exactly.

    Attributes
    ----------
    method_ : str
        Method in use, "scaling" if all s were equal.
    ratio_ : ndarray of shape (n_bins,)
        Factor of each bin; a single one for "scaling".
    bin_edges_ : ndarray of shape (n_bins - 1,)
        Lower ends of all bins but the first.
    bin_centers_ : ndarray of shape (n_bins,)
        Root mean square of s in each bin.
    bin_counts_ : ndarray of shape (n_bins,)
        Rows of each bin.
    intercept_ : float
        a of "affine", in squared units of y.
    slope_ : float
        b of "affine".
    isotonic_ : IsotonicRegression
        The increasing function of "isotonic".
    floor_ : float
        Smallest s that is told apart from zero.
    n_features_in_ : int
        Always 1.

    See Also
    --------
    CalibratedEnsembleRegressor : Makes the pairs by cross-validation.
    uncertainty_report : Whether it worked.

    References
    ----------
    Geer, L. Y., Stein, S. E., Mallard, W. G. and Slotta, D. J. (2024). AIRI:
    predicting retention indices and their uncertainties using artificial
    intelligence. Journal of Chemical Information and Modeling 64(3), 690-696.

    Levi, D., Gispan, L., Giladi, N. and Fetaya, E. (2022). Evaluating and
    calibrating uncertainty prediction in regression tasks. Sensors 22(15).

    Examples
    --------
    A model that claims a third of the error it makes:

    >>> import numpy as np
    >>> from reweight import StdCalibrator
    >>> rng = np.random.default_rng(0)
    >>> std = rng.uniform(1, 2, size=5000)
    >>> error = 3 * std * rng.normal(size=5000)
    >>> StdCalibrator("scaling").fit(std, error).transform([1.0, 2.0]).round(1)
    array([3., 6.])
    """

    _parameter_constraints = {
        "method": [StrOptions({"bins", "scaling", "affine", "isotonic"})],
        "scale": [StrOptions({"rms", "mad", "quantile"})],
        "n_bins": [Interval(Integral, 1, None, closed="left")],
        "bin_width": [Interval(Real, 0, None, closed="neither"), None],
        "interpolate": ["boolean"],
    }

    def __init__(
        self,
        method: str = "bins",
        *,
        scale: str = "rms",
        n_bins: int = 20,
        bin_width: float | None = None,
        interpolate: bool = True,
    ) -> None:
        self.method = method
        self.scale = scale
        self.n_bins = n_bins
        self.bin_width = bin_width
        self.interpolate = interpolate

    def fit(
        self, X: ArrayLike, y: ArrayLike, sample_weight: ArrayLike | None = None
    ) -> "StdCalibrator":
        """Fit the map on stated standard deviations and the errors made.

        Parameters
        ----------
        X : array-like of shape (n_samples,) or (n_samples, 1)
            Stated standard deviations, not negative. Zeros, as of members that
            all agree, are allowed.
        y : array-like of shape (n_samples,)
            Errors, observed minus predicted; their sign does not matter.
        sample_weight : array-like of shape (n_samples,), default=None
            Weights of the rows.

        Returns
        -------
        StdCalibrator
            The fitted calibrator.

        Raises
        ------
        ValueError
            If standard deviations are negative, numbers are not finite,
            lengths differ, or all errors are zero.

        Warns
        -----
        WeightWarning
            If bins of a given width are merged, a single bin is left, or all
            standard deviations are equal so that one factor is all that fits.
        """
        self._validate_params()
        std = self._check_std(X, reset=True)
        size = np.abs(column_or_1d(as_numbers(y, name=f"{self._name}: y")))
        self._check_errors(std, size)
        weights = check_sample_weight(sample_weight, std)
        std, size, weights = (values[weights > 0] for values in (std, size, weights))
        self.floor_ = 1e-12 + 1e-6 * float(np.median(std))
        self.method_ = self.method
        if np.ptp(std) <= self.floor_ and self.method != "scaling":
            self._warn(
                f"all {len(std)} standard deviations equal {std[0]:.4g}, so that one factor is "
                "all that can be fitted; method='scaling' is used"
            )
            self.method_ = "scaling"
        getattr(self, f"_fit_{self.method_}")(std, size, weights)
        return self

    def transform(self, X: ArrayLike) -> Array:
        """Calibrated standard deviations.

        Parameters
        ----------
        X : array-like of shape (n_samples,) or (n_samples, 1)
            Stated standard deviations.

        Returns
        -------
        ndarray of shape (n_samples,)
            Positive, in the unit of the errors.
        """
        check_is_fitted(self)
        std = self._check_std(X, reset=False)
        if self.method_ == "affine":
            return np.sqrt(self.intercept_ + self.slope_ * np.maximum(std, self.floor_) ** 2)
        if self.method_ == "isotonic":
            return np.sqrt(self.isotonic_.predict(std))
        floored = np.maximum(std, self.floor_)
        if self.method_ == "scaling":
            return np.where(std < self.floor_, self._smallest, self.ratio_[0] * floored)
        # Members that all agree do not make a prediction exact.
        return np.where(std < self.floor_, self._smallest, self._bin_ratio(floored) * floored)

    def fit_transform(
        self, X: ArrayLike, y: ArrayLike, sample_weight: ArrayLike | None = None
    ) -> Array:
        """Fit, and calibrate the same standard deviations.

        Parameters
        ----------
        X : array-like of shape (n_samples,) or (n_samples, 1)
            Stated standard deviations.
        y : array-like of shape (n_samples,)
            Errors.
        sample_weight : array-like of shape (n_samples,), default=None
            Weights of the rows.

        Returns
        -------
        ndarray of shape (n_samples,)
        """
        return self.fit(X, y, sample_weight).transform(X)

    def _fit_scaling(self, std: Array, size: Array, weights: Array) -> None:
        told_apart = std >= self.floor_
        # Of members that always agree, the errors alone tell the scale.
        floored = np.maximum(std, self.floor_)
        rows = told_apart if told_apart.any() else slice(None)
        ratio = np.average((size[rows] / floored[rows]) ** 2, weights=weights[rows])
        self.ratio_ = np.sqrt([ratio])
        silent = ~told_apart
        agreed = size[silent] if silent.any() else size
        mass = weights[silent] if silent.any() else weights
        self._smallest = self._positive(_scale_of(agreed, mass, "rms"), size, weights)

    def _fit_affine(self, std: Array, size: Array, weights: Array) -> None:
        unit = np.average(size**2, weights=weights)
        share = std**2 / np.average(std**2, weights=weights)
        squares = size**2 / unit

        def loss(theta):
            a, b = np.exp(theta)
            variance = a + b * share
            slope = (1 / variance - squares / variance**2) * 0.5
            value = np.average(0.5 * squares / variance + 0.5 * np.log(variance), weights=weights)
            gradient = [
                np.average(slope * a, weights=weights),
                np.average(slope * b * share, weights=weights),
            ]
            return value, np.array(gradient)

        bounds = [(-25.0, 5.0)] * 2
        starts = ([-0.7, -0.7], [-5.0, 0.0], [0.0, -5.0])
        fits = [
            minimize(
                loss, start, jac=True, method="L-BFGS-B", bounds=bounds, options={"ftol": 1e-14}
            )
            for start in starts
        ]
        best = min(fits, key=lambda fit: fit.fun)
        a, b = np.exp(best.x)
        self.intercept_ = float(a * unit)
        self.slope_ = float(b * unit / np.average(std**2, weights=weights))

    def _fit_isotonic(self, std: Array, size: Array, weights: Array) -> None:
        squares = IsotonicRegression(out_of_bounds="clip").fit_transform(
            std, size**2, sample_weight=weights
        )
        smallest = squares[squares > 0].min()
        self.isotonic_ = IsotonicRegression(y_min=smallest, out_of_bounds="clip")
        self.isotonic_.fit(std, size**2, sample_weight=weights)

    def _fit_bins(self, std: Array, size: Array, weights: Array) -> None:
        silent = std < self.floor_
        agreed = None
        if MIN_ROWS <= silent.sum() < len(std):
            # Rows in which all members agree are a bin of their own, which has no ratio.
            agreed = _scale_of(size[silent], weights[silent], self.scale)
            std, size, weights = std[~silent], size[~silent], weights[~silent]
        self.bin_edges_ = self._make_edges(std)
        code = np.searchsorted(self.bin_edges_, std, side="right")
        floored = np.maximum(std, self.floor_)
        n_bins = len(self.bin_edges_) + 1
        self.bin_centers_, scales = np.empty(n_bins), np.empty(n_bins)
        for number in range(n_bins):
            rows = code == number
            self.bin_centers_[number] = _scale_of(floored[rows], weights[rows], "rms")
            scale = _scale_of(size[rows], weights[rows], self.scale)
            scales[number] = self._positive(scale, size, weights)
        self.ratio_ = scales / self.bin_centers_
        self.bin_counts_ = np.bincount(code, minlength=n_bins)
        self._smallest = scales[0] if agreed is None else self._positive(agreed, size, weights)

    def _make_edges(self, std: Array) -> Array:
        """Lower ends of all bins but the first, each bin with rows enough."""
        n_bins = max(1, min(self.n_bins, len(std) // MIN_ROWS))
        if self.bin_width is not None:
            n_bins = int(np.floor(std.max() / self.bin_width)) + 1
            if n_bins > 1e6:
                raise ValueError(
                    f"{self._name}: bin_width={self.bin_width:g} makes {n_bins} bins of standard "
                    f"deviations up to {std.max():g}; pass a larger one"
                )
            edges = self.bin_width * np.arange(1, n_bins)
            asked = n_bins
        else:
            edges = np.unique(np.quantile(std, np.arange(1, n_bins) / n_bins))
            edges = edges[edges > std.min()]
            asked = self.n_bins
        counts = np.bincount(np.searchsorted(edges, std, side="right"), minlength=len(edges) + 1)
        needed = min(MIN_ROWS, len(std))
        kept: list[float] = []
        # From the top: a bin that is too thin gives its rows to the one below.
        above = 0
        for edge, count in zip(edges[::-1], counts[:0:-1], strict=True):
            above += count
            if above >= needed:
                kept.append(edge)
                above = 0
        if kept and len(std[std < kept[-1]]) < needed:
            kept.pop()
        found = len(kept) + 1
        if found < asked and (self.bin_width is not None or found == 1):
            self._warn(
                f"{len(std)} rows fill {found} of {asked} bins with {MIN_ROWS} rows or more; thin "
                "bins are merged; pass fewer or wider bins, more rows, or another method"
            )
        return np.array(kept[::-1])

    def _bin_ratio(self, std: Array) -> Array:
        if self.interpolate:
            centers = np.log(self.bin_centers_)
            return np.exp(np.interp(np.log(std), centers, np.log(self.ratio_)))
        return self.ratio_[np.searchsorted(self.bin_edges_, std, side="right")]

    def _positive(self, scale: float, size: Array, weights: Array) -> float:
        """A scale of errors that is not zero, so that no prediction is called exact."""
        return max(scale, 1e-6 * _scale_of(size, weights, "rms"))

    def _check_std(self, X: ArrayLike, *, reset: bool) -> Array:
        if np.ndim(X) == 0:
            raise TypeError(
                f"{self._name}: X is a single {type(X).__name__}; pass one standard deviation for "
                "each row"
            )
        array = validate_data(
            self, X, reset=reset, ensure_2d=False, dtype=np.float64, ensure_all_finite=True
        )
        if array.ndim == 2 and array.shape[1] != 1:
            raise ValueError(
                f"{self._name}: X has shape {array.shape}; pass one standard deviation for each row"
            )
        array = array.reshape(-1)
        check_magnitude(array, name=f"{self._name}: X")
        if array.min() < 0:
            raise ValueError(
                f"Negative values in data passed to {self._name}: {int((array < 0).sum())} "
                f"entries, the smallest {array.min():g}; pass standard deviations, not errors"
            )
        return array

    def _check_errors(self, std: Array, size: Array) -> None:
        if len(size) != len(std):
            raise ValueError(
                f"{self._name}: X has {len(std)} rows but y has {len(size)}; pass one error for "
                "each standard deviation"
            )
        bad = int((~np.isfinite(size)).sum())
        if bad:
            kind = "NaN" if np.isnan(size).any() else "inf"
            raise ValueError(
                f"{self._name}: Input y contains {kind}: {bad} errors are NaN or infinite; drop "
                "those rows first"
            )
        check_magnitude(size, name=f"{self._name}: y")
        if not size.any():
            raise ValueError(
                f"{self._name}: all {len(size)} errors are zero, as on rows that the model was "
                "trained on; pass errors of held-out rows"
            )

    def _warn(self, message: str) -> None:
        warn_user(f"{self._name}: {message}", WeightWarning)

    @property
    def _name(self) -> str:
        return type(self).__name__

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.one_d_array = True
        tags.input_tags.two_d_array = False
        tags.input_tags.positive_only = True
        tags.target_tags.required = True
        return tags

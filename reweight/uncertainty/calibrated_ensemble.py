"""An ensemble whose standard deviation is calibrated on rows that its members have not seen."""

import math
from numbers import Integral, Real
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import norm, t
from sklearn.base import BaseEstimator, MetaEstimatorMixin, RegressorMixin, clone
from sklearn.utils import check_random_state, get_tags, indexable
from sklearn.utils._param_validation import HasMethods, Interval, StrOptions
from sklearn.utils.validation import check_is_fitted

from reweight.exceptions import WeightWarning
from reweight.kernels.order_statistics import RANK_SLACK, conformal_quantile
from reweight.outcomes import check_outcomes
from reweight.parallel import parallel_map
from reweight.uncertainty._members import (
    PRIOR_FREEDOM,
    RESAMPLES,
    calibration_folds,
    draw_rows,
    fit_member,
    seed_member,
)
from reweight.uncertainty.std_calibrator import StdCalibrator
from reweight.validation import check_sample_weight, count_rows, validate_rows, warn_user
from reweight.weighted_fit import weight_key

Array = NDArray[np.float64]


# Share of the largest error below which the spread of members is none.
AGREEMENT = 1e-10


class CalibratedEnsembleRegressor(RegressorMixin, MetaEstimatorMixin, BaseEstimator):
    r"""Mean and believable standard deviation from models that differ by chance.

    Members that differ by their seed or by the rows they learn from spread most
    where they know least, but their standard deviation s has no scale: it shows
    disagreement, not error. Here s is compared with the errors of predictions
    for held-out rows, and a `StdCalibrator` learns to turn one into the other.

    Parameters
    ----------
    estimator : estimator
        Regressor to make members of. With `cv="prefit"`, a list of fitted ones;
        in a `FrozenEstimator` each they survive `clone`.
    n_estimators : int, default=8
        Number of members; not used with "prefit".
    method : {"bins", "scaling", "affine", "isotonic"}, default="bins"
        How the standard deviation is calibrated, see `StdCalibrator`.
    scale : {"rms", "mad", "quantile"}, default="rms"
        Scale of errors in a bin, see `StdCalibrator`.
    n_bins : int, default=20
        Largest number of bins, see `StdCalibrator`.
    bin_width : float, default=None
        Width of bins, see `StdCalibrator`.
    interpolate : bool, default=True
        Whether to interpolate between bins, see `StdCalibrator`.
    resample : {"seed", "bootstrap", "subsample"}, default="seed"
        How members differ: by their random_state alone, by rows drawn with
        replacement, or by 80 % of the rows drawn without.
    cv : int, cross-validation generator, iterable, "oob" or "prefit", default=5
        Where the errors to calibrate on come from. Folds: for each, an ensemble
        of its own, so that (folds + 1) n_estimators models are fitted, and s is
        that of slightly fewer rows. "oob": the members that have not drawn a
        row predict it, which costs nothing more; it needs resampled members, 32
        or more. "prefit": members are fitted already, and `fit` gets rows that
        they have not seen.
    interval : {"conformal", "normal", "student"}, default="conformal"
        What `predict_interval` multiplies the standard deviation by: the
        conformal quantile of the held-out \|z\|, which covers at its level for
        exchangeable rows whatever the errors' law; or that of a law.
    random_state : int, RandomState instance or None, default=0
        Seeds members, resamples and folds.
    n_jobs : int, default=None
        Number of jobs over members, through joblib; it does not change the
        result.
    verbose : int, default=0
        Whether to show a progress bar.

    Attributes
    ----------
    estimators_ : list of estimators
        The members.
    calibrator_ : StdCalibrator
        From the spread of members to the standard deviation of errors.
    calibration_rows_ : ndarray of int
        Rows that it was fitted on: all of `fit` that were predicted held out
        and have weight.
    calibration_mean_ : ndarray of shape (n_calibration,)
        Held-out predictions of those rows.
    calibration_std_ : ndarray of shape (n_calibration,)
        Standard deviations of the members that made them, not calibrated.
    z_scores_ : ndarray of shape (n_calibration,)
        Held-out errors over calibrated standard deviations.
    n_features_in_ : int
        Number of features.
    feature_names_in_ : ndarray of str of shape (n_features_in_,)
        Their names, if X has any.

    See Also
    --------
    StdCalibrator : The same calibration for any model with a standard deviation.
    uncertainty_report : Whether standard deviations tell the truth.

    References
    ----------
    Geer, L. Y., Stein, S. E., Mallard, W. G. and Slotta, D. J. (2024). AIRI:
    predicting retention indices and their uncertainties using artificial
    intelligence. Journal of Chemical Information and Modeling 64(3), 690-696.

    Lakshminarayanan, B., Pritzel, A. and Blundell, C. (2017). Simple and
    scalable predictive uncertainty estimation using deep ensembles. NeurIPS.

    Examples
    --------
    >>> from sklearn.datasets import make_friedman1
    >>> from sklearn.tree import DecisionTreeRegressor
    >>> from reweight import CalibratedEnsembleRegressor
    >>> X, y = make_friedman1(600, noise=1.0, random_state=0)
    >>> tree = DecisionTreeRegressor(min_samples_leaf=5)
    >>> model = CalibratedEnsembleRegressor(tree, resample="bootstrap", n_estimators=10)
    >>> mean, std = model.fit(X[:400], y[:400]).predict(X[400:], return_std=True)
    >>> print((((y[400:] - mean) / std) ** 2).mean().round(1))
    1.0
    >>> lower, upper = model.predict_interval(X[400:], confidence_level=0.9).T
    >>> print(((lower <= y[400:]) & (y[400:] <= upper)).mean().round(1))
    0.9
    """

    _parameter_constraints = {
        "estimator": [HasMethods(["fit", "predict"]), list, tuple],
        "n_estimators": [Interval(Integral, 2, None, closed="left")],
        "resample": [StrOptions(set(RESAMPLES))],
        "cv": ["cv_object", StrOptions({"oob", "prefit"})],
        "interval": [StrOptions({"conformal", "normal", "student"})],
        "random_state": ["random_state"],
        "n_jobs": [Integral, None],
        "verbose": ["verbose"],
        **StdCalibrator._parameter_constraints,
    }

    def __init__(
        self,
        estimator: Any,
        *,
        n_estimators: int = 8,
        method: str = "bins",
        scale: str = "rms",
        n_bins: int = 20,
        bin_width: float | None = None,
        interpolate: bool = True,
        resample: str = "seed",
        cv: Any = 5,
        interval: str = "conformal",
        random_state: Any = 0,
        n_jobs: int | None = None,
        verbose: int = 0,
    ) -> None:
        self.estimator = estimator
        self.n_estimators = n_estimators
        self.method = method
        self.scale = scale
        self.n_bins = n_bins
        self.bin_width = bin_width
        self.interpolate = interpolate
        self.resample = resample
        self.cv = cv
        self.interval = interval
        self.random_state = random_state
        self.n_jobs = n_jobs
        self.verbose = verbose

    def fit(
        self, X: Any, y: ArrayLike, sample_weight: ArrayLike | None = None
    ) -> "CalibratedEnsembleRegressor":
        """Fit members and calibrate their spread on rows they have not seen.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Features; with `cv="prefit"` those of the calibration rows.
        y : array-like of shape (n_samples,)
            Outcomes.
        sample_weight : array-like of shape (n_samples,), default=None
            Weights of the rows, for members and calibration.

        Returns
        -------
        CalibratedEnsembleRegressor
            The fitted ensemble.

        Raises
        ------
        ValueError
            If parameters do not go together, or too few rows are held out.

        Warns
        -----
        WeightWarning
            If members agree everywhere, bins are merged, or rows are never
            held out.
        """
        self._validate_params()
        self._check_parameters()
        y = check_outcomes(self._name, y)
        X = validate_rows(self, X)
        X, y = indexable(X, y)
        if sample_weight is not None and self.cv != "prefit":
            weight_key(self.estimator, owner=self._name)
        s = check_sample_weight(sample_weight, X)
        given = None if sample_weight is None else s
        rng = check_random_state(self.random_state)
        held_out = self._fit_members(X, y, given, rng)
        self._calibrate(held_out, y, s)
        return self

    def _check_parameters(self) -> None:
        prefit = isinstance(self.cv, str) and self.cv == "prefit"
        if prefit != isinstance(self.estimator, list | tuple):
            found = type(self.estimator).__name__
            raise ValueError(
                f"{self._name}: estimator is a {found} and cv={self.cv!r}; pass a list of fitted "
                "members with cv='prefit', or one estimator with another cv"
            )
        if prefit and len(self.estimator) < 2:
            raise ValueError(
                f"{self._name}: {len(self.estimator)} prefit members have no spread; pass at "
                "least two"
            )
        if self.cv == "oob" and self.resample == "seed":
            raise ValueError(
                f"{self._name}: cv='oob' needs members that leave rows out, and resample='seed' "
                "leaves none; pass resample='bootstrap', or cv=5"
            )

    def _fit_members(
        self, X: Any, y: Array, weights: Array | None, rng: np.random.RandomState
    ) -> tuple[Array, Array]:
        """Fit the members; mean and spread of held-out predictions, NaN where there are none."""
        n = count_rows(X)
        if isinstance(self.cv, str) and self.cv == "prefit":
            for member in self.estimator:
                check_is_fitted(member)
            self.estimators_ = list(self.estimator)
            P = self.predict_members(X)
            return _mean_and_spread(P.T)
        everyone = np.arange(n)
        if isinstance(self.cv, str):
            jobs = [(member, everyone, everyone) for member in range(self.n_estimators)]
            fitted = self._fit_jobs(X, y, weights, jobs, rng)
            self.estimators_ = [model for model, _, _ in fitted]
            P = np.array([prediction for _, _, prediction in fitted])
            drawn = np.array([np.isin(everyone, rows) for _, rows, _ in fitted])
            return _out_of_bag(np.where(drawn, np.nan, P))
        folds = calibration_folds(self._name, self.cv, X, y, rng.randint(np.iinfo(np.int32).max))
        jobs = [(member, everyone, everyone[:0]) for member in range(self.n_estimators)]
        for train, test in folds:
            jobs += [(member, train, test) for member in range(self.n_estimators)]
        fitted = self._fit_jobs(X, y, weights, jobs, rng)
        self.estimators_ = [model for model, _, _ in fitted[: self.n_estimators]]
        mean, std = np.full(n, np.nan), np.full(n, np.nan)
        for number, (_, test) in enumerate(folds, start=1):
            part = fitted[number * self.n_estimators : (number + 1) * self.n_estimators]
            P = np.array([prediction for _, _, prediction in part])
            mean[test], std[test] = _mean_and_spread(P)
        return mean, std

    def _fit_jobs(
        self,
        X: Any,
        y: Array,
        weights: Array | None,
        jobs: list[tuple[int, NDArray, NDArray]],
        rng: np.random.RandomState,
    ) -> list[tuple[Any, NDArray, Array | None]]:
        """Members, the rows that they learned from, and their predictions of other rows."""
        seeds = rng.randint(np.iinfo(np.int32).max, size=(len(jobs), 2))
        tasks = []
        for (_, rows, test), (member_seed, row_seed) in zip(jobs, seeds, strict=True):
            positive = rows if weights is None else rows[weights[rows] > 0]
            drawn = draw_rows(positive, self.resample, int(row_seed))
            model = seed_member(clone(self.estimator), int(member_seed))
            tasks.append((model, X, y, weights, drawn, test, self._name))
        return parallel_map(
            fit_member,
            tasks,
            total=len(tasks),
            n_jobs=self.n_jobs,
            verbose=self.verbose,
            name=f"{self._name}: members",
        )

    def _calibrate(self, held_out: tuple[Array, Array], y: Array, s: Array) -> None:
        mean, std = held_out
        predicted = np.isfinite(mean) & np.isfinite(std)
        rows = np.flatnonzero(predicted & (s > 0))
        if len(rows) < 2:
            raise ValueError(
                f"{self._name}: {len(rows)} rows have held-out predictions by two members or more, "
                "too few to calibrate on; raise n_estimators, or pass cv=5"
            )
        missing = int((~predicted & (s > 0)).sum())
        if missing:
            remedy = "pass folds that cover all rows"
            if isinstance(self.cv, str):
                remedy = "raise n_estimators, so that two members or more leave each row out"
            self._warn(
                f"{missing} of {len(y)} rows have no held-out prediction and are left out of the "
                f"calibration; {remedy}"
            )
        error = y[rows] - mean[rows]
        # Members whose seeds break ties alone differ by rounding, if at all.
        if std[rows].max() <= AGREEMENT * np.abs(error).max():
            self._warn(
                f"all members agree in all {len(rows)} rows, so that their spread tells nothing; "
                "pass resample='bootstrap' for an estimator without randomness of its own"
            )
        self.calibration_rows_ = rows
        self.calibration_mean_, self.calibration_std_ = mean[rows], std[rows]
        self.calibrator_ = StdCalibrator(
            self.method,
            scale=self.scale,
            n_bins=self.n_bins,
            bin_width=self.bin_width,
            interpolate=self.interpolate,
        )
        if not error.any():
            raise ValueError(
                f"{self._name}: all {len(rows)} held-out errors are zero, so that there is nothing "
                "to calibrate; check that the outcome is not among the features"
            )
        calibrated = self.calibrator_.fit_transform(std[rows], error, s[rows])
        self.z_scores_ = error / calibrated
        self._calibration_weights = s[rows]

    def predict_members(self, X: Any) -> Array:
        """Predictions of each member.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Features.

        Returns
        -------
        ndarray of shape (n_samples, n_estimators)
        """
        check_is_fitted(self, "estimators_")
        return np.column_stack([member.predict(X) for member in self.estimators_]).astype(
            np.float64
        )

    def predict(self, X: Any, return_std: bool = False) -> Array | tuple[Array, Array]:
        """Mean prediction, and on request its calibrated standard deviation.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Features.
        return_std : bool, default=False
            Whether to return the standard deviation too.

        Returns
        -------
        mean : ndarray of shape (n_samples,)
        std : ndarray of shape (n_samples,)
            Standard deviation of the error to expect; only if `return_std`.
        """
        mean, spread = _mean_and_spread(self.predict_members(X).T)
        return (mean, self.calibrator_.transform(spread)) if return_std else mean

    def predict_interval(self, X: Any, confidence_level: float = 0.95) -> Array:
        """Interval for the outcome of each row, mean minus and plus a multiple of the std.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Features.
        confidence_level : float, default=0.95
            Probability that the interval holds the outcome.

        Returns
        -------
        ndarray of shape (n_samples, 2)
            Infinite if calibration rows are too few for a conformal level.

        Raises
        ------
        ValueError
            If the level is not between 0 and 1.

        Warns
        -----
        WeightWarning
            If intervals are infinite.
        """
        check_is_fitted(self, "estimators_")
        if not isinstance(confidence_level, Real) or not 0 < confidence_level < 1:
            raise ValueError(
                f"{self._name}: confidence_level must be between 0 and 1, got {confidence_level!r}"
            )
        mean, std = self.predict(X, return_std=True)
        multiple = self._multiple(float(confidence_level))
        if math.isinf(multiple):
            needed = math.ceil(confidence_level / (1 - confidence_level) * (1 - RANK_SLACK))
            self._warn(
                f"{len(self.z_scores_)} calibration rows are too few for confidence_level="
                f"{confidence_level:g}, so that intervals are infinite; pass at least {needed} "
                "rows, a lower level, or interval='student'"
            )
        half = multiple * std
        return np.column_stack([mean - half, mean + half])

    def _multiple(self, confidence_level: float) -> float:
        """Number of standard deviations to either side."""
        level = (1 + confidence_level) / 2
        if self.interval == "normal":
            return float(norm.ppf(level))
        size = np.abs(self.z_scores_)
        if self.interval == "student":
            # Degrees of freedom match the kurtosis of z, as long as it has one beyond the normal.
            weights = self._calibration_weights
            moments = [np.average(size**power, weights=weights) for power in (2, 4)]
            excess = moments[1] / moments[0] ** 2 - 3
            freedom = 4 + 6 / excess if excess > PRIOR_FREEDOM else math.inf
            scale = 1.0 if math.isinf(freedom) else math.sqrt((freedom - 2) / freedom)
            return float(norm.ppf(level) if math.isinf(freedom) else scale * t.ppf(level, freedom))
        weights = self._calibration_weights
        even = np.ptp(weights) == 0
        return conformal_quantile(size, confidence_level, None if even else weights)

    def _warn(self, message: str) -> None:
        warn_user(f"{self._name}: {message}", WeightWarning)

    @property
    def _name(self) -> str:
        return type(self).__name__

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        if not isinstance(self.estimator, list | tuple):
            inner = get_tags(self.estimator)
            tags.input_tags = inner.input_tags
            tags.non_deterministic = inner.non_deterministic
        return tags


def _mean_and_spread(P: Array) -> tuple[Array, Array]:
    """Over members; no spread where they agree, whatever the rounding of their mean."""
    return P.mean(axis=0), np.where(np.ptp(P, axis=0) > 0, P.std(axis=0), 0.0)


def _out_of_bag(P: Array) -> tuple[Array, Array]:
    """Mean and spread over the members that have not drawn a row, NaN for fewer than two."""
    count = np.isfinite(P).sum(axis=0)
    known = np.maximum(count, 1)
    mean = np.nansum(P, axis=0) / known
    variance = np.nansum((P - mean) ** 2, axis=0) / np.maximum(count - 1, 1)
    # On the scale of the variance of all members, which is divided by their number.
    std = np.sqrt(variance * (len(P) - 1) / len(P))
    return np.where(count >= 2, mean, np.nan), np.where(count >= 2, std, np.nan)

"""Linear regression on a stream, by a Kalman filter."""

from numbers import Integral, Real
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import norm
from scipy.stats import t as student_t
from sklearn.base import BaseEstimator, RegressorMixin
from sklearn.utils import check_array, check_random_state, column_or_1d
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.validation import check_consistent_length, check_is_fitted

from reweight.linear._kalman_filter import (
    filter_drifting_rows,
    filter_rows,
    log_evidence,
    smoothed_gradient_rows,
    update_batch,
)
from reweight.validation import check_magnitude, check_sample_weight, validate_features

Array = NDArray[np.float64]

MANY_COEFFICIENTS = 2000
# Shape and scale of the inverse-gamma prior of an unknown noise variance.
PRIOR_SHAPE = PRIOR_SCALE = 1.0


class KalmanLinearRegression(RegressorMixin, BaseEstimator):
    r"""Linear regression that reads rows once, knows its uncertainty and follows drift.

    The coefficients are the state of a linear Gaussian model,

    .. math::
        b_t = b_{t-1} + v_t, \quad v_t \sim N(0, q I), \qquad
        y_t = x_t' b_t + e_t, \quad e_t \sim N(0, r / w_t),

    whose exact posterior `fit` and `partial_fit` carry from row to row. Without
    drift and forgetting it is ridge regression with penalty r / `prior_variance`,
    whatever the order of the rows and the cuts between batches. For data that fit
    in memory and do not drift, `sklearn.linear_model.Ridge` does the same; for
    heavy tails use a robust regression.

    With ``mode="iterates"`` the filter smooths the iterates of stochastic gradient
    descent instead, at a cost per row that is linear in the features; without
    drift this is the average of all iterates.

    Parameters
    ----------
    fit_intercept : bool, default=True
        Whether to add an intercept, which has the same prior as the slopes.
    prior_variance : float, default=1e6
        Prior variance of each coefficient; in units of the noise variance if that
        is estimated. Values above 1e12 lose digits in the first rows.
    noise_variance : float or "estimate", default="estimate"
        Variance r of the noise of a row of weight one. An estimated one has an
        inverse-gamma prior of shape and scale one, and forecasts are Student's t.
        With fewer than some ten rows per coefficient it comes out too small, since
        the rows that first fix the coefficients show no error.
    drift_variance : float, default=0.0
        Variance q of the step of each coefficient from row to row, in the units of
        `prior_variance`.
    forgetting : float, default=1.0
        Factor by which the weight of the past shrinks with each row.
    mode : {"exact", "iterates"}, default="exact"
        The exact posterior, or smoothed iterates of stochastic gradient descent.
    smoothing_ratio : float, default=0.0
        For iterates: variance of the level's steps over that of their noise. Zero
        averages all iterates, large values follow the latest.
    eta0 : float, default=0.01
        For iterates: first step size.
    decay : float, default=0.0
        For iterates: step t has the size ``eta0 / (1 + decay * t)``.
    n_epochs : int, default=1
        For iterates: passes over the rows that `fit` makes, in random order if
        there are several.
    record_path : bool, default=False
        Whether to keep the coefficients after each row.
    random_state : int, RandomState instance or None, default=None
        Order of the rows when there are several epochs.

    Attributes
    ----------
    coef_ : ndarray of shape (n_features,)
        Slopes.
    intercept_ : float
        Intercept.
    covariance_ : ndarray of shape (q, q)
        Posterior covariance of the intercept, if there is one, and the slopes; NaN
        for iterates, whose spread says nothing of it.
    noise_variance_ : float
        Noise variance, given or estimated.
    log_evidence_ : float
        Logarithm of the density of all outcomes under the model, by which models
        of the same rows compare; NaN for iterates.
    n_samples_seen_ : int
        Rows of positive weight since the last `fit`.
    path_ : ndarray of shape (n_steps, q)
        Intercept, if there is one, and slopes after each row; only if `record_path`.
    n_features_in_ : int
        Number of features.
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Their names, when X has string column names.

    References
    ----------
    Gokulprasath, R. (2023). Extended linear regression: a Kalman filter approach
    for minimizing loss via area under the curve. arXiv 2308.12280. (Its choice
    among iterates by the area under a curve of weights and losses is left out:
    that area depends on the length of the path, not on the fit. `path_scores`
    chooses by validation loss.)

    Polyak, B. T., Juditsky, A. B. (1992). Acceleration of stochastic approximation
    by averaging. SIAM Journal on Control and Optimization 30, 838-855.

    Examples
    --------
    >>> import numpy as np
    >>> from reweight import KalmanLinearRegression
    >>> rng = np.random.default_rng(0)
    >>> model = KalmanLinearRegression()
    >>> for _ in range(10):
    ...     X = rng.normal(size=(50, 1))
    ...     model = model.partial_fit(X, 1 + 2 * X[:, 0] + rng.normal(size=50))
    >>> mean, sd = model.predict([[1.0]], return_std=True)
    >>> mean.round(1), sd.round(1)
    (array([3.]), array([1.]))
    """

    _parameter_constraints = {
        "fit_intercept": ["boolean"],
        "prior_variance": [Interval(Real, 0, None, closed="neither")],
        "noise_variance": [StrOptions({"estimate"}), Interval(Real, 0, None, closed="neither")],
        "drift_variance": [Interval(Real, 0, None, closed="left")],
        "forgetting": [Interval(Real, 0, 1, closed="right")],
        "mode": [StrOptions({"exact", "iterates"})],
        "smoothing_ratio": [Interval(Real, 0, None, closed="left")],
        "eta0": [Interval(Real, 0, None, closed="neither")],
        "decay": [Interval(Real, 0, None, closed="left")],
        "n_epochs": [Interval(Integral, 1, None, closed="left")],
        "record_path": ["boolean"],
        "random_state": ["random_state"],
    }

    def __init__(
        self,
        *,
        fit_intercept: bool = True,
        prior_variance: float = 1e6,
        noise_variance: float | str = "estimate",
        drift_variance: float = 0.0,
        forgetting: float = 1.0,
        mode: str = "exact",
        smoothing_ratio: float = 0.0,
        eta0: float = 0.01,
        decay: float = 0.0,
        n_epochs: int = 1,
        record_path: bool = False,
        random_state: int | np.random.RandomState | None = None,
    ) -> None:
        self.fit_intercept = fit_intercept
        self.prior_variance = prior_variance
        self.noise_variance = noise_variance
        self.drift_variance = drift_variance
        self.forgetting = forgetting
        self.mode = mode
        self.smoothing_ratio = smoothing_ratio
        self.eta0 = eta0
        self.decay = decay
        self.n_epochs = n_epochs
        self.record_path = record_path
        self.random_state = random_state

    def fit(self, X: Any, y: ArrayLike, sample_weight: ArrayLike | None = None) -> Self:
        """Forget what was learnt, and read rows in their order.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Features.
        y : array-like of shape (n_samples,)
            Outcomes.
        sample_weight : array-like of shape (n_samples,), default=None
            Weights, which divide the noise variance. Rows of weight zero are
            passed over.

        Returns
        -------
        Self

        Raises
        ------
        TypeError
            If rows are not numeric.
        ValueError
            If a parameter, the rows or the weights cannot be used, there are more
            than 2000 coefficients, or gradient descent diverges.
        """
        self._validate_params()
        H, y, w = self._check_rows(X, y, sample_weight, reset=True)
        self._start(H.shape[1])
        epochs = self.n_epochs if self.mode == "iterates" else 1
        rng = check_random_state(self.random_state)
        for _ in range(epochs):
            order = rng.permutation(len(H)) if epochs > 1 else slice(None)
            self._read(H[order], y[order], w[order])
        self.n_samples_seen_ = len(H)
        return self._publish()

    def partial_fit(self, X: Any, y: ArrayLike, sample_weight: ArrayLike | None = None) -> Self:
        """Read further rows.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Features.
        y : array-like of shape (n_samples,)
            Outcomes.
        sample_weight : array-like of shape (n_samples,), default=None
            Weights, which divide the noise variance.

        Returns
        -------
        Self

        Raises
        ------
        TypeError
            If rows are not numeric.
        ValueError
            If a parameter, the rows or the weights cannot be used, the features are
            not those of earlier rows, `mode`, `fit_intercept` or the kind of
            `noise_variance` has changed since, or gradient descent diverges.
        """
        self._validate_params()
        first = not hasattr(self, "n_samples_seen_")
        if not first:
            self._refuse_changes()
        H, y, w = self._check_rows(X, y, sample_weight, reset=first)
        if first:
            self._start(H.shape[1])
        self._read(H, y, w)
        self.n_samples_seen_ += len(H)
        return self._publish()

    def _check_rows(
        self, X: Any, y: Any, sample_weight: Any, *, reset: bool
    ) -> tuple[Array, Array, Array]:
        name = type(self).__name__
        X = validate_features(self, X, reset=reset)
        if y is None:
            raise ValueError(f"{name} requires y to be passed, but the target y is None")
        y = check_array(y, ensure_2d=False, dtype=np.float64, input_name="y")
        y = column_or_1d(y, warn=True)
        check_magnitude(y, name=f"{name}: y")
        check_consistent_length(X, y)
        w = check_sample_weight(sample_weight, X, allow_zero=not reset)
        if X.shape[1] > MANY_COEFFICIENTS and self.mode == "exact":
            raise ValueError(
                f"{name}: {X.shape[1]} features need a covariance of as many rows and columns; "
                f"use mode='iterates' or sklearn.linear_model.SGDRegressor above "
                f"{MANY_COEFFICIENTS}"
            )
        kept = w > 0
        X = X[kept]
        H = np.column_stack([np.ones(len(X)), X]) if self.fit_intercept else X
        return np.ascontiguousarray(H), y[kept], w[kept]

    def _start(self, q: int) -> None:
        """The prior."""
        self.n_samples_seen_ = 0
        self._kind = self._asked_for()
        self._mean = np.zeros(q)
        self._recorded = []
        self._sum_log = self._sum_squares = 0.0
        self._rows_read = 0
        if self.mode == "exact":
            self._P, self._root = None, np.sqrt(self.prior_variance) * np.eye(q)
        else:
            self._theta = np.zeros(q)
            self._state = np.array([np.inf, 0.0])

    def _asked_for(self) -> dict[str, Any]:
        """Parameters by which the state means what it means."""
        estimated = self.noise_variance == "estimate"
        kind = "estimate" if estimated else "a number"
        return {"mode": self.mode, "fit_intercept": self.fit_intercept, "noise_variance": kind}

    def _refuse_changes(self) -> None:
        for name, asked in self._asked_for().items():
            if asked != self._kind[name]:
                raise ValueError(
                    f"{type(self).__name__}: {name} is {asked!r} now and was {self._kind[name]!r} "
                    "for the rows read before; call fit to begin anew, or set it back"
                )

    @property
    def _estimated(self) -> bool:
        return self._kind["noise_variance"] == "estimate"

    @property
    def _noise(self) -> float:
        """Noise variance of the recursion: one if it is estimated, as P is then in its units."""
        return 1.0 if self._estimated else float(self.noise_variance)

    def _read(self, H: Array, y: Array, w: Array) -> None:
        """Update the state with some rows."""
        n, q = H.shape
        if not n:
            return
        path = np.empty((n if self.record_path else 0, q))
        # On copies, so that an error leaves the model as it was.
        if self.mode == "iterates":
            theta, mean, state = self._theta.copy(), self._mean.copy(), self._state.copy()
            squares = smoothed_gradient_rows(
                H, y, w, theta, mean, state, self.smoothing_ratio, self.eta0, self.decay, path
            )
            if not (np.isfinite(mean).all() and np.isfinite(squares)):
                raise ValueError(
                    f"{type(self).__name__}: gradient descent diverged with eta0={self.eta0}; "
                    "standardise the features or lower eta0"
                )
            self._theta, self._mean, self._state = theta, mean, state
            self._sum_squares += squares
        else:
            self._filter(H, y, w, path)
        self._rows_read += n
        if self.record_path:
            self._recorded.append(path)

    def _filter(self, H: Array, y: Array, w: Array, path: Array) -> None:
        """The exact update; the covariance is kept as a root while nothing drifts."""
        n, q = H.shape
        cap, inflation = self.prior_variance * q, 1.0 / self.forgetting
        mean = self._mean.copy()
        if self.drift_variance > 0:
            P = self._covariance()
            drift, seen = float(self.drift_variance), self._rows_read
            sums = filter_drifting_rows(
                H, y, w, mean, P, self._noise, drift, inflation, cap, seen, path
            )
            self._P, self._root = P, None
        else:
            S = self._root.copy() if self._P is None else np.linalg.cholesky(self._P)
            if self.forgetting == 1 and n > q and not self.record_path:
                mean, S, *sums = update_batch(H, y, w, mean, S, self._noise)
            else:
                sums = filter_rows(
                    H, y, w, mean, S, self._noise, inflation, cap, self._rows_read, path
                )
            self._P, self._root = None, S
        self._mean = mean
        self._sum_log += sums[0]
        self._sum_squares += sums[1]

    def _covariance(self) -> Array:
        """Covariance of the coefficients in the units of the recursion, as a new array."""
        return self._P.copy() if self._P is not None else self._root @ self._root.T

    def _publish(self) -> Self:
        """Fitted attributes from the state."""
        split = int(self._kind["fit_intercept"])
        self.coef_ = self._mean[split:].copy()
        self.intercept_ = float(self._mean[0]) if split else 0.0
        self._shape = PRIOR_SHAPE + 0.5 * self._rows_read
        self._scale = PRIOR_SCALE + 0.5 * self._sum_squares
        if not self._estimated:
            self.noise_variance_ = float(self.noise_variance)
        elif self.mode == "exact":
            self.noise_variance_ = self._scale / (self._shape - 1) if self._rows_read else np.nan
        else:
            self.noise_variance_ = self._sum_squares / max(self._rows_read, 1)
        q = len(self._mean)
        if self.mode == "iterates":
            self.covariance_ = np.full((q, q), np.nan)
            self.log_evidence_ = np.nan
            return self
        self.covariance_ = self._covariance() * (self.noise_variance_ if self._estimated else 1.0)
        prior = (PRIOR_SHAPE, PRIOR_SCALE) if self._estimated else None
        self.log_evidence_ = log_evidence(self._rows_read, self._sum_log, self._sum_squares, prior)
        return self

    @property
    def path_(self) -> Array:
        """Intercept, if there is one, and slopes after each row, if `record_path`."""
        check_is_fitted(self)
        if not self.record_path:
            raise AttributeError("path_ needs record_path=True before the rows are read")
        return np.concatenate([np.empty((0, len(self._mean))), *self._recorded])

    def path_scores(
        self, X: Any, y: ArrayLike, sample_weight: ArrayLike | None = None
    ) -> NDArray[np.float64]:
        """Mean squared error on other rows of the coefficients after each row read.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Validation features.
        y : array-like of shape (n_samples,)
            Their outcomes.
        sample_weight : array-like of shape (n_samples,), default=None
            Their weights.

        Returns
        -------
        ndarray of shape (n_steps,)
            One for each row of `path_`; the smallest says where to stop.
        """
        path = self.path_
        H, y, w = self._check_rows(X, y, sample_weight, reset=False)
        root = np.sqrt(w / w.sum())
        # The triangle has the sums of squares of all rows in a few.
        R = np.linalg.qr(np.column_stack([H, y]) * root[:, None], mode="r")
        return ((path @ R[:, :-1].T - R[:, -1]) ** 2).sum(axis=1)

    def _design(self, X: Any) -> Array:
        check_is_fitted(self)
        X = validate_features(self, X, reset=False)
        return np.column_stack([np.ones(len(X)), X]) if self._kind["fit_intercept"] else X

    def _spread(self, H: Array, argument: str) -> Array:
        """Variance of the outcome of the next row, in units of the noise if that is estimated."""
        if self._kind["mode"] == "iterates":
            raise ValueError(
                f"{type(self).__name__}: {argument} needs mode='exact'; smoothed iterates have no "
                "covariance"
            )
        P = self._covariance() / self.forgetting + self.drift_variance * np.eye(H.shape[1])
        noise = 1.0 if self._estimated else self.noise_variance_
        return noise + np.einsum("ij,jk,ik->i", H, P, H, optimize=True)

    def predict(self, X: Any, return_std: bool = False) -> Array | tuple[Array, Array]:
        """Expected outcome, and its standard deviation if asked for.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Features.
        return_std : bool, default=False
            Whether to return the standard deviation of a new outcome of weight one,
            were it the next row: noise, uncertainty and one step of drift.

        Returns
        -------
        mean : ndarray of shape (n_samples,)
        std : ndarray of shape (n_samples,)
            Only if `return_std`.

        Raises
        ------
        ValueError
            If `return_std` is asked of smoothed iterates.
        """
        H = self._design(X)
        mean = H @ self._mean
        if not return_std:
            return mean
        variance = self._spread(H, "return_std=True")
        if self._estimated:
            variance = variance * self.noise_variance_
        return mean, np.sqrt(variance)

    def predict_interval(self, X: Any, confidence_level: float = 0.95) -> Array:
        """Interval of a new outcome of weight one, were it the next row.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Features.
        confidence_level : float, default=0.95
            Probability of the interval.

        Returns
        -------
        ndarray of shape (n_samples, 2)
            From quantiles of the normal law, or of Student's if the noise variance
            is estimated.

        Raises
        ------
        ValueError
            If the level is not between 0 and 1, or the model smooths iterates.
        """
        if not 0 < confidence_level < 1:
            raise ValueError(
                f"{type(self).__name__}: confidence_level must lie between 0 and 1, got "
                f"{confidence_level}"
            )
        H = self._design(X)
        spread = np.sqrt(self._spread(H, "predict_interval"))
        upper = 0.5 * (1 + confidence_level)
        if self._estimated:
            width = student_t.ppf(upper, 2 * self._shape) * np.sqrt(self._scale / self._shape)
        else:
            width = norm.ppf(upper)
        mean = H @ self._mean
        return np.column_stack([mean - width * spread, mean + width * spread])

"""Which switches of a training recipe help, and whether that depends on its hyper-parameters."""

from numbers import Real
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import chi2
from sklearn.base import BaseEstimator
from sklearn.utils import check_array, column_or_1d
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.validation import check_consistent_length, check_is_fitted

from reweight.linear._weighted_ridge import RidgeFit, weighted_ridge
from reweight.validation import (
    as_numbers,
    check_groups,
    check_magnitude,
    check_sample_weight,
    validate_features,
    warn_user,
)

if TYPE_CHECKING:
    import pandas as pd

Array = NDArray[np.float64]

RANKED = ("reliability", "influence", "consistency", "sensitivity", "tau2", "q_pvalue")
COV_TYPES = {"nonrobust", "HC0", "HC1", "HC2", "HC3"}
# LIME's rule, exp(-d^2 / width^2) with width 0.75 sqrt(u), as a bandwidth of exp(-d^2 / (2 h^2)).
LIME_WIDTH = 0.75


class LocalSurrogateSensitivity(BaseEstimator):
    r"""Effects of switches on a score, their consistency over settings, and their sensitivity.

    Given runs of a training recipe, each with some switches (such as augmentations)
    on or off, under one of k settings of the hyper-parameters, a linear model of
    the score is fitted in each setting. With :math:`b_{si}` the coefficient of
    switch i in setting s and :math:`\bar b_i` its mean,

    .. math::
        \mathrm{influence}_i = |\bar b_i|, \quad
        \mathrm{consistency}_i = |\textstyle\sum_s \mathrm{sign}(b_{si})| / k, \quad
        \mathrm{reliability}_i = \mathrm{influence}_i \cdot \mathrm{consistency}_i, \quad
        \mathrm{sensitivity}_i^2 = \textstyle\sum_s (b_{si} - \bar b_i)^2 / k.

    The last is above zero by noise alone. `tau2_` is the variance between settings
    with the noise taken out, and `q_pvalue_` tests, by Cochran's Q, that there is
    none. Instead of labels of settings, numeric hyper-parameters can be given:
    each reference point then has a model of its own, in which runs count by a
    normal kernel of their distance to it.

    Do not use it with fewer runs in a setting than switches, nor for switches
    that were not varied at random.

    Parameters
    ----------
    alpha : float, default=0.0
        Ridge on the coefficients, not on the intercepts.
    bandwidth : float, default=None
        For numeric hyper-parameters: bandwidth h of the weight
        ``exp(-d**2 / (2 * h**2))`` at a distance d of standardised hyper-parameters.
        None is LIME's rule, ``0.75 * sqrt(n_hyperparameters / 2)``; infinity
        weighs all runs alike.
    cov_type : {"nonrobust", "HC0", "HC1", "HC2", "HC3"}, default="HC3"
        Covariance of the coefficients. Robust ones do not assume that all runs
        are as noisy.
    standardize : bool, default=False
        Whether to report coefficients per standard deviation of a switch, over all
        runs, which makes numeric strengths comparable.

    Attributes
    ----------
    coef_ : ndarray of shape (k, n_features)
        Coefficients by setting or reference point.
    intercept_ : ndarray of shape (k,)
        Intercepts.
    stderr_ : ndarray of shape (k, n_features)
        Standard errors of the coefficients.
    influence_ : ndarray of shape (n_features,)
        Size of the mean coefficient.
    consistency_ : ndarray of shape (n_features,)
        One if the sign is the same in all settings.
    reliability_ : ndarray of shape (n_features,)
        Influence times consistency.
    sensitivity_ : ndarray of shape (n_features,)
        Standard deviation of the coefficients over settings, noise included.
    tau2_ : ndarray of shape (n_features,)
        Variance between settings without the noise, not below zero; NaN for one
        setting and for reference points, whose runs overlap.
    q_statistic_ : ndarray of shape (n_features,)
        Cochran's Q; NaN where `tau2_` is.
    q_pvalue_ : ndarray of shape (n_features,)
        Its p-value, by the chi-squared law with k - 1 degrees of freedom.
    groups_ : ndarray of shape (k,)
        Labels of the settings, or numbers of the reference points.
    reference_ : ndarray of shape (k, n_hyperparameters) or None
        Reference points.
    n_features_in_ : int
        Number of switches.
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Their names, when X has string column names.

    References
    ----------
    Awais, C. M., Bekkouch, I. E. I. (2021). What augmentations are sensitive to
    hyper-parameters and why? arXiv 2111.03861. (Gives the product that defines
    reliability; the definitions of its factors and of sensitivity are ours.)

    Cochran, W. G. (1954). The combination of estimates from different experiments.
    Biometrics 10, 101-129.

    Examples
    --------
    >>> import numpy as np
    >>> from reweight import LocalSurrogateSensitivity
    >>> rng = np.random.default_rng(0)
    >>> switches = rng.integers(0, 2, size=(120, 3))
    >>> rate = np.repeat(["low", "high"], 60)
    >>> effect = np.where(rate == "low", 0.05, -0.05)  # of the third switch
    >>> score = 0.8 + 0.03 * switches[:, 0] + effect * switches[:, 2]
    >>> score = score + rng.normal(scale=0.01, size=120)
    >>> model = LocalSurrogateSensitivity().fit(switches, score, groups=rate)
    >>> model.ranking(by="reliability")[0], model.ranking(by="sensitivity")[0]
    ('x0', 'x2')
    """

    _parameter_constraints = {
        "alpha": [Interval(Real, 0, None, closed="left")],
        "bandwidth": [Interval(Real, 0, None, closed="right"), None],
        "cov_type": [StrOptions(COV_TYPES)],
        "standardize": ["boolean"],
    }
    __metadata_request__fit = {"groups": True, "hyperparameters": True}

    def __init__(
        self,
        *,
        alpha: float = 0.0,
        bandwidth: float | None = None,
        cov_type: str = "HC3",
        standardize: bool = False,
    ) -> None:
        self.alpha = alpha
        self.bandwidth = bandwidth
        self.cov_type = cov_type
        self.standardize = standardize

    def fit(
        self,
        X: Any,
        y: ArrayLike,
        *,
        groups: ArrayLike | None = None,
        hyperparameters: ArrayLike | None = None,
        reference: ArrayLike | None = None,
        sample_weight: ArrayLike | None = None,
    ) -> Self:
        """Fit the surrogate of each setting.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Switches of each run, 0 or 1, or strengths.
        y : array-like of shape (n_samples,)
            Score of each run.
        groups : array-like of shape (n_samples,), default=None
            Setting of each run; None is one setting for all.
        hyperparameters : array-like of shape (n_samples, n_hyperparameters), default=None
            Numeric hyper-parameters of each run, in place of `groups`; a single one
            may have the shape (n_samples,).
        reference : array-like of shape (k, n_hyperparameters), default=None
            Points around which to fit; None is the mean of the hyper-parameters.
            One point may have the shape (n_hyperparameters,), and k points of a
            single hyper-parameter the shape (k,).
        sample_weight : array-like of shape (n_samples,), default=None
            Weights of the runs, which divide the variance of their noise.

        Returns
        -------
        Self

        Raises
        ------
        TypeError
            If switches are not numeric.
        ValueError
            If a parameter or the runs cannot be used, a setting has too few runs,
            or a switch cannot be told from another or does not vary in a setting.
        """
        self._validate_params()
        name = type(self).__name__
        X = validate_features(self, X)
        if y is None:
            raise ValueError(f"{name} requires y to be passed, but the target y is None")
        y = column_or_1d(check_array(y, ensure_2d=False, dtype=np.float64, input_name="y"))
        check_magnitude(y, name=f"{name}: y")
        check_consistent_length(X, y)
        w = check_sample_weight(sample_weight, X)
        scale = self._scale(X, w)
        parts = self._settings(X, w, groups, hyperparameters, reference)
        fits = []
        for label, weight in zip(self.groups_.tolist(), parts, strict=True):
            rows = np.flatnonzero(weight > 0)
            self._check_setting(X[rows], label)
            where = f"{name}: {self._where(label)}"
            part = X[rows] / scale, y[rows], weight[rows]
            fits.append(weighted_ridge(*part, self.alpha, self.cov_type, where))
        self._summarise(fits, scale)
        return self

    def _scale(self, X: Array, w: Array) -> Array:
        """Standard deviations of the switches if coefficients are per standard deviation."""
        if not self.standardize:
            return np.ones(X.shape[1])
        share = w / w.sum()
        deviation = np.sqrt(share @ (X - share @ X) ** 2)
        return np.where(deviation > 0, deviation, 1.0)

    def _settings(
        self, X: Array, w: Array, groups: Any, hyperparameters: Any, reference: Any
    ) -> list[Array]:
        """Weight of each run in each setting."""
        name = type(self).__name__
        self.reference_ = None
        if hyperparameters is None:
            if reference is not None:
                raise ValueError(f"{name}: reference needs hyperparameters, the place of each run")
            self.groups_, codes = check_groups(groups, len(X))
            return [np.where(codes == k, w, 0.0) for k in range(len(self.groups_))]
        if groups is not None:
            raise ValueError(
                f"{name}: groups and hyperparameters are two ways to tell settings apart; pass one"
            )
        U = as_numbers(hyperparameters, name=f"{name}: hyperparameters")
        U = U[:, None] if U.ndim == 1 else U
        U = check_array(U, dtype=np.float64, input_name="hyperparameters")
        check_consistent_length(X, U)
        share = w / w.sum()
        center = share @ U
        spread = np.sqrt(share @ (U - center) ** 2)
        points = center[None] if reference is None else reference
        points = as_numbers(points, name=f"{name}: reference")
        if points.ndim < 2:
            points = points.reshape(-1, 1) if U.shape[1] == 1 else points[None]
        if points.ndim != 2 or points.shape[1] != U.shape[1] or not np.isfinite(points).all():
            raise ValueError(
                f"{name}: reference has shape {points.shape} but there are {U.shape[1]} "
                "hyperparameters; pass one finite number for each"
            )
        self.reference_ = points
        self.groups_ = np.arange(len(points))
        h = LIME_WIDTH * np.sqrt(U.shape[1] / 2) if self.bandwidth is None else self.bandwidth
        spread = np.where(spread > 0, spread, 1.0)
        distance = [(((U - point) / spread) ** 2).sum(axis=1) for point in points]
        return [w * np.exp(-0.5 * d / h**2) for d in distance]

    def _where(self, label: Any) -> str:
        if self.reference_ is None:
            return f"in the setting {label!r}"
        return f"within the bandwidth of reference point {label}"

    def _check_setting(self, X: Array, label: Any) -> None:
        """Raise if the coefficients of a setting cannot be told apart."""
        name, where = type(self).__name__, self._where(label)
        n, a = X.shape
        fewest = 2 if self.alpha > 0 else a + 2
        if n < fewest:
            raise ValueError(
                f"{name}: n_samples={n} runs {where} for {a} switches and an intercept; pass "
                f"{fewest} runs or more, fewer switches or alpha > 0"
                f"{'' if self.reference_ is None else ', or raise bandwidth'}"
            )
        labels = self._names()
        still = np.ptp(X, axis=0) == 0
        if still.any():
            raise ValueError(
                f"{name}: switches {[labels[j] for j in np.flatnonzero(still)]} do not vary "
                f"{where}; drop them or the setting"
            )
        if self.alpha > 0:
            return
        unit = X - X.mean(axis=0)
        unit /= np.linalg.norm(unit, axis=0)
        if np.linalg.matrix_rank(unit, tol=1e-10) == a:
            return
        overlap = np.abs(np.triu(unit.T @ unit, 1))
        i, j = np.unravel_index(overlap.argmax(), overlap.shape)
        pair = f"{labels[i]!r} and {labels[j]!r} vary together {where}"
        if overlap[i, j] < 1 - 1e-10:
            pair = f"one switch is a combination of others {where}, {labels[i]!r} a suspect"
        raise ValueError(f"{name}: {pair}; drop one of them or pass alpha > 0")

    def _summarise(self, fits: list[RidgeFit], scale: Array) -> None:
        k = len(fits)
        B = np.array([fit.coef for fit in fits])
        V = np.array([np.diag(fit.covariance) for fit in fits])
        self.coef_ = B
        self.stderr_ = np.sqrt(V)
        self.intercept_ = np.array([fit.intercept for fit in fits])
        self._slopes = B / scale
        mean = B.mean(axis=0)
        self.influence_ = np.abs(mean)
        self.consistency_ = np.abs(np.sign(B).sum(axis=0)) / k
        self.reliability_ = self.consistency_ * self.influence_
        self.sensitivity_ = np.sqrt(((B - mean) ** 2).mean(axis=0))
        self.tau2_, self.q_statistic_, self.q_pvalue_ = np.full((3, B.shape[1]), np.nan)
        if k == 1 or self.reference_ is not None:
            found = "one setting" if k == 1 else "reference points share runs"
            warn_user(
                f"{type(self).__name__}: {found}, so that tau2_ and q_pvalue_ are NaN; pass groups "
                "with two settings or more to test sensitivity",
                UserWarning,
            )
            return
        self.tau2_ = np.maximum(((B - mean) ** 2).sum(axis=0) / (k - 1) - V.mean(axis=0), 0.0)
        # A score without noise makes every difference significant, not undefined.
        precision = 1 / np.maximum(V, np.finfo(float).tiny)
        pooled = (precision * B).sum(axis=0) / precision.sum(axis=0)
        self.q_statistic_ = (precision * (B - pooled) ** 2).sum(axis=0)
        self.q_pvalue_ = chi2.sf(self.q_statistic_, k - 1)

    def _names(self) -> list[str]:
        names = getattr(self, "feature_names_in_", None)
        if names is None:
            return [f"x{j}" for j in range(self.n_features_in_)]
        return [str(name) for name in names]

    def predict(self, X: Any, groups: Any = None) -> Array:
        """Expected score.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Switches.
        groups : label or array-like of shape (n_samples,), default=None
            Setting of each row or of all, or number of its reference point; None
            averages the models of all.

        Returns
        -------
        ndarray of shape (n_samples,)

        Raises
        ------
        ValueError
            If a setting was not there in `fit`.
        """
        check_is_fitted(self)
        X = validate_features(self, X, reset=False)
        scores = X @ self._slopes.T + self.intercept_
        if groups is None:
            return scores.mean(axis=1)
        labels = np.full(len(X), groups) if np.ndim(groups) == 0 else column_or_1d(groups)
        check_consistent_length(X, labels)
        place = {label: k for k, label in enumerate(self.groups_.tolist())}
        unknown = sorted({str(label) for label in labels.tolist() if label not in place})
        if unknown:
            raise ValueError(
                f"{type(self).__name__}: no run was in the settings {unknown}; known are "
                f"{self.groups_.tolist()}"
            )
        return scores[np.arange(len(X)), [place[label] for label in labels.tolist()]]

    def to_frame(self) -> "pd.DataFrame":
        """One row per switch: the mean coefficient and what it is worth.

        Returns
        -------
        DataFrame
            Columns coef, influence, consistency, reliability, sensitivity, tau2,
            q_statistic and q_pvalue.
        """
        import pandas as pd

        check_is_fitted(self)
        columns = {"coef": self.coef_.mean(axis=0)}
        names = ("influence", "consistency", "reliability", "sensitivity", "tau2")
        for column in (*names, "q_statistic", "q_pvalue"):
            columns[column] = getattr(self, f"{column}_")
        return pd.DataFrame(columns, index=pd.Index(self._names(), name="switch"))

    def ranking(self, by: str = "reliability") -> list[str]:
        """Names of the switches, the foremost first.

        Parameters
        ----------
        by : str, default="reliability"
            One of reliability, influence, consistency, sensitivity, tau2 (largest
            first) and q_pvalue (smallest first).

        Returns
        -------
        list of str

        Raises
        ------
        ValueError
            If there is no such figure.
        """
        check_is_fitted(self)
        if by not in RANKED:
            raise ValueError(f"{type(self).__name__}: by={by!r} is not one of {list(RANKED)}")
        figure = getattr(self, f"{by}_")
        order = np.argsort(figure if by == "q_pvalue" else -figure, kind="stable")
        names = self._names()
        return [names[j] for j in order]

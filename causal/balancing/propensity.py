"""Inverse-propensity weighting and its relatives."""

from numbers import Integral, Real
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression
from sklearn.utils._param_validation import HasMethods, Interval, StrOptions

from causal._estimating_equations import EstimatingEquations
from causal.balancing._base import Arms, BalancingWeighter
from causal.balancing._propensity import (
    Design,
    arm_weight_slope,
    arm_weights,
    finite_weights,
    propensity_of,
    tilting_slope,
    warn_if_separated,
)
from reweight.cross_fitting import cross_fit
from reweight.solvers.logistic import logistic_mle
from reweight.validation import validate_features, warn_weights
from reweight.weighted_fit import weighted_fit

ESTIMANDS = ("ATE", "ATT", "ATC", "ATO", "ATM", "ATOS", "ATEN")
MUCH_CLIPPED = 0.05
# What the built-in Newton fit computes, for cross-fitting.
LOGISTIC = LogisticRegression(C=np.inf, tol=1e-8, max_iter=1000)


class PropensityWeighting(BalancingWeighter):
    r"""Weights from an estimated propensity score e(x) = P(treated | x).

    Rows of the treated arm get h(e)/e and controls h(e)/(1 - e), where h
    describes the target population:

    ====== =================== =========================================
    ATE    1                   everybody
    ATT    e                   the treated
    ATC    1 - e               the controls
    ATO    e (1 - e)           the overlap population
    ATM    min(e, 1 - e)       as in one-to-one matching
    ATOS   1{a < e < 1 - a}    rows within the bound a of overlap
    ATEN   entropy of e        overlap, in the sense of entropy
    ====== =================== =========================================

    Parameters
    ----------
    estimator : classifier, default=None
        Any scikit-learn classifier with `predict_proba`. None is logistic
        regression without penalty by Newton's method; note that
        scikit-learn's own default penalises, which biases balance.
    estimand : {"ATE", "ATT", "ATC", "ATO", "ATM", "ATOS", "ATEN"}, default="ATE"
        Target population.
    propensity_clip : float, default=None
        Propensities are moved into [propensity_clip, 1 - propensity_clip]
        after prediction; how many is counted in `n_clipped_`. None does not clip.
    cv : int, splitter or iterable, default=None
        Cross-fit the propensity; use it (cv=5) for forests and boosting. New
        rows are weighed by the classifier fitted on all rows.
    overlap_bound : float, default=0.1
        The bound a of "ATOS".
    scoring : {"smd", "mmd"}, default="smd"
        What `score` is the negative of: the largest absolute standardised
        mean difference, or the maximum mean discrepancy (Gaussian kernel).
    random_state : int, RandomState instance or None, default=None
        Shuffles the rows before an integer `cv` cuts them into folds; None
        does not shuffle.
    n_jobs : int, default=None
        joblib workers over the folds of `cv`.

    Attributes
    ----------
    weights_ : ndarray of shape (n_samples,)
        Mean one in each arm, sampling weights included.
    propensity_ : ndarray of shape (n_samples,)
        Propensity scores used, after clipping.
    estimator_ : classifier or None
        Fitted on all rows; None for the built-in logistic regression.
    coef_ : ndarray of shape (n_features_in_,)
        Slopes of the built-in logistic regression, in units of X.
    intercept_ : float
        Its intercept.
    n_clipped_ : int
        Propensities moved by `propensity_clip`.
    raw_weights_ : ndarray of shape (n_samples,)
        The same as `weights_`.
    ess_ : ndarray of shape (2,)
        Effective sample size of the controls and of the treated.
    classes_ : ndarray of shape (2,)
        Label of the controls, label of the treated.
    max_imbalance_ : float
        Largest absolute standardised mean difference left: to the target for
        ATE, ATT, ATC, between the arms otherwise.
    optimality_gap_ : float
        Largest entry of the mean score of the built-in logistic regression.
    solver_result_ : SolverResult
        Of the built-in logistic regression.
    solver_results_ : dict of SolverResult
        The same, by the label of the treated.
    converged_ : bool
        Whether the built-in logistic regression converged.
    n_iter_ : int
        Its Newton steps.
    estimand_ : str
        The estimand of the fit.
    n_features_in_ : int
        Number of covariates.
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Their names, when X has string column names.

    References
    ----------
    Rosenbaum, P. (1987). Model-based direct adjustment. JASA, 82(398), 387-394.
    Li, F., Morgan, K., Zaslavsky, A. (2018). Balancing covariates via
    propensity score weighting. JASA, 113(521), 390-400.

    Examples
    --------
    >>> from causal import PropensityWeighting, load_lalonde
    >>> lalonde = load_lalonde()
    >>> overlap = PropensityWeighting(estimand="ATO").fit(lalonde.data, lalonde.treatment)
    >>> bool(overlap.max_imbalance_ < 1e-6)
    True
    """

    _estimands = ESTIMANDS
    _parameter_constraints = {
        "estimator": [None, HasMethods(["fit", "predict_proba"])],
        "estimand": [StrOptions(set(ESTIMANDS))],
        "propensity_clip": [None, Interval(Real, 0, 0.5, closed="neither")],
        "cv": ["cv_object"],
        "overlap_bound": [Interval(Real, 0, 0.5, closed="left")],
        "scoring": [StrOptions({"smd", "mmd"})],
        "random_state": ["random_state"],
        "n_jobs": [None, Integral],
    }

    def __init__(
        self,
        estimator: Any = None,
        *,
        estimand: str = "ATE",
        propensity_clip: float | None = None,
        cv: Any = None,
        overlap_bound: float = 0.1,
        scoring: str = "smd",
        random_state: Any = None,
        n_jobs: int | None = None,
    ) -> None:
        self.estimator = estimator
        self.estimand = estimand
        self.propensity_clip = propensity_clip
        self.cv = cv
        self.overlap_bound = overlap_bound
        self.scoring = scoring
        self.random_state = random_state
        self.n_jobs = n_jobs

    def fit(
        self,
        X: Any,
        y: ArrayLike | None = None,
        *,
        treatment: ArrayLike | None = None,
        sample_weight: ArrayLike | None = None,
    ) -> "PropensityWeighting":
        """Estimate the propensity and form the weights.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Covariates.
        y : array-like of shape (n_samples,), default=None
            The treatment, two-valued; ignored when `treatment` is given.
        treatment : array-like of shape (n_samples,), default=None
            The treatment, when `y` holds an outcome.
        sample_weight : array-like of shape (n_samples,), default=None
            Sampling weights, used in the propensity model and in the weights.

        Returns
        -------
        PropensityWeighting

        Raises
        ------
        ValueError
            If the input is not two arms of finite numbers, or a propensity is
            0 or 1 where the estimand divides by it.
        """
        arms = self._validate_arms(X, y, treatment, sample_weight)
        built_in = self.estimator is None and self.cv is None
        fitted = self._fit_logistic(arms) if built_in else self._fit_estimator(arms)
        self.propensity_, self.n_clipped_ = self._clip(fitted)
        self._clipped = self.propensity_ != fitted
        if self.n_clipped_ > MUCH_CLIPPED * len(fitted):
            warn_weights(
                f"PropensityWeighting: {self.n_clipped_} of {len(fitted)} propensities were "
                f"clipped at {self.propensity_clip}; the weights no longer follow the model; "
                "consider estimand='ATO'"
            )
        remedy = "set propensity_clip=0.01 or estimand='ATO'"
        raw = {
            arm: arms.sample_weight[rows]
            * finite_weights(type(self).__name__, self._arm(self.propensity_[rows], arm), remedy)
            for arm, rows, _ in arms.problems()
        }
        for arm, values in raw.items():
            if not values.sum() > 0:
                raise ValueError(
                    f"PropensityWeighting: estimand {self.estimand!r} gives every row with "
                    f"treatment {self.classes_[arm]} the weight zero; there is no overlap left, "
                    "so lower overlap_bound or choose another estimand"
                )
        self._finish(arms, raw)
        self.max_imbalance_ = self._imbalance(arms.X, arms, self.weights_)
        return self

    def _fit_logistic(self, arms: Arms) -> NDArray[np.float64]:
        self.estimator_ = None
        self._design = Design.of(arms.X, arms.sample_weight)
        Z = self._design(arms.X)
        result = logistic_mle(Z, arms.codes, arms.sample_weight)
        eta = Z @ result.x
        separated = warn_if_separated(type(self).__name__, eta, arms.treated)
        self._store_results({1: result}, explained=separated)
        self._beta = result.x
        self.coef_, self.intercept_ = self._design.coefficients(result.x)
        return propensity_of(eta)

    def _fit_estimator(self, arms: Arms) -> NDArray[np.float64]:
        """Propensities by the user's classifier, out of fold with `cv`."""
        estimator = clone(self.estimator) if self.estimator is not None else LOGISTIC
        # Equal weights are left out, so that classifiers without weights can serve.
        s = arms.sample_weight if np.ptp(arms.sample_weight) > 0 else None
        owner = type(self).__name__
        self.estimator_ = weighted_fit(clone(estimator), arms.X, arms.codes, s, owner=owner)
        if self.cv is None:
            return self.estimator_.predict_proba(arms.X)[:, 1]
        crossed = cross_fit(
            estimator,
            arms.X,
            arms.codes,
            cv=self.cv,
            method="predict_proba",
            sample_weight=s,
            random_state=self.random_state,
            n_jobs=self.n_jobs,
        )
        if len(crossed.missing_rows):
            raise ValueError(
                f"{owner}: cv leaves {len(crossed.missing_rows)} rows out of every test fold, so "
                "they get no propensity; pass folds that cover all rows"
            )
        return crossed.predictions[:, 1]

    def _clip(self, e: NDArray[np.float64]) -> tuple[NDArray[np.float64], int]:
        if self.propensity_clip is None:
            return e, 0
        clipped = np.clip(e, self.propensity_clip, 1 - self.propensity_clip)
        return clipped, int((clipped != e).sum())

    def _arm(self, e: NDArray[np.float64], arm: int) -> NDArray[np.float64]:
        return arm_weights(e, arm, self.estimand_, self.overlap_bound)

    def predict_propensity(self, X: Any) -> NDArray[np.float64]:
        """Propensity scores of new rows, clipped as in `fit`.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Covariates.

        Returns
        -------
        ndarray of shape (n_samples,)
        """
        return self._propensity(validate_features(self, X, reset=False))

    def _propensity(self, X: NDArray[np.float64]) -> NDArray[np.float64]:
        if self.estimator_ is None:
            e = propensity_of(self._design(X) @ self._beta)
        else:
            e = self.estimator_.predict_proba(X)[:, 1]
        return self._clip(e)[0]

    def _predict_arm(self, X: NDArray[np.float64], arm: int) -> NDArray[np.float64]:
        return self._arm(self._propensity(X), arm)

    def estimating_equations(self) -> EstimatingEquations | None:
        """Score equations of the built-in logistic regression; None for other classifiers.

        Returns
        -------
        EstimatingEquations or None
        """
        if self.estimator_ is not None:
            return None
        arms = self._fitted_arms()
        Z, s = self._design(arms.X), arms.sample_weight
        e = propensity_of(Z @ self._beta)
        spread = e * (1 - e)
        slope = np.zeros(len(Z))
        for arm, rows, _ in arms.problems():
            slope[rows] = self._arm_scales[arm] * arm_weight_slope(
                e[rows], arm, self.estimand_, self.overlap_bound
            )
        slope[self._clipped] = 0.0
        target = np.where(self._clipped, 0.0, tilting_slope(e, self.estimand_) * spread)
        return EstimatingEquations(
            moments=Z * (s * (arms.treated - e))[:, None],
            jacobian=-(Z * (s * spread)[:, None]).T @ Z,
            weight_derivative=Z * (s * slope)[:, None],
            target_derivative=Z * (s * target)[:, None],
        )

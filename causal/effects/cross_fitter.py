"""Nuisances of a study, each fitted once and shared by every effect estimator."""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted

from causal.effects._effect_data import read_effect_data
from causal.effects._nuisances import cross_fit_nuisances
from causal.effects._settings import (
    NUISANCE_CONSTRAINTS,
    accepts_missing,
    nuisance_scores,
    nuisance_settings,
)


class CrossFitter(BaseEstimator):
    r"""Out-of-fold nuisances of treatment effects, each computed once for everything.

    With covariates X, outcome Y and treatment T, the nuisances are the mean
    outcome :math:`m(x) = E[Y | X = x]`, the propensity
    :math:`e(x) = E[T | X = x]`, and for two arms the outcomes
    :math:`\mu_a(x) = E[Y | X = x, T = a]`. A row is never predicted by a model
    that has seen it. `fit_transform` returns the target array that every effect
    learner, `PartiallyLinearDML` and `InteractiveDML` take in the place of `y`,
    so that learners, weights and final models are compared without fitting a
    nuisance again.

    Ridge, linear and logistic regression of scikit-learn, alone or behind a
    StandardScaler, are recognised: sums over the rows of each fold give the
    models of all folds in one pass, and logistic regressions share their
    Newton steps. Any other estimator is fitted fold by fold.

    Parameters
    ----------
    outcome_estimator : estimator, default=None
        Regressor; or a classifier with `predict_proba` for an outcome of 0 and
        1. None is ridge regression on standardised columns, its penalty among
        13 values from 1e-3 to 1e3 chosen by generalised cross-validation
        within the training part.
    treatment_estimator : estimator, float or "known", default=None
        Classifier with `predict_proba` for two arms, regressor for a continuous
        treatment; a Weighter such as `causal.CBPS("ATE")`, whose weights then
        stand for inverse propensities; the propensity itself if it is the same
        for all; "known" if `fit` must be given it. None is logistic regression
        with C=1 on standardised columns, or the ridge regression above.
    outcome_by_arm : bool, default=True
        Whether mu0 and mu1 are wanted, for a six-column target; False gives
        the four-column one, which does for `RLearner` and for a continuous
        treatment.
    outcome_model : {"separate", "single"}, default="separate"
        One outcome model for each arm, or one for both that sees the treatment
        as its last column.
    cv : int, "auto", splitter or iterable of (train, test), default=5
        Folds. An int shuffles, stratifies by a binary treatment and keeps groups
        whole; for other strata pass
        `list(StratifiedKFold(5, shuffle=True).split(X, strata))`;
        "auto" is 10 below 1000 rows, 5 below 50,000, 3 below 500,000, else 2.
        Test parts must cover each row once.
    cross_fitting : {2, 3, 4}, default=2
        2: each nuisance is trained on all other folds. 3 and 4: with exactly 3
        or 4 parts, of which each model sees one, treatment and outcome (4:
        control propensity too) come from different parts, in all orders. Errors
        of nuisances are then independent, at the price of smaller training
        parts; each row gives 2 or 6 pseudo rows.
    n_repeats : int, default=1
        Number of draws of the folds.
    discrete_treatment : bool or "auto", default="auto"
        Whether there are two arms. "auto" says so for 0/1, booleans and two
        words; other numbers are a continuous treatment.
    propensity_clip : float, default=0.01
        Propensities of two arms are moved into [propensity_clip,
        1 - propensity_clip] after prediction.
    random_state : int, RandomState instance or None, default=None
        Seeds folds and every unset `random_state` of the models.
    n_jobs : int, default=None
        Number of jobs over folds, through joblib; it does not change the
        result.
    verbose : int, default=0
        Whether to show progress.

    Attributes
    ----------
    nuisances_ : dict of ndarray of shape (n_pseudo_rows,)
        "m", "propensity", "mu0" and "mu1"; "control_propensity" where it is not
        one minus the propensity. Pseudo rows come in blocks, one for each
        repeat (and order of parts), that hold all rows in order.
    row_ : ndarray of int of shape (n_pseudo_rows,)
        The row that each pseudo row belongs to.
    folds_ : ndarray of int of shape (n_samples,) or (n_repeats, n_samples)
        Fold that tests each row.
    models_ : dict of list of estimators
        Fitted models by nuisance, over repeats and folds.
    n_clipped_ : int
        Number of propensities that were clipped.
    nuisance_scores_ : dict
        Out-of-fold R2, or log loss and area under the ROC curve.
    classes_ : ndarray of shape (2,) or None
        Control label, treated label (the larger one); None for a continuous
        treatment.
    n_features_in_ : int
        Number of covariates.
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Their names, when X has string column names.

    References
    ----------
    Chernozhukov, V. et al. (2018). Double/debiased machine learning for
    treatment and structural parameters. Econometrics Journal, 21(1), C1-C68.
    Fisher, A. (2024). The connection between R-learning and inverse-variance
    weighting for estimation of heterogeneous treatment effects. ICML.

    Examples
    --------
    >>> from causal import CrossFitter, RLearner, make_cate
    >>> study = make_cate(500, setup="A", random_state=0)
    >>> target = CrossFitter(random_state=0).fit_transform(
    ...     study.X, study.y, treatment=study.treatment
    ... )
    >>> target.shape
    (500, 6)
    >>> RLearner().fit(study.X, target).predict(study.X).shape
    (500,)
    """

    __metadata_request__fit = {"treatment": True, "groups": True, "propensity": True}

    _parameter_constraints = {**NUISANCE_CONSTRAINTS, "outcome_by_arm": ["boolean"]}

    def __init__(
        self,
        outcome_estimator: Any = None,
        treatment_estimator: Any = None,
        *,
        outcome_by_arm: bool = True,
        outcome_model: str = "separate",
        cv: Any = 5,
        cross_fitting: int = 2,
        n_repeats: int = 1,
        discrete_treatment: bool | str = "auto",
        propensity_clip: float = 0.01,
        random_state: int | np.random.RandomState | None = None,
        n_jobs: int | None = None,
        verbose: int = 0,
    ) -> None:
        self.outcome_estimator = outcome_estimator
        self.treatment_estimator = treatment_estimator
        self.outcome_by_arm = outcome_by_arm
        self.outcome_model = outcome_model
        self.cv = cv
        self.cross_fitting = cross_fitting
        self.n_repeats = n_repeats
        self.discrete_treatment = discrete_treatment
        self.propensity_clip = propensity_clip
        self.random_state = random_state
        self.n_jobs = n_jobs
        self.verbose = verbose

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.target_tags.required = True
        tags.input_tags.allow_nan = accepts_missing(
            self.outcome_estimator, self.treatment_estimator
        )
        return tags

    def fit(
        self,
        X: Any,
        y: ArrayLike,
        *,
        treatment: ArrayLike | None = None,
        sample_weight: ArrayLike | None = None,
        groups: ArrayLike | None = None,
        propensity: ArrayLike | float | None = None,
    ) -> "CrossFitter":
        """Fit every nuisance in every fold.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Covariates: array, data frame, or sparse matrix if the estimators
            take it.
        y : array-like of shape (n_samples,) or (n_samples, 2)
            Outcome; or outcome and treatment, from `make_effect_target`.
        treatment : array-like of shape (n_samples,), default=None
            Treatment, if it is not in `y`.
        sample_weight : array-like of shape (n_samples,), default=None
            Sampling weights, used by every nuisance.
        groups : array-like of shape (n_samples,), default=None
            Rows that must stay in one fold.
        propensity : array-like of shape (n_samples,) or float, default=None
            Known propensity, as in a randomised trial; nothing is then fitted
            for the treatment.

        Returns
        -------
        CrossFitter

        Raises
        ------
        ValueError
            If the treatment is missing, has one value, or does not suit the
            estimators; a fold lacks an arm; folds are no partition or split
            groups; or a number is not finite.
        """
        self._fit_nuisances(
            X, y, treatment, sample_weight=sample_weight, groups=groups, propensity=propensity
        )
        return self

    def _fit_nuisances(
        self,
        X: Any,
        y: Any,
        treatment: Any,
        names: tuple[str, ...] | None = None,
        **metadata: Any,
    ) -> None:
        """Fit the nuisances named, all that `outcome_by_arm` implies by default."""
        self._validate_params()
        data = read_effect_data(
            self,
            X,
            y,
            treatment,
            discrete_treatment=self.discrete_treatment,
            allow_nan=accepts_missing(self.outcome_estimator, self.treatment_estimator),
            **metadata,
        )
        if names is None:
            names = ("m", "propensity") + (("mu0", "mu1") if self.outcome_by_arm else ())
        fitted = cross_fit_nuisances(data, names, nuisance_settings(self))
        self.nuisances_ = fitted.by_name
        self.row_ = fitted.row
        self.folds_ = fitted.fold[0] if len(fitted.fold) == 1 else fitted.fold
        self.models_ = fitted.models
        self.n_clipped_ = fitted.n_clipped
        self.classes_ = data.classes
        self._data = data

    def fit_transform(
        self,
        X: Any,
        y: ArrayLike,
        *,
        treatment: ArrayLike | None = None,
        sample_weight: ArrayLike | None = None,
        groups: ArrayLike | None = None,
        propensity: ArrayLike | float | None = None,
    ) -> NDArray[np.float64]:
        """Fit, and return outcome, treatment and nuisances as one target array.

        Nuisances are averaged over repeats.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Covariates.
        y : array-like of shape (n_samples,) or (n_samples, 2)
            Outcome; or outcome and treatment.
        treatment : array-like of shape (n_samples,), default=None
            Treatment, if it is not in `y`.
        sample_weight : array-like of shape (n_samples,), default=None
            Sampling weights.
        groups : array-like of shape (n_samples,), default=None
            Rows that must stay in one fold.
        propensity : array-like of shape (n_samples,) or float, default=None
            Known propensity.

        Returns
        -------
        ndarray of shape (n_samples, 6) or (n_samples, 4)
            Columns outcome, treatment, m, propensity, and mu0, mu1 if
            `outcome_by_arm`.

        Raises
        ------
        ValueError
            As `fit`; and if nuisances do not fit into one row each, which is so
            for `cross_fitting` 3 and 4 and for the weights of a Weighter
            without propensity.
        """
        self._validate_params()
        if self.cross_fitting > 2:
            raise ValueError(
                f"CrossFitter: cross_fitting={self.cross_fitting} gives several pseudo rows for "
                "each row, which a target array cannot hold; use PseudoOutcomeRegressor("
                f"cross_fitting={self.cross_fitting}), or cross_fitting=2"
            )
        self._fit_nuisances(
            X, y, treatment, sample_weight=sample_weight, groups=groups, propensity=propensity
        )
        if "control_propensity" in self.nuisances_:
            raise ValueError(
                "CrossFitter: the weights of treatment_estimator are no propensities, which a "
                "target array has a column for; pass the weighter to PseudoOutcomeRegressor"
            )
        n = len(self._data.y)
        names = [name for name in ("m", "propensity", "mu0", "mu1") if name in self.nuisances_]
        means = [self.nuisances_[name].reshape(-1, n).mean(axis=0) for name in names]
        return np.column_stack([self._data.y, self._data.treatment, *means])

    @property
    def nuisance_scores_(self) -> dict[str, dict[str, float]]:
        """How well out-of-fold nuisances predict, by nuisance and score."""
        check_is_fitted(self, "nuisances_")
        return nuisance_scores(self.nuisances_, self.row_, self._data)

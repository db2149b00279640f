"""The R-learner: residuals on residuals."""

from typing import Any

import numpy as np

from causal.effects._pseudo_outcome_base import FINAL_STAGE_CONSTRAINTS, CrossFittedLearner


class RLearner(CrossFittedLearner):
    r"""Heterogeneous effects by regressing outcome residuals on treatment residuals.

    With out-of-fold m(x) = E[Y | x] and e(x) = E[T | x],

    .. math:: \hat\tau = \arg\min_g \sum_i s_i
              \left[y_i - m(x_i) - (t_i - e(x_i)) g(x_i)\right]^2 .

    It is the regression of (y - m)/(t - e) with weights (t - e)^2, which are the
    inverse variances of that pseudo-outcome. Errors of the nuisances enter as
    products and squares. With two arms and a final stage that is too simple, it
    fits best where both arms are found. For a continuous treatment the effect
    is that of one unit; if outcomes are not linear in the dose, it is a weighted
    average slope.

    Parameters
    ----------
    outcome_estimator : estimator, default=None
        Model of the outcome, as in `CrossFitter`.
    treatment_estimator : estimator, float or "known", default=None
        Model of the treatment, as in `CrossFitter`.
    final_estimator : "linear" or regressor, default="linear"
        The regression of the pseudo-outcome on the covariates. "linear" is
        weighted least squares with intercept, in closed form and with standard
        errors.
    featurizer : transformer, default=None
        Applied to the covariates before the final stage.
    effect_columns : list of int or str, default=None
        Columns of X that the effect may depend on; nuisances see all. None is
        all of them.
    fit_nuisances : {"needed", "all"}, default="needed"
        Whether also nuisances that this learner does not need are fitted, for
        `refit_final` with another pseudo-outcome.
    cv : int, "auto", splitter or iterable of (train, test), default=5
        Folds, as in `CrossFitter`; None with `cross_fitting` 3 or 4.
    cross_fitting : {2, 3, 4}, default=2
        Order of cross-fitting, as in `CrossFitter`.
    n_repeats : int, default=1
        Number of draws of the folds.
    fold_aggregation : {"stack", "average"}, default="stack"
        With several pseudo rows for each row, whether one final stage sees all
        of them, or each block has one and predictions are averaged.
    cov_type : {"HC0", "HC1", "nonrobust"}, default="HC1"
        Covariance of the linear final stage. With groups, or several pseudo
        rows for each row, HC0 and HC1 are clustered.
    discrete_treatment : bool or "auto", default="auto"
        Whether there are two arms, as in `CrossFitter`.
    propensity_clip : float, default=0.01
        Propensities are moved into [propensity_clip, 1 - propensity_clip].
    scoring : {"r", "dr"}, default="r"
        What `score` is made of.
    random_state : int, RandomState instance or None, default=None
        Seeds folds and every unset `random_state` of the models.
    n_jobs : int, default=None
        Number of jobs over folds; it does not change the result.
    verbose : int, default=0
        Whether to show progress.

    Attributes
    ----------
    coef_ : ndarray of shape (n_terms,)
        Slopes of the linear final stage.
    intercept_ : float
        Its intercept.
    cov_ : ndarray of shape (n_terms + 1, n_terms + 1)
        Covariance of intercept and slopes, in this order.
    stderr_ : ndarray of shape (n_terms + 1,)
        Standard errors of intercept and slopes; NaN if not identified.
    final_estimator_ : estimator, list of estimators or "linear"
        The fitted regressor; a list if blocks are averaged.
    featurizer_ : transformer
        Fitted, if there is one.
    pseudo_outcome_ : ndarray of shape (n_pseudo_rows,)
        Pseudo-outcomes.
    weights_ : ndarray of shape (n_pseudo_rows,)
        Weights of the final stage, sampling weights included, of mean one.
    nuisances_ : dict of ndarray of shape (n_pseudo_rows,)
        Out-of-fold nuisances, by name.
    row_ : ndarray of int of shape (n_pseudo_rows,)
        The row that each pseudo row belongs to.
    folds_ : ndarray of int of shape (n_samples,) or (n_repeats, n_samples)
        Fold that tests each row; -1 where nuisances came with `y`.
    models_ : dict of list of estimators
        Fitted nuisance models, over repeats and folds.
    n_clipped_ : int
        Number of propensities that were clipped.
    nuisance_scores_ : dict
        Out-of-fold R2, or log loss and area under the ROC curve.
    classes_ : ndarray of shape (2,) or None
        Control label, treated label; None for a continuous treatment.
    n_features_in_ : int
        Number of covariates.
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Their names, when X has string column names.

    References
    ----------
    Nie, X., Wager, S. (2021). Quasi-oracle estimation of heterogeneous
    treatment effects. Biometrika, 108(2), 299-319.

    Examples
    --------
    >>> from causal import RLearner, make_cate
    >>> study = make_cate(2000, setup="A", random_state=0)
    >>> learner = RLearner(random_state=0).fit(study.X, study.y, treatment=study.treatment)
    >>> learner.predict(study.X).shape
    (2000,)
    >>> list(learner.summary().columns)
    ['estimate', 'stderr', 'z', 'p_value', 'lower', 'upper']
    """

    _parameter_constraints = FINAL_STAGE_CONSTRAINTS

    def __init__(
        self,
        outcome_estimator: Any = None,
        treatment_estimator: Any = None,
        *,
        final_estimator: Any = "linear",
        featurizer: Any = None,
        effect_columns: Any = None,
        fit_nuisances: str = "needed",
        cv: Any = 5,
        cross_fitting: int = 2,
        n_repeats: int = 1,
        fold_aggregation: str = "stack",
        cov_type: str = "HC1",
        discrete_treatment: bool | str = "auto",
        propensity_clip: float = 0.01,
        scoring: str = "r",
        random_state: int | np.random.RandomState | None = None,
        n_jobs: int | None = None,
        verbose: int = 0,
    ) -> None:
        self.outcome_estimator = outcome_estimator
        self.treatment_estimator = treatment_estimator
        self.final_estimator = final_estimator
        self.featurizer = featurizer
        self.effect_columns = effect_columns
        self.fit_nuisances = fit_nuisances
        self.cv = cv
        self.cross_fitting = cross_fitting
        self.n_repeats = n_repeats
        self.fold_aggregation = fold_aggregation
        self.cov_type = cov_type
        self.discrete_treatment = discrete_treatment
        self.propensity_clip = propensity_clip
        self.scoring = scoring
        self.random_state = random_state
        self.n_jobs = n_jobs
        self.verbose = verbose

    def _rule(self) -> tuple[str, Any, Any]:
        return "u", "residual", None

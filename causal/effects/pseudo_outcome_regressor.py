"""Heterogeneous effects by weighted regression of pseudo-outcomes."""

from typing import Any

import numpy as np
from sklearn.utils._param_validation import HasMethods, StrOptions

from causal.effects._pseudo_outcome_base import FINAL_STAGE_CONSTRAINTS, CrossFittedLearner
from causal.effects.pseudo_outcome import NUISANCES_OF, WEIGHTINGS


class PseudoOutcomeRegressor(CrossFittedLearner):
    r"""Heterogeneous effects by weighted regression of a pseudo-outcome on covariates.

    Out-of-fold nuisances turn each row into a pseudo-outcome f whose mean given
    the covariates is the effect, and a weight w; the effect is then

    .. math:: \hat\tau = \arg\min_g \sum_i s_i w_i (f_i - g(x_i))^2,

    with s the sampling weights and g any regressor, or a linear function with
    standard errors. Which pairs keep the errors of the nuisances to second
    order: "dr" with any weights of the covariates alone, and "u" with
    "residual", the R-learner. "cov" needs good propensities. If g is not rich
    enough for the effect, weights decide where it fits best: "overlap" looks at
    the rows that could have been in either arm. Do not average a weighted fit
    to report an average effect; use `InteractiveDML` or `PartiallyLinearDML`.

    Parameters
    ----------
    pseudo_outcome : {"dr", "u", "cov", "ipw", "plugin"}, default="dr"
        The pseudo-outcome, see `causal.pseudo_outcome`.
    weighting : str, callable, Weighter or None, default="inverse_variance"
        The weights, see `causal.pseudo_outcome_weights`. "inverse_variance" is
        "residual" for "u", "none" for "plugin" and "overlap" else. A callable
        gets treatment and propensity. A Weighter such as
        `causal.EntropyBalancing("ATE")` is fitted to covariates and treatment,
        and its `weights_` are taken; these depend on the arm, which suits "u",
        "plugin", and "dr" if its outcome models are right.
    outcome_estimator : estimator, default=None
        Model of the outcome, as in `CrossFitter`.
    treatment_estimator : estimator, float or "known", default=None
        Model of the treatment, as in `CrossFitter`. A Weighter with estimand
        "ATE" also serves "dr" and "ipw" through its weights.
    final_estimator : "linear" or regressor, default="linear"
        The regression g. "linear" is weighted least squares with intercept, in
        closed form and with standard errors.
    featurizer : transformer, default=None
        Applied to the covariates before the final stage, such as
        PolynomialFeatures.
    effect_columns : list of int or str, default=None
        Columns of X that the effect may depend on; nuisances see all. None is
        all of them.
    variance_estimator : regressor, default=None
        Model of the squared errors of mu0 and mu1. With "dr" and
        "inverse_variance", weights are then 1 / (s1(x)/e(x) + s0(x)/(1 - e(x))),
        for outcomes whose variance depends on x.
    outcome_model : {"separate", "single"}, default="separate"
        One outcome model for each arm, or one for both that sees the treatment
        as its last column.
    fit_nuisances : {"needed", "all"}, default="needed"
        Whether also nuisances that the pseudo-outcome does not need are fitted,
        for `refit_final` with others.
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
    Fisher, A. (2024). The connection between R-learning and inverse-variance
    weighting for estimation of heterogeneous treatment effects. ICML.
    Kennedy, E. (2023). Towards optimal doubly robust estimation of
    heterogeneous causal effects. Electronic Journal of Statistics, 17(2).

    Examples
    --------
    >>> from causal import PseudoOutcomeRegressor, make_cate
    >>> study = make_cate(1000, setup="C", random_state=0)
    >>> model = PseudoOutcomeRegressor("dr", "overlap", random_state=0)
    >>> model = model.fit(study.X, study.y, treatment=study.treatment)
    >>> low, high = model.predict_interval(study.X[:1])[0]
    >>> bool(low < 1 < high)
    True
    """

    _parameter_constraints = {
        **FINAL_STAGE_CONSTRAINTS,
        "pseudo_outcome": [StrOptions(set(NUISANCES_OF))],
        "weighting": [
            StrOptions({*WEIGHTINGS, "inverse_variance"}),
            HasMethods("fit"),
            callable,
            None,
        ],
        "variance_estimator": [HasMethods(["fit", "predict"]), None],
        "outcome_model": [StrOptions({"separate", "single"})],
    }

    def __init__(
        self,
        pseudo_outcome: str = "dr",
        weighting: Any = "inverse_variance",
        *,
        outcome_estimator: Any = None,
        treatment_estimator: Any = None,
        final_estimator: Any = "linear",
        featurizer: Any = None,
        effect_columns: Any = None,
        variance_estimator: Any = None,
        outcome_model: str = "separate",
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
        self.pseudo_outcome = pseudo_outcome
        self.weighting = weighting
        self.outcome_estimator = outcome_estimator
        self.treatment_estimator = treatment_estimator
        self.final_estimator = final_estimator
        self.featurizer = featurizer
        self.effect_columns = effect_columns
        self.variance_estimator = variance_estimator
        self.outcome_model = outcome_model
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
        return self.pseudo_outcome, self.weighting, self.variance_estimator

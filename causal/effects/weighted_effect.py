"""Average effect of a treatment from weights, with an interval that knows they were estimated."""

from numbers import Integral
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import norm
from sklearn.base import BaseEstimator, MetaEstimatorMixin
from sklearn.utils import check_random_state, get_tags
from sklearn.utils._param_validation import HasMethods, Interval, StrOptions
from sklearn.utils.validation import check_consistent_length, check_is_fitted

from causal._estimating_equations import EstimatingEquations
from causal.effects._checks import (
    check_estimand,
    check_outcome_estimator,
    indexable_rows,
    split_outcome,
    stratified_folds,
)
from causal.effects._inference import Inference, resampled_inference, squared_influence
from causal.effects._influence import effect_influence
from causal.effects._study import (
    TARGETS,
    Estimate,
    Study,
    estimate_effect,
    estimating_equations,
    last_step,
    seeded_clone,
)
from reweight.validation import (
    check_groups,
    check_sample_weight,
    check_treatment,
    validate_rows,
    warn_weights,
)
from reweight.weighted_fit import weight_key

if TYPE_CHECKING:
    import pandas as pd

FEW_CLUSTERS = 20
LARGE_SHARE = 0.5
# What an earlier fit with other parameters may have left.
SOMETIMES_SET = (
    "weights_",
    "influence_function_",
    "effect_draws_",
    "n_failed_resamples_",
    "outcome_estimators_",
    "outcome_predictions_",
)


class WeightedEffect(MetaEstimatorMixin, BaseEstimator):
    r"""Average effect of a two-valued treatment from balancing weights.

    The plain estimate is the difference of the weighted means of the outcome
    (Hajek). With an outcome model :math:`m_a` of each arm it is augmented,

    .. math:: \tau = \frac{\sum_i h_i (m_1(x_i) - m_0(x_i))}{\sum_i h_i}
              + \frac{\sum_{T} w_i (y_i - m_1(x_i))}{\sum_{T} w_i}
              - \frac{\sum_{C} w_i (y_i - m_0(x_i))}{\sum_{C} w_i},

    with h the weights of the target population: the sampling weights s for the
    ATE, those of the treated (controls) for the ATT (ATC), and s e (1 - e) with
    the weighter's propensity e for the ATO. The augmented estimate is
    consistent if either the weights or the outcome models are right.

    Parameters
    ----------
    weighter : estimator
        A balancing weighter, or a pipeline that ends in one. A clone is fitted
        on (X, treatment); it never sees the outcome.
    outcome_estimator : estimator, default=None
        Regressor, fitted once per arm and outcome with the sampling weights;
        None gives the plain estimate. A classifier serves outcomes 0 and 1,
        through the probability of 1.
    estimand : {"ATE", "ATT", "ATC", "ATO"}, default=None
        Target population, which must be that of the weighter; None takes the
        weighter's word.
    inference : {"auto", "influence", "bootstrap", "subsample", "robust"}, default="auto"
        Where standard errors and intervals come from.

        - "influence": the influence function of each row, estimation of the
          weights included; needs a weighter with estimating equations.
        - "bootstrap": Bayesian bootstrap. Each resample multiplies the sampling
          weights by independent standard exponentials, which loses no row, and
          fits weights and outcome models again.
        - "subsample": ceil(n^(2/3)) rows drawn without replacement, everything
          fitted again, deviations rescaled to n rows. Valid where the bootstrap
          is not, as for weights that minimise a kernel distance exactly.
        - "robust": weights held fixed. Usually too wide for the ATE, and not
          valid in general; right for weights that were not estimated.
        - "auto": the first that is valid for the weighter.
    n_resamples : int, default=500
        Number of bootstrap resamples or subsamples.
    cv : int, cross-validation generator or iterable, default=None
        Cross-fitting of the outcome models, of no account without them; an int
        stratifies by treatment and keeps groups whole. None fits and predicts
        on the same rows, which suits outcome models with few parameters.
    n_jobs : int, default=None
        Number of jobs over resamples, or over folds. It does not change the
        result.
    random_state : int, RandomState instance or None, default=None
        Seeds resamples, folds, and every unset `random_state` of the weighter
        and the outcome estimator.
    verbose : int, default=0
        Whether to show the progress of resampling.

    Attributes
    ----------
    effect_ : float or ndarray of shape (n_outputs,)
        The estimate; an array if `y` has several columns.
    stderr_ : float or ndarray of shape (n_outputs,)
        Its standard error.
    potential_means_ : ndarray of shape (2,) or (2, n_outputs)
        Mean outcome of the target population under control and under treatment.
    weights_ : ndarray of shape (n_samples,)
        The weights, mean one in each arm. Not set if some are negative.
    raw_weights_ : ndarray of shape (n_samples,)
        The weights that the estimate uses, negative ones included.
    influence_function_ : ndarray of shape (n_samples,) or (n_samples, n_outputs)
        Influence of each row on the effect, on the scale of the effect: sums to
        zero, and the squares sum to the variance (without groups). Set by
        "influence" and "robust".
    effect_draws_ : ndarray of shape (n_draws,) or (n_draws, n_outputs)
        Effects in the resamples. Set by "bootstrap" and "subsample".
    n_failed_resamples_ : int
        Resamples without an estimate; they are not in `effect_draws_`. Set by
        "bootstrap" and "subsample".
    inference_ : str
        What "auto" resolved to.
    estimand_ : str
        The target population.
    weighter_ : estimator
        The fitted weighter or pipeline.
    outcome_estimators_ : list
        Fitted outcome models by arm, outcome and fold; set if there are any.
    outcome_predictions_ : ndarray of shape (2, n_samples) or (2, n_samples, n_outputs)
        Predicted outcomes as control and as treated; set if there are models.
    classes_ : ndarray of shape (2,)
        Control label, treated label (the larger one).
    outcome_names_ : list of str
        Names of the outcomes.
    n_features_in_ : int
        Number of covariates.
    feature_names_in_ : ndarray of str
        Names of the covariates, if X has any.

    See Also
    --------
    causal.EntropyBalancing : Weights that balance moments exactly.

    Notes
    -----
    Standard errors carry the estimation of the weights through the weighter's
    estimating equations, and hold the steps of a pipeline before the weighter
    fixed. The estimation of outcome models enters through products of two
    errors only; it is left out by "influence" and repeated by "bootstrap".
    With `groups`, influences are summed within groups before they are squared,
    and whole groups are resampled.

    References
    ----------
    Hainmueller, J. (2012). Entropy balancing for causal effects. Political
    Analysis 20(1), 25-46.

    Robins, J. M., Rotnitzky, A., & Zhao, L. P. (1994). Estimation of regression
    coefficients when some regressors are not always observed. Journal of the
    American Statistical Association 89(427), 846-866.

    Rubin, D. B. (1981). The Bayesian bootstrap. Annals of Statistics 9(1),
    130-134.

    Examples
    --------
    >>> from causal import EntropyBalancing, WeightedEffect, load_lalonde
    >>> X, y, treatment = load_lalonde(return_X_y_t=True)
    >>> effect = WeightedEffect(EntropyBalancing("ATT")).fit(X, y, treatment=treatment)
    >>> round(effect.effect_, 1), round(effect.stderr_, 1)
    (1273.3, 789.7)
    >>> effect.confint().round()
    array([[-275., 2821.]])
    """

    __metadata_request__fit = {"treatment": True, "groups": True}

    _parameter_constraints = {
        "weighter": [HasMethods("fit")],
        "outcome_estimator": [HasMethods("fit"), None],
        "estimand": [StrOptions(set(TARGETS)), None],
        "inference": [StrOptions({"auto", "influence", "bootstrap", "subsample", "robust"})],
        "n_resamples": [Interval(Integral, 2, None, closed="left")],
        "cv": ["cv_object"],
        "n_jobs": [Integral, None],
        "random_state": ["random_state"],
        "verbose": ["verbose"],
    }

    def __init__(
        self,
        weighter: Any,
        *,
        outcome_estimator: Any = None,
        estimand: str | None = None,
        inference: str = "auto",
        n_resamples: int = 500,
        cv: Any = None,
        n_jobs: int | None = None,
        random_state: int | np.random.RandomState | None = None,
        verbose: int = 0,
    ) -> None:
        self.weighter = weighter
        self.outcome_estimator = outcome_estimator
        self.estimand = estimand
        self.inference = inference
        self.n_resamples = n_resamples
        self.cv = cv
        self.n_jobs = n_jobs
        self.random_state = random_state
        self.verbose = verbose

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.target_tags.required = True
        tags.target_tags.multi_output = True
        tags.input_tags = get_tags(self.weighter).input_tags
        return tags

    def fit(
        self,
        X: Any,
        y: ArrayLike,
        *,
        treatment: ArrayLike | None = None,
        sample_weight: ArrayLike | None = None,
        groups: ArrayLike | None = None,
    ) -> "WeightedEffect":
        """Fit the weights, the outcome models if asked for, and the effect with its error.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Covariates.
        y : array-like of shape (n_samples,) or (n_samples, n_outputs)
            Outcomes; or two columns, outcome and treatment, if `treatment` is
            not given.
        treatment : array-like of shape (n_samples,), default=None
            Two-valued treatment; the larger label is the treated one.
        sample_weight : array-like of shape (n_samples,), default=None
            Sampling weights.
        groups : array-like of shape (n_samples,), default=None
            Clusters of standard errors: rows that belong together.

        Returns
        -------
        WeightedEffect

        Raises
        ------
        ValueError
            If the treatment is missing or not two-valued, an outcome is not
            finite, the estimands of weights and effect differ, or the weighter
            has no estimating equations and `inference` is "influence".
        """
        self._validate_params()
        models = self.outcome_estimator
        self.estimand_ = check_estimand(self.estimand, self.weighter, models is not None)
        for name in SOMETIMES_SET:
            vars(self).pop(name, None)
        draws = check_random_state(self.random_state).randint(np.iinfo(np.int32).max, size=3)
        seed, fold_seed, draw_seed = map(int, draws)
        study, codes = self._validate_study(X, y, treatment, sample_weight, groups, fold_seed)
        weighter = seeded_clone(self.weighter, seed)
        models = None if models is None else seeded_clone(models, seed)
        estimate = estimate_effect(study, weighter, models, self.estimand_, self.n_jobs)
        self._store_estimate(estimate)
        equations = None
        if self.inference in ("auto", "influence"):
            equations = estimating_equations(estimate.weighter)
        self.inference_ = self._resolve_inference(last_step(estimate.weighter), equations)
        if self.inference_ in ("influence", "robust"):
            self._store_influence(estimate, equations, codes)
        else:
            if models is not None and self.inference_ == "bootstrap":
                weight_key(models, owner="WeightedEffect(inference='bootstrap')")
            inference, self.n_failed_resamples_ = resampled_inference(
                estimate.means.effect,
                study,
                weighter,
                models,
                self.estimand_,
                kind=self.inference_,
                codes=codes,
                n_resamples=self.n_resamples,
                random_state=draw_seed,
                n_jobs=self.n_jobs,
                verbose=self.verbose,
            )
            self.effect_draws_ = self._shaped(inference.draws)
            self._set_inference(inference)
        return self

    def _validate_study(
        self, X: Any, y: Any, treatment: Any, sample_weight: Any, groups: Any, seed: int
    ) -> tuple[Study, NDArray[np.intp] | None]:
        """Everything passed to `fit`, checked, and the group of each row."""
        X = indexable_rows(X, owner=type(self).__name__)
        validate_rows(self, X)
        outcome, treatment, self.outcome_names_ = split_outcome(y, treatment)
        self._one_output = outcome.ndim == 1
        outcome = outcome.reshape(len(outcome), -1)
        check_consistent_length(X, outcome)
        self.classes_, arm = check_treatment(treatment, X)
        if sample_weight is not None:
            sample_weight = check_sample_weight(sample_weight, X)
        codes = None
        if groups is not None:
            labels, codes = check_groups(groups, len(outcome))
            if len(labels) < FEW_CLUSTERS:
                warn_weights(
                    f"WeightedEffect: groups has {len(labels)} values; intervals that treat so few "
                    "clusters as a large sample are too short; read them as lower bounds"
                )
        folds = None
        if self.outcome_estimator is not None:
            check_outcome_estimator(self.outcome_estimator, outcome)
            folds = stratified_folds(self.cv, X, arm, codes, seed)
        study = Study(X, outcome, self.classes_[arm], arm == 1, sample_weight, folds)
        return study, codes

    def _resolve_inference(self, weighter: Any, equations: EstimatingEquations | None) -> str:
        """The way to intervals that is valid for a fitted weighter."""
        name = type(weighter).__name__
        advice = getattr(weighter, "_resampling", "bootstrap")
        if self.inference == "influence" and equations is None:
            raise ValueError(
                f"WeightedEffect: {name} has no estimating equations, which inference='influence' "
                f"needs; pass inference='{advice}', or 'auto'"
            )
        if self.inference == "bootstrap" and advice == "subsample":
            warn_weights(
                f"WeightedEffect: the bootstrap is not known to be valid for the weights of {name}"
                ", which minimise a distance exactly; pass inference='subsample'"
            )
        if self.inference != "auto":
            return self.inference
        return advice if equations is None else "influence"

    def _store_estimate(self, estimate: Estimate) -> None:
        """Set what the fit on all rows gives."""
        self.weighter_ = estimate.weighter
        self.raw_weights_ = estimate.weights
        if estimate.weights.min() >= 0:
            self.weights_ = estimate.weights
        self.effect_ = self._shaped(estimate.means.effect)
        self.potential_means_ = self._shaped(estimate.means.means)
        if estimate.models is not None:
            self.outcome_estimators_ = estimate.models.estimators
            self.outcome_predictions_ = self._shaped(estimate.models.predictions)

    def _shaped(self, values: NDArray) -> Any:
        """Without the axis of outcomes if there is one; a number if nothing else is left."""
        if not self._one_output:
            return values
        values = values[..., 0]
        return float(values) if values.ndim == 0 else values

    def _store_influence(
        self,
        estimate: Estimate,
        equations: EstimatingEquations | None,
        codes: NDArray[np.intp] | None,
    ) -> None:
        """Set standard errors from the influence of each row."""
        influence = effect_influence(estimate.means, equations, self.estimand_ == "ATO")
        squares = squared_influence(influence, codes)
        variance = squares.sum(axis=0)
        share = (squares.max(axis=0) / np.where(variance > 0, variance, 1.0)).max()
        if share > LARGE_SHARE:
            warn_weights(
                f"WeightedEffect: one {'row' if codes is None else 'group'} carries {share:.0%} of "
                "the variance of the effect, so that its normal interval will mislead; look at "
                "influence_function_ and at reweight.weight_report of the weights"
            )
        self.influence_function_ = self._shaped(influence)
        self._set_inference(Inference(estimate.means.effect, np.sqrt(variance)))

    def _set_inference(self, inference: Inference) -> None:
        self._inference = inference
        self.stderr_ = self._shaped(inference.stderr)

    def confint(self, confidence_level: float = 0.95) -> NDArray[np.float64]:
        """Confidence intervals of the effects.

        Normal for "influence" and "robust", quantiles of the draws for
        "bootstrap", rescaled quantiles of deviations for "subsample".

        Parameters
        ----------
        confidence_level : float, default=0.95
            Probability that an interval covers the effect, between 0 and 1.

        Returns
        -------
        ndarray of shape (n_outputs, 2)
            Lower and upper limits.
        """
        check_is_fitted(self, "effect_")
        if not 0 < confidence_level < 1:
            raise ValueError(
                f"WeightedEffect: confidence_level is {confidence_level!r}; pass a number between "
                "0 and 1, such as 0.95"
            )
        return self._inference.interval(confidence_level)

    def summary(self, confidence_level: float = 0.95) -> "pd.DataFrame":
        """Effects, their standard errors, tests of no effect, and intervals.

        Parameters
        ----------
        confidence_level : float, default=0.95
            Level of the intervals.

        Returns
        -------
        pandas.DataFrame
            One row per outcome: estimate, stderr, z, p_value (two-sided,
            normal), lower, upper. `attrs` has estimand, inference and
            confidence_level.
        """
        import pandas as pd

        interval = self.confint(confidence_level)
        effect, stderr = self._inference.effect, self._inference.stderr
        with np.errstate(divide="ignore", invalid="ignore"):
            z = effect / stderr
        table = pd.DataFrame(
            {
                "estimate": effect,
                "stderr": stderr,
                "z": z,
                "p_value": 2 * norm.sf(np.abs(z)),
                "lower": interval[:, 0],
                "upper": interval[:, 1],
            },
            index=pd.Index(self.outcome_names_, name="outcome"),
        )
        table.attrs = {
            "estimand": self.estimand_,
            "inference": self.inference_,
            "confidence_level": confidence_level,
        }
        return table

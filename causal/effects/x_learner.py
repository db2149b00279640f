"""The X-learner: each arm's outcomes against the other arm's model."""

from numbers import Real
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import is_classifier
from sklearn.utils._param_validation import HasMethods, Interval

from causal.effects._arm_models import check_outcome, check_two_arms, draw_seed, fit_on_rows
from causal.effects._default_models import StandardizedLogistic, StandardizedRidge
from causal.effects._learner import SCORING_CONSTRAINT, EffectLearner
from causal.effects._outcome_designs import predict_mean


class XLearner(EffectLearner):
    r"""Heterogeneous effects from imputed effects of both arms.

    With outcome models :math:`\mu_0, \mu_1`, the treated have the imputed effects
    :math:`y - \mu_0(x)` and the controls :math:`\mu_1(x) - y`. Regressions
    :math:`\tau_1, \tau_0` of these are combined to
    :math:`e(x) \tau_0(x) + (1 - e(x)) \tau_1(x)`, so that the model of the larger
    arm serves the smaller one. Suited to arms of very different size.

    Parameters
    ----------
    outcome_estimator : estimator, default=None
        Regressor; or a classifier with `predict_proba` for an outcome of 0 and
        1. None is the ridge regression of `CrossFitter`.
    effect_estimator : regressor, default=None
        Model of imputed effects; None is `outcome_estimator` if that is a
        regressor, else the ridge regression of `CrossFitter`.
    treatment_estimator : classifier or float, default=None
        Model of the propensity, fitted on all rows, or the propensity itself.
        None is the logistic regression of `CrossFitter`.
    propensity_clip : float, default=0.0
        Propensities are moved into [propensity_clip, 1 - propensity_clip]. They
        are weights here, and never divided by.
    scoring : {"r", "dr"}, default="r"
        What `score` is made of.
    random_state : int, RandomState instance or None, default=None
        Seeds every unset `random_state` of the models.

    Attributes
    ----------
    mu0_model_, mu1_model_ : estimator
        Fitted to the controls and to the treated.
    tau0_model_, tau1_model_ : estimator
        Fitted to the imputed effects of the controls and of the treated.
    treatment_model_ : estimator or float
        The propensity.
    classes_ : ndarray of shape (2,)
        Control label, treated label.
    n_features_in_ : int
        Number of covariates.
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Their names, when X has string column names.

    References
    ----------
    Kunzel, S., Sekhon, J., Bickel, P., Yu, B. (2019). Metalearners for
    estimating heterogeneous treatment effects using machine learning. PNAS,
    116(10), 4156-4165.

    Examples
    --------
    >>> from causal import XLearner, make_cate
    >>> study = make_cate(500, setup="D", random_state=0)
    >>> learner = XLearner().fit(study.X, study.y, treatment=study.treatment)
    >>> learner.predict(study.X).shape
    (500,)
    """

    _parameter_constraints = {
        "outcome_estimator": [HasMethods(["fit", "predict"]), None],
        "effect_estimator": [HasMethods(["fit", "predict"]), None],
        "treatment_estimator": [
            HasMethods(["fit", "predict_proba"]),
            Interval(Real, 0, 1, closed="neither"),
            None,
        ],
        "propensity_clip": [Interval(Real, 0, 0.5, closed="left")],
        "scoring": SCORING_CONSTRAINT,
        "random_state": ["random_state"],
    }

    def __init__(
        self,
        outcome_estimator: Any = None,
        effect_estimator: Any = None,
        treatment_estimator: Any = None,
        *,
        propensity_clip: float = 0.0,
        scoring: str = "r",
        random_state: int | np.random.RandomState | None = None,
    ) -> None:
        self.outcome_estimator = outcome_estimator
        self.effect_estimator = effect_estimator
        self.treatment_estimator = treatment_estimator
        self.propensity_clip = propensity_clip
        self.scoring = scoring
        self.random_state = random_state

    def _models(self) -> tuple[Any, ...]:
        effect = self.effect_estimator
        return (self.outcome_estimator, self.treatment_estimator) + (
            () if effect is None else (effect,)
        )

    def fit(
        self,
        X: Any,
        y: ArrayLike,
        *,
        treatment: ArrayLike | None = None,
        sample_weight: ArrayLike | None = None,
    ) -> "XLearner":
        """Fit outcomes, imputed effects and the propensity.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Covariates.
        y : array-like of shape (n_samples,) or (n_samples, 2), (n_samples, 4), (n_samples, 6)
            Outcome; or the target array, whose nuisances are not used here.
        treatment : array-like of shape (n_samples,), default=None
            Treatment of two arms, if it is not in `y`.
        sample_weight : array-like of shape (n_samples,), default=None
            Sampling weights.

        Returns
        -------
        XLearner

        Raises
        ------
        ValueError
            If the treatment is missing or does not have two arms, or a number
            is not finite.
        """
        self._validate_params()
        name = type(self).__name__
        data = self._read(X, y, treatment, sample_weight=sample_weight)
        check_two_arms(data, name)
        model = StandardizedRidge() if self.outcome_estimator is None else self.outcome_estimator
        check_outcome(model, data.y, name)
        seed, s = draw_seed(self.random_state), data.sample_weight
        controls, treated = data.treatment == 0, data.treatment == 1
        self.mu0_model_ = fit_on_rows(model, data.X, data.y, controls, s, seed, name)
        self.mu1_model_ = fit_on_rows(model, data.X, data.y, treated, s, seed, name)
        effect_model = self._effect_model(model)
        imputed = np.where(
            treated,
            data.y - predict_mean(self.mu0_model_, data.X),
            predict_mean(self.mu1_model_, data.X) - data.y,
        )
        self.tau0_model_ = fit_on_rows(effect_model, data.X, imputed, controls, s, seed, name)
        self.tau1_model_ = fit_on_rows(effect_model, data.X, imputed, treated, s, seed, name)
        self.treatment_model_ = self.treatment_estimator
        if not isinstance(self.treatment_estimator, Real):
            classifier = self.treatment_estimator or StandardizedLogistic()
            everyone = controls | treated
            self.treatment_model_ = fit_on_rows(
                classifier, data.X, data.treatment.astype(int), everyone, s, seed, name
            )
        self._training = data
        return self

    def _effect_model(self, outcome_model: Any) -> Any:
        if self.effect_estimator is not None:
            return self.effect_estimator
        return StandardizedRidge() if is_classifier(outcome_model) else outcome_model

    def predict(self, X: Any) -> NDArray[np.float64]:
        """Effect at each row.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Covariates.

        Returns
        -------
        ndarray of shape (n_samples,)
        """
        X = self._later_rows(X)
        e = self.treatment_model_
        if not isinstance(e, Real):
            e = predict_mean(e, X).clip(self.propensity_clip, 1 - self.propensity_clip)
        return e * predict_mean(self.tau0_model_, X) + (1 - e) * predict_mean(self.tau1_model_, X)

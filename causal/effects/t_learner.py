"""The T-learner: two models, one for each arm."""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.utils._param_validation import HasMethods

from causal.effects._arm_models import check_outcome, check_two_arms, draw_seed, fit_on_rows
from causal.effects._default_models import StandardizedRidge
from causal.effects._learner import SCORING_CONSTRAINT, EffectLearner
from causal.effects._outcome_designs import predict_mean


class TLearner(EffectLearner):
    """Heterogeneous effects as the difference of two outcome models, one for each arm.

    Each model is fitted to all rows of its arm. It is hard to beat where the
    arms have nothing in common; else each arm's regularisation errors show up
    as effects.

    Parameters
    ----------
    outcome_estimator : estimator, default=None
        Regressor; or a classifier with `predict_proba` for an outcome of 0 and
        1. None is the ridge regression of `CrossFitter`.
    scoring : {"r", "dr"}, default="r"
        What `score` is made of.
    random_state : int, RandomState instance or None, default=None
        Seeds every unset `random_state` of the models.

    Attributes
    ----------
    mu0_model_, mu1_model_ : estimator
        Fitted to the controls and to the treated.
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
    >>> from causal import TLearner, make_cate
    >>> study = make_cate(500, setup="D", random_state=0)
    >>> learner = TLearner().fit(study.X, study.y, treatment=study.treatment)
    >>> learner.predict(study.X).shape
    (500,)
    """

    _parameter_constraints = {
        "outcome_estimator": [HasMethods(["fit", "predict"]), None],
        "scoring": SCORING_CONSTRAINT,
        "random_state": ["random_state"],
    }

    def __init__(
        self,
        outcome_estimator: Any = None,
        *,
        scoring: str = "r",
        random_state: int | np.random.RandomState | None = None,
    ) -> None:
        self.outcome_estimator = outcome_estimator
        self.scoring = scoring
        self.random_state = random_state

    def fit(
        self,
        X: Any,
        y: ArrayLike,
        *,
        treatment: ArrayLike | None = None,
        sample_weight: ArrayLike | None = None,
    ) -> "TLearner":
        """Fit the outcome model of each arm.

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
        TLearner

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
        seed = draw_seed(self.random_state)
        self.mu0_model_, self.mu1_model_ = (
            fit_on_rows(
                model, data.X, data.y, data.treatment == arm, data.sample_weight, seed, name
            )
            for arm in (0, 1)
        )
        self._training = data
        return self

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
        return predict_mean(self.mu1_model_, X) - predict_mean(self.mu0_model_, X)

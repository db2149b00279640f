"""The S-learner: one model that sees the treatment as a column."""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import clone
from sklearn.utils._param_validation import HasMethods, StrOptions

from causal.effects._arm_models import check_outcome, draw_seed, fit_on_rows
from causal.effects._default_models import StandardizedRidge
from causal.effects._learner import SCORING_CONSTRAINT, EffectLearner
from causal.effects._outcome_designs import predict_mean, with_treatment_column

DOSES = (0.25, 0.75)


class SLearner(EffectLearner):
    """Heterogeneous effects from one outcome model on covariates and treatment.

    The effect is the difference of its predictions under two treatments: 1 and
    0; or the quartiles of a continuous treatment, divided by their distance.
    Regularisation pulls the effect towards zero, and a model without
    interactions sees the same effect for all.

    Parameters
    ----------
    outcome_estimator : estimator, default=None
        Regressor; or a classifier with `predict_proba` for an outcome of 0 and
        1. It sees the treatment as its last column. None is RidgeCV on
        standardised columns, which finds a constant effect only.
    discrete_treatment : bool or "auto", default="auto"
        Whether there are two arms, as in `CrossFitter`.
    scoring : {"r", "dr"}, default="r"
        What `score` is made of.
    random_state : int, RandomState instance or None, default=None
        Seeds every unset `random_state` of the model.

    Attributes
    ----------
    outcome_model_ : estimator
        Fitted to covariates and treatment.
    doses_ : ndarray of shape (2,)
        The two treatments whose predictions are compared.
    classes_ : ndarray of shape (2,) or None
        Control label, treated label; None for a continuous treatment.
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
    >>> from sklearn.ensemble import HistGradientBoostingRegressor
    >>> from causal import SLearner, make_cate
    >>> study = make_cate(500, setup="C", random_state=0)
    >>> learner = SLearner(HistGradientBoostingRegressor(random_state=0))
    >>> learner.fit(study.X, study.y, treatment=study.treatment).predict(study.X).shape
    (500,)
    """

    _parameter_constraints = {
        "outcome_estimator": [HasMethods(["fit", "predict"]), None],
        "discrete_treatment": ["boolean", StrOptions({"auto"})],
        "scoring": SCORING_CONSTRAINT,
        "random_state": ["random_state"],
    }

    def __init__(
        self,
        outcome_estimator: Any = None,
        *,
        discrete_treatment: bool | str = "auto",
        scoring: str = "r",
        random_state: int | np.random.RandomState | None = None,
    ) -> None:
        self.outcome_estimator = outcome_estimator
        self.discrete_treatment = discrete_treatment
        self.scoring = scoring
        self.random_state = random_state

    def fit(
        self,
        X: Any,
        y: ArrayLike,
        *,
        treatment: ArrayLike | None = None,
        sample_weight: ArrayLike | None = None,
    ) -> "SLearner":
        """Fit the outcome model.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Covariates.
        y : array-like of shape (n_samples,) or (n_samples, 2), (n_samples, 4), (n_samples, 6)
            Outcome; or the target array, whose nuisances are not used here.
        treatment : array-like of shape (n_samples,), default=None
            Treatment, if it is not in `y`.
        sample_weight : array-like of shape (n_samples,), default=None
            Sampling weights.

        Returns
        -------
        SLearner

        Raises
        ------
        ValueError
            If the treatment is missing or has one value, or a number is not
            finite.
        """
        self._validate_params()
        name = type(self).__name__
        data = self._read(X, y, treatment, sample_weight=sample_weight)
        model = StandardizedRidge() if self.outcome_estimator is None else self.outcome_estimator
        check_outcome(model, data.y, name)
        self.doses_ = np.array([0.0, 1.0])
        if not data.binary:
            self.doses_ = np.quantile(data.treatment, DOSES)
            if self.doses_[0] == self.doses_[1]:
                raise ValueError(
                    f"{name}: the quartiles of treatment are both {self.doses_[0]:g}, so that no "
                    "slope can be read off between them; use RLearner"
                )
        self.outcome_model_ = fit_on_rows(
            clone(model),
            with_treatment_column(data.X, data.treatment),
            data.y,
            np.ones(len(data.y), dtype=bool),
            data.sample_weight,
            draw_seed(self.random_state),
            name,
        )
        self._training = data
        return self

    def predict(self, X: Any) -> NDArray[np.float64]:
        """Effect of one unit of treatment at each row.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Covariates.

        Returns
        -------
        ndarray of shape (n_samples,)
        """
        X = self._later_rows(X)
        low, high = (
            predict_mean(self.outcome_model_, with_treatment_column(X, dose))
            for dose in self.doses_
        )
        return (high - low) / (self.doses_[1] - self.doses_[0])

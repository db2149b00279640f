"""The nuisance models that are used where the user names none, as estimators.

Their fits to all folds at once, in `_linear_nuisances`, are the same to rounding.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin
from sklearn.utils.validation import validate_data

from causal.effects._linear_nuisances import (
    DEFAULT_LOGISTIC,
    DEFAULT_RIDGE,
    Design,
    RidgeTask,
    logistic_by_fold,
    ridge_by_fold,
)

Array = NDArray[np.float64]


def _one_fold(X: Array, sample_weight: Array | None) -> Design:
    """All rows as the training part of one model."""
    return Design.of(X, sample_weight, np.zeros(len(X), dtype=np.intp), np.ones((1, 1), dtype=bool))


class StandardizedRidge(RegressorMixin, BaseEstimator):
    """Ridge on columns of weighted deviation one, penalty by generalised cross-validation."""

    def fit(self, X: Any, y: Any, sample_weight: Array | None = None) -> "StandardizedRidge":
        """Fit to all rows."""
        X, y = validate_data(self, X, y, dtype=np.float64, y_numeric=True)
        weight = None if sample_weight is None else np.asarray(sample_weight, dtype=np.float64)
        design = _one_fold(X, weight)
        Y = np.asarray(y, dtype=np.float64)[:, None]
        coefficients = ridge_by_fold(design, Y, None, [RidgeTask(DEFAULT_RIDGE, 0, None)])[0]
        self.coef_ = coefficients[:-1, 0]
        self.intercept_ = float(coefficients[-1, 0] - design.center @ self.coef_)
        return self

    def predict(self, X: Any) -> Array:
        """Mean outcome of each row."""
        X = validate_data(self, X, dtype=np.float64, reset=False)
        return X @ self.coef_ + self.intercept_


class StandardizedLogistic(ClassifierMixin, BaseEstimator):
    """Logistic regression of 0 and 1 with C=1 on columns of weighted deviation one."""

    def fit(self, X: Any, y: Any, sample_weight: Array | None = None) -> "StandardizedLogistic":
        """Fit to all rows."""
        X, y = validate_data(self, X, y, dtype=np.float64)
        weight = None if sample_weight is None else np.asarray(sample_weight, dtype=np.float64)
        self.classes_ = np.array([0, 1])
        design = _one_fold(X, weight)
        t = np.asarray(y, dtype=np.float64)
        coefficients = logistic_by_fold(design, t, DEFAULT_LOGISTIC, owner="propensity")
        self.coef_ = coefficients[:-1, 0]
        self.intercept_ = float(coefficients[-1, 0] - design.center @ self.coef_)
        return self

    def predict_proba(self, X: Any) -> Array:
        """Probability of 0 and of 1."""
        X = validate_data(self, X, dtype=np.float64, reset=False)
        e = expit(X @ self.coef_ + self.intercept_)
        return np.column_stack([1.0 - e, e])

    def predict(self, X: Any) -> NDArray[np.intp]:
        """The more probable of 0 and 1."""
        return (self.predict_proba(X)[:, 1] > 0.5).astype(np.intp)

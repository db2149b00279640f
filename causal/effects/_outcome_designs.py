"""Models in the form that cross-fitting knows: one fit, one row of predictions."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix, hstack, issparse
from sklearn.base import BaseEstimator, clone, is_classifier

from reweight.validation import count_rows
from reweight.weighted_fit import weighted_fit

Array = NDArray[np.float64]
TREATMENT_COLUMN = "treatment"


def with_treatment_column(X: Any, treatment: Array | float) -> Any:
    """Covariates with the treatment as their last column.

    Parameters
    ----------
    X : array, data frame or sparse matrix of shape (n_samples, n_features)
        Covariates.
    treatment : ndarray of shape (n_samples,) or float
        Treatment, or the same one for all rows.

    Returns
    -------
    array, data frame or sparse matrix of shape (n_samples, n_features + 1)
        In the container of X; the new column of a data frame is called
        "treatment", with underscores before it if that name is taken.
    """
    column = np.broadcast_to(np.asarray(treatment, dtype=np.float64), (count_rows(X),)).copy()
    if issparse(X):
        return csr_matrix(hstack([X, column[:, None]]))
    if isinstance(X, np.ndarray):
        return np.column_stack([X, column])
    import narwhals.stable.v1 as nw

    if hasattr(X, "set_axis"):
        # Estimators refuse names of which some are words.
        X = X.set_axis([str(name) for name in X.columns], axis=1)
    frame = nw.from_native(X, eager_only=True)
    name = TREATMENT_COLUMN
    while name in frame.columns:
        name = f"_{name}"
    if hasattr(X, "assign"):
        return X.assign(**{name: column})
    series = nw.new_series(name, column, backend=nw.get_native_namespace(frame))
    return frame.with_columns(series).to_native()


def predict_mean(model: Any, X: Any) -> Array:
    """Mean outcome that a fitted regressor, or a classifier of 0 and 1, predicts.

    Parameters
    ----------
    model : estimator
        Fitted model.
    X : array-like of shape (n_samples, n_features)
        Covariates.

    Returns
    -------
    ndarray of shape (n_samples,)
    """
    if is_classifier(model):
        place = np.flatnonzero(np.asarray(model.classes_) == 1)
        return model.predict_proba(X)[:, place[0]] if len(place) else np.zeros(count_rows(X))
    return np.asarray(model.predict(X), dtype=np.float64).reshape(count_rows(X))


class BothArms(BaseEstimator):
    """One model of the outcome on covariates and treatment, its last column.

    Parameters
    ----------
    estimator : estimator
        Regressor, or classifier of outcomes 0 and 1.
    """

    def __init__(self, estimator: Any) -> None:
        self.estimator = estimator

    def fit(self, X: Any, y: Array, sample_weight: Array | None = None) -> "BothArms":
        """Fit the model."""
        y = y.astype(int) if is_classifier(self.estimator) else y
        self.estimator_ = weighted_fit(
            clone(self.estimator), X, y, sample_weight, owner="outcome_model='single'"
        )
        return self

    def predict(self, X: Any) -> Array:
        """Mean outcome as a control and as treated, of shape (n_samples, 2)."""
        return np.column_stack([self.predict_at(X, arm) for arm in (0.0, 1.0)])

    def predict_at(self, X: Any, treatment: float) -> Array:
        """Mean outcome of rows whose last column is replaced by one treatment."""
        if issparse(X) or isinstance(X, np.ndarray):
            bare = X[:, :-1]
        else:
            import narwhals.stable.v1 as nw

            frame = nw.from_native(X, eager_only=True)
            bare = frame.select(frame.columns[:-1]).to_native()
        return predict_mean(self.estimator_, with_treatment_column(bare, treatment))


class WeighterPropensity(BaseEstimator):
    """The propensity of treatment and of control that the weights of a Weighter stand for.

    ATE weights are inverse propensities: before they are scaled to mean one
    within an arm, those of the treated sum to the total weight of all rows.

    Parameters
    ----------
    weighter : Weighter
        With `predict_propensity`, or with `predict_weights` and estimand "ATE".
    """

    def __init__(self, weighter: Any) -> None:
        self.weighter = weighter

    def fit(self, X: Any, y: Array, sample_weight: Array | None = None) -> "WeighterPropensity":
        """Fit the weighter to covariates and treatment."""
        arm = y.astype(int)
        self.weighter_ = weighted_fit(
            clone(self.weighter), X, arm, sample_weight, owner="treatment_estimator"
        )
        total = float(len(y)) if sample_weight is None else float(np.sum(sample_weight))
        self.shares_ = np.bincount(arm, minlength=2) / total
        return self

    def predict(self, X: Any) -> Array:
        """Propensity of treatment and of control, of shape (n_samples, 2)."""
        if hasattr(self.weighter_, "predict_propensity"):
            e = self.weighter_.predict_propensity(X)
            return np.column_stack([e, 1.0 - e])
        n = count_rows(X)
        columns = []
        for arm in (1, 0):
            weights = self.weighter_.predict_weights(X, np.full(n, arm))
            columns.append(self.shares_[arm] / np.maximum(weights, np.finfo(float).tiny))
        return np.column_stack(columns)

"""Predictions by a model that an estimator holds."""

from typing import Any

from numpy.typing import ArrayLike, NDArray
from sklearn.utils.metaestimators import available_if
from sklearn.utils.validation import check_is_fitted


def _has(name: str):
    """Whether the model has a method, with its own words if it has not."""
    return available_if(lambda self: getattr(self._model(), name) is not None)


class PredictsByModel:
    """Methods of `estimator_`, or before the fit of what `_unfitted` names, that it has."""

    _unfitted = "estimator"

    def _model(self) -> Any:
        return getattr(self, "estimator_", getattr(self, self._unfitted))

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "estimator_")

    @_has("predict")
    def predict(self, X: Any) -> NDArray:
        """Predictions of the averaged model.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Features.

        Returns
        -------
        ndarray of shape (n_samples,)
        """
        check_is_fitted(self)
        return self.estimator_.predict(X)

    @_has("predict_proba")
    def predict_proba(self, X: Any) -> NDArray:
        """Class probabilities of the averaged model.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Features.

        Returns
        -------
        ndarray of shape (n_samples, n_classes)
        """
        check_is_fitted(self)
        return self.estimator_.predict_proba(X)

    @_has("decision_function")
    def decision_function(self, X: Any) -> NDArray:
        """Decision values of the averaged model.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Features.

        Returns
        -------
        ndarray of shape (n_samples,) or (n_samples, n_classes)
        """
        check_is_fitted(self)
        return self.estimator_.decision_function(X)

    @_has("score")
    def score(self, X: Any, y: ArrayLike, sample_weight: ArrayLike | None = None) -> float:
        """Score of the averaged model: accuracy of a classifier, R² of a regressor.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Features.
        y : array-like of shape (n_samples,)
            Responses.
        sample_weight : array-like of shape (n_samples,), default=None
            Weights.

        Returns
        -------
        float
        """
        check_is_fitted(self)
        return self.estimator_.score(X, y, sample_weight=sample_weight)

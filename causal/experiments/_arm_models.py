"""What the fitted models of two arms answer, arm by arm."""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.utils.metaestimators import available_if
from sklearn.utils.validation import check_is_fitted

from causal.experiments._rows import read_features
from causal.experiments.arm_weighter import arm_weights
from reweight.validation import check_sample_weight
from reweight.weighted_fit import weighted_score

ARMS = ("control", "treatment")


def estimator_has(name: str) -> Callable[[Any], bool]:
    """Whether the estimator has a method, for `available_if`."""
    return lambda self: hasattr(self.estimator, name)


class ArmModels:
    """Predictions and scores of `control_model_` and `treatment_model_`."""

    @available_if(estimator_has("predict"))
    def predict(self, X: Any, arm: str | None = None) -> NDArray:
        """Predictions of the model of one arm.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Features.
        arm : {"treatment", "control"}, default=None
            Whose model predicts; may be left out only if there is one model.

        Returns
        -------
        ndarray of shape (n_samples,) or (n_samples, n_outputs)

        Raises
        ------
        ValueError
            If the arm is missing or unknown.
        """
        return self._model(arm).predict(self._new_rows(X))

    @available_if(estimator_has("predict_proba"))
    def predict_proba(self, X: Any, arm: str | None = None) -> NDArray:
        """Class probabilities of the model of one arm.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Features.
        arm : {"treatment", "control"}, default=None
            Whose model predicts; may be left out only if there is one model.

        Returns
        -------
        ndarray of shape (n_samples, n_classes)

        Raises
        ------
        ValueError
            If the arm is missing or unknown.
        """
        return self._model(arm).predict_proba(self._new_rows(X))

    @available_if(estimator_has("decision_function"))
    def decision_function(self, X: Any, arm: str | None = None) -> NDArray:
        """Decision values of the model of one arm.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Features.
        arm : {"treatment", "control"}, default=None
            Whose model decides; may be left out only if there is one model.

        Returns
        -------
        ndarray of shape (n_samples,) or (n_samples, n_classes)

        Raises
        ------
        ValueError
            If the arm is missing or unknown.
        """
        return self._model(arm).decision_function(self._new_rows(X))

    @available_if(estimator_has("score"))
    def score(
        self,
        X: Any,
        y: ArrayLike,
        arm: str | None = None,
        sample_weight: ArrayLike | None = None,
    ) -> float:
        """Score of the model of one arm, or the mean of both.

        With `method="weighted"` rows are weighted to the law of the arm whose
        model is scored, so that searches choose the model that serves it.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Features.
        y : array-like of shape (n_samples,) or (n_samples, n_outputs)
            What the model predicts.
        arm : {"treatment", "control"}, default=None
            Whose model is scored; None is the mean of both scores.
        sample_weight : array-like of shape (n_samples,), default=None
            Sampling weights.

        Returns
        -------
        float
        """
        check_is_fitted(self, "treatment_model_")
        if arm is None and self.method == "pooling":
            arm = "control"
        scores = []
        for name in ARMS if arm is None else (arm,):
            model, rows, weights = self._model(name), self._new_rows(X), sample_weight
            if self.method == "weighted":
                G = self.weighter_.predict_arm_probability(X)
                own = arm_weights(G, self.treatment_prob_, name)
                weights = own if sample_weight is None else own * check_sample_weight(weights, X)
            scores.append(weighted_score(model, rows, y, weights, owner=type(self).__name__))
        return float(np.mean(scores))

    def _model(self, arm: str | None) -> Any:
        """The model of an arm."""
        check_is_fitted(self, "treatment_model_")
        if arm is None and self.method == "pooling":
            arm = "control"
        if not isinstance(arm, str) or arm not in ARMS:
            raise ValueError(
                f"{type(self).__name__}: arm is {arm!r}; pass 'treatment' or 'control' to say "
                "whose model is meant"
            )
        return self.treatment_model_ if arm == "treatment" else self.control_model_

    def _new_rows(self, X: Any) -> Any:
        return read_features(self, X, self._feature_models(), reset=False)

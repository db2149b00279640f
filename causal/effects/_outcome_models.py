"""Outcome models of the two arms and what they predict for every row."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import is_classifier

from reweight.cross_fitting import CrossFit, cross_fit

Array = NDArray[np.float64]


@dataclass(frozen=True)
class OutcomeModels:
    """Fitted outcome models and their predictions.

    Parameters
    ----------
    predictions : ndarray of shape (2, n_samples, n_outputs)
        Predicted outcome of every row as a control and as a treated row.
    estimators : list of list of list of estimators
        Fitted models by arm, outcome and fold.
    """

    predictions: Array
    estimators: list[list[list[Any]]]


def fit_outcome_models(
    estimator: Any,
    X: Any,
    y: Array,
    treated: NDArray[np.bool_],
    *,
    sample_weight: Array | None,
    folds: list[tuple[NDArray[np.intp], NDArray[np.intp]]] | None,
    n_jobs: int | None = None,
) -> OutcomeModels:
    """Fit one outcome model for each arm and outcome, and predict all rows.

    Parameters
    ----------
    estimator : estimator
        Regressor, or classifier of outcomes 0 and 1 with `predict_proba`.
    X : array, data frame or sparse matrix of shape (n_samples, n_features)
        Covariates.
    y : ndarray of shape (n_samples, n_outputs)
        Outcomes.
    treated : ndarray of bool of shape (n_samples,)
        Whether the row is treated.
    sample_weight : ndarray of shape (n_samples,) or None
        Sampling weights.
    folds : list of (train, test), or None
        Rows to fit on and to predict; None fits on all rows of the arm and
        predicts all rows.
    n_jobs : int, default=None
        Number of jobs, over folds.

    Returns
    -------
    OutcomeModels
    """
    everyone = np.arange(len(y))
    folds = folds or [(everyone, everyone)]
    classifier = is_classifier(estimator)
    predictions, estimators = np.empty((2, *y.shape)), []
    for arm in (0, 1):
        rows = treated == arm
        arm_folds = [(train[rows[train]], test) for train, test in folds]
        estimators.append([])
        for j, outcome in enumerate(y.T):
            fit = cross_fit(
                estimator,
                X,
                outcome.astype(int) if classifier else outcome,
                cv=arm_folds,
                method="predict_proba" if classifier else "predict",
                sample_weight=sample_weight,
                n_jobs=n_jobs,
            )
            predictions[arm, :, j] = _mean_outcome(fit)
            estimators[arm].append(fit.estimators)
    return OutcomeModels(predictions, estimators)


def _mean_outcome(fit: CrossFit) -> Array:
    """Predicted mean of each row: the prediction, or the probability of one."""
    if fit.classes is None:
        return np.asarray(fit.predictions, dtype=np.float64).reshape(len(fit.predictions))
    return fit.predictions @ fit.classes.astype(np.float64)

"""Models of learners that fit on all rows, without cross-fitting."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import is_classifier
from sklearn.utils import check_random_state

from causal.effects._effect_data import EffectData
from causal.effects._study import seeded_clone
from reweight.validation import take_rows
from reweight.weighted_fit import weighted_fit


def fit_on_rows(
    model: Any,
    X: Any,
    y: NDArray,
    rows: NDArray[np.bool_],
    sample_weight: NDArray | None,
    random_state: int,
    owner: str,
) -> Any:
    """A fitted clone of a model on some rows.

    Parameters
    ----------
    model : estimator
        Not fitted itself.
    X : array, data frame or sparse matrix of shape (n_samples, n_features)
        Covariates.
    y : ndarray of shape (n_samples,)
        Response.
    rows : ndarray of bool of shape (n_samples,)
        Rows to fit on.
    sample_weight : ndarray of shape (n_samples,) or None
        Sampling weights.
    random_state : int
        For unset `random_state` of the model.
    owner : str
        Who is asking.

    Returns
    -------
    estimator
    """
    model = seeded_clone(model, random_state)
    index = np.flatnonzero(rows)
    X_rows, y_rows = take_rows(model, X, y, index)
    y_rows = y_rows.astype(int) if is_classifier(model) else y_rows
    weight = None if sample_weight is None else sample_weight[index]
    return weighted_fit(model, X_rows, y_rows, weight, owner=owner)


def check_two_arms(data: EffectData, owner: str) -> None:
    """Raise if the treatment is continuous."""
    if not data.binary:
        raise ValueError(
            f"{owner}: the treatment is continuous, so that there are no two arms; use RLearner or "
            "SLearner"
        )


def check_outcome(model: Any, y: NDArray, owner: str) -> None:
    """Raise if a classifier cannot serve the outcome."""
    if not is_classifier(model):
        return
    others = np.setdiff1d(y, [0.0, 1.0])
    if others.size or not hasattr(model, "predict_proba"):
        shown = f"y has the value {others[0]:g}" if others.size else "it has no predict_proba"
        raise ValueError(
            f"{owner}: outcome_estimator {type(model).__name__} is a classifier, which serves "
            f"outcomes 0 and 1 by predict_proba, but {shown}; recode y, or pass a regressor"
        )


def draw_seed(random_state: Any) -> int:
    """An int from an int, a generator or None."""
    return int(check_random_state(random_state).randint(np.iinfo(np.int32).max))

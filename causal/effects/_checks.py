"""Checks of what users pass to `WeightedEffect`."""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.sparse import issparse
from sklearn.base import is_classifier
from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold, check_cv

from causal.effects._study import TARGETS, Folds, last_step
from reweight.validation import check_magnitude, lists_as_array, refuse_no_rows


def indexable_rows(X: Any, *, owner: str) -> Any:
    """Data frames and sparse matrices as they are, anything else as an array.

    Parameters
    ----------
    X : array-like of shape (n_samples, n_features)
        Covariates.
    owner : str
        Who is asking, for error messages.

    Returns
    -------
    array, data frame or sparse matrix of shape (n_samples, n_features)
    """
    import narwhals.stable.v1 as nw

    refuse_no_rows(X, name=owner)
    if nw.dependencies.is_into_dataframe(X):
        return X
    return X.tocsr() if issparse(X) else np.asarray(lists_as_array(X, name=owner))


def split_outcome(y: Any, treatment: ArrayLike | None) -> tuple[NDArray, NDArray, list[str]]:
    """Outcomes, treatment and the names of the outcomes.

    Parameters
    ----------
    y : array-like of shape (n_samples,) or (n_samples, n_outputs)
        Outcomes, or the two columns outcome and treatment.
    treatment : array-like of shape (n_samples,) or None
        Treatment, if it is not in `y`.

    Returns
    -------
    outcome : ndarray of shape (n_samples,) or (n_samples, n_outputs)
    treatment : ndarray of shape (n_samples,)
    names : list of str
    """
    if y is None:
        raise ValueError(
            "WeightedEffect requires y to be passed, but the target y is None; pass the outcome "
            "as fit(X, y, treatment=treatment)"
        )
    names = _names(y)
    values = np.asarray(y)
    if treatment is None:
        if values.ndim != 2 or values.shape[1] != 2:
            raise ValueError(
                f"WeightedEffect: treatment is required, but y has shape {values.shape}; pass "
                "treatment=, or a y of the two columns outcome and treatment"
            )
        values, treatment, names = values[:, 0], values[:, 1], names[:1]
        # A table of numbers and words has neither type; its columns do.
        treatment = np.array(treatment.tolist()) if treatment.dtype == object else treatment
    outcome = _numbers(values)
    if outcome.ndim == 1:
        return outcome, np.asarray(treatment), names or ["y"]
    return outcome, np.asarray(treatment), names or [f"y{j}" for j in range(outcome.shape[1])]


def _names(y: Any) -> list[str]:
    """Names of the columns of a data frame or of a series, if it has any."""
    if hasattr(y, "columns"):
        return [str(name) for name in y.columns]
    name = getattr(y, "name", None)
    return [] if name in (None, "") else [str(name)]


def _numbers(values: NDArray) -> NDArray[np.float64]:
    """Outcomes as finite float64."""
    if values.dtype.kind == "c":
        raise ValueError("WeightedEffect: Complex data not supported in y; pass real outcomes")
    try:
        outcome = values.astype(np.float64)
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"WeightedEffect: y is not numeric ({error}); encode outcomes as numbers, a yes or no "
            "as 1 or 0"
        ) from error
    if outcome.ndim not in (1, 2) or outcome.size == 0:
        raise ValueError(
            f"WeightedEffect: y has shape {outcome.shape}; pass (n_samples,) or "
            "(n_samples, n_outputs) with at least one row"
        )
    bad = int((~np.isfinite(outcome)).sum())
    if bad:
        raise ValueError(
            f"WeightedEffect: y contains {bad} NaN or infinite entries; drop those rows, or weight "
            "the others for being observed through sample_weight"
        )
    check_magnitude(outcome, name="WeightedEffect: y")
    return outcome


def check_estimand(estimand: str | None, weighter: Any, augmented: bool) -> str:
    """The target population, on which the weighter and the user must agree.

    Parameters
    ----------
    estimand : str or None
        What the user asks for.
    weighter : estimator
        Weighter, or pipeline that ends in one.
    augmented : bool
        Whether outcome models will be averaged over the target population.

    Returns
    -------
    str
    """
    last = last_step(weighter)
    name = type(last).__name__
    own = getattr(last, "estimand", None)
    if estimand is not None and own is not None and estimand != own:
        raise ValueError(
            f"WeightedEffect: estimand is {estimand!r} but the weights of {name} are for the "
            f"{own}; pass {name}(estimand={estimand!r}), or estimand=None to follow the weights"
        )
    estimand = estimand or own or "ATE"
    if augmented and estimand not in TARGETS:
        raise ValueError(
            f"WeightedEffect: outcome_estimator needs an estimand among {list(TARGETS)}, but the "
            f"weights of {name} are for the {estimand}; leave outcome_estimator out"
        )
    return estimand


def check_outcome_estimator(estimator: Any, outcome: NDArray[np.float64]) -> None:
    """Whether an outcome model can serve the outcomes.

    Parameters
    ----------
    estimator : estimator
        Regressor or classifier.
    outcome : ndarray of shape (n_samples, n_outputs)
        Outcomes.
    """
    if not is_classifier(estimator):
        return
    name = type(last_step(estimator)).__name__
    if not hasattr(estimator, "predict_proba"):
        raise ValueError(
            f"WeightedEffect: outcome_estimator {name} is a classifier without predict_proba; "
            "pass one that has it, or a regressor"
        )
    others = np.setdiff1d(outcome, [0.0, 1.0])
    if others.size:
        raise ValueError(
            f"WeightedEffect: outcome_estimator {name} is a classifier, which serves outcomes 0 "
            f"and 1, but y has the value {others[0]:g}; recode y, or pass a regressor"
        )


def stratified_folds(
    cv: Any, X: Any, arm: NDArray[np.intp], groups: NDArray[np.intp] | None, random_state: int
) -> Folds | None:
    """Folds for outcome models, both arms in each training part and no group in both parts.

    Parameters
    ----------
    cv : int, splitter, iterable or None
        As in scikit-learn; an int stratifies by arm.
    X : array-like of shape (n_samples, n_features)
        Covariates.
    arm : ndarray of int of shape (n_samples,)
        0 for controls, 1 for treated.
    groups : ndarray of int of shape (n_samples,) or None
        Rows that stay together.
    random_state : int
        Seeds the shuffle of an int.

    Returns
    -------
    list of (train, test), or None if `cv` is None
    """
    if cv is None:
        return None
    if isinstance(cv, (int, np.integer)):
        kind = StratifiedKFold if groups is None else StratifiedGroupKFold
        cv = kind(int(cv), shuffle=True, random_state=random_state)
    folds = list(check_cv(cv, arm, classifier=True).split(X, arm, groups))
    for k, (train, test) in enumerate(folds):
        missing = [
            word for code, word in enumerate(["control", "treated"]) if code not in arm[train]
        ]
        if missing:
            raise ValueError(
                f"WeightedEffect: fold {k} of cv has no {missing[0]} rows to fit on; use fewer "
                "folds, or stratify them by treatment"
            )
        if groups is not None and np.intersect1d(groups[train], groups[test]).size:
            raise ValueError(
                f"WeightedEffect: fold {k} of cv splits groups; use sklearn.model_selection."
                "GroupKFold, or an int, which keeps groups whole"
            )
    return folds

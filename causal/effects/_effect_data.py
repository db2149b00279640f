"""What users of effect learners pass to `fit` and `score`, checked and in one shape."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.sparse import issparse
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_consistent_length

from causal.effects._checks import indexable_rows
from reweight.validation import (
    check_groups,
    check_magnitude,
    check_sample_weight,
    check_treatment,
    check_treatment_labels,
    validate_features,
    validate_rows,
)

Array = NDArray[np.float64]
# Columns of a target array after outcome and treatment.
TARGET_NUISANCES = ("m", "propensity", "mu0", "mu1")


@dataclass(frozen=True)
class EffectData:
    """Rows of a study of effects.

    Parameters
    ----------
    X : array, data frame or sparse matrix of shape (n_samples, n_features)
        Covariates, in the container that they came in.
    y : ndarray of shape (n_samples,)
        Outcome.
    treatment : ndarray of float of shape (n_samples,)
        Treatment, 0 or 1 if it is binary.
    classes : ndarray of shape (2,) or None
        Labels of the two arms; None for a continuous treatment.
    nuisances : dict of ndarray of shape (n_samples,)
        Nuisances that came with the outcome, by name; none of them if empty.
    sample_weight : ndarray of shape (n_samples,) or None
        Sampling weights.
    groups : ndarray of int of shape (n_samples,) or None
        Code of the group that each row belongs to.
    propensity : ndarray of shape (n_samples,) or None
        Known propensity, or known mean of a continuous treatment.
    """

    X: Any
    y: Array
    treatment: Array
    classes: NDArray | None
    nuisances: dict[str, Array]
    sample_weight: Array | None
    groups: NDArray[np.intp] | None
    propensity: Array | None

    @property
    def binary(self) -> bool:
        """Whether the treatment has two arms."""
        return self.classes is not None


def read_covariates(estimator: BaseEstimator, X: Any, *, reset: bool, allow_nan: bool) -> Any:
    """Covariates in the container that they came in; names and number of columns are kept.

    Parameters
    ----------
    estimator : BaseEstimator
        What `n_features_in_` and `feature_names_in_` are set on or checked against.
    X : array-like of shape (n_samples, n_features)
        Covariates.
    reset : bool
        True in `fit`, False for later rows.
    allow_nan : bool
        Whether the models that will see X accept missing values.

    Returns
    -------
    array, data frame or sparse matrix of shape (n_samples, n_features)
    """
    X = indexable_rows(X, owner=type(estimator).__name__)
    if isinstance(X, np.ndarray) or issparse(X):
        return validate_features(
            estimator,
            X,
            reset=reset,
            accept_sparse="csr",
            ensure_all_finite="allow-nan" if allow_nan else True,
        )
    if not len(X):
        raise ValueError(f"{type(estimator).__name__}: X has 0 rows; pass at least one")
    return validate_rows(estimator, X, reset=reset)


def read_effect_data(
    estimator: BaseEstimator,
    X: Any,
    y: Any,
    treatment: ArrayLike | None,
    *,
    sample_weight: ArrayLike | None = None,
    groups: ArrayLike | None = None,
    propensity: ArrayLike | float | None = None,
    discrete_treatment: bool | str = "auto",
    classes: NDArray | None = None,
    allow_nan: bool = False,
    reset: bool = True,
) -> EffectData:
    """Everything passed to `fit` or `score`, checked.

    Parameters
    ----------
    estimator : BaseEstimator
        Who is asking.
    X, y, treatment, sample_weight, groups, propensity
        What the user passed.
    discrete_treatment : bool or "auto"
        Whether there are two arms.
    classes : ndarray of shape (2,), default=None
        Labels of the arms that `fit` has seen, for `score`.
    allow_nan : bool, default=False
        Whether X may have missing values.
    reset : bool, default=True
        True in `fit`, False in `score`.

    Returns
    -------
    EffectData
    """
    name = type(estimator).__name__
    X = read_covariates(estimator, X, reset=reset, allow_nan=allow_nan)
    outcome, treatment, nuisances = split_target(y, treatment, owner=name)
    check_consistent_length(X, outcome)
    if treatment.ndim == 0:
        raise TypeError(
            f"{name}: treatment is a single {type(treatment.item()).__name__}; pass one label per "
            "row"
        )
    if len(treatment) != len(outcome):
        raise ValueError(
            f"{name}: treatment has {len(treatment)} entries but y has {len(outcome)}; pass one "
            "of each per row"
        )
    if reset:
        classes, values = read_treatment(treatment, discrete_treatment, owner=name)
    else:
        values = treatment_codes(treatment, classes, owner=name)
    if len(outcome) < 2:
        raise ValueError(f"{name}: X and y have 1 sample; effects need at least two")
    check_nuisances(nuisances, classes is not None, owner=name)
    if sample_weight is not None:
        sample_weight = check_sample_weight(sample_weight, outcome)
        for arm in (0, 1) if classes is not None and reset else ():
            if not sample_weight[values == arm].any():
                raise ValueError(
                    f"{name}: sample_weight is zero in every row with treatment {classes[arm]}; "
                    "each arm needs rows of positive weight"
                )
    if groups is not None:
        groups = check_groups(groups, len(outcome))[1]
    if propensity is not None:
        propensity = read_propensity(propensity, len(outcome), classes is not None, owner=name)
    return EffectData(X, outcome, values, classes, nuisances, sample_weight, groups, propensity)


def split_target(
    y: Any, treatment: ArrayLike | None, *, owner: str
) -> tuple[Array, NDArray, dict[str, Array]]:
    """Outcome, treatment as the user labels it, and nuisances that came in the same array.

    Parameters
    ----------
    y : array-like of shape (n_samples,) or (n_samples, 2), (n_samples, 4), (n_samples, 6)
        Outcome, or the target array that also holds treatment and nuisances.
    treatment : array-like of shape (n_samples,) or None
        Treatment, if it is not in `y`.
    owner : str
        Who is asking, for error messages.

    Returns
    -------
    outcome : ndarray of shape (n_samples,)
    treatment : ndarray of shape (n_samples,)
    nuisances : dict of ndarray of shape (n_samples,)
    """
    if y is None:
        raise ValueError(
            f"{owner} requires y to be passed, but the target y is None; pass the outcome as "
            "fit(X, y, treatment=treatment)"
        )
    if issparse(y):
        raise ValueError(f"{owner}: y is sparse; pass a dense array of outcomes")
    values = np.asarray(y)
    if treatment is not None:
        if values.ndim == 2 and values.shape[1] == 1:
            values = values[:, 0]
        if values.ndim != 1:
            raise ValueError(
                f"{owner}: y has shape {values.shape} although treatment is given; pass a "
                "one-dimensional y, or the target array alone"
            )
        return _outcome(values, owner), np.asarray(treatment), {}
    if values.ndim != 2 or values.shape[1] not in (2, 4, 6):
        raise ValueError(
            f"{owner}: treatment is required, but y has shape {values.shape}; pass treatment= or "
            "a two-column y from make_effect_target"
        )
    labels = values[:, 1]
    if labels.dtype == object:
        # A table of numbers and words has neither type; its columns do.
        labels = np.array(labels.tolist())
    nuisances = {
        name: _outcome(column, owner, f"column {name} of y")
        for name, column in zip(TARGET_NUISANCES, values[:, 2:].T, strict=False)
    }
    return _outcome(values[:, 0], owner), labels, nuisances


def _outcome(values: NDArray, owner: str, name: str = "y") -> Array:
    """Numbers as finite float64."""
    if values.dtype.kind == "c":
        raise ValueError(f"{owner}: Complex data not supported in {name}; pass real numbers")
    try:
        outcome = values.astype(np.float64)
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"{owner}: {name} is not numeric ({error}); encode outcomes as numbers, a yes or no "
            "as 1 or 0"
        ) from error
    bad = int((~np.isfinite(outcome)).sum())
    if bad:
        raise ValueError(
            f"{owner}: {name} contains {bad} NaN or infinite entries; drop those rows first"
        )
    check_magnitude(outcome, name=f"{owner}: {name}")
    return outcome


def read_treatment(
    treatment: NDArray, discrete: bool | str, *, owner: str
) -> tuple[NDArray | None, Array]:
    """Labels of the two arms, None if the treatment is continuous, and its values.

    Parameters
    ----------
    treatment : ndarray of shape (n_samples,)
        Treatment as the user labels it.
    discrete : bool or "auto"
        "auto" takes 0/1, booleans and two words for arms, other numbers for
        a continuous treatment.
    owner : str
        Who is asking, for error messages.

    Returns
    -------
    classes : ndarray of shape (2,) or None
    values : ndarray of float of shape (n_samples,)
        0 and 1 for arms.
    """
    labels = check_treatment_labels(treatment, treatment)
    numeric = labels.dtype.kind in "biuf"
    if numeric and discrete is not False and _has_both_arms(labels):
        return np.array([0, 1], dtype=labels.dtype), labels.astype(np.float64)
    distinct = np.unique(labels)
    if len(distinct) == 1:
        raise ValueError(
            f"{owner}: treatment has one value only, {distinct[0]}, i.e. one class; pass rows of "
            "both arms"
        )
    if discrete is True or not numeric:
        if len(distinct) > 2:
            shown = ", ".join(str(value) for value in distinct[:5])
            shown += ", ..." if len(distinct) > 5 else ""
            raise ValueError(
                f"{owner}: treatment has {len(distinct)} arms ({shown}); only two are supported, "
                "so fit pairs of arms"
            )
        classes, codes = check_treatment(labels, labels)
        return classes, codes.astype(np.float64)
    if discrete == "auto" and len(distinct) == 2:
        if not np.array_equal(distinct.astype(np.float64), [0.0, 1.0]):
            raise ValueError(
                f"{owner}: treatment has the two values {distinct[0]:g} and {distinct[1]:g}; "
                "encode the arms as 0 and 1, or say by discrete_treatment=True or False what they "
                "are"
            )
        classes, codes = check_treatment(labels, labels)
        return classes, codes.astype(np.float64)
    return None, labels.astype(np.float64)


def _has_both_arms(labels: NDArray) -> bool:
    """Whether labels are zeros and ones with at least two of each, without a sort."""
    ones, zeros = labels == 1, labels == 0
    return bool((ones | zeros).all() and ones.sum() > 1 and zeros.sum() > 1)


def treatment_codes(treatment: NDArray, classes: NDArray | None, *, owner: str) -> Array:
    """Values of the treatment of later rows, which may all be of one arm.

    Parameters
    ----------
    treatment : ndarray of shape (n_samples,)
        Treatment as the user labels it.
    classes : ndarray of shape (2,) or None
        Labels of the arms that `fit` has seen.
    owner : str
        Who is asking, for error messages.

    Returns
    -------
    ndarray of float of shape (n_samples,)
    """
    labels = check_treatment_labels(treatment, treatment)
    if classes is None:
        return labels.astype(np.float64)
    unknown = ~np.isin(labels, classes)
    if unknown.any():
        raise ValueError(
            f"{owner}: treatment has the value {labels[unknown][0]} that fit has not seen; it "
            f"knows {list(classes)}"
        )
    return (labels == classes[1]).astype(np.float64)


def check_nuisances(nuisances: dict[str, Array], binary: bool, *, owner: str) -> None:
    """Whether nuisances given by the user can be what they are called.

    Parameters
    ----------
    nuisances : dict of ndarray of shape (n_samples,)
        By name.
    binary : bool
        Whether the treatment has two arms.
    owner : str
        Who is asking, for error messages.
    """
    if binary and "propensity" in nuisances:
        _check_inside(nuisances["propensity"], owner)
    if not binary and "mu0" in nuisances:
        raise ValueError(
            f"{owner}: y has six columns, outcome means of two arms among them, but the treatment "
            "is continuous; pass four columns"
        )


def read_propensity(propensity: ArrayLike | float, n: int, binary: bool, *, owner: str) -> Array:
    """A known propensity, or known mean of a continuous treatment, for each row.

    Parameters
    ----------
    propensity : array-like of shape (n_samples,) or float
        What the user passed.
    n : int
        Number of rows.
    binary : bool
        Whether the treatment has two arms.
    owner : str
        Who is asking, for error messages.

    Returns
    -------
    ndarray of shape (n_samples,)
    """
    values = np.asarray(propensity, dtype=np.float64)
    if values.ndim == 0:
        values = np.full(n, float(values))
    if values.shape != (n,):
        raise ValueError(
            f"{owner}: propensity has shape {values.shape} but there are {n} rows; pass a number "
            "or one per row"
        )
    if not np.isfinite(values).all():
        raise ValueError(f"{owner}: propensity has NaN or infinite entries; pass probabilities")
    if binary:
        _check_inside(values, owner)
    return values


def _check_inside(propensity: Array, owner: str) -> None:
    outside = ~((propensity > 0) & (propensity < 1))
    if outside.any():
        raise ValueError(
            f"{owner}: propensity has {int(outside.sum())} entries outside (0, 1), the first "
            f"{propensity[outside][0]:g}; pass the probability of treatment of each row, strictly "
            "between 0 and 1"
        )

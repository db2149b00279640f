"""Checks of what users pass in, and the only place that touches scikit-learn's private helpers."""

import sys
import warnings
from numbers import Real
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator
from sklearn.utils import column_or_1d
from sklearn.utils.metadata_routing import _routing_enabled
from sklearn.utils.metaestimators import _safe_split
from sklearn.utils.validation import (
    _check_method_params,
    _num_samples,
    check_consistent_length,
    validate_data,
)

from reweight.exceptions import WeightWarning

# Products of four entries beyond these overflow, or vanish without a word.
LARGEST, SMALLEST = 1e75, 1e-75

OWN_PACKAGES = frozenset({"reweight", "causal", "shift", "sklearn"})


def routing_enabled() -> bool:
    """Whether scikit-learn's metadata routing is switched on."""
    return _routing_enabled()


def as_numbers(values: Any, *, name: str) -> NDArray[np.float64]:
    """Anything array-like as float64, or an error that says what it was.

    Parameters
    ----------
    values : array-like
        Numbers.
    name : str
        What to call them in an error message.

    Returns
    -------
    ndarray of float64

    Raises
    ------
    TypeError
        If there are complex numbers or objects that are no numbers.
    ValueError
        If words stand among the numbers, or rows differ in length.
    """
    if hasattr(values, "to_numpy"):
        # Nullable columns turn their missing entries into NaN, not into an object.
        values = values.to_numpy()
    try:
        array = np.asarray(values)
        if array.dtype.kind != "c":
            return array.astype(np.float64)
    except (TypeError, ValueError) as error:
        kind = ValueError if isinstance(error, ValueError) else TypeError
        raise kind(
            f"{name} is not numeric ({error}); pass an array of numbers, without words"
        ) from error
    raise TypeError(f"{name} is complex: Complex data not supported; pass real numbers")


def check_magnitude(array: NDArray[np.float64], *, name: str) -> None:
    """Refuse numbers whose squares and products would overflow, or vanish.

    Parameters
    ----------
    array : ndarray of float64
        Numbers; those of two dimensions are judged column by column.
    name : str
        What to call them in an error message.

    Raises
    ------
    ValueError
        If an entry exceeds 1e75, or all entries of a column are below 1e-75
        without being zero.
    """
    if not array.size:
        return
    largest = np.atleast_1d(np.maximum(array.max(axis=0), -array.min(axis=0)))
    largest = largest.astype(np.float64)
    off = (largest > LARGEST) & np.isfinite(largest)
    off |= (largest < SMALLEST) & (largest > 0)
    if off.any():
        worst = float(largest[off].flat[0])
        where = f" in column {int(np.argmax(off))}" if array.ndim == 2 else ""
        raise ValueError(
            f"{name} has entries of magnitude {worst:.3g}{where}; beyond {LARGEST:g}, or all below "
            f"{SMALLEST:g}, products of them leave the range of floating point numbers; rescale "
            "them, for example by sklearn.preprocessing.StandardScaler after a change of units"
        )


def check_weights(weights: ArrayLike, *, name: str = "weights") -> NDArray[np.float64]:
    """Weights as a finite, non-negative, one-dimensional float64 array.

    Parameters
    ----------
    weights : array-like of shape (n_samples,)
        Weights on any scale.
    name : str, default="weights"
        What to call them in an error message.

    Returns
    -------
    ndarray of shape (n_samples,)

    Raises
    ------
    ValueError
        If the array is empty, not one-dimensional, not finite or has negative
        entries.
    """
    array = as_numbers(weights, name=name)
    if array.ndim != 1 or array.size == 0:
        raise ValueError(
            f"{name} has shape {array.shape}; pass a one-dimensional array with one entry per row"
        )
    bad = ~np.isfinite(array)
    if bad.any():
        raise ValueError(
            f"{name} has {int(bad.sum())} entries that are NaN or infinite, the first at row "
            f"{int(np.argmax(bad))}; weights must be finite"
        )
    negative = array < 0
    if negative.any():
        raise ValueError(
            f"Negative values in data passed to `{name}`: {int(negative.sum())} entries, the "
            f"smallest {array.min():.6g}; weights must be non-negative"
        )
    return array


def check_sample_weight(
    sample_weight: ArrayLike | float | None,
    X: Any,
    *,
    name: str = "sample_weight",
    allow_zero: bool = False,
) -> NDArray[np.float64]:
    """Sampling weights as float64, all ones for None, not all zero unless allowed.

    Parameters
    ----------
    sample_weight : array-like of shape (n_samples,), float or None
        Sampling weights.
    X : array-like
        Data with the rows that the weights belong to.
    name : str, default="sample_weight"
        What to call them in an error message.
    allow_zero : bool, default=False
        Whether all of them may be zero, as in one chunk of many.

    Returns
    -------
    ndarray of shape (n_samples,)

    Raises
    ------
    ValueError
        If weights are negative, not finite, all zero, of the wrong length, or
        so large or small that their products leave the floating point range.
    """
    n_samples = _num_samples(X)
    if sample_weight is None or isinstance(sample_weight, Real):
        sample_weight = np.full(n_samples, 1.0 if sample_weight is None else float(sample_weight))
    weights = check_weights(sample_weight, name=name)
    if weights.size != n_samples:
        raise ValueError(
            f"{name} has {weights.size} entries but there are {n_samples} rows; pass one per row"
        )
    if not (allow_zero or np.any(weights > 0)):
        raise ValueError(f"{name} is zero in every row; at least one must be positive")
    check_magnitude(weights, name=name)
    return weights


def check_groups(groups: ArrayLike | None, n_samples: int) -> tuple[NDArray, NDArray[np.intp]]:
    """Sorted group labels and the integer code of each row.

    Parameters
    ----------
    groups : array-like of shape (n_samples,) or None
        Group label of each row; None puts all rows in one group.
    n_samples : int
        Number of rows.

    Returns
    -------
    labels : ndarray of shape (n_groups,)
    codes : ndarray of shape (n_samples,)

    Raises
    ------
    ValueError
        If `groups` does not have one label per row, or a label is missing.
    """
    if groups is None:
        return np.zeros(1, dtype=int), np.zeros(n_samples, dtype=np.intp)
    groups = np.asarray(groups)
    if groups.shape != (n_samples,):
        raise ValueError(
            f"groups has shape {groups.shape} but there are {n_samples} rows; "
            "pass one label per row"
        )
    n_missing = count_missing(groups)
    if n_missing:
        raise ValueError(
            f"groups contains {n_missing} missing entries; give those rows a group "
            "of their own, or drop them"
        )
    return label_codes(groups)


def count_missing(labels: NDArray) -> int:
    """Number of labels that are None, NaN, NaT or pandas' NA.

    Parameters
    ----------
    labels : ndarray of shape (n,)
        Labels of any type.

    Returns
    -------
    int
    """
    if labels.dtype.kind in "biuSU":
        return 0
    # The NA of pandas is no truth value, so that it is told by its type.
    return sum(
        value is None or type(value).__name__ == "NAType" or bool(value != value)
        for value in labels.tolist()
    )


def label_codes(labels: NDArray) -> tuple[NDArray, NDArray[np.intp]]:
    """Sorted distinct labels and the code of each row, without a sort of small integers.

    Parameters
    ----------
    labels : ndarray of shape (n_samples,)
        Labels.

    Returns
    -------
    distinct : ndarray of shape (n_labels,)
    codes : ndarray of shape (n_samples,)
    """
    if labels.dtype.kind in "iu" and labels.size:
        lowest, highest = int(labels.min()), int(labels.max())
        if highest - lowest <= labels.size and max(-lowest, highest) < 2**62:
            shifted = labels.astype(np.intp) - lowest
            seen = np.bincount(shifted) > 0
            distinct = (np.flatnonzero(seen) + lowest).astype(labels.dtype)
            return distinct, (np.cumsum(seen) - 1)[shifted]
    return np.unique(labels, return_inverse=True)


def _non_numeric_columns(X: Any) -> list[str]:
    """Names of the columns of a data frame that hold neither numbers nor booleans."""
    import narwhals.stable.v1 as nw

    if not nw.dependencies.is_into_dataframe(X):
        return []
    frame = nw.from_native(X, eager_only=True)
    if len(set(frame.columns)) < len(frame.columns):
        return []
    return [
        str(name)
        for name, dtype in frame.schema.items()
        if isinstance(dtype, nw.String | nw.Categorical | nw.Enum | nw.Datetime | nw.Date)
    ]


def _with_readable_names(X: Any) -> Any:
    """A frame that is not pandas as pandas, the one kind whose names all scikit-learns keep."""
    import narwhals.stable.v1 as nw

    if nw.dependencies.is_pandas_dataframe(X) or not nw.dependencies.is_into_dataframe(X):
        return X
    import pandas as pd

    frame = nw.from_native(X, eager_only=True)
    return pd.DataFrame({name: frame[name].to_numpy() for name in frame.columns})


def refuse_no_rows(X: Any, *, name: str) -> None:
    """Refuse what holds no rows: lazy frames, dictionaries, words and other single things.

    Parameters
    ----------
    X : object
        What the user passed.
    name : str
        Who is asking, for the error message.

    Raises
    ------
    TypeError
        If X holds no rows.
    """
    if hasattr(X, "collect_schema") and not hasattr(X, "to_numpy"):
        raise TypeError(f"{name}: X is a lazy frame without rows; pass X.collect()")
    has_rows = any(hasattr(X, thing) for thing in ("__len__", "shape", "__array__"))
    # One kind of sparse matrix is a dictionary that has a shape.
    if (isinstance(X, dict | str | bytes) and not hasattr(X, "shape")) or not has_rows:
        raise TypeError(
            f"{name}: X is of type {type(X).__name__}, which holds no rows; pass an array or a "
            "data frame of shape (n_samples, n_features)"
        )


def validate_rows(estimator: BaseEstimator, X: Any, *, reset: bool = True) -> Any:
    """Rows of any container that other estimators will check, with their names kept.

    Parameters
    ----------
    estimator : BaseEstimator
        The estimator that `feature_names_in_` and `n_features_in_` are set on
        or checked against.
    X : array-like of shape (n_samples, n_features)
        Features, numbers or not.
    reset : bool, default=True
        True in `fit`, False for later rows.

    Returns
    -------
    array-like of shape (n_samples, n_features)
        X itself, or the array of nested lists.

    Raises
    ------
    TypeError
        If X holds no rows.
    ValueError
        If its rows differ in length, or from the columns that `fit` has seen.
    """
    name = type(estimator).__name__
    refuse_no_rows(X, name=name)
    X = lists_as_array(X, name=name)
    validate_data(estimator, X, reset=reset, skip_check_array=True)
    return X


def lists_as_array(X: Any, *, name: str) -> Any:
    """Nested lists as an array, if their rows are equally long; anything else as it is.

    Parameters
    ----------
    X : object
        What the user passed.
    name : str
        Who is asking, for the error message.

    Returns
    -------
    object

    Raises
    ------
    ValueError
        If rows differ in length.
    """
    if not isinstance(X, list | tuple):
        return X
    try:
        return np.asarray(X)
    except ValueError as error:
        raise ValueError(
            f"{name}: the rows of X differ in length, or one of them is no row of numbers; "
            "pass rows with one entry per column"
        ) from error


def validate_features(
    estimator: BaseEstimator, X: Any, *, reset: bool = True, **check_params: Any
) -> Any:
    """Features as float64, with errors that name the columns at fault.

    Parameters
    ----------
    estimator : BaseEstimator
        The estimator that `feature_names_in_` and `n_features_in_` are set on
        or checked against.
    X : array-like of shape (n_samples, n_features)
        Features: an array, a pandas or a polars data frame.
    reset : bool, default=True
        True in `fit`, False for later rows.
    **check_params : dict
        Passed on to `sklearn.utils.validation.validate_data`.

    Returns
    -------
    ndarray of shape (n_samples, n_features)

    Raises
    ------
    TypeError
        If columns hold strings, categories or dates.
    ValueError
        If entries are NaN or infinite, or the shape is wrong.
    """
    name = type(estimator).__name__
    # Of a single number and of None, scikit-learn's validator says what its checks demand.
    if not isinstance(X, Real) and X is not None:
        refuse_no_rows(X, name=name)
    text = _non_numeric_columns(X)
    if text:
        raise TypeError(
            f"{name}: columns {text} of X are not numeric; encode them first, "
            "for example with sklearn.preprocessing.OneHotEncoder"
        )
    check_params.setdefault("dtype", np.float64)
    allow_nonfinite = check_params.pop("ensure_all_finite", True) is not True
    X = lists_as_array(_with_readable_names(X), name=name)
    array = validate_data(estimator, X, reset=reset, ensure_all_finite=False, **check_params)
    if not allow_nonfinite:
        values = array if isinstance(array, np.ndarray) else array.data
        if not np.isfinite(values).all():
            raise ValueError(_nonfinite_message(name, array, estimator))
    check_magnitude(array if isinstance(array, np.ndarray) else array.data, name=f"{name}: X")
    return array


def _nonfinite_message(name: str, array: Any, estimator: BaseEstimator) -> str:
    """Say which columns hold NaN or infinite values and how many."""
    dense = array if isinstance(array, np.ndarray) else array.toarray()
    bad = ~np.isfinite(dense)
    columns = np.flatnonzero(bad.any(axis=0))
    labels = getattr(estimator, "feature_names_in_", np.arange(dense.shape[1]))
    listed = [str(labels[j]) for j in columns[:10]]
    kind = "NaN" if np.isnan(dense).any() else "inf"
    return (
        f"{name}: Input X contains {kind}: {int(bad.sum())} entries are NaN or infinite in "
        f"columns {listed}{' and more' if columns.size > 10 else ''}; drop those rows or fill "
        "them first, for example with sklearn.impute.SimpleImputer(add_indicator=True)"
    )


def check_treatment_labels(treatment: ArrayLike, X: Any, *, name: str = "treatment") -> NDArray:
    """Treatment labels as a one-dimensional array without missing entries.

    Parameters
    ----------
    treatment : array-like of shape (n_samples,)
        Labels, of any number of values.
    X : array-like
        Data with the rows that the labels belong to.
    name : str, default="treatment"
        What to call them in an error message.

    Returns
    -------
    ndarray of shape (n_samples,)

    Raises
    ------
    ValueError
        If a row has no label, labels are of several types, or their number
        is not that of the rows.
    """
    treatment = column_or_1d(treatment, warn=True)
    check_consistent_length(X, treatment)
    if treatment.dtype.kind == "f" and not np.isfinite(treatment).all():
        raise ValueError(
            f"{name} contains {int((~np.isfinite(treatment)).sum())} NaN or infinite entries; "
            "drop those rows first"
        )
    if treatment.dtype.kind == "O":
        n_missing = count_missing(treatment)
        if n_missing:
            raise ValueError(f"{name} contains {n_missing} missing entries; drop those rows first")
        if len({type(value) for value in treatment}) > 1:
            raise ValueError(f"{name} mixes values of several types; use one label type")
    return treatment


def check_treatment(
    treatment: ArrayLike, X: Any, *, name: str = "treatment"
) -> tuple[NDArray, NDArray[np.intp]]:
    """The two sorted treatment labels and the 0/1 code of each row.

    Parameters
    ----------
    treatment : array-like of shape (n_samples,)
        Two-valued treatment; the larger label in sorted order is "treated".
    X : array-like
        Data with the rows that the treatment belongs to.
    name : str, default="treatment"
        What to call it in an error message.

    Returns
    -------
    classes : ndarray of shape (2,)
        Control label, treated label.
    codes : ndarray of shape (n_samples,)
        1 for treated rows, 0 for controls.

    Raises
    ------
    ValueError
        If there are not exactly two values, a row has none, or an arm has
        fewer than two rows.
    """
    treatment = check_treatment_labels(treatment, X, name=name)
    classes, codes = label_codes(treatment)
    if classes.size == 1:
        raise ValueError(
            f"{name} must have exactly two values, got one class, {classes[0]}; pass rows of "
            "both arms"
        )
    if classes.size != 2:
        shown = ", ".join(str(value) for value in classes[:5]) + (
            ", ..." if classes.size > 5 else ""
        )
        raise ValueError(
            f"{name} must have exactly two values, got [{shown}]; for k arms fit pairwise"
        )
    counts = np.bincount(codes)
    if counts.min() < 2:
        raise ValueError(
            f"{name} has {counts.min()} row with value {classes[np.argmin(counts)]}; each arm "
            "needs at least two rows"
        )
    return classes, codes


def unwrap_target(value: Any) -> Any:
    """The array of rows passed as `X_target` or `X_val`: itself, or the member of a 1-tuple.

    Cross-validation cuts every fit parameter that is as long as X to the
    training fold; a 1-tuple passes whole.

    Parameters
    ----------
    value : array-like or tuple of one array-like or None
        What the user passed.

    Returns
    -------
    array-like or None

    Raises
    ------
    ValueError
        If a tuple does not have exactly one member.
    """
    if isinstance(value, tuple):
        if len(value) != 1:
            raise ValueError(
                f"got a tuple of {len(value)} members; pass the target rows as an array, "
                "or as a 1-tuple (X_target,) inside cross-validation"
            )
        return value[0]
    return value


def count_rows(X: Any) -> int:
    """Number of rows of anything that has rows.

    Parameters
    ----------
    X : array-like, sparse matrix or data frame
        Data.

    Returns
    -------
    int
    """
    return _num_samples(X)


def metadata_requests(estimator: Any, method: str) -> dict[str, bool | str | None]:
    """What an estimator asks of a router, with metadata routing on.

    Parameters
    ----------
    estimator : estimator
        The estimator itself; what it is made of is not looked at.
    method : str
        Name of the method, such as "fit".

    Returns
    -------
    dict
        For each metadata that the method takes, the request or alias; None for
        a request that nobody has set.
    """
    if isinstance(estimator, type) or not hasattr(estimator, "_get_metadata_request"):
        return {}
    return dict(getattr(estimator._get_metadata_request(), method).requests)


def take_rows(
    estimator: Any, X: Any, y: Any, rows: NDArray[np.intp], columns: NDArray[np.intp] | None = None
) -> tuple[Any, Any]:
    """Some rows of the data, in the container that they came in.

    Parameters
    ----------
    estimator : estimator
        What the rows are for: a precomputed kernel is also cut by columns.
    X : array-like, sparse matrix or data frame
        Features, or a square kernel matrix.
    y : array-like or None
        Targets.
    rows : ndarray of int
        Rows to take.
    columns : ndarray of int, default=None
        Rows that the estimator was fitted on, if those are others.

    Returns
    -------
    X : array-like, sparse matrix or data frame
    y : array-like or None
    """
    return _safe_split(estimator, X, y, rows, columns)


def take_metadata(X: Any, params: dict[str, Any], rows: NDArray[np.intp]) -> dict[str, Any]:
    """Metadata of some rows: what is as long as X is cut, the rest passes whole.

    Parameters
    ----------
    X : array-like
        Data with all rows.
    params : dict
        Metadata by name.
    rows : ndarray of int
        Rows to take.

    Returns
    -------
    dict
    """
    return _check_method_params(X, params, rows)


def warn_weights(message: str) -> None:
    """Issue a `WeightWarning` at the user's line.

    Parameters
    ----------
    message : str
        What was found and one thing to do.
    """
    warn_user(message, WeightWarning)


def warn_user(message: str, category: type[Warning]) -> None:
    """Issue a warning at the first frame outside this distribution and scikit-learn.

    Parameters
    ----------
    message : str
        What was found and one thing to do.
    category : type
        Class of the warning.
    """
    level, frame = 1, sys._getframe()
    while frame is not None and frame.f_globals.get("__name__", "").split(".")[0] in OWN_PACKAGES:
        level, frame = level + 1, frame.f_back
    warnings.warn(message, category, stacklevel=level)

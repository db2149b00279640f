"""Rows as they come in: a column of groups taken out, equal rows merged, features standardised."""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator

from reweight.validation import check_groups, validate_features, warn_user

Array = NDArray[np.float64]


def split_features(
    estimator: BaseEstimator, X: Any, groups: ArrayLike | None, *, reset: bool
) -> tuple[Array, NDArray | None]:
    """Validated features, and the group labels from their column or the argument.

    Parameters
    ----------
    estimator : BaseEstimator
        Its `groups` names a column of X, or is None.
    X : array-like of shape (n_samples, n_features)
        Features, the column of groups among them.
    groups : array-like of shape (n_samples,) or None
        Labels given beside X.
    reset : bool
        Whether this is `fit`.

    Returns
    -------
    X : ndarray of shape (n_samples, n_features)
    groups : ndarray of shape (n_samples,) or None

    Raises
    ------
    ValueError
        If groups are given twice, or the column does not exist.
    """
    column, name = estimator.groups, type(estimator).__name__
    if column is not None:
        if groups is not None:
            raise ValueError(
                f"{name}: groups={column!r} names a column of X, and groups were passed too; "
                "leave one of them out"
            )
        X, groups = _take_column(X, column, name)
    X = validate_features(estimator, X, reset=reset)
    if groups is not None:
        groups = np.asarray(groups)
        check_groups(groups, len(X))
    return X, groups


def _take_column(X: Any, column: int | str, name: str) -> tuple[Any, NDArray]:
    """The other columns, in their container, and this one."""
    import narwhals.stable.v1 as nw

    if nw.dependencies.is_into_dataframe(X):
        frame = nw.from_native(X, eager_only=True)
        names = list(frame.columns)
        label = names[column] if isinstance(column, int) and column not in names else column
        if label not in names:
            raise ValueError(f"{name}: groups={column!r} is no column of X, which has {names}")
        return frame.drop(label).to_native(), frame[label].to_numpy()
    values = np.asarray(X)
    if (
        isinstance(column, str)
        or values.ndim != 2
        or not -values.shape[1] <= column < values.shape[1]
    ):
        raise ValueError(
            f"{name}: groups={column!r} is no column of X, an array of shape {values.shape}; "
            "pass its number, or X as a data frame"
        )
    return np.delete(values, column, axis=1), values[:, column]


def group_codes(
    estimator: BaseEstimator, groups: NDArray | None, n_samples: int
) -> NDArray[np.int64] | None:
    """Code of each new row's group, -1 for one not seen in `fit`; None without groups.

    Parameters
    ----------
    estimator : BaseEstimator
        Fitted; `groups_` holds the labels and `new_groups` says what new ones are.
    groups : ndarray of shape (n_samples,) or None
        Labels.
    n_samples : int
        Number of rows.

    Returns
    -------
    ndarray of shape (n_samples,) or None

    Raises
    ------
    ValueError
        If groups are new and that is an error, or `fit` knew no groups.
    """
    name, known = type(estimator).__name__, estimator.groups_
    if known is None:
        if groups is not None:
            raise ValueError(
                f"{name}: groups were passed, but the model was fitted without; leave them out, "
                "or fit with groups="
            )
        return None
    if groups is None:
        codes, unseen = np.full(n_samples, -1, dtype=np.int64), ["no groups given"]
    else:
        code_of = {label: code for code, label in enumerate(known.tolist())}
        labels, inverse = np.unique(groups, return_inverse=True)
        found = [code_of.get(label, -1) for label in labels.tolist()]
        codes = np.array(found, dtype=np.int64)[inverse]
        unseen = [label for label, code in zip(labels.tolist(), found, strict=True) if code < 0]
    if unseen and estimator.new_groups == "error":
        raise ValueError(
            f"{name}: groups {unseen[:10]} were not seen in fit and new_groups='error'; pass "
            "known groups, or new_groups='sample'"
        )
    return codes


def merge_rows(weight: Array, *columns: Array) -> tuple[NDArray[np.intp], NDArray[np.intp], Array]:
    """Equal rows as one with the sum of their weights, in an order of their own.

    A row of weight k then counts as k rows to the last bit, and the order of
    rows does not matter.

    Parameters
    ----------
    weight : ndarray of shape (n,)
        Positive.
    *columns : ndarray of shape (n,) or (n, k)
        What makes rows equal; NaN equals NaN.

    Returns
    -------
    first : ndarray of shape (m,)
        One row of each kind.
    kind : ndarray of shape (n,)
        Kind of each row.
    total : ndarray of shape (m,)
        Sum of the weights of each kind.
    """
    table = np.column_stack([np.nan_to_num(column, nan=np.inf) + 0.0 for column in columns])
    _, first, kind = np.unique(table, axis=0, return_index=True, return_inverse=True)
    kind = kind.ravel()
    return first, kind, np.bincount(kind, weight)


def standardization(estimator: BaseEstimator, X: Array, weight: Array) -> tuple[Array, Array]:
    """Weighted mean and standard deviation of each column, one for those that do not vary.

    Parameters
    ----------
    estimator : BaseEstimator
        Named in the warning; `standardize` says whether to do it at all.
    X : ndarray of shape (n, p)
        Features.
    weight : ndarray of shape (n,)
        Weights.

    Returns
    -------
    mean : ndarray of shape (p,)
    scale : ndarray of shape (p,)
    """
    if not estimator.standardize:
        return np.zeros(X.shape[1]), np.ones(X.shape[1])
    mean = np.average(X, axis=0, weights=weight)
    scale = np.sqrt(np.average((X - mean) ** 2, axis=0, weights=weight))
    constant = (X[:1] == X).all(axis=0)
    if constant.any():
        names = getattr(estimator, "feature_names_in_", np.arange(X.shape[1]))
        listed = [str(name) for name in np.asarray(names)[constant][:10]]
        warn_user(
            f"{type(estimator).__name__}: columns {listed} of X do not vary, so that their "
            "coefficients have their prior as posterior; drop them",
            UserWarning,
        )
        mean = np.where(constant, X[0], mean)
        scale = np.where(constant, 1.0, scale)
    return mean, scale

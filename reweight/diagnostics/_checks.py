"""Checks that the diagnostics share."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator

from reweight.validation import check_weights, validate_features


def check_columns(
    X: Any, *, caller: str, name: str = "X", feature_names: Sequence[str] | None = None
) -> tuple[NDArray[np.float64], list[str]]:
    """A table as float64 and the names of its columns.

    Parameters
    ----------
    X : array-like of shape (n, p) or (n,)
        An array, a pandas or a polars data frame, or one column.
    caller : str
        The function that errors name.
    name : str, default="X"
        What errors call the table.
    feature_names : sequence of str, default=None
        Names that replace those of X.

    Returns
    -------
    array : ndarray of shape (n, p)
    names : list of str

    Raises
    ------
    TypeError
        If columns hold strings, categories or dates.
    ValueError
        If entries are not finite, or names do not fit.
    """
    if len(getattr(X, "shape", np.shape(X))) == 1:
        label = getattr(X, "name", None)
        feature_names = [label] if feature_names is None and label else feature_names
        X = np.asarray(X).reshape(-1, 1)
    # scikit-learn's checks want an estimator: one that bears the name of the function.
    checker = type(caller, (BaseEstimator,), {})()
    try:
        array = validate_features(checker, X)
    except (TypeError, ValueError) as error:
        message = str(error).replace(" of X ", f" of {name} ").replace("Input X ", f"Input {name} ")
        raise type(error)(message) from None
    if feature_names is None:
        seen = getattr(checker, "feature_names_in_", None)
        if seen is None:
            seen = getattr(X, "columns", [f"x{j}" for j in range(array.shape[1])])
        return array, [str(name) for name in seen]
    names = [str(name) for name in feature_names]
    if len(names) != array.shape[1]:
        raise ValueError(
            f"{caller}: feature_names has {len(names)} entries but X has {array.shape[1]} "
            "columns; pass one name per column"
        )
    return array, names


def check_row_weights(
    weights: ArrayLike | None, n: int, *, caller: str, name: str = "weights"
) -> NDArray[np.float64]:
    """Weights of n rows, ones for None, that are not all zero.

    Parameters
    ----------
    weights : array-like of shape (n,) or None
        Non-negative weights.
    n : int
        Number of rows.
    caller : str
        The function that errors name.
    name : str, default="weights"
        What to call them in an error message.

    Returns
    -------
    ndarray of shape (n,)

    Raises
    ------
    ValueError
        If they are negative, not finite, all zero, or not one per row.
    """
    if weights is None:
        return np.ones(n)
    array = check_weights(weights, name=name)
    if array.size != n:
        raise ValueError(
            f"{caller}: {name} has {array.size} entries but there are {n} rows; pass one per row"
        )
    if not array.any():
        raise ValueError(f"{caller}: {name} is zero in every row; at least one must be positive")
    return array

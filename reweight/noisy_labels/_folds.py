"""Folds as row numbers, which may lose rows of their train parts."""

from numbers import Integral
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.model_selection import GroupKFold, KFold, check_cv

from reweight.validation import count_rows

Folds = list[tuple[NDArray[np.intp], NDArray[np.intp]]]


def make_folds(owner: str, cv: Any, X: Any, y: NDArray, groups: Any, seed: int) -> Folds:
    """Train and test rows of each fold; a number of folds shuffles and keeps groups whole.

    Parameters
    ----------
    owner : str
        Who is asking, for error messages.
    cv : int, splitter or iterable of (train, test)
        Folds.
    X : array-like of shape (n_samples, n_features)
        Features.
    y : ndarray of shape (n_samples,)
        Outcomes.
    groups : ndarray of shape (n_samples,) or None
        Rows to keep together.
    seed : int
        Shuffles the rows.

    Returns
    -------
    list of (train, test)

    Raises
    ------
    ValueError
        If rows are in no test part, or a train part is empty.
    """
    if isinstance(cv, Integral):
        splitter = KFold if groups is None else GroupKFold
        cv = splitter(int(cv), shuffle=True, random_state=seed)
    everyone = np.arange(len(y))
    folds = [(everyone[train], everyone[test]) for train, test in check_cv(cv).split(X, y, groups)]
    predicted = np.zeros(len(y), dtype=bool)
    for train, test in folds:
        if not len(train):
            raise ValueError(f"{owner}: a fold has no rows to fit on; pass a cv that leaves some")
        predicted[test] = True
    if not predicted.all():
        raise ValueError(
            f"{owner}: cv leaves {int((~predicted).sum())} of {len(y)} rows out of every test "
            "part, so nothing is predicted for them; pass a cv whose test parts cover all rows"
        )
    return folds


def folds_of_rows(
    owner: str, cv: Any, X: Any, table: Any, groups: Any, rows: NDArray[np.intp], seed: int
) -> Folds:
    """Folds of the rows of positive weight, in their own numbering.

    Parameters
    ----------
    owner : str
        Who is asking, for error messages.
    cv : int, splitter or iterable of (train, test)
        Folds, of all rows unless it is a number.
    X : array-like of shape (n_samples, n_features)
        Features of all rows.
    table : OutcomeTable
        The rows of positive weight.
    groups : ndarray of shape (n_samples,) or None
        Groups of all rows.
    rows : ndarray of int
        Numbers of the rows of positive weight.
    seed : int
        Shuffles the rows.

    Returns
    -------
    list of (train, test)
    """
    n = count_rows(X)
    if isinstance(cv, Integral) or len(rows) == n:
        return make_folds(owner, cv, table.X, table.y, table.groups, seed)
    outcomes = np.zeros(n)
    outcomes[rows] = table.y
    return restrict_folds(make_folds(owner, cv, X, outcomes, groups, seed), rows, n)


def restrict_folds(folds: Folds, rows: NDArray[np.intp], n_samples: int) -> Folds:
    """The same folds in the numbering of some of the rows, without folds that lose all of either.

    Parameters
    ----------
    folds : list of (train, test)
        Folds of all rows.
    rows : ndarray of int
        Rows to keep.
    n_samples : int
        Number of all rows.

    Returns
    -------
    list of (train, test)
    """
    number = np.full(n_samples, -1)
    number[rows] = np.arange(len(rows))
    restricted = []
    for train, test in folds:
        parts = number[train], number[test]
        restricted.append(tuple(part[part >= 0] for part in parts))
    return [(train, test) for train, test in restricted if len(train) and len(test)]


def without_rows(folds: Folds, removed: NDArray[np.bool_]) -> Folds:
    """Folds whose models do not learn from some rows, but predict them.

    A fold that would have nothing to learn from keeps its rows.

    Parameters
    ----------
    folds : list of (train, test)
        Folds.
    removed : ndarray of bool of shape (n_samples,)
        Rows not to learn from.

    Returns
    -------
    list of (train, test)
    """
    return [
        (train[~removed[train]] if (~removed[train]).any() else train, test)
        for train, test in folds
    ]

"""Pairs of weights for several values of D, and the choice among them."""

import warnings
from dataclasses import dataclass, field
from numbers import Integral
from typing import Any

import numpy as np
from joblib import Parallel, delayed
from numpy.typing import NDArray
from sklearn.base import clone
from sklearn.model_selection import StratifiedKFold, check_cv

from shift.covariate._minimax_game import Game, Solution

# Risks that differ by less than the solvers resolve are ties, which the smallest D wins.
TIE = 1e-9


@dataclass(frozen=True)
class WeightPair:
    """Source and target weights, and where they come from.

    Parameters
    ----------
    D : float or None
        Bound of the weighter; None for weights that were given.
    source : ndarray of shape (n,)
        Source weights of the rows of positive sampling weight, without the sampling weights.
    target : ndarray of shape (t,)
        Target weights.
    weighter : estimator or None
        Fitted weighter.
    own_target : ndarray of shape (n,) or None
        Target weights at the source rows; None is one everywhere.
    warnings : list of tuple (str, type)
        What the weighter warned of.
    """

    D: float | None
    source: NDArray[np.float64]
    target: NDArray[np.float64]
    weighter: Any = None
    own_target: NDArray[np.float64] | None = None
    warnings: list[tuple[str, type[Warning]]] = field(default_factory=list)


def weight_pairs(
    weighter: Any,
    values: NDArray[np.float64],
    X: NDArray[np.float64],
    s: NDArray[np.float64],
    X_target: NDArray[np.float64],
    *,
    n_jobs: int | None = None,
) -> list[WeightPair]:
    """Fit the weighter for each value of D.

    Parameters
    ----------
    weighter : estimator
        Unfitted weighter; without a parameter D it is fitted once, as D = 1.
    values : ndarray of shape (n_values,)
        Values of D.
    X : ndarray of shape (n, p)
        Source rows.
    s : ndarray of shape (n,)
        Their positive sampling weights.
    X_target : ndarray of shape (t, p)
        Target rows.
    n_jobs : int, default=None
        Number of fits at the same time.

    Returns
    -------
    list of WeightPair
        In the order of `values`.
    """
    if "D" not in weighter.get_params(deep=False):
        return [_fit_pair(weighter, 1.0, X, s, X_target)]
    return Parallel(n_jobs=n_jobs)(
        delayed(_fit_pair)(clone(weighter).set_params(D=float(D)), float(D), X, s, X_target)
        for D in values
    )


def _fit_pair(weighter: Any, D: float, X: NDArray, s: NDArray, X_target: NDArray) -> WeightPair:
    """One pair; warnings are kept for the value of D that is chosen in the end."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        weighter.fit(X, X_target=(X_target,), sample_weight=s)
    double = hasattr(weighter, "raw_target_weights_")
    weights = weighter.raw_weights_ if double else weighter.weights_
    own = (
        weighter.predict_target_weights(X) if hasattr(weighter, "predict_target_weights") else None
    )
    return WeightPair(
        D=D,
        source=weights * s.mean() / s,
        target=weighter.raw_target_weights_ if double else np.ones(len(X_target)),
        weighter=weighter,
        own_target=own,
        warnings=[(str(entry.message), entry.category) for entry in caught],
    )


def fold_rows(
    cv: Any, X: NDArray, y: NDArray, rows: NDArray[np.intp], random_state: int
) -> list[tuple[NDArray[np.intp], NDArray[np.intp]]]:
    """Folds as positions among the rows of positive sampling weight.

    Parameters
    ----------
    cv : int, cross-validator or iterable
        An int is a number of stratified, shuffled folds; the others split all rows.
    X, y : ndarray
        All source rows and their classes.
    rows : ndarray of int
        The rows of positive sampling weight.
    random_state : int
        Seed of the shuffle.

    Returns
    -------
    list of tuple of ndarray
    """
    if isinstance(cv, Integral):
        splitter = StratifiedKFold(cv, shuffle=True, random_state=random_state)
        return list(splitter.split(X[rows], y[rows]))
    position = np.full(len(y), -1)
    position[rows] = np.arange(rows.size)
    splits = check_cv(cv, y, classifier=True).split(X, y)
    return [tuple(position[part][position[part] >= 0] for part in split) for split in splits]


@dataclass(frozen=True)
class Path:
    """Solutions of all pairs and which one is best.

    Parameters
    ----------
    solutions : list of Solution
        In the order of the pairs.
    minimax_risks : ndarray of shape (n_pairs,)
        Minimax risk of each.
    validation_risks : ndarray of shape (n_pairs,) or None
        Importance-weighted loss of each.
    best : int
        Position of the best.
    """

    solutions: list[Solution]
    minimax_risks: NDArray[np.float64]
    validation_risks: NDArray[np.float64] | None
    best: int


def solve_path(
    game: Game,
    pairs: list[WeightPair],
    importance: NDArray[np.float64] | None,
    folds: list[tuple[NDArray, NDArray]] | None,
    *,
    n_jobs: int | None = None,
) -> Path:
    """Solve for every pair and choose one.

    Parameters
    ----------
    game : Game
        The fit without its weights.
    pairs : list of WeightPair
        Pairs of weights, by increasing D.
    importance : ndarray of shape (n,) or None
        Density ratio at the source rows: choose by importance-weighted cross-validation. None
        chooses by minimax risk.
    folds : list of tuple of ndarray, or None
        Training and held-out rows of each fold.
    n_jobs : int, default=None
        Number of pairs at the same time.

    Returns
    -------
    Path
    """
    if len(pairs) == 1:
        solution = game.solve(pairs[0].source, pairs[0].target)
        return Path([solution], np.array([solution.result.objective]), None, 0)
    solutions = Parallel(n_jobs=n_jobs)(
        delayed(game.solve)(pair.source, pair.target) for pair in pairs
    )
    risks = np.array([solution.result.objective for solution in solutions])
    validation = None
    if importance is not None:
        validation = np.array(
            Parallel(n_jobs=n_jobs)(
                delayed(game.validation_risk)(
                    pair.source, pair.target, pair.own_target, importance, folds
                )
                for pair in pairs
            )
        )
    criterion = risks if validation is None else validation
    best = int(np.flatnonzero(criterion <= criterion.min() + TIE)[0])
    return Path(solutions, risks, validation, best)

"""Base models fitted on all rows, without each fold, and without each pair of folds."""

import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import combinations
from numbers import Integral
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import clone
from sklearn.model_selection import GroupKFold, KFold, check_cv

from reweight.cross_fitting import cross_fit
from reweight.parallel import parallel_map
from reweight.validation import count_rows
from reweight.weighted_fit import weighted_fit

Fold = tuple[NDArray[np.intp], NDArray[np.intp]]
Pair = tuple[int, int]
# In place of the numbers of folds that a model is fitted without.
EVERYTHING = ()


@dataclass
class CrossedModels:
    """What base models predict for rows that they have not seen, and the models.

    Parameters
    ----------
    folds : list of (train, test)
        Row numbers.
    models : list of estimator or None
        Fitted on all rows.
    fold_models : list of list of estimator
        For each fold, the models fitted without it.
    predictions : ndarray of shape (n, p, m)
        By the models of the fold that a row is in, the mean over several; NaN
        for rows in none.
    fold_predictions : list of ndarray of shape (n_test, p, m)
        By the models of each fold.
    pair_predictions : dict
        (f, g) to the (n_test, p, m) predictions for fold g by models fitted
        without f and g.
    seconds : ndarray of shape (p,)
        Time spent on fits of each model.
    """

    folds: list[Fold]
    models: list[Any] | None
    fold_models: list[list[Any]]
    predictions: NDArray[np.float64]
    fold_predictions: list[NDArray[np.float64]]
    pair_predictions: dict[Pair, NDArray[np.float64]] = field(default_factory=dict)
    seconds: NDArray[np.float64] = field(default_factory=lambda: np.zeros(0))

    def training_part(self, fold: int) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
        """Rows that an aggregate for a fold may learn from, and predictions for them.

        Parameters
        ----------
        fold : int
            Number of the fold.

        Returns
        -------
        rows : ndarray of shape (n_rows,)
        Q : ndarray of shape (n_rows, p, m)
            With pairs, by models that have seen neither the row nor the fold.
        """
        if not self.pair_predictions:
            usable = np.isfinite(self.predictions[:, 0, 0])
            usable[self.folds[fold][1]] = False
            rows = np.flatnonzero(usable)
            return rows, self.predictions[rows]
        others = [g for g in range(len(self.folds)) if g != fold]
        train = self.folds[fold][0]
        rows, parts = [], []
        for g in others:
            kept = np.isin(self.folds[g][1], train)
            rows.append(self.folds[g][1][kept])
            parts.append(self.pair_predictions[fold, g][kept])
        return np.concatenate(rows), np.concatenate(parts)


def make_folds(
    X: Any, y: NDArray, cv: Any, groups: Any, random_state: Any, rows: NDArray[np.intp], n: int
) -> list[Fold]:
    """Train and test part of each fold, as positions in X.

    Parameters
    ----------
    X : array-like
        Rows to split.
    y : ndarray
        Their outcomes.
    cv : int, cross-validation generator or iterable
        An int keeps groups whole, and shuffles if there is a random state.
    groups : array-like or None
        Rows not to be split.
    random_state : int or None
        Seed.
    rows : ndarray of int
        Which of the n rows passed by the user those of X are; folds given as
        lists of rows speak of these.
    n : int
        Number of rows passed by the user.

    Returns
    -------
    list of (train, test)
    """
    if cv is None or isinstance(cv, Integral):
        splitter = KFold if groups is None else GroupKFold
        shuffle = random_state is not None
        cv = splitter(
            5 if cv is None else int(cv),
            shuffle=shuffle,
            random_state=random_state if shuffle else None,
        )
    given = not hasattr(cv, "split") and isinstance(cv, Iterable)
    count = n if given else count_rows(X)
    everyone = np.arange(count)
    place = everyone
    if given:
        place = np.full(n, -1)
        place[rows] = np.arange(len(rows))
    folds = []
    for train, test in check_cv(cv).split(X, y, groups):
        parts = (place[everyone[part]] for part in (train, test))
        train, test = (part[part >= 0] for part in parts)
        if len(test):
            folds.append((train, test))
    return folds


def cross_models(
    models: list[Any],
    X: Any,
    y: NDArray,
    sample_weight: ArrayLike | None,
    folds: list[Fold],
    *,
    n_quantiles: int,
    refit: bool,
    nested: bool,
    keep: bool,
    owner: str,
    n_jobs: int | None,
    verbose: int,
) -> CrossedModels:
    """Fit every model on every part of the rows that is needed.

    Parameters
    ----------
    models : list of p estimators
        Each with a `predict` that returns (n, m).
    X : array-like of shape (n, d)
        Features.
    y : ndarray of shape (n,)
        Outcomes.
    sample_weight : array-like of shape (n,) or None
        Row weights.
    folds : list of (train, test)
        Row numbers.
    n_quantiles : int
        Number of levels m.
    refit : bool
        Whether to fit on all rows too.
    nested : bool
        Whether to fit without each pair of folds too.
    keep : bool
        Whether the models of folds are needed.
    owner : str
        Who is asking, for errors and the progress bar.
    n_jobs : int or None
        Jobs over fits.
    verbose : int
        Whether to show a progress bar.

    Returns
    -------
    CrossedModels
    """
    n, p, m = count_rows(X), len(models), n_quantiles
    parts: list[tuple[int, ...]] = [(f,) for f in range(len(folds))]
    if nested:
        parts += list(combinations(range(len(folds)), 2))
    if refit:
        parts.append(EVERYTHING)
    tasks = [(j, part) for part in parts for j in range(p)]
    results = parallel_map(
        _fit_part,
        (
            (models[j], X, y, sample_weight, *_part_rows(folds, part), keep or not part, owner)
            for j, part in tasks
        ),
        total=len(tasks),
        n_jobs=n_jobs,
        verbose=verbose,
        name=f"{owner}: fits",
    )
    fitted = dict(zip(tasks, results, strict=True))
    seconds = np.zeros(p)
    for (j, _), (_, _, spent) in fitted.items():
        seconds[j] += spent
    by_fold = [np.stack([fitted[j, (f,)][1] for j in range(p)], axis=1) for f in range(len(folds))]
    total, counts = np.zeros((n, p, m)), np.zeros(n)
    for (_, test), values in zip(folds, by_fold, strict=True):
        np.add.at(total, test, values)
        np.add.at(counts, test, 1)
    predictions = np.full((n, p, m), np.nan)
    seen = counts > 0
    predictions[seen] = total[seen] / counts[seen, None, None]
    pairs: dict[Pair, NDArray] = {}
    for f, g in combinations(range(len(folds)), 2) if nested else ():
        both = np.stack([fitted[j, (f, g)][1] for j in range(p)], axis=1)
        # The test part of a pair holds the rows of its first fold, then those of its second.
        pairs[g, f], pairs[f, g] = np.split(both, [len(folds[f][1])])
    return CrossedModels(
        folds=folds,
        models=[fitted[j, EVERYTHING][0] for j in range(p)] if refit else None,
        fold_models=[[fitted[j, (f,)][0] for j in range(p)] for f in range(len(folds))],
        predictions=predictions,
        fold_predictions=by_fold,
        pair_predictions=pairs,
        seconds=seconds,
    )


def _part_rows(folds: list[Fold], part: tuple[int, ...]) -> tuple[Any, Any]:
    """Rows to fit on and rows to predict."""
    if not part:
        return None, None
    if len(part) == 1:
        return folds[part[0]]
    (train, test), (other_train, other_test) = (folds[f] for f in part)
    return np.intersect1d(train, other_train), np.concatenate([test, other_test])


def _fit_part(
    model: Any,
    X: Any,
    y: NDArray,
    sample_weight: Any,
    train: NDArray | None,
    test: NDArray | None,
    keep: bool,
    owner: str,
) -> tuple[Any, NDArray | None, float]:
    """A fitted model, what it predicts for the test rows, and the seconds it took."""
    start = time.perf_counter()
    if train is None:
        fitted = weighted_fit(clone(model), X, y, sample_weight, owner=owner)
        return fitted, None, time.perf_counter() - start
    crossed = cross_fit(model, X, y, cv=[(train, test)], sample_weight=sample_weight)
    seconds = time.perf_counter() - start
    return crossed.estimators[0] if keep else None, crossed.predictions[test], seconds

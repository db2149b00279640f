"""Folds of cross-fitting: test parts that cover each row once, both arms in each training part."""

import warnings
from numbers import Integral
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.model_selection import (
    GroupKFold,
    KFold,
    StratifiedGroupKFold,
    StratifiedKFold,
    check_cv,
)

from causal.effects._effect_data import EffectData

Folds = list[tuple[NDArray[np.intp], NDArray[np.intp]]]
ARMS = ("control", "treated")


def number_of_folds(cv: Any, n_samples: int) -> Any:
    """An int for "auto", fewer folds the more rows; anything else as it is.

    Parameters
    ----------
    cv : int, "auto", splitter or iterable
        What the user passed.
    n_samples : int
        Number of rows.

    Returns
    -------
    int, splitter or iterable
    """
    if not isinstance(cv, str):
        return cv
    for folds, limit in ((10, 1_000), (5, 50_000), (3, 500_000)):
        if n_samples < limit:
            return folds
    return 2


def make_effect_folds(
    cv: Any, data: EffectData, *, random_state: int, cross_fitting: int, owner: str
) -> Folds:
    """Row numbers of the training and test part of each fold.

    With `cross_fitting` 3 or 4 only the test parts count: they are the parts of
    the rows of which each model sees one.

    Parameters
    ----------
    cv : int, "auto", None, splitter or iterable of (train, test)
        An int or "auto" shuffles, stratifies by a binary treatment and keeps
        groups whole.
    data : EffectData
        Rows of the study.
    random_state : int
        Seeds the shuffle.
    cross_fitting : {2, 3, 4}
        Order of cross-fitting.
    owner : str
        Who is asking, for error messages.

    Returns
    -------
    list of (train, test)
    """
    n = len(data.y)
    if cross_fitting > 2:
        if isinstance(cv, (Integral, str)) and cv != cross_fitting:
            raise ValueError(
                f"{owner}: cross_fitting={cross_fitting} needs exactly {cross_fitting} parts, but "
                f"cv is {cv!r}; pass cv=None"
            )
        cv = cross_fitting if cv is None else cv
    cv = number_of_folds(5 if cv is None else cv, n)
    stratify = data.treatment.astype(int) if data.binary else None
    if isinstance(cv, Integral):
        _check_size(int(cv), data, owner)
        cv = _splitter(int(cv), data, random_state)
    X = np.empty((n, 0)) if isinstance(data.X, np.ndarray) else data.X
    labels = np.zeros(n) if stratify is None else stratify
    everyone = np.arange(n)
    with warnings.catch_warnings():
        # Test parts without one of the arms do no harm; training parts are checked below.
        warnings.filterwarnings("ignore", "The least populated class", UserWarning)
        splits = check_cv(cv, labels, classifier=data.binary).split(X, labels, data.groups)
        folds = [(everyone[train], everyone[test]) for train, test in splits]
    _check_partition(folds, n, cross_fitting, owner)
    for number, (train, test) in enumerate(folds):
        seen = train if cross_fitting == 2 else test
        _check_arms(data, seen, number, owner)
        if data.groups is not None:
            unseen = np.setdiff1d(everyone, seen) if cross_fitting > 2 else test
            if np.intersect1d(data.groups[seen], data.groups[unseen]).size:
                raise ValueError(
                    f"{owner}: fold {number} of cv splits groups; use sklearn.model_selection."
                    "GroupKFold, or an int, which keeps groups whole"
                )
    return folds


def _splitter(k: int, data: EffectData, random_state: int) -> Any:
    if data.groups is None:
        kind = StratifiedKFold if data.binary else KFold
        return kind(k, shuffle=True, random_state=random_state)
    if data.binary:
        return StratifiedGroupKFold(k, shuffle=True, random_state=random_state)
    return GroupKFold(k, shuffle=True, random_state=random_state)


def _check_size(k: int, data: EffectData, owner: str) -> None:
    if k > len(data.y):
        raise ValueError(
            f"{owner}: cv={k} folds for n_samples={len(data.y)} rows; pass a smaller cv"
        )
    if k < 2:
        raise ValueError(f"{owner}: cv={k} is not cross-fitting; pass at least 2 folds")
    if data.binary and data.groups is None:
        counts = np.bincount(data.treatment.astype(int), minlength=2)
        if counts.max() < k:
            raise ValueError(
                f"{owner}: the arms have {counts[0]} and {counts[1]} rows, fewer than cv={k} "
                "folds; pass a smaller cv"
            )


def _check_partition(folds: Folds, n: int, cross_fitting: int, owner: str) -> None:
    if cross_fitting > 2 and len(folds) != cross_fitting:
        raise ValueError(
            f"{owner}: cross_fitting={cross_fitting} needs exactly {cross_fitting} parts, but cv "
            f"has {len(folds)}; pass cv=None"
        )
    counts = np.bincount(np.concatenate([test for _, test in folds]), minlength=n)
    if (counts != 1).any():
        raise ValueError(
            f"{owner}: the test parts of cv are no partition of the rows: "
            f"{int((counts == 0).sum())} are in none, {int((counts > 1).sum())} in several; pass "
            "folds that test each row once"
        )
    for number, (train, test) in enumerate(folds):
        tested = np.zeros(n, dtype=bool)
        tested[test] = True
        if cross_fitting == 2 and tested[train].any():
            raise ValueError(
                f"{owner}: fold {number} of cv trains on rows that it tests; pass disjoint parts"
            )


def _check_arms(data: EffectData, seen: NDArray[np.intp], number: int, owner: str) -> None:
    weight = None if data.sample_weight is None else data.sample_weight[seen]
    if not len(seen) or (weight is not None and not weight.any()):
        raise ValueError(
            f"{owner}: fold {number} of cv has no rows of positive weight to fit on; use other "
            "folds"
        )
    if not data.binary:
        return
    arm = data.treatment[seen].astype(int)
    counts = np.bincount(arm, weight, minlength=2)
    if counts.min() <= 0:
        raise ValueError(
            f"{owner}: fold {number} has no {ARMS[int(np.argmin(counts))]} rows to fit on; use "
            "fewer folds or stratify"
        )


def fold_codes(folds: Folds, n: int) -> NDArray[np.intp]:
    """Number of the fold that tests each row.

    Parameters
    ----------
    folds : list of (train, test)
        Folds whose test parts are a partition.
    n : int
        Number of rows.

    Returns
    -------
    ndarray of int of shape (n,)
    """
    codes = np.empty(n, dtype=np.intp)
    for number, (_, test) in enumerate(folds):
        codes[test] = number
    return codes


def leave_fold_out(folds: Folds, n: int) -> bool:
    """Whether each training part is everything but the test part.

    Parameters
    ----------
    folds : list of (train, test)
        Folds.
    n : int
        Number of rows.

    Returns
    -------
    bool
    """
    for train, test in folds:
        if len(train) != n - len(test) or np.bincount(train, minlength=n).max(initial=0) > 1:
            return False
    return True

"""Members of an ensemble: their seeds, their rows, and their fits."""

from numbers import Integral
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.model_selection import KFold, check_cv

from reweight.validation import take_rows
from reweight.weighted_fit import weighted_fit

Array = NDArray[np.float64]

RESAMPLES = ("seed", "bootstrap", "subsample")
SUBSAMPLE_SHARE = 0.8
# Excess kurtosis below which the tails of z are taken for normal.
PRIOR_FREEDOM = 0.05


def seed_member(estimator: Any, seed: int) -> Any:
    """Set every random_state of an estimator and of what it is made of."""
    rng = np.random.RandomState(seed)
    states = {
        name: int(rng.randint(np.iinfo(np.int32).max))
        for name in sorted(estimator.get_params(deep=True))
        if name == "random_state" or name.endswith("__random_state")
    }
    return estimator.set_params(**states)


def draw_rows(rows: NDArray[np.intp], resample: str, seed: int) -> NDArray[np.intp]:
    """The rows that a member learns from."""
    rng = np.random.default_rng(seed)
    if resample == "bootstrap":
        return np.sort(rng.choice(rows, len(rows)))
    if resample == "subsample":
        size = max(1, round(SUBSAMPLE_SHARE * len(rows)))
        return np.sort(rng.choice(rows, size, replace=False))
    return rows


def fit_member(
    model: Any,
    X: Any,
    y: Array,
    weights: Array | None,
    rows: NDArray[np.intp],
    test: NDArray[np.intp],
    owner: str,
) -> tuple[Any, NDArray[np.intp], Array | None]:
    """A fitted member, the rows that it learned from, and what it predicts for others."""
    X_rows, y_rows = take_rows(model, X, y, rows)
    weighted_fit(model, X_rows, y_rows, None if weights is None else weights[rows], owner=owner)
    if not len(test):
        return model, rows, None
    return model, rows, np.asarray(model.predict(take_rows(model, X, None, test)[0]), dtype=float)


def calibration_folds(
    owner: str, cv: Any, X: Any, y: Array, seed: int
) -> list[tuple[NDArray[np.intp], NDArray[np.intp]]]:
    """Train and test rows of each fold; a number of folds shuffles."""
    n = len(y)
    if cv is None:
        cv = 5
    if isinstance(cv, Integral):
        if n < 2 * int(cv):
            raise ValueError(
                f"{owner}: n_samples = {n} rows are too few for cv={cv}; at least {2 * int(cv)} "
                "are needed; pass fewer folds or more rows"
            )
        cv = KFold(int(cv), shuffle=True, random_state=seed)
    everyone = np.arange(n)
    return [
        (everyone[train], everyone[test]) for train, test in check_cv(cv).split(X, y) if len(test)
    ]

"""The share of rows without which models predict all recorded outcomes best."""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import r2_score

from reweight.noisy_labels._folds import Folds, without_rows

COARSE = (5, 10, 15, 20)
FINE = 4


def search_removed_rows(
    fit: Callable, table: Any, folds: Folds, scores: NDArray[np.float64]
) -> tuple[NDArray[np.bool_], NDArray[np.float64]]:
    """Rows to remove, and the path of the search.

    Shares of 5, 10, 15 and 20 % of the highest scores are removed, then whole
    percentages around the best; removing nothing competes too.

    Parameters
    ----------
    fit : callable
        Takes a table and folds, gives a `CrossFit`.
    table : object with `y`, `weights` and `is_clean`
        The rows.
    folds : list of (train, test)
        Folds.
    scores : ndarray of shape (n_samples,)
        Suspicion of each row.

    Returns
    -------
    removed : ndarray of bool of shape (n_samples,)
    path : ndarray of shape (n_steps, 2)
        Removed share and R^2 over all rows, by share.
    """
    n = len(scores)
    order = np.argsort(-np.where(table.is_clean, -np.inf, scores), kind="stable")
    found: dict[int, float] = {}

    def removed_rows(percent: int) -> NDArray[np.bool_]:
        removed = np.zeros(n, dtype=bool)
        removed[order[: round(percent / 100 * n)]] = True
        return removed & ~table.is_clean

    def evaluate(percent: int) -> None:
        if percent not in found and percent >= 0:
            crossed = fit(table, without_rows(folds, removed_rows(percent)))
            found[percent] = r2_score(table.y, crossed.predictions, sample_weight=table.weights)

    for percent in (0, *COARSE):
        evaluate(percent)
    best = max(COARSE, key=found.get)
    for percent in range(best - FINE, best + FINE + 1):
        evaluate(percent)
    path = np.array([[percent / 100, found[percent]] for percent in sorted(found)])
    # Of equals, the smallest share wins.
    return removed_rows(max(sorted(found), key=found.get)), path

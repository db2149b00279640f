"""Relaxed proportional odds along a path of five penalties, and a million rows of one.

No package in Python fits the model. Beside it stands plain proportional odds of statsmodels on the
same rows, where it is installed: a smaller problem, solved once. `gap` is the largest violation of
the optimality conditions on standardised features.
"""

from collections.abc import Iterator

import numpy as np
from case import Case
from scipy.special import expit

from reweight import RelaxedProportionalOdds


def draw(n_rows: int, n_columns: int) -> tuple[np.ndarray, np.ndarray]:
    """Uniform features, four levels of which the last is rare, slopes that differ sparsely."""
    rng = np.random.default_rng(0)
    X = rng.uniform(-1, 1, size=(n_rows, n_columns))
    slopes = np.zeros((3, n_columns))
    slopes[0, ::3], slopes[1, 1], slopes[2, 2] = 0.5, 0.5, -0.5
    logits = X @ np.cumsum(slopes, axis=0).T + [0.0, 3.0, 5.0]
    return X, (rng.uniform(size=(n_rows, 1)) > expit(logits)).sum(axis=1)


def cases(quick: bool) -> Iterator[Case]:
    X, y = draw(2500, 10)
    size = {"rows": 2500, "columns": 10, "levels": 4, "penalties": 5}

    def path():
        return RelaxedProportionalOdds().path(X, y, 5)

    yield Case("counterpoise", size, path, lambda found: {"gap": float(found.optimality_gap.max())})
    yield from peers(X, y, size)
    if quick:
        return
    X_large, y_large = draw(1_000_000, 50)

    def fit():
        return RelaxedProportionalOdds(1e-3).fit(X_large, y_large)

    size = {"rows": 1_000_000, "columns": 50, "levels": 4, "penalties": 1}
    yield Case("counterpoise", size, fit, lambda model: {"gap": model.optimality_gap_})


def peers(X: np.ndarray, y: np.ndarray, size: dict) -> Iterator[Case]:
    try:
        from statsmodels.miscmodels.ordinal_model import OrderedModel
    except ImportError:
        print("statsmodels is not installed: pip install statsmodels")
        return

    def run():
        return OrderedModel(y, X, distr="logit").fit(method="bfgs", maxiter=500, disp=0)

    yield Case("statsmodels, proportional odds, no penalty", {**size, "penalties": 1}, run)

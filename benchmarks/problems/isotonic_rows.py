"""Rows of 99 quantiles made monotone, beside scikit-learn and scipy one row at a time.

`error` is the largest difference from scikit-learn's rows on the first hundred.
"""

from collections.abc import Iterator

import numpy as np
from case import Case
from scipy.optimize import isotonic_regression as scipy_isotonic
from sklearn.isotonic import isotonic_regression

from reweight import isotonic_quantiles

N_LEVELS = 99


def cases(quick: bool) -> Iterator[Case]:
    rng = np.random.default_rng(0)
    n = 10_000 if quick else 100_000
    Q = np.sort(rng.normal(size=(n, N_LEVELS)), axis=1) + 0.3 * rng.normal(size=(n, N_LEVELS))
    size = {"rows": n, "levels": N_LEVELS}
    expected = np.array([isotonic_regression(q) for q in Q[:100]])

    def judge(fitted):
        return {"error": float(np.abs(fitted[:100] - expected).max())}

    yield Case("counterpoise", size, lambda: isotonic_quantiles(Q), judge)
    yield Case("scipy", size, lambda: np.array([scipy_isotonic(q).x for q in Q]), judge)
    yield Case("scikit-learn", size, lambda: np.array([isotonic_regression(q) for q in Q]), judge)

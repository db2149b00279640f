"""Weighting vectors of normal rows in three columns, the scale chosen to half of all points.

No other library solves them without the whole matrix; the peers score the same rows as outliers by
other means, 20 neighbours or a forest, and numpy solves the small problem with the matrix at hand
and the scale known. `left` is the largest deviation of Z w from one at random rows.
"""

from collections.abc import Iterator

import numpy as np
from case import Case
from scipy.spatial.distance import cdist
from sklearn.ensemble import IsolationForest
from sklearn.neighbors import LocalOutlierFactor

from reweight import WeightingVector

CHECKED_ROWS = 200


def cases(quick: bool) -> Iterator[Case]:
    for n in [4000] if quick else [4000, 100_000]:
        X = np.random.default_rng(0).normal(size=(n, 3))
        size = {"rows": n, "columns": 3}
        scale = WeightingVector(random_state=0).fit(X).scale_

        def judge(w, X=X, scale=scale):
            similarity = np.exp(-scale * cdist(X[:CHECKED_ROWS], X))
            return {"left": float(np.abs(similarity @ w - 1).max()), "magnitude": float(w.sum())}

        def ours(X=X):
            return WeightingVector(random_state=0).fit(X).weighting_vector_

        yield Case("counterpoise", size, ours, judge)
        if n <= 10_000:

            def dense(X=X, scale=scale):
                return np.linalg.solve(np.exp(-scale * cdist(X, X)), np.ones(len(X)))

            yield Case("numpy", size, dense, judge)
        yield Case("LocalOutlierFactor", size, lambda X=X: LocalOutlierFactor(20).fit_predict(X))
        yield Case(
            "IsolationForest",
            size,
            lambda X=X: IsolationForest(random_state=0).fit(X).score_samples(X),
        )

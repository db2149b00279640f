"""Partially linear effect with ridge and logistic nuisances: ours beside DoubleML and EconML.

All three fit the same models on the same five folds. `counterpoise, chunks` reads the rows in ten
chunks, several times, as if they did not fit into memory. `, modified` lets the effect depend
linearly on every covariate.
"""

from collections.abc import Iterator

import numpy as np
from case import Case
from scipy.special import expit
from sklearn.linear_model import LogisticRegression, Ridge

from causal import PartiallyLinearDML, RLearner, make_effect_target

EFFECT = 1.5
N_FOLDS = 5
N_CHUNKS = 10


def study(n_rows: int, n_columns: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Normal covariates, a treatment whose log-odds are linear in them, and a linear outcome."""
    rng = np.random.default_rng(0)
    X = rng.standard_normal((n_rows, n_columns))
    t = (rng.random(n_rows) < expit(X @ np.resize([0.3, -0.2, 0.1, 0.0], n_columns))).astype(float)
    y = X @ np.resize([1.0, 0.5, 0.0, -0.5], n_columns) + EFFECT * t + rng.standard_normal(n_rows)
    return X, y, t


def cases(quick: bool) -> Iterator[Case]:
    for n_rows in [10_000] if quick else [10_000, 100_000, 1_000_000]:
        X, y, t = study(n_rows, 20)
        size = {"rows": n_rows, "columns": 20}
        code = np.random.default_rng(1).permutation(n_rows) % N_FOLDS
        folds = [(np.flatnonzero(code != k), np.flatnonzero(code == k)) for k in range(N_FOLDS)]

        def judge(result: tuple[float, float]) -> dict[str, float]:
            return {"estimate": result[0], "stderr": result[1]}

        def ours(X=X, y=y, t=t, folds=folds):
            fit = PartiallyLinearDML(Ridge(), LogisticRegression(), cv=folds)
            fit.fit(X, y, treatment=t)
            return fit.effect_, fit.stderr_

        def chunked(X=X, y=y, t=t):
            target = make_effect_target(y, t)
            rows = np.array_split(np.arange(len(y)), N_CHUNKS)
            fit = PartiallyLinearDML(Ridge(), LogisticRegression(), random_state=0)
            fit.fit_chunks([(X[part], target[part]) for part in rows])
            return fit.effect_, fit.stderr_

        def modified(X=X, y=y, t=t, folds=folds):
            fit = RLearner(Ridge(), LogisticRegression(), cv=folds).fit(X, y, treatment=t)
            return fit.predict(X).mean(), fit.stderr_[:-1].mean()

        yield Case("counterpoise", size, ours, judge)
        yield Case("counterpoise, modified", size, modified, judge)
        yield Case("counterpoise, chunks", size, chunked, judge)
        # A million rows take EconML half a minute.
        if n_rows <= 100_000:
            yield from peers(X, y, t, folds, size, judge)


def peers(X, y, t, folds, size, judge) -> Iterator[Case]:
    try:
        from doubleml import DoubleMLData, DoubleMLPLR
        from econml.dml import LinearDML
    except ImportError as error:
        print(f"{error.name} is not installed: pip install 'counterpoise[bench]'")
        return

    def run_double_ml():
        data = DoubleMLData.from_arrays(X, y, t)
        model = DoubleMLPLR(data, Ridge(), LogisticRegression(), n_folds=N_FOLDS)
        model.set_sample_splitting([folds])
        model.fit()
        return float(model.coef[0]), float(model.se[0])

    def run_econml():
        fit = LinearDML(
            model_y=Ridge(), model_t=LogisticRegression(), discrete_treatment=True, cv=folds
        )
        fit.fit(y, t, X=None, W=X)
        stderr = float(np.ravel(fit.intercept__inference().stderr)[0])
        return float(np.ravel(fit.intercept_)[0]), stderr

    def run_econml_modified():
        fit = LinearDML(
            model_y=Ridge(), model_t=LogisticRegression(), discrete_treatment=True, cv=folds
        )
        fit.fit(y, t, X=X)
        return fit.effect(X).mean(), fit.coef__inference().stderr.mean()

    yield Case("doubleml", size, run_double_ml, judge)
    yield Case("econml", size, run_econml, judge)
    yield Case("econml, modified", size, run_econml_modified, judge)

"""Sampling a sparse multinomial model: 300 rows, five features, three classes, four groups.

Four chains of 1000 draws after 1000 for tuning, at a target acceptance of 0.95, on one core at a
time for all. Beside PyMC's own NUTS on PyMC's graph, compiled before the run, and nutpie on that
graph, compilation of which counts as its users pay it for every model. `rhat` is the largest
rank-normalised R-hat, `ess` the smallest bulk effective sample size.
"""

import warnings
from collections.abc import Iterator

import numpy as np
from case import Case

from reweight import HorseshoeMultinomialClassifier

SIZE = {"rows": 300, "features": 5, "classes": 3, "groups": 4}


def draw() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    X = rng.normal(size=(300, 5))
    groups = rng.integers(0, 4, 300)
    eta = np.c_[0.8 + 1.5 * X[:, 0] - X[:, 1], 0.3 + 0.3 * X[:, 0], np.zeros(300)]
    eta[:, :2] += 0.5 * rng.normal(size=(4, 2))[groups]
    return X, (eta + rng.gumbel(size=eta.shape)).argmax(axis=1), groups


def cases(quick: bool) -> Iterator[Case]:
    X, y, groups = draw()
    length = {"draws": 250, "tune": 250} if quick else {"draws": 1000, "tune": 1000}

    def fit(sampler):
        model = HorseshoeMultinomialClassifier(
            sampler=sampler,
            random_state=0,
            cores=1,
            keep_log_likelihood=False,
            on_nonconvergence="ignore",
            **length,
        )
        return model.fit(X, y, groups=groups)

    def judge(model):
        found = model.diagnostics_
        return {"rhat": found["max_rhat"], "ess": found["min_ess_bulk"]}

    size = {**SIZE, "draws": 4 * length["draws"]}
    yield Case("counterpoise", size, lambda: fit("nutpie"), judge)
    yield Case("pymc, NUMBA", size, lambda: fit("pymc"), judge)
    yield Case("nutpie, PyMC graph", size, lambda: graph_by_nutpie(length), judge_trace)


def graph_by_nutpie(length: dict[str, int]):
    """Let nutpie sample the graph that PyMC's own sampler uses, compiled anew."""
    import nutpie
    import pymc as pm

    from reweight.reuse._sampling import _pymc_data, _pymc_model

    # A short run of ours prepares model and rows.
    X, y, groups = draw()
    model = HorseshoeMultinomialClassifier(
        draws=8, tune=8, chains=1, sampler="nutpie", random_state=0, on_nonconvergence="ignore"
    ).fit(X, y, groups=groups)
    graph = _pymc_model(model._model)
    with graph:
        pm.set_data(_pymc_data(model._model, model._data))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        compiled = nutpie.compile_pymc_model(graph)
        return nutpie.sample(
            compiled, chains=4, cores=1, seed=0, target_accept=0.95, progress_bar=False, **length
        )


def judge_trace(trace) -> dict[str, float]:
    import arviz as az

    rhat, ess = az.rhat(trace), az.ess(trace)
    return {
        "rhat": float(max(value.max() for value in rhat.values())),
        "ess": float(min(value.min() for value in ess.values())),
    }

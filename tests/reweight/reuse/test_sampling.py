"""Two samplers of one posterior, of which one may be missing, and the policy on their draws."""

import os
import subprocess
import sys
from pathlib import Path

import arviz as az
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.base import clone

from reweight import BayesianReuseClassifier, HorseshoeMultinomialClassifier
from reweight.reuse import _sampling
from reweight.reuse._convergence import check_convergence
from reweight.reuse._log_density import log_density
from reweight.reuse._model import GateData, GateModel, place_residuals
from reweight.reuse._sampling import (
    SamplerSettings,
    convergence_diagnostics,
    sample_posterior,
)

JOINT = {"joint": True, "cut_mean": (0.9, 0.75), "cut_sd": (0.03, 0.05)}
MODELS = {
    "joint": GateModel(2, 3, 2, "regularized", 0.3, **JOINT),
    "plain": GateModel(2, 3, 0, "plain", 0.3, symmetric=True),
    "shared": GateModel(2, 3, 2, "regularized", 0.3, shared_scales=True),
    "normal": GateModel(2, 2, 0, None, 0.3, joint=True, cut_mean=(0.8,), cut_sd=(0.1,)),
}


def make_data(model, rng, n=60):
    X = rng.normal(size=(n, 2))
    eta = np.zeros((n, model.n_classes))
    eta[:, 0] = 1.5 * X[:, 0]
    y = (eta + rng.gumbel(size=eta.shape)).argmax(axis=1)
    residual = 0.95 - 0.12 * y + rng.normal(0, 0.05, n)
    places = ()
    if model.joint:
        y[20:] = -1
        places = place_residuals(residual, None, np.ones(n))
    codes = rng.integers(0, max(model.n_groups, 1), n)
    return GateData(X, y, codes, np.ones(n), *places)


@pytest.mark.parametrize("name", MODELS)
def test_the_graph_of_pymc_has_the_density_of_the_kernel(name, rng):
    import pymc as pm
    from pymc.initial_point import make_initial_point_fn

    model = MODELS[name]
    data = make_data(model, rng)
    graph = _sampling._pymc_model(model)
    with graph:
        pm.set_data(_sampling._pymc_data(model, data))
    # Interpreted: five values are not worth a compilation.
    density = graph.compile_logp(mode="FAST_COMPILE")
    values = []
    for seed in range(5):
        start = _sampling._pymc_start(model, np.random.default_rng(seed))
        theta = np.random.default_rng(seed).uniform(-1, 1, model.n_parameters)
        ours = log_density(theta, *data.kernel_arguments(), *model.kernel_arguments())[0]
        point = make_initial_point_fn(model=graph, overrides=start, jitter_rvs=set())(0)
        values.append(ours - float(density(point)))
    assert_allclose(values, values[0], atol=1e-8)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["joint", "shared"])
def test_samplers_agree(name, rng):
    model = MODELS[name]
    data = make_data(model, rng)
    draws = {
        sampler: sample_posterior(
            model, data, SamplerSettings(sampler, draws=4000, tune=1000, chains=2, seed=1)
        )[0]
        for sampler in ("nutpie", "pymc")
    }
    names = ["alpha", "beta", "s"] + (["thresholds", "softness"] if model.joint else [])
    for quantity in names:
        ours, theirs = (az.from_dict(posterior={"q": d[quantity]}) for d in draws.values())
        error = np.hypot(az.mcse(ours)["q"], az.mcse(theirs)["q"])
        means = [d[quantity].mean(axis=(0, 1)) for d in draws.values()]
        assert (np.abs(means[0] - means[1]) < 4 * error).all(), quantity
        spreads = [d[quantity].std(axis=(0, 1)) for d in draws.values()]
        assert_allclose(spreads[0], spreads[1], rtol=0.1, err_msg=quantity)


@pytest.fixture
def no_nutpie(monkeypatch):
    real = _sampling.find_spec
    monkeypatch.setattr(
        _sampling, "find_spec", lambda name: None if name == "nutpie" else real(name)
    )
    monkeypatch.setitem(sys.modules, "nutpie", None)


def test_without_nutpie_pymc_samples_and_its_graph_is_compiled_once(no_nutpie, rng):
    X, y = rng.normal(size=(60, 2)), np.arange(60) % 2
    # The graph that compiles fastest; larger ones are sampled in the slow tests.
    model = HorseshoeMultinomialClassifier(
        horseshoe=None,
        draws=30,
        tune=60,
        chains=1,
        cores=1,
        random_state=0,
        on_nonconvergence="ignore",
    ).fit(X, y)
    assert model.sampler_ == "pymc"
    assert model.predict_proba(X).shape == (60, 2)
    assert set(model.diagnostics_) >= {"max_rhat", "n_divergent", "bfmi"}
    compiled = list(_sampling.GRAPHS.values())
    # A fold has other rows, here another prior too, and the same graph.
    fold = clone(model).set_params(slab_scale=1.0).fit(X[:40], y[:40])
    assert list(_sampling.GRAPHS.values()) == compiled
    again = clone(fold).fit(X[:40], y[:40])
    assert_array_equal(again.coef_draws_, fold.coef_draws_)
    with pytest.raises(ImportError, match="pip install"):
        model.set_params(sampler="nutpie").fit(X, y)


@pytest.mark.slow
def test_without_nutpie_thresholds_are_sampled_too(no_nutpie, rng):
    X, residual = rng.normal(size=(60, 2)), rng.normal(0.84, 0.1, 60)
    X[:, 0] += 10 * residual
    model = BayesianReuseClassifier(
        draws=100, tune=200, chains=2, cores=2, random_state=0, on_nonconvergence="ignore"
    ).fit(X, residual=residual, groups=np.arange(60) % 2)
    assert model.sampler_ == "pymc"
    assert (model.threshold_draws_[:, 0] > model.threshold_draws_[:, 1]).all()
    assert model.threshold_draws_[:, 0].std() > 0


WITHOUT_COMPILER = """
import numpy as np, pytensor
assert pytensor.config.cxx == ""
from reweight import HorseshoeMultinomialClassifier
rng = np.random.default_rng(0)
X = rng.normal(size=(50, 2))
y = (X[:, 0] + rng.logistic(size=50) > 0).astype(int)
model = HorseshoeMultinomialClassifier(
    sampler="pymc", draws=50, tune=50, chains=1, on_nonconvergence="ignore", random_state=0
)
print(model.fit(X, y).score(X, y))
"""


@pytest.mark.slow
def test_pymc_samples_without_a_compiler():
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", WITHOUT_COMPILER],
        cwd=Path(__file__).parents[3],
        env={**os.environ, "PYTENSOR_FLAGS": "cxx="},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert float(done.stdout.split()[-1]) > 0.5


WITH_NUTPIE = """
import sys, numpy as np
from reweight import HorseshoeMultinomialClassifier
X, y = np.random.default_rng(0).normal(size=(30, 2)), np.arange(30) % 2
model = HorseshoeMultinomialClassifier(
    sampler="nutpie", draws=50, tune=50, chains=1, on_nonconvergence="ignore"
)
model.fit(X, y).loo()
print([name for name in ("pymc", "pytensor") if name in sys.modules])
"""


@pytest.mark.slow
def test_nutpie_does_not_wait_for_pymc():
    code = [sys.executable, "-W", "ignore", "-c", WITH_NUTPIE]
    done = subprocess.run(
        code, cwd=Path(__file__).parents[3], capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["[]"]


@pytest.mark.skipif(sys.platform == "win32", reason="a terminal is imitated by pty")
@pytest.mark.parametrize("verbose", [0, 1])
def test_a_terminal_shows_progress_to_those_who_ask(verbose, rng):
    import pty

    X, y = rng.normal(size=(30, 2)), np.arange(30) % 2
    model = HorseshoeMultinomialClassifier(
        draws=50, tune=50, chains=1, on_nonconvergence="ignore", verbose=verbose
    )
    terminal, end = pty.openpty()
    kept = {stream: os.dup(stream) for stream in (1, 2)}
    for stream in kept:
        os.dup2(end, stream)
    try:
        model.fit(X, y)
    finally:
        for stream, copy in kept.items():
            os.dup2(copy, stream)
            os.close(copy)
    os.write(end, b"done")  # so that there is something to read
    shown = os.read(terminal, 1 << 16).decode(errors="replace")
    os.close(end)
    os.close(terminal)
    assert ("100" in shown) == bool(verbose)


def make_stats(n_chains, n_draws, rng):
    return {
        "energy": rng.normal(size=(n_chains, n_draws)),
        "diverging": np.zeros((n_chains, n_draws), bool),
        "max_treedepth": np.zeros((n_chains, n_draws), bool),
    }


def test_diagnostics_are_those_of_arviz_and_name_the_worst(rng):
    draws = {"good": rng.normal(size=(4, 200, 3)), "bad": rng.normal(size=(4, 200))}
    draws["bad"][0] += 1.0
    stats = make_stats(4, 200, rng)
    stats["diverging"][1, :3] = True
    found = convergence_diagnostics(draws, stats)
    assert found["max_rhat_of"] == found["min_ess_bulk_of"] == "bad"
    assert_allclose(found["max_rhat"], az.rhat(draws["bad"]))
    assert_allclose(found["min_ess_bulk"], az.ess(draws["bad"]))
    assert_allclose(found["bfmi"], az.bfmi(stats["energy"]).min())
    good = np.moveaxis(draws["good"], 2, 0)
    assert_allclose(found["rhat"]["good"], max(az.rhat(entry) for entry in good))
    tails = [az.ess(entry, method="tail") for entry in good]
    assert_allclose(found["ess_tail"]["good"], min(tails))
    assert found["n_divergent"] == 3


def test_one_chain_is_judged_by_its_halves(rng):
    drift = np.linspace(0, 5, 200)[None] + rng.normal(size=(1, 200))
    assert convergence_diagnostics({"x": drift}, make_stats(1, 200, rng))["max_rhat"] > 1.5


def test_a_quantity_that_does_not_move_is_the_worst(rng):
    draws = {"good": rng.normal(size=(4, 200)), "stuck": np.full((4, 200), 0.3)}
    found = convergence_diagnostics(draws, make_stats(4, 200, rng))
    assert found["max_rhat_of"] == "stuck"
    assert found["max_rhat"] == np.inf


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"max_rhat": 1.02, "max_rhat_of": "tau"}, r"R-hat of tau is 1.020 \(at most 1.01\)"),
        ({"max_rhat": np.inf, "rhat": {"x": np.inf, "beta": 1.03}}, "is inf .*; also above: beta"),
        ({"min_ess_bulk": 300.0}, "bulk sample size of x is 300 .at least 400"),
        (
            {"min_ess_tail": 30.0, "ess_tail": {"x": 30.0, "tau": 50.0, "beta": 399.0}},
            r"of x is 30 \(at least 400; also below: tau, beta\)",
        ),
        ({"min_ess_tail": 399.0}, "tail sample size of x is 399"),
        ({"n_divergent": 5}, "5 of 4000 draws diverged"),
        ({"bfmi": 0.2}, "E-BFMI is 0.20"),
        ({"max_treedepth_hits": 41}, "41 of 4000 draws hit"),
    ],
)
def test_policy_names_what_failed(change, message):
    good = {
        "rhat": {"x": 1.005, "beta": 1.001},
        "ess_bulk": {"x": 500.0, "beta": 900.0},
        "ess_tail": {"x": 500.0, "beta": 900.0},
        "max_rhat": 1.005,
        "max_rhat_of": "x",
        "min_ess_bulk": 500.0,
        "min_ess_bulk_of": "x",
        "min_ess_tail": 500.0,
        "min_ess_tail_of": "x",
        "n_divergent": 4,
        "max_treedepth_hits": 40,
        "bfmi": 0.5,
    }
    check_convergence(good, SamplerSettings(), "raise", "Model")
    with pytest.raises(RuntimeError, match=message):
        check_convergence({**good, **change}, SamplerSettings(), "raise", "Model")

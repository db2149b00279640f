"""On a real cluster of two workers, one of them killed on the way, results are the same bits."""

import functools
import os
import signal
import threading
import time

import joblib
import numpy as np
import pytest
from numpy.testing import assert_array_equal
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.model_selection import GridSearchCV

from causal import (
    EntropyBalancing,
    KernelBalancing,
    PartiallyLinearDML,
    RLearner,
    StableBalancing,
    WeightedEffect,
    make_effect_target,
)
from reweight import Reweighted
from shift import KernelMeanMatching

distributed = pytest.importorskip("distributed")
da = pytest.importorskip("dask.array")
N_CHUNKS = 4
PATIENCE = 180
ROWS = 1_000


def make_reader():
    """A function that cloudpickle sends whole: workers cannot import the modules of tests."""

    def read_chunk(number, seconds=0.0, target=False):
        time.sleep(seconds)
        rng = np.random.default_rng(number)
        X = rng.standard_normal((ROWS, 3))
        t = (rng.random(ROWS) < 1 / (1 + np.exp(-0.7 * X[:, 0]))).astype(int)
        y = X[:, 0] + 2.0 * t + rng.standard_normal(ROWS)
        return (X, make_effect_target(y, t)) if target else (X, t)

    return read_chunk


def make_slow_ridge():
    class SlowRidge(Ridge):
        """Takes long enough to be killed half-way."""

        def fit(self, X, y, sample_weight=None):
            time.sleep(0.08)
            return super().fit(X, y, sample_weight)

    return SlowRidge


read_chunk, SlowRidge = make_reader(), make_slow_ridge()


async def travel_with_the_task(data, **kwargs):
    """Instead of `Client.scatter`: joblib waits for ever for what it gave to a worker that died."""
    return data


def chunks(**how):
    return [functools.partial(read_chunk, number, **how) for number in range(N_CHUNKS)]


@pytest.fixture
def cluster():
    with (
        distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None
        ) as cluster,
        distributed.Client(cluster),
    ):
        yield cluster


@pytest.fixture(autouse=True)
def a_hang_is_a_failure():
    def give_up(number, frame):
        raise TimeoutError(f"no result after {PATIENCE} seconds")

    before = signal.signal(signal.SIGALRM, give_up)
    signal.alarm(PATIENCE)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


@pytest.fixture
def one_worker_dies(cluster):
    """Kill a worker shortly after the test has begun; the cluster starts another in its place."""
    cluster.get_client().wait_for_workers(2, timeout=60)
    pid = next(iter(cluster.workers.values())).process.pid
    killed = threading.Event()

    def kill():
        os.kill(pid, signal.SIGKILL)
        killed.set()

    timer = threading.Timer(0.4, kill)
    timer.start()
    yield killed
    timer.join()


@pytest.mark.slow
@pytest.mark.parametrize(
    "estimator",
    [
        EntropyBalancing("ATT"),
        StableBalancing("ATT", max_smd=0.02),
        KernelBalancing("ATT", n_components=10, random_state=0),
    ],
    ids=["entropy", "stable", "kernel"],
)
def test_streamed_weights_survive_the_death_of_a_worker(estimator, cluster, one_worker_dies):
    X, t = read_chunk(0)
    expected = estimator.fit_chunks(chunks()).predict_weights(X, t)
    with joblib.parallel_config(backend="dask"):
        estimator.fit_chunks(chunks(seconds=0.05), n_jobs=-1)
    assert one_worker_dies.is_set()
    assert_array_equal(estimator.predict_weights(X, t), expected)


@pytest.mark.slow
def test_streamed_double_ml_survives_the_death_of_a_worker(cluster, one_worker_dies):
    fit = PartiallyLinearDML(Ridge(), LogisticRegression(), random_state=0)
    fit.fit_chunks(chunks(target=True))
    expected = fit.effect_, fit.stderr_
    with joblib.parallel_config(backend="dask"):
        fit.fit_chunks(chunks(seconds=0.05, target=True), n_jobs=-1)
    assert one_worker_dies.is_set()
    assert (fit.effect_, fit.stderr_) == expected


@pytest.mark.parametrize("where", ["lazy", "in the memory of the cluster"])
def test_chunks_may_be_blocks_of_dask_arrays(where, cluster):
    parts = [read_chunk(number) for number in range(N_CHUNKS)]
    X = da.concatenate([da.from_array(part[0], chunks=-1) for part in parts])
    t = da.concatenate([da.from_array(part[1], chunks=-1) for part in parts])
    if where != "lazy":
        X, t = X.persist(), t.persist()
    expected = EntropyBalancing("ATT").fit_chunks(parts).predict_weights(*parts[0])
    blocks = [(X.blocks[i], t.blocks[i]) for i in range(N_CHUNKS)]
    with joblib.parallel_config(backend="dask"):
        fit = EntropyBalancing("ATT").fit_chunks(blocks, n_jobs=-1)
    assert_array_equal(fit.predict_weights(*parts[0]), expected)
    here = EntropyBalancing("ATT").fit_chunks(lambda: iter(blocks))
    assert_array_equal(here.predict_weights(*parts[0]), expected)


@pytest.mark.slow
def test_cross_fitting_survives_the_death_of_a_worker(cluster, one_worker_dies):
    X, target = read_chunk(0, target=True)
    learner = RLearner(SlowRidge(), LogisticRegression(), random_state=0)
    expected = learner.fit(X, target).coef_
    with joblib.parallel_config(backend="dask"):
        learner.set_params(n_jobs=-1).fit(X, target)
    assert one_worker_dies.is_set()
    assert_array_equal(learner.coef_, expected)


@pytest.mark.slow
def test_the_bootstrap_survives_the_death_of_a_worker(cluster, one_worker_dies):
    X, target = read_chunk(0, target=True)
    effect = WeightedEffect(EntropyBalancing("ATT"), inference="bootstrap", n_resamples=24)
    effect.set_params(outcome_estimator=SlowRidge(), random_state=0)
    expected = effect.fit(X, target).stderr_
    with joblib.parallel_config(backend="dask"):
        effect.set_params(n_jobs=-1).fit(X, target)
    assert one_worker_dies.is_set()
    assert effect.stderr_ == expected


@pytest.mark.slow
def test_a_grid_search_survives_the_death_of_a_worker(cluster, one_worker_dies, monkeypatch):
    X, target = read_chunk(0, target=True)
    X, y, X_target = X[:400], target[:400, 0], X[400:700] + 0.5
    search = GridSearchCV(
        Reweighted(SlowRidge(), KernelMeanMatching(random_state=0)),
        {"weighter__bandwidth": [1.0, 2.0, 4.0]},
        cv=3,
    )
    expected = search.fit(X, y, X_target=(X_target,)).cv_results_["mean_test_score"]
    # The remedy that the vignette gives.
    monkeypatch.setattr(cluster.get_client(), "scatter", travel_with_the_task)
    with joblib.parallel_config(backend="dask"):
        search.set_params(n_jobs=-1).fit(X, y, X_target=(X_target,))
    assert one_worker_dies.is_set()
    assert_array_equal(search.cv_results_["mean_test_score"], expected)

"""Intervals of averages from orthogonal scores cover as often as they say."""

from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import numpy as np
import pytest

BENCHMARK = Path(__file__).parents[3] / "benchmarks" / "double_ml_coverage.py"


@pytest.fixture(scope="module")
def coverage():
    spec = spec_from_file_location("coverage_of_double_ml", BENCHMARK)
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_true_effects_are_those_of_simulated_populations(coverage):
    rng = np.random.default_rng(0)
    X = rng.standard_normal((1_000_000, 3))
    e = 1 / (1 + np.exp(-(X @ [0.6, -0.4, 0.3] - 0.3)))
    effect = 1 + 0.5 * X[:, 0]
    truths = coverage.truths()
    populations = {"ATE": np.ones_like(e), "ATT": e, "ATC": 1 - e, "ATO": e * (1 - e)}
    for estimand, h in populations.items():
        # Standard errors of these means are below 0.0006.
        simulated = np.average(effect, weights=h)
        assert abs(truths[f"interactive, {estimand}"] - simulated) < 0.003
    assert abs(truths["interactive, group x1 > 0"] - effect[X[:, 0] > 0].mean()) < 0.003


def test_a_study_has_an_interval_for_every_truth(coverage):
    rows = coverage.intervals(0)
    assert rows.shape == (len(coverage.truths()), 4)
    assert np.isfinite(rows).all()


@pytest.mark.slow
def test_intervals_cover_and_errors_are_those_of_repeated_studies(coverage):
    table = coverage.coverage_table(1000, n_jobs=2)
    # The error of a coverage near 0.95 is 0.007, that of a ratio of errors 0.022.
    assert table["coverage"].between(0.92, 0.975).all(), table
    assert (table["mean_stderr"] / table["sd"]).between(0.9, 1.1).all(), table
    assert (table["bias"].abs() < table["sd"] / 5).all(), table

"""Intervals cover what they are about, as often as they say."""

from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import numpy as np
import pytest

BENCHMARK = Path(__file__).parents[3] / "benchmarks" / "interval_coverage.py"


@pytest.fixture(scope="module")
def coverage():
    spec = spec_from_file_location("coverage_of_effects", BENCHMARK)
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_true_effects_are_those_of_simulated_populations(coverage):
    rng = np.random.default_rng(0)
    X = rng.standard_normal((1_000_000, 3))
    e = 1 / (1 + np.exp(-(X @ [0.6, -0.4, 0.3] - 0.3)))
    effect = 1 + 0.5 * X[:, 0]
    for estimand, h in {"ATE": np.ones_like(e), "ATT": e, "ATO": e * (1 - e)}.items():
        # Standard errors of these means are below 0.0006.
        assert abs(coverage.true_effect(estimand) - np.average(effect, weights=h)) < 0.003


@pytest.mark.slow
def test_intervals_cover_and_errors_are_those_of_repeated_studies(coverage):
    table = coverage.coverage_table(1000, n_jobs=2)
    # The error of a coverage near 0.95 is 0.007, that of a ratio of errors 0.022.
    assert table["coverage"].between(0.92, 0.97).all(), table
    assert (table["mean_stderr"] / table["sd"]).between(0.9, 1.1).all(), table
    assert (table["bias"].abs() < table["sd"] / 3).all(), table

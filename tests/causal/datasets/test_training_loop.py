"""The simulated recommender: its laws, its log, and the table of methods."""

from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from causal import simulate_training_loop
from causal.datasets.training_loop import (
    arm_classifier,
    arm_features,
    expected_stay,
    finish_probability,
)

BENCHMARK = Path(__file__).parents[3] / "benchmarks" / "training_loop.py"
SMALL = {"n_rounds": 4, "n_visits": 200, "n_initial": 500, "burn_in": 2}


def logistic(x):
    return 1 / (1 + np.exp(-x))


def test_laws_by_hand():
    X = np.array([[0.5, -1.0, 0.0], [0.5, -1.0, 1.0]])
    assert_allclose(finish_probability(X), logistic(np.array([2.5, -3.0])))
    assert_allclose(expected_stay(X), 0.5 + 2.5 * logistic(np.array([-3.0, 3.5])))


@pytest.mark.parametrize("method", ["weighted", "pooling", "splitting", "snapshot"])
def test_a_log_of_the_experiment(method):
    loop = simulate_training_loop(method, random_state=0, **SMALL)
    assert loop.X.shape == (800, 3)
    assert loop.y.shape == (800, 2)
    assert set(loop.treatment) == {0, 1}
    assert_array_equal(np.bincount(loop["round"]), 200)
    stay = expected_stay(loop.X)
    counted = loop["round"] >= 2
    arms = [stay[counted & (loop.treatment == arm)].mean() for arm in (0, 1)]
    assert_allclose(loop.estimate, arms[1] - arms[0], rtol=1e-12)
    for number, arm in ((0, 0), (3, 1)):
        own = (loop["round"] == number) & (loop.treatment == arm)
        assert_allclose(loop.metric[number, arm], stay[own].mean(), rtol=1e-12)
    again = simulate_training_loop(method, random_state=0, **SMALL)
    assert_array_equal(again.y, loop.y)
    # Answers follow the laws: 800 answers have an error of about 0.015 and 0.06.
    assert abs((loop.y[:, 0] - finish_probability(loop.X)).mean()) < 0.06
    assert abs((loop.y[:, 1] - stay).mean()) < 0.25


def test_two_worlds_are_one_if_the_policies_agree():
    loop = simulate_training_loop("global", policy_weight_treatment=0.0, random_state=1, **SMALL)
    assert loop.estimate == 0.0
    assert_array_equal(loop.X[:800], loop.X[800:])
    other = simulate_training_loop("global", random_state=1, **SMALL)
    assert other.estimate != 0.0
    # Both worlds start from the same model, under which the control world goes on.
    assert_array_equal(other.X[:800], loop.X[:800])


def test_a_policy_that_likes_finishing_shows_what_is_finished():
    loop = simulate_training_loop("snapshot", random_state=2, **SMALL)
    finished = finish_probability(loop.X)
    assert finished[loop.treatment == 1].mean() > finished[loop.treatment == 0].mean() + 0.05


def test_the_arm_classifier_sees_squares_and_products_by_item():
    X = np.array([[2.0, 3.0, 1.0]])
    assert_array_equal(arm_features(X), [[2, 3, 4, 9, 6, 1, 2, 3, 4, 9, 6]])
    assert arm_classifier()[-1].C == 1.0


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"method": "magic"}, "method is 'magic'"),
        ({"treatment_prob": 1.0}, "treatment_prob"),
        ({"n_rounds": 5, "burn_in": 5}, "burn_in is 5"),
    ],
)
def test_bad_input_is_refused_with_a_remedy(parameters, message):
    with pytest.raises(ValueError, match=message):
        simulate_training_loop(**parameters)


@pytest.mark.slow
def test_weighting_has_the_bias_of_splitting_and_the_spread_of_pooling():
    spec = spec_from_file_location("training_loop_study", BENCHMARK)
    study = module_from_spec(spec)
    spec.loader.exec_module(study)
    table = study.study(200, n_jobs=2)
    assert abs(table.loc["weighted", "bias"]) < 0.05, table
    assert table.loc["pooling", "bias"] > 0.07, table
    assert table.loc["weighted", "sd"] / table.loc["splitting", "sd"] < 0.7, table
    # Without a difference between the arms there is none to be found, by any method.
    for method in study.METHODS:
        mean, sd = table.loc[method, ["A/A mean", "A/A sd"]]
        assert abs(mean) < 4 * sd / np.sqrt(200), table

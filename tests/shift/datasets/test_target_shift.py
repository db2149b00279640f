"""Facts about simulated target shift."""

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from shift import make_target_shift

DESIGNS = ["tanh", "zhang", "gaussian", "mixture"]


@pytest.mark.parametrize("design", [*DESIGNS, "classes"])
def test_the_ratio_has_mean_one_and_carries_the_source_over(design):
    data = make_target_shift(40_000, 30_000, design=design, random_state=0)
    w = data.density_ratio
    error = w.std() / np.sqrt(len(w))
    assert abs(w.mean() - 1) < 4 * error
    error = np.hypot((w * data.y).std() / 200, data.y_target.std() / np.sqrt(30_000))
    assert abs((w * data.y).mean() - data.y_target.mean()) < 4 * error
    # The features follow, since their law given the outcome is the same.
    error = np.hypot((w[:, None] * data.X).std(axis=0) / 200, data.X_target.std(axis=0) / 173)
    assert (abs(w @ data.X / len(w) - data.X_target.mean(axis=0)) < 4 * error).all()


def test_moments_of_the_outcomes_are_those_asked_for():
    data = make_target_shift(50_000, target_mean=-1.0, target_std=0.7, random_state=1)
    assert_allclose([data.y.mean(), data.y.std()], [0.0, 2.0], atol=0.03)
    assert_allclose([data.y_target.mean(), data.y_target.std()], [-1.0, 0.7], atol=0.015)


def test_gaussian_design_has_the_correlation_of_its_closed_form():
    data = make_target_shift(100_000, 10, design="gaussian", random_state=0)
    assert_allclose(np.corrcoef(data.X[:, 0], data.y)[0, 1], 0.9, atol=0.003)
    assert_allclose([data.X.std(), data.y.std()], 1.0, atol=0.01)


def test_many_columns_average_to_one_that_is_as_informative():
    data = make_target_shift(50_000, 10, n_features=9, random_state=0)
    noise = data.X - (data.y + 3 * np.tanh(data.y))[:, None]
    assert_allclose(noise.std(axis=0), 3.0, rtol=0.02)
    assert_allclose(noise.mean(axis=1).std(), 1.0, rtol=0.02)


def test_seeds_of_all_kinds_repeat_the_draw():
    first = make_target_shift(20, random_state=3)
    assert first.X_target.shape == (20, 1)
    assert_array_equal(make_target_shift(20, random_state=3).y, first.y)
    draws = [make_target_shift(5, random_state=np.random.RandomState(0)).y for _ in range(2)]
    assert_array_equal(*draws)
    assert_array_equal(
        make_target_shift(20, random_state=np.random.default_rng(3)).X_target, first.X_target
    )


def test_bad_requests_are_refused():
    with pytest.raises(ValueError, match="fixed shares of its classes"):
        make_target_shift(design="classes", target_mean=1.0)
    with pytest.raises(ValueError, match="design"):
        make_target_shift(design="cubic")

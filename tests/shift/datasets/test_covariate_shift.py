"""Facts about the generators of covariate shift."""

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from shift import make_covariate_shift

DESIGNS = ["gaussian", "offset", "planar", "ringnorm", "sinc"]


def test_gaussian_is_design_g():
    rng = np.random.default_rng(0)
    X, X_target = rng.normal(0, 1, (60, 5)), rng.normal(0.7, 0.8, (60, 5))
    data = make_covariate_shift(60, 60, random_state=0)
    assert_array_equal(data.X, X)
    assert_array_equal(data.X_target, X_target)


def test_planar_is_design_h():
    rng = np.random.default_rng(20230724)
    X = rng.normal(size=(40, 2))
    y = rng.uniform(size=40) < 1 / (1 + np.exp(-2 * X[:, 0] + X[:, 1]))
    X_target = 0.7 * rng.normal(size=(50, 2)) + [0.8, -0.4]
    data = make_covariate_shift(40, 50, design="planar", random_state=20230724)
    assert_array_equal(data.X, X)
    assert_array_equal(data.y, y)
    assert_array_equal(data.X_target, X_target)


@pytest.mark.parametrize("design", DESIGNS)
def test_true_ratio_carries_source_means_to_the_target(design):
    # Half of the target of "offset" lies beyond the source, which no weights can reach.
    data = make_covariate_shift(100_000, 100_000, design=design, random_state=1)
    w, target = data.density_ratio, data.X_target
    if design == "offset":
        target = target[target[:, 0] <= 1]
    weighted = w @ np.tanh(data.X) / w.sum()
    error = np.sqrt((w**2).mean() / w.mean() ** 2 / 1e5 + 1 / len(target))
    assert_allclose(weighted, np.tanh(target).mean(axis=0), atol=5 * error)


@pytest.mark.parametrize("design", ["gaussian", "planar", "sinc", "ringnorm"])
def test_ratio_has_mean_one(design):
    w = make_covariate_shift(100_000, 10, design=design, random_state=2).density_ratio
    # "ringnorm" selects rows, so its ratio is known up to the size of the two samples only.
    assert_allclose(w.mean(), 1, atol=5 * np.sqrt(w.var() / 1e5))


@pytest.mark.parametrize("design", DESIGNS)
def test_sizes_and_seeds(design):
    data = make_covariate_shift(30, 20, design=design, random_state=3)
    assert len(data.X) == len(data.y) == len(data.density_ratio) == 30
    assert len(data.X_target) == len(data.y_target) == 20
    again = make_covariate_shift(30, 20, design=design, random_state=np.random.default_rng(3))
    assert_array_equal(again.X_target, data.X_target)
    other = make_covariate_shift(30, 20, design=design, random_state=np.random.RandomState(3))
    assert other.X.shape == data.X.shape
    assert not np.array_equal(other.X, data.X)


def test_law_of_the_outcome_is_the_same_in_both_samples():
    data = make_covariate_shift(200_000, 200_000, design="planar", random_state=4)
    for X, y in ((data.X, data.y), (data.X_target, data.y_target)):
        near = np.abs(2 * X[:, 0] - X[:, 1] - 1) < 0.1
        assert_allclose(y[near].mean(), 1 / (1 + np.exp(-1)), atol=4 * 0.5 / np.sqrt(near.sum()))


def test_number_of_features():
    assert make_covariate_shift(5, 5, n_features=7).X.shape == (5, 7)
    assert make_covariate_shift(5, 5, design="offset", n_features=3).X.shape == (5, 3)
    with pytest.raises(ValueError, match="design 'planar' has 2 features, got n_features=3"):
        make_covariate_shift(5, 5, design="planar", n_features=3)
    with pytest.raises(ValueError, match="at least 2 features, got n_features=1"):
        make_covariate_shift(5, 5, n_features=1)

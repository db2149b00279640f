"""Facts about magnitude and the magnitude function."""

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.datasets import load_iris
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import StandardScaler

from reweight import WeightingVector, magnitude, magnitude_function


def test_magnitude_is_that_of_the_weighting_vector(rng):
    X = rng.normal(size=(50, 3))
    assert magnitude(X, 0.7) == WeightingVector(scale=0.7).fit(X).magnitude_
    assert_allclose(magnitude(X, 0.7, "manhattan"), magnitude(X, 0.7, "minkowski", p=1))


def test_magnitude_runs_from_one_to_the_number_of_points(rng):
    X = rng.normal(size=(60, 2))
    scales = np.geomspace(1e-4, 1e4, 15)
    found = magnitude_function(X, scales)
    assert_allclose(found, [magnitude(X, scale) for scale in scales])
    assert_allclose(found[[0, -1]], [1, 60], rtol=1e-3)
    assert (np.diff(found) > -1e-9).all()


def test_the_slope_of_the_magnitude_is_a_dimension(rng):
    t = rng.uniform(0, 1, size=1500)
    curve = np.column_stack([t, t, -t])
    scales = np.geomspace(30, 60, 4)
    slope = np.polyfit(np.log(scales), np.log(magnitude_function(curve, scales)), 1)[0]
    assert_allclose(slope, 1, atol=0.1)
    # An interval has magnitude 1 + t length / 2.
    assert_allclose(magnitude(np.linspace(0, 3, 2000)[:, None], 4.0), 1 + 4 * 3 / 2, rtol=1e-4)


def test_magnitudes_of_the_species_of_iris_are_those_of_an_independent_run():
    X, y = load_iris(return_X_y=True)
    X, _, y, _ = train_test_split(X, y, test_size=0.3, stratify=y, random_state=0)
    X = StandardScaler().fit_transform(X)
    found = [magnitude(X[y == k], scale=1.0) for k in range(3)]
    assert_allclose(found, [3.793, 3.673, 4.736], atol=5e-4)


def test_approximate_magnitudes_repeat_with_the_seed(rng):
    X = rng.normal(size=(300, 2))
    arguments = {"scales": [20.0, 40.0], "solver": "vecchia", "n_neighbors": 10}
    first, second = (magnitude_function(X, random_state=3, **arguments) for _ in range(2))
    assert_array_equal(first, second)
    exact = magnitude_function(X, [20.0, 40.0])
    assert_allclose(first, exact, rtol=0.02)


@pytest.mark.parametrize("scales", [[], [1.0, 0.0], [[1.0]], [np.nan], [-2.0]])
def test_scales_must_be_positive(scales):
    with pytest.raises(ValueError, match="magnitude_function: scales must be a list of positive"):
        magnitude_function(np.eye(3), scales)


def test_errors_bear_the_name_of_the_function():
    with pytest.raises(ValueError, match="'scale' parameter of magnitude must be"):
        magnitude(np.eye(3), scale=0.0)
    with pytest.raises(ValueError, match="magnitude: Input X contains NaN"):
        magnitude([[0.0], [np.nan]])

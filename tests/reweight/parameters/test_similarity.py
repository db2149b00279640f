"""Weights of clients are sums of cosines."""

import numpy as np
import pytest
from numpy.testing import assert_allclose

from reweight import average_parameters, similarity_weights
from reweight.exceptions import WeightWarning


def test_it_is_the_formula(rng):
    G = np.abs(rng.normal(size=(4, 3)))
    sources = [np.abs(rng.normal(size=(k, 3))) for k in (2, 5)]

    def unit(A):
        return A / np.linalg.norm(A, axis=1, keepdims=True)

    s = np.array([sum(g @ row for g in unit(G) for row in unit(L)) / 4 for L in sources])
    assert_allclose(similarity_weights(G, sources), s / s.sum(), rtol=1e-12)
    mean = s / [2, 5]
    assert_allclose(similarity_weights(G, sources, reduce="mean"), mean / mean.sum(), rtol=1e-12)
    scaled = [7 * L for L in sources]
    assert_allclose(similarity_weights(3 * G, scaled), s / s.sum(), rtol=1e-12)
    models = [{"w": np.zeros(1)}, {"w": np.ones(1)}]
    merged = average_parameters(models, similarity_weights(G, sources))
    assert_allclose(merged["w"], s[1] / s.sum())


def test_clients_that_point_away_weigh_nothing():
    with pytest.warns(WeightWarning, match="1 of 2 sources point away"):
        weights = similarity_weights([[1.0, 0.0]], [[[-1.0, 0.1]], [[1.0, 1.0]]])
    assert_allclose(weights, [0, 1])
    with pytest.raises(ValueError, match="no source is alike"):
        similarity_weights([[1.0, 0.0]], [[[0.0, 1.0]]])


def test_bad_input_is_refused():
    with pytest.raises(ValueError, match="no source is alike"):
        similarity_weights([[1.0]], [])
    with pytest.raises(ValueError, match="Incompatible dimension"):
        similarity_weights([[1.0, 0.0]], [[[1.0, 0.0]], [[1.0]]])
    with pytest.raises(ValueError, match="contains NaN"):
        similarity_weights([[np.nan, 1.0]], [[[1.0, 0.0]]])
    with pytest.raises(ValueError, match="reduce must be"):
        similarity_weights([[1.0]], [[[1.0]]], reduce="max")

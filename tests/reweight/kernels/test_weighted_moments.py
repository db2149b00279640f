"""Chunked moments against plain formulas."""

import numpy as np
import pytest
from numpy.testing import assert_allclose

from reweight.kernels.chunks import CHUNK_ROWS
from reweight.kernels.weighted_moments import (
    nonzero_scale,
    standardized_scale,
    weighted_mean,
    weighted_mean_variance,
)


def plain_variance(x, w):
    w = w / w.sum()
    mean = w @ x
    return w @ (x - mean) ** 2


def test_moments_over_several_chunks_equal_the_formula(rng):
    A = rng.standard_normal((2 * CHUNK_ROWS + 5, 3)) * [1, 10, 0.1] + [0, 1e4, 3]
    w = rng.random(len(A))
    mean, variance = weighted_mean_variance(A, w)
    assert_allclose(mean, np.average(A, axis=0, weights=w), rtol=1e-12)
    assert_allclose(variance, [plain_variance(column, w) for column in A.T], rtol=1e-9)


def test_a_weight_of_k_counts_as_k_rows(rng):
    A = rng.standard_normal((50, 2))
    k = rng.integers(0, 4, 50)
    weighted = weighted_mean_variance(A, k.astype(float))
    repeated = np.repeat(A, k, axis=0)
    assert_allclose(weighted, (repeated.mean(axis=0), repeated.var(axis=0)))


def test_denominators_follow_the_estimand(rng):
    A = rng.standard_normal((60, 2)) * [1, 5]
    treated, s = rng.random(60) < 0.4, rng.random(60)
    one = [plain_variance(column[treated], s[treated]) for column in A.T]
    zero = [plain_variance(column[~treated], s[~treated]) for column in A.T]
    assert_allclose(standardized_scale(A, treated, s, "ATT"), np.sqrt(one))
    assert_allclose(standardized_scale(A, treated, s, "ATC"), np.sqrt(zero))
    pooled = np.sqrt((np.array(one) + zero) / 2)
    assert_allclose(standardized_scale(A, treated, s, "ATE"), pooled)
    assert_allclose(standardized_scale(A, treated, s, "ATO"), pooled)


def test_columns_that_do_not_vary_get_the_scale_one():
    assert_allclose(nonzero_scale(np.array([0.0, 3.0])), [1.0, 3.0])
    assert_allclose(nonzero_scale(np.array([0.0, 0.0])), [1.0, 1.0])
    assert_allclose(nonzero_scale(np.array([1e-9, 1e9])), [1e-9, 1e9])
    assert_allclose(nonzero_scale(np.array([1e-17, 1e-17]), np.array([0.25, 0.0])), [1.0, 1e-17])


@pytest.mark.parametrize("value", [0.1, 3.7, 1e6, -1.7e9])
def test_a_column_of_one_value_has_that_mean_and_no_variance(rng, value):
    A = np.column_stack([rng.standard_normal(1001), np.full(1001, value)])
    w = rng.random(1001)
    w[:2], A[:2, 1] = 0.0, 0.0
    mean, variance = weighted_mean_variance(A, w)
    assert mean[1] == value
    assert variance[1] == 0.0
    assert_allclose(weighted_mean(A, w), np.average(A, axis=0, weights=w))


def test_means_of_columns_far_from_zero_are_exact(rng):
    A = 1e9 + rng.integers(0, 2, (500, 1)).astype(float)
    assert weighted_mean(A, np.ones(500))[0] == pytest.approx(1e9 + (A - 1e9).mean(), abs=2e-7)

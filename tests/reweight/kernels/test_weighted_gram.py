"""Sums by fold are those of plain loops, and leave a fold out exactly."""

import numpy as np
import pytest
from numpy.testing import assert_allclose
from sklearn.linear_model import Ridge

from reweight.kernels.weighted_gram import gram_by_fold, gram_by_fold_of_chunks


def reference(A, Y, w, folds, K):
    """The sums, one row at a time."""
    gram, cross = np.zeros((K, A.shape[1], A.shape[1])), np.zeros((K, A.shape[1], Y.shape[1]))
    for a, y, weight, k in zip(A, Y, w, folds, strict=True):
        if k >= 0:
            gram[k] += weight * np.outer(a, a)
            cross[k] += weight * np.outer(a, y)
    return gram, cross


@pytest.fixture
def problem(rng):
    n, d, q, K = 103, 4, 2, 5
    A, Y = rng.normal(size=(n, d)), rng.normal(size=(n, q))
    return A, Y, rng.integers(0, 4, n).astype(float), rng.integers(-1, K, n), K


@pytest.mark.parametrize("chunk", [1, 7, 50, 8192])
def test_sums_are_those_of_a_loop_for_any_chunk(problem, chunk):
    A, Y, w, folds, K = problem
    for found, expected in zip(
        gram_by_fold(A, Y, w, folds, n_folds=K, chunk=chunk),
        reference(A, Y, w, folds, K),
        strict=True,
    ):
        assert_allclose(found, expected, atol=1e-12)


def test_no_weights_count_each_row_once_and_an_empty_fold_is_zero(problem):
    A, Y, _, folds, K = problem
    gram, cross = gram_by_fold(A, Y, None, folds, n_folds=K + 1)
    expected = reference(A, Y, np.ones(len(A)), folds, K)
    assert_allclose(gram[:K], expected[0], atol=1e-12)
    assert_allclose(cross[:K], expected[1], atol=1e-12)
    assert not gram[K].any()
    assert not cross[K].any()


@pytest.mark.parametrize("n_jobs", [1, 2])
def test_chunks_out_of_memory_add_up(problem, n_jobs):
    A, Y, w, folds, K = problem
    pieces = [slice(0, 40), slice(40, 41), slice(41, None)]
    chunks = [(A[s], Y[s], w[s], folds[s]) for s in pieces]
    expected = gram_by_fold(A, Y, w, folds, n_folds=K)
    for found in (
        gram_by_fold_of_chunks(chunks, K, n_jobs=n_jobs),
        gram_by_fold_of_chunks(lambda: iter(chunks), K),
    ):
        assert_allclose(found[0], expected[0], atol=1e-12)
        assert_allclose(found[1], expected[1], atol=1e-12)


def test_no_chunks_are_an_error():
    with pytest.raises(ValueError, match="no chunks"):
        gram_by_fold_of_chunks([], 2)


@pytest.mark.parametrize("alpha", [1e-3, 1.0, 1e3])
def test_total_minus_fold_gives_the_ridge_of_the_other_folds(problem, alpha):
    A, Y, w, folds, K = problem
    gram, cross = gram_by_fold(A, Y, w, folds, n_folds=K)
    for k in range(K):
        rows = (folds != k) & (folds >= 0)
        ridge = Ridge(alpha, fit_intercept=False).fit(A[rows], Y[rows], sample_weight=w[rows])
        left = gram.sum(axis=0) - gram[k] + alpha * np.eye(A.shape[1])
        beta = np.linalg.solve(left, cross.sum(axis=0) - cross[k])
        assert_allclose(beta.T, ridge.coef_, atol=1e-10)

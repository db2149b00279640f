"""The closed form of leave-one-pair-out errors against leaving out one pair at a time."""

import numpy as np
import pytest
from numpy.testing import assert_allclose

from reweight.kernels.leave_pair_out import leave_pair_out_scores

ALPHAS = np.array([1e-3, 0.05, 0.7, 10.0])


def one_at_a_time(source, target, alpha):
    """Refit without source row i and target row i, and judge on them."""
    losses = []
    for i in range(min(len(source), len(target))):
        S, T = np.delete(source, i, axis=0), np.delete(target, i, axis=0)
        H = S.T @ S / len(S) + alpha * np.eye(S.shape[1])
        theta = np.maximum(np.linalg.solve(H, T.mean(axis=0)), 0.0)
        losses.append(0.5 * (source[i] @ theta) ** 2 - target[i] @ theta)
    return np.mean(losses)


def eq_18(source, target, alpha):
    """The formula as the papers and peers write it, in plain numpy."""
    n, t, pairs = len(source), len(target), min(len(source), len(target))
    X, T, h = source[:pairs].T, target[:pairs].T, target.mean(axis=0)
    inverse = np.linalg.inv(source.T @ source / n + alpha * (n - 1) / n * np.eye(len(h)))
    d = n - np.sum(X * (inverse @ X), axis=0)
    B0 = (inverse @ h)[:, None] + inverse @ X * (h @ inverse @ X / d)
    B1 = inverse @ T + inverse @ X * (np.sum(T * (inverse @ X), axis=0) / d)
    B2 = np.maximum((n - 1) / (n * (t - 1)) * (t * B0 - B1), 0.0)
    at_source, at_target = np.sum(X * B2, axis=0), np.sum(T * B2, axis=0)
    return at_source @ at_source / (2 * pairs) - at_target.mean()


@pytest.mark.parametrize(("n", "t"), [(15, 15), (20, 11), (11, 20)])
def test_closed_form_equals_refitting(rng, n, t):
    source, target = rng.uniform(size=(n, 5)), rng.uniform(size=(t, 5))
    scores = leave_pair_out_scores(source, target, ALPHAS)
    assert_allclose(scores, [one_at_a_time(source, target, a) for a in ALPHAS], rtol=1e-10)
    assert_allclose(scores, [eq_18(source, target, a) for a in ALPHAS], rtol=1e-10)


def test_more_features_than_rows(rng):
    source, target = rng.uniform(size=(6, 12)), rng.uniform(size=(7, 12))
    scores = leave_pair_out_scores(source, target, ALPHAS)
    assert_allclose(scores, [one_at_a_time(source, target, a) for a in ALPHAS], rtol=1e-8)


def test_pairs_without_features_count_as_zero_errors(rng):
    source, target = rng.uniform(size=(20, 4)), rng.uniform(size=(20, 4))
    source[5:], target[8:] = 1e-200, 1e-200
    scores = leave_pair_out_scores(source, target, ALPHAS)
    assert_allclose(scores, [one_at_a_time(source, target, a) for a in ALPHAS], rtol=1e-10)

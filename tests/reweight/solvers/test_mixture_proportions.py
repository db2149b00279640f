"""Facts about maximum likelihood of mixture proportions."""

import numpy as np
import pytest
from numpy.testing import assert_allclose

from reweight.solvers.mixture_proportions import mixture_proportions
from reweight.solvers.reference import mixture_reference


def densities(rng, n=80, k=30, bandwidth=0.5):
    X = rng.normal(size=(n, 2))
    centres = X[:k]
    return np.exp(-((X[:, None] - centres) ** 2).sum(axis=2) / (2 * bandwidth**2))


def em(A, w, n_steps):
    """The EM algorithm, as it stands in every textbook."""
    q = np.full(A.shape[1], 1 / A.shape[1])
    for _ in range(n_steps):
        q = q * ((w / (A @ q)) @ A)
    return q


def test_disjoint_components_get_their_weighted_shares():
    A = np.array([[2.0, 0.0], [3.0, 0.0], [0.0, 0.5]])
    result = mixture_proportions(A, weights=[1.0, 2.0, 5.0])
    assert_allclose(result.x, [3 / 8, 5 / 8], atol=1e-12)
    assert result.optimality_gap < 1e-8


@pytest.mark.parametrize("bandwidth", [0.2, 0.5, 1.0])
def test_objective_equals_the_conic_program(rng, bandwidth):
    A = densities(rng, bandwidth=bandwidth)
    w = rng.uniform(0.5, 2.0, size=len(A))
    w /= w.sum()
    result, reference = mixture_proportions(A, weights=w), mixture_reference(A, w)
    assert result.converged
    assert_allclose(result.objective, reference.objective, atol=2e-8)
    assert result.objective >= reference.objective - 1e-8


def test_gap_bounds_the_distance_to_the_maximum(rng):
    A = densities(rng)
    best = mixture_proportions(A, tol=1e-12).objective
    for max_iter in (1, 5, 20, 32):
        result = mixture_proportions(A, tol=1e-15, max_iter=max_iter)
        assert -1e-13 <= best - result.objective <= result.optimality_gap + 1e-13
        assert result.n_iter == max_iter or result.converged


def test_optimality_conditions_hold_with_exact_zeros(rng):
    A = densities(rng)
    result = mixture_proportions(A, tol=1e-10)
    r = (1 / len(A) / (A @ result.x)) @ A
    assert_allclose(result.dual, r - 1, atol=1e-12)
    assert (result.x == 0).sum() > 5
    assert_allclose(r[result.x > 1e-6], 1, atol=1e-6)
    assert r.max() <= 1 + 1e-10
    assert_allclose(result.x.sum(), 1, rtol=1e-14)


def test_no_step_lowers_the_likelihood(rng):
    A = densities(rng)
    values = [mixture_proportions(A, max_iter=k, tol=1e-14).objective for k in range(1, 40)]
    assert np.diff(values).min() > -1e-14


def test_newton_continues_the_em_algorithm_to_the_same_maximum(rng):
    A, w = densities(rng, bandwidth=0.8), np.full(80, 1 / 80)
    slow = em(A, w, 20_000)
    result = mixture_proportions(A)
    assert result.n_iter < 60
    assert_allclose(w @ np.log(A @ slow), result.objective, atol=1e-6)
    assert result.objective >= w @ np.log(A @ slow)


def test_one_em_step_is_the_textbook_step(rng):
    A = densities(rng)
    result = mixture_proportions(A, max_iter=1, tol=1e-15)
    assert_allclose(result.x, em(A, np.full(80, 1 / 80), 1), rtol=1e-12)


def test_scale_of_rows_and_weights_does_not_matter(rng):
    A = densities(rng)
    scale = np.exp(rng.uniform(-300, 300, size=len(A)))
    plain = mixture_proportions(A)
    scaled = mixture_proportions(A * scale[:, None], weights=np.full(len(A), 7.0))
    assert_allclose(scaled.x, plain.x, atol=1e-6)
    assert_allclose(scaled.objective, plain.objective + np.log(scale).mean(), rtol=1e-9)


def test_weight_k_is_k_observations_and_weight_zero_is_none(rng):
    A, w = densities(rng), rng.integers(0, 4, size=80)
    weighted = mixture_proportions(A, weights=w)
    repeated = mixture_proportions(np.repeat(A, w, axis=0))
    assert_allclose(weighted.objective, repeated.objective, atol=1e-7)


def test_prior_shift_of_class_probabilities_is_recovered(rng):
    """The same program as maximum likelihood label shift: A = P(y|x) / prior."""
    n, proportions = 200_000, np.array([0.7, 0.2, 0.1])
    y = rng.choice(3, size=n, p=proportions)
    x = rng.normal(2.0 * y, 1.0)
    A = np.exp(-0.5 * (x[:, None] - 2.0 * np.arange(3)) ** 2)
    assert_allclose(mixture_proportions(A).x, proportions, atol=0.005)


def test_a_component_without_observations_gets_nothing():
    assert_allclose(mixture_proportions([[1.0, 0.0], [2.0, 0.0]]).x, [1.0, 0.0], atol=1e-8)


def test_not_converged_is_said(rng):
    result = mixture_proportions(densities(rng), max_iter=3, tol=1e-12)
    assert not result.converged
    assert result.optimality_gap > 1e-12


@pytest.mark.parametrize(
    ("A", "weights", "message"),
    [
        ([[1.0, -1.0]], None, "1 entries that are negative or not finite"),
        ([[1.0, np.nan]], None, "1 entries that are negative or not finite"),
        ([1.0, 2.0], None, r"A has shape \(2,\)"),
        ([[0.0, 0.0], [1.0, 0.0]], None, "1 observations have density zero"),
        ([[1.0, 0.0]], [1.0, 2.0], "weights must be 1 finite"),
        ([[1.0, 0.0]], [-1.0], "weights must be 1 finite"),
        ([[1.0, 0.0]], [0.0], "not all zero"),
    ],
)
def test_bad_input_is_named(A, weights, message):
    with pytest.raises(ValueError, match=message):
        mixture_proportions(A, weights=weights)

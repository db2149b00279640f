"""The loss of the cumulative logit model beside a plain twin, differences, and the tails."""

import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy.special import expit

from reweight.ordinal._cumulative_logit import (
    GRAM_ROWS,
    OrdinalProblem,
    gradient,
    hessian,
    level_log_probabilities,
    level_probabilities,
    loss_terms,
    null_model,
    some_row_crosses,
)


def make_problem(rng, n=60, p=3, n_levels=4):
    codes = np.sort(rng.integers(0, n_levels, size=n))
    codes[:n_levels] = np.arange(n_levels)
    codes.sort()
    Z = np.column_stack([np.ones(n), rng.normal(size=(n, p))])
    weights = rng.uniform(0.5, 2.0, size=n)
    starts = np.searchsorted(codes, np.arange(n_levels + 1))
    return OrdinalProblem(Z, starts, weights / weights.sum()), codes


def plain_loss(problem, codes, theta):
    """Minus the log of differences of two logistic functions, row by row."""
    B = theta.copy()
    B[:, 1:] = np.cumsum(theta[:, 1:], axis=0)
    cumulative = expit(problem.Z @ B.T)
    padded = np.column_stack([np.zeros(len(codes)), cumulative, np.ones(len(codes))])
    rows = np.arange(len(codes))
    return -problem.weights @ np.log(padded[rows, codes + 1] - padded[rows, codes])


@pytest.fixture(params=[3, 4, 6])
def case(request, rng):
    problem, codes = make_problem(rng, n_levels=request.param)
    theta = null_model(problem)
    theta[:, 1:] = 0.02 * rng.normal(size=theta[:, 1:].shape)
    return problem, codes, theta


def differences(function, theta, step=1e-6):
    for index in np.ndindex(theta.shape):
        shift = np.zeros_like(theta)
        shift[index] = step
        yield (function(theta + shift) - function(theta - shift)) / (2 * step)


def test_loss_is_that_of_the_plain_form(case):
    problem, codes, theta = case
    assert_allclose(loss_terms(problem, theta)[0], plain_loss(problem, codes, theta), rtol=1e-12)


def test_gradient_is_the_slope_of_the_loss(case):
    problem, codes, theta = case
    expected = list(differences(lambda t: plain_loss(problem, codes, t), theta))
    found = gradient(problem, loss_terms(problem, theta)[1])
    assert_allclose(found.ravel(), expected, atol=1e-8)


def test_hessian_is_the_slope_of_the_gradient(case):
    problem, _, theta = case
    slopes = differences(lambda t: gradient(problem, loss_terms(problem, t)[1]).ravel(), theta)
    H = hessian(problem, loss_terms(problem, theta)[1])
    assert_allclose(H, np.array(list(slopes)), atol=1e-7)
    assert np.linalg.eigvalsh(H).min() > -1e-12


def test_hessian_does_not_depend_on_how_rows_are_cut_into_blocks(rng):
    problem, codes = make_problem(rng, n=3 * GRAM_ROWS + 5, n_levels=3)
    theta = null_model(problem)
    lower, upper, *_ = loss_terms(problem, theta)[1]
    H = hessian(problem, loss_terms(problem, theta)[1]).reshape(2, 4, 2, 4)
    # The block of the second boundary's difference, from the curvature of the terms in plain numpy.
    a, b = theta[:, 0]
    r = 1 / np.expm1(b - a)
    curvature = np.zeros(len(codes))
    curvature[codes == 1] = expit(b) * expit(-b) + r * (1 + r)
    curvature[codes == 2] = expit(b) * expit(-b)
    weighted = problem.Z[:, 1:] * (problem.weights * curvature)[:, None]
    assert_allclose(H[1, 1:, 1, 1:], weighted.T @ problem.Z[:, 1:], rtol=1e-12)
    assert np.isfinite(lower).all()
    assert np.isfinite(upper).all()


def test_null_model_gives_the_shares_of_the_levels(rng):
    problem, codes = make_problem(rng)
    shares = np.bincount(codes, problem.weights)
    P = level_probabilities(problem.Z @ null_model(problem).T)
    assert_allclose(P, np.tile(shares, (len(codes), 1)), rtol=1e-12)


def test_gaps_that_vanish_give_no_nan_and_gaps_below_zero_lie_outside(rng):
    problem, _ = make_problem(rng, n_levels=3)
    theta = np.zeros(problem.size)
    theta[1, 0] = 1e-10
    loss, terms = loss_terms(problem, theta)
    assert np.isfinite(loss)
    assert np.isfinite(terms).all()
    theta[1, 0] = -1e-10
    assert loss_terms(problem, theta)[0] == np.inf


def test_huge_logits_keep_the_loss_finite(rng):
    problem, _ = make_problem(rng, n_levels=3)
    theta = np.zeros(problem.size)
    theta[:, 0] = [-2000.0, 2000.0]
    loss, terms = loss_terms(problem, theta)
    outside = (
        problem.weights[: problem.starts[1]].sum() + problem.weights[problem.starts[2] :].sum()
    )
    assert_allclose(loss, 2000 * outside, rtol=1e-12)
    assert np.isfinite(terms).all()


def test_small_probabilities_keep_their_digits():
    eta = np.array([[-40.0, -30.0], [30.0, 40.0]])
    P, L = level_probabilities(eta), level_log_probabilities(eta)
    assert_allclose(P[1, 2], np.exp(-40.0), rtol=1e-12)
    assert_allclose(P[0, 0], np.exp(-40.0), rtol=1e-12)
    assert_allclose(P[1, 1], np.exp(-30.0) - np.exp(-40.0), rtol=1e-10)
    assert_allclose(np.exp(L), P, rtol=1e-12)
    assert_allclose(P.sum(axis=1), 1, rtol=1e-15)


def test_crossed_boundaries_are_raised_to_the_running_maximum():
    P = level_probabilities(np.array([[0.5, -0.5, 1.0]]))
    assert_allclose(P, [[expit(0.5), 0.0, expit(1.0) - expit(0.5), expit(-1.0)]], atol=1e-15)
    assert level_log_probabilities(np.array([[0.5, -0.5, 1.0]]))[0, 1] == -np.inf


def test_crossing_is_looked_for_in_all_rows_not_only_where_it_matters_to_the_loss():
    Z = np.array([[1.0, -1.0], [1.0, 0.0], [1.0, 3.0]])
    problem = OrdinalProblem(Z, np.arange(4), np.ones(3) / 3)
    theta = np.array([[-1.0, 0.0], [1.0, -1.0]])
    assert np.isfinite(loss_terms(problem, theta)[0])
    assert some_row_crosses(problem, theta)
    theta[1, 1] = 0.0
    assert not some_row_crosses(problem, theta)

"""Logit of clean classes under flips: gradient, no flips, recovery."""

import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy.optimize import check_grad
from scipy.sparse import csr_array

from reweight.noisy_labels._forward_logistic import ForwardLogit, fit_forward_logit


def make(n_classes, n=200, seed=0):
    rng = np.random.default_rng(seed)
    T = rng.dirichlet(np.ones(n_classes), n_classes).T / 2 + np.eye(n_classes) / 2
    X = rng.normal(size=(n, 3))
    return ForwardLogit(X, rng.integers(n_classes, size=n), T, rng.uniform(0, 2, n), True), rng


@pytest.mark.parametrize("n_classes", [2, 4])
@pytest.mark.parametrize("fit_intercept", [True, False])
@pytest.mark.parametrize("sparse", [True, False])
def test_gradient_is_that_of_the_value(n_classes, fit_intercept, sparse):
    problem, rng = make(n_classes)
    X = csr_array(problem.X) if sparse else problem.X
    problem = ForwardLogit(X, problem.y, problem.transition, problem.weights, fit_intercept)
    theta = rng.normal(size=problem.n_scores * 4)
    error = check_grad(
        lambda t: problem.value_and_gradient(t)[0],
        lambda t: problem.value_and_gradient(t)[1],
        theta,
    )
    assert error < 1e-4


def test_value_is_the_likelihood_of_the_noisy_labels():
    problem, rng = make(3)
    theta = rng.normal(size=12)
    coef, intercept = problem.unpack(theta)
    scores = np.exp(problem.X @ coef.T + intercept)
    F = scores / scores.sum(axis=1, keepdims=True)
    likelihood = (F @ problem.transition.T)[np.arange(200), problem.y]
    expected = -(problem.weights * np.log(likelihood)).sum() + 0.5 * (coef**2).sum()
    assert_allclose(problem.value_and_gradient(theta)[0], expected)


def test_a_minimum_has_no_gradient():
    problem, _ = make(3)
    coef, intercept, n_iter, gap = fit_forward_logit(
        problem, np.zeros((3, 3)), np.zeros(3), tol=1e-9, max_iter=500
    )
    gradient = problem.value_and_gradient(np.concatenate([coef.ravel(), intercept]))[1]
    assert n_iter > 1
    assert_allclose(np.abs(gradient).max() / problem.weights.sum(), gap, rtol=1e-6)
    assert gap < 1e-7

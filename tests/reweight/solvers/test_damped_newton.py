"""Newton's method against scipy, on smooth, guarded and singular problems."""

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy.optimize import minimize

from reweight.solvers.damped_newton import damped_newton, newton_direction
from reweight.solvers.logistic import logistic_mle


def log_sum_exp(A, b):
    def fun_grad_hess(x):
        z = A @ x + b
        w = np.exp(z - z.max())
        value, w = np.log(w.sum()) + z.max(), w / w.sum()
        gradient = A.T @ w
        return float(value), gradient, (A * w[:, None]).T @ A - np.outer(gradient, gradient)

    return fun_grad_hess


def test_agrees_with_a_trust_region_method(rng):
    fun = log_sum_exp(rng.standard_normal((40, 5)), rng.standard_normal(40))
    result = damped_newton(fun, np.zeros(5))
    reference = minimize(
        lambda x: fun(x)[0],
        np.zeros(5),
        jac=lambda x: fun(x)[1],
        hess=lambda x: fun(x)[2],
        method="trust-exact",
        options={"gtol": 1e-12},
    )
    assert result.converged
    assert_allclose(result.x, reference.x, atol=1e-9)
    assert result.objective == pytest.approx(reference.fun, abs=1e-14)


def test_steps_back_from_points_outside_the_domain():
    def barrier(x):
        if x[0] <= 0:
            return np.inf, x, np.eye(1)
        return float(x[0] - np.log(x[0])), 1 - 1 / x, 1 / x[:, None] ** 2

    result = damped_newton(barrier, np.array([5.0]))
    assert result.converged
    assert result.x[0] == pytest.approx(1, abs=1e-12)


def test_reports_that_it_did_not_converge():
    result = damped_newton(
        lambda x: (float(np.exp(x[0])), np.exp(x), np.exp(x)[:, None]), np.zeros(1), max_iter=3
    )
    assert not result.converged
    assert result.optimality_gap == pytest.approx(np.exp(-3))


def test_direction_of_a_singular_matrix_solves_the_consistent_system(rng):
    root = rng.standard_normal((3, 6))
    hessian, gradient = root.T @ root, root.T @ rng.standard_normal(3)
    assert_allclose(hessian @ newton_direction(hessian, gradient), -gradient, atol=1e-6)


def test_logistic_mle_is_a_zero_of_the_weighted_score(rng):
    Z = np.column_stack([np.ones(200), rng.standard_normal((200, 3))])
    y = (rng.random(200) < 0.4).astype(float)
    s = rng.integers(1, 4, 200).astype(float)
    beta = logistic_mle(Z, y, s).x
    assert_allclose(Z.T @ (s * (y - 1 / (1 + np.exp(-Z @ beta)))), 0, atol=1e-8)
    index = np.repeat(np.arange(200), s.astype(int))
    assert_allclose(logistic_mle(Z[index], y[index], np.ones(len(index))).x, beta, rtol=1e-9)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_curvature_that_is_no_number_ends_the_search(bad):
    """LAPACK's least squares would never return from it."""

    def spoiled(x):
        return 1.0, np.ones(2), np.array([[1.0, bad], [bad, 1.0]])

    result = damped_newton(spoiled, np.zeros(2))
    assert not result.converged
    assert_array_equal(result.x, 0.0)

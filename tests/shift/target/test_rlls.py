"""Facts about regularised learning under label shift."""

import cvxpy as cp
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy.special import softmax

from shift import BBSE, RLLS, make_target_shift
from shift.target.rlls import least_norms

MEANS = np.array([[0.0, 0.0], [1.5, 0.0], [0.0, 1.5]])


@pytest.fixture
def design():
    data = make_target_shift(1000, design="classes", random_state=0)
    P, P_target = (softmax(2 * X @ MEANS.T, axis=1) for X in (data.X, data.X_target))
    return P, data.y, P_target


def reference(C, b, rho):
    x = cp.Variable(C.shape[1])
    objective = cp.norm(C @ x - b) + rho * cp.norm(x)
    problem = cp.Problem(cp.Minimize(objective), [x >= -1])
    problem.solve(solver="CLARABEL")
    return x.value, problem.value


def programs():
    rng = np.random.default_rng(1)
    for k in (2, 4, 8):
        for rho in (1e-4, 0.02, 0.05, 0.1):
            C = 0.6 * np.eye(k) / k + 0.4 * rng.dirichlet(np.ones(k), k) / k
            for size in (0.3, 3.0):
                yield C, C @ rng.normal(0, size, k), rho
    singular = np.full((3, 3), 1 / 9)
    yield singular, np.array([0.1, -0.02, 0.03]), 0.05


def test_the_cone_program_is_solved_and_certified():
    solvers, bound = set(), 0
    for C, b, rho in programs():
        result = least_norms(C, b, rho)
        _, value = reference(C, b, rho)
        assert result.converged
        assert result.optimality_gap < 1e-8
        assert result.x.min() >= -1
        assert_allclose(result.objective, value, rtol=1e-6, atol=1e-8)
        solvers.add(result.solver)
        bound += bool((result.x < -1 + 1e-9).any())
    assert solvers == {"closed-form", "ridge-path"}
    assert bound > 0


def test_zero_is_the_solution_exactly_when_the_pull_is_too_weak(rng):
    C = rng.uniform(size=(3, 3)) / 9
    b = rng.normal(size=3)
    threshold = np.linalg.norm(C.T @ b) / np.linalg.norm(b)
    assert_array_equal(least_norms(C, b, 1.001 * threshold).x, 0)
    assert np.abs(least_norms(C, b, 0.95 * threshold).x).max() > 1e-3
    assert np.abs(reference(C, b, 1.05 * threshold)[0]).max() < 1e-5


def test_with_little_regularisation_it_is_bbse(design):
    P, y, P_target = design
    expected = BBSE().fit(P, y, X_target=P_target)
    weighter = RLLS().fit(P, y, X_target=P_target)
    C = weighter.confusion_
    theta = expected.raw_class_weights_ - 1
    pull = weighter.rho_ * np.linalg.norm(np.linalg.solve(C.T, theta))
    assert pull <= np.linalg.norm(theta)
    assert_allclose(weighter.class_weights_, expected.class_weights_, rtol=1e-9)
    assert_allclose(weighter.covariance_, expected.covariance_, rtol=1e-9)


def test_regularisation_is_that_of_the_paper(design):
    P, y, P_target = design
    weighter = RLLS(alpha=0.02, confidence_level=0.9).fit(P, y, X_target=P_target)
    bound = np.log(2 * 3 / 0.1)
    rho = 3 * 0.02 * (2 * bound / 3000 + np.sqrt(2 * bound / 1000))
    assert_allclose(weighter.rho_, rho, rtol=1e-9)


def test_strength_and_rho_shrink_towards_no_weights(design):
    P, y, P_target = design
    full = RLLS().fit(P, y, X_target=P_target).class_weights_
    half = RLLS(strength=0.5).fit(P, y, X_target=P_target)
    assert_allclose(half.raw_class_weights_, 0.5 + 0.5 * full, rtol=1e-9)
    assert_allclose(RLLS(strength=0.0).fit(P, y, X_target=P_target).weights_, 1)
    assert_allclose(RLLS(rho=10.0).fit(P, y, X_target=P_target).weights_, 1)
    hard = RLLS(soft=False).fit(P, y, X_target=P_target).class_weights_
    assert np.abs(hard - full).max() > 1e-3

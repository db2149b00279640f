"""Both solvers against the convex program and the conditions of optimality."""

import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy.optimize import minimize

from reweight.ordinal._cumulative_logit import OrdinalProblem, gradient, loss_terms, null_model
from reweight.ordinal._newton_cd import (
    Penalty,
    _lasso_step,
    _newton_step,
    coordinate_descent,
    fista,
    newton_cd,
)
from reweight.solvers.reference import cumulative_logit_reference


def draw(rng, n=300, p=4, n_levels=4, correlation=0.0):
    shared = rng.normal(size=(n, 1))
    Z = np.sqrt(1 - correlation) * rng.normal(size=(n, p)) + np.sqrt(correlation) * shared
    Z = (Z - Z.mean(axis=0)) / Z.std(axis=0)
    cuts = np.linspace(-0.5, 2.0, n_levels - 1)
    y = np.digitize(Z[:, 0] - 0.5 * Z[:, 1] * (Z[:, 0] > 0) + rng.logistic(size=n), cuts)
    order = np.argsort(y, kind="stable")
    weights = rng.uniform(0.5, 2.0, size=n)
    problem = OrdinalProblem(
        np.column_stack([np.ones(n), Z])[order],
        np.searchsorted(y[order], np.arange(n_levels + 1)),
        weights / weights.sum(),
    )
    return problem, y[order]


def elastic_net(problem, alpha, l1_ratio=1.0):
    unit = np.ones(problem.size)
    unit[:, 0] = 0.0
    return Penalty(alpha * l1_ratio * unit, alpha * (1 - l1_ratio) * unit, unit >= 0)


@pytest.mark.parametrize(("alpha", "l1_ratio"), [(0.02, 1.0), (0.02, 0.4), (0.05, 0.0), (0.0, 1.0)])
@pytest.mark.parametrize("solver", [newton_cd, fista])
def test_both_solvers_reach_the_optimum_of_the_convex_program(solver, alpha, l1_ratio, rng):
    problem, codes = draw(rng, n=200, n_levels=3)
    penalty = elastic_net(problem, alpha, l1_ratio)
    result = solver(problem, penalty, null_model(problem))
    expected = cumulative_logit_reference(
        problem.Z[:, 1:], codes, problem.weights, l1=penalty.l1, l2=penalty.l2
    )
    assert result.converged
    assert_allclose(result.objective, expected.objective, atol=1e-8)
    assert_allclose(result.x, expected.x, atol=1e-4)


def test_optimality_gap_is_the_violation_of_the_conditions(rng):
    problem, _ = draw(rng)
    penalty = elastic_net(problem, 0.02, 0.7)
    x = newton_cd(problem, penalty, null_model(problem)).x
    slope = gradient(problem, loss_terms(problem, x)[1]) + penalty.l2 * x
    assert 0 < np.count_nonzero(x[:, 1:]) < x[:, 1:].size
    assert_allclose(slope[:, 0], 0, atol=1e-7)
    moved = x != 0
    assert_allclose(slope[moved], -(penalty.l1 * np.sign(x))[moved], atol=1e-7)
    assert (np.abs(slope[~moved]) <= penalty.l1[~moved] + 1e-7).all()
    off = x + 0.01 * moved
    violation = np.abs(
        gradient(problem, loss_terms(problem, off)[1])
        + penalty.l2 * off
        + penalty.l1 * np.sign(off)
    )[moved].max()
    assert penalty.residual(off, gradient(problem, loss_terms(problem, off)[1])) >= violation


def test_features_that_nearly_coincide_do_not_stop_it(rng):
    problem, _ = draw(rng, correlation=0.9999)
    for alpha in (0.0, 0.001):
        result = newton_cd(problem, elastic_net(problem, alpha), null_model(problem))
        assert result.converged
        assert result.n_iter < 15


def test_coordinates_that_are_not_free_stay(rng):
    problem, _ = draw(rng)
    free = np.ones(problem.size, bool)
    free[1:, 1:] = False
    result = newton_cd(
        problem, Penalty(np.zeros(free.shape), np.zeros(free.shape), free), null_model(problem)
    )
    assert_allclose(result.x[1:, 1:], 0, atol=0)

    def loss(parameters):
        theta = np.zeros(problem.size)
        theta[free] = parameters
        value, terms = loss_terms(problem, theta)
        return value, gradient(problem, terms)[free]

    peer = minimize(
        loss, null_model(problem)[free], jac=True, method="BFGS", options={"gtol": 1e-8}
    )
    assert_allclose(result.x[free], peer.x, atol=1e-6)


def test_the_step_minimises_the_quadratic_model(rng):
    m = 30
    A = rng.normal(size=(2 * m, m))
    H, g, x = A.T @ A / m, rng.normal(size=m), rng.normal(size=m) * (rng.uniform(size=m) < 0.5)
    l1 = np.where(np.arange(m) < 5, 0.0, 0.6)
    step = _lasso_step(H, g, x, l1)
    slope = g + H @ step
    point = x + step
    moved = point != 0
    assert 5 < moved.sum() < m
    assert_allclose(slope[moved], -(l1 * np.sign(point))[moved], atol=1e-9)
    assert (np.abs(slope[~moved]) <= l1[~moved] + 1e-9).all()
    # Coordinate descent alone arrives at the same place.
    alone, kept = np.zeros(m), g.copy()
    assert coordinate_descent(H, kept, x, l1, alone, 10_000, 1e-26)
    assert_allclose(alone, step, atol=1e-8)
    assert_allclose(kept, g + H @ alone, atol=1e-10)
    plain = _newton_step(
        H, g[None], x[None], Penalty(l1[None], np.zeros((1, m)), np.ones((1, m), bool))
    )
    assert_allclose(plain[0], step, atol=1e-12)


def test_too_few_steps_are_reported(rng):
    problem, _ = draw(rng)
    result = newton_cd(problem, elastic_net(problem, 0.001), null_model(problem), max_iter=1)
    assert not result.converged
    assert result.n_iter == 1
    assert result.optimality_gap > 1e-7

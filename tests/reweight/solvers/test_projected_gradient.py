"""Projected gradient against Clarabel, and its certificate against the true distance."""

import numpy as np
import pytest
from numpy.testing import assert_allclose

from reweight.solvers.lowrank_qp import lowrank_qp
from reweight.solvers.projected_gradient import largest_eigenvalue, projected_gradient
from reweight.solvers.reference import quadratic_reference
from reweight.solvers.simplex_projection import project_simplex

N = 60
rng = np.random.default_rng(5)
F = rng.standard_normal((N, 12)) + 0.3
Q = F @ F.T
C = 0.2 * rng.standard_normal(N)


def vertex(g):
    v = np.zeros_like(g)
    v[np.argmin(g)] = 1.0
    return v


def solve(**options):
    options = {"c": C, "tol": 1e-9, **options}
    return projected_gradient(lambda x: Q @ x, project_simplex, vertex, np.ones(N) / N, **options)


def test_agrees_with_clarabel():
    result = solve()
    reference = quadratic_reference(F, C)
    assert result.converged
    assert result.objective == pytest.approx(reference.objective, rel=1e-7)


def test_agrees_with_the_interior_point_method_on_an_ill_conditioned_program():
    scale = np.logspace(0, -3, 12)
    factor = F * scale + 0.5
    result = projected_gradient(
        lambda x: factor @ (x @ factor), project_simplex, vertex, np.ones(N) / N, c=C, tol=1e-8
    )
    exact = lowrank_qp(factor, C, tol=1e-10)
    assert result.converged
    assert result.objective == pytest.approx(exact.objective, rel=1e-7)


def test_the_gap_bounds_the_distance_to_the_minimum():
    exact = lowrank_qp(F, C, tol=1e-11)
    for max_iter in (1, 10, 30):
        result = solve(max_iter=max_iter)
        size = 0.5 * result.x @ Q @ result.x + abs(C @ result.x)
        assert not result.converged
        assert 0 < result.objective - exact.objective <= result.optimality_gap * size


def test_a_lipschitz_constant_too_small_is_corrected():
    result = solve(lipschitz=1e-3 * np.linalg.eigvalsh(Q)[-1])
    assert result.converged
    assert result.objective == pytest.approx(solve().objective, rel=1e-8)


def test_momentum_beats_plain_steps_by_far():
    lipschitz = np.linalg.eigvalsh(Q)[-1]
    x = np.ones(N) / N
    steps = solve(lipschitz=lipschitz, tol=1e-6).n_iter
    for _ in range(3 * steps):
        x = project_simplex(x - (Q @ x - C) / lipschitz)
    slope = Q @ x - C
    assert slope @ (x - vertex(slope)) > 1e-6 * (0.5 * x @ Q @ x + abs(C @ x))


def test_a_minimum_of_zero_is_certified_by_the_objective_itself():
    rows = np.random.default_rng(0).standard_normal((200, 3))
    result = projected_gradient(
        lambda x: rows @ (x @ rows),
        project_simplex,
        vertex,
        np.ones(200) / 200,
        gap_scale=1.0,
        tol=1e-12,
    )
    assert result.converged
    assert result.optimality_gap <= result.objective
    assert_allclose(result.x @ rows, 0, atol=1e-5)


def test_any_convex_set_and_any_shape():
    # Two blocks on boxes and a ball: the callables alone know the set.
    target = np.array([[3.0, 0.2], [0.1, -4.0]])
    result = projected_gradient(
        lambda x: x,
        lambda x: np.clip(x, 0, 1),
        lambda g: (g < 0).astype(float),
        np.full((2, 2), 0.5),
        c=target,
        lipschitz=1.0,
        tol=1e-10,
    )
    assert_allclose(result.x, np.clip(target, 0, 1), atol=1e-8)


def test_many_small_simplices_converge_to_the_last_digits():
    draw = np.random.default_rng(1)
    T = 0.6 * np.eye(4) + 0.4 * draw.dirichlet(np.ones(4), size=4).T
    P = draw.dirichlet(np.ones(4), size=300)
    gram = T.T @ T
    result = projected_gradient(
        lambda f: f @ gram,
        project_simplex,
        lambda g: np.eye(4)[g.argmin(axis=1)],
        P,
        c=P @ T,
        lipschitz=np.linalg.eigvalsh(gram)[-1],
        tol=1e-11,
        max_iter=200,
    )
    assert result.converged
    assert_allclose(result.x.sum(axis=1), 1, rtol=1e-12)


def test_largest_eigenvalue_is_an_upper_bound_here():
    exact = np.linalg.eigvalsh(Q)[-1]
    assert exact <= largest_eigenvalue(lambda x: Q @ x, np.ones(N)) <= 1.06 * exact


@pytest.mark.parametrize("option", ["lipschitz", "gap_scale"])
def test_bad_input_is_named(option):
    with pytest.raises(ValueError, match=f"{option} must be positive"):
        solve(**{option: -1.0})

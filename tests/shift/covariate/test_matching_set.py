"""Facts about the feasible set of double kernel mean matching."""

import cvxpy as cp
import numpy as np
import pytest
from numpy.testing import assert_allclose

from shift.covariate._matching_set import MatchingSet, shrink_to_ball, stretch_to_ball

N, T = 7, 9


def make_set(D=4.0, tolerance=0.3, max_weight=5.0):
    upper = np.r_[np.full(N, max_weight / np.sqrt(D) / N), np.full(T, 1 / T)]
    radius = (1 - 1 / np.sqrt(D)) / np.sqrt(T)
    return MatchingSet(np.zeros(N + T), upper, N, radius, tolerance)


def constraints(feasible, x):
    parts = [
        x >= feasible.lower,
        x <= feasible.upper,
        cp.abs(feasible.signs @ x) <= feasible.mean_tolerance,
    ]
    if feasible.radius is not None:
        parts.append(cp.norm(1 / T - x[N:], 2) <= feasible.radius)
    return parts


def violation(feasible, x):
    excess = [
        (feasible.lower - x).max(),
        (x - feasible.upper).max(),
        abs(feasible.difference(x)) - feasible.mean_tolerance,
    ]
    if feasible.radius is not None:
        excess.append(np.linalg.norm(1 / T - x[N:]) - feasible.radius)
    return max(excess)


@pytest.mark.parametrize("tolerance", [0.0, 0.05, 0.9])
@pytest.mark.parametrize("D", [1.5, 4.0, 100.0])
def test_projection_is_the_nearest_point(rng, D, tolerance):
    feasible = make_set(D, tolerance)
    for size in (0.05, 0.3, 3.0):
        point = size * rng.normal(size=N + T)
        projected = feasible.project(point)
        assert violation(feasible, projected) < 1e-10
        x = cp.Variable(N + T)
        cp.Problem(cp.Minimize(cp.sum_squares(x - point)), constraints(feasible, x)).solve(
            solver=cp.CLARABEL, tol_gap_abs=1e-12, tol_gap_rel=1e-12, tol_feas=1e-12
        )
        assert_allclose(projected, x.value, atol=1e-5)
        assert np.linalg.norm(projected - point) <= np.linalg.norm(x.value - point) + 1e-8


@pytest.mark.parametrize("tolerance", [0.0, 0.05, 0.9])
@pytest.mark.parametrize("D", [1.5, 4.0, 100.0])
def test_linear_functions_are_least_where_it_says(rng, D, tolerance):
    feasible = make_set(D, tolerance)
    for _ in range(3):
        g = rng.normal(size=N + T)
        found = feasible.linear_minimum(g)
        assert violation(feasible, found) < 1e-10
        x = cp.Variable(N + T)
        problem = cp.Problem(cp.Minimize(g @ x), constraints(feasible, x))
        problem.solve(solver=cp.CLARABEL, tol_gap_abs=1e-12, tol_gap_rel=1e-12, tol_feas=1e-12)
        assert_allclose(g @ found, problem.value, atol=1e-8)


def test_points_of_the_set_stay_where_they_are():
    feasible = make_set()
    inside = np.r_[np.full(N, 0.6 / N), np.full(T, 0.7 / T)]
    assert_allclose(feasible.project(inside), inside, rtol=1e-14)


def test_fixed_entries_do_not_move(rng):
    lower = np.r_[np.zeros(N), np.full(T, 1 / T)]
    feasible = MatchingSet(lower, np.r_[np.ones(N), lower[N:]], N, None, 0.5)
    g = rng.normal(size=N + T)
    for point in (feasible.project(g), feasible.linear_minimum(g)):
        assert_allclose(point[N:], 1 / T, rtol=1e-12)
        assert abs(point[:N].sum() - 1) <= 0.5 + 1e-12


def test_ball_formulas_in_one_dimension_of_freedom():
    z = np.array([0.0, 2.0])
    assert_allclose(shrink_to_ball(z, 5.0, 1.0), [0.0, 1.0])
    assert_allclose(shrink_to_ball(z, 0.5, 1.0), [0.0, 0.5])
    assert_allclose(stretch_to_ball(z, 5.0, 3.0), [0.0, 3.0])
    assert_allclose(stretch_to_ball(z, 2.5, 3.0), [0.0, 2.5])
    assert_allclose(stretch_to_ball(np.zeros(2), 1.0, 1.0), [0.0, 0.0])

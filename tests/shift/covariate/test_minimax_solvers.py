"""The minimax problems and their solvers, apart from the estimator."""

from dataclasses import replace
from itertools import product

import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy.optimize import linprog

from reweight.solvers.reference import feasible_confidence_reference, minimax_reference
from shift.covariate import _minimax_log, _minimax_pieces
from shift.covariate._minimax_confidence import attain_bounds, feasible_bounds
from shift.covariate._minimax_game import settle_common_shift
from shift.covariate._minimax_log import coordinate_descent, minimize_log_loss
from shift.covariate._minimax_loss import best_subset, entropy, largest_risk, potential, rule
from shift.covariate._minimax_pieces import minimize_pieces
from shift.covariate._minimax_problem import MinimaxProblem

LOSSES = ("0-1", "log")


def subsets(n_classes):
    return [np.array(s, dtype=bool) for s in product([0, 1], repeat=n_classes) if any(s)]


def make_problem(rng, t=60, q=4, n_classes=2, loss="0-1", slack=0.02, n=80):
    """Moments of a source unlike the target, unequal row weights, bounds that can be attained."""
    source = np.column_stack([np.ones(n), rng.normal(size=(n, q - 1))])
    target = np.column_stack([np.ones(t), rng.normal(0.5, 0.8, size=(t, q - 1))])
    noise = rng.gumbel(size=(n, n_classes))
    labels = np.argmax(source @ rng.normal(size=(q, n_classes)) + noise, axis=1)
    tau = np.stack([(labels == c) @ source / n for c in range(n_classes)])
    row_weight = rng.uniform(0.5, 1.5, size=t)
    alpha = rng.uniform(0.2, 1.0, size=t)
    problem = MinimaxProblem(
        features=target * alpha[:, None],
        row_weight=row_weight / row_weight.sum(),
        tau=tau,
        bounds=np.zeros_like(tau),
        loss=loss,
    )
    confidence = feasible_bounds(problem, slack)
    return replace(problem, bounds=confidence.bounds), confidence.interior


def solve(problem, interior):
    if problem.loss == "log":
        return minimize_log_loss(problem, interior, tol=1e-8)
    return minimize_pieces(problem)


@pytest.mark.parametrize("n_classes", [2, 3, 4, 5])
def test_sorting_finds_the_best_set_of_classes(n_classes, rng):
    scores = rng.normal(scale=2.0, size=(200, n_classes))
    values = np.stack([(scores[:, s].sum(axis=1) - 1) / s.sum() for s in subsets(n_classes)])
    assert_allclose(potential(scores, "0-1"), 1 + values.max(axis=0), rtol=0, atol=1e-12)
    chosen = best_subset(scores)
    attained = ((scores * chosen).sum(axis=1) - 1) / chosen.sum(axis=1)
    assert_allclose(attained, values.max(axis=0), rtol=0, atol=1e-12)


def test_two_classes_have_a_closed_form(rng):
    scores = rng.normal(scale=2.0, size=(100, 2))
    spread = np.maximum(np.abs(scores[:, 0] - scores[:, 1]), 1)
    assert_allclose(potential(scores, "0-1"), scores.mean(axis=1) + spread / 2, atol=1e-12)


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("n_classes", [2, 3, 5])
def test_rules_are_distributions(loss, n_classes, rng):
    P = rule(rng.normal(scale=3.0, size=(300, n_classes)), loss)
    assert P.min() >= 0
    assert_allclose(P.sum(axis=1), 1, rtol=0, atol=1e-12)
    assert_allclose(rule(np.zeros((1, n_classes)), loss), 1 / n_classes)


@pytest.mark.parametrize("loss", LOSSES)
def test_potential_is_the_conjugate_of_the_entropy(loss, rng):
    scores = rng.normal(size=(50, 3))
    P = rng.dirichlet(np.ones(3), size=(50, 200))
    gains = np.einsum("ic,ikc->ik", scores, P) + np.stack([entropy(p, loss) for p in P])
    assert (gains <= potential(scores, loss)[:, None] + 1e-12).all()
    best = best_subset(scores) if loss == "0-1" else rule(scores, loss)
    best = best / best.sum(axis=1, keepdims=True)
    attained = (scores * best).sum(axis=1) + entropy(best, loss)
    assert_allclose(attained, potential(scores, loss), rtol=0, atol=1e-12)


@pytest.mark.parametrize("loss", LOSSES)
def test_the_rule_loses_at_most_the_potential(loss, rng):
    # loss(h, c) <= psi(s) - s_c for each class c: this is what makes the risk a minimax risk.
    scores = rng.normal(scale=2.0, size=(100, 4))
    P = rule(scores, loss)
    losses = 1 - P if loss == "0-1" else -np.log(P)
    assert (losses <= potential(scores, loss)[:, None] - scores + 1e-9).all()


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("n_classes", [2, 3])
@pytest.mark.parametrize("slack", [1e-3, 0.1])
def test_the_minimum_is_that_of_cvxpy(loss, n_classes, slack, rng):
    problem, interior = make_problem(rng, n_classes=n_classes, loss=loss, slack=slack)
    expected = minimax_reference(
        problem.features, problem.tau, problem.bounds, loss=loss, row_weight=problem.row_weight
    )
    result = solve(problem, interior)
    assert result.converged
    assert_allclose(result.objective, expected.objective, rtol=0, atol=1e-6)
    assert_allclose(problem.objective(expected.x), expected.objective, rtol=0, atol=1e-6)


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("n_classes", [2, 3, 4])
@pytest.mark.parametrize("slack", [1e-6, 0.02])
def test_the_gap_is_certified_by_class_probabilities(loss, n_classes, slack, rng):
    problem, interior = make_problem(rng, n_classes=n_classes, loss=loss, slack=slack)
    result = solve(problem, interior)
    assert_allclose(result.dual.sum(axis=1), 1, atol=1e-12)
    assert result.dual.min() >= 0
    lower = problem.lower_bound(result.dual, interior)
    assert problem.objective(result.x) == pytest.approx(result.objective, abs=1e-12)
    assert -1e-10 <= result.objective - lower <= 1e-6
    # Any other point does worse, by weak duality.
    other = result.x + 0.1 * rng.normal(size=result.x.shape)
    assert problem.objective(other) >= lower


def test_lower_bound_refuses_probabilities_that_cannot_be_mended(rng):
    problem, interior = make_problem(rng)
    tight = replace(problem, bounds=np.abs(problem.residual(interior)))
    assert tight.lower_bound(np.eye(2)[rng.integers(0, 2, 60)], interior) == -np.inf


def test_zero_one_loss_of_two_classes_as_one_plain_linear_program(rng):
    problem, _ = make_problem(rng, n_classes=2)
    t, q = problem.features.shape
    F, w, tau = problem.features, problem.row_weight, problem.tau
    # Unknowns M+ (2q), M- (2q), u (t) with u_i >= |s_1 - s_2| and u_i >= 1.
    linear = (w @ F) / 2 - tau
    costs = np.concatenate([(linear + problem.bounds).ravel(), (problem.bounds - linear).ravel()])
    difference = np.hstack([F, -F, -F, F])
    result = linprog(
        np.concatenate([costs, w / 2]),
        A_ub=np.block([[difference, -np.eye(t)], [-difference, -np.eye(t)]]),
        b_ub=np.zeros(2 * t),
        bounds=[(0, None)] * (4 * q) + [(1, None)] * t,
    )
    assert_allclose(minimize_pieces(problem).objective, result.fun, rtol=0, atol=1e-9)


@pytest.mark.parametrize("n_classes", [2, 3])
@pytest.mark.parametrize("loss", ["0-1", "maximum"])
def test_pieces_on_demand_reach_the_same_optimum(n_classes, loss, rng, monkeypatch):
    problem, _ = make_problem(rng, t=400, n_classes=n_classes)
    box = None
    if loss == "maximum":
        problem, box = replace(problem, loss=loss, bounds=0 * problem.bounds), 1.0
    direct = minimize_pieces(problem, box=box)
    monkeypatch.setattr(_minimax_pieces, "MAX_DIRECT_PIECES", 100)
    sifted = minimize_pieces(problem, box=box)
    assert sifted.n_iter > 1 or loss == "maximum"
    assert sifted.converged
    assert_allclose(sifted.objective, direct.objective, rtol=0, atol=1e-8)
    outside = np.maximum(np.abs(problem.residual(sifted.dual)) - problem.bounds, 0).sum()
    assert outside == pytest.approx(-direct.objective if loss == "maximum" else 0.0, abs=1e-7)


@pytest.mark.parametrize("n_classes", [2, 3])
@pytest.mark.parametrize("slack", [1e-6, 0.02])
def test_log_loss_meets_its_optimality_conditions(n_classes, slack, rng):
    problem, interior = make_problem(rng, n_classes=n_classes, loss="log", slack=slack)
    M = minimize_log_loss(problem, interior).x
    gradient = -problem.residual(rule(problem.scores(M), "log"))
    assert (np.abs(gradient) <= problem.bounds + 1e-8).all()
    moving = M != 0
    assert moving.any()
    assert_allclose(gradient[moving], (-problem.bounds * np.sign(M))[moving], rtol=0, atol=1e-8)


def test_first_order_steps_reach_the_same_optimum(rng, monkeypatch):
    problem, interior = make_problem(rng, n_classes=3, loss="log")
    newton = minimize_log_loss(problem, interior, tol=1e-9)
    monkeypatch.setattr(_minimax_log, "MAX_NEWTON_SIZE", 0)
    first = minimize_log_loss(problem, interior, tol=1e-6, max_iter=1000)
    assert first.solver == "fista"
    assert first.converged
    assert 0 <= first.objective - newton.objective + 1e-9 <= 1e-6


def test_running_out_of_steps_is_reported(rng):
    problem, interior = make_problem(rng, loss="log", slack=1e-6)
    result = minimize_log_loss(problem, interior, max_iter=1)
    assert not result.converged
    assert result.n_iter == 1
    assert result.optimality_gap > 1e-6
    full = minimize_log_loss(problem, interior)
    assert result.objective - full.objective <= result.optimality_gap + 1e-9


def test_coordinate_descent_equals_its_plain_twin(rng):
    root = rng.normal(size=(8, 6))
    H, linear, bounds = root.T @ root, rng.normal(size=6), rng.uniform(0, 0.5, size=6)
    x = rng.normal(size=6)
    fast, product_ = x.copy(), H @ x
    coordinate_descent(H, linear, bounds, fast, product_, 3)
    slow = x.copy()
    for _ in range(3):
        for j in range(6):
            rest = linear[j] + H[j] @ slow - H[j, j] * slow[j]
            slow[j] = -np.sign(rest) * max(abs(rest) - bounds[j], 0) / H[j, j]
    assert_allclose(fast, slow, atol=1e-12)
    assert_allclose(product_, H @ fast, atol=1e-10)


@pytest.mark.parametrize("n_classes", [2, 3])
def test_feasible_bounds_do_not_depend_on_the_solver(n_classes, rng):
    problem, _ = make_problem(rng, n_classes=n_classes)
    confidence = feasible_bounds(problem, 0.01)
    expected = feasible_confidence_reference(problem.features, problem.tau, problem.row_weight)
    assert confidence.unique
    assert_allclose(confidence.bounds, np.abs(expected) + 0.01, rtol=0, atol=1e-5)
    assert_allclose(confidence.distance, np.abs(expected).sum(), rtol=0, atol=1e-6)
    # The probabilities that come with the bounds attain them with the slack to spare.
    room = confidence.bounds - np.abs(problem.residual(confidence.interior))
    assert_allclose(room, 0.01, rtol=0, atol=1e-12)


def test_feasible_bounds_have_the_least_norm_of_all_with_the_least_sum(rng):
    # Many rows that are equal leave the linear program much to choose from.
    problem, _ = make_problem(rng, t=40)
    coarse = replace(problem, features=np.round(problem.features))
    confidence = feasible_bounds(coarse, 0.0)
    vertex = minimize_pieces(
        replace(coarse, loss="maximum", bounds=np.zeros_like(coarse.tau)), box=1.0
    ).dual
    residual = np.abs(coarse.residual(vertex))
    assert_allclose(confidence.bounds.sum(), residual.sum(), rtol=0, atol=1e-8)
    assert np.sum(confidence.bounds**2) <= np.sum(residual**2) + 1e-10
    expected = feasible_confidence_reference(coarse.features, coarse.tau, coarse.row_weight)
    assert_allclose(confidence.bounds, np.abs(expected), rtol=0, atol=1e-5)


def test_moments_that_can_be_met_have_bounds_equal_to_the_slack(rng):
    problem, _ = make_problem(rng)
    P = rng.dirichlet(np.ones(2), size=60)
    tau = P.T @ problem.weighted_features
    confidence = feasible_bounds(replace(problem, tau=tau), 1e-3)
    assert confidence.distance <= 1e-9
    assert_allclose(confidence.bounds, 1e-3, rtol=0, atol=1e-9)


def test_bounds_can_be_attained_or_not(rng):
    problem, _ = make_problem(rng, slack=1e-3)
    attained = attain_bounds(problem)
    assert attained.distance == 0
    assert (np.abs(problem.residual(attained.interior)) <= problem.bounds + 1e-9).all()
    shrunk = attain_bounds(replace(problem, bounds=0.9 * problem.bounds))
    assert shrunk.distance > 0


@pytest.mark.parametrize("n_classes", [2, 3, 4])
def test_common_shift_is_settled_without_raising_the_objective(n_classes, rng):
    problem, _ = make_problem(rng, n_classes=n_classes)
    M = minimize_pieces(problem).x
    shifted = M + rng.normal(size=M.shape[1])
    settled = settle_common_shift(shifted, problem)
    assert_allclose(settled - settled[0], shifted - shifted[0], atol=1e-12)
    assert problem.objective(settled) <= problem.objective(M) + 1e-12
    # The answer does not depend on where it starts.
    assert_allclose(settled, settle_common_shift(M, problem), atol=1e-9)


def test_largest_risks():
    assert largest_risk(4, "0-1") == 0.75
    assert largest_risk(4, "log") == pytest.approx(np.log(4))

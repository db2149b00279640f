"""Minimax problems with the log loss, by proximal Newton steps.

The smooth part is a multinomial log-likelihood; each step minimises its quadratic model plus the
weighted l1 term by coordinate descent and then exactly on the signs found. Newton steps are needed:
with the small bounds of feasible confidence the problem is nearly flat, and first-order methods
stall far from its solution.
"""

from dataclasses import dataclass

import numpy as np
from numba import njit
from numpy.typing import NDArray
from scipy.linalg import cho_factor, cho_solve
from scipy.special import logsumexp

from reweight.solvers.result import SolverResult
from shift.covariate._minimax_loss import rule
from shift.covariate._minimax_problem import MinimaxProblem

MAX_NEWTON_SIZE = 3000
DAMPING = 1e-10
ARMIJO = 1e-4
POLISHING_STEPS = 3


def minimize_log_loss(
    problem: MinimaxProblem,
    interior: NDArray[np.float64],
    *,
    tol: float = 1e-6,
    max_iter: int = 200,
) -> SolverResult:
    """Solve a problem whose loss is "log".

    Parameters
    ----------
    problem : MinimaxProblem
        Problem.
    interior : ndarray of shape (t, C)
        Class probabilities whose moments lie within the bounds, for the lower bound.
    tol : float, default=1e-6
        Distance of the objective from its lower bound at which to stop.
    max_iter : int, default=200
        Largest number of Newton steps; first-order steps, which are taken where M has more than
        3000 entries, are 50 times as many.

    Returns
    -------
    SolverResult
        `x` is M of shape (C, q), `dual` the probabilities P of shape (t, C), `optimality_gap` the
        absolute distance of the objective from its lower bound.
    """
    if problem.tau.size > MAX_NEWTON_SIZE:
        steps, solver = _first_order_steps(problem), "fista"
        max_iter *= 50
    else:
        steps, solver = _newton_steps(problem), "proximal-newton"
    certify_every = 1 if solver == "proximal-newton" else 25
    gap, lower, polish = np.inf, -np.inf, POLISHING_STEPS
    for n_iter, state in enumerate(steps):
        stuck = state.stuck
        if n_iter % certify_every == 0 or stuck or n_iter == max_iter:
            P = rule(problem.scores(state.M), "log")
            lower = max(lower, problem.lower_bound(P, interior))
            gap = max(state.value - lower, 0.0)
        if stuck or n_iter >= max_iter:
            break
        if gap <= tol:
            # Newton converges quadratically: a few more steps make predictions reproducible.
            if solver == "fista" or polish == 0:
                break
            polish -= 1
    return SolverResult(
        x=state.M,
        dual=P,
        objective=state.value,
        optimality_gap=gap,
        certificate="duality_gap",
        n_iter=n_iter,
        converged=bool(gap <= tol),
        solver=solver,
    )


@dataclass(frozen=True)
class _State:
    """An iterate, its objective, and whether no step improves on it."""

    M: NDArray[np.float64]
    value: float
    stuck: bool = False


def _newton_steps(problem: MinimaxProblem):
    """Iterates of the proximal Newton method."""
    bounds = problem.bounds.ravel()
    M = np.zeros_like(problem.tau)
    value = problem.objective(M)
    yield _State(M, value)
    while True:
        P = rule(problem.scores(M), "log")
        gradient = -problem.residual(P).ravel()
        hessian = _hessian(problem, P)
        x = M.ravel()
        step = _model_minimum(hessian, gradient, bounds, x) - x
        slope = gradient @ step + bounds @ (np.abs(x + step) - np.abs(x))
        size = 1.0
        slack = 4 * np.finfo(float).eps * (1.0 + abs(value))
        for _ in range(40):
            trial = (x + size * step).reshape(M.shape)
            trial_value = problem.objective(trial)
            if trial_value <= value + ARMIJO * size * slope + slack:
                break
            size *= 0.5
        else:
            yield _State(M, value, stuck=True)
            return
        # At the resolution of the objective further steps only move round-off about.
        settled = slope >= -slack and trial_value >= value
        M, value = trial, trial_value
        yield _State(M, value, stuck=settled)


def _hessian(problem: MinimaxProblem, P: NDArray[np.float64]) -> NDArray[np.float64]:
    """Second derivatives of the smooth part, classes outermost."""
    C, q = problem.tau.shape
    hessian = np.empty((C, q, C, q))
    for c in range(C):
        for d in range(c, C):
            weight = P[:, c] * ((c == d) - P[:, d])
            block = (problem.weighted_features * weight[:, None]).T @ problem.features
            hessian[c, :, d, :] = block
            hessian[d, :, c, :] = block
    return hessian.reshape(C * q, C * q)


def _model_minimum(
    hessian: NDArray[np.float64],
    gradient: NDArray[np.float64],
    bounds: NDArray[np.float64],
    start: NDArray[np.float64],
) -> NDArray[np.float64]:
    """Minimise g'(x - s) + 1/2 (x - s)'H(x - s) + sum bounds |x|.

    Coordinate descent finds most signs; on given signs the model is solved exactly, stepping back
    where the solution would change one. The common shift of all classes is a null direction of H,
    for which the damping leaves a long step.
    """
    scale = max(float(np.diag(hessian).max(initial=0.0)), np.finfo(float).tiny)
    H = hessian + DAMPING * scale * np.eye(len(hessian))
    linear = gradient - H @ start
    x = start.copy()
    product = H @ x
    coordinate_descent(H, linear, bounds, x, product, 20)
    for _ in range(200):
        x = _solve_on_signs(H, linear, bounds, x)
        slope = H @ x + linear
        excess = np.where(x == 0, np.abs(slope) - bounds, 0.0)
        if excess.max(initial=0.0) <= 1e-12 * (1.0 + np.abs(linear).max()):
            break
        product = H @ x
        coordinate_descent(H, linear, bounds, x, product, 5)
    return x


def _solve_on_signs(H: NDArray, linear: NDArray, bounds: NDArray, x: NDArray) -> NDArray:
    """Descend to the exact minimum of the model over the signs of x, dropping those that change."""
    for _ in range(len(x) + 1):
        active = np.flatnonzero(x)
        if not active.size:
            return x
        signs = np.sign(x[active])
        right = -(linear[active] + bounds[active] * signs)
        goal = cho_solve(cho_factor(H[np.ix_(active, active)], lower=True), right)
        crossing = np.sign(goal) != signs
        if not crossing.any():
            x = np.zeros_like(x)
            x[active] = goal
            return x
        # The first sign to change is dropped; up to there the model is a descending quadratic.
        share = x[active] / (x[active] - goal)
        share[~crossing] = np.inf
        first = share.min()
        moved = x[active] + first * (goal - x[active])
        moved[share <= first] = 0.0
        moved[np.sign(moved) != signs] = 0.0
        x = np.zeros_like(x)
        x[active] = moved
    return x


@njit(cache=True)
def coordinate_descent(H, linear, bounds, x, product, n_sweeps):
    """Sweeps of minimisation of 1/2 x'Hx + linear'x + sum bounds |x| over one entry at a time.

    Parameters
    ----------
    H : ndarray of shape (d, d)
        Symmetric matrix with a positive diagonal.
    linear, bounds : ndarray of shape (d,)
        Linear term and weights of the absolute values.
    x, product : ndarray of shape (d,)
        Start and H times it; both are overwritten.
    n_sweeps : int
        Number of sweeps.
    """
    d = len(x)
    for _ in range(n_sweeps):
        largest = 0.0
        for j in range(d):
            curvature = H[j, j]
            target = x[j] - (product[j] + linear[j]) / curvature
            threshold = bounds[j] / curvature
            if target > threshold:
                new = target - threshold
            elif target < -threshold:
                new = target + threshold
            else:
                new = 0.0
            change = new - x[j]
            if change != 0.0:
                x[j] = new
                for k in range(d):
                    product[k] += change * H[j, k]
                largest = max(largest, curvature * change * change)
        if largest < 1e-20:
            break


def _first_order_steps(problem: MinimaxProblem):
    """Iterates of accelerated proximal gradient descent with restarts and backtracking."""
    M = np.zeros_like(problem.tau)
    value = problem.objective(M)
    yield _State(M, value)
    Z, momentum = M, 1.0
    curvature = (
        0.5 * np.linalg.norm(problem.features * np.sqrt(problem.row_weight)[:, None], 2) ** 2
    )
    curvature *= 1e-2
    while True:
        smooth, gradient = _smooth_part(problem, Z)
        while True:
            new = _shrink(Z - gradient / curvature, problem.bounds / curvature)
            move = new - Z
            model = smooth + np.sum(gradient * move) + 0.5 * curvature * np.sum(move**2)
            if _smooth_part(problem, new)[0] <= model + 1e-14 * (1 + abs(smooth)):
                break
            curvature *= 2.0
        if np.sum((Z - new) * (new - M)) > 0:
            momentum = 1.0
        following = 0.5 * (1 + np.sqrt(1 + 4 * momentum**2))
        Z = new + (momentum - 1) / following * (new - M)
        M, momentum = new, following
        curvature *= 0.99
        yield _State(M, problem.objective(M))


def _smooth_part(problem: MinimaxProblem, M: NDArray) -> tuple[float, NDArray[np.float64]]:
    """Value and gradient of the problem without its l1 term."""
    scores = problem.scores(M)
    value = problem.row_weight @ logsumexp(scores, axis=1) - np.sum(problem.tau * M)
    return float(value), -problem.residual(rule(scores, "log"))


def _shrink(X: NDArray, threshold: NDArray) -> NDArray:
    return np.sign(X) * np.maximum(np.abs(X) - threshold, 0.0)

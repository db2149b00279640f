"""Solvers of the penalised cumulative logit model in intercepts and differences of slopes.

In these coordinates the fused penalty is an ordinary elastic net, so that neither solver needs a
proximal step of its own. Parameters have the shape (n_boundaries, q), column 0 the intercepts.
"""

from dataclasses import dataclass

import numpy as np
from numba import njit
from numpy.typing import NDArray
from scipy.linalg import LinAlgError, cho_factor, cho_solve

from reweight.ordinal._cumulative_logit import (
    OrdinalProblem,
    gradient,
    hessian,
    loss_terms,
    some_row_crosses,
)
from reweight.solvers.damped_newton import newton_direction
from reweight.solvers.result import SolverResult

Array = NDArray[np.float64]

ARMIJO = 1e-4
MAX_HALVINGS = 50
SWEEPS = 30
ROUNDS = 40
GRADIENT_STEPS = 100
CHECK_EVERY = 10


@dataclass(frozen=True)
class Penalty:
    """Elastic net by coordinate, and the coordinates that may move.

    Parameters
    ----------
    l1, l2 : ndarray of shape (n_boundaries, q)
        Weights of the absolute values and of half the squares.
    free : ndarray of bool of shape (n_boundaries, q)
        Coordinates that may move; the others stay where they start.
    """

    l1: Array
    l2: Array
    free: NDArray[np.bool_]

    def value(self, theta: Array) -> float:
        """The penalty."""
        return float((self.l1 * np.abs(theta)).sum() + 0.5 * (self.l2 * theta**2).sum())

    def residual(self, theta: Array, slope: Array) -> float:
        """Largest violation of the optimality conditions, from the gradient of the loss."""
        slope = slope + self.l2 * theta
        moved = np.abs(slope + self.l1 * np.sign(theta))
        violation = np.where(theta != 0, moved, np.maximum(np.abs(slope) - self.l1, 0.0))
        return float(violation[self.free].max(initial=0.0))


class _Objective:
    """Loss plus penalty, infinite where a row's levels are out of order."""

    def __init__(self, problem: OrdinalProblem, penalty: Penalty, no_crossing: bool) -> None:
        self.problem = problem
        self.penalty = penalty
        self.no_crossing = no_crossing

    def terms(self, theta: Array) -> tuple[float, Array]:
        """Loss and the derivatives of the rows."""
        loss, terms = loss_terms(self.problem, theta)
        if self.no_crossing and np.isfinite(loss) and some_row_crosses(self.problem, theta):
            loss = np.inf
        return loss, terms

    def result(self, theta, loss, residual, n_iter, tol, solver) -> SolverResult:
        return SolverResult(
            x=theta,
            dual=None,
            objective=loss + self.penalty.value(theta),
            optimality_gap=residual,
            certificate="kkt",
            n_iter=n_iter,
            converged=bool(residual <= tol),
            solver=solver,
        )


def newton_cd(
    problem: OrdinalProblem,
    penalty: Penalty,
    start: Array,
    *,
    tol: float = 1e-7,
    max_iter: int = 100,
    no_crossing: bool = False,
) -> SolverResult:
    """Newton's method whose quadratic models are minimised by coordinate descent.

    Parameters
    ----------
    problem : OrdinalProblem
        Rows.
    penalty : Penalty
        Elastic net.
    start : ndarray of shape (n_boundaries, q)
        Point inside the domain.
    tol : float, default=1e-7
        Largest violation of the optimality conditions at a solution.
    max_iter : int, default=100
        Largest number of steps.
    no_crossing : bool, default=False
        Whether to reject points at which any row has decreasing logits.

    Returns
    -------
    SolverResult
        `x` are the parameters, `optimality_gap` the largest violation.
    """
    objective = _Objective(problem, penalty, no_crossing)
    theta = np.array(start)
    loss, terms = objective.terms(theta)
    slope = gradient(problem, terms)
    residual, n_iter = penalty.residual(theta, slope), 0
    while residual > tol and n_iter < max_iter:
        step = _newton_step(hessian(problem, terms), slope, theta, penalty)
        before = penalty.value(theta)
        decrease = float((slope * step).sum()) + penalty.value(theta + step) - before
        slack = 4 * np.finfo(float).eps * (1.0 + abs(loss + before))
        size = 1.0
        for _ in range(MAX_HALVINGS):
            trial = theta + size * step
            trial_loss, trial_terms = objective.terms(trial)
            change = trial_loss + penalty.value(trial) - loss - before
            if change <= ARMIJO * size * decrease + slack:
                break
            size *= 0.5
        else:
            break
        n_iter += 1
        theta, loss, terms = trial, trial_loss, trial_terms
        slope = gradient(problem, terms)
        residual = penalty.residual(theta, slope)
    return objective.result(theta, loss, residual, n_iter, tol, "newton-cd")


def _newton_step(H: Array, slope: Array, theta: Array, penalty: Penalty) -> Array:
    """Minimiser of the quadratic model plus the penalty, as a step."""
    shape = theta.shape
    keep = np.flatnonzero(penalty.free.ravel() & (np.diag(H) > 0))
    H = np.ascontiguousarray(H[np.ix_(keep, keep)])
    g, x, l1, l2 = (part.ravel()[keep] for part in (slope, theta, penalty.l1, penalty.l2))
    H[np.diag_indices_from(H)] += l2
    g = g + l2 * x
    step = np.zeros(theta.size)
    if l1.any():
        step[keep] = _lasso_step(H, g, x, l1)
    else:
        step[keep] = newton_direction(H, g)
    return step.reshape(shape)


def _lasso_step(H: Array, g: Array, x: Array, l1: Array) -> Array:
    """Coordinate descent finds the signs, and Cholesky the rest once they are right."""
    step, slope = np.zeros_like(x), g.copy()
    scale = max(float(np.abs(g).max()), 1e-300)
    for _ in range(ROUNDS):
        done = coordinate_descent(H, slope, x, l1, step, SWEEPS, 1e-12 * scale * scale)
        point = x + step
        exact = _step_of_signs(H, g, x, l1, np.sign(point), 1e-10 * scale)
        if exact is not None:
            return exact
        if done:
            break
    return step


def _step_of_signs(
    H: Array, g: Array, x: Array, l1: Array, signs: Array, tol: float
) -> Array | None:
    """The minimiser if its entries have these signs, otherwise None."""
    active = (signs != 0) | (l1 == 0)
    at, off = np.flatnonzero(active), np.flatnonzero(~active)
    try:
        factor = cho_factor(H[np.ix_(at, at)], lower=True, check_finite=False)
    except LinAlgError:
        return None
    step = np.zeros_like(x)
    step[off] = -x[off]
    right = g[at] + l1[at] * signs[at] + H[at] @ step
    step[at] = -cho_solve(factor, right, check_finite=False)
    kept = (np.sign(x[at] + step[at]) == signs[at]) | (l1[at] == 0)
    violation = np.abs(g[off] + H[off] @ step) - l1[off]
    return step if kept.all() and violation.max(initial=-1.0) <= tol else None


@njit(cache=True)
def coordinate_descent(H, slope, x, l1, step, max_sweeps, tol):
    """Cyclic coordinate descent on s' slope0 + s' H s / 2 + sum l1 |x + s|, in place.

    `slope` is kept at slope0 + H s. Sweeps run over the coordinates that are not zero until
    they stand still, then over all; True if a sweep over all moved nothing by more than `tol`.
    """
    m = len(x)
    everywhere = True
    for _ in range(max_sweeps):
        largest = 0.0
        for j in range(m):
            old = x[j] + step[j]
            if not everywhere and old == 0.0 and l1[j] > 0.0:
                continue
            h = H[j, j]
            pull = h * old - slope[j]
            new = np.sign(pull) * max(abs(pull) - l1[j], 0.0) / h
            change = new - old
            if change == 0.0:
                continue
            step[j] = new - x[j]
            largest = max(largest, change * change * h)
            for i in range(m):
                slope[i] += change * H[j, i]
        if largest <= tol:
            if everywhere:
                return True
            everywhere = True
        else:
            everywhere = False
    return False


def fista(
    problem: OrdinalProblem,
    penalty: Penalty,
    start: Array,
    *,
    tol: float = 1e-7,
    max_iter: int = 100,
    no_crossing: bool = False,
) -> SolverResult:
    """Accelerated proximal gradient with backtracking and restarts, for many parameters.

    Parameters
    ----------
    problem : OrdinalProblem
        Rows.
    penalty : Penalty
        Elastic net.
    start : ndarray of shape (n_boundaries, q)
        Point inside the domain.
    tol : float, default=1e-7
        Largest violation of the optimality conditions at a solution.
    max_iter : int, default=100
        A hundredth of the largest number of gradient steps.
    no_crossing : bool, default=False
        Whether to reject points at which any row has decreasing logits.

    Returns
    -------
    SolverResult
        `x` are the parameters, `optimality_gap` the largest violation.
    """
    objective = _Objective(problem, penalty, no_crossing)
    theta = np.array(start)
    loss, terms = objective.terms(theta)
    slope = gradient(problem, terms)
    residual, n_iter = penalty.residual(theta, slope), 0
    point, point_loss, point_slope = theta, loss, slope
    momentum, curvature = 1.0, 1.0
    while residual > tol and n_iter < GRADIENT_STEPS * max_iter:
        n_iter += 1
        # The curvature is unbounded at the edge of the domain, so that it is sought anew each step.
        curvature *= 0.9
        for _ in range(MAX_HALVINGS):
            trial = _proximal_point(point, point_slope, penalty, curvature)
            move = trial - point
            trial_loss, trial_terms = objective.terms(trial)
            model = point_loss + (point_slope * move).sum() + 0.5 * curvature * (move**2).sum()
            if trial_loss <= model + 4 * np.finfo(float).eps * (1 + abs(model)):
                break
            curvature *= 2.0
        else:
            break
        if ((point - trial) * (trial - theta)).sum() > 0:
            momentum = 1.0
        following = 0.5 * (1.0 + np.sqrt(1.0 + 4.0 * momentum * momentum))
        push = (momentum - 1.0) / following
        theta, previous, loss = trial, theta, trial_loss
        momentum = following
        point = theta + push * (theta - previous)
        point_loss, point_terms = objective.terms(point)
        if not np.isfinite(point_loss):
            momentum, point, point_loss, point_terms = 1.0, theta, loss, trial_terms
        point_slope = gradient(problem, point_terms)
        if n_iter % CHECK_EVERY == 0:
            residual = penalty.residual(theta, gradient(problem, trial_terms))
    if n_iter % CHECK_EVERY:
        residual = penalty.residual(theta, gradient(problem, objective.terms(theta)[1]))
    return objective.result(theta, loss, residual, n_iter, tol, "fista")


def _proximal_point(point: Array, slope: Array, penalty: Penalty, curvature: float) -> Array:
    moved = point - slope / curvature
    shrunk = np.sign(moved) * np.maximum(np.abs(moved) - penalty.l1 / curvature, 0.0)
    return np.where(penalty.free, shrunk / (1.0 + penalty.l2 / curvature), point)

"""Solvers of kernel mean matching between source and target rows, both of them weighted."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from reweight.kernels.landmarks import choose_landmarks
from reweight.solvers.dense_qp import dense_qp
from reweight.solvers.divergence_dual import divergence_dual
from reweight.solvers.lowrank_qp import lowrank_qp
from reweight.solvers.projected_gradient import projected_gradient
from reweight.solvers.result import SolverResult
from shift.covariate._matching_problem import (
    DenseForm,
    LandmarkForm,
    Matching,
    MatchingProblem,
    certified,
    record,
)

# The size of a problem up to which the kernel matrix is factorised again and again.
EXACT_ONE_SIDED = 2000
EXACT_PAIR = 400
# Rows up to which one pass over the whole kernel is cheap beside the solution.
CERTIFY_ROWS = 20_000
# Source rows from which so many weights match the landmarks that the most even ones are sought.
MOST_EVEN_ROWS = 20_000
# How nearly the weights are the most even ones; their match is certified whatever it is.
EVENNESS = 1e-4
# A first solution is allowed this much more than the tolerance: the solver tends to stay below.
LOOSE = 100.0


def solve_matching(
    problem: MatchingProblem,
    *,
    solver: str = "auto",
    n_components: int = 400,
    tol: float = 0.05,
    max_iter: int = 3000,
    certify: str = "auto",
    random_state: Any = None,
) -> Matching:
    """Solve a matching problem and certify the solution.

    Parameters
    ----------
    problem : MatchingProblem
        The problem.
    solver : {"auto", "exact", "gradient", "landmarks", "cvxpy"}, default="auto"
        How.
    n_components : int, default=400
        Number of landmarks.
    tol : float, default=0.05
        Gap at which to stop, relative to 1/n + 1/t.
    max_iter : int, default=3000
        Largest number of iterations.
    certify : {"auto", "kernel", "landmarks"}, default="auto"
        Whether the gap of a landmark solution is about the whole kernel.
    random_state : int, RandomState instance or None, default=None
        Seed of the draw of landmarks.

    Returns
    -------
    Matching
    """
    one_sided = problem.D == 1 or np.isinf(problem.D)
    if solver == "auto":
        moving = (problem.n if problem.D == 1 else problem.t) if one_sided else len(problem.mass)
        limit = EXACT_ONE_SIDED if one_sided else EXACT_PAIR
        solver = "exact" if moving <= limit else "landmarks"
    if solver == "cvxpy":
        from reweight.solvers.reference import mean_matching_reference

        K = problem.kernel_between(problem.rows, problem.rows)
        feasible = problem.feasible
        x = mean_matching_reference(
            K,
            lower=feasible.lower,
            upper=feasible.upper,
            n_source=problem.n,
            radius=feasible.radius,
            mean_tolerance=feasible.mean_tolerance,
            diagonal=problem.ridge,
        )
        result = certified(problem, DenseForm(problem, K), feasible.project(x.x), x.n_iter, tol)
    elif solver == "gradient":
        K = problem.kernel_between(problem.rows, problem.rows)
        result = _by_gradient(problem, DenseForm(problem, K), tol, max_iter)
    elif solver == "exact":
        result = (_exact_one_sided if one_sided else _exact_pair)(problem, tol, max_iter)
    else:
        result = _by_landmarks(problem, n_components, tol, max_iter, certify, random_state)
    shares = result.x
    return Matching(
        shares[: problem.n] / problem.share,
        np.clip(shares[problem.n :] * problem.t, 0.0, 1.0),
        result,
    )


class _OneSided:
    """Only one sample is weighted: a quadratic program in its shares.

    Parameters
    ----------
    problem : MatchingProblem
        With D one or infinite.
    """

    def __init__(self, problem: MatchingProblem) -> None:
        self.problem = problem
        n, moves_source = problem.n, problem.D == 1
        self.moving = slice(0, n) if moves_source else slice(n, None)
        self.fixed = slice(n, None) if moves_source else slice(0, n)
        self.ridge = problem.ridge[self.moving]
        self.fixed_mass = problem.mass[self.fixed]
        self.upper = problem.feasible.upper[self.moving]
        width = problem.mean_tolerance
        self.total = (max(1 - width, 0.0), min(1 + width, float(self.upper.sum())))
        self.ridge_of_fixed = float(problem.ridge[self.fixed] @ self.fixed_mass**2)

    def shares(self, moving: NDArray) -> NDArray[np.float64]:
        """Shares of all rows."""
        x = self.problem.mass.copy()
        x[self.moving] = moving
        return x

    def gap(self, moving: NDArray, slope: NDArray) -> float:
        """Bound on the distance to the minimum from half the gradient."""
        half = np.zeros(len(self.problem.mass))
        half[self.moving] = slope
        best = self.problem.feasible.linear_minimum(half)[self.moving]
        return max(2 * float(slope @ (moving - best)), 0.0)


def _exact_one_sided(problem: MatchingProblem, tol: float, max_iter: int) -> SolverResult:
    side = _OneSided(problem)
    rows, fixed = problem.rows[side.moving], problem.rows[side.fixed]
    K = problem.kernel_between(rows, rows)
    mean = problem.embed(rows, fixed, side.fixed_mass)
    constant = float(side.fixed_mass @ problem.embed(fixed, fixed, side.fixed_mass))
    solved = dense_qp(
        2 * K,
        2 * mean,
        upper=side.upper,
        total=side.total,
        diagonal=2 * side.ridge,
        tol=1e-3 * tol * problem.noise,
        max_iter=max_iter,
    )
    x = solved.x
    slope = K @ x + side.ridge * x - mean
    objective = max(float(x @ slope - mean @ x) + constant + side.ridge_of_fixed, 0.0)
    gap = min(side.gap(x, slope), objective)
    return record(problem, side.shares(x), objective, gap, solved.n_iter, tol, solved.solver)


def _landmark_one_sided(problem, form: LandmarkForm, tol, max_iter) -> SolverResult:
    side = _OneSided(problem)
    Z, fixed = form.Z[side.moving], side.fixed_mass @ form.Z[side.fixed]
    mean = Z @ fixed
    F = np.sqrt(2.0) * Z

    def solve(upper: NDArray | float, allowance: float) -> SolverResult:
        return lowrank_qp(
            F,
            2 * mean,
            upper=upper,
            total=side.total,
            diagonal=2 * side.ridge,
            tol=allowance * problem.noise,
            max_iter=max_iter,
        )

    # Caps slow the interior point method down and hold for most solutions without being asked.
    upper = np.inf if problem.D == 1 else side.upper
    if problem.D == 1 and problem.alpha == 0 and problem.n >= MOST_EVEN_ROWS:
        even = _most_even(problem, Z, fixed, tol)
        if even is not None:
            return even
    n_iter = 0
    for allowance in (LOOSE * tol, LOOSE * tol, tol, 1e-2 * tol):
        solved = solve(upper, allowance)
        n_iter += solved.n_iter
        x = solved.x
        if (x > side.upper).any():
            upper = side.upper
            continue
        slope = Z @ (x @ Z) + side.ridge * x - mean
        objective = float(x @ slope - mean @ x) + fixed @ fixed + side.ridge_of_fixed
        objective = max(float(objective), 0.0)
        gap = min(side.gap(x, slope), objective)
        if gap <= 0.2 * tol * problem.noise:
            break
    x = np.minimum(x, side.upper)
    return record(problem, side.shares(x), objective, gap, n_iter, tol, solved.solver)


def _most_even(problem, Z: NDArray, goal: NDArray, tol: float) -> SolverResult | None:
    """The most even weights with a match within the tolerance of zero, if there are any.

    The ridge on the mismatch is the tolerance itself, so that evenness costs no more than that.
    """
    solved = divergence_dual(
        Z,
        problem.share,
        divergence="chi2",
        alpha=tol * problem.noise,
        center=goal,
        tol=EVENNESS,
    )
    w = solved.x / solved.x.sum()
    if not solved.converged or (w > problem.feasible.upper[: problem.n]).any():
        return None
    mismatch = w @ Z - w.sum() * goal
    objective = float(mismatch @ mismatch)
    if objective > tol * problem.noise:
        return None
    x = np.concatenate([w, problem.mass[problem.n :]])
    return record(problem, x, objective, objective, solved.n_iter, tol, solved.solver)


def _by_gradient(problem: MatchingProblem, form: Any, tol: float, max_iter: int) -> SolverResult:
    """Accelerated projected gradient from the constant weights 1/sqrt(D), which are feasible."""
    lipschitz = form.embedding_lipschitz()
    if lipschitz is not None:
        lipschitz = 2 * (lipschitz + float(form.ridge.max()))
    start = problem.mass / np.sqrt(problem.D) if np.isfinite(problem.D) else problem.mass
    return projected_gradient(
        lambda x: 2 * form.half_gradient(x),
        problem.feasible.project,
        problem.feasible.linear_minimum,
        start,
        lipschitz=lipschitz,
        gap_scale=problem.noise,
        tol=tol,
        max_iter=max_iter,
    )


def _by_landmarks(
    problem: MatchingProblem, n_components, tol, max_iter, certify, random_state
) -> SolverResult:
    landmarks = _landmarks(problem, n_components, random_state)
    form = LandmarkForm(problem, landmarks)
    if 1 < problem.D < np.inf:
        result = _by_gradient(problem, form, tol, max_iter)
    else:
        result = _landmark_one_sided(problem, form, tol, max_iter)
    whole = certify == "kernel" or (certify == "auto" and len(problem.rows) <= CERTIFY_ROWS)
    if not whole:
        return result
    # The features' kernel lies below the whole one, and so does its minimum.
    objective = problem.objective(result.x)
    least = result.objective - result.optimality_gap * problem.noise
    gap = max(min(objective - least, objective), 0.0)
    return record(problem, result.x, objective, gap, result.n_iter, tol, result.solver)


def _landmarks(problem: MatchingProblem, n_components: int, random_state: Any) -> NDArray:
    """Landmarks where both weighted samples will be: among the rows of the fixed one."""
    fixed = {1.0: problem.X_target, np.inf: problem.X}.get(float(problem.D), problem.rows)
    rows = fixed if len(fixed) >= n_components else problem.rows
    return choose_landmarks(rows, n_components, method="uniform", random_state=random_state)


def _exact_pair(problem: MatchingProblem, tol: float, max_iter: int) -> SolverResult:
    """Quadratic programs with a price on the ball, until its bound is met exactly."""
    pair = _PricedPair(problem, tol, max_iter)
    feasible = problem.feasible
    x = pair.solve()
    return certified(problem, pair.form, feasible.project(x), pair.n_iter, tol, "active-set")


class _PricedPair:
    """Both samples are weighted; the ball around the target weights enters through its price."""

    def __init__(self, problem: MatchingProblem, tol: float, max_iter: int) -> None:
        self.problem, self.tol, self.max_iter = problem, tol, max_iter
        K = problem.kernel_between(problem.rows, problem.rows)
        self.form = DenseForm(problem, K)
        signs = problem.feasible.signs
        self.Q = 2 * signs[:, None] * K * signs
        self.n_iter = 0
        self.solutions: dict[float, NDArray] = {}

    def at(self, log_price: float) -> NDArray[np.float64]:
        """Shares that are best at a price of the ball."""
        problem, t = self.problem, self.problem.t
        price = np.exp(log_price)
        on_target = np.repeat([0.0, price], [problem.n, t])
        feasible = problem.feasible
        solved = dense_qp(
            self.Q,
            2 * on_target,
            upper=feasible.upper,
            total=(0.0, float(feasible.upper.sum())),
            diagonal=2 * (problem.ridge + on_target * t),
            equations=(feasible.signs[None], [-problem.mean_tolerance], [problem.mean_tolerance]),
            tol=1e-6 * self.tol * problem.noise,
            max_iter=self.max_iter,
        )
        self.n_iter += solved.n_iter
        self.solutions[log_price] = solved.x
        return solved.x

    def excess(self, log_price: float) -> float:
        """By how much the norm of 1 - alpha exceeds the radius, relative to it."""
        x = self.at(log_price)
        distance = np.linalg.norm(1.0 / self.problem.t - x[self.problem.n :])
        return float(distance / self.problem.feasible.radius - 1.0)

    def solve(self) -> NDArray[np.float64]:
        from scipy.optimize import brentq

        low = high = np.log(1e-2)
        while self.excess(low) < 0:
            low -= np.log(10)
        while self.excess(high) > 0:
            high += np.log(10)
        root = brentq(self.excess, low, high, xtol=1e-13, rtol=1e-12, maxiter=60)
        return self.solutions[root]

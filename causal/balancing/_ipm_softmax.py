"""The linear weight model: weights that are a softmax of the covariates, fitted to a discrepancy.

The weights are no linear function of the coefficients, so the programs are not
convex; what is found is a stationary point, the best over several starts.
"""

from dataclasses import dataclass

import numpy as np
from scipy.optimize import Bounds, linprog, minimize, nnls
from scipy.special import softmax

from causal.balancing._ipm_arm import (
    ArmProblem,
    Array,
    Discrepancy,
    chi2_divergence,
    kl_divergence,
)
from causal.balancing._ipm_programs import PATIENCE, CutPool
from reweight.solvers.result import SolverResult

LARGEST_COEFFICIENT = 50.0
ACTIVE = 1e-6
MULTIPLIER_WEIGHT = 1e3
FIRST_RADIUS = 1.0
SMALLEST_RADIUS = 1e-7
ACCEPTED_SHARE = 0.1
IDLE_ROUNDS = 20


@dataclass(frozen=True)
class SoftmaxModel:
    """Weights kappa q_i + (1 - kappa) q_i exp(x_i'theta) / sum_k q_k exp(x_k'theta).

    Parameters
    ----------
    arm : ArmProblem
        The arm, with base weights q.
    kappa : float
        Share of the base weights: zero for one arm moved to the other; for the
        whole sample as target the share of the arm in it, because 1/e is one plus
        an odds.
    divergence : {"kl", "chi2"}
        Divergence from the base weights.
    """

    arm: ArmProblem
    kappa: float
    divergence: str

    def moving(self, theta: Array) -> Array:
        """The softmax part, with sum one."""
        return softmax(self.arm.X @ theta + np.log(self.arm.base))

    def weights(self, theta: Array) -> Array:
        """Weights, with sum one."""
        return self.kappa * self.arm.base + (1.0 - self.kappa) * self.moving(theta)

    def pull_back(self, moving: Array, gradient: Array) -> Array:
        """Gradients in theta from gradients in the weights, of shape (..., N)."""
        centred = gradient - (gradient @ moving)[..., None]
        return (1.0 - self.kappa) * (centred * moving) @ self.arm.X

    def penalty(self, w: Array) -> tuple[float, Array]:
        """Divergence and its gradient in the weights."""
        base = self.arm.base
        if self.divergence == "chi2":
            return chi2_divergence(w, base), w / base
        positive = np.maximum(w, np.finfo(float).tiny)
        return kl_divergence(w, base), np.log(positive / base)


def fit_softmax(
    model: SoftmaxModel,
    discrepancy: Discrepancy,
    starts: list[Array],
    alpha: float,
    tol: float,
    max_iter: int,
) -> tuple[Array, SolverResult]:
    """Coefficients of least discrepancy over several starts.

    Parameters
    ----------
    model : SoftmaxModel
        The weight model.
    discrepancy : Discrepancy
        Its square / 2 is minimised where it is smooth, else itself; plus `alpha`
        times the divergence.
    starts : list of ndarray of shape (p,)
        Coefficients to start from.
    alpha : float
        Weight of the divergence.
    tol : float
        Largest residual of the stationarity conditions, relative to the objective
        (smooth) or to the steepest of the active functions.
    max_iter : int
        Largest number of iterations from one start.

    Returns
    -------
    theta : ndarray of shape (p,)
    result : SolverResult
        With certificate "kkt".
    """
    solve = _smooth if discrepancy.smooth else _minimax
    fits = [solve(model, discrepancy, start, alpha, tol, max_iter) for start in starts]
    if not (discrepancy.smooth or discrepancy.exact):
        fits = [_judged_again(model, discrepancy, alpha, *fit) for fit in fits]
    return min(fits, key=lambda fit: fit[1].objective)


def _judged_again(model, discrepancy, alpha, theta, result):
    """Objective by the functions known at the end, so that starts are compared fairly."""
    w = model.weights(theta)
    objective = discrepancy.value(w) + alpha * model.penalty(w)[0]
    return theta, SolverResult(**{**vars(result), "objective": objective})


def _result(theta, objective, residual, n_iter, tol, solver, model) -> tuple[Array, SolverResult]:
    return theta, SolverResult(
        x=model.weights(theta),
        dual=None,
        objective=float(objective),
        optimality_gap=float(residual),
        certificate="kkt",
        n_iter=int(n_iter),
        converged=bool(residual <= tol),
        solver=solver,
    )


def _smooth(model, discrepancy, start, alpha, tol, max_iter):
    """Quasi-Newton steps on the squared discrepancy / 2."""
    C = discrepancy.features

    def evaluate(theta):
        moving = model.moving(theta)
        w = model.kappa * model.arm.base + (1.0 - model.kappa) * moving
        embedding = w @ C
        value, gradient = 0.5 * float(embedding @ embedding), C @ embedding
        if alpha > 0:
            penalty, slope = model.penalty(w)
            value, gradient = value + alpha * penalty, gradient + alpha * slope
        return value, model.pull_back(moving, gradient)

    scale = max(evaluate(np.zeros_like(start))[0], np.finfo(float).tiny)

    def scaled(theta):
        value, gradient = evaluate(theta)
        return value / scale, gradient / scale

    bounds = Bounds(-LARGEST_COEFFICIENT, LARGEST_COEFFICIENT)
    options = {"maxiter": max_iter, "gtol": 0.1 * tol, "ftol": 0.0, "maxcor": 30, "maxls": 50}
    found = minimize(scaled, start, jac=True, method="L-BFGS-B", bounds=bounds, options=options)
    value, gradient = scaled(found.x)
    inside = np.clip(found.x - gradient, bounds.lb, bounds.ub)
    residual = np.abs(found.x - inside).max(initial=0.0)
    return _result(found.x, value * scale, residual, found.nit, tol, "l-bfgs", model)


def _minimax(model, discrepancy, start, alpha, tol, max_iter):
    """Trust-region steps on the functions found so far, which grow in number.

    Each step minimises the largest of them near the current coefficients. It is
    taken if the discrepancy falls by a fair share of what that promises.
    """

    def judge(theta):
        w = model.weights(theta)
        G, b = discrepancy.separate(w)
        penalty = alpha * model.penalty(w)[0] if alpha > 0 else 0.0
        pool.add(G, b, w)
        return float((G @ w - b).max(initial=0.0)) + penalty

    # Functions far below the largest will not bind nearby; the oracle finds them again.
    pool = CutPool(len(model.arm.base), IDLE_ROUNDS)
    theta, radius, quiet = start, FIRST_RADIUS, 0
    value = judge(theta)
    for n_iter in range(1, max_iter + 1):  # noqa: B007
        trial, promised = _program(model, pool.G, pool.b, theta, radius, alpha, tol)
        if value - promised <= 0.01 * tol * max(value, 1e-12) or radius < SMALLEST_RADIUS:
            if discrepancy.exact or quiet == PATIENCE:
                break
            # A search that is not sure to find what is left looks again from new starts.
            quiet += 1
            value = max(value, judge(theta))
            continue
        quiet, found = 0, judge(trial)
        # A heuristic search may have missed functions at the current coefficients.
        value = max(value, _model_value(model, pool.G, pool.b, theta, alpha))
        if value - found >= ACCEPTED_SHARE * (value - promised):
            theta, value, radius = trial, found, min(2.0 * radius, FIRST_RADIUS)
        else:
            radius *= 0.5
    residual = _stationarity(model, pool.G, pool.b, theta, alpha)
    return _result(theta, value, residual, n_iter, tol, "slsqp-cuts", model)


def _model_value(model, G, b, theta, alpha) -> float:
    w = model.weights(theta)
    penalty = alpha * model.penalty(w)[0] if alpha > 0 else 0.0
    return float((G @ w - b).max(initial=0.0)) + penalty


def _program(model, G, b, theta, radius, alpha, tol):
    """Least largest function plus penalty near `theta`: SLSQP in coefficients and height."""

    def gap(x):
        return x[-1] - (G @ model.weights(x[:-1]) - b)

    def gap_slope(x):
        return np.column_stack([-model.pull_back(model.moving(x[:-1]), G), np.ones(len(b))])

    def objective(x):
        return x[-1] + (alpha * model.penalty(model.weights(x[:-1]))[0] if alpha > 0 else 0.0)

    def slope(x):
        gradient = np.r_[np.zeros(len(x) - 1), 1.0]
        if alpha > 0:
            _, gradient_w = model.penalty(model.weights(x[:-1]))
            gradient[:-1] = alpha * model.pull_back(model.moving(x[:-1]), gradient_w)
        return gradient

    height = float((G @ model.weights(theta) - b).max(initial=0.0))
    lower = np.maximum(theta - radius, -LARGEST_COEFFICIENT)
    upper = np.minimum(theta + radius, LARGEST_COEFFICIENT)
    found = minimize(
        objective,
        np.r_[theta, height],
        jac=slope,
        method="SLSQP",
        bounds=[*zip(lower, upper, strict=True), (None, None)],
        constraints={"type": "ineq", "fun": gap, "jac": gap_slope},
        options={"ftol": min(1e-10, 1e-3 * tol), "maxiter": 200},
    )
    trials = [np.clip(found.x[:-1], lower, upper), _linear_step(model, G, b, theta, radius, alpha)]
    values = [_model_value(model, G, b, trial, alpha) for trial in trials]
    best = int(np.argmin(values))
    return trials[best], values[best]


def _linear_step(model, G, b, theta, radius, alpha) -> Array:
    """Best step of the linearised functions in a box: it never fails, as SLSQP may."""
    w, moving = model.weights(theta), model.moving(theta)
    p = len(theta)
    cost = np.zeros(p)
    if alpha > 0:
        cost = alpha * model.pull_back(moving, model.penalty(w)[1])
    lower = np.maximum(-radius, -LARGEST_COEFFICIENT - theta)
    upper = np.minimum(radius, LARGEST_COEFFICIENT - theta)
    result = linprog(
        np.r_[cost, 1.0],
        A_ub=np.column_stack([model.pull_back(moving, G), -np.ones(len(b))]),
        b_ub=b - G @ w,
        bounds=[*zip(lower, upper, strict=True), (None, None)],
        method="highs",
    )
    return theta if result.x is None else theta + np.clip(result.x[:p], lower, upper)


def _stationarity(model, G, b, theta, alpha) -> float:
    """Shortest convex combination of the gradients of the active functions, relative to them."""
    w, moving = model.weights(theta), model.moving(theta)
    excess = G @ w - b
    active = excess >= excess.max() - max(ACTIVE, 1e-4 * abs(excess.max()))
    gradients = model.pull_back(moving, G[active])
    offset = np.zeros(len(theta))
    if alpha > 0:
        offset = alpha * model.pull_back(moving, model.penalty(w)[1])
    size = max(float(np.linalg.norm(gradients, axis=1).max()), np.finfo(float).tiny)
    weight = MULTIPLIER_WEIGHT
    system = np.vstack([gradients.T / size, weight * np.ones(active.sum())])
    share, _ = nnls(system, np.r_[-offset / size, weight])
    share /= share.sum()
    combined = share @ gradients + offset
    # At a bound the gradient may point outwards.
    held = np.abs(theta) >= LARGEST_COEFFICIENT
    combined[held & (combined * theta < 0)] = 0.0
    return float(np.linalg.norm(combined) / size)

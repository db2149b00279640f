"""Weights that keep the largest of affine functions small: linear and quadratic programs."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linprog

from causal.balancing._ipm_arm import ArmProblem, Array, Discrepancy, chi2_divergence
from reweight.solvers.lowrank_qp import lowrank_qp
from reweight.solvers.result import SolverResult

IDLE_ROUNDS = 4
ACTIVE_SLACK = 1e-3
PATIENCE = 3
PULL = 0.3
HIGHS_OPTIONS = {"primal_feasibility_tolerance": 1e-10, "dual_feasibility_tolerance": 1e-10}


@dataclass(frozen=True)
class Minimax:
    """Solution of the program of `smallest_maximum`.

    Parameters
    ----------
    w : ndarray of shape (N,)
        Weights, with sum one.
    bound : float
        Lower bound on the minimum.
    """

    w: Array
    bound: float


def smallest_maximum(
    G: Array, b: Array, blocks: Array, arm: ArmProblem, alpha: float, tol: float
) -> Minimax:
    """Minimise sum over blocks of max_{k in block} (g_k'w - b_k)_+ plus alpha * chi-square.

    Parameters
    ----------
    G : ndarray of shape (k, N)
        Functions.
    b : ndarray of shape (k,)
        Their offsets.
    blocks : ndarray of int of shape (k,)
        Block of each function, numbered from zero.
    arm : ArmProblem
        The simplex: base weights and caps.
    alpha : float
        Weight of the divergence; zero makes it a linear program.
    tol : float
        Relative gap of the quadratic program.

    Returns
    -------
    Minimax
    """
    solve = _linear_program if alpha == 0 else _quadratic_program
    return solve(G, b, blocks, arm, alpha, tol)


def _linear_program(G, b, blocks, arm, alpha, tol) -> Minimax:
    """HiGHS, in ratios to the base weights; the bound is that of its multipliers."""
    n, n_blocks = len(arm.base), int(blocks.max()) + 1
    heights = np.eye(n_blocks)[blocks]
    result = linprog(
        np.r_[np.zeros(n), np.ones(n_blocks)],
        A_ub=np.hstack([G * arm.base, -heights]),
        b_ub=b,
        A_eq=np.r_[arm.base, np.zeros(n_blocks)][None, :],
        b_eq=[1.0],
        bounds=[(0.0, arm.max_ratio)] * n + [(0.0, None)] * n_blocks,
        method="highs",
        options=HIGHS_OPTIONS,
    )
    if result.x is None:
        raise RuntimeError(f"IPMBalancing: HiGHS failed on the linear program: {result.message}")
    ratio = np.clip(result.x[:n], 0.0, arm.max_ratio)
    w = arm.base * ratio
    price = np.maximum(-result.ineqlin.marginals, 0.0)
    price /= np.maximum(np.bincount(blocks, price, n_blocks), 1.0)[blocks]
    return Minimax(w / w.sum(), max(_cheapest(price @ G, arm) - float(price @ b), 0.0))


def _cheapest(cost: Array, arm: ArmProblem) -> float:
    """Least cost of weights on the capped simplex: fill the cheapest rows first."""
    order = np.argsort(cost, kind="stable")
    room = np.minimum(arm.upper[order], 1.0)
    before = np.cumsum(room) - room
    return float(np.clip(1.0 - before, 0.0, room) @ cost[order])


def _quadratic_program(G, b, blocks, arm, alpha, tol) -> Minimax:
    """The heights of the blocks are further variables with sums of their own."""
    n, n_blocks = len(arm.base), int(blocks.max()) + 1
    excess = np.maximum(G.max(axis=1) - b, 0.0)
    highest = np.full(n_blocks, np.finfo(float).tiny)
    np.maximum.at(highest, blocks, excess)
    equations = np.hstack([G, -np.eye(n_blocks)[blocks]])
    lowest = G.min(axis=1) - highest[blocks] - 1.0
    total = np.r_[1.0, np.zeros(n_blocks)], np.r_[1.0, highest]
    result = lowrank_qp(
        np.zeros((n + n_blocks, 1)),
        np.r_[np.zeros(n), -np.ones(n_blocks)],
        upper=np.r_[np.minimum(arm.upper, 1.0), highest],
        total=total,
        groups=np.r_[np.zeros(n, dtype=int), 1 + np.arange(n_blocks)],
        diagonal=np.r_[alpha / arm.base, np.zeros(n_blocks)],
        equations=(equations, np.minimum(lowest, b - 1.0), b),
        tol=tol,
    )
    w, heights = result.x[:n], result.x[n:]
    size = 0.5 * alpha * float(w @ (w / arm.base)) + heights.sum()
    gap = result.optimality_gap * size if np.isfinite(result.optimality_gap) else np.inf
    bound = result.objective - gap - 0.5 * alpha
    return Minimax(w / w.sum(), max(bound, 0.0))


def cutting_planes(
    discrepancy: Discrepancy, alpha: float, tol: float, max_iter: int
) -> SolverResult:
    """Minimise a discrepancy plus alpha * chi-square by functions that it finds on the way.

    Each round minimises the largest of the functions found so far, a lower bound
    on the minimum, and asks the discrepancy for functions that exceed it at the
    solution.

    Parameters
    ----------
    discrepancy : Discrepancy
        The discrepancy.
    alpha : float
        Weight of the divergence.
    tol : float
        Relative gap at which to stop.
    max_iter : int
        Largest number of rounds.

    Returns
    -------
    SolverResult
        `optimality_gap` is relative to the objective, or to 1/N + 1/M where
        that is larger. Where `discrepancy.exact` is false, the gap holds for
        the functions that were found.
    """
    arm = discrepancy.arm
    floor = 1.0 / len(arm.X) + 1.0 / len(arm.target)

    def penalty(w: Array) -> float:
        return alpha * chi2_divergence(w, arm.base)

    # A linear program has no curvature to remember by what a dropped function said.
    pool = CutPool(len(arm.base), IDLE_ROUNDS if alpha > 0 else max_iter)
    w, bound, best_w, best = arm.base, 0.0, arm.base, np.inf
    gap, n_iter, quiet, share = np.inf, 0, 0, PULL
    while n_iter < max_iter:
        n_iter += 1
        fresh = pool.add(*discrepancy.separate(w), w)
        # What a search missed at an earlier point makes it look better than it is.
        missed = pool.height(best_w) + penalty(best_w)
        best = max(best, missed) if np.isfinite(best) else missed
        objective = pool.height(w) + penalty(w)
        improved = objective < best
        if improved:
            best, best_w = objective, w
        gap = max(best - bound, 0.0) / max(best, floor)
        if gap <= tol:
            quiet += 1
            # A search that is not sure to find what is left looks again from new starts.
            if discrepancy.exact or quiet > PATIENCE:
                break
            w = best_w
            continue
        quiet = 0
        if n_iter > 1 and not (fresh or improved):
            if alpha > 0:
                break
            share *= 0.5
        solution = smallest_maximum(pool.G, pool.b, pool.blocks, arm, alpha, 0.1 * tol)
        bound = max(bound, solution.bound)
        w = solution.w
        if alpha == 0:
            # Vertices jump about; a pull towards the base weights that fades with the gap
            # does not, and needs far fewer functions.
            pull = share * (best - bound) / max(chi2_divergence(best_w, arm.base), 0.1)
            w = smallest_maximum(pool.G, pool.b, pool.blocks, arm, pull, 1e-6).w
    return SolverResult(
        x=best_w,
        dual=None,
        objective=best,
        optimality_gap=gap,
        certificate="duality_gap",
        n_iter=n_iter,
        converged=bool(gap <= tol),
        solver="cutting-planes",
    )


class CutPool:
    """Functions found so far; those that have been far from the largest for long are dropped.

    Parameters
    ----------
    n : int
        Number of weights.
    patience : int
        Additions that a function survives while it is far from the largest.
    """

    def __init__(self, n: int, patience: int) -> None:
        self.patience = patience
        self.G, self.b = np.empty((0, n)), np.empty(0)
        self.idle = np.empty(0, dtype=int)

    def add(self, G: Array, b: Array, w: Array) -> bool:
        """Take in the functions that are new; whether there are any."""
        self._forget(w)
        seen = {row.tobytes() for row in np.column_stack([self.G, self.b]).round(12)}
        fresh = []
        for k, row in enumerate(np.column_stack([G, b]).round(12)):
            key = row.tobytes()
            if key not in seen:
                seen.add(key)
                fresh.append(k)
        self.G = np.concatenate([self.G, G[fresh]])
        self.b = np.r_[self.b, b[fresh]]
        self.idle = np.r_[self.idle, np.zeros(len(fresh), dtype=int)]
        return bool(fresh)

    @property
    def blocks(self) -> NDArray[np.intp]:
        """All functions share one height."""
        return np.zeros(len(self.b), dtype=np.intp)

    def height(self, w: Array) -> float:
        """Largest function at `w`, or zero."""
        return float((self.G @ w - self.b).max(initial=0.0))

    def _forget(self, w: Array) -> None:
        if not len(self.b):
            return
        excess = self.G @ w - self.b
        active = excess >= excess.max() - ACTIVE_SLACK * abs(excess.max())
        self.idle = np.where(active, 0, self.idle + 1)
        kept = self.idle <= self.patience
        self.G, self.b, self.idle = self.G[kept], self.b[kept], self.idle[kept]

"""Minimax problems with piecewise linear psi: linear programs with few rows and pieces on demand.

psi(s) = max over pieces k of a_k's + v_k: for the 0-1 loss a_k = 1_S / |S|, v_k = 1 - 1 / |S| over
the non-empty sets S of classes, for "maximum" the single classes with v_k = 0. HiGHS solves the
dual, whose rows are the C q moments and whose columns are the pieces; M are its multipliers.
"""

from dataclasses import replace

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray
from scipy.optimize import OptimizeResult, linprog

from reweight.solvers.result import SolverResult
from shift.covariate._minimax_loss import best_subset
from shift.covariate._minimax_problem import MinimaxProblem

# Up to this many pieces every row starts with a set of them that makes the program bounded; beyond,
# most rows keep the one piece that a sample of rows suggests, and so cost nothing.
MAX_DIRECT_PIECES = 4000
NEAR_SHARE = 0.05
LP_TOLERANCE = 1e-10
# The tolerance is absolute, and what a moment is off by counts against the certificate many times.
MOMENT_UNITS = 100.0


def minimize_pieces(
    problem: MinimaxProblem,
    *,
    box: float | None = None,
    tol: float = 1e-9,
    max_iter: int = 100,
) -> SolverResult:
    """Solve a problem whose loss is "0-1" or "maximum".

    Parameters
    ----------
    problem : MinimaxProblem
        Problem.
    box : float, default=None
        Largest |M_cj|; None is no limit.
    tol : float, default=1e-9
        Distance of the objective from its lower bound at which to stop.
    max_iter : int, default=100
        Largest number of linear programs.

    Returns
    -------
    SolverResult
        `x` is M of shape (C, q), `dual` the probabilities P of shape (t, C), `optimality_gap` the
        absolute distance of the objective from the value of the last program.

    Raises
    ------
    RuntimeError
        If HiGHS finds no solution.
    """
    max_rows = MAX_DIRECT_PIECES // problem.n_classes
    if problem.n_rows <= max_rows:
        return _generate(problem, _starting_pieces(problem), box, None, tol, max_iter)
    # Evenly spaced after a fixed shuffle: sorted rows would make a biased sample.
    rows = np.random.default_rng(0).permutation(problem.n_rows)[: max_rows // 2 + 1]
    weight = problem.row_weight[rows]
    sample = replace(problem, features=problem.features[rows], row_weight=weight / weight.sum())
    limit = box
    if box is None:
        # A sample may not attain the moments; a limit on |M| keeps its program bounded.
        limit = 1e3 / max(float(np.abs(problem.features).max()), np.finfo(float).tiny)
    guess = _generate(sample, _starting_pieces(sample), limit, None, tol, max_iter).x
    trust = None if box is not None else 10 * max(float(np.abs(guess).max()), 1e-3 * limit)
    return _generate(problem, _likely_pieces(problem, guess), box, trust, tol, max_iter)


class _Pieces:
    """Pieces by row: row i is represented by the maximum over its sets of classes."""

    def __init__(self, problem: MinimaxProblem) -> None:
        self.problem = problem
        self.rows = np.empty(0, dtype=np.int64)
        self.sets = np.empty((0, problem.n_classes), dtype=bool)

    def add(self, rows: NDArray[np.int64], sets: NDArray[np.bool_]) -> int:
        """Add sets that are not there yet; return how many."""
        before = len(self.rows)
        self.rows = np.concatenate([self.rows, rows])
        self.sets = np.concatenate([self.sets, sets])
        key = np.column_stack([self.rows, np.packbits(self.sets, axis=1)])
        _, first = np.unique(key, axis=0, return_index=True)
        size = self.sets[first].sum(axis=1)
        # The largest set of a row leads, which for two classes makes every program a box.
        first = first[np.lexsort((-size, self.rows[first]))]
        self.rows, self.sets = self.rows[first], self.sets[first]
        return len(self.rows) - before

    @property
    def slopes(self) -> NDArray[np.float64]:
        """a_k of each piece."""
        return self.sets / self.sets.sum(axis=1, keepdims=True)

    @property
    def constants(self) -> NDArray[np.float64]:
        """v_k of each piece."""
        if self.problem.loss == "maximum":
            return np.zeros(len(self.rows))
        return 1.0 - 1.0 / self.sets.sum(axis=1)

    @property
    def leads(self) -> NDArray[np.int64]:
        """Position of the first piece of each row of the problem."""
        return np.searchsorted(self.rows, np.arange(self.problem.n_rows))

    def row_values(self, scores: NDArray[np.float64]) -> NDArray[np.float64]:
        """The maximum over the pieces of each row."""
        values = (self.slopes * scores[self.rows]).sum(axis=1) + self.constants
        return np.maximum.reduceat(values, self.leads)


def _starting_pieces(problem: MinimaxProblem) -> _Pieces:
    """Single classes, which alone keep the program bounded, and all classes at once."""
    pieces = _Pieces(problem)
    t, C = problem.n_rows, problem.n_classes
    pieces.add(np.repeat(np.arange(t), C), np.tile(np.eye(C, dtype=bool), (t, 1)))
    if problem.loss == "0-1":
        pieces.add(np.arange(t), np.ones((t, C), dtype=bool))
    return pieces


def _likely_pieces(problem: MinimaxProblem, M: NDArray[np.float64]) -> _Pieces:
    """The best piece of every row at M, and the next best where it is nearly as good."""
    pieces = _Pieces(problem)
    every = np.arange(problem.n_rows)
    scores = problem.scores(M)
    best = _best_sets(problem, scores)
    pieces.add(every, best)
    # The sets met when scores are drawn apart or together by some share of their usual spread.
    spread = np.quantile(np.ptp(scores, axis=1), 0.5)
    for shift in _neighbouring_scores(problem, scores, NEAR_SHARE * spread):
        pieces.add(every, _best_sets(problem, shift))
    return pieces


def _neighbouring_scores(problem: MinimaxProblem, scores: NDArray, step: float) -> list[NDArray]:
    """Scores with each class raised, and for the 0-1 loss also lowered, by a small step."""
    steps = step * np.eye(problem.n_classes)
    signs = (1.0,) if problem.loss == "maximum" else (1.0, -1.0)
    return [scores + sign * row for row in steps for sign in signs]


def _best_sets(problem: MinimaxProblem, scores: NDArray[np.float64]) -> NDArray[np.bool_]:
    """The set of classes whose piece is largest in each row."""
    if problem.loss == "0-1":
        return best_subset(scores)
    return np.arange(problem.n_classes) == np.argmax(scores, axis=1)[:, None]


def _generate(
    problem: MinimaxProblem,
    pieces: _Pieces,
    box: float | None,
    trust: float | None,
    tol: float,
    max_iter: int,
) -> SolverResult:
    """Solve over the pieces at hand, add those that the solution violates, repeat."""
    best, best_value, P = None, np.inf, None
    gap, converged, n_iter = np.inf, False, 0
    while n_iter < max_iter:
        n_iter += 1
        M, lower, P, strained = _solve_master(problem, pieces, box, trust)
        scores = problem.scores(M)
        value = problem.objective(M)
        if value < best_value:
            best, best_value = M, value
        gap = max(best_value - lower, 0.0)
        if not strained and gap <= tol:
            converged = True
            break
        violated = np.flatnonzero(
            problem.row_values(scores) - pieces.row_values(scores) > 0.1 * tol
        )
        added = pieces.add(violated, _best_sets(problem, scores[violated]))
        if not added:
            if not strained:
                converged = True
                break
            trust = 10 * trust
    return SolverResult(
        x=best,
        dual=P,
        objective=best_value,
        optimality_gap=gap,
        certificate="duality_gap",
        n_iter=n_iter,
        converged=converged,
        solver="highs-pieces",
    )


def _solve_master(
    problem: MinimaxProblem, pieces: _Pieces, box: float | None, trust: float | None
) -> tuple[NDArray[np.float64], float, NDArray[np.float64], bool]:
    """M, the value of the program, P, and whether M leans on the trust limit."""
    C, q = problem.tau.shape
    leads = pieces.leads
    lead_of = leads[pieces.rows]
    slopes, constants = pieces.slopes, pieces.constants
    w = problem.row_weight
    moved = np.flatnonzero(np.arange(len(pieces.rows)) != lead_of)
    rows = pieces.rows[moved]
    change = slopes[moved] - slopes[lead_of[moved]]
    base = slopes[leads]
    limit = box if trust is None else trust
    penalised = np.flatnonzero(problem.bounds.ravel() > 0)
    identity = MOMENT_UNITS * sp.identity(C * q, format="csc")
    blocks = [MOMENT_UNITS * _moment_columns(problem, rows, change), identity[:, penalised]]
    costs = [-w[rows] * (constants[moved] - constants[lead_of[moved]]), np.zeros(penalised.size)]
    reach = problem.bounds.ravel()[penalised]
    bounds = [
        np.column_stack([np.zeros(rows.size), np.ones(rows.size)]),
        np.column_stack([-reach, reach]),
    ]
    if limit is not None:
        blocks += [identity, -identity]
        costs.append(np.full(2 * C * q, limit))
        bounds.append(np.tile([0.0, np.inf], (2 * C * q, 1)))
    result = _linear_program(
        np.concatenate(costs),
        sp.hstack(blocks, format="csc"),
        MOMENT_UNITS * problem.residual(base).ravel(),
        np.concatenate(bounds),
        _convexity_rows(problem, rows, sum(block.shape[1] for block in blocks[1:])),
    )
    theta = np.clip(result.x[: rows.size], 0.0, 1.0)
    P = base.copy()
    np.add.at(P, rows, theta[:, None] * change)
    P = np.maximum(P, 0.0)
    P /= P.sum(axis=1, keepdims=True)
    M = MOMENT_UNITS * result.eqlin.marginals.reshape(C, q)
    strained = trust is not None and float(np.abs(M).max()) > (1 - 1e-6) * trust
    return M, float(w @ constants[leads] - result.fun), P, strained


def _moment_columns(
    problem: MinimaxProblem, rows: NDArray[np.int64], change: NDArray[np.float64]
) -> sp.csc_matrix:
    """What moving a row from its leading piece to another does to the C q moments."""
    features = problem.weighted_features[rows]
    blocks = [sp.csc_matrix((features * change[:, c : c + 1]).T) for c in range(problem.n_classes)]
    return sp.vstack(blocks, format="csc")


def _convexity_rows(
    problem: MinimaxProblem, rows: NDArray[np.int64], n_other: int
) -> sp.csc_matrix | None:
    """One row for each target row with two or more pieces beside its leading one.

    With two classes none is needed: moving towards both single classes at once is never of use.
    """
    several, position = np.unique(rows, return_inverse=True)
    count = np.bincount(position) if rows.size else np.zeros(0)
    kept = np.flatnonzero(count > 1)
    if problem.n_classes == 2 or not kept.size:
        return None
    index = np.full(several.size, -1)
    index[kept] = np.arange(kept.size)
    columns = np.flatnonzero(index[position] >= 0)
    entries = np.ones(columns.size), (index[position[columns]], columns)
    return sp.csc_matrix(entries, shape=(kept.size, rows.size + n_other))


def _linear_program(
    costs: NDArray, equations: sp.csc_matrix, right: NDArray, bounds: NDArray, convexity
) -> OptimizeResult:
    """HiGHS by dual simplex, whose vertex does not depend on round-off; else by interior point."""
    tolerances = {
        "primal_feasibility_tolerance": LP_TOLERANCE,
        "dual_feasibility_tolerance": LP_TOLERANCE,
    }
    for method in ("highs-ds", "highs-ipm"):
        result = linprog(
            costs,
            A_ub=convexity,
            b_ub=None if convexity is None else np.ones(convexity.shape[0]),
            A_eq=equations,
            b_eq=right,
            bounds=bounds,
            method=method,
            options=tolerances,
        )
        if result.status == 0:
            return result
    raise RuntimeError(f"HiGHS found no solution: {result.message}")

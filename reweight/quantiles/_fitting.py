"""Weights of models at every level, for each granularity, by the solvers of `reweight.solvers`."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reweight.parallel import parallel_map
from reweight.solvers.crossing_pinball import CrossingProgram, crossing_pinball
from reweight.solvers.pinball_highs import pinball_highs
from reweight.solvers.reference import crossing_reference
from reweight.solvers.result import SolverResult
from reweight.solvers.simplex_pinball import (
    linear_pinball,
    simplex_pinball,
    simplex_pinball_columns,
)

# Levels of a block hand the columns that matter on to the next; blocks are fixed, so that the
# number of jobs does not change a bit.
FINE_BLOCK = 10
FINE_NEIGHBOURS = 1


@dataclass(frozen=True)
class Task:
    """Rows to fit on and how to combine their quantiles."""

    Q: NDArray  # (n, p, m)
    y: NDArray  # (n,)
    weights: NDArray  # (n,), positive
    quantiles: NDArray  # (m,)
    groups: NDArray  # (m,), codes from 0: levels of one code share their weights
    alpha: float = 0.0  # in the units of the mean loss over rows and levels
    nonnegative: bool = True
    unit_sum: bool = True
    fit_intercept: bool = False
    crossing_price: float = (
        0.0  # per crossing and unit of row weight, on the scale of summed losses
    )
    margins: Any = None  # (m - 1,)
    solver: str = "ipm"
    tol: float = 1e-8
    max_iter: int = 100
    n_jobs: int | None = None
    verbose: int = 0

    @property
    def is_simplex(self) -> bool:
        """Whether weights are non-negative, sum to one, and stand alone."""
        return self.nonnegative and self.unit_sum and not self.fit_intercept

    @property
    def ridge(self) -> float:
        """The ridge on the scale of the sum of losses."""
        return self.alpha * float(self.weights.sum()) * len(self.quantiles)


@dataclass(frozen=True)
class Fit:
    """Weights of each group of levels, and what the solver says of them."""

    weights: NDArray  # (p, n_groups), or (p * m, m) if fine
    intercepts: NDArray  # (n_groups,)
    gaps: NDArray  # (n_groups,)
    n_iter: int
    converged: bool
    solver: str


def crossing_margins(
    Q: NDArray, y: NDArray, weights: NDArray, levels: NDArray, margin: float, rule: str
) -> NDArray[np.float64]:
    """Distance that each level is to keep from the next, in the units of y."""
    if margin == 0:
        return np.zeros(len(levels) - 1)
    if rule == "single":
        mean = np.average(y, weights=weights)
        spread = np.sqrt(np.average((y - mean) ** 2, weights=weights))
        return np.full(len(levels) - 1, margin * spread)
    middle = int(np.argmin(np.abs(levels - 0.5)))
    pilot = y - np.median(Q[:, :, middle], axis=1)
    quantiles = np.quantile(pilot, levels, weights=weights, method="inverted_cdf")
    return margin * np.diff(quantiles)


def _flat(task: Task, levels: NDArray) -> tuple[NDArray, NDArray, NDArray, NDArray]:
    """Columns (p, n k), outcomes and slopes of the k levels given, stacked level by level."""
    n, p, _ = task.Q.shape
    # Row weights are laid out like the residuals: all rows of a level, then the next.
    QT = np.ascontiguousarray(task.Q[:, :, levels].transpose(1, 2, 0)).reshape(p, -1)
    tau = np.repeat(task.quantiles[levels], n)
    c = np.tile(task.weights, len(levels))
    return QT, np.tile(task.y, len(levels)), c * (tau - 1), c * tau


def _by_highs(task: Task, QT: NDArray, y: NDArray, lower: NDArray, upper: NDArray) -> SolverResult:
    """The linear program without ridge, by HiGHS."""
    p = len(QT)
    columns = p + task.fit_intercept
    ET = np.full((columns, len(y)), -1.0)
    ET[:p] = (y - QT) if task.unit_sum else -QT
    bounded = np.zeros(columns, bool)
    bounded[:p] = task.nonnegative
    unit = np.zeros(columns)
    unit[:p] = task.unit_sum
    offset = None if task.unit_sum else y
    return pinball_highs(ET.T, lower, upper, offset=offset, bounded=bounded, unit=unit)


def _solve(task: Task, QT: NDArray, y: NDArray, lower: NDArray, upper: NDArray) -> SolverResult:
    """One program; where the interior point does not converge, HiGHS has a try."""
    if task.solver == "highs":
        return _by_highs(task, QT, y, lower, upper)
    limits = {"alpha": task.ridge, "tol": task.tol, "max_iter": task.max_iter}
    if task.is_simplex:
        result = simplex_pinball((y - QT).T, lower, upper, **limits)
    else:
        result = linear_pinball(
            QT.T,
            y,
            lower,
            upper,
            nonnegative=task.nonnegative,
            unit_sum=task.unit_sum,
            fit_intercept=task.fit_intercept,
            **limits,
        )
    if result.converged or task.alpha > 0:
        return result
    other = _by_highs(task, QT, y, lower, upper)
    if not other.optimality_gap < result.optimality_gap:
        return result
    return replace(other, converged=other.optimality_gap <= task.tol)


def _gather(task: Task, results: list[SolverResult]) -> Fit:
    p = len(results[0].x) - task.fit_intercept
    solutions = np.array([result.x for result in results]).T
    intercepts = solutions[p] if task.fit_intercept else np.zeros(len(results))
    solvers = sorted({result.solver for result in results})
    return Fit(
        weights=solutions[:p],
        intercepts=intercepts,
        gaps=np.array([result.optimality_gap for result in results]),
        n_iter=max(result.n_iter for result in results),
        converged=all(result.converged for result in results),
        solver="+".join(solvers),
    )


def fit_groups(task: Task) -> Fit:
    """Weights over models, shared by the levels of a group."""
    if task.crossing_price > 0 and len(task.quantiles) > 1:
        return _fit_crossing(task)

    def one(group: int) -> SolverResult:
        return _solve(task, *_flat(task, np.flatnonzero(task.groups == group)))

    return _gather(task, _map(task, one, range(int(task.groups.max()) + 1)))


def _map(task: Task, function: Callable[[int], Any], items: range) -> list[Any]:
    """Results over levels; the solver lets go of the interpreter's lock, so threads share rows."""
    return parallel_map(
        function,
        [(item,) for item in items],
        total=len(items),
        n_jobs=task.n_jobs,
        verbose=task.verbose,
        name="levels",
        prefer="threads",
    )


def _fit_crossing(task: Task) -> Fit:
    program = CrossingProgram(
        task.Q,
        task.y,
        task.quantiles,
        task.weights,
        task.groups,
        task.crossing_price,
        task.margins,
        task.nonnegative,
        task.unit_sum,
        task.fit_intercept,
    )
    if task.alpha > 0:
        result = crossing_reference(program, alpha=task.ridge)
    else:
        result = crossing_pinball(program, tol=task.tol)
    w, b = result.x
    if task.nonnegative:
        w = np.maximum(w, 0.0)
    if task.unit_sum:
        w = w / w.sum(axis=0)
    gaps = np.full(w.shape[1], result.optimality_gap)
    return Fit(w, b, gaps, result.n_iter, result.converged, result.solver)


def fit_fine(task: Task) -> Fit:
    """Weights over all quantiles of all models, for each level."""
    n, p, m = task.Q.shape
    QT = np.ascontiguousarray(task.Q.reshape(n, p * m).T)
    ET = task.y - QT if task.is_simplex else None
    sparse = task.is_simplex and task.alpha == 0 and task.solver == "ipm"

    def one(k: int, known: NDArray | None) -> SolverResult:
        lower, upper = task.weights * (task.quantiles[k] - 1), task.weights * task.quantiles[k]
        if not sparse:
            return _solve(task, QT, task.y, lower, upper)
        near = np.arange(max(k - FINE_NEIGHBOURS, 0), min(k + FINE_NEIGHBOURS + 1, m))
        start = (np.arange(p)[:, None] * m + near).ravel()
        if known is not None:
            start = np.union1d(start, known)
        result = simplex_pinball_columns(
            ET.T, lower, upper, start=start, tol=task.tol, max_iter=task.max_iter
        )
        return result if result.converged else _solve(task, QT, task.y, lower, upper)

    def block(first: int) -> list[SolverResult]:
        results, known = [], None
        for k in range(first, min(first + FINE_BLOCK, m)):
            results.append(one(k, known))
            known = np.flatnonzero(results[-1].x[: p * m])
        return results

    blocks = _map(task, block, range(0, m, FINE_BLOCK))
    return _gather(task, [result for results in blocks for result in results])

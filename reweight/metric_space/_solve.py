"""Which solver finds the weighting vector, and the checks of what it is asked for."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.exceptions import ConvergenceWarning

from reweight.metric_space._local_solve import NeighborSearch, condition, nearest_others
from reweight.metric_space._nonnegative import (
    kkt_residual,
    normalize_repeatedly,
    solve_by_gradient,
    solve_exactly,
)
from reweight.metric_space._points import PointSet, metric_label
from reweight.metric_space._solutions import (
    Cholesky,
    ExactSolution,
    NeighborSolution,
    SubsampleSolution,
)
from reweight.validation import warn_user, warn_weights

VECCHIA_COLUMNS = 5
GRADIENT_ROWS = 50_000
KKT_TOLERANCE = 1e-6
# Weights below this share of the largest do not count as support.
SUPPORT = 1e-6
SOLVERS = frozenset(
    {
        "auto",
        "cg",
        "exact",
        "ldl",
        "local",
        "normalization",
        "projected_gradient",
        "subsample",
        "vecchia",
    }
)
NEIGHBOR_SOLVERS = frozenset({"cg", "local", "vecchia"})
ITERATIVE_SOLVERS = frozenset({"cg", "normalization", "projected_gradient"})
NONNEGATIVE_SOLVERS = frozenset({"exact", "normalization", "projected_gradient"})


@dataclass(frozen=True)
class SolverOptions:
    """What the estimators hand on to the solvers.

    Parameters
    ----------
    name : str
        Name of the estimator, for messages.
    solver : str
        Solver or "auto".
    n_neighbors, alpha, nonnegative, exact_max, tol, max_iter, verbose
        As in `WeightingVector`.
    """

    name: str
    solver: str
    n_neighbors: int
    alpha: float
    nonnegative: bool
    exact_max: int
    tol: float
    max_iter: int
    verbose: int


def choose_solver(points: PointSet, options: SolverOptions) -> str:
    """The solver that "auto" stands for, or the one asked for if it can do what is asked.

    Parameters
    ----------
    points : PointSet
        Points.
    options : SolverOptions
        What is asked for.

    Returns
    -------
    str

    Raises
    ------
    ValueError
        If the solver cannot take the metric, the sign, or the number of points.
    """
    name, solver, n = options.name, options.solver, len(points)
    if solver == "auto":
        solver = _automatic(points, options)
    if solver in NEIGHBOR_SOLVERS and points.power is None:
        raise ValueError(
            f"{name}: solver={solver!r} looks for neighbours by coordinates, but metric="
            f"{metric_label(points.metric)}; use solver='exact', or metric 'euclidean', "
            "'manhattan' or 'minkowski'"
        )
    if options.nonnegative and solver not in NONNEGATIVE_SOLVERS:
        raise ValueError(
            f"{name}: solver={solver!r} gives weights of either sign, but nonnegative=True; use "
            f"one of {sorted(NONNEGATIVE_SOLVERS)} or 'auto'"
        )
    if not options.nonnegative and solver in NONNEGATIVE_SOLVERS - {"exact"}:
        raise ValueError(
            f"{name}: solver={solver!r} gives non-negative weights only; pass nonnegative=True or "
            "another solver"
        )
    if solver in ("exact", "ldl") and n > options.exact_max:
        raise ValueError(
            f"{name}: {n} distinct points are more than exact_max={options.exact_max} and need "
            f"{8e-9 * n**2:.1f} GB for solver={solver!r}; raise exact_max, or use solver='vecchia' "
            "or 'cg' with a Minkowski metric"
        )
    return solver


def _automatic(points: PointSet, options: SolverOptions) -> str:
    n = len(points)
    if n <= options.exact_max or points.power is None:
        return "exact"
    if options.nonnegative:
        return "projected_gradient"
    if points.data.shape[1] <= VECCHIA_COLUMNS:
        return "vecchia"
    return "cg" if n <= GRADIENT_ROWS else "subsample"


def solve(points: PointSet, scale: float, solver: str, options: SolverOptions, rng: Any) -> Any:
    """Weights of points at a scale, and what new points need.

    Parameters
    ----------
    points : PointSet
        Points.
    scale : float
        Inverse length t.
    solver : str
        From `choose_solver`.
    options : SolverOptions
        The rest.
    rng : numpy.random.RandomState
        Draws orders and subsamples.

    Returns
    -------
    ExactSolution, NeighborSolution, SubsampleSolution or ProductSolution

    Raises
    ------
    ValueError
        If similarities are not positive definite and must be.
    """
    try:
        return _solve(points, scale, solver, options, rng)
    except np.linalg.LinAlgError:
        kind = "singular" if solver == "ldl" or points.definite else "not positive definite"
        remedy = (
            "use a larger scale or a positive alpha"
            if kind == "singular"
            else "use solver='ldl' or another metric"
        )
        raise ValueError(
            f"{options.name}: similarity matrix is {kind} for metric="
            f"{metric_label(points.metric)} at scale={scale:.6g}; {remedy}"
        ) from None


def _solve(points: PointSet, scale: float, solver: str, options: SolverOptions, rng: Any) -> Any:
    if solver in NEIGHBOR_SOLVERS:
        return NeighborSolution(
            points,
            scale,
            solver,
            options.n_neighbors,
            options.alpha,
            options.tol,
            options.max_iter,
            rng,
            options.verbose,
        )
    if solver == "subsample":
        chosen = np.sort(rng.permutation(len(points))[: options.exact_max])
        return SubsampleSolution(points, ExactSolution(points, scale, options.alpha, False, chosen))
    if solver in ("normalization", "projected_gradient"):
        return ProductSolution(points, scale, solver, options)
    if options.nonnegative:
        return solve_exactly(points, scale, options.alpha, options.tol)
    return ExactSolution(points, scale, options.alpha, solver == "ldl")


class ProductSolution:
    """Non-negative weights found by products with Z; variances come from near support points.

    Parameters
    ----------
    points : PointSet
        Points.
    scale : float
        Inverse length t.
    solver : {"normalization", "projected_gradient"}
        Method.
    options : SolverOptions
        The rest.
    """

    def __init__(self, points: PointSet, scale: float, solver: str, options: SolverOptions) -> None:
        self._points, self._scale, self.alpha_used = points, scale, options.alpha
        self._n_neighbors = options.n_neighbors
        arguments = points, scale, options.alpha
        if solver == "normalization":
            tol = max(options.tol, KKT_TOLERANCE)
            self.w, self.n_iter = normalize_repeatedly(*arguments, tol, options.max_iter)
        else:
            start = np.full(len(points), 0.5)
            result = solve_by_gradient(*arguments, start, options.tol, options.max_iter)
            self.w, self.n_iter = result.x, result.n_iter
        self.magnitude = float(self.w.sum())
        self.residual_norm = kkt_residual(points, self.w, scale, options.alpha)[0]
        self.approximation_ok = bool(self.residual_norm <= KKT_TOLERANCE)
        self._support = np.flatnonzero(self.w > SUPPORT * self.w.max())
        self._chosen = points.subset(self._support)
        if points.power is None:
            self._factor = Cholesky(self._chosen, scale, options.alpha)

    def inverse_diagonal(self) -> NDArray[np.float64]:
        """1 / variance of each support point given its neighbours; infinite off the support."""
        out = np.full(len(self._points), np.inf)
        if self._points.power is None:
            out[self._support] = self._factor.inverse_diagonal()
        else:
            k = min(self._n_neighbors, len(self._chosen) - 1)
            others = nearest_others(self._chosen.data, k, self._points.power, self._points.n_jobs)
            out[self._support] = 1.0 / self._given(self._chosen.data, others)
        return out

    def _given(self, queries: NDArray, neighbors: NDArray) -> NDArray[np.float64]:
        points = self._chosen
        return condition(
            queries,
            points.data,
            neighbors,
            self._scale,
            points.power,
            self.alpha_used,
            points.n_jobs,
        )[1]

    def residual(self, queries: NDArray) -> NDArray[np.float64]:
        """1 - c'w of each query."""
        return 1.0 - self._points.product(self.w, self._scale, queries)

    def residual_and_variance(self, queries: NDArray) -> tuple[NDArray, NDArray]:
        """Residual, and variance of each query given the support."""
        if self._points.power is None:
            c = self._chosen.similarities(self._points.towards(queries, self._support), self._scale)
            return self.residual(queries), 1.0 + self.alpha_used - self._factor.explained(c)
        search = NeighborSearch(self._chosen.data, self._points.power, self._points.n_jobs)
        neighbors = search(queries, min(self._n_neighbors, len(self._chosen)))
        return self.residual(queries), self._given(queries, neighbors)


def warn_if_wrong(solution: Any, solver: str, options: SolverOptions) -> None:
    """Say what a solution falls short of.

    Parameters
    ----------
    solution : solution
        From `solve`.
    solver : str
        From `choose_solver`.
    options : SolverOptions
        What was asked for.
    """
    name = options.name
    if solution.alpha_used > options.alpha:
        warn_weights(
            f"{name}: rounding makes the similarities singular, so that "
            f"{solution.alpha_used - options.alpha:.0e} was added to their diagonal; use a larger "
            "scale or a positive alpha"
        )
    if solution.approximation_ok:
        return
    found = f"Z w differs from one by up to {solution.residual_norm:.2g}"
    if solver in ITERATIVE_SOLVERS:
        warn_user(
            f"{name}: solver={solver!r} did not converge: after {solution.n_iter} steps of at most "
            f"max_iter={options.max_iter} its conditions are violated by up to "
            f"{solution.residual_norm:.2g}; raise max_iter or lower tol",
            ConvergenceWarning,
        )
    elif solver == "subsample":
        warn_weights(
            f"{name}: weights are those of new points given a random {options.exact_max} of the "
            f"points, {found} at the others; reduce the number of columns, raise exact_max, or use "
            "solver='cg'"
        )
    elif solver in NEIGHBOR_SOLVERS:
        warn_weights(
            f"{name}: {options.n_neighbors} neighbours do not see the range of the similarities, "
            f"{found} (approximation_ok_ is False); raise n_neighbors or scale, or use "
            "solver='cg'"
        )
    else:
        warn_weights(f"{name}: weights are inexact, {found}; use a larger scale")

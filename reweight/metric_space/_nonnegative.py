"""Non-negative weights: the dual of the one-class machine that is at least one at every point."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from reweight.metric_space._points import PointSet
from reweight.metric_space._solutions import ExactSolution
from reweight.solvers.dense_qp import dense_qp
from reweight.solvers.projected_gradient import projected_gradient

# Rounds in which points without a place in the support leave it, and others enter.
MAX_ROUNDS = 50
# A weight whose condition misses by this is as good as zero.
NEGLIGIBLE = 1e-12


def kkt_residual(
    points: PointSet, w: NDArray, scale: float, alpha: float = 0.0
) -> tuple[float, NDArray[np.float64]]:
    """How far w is from solving max 1'w - w'(Z + alpha I)w / 2 over w >= 0.

    Parameters
    ----------
    points : PointSet
        Points.
    w : ndarray of shape (n,)
        Non-negative weights.
    scale : float
        Inverse length t.
    alpha : float, default=0
        Ridge.

    Returns
    -------
    residual : float
        Largest violation of (Z + alpha I)w >= 1, and of its equality where w > 0.
    surplus : ndarray of shape (n,)
        (Z + alpha I)w - 1.
    """
    surplus = points.product(w, scale) + alpha * w - 1.0
    return float(np.maximum(-surplus, w * np.abs(surplus)).max()), surplus


def _program(Z: NDArray, alpha: float, tol: float) -> NDArray[np.float64]:
    """Solution by active sets; a weight is never above one, so the sum is below n + 1."""
    n = len(Z)
    result = dense_qp(Z, np.ones(n), diagonal=alpha, total=(0.0, n + 1.0), tol=tol)
    return result.x


def solve_exactly(points: PointSet, scale: float, alpha: float, tol: float) -> ExactSolution:
    """Non-negative weights of a few thousand points, with a factor of Z at their support.

    Parameters
    ----------
    points : PointSet
        Points.
    scale : float
        Inverse length t.
    alpha : float
        Ridge.
    tol : float
        Duality gap of the quadratic program.

    Returns
    -------
    ExactSolution
        `residual_norm` is the largest violation of the optimality conditions.
    """
    support = np.arange(len(points))
    solution = ExactSolution(points, scale, alpha)
    if solution.w.min() < 0:
        w = _program(points.similarity_matrix(scale), alpha, tol)
        support = np.flatnonzero(w > NEGLIGIBLE * w.max())
        solution = _polish(points, scale, alpha, support)
    solution.residual_norm = kkt_residual(points, solution.w, scale, alpha)[0]
    solution.approximation_ok = bool(solution.residual_norm < 1e-6)
    return solution


def _polish(points: PointSet, scale: float, alpha: float, support: NDArray) -> ExactSolution:
    """Exact weights at the support, which gives up and takes in what the program missed."""
    for _ in range(MAX_ROUNDS):
        solution = ExactSolution(points, scale, alpha, support=support)
        surplus = kkt_residual(points, solution.w, scale, alpha)[1]
        enter = np.setdiff1d(np.flatnonzero(surplus < -NEGLIGIBLE * len(points)), support)
        leave = support[solution.w[support] < 0]
        if not (len(enter) or len(leave)):
            break
        support = np.union1d(np.setdiff1d(support, leave), enter)
    solution.w = np.maximum(solution.w, 0.0)
    return solution


def solve_by_gradient(
    points: PointSet, scale: float, alpha: float, start: NDArray, tol: float, max_iter: int
) -> Any:
    """Non-negative weights by products with Z alone, within [0, 1] where they all lie.

    Parameters
    ----------
    points : PointSet
        Points.
    scale : float
        Inverse length t.
    alpha : float
        Ridge.
    start : ndarray of shape (n,)
        First weights.
    tol : float
        Relative duality gap.
    max_iter : int
        Largest number of products.

    Returns
    -------
    SolverResult
    """
    return projected_gradient(
        lambda w: points.product(w, scale) + alpha * w,
        lambda w: np.clip(w, 0.0, 1.0),
        lambda g: (g < 0).astype(np.float64),
        start,
        c=np.ones(len(points)),
        tol=tol,
        max_iter=max_iter,
    )


def normalize_repeatedly(
    points: PointSet, scale: float, alpha: float, tol: float, max_iter: int
) -> tuple[NDArray[np.float64], int]:
    """Weights by w <- w / (Z + alpha I)w, which stay positive and can only tend to zero.

    Parameters
    ----------
    points : PointSet
        Points.
    scale : float
        Inverse length t.
    alpha : float
        Ridge.
    tol : float
        Violation of the optimality conditions at which to stop.
    max_iter : int
        Largest number of steps.

    Returns
    -------
    w : ndarray of shape (n,)
    n_iter : int
    """
    w, n_iter = np.ones(len(points)), 0
    residual, surplus = kkt_residual(points, w, scale, alpha)
    while residual > tol and n_iter < max_iter:
        w /= 1.0 + surplus
        residual, surplus = kkt_residual(points, w, scale, alpha)
        n_iter += 1
    return w, n_iter

"""Solutions of the system of ReTaSA, what they leave unexplained, and how exact grids are."""

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import lu_factor, lu_solve
from scipy.optimize import nnls

from reweight.solvers.result import SolverResult
from shift.target._retasa_system import Sample, System

Array = NDArray[np.float64]

# Determines the solution at nodes without rows.
LEAST_MASS = 1e-12
STEPS_PER_NODE = 50


def solve_tikhonov(operator: Array, right: Array, alpha: float) -> SolverResult:
    """Solve (alpha I + operator) rho = right, a matrix that is not symmetric.

    Parameters
    ----------
    operator : ndarray of shape (n_nodes, n_nodes)
        T*T.
    right : ndarray of shape (n_nodes,)
        T* eta.
    alpha : float
        Strength of regularisation.

    Returns
    -------
    SolverResult
        `x` is rho. `objective` is the sum of squared residuals, and
        `optimality_gap` the largest residual relative to the right-hand side.

    Examples
    --------
    >>> solve_tikhonov(np.full((2, 2), 0.5), np.array([3.0, 3.0]), 0.5).x
    array([2., 2.])
    """
    matrix = operator + alpha * np.eye(len(operator))
    factor = lu_factor(matrix, check_finite=False)
    rho = lu_solve(factor, right, check_finite=False)
    residual = right - matrix @ rho
    rho += lu_solve(factor, residual, check_finite=False)
    residual = right - matrix @ rho
    scale = np.abs(right).max()
    gap = float(np.abs(residual).max() / scale) if scale > 0 else 0.0
    return SolverResult(rho, None, float(residual @ residual), gap, "kkt", 1, gap < 1e-6, "lu")


def solve_nonnegative(system: System, alpha: float) -> SolverResult:
    """Tikhonov's problem over weights that are not negative.

    Minimises sum_a p_a ((T w)_a - 1 - eta_a)^2 + alpha sum_l q_l (w_l - 1)^2
    over w >= 0, p and q the shares of the source.

    Parameters
    ----------
    system : System
        The operators.
    alpha : float
        Strength of regularisation.

    Returns
    -------
    SolverResult
        `x` is rho = w - 1; `optimality_gap` is the largest violation of the
        optimality conditions by the gradient, relative to the linear term.
    """
    used = system.mass_x > 0
    root = np.sqrt(system.mass_x[used])
    ridge = np.sqrt(alpha * (system.mass_y + LEAST_MASS))
    A = np.vstack([root[:, None] * system.smooth_x[used], np.diag(ridge)])
    b = np.concatenate([root * (1.0 + system.eta[used]), ridge])
    reduced, right, rest = A, b, 0.0
    if len(A) > 2 * A.shape[1]:
        triangle = np.linalg.qr(np.column_stack([A, b]), mode="r")
        reduced, right, rest = triangle[:-1, :-1], triangle[:-1, -1], triangle[-1, -1]
    w, norm = nnls(reduced, right, maxiter=STEPS_PER_NODE * len(ridge))
    gradient = A.T @ (A @ w - b)
    violation = np.where(w > 0, np.abs(gradient), np.maximum(-gradient, 0.0)).max()
    gap = float(violation / np.abs(A.T @ b).max())
    objective = float(norm**2 + rest**2)
    return SolverResult(w - 1.0, None, objective, gap, "kkt", 1, gap < 1e-6, "nnls")


def solve(system: System, alpha: float, nonnegative: str) -> SolverResult:
    """Solve for rho at the nodes.

    Parameters
    ----------
    system : System
        The operators.
    alpha : float
        Strength of regularisation.
    nonnegative : {"clip", "constrained"}
        Whether the weights may be negative, to be clipped later.

    Returns
    -------
    SolverResult
        `x` is rho at the nodes.
    """
    if nonnegative == "constrained":
        return solve_nonnegative(system, alpha)
    return solve_tikhonov(system.operator, system.right, alpha)


def misfit(system: System, rho: Array) -> float:
    """Mean square of T rho - eta over the source."""
    return float(system.mass_x @ (system.smooth_x @ rho - system.eta) ** 2)


def unexplained_share(system: System, rho: Array) -> float:
    """`misfit` relative to the mean square of eta; 0 if there is nothing to explain."""
    size = float(system.mass_x @ system.eta**2)
    return misfit(system, rho) / size if size > 0 else 0.0


def interpolation_bound(system: System, sample: Sample, rho: Array, alpha: float) -> float:
    """Bound on the error at the nodes that interpolating between them makes.

    With kappa the largest absolute row sum of (alpha I + T*T)^-1 and D the
    distance of nodes it is kappa D^2 / 8 max |rho''|. As rho is a mean of
    v = eta - T rho under Gaussian weights, its second derivative is their
    third mixed central moment with y, over alpha h^4.

    Parameters
    ----------
    system : System
        The operators.
    sample : Sample
        What they were made from.
    rho : ndarray of shape (n_nodes,)
        The solution.
    alpha : float
        Strength of regularisation.

    Returns
    -------
    float
    """
    inverse = np.linalg.inv(system.operator + alpha * np.eye(len(rho)))
    kappa = np.abs(inverse).sum(axis=1).max()
    S, y = system.smooth_y, sample.y - sample.y.mean()
    v = system.eta - system.smooth_x @ rho
    mean_v, mean_y, mean_yy = S @ v, S @ y, S @ (y * y)
    mean_vy, mean_vyy = S @ (v * y), S @ (v * y * y)
    third = mean_vyy - 2.0 * mean_y * mean_vy + 2.0 * mean_y**2 * mean_v - mean_v * mean_yy
    curvature = np.abs(third).max() / (alpha * sample.bandwidth_y**4)
    step = system.nodes[1] - system.nodes[0]
    return float(kappa * step**2 / 8.0 * curvature)

"""Newton's method with backtracking for smooth convex functions of few variables."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_factor, cho_solve

from reweight.solvers.result import SolverResult

ARMIJO = 1e-4
MAX_HALVINGS = 50


def damped_newton(
    fun_grad_hess: Callable[[NDArray], tuple[float, NDArray, NDArray]],
    x0: NDArray[np.float64],
    *,
    tol: float = 1e-9,
    max_iter: int = 100,
) -> SolverResult:
    """Minimise a smooth convex function.

    Parameters
    ----------
    fun_grad_hess : callable
        x -> (value, gradient of shape (d,), Hessian of shape (d, d)). A point
        outside the domain has the value infinity and is stepped back from.
    x0 : ndarray of shape (d,)
        Starting point inside the domain.
    tol : float, default=1e-9
        Largest absolute entry of the gradient at a solution.
    max_iter : int, default=100
        Largest number of steps.

    Returns
    -------
    SolverResult
        `x` is the minimiser, `dual` None, `optimality_gap` the largest entry
        of the gradient.

    Examples
    --------
    >>> import numpy as np
    >>> result = damped_newton(
    ...     lambda x: (float(np.cosh(x[0])), np.sinh(x), np.cosh(x)[:, None]), np.array([2.0])
    ... )
    >>> float(abs(result.x[0])) < 1e-9
    True
    """
    x = np.array(x0, dtype=np.float64)
    value, gradient, hessian = fun_grad_hess(x)
    residual = float(np.abs(gradient).max(initial=0.0))
    n_iter = 0
    polished = False
    while n_iter < max_iter and not (residual <= tol and (polished or residual <= 1e-6 * tol)):
        polished = residual <= tol
        step = newton_direction(hessian, gradient)
        slope = float(gradient @ step)
        slack = 4 * np.finfo(float).eps * (1.0 + abs(value))
        size = 1.0
        for _ in range(MAX_HALVINGS):
            with np.errstate(over="ignore", invalid="ignore"):
                trial = fun_grad_hess(x + size * step)
            if trial[0] <= value + ARMIJO * size * slope + slack:
                break
            size *= 0.5
        else:
            break
        new_residual = float(np.abs(trial[1]).max(initial=0.0))
        if polished and new_residual > residual:
            break
        n_iter += 1
        x = x + size * step
        (value, gradient, hessian), residual = trial, new_residual
    return SolverResult(
        x=x,
        dual=None,
        objective=float(value),
        optimality_gap=residual,
        certificate="kkt",
        n_iter=n_iter,
        converged=bool(residual <= tol),
        solver="damped-newton",
    )


def newton_direction(
    hessian: NDArray[np.float64], gradient: NDArray[np.float64]
) -> NDArray[np.float64]:
    """-H^-1 g, with the smallest damping at which H is positive definite.

    Parameters
    ----------
    hessian : ndarray of shape (d, d)
        Positive semidefinite matrix.
    gradient : ndarray of shape (d,)
        Right-hand side.

    Returns
    -------
    ndarray of shape (d,)
    """
    diagonal = np.diag(hessian)
    # On a unit diagonal, one variable of huge curvature does not drown the others in round-off.
    scale = 1.0 / np.sqrt(np.where(diagonal > 0, diagonal, 1.0))
    scaled, right = hessian * np.outer(scale, scale), gradient * scale
    if not (np.isfinite(scaled).all() and np.isfinite(right).all()):
        # LAPACK's least squares does not return from NaN; no step is taken, and none converges.
        return np.full(len(right), np.nan)
    damping = 0.0
    for _ in range(12):
        try:
            factor = cho_factor(
                scaled + damping * np.eye(len(scaled)), lower=True, check_finite=False
            )
        except np.linalg.LinAlgError:
            damping = max(100 * damping, 1e-14)
            continue
        if np.diag(factor[0]).min(initial=np.inf) ** 2 > 1e-15:
            return -scale * cho_solve(factor, right, check_finite=False)
        damping = max(100 * damping, 1e-14)
    return -scale * np.linalg.lstsq(scaled, right, rcond=1e-12)[0]

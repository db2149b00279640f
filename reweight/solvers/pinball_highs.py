"""Pinball losses as a linear program for HiGHS, which the fast solver is held against."""

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linprog

from reweight.solvers.result import SolverResult


def pinball_highs(
    E: NDArray[np.float64],
    lower_slope: NDArray[np.float64],
    upper_slope: NDArray[np.float64],
    *,
    offset: NDArray[np.float64] | None = None,
    bounded: NDArray[np.bool_] | None = None,
    unit: NDArray[np.float64] | None = None,
) -> SolverResult:
    """The program of `simplex_pinball` without ridge, by HiGHS on its dual.

    The dual has a bounded column per row and as many rows as there are
    weights, which simplex methods like ten times better than the primal.

    Parameters
    ----------
    E : ndarray of shape (N, d)
        Residual of each row under each column alone.
    lower_slope, upper_slope : ndarray of shape (N,)
        Slopes of the loss left and right of zero.
    offset : ndarray of shape (N,), default=None
        Residual at weights of zero; None is zero.
    bounded : ndarray of bool of shape (d,), default=None
        Weights that must not be negative; None is all.
    unit : ndarray of shape (d,), default=None
        Ones for weights that sum to one; None is all, zeros mean no sum.

    Returns
    -------
    SolverResult
        `x` are the weights, `dual` has shape (N,).

    Examples
    --------
    >>> import numpy as np
    >>> from reweight.solvers.pinball_highs import pinball_highs
    >>> E = np.array([[1.0, -1.0], [2.0, -2.0], [-1.0, 3.0]])
    >>> pinball_highs(E, np.full(3, -0.5), np.full(3, 0.5)).x
    array([0.5, 0.5])
    """
    n, d = E.shape
    offset = np.zeros(n) if offset is None else offset
    bounded = np.ones(d, bool) if bounded is None else bounded
    unit = np.ones(d) if unit is None else unit
    summed = bool(unit.any())
    A = np.column_stack([-E.T, unit]) if summed else -E.T
    bounds = np.column_stack([lower_slope, upper_slope])
    if summed:
        bounds = np.vstack([bounds, [-np.inf, np.inf]])
    free = ~bounded
    found = linprog(
        -np.append(offset, 1.0) if summed else -offset,
        A_ub=A[bounded] if bounded.any() else None,
        b_ub=np.zeros(bounded.sum()) if bounded.any() else None,
        A_eq=A[free] if free.any() else None,
        b_eq=np.zeros(free.sum()) if free.any() else None,
        bounds=bounds,
        method="highs",
        options={"primal_feasibility_tolerance": 1e-10, "dual_feasibility_tolerance": 1e-10},
    )
    if found.x is None:
        raise RuntimeError(f"pinball_highs: HiGHS returned no solution: {found.message}")
    w = np.zeros(d)
    w[bounded] = np.maximum(-found.ineqlin.marginals, 0.0)
    w[free] = -found.eqlin.marginals
    if summed:
        w[unit > 0] /= w[unit > 0].sum()
    residual = offset + E @ w
    objective = float(np.maximum(upper_slope * residual, lower_slope * residual).sum())
    gap = max(objective + float(found.fun), 0.0) / max(objective, np.finfo(float).tiny)
    return SolverResult(
        x=w,
        dual=np.clip(found.x[:n], lower_slope, upper_slope),
        objective=objective,
        optimality_gap=gap,
        certificate="duality_gap",
        n_iter=int(found.nit),
        converged=found.status == 0,
        solver="highs",
    )

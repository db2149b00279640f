"""The same programs in cvxpy: the slow, plain form that the fast solvers are held against."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from reweight.solvers.result import SolverResult


def divergence_reference(
    C: NDArray[np.float64],
    base_weights: NDArray[np.float64],
    *,
    divergence: str = "kl",
    alpha: NDArray[np.float64] | float = 0.0,
    tolerance: NDArray[np.float64] | float = 0.0,
) -> SolverResult:
    """The primal program of `divergence_dual`, by Clarabel.

    Parameters
    ----------
    C : ndarray of shape (N, m)
        Constraint rows; the weighted mean of each column is to be zero.
    base_weights : ndarray of shape (N,)
        Positive base weights on any scale.
    divergence : {"kl", "chi2", "chi2_signed", "el"}, default="kl"
        Divergence from the base weights.
    alpha : float or ndarray of shape (m,), default=0
        Ridge per column.
    tolerance : float or ndarray of shape (m,), default=0
        Box tolerance per column without a ridge.

    Returns
    -------
    SolverResult
        `x` are the weights; `dual` is None.

    Examples
    --------
    >>> import numpy as np
    >>> from reweight.solvers.reference import divergence_reference
    >>> result = divergence_reference(np.array([[-1.0], [0.0], [2.0]]), np.ones(3))
    >>> bool(abs(result.x @ [-1.0, 0.0, 2.0]) < 1e-7)
    True
    """
    import cvxpy as cp

    n, m = C.shape
    q = base_weights / base_weights.sum()
    alpha = np.broadcast_to(np.asarray(alpha, dtype=float), (m,))
    tolerance = np.broadcast_to(np.asarray(tolerance, dtype=float), (m,))
    # The ratio to the base weight is of order one, which conic solvers like.
    ratio = cp.Variable(n)
    distance = {
        "kl": lambda: cp.sum(cp.multiply(q, cp.kl_div(ratio, 1.0))),
        "chi2": lambda: 0.5 * cp.sum(cp.multiply(q, cp.square(ratio - 1))),
        "chi2_signed": lambda: 0.5 * cp.sum(cp.multiply(q, cp.square(ratio - 1))),
        "el": lambda: cp.sum(cp.multiply(q, ratio - 1 - cp.log(ratio))),
    }[divergence]()
    means = (C * q[:, None]).T @ ratio
    ridge, hard = alpha > 0, alpha == 0
    objective = distance
    if ridge.any():
        objective = objective + cp.sum_squares(
            cp.multiply(1 / np.sqrt(2 * alpha[ridge]), means[np.flatnonzero(ridge)])
        )
    constraints = [q @ ratio == 1]
    if divergence != "chi2_signed":
        constraints.append(ratio >= 0)
    for j in np.flatnonzero(hard):
        if tolerance[j] > 0:
            constraints.append(cp.abs(means[j]) <= tolerance[j])
        else:
            constraints.append(means[j] == 0)
    problem = cp.Problem(cp.Minimize(objective), constraints)
    problem.solve(
        solver=cp.CLARABEL, tol_gap_abs=1e-11, tol_gap_rel=1e-11, tol_feas=1e-11, max_iter=500
    )
    return SolverResult(
        x=q * ratio.value,
        dual=None,
        objective=float(problem.value),
        optimality_gap=1e-11,
        certificate="duality_gap",
        n_iter=int(problem.solver_stats.num_iters),
        converged=problem.status == "optimal",
        solver="clarabel",
    )


def quadratic_reference(
    F: NDArray[np.float64],
    c: NDArray[np.float64],
    *,
    lower: NDArray[np.float64] | float = 0.0,
    upper: NDArray[np.float64] | float = np.inf,
    total: Any = 1.0,
    groups: NDArray | None = None,
    diagonal: NDArray[np.float64] | float = 0.0,
    equations: tuple[NDArray, Any, Any] | None = None,
) -> SolverResult:
    """The program of `lowrank_qp`, by Clarabel.

    Parameters
    ----------
    F : ndarray of shape (n, r)
        Factor of the quadratic form.
    c : ndarray of shape (n,)
        Linear term.
    lower, upper : float or ndarray of shape (n,), default=0 and inf
        Bounds.
    total : float, ndarray of shape (n_groups,) or tuple (low, high), default=1
        Group sums.
    groups : ndarray of shape (n,), default=None
        Group labels; None is one group.
    diagonal : float or ndarray of shape (n,), default=0
        Diagonal of the quadratic form.
    equations : tuple (A, low, high), default=None
        Further constraints low <= A w <= high.

    Returns
    -------
    SolverResult
        `x` are the weights; `dual` is None.

    Examples
    --------
    >>> import numpy as np
    >>> from reweight.solvers.reference import quadratic_reference
    >>> result = quadratic_reference(np.array([[-1.0], [3.0]]), np.zeros(2))
    >>> result.x.round(6)
    array([0.75, 0.25])
    """
    import cvxpy as cp

    n = len(c)
    lower, upper, diagonal = (
        np.broadcast_to(np.asarray(value, dtype=float), (n,)) for value in (lower, upper, diagonal)
    )
    w, p = cp.Variable(n), cp.Variable(F.shape[1])
    objective = 0.5 * cp.sum_squares(p) - c @ w
    if diagonal.any():
        objective = objective + 0.5 * cp.sum_squares(cp.multiply(np.sqrt(diagonal), w))
    constraints = [F.T @ w == p, w >= lower]
    capped = np.flatnonzero(np.isfinite(upper))
    if capped.size:
        constraints.append(w[capped] <= upper[capped])
    labels, codes = np.unique(np.zeros(n) if groups is None else groups, return_inverse=True)
    low, high = total if isinstance(total, tuple) else (total, total)
    low, high = np.broadcast_to(low, labels.shape), np.broadcast_to(high, labels.shape)
    for group in range(len(labels)):
        total_of_group = cp.sum(w[np.flatnonzero(codes == group)])
        constraints += [total_of_group >= low[group], total_of_group <= high[group]]
    if equations is not None:
        A, low, high = equations
        constraints += [A @ w >= low, A @ w <= high]
    problem = cp.Problem(cp.Minimize(objective), constraints)
    problem.solve(
        solver=cp.CLARABEL, tol_gap_abs=1e-12, tol_gap_rel=1e-12, tol_feas=1e-12, max_iter=500
    )
    return SolverResult(
        x=w.value,
        dual=None,
        objective=float(problem.value),
        optimality_gap=1e-12,
        certificate="duality_gap",
        n_iter=int(problem.solver_stats.num_iters),
        converged=problem.status == "optimal",
        solver="clarabel",
    )


def projection_reference(v: NDArray[np.float64], total: float = 1.0) -> NDArray[np.float64]:
    """The projection of one row onto the simplex, by Clarabel.

    Parameters
    ----------
    v : ndarray of shape (d,)
        Point to project.
    total : float, default=1
        Sum of the projection.

    Returns
    -------
    ndarray of shape (d,)

    Examples
    --------
    >>> import numpy as np
    >>> from reweight.solvers.reference import projection_reference
    >>> projection_reference(np.array([0.5, 0.75, -1.0])).round(6)
    array([0.375, 0.625, 0.   ])
    """
    import cvxpy as cp

    w = cp.Variable(len(v))
    problem = cp.Problem(cp.Minimize(cp.sum_squares(w - v)), [w >= 0, cp.sum(w) == total])
    problem.solve(solver=cp.CLARABEL, tol_gap_abs=1e-12, tol_gap_rel=1e-12, tol_feas=1e-12)
    return w.value

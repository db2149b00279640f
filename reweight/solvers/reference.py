"""The same programs in cvxpy: the slow, plain form that the fast solvers are held against."""

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

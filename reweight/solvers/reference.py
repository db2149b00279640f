"""The same programs in cvxpy: the slow, plain form that the fast solvers are held against."""

import warnings
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reweight.exceptions import InfeasibleError
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


def mean_matching_reference(
    K: NDArray[np.float64],
    *,
    lower: NDArray[np.float64],
    upper: NDArray[np.float64],
    n_source: int,
    radius: float | None = None,
    mean_tolerance: float = np.inf,
    diagonal: NDArray[np.float64] | float = 0.0,
) -> SolverResult:
    """Kernel mean matching of two weighted samples, by Clarabel.

    Parameters
    ----------
    K : ndarray of shape (n + t, n + t)
        Kernel of the source rows and the target rows.
    lower, upper : ndarray of shape (n + t,)
        Bounds of the shares, the weights divided by the size of their sample.
    n_source : int
        Number of source rows.
    radius : float, default=None
        Largest norm of 1/t minus the target shares.
    mean_tolerance : float, default=inf
        Largest difference of the sums of both samples' shares.
    diagonal : float or ndarray of shape (n + t,), default=0
        Ridge on the shares.

    Returns
    -------
    SolverResult
        `x` are the shares; `dual` is None.

    Examples
    --------
    >>> import numpy as np
    >>> from reweight.solvers.reference import mean_matching_reference
    >>> K = np.array([[1.0, 0.5], [0.5, 1.0]])
    >>> result = mean_matching_reference(
    ...     K, lower=np.array([0.0, 1.0]), upper=np.array([9.0, 1.0]), n_source=1
    ... )
    >>> result.x.round(4)
    array([0.5, 1. ])
    """
    import cvxpy as cp

    n = len(K)
    # The factor form, because a kernel matrix fails the test for convexity by round-off.
    values, vectors = np.linalg.eigh(0.5 * (K + K.T))
    kept = values > 1e-13 * values[-1]
    signs = np.repeat([1.0, -1.0], [n_source, n - n_source])
    factor = (vectors[:, kept] * np.sqrt(values[kept])).T * signs
    x = cp.Variable(n)
    # Clarabel's tolerances are absolute; on this scale they bite.
    residual = 1e3 * (factor @ x)
    objective = cp.sum_squares(residual)
    diagonal = np.broadcast_to(np.asarray(diagonal, dtype=float), (n,))
    if diagonal.any():
        objective = objective + cp.sum_squares(cp.multiply(1e3 * np.sqrt(diagonal), x))
    constraints = [x >= lower, x <= upper]
    if radius is not None:
        constraints.append(cp.norm(1.0 / (n - n_source) - x[n_source:], 2) <= radius)
    if np.isfinite(mean_tolerance):
        constraints.append(cp.abs(signs @ x) <= mean_tolerance)
    problem = cp.Problem(cp.Minimize(objective), constraints)
    with warnings.catch_warnings():
        # Short of these tolerances the status says so, and the caller certifies what came out.
        warnings.filterwarnings("ignore", "Solution may be inaccurate")
        problem.solve(
            solver=cp.CLARABEL, tol_gap_abs=1e-11, tol_gap_rel=1e-11, tol_feas=1e-11, max_iter=500
        )
    return SolverResult(
        x=np.clip(x.value, lower, upper),
        dual=None,
        objective=float(problem.value) * 1e-6,
        optimality_gap=1e-11,
        certificate="duality_gap",
        n_iter=int(problem.solver_stats.num_iters),
        converged=problem.status == "optimal",
        solver="clarabel",
    )


def mixture_reference(A: NDArray[np.float64], w: NDArray[np.float64]) -> SolverResult:
    """The program of `mixture_proportions` on the exponential cone, by Clarabel.

    Parameters
    ----------
    A : ndarray of shape (n, k)
        Density of each component at each observation.
    w : ndarray of shape (n,)
        Weights of the observations, summing to one.

    Returns
    -------
    SolverResult
        `x` are the proportions; `dual` is None.

    Examples
    --------
    >>> import numpy as np
    >>> from reweight.solvers.reference import mixture_reference
    >>> mixture_reference(np.eye(2), np.array([0.75, 0.25])).x.round(4)
    array([0.75, 0.25])
    """
    import cvxpy as cp

    # Scaling rows moves the objective by a constant and keeps the cone well conditioned.
    scale = A.max(axis=1)
    q = cp.Variable(A.shape[1])
    likelihood = w @ cp.log((A / scale[:, None]) @ q)
    problem = cp.Problem(cp.Maximize(likelihood), [q >= 0, cp.sum(q) == 1])
    problem.solve(
        solver=cp.CLARABEL, tol_gap_abs=1e-12, tol_gap_rel=1e-12, tol_feas=1e-12, max_iter=500
    )
    return SolverResult(
        x=q.value,
        dual=None,
        objective=float(problem.value) + float(w @ np.log(scale)),
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


def minimax_reference(
    features: NDArray[np.float64],
    tau: NDArray[np.float64],
    bounds: NDArray[np.float64],
    *,
    loss: str = "0-1",
    row_weight: NDArray[np.float64] | None = None,
) -> SolverResult:
    """The learning problem of a minimax risk classifier, by Clarabel.

    Parameters
    ----------
    features : ndarray of shape (t, q)
        Features of the target rows times their target weights.
    tau : ndarray of shape (C, q)
        Weighted means of the source features of each class.
    bounds : ndarray of shape (C, q)
        Confidence bounds.
    loss : {"0-1", "log"}, default="0-1"
        Loss; for "0-1" all 2^C - 1 sets of classes are written out.
    row_weight : ndarray of shape (t,), default=None
        Weights of the target rows, summing to one; None is equal ones.

    Returns
    -------
    SolverResult
        `x` are the coefficients of shape (C, q); `dual` is None.

    Examples
    --------
    >>> import numpy as np
    >>> from reweight.solvers.reference import minimax_reference
    >>> X = np.array([[-1.0], [1.0]])
    >>> result = minimax_reference(X, np.array([[-0.4], [0.4]]), np.full((2, 1), 0.1))
    >>> round(result.objective, 4)
    0.2
    """
    from itertools import product

    import cvxpy as cp

    C, q = tau.shape
    w = np.full(len(features), 1 / len(features)) if row_weight is None else row_weight
    M = cp.Variable((C, q))
    scores = features @ M.T
    if loss == "log":
        values = cp.log_sum_exp(scores, axis=1)
    else:
        subsets = np.array([s for s in product([0, 1], repeat=C) if any(s)], dtype=float)
        sizes = subsets.sum(axis=1)
        means = scores @ (subsets / sizes[:, None]).T
        values = cp.max(means + (1 - 1 / sizes)[None, :], axis=1)
    objective = w @ values - cp.sum(cp.multiply(tau, M)) + cp.sum(cp.multiply(bounds, cp.abs(M)))
    problem = cp.Problem(cp.Minimize(objective))
    problem.solve(
        solver=cp.CLARABEL, tol_gap_abs=1e-10, tol_gap_rel=1e-10, tol_feas=1e-10, max_iter=500
    )
    return SolverResult(
        x=M.value,
        dual=None,
        objective=float(problem.value),
        optimality_gap=1e-10,
        certificate="duality_gap",
        n_iter=int(problem.solver_stats.num_iters),
        converged=problem.status == "optimal",
        solver="clarabel",
    )


def feasible_confidence_reference(
    features: NDArray[np.float64],
    tau: NDArray[np.float64],
    row_weight: NDArray[np.float64] | None = None,
) -> NDArray[np.float64]:
    """The residual of least norm among those of least absolute sum, in two stages by Clarabel.

    Parameters
    ----------
    features : ndarray of shape (t, q)
        Features of the target rows times their target weights.
    tau : ndarray of shape (C, q)
        Weighted means of the source features of each class.
    row_weight : ndarray of shape (t,), default=None
        Weights of the target rows, summing to one; None is equal ones.

    Returns
    -------
    ndarray of shape (C, q)
        `tau` less the moments of the class probabilities that come nearest to it.

    Examples
    --------
    >>> import numpy as np
    >>> from reweight.solvers.reference import feasible_confidence_reference
    >>> X = np.array([[-1.0], [1.0]])
    >>> feasible_confidence_reference(X, np.array([[-0.9], [0.5]])).round(5)
    array([[-0.4],
           [ 0. ]])
    """
    import cvxpy as cp

    w = np.full(len(features), 1 / len(features)) if row_weight is None else row_weight
    P = cp.Variable((len(features), len(tau)), nonneg=True)
    residual = tau - P.T @ (features * w[:, None])
    sums = [cp.sum(P, axis=1) == 1]
    options = {"tol_gap_abs": 1e-11, "tol_gap_rel": 1e-11, "tol_feas": 1e-11}
    first = cp.Problem(cp.Minimize(cp.sum(cp.abs(residual))), sums)
    first.solve(solver=cp.CLARABEL, **options)
    budget = first.value * (1 + 1e-7) + 1e-10
    second = cp.Problem(
        cp.Minimize(cp.sum_squares(residual)), [*sums, cp.sum(cp.abs(residual)) <= budget]
    )
    second.solve(solver=cp.CLARABEL, **options)
    return residual.value


def pinball_reference(
    E: NDArray[np.float64],
    lower_slope: NDArray[np.float64],
    upper_slope: NDArray[np.float64],
    *,
    alpha: float = 0.0,
    center: NDArray[np.float64] | None = None,
    offset: NDArray[np.float64] | None = None,
    nonnegative: bool = True,
    unit_sum: bool = True,
) -> SolverResult:
    """The program of `simplex_pinball` as it is written, by Clarabel.

    Parameters
    ----------
    E : ndarray of shape (N, d)
        Residual of each row under each column alone.
    lower_slope, upper_slope : ndarray of shape (N,)
        Slopes of the loss left and right of zero.
    alpha : float, default=0
        Ridge.
    center : ndarray of shape (d,), default=None
        Its centre; None is equal weights.
    offset : ndarray of shape (N,), default=None
        Residual at weights of zero; None is zero.
    nonnegative : bool, default=True
        Whether weights must not be negative.
    unit_sum : bool, default=True
        Whether they must sum to one.

    Returns
    -------
    SolverResult
        `x` are the weights; `dual` is None.

    Examples
    --------
    >>> import numpy as np
    >>> from reweight.solvers.reference import pinball_reference
    >>> E = np.array([[1.0, -1.0], [2.0, -2.0], [-1.0, 3.0]])
    >>> pinball_reference(E, np.full(3, -0.5), np.full(3, 0.5)).x.round(6)
    array([0.5, 0.5])
    """
    import cvxpy as cp

    d = E.shape[1]
    w = cp.Variable(d)
    residual = E @ w if offset is None else offset + E @ w
    loss = cp.sum(upper_slope @ cp.pos(residual) - lower_slope @ cp.neg(residual))
    if alpha > 0:
        middle = np.full(d, 1.0 / d) if center is None else center
        loss = loss + 0.5 * alpha * cp.sum_squares(w - middle)
    constraints = [w >= 0] if nonnegative else []
    if unit_sum:
        constraints.append(cp.sum(w) == 1)
    problem = cp.Problem(cp.Minimize(loss), constraints)
    problem.solve(
        solver=cp.CLARABEL, tol_gap_abs=1e-11, tol_gap_rel=1e-11, tol_feas=1e-11, max_iter=500
    )
    return SolverResult(
        x=w.value,
        dual=None,
        objective=float(problem.value),
        optimality_gap=1e-11,
        certificate="duality_gap",
        n_iter=int(problem.solver_stats.num_iters),
        converged=problem.status == "optimal",
        solver="clarabel",
    )


def crossing_reference(program: Any, *, alpha: float = 0.0) -> SolverResult:
    """A `CrossingProgram` as it is written, by Clarabel; it also takes a ridge.

    Parameters
    ----------
    program : CrossingProgram
        What to solve.
    alpha : float, default=0
        Ridge towards equal weights in every group, on the scale of the sum of
        losses.

    Returns
    -------
    SolverResult
        `x` is a tuple of weights (p, n_groups) and intercepts (n_groups,);
        `dual` is None.

    Examples
    --------
    >>> import numpy as np
    >>> from reweight.solvers.crossing_pinball import CrossingProgram
    >>> from reweight.solvers.reference import crossing_reference
    >>> program = CrossingProgram(
    ...     np.array([[[0.0, 1.0], [2.0, 3.0]]]),
    ...     np.array([1.0]),
    ...     np.array([0.4, 0.6]),
    ...     np.ones(1),
    ...     np.arange(2),
    ...     np.inf,
    ...     np.zeros(1),
    ... )
    >>> bool(crossing_reference(program).objective < 1e-6)
    True
    """
    import cvxpy as cp

    _, p, m = program.Q.shape
    n_groups = int(program.groups.max()) + 1
    w = cp.Variable((p, n_groups))
    b = cp.Variable(n_groups)
    c, groups = program.weights, program.groups
    fitted = [program.Q[:, :, k] @ w[:, groups[k]] + b[groups[k]] for k in range(m)]
    loss = 0.0
    for k, tau in enumerate(program.quantiles):
        residual = program.y - fitted[k]
        loss = loss + c @ (tau * cp.pos(residual) + (1 - tau) * cp.neg(residual))
    constraints = [] if program.fit_intercept else [b == 0]
    for k in range(m - 1):
        crossing = fitted[k] - fitted[k + 1] + program.margins[k]
        if np.isfinite(program.crossing_price):
            loss = loss + program.crossing_price * (c @ cp.pos(crossing))
        else:
            constraints.append(crossing <= 0)
    if alpha > 0:
        loss = loss + 0.5 * alpha * cp.sum_squares(w - 1.0 / p)
    if program.nonnegative:
        constraints.append(w >= 0)
    if program.unit_sum:
        constraints.append(cp.sum(w, axis=0) == 1)
    problem = cp.Problem(cp.Minimize(loss), constraints)
    problem.solve(
        solver=cp.CLARABEL, tol_gap_abs=1e-10, tol_gap_rel=1e-10, tol_feas=1e-10, max_iter=500
    )
    if w.value is None:
        raise InfeasibleError(
            f"crossing_reference: no weights found, {problem.status}; sort the quantiles of the "
            "models first, lower the margin, or price crossings"
        )
    return SolverResult(
        x=(w.value, b.value),
        dual=None,
        objective=float(problem.value),
        optimality_gap=1e-10,
        certificate="duality_gap",
        n_iter=int(problem.solver_stats.num_iters),
        converged=problem.status == "optimal",
        solver="clarabel",
    )


def cumulative_logit_reference(
    X: NDArray[np.float64],
    codes: NDArray[np.intp],
    w: NDArray[np.float64],
    *,
    l1: NDArray[np.float64],
    l2: NDArray[np.float64],
) -> SolverResult:
    """The penalised cumulative logit model in its convex form, by Clarabel.

    Parameters
    ----------
    X : ndarray of shape (n, p)
        Features.
    codes : ndarray of int of shape (n,)
        Levels from 0 to K - 1.
    w : ndarray of shape (n,)
        Weights of the rows, summing to one.
    l1, l2 : ndarray of shape (K - 1, p + 1)
        Weights of the absolute values and half the squares of intercepts (column
        0), slopes of the first boundary, and differences of slopes.

    Returns
    -------
    SolverResult
        `x` has the shape of `l1`; `dual` is None.

    Examples
    --------
    >>> import numpy as np
    >>> from reweight.solvers.reference import cumulative_logit_reference
    >>> free = np.zeros((2, 2))
    >>> fit = cumulative_logit_reference(
    ...     np.zeros((3, 1)), np.arange(3), np.ones(3) / 3, l1=free, l2=free
    ... )
    >>> fit.x[:, 0].round(3)
    array([-0.693,  0.693])
    """
    import cvxpy as cp

    n_boundaries = len(l1)
    theta = cp.Variable(l1.shape)
    logits, slopes = [], np.zeros(X.shape[1])
    for k in range(n_boundaries):
        slopes = slopes + theta[k, 1:]
        logits.append(X @ slopes + theta[k, 0])
    loss = 0.0
    for level in range(n_boundaries + 1):
        rows = np.flatnonzero(codes == level)
        if level < n_boundaries:
            loss = loss + w[rows] @ cp.logistic(-logits[level][rows])
        if level > 0:
            loss = loss + w[rows] @ cp.logistic(logits[level - 1][rows])
        if 0 < level < n_boundaries:
            gap = logits[level][rows] - logits[level - 1][rows]
            loss = loss - w[rows] @ cp.log(1 - cp.exp(-gap))
    penalty = cp.sum(cp.multiply(l1, cp.abs(theta))) + 0.5 * cp.sum(
        cp.multiply(l2, cp.square(theta))
    )
    problem = cp.Problem(cp.Minimize(loss + penalty))
    with warnings.catch_warnings():
        # Short of these tolerances the status says so.
        warnings.filterwarnings("ignore", "Solution may be inaccurate")
        problem.solve(
            solver=cp.CLARABEL, tol_gap_abs=1e-11, tol_gap_rel=1e-11, tol_feas=1e-11, max_iter=500
        )
    return SolverResult(
        x=theta.value,
        dual=None,
        objective=float(problem.value),
        optimality_gap=1e-11,
        certificate="duality_gap",
        n_iter=int(problem.solver_stats.num_iters),
        converged=problem.status == "optimal",
        solver="clarabel",
    )

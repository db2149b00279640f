"""Proportions of a mixture of known components, by maximum likelihood."""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from reweight.kernels.chunks import row_slices
from reweight.solvers.dense_qp import dense_qp
from reweight.solvers.result import SolverResult

EM_STEPS = 30
ARMIJO = 1e-4
MAX_HALVINGS = 40
PROXIMAL = 1e-10
# Tolerance of the quadratic model, relative to its own size.
MODEL_TOLERANCE = 1e-10


def mixture_proportions(
    A: ArrayLike,
    *,
    weights: ArrayLike | None = None,
    x0: ArrayLike | None = None,
    tol: float = 1e-8,
    max_iter: int = 10_000,
) -> SolverResult:
    r"""Maximise the mean of log (A q)_i over the simplex of proportions q.

    Some steps of the EM algorithm, q <- q r with
    :math:`r_l = \sum_i w_i A_{il} / (Aq)_i`, then Newton steps: each solves the
    quadratic model on the simplex by active sets, which puts exact zeros where
    EM would take forever. Since :math:`r'q = 1`, concavity bounds the distance
    to the maximum by :math:`\max_l r_l - 1`.

    Parameters
    ----------
    A : array-like of shape (n, k)
        Non-negative density of each component at each observation.
    weights : array-like of shape (n,), default=None
        Non-negative weights of the observations on any scale; None weighs them
        equally.
    x0 : array-like of shape (k,), default=None
        Positive proportions close to the solution, from which Newton steps
        start at once; None starts from equal proportions by EM.
    tol : float, default=1e-8
        Gap in the mean log-likelihood at which to stop.
    max_iter : int, default=10000
        Largest number of steps of either kind.

    Returns
    -------
    SolverResult
        `x` are the proportions of shape (k,), `dual` is r - 1, `objective` the
        mean log-likelihood and `optimality_gap` its distance from the maximum
        at most, in its own units.

    Raises
    ------
    ValueError
        If entries are negative or not finite, shapes do not match, weights are
        all zero, or an observation has density zero under every component.

    References
    ----------
    Kim, Y., Carbonetto, P., Stephens, M., Anitescu, M. (2020). A fast algorithm
    for maximum likelihood estimation of mixture proportions using sequential
    quadratic programming. Journal of Computational and Graphical Statistics, 29(2).

    Examples
    --------
    >>> from reweight.solvers.mixture_proportions import mixture_proportions
    >>> mixture_proportions([[1.0, 0.0], [1.0, 0.0], [1.0, 0.0], [0.0, 1.0]]).x
    array([0.75, 0.25])
    """
    A, w, scale = _check(A, weights)
    # The mixture does not change when rows are scaled; then no row under- or overflows.
    shift = float(w @ np.log(scale))
    A = A / scale[:, None]
    q = np.full(A.shape[1], 1.0 / A.shape[1])
    if x0 is not None:
        q = _check_start(x0, A.shape[1])
    em_steps = EM_STEPS if x0 is None else 0
    n_iter, stuck = 0, False
    value, r = _evaluate(A, w, q)
    while r.max() - 1 > tol and n_iter < max_iter:
        n_iter += 1
        trial = None
        if n_iter > em_steps and not stuck:
            trial = _newton_step(A, w, q, value, r)
            stuck = trial is None
        if trial is None:
            trial = q * r
            trial /= trial.sum()
        q = trial
        value, r = _evaluate(A, w, q)
    gap = max(float(r.max() - 1), 0.0)
    return SolverResult(
        x=q,
        dual=r - 1,
        objective=value + shift,
        optimality_gap=gap,
        certificate="duality_gap",
        n_iter=n_iter,
        converged=bool(gap <= tol),
        solver="em" if n_iter <= em_steps else "em-newton",
    )


def _check(
    A: ArrayLike, weights: ArrayLike | None
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Observations of positive weight, their weights summing to one, and their row maxima."""
    A = np.asarray(A, dtype=np.float64)
    if A.ndim != 2 or 0 in A.shape:
        raise ValueError(f"mixture_proportions: A has shape {A.shape}; pass observations by rows")
    if not (A.min() >= 0 and np.isfinite(A.max())):
        bad = ~(np.isfinite(A) & (A >= 0))
        raise ValueError(
            f"mixture_proportions: A has {int(bad.sum())} entries that are negative or not "
            "finite; pass densities or probabilities"
        )
    w = np.ones(len(A)) if weights is None else np.asarray(weights, dtype=np.float64)
    if w.shape != (len(A),) or not (np.isfinite(w) & (w >= 0)).all() or not w.any():
        raise ValueError(
            f"mixture_proportions: weights must be {len(A)} finite, non-negative numbers that "
            "are not all zero"
        )
    kept = w > 0
    if not kept.all():
        A, w = A[kept], w[kept]
    w = w / w.sum()
    scale = _row_maxima(A)
    impossible = scale == 0
    if impossible.any():
        raise ValueError(
            f"mixture_proportions: {int(impossible.sum())} observations have density zero under "
            "every component, so no mixture explains them; drop them or widen the components"
        )
    return A, w, scale


def _row_maxima(A: NDArray) -> NDArray[np.float64]:
    """Largest entry of each row; of few columns, several times faster than by rows."""
    highest = np.empty(len(A))
    for rows in row_slices(len(A)):
        block = A[rows]
        if block.shape[1] > 64:
            highest[rows] = block.max(axis=1)
            continue
        part = block[:, 0].copy()
        for column in block.T[1:]:
            np.maximum(part, column, out=part)
        highest[rows] = part
    return highest


def _check_start(x0: ArrayLike, k: int) -> NDArray[np.float64]:
    """Proportions to start from, summing to one."""
    q = np.asarray(x0, dtype=np.float64)
    if q.shape != (k,) or not (np.isfinite(q) & (q > 0)).all():
        raise ValueError(
            f"mixture_proportions: x0 must be {k} finite, positive proportions, one for each "
            "column of A"
        )
    return q / q.sum()


def _evaluate(A: NDArray, w: NDArray, q: NDArray) -> tuple[float, NDArray[np.float64]]:
    """Mean log-likelihood and its gradient r."""
    mixture = A @ q
    return float(w @ np.log(mixture)), (w / mixture) @ A


def _newton_step(
    A: NDArray, w: NDArray, q: NDArray, value: float, r: NDArray
) -> NDArray[np.float64] | None:
    """The best point along the way to the optimum of the quadratic model; None if there is none."""
    hessian = _hessian(A, np.sqrt(w) / (A @ q))
    damping = PROXIMAL * float(np.trace(hessian)) / len(q)
    solved = dense_qp(
        hessian,
        hessian @ q + damping * q + r,
        total=1.0,
        diagonal=damping,
        tol=MODEL_TOLERANCE,
    )
    direction = np.maximum(solved.x, 0.0)
    direction = direction / direction.sum() - q
    slope = float(r @ direction)
    if not slope > 0:
        return None
    slack = 4 * np.finfo(float).eps * (1 + abs(value))
    size = 1.0
    for _ in range(MAX_HALVINGS):
        trial = np.maximum(q + size * direction, 0.0)
        mixture = A @ trial
        if mixture.min() > 0 and w @ np.log(mixture) >= value + ARMIJO * size * slope - slack:
            return trial / trial.sum()
        size *= 0.5
    return None


def _hessian(A: NDArray, root: NDArray) -> NDArray[np.float64]:
    """Minus the matrix of second derivatives, A' diag(root^2) A."""
    hessian = np.zeros((A.shape[1], A.shape[1]))
    for rows in row_slices(len(A)):
        block = A[rows] * root[rows, None]
        hessian += block.T @ block
    return hessian

"""Quadratic programs over weights whose Hessian is of low rank plus a diagonal."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.linalg import cho_solve

from reweight.kernels.chunks import row_slices
from reweight.solvers._interior_point import stable_cholesky
from reweight.solvers._qp_constraints import prepare_constraints
from reweight.solvers._qp_program import check_diagonal, solve_program
from reweight.solvers.result import SolverResult


@dataclass
class LowRankHessian:
    """Q = F F' + diag(diagonal).

    Parameters
    ----------
    F : ndarray of shape (n, r)
        Factor.
    diagonal : ndarray of shape (n,)
        Diagonal.
    """

    F: NDArray[np.float64]
    diagonal: NDArray[np.float64]

    @cached_property
    def roots(self) -> NDArray[np.float64]:
        """Square roots of the diagonal of Q."""
        return np.sqrt(np.einsum("ij,ij->i", self.F, self.F) + self.diagonal)

    def product(self, w: NDArray) -> NDArray:
        """Q w."""
        return self.F @ (w @ self.F) + self.diagonal * w

    def factorize(self, E: NDArray, A: NDArray, relaxation: NDArray) -> "_BorderedSystem":
        """Solver of [[Q + diag E, -A'], [A, diag relaxation]] (dw, dy) = (r, s)."""
        return _BorderedSystem(self.F, A, self.diagonal + E, relaxation)


class _BorderedSystem:
    """Newton system reduced to the r + k unknowns F'dw and dy.

    Keeping F'dw as an unknown, rather than inverting Q + E by the Woodbury
    formula, leaves a positive definite matrix and no cancellation when entries
    of E tend to zero.
    """

    def __init__(self, F: NDArray, A: NDArray, E: NDArray, relaxation: NDArray) -> None:
        self.F, self.A, self.E = F, A, E
        r, k = F.shape[1], len(A)
        gram = np.zeros((r + k, r + k))
        for rows in row_slices(len(F)):
            block = np.concatenate([F[rows], -A[:, rows].T], axis=1)
            block *= 1.0 / np.sqrt(E[rows])[:, None]
            gram += block.T @ block
        gram[np.diag_indices(r + k)] += np.r_[np.ones(r), relaxation]
        self.factor = stable_cholesky(gram)

    def __call__(self, right: NDArray, shift: NDArray) -> tuple[NDArray, NDArray]:
        r = self.F.shape[1]
        scaled = right / self.E
        reduced = np.r_[scaled @ self.F, shift - self.A @ scaled]
        unknown = cho_solve(self.factor, reduced, check_finite=False)
        dy = unknown[r:]
        return (right - self.F @ unknown[:r] + dy @ self.A) / self.E, dy


def lowrank_qp(
    F: ArrayLike,
    c: ArrayLike,
    *,
    lower: ArrayLike | float = 0.0,
    upper: ArrayLike | float = np.inf,
    total: Any = 1.0,
    groups: ArrayLike | None = None,
    diagonal: ArrayLike | float = 0.0,
    equations: tuple[ArrayLike, ArrayLike, ArrayLike] | None = None,
    tol: float = 1e-8,
    max_iter: int = 200,
) -> SolverResult:
    """Minimise 1/2 ||F'w||^2 + 1/2 sum diagonal w^2 - c'w over bounded weights with given sums.

    A primal-dual interior point method (Mehrotra's predictor and corrector) at
    a cost of n (r + k)^2 an iteration.

    Parameters
    ----------
    F : array-like of shape (n, r)
        Factor of the quadratic form.
    c : array-like of shape (n,)
        Linear term.
    lower : float or array-like of shape (n,), default=0
        Lower bounds.
    upper : float or array-like of shape (n,), default=inf
        Upper bounds; a row with lower == upper is fixed.
    total : float, array-like of shape (n_groups,) or tuple (low, high), default=1
        Sum of the weights of each group, in the order of the sorted labels; a
        tuple is a range, of numbers or of arrays.
    groups : array-like of shape (n,), default=None
        Group of each row; None is one group.
    diagonal : float or array-like of shape (n,), default=0
        Non-negative diagonal of the quadratic form.
    equations : tuple (A, low, high), default=None
        Further constraints low <= A w <= high with A of shape (k, n), for a
        few rows k without redundant equations.
    tol : float, default=1e-8
        Duality gap at which to stop, relative to 1/2 w'Qw + |c'w|.
    max_iter : int, default=200
        Largest number of Newton steps.

    Returns
    -------
    SolverResult
        `dual` holds the multipliers of the group sums, then those of
        `equations`. `optimality_gap` bounds the distance of `objective` from
        the minimum, relative to 1/2 w'Qw + |c'w|.

    Raises
    ------
    InfeasibleError
        If a group sum cannot be met within the bounds.
    ValueError
        If shapes are wrong or the diagonal is negative.

    References
    ----------
    Mehrotra, S. (1992). On the implementation of a primal-dual interior point
    method. SIAM Journal on Optimization, 2(4), 575-601.
    Fine, S., Scheinberg, K. (2001). Efficient SVM training using low-rank
    kernel representations. JMLR, 2, 243-264.

    Examples
    --------
    >>> import numpy as np
    >>> from reweight.solvers.lowrank_qp import lowrank_qp
    >>> F = np.array([[-1.0], [0.0], [3.0]])
    >>> result = lowrank_qp(F, np.zeros(3), diagonal=1e-6)
    >>> result.converged, float(abs(result.x @ F[:, 0])) < 1e-3
    (True, True)
    """
    F = np.ascontiguousarray(F, dtype=np.float64)
    c = np.asarray(c, dtype=np.float64)
    if F.ndim != 2 or c.shape != (len(F),):
        raise ValueError(f"lowrank_qp: F has shape {F.shape} and c {c.shape}; pass (n, r) and (n,)")
    diagonal = check_diagonal(diagonal, len(c), "lowrank_qp")
    constraints = prepare_constraints(
        len(c),
        lower=lower,
        upper=upper,
        total=total,
        groups=groups,
        equations=equations,
        name="lowrank_qp",
    )

    def restrict(free: NDArray[np.bool_]) -> LowRankHessian:
        if free.all():
            return LowRankHessian(F, diagonal)
        return LowRankHessian(F[free], diagonal[free])

    return solve_program(restrict, c, constraints, tol, max_iter, "interior-point-lowrank")

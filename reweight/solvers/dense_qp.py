"""Quadratic programs over weights with a dense Hessian, by active sets."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.linalg import cho_factor, cho_solve, lu_factor, lu_solve, solve_triangular

from reweight.solvers._interior_point import stable_cholesky
from reweight.solvers._qp_constraints import Constraints, prepare_constraints
from reweight.solvers._qp_program import (
    certified_result,
    check_diagonal,
    movable,
    solve_program,
)
from reweight.solvers.result import SolverResult

ROUNDS_WITHOUT_PROGRESS = 6
CHANGE_TOLERANCE = 1e-12


@dataclass
class DenseHessian:
    """Q = K + diag(diagonal).

    Parameters
    ----------
    K : ndarray of shape (n, n)
        Symmetric positive semidefinite matrix.
    diagonal : ndarray of shape (n,)
        Diagonal to add.
    """

    K: NDArray[np.float64]
    diagonal: NDArray[np.float64]

    @cached_property
    def roots(self) -> NDArray[np.float64]:
        """Square roots of the diagonal of Q."""
        return np.sqrt(np.maximum(np.einsum("ii->i", self.K) + self.diagonal, 0.0))

    def product(self, w: NDArray) -> NDArray:
        """Q w."""
        return self.K @ w + self.diagonal * w

    def factorize(self, E: NDArray, A: NDArray, relaxation: NDArray) -> "_SchurSystem":
        """Solver of [[Q + diag E, -A'], [A, diag relaxation]] (dw, dy) = (r, s)."""
        return _SchurSystem(self.K, self.diagonal + E, A, relaxation)


class _SchurSystem:
    """Newton system solved through the Schur complement of the equations."""

    def __init__(self, K: NDArray, E: NDArray, A: NDArray, relaxation: NDArray) -> None:
        # Rows of very different E are brought to a unit diagonal before the factorisation.
        matrix = K.copy()
        matrix[np.diag_indices(len(E))] += E
        self.scale = 1.0 / np.sqrt(np.diag(matrix))
        matrix *= self.scale[:, None]
        matrix *= self.scale
        self.A = A
        self.factor = stable_cholesky(matrix)
        self.columns = self._solve(A.T)
        self.schur = stable_cholesky(A @ self.columns + np.diag(relaxation))

    def _solve(self, right: NDArray) -> NDArray:
        scale = self.scale if right.ndim == 1 else self.scale[:, None]
        return scale * cho_solve(self.factor, scale * right, check_finite=False)

    def __call__(self, right: NDArray, shift: NDArray) -> tuple[NDArray, NDArray]:
        dw = self._solve(right)
        dy = cho_solve(self.schur, shift - self.A @ dw, check_finite=False)
        return dw + self.columns @ dy, dy


def dense_qp(
    K: ArrayLike,
    c: ArrayLike,
    *,
    lower: ArrayLike | float = 0.0,
    upper: ArrayLike | float = np.inf,
    total: Any = 1.0,
    groups: ArrayLike | None = None,
    diagonal: ArrayLike | float = 0.0,
    equations: tuple[ArrayLike, ArrayLike, ArrayLike] | None = None,
    tol: float = 1e-8,
    max_iter: int = 100,
) -> SolverResult:
    """Minimise 1/2 w'Kw + 1/2 sum diagonal w^2 - c'w over bounded weights with given sums.

    A primal-dual active set method: solve as if the active bounds were known,
    release those with a price of the wrong sign, hold the weights that left
    their bounds, and repeat. It ends at an exact solution after a handful of
    rounds; where it makes no progress the interior point method takes over.
    Meant for kernel matrices of a few thousand rows.

    Parameters
    ----------
    K : array-like of shape (n, n)
        Symmetric matrix, positive semidefinite on weights that keep the sums.
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
        Non-negative diagonal added to `K`.
    equations : tuple (A, low, high), default=None
        Further constraints low <= A w <= high with A of shape (k, n), without
        redundant equations.
    tol : float, default=1e-8
        Duality gap at which to stop, relative to 1/2 w'Qw + |c'w|.
    max_iter : int, default=100
        Largest number of rounds.

    Returns
    -------
    SolverResult
        `dual` holds the multipliers of the group sums, then those of
        `equations`. `optimality_gap` bounds the distance of `objective` from
        the minimum, relative to 1/2 w'Qw + |c'w|, and is computed with the
        whole matrix.

    Raises
    ------
    InfeasibleError
        If a group sum cannot be met within the bounds.
    ValueError
        If shapes are wrong or the diagonal is negative.

    References
    ----------
    Hintermueller, M., Ito, K., Kunisch, K. (2003). The primal-dual active set
    strategy as a semismooth Newton method. SIAM Journal on Optimization, 13(3).

    Examples
    --------
    >>> import numpy as np
    >>> from reweight.solvers.dense_qp import dense_qp
    >>> dense_qp(np.eye(3), np.array([1.0, 0.5, -1.0])).x
    array([0.75, 0.25, 0.  ])
    """
    K = np.ascontiguousarray(K, dtype=np.float64)
    c = np.asarray(c, dtype=np.float64)
    if c.ndim != 1 or K.shape != (len(c), len(c)):
        raise ValueError(f"dense_qp: K has shape {K.shape} and c {c.shape}; pass (n, n) and (n,)")
    hessian = DenseHessian(K, check_diagonal(diagonal, len(c), "dense_qp"))
    constraints = prepare_constraints(
        len(c),
        lower=lower,
        upper=upper,
        total=total,
        groups=groups,
        equations=equations,
        name="dense_qp",
    )
    try:
        result = _ActiveSets(hessian, c, constraints).run(tol, max_iter)
    except np.linalg.LinAlgError:
        result = None
    if result is not None and result.converged:
        return result

    def restrict(free: NDArray[np.bool_]) -> DenseHessian:
        if free.all():
            return hessian
        return DenseHessian(K[np.ix_(free, free)], hessian.diagonal[free])

    fallback = solve_program(restrict, c, constraints, tol, max_iter, "interior-point-dense")
    if result is None or fallback.optimality_gap <= result.optimality_gap:
        return fallback
    return result


class _ActiveSets:
    """Rounds of the active set method; states are -1 at the lower, 1 at the upper bound, 0 free."""

    def __init__(self, hessian: DenseHessian, c: NDArray, constraints: Constraints) -> None:
        self.hessian, self.c, self.constraints = hessian, c, constraints
        self.can_move, fixed = movable(constraints)
        # A held weight has one value, whichever of the two bounds it is.
        self.lower = np.where(self.can_move, constraints.lower, fixed)
        self.upper = np.where(self.can_move, constraints.upper, fixed)
        self.system = _ReducedSystem(hessian)
        self.equality = constraints.low == constraints.high
        # Equations without a movable weight hold by themselves.
        self.live = np.abs(constraints.A[:, self.can_move]).max(axis=1, initial=0.0) > 0

    def run(self, tol: float, max_iter: int) -> SolverResult | None:
        state = np.where(self.can_move, 0, -1)
        held = np.where(self.equality, -1, 0)
        fewest, stalled = np.inf, 0
        for n_iter in range(1, max_iter + 1):
            w, y, price = self._solve(state, held)
            if not np.isfinite(w).all():
                return None
            new_state, new_held = self._next(w, y, price, state, held)
            wrong = int(np.sum(new_state != state) + np.sum(new_held != held))
            if wrong == 0:
                return self._result(w, y, n_iter, tol)
            if wrong <= 10:
                result = self._result(self._inside(w), y, n_iter, tol)
                if result.converged:
                    return result
            stalled = 0 if wrong < fewest else stalled + 1
            fewest = min(fewest, wrong)
            if stalled >= ROUNDS_WITHOUT_PROGRESS:
                return None
            state, held = new_state, new_held
        return None

    def _solve(self, state: NDArray, held: NDArray) -> tuple[NDArray, NDArray, NDArray]:
        """Weights, multipliers and prices of bounds when the active ones are as told."""
        A = self.constraints.A
        free = state == 0
        w = np.where(free, 0.0, np.where(state < 0, self.lower, self.upper))
        rows = np.flatnonzero((held != 0) & self.live)
        aim = np.where(held < 0, self.constraints.low, self.constraints.high)[rows]
        y = np.zeros(len(A))
        right = self.c - (self.hessian.product(w) if w.any() else 0.0)
        w[free], y[rows] = self.system.solve(free, right[free], A[rows], aim - A[rows] @ w)
        price = self.hessian.product(w) - self.c - y @ A
        return w, y, price

    def _next(self, w, y, price, state, held) -> tuple[NDArray, NDArray]:
        slack = CHANGE_TOLERANCE * max(float(np.abs(w).max()), np.finfo(float).tiny)
        size = CHANGE_TOLERANCE * float(np.abs(self.c).max() + np.abs(price).max())
        new = state.copy()
        new[(state < 0) & (price < -size) & self.can_move] = 0
        new[(state > 0) & (price > size) & self.can_move] = 0
        new[(state == 0) & (w < self.lower - slack)] = -1
        new[(state == 0) & (w > self.upper + slack)] = 1
        value = self.constraints.A @ w
        new_held = held.copy()
        ranged = ~self.equality
        new_held[ranged & (held < 0) & (y < 0)] = 0
        new_held[ranged & (held > 0) & (y > 0)] = 0
        width = CHANGE_TOLERANCE * (np.abs(self.constraints.A) @ np.abs(w))
        new_held[ranged & (held == 0) & (value < self.constraints.low - width)] = -1
        new_held[ranged & (held == 0) & (value > self.constraints.high + width)] = 1
        return new, new_held

    def _inside(self, w: NDArray) -> NDArray[np.float64]:
        """The weights within their bounds, group sums restored."""
        codes, k = self.constraints.codes, self.constraints.n_groups
        clipped = np.clip(w, self.lower, self.upper)
        missing = np.bincount(codes, w - clipped, k)
        room = np.where(missing[codes] > 0, self.upper - clipped, clipped - self.lower)
        room = np.where(np.isfinite(room), room, clipped - self.lower)
        share = missing / np.maximum(np.bincount(codes, room, k), np.finfo(float).tiny)
        return np.clip(clipped + share[codes] * room, self.lower, self.upper)

    def _result(self, w: NDArray, y: NDArray, n_iter: int, tol: float) -> SolverResult:
        w = np.clip(w, self.lower, self.upper)
        return certified_result(
            self.hessian, self.c, self.constraints, w, y, n_iter, tol, "active-set"
        )


class _ReducedSystem:
    """Solves with the rows and columns of Q that are free, reusing the last Cholesky factor.

    A set that differs little from the one that was factorised is reached by
    bordering: rows that left are held by a multiplier, rows that came are
    appended. Beyond the point where that costs more, the set is factorised.
    """

    def __init__(self, hessian: DenseHessian) -> None:
        self.hessian = hessian
        self.base: NDArray[np.intp] | None = None

    def solve(self, free: NDArray, right: NDArray, A: NDArray, aim: NDArray):
        """(w, y) with Q w - A'y = right on the free rows and A w = aim."""
        index = np.flatnonzero(free)
        block = A[:, index]
        solved = self._solve(index, np.column_stack([right, block.T]))
        if len(A) == 0:
            return solved[:, 0], np.zeros(0)
        y = np.linalg.solve(block @ solved[:, 1:], aim - block @ solved[:, 0])
        return solved[:, 0] + solved[:, 1:] @ y, y

    def _solve(self, index: NDArray, right: NDArray) -> NDArray:
        if self.base is None or not self._bordering_pays(index):
            self._factorize(index)
        half = np.zeros((len(self.base), right.shape[1]))
        position = self.position[index]
        stayed, came = position >= 0, index[position < 0]
        half[position[stayed]] = right[stayed]
        half = self._half(half)
        gone = np.setdiff1d(self.base, index, assume_unique=True)
        if not (len(gone) or len(came)):
            return self._back(half)[position]
        U, corner, rest = self._border(gone, came, right[~stayed])
        multiplier = lu_solve(lu_factor(corner - U.T @ U), rest - U.T @ half)
        inner = self._back(half - U @ multiplier)
        solution = np.empty_like(right)
        solution[stayed] = inner[position[stayed]]
        solution[~stayed] = multiplier[len(gone) :]
        return solution

    def _border(self, gone: NDArray, came: NDArray, right: NDArray):
        """Half-solved border columns, their corner and their right side."""
        self._cache(gone, self.gone_columns, self._unit_columns)
        self._cache(came, self.came_columns, self._matrix_columns)
        columns = [self.gone_columns[i] for i in gone] + [self.came_columns[i] for i in came]
        U = np.column_stack(columns)
        q = len(gone)
        corner = np.zeros((len(columns), len(columns)))
        corner[q:, q:] = self.hessian.K[np.ix_(came, came)] + np.diag(self.hessian.diagonal[came])
        return U, corner, np.concatenate([np.zeros((q, right.shape[1])), right])

    def _cache(self, wanted: NDArray, store: dict, build) -> None:
        new = [i for i in wanted if i not in store]
        if new:
            solved = self._half(build(np.array(new)))
            store.update(zip(new, solved.T, strict=True))

    def _unit_columns(self, rows: NDArray) -> NDArray:
        columns = np.zeros((len(self.base), len(rows)))
        columns[self.position[rows], np.arange(len(rows))] = 1.0
        return columns

    def _matrix_columns(self, rows: NDArray) -> NDArray:
        return self.hessian.K[np.ix_(self.base, rows)]

    def _bordering_pays(self, index: NDArray) -> bool:
        k, b = len(index), len(self.base)
        gone = np.setdiff1d(self.base, index, assume_unique=True)
        came = np.setdiff1d(index, self.base, assume_unique=True)
        new = sum(i not in self.gone_columns for i in gone)
        new += sum(i not in self.came_columns for i in came)
        border = len(gone) + len(came)
        return b * b * new + 2 * b * border**2 + border**3 < k**3 / 3

    def _factorize(self, index: NDArray) -> None:
        matrix = self.hessian.K[np.ix_(index, index)]
        matrix[np.diag_indices(len(index))] += self.hessian.diagonal[index]
        # The transpose of a symmetric matrix is itself, and in the order that LAPACK reads.
        self.factor = cho_factor(matrix.T, lower=True, overwrite_a=True, check_finite=False)[0]
        self.base = index
        self.position = np.full(len(self.hessian.K), -1)
        self.position[index] = np.arange(len(index))
        self.gone_columns: dict[int, NDArray] = {}
        self.came_columns: dict[int, NDArray] = {}

    def _half(self, right: NDArray) -> NDArray:
        return solve_triangular(self.factor, right, lower=True, check_finite=False)

    def _back(self, half: NDArray) -> NDArray:
        return solve_triangular(self.factor, half, lower=True, trans=1, check_finite=False)

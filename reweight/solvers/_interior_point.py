"""Mehrotra's predictor-corrector method for convex quadratic programs over weights.

The program is min 1/2 w'Qw - c'w over lower <= w <= upper with the group sums and
a few further linear constraints in ranges. Q enters only through products and
through the solution of (Q + diag E) systems, so that a low-rank and a dense Q
share everything else.
"""

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_factor, cho_solve

from reweight.solvers._qp_constraints import Constraints, interior_start

STEP_TO_BOUNDARY = 0.995
CENTRALITY_CORRECTORS = 3
EPS = float(np.finfo(float).eps)
# Far below any weight, yet its inverse times any price stays finite.
TINY = 1e-200
ROUND_OFF = 64 * EPS
SIZE_FLOOR = 1e-8
COMPLEMENTARITY_FLOOR = 1e-4
STALLED = 0.95
PATIENCE = 10


class Hessian(Protocol):
    """What the method asks of Q."""

    def product(self, w: NDArray) -> NDArray:
        """Q w."""

    @property
    def roots(self) -> NDArray:
        """Square roots of the diagonal of Q."""

    def factorize(self, E: NDArray, A: NDArray, relaxation: NDArray) -> Any:
        """Solver of [[Q + diag E, -A'], [A, diag relaxation]] (dw, dy) = (r, s)."""


@dataclass
class InteriorPoint:
    """Iterate of the interior point method, and what it took.

    Parameters
    ----------
    w : ndarray of shape (n,)
        Weights.
    y : ndarray of shape (k,)
        Multipliers of the linear constraints.
    lower_price, upper_price : ndarray of shape (n,)
        Multipliers of the bounds.
    n_iter : int
        Newton steps taken.
    """

    w: NDArray[np.float64]
    y: NDArray[np.float64]
    lower_price: NDArray[np.float64]
    upper_price: NDArray[np.float64]
    n_iter: int


def interior_point(
    hessian: Hessian, c: NDArray, constraints: Constraints, *, tol: float, max_iter: int
) -> InteriorPoint:
    """Solve the program; every weight needs room between its bounds.

    Parameters
    ----------
    hessian : Hessian
        Q.
    c : ndarray of shape (n,)
        Linear term.
    constraints : Constraints
        Bounds with lower < upper, and linear constraints.
    tol : float
        Stop when complementarity and the residuals fall below `tol` relative
        to the size of the terms of the objective.
    max_iter : int
        Largest number of Newton steps.

    Returns
    -------
    InteriorPoint
    """
    return _Iteration(hessian, c, constraints).run(tol, max_iter)


class _Iteration:
    """State of the method; the weights and the slacks of ranges share one vector `x`."""

    def __init__(self, hessian: Hessian, c: NDArray, constraints: Constraints) -> None:
        self.hessian, self.c, self.A = hessian, c, constraints.A
        self.n = len(c)
        self.ranged = np.flatnonzero(constraints.low < constraints.high)
        self.rhs = np.where(constraints.low < constraints.high, 0.0, constraints.low)
        w = interior_start(constraints)
        low, high = constraints.low[self.ranged], constraints.high[self.ranged]
        value = self.A[self.ranged] @ w
        inside = np.clip(value, low + 0.1 * (high - low), high - 0.1 * (high - low))
        self.x = np.r_[w, inside]
        self.lower = np.r_[constraints.lower, low]
        self.upper = np.r_[constraints.upper, high]
        self.capped = np.isfinite(self.upper)
        self.least_l = np.maximum(EPS * np.abs(self.lower), TINY)
        self.least_u = np.maximum(EPS * np.abs(np.where(self.capped, self.upper, 1.0)), TINY)
        self._start_dual(constraints)

    def _start_dual(self, constraints: Constraints) -> None:
        gradient = self._gradient()
        self.y = np.zeros(len(self.A))
        k = constraints.n_groups
        counts = np.maximum(np.bincount(constraints.codes, minlength=k), 1)
        self.y[:k] = np.bincount(constraints.codes, gradient, k) / counts
        price = np.r_[gradient - self.y @ self.A, self.y[self.ranged]]
        size = max(float(np.abs(price).mean()), ROUND_OFF * float(np.abs(gradient).max()))
        size = max(size, TINY)
        room = self._room()
        typical = float(np.median(room[0][: self.n]))
        self.zl = np.maximum(price, 0.0) + size * np.minimum(typical / room[0], 1e3)
        self.zu = np.where(
            self.capped, np.maximum(-price, 0.0) + size * np.minimum(typical / room[1], 1e3), 0.0
        )

    def _room(self) -> tuple[NDArray, NDArray]:
        """Distances to the bounds, which rounding must not take to zero."""
        return (
            np.maximum(self.x - self.lower, self.least_l),
            np.where(self.capped, np.maximum(self.upper - self.x, self.least_u), 1.0),
        )

    def _gradient(self) -> NDArray:
        w = self.x[: self.n]
        return self.hessian.product(w) - self.c

    def _dual_residual(self, gradient: NDArray) -> NDArray:
        stationary = np.r_[gradient - self.y @ self.A, self.y[self.ranged]]
        return -(stationary - self.zl + self.zu)

    def _primal_residual(self) -> NDArray:
        value = self.rhs - self.A @ self.x[: self.n]
        value[self.ranged] += self.x[self.n :]
        return value

    def run(self, tol: float, max_iter: int) -> InteriorPoint:
        n_iter, stalled, best = 0, 0, np.inf
        point = self._point(0)
        pairs = len(self.x) + int(self.capped.sum())
        while True:
            gradient = self._gradient()
            dual, primal = self._dual_residual(gradient), self._primal_residual()
            room_l, room_u = self._room()
            complementarity = float(self.zl @ room_l + self.zu @ room_u)
            size, floor = objective_size(self.hessian, self.x[: self.n], gradient + self.c, self.c)
            residual = float(np.abs(dual) @ np.abs(self.x) + np.abs(primal) @ np.abs(self.y))
            # Below round-off a residual says nothing, and complementarity goes on falling.
            error = complementarity + (residual if residual > floor else 0.0)
            stalled = 0 if error < STALLED * best else stalled + 1
            if error < best:
                best, point = error, self._point(n_iter)
            if error <= max(tol * size, COMPLEMENTARITY_FLOOR * floor) or n_iter == max_iter:
                return point
            if stalled >= PATIENCE or not np.isfinite(error):
                return point
            n_iter += 1
            self._step(dual, primal, room_l, room_u, complementarity / pairs)

    def _point(self, n_iter: int) -> InteriorPoint:
        n = self.n
        return InteriorPoint(self.x[:n], self.y, self.zl[:n], self.zu[:n], n_iter)

    def _step(self, dual, primal, room_l, room_u, mu) -> None:
        E = self.zl / room_l + self.zu / room_u
        slack_E = E[self.n :]
        # An equation without a free weight would leave a zero on the diagonal.
        relaxation = (~self.A.any(axis=1)).astype(float)
        relaxation[self.ranged] = 1.0 / slack_E
        system = self.hessian.factorize(E[: self.n], self.A, relaxation)

        def direction(target_l, target_u):
            right = dual + target_l / room_l - target_u / room_u
            shifted = primal.copy()
            shifted[self.ranged] += right[self.n :] / slack_E
            dw, dy = system(right[: self.n], shifted)
            dx = np.r_[dw, (right[self.n :] - dy[self.ranged]) / slack_E]
            return dx, dy, (target_l - self.zl * dx) / room_l, (target_u + self.zu * dx) / room_u

        product_l, product_u = self.zl * room_l, self.zu * room_u
        target_l, target_u = -product_l, -product_u
        dx, dy, dzl, dzu = direction(target_l, target_u)
        step = self._longest(dx, dzl, dzu, room_l, room_u)
        after = (self.zl + step * dzl) @ (room_l + step * dx)
        after += (self.zu + step * dzu) @ (room_u - step * dx * self.capped)
        center = mu * (max(after, 0.0) / (product_l + product_u).sum()) ** 3
        target_l = center - dx * dzl - product_l
        target_u = np.where(self.capped, center + dx * dzu - product_u, 0.0)
        best = direction(target_l, target_u)
        step = self._longest(best[0], best[2], best[3], room_l, room_u)
        for _ in range(CENTRALITY_CORRECTORS):
            if step >= 0.9:
                break
            dx, _, dzl, dzu = best
            aim = min(1.0, step + 0.3)
            extra_l = _centrality((self.zl + aim * dzl) * (room_l + aim * dx), center)
            extra_u = _centrality((self.zu + aim * dzu) * (room_u - aim * dx), center)
            target_l = target_l + extra_l
            target_u = np.where(self.capped, target_u + extra_u, 0.0)
            trial = direction(target_l, target_u)
            longer = self._longest(trial[0], trial[2], trial[3], room_l, room_u)
            if longer < step + 0.03:
                break
            best, step = trial, longer
        dx, dy, dzl, dzu = best
        step = min(1.0, STEP_TO_BOUNDARY * step)
        self.x = self.x + step * dx
        self.y = self.y + step * dy
        self.zl = self.zl + step * dzl
        self.zu = self.zu + step * dzu

    def _longest(self, dx, dzl, dzu, room_l, room_u) -> float:
        """Longest step, at most a full one, that keeps slacks and prices positive."""
        return min(
            1.0 / STEP_TO_BOUNDARY,
            _ratio(room_l, dx),
            _ratio(self.zl, dzl),
            _ratio(room_u[self.capped], -dx[self.capped]),
            _ratio(self.zu[self.capped], dzu[self.capped]),
        )


def objective_size(
    hessian: Hessian, w: NDArray, product: NDArray, c: NDArray
) -> tuple[float, float]:
    """Size that gaps are relative to, and the gap that round-off leaves.

    Parameters
    ----------
    hessian : Hessian
        Q.
    w : ndarray of shape (n,)
        Weights.
    product : ndarray of shape (n,)
        Q w.
    c : ndarray of shape (n,)
        Linear term.

    Returns
    -------
    size : float
        1/2 w'Qw + |c'w|, and where terms of Qw cancel at least 1e-8 of what
        they would add up to without.
    floor : float
        Round-off of the gap.
    """
    uncancelled = float(np.abs(w) @ hessian.roots) ** 2 + float(np.abs(c) @ np.abs(w))
    size = 0.5 * float(w @ product) + abs(float(c @ w)) + SIZE_FLOOR * uncancelled
    return size, ROUND_OFF * uncancelled


def _centrality(product: NDArray, center: float) -> NDArray:
    """Correction that takes complementarity products back towards the central path."""
    return np.maximum(np.clip(product, 0.1 * center, 10.0 * center) - product, -10.0 * center)


def _ratio(value: NDArray, change: NDArray) -> float:
    shrinking = change < 0
    if not shrinking.any():
        return np.inf
    return float((value[shrinking] / -change[shrinking]).min())


def solve_cholesky(matrix: NDArray, right: NDArray) -> NDArray:
    """Solve a positive definite system, damping the diagonal where it is not.

    Parameters
    ----------
    matrix : ndarray of shape (k, k)
        Symmetric matrix.
    right : ndarray of shape (k,) or (k, q)
        Right side.

    Returns
    -------
    ndarray of the shape of `right`
    """
    return cho_solve(stable_cholesky(matrix), right, check_finite=False)


def stable_cholesky(matrix: NDArray) -> tuple[NDArray, bool]:
    """Cholesky factor of a matrix, with the smallest damping that makes it definite.

    Parameters
    ----------
    matrix : ndarray of shape (k, k)
        Symmetric positive semidefinite matrix.

    Returns
    -------
    tuple
        What `scipy.linalg.cho_solve` takes.
    """
    diagonal = np.einsum("ii->i", matrix)
    scale = np.maximum(diagonal, TINY)
    damping = 0.0
    for _ in range(12):
        try:
            return cho_factor(matrix + np.diag(damping * scale), lower=True, check_finite=False)
        except np.linalg.LinAlgError:
            damping = max(100 * damping, 1e-16)
    raise np.linalg.LinAlgError("the Newton system is not positive definite")

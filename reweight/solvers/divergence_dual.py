r"""Weights of least divergence under mean constraints, by Newton's method on the dual.

Given rows c_i in R^m and base weights q_i > 0 that sum to one, find

    min_w  sum_i q_i h(w_i / q_i) + R(sum_i w_i c_i)   subject to  sum_i w_i = 1.

The dual is min over (nu, theta) of sum_i q_i h*(nu + c_i'theta) - nu + R*(theta),
and w_i = q_i (h*)'(nu + c_i'theta). R is separable; per column it is an exact
constraint (R* = 0), a box |.| <= tolerance (R* = tolerance |theta|) or a ridge
(.)^2 / (2 alpha) (R* = alpha theta^2 / 2).
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.linalg import qr
from scipy.linalg.lapack import dpstrf

from reweight.exceptions import InfeasibleError
from reweight.kernels.chunks import map_chunks, row_slices
from reweight.solvers._dual_sums import DIVERGENCES, Rows, conjugate
from reweight.solvers.damped_newton import newton_direction
from reweight.solvers.feasibility import smallest_excess
from reweight.solvers.result import SolverResult

ARMIJO = 1e-4
MAX_HALVINGS = 40
RANK_TOLERANCE = 1e-10
GRAM_RANK_TOLERANCE = 1e-6
SUSPICIOUS_PIVOT = 3e-5
LARGEST_DUAL = 1e3
FEASIBLE_EXCESS = 1e-9


def divergence_dual(
    C: ArrayLike | Sequence | Any,
    base_weights: ArrayLike | None,
    *,
    divergence: str = "kl",
    alpha: ArrayLike | float | None = None,
    tolerance: ArrayLike | float | None = None,
    center: ArrayLike | None = None,
    start: ArrayLike | None = None,
    tol: float = 1e-8,
    max_iter: int = 200,
    column_names: Sequence | None = None,
    n_jobs: int | None = None,
) -> SolverResult:
    """Weights of least divergence from base weights under mean constraints.

    Parameters
    ----------
    C : array-like of shape (N, m), sequence or callable
        Constraint rows; the weighted mean of each column is to be zero. For
        data larger than memory, chunks of `(C, base_weights)` as
        `reweight.kernels.chunks.map_chunks` takes them.
    base_weights : array-like of shape (N,) or None
        Base weights on any scale, zero for rows to leave out. None when `C` is
        chunks, whose base weights must sum to one over all chunks.
    divergence : {"kl", "chi2", "chi2_signed", "el"}, default="kl"
        "kl" is entropy, "chi2" half the squared distance with non-negative
        weights, "chi2_signed" the same without the sign constraint, "el"
        empirical likelihood.
    alpha : float or array-like of shape (m,), default=None
        Ridge per column; zero means that the column is not relaxed by a ridge.
    tolerance : float or array-like of shape (m,), default=None
        Box tolerance per column in the units of `C`; zero means exact.
    center : array-like of shape (m,), default=None
        Subtracted from every row of `C`, without a copy of `C`.
    start : array-like of shape (m + 1,), default=None
        Dual point to start from, such as the solution for a larger `alpha`;
        None is zero.
    tol : float, default=1e-8
        Largest residual of the optimality conditions, with every column in
        units of its root mean square.
    max_iter : int, default=200
        Largest number of Newton steps.
    column_names : sequence of length m, default=None
        What to call the columns in an error.
    n_jobs : int, default=None
        joblib workers over a sequence of chunks.

    Returns
    -------
    SolverResult
        `x` are the weights (sum one; None for chunks), `dual` is (nu, theta)
        in the units of `C`. Exact columns that earlier ones determine, to a
        relative 1e-10 in memory and 1e-6 in chunks, have theta zero.

    Raises
    ------
    InfeasibleError
        If no weights meet the constraints; names the worst column and the
        smallest uniform tolerance that is feasible, in the units of `C`.
    ValueError
        If a parameter is out of range.

    References
    ----------
    Hainmueller, J. (2012). Entropy balancing for causal effects. Political
    Analysis, 20(1), 25-46.
    Zubizarreta, J. (2015). Stable weights that balance covariates for
    estimation with incomplete outcome data. JASA, 110(511), 910-922.

    Examples
    --------
    >>> import numpy as np
    >>> from reweight.solvers.divergence_dual import divergence_dual
    >>> result = divergence_dual(np.array([[-1.0], [0.0], [2.0]]), np.ones(3))
    >>> float(abs(result.x @ [-1.0, 0.0, 2.0])) < 1e-10
    True
    """
    problem = _Problem(C, base_weights, divergence, alpha, tolerance, center, column_names, n_jobs)
    return problem.solve(tol, max_iter, start)


def dual_weights(
    C: NDArray[np.float64],
    base_weights: NDArray[np.float64],
    dual: NDArray[np.float64],
    divergence: str,
    *,
    center: NDArray[np.float64] | None = None,
) -> NDArray[np.float64]:
    """Weights q (h*)'(nu + c'theta) of rows at a dual point.

    Parameters
    ----------
    C : ndarray of shape (n, m)
        Rows.
    base_weights : ndarray of shape (n,)
        Base weights.
    dual : ndarray of shape (m + 1,)
        (nu, theta).
    divergence : str
        Name of the divergence.
    center : ndarray of shape (m,), default=None
        Subtracted from every row.

    Returns
    -------
    ndarray of shape (n,)

    Examples
    --------
    >>> import numpy as np
    >>> dual_weights(np.ones((2, 1)), np.array([0.4, 0.6]), np.zeros(2), "kl")
    array([0.4, 0.6])
    """
    weights = np.empty(len(C))
    for rows in row_slices(len(C)):
        block = C[rows] if center is None else C[rows] - center
        z = dual[0] + block @ dual[1:]
        z[base_weights[rows] == 0] = 0.0
        if divergence == "el":
            # Beyond the pole there is no weight; the largest finite one stands for it.
            z = np.minimum(z, 1.0 - 1e-12)
        weights[rows] = base_weights[rows] * conjugate(divergence, z)[1]
    return weights


class _Problem:
    """One dual problem: its rows, its relaxation, and Newton's method on it."""

    def __init__(self, C, base_weights, divergence, alpha, tolerance, center, column_names, n_jobs):
        if divergence not in DIVERGENCES:
            raise ValueError(
                f"divergence_dual: divergence {divergence!r} is unknown; choose one of "
                f"{list(DIVERGENCES)}"
            )
        if base_weights is not None:
            base_weights = np.asarray(base_weights, dtype=np.float64)
            if (base_weights < 0).any() or not base_weights.sum() > 0:
                raise ValueError(
                    "divergence_dual: base_weights must be non-negative with a positive sum; "
                    "leave rows out by a weight of zero"
                )
            base_weights = base_weights / base_weights.sum()
        center = None if center is None else np.asarray(center, dtype=np.float64)
        self.rows = Rows(C, base_weights, center, n_jobs)
        self.divergence = divergence
        self.profiled = divergence == "kl"
        m = self._count_columns()
        self.alpha = self._per_column(alpha, m, "alpha")
        self.tolerance = self._per_column(tolerance, m, "tolerance")
        if np.any((self.alpha > 0) & (self.tolerance > 0)):
            raise ValueError(
                "divergence_dual: a column has both alpha and tolerance; relax it by one of them"
            )
        self.names = list(range(m)) if column_names is None else list(column_names)
        self._prepare(m)

    def _count_columns(self) -> int:
        if self.rows.in_memory:
            return self.rows.C.shape[1]
        first = self.rows.C[:1] if isinstance(self.rows.C, Sequence) else self.rows.C
        return next(map_chunks(_width, first), 0)

    @staticmethod
    def _per_column(value: Any, m: int, name: str) -> NDArray[np.float64]:
        array = np.zeros(m) if value is None else np.asarray(value, dtype=np.float64)
        array = np.broadcast_to(array, (m,)).copy()
        if not np.all(array >= 0):
            raise ValueError(f"divergence_dual: {name} must be non-negative, got {array.min()}")
        return array

    def _prepare(self, m: int) -> None:
        """Scale columns by their root mean square and set redundant exact columns aside."""
        sums = self.rows.sums(np.zeros(m + 1), "chi2_signed")
        mean, second = sums.first[1:], sums.second[1:, 1:]
        scale = np.sqrt(np.diag(second))
        largest = scale.max(initial=0.0)
        self.scale = np.where(scale > RANK_TOLERANCE * largest, scale, max(largest, 1.0))
        exact = (self.alpha == 0) & (self.tolerance == 0)
        self.kept = np.ones(m, dtype=bool)
        if exact.any():
            correlation = (second - np.outer(mean, mean)) / np.outer(self.scale, self.scale)
            self._drop_redundant(np.flatnonzero(exact), correlation, mean / self.scale)

    def _drop_redundant(self, exact: NDArray[np.intp], correlation: NDArray, mean: NDArray) -> None:
        """Drop exact columns that earlier ones determine; a constant remainder is infeasible."""
        root, smallest = _cholesky_root(correlation[np.ix_(exact, exact)])
        precision = GRAM_RANK_TOLERANCE
        if self.rows.in_memory and smallest < SUSPICIOUS_PIVOT:
            root, precision = self._data_root(exact), RANK_TOLERANCE
        kept = _independent_columns(root, precision)
        rest = np.setdiff1d(np.arange(len(exact)), kept)
        if rest.size == 0:
            return
        combination = np.linalg.lstsq(root[:, kept], root[:, rest], rcond=None)[0]
        remainder = mean[exact[rest]] - mean[exact[kept]] @ combination
        if np.any(np.abs(remainder) > 1e-8):
            self._raise_infeasible()
        self.kept[exact[rest]] = False

    def _data_root(self, exact: NDArray[np.intp]) -> NDArray[np.float64]:
        """A square root of the correlation of exact columns at the precision of the data."""
        q = self.rows.q
        block = self.rows.C[:, exact]
        if self.rows.center is not None:
            block = block - self.rows.center[exact]
        block = (block - q @ block) * np.sqrt(q)[:, None] / self.scale[exact]
        return qr(block, mode="r", check_finite=False)[0][: len(exact)]

    def _point(self, x: NDArray) -> NDArray[np.float64]:
        """(nu, theta) in the units of C from the scaled variables."""
        dual = np.zeros(len(self.kept) + 1)
        theta = x if self.profiled else x[1:]
        dual[1:][self.kept] = theta / self.scale[self.kept]
        dual[0] = 0.0 if self.profiled else x[0]
        return dual

    def _evaluate(
        self, x: NDArray, hessian: bool = True
    ) -> tuple[float, NDArray, NDArray | None, float]:
        """Smooth part of the dual, its gradient and Hessian, and the largest weight."""
        sums = self.rows.sums(self._point(x), self.divergence, hessian)
        if not np.isfinite(sums.value):
            return np.inf, x, None, 1.0
        scale = np.r_[1.0, self.scale[self.kept]]
        columns = np.r_[0, np.flatnonzero(self.kept) + 1]
        first = sums.first[columns] / scale
        second = sums.second[np.ix_(columns, columns)] / np.outer(scale, scale) if hessian else None
        alpha = self.alpha[self.kept] / self.scale[self.kept] ** 2
        theta = x if self.profiled else x[1:]
        penalty = 0.5 * alpha @ theta**2
        if self.profiled:
            value = float(np.log(sums.value) + sums.peak)
            gradient = first[1:] / first[0] + alpha * theta
            if hessian:
                second = second[1:, 1:] / first[0] - np.outer(first[1:], first[1:]) / first[0] ** 2
                second += np.diag(alpha)
            return value + penalty, gradient, second, sums.largest / first[0]
        value = sums.value - x[0]
        gradient = first - np.eye(1, len(first))[0]
        gradient[1:] += alpha * theta
        if hessian:
            second = second + np.diag(np.r_[0.0, alpha])
        return value + penalty, gradient, second, sums.largest

    def _start(self, start: ArrayLike | None, length: int) -> NDArray[np.float64]:
        """Scaled variables of a dual point; zero where there is none or no finite value."""
        if start is not None:
            start = np.asarray(start, dtype=np.float64)
            theta = (start[1:] * self.scale)[self.kept]
            x = theta if self.profiled else np.r_[start[0], theta]
            if np.isfinite(self._evaluate(x, hessian=False)[0]):
                return x
        return np.zeros(length)

    def solve(self, tol: float, max_iter: int, start: ArrayLike | None = None) -> SolverResult:
        """Proximal Newton steps with backtracking until the residual meets `tol`."""
        l1 = self.tolerance[self.kept] / self.scale[self.kept]
        l1 = l1 if self.profiled else np.r_[0.0, l1]
        x = self._start(start, len(l1))
        value, gradient, hessian, largest = self._evaluate(x)
        residual = _residual(gradient, x, l1)
        checked = polished = False
        n_iter = 0
        while n_iter < max_iter:
            if residual <= tol:
                # One more step takes the residual from tol to round-off, for one pass.
                if polished or residual <= 1e-6 * tol:
                    break
                polished = True
            if not checked and (largest > 1 - 1e-6 or np.abs(x).max(initial=0.0) > LARGEST_DUAL):
                self._check_feasible()
                checked = True
            n_iter += 1
            step = _proximal_step(gradient, hessian, x, l1)
            trial = self._line_search(x, step, value, gradient, l1)
            if trial is None or (polished and _residual(trial[2], trial[0], l1) > residual):
                break
            x, value, gradient, hessian, largest = trial
            residual = _residual(gradient, x, l1)
        if residual > tol and not checked:
            self._check_feasible()
        return self._result(x, value + l1 @ np.abs(x), residual, n_iter, tol)

    def _line_search(self, x, step, value, gradient, l1):
        """Halve the step until the dual falls enough; None if it never does."""
        total = value + l1 @ np.abs(x)
        predicted = gradient @ step + l1 @ (np.abs(x + step) - np.abs(x))
        slack = 4 * np.finfo(float).eps * (1.0 + abs(total))
        size = 1.0
        for _ in range(MAX_HALVINGS):
            trial = x + size * step
            new_value, *rest = self._evaluate(trial)
            new_total = new_value + l1 @ np.abs(trial)
            if new_total <= total + ARMIJO * size * predicted + slack:
                return trial, new_value, *rest
            size *= 0.5
        return None

    def _constrained(self) -> NDArray[np.float64]:
        """Box tolerance of each column, infinite where a ridge leaves it free."""
        return np.where(self.alpha > 0, np.inf, self.tolerance)

    def _check_feasible(self) -> None:
        limit = self._constrained()
        if not np.isfinite(limit).any():
            return
        found = smallest_excess(self.rows, limit, signed=self.divergence == "chi2_signed")
        if found.excess > FEASIBLE_EXCESS * max(1.0, self.scale.max()):
            self._raise_infeasible(found)

    def _raise_infeasible(self, found=None) -> None:
        limit = self._constrained()
        if found is None:
            found = smallest_excess(self.rows, limit, signed=self.divergence == "chi2_signed")
        worst = self.names[found.worst_column]
        smallest = found.excess + float(limit[np.isfinite(limit)].max())
        raise InfeasibleError(
            f"divergence_dual: no weights meet the mean constraints, column {worst!r} least of "
            f"all; the smallest feasible uniform tolerance is {smallest:.6g} in the units of C; "
            "raise tolerance, or use alpha for a ridge",
            worst_column=worst,
            smallest_tolerance=smallest,
        )

    def _result(
        self, x: NDArray, value: float, residual: float, n_iter: int, tol: float
    ) -> SolverResult:
        dual = self._point(x)
        weights = None
        if self.profiled:
            sums = self.rows.sums(dual, "kl", hessian=False)
            dual[0] = -(np.log(sums.value) + sums.peak)
        if self.rows.in_memory:
            weights = dual_weights(
                self.rows.C, self.rows.q, dual, self.divergence, center=self.rows.center
            )
            weights /= weights.sum()
        return SolverResult(
            x=weights,
            dual=dual,
            objective=-value,
            optimality_gap=residual,
            certificate="kkt",
            n_iter=n_iter,
            converged=bool(residual <= tol),
            solver=f"newton-{self.divergence}",
        )


def _width(chunk: tuple[NDArray, NDArray]) -> int:
    return np.shape(chunk[0])[1]


def _residual(gradient: NDArray, x: NDArray, l1: NDArray) -> float:
    """Largest violation of the optimality conditions."""
    at_zero = np.maximum(np.abs(gradient) - l1, 0.0)
    away = np.abs(gradient + l1 * np.sign(x))
    return float(np.where(x == 0, at_zero, away).max(initial=0.0))


def _cholesky_root(matrix: NDArray) -> tuple[NDArray, float]:
    """Square root of a positive semidefinite matrix and its smallest pivot."""
    if np.abs(matrix).max(initial=0.0) == 0.0:
        return np.zeros_like(matrix), 0.0
    triangle, pivots, rank, _ = dpstrf(matrix, tol=GRAM_RANK_TOLERANCE**2)
    root = np.zeros_like(matrix)
    root[:rank, pivots - 1] = np.triu(triangle)[:rank]
    return root, float(triangle[rank - 1, rank - 1]) if rank == len(matrix) else 0.0


def _independent_columns(root: NDArray, tolerance: float) -> NDArray[np.intp]:
    """Columns that are not combinations of earlier ones, by Gram-Schmidt done twice."""
    basis = np.zeros((len(root), 0))
    kept = []
    for j, column in enumerate(root.T):
        rest = column - basis @ (basis.T @ column)
        rest -= basis @ (basis.T @ rest)
        size = np.linalg.norm(rest)
        if size > tolerance * max(1.0, np.linalg.norm(column)):
            kept.append(j)
            basis = np.column_stack([basis, rest / size])
    return np.array(kept, dtype=np.intp)


def _proximal_step(g: NDArray, H: NDArray, x: NDArray, l1: NDArray) -> NDArray:
    """Step to the minimum of the local quadratic model plus sum l1 |x|."""
    if not l1.any():
        return newton_direction(H, g)
    return _feature_sign_search(H, H @ x - g, x, l1) - x


def _feature_sign_search(H: NDArray, b: NDArray, x: NDArray, l1: NDArray) -> NDArray:
    """Minimise x'Hx/2 - b'x + sum l1 |x| by active sets of signs.

    References
    ----------
    Lee, H., Battle, A., Raina, R., Ng, A. (2007). Efficient sparse coding
    algorithms. NeurIPS.
    """
    x = x.copy()
    signs = np.sign(x)
    active = (l1 == 0) | (x != 0)
    slack = 1e-12 * (1.0 + np.abs(b).max())
    for _ in range(20 * len(x) + 100):
        index = np.flatnonzero(active)
        if index.size:
            slope = l1[index] * signs[index] - b[index]
            target = newton_direction(H[np.ix_(index, index)], slope)
            current = x[index]
            crosses = (l1[index] > 0) & (target * signs[index] < 0)
            if crosses.any():
                ratio = np.where(crosses, current / np.where(crosses, current - target, 1.0), 1.0)
                first = ratio.min()
                x[index] = current + first * (target - current)
                stopped = index[crosses & (ratio <= first)]
                x[stopped], signs[stopped], active[stopped] = 0.0, 0.0, False
                continue
            x[index] = target
        slope = b - H @ x
        excess = np.where(active, -np.inf, np.abs(slope) - l1)
        entering = int(np.argmax(excess))
        if excess[entering] <= slack:
            return x
        active[entering], signs[entering] = True, np.sign(slope[entering])
    return x

"""Whether weighted means can meet their targets at all, by linear programming."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linprog

from reweight.kernels.chunks import row_slices
from reweight.solvers._dual_sums import Rows

MASTER_ROWS = 4000
ADDED_ROWS = 500
MAX_ROUNDS = 200


@dataclass(frozen=True)
class Feasibility:
    """How far the closest weighted means are from their tolerances.

    Parameters
    ----------
    excess : float
        Smallest t >= 0 such that every mean can be within its tolerance plus t.
    worst_column : int
        The column whose constraint holds `excess` up most.
    """

    excess: float
    worst_column: int


def smallest_excess(
    rows: Rows, tolerance: NDArray[np.float64], *, signed: bool = False
) -> Feasibility:
    """Smallest t with |sum_i w_i c_ij| <= tolerance_j + t for weights that sum to one.

    A linear program over the rows. It starts from the extreme rows of each
    column and adds the rows that its dual prices in until none is left, so
    that it serves a million rows and chunks that are streamed.

    Parameters
    ----------
    rows : Rows
        Constraint rows.
    tolerance : ndarray of shape (m,)
        Box tolerance of each column; infinite for columns without a constraint.
    signed : bool, default=False
        Whether weights may be negative.

    Returns
    -------
    Feasibility
    """
    columns = np.flatnonzero(np.isfinite(tolerance))
    limit = tolerance[columns]
    master = _starting_rows(rows, columns)
    for _ in range(MAX_ROUNDS):
        excess, theta, nu = _solve_master(master, limit, signed)
        if signed:
            break
        added = [part for part in rows.map(_PricedIn(columns, theta, nu, rows.center)) if len(part)]
        if not added:
            break
        added = np.concatenate(added)
        best = np.argsort(added @ theta)[::-1][:ADDED_ROWS]
        master = np.concatenate([master, added[best]])
    return Feasibility(excess, int(columns[np.argmax(np.abs(theta))]))


def _solve_master(
    C: NDArray, limit: NDArray, signed: bool
) -> tuple[float, NDArray[np.float64], float]:
    n, m = C.shape
    cost = np.r_[np.zeros(n), 1.0]
    ones = np.ones((m, 1))
    result = linprog(
        cost,
        A_ub=np.block([[C.T, -ones], [-C.T, -ones]]),
        b_ub=np.r_[limit, limit],
        A_eq=np.r_[np.ones(n), 0.0][None, :],
        b_eq=[1.0],
        bounds=[(None if signed else 0.0, None)] * n + [(0.0, None)],
        method="highs",
    )
    if result.x is None:
        raise RuntimeError(f"the feasibility program failed in HiGHS: {result.message}")
    price = result.ineqlin.marginals
    return float(result.fun), price[:m] - price[m:], float(result.eqlin.marginals[0])


@dataclass
class _PricedIn:
    """The rows of a chunk with negative reduced cost, at most `ADDED_ROWS` of them."""

    columns: NDArray
    theta: NDArray
    nu: float
    center: NDArray | None

    def __call__(self, C: NDArray, q: NDArray) -> NDArray:
        gain = np.empty(len(C))
        for rows in row_slices(len(C)):
            gain[rows] = _constraint_rows(C[rows], self.columns, self.center) @ self.theta
        gain += self.nu
        gain[q <= 0] = -np.inf
        size = 1e-9 * (1.0 + abs(self.nu))
        best = np.argsort(gain)[::-1][:ADDED_ROWS]
        best = best[gain[best] > size]
        return _constraint_rows(C[best], self.columns, self.center)


@dataclass
class _ExtremeRows:
    """All rows of a small chunk; otherwise those that are extreme in some column."""

    columns: NDArray
    center: NDArray | None

    def __call__(self, C: NDArray, q: NDArray) -> NDArray:
        index = np.flatnonzero(q > 0)
        if len(index) > MASTER_ROWS:
            kept = C[index][:, self.columns]
            extreme = np.r_[kept.argmin(axis=0), kept.argmax(axis=0)]
            spread = np.linspace(0, len(index) - 1, MASTER_ROWS // 4).astype(int)
            index = index[np.unique(np.r_[extreme, spread])]
        return _constraint_rows(C[index], self.columns, self.center)


def _constraint_rows(C: NDArray, columns: NDArray, center: NDArray | None) -> NDArray:
    block = C[:, columns]
    return block if center is None else block - center[columns]


def _starting_rows(rows: Rows, columns: NDArray) -> NDArray:
    parts = list(rows.map(_ExtremeRows(columns, rows.center)))
    return np.concatenate(parts)

"""Product kernels on the unit cube, and their sums over the rows of another sample."""

from math import cos, exp, pi, sin, sqrt

import numpy as np
from numba import njit
from numpy.typing import NDArray

Array = NDArray[np.float64]
# Code of each kernel and how far it reaches, in bandwidths: where it is zero, or less than 1e-12
# of its peak, which changes a sum by less than rounding does.
KERNELS = {
    "rbf": (0, 9.0),
    "rbf4": (1, 9.0),
    "rbf6": (2, 9.0),
    "rbf8": (3, 9.0),
    "rbf10": (4, 9.0),
    "silverman": (5, 42.0),
    "epanechnikov": (6, 1.0),
    "uniform": (7, 1.0),
    "triangular": (8, 1.0),
    "biweight": (9, 1.0),
    "triweight": (10, 1.0),
    "tricube": (11, 1.0),
    "cosine": (12, 1.0),
}
LAST_GAUSSIAN = 4
PEAK = 1 / sqrt(2 * pi)


@njit(cache=True, nogil=True)
def _polynomial(code, s):
    """Factor of the Gaussian density in a kernel of higher order; s is the squared distance."""
    if code == 0:
        return 1.0
    if code == 1:
        return 1.5 - s / 2
    if code == 2:
        return 15 / 8 - s * (5 / 4 - s / 8)
    if code == 3:
        return 35 / 16 - s * (35 / 16 - s * (7 / 16 - s / 48))
    return 315 / 128 - s * (105 / 32 - s * (63 / 64 - s * (3 / 32 - s / 384)))


@njit(cache=True, nogil=True)
def _value(code, u):
    """Kernel that is not Gaussian at a distance 0 <= u within its reach."""
    if code == 5:
        return 0.5 * exp(-u / sqrt(2.0)) * sin(u / sqrt(2.0) + pi / 4)
    if code == 6:
        return 0.75 * (1 - u * u)
    if code == 7:
        return 0.5
    if code == 8:
        return 1 - u
    if code == 9:
        return 15 / 16 * (1 - u * u) ** 2
    if code == 10:
        return 35 / 32 * (1 - u * u) ** 3
    if code == 11:
        return 70 / 81 * (1 - u * u * u) ** 3
    return pi / 4 * cos(pi * u / 2)


@njit(cache=True, nogil=True)
def _product(code, reach, A, i, B, j):
    """Product of the kernel over the columns of two rows, without the constant of a Gaussian."""
    value, squares = 1.0, 0.0
    for k in range(A.shape[1]):
        u = abs(A[i, k] - B[j, k])
        if u > reach:
            return 0.0
        if code == 0:
            squares += u * u
        elif code <= LAST_GAUSSIAN:
            squares += u * u
            value *= _polynomial(code, u * u)
        else:
            value *= _value(code, u)
    # One exponential serves all columns of a Gaussian.
    return value * exp(-squares / 2) if code <= LAST_GAUSSIAN else value


@njit(cache=True, nogil=True)
def _sums(code, reach, A, cells, B, weight, offsets, side, itself, out):
    """Sum over the rows of B in the cells around each row of A."""
    g = cells.shape[1]
    for i in range(len(A)):
        total = 0.0
        for number in range(3**g):
            rest, flat = number, 0
            for k in range(g):
                cell = cells[i, k] + rest % 3 - 1
                rest //= 3
                if cell < 0 or cell >= side:
                    flat = -1
                    break
                flat = flat * side + cell
            if flat < 0:
                continue
            for j in range(offsets[flat], offsets[flat + 1]):
                if j != itself[i]:
                    total += weight[j] * _product(code, reach, A, i, B, j)
        out[i] = total


def grid_shape(n: int, d: int, reach: float) -> tuple[int, int]:
    """Number of columns that are cut into cells, and cells a column.

    Parameters
    ----------
    n : int
        Number of rows, which the number of cells does not exceed.
    d : int
        Number of columns.
    reach : float
        Distance, in units of the cube, beyond which the kernel is zero.

    Returns
    -------
    tuple of int
        (0, 1) if every row is within reach of most others.
    """
    for g in range(d, 0, -1):
        side = int(min(1 / reach, n ** (1 / g)))
        # Fewer than four cells a column have hardly any that are not neighbours.
        if side > 3 or (g == 1 and side == 3):
            return g, side
    return 0, 1


def kernel_sums(
    A: Array,
    B: Array,
    weight: Array,
    kernel: str,
    bandwidth: float,
    itself: NDArray[np.intp] | None = None,
) -> Array:
    """Weighted sum of a product kernel between each row of A and all rows of B.

    Rows of B are kept in cells no smaller than the reach of the kernel, so that
    only neighbouring cells are looked at: O(n 3^d) for a compact kernel at a
    bandwidth of n^(-1/d).

    Parameters
    ----------
    A : ndarray of shape (n, d)
        Points of the unit cube where sums are wanted.
    B : ndarray of shape (m, d)
        Points summed over.
    weight : ndarray of shape (m,)
        Their weights.
    kernel : str
        One of `KERNELS`.
    bandwidth : float
        Bandwidth of every column.
    itself : ndarray of int of shape (n,), default=None
        Row of B that is left out of each sum, -1 for none.

    Returns
    -------
    ndarray of shape (n,)
    """
    code, reach = KERNELS[kernel]
    g, side = grid_shape(len(B), B.shape[1], reach * bandwidth)

    def cells(points: Array) -> NDArray[np.intp]:
        return np.minimum((points[:, :g] * side).astype(np.intp), side - 1)

    flat = np.zeros(len(B), dtype=np.intp)
    for column in cells(B).T:
        flat = flat * side + column
    order = np.argsort(flat, kind="stable")
    offsets = np.append(0, np.bincount(flat, minlength=side**g).cumsum())
    left_out = np.full(len(A), -1)
    if itself is not None:
        place = np.empty(len(B), dtype=np.intp)
        place[order] = np.arange(len(B))
        left_out = np.where(itself >= 0, place[itself], -1)
    out = np.empty(len(A))
    around = cells(A)
    A, B = np.ascontiguousarray(A / bandwidth), np.ascontiguousarray(B[order] / bandwidth)
    _sums(code, reach, A, around, B, weight[order], offsets, side, left_out, out)
    return out * PEAK ** B.shape[1] if code <= LAST_GAUSSIAN else out

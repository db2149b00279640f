"""Rows made non-decreasing: sorted, projected, or swept from their middle."""

import numpy as np
from numba import njit, prange
from numpy.typing import ArrayLike, NDArray

# Rows that a thread works through at a time, and the rows from which on threads pay.
BLOCK_ROWS = 256
PARALLEL_ROWS = 2048


@njit(cache=True)
def _pava_row(q, out, means, sizes):
    """Pool adjacent violators on one row; `means` and `sizes` are scratch."""
    m = q.shape[0]
    ordered = True
    for k in range(1, m):
        if q[k] < q[k - 1]:
            ordered = False
            break
    if ordered:
        out[:] = q
        return
    count = 0
    for k in range(m):
        mean = q[k]
        size = 1
        while count > 0 and means[count - 1] >= mean:
            count -= 1
            total = size + sizes[count]
            mean += (means[count] - mean) * (sizes[count] / total)
            size = total
        means[count] = mean
        sizes[count] = size
        count += 1
    k = 0
    for block in range(count):
        for _ in range(sizes[block]):
            out[k] = means[block]
            k += 1


@njit(cache=True)
def _pava_block(Q, out):
    """Pool the rows of a block one after the other."""
    means = np.empty(Q.shape[1])
    sizes = np.empty(Q.shape[1], np.int64)
    for i in range(Q.shape[0]):
        _pava_row(Q[i], out[i], means, sizes)


@njit(cache=True, parallel=True)
def _pava_rows(Q, out):
    for block in prange((Q.shape[0] + BLOCK_ROWS - 1) // BLOCK_ROWS):
        rows = slice(block * BLOCK_ROWS, (block + 1) * BLOCK_ROWS)
        _pava_block(Q[rows], out[rows])


@njit(cache=True)
def _sweep_block(Q, middle, out):
    """Sweep the rows of a block one after the other."""
    m = Q.shape[1]
    for i in range(Q.shape[0]):
        out[i, middle] = Q[i, middle]
        for k in range(middle + 1, m):
            out[i, k] = max(out[i, k - 1], Q[i, k])
        for k in range(middle - 1, -1, -1):
            out[i, k] = min(out[i, k + 1], Q[i, k])


@njit(cache=True, parallel=True)
def _sweep_rows(Q, middle, out):
    for block in prange((Q.shape[0] + BLOCK_ROWS - 1) // BLOCK_ROWS):
        rows = slice(block * BLOCK_ROWS, (block + 1) * BLOCK_ROWS)
        _sweep_block(Q[rows], middle, out[rows])


def _check_rows(Q: ArrayLike, name: str) -> NDArray[np.float64]:
    """Rows as a contiguous matrix; one row may come as a vector. Infinite ends are allowed."""
    Q = np.ascontiguousarray(Q, dtype=np.float64)
    if Q.ndim not in (1, 2) or Q.shape[-1] == 0:
        raise ValueError(f"{name}: Q has shape {Q.shape}; pass rows of at least one entry")
    if np.isnan(Q).any():
        raise ValueError(f"{name}: Q has {int(np.isnan(Q).sum())} entries that are NaN; drop them")
    return Q


def pava_rows(Q: ArrayLike) -> NDArray[np.float64]:
    """The non-decreasing row closest to each row in squared distance.

    Parameters
    ----------
    Q : array-like of shape (n, m) or (m,)
        Rows.

    Returns
    -------
    ndarray of the shape of `Q`

    Raises
    ------
    ValueError
        If rows are empty or entries are NaN or infinite.

    References
    ----------
    Best, M. J., Chakravarti, N. (1990). Active set algorithms for isotonic
    regression; a unifying framework. Mathematical Programming, 47, 425-439.

    Examples
    --------
    >>> pava_rows([[1.0, 3.0, 2.0, 4.0]])
    array([[1. , 2.5, 2.5, 4. ]])
    """
    Q = _check_rows(Q, "pava_rows")
    if not np.isfinite(Q).all():
        raise ValueError(
            f"pava_rows: Q has {int(np.isinf(Q).sum())} infinite entries, which have no mean; "
            "sort or sweep such rows"
        )
    rows = np.atleast_2d(Q)
    out = np.empty_like(rows)
    (_pava_rows if len(rows) >= PARALLEL_ROWS else _pava_block)(rows, out)
    return out.reshape(Q.shape)


def sort_rows(Q: ArrayLike) -> NDArray[np.float64]:
    """Each row in ascending order.

    Parameters
    ----------
    Q : array-like of shape (n, m) or (m,)
        Rows; entries may be infinite.

    Returns
    -------
    ndarray of the shape of `Q`

    Examples
    --------
    >>> sort_rows([[1.0, 3.0, 2.0]])
    array([[1., 2., 3.]])
    """
    return np.sort(_check_rows(Q, "sort_rows"), axis=-1)


def sweep_rows(Q: ArrayLike, middle: int | None = None) -> NDArray[np.float64]:
    """Running maxima upwards and running minima downwards from the middle of each row.

    Parameters
    ----------
    Q : array-like of shape (n, m) or (m,)
        Rows; entries may be infinite.
    middle : int, default=None
        Entry that does not change; None is m // 2.

    Returns
    -------
    ndarray of the shape of `Q`

    Examples
    --------
    >>> sweep_rows([[1.0, 3.0, 2.0, 4.0, 3.5]])
    array([[1., 2., 2., 4., 4.]])
    """
    Q = _check_rows(Q, "sweep_rows")
    m = Q.shape[-1]
    middle = m // 2 if middle is None else middle
    if not 0 <= middle < m:
        raise ValueError(f"sweep_rows: middle must be from 0 to {m - 1}, got {middle}")
    rows = np.atleast_2d(Q)
    out = np.empty_like(rows)
    (_sweep_rows if len(rows) >= PARALLEL_ROWS else _sweep_block)(rows, middle, out)
    return out.reshape(Q.shape)

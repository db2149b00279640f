"""Order statistics of several sorted lists, each moved by a number, without merging them."""

import numpy as np
from numba import njit, prange
from numpy.typing import ArrayLike, NDArray

# Rows that a thread works through at a time, and the rows from which on threads pay.
BLOCK_ROWS = 64
PARALLEL_ROWS = 256


@njit(cache=True)
def _first_not_below(values, low, high, shift, pivot):
    """First position in [low, high) whose moved value is not below the pivot."""
    while low < high:
        middle = (low + high) // 2
        if shift + values[middle] < pivot:
            low = middle + 1
        else:
            high = middle
    return low


@njit(cache=True)
def _first_above(values, low, high, shift, pivot):
    """First position in [low, high) whose moved value is above the pivot."""
    while low < high:
        middle = (low + high) // 2
        if shift + values[middle] <= pivot:
            low = middle + 1
        else:
            high = middle
    return low


@njit(cache=True)
def _kth_of_row(values, starts, shifts, rank, low, high, not_below, above):
    """Bisect over the list with most candidates left until its middle has the rank."""
    n_lists = shifts.shape[0]
    for f in range(n_lists):
        low[f] = starts[f]
        high[f] = starts[f + 1]
    while True:
        widest = 0
        for f in range(1, n_lists):
            if high[f] - low[f] > high[widest] - low[widest]:
                widest = f
        middle = (low[widest] + high[widest]) // 2
        pivot = shifts[widest] + values[middle]
        smaller, up_to = 0, 0
        for f in range(n_lists):
            not_below[f] = _first_not_below(values, low[f], high[f], shifts[f], pivot)
            above[f] = _first_above(values, not_below[f], high[f], shifts[f], pivot)
            smaller += not_below[f] - starts[f]
            up_to += above[f] - starts[f]
        if rank <= smaller:
            high[:] = not_below
        elif rank > up_to:
            low[:] = above
        else:
            return pivot


@njit(cache=True)
def _kth_of_block(values, starts, shifts, rank, out):
    """The rows of a block one after the other."""
    n_lists = shifts.shape[1]
    low = np.empty(n_lists, np.int64)
    high = np.empty(n_lists, np.int64)
    not_below = np.empty(n_lists, np.int64)
    above = np.empty(n_lists, np.int64)
    for i in range(shifts.shape[0]):
        out[i] = _kth_of_row(values, starts, shifts[i], rank, low, high, not_below, above)


@njit(cache=True, parallel=True)
def _kth_of_rows(values, starts, shifts, rank, out):
    for block in prange((shifts.shape[0] + BLOCK_ROWS - 1) // BLOCK_ROWS):
        rows = slice(block * BLOCK_ROWS, (block + 1) * BLOCK_ROWS)
        _kth_of_block(values, starts, shifts[rows], rank, out[rows])


def kth_of_shifted_lists(
    values: NDArray[np.float64], starts: NDArray[np.intp], shifts: ArrayLike, rank: int
) -> NDArray[np.float64]:
    """The rank-th smallest of all shift + value, for each row of shifts.

    Bisection needs O(K^2 log^2 N) steps a row, where K is the number of lists.

    Parameters
    ----------
    values : ndarray of shape (N,)
        Lists one after the other, each in ascending order.
    starts : ndarray of shape (K + 1,)
        Position where each list starts, and N.
    shifts : array-like of shape (n, K)
        What is added to the values of each list; finite.
    rank : int
        From 1 to N.

    Returns
    -------
    ndarray of shape (n,)

    Raises
    ------
    ValueError
        If the rank is not from 1 to N.

    Examples
    --------
    >>> import numpy as np
    >>> values, starts = np.array([1.0, 5.0, 2.0, 3.0]), np.array([0, 2, 4])
    >>> kth_of_shifted_lists(values, starts, [[0.0, 0.0], [0.0, 10.0]], 3)
    array([ 3., 12.])
    """
    shifts = np.ascontiguousarray(shifts, dtype=np.float64)
    if not 1 <= rank <= len(values):
        raise ValueError(f"kth_of_shifted_lists: rank must be from 1 to {len(values)}, got {rank}")
    out = np.empty(len(shifts))
    kernel = _kth_of_rows if len(shifts) >= PARALLEL_ROWS else _kth_of_block
    kernel(values, np.asarray(starts, dtype=np.int64), shifts, rank, out)
    return out

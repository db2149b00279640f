"""Kolmogorov-Smirnov distance of two weighted samples."""

import numpy as np
from numba import njit
from numpy.typing import ArrayLike, NDArray


@njit(cache=True, nogil=True)
def _largest_gaps(x, order, steps, gaps):
    """Largest absolute value of each running sum, looked at only where x moves on."""
    running = np.zeros(steps.shape[1])
    n = order.shape[0]
    for i in range(n):
        row = order[i]
        for k in range(running.shape[0]):
            running[k] += steps[row, k]
        if i + 1 == n or x[order[i + 1]] != x[row]:
            for k in range(running.shape[0]):
                gaps[k] = max(gaps[k], abs(running[k]))


def ecdf_steps(w: ArrayLike, group: ArrayLike) -> NDArray[np.float64]:
    """Jump of the difference of the two ecdfs at each row, for every weighting.

    Parameters
    ----------
    w : array-like of shape (n,) or (n, k)
        Non-negative weights, one column per weighting.
    group : array-like of shape (n,)
        Whether the row belongs to the first sample.

    Returns
    -------
    ndarray of shape (n, k)
        w over its sum in the first sample, minus that in the second.

    Raises
    ------
    ValueError
        If shapes do not match or a sample has no weight.

    Examples
    --------
    >>> ecdf_steps([1.0, 3.0, 2.0], [True, True, False]).ravel()
    array([ 0.25,  0.75, -1.  ])
    """
    group = np.asarray(group, dtype=bool)
    w = np.asarray(w, dtype=np.float64)
    if group.ndim != 1 or w.ndim not in (1, 2) or len(w) != len(group):
        raise ValueError(
            f"w has shape {w.shape} and group {group.shape}; pass one row of weights and one "
            "group per row"
        )
    w = w.reshape(len(w), -1)
    sums = np.where(group[:, None], w, -w)
    for member in (True, False):
        total = w[group == member].sum(axis=0)
        if not (total > 0).all():
            raise ValueError(
                f"the weights of the rows with group={member} sum to {total.min():g}; each "
                "sample needs a row of positive weight"
            )
        sums[group == member] /= total
    return sums


def ks_of_steps(x: NDArray[np.float64], steps: NDArray[np.float64]) -> NDArray[np.float64]:
    """Largest difference of two ecdfs under each weighting, from one sort of x.

    Parameters
    ----------
    x : ndarray of shape (n,)
        Values of both samples.
    steps : ndarray of shape (n, k)
        What `ecdf_steps` returns; it serves all columns of a table.

    Returns
    -------
    ndarray of shape (k,)

    Examples
    --------
    >>> ks_of_steps(np.array([1.0, 2.0, 1.5]), np.array([[0.25], [0.75], [-1.0]]))
    array([0.75])
    """
    gaps = np.zeros(steps.shape[1])
    _largest_gaps(x, np.argsort(x), steps, gaps)
    return gaps


def ks(x: ArrayLike, w: ArrayLike, group: ArrayLike) -> float | NDArray[np.float64]:
    """Largest difference of the weighted ecdfs of two samples, max_x |F1(x) - F0(x)|.

    Equal values are one step, so the order of ties does not matter.

    Parameters
    ----------
    x : array-like of shape (n,)
        Values of both samples.
    w : array-like of shape (n,) or (n, k)
        Non-negative weights on any scale; the k columns are weightings, such as
        before and after, that share one sort.
    group : array-like of shape (n,)
        Whether the row belongs to the first sample.

    Returns
    -------
    float or ndarray of shape (k,)

    Raises
    ------
    ValueError
        If shapes do not match, x is not finite, or a sample has no weight.

    Examples
    --------
    >>> ks([1.0, 2.0, 1.0, 2.0], [1.0, 1.0, 1.0, 3.0], [True, True, False, False])
    0.25
    """
    x = np.ascontiguousarray(x, dtype=np.float64)
    if x.ndim != 1 or not np.isfinite(x).all():
        raise ValueError(f"x must be one-dimensional and finite, got shape {x.shape}")
    steps = ecdf_steps(w, group)
    if len(steps) != len(x):
        raise ValueError(f"x has {len(x)} rows but there are {len(steps)} weights; pass one each")
    gaps = ks_of_steps(x, steps)
    return float(gaps[0]) if np.ndim(w) == 1 else gaps

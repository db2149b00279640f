"""Weighted means and variances of columns, without a copy of the data."""

import numpy as np
from numpy.typing import NDArray

from reweight.kernels.chunks import row_slices

NEAR = 1e-9
ROUND_OFF = 1e-12


def weighted_mean(A: NDArray[np.float64], w: NDArray[np.float64]) -> NDArray[np.float64]:
    """Weighted mean of each column, exact for a column of one value.

    Parameters
    ----------
    A : ndarray of shape (n, d)
        Columns.
    w : ndarray of shape (n,)
        Weights on any scale, not summing to zero; rows of weight zero do not count.

    Returns
    -------
    ndarray of shape (d,)

    Examples
    --------
    >>> import numpy as np
    >>> weighted_mean(np.array([[1.0], [3.0]]), np.array([3.0, 1.0]))
    array([1.5])
    """
    w = w / w.sum()
    mean = w @ A
    # Round-off must not make a column that does not vary look as if it did.
    first = A[np.argmax(w != 0)]
    near = np.flatnonzero(np.abs(mean - first) <= NEAR * np.abs(first))
    if near.size:
        mean[near] = first[near] + w @ (A[:, near] - first[near])
    return mean


def weighted_mean_variance(
    A: NDArray[np.float64], w: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Weighted mean and population variance of each column.

    Parameters
    ----------
    A : ndarray of shape (n, d)
        Columns.
    w : ndarray of shape (n,)
        Non-negative weights on any scale; a weight of k counts as k rows.

    Returns
    -------
    mean, variance : ndarray of shape (d,)

    Examples
    --------
    >>> import numpy as np
    >>> mean, variance = weighted_mean_variance(np.array([[1.0], [3.0]]), np.ones(2))
    >>> mean, variance
    (array([2.]), array([1.]))
    """
    w = w / w.sum()
    mean = weighted_mean(A, w)
    variance = np.zeros(A.shape[1])
    for rows in row_slices(len(A)):
        variance += w[rows] @ (A[rows] - mean) ** 2
    return mean, variance


def standardized_scale(
    A: NDArray[np.float64],
    treated: NDArray[np.bool_],
    sample_weight: NDArray[np.float64],
    estimand: str,
) -> NDArray[np.float64]:
    """Unit of mean differences: standard deviations that weighting does not change.

    Population standard deviations, so that a sampling weight of k counts as k
    rows; `balance_table` shows the unbiased ones of the field, which are larger
    by a factor of about 1 + 1 / (2 n).

    Parameters
    ----------
    A : ndarray of shape (n, d)
        Columns.
    treated : ndarray of bool of shape (n,)
        Whether the row is treated.
    sample_weight : ndarray of shape (n,)
        Sampling weights.
    estimand : str
        "ATT" takes the deviation of the treated, "ATC" of the controls, any
        other the root of the mean of the two variances.

    Returns
    -------
    ndarray of shape (d,)
        Standard deviations, zero for columns that do not vary.

    Examples
    --------
    >>> import numpy as np
    >>> A, treated = np.array([[0.0], [2.0], [0.0], [4.0]]), np.array([0, 0, 1, 1], dtype=bool)
    >>> standardized_scale(A, treated, np.ones(4), "ATC")
    array([1.])
    """
    arms = {"ATT": (True,), "ATC": (False,)}.get(estimand, (True, False))
    variances = [
        weighted_mean_variance(A, np.where(treated == arm, sample_weight, 0.0))[1] for arm in arms
    ]
    return np.sqrt(np.mean(variances, axis=0))


def nonzero_scale(
    scale: NDArray[np.float64], location: NDArray[np.float64] | float = 0.0
) -> NDArray[np.float64]:
    """Scales with one in place of zero, for columns that do not vary.

    Each column is judged by itself: units of columns may differ by any factor.

    Parameters
    ----------
    scale : ndarray of shape (d,)
        Non-negative scales.
    location : ndarray of shape (d,), default=0.0
        Means of the columns; a scale that is round-off beside them is zero.

    Returns
    -------
    ndarray of shape (d,)

    Examples
    --------
    >>> import numpy as np
    >>> nonzero_scale(np.array([0.0, 2.0]))
    array([1., 2.])
    """
    return np.where(scale > ROUND_OFF * np.abs(location), scale, 1.0)

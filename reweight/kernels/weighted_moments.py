"""Weighted means and variances of columns, without a copy of the data."""

import numpy as np
from numpy.typing import NDArray

from reweight.kernels.chunks import row_slices


def weighted_mean_variance(
    A: NDArray[np.float64], w: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Weighted mean and unbiased weighted variance of each column.

    The variance is sum w (x - m)^2 / (1 - sum w^2) with weights that sum to
    one; for a column of zeros and ones it is p (1 - p).

    Parameters
    ----------
    A : ndarray of shape (n, d)
        Columns.
    w : ndarray of shape (n,)
        Non-negative weights on any scale; rows of weight zero do not count.

    Returns
    -------
    mean, variance : ndarray of shape (d,)

    Examples
    --------
    >>> import numpy as np
    >>> mean, variance = weighted_mean_variance(np.array([[1.0], [3.0]]), np.ones(2))
    >>> mean, variance
    (array([2.]), array([2.]))
    """
    w = w / w.sum()
    mean = w @ A
    square = np.zeros(A.shape[1])
    binary = np.ones(A.shape[1], dtype=bool)
    for rows in row_slices(len(A)):
        block = A[rows]
        square += w[rows] @ (block - mean) ** 2
        if binary.any():
            used = block[w[rows] > 0]
            binary &= ((used == 0) | (used == 1)).all(axis=0)
    unbiased = square / max(1.0 - w @ w, np.finfo(float).tiny)
    return mean, np.where(binary, mean * (1 - mean), unbiased)


def standardized_scale(
    A: NDArray[np.float64],
    treated: NDArray[np.bool_],
    sample_weight: NDArray[np.float64],
    estimand: str,
) -> NDArray[np.float64]:
    """Denominator of standardised mean differences: what weighting must not change.

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
    array([1.41421356])
    """
    arms = {"ATT": (True,), "ATC": (False,)}.get(estimand, (True, False))
    variances = [
        weighted_mean_variance(A, np.where(treated == arm, sample_weight, 0.0))[1] for arm in arms
    ]
    return np.sqrt(np.mean(variances, axis=0))


def nonzero_scale(scale: NDArray[np.float64]) -> NDArray[np.float64]:
    """Scales with one in place of zero, for columns that do not vary.

    Parameters
    ----------
    scale : ndarray of shape (d,)
        Non-negative scales.

    Returns
    -------
    ndarray of shape (d,)

    Examples
    --------
    >>> import numpy as np
    >>> nonzero_scale(np.array([0.0, 2.0]))
    array([1., 2.])
    """
    return np.where(scale > 1e-12 * scale.max(initial=0.0), scale, 1.0)

"""Class probabilities and likelihoods at every posterior draw; averages are taken last."""

from collections.abc import Iterator

import numpy as np
from numba import njit
from numpy.typing import NDArray
from scipy.special import logsumexp

from reweight.kernels.chunks import row_slices
from reweight.reuse._log_density import level_mass, log_base_mass, log_level

Array = NDArray[np.float64]

# Numbers of a (draws, rows, classes) array that are held at a time.
CHUNK_NUMBERS = 4_000_000


def draw_slices(n_rows: int, numbers_per_row: int) -> Iterator[slice]:
    """Slices of rows whose arrays over all draws are of a bearable size.

    Parameters
    ----------
    n_rows : int
        Number of rows.
    numbers_per_row : int
        Draws times classes.

    Returns
    -------
    iterator of slice
    """
    return row_slices(n_rows, max(1, CHUNK_NUMBERS // max(numbers_per_row, 1)))


def log_probabilities(
    alpha: Array, beta: Array, X: Array, n_classes: int, effects: Array | None = None
) -> Array:
    """Log class probabilities, eq. (5), of each row at each draw.

    Parameters
    ----------
    alpha : ndarray of shape (S, C)
        Intercepts.
    beta : ndarray of shape (S, p, C)
        Coefficients.
    X : ndarray of shape (n, p)
        Standardised features.
    n_classes : int
        Number of classes, C or C + 1; the last then has zero as its predictor.
    effects : ndarray of shape (S, n, C), default=None
        Effect of the row's group.

    Returns
    -------
    ndarray of shape (S, n, n_classes)
    """
    eta = np.zeros((len(alpha), len(X), n_classes))
    columns = alpha.shape[1]
    eta[:, :, :columns] = np.matmul(X[None], beta) + alpha[:, None, :]
    if effects is not None:
        eta[:, :, :columns] += effects
    return eta - logsumexp(eta, axis=2, keepdims=True)


@njit(cache=True, nogil=True)
def soft_levels(points, thresholds, softness):
    """Log h_k of each point at each draw: shape (S, m, K)."""
    out = np.empty((len(thresholds), len(points), thresholds.shape[1] + 1))
    for s in range(out.shape[0]):
        for j in range(out.shape[1]):
            for k in range(out.shape[2]):
                out[s, j, k] = log_level(points[j], thresholds[s], softness[s], k)
    return out


@njit(cache=True, nogil=True)
def soft_base_mass(points, base, thresholds, softness):
    """Log Q_k at each draw: shape (S, K)."""
    out = np.empty((len(thresholds), thresholds.shape[1] + 1))
    for s in range(len(thresholds)):
        levels = level_mass(points, thresholds[s], softness[s])
        out[s] = log_base_mass(points, base, levels, thresholds[s], softness[s])
    return out


def cut_levels(residual: Array, thresholds: Array) -> NDArray[np.int64]:
    """Level of each residual: 0 at or above the first threshold, one more below each.

    Parameters
    ----------
    residual : ndarray of shape (n,)
        Residuals without NaN.
    thresholds : ndarray of shape (K - 1,)
        Falling.

    Returns
    -------
    ndarray of shape (n,)
    """
    return (np.asarray(residual)[:, None] < np.asarray(thresholds)).sum(axis=1)


def row_log_likelihood(log_pi: Array, y: NDArray[np.int64], log_ratio: Array | None) -> Array:
    """Log likelihood (19) of each row at each draw.

    Parameters
    ----------
    log_pi : ndarray of shape (S, n, K)
        Log class probabilities.
    y : ndarray of shape (n,)
        Level codes, -1 where unknown.
    log_ratio : ndarray of shape (S, n, K) or None
        log h_k - log Q_k of each row, zero where no residual was measured.

    Returns
    -------
    ndarray of shape (S, n)
    """
    joint = log_pi if log_ratio is None else log_pi + log_ratio
    known = y >= 0
    out = np.empty(joint.shape[:2])
    out[:, known] = joint[:, known, y[known]]
    out[:, ~known] = logsumexp(joint[:, ~known], axis=2)
    return out

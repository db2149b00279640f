"""Held-out error of least-squares density ratios, in closed form."""

import numpy as np
from numba import njit
from numpy.typing import NDArray

from reweight.kernels.chunks import row_slices

CHUNK_ROWS = 500
# Pairs whose features are all smaller than this have errors of zero for all that matters.
NEGLIGIBLE = 1e-40


@njit(cache=True)
def _rotated_parts(X, T, factors, inverse, out):
    """(factor X - T) times the inverse, row by row."""
    for i in range(X.shape[0]):
        for j in range(X.shape[1]):
            out[i, j] = (factors[i] * X[i, j] - T[i, j]) * inverse[j]


# Sums may be reordered, which lets the loop run on vectors; nothing here is NaN.
@njit(cache=True, fastmath={"reassoc", "contract"})
def _sum_of_losses(X, T, parts, common, shrink):
    """Sum over pairs of half the squared ratio at the source row minus that at the target row."""
    rows, width = X.shape
    total = 0.0
    for i in range(rows):
        at_source, at_target = 0.0, 0.0
        for j in range(width):
            theta = max(shrink * (common[j] + parts[i, j]), 0.0)
            at_source += X[i, j] * theta
            at_target += T[i, j] * theta
        total += 0.5 * at_source * at_source - at_target
    return total


def leave_pair_out_scores(
    source: NDArray[np.float64],
    target: NDArray[np.float64],
    alphas: NDArray[np.float64],
) -> NDArray[np.float64]:
    r"""Leave-one-pair-out errors of the least-squares density ratio at each ridge.

    The ratio is psi(x)'theta with
    :math:`\theta = \max((\Psi_s'\Psi_s/n + \alpha I)^{-1} \bar\psi_t, 0)`. Source row i and
    target row i are left out together, for i below min(n, t), and the error
    is half the squared ratio at the one minus the ratio at the other. Updates
    of rank one give all of them from one eigendecomposition.

    Parameters
    ----------
    source : ndarray of shape (n, b)
        Non-negative features of the source rows, in random order.
    target : ndarray of shape (t, b)
        The same of the target rows, at least two.
    alphas : ndarray of shape (m,)
        Positive ridges.

    Returns
    -------
    ndarray of shape (m,)
        Mean error; smaller is better.

    References
    ----------
    Kanamori, T., Hido, S., Sugiyama, M. (2009). A least-squares approach to
    direct importance estimation. JMLR, 10, 1391-1445.

    Examples
    --------
    >>> features = np.array([[1.0], [0.5], [0.8]])
    >>> leave_pair_out_scores(features, features, np.array([0.1, 1.0])).round(4)
    array([-0.4454, -0.2888])
    """
    n, t = len(source), len(target)
    pairs = min(n, t)
    # Narrow features leave most pairs without any, whose errors are zero.
    felt = np.maximum(source[:pairs].max(axis=1), target[:pairs].max(axis=1)) > NEGLIGIBLE
    X, T = source[:pairs], target[:pairs]
    if not felt.all():
        X, T = X[felt], T[felt]
    h = target.mean(axis=0)
    values, vectors = np.linalg.eigh(source.T @ source / n)
    inverses = 1.0 / (np.maximum(values, 0.0)[:, None] + alphas * (n - 1) / n)
    back, h_rotated = np.ascontiguousarray(vectors.T), vectors.T @ h
    common = t * (vectors @ (inverses * h_rotated[:, None])).T
    shrink = (n - 1.0) / (n * (t - 1.0))
    scores = np.zeros(len(alphas))
    buffers = np.empty((2, min(CHUNK_ROWS, len(X)), len(h)))
    # Chunks of rows stay in the cache while every ridge looks at them.
    for rows in row_slices(len(X), CHUNK_ROWS):
        parts, thetas = buffers[:, : rows.stop - rows.start]
        # In the basis of the eigenvectors the inverse is diagonal, so these need no solve.
        X_rotated, T_rotated = X[rows] @ vectors, T[rows] @ vectors
        own = X_rotated**2 @ inverses
        factors = t * X_rotated @ (inverses * h_rotated[:, None])
        factors = (factors - (T_rotated * X_rotated) @ inverses) / (n - own)
        for k in range(len(alphas)):
            _rotated_parts(X_rotated, T_rotated, factors[:, k], inverses[:, k], parts)
            np.matmul(parts, back, out=thetas)
            scores[k] += _sum_of_losses(X[rows], T[rows], thetas, common[k], shrink)
    return scores / pairs

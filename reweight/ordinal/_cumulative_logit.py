"""Loss of the cumulative logit model with its derivatives, and probabilities.

Row i of level y lies between the boundaries y-1 and y, whose logits are called lower and upper:
P(y | x) = s(upper) s(-lower) (1 - exp(-(upper - lower))) with s the logistic function. This form
keeps its digits in the tails, where a difference of two logistic functions has none.
"""

from dataclasses import dataclass

import numpy as np
from numba import njit
from numpy.typing import NDArray
from scipy.special import expit, log_expit

Array = NDArray[np.float64]

SMALLEST_GAP = 1e-12
GRAM_ROWS = 256


@dataclass(frozen=True)
class OrdinalProblem:
    """Rows sorted by level.

    Parameters
    ----------
    Z : ndarray of shape (n, q)
        Features with a leading column of ones, C-contiguous.
    starts : ndarray of int of shape (n_levels + 1,)
        First row of each level, and the number of rows.
    weights : ndarray of shape (n,)
        Weights of the rows, summing to one.
    """

    Z: Array
    starts: NDArray[np.intp]
    weights: Array

    @property
    def n_boundaries(self) -> int:
        """Number of levels less one."""
        return len(self.starts) - 2

    @property
    def size(self) -> tuple[int, int]:
        """Shape of the parameters: boundaries, and intercept with differences of slopes."""
        return self.n_boundaries, self.Z.shape[1]


def null_model(problem: OrdinalProblem) -> Array:
    """Parameters without slopes: the logits of the cumulative shares of the levels."""
    cumulative = np.cumsum(np.add.reduceat(problem.weights, problem.starts[:-1]))[:-1]
    theta = np.zeros(problem.size)
    theta[:, 0] = np.log(cumulative) - np.log1p(-cumulative)
    return theta


def boundary_slopes(theta: Array) -> Array:
    """Intercept and slopes of each boundary from intercepts and differences of slopes."""
    B = theta.copy()
    np.cumsum(theta[:, 1:], axis=0, out=B[:, 1:])
    return B


def loss_terms(problem: OrdinalProblem, theta: Array) -> tuple[float, Array]:
    """Mean loss, and the derivatives of each row's loss in its two logits.

    Parameters
    ----------
    problem : OrdinalProblem
        Rows.
    theta : ndarray of shape (n_boundaries, q)
        Parameters.

    Returns
    -------
    loss : float
        Infinite outside the domain.
    terms : ndarray of shape (5, n)
        Weighted derivatives: in the lower and the upper logit, twice in the
        lower, twice in the upper, and minus the mixed one.
    """
    B = boundary_slopes(theta)
    last = problem.n_boundaries
    logits = np.empty((2, len(problem.Z)))
    for level in range(last + 1):
        rows = slice(problem.starts[level], problem.starts[level + 1])
        if level > 0:
            np.dot(problem.Z[rows], B[level - 1], out=logits[0, rows])
        if level < last:
            np.dot(problem.Z[rows], B[level], out=logits[1, rows])
    terms = np.empty((5, len(problem.Z)))
    loss = _row_terms(logits, problem.starts, problem.weights, terms)
    return float(loss), terms


@njit(cache=True)
def _softplus(x):
    return max(x, 0.0) + np.log1p(np.exp(-abs(x)))


@njit(cache=True)
def _row_terms(logits, starts, weights, terms):
    """Sum of the weighted losses; fills the terms of each row."""
    total = 0.0
    last = len(starts) - 2
    for level in range(last + 1):
        for i in range(starts[level], starts[level + 1]):
            s, loss = weights[i], 0.0
            for part in range(5):
                terms[part, i] = 0.0
            if level < last:
                b = logits[1, i]
                loss += _softplus(-b)
                e = np.exp(-abs(b))
                small, large = e / (1.0 + e), 1.0 / (1.0 + e)
                terms[1, i] -= s * (small if b > 0 else large)
                terms[3, i] += s * small * large
            if level > 0:
                a = logits[0, i]
                loss += _softplus(a)
                e = np.exp(-abs(a))
                small, large = e / (1.0 + e), 1.0 / (1.0 + e)
                terms[0, i] += s * (large if a > 0 else small)
                terms[2, i] += s * small * large
            if 0 < level < last:
                gap = logits[1, i] - logits[0, i]
                if not gap > 0.0:
                    return np.inf
                loss -= np.log(-np.expm1(-gap))
                r = 1.0 / np.expm1(max(gap, SMALLEST_GAP))
                c = s * r * (1.0 + r)
                terms[0, i] += s * r
                terms[1, i] -= s * r
                terms[2, i] += c
                terms[3, i] += c
                terms[4, i] = c
            total += s * loss
    return total


def gradient(problem: OrdinalProblem, terms: Array) -> Array:
    """Gradient of the loss in the parameters, from the terms of the rows."""
    G = np.zeros(problem.size)
    last = problem.n_boundaries
    for level in range(last + 1):
        rows = slice(problem.starts[level], problem.starts[level + 1])
        both = terms[:2, rows] @ problem.Z[rows]
        if level > 0:
            G[level - 1] += both[0]
        if level < last:
            G[level] += both[1]
    G[:, 1:] = np.cumsum(G[::-1, 1:], axis=0)[::-1]
    return G


def hessian(problem: OrdinalProblem, terms: Array) -> Array:
    """Hessian of the loss in the parameters, of shape (m, m) with m = n_boundaries * q."""
    K, q = problem.size
    H = np.zeros((K, q, K, q))
    grams = np.empty((3, q, q))
    buffer = np.empty((3, GRAM_ROWS, q))
    for level in range(K + 1):
        _level_grams(
            problem.Z, terms[2:], problem.starts[level], problem.starts[level + 1], buffer, grams
        )
        if level > 0:
            H[level - 1, :, level - 1] += grams[0]
        if level < K:
            H[level, :, level] += grams[1]
        if 0 < level < K:
            H[level - 1, :, level] -= grams[2]
            H[level, :, level - 1] -= grams[2]
    # A difference of slopes moves its own boundary and all later ones.
    H[:, 1:] = np.cumsum(H[::-1, 1:], axis=0)[::-1]
    H[:, :, :, 1:] = np.cumsum(H[:, :, ::-1, 1:], axis=2)[:, :, ::-1]
    return H.reshape(K * q, K * q)


@njit(cache=True)
def _level_grams(Z, curvatures, first, end, buffer, grams):
    """Weighted sums of z z' over some rows, for three weights a row, by blocks in the cache."""
    q = Z.shape[1]
    size = buffer.shape[1]
    grams[:] = 0.0
    product = np.empty((q, q))
    for start in range(first, end, size):
        stop = min(start + size, end)
        block = Z[start:stop]
        for part in range(3):
            scaled = buffer[part, : stop - start]
            for i in range(stop - start):
                w = curvatures[part, start + i]
                for j in range(q):
                    scaled[i, j] = w * block[i, j]
            np.dot(scaled.T, block, product)
            grams[part] += product


def some_row_crosses(problem: OrdinalProblem, theta: Array) -> bool:
    """Whether the logits of any row fail to increase from boundary to boundary."""
    B = boundary_slopes(theta)
    return any(bool((problem.Z @ difference <= 0.0).any()) for difference in np.diff(B, axis=0))


def ordered_logits(eta: Array) -> Array:
    """Cumulative logits that never decrease: the running maximum along boundaries."""
    return np.maximum.accumulate(eta, axis=1)


def level_log_probabilities(eta: Array) -> Array:
    """Log-probability of each level from logits of shape (n, n_boundaries), crossings repaired."""
    eta = ordered_logits(eta)
    n, K = eta.shape
    result = np.empty((n, K + 1))
    result[:, 0] = log_expit(eta[:, 0])
    result[:, K] = log_expit(-eta[:, K - 1])
    with np.errstate(divide="ignore"):
        inside = np.log(-np.expm1(-np.diff(eta, axis=1)))
    result[:, 1:K] = log_expit(eta[:, 1:]) + log_expit(-eta[:, :-1]) + inside
    return result


def level_probabilities(eta: Array) -> Array:
    """Probability of each level from logits of shape (n, n_boundaries), crossings repaired."""
    eta = ordered_logits(eta)
    n, K = eta.shape
    result = np.empty((n, K + 1))
    result[:, 0] = expit(eta[:, 0])
    result[:, K] = expit(-eta[:, K - 1])
    result[:, 1:K] = expit(eta[:, 1:]) * expit(-eta[:, :-1]) * -np.expm1(-np.diff(eta, axis=1))
    return result

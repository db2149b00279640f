"""Mixture of Beta distributions by EM with moments in place of maximum likelihood."""

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import logsumexp
from scipy.stats import beta
from sklearn.cluster import KMeans
from sklearn.exceptions import ConvergenceWarning

from reweight.validation import warn_user

Array = NDArray[np.float64]
EDGE, TINY = 1e-6, 10 * np.finfo(float).eps


def fit_beta_mixture(
    x: ArrayLike, n_components: int, rng: np.random.RandomState, *, tol=1e-6, max_iter=1000
) -> tuple[Array, Array, Array]:
    """Shares and parameters a, b of the likeliest of three fits, in the order of the means.

    Each starts from k-means. The M-step matches means and variances, so the likelihood need not
    rise at every step; a fit stops when its change is small.
    """
    x = np.asarray(x, dtype=np.float64).clip(EDGE, 1 - EDGE)
    K = 1 if np.ptp(x) < 1e-12 else min(n_components, len(np.unique(x)))
    if n_components > K:
        warn_user(
            f"BetaMixture: the numbers take {K} distinct values, too few for {n_components} "
            "components; one component a value is fitted",
            ConvergenceWarning,
        )
    fits = []
    for _ in range(3):
        labels = KMeans(K, n_init=1, random_state=rng).fit_predict(x[:, None])
        r, change, bound = np.eye(K)[labels], np.inf, -np.inf
        for _ in range(max_iter):
            mixture = _moments(x, r)
            previous, (r, bound) = bound, responsibilities(x, *mixture)
            change = abs(bound - previous)
            if change < tol:
                break
        fits.append((bound, mixture, change))
    _, (shares, a, b), change = max(fits, key=lambda fit: fit[0])
    if change >= tol:
        message = f"BetaMixture: not converged after {max_iter} steps; lower n_clusters"
        warn_user(message, ConvergenceWarning)
    order = np.argsort(a / (a + b))
    return shares[order], a[order], b[order]


def responsibilities(x: ArrayLike, shares: Array, a: Array, b: Array) -> tuple[Array, float]:
    """Probability of each component for each number, and the mean log-likelihood."""
    x = np.asarray(x, dtype=np.float64).clip(EDGE, 1 - EDGE)[:, None]
    log_joint = np.log(shares) + beta.logpdf(x, a, b)
    log_total = logsumexp(log_joint, axis=1, keepdims=True)
    return np.exp(log_joint - log_total), float(log_total.mean())


def _moments(x: Array, r: Array) -> tuple[Array, Array, Array]:
    """Shares and Beta parameters with the weighted means and variances."""
    count = r.sum(axis=0) + TINY
    mean = (r.T @ x / count).clip(EDGE, 1 - EDGE)
    variance = (r * (x[:, None] - mean) ** 2).sum(axis=0) / count
    # A Beta of larger variance would have its mass at both ends.
    variance = np.minimum(variance, mean * (1 - mean) / 4) + TINY
    total = mean * (1 - mean) / (variance + 1e-10) - 1
    return count / count.sum(), total * mean, total * (1 - mean)

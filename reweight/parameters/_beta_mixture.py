"""Mixture of Beta distributions by EM with moments in place of maximum likelihood."""

from typing import Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import betaln, logsumexp
from sklearn.cluster import KMeans
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils import check_random_state

from reweight.validation import warn_user

Array = NDArray[np.float64]
EDGE = 1e-6


class BetaMixture:
    """Beta mixture of numbers between 0 and 1.

    The M-step matches means and variances, so the likelihood need not rise at
    every step; the fit stops when its change is small.

    Parameters
    ----------
    n_components : int
        Number of components.
    n_init : int
        Number of starts, from k-means with seeds in a row; the likeliest is kept.
    tol : float
        Change of the mean log-likelihood at which a fit stops.
    max_iter : int
        Largest number of steps.
    random_state : int, RandomState instance or None
        Seed of the first start.

    Attributes
    ----------
    weights_, a_, b_, means_ : ndarray of shape (n_components,)
        Shares, parameters and means, in the order of the means.
    lower_bound_ : float
        Mean log-likelihood.
    """

    def __init__(self, n_components=3, *, n_init=3, tol=1e-6, max_iter=1000, random_state=None):
        self.n_components = n_components
        self.n_init = n_init
        self.tol = tol
        self.max_iter = max_iter
        self.random_state = random_state

    def fit(self, x: ArrayLike) -> Self:
        """Fit to numbers of shape (n_samples,)."""
        x = np.asarray(x, dtype=np.float64).clip(EDGE, 1 - EDGE)
        K = min(self.n_components, len(np.unique(x)))
        if np.ptp(x) < 1e-12:
            K = 1
        if self.n_components > K:
            warn_user(
                f"BetaMixture: the numbers take {K} distinct values, too few for "
                f"{self.n_components} components; one component a value is fitted",
                ConvergenceWarning,
            )
        seed = self.random_state
        if not isinstance(seed, int | np.integer):
            seed = check_random_state(seed).randint(2**31 - self.n_init)
        starts = [self._fit_once(x, K, int(seed) + start) for start in range(self.n_init)]
        bound, shares, a, b, converged = max(starts, key=lambda start: start[0])
        if not converged:
            warn_user(
                f"BetaMixture: not converged after {self.max_iter} steps; raise max_iter or tol",
                ConvergenceWarning,
            )
        order = np.argsort(a / (a + b))
        self.weights_, self.a_, self.b_ = shares[order], a[order], b[order]
        self.means_ = self.a_ / (self.a_ + self.b_)
        self.lower_bound_ = bound
        return self

    def predict_proba(self, x: ArrayLike) -> Array:
        """Probability of each component, of shape (n_samples, n_components)."""
        x = np.asarray(x, dtype=np.float64).clip(EDGE, 1 - EDGE)
        return _responsibilities(x, self.weights_, self.a_, self.b_)[0]

    def predict(self, x: ArrayLike) -> NDArray[np.intp]:
        """Most probable component of each number."""
        return self.predict_proba(x).argmax(axis=1)

    def _fit_once(self, x: Array, K: int, seed: int) -> tuple:
        labels = KMeans(K, n_init=1, random_state=seed).fit_predict(x[:, None])
        r = (labels[:, None] == np.arange(K)).astype(np.float64)
        previous = -np.inf
        for _ in range(self.max_iter):
            shares, a, b = _moments(x, r)
            r, bound = _responsibilities(x, shares, a, b)
            if abs(bound - previous) < self.tol:
                return bound, shares, a, b, True
            previous = bound
        return bound, shares, a, b, False


def _moments(x: Array, r: Array) -> tuple[Array, Array, Array]:
    """Shares and Beta parameters with the weighted means and variances."""
    count = r.sum(axis=0) + 10 * np.finfo(float).eps
    mean = (r.T @ x / count).clip(EDGE, 1 - EDGE)
    variance = (r * (x[:, None] - mean) ** 2).sum(axis=0) / count
    # A Beta of larger variance would have its mass at both ends.
    variance = np.minimum(variance, mean * (1 - mean) / 4) + 10 * np.finfo(float).eps
    total = mean * (1 - mean) / (variance + 1e-10) - 1
    return count / count.sum(), total * mean, total * (1 - mean)


def _responsibilities(x: Array, shares: Array, a: Array, b: Array) -> tuple[Array, float]:
    log_density = np.outer(np.log(x), a - 1) + np.outer(np.log1p(-x), b - 1) - betaln(a, b)
    log_joint = np.log(shares) + log_density
    log_total = logsumexp(log_joint, axis=1, keepdims=True)
    return np.exp(log_joint - log_total), float(log_total.mean())

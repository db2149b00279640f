"""The default model of an arm given the features: logistic regression on their products."""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import expit
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils.validation import check_is_fitted

from reweight.kernels.weighted_moments import nonzero_scale, weighted_mean_variance
from reweight.solvers.damped_newton import damped_newton
from reweight.validation import check_sample_weight, warn_user

Array = NDArray[np.float64]
ALPHA = 1e-3
# More products than this are left out, squares are kept.
MAX_PRODUCTS = 500
TOL = 1e-10


class PolynomialLogistic(ClassifierMixin, BaseEstimator):
    """Logistic regression on standardised columns, their squares and their products.

    The penalty is `alpha` / 2 times the squared slopes on top of the mean loss,
    so that neither the number of rows nor the scale of the weights matters.
    Above 500 products only columns and squares are used. `partial_fit` passes
    over a stream once: the quadratic expansion of the loss at the solution
    stands for all rows before.

    Parameters
    ----------
    alpha : float, default=1e-3
        Penalty.
    """

    def __init__(self, alpha: float = ALPHA) -> None:
        self.alpha = alpha

    def fit(
        self, X: Array, y: ArrayLike, sample_weight: ArrayLike | None = None
    ) -> "PolynomialLogistic":
        """Fit to all rows."""
        s = check_sample_weight(sample_weight, X)
        self._start(X, y, s)
        return self._update(X, y, s)

    def partial_fit(
        self,
        X: Array,
        y: ArrayLike,
        sample_weight: ArrayLike | None = None,
        classes: ArrayLike | None = None,
    ) -> "PolynomialLogistic":
        """Update with the next rows of a stream."""
        s = check_sample_weight(sample_weight, X, allow_zero=True)
        if not hasattr(self, "coef_"):
            self._start(X, y if classes is None else classes, s)
        return self._update(X, y, s)

    def predict_proba(self, X: Array) -> Array:
        """Probability of either class."""
        check_is_fitted(self, "coef_")
        one = expit(self._columns(X) @ self.coef_)
        return np.column_stack([1 - one, one])

    def predict(self, X: Array) -> NDArray:
        """The likelier class."""
        return self.classes_[(self.predict_proba(X)[:, 1] > 0.5).astype(int)]

    def _start(self, X: Array, labels: ArrayLike, s: Array) -> None:
        """Standardise by the first rows; the penalty is all that is known of the slopes."""
        self.classes_ = np.unique(labels)
        self._center, variance = weighted_mean_variance(X, s)
        self._scale = nonzero_scale(np.sqrt(variance))
        d = self._columns(X[:1]).shape[1]
        self.coef_ = np.zeros(d)
        penalty = np.full(d, self.alpha * s.sum())
        penalty[-1] = 0.0
        self._precision = np.diag(penalty)

    def _update(self, X: Array, y: ArrayLike, s: Array) -> "PolynomialLogistic":
        """Minimise the loss of these rows plus the expansion of what was known before."""
        if not (s > 0).any():
            return self
        Z = self._columns(X)
        t = (np.asarray(y) == self.classes_[1]).astype(np.float64)
        before, precision, total = self.coef_, self._precision, s.sum()

        def fun_grad_hess(beta: Array) -> tuple[float, Array, Array]:
            eta, step = Z @ beta, beta - before
            e = expit(eta)
            value = s @ (np.logaddexp(0.0, eta) - t * eta) + step @ precision @ step / 2
            gradient = Z.T @ (s * (e - t)) + precision @ step
            hessian = (Z * (s * e * (1 - e))[:, None]).T @ Z + precision
            return float(value) / total, gradient / total, hessian / total

        result = damped_newton(fun_grad_hess, before, tol=TOL)
        if not result.converged:
            warn_user(
                f"the probability of the arms did not converge (gradient "
                f"{result.optimality_gap:.1e}); the features may tell the arms apart, so pass "
                "another weight_estimator",
                ConvergenceWarning,
            )
        e = expit(Z @ result.x)
        self._precision = precision + (Z * (s * e * (1 - e))[:, None]).T @ Z
        self.coef_ = result.x
        return self

    def _columns(self, X: Any) -> Array:
        """Standardised columns, squares, products, and a column of ones."""
        A = (X - self._center) / self._scale
        p = A.shape[1]
        first, second = np.triu_indices(p)
        if len(first) > MAX_PRODUCTS:
            first = second = np.arange(p)
        return np.column_stack([A, A[:, first] * A[:, second], np.ones(len(A))])

"""Unpenalised logistic regression by Newton's method."""

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from reweight.solvers.damped_newton import damped_newton
from reweight.solvers.result import SolverResult


def logistic_mle(
    Z: NDArray[np.float64],
    y: NDArray,
    sample_weight: NDArray[np.float64],
    *,
    tol: float = 1e-10,
    max_iter: int = 100,
) -> SolverResult:
    """Maximum likelihood of a logistic regression.

    Parameters
    ----------
    Z : ndarray of shape (n, d)
        Regressors of order one, with a column of ones if an intercept is wanted.
    y : ndarray of shape (n,)
        Zeros and ones.
    sample_weight : ndarray of shape (n,)
        Sampling weights.
    tol : float, default=1e-10
        Largest entry of the mean score at a solution.
    max_iter : int, default=100
        Largest number of Newton steps.

    Returns
    -------
    SolverResult
        `x` are the coefficients of shape (d,); `objective` is the mean
        negative log-likelihood. Under separation there is no maximum:
        coefficients are large and `objective` is near zero.

    Examples
    --------
    >>> import numpy as np
    >>> result = logistic_mle(np.ones((4, 1)), np.array([1, 1, 1, 0]), np.ones(4))
    >>> round(float(result.x[0]), 6) == round(float(np.log(3)), 6)
    True
    """
    w = sample_weight / sample_weight.sum()

    def fun_grad_hess(beta):
        eta = Z @ beta
        e = expit(eta)
        value = w @ (np.logaddexp(0.0, eta) - y * eta)
        return float(value), Z.T @ (w * (e - y)), (Z * (w * e * (1 - e))[:, None]).T @ Z

    return damped_newton(fun_grad_hess, np.zeros(Z.shape[1]), tol=tol, max_iter=max_iter)

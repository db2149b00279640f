"""Multinomial logit of clean classes, fitted to noisy labels through a transition matrix."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import log_softmax, logsumexp

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class ForwardLogit:
    """The penalised likelihood of noisy labels, as a function of coefficients.

    Parameters
    ----------
    X : ndarray or sparse matrix of shape (n_samples, n_features)
        Features.
    y : ndarray of int of shape (n_samples,)
        Noisy labels, from 0 on.
    transition : ndarray of shape (n_classes, n_classes)
        T, columns sum to one.
    weights : ndarray of shape (n_samples,)
        Weights of the rows times the inverse strength of the penalty.
    fit_intercept : bool
        Whether there are intercepts.
    """

    X: Any
    y: NDArray[np.intp]
    transition: Array
    weights: Array
    fit_intercept: bool

    @property
    def n_scores(self) -> int:
        """Rows of coefficients: one for two classes, as in scikit-learn."""
        n_classes = len(self.transition)
        return 1 if n_classes == 2 else n_classes

    def unpack(self, theta: Array) -> tuple[Array, Array]:
        """Coefficients and intercepts of a vector.

        Parameters
        ----------
        theta : ndarray of shape (n_scores * (n_features + 1),)
            Coefficients, then intercepts.

        Returns
        -------
        coef : ndarray of shape (n_scores, n_features)
        intercept : ndarray of shape (n_scores,)
        """
        coef = theta[: self.n_scores * self.X.shape[1]].reshape(self.n_scores, -1)
        return coef, theta[coef.size :]

    def value_and_gradient(self, theta: Array) -> tuple[float, Array]:
        """Objective and its gradient.

        Parameters
        ----------
        theta : ndarray of shape (n_scores * (n_features + 1),)
            Coefficients, then intercepts.

        Returns
        -------
        value : float
        gradient : ndarray of the shape of `theta`
        """
        coef, intercept = self.unpack(theta)
        scores = self.X @ coef.T + (intercept if self.fit_intercept else 0.0)
        if self.n_scores == 1:
            scores = np.hstack([np.zeros_like(scores), scores])
        log_f = log_softmax(scores, axis=1)
        with np.errstate(divide="ignore"):
            joint = np.log(self.transition)[self.y] + log_f
        log_noisy = logsumexp(joint, axis=1)
        value = -self.weights @ log_noisy + 0.5 * (coef**2).sum()
        residual = self.weights[:, None] * (np.exp(log_f) - np.exp(joint - log_noisy[:, None]))
        residual = residual[:, 1:] if self.n_scores == 1 else residual
        slope = (self.X.T @ residual).T + coef
        shift = residual.sum(axis=0) if self.fit_intercept else np.zeros(self.n_scores)
        return value, np.concatenate([slope.ravel(), shift])


def fit_forward_logit(
    problem: ForwardLogit, coef: Array, intercept: Array, *, tol: float, max_iter: int
) -> tuple[Array, Array, int, float]:
    """Coefficients of the nearest minimum, by L-BFGS.

    Parameters
    ----------
    problem : ForwardLogit
        The objective.
    coef : ndarray of shape (n_scores, n_features)
        Start.
    intercept : ndarray of shape (n_scores,)
        Start.
    tol : float
        Largest entry of the gradient over the sum of the weights.
    max_iter : int
        Largest number of iterations.

    Returns
    -------
    coef : ndarray of shape (n_scores, n_features)
    intercept : ndarray of shape (n_scores,)
    n_iter : int
    gap : float
        The largest entry of the gradient over the sum of the weights.
    """
    scale = max(problem.weights.sum(), np.finfo(float).tiny)

    def scaled(theta: Array) -> tuple[float, Array]:
        value, gradient = problem.value_and_gradient(theta)
        return value / scale, gradient / scale

    found = minimize(
        scaled,
        np.concatenate([coef.ravel(), intercept]),
        jac=True,
        method="L-BFGS-B",
        options={"gtol": tol, "ftol": 0.0, "maxiter": max_iter, "maxls": 50},
    )
    gap = float(np.abs(found.jac).max())
    return *problem.unpack(found.x), int(found.nit), gap

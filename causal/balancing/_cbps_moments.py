"""Moments, weighting matrices and criteria of covariate balancing propensity scores."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import least_squares, minimize, minimize_scalar
from scipy.special import expit

from reweight.solvers.damped_newton import damped_newton, newton_direction
from reweight.solvers.result import SolverResult

PROPENSITY_BOUND = 1e-6
SHRINKAGE = (0.8, 1.1)
MAX_POLISH = 10


@dataclass(frozen=True)
class Moments:
    """Score and balance moments of one data set for the ATE or the ATT.

    Parameters
    ----------
    Z : ndarray of shape (n, d)
        Whitened regressors with a constant.
    treated : ndarray of bool of shape (n,)
        Whether the row is treated.
    s : ndarray of shape (n,)
        Sampling weights.
    att : bool
        Whether the target are the treated.
    """

    Z: NDArray[np.float64]
    treated: NDArray[np.bool_]
    s: NDArray[np.float64]
    att: bool

    @property
    def total(self) -> float:
        """Sum of the sampling weights."""
        return float(self.s.sum())

    @property
    def ratio(self) -> float:
        """N / n1 of the sampling weights."""
        return self.total / float(self.s[self.treated].sum())

    def propensity(self, beta: NDArray) -> NDArray[np.float64]:
        """Propensities away from zero and one."""
        return np.clip(expit(self.Z @ beta), PROPENSITY_BOUND, 1 - PROPENSITY_BOUND)

    def residuals(self, beta: NDArray) -> tuple[NDArray, NDArray]:
        """Factors of x in the score and in the balance moments."""
        e = self.propensity(beta)
        score = self.treated - e
        balance = self.ratio * score / (1 - e) if self.att else score / (e * (1 - e))
        return score, balance

    def slopes(self, beta: NDArray) -> tuple[NDArray, NDArray]:
        """Derivatives of `residuals` in the log-odds; zero where the propensity is held."""
        eta = self.Z @ beta
        e = self.propensity(beta)
        free = np.abs(expit(eta) - 0.5) < 0.5 - PROPENSITY_BOUND
        if self.att:
            balance = -self.ratio * ~self.treated * e / (1 - e)
        else:
            balance = -np.where(self.treated, (1 - e) / e, e / (1 - e))
        return -e * (1 - e) * free, balance * free

    def rows(self, beta: NDArray) -> NDArray[np.float64]:
        """Moment of each row, of shape (n, 2 d), sampling weights included."""
        return np.hstack([self.Z * (self.s * part)[:, None] for part in self.residuals(beta)])

    def mean(self, beta: NDArray) -> NDArray[np.float64]:
        """Mean moments g of shape (2 d,)."""
        return np.concatenate([(self.s * part) @ self.Z for part in self.residuals(beta)]) / (
            self.total
        )

    def jacobian(self, beta: NDArray) -> NDArray[np.float64]:
        """Derivative of `mean`, of shape (2 d, d)."""
        return (
            np.vstack(
                [(self.Z * (self.s * part)[:, None]).T @ self.Z for part in self.slopes(beta)]
            )
            / self.total
        )

    def _variance_factors(self, e: NDArray) -> tuple[NDArray, NDArray, NDArray]:
        if self.att:
            return e * (1 - e), self.ratio * e, self.ratio**2 * e / (1 - e)
        return e * (1 - e), np.ones_like(e), 1 / (e * (1 - e))

    def _variance_slopes(self, e: NDArray) -> tuple[NDArray, NDArray, NDArray]:
        spread = e * (1 - e)
        if self.att:
            odds = e / (1 - e)
            return spread * (1 - 2 * e), self.ratio * spread, self.ratio**2 * odds
        return spread * (1 - 2 * e), np.zeros_like(e), -(1 - 2 * e) / spread

    def variance(self, beta: NDArray) -> NDArray[np.float64]:
        """Model-based covariance V of the moments, of shape (2 d, 2 d)."""
        a, b, c = (
            (self.Z * (self.s * factor)[:, None]).T @ self.Z / self.total
            for factor in self._variance_factors(self.propensity(beta))
        )
        return np.block([[a, b], [b, c]])

    def continuous_loss(self, beta: NDArray) -> float:
        """G' V(beta)^+ g."""
        g = self.mean(beta)
        return float(g @ np.linalg.pinv(self.variance(beta), hermitian=True) @ g)

    def continuous_loss_and_gradient(self, beta: NDArray) -> tuple[float, NDArray]:
        """G' V(beta)^+ g and its exact gradient."""
        g = self.mean(beta)
        v = np.linalg.pinv(self.variance(beta), hermitian=True) @ g
        change = self.variance_change(beta, v)
        gradient = 2 * self.jacobian(beta).T @ v - self.Z.T @ change / self.total
        return float(g @ v), gradient

    def variance_change(self, beta: NDArray, v: NDArray) -> NDArray[np.float64]:
        """Derivative of n v'V v in the log-odds of each row."""
        d = self.Z.shape[1]
        score, balance = self.Z @ v[:d], self.Z @ v[d:]
        a, b, c = self._variance_slopes(self.propensity(beta))
        free = np.abs(expit(self.Z @ beta) - 0.5) < 0.5 - PROPENSITY_BOUND
        return self.s * free * (a * score**2 + 2 * b * score * balance + c * balance**2)


def just_identified_ate(moments: Moments, *, tol: float, max_iter: int) -> SolverResult:
    """Root of the balance moments for the ATE, as the minimum of a convex loss.

    The loss is the mean of s [t exp(-eta) + (1 - t) exp(eta) + (1 - 2 t) eta].

    Parameters
    ----------
    moments : Moments
        Of the data.
    tol : float
        Largest entry of the gradient.
    max_iter : int
        Largest number of Newton steps.

    Returns
    -------
    SolverResult
    """
    Z, q = moments.Z, moments.s / moments.total
    sign = np.where(moments.treated, 1.0, -1.0)

    def fun_grad_hess(beta):
        eta = Z @ beta
        tail = np.exp(-sign * eta)
        value = q @ (tail - sign * eta)
        gradient = Z.T @ (-q * sign * (tail + 1))
        return float(value), gradient, (Z * (q * tail)[:, None]).T @ Z

    return damped_newton(fun_grad_hess, np.zeros(Z.shape[1]), tol=tol, max_iter=max_iter)


def two_step(moments: Moments, mle: NDArray, starts: list[NDArray], tol: float) -> SolverResult:
    """Minimum of g' V^+ g with V fixed at the best shrunken maximum-likelihood fit.

    Parameters
    ----------
    moments : Moments
        Of the data.
    mle : ndarray of shape (d,)
        Maximum-likelihood coefficients.
    starts : list of ndarray of shape (d,)
        Further starting points; the lowest criterion found is kept.
    tol : float
        Largest entry of the gradient relative to one plus the criterion.

    Returns
    -------
    SolverResult
        `dual` holds V^+ as an array of shape (2 d, 2 d).
    """
    shrunk = minimize_scalar(
        lambda a: moments.continuous_loss(a * mle), bounds=SHRINKAGE, method="bounded"
    )
    first = shrunk.x * mle
    inverse = np.linalg.pinv(moments.variance(first), hermitian=True)
    values, vectors = np.linalg.eigh(inverse)
    root = np.sqrt(np.maximum(values, 0.0))[:, None] * vectors.T
    fits = [
        least_squares(
            lambda beta: root @ moments.mean(beta),
            start,
            jac=lambda beta: root @ moments.jacobian(beta),
            method="lm",
            xtol=1e-15,
            ftol=1e-15,
            gtol=1e-15,
        )
        for start in [first, mle, *starts]
    ]
    best = min(fits, key=lambda fit: fit.cost)

    def loss_and_gradient(beta):
        g = moments.mean(beta)
        return float(g @ inverse @ g), 2 * moments.jacobian(beta).T @ (inverse @ g)

    return _polished(loss_and_gradient, best.x, inverse, best.nfev, tol, "levenberg-marquardt")


def continuous_updating(moments: Moments, starts: list[NDArray], tol: float) -> SolverResult:
    """Minimum of g' V(beta)^+ g over beta, by BFGS with the exact gradient.

    Parameters
    ----------
    moments : Moments
        Of the data.
    starts : list of ndarray of shape (d,)
        Starting points; the lowest criterion found is kept.
    tol : float
        Largest entry of the gradient relative to one plus the criterion.

    Returns
    -------
    SolverResult
        `dual` holds V^+ at the solution.
    """
    fits = [
        minimize(
            moments.continuous_loss_and_gradient,
            start,
            jac=True,
            method="BFGS",
            options={"gtol": 0.1 * tol, "maxiter": 1000},
        )
        for start in starts
    ]
    best = min(fits, key=lambda fit: fit.fun)
    inverse = np.linalg.pinv(moments.variance(best.x), hermitian=True)
    return _polished(moments.continuous_loss_and_gradient, best.x, inverse, best.nit, tol, "bfgs")


def _polished(loss_and_gradient, beta, inverse, n_iter, tol, solver) -> SolverResult:
    """Take Newton steps, Hessian by differences of the exact gradient, while they help."""
    value, gradient = loss_and_gradient(beta)
    for _ in range(MAX_POLISH):
        step = newton_direction(_difference_hessian(loss_and_gradient, beta), gradient)
        new_value, new_gradient = loss_and_gradient(beta + step)
        if np.abs(new_gradient).max() >= 0.5 * np.abs(gradient).max() or new_value > value + 1e-12:
            break
        beta, value, gradient = beta + step, new_value, new_gradient
    gap = float(np.abs(gradient).max() / (1 + value))
    return SolverResult(
        x=beta,
        dual=inverse,
        objective=float(value),
        optimality_gap=gap,
        certificate="kkt",
        n_iter=int(n_iter),
        converged=gap <= tol,
        solver=solver,
    )


def _difference_hessian(loss_and_gradient, beta: NDArray) -> NDArray[np.float64]:
    size = 1e-5
    rows = [
        (loss_and_gradient(beta + d)[1] - loss_and_gradient(beta - d)[1]) / (2 * size)
        for d in size * np.eye(len(beta))
    ]
    return 0.5 * (np.array(rows) + np.array(rows).T)

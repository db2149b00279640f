"""Weighted ridge regression with the covariance of its coefficients."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

LEVERAGE_ONE = 1e-10


@dataclass(frozen=True)
class RidgeFit:
    """Intercept, coefficients of shape (a,) and their covariance of shape (a, a)."""

    intercept: float
    coef: Array
    covariance: Array


def weighted_ridge(
    X: Array, y: Array, w: Array, alpha: float, cov_type: str, where: str
) -> RidgeFit:
    """Minimise the weighted squares plus alpha times those of the coefficients.

    Weights divide the variances of the rows' noise. Rows that a robust covariance
    would divide by zero for, since they are fitted exactly, raise, in the words of
    `where`.
    """
    root = np.sqrt(w)[:, None]
    # Centred columns need no intercept, and lose no digits to it.
    x_mean, y_mean = np.average(X, axis=0, weights=w), np.average(y, weights=w)
    D, z = (X - x_mean) * root, (y - y_mean) * root[:, 0]
    U, s, Vt = np.linalg.svd(D, full_matrices=False)
    shrink = s / (s * s + alpha)
    coef = Vt.T @ (shrink * (U.T @ z))
    residual = z - D @ coef
    leverage = (U**2 @ (s * shrink)) + w / w.sum()
    covariance = _covariance(Vt.T * shrink @ U.T, residual, leverage, cov_type, where)
    return RidgeFit(float(y_mean - x_mean @ coef), coef, covariance)


def _covariance(solve: Array, residual: Array, leverage: Array, cov_type: str, where: str) -> Array:
    """Covariance from the matrix that makes coefficients of outcomes, (a, n)."""
    n, freedom = len(residual), len(residual) - leverage.sum()
    if cov_type in ("nonrobust", "HC1") and freedom <= 0:
        raise ValueError(
            f"{where}: {n} runs leave no degrees of freedom for cov_type={cov_type!r}; pass more"
        )
    if cov_type == "nonrobust":
        return residual @ residual / freedom * (solve @ solve.T)
    squares = residual**2
    if cov_type in ("HC2", "HC3"):
        if (leverage > 1 - LEVERAGE_ONE).any():
            raise ValueError(
                f"{where}: run {int(np.argmax(leverage))} of it is fitted exactly, so that "
                f"cov_type={cov_type!r} divides by zero; pass more runs or cov_type='HC1'"
            )
        squares = squares / (1 - leverage) ** (1 if cov_type == "HC2" else 2)
    elif cov_type == "HC1":
        squares = squares * (n / freedom)
    return (solve * squares) @ solve.T

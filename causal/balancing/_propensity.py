"""Propensity scores: the weights they imply, their derivatives, and a well-conditioned design."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, xlogy

from reweight.kernels.weighted_moments import ROUND_OFF, weighted_mean_variance
from reweight.validation import warn_weights

RANK_TOLERANCE = 1e-11
SATURATED = 30.0


def tilting(e: NDArray[np.float64], estimand: str, overlap_bound: float) -> NDArray[np.float64]:
    """Density of the target population relative to the whole, as a function of e.

    Parameters
    ----------
    e : ndarray of shape (n,)
        Propensity scores.
    estimand : str
        Target population.
    overlap_bound : float
        For "ATOS": rows with e or 1 - e below it are not in the target.

    Returns
    -------
    ndarray of shape (n,)
    """
    return {
        "ATE": lambda: np.ones_like(e),
        "ATT": lambda: e,
        "ATC": lambda: 1 - e,
        "ATO": lambda: e * (1 - e),
        "ATM": lambda: np.minimum(e, 1 - e),
        "ATOS": lambda: ((e > overlap_bound) & (e < 1 - overlap_bound)).astype(float),
        "ATEN": lambda: -xlogy(e, e) - xlogy(1 - e, 1 - e),
    }[estimand]()


def tilting_slope(e: NDArray[np.float64], estimand: str) -> NDArray[np.float64]:
    """Derivative of `tilting` in e.

    Parameters
    ----------
    e : ndarray of shape (n,)
        Propensity scores strictly between zero and one.
    estimand : str
        Target population.

    Returns
    -------
    ndarray of shape (n,)
    """
    return {
        "ATE": lambda: np.zeros_like(e),
        "ATT": lambda: np.ones_like(e),
        "ATC": lambda: -np.ones_like(e),
        "ATO": lambda: 1 - 2 * e,
        "ATM": lambda: np.sign(0.5 - e),
        "ATOS": lambda: np.zeros_like(e),
        "ATEN": lambda: np.log1p(-e) - np.log(e),
    }[estimand]()


def arm_weights(
    e: NDArray[np.float64], arm: int, estimand: str, overlap_bound: float = 0.1
) -> NDArray[np.float64]:
    """Weights of the rows of one arm: tilting / P(arm | x), with exact limits.

    Parameters
    ----------
    e : ndarray of shape (n,)
        Propensity scores.
    arm : {0, 1}
        Arm of the rows.
    estimand : str
        Target population.
    overlap_bound : float, default=0.1
        For "ATOS".

    Returns
    -------
    ndarray of shape (n,)
        Infinite where the probability of the arm is zero and the target is not.
    """
    own = e if arm else 1 - e
    if estimand == ("ATT" if arm else "ATC"):
        return np.ones_like(e)
    if estimand == "ATO":
        return 1 - own
    with np.errstate(divide="ignore", invalid="ignore"):
        weights = tilting(e, estimand, overlap_bound) / own
    if estimand == "ATM":
        weights[own == 0] = 1.0
    elif estimand == "ATOS":
        weights[own == 0] = 0.0
    elif estimand == "ATEN":
        weights[own == 0] = np.inf
    return weights


def arm_weight_slope(
    e: NDArray[np.float64], arm: int, estimand: str, overlap_bound: float = 0.1
) -> NDArray[np.float64]:
    """Derivative of `arm_weights` in the log-odds of e.

    Parameters
    ----------
    e : ndarray of shape (n,)
        Propensity scores strictly between zero and one.
    arm : {0, 1}
        Arm of the rows.
    estimand : str
        Target population.
    overlap_bound : float, default=0.1
        For "ATOS".

    Returns
    -------
    ndarray of shape (n,)
    """
    h = tilting(e, estimand, overlap_bound)
    slope = tilting_slope(e, estimand)
    return (1 - e) * (slope - h / e) if arm else e * (slope + h / (1 - e))


@dataclass(frozen=True)
class Design:
    """Regressors of a logistic model: a constant and uncorrelated columns of unit variance.

    Redundant covariates cost no column, and every fit is the same for X and
    for X A + c with A invertible.

    Parameters
    ----------
    center : ndarray of shape (p,)
        Subtracted from the covariates.
    rotation : ndarray of shape (p, r)
        Takes centred covariates to the columns.
    """

    center: NDArray[np.float64]
    rotation: NDArray[np.float64]

    @classmethod
    def of(cls, X: NDArray[np.float64], sample_weight: NDArray[np.float64]) -> "Design":
        """Learn the design from covariates and sampling weights."""
        q = sample_weight / sample_weight.sum()
        center, variance = weighted_mean_variance(X, q)
        centred = X - center
        scale = np.sqrt(variance)
        scale = np.where(scale > ROUND_OFF * np.abs(center), scale, np.inf)
        standard = centred / scale
        values, vectors = np.linalg.eigh((standard * q[:, None]).T @ standard)
        kept = values > RANK_TOLERANCE * max(values.max(initial=0.0), np.finfo(float).tiny)
        return cls(center, vectors[:, kept] / np.sqrt(values[kept]) / scale[:, None])

    def __call__(self, X: NDArray[np.float64]) -> NDArray[np.float64]:
        """Regressors of rows."""
        return np.column_stack([np.ones(len(X)), (X - self.center) @ self.rotation])

    def coefficients(self, beta: NDArray[np.float64]) -> tuple[NDArray[np.float64], float]:
        """Slopes and intercept in the units of the covariates."""
        slopes = self.rotation @ beta[1:]
        return slopes, float(beta[0] - self.center @ slopes)


def warn_if_separated(owner: str, eta: NDArray[np.float64], treated: NDArray[np.bool_]) -> bool:
    """Warn when covariates (almost) separate the arms; returns whether they do.

    Parameters
    ----------
    owner : str
        Class to name.
    eta : ndarray of shape (n,)
        Fitted log-odds.
    treated : ndarray of bool of shape (n,)
        Whether the row is treated.
    """
    apart = bool(np.all((eta > 0) == treated)) or float(np.abs(eta).max()) > SATURATED
    if apart:
        warn_weights(
            f"{owner}: the covariates separate treated from control rows (fitted log-odds up to "
            f"{np.abs(eta).max():.1f}), so propensities of 0 or 1 carry no information about "
            "weights; use estimand='ATO', or EntropyBalancing with max_smd, or drop the "
            "separating covariates"
        )
    return apart


def propensity_of(eta: NDArray[np.float64]) -> NDArray[np.float64]:
    """Logistic function kept strictly inside (0, 1).

    Parameters
    ----------
    eta : ndarray of shape (n,)
        Log-odds.

    Returns
    -------
    ndarray of shape (n,)
    """
    return np.clip(expit(eta), np.finfo(float).tiny, 1 - np.finfo(float).epsneg)


def finite_weights(owner: str, weights: NDArray[np.float64], remedy: str) -> Any:
    """The weights, or an error that counts the rows whose propensity is zero or one."""
    bad = int((~np.isfinite(weights)).sum())
    if bad:
        raise ValueError(
            f"{owner}: the propensity is exactly 0 or 1 in {bad} rows that the estimand needs; "
            f"{remedy}"
        )
    return weights

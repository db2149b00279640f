r"""Neyman-orthogonal scores of effects, as functions of nuisances.

Every score here is linear, psi_i(theta) = b_i - a_i theta. On a basis z of the
rows (a column of ones for one effect, indicators for effects by group) theta
solves sum_i s_i z_i (b_i - a_i z_i' theta) = 0.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


@dataclass(frozen=True)
class LinearScore:
    """A score b - a theta of each row.

    Parameters
    ----------
    a : ndarray of shape (n_samples,)
        What multiplies the effect.
    b : ndarray of shape (n_samples,)
        What does not.
    """

    a: Array
    b: Array


def partialling_out_score(y: Array, t: Array, m: Array, e: Array) -> LinearScore:
    """Residual of the outcome on the residual of the treatment.

    Parameters
    ----------
    y, t : ndarray of shape (n_samples,)
        Outcome and treatment.
    m, e : ndarray of shape (n_samples,)
        Their means given the covariates.

    Returns
    -------
    LinearScore
    """
    residual = t - e
    return LinearScore(residual**2, residual * (y - m))


def instrument_score(y: Array, t: Array, g: Array, e: Array) -> LinearScore:
    """Outcome less g on the treatment, with the residual of the treatment as instrument.

    Parameters
    ----------
    y, t : ndarray of shape (n_samples,)
        Outcome and treatment.
    g : ndarray of shape (n_samples,)
        Mean of y - theta t given the covariates.
    e : ndarray of shape (n_samples,)
        Mean of the treatment given the covariates.

    Returns
    -------
    LinearScore
    """
    residual = t - e
    return LinearScore(residual * t, residual * (y - g))


def interactive_score(
    estimand: str, y: Array, t: Array, mu0: Array, mu1: Array, e: Array, control: Array
) -> LinearScore:
    r"""Doubly robust score of an average effect of two arms.

    - ATE: a = 1, b = mu1 - mu0 + t (y - mu1) / e - (1 - t) (y - mu0) / (1 - e).
    - ATT: a = t, b = t (y - mu0) - (1 - t) e / (1 - e) (y - mu0).
    - ATC: a = 1 - t, b = t (1 - e) / e (y - mu1) - (1 - t) (y - mu1).
    - ATO: a = (t - e)^2, b = (t - e)^2 (mu1 - mu0) + (t - e) (y - mu_t).

    The score of the ATO is e (1 - e) times that of the ATE, plus what the
    estimation of e adds: for two arms e (1 - e) + (1 - 2 e) (t - e) is
    (t - e)^2. Without that term the score would move with e to first order.

    Parameters
    ----------
    estimand : {"ATE", "ATT", "ATC", "ATO"}
        Population that the effect is averaged over.
    y : ndarray of shape (n_samples,)
        Outcome.
    t : ndarray of shape (n_samples,)
        0 for controls, 1 for treated.
    mu0, mu1 : ndarray of shape (n_samples,)
        Mean outcome given the covariates, by arm. The ATT takes no notice of
        mu1, the ATC none of mu0.
    e : ndarray of shape (n_samples,)
        Propensity of treatment.
    control : ndarray of shape (n_samples,)
        Propensity of control; 1 - e unless weights stand for propensities.

    Returns
    -------
    LinearScore
    """
    treated = t == 1
    if estimand == "ATT":
        return LinearScore(t, np.where(treated, 1.0, -e / control) * (y - mu0))
    if estimand == "ATC":
        return LinearScore(1.0 - t, np.where(treated, control / e, -1.0) * (y - mu1))
    own = y - np.where(treated, mu1, mu0)
    if estimand == "ATO":
        residual = t - e
        return LinearScore(residual**2, residual**2 * (mu1 - mu0) + residual * own)
    return LinearScore(np.ones(len(t)), mu1 - mu0 + np.where(treated, 1 / e, -1 / control) * own)


@dataclass(frozen=True)
class Solution:
    """Coefficients that solve a linear score.

    Parameters
    ----------
    coef : ndarray of shape (d,)
        Solution, of least norm if there are several.
    covariance : ndarray of shape (d, d)
        Sandwich covariance.
    influence : ndarray of shape (n_samples, d)
        Influence of each row: columns sum to zero, and the sums of their
        products are the covariance, without groups and corrections.
    null_space : ndarray of shape (d, n_unidentified)
        Directions in which the score does not determine the coefficients.
    """

    coef: Array
    covariance: Array
    influence: Array
    null_space: Array


def solve_score(
    score: LinearScore,
    basis: Array,
    sample_weight: Array | None,
    codes: NDArray[np.intp] | None,
    *,
    cov_type: str = "HC0",
) -> Solution:
    """Solve a linear score on a basis of the rows.

    Parameters
    ----------
    score : LinearScore
        The score.
    basis : ndarray of shape (n_samples, d)
        Regressors of the effect.
    sample_weight : ndarray of shape (n_samples,) or None
        Sampling weights.
    codes : ndarray of int of shape (n_samples,) or None
        Group of each row; influences are summed within groups first.
    cov_type : {"HC0", "HC1"}, default="HC0"
        "HC1" multiplies the covariance by n / (n - d), with groups by
        G / (G - 1) * (n - 1) / (n - d).

    Returns
    -------
    Solution
    """
    n, d = basis.shape
    weighted = basis if sample_weight is None else sample_weight[:, None] * basis
    A = (weighted * score.a[:, None]).T @ basis
    values, vectors, scale = _eigen(A)
    size = np.abs(values)
    kept = size > size.max(initial=0.0) * d * np.finfo(float).eps * 10
    inverse = (vectors[:, kept] / values[kept]) @ vectors[:, kept].T / np.outer(scale, scale)
    coef = inverse @ (weighted.T @ score.b)
    influence = (weighted * (score.b - score.a * (basis @ coef))[:, None]) @ inverse
    sums = influence
    if codes is not None:
        sums = np.column_stack([np.bincount(codes, column) for column in influence.T])
    covariance = sums.T @ sums
    if cov_type == "HC1":
        covariance *= n / (n - d) if codes is None else _cluster_factor(len(sums), n, d)
    return Solution(coef, covariance, influence, vectors[:, ~kept] / scale[:, None])


def _cluster_factor(n_groups: int, n: int, d: int) -> float:
    return n_groups / (n_groups - 1) * (n - 1) / (n - d)


def _eigen(A: Array) -> tuple[Array, Array, Array]:
    """Eigenvalues and vectors of A in units in which its diagonal is one, and those units."""
    diagonal = np.diag(A)
    scale = np.sqrt(np.where(diagonal > 0, diagonal, 1.0))
    values, vectors = np.linalg.eigh(A / np.outer(scale, scale))
    return values, vectors, scale

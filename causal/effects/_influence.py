"""Effects as differences of weighted means, and the influence of each row on them.

With h the weights of the target population, m_a the outcome model of arm a
(zero for the plain estimate) and w the weights,

    mu_a = sum h m_a / sum h + sum_{arm a} w (y - m_a) / sum_{arm a} w

is the mean of the target population under arm a, and the effect is
mu_1 - mu_0. Influences are on the scale of the estimate: they sum to zero,
and the variance of the estimate is the sum of their squares.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from causal._estimating_equations import EstimatingEquations

Array = NDArray[np.float64]


@dataclass(frozen=True)
class ArmMeans:
    """Means of the target population under either arm, with what their influence needs.

    Parameters
    ----------
    means : ndarray of shape (2, n_outputs)
        mu_0 and mu_1.
    rows : ndarray of bool of shape (2, n_samples)
        Which rows are controls, which are treated.
    shares : ndarray of shape (2, n_samples)
        Weights within each arm, summing to one, zero for rows of the other arm.
    arm_totals : ndarray of shape (2,)
        Sums of the weights that the shares come from.
    residuals : ndarray of shape (2, n_samples, n_outputs)
        y - m_a less its weighted mean in arm a.
    target : ndarray of shape (n_samples,)
        Weights of the target population, summing to `target_total`.
    target_total : float
        Sum of the target weights.
    deviations : ndarray of shape (2, n_samples, n_outputs)
        m_a less its mean in the target population.
    """

    means: Array
    rows: NDArray[np.bool_]
    shares: Array
    arm_totals: Array
    residuals: Array
    target: Array
    target_total: float
    deviations: Array

    @property
    def effect(self) -> Array:
        """mu_1 - mu_0, of shape (n_outputs,)."""
        return self.means[1] - self.means[0]


def target_weights(
    estimand: str, sample_weight: Array, treated: NDArray[np.bool_], propensity: Array | None
) -> Array:
    """Weights of the rows in the target population of an estimand.

    Parameters
    ----------
    estimand : {"ATE", "ATT", "ATC", "ATO"}
        All rows, the treated, the controls, or all rows weighted by e(1 - e).
    sample_weight : ndarray of shape (n_samples,)
        Sampling weights.
    treated : ndarray of bool of shape (n_samples,)
        Whether the row is treated.
    propensity : ndarray of shape (n_samples,) or None
        Probability of treatment; used by "ATO" only.

    Returns
    -------
    ndarray of shape (n_samples,)
    """
    if estimand == "ATT":
        return sample_weight * treated
    if estimand == "ATC":
        return sample_weight * ~treated
    if estimand == "ATO":
        return sample_weight * propensity * (1 - propensity)
    return sample_weight


def arm_means(
    y: Array,
    treated: NDArray[np.bool_],
    weights: Array,
    target: Array | None = None,
    predictions: Array | None = None,
) -> ArmMeans:
    """Means of the target population under either arm.

    Parameters
    ----------
    y : ndarray of shape (n_samples, n_outputs)
        Outcomes.
    treated : ndarray of bool of shape (n_samples,)
        Whether the row is treated.
    weights : ndarray of shape (n_samples,)
        Weights of the rows within their arms, on any scale.
    target : ndarray of shape (n_samples,), optional
        Weights of the target population; needed with `predictions` only.
    predictions : ndarray of shape (2, n_samples, n_outputs), optional
        Outcome models of controls and treated at every row; None leaves the
        plain weighted means.

    Returns
    -------
    ArmMeans
    """
    if predictions is None:
        predictions = np.zeros((2, *y.shape))
        target = np.zeros(len(y))
    target_total = target.sum() or 1.0
    rows = np.stack([~treated, treated])
    shares = np.where(rows, weights, 0.0)
    arm_totals = shares.sum(axis=1)
    shares /= arm_totals[:, None]
    modelled = np.einsum("i,aij->aj", target / target_total, predictions)
    residuals = y - predictions
    corrections = np.einsum("ai,aij->aj", shares, residuals)
    return ArmMeans(
        means=modelled + corrections,
        rows=rows,
        shares=shares,
        arm_totals=arm_totals,
        residuals=residuals - corrections[:, None],
        target=target,
        target_total=float(target_total),
        deviations=predictions - modelled[:, None],
    )


def effect_influence(
    means: ArmMeans,
    equations: EstimatingEquations | None = None,
    target_is_estimated: bool = False,
) -> Array:
    """Influence of each row on the effect.

    The estimation of the outcome models is left out: it moves the effect by a
    product of two errors only, and not at all if weights balance exactly what
    the model is linear in.

    Parameters
    ----------
    means : ArmMeans
        The estimate.
    equations : EstimatingEquations, optional
        How the weights were estimated; None holds them fixed.
    target_is_estimated : bool, default=False
        Whether the target weights depend on the parameters of the weights, as
        those of the overlap population do.

    Returns
    -------
    ndarray of shape (n_samples, n_outputs)
    """
    target = (means.target / means.target_total)[:, None]
    by_arm = target * means.deviations + means.shares[..., None] * means.residuals
    influence = by_arm[1] - by_arm[0]
    if equations is None:
        return influence
    return influence + equations.influence(_gradient(means, equations, target_is_estimated))


def _gradient(means: ArmMeans, equations: EstimatingEquations, target_is_estimated: bool) -> Array:
    """Derivative of the effect in the parameters of the weights, (n_parameters, n_outputs).

    Derivatives of the totals that weights are divided by drop out, because
    residuals and deviations have weighted mean zero.
    """
    scaled = (means.rows / means.arm_totals[:, None])[..., None] * means.residuals
    gradient = equations.weight_derivative.T @ (scaled[1] - scaled[0])
    if target_is_estimated and equations.target_derivative is not None:
        difference = (means.deviations[1] - means.deviations[0]) / means.target_total
        gradient = gradient + equations.target_derivative.T @ difference
    return gradient

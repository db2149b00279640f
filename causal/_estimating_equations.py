"""What a fitted weighter tells about the estimation of its weights."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class EstimatingEquations:
    """Estimating equations sum_i psi_i(theta) = 0 that define the weights, at their root.

    A statistic whose derivative in theta is `gradient` has, besides the
    influence of each row with weights held fixed, the influence
    -psi_i' A^{-T} gradient through the estimation of theta, where
    A = sum_i d psi_i / d theta.

    Parameters
    ----------
    moments : ndarray of shape (n_samples, n_parameters)
        psi_i at the root; columns sum to zero.
    jacobian : ndarray of shape (n_parameters, n_parameters)
        A[k, l] = sum_i d psi_ik / d theta_l.
    weight_derivative : ndarray of shape (n_samples, n_parameters)
        d w_i / d theta for the weights on the scale of `weights_`; a factor
        that is constant within an arm may be held fixed, because effects
        normalise weights within each arm.
    target_derivative : ndarray of shape (n_samples, n_parameters), optional
        d h_i / d theta for estimands whose target distribution h is itself
        estimated (overlap weights).
    """

    moments: NDArray[np.float64]
    jacobian: NDArray[np.float64]
    weight_derivative: NDArray[np.float64]
    target_derivative: NDArray[np.float64] | None = None

    def influence(self, gradient: NDArray[np.float64]) -> NDArray[np.float64]:
        """Influence of each row through theta on a statistic.

        Parameters
        ----------
        gradient : ndarray of shape (n_parameters,) or (n_parameters, n_outputs)
            Derivative of the statistic in theta.

        Returns
        -------
        ndarray of shape (n_samples,) or (n_samples, n_outputs)
        """
        # Least squares serves a singular jacobian: redundant parameters move no weight.
        multiplier, *_ = np.linalg.lstsq(self.jacobian.T, gradient, rcond=None)
        return -self.moments @ multiplier

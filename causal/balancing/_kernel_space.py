"""The space in which kernel balancing compares arms: standardised covariates and a kernel."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reweight.kernels.bandwidth import resolve_bandwidth
from reweight.kernels.kernel_sums import kernel_matrix, kernel_mean

RANK_TOLERANCE = 1e-10


@dataclass(frozen=True)
class Standardizer:
    """An affine map of the covariates.

    Parameters
    ----------
    center : ndarray of shape (p,)
        Subtracted first.
    matrix : ndarray of shape (p, q) or (p,)
        Multiplied with afterwards; a vector scales columns.
    """

    center: NDArray[np.float64]
    matrix: NDArray[np.float64]

    @classmethod
    def fit(cls, X: NDArray, weight: NDArray, how: str) -> "Standardizer":
        """Learn the map from weighted rows of both arms.

        Parameters
        ----------
        X : ndarray of shape (n, p)
            Covariates.
        weight : ndarray of shape (n,)
            Sampling weights.
        how : {"std", "mahalanobis", "none"}
            Unit variances, unit covariance matrix, or the identity.
        """
        share = weight / weight.sum()
        center = share @ X
        centred = X - center
        if how == "mahalanobis":
            return cls.of_moments(center, (centred * share[:, None]).T @ centred, how)
        return cls.of_moments(center, np.diag(share @ centred**2), how)

    @classmethod
    def of_moments(cls, center: NDArray, covariance: NDArray, how: str) -> "Standardizer":
        """The map for given weighted means and covariances; `how` as in `fit`.

        Parameters
        ----------
        center : ndarray of shape (p,)
            Weighted means.
        covariance : ndarray of shape (p, p)
            Weighted covariance matrix; only its diagonal counts for "std".
        how : {"std", "mahalanobis", "none"}
            As in `fit`.
        """
        if how == "none":
            return cls(np.zeros(len(center)), np.ones(len(center)))
        scale = np.sqrt(np.diag(covariance))
        constant = scale <= RANK_TOLERANCE * np.abs(center)
        if how == "std":
            return cls(center, 1.0 / np.where(constant, 1.0, scale))
        scale = np.where(constant, np.inf, scale)
        # Columns are brought to one size first, so that the rank does not hang on their units.
        values, vectors = np.linalg.eigh(covariance / scale / scale[:, None])
        kept = values > RANK_TOLERANCE * max(values[-1], RANK_TOLERANCE)
        if not kept.any():
            return cls(center, np.zeros((len(center), 1)))
        return cls(center, vectors[:, kept] / np.sqrt(values[kept]) / scale[:, None])

    def transform(self, X: NDArray[np.float64]) -> NDArray[np.float64]:
        """Rows in the new coordinates."""
        centred = X - self.center
        return centred * self.matrix if self.matrix.ndim == 1 else centred @ self.matrix


@dataclass(frozen=True)
class KernelSpace:
    """A kernel on standardised covariates.

    Parameters
    ----------
    standardizer : Standardizer
        Map of the covariates.
    kernel : str
        Name of the kernel.
    bandwidth : float or ndarray
        Its length, in standardised units.
    parameters : dict
        Its own parameters.
    """

    standardizer: Standardizer
    kernel: str
    bandwidth: float | NDArray[np.float64]
    parameters: dict[str, Any]

    def centred_gram(
        self, Z: NDArray[np.float64], Y: NDArray[np.float64], r: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        """Inner products of embedded rows after subtraction of a weighted sample's mean.

        Weights w that sum to one have the squared maximum mean discrepancy w'Gw
        to the sample; also for kernels that are definite only on weights that
        sum to zero.

        Parameters
        ----------
        Z : ndarray of shape (n, q)
            Rows.
        Y : ndarray of shape (m, q)
            Rows of the sample.
        r : ndarray of shape (m,)
            Their weights, summing to one.

        Returns
        -------
        ndarray of shape (n, n)
        """
        options = {"kernel": self.kernel, "bandwidth": self.bandwidth, **self.parameters}
        gram = kernel_matrix(Z, Z, **options)
        mean = kernel_mean(Z, Y, r, **options)
        gram -= mean[:, None]
        gram -= mean
        gram += r @ kernel_mean(Y, Y, r, **options)
        return gram


def bandwidth_of_rows(
    name: str,
    Z: NDArray[np.float64],
    rule: Any,
    rng: Any,
    feature_names: Sequence[str] | None = None,
) -> float | NDArray[np.float64]:
    """Bandwidth that a rule reads off rows, with errors in the name of the estimator.

    Parameters
    ----------
    name : str
        Name of the estimator.
    Z : ndarray of shape (n, p)
        Standardised rows.
    rule : str, float or array-like
        Parameter `bandwidth` of the estimator.
    rng : numpy.random.RandomState
        Draws the rows that a rule looks at.
    feature_names : sequence of str, default=None
        Names of the columns.

    Returns
    -------
    float or ndarray of shape (p,)

    Raises
    ------
    ValueError
        If rows leave the rule without a length, or numbers are not positive.
    """
    try:
        return resolve_bandwidth(Z, rule, random_state=rng, feature_names=feature_names)
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from error

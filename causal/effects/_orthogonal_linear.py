"""The linear final stage: weighted least squares with robust covariance, from sums over rows.

Rows minimise sum w (z - a phi'theta)^2. With a = 1 and z a pseudo-outcome this is the regression
of pseudo-outcomes; with a = t - e, z = y - m it is the R-learner, without ever dividing by t - e.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_factor, cho_solve
from scipy.sparse import csr_matrix

from reweight.kernels.weighted_gram import gram_by_fold
from reweight.validation import warn_user

Array = NDArray[np.float64]
Codes = NDArray[np.intp]
SINGULAR = 1e-12


@dataclass(frozen=True)
class LinearStage:
    """A fitted linear final stage.

    Parameters
    ----------
    theta : ndarray of shape (d,)
        Coefficients, the intercept first.
    covariance : ndarray of shape (d, d)
        Their covariance, in the identified directions.
    unidentified : ndarray of shape (d, k)
        Basis of the directions that the rows say nothing about.
    """

    theta: Array
    covariance: Array
    unidentified: Array

    def predict(self, phi: Array) -> Array:
        """phi'theta, of shape (n,)."""
        return phi @ self.theta

    def stderr(self, phi: Array) -> Array:
        """Standard error of phi'theta, NaN where it is not identified."""
        variance = np.einsum("ij,jk,ik->i", phi, self.covariance, phi, optimize=True)
        error = np.sqrt(variance.clip(min=0.0))
        if self.unidentified.shape[1]:
            size = np.linalg.norm(phi, axis=1)
            lost = np.abs(phi @ self.unidentified).max(axis=1) > 1e-8 * size
            error[lost] = np.nan
        return error


def fit_linear_stage(
    phi: Array,
    z: Array,
    w: Array,
    *,
    slope: Array | None = None,
    clusters: Codes | None = None,
    cov_type: str = "HC1",
    owner: str = "linear stage",
) -> LinearStage:
    """Fit on one set of rows.

    Parameters
    ----------
    phi : ndarray of shape (n, d)
        Features, the first column of ones.
    z : ndarray of shape (n,)
        Response.
    w : ndarray of shape (n,)
        Weights.
    slope : ndarray of shape (n,), default=None
        a, the factor of phi'theta; None is one.
    clusters : ndarray of int of shape (n,), default=None
        Codes of rows that belong together.
    cov_type : {"HC0", "HC1", "nonrobust"}, default="HC1"
        Covariance.
    owner : str
        Who is asking, for warnings.

    Returns
    -------
    LinearStage
    """
    return average_linear_stages(
        phi, [(z, w, slope)], clusters=clusters, cov_type=cov_type, owner=owner
    )


def average_linear_stages(
    phi: Array,
    stages: list[tuple[Array, Array, Array | None]],
    *,
    clusters: Codes | None,
    cov_type: str,
    owner: str,
) -> LinearStage:
    """Mean of the coefficients of stages on the same features, with its covariance.

    Parameters
    ----------
    phi : ndarray of shape (n, d)
        Features, the first column of ones.
    stages : list of (z, w, slope)
        Response, weights and slope of each stage.
    clusters : ndarray of int of shape (n,) or None
        Codes of rows that belong together.
    cov_type : {"HC0", "HC1", "nonrobust"}
        Covariance.
    owner : str
        Who is asking, for warnings.

    Returns
    -------
    LinearStage
    """
    total = sum(w * (1.0 if slope is None else slope**2) for _, w, slope in stages)
    center = total @ phi / total.sum()
    center[0] = 0.0
    centred = phi - center
    constant = _constant_columns(phi)
    fits = [_solve_stage(centred, *stage, constant) for stage in stages]
    lost = max((fit.null for fit in fits), key=lambda null: null.shape[1])
    if lost.shape[1]:
        warn_user(
            f"{owner}: {lost.shape[1]} of {phi.shape[1]} directions of the final stage are not "
            "identified, as features are collinear; it takes the smallest coefficients and gives "
            "them no standard error; drop features, or pass a penalised final_estimator",
            RuntimeWarning,
        )
    theta = np.mean([fit.theta for fit in fits], axis=0)
    d = phi.shape[1] - int(constant.sum()) - lost.shape[1]
    covariance = _covariance(centred, fits, clusters, cov_type, d)
    # From features less their centre back to the user's features.
    back = np.eye(len(center))
    back[0] -= center
    return LinearStage(back @ theta, back @ covariance @ back.T, back @ lost)


@dataclass(frozen=True)
class _Solved:
    """Coefficients of centred features and what their covariance needs."""

    theta: Array
    inverse: Array
    null: Array
    score: Array
    w: Array
    residual: Array


def _constant_columns(phi: Array) -> NDArray[np.bool_]:
    """Columns after the first that do not vary: the intercept has their job."""
    constant = (phi == phi[0]).all(axis=0)
    constant[0] = False
    return constant


def _solve_stage(
    phi: Array, z: Array, w: Array, slope: Array | None, constant: NDArray[np.bool_]
) -> _Solved:
    a = np.ones(len(z)) if slope is None else slope
    one = np.zeros(len(z), dtype=np.intp)
    gram = gram_by_fold(phi, np.zeros((len(z), 0)), w * a**2, one, n_folds=1)[0][0]
    b = phi.T @ (w * a * z)
    gram[constant], gram[:, constant], b[constant] = 0.0, 0.0, 0.0
    inverse, null = _inverse(gram, constant)
    theta = inverse @ b
    residual = z - a * (phi @ theta)
    return _Solved(theta, inverse, null, w * a * residual, w, residual)


def _inverse(gram: Array, constant: NDArray[np.bool_]) -> tuple[Array, Array]:
    """Inverse, or pseudo-inverse and a basis of the null space, of a scaled Gram matrix."""
    diagonal = np.diag(gram)
    scale = np.sqrt(np.where(diagonal > 0, diagonal, 1.0))
    scaled = gram / np.outer(scale, scale)
    used = ~constant
    inverse, null = np.zeros_like(gram), np.zeros((len(gram), 0))
    block = scaled[np.ix_(used, used)]
    try:
        factor = cho_factor(block, lower=True, check_finite=False)
        regular = np.diag(factor[0]).min() ** 2 > SINGULAR
    except np.linalg.LinAlgError:
        regular = False
    if regular:
        inverse[np.ix_(used, used)] = cho_solve(factor, np.eye(len(block)), check_finite=False)
    else:
        values, vectors = np.linalg.eigh(block)
        kept = values > SINGULAR * max(values.max(), 1.0) * len(values)
        inverse[np.ix_(used, used)] = (vectors[:, kept] / values[kept]) @ vectors[:, kept].T
        null = np.zeros((len(gram), int((~kept).sum())))
        null[used] = vectors[:, ~kept] / scale[used, None]
    return inverse / np.outer(scale, scale), null


def _covariance(
    phi: Array, fits: list[_Solved], clusters: Codes | None, cov_type: str, d: int
) -> Array:
    """Sandwich of the mean of the fits, or sigma^2 / sum w a^2 phi phi' for "nonrobust"."""
    w = fits[0].w
    n = int(np.count_nonzero(w))
    if cov_type == "nonrobust":
        variance = w @ fits[0].residual ** 2 / max(n - d, 1)
        return variance * fits[0].inverse
    factor = 1.0
    if clusters is None and len(fits) == 1:
        one = np.zeros(len(phi), dtype=np.intp)
        meat = gram_by_fold(phi, np.zeros((len(phi), 0)), fits[0].score ** 2, one, n_folds=1)[0][0]
        covariance = fits[0].inverse @ meat @ fits[0].inverse
    else:
        influence = sum((phi * fit.score[:, None]) @ fit.inverse for fit in fits) / len(fits)
        if clusters is not None:
            n_clusters = int(clusters.max()) + 1
            place = csr_matrix(
                (np.ones(len(phi)), (clusters, np.arange(len(phi)))), (n_clusters, len(phi))
            )
            influence = place @ influence
        covariance = influence.T @ influence
    if cov_type == "HC1":
        if clusters is None:
            factor = n / max(n - d, 1)
        else:
            G = len(np.unique(clusters[w > 0]))
            factor = G / max(G - 1, 1) * (n - 1) / max(n - d, 1)
    return factor * covariance

"""Pooling of estimates by their precisions, with inference."""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.linalg import cho_factor, cho_solve
from scipy.stats import chi2
from sklearn.utils import check_array
from sklearn.utils.validation import check_symmetric

Array = NDArray[np.float64]


@dataclass(frozen=True)
class PooledEstimate:
    """What `pool_estimates` returns.

    Parameters
    ----------
    mean : ndarray of shape (n_parameters,)
        The pooled estimate.
    precision : ndarray of shape (n_parameters, n_parameters)
        Its precision: the weighted sum of the precisions, anchor included.
    covariance : ndarray of shape (n_parameters, n_parameters)
        The inverse of `precision`.
    q : float
        Cochran's Q, the weighted squared distance of the estimates from `mean`;
        NaN with an anchor or weights other than one.
    df : int
        Degrees of freedom of Q: ranks of the precisions minus the parameters.
    p_value : float
        Probability of a larger Q if all estimate the same parameters.
    i2 : float
        Share of the variation that is more than chance, `max(0, 1 - df / q)`.

    Examples
    --------
    >>> from reweight import pool_estimates
    >>> pool_estimates([[1.0], [3.0]], [3.0, 1.0]).stderr
    array([0.5])
    """

    mean: Array
    precision: Array
    covariance: Array
    q: float
    df: int
    p_value: float
    i2: float

    @property
    def stderr(self) -> Array:
        """Standard errors of `mean`."""
        return np.sqrt(np.diag(self.covariance))


def pool_estimates(
    estimates: ArrayLike,
    precisions: ArrayLike | Sequence[ArrayLike],
    *,
    anchor: ArrayLike | None = None,
    anchor_precision: ArrayLike | None = None,
    weights: ArrayLike | None = None,
) -> PooledEstimate:
    r"""Pool estimates of the same parameters by their precisions, without their data.

    The result minimises :math:`\sum_k \alpha_k (\theta - \theta_k)' H_k (\theta -
    \theta_k)`: fixed-effect meta-analysis. With an anchor, each estimate is taken
    as the minimiser of its own loss plus :math:`(\theta - \theta_0)' H_0 (\theta -
    \theta_0)/2`, and the result is that of all losses with the anchor once
    (gradient matching). Both are what a fit to the pooled rows gives, exactly
    for quadratic losses with full matrices.

    Parameters
    ----------
    estimates : array-like of shape (n_estimates, n_parameters)
        Estimates, one row a site.
    precisions : array-like of shape (n_estimates, n_parameters, n_parameters)
        Information of each without the anchor's, as `fisher_information` gives
        with `kind="full"`. Of shape (n_estimates, n_parameters): the diagonals;
        of shape (n_estimates,): multiples of the identity.
    anchor : array-like of shape (n_parameters,), default=None
        What all estimates were shrunk to, such as zero for ridge fits.
    anchor_precision : array-like, default=None
        How strongly: a matrix, a diagonal or a number. An L2 penalty with
        scikit-learn's `C` has 1 / C for each coefficient, 0 for the intercept.
    weights : array-like of shape (n_estimates,), default=None
        Multiples of the losses; None is one each. Minus one takes an estimate
        out again: pool `[total, site]` with weights `[1, -1]`.

    Returns
    -------
    PooledEstimate

    Raises
    ------
    ValueError
        If shapes do not fit, numbers are not finite, a precision is not
        symmetric, or only one of anchor and its precision is given.
    numpy.linalg.LinAlgError
        If the total precision is not positive definite.

    References
    ----------
    Cochran, W. G. (1954). The combination of estimates from different
    experiments. Biometrics, 10.

    Higgins, J., Thompson, S. (2002). Quantifying heterogeneity in a
    meta-analysis. Statistics in Medicine, 21.

    Daheim, N., Möllenhoff, T., Ponti, E., Gurevych, I., Khan, M. (2024). Model
    merging by uncertainty-based gradient matching. ICLR.

    Examples
    --------
    >>> import numpy as np
    >>> from reweight import pool_estimates
    >>> pooled = pool_estimates([[1.0, 0.0], [3.0, 0.0]], [[3.0, 1.0], [1.0, 1.0]])
    >>> pooled.mean, pooled.q, pooled.df
    (array([1.5, 0. ]), 3.0, 2)
    >>> rest = pool_estimates(
    ...     [pooled.mean, [3.0, 0.0]], [pooled.precision, np.eye(2)], weights=[1, -1]
    ... )
    >>> rest.mean
    array([1., 0.])
    """
    theta = check_array(estimates, dtype=np.float64, input_name="estimates")
    K, p = theta.shape
    alpha = np.ones(K) if weights is None else _numbers("weights", weights)
    if len(precisions) != K or alpha.shape != (K,):
        raise ValueError(
            f"pool_estimates: got {K} estimates, {len(precisions)} precisions and weights of shape "
            f"{alpha.shape}; pass one of each"
        )
    if (anchor is None) != (anchor_precision is None):
        raise ValueError("pool_estimates: pass both of anchor and anchor_precision, or neither")
    origin = np.zeros(p) if anchor is None else _numbers("anchor", anchor)
    H_0 = _matrix("anchor_precision", 0.0 if anchor is None else anchor_precision, p)
    H = np.stack([_matrix(f"precisions[{k}]", value, p) for k, value in enumerate(precisions)])
    precision = H_0 + np.tensordot(alpha, H, axes=1)
    factor = _factor(precision)
    pull = np.einsum("k,kij,kj->i", alpha, H_0 + H, theta - origin)
    mean = origin + cho_solve(factor, pull)
    covariance = cho_solve(factor, np.eye(p))
    q, df, p_value, i2 = np.nan, 0, np.nan, np.nan
    if anchor is None and (alpha == 1).all():
        q = float(np.einsum("ki,kij,kj->", theta - mean, H, theta - mean))
        df = int(np.linalg.matrix_rank(H, hermitian=True).sum()) - p
        p_value = float(chi2.sf(q, df)) if df else np.nan
        i2 = max(0.0, 1 - df / q) if df and q > 0 else 0.0
    return PooledEstimate(mean, precision, (covariance + covariance.T) / 2, q, df, p_value, i2)


def _numbers(name: str, values: ArrayLike) -> Array:
    return check_array(values, dtype=np.float64, ensure_2d=False, input_name=name)


def _matrix(name: str, values: ArrayLike, p: int) -> Array:
    """A number, diagonal or matrix as a symmetric matrix."""
    array = np.asarray(values, dtype=np.float64)
    array = np.diag(np.broadcast_to(array, p)) if array.shape in ((), (p,)) else array
    if array.shape != (p, p) or not np.isfinite(array).all():
        raise ValueError(
            f"pool_estimates: {name} of shape {array.shape} must be finite, a number, {p} diagonal "
            "entries or a square matrix"
        )
    return check_symmetric(array, tol=1e-8 * np.abs(array).max(), raise_exception=True)


def _factor(precision: Array) -> tuple[Array, bool]:
    """Cholesky factor, or an error also where only rounding makes the matrix definite."""
    with suppress(np.linalg.LinAlgError):
        factor = cho_factor(precision)
        if (np.diag(factor[0]) ** 2 > 1e-14 * np.diag(precision)).all():
            return factor
    raise np.linalg.LinAlgError(
        "pool_estimates: total precision is not positive definite; a site may be separated or "
        "collinear; drop the column or give an anchor"
    )

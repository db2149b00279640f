"""Quantiles that cross, put in order row by row."""

from numpy import float64
from numpy.typing import ArrayLike, NDArray

from reweight.kernels.isotonic_rows import pava_rows, sort_rows, sweep_rows


def sort_quantiles(Q: ArrayLike) -> NDArray[float64]:
    r"""Each row sorted.

    Never raises the pinball loss of any row, whatever the outcome: the sum over
    levels falls by exactly :math:`\sum_k \tau_k (q_{(k)} - q_k)`.

    Parameters
    ----------
    Q : array-like of shape (n_samples, n_quantiles) or (n_quantiles,)
        Quantiles in the order of their levels; they may be infinite.

    Returns
    -------
    ndarray of the shape of `Q`

    See Also
    --------
    isotonic_quantiles : The closest non-decreasing row.
    sweep_quantiles : What keeps the coverage of calibrated intervals.

    References
    ----------
    Chernozhukov, V., Fernandez-Val, I., Galichon, A. (2010). Quantile and
    probability curves without crossing. Econometrica, 78(3).

    Examples
    --------
    >>> from reweight import sort_quantiles
    >>> sort_quantiles([[0.0, 2.0, 1.0]])
    array([[0., 1., 2.]])
    """
    return sort_rows(Q)


def isotonic_quantiles(Q: ArrayLike) -> NDArray[float64]:
    """The non-decreasing row closest to each row in squared distance.

    Never raises the pinball loss of any row, whatever the outcome.

    Parameters
    ----------
    Q : array-like of shape (n_samples, n_quantiles) or (n_quantiles,)
        Finite quantiles in the order of their levels.

    Returns
    -------
    ndarray of the shape of `Q`

    See Also
    --------
    sort_quantiles : Rearrangement.
    sweep_quantiles : What keeps the coverage of calibrated intervals.

    References
    ----------
    Fakoor, R., Kim, T., Mueller, J., Smola, A. J., Tibshirani, R. J. (2023).
    Flexible model aggregation for quantile regression. JMLR, 24.

    Examples
    --------
    >>> from reweight import isotonic_quantiles
    >>> isotonic_quantiles([[0.0, 2.0, 1.0]])
    array([[0. , 1.5, 1.5]])
    """
    return pava_rows(Q)


def sweep_quantiles(Q: ArrayLike) -> NDArray[float64]:
    """Running maxima above and running minima below the middle level, which stays.

    Intervals around the middle only grow, so whatever coverage each had is
    kept; the pinball loss may rise. The order to choose after conformal
    calibration.

    Parameters
    ----------
    Q : array-like of shape (n_samples, n_quantiles) or (n_quantiles,)
        Quantiles in the order of their levels; they may be infinite. The
        middle is entry n_quantiles // 2.

    Returns
    -------
    ndarray of the shape of `Q`

    See Also
    --------
    sort_quantiles, isotonic_quantiles : Orders that never raise the loss.

    Examples
    --------
    >>> from reweight import sweep_quantiles
    >>> sweep_quantiles([[1.0, 0.0, 2.0, 1.0, 3.0]])
    array([[0., 0., 2., 2., 3.]])
    """
    return sweep_rows(Q)

"""Order statistics that turn exchangeable scores into guarantees for the next one."""

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

# Products such as 0.07 * 100 miss the integer that they mean by rounding; ranks allow for it.
RANK_SLACK = 1e-10


def conformal_quantile(
    scores: ArrayLike,
    confidence_level: float,
    weights: ArrayLike | None = None,
    *,
    test_weight: float | None = None,
) -> float:
    """Smallest score that the next one exceeds with probability at most 1 - confidence_level.

    Without weights this is the ceil(confidence_level (n + 1))-th smallest of n
    scores: if the next score is exchangeable with them, it is at most the
    quantile with probability at least `confidence_level`, and, without ties,
    less than that plus 1/(n + 1). With weights, such as density ratios, it is
    the smallest score s with

        sum of w_i over s_i <= s  >=  confidence_level (sum of w_i + w_next).

    Parameters
    ----------
    scores : array-like of shape (n,)
        Scores of calibration rows; infinite ones are allowed.
    confidence_level : float
        Probability between 0 and 1.
    weights : array-like of shape (n,), default=None
        Non-negative weight of each score, on any scale; None is equal weights.
    test_weight : float, default=None
        Weight of the next score, on the scale of `weights`; None is their
        mean. Only with `weights`.

    Returns
    -------
    float
        Infinity if there are too few scores for the level.

    Raises
    ------
    ValueError
        If scores are empty or NaN, the level is not between 0 and 1, or
        weights are not one per score, negative, not finite or all zero.

    References
    ----------
    Vovk, V., Gammerman, A. and Shafer, G. (2005). Algorithmic Learning in a
    Random World. Springer.

    Tibshirani, R. J., Barber, R. F., Candes, E. J. and Ramdas, A. (2019).
    Conformal prediction under covariate shift. NeurIPS.

    Examples
    --------
    >>> conformal_quantile(range(1, 20), 0.9)
    18.0
    >>> conformal_quantile(range(1, 9), 0.9)
    inf
    >>> conformal_quantile([1.0, 2.0, 3.0, 4.0], 0.5, weights=[3, 1, 1, 1])
    2.0
    """
    scores = _check_scores("scores", scores)
    if not 0 < confidence_level < 1:
        raise ValueError(
            f"conformal_quantile: confidence_level must be between 0 and 1, got {confidence_level}"
        )
    if weights is None:
        if test_weight is not None:
            raise ValueError(
                "conformal_quantile: test_weight without weights; pass the weights of the scores"
            )
        n = len(scores)
        rank = math.ceil(confidence_level * (n + 1) * (1 - RANK_SLACK))
        return float(np.partition(scores, rank - 1)[rank - 1]) if rank <= n else math.inf
    weights, test_weight = _check_weights(weights, test_weight, len(scores))
    order = np.argsort(scores, kind="stable")
    below = np.cumsum(weights[order])
    needed = confidence_level * (below[-1] + test_weight) * (1 - RANK_SLACK)
    place = int(np.searchsorted(below, needed))
    return float(scores[order[place]]) if place < len(scores) else math.inf


def conformal_p_values(scores: ArrayLike, calibration: ArrayLike) -> NDArray[np.float64]:
    """Share of calibration scores at least as large as each score, itself counted among them.

    p = (1 + #{calibration >= score}) / (n_calibration + 1): if a score is
    exchangeable with the calibration scores, P(p <= a) <= a for every a.

    Parameters
    ----------
    scores : array-like of shape (n,)
        Scores, larger ones more unusual.
    calibration : array-like of shape (n_calibration,)
        Scores of rows known to be usual.

    Returns
    -------
    ndarray of shape (n,)
        Numbers in (0, 1].

    Raises
    ------
    ValueError
        If either is empty, not one-dimensional or NaN.

    References
    ----------
    Vovk, V., Gammerman, A. and Shafer, G. (2005). Algorithmic Learning in a
    Random World. Springer.

    Examples
    --------
    >>> conformal_p_values([0.0, 2.5, 9.0], [1.0, 2.0, 3.0])
    array([1.  , 0.5 , 0.25])
    """
    scores = _check_scores("scores", scores)
    calibration = np.sort(_check_scores("calibration", calibration))
    n = len(calibration)
    return (1.0 + n - np.searchsorted(calibration, scores, side="left")) / (n + 1.0)


def _check_scores(name: str, scores: ArrayLike) -> NDArray[np.float64]:
    array = np.asarray(scores, dtype=np.float64)
    if array.ndim != 1 or array.size == 0:
        raise ValueError(
            f"{name} has shape {array.shape}; pass a one-dimensional array with at least one entry"
        )
    missing = int(np.isnan(array).sum())
    if missing:
        raise ValueError(f"{name} has {missing} entries that are NaN; drop those rows first")
    return array


def _check_weights(
    weights: ArrayLike, test_weight: float | None, n: int
) -> tuple[NDArray[np.float64], float]:
    array = np.asarray(weights, dtype=np.float64)
    if array.shape != (n,):
        raise ValueError(
            f"conformal_quantile: weights has shape {array.shape} but there are {n} scores; pass "
            "one per score"
        )
    if not np.isfinite(array).all() or array.min() < 0 or array.sum() == 0:
        raise ValueError(
            "conformal_quantile: weights must be finite, non-negative and not all zero, got "
            f"values from {array.min():g} to {array.max():g}"
        )
    if test_weight is None:
        return array, float(array.mean())
    if not (math.isfinite(test_weight) and test_weight >= 0):
        raise ValueError(
            f"conformal_quantile: test_weight must be finite and non-negative, got {test_weight}"
        )
    return array, float(test_weight)

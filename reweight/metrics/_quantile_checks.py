"""Checks of levels and of quantile forecasts, shared by scores and estimators."""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from reweight.validation import check_sample_weight

# Levels such as 1 - 0.9 miss their partner by rounding.
LEVEL_TOLERANCE = 1e-9


def check_quantiles(quantiles: ArrayLike, caller: str) -> NDArray[np.float64]:
    """Quantile levels, strictly increasing between 0 and 1.

    Parameters
    ----------
    quantiles : array-like of shape (m,)
        Levels.
    caller : str
        What errors name.

    Returns
    -------
    ndarray of shape (m,)

    Raises
    ------
    ValueError
        If they are not one-dimensional, not strictly increasing, or not
        between 0 and 1.
    """
    levels = np.asarray(quantiles)
    shown = np.array2string(levels, threshold=8, precision=6, separator=", ")
    if levels.dtype.kind not in "fiu" or levels.ndim != 1 or levels.size == 0:
        raise ValueError(
            f"{caller}: quantiles must be a one-dimensional array of levels in (0, 1), got {shown}"
        )
    levels = levels.astype(np.float64)
    inside = (levels > 0) & (levels < 1)
    if not inside.all():
        raise ValueError(
            f"{caller}: quantiles must be strictly increasing in (0, 1), got "
            f"{levels[~inside][0]:.6g} at position {int(np.argmin(inside))}; percentages need "
            "dividing by 100"
        )
    steps = np.diff(levels)
    if (steps <= LEVEL_TOLERANCE).any():
        k = int(np.argmax(steps <= LEVEL_TOLERANCE))
        what = "twice" if steps[k] > -LEVEL_TOLERANCE else f"followed by {levels[k + 1]:.6g}"
        raise ValueError(
            f"{caller}: quantiles must be strictly increasing in (0, 1), got {levels[k]:.6g} "
            f"{what}; pass np.unique(quantiles), with predictions in that order"
        )
    return levels


def central_pairs(quantiles: NDArray[np.float64]) -> list[tuple[int, int]]:
    """Positions of the levels tau and 1 - tau, from the widest interval inwards.

    Parameters
    ----------
    quantiles : ndarray of shape (m,)
        Strictly increasing levels.

    Returns
    -------
    list of tuple (lower, upper)
        The median, its own partner, is not among them.
    """
    partner = np.searchsorted(quantiles, 1 - quantiles - LEVEL_TOLERANCE)
    return [
        (low, int(high))
        for low, high in enumerate(partner)
        if low < high < len(quantiles)
        and abs(quantiles[high] - (1 - quantiles[low])) <= LEVEL_TOLERANCE
    ]


def check_forecasts(
    y_true: Any, q_pred: Any, quantiles: ArrayLike, sample_weight: ArrayLike | None, caller: str
) -> tuple[NDArray, NDArray, NDArray, NDArray]:
    """Outcomes, one quantile per row and level, levels, and row weights that sum to one.

    Parameters
    ----------
    y_true : array-like of shape (n,)
        Outcomes.
    q_pred : array-like of shape (n, m)
        Quantiles, which may be infinite; with one level also of shape (n,).
    quantiles : array-like of shape (m,)
        Levels.
    sample_weight : array-like of shape (n,) or None
        Row weights on any scale.
    caller : str
        What errors name.

    Returns
    -------
    y : ndarray of shape (n,)
    q : ndarray of shape (n, m)
    levels : ndarray of shape (m,)
    share : ndarray of shape (n,)
    """
    levels = check_quantiles(quantiles, caller)
    y = np.asarray(y_true, dtype=np.float64)
    q = np.asarray(q_pred, dtype=np.float64)
    if q.ndim == 1 and len(levels) == 1:
        q = q[:, None]
    if y.ndim != 1 or q.shape != (len(y), len(levels)):
        raise ValueError(
            f"{caller}: y_true has shape {y.shape} and q_pred {q.shape} at {len(levels)} levels; "
            "pass one row of quantiles per outcome, one column per level"
        )
    bad = ~np.isfinite(y) | np.isnan(q).any(axis=1)
    if bad.any():
        raise ValueError(
            f"{caller}: {int(bad.sum())} rows have outcomes that are NaN or infinite, or quantiles "
            "that are NaN; drop those rows"
        )
    share = check_sample_weight(sample_weight, y)
    return y, q, levels, share / share.sum()

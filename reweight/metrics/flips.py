"""Predictions that an update turns from right to wrong, and the other way round."""

import numpy as np
from numpy.typing import ArrayLike
from sklearn.utils.validation import check_consistent_length, column_or_1d

from reweight.validation import check_sample_weight


def negative_flip_rate(
    y_true: ArrayLike,
    y_old: ArrayLike,
    y_new: ArrayLike,
    *,
    sample_weight: ArrayLike | None = None,
) -> float:
    """Share of all rows that the old model gets right and the new one wrong.

    The accuracy of the new model minus that of the old one is the positive
    minus the negative flip rate.

    Parameters
    ----------
    y_true : array-like of shape (n_samples,)
        Labels.
    y_old : array-like of shape (n_samples,)
        Predictions of the model in use.
    y_new : array-like of shape (n_samples,)
        Predictions of the model that replaces it.
    sample_weight : array-like of shape (n_samples,), default=None
        Weight of each row.

    Returns
    -------
    float
        Between 0 and 1.

    Raises
    ------
    ValueError
        If lengths differ, there are no rows, or weights are invalid.

    References
    ----------
    Yan, S., et al. (2021). Positive-congruent training: towards regression-free
    model updates. CVPR.

    Examples
    --------
    >>> from reweight import negative_flip_rate
    >>> negative_flip_rate([0, 1, 1, 0], [0, 1, 0, 0], [0, 0, 1, 0])
    0.25
    """
    right_before, right_now, weight = _compared(y_true, y_old, y_new, sample_weight)
    return float(np.average(right_before & ~right_now, weights=weight))


def positive_flip_rate(
    y_true: ArrayLike,
    y_old: ArrayLike,
    y_new: ArrayLike,
    *,
    sample_weight: ArrayLike | None = None,
) -> float:
    """Share of all rows that the old model gets wrong and the new one right.

    Parameters
    ----------
    y_true : array-like of shape (n_samples,)
        Labels.
    y_old : array-like of shape (n_samples,)
        Predictions of the model in use.
    y_new : array-like of shape (n_samples,)
        Predictions of the model that replaces it.
    sample_weight : array-like of shape (n_samples,), default=None
        Weight of each row.

    Returns
    -------
    float
        Between 0 and 1.

    Raises
    ------
    ValueError
        If lengths differ, there are no rows, or weights are invalid.

    References
    ----------
    Yan, S., et al. (2021). Positive-congruent training: towards regression-free
    model updates. CVPR.

    Examples
    --------
    >>> from reweight import positive_flip_rate
    >>> positive_flip_rate([0, 1, 1, 0], [0, 1, 0, 0], [0, 0, 1, 0])
    0.25
    """
    right_before, right_now, weight = _compared(y_true, y_old, y_new, sample_weight)
    return float(np.average(~right_before & right_now, weights=weight))


def _compared(y_true, y_old, y_new, sample_weight):
    """Whether each model is right, row by row, and the weights."""
    y_true, y_old, y_new = (column_or_1d(y) for y in (y_true, y_old, y_new))
    check_consistent_length(y_true, y_old, y_new)
    if not len(y_true):
        raise ValueError("flip rates need at least one row, got none; pass labels and predictions")
    weight = check_sample_weight(sample_weight, y_true)
    return y_old == y_true, y_new == y_true, weight

"""Recorded outcomes and what was passed with them, checked before any work."""

from dataclasses import dataclass
from numbers import Integral
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.utils.validation import check_consistent_length

from reweight.validation import check_groups, check_sample_weight, take_rows

Array = NDArray[np.float64]

# Residuals below this share of the spread of outcomes are rounding of a perfect fit.
ROUNDING = 1e-10


@dataclass(frozen=True)
class OutcomeTable:
    """Rows of positive weight.

    Parameters
    ----------
    X : array-like of shape (n_samples, n_features)
        Features.
    y : ndarray of shape (n_samples,)
        Outcomes.
    weights : ndarray of shape (n_samples,) or None
        Sampling weights, mean one.
    groups : ndarray of shape (n_samples,) or None
        Rows to keep together.
    is_clean : ndarray of bool of shape (n_samples,)
        Rows known to be correct.
    """

    X: Any
    y: Array
    weights: Array | None
    groups: NDArray | None
    is_clean: NDArray[np.bool_]


def check_table(
    owner: str,
    estimator: Any,
    X: Any,
    y: Array,
    sample_weight: ArrayLike | None,
    groups: ArrayLike | None,
    is_clean: ArrayLike | None,
    cv: Any,
) -> tuple[OutcomeTable, NDArray[np.intp], Array]:
    """Rows of positive weight, their numbers, and the weights of all rows.

    Parameters
    ----------
    owner : str
        Who is asking, for error messages.
    estimator : estimator
        What the rows are for.
    X : array-like of shape (n_all, n_features)
        Features.
    y : ndarray of shape (n_all,)
        Outcomes, checked.
    sample_weight, groups, is_clean : array-like or None
        What else was passed to `fit`.
    cv : int, splitter or iterable
        Folds, a number of which needs twice as many rows.

    Returns
    -------
    table : OutcomeTable
    rows : ndarray of int
    sample_weight : ndarray of shape (n_all,)

    Raises
    ------
    ValueError
        If outcomes are all equal, rows are too few, or lengths differ.
    """
    check_consistent_length(X, y)
    n = len(y)
    s = check_sample_weight(sample_weight, X)
    if groups is not None:
        check_groups(groups, n)
        groups = np.asarray(groups)
    clean = np.zeros(n, dtype=bool)
    if is_clean is not None:
        clean = np.asarray(is_clean)
        if clean.shape != (n,) or clean.dtype != bool:
            raise ValueError(
                f"{owner}: is_clean has shape {clean.shape} and type {clean.dtype}; pass {n} "
                "booleans, one per row"
            )
    rows = np.flatnonzero(s > 0)
    least = 2 * int(cv) if isinstance(cv, Integral) else 4
    if len(rows) < least:
        raise ValueError(
            f"{owner}: n_samples = {len(rows)} rows of positive weight are too few for cv={cv}; at "
            f"least {least} are needed; pass fewer folds or more rows"
        )
    if np.ptp(y[rows]) == 0:
        raise ValueError(
            f"{owner}: y is constant, {y[rows[0]]:g} in all {len(rows)} rows of positive weight, "
            "so that no number stands out; pass an outcome that varies"
        )
    table = OutcomeTable(
        X=X if len(rows) == n else take_rows(estimator, X, None, rows)[0],
        y=y[rows],
        weights=None if sample_weight is None else s[rows] / s[rows].mean(),
        groups=None if groups is None else groups[rows],
        is_clean=clean[rows],
    )
    return table, rows, s


def residuals_of(y: Array, predictions: ArrayLike) -> Array:
    """Outcomes minus predictions, zero where a perfect fit leaves rounding only.

    Parameters
    ----------
    y : ndarray of shape (n_samples,)
        Outcomes.
    predictions : array-like of shape (n_samples,)
        Predictions.

    Returns
    -------
    ndarray of shape (n_samples,)
    """
    residuals = y - np.asarray(predictions, dtype=np.float64)
    # The spread is a median: one absurd outcome must not round the others away.
    spread = np.median(np.abs(y - np.median(y)))
    return np.where(np.abs(residuals) <= ROUNDING * spread, 0.0, residuals)

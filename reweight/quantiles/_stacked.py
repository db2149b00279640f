"""Stacked quantiles of several models: their two layouts, and what may be wrong with them."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_consistent_length

from reweight.outcomes import check_outcomes
from reweight.validation import (
    check_sample_weight,
    lists_as_array,
    validate_features,
    warn_user,
)


def read_stacked(
    estimator: BaseEstimator, Q: Any, n_quantiles: int, n_models: int | None, *, reset: bool
) -> NDArray[np.float64]:
    """Quantiles as (n_samples, n_models, n_quantiles), possibly with NaN.

    Parameters
    ----------
    estimator : BaseEstimator
        Whose `n_features_in_` and `feature_names_in_` are set or checked.
    Q : array-like of shape (n, p, m) or (n, p * m)
        Stacked quantiles; flat ones are in C order, model by model.
    n_quantiles : int
        Number of levels m.
    n_models : int or None
        Number of models p; None takes it from Q.
    reset : bool
        True in `fit`.

    Returns
    -------
    ndarray of shape (n, p, m)
    """
    name = type(estimator).__name__
    if not hasattr(Q, "shape") and not hasattr(Q, "collect_schema"):
        Q = np.asarray(lists_as_array(Q, name=type(estimator).__name__))
    shape = getattr(Q, "shape", ())
    if len(shape) == 3:
        stacked = np.asarray(Q)
        if shape[2] != n_quantiles:
            raise ValueError(
                f"{name}: Q has shape {tuple(shape)}, but quantiles has {n_quantiles} levels; pass "
                "an array of shape (n_samples, n_models, n_quantiles)"
            )
        if n_models is not None and shape[1] != n_models:
            raise ValueError(
                f"{name}: Q has shape {tuple(shape)}, but n_models={n_models}; its second axis "
                "must hold the models"
            )
        Q = stacked.reshape(shape[0], -1)
    array = validate_features(estimator, Q, reset=reset, ensure_all_finite=False)
    width = array.shape[1]
    if n_models is None:
        if width % n_quantiles:
            raise ValueError(
                f"{name}: Q has {width} columns, which is no multiple of the {n_quantiles} "
                "quantiles; pass one column for each model and level, model by model"
            )
        n_models = width // n_quantiles
    if width != n_models * n_quantiles:
        raise ValueError(
            f"{name}: Q has {width} columns, but n_models={n_models} with {n_quantiles} quantiles "
            f"need {n_models * n_quantiles}; pass one column for each model and level"
        )
    return array.reshape(len(array), n_models, n_quantiles)


def nonfinite_rows(Q: NDArray) -> NDArray[np.bool_]:
    """Rows with a quantile that is NaN or infinite."""
    return ~np.isfinite(Q).all(axis=(1, 2))


def nonfinite_message(name: str, Q: NDArray, y: NDArray | None = None) -> str:
    """What is not finite, and in which models."""
    per_model = (~np.isfinite(Q)).any(axis=2)
    bad = per_model.any(axis=1)
    parts = []
    if bad.any():
        kind = "NaN" if np.isnan(Q).any() else "inf"
        listed = [int(j) for j in np.flatnonzero(per_model.any(axis=0))[:10]]
        parts.append(
            f"Input X contains {kind}: {int(bad.sum())} rows of Q are NaN or infinite, in models "
            f"{listed}"
        )
    if y is not None and not np.isfinite(y).all():
        kind = "NaN" if np.isnan(y).any() else "infinity"
        parts.append(f"Input y contains {kind} in {int((~np.isfinite(y)).sum())} rows")
    return f"{name}: {' and '.join(parts)}"


def read_training_rows(
    estimator: BaseEstimator,
    Q: NDArray,
    y: Any,
    sample_weight: Any,
    on_nonfinite: str,
) -> tuple[NDArray, NDArray, NDArray, NDArray]:
    """The rows to fit on: quantiles, outcomes, weights and their positions.

    Rows of weight zero are left out. What is not finite raises, or is left out
    with a warning or without.

    Parameters
    ----------
    estimator : BaseEstimator
        What errors name.
    Q : ndarray of shape (n, p, m)
        Stacked quantiles.
    y : array-like of shape (n,)
        Outcomes.
    sample_weight : array-like of shape (n,) or None
        Row weights.
    on_nonfinite : {"raise", "warn", "ignore"}
        What to do about rows that are not finite.

    Returns
    -------
    Q : ndarray of shape (n_kept, p, m)
    y : ndarray of shape (n_kept,)
    weights : ndarray of shape (n_kept,)
    rows : ndarray of shape (n_kept,)
    """
    name = type(estimator).__name__
    y = check_outcomes(name, y, allow_nonfinite=True)
    check_consistent_length(Q, y)
    weights = check_sample_weight(sample_weight, y)
    bad = nonfinite_rows(Q) | ~np.isfinite(y)
    if (bad & (weights > 0)).any():
        message = nonfinite_message(name, Q, y)
        if on_nonfinite == "raise":
            raise ValueError(
                f"{message}; drop those rows, leave out models that miss many, or pass "
                "on_nonfinite='warn' to leave them out"
            )
        if on_nonfinite == "warn":
            warn_user(f"{message}; those rows are left out", UserWarning)
    rows = np.flatnonzero(~bad & (weights > 0))
    if rows.size == 0:
        raise ValueError(f"{name}: no row with finite values and positive weight is left to fit on")
    if rows.size > 1 and np.ptp(y[rows]) == 0:
        warn_user(
            f"{name}: y has the same value, {y[rows[0]]:g}, in all {rows.size} rows, from which no "
            "spread can be learned; check that y is the outcome",
            UserWarning,
        )
    return Q[rows], y[rows], weights[rows], rows

"""Checks of what classifiers under covariate shift are given, and warnings of what they found."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import issparse
from sklearn.base import BaseEstimator
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils import column_or_1d
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_consistent_length

from reweight.base import MINIMUM_ESS_SHARE
from reweight.normalization import effective_sample_size
from reweight.validation import (
    check_sample_weight,
    check_weights,
    unwrap_target,
    validate_features,
    warn_user,
    warn_weights,
)
from shift.covariate._minimax_game import Solution
from shift.covariate._minimax_path import WeightPair

# 1 / (1 - 0.1 l)^2: the least mean of the target weights falls from 1 to 0.1 in equal steps.
D_GRID = tuple(float(1.0 / (1.0 - 0.1 * step) ** 2) for step in range(10))
LITTLE_OVERLAP = 0.05
FEW_ROWS = 10


def check_labelled_rows(
    estimator: BaseEstimator, X: Any, y: Any, sample_weight: Any
) -> tuple[NDArray[np.float64], NDArray, NDArray[np.float64]]:
    """Source rows, their classes and sampling weights.

    Raises
    ------
    TypeError
        If rows are sparse or not numeric.
    ValueError
        If rows, classes or weights are missing, not finite or of different lengths.
    """
    name = type(estimator).__name__
    if issparse(X):
        raise TypeError(
            f"{name}: sparse data was passed for X, but dense data is required; use X.toarray()"
        )
    X = validate_features(estimator, X)
    if y is None:
        raise ValueError(f"{name} requires y to be passed, but the target y is None")
    y = column_or_1d(y, warn=True)
    check_consistent_length(X, y)
    check_classification_targets(y)
    return X, y, check_sample_weight(sample_weight, X)


def encode_classes(estimator: BaseEstimator, y: NDArray) -> tuple[NDArray, NDArray[np.intp]]:
    """Sorted classes and the code of each row; there must be two at least."""
    classes, labels = np.unique(y, return_inverse=True)
    if classes.size < 2:
        raise ValueError(
            f"{type(estimator).__name__}: y has one class, {classes.tolist()[0]!r}, among the rows "
            "of positive weight; a classifier needs at least two"
        )
    return classes, labels


def check_values_of_d(estimator: BaseEstimator) -> NDArray[np.float64]:
    """The values of the parameter D to compare, sorted."""
    if isinstance(estimator.D, str):
        return np.array(D_GRID)
    values = np.unique(np.atleast_1d(np.asarray(estimator.D, dtype=np.float64)))
    if values.ndim != 1 or not values.size or not np.all(values >= 1):
        raise ValueError(
            f"{type(estimator).__name__}: D must be >= 1, got {estimator.D}; pass a number, "
            "several, numpy.inf or 'auto'"
        )
    return values


def check_confidence(estimator: BaseEstimator, shape: tuple[int, int]) -> Any:
    """The parameter `confidence`: a rule, or bounds of the shape of the coefficients."""
    if isinstance(estimator.confidence, str):
        return estimator.confidence
    bounds = np.asarray(estimator.confidence, dtype=np.float64)
    if bounds.shape != shape or not np.all(bounds >= 0) or not np.isfinite(bounds).all():
        raise ValueError(
            f"{type(estimator).__name__}: confidence has shape {bounds.shape} and smallest entry "
            f"{bounds.min(initial=np.inf):.3g}; pass finite, non-negative bounds of shape {shape} "
            "(classes, features with the intercept first)"
        )
    return bounds


def check_given_pair(
    estimator: BaseEstimator, source_weights: Any, target_weights: Any, n: int, t: int
) -> WeightPair:
    """A pair of weights passed to `fit`; one that is not passed is one everywhere."""
    pair = []
    for name, value, size in (
        ("source_weights", source_weights, n),
        ("target_weights", unwrap_target(target_weights), t),
    ):
        weights = np.ones(size) if value is None else check_weights(value, name=name)
        if weights.size != size:
            raise ValueError(
                f"{type(estimator).__name__}: {name} has {weights.size} entries but there are "
                f"{size} rows; pass one per row"
            )
        pair.append(weights)
    return WeightPair(None, *pair)


def refuse_vanishing(estimator: BaseEstimator, pair: WeightPair) -> None:
    """Raise where a pair of weights leaves nothing to learn from."""
    for name, weights in (("source", pair.source), ("target", pair.target)):
        if not np.any(weights > 0):
            raise ValueError(
                f"{type(estimator).__name__}: the {name} weights vanish on every row; look at "
                "domain_auc(X, X_target), or pass other weights"
            )


def warn_of_weak_fit(estimator: BaseEstimator, pair: WeightPair, solution: Solution) -> None:
    """Pass on the weighter's warnings and add what the classifier itself has seen."""
    name = type(estimator).__name__
    for message, category in pair.warnings:
        warn_user(message, category)
    ess = effective_sample_size(estimator.raw_weights_)
    told = ess < MINIMUM_ESS_SHARE * len(estimator.raw_weights_) and pair.weighter is not None
    if ess < FEW_ROWS and np.ptp(pair.source) > 0 and not told:
        warn_weights(
            f"{name}: the source weights leave an effective sample size of {ess:.1f} rows (below "
            f"{FEW_ROWS}); raise D, or collect source rows that resemble the target"
        )
    small = float(np.mean(pair.target < LITTLE_OVERLAP))
    # A weighter has said so itself.
    if small > 0.5 and pair.weighter is None:
        warn_weights(
            f"{name}: little overlap: {small:.0%} of the target rows have a weight below "
            f"{LITTLE_OVERLAP:g}, so the source says nothing about them; lower D, or look at "
            "domain_auc(X, X_target)"
        )
    if not solution.confidence.unique:
        warn_user(
            f"{name}: the least-squares confidence bounds were not found, and those of the linear "
            "program are used, which are not unique; pass confidence='std' or bounds",
            ConvergenceWarning,
        )
    result = solution.result
    if not result.converged:
        warn_user(
            f"{name}: not converged after {result.n_iter} iterations (optimality gap "
            f"{result.optimality_gap:.2e}, tol {estimator.tol:.2e}); raise slack or max_iter, or "
            "standardise the columns",
            ConvergenceWarning,
        )

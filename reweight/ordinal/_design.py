"""From what users pass in to rows sorted by level, and back to the users' scale."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator
from sklearn.utils import column_or_1d
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_consistent_length

from reweight.ordinal._cumulative_logit import OrdinalProblem
from reweight.ordinal._newton_cd import Penalty
from reweight.validation import (
    as_numbers,
    check_sample_weight,
    count_missing,
    validate_features,
    warn_user,
)

Array = NDArray[np.float64]

FEW_ROWS = 10
SMALLEST_L1_RATIO = 0.01


@dataclass(frozen=True)
class OrdinalRows:
    """Checked rows of positive weight: features, level codes, weights, and the levels' labels."""

    X: Array
    codes: NDArray[np.intp]
    weights: Array
    classes: NDArray

    def take(self, index: NDArray[np.intp]) -> "OrdinalRows":
        """Some of the rows."""
        return OrdinalRows(self.X[index], self.codes[index], self.weights[index], self.classes)


@dataclass(frozen=True)
class OrdinalDesign:
    """Standardised rows sorted by level, with what undoes the standardisation."""

    problem: OrdinalProblem
    center: Array
    scale: Array
    total_weight: float

    def to_original(self, theta: Array) -> tuple[Array, Array, Array]:
        """Intercepts, slopes of the boundaries and differences of slopes in the users' units."""
        differences = theta[:, 1:] / self.scale
        coef = np.cumsum(differences, axis=0)
        return theta[:, 0] - coef @ self.center, coef, differences

    def from_original(self, intercept: Array, coef: Array) -> Array:
        """Parameters on the standardised scale."""
        slopes = coef * self.scale
        differences = np.diff(slopes, axis=0, prepend=0.0)
        return np.column_stack([intercept + coef @ self.center, differences])


def check_rows(
    estimator: BaseEstimator, X: Any, y: Any, sample_weight: Any, *, smallest: int
) -> OrdinalRows:
    """Rows of positive weight with their levels, or an error that says what is wrong."""
    name = type(estimator).__name__
    X = validate_features(estimator, X)
    if y is None:
        raise ValueError(f"{name} requires y to be passed, but the target y is None")
    order = _declared_order(y)
    y = column_or_1d(y, warn=True)
    check_consistent_length(X, y)
    n_missing = count_missing(y)
    if n_missing:
        raise ValueError(f"{name}: y contains {n_missing} missing entries; drop those rows")
    check_classification_targets(y)
    weights = check_sample_weight(sample_weight, X)
    classes, codes = encode_levels(name, y, estimator.categories, order)
    if len(classes) < smallest:
        raise ValueError(
            f"{name}: y has {len(classes)} class{'es' if len(classes) > 1 else ''}, "
            f"{classes.tolist()}; it needs at least 3 ordered levels; use "
            "sklearn.linear_model.LogisticRegression for two"
        )
    check_level_weights(name, classes, codes, weights)
    kept = weights > 0
    rows = OrdinalRows(X, codes, weights, classes)
    if not kept.all():
        rows = rows.take(np.flatnonzero(kept))
    if len(rows.X) <= len(classes):
        raise ValueError(
            f"{name}: n_samples={len(rows.X)} rows for {len(classes)} levels; more rows than "
            "levels are needed"
        )
    counts = np.bincount(rows.codes, minlength=len(classes))
    if counts.min() < FEW_ROWS:
        rarest = int(np.argmin(counts))
        warn_user(
            f"{name}: level {classes.tolist()[rarest]!r} has {counts[rarest]} rows, fewer than "
            f"{FEW_ROWS}: its boundary is a guess; collect rows, merge levels or raise alpha",
            UserWarning,
        )
    return rows


def _declared_order(y: Any) -> list | None:
    """The order that an ordered categorical of pandas or an Enum of polars declares."""
    dtype = getattr(y, "dtype", None)
    if getattr(dtype, "ordered", False) is True or type(dtype).__name__ == "Enum":
        return list(dtype.categories)
    return None


def encode_levels(
    name: str, y: NDArray, categories: Any, declared: list | None
) -> tuple[NDArray, NDArray[np.intp]]:
    """Labels of the levels in their order, and the code of each row."""
    if categories is None and declared is None:
        classes, codes = np.unique(y, return_inverse=True)
        if y.dtype.kind in "OUS":
            warn_user(
                f"{name}: y holds strings, whose alphabetical order {classes.tolist()} is taken "
                "as the order of the levels; pass categories=[lowest, ..., highest]",
                UserWarning,
            )
        return classes, codes
    wanted = list(declared if categories is None else categories)
    # The dtype of y, so that labels compare and predictions look as y did.
    classes = np.array(wanted, dtype=object if y.dtype.kind == "O" else None)
    place = {label: code for code, label in enumerate(classes.tolist())}
    if len(place) < len(wanted):
        raise ValueError(f"{name}: categories {wanted} repeats labels; name each level once")
    codes = np.array([place.get(label, -1) for label in y.tolist()], dtype=np.intp)
    if (codes < 0).any():
        unknown = sorted(set(y[codes < 0].tolist()), key=str)
        raise ValueError(
            f"{name}: y has {int((codes < 0).sum())} rows with labels {unknown[:5]} that are not "
            f"among the categories {wanted}; add them or drop those rows"
        )
    missing = [wanted[k] for k in np.flatnonzero(np.bincount(codes, minlength=len(wanted)) == 0)]
    if missing:
        raise ValueError(
            f"{name}: no row of y has the levels {missing}; drop them from categories, or pass "
            "rows that have them"
        )
    return classes, codes


def check_level_weights(
    name: str, classes: NDArray, codes: NDArray[np.intp], weights: Array, where: str = ""
) -> None:
    """Raise if a level has no weight."""
    totals = np.bincount(codes, weights, minlength=len(classes))
    if totals.min() <= 0:
        missing = classes[totals <= 0].tolist()
        raise ValueError(
            f"{name}: rows of the classes {missing} have no weight{where}; every level needs rows "
            f"of positive sample_weight; merge levels{' or use fewer folds' if where else ''}"
        )


def make_design(rows: OrdinalRows, standardize: bool) -> OrdinalDesign:
    """Centre, scale and sort rows."""
    order = np.argsort(rows.codes, kind="stable")
    total = rows.weights.sum()
    share = rows.weights[order] / total
    Z = np.empty((len(order), rows.X.shape[1] + 1))
    Z[:, 0] = 1.0
    Z[:, 1:] = rows.X[order]
    center = share @ Z[:, 1:]
    Z[:, 1:] -= center
    scale = np.ones(rows.X.shape[1])
    constant = rows.X.max(axis=0) == rows.X.min(axis=0)
    Z[:, 1:][:, constant] = 0.0
    if standardize:
        deviation = np.sqrt(np.einsum("i,ij,ij->j", share, Z[:, 1:], Z[:, 1:]))
        scale = np.where(constant | (deviation == 0), 1.0, deviation)
        Z[:, 1:] /= scale
    starts = np.searchsorted(rows.codes[order], np.arange(len(rows.classes) + 1))
    return OrdinalDesign(OrdinalProblem(Z, starts, share), center, scale, float(total))


def unit_penalty(estimator: BaseEstimator, size: tuple[int, int]) -> Array:
    """Penalty factors of all coordinates, zero for intercepts."""
    n_features = size[1] - 1
    factors = estimator.penalty_factors
    name = f"{type(estimator).__name__}: penalty_factors"
    factors = np.ones(n_features) if factors is None else as_numbers(factors, name=name)
    if factors.shape != (n_features,) or not (np.isfinite(factors) & (factors >= 0)).all():
        raise ValueError(
            f"{name} must be {n_features} finite, non-negative numbers, one per feature, got "
            f"{factors.tolist()}; use 0 for a feature without penalty"
        )
    unit = np.zeros(size)
    unit[0 if estimator.penalize_first else 1 :, 1:] = factors
    return unit


def elastic_net(alpha: float, l1_ratio: float, unit: Array) -> Penalty:
    """The penalty of one strength."""
    return Penalty(
        alpha * l1_ratio * unit, alpha * (1 - l1_ratio) * unit, np.ones(unit.shape, bool)
    )


def largest_alpha(slope: Array, unit: Array, l1_ratio: float) -> float:
    """Smallest strength without penalised coordinates, from the gradient without them."""
    penalised = unit > 0
    if not penalised.any():
        return 0.0
    return float(
        (np.abs(slope[penalised]) / unit[penalised]).max() / max(l1_ratio, SMALLEST_L1_RATIO)
    )

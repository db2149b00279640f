"""Dual balancing of rows that are read in chunks, several times, never all at once."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import clone

from causal.balancing._base import MOVING_ARMS
from causal.balancing._basis import MomentBasis
from causal.balancing._dual import BalanceTarget, relative_weights
from reweight.kernels.chunks import map_chunks
from reweight.kernels.weighted_moments import nonzero_scale
from reweight.validation import (
    check_sample_weight,
    check_treatment_labels,
    validate_features,
)


@dataclass
class _Prepared:
    """One loaded chunk: covariates, arm codes, sampling weights."""

    X: NDArray[np.float64]
    labels: NDArray
    s: NDArray[np.float64]


def _unpack(estimator: Any, item: Any) -> _Prepared:
    X, labels, *rest = item
    X = validate_features(estimator, X, reset=not hasattr(estimator, "n_features_in_"))
    labels = check_treatment_labels(labels, X)
    return _Prepared(X, labels, check_sample_weight(rest[0] if rest else None, X, allow_zero=True))


@dataclass
class _LabelPass:
    """Labels, column sums and names: what must be known before anything else."""

    estimator: Any

    def __call__(self, item: Any) -> tuple[NDArray, NDArray, float, Any, NDArray]:
        estimator = clone(self.estimator)
        part = _unpack(estimator, item)
        names = getattr(estimator, "feature_names_in_", None)
        return np.unique(part.labels), part.s @ part.X, part.s.sum(), names, part.X[:1]


@dataclass
class _Design:
    """Everything a later pass needs to turn a chunk into balanced functions."""

    estimator: Any
    classes: NDArray
    basis: MomentBasis
    estimand: str
    target: BalanceTarget | None = None
    totals: NDArray = field(default_factory=lambda: np.ones(2))

    def load(self, item: Any) -> tuple[NDArray, NDArray, NDArray]:
        part = _unpack(clone(self.estimator), item)
        codes = np.searchsorted(self.classes, part.labels)
        return self.basis.transform(part.X), codes, part.s


@dataclass
class _MomentPass:
    """Per arm: rows, sum of s, weighted mean and sum of squares of the functions."""

    design: _Design

    def __call__(self, item: Any) -> list:
        A, codes, s = self.design.load(item)
        parts = []
        for arm in (0, 1):
            rows = (codes == arm) & (s > 0)
            if not rows.any():
                parts.append(None)
                continue
            w = s[rows]
            mean = w @ A[rows] / w.sum()
            square = w @ (A[rows] - mean) ** 2
            parts.append(((codes == arm).sum(), w.sum(), mean, square))
        return parts


@dataclass
class _ArmRows:
    """A chunk's rows of one arm, centred and scaled, with normalised base weights."""

    design: _Design
    arm: int
    item: Any

    def __call__(self) -> tuple[NDArray, NDArray]:
        A, codes, s = self.design.load(self.item() if callable(self.item) else self.item)
        rows = codes == self.arm
        return self.design.target.rows(A[rows]), s[rows] / self.design.totals[self.arm]


@dataclass
class _WeightPass:
    """Weights of a chunk's rows up to a factor per arm, and the weighted sums of the functions."""

    design: _Design
    duals: dict[int, NDArray]
    divergence: str

    def __call__(self, item: Any) -> tuple[NDArray, NDArray, NDArray]:
        A, codes, s = self.design.load(item)
        weights = s.copy()
        sums = np.zeros((2, A.shape[1]))
        C = self.design.target.rows(A)
        for arm, dual in self.duals.items():
            rows = codes == arm
            weights[rows] *= relative_weights(C[rows], dual, self.divergence)
        for arm in (0, 1):
            sums[arm] = weights[codes == arm] @ C[codes == arm]
        return weights, codes, sums


def fit_dual_chunks(
    estimator: Any, chunks: Any, divergence: str, max_smd: float, n_jobs: int | None
) -> Any:
    """Fit a `DualBalancer` on chunks of `(X, treatment, sample_weight)`.

    Parameters
    ----------
    estimator : DualBalancer
        Fitted in place.
    chunks : sequence or callable
        As `reweight.kernels.chunks.map_chunks` takes them.
    divergence : str
        Name of the divergence.
    max_smd : float
        Box tolerance in standard deviations.
    n_jobs : int or None
        joblib workers over a sequence.

    Returns
    -------
    DualBalancer
    """
    owner = type(estimator).__name__
    if hasattr(estimator.featurizer, "fit"):
        raise ValueError(
            f"{owner}: fit_chunks cannot fit the transformer given as featurizer; pass a "
            "function, or transform the chunks beforehand"
        )
    design = _first_pass(estimator, chunks, n_jobs)
    counts = _second_pass(design, chunks, n_jobs)
    estimator.estimand_ = estimator.estimand
    estimator.classes_ = design.classes
    estimator._basis, estimator._target = design.basis, design.target
    fits = {}
    for arm in MOVING_ARMS.get(estimator.estimand, (0, 1)):
        arm_chunks = _arm_chunks(design, arm, chunks)
        fits[arm] = estimator._solve(arm_chunks, None, counts[arm], divergence, max_smd, n_jobs)
    estimator._store_fits(fits, divergence)
    _last_pass(estimator, design, chunks, n_jobs)
    return estimator


def _first_pass(estimator: Any, chunks: Any, n_jobs: int | None) -> _Design:
    labels, total, weight, sample = [], 0.0, 0.0, None
    for found, column_sums, s, names, row in map_chunks(
        _LabelPass(estimator), chunks, n_jobs=n_jobs
    ):
        if sample is None:
            sample, first_names = row, names
        elif row.shape[1] != sample.shape[1] or not np.array_equal(names, first_names):
            raise ValueError(
                f"{type(estimator).__name__}: chunks disagree about the columns; every chunk "
                "needs the same columns in the same order"
            )
        labels.append(found)
        total, weight = total + column_sums, weight + s
    if sample is None:
        raise ValueError(f"{type(estimator).__name__}: chunks holds no rows; pass at least one")
    classes = np.unique(np.concatenate(labels))
    if classes.size != 2:
        raise ValueError(
            f"{type(estimator).__name__}: treatment must have exactly two values over all chunks, "
            f"got {list(classes[:5])}"
        )
    estimator.n_features_in_ = sample.shape[1]
    if first_names is not None:
        estimator.feature_names_in_ = first_names
    names = [f"x{j}" for j in range(sample.shape[1])] if first_names is None else list(first_names)
    basis = MomentBasis(estimator.moments, estimator.interactions, estimator.featurizer)
    basis.fit_center(total / weight, names, sample)
    return _Design(clone(estimator), classes, basis, estimator.estimand)


def _second_pass(design: _Design, chunks: Any, n_jobs: int | None) -> list[int]:
    """Target means, scales and arm totals; returns the rows of each arm."""
    arms: list = [None, None]
    for parts in map_chunks(_MomentPass(design), chunks, n_jobs=n_jobs):
        arms = [_pool(a, b) for a, b in zip(arms, parts, strict=True)]
    if None in arms:
        raise ValueError("fit_chunks: an arm has no row of positive weight in any chunk")
    design.totals = np.array([arm[1] for arm in arms])
    variances = [square / weight for _, weight, _, square in arms]
    share = {"ATT": [0.0, 1.0], "ATC": [1.0, 0.0]}.get(
        design.estimand, design.totals / design.totals.sum()
    )
    mean = share[0] * arms[0][2] + share[1] * arms[1][2]
    used = {"ATT": [variances[1]], "ATC": [variances[0]]}.get(design.estimand, variances)
    design.target = BalanceTarget(mean, nonzero_scale(np.sqrt(np.mean(used, axis=0))))
    return [int(arm[0]) for arm in arms]


def _pool(a: Any, b: Any) -> Any:
    """Moments of two sets of rows together, stable for means far from zero."""
    if a is None or b is None:
        return b if a is None else a
    weight = a[1] + b[1]
    shift = b[2] - a[2]
    mean = a[2] + shift * b[1] / weight
    square = a[3] + b[3] + shift**2 * a[1] * b[1] / weight
    return a[0] + b[0], weight, mean, square


def _arm_chunks(design: _Design, arm: int, chunks: Any) -> Any:
    if callable(chunks):
        return lambda: (_ArmRows(design, arm, item)() for item in chunks())
    return [_ArmRows(design, arm, item) for item in chunks]


def _last_pass(estimator: Any, design: _Design, chunks: Any, n_jobs: int | None) -> None:
    """Weights of all rows and the imbalance that is left."""
    duals = {arm: dual for arm, (dual, _) in estimator._fits.items()}
    passes = list(
        map_chunks(_WeightPass(design, duals, estimator._divergence), chunks, n_jobs=n_jobs)
    )
    weights = np.concatenate([part[0] for part in passes])
    codes = np.concatenate([part[1] for part in passes])
    raw = {arm: weights[codes == arm] for arm in duals}
    sums = sum(part[2] for part in passes)
    means = {arm: sums[arm] / values.sum() for arm, values in raw.items()}
    estimator.max_imbalance_ = float(max(np.abs(mean).max() for mean in means.values()))
    estimator._finish_rows(weights, codes)
    estimator.propensity_ = None

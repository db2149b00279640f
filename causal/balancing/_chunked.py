"""Dual balancing of rows that are read in chunks, several times, never all at once."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import clone

from causal.balancing._base import MOVING_ARMS
from causal.balancing._basis import MomentBasis
from causal.balancing._dual import BalanceTarget, relative_weights
from reweight.kernels.chunks import map_chunks
from reweight.kernels.weighted_moments import nonzero_scale, weighted_mean_variance
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
    owner = type(estimator).__name__
    if not isinstance(item, tuple | list) or len(item) not in (2, 3):
        raise ValueError(
            f"{owner}: a chunk is a {type(item).__name__}; every chunk must be (X, treatment) or "
            "(X, treatment, sample_weight)"
        )
    X, labels, *rest = item
    # Partitioned data have empty partitions.
    X = validate_features(
        estimator, X, reset=not hasattr(estimator, "n_features_in_"), ensure_min_samples=0
    )
    labels = check_treatment_labels(labels, X)
    if len(X) == 0:
        return _Prepared(X, labels, np.zeros(0))
    return _Prepared(X, labels, check_sample_weight(rest[0] if rest else None, X, allow_zero=True))


@dataclass
class _LabelPass:
    """Labels, column sums, names and rows: what must be known before anything else."""

    estimator: Any

    def __call__(self, item: Any) -> tuple[NDArray, NDArray, float, Any, NDArray, int]:
        estimator = clone(self.estimator)
        part = _unpack(estimator, item)
        names = getattr(estimator, "feature_names_in_", None)
        found = np.unique(part.labels)
        return found, part.s @ part.X, part.s.sum(), names, part.X[:1], len(part.X)


@dataclass(frozen=True)
class Census:
    """What the first pass over chunks finds.

    Parameters
    ----------
    classes : ndarray of shape (2,)
        Control label, treated label.
    center : ndarray of shape (p,)
        Weighted means of the covariates.
    names : list of str
        Names of the covariates.
    sample : ndarray of shape (1, p)
        One row.
    counts : list of int
        Rows of each chunk.
    """

    classes: NDArray
    center: NDArray[np.float64]
    names: list[str]
    sample: NDArray[np.float64]
    counts: list[int]


@dataclass
class Design:
    """Everything a later pass needs to turn a chunk into balanced functions.

    Parameters
    ----------
    estimator : BalancingWeighter
        An unfitted clone, for checks of the chunks.
    classes : ndarray of shape (2,)
        Control label, treated label.
    features : callable
        Covariates -> balanced functions.
    estimand : str
        Target population.
    target : BalanceTarget or None
        Set by `find_target`.
    totals : ndarray of shape (2,)
        Sums of the sampling weights of the arms; set by `find_target`.
    """

    estimator: Any
    classes: NDArray
    features: Callable[[NDArray], NDArray]
    estimand: str
    target: BalanceTarget | None = None
    totals: NDArray = field(default_factory=lambda: np.ones(2))

    def load_rows(self, item: Any) -> tuple[NDArray, NDArray, NDArray]:
        """Covariates, arm codes and sampling weights of a chunk."""
        part = _unpack(clone(self.estimator), item)
        return part.X, np.searchsorted(self.classes, part.labels), part.s

    def load(self, item: Any) -> tuple[NDArray, NDArray, NDArray]:
        """Balanced functions, arm codes and sampling weights of a chunk."""
        X, codes, s = self.load_rows(item)
        return self.features(X), codes, s


@dataclass
class _MomentPass:
    """Per arm: rows, sum of s, weighted mean and sum of squares of the functions."""

    design: Design

    def __call__(self, item: Any) -> list:
        A, codes, s = self.design.load(item)
        parts = []
        for arm in (0, 1):
            rows = (codes == arm) & (s > 0)
            if not rows.any():
                parts.append(None)
                continue
            w = s[rows]
            mean, variance = weighted_mean_variance(A[rows], w)
            square = w.sum() * variance
            parts.append(((codes == arm).sum(), w.sum(), mean, square))
        return parts


@dataclass
class _ArmRows:
    """A chunk's rows of one arm, centred and scaled, with normalised base weights."""

    design: Design
    arm: int
    item: Any

    def __call__(self) -> tuple[NDArray, NDArray]:
        A, codes, s = self.design.load(self.item() if callable(self.item) else self.item)
        rows = codes == self.arm
        return self.design.target.rows(A[rows]), s[rows] / self.design.totals[self.arm]


@dataclass
class _WeightPass:
    """Weights of a chunk's rows up to a factor per arm, and weighted sums of functions."""

    design: Design
    judged: Design
    duals: dict[int, NDArray]
    divergence: str

    def __call__(self, item: Any) -> tuple[NDArray, NDArray, NDArray, NDArray]:
        X, codes, s = self.design.load_rows(item)
        weights = s.copy()
        C = self.design.target.rows(self.design.features(X))
        for arm, dual in self.duals.items():
            rows = codes == arm
            weights[rows] *= relative_weights(C[rows], dual, self.divergence)
        J = C
        if self.judged is not self.design:
            J = self.judged.target.rows(self.judged.features(X))
        by_arm = np.array([np.where(codes == arm, weights, 0.0) for arm in (0, 1)])
        return weights, codes, by_arm @ C, by_arm @ J


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
    census = take_census(estimator, chunks, n_jobs)
    basis = MomentBasis(estimator.moments, estimator.interactions, estimator.featurizer)
    basis.fit_center(census.center, census.names, census.sample)
    design = Design(clone(estimator), census.classes, basis.transform, estimator.estimand)
    counts = find_target(design, chunks, n_jobs)
    estimator._basis, estimator._target = basis, design.target
    fits = {}
    for arm in MOVING_ARMS.get(estimator.estimand, (0, 1)):
        arm_chunks = chunks_of_arm(design, arm, chunks)
        fits[arm] = estimator._solve(arm_chunks, None, counts[arm], divergence, max_smd, n_jobs)
    estimator._store_fits(fits, divergence)
    duals = {arm: dual for arm, (dual, _) in estimator._fits.items()}
    weigh_chunks(estimator, design, duals, divergence, chunks, n_jobs)
    estimator.propensity_ = None
    return estimator


def take_census(estimator: Any, chunks: Any, n_jobs: int | None) -> Census:
    """Read all chunks once; sets what `fit` sets on seeing the data.

    Parameters
    ----------
    estimator : BalancingWeighter
        Gets `classes_`, `estimand_`, `n_features_in_` and `feature_names_in_`.
    chunks : sequence or callable
        As `reweight.kernels.chunks.map_chunks` takes them.
    n_jobs : int or None
        joblib workers over a sequence.

    Returns
    -------
    Census
    """
    labels, counts, total, weight, sample = [], [], 0.0, 0.0, None
    for found, column_sums, s, names, row, n_rows in map_chunks(
        _LabelPass(estimator), chunks, n_jobs=n_jobs
    ):
        if sample is None:
            sample, first_names = row, names
        elif row.shape[1] != sample.shape[1] or not np.array_equal(names, first_names):
            raise ValueError(
                f"{type(estimator).__name__}: chunks disagree about the columns; every chunk "
                "needs the same columns in the same order"
            )
        if n_rows:
            sample = row
            labels.append(found)
        counts.append(n_rows)
        total, weight = total + column_sums, weight + s
    if not labels:
        raise ValueError(f"{type(estimator).__name__}: chunks holds no rows; pass at least one")
    classes = np.unique(np.concatenate(labels))
    if classes.size != 2:
        raise ValueError(
            f"{type(estimator).__name__}: treatment must have exactly two values over all chunks, "
            f"got {list(classes[:5])}"
        )
    # Nothing of an earlier fit may speak for these rows.
    for name in ("_arms", "feature_names_in_"):
        vars(estimator).pop(name, None)
    estimator.n_features_in_ = sample.shape[1]
    if first_names is not None:
        estimator.feature_names_in_ = first_names
    names = [f"x{j}" for j in range(sample.shape[1])] if first_names is None else list(first_names)
    estimator.classes_, estimator.estimand_ = classes, estimator.estimand
    return Census(classes, total / weight, names, sample, counts)


def find_target(design: Design, chunks: Any, n_jobs: int | None) -> list[int]:
    """Set target means, scales and arm totals of a design; returns the rows of each arm.

    Parameters
    ----------
    design : Design
        Its `target` and `totals` are set.
    chunks : sequence or callable
        As `reweight.kernels.chunks.map_chunks` takes them.
    n_jobs : int or None
        joblib workers over a sequence.

    Returns
    -------
    list of int
    """
    arms: list = [None, None]
    for parts in map_chunks(_MomentPass(design), chunks, n_jobs=n_jobs):
        arms = [_pool(a, b) for a, b in zip(arms, parts, strict=True)]
    if None in arms:
        raise ValueError("fit_chunks: an arm has no row of positive weight in any chunk")
    design.totals = np.array([arm[1] for arm in arms])
    variances = [square / weight for _, weight, _, square in arms]
    share = {"ATT": 1.0, "ATC": 0.0}.get(design.estimand, design.totals[1] / design.totals.sum())
    # In this form a column of one value has exactly that mean.
    mean = arms[0][2] + share * (arms[1][2] - arms[0][2])
    used = {"ATT": [variances[1]], "ATC": [variances[0]]}.get(design.estimand, variances)
    design.target = BalanceTarget(mean, nonzero_scale(np.sqrt(np.mean(used, axis=0)), mean))
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


def chunks_of_arm(design: Design, arm: int, chunks: Any) -> Any:
    """Chunks of one arm's rows, as `divergence_dual` takes them.

    Parameters
    ----------
    design : Design
        With its target.
    arm : {0, 1}
        The arm.
    chunks : sequence or callable
        Chunks of all rows.

    Returns
    -------
    list or callable
    """
    if callable(chunks):
        return lambda: (_ArmRows(design, arm, item)() for item in chunks())
    return [_ArmRows(design, arm, item) for item in chunks]


def weigh_chunks(
    estimator: Any,
    design: Design,
    duals: dict[int, NDArray],
    divergence: str,
    chunks: Any,
    n_jobs: int | None,
    judged: Design | None = None,
) -> dict[int, NDArray[np.float64]]:
    """Set the weights of all rows and the imbalance that is left.

    Parameters
    ----------
    estimator : BalancingWeighter
        Gets `weights_` and `max_imbalance_`.
    design : Design
        With its target.
    duals : dict of int to ndarray
        (nu, theta) of each moving arm.
    divergence : str
        Name of the divergence.
    chunks : sequence or callable
        As `reweight.kernels.chunks.map_chunks` takes them.
    n_jobs : int or None
        joblib workers over a sequence.
    judged : Design, default=None
        The functions whose imbalance is stored, with their target; None means
        those of `design`.

    Returns
    -------
    dict of int to ndarray
        Per moving arm the weighted means of the functions, in units of the target.
    """
    work = _WeightPass(design, judged or design, duals, divergence)
    weights, codes, sums, judged_sums = zip(*map_chunks(work, chunks, n_jobs=n_jobs), strict=True)
    weights, codes = np.concatenate(weights), np.concatenate(codes)
    totals = np.bincount(codes, weights)
    means, left = (sum(parts) / totals[:, None] for parts in (sums, judged_sums))
    estimator.max_imbalance_ = float(np.abs(left[list(duals)]).max())
    estimator._finish_rows(weights, codes)
    return {arm: means[arm] for arm in duals}

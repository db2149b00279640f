"""What users of `UniformTransformerEffect` pass to `fit`: one record, and its checks."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator
from sklearn.utils import check_array
from sklearn.utils.validation import check_consistent_length

from causal.balancing._base import MOVING_ARMS
from causal.balancing._uniform_map import bins_per_column
from causal.balancing.uniform_transformer import OUTSIDE_SHARE, warn_few_bins
from reweight.exceptions import InfeasibleError
from reweight.validation import (
    check_groups,
    check_sample_weight,
    check_treatment,
    unwrap_target,
    validate_features,
    warn_weights,
)

Array = NDArray[np.float64]
OWNER = "UniformTransformerEffect"
ARM_WORDS = ("control", "treated")
FEW_CLUSTERS = 20


@dataclass(frozen=True)
class UniformStudy:
    """Rows of a study, all of positive weight but for `arm` and `kept`.

    Parameters
    ----------
    arm : ndarray of int of shape (n_samples,)
        1 for treated rows, 0 for controls, those without weight included.
    kept : ndarray of bool of shape (n_samples,)
        Whether the row has positive weight.
    X : ndarray of shape (n, d)
        Covariates.
    y : ndarray of shape (n, n_outputs)
        Outcomes.
    treated : ndarray of bool of shape (n,)
        Whether the row is treated.
    weight : ndarray of shape (n,)
        Sampling weights.
    reference : ndarray of shape (m, d) or None
        Rows that the map makes uniform; None for those of the arm itself.
    names : list of str
        Names of the covariates.
    groups : ndarray of int of shape (n,) or None
        Group of each row.
    classes : ndarray of shape (2,)
        Control label, treated label.
    outcome_names : list of str
        Names of the outcomes.
    one_output : bool
        Whether `y` was passed without an axis of outcomes.
    """

    arm: NDArray[np.intp]
    kept: NDArray[np.bool_]
    X: Array
    y: Array
    treated: NDArray[np.bool_]
    weight: Array
    reference: Array | None
    names: list[str]
    groups: NDArray[np.intp] | None
    classes: NDArray
    outcome_names: list[str]
    one_output: bool

    def reference_of(self, arm: int) -> Array:
        """Rows that the map of an arm makes uniform."""
        return self.X[self.treated == arm] if self.reference is None else self.reference

    @property
    def ends(self) -> tuple[Array, Array]:
        """Smallest and largest value of each covariate."""
        rows = self.X if self.reference is None else np.vstack([self.X, self.reference])
        return rows.min(axis=0), rows.max(axis=0)

    @property
    def n_varying(self) -> int:
        """Number of covariates that are not constant; one if all are."""
        lower, upper = self.ends
        return max(int((upper > lower).sum()), 1)

    def full_weights(self, weights: Array) -> Array:
        """Weights of all rows, mean one in each arm, from those of the rows that have any."""
        full = np.zeros(len(self.kept))
        full[self.kept] = weights
        scale = np.bincount(self.arm) / np.bincount(self.arm, full)
        return full * scale[self.arm]


def read_study(
    estimator: BaseEstimator,
    X: Any,
    y: Any,
    treatment: ArrayLike | None,
    sample_weight: ArrayLike | None,
    groups: ArrayLike | None,
    X_reference: Any,
) -> UniformStudy:
    """Everything passed to `fit`, checked; rows without weight are left out.

    Parameters
    ----------
    estimator : UniformTransformerEffect
        Who is asking; gets `n_features_in_` and `feature_names_in_`.
    X, y, treatment, sample_weight, groups, X_reference
        What the user passed.

    Returns
    -------
    UniformStudy
    """
    X = validate_features(estimator, X)
    outcome, treatment, outcome_names, one_output = read_outcome(y, treatment)
    check_consistent_length(X, outcome)
    classes, arm = check_treatment(treatment, X)
    weight = check_sample_weight(sample_weight, X)
    kept = weight > 0
    counts = np.bincount(arm[kept], minlength=2)
    if counts.min() == 0:
        raise ValueError(
            f"{OWNER}: sample_weight is zero in all {ARM_WORDS[counts.argmin()]} rows; each arm "
            "needs rows of positive weight"
        )
    columns = getattr(estimator, "feature_names_in_", [f"x{j}" for j in range(X.shape[1])])
    return UniformStudy(
        arm=arm,
        kept=kept,
        X=X[kept],
        y=outcome[kept],
        treated=arm[kept] == 1,
        weight=weight[kept],
        reference=_read_reference(estimator, X_reference),
        names=[str(column) for column in columns],
        groups=None if groups is None else _read_groups(groups, kept),
        classes=classes,
        outcome_names=outcome_names,
        one_output=one_output,
    )


def _read_groups(groups: ArrayLike, kept: NDArray[np.bool_]) -> NDArray[np.intp]:
    """Codes of the groups of the rows that have weight."""
    codes = check_groups(groups, len(kept))[1][kept]
    labels, codes = np.unique(codes, return_inverse=True)
    if len(labels) < FEW_CLUSTERS:
        warn_weights(
            f"{OWNER}: groups has {len(labels)} values; intervals that treat so few clusters as a "
            "large sample are too short; read them as lower bounds"
        )
    return codes


def _read_reference(estimator: BaseEstimator, X_reference: Any) -> Array | None:
    """Rows from which the map is learned, if they are not those of the arm."""
    X_reference = unwrap_target(X_reference)
    if X_reference is None:
        return None
    if estimator.estimand == "ATE":
        raise ValueError(
            f"{OWNER}: X_reference stands for one arm, but estimand='ATE' makes both uniform; "
            "leave it out, or pass estimand='ATT' or 'ATC'"
        )
    reference = validate_features(estimator, X_reference, reset=False)
    if len(reference) < 2:
        raise ValueError(f"{OWNER}: X_reference has 1 row; the map needs at least two")
    return reference


def read_outcome(y: Any, treatment: ArrayLike | None) -> tuple[Array, NDArray, list[str], bool]:
    """Outcomes as a matrix, the treatment, and names of the outcomes.

    Parameters
    ----------
    y : array-like of shape (n_samples,) or (n_samples, n_outputs)
        Outcomes, or the two columns outcome and treatment.
    treatment : array-like of shape (n_samples,) or None
        Treatment, if it is not in `y`.

    Returns
    -------
    outcome : ndarray of shape (n_samples, n_outputs)
    treatment : ndarray of shape (n_samples,)
    names : list of str
    one_output : bool
        Whether the outcome has no axis of its own.
    """
    if y is None:
        raise ValueError(
            f"{OWNER} requires y to be passed, but the target y is None; pass the outcome as "
            "fit(X, y, treatment=treatment)"
        )
    names = [str(name) for name in getattr(y, "columns", [])]
    if not names and getattr(y, "name", None) not in (None, ""):
        names = [str(y.name)]
    values = np.asarray(y)
    if treatment is None:
        if values.ndim != 2 or values.shape[1] != 2:
            raise ValueError(
                f"{OWNER}: treatment is required, but y has shape {values.shape}; pass treatment=, "
                "or a y of the two columns outcome and treatment"
            )
        values, treatment, names = values[:, 0], values[:, 1], names[:1]
        # A table of numbers and words has neither type; its columns do.
        treatment = np.array(treatment.tolist()) if treatment.dtype == object else treatment
    if values.ndim not in (1, 2) or values.size == 0:
        raise ValueError(
            f"{OWNER}: y has shape {values.shape}; pass (n_samples,) or (n_samples, n_outputs) "
            "with at least one row"
        )
    one_output = values.ndim == 1
    matrix = values.reshape(len(values), -1)
    outcome = check_array(matrix, dtype=np.float64, input_name="y", estimator=OWNER)
    defaults = ["y"] if one_output else [f"y{j}" for j in range(outcome.shape[1])]
    return outcome, np.asarray(treatment), names or defaults, one_output


def check_reference(study: UniformStudy, estimand: str, marginal: bool, relax: bool) -> None:
    """Refuse reference rows that cannot be made uniform where the target is.

    Parameters
    ----------
    study : UniformStudy
        The rows.
    estimand : str
        Target population.
    marginal : bool
        Whether covariates are mapped one by one.
    relax : bool
        Whether a column may be constant in the reference rows alone; rows with
        other values are then beyond their range, which is warned of.
    """
    n_columns = study.n_varying
    for arm in MOVING_ARMS.get(estimand, (0, 1)):
        reference, word = study.reference_of(arm), ARM_WORDS[arm]
        constant = reference.min(axis=0) == reference.max(axis=0)
        stuck = constant & (study.X.min(axis=0) < study.X.max(axis=0))
        if stuck.any() and not relax:
            listed = [study.names[j] for j in np.flatnonzero(stuck)]
            raise InfeasibleError(
                f"{OWNER}: columns {listed} are constant among the {word} reference rows but not "
                "in the study, so that the arms do not overlap; drop them, restrict the study to "
                "rows with that value, or pass on_infeasible='relax'",
                worst_column=listed[0],
            )
        if not marginal and len(reference) < 2**n_columns:
            raise ValueError(
                f"{OWNER}: the joint map of {n_columns} columns needs at least {2**n_columns} "
                f"reference rows, but there are {len(reference)} {word} ones; pass marginal=True, "
                "or fewer columns"
            )


def warn_reference(study: UniformStudy, estimand: str, marginal: bool) -> None:
    """Say where reference rows are too few, or too far away, for what the map promises.

    Parameters
    ----------
    study, estimand, marginal
        As in `check_reference`.
    """
    arms = MOVING_ARMS.get(estimand, (0, 1))
    for arm in arms:
        reference = study.reference_of(arm)
        others = study.X[study.treated != arm]
        outside = (others < reference.min(axis=0)) | (others > reference.max(axis=0))
        share = outside.mean(axis=0)
        if share.max() > OUTSIDE_SHARE:
            warn_weights(
                f"{OWNER}: {share.max():.1%} of the {ARM_WORDS[1 - arm]} rows lie outside the "
                f"range of the {ARM_WORDS[arm]} reference rows in column "
                f"{study.names[share.argmax()]!r}, where outcomes can only be extrapolated; "
                "restrict the study to rows that overlap"
            )
    if not marginal and study.n_varying > 1:
        fewest = min(len(study.reference_of(arm)) for arm in arms)
        warn_few_bins(OWNER, bins_per_column(fewest, study.n_varying, None))

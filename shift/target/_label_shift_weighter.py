"""What weighters for shifted class priors share."""

from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import norm
from sklearn.utils import column_or_1d
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_consistent_length, check_is_fitted

from reweight.base import Weighter
from reweight.normalization import normalize_weights
from reweight.validation import (
    check_sample_weight,
    lists_as_array,
    unwrap_target,
    validate_features,
    warn_weights,
)
from shift._target_rows import check_target_rows

Array = NDArray[np.float64]
Codes = NDArray[np.intp]

SUM_TOLERANCE = 1e-3
LARGEST_CONDITION = 1e6


class LabelShiftWeighter(Weighter):
    """Base class of weighters whose weight is a function of the class.

    Subclasses implement `_estimate(P, codes, share, P_target)`, which sets
    `source_prior_` if it is not the share of the labels, `covariance_` and
    `target_prior_covariance_`, and returns the weight of each class, negative
    values included. `share` are the sampling weights divided by their sum, all
    of them positive.
    """

    __metadata_request__fit = {"X_target": True}
    _parameter_constraints: dict[str, list] = {"classes": ["array-like", None]}

    def fit(
        self,
        X: Any,
        y: ArrayLike | None = None,
        *,
        X_target: Any = None,
        sample_weight: ArrayLike | None = None,
    ) -> Self:
        """Find the weight of each class.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_classes) or (n_samples,)
            Class probabilities of source rows that the classifier has not been
            trained on; a single column is that of the second class.
        y : array-like of shape (n_samples,)
            Their classes.
        X_target : array-like of shape (n_target, n_classes) or 1-tuple of it, default=None
            Class probabilities of the target rows; use the 1-tuple inside
            cross-validation, which cuts arrays that are as long as X. None
            means no shift, and a `WeightWarning` says so.
        sample_weight : array-like of shape (n_samples,), default=None
            Sampling weights of the source rows.

        Returns
        -------
        Self

        Raises
        ------
        TypeError
            If probabilities are not numeric.
        ValueError
            If rows are not probabilities, columns are not the classes, or a
            class has no rows.
        """
        self._validate_params()
        name = type(self).__name__
        if y is None:
            raise ValueError(
                f"{name} requires y to be passed, but the target y is None; pass the classes of "
                "the source rows"
            )
        X = validate_features(self, _as_columns(X))
        y = column_or_1d(y, warn=True)
        check_consistent_length(X, y)
        check_classification_targets(y)
        s = check_sample_weight(sample_weight, X)
        codes = self._encode(y)
        counts = np.bincount(codes, s, minlength=len(self.classes_))
        self._check_classes(counts)
        P = self._probabilities(X, "X")
        X_target = unwrap_target(X_target)
        X_target = check_target_rows(self, X, None if X_target is None else _as_columns(X_target))
        self.n_target_ = 0 if X_target is None else len(X_target)
        self.source_prior_ = counts / counts.sum()
        n_classes = len(self.classes_)
        if X_target is None:
            raw = np.ones(n_classes)
            self.covariance_ = np.zeros((n_classes, n_classes))
            self.target_prior_covariance_ = np.zeros((n_classes, n_classes))
            self._fit_no_shift()
        else:
            kept = s > 0
            share = s[kept] / s[kept].sum()
            P_target = self._probabilities(X_target, "X_target")
            rows = (P, codes) if kept.all() else (P[kept], codes[kept])
            raw = self._estimate(*rows, share, P_target)
        self._store(raw, codes, s)
        return self

    def _encode(self, y: NDArray) -> Codes:
        """Column of each label; sets `classes_`."""
        if self.classes is None:
            self.classes_, codes = np.unique(y, return_inverse=True)
            return codes
        self.classes_ = np.asarray(self.classes)
        if self.classes_.ndim != 1 or len(np.unique(self.classes_)) < len(self.classes_):
            raise ValueError(
                f"{type(self).__name__}: classes={self.classes_.tolist()} must be a list of "
                "different labels, in the order of the columns of X"
            )
        codes, unknown = self._look_up(y)
        if len(unknown):
            raise ValueError(
                f"{type(self).__name__}: y has labels {unknown[:5].tolist()} that are not in "
                f"classes={self.classes_.tolist()}; list every class, in the order of the columns"
            )
        return codes

    def _look_up(self, y: NDArray) -> tuple[Codes, NDArray]:
        """Column of each label, and the labels that have none."""
        order = np.argsort(self.classes_, kind="stable")
        place = np.searchsorted(self.classes_[order], y).clip(max=len(order) - 1)
        codes = order[place]
        return codes, np.unique(y[self.classes_[codes] != y])

    def _check_classes(self, counts: Array) -> None:
        name = type(self).__name__
        if len(counts) < 2:
            raise ValueError(
                f"{name}: y has one class, {self.classes_[0]!r}; the shift of class priors needs "
                "at least two classes"
            )
        for label, count in zip(self.classes_.tolist(), counts, strict=True):
            if count == 0:
                raise ValueError(
                    f"{name}: prior shift of class {label!r} cannot be estimated: no held-out "
                    "rows of positive sample_weight; add rows of it to X, or leave its column out "
                    "and normalise the rows"
                )

    def _probabilities(self, P: Array, argument: str) -> Array:
        """Checked probabilities, whose rows sum to one exactly."""
        name = type(self).__name__
        if P.shape[1] != len(self.classes_):
            raise ValueError(
                f"{name}: {argument} has {P.shape[1]} columns but there are "
                f"{len(self.classes_)} classes {self.classes_.tolist()[:10]}; pass one probability "
                "per class, and classes= if y lacks some of them"
            )
        if P.min() < 0:
            raise ValueError(
                f"{name}: {argument} has {int((P < 0).sum())} negative entries, the smallest "
                f"{P.min():.3g}; pass class probabilities, such as those of predict_proba"
            )
        total = P @ np.ones(P.shape[1])
        off = np.abs(total - 1) > SUM_TOLERANCE
        if off.any():
            row = int(np.argmax(off))
            raise ValueError(
                f"{name}: {int(off.sum())} rows of {argument} do not sum to 1, the first, row "
                f"{row}, to {total[row]:.4g}; pass class probabilities, such as those of "
                "predict_proba"
            )
        return P / total[:, None]

    def _estimate(self, P: Array, codes: Codes, share: Array, P_target: Array) -> Array:
        raise NotImplementedError

    def _fit_no_shift(self) -> None:
        """Set what a fit without target rows still has to offer."""

    def _calibrate(self, P: Array) -> Array:
        """Probabilities as the weights were estimated from."""
        return P

    def _store(self, raw: Array, codes: Codes, s: Array) -> None:
        """Class weights that are not negative, and the weights of the rows."""
        self.raw_class_weights_ = raw
        clipped = np.maximum(raw, 0.0)
        negative = int((raw < 0).sum())
        if negative:
            warn_weights(
                f"{type(self).__name__}: {negative} of {len(raw)} class weights were estimated "
                f"below zero, the lowest {raw.min():.3g}, and are set to zero; pass more rows, or "
                "use MLLS"
            )
        self.class_weights_ = clipped / float(self.source_prior_ @ clipped)
        self.target_prior_ = self.source_prior_ * self.class_weights_
        weights = self.class_weights_[codes]
        self._scale = len(s) / float(weights @ s)
        self._set_weights(normalize_weights(weights, sample_weight=s))

    @property
    def stderr_(self) -> Array:
        """Standard error of each class weight."""
        check_is_fitted(self, "covariance_")
        return np.sqrt(np.maximum(np.diag(self.covariance_), 0.0))

    def confint(self, confidence_level: float = 0.95) -> Array:
        """Normal confidence intervals of the class weights, cut off at zero.

        Parameters
        ----------
        confidence_level : float, default=0.95
            Level between 0 and 1.

        Returns
        -------
        ndarray of shape (n_classes, 2)

        Raises
        ------
        ValueError
            If the level is not between 0 and 1.
        """
        check_is_fitted(self, "weights_")
        ends = self._interval(self.raw_class_weights_, self.covariance_, confidence_level)
        return np.maximum(ends, 0.0)

    def target_prior_interval(self, confidence_level: float = 0.95) -> Array:
        """Normal confidence intervals of the class priors of the target, within [0, 1].

        Parameters
        ----------
        confidence_level : float, default=0.95
            Level between 0 and 1.

        Returns
        -------
        ndarray of shape (n_classes, 2)

        Raises
        ------
        ValueError
            If the level is not between 0 and 1.
        """
        check_is_fitted(self, "weights_")
        center = self.source_prior_ * self.raw_class_weights_
        return self._interval(center, self.target_prior_covariance_, confidence_level).clip(0, 1)

    def _interval(self, center: Array, covariance: Array, level: float) -> Array:
        if not 0 < level < 1:
            raise ValueError(
                f"{type(self).__name__}: confidence_level={level} must lie between 0 and 1"
            )
        half = norm.ppf(0.5 + level / 2) * np.sqrt(np.maximum(np.diag(covariance), 0.0))
        return np.column_stack([center - half, center + half])

    def predict_weights(self, X: Any = None, y: ArrayLike | None = None) -> Array:
        """Weights of new rows by their class, on the scale of `fit`, without sampling weights.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features), default=None
            Ignored; the weight is a function of the class.
        y : array-like of shape (n_samples,)
            Classes.

        Returns
        -------
        ndarray of shape (n_samples,)

        Raises
        ------
        ValueError
            If y is missing or has labels that `fit` has not seen.
        """
        check_is_fitted(self, "weights_")
        name = type(self).__name__
        if y is None:
            raise ValueError(
                f"{name}: predict_weights needs y, since the weight is a function of the class; "
                "pass predict_weights(y=y)"
            )
        codes, unknown = self._look_up(column_or_1d(y))
        if len(unknown):
            raise ValueError(
                f"{name}: y has labels {unknown[:5].tolist()} that fit has not seen; known are "
                f"{self.classes_.tolist()[:10]}"
            )
        return self._scale * self.class_weights_[codes]

    def adapt_proba(self, X: Any) -> Array:
        """Class probabilities under the priors of the target.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_classes) or (n_samples,)
            Class probabilities of the classifier that `fit` was given those of.

        Returns
        -------
        ndarray of shape (n_samples, n_classes)
            Proportional to the class weights times the (calibrated)
            probabilities. A row without any mass gets the target priors.
        """
        check_is_fitted(self, "weights_")
        X = validate_features(self, _as_columns(X), reset=False)
        P = self._calibrate(self._probabilities(X, "X")) * self.class_weights_
        total = P.sum(axis=1, keepdims=True)
        return np.where(total > 0, P / np.where(total > 0, total, 1.0), self.target_prior_)

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.target_tags.required = True
        return tags


def _as_columns(X: Any) -> Any:
    """Two columns of probabilities from one array of those of the second class."""
    X = lists_as_array(X, name="fit")
    n_dimensions = len(getattr(X, "shape", ()))
    if n_dimensions != 1 or len(X) == 0 or np.asarray(X).dtype.kind not in "fiub":
        return X
    p = np.asarray(X, dtype=np.float64)
    if not ((p >= 0) & (p <= 1)).all():
        raise ValueError(
            "Expected 2D array, got 1D array instead: a one-dimensional X is read as the "
            "probability of the second class, but some entries are not between 0 and 1; pass one "
            "column per class. Reshape your data"
        )
    return np.column_stack([1.0 - p, p])


def confusion_moments(
    F: Array, codes: Codes, share: Array, F_target: Array
) -> tuple[Array, Array, Array]:
    """Joint confusion matrix, mean prediction in the source and mean prediction in the target."""
    C = np.column_stack(
        [(share * (codes == k)) @ F for k in range(F.shape[1])],
    )
    return C, share @ F, F_target.mean(axis=0)


def hard_predictions(P: Array) -> Array:
    """The most probable class of each row as ones and zeros."""
    return np.eye(P.shape[1])[P.argmax(axis=1)]


def invert_confusion(C: Array, name: str) -> Array:
    """Inverse of the confusion matrix, or its pseudo-inverse with a warning."""
    condition = float(np.linalg.cond(C))
    if condition <= LARGEST_CONDITION:
        return np.linalg.inv(C)
    warn_weights(
        f"{name}: the confusion matrix has condition number {condition:.2g}, above "
        f"{LARGEST_CONDITION:g}, so class weights rest on noise; merge classes that the "
        "classifier cannot tell apart, or use a better classifier"
    )
    return np.linalg.pinv(C)


def moment_covariances(
    inverse: Array,
    C: Array,
    F: Array,
    codes: Codes,
    share: Array,
    F_target: Array,
    weights: Array,
    prior: Array,
) -> tuple[Array, Array]:
    """Covariance of C^-1 mu, and of the target priors that follow, by the delta method."""
    target = np.cov(F_target, rowvar=False, bias=True) / len(F_target)
    weighted = weights[codes, None] * F
    covariances = []
    conditional = (C / prior).T
    for solve, residual in (
        (inverse, weighted - C @ weights),
        # The rate of each class is known to the priors, so only rows within classes count.
        (prior[:, None] * inverse, weights[codes, None] * (F - conditional[codes])),
    ):
        residual = share[:, None] * residual
        covariances.append(solve @ (target + residual.T @ residual) @ solve.T)
    return covariances[0], covariances[1]

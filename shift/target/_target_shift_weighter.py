"""What weighters for a shifted continuous outcome share."""

from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.utils import column_or_1d
from sklearn.utils.validation import check_consistent_length, check_is_fitted

from reweight.base import Weighter
from reweight.normalization import normalize_weights
from reweight.validation import (
    check_magnitude,
    check_sample_weight,
    validate_features,
    warn_weights,
)
from shift._target_rows import check_target_rows

Array = NDArray[np.float64]

LEAST_ROWS = 10
FEW_VALUES = 10


class TargetShiftWeighter(Weighter):
    """Base class of weighters whose weight is a function of a continuous outcome.

    Subclasses implement `_fit_ratio(X, y, X_target, share)`, which prepares
    `_ratio(y)`, the ratio of the target to the source density of the outcome,
    negative values included. `share` are the sampling weights of the source
    rows divided by their sum, all of them positive.
    """

    __metadata_request__fit = {"X_target": True}

    def fit(
        self,
        X: Any,
        y: ArrayLike | None = None,
        *,
        X_target: Any = None,
        sample_weight: ArrayLike | None = None,
    ) -> Self:
        """Find the weights of the source rows.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Features of the source.
        y : array-like of shape (n_samples,)
            Outcomes of the source.
        X_target : array-like of shape (n_target, n_features) or 1-tuple of it, default=None
            Features of the target; use the 1-tuple inside cross-validation,
            which cuts arrays that are as long as X. None means no shift: the
            weights are the sampling weights, and a `WeightWarning` says so.
        sample_weight : array-like of shape (n_samples,), default=None
            Sampling weights of the source rows.

        Returns
        -------
        Self

        Raises
        ------
        TypeError
            If columns are not numeric.
        ValueError
            If X, X_target or y are not finite, do not belong together, are too
            few, or the outcome is constant.
        """
        self._validate_params()
        if y is None:
            raise ValueError(
                f"{type(self).__name__} requires y to be passed, but the target y is None; pass "
                "the outcomes of the source rows"
            )
        X = validate_features(self, X, **self._check_params)
        y = self._check_outcome(y, X)
        s = check_sample_weight(sample_weight, X)
        X_target = check_target_rows(self, X, X_target, **self._check_params)
        self._has_target = X_target is not None
        self.n_target_ = len(X_target) if self._has_target else 0
        kept = s > 0
        self._range = float(y[kept].min()), float(y[kept].max())
        if not self._has_target:
            self._fit_no_shift(X, y, s)
            self._store(np.ones(len(y)), s)
            return self
        self._check_problem(y[kept], len(X_target))
        share = s[kept] / s[kept].sum()
        rows = (X, y) if kept.all() else (X[kept], y[kept])
        self._fit_ratio(*rows, X_target, share)
        self._store(self._ratio(np.clip(y, *self._range)), s)
        return self

    @property
    def _check_params(self) -> dict[str, Any]:
        return {}

    def _check_outcome(self, y: ArrayLike, X: Array) -> Array:
        """Outcomes as float64, one for each row."""
        name = type(self).__name__
        y = column_or_1d(y, warn=True)
        check_consistent_length(X, y)
        try:
            y = np.asarray(y, dtype=np.float64)
        except (TypeError, ValueError) as error:
            raise ValueError(
                f"{name}: y must be finite numbers, got {y.dtype} values; for classes use MLLS"
            ) from error
        bad = ~np.isfinite(y)
        if bad.any():
            raise ValueError(
                f"{name}: y must be finite: Input y contains {int(bad.sum())} NaN or infinity "
                "entries; drop those rows first"
            )
        check_magnitude(y, name=f"{name}: y")
        return y

    def _check_problem(self, y: Array, n_target: int) -> None:
        """Refuse samples that no shift can be read off."""
        name = type(self).__name__
        if len(y) < LEAST_ROWS or n_target < 2:
            raise ValueError(
                f"{name}: X has {len(y)} rows of positive sample_weight (n_samples={len(y)}) and "
                f"X_target {n_target}; at least {LEAST_ROWS} and 2 are needed"
            )
        if np.ptp(y) == 0:
            raise ValueError(
                f"{name}: y has zero variance, it is {y[0]:g} in every row: target shift in a "
                "constant outcome is undefined"
            )
        n_values = len(np.unique(y[:10_000]))
        if n_values < FEW_VALUES and np.array_equal(y, np.rint(y)):
            warn_weights(
                f"{name}: y has only {n_values} different values, all of them whole numbers; if "
                "they are classes, use MLLS or another method for label shift"
            )

    def _fit_ratio(self, X: Array, y: Array, X_target: Array, share: Array) -> None:
        raise NotImplementedError

    def _ratio(self, y: Array) -> Array:
        raise NotImplementedError

    def _fit_no_shift(self, X: Array, y: Array, s: Array) -> None:
        """Set what a fit without target rows still has to offer."""

    def _store(self, ratio: Array, s: Array) -> None:
        """Raw and mean-one weights from the ratio at each row."""
        self.raw_weights_ = ratio * s / s.mean()
        weights = np.maximum(ratio, 0.0)
        if not np.any(weights * s > 0):
            raise ValueError(
                f"{type(self).__name__}: the weights vanish on every row, so no source row looks "
                "like the target; compare X and X_target, or use a larger bandwidth or alpha"
            )
        self._scale = s.sum() / float(weights @ s)
        self._scale_of_capped = 1.0
        if self._cap is not None:
            self._scale_of_capped = s.sum() / float(self._mean_one(ratio) @ s)
        # Times the sampling weights, predicted weights have mean one.
        self._predicted_scale = 1.0 / s.mean()
        self._set_weights(normalize_weights(self._mean_one(ratio), sample_weight=s))

    @property
    def _cap(self) -> float | None:
        """Cap on weights of mean one."""
        return None

    def _mean_one(self, ratio: Array) -> Array:
        """Weights of mean one over the source, as sampling weights count it, from the ratio."""
        weights = np.maximum(ratio, 0.0) * self._scale
        if self._cap is not None:
            weights = np.minimum(weights, self._cap) * self._scale_of_capped
        return weights

    def predict_weights(self, X: Any = None, y: ArrayLike | None = None) -> Array:
        """Weights of new outcomes, on the scale of `fit` and without sampling weights.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features), default=None
            Ignored; the weight is a function of the outcome.
        y : array-like of shape (n_samples,)
            Outcomes. Beyond those seen by `fit` the weight is that of the
            nearest one, and a `WeightWarning` counts them.

        Returns
        -------
        ndarray of shape (n_samples,)

        Raises
        ------
        ValueError
            If y is missing or not finite.
        """
        check_is_fitted(self, "weights_")
        y = self._outcomes(y, "predict_weights")
        low, high = self._range
        n_outside = int(np.sum((y < low) | (y > high)))
        if n_outside:
            warn_weights(
                f"{type(self).__name__}: {n_outside} of {len(y)} outcomes lie outside [{low:g}, "
                f"{high:g}], where the source has none; they get the weight of the nearest end"
            )
        if not self._has_target:
            return np.full(len(y), self._predicted_scale)
        return self._predicted_scale * self._mean_one(self._ratio(np.clip(y, low, high)))

    def _outcomes(self, y: ArrayLike | None, method: str) -> Array:
        """New outcomes as a checked array."""
        if y is None:
            raise ValueError(
                f"{type(self).__name__}: {method} needs y, since the weight is a function of the "
                f"outcome; pass {method}(y=y)"
            )
        y = np.asarray(y, dtype=np.float64).reshape(-1)
        if not np.isfinite(y).all():
            raise ValueError(
                f"{type(self).__name__}: y must be finite, got {int((~np.isfinite(y)).sum())} NaN "
                "or infinite entries"
            )
        return y

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.target_tags.required = True
        tags.target_tags.one_d_labels = False
        return tags

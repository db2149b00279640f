"""What all shift weighters share: checks of the target rows, and the scale of weights."""

from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted

from reweight.base import MINIMUM_ESS_SHARE, Weighter
from reweight.normalization import normalize_weights
from reweight.validation import (
    check_sample_weight,
    unwrap_target,
    validate_features,
    warn_weights,
)

# Columns whose means are further apart, in standard deviations of the source, were hardly
# processed alike.
IMPLAUSIBLE_DISTANCE = 5.0
FEW_ROWS = 10


def check_target_rows(estimator: BaseEstimator, X: Any, X_target: Any, **check_params: Any) -> Any:
    """The rows passed as `X_target`, checked against the source rows.

    Parameters
    ----------
    estimator : BaseEstimator
        The estimator, whose `n_features_in_` is set.
    X : ndarray or sparse matrix of shape (n_samples, n_features)
        Checked source rows.
    X_target : array-like of shape (n_target, n_features), 1-tuple of it or None
        What the user passed.
    **check_params : dict
        Passed on to `reweight.validation.validate_features`.

    Returns
    -------
    ndarray or sparse matrix of shape (n_target, n_features), or None

    Raises
    ------
    TypeError
        If the rows are not numeric.
    ValueError
        If they are empty, not finite, or of another width than X.
    """
    X_target = unwrap_target(X_target)
    name = type(estimator).__name__
    if X_target is None:
        warn_weights(
            f"{name}: X_target is not given, so no shift is assumed and the weights are the "
            "sample_weight; pass the target rows as X_target=, as a 1-tuple (X_target,) inside "
            "cross-validation"
        )
        return None
    try:
        X_target = validate_features(estimator, X_target, reset=False, **check_params)
    except (TypeError, ValueError) as error:
        raise type(error)(f"{name}: X_target is not usable: {error}") from error
    if isinstance(X, np.ndarray) and isinstance(X_target, np.ndarray):
        _warn_of_implausible_target(name, X, X_target)
    return X_target


def _warn_of_implausible_target(name: str, X: NDArray, X_target: NDArray) -> None:
    """Notice the raw target that a Pipeline with routing hands over unless told to transform it."""
    scale = X.std(axis=0)
    far = np.abs(X_target.mean(axis=0) - X.mean(axis=0)) > IMPLAUSIBLE_DISTANCE * scale
    far &= scale > 0
    if far.any() and 2 * far.sum() >= X.shape[1]:
        warn_weights(
            f"{name}: the means of {int(far.sum())} of {X.shape[1]} columns of X_target are more "
            f"than {IMPLAUSIBLE_DISTANCE:g} source standard deviations away; was the target "
            "transformed like the source? Put Reweighted outermost, or pass "
            'transform_input=["X_target"] to the Pipeline'
        )


class ShiftWeighter(Weighter):
    """Base class of weighters that make source rows resemble target rows.

    Subclasses implement `_fit_ratio(X, X_target, share)`, which returns the
    ratio of the target density to the source density at each source row, and
    `_ratio(X)` if that is a function of new rows. `share` are the sampling
    weights of the source rows divided by their sum, all of them positive.
    """

    __metadata_request__fit = {"X_target": True}
    _check_params: dict[str, Any] = {}

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
            Source rows.
        y : array-like of shape (n_samples,), default=None
            Ignored; the weights are found from features alone.
        X_target : array-like of shape (n_target, n_features) or 1-tuple of it, default=None
            Target rows; use the 1-tuple inside cross-validation, which cuts
            arrays that are as long as X. None means no shift: the weights are
            the sampling weights, and a `WeightWarning` says so.
        sample_weight : array-like of shape (n_samples,), default=None
            Sampling weights of the source rows.

        Returns
        -------
        Self

        Raises
        ------
        TypeError
            If rows are not numeric.
        ValueError
            If rows are empty or not finite, or X_target differs from X in the
            number of columns.
        """
        self._validate_params()
        X = self._validate_source(X)
        s = check_sample_weight(sample_weight, X)
        kept = s > 0
        X_target = check_target_rows(self, X, X_target, **self._check_params)
        self._has_target = X_target is not None
        self.n_target_ = X_target.shape[0] if self._has_target else 0
        ratio = np.zeros(len(s))
        if self._has_target:
            share = s[kept] / s[kept].sum()
            rows = X if kept.all() else X[kept]
            ratio[kept] = self._fit_ratio(rows, X_target, share)
        else:
            self._fit_no_shift(X)
            ratio[kept] = 1.0
        self._store(ratio, s)
        return self

    def _validate_source(self, X: Any) -> Any:
        from scipy.sparse import issparse

        if issparse(X) and not self._check_params.get("accept_sparse"):
            raise TypeError(
                f"{type(self).__name__}: sparse data was passed for X, but dense data is "
                "required; use X.toarray(), or ClassifierDensityRatio, which takes sparse rows"
            )
        return validate_features(self, X, **self._check_params)

    def _fit_no_shift(self, X: Any) -> None:
        """Set what a fit without target rows still has to offer."""

    def _store(self, ratio: NDArray[np.float64], s: NDArray[np.float64]) -> None:
        """Raw and mean-one weights from the ratio at each row."""
        self.raw_weights_ = ratio * s / s.mean()
        flattened = self._flatten(ratio)
        if not np.any(flattened * s > 0):
            raise ValueError(
                f"{type(self).__name__}: the weights vanish on every row, so no source row "
                "resembles the target; look at domain_auc(X, X_target), or use a larger bandwidth"
            )
        self._scale = len(s) / float(flattened @ s)
        self._set_weights(normalize_weights(flattened, sample_weight=s))
        # A share of a tenth is what the base class warns of.
        if MINIMUM_ESS_SHARE * len(s) <= self.ess_ < FEW_ROWS <= 0.5 * len(s):
            warn_weights(
                f"{type(self).__name__}: the weights leave an effective sample size of "
                f"{self.ess_:.1f} rows, fewer than {FEW_ROWS}; estimates will rest on few rows; "
                "flatten the weights with exponent < 1 or collect more source rows"
            )

    def _flatten(self, ratio: NDArray[np.float64]) -> NDArray[np.float64]:
        exponent = getattr(self, "exponent", 1.0)
        return ratio if exponent == 1 else ratio**exponent

    def _fit_ratio(
        self, X: NDArray, X_target: NDArray, share: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        raise NotImplementedError


class RatioWeighter(ShiftWeighter):
    """Base class of shift weighters whose weight is a function of the row."""

    def _ratio(self, X: NDArray) -> NDArray[np.float64]:
        raise NotImplementedError

    def predict_weights(self, X: Any, y: ArrayLike | None = None) -> NDArray[np.float64]:
        """Weights of new rows, on the scale of `fit` and without sampling weights.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            New rows of the source.
        y : array-like of shape (n_samples,), default=None
            Ignored.

        Returns
        -------
        ndarray of shape (n_samples,)
        """
        ratio = self.predict_density_ratio(X)
        return self._scale * self._flatten(ratio)

    def predict_density_ratio(self, X: Any) -> NDArray[np.float64]:
        """Ratio of target to source density at new rows, neither flattened nor scaled.

        Validation needs it whatever `exponent` flattens the training weights:
        pass it as `sample_weight` to the score of an estimator.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            New rows of the source.

        Returns
        -------
        ndarray of shape (n_samples,)
            One without target rows in `fit`.
        """
        check_is_fitted(self, "weights_")
        X = validate_features(self, X, reset=False, **self._check_params)
        return self._ratio(X) if self._has_target else np.ones(X.shape[0])

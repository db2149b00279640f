"""Answers about grades when the residual of a new element may have been measured too."""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.metrics import accuracy_score
from sklearn.utils.validation import check_is_fitted

from reweight.reuse._levels import check_residual, observed_levels
from reweight.reuse._prediction import cut_levels, soft_levels
from reweight.validation import check_sample_weight, count_rows

Array = NDArray[np.float64]


class ResidualAnswers:
    """Prediction methods of `BayesianReuseClassifier`."""

    def _new_residual(self, X: Any, residual: ArrayLike | None) -> Array | None:
        if residual is None:
            return None
        return check_residual(residual, count_rows(X), type(self).__name__, "residual")

    def predict_proba_draws(
        self,
        X: Any,
        *,
        residual: ArrayLike | None = None,
        groups: ArrayLike | None = None,
        max_draws: int | None = None,
    ) -> Array:
        """Grade probabilities at posterior draws.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Features.
        residual : array-like of shape (n_samples,), default=None
            Residuals, NaN where not measured.
        groups : array-like of shape (n_samples,), default=None
            Group of each row; None is a new one in a model with groups.
        max_draws : int, default=None
            Number of draws to thin to; None takes all.

        Returns
        -------
        ndarray of shape (n_draws, n_samples, n_classes)
        """
        return self._proba_draws(X, groups, self._new_residual(X, residual), max_draws)

    def predict_proba(
        self, X: Any, *, residual: ArrayLike | None = None, groups: ArrayLike | None = None
    ) -> Array:
        """Posterior mean of the grade probabilities, given the residual where measured.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Features.
        residual : array-like of shape (n_samples,), default=None
            Residuals, NaN where not measured.
        groups : array-like of shape (n_samples,), default=None
            Group of each row; None is a new one in a model with groups.

        Returns
        -------
        ndarray of shape (n_samples, n_classes)
        """
        return self._mean_proba(X, groups, self._new_residual(X, residual))

    def predict_log_proba(
        self, X: Any, *, residual: ArrayLike | None = None, groups: ArrayLike | None = None
    ) -> Array:
        """Logarithms of `predict_proba`.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Features.
        residual : array-like of shape (n_samples,), default=None
            Residuals, NaN where not measured.
        groups : array-like of shape (n_samples,), default=None
            Group of each row; None is a new one in a model with groups.

        Returns
        -------
        ndarray of shape (n_samples, n_classes)
        """
        with np.errstate(divide="ignore"):
            return np.log(self.predict_proba(X, residual=residual, groups=groups))

    def predict_proba_interval(
        self,
        X: Any,
        *,
        residual: ArrayLike | None = None,
        groups: ArrayLike | None = None,
        confidence_level: float = 0.95,
    ) -> Array:
        """Posterior intervals of the grade probabilities, with equal tails.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Features.
        residual : array-like of shape (n_samples,), default=None
            Residuals, NaN where not measured.
        groups : array-like of shape (n_samples,), default=None
            Group of each row; None is a new one in a model with groups.
        confidence_level : float, default=0.95
            Posterior probability of each interval.

        Returns
        -------
        ndarray of shape (n_samples, n_classes, 2)
        """
        return self._proba_interval(X, groups, self._new_residual(X, residual), confidence_level)

    def predict(
        self, X: Any, *, residual: ArrayLike | None = None, groups: ArrayLike | None = None
    ) -> NDArray:
        """Most probable grade, or the one of least expected loss.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Features.
        residual : array-like of shape (n_samples,), default=None
            Residuals, NaN where not measured.
        groups : array-like of shape (n_samples,), default=None
            Group of each row; None is a new one in a model with groups.

        Returns
        -------
        ndarray of shape (n_samples,)
        """
        return self._choose(self.predict_proba(X, residual=residual, groups=groups))

    def score(
        self,
        X: Any,
        y: ArrayLike,
        sample_weight: ArrayLike | None = None,
        *,
        groups: ArrayLike | None = None,
    ) -> float:
        """Accuracy of grades predicted from the features, over rows whose grade is known.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Features.
        y : array-like of shape (n_samples,) or (n_samples, 2)
            Grades, or grades and residuals. With fixed thresholds an unknown
            grade is that of the residual.
        sample_weight : array-like of shape (n_samples,), default=None
            Weights.
        groups : array-like of shape (n_samples,), default=None
            Group of each row; None is a new one in a model with groups.

        Returns
        -------
        float

        Raises
        ------
        ValueError
            If no grade is known.
        """
        check_is_fitted(self, "idata_")
        levels, residual = observed_levels(self, y, None, count_rows(X), len(self.classes_))
        if self._fixed is not None:
            cut = (levels < 0) & np.isfinite(residual)
            levels[cut] = cut_levels(residual[cut], self._fixed)
        known = levels >= 0
        if not known.any():
            raise ValueError(
                f"{type(self).__name__}: y holds no known grade to score against; use "
                "log_predictive_density, which also judges residuals"
            )
        weight = check_sample_weight(sample_weight, X)[known]
        predicted = self.predict(X, groups=groups)[known]
        return float(accuracy_score(levels[known], predicted, sample_weight=weight))

    def log_predictive_density(
        self,
        X: Any,
        y: ArrayLike | None = None,
        *,
        residual: ArrayLike | None = None,
        groups: ArrayLike | None = None,
        sample_weight: ArrayLike | None = None,
    ) -> float:
        """Mean log posterior predictive density of grades and residuals; larger is better.

        The density of a residual is relative to the base distribution, so that
        zero is the value of features that say nothing.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Features.
        y : array-like of shape (n_samples,) or (n_samples, 2), default=None
            Grades, or grades and residuals.
        residual : array-like of shape (n_samples,), default=None
            Residuals, NaN where not measured.
        groups : array-like of shape (n_samples,), default=None
            Group of each row; None is a new one in a model with groups.
        sample_weight : array-like of shape (n_samples,), default=None
            Weights.

        Returns
        -------
        float

        Raises
        ------
        ValueError
            If a row has neither a grade nor a residual.
        """
        check_is_fitted(self, "idata_")
        levels, residual = observed_levels(self, y, residual, count_rows(X), len(self.classes_))
        if self._fixed is not None:
            cut = (levels < 0) & np.isfinite(residual)
            levels[cut] = cut_levels(residual[cut], self._fixed)
            residual = np.full(len(levels), np.nan)
        empty = (levels < 0) & np.isnan(residual)
        if empty.any():
            raise ValueError(
                f"{type(self).__name__}: {int(empty.sum())} rows have neither a grade nor a "
                "residual; leave them out"
            )
        return self._mean_density(X, levels, groups, residual, sample_weight)

    def classify_residual(self, residual: ArrayLike) -> NDArray[np.int64]:
        """Grades of residuals by the posterior mean thresholds.

        Parameters
        ----------
        residual : array-like of shape (n_samples,)
            Residuals.

        Returns
        -------
        ndarray of shape (n_samples,)
        """
        check_is_fitted(self, "idata_")
        residual = check_residual(residual, None, type(self).__name__, "residual")
        return cut_levels(residual, self.thresholds_)

    def level_probability_given_residual(self, residual: ArrayLike) -> Array:
        """Chance of each grade given the residual alone, averaged over draws of the thresholds.

        Parameters
        ----------
        residual : array-like of shape (n_samples,)
            Residuals.

        Returns
        -------
        ndarray of shape (n_samples, n_classes)
        """
        check_is_fitted(self, "idata_")
        residual = check_residual(residual, None, type(self).__name__, "residual")
        if self._fixed is not None:
            return np.eye(len(self.classes_))[cut_levels(residual, self._fixed)]
        thresholds, softness = self._draw("thresholds"), self._draw("softness")
        return np.exp(soft_levels(residual, thresholds, softness)).mean(axis=0)

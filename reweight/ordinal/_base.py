"""What a fitted model of ordered levels can say, however it was fitted."""

from numbers import Integral, Real
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import expit
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.validation import check_is_fitted

from reweight.ordinal._cumulative_logit import (
    level_log_probabilities,
    level_probabilities,
    ordered_logits,
)
from reweight.ordinal._design import OrdinalRows, check_rows, make_design, unit_penalty
from reweight.ordinal._path import OrdinalPath, fit_path, grid, warn_unless_converged
from reweight.validation import validate_features, warn_user

if TYPE_CHECKING:
    import pandas as pd

Array = NDArray[np.float64]


class BaseOrdinalClassifier(ClassifierMixin, BaseEstimator):
    """Predictions from cumulative logits, and the path of fits."""

    _parameter_constraints = {
        "l1_ratio": [Interval(Real, 0, 1, closed="both")],
        "penalize_first": ["boolean"],
        "penalty_factors": ["array-like", None],
        "standardize": ["boolean"],
        "categories": ["array-like", None],
        "solver": [StrOptions({"auto", "newton-cd", "fista"})],
        "domain": [StrOptions({"observed", "all"})],
        "max_iter": [Interval(Integral, 1, None, closed="left")],
        "tol": [Interval(Real, 0, None, closed="neither")],
    }
    # With two levels the model is a logistic regression, for which there are better solvers.
    _min_categories = 3

    def _check_rows(self, X: Any, y: Any, sample_weight: Any) -> OrdinalRows:
        return check_rows(self, X, y, sample_weight, smallest=self._min_categories)

    def path(
        self,
        X: Any,
        y: ArrayLike,
        alphas: int | ArrayLike = 20,
        *,
        eps: float = 1e-2,
        sample_weight: ArrayLike | None = None,
    ) -> OrdinalPath:
        """Models for a range of penalties, without fitting the estimator itself.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Features.
        y : array-like of shape (n_samples,)
            Levels.
        alphas : int or array-like of shape (n_alphas,), default=20
            Strengths of the penalty, or their number on a logarithmic grid that
            starts at the smallest one whose penalised coefficients are all zero.
        eps : float, default=1e-2
            Smallest strength over the largest, when `alphas` is a number.
        sample_weight : array-like of shape (n_samples,), default=None
            Sampling weights.

        Returns
        -------
        OrdinalPath
            Arrays with one entry per strength, the strongest first.

        Raises
        ------
        TypeError
            If rows are not numeric.
        ValueError
            If a parameter, the rows or the weights cannot be used.
        """
        self._validate_params()
        if isinstance(alphas, Integral) and (alphas < 1 or not 0 < eps < 1):
            raise ValueError(
                f"{type(self).__name__}: path needs alphas >= 1 and 0 < eps < 1, got "
                f"alphas={alphas}, eps={eps}"
            )
        # Validation notes the names of features on a copy, since nothing is fitted here.
        worker = type(self)(**self.get_params(deep=False))
        rows = worker._check_rows(X, y, sample_weight)
        design = make_design(rows, self.standardize)
        unit = unit_penalty(self, design.problem.size)
        path = fit_path(self, design, grid(self, design, alphas, eps, unit), unit, rows.classes)
        warn_unless_converged(self, path.optimality_gap)
        return path

    def _store(self, intercept: Array, coef: Array, differences: Array) -> None:
        self.intercept_ = intercept
        self.coef_ = coef
        self.differences_ = differences

    @property
    def exceedance_coef_(self) -> Array:
        """Slopes of the log-odds of lying above each boundary, minus `coef_`."""
        check_is_fitted(self)
        return -self.coef_

    def cumulative_logits(self, X: Any) -> Array:
        """Log-odds of lying at or below each level but the last, as fitted.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Features.

        Returns
        -------
        ndarray of shape (n_samples, n_classes - 1)
            Where boundaries cross, a row decreases; predictions repair that.
        """
        check_is_fitted(self)
        X = validate_features(self, X, reset=False)
        return X @ self.coef_.T + self.intercept_

    def _logits(self, X: Any) -> Array:
        """Logits, with a word on rows that predictions repair."""
        eta = self.cumulative_logits(X)
        crossed = int((np.diff(eta, axis=1) < 0).any(axis=1).sum())
        if crossed:
            warn_user(
                f"{type(self).__name__}: in {crossed} of {len(eta)} rows the boundaries cross; "
                "their cumulative probabilities are raised to be monotone; see crossing_report, "
                "and raise alpha for boundaries that are more alike",
                UserWarning,
            )
        return eta

    def predict_proba(self, X: Any) -> Array:
        """Probability of each level.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Features.

        Returns
        -------
        ndarray of shape (n_samples, n_classes)
            Columns in the order of `classes_`; small ones keep their digits.
        """
        return level_probabilities(self._logits(X))

    def predict_log_proba(self, X: Any) -> Array:
        """Logarithm of the probability of each level.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Features.

        Returns
        -------
        ndarray of shape (n_samples, n_classes)
            Minus infinity for a level between two boundaries that cross.
        """
        return level_log_probabilities(self._logits(X))

    def predict_exceedance(self, X: Any) -> Array:
        """Probability of lying above each level but the last.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Features.

        Returns
        -------
        ndarray of shape (n_samples, n_classes - 1)
            P(y > k), decreasing along a row.
        """
        return expit(-ordered_logits(self._logits(X)))

    def predict_tail_proba(self, X: Any, category: Any = None) -> Array:
        """Probability of a level or anything above it.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Features.
        category : object, default=None
            Lowest level of the tail; None is the last one, the rare event.

        Returns
        -------
        ndarray of shape (n_samples,)

        Raises
        ------
        ValueError
            If there is no such level.
        """
        check_is_fitted(self)
        labels = self.classes_.tolist()
        if category is not None and category not in labels:
            raise ValueError(
                f"{type(self).__name__}: category={category!r} is not among the levels {labels}"
            )
        place = len(labels) - 1 if category is None else labels.index(category)
        exceedance = self.predict_exceedance(X)
        return exceedance[:, place - 1] if place else np.ones(len(exceedance))

    def predict(self, X: Any, rule: str = "mode") -> NDArray:
        """One level per row.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Features.
        rule : {"mode", "median"}, default="mode"
            The most probable level, or the lowest whose cumulative probability
            is one half at least.

        Returns
        -------
        ndarray of shape (n_samples,)

        Raises
        ------
        ValueError
            If the rule is neither.
        """
        if rule not in ("mode", "median"):
            raise ValueError(
                f"{type(self).__name__}: rule={rule!r} is unknown; pass 'mode' or 'median'"
            )
        eta = self._logits(X)
        if rule == "mode":
            return self.classes_[np.argmax(level_probabilities(eta), axis=1)]
        return self.classes_[(ordered_logits(eta) < 0).sum(axis=1)]

    def crossing_rate(self, X: Any) -> float:
        """Share of rows in which any two boundaries cross.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Features.

        Returns
        -------
        float
        """
        eta = self.cumulative_logits(X)
        return float((np.diff(eta, axis=1) < 0).any(axis=1).mean())

    def crossing_report(self, X: Any) -> "pd.DataFrame":
        """How often and how far neighbouring boundaries cross.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Features.

        Returns
        -------
        DataFrame
            One row for each level between two boundaries: rows in which its
            fitted probability is negative before repair, their share, the most
            negative one, and the position of that row.
        """
        import pandas as pd

        eta = self.cumulative_logits(X)
        inner = expit(eta[:, 1:]) - expit(eta[:, :-1])
        crossed = np.diff(eta, axis=1) < 0
        worst = inner.argmin(axis=0)
        lowest = np.minimum(inner.min(axis=0), 0.0)
        return pd.DataFrame(
            {
                "n_rows": crossed.sum(axis=0),
                "share": crossed.mean(axis=0),
                "lowest_probability": lowest,
                "worst_row": np.where(lowest < 0, worst, -1),
            },
            index=pd.Index(self.classes_[1:-1], name="level"),
        )

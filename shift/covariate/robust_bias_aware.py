"""Classification that is sure only where the source is dense."""

from numbers import Integral, Real
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import minimize
from scipy.special import softmax
from sklearn.base import BaseEstimator, ClassifierMixin, clone
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils._param_validation import HasMethods, Interval
from sklearn.utils.validation import check_is_fitted

from reweight.solvers.damped_newton import damped_newton
from reweight.solvers.result import SolverResult
from reweight.validation import check_weights, validate_features, warn_user, warn_weights
from shift._target_rows import check_target_rows
from shift.covariate._minimax_checks import check_labelled_rows, encode_classes

MAX_NEWTON_SIZE = 500
CAPPED_SHARE = 0.05


class RobustBiasAwareClassifier(ClassifierMixin, BaseEstimator):
    r"""Classifier whose certainty falls with the ratio of source to target density.

    With :math:`r(x) = p_s(x) / p_t(x)` the class probabilities are

    .. math:: P(c|x) = \frac{e^{r(x)\, \theta_c^\top (1, x)}}
                            {\sum_k e^{r(x)\, \theta_k^\top (1, x)}},

    the answer with the least worst log loss on the target among all class
    probabilities that agree with the moments of the source. Far from the
    source all classes are equally probable. It is the robust direction of
    covariate shift adaptation: the target is weighted, not the source.

    Parameters
    ----------
    ratio : weighter, callable or float, default=None
        Source density over target density. A weighter with `predict_weights`,
        which is fitted with the roles of the two samples exchanged; a function
        X -> array of shape (n_samples,); or a number for all rows. None is
        `ClassifierDensityRatio()`.
    C : float, default=1.0
        Inverse strength of the ridge, as in
        `sklearn.linear_model.LogisticRegression`; the intercept is free.
    max_ratio : float, default=10.0
        Cap of the ratio, so that no row's class is certain.
    fit_intercept : bool, default=True
        Whether there is an intercept.
    tol : float, default=1e-8
        Largest entry of the gradient of the mean loss at a solution.
    max_iter : int, default=500
        Largest number of Newton steps, or of L-BFGS steps where there are more
        than 500 coefficients.

    Attributes
    ----------
    coef_ : ndarray of shape (1, n_features) or (n_classes, n_features)
        Coefficients; with two classes those of the second against the first.
    intercept_ : ndarray of shape (1,) or (n_classes,)
        Intercepts, zero without `fit_intercept`.
    ratio_ : estimator, callable or float
        The fitted ratio; 1.0 if X_target was not given.
    source_ratio_ : ndarray of shape (n_samples,)
        The ratio at the source rows, capped.
    classes_ : ndarray of shape (n_classes,)
        Class labels.
    optimality_gap_ : float
        Largest entry of the gradient of the mean loss.
    solver_result_ : SolverResult
        The solver's record.
    n_iter_ : int
        Steps taken.
    n_target_ : int
        Number of target rows; 0 if X_target was not given.
    n_features_in_ : int
        Number of columns.
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Their names, when X has string column names.

    References
    ----------
    Liu, A., Ziebart, B. (2014). Robust classification under sample selection
    bias. Advances in Neural Information Processing Systems 27.

    Examples
    --------
    >>> import numpy as np
    >>> from shift import RobustBiasAwareClassifier
    >>> X = np.array([[-2.0], [-1.0], [0.0], [1.0], [2.0]])
    >>> y = np.array([0, 0, 1, 0, 1])
    >>> near = RobustBiasAwareClassifier(ratio=lambda X: np.exp(-np.abs(X[:, 0])))
    >>> near.fit(X, y, X_target=X + 1).predict_proba([[2.0], [9.0]]).round(2)
    array([[0.44, 0.56],
           [0.5 , 0.5 ]])
    """

    __metadata_request__fit = {"X_target": True}
    _parameter_constraints = {
        "ratio": [
            None,
            HasMethods(["fit", "predict_weights"]),
            callable,
            Interval(Real, 0, None, closed="left"),
        ],
        "C": [Interval(Real, 0, None, closed="neither")],
        "max_ratio": [Interval(Real, 0, None, closed="neither")],
        "fit_intercept": ["boolean"],
        "tol": [Interval(Real, 0, None, closed="neither")],
        "max_iter": [Interval(Integral, 1, None, closed="left")],
    }

    def __init__(
        self,
        ratio: Any = None,
        C: float = 1.0,
        max_ratio: float = 10.0,
        *,
        fit_intercept: bool = True,
        tol: float = 1e-8,
        max_iter: int = 500,
    ) -> None:
        self.ratio = ratio
        self.C = C
        self.max_ratio = max_ratio
        self.fit_intercept = fit_intercept
        self.tol = tol
        self.max_iter = max_iter

    def fit(
        self,
        X: Any,
        y: ArrayLike,
        *,
        X_target: Any = None,
        sample_weight: ArrayLike | None = None,
    ) -> Self:
        """Find the density ratio and the coefficients.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Source rows.
        y : array-like of shape (n_samples,)
            Their classes.
        X_target : array-like of shape (n_target, n_features) or 1-tuple of it, default=None
            Target rows; use the 1-tuple inside cross-validation, which cuts
            arrays that are as long as X. None means no shift, which is ordinary
            logistic regression, and a `WeightWarning` says so.
        sample_weight : array-like of shape (n_samples,), default=None
            Sampling weights of the source rows in the loss.

        Returns
        -------
        Self

        Raises
        ------
        TypeError
            If rows are sparse or not numeric.
        ValueError
            If a parameter, the rows or the ratio cannot be used.
        """
        self._validate_params()
        X, y, s = check_labelled_rows(self, X, y, sample_weight)
        X_target = check_target_rows(self, X, X_target)
        self.n_target_ = 0 if X_target is None else len(X_target)
        self._fit_ratio(X[s > 0], X_target)
        ratio = self._ratio_at(X)
        self._warn_of_capping(ratio[s > 0])
        self.source_ratio_ = np.minimum(ratio, self.max_ratio)
        rows = np.flatnonzero(s > 0)
        self.classes_, labels = encode_classes(self, y[rows])
        loss = _RobustLoss(
            self._design(X[rows]),
            labels,
            self.source_ratio_[rows],
            s[rows],
            1 if self.classes_.size == 2 else self.classes_.size,
            1.0 / (self.C * s.sum()),
            self.fit_intercept,
        )
        self._store(_minimize(loss, self.tol, self.max_iter))
        return self

    def _fit_ratio(self, X: NDArray, X_target: NDArray | None) -> None:
        if X_target is None:
            self.ratio_ = 1.0
        elif self.ratio is None or hasattr(self.ratio, "predict_weights"):
            weighter = self.ratio
            if weighter is None:
                from shift.covariate.classifier_density_ratio import ClassifierDensityRatio

                weighter = ClassifierDensityRatio()
            # Weights that carry the target over to the source are p_s / p_t.
            self.ratio_ = clone(weighter).fit(X_target, X_target=(X,))
        else:
            self.ratio_ = self.ratio

    def _ratio_at(self, X: NDArray[np.float64]) -> NDArray[np.float64]:
        """The ratio at rows, before it is capped."""
        if hasattr(self.ratio_, "predict_weights"):
            ratio = self.ratio_.predict_weights(X)
        elif callable(self.ratio_):
            ratio = self.ratio_(X)
        else:
            ratio = np.full(len(X), float(self.ratio_))
        ratio = check_weights(ratio, name="the ratio")
        if ratio.size != len(X):
            raise ValueError(
                f"{type(self).__name__}: ratio gives {ratio.size} values for {len(X)} rows; it "
                "must give one per row"
            )
        return ratio

    def _warn_of_capping(self, ratio: NDArray[np.float64]) -> None:
        share = float(np.mean(ratio > self.max_ratio))
        if share > CAPPED_SHARE:
            warn_weights(
                f"{type(self).__name__}: the ratio of {share:.0%} of the source rows is capped at "
                f"max_ratio={self.max_ratio:g}; raise max_ratio, or look at "
                "domain_auc(X, X_target): the samples hardly overlap"
            )

    def _design(self, X: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.column_stack([np.ones(len(X)), X]) if self.fit_intercept else X

    def _store(self, result: SolverResult) -> None:
        first = int(self.fit_intercept)
        self.coef_ = result.x[:, first:]
        self.intercept_ = result.x[:, 0] if self.fit_intercept else np.zeros(len(result.x))
        if len(self.intercept_) > 1:
            # Only differences of the free intercepts are determined.
            self.intercept_ = self.intercept_ - self.intercept_.mean()
        self.solver_result_ = result
        self.optimality_gap_ = result.optimality_gap
        self.n_iter_ = result.n_iter
        if not result.converged:
            warn_user(
                f"{type(self).__name__}: not converged after {self.n_iter_} iterations (largest "
                f"entry of the gradient {self.optimality_gap_:.2e}, tol {self.tol:.2e}); raise "
                "max_iter, standardise the columns, or lower C",
                ConvergenceWarning,
            )

    def decision_function(self, X: Any) -> NDArray[np.float64]:
        """Class scores, which do not depend on the ratio.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows.

        Returns
        -------
        ndarray of shape (n_samples,) or (n_samples, n_classes)
            For two classes the score of the second against the first.
        """
        check_is_fitted(self, "coef_")
        X = validate_features(self, X, reset=False)
        scores = X @ self.coef_.T + self.intercept_
        return scores[:, 0] if scores.shape[1] == 1 else scores

    def predict_proba(self, X: Any) -> NDArray[np.float64]:
        """Class probabilities; all equal where the source is thin.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows.

        Returns
        -------
        ndarray of shape (n_samples, n_classes)
        """
        scores = self.decision_function(X)
        if scores.ndim == 1:
            scores = np.column_stack([np.zeros(len(scores)), scores])
        ratio = self._ratio_at(validate_features(self, X, reset=False))
        ratio = np.minimum(ratio, self.max_ratio)
        return softmax(ratio[:, None] * scores, axis=1)

    def predict(self, X: Any) -> NDArray:
        """The most probable class of each row.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows.

        Returns
        -------
        ndarray of shape (n_samples,)
        """
        scores = self.decision_function(X)
        best = (scores > 0).astype(int) if scores.ndim == 1 else np.argmax(scores, axis=1)
        return self.classes_[best]


class _RobustLoss:
    """Mean of log(mean_c exp(r s_c)) / r - s_y plus the ridge, for scores s = Z theta'.

    Its gradient is that of the moment equations: model probabilities less labels, times features.
    With two classes the first class's scores are zero and theta has one row.
    """

    def __init__(
        self,
        Z: NDArray[np.float64],
        labels: NDArray[np.intp],
        ratio: NDArray[np.float64],
        s: NDArray[np.float64],
        n_rows: int,
        alpha: float,
        fit_intercept: bool,
    ) -> None:
        self.Z, self.labels, self.ratio, self.w = Z, labels, ratio, s / s.sum()
        self.shape = (n_rows, Z.shape[1])
        ridge = np.full(self.shape, alpha)
        if fit_intercept:
            ridge[:, 0] = 0.0
        self.ridge = ridge.ravel()

    def _scores(self, theta: NDArray) -> NDArray[np.float64]:
        scores = self.Z @ theta.reshape(self.shape).T
        if self.shape[0] == 1:
            scores = np.column_stack([np.zeros(len(scores)), scores])
        return scores

    def value_and_gradient(self, theta: NDArray) -> tuple[float, NDArray[np.float64]]:
        scores = self._scores(theta)
        rows = np.arange(len(scores))
        # log mean exp(r s) / r about the largest score, which keeps its digits down to r = 0.
        top = scores.max(axis=1)
        below = scores - top[:, None]
        r = np.where(self.ratio > 0, self.ratio, 1.0)
        mean_exp = np.expm1(r[:, None] * below).mean(axis=1)
        cumulant = top + np.where(self.ratio > 0, np.log1p(mean_exp) / r, below.mean(axis=1))
        value = self.w @ (cumulant - scores[rows, self.labels])
        P = softmax(self.ratio[:, None] * scores, axis=1)
        excess = P.copy()
        excess[rows, self.labels] -= 1.0
        gradient = (excess[:, -self.shape[0] :] * self.w[:, None]).T @ self.Z
        value += 0.5 * self.ridge @ theta**2
        return float(value), gradient.ravel() + self.ridge * theta

    def __call__(self, theta: NDArray) -> tuple[float, NDArray, NDArray]:
        value, gradient = self.value_and_gradient(theta)
        k, d = self.shape
        P = softmax(self.ratio[:, None] * self._scores(theta), axis=1)[:, -k:]
        hessian = np.empty((k, d, k, d))
        for b in range(k):
            for c in range(b, k):
                weight = self.w * self.ratio * P[:, b] * ((b == c) - P[:, c])
                block = (self.Z * weight[:, None]).T @ self.Z
                hessian[b, :, c, :] = block
                hessian[c, :, b, :] = block
        return value, gradient, hessian.reshape(k * d, k * d) + np.diag(self.ridge)


def _minimize(loss: _RobustLoss, tol: float, max_iter: int) -> SolverResult:
    """Newton's method, or L-BFGS where the Hessian would be large."""
    start = np.zeros(loss.ridge.size)
    if start.size <= MAX_NEWTON_SIZE:
        result = damped_newton(loss, start, tol=tol, max_iter=max_iter)
        x, gap, n_iter, solver = result.x, result.optimality_gap, result.n_iter, result.solver
    else:
        found = minimize(
            loss.value_and_gradient,
            start,
            jac=True,
            method="L-BFGS-B",
            options={"gtol": tol, "ftol": 0.0, "maxiter": max_iter, "maxcor": 30},
        )
        x, n_iter, solver = found.x, int(found.nit), "l-bfgs"
        gap = float(np.abs(loss.value_and_gradient(x)[1]).max())
    return SolverResult(
        x=x.reshape(loss.shape),
        dual=None,
        objective=loss.value_and_gradient(x)[0],
        optimality_gap=gap,
        certificate="kkt",
        n_iter=n_iter,
        converged=bool(gap <= tol),
        solver=solver,
    )

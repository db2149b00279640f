"""Minimax risk classification with weights for the source and for the target rows."""

from dataclasses import replace
from numbers import Integral, Real
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, ClassifierMixin, clone
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import HasMethods, Interval, StrOptions
from sklearn.utils.validation import check_consistent_length, check_is_fitted

from reweight.validation import check_weights, unwrap_target, validate_features
from shift._target_rows import check_target_rows
from shift.covariate._features import feature_rows, fit_featurizer
from shift.covariate._minimax_checks import (
    check_confidence,
    check_given_pair,
    check_labelled_rows,
    check_values_of_d,
    encode_classes,
    refuse_vanishing,
    warn_of_weak_fit,
)
from shift.covariate._minimax_game import Game, Solution
from shift.covariate._minimax_loss import rule
from shift.covariate._minimax_path import WeightPair, fold_rows, solve_path, weight_pairs


class DoubleWeightingClassifier(ClassifierMixin, BaseEstimator):
    r"""Classifier for a target whose features are distributed differently, by double weighting.

    Source rows get weights :math:`\beta` and target rows weights
    :math:`\alpha` such that the two weighted samples look alike; where the
    source cannot speak for a target row, its :math:`\alpha` is small. The rule
    minimises the worst expected loss on the target over all class
    probabilities :math:`P` whose weighted moments agree with those of the source,

    .. math:: \Big| \tau_c - \frac1t \sum_i P_{ic}\, \alpha_i \phi(x_i) \Big| \le \lambda_c,
              \qquad \tau_c = \frac1n \sum_{j: y_j = c} \beta_j \phi(x_j),

    which is a convex problem in coefficients :math:`M` of shape (C, q), one
    row per class. Use it where supports differ in both directions and a
    linear rule in :math:`\phi` is wanted; not where :math:`p(y|x)` changed.

    Parameters
    ----------
    D : float, array-like of float or "auto", default="auto"
        Bound that trades the two weights: the target weights have mean at
        least 1/sqrt(D). 1 weighs the source only (kernel mean matching),
        `numpy.inf` the target only. Several values, or "auto" for the ten
        values 1/(1 - 0.1 l)^2, l = 0, ..., 9, are compared by `select`.
    loss : {"0-1", "log"}, default="0-1"
        Loss whose worst case is minimised.
    featurizer : {"linear", "rbf"} or transformer, default="linear"
        Feature map phi: the columns themselves, random Fourier features of a
        Gaussian kernel (`sklearn.kernel_approximation.RBFSampler`), or any
        transformer, which is fitted on source and target rows together. The
        confidence bounds penalise coefficients in the units of the features,
        so the scale of the columns matters.
    n_components : int, default=300
        Number of random Fourier features.
    bandwidth : float, "knn50" or "median", default="knn50"
        Length of the Gaussian kernel, in units of X, of random Fourier features
        and of the default `weighter`; see `shift.DoubleKernelMeanMatching`.
    fit_intercept : bool, default=True
        Whether phi is led by a one.
    confidence : {"feasible", "std"} or array-like of shape (C, q), default="feasible"
        Confidence bounds lambda: the smallest that some class probabilities
        attain, made unique by least squares; 0.3 standard errors of tau; or
        the bounds themselves.
    slack : float, default=1e-6
        Added to the bounds of "feasible". The default leaves the problem nearly
        unpenalised; use 0.01 to 0.05 where rows are few.
    weighter : estimator, default=None
        Finds the weights; None is `DoubleKernelMeanMatching`. It is fitted once
        for each value of `D`; a weighter without a parameter `D` is fitted
        once, and its weights of the source rows are used with target weights one.
    select : {"risk", "iwcv"}, default="risk"
        How `D` is chosen: by the smallest minimax risk, or by
        importance-weighted cross-validation with the weights at D = 1.
    cv : int, cross-validator or iterable, default=5
        Folds of "iwcv"; an int is the number of stratified, shuffled folds.
    tol : float, default=1e-6
        Gap at which the optimiser stops, relative to the risk of knowing
        nothing.
    max_iter : int, default=200
        Largest number of Newton steps (log loss) or linear programs (0-1 loss).
    n_jobs : int, default=None
        Number of values of `D` that are tried at the same time.
    random_state : int, RandomState instance or None, default=None
        Seed of random features, of the default weighter and of the folds.

    Attributes
    ----------
    coef_ : ndarray of shape (n_classes, q)
        Coefficients M of phi, whose first entry is the intercept if there is one.
    tau_ : ndarray of shape (n_classes, q)
        Weighted means of phi over the source rows of each class.
    confidence_bounds_ : ndarray of shape (n_classes, q)
        Confidence bounds lambda.
    minimax_risk_ : float
        Worst expected loss over the class probabilities within the bounds. An
        optimistic estimate of the target's loss, since the bounds are the
        smallest feasible ones: use it to compare values of `D`; it does not
        bound the error.
    minimax_risk_path_ : ndarray of shape (n_values,)
        Minimax risk of each value in `D_path_`.
    validation_risk_path_ : ndarray of shape (n_values,) or None
        Importance-weighted loss of each value, for `select="iwcv"`.
    D_ : float or None
        The value used; None if weights were given or X_target was not.
    D_path_ : ndarray of shape (n_values,)
        The values compared, sorted.
    raw_weights_ : ndarray of shape (n_samples,)
        Source weights beta times the sampling weights of mean one.
    raw_target_weights_ : ndarray of shape (n_target,)
        Target weights alpha.
    weighter_ : estimator or None
        The fitted weighter.
    featurizer_ : transformer or None
        The fitted feature map; None if it is linear.
    classes_ : ndarray of shape (n_classes,)
        Class labels.
    optimality_gap_ : float
        Certified distance of the risk from its minimum, relative to the risk of
        knowing nothing (1 - 1/C or log C), since the minimum can be zero.
    solver_result_ : SolverResult
        The solver's record; `dual` holds the worst class probabilities of the
        target rows.
    n_iter_ : int
        Newton steps or linear programs.
    n_target_ : int
        Number of target rows; 0 if X_target was not given.
    n_features_in_ : int
        Number of columns.
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Their names, when X has string column names.

    References
    ----------
    Segovia-Martin, J. I., Mazuelas, S., Liu, A. (2023). Double-weighting for
    covariate shift adaptation. ICML, PMLR 202, 30439-30457.
    Mazuelas, S., Shen, Y., Perez, A. (2022). Generalized maximum entropy for
    supervised classification. IEEE Transactions on Information Theory, 68(4).

    Examples
    --------
    >>> import numpy as np
    >>> from shift import DoubleWeightingClassifier
    >>> rng = np.random.default_rng(0)
    >>> X, X_target = rng.normal(size=(80, 2)), rng.normal(0.8, 0.7, size=(60, 2))
    >>> y = np.where(X[:, 0] + 0.3 * rng.normal(size=80) > 0.5, "yes", "no")
    >>> model = DoubleWeightingClassifier(D=4, loss="log", slack=0.02)
    >>> model.fit(X, y, X_target=X_target).predict(np.array([[-1.0, 0.0], [2.0, 0.0]]))
    array(['no', 'yes'], dtype='<U3')
    >>> bool(model.optimality_gap_ <= 1e-6)
    True
    """

    __metadata_request__fit = {"X_target": True, "source_weights": True, "target_weights": True}
    _parameter_constraints = {
        "D": [Real, StrOptions({"auto"}), "array-like"],
        "loss": [StrOptions({"0-1", "log"})],
        "featurizer": [StrOptions({"linear", "rbf"}), HasMethods(["fit", "transform"])],
        "n_components": [Interval(Integral, 1, None, closed="left")],
        "bandwidth": [Real, StrOptions({"knn50", "median"})],
        "fit_intercept": ["boolean"],
        "confidence": [StrOptions({"feasible", "std"}), "array-like"],
        "slack": [Interval(Real, 0, None, closed="left")],
        "weighter": [None, HasMethods(["fit"])],
        "select": [StrOptions({"risk", "iwcv"})],
        "cv": ["cv_object"],
        "tol": [Interval(Real, 0, None, closed="neither")],
        "max_iter": [Interval(Integral, 1, None, closed="left")],
        "n_jobs": [None, Integral],
        "random_state": ["random_state"],
    }

    def __init__(
        self,
        D: float | str | ArrayLike = "auto",
        *,
        loss: str = "0-1",
        featurizer: Any = "linear",
        n_components: int = 300,
        bandwidth: float | str = "knn50",
        fit_intercept: bool = True,
        confidence: str | ArrayLike = "feasible",
        slack: float = 1e-6,
        weighter: Any = None,
        select: str = "risk",
        cv: Any = 5,
        tol: float = 1e-6,
        max_iter: int = 200,
        n_jobs: int | None = None,
        random_state: Any = None,
    ) -> None:
        self.D = D
        self.loss = loss
        self.featurizer = featurizer
        self.n_components = n_components
        self.bandwidth = bandwidth
        self.fit_intercept = fit_intercept
        self.confidence = confidence
        self.slack = slack
        self.weighter = weighter
        self.select = select
        self.cv = cv
        self.tol = tol
        self.max_iter = max_iter
        self.n_jobs = n_jobs
        self.random_state = random_state

    def fit(
        self,
        X: Any,
        y: ArrayLike,
        *,
        X_target: Any = None,
        source_weights: ArrayLike | None = None,
        target_weights: Any = None,
        sample_weight: ArrayLike | None = None,
    ) -> Self:
        """Find both weights, the confidence bounds and the coefficients.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Source rows.
        y : array-like of shape (n_samples,)
            Their classes.
        X_target : array-like of shape (n_target, n_features) or 1-tuple of it, default=None
            Target rows; use the 1-tuple inside cross-validation, which cuts
            arrays that are as long as X. None means no shift, and a
            `WeightWarning` says so.
        source_weights : array-like of shape (n_samples,), default=None
            Source weights beta in place of the weighter's, without the sampling
            weights and not rescaled; target weights are then one unless given.
        target_weights : array-like of shape (n_target,) or 1-tuple of it, default=None
            Target weights alpha in place of the weighter's; source weights are
            then one unless given.
        sample_weight : array-like of shape (n_samples,), default=None
            Sampling weights of the source rows.

        Returns
        -------
        Self

        Raises
        ------
        InfeasibleError
            If no class probabilities attain the given confidence bounds.
        TypeError
            If rows are not numeric or sparse.
        ValueError
            If a parameter, the rows or the weights cannot be used.
        """
        self._validate_params()
        values = check_values_of_d(self)
        X, y, s = check_labelled_rows(self, X, y, sample_weight)
        given = source_weights is not None or target_weights is not None
        if given and unwrap_target(X_target) is None:
            raise ValueError(
                f"{type(self).__name__}: source_weights and target_weights need X_target, the "
                "target rows"
            )
        X_target = check_target_rows(self, X, X_target)
        rows = np.flatnonzero(s > 0)
        self.classes_, labels = encode_classes(self, y[rows])
        seed = check_random_state(self.random_state).randint(np.iinfo(np.int32).max)
        game = self._game(X[rows], labels, s[rows], X_target, seed)
        importance = None
        if X_target is None:
            pairs = [WeightPair(None, np.ones(rows.size), np.ones(rows.size))]
        elif given:
            pair = check_given_pair(self, source_weights, target_weights, len(X), len(X_target))
            pairs = [replace(pair, source=pair.source[rows])]
        else:
            pairs, importance = self._found_pairs(values, X[rows], s[rows], X_target, seed)
        folds = None if importance is None else fold_rows(self.cv, X, y, rows, seed)
        pair, solution = self._choose(game, pairs, importance, folds)
        self.n_target_ = 0 if X_target is None else len(X_target)
        self._store(pair, solution, rows, s)
        return self

    def _game(
        self, X: NDArray, labels: NDArray, s: NDArray, X_target: NDArray | None, seed: int
    ) -> Game:
        """Features of both samples, and what does not depend on the weights."""
        target = X if X_target is None else X_target
        pooled = X if X_target is None else np.concatenate([X, X_target])
        self.featurizer_ = fit_featurizer(
            self.featurizer,
            pooled,
            n_components=self.n_components,
            bandwidth=self.bandwidth,
            random_state=seed,
            name=type(self).__name__,
        )
        source, target = self._phi(X), self._phi(target)
        row_weight = s / s.sum() if X_target is None else np.full(len(target), 1 / len(target))
        shape = (self.classes_.size, source.shape[1])
        return Game(
            source=source,
            labels=labels,
            sample_weight=s,
            target=target,
            row_weight=row_weight,
            classes=self.classes_,
            loss=self.loss,
            confidence=check_confidence(self, shape),
            slack=self.slack,
            tol=self.tol,
            max_iter=self.max_iter,
        )

    def _found_pairs(
        self, values: NDArray, X: NDArray, s: NDArray, X_target: NDArray, seed: int
    ) -> tuple[list[WeightPair], NDArray[np.float64] | None]:
        """A pair for each value of D, and the source weights at D = 1 if "iwcv" needs them."""
        if self.weighter is None:
            from shift.covariate.double_kernel_mean_matching import DoubleKernelMeanMatching

            weighter = DoubleKernelMeanMatching(bandwidth=self.bandwidth, random_state=seed)
        else:
            weighter = clone(self.weighter)
        validate = self.select == "iwcv" and values.size > 1
        fitted = np.union1d(values, 1.0) if validate else values
        pairs = weight_pairs(weighter, fitted, X, s, X_target, n_jobs=self.n_jobs)
        return pairs[-values.size :], pairs[0].source if validate else None

    def _choose(
        self, game: Game, pairs: list[WeightPair], importance: NDArray | None, folds: list | None
    ) -> tuple[WeightPair, Solution]:
        """Solve for every pair and keep the one of least risk."""
        for pair in pairs:
            refuse_vanishing(self, pair)
        path = solve_path(game, pairs, importance, folds, n_jobs=self.n_jobs)
        self.D_path_ = np.array([pair.D for pair in pairs if pair.D is not None])
        self.minimax_risk_path_ = path.minimax_risks
        self.validation_risk_path_ = path.validation_risks
        return pairs[path.best], path.solutions[path.best]

    def _store(
        self, pair: WeightPair, solution: Solution, rows: NDArray, s: NDArray[np.float64]
    ) -> None:
        self.raw_weights_ = np.zeros(len(s))
        self.raw_weights_[rows] = pair.source * s[rows] / s.mean()
        self.raw_target_weights_ = pair.target[: self.n_target_]
        self.weighter_ = pair.weighter
        self.D_ = pair.D
        self.coef_ = solution.M
        self.tau_ = solution.tau
        self.confidence_bounds_ = solution.confidence.bounds
        self.solver_result_ = solution.result
        self.minimax_risk_ = solution.result.objective
        self.optimality_gap_ = solution.result.optimality_gap
        self.n_iter_ = solution.result.n_iter
        warn_of_weak_fit(self, pair, solution)

    def _phi(self, X: NDArray[np.float64]) -> NDArray[np.float64]:
        return feature_rows(self.featurizer_, X, self.fit_intercept, type(self).__name__)

    def _scores(self, X: Any) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Checked rows, and their class scores before target weights."""
        check_is_fitted(self, "coef_")
        X = validate_features(self, X, reset=False)
        return X, self._phi(X) @ self.coef_.T

    def decision_function(self, X: Any) -> NDArray[np.float64]:
        """Class scores M phi(x), which do not depend on target weights.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows.

        Returns
        -------
        ndarray of shape (n_samples,) or (n_samples, n_classes)
            For two classes the score of the second less that of the first.
        """
        scores = self._scores(X)[1]
        return scores[:, 1] - scores[:, 0] if scores.shape[1] == 2 else scores

    def predict_proba(
        self, X: Any, *, target_weights: ArrayLike | None = None
    ) -> NDArray[np.float64]:
        """Class probabilities of the randomised minimax rule.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows.
        target_weights : array-like of shape (n_samples,), default=None
            Target weights alpha of these rows; None takes those of the fitted
            weighter as a function of the row, or one where it has none.
            At weight zero all classes are equally probable.

        Returns
        -------
        ndarray of shape (n_samples, n_classes)
        """
        X, scores = self._scores(X)
        if target_weights is not None:
            alpha = check_weights(target_weights, name="target_weights")
            check_consistent_length(X, alpha)
        elif hasattr(self.weighter_, "predict_target_weights"):
            alpha = self.weighter_.predict_target_weights(X)
        else:
            alpha = np.ones(len(X))
        return rule(alpha[:, None] * scores, self.loss)

    def predict(
        self,
        X: Any,
        *,
        randomised: bool = False,
        random_state: int | np.random.RandomState | None = None,
    ) -> NDArray:
        """Classes of rows.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows.
        randomised : bool, default=False
            False gives the class of the largest score. True draws each class
            from `predict_proba`, the rule that the minimax risk belongs to.
        random_state : int, RandomState instance or None, default=None
            Seed of the draw.

        Returns
        -------
        ndarray of shape (n_samples,)
        """
        if not randomised:
            best = np.argmax(self._scores(X)[1], axis=1)
            return self.classes_[best]
        cumulative = np.cumsum(self.predict_proba(X), axis=1)
        draw = check_random_state(random_state).uniform(size=(len(cumulative), 1))
        chosen = (draw * cumulative[:, -1:] >= cumulative).sum(axis=1)
        return self.classes_[np.minimum(chosen, self.classes_.size - 1)]

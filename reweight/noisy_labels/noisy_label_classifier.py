"""A classifier of clean classes from rows whose labels were flipped at random."""

from numbers import Integral, Real
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, ClassifierMixin, MetaEstimatorMixin, clone
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline
from sklearn.utils import check_array, check_random_state, column_or_1d, get_tags
from sklearn.utils._param_validation import HasMethods, Interval, StrOptions
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted

from reweight.cross_fitting import cross_fit
from reweight.noisy_labels._forward_logistic import ForwardLogit, fit_forward_logit
from reweight.noisy_labels.transition_matrix import (
    anchor_transition,
    clean_posteriors,
    dual_transition,
    label_weights,
)
from reweight.normalization import normalize_weights
from reweight.validation import check_sample_weight, warn_user
from reweight.weighted_fit import transform_front, weight_key, weighted_fit

Array = NDArray[np.float64]

ESTIMATES = {"anchor": anchor_transition, "dual": dual_transition}


class NoisyLabelClassifier(ClassifierMixin, MetaEstimatorMixin, BaseEstimator):
    r"""Learn the clean classes from labels that were flipped by class.

    With T[a, b] the probability of the noisy label a given the clean class b, and f
    the probabilities of the clean classes, a row with label y has weight
    :math:`f_y / (T f)_y`: weighted, it stands for a clean one. Probabilities and
    weights are found in turn, each row judged by models that have not seen it.
    Not meant for flips that depend on the features within a class.

    Parameters
    ----------
    estimator : classifier, default=None
        Classifier with `predict_proba` whose `fit` takes `sample_weight`, or a
        Pipeline that ends in one; None is `LogisticRegression()`.
    transition : {"anchor", "dual"} or array-like, default="anchor"
        How T is estimated from cross-fitted predictions of the noisy labels, or T
        itself, of shape (n_classes, n_classes) with classes in sorted order and
        columns that sum to one. "dual" is for classifiers that are nearly sure of
        every row, see `dual_transition`.
    method : {"reweight", "rent", "dirichlet", "forward"}, default="reweight"
        What to do with it.

        - "reweight": fit with the weights.
        - "rent": fit to as many rows as there are, drawn with replacement in
          proportion to the weights.
        - "dirichlet": fit with shares drawn from a Dirichlet distribution around
          the weights.
        - "forward": fit f so that T f predicts the noisy labels; only for
          `LogisticRegression` with its quadratic penalty, which may end a Pipeline.
    concentration : float, default=None
        That of "dirichlet"; None is the number of rows less one, which gives the
        shares the variance that they have under "rent".
    max_iter : int, default=10
        Rounds of weights and probabilities.
    tol : float, default=1e-3
        Mean absolute change of the weights at which "reweight" stops.
    cv : int, splitter or iterable, default=5
        Folds of the cross-fitting.
    random_state : int, RandomState instance or None, default=None
        Source of the draws; if given, it also shuffles rows before an integer `cv`
        forms folds. Randomness of the estimator is its own.
    n_jobs : int, default=None
        Number of folds that run at a time; it does not change the result.
    verbose : int, default=0
        Whether to show the progress of the folds.

    Attributes
    ----------
    transition_ : ndarray of shape (n_classes, n_classes)
        T, columns sum to one.
    weights_ : ndarray of shape (n_samples,)
        Weights of the last fit, mean one, sampling weights included; for
        "forward" those of the fitted probabilities.
    estimator_ : classifier
        The classifier of clean classes, fitted to all rows.
    n_iter_ : int
        Rounds taken; iterations of L-BFGS for "forward".
    classes_ : ndarray of shape (n_classes,)
        Classes.
    n_features_in_ : int
        Number of features.
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Their names, when X has string column names.

    Notes
    -----
    `score` is the accuracy against the labels that it is given, which are noisy
    unless one has better ones. Where T is known and the classes are linear,
    "forward" is the most accurate.

    References
    ----------
    Bae, H., Shin, S., Na, B. and Moon, I.-C. (2024). Dirichlet-based per-sample
    weighting by transition matrix for noisy label learning. ICLR.

    Liu, T. and Tao, D. (2016). Classification with noisy labels by importance
    reweighting. IEEE TPAMI 38, 447-461.

    Patrini, G., Rozza, A., Menon, A. K., Nock, R. and Qu, L. (2017). Making deep
    neural networks robust to label noise: a loss correction approach. CVPR.

    Examples
    --------
    >>> from reweight import NoisyLabelClassifier, make_noisy_labels
    >>> from sklearn.linear_model import LogisticRegression
    >>> data = make_noisy_labels(noise="pair", rate=0.4, random_state=0)
    >>> plain = LogisticRegression(C=0.1).fit(data.X, data.y)
    >>> model = NoisyLabelClassifier(LogisticRegression(C=0.1), data.transition)
    >>> model = model.fit(data.X, data.y)
    >>> model.score(data.X_test, data.y_test) > plain.score(data.X_test, data.y_test) + 0.1
    True
    """

    _parameter_constraints = {
        "estimator": [HasMethods(["fit", "predict_proba"]), None],
        "transition": [StrOptions(set(ESTIMATES)), "array-like"],
        "method": [StrOptions({"reweight", "rent", "dirichlet", "forward"})],
        "concentration": [Interval(Real, 0, None, closed="neither"), None],
        "max_iter": [Interval(Integral, 1, None, closed="left")],
        "tol": [Interval(Real, 0, None, closed="left")],
        "cv": ["cv_object"],
        "random_state": ["random_state"],
        "n_jobs": [Integral, None],
        "verbose": ["verbose"],
    }

    def __init__(
        self,
        estimator: Any = None,
        transition: str | ArrayLike = "anchor",
        *,
        method: str = "reweight",
        concentration: float | None = None,
        max_iter: int = 10,
        tol: float = 1e-3,
        cv: Any = 5,
        random_state: Any = None,
        n_jobs: int | None = None,
        verbose: int = 0,
    ) -> None:
        self.estimator = estimator
        self.transition = transition
        self.method = method
        self.concentration = concentration
        self.max_iter = max_iter
        self.tol = tol
        self.cv = cv
        self.random_state = random_state
        self.n_jobs = n_jobs
        self.verbose = verbose

    def fit(self, X: Any, y: ArrayLike, *, sample_weight: ArrayLike | None = None) -> Self:
        """Fit the classifier of clean classes.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Features.
        y : array-like of shape (n_samples,)
            Noisy labels.
        sample_weight : array-like of shape (n_samples,), default=None
            Sampling weights.

        Returns
        -------
        Self

        Raises
        ------
        ValueError
            If the classifier cannot take weights or does not suit the method, T
            does not fit the classes, or folds leave rows out.
        """
        self._validate_params()
        name = type(self).__name__
        if y is None:
            raise ValueError(
                f"{name} requires y to be passed, but the target y is None; pass noisy labels"
            )
        y = column_or_1d(y, warn=True)
        check_classification_targets(y)
        weight_key(self._template(), owner=name)
        if self.method == "forward":
            self._check_forward()
        given = None if sample_weight is None else check_sample_weight(sample_weight, X)
        first = weighted_fit(clone(self._template()), X, y, given, owner=name)
        classes, codes = np.unique(y, return_inverse=True)
        s = np.ones(len(codes)) if given is None else given
        rng = check_random_state(self.random_state)
        self._fold_seed = None if self.random_state is None else int(rng.randint(2**31 - 1))
        self._estimate(X, y, codes, given, len(classes))
        if self.method == "forward":
            self._fit_forward(first, X, codes, s)
        else:
            self._fit_in_turn(X, y, codes, s, rng)
        del self._fold_seed, self._noisy
        return self

    def _template(self) -> Any:
        return LogisticRegression() if self.estimator is None else self.estimator

    def _check_forward(self) -> None:
        model = _last(self._template())
        if not isinstance(model, LogisticRegression) or model.l1_ratio not in (None, 0, 0.0):
            raise ValueError(
                f"{type(self).__name__}: method='forward' with {type(model).__name__}; pass a "
                "LogisticRegression with its quadratic penalty, or method='reweight'"
            )
        if model.class_weight is not None:
            raise ValueError(
                f"{type(self).__name__}: method='forward' with "
                f"class_weight={model.class_weight!r}, which would count noisy labels; "
                "pass class_weight=None and use sample_weight"
            )

    def _predictions(self, X: Any, y: NDArray, weights: Array | None) -> Array:
        """Probabilities of labels from models that have not seen the row."""
        crossed = cross_fit(
            self._template(),
            X,
            y,
            cv=self.cv,
            method="predict_proba",
            sample_weight=weights,
            random_state=self._fold_seed,
            n_jobs=self.n_jobs,
            verbose=self.verbose,
        )
        if len(crossed.missing_rows):
            raise ValueError(
                f"{type(self).__name__}: cv leaves {len(crossed.missing_rows)} rows out of every "
                "test fold, so nothing is predicted for them; pass a cv whose test folds cover all "
                "rows"
            )
        return crossed.predictions

    def _estimate(
        self, X: Any, y: NDArray, codes: NDArray[np.intp], given: Array | None, n_classes: int
    ) -> None:
        """Transition matrix, and the probabilities of noisy labels where they are needed."""
        estimated = isinstance(self.transition, str)
        self._noisy = None
        if estimated or self.method != "forward":
            self._noisy = self._predictions(X, y, given)
        if estimated:
            estimate = ESTIMATES[self.transition]
            self.transition_ = estimate(self._noisy, codes, sample_weight=given)
        else:
            self.transition_ = _check_matrix(type(self).__name__, self.transition, n_classes)

    def _fit_in_turn(
        self, X: Any, y: NDArray, codes: NDArray[np.intp], s: Array, rng: np.random.RandomState
    ) -> None:
        """Weights from probabilities and probabilities from weights, until they agree."""
        name = type(self).__name__
        F = clean_posteriors(self._noisy, self.transition_)
        # A penalised fit feels the scale of its weights, which is that of sample_weight.
        size = s.mean()
        previous, change = None, np.inf
        for round_ in range(1, self.max_iter + 1):
            self.n_iter_ = round_
            if previous is not None:
                F = self._predictions(X, y, size * previous)
            self.weights_ = self._drawn(s * label_weights(F, codes, self.transition_), rng)
            if previous is not None:
                change = np.abs(self.weights_ - previous).mean()
            if self.method == "reweight" and change <= self.tol:
                break
            previous = self.weights_
        if self.method == "reweight" and change > self.tol and self.max_iter > 1:
            warn_user(
                f"{name}: weights still change by {change:.2g} in round {self.n_iter_}, above "
                f"tol={self.tol}; raise max_iter or tol",
                ConvergenceWarning,
            )
        self.estimator_ = weighted_fit(
            clone(self._template()), X, y, size * self.weights_, owner=name
        )

    def _drawn(self, weights: Array, rng: np.random.RandomState) -> Array:
        """Mean-one weights, or a draw whose expectation they are."""
        shares = weights / weights.sum()
        if self.method == "rent":
            return rng.multinomial(len(shares), shares).astype(np.float64)
        if self.method == "dirichlet":
            n = max(len(shares) - 1, 1) if self.concentration is None else self.concentration
            drawn = np.zeros_like(shares)
            drawn[shares > 0] = rng.standard_gamma(n * shares[shares > 0])
            return normalize_weights(drawn)
        return normalize_weights(weights)

    def _fit_forward(self, model: Any, X: Any, codes: NDArray[np.intp], s: Array) -> None:
        """Move the coefficients of a fit to noisy labels to those of clean classes."""
        last = _last(model)
        front = transform_front(model, X) if isinstance(model, Pipeline) else X
        features = check_array(front, accept_sparse="csr", dtype=np.float64)
        problem = ForwardLogit(
            features, codes, self.transition_, s * last.C, bool(last.fit_intercept)
        )
        coef, intercept, self.n_iter_, gap = fit_forward_logit(
            problem,
            last.coef_.astype(np.float64),
            np.broadcast_to(last.intercept_, problem.n_scores).astype(np.float64),
            tol=last.tol * 1e-2,
            max_iter=10 * last.max_iter,
        )
        if gap > last.tol:
            warn_user(
                f"{type(self).__name__}: the gradient is {gap:.2g} after {self.n_iter_} "
                f"iterations, above tol={last.tol} of LogisticRegression; raise its max_iter or "
                "scale features",
                ConvergenceWarning,
            )
        last.coef_ = coef
        last.intercept_ = intercept if last.fit_intercept else np.zeros_like(intercept)
        last.n_iter_ = np.array([self.n_iter_], dtype=np.int32)
        self.estimator_ = model
        F = model.predict_proba(X)
        self.weights_ = normalize_weights(s * label_weights(F, codes, self.transition_))

    def predict_proba(self, X: Any) -> Array:
        """Probabilities of the clean classes.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Features.

        Returns
        -------
        ndarray of shape (n_samples, n_classes)
        """
        check_is_fitted(self, "estimator_")
        return self.estimator_.predict_proba(X)

    def predict_log_proba(self, X: Any) -> Array:
        """Logarithms of the probabilities of the clean classes.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Features.

        Returns
        -------
        ndarray of shape (n_samples, n_classes)
        """
        with np.errstate(divide="ignore"):
            return np.log(self.predict_proba(X))

    def predict(self, X: Any) -> NDArray:
        """Most probable clean class.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Features.

        Returns
        -------
        ndarray of shape (n_samples,)
        """
        return self.classes_[self.predict_proba(X).argmax(axis=1)]

    @property
    def classes_(self) -> NDArray:
        """Classes of the classifier."""
        check_is_fitted(self, "estimator_")
        return self.estimator_.classes_

    @property
    def n_features_in_(self) -> int:
        """Number of features seen in `fit`."""
        check_is_fitted(self, "estimator_")
        return self.estimator_.n_features_in_

    @property
    def feature_names_in_(self) -> NDArray:
        """Names of the features seen in `fit`."""
        check_is_fitted(self, "estimator_")
        return self.estimator_.feature_names_in_

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "estimator_")

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        inner = get_tags(self._template())
        tags.input_tags = inner.input_tags
        tags.classifier_tags.multi_class = inner.classifier_tags.multi_class
        tags.non_deterministic = inner.non_deterministic
        return tags


def _last(model: Any) -> Any:
    return model[-1] if isinstance(model, Pipeline) else model


def _check_matrix(owner: str, transition: ArrayLike, n_classes: int) -> Array:
    """A given transition matrix that fits the classes."""
    T = np.array(transition, dtype=np.float64)
    if T.shape != (n_classes, n_classes):
        raise ValueError(
            f"{owner}: transition has shape {T.shape} but y has {n_classes} classes; pass one row "
            "and one column a class"
        )
    if not np.isfinite(T).all() or (T < 0).any():
        raise ValueError(
            f"{owner}: transition has negative or non-finite entries; pass probabilities"
        )
    if np.abs(T.sum(axis=0) - 1).max() > 1e-4:
        rows = np.abs(T.sum(axis=1) - 1).max() <= 1e-4
        remedy = "its rows do, so pass its transpose" if rows else "normalise its columns"
        raise ValueError(f"{owner}: the columns of transition do not sum to one; {remedy}")
    return T / T.sum(axis=0)

"""A classifier for a population whose class priors differ from those of its training rows."""

from numbers import Integral
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, ClassifierMixin, MetaEstimatorMixin, clone
from sklearn.utils import column_or_1d, get_tags
from sklearn.utils._param_validation import HasMethods, StrOptions
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted

from reweight.cross_fitting import cross_fit
from reweight.validation import check_sample_weight, count_rows, unwrap_target, warn_weights
from reweight.weighted_fit import weight_key, weighted_fit
from shift.target.mlls import MLLS

Array = NDArray[np.float64]

# Class weight below which a classifier might not learn of the class at all.
LEAST_WEIGHT = 1e-3


class LabelShiftClassifier(ClassifierMixin, MetaEstimatorMixin, BaseEstimator):
    """Fit a classifier, find how class priors have moved, and answer for the target.

    Class probabilities of the source rows are cross-fitted, so that no row is
    judged by a classifier that has seen it; those of the target rows come from
    the classifier fitted to all rows. From both a weighter estimates the weight
    of each class.

    Parameters
    ----------
    estimator : classifier
        Classifier with `predict_proba`, or a Pipeline that ends in one. A
        fitted one in a `FrozenEstimator` stays as it is; the rows given to
        `fit` must then be new to it.
    weighter : BBSE, RLLS or MLLS, default=None
        How to find the class weights; None is `MLLS()`.
    strategy : {"adapt", "reweight", "both"}, default="adapt"
        What to do with them.

        - "adapt": multiply the (calibrated) probabilities by the class weights.
          The classifier is fitted once.
        - "reweight": fit the classifier anew with the weights of the rows, which
          helps one that is too simple to fit both populations.
        - "both": fit anew with weights, then calibrate it on the weighted rows
          and adapt it to what shift is left. Weights are not counted twice.

        A class that seems absent from the target keeps a thousandth of its
        weight when the classifier is fitted anew, so that it is still known.
    cv : int, splitter or iterable, default=5
        Folds of the cross-fitting.
    random_state : int, RandomState instance or None, default=None
        Shuffles the rows before an integer `cv` forms folds; None leaves them
        in order. Randomness of the estimator is its own.
    n_jobs : int, default=None
        Number of folds that run at a time; it does not change the result.
    verbose : int, default=0
        Whether to show the progress of the folds.

    Attributes
    ----------
    estimator_ : classifier
        The classifier that predicts, fitted to all rows.
    weighter_ : BBSE, RLLS, MLLS or None
        The fitted weighter, with `target_prior_`, `class_weights_` and
        intervals; None without target rows.
    adapter_ : BBSE, RLLS, MLLS or None
        What adapts the probabilities; None for "reweight".
    weights_ : ndarray of shape (n_samples,)
        Weight of each source row for the target, mean one, sampling weights
        included.
    classes_ : ndarray of shape (n_classes,)
        Classes.
    n_target_ : int
        Number of target rows.
    n_features_in_ : int
        Number of features.
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Their names, when X has string column names.

    Notes
    -----
    Cross-validation cuts whatever is as long as X, so pass the target rows as a
    1-tuple there: `cross_validate(model, X, y, params={"X_target": (X_target,)})`.
    Keep this estimator outermost and preprocessing inside it. The accuracy of
    `score` is that of the rows it is given; for the target's, pass
    `weighter_.predict_weights(y=y)` as `sample_weight`.

    References
    ----------
    Lipton, Z., Wang, Y.-X., Smola, A. (2018). Detecting and correcting for
    label shift with black box predictors. ICML.

    Alexandari, A., Kundaje, A., Shrikumar, A. (2020). Maximum likelihood with
    bias-corrected calibration is hard-to-beat at label shift adaptation. ICML.

    Examples
    --------
    >>> from shift import LabelShiftClassifier, make_target_shift
    >>> from sklearn.linear_model import LogisticRegression
    >>> data = make_target_shift(2000, design="classes", random_state=0)
    >>> model = LabelShiftClassifier(LogisticRegression())
    >>> model = model.fit(data.X, data.y, X_target=data.X_target)
    >>> plain = LogisticRegression().fit(data.X, data.y)
    >>> model.score(data.X_target, data.y_target) > plain.score(data.X_target, data.y_target)
    True
    """

    __metadata_request__fit = {"X_target": True}
    _parameter_constraints = {
        "estimator": [HasMethods(["fit", "predict_proba"])],
        "weighter": [HasMethods(["fit", "adapt_proba", "predict_weights"]), None],
        "strategy": [StrOptions({"adapt", "reweight", "both"})],
        "cv": ["cv_object"],
        "random_state": ["random_state"],
        "n_jobs": [Integral, None],
        "verbose": ["verbose"],
    }

    def __init__(
        self,
        estimator: Any,
        weighter: Any = None,
        *,
        strategy: str = "adapt",
        cv: Any = 5,
        random_state: Any = None,
        n_jobs: int | None = None,
        verbose: int = 0,
    ) -> None:
        self.estimator = estimator
        self.weighter = weighter
        self.strategy = strategy
        self.cv = cv
        self.random_state = random_state
        self.n_jobs = n_jobs
        self.verbose = verbose

    def fit(
        self,
        X: Any,
        y: ArrayLike | None = None,
        *,
        X_target: Any = None,
        sample_weight: ArrayLike | None = None,
    ) -> Self:
        """Fit the classifier and estimate the shift.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Features of the source.
        y : array-like of shape (n_samples,)
            Classes of the source.
        X_target : array-like of shape (n_target, n_features) or 1-tuple of it, default=None
            Features of the target; use the 1-tuple inside cross-validation,
            which cuts arrays that are as long as X. None means no shift, and a
            `WeightWarning` says so.
        sample_weight : array-like of shape (n_samples,), default=None
            Sampling weights of the source rows.

        Returns
        -------
        Self

        Raises
        ------
        ValueError
            If the classifier cannot take weights that it needs, a class has no
            rows, or folds leave rows out.
        """
        self._validate_params()
        name = type(self).__name__
        if y is None:
            raise ValueError(
                f"{name} requires y to be passed, but the target y is None; pass the classes of "
                "the source rows"
            )
        y = column_or_1d(y, warn=True)
        check_classification_targets(y)
        X_target = unwrap_target(X_target)
        if X_target is not None and self.strategy != "adapt":
            weight_key(self.estimator, owner=name)
        given = sample_weight
        if sample_weight is not None:
            given = check_sample_weight(sample_weight, X)
        self.estimator_ = weighted_fit(clone(self.estimator), X, y, given, owner=name)
        self.weighter_ = self.adapter_ = None
        self.n_target_ = 0 if X_target is None else count_rows(X_target)
        if X_target is None:
            s = check_sample_weight(sample_weight, X)
            self.weights_ = s / s.mean()
            warn_weights(
                f"{name}: X_target is not given, so no shift is assumed; pass the target rows as "
                "X_target=, as a 1-tuple (X_target,) inside cross-validation"
            )
            return self
        self.weighter_ = self._fit_weighter(X, y, X_target, given)
        self.weights_ = self.weighter_.weights_
        if self.strategy == "adapt":
            self.adapter_ = self.weighter_
            return self
        weights = self._training_weights(given)
        self.estimator_ = weighted_fit(clone(self.estimator), X, y, weights, owner=name)
        if self.strategy == "both":
            self.adapter_ = self._fit_weighter(X, y, X_target, weights)
        return self

    def _training_weights(self, given: Array | None) -> Array:
        """Weights to fit with; a class that seems absent from the target remains known."""
        floor = LEAST_WEIGHT if given is None else LEAST_WEIGHT * given / given.mean()
        return np.maximum(self.weights_, floor)

    def _fit_weighter(self, X: Any, y: NDArray, X_target: Any, weights: Array | None) -> Any:
        """The weighter, fitted to what models that have not seen a row say about it."""
        name = type(self).__name__
        crossed = cross_fit(
            self.estimator,
            X,
            y,
            cv=self.cv,
            method="predict_proba",
            sample_weight=weights,
            random_state=self.random_state,
            n_jobs=self.n_jobs,
            verbose=self.verbose,
        )
        if len(crossed.missing_rows):
            raise ValueError(
                f"{name}: cv leaves {len(crossed.missing_rows)} rows out of every test fold, so "
                "nothing is predicted for them; pass a cv whose test folds cover all rows"
            )
        weighter = MLLS() if self.weighter is None else clone(self.weighter)
        weighter.set_params(classes=self.estimator_.classes_)
        return weighter.fit(
            crossed.predictions,
            y,
            X_target=(self.estimator_.predict_proba(X_target),),
            sample_weight=weights,
        )

    def predict_proba(self, X: Any) -> Array:
        """Class probabilities in the target.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Features.

        Returns
        -------
        ndarray of shape (n_samples, n_classes)
        """
        check_is_fitted(self, "estimator_")
        P = self.estimator_.predict_proba(X)
        return P if self.adapter_ is None else self.adapter_.adapt_proba(P)

    def predict_log_proba(self, X: Any) -> Array:
        """Logarithms of the class probabilities in the target.

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
        """Most probable class in the target.

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
        inner = get_tags(self.estimator)
        tags.input_tags = inner.input_tags
        tags.classifier_tags.multi_class = inner.classifier_tags.multi_class
        tags.non_deterministic = inner.non_deterministic
        return tags

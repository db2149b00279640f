"""A weighter and an estimator as one estimator."""

from copy import deepcopy
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, MetaEstimatorMixin, clone
from sklearn.utils import get_tags
from sklearn.utils._param_validation import HasMethods
from sklearn.utils.metadata_routing import MetadataRequest, MetadataRouter, MethodMapping
from sklearn.utils.metaestimators import available_if
from sklearn.utils.validation import check_is_fitted

from reweight.validation import check_sample_weight, metadata_requests
from reweight.weighted_fit import weight_key, weighted_fit, weighted_score
from reweight.weighters import (
    check_weighter_metadata,
    fit_weights,
    last_step,
    needs_treatment,
    weigh_new_rows,
)


def _estimator_has(name: str):
    """Whether the estimator has a method, with its own words if it has not."""

    def check(self) -> bool:
        getattr(getattr(self, "estimator_", self.estimator), name)
        return True

    return check


class Reweighted(MetaEstimatorMixin, BaseEstimator):
    """Fit an estimator with the weights that a weighter finds.

    `fit` fits a clone of the weighter, then a clone of the estimator with its
    `weights_` as `sample_weight`. Everything else is the estimator's, so that
    the whole behaves as a classifier, a regressor or whatever the estimator is:
    in pipelines, searches and cross-validation the weights are found anew on
    each training part.

    Parameters
    ----------
    estimator : estimator
        What is fitted with weights. In a pipeline the last step gets them. A
        `FrozenEstimator` stays as it is, which leaves the weights to `score`.
    weighter : estimator
        What finds the weights: a weighter, a pipeline that ends in one, or a
        fitted weighter in a `FrozenEstimator`, which then weighs the rows by
        its `predict_weights`.
    weighted_score : bool, default=True
        Whether `score` weighs held-out rows as the weighter would, so that
        validation, too, is that of the target population. Weighters that have
        no `predict_weights`, or that balance treatment arms, are scored without.

    Attributes
    ----------
    estimator_ : estimator
        The fitted estimator.
    weighter_ : estimator
        The fitted weighter.
    weights_ : ndarray of shape (n_samples,)
        Weights of the training rows, `sample_weight` included.
    classes_ : ndarray of shape (n_classes,)
        Classes of the estimator, if it is a classifier.
    n_features_in_ : int
        Number of features seen in `fit`.
    feature_names_in_ : ndarray of str of shape (n_features_in_,)
        Names of the features, if they have any.

    See Also
    --------
    Weighter : What a weighter is.
    cross_fit : Predictions for rows that a model has not seen.

    Notes
    -----
    Metadata for the weighter, such as `X_target` or `treatment`, are keywords
    of `fit`. Cross-validation cuts whatever is as long as X to the training
    part, which is right for `treatment` and wrong for `X_target`: pass the
    latter as a 1-tuple, `fit(X, y, X_target=(X_target,))`. Keep `Reweighted`
    outermost, with preprocessing inside it; a pipeline around it transforms X
    but not the target rows, unless metadata routing is on and its
    `transform_input` says so.

    References
    ----------
    Sugiyama, M., Krauledat, M. and Mueller, K.-R. (2007). Covariate shift
    adaptation by importance weighted cross validation. Journal of Machine
    Learning Research 8, 985-1005.

    Examples
    --------
    A regression in which treated and control rows are comparable:

    >>> import numpy as np
    >>> from causal import EntropyBalancing
    >>> from reweight import Reweighted
    >>> from sklearn.linear_model import Ridge
    >>> from sklearn.model_selection import GridSearchCV
    >>> from sklearn.pipeline import make_pipeline
    >>> from sklearn.preprocessing import StandardScaler
    >>> rng = np.random.default_rng(0)
    >>> X = rng.normal(size=(200, 2))
    >>> treatment = (X[:, 0] + rng.normal(size=200) > 0).astype(int)
    >>> y = X.sum(axis=1) + rng.normal(size=200)
    >>> pipeline = make_pipeline(StandardScaler(), Ridge())
    >>> model = Reweighted(pipeline, EntropyBalancing("ATT"))
    >>> model.fit(X, y, treatment=treatment).predict(X).shape
    (200,)

    Parameters of both parts can be searched:

    >>> grid = {"estimator__ridge__alpha": [0.1, 1.0], "weighter__max_smd": [0.0, 0.1]}
    >>> search = GridSearchCV(model, grid, cv=3).fit(X, y, treatment=treatment)
    >>> sorted(search.best_params_)
    ['estimator__ridge__alpha', 'weighter__max_smd']
    """

    _parameter_constraints = {
        "estimator": [HasMethods(["fit"])],
        "weighter": [HasMethods(["fit"])],
        "weighted_score": ["boolean"],
    }

    def __init__(self, estimator: Any, weighter: Any, *, weighted_score: bool = True) -> None:
        self.estimator = estimator
        self.weighter = weighter
        self.weighted_score = weighted_score

    def fit(
        self,
        X: Any,
        y: ArrayLike | None = None,
        *,
        sample_weight: ArrayLike | None = None,
        **weighter_params: Any,
    ) -> "Reweighted":
        """Find weights, and fit the estimator with them.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Features.
        y : array-like of shape (n_samples,) or (n_samples, n_outputs), default=None
            Targets.
        sample_weight : array-like of shape (n_samples,), default=None
            Sampling weights, handed to the weighter, whose weights contain them.
        **weighter_params : dict
            Metadata for the weighter, such as `X_target` or `treatment`.

        Returns
        -------
        Reweighted
            The fitted estimator.

        Raises
        ------
        ValueError
            If the estimator cannot take weights, a weighter of treatment arms
            gets no `treatment`, or the weighter gives no weights.
        TypeError
            If the weighter does not know the metadata.
        """
        self._validate_params()
        weight_key(self.estimator, owner=self._name)
        params = check_weighter_metadata(
            self.weighter, weighter_params, sample_weight, owner=self._name
        )
        self.weighter_ = clone(self.weighter)
        self.weights_ = fit_weights(self.weighter_, X, y, sample_weight, owner=self._name, **params)
        self.estimator_ = weighted_fit(clone(self.estimator), X, y, self.weights_, owner=self._name)
        return self

    @property
    def _name(self) -> str:
        return type(self).__name__

    @available_if(_estimator_has("score"))
    def score(
        self, X: Any, y: ArrayLike | None = None, sample_weight: ArrayLike | None = None
    ) -> float:
        """Score of the estimator on rows weighted as the weighter would.

        This is importance-weighted validation: it estimates the score in the
        target population from rows of the source.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Features, usually held out.
        y : array-like of shape (n_samples,), default=None
            Targets.
        sample_weight : array-like of shape (n_samples,), default=None
            Sampling weights, which multiply those of the weighter.

        Returns
        -------
        float
            What `score` of the estimator returns with those weights. It is
            unweighted if `weighted_score` is False, the weighter has no
            `predict_weights`, or it balances treatment arms.

        Raises
        ------
        ValueError
            If all rows get weight zero.
        """
        check_is_fitted(self, "estimator_")
        weights = None
        if self.weighted_score and not needs_treatment(self.weighter_):
            weights = weigh_new_rows(self.weighter_, X, y)
        if weights is not None:
            weights = weights * check_sample_weight(sample_weight, X)
            if not np.any(weights > 0):
                raise ValueError(
                    f"{self._name}: all {len(weights)} rows to score have weight zero, since the "
                    "weighter finds none of them in the target population; use fewer folds, or "
                    "pass weighted_score=False"
                )
            sample_weight = weights
        return weighted_score(self.estimator_, X, y, sample_weight, owner=self._name)

    @available_if(_estimator_has("predict"))
    def predict(self, X: Any, **params: Any) -> Any:
        """Predictions of the estimator.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Features.
        **params : dict
            Passed on, such as `return_std`.

        Returns
        -------
        ndarray of shape (n_samples,) or (n_samples, n_outputs)
        """
        return self._fitted.predict(X, **params)

    @available_if(_estimator_has("predict_proba"))
    def predict_proba(self, X: Any, **params: Any) -> Any:
        """Class probabilities of the estimator.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Features.
        **params : dict
            Passed on.

        Returns
        -------
        ndarray of shape (n_samples, n_classes)
        """
        return self._fitted.predict_proba(X, **params)

    @available_if(_estimator_has("predict_log_proba"))
    def predict_log_proba(self, X: Any, **params: Any) -> Any:
        """Logarithms of the class probabilities of the estimator.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Features.
        **params : dict
            Passed on.

        Returns
        -------
        ndarray of shape (n_samples, n_classes)
        """
        return self._fitted.predict_log_proba(X, **params)

    @available_if(_estimator_has("decision_function"))
    def decision_function(self, X: Any, **params: Any) -> Any:
        """Decision values of the estimator.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Features.
        **params : dict
            Passed on.

        Returns
        -------
        ndarray of shape (n_samples,) or (n_samples, n_classes)
        """
        return self._fitted.decision_function(X, **params)

    @available_if(_estimator_has("score_samples"))
    def score_samples(self, X: Any) -> Any:
        """Log density, or whatever score the estimator gives to each row.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Features.

        Returns
        -------
        ndarray of shape (n_samples,)
        """
        return self._fitted.score_samples(X)

    @available_if(_estimator_has("transform"))
    def transform(self, X: Any, **params: Any) -> Any:
        """What the estimator makes of the features.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Features.
        **params : dict
            Passed on.

        Returns
        -------
        ndarray of shape (n_samples, n_components)
        """
        return self._fitted.transform(X, **params)

    @available_if(_estimator_has("transform"))
    def fit_transform(
        self,
        X: Any,
        y: ArrayLike | None = None,
        *,
        sample_weight: ArrayLike | None = None,
        **weighter_params: Any,
    ) -> Any:
        """Fit, and transform the same rows.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Features.
        y : array-like of shape (n_samples,) or (n_samples, n_outputs), default=None
            Targets.
        sample_weight : array-like of shape (n_samples,), default=None
            Sampling weights.
        **weighter_params : dict
            Metadata for the weighter.

        Returns
        -------
        ndarray of shape (n_samples, n_components)
        """
        return self.fit(X, y, sample_weight=sample_weight, **weighter_params).transform(X)

    @available_if(_estimator_has("inverse_transform"))
    def inverse_transform(self, X: Any, **params: Any) -> Any:
        """Features from what the estimator made of them.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_components)
            Transformed features.
        **params : dict
            Passed on.

        Returns
        -------
        ndarray of shape (n_samples, n_features)
        """
        return self._fitted.inverse_transform(X, **params)

    @available_if(_estimator_has("get_feature_names_out"))
    def get_feature_names_out(self, input_features: ArrayLike | None = None) -> NDArray:
        """Names of the columns that `transform` returns.

        Parameters
        ----------
        input_features : array-like of str of shape (n_features,), default=None
            Names of the features.

        Returns
        -------
        ndarray of str
        """
        return self._fitted.get_feature_names_out(input_features)

    @property
    def _fitted(self) -> Any:
        """The fitted estimator, or a `NotFittedError`."""
        check_is_fitted(self, "estimator_")
        return self.estimator_

    @property
    def classes_(self) -> Any:
        """Classes of the estimator."""
        return self._fitted.classes_

    @property
    def n_features_in_(self) -> int:
        """Number of features seen in `fit`."""
        return _first_attribute("n_features_in_", self._fitted, self.weighter_)

    @property
    def feature_names_in_(self) -> NDArray:
        """Names of the features seen in `fit`."""
        return _first_attribute("feature_names_in_", self._fitted, self.weighter_)

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        model, weighter = get_tags(self.estimator), get_tags(self.weighter)
        for name in ("estimator_type", "classifier_tags", "regressor_tags", "transformer_tags"):
            setattr(tags, name, deepcopy(getattr(model, name)))
        tags.non_deterministic = model.non_deterministic or weighter.non_deterministic
        tags.target_tags = deepcopy(model.target_tags)
        if not needs_treatment(self.weighter):
            tags.target_tags.required |= weighter.target_tags.required
        tags.input_tags = deepcopy(model.input_tags)
        for name in ("sparse", "allow_nan", "categorical", "string"):
            both = getattr(model.input_tags, name) and getattr(weighter.input_tags, name)
            setattr(tags.input_tags, name, both)
        tags.input_tags.positive_only |= weighter.input_tags.positive_only
        return tags

    def get_metadata_routing(self) -> MetadataRouter:
        """What `fit` and `score` ask of a router around them.

        `sample_weight` is asked for by `set_fit_request` and
        `set_score_request`. The metadata of the weighter are asked for as its
        own requests say.

        Returns
        -------
        MetadataRouter
        """
        request = MetadataRequest(owner=type(self.weighter).__name__)
        for name, alias in metadata_requests(last_step(self.weighter), "fit").items():
            if name != "sample_weight":
                request.fit.add_request(param=name, alias=alias)
        router = MetadataRouter(owner=self._name).add_self_request(self)
        mapping = MethodMapping().add(caller="fit", callee="fit")
        return router.add(
            weighter=request, method_mapping=mapping.add(caller="fit_transform", callee="fit")
        )


def _first_attribute(name: str, *owners: Any) -> Any:
    """The attribute of the first that has it."""
    for owner in owners[:-1]:
        if hasattr(owner, name):
            return getattr(owner, name)
    return getattr(owners[-1], name)

"""Interpolation of models that differs from sample to sample, by how sure each model is."""

from collections.abc import Sequence
from numbers import Integral, Real
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import log_softmax, softmax
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.cluster import KMeans
from sklearn.utils import check_array, check_random_state, get_tags
from sklearn.utils._param_validation import HasMethods, Interval
from sklearn.utils.validation import check_is_fitted

from reweight.parameters._beta_mixture import fit_beta_mixture, responsibilities
from reweight.parameters.averaging import average_parameters, same_classes
from reweight.parameters.views import check_classifiers, check_models, copy_attributes, is_linear

Array = NDArray[np.float64]

# Rows up to which one merged model each is affordable.
MOST_MERGED_MODELS = 1000


def entropy_weights(
    logits_or_probas: Sequence[ArrayLike],
    *,
    temperature: ArrayLike = 1.0,
    offset: bool = False,
    from_logits: bool = True,
) -> Array:
    r"""Weights of models, sample by sample, by the entropies of their predictions.

    Model j weighs :math:`e^{-H_j(x)} / \sum_k e^{-H_k(x)}`: the surer it is, the
    more. Models must be about equally calibrated; temperatures see to that.

    Parameters
    ----------
    logits_or_probas : sequence of array-like of shape (n_samples, n_classes)
        Predictions of each model for the same rows.
    temperature : float or array-like of shape (n_models,), default=1.0
        What logits are divided by; probabilities are taken back to logits.
    offset : bool, default=False
        Whether to shift the weights of two models by the means and deviations
        of their entropies over these rows.
    from_logits : bool, default=True
        Whether the predictions are logits rather than probabilities.

    Returns
    -------
    ndarray of shape (n_samples, n_models)
        Rows sum to one.

    Raises
    ------
    ValueError
        If shapes differ, entries are not finite, probabilities do not sum to
        one, temperatures are not positive, or an offset has not two models.

    References
    ----------
    Oh, C., Li, Y., Song, K., Yun, S., Han, D. (2025). DaWin: training-free
    dynamic weight interpolation for robust adaptation. ICLR.

    Examples
    --------
    >>> from reweight import entropy_weights
    >>> entropy_weights([[[0.5, 0.5]], [[1.0, 0.0]]], from_logits=False).round(3)
    array([[0.333, 0.667]])
    """
    Z = [check_array(p, dtype=np.float64, ensure_min_features=2) for p in logits_or_probas]
    if not from_logits:
        if any((p < 0).any() or np.abs(p.sum(axis=1) - 1).max() > 1e-6 for p in Z):
            raise ValueError("entropy_weights: probabilities must be non-negative and sum to 1")
        Z = [_log(p) for p in Z]
    H = _entropies(Z, temperature)
    return _weights_of(H, _offset_of(H) if offset else 0.0)


def _entropies(logits: Sequence[Array], temperature: ArrayLike) -> Array:
    """Entropy in nats of each model's prediction for each row, (n_samples, n_models)."""
    T = np.broadcast_to(np.asarray(temperature, dtype=np.float64), len(logits))
    if not (T > 0).all():
        raise ValueError(f"entropy_weights: temperature must be positive, got {temperature!r}")
    log_p = log_softmax(np.stack(logits) / T[:, None, None], axis=2)
    return -(np.exp(log_p) * log_p).sum(axis=2).T


def _offset_of(H: Array) -> Array:
    """What is added to the sureness of two models: b - b / r and b / r."""
    if H.shape[1] != 2 or len(H) < 2:
        raise ValueError(f"entropy_weights: offset needs two models and two rows, got {H.shape}")
    # Models that are sure of every row have no entropy to compare.
    mean, sd = H.mean(axis=0) + np.finfo(float).tiny, H.std(axis=0, ddof=1)
    return 0.5 * (sd / mean).sum() * mean[::-1] / mean.sum()


def _weights_of(H: Array, offset: Array | float) -> Array:
    """Weights of models from their entropies."""
    sure = np.exp(-H) + offset
    return sure / sure.sum(axis=1, keepdims=True)


class DynamicInterpolationClassifier(ClassifierMixin, BaseEstimator):
    r"""Interpolate fitted classifiers anew for every sample, by how sure each one is.

    The model of a row has the parameters :math:`\sum_j \lambda_j(x) \theta_j` with
    the weights of `entropy_weights`: for linear classifiers a mixture of their
    logits. Others are merged for each cluster of weights. No label is used.

    Parameters
    ----------
    estimators : list of classifiers
        Two or more fitted classifiers of one architecture. Wrap each in
        `FrozenEstimator` where the whole may be cloned, as in a grid search.
    anchor : classifier, default=None
        Fitted model that offsets are taken from; the row's parameters are then
        those of the anchor plus the weighted offsets of the estimators.
    n_clusters : int, default=None
        Number of clusters of the weights of the rows given to `fit`: a Beta
        mixture for two models, k-means for more. None interpolates every row by
        itself, for models that are not linear up to 1000 rows at a time.
    offset : bool, default=False
        Whether to shift the weights of two models by the statistics of their
        entropies in `fit`.
    temperature : float or array-like of shape (n_models,), default=1.0
        What each model's logits are divided by before entropies are taken.
    scale : float, default=0.3
        With an anchor: the sum of the weights over the number of models.
    random_state : int, RandomState instance or None, default=None
        Seeds the clusters.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
        Classes.
    estimators_ : list of classifiers
        The fitted classifiers, after the anchor if there is one.
    cluster_weights_ : ndarray of shape (n_clusters, n_models) or None
        Weights of the models in each cluster.
    cluster_estimators_ : list of classifiers or None
        The merged model of each cluster.
    n_features_in_ : int
        Number of features.
    feature_names_in_ : ndarray of str of shape (n_features_in_,)
        Their names, if the estimators know any.

    References
    ----------
    Oh, C., Li, Y., Song, K., Yun, S., Han, D. (2025). DaWin: training-free
    dynamic weight interpolation for robust adaptation. ICLR.

    Examples
    --------
    >>> import numpy as np
    >>> from reweight import DynamicInterpolationClassifier
    >>> from sklearn.linear_model import LogisticRegression
    >>> X, y = np.array([[-2.0, 0.1], [-1.0, 0.0], [1.0, 0.1], [2.0, 0.0]]), [0, 0, 1, 1]
    >>> models = [LogisticRegression().fit(X, y), LogisticRegression().fit(X[:, ::-1], y)]
    >>> model = DynamicInterpolationClassifier(models).fit(X)
    >>> model.predict(X), model.sample_model_weights(X[:1]).round(2)
    (array([0, 0, 1, 1]), array([[0.58, 0.42]]))
    """

    _parameter_constraints = {
        "estimators": [list, tuple],
        "anchor": [HasMethods(["predict"]), None],
        "n_clusters": [Interval(Integral, 1, None, closed="left"), None],
        "offset": ["boolean"],
        "temperature": [Interval(Real, 0, None, closed="neither"), "array-like"],
        "scale": [Interval(Real, 0, None, closed="neither")],
        "random_state": ["random_state"],
    }

    def __init__(
        self,
        estimators: list[Any],
        *,
        anchor: Any = None,
        n_clusters: int | None = None,
        offset: bool = False,
        temperature: ArrayLike = 1.0,
        scale: float = 0.3,
        random_state: int | np.random.RandomState | None = None,
    ) -> None:
        self.estimators = estimators
        self.anchor = anchor
        self.n_clusters = n_clusters
        self.offset = offset
        self.temperature = temperature
        self.scale = scale
        self.random_state = random_state

    def fit(self, X: Any, y: ArrayLike | None = None) -> Self:
        """Learn offset and clusters from unlabelled rows; the models stay as they are.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Unlabelled rows like those to be predicted.
        y : array-like of shape (n_samples,), default=None
            Ignored.

        Returns
        -------
        DynamicInterpolationClassifier
        """
        self._validate_params()
        self._models = self._checked_models()
        self.estimators_ = self._models[-len(self.estimators) :]
        H = _entropies([_logits(model, X) for model in self.estimators_], self.temperature)
        if (self.offset or self.n_clusters) and len(H) < 2:
            raise ValueError(f"{type(self).__name__}: offset and clusters need at least two rows")
        self._offset = _offset_of(H) if self.offset else 0.0
        self.cluster_weights_, self.cluster_estimators_, self._clusters = None, None, None
        if self.n_clusters is not None:
            self._fit_clusters(_weights_of(H, self._offset))
        copy_attributes(self._models[0], self)
        return self

    def sample_model_weights(self, X: Any) -> Array:
        """Weights of the estimators for each row.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows.

        Returns
        -------
        ndarray of shape (n_samples, n_models)
            Rows sum to one, or with an anchor to `scale` times the number of
            models. With clusters, the weights of the row's cluster.
        """
        weights = self._surest(X)
        if self._clusters is not None:
            return self.cluster_weights_[self._cluster_of(weights)]
        return self._of_models(weights)[:, -weights.shape[1] :]

    def predict_proba(self, X: Any) -> Array:
        """Class probabilities: the softmax of the interpolated model's logits.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows.

        Returns
        -------
        ndarray of shape (n_samples, n_classes)
        """
        return softmax(self._interpolated(X), axis=1)

    def predict(self, X: Any) -> NDArray:
        """Most probable class of each row.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows.

        Returns
        -------
        ndarray of shape (n_samples,)
        """
        check_is_fitted(self)
        return self.classes_[self._interpolated(X).argmax(axis=1)]

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "classes_")

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.target_tags.required = False
        if self.estimators:
            tags.input_tags.sparse = all(get_tags(e).input_tags.sparse for e in self.estimators)
        return tags

    def _checked_models(self) -> list[Any]:
        """The anchor, if any, and the estimators: classifiers of one architecture."""
        name = type(self).__name__
        if len(self.estimators) < 2:
            raise ValueError(f"{name}: needs at least two estimators, got {len(self.estimators)}")
        if self.offset and self.anchor is not None:
            raise ValueError(f"{name}: offset is for two models without an anchor; pass one only")
        models = [*([] if self.anchor is None else [self.anchor]), *self.estimators]
        check_classifiers(models, name)
        check_models(models, name)
        if not same_classes(models):
            classes = " and ".join(str(list(model.classes_)) for model in models)
            raise ValueError(f"{name}: models know different classes, {classes}")
        return models

    def _surest(self, X: Any) -> Array:
        """Weights of the estimators that sum to one."""
        check_is_fitted(self)
        logits = [_logits(model, X) for model in self.estimators_]
        return _weights_of(_entropies(logits, self.temperature), self._offset)

    def _of_models(self, weights: Array) -> Array:
        """Weights of all models, which sum to one: what is left is the anchor's."""
        weights = weights * (1.0 if self.anchor is None else self.scale * weights.shape[1])
        rest = 1 - weights.sum(axis=1, keepdims=True)
        return np.hstack([rest, weights])[:, -len(self._models) :]

    def _fit_clusters(self, weights: Array) -> None:
        rng = check_random_state(self.random_state)
        if weights.shape[1] == 2:
            self._clusters = fit_beta_mixture(weights[:, 1], self.n_clusters, rng)
            _, a, b = self._clusters
            centers = np.column_stack([b, a]) / (a + b)[:, None]
        else:
            n_clusters = min(self.n_clusters, len(np.unique(weights, axis=0)))
            self._clusters = KMeans(n_clusters, n_init=3, random_state=rng).fit(weights)
            centers = self._clusters.cluster_centers_
        centers = self._of_models(centers)
        self.cluster_weights_ = centers[:, -weights.shape[1] :]
        self.cluster_estimators_ = [average_parameters(self._models, row) for row in centers]

    def _cluster_of(self, weights: Array) -> NDArray[np.intp]:
        if weights.shape[1] > 2:
            return self._clusters.predict(weights)
        return responsibilities(weights[:, 1], *self._clusters)[0].argmax(axis=1)

    def _interpolated(self, X: Any) -> Array:
        """Logits of each row's own model."""
        weights = self._surest(X)
        if self._clusters is not None:
            each = np.stack([_logits(model, X) for model in self.cluster_estimators_])
            return each[self._cluster_of(weights), np.arange(len(weights))]
        weights = self._of_models(weights)
        if all(map(is_linear, self._models)):
            Z = np.stack([_logits(model, X) for model in self._models])
            return np.einsum("nm,mnc->nc", weights, Z)
        if len(weights) > MOST_MERGED_MODELS:
            raise ValueError(
                f"{type(self).__name__}: {len(weights)} rows need a merged model each, and at most "
                f"{MOST_MERGED_MODELS} are made; pass n_clusters=3"
            )
        rows = X.iloc if hasattr(X, "iloc") else X
        merged = (average_parameters(self._models, row) for row in weights)
        return np.vstack([_logits(model, rows[i : i + 1]) for i, model in enumerate(merged)])


def _logits(model: Any, X: Any) -> Array:
    """Decision values of a linear model, a column for each class, else log-probabilities."""
    if not is_linear(model):
        return _log(np.asarray(model.predict_proba(X), dtype=np.float64))
    if not isinstance(X, np.ndarray):
        # scikit-learn lets words in polars frames through to the product with the coefficients.
        check_array(X, dtype=np.float64, accept_sparse=True, ensure_all_finite=False)
    Z = np.asarray(model.decision_function(X), dtype=np.float64)
    return Z if Z.ndim == 2 else np.column_stack([np.zeros(len(Z)), Z])


def _log(p: Array) -> Array:
    return np.log(np.maximum(p, np.finfo(float).tiny))

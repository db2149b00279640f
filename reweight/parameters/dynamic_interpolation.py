"""Interpolation of models that differs from sample to sample, by how sure each model is."""

from collections.abc import Sequence
from numbers import Integral, Real
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import log_softmax, softmax
from sklearn.base import BaseEstimator, ClassifierMixin, is_classifier
from sklearn.cluster import KMeans
from sklearn.utils import get_tags
from sklearn.utils._param_validation import HasMethods, Interval
from sklearn.utils.validation import check_is_fitted

from reweight.parameters._beta_mixture import BetaMixture
from reweight.parameters.averaging import average_parameters
from reweight.parameters.views import check_same_inputs, final_estimator, get_parameters
from reweight.validation import count_rows

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
        If shapes differ, entries are NaN, probabilities do not sum to one,
        temperatures are not positive, or an offset has not two models.

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
    H = entropies(logits_or_probas, temperature=temperature, from_logits=from_logits)
    return weights_of_entropies(H, entropy_offset(H) if offset else None)


def entropies(
    predictions: Sequence[ArrayLike], *, temperature: ArrayLike = 1.0, from_logits: bool = True
) -> Array:
    """Entropy in nats of each model's prediction for each row.

    Parameters
    ----------
    predictions : sequence of array-like of shape (n_samples, n_classes)
        Logits or probabilities.
    temperature : float or array-like of shape (n_models,), default=1.0
        What logits are divided by.
    from_logits : bool, default=True
        Which they are.

    Returns
    -------
    ndarray of shape (n_samples, n_models)
    """
    arrays = [np.asarray(a, dtype=np.float64) for a in predictions]
    shapes = {a.shape for a in arrays}
    if len(shapes) != 1 or arrays[0].ndim != 2 or arrays[0].shape[1] < 2:
        raise ValueError(
            f"entropy_weights: predictions have shapes {sorted(shapes)}; pass (n_samples, "
            "n_classes) with two classes or more, the same for every model"
        )
    Z = np.stack(arrays)
    if np.isnan(Z).any():
        raise ValueError(
            f"entropy_weights: predictions contain {int(np.isnan(Z).sum())} NaN entries; leave "
            "out those rows"
        )
    T = np.asarray(temperature, dtype=np.float64)
    if T.shape not in ((), (len(Z),)) or not ((T > 0) & np.isfinite(T)).all():
        raise ValueError(
            f"entropy_weights: temperature must be positive, one number or one for each of "
            f"{len(Z)} models, got {temperature!r}"
        )
    if not from_logits:
        if (Z < 0).any() or np.abs(Z.sum(axis=2) - 1).max(initial=0) > 1e-6:
            raise ValueError(
                "entropy_weights: probabilities must be non-negative and sum to 1 in each row; "
                "pass from_logits=True for logits"
            )
        with np.errstate(divide="ignore"):
            Z = np.log(Z)
    log_p = log_softmax(Z / np.reshape(T, (-1, 1, 1)), axis=2)
    p = np.exp(log_p)
    return -np.where(p > 0, p * np.where(p > 0, log_p, 0.0), 0.0).sum(axis=2).T


def entropy_offset(H: Array) -> tuple[float, float]:
    """What shifts the weights of two models: b and b / r.

    Parameters
    ----------
    H : ndarray of shape (n_samples, 2)
        Entropies over the unlabelled rows.

    Returns
    -------
    b, b_over_r : float
    """
    if H.shape[1] != 2 or len(H) < 2:
        raise ValueError(
            f"entropy_weights: offset needs two models and at least two rows, got {H.shape[1]} "
            f"models and {len(H)} rows; pass offset=False"
        )
    mean, sd = H.mean(axis=0), H.std(axis=0, ddof=1)
    b = 0.5 * float(np.divide(sd, mean, out=np.zeros(2), where=mean > 0).sum())
    return b, b * float(mean[0] / mean.sum()) if mean.sum() > 0 else 0.5 * b


def weights_of_entropies(H: Array, offset: tuple[float, float] | None = None) -> Array:
    """Weights of models from their entropies.

    Parameters
    ----------
    H : ndarray of shape (n_samples, n_models)
        Entropies.
    offset : tuple of two floats, default=None
        As `entropy_offset` gives.

    Returns
    -------
    ndarray of shape (n_samples, n_models)
    """
    if offset is None:
        return softmax(-H, axis=1)
    b, b_over_r = offset
    sure = np.exp(-H)
    second = (sure[:, 1] + b_over_r) / (sure.sum(axis=1) + b)
    return np.column_stack([1 - second, second])


class DynamicInterpolationClassifier(ClassifierMixin, BaseEstimator):
    r"""Interpolate fitted classifiers anew for every sample, by how sure each one is.

    For test rows from a mixture of domains that each model knows a part of. The
    model of a row has the parameters :math:`\sum_j \lambda_j(x) \theta_j` with
    the weights of `entropy_weights`. For linear classifiers this is exactly a
    mixture of their logits; other models are merged once for each cluster of
    weights. No label is used.

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
        The fitted classifiers.
    cluster_weights_ : ndarray of shape (n_clusters, n_models) or None
        Weights of the models in each cluster.
    cluster_estimators_ : list of classifiers or None
        The merged model of each cluster.
    n_features_in_ : int
        Number of features.
    feature_names_in_ : ndarray of str of shape (n_features_in_,)
        Their names, if the estimators know any.

    See Also
    --------
    entropy_weights : The rule.
    average_parameters : One model for all rows.

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
        models = self._checked_models()
        self.estimators_, self._anchor = models[: len(self.estimators)], self.anchor
        self.classes_ = models[0].classes_
        for name in ("n_features_in_", "feature_names_in_"):
            if hasattr(models[0], name):
                setattr(self, name, getattr(models[0], name))
        self._linear = all(_is_linear(model) for model in models)
        H = self._entropies(X)
        if (self.offset or self.n_clusters) and count_rows(X) < 2:
            raise ValueError(
                "DynamicInterpolationClassifier: offset and clusters need at least two rows, got "
                f"{count_rows(X)} sample; pass the unlabelled rows to fit"
            )
        self._offset = entropy_offset(H) if self.offset else None
        self.cluster_weights_, self.cluster_estimators_, self._clusters = None, None, None
        if self.n_clusters is not None:
            self._fit_clusters(weights_of_entropies(H, self._offset))
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
        check_is_fitted(self)
        weights = weights_of_entropies(self._entropies(X), self._offset)
        if self._clusters is not None:
            return self.cluster_weights_[self._cluster_of(weights)]
        return weights * self._total()

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
        tags.classifier_tags.multi_label = False
        if self.estimators:
            tags.input_tags.sparse = all(get_tags(e).input_tags.sparse for e in self.estimators)
        return tags

    def _checked_models(self) -> list[Any]:
        """Estimators and anchor, if they are classifiers of one architecture."""
        name = type(self).__name__
        if len(self.estimators) < 2:
            raise ValueError(f"{name}: needs at least two estimators, got {len(self.estimators)}")
        models = [*self.estimators, *([] if self.anchor is None else [self.anchor])]
        for model in models:
            if not is_classifier(model):
                raise TypeError(
                    f"{name}: {type(model).__name__} is no classifier; entropies need class "
                    "probabilities"
                )
            check_is_fitted(model)
            get_parameters(model)
            if not np.array_equal(model.classes_, models[0].classes_):
                raise ValueError(
                    f"{name}: models know different classes, {list(models[0].classes_)} and "
                    f"{list(model.classes_)}; fit all of them on the same classes"
                )
        if self.offset and self.anchor is not None:
            raise ValueError(f"{name}: offset is for two models without an anchor; pass one only")
        check_same_inputs(models, name)
        return models

    def _entropies(self, X: Any) -> Array:
        logits = [_logits(model, X) for model in self.estimators_]
        return entropies(logits, temperature=self.temperature)

    def _total(self) -> float:
        return 1.0 if self._anchor is None else self.scale * len(self.estimators_)

    def _fit_clusters(self, weights: Array) -> None:
        if weights.shape[1] == 2:
            self._clusters = BetaMixture(self.n_clusters, random_state=self.random_state)
            second = self._clusters.fit(weights[:, 1]).means_
            centers = np.column_stack([1 - second, second])
        else:
            n_clusters = min(self.n_clusters, len(np.unique(weights, axis=0)))
            self._clusters = KMeans(n_clusters, n_init=3, random_state=self.random_state)
            centers = self._clusters.fit(weights).cluster_centers_
        self.cluster_weights_ = centers * self._total()
        self.cluster_estimators_ = [self._merged(row) for row in self.cluster_weights_]

    def _cluster_of(self, weights: Array) -> NDArray[np.intp]:
        return self._clusters.predict(weights[:, 1] if weights.shape[1] == 2 else weights)

    def _merged(self, weights: Array) -> Any:
        if self._anchor is None:
            return average_parameters(self.estimators_, weights)
        models = [self._anchor, *self.estimators_]
        return average_parameters(models, [1 - weights.sum(), *weights])

    def _interpolated(self, X: Any) -> Array:
        """Logits of each row's own model."""
        check_is_fitted(self)
        logits = [_logits(model, X) for model in self.estimators_]
        H = entropies(logits, temperature=self.temperature)
        weights = weights_of_entropies(H, self._offset)
        if self._clusters is not None:
            cluster = self._cluster_of(weights)
            each = [_logits(model, X) for model in self.cluster_estimators_]
            return np.stack(each)[cluster, np.arange(len(cluster))]
        weights = weights * self._total()
        if self._linear:
            Z = np.einsum("nm,mnc->nc", weights, np.stack(logits))
            if self._anchor is not None:
                Z += (1 - weights.sum(axis=1, keepdims=True)) * _logits(self._anchor, X)
            return Z
        if len(weights) > MOST_MERGED_MODELS:
            raise ValueError(
                f"{type(self).__name__}: {len(weights)} rows need a merged model each, since the "
                f"models are not linear, and at most {MOST_MERGED_MODELS} are made; pass "
                "n_clusters=3"
            )
        rows = X.iloc if hasattr(X, "iloc") else X
        return np.vstack(
            [_logits(self._merged(row), rows[i : i + 1]) for i, row in enumerate(weights)]
        )


def _is_linear(model: Any) -> bool:
    last = final_estimator(model)
    return hasattr(last, "coef_") and hasattr(last, "decision_function")


def _logits(model: Any, X: Any) -> Array:
    """Decision values of a linear model, a column for each class, else log-probabilities."""
    if _is_linear(model):
        Z = np.asarray(model.decision_function(X), dtype=np.float64)
        return Z if Z.ndim == 2 else np.column_stack([np.zeros(len(Z)), Z])
    with np.errstate(divide="ignore"):
        return np.log(np.asarray(model.predict_proba(X), dtype=np.float64))

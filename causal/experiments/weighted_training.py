"""Two models from one experiment, each trained as if all users had been in its arm."""

from inspect import signature
from numbers import Integral, Real
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, MetaEstimatorMixin, clone
from sklearn.utils import get_tags
from sklearn.utils._param_validation import HasMethods, Interval, StrOptions
from sklearn.utils.metaestimators import available_if
from sklearn.utils.validation import check_consistent_length, check_is_fitted

from causal.experiments._arm_models import ARMS, ArmModels, estimator_has
from causal.experiments._rows import read_features
from causal.experiments.arm_weighter import ArmWeighter, arm_weights
from reweight.normalization import normalize_weights
from reweight.validation import (
    check_sample_weight,
    check_treatment,
    check_treatment_labels,
    routing_enabled,
    take_rows,
)
from reweight.weighted_fit import weight_key, weighted_fit

Array = NDArray[np.float64]


class WeightedTraining(MetaEstimatorMixin, ArmModels, BaseEstimator):
    r"""Models of both arms of an A/B test whose data retrain the models that it tests.

    When both arms learn from all logged rows, what the treatment shows changes
    the model of the control and the other way round, and the difference between
    the arms is no longer that between two worlds. Trained with the weights of
    `ArmWeighter`, each model sees the data that it would see if its arm were
    the whole world, and still learns from all rows.

    Parameters
    ----------
    estimator : estimator
        Model that is retrained, cloned for each arm; its `fit` takes
        `sample_weight`, or it is a pipeline whose last step does.
    weight_estimator : estimator, default=None
        Classifier of the arm given the features, with `predict_proba`; None is
        logistic regression on columns, squares and products. Only for
        `method="weighted"`.
    method : {"weighted", "pooling", "splitting"}, default="weighted"
        How rows of the two arms are shared.

        - "weighted": each arm learns from all rows, weighted to its own law.
        - "pooling": one model learns from all rows; biased by interference.
        - "splitting": each arm learns from its own rows; unbiased, but from a
          part of the data.

        The remaining practice, not to retrain during the experiment, is not to
        call `fit`.
    treatment_prob : float, default=None
        Share of the treatment, where the design fixes it; None takes the share
        that was seen.
    cv : int, cross-validation generator or iterable, default=None
        Folds for the classifier of arms, see `ArmWeighter`.
    random_state : int, RandomState instance or None, default=None
        Shuffles rows into the folds of an int `cv`.
    n_jobs : int, default=None
        Number of jobs over folds; it does not change the result.

    Attributes
    ----------
    control_model_, treatment_model_ : estimator
        Fitted models of the arms, the same object for "pooling".
    training_weights_ : ndarray of shape (n_samples, 2)
        Weights of the rows for the control and for the treatment model, each
        with mean one, sampling weights included. After `partial_fit`, those of
        the last batch, with mean one over the stream.
    weighter_ : ArmWeighter
        Fitted weighter of the treatment arm. Set for "weighted".
    weight_model_ : estimator
        Its classifier of arms. Set for "weighted".
    treatment_prob_ : float
        Share of the treatment that was used.
    treatment_labels_ : ndarray of shape (2,)
        Label of the control, label of the treatment (the larger one).
    n_features_in_ : int
        Number of features.
    feature_names_in_ : ndarray of str
        Their names, when X has string column names.

    See Also
    --------
    ArmWeighter : The weights alone, for any learner or loss.

    Notes
    -----
    The weights are valid if outcomes depend on the arm through the features
    only: put all that decides what is shown, and what was shown, into X. They
    do not help where arms interfere through a market or a social graph, or
    where users of the arms answer differently.

    References
    ----------
    Si, N. (2023). Tackling interference induced by data training loops in A/B
    tests: a weighted training approach. arXiv:2310.17496.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.linear_model import Ridge
    >>> from causal import WeightedTraining
    >>> rng = np.random.default_rng(0)
    >>> arm = rng.integers(0, 2, size=1000)
    >>> X = rng.normal(size=(1000, 1)) + 2 * arm[:, None]
    >>> y = np.maximum(X[:, 0], 0.0)
    >>> training = WeightedTraining(Ridge()).fit(X, y, treatment=arm)
    >>> slope = training.treatment_model_.coef_[0], training.control_model_.coef_[0]
    >>> bool(slope[0] > slope[1])
    True
    >>> training.predict(X, arm="treatment").shape
    (1000,)
    """

    __metadata_request__fit = {"treatment": True}
    __metadata_request__partial_fit = {"treatment": True}

    _parameter_constraints = {
        "estimator": [HasMethods("fit")],
        "weight_estimator": [HasMethods(["fit", "predict_proba"]), None],
        "method": [StrOptions({"weighted", "pooling", "splitting"})],
        "treatment_prob": [Interval(Real, 0, 1, closed="neither"), None],
        "cv": ["cv_object"],
        "random_state": ["random_state"],
        "n_jobs": [Integral, None],
    }

    def __init__(
        self,
        estimator: Any,
        weight_estimator: Any = None,
        *,
        method: str = "weighted",
        treatment_prob: float | None = None,
        cv: Any = None,
        random_state: int | np.random.RandomState | None = None,
        n_jobs: int | None = None,
    ) -> None:
        self.estimator = estimator
        self.weight_estimator = weight_estimator
        self.method = method
        self.treatment_prob = treatment_prob
        self.cv = cv
        self.random_state = random_state
        self.n_jobs = n_jobs

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        inner = get_tags(self.estimator)
        tags.estimator_type = inner.estimator_type
        tags.classifier_tags, tags.regressor_tags = inner.classifier_tags, inner.regressor_tags
        tags.target_tags = inner.target_tags
        tags.target_tags.required = True
        seen = [get_tags(model).input_tags for model in self._feature_models() if model is not None]
        default = len(seen) < len(self._feature_models())
        tags.input_tags.sparse = not default and all(tag.sparse for tag in seen)
        tags.input_tags.allow_nan = not default and all(tag.allow_nan for tag in seen)
        return tags

    def fit(
        self,
        X: Any,
        y: ArrayLike,
        *,
        treatment: ArrayLike | None = None,
        sample_weight: ArrayLike | None = None,
    ) -> "WeightedTraining":
        """Fit the weights and the model of each arm.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Features of the logged rows, including those of what was shown.
        y : array-like of shape (n_samples,) or (n_samples, n_outputs)
            What the model predicts.
        treatment : array-like of shape (n_samples,), default=None
            The arm of each row; required, with two values of which the larger
            one is the treatment.
        sample_weight : array-like of shape (n_samples,), default=None
            Sampling weights.

        Returns
        -------
        WeightedTraining

        Raises
        ------
        ValueError
            If the treatment is missing or constant, lengths differ, or an
            estimator cannot take the weights.
        """
        self._validate_params()
        self._forget()
        X, y, treatment = self._read(X, y, treatment, reset=True)
        self.treatment_labels_, z = check_treatment(treatment, X)
        s = None if sample_weight is None else check_sample_weight(sample_weight, X)
        raw = self._raw_weights(X, z, s)
        self._count(z, np.ones(len(z)) if s is None else s, raw)
        self.training_weights_ = np.column_stack(
            [normalize_weights(column, sample_weight=s) for column in raw]
        )
        if self.method == "pooling":
            # Without sampling weights nothing is to be weighted, and any estimator serves.
            model = weighted_fit(clone(self.estimator), X, y, s, owner=type(self).__name__)
            self.control_model_ = self.treatment_model_ = model
        else:
            self.control_model_, self.treatment_model_ = (
                self._fit_arm(X, y, weights) for weights in self.training_weights_.T
            )
        return self

    @available_if(estimator_has("partial_fit"))
    def partial_fit(
        self,
        X: Any,
        y: ArrayLike,
        *,
        treatment: ArrayLike | None = None,
        sample_weight: ArrayLike | None = None,
        classes: ArrayLike | None = None,
    ) -> "WeightedTraining":
        """Update the weights and the models with the next rows of a stream.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Features of the next rows.
        y : array-like of shape (n_samples,) or (n_samples, n_outputs)
            What the model predicts.
        treatment : array-like of shape (n_samples,), default=None
            The arm of each row; required. The first batch needs rows of both
            arms.
        sample_weight : array-like of shape (n_samples,), default=None
            Sampling weights.
        classes : array-like of shape (n_classes,), default=None
            All classes of y, for a classifier at its first batch.

        Returns
        -------
        WeightedTraining

        Raises
        ------
        ValueError
            If the treatment is missing, the first batch has rows of one arm
            only, or an estimator has no `partial_fit` that takes weights.
        """
        self._validate_params()
        self._check_streams(sample_weight)
        first = not hasattr(self, "treatment_model_")
        X, y, treatment = self._read(X, y, treatment, reset=first)
        if first:
            self.treatment_labels_, z = check_treatment(treatment, X)
            self._start_stream()
        else:
            z = self._codes(treatment, X)
        s = check_sample_weight(sample_weight, X, allow_zero=not first)
        raw = self._stream_weights(X, z, s, weighted=sample_weight is not None)
        self._count(z, s, raw)
        totals = self._stream["totals"]
        factor = self._stream["rows"] / np.where(totals > 0, totals, 1.0)
        self.training_weights_ = (raw * s * factor[:, None]).T
        known = {} if classes is None else {"classes": classes}
        if self.method == "pooling":
            weights = (
                {} if sample_weight is None else {"sample_weight": self.training_weights_[:, 0]}
            )
            self.control_model_.partial_fit(X, y, **known, **weights)
            return self
        for model, weights in zip(
            (self.control_model_, self.treatment_model_), self.training_weights_.T, strict=True
        ):
            rows = np.flatnonzero(weights > 0)
            if len(rows):
                own_X, own_y = take_rows(model, X, y, rows)
                model.partial_fit(own_X, own_y, **known, sample_weight=weights[rows])
        return self

    @property
    def classes_(self) -> NDArray:
        """Classes of the outcome, for a classifier."""
        check_is_fitted(self, "treatment_model_")
        return self.treatment_model_.classes_

    @property
    def weight_model_(self) -> Any:
        """Classifier of arms given the features."""
        check_is_fitted(self, "weighter_")
        return self.weighter_.weight_model_

    def _feature_models(self) -> list[Any]:
        """Who sees the features: the model, and the classifier of arms if there is one."""
        return [self.estimator] + [self.weight_estimator] * (self.method == "weighted")

    def _new_weighter(self) -> ArmWeighter:
        return ArmWeighter(
            "treatment",
            weight_estimator=self.weight_estimator,
            treatment_prob=self.treatment_prob,
            cv=self.cv,
            random_state=self.random_state,
            n_jobs=self.n_jobs,
        )

    def _forget(self) -> None:
        for name in ("weighter_", "treatment_model_", "control_model_"):
            vars(self).pop(name, None)
        self._stream = {"rows": 0, "totals": np.zeros(2), "weight": 0.0, "treated": 0.0}

    def _read(self, X: Any, y: Any, treatment: Any, *, reset: bool) -> tuple[Any, Any, Any]:
        """Features in their container, targets as an array, and the arms."""
        name = type(self).__name__
        if y is None:
            raise ValueError(
                f"{name} requires y to be passed, but the target y is None; pass what the model "
                "predicts as fit(X, y, treatment=treatment)"
            )
        if treatment is None:
            raise ValueError(
                f"{name}: treatment is required; pass the arm of each row as "
                "fit(X, y, treatment=treatment)"
            )
        X = read_features(self, X, self._feature_models(), reset=reset)
        y = np.asarray(y)
        check_consistent_length(X, y, treatment)
        return X, y, treatment

    def _codes(self, treatment: Any, X: Any) -> NDArray[np.intp]:
        labels = check_treatment_labels(treatment, X)
        unknown = ~np.isin(labels, self.treatment_labels_)
        if unknown.any():
            raise ValueError(
                f"{type(self).__name__}: treatment has the value {labels[unknown][0]} that the "
                f"first batch did not have; it knows {list(self.treatment_labels_)}"
            )
        return (labels == self.treatment_labels_[1]).astype(np.intp)

    def _raw_weights(self, X: Any, z: NDArray[np.intp], s: Array | None) -> Array:
        """Weights of the rows for control and treatment before they are scaled."""
        if self.method == "weighted":
            self.weighter_ = self._new_weighter().fit(X, treatment=z, sample_weight=s)
            self.treatment_prob_ = self.weighter_.treatment_prob_
            G = self.weighter_.arm_probability_
        else:
            self.treatment_prob_ = float(self.treatment_prob or np.average(z, weights=s))
            G = z.astype(np.float64)
        return self._weights_of_arms(G)

    def _weights_of_arms(self, G: Array) -> Array:
        if self.method == "pooling":
            return np.ones((2, len(G)))
        return np.stack([arm_weights(G, self.treatment_prob_, arm) for arm in ARMS])

    def _fit_arm(self, X: Any, y: NDArray, weights: Array) -> Any:
        """The model of an arm; rows without weight are left out."""
        model, owner = clone(self.estimator), type(self).__name__
        rows = np.flatnonzero(weights > 0)
        if len(rows) < len(weights):
            X, y = take_rows(model, X, y, rows)
            weights = weights[rows]
        if np.ptp(weights) == 0 and not _takes_weights(model):
            # Rows that all count alike need no weights.
            return model.fit(X, y)
        return weighted_fit(model, X, y, weights, owner=owner)

    def _start_stream(self) -> None:
        self._forget()
        if self.method == "weighted":
            self.weighter_ = self._new_weighter()
        self.control_model_ = clone(self.estimator)
        pooled = self.method == "pooling"
        self.treatment_model_ = self.control_model_ if pooled else clone(self.estimator)

    def _stream_weights(self, X: Any, z: NDArray[np.intp], s: Array, *, weighted: bool) -> Array:
        """Weights of a batch for control and treatment before they are scaled."""
        if self.method == "weighted":
            self.weighter_.partial_fit(X, treatment=z, sample_weight=s if weighted else None)
            self.treatment_prob_ = self.weighter_.treatment_prob_
            return self._weights_of_arms(self.weighter_.arm_probability_)
        seen = (self._stream["treated"] + s @ z) / (self._stream["weight"] + s.sum())
        self.treatment_prob_ = float(self.treatment_prob or seen)
        return self._weights_of_arms(z.astype(np.float64))

    def _count(self, z: NDArray[np.intp], s: Array, raw: Array) -> None:
        """Add rows to what the stream has seen."""
        self._stream["rows"] += len(z)
        self._stream["totals"] = self._stream["totals"] + raw @ s
        self._stream["weight"] += s.sum()
        self._stream["treated"] += s @ z

    def _check_streams(self, sample_weight: Any) -> None:
        name = type(self.estimator).__name__
        owner = type(self).__name__
        needed = self.method != "pooling" or sample_weight is not None
        if needed and "sample_weight" not in signature(self.estimator.partial_fit).parameters:
            raise ValueError(
                f"{owner}: the partial_fit of {name} takes no sample_weight; choose an estimator "
                "that takes it"
            )


def _takes_weights(estimator: Any) -> bool:
    """Whether an estimator can be weighted at all."""
    if routing_enabled():
        return True
    try:
        weight_key(estimator, owner="WeightedTraining")
    except ValueError:
        return False
    return True

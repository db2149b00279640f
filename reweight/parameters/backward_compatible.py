"""Updates of a classifier that keep what the old one got right."""

from copy import deepcopy
from functools import partial
from numbers import Integral, Real
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import norm
from sklearn.base import BaseEstimator, ClassifierMixin, MetaEstimatorMixin, clone
from sklearn.frozen import FrozenEstimator
from sklearn.model_selection import train_test_split
from sklearn.pipeline import Pipeline
from sklearn.utils import check_random_state, get_tags
from sklearn.utils._param_validation import HasMethods, Interval, StrOptions

from reweight.normalization import effective_sample_size
from reweight.parameters._delegation import PredictsByModel
from reweight.parameters.averaging import average_parameters, same_classes
from reweight.parameters.views import (
    check_classifiers,
    check_responses,
    copy_attributes,
    final_estimator,
    get_parameters,
    is_linear,
)
from reweight.validation import check_sample_weight, count_rows, unwrap_target
from reweight.weighted_fit import weighted_fit

Array = NDArray[np.float64]


class BackwardCompatibleClassifier(
    PredictsByModel, ClassifierMixin, MetaEstimatorMixin, BaseEstimator
):
    r"""Update a classifier in use with few negative flips, by interpolating its parameters.

    `fit` trains a new model and takes the point :math:`\alpha \theta_{old} + (1 -
    \alpha) \theta_{new}` that `selection` picks on held-out rows.

    Parameters
    ----------
    old_estimator : classifier
        The fitted model in use, never changed, or a Pipeline that ends in it,
        whose fitted preprocessing is kept. Wrap it in `FrozenEstimator` where
        the whole may be cloned, as in cross-validation.
    estimator : classifier, default=None
        What to train, or in place of a Pipeline its last step; None is a clone
        of the old one.
    old_weight : float or "auto", default="auto"
        The weight α of the old model, or "auto" to select it on held-out rows.
    old_weights : array-like, default=None
        Values of α that are tried; None is 21 from 0 to 1. Zero, the new model,
        is always among them.
    importance : mapping of str to array, default=None
        Importance of the old model's parameters, such as
        `fisher_information(old, X_old)` on the rows that it was trained on:
        important ones stay closer to the old values.
    importance_scale : {"mean"} or None, default="mean"
        Whether to divide the importance by its mean, which lets α mean the same
        as without; None takes it raw.
    n_updates : int, default=1
        Number of new models, of other seeds, whose average is the new model.
    init : {"auto", "old", "fresh"}, default="auto"
        Where training starts. "old" goes on from the old parameters, which
        models that are not convex need; "auto" does so for neural networks.
    selection : {"max", "tolerance", "guarded", "one_se", "noninferior"}, default="max"
        Which α to take, given the paired difference D(α) of the accuracies of
        the merged and the new model and its standard error s(α):

        - "max": the largest α of the highest accuracy;
        - "tolerance": the largest with D ≥ -tolerance;
        - "guarded": the largest with D ≥ s / 2, else 0;
        - "one_se": the largest with D ≥ -s;
        - "noninferior": the largest up to which every lower confidence bound of
          D is at least -tolerance, which proves that the accuracy falls by no
          more than that, also after looking at all α.
    tolerance : float, default=0.0
        Accuracy that may be lost, for "tolerance" and "noninferior".
    confidence_level : float, default=0.95
        Level of the one-sided bound.
    validation_fraction : float, default=0.2
        Share of the rows held out, stratified by class, if `fit` gets no
        `X_val` and α is to be selected.
    random_state : int, RandomState instance or None, default=None
        Held-out rows and seeds of the new models.

    Attributes
    ----------
    estimator_ : classifier
        The merged model, ready to replace the old one.
    new_estimators_ : list of classifiers
        The new models.
    old_weight_ : float
        The weight α taken.
    path_ : dict of ndarray or None
        For each α on the held-out rows: "old_weight", "accuracy",
        "negative_flip_rate", "positive_flip_rate", "distance" of the parameters
        from the old ones, "accuracy_difference" to the new model, its standard
        error "accuracy_difference_stderr" and its confidence bound
        "accuracy_difference_lower". None if α is given and no rows are held out.
    classes_ : ndarray of shape (n_classes,)
        Classes.
    n_features_in_ : int
        Number of features.
    feature_names_in_ : ndarray of str of shape (n_features_in_,)
        Their names, if the merged model knows any.

    Notes
    -----
    The accuracy that selects α is too good for the α selected; judge the result
    on other rows.

    References
    ----------
    Schumann, R., Mansimov, E., Lai, Y.-A., Pappas, N., Gao, X., Zhang, Y.
    (2024). Backward compatibility during data updates by weight interpolation.
    EACL.

    Bonett, D., Price, R. (2012). Adjusted Wald confidence interval for a
    difference of binomial proportions based on paired data. Journal of
    Educational and Behavioral Statistics, 37.

    Examples
    --------
    >>> from reweight import BackwardCompatibleClassifier, negative_flip_rate
    >>> from sklearn.datasets import make_classification
    >>> from sklearn.frozen import FrozenEstimator
    >>> from sklearn.linear_model import LogisticRegression
    >>> X, y = make_classification(3000, random_state=0)
    >>> old = LogisticRegression().fit(X[:100], y[:100])
    >>> update = BackwardCompatibleClassifier(FrozenEstimator(old), random_state=0)
    >>> update = update.fit(X[:1000], y[:1000])
    >>> plain = LogisticRegression().fit(X[:1000], y[:1000])
    >>> X, y = X[1000:], y[1000:]
    >>> [round(negative_flip_rate(y, old.predict(X), m.predict(X)), 3) for m in (plain, update)]
    [0.026, 0.021]
    """

    __metadata_request__fit = {"X_val": True, "y_val": True}
    _unfitted = "old_estimator"

    _parameter_constraints = {
        "old_estimator": [HasMethods(["predict"])],
        "estimator": [HasMethods(["fit", "predict"]), None],
        "old_weight": [Interval(Real, 0, 1, closed="both"), StrOptions({"auto"})],
        "old_weights": ["array-like", None],
        "importance": [dict, None],
        "importance_scale": [StrOptions({"mean"}), None],
        "n_updates": [Interval(Integral, 1, None, closed="left")],
        "init": [StrOptions({"auto", "old", "fresh"})],
        "selection": [StrOptions({"max", "tolerance", "guarded", "one_se", "noninferior"})],
        "tolerance": [Interval(Real, 0, 1, closed="left")],
        "confidence_level": [Interval(Real, 0.5, 1, closed="left")],
        "validation_fraction": [Interval(Real, 0, 1, closed="neither")],
        "random_state": ["random_state"],
    }

    def __init__(
        self,
        old_estimator: Any,
        estimator: Any = None,
        *,
        old_weight: float | str = "auto",
        old_weights: ArrayLike | None = None,
        importance: dict[str, Any] | None = None,
        importance_scale: str | None = "mean",
        n_updates: int = 1,
        init: str = "auto",
        selection: str = "max",
        tolerance: float = 0.0,
        confidence_level: float = 0.95,
        validation_fraction: float = 0.2,
        random_state: int | np.random.RandomState | None = None,
    ) -> None:
        self.old_estimator = old_estimator
        self.estimator = estimator
        self.old_weight = old_weight
        self.old_weights = old_weights
        self.importance = importance
        self.importance_scale = importance_scale
        self.n_updates = n_updates
        self.init = init
        self.selection = selection
        self.tolerance = tolerance
        self.confidence_level = confidence_level
        self.validation_fraction = validation_fraction
        self.random_state = random_state

    def fit(
        self,
        X: Any,
        y: ArrayLike,
        sample_weight: ArrayLike | None = None,
        *,
        X_val: Any = None,
        y_val: ArrayLike | None = None,
    ) -> Self:
        """Train the new models and find the point between old and new.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            All rows that the new model should learn from.
        y : array-like of shape (n_samples,)
            Labels.
        sample_weight : array-like of shape (n_samples,), default=None
            Weights of the rows, in training and where rows are held out of them.
        X_val : array-like of shape (n_val, n_features), or 1-tuple, default=None
            Rows that select α; None holds some of X out.
        y_val : array-like of shape (n_val,), or 1-tuple, default=None
            Their labels.

        Returns
        -------
        BackwardCompatibleClassifier
        """
        self._validate_params()
        old = self._deployed()
        check_responses(self, y)
        rng = check_random_state(self.random_state)
        weight = None if sample_weight is None else check_sample_weight(sample_weight, X)
        X, y, weight, held_out = self._hold_out(X, y, weight, X_val, y_val, rng)
        self.new_estimators_ = self._train(old, X, y, weight, rng)
        new = average_parameters(self.new_estimators_)
        self.path_ = None if held_out is None else self._walk(old, new, *held_out)
        self.old_weight_ = self._select() if self.old_weight == "auto" else float(self.old_weight)
        self.estimator_ = self._merge(old, new, self.old_weight_)
        copy_attributes(self.estimator_, self)
        return self

    def _deployed(self) -> Any:
        """The old model out of its frozen wrapper, if it is a fitted classifier with parameters."""
        old = self.old_estimator
        while isinstance(old, FrozenEstimator):
            old = old.estimator
        check_classifiers([old], type(self).__name__)
        return old

    def _hold_out(self, X, y, weight, X_val, y_val, rng) -> tuple:
        """Rows to train on, and features, labels and weights of those that select."""
        X_val, y_val = unwrap_target(X_val), unwrap_target(y_val)
        if (X_val is None) != (y_val is None):
            raise ValueError(f"{type(self).__name__}: pass both of X_val and y_val, or neither")
        if X_val is not None:
            return X, y, weight, (X_val, np.asarray(y_val), np.ones(count_rows(X_val)))
        if self.old_weight != "auto":
            return X, y, weight, None
        options = {"test_size": self.validation_fraction, "stratify": y, "random_state": rng}
        everything = np.ones(count_rows(X)) if weight is None else weight
        X, X_val, y, y_val, w, w_val = train_test_split(X, y, everything, **options)
        return X, y, None if weight is None else w, (X_val, np.asarray(y_val), w_val)

    def _train(self, old, X, y, weight, rng) -> list[Any]:
        """New models on the old preprocessing."""
        name, last, steps = type(self).__name__, final_estimator(old), []
        start = clone(last if self.estimator is None else self.estimator)
        if isinstance(old, Pipeline):
            if isinstance(start, Pipeline):
                raise ValueError(f"{name}: the preprocessing of the old model is kept")
            X, steps = old[:-1].transform(X), old.steps[:-1]
        wanted = start.get_params(deep=False)
        if self.init == "old" or (self.init == "auto" and hasattr(last, "coefs_")):
            if type(start) is not type(last) or "warm_start" not in wanted:
                raise ValueError(
                    f"{name}: {type(start).__name__} cannot go on from {type(last).__name__} by "
                    "warm_start; pass init='fresh' if the model is convex"
                )
            start = deepcopy(last).set_params(**{**wanted, "warm_start": True})
        models = []
        for _ in range(self.n_updates):
            model, seed = deepcopy(start), rng.randint(2**31 - 1)
            if "random_state" in wanted and (self.n_updates > 1 or self.random_state is not None):
                model.set_params(random_state=seed)
            weighted_fit(model, X, y, weight, owner=name)
            if "warm_start" in wanted:
                model.set_params(warm_start=wanted["warm_start"])
            models.append(Pipeline([*steps, (old.steps[-1][0], model)]) if steps else model)
        return models

    def _merge(self, old: Any, new: Any, alpha: float) -> Any:
        """The model with weight alpha of the old one."""
        if self.importance is None:
            return average_parameters([old, new], [alpha, 1 - alpha])
        entries = np.concatenate([np.ravel(value) for value in self.importance.values()])
        factor = alpha if self.importance_scale is None else alpha / entries.mean()
        kept = {name: factor * np.asarray(value) for name, value in self.importance.items()}
        return average_parameters([old, new], [kept, dict.fromkeys(get_parameters(new), 1 - alpha)])

    def _walk(self, old: Any, new: Any, X: Any, y: NDArray, weight: Array) -> dict[str, Array]:
        """Accuracy, flips and distance for each weight of the old model."""
        grid = np.linspace(0, 1, 21) if self.old_weights is None else np.asarray(self.old_weights)
        if grid.ndim != 1 or not ((grid >= 0) & (grid <= 1)).all():
            raise ValueError(f"{type(self).__name__}: old_weights must be from 0 to 1, got {grid}")
        grid = np.union1d(0.0, grid)
        linear = self.importance is None and same_classes([old, new]) and is_linear(old)
        # Decision values are linear in the parameters: two products do for the whole path.
        Z = [model.decision_function(X) for model in (old, new) if linear]
        end = get_parameters(self._merge(old, new, 1.0))
        right, distance = np.empty((len(grid), len(y)), dtype=bool), np.empty(len(grid))
        for i, alpha in enumerate(grid):
            model = self._merge(old, new, alpha)
            predicted = _classes_of(model, Z, alpha) if linear else model.predict(X)
            right[i], here = predicted == y, get_parameters(model)
            distance[i] = np.sqrt(sum(np.sum((here[name] - end[name]) ** 2) for name in end))
        share = partial(np.average, axis=1, weights=weight)
        right_old, n = old.predict(X) == y, effective_sample_size(weight)
        gained, lost = share(right & ~right[0]), share(~right & right[0])
        difference, stderr = paired_difference(gained, lost, n)
        lower = paired_lower_bound(gained, lost, n, self.confidence_level)
        return {
            "old_weight": grid,
            "accuracy": share(right),
            "negative_flip_rate": share(right_old & ~right),
            "positive_flip_rate": share(~right_old & right),
            "distance": distance,
            "accuracy_difference": difference,
            "accuracy_difference_stderr": stderr,
            "accuracy_difference_lower": np.where(grid == 0, 0.0, lower),  # 0 is the new model
        }

    def _select(self) -> float:
        D, stderr, lower = list(self.path_.values())[-3:]
        D, lower = D + 1e-12, lower + 1e-12  # what differs by rounding is equal
        passed = {
            "max": D.max() - 1e-12 <= D,
            "tolerance": -self.tolerance <= D,
            "guarded": 0.5 * stderr <= D,
            "one_se": -stderr <= D,
            "noninferior": np.logical_and.accumulate(-self.tolerance <= lower),
        }[self.selection]
        return float(self.path_["old_weight"][passed].max())

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        inner = get_tags(self.old_estimator)
        tags.classifier_tags = inner.classifier_tags or tags.classifier_tags
        tags.input_tags = inner.input_tags
        return tags


def paired_difference(gained: Array, lost: Array, n: float) -> tuple[Array, Array]:
    """Difference of paired shares and its standard error."""
    difference = gained - lost
    return difference, np.sqrt(np.maximum(gained + lost - difference**2, 0) / n)


def paired_lower_bound(gained: Array, lost: Array, n: float, confidence_level: float) -> Array:
    """Lower confidence bound of a difference of paired shares, adjusted as by Bonett and Price."""
    # One row more on either side keeps the bound honest where few rows differ.
    gained, lost = (n * gained + 1) / (n + 2), (n * lost + 1) / (n + 2)
    difference, stderr = paired_difference(gained, lost, n + 2)
    return difference - norm.ppf(confidence_level) * stderr


def _classes_of(model: Any, Z: list[Array], alpha: float) -> NDArray:
    mixed = alpha * Z[0] + (1 - alpha) * Z[1]
    return model.classes_[(mixed > 0).astype(int) if mixed.ndim == 1 else mixed.argmax(axis=1)]

"""Updates of a classifier that keep what the old one got right."""

from copy import deepcopy
from numbers import Integral, Real
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, ClassifierMixin, MetaEstimatorMixin, clone, is_classifier
from sklearn.frozen import FrozenEstimator
from sklearn.model_selection import train_test_split
from sklearn.pipeline import Pipeline
from sklearn.utils import check_random_state, get_tags
from sklearn.utils._param_validation import HasMethods, Interval, StrOptions
from sklearn.utils.metaestimators import available_if
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted

from reweight.metrics.flips import negative_flip_rate, positive_flip_rate
from reweight.parallel import parallel_map
from reweight.parameters._interpolation import Interpolation
from reweight.parameters._paired_accuracy import difference_lower_bound, paired_difference
from reweight.parameters.averaging import average_parameters
from reweight.parameters.views import final_estimator, get_parameters
from reweight.validation import check_sample_weight, count_rows, unwrap_target
from reweight.weighted_fit import weight_key

Array = NDArray[np.float64]


def _merged_has(name: str):
    """Whether the classifier has a method, with its own words if it has not."""

    def check(self) -> bool:
        getattr(getattr(self, "estimator_", self.old_estimator), name)
        return True

    return check


class BackwardCompatibleClassifier(ClassifierMixin, MetaEstimatorMixin, BaseEstimator):
    r"""Update a classifier in use with few negative flips, by interpolating its parameters.

    A retrained model is better on average, yet wrong on some rows that the old
    model got right, which is what users notice. `fit` trains the new model and
    takes the point :math:`\alpha \theta_{old} + (1 - \alpha) \theta_{new}` that
    `selection` picks on held-out rows: about the accuracy of the new model with
    fewer flips, at the cost of one model.

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
        models that are not convex need, since two independent starts cannot be
        interpolated; "auto" does so for neural networks.
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
    n_jobs : int, default=None
        Number of new models that are fitted at a time.
    verbose : int, default=0
        Whether to show the progress of the fits.

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

    See Also
    --------
    negative_flip_rate : What is kept low.
    flip_path_plot : A picture of `path_`.

    Notes
    -----
    The accuracy that selects α is too good for the α selected; judge the result
    on other rows. "max" is the default since "tolerance" takes the last α that
    happens to pass.

    New rows may have classes that the old model does not know; then linear
    classifiers keep the rows of the new classes from the new model.

    References
    ----------
    Schumann, R., Mansimov, E., Lai, Y.-A., Pappas, N., Gao, X., Zhang, Y.
    (2024). Backward compatibility during data updates by weight interpolation.
    EACL.

    Tango, T. (1998). Equivalence test and confidence interval for the
    difference in proportions for the paired-sample design. Statistics in
    Medicine, 17.

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
    >>> flips = [
    ...     negative_flip_rate(y[1000:], old.predict(X[1000:]), model.predict(X[1000:]))
    ...     for model in (plain, update)
    ... ]
    >>> flips[1] < flips[0]
    True
    """

    __metadata_request__fit = {"X_val": True, "y_val": True}

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
        "n_jobs": [Integral, None],
        "verbose": ["verbose"],
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
        n_jobs: int | None = None,
        verbose: int = 0,
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
        self.n_jobs = n_jobs
        self.verbose = verbose

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
        if y is None:
            raise ValueError(
                f"{type(self).__name__}: requires y to be passed, but the target y is None"
            )
        check_classification_targets(y)
        random_state = check_random_state(self.random_state)
        weight = None if sample_weight is None else check_sample_weight(sample_weight, X)
        X, y, weight, held_out = self._hold_out(X, y, weight, X_val, y_val, random_state)
        self.new_estimators_ = self._train(old, X, y, weight, random_state)
        new = self.new_estimators_[0]
        if self.n_updates > 1:
            new = average_parameters(self.new_estimators_)
        merge = Interpolation(old, new, self._scaled_importance())
        self.path_ = None if held_out is None else self._walk(merge, *held_out)
        given = self.old_weight != "auto"
        self.old_weight_ = float(self.old_weight) if given else self._select()
        self.estimator_ = merge(self.old_weight_)
        self.classes_ = final_estimator(self.estimator_).classes_
        for name in ("n_features_in_", "feature_names_in_"):
            if hasattr(self.estimator_, name):
                setattr(self, name, getattr(self.estimator_, name))
        return self

    def _deployed(self) -> Any:
        """The old model out of its frozen wrapper, if it is a fitted classifier with parameters."""
        old = self.old_estimator
        while isinstance(old, FrozenEstimator):
            old = old.estimator
        if not is_classifier(old):
            raise TypeError(
                f"{type(self).__name__}: {type(old).__name__} is no classifier; flips are "
                "defined for classes"
            )
        check_is_fitted(old)
        get_parameters(old)
        return old

    def _scaled_importance(self) -> dict[str, Any] | None:
        if self.importance is None or self.importance_scale is None:
            return self.importance
        entries = np.concatenate([np.ravel(value) for value in self.importance.values()])
        if not entries.mean() > 0:
            raise ValueError(
                f"{type(self).__name__}: the mean of importance is {entries.mean():.3g}; it must "
                "be positive, as that of fisher_information"
            )
        return {name: np.asarray(v) / entries.mean() for name, v in self.importance.items()}

    def _hold_out(self, X, y, weight, X_val, y_val, random_state) -> tuple:
        """Rows to train on, and features, labels and weights of those that select."""
        X_val, y_val = unwrap_target(X_val), unwrap_target(y_val)
        if (X_val is None) != (y_val is None):
            raise ValueError(f"{type(self).__name__}: pass both of X_val and y_val, or neither")
        if X_val is not None:
            return X, y, weight, (X_val, np.asarray(y_val), np.ones(count_rows(X_val)))
        if self.old_weight != "auto":
            return X, y, weight, None
        everything = np.ones(count_rows(X)) if weight is None else weight
        X, X_val, y, y_val, w, w_val = train_test_split(
            X,
            y,
            everything,
            test_size=self.validation_fraction,
            stratify=y,
            random_state=random_state,
        )
        return X, y, None if weight is None else w, (X_val, np.asarray(y_val), w_val)

    def _train(self, old, X, y, weight, random_state) -> list[Any]:
        """New models on the old preprocessing."""
        pipeline = isinstance(old, Pipeline)
        if pipeline and isinstance(self.estimator, Pipeline):
            raise ValueError(
                f"{type(self).__name__}: the preprocessing of old_estimator is kept; pass only "
                "what follows it as estimator"
            )
        last = final_estimator(old)
        start = self._start(last)
        if weight is not None:
            weight_key(start, owner=type(self).__name__)
        tasks = []
        for _ in range(self.n_updates):
            seed = random_state.randint(2**31 - 1)
            model = deepcopy(start)
            has_seed = "random_state" in model.get_params(deep=False)
            if has_seed and (self.n_updates > 1 or self.random_state is not None):
                model.set_params(random_state=seed)
            tasks.append((model, old[:-1].transform(X) if pipeline else X, y, weight))
        fitted = parallel_map(
            _fit, tasks, total=len(tasks), n_jobs=self.n_jobs, verbose=self.verbose, name="updates"
        )
        if "warm_start" in last.get_params(deep=False):
            wanted = last if self.estimator is None else self.estimator
            for model in fitted:
                model.set_params(warm_start=wanted.get_params(deep=False).get("warm_start", False))
        if not pipeline:
            return fitted
        return [Pipeline([*old.steps[:-1], (old.steps[-1][0], model)]) for model in fitted]

    def _start(self, last: Any) -> Any:
        """What is trained: unfitted, or the old model about to go on."""
        fresh = clone(last if self.estimator is None else self.estimator)
        go_on = self.init == "old" or (self.init == "auto" and hasattr(last, "coefs_"))
        if not go_on:
            return fresh
        if type(fresh) is not type(last) or "warm_start" not in last.get_params(deep=False):
            raise ValueError(
                f"{type(self).__name__}: training cannot go on from the old parameters, since "
                f"{type(last).__name__} has no warm_start or estimator is of another class; pass "
                "init='fresh' if the model is convex"
            )
        return deepcopy(last).set_params(**fresh.get_params(deep=False)).set_params(warm_start=True)

    def _walk(
        self, merge: Interpolation, X_val: Any, y_val: NDArray, weight: Array
    ) -> dict[str, Array]:
        """Accuracy, flips and distance for each weight of the old model."""
        grid = np.linspace(0, 1, 21) if self.old_weights is None else np.asarray(self.old_weights)
        if grid.ndim != 1 or not ((grid >= 0) & (grid <= 1)).all():
            raise ValueError(
                f"{type(self).__name__}: old_weights must lie between 0 and 1, got {grid}"
            )
        grid = np.union1d(0.0, grid)
        y_old = merge.old.predict(X_val)
        predictions = merge.predictions(grid, X_val)
        right_new = predictions[0] == y_val
        rows = []
        for alpha, predicted in zip(grid, predictions, strict=True):
            right = predicted == y_val
            D, stderr, gained, lost, n = paired_difference(right, right_new, weight)
            lower = 0.0  # alpha = 0 is the new model itself
            if alpha > 0:
                lower = difference_lower_bound(gained, lost, n, self.confidence_level)
            rows.append(
                {
                    "old_weight": alpha,
                    "accuracy": np.average(right, weights=weight),
                    "negative_flip_rate": negative_flip_rate(
                        y_val, y_old, predicted, sample_weight=weight
                    ),
                    "positive_flip_rate": positive_flip_rate(
                        y_val, y_old, predicted, sample_weight=weight
                    ),
                    "distance": merge.distance(alpha),
                    "accuracy_difference": D,
                    "accuracy_difference_stderr": stderr,
                    "accuracy_difference_lower": lower,
                }
            )
        return {name: np.array([row[name] for row in rows]) for name in rows[0]}

    def _select(self) -> float:
        path, rounding = self.path_, 1e-12
        D, stderr = path["accuracy_difference"], path["accuracy_difference_stderr"]
        passed = {
            "max": D.max() - rounding <= D,
            "tolerance": -self.tolerance - rounding <= D,
            "guarded": 0.5 * stderr - rounding <= D,
            "one_se": -stderr - rounding <= D,
            "noninferior": np.logical_and.accumulate(
                path["accuracy_difference_lower"] >= -self.tolerance - rounding
            ),
        }[self.selection]
        return float(path["old_weight"][passed].max())

    @available_if(_merged_has("predict"))
    def predict(self, X: Any) -> NDArray:
        """Classes by the merged model.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows.

        Returns
        -------
        ndarray of shape (n_samples,)
        """
        check_is_fitted(self)
        return self.estimator_.predict(X)

    @available_if(_merged_has("predict_proba"))
    def predict_proba(self, X: Any) -> Array:
        """Class probabilities by the merged model.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows.

        Returns
        -------
        ndarray of shape (n_samples, n_classes)
        """
        check_is_fitted(self)
        return self.estimator_.predict_proba(X)

    @available_if(_merged_has("decision_function"))
    def decision_function(self, X: Any) -> Array:
        """Decision values of the merged model.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows.

        Returns
        -------
        ndarray of shape (n_samples,) or (n_samples, n_classes)
        """
        check_is_fitted(self)
        return self.estimator_.decision_function(X)

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "estimator_")

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        inner = get_tags(self.old_estimator)
        tags.classifier_tags = inner.classifier_tags or tags.classifier_tags
        tags.input_tags = inner.input_tags
        return tags


def _fit(model: Any, X: Any, y: Any, weight: Array | None) -> Any:
    return model.fit(X, y) if weight is None else model.fit(X, y, sample_weight=weight)

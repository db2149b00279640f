"""Predictions for each row from models that have not seen it, and the models themselves."""

from collections.abc import Iterable
from dataclasses import dataclass
from numbers import Integral
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.sparse import issparse
from sklearn.base import clone, is_classifier
from sklearn.model_selection import (
    GroupKFold,
    KFold,
    StratifiedGroupKFold,
    StratifiedKFold,
    check_cv,
)
from sklearn.utils import get_tags, indexable
from sklearn.utils.multiclass import type_of_target

from reweight.parallel import parallel_map
from reweight.validation import (
    check_sample_weight,
    count_rows,
    take_metadata,
    take_rows,
    warn_user,
)
from reweight.weighted_fit import weight_key, weighted_fit

Fold = tuple[NDArray[np.intp], NDArray[np.intp]]
Part = tuple[NDArray[np.intp], NDArray]
SCORES = ("predict_log_proba", "decision_function")
CLASS_METHODS = ("predict_proba", *SCORES)


@dataclass(frozen=True, eq=False, repr=False)
class CrossFit:
    """Out-of-fold predictions and the models that made them.

    Parameters
    ----------
    predictions : ndarray of shape (n_samples, ...) or list of such arrays
        For each row, what the models that have not seen it predict: their mean
        if there are several, or their majority for predicted labels. A list,
        with one array an output, for probabilities of several outputs. NaN, or
        None for labels that are not numbers, in `missing_rows`.
    estimators : list of estimators
        The fitted model of each fold.
    fold_of_row : ndarray of int of shape (n_samples,)
        The first fold that holds the row in its test part, -1 if none does.
    missing_rows : ndarray of int
        Rows that are in no test part.
    test_rows : list of ndarray of int
        Test part of each fold.
    method : str
        Method of the models that predicts.
    classes : ndarray of shape (n_classes,), list of such arrays or None
        Classes that the columns of `predictions` belong to, in order; None
        where columns are not classes.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.linear_model import LinearRegression
    >>> from reweight import cross_fit
    >>> X = np.arange(6.0).reshape(-1, 1)
    >>> crossed = cross_fit(LinearRegression(), X, 2 * X.ravel(), cv=3)
    >>> crossed
    CrossFit(3 x LinearRegression.predict, 6 rows, 0 missing)
    >>> crossed.predict([[10.0]])
    array([20.])
    """

    predictions: Any
    estimators: list[Any]
    fold_of_row: NDArray[np.intp]
    missing_rows: NDArray[np.intp]
    test_rows: list[NDArray[np.intp]]
    method: str
    classes: Any = None

    def predict(self, X: Any) -> Any:
        """Mean over the fold models of what they predict for new rows.

        Log probabilities are those of the mean probability. Predicted labels
        are those of the majority, the first of them in a tie.

        Parameters
        ----------
        X : array-like of shape (n_rows, n_features)
            New rows.

        Returns
        -------
        ndarray of shape (n_rows, ...) or list of such arrays
            Laid out as `predictions`.
        """
        everyone = np.arange(count_rows(X))
        outputs = [_predict(model, X, self.method, self.classes) for model in self.estimators]
        parts = [(everyone, output) for output in outputs]
        return _gather(parts, len(everyone), self.estimators[0], self.method)

    def __repr__(self) -> str:
        model = type(self.estimators[0]).__name__
        return (
            f"CrossFit({len(self.estimators)} x {model}.{self.method}, "
            f"{len(self.fold_of_row)} rows, {len(self.missing_rows)} missing)"
        )


def cross_fit(
    estimator: Any,
    X: Any,
    y: Any = None,
    *,
    cv: Any = 5,
    method: str = "predict",
    sample_weight: ArrayLike | None = None,
    groups: ArrayLike | None = None,
    params: dict[str, Any] | None = None,
    random_state: int | np.random.RandomState | None = None,
    n_jobs: int | None = None,
    verbose: int = 0,
) -> CrossFit:
    """Predict each row by models that have not seen it, and keep the models.

    Equals `sklearn.model_selection.cross_val_predict` where both apply. Beyond
    it, the fold models are kept, weights reach the last step of a pipeline,
    groups are kept whole by an integer `cv`, and test parts need not be a
    partition.

    Parameters
    ----------
    estimator : estimator
        What to fit; it is cloned for each fold.
    X : array-like, sparse matrix or data frame of shape (n_samples, n_features)
        Features.
    y : array-like of shape (n_samples,) or (n_samples, n_outputs), default=None
        Targets.
    cv : int, cross-validation generator or iterable of (train, test), default=5
        Folds. An integer stratifies by the classes of a classifier and keeps
        `groups` whole.
    method : str, default="predict"
        Method of the fitted models that predicts, such as "predict_proba".
    sample_weight : array-like of shape (n_samples,), default=None
        Weights for `fit`; in a pipeline they go to the last step.
    groups : array-like of shape (n_samples,), default=None
        Rows that must not be split over train and test part.
    params : dict, default=None
        Other metadata for `fit`. What is as long as X is cut to the train part;
        a 1-tuple passes whole.
    random_state : int, RandomState instance or None, default=None
        Shuffles the rows before an integer `cv` forms folds; None leaves them
        in order. Randomness of the estimator is its own.
    n_jobs : int, default=None
        Number of jobs over folds, through joblib; it does not change the
        result.
    verbose : int, default=0
        Whether to show a progress bar.

    Returns
    -------
    CrossFit
        Predictions, fold models and which fold predicts which row.

    Raises
    ------
    AttributeError
        If the estimator lacks the method.
    ValueError
        If the estimator cannot take the weights given, a fold has nothing to
        fit on, or no fold has rows to predict.

    Warns
    -----
    RuntimeWarning
        If classes are missing from the train part of a fold. Their probability
        is 0 there, and other scores the smallest number.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.linear_model import LogisticRegression
    >>> from reweight import cross_fit
    >>> X, y = load_iris(return_X_y=True)
    >>> model = LogisticRegression(max_iter=1000)
    >>> crossed = cross_fit(model, X, y, method="predict_proba", random_state=0)
    >>> crossed.predictions.shape, len(crossed.estimators)
    ((150, 3), 5)
    """
    X, y, groups = indexable(X, y, groups)
    n_samples = count_rows(X)
    if not hasattr(estimator, method):
        raise AttributeError(
            f"cross_fit: {type(estimator).__name__} has no method {method!r}; choose a method "
            "that it has, or another estimator"
        )
    if sample_weight is not None:
        weight_key(estimator, owner="cross_fit")
        sample_weight = check_sample_weight(sample_weight, X)
    folds = _make_folds(estimator, X, y, cv, groups, random_state)
    classes = _find_classes(estimator, y, method)
    results = parallel_map(
        _fit_fold,
        ((estimator, X, y, fold, method, classes, sample_weight, params or {}) for fold in folds),
        total=len(folds),
        n_jobs=n_jobs,
        verbose=verbose,
        name="cross_fit: folds",
    )
    estimators = [model for model, _ in results]
    _warn_of_missing_classes(estimators, classes)
    parts = [
        (test, output)
        for (_, test), (_, output) in zip(folds, results, strict=True)
        if output is not None
    ]
    fold_of_row = np.full(n_samples, -1)
    for number in reversed(range(len(folds))):
        fold_of_row[folds[number][1]] = number
    return CrossFit(
        predictions=_gather(parts, n_samples, estimators[0], method),
        estimators=estimators,
        fold_of_row=fold_of_row,
        missing_rows=np.flatnonzero(fold_of_row < 0),
        test_rows=[test for _, test in folds],
        method=method,
        classes=classes,
    )


def _make_folds(
    estimator: Any, X: Any, y: Any, cv: Any, groups: Any, random_state: Any
) -> list[Fold]:
    """Train and test rows of each fold, as row numbers."""
    if cv is None or isinstance(cv, Integral):
        stratify = is_classifier(estimator) and type_of_target(y) in ("binary", "multiclass")
        if groups is None:
            splitter = StratifiedKFold if stratify else KFold
        else:
            splitter = StratifiedGroupKFold if stratify else GroupKFold
        cv = splitter(
            5 if cv is None else int(cv),
            shuffle=random_state is not None,
            random_state=random_state,
        )
    everyone = np.arange(count_rows(X))
    splits = check_cv(cv, y, classifier=is_classifier(estimator)).split(X, y, groups)
    # Masks and negative numbers become row numbers, and numbers out of range an error.
    folds = [(everyone[train], everyone[test]) for train, test in splits]
    for number, (train, _) in enumerate(folds):
        if not len(train):
            raise ValueError(
                f"cross_fit: the train part of fold {number} is empty; pass folds that leave "
                "rows to fit on"
            )
    if not any(len(test) for _, test in folds):
        raise ValueError(
            f"cross_fit: none of the {len(folds)} folds has rows to predict; pass a cv that has"
        )
    return folds


def _find_classes(estimator: Any, y: Any, method: str) -> Any:
    """Classes of all rows, which columns of class-wise predictions belong to."""
    if y is None or method not in CLASS_METHODS or not is_classifier(estimator):
        return None
    if type_of_target(y) == "multilabel-indicator" and issparse(y):
        return None
    labels = np.asarray(y)
    if labels.ndim == 1 or labels.shape[1] == 1:
        return np.unique(labels)
    return [np.unique(column) for column in labels.T]


def _fit_fold(
    estimator: Any,
    X: Any,
    y: Any,
    fold: Fold,
    method: str,
    classes: Any,
    sample_weight: NDArray | None,
    params: dict[str, Any],
) -> tuple[Any, Any]:
    """The model of a fold and what it predicts for the test part, None for an empty one."""
    train, test = fold
    X_train, y_train = take_rows(estimator, X, y, train)
    model = weighted_fit(
        clone(estimator),
        X_train,
        y_train,
        None if sample_weight is None else sample_weight[train],
        owner="cross_fit",
        **take_metadata(X, params, train),
    )
    if not len(test):
        return model, None
    X_test, _ = take_rows(estimator, X, None, test, train)
    return model, _predict(model, X_test, method, classes)


def _predict(model: Any, X: Any, method: str, classes: Any) -> Any:
    """Predictions of a model as an array, or one an output, with a column for each class."""
    output = getattr(model, method)(X)
    if isinstance(output, list) and isinstance(classes, list):
        return [
            _align(np.asarray(values), seen, known, method)
            for values, seen, known in zip(output, model.classes_, classes, strict=True)
        ]
    values = output.toarray() if issparse(output) else np.asarray(output)
    if isinstance(classes, np.ndarray):
        return _align(values, getattr(model, "classes_", classes), classes, method)
    return values


def _align(values: NDArray, seen: NDArray, classes: NDArray, method: str) -> NDArray:
    """Columns for all classes from those of the classes that a model has seen."""
    if len(seen) == len(classes):
        return values
    if values.ndim == 1 or values.shape[1] != len(seen):
        raise ValueError(
            f"cross_fit: {method} has shape {values.shape} in a fold with {len(seen)} of the "
            f"{len(classes)} classes, so that its columns cannot be told apart; pass stratified "
            "folds, or method='predict_proba'"
        )
    fill = 0.0 if method == "predict_proba" else np.finfo(values.dtype).min
    aligned = np.full((len(values), len(classes)), fill, dtype=values.dtype)
    aligned[:, np.searchsorted(classes, seen)] = values
    return aligned


def _warn_of_missing_classes(estimators: list[Any], classes: Any) -> None:
    """Say once how many fold models do not know all classes."""
    if classes is None:
        return
    known = classes if isinstance(classes, list) else [classes]
    poor = 0
    for model in estimators:
        seen = getattr(model, "classes_", classes)
        seen = seen if isinstance(seen, list) else [seen]
        poor += len(seen) == len(known) and any(
            len(some) < len(every) for some, every in zip(seen, known, strict=True)
        )
    if poor:
        warn_user(
            f"cross_fit: {poor} of {len(estimators)} fold models have not seen all classes, whose "
            "probability they then put at zero; pass stratified folds, or fewer of them",
            RuntimeWarning,
        )


def _gather(parts: list[tuple[NDArray, Any]], n_rows: int, model: Any, method: str) -> Any:
    """One prediction a row, for each output, from those of the folds."""
    label = method == "predict" and (
        is_classifier(model) or get_tags(model).estimator_type in ("outlier_detector", "clusterer")
    )
    if isinstance(parts[0][1], list):
        columns = zip(*(outputs for _, outputs in parts), strict=True)
        rows = [test for test, _ in parts]
        return [
            _combine(list(zip(rows, column, strict=True)), n_rows, method, label)
            for column in columns
        ]
    return _combine(parts, n_rows, method, label)


def _combine(parts: list[Part], n_rows: int, method: str, label: bool) -> NDArray:
    """Place predictions in their rows; average or count votes where a row has several."""
    shapes = sorted({values.shape[1:] for _, values in parts})
    if len(shapes) > 1:
        raise ValueError(
            f"cross_fit: {method} has rows of shapes {shapes} in different folds; pass folds whose "
            "train parts are alike, such as stratified ones"
        )
    counts = np.bincount(np.concatenate([rows for rows, _ in parts]), minlength=n_rows)
    dtype = np.result_type(*(values.dtype for _, values in parts))
    result = _blank((n_rows, *parts[0][1].shape[1:]), dtype, bool((counts == 0).any()))
    if counts.max() <= 1:
        for rows, values in parts:
            result[rows] = values
        return result
    found = counts > 0
    if label:
        result[found] = _majority(parts, n_rows)[found]
        return result
    mean = _mean(parts, counts, method)[found]
    if dtype.kind != "f":
        result = _blank(result.shape, np.dtype(np.float64), True)
    result[found] = mean
    return result


def _blank(shape: tuple[int, ...], dtype: np.dtype, gaps: bool) -> NDArray:
    """An array to fill, whose type has a word for what is missing if anything is."""
    if not gaps:
        return np.empty(shape, dtype)
    if dtype.kind == "f":
        return np.full(shape, np.nan, dtype)
    if dtype.kind in "iu":
        return np.full(shape, np.nan)
    return np.full(shape, None, dtype=object)


def _mean(parts: list[Part], counts: NDArray[np.intp], method: str) -> NDArray[np.float64]:
    """Mean prediction of each row; that of probabilities if their logarithms are given."""
    log = method == "predict_log_proba"
    total = np.zeros((len(counts), *parts[0][1].shape[1:]))
    # Scores of classes that a model has not seen are the smallest number, whose sums overflow.
    with np.errstate(over="ignore", divide="ignore"):
        for rows, values in parts:
            np.add.at(total, rows, np.exp(values) if log else values)
        mean = total / np.maximum(counts, 1).reshape(-1, *[1] * (total.ndim - 1))
        mean = np.log(mean) if log else mean
    return np.maximum(mean, np.finfo(parts[0][1].dtype).min) if method in SCORES else mean


def _majority(parts: Iterable[Part], n_rows: int) -> NDArray:
    """Most frequent label of each row, the first in a tie; output by output."""
    rows = np.concatenate([rows for rows, _ in parts])
    labels = np.concatenate([values for _, values in parts])
    columns = labels.reshape(len(labels), -1).T
    winners = []
    for column in columns:
        classes, codes = np.unique(column, return_inverse=True)
        votes = np.zeros((n_rows, len(classes)), dtype=np.intp)
        np.add.at(votes, (rows, codes), 1)
        winners.append(classes[votes.argmax(axis=1)])
    return np.stack(winners, axis=-1).reshape(n_rows, *labels.shape[1:])

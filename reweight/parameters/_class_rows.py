"""Rows of linear classifiers that know different classes, side by side."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.linear_model import LogisticRegression

from reweight.parameters._tensors import Parameters
from reweight.parameters.views import final_estimator, get_parameters

# Classifiers whose probabilities are the softmax of their decision values.
SOFTMAX = (LogisticRegression, LinearDiscriminantAnalysis)


def classes_differ(models: Sequence[Any]) -> bool:
    """Whether models are classifiers of unlike classes."""
    classes = [getattr(final_estimator(model), "classes_", None) for model in models]
    return all(c is not None for c in classes) and not all(
        np.array_equal(c, classes[0]) for c in classes[1:]
    )


def is_softmax(model: Any) -> bool:
    """Whether a common vector added to all rows leaves the predictions as they are."""
    last = final_estimator(model)
    return isinstance(last, SOFTMAX) and len(last.coef_) > 1


def centered_rows(parameters: Parameters, rows: Any = slice(None)) -> dict[str, Any]:
    """Parameters minus the mean over some rows, in which softmax models are identified."""
    arrays = {name: np.asarray(value) for name, value in parameters.items()}
    return {name: a - a[rows].mean(axis=0) if a.ndim else a for name, a in arrays.items()}


def align_classes(
    models: Sequence[Any], weights: Sequence[Any]
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Parameters with one row a class, and weights under which unknown rows count nothing.

    Parameters
    ----------
    models : sequence of linear classifiers
        The first knows some of the classes of the others, which know the same.
    weights : sequence of float or sequence of mappings
        Weight of each.

    Returns
    -------
    parameters : list of dict
    weights : list of dict

    Raises
    ------
    ValueError
        If classes are not nested, or the models are not linear.
    """
    estimators = [final_estimator(model) for model in models]
    classes = estimators[-1].classes_
    known = np.isin(classes, estimators[0].classes_)
    nested = known.sum() == len(estimators[0].classes_) < len(classes) and all(
        np.array_equal(e.classes_, classes) for e in estimators[1:]
    )
    linear = all(hasattr(e, "coef_") for e in estimators)
    if not nested or not linear:
        listed = " and ".join(str(list(e.classes_)) for e in estimators)
        raise ValueError(
            f"average_parameters: models know different classes, {listed}; only linear "
            "classifiers can be averaged whose first knows a part of the classes that all others "
            "know"
        )
    old, *new = [_one_row_a_class(e) for e in estimators]
    if isinstance(estimators[0], SOFTMAX):
        old, new = centered_rows(old), [centered_rows(p, known) for p in new]
    average = {name: np.mean([p[name] for p in new], axis=0) for name in old}
    spread = {name: average[name].copy() for name in old}
    for name in old:
        spread[name][known] = old[name]
    old_weight, *new_weights = [
        w if isinstance(w, Mapping) else dict.fromkeys(old, w) for w in weights
    ]
    shapes = {name: np.shape(value) for name, value in get_parameters(models[0]).items()}
    spread_weight = {}
    for name in old:
        spread_weight[name] = np.zeros(spread[name].shape)
        weight = np.broadcast_to(np.asarray(old_weight[name], dtype=float), shapes[name])
        spread_weight[name][known] = weight
    return [spread, *new], [spread_weight, *new_weights]


def _one_row_a_class(estimator: Any) -> dict[str, Any]:
    """Coefficients and intercepts by class; those of two classes split into two rows."""
    coef = np.atleast_2d(estimator.coef_)
    intercept = np.broadcast_to(np.asarray(estimator.intercept_), len(coef))
    if len(estimator.classes_) == 2 and len(coef) == 1:
        # Softmax sees the difference of rows, a vote of one class against the rest each of them.
        sign = np.array([-1.0, 1.0]) * (0.5 if isinstance(estimator, SOFTMAX) else 1.0)
        return {"coef_": sign[:, None] * coef, "intercept_": sign * intercept}
    return {"coef_": coef, "intercept_": intercept}

"""The one kernel: a weighted average of parameters, tensor by tensor."""

import math
from collections.abc import Mapping, Sequence
from copy import deepcopy
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.linear_model import LogisticRegression

from reweight.parameters._tensors import (
    Parameters,
    empty,
    is_floating,
    row_blocks,
    shared_tensors,
    widened,
)
from reweight.parameters.views import check_models, final_estimator, get_parameters, set_parameters

# Classifiers whose probabilities are the softmax of their decision values.
SOFTMAX = (LogisticRegression, LinearDiscriminantAnalysis)


def average_parameters(
    models: Sequence[Any], weights: ArrayLike | Sequence[Mapping[str, Any]] | None = None
) -> Any:
    r"""Average models of one architecture: :math:`(\sum_k A_k)^{-1} \sum_k A_k \theta_k`.

    Single weights may be negative, their sum may not. `stock_weights`,
    `gradient_matching_weights` and `similarity_weights` make weights, and
    `pool_estimates` does the same for full matrices.

    Parameters
    ----------
    models : sequence of models
        What `get_parameters` accepts, with the same names and shapes. Linear
        classifiers may know more classes than the first: rows of classes that
        it does not know are those of the average of the others.
    weights : array-like of shape (n_models,) or sequence of mappings, default=None
        One number a model, on any scale, such as numbers of rows; or for each
        model a mapping from every name to a number or an array that broadcasts
        to the tensor, such as a Fisher information. None weighs all alike.

    Returns
    -------
    model
        Of the kind of the first model, which stays as it is. Where the weights
        of all models sum to exactly zero, it keeps the first model's value.
        Entries that are not floating-point numbers are those of the last.

    Raises
    ------
    ValueError
        If there is no model, names, shapes, features, preprocessing or classes
        differ, or weights are not finite or do not have a positive sum.
    KeyError
        If a mapping of weights lacks a name.

    Notes
    -----
    Tensors are read one at a time; half precision is summed in single. Rows of
    softmax classifiers are centred under weights by entry, which leaves their
    predictions as they are. Statistics of batch normalisation should be
    estimated anew. Networks from different starts must not be averaged.

    References
    ----------
    Wortsman, M., et al. (2022). Model soups: averaging weights of multiple
    fine-tuned models improves accuracy without increasing inference time. ICML.

    Matena, M., Raffel, C. (2022). Merging models with Fisher-weighted
    averaging. NeurIPS.

    Ilharco, G., et al. (2023). Editing models with task arithmetic. ICLR.

    Examples
    --------
    >>> import numpy as np
    >>> from reweight import average_parameters
    >>> models = [{"w": np.array([0.0, 2.0])}, {"w": np.array([4.0, 6.0])}]
    >>> average_parameters(models, [3, 1])["w"]
    array([1., 3.])
    >>> average_parameters(models, [{"w": [1.0, 0.0]}, {"w": 1.0}])["w"]
    array([2., 6.])
    """
    models = list(models)
    check_models(models, "average_parameters")
    weights = _check_weights(weights, len(models))
    parameters, template = [get_parameters(model) for model in models], models[0]
    if not same_classes(models):
        template = models[-1]
        parameters, weights = _align_classes([final_estimator(m) for m in models], weights)
    elif isinstance(weights[0], Mapping) and _is_softmax(models[0]):
        parameters = [_centered(p) for p in parameters]
    lazy = not all(isinstance(p, dict) for p in parameters)  # entries may load when asked for
    result, done = {}, {}
    for name, tensors in shared_tensors(parameters, "average_parameters"):
        key = name if lazy else tuple(_storage(p[name]) for p in parameters)
        if key not in done:
            done[key] = _combine(name, tensors, weights)
        result[name] = done[key]
    return set_parameters(template, result)


def same_classes(models: Sequence[Any]) -> bool:
    """Whether models are not classifiers of unlike classes."""
    classes = [getattr(final_estimator(model), "classes_", None) for model in models]
    return any(c is None for c in classes) or all(np.array_equal(c, classes[0]) for c in classes)


def _check_weights(weights: Any, n_models: int) -> list[Any]:
    """One number or mapping a model."""
    weights = [1.0] * n_models if weights is None else list(weights)
    by_name = all(isinstance(w, Mapping) for w in weights)
    numbers = np.ones(len(weights)) if by_name else np.asarray(weights, dtype=np.float64)
    if numbers.shape != (n_models,) or not (np.isfinite(numbers).all() and numbers.sum() > 0):
        raise ValueError(
            "average_parameters: weights must have a positive sum and be finite, one for each of "
            f"{n_models} models, got {weights}"
        )
    return weights if by_name else numbers.tolist()


def _weights_of(name: str, weights: Sequence[Any]) -> list[Any]:
    if any(isinstance(w, Mapping) and name not in w for w in weights):
        raise KeyError(f"average_parameters: a mapping of weights lacks {name!r}; add it, as 1.0")
    return [w[name] if isinstance(w, Mapping) else w for w in weights]


def _storage(array: Any) -> Any:
    """What arrays that share their memory have in common."""
    if hasattr(array, "data_ptr"):
        return array.data_ptr(), array.shape, array.stride()
    return id(array)


def _combine(name: str, tensors: list[Any], weights: list[Any]) -> Any:
    """The equation for one tensor."""
    if not is_floating(tensors[0]):
        return deepcopy(tensors[-1])
    weights = _weights_of(name, weights)
    by_entry = any(np.ndim(w) for w in weights)
    if by_entry:
        weights = [_like(tensors[0], w) for w in weights]
    else:
        total = math.fsum(map(float, weights))
        _check_total(name, np.float64(total))
        weights = [float(w) / total if total else float(not k) for k, w in enumerate(weights)]
    result = empty(tensors[0], tensors[0].shape)
    for rows in row_blocks(result.shape):
        A = [w[rows] for w in weights] if by_entry else weights
        numerator = A[0] * widened(tensors[0][rows])
        for a, tensor in zip(A[1:], tensors[1:], strict=True):
            numerator += a * widened(tensor[rows])
        if by_entry:
            total = sum(A[1:], A[0])
            _check_total(name, total)
            none = total == 0
            numerator = (numerator * ~none + tensors[0][rows] * none) / (total + 1.0 * none)
        result[rows] = numerator
    return result


def _like(tensor: Any, weight: Any) -> Any:
    """A weight as an array of the kind, place and shape of a tensor."""
    wide = widened(empty(tensor, 0))
    if not hasattr(wide, "new_tensor"):
        weight = np.asarray(weight, dtype=np.result_type(wide, np.float32))
        return np.broadcast_to(weight, tensor.shape)
    weight = weight.to(wide) if hasattr(weight, "to") else wide.new_tensor(np.asarray(weight))
    return weight.detach().broadcast_to(tensor.shape)


def _check_total(name: str, total: Any) -> None:
    if not bool(((total >= 0) & (total < math.inf)).all()):
        raise ValueError(
            f"average_parameters: weights of {name!r} are NaN or infinite or have a negative sum "
            "over the models"
        )


def _is_softmax(model: Any) -> bool:
    """Whether a common vector added to all rows leaves the predictions as they are."""
    last = final_estimator(model)
    return isinstance(last, SOFTMAX) and len(last.coef_) > 1


def _centered(parameters: Parameters, rows: Any = slice(None)) -> dict[str, Any]:
    """Parameters minus the mean over some rows, in which softmax models are identified."""
    return {n: a - a[rows].mean(axis=0) if a.ndim else a for n, a in parameters.items()}


def _align_classes(estimators: Sequence[Any], weights: Sequence[Any]) -> tuple[list, list]:
    """Parameters with one row a class, and weights under which unknown rows count nothing."""
    first, classes = estimators[0], estimators[-1].classes_
    known = np.isin(classes, first.classes_)
    nested = known.sum() == len(first.classes_) and same_classes(estimators[1:])
    if not nested or not all(hasattr(e, "coef_") for e in estimators):
        raise ValueError(
            "average_parameters: models know different classes, "
            f"{' and '.join(str(list(e.classes_)) for e in estimators)}; only linear classifiers "
            "can be averaged whose first knows a part of the classes that all others know"
        )
    old, *new = [_one_row_a_class(e) for e in estimators]
    if isinstance(first, SOFTMAX):
        old, new = _centered(old), [_centered(p, known) for p in new]
    counts = [{name: _weights_of(name, [w])[0] for name in old} for w in weights]
    for name in old:
        spread = np.mean([p[name] for p in new], axis=0)
        spread[known], count = old[name], np.zeros(spread.shape)
        count[known] = np.broadcast_to(counts[0][name], np.shape(getattr(first, name)))
        old[name], counts[0][name] = spread, count
    return [old, *new], counts


def _one_row_a_class(estimator: Any) -> dict[str, Any]:
    """Coefficients and intercepts by class; those of two classes split into two rows."""
    coef = np.atleast_2d(estimator.coef_)
    intercept = np.broadcast_to(np.asarray(estimator.intercept_), len(coef))
    if len(coef) == 1:
        # Softmax sees the difference of rows, a vote of one class against the rest each of them.
        sign = np.array([-1.0, 1.0]) * (0.5 if isinstance(estimator, SOFTMAX) else 1.0)
        return {"coef_": sign[:, None] * coef, "intercept_": sign * intercept}
    return {"coef_": coef, "intercept_": intercept}

"""The one kernel: a weighted average of parameters, tensor by tensor."""

import math
from collections.abc import Mapping, Sequence
from copy import deepcopy
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from reweight.parameters._class_rows import (
    align_classes,
    centered_rows,
    classes_differ,
    is_softmax,
)
from reweight.parameters._tensors import (
    Parameters,
    broadcast_weight,
    check_names,
    empty_like,
    flat_or_same,
    is_floating,
    plain,
    row_blocks,
    same_shape,
    tied_names,
    widened,
)
from reweight.parameters.views import check_same_inputs, get_parameters, set_parameters


def average_parameters(
    models: Sequence[Any], weights: ArrayLike | Sequence[Mapping[str, Any]] | None = None
) -> Any:
    r"""Average models of one architecture: :math:`(\sum_k A_k)^{-1} \sum_k A_k \theta_k`.

    The weight :math:`A_k` of a model is a number, or for each tensor a number
    or an array. Single weights may be negative, their sum may not. Rules such
    as `stock_weights` and `gradient_matching_weights` make weights.

    Parameters
    ----------
    models : sequence of models
        What `get_parameters` accepts: mappings, torch modules, estimators or
        pipelines, with the same names and shapes. Linear classifiers may know
        more classes than the first: rows of classes that the first does not
        know are those of the average of the others.
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

    See Also
    --------
    pool_estimates : The same with full matrices, covariance and heterogeneity.

    Notes
    -----
    Tensors are read one at a time and in blocks, so that the memory needed
    beyond the models is that of the result, and mappings may load lazily.
    Half precision is accumulated in single. Rows of softmax classifiers are
    centred first where that matters (weights by entry), which leaves their
    predictions as they are. Averages of running statistics of batch
    normalisation are crude: estimate them anew.

    Two networks trained from different starts must not be averaged.

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
    if not models:
        raise ValueError("average_parameters: pass at least one model")
    check_same_inputs(models, "average_parameters")
    weights = _check_weights(weights, len(models))
    template = models[0]
    if classes_differ(models):
        template = models[-1]
        parameters, weights = align_classes(models, weights)
    else:
        parameters = [get_parameters(model) for model in models]
        if isinstance(weights[0], Mapping):
            parameters = [
                centered_rows(p) if is_softmax(m) else p
                for p, m in zip(parameters, models, strict=True)
            ]
    return set_parameters(template, average_mappings(parameters, weights))


def average_mappings(parameters: Sequence[Parameters], weights: Sequence[Any]) -> dict[str, Any]:
    """`average_parameters` of mappings, with checked weights.

    Parameters
    ----------
    parameters : sequence of mappings
        Arrays by name.
    weights : sequence of float or sequence of mappings
        Weight of each.

    Returns
    -------
    dict of str to array
    """
    check_names(parameters, "average_parameters")
    first_of = tied_names(parameters)
    result: dict[str, Any] = {}
    for name in parameters[0]:
        if first_of.get(name, name) in result:
            result[name] = result[first_of[name]]
            continue
        tensors = [plain(p[name]) for p in parameters]
        same_shape(name, tensors, "average_parameters")
        if is_floating(tensors[0]):
            result[name] = _combine(name, tensors, [_weight_of(w, name) for w in weights])
        else:
            result[name] = deepcopy(tensors[-1])
    return result


def _check_weights(weights: Any, n_models: int) -> list[Any]:
    """One number or mapping a model."""
    if weights is None:
        return [1.0] * n_models
    weights = weights.tolist() if hasattr(weights, "tolist") else list(weights)
    if len(weights) != n_models:
        raise ValueError(
            f"average_parameters: got {len(weights)} weights for {n_models} models; pass one a "
            "model"
        )
    if any(isinstance(w, Mapping) for w in weights):
        if not all(isinstance(w, Mapping) for w in weights):
            raise TypeError(
                "average_parameters: weights mix numbers and mappings; pass one kind for all models"
            )
        return weights
    numbers = np.asarray(weights, dtype=np.float64)
    if numbers.ndim != 1 or not np.isfinite(numbers).all() or not math.fsum(numbers) > 0:
        raise ValueError(
            f"average_parameters: weights must have a positive sum and be finite numbers, one a "
            f"model, got {weights}"
        )
    return numbers.tolist()


def _weight_of(weight: Any, name: str) -> Any:
    if not isinstance(weight, Mapping):
        return weight
    if name not in weight:
        raise KeyError(
            f"average_parameters: a mapping of weights lacks {name!r}; give every parameter an "
            "entry, such as 1.0"
        )
    return weight[name]


def _combine(name: str, tensors: list[Any], weights: list[Any]) -> Any:
    """The equation for one tensor."""
    by_entry = any(np.ndim(w) for w in weights)
    if by_entry:
        weights = [broadcast_weight(name, w, tensors[0]) for w in weights]
        result = target = empty_like(tensors[0])
    else:
        weights = [float(w) for w in weights]
        total = math.fsum(weights)
        _check_total(name, total >= 0, total < math.inf)
        # Two infinities of unlike sign leave NaN, which is neither.
        weights = [w / total for w in weights] if total else [1.0] + [0.0] * (len(weights) - 1)
        result = empty_like(tensors[0])
        target, *tensors = flat_or_same([result, *tensors])
    for rows in row_blocks(tensors[0].shape):
        parts = [tensor[rows] for tensor in tensors]
        if by_entry:
            target[rows] = _weighted_by_entry(name, parts, [w[rows] for w in weights])
        else:
            target[rows] = _weighted_sum(parts, weights)
    return result


def _weighted_sum(parts: list[Any], weights: list[Any]) -> Any:
    total = None
    for part, weight in zip(parts, weights, strict=True):
        if isinstance(weight, float) and weight == 0:
            continue
        part = widened(part)
        if total is None:
            total = part * weight
        elif hasattr(total, "add_") and isinstance(weight, float):
            total.add_(part, alpha=weight)  # spares torch a temporary
        else:
            total += part * weight
    return total


def _weighted_by_entry(name: str, parts: list[Any], weights: list[Any]) -> Any:
    denominator = sum(weights[1:], weights[0])
    _check_total(name, bool((denominator >= 0).all()), bool((denominator < math.inf).all()))
    numerator = _weighted_sum(parts, weights)
    empty = denominator == 0
    if bool(empty.any()):
        numerator = numerator * ~empty + widened(parts[0]) * empty
        denominator = denominator + 1.0 * empty
    return numerator / denominator


def _check_total(name: str, not_negative: bool, finite: bool) -> None:
    if not finite:
        raise ValueError(
            f"average_parameters: weights of {name!r} contain NaN or infinite entries; they must "
            "be finite"
        )
    if not not_negative:
        raise ValueError(
            f"average_parameters: weights of {name!r} have a negative sum over the models; single "
            "weights may be negative, their sum may not"
        )

"""Model Stock: how far to trust the mean of a few fits against their common anchor."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reweight.parameters._tensors import (
    check_options,
    empty,
    is_floating,
    row_blocks,
    shared_tensors,
    widened,
)
from reweight.parameters.views import check_models, get_parameters

Array = NDArray[np.float64]


def stock_weights(
    base: Any,
    models: Sequence[Any],
    *,
    granularity: str = "tensor",
    aggregate: str = "cosine",
    clip: bool = True,
) -> list[dict[str, Any]]:
    r"""Weights of Model Stock, from the angles between the fits as seen from the anchor.

    With c the mean cosine between offsets of K fits from the anchor,
    :math:`t = K c / (1 + (K - 1) c)` is the reliability of their mean. The
    anchor gets 1 - t, each fit t / K.

    Parameters
    ----------
    base : model
        Anchor that all fits started from or were shrunk to: whatever
        `get_parameters` takes.
    models : sequence of models
        Two or more fits.
    granularity : {"tensor", "row", "global"}, default="tensor"
        Whether each tensor has its own t, each slice of its first axis, or all
        share one. A tensor of one dimension is one row.
    aggregate : {"cosine", "angle"}, default="cosine"
        Whether cosines or angles are averaged over pairs; the same for two.
    clip : bool, default=True
        Whether to keep t between 0 and 1, with 0 where offsets point apart.

    Returns
    -------
    list of dict of str to float or ndarray
        For `average_parameters([base, *models], weights)`.

    Raises
    ------
    ValueError
        If there are fewer than two models, or they differ in architecture.

    References
    ----------
    Jang, D.-H., Yun, S., Han, D. (2024). Model Stock: all we need is just a few
    fine-tuned models. ECCV.

    Examples
    --------
    >>> import numpy as np
    >>> from reweight import average_parameters, stock_weights
    >>> base = {"w": np.zeros(2)}
    >>> models = [{"w": np.array([2.0, 0.0])}, {"w": np.array([1.0, 1.0])}]
    >>> weights = stock_weights(base, models)
    >>> average_parameters([base, *models], weights)["w"].round(3)
    array([1.243, 0.414])
    """
    check_options("stock_weights", granularity=(granularity, ("tensor", "row", "global")))
    check_options("stock_weights", aggregate=(aggregate, ("cosine", "angle")))
    K = len(models)
    if K < 2:
        raise ValueError(f"stock_weights: needs at least two models besides the base, got {K}")
    check_models([base, *models], "stock_weights")
    parameters = [get_parameters(model) for model in (base, *models)]
    grams = {
        name: _gram_of_offsets(tensors, granularity == "row" and tensors[0].ndim > 1)
        for name, tensors in shared_tensors(parameters, "stock_weights")
        if is_floating(tensors[0])
    }
    if granularity == "global" and grams:
        grams = dict.fromkeys(grams, sum(grams.values()))
    t = {name: _ratio(gram, aggregate, clip) for name, gram in grams.items()}
    each = {name: value / K for name, value in t.items()}
    return [{name: 1 - value for name, value in t.items()}, *(dict(each) for _ in models)]


def _gram_of_offsets(tensors: Sequence[Any], by_row: bool) -> Array:
    """Inner products of the offsets from the first tensor, (K, K), or (n_rows, 1, ..., K, K)."""
    base, *models = tensors
    K, grams = len(models), []
    for rows in row_blocks(base.shape):
        origin = widened(base[rows])
        n_rows = origin.shape[0] if by_row else 1
        offsets = empty(origin, (n_rows, K, math.prod(origin.shape) // n_rows))
        for k, model in enumerate(models):
            offsets[:, k] = (widened(model[rows]) - origin).reshape(n_rows, -1)
        grams.append(np.array((offsets @ offsets.mT).tolist(), dtype=np.float64))
    if by_row:
        return np.concatenate(grams).reshape(-1, *[1] * (base.ndim - 1), K, K)
    return np.sum(grams, axis=(0, 1)) if grams else np.zeros((K, K))


def _ratio(gram: Array, aggregate: str, clip: bool) -> Any:
    """Where on the line from the anchor to the mean, for each Gram matrix."""
    K = gram.shape[-1]
    norms = np.sqrt(np.einsum("...kk->...k", gram))
    lengths = norms[..., None] * norms[..., None, :]
    cosines = np.divide(gram, lengths, out=np.zeros_like(gram), where=lengths > 0).clip(-1, 1)
    pairs = cosines[..., *np.triu_indices(K, 1)]
    if aggregate == "angle":
        pairs = np.cos(np.arccos(pairs).mean(axis=-1, keepdims=True))
    c = pairs.mean(axis=-1)
    below = 1 + (K - 1) * c
    with np.errstate(divide="ignore", invalid="ignore"):
        t = K * c / below
    return np.where(below <= 0, 0.0, t.clip(0, 1))[()] if clip else t

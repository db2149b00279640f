"""Model Stock: how far to trust the mean of a few fits against their common anchor."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reweight.parameters._tensors import (
    BLOCK_ENTRIES,
    check_names,
    is_floating,
    plain,
    row_blocks,
    same_shape,
    widened,
)
from reweight.parameters.views import check_same_inputs, get_parameters

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

    Fits that differ only by noise have offsets :math:`d_k = m + e_k` from the
    anchor, with a common part and independent errors. The mean cosine c between
    offsets is then the share of the common part, and the point nearest to the
    anchor plus m on the line to the mean of K fits is at
    :math:`t = K c / (1 + (K - 1) c)`: the reliability of a mean of K noisy
    measurements. The anchor gets 1 - t, each fit t / K.

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

    See Also
    --------
    average_parameters : Takes the weights.

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
    for name, value, known in (
        ("granularity", granularity, ("tensor", "row", "global")),
        ("aggregate", aggregate, ("cosine", "angle")),
    ):
        if value not in known:
            raise ValueError(f"stock_weights: {name} must be one of {known}, got {value!r}")
    if len(models) < 2:
        raise ValueError(
            f"stock_weights: needs at least two models besides the base, got {len(models)}; the "
            "angle of one alone is not defined"
        )
    check_same_inputs([base, *models], "stock_weights")
    parameters = [get_parameters(model) for model in (base, *models)]
    check_names(parameters, "stock_weights")
    grams: dict[str, Array] = {}
    shapes: dict[str, tuple] = {}
    for name in parameters[0]:
        tensors = [plain(p[name]) for p in parameters]
        same_shape(name, tensors, "stock_weights")
        if is_floating(tensors[0]):
            by_row = granularity == "row" and len(tensors[0].shape) > 1
            grams[name] = _gram_of_offsets(tensors, by_row)
            shapes[name] = tuple(tensors[0].shape) if by_row else ()
    if granularity == "global" and grams:
        grams = dict.fromkeys(grams, sum(grams.values()))
    K = len(models)
    t = {name: _ratio(gram, K, aggregate, clip) for name, gram in grams.items()}
    ratios = {name: _shaped(value, shapes[name]) for name, value in t.items()}
    return [
        {name: 1 - value for name, value in ratios.items()},
        *({name: value / K for name, value in ratios.items()} for _ in range(K)),
    ]


def _gram_of_offsets(tensors: Sequence[Any], by_row: bool) -> Array:
    """Inner products of the offsets from the first tensor, of shape (n_rows or 1, K, K)."""
    base, *models = tensors
    K, shape = len(models), tuple(base.shape)
    grams = []
    for rows in row_blocks(shape, BLOCK_ENTRIES):
        origin = widened(base[rows])
        n_rows = origin.shape[0] if by_row else 1
        size = int(np.prod(origin.shape)) // max(n_rows, 1)
        offsets = _buffer(origin, (n_rows, K, size))
        for k, model in enumerate(models):
            offsets[:, k] = (widened(model[rows]) - origin).reshape(n_rows, size)
        grams.append(np.array((offsets @ offsets.mT).tolist(), dtype=np.float64))
    if by_row:
        return np.concatenate(grams)
    return np.sum(grams, axis=0) if grams else np.zeros((1, K, K))


def _buffer(like: Any, shape: tuple) -> Any:
    return like.new_empty(shape) if hasattr(like, "new_empty") else np.empty(shape, like.dtype)


def _ratio(gram: Array, K: int, aggregate: str, clip: bool) -> Array:
    """Where on the line from the anchor to the mean, for each row of a stack of Gram matrices."""
    upper = np.triu_indices(K, 1)
    norms = np.sqrt(np.einsum("rkk->rk", gram))
    lengths = (norms[:, :, None] * norms[:, None])[:, *upper]
    products = gram[:, *upper]
    cosines = np.divide(products, lengths, out=np.zeros_like(products), where=lengths > 0)
    cosines = cosines.clip(-1, 1)
    if aggregate == "angle":
        c = np.cos(np.arccos(cosines).mean(axis=1))
    else:
        c = cosines.mean(axis=1)
    below = 1 + (K - 1) * c
    with np.errstate(divide="ignore", invalid="ignore"):
        t = K * c / below
    return np.where(below <= 0, 0.0, t.clip(0, 1)) if clip else t


def _shaped(t: Array, shape: tuple) -> Any:
    return t.reshape(-1, *[1] * (len(shape) - 1)) if shape else float(t[0])

"""Weights of clients by how alike what they know is to what is asked."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from reweight.validation import warn_weights


def similarity_weights(
    target: ArrayLike, sources: Sequence[ArrayLike], *, reduce: str = "sum"
) -> NDArray[np.float64]:
    """Weights for models of several clients, by the cosines of their classes with the target's.

    The target's rows are embeddings of its classes, or means of its groups;
    each client's rows are the same for the client.

    Parameters
    ----------
    target : array-like of shape (n_target_rows, n_features)
        Rows to be alike to. Lengths do not matter.
    sources : sequence of array-like of shape (n_rows, n_features)
        Rows of each client, of any number.
    reduce : {"sum", "mean"}, default="sum"
        Whether a client with more rows weighs more, or not.

    Returns
    -------
    ndarray of shape (n_sources,)
        Non-negative weights that sum to one, for `average_parameters`. A client
        that points away from the target gets 0, with a warning.

    Raises
    ------
    ValueError
        If shapes do not fit, entries are not finite, or no client is alike.

    References
    ----------
    Zeng, H., Yue, Z., Wang, D. (2024). Open-vocabulary federated learning with
    multimodal prototyping. NAACL.

    Examples
    --------
    >>> from reweight import similarity_weights
    >>> similarity_weights([[1.0, 0.0]], [[[3.0, 0.0]], [[1.0, 0.0], [0.0, 2.0]]], reduce="mean")
    array([0.66666667, 0.33333333])
    """
    if reduce not in ("sum", "mean"):
        raise ValueError(f"similarity_weights: reduce must be 'sum' or 'mean', got {reduce!r}")
    if not len(sources):
        raise ValueError("similarity_weights: pass the rows of at least one source")
    direction = _unit_rows("target", target).mean(axis=0)
    weights = np.empty(len(sources))
    for k, source in enumerate(sources):
        rows = _unit_rows(f"sources[{k}]", source)
        if rows.shape[1] != len(direction):
            raise ValueError(
                f"similarity_weights: sources[{k}] has {rows.shape[1]} columns but target "
                f"{len(direction)}; use the same features"
            )
        cosines = rows @ direction
        weights[k] = cosines.sum() if reduce == "sum" else cosines.mean()
    negative = weights < 0
    if negative.any():
        warn_weights(
            f"similarity_weights: {int(negative.sum())} of {len(weights)} sources point away from "
            "the target and get weight 0; look at what they hold"
        )
    weights = weights.clip(0)
    if not weights.sum() > 0:
        raise ValueError(
            "similarity_weights: no source is alike to the target, all weights are zero; check "
            "that the features mean the same"
        )
    return weights / weights.sum()


def _unit_rows(name: str, rows: ArrayLike) -> NDArray[np.float64]:
    array = np.asarray(rows, dtype=np.float64)
    if array.ndim != 2 or not array.size or not np.isfinite(array).all():
        raise ValueError(
            f"similarity_weights: {name} must be a finite array of shape (n_rows, n_features), got "
            f"shape {array.shape}"
        )
    norms = np.linalg.norm(array, axis=1, keepdims=True)
    return array / np.where(norms > 0, norms, 1.0)

"""Weights of clients by how alike what they know is to what is asked."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.metrics.pairwise import cosine_similarity

from reweight.parameters._tensors import check_options
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
    check_options("similarity_weights", reduce=(reduce, ("sum", "mean")))
    cosines = [cosine_similarity(target, rows).mean(axis=0) for rows in sources]
    weights = np.array([getattr(row, reduce)() for row in cosines])
    if (weights < 0).any():
        warn_weights(
            f"similarity_weights: {int((weights < 0).sum())} of {len(weights)} sources point away "
            "from the target and get weight 0; look at what they hold"
        )
    weights = weights.clip(0)
    if not weights.sum() > 0:
        raise ValueError(
            "similarity_weights: no source is alike to the target, all weights are zero; check "
            "that the features mean the same"
        )
    return weights / weights.sum()

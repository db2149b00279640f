"""The scale of weights: mean one over each weighted group."""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from reweight.validation import check_groups, check_weights


def effective_sample_size(
    weights: ArrayLike, groups: ArrayLike | None = None
) -> float | NDArray[np.float64]:
    """Kish's effective sample size, (sum w)^2 / sum w^2, per group.

    Parameters
    ----------
    weights : array-like of shape (n_samples,)
        Non-negative weights on any scale.
    groups : array-like of shape (n_samples,), default=None
        Group label of each row; None means one group.

    Returns
    -------
    float or ndarray of shape (n_groups,)
        One value a group, in the order of the sorted labels. A group whose
        weights are all zero has effective size zero.

    Raises
    ------
    ValueError
        If weights are negative, not finite, or not as long as `groups`.

    References
    ----------
    Kish, L. (1965). Survey Sampling. Wiley.

    Examples
    --------
    >>> from reweight import effective_sample_size
    >>> effective_sample_size([1.0, 1.0, 1.0, 1.0])
    4.0
    >>> effective_sample_size([1.0, 1.0, 3.0, 0.0], groups=["a", "a", "b", "b"])
    array([2., 1.])
    """
    weights = check_weights(weights)
    _, codes = check_groups(groups, weights.size)
    # Dividing by the largest weight keeps the squares from overflowing.
    scaled = weights / max(weights.max(initial=0.0), np.finfo(float).tiny)
    total = np.bincount(codes, scaled)
    squares = np.bincount(codes, scaled**2)
    ess = np.divide(total**2, squares, out=np.zeros_like(total), where=squares > 0)
    return float(ess[0]) if groups is None else ess


def normalize_weights(
    w: ArrayLike,
    groups: ArrayLike | None = None,
    sample_weight: ArrayLike | None = None,
) -> NDArray[np.float64]:
    """Scale weights to mean one within each group.

    Parameters
    ----------
    w : array-like of shape (n_samples,)
        Non-negative weights on any scale.
    groups : array-like of shape (n_samples,), default=None
        Group label of each row; None means one group.
    sample_weight : array-like of shape (n_samples,), default=None
        Sampling weights that multiply `w` before it is scaled.

    Returns
    -------
    ndarray of shape (n_samples,)
        Weights that sum to the number of rows in each group.

    Raises
    ------
    ValueError
        If weights are negative, not finite, of the wrong length, or sum to
        zero in a group.

    Examples
    --------
    >>> from reweight import normalize_weights
    >>> normalize_weights([1.0, 3.0, 5.0, 5.0], groups=[0, 0, 1, 1])
    array([0.5, 1.5, 1. , 1. ])
    """
    weights = check_weights(w)
    if sample_weight is not None:
        factor = check_weights(sample_weight, name="sample_weight")
        if factor.size != weights.size:
            raise ValueError(
                f"sample_weight has {factor.size} entries but there are {weights.size} weights; "
                "pass one sampling weight per row"
            )
        weights = weights * factor
    labels, codes = check_groups(groups, weights.size)
    totals = np.bincount(codes, weights)
    if np.any(totals <= 0):
        empty = labels.tolist()[np.argmin(totals)]
        where = "" if groups is None else f" in group {empty!r}"
        raise ValueError(f"the weights{where} sum to zero; at least one must be positive")
    return weights * (np.bincount(codes) / totals)[codes]

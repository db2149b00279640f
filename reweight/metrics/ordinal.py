"""Scores of probabilities of ordered levels."""

import numpy as np
from numpy.typing import ArrayLike
from sklearn.utils import column_or_1d
from sklearn.utils.validation import check_consistent_length

from reweight.validation import check_sample_weight

SUM_TOLERANCE = 1e-6


def ranked_probability_score(
    y_true: ArrayLike,
    y_proba: ArrayLike,
    *,
    labels: ArrayLike | None = None,
    sample_weight: ArrayLike | None = None,
) -> float:
    r"""Mean squared error of cumulative probabilities, summed over boundaries.

    .. math:: \sum_{k=1}^{K-1} \left( \sum_{l \le k} p_l - 1\{y \le k\} \right)^2

    A proper score, smaller is better. Unlike Brier's it charges less for mass on
    a neighbouring level than on a distant one; for two levels it is the squared
    error of the probability. It is the discrete continuous ranked probability
    score.

    Parameters
    ----------
    y_true : array-like of shape (n_samples,)
        Levels.
    y_proba : array-like of shape (n_samples, n_classes) or (n_samples,)
        Probability of each level; one column is that of the second of two levels.
    labels : array-like of shape (n_classes,), default=None
        Levels in the order of the columns, from the lowest to the highest; None is
        the sorted labels of `y_true`.
    sample_weight : array-like of shape (n_samples,), default=None
        Weights of the rows.

    Returns
    -------
    float

    Raises
    ------
    ValueError
        If probabilities are negative or do not sum to one, or levels and columns do
        not match.

    References
    ----------
    Epstein, E. S. (1969). A scoring system for probability forecasts of ranked
    categories. Journal of Applied Meteorology 8, 985-987.

    Examples
    --------
    >>> from reweight import ranked_probability_score
    >>> ranked_probability_score([0, 1, 2], [[0.5, 0.5, 0.0]] * 3)
    0.583

    As a scorer for a grid search:

    >>> from sklearn.metrics import make_scorer
    >>> scorer = make_scorer(
    ...     ranked_probability_score, greater_is_better=False, response_method="predict_proba"
    ... )
    """
    caller = "ranked_probability_score"
    y_true = column_or_1d(y_true)
    P = np.asarray(y_proba, dtype=np.float64)
    if P.ndim == 1:
        P = np.column_stack([1 - P, P])
    check_consistent_length(y_true, P)
    levels = np.unique(y_true) if labels is None else np.asarray(labels)
    if P.ndim != 2 or P.shape[1] != len(levels):
        raise ValueError(
            f"{caller}: y_proba has shape {P.shape} but there are {len(levels)} levels, "
            f"{levels.tolist()}; pass one column per level, and labels if some do not occur"
        )
    if not ((P >= 0).all() and np.allclose(P.sum(axis=1), 1, rtol=0, atol=SUM_TOLERANCE)):
        raise ValueError(
            f"{caller}: rows of y_proba must be non-negative and sum to one; "
            f"smallest entry {P.min():.3g}, sums from {P.sum(axis=1).min():.3g} to "
            f"{P.sum(axis=1).max():.3g}"
        )
    place = {label: code for code, label in enumerate(levels.tolist())}
    unknown = sorted({str(label) for label in y_true.tolist() if label not in place})
    if unknown or len(place) < len(levels):
        raise ValueError(
            f"{caller}: y_true has labels {unknown} that are not among labels {levels.tolist()}, "
            "which must name each level once; pass all levels in their order"
        )
    codes = np.array([place[label] for label in y_true.tolist()])
    weights = check_sample_weight(sample_weight, P)
    cumulative = np.cumsum(P, axis=1)[:, :-1]
    below = codes[:, None] <= np.arange(len(levels) - 1)
    return float(np.average(((cumulative - below) ** 2).sum(axis=1), weights=weights))

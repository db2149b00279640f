"""Counts of edges between predicted classes, corrected for wrong predictions."""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from reweight.validation import warn_weights
from shift.structure._graphs import SUM_TOLERANCE
from shift.structure._pair_counts import PairCounts

LARGEST_CONDITION = 1e6
# Share of the largest count below which negative ones are rounding.
NEGLIGIBLE = 1e-12


def read_confusion(caller: str, confusion: ArrayLike, n_classes: int) -> NDArray[np.float64]:
    """Checked confusion matrix, whose columns sum to one.

    Parameters
    ----------
    caller : str
        Who asks, for error messages.
    confusion : array-like of shape (n_classes, n_classes)
        Share of each class (columns) that is predicted as each class (rows).
    n_classes : int
        Number of classes.

    Returns
    -------
    ndarray of shape (n_classes, n_classes)

    Raises
    ------
    ValueError
        If columns are no probabilities, or the matrix cannot be inverted.
    """
    Q = np.asarray(confusion, dtype=np.float64)
    if Q.shape != (n_classes, n_classes):
        raise ValueError(
            f"{caller}: confusion has shape {Q.shape} but there are {n_classes} classes; pass one "
            "row per predicted and one column per true class"
        )
    total = Q.sum(axis=0)
    if not (Q.min() >= 0 and (np.abs(total - 1) <= SUM_TOLERANCE).all()):
        raise ValueError(
            f"{caller}: columns of confusion must be non-negative and sum to 1, they sum to "
            f"{np.round(total, 4).tolist()}; pass "
            "confusion_matrix(y, predicted, normalize='true').T"
        )
    condition = np.linalg.cond(Q)
    if not condition < LARGEST_CONDITION:
        raise ValueError(
            f"{caller}: confusion has condition number {condition:.2g}, so predictions do not "
            "tell some classes apart; merge these, or pass confusion=None"
        )
    return Q / total


def correct_confusion(caller: str, counts: PairCounts, Q: NDArray[np.float64]) -> PairCounts:
    """What counts would be expected with true classes; negative ones are set to zero.

    Parameters
    ----------
    caller : str
        Who asks, for warnings.
    counts : PairCounts
        Counts by predicted classes, of a whole graph.
    Q : ndarray of shape (n_classes, n_classes)
        Confusion matrix, predictions by rows.

    Returns
    -------
    PairCounts
    """
    edges = np.linalg.solve(Q, np.linalg.solve(Q, counts.edges).T).T
    nodes = np.linalg.solve(Q, counts.receivers)
    negative = 0
    for corrected in (edges, nodes):
        negative += int((corrected < -NEGLIGIBLE * corrected.max()).sum())
    if negative:
        warn_weights(
            f"{caller}: {negative} counts of edges or nodes, corrected for wrong predictions, are "
            f"below zero, the lowest of {edges.min():.4g} edges and {nodes.min():.4g} nodes, and "
            "are set to zero; check confusion, or pass confusion=None"
        )
    edges, nodes = np.maximum(edges, 0.0), np.maximum(nodes, 0.0)
    return PairCounts(edges, nodes, nodes)

"""The two losses of minimax risk classifiers as functions of class scores, and their best rules.

Scores s are (n_rows, n_classes). psi(s) is the convex function that stands in the learning problem,
h(s) the rule that the minimax game answers with, and entropy(P) the risk of the best rule when the
class probabilities are P: psi(s) = max over P in the simplex of s'P + entropy(P).
"""

import numpy as np
from numpy.typing import NDArray
from scipy.special import entr, logsumexp, softmax


def potential(scores: NDArray[np.float64], loss: str) -> NDArray[np.float64]:
    """psi(s) of each row.

    Parameters
    ----------
    scores : ndarray of shape (n_rows, n_classes)
        Class scores.
    loss : {"0-1", "log"}
        Loss of the game.

    Returns
    -------
    ndarray of shape (n_rows,)
    """
    if loss == "log":
        return logsumexp(scores, axis=1)
    return 1.0 + _ranked_means(scores)[0]


def rule(scores: NDArray[np.float64], loss: str) -> NDArray[np.float64]:
    """h(s), the class probabilities of the minimax rule; every row sums to one.

    Parameters
    ----------
    scores : ndarray of shape (n_rows, n_classes)
        Class scores.
    loss : {"0-1", "log"}
        Loss of the game.

    Returns
    -------
    ndarray of shape (n_rows, n_classes)
    """
    if loss == "log":
        return softmax(scores, axis=1)
    # psi - 1 is the largest root of sum_c max(s_c - root, 0) = 1, so nothing is rescaled.
    return np.maximum(scores - _ranked_means(scores)[0][:, None], 0.0)


def entropy(probabilities: NDArray[np.float64], loss: str) -> NDArray[np.float64]:
    """Smallest expected loss when the classes of a row have these probabilities.

    Parameters
    ----------
    probabilities : ndarray of shape (n_rows, n_classes)
        Rows on the simplex.
    loss : {"0-1", "log"}
        Loss of the game.

    Returns
    -------
    ndarray of shape (n_rows,)
    """
    if loss == "log":
        return entr(probabilities).sum(axis=1)
    return 1.0 - probabilities.max(axis=1)


def largest_risk(n_classes: int, loss: str) -> float:
    """Risk of knowing nothing: guessing at random, or equal probabilities."""
    return float(np.log(n_classes)) if loss == "log" else 1.0 - 1.0 / n_classes


def best_subset(scores: NDArray[np.float64]) -> NDArray[np.bool_]:
    """The set S of classes that maximises (sum of s over S - 1) / |S| in each row.

    Parameters
    ----------
    scores : ndarray of shape (n_rows, n_classes)
        Class scores.

    Returns
    -------
    ndarray of bool of shape (n_rows, n_classes)
    """
    _, size, order = _ranked_means(scores)
    member = np.arange(scores.shape[1]) <= size[:, None]
    chosen = np.empty_like(member)
    np.put_along_axis(chosen, order, member, axis=1)
    return chosen


def _ranked_means(scores: NDArray[np.float64]) -> tuple[NDArray, NDArray, NDArray]:
    """max_k (s_(1) + ... + s_(k) - 1) / k, its k - 1, and the classes from best to worst.

    For a given size the best set holds the largest scores, so sorting replaces 2^C - 1 sets.
    """
    order = np.argsort(-scores, axis=1, kind="stable")
    ranked = np.take_along_axis(scores, order, axis=1)
    means = (np.cumsum(ranked, axis=1) - 1.0) / np.arange(1, scores.shape[1] + 1)
    size = np.argmax(means, axis=1)
    return means[np.arange(len(scores)), size], size, order

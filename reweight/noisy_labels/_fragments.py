"""Fragments of an ordered label, pairs whose members are far apart, and agreement about rows."""

from functools import cache

import numpy as np
from numpy.typing import NDArray
from scipy.special import softmax
from sklearn.neighbors import NearestNeighbors

Array = NDArray[np.float64]

# Distance at which a label's own fragment stops to outweigh all others, in percent of the range.
NEARNESS = 0.1


def cut_fragments(labels: Array, n_fragments: int) -> tuple[Array, Array, Array]:
    """Consecutive groups of nearly as many distinct labels each.

    Parameters
    ----------
    labels : ndarray of shape (n_labels,)
        Sorted distinct labels.
    n_fragments : int
        Number of groups.

    Returns
    -------
    lower, upper, centers : ndarray of shape (n_fragments,)
        Smallest and largest label of each, and their middle.
    """
    groups = np.array_split(labels, n_fragments)
    lower = np.array([group[0] for group in groups])
    upper = np.array([group[-1] for group in groups])
    return lower, upper, (lower + upper) / 2


def draw_window(labels: Array, jitter: float, rng: np.random.RandomState) -> Array:
    """Consecutive labels without a share of them, split at random between the ends."""
    buffer = int(jitter * len(labels))
    start = rng.randint(buffer + 1)
    return labels[start : start + len(labels) - buffer]


def match_fragments(lower: Array, upper: Array) -> list[tuple[int, int]]:
    """Perfect matching whose closest pair of fragments is as far apart as possible.

    Parameters
    ----------
    lower, upper : ndarray of shape (n_fragments,)
        Ends of the fragments, in order.

    Returns
    -------
    list of (int, int)
        Pairs, each with its lower fragment first.
    """
    n = len(lower)
    gaps = {(i, j): float(lower[j] - upper[i]) for i in range(n) for j in range(i + 1, n)}

    @cache
    def best(free: int) -> tuple[float, tuple[tuple[int, int], ...]]:
        if not free:
            return np.inf, ()
        first = (free & -free).bit_length() - 1
        found = None
        for partner in range(first + 1, n):
            if free >> partner & 1:
                rest, pairs = best(free & ~(1 << first) & ~(1 << partner))
                worst = min(gaps[first, partner], rest)
                if found is None or worst > found[0]:
                    found = worst, ((first, partner), *pairs)
        return found

    return list(best((1 << n) - 1)[1])


def mixing_weights(y: Array, centers: Array) -> Array:
    """Share of each fragment in the judgement of each row, by nearness of its label.

    Parameters
    ----------
    y : ndarray of shape (n_samples,)
        Labels, scaled so that their range is 100.
    centers : ndarray of shape (n_fragments,)
        On the same scale.

    Returns
    -------
    ndarray of shape (n_samples, n_fragments)
        Rows sum to one.
    """
    return softmax(100 / (np.abs(y[:, None] - centers) + NEARNESS), axis=1)


def neighborly_agreement(agreement: NDArray[np.bool_], mixing: Array) -> Array:
    """Weight of the fragments that claim a row together with a fragment next to them.

    Parameters
    ----------
    agreement : ndarray of bool of shape (n_samples, n_fragments)
        Whether the expert of each fragment takes the row for its own.
    mixing : ndarray of shape (n_samples, n_fragments)
        Weights of the fragments.

    Returns
    -------
    ndarray of shape (n_samples,)
        Between 0 and 1.
    """
    beside = np.zeros_like(agreement)
    beside[:, 1:] |= agreement[:, :-1]
    beside[:, :-1] |= agreement[:, 1:]
    return (mixing * (agreement & beside)).sum(axis=1).clip(0, 1)


def neighbor_votes(
    Z: Array, rows: NDArray[np.intp], is_upper: NDArray[np.bool_], n_neighbors: int
) -> NDArray[np.intp]:
    """How many of the nearest rows of a pair lie in its upper fragment, the row itself left out.

    Parameters
    ----------
    Z : ndarray of shape (n_samples, n_columns)
        Features in which nearness is judged.
    rows : ndarray of int of shape (n_pair,)
        Rows of the pair.
    is_upper : ndarray of bool of shape (n_pair,)
        Fragment of each.
    n_neighbors : int
        Number of votes.

    Returns
    -------
    ndarray of int of shape (n_samples,)
    """
    search = NearestNeighbors(n_neighbors=n_neighbors + 1).fit(Z[rows])
    found = search.kneighbors(Z, return_distance=False)
    number = np.full(len(Z), -1)
    number[rows] = np.arange(len(rows))
    own = found == number[:, None]
    # Of rows that are not found by themselves, the last neighbour is one too many.
    own[~own.any(axis=1), -1] = True
    return is_upper[found[~own].reshape(len(Z), n_neighbors)].sum(axis=1)

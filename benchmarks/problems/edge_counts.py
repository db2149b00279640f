"""Edges between every two of ten classes counted, and each edge weighted by its classes.

The whole fit counts two graphs and weighs the edges of one; "counterpoise" and its peers count one
graph. They are what users do by hand: `np.add.at` on the pairs of labels, products of scipy.sparse
matrices (handed over as such, for them to start from what they like best), and pandas.crosstab.
`error` is the largest difference of an edge probability from that of a sorted count.
"""

from collections.abc import Iterator

import numpy as np
import pandas as pd
from case import Case
from scipy import sparse

from shift import StructuralReweighter, edge_probability

N_CLASSES = 10


def draw(n_edges: int) -> tuple[np.ndarray, np.ndarray]:
    """Random edges among a tenth as many nodes."""
    rng = np.random.default_rng(0)
    n_nodes = n_edges // 10
    return rng.integers(0, n_nodes, (2, n_edges)), rng.integers(0, N_CLASSES, n_nodes)


def sorted_probability(edges: np.ndarray, y: np.ndarray) -> np.ndarray:
    """The same by sorting, which shares nothing with any of the libraries' ways."""
    pairs = np.sort(y[edges[1]] * N_CLASSES + y[edges[0]])
    bounds = np.searchsorted(pairs, np.arange(N_CLASSES**2 + 1))
    sizes = np.diff(np.searchsorted(np.sort(y), np.arange(N_CLASSES + 1)))
    return np.diff(bounds).reshape(N_CLASSES, N_CLASSES) / np.outer(sizes, sizes)


def cases(quick: bool) -> Iterator[Case]:
    for n_edges in [1_000_000] if quick else [1_000_000, 10_000_000]:
        edges, y = draw(n_edges)
        truth = sorted_probability(edges, y)
        size = {"edges": n_edges, "nodes": len(y), "classes": N_CLASSES}

        def judge(B, truth=truth):
            return {"error": float(np.abs(np.asarray(B) - truth).max() / truth.max())}

        def fit(edges=edges, y=y):
            return StructuralReweighter().fit(edges, y, edge_index_target=edges, y_target=y)

        def judge_fit(fitted, judge=judge):
            return judge(fitted.edge_prob_source_)

        yield Case("counterpoise", size, lambda e=edges, y=y: edge_probability(e, y), judge)
        yield Case("counterpoise, whole fit", size, fit, judge_fit)
        yield from peers(edges, y, size, judge)


def peers(edges: np.ndarray, y: np.ndarray, size: dict, judge) -> Iterator[Case]:
    senders, receivers = edges
    n = len(y)

    def add_at():
        N = np.zeros((N_CLASSES, N_CLASSES), dtype=np.int64)
        np.add.at(N, (y[receivers], y[senders]), 1)
        sizes = np.bincount(y)
        return N / np.outer(sizes, sizes)

    A = sparse.csr_array((np.ones(len(senders)), (receivers, senders)), shape=(n, n))

    def products():
        P = sparse.csr_array((np.ones(n), (np.arange(n), y)), shape=(n, N_CLASSES))
        sizes = P.sum(axis=0)
        return (P.T @ A @ P).toarray() / np.outer(sizes, sizes)

    def crosstab():
        sizes = np.bincount(y)
        return pd.crosstab(y[receivers], y[senders]) / np.outer(sizes, sizes)

    yield Case("numpy, add.at", size, add_at, judge)
    yield Case("scipy.sparse", size, products, judge)
    yield Case("pandas.crosstab", size, crosstab, judge)

"""Edges by the classes of the nodes that they join."""

import numpy as np
from numba import njit
from numpy.typing import NDArray


@njit(cache=True, nogil=True)
def _count(senders, receivers, codes, counted, weights, counts):
    everywhere = counted.shape[0] == 0
    unit = weights.shape[0] == 0
    for e in range(senders.shape[0]):
        v = receivers[e]
        if everywhere or counted[v]:
            counts[codes[v], codes[senders[e]]] += 1.0 if unit else weights[e]


@njit(cache=True, nogil=True)
def _take(senders, receivers, codes, weighted, table, out):
    everywhere = weighted.shape[0] == 0
    for e in range(senders.shape[0]):
        v = receivers[e]
        if everywhere or weighted[v]:
            out[e] = table[codes[v], codes[senders[e]]]
        else:
            out[e] = 1.0


def _nodes(nodes: NDArray) -> NDArray:
    """Integers of one of the two kinds that the loops are compiled for."""
    return nodes if nodes.dtype in (np.int32, np.int64) else nodes.astype(np.int64)


def count_pairs(
    senders: NDArray,
    receivers: NDArray,
    codes: NDArray[np.int64],
    n_classes: int,
    *,
    counted: NDArray[np.bool_] | None = None,
    weights: NDArray[np.float64] | None = None,
) -> NDArray[np.float64]:
    """Number, or sum of weights, of the edges between every two classes.

    Nodes and codes must be in range; nothing checks it.

    Parameters
    ----------
    senders : ndarray of int of shape (n_edges,)
        Node that each edge leaves.
    receivers : ndarray of int of shape (n_edges,)
        Node that it arrives at.
    codes : ndarray of int of shape (n_nodes,)
        Class of each node.
    n_classes : int
        Number of classes.
    counted : ndarray of bool of shape (n_nodes,), default=None
        Nodes that an edge must arrive at to count; None is all.
    weights : ndarray of shape (n_edges,), default=None
        What each edge counts for; None is one.

    Returns
    -------
    ndarray of shape (n_classes, n_classes)
        Receivers by rows.

    Examples
    --------
    >>> count_pairs(np.array([0, 1]), np.array([1, 0]), np.array([0, 1]), 2)
    array([[0., 1.],
           [1., 0.]])
    """
    counts = np.zeros((n_classes, n_classes))
    counted = np.zeros(0, dtype=bool) if counted is None else counted
    weights = np.zeros(0) if weights is None else np.ascontiguousarray(weights, dtype=np.float64)
    _count(_nodes(senders), _nodes(receivers), codes, counted, weights, counts)
    return counts


def take_pairs(
    senders: NDArray,
    receivers: NDArray,
    codes: NDArray[np.int64],
    table: NDArray[np.float64],
    *,
    weighted: NDArray[np.bool_] | None = None,
) -> NDArray[np.float64]:
    """Entry of a table for each edge, by the classes of its receiver and its sender.

    Nodes and codes must be in range; nothing checks it.

    Parameters
    ----------
    senders : ndarray of int of shape (n_edges,)
        Node that each edge leaves.
    receivers : ndarray of int of shape (n_edges,)
        Node that it arrives at.
    codes : ndarray of int of shape (n_nodes,)
        Class of each node.
    table : ndarray of shape (n_classes, n_classes)
        Receivers by rows.
    weighted : ndarray of bool of shape (n_nodes,), default=None
        Nodes whose incoming edges look the table up; others get one. None is all.

    Returns
    -------
    ndarray of shape (n_edges,)

    Examples
    --------
    >>> table = np.array([[1.0, 2.0], [3.0, 4.0]])
    >>> take_pairs(np.array([0, 1]), np.array([1, 0]), np.array([0, 1]), table)
    array([3., 2.])
    """
    out = np.empty(len(senders))
    weighted = np.zeros(0, dtype=bool) if weighted is None else weighted
    _take(_nodes(senders), _nodes(receivers), codes, weighted, table, out)
    return out

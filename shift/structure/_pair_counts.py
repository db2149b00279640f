"""Number of edges between every two classes."""

from typing import Any, NamedTuple

import numpy as np
from scipy import sparse

from reweight.kernels.edge_pairs import count_pairs
from shift.structure._graphs import (
    count_nodes,
    is_tensor,
    read_edges,
    read_labels,
    read_receivers,
    to_kind_of,
    to_numpy,
)


class PairCounts(NamedTuple):
    """Edges between classes, receivers by rows, and the nodes of each class on both sides."""

    edges: Any
    receivers: Any
    senders: Any


def pair_counts(
    caller: str,
    graph: Any,
    y: Any,
    n_classes: int | None = None,
    *,
    edge_weight: Any = None,
    receivers: Any = None,
    symmetrize: bool = False,
    names: tuple[str, str, str] = ("edge_index", "y", "receivers"),
) -> PairCounts:
    """Count the edges between every two classes, in expectation for uncertain labels.

    Parameters
    ----------
    caller : str
        Who asks, for error messages.
    graph : array or tensor of shape (2, n_edges), or sparse matrix of shape (n_nodes, n_nodes)
        The edges.
    y : array or tensor of shape (n_nodes,) or (n_nodes, n_classes)
        Codes of the classes, or probabilities.
    n_classes : int, default=None
        Number of classes; None reads it off the labels.
    edge_weight : array or tensor of shape (n_edges,), default=None
        What each edge counts for; None is one.
    receivers : array or tensor of bool of shape (n_nodes,), default=None
        Nodes whose incoming edges count; None is all.
    symmetrize : bool, default=False
        Whether to count each pair of connected nodes once in both directions.
    names : tuple of str
        What the user calls graph, labels and mask.

    Returns
    -------
    PairCounts
    """
    n_nodes = count_nodes(y)
    u, v = read_edges(caller, graph, n_nodes, names[0])
    labels, n_classes = read_labels(caller, y, n_classes, u, names[1])
    mask = read_receivers(caller, receivers, n_nodes, u, names[2])
    if edge_weight is not None:
        edge_weight = to_kind_of(edge_weight, u, floating=True)
        if tuple(edge_weight.shape) != tuple(u.shape) or symmetrize:
            found = f"shape {tuple(edge_weight.shape)}" if not symmetrize else "symmetrize=True"
            raise ValueError(
                f"{caller}: edge_weight needs one number for each of {u.shape[0]} edges and "
                f"symmetrize=False, got {found}; symmetrising counts every edge once"
            )
        if not np.isfinite(to_numpy(edge_weight.sum())):
            raise ValueError(
                f"{caller}: edge_weight has NaN or infinite entries; pass finite numbers"
            )
    if symmetrize:
        u, v = _both_directions(u, v, n_nodes)
    if labels.ndim == 1:
        return _count_codes(u, v, labels, n_classes, edge_weight, mask)
    return _count_probabilities(u, v, labels, edge_weight, mask)


def _both_directions(u: Any, v: Any, n_nodes: int) -> tuple[Any, Any]:
    """Every edge once in each direction, whichever and however often it was listed."""
    if is_tensor(u):
        keys = u.new_empty((2, u.shape[0]))
        keys[0], keys[1] = u * n_nodes + v, v * n_nodes + u
        keys = keys.unique()
        return keys // n_nodes, keys % n_nodes
    ones = np.ones(len(u), dtype=bool)
    A = sparse.csr_array((ones, (u, v)), shape=(n_nodes, n_nodes))
    both = (A + A.T).tocoo()
    return both.row, both.col


def _count_codes(u: Any, v: Any, codes: Any, n_classes: int, weight: Any, mask: Any) -> PairCounts:
    chosen = codes if mask is None else codes[mask]
    if not is_tensor(codes):
        edges = count_pairs(u, v, codes, n_classes, counted=mask, weights=weight)
        sizes = [np.bincount(side, minlength=n_classes) for side in (chosen, codes)]
        return PairCounts(edges, *sizes)
    if mask is not None:
        kept = mask[v]
        u, v = u[kept], v[kept]
        weight = None if weight is None else weight[kept]
    edges = (codes[v] * n_classes + codes[u]).bincount(weight, minlength=n_classes**2)
    sizes = [side.bincount(minlength=n_classes) for side in (chosen, codes)]
    return PairCounts(edges.reshape(n_classes, n_classes), *sizes)


def _count_probabilities(u: Any, v: Any, P: Any, weight: Any, mask: Any) -> PairCounts:
    receivers = P if mask is None else P * mask[:, None]
    if is_tensor(P):
        messages = P[u] if weight is None else P[u] * weight[:, None].to(P.dtype)
        arriving = P.new_zeros(P.shape).index_add(0, v, messages)
    else:
        values = np.ones(len(u)) if weight is None else weight
        arriving = sparse.csr_array((values, (v, u)), shape=(len(P), len(P))) @ P
    return PairCounts(receivers.T @ arriving, receivers.sum(0), P.sum(0))


def pair_probability(counts: PairCounts, smoothing: float = 0.0) -> Any:
    """Edges over pairs of nodes, of every two classes; NaN where there are no pairs.

    Parameters
    ----------
    counts : PairCounts
        Arrays or tensors.
    smoothing : float, default=0.0
        Number of pairs at the overall density that are added to each.

    Returns
    -------
    array or tensor of shape (n_classes, n_classes)
    """
    # Products of counts of nodes can exceed the integers.
    pairs = counts.receivers[:, None] * (counts.senders[None, :] * 1.0)
    density = counts.edges.sum() / pairs.sum()
    absent = pairs == 0
    probability = (counts.edges + smoothing * density) / (pairs + smoothing + 1.0 * absent)
    probability[absent] = float("nan")
    return probability

"""Graphs as users have them, numpy and torch alike; a tensor is known by its methods."""

from typing import Any

import numpy as np
from scipy import sparse

from reweight.validation import lists_as_array

SUM_TOLERANCE = 1e-3


def is_tensor(thing: Any) -> bool:
    """Whether something is a tensor, without importing the library that it would be from."""
    return hasattr(thing, "new_tensor") and hasattr(thing, "index_add")


def to_numpy(thing: Any) -> Any:
    """A tensor or any other array as an array on this machine."""
    return thing.detach().cpu().numpy() if is_tensor(thing) else np.asarray(thing)


def count_nodes(y: Any) -> int:
    """Number of labels, or of rows of probabilities."""
    shape = np.shape(y)
    return int(shape[0]) if shape else 0


def to_kind_of(array: Any, like: Any, *, floating: bool = False) -> Any:
    """An array as tensor on the device of `like`, or as array if `like` is none."""
    if not is_tensor(like):
        return to_numpy(array)
    if is_tensor(array):
        return array.to(like.device)
    # True division leads to the floating type that the library makes by default.
    return like.new_tensor(array, dtype=(like[:0] / 1).dtype if floating else None)


def read_edges(caller: str, graph: Any, n_nodes: int, name: str = "edge_index") -> tuple[Any, Any]:
    """Senders and receivers of the edges of a graph.

    Parameters
    ----------
    caller : str
        Who asks, for error messages.
    graph : array or tensor of shape (2, n_edges), or sparse matrix of shape (n_nodes, n_nodes)
        Senders and receivers, or an adjacency matrix whose entry [u, v] is the
        edge from u to v; entries that are stored but zero are no edges.
    n_nodes : int
        Number of nodes.
    name : str, default="edge_index"
        What the user calls the graph.

    Returns
    -------
    senders, receivers : array or tensor of shape (n_edges,)

    Raises
    ------
    TypeError
        If nodes are not integers.
    ValueError
        If the shape is another one, or nodes are not there.
    """
    if sparse.issparse(graph):
        check_adjacency(caller, graph, n_nodes, name)
        edges = graph.tocoo()
        kept = edges.data != 0
        return (edges.row, edges.col) if kept.all() else (edges.row[kept], edges.col[kept])
    edges = graph if is_tensor(graph) else np.asarray(lists_as_array(graph, name=caller))
    shape = tuple(edges.shape)
    if len(shape) != 2 or shape[0] != 2:
        remedy = "its transpose" if len(shape) == 2 and shape[1] == 2 else "senders and receivers"
        raise ValueError(
            f"{caller}: {name} must have shape (2, n_edges), got {shape}; pass {remedy}, or a "
            "scipy.sparse adjacency matrix"
        )
    if shape[1] == 0:
        edges = edges.long() if is_tensor(edges) else edges.astype(np.intp)
        return edges[0], edges[1]
    if not _is_integer(edges):
        raise TypeError(
            f"{caller}: {name} holds {edges.dtype} values, but nodes are numbered by integers; "
            "convert it to int64"
        )
    lowest, highest = int(edges.min()), int(edges.max())
    if lowest < 0 or highest >= n_nodes:
        worst = lowest if lowest < 0 else highest
        raise ValueError(
            f"{caller}: {name} has an edge at node {worst} but there are {n_nodes} labels, so "
            f"nodes are numbered from 0 to {n_nodes - 1}; pass one label per node, or renumber"
        )
    edges = edges.long() if is_tensor(edges) else edges
    return edges[0], edges[1]


def check_adjacency(caller: str, A: Any, n_nodes: int, name: str) -> None:
    """Refuse an adjacency matrix that does not have one row and one column per label."""
    if A.shape != (n_nodes, n_nodes):
        raise ValueError(
            f"{caller}: {name} is an adjacency matrix of shape {A.shape} but there are {n_nodes} "
            "labels; pass one row and one column per label"
        )


def _is_integer(array: Any) -> bool:
    if is_tensor(array):
        named = str(array.dtype)
        return "int" in named and "q" not in named
    return array.dtype.kind in "iu"


def read_labels(
    caller: str, y: Any, n_classes: int | None, like: Any, name: str = "y"
) -> tuple[Any, int]:
    """Class of each node as code, or its probabilities, and the number of classes.

    Parameters
    ----------
    caller : str
        Who asks, for error messages.
    y : array or tensor of shape (n_nodes,) or (n_nodes, n_classes)
        Codes from 0, or probabilities.
    n_classes : int or None
        Number of classes; None reads it off the labels.
    like : array or tensor
        What to make the labels alike.
    name : str, default="y"
        What the user calls the labels.

    Returns
    -------
    labels : array or tensor
        Of one dimension for codes, of two for probabilities.
    n_classes : int

    Raises
    ------
    TypeError
        If codes are not integers.
    ValueError
        If labels are missing, out of range, or no probabilities.
    """
    labels = y if is_tensor(y) else np.asarray(y)
    if labels.ndim not in (1, 2) or 0 in labels.shape:
        raise ValueError(
            f"{caller}: {name} has shape {tuple(labels.shape)}; pass one label per node, or one "
            "row of class probabilities"
        )
    if labels.ndim == 2:
        return _read_probabilities(caller, labels, n_classes, like, name)
    missing = (
        not is_tensor(labels) and labels.dtype.kind == "f" and int((~np.isfinite(labels)).sum())
    )
    if missing:
        raise ValueError(
            f"{caller}: {name} has {missing} labels that are NaN or infinite; predict them first, "
            "or pass probabilities"
        )
    if not _is_integer(labels):
        raise TypeError(
            f"{caller}: {name} holds {labels.dtype} values; pass integer codes from 0, such as "
            "those of sklearn.preprocessing.LabelEncoder, or let StructuralReweighter encode them"
        )
    lowest, highest = int(labels.min()), int(labels.max())
    n_classes = highest + 1 if n_classes is None else n_classes
    if lowest < 0 or highest >= n_classes:
        worst = lowest if lowest < 0 else highest
        raise ValueError(
            f"{caller}: {name} has label {worst}, outside 0 to {n_classes - 1}; give unlabelled "
            "nodes a predicted label, or pass the number of classes that there are"
        )
    codes = to_kind_of(labels, like)
    # Products of small integers would overflow.
    return (codes.long() if is_tensor(codes) else codes.astype(np.intp, copy=False)), n_classes


def _read_probabilities(
    caller: str, P: Any, n_classes: int | None, like: Any, name: str
) -> tuple[Any, int]:
    if n_classes is not None and P.shape[1] != n_classes:
        raise ValueError(
            f"{caller}: {name} has {P.shape[1]} columns but there are {n_classes} classes; pass "
            "one probability per class"
        )
    total = to_numpy(P.sum(1))
    # Written so that NaN fails.
    wrong = ~(np.abs(total - 1) <= SUM_TOLERANCE)
    if wrong.any() or not P.min() >= 0:
        row = int(np.argmax(wrong)) if wrong.any() else int(to_numpy(P).min(axis=1).argmin())
        raise ValueError(
            f"{caller}: row {row} of {name} is not a set of probabilities: it must be "
            f"non-negative and sum to 1, and sums to {total[row]:.4g}; pass those of "
            "predict_proba, or one label per node"
        )
    P = to_kind_of(P, like, floating=True)
    if not is_tensor(P):
        P = P.astype(np.float64, copy=False)
    return P, P.shape[1]


def read_receivers(caller: str, receivers: Any, n_nodes: int, like: Any, name: str) -> Any:
    """Mask of the nodes whose incoming edges count, or None for all.

    Parameters
    ----------
    caller : str
        Who asks, for error messages.
    receivers : array or tensor of bool of shape (n_nodes,) or None
        The mask.
    n_nodes : int
        Number of nodes.
    like : array or tensor
        What to make the mask alike.
    name : str
        What the user calls the mask.

    Returns
    -------
    array or tensor of bool, or None

    Raises
    ------
    ValueError
        If it is no mask, or an empty one.
    """
    if receivers is None:
        return None
    mask = to_numpy(receivers)
    if mask.dtype.kind != "b" or mask.shape != (n_nodes,) or not mask.any():
        raise ValueError(
            f"{caller}: {name} must be a mask of {n_nodes} booleans, at least one of them True, "
            f"got {mask.dtype} of shape {mask.shape}; pass one per node"
        )
    return like.new_tensor(mask).bool() if is_tensor(like) else mask

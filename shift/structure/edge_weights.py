"""How often classes connect, how that differs between graphs, and weights that make up for it.

Functions of arrays and tensors alike: what goes in as tensor comes out as tensor on its device.
"""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from reweight.kernels.edge_pairs import take_pairs
from shift.structure._graphs import (
    count_nodes,
    is_tensor,
    read_edges,
    read_labels,
    read_receivers,
    to_kind_of,
    to_numpy,
)
from shift.structure._pair_counts import pair_counts, pair_probability


def edge_probability(
    edge_index: Any,
    y: Any,
    n_classes: int | None = None,
    *,
    edge_weight: Any = None,
    receivers: Any = None,
    smoothing: float = 0.0,
    symmetrize: bool = False,
) -> Any:
    r"""Share of the pairs of nodes that an edge connects, for every two classes.

    :math:`B_{ij} = N_{ij} / (c_i c_j)`, where :math:`N_{ij}` is the number of
    edges from a node of class j to a node of class i and :math:`c_i` that of
    nodes of class i. Rows are the class that receives. The diagonal divides by
    :math:`c_i^2`, as the source does.

    Parameters
    ----------
    edge_index : array-like or tensor of shape (2, n_edges), or sparse matrix
        Senders and receivers, or a scipy.sparse adjacency matrix whose entry
        [u, v] is the edge from u to v; its values are not looked at.
    y : array-like or tensor of shape (n_nodes,) or (n_nodes, n_classes)
        Class of each node as code from 0, or class probabilities, with which
        counts are expectations.
    n_classes : int, default=None
        Number of classes; None is one more than the largest code.
    edge_weight : array-like or tensor of shape (n_edges,), default=None
        What each edge counts for; None is one.
    receivers : array-like or tensor of bool of shape (n_nodes,), default=None
        Mask of the nodes that edges must arrive at to count, as do these nodes
        in :math:`c_i`; None is all.
    smoothing : float, default=0.0
        Number of pairs at the overall density that are added to those of every
        two classes. One tames pairs of classes with few nodes.
    symmetrize : bool, default=False
        Whether to count each pair of connected nodes once in both directions.

    Returns
    -------
    ndarray or tensor of shape (n_classes, n_classes)
        NaN where a class has no nodes.

    Raises
    ------
    TypeError
        If nodes or codes are not integers.
    ValueError
        If shapes do not match, nodes or labels are out of range, or rows are
        no probabilities.

    References
    ----------
    Liu, S., Li, T., Feng, Y., Tran, N., Zhao, H., Qiu, Q., Li, P. (2023).
    Structural re-weighting improves graph domain adaptation. ICML.

    Examples
    --------
    >>> from shift import edge_probability
    >>> edge_probability([[0, 0, 1, 2], [1, 2, 2, 3]], [0, 0, 1, 2])
    array([[0.25, 0.  , 0.  ],
           [1.  , 0.  , 0.  ],
           [0.  , 1.  , 0.  ]])
    """
    caller = "edge_probability"
    if not 0 <= smoothing < np.inf:
        raise ValueError(f"{caller}: smoothing={smoothing} must be a finite number, at least 0")
    counts = pair_counts(
        caller,
        edge_index,
        y,
        n_classes,
        edge_weight=edge_weight,
        receivers=receivers,
        symmetrize=symmetrize,
    )
    return pair_probability(counts, smoothing)


def edge_weights(
    edge_index: Any,
    y: Any,
    ratio: Any,
    *,
    strength: float = 1.0,
    receivers: Any = None,
) -> Any:
    r"""Weight of each edge by the classes that it connects.

    An edge from u to v weighs :math:`1 - \lambda + \lambda W_{y_v y_u}`. The
    weight belongs on the message, after normalisation by the degrees of the
    graph without weights: dividing by weighted degrees would undo much of it.
    A layer that only takes edge weights and divides by their sums, such as the
    usual graph convolution of a library, does so. Ten lines do without:

    .. code-block:: python

        def convolve(x, edge_index, weights, normalize="mean"):
            sender, receiver = edge_index
            degree = receiver.bincount(minlength=len(x)).clamp(min=1).to(x.dtype)
            if normalize == "mean":
                scale = 1 / degree[receiver]
            else:
                scale = (degree[sender] * degree[receiver]) ** -0.5
            messages = (scale * weights)[:, None] * x[sender]
            return x.new_zeros(x.shape).index_add(0, receiver, messages)

    Parameters
    ----------
    edge_index : array-like or tensor of shape (2, n_edges)
        Senders and receivers.
    y : array-like or tensor of shape (n_nodes,) or (n_nodes, n_classes)
        Class of each node as code from 0, or class probabilities, with which
        weights are expectations.
    ratio : array-like or tensor of shape (n_classes, n_classes)
        Weight of every two classes, receivers by rows, such as `ratio_` of
        `StructuralReweighter`.
    strength : float, default=1.0
        :math:`\lambda`, from 0 for weights of one to 1 for the ratio itself.
    receivers : array-like or tensor of bool of shape (n_nodes,), default=None
        Mask of the nodes whose incoming edges are weighted; those into other
        nodes weigh one. None is all.

    Returns
    -------
    ndarray or tensor of shape (n_edges,)
        For tensors, on the device of `edge_index` and of the library's default
        floating type, or that of the probabilities.

    Raises
    ------
    TypeError
        If nodes or codes are not integers, or the graph is a sparse matrix.
    ValueError
        If shapes do not match, nodes or labels are out of range, ratios are
        negative or not finite, or the strength is not between 0 and 1.

    References
    ----------
    Liu, S., Li, T., Feng, Y., Tran, N., Zhao, H., Qiu, Q., Li, P. (2023).
    Structural re-weighting improves graph domain adaptation. ICML.

    Examples
    --------
    The same ten lines are two with an adjacency matrix, here for the mean over
    neighbours:

    >>> import numpy as np
    >>> from scipy.sparse import csr_array
    >>> from shift import edge_weights
    >>> senders, receivers = edge_index = np.array([[0, 1, 1], [1, 0, 2]])
    >>> weights = edge_weights(edge_index, [0, 1, 1], [[1.0, 0.5], [2.0, 1.0]])
    >>> weights
    array([2. , 0.5, 1. ])
    >>> A = csr_array((weights, (receivers, senders)), shape=(3, 3))
    >>> A @ np.array([10.0, 20.0, 30.0]) / np.bincount(receivers)
    array([10., 20., 20.])
    """
    caller = "edge_weights"
    if hasattr(edge_index, "tocoo"):
        raise TypeError(
            f"{caller}: edge_index is a sparse matrix; pass senders and receivers, or use "
            "StructuralReweighter.transform_adjacency"
        )
    if not 0 <= strength <= 1:
        raise ValueError(f"{caller}: strength={strength} must lie between 0 and 1")
    return weigh_edges(caller, edge_index, y, _read_ratio(caller, ratio), strength, receivers)


def weigh_edges(
    caller: str, edge_index: Any, y: Any, W: NDArray[np.float64], strength: float, receivers: Any
) -> Any:
    """Weights of edges as `edge_weights` gives them, for whoever has checked the ratio.

    Parameters
    ----------
    caller : str
        Who asks, for error messages.
    edge_index : array or tensor of shape (2, n_edges)
        Senders and receivers.
    y : array or tensor of shape (n_nodes,) or (n_nodes, n_classes)
        Codes of the classes, or probabilities.
    W : ndarray of shape (n_classes, n_classes)
        Weight of every two classes.
    strength : float
        Share of it.
    receivers : array or tensor of bool of shape (n_nodes,) or None
        Nodes whose incoming edges are weighted.

    Returns
    -------
    ndarray or tensor of shape (n_edges,)
    """
    n_nodes = count_nodes(y)
    u, v = read_edges(caller, edge_index, n_nodes)
    labels, n_classes = read_labels(caller, y, len(W), u)
    mask = read_receivers(caller, receivers, n_nodes, u, "receivers")
    table = to_kind_of(1 - strength + strength * W, u, floating=True)
    if labels.ndim == 1 and not is_tensor(labels):
        return take_pairs(u, v, labels, table, weighted=mask)
    if labels.ndim == 1:
        weights = table.ravel()[labels[v] * n_classes + labels[u]]
    else:
        table = table.to(labels.dtype) if is_tensor(table) else table
        weights = ((labels @ table)[v] * labels[u]).sum(1)
    if mask is not None:
        weights[~mask[v]] = 1.0
    return weights


def _read_ratio(caller: str, ratio: Any) -> NDArray[np.float64]:
    W = to_numpy(ratio).astype(np.float64)
    if W.ndim != 2 or W.shape[0] != W.shape[1]:
        raise ValueError(
            f"{caller}: ratio has shape {W.shape}; pass one row and one column per class"
        )
    wrong = ~((W >= 0) & np.isfinite(W))
    if wrong.any():
        raise ValueError(
            f"{caller}: ratio has {int(wrong.sum())} entries that are negative or not finite; put "
            "1 where the source has no edges, as ratio_ of StructuralReweighter does"
        )
    return W


def structure_shift(edge_prob_source: ArrayLike, edge_prob_target: ArrayLike) -> dict[str, float]:
    r"""How differently classes connect in two graphs, as three means over pairs of classes.

    Pairs of which a class is absent from a graph, marked by NaN, are left out.

    Parameters
    ----------
    edge_prob_source : array-like or tensor of shape (n_classes, n_classes)
        Edge probabilities of the source, such as those of `edge_probability`.
    edge_prob_target : array-like or tensor of shape (n_classes, n_classes)
        Those of the target.

    Returns
    -------
    dict
        With these entries:

        absolute : float
            Mean of :math:`|B^T - B^S|`.
        log : float
            Mean of :math:`|\log(B^S / B^T)|`, to which a pair without edges in
            one of the graphs adds nothing.
        relative : float
            Mean of :math:`|B^T - B^S| (1/B^S + 1/B^T) / 2`; if one of the
            inverses is infinite, the other stands for both.

    Raises
    ------
    ValueError
        If the matrices are not square, not alike, negative, or have no pair in
        common.

    References
    ----------
    Liu, S., Li, T., Feng, Y., Tran, N., Zhao, H., Qiu, Q., Li, P. (2023).
    Structural re-weighting improves graph domain adaptation. ICML.

    Examples
    --------
    >>> from shift import structure_shift
    >>> structure_shift([[0.2, 0.1], [0.1, 0.2]], [[0.2, 0.2], [0.2, 0.2]])
    {'absolute': 0.05, 'log': 0.346, 'relative': 0.375}
    """
    B = [to_numpy(given).astype(np.float64) for given in (edge_prob_source, edge_prob_target)]
    if B[0].ndim != 2 or B[0].shape[0] != B[0].shape[1] or B[0].shape != B[1].shape:
        raise ValueError(
            f"structure_shift: edge probabilities have shapes {B[0].shape} and {B[1].shape}; pass "
            "two square matrices with one row and one column per class"
        )
    known = ~np.isnan(B[0] + B[1])
    source, target = B[0][known], B[1][known]
    if not known.any() or min(source.min(), target.min()) < 0 or np.isinf(source + target).any():
        raise ValueError(
            "structure_shift: edge probabilities must be non-negative and finite for at least one "
            "pair of classes; pass those of edge_probability, with the same n_classes for both"
        )
    difference = np.abs(target - source)
    both = (source > 0) & (target > 0)
    logs = np.zeros(len(source))
    logs[both] = np.abs(np.log(source[both] / target[both]))
    smaller, larger = np.minimum(source, target), np.maximum(source, target)
    relative = np.zeros(len(source))
    relative[both] = difference[both] * 0.5 * (1 / source[both] + 1 / target[both])
    relative[(smaller == 0) & (larger > 0)] = 1.0
    means = {"absolute": difference, "log": logs, "relative": relative}
    return {name: float(values.mean()) for name, values in means.items()}

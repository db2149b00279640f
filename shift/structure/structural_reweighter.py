"""Structural re-weighting of graphs."""

from numbers import Real
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import sparse
from sklearn.base import BaseEstimator
from sklearn.utils._param_validation import Interval
from sklearn.utils.validation import check_is_fitted

from reweight.validation import warn_weights
from shift.structure._confusion import correct_confusion, read_confusion
from shift.structure._graphs import check_adjacency, is_tensor, to_numpy
from shift.structure._pair_counts import PairCounts, pair_counts, pair_probability
from shift.structure.edge_weights import structure_shift, weigh_edges

LARGEST_CAPPED_SHARE = 0.05

Matrix = NDArray[np.float64]


class _Graph(NamedTuple):
    edges: Any
    labels: Any
    receivers: Any


class StructuralReweighter(BaseEstimator):
    r"""Edge weights that make the classes of a graph connect as in another graph.

    A graph network learns what the neighbours of a node say about its class.
    In a target graph where classes connect differently, the same neighbours
    say something else. With :math:`B_{ij}` the share of pairs of nodes of
    class i (receiving) and j (sending) that an edge connects, found from labels in
    the source and from predictions in the target, an edge of the source weighs
    :math:`1 - \lambda + \lambda B^T_{ij} / B^S_{ij}`, and the messages that a
    network trained on the source aggregates have the make-up of the target's.

    Train without weights first, predict the target, fit, go on training with
    the weights, and repeat every few epochs. The weight belongs on the message
    after normalisation by degrees without weights: see `edge_weights`. Under
    strong shift this recovers about what the features of nodes alone give;
    under mild shift it can cost a point of accuracy. It is not for shifts of
    the features, nor for predictions near chance.

    Parameters
    ----------
    strength : float, default=0.5
        :math:`\lambda`, from 0 for weights of one to 1 for the full ratio.
        Choose it by a few labels of the target.
    smoothing : float, default=0.0
        Number of pairs at the overall density that are added to those of every
        two classes; one tames pairs of classes with few nodes.
    symmetrize : bool, default=False
        Whether to count each pair of connected nodes once in both directions,
        which changes the counts of directed graphs and of repeated edges only.
    max_ratio : float, default=None
        Largest ratio; None is no cap.
    confusion : array-like of shape (n_classes, n_classes), default=None
        Share of the nodes of each class (columns) that are predicted as each
        class (rows), from source nodes held out, by which counts of the target
        are corrected for wrong predictions. It assumes that errors do not
        depend on edges, given the classes. With scikit-learn it is
        `confusion_matrix(y, predicted, normalize="true").T`; for
        probabilities, their mean in each class.
    classes : array-like of shape (n_classes,), default=None
        Classes in the order of the columns of probabilities; None is all
        labels, sorted.

    Attributes
    ----------
    edge_weights_ : ndarray or tensor of shape (n_edges,), sparse matrix, or list
        Weights of the source edges, in the form that `edge_index` had. They
        are not on a scale of mean one.
    ratio_ : ndarray of shape (n_classes, n_classes)
        Ratio of the edge probabilities, receivers by rows; one where the
        source has no such edges or a graph no such nodes.
    edge_prob_source_ : ndarray of shape (n_classes, n_classes)
        Edge probabilities of the source; NaN where a class has no nodes.
    edge_prob_target_ : ndarray of shape (n_classes, n_classes)
        Those of the target.
    shift_metrics_ : dict
        How much they differ: see `structure_shift`.
    classes_ : ndarray of shape (n_classes,)
        Classes in the order of rows and columns.

    See Also
    --------
    edge_weights : The weights from a ratio, and the layer that obeys them.
    edge_probability : The probabilities from a graph.
    class_pair_plot : A picture of the ratio.

    References
    ----------
    Liu, S., Li, T., Feng, Y., Tran, N., Zhao, H., Qiu, Q., Li, P. (2023).
    Structural re-weighting improves graph domain adaptation. ICML.

    Examples
    --------
    >>> import numpy as np
    >>> from shift import StructuralReweighter
    >>> source = np.array([[0, 0, 1, 2], [1, 2, 2, 3]])
    >>> target = np.array([[0, 3, 2], [2, 1, 3]])
    >>> labels = ["a", "a", "b", "c"]
    >>> reweighter = StructuralReweighter(strength=1.0)
    >>> reweighter.fit(source, labels, edge_index_target=target, y_target=labels).edge_weights_
    array([0. , 0.5, 0.5, 1. ])
    """

    _parameter_constraints = {
        "strength": [Interval(Real, 0, 1, closed="both")],
        "smoothing": [Interval(Real, 0, None, closed="left")],
        "symmetrize": ["boolean"],
        "max_ratio": [Interval(Real, 0, None, closed="neither"), None],
        "confusion": ["array-like", None],
        "classes": ["array-like", None],
    }

    def __init__(
        self,
        strength: float = 0.5,
        *,
        smoothing: float = 0.0,
        symmetrize: bool = False,
        max_ratio: float | None = None,
        confusion: ArrayLike | None = None,
        classes: ArrayLike | None = None,
    ) -> None:
        self.strength = strength
        self.smoothing = smoothing
        self.symmetrize = symmetrize
        self.max_ratio = max_ratio
        self.confusion = confusion
        self.classes = classes

    def fit(
        self,
        edge_index: Any,
        y: Any = None,
        *,
        edge_index_target: Any = None,
        y_target: Any = None,
        receivers: Any = None,
        receivers_target: Any = None,
    ) -> Self:
        """Find how often the classes connect in source and target, and weigh the source's edges.

        Every argument may be a list, with one entry per graph; edge probabilities are
        then means over graphs. Source and target may be parts of one graph:
        pass the graph and its labels, true or predicted, twice, and the nodes of
        either part as `receivers` and `receivers_target`.

        Parameters
        ----------
        edge_index : array-like or tensor of shape (2, n_edges), or sparse matrix
            Senders and receivers of the source, or a scipy.sparse adjacency
            matrix whose entry [u, v] is the edge from u to v.
        y : array-like or tensor of shape (n_nodes,)
            Classes of its nodes.
        edge_index_target : array-like or tensor of shape (2, n_edges_target), or sparse matrix
            The same of the target.
        y_target : array-like or tensor of shape (n_nodes_target,) or (n_nodes_target, n_classes)
            Predicted classes or class probabilities of its nodes; put true
            labels in their place where they are known.
        receivers : array-like or tensor of bool of shape (n_nodes,), default=None
            Mask of the source nodes whose incoming edges count and are
            weighted; None is all.
        receivers_target : array-like or tensor of bool of shape (n_nodes_target,), default=None
            Mask of the target nodes whose incoming edges count; None is all.

        Returns
        -------
        Self

        Raises
        ------
        TypeError
            If nodes are not integers.
        ValueError
            If an argument is missing, shapes do not match, nodes are out of range, labels are
            missing, rows are no probabilities, or a graph has no edges.
        """
        self._validate_params()
        sources = self._graphs(edge_index, y, receivers, names=("edge_index", "y", "receivers"))
        names = ("edge_index_target", "y_target", "receivers_target")
        targets = self._graphs(edge_index_target, y_target, receivers_target, names=names)
        self.classes_ = self._find_classes([graph.labels for graph in sources + targets])
        counts = [self._count(graph, ("edge_index", "y", "receivers")) for graph in sources]
        counts_target = [self._count(graph, names) for graph in targets]
        if self.confusion is not None:
            self._check_confusion_applies(targets)
            Q = read_confusion(type(self).__name__, self.confusion, len(self.classes_))
            counts_target = [correct_confusion(type(self).__name__, c, Q) for c in counts_target]
        self._warn_of_absent(counts, counts_target)
        self.edge_prob_source_ = _mean_probability(counts, self.smoothing)
        self.edge_prob_target_ = _mean_probability(counts_target, self.smoothing)
        self.shift_metrics_ = structure_shift(self.edge_prob_source_, self.edge_prob_target_)
        self.ratio_ = self._ratio(sum(c.edges for c in counts))
        weights = [self._weigh(*graph) for graph in sources]
        self.edge_weights_ = weights if _is_list_of_graphs(edge_index) else weights[0]
        return self

    def _graphs(self, edges: Any, labels: Any, masks: Any, *, names: tuple) -> list[_Graph]:
        """The graphs given, one or a list of them, with labels that are arrays or tensors."""
        name = type(self).__name__
        for given, argument in ((edges, names[0]), (labels, names[1])):
            if given is None:
                raise ValueError(
                    f"{name} requires {argument} to be passed, but it is None; pass the edges and "
                    "labels of the source, and the edges and predicted labels of the target"
                )
        if not _is_list_of_graphs(edges):
            edges, labels, masks = [edges], [labels], [masks]
        masks = [None] * len(edges) if masks is None else masks
        if not len(edges) == len(labels) == len(masks):
            raise ValueError(
                f"{name}: {names[0]} has {len(edges)} graphs, {names[1]} {len(labels)} and "
                f"{names[2]} {len(masks)}; pass lists with one entry per graph"
            )
        return [
            _Graph(graph, self._read_labels(y, names[1]), mask)
            for graph, y, mask in zip(edges, labels, masks, strict=True)
        ]

    def _read_labels(self, y: Any, argument: str) -> Any:
        """Probabilities as they are, labels as array without missing entries."""
        array = y if is_tensor(y) else np.asarray(y)
        if array.ndim == 2:
            return array
        array = to_numpy(array)
        if array.dtype.kind in "fO":
            missing = array != array
            if array.dtype.kind == "f":
                missing = ~np.isfinite(array)
            if array.dtype.kind == "O":
                missing |= np.array([value is None for value in array.ravel()])
            if missing.any():
                raise ValueError(
                    f"{type(self).__name__}: {argument} has {int(missing.sum())} labels that are "
                    "missing, NaN or infinite; predict them first, or pass probabilities"
                )
        return array

    def _find_classes(self, labels: list[Any]) -> NDArray:
        name = type(self).__name__
        codes = [y for y in labels if y.ndim == 1]
        if len({y.dtype.kind in "biuf" for y in codes}) > 1:
            raise ValueError(
                f"{name}: labels are numbers in one graph and text in another; pass labels of one "
                "kind"
            )
        width = {y.shape[1] for y in labels if y.ndim == 2}
        seen = np.unique(np.concatenate(codes)) if codes else np.arange(max(width, default=0))
        classes = seen if self.classes is None else np.asarray(self.classes)
        if classes.ndim != 1 or len(np.unique(classes)) < len(classes):
            raise ValueError(f"{name}: classes={classes.tolist()} must be a list of labels")
        unknown = np.setdiff1d(seen, classes) if codes else []
        if len(unknown):
            raise ValueError(
                f"{name}: labels {unknown[:5].tolist()} are not in classes={classes.tolist()}; "
                "list every class, in the order of the columns of probabilities"
            )
        if len(classes) < 2 or width - {len(classes)}:
            raise ValueError(
                f"{name}: there are {len(classes)} classes {classes.tolist()[:10]}, and "
                f"probabilities with {sorted(width)} columns; pass one column per class, at least "
                "two, and classes= if labels lack some of them"
            )
        return classes

    def _encode(self, y: Any) -> Any:
        """Code of each label; probabilities pass."""
        if y.ndim == 2:
            return y
        order = np.argsort(self.classes_, kind="stable")
        place = np.searchsorted(self.classes_[order], y).clip(max=len(order) - 1)
        codes = order[place]
        unknown = np.unique(y[self.classes_[codes] != y])
        if len(unknown):
            raise ValueError(
                f"{type(self).__name__}: y has labels {unknown[:5].tolist()} that are not in "
                f"classes_={self.classes_.tolist()}; fit with graphs that have them, or classes="
            )
        return codes

    def _count(self, graph: _Graph, names: tuple) -> PairCounts:
        """Counts on the machine of the graph, handed over as arrays."""
        name = type(self).__name__
        counts = pair_counts(
            name,
            graph.edges,
            self._encode(graph.labels),
            len(self.classes_),
            receivers=graph.receivers,
            symmetrize=self.symmetrize,
            names=names,
        )
        counts = PairCounts(*(to_numpy(part).astype(np.float64) for part in counts))
        if not counts.edges.sum() > 0:
            arriving = "" if graph.receivers is None else f" that arrives at {names[2]}"
            raise ValueError(
                f"{name}: {names[0]} has no edge{arriving}, so nothing can be said of its "
                "structure; pass a graph with edges"
            )
        return counts

    def _check_confusion_applies(self, targets: list[_Graph]) -> None:
        if any(graph.receivers is not None for graph in targets):
            raise ValueError(
                f"{type(self).__name__}: confusion corrects predicted labels of a whole target "
                "graph, but receivers_target is given, beyond which labels may be true ones; "
                "leave one of them out"
            )

    def _warn_of_absent(self, counts: list[PairCounts], counts_target: list[PairCounts]) -> None:
        absent = {}
        for graph, many in (("source", counts), ("target", counts_target)):
            present = sum((c.receivers > 0) & (c.senders > 0) for c in many) > 0
            absent[graph] = self.classes_[~present].tolist()
        lines = [f"{labels} in the {graph}" for graph, labels in absent.items() if labels]
        if lines:
            warn_weights(
                f"{type(self).__name__}: no nodes of classes {' and '.join(lines)}, so edges that "
                "they take part in weigh one; look at the predictions, or leave the classes out"
            )

    def _ratio(self, n_edges: Matrix) -> Matrix:
        with np.errstate(divide="ignore", invalid="ignore"):
            ratio = self.edge_prob_target_ / self.edge_prob_source_
        ratio[~np.isfinite(ratio)] = 1.0
        if self.max_ratio is None:
            return ratio
        share = n_edges[ratio > self.max_ratio].sum() / n_edges.sum()
        if share > LARGEST_CAPPED_SHARE:
            warn_weights(
                f"{type(self).__name__}: max_ratio={self.max_ratio:g} cuts the weights of "
                f"{share:.1%} of the source edges, the largest ratio being {ratio.max():.3g}; "
                "raise it, or lower the strength instead"
            )
        return np.minimum(ratio, self.max_ratio)

    def _weigh(self, graph: Any, y: Any, receivers: Any) -> Any:
        name, labels = type(self).__name__, self._encode(y)
        if not sparse.issparse(graph):
            return weigh_edges(name, graph, labels, self.ratio_, self.strength, receivers)
        check_adjacency(name, graph, len(labels), "A")
        A = graph.tocsr(copy=True)
        entries = A.tocoo()
        edges = np.stack([entries.row, entries.col])
        A.data = A.data * weigh_edges(name, edges, labels, self.ratio_, self.strength, receivers)
        return A

    def transform(self, edge_index: Any, y: Any, *, receivers: Any = None) -> Any:
        """Weights of edges, of the source graph or another one.

        Parameters
        ----------
        edge_index : array-like or tensor of shape (2, n_edges), or list of them
            Senders and receivers.
        y : array-like or tensor of shape (n_nodes,) or (n_nodes, n_classes), or list of them
            Classes or class probabilities of the nodes.
        receivers : array-like or tensor of bool of shape (n_nodes,), or list, default=None
            Mask of the nodes whose incoming edges are weighted; None is all.

        Returns
        -------
        ndarray or tensor of shape (n_edges,), or list of them
            Weights; a tensor is on the device of the edges.

        Raises
        ------
        TypeError
            If the graph is a sparse matrix, or nodes are not integers.
        ValueError
            If shapes do not match, or nodes or labels are unknown.
        """
        check_is_fitted(self, "ratio_")
        graphs = self._graphs(edge_index, y, receivers, names=("edge_index", "y", "receivers"))
        if any(sparse.issparse(graph.edges) for graph in graphs):
            raise TypeError(
                f"{type(self).__name__}: edge_index is a sparse matrix, whose weights "
                "transform_adjacency returns; call that, or pass senders and receivers"
            )
        weights = [self._weigh(*graph) for graph in graphs]
        return weights if _is_list_of_graphs(edge_index) else weights[0]

    def transform_adjacency(self, A: Any, y: Any, *, receivers: Any = None) -> Any:
        """Adjacency matrix times the weights of its edges, entry by entry.

        Normalise the matrix by its degrees before, not after: with columns
        divided by their sums, `A.T @ X` is the mean over the neighbours that
        send, and the weighted matrix still divides by the number of them.

        Parameters
        ----------
        A : sparse matrix of shape (n_nodes, n_nodes)
            Its entry [u, v] is the edge from u to v, so messages are passed by its transpose.
        y : array-like of shape (n_nodes,) or (n_nodes, n_classes)
            Classes or class probabilities of the nodes.
        receivers : array-like of bool of shape (n_nodes,), default=None
            Mask of the nodes whose incoming edges are weighted; None is all.

        Returns
        -------
        sparse matrix in CSR format of shape (n_nodes, n_nodes)
            With the same entries.

        Raises
        ------
        TypeError
            If A is not a sparse matrix.
        ValueError
            If shapes do not match or labels are unknown.
        """
        check_is_fitted(self, "ratio_")
        if not sparse.issparse(A):
            raise TypeError(
                f"{type(self).__name__}: A must be a scipy.sparse matrix, got "
                f"{type(A).__name__}; use transform for senders and receivers"
            )
        (graph,) = self._graphs(A, y, receivers, names=("A", "y", "receivers"))
        return self._weigh(*graph)


def _is_list_of_graphs(edges: Any) -> bool:
    """Whether this is several graphs, rather than one as a list of senders and of receivers."""
    if not isinstance(edges, list | tuple) or not len(edges):
        return False
    return all(getattr(graph, "ndim", np.ndim(graph)) == 2 for graph in edges)


def _mean_probability(counts: list[PairCounts], smoothing: float) -> Matrix:
    """Mean over the graphs in which there are both classes."""
    each = np.stack([pair_probability(c, smoothing) for c in counts])
    known = ~np.isnan(each)
    total = np.where(known, each, 0.0).sum(axis=0)
    mean = np.full(total.shape, np.nan)
    return np.divide(total, known.sum(axis=0), out=mean, where=known.any(axis=0))

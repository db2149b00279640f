"""Simulated graphs whose classes connect differently in source and target."""

from numbers import Integral, Real

import numpy as np
from numpy.random import Generator
from numpy.typing import ArrayLike, NDArray
from sklearn.utils import Bunch
from sklearn.utils._param_validation import Interval, validate_params

CLASS_MEANS = np.array([[-1.0, 0.0], [1.0, 0.0], [3.0, 2.0]])


@validate_params(
    {
        "n_per_class": [Interval(Integral, 1, None, closed="left"), "array-like"],
        "edge_prob_source": ["array-like"],
        "edge_prob_target": ["array-like"],
        "n_per_class_target": [Interval(Integral, 1, None, closed="left"), "array-like", None],
        "class_means": ["array-like", None],
        "noise": [Interval(Real, 0, None, closed="left")],
        "directed": ["boolean"],
        "random_state": ["random_state", np.random.Generator],
    },
    prefer_skip_nested_validation=True,
)
def make_block_model(
    n_per_class: int | ArrayLike = 1000,
    edge_prob_source: ArrayLike = (0.02, 0.002),
    edge_prob_target: ArrayLike = (0.02, 0.016),
    *,
    n_per_class_target: int | ArrayLike | None = None,
    class_means: ArrayLike | None = None,
    noise: float = 0.8,
    directed: bool = False,
    random_state: int | Generator | np.random.RandomState | None = None,
) -> Bunch:
    """Draw two stochastic block models with one law of the features given the class.

    Every pair of different nodes is connected independently, with a
    probability that depends on their classes. Features are normal around the
    mean of the class. The defaults are the contextual model of the source.

    Parameters
    ----------
    n_per_class : int or array-like of shape (n_classes,), default=1000
        Number of nodes of each class in the source.
    edge_prob_source : array-like of shape (2,) or (n_classes, n_classes), default=(0.02, 0.002)
        Probability of an edge within a class and between two in the source, or
        of every two classes with receivers by rows.
    edge_prob_target : array-like of shape (2,) or (n_classes, n_classes), default=(0.02, 0.016)
        The same in the target.
    n_per_class_target : int or array-like of shape (n_classes,), default=None
        Number of nodes of each class in the target; None is as in the source.
    class_means : array-like of shape (n_classes, n_features), default=None
        Mean of the features of each class; None is (-1, 0), (1, 0) and (3, 2).
    noise : float, default=0.8
        Standard deviation of every feature around its mean.
    directed : bool, default=False
        Whether the two directions of a pair are drawn apart. If not, every
        edge is listed in both.
    random_state : int, Generator, RandomState or None, default=None
        An int seeds `numpy.random.default_rng`.

    Returns
    -------
    Bunch
        With these entries:

        X : ndarray of shape (n_nodes, n_features)
            Features of the source nodes.
        y : ndarray of shape (n_nodes,)
            Their classes, from 0.
        edge_index : ndarray of shape (2, n_edges)
            Senders and receivers.
        X_target : ndarray of shape (n_nodes_target, n_features)
            Features of the target nodes.
        y_target : ndarray of shape (n_nodes_target,)
            Their classes, which only an evaluation should look at.
        edge_index_target : ndarray of shape (2, n_edges_target)
            Senders and receivers of the target.
        edge_prob_source : ndarray of shape (n_classes, n_classes)
            Probability of an edge in the source, receivers by rows.
        edge_prob_target : ndarray of shape (n_classes, n_classes)
            That in the target.

    Raises
    ------
    ValueError
        If probabilities are not between 0 and 1, do not match the classes, or
        differ by direction in an undirected graph.

    References
    ----------
    Holland, P. W., Laskey, K. B., Leinhardt, S. (1983). Stochastic blockmodels:
    first steps. Social Networks, 5(2), 109-137.

    Liu, S., Li, T., Feng, Y., Tran, N., Zhao, H., Qiu, Q., Li, P. (2023).
    Structural re-weighting improves graph domain adaptation. ICML.

    Examples
    --------
    >>> from shift import edge_probability, make_block_model
    >>> graphs = make_block_model(400, random_state=0)
    >>> graphs.X.shape, graphs.y_target.shape
    ((1200, 2), (1200,))
    >>> edge_probability(graphs.edge_index_target, graphs.y_target).round(3)
    array([[0.02 , 0.016, 0.016],
           [0.016, 0.02 , 0.016],
           [0.016, 0.016, 0.02 ]])
    """
    if isinstance(random_state, np.random.RandomState):
        random_state = random_state.randint(np.iinfo(np.int32).max)
    elif random_state is np.random:
        random_state = np.random.randint(np.iinfo(np.int32).max)  # noqa: NPY002
    rng = np.random.default_rng(random_state)
    means = CLASS_MEANS if class_means is None else np.asarray(class_means, dtype=np.float64)
    if means.ndim != 2 or not np.isfinite(means).all():
        raise ValueError(
            f"make_block_model: class_means has shape {means.shape}; pass finite numbers, one row "
            "per class"
        )
    n_classes = len(means)
    n_per_class_target = n_per_class if n_per_class_target is None else n_per_class_target
    sizes = _check_sizes("n_per_class", n_per_class, n_classes)
    sizes_target = _check_sizes("n_per_class_target", n_per_class_target, n_classes)
    B = _check_probabilities("edge_prob_source", edge_prob_source, n_classes, directed)
    B_target = _check_probabilities("edge_prob_target", edge_prob_target, n_classes, directed)
    y, y_target = (np.repeat(np.arange(n_classes), n) for n in (sizes, sizes_target))
    return Bunch(
        X=means[y] + noise * rng.standard_normal((len(y), means.shape[1])),
        y=y,
        edge_index=_draw_edges(sizes, B, directed, rng),
        X_target=means[y_target] + noise * rng.standard_normal((len(y_target), means.shape[1])),
        y_target=y_target,
        edge_index_target=_draw_edges(sizes_target, B_target, directed, rng),
        edge_prob_source=B,
        edge_prob_target=B_target,
    )


def _check_sizes(name: str, given: int | ArrayLike, n_classes: int) -> NDArray[np.int64]:
    sizes = np.asarray(given)
    if sizes.dtype.kind not in "iu" or sizes.shape not in ((), (n_classes,)) or sizes.min() < 1:
        raise ValueError(
            f"make_block_model: {name} must be a positive integer, or one for each of {n_classes} "
            f"classes, got {sizes.tolist()}; pass class_means for another number of classes"
        )
    return np.broadcast_to(sizes, (n_classes,))


def _check_probabilities(
    name: str, given: ArrayLike, n_classes: int, directed: bool
) -> NDArray[np.float64]:
    B = np.asarray(given, dtype=np.float64)
    if B.shape == (2,):
        B = np.where(np.eye(n_classes, dtype=bool), B[0], B[1])
    if B.shape != (n_classes, n_classes) or not ((B >= 0) & (B <= 1)).all():
        raise ValueError(
            f"make_block_model: {name} must be probabilities within and between classes, or a "
            f"matrix of them for {n_classes} classes, got shape {B.shape}; pass numbers between "
            "0 and 1, and class_means for another number of classes"
        )
    if not directed and not np.array_equal(B, B.T):
        raise ValueError(
            f"make_block_model: {name} differs from its transpose, but the graph is undirected; "
            "pass a symmetric matrix or directed=True"
        )
    return B


def _draw_edges(
    sizes: NDArray[np.int64], B: NDArray[np.float64], directed: bool, rng: Generator
) -> NDArray[np.int64]:
    """Edges of all blocks, in both directions if the graph has none."""
    starts = np.concatenate([[0], np.cumsum(sizes)])
    blocks = []
    for i in range(len(sizes)):
        for j in range(len(sizes) if directed else i + 1):
            if i == j:
                senders, receivers = _draw_within(int(sizes[i]), B[i, i], directed, rng)
            else:
                pairs = _draw_pairs(int(sizes[i]) * int(sizes[j]), B[i, j], rng)
                receivers, senders = np.divmod(pairs, sizes[j])
            blocks.append(np.stack([senders + starts[j], receivers + starts[i]]))
    edges = np.concatenate(blocks, axis=1)
    return edges if directed else np.concatenate([edges, edges[::-1]], axis=1)


def _draw_within(
    n: int, probability: float, directed: bool, rng: Generator
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Edges among n nodes, none from a node to itself; undirected ones in one direction."""
    if directed:
        receivers, others = np.divmod(_draw_pairs(n * (n - 1), probability, rng), max(n - 1, 1))
        return others + (others >= receivers), receivers
    pairs = _draw_pairs(n * (n - 1) // 2, probability, rng)
    # Pair k = r (r - 1) / 2 + s with s < r; the root may be off by one.
    larger = ((1.0 + np.sqrt(1.0 + 8.0 * pairs)) / 2.0).astype(np.int64)
    larger -= larger * (larger - 1) // 2 > pairs
    larger += larger * (larger + 1) // 2 <= pairs
    return pairs - larger * (larger - 1) // 2, larger


def _draw_pairs(n_pairs: int, probability: float, rng: Generator) -> NDArray[np.int64]:
    """Numbers of the pairs that are connected; as many as a binomial, and any of them alike."""
    n_edges = rng.binomial(n_pairs, probability)
    return (
        rng.choice(n_pairs, n_edges, replace=False, shuffle=False) if n_edges else np.zeros(0, int)
    )

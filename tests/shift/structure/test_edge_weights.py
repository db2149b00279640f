"""Facts about edge probabilities, edge weights and the distances between graphs."""

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy import sparse

from shift import edge_probability, edge_weights, make_block_model, structure_shift

# The directed graphs of four nodes that the method's specification works out by hand.
LABELS = np.array([0, 0, 1, 2])
SOURCE = np.array([[0, 0, 1, 2], [1, 2, 2, 3]])
TARGET = np.array([[0, 3, 2], [2, 1, 3]])
RATIO = np.array([[0.0, 1.0, 1.0], [0.5, 1.0, 1.0], [1.0, 1.0, 1.0]])


@pytest.fixture
def graph(rng):
    """A directed graph with repeated edges and loops, which are edges like others."""
    y = rng.integers(0, 4, 60)
    return rng.integers(0, 60, (2, 500)), y


def counted_by_loops(edge_index, y, n_classes, weight=None):
    N = np.zeros((n_classes, n_classes))
    for e, (u, v) in enumerate(edge_index.T):
        N[y[v], y[u]] += 1 if weight is None else weight[e]
    sizes = np.array([(y == k).sum() for k in range(n_classes)])
    return N, np.outer(sizes, sizes)


def test_the_graph_worked_out_by_hand():
    expected = np.zeros((3, 3))
    expected[1, 0], expected[0, 0], expected[2, 1] = 1.0, 0.25, 1.0
    assert_array_equal(edge_probability(SOURCE, LABELS), expected)
    expected = np.zeros((3, 3))
    expected[1, 0], expected[0, 2], expected[2, 1] = 0.5, 0.5, 1.0
    assert_array_equal(edge_probability(TARGET, LABELS), expected)
    assert_array_equal(edge_weights(SOURCE, LABELS, RATIO), [0, 0.5, 0.5, 1])
    assert_array_equal(edge_weights(SOURCE, LABELS, RATIO, strength=0.5), [0.5, 0.75, 0.75, 1])


@pytest.mark.parametrize("weighted", [False, True])
def test_counts_are_those_of_a_loop(graph, rng, weighted):
    edge_index, y = graph
    weight = rng.uniform(size=500) if weighted else None
    N, pairs = counted_by_loops(edge_index, y, 4, weight)
    assert_allclose(edge_probability(edge_index, y, edge_weight=weight), N / pairs)
    smoothed = (N + 2.5 * N.sum() / pairs.sum()) / (pairs + 2.5)
    assert_allclose(edge_probability(edge_index, y, edge_weight=weight, smoothing=2.5), smoothed)


def test_adjacency_matrices_are_read_from_row_to_column(graph):
    edge_index, y = graph
    edge_index = np.unique(edge_index, axis=1)
    values = np.arange(1.0, edge_index.shape[1] + 1)
    A = sparse.csr_matrix((values, tuple(edge_index)), shape=(60, 60))
    expected = edge_probability(edge_index, y)
    assert_array_equal(edge_probability(A, y), expected)
    assert_array_equal(edge_probability(sparse.coo_array(A), y), expected)
    A.data[::2] = 0.0
    order = np.lexsort(edge_index[::-1])
    assert_array_equal(edge_probability(A, y), edge_probability(edge_index[:, order[1::2]], y))


def test_symmetrised_counts_are_those_of_the_larger_of_both_directions(graph):
    edge_index, y = graph
    A = np.zeros((60, 60))
    A[tuple(edge_index)] = 1
    both = np.stack(np.nonzero(np.maximum(A, A.T)))
    assert_allclose(edge_probability(edge_index, y, symmetrize=True), edge_probability(both, y))
    assert_allclose(edge_probability(both, y, symmetrize=True), edge_probability(both, y))


def test_counts_of_some_receivers_have_senders_everywhere(graph):
    edge_index, y = graph
    mask = np.arange(60) % 3 == 0
    into = edge_index[:, mask[edge_index[1]]]
    N, _ = counted_by_loops(into, y, 4)
    sizes = np.bincount(y, minlength=4)
    pairs = np.outer(np.bincount(y[mask], minlength=4), sizes)
    assert_allclose(edge_probability(edge_index, y, receivers=mask), N / pairs)
    both = [edge_probability(edge_index, y, receivers=part) for part in (mask, ~mask)]
    sides = [np.bincount(y[part], minlength=4)[:, None] for part in (mask, ~mask)]
    whole = edge_probability(edge_index, y)
    assert_allclose(both[0] * sides[0] + both[1] * sides[1], whole * sizes[:, None])


def test_sure_probabilities_count_like_labels_and_others_are_expectations(graph, rng):
    edge_index, y = graph
    one_hot = np.eye(4)[y]
    mask = np.arange(60) % 2 == 0
    weight = rng.uniform(size=500)
    for options in ({}, {"receivers": mask}, {"smoothing": 1.0}, {"edge_weight": weight}):
        assert_allclose(
            edge_probability(edge_index, one_hot, **options),
            edge_probability(edge_index, y, **options),
            err_msg=str(options),
        )
    P = rng.dirichlet(np.ones(4), 60)
    A = np.zeros((60, 60))
    np.add.at(A, tuple(edge_index), 1)
    sizes = P.sum(axis=0)
    assert_allclose(edge_probability(edge_index, P), P.T @ A.T @ P / np.outer(sizes, sizes))
    ratio = rng.uniform(size=(4, 4))
    u, v = edge_index
    expected = np.einsum("ei,ij,ej->e", P[v], ratio, P[u])
    assert_allclose(edge_weights(edge_index, P, ratio), expected)
    assert_allclose(edge_weights(edge_index, one_hot, ratio), ratio[y[v], y[u]])


def test_a_class_without_nodes_is_unknown_whatever_the_smoothing():
    for smoothing in (0.0, 1.0):
        B = edge_probability(SOURCE, LABELS, 4, smoothing=smoothing)
        assert np.isnan(B[3]).all()
        assert np.isnan(B[:, 3]).all()
        assert np.isfinite(B[:3, :3]).all()


def test_a_class_of_one_node_is_drawn_to_the_density_by_smoothing():
    B = edge_probability(SOURCE, LABELS, smoothing=1e9)
    assert_allclose(B, 4 / 16, rtol=1e-6)


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int32", "uint64"])
def test_small_integers_do_not_overflow(dtype):
    y = np.arange(120)
    edge_index = np.stack([y[:-1], y[1:]])
    B = edge_probability(edge_index.astype(dtype), y.astype(dtype))
    assert_array_equal(np.diag(B, -1), 1.0)
    assert B.sum() == 119
    weights = edge_weights(
        edge_index.astype(dtype), y.astype(dtype), np.arange(120.0**2).reshape(120, 120)
    )
    assert_array_equal(weights, y[1:] * 120.0 + y[:-1])


def test_weighted_counts_of_the_source_are_the_target_exactly():
    graphs = make_block_model(60, (0.3, 0.1), (0.3, 0.2), random_state=0)
    B, B_target = (
        edge_probability(edges, y)
        for edges, y in (
            (graphs.edge_index, graphs.y),
            (graphs.edge_index_target, graphs.y_target),
        )
    )
    weights = edge_weights(graphs.edge_index, graphs.y, B_target / B)
    reweighted = edge_probability(graphs.edge_index, graphs.y, edge_weight=weights)
    assert_allclose(reweighted, B_target, rtol=1e-12)
    sizes = np.bincount(graphs.y)
    assert_allclose(weights.sum(), sizes @ B_target @ sizes, rtol=1e-12)
    # Without strength nothing changes, and halfway is halfway.
    assert_array_equal(edge_weights(graphs.edge_index, graphs.y, B_target / B, strength=0), 1)
    halfway = edge_weights(graphs.edge_index, graphs.y, B_target / B, strength=0.5)
    assert_allclose(halfway, 0.5 + 0.5 * weights)


def test_edges_into_other_nodes_weigh_one():
    mask = np.array([True, True, False, True])
    assert_array_equal(edge_weights(SOURCE, LABELS, RATIO, receivers=mask), [0, 1, 1, 1])


def test_relabelled_classes_permute_the_matrix_and_leave_the_weights(graph, rng):
    edge_index, y = graph
    order = np.array([2, 0, 3, 1])
    B = edge_probability(edge_index, y)
    B_relabelled = edge_probability(edge_index, order[y])
    assert_array_equal(B_relabelled[np.ix_(order, order)], B)
    ratio = rng.uniform(size=(4, 4))
    permuted = np.empty((4, 4))
    permuted[np.ix_(order, order)] = ratio
    assert_array_equal(
        edge_weights(edge_index, order[y], permuted), edge_weights(edge_index, y, ratio)
    )


def test_no_edges_give_no_probability_and_no_weights():
    empty = np.empty((2, 0))
    assert_array_equal(edge_probability(empty, LABELS), np.zeros((3, 3)))
    assert edge_weights(empty, LABELS, RATIO).shape == (0,)


def test_shift_of_two_classes_by_hand():
    source, target = np.array([[0.2, 0.1], [0.0, 0.4]]), np.array([[0.2, 0.3], [0.1, 0.0]])
    found = structure_shift(source, target)
    assert_allclose(found["absolute"], (0.2 + 0.1 + 0.4) / 4)
    assert_allclose(found["log"], np.log(3) / 4)
    assert_allclose(found["relative"], (0.2 * (1 / 0.1 + 1 / 0.3) / 2 + 1 + 1) / 4)
    assert structure_shift(target, source) == found
    assert structure_shift(source, source) == {"absolute": 0, "log": 0, "relative": 0}


def test_shift_of_pairs_that_a_graph_lacks_is_left_out():
    source = np.array([[0.2, np.nan], [0.1, 0.3]])
    found = structure_shift(source, [[0.4, 0.2], [0.1, np.nan]])
    assert_allclose([found["absolute"], found["log"]], [0.1, np.log(2) / 2])


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"edge_index": SOURCE.T}, ValueError, r"got \(4, 2\); pass its transpose"),
        ({"edge_index": SOURCE.astype(float)}, TypeError, "holds float64 values"),
        ({"edge_index": SOURCE + 1}, ValueError, "an edge at node 4 but there are 4 labels"),
        ({"edge_index": SOURCE - 1}, ValueError, "an edge at node -1"),
        (
            {"edge_index": sparse.eye(3, format="csr")},
            ValueError,
            r"shape \(3, 3\) but there are 4",
        ),
        ({"y": [0, 0, 1, np.nan]}, ValueError, "1 labels that are NaN"),
        ({"y": [0.0, 0.0, 1.0, 2.0]}, TypeError, "y holds float64 values; pass integer codes"),
        ({"y": ["a", "a", "b", "c"]}, TypeError, "pass integer codes"),
        ({"y": [0, 0, 1, -1]}, ValueError, "label -1, outside 0 to 1"),
        ({"n_classes": 2}, ValueError, "label 2, outside 0 to 1"),
        ({"y": np.full((4, 2), 0.6)}, ValueError, "row 0 of y is not a set of probabilities"),
        ({"y": np.full((4, 2), np.nan)}, ValueError, "not a set of probabilities"),
        ({"y": [[2, -1]] * 4}, ValueError, "not a set of probabilities"),
        ({"y": np.eye(3)[LABELS], "n_classes": 4}, ValueError, "3 columns but there are 4 classes"),
        ({"y": 3}, ValueError, "there are 0 labels"),
        ({"y": np.array(3)}, ValueError, "there are 0 labels"),
        ({"edge_weight": [1, 1, np.nan, 1]}, ValueError, "NaN or infinite"),
        ({"receivers": [0, 1]}, ValueError, "mask of 4 booleans"),
        ({"receivers": np.zeros(4, bool)}, ValueError, "at least one of them True"),
        ({"edge_weight": [1.0]}, ValueError, "one number for each of 4 edges"),
        ({"edge_weight": np.ones(4), "symmetrize": True}, ValueError, "counts every edge once"),
        ({"smoothing": -1}, ValueError, "smoothing=-1 must be"),
    ],
)
def test_bad_graphs_are_refused(changes, error, message):
    with pytest.raises(error, match=message) as caught:
        edge_probability(**{"edge_index": SOURCE, "y": LABELS, **changes})
    assert str(caught.value).startswith("edge_probability: ")


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"strength": 1.5}, ValueError, "strength=1.5 must lie between 0 and 1"),
        ({"ratio": RATIO[:2]}, ValueError, r"ratio has shape \(2, 3\)"),
        ({"ratio": RATIO - 1}, ValueError, "negative or not finite"),
        ({"ratio": np.full((3, 3), np.inf)}, ValueError, "negative or not finite"),
        ({"ratio": RATIO[:2, :2]}, ValueError, "label 2, outside 0 to 1"),
        ({"edge_index": sparse.eye(4, format="csr")}, TypeError, "transform_adjacency"),
    ],
)
def test_bad_ratios_are_refused(changes, error, message):
    with pytest.raises(error, match=message):
        edge_weights(**{"edge_index": SOURCE, "y": LABELS, "ratio": RATIO, **changes})


@pytest.mark.parametrize(
    ("source", "target", "message"),
    [
        (np.ones((2, 2)), np.ones((3, 3)), r"shapes \(2, 2\) and \(3, 3\)"),
        (np.ones((2, 3)), np.ones((2, 3)), "two square matrices"),
        (-np.ones((2, 2)), np.ones((2, 2)), "non-negative"),
        (np.full((2, 2), np.nan), np.ones((2, 2)), "at least one pair"),
    ],
)
def test_matrices_without_a_distance_are_refused(source, target, message):
    with pytest.raises(ValueError, match=message):
        structure_shift(source, target)

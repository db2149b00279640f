"""Facts about simulated block models."""

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from shift import edge_probability, make_block_model

DIRECTED = np.array([[0.3, 0.1], [0.05, 0.2]])
MEANS = [[0.0], [5.0]]


def blocks(edge_index, sizes):
    """Adjacency matrix, senders by rows."""
    A = np.zeros((sum(sizes), sum(sizes)), dtype=int)
    np.add.at(A, tuple(edge_index), 1)
    return A


def test_undirected_graphs_list_each_edge_in_both_directions_and_no_loop():
    graphs = make_block_model([30, 20, 10], (0.5, 0.3), random_state=0)
    A = blocks(graphs.edge_index, [30, 20, 10])
    assert_array_equal(A, A.T)
    assert A.max() == 1
    assert np.trace(A) == 0
    assert_array_equal(np.bincount(graphs.y), [30, 20, 10])
    assert graphs.X.shape == (60, 2)


@pytest.mark.parametrize("directed", [False, True])
def test_a_probability_of_one_connects_every_pair_and_of_zero_none(directed):
    full = make_block_model(
        [7, 4], (1.0, 0.0), (0.0, 1.0), class_means=MEANS, directed=directed, random_state=0
    )
    same = full.y[:, None] == full.y
    assert_array_equal(blocks(full.edge_index, [7, 4]), same & ~np.eye(11, dtype=bool))
    assert_array_equal(blocks(full.edge_index_target, [7, 4]), ~same)


def test_every_pair_is_drawn_as_often_as_any_other_of_its_block():
    """Each pair is a Bernoulli draw: its frequency lies within five standard errors."""
    rng = np.random.default_rng(0)
    repeats, sizes = 3000, [4, 3]
    total = np.zeros((7, 7))
    for _ in range(repeats):
        graphs = make_block_model(
            sizes,
            DIRECTED,
            class_means=MEANS,
            directed=True,
            edge_prob_target=(0, 0),
            random_state=rng,
        )
        total += blocks(graphs.edge_index, sizes)
    y = np.repeat([0, 1], sizes)
    # Receivers by rows, so the block of senders j and receivers i is B[i, j].
    B = DIRECTED[y][:, y].T * ~np.eye(7, dtype=bool)
    error = np.sqrt(B * (1 - B) / repeats)
    assert (abs(total / repeats - B) <= 5 * error).all()


def test_the_number_of_edges_has_the_variance_of_independent_pairs():
    rng = np.random.default_rng(1)
    counts = [
        make_block_model(
            [12, 9], (0.3, 0.1), (0, 0), class_means=MEANS, random_state=rng
        ).edge_index.shape[1]
        / 2
        for _ in range(2000)
    ]
    pairs = {0.3: 12 * 11 / 2 + 9 * 8 / 2, 0.1: 12 * 9}
    mean = sum(p * n for p, n in pairs.items())
    variance = sum(p * (1 - p) * n for p, n in pairs.items())
    assert abs(np.mean(counts) - mean) < 4 * np.sqrt(variance / 2000)
    # The standard error of a variance is its size times the root of 2 / n.
    assert abs(np.var(counts) / variance - 1) < 4 * np.sqrt(2 / 2000)


def test_large_graphs_have_the_probabilities_asked_for():
    graphs = make_block_model(2000, random_state=0)
    for edges, y, B in (
        (graphs.edge_index, graphs.y, graphs.edge_prob_source),
        (graphs.edge_index_target, graphs.y_target, graphs.edge_prob_target),
    ):
        error = np.sqrt(B / 2000**2 * (1 + np.eye(3)))
        # The diagonal divides by n^2 but has n (n - 1) pairs.
        assert (abs(edge_probability(edges, y) - B * (1 - np.eye(3) / 2000)) < 5 * error).all()


def test_features_have_the_law_of_their_class_in_both_graphs():
    graphs = make_block_model(
        [40_000, 10, 10],
        (0, 0),
        (0, 0),
        noise=0.8,
        n_per_class_target=[10, 40_000, 10],
        random_state=0,
    )
    for X, mean in (
        (graphs.X[graphs.y == 0], [-1, 0]),
        (graphs.X_target[graphs.y_target == 1], [1, 0]),
    ):
        assert_allclose(X.mean(axis=0), mean, atol=5 * 0.8 / 200)
        assert_allclose(X.std(axis=0), 0.8, rtol=0.02)


def test_classes_of_one_node_and_seeds_of_all_kinds():
    graphs = make_block_model(1, (1.0, 1.0), random_state=0)
    assert_array_equal(blocks(graphs.edge_index, [1, 1, 1]), 1 - np.eye(3))
    draws = [
        make_block_model(20, random_state=seed()).edge_index
        for seed in (lambda: np.random.RandomState(0), lambda: np.random.RandomState(0))
    ]
    assert_array_equal(*draws)
    assert_array_equal(
        make_block_model(20, random_state=3).X,
        make_block_model(20, random_state=np.random.default_rng(3)).X,
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"n_per_class": [10, 10]}, "one for each of 3 classes, got"),
        ({"n_per_class": [10.5, 10, 10]}, "positive integer"),
        ({"n_per_class_target": [0, 1, 1]}, "n_per_class_target must be a positive"),
        ({"edge_prob_source": (0.2, 1.2)}, "edge_prob_source must be probabilities"),
        ({"edge_prob_target": np.ones((2, 3))}, r"got shape \(2, 3\)"),
        ({"edge_prob_source": np.triu(np.ones((3, 3)))}, "directed=True"),
        ({"class_means": [1.0, 2.0]}, "one row per class"),
        ({"noise": -1.0}, "noise"),
    ],
)
def test_bad_requests_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        make_block_model(**{"n_per_class": 10, **arguments})

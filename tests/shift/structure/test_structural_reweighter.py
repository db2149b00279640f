"""Facts about structural re-weighting, and about the graphs that it refuses."""

import pickle
import warnings

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from numpydoc.docscrape import ClassDoc
from scipy import sparse
from sklearn.base import clone
from sklearn.utils import estimator_checks

from reweight.exceptions import WeightWarning
from shift import (
    StructuralReweighter,
    edge_probability,
    edge_weights,
    make_block_model,
    structure_shift,
)

LABELS = np.array([0, 0, 1, 2])
SOURCE = np.array([[0, 0, 1, 2], [1, 2, 2, 3]])
TARGET = np.array([[0, 3, 2], [2, 1, 3]])
BY_HAND = {"edge_index": SOURCE, "y": LABELS, "edge_index_target": TARGET, "y_target": LABELS}


@pytest.fixture(scope="module")
def graphs():
    return make_block_model([80, 60, 40], (0.2, 0.05), (0.2, 0.15), random_state=0)


def problem(graphs, **changes):
    names = ("edge_index", "y", "edge_index_target", "y_target")
    return {**{name: graphs[name] for name in names}, **changes}


def predicted(y, Q, rng):
    """Labels that are wrong as the columns of a confusion matrix say, independently."""
    return (rng.uniform(size=len(y)) > np.cumsum(Q, axis=0)[:, y]).sum(axis=0)


def test_the_graphs_worked_out_by_hand():
    fitted = StructuralReweighter(strength=1.0).fit(**BY_HAND)
    assert_array_equal(fitted.edge_weights_, [0, 0.5, 0.5, 1])
    assert_array_equal(fitted.transform(SOURCE, LABELS), [0, 0.5, 0.5, 1])
    # The pair (0, 2) has edges in the target only, and others in neither.
    assert_array_equal(fitted.ratio_, [[0, 1, 1], [0.5, 1, 1], [1, 1, 1]])
    assert fitted.shift_metrics_ == structure_shift(
        fitted.edge_prob_source_, fitted.edge_prob_target_
    )


def test_equal_graphs_leave_weights_at_one(graphs):
    same = problem(graphs, edge_index_target=graphs.edge_index, y_target=graphs.y)
    fitted = StructuralReweighter(strength=1.0).fit(**same)
    assert_array_equal(fitted.ratio_, 1)
    assert_array_equal(fitted.edge_weights_, 1)
    assert set(fitted.shift_metrics_.values()) == {0.0}


def test_strength_mixes_with_weights_of_one(graphs):
    full = StructuralReweighter(strength=1.0).fit(**problem(graphs)).edge_weights_
    none = StructuralReweighter(strength=0).fit(**problem(graphs)).edge_weights_
    default = StructuralReweighter().fit(**problem(graphs)).edge_weights_
    assert_array_equal(none, 1)
    assert_allclose(default, 0.5 + 0.5 * full)


def test_the_reweighted_source_connects_like_the_target(graphs):
    fitted = StructuralReweighter(strength=1.0).fit(**problem(graphs))
    B = edge_probability(graphs.edge_index, graphs.y, edge_weight=fitted.edge_weights_)
    assert_allclose(B, fitted.edge_prob_target_, rtol=1e-12)
    sizes = np.bincount(graphs.y)
    assert_allclose(fitted.edge_weights_.sum(), sizes @ fitted.edge_prob_target_ @ sizes)


def test_large_block_models_give_the_ratio_of_their_probabilities():
    graphs = make_block_model(1000, random_state=0)
    fitted = StructuralReweighter().fit(**problem(graphs))
    assert_allclose(fitted.ratio_, graphs.edge_prob_target / graphs.edge_prob_source, rtol=0.05)


@pytest.mark.parametrize("names", [["c", "a", "b"], [7, 3, 5], [2.5, 0.5, 1.5], [True, False]])
def test_any_labels_do(graphs, names):
    names = np.array(names)
    codes, codes_target = (np.minimum(y, len(names) - 1) for y in (graphs.y, graphs.y_target))
    plain = StructuralReweighter().fit(**problem(graphs, y=codes, y_target=codes_target))
    named = StructuralReweighter().fit(
        **problem(graphs, y=names[codes], y_target=names[codes_target])
    )
    assert_array_equal(named.classes_, np.sort(names))
    assert_array_equal(named.edge_weights_, plain.edge_weights_)
    order = np.argsort(names)
    assert_array_equal(named.ratio_, plain.ratio_[np.ix_(order, order)])
    assert_array_equal(named.transform(graphs.edge_index, names[codes]), plain.edge_weights_)


@pytest.mark.parametrize("library", ["pandas", "polars"])
def test_columns_of_frames_are_labels_and_frames_are_probabilities(graphs, library):
    frames = pytest.importorskip(library)
    P = np.eye(3)[graphs.y_target]
    expected = StructuralReweighter().fit(**problem(graphs)).edge_weights_
    frame = frames.DataFrame({f"class {k}": P[:, k] for k in range(3)})
    for labels in (frames.Series(graphs.y_target), frame):
        changed = problem(graphs, y=frames.Series(graphs.y), y_target=labels)
        fitted = StructuralReweighter().fit(**changed)
        assert_allclose(fitted.edge_weights_, expected, rtol=1e-12)


def test_adjacency_matrices_keep_their_pattern_and_multiply_their_values(graphs):
    n = len(graphs.y)
    rng = np.random.default_rng(0)
    values = rng.uniform(1, 2, graphs.edge_index.shape[1])
    A = sparse.coo_array((values, tuple(graphs.edge_index)), shape=(n, n))
    expected = StructuralReweighter().fit(**problem(graphs))
    fitted = StructuralReweighter().fit(**problem(graphs, edge_index=A.tocsr()))
    assert_array_equal(fitted.ratio_, expected.ratio_)
    dense = np.zeros((n, n))
    dense[tuple(graphs.edge_index)] = values * expected.edge_weights_
    assert_allclose(fitted.edge_weights_.toarray(), dense)
    before = A.copy()
    weighted = fitted.transform_adjacency(A, graphs.y)
    assert weighted.format == "csr"
    assert_allclose(weighted.toarray(), dense)
    assert_array_equal(A.data, before.data)
    assert (weighted.indices == A.tocsr().indices).all()


def test_means_over_graphs_come_before_the_ratio(graphs):
    other = make_block_model([30, 50, 40], (0.3, 0.1), (0.1, 0.2), random_state=1)
    third = make_block_model([20, 20, 20], (0.3, 0.1), (0.1, 0.2), random_state=2)
    fitted = StructuralReweighter(strength=1.0).fit(
        [graphs.edge_index, other.edge_index],
        [graphs.y, other.y],
        edge_index_target=[g.edge_index_target for g in (graphs, other, third)],
        y_target=[g.y_target for g in (graphs, other, third)],
    )
    B = (
        edge_probability(graphs.edge_index, graphs.y) + edge_probability(other.edge_index, other.y)
    ) / 2
    B_target = (
        sum(edge_probability(g.edge_index_target, g.y_target) for g in (graphs, other, third)) / 3
    )
    assert_allclose(fitted.ratio_, B_target / B)
    assert [len(weights) for weights in fitted.edge_weights_] == [
        g.edge_index.shape[1] for g in (graphs, other)
    ]
    again = fitted.transform([graphs.edge_index, other.edge_index], [graphs.y, other.y])
    for weights, expected in zip(again, fitted.edge_weights_, strict=True):
        assert_array_equal(weights, expected)


def test_a_class_that_one_of_several_graphs_lacks_is_averaged_over_the_others(graphs):
    small = graphs.y < 2
    kept = small[graphs.edge_index].all(axis=0)
    part = (graphs.edge_index[:, kept], graphs.y[small])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fitted = StructuralReweighter().fit(
            [graphs.edge_index, part[0]],
            [graphs.y, part[1]],
            edge_index_target=[graphs.edge_index_target],
            y_target=[graphs.y_target],
        )
    whole = edge_probability(graphs.edge_index, graphs.y)
    assert_array_equal(fitted.edge_prob_source_[2], whole[2])
    expected = (whole[:2, :2] + edge_probability(*part)) / 2
    assert_allclose(fitted.edge_prob_source_[:2, :2], expected)


def test_parts_of_one_graph_differ_by_who_receives(graphs):
    source = np.arange(len(graphs.y)) % 2 == 0
    P = np.eye(3)[graphs.y]
    fitted = StructuralReweighter(strength=1.0).fit(
        graphs.edge_index,
        graphs.y,
        edge_index_target=graphs.edge_index,
        y_target=P,
        receivers=source,
        receivers_target=~source,
    )
    B, B_target = (
        edge_probability(graphs.edge_index, graphs.y, receivers=part) for part in (source, ~source)
    )
    assert_allclose(fitted.ratio_, B_target / B)
    into_target = ~source[graphs.edge_index[1]]
    assert_array_equal(fitted.edge_weights_[into_target], 1)
    reweighted = edge_probability(
        graphs.edge_index, graphs.y, receivers=source, edge_weight=fitted.edge_weights_
    )
    assert_allclose(reweighted, B_target)


def test_probabilities_and_smoothing_enter_the_target(graphs, rng):
    P = rng.dirichlet(np.ones(3), len(graphs.y_target))
    fitted = StructuralReweighter(smoothing=2.0).fit(**problem(graphs, y_target=P))
    assert_allclose(
        fitted.ratio_,
        edge_probability(graphs.edge_index_target, P, smoothing=2.0)
        / edge_probability(graphs.edge_index, graphs.y, smoothing=2.0),
    )


def test_symmetrised_counts_weigh_the_edges_that_are_there(rng):
    edge_index, y = rng.integers(0, 40, (2, 300)), rng.integers(0, 3, 40)
    edge_index_target, y_target = rng.integers(0, 40, (2, 300)), rng.integers(0, 3, 40)
    fitted = StructuralReweighter(symmetrize=True).fit(
        edge_index, y, edge_index_target=edge_index_target, y_target=y_target
    )
    assert_allclose(fitted.ratio_, fitted.ratio_.T)
    assert fitted.edge_weights_.shape == (300,)
    one_way = edge_index[:, edge_index[0] < edge_index[1]]
    both = np.concatenate([one_way, one_way[::-1]], axis=1)
    for edges in (one_way, both):
        B = edge_probability(edges, y, symmetrize=True)
        assert_allclose(B, edge_probability(np.unique(both, axis=1), y))


def test_confusion_turns_expected_counts_back_exactly():
    """With labels that are wrong on average as Q says, N = QNQ' and c = Qc hold exactly."""
    P = np.array([[0.9, 0.2, 0.1], [0.1, 0.7, 0.2], [0.0, 0.1, 0.7]])
    graphs = make_block_model([80, 60, 40], (0.2, 0.05), (0.2, 0.02), random_state=0)
    soft = P.T[graphs.y_target]
    fitted = StructuralReweighter(confusion=P).fit(**problem(graphs, y_target=soft))
    true = StructuralReweighter().fit(**problem(graphs))
    assert_allclose(fitted.edge_prob_target_, true.edge_prob_target_, rtol=1e-10)
    uncorrected = StructuralReweighter().fit(**problem(graphs, y_target=soft))
    assert abs(uncorrected.ratio_ / true.ratio_ - 1).max() > 0.2


def test_confusion_undoes_wrong_predictions_on_average():
    Q = np.array([[0.8, 0.1, 0.1], [0.1, 0.7, 0.1], [0.1, 0.2, 0.8]])
    rng = np.random.default_rng(0)
    graphs = make_block_model(300, (0.02, 0.01), (0.02, 0.002), random_state=0)
    true = StructuralReweighter().fit(**problem(graphs)).edge_prob_target_
    found = {"corrected": [], "plain": []}
    for _ in range(30):
        wrong = problem(graphs, y_target=predicted(graphs.y_target, Q, rng))
        for name, confusion in (("corrected", Q), ("plain", None)):
            fitted = StructuralReweighter(confusion=confusion).fit(**wrong)
            found[name].append(fitted.edge_prob_target_)
    error = np.std(found["corrected"], axis=0) / np.sqrt(30)
    assert (abs(np.mean(found["corrected"], axis=0) - true) < 4 * error).all()
    assert (abs(np.mean(found["plain"], axis=0) - true) > 10 * error).any()


def test_counts_that_a_confusion_makes_negative_are_said():
    graphs = make_block_model(50, (0.2, 0.0), (0.2, 0.0), random_state=0)
    Q = np.array([[0.6, 0.2, 0.2], [0.2, 0.6, 0.2], [0.2, 0.2, 0.6]])
    with pytest.warns(WeightWarning, match="6 counts of edges or nodes, corrected .* below zero"):
        fitted = StructuralReweighter(confusion=Q).fit(**problem(graphs))
    assert fitted.edge_prob_target_.min() == 0


def test_a_cap_cuts_ratios_and_is_said_when_many_edges_feel_it(graphs):
    free = StructuralReweighter(strength=1.0).fit(**problem(graphs))
    capped = StructuralReweighter(strength=1.0, max_ratio=2.0)
    with pytest.warns(WeightWarning, match=r"max_ratio=2 cuts the weights of \d\d\.\d%"):
        capped.fit(**problem(graphs))
    assert_array_equal(capped.ratio_, np.minimum(free.ratio_, 2))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        StructuralReweighter(max_ratio=10.0).fit(**problem(graphs))


def test_absent_classes_are_said_and_their_edges_weigh_one(graphs):
    fitted = StructuralReweighter(strength=1.0)
    with pytest.warns(WeightWarning, match=r"no nodes of classes \[2\] in the target"):
        fitted.fit(**problem(graphs, y_target=np.minimum(graphs.y_target, 1)))
    assert_array_equal(fitted.ratio_[2], 1)
    assert_array_equal(fitted.ratio_[:, 2], 1)
    assert np.isfinite(list(fitted.shift_metrics_.values())).all()
    third = (graphs.y[graphs.edge_index] == 2).any(axis=0)
    assert_array_equal(fitted.edge_weights_[third], 1)
    with pytest.warns(WeightWarning, match=r"\[3\] in the source"):
        StructuralReweighter(classes=[0, 1, 2, 3]).fit(
            **problem(graphs, y_target=np.r_[3, graphs.y_target[1:]])
        )


def test_classes_order_the_columns_of_probabilities(graphs):
    order = [2, 0, 1]
    names = np.array(["a", "b", "c"])
    P = np.eye(3)[graphs.y_target]
    expected = StructuralReweighter().fit(**problem(graphs))
    fitted = StructuralReweighter(classes=names[order]).fit(
        **problem(graphs, y=names[graphs.y], y_target=P[:, order])
    )
    assert_allclose(fitted.ratio_, expected.ratio_[np.ix_(order, order)])
    assert_allclose(fitted.edge_weights_, expected.edge_weights_)


def test_weights_of_uncertain_nodes_are_expected(graphs, rng):
    fitted = StructuralReweighter(strength=0.7).fit(**problem(graphs))
    P = rng.dirichlet(np.ones(3), len(graphs.y_target))
    expected = edge_weights(graphs.edge_index_target, P, fitted.ratio_, strength=0.7)
    assert_allclose(fitted.transform(graphs.edge_index_target, P), expected)


def test_fit_writes_nothing_and_repeats_itself(graphs):
    arguments = {name: array.copy() for name, array in problem(graphs).items()}
    for array in arguments.values():
        array.setflags(write=False)
    reweighter = StructuralReweighter()
    first = reweighter.fit(**arguments).edge_weights_
    # Fitting again starts from the graph, not from the weights.
    assert_array_equal(reweighter.fit(**arguments).edge_weights_, first)


def test_clone_forgets_and_pickle_remembers(graphs):
    fitted = StructuralReweighter(0.3, smoothing=1.0, max_ratio=50.0).fit(**problem(graphs))
    assert not hasattr(clone(fitted), "ratio_")
    assert clone(fitted).get_params() == fitted.get_params()
    assert repr(fitted) == "StructuralReweighter(max_ratio=50.0, smoothing=1.0, strength=0.3)"
    copy = pickle.loads(pickle.dumps(fitted))
    assert_array_equal(copy.transform(graphs.edge_index, graphs.y), fitted.edge_weights_)


def test_what_fit_stores_is_documented(graphs):
    fitted = StructuralReweighter().fit(**problem(graphs))
    documented = {entry.name for entry in ClassDoc(StructuralReweighter)["Attributes"]}
    assert {name for name in vars(fitted) if name.endswith("_")} == documented


@pytest.mark.parametrize(
    "check",
    [
        "check_estimator_cloneable",
        "check_estimator_repr",
        "check_get_params_invariance",
        "check_no_attributes_set_in_init",
        "check_parameters_default_constructible",
        "check_set_params",
    ],
)
def test_scikit_learn_checks_that_feed_no_rows(check):
    getattr(estimator_checks, check)("StructuralReweighter", StructuralReweighter())


@pytest.mark.parametrize(
    ("parameters", "changes", "message"),
    [
        ({}, {"edge_index_target": None}, "requires edge_index_target to be passed"),
        ({}, {"y_target": None}, "requires y_target to be passed"),
        ({}, {"y": None}, "requires y to be passed"),
        ({}, {"edge_index_target": TARGET + 2}, "edge_index_target has an edge at node 5"),
        ({}, {"edge_index": SOURCE.T}, "edge_index must have shape"),
        ({}, {"edge_index": np.empty((2, 0))}, "edge_index has no edge, so nothing"),
        ({}, {"receivers": [True, False, False, False]}, "no edge that arrives at receivers"),
        ({}, {"receivers_target": [True, False]}, "receivers_target must be a mask of 4"),
        ({}, {"y": [0, 0, 1, np.nan]}, "y has 1 labels that are missing"),
        ({}, {"y_target": ["a", None, "b", "c"]}, "y_target has 1 labels that are missing"),
        ({}, {"y": np.zeros(4, int), "y_target": np.zeros(4, int)}, "there are 1 classes"),
        ({}, {"y_target": np.full((4, 2), 0.5)}, r"3 classes \[0, 1, 2\], and .* \[2\] columns"),
        ({}, {"y_target": np.full((4, 3), 0.5)}, "row 0 of y_target is not a set of prob"),
        ({}, {"y_target": ["0", "0", "1", "2"]}, "numbers in one graph and text in another"),
        ({"classes": [0, 1]}, {}, r"labels \[2\] are not in classes=\[0, 1\]"),
        ({"classes": [0, 1, 1, 2]}, {}, "must be a list of labels"),
        ({"strength": 1.5}, {}, "strength"),
        ({"smoothing": -1.0}, {}, "smoothing"),
        ({"max_ratio": 0.0}, {}, "max_ratio"),
        ({"confusion": np.eye(2)}, {}, r"confusion has shape \(2, 2\) but there are 3 classes"),
        ({"confusion": np.eye(3) + 0.1}, {}, "columns of confusion must be non-negative and sum"),
        ({"confusion": np.full((3, 3), 1 / 3)}, {}, "do not tell some classes apart"),
        ({"confusion": np.eye(3)}, {"receivers_target": np.ones(4, bool)}, "leave one of them out"),
        ({}, {"edge_index": [SOURCE, SOURCE]}, "edge_index has 2 graphs, y 4"),
    ],
)
def test_bad_input_is_refused(parameters, changes, message):
    with pytest.raises(ValueError, match=message) as caught:
        StructuralReweighter(**parameters).fit(**{**BY_HAND, **changes})
    assert "StructuralReweighter" in str(caught.value)


def test_bad_new_graphs_are_refused():
    fitted = StructuralReweighter().fit(**BY_HAND)
    A = sparse.csr_array(np.eye(4))
    with pytest.raises(
        ValueError, match=r"y has labels \[9\] that are not in classes_=\[0, 1, 2\]"
    ):
        fitted.transform(SOURCE, [0, 1, 2, 9])
    with pytest.raises(TypeError, match="transform_adjacency returns"):
        fitted.transform(A, LABELS)
    with pytest.raises(TypeError, match=r"must be a scipy\.sparse matrix, got ndarray"):
        fitted.transform_adjacency(SOURCE, LABELS)
    with pytest.raises(ValueError, match="requires y to be passed"):
        fitted.transform(SOURCE, None)
    with pytest.raises(TypeError, match="StructuralReweighter: edge_index holds float64"):
        fitted.transform(SOURCE.astype(float), LABELS)
    with pytest.raises(ValueError, match=r"StructuralReweighter: A is .* shape \(3, 3\) but .* 4"):
        fitted.transform_adjacency(A[:3, :3], LABELS)

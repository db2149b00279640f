"""Graphs as tensors give what graphs as arrays give, and the recipe's layer obeys the weights."""

import re
from pathlib import Path

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from shift import StructuralReweighter, edge_probability, edge_weights, make_block_model

torch = pytest.importorskip("torch")


@pytest.fixture(scope="module")
def graphs():
    return make_block_model([50, 40, 30], (0.2, 0.05), (0.2, 0.15), random_state=0)


@pytest.fixture(scope="module")
def tensors(graphs):
    names = ("edge_index", "y", "edge_index_target", "y_target")
    return {name: torch.from_numpy(graphs[name].copy()) for name in names}


@pytest.fixture(scope="module")
def convolve():
    """The layer in the docstring of edge_weights, as printed there."""
    block = edge_weights.__doc__.split(".. code-block:: python")[1].split("Parameters\n")[0]
    source = re.sub(r"^ {8}", "", block, flags=re.MULTILINE)
    assert len(source.strip().splitlines()) <= 10
    names = {}
    exec(source, names)
    return names["convolve"]


def test_the_vignette_shows_the_same_layer():
    vignette = Path(__file__).parents[3] / "vignettes" / "graph_structure_shift.py"
    block = edge_weights.__doc__.split(".. code-block:: python\n\n")[1].split("\n\n")[0]
    lines = [line.removeprefix(" " * 8) for line in block.splitlines()]
    assert "\n".join(f"# {line}" for line in lines) in vignette.read_text()


OPTIONS = [
    {},
    {"smoothing": 2.0},
    {"symmetrize": True},
    {"receivers": np.arange(120) % 3 == 0},
    {"receivers": np.arange(120) % 3 == 0, "symmetrize": True, "smoothing": 1.0},
]


@pytest.mark.parametrize("options", OPTIONS, ids=lambda options: "-".join(options) or "plain")
@pytest.mark.parametrize("soft", [False, True])
def test_probabilities_agree_with_arrays(graphs, rng, options, soft):
    edge_index = np.concatenate([graphs.edge_index[:, ::3], graphs.edge_index[:, :40]], axis=1)
    y = rng.dirichlet(np.ones(3), 120) if soft else graphs.y
    found = edge_probability(torch.from_numpy(edge_index), torch.from_numpy(y), **options)
    assert_allclose(found, edge_probability(edge_index, y, **options), rtol=1e-6)
    # Labels and masks may be arrays and tensors beside each other.
    mixed = edge_probability(torch.from_numpy(edge_index), y, **options)
    assert_allclose(mixed, found, rtol=1e-6)
    reverse = edge_probability(edge_index, torch.from_numpy(y), **options)
    assert isinstance(reverse, np.ndarray)


def test_weighted_counts_agree_with_arrays(graphs, rng):
    weight = rng.uniform(size=graphs.edge_index.shape[1])
    for y in (graphs.y, np.eye(3)[graphs.y]):
        found = edge_probability(
            torch.from_numpy(graphs.edge_index), y, edge_weight=torch.from_numpy(weight)
        )
        expected = edge_probability(graphs.edge_index, y, edge_weight=weight)
        assert_allclose(found, expected, rtol=1e-6)


@pytest.mark.parametrize("dtype", [torch.int32, torch.int64, torch.uint8, torch.int16])
def test_weights_have_the_default_floating_type_and_agree_with_arrays(graphs, tensors, rng, dtype):
    ratio = rng.uniform(size=(3, 3))
    mask = np.arange(120) % 2 == 0
    y = tensors["y"].to(dtype)
    for W in (ratio, torch.from_numpy(ratio)):
        weights = edge_weights(
            tensors["edge_index"], y, W, strength=0.7, receivers=torch.from_numpy(mask)
        )
        assert weights.dtype == torch.get_default_dtype()
        expected = edge_weights(graphs.edge_index, graphs.y, ratio, strength=0.7, receivers=mask)
        assert_allclose(weights, expected, rtol=1e-6)


def test_soft_labels_pass_gradients(graphs, tensors, rng):
    P = torch.from_numpy(rng.dirichlet(np.ones(3), 120)).requires_grad_()
    ratio = rng.uniform(size=(3, 3))
    weights = edge_weights(tensors["edge_index"], P, ratio)
    assert weights.dtype == torch.float64
    expected = edge_weights(graphs.edge_index, P.detach().numpy(), ratio)
    assert_allclose(weights.detach(), expected, rtol=1e-6)
    for loss in (weights.sum(), edge_probability(tensors["edge_index"], P)[0, 1]):
        (gradient,) = torch.autograd.grad(loss, P)
        assert torch.isfinite(gradient).all()
        assert gradient.abs().sum() > 0


def test_estimator_gives_tensors_back(graphs, tensors):
    fitted = StructuralReweighter(0.7).fit(**tensors)
    expected = StructuralReweighter(0.7).fit(**{name: graphs[name] for name in tensors})
    assert isinstance(fitted.ratio_, np.ndarray)
    assert_allclose(fitted.ratio_, expected.ratio_, rtol=1e-12)
    assert torch.is_tensor(fitted.edge_weights_)
    assert_allclose(fitted.edge_weights_, expected.edge_weights_, rtol=1e-6)
    weights = fitted.transform(tensors["edge_index_target"], tensors["y_target"])
    assert_allclose(
        weights, expected.transform(graphs.edge_index_target, graphs.y_target), rtol=1e-6
    )
    logits = torch.randn(120, 3, generator=torch.Generator().manual_seed(0)).requires_grad_()
    soft = fitted.fit(**{**tensors, "y_target": logits.softmax(1)})
    assert isinstance(soft.ratio_, np.ndarray)


def test_no_edges_and_bad_tensors():
    empty = torch.empty((2, 0), dtype=torch.int64)
    assert edge_weights(empty, [0, 1], np.ones((2, 2))).shape == (0,)
    assert_array_equal(edge_probability(empty, [0, 1]), np.zeros((2, 2)))
    with pytest.raises(TypeError, match=r"holds torch\.float32 values"):
        edge_probability(torch.zeros(2, 3), [0, 1])
    with pytest.raises(ValueError, match="an edge at node 2 but there are 2 labels"):
        edge_probability(torch.tensor([[0], [2]]), [0, 1])
    with pytest.raises(TypeError, match=r"y holds torch\.bool values"):
        edge_probability(torch.tensor([[0], [1]]), torch.tensor([True, False]))


def dense_layer(x, edge_index, weights, normalize):
    """What the layer should give, from dense matrices: scaled first, weighted after."""
    A = np.zeros((len(x), len(x)))
    A[edge_index[1], edge_index[0]] = 1
    degree = np.maximum(A.sum(axis=1), 1)
    scaled = A / degree[:, None] if normalize == "mean" else A / np.sqrt(np.outer(degree, degree))
    W = np.zeros_like(A)
    W[edge_index[1], edge_index[0]] = weights
    return (scaled * W) @ x


@pytest.mark.parametrize("normalize", ["mean", "sym"])
def test_the_layer_weighs_after_normalising(convolve, graphs, tensors, rng, normalize):
    x = rng.normal(size=(120, 4))
    fitted = StructuralReweighter(1.0).fit(**tensors)
    found = convolve(
        torch.from_numpy(x).float(), tensors["edge_index"], fitted.edge_weights_, normalize
    )
    weights = fitted.edge_weights_.numpy()
    expected = dense_layer(x, graphs.edge_index, weights, normalize)
    assert_allclose(found, expected, atol=1e-5)


def test_the_layer_with_weights_has_the_neighbourhood_of_the_target(convolve, graphs, tensors):
    """Summed over the nodes of a class, weighted neighbours are made up as in the target."""
    fitted = StructuralReweighter(1.0).fit(**tensors)
    one_hot = torch.eye(3)[tensors["y"]]
    ones = torch.ones(graphs.edge_index.shape[1])
    degree = convolve(torch.ones(120, 1), tensors["edge_index"], ones, "mean").numpy()
    assert_allclose(degree, 1, rtol=1e-6)
    made_up = convolve(one_hot, tensors["edge_index"], fitted.edge_weights_, "mean").numpy()
    count = np.bincount(graphs.edge_index[1], minlength=120)
    of_class = np.stack([(made_up * count[:, None])[graphs.y == k].sum(axis=0) for k in range(3)])
    sizes = np.bincount(graphs.y)
    assert_allclose(of_class, fitted.edge_prob_target_ * np.outer(sizes, sizes), rtol=1e-5)


def test_a_layer_trains_through_the_weights(convolve, tensors):
    fitted = StructuralReweighter(0.8).fit(**tensors)
    x = torch.randn(120, 2, generator=torch.Generator().manual_seed(0)).requires_grad_()
    convolve(x, tensors["edge_index"], fitted.edge_weights_).square().sum().backward()
    assert x.grad.abs().sum() > 0

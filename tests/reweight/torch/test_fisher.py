"""Squares of gradients sample by sample, beside a loop and beside the linear model."""

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression
from torch import nn

import reweight
from reweight.torch import fisher_information


@pytest.fixture
def net():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6), nn.Tanh(), nn.Linear(6, 3)).double()


@pytest.fixture
def rows():
    generator = torch.Generator().manual_seed(1)
    X = torch.randn(20, 4, generator=generator, dtype=torch.float64)
    return X, torch.randint(0, 3, (20,), generator=generator)


def batches(X, y, size=7):
    return [(X[i : i + size], y[i : i + size]) for i in range(0, len(X), size)]


def test_beside_a_loop_over_samples(net, rows):
    net.eval()
    expected = {name: torch.zeros_like(p) for name, p in net.named_parameters()}
    for x, target in zip(*rows, strict=True):
        net.zero_grad()
        nn.functional.cross_entropy(net(x[None]), target[None]).backward()
        for name, p in net.named_parameters():
            expected[name] += p.grad**2
    net.train()
    for chunk_size in (None, 3):
        found = fisher_information(net, batches(*rows), empirical=True, chunk_size=chunk_size)
        for name, value in expected.items():
            torch.testing.assert_close(found[name], value)
    assert net.training
    assert net[1].num_batches_tracked == 0
    mean = fisher_information(net, batches(*rows), empirical=True, reduction="mean")
    torch.testing.assert_close(mean["0.bias"] * 20, expected["0.bias"])


def linear_twin():
    X, y = load_iris(return_X_y=True)
    model = LogisticRegression(max_iter=1000).fit(X, y)
    layer = nn.Linear(4, 3).double()
    layer.weight.data = torch.tensor(model.coef_)
    layer.bias.data = torch.tensor(model.intercept_)
    return X, y, model, layer


def test_empirical_is_that_of_the_linear_model():
    X, y, model, layer = linear_twin()
    found = fisher_information(layer, batches(torch.tensor(X), torch.tensor(y)), empirical=True)
    expected = reweight.fisher_information(model, X, y, empirical=True)
    assert_allclose(found["weight"], expected["coef_"], rtol=1e-8)
    assert_allclose(found["bias"], expected["intercept_"], rtol=1e-8)


def test_drawn_labels_give_the_expectation():
    X, _, model, layer = linear_twin()
    generator = torch.Generator().manual_seed(0)
    loader = [torch.tensor(X)]  # inputs alone will do
    found = fisher_information(layer, loader, n_draws=400, generator=generator)
    expected = reweight.fisher_information(model, X)
    assert_allclose(found["weight"], expected["coef_"], rtol=0.05)
    again = fisher_information(layer, loader, generator=torch.Generator().manual_seed(3))
    same = fisher_information(layer, loader, generator=torch.Generator().manual_seed(3))
    assert torch.equal(again["weight"], same["weight"])


def test_other_likelihoods_say_how_targets_are_drawn():
    torch.manual_seed(0)
    X = torch.randn(50, 3, dtype=torch.float64)
    layer = nn.Linear(3, 1).double()

    def half_squares(output, target):
        return 0.5 * (output - target).square()

    def draw(output, generator):
        return output + torch.randn(output.shape, generator=generator, dtype=output.dtype)

    generator = torch.Generator().manual_seed(0)
    found = fisher_information(
        layer, [(X,)], half_squares, draw=draw, n_draws=500, generator=generator
    )
    assert_allclose(found["weight"][0], (X**2).sum(0), rtol=0.1)
    assert_allclose(found["bias"], [50.0], rtol=0.1)


def test_it_weighs_averages_of_modules(rows):
    *_, layer = linear_twin()
    other = nn.Linear(4, 3).double()
    F = [fisher_information(m, batches(*rows), empirical=True) for m in (layer, other)]
    merged = reweight.average_parameters([layer, other], F)
    a, b = F[0]["weight"], F[1]["weight"]
    expected = (a * layer.weight + b * other.weight) / (a + b)
    torch.testing.assert_close(merged.weight.detach(), expected.detach())
    assert not np.allclose(merged.weight.detach(), layer.weight.detach())


def test_bad_input_is_refused(rows):
    layer = nn.Linear(4, 1).double()
    with pytest.raises(ValueError, match="pass draw="):
        fisher_information(layer, batches(*rows))
    with pytest.raises(ValueError, match="inputs only"):
        fisher_information(layer, [rows[0]], empirical=True)
    with pytest.raises(ValueError, match="no samples"):
        fisher_information(layer, [])
    with pytest.raises(ValueError, match="reduction='max'"):
        fisher_information(layer, [], reduction="max")
    with pytest.raises(ValueError, match="n_draws=0"):
        fisher_information(layer, [], n_draws=0)

"""Decay, penalties and parametrisations do what their formulas say; recipes are those of papers."""

import math

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.utils.parametrize import register_parametrization
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from reweight.torch import (
    CautiousWeightDecay,
    MaxNormConstraint,
    RowEquilibration,
    WeightCompander,
    norm_loss,
)


def parameter(*values):
    return nn.Parameter(torch.tensor(values))


def step(optimizer, *gradients):
    for group in optimizer.param_groups:
        for p, g in zip(group["params"], gradients, strict=True):
            p.grad = torch.tensor(g, dtype=p.dtype)
    optimizer.step()


def test_cautious_decay_by_hand():
    x = parameter(1.0, -1.0)
    optimizer = torch.optim.SGD([x], lr=0.1)
    CautiousWeightDecay(optimizer, 0.5)
    step(optimizer, [1.0, 1.0])
    torch.testing.assert_close(x.data, torch.tensor([0.85, -1.1]), atol=1e-7, rtol=0)


def test_no_cautious_decay_changes_nothing():
    x, y = parameter(1.0, -2.0, 0.5), parameter(1.0, -2.0, 0.5)
    with_decay, without = (torch.optim.Adam([p], lr=0.1) for p in (x, y))
    CautiousWeightDecay(with_decay, 0.0)
    for optimizer in (with_decay, without):
        step(optimizer, [1.0, -0.3, 0.0])
    assert torch.equal(x, y)


def test_where_every_step_shrinks_it_is_decoupled_decay():
    start = [1.0, -2.0, 0.5]
    x, y = parameter(*start), parameter(*start)
    cautious, decoupled = torch.optim.AdamW([x], lr=0.01), torch.optim.AdamW([y], lr=0.01)
    for group in (*cautious.param_groups, *decoupled.param_groups):
        group["weight_decay"] = 0.3
    CautiousWeightDecay(cautious)
    for _ in range(5):
        for optimizer in (cautious, decoupled):
            step(optimizer, [1.0, -1.0, 1.0])
    torch.testing.assert_close(x.data, y.data, atol=1e-6, rtol=0)


def test_the_update_after_momentum_decides_not_the_gradient():
    x = parameter(1.0)
    optimizer = torch.optim.SGD([x], lr=0.1, momentum=0.9)
    CautiousWeightDecay(optimizer, 0.5)
    step(optimizer, [-1.0])  # grows: no decay
    torch.testing.assert_close(x.data, torch.tensor([1.1]))
    step(optimizer, [0.5])  # momentum still grows it, though the gradient would shrink it
    torch.testing.assert_close(x.data, torch.tensor([1.1 + 0.1 * 0.4]))
    step(optimizer, [0.36])  # no update at all: decay is active
    torch.testing.assert_close(x.data, torch.tensor([1.14 * (1 - 0.1 * 0.5)]))


def test_groups_closures_new_groups_and_removal():
    x, bias, late = parameter(1.0), parameter(1.0), parameter(1.0)
    optimizer = torch.optim.AdamW(
        [{"params": [x], "weight_decay": 0.2}, {"params": [bias], "weight_decay": 0.0}], lr=0.0
    )
    decay = CautiousWeightDecay(optimizer)
    optimizer.add_param_group({"params": [late], "weight_decay": 0.4, "lr": 1.0})
    optimizer.param_groups[0]["lr"] = optimizer.param_groups[1]["lr"] = 0.5

    def closure():
        for p in (x, bias, late):
            p.grad = torch.zeros(1)

    closure()
    optimizer.step(closure)
    assert x.item() == pytest.approx(1 - 0.5 * 0.2)
    assert bias.item() == 1
    assert late.item() == pytest.approx(1 - 0.4)
    decay.remove()
    assert [group["weight_decay"] for group in optimizer.param_groups] == [0.2, 0.0, 0.4]
    assert all("cautious_weight_decay" not in group for group in optimizer.param_groups)
    with pytest.raises(ValueError, match=r"weight_decay=-1"):
        CautiousWeightDecay(optimizer, -1.0)


def test_norm_loss_and_its_gradient():
    generator = torch.Generator().manual_seed(0)
    layer = nn.Linear(5, 3).double()
    layer.weight.data = torch.randn(3, 5, generator=generator, dtype=torch.float64)
    norm_loss(layer).backward()
    norms = layer.weight.data.norm(dim=1, keepdim=True)
    expected = 2 * (1 - 1 / norms) * layer.weight.data
    torch.testing.assert_close(layer.weight.grad, expected, atol=1e-6, rtol=0)
    assert layer.bias.grad is None
    layer.weight.data /= norms
    assert norm_loss(layer).item() < 1e-12
    assert norm_loss(layer, target=3.0).item() == pytest.approx(12.0)
    layer.weight.data.zero_()
    layer.weight.grad = None
    norm_loss(layer).backward()
    assert torch.isfinite(layer.weight.grad).all()


def test_norm_loss_sees_units_of_every_layer():
    net = nn.Sequential(
        nn.Conv2d(2, 3, 2), nn.BatchNorm2d(3), nn.ConvTranspose2d(3, 4, 2), nn.ReLU()
    )
    conv = net[0].weight.flatten(1).norm(dim=1)
    transposed = net[2].weight.transpose(0, 1).flatten(1).norm(dim=1)
    assert len(transposed) == 4
    expected = ((conv - 1) ** 2).sum() + ((transposed - 1) ** 2).sum()
    torch.testing.assert_close(norm_loss(net), expected)
    with pytest.raises(ValueError, match="no linear or convolutional layer"):
        norm_loss(nn.ReLU())


def test_rows_are_equilibrated_near_the_best_scaling():
    rng = np.random.default_rng(0)
    W = rng.normal(size=(6, 10)) * rng.uniform(0.01, 100, size=(6, 1))
    PW = RowEquilibration()(torch.tensor(W)).numpy()
    np.testing.assert_allclose(np.linalg.norm(PW, axis=1), 1, rtol=1e-10)
    condition = np.linalg.cond(PW)
    for _ in range(100):
        D = rng.lognormal(sigma=2, size=(6, 1))
        assert condition <= math.sqrt(6) * np.linalg.cond(D * W) + 1e-10


def test_row_equilibration_is_weight_normalisation_with_gain_one():
    torch.manual_seed(0)
    conv = nn.Conv2d(2, 3, 2)
    W = conv.weight.detach().clone()
    register_parametrization(conv, "weight", RowEquilibration())
    normed = nn.utils.parametrizations.weight_norm(nn.Conv2d(2, 3, 2))
    normed.weight = W
    normed.parametrizations.weight.original0.data.fill_(1.0)
    torch.testing.assert_close(conv.weight, normed.weight)
    x = torch.randn(4, 2, 5, 5)
    for layer in (conv, normed):
        layer.bias.data.zero_()
        layer(x).square().sum().backward()
    torch.testing.assert_close(
        conv.parametrizations.weight.original.grad,
        normed.parametrizations.weight.original1.grad,
        rtol=1e-4,
        atol=1e-4,
    )
    zero = RowEquilibration()(torch.zeros(2, 3, requires_grad=True))
    assert torch.equal(zero, torch.zeros(2, 3))
    zero.sum().backward()


@pytest.mark.parametrize("learnable", [False, True])
def test_the_compander_has_an_inverse_and_its_slope(learnable):
    compander = WeightCompander(a=2.0, b=0.5, learnable=learnable).double()
    w = torch.linspace(-3.1, 3.1, 50, dtype=torch.float64)
    torch.testing.assert_close(compander(compander.right_inverse(w)), w, atol=1e-6, rtol=0)
    v = torch.zeros(1, dtype=torch.float64, requires_grad=True)
    compander(v).backward()
    assert v.grad.item() == pytest.approx(4.0, abs=1e-6)
    assert len(list(compander.parameters())) == 2 * learnable
    layer = nn.Linear(4, 4).double()
    before = layer.weight.detach().clone()
    register_parametrization(layer, "weight", compander)
    torch.testing.assert_close(layer.weight.detach(), before, atol=1e-6, rtol=0)
    layer(torch.ones(1, 4, dtype=torch.float64)).sum().backward()
    if learnable:
        assert compander.log_a.grad is not None
    with pytest.raises(ValueError, match="choose a larger a"):
        compander.right_inverse(torch.tensor([4.0]))
    with pytest.raises(ValueError, match=r"b=0.0; it must be positive"):
        WeightCompander(b=0.0)


@pytest.mark.parametrize("make", [lambda: nn.Linear(4, 6), lambda: nn.ConvTranspose2d(3, 6, 2)])
def test_long_rows_are_cut_to_the_cap_and_stay(make):
    torch.manual_seed(0)
    layer = make()
    transposed = isinstance(layer, nn.ConvTranspose2d)

    def rows():
        weight = layer.weight.data.transpose(0, 1) if transposed else layer.weight.data
        return weight.flatten(1)

    norms = rows().norm(dim=1)
    cap = norms.min() + 0.3 * (norms.max() - norms.min())
    before, bias = rows().clone(), layer.bias.detach().clone()
    constraint = MaxNormConstraint(layer, q=0.3)
    constraint.apply_()
    after = rows().clone()
    small = norms <= cap
    assert 0 < small.sum() < len(small)
    assert torch.equal(after[small], before[small])
    torch.testing.assert_close(after[~small].norm(dim=1), cap.expand(int((~small).sum())))
    torch.testing.assert_close(after[~small] / cap, before[~small] / norms[~small, None])
    constraint.apply_()
    assert torch.equal(rows(), after)
    assert torch.equal(layer.bias, bias)
    with pytest.raises(ValueError, match=r"q=2"):
        MaxNormConstraint(layer, q=2.0)
    with pytest.raises(ValueError, match="to constrain"):
        MaxNormConstraint(nn.ReLU())


def test_recipe_of_decoupled_decay_is_the_loop_of_the_paper():
    alpha, decay, T = 0.01, 0.003, 20
    betas, eps = (0.9, 0.999), 1e-8
    rng = np.random.default_rng(0)
    gradients = rng.normal(size=(T, 5))
    theta = rng.normal(size=5)
    x = nn.Parameter(torch.tensor(theta))
    optimizer = torch.optim.AdamW([x], lr=alpha, betas=betas, eps=eps, weight_decay=decay / alpha)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=T)
    m, v = np.zeros(5), np.zeros(5)
    for t, g in enumerate(gradients):
        eta = 0.5 * (1 + math.cos(math.pi * t / T))
        m = betas[0] * m + (1 - betas[0]) * g
        v = betas[1] * v + (1 - betas[1]) * g * g
        m_hat, v_hat = m / (1 - betas[0] ** (t + 1)), v / (1 - betas[1] ** (t + 1))
        theta = theta - eta * (alpha * m_hat / (np.sqrt(v_hat) + eps) + decay * theta)
        x.grad = torch.tensor(g)
        optimizer.step()
        schedule.step()
    np.testing.assert_allclose(x.detach().numpy(), theta, atol=1e-6)


def test_recipe_of_the_moving_average_is_the_recursion():
    layer = nn.Linear(2, 1).double()
    slow = AveragedModel(layer, multi_avg_fn=get_ema_multi_avg_fn(0.9))
    slow.update_parameters(layer)  # the first call copies
    expected = layer.weight.detach().clone()
    for k in range(5):
        layer.weight.data += k
        slow.update_parameters(layer)
        expected = 0.9 * expected + 0.1 * layer.weight.detach()
    torch.testing.assert_close(slow.module.weight.detach(), expected)

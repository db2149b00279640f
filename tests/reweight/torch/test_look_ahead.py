"""Weighters that look one step ahead: exact derivatives, learning, frozen nets, state."""

import copy
import pickle

import pytest
import torch
from torch import nn
from torch.func import functional_call
from torch.testing import assert_close

from reweight.torch import BilevelWeighter, MetaWeightNet
from reweight.torch._functional import chosen_params
from reweight.torch._look_ahead import step_rates, validation_slopes

LR = 0.3


def losses(call, batch):
    return nn.functional.cross_entropy(call(batch[0]), batch[1], reduction="none")


def make(device="cpu", dtype=torch.float64, n=6):
    generator = torch.Generator().manual_seed(0)
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 3)).to(device, dtype)
    batch, clean = (
        (
            torch.randn(size, 4, generator=generator, dtype=dtype).to(device),
            torch.randint(3, (size,), generator=generator).to(device),
        )
        for size in (n, 5)
    )
    return model, batch, clean


def validation_loss(model, batch, clean, weights, rates=None):
    """Mean validation loss after one weighted step, with a graph to the weights."""
    params = dict(model.named_parameters())
    at = lambda p: losses(lambda x: functional_call(model, p, x), batch)
    gradient = torch.autograd.grad(
        (weights * at(params)).mean(), list(params.values()), create_graph=True
    )
    rates = dict.fromkeys(params, LR) if rates is None else rates
    ahead = {k: p - rates[k] * g for (k, p), g in zip(params.items(), gradient, strict=True)}
    return losses(lambda x: functional_call(model, ahead, x), clean).mean()


def slopes_at(model, batch, clean, weights, rates=None, **settings):
    params = chosen_params("test", model, settings.pop("params", None))
    rates = dict.fromkeys(params, LR) if rates is None else rates
    settings = {"method": "auto", "group": None} | settings
    return validation_slopes(
        "test", model, losses, batch, clean, lambda _: weights, params, rates, **settings
    ).slopes


def test_slopes_equal_double_backward_and_differences(device):
    model, batch, clean = make(device)
    weights = torch.rand(6, dtype=torch.float64, device=device).requires_grad_()
    value = validation_loss(model, batch, clean, weights)
    expected = torch.autograd.grad(value, weights)[0]
    found = slopes_at(model, batch, clean, weights.detach())
    assert_close(found, expected, rtol=1e-10, atol=1e-14)
    eps = 1e-5
    for i, unit in enumerate(torch.eye(6, dtype=torch.float64, device=device)):
        ends = [validation_loss(model, batch, clean, weights + s * eps * unit) for s in (1, -1)]
        assert_close((ends[0] - ends[1]).item() / (2 * eps), found[i].item(), rtol=1e-6, atol=1e-9)


def test_single_precision_slopes_agree_with_double_backward():
    model, batch, clean = make(dtype=torch.float32)
    weights = torch.rand(6).requires_grad_()
    expected = torch.autograd.grad(validation_loss(model, batch, clean, weights), weights)[0]
    found = slopes_at(model, batch, clean, weights.detach())
    assert_close(found, expected, rtol=1e-5, atol=1e-5 * float(expected.abs().max()))
    rough = slopes_at(model, batch, clean, weights.detach(), method="fd")
    assert (rough - expected).norm() < 1e-2 * expected.norm()


def test_slopes_of_linear_regression_have_a_closed_form():
    x, y = torch.randn(5, 3).double(), torch.randn(5).double()
    x_val, y_val = torch.randn(4, 3).double(), torch.randn(4).double()
    model = nn.Linear(3, 1, bias=False).double()
    weights = torch.rand(5).double()
    theta = model.weight.detach()[0]
    squared = lambda call, b: (call(b[0]).squeeze(1) - b[1]).square() / 2
    by_row = (x @ theta - y)[:, None] * x
    ahead = theta - LR * (weights[:, None] * by_row).mean(0)
    v = ((x_val @ ahead - y_val)[:, None] * x_val).mean(0)
    params = chosen_params("test", model, None)
    found = validation_slopes(
        "test",
        model,
        squared,
        (x, y),
        (x_val, y_val),
        lambda _: weights,
        params,
        {"weight": LR},
        method="jvp",
        group=None,
    )
    assert_close(found.slopes, -LR * (by_row @ v) / 5)


def test_rates_of_adam_scale_step_and_slopes():
    model, batch, clean = make()
    params = chosen_params("test", model, None)
    optimizer = torch.optim.Adam(
        [{"params": model[0].parameters(), "lr": 0.1}, {"params": model[2].parameters()}], lr=0.02
    )
    assert step_rates("test", model, params, optimizer, "adam") is None
    for _ in range(3):
        optimizer.zero_grad()
        losses(model, batch).mean().backward()
        optimizer.step()
    rates = step_rates("test", model, params, optimizer, "adam")
    moment = optimizer.state[model[0].weight]["exp_avg_sq"] / (1 - 0.999**3)
    assert_close(rates["0.weight"], 0.1 / (moment.sqrt() + 1e-8))
    weights = torch.rand(6).double().requires_grad_()
    value = validation_loss(model, batch, clean, weights, rates)
    found = slopes_at(model, batch, clean, weights.detach(), rates)
    assert_close(found, torch.autograd.grad(value, weights)[0], rtol=1e-9, atol=1e-14)
    assert step_rates("test", model, params, optimizer, "sgd")["2.bias"] == 0.02


def test_the_head_alone_may_move():
    model, batch, clean = make()
    weights = torch.rand(6).double().requires_grad_()
    rates = {name: LR * name.startswith("2.") for name, _ in model.named_parameters()}
    value = validation_loss(model, batch, clean, weights, rates)
    found = slopes_at(model, batch, clean, weights.detach(), params="head")
    assert_close(found, torch.autograd.grad(value, weights)[0])


class Joint(nn.Module):
    """Scores by attention among the rows of a batch."""

    def __init__(self, n_inputs=2, width=8):
        super().__init__()
        self.read = nn.Linear(n_inputs, width)
        self.attend = nn.MultiheadAttention(width, 2, batch_first=True)
        self.score = nn.Linear(width, 1)

    def forward(self, z):
        h = self.read(z).unsqueeze(0)
        return self.score(torch.tanh(h + self.attend(h, h, h)[0]))[0]


def plain_step(parameters):
    return torch.optim.SGD(parameters, lr=1.0)


def changes(net, before):
    """Gradient that a plain step of length one has followed."""
    return {name: before[name] - p.detach() for name, p in net.named_parameters()}


def test_the_net_of_a_bilevel_weighter_follows_the_exact_gradient(device):
    model, batch, clean = make(device)
    net = Joint().to(device, torch.float64)
    weigh = BilevelWeighter([clean], net, LR, meta_optimizer=plain_step)
    before = {name: p.detach().clone() for name, p in net.named_parameters()}
    observed = losses(model, batch).detach()
    inputs = torch.stack([observed, observed - observed.mean()], 1)
    weights = 6 * torch.softmax(net(inputs)[:, 0], 0)
    value = validation_loss(model, batch, clean, weights)
    expected = torch.autograd.grad(value, list(net.parameters()))
    weigh.observe(model, losses, batch)
    for found, exact in zip(changes(net, before).values(), expected, strict=True):
        assert_close(found, exact, rtol=1e-8, atol=1e-14)


def test_the_net_of_meta_weight_net_follows_the_exact_gradient(device):
    model, batch, clean = make(device)
    weigh = MetaWeightNet([clean], LR).double().to(device)
    net = weigh.weight_net
    weigh.meta_optimizer = plain_step(net.parameters())
    before = {name: p.detach().clone() for name, p in net.named_parameters()}
    weights = net(losses(model, batch).detach()[:, None])[:, 0]
    value = validation_loss(model, batch, clean, weights)
    expected = torch.autograd.grad(value, list(net.parameters()))
    weigh.observe(model, losses, batch)
    for found, exact in zip(changes(net, before).values(), expected, strict=True):
        assert_close(found, exact, rtol=1e-8, atol=1e-14)
    after = net(losses(model, batch).detach()[:, None])[:, 0].detach()
    loss = losses(model, batch)
    assert_close(weigh(loss), (after * loss).mean())


@pytest.mark.parametrize("kind", ["bilevel", "meta"])
def test_validation_loss_after_the_step_falls(kind):
    model, batch, _ = make()
    if kind == "bilevel":
        weigh = BilevelWeighter([batch], Joint().double(), LR)
    else:
        weigh = MetaWeightNet([batch], LR).double()
    observed = losses(model, batch).detach()

    def value():
        weigh._observed = True
        return validation_loss(model, batch, batch, weigh.weights(observed)).item()

    first = value()
    for _ in range(20):
        weigh.observe(model, losses, batch)
    assert value() < first


def test_weights_go_with_the_rows():
    weigh = BilevelWeighter([0], Joint(), LR)
    weigh._observed = True
    loss, order = torch.rand(6), torch.tensor([3, 1, 5, 0, 4, 2])
    assert_close(weigh.weights(loss[order]), weigh.weights(loss)[order])
    assert_close(weigh.weights(loss).mean().item(), 1.0)
    assert_close(
        weigh.weights(loss),
        6
        * torch.softmax(
            weigh.weight_net(torch.stack([loss, loss - loss.mean()], 1))[:, 0], 0
        ).detach(),
    )


def test_masked_rows_do_not_enter_the_mean_or_the_softmax():
    weigh = BilevelWeighter([0], nn.Linear(2, 1), LR)
    weigh._observed = True
    loss, mask = torch.rand(6), torch.tensor([1, 1, 0, 1, 0, 1], dtype=torch.bool)
    found = weigh.weights(torch.where(mask, loss, torch.nan), mask=mask)
    assert_close(found[mask], weigh.weights(loss[mask]))


def test_a_frozen_net_does_not_change_and_needs_no_look():
    model, batch, clean = make()
    weigh = BilevelWeighter([clean], Joint().double(), LR)
    weigh.weight_net.requires_grad_(False)
    before = copy.deepcopy(weigh.state_dict())
    weigh.observe(model, lambda call, b: 1 / 0, batch)
    weigh(losses(model, batch))
    after = weigh.state_dict()
    assert all(torch.equal(before[k], after[k]) for k in before if k.startswith("weight_net"))


@pytest.mark.parametrize("every", [1, 3])
def test_the_net_moves_when_due(every):
    model, batch, clean = make()
    weigh = MetaWeightNet([clean], LR, every=every, warmup_steps=2)
    moved = []
    for _ in range(8):
        before = weigh.weight_net[0].bias.detach().clone()
        weigh.observe(model, losses, batch)
        moved.append(not torch.equal(before, weigh.weight_net[0].bias))
        weigh(losses(model, batch))
    assert moved == [step >= 2 and (step - 2) % every == 0 for step in range(8)]


def test_features_are_read_from_the_model():
    model, batch, clean = make()
    hidden = lambda m, b: m[1](m[0](b[0]))
    weigh = BilevelWeighter([clean], Joint(8).double(), LR, features=hidden)
    weigh.observe(model, losses, batch)
    loss = losses(model, batch).detach()
    scores = weigh.weight_net(hidden(model, batch))[:, 0]
    assert_close(weigh.weights(loss), 6 * torch.softmax(scores, 0).detach())
    given = hidden(model, batch).detach().flip(0)
    assert_close(weigh.weights(loss, features=given), weigh.weights(loss).flip(0))
    weigh(loss)
    weigh.eval()
    with pytest.raises(RuntimeError, match="features of this batch are not known"):
        weigh.raw_weights(loss)


def test_model_is_left_as_it_was():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Dropout(0.5), nn.Linear(8, 3))
    batch = (torch.randn(6, 4), torch.randint(3, (6,)))
    state, random = copy.deepcopy(model.state_dict()), torch.get_rng_state()
    weigh = MetaWeightNet([batch], LR)
    random = torch.get_rng_state()
    weigh.observe(model, losses, batch)
    assert torch.equal(torch.get_rng_state(), random)
    assert all(torch.equal(state[name], value) for name, value in model.state_dict().items())
    assert all(p.grad is None for p in model.parameters())


def test_passes_share_their_dropout_masks():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 16), nn.Dropout(0.5), nn.Linear(16, 3)).double()
    batch, clean = ((torch.randn(n, 4).double(), torch.randint(3, (n,))) for n in (6, 5))
    weights = torch.rand(6).double()
    found = slopes_at(model, batch, clean, weights, method="jvp")
    rough = slopes_at(model, batch, clean, weights, method="fd")
    assert_close(rough, found, rtol=1e-2, atol=1e-4 * float(found.abs().max()))


def run(model, weigh, optimizer, steps):
    values = []
    generator = torch.Generator().manual_seed(4)
    for _ in range(steps):
        batch = (torch.randn(6, 4, generator=generator).double(), torch.arange(6) % 3)
        weigh.observe(model, losses, batch)
        value = weigh(losses(model, batch))
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
        values.append(value.item())
    return values


def several(n=5):
    generator = torch.Generator().manual_seed(9)
    return [
        (torch.randn(4, 4, generator=generator).double(), torch.arange(4) % 3) for _ in range(n)
    ]


def builders():
    loaders = several()
    yield lambda lr: MetaWeightNet(loaders, lr, every=2, inner="adam")
    yield lambda lr: BilevelWeighter(loaders, Joint(), lr, warmup_steps=1)


@pytest.mark.parametrize("build", list(builders()), ids=["meta", "bilevel"])
def test_resumes_to_the_bit(build):
    model, _, _ = make()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.05)
    weigh = build(optimizer)
    run(model, weigh, optimizer, 4)
    saved = copy.deepcopy([thing.state_dict() for thing in (model, optimizer, weigh)])
    expected = run(model, weigh, optimizer, 4)
    other = make()[0]
    again = torch.optim.Adam(other.parameters(), lr=0.05)
    fresh = build(again)
    for thing, state in zip((other, again, fresh), saved, strict=True):
        thing.load_state_dict(state)
    assert run(other, fresh, again, 4) == expected


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda w: pickle.loads(pickle.dumps(w))])
def test_copies_have_their_own_net_and_optimiser(copied):
    model, batch, clean = make()
    weigh = MetaWeightNet([clean], LR)
    weigh.observe(model, losses, batch)
    twin = copied(weigh)
    before = weigh.weight_net[0].bias.detach().clone()
    twin.observe(model, losses, batch)
    assert torch.equal(weigh.weight_net[0].bias, before)
    assert not torch.equal(twin.weight_net[0].bias, before)
    weigh.observe(model, losses, batch)
    assert torch.equal(weigh.weight_net[0].bias, twin.weight_net[0].bias)


def test_deep_copies_refer_to_the_optimiser_and_the_loader_of_the_model():
    model, _, clean = make()
    optimizer, loader = torch.optim.SGD(model.parameters(), lr=0.1), [clean]
    twin = copy.deepcopy(MetaWeightNet(loader, optimizer))
    assert twin.lr is optimizer
    assert twin._batches.loader is loader


def test_bad_input_is_named():
    model, batch, clean = make()
    with pytest.raises(TypeError, match="cannot be iterated over again and again"):
        MetaWeightNet(iter([clean]), LR)
    with pytest.raises(ValueError, match="val_loader yields no batch"):
        MetaWeightNet([], LR).observe(model, losses, batch)
    with pytest.raises(ValueError, match="lr=0; pass a positive step size or the optimiser"):
        MetaWeightNet([clean], 0)
    with pytest.raises(ValueError, match=r"inner='adam' with lr=0\.3; pass the Adam optimiser"):
        MetaWeightNet([clean], LR, inner="adam")
    with pytest.raises(ValueError, match="inner='lion'; choose one of"):
        MetaWeightNet([clean], LR, inner="lion")
    with pytest.raises(ValueError, match="every=0; pass a whole number"):
        MetaWeightNet([clean], LR, every=0)
    with pytest.raises(ValueError, match="params='tail'; pass 'head', names"):
        MetaWeightNet([clean], LR, params="tail")
    with pytest.raises(ValueError, match="params names 'nothing', which is no trained parameter"):
        MetaWeightNet([clean], LR, params=["nothing"]).observe(model, losses, batch)
    other = torch.optim.SGD(nn.Linear(1, 1).parameters(), lr=1.0)
    with pytest.raises(ValueError, match=r"does not train the parameter '0\.weight'"):
        MetaWeightNet([clean], other).observe(model, losses, batch)
    momentum = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    losses(model, batch).mean().backward()
    momentum.step()
    with pytest.raises(ValueError, match="second moments but lr is SGD; pass Adam"):
        MetaWeightNet([clean], momentum, inner="adam").observe(model, losses, batch)
    with pytest.raises(RuntimeError, match="the batch was not observed"):
        MetaWeightNet([clean], LR)(torch.ones(3))
    with pytest.raises(ValueError, match="weight_net is a Tanh; pass a module with parameters"):
        BilevelWeighter([clean], nn.Tanh(), LR)
    with pytest.raises(ValueError, match=r"scores of shape \(6, 2\) for 6 rows"):
        BilevelWeighter([clean], nn.Linear(2, 2), LR).observe(model, losses, batch)

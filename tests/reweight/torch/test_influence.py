"""Self-influence: ghost norms against gradients by row, closed forms, weights, micro-batches."""

import copy
import math
import pickle

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from reweight.torch import SelfInfluenceWeighter, self_influence


def squares(call, batch):
    """Losses by row of any output, none of whose gradients vanish."""
    output = call(batch).flatten(1)
    aim = torch.linspace(-1.0, 2.0, output.shape[1], dtype=output.dtype, device=output.device)
    return (output - aim).square().mean(1)


def by_rows(model, batch):
    """Squared gradient norms from one backward pass a row."""
    losses = squares(model, batch)
    params = [p for p in model.parameters() if p.requires_grad]
    norms = []
    for loss in losses:
        gradients = torch.autograd.grad(loss, params, retain_graph=True, allow_unused=True)
        norms.append(sum(g.square().sum() for g in gradients if g is not None))
    return torch.stack(norms).detach()


class Sequence(nn.Module):
    """Embedding, mixing, normalisation; rows of tokens in, rows of vectors out."""

    def __init__(self, width=6):
        super().__init__()
        self.tokens = nn.Embedding(7, width, padding_idx=0)
        self.mix = nn.Linear(width, width)
        self.norm = nn.LayerNorm(width)

    def forward(self, x):
        h = self.tokens(x)
        return self.norm(h + torch.relu_(self.mix(h)).cumsum(1))


class Twice(nn.Module):
    """One layer used twice."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(4, 4)

    def forward(self, x):
        return self.layer(torch.tanh(self.layer(x)))


class Tied(nn.Module):
    """An embedding whose weight is that of the output layer."""

    def __init__(self):
        super().__init__()
        self.tokens = nn.Embedding(5, 3)
        self.out = nn.Linear(3, 5, bias=False)
        self.out.weight = self.tokens.weight

    def forward(self, x):
        return self.out(self.tokens(x))


def models():
    generator = torch.Generator().manual_seed(0)
    rows = lambda *shape: torch.randn(*shape, generator=generator)
    tokens = lambda *shape: torch.randint(7, shape, generator=generator)
    mlp = nn.Sequential(nn.Linear(5, 7), nn.ReLU(inplace=True), nn.Linear(7, 3))
    yield pytest.param(mlp, rows(6, 5), id="mlp")
    # 2 T^2 on both sides of the product of the widths.
    yield pytest.param(nn.Linear(5, 4), rows(6, 3, 5), id="few-positions")
    yield pytest.param(nn.Linear(5, 4), rows(6, 4, 5), id="many-positions")
    yield pytest.param(nn.Linear(5, 4), rows(6, 2, 3, 5), id="grid-of-positions")
    yield pytest.param(Sequence(), tokens(6, 4), id="tokens")
    yield pytest.param(Twice(), rows(6, 4), id="used-twice")
    yield pytest.param(nn.Conv1d(4, 6, 3, 2, 1, groups=2), rows(5, 4, 9), id="conv1d")
    conv = nn.Conv2d(3, 4, (3, 2), padding="same", dilation=(1, 2))
    yield pytest.param(conv, rows(5, 3, 6, 5), id="conv2d-same")
    stack = nn.Sequential(nn.Conv2d(2, 4, 3, stride=2), nn.ReLU(), nn.Flatten(), nn.Linear(16, 2))
    yield pytest.param(stack, rows(5, 2, 6, 6), id="conv2d-stack")
    frozen = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 2))
    frozen[0].requires_grad_(False)
    yield pytest.param(frozen, rows(5, 4), id="frozen-layer")


@pytest.mark.parametrize(("model", "batch"), list(models()))
@pytest.mark.parametrize(("dtype", "rtol"), [(torch.float32, 1e-5), (torch.float64, 1e-10)])
@pytest.mark.parametrize("method", ["ghost", "exact"])
def test_norms_equal_gradients_one_row_at_a_time(model, batch, dtype, rtol, method, device):
    model = copy.deepcopy(model).to(device, dtype)
    batch = batch.to(device, dtype) if batch.is_floating_point() else batch.to(device)
    expected = by_rows(model, batch)
    found = self_influence(model, squares, batch, method=method)
    assert_close(found, expected, rtol=rtol, atol=0)
    assert not found.requires_grad


def test_autocast_gives_nearly_the_norms_of_single_precision(device):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(5, 7), nn.ReLU(), nn.Linear(7, 3)).to(device)
    x = torch.randn(6, 5, device=device)
    with torch.autocast(device.type, torch.bfloat16):
        found = self_influence(model, squares, x)
    assert found.dtype == torch.float32
    assert_close(found, self_influence(model, squares, x), rtol=5e-2, atol=1e-3)


def test_logistic_regression_has_a_closed_form(device):
    torch.manual_seed(0)
    model = nn.Linear(4, 3, bias=False, device=device, dtype=torch.float64)
    x = torch.randn(5, 4, dtype=torch.float64, device=device)
    y = torch.randint(3, (5,), device=device)
    loss = lambda call, b: nn.functional.cross_entropy(call(b[0]), b[1], reduction="none")
    residual = torch.softmax(model(x), 1) - nn.functional.one_hot(y, 3)
    expected = x.square().sum(1) * residual.square().sum(1)
    assert_close(self_influence(model, loss, (x, y)), expected.detach())


def test_head_and_modules_choose_parameters():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 2))
    x = torch.randn(6, 4)
    head = self_influence(model, squares, x, method="head")
    assert_close(self_influence(model, squares, x, modules=["2"]), head)
    assert_close(self_influence(model, squares, x, modules=["2"], method="exact"), head)
    first = self_influence(model, squares, x, modules=[model[0]])
    assert_close(first + head, self_influence(model, squares, x))


def test_model_is_left_as_it_was():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), nn.Dropout(0.5), nn.Linear(4, 2))
    before = copy.deepcopy(model.state_dict())
    random = torch.get_rng_state()
    self_influence(model, squares, torch.randn(6, 4), method="exact")
    x = torch.randn(6, 4)
    torch.set_rng_state(random)
    self_influence(model, squares, x, method="ghost", approximate=True)
    assert torch.equal(torch.get_rng_state(), random)
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert all(p.grad is None for p in model.parameters())
    assert not any(m._forward_hooks for m in model.modules())


def test_what_would_not_be_exact_is_refused():
    x = torch.randn(6, 4)
    coupled = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4))
    with pytest.raises(ValueError, match="'1' is a BatchNorm1d in training mode"):
        self_influence(coupled, squares, x)
    coupled.eval()
    with pytest.raises(ValueError, match="depends on 2 parameters outside of linear"):
        self_influence(coupled, squares, x)
    inner = self_influence(coupled, squares, x, approximate=True)
    assert_close(inner, self_influence(coupled, squares, x, method="exact", modules=["0"]))
    tied = Tied()
    tokens = torch.randint(5, (4, 3))
    with pytest.raises(ValueError, match="share a weight, so norms do not add up"):
        self_influence(tied, squares, tokens)
    assert_close(self_influence(tied, squares, tokens, method="exact"), by_rows(tied, tokens))
    attention = nn.TransformerEncoderLayer(4, 2, 8, dropout=0.0, batch_first=True)
    with pytest.raises(ValueError, match=r"among them 'self_attn\.in_proj_weight'"):
        self_influence(attention, squares, torch.randn(3, 5, 4))


def test_bad_input_is_named():
    model, x = nn.Sequential(nn.Linear(4, 2), nn.PReLU()), torch.randn(3, 4)
    with pytest.raises(ValueError, match="method='fast'; choose one of"):
        self_influence(model, squares, x, method="fast")
    with pytest.raises(ValueError, match="modules names 'last', which is no module"):
        self_influence(model, squares, x, modules=["last"])
    with pytest.raises(ValueError, match="'1', a PReLU, are not known to method='ghost'"):
        self_influence(model, squares, x, modules=["1"])
    with pytest.raises(ValueError, match="reduction='none'"):
        self_influence(model, lambda call, b: squares(call, b).mean(), x)
    with pytest.raises(ValueError, match="no linear layer to be its head"):
        self_influence(nn.PReLU(), squares, x, method="head")
    with pytest.raises(ValueError, match="was given 3 rows for 4 losses"):
        self_influence(nn.Linear(4, 4), lambda call, b: call(b).square().mean(0), x)


def given(weigh, influence):
    """A weighter that has observed these influences."""
    weigh._observed, weigh._seen = True, influence
    return weigh


INFLUENCE = torch.tensor([1.0, 100.0, 10.0, 1000.0], dtype=torch.float64)


@pytest.mark.parametrize("scale", ["zscore", "rank", "log", "none"])
def test_weights_follow_the_formula_and_turn_round_at_the_switch(scale, device):
    logs = INFLUENCE.log()
    scaled = {
        "zscore": (logs - logs.mean()) / logs.std(correction=0),
        # The mean of the ranks from below and from above, over their number.
        "rank": torch.tensor([0.5, 2.5, 1.5, 3.5]).double() / 4,
        "log": logs,
        "none": INFLUENCE,
    }[scale]
    temperature = (200.0, 100.0) if scale == "none" else (2.0, 0.5)
    losses = torch.ones(4, dtype=torch.float64, device=device)
    for step, rate in ((0, 1 / temperature[0]), (9, 1 / temperature[0]), (10, -1 / temperature[1])):
        weigh = SelfInfluenceWeighter(10, temperature, scale=scale).to(device)
        weigh.set_step(step)
        found = given(weigh, INFLUENCE.to(device)).weights(losses).cpu()
        assert_close(found, 4 * torch.softmax(rate * scaled, 0))


def test_high_temperature_is_uniform_and_equal_influences_have_equal_weights():
    weights = given(SelfInfluenceWeighter(5, 1e6), INFLUENCE).weights(torch.ones(4))
    assert (weights - 1).abs().max() < 1e-5
    weights = given(SelfInfluenceWeighter(5), torch.full((4,), 3.0)).weights(torch.ones(4))
    assert_close(weights, torch.ones(4))


def test_masked_rows_enter_no_statistic():
    mask = torch.tensor([True, True, False, True])
    for scale in ("zscore", "rank", "log"):
        masked = given(SelfInfluenceWeighter(5, scale=scale), INFLUENCE)
        short = given(SelfInfluenceWeighter(5, scale=scale), INFLUENCE[mask])
        found = masked.weights(torch.ones(4), mask=mask)
        assert_close(found[mask], short.weights(torch.ones(3)))
        assert found[2] == 0


def test_a_training_loop_weighs_by_influence():
    torch.manual_seed(0)
    model = nn.Linear(3, 1)
    x = torch.randn(8, 3)
    weigh = SelfInfluenceWeighter(1, scale="rank")
    shares = []
    for _ in range(2):
        weigh.observe(model, squares, x)
        order = self_influence(model, squares, x).argsort()
        weights = weigh.weights(squares(model, x))[order]
        shares.append(weights.diff())
        weigh(squares(model, x)).backward()
    assert (shares[0] > 0).all()
    assert (shares[1] < 0).all()


def test_observing_is_asked_for_by_name():
    weigh = SelfInfluenceWeighter(5)
    model, x = nn.Linear(3, 1), torch.randn(4, 3)
    with pytest.raises(RuntimeError, match=r"call weigh.observe\(model, per_item_loss, batch\)"):
        weigh(torch.ones(4))
    weigh.observe(model, squares, x)
    weigh(squares(model, x))
    with pytest.raises(RuntimeError, match="the batch was not observed"):
        weigh(torch.ones(4))
    weigh.observe(model, squares, x)
    with pytest.raises(ValueError, match="4 rows were observed but there are losses of 3"):
        weigh(torch.ones(3))
    weigh.eval()
    weigh.observe(model, None, None)
    assert weigh(torch.tensor([1.0, 3.0])) == 2.0


def test_warm_up_takes_no_look():
    weigh = SelfInfluenceWeighter(5, warmup_steps=1)
    weigh.observe(None, None, None)
    assert weigh(torch.tensor([1.0, 3.0])) == 2.0
    with pytest.raises(AttributeError):
        weigh.observe(None, None, None)


def test_copies_and_state():
    weigh = SelfInfluenceWeighter(5, modules=["0"], scale="log")
    weigh.set_step(7)
    for copied in (copy.deepcopy(weigh), pickle.loads(pickle.dumps(weigh))):
        assert copied.step == 7
        assert copied.layers.choices == ["0"]
    fresh = SelfInfluenceWeighter(5)
    fresh.load_state_dict(weigh.state_dict())
    assert fresh._now() == 7


@pytest.mark.parametrize("scale", ["log", "none"])
@pytest.mark.parametrize("step", [0, 10])
def test_streamed_micro_batches_equal_a_softmax_over_them(scale, step, device):
    torch.manual_seed(0)
    model = nn.Linear(3, 2, device=device, dtype=torch.float64)
    parts = [torch.randn(4, 3, dtype=torch.float64, device=device) * s for s in (0.1, 3.0, 1.0)]
    weigh = SelfInfluenceWeighter(10, (3.0, 2.0), method="microbatch", scale=scale)
    gradients = []
    for part in parts:
        gradient = torch.autograd.grad(squares(model, part).mean(), list(model.parameters()))
        gradients.append(torch.cat([g.flatten() for g in gradient]))
    gradients = torch.stack(gradients)
    influence = gradients.square().sum(1)
    exponent = (influence.log() if scale == "log" else influence) * (-1 / 2 if step else 1 / 3)
    expected = torch.softmax(exponent, 0) @ gradients
    weigh.set_step(step)
    for part in parts:
        weigh(squares(model, part)).backward()
        weigh.accumulate(model.parameters())
        assert model.weight.grad is None
    weigh.finish_step(model.parameters())
    found = torch.cat([p.grad.flatten() for p in model.parameters()])
    assert_close(found, expected, rtol=1e-5, atol=1e-7)


def test_micro_batches_far_apart_do_not_overflow():
    weight = nn.Parameter(torch.zeros(()))
    weigh = SelfInfluenceWeighter(10, 1e-3, method="microbatch", scale="none")
    for value in (1.0, 30.0, 2.0):
        weigh(torch.ones(1))
        weight.grad = torch.tensor(value)
        weigh.accumulate([weight])
    weigh.finish_step([weight])
    assert weight.grad == 30.0
    assert math.isfinite(float(weight.grad))


def test_micro_batches_in_warm_up_count_alike():
    weight = nn.Parameter(torch.zeros(()))
    weigh = SelfInfluenceWeighter(10, method="microbatch", scale="log", warmup_steps=3)
    for value in (1.0, 30.0, 2.0):
        weigh(torch.ones(1))
        weight.grad = torch.tensor(value)
        weigh.accumulate([weight])
    weigh.finish_step([weight])
    assert_close(weight.grad, torch.tensor(11.0))


def test_settings_are_checked():
    with pytest.raises(ValueError, match="switch_step=-1; pass a whole number"):
        SelfInfluenceWeighter(-1)
    with pytest.raises(ValueError, match=r"temperature=\(1.0, 0.0\); pass one or two positive"):
        SelfInfluenceWeighter(5, (1.0, 0.0))
    with pytest.raises(ValueError, match="scale='zscore' compares all micro-batches at once"):
        SelfInfluenceWeighter(5, method="microbatch")
    with pytest.raises(RuntimeError, match="accumulate is for method='microbatch', not 'ghost'"):
        SelfInfluenceWeighter(5).accumulate([])
    with pytest.raises(RuntimeError, match="no parameter has a gradient"):
        SelfInfluenceWeighter(5, method="microbatch", scale="log").accumulate([])

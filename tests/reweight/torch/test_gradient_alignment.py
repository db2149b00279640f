"""Inner products of gradients by row with a direction, against gradients one by one."""

import pytest
import torch
from torch import nn
from torch.func import functional_call
from torch.testing import assert_close

from reweight.exceptions import WeightWarning
from reweight.torch import alignment


def one_by_one(call_loss, params, v):
    leaves = {name: p.clone().requires_grad_() for name, p in params.items()}
    losses = call_loss(leaves)
    products = []
    for loss in losses:
        gradients = torch.autograd.grad(
            loss, [leaves[name] for name in v], retain_graph=True, allow_unused=True
        )
        pairs = zip(gradients, v.values(), strict=True)
        products.append(sum((g * d).sum() for g, d in pairs if g is not None))
    return torch.stack(products).detach()


@pytest.fixture
def problem(device):
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 3)).to(device, torch.float64)
    x = torch.randn(6, 4, dtype=torch.float64, device=device)
    y = torch.randint(3, (6,), device=device)
    params = {name: p.detach() for name, p in net.named_parameters()}
    v = {name: torch.randn_like(p) for name, p in params.items()}

    def call_loss(p):
        return nn.functional.cross_entropy(functional_call(net, p, x), y, reduction="none")

    return call_loss, params, v


def test_forward_mode_equals_gradients_one_by_one(problem):
    assert_close(alignment(*problem), one_by_one(*problem), rtol=1e-10, atol=1e-12)


def test_single_precision_agrees_with_double_backward():
    torch.manual_seed(1)
    net = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 3))
    x, y = torch.randn(6, 4), torch.randint(3, (6,))
    params = {name: p.detach() for name, p in net.named_parameters()}
    v = {name: torch.randn_like(p) for name, p in params.items()}
    call = lambda p: nn.functional.cross_entropy(functional_call(net, p, x), y, reduction="none")
    assert_close(alignment(call, params, v), one_by_one(call, params, v), rtol=1e-5, atol=1e-5)


def test_central_differences_are_near_and_linear_losses_exact(problem):
    exact = alignment(*problem)
    assert_close(alignment(*problem, method="fd", fd_eps=1e-4), exact, rtol=1e-6, atol=1e-7)
    x = torch.tensor([[1.0, 2.0], [3.0, -1.0]], dtype=torch.float64)
    params, v = {"w": torch.zeros(2).double()}, {"w": torch.tensor([2.0, 1.0]).double()}
    assert_close(alignment(lambda p: x @ p["w"], params, v, method="fd"), x @ v["w"])


def test_a_direction_of_no_length_gives_zero(problem):
    call_loss, params, v = problem
    none = {name: torch.zeros_like(d) for name, d in v.items()}
    for method in ("jvp", "fd"):
        assert_close(alignment(call_loss, params, none, method=method).abs().max().item(), 0.0)


def test_parameters_outside_of_the_direction_stay(problem):
    call_loss, params, v = problem
    head = {name: d for name, d in v.items() if name.startswith("2.")}
    assert_close(alignment(call_loss, params, head), one_by_one(call_loss, params, head))


def test_fused_attention_is_differentiated_by_its_plain_kernel():
    torch.manual_seed(2)
    layer = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0, batch_first=True)
    x = torch.randn(4, 5, 8)
    params = {name: p.detach() for name, p in layer.named_parameters()}
    v = {name: torch.randn_like(p) for name, p in params.items()}
    call = lambda p: functional_call(layer, p, x).square().mean((1, 2))
    assert_close(alignment(call, params, v), one_by_one(call, params, v), rtol=1e-3, atol=1e-5)


class OwnSquare(torch.autograd.Function):
    """An operation that has no forward-mode rule."""

    @staticmethod
    def forward(x):
        return x**2

    @staticmethod
    def setup_context(ctx, inputs, output):
        ctx.save_for_backward(*inputs)

    @staticmethod
    def backward(ctx, gradient):
        return 2 * ctx.saved_tensors[0] * gradient


def test_an_operation_without_a_rule_falls_back_aloud():
    x = torch.tensor([[1.0, 2.0], [3.0, -1.0]], dtype=torch.float64)
    params, v = {"w": torch.ones(2).double()}, {"w": torch.tensor([2.0, 1.0]).double()}
    call = lambda p: OwnSquare.apply(x @ p["w"])
    with pytest.warns(WeightWarning, match="no forward-mode rule, so central differences"):
        found = alignment(call, params, v)
    assert_close(found, 2 * (x @ params["w"]) * (x @ v["w"]))
    with pytest.raises((RuntimeError, NotImplementedError)):
        alignment(call, params, v, method="jvp")


def test_an_error_of_the_model_is_not_taken_for_a_missing_rule():
    params = {"w": torch.ones(2)}
    with pytest.raises(RuntimeError, match="size"):
        alignment(lambda p: p["w"] + torch.ones(3), params, params)


def test_bad_input_is_named(problem):
    call_loss, params, v = problem
    with pytest.raises(ValueError, match="method='exact'; choose one of"):
        alignment(call_loss, params, v, method="exact")
    with pytest.raises(ValueError, match="v names 'nothing', which is not among params"):
        alignment(call_loss, params, {"nothing": torch.ones(2)})
    with pytest.raises(ValueError, match=r"v\['0.bias'\] has shape \(2,\) but the parameter has"):
        alignment(call_loss, params, {"0.bias": torch.ones(2)})
    with pytest.raises(ValueError, match="v is empty"):
        alignment(call_loss, params, {})
    with pytest.raises(ValueError, match="fd_eps=0; it must be positive"):
        alignment(call_loss, params, v, fd_eps=0)
    with pytest.raises(ValueError, match="reduction='none'"):
        alignment(lambda p: call_loss(p).mean(), params, v)

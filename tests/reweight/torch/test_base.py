"""The reducer: four normalisations, masks, units, warm-up, caps, precision, state."""

import copy
import pickle

import pytest
import torch
from torch.testing import assert_close
from torch.utils._python_dispatch import TorchDispatchMode

from reweight.exceptions import WeightWarning
from reweight.torch import Anneal, IndexWeighter, LossBasedWeighter, LossWeighter

MODES = ["batch", "dataset", "deferred", "none"]


def gradient(weigh, parameter, batches, finish=True):
    """Gradient that an optimiser would see after some batches of (losses, context)."""
    parameter.grad = None
    for losses, context in batches:
        weigh(losses(parameter), **context).backward()
    if finish:
        weigh.finish_step([parameter])
    return parameter.grad.clone()


@pytest.mark.parametrize("mode", MODES)
def test_unit_weights_give_the_masked_mean(mode, given, device):
    scale = torch.tensor(2.0, dtype=torch.float64, device=device, requires_grad=True)
    values = torch.tensor([1.0, 2.0, 6.0, 1.0], dtype=torch.float64, device=device)
    padding = torch.tensor([0.0, 0.0, 0.0, float("nan")], dtype=torch.float64, device=device)
    mask = torch.tensor([True, True, True, False], device=device)
    weigh = given(normalize=mode).to(device)
    grad = gradient(weigh, scale, [(lambda s: s * values + padding, {"mask": mask})])
    assert_close(grad, torch.tensor(3.0, dtype=torch.float64, device=device))
    if mode != "deferred":
        assert_close(weigh(scale * values + padding, mask=mask).item(), 6.0)


@pytest.mark.parametrize(
    ("mode", "divisor"),
    [("batch", 1.0 + 2.0 + 5.0), ("dataset", 3 * 4.0), ("none", 3), ("deferred", 1)],
)
def test_value_gradient_and_weights_follow_the_formula(mode, divisor, given, device):
    loss = torch.tensor([3.0, 1.0, 2.0], device=device, requires_grad=True)
    raw = torch.tensor([1.0, 2.0, 5.0], device=device)
    weigh = given(normalize=mode, mean=4.0)
    value = weigh(loss, features=raw)
    value.backward()
    assert_close(value.item(), (3.0 + 2.0 + 10.0) / divisor)
    assert_close(loss.grad, raw / divisor)
    scale = {"batch": 3 / 8, "dataset": 1 / 4, "none": 1, "deferred": 1}[mode]
    assert_close(weigh.weights(loss, features=raw), raw * scale)


@pytest.mark.parametrize("mode", ["batch", "dataset", "deferred"])
def test_scale_of_the_raw_weights_does_not_matter(mode, given, skewed):
    x, weights = skewed
    slope = torch.tensor(0.5, dtype=torch.float64, requires_grad=True)

    def at(factor):
        weigh = given(normalize=mode, mean=float(weights.mean()) * factor)
        return gradient(
            weigh, slope, [(lambda s: (s * x - 1) ** 2, {"features": weights * factor})]
        )

    assert_close(at(1000.0), at(1.0), rtol=1e-6, atol=0)


def test_dataset_mode_is_unbiased_over_a_partition_and_batch_mode_is_not(skewed):
    x, weights = skewed
    slope = torch.tensor(0.5, dtype=torch.float64, requires_grad=True)
    full = torch.autograd.grad((weights * (slope * x - 1) ** 2).sum() / weights.sum(), slope)[0]
    order = torch.randperm(64, generator=torch.Generator().manual_seed(0)).split(8)
    errors = {}
    for mode in ("dataset", "batch"):
        weigh = IndexWeighter(weights, normalize=mode)
        grads = [
            gradient(weigh, slope, [(lambda s, i=i: (s * x[i] - 1) ** 2, {"index": i})])
            for i in order
        ]
        errors[mode] = float(abs(torch.stack(grads).mean() / full - 1))
    assert errors["dataset"] < 1e-6
    assert errors["batch"] > 1e-3


@pytest.mark.parametrize("sizes", [[16] * 4, [1, 40, 3, 20]])
def test_deferred_micro_batches_equal_one_large_batch(sizes, skewed):
    x, weights = skewed
    slope = torch.tensor(0.5, dtype=torch.float64, requires_grad=True)
    weigh = IndexWeighter(weights, normalize="deferred")
    rows = torch.arange(64).split(sizes)
    parts = [(lambda s, i=i: (s * x[i] - 1) ** 2, {"index": i}) for i in rows]
    accumulated = gradient(weigh, slope, parts)
    whole = gradient(
        IndexWeighter(weights, normalize="batch"),
        slope,
        [(lambda s: (s * x - 1) ** 2, {"index": torch.arange(64)})],
    )
    assert_close(accumulated, whole, rtol=1e-6, atol=0)
    assert weigh.accumulated == 0
    assert_close(gradient(weigh, slope, parts), accumulated)


def test_finish_step_leaves_gradients_of_other_modes_and_of_no_weight_alone(given):
    slope = torch.tensor(1.0, requires_grad=True)
    slope.grad = torch.tensor(7.0)
    given(normalize="batch").finish_step([slope])
    assert slope.grad == 7.0
    given(normalize="deferred").finish_step([slope])
    assert slope.grad == 7.0


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("masked", [False, True])
def test_weights_that_are_all_zero_give_a_zero_loss_with_a_graph(mode, masked, given, device):
    loss = torch.tensor([3.0, 1.0], device=device, requires_grad=True)
    weigh = given(normalize=mode).to(device)
    context = (
        {"mask": torch.zeros(2, dtype=torch.bool, device=device)}
        if masked
        else {"features": torch.zeros(2, device=device)}
    )
    value = weigh(loss, **context)
    value.backward()
    weigh.finish_step([loss])
    assert value == 0
    assert_close(loss.grad, torch.zeros(2, device=device))
    assert_close(weigh.weights(loss, **context), torch.zeros(2, device=device))


TOKENS = torch.tensor([[1.0, 3.0, float("nan")], [2.0, 4.0, 9.0], [float("nan")] * 3])
TOKEN_MASK = torch.tensor([[1, 1, 0], [1, 1, 1], [0, 0, 0]])


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"unit": "row"}, (3 * 2.0 + 1 * 5.0) / 4),
        ({"unit": "row", "aggregate": "token"}, (3 * 4.0 + 1 * 15.0) / (3 * 2 + 1 * 3)),
        ({"unit": "token"}, (3 * 4.0 + 1 * 15.0) / (3 * 2 + 1 * 3)),
    ],
)
def test_sequences_are_weighted_by_row_or_by_token(settings, expected, given, device):
    loss = TOKENS.to(device).requires_grad_()
    weigh = given(**settings)
    raw = torch.tensor([3.0, 1.0, 7.0], device=device)
    value = weigh(loss, features=raw, mask=TOKEN_MASK.to(device))
    assert_close(value.item(), expected)
    value.backward()
    assert torch.isfinite(loss.grad).all()
    assert (loss.grad[TOKEN_MASK.to(device) == 0] == 0).all()
    weights = weigh.weights(loss, features=raw, mask=TOKEN_MASK.to(device))
    if weigh.unit == "token":
        assert_close(weights.sum().item(), 5.0)
    elif weigh.aggregate == "token":
        assert_close((weights @ torch.tensor([2.0, 3.0, 0.0], device=device)).item(), 5.0)
    else:
        assert_close(weights.sum().item(), 2.0)


@pytest.mark.parametrize("aggregate", ["row", "token"])
def test_unit_weights_by_row_are_the_usual_mean_over_rows_or_tokens(aggregate, given):
    value = given(aggregate=aggregate)(TOKENS, mask=TOKEN_MASK)
    usual = {"row": (2.0 + 5.0) / 2, "token": (4.0 + 15.0) / 5}[aggregate]
    assert_close(value.item(), usual)
    assert_close(given(aggregate=aggregate).eval()(TOKENS, mask=TOKEN_MASK).item(), usual)


def test_micro_batches_of_unequal_length_count_by_token(given):
    first, second = torch.tensor([[1.0, 2.0]]), torch.tensor([[3.0, 4.0, 5.0, 6.0]])
    scale = torch.tensor(1.0, requires_grad=True)
    weigh = given(aggregate="token", normalize="deferred")
    grad = gradient(weigh, scale, [(lambda s: s * first, {}), (lambda s: s * second, {})])
    assert_close(grad.item(), 21.0 / 6)


def test_mask_of_leading_dimensions_masks_rows(given):
    loss = torch.arange(9.0).reshape(3, 3)
    value = given()(loss, mask=torch.tensor([0, 1, 1]))
    assert_close(value.item(), loss[1:].mean().item())


def test_large_batches_sum_alike(given):
    loss = torch.linspace(0, 1, 70_001, dtype=torch.float64)
    raw = torch.linspace(1, 2, 70_001, dtype=torch.float64)
    assert_close(given()(loss, features=raw), (loss * raw).sum() / raw.sum())


@pytest.mark.parametrize("mode", ["batch", "dataset", "none"])
def test_warm_up_is_the_plain_mean_and_then_ends(mode, given):
    loss, raw = torch.tensor([1.0, 5.0]), torch.tensor([2.0, 6.0])
    weigh = given(normalize=mode, mean=4.0, warmup_steps=2)
    weighted = {"batch": 32 / 8, "dataset": 32 / 8, "none": 32 / 2}[mode]
    values = [weigh(loss, features=raw).item() for _ in range(4)]
    assert values == pytest.approx([3.0, 3.0, weighted, weighted])
    assert int(weigh.step) == 4
    weigh.set_step(1)
    assert weigh(loss, features=raw).item() == pytest.approx(3.0)


def test_evaluation_is_the_plain_mean_and_freezes_the_state(given):
    weigh = given(normalize="deferred", warmup_steps=1).eval()
    before = copy.deepcopy(weigh.state_dict())
    loss = torch.tensor([1.0, 5.0, 9.0])
    mask = torch.tensor([1, 1, 0])
    assert weigh(loss, features=torch.tensor([1.0, 0.0, 1.0]), mask=mask).item() == 3.0
    assert_close(weigh.state_dict(), before, rtol=0, atol=0)


@pytest.mark.parametrize(
    ("cap", "mode", "expected"),
    [
        (2.0, "batch", [1.0, 1.0, 1.0, 5.0, 8.0]),  # twice the mean 4 of the batch
        (2.0, "dataset", [1.0, 1.0, 1.0, 5.0, 6.0]),  # twice the mean 3 of the data set
        (2.0, "none", [1.0, 1.0, 1.0, 2.0, 2.0]),  # an absolute cap
        (("quantile", 0.75), "batch", [1.0, 1.0, 1.0, 5.0, 5.0]),
    ],
)
def test_cap_in_units_of_the_mean_or_at_a_quantile(cap, mode, expected, given, device):
    weigh = given(max_weight=cap, normalize=mode, mean=3.0)
    raw = torch.tensor([1.0, 1.0, 1.0, 5.0, 12.0, 99.0], device=device)
    mask = torch.tensor([1, 1, 1, 1, 1, 0], device=device)
    weights = weigh.weights(torch.ones(6, device=device), features=raw, mask=mask)
    expected = torch.tensor([*expected, 0.0], device=device)
    scale = {"batch": 5 / expected.sum(), "dataset": 1 / 3, "none": 1}[mode]
    assert_close(weights, expected * scale)


def test_weights_have_no_graph_and_the_loss_has_the_gradient_of_frozen_weights(given):
    logits = torch.randn(4, 3, dtype=torch.float64, requires_grad=True)
    target = torch.tensor([0, 2, 1, 1])
    weigh = LossBasedWeighter(temperature=0.3)
    per_item = lambda z: torch.nn.functional.cross_entropy(z, target, reduction="none")
    weights = weigh.weights(per_item(logits))
    assert weights.requires_grad is False
    frozen = torch.autograd.grad((weights * per_item(logits)).mean(), logits)[0]
    assert_close(torch.autograd.grad(weigh(per_item(logits)), logits)[0], frozen)
    fixed = given()
    raw = torch.tensor([1.0, 4.0, 2.0, 0.5], dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda z: fixed(per_item(z), features=raw), logits)


def test_raw_weights_with_a_graph_are_detached_aloud():
    class Leaky(LossWeighter):
        def __init__(self):
            super().__init__()
            self.scale = torch.nn.Parameter(torch.ones(2))

        def raw_weights(self, loss, **context):
            return self.scale

    weigh = Leaky()
    with pytest.warns(WeightWarning, match="Leaky: raw weights carry a graph"):
        weigh(torch.ones(2, requires_grad=True)).backward()
    assert weigh.scale.grad is None


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_losses_are_reduced_in_single_precision(dtype, device):
    losses = torch.linspace(1.0, 1e4, 256, device=device)
    weigh = LossBasedWeighter("upper", temperature=0.5)
    exact = weigh.weights(losses)
    with torch.autocast(device.type, dtype=dtype):
        value = weigh(losses.to(dtype))
        weights = weigh.weights(losses.to(dtype))
    assert value.dtype == weights.dtype == torch.float32
    assert torch.isfinite(value)
    assert_close(weights, exact, rtol=1e-2, atol=1e-2)


def test_autocast_does_not_lower_the_precision_of_the_product():
    losses = torch.tensor([1.0, 1.0 + 2**-12], requires_grad=True)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        value = IndexWeighter([1.0, 1.0])(losses, index=torch.tensor([1, 1]))
    assert value.item() == 1.0 + 2**-13


def test_statistics_stay_in_single_precision_when_the_model_does_not():
    weigh = IndexWeighter([1.0 + 2**-12, 1.0])
    model = torch.nn.Sequential(torch.nn.Linear(2, 2), weigh).to(torch.bfloat16)
    assert model[0].weight.dtype == torch.bfloat16
    assert weigh.row_weights.dtype == torch.float32
    assert weigh.row_weights[0] == 1.0 + 2**-12


WEIGHTERS = {
    "batch": lambda: LossBasedWeighter("quadratic"),
    "scheduled": lambda: LossBasedWeighter(temperature=Anneal(2.0, 0.5, 4, "cosine")),
    "warm-up and cap": lambda: LossBasedWeighter(warmup_steps=2, max_weight=1.2),
    "quantile": lambda: LossBasedWeighter(max_weight=("quantile", 0.5)),
    "deferred": lambda: LossBasedWeighter(normalize="deferred"),
    "index": lambda: IndexWeighter(torch.arange(1.0, 17.0), warmup_steps=2),
    "keys": lambda: IndexWeighter({3 * i: 1.0 + i for i in range(16)}, default=0.5),
    "product": lambda: (
        LossBasedWeighter(temperature=Anneal(2.0, 0.5, 4)) * IndexWeighter(torch.arange(1.0, 17.0))
    ),
}


@pytest.mark.parametrize("backend", ["eager", "aot_eager"])
@pytest.mark.parametrize("name", WEIGHTERS)
def test_compiles_into_one_graph_with_the_same_values(name, backend):
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    eager = WEIGHTERS[name]()
    weigh = copy.deepcopy(eager)
    compiled = torch.compile(weigh, fullgraph=True, backend=backend)
    generator = torch.Generator().manual_seed(0)
    mask = torch.arange(16) < 13
    for _ in range(5):
        loss = torch.rand(16, generator=generator, requires_grad=True)
        index = torch.randperm(16, generator=generator)
        context = {"index": index, "mask": mask}
        value, expected = compiled(loss, **context), eager(loss, **context)
        assert_close(value, expected)
        assert_close(torch.autograd.grad(value, loss), torch.autograd.grad(expected, loss))
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] <= 2
    assert int(weigh.step) == 5
    loss = torch.rand(16)
    assert_close(weigh(loss, index=index), eager(loss, index=index))


def test_compiled_code_follows_a_function_of_the_step_by_set_step():
    torch._dynamo.reset()
    weigh = LossBasedWeighter(temperature=lambda step: 2.0 / (1 + step))
    eager = copy.deepcopy(weigh)
    compiled = torch.compile(weigh, fullgraph=True, backend="eager")
    loss = torch.rand(8)
    with pytest.raises(Exception, match="set_step"):
        compiled(loss)
    for step in range(3):
        weigh.set_step(step)
        assert_close(compiled(loss), eager(loss))


class NoHostRead(TorchDispatchMode):
    """Raise where the host would wait for a number from the device."""

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        waits = ("_local_scalar_dense", "nonzero", "equal", "is_nonzero", "masked_select")
        assert function.overloadpacket._qualified_op_name.split("::")[1] not in waits, function
        return function(*args, **(kwargs or {}))


@pytest.mark.parametrize("name", [name for name in WEIGHTERS if name not in ("index", "product")])
def test_a_call_never_waits_for_the_device(name, device):
    weigh = WEIGHTERS[name]().to(device)
    loss = torch.rand(16, device=device, requires_grad=True)
    context = {"index": torch.arange(16, device=device), "mask": torch.ones(16, device=device)}
    with NoHostRead():
        for _ in range(3):
            weigh(loss, **context).backward()
        weigh.finish_step([loss])
        assert set(weigh.last_) == {"ess_fraction", "max", "min", "sum"}


@pytest.mark.parametrize("name", WEIGHTERS)
def test_a_call_on_a_device_needs_no_number_from_it(name):
    """Tensors on the meta device have no numbers: to read one raises."""
    weigh = WEIGHTERS[name]().to("meta")
    loss = torch.rand(16, device="meta", requires_grad=True)
    index = torch.zeros(16, dtype=torch.int64, device="meta")
    for _ in range(3):
        weigh(loss, index=index).backward()
    weigh.finish_step([loss])
    with pytest.raises(RuntimeError, match="meta"):
        weigh.last_["sum"].item()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("name", WEIGHTERS)
def test_a_call_on_cuda_synchronises_nothing(name):
    weigh = WEIGHTERS[name]().to("cuda")
    loss = torch.rand(16, device="cuda", requires_grad=True)
    index = torch.arange(16, device="cuda")
    weigh(loss, index=index).backward()
    torch.cuda.set_sync_debug_mode("error")
    try:
        weigh(loss, index=index).backward()
    finally:
        torch.cuda.set_sync_debug_mode("default")


@pytest.mark.parametrize("name", WEIGHTERS)
@pytest.mark.parametrize("how", ["state_dict", "deepcopy", "pickle"])
def test_training_goes_on_bit_by_bit_from_a_copy(name, how):
    generator = torch.Generator().manual_seed(1)
    batches = [
        (torch.rand(16, generator=generator), torch.randperm(16, generator=generator))
        for _ in range(6)
    ]
    weigh = WEIGHTERS[name]()
    for loss, index in batches[:3]:
        weigh(loss, index=index)
    if how == "state_dict":
        other = WEIGHTERS[name]()
        other.load_state_dict(weigh.state_dict())
    else:
        other = copy.deepcopy(weigh) if how == "deepcopy" else pickle.loads(pickle.dumps(weigh))
    for loss, index in batches[3:]:
        assert torch.equal(other(loss, index=index), weigh(loss, index=index))
    assert_close(other.state_dict(), weigh.state_dict(), rtol=0, atol=0)


def test_last_figures_describe_the_weights(given):
    weigh = given()
    with pytest.raises(RuntimeError, match="before any call"):
        weigh.last_  # noqa: B018
    raw = torch.tensor([1.0, 1.0, 2.0, 9.0])
    weigh(torch.ones(4), features=raw, mask=torch.tensor([1, 1, 1, 0]))
    figures = {name: value.item() for name, value in weigh.last_.items()}
    assert figures == pytest.approx(
        {"ess_fraction": 16 / 6 / 3, "max": 1.5, "min": 0.75, "sum": 4.0}
    )


def test_losses_that_are_not_finite_raise_or_are_left_out_aloud(given):
    loss = torch.tensor([1.0, float("inf"), float("nan"), 3.0], requires_grad=True)
    mask = torch.tensor([1, 1, 0, 1])
    with pytest.raises(ValueError, match="1 of 4 losses are NaN or infinite"):
        given(on_nonfinite="raise")(loss, mask=mask)
    with pytest.warns(WeightWarning, match="1 of 4 losses are NaN or infinite; they are left out"):
        assert given(on_nonfinite="warn")(loss, mask=mask).item() == 2.0
    assert given(on_nonfinite="raise")(torch.ones(3)).item() == 1.0
    assert not torch.isfinite(given()(loss, mask=mask))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"normalize": "mean"}, "normalize='mean'; choose one of"),
        ({"unit": "pixel"}, "unit='pixel'; choose one of"),
        ({"aggregate": "sum"}, "aggregate='sum'; choose one of"),
        ({"on_nonfinite": "zero"}, "on_nonfinite='zero'; choose one of"),
        ({"warmup_steps": -1}, "warmup_steps=-1; pass a whole number"),
        ({"warmup_steps": 1.5}, "warmup_steps=1.5; pass a whole number"),
        ({"max_weight": 0.0}, "max_weight=0.0; pass a positive number"),
        ({"max_weight": ("quantile", 1.5)}, "pass a positive number, \\('quantile', q\\)"),
    ],
)
def test_settings_are_checked(settings, message, given):
    with pytest.raises(ValueError, match=f"GivenWeights: .*{message}"):
        given(**settings)


def test_losses_are_checked(given):
    with pytest.raises(ValueError, match="needs per-item losses, use reduction='none'"):
        given()(torch.tensor(1.0))
    with pytest.raises(TypeError, match="the loss is a list; pass a tensor"):
        given()([1.0, 2.0])
    with pytest.raises(TypeError, match=r"dtype torch\.int64; it needs floating-point"):
        given()(torch.tensor([1, 2]))
    with pytest.raises(ValueError, match=r"mask has shape \(3,\), the losses have shape \(2,\)"):
        given()(torch.ones(2), mask=torch.ones(3))
    with pytest.raises(ValueError, match=r"raw weights have shape \(3,\) but there are losses"):
        given()(torch.ones(2), features=torch.ones(3))
    with pytest.raises(TypeError, match="unexpected keyword"):
        given()(torch.ones(2), labels=torch.ones(2))


def test_a_subclass_must_say_its_weights_and_the_mean_if_it_is_asked_for():
    with pytest.raises(NotImplementedError, match="must define raw_weights"):
        LossWeighter()(torch.ones(2))
    with pytest.raises(ValueError, match="LossBasedWeighter: normalize='dataset' needs the mean"):
        LossBasedWeighter(normalize="dataset")


def test_repr_shows_what_was_set():
    assert repr(LossBasedWeighter()) == ("LossBasedWeighter(strategy='linupper', temperature=1.0)")
    assert "warmup_steps=3" in repr(LossBasedWeighter(warmup_steps=3))


def test_what_is_no_mask_and_what_holds_no_item(given):
    weigh = given()
    with pytest.raises(TypeError, match="the mask is a list; pass a tensor"):
        weigh(torch.rand(2), mask=[True, False])
    loss = torch.zeros(0, requires_grad=True)
    value = weigh(loss)
    value.backward()
    assert value == 0
    assert loss.grad.shape == (0,)
    assert set(weigh.last_) == {"ess_fraction", "max", "min", "sum"}
    assert all(figure == 0 for figure in weigh.last_.values())

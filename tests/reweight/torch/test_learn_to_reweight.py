"""Weights by agreement with clean gradients: explicit products, signs, limits, memory."""

import copy
import pickle

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from reweight.torch import LearnToReweight


def losses(call, batch):
    return nn.functional.cross_entropy(call(batch[0]), batch[1], reduction="none")


def make(device="cpu", dtype=torch.float64):
    generator = torch.Generator().manual_seed(0)
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 3)).to(device, dtype)
    return model, *(
        (
            torch.randn(size, 4, generator=generator, dtype=dtype).to(device),
            torch.randint(3, (size,), generator=generator).to(device),
        )
        for size in (6, 5)
    )


def agreement(model, batch, clean):
    """Products of each row's gradient with that of the clean data, one row at a time."""
    flat = lambda loss: torch.cat(
        [
            g.flatten()
            for g in torch.autograd.grad(loss, list(model.parameters()), retain_graph=True)
        ]
    )
    v = flat(losses(model, clean).mean())
    return torch.stack([flat(loss) @ v for loss in losses(model, batch)])


@pytest.mark.parametrize(("dtype", "rtol"), [(torch.float32, 1e-4), (torch.float64, 1e-10)])
def test_weights_are_positive_parts_of_explicit_products(dtype, rtol, device):
    model, batch, clean = make(device, dtype)
    weigh = LearnToReweight([clean])
    weigh.observe(model, losses, batch)
    u = agreement(model, batch, clean).clamp_min(0)
    assert 0 < (u == 0).sum() < 6
    loss = losses(model, batch)
    assert_close(weigh.weights(loss), 6 * u / u.sum(), rtol=rtol, atol=1e-6)
    assert_close(weigh(loss), (u * loss).sum() / u.sum(), rtol=rtol, atol=1e-6)


def test_linear_model_has_a_closed_form_and_a_turned_gradient_has_no_weight():
    model = nn.Linear(2, 1, bias=False).double()
    x = torch.tensor([[1.0, 2.0], [0.5, -1.0], [2.0, 0.0]]).double()
    squared = lambda call, b: (call(b[0]).squeeze(1) - b[1]).square() / 2
    residual = torch.tensor([1.0, -0.5, 2.0]).double()
    at = lambda r: (x, model(x).squeeze(1).detach() - r)
    v = (residual[:, None] * x).mean(0)
    weigh = LearnToReweight([at(residual)])
    weigh.observe(model, squared, at(residual))
    u = (residual * (x @ v)).clamp_min(0)
    assert_close(weigh.weights(torch.ones(3)), (3 * u / u.sum()).float())
    turned = residual.clone()
    turned[0] *= -1
    weigh.observe(model, squared, at(turned))
    assert u[0] > 0
    assert weigh.weights(torch.ones(3))[0] == 0


def test_one_row_that_is_the_clean_data_has_weight_one():
    model, batch, _ = make()
    one = (batch[0][:1], batch[1][:1])
    weigh = LearnToReweight([one])
    weigh.observe(model, losses, one)
    loss = losses(model, one)
    assert_close(weigh(loss), loss[0])


def test_a_batch_that_disagrees_altogether_has_a_zero_loss_with_a_graph():
    model = nn.Linear(1, 1, bias=False)
    squared = lambda call, b: (call(b[0]).squeeze(1) - b[1]).square()
    x = torch.ones(2, 1)
    weigh = LearnToReweight([(x, torch.full((2,), 9.0))])
    batch = (x, torch.full((2,), -9.0))
    weigh.observe(model, squared, batch)
    weigh(squared(model, batch)).backward()
    assert model.weight.grad == 0


def test_rows_keep_their_latest_weight_between_looks(device):
    model, batch, clean = make(device)
    weigh = LearnToReweight([clean], every=2, n_samples=10).to(device)
    index = torch.arange(2, 8, device=device)
    weigh.observe(model, losses, batch)
    shown = weigh.weights(losses(model, batch), index=index)
    weigh(losses(model, batch), index=index)
    assert_close(weigh.row_weights[2:8], shown.float())
    assert (weigh.row_weights[[0, 1, 8, 9]] == 1).all()
    weigh.observe(model, None, None)
    raw = weigh.raw_weights(losses(model, batch), index=index.flip(0))
    assert_close(raw.double(), shown.flip(0), rtol=1e-5, atol=1e-6)
    weigh(losses(model, batch), index=index)
    assert weigh._due()


def test_without_memory_weights_are_one_between_looks():
    model, batch, clean = make()
    weigh = LearnToReweight([clean], every=2)
    weigh.observe(model, losses, batch)
    weigh(losses(model, batch))
    weigh.observe(model, None, None)
    assert_close(weigh(torch.tensor([1.0, 3.0])).item(), 2.0)


def test_copies_and_state():
    model, batch, clean = make()
    weigh = LearnToReweight([clean, clean], n_samples=6)
    weigh.observe(model, losses, batch)
    weigh(losses(model, batch), index=torch.arange(6))
    fresh = LearnToReweight([clean, clean], n_samples=6)
    fresh.load_state_dict(weigh.state_dict())
    for twin in (copy.deepcopy(weigh), pickle.loads(pickle.dumps(weigh)), fresh):
        assert torch.equal(twin.row_weights, weigh.row_weights)
        assert twin._batches.position == 1
        twin.observe(model, losses, batch)
        twin(losses(model, batch), index=torch.arange(6))


def test_bad_input_is_named():
    model, batch, clean = make()
    with pytest.raises(ValueError, match="n_samples=0; pass a whole number"):
        LearnToReweight([clean], n_samples=0)
    with pytest.raises(ValueError, match="method='exact'; choose one of"):
        LearnToReweight([clean], method="exact")
    weigh = LearnToReweight([clean], n_samples=6)
    with pytest.raises(RuntimeError, match="the batch was not observed"):
        weigh(torch.ones(6), index=torch.arange(6))
    weigh.observe(model, losses, batch)
    with pytest.raises(ValueError, match="wrap the dataset in WithIndex"):
        weigh(losses(model, batch))
    with pytest.raises(ValueError, match="index 6 is not among the 6 rows of n_samples"):
        weigh(losses(model, batch), index=torch.arange(1, 7))
    with pytest.raises(ValueError, match="no chosen parameter of the model requires a gradient"):
        LearnToReweight([clean]).observe(model.requires_grad_(False), losses, batch)

"""Loss on a shrunk class space: a loop by the definition, cuts by hand, state."""

import copy
import io
import math
import pickle

import pytest
import torch
from torch.testing import assert_close

from reweight.torch import ShrinkMatchLoss


def loop(p, z, threshold, *, by_probability=True):
    """Per-row losses, one class at a time."""
    losses = []
    for row, scores in zip(p, z, strict=True):
        order = torch.argsort(row, descending=True, stable=True)
        ordered, loss = row[order], 0.0 * scores.sum()
        if ordered[0] < threshold:
            for cut in range(2, len(row)):
                if ordered[0] / (ordered[0] + ordered[cut:].sum()) >= threshold:
                    kept = torch.cat([order[:1], order[cut:]])
                    weight = ordered[0] if by_probability else 1.0
                    loss = weight * (torch.logsumexp(scores[kept], 0) - scores[order[0]])
                    break
        losses.append(loss)
    return torch.stack(losses)


def views(n_rows, n_classes, device, *, sharpness=2.0, seed=0):
    generator = torch.Generator().manual_seed(seed)
    shape = (n_rows, n_classes)
    p = torch.softmax(sharpness * torch.randn(shape, generator=generator).double(), 1)
    z = torch.randn(shape, generator=generator).double()
    return p.to(device), z.to(device).requires_grad_()


@pytest.mark.parametrize("threshold", [0.6, 0.95])
@pytest.mark.parametrize("n_classes", [3, 10, 60])
@pytest.mark.parametrize("principle1", [True, False])
def test_losses_and_gradients_are_those_of_the_loop(n_classes, threshold, principle1, device):
    p, z = views(40, n_classes, device, sharpness=4.0)
    criterion = ShrinkMatchLoss(threshold, principle1=principle1).to(device)
    expected = loop(p, z, threshold, by_probability=principle1)
    found = criterion.per_item(p, z)
    assert 0 < (expected > 0).sum() < 40
    assert_close(found, expected, rtol=1e-10, atol=1e-12)
    pull = torch.arange(1.0, 41.0, device=device).double()
    (grad,) = torch.autograd.grad((pull * found).sum(), z)
    (by_loop,) = torch.autograd.grad((pull * expected).sum(), z)
    assert_close(grad, by_loop, rtol=1e-10, atol=1e-12)


def test_ties_are_ranked_by_class_as_in_the_loop(device):
    generator = torch.Generator().manual_seed(2)
    p = torch.randint(0, 4, (200, 8), generator=generator).double() + 1e-3
    p = (p / p.sum(1, keepdim=True)).to(device)
    z = torch.randn(200, 8, generator=generator).double().to(device)
    found = ShrinkMatchLoss(0.6).per_item(p, z)
    assert (found > 0).sum() > 50
    assert_close(found, loop(p, z, 0.6))


def test_two_tied_classes_lose_the_second(device):
    p = torch.tensor([[0.5, 0.5, 0.0, 0.0, 0.0]], device=device)
    z = torch.tensor([[0.3, 9.0, -1.0, 0.7, 0.2]], device=device, requires_grad=True)
    loss = ShrinkMatchLoss(0.95).per_item(p, z)
    kept = [0, 2, 3, 4]
    assert_close(loss, 0.5 * (torch.logsumexp(z[:, kept], 1) - z[:, 0]))
    loss.sum().backward()
    assert z.grad[0, 1] == 0
    assert (z.grad[0, kept] != 0).all()


def test_rows_without_a_loss(device):
    certain = torch.tensor([[0.96, 0.02, 0.01, 0.01]], device=device)
    hopeless = torch.full((1, 4), 0.25, device=device)
    z = torch.randn(1, 4, device=device, requires_grad=True)
    for p in (certain, hopeless):
        loss = ShrinkMatchLoss(0.95).per_item(p, z)
        assert loss == 0
        assert (torch.autograd.grad(loss.sum(), z)[0] == 0).all()


def test_two_classes_have_no_loss_and_an_empty_batch_none():
    z = torch.randn(5, 2, requires_grad=True)
    loss = ShrinkMatchLoss()(torch.full((5, 2), 0.5), z)
    loss.backward()
    assert loss == 0
    assert (z.grad == 0).all()
    assert ShrinkMatchLoss(principle2=False)(torch.zeros(0, 4), torch.zeros(0, 4)) == 0


def test_share_of_certain_rows_moves_and_multiplies(device):
    criterion = ShrinkMatchLoss(0.6, momentum=0.9).to(device)
    share = None
    for seed in range(4):
        p, z = views(40, 6, device, seed=seed)
        now = (p.amax(1) >= 0.6).double().mean().item()
        share = now if share is None else 0.9 * share + 0.1 * now
        loss = criterion(p, z)
        assert math.isclose(criterion.certain_share.item(), share, rel_tol=1e-5)
        assert_close(loss, share * criterion.per_item(p, z).mean(), rtol=1e-5, atol=0)
    criterion.eval()
    p, z = views(40, 6, device, seed=9)
    assert_close(criterion(p, z), share * criterion.per_item(p, z).mean(), rtol=1e-5, atol=0)
    assert math.isclose(criterion.certain_share.item(), share, rel_tol=1e-5)
    plain = ShrinkMatchLoss(0.6, principle2=False).to(device)
    assert_close(plain(p, z), criterion.per_item(p, z).mean())
    criterion.reset()
    assert torch.isnan(criterion.certain_share)


def test_weak_views_carry_no_gradient():
    p, z = views(8, 5, "cpu")
    p.requires_grad_()
    ShrinkMatchLoss(0.6)(p, z).backward()
    assert p.grad is None


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_computed_in_single(dtype, device):
    p, z = views(40, 10, device)
    p, z = p.to(dtype), z.to(dtype)
    found = ShrinkMatchLoss(0.7).per_item(p, z)
    assert found.dtype == torch.float32
    assert_close(found, ShrinkMatchLoss(0.7).per_item(p.float(), z.float()))


def test_state_is_saved_copied_and_pickled():
    p, z = views(40, 6, "cpu")
    criterion = ShrinkMatchLoss(0.6, momentum=0.5)
    criterion(p, z)
    other = ShrinkMatchLoss(0.6, momentum=0.5)
    memory = io.BytesIO()
    torch.save(criterion.state_dict(), memory)
    memory.seek(0)
    other.load_state_dict(torch.load(memory))
    copies = [other, copy.deepcopy(criterion), pickle.loads(pickle.dumps(criterion))]
    q, y = views(40, 6, "cpu", seed=1)
    expected = criterion(q, y)
    assert [torch.equal(twin(q, y), expected) for twin in copies] == [True] * 3


def test_it_compiles_in_one_piece():
    torch._dynamo.reset()
    plain, compiled = ShrinkMatchLoss(0.6), ShrinkMatchLoss(0.6)
    call = torch.compile(compiled, fullgraph=True, backend="aot_eager")
    for seed in range(3):
        p, z = views(20, 7, "cpu", seed=seed)
        assert_close(call(p, z), plain(p, z))
    assert_close(compiled.certain_share, plain.certain_share)


def test_bad_input_is_named():
    criterion = ShrinkMatchLoss()
    with pytest.raises(ValueError, match=r"probs_weak has shape \(2, 3\) and logits_strong \(2,"):
        criterion(torch.zeros(2, 3), torch.zeros(2, 4))
    with pytest.raises(ValueError, match="probs_weak has entries outside"):
        criterion(torch.tensor([[2.0, -1.0, 0.0]]), torch.zeros(1, 3))
    with pytest.raises(ValueError, match="probs_weak has entries outside"):
        criterion(torch.full((1, 3), math.nan), torch.zeros(1, 3))
    with pytest.raises(TypeError, match=r"probs_weak has dtype torch\.int64"):
        criterion(torch.zeros(1, 3).long(), torch.zeros(1, 3))
    with pytest.raises(ValueError, match=r"threshold=1\.0; it must lie between 0 and 1"):
        ShrinkMatchLoss(1.0)
    with pytest.raises(ValueError, match=r"momentum=1\.0; it must lie in"):
        ShrinkMatchLoss(momentum=1.0)


def test_arrays_are_no_tensors():
    with pytest.raises(TypeError, match="probs_weak is a ndarray; pass a tensor"):
        ShrinkMatchLoss()(torch.ones(2, 3).numpy() / 3, torch.zeros(2, 3))

"""Weights inside adversarial pairs: limits, locality, totals."""

import copy
import pickle

import pytest
import torch
from torch.testing import assert_close

from reweight.torch import LocalPairWeighter, LossBasedWeighter


@pytest.fixture
def pairs(device):
    generator = torch.Generator().manual_seed(0)
    loss = torch.rand(6, generator=generator, dtype=torch.float64)
    adversarial = 2 * torch.rand(6, 3, generator=generator, dtype=torch.float64)
    logits = 2 * torch.randn(6, 3, 4, generator=generator, dtype=torch.float64)
    target = torch.randint(4, (6,), generator=generator)
    steps = torch.randint(11, (6, 3), generator=generator)
    parts = (loss, adversarial, logits, target, steps)
    return [part.to(device) for part in parts]


def by_hand(loss, adversarial, weights, min_total):
    total = 0.0
    for own, variants, w in zip(loss.tolist(), adversarial.tolist(), weights, strict=True):
        total += sum(a * b for a, b in zip(w, variants, strict=True))
        total += max(min_total - sum(w), 0.0) * own
    return total / len(loss)


@pytest.mark.parametrize("min_total", [0.5, 1.0, 4.0])
def test_margins_follow_the_formula(pairs, min_total):
    loss, adversarial, logits, target, _ = pairs
    weights = []
    for row, label in zip(logits.tolist(), target.tolist(), strict=True):
        margins = [z[label] - max(v for k, v in enumerate(z) if k != label) for z in row]
        weights.append([1 / (1 + 2.718281828459045 ** (1.5 * s)) for s in margins])
    weigh = LocalPairWeighter(sharpness=1.5, min_total=min_total).to(loss.device)
    found = weigh(loss, adversarial, logits=logits, target=target)
    assert abs(found.item() - by_hand(loss, adversarial, weights, min_total)) < 1e-12
    shares = weigh.pair_weights(logits=logits, target=target)
    assert (shares.sum(1) >= min_total - 1e-12).all()


def test_steps_follow_the_formula_and_fall(pairs):
    loss, adversarial, _, _, steps = pairs
    weigh = LocalPairWeighter("steps", offset=-0.5, n_steps=10).to(loss.device)
    expected = (1 + torch.tanh(-0.5 + 5 * (1 - 2 * steps.double() / 10))) / 2
    found = weigh.pair_weights(steps=steps.double())
    assert_close(found[:, 1:], expected)
    expected = by_hand(loss, adversarial, expected.tolist(), 1.0)
    assert abs(weigh(loss, adversarial, steps=steps).item() - expected) < 1e-6
    falling = weigh.pair_weights(steps=torch.arange(11.0, device=loss.device))[:, 1]
    assert (falling.diff() < 0).all()


def test_an_immune_instance_counts_by_itself_and_a_fooled_one_is_adversarial_training(pairs):
    loss, adversarial, _, target, _ = pairs
    one_hot = torch.nn.functional.one_hot(target, 4).double()
    immune = (1e3 * one_hot).unsqueeze(1).expand(-1, 3, -1)
    weigh = LocalPairWeighter(min_total=1.7).to(loss.device)
    assert_close(weigh.pair_losses(loss, adversarial, logits=immune, target=target), 1.7 * loss)
    found = LocalPairWeighter()(loss, adversarial[:, 0], logits=-1e3 * one_hot, target=target)
    assert_close(found, adversarial[:, 0].mean())


def test_other_rows_do_not_matter(pairs):
    loss, adversarial, logits, target, _ = pairs
    weigh = LocalPairWeighter()
    everything = weigh.pair_losses(loss, adversarial, logits=logits, target=target)
    changed = logits.clone()
    changed[1:] += 5 * torch.randn_like(changed[1:])
    others = weigh.pair_losses(loss, adversarial, logits=changed, target=target)
    assert others[0] == everything[0]
    assert (others[1:] != everything[1:]).any()


def test_weights_are_constants_in_the_gradient(pairs):
    loss, adversarial, logits, target, _ = pairs
    loss, adversarial = loss.requires_grad_(), adversarial.requires_grad_()
    logits.requires_grad_()
    weigh = LocalPairWeighter()
    weigh(loss, adversarial, logits=logits, target=target).backward()
    shares = weigh.pair_weights(logits=logits, target=target)
    assert not shares.requires_grad
    assert logits.grad is None
    assert_close(torch.cat([loss.grad[:, None], adversarial.grad], 1), shares / 6)


def test_padding_counts_nowhere(pairs):
    loss, adversarial, logits, target, _ = pairs
    mask = torch.tensor([1, 1, 0, 1, 0, 1], device=loss.device)
    active = mask == 1
    expected = LocalPairWeighter()(
        loss[active], adversarial[active], logits=logits[active], target=target[active]
    )
    nan = torch.where(active, 0.0, float("nan")).double()
    loss, target = loss + nan, torch.where(active, target, -100)
    adversarial = (adversarial + nan[:, None]).requires_grad_()
    logits = logits + nan[:, None, None]
    weigh = LocalPairWeighter()
    found = weigh(loss, adversarial, logits=logits, target=target, mask=mask)
    assert_close(found, expected)
    found.backward()
    assert torch.isfinite(adversarial.grad).all()


def test_evaluation_is_the_natural_loss_and_pairs_compose(pairs):
    loss, adversarial, logits, target, _ = pairs
    weigh = LocalPairWeighter()
    pair = weigh.pair_losses(loss, adversarial, logits=logits, target=target)
    focus = LossBasedWeighter()
    assert_close(focus(pair), (focus.weights(pair) * pair).mean())
    with pytest.raises(TypeError, match=r"call the other weighter on weigh\.pair_losses"):
        weigh * focus
    assert_close(weigh.eval()(loss), loss.mean())


def test_state_copies_and_compiles():
    loss, adversarial, logits = torch.rand(5), torch.rand(5, 2), torch.randn(5, 2, 3)
    target = torch.tensor([0, 1, 2, 0, 1])
    weigh = LocalPairWeighter(sharpness=2.0)
    expected = weigh(loss, adversarial, logits=logits, target=target)
    assert weigh.step == 1
    other = LocalPairWeighter(sharpness=2.0)
    other.load_state_dict(weigh.state_dict())
    for twin in (other, copy.deepcopy(weigh), pickle.loads(pickle.dumps(weigh))):
        assert twin.step == 1
        assert twin(loss, adversarial, logits=logits, target=target) == expected
    torch._dynamo.reset()
    call = torch.compile(weigh, fullgraph=True, backend="aot_eager")
    assert_close(call(loss, adversarial, logits=logits, target=target), expected)
    steps = torch.randint(11, (5, 2))
    by_steps = LocalPairWeighter("steps")
    call = torch.compile(by_steps, fullgraph=True, backend="aot_eager")
    assert_close(call(loss, adversarial, steps=steps), by_steps(loss, adversarial, steps=steps))


def test_bad_input_is_named():
    weigh, loss = LocalPairWeighter(), torch.rand(3)
    with pytest.raises(ValueError, match="the call has no adversarial_loss"):
        weigh(loss)
    with pytest.raises(ValueError, match="no logits and no target; score='margin' needs"):
        weigh(loss, torch.rand(3, 2))
    with pytest.raises(ValueError, match=r"adversarial_loss \(4, 2\); pass \(n_rows,\)"):
        weigh(loss, torch.rand(4, 2))
    with pytest.raises(ValueError, match="1 variants of 3 rows to score, but losses of 2"):
        weigh(loss, torch.rand(3, 2), logits=torch.rand(3, 4), target=torch.zeros(3).long())
    with pytest.raises(ValueError, match="target holds 4, which is not among"):
        weigh(loss, torch.rand(3), logits=torch.rand(3, 4), target=torch.full((3,), 4))
    with pytest.raises(ValueError, match="steps holds 11, which is not between 0 and n_steps=10"):
        LocalPairWeighter("steps")(loss, torch.rand(3), steps=torch.tensor([1, 2, 11]))
    with pytest.raises(ValueError, match="the call has no steps; score='steps' needs"):
        LocalPairWeighter("steps")(loss, torch.rand(3))
    for settings, words in (
        ({"score": "loss"}, "score='loss'; choose one of"),
        ({"sharpness": 0.0}, "sharpness=0.0; it must be finite and positive"),
        ({"min_total": -1.0}, "min_total=-1.0; it must be finite and positive"),
        ({"offset": float("nan")}, "offset=nan; it must be finite"),
        ({"n_steps": 0}, "n_steps=0; pass a whole number"),
    ):
        with pytest.raises(ValueError, match=words):
            LocalPairWeighter(**settings)

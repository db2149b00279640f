"""Residual maps: closed form, the robust loss that it is, prices by the recursion."""

import copy
import math
import pickle

import pytest
import torch
from torch.testing import assert_close

from reweight.torch import ResidualScoringLoss, ResidualWeighter
from reweight.torch.residual import total_variation


@pytest.fixture
def maps(device):
    generator = torch.Generator().manual_seed(0)
    residual = 0.2 * torch.randn(2, 1, 5, 6, generator=generator, dtype=torch.float64)
    score = torch.rand(2, 1, 5, 6, generator=generator, dtype=torch.float64)
    return residual.to(device), score.to(device)


def test_weights_are_the_closed_form_and_zero_beyond(maps):
    squared = maps[0].square()
    weights = ResidualWeighter(0.02).weights(squared)
    assert_close(weights, (1 - squared / 0.04).clamp(min=0))
    assert (weights[squared >= 0.04] == 0).all()
    assert 0 < (squared >= 0.04).sum() < squared.numel()


def test_loss_with_weights_and_their_price_is_the_truncated_one(maps):
    residual, alpha = maps[0], 0.02
    squared = residual.square()
    weigh = ResidualWeighter(alpha)
    weights = weigh.weights(squared)
    total = weigh(squared) + alpha * (weights - 1).square().mean()
    robust = torch.where(squared <= 2 * alpha, squared - squared**2 / (4 * alpha), alpha)
    assert_close(total, robust.mean())
    # Envelope: with weights held fixed the gradient is that of the robust loss.
    r = residual.clone().requires_grad_()
    (frozen,) = torch.autograd.grad(weigh(r.square()), r)
    squared = r.square()
    robust = torch.where(squared <= 2 * alpha, squared - squared**2 / (4 * alpha), alpha)
    assert_close(frozen, torch.autograd.grad(robust.mean(), r)[0])


def test_scores_that_minimise_the_loss_are_the_closed_form(maps):
    residual, score = maps
    criterion = ResidualScoringLoss(beta=0.0).to(residual.device)
    s = score.clone().requires_grad_()
    for _ in range(3000):
        (grad,) = torch.autograd.grad(criterion.scoring_loss(residual, s), s)
        s = (s - 15.0 * s.numel() / 60 * grad).clamp(0, 1).detach().requires_grad_()
    expected = ResidualWeighter(0.02).weights(residual.square())
    assert (s - expected).abs().max() < 1e-4


def test_scores_of_one_give_the_mean_square(maps):
    residual, score = maps
    criterion = ResidualScoringLoss().to(residual.device)
    ones = torch.ones_like(score)
    assert_close(criterion.motion_loss(residual, ones), residual.square().mean())
    assert_close(criterion.scoring_loss(residual, ones), residual.square().mean())


def test_each_loss_trains_its_own_network(maps):
    residual, score = (part.requires_grad_() for part in maps)
    criterion = ResidualScoringLoss().to(residual.device)
    criterion.motion_loss(residual, score).backward()
    assert score.grad is None
    assert_close(residual.grad, 2 * residual * score / residual.numel())
    residual.grad = None
    criterion.scoring_loss(residual, score).backward()
    assert residual.grad is None
    assert score.grad.abs().max() > 0


def test_total_variation_by_loops(device):
    generator = torch.Generator().manual_seed(1)
    s = torch.rand(2, 1, 3, 4, 5, generator=generator).to(device)
    axes = []
    for axis in (2, 3, 4):
        upper = s.narrow(axis, 1, s.shape[axis] - 1)
        lower = s.narrow(axis, 0, s.shape[axis] - 1)
        axes.append((upper - lower).square().mean())
    assert_close(total_variation(s), torch.stack(axes).mean())
    assert total_variation(torch.full((1, 1, 4, 4), 0.3)) == 0
    assert total_variation(torch.rand(1, 1, 1, 1)) == 0


@pytest.mark.parametrize("clamp_tv", [True, False])
def test_price_of_roughness_follows_the_recursion(maps, clamp_tv):
    residual, score = maps
    criterion = ResidualScoringLoss(momentum=0.6, clamp_tv=clamp_tv).to(residual.device)
    price = 0.0
    prices = []
    for epoch in range(3):
        firsts = []
        for size in (0.2, 0.9, 1.1):
            r = size * residual
            firsts.append((r.square() * score).mean().item())
            kept = min(1 - 1 / (epoch + 1), 0.6)
            target = 1.5 * math.cos(math.pi * 50 * sum(firsts) / len(firsts))
            price = kept * price + (1 - kept) * target
            prices.append(price)
            loss = criterion.scoring_loss(r, score)
            assert math.isclose(criterion.tv_weight.item(), price, rel_tol=1e-4, abs_tol=1e-4)
            used = max(price, 0.0) if clamp_tv else price
            rough = used * total_variation(score)
            expected = firsts[-1] + 0.02 * (score - 1).square().mean() + rough
            assert_close(loss, expected, rtol=1e-4, atol=1e-5)
        criterion.end_epoch()
    assert min(prices) < 0 < max(prices)


def test_evaluation_moves_nothing(maps):
    residual, score = maps
    criterion = ResidualScoringLoss().to(residual.device)
    criterion.scoring_loss(residual, score)
    before = copy.deepcopy(criterion.state_dict())
    criterion.eval().scoring_loss(3 * residual, score)
    assert all(torch.equal(before[key], value) for key, value in criterion.state_dict().items())


def test_background_may_hold_nan(maps):
    residual, score = maps
    mask = torch.zeros_like(score)
    mask[..., 1:4, 2:5] = 1
    broken = torch.where(mask == 1, residual, float("nan"))
    criterion = ResidualScoringLoss(beta=0.0).to(residual.device)
    n = residual.numel()
    expected = (mask * residual.square() * score).sum() / n
    assert_close(criterion.motion_loss(broken, score, mask), expected)
    price = 0.02 * (mask * (score - 1)).square().sum() / n
    assert_close(criterion.scoring_loss(broken, score, mask), expected + price)


def test_state_is_saved_copied_and_pickled():
    residual, score = 0.1 * torch.randn(1, 1, 4, 4), torch.rand(1, 1, 4, 4)
    criterion = ResidualScoringLoss()
    for _ in range(3):
        criterion.scoring_loss(residual, score)
    criterion.end_epoch()
    criterion.scoring_loss(0.2 * residual, score)
    other = ResidualScoringLoss()
    other.load_state_dict(criterion.state_dict())
    copies = [other, copy.deepcopy(criterion), pickle.loads(pickle.dumps(criterion))]
    expected = criterion.scoring_loss(residual, score)
    assert [torch.equal(c.scoring_loss(residual, score), expected) for c in copies] == [True] * 3


def test_it_compiles_in_one_piece():
    torch._dynamo.reset()
    residual, score = 0.1 * torch.randn(1, 1, 4, 4), torch.rand(1, 1, 4, 4)
    weigh = ResidualWeighter()
    call = torch.compile(weigh, fullgraph=True, backend="aot_eager")
    assert_close(call(residual.square()), weigh(residual.square()))
    plain, compiled = ResidualScoringLoss(), ResidualScoringLoss()
    score_loss = torch.compile(compiled.scoring_loss, fullgraph=True, backend="aot_eager")
    for size in (1.0, 0.3):
        found = score_loss(size * residual, score)
        assert_close(found, plain.scoring_loss(size * residual, score))


def test_bad_input_is_named():
    criterion = ResidualScoringLoss()
    with pytest.raises(ValueError, match=r"residual has shape \(2, 1, 4, 4\) and score \(2, 1, 4"):
        criterion.motion_loss(torch.zeros(2, 1, 4, 4), torch.zeros(2, 1, 4, 5))
    with pytest.raises(ValueError, match="mask has shape"):
        criterion.motion_loss(torch.zeros(2, 1, 4, 4), torch.zeros(2, 1, 4, 4), torch.ones(3))
    for make in (ResidualWeighter, ResidualScoringLoss):
        with pytest.raises(ValueError, match="alpha=0; it must be finite and positive"):
            make(0)
    for settings in ({"beta": -1.0}, {"kappa": math.inf}):
        with pytest.raises(ValueError, match="it must be finite and not negative"):
            ResidualScoringLoss(**settings)
    with pytest.raises(ValueError, match="momentum=1; it must lie in"):
        ResidualScoringLoss(momentum=1)


def test_losses_below_zero_are_no_squares():
    weigh = ResidualWeighter()
    with pytest.raises(ValueError, match="2 of 4 losses are negative; pass squared residuals"):
        weigh(torch.tensor([[-1.0, 0.1], [-0.2, 0.0]]))

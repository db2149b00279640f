"""Corrected losses: no noise, the stable formula, unbiasedness, bad matrices."""

import pytest
import torch
from torch.nn.functional import cross_entropy
from torch.testing import assert_close

from reweight.exceptions import WeightWarning
from reweight.torch import BackwardCorrectionLoss, ForwardCorrectionLoss

T = torch.tensor([[0.7, 0.1, 0.0], [0.2, 0.6, 0.2], [0.1, 0.3, 0.8]], dtype=torch.float64)


@pytest.fixture
def rows(device):
    generator = torch.Generator().manual_seed(0)
    logits = 2 * torch.randn(8, 3, generator=generator, dtype=torch.float64)
    target = torch.randint(3, (8,), generator=generator)
    return logits.to(device), target.to(device)


@pytest.mark.parametrize("correct", [ForwardCorrectionLoss, BackwardCorrectionLoss])
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_without_noise_it_is_cross_entropy(correct, reduction, rows):
    logits, target = rows
    loss = correct(torch.eye(3).double(), reduction=reduction).to(logits.device)
    assert_close(loss(logits, target), cross_entropy(logits, target, reduction=reduction))


def test_forward_is_the_likelihood_of_the_noisy_label(rows):
    logits, target = rows
    noisy = torch.softmax(logits, 1) @ T.T.to(logits.device)
    expected = -noisy.gather(1, target[:, None]).squeeze(1).log()
    for matrix, convention in ((T, "columns"), (T.T, "rows")):
        loss = ForwardCorrectionLoss(matrix, convention, "none").to(logits.device)
        assert_close(loss(logits, target), expected)


def test_forward_stays_finite_where_probabilities_underflow():
    logits = torch.tensor([[1e4, 0.0, 0.0]], requires_grad=True)
    loss = ForwardCorrectionLoss(T)(logits, torch.tensor([1]))
    loss.backward()
    assert_close(loss.item(), -torch.tensor(0.2).log().item())
    assert torch.isfinite(logits.grad).all()


def test_backward_is_unbiased_for_the_clean_loss(rows):
    logits, _ = rows
    correct = BackwardCorrectionLoss(T, reduction="none").to(logits.device)
    by_noisy = torch.stack(
        [correct(logits, torch.full((8,), a, device=logits.device)) for a in range(3)]
    )
    for clean in range(3):
        expected = cross_entropy(
            logits, torch.full((8,), clean, device=logits.device), reduction="none"
        )
        assert_close(T[:, clean].to(logits.device) @ by_noisy, expected, rtol=1e-10, atol=1e-10)


def test_forward_is_proper_for_the_clean_posterior():
    """Its minimiser over f of the expected loss under T f0 is f0."""
    truth = torch.tensor([0.5, 0.3, 0.2], dtype=torch.float64)
    noisy = T @ truth
    logits = torch.zeros(1, 3, dtype=torch.float64, requires_grad=True)
    loss = ForwardCorrectionLoss(T, reduction="none")
    optimizer = torch.optim.LBFGS([logits], max_iter=100, line_search_fn="strong_wolfe")

    def closure():
        optimizer.zero_grad()
        value = (noisy * loss(logits.expand(3, 3), torch.arange(3))).sum()
        value.backward()
        return value

    optimizer.step(closure)
    assert_close(torch.softmax(logits.detach(), 1)[0], truth, rtol=1e-4, atol=1e-4)


def test_images_and_half_precision(rows):
    logits, target = rows
    for correct in (ForwardCorrectionLoss, BackwardCorrectionLoss):
        loss = correct(T, reduction="none").to(logits.device)
        pixels = loss(logits.reshape(2, 4, 3).movedim(-1, 1), target.reshape(2, 4))
        assert_close(pixels.reshape(-1), loss(logits, target))
        assert loss(logits.bfloat16(), target).dtype == torch.float32


def test_matrices_that_cannot_be_inverted():
    near = torch.tensor([[0.5001, 0.4999], [0.4999, 0.5001]], dtype=torch.float64)
    with pytest.warns(WeightWarning, match="condition number 5e\\+03"):
        BackwardCorrectionLoss(near)
    with pytest.raises(ValueError, match="no usable inverse; use ForwardCorrectionLoss"):
        BackwardCorrectionLoss(torch.full((2, 2), 0.5))


def test_state_and_settings():
    loss = BackwardCorrectionLoss(T)
    other = BackwardCorrectionLoss(torch.eye(3).double())
    other.load_state_dict(loss.state_dict())
    assert torch.equal(other.correction, loss.correction)
    assert repr(loss) == "BackwardCorrectionLoss(n_classes=3, reduction='mean')"
    with pytest.raises(ValueError, match="reduction='max'; choose one of"):
        ForwardCorrectionLoss(T, reduction="max")
    with pytest.raises(ValueError, match="its rows do, so pass convention='rows'"):
        ForwardCorrectionLoss(T.T)
    with pytest.raises(ValueError, match="target holds -1"):
        loss(torch.zeros(1, 3), torch.tensor([-1]))

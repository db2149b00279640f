"""Weights by loss: closed forms, invariances, the limit of high temperature, optimality."""

import math

import pytest
import torch
from sklearn.linear_model import LinearRegression
from torch.testing import assert_close

from reweight.exceptions import WeightWarning
from reweight.torch import LossBasedWeighter

STRATEGIES = ["linupper", "quadratic", "extremes", "upper"]
LOSSES = torch.tensor([0.3, 2.0, 1.1, 0.7, 5.0, 4.2], dtype=torch.float64)
SHAPES = {
    "linupper": lambda h, delta: (h + delta).clamp(max=delta),
    "quadratic": lambda h, delta: 1 - h**2 / delta**2,
    "extremes": lambda h, delta: h.abs(),
    "upper": lambda h, delta: (h + delta) / 2,
}


def plain(losses, strategy, temperature, delta):
    """The formula of the paper, one loss at a time."""
    low, high = float(losses.min()), float(losses.max())
    f = [SHAPES[strategy](delta * (2 * loss - high - low) / (high - low), delta) for loss in losses]
    e = [math.exp(value / temperature) for value in f]
    return torch.tensor([value / sum(e) * len(e) for value in e], dtype=losses.dtype)


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize(("temperature", "delta"), [(1.0, 1.0), (0.3, 2.0)])
def test_weights_follow_the_formula(strategy, temperature, delta, device):
    weigh = LossBasedWeighter(strategy, temperature, delta=delta)
    expected = plain(LOSSES, strategy, temperature, delta)
    assert_close(weigh.weights(LOSSES.to(device)).cpu(), expected)
    by_hand = LossBasedWeighter(lambda h: SHAPES[strategy](h, delta), temperature, delta=delta)
    assert_close(by_hand.weights(LOSSES), expected)


@pytest.mark.parametrize(
    ("strategy", "f"),
    [("linupper", (0, 1, 1)), ("quadratic", (0, 1, 0)), ("extremes", (1, 0, 1))],
)
def test_three_equally_spaced_losses(strategy, f):
    weights = LossBasedWeighter(strategy).weights(torch.tensor([0.0, 1.0, 2.0]))
    expected = torch.tensor(f, dtype=torch.float32).exp()
    assert_close(weights, expected / expected.mean())


@pytest.mark.parametrize("temperature", [0.4, 1.0, 3.0])
def test_largest_over_smallest_weight_of_linupper(temperature):
    weights = LossBasedWeighter(temperature=temperature).weights(LOSSES)
    bound = math.exp(1 / temperature)
    assert_close((weights.max() / weights.min()).item(), bound, rtol=1e-6, atol=0)
    assert weights.min() >= 1 / bound
    assert weights.max() <= bound


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_affine_changes_and_order_do_not_matter(strategy):
    weigh = LossBasedWeighter(strategy, 0.5)
    weights = weigh.weights(LOSSES)
    assert_close(weigh.weights(3.0 * LOSSES + 7.0), weights)
    order = torch.tensor([3, 1, 5, 0, 4, 2])
    assert_close(weigh.weights(LOSSES[order]), weights[order])


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_high_temperature_is_uniform(strategy):
    weights = LossBasedWeighter(strategy, 1e6).weights(LOSSES)
    assert (weights - 1).abs().max() < 1e-5


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_weights_maximise_the_penalised_gain(strategy):
    temperature = 0.7
    weights = LossBasedWeighter(strategy, temperature).weights(LOSSES) / 6
    low, high = LOSSES.min(), LOSSES.max()
    f = SHAPES[strategy]((2 * LOSSES - low - high) / (high - low), 1.0)
    gain = lambda w: (w * f).sum() - temperature * (w * (6 * w).log()).sum()
    generator = torch.Generator().manual_seed(0)
    for _ in range(50):
        step = torch.randn(6, generator=generator, dtype=torch.float64)
        step -= step.mean()
        step *= 0.1 * weights.min() / step.abs().max()
        assert gain(weights + step) < gain(weights)


def test_nearly_equal_losses_are_told_apart_and_equal_ones_are_not():
    near = 100.0 + torch.tensor([0.0, 1.0, 2.0]) * 2**-12
    assert_close(LossBasedWeighter().weights(near), plain(near.double(), "linupper", 1, 1).float())
    weigh = LossBasedWeighter(normalize="none")
    assert_close(weigh.weights(torch.full((4,), 3.7)), torch.ones(4))
    assert_close(weigh.weights(100.0 + torch.tensor([0.0, 1e-5])), torch.ones(2))


def test_padding_does_not_stretch_the_range():
    losses, mask = torch.tensor([2.0, 3.0, 4.0, 0.0]), torch.tensor([1, 1, 1, 0])
    weights = LossBasedWeighter().weights(losses, mask=mask)
    assert_close(weights[:3], LossBasedWeighter().weights(losses[:3]))


def test_a_batch_of_one_has_weight_one_and_says_so_once():
    weigh = LossBasedWeighter()
    with pytest.warns(WeightWarning, match="a batch of one item has weight one"):
        assert weigh(torch.tensor([3.0])) == 3.0
    assert weigh(torch.tensor([4.0])) == 4.0


def test_a_strategy_with_a_graph_is_detached_aloud():
    scale = torch.ones((), requires_grad=True)

    def strategy(h):
        with torch.enable_grad():
            return h * scale

    with pytest.warns(WeightWarning, match="the strategy returns values with a graph"):
        LossBasedWeighter(strategy)(torch.rand(4))


def test_settings_are_checked():
    with pytest.raises(ValueError, match="strategy='mid'; choose one of"):
        LossBasedWeighter("mid")
    with pytest.raises(ValueError, match="delta=0; it must be finite and positive"):
        LossBasedWeighter(delta=0)


def test_linupper_fits_a_linear_model_in_fewer_steps():
    """The paper's toy study: few hard rows hold back uniform gradient descent."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(512, 10, generator=generator) * torch.linspace(0.2, 2.0, 10)
    truth = torch.ones(10)

    def steps(reduce):
        theta = torch.zeros(10, requires_grad=True)
        for step in range(2000):
            loss = (x @ (theta - truth)) ** 2
            if loss.mean() < 1e-4:
                return step
            grad = torch.autograd.grad(reduce(loss), theta)[0]
            theta = (theta - 0.02 * grad).detach().requires_grad_()
        return 2000

    assert steps(LossBasedWeighter(temperature=1.0)) < steps(torch.mean) < 2000


def test_weights_of_a_batch_are_sample_weights_of_scikit_learn():
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(40, 2, generator=generator, dtype=torch.float64)
    y = x @ torch.tensor([1.0, -2.0], dtype=torch.float64) + x[:, 0] ** 2
    weigh = LossBasedWeighter(temperature=0.3)
    loss = (y - y.mean()) ** 2
    sample_weight = weigh.weights(loss).numpy(force=True)
    model = LinearRegression().fit(x.numpy(), y.numpy(), sample_weight=sample_weight)
    # At the fit with the same weights the gradient of the weighted loss is zero.
    coef = torch.tensor(model.coef_, requires_grad=True)
    residuals = y - x @ coef - model.intercept_
    (weigh.weights(loss) * residuals**2).mean().backward()
    assert coef.grad.abs().max() < 1e-10
    assert sample_weight.std() > 0.1

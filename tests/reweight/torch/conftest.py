"""Devices on which every test of tensors runs, and weights that a test hands in."""

import pytest
import torch

from reweight.torch import LossWeighter

DEVICES = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]


@pytest.fixture(params=DEVICES)
def device(request):
    return torch.device(request.param)


class GivenWeights(LossWeighter):
    """Weights passed as features, with a mean that the test states."""

    def __init__(self, *, mean=1.0, **settings):
        super().__init__(**settings)
        self.mean = mean

    def raw_weights(self, loss, *, features=None, mask=None, **context):
        return torch.ones_like(loss) if features is None else features

    def dataset_mean(self):
        return self.mean


@pytest.fixture
def given():
    return GivenWeights


@pytest.fixture
def skewed():
    """Losses of a linear model with a gradient, and skewed weights that go along with x."""
    generator = torch.Generator().manual_seed(3)
    x = torch.randn(64, generator=generator, dtype=torch.float64)
    weights = torch.exp(1.5 * x + torch.randn(64, generator=generator, dtype=torch.float64))
    return x, weights

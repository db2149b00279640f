"""Devices on which every test of tensors runs, and weights that a test hands in."""

import os
import subprocess
import sys
from pathlib import Path

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


@pytest.fixture(scope="session")
def two_processes(tmp_path_factory):
    """Folder of what two processes saw, which are started once because torch loads slowly."""
    folder = tmp_path_factory.mktemp("gloo")
    script = Path(__file__).with_name("two_processes.py")
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(script.parents[3]), os.environ.get("PYTHONPATH", "")]),
        "OMP_NUM_THREADS": "1",
    }
    processes = [
        subprocess.Popen(
            [sys.executable, str(script), str(rank), str(folder)],
            env=environment,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    try:
        errors = [process.communicate(timeout=240)[1] for process in processes]
    finally:
        for process in processes:
            process.kill()
    assert [process.returncode for process in processes] == [0, 0], errors
    return folder

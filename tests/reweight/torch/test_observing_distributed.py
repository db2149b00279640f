"""Two processes that look at the model see what one would see of the whole batch."""

import importlib.util
from pathlib import Path

import pytest
import torch
from torch.testing import assert_close

SCRIPT = Path(__file__).with_name("observing_worker.py")
SPEC = importlib.util.spec_from_file_location("observing_worker", SCRIPT)
worker = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(worker)


@pytest.fixture(scope="module")
def ranks(two_processes):
    """What each of the two processes saw."""
    return [torch.load(two_processes / "observing_worker" / f"{rank}.pt") for rank in range(2)]


@pytest.mark.parametrize("name", [n for n in worker.WEIGHTERS if n not in ("rent", "dirichlet")])
def test_weights_gradient_and_net_are_those_of_one_process(name, ranks):
    weights, gradient, state = worker.step(name, slice(None), slice(None))
    assert weights.std() > 1e-4
    for rank, results in enumerate(ranks):
        found, grad, net = results[name]
        assert_close(found, weights[worker.ROWS[rank]], rtol=1e-4, atol=1e-5)
        assert_close(grad, gradient, rtol=1e-4, atol=1e-5)
        for key, value in net.items():
            assert_close(value, state[key], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("name", ["rent", "dirichlet"])
def test_processes_share_one_draw_of_the_whole_batch(name, ranks):
    weights = torch.cat([results[name][0] for results in ranks])
    assert_close(weights.sum().item(), 8.0, rtol=1e-5, atol=0)
    if name == "rent":
        assert_close(weights, weights.round(), rtol=0, atol=1e-5)
    assert_close(ranks[0][name][1], ranks[1][name][1])
    batch, _ = worker.data()
    model = worker.model()
    (weights * worker.losses(model, batch)).mean().backward()
    gradient = torch.cat([p.grad.flatten() for p in model.parameters()])
    assert_close(ranks[0][name][1], gradient, rtol=1e-4, atol=1e-6)


def test_micro_batches_of_both_processes_are_averaged(ranks):
    gradient = worker.micro_batches([part for parts in worker.PARTS.values() for part in parts])
    for results in ranks:
        assert_close(results["micro-batches"], gradient, rtol=1e-5, atol=1e-7)

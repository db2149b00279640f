"""Two processes with unequal parts of a batch get the gradient of the whole batch."""

import importlib.util
from pathlib import Path

import pytest
import torch
from torch.testing import assert_close

from reweight.torch import ImportanceSampler

SCRIPT = Path(__file__).with_name("gloo_worker.py")
SPEC = importlib.util.spec_from_file_location("gloo_worker", SCRIPT)
worker = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(worker)


@pytest.fixture(scope="module")
def ranks(two_processes):
    """What each of the two processes saw."""
    return [torch.load(two_processes / "gloo_worker" / f"{rank}.pt") for rank in range(2)]


@pytest.mark.parametrize("masking", worker.MASKS)
@pytest.mark.parametrize("name", worker.WEIGHTERS)
def test_gradient_and_weights_are_those_of_one_process_with_the_whole_batch(name, masking, ranks):
    grad, weights = worker.gradient(name, masking, slice(None))
    for rank, results in enumerate(ranks):
        assert_close(results[name, masking][0], grad, rtol=1e-5, atol=1e-6)
        assert_close(results[name, masking][1], weights[worker.ROWS[rank]], rtol=1e-5, atol=1e-6)
    assert grad.abs().max() > 1e-2


def test_deferred_micro_batches_on_two_processes_equal_one_large_batch(ranks):
    grad, _ = worker.gradient("batch", "all", slice(None))
    for results in ranks:
        assert_close(results["accumulated"], grad, rtol=1e-5, atol=1e-6)


def test_processes_share_out_the_draws(ranks):
    together = [
        row for pair in zip(ranks[0]["draws"], ranks[1]["draws"], strict=True) for row in pair
    ]
    assert together == list(ImportanceSampler(worker.WEIGHTS, 20))


def test_evaluation_waits_for_no_other_process(ranks):
    assert ranks[0]["evaluation"] == 2.0

"""The loss on a shrunk class space beside a loop over rows and classes.

A run is one forward and backward pass, eager, on one thread. `loss_error` and `gradient_error` are
the largest differences from the loop, so that nobody is fast by being wrong. The loop follows the
definition row by row, as published code does. Needs PyTorch.
"""

from collections.abc import Callable, Iterator

import torch
from case import Case
from torch import Tensor

from reweight.torch import ShrinkMatchLoss

THRESHOLD = 0.95


def loop(p: Tensor, z: Tensor) -> Tensor:
    """The loss row by row and cut by cut."""
    total = z.new_zeros(())
    for row, scores in zip(p, z, strict=True):
        order = torch.argsort(row, descending=True, stable=True)
        ordered = row[order]
        if ordered[0] >= THRESHOLD:
            continue
        for cut in range(2, len(row)):
            if ordered[0] / (ordered[0] + ordered[cut:].sum()) >= THRESHOLD:
                kept = torch.cat([order[:1], order[cut:]])
                total = total - ordered[0] * torch.log_softmax(scores[kept], 0)[0]
                break
    return total / len(p)


def passes(loss: Callable[[Tensor, Tensor], Tensor], p: Tensor, z: Tensor):
    """Loss and gradient."""

    def run():
        scores = z.clone().requires_grad_()
        value = loss(p, scores)
        return value.detach(), torch.autograd.grad(value, scores)[0]

    return run


def cases(quick: bool) -> Iterator[Case]:
    torch.manual_seed(0)
    torch.set_num_threads(1)
    sizes = [(448, 10)] if quick else [(448, 10), (448, 100), (320, 1000)]
    for n_rows, n_classes in sizes:
        p = torch.softmax(3.0 * torch.randn(n_rows, n_classes), 1)
        z = torch.randn(n_rows, n_classes)
        slow = passes(loop, p, z)
        reference = slow()

        def errors(found, reference=reference):
            return {
                "loss_error": float((found[0] - reference[0]).abs()),
                "gradient_error": float((found[1] - reference[1]).abs().max()),
            }

        size = {"rows": n_rows, "classes": n_classes}
        fast = passes(ShrinkMatchLoss(THRESHOLD, principle2=False), p, z)
        yield Case("counterpoise", size, fast, errors)
        yield Case("torch: loop over rows", size, slow, errors)

"""What a loss weighter adds to a training step, beside the mean that it replaces.

Each run makes `calls` calls on per-item losses of `batch` rows, eager, on one thread, so that 0.01
seconds of 200 calls are 50 microseconds a call. `largest_error` is the largest difference of the
weights from their formula in numpy. `torch: step of an MLP` is a whole unweighted training step of
64-256-256-10 units, to divide by. Needs PyTorch.
"""

from collections.abc import Callable, Iterator

import numpy as np
import torch
from case import Case

from reweight.torch import Anneal, IndexWeighter, LossBasedWeighter

CALLS = 200


def formula(losses: torch.Tensor) -> np.ndarray:
    """LinUpper weights of temperature one, with mean one, in double precision."""
    losses = losses.detach().numpy().astype(float)
    h = (2 * losses - losses.max() - losses.min()) / (losses.max() - losses.min())
    raw = np.exp(np.minimum(h + 1, 1))
    return raw / raw.mean()


def repeated(call: Callable[[], torch.Tensor]) -> Callable[[], torch.Tensor]:
    def run():
        for _ in range(CALLS):
            result = call()
        return result

    return run


def training_step(batch: int) -> Callable[[], torch.Tensor]:
    """One step of gradient descent on the mean loss."""
    net = torch.nn.Sequential(
        torch.nn.Linear(64, 256),
        torch.nn.ReLU(),
        torch.nn.Linear(256, 256),
        torch.nn.ReLU(),
        torch.nn.Linear(256, 10),
    )
    optimiser = torch.optim.Adam(net.parameters())
    x, y = torch.randn(batch, 64), torch.randint(0, 10, (batch,))

    def step():
        optimiser.zero_grad()
        loss = torch.nn.functional.cross_entropy(net(x), y)
        loss.backward()
        optimiser.step()
        return loss.detach()

    return step


def cases(quick: bool) -> Iterator[Case]:
    torch.manual_seed(0)
    torch.set_num_threads(1)
    for batch in [256] if quick else [256, 4096]:
        size = {"batch": batch, "calls": CALLS}
        losses = torch.rand(batch, requires_grad=True)
        mask, index = torch.rand(batch) < 0.8, torch.randperm(batch)
        weights = torch.rand(10 * batch) + 0.1
        loss_based, by_index = LossBasedWeighter(), IndexWeighter(weights)
        annealed = LossBasedWeighter(temperature=Anneal(2.0, 0.5, 1000), warmup_steps=10)

        def by_loss_error(_, losses=losses, weigh=loss_based):
            return {"largest_error": float(abs(weigh.weights(losses) - formula(losses)).max())}

        def by_index_error(_, losses=losses, weigh=by_index, index=index, weights=weights):
            found = weigh.weights(losses, index=index)
            return {"largest_error": float(abs(found - (weights / weights.mean())[index]).max())}

        runs = {
            "counterpoise": lambda w=loss_based, x=losses: w(x),
            "counterpoise, masked": lambda w=loss_based, x=losses, m=mask: w(x, mask=m),
            "counterpoise, annealed": lambda w=annealed, x=losses: w(x),
            "counterpoise, by index": lambda w=by_index, x=losses, i=index: w(x, index=i),
            "torch: mean": lambda x=losses: x.mean(),
        }
        if batch == 256:
            runs["torch: step of an MLP"] = training_step(batch)
        judges = {"counterpoise": by_loss_error, "counterpoise, by index": by_index_error}
        for library, call in runs.items():
            judge = judges.get(library, lambda _: {})
            yield Case(library, size, repeated(call), judge)

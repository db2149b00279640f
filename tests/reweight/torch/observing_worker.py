"""One of two processes that share a batch and look at the model."""

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from reweight.torch import (
    BilevelWeighter,
    LearnToReweight,
    MetaWeightNet,
    SelfInfluenceWeighter,
    TransitionWeighter,
)

ROWS = {0: slice(0, 5), 1: slice(5, 8)}
CLEAN = {0: slice(0, 2), 1: slice(2, 6)}
T = torch.tensor([[0.7, 0.1, 0.0], [0.2, 0.6, 0.2], [0.1, 0.3, 0.8]])


def data():
    generator = torch.Generator().manual_seed(1)
    return [
        (
            torch.randn(n, 3, generator=generator),
            torch.randint(3, (n,), generator=generator),
        )
        for n in (8, 6)
    ]


def cut(batch, rows):
    return batch[0][rows], batch[1][rows]


def losses(call, batch):
    return nn.functional.cross_entropy(call(batch[0]), batch[1], reduction="none")


def net(n_inputs):
    torch.manual_seed(5)
    return nn.Sequential(nn.Linear(n_inputs, 4), nn.Tanh(), nn.Linear(4, 1))


def bilevel(clean):
    plain = lambda parameters: torch.optim.SGD(parameters, lr=1.0)
    return BilevelWeighter([clean], net(2), 0.3, meta_optimizer=plain)


def meta(clean):
    torch.manual_seed(6)
    weigh = MetaWeightNet([clean], 0.3, hidden=5)
    weigh.meta_optimizer = torch.optim.SGD(weigh.weight_net.parameters(), lr=1.0)
    return weigh


WEIGHTERS = {
    "bilevel": bilevel,
    "meta": meta,
    "learn": lambda clean: LearnToReweight([clean], n_samples=8),
    "zscore": lambda clean: SelfInfluenceWeighter(9),
    "rank": lambda clean: SelfInfluenceWeighter(9, scale="rank"),
    "reweight": lambda clean: TransitionWeighter(T, "reweight"),
    # Processes draw differently, and must agree all the same.
    "rent": lambda clean: TransitionWeighter(
        T, generator=torch.Generator().manual_seed(dist.get_rank())
    ),
    "dirichlet": lambda clean: TransitionWeighter(
        T, "dirichlet", generator=torch.Generator().manual_seed(dist.get_rank())
    ),
}


def model():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 3))


def step(name, rows, clean_rows, wrap=lambda net: net):
    """Weights, gradient of the model, and state after one step."""
    batch, clean = (
        cut(part, chosen) for part, chosen in zip(data(), (rows, clean_rows), strict=True)
    )
    trained, weigh = wrap(model()), WEIGHTERS[name](clean)
    weigh.observe(trained, losses, batch)
    logits = trained(batch[0])
    loss = nn.functional.cross_entropy(logits, batch[1], reduction="none")
    context = {"target": batch[1], "logits": logits, "index": torch.arange(8)[rows]}
    weights = weigh.weights(loss, **context)
    weigh(loss, **context).backward()
    state = {k: v for k, v in weigh.state_dict().items() if k.startswith("weight_net")}
    return weights, torch.cat([p.grad.flatten() for p in trained.parameters()]), state


def micro_batches(parts):
    """Gradient of micro-batches that are weighted by their own influence."""
    batch, _ = data()
    trained = model()
    weigh = SelfInfluenceWeighter(9, method="microbatch", scale="log")
    for rows in parts:
        losses(trained, cut(batch, rows)).mean().backward()
        weigh.accumulate(trained.parameters())
    weigh.finish_step(trained.parameters())
    return torch.cat([p.grad.flatten() for p in trained.parameters()])


PARTS = {0: [slice(0, 2), slice(2, 5)], 1: [slice(5, 7), slice(7, 8)]}


def main(rank, folder):
    folder.mkdir(exist_ok=True)
    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo", init_method=f"file://{folder / 'meeting'}", rank=rank, world_size=2
    )
    results = {
        name: step(name, ROWS[rank], CLEAN[rank], DistributedDataParallel) for name in WEIGHTERS
    }
    results["micro-batches"] = micro_batches(PARTS[rank])
    torch.save(results, folder / f"{rank}.pt")
    dist.destroy_process_group()

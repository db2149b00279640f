"""One of two processes that share a batch."""

import torch
import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel

from reweight.torch import ImportanceSampler, IndexWeighter, LossBasedWeighter

N_ROWS = 8
ROWS = {0: slice(0, 5), 1: slice(5, 8)}
WEIGHTS = torch.tensor([0.1, 3.0, 1.0, 0.0, 2.0, 7.0, 0.5, 1.4])

WEIGHTERS = {
    "loss": lambda: LossBasedWeighter(temperature=0.3),
    "callable": lambda: LossBasedWeighter(lambda h: 1 - h**4, temperature=0.3),
    "cap": lambda: LossBasedWeighter("upper", 0.2, max_weight=1.1),
    "quantile": lambda: LossBasedWeighter("upper", 0.2, max_weight=("quantile", 0.6)),
    "dataset": lambda: IndexWeighter(WEIGHTS),
    "batch": lambda: IndexWeighter(WEIGHTS, normalize="batch"),
    "none": lambda: IndexWeighter(WEIGHTS, normalize="none"),
    "deferred": lambda: IndexWeighter(WEIGHTS, normalize="deferred"),
    "product": lambda: IndexWeighter(WEIGHTS) * LossBasedWeighter(),
    "row": lambda: LossBasedWeighter(temperature=0.3, aggregate="row"),
    "by size": lambda: IndexWeighter(WEIGHTS, normalize="batch", aggregate="token"),
    "token": lambda: LossBasedWeighter(temperature=0.3, unit="token"),
}
SEQUENCES = ("row", "by size", "token")
MASKS = ("all", "padded", "nothing on rank 1")


def model():
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.Tanh(), torch.nn.Linear(4, 5))


def data(name, masking):
    """Inputs, targets, indices and mask of the global batch."""
    generator = torch.Generator().manual_seed(1)
    x = 3 * torch.randn(N_ROWS, 3, generator=generator)
    y = torch.randn(N_ROWS, 5, generator=generator)
    shape = (N_ROWS, 5) if name in SEQUENCES else (N_ROWS,)
    mask = torch.ones(shape, dtype=torch.bool)
    if masking == "padded":
        mask = torch.rand(shape, generator=generator) < 0.7
    elif masking == "nothing on rank 1":
        mask[ROWS[1]] = False
    return x, y, torch.arange(N_ROWS), mask


def gradient(name, masking, rows, wrap=lambda net: net):
    """Gradient, and weights, that a process sees for its rows of the batch."""
    x, y, index, mask = (part[rows] for part in data(name, masking))
    net, weigh = wrap(model()), WEIGHTERS[name]()
    loss = (net(x) - y) ** 2
    loss = loss if name in SEQUENCES else loss.mean(1)
    context = {"index": index, "mask": None if masking == "all" else mask}
    weights = weigh.weights(loss, **context)
    weigh(loss, **context).backward()
    weigh.finish_step(net.parameters())
    return torch.cat([p.grad.flatten() for p in net.parameters()]), weights


def accumulated(rows, wrap=lambda net: net):
    """Gradient of three deferred micro-batches of the rows of a process."""
    x, y, index, _ = (part[rows] for part in data("deferred", "all"))
    net, weigh = wrap(model()), WEIGHTERS["deferred"]()
    for part in torch.arange(len(x)).tensor_split(3):
        weigh(((net(x[part]) - y[part]) ** 2).mean(1), index=index[part]).backward()
    weigh.finish_step(net.parameters())
    return torch.cat([p.grad.flatten() for p in net.parameters()])


def main(rank, folder):
    folder.mkdir(exist_ok=True)
    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo", init_method=f"file://{folder / 'meeting'}", rank=rank, world_size=2
    )
    results = {
        (name, masking): gradient(name, masking, ROWS[rank], DistributedDataParallel)
        for name in WEIGHTERS
        for masking in MASKS
    }
    results["accumulated"] = accumulated(ROWS[rank], DistributedDataParallel)
    results["draws"] = list(ImportanceSampler(WEIGHTS, 20))
    evaluation = WEIGHTERS["loss"]().eval()
    if rank == 0:
        results["evaluation"] = evaluation(torch.tensor([1.0, 3.0]))
    torch.save(results, folder / f"{rank}.pt")
    dist.destroy_process_group()

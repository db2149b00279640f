"""Models called with other parameters, and passes that share their randomness."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.parallel import DistributedDataParallel

from reweight.torch._reduction import check_losses, n_processes


def bare(model: nn.Module) -> nn.Module:
    """The model inside DistributedDataParallel, whose hooks belong to the training pass.

    Parameters
    ----------
    model : Module
        Model in training.

    Returns
    -------
    Module
    """
    return model.module if isinstance(model, DistributedDataParallel) else model


class FunctionalCopy:
    """A model with other parameters; its own parameters, buffers and mode stay as they are.

    Parameters
    ----------
    model : Module
        The model.
    params : dict of str to Tensor
        Parameters to use instead of its own, by name.
    """

    def __init__(self, model: nn.Module, params: Mapping[str, Tensor]) -> None:
        self.model = bare(model)
        self.params = dict(params)
        # A pass in training mode moves running statistics in place.
        self.buffers = {name: buffer.clone() for name, buffer in self.model.named_buffers()}

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return functional_call(self.model, {**self.params, **self.buffers}, args, kwargs)


@contextmanager
def same_randomness(model: nn.Module) -> Iterator[None]:
    """Leave the random state as it was, so that the next pass draws the same dropout masks.

    Parameters
    ----------
    model : Module
        Model whose devices are meant.

    Yields
    ------
    None
    """
    devices = {p.device.index for p in model.parameters() if p.device.type == "cuda"}
    with torch.random.fork_rng(devices=sorted(devices)):
        yield


def row_losses(owner: str, losses: Tensor) -> Tensor:
    """Mean loss of each row, at least single precision.

    Parameters
    ----------
    owner : str
        Name of the class for messages.
    losses : Tensor of shape (n_rows, ...)
        What ``per_item_loss`` returned.

    Returns
    -------
    Tensor of shape (n_rows,)
    """
    losses = check_losses(owner, losses)
    return losses if losses.dim() == 1 else losses.flatten(1).mean(1)


def check_params(owner: str, params: Any) -> str | tuple[str, ...] | None:
    """A choice of parameters: "head", names, or None.

    Parameters
    ----------
    owner : str
        Name of the class for messages.
    params : {"head"}, iterable of str or None
        The choice.

    Returns
    -------
    "head", tuple of str or None

    Raises
    ------
    ValueError
        If it is something else.
    """
    if params is None or params == "head":
        return params
    names = () if isinstance(params, str) else tuple(params)
    if not names or not all(isinstance(name, str) for name in names):
        raise ValueError(f"{owner}: params={params!r}; pass 'head', names of parameters, or None")
    return names


def chosen_params(
    owner: str, model: nn.Module, params: str | Iterable[str] | None
) -> dict[str, Tensor]:
    """The parameters that derivatives are taken by, detached.

    Parameters
    ----------
    owner : str
        Name of the class for messages.
    model : Module
        The model.
    params : {"head"}, iterable of str or None
        The last linear layer, parameters by name, or all that are trained.

    Returns
    -------
    dict of str to Tensor

    Raises
    ------
    ValueError
        If nothing is left, or a name is unknown.
    """
    model = bare(model)
    own = {name: p.detach() for name, p in model.named_parameters() if p.requires_grad}
    if params is None:
        chosen = own
    elif params == "head":
        prefix = last_linear(owner, model)[0]
        chosen = {k: p for k, p in own.items() if k.rpartition(".")[0] == prefix}
    else:
        unknown = [name for name in params if name not in own]
        if unknown:
            raise ValueError(
                f"{owner}: params names {unknown[0]!r}, which is no trained parameter of the "
                "model; pass names from model.named_parameters()"
            )
        chosen = {name: own[name] for name in params}
    if not chosen:
        raise ValueError(f"{owner}: no chosen parameter of the model requires a gradient")
    return chosen


def last_linear(owner: str, model: nn.Module) -> tuple[str, nn.Linear]:
    """The last linear layer of a model, with its name.

    Parameters
    ----------
    owner : str
        Name of the class for messages.
    model : Module
        The model.

    Returns
    -------
    name : str
    module : Linear

    Raises
    ------
    ValueError
        If there is none.
    """
    layers = [(k, m) for k, m in bare(model).named_modules() if isinstance(m, nn.Linear)]
    if not layers:
        raise ValueError(f"{owner}: the model has no linear layer to be its head; name parameters")
    return layers[-1]


def loss_gradient(
    owner: str,
    model: nn.Module,
    per_item_loss: Callable,
    batch: Any,
    params: Mapping[str, Tensor],
    weigh: Callable[[Tensor], Tensor] | None = None,
) -> tuple[dict[str, Tensor], Tensor]:
    """Gradient of the summed, possibly weighted loss of a batch, and its losses.

    Parameters
    ----------
    owner : str
        Name of the class for messages.
    model : Module
        The model.
    per_item_loss : callable
        ``per_item_loss(call, batch)`` returns losses.
    batch : object
        Batch.
    params : dict of str to Tensor
        Where to take the gradient.
    weigh : callable, default=None
        Detached losses to weights; None weighs alike.

    Returns
    -------
    gradient : dict of str to Tensor
    losses : Tensor of shape (n_rows,)
        Detached.
    """
    leaves = {name: p.detach().requires_grad_() for name, p in params.items()}
    with torch.enable_grad(), same_randomness(model):
        losses = row_losses(owner, per_item_loss(FunctionalCopy(model, leaves), batch))
        total = (losses if weigh is None else weigh(losses.detach()) * losses).sum()
    found = torch.autograd.grad(total, list(leaves.values()), allow_unused=True)
    filled = [
        torch.zeros_like(p) if g is None else g for g, p in zip(found, leaves.values(), strict=True)
    ]
    return dict(zip(leaves, filled, strict=True)), losses.detach()


def losses_at(
    model: nn.Module, per_item_loss: Callable, batch: Any
) -> Callable[[dict[str, Tensor]], Tensor]:
    """The losses of a batch as a function of parameters, each time with the same dropout masks.

    Parameters
    ----------
    model : Module
        The model.
    per_item_loss : callable
        ``per_item_loss(call, batch)`` returns losses.
    batch : object
        Batch.

    Returns
    -------
    callable
    """

    def losses(params: dict[str, Tensor]) -> Tensor:
        with same_randomness(model):
            return per_item_loss(FunctionalCopy(model, params), batch)

    return losses


def sum_over_processes(tensors: Mapping[str, Tensor], group: Any) -> dict[str, Tensor]:
    """Elementwise sums over all processes.

    Parameters
    ----------
    tensors : dict of str to Tensor
        Tensors of this process.
    group : torch.distributed.ProcessGroup or None
        The processes; None means all.

    Returns
    -------
    dict of str to Tensor
    """
    if n_processes(group) == 1:
        return dict(tensors)
    summed = {name: tensor.clone() for name, tensor in tensors.items()}
    for tensor in summed.values():
        dist.all_reduce(tensor, dist.ReduceOp.SUM, group)
    return summed

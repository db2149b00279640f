"""How the validation loss after one step depends on the weights of the step."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from reweight.torch._functional import (
    bare,
    loss_gradient,
    losses_at,
    sum_over_processes,
)
from reweight.torch._reduction import global_totals, n_processes
from reweight.torch.gradient_alignment import alignment

INNER = ("sgd", "adam")


@dataclass(frozen=True, eq=False)
class Slopes:
    """Derivatives of the mean validation loss after a step, by the weights of the step.

    Parameters
    ----------
    slopes : Tensor of shape (n_rows,)
        Derivatives by the weight of each row of this process.
    losses : Tensor of shape (n_rows,)
        Losses before the step.
    n_rows : Tensor of shape () or int
        Rows over all processes.
    """

    slopes: Tensor
    losses: Tensor
    n_rows: Tensor | int


def validation_slopes(
    owner: str,
    model: nn.Module,
    per_item_loss: Callable,
    batch: Any,
    val_batch: Any,
    weigh: Callable[[Tensor], Tensor],
    params: Mapping[str, Tensor],
    rates: Mapping[str, Tensor | float],
    *,
    method: str,
    group: Any,
) -> Slopes:
    """Exact derivatives through one step theta' = theta - rate * mean_i w_i g_i.

    As theta' is affine in the weights, the derivative by w_i is minus the inner
    product of the row's gradient with the rated gradient of the validation loss
    at theta', over the number of rows.

    Parameters
    ----------
    owner : str
        Name of the class for messages.
    model : Module
        The model.
    per_item_loss : callable
        ``per_item_loss(call, batch)`` returns losses.
    batch, val_batch : object
        Batch of the step, and batch to validate on.
    weigh : callable
        Detached losses to weights of the step.
    params : dict of str to Tensor
        Parameters that the step moves.
    rates : dict of str to Tensor or float
        Step size of each.
    method : {"auto", "jvp", "fd"}
        As in `alignment`.
    group : torch.distributed.ProcessGroup or None
        Processes that share the batch.

    Returns
    -------
    Slopes
    """
    gradient, losses = loss_gradient(owner, model, per_item_loss, batch, params, weigh)
    _, n_rows = global_totals(losses.sum(), losses.numel(), group)
    gradient = sum_over_processes(gradient, group)
    ahead = {name: p - rates[name] * gradient[name] / n_rows for name, p in params.items()}
    v, val_losses = loss_gradient(owner, model, per_item_loss, val_batch, ahead)
    v = sum_over_processes(v, group)
    _, n_val = global_totals(val_losses.sum(), val_losses.numel(), group)
    direction = {name: rates[name] * g / n_val for name, g in v.items()}
    inner = alignment(losses_at(model, per_item_loss, batch), params, direction, method=method)
    return Slopes(-inner / n_rows, losses, n_rows)


def step_rates(
    owner: str, model: nn.Module, params: Mapping[str, Tensor], lr: Any, inner: str
) -> dict[str, Tensor | float] | None:
    """Step size of each parameter in the look-ahead.

    Parameters
    ----------
    owner : str
        Name of the class for messages.
    model : Module
        The model.
    params : dict of str to Tensor
        Parameters that the step moves.
    lr : float or Optimizer
        Step size, or the optimiser in training.
    inner : {"sgd", "adam"}
        Plain step, or one with the optimiser's frozen second moments.

    Returns
    -------
    dict of str to Tensor or float, or None
        None while Adam has not taken its first step.

    Raises
    ------
    ValueError
        If the optimiser does not train the parameters, or is no Adam.
    """
    if not isinstance(lr, torch.optim.Optimizer):
        return dict.fromkeys(params, lr)
    groups = {id(p): group for group in lr.param_groups for p in group["params"]}
    own = dict(bare(model).named_parameters())
    rates: dict[str, Tensor | float] = {}
    for name in params:
        group = groups.get(id(own[name]))
        if group is None:
            raise ValueError(
                f"{owner}: the optimiser given as lr does not train the parameter {name!r}; pass "
                "the optimiser of this model, or name its parameters by params="
            )
        rates[name] = group["lr"]
        if inner == "adam":
            state = lr.state.get(own[name])
            if not state:
                return None
            if "exp_avg_sq" not in state:
                raise ValueError(
                    f"{owner}: inner='adam' needs an optimiser with second moments but lr is "
                    f"{type(lr).__name__}; pass Adam, or inner='sgd'"
                )
            correction = 1.0 - group["betas"][1] ** float(state["step"])
            root = (state["exp_avg_sq"] / correction).sqrt()
            rates[name] = group["lr"] / (root + group["eps"])
    return rates


def check_rate(owner: str, lr: Any, inner: str) -> None:
    """Refuse a step size that is neither positive nor an optimiser.

    Parameters
    ----------
    owner : str
        Name of the class for messages.
    lr : float or Optimizer
        Step size.
    inner : {"sgd", "adam"}
        Kind of the step.

    Raises
    ------
    ValueError
        If `lr` or `inner` does not fit.
    """
    if inner not in INNER:
        raise ValueError(f"{owner}: inner={inner!r}; choose one of {list(INNER)}")
    if isinstance(lr, torch.optim.Optimizer):
        return
    if not (isinstance(lr, int | float) and 0 < lr < float("inf")):
        raise ValueError(f"{owner}: lr={lr!r}; pass a positive step size or the optimiser")
    if inner == "adam":
        raise ValueError(f"{owner}: inner='adam' with lr={lr}; pass the Adam optimiser as lr")


def step_net(
    net: nn.Module, optimizer: torch.optim.Optimizer, surrogate: Tensor, group: Any
) -> None:
    """One step of the optimiser of a net, on the sum of the surrogates of all processes.

    Parameters
    ----------
    net : Module
        The net.
    optimizer : Optimizer
        Its optimiser.
    surrogate : Tensor of shape ()
        What has the wanted gradient.
    group : torch.distributed.ProcessGroup or None
        The processes.
    """
    optimizer.zero_grad()
    surrogate.backward()
    if n_processes(group) > 1:
        trained = {k: p.grad for k, p in net.named_parameters() if p.grad is not None}
        for name, total in sum_over_processes(trained, group).items():
            trained[name].copy_(total)
    optimizer.step()
    optimizer.zero_grad()

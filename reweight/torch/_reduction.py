"""Arithmetic of reducing losses: items, masks, sums over processes."""

import math
import warnings
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from reweight.exceptions import WeightWarning


def check_losses(owner: str, loss: Tensor) -> Tensor:
    """Losses by item in at least single precision.

    Parameters
    ----------
    owner : str
        Name of the class for messages.
    loss : Tensor of shape (n_rows, ...)
        Losses.

    Returns
    -------
    Tensor

    Raises
    ------
    ValueError
        If there is no item dimension.
    TypeError
        If the losses are no tensor or not floating point.
    """
    if not isinstance(loss, Tensor):
        raise TypeError(f"{owner}: the loss is a {type(loss).__name__}; pass a tensor of losses")
    if loss.dim() == 0:
        raise ValueError(
            f"{owner}: the loss has no item dimension; it needs per-item losses, use "
            "reduction='none'"
        )
    if not loss.is_floating_point():
        raise TypeError(f"{owner}: the loss has dtype {loss.dtype}; it needs floating-point losses")
    return loss.float() if loss.dtype in (torch.float16, torch.bfloat16) else loss


def check_max_weight(owner: str, cap: Any) -> None:
    """Refuse a cap that is no positive number and no quantile.

    Parameters
    ----------
    owner : str
        Name of the class for messages.
    cap : float, ("quantile", float) or None
        Cap on weights.

    Raises
    ------
    ValueError
        If it is something else.
    """
    if isinstance(cap, tuple):
        fits = len(cap) == 2 and cap[0] == "quantile" and 0 < cap[1] <= 1
    else:
        fits = cap is None or (isinstance(cap, int | float) and 0 < cap < math.inf)
    if not fits:
        raise ValueError(
            f"{owner}: max_weight={cap!r}; pass a positive number, ('quantile', q) with "
            "0 < q <= 1, or None"
        )


def mask_like(owner: str, mask: Tensor, loss: Tensor) -> Tensor:
    """A mask as bool in the shape of the losses; dimensions that it lacks are trailing ones.

    Parameters
    ----------
    owner : str
        Name of the class for messages.
    mask : Tensor
        Non-zero where active.
    loss : Tensor
        Losses.

    Returns
    -------
    Tensor of bool

    Raises
    ------
    TypeError
        If the mask is no tensor.
    ValueError
        If the shapes do not fit.
    """
    if not isinstance(mask, Tensor):
        raise TypeError(f"{owner}: the mask is a {type(mask).__name__}; pass a tensor of bool")
    if mask.shape == loss.shape:
        return mask if mask.dtype == torch.bool else mask != 0
    missing = loss.dim() - mask.dim()
    shape = tuple(mask.shape) + (1,) * missing
    if missing < 0 or any(m not in (1, n) for m, n in zip(shape, loss.shape, strict=True)):
        raise ValueError(
            f"{owner}: mask has shape {tuple(mask.shape)}, the losses have shape "
            f"{tuple(loss.shape)}; pass a mask of that shape or of its leading dimensions"
        )
    mask = mask if mask.dtype == torch.bool else mask != 0
    return mask.reshape(shape).expand(loss.shape)


def finite_mask(owner: str, loss: Tensor, mask: Tensor | None, reaction: str) -> Tensor | None:
    """The mask without NaN and infinite losses, after saying how many there are.

    Parameters
    ----------
    owner : str
        Name of the class for messages.
    loss : Tensor
        Losses.
    mask : Tensor of bool or None
        Active items, in the shape of the losses.
    reaction : {"raise", "warn"}
        What to do when there are some.

    Returns
    -------
    Tensor of bool or None

    Raises
    ------
    ValueError
        If there are some and `reaction` is "raise".
    """
    bad = ~torch.isfinite(loss.detach())
    if mask is not None:
        bad &= mask
    n_bad = int(bad.sum())
    if not n_bad:
        return mask
    found = f"{owner}: {n_bad} of {loss.numel()} losses are NaN or infinite"
    if reaction == "raise":
        raise ValueError(f"{found}; lower the learning rate or pass on_nonfinite='warn'")
    warnings.warn(f"{found}; they are left out of this step", WeightWarning, stacklevel=5)
    return ~bad if mask is None else mask & ~bad


def row_means(
    loss: Tensor, mask: Tensor | None, *, by_size: bool
) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """Mean loss of each row over its active tokens.

    Parameters
    ----------
    loss : Tensor of shape (n_rows, n_tokens)
        Losses, zero where masked.
    mask : Tensor of bool of shape (n_rows, n_tokens) or None
        Active tokens.
    by_size : bool
        Whether rows count by their number of active tokens.

    Returns
    -------
    means : Tensor of shape (n_rows,)
    active : Tensor of bool of shape (n_rows,) or None
        Rows with an active token; None if all have one.
    sizes : Tensor of shape (n_rows,) or None
        Numbers of active tokens; None if rows count alike.
    """
    if mask is None:
        sizes = loss.new_full((loss.shape[0],), loss.shape[1]) if by_size else None
        return loss.mean(1), None, sizes
    counts = mask.sum(1)
    means = loss.sum(1) / counts.clamp_min(1)
    return means, counts > 0, counts.to(loss.dtype) if by_size else None


def plain_mean(items: Tensor, active: Tensor | None, sizes: Tensor | None) -> Tensor:
    """Mean over the active items of this process; zero if there are none.

    Parameters
    ----------
    items : Tensor
        Losses, zero where masked.
    active : Tensor of bool or None
        Active items.
    sizes : Tensor or None
        What each item counts with.

    Returns
    -------
    Tensor of shape ()
    """
    if sizes is not None:
        return (items * sizes).sum() / sizes.sum().clamp_min(1)
    if active is None:
        return items.sum() / max(items.numel(), 1)
    return items.sum() / active.sum().clamp_min(1)


def spread_over(owner: str, weights: Tensor, losses: Tensor) -> Tensor:
    """Weights of leading dimensions, repeated over the trailing ones of the losses.

    Parameters
    ----------
    owner : str
        Name of the class for messages.
    weights : Tensor
        Weights.
    losses : Tensor
        Losses.

    Returns
    -------
    Tensor in the shape of `losses`

    Raises
    ------
    ValueError
        If the weights do not have the leading dimensions of the losses.
    """
    if weights.shape != losses.shape[: weights.dim()]:
        raise ValueError(
            f"{owner}: raw weights have shape {tuple(weights.shape)} but there are losses of shape "
            f"{tuple(losses.shape)}; pass context with one entry per item"
        )
    missing = losses.dim() - weights.dim()
    return weights.reshape(weights.shape + (1,) * missing).expand(losses.shape)


def positive(total: Tensor) -> Tensor:
    """A sum of weights to divide by: if it is zero, so is all that is divided.

    Parameters
    ----------
    total : Tensor
        Sum of non-negative weights.

    Returns
    -------
    Tensor
    """
    return total.clamp_min(torch.finfo(total.dtype).tiny)


def weight_figures(
    weights: Tensor, total: Tensor, count: Tensor | int, active: Tensor | None
) -> dict[str, Tensor]:
    """Figures of the weights of one process.

    Parameters
    ----------
    weights : Tensor
        Raw weights, zero where masked.
    total : Tensor of shape ()
        Sum of the weights of the global batch, by size.
    count : Tensor of shape () or int
        Number of its items, by size.
    active : Tensor of bool or None
        Active items.

    Returns
    -------
    dict of str to Tensor
        `ess_fraction`; `max` and `min` on the mean-one scale; `sum` of the raw
        weights. All are zero if there is no item.
    """
    if not weights.numel():
        return dict.fromkeys(("ess_fraction", "max", "min", "sum"), weights.sum())
    mean_one = weights / positive(total) * count
    lowest = mean_one if active is None else torch.where(active, mean_one, math.inf)
    local = weights.sum()
    n_active = weights.numel() if active is None else active.sum()
    return {
        "ess_fraction": local**2 / positive((weights**2).sum() * n_active),
        "max": mean_one.max(),
        "min": lowest.min(),
        "sum": local,
    }


def n_processes(group: Any) -> int:
    """Number of processes that share a batch.

    Parameters
    ----------
    group : torch.distributed.ProcessGroup or None
        The processes; None means all.

    Returns
    -------
    int
        One without `torch.distributed`.
    """
    if dist.is_available() and dist.is_initialized():
        return dist.get_world_size(group)
    return 1


def gather_padded(values: Tensor, group: Any) -> Tensor:
    """Values of all processes, whose numbers may differ, padded by infinity.

    Parameters
    ----------
    values : Tensor of shape (n_values,)
        Values of this process.
    group : torch.distributed.ProcessGroup or None
        The processes.

    Returns
    -------
    Tensor of shape (n_processes * largest n_values,)
    """
    longest = torch.tensor(values.numel(), device=values.device)
    dist.all_reduce(longest, dist.ReduceOp.MAX, group)
    padded = values.new_full((int(longest),), math.inf)
    padded[: values.numel()] = values
    parts = [torch.empty_like(padded) for _ in range(n_processes(group))]
    dist.all_gather(parts, padded, group)
    return torch.cat(parts)


def padded_quantile(values: Tensor, share: float, count: Tensor | int, group: Any) -> Tensor:
    """Lower quantile of the values of all processes, those that do not count being infinite.

    Parameters
    ----------
    values : Tensor
        Values of this process.
    share : float
        Level of the quantile.
    count : Tensor of shape () or int
        Number of values that count, over all processes.
    group : torch.distributed.ProcessGroup or None
        The processes.

    Returns
    -------
    Tensor of shape ()
    """
    values = values.reshape(-1)
    if n_processes(group) > 1:
        values = gather_padded(values, group)
    if not values.numel():
        return values.new_tensor(math.inf)
    rank = torch.as_tensor(count - 1, device=values.device) * share
    # Indexing by a 0-dimensional tensor would wait for the device.
    return values.sort().values.gather(0, rank.floor().long().reshape(1)).squeeze(0)


def global_totals(total: Tensor, count: Tensor | int, group: Any) -> tuple[Tensor, Tensor | int]:
    """Sum of weights and number of items over all processes, in one collective.

    Parameters
    ----------
    total : Tensor of shape ()
        Sum of the weights of this process.
    count : Tensor of shape () or int
        Number of its items.
    group : torch.distributed.ProcessGroup or None
        The processes.

    Returns
    -------
    total : Tensor of shape ()
    count : Tensor of shape () or int
        At least one.
    """
    if n_processes(group) > 1:
        pair = torch.stack([total, torch.as_tensor(count, dtype=total.dtype).to(total.device)])
        dist.all_reduce(pair, dist.ReduceOp.SUM, group)
        total, count = pair[0], pair[1]
    return total, max(count, 1) if isinstance(count, int) else count.clamp_min(1)

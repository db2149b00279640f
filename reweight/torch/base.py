"""The reducer of per-item losses that every loss weighter is, and products of them."""

import math
import warnings
from collections.abc import Callable, Iterable
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from reweight.exceptions import WeightWarning
from reweight.torch.schedule import Anneal, Schedule, check_schedule

NORMALIZE = ("none", "batch", "dataset", "deferred")
UNITS = ("row", "token")
REACTIONS = ("raise", "warn", "ignore")
# Up to this size one BLAS call beats a product and a sum; beyond, pairwise summation is more exact.
LARGEST_DOT = 65536


class LossWeighter(nn.Module):
    """Base class of modules that reduce per-item losses to one weighted loss.

    A weighter takes the place of ``loss.mean()``. A subclass overrides one
    method, `raw_weights`, which returns non-negative weights on any scale; the
    base class detaches, masks, warms up, caps and normalises them over the
    whole batch, also when it is spread over processes or over time.

    Parameters
    ----------
    normalize : {"batch", "dataset", "deferred", "none"}, default="batch"
        What the weighted sum of losses is divided by: the sum of the weights
        of the global batch; the number of items times the mean weight of the
        training set (unbiased for importance weights, needs a subclass that
        knows that mean); nothing until `finish_step` divides the gradients by
        the sum of the weights of all accumulated batches; or the number of
        items.
    warmup_steps : int, default=0
        Number of training steps during which all weights are one.
    max_weight : float or ("quantile", float), default=None
        Cap on the weights before they are normalised: a multiple of their mean
        (of the training set under ``normalize="dataset"``; an absolute cap
        under ``normalize="none"``), or their quantile in the global batch.
    unit : {"row", "token"}, default="row"
        What has a weight when losses have more than one dimension: each entry
        of the first, from its mean loss, or each loss.
    aggregate : {"row", "token"}, default="row"
        Whether rows of losses count alike or by their number of active tokens.
    on_nonfinite : {"ignore", "warn", "raise"}, default="ignore"
        Reaction to NaN or infinite losses of active items: let them through,
        leave those items out and say how many, or raise. All but "ignore" wait
        for the device.
    process_group : torch.distributed.ProcessGroup, default=None
        Processes among which a batch is spread; None means all.

    Attributes
    ----------
    step : Tensor of shape ()
        Training steps taken, a buffer.
    last_ : dict of str to Tensor
        Figures of the latest weights.

    Notes
    -----
    Statistics and result are float32, or float64 for float64 losses. Under
    DistributedDataParallel, which averages gradients, the returned loss of each
    process carries the factor that makes the averaged gradient that of the
    global batch, also for unequal local batches. In evaluation mode the module
    is the plain mean over the active items of its own process and changes no
    state. A batch whose weights are all zero gives a zero loss with a graph.

    The step counter counts calls; with gradient accumulation or a schedule in
    optimiser steps, say so by `set_step`.

    Examples
    --------
    >>> import torch
    >>> from reweight.torch import LossWeighter
    >>> class HardHalf(LossWeighter):
    ...     def raw_weights(self, loss, *, mask=None, **context):
    ...         return (loss >= loss.median()).to(loss.dtype)
    >>> weigh = HardHalf()
    >>> weigh(torch.tensor([1.0, 2.0, 3.0]))
    tensor(2.5000)
    >>> weigh.weights(torch.tensor([1.0, 2.0, 3.0]))
    tensor([0.0000, 1.5000, 1.5000])
    """

    step: Tensor
    accumulated: Tensor

    def __init__(
        self,
        *,
        normalize: str = "batch",
        warmup_steps: int = 0,
        max_weight: float | tuple[str, float] | None = None,
        unit: str = "row",
        aggregate: str = "row",
        on_nonfinite: str = "ignore",
        process_group: Any = None,
    ) -> None:
        super().__init__()
        self._check_choice("normalize", normalize, NORMALIZE)
        self._check_choice("unit", unit, UNITS)
        self._check_choice("aggregate", aggregate, UNITS)
        self._check_choice("on_nonfinite", on_nonfinite, REACTIONS)
        if not (isinstance(warmup_steps, int) and warmup_steps >= 0):
            raise ValueError(
                f"{self._name()}: warmup_steps={warmup_steps!r}; pass a whole number of steps >= 0"
            )
        self._check_max_weight(max_weight)
        self.normalize = normalize
        self.warmup_steps = warmup_steps
        self.max_weight = max_weight
        self.unit = unit
        self.aggregate = aggregate
        self.on_nonfinite = on_nonfinite
        self.process_group = process_group
        self.register_buffer("step", torch.zeros((), dtype=torch.int64))
        self.register_buffer("accumulated", torch.zeros(()))
        self._schedules: dict[str, Schedule] = {}
        self._schedule_bounds: dict[str, tuple[float, bool]] = {}
        self._externally_stepped = False
        # The counter on the host, which spares eager code the wait for the buffer; None if unknown.
        self._host_step: int | None = 0
        self._last: tuple | None = None

    # What subclasses override

    def raw_weights(
        self,
        loss: Tensor,
        *,
        index: Tensor | None = None,
        target: Tensor | None = None,
        logits: Tensor | None = None,
        features: Tensor | None = None,
        mask: Tensor | None = None,
    ) -> Tensor:
        """Non-negative weights on any scale; the method that subclasses override.

        Called under ``torch.no_grad()``. A subclass takes the context that it
        needs by name and the rest as ``**context``.

        Parameters
        ----------
        loss : Tensor of shape (n_items,) or that of the losses
            Detached losses, one per weighted item, at least float32; zero
            where `mask` is False.
        index, target, logits, features : Tensor, default=None
            Context as passed to the call.
        mask : Tensor of bool, default=None
            Active items, in the shape of `loss`; None if all are.

        Returns
        -------
        Tensor
            Weights in the shape of `loss`, or with its leading dimensions.
        """
        raise NotImplementedError(f"{self._name()} must define raw_weights(loss, **context)")

    def dataset_mean(self) -> Tensor | float:
        """Mean raw weight of the training set, what ``normalize="dataset"`` divides by.

        Returns
        -------
        float or Tensor of shape ()
        """
        raise NotImplementedError(
            f"{self._name()}: normalize='dataset' needs the mean weight of the training set, which "
            "this weighter does not know; use normalize='batch'"
        )

    def observe(self, model: nn.Module, per_item_loss: Callable, batch: Any) -> None:
        """Look at the model before the loss of a batch is taken; most weighters need not.

        Parameters
        ----------
        model : Module
            The model in training.
        per_item_loss : callable
            ``per_item_loss(call, batch)`` returns the losses of the batch, where
            `call` is the model or a functional copy of it.
        batch : object
            The batch that the next call will weight.
        """

    # What users call

    def forward(
        self,
        loss: Tensor,
        *,
        mask: Tensor | None = None,
        index: Tensor | None = None,
        target: Tensor | None = None,
        logits: Tensor | None = None,
        features: Tensor | None = None,
    ) -> Tensor:
        """Weighted loss of a batch.

        Parameters
        ----------
        loss : Tensor of shape (n_rows, ...)
            Losses by item (``reduction="none"``).
        mask : Tensor, default=None
            Non-zero where an item counts, in the shape of `loss` or of its
            leading dimensions. What is masked enters no statistic.
        index : Tensor of shape (n_rows,), default=None
            Position of each row in the training set.
        target, logits, features : Tensor, default=None
            Labels, model outputs and features, for weighters that use them.

        Returns
        -------
        Tensor of shape ()
            The loss to call ``backward()`` on.

        Raises
        ------
        ValueError
            If `loss` has no item dimension or its context does not fit.
        TypeError
            If `loss` is not floating point.
        """
        items, active, sizes = self._items(loss, mask)
        if not self.training:
            return self._mean(items, active, sizes)
        context = {"index": index, "target": target, "logits": logits, "features": features}
        with torch.no_grad():
            weights = self._prepared(items.detach(), active, context)
            shares = weights if sizes is None else weights * sizes
            total, count = self._totals(shares, active, sizes)
            factor = self._divided(shares, total, count)
        self._last = (weights, total, count, active)
        self._advance()
        if items.numel() > LARGEST_DOT:
            return (factor * items).sum()
        if items.dim() > 1:
            return torch.dot(factor.reshape(-1), items.reshape(-1))
        return torch.dot(factor, items)

    @torch.no_grad()
    def weights(
        self,
        loss: Tensor,
        *,
        mask: Tensor | None = None,
        index: Tensor | None = None,
        target: Tensor | None = None,
        logits: Tensor | None = None,
        features: Tensor | None = None,
    ) -> Tensor:
        """Weights that a call would use, after warm-up and cap; changes no state.

        In a distributed run it must be called by all processes.

        Parameters
        ----------
        loss : Tensor of shape (n_rows, ...)
            Losses by item.
        mask, index, target, logits, features : Tensor, default=None
            As in `forward`.

        Returns
        -------
        Tensor of shape (n_rows,) or that of `loss`
            With mean one over the active items of the global batch under
            ``normalize="batch"``, of the training set under "dataset", and raw
            otherwise; zero for masked items.
        """
        items, active, sizes = self._items(loss.detach(), mask)
        context = {"index": index, "target": target, "logits": logits, "features": features}
        weights = self._prepared(items, active, context)
        if self.normalize == "batch":
            shares = weights if sizes is None else weights * sizes
            total, count = self._totals(shares, active, sizes)
            return weights * (count / _positive(total))
        if self.normalize == "dataset":
            return weights / self.dataset_mean()
        return weights

    @torch.no_grad()
    def finish_step(self, params: Iterable[nn.Parameter]) -> None:
        """Divide accumulated gradients by the sum of their weights, for ``normalize="deferred"``.

        Call it after ``scaler.unscale_`` and before gradients are clipped. With
        another `normalize` it does nothing, so that one loop serves all.

        Parameters
        ----------
        params : iterable of Parameter
            Parameters that the optimiser is about to change.
        """
        if self.normalize != "deferred":
            return
        total = _positive(self.accumulated)
        for parameter in params:
            if parameter.grad is not None:
                parameter.grad.div_(total.to(parameter.grad.device))
        self.accumulated.zero_()

    def set_step(self, step: int) -> None:
        """Set the step counter, and with it warm-up and schedules.

        Parameters
        ----------
        step : int
            Number of steps already taken.
        """
        self.step.fill_(step)
        self._host_step = int(step)
        self._externally_stepped = True
        for name, value in self._schedules.items():
            if callable(value):
                self._buffers[f"_{name}"].fill_(self._evaluate(name))

    @property
    def last_(self) -> dict[str, Tensor]:
        """Figures of the latest call on this process: `ess_fraction`, `max`, `min`, `sum`.

        The largest and smallest weight have the mean-one scale of the global
        batch, `sum` is that of the raw weights. All are 0-dimensional tensors.
        """
        if self._last is None:
            raise RuntimeError(
                f"{self._name()}: last_ is read before any call in training mode; call the "
                "weighter on a batch of losses first"
            )
        weights, total, count, active = self._last
        mean_one = weights * (count / _positive(total))
        lowest = mean_one if active is None else torch.where(active, mean_one, math.inf)
        local = weights.sum()
        n_active = weights.numel() if active is None else active.sum()
        return {
            "ess_fraction": local**2 / _positive((weights**2).sum() * n_active),
            "max": mean_one.max(),
            "min": lowest.min(),
            "sum": local,
        }

    def __mul__(self, other: "LossWeighter") -> "ProductWeighter":
        if not isinstance(other, LossWeighter):
            return NotImplemented
        return ProductWeighter(self, other)

    # What subclasses may use

    def register_schedule(
        self, name: str, value: Schedule, *, low: float = 0.0, closed: bool = False
    ) -> None:
        """Declare a hyper-parameter that may be a number or a function of the step.

        Parameters
        ----------
        name : str
            Name of the hyper-parameter.
        value : float or callable
            Constant, `Anneal`, or ``callable(step) -> float``.
        low : float, default=0.0
            Lower bound of the value.
        closed : bool, default=False
            Whether the bound itself is allowed.
        """
        self._schedules[name] = check_schedule(self._name(), name, value, low=low, closed=closed)
        self._schedule_bounds[name] = (low, closed)
        if callable(value):
            self.register_buffer(f"_{name}", torch.zeros(()), persistent=False)
            self._buffers[f"_{name}"].fill_(self._evaluate(name))

    def scheduled(self, name: str) -> float | Tensor:
        """Value of a hyper-parameter at the current step, without waiting for the device.

        Parameters
        ----------
        name : str
            Name given to `register_schedule`.

        Returns
        -------
        float or Tensor of shape ()
            A tensor in compiled code.
        """
        value = self._schedules[name]
        if not callable(value):
            return value
        if not torch.compiler.is_compiling():
            return self._evaluate(name)
        if isinstance(value, Anneal):
            return value(self.step)
        if not self._externally_stepped:
            raise RuntimeError(
                f"{self._name()}: compiled code cannot call the schedule of {name}; call "
                "weigh.set_step(step) before each step, or use Anneal"
            )
        return self._buffers[f"_{name}"]

    def global_extremes(self, values: Tensor, mask: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Smallest and largest active value of the batch over all processes.

        Parameters
        ----------
        values : Tensor
            Values of this process.
        mask : Tensor of bool, default=None
            Active items, in the shape of `values`.

        Returns
        -------
        lowest : Tensor of shape ()
            Infinity if nothing is active.
        highest : Tensor of shape ()
        """
        if mask is not None:
            lowest = torch.where(mask, values, math.inf).amin()
            highest = torch.where(mask, values, -math.inf).amax()
        elif values.numel():
            lowest, highest = torch.aminmax(values)
        else:
            lowest, highest = values.new_tensor(math.inf), values.new_tensor(-math.inf)
        if self._n_processes() > 1:
            pair = torch.stack([-lowest, highest])
            dist.all_reduce(pair, dist.ReduceOp.MAX, self.process_group)
            lowest, highest = -pair[0], pair[1]
        return lowest, highest

    def global_sum(self, values: Tensor) -> Tensor:
        """Elementwise sum of a tensor over all processes.

        Parameters
        ----------
        values : Tensor
            Values of this process; their shape is the same on all.

        Returns
        -------
        Tensor
        """
        if self._n_processes() > 1:
            values = values.clone()
            dist.all_reduce(values, dist.ReduceOp.SUM, self.process_group)
        return values

    # The steps of a call

    def _items(
        self, loss: Tensor, mask: Tensor | None
    ) -> tuple[Tensor, Tensor | None, Tensor | None]:
        """Losses of the weighted items, which are active, and the size that each counts with."""
        if not isinstance(loss, Tensor) or loss.dim() == 0:
            raise ValueError(
                f"{self._name()}: the loss has no item dimension; it needs per-item losses, use "
                "reduction='none'"
            )
        if not loss.is_floating_point():
            raise TypeError(
                f"{self._name()}: the loss has dtype {loss.dtype}; it needs floating-point losses"
            )
        if loss.dtype in (torch.float16, torch.bfloat16):
            loss = loss.float()
        if mask is not None:
            mask = self._mask_like(mask, loss)
        if self.on_nonfinite != "ignore":
            mask = self._finite(loss, mask)
        if mask is not None:
            loss = torch.where(mask, loss, 0.0)
        if self.unit == "token" or loss.dim() == 1:
            return loss, mask, None
        return self._rows(loss.flatten(1), None if mask is None else mask.flatten(1))

    def _rows(
        self, loss: Tensor, mask: Tensor | None
    ) -> tuple[Tensor, Tensor | None, Tensor | None]:
        """Mean loss of each row over its active tokens."""
        if mask is None:
            by_size = self.aggregate == "token"
            sizes = loss.new_full((loss.shape[0],), loss.shape[1]) if by_size else None
            return loss.mean(1), None, sizes
        counts = mask.sum(1)
        means = loss.sum(1) / counts.clamp_min(1)
        return means, counts > 0, counts.to(loss.dtype) if self.aggregate == "token" else None

    def _mask_like(self, mask: Tensor, loss: Tensor) -> Tensor:
        """The mask as bool in the shape of the losses; missing dimensions are trailing ones."""
        missing = loss.dim() - mask.dim()
        if missing > 0:
            mask = mask.reshape(mask.shape + (1,) * missing)
        if missing < 0 or any(m not in (1, n) for m, n in zip(mask.shape, loss.shape, strict=True)):
            raise ValueError(
                f"{self._name()}: mask has shape {tuple(mask.shape)}, the losses have shape "
                f"{tuple(loss.shape)}; pass a mask of that shape or of its leading dimensions"
            )
        return (mask if mask.dtype == torch.bool else mask != 0).expand(loss.shape)

    def _finite(self, loss: Tensor, mask: Tensor | None) -> Tensor | None:
        """The mask without NaN and infinite losses, after saying how many there are."""
        bad = ~torch.isfinite(loss.detach())
        if mask is not None:
            bad &= mask
        n_bad = int(bad.sum())
        if not n_bad:
            return mask
        found = f"{self._name()}: {n_bad} of {loss.numel()} losses are NaN or infinite"
        if self.on_nonfinite == "raise":
            raise ValueError(f"{found}; lower the learning rate or pass on_nonfinite='warn'")
        warnings.warn(f"{found}; they are left out of this step", WeightWarning, stacklevel=4)
        return ~bad if mask is None else mask & ~bad

    def _prepared(self, losses: Tensor, active: Tensor | None, context: dict) -> Tensor:
        """Raw weights after warm-up and cap, zero where masked, in the shape of the losses."""
        weights = self.raw_weights(losses, mask=active, **context)
        if weights.requires_grad:
            warnings.warn(
                f"{self._name()}: raw weights carry a graph and are detached; a gradient through "
                "them would shrink the weights instead of the losses",
                WeightWarning,
                stacklevel=4,
            )
            weights = weights.detach()
        if weights.dtype != losses.dtype:
            weights = weights.to(losses.dtype)
        if weights.shape != losses.shape:
            weights = self._spread(weights, losses)
        if self.warmup_steps:
            weights = self._warmed(weights)
        if active is not None:
            weights = torch.where(active, weights, 0.0)
        return weights if self.max_weight is None else self._capped(weights, active)

    def _spread(self, weights: Tensor, losses: Tensor) -> Tensor:
        """Weights of leading dimensions, repeated over the trailing ones of the losses."""
        if weights.shape != losses.shape[: weights.dim()]:
            raise ValueError(
                f"{self._name()}: raw weights have shape {tuple(weights.shape)} but there are "
                f"losses of shape {tuple(losses.shape)}; pass context with one entry per item"
            )
        missing = losses.dim() - weights.dim()
        return weights.reshape(weights.shape + (1,) * missing).expand(losses.shape)

    def _warmed(self, weights: Tensor) -> Tensor:
        """Ones before the end of the warm-up."""
        if torch.compiler.is_compiling():
            return torch.where(self.step < self.warmup_steps, 1.0, weights)
        return torch.ones_like(weights) if self._now() < self.warmup_steps else weights

    def _capped(self, weights: Tensor, active: Tensor | None) -> Tensor:
        """Weights cut at `max_weight`."""
        if isinstance(self.max_weight, tuple):
            return torch.minimum(weights, self._global_quantile(weights, active))
        if self.normalize == "none":
            return weights.clamp_max(self.max_weight)
        if self.normalize == "dataset":
            return torch.minimum(weights, torch.as_tensor(self.max_weight * self.dataset_mean()))
        total, count = self._totals(weights, active, None)
        return torch.minimum(weights, torch.as_tensor(self.max_weight * (total / count)))

    def _global_quantile(self, weights: Tensor, active: Tensor | None) -> Tensor:
        """The lower quantile of the active weights of the global batch."""
        values = weights if active is None else torch.where(active, weights, math.inf)
        values = values.reshape(-1)
        _, count = self._totals(weights, active, None)
        if self._n_processes() > 1:
            values = self._gathered(values)
        rank = self.max_weight[1] * (torch.as_tensor(count, device=weights.device) - 1)
        return values.sort().values[rank.clamp_min(0).floor().long()]

    def _gathered(self, values: Tensor) -> Tensor:
        """Values of all processes, whose numbers differ, padded by infinity."""
        longest = torch.tensor(values.numel(), device=values.device)
        dist.all_reduce(longest, dist.ReduceOp.MAX, self.process_group)
        padded = values.new_full((int(longest),), math.inf)
        padded[: values.numel()] = values
        parts = [torch.empty_like(padded) for _ in range(self._n_processes())]
        dist.all_gather(parts, padded, self.process_group)
        return torch.cat(parts)

    def _totals(
        self, shares: Tensor, active: Tensor | None, sizes: Tensor | None
    ) -> tuple[Tensor, Tensor | int]:
        """Sum of the weights and number of items over all processes."""
        total = shares.sum()
        if sizes is not None:
            count = sizes.sum()
        else:
            count = shares.numel() if active is None else active.sum()
        if self._n_processes() > 1:
            pair = torch.stack([total, torch.as_tensor(count, dtype=total.dtype).to(total.device)])
            dist.all_reduce(pair, dist.ReduceOp.SUM, self.process_group)
            return pair[0], pair[1].clamp_min(1.0)
        return total, max(count, 1) if isinstance(count, int) else count.clamp_min(1)

    def _divided(self, shares: Tensor, total: Tensor, count: Tensor | int) -> Tensor:
        """What each loss is multiplied by on this process."""
        if self.normalize == "batch":
            divisor = _positive(total)
        elif self.normalize == "dataset":
            divisor = count * self.dataset_mean()
        elif self.normalize == "none":
            divisor = count
        else:
            self.accumulated.add_(total)
            divisor = 1
        n_processes = self._n_processes()
        return shares / (divisor if n_processes == 1 else divisor / n_processes)

    def _mean(self, items: Tensor, active: Tensor | None, sizes: Tensor | None) -> Tensor:
        """Plain mean over the active items of this process."""
        if sizes is not None:
            return (items * sizes).sum() / sizes.sum().clamp_min(1)
        if active is None:
            return items.sum() / max(items.numel(), 1)
        return items.sum() / active.sum().clamp_min(1)

    # The step counter

    def _now(self) -> int:
        """Steps taken, from the counter on the host."""
        if self._host_step is None:
            self._host_step = int(self.step)
        return self._host_step

    def _advance(self) -> None:
        """Count a training step in the buffer and, where it is known, on the host."""
        self._buffers["step"].add_(1)
        if torch.compiler.is_compiling():
            self._host_step = None
        elif self._host_step is not None:
            self._host_step += 1

    def _evaluate(self, name: str) -> float:
        low, closed = self._schedule_bounds[name]
        value = self._schedules[name](self._now())
        return check_schedule(self._name(), name, value, low=low, closed=closed)

    def _load_from_state_dict(self, *args: Any, **kwargs: Any) -> None:
        super()._load_from_state_dict(*args, **kwargs)
        self._host_step = None

    def __getstate__(self) -> dict:
        return {**self.__dict__, "_last": None}

    # Processes, checks, names

    def _n_processes(self) -> int:
        if dist.is_available() and dist.is_initialized():
            return dist.get_world_size(self.process_group)
        return 1

    def _check_choice(self, name: str, value: str, choices: tuple[str, ...]) -> None:
        if value not in choices:
            raise ValueError(f"{self._name()}: {name}={value!r}; choose one of {list(choices)}")

    def _check_max_weight(self, cap: Any) -> None:
        if cap is None:
            return
        if isinstance(cap, tuple):
            if len(cap) == 2 and cap[0] == "quantile" and 0 < cap[1] <= 1:
                return
        elif isinstance(cap, int | float) and 0 < cap < math.inf:
            return
        raise ValueError(
            f"{self._name()}: max_weight={cap!r}; pass a positive number, ('quantile', q) with "
            "0 < q <= 1, or None"
        )

    def _name(self) -> str:
        return type(self).__name__

    def extra_repr(self) -> str:
        """Settings of the base class that are not the default.

        Returns
        -------
        str
        """
        defaults = {
            "normalize": "batch",
            "warmup_steps": 0,
            "max_weight": None,
            "unit": "row",
            "aggregate": "row",
            "on_nonfinite": "ignore",
        }
        shown = {name: getattr(self, name) for name in defaults}
        set_here = [f"{k}={v!r}" for k, v in shown.items() if v != defaults[k]]
        return ", ".join([f"{k}={v!r}" for k, v in self._schedules.items()] + set_here)


class ProductWeighter(LossWeighter):
    """Product of the raw weights of several weighters, normalised once.

    What ``a * b`` makes of two weighters. Each factor keeps its own warm-up,
    schedule and cap; how the product is normalised is its own affair.

    Parameters
    ----------
    *factors : LossWeighter
        Weighters with the same `unit`, `aggregate` and `process_group`.
    normalize : {"batch", "dataset", "deferred", "none"}, default=None
        As in `LossWeighter`. None takes the first of "deferred", "batch",
        "dataset", "none" that a factor has.
    warmup_steps : int, default=0
        Steps during which the whole product is one.
    max_weight : float or ("quantile", float), default=None
        Cap on the product.
    mean : float, default=None
        Mean raw weight of the training set, which ``normalize="dataset"``
        divides by. None multiplies the means of the factors that are
        normalised by the data set, which is exact if they are uncorrelated.

    Raises
    ------
    ValueError
        If the factors disagree on their unit, aggregation or processes.

    Examples
    --------
    >>> import torch
    >>> from reweight.torch import LossBasedWeighter
    >>> focus = LossBasedWeighter("linupper") * LossBasedWeighter("extremes")
    >>> round(float(focus(torch.tensor([0.0, 1.0, 2.0]))), 4)
    1.3642
    """

    def __init__(
        self,
        *factors: LossWeighter,
        normalize: str | None = None,
        warmup_steps: int = 0,
        max_weight: float | tuple[str, float] | None = None,
        mean: float | None = None,
    ) -> None:
        if not factors or not all(isinstance(factor, LossWeighter) for factor in factors):
            raise ValueError(
                f"ProductWeighter: got {[type(factor).__name__ for factor in factors]}; pass "
                "loss weighters"
            )
        common = {}
        for name in ("unit", "aggregate", "process_group"):
            values = [getattr(factor, name) for factor in factors]
            if any(value != values[0] for value in values):
                raise ValueError(
                    f"ProductWeighter: its factors have {name} {values}; give them the same"
                )
            common[name] = values[0]
        reactions = {factor.on_nonfinite for factor in factors}
        modes = {factor.normalize for factor in factors}
        order = ("deferred", "batch", "dataset", "none")
        super().__init__(
            normalize=normalize or next(mode for mode in order if mode in modes),
            warmup_steps=warmup_steps,
            max_weight=max_weight,
            on_nonfinite=next(reaction for reaction in REACTIONS if reaction in reactions),
            **common,
        )
        self.factors = nn.ModuleList(factors)
        self.mean = mean

    def raw_weights(self, loss: Tensor, *, mask: Tensor | None = None, **context: Any) -> Tensor:
        """Product of the raw weights of the factors, each after its warm-up and cap.

        Parameters
        ----------
        loss, mask : Tensor
            As in `LossWeighter.raw_weights`.
        **context : Tensor
            Context of all factors.

        Returns
        -------
        Tensor
            Weights in the shape of `loss`.
        """
        product = None
        for factor in self.factors:
            weights = factor._prepared(loss, mask, context)
            product = weights if product is None else product * weights
        return product

    def dataset_mean(self) -> Tensor | float:
        """Mean of the product over the training set.

        Returns
        -------
        float or Tensor of shape ()
        """
        if self.mean is not None:
            return self.mean
        known = [f.dataset_mean() for f in self.factors if f.normalize == "dataset"]
        return math.prod(known) if known else super().dataset_mean()

    def observe(self, model: nn.Module, per_item_loss: Callable, batch: Any) -> None:
        """Let every factor look at the model.

        Parameters
        ----------
        model : Module
            The model in training.
        per_item_loss : callable
            As in `LossWeighter.observe`.
        batch : object
            The batch that the next call will weight.
        """
        for factor in self.factors:
            factor.observe(model, per_item_loss, batch)

    def set_step(self, step: int) -> None:
        """Set the step counter of the product and of its factors.

        Parameters
        ----------
        step : int
            Number of steps already taken.
        """
        super().set_step(step)
        for factor in self.factors:
            factor.set_step(step)

    def _advance(self) -> None:
        super()._advance()
        for factor in self.factors:
            factor._advance()


def _positive(total: Tensor) -> Tensor:
    """A sum of weights to divide by: if it is zero, so is all that is divided."""
    return total.clamp_min(torch.finfo(total.dtype).tiny)

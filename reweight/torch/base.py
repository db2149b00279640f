"""The reducer of per-item losses that every loss weighter is, and products of them."""

import math
import warnings
from collections.abc import Callable, Iterable
from inspect import signature
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from reweight.exceptions import WeightWarning
from reweight.torch._reduction import (
    check_losses,
    check_max_weight,
    finite_mask,
    global_totals,
    mask_like,
    n_processes,
    padded_quantile,
    plain_mean,
    positive,
    row_means,
    spread_over,
    weight_figures,
)
from reweight.torch._stepped import SteppedModule

NORMALIZE = ("none", "batch", "dataset", "deferred")
UNITS = ("row", "token")
REACTIONS = ("raise", "warn", "ignore")
SETTINGS = ("normalize", "warmup_steps", "max_weight", "unit", "aggregate", "on_nonfinite")
# Up to this size one BLAS call beats a product and a sum; beyond, pairwise summation is more exact.
LARGEST_DOT = 65536


class LossWeighter(SteppedModule):
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
        Whether rows of losses count alike or by their number of active tokens;
        without meaning for ``unit="token"``.
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
        check_max_weight(self._name(), max_weight)
        if normalize == "dataset" and type(self).dataset_mean is LossWeighter.dataset_mean:
            LossWeighter.dataset_mean(self)
        self.normalize = normalize
        self.warmup_steps = warmup_steps
        self.max_weight = max_weight
        self.unit = unit
        self.aggregate = aggregate
        self.on_nonfinite = on_nonfinite
        self.process_group = process_group
        self.register_buffer("accumulated", torch.zeros(()))
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
        raise ValueError(
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
            return plain_mean(items, active, sizes)
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
            otherwise; zero for masked items. ``weights(...).numpy(force=True)`` is a
            `sample_weight` for scikit-learn.
        """
        items, active, sizes = self._items(loss.detach(), mask)
        context = {"index": index, "target": target, "logits": logits, "features": features}
        weights = self._prepared(items, active, context)
        if self.normalize == "batch":
            shares = weights if sizes is None else weights * sizes
            total, count = self._totals(shares, active, sizes)
            return weights / positive(total) * count
        if self.normalize == "dataset":
            return weights / self.dataset_mean()
        return weights

    @torch.no_grad()
    def finish_step(self, params: Iterable[nn.Parameter]) -> None:
        """Divide accumulated gradients by the sum of their weights, for ``normalize="deferred"``.

        Call it after ``scaler.unscale_`` and before gradients are clipped. With
        another `normalize` it does nothing, so that one loop serves all. Terms
        of the loss beside the weighted one are divided, too: add them after.

        Parameters
        ----------
        params : iterable of Parameter
            Parameters that the optimiser is about to change.
        """
        if self.normalize != "deferred":
            return
        total = torch.where(self.accumulated > 0, self.accumulated, 1.0)
        for parameter in params:
            if parameter.grad is not None:
                parameter.grad.div_(total.to(parameter.grad.device))
        self.accumulated.zero_()

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
        return weight_figures(*self._last)

    def __mul__(self, other: "LossWeighter") -> "LossWeighter":
        from reweight.torch.product import ProductWeighter

        if not isinstance(other, LossWeighter):
            return NotImplemented
        return ProductWeighter(self, other)

    # What subclasses may use

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
        if n_processes(self.process_group) > 1:
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
        if n_processes(self.process_group) > 1:
            values = values.clone()
            dist.all_reduce(values, dist.ReduceOp.SUM, self.process_group)
        return values

    # The steps of a call

    def _items(
        self, loss: Tensor, mask: Tensor | None
    ) -> tuple[Tensor, Tensor | None, Tensor | None]:
        """Losses of the weighted items, which are active, and the size that each counts with."""
        loss = check_losses(self._name(), loss)
        if mask is not None:
            mask = mask_like(self._name(), mask, loss)
        if self.on_nonfinite != "ignore":
            mask = finite_mask(self._name(), loss, mask, self.on_nonfinite)
        if mask is not None:
            loss = torch.where(mask, loss, 0.0)
        if self.unit == "token" or loss.dim() == 1:
            return loss, mask, None
        mask = None if mask is None else mask.flatten(1)
        return row_means(loss.flatten(1), mask, by_size=self.aggregate == "token")

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
            weights = spread_over(self._name(), weights, losses)
        if self.warmup_steps:
            weights = self._warmed(weights)
        if active is not None:
            weights = torch.where(active, weights, 0.0)
        return weights if self.max_weight is None else self._capped(weights, active)

    def _warmed(self, weights: Tensor) -> Tensor:
        """Equal weights before the end of the warm-up."""
        equal = self.dataset_mean() if self.normalize == "dataset" else 1.0
        if torch.compiler.is_compiling():
            return torch.where(self.step < self.warmup_steps, equal, weights)
        if self._now() >= self.warmup_steps:
            return weights
        return torch.ones_like(weights) * equal

    def _capped(self, weights: Tensor, active: Tensor | None) -> Tensor:
        """Weights cut at `max_weight`."""
        if isinstance(self.max_weight, tuple):
            return weights.clamp_max(self._global_quantile(weights, active))
        if self.normalize == "none":
            return weights.clamp_max(self.max_weight)
        if self.normalize == "dataset":
            return weights.clamp_max(self.max_weight * self.dataset_mean())
        total, count = self._totals(weights, active, None)
        return weights.clamp_max(self.max_weight * (total / count))

    def _global_quantile(self, weights: Tensor, active: Tensor | None) -> Tensor:
        """The lower quantile of the active weights of the global batch."""
        values = weights if active is None else torch.where(active, weights, math.inf)
        _, count = self._totals(weights, active, None)
        return padded_quantile(values, self.max_weight[1], count, self.process_group)

    def _totals(
        self, shares: Tensor, active: Tensor | None, sizes: Tensor | None
    ) -> tuple[Tensor, Tensor | int]:
        """Sum of the weights and number of items over all processes."""
        total = shares.sum()
        if sizes is not None:
            count = sizes.sum()
        else:
            count = shares.numel() if active is None else active.sum()
        return global_totals(total, count, self.process_group)

    def _divided(self, shares: Tensor, total: Tensor, count: Tensor | int) -> Tensor:
        """What each loss is multiplied by on this process."""
        if self.normalize == "batch":
            divisor = positive(total)
        elif self.normalize == "dataset":
            divisor = count * self.dataset_mean()
        elif self.normalize == "none":
            divisor = count
        else:
            if self.accumulated.device != total.device:
                self.accumulated = self.accumulated.to(total.device)
            self.accumulated.add_(total)
            divisor = 1.0
        n_ranks = n_processes(self.process_group)
        return shares / divisor if n_ranks == 1 else shares / divisor * n_ranks

    def __getstate__(self) -> dict:
        return {**self.__dict__, "_last": None}

    def _check_choice(self, name: str, value: str, choices: tuple[str, ...]) -> None:
        if value not in choices:
            raise ValueError(f"{self._name()}: {name}={value!r}; choose one of {list(choices)}")

    def extra_repr(self) -> str:
        """Settings of the base class that are not the default.

        Returns
        -------
        str
        """
        arguments = signature(type(self)).parameters
        defaults = {name: arguments[name].default for name in SETTINGS if name in arguments}
        changed = {k: getattr(self, k) for k in defaults if getattr(self, k) != defaults[k]}
        return ", ".join(f"{k}={v!r}" for k, v in {**self._schedules, **changed}.items())

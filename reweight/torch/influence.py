"""Weights by self-influence: the squared norm of the gradient of each row."""

import math
from collections.abc import Callable, Iterable
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from reweight.torch._functional import (
    FunctionalCopy,
    chosen_params,
    last_linear,
    row_losses,
    same_randomness,
)
from reweight.torch._ghost import chosen_modules, ghost_norms
from reweight.torch._observing import ObservingWeighter
from reweight.torch._reduction import gather_padded, n_processes, positive

METHODS = ("ghost", "head", "exact")
SCALES = ("zscore", "rank", "log", "none")


def self_influence(
    model: nn.Module,
    per_item_loss: Callable,
    batch: Any,
    *,
    method: str = "ghost",
    modules: Iterable[str | nn.Module] | None = None,
    approximate: bool = False,
) -> Tensor:
    r"""Squared norm :math:`\|\nabla_\theta \ell_i\|^2` of the gradient of each row.

    Parameters
    ----------
    model : Module
        The model; its parameters, buffers and random state stay as they are.
    per_item_loss : callable
        ``per_item_loss(call, batch)`` returns losses of shape (n_rows, ...),
        where `call` is a functional copy of the model. Rows are the first
        dimension in every layer.
    batch : object
        Batch.
    method : {"ghost", "head", "exact"}, default="ghost"
        From inputs and output gradients of layers, in one pass back and forth,
        exact for linear, convolutional (1-d, 2-d), embedding and layer norm
        layers; the same for the last linear layer alone; or from the gradients
        by row themselves, for any model, in memory of rows times parameters.
    modules : iterable of str or Module, default=None
        Layers whose parameters count; None means all.
    approximate : bool, default=False
        Whether "ghost" may leave out parameters of other layers, add up norms
        where different kinds of layers share a weight, and pass through batch
        norm in training mode, instead of refusing.

    Returns
    -------
    Tensor of shape (n_rows,)
        Detached.

    Raises
    ------
    ValueError
        If "ghost" would not be exact, or there is nothing to differentiate.

    References
    ----------
    Pruthi, G., Liu, F., Kale, S. and Sundararajan, M. (2020). Estimating
    training data influence by tracing gradient descent. NeurIPS.

    Examples
    --------
    >>> import torch
    >>> from reweight.torch import self_influence
    >>> model = torch.nn.Linear(2, 1, bias=False)
    >>> batch = torch.tensor([[3.0, 4.0], [1.0, 0.0]])
    >>> self_influence(model, lambda call, x: call(x).squeeze(1), batch)
    tensor([25.,  1.])
    """
    owner = "self_influence"
    if method not in METHODS:
        raise ValueError(f"{owner}: method={method!r}; choose one of {list(METHODS)}")
    if method == "head":
        modules = [last_linear(owner, model)[0]]
    if method != "exact":
        return ghost_norms(owner, model, per_item_loss, batch, modules, approximate)
    return _exact_norms(owner, model, per_item_loss, batch, modules)


def _exact_norms(
    owner: str, model: nn.Module, per_item_loss: Callable, batch: Any, modules: Iterable | None
) -> Tensor:
    """Norms from the gradients of all rows, by one batched pass back."""
    params = chosen_params(owner, model, None)
    if modules is not None:
        inside = {
            p.data_ptr()
            for module in chosen_modules(owner, model, modules)
            for p in module.parameters()
        }
        params = {name: p for name, p in params.items() if p.data_ptr() in inside}
    leaves = {name: p.requires_grad_() for name, p in params.items()}
    with torch.enable_grad(), same_randomness(model):
        losses = row_losses(owner, per_item_loss(FunctionalCopy(model, leaves), batch))
    one_by_one = torch.eye(len(losses), dtype=losses.dtype, device=losses.device)
    gradients = torch.autograd.grad(
        losses, list(leaves.values()), one_by_one, is_grads_batched=True, allow_unused=True
    )
    norms = [g.flatten(1).square().sum(1).to(losses.dtype) for g in gradients if g is not None]
    return torch.stack(norms).sum(0) if norms else torch.zeros_like(losses)


class SelfInfluenceWeighter(ObservingWeighter):
    r"""Weights by self-influence: novel rows first, stable ones later.

    With :math:`s_i` the squared norm of the gradient of a row, weights are
    :math:`\exp(s_i / \tau_1)` before `switch_step`, so that rows with much to
    teach count more, and :math:`\exp(-s_i / \tau_2)` from then on, so that noisy
    ones count less. It is not meant for very small batches.

    Parameters
    ----------
    switch_step : int
        Step from which a large influence lowers the weight; half of the training
        is a start.
    temperature : float or tuple of two floats, default=(1.0, 1.0)
        :math:`\tau_1` and :math:`\tau_2`.
    method : {"ghost", "head", "exact", "microbatch"}, default="ghost"
        As in `self_influence`; or influence and weight of whole micro-batches,
        from their accumulated gradients, see the notes.
    modules : iterable of str or Module, default=None
        Layers whose parameters count; None means all.
    scale : {"zscore", "rank", "log", "none"}, default="zscore"
        What is exponentiated: the standardised logarithm of the influence in the
        global batch, as influences of different times differ by orders of
        magnitude; its rank from 0 to 1; its logarithm; or itself, as in the
        source. For "microbatch" only the last two.
    approximate : bool, default=False
        As in `self_influence`.
    normalize, warmup_steps, max_weight, on_nonfinite, process_group : optional
        As in `LossWeighter`.

    Notes
    -----
    With ``method="microbatch"`` nothing is observed. Call the weighter on the
    losses of a micro-batch, `backward`, and `accumulate` with the parameters of
    the model, for each; then `finish_step` leaves the average of the gradients
    with softmax weights in ``.grad``. It needs one more gradient in memory and no
    further pass. In a distributed run every micro-batch of every process is one
    of the average; run the model under ``no_sync``.

    References
    ----------
    Thakkar, M., Bolukbasi, T., Ganapathy, S., Vashishth, S., Chandar, S. and
    Talukdar, P. (2023). Self-influence guided data reweighting for language model
    pre-training. EMNLP.

    Examples
    --------
    >>> import torch
    >>> from reweight.torch import SelfInfluenceWeighter
    >>> model = torch.nn.Linear(1, 1, bias=False)
    >>> loss = lambda call, x: call(x).squeeze(1)
    >>> weigh = SelfInfluenceWeighter(switch_step=100, scale="rank")
    >>> batch = torch.tensor([[1.0], [2.0]])
    >>> weigh.observe(model, loss, batch)
    >>> weigh.weights(loss(model, batch))
    tensor([0.7551, 1.2449])
    """

    def __init__(
        self,
        switch_step: int,
        temperature: float | tuple[float, float] = (1.0, 1.0),
        *,
        method: str = "ghost",
        modules: Iterable[str | nn.Module] | None = None,
        scale: str = "zscore",
        approximate: bool = False,
        normalize: str = "batch",
        warmup_steps: int = 0,
        max_weight: float | tuple[str, float] | None = None,
        on_nonfinite: str = "ignore",
        process_group: Any = None,
    ) -> None:
        super().__init__(
            normalize=normalize,
            warmup_steps=warmup_steps,
            max_weight=max_weight,
            on_nonfinite=on_nonfinite,
            process_group=process_group,
        )
        if not (isinstance(switch_step, int) and switch_step >= 0):
            raise ValueError(
                f"SelfInfluenceWeighter: switch_step={switch_step!r}; pass a whole number of steps "
                ">= 0"
            )
        pair = temperature if isinstance(temperature, tuple | list) else (temperature, temperature)
        if len(pair) != 2 or not all(value > 0 for value in pair):
            raise ValueError(
                f"SelfInfluenceWeighter: temperature={temperature!r}; pass one or two positive "
                "numbers"
            )
        self._check_choice("method", method, (*METHODS, "microbatch"))
        self._check_choice("scale", scale, SCALES)
        if method == "microbatch" and scale not in ("log", "none"):
            raise ValueError(
                f"SelfInfluenceWeighter: scale={scale!r} compares all micro-batches at once, which "
                "method='microbatch' never has; pass scale='log' or scale='none'"
            )
        self.switch_step = switch_step
        self.temperature = (float(pair[0]), float(pair[1]))
        self.method = method
        # Layers themselves would become submodules of the weighter.
        self.layers = None if modules is None else _Chosen(modules)
        self.scale = scale
        self.approximate = approximate
        self._window: _Window | None = None

    def observe(self, model: nn.Module, per_item_loss: Callable, batch: Any) -> None:
        """Take the influence of each row of the batch that the next call will weight.

        Parameters
        ----------
        model : Module
            The model in training; that inside DistributedDataParallel is used.
        per_item_loss : callable
            ``per_item_loss(call, batch)`` returns the losses of the batch, where
            `call` is the model or a functional copy of it.
        batch : object
            The batch that the next call will weight.
        """
        if self.method != "microbatch":
            super().observe(model, per_item_loss, batch)

    def _look(self, model: nn.Module, per_item_loss: Callable, batch: Any) -> Tensor:
        return self_influence(
            model,
            per_item_loss,
            batch,
            method=self.method,
            modules=None if self.layers is None else self.layers.choices,
            approximate=self.approximate,
        )

    def raw_weights(self, loss: Tensor, *, mask: Tensor | None = None, **context: Any) -> Tensor:
        """Exponentials of the scaled influence, relative to the largest.

        Parameters
        ----------
        loss : Tensor of shape (n_rows,)
            Losses by row.
        mask : Tensor of bool, default=None
            Active rows.
        **context : Tensor
            Not used.

        Returns
        -------
        Tensor of shape (n_rows,)
        """
        seen = None if self.method == "microbatch" else self._check_observed(loss)
        if seen is None:
            return torch.ones_like(loss)
        exponent = self._scaled(seen, mask) * self._inverse_temperature(self._now())
        return torch.exp(exponent - self.global_extremes(exponent, mask)[1])

    def _inverse_temperature(self, step: int) -> float:
        early = step < self.switch_step
        return 1.0 / self.temperature[0] if early else -1.0 / self.temperature[1]

    def _scaled(self, influence: Tensor, mask: Tensor | None) -> Tensor:
        """Influence on the scale that is exponentiated."""
        if self.scale == "none":
            return influence
        if self.scale == "rank":
            return self._ranks(influence, mask)
        logs = influence.clamp_min(torch.finfo(influence.dtype).tiny).log()
        if self.scale == "log":
            return logs
        active = torch.ones_like(logs) if mask is None else mask.to(logs.dtype)
        total, count = self.global_sum(torch.stack([(logs * active).sum(), active.sum()]))
        centred = logs - total / count.clamp_min(1)
        variance = self.global_sum((centred.square() * active).sum()) / count.clamp_min(1)
        # Equal influences differ by round-off only.
        return centred / variance.sqrt().clamp_min(1e-6)

    def _ranks(self, influence: Tensor, mask: Tensor | None) -> Tensor:
        """Mean rank among the active rows of all processes, over their number."""
        values = influence if mask is None else torch.where(mask, influence, math.inf)
        if n_processes(self.process_group) > 1:
            everyone = gather_padded(values, self.process_group)
        else:
            everyone = values
        ordered = everyone.sort().values
        count = (ordered < math.inf).sum().clamp_min(1)
        below = torch.searchsorted(ordered, influence, right=False)
        up_to = torch.searchsorted(ordered, influence, right=True)
        return ((below + up_to) / 2.0 / count).to(influence.dtype)

    @torch.no_grad()
    def accumulate(self, params: Iterable[nn.Parameter]) -> None:
        """Take over the gradients of a micro-batch, for ``method="microbatch"``.

        Parameters
        ----------
        params : iterable of Parameter
            Parameters of the model, whose ``.grad`` is that of one micro-batch; it
            is None afterwards.
        """
        if self.method != "microbatch":
            raise RuntimeError(
                f"SelfInfluenceWeighter: accumulate is for method='microbatch', not "
                f"{self.method!r}; use normalize='deferred' to accumulate gradients"
            )
        params = [p for p in params if p.grad is not None]
        if not params:
            raise RuntimeError(
                "SelfInfluenceWeighter: no parameter has a gradient; call accumulate after "
                "weigh(loss).backward()"
            )
        influence = torch.stack([p.grad.float().square().sum() for p in params]).sum()
        # The call that led to these gradients has been counted already.
        step = self._now() - 1
        exponent = self._scaled(influence, None) * self._inverse_temperature(step)
        if step < self.warmup_steps:
            exponent = torch.zeros_like(exponent)
        if self._window is None:
            self._window = _Window(exponent)
        self._window.add(exponent, params)

    @torch.no_grad()
    def finish_step(self, params: Iterable[nn.Parameter]) -> None:
        """Leave the weighted gradient in ``.grad``: of micro-batches, or as `LossWeighter` does.

        Parameters
        ----------
        params : iterable of Parameter
            Parameters that the optimiser is about to change.
        """
        if self._window is None:
            super().finish_step(params)
            return
        self._window.write(list(params), self.process_group)
        self._window = None

    def __getstate__(self) -> dict:
        return {**super().__getstate__(), "_window": None}


class _Chosen:
    """A choice of layers that is not itself a submodule, and that copies share."""

    def __init__(self, modules: Iterable[str | nn.Module]) -> None:
        self.choices = [modules] if isinstance(modules, str | nn.Module) else list(modules)

    def __deepcopy__(self, memo: dict) -> "_Chosen":
        return self


class _Window:
    """Average of gradients with softmax weights, as they come in."""

    def __init__(self, exponent: Tensor) -> None:
        self.highest = torch.full_like(exponent, -math.inf)
        self.total = torch.zeros_like(exponent)
        self.gradients: dict[int, Tensor] = {}

    def add(self, exponent: Tensor, params: list[nn.Parameter]) -> None:
        highest = torch.maximum(self.highest, exponent)
        old, new = torch.exp(self.highest - highest), torch.exp(exponent - highest)
        self.highest, self.total = highest, self.total * old + new
        for gradient in self.gradients.values():
            gradient.mul_(old.to(gradient.device))
        for p in params:
            share = p.grad.float() * new.to(p.grad.device)
            held = self.gradients.get(id(p))
            self.gradients[id(p)] = share if held is None else held.add_(share)
            p.grad = None

    def write(self, params: list[nn.Parameter], group: Any) -> None:
        if n_processes(group) > 1:
            own = self.highest.clone()
            dist.all_reduce(self.highest, dist.ReduceOp.MAX, group)
            shrink = torch.exp(own - self.highest)
            self.total *= shrink
            dist.all_reduce(self.total, dist.ReduceOp.SUM, group)
            for p in params:
                if id(p) in self.gradients:
                    self.gradients[id(p)] *= shrink
                    dist.all_reduce(self.gradients[id(p)], dist.ReduceOp.SUM, group)
        for p in params:
            if id(p) in self.gradients:
                held = self.gradients[id(p)]
                p.grad = (held / positive(self.total).to(held.device)).to(p.dtype)

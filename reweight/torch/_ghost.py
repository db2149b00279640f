"""Squared norms of the gradients by row, from what layers see and send back."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.graph import get_gradient_edge
from torch.nn import functional

from reweight.torch._functional import FunctionalCopy, bare, row_losses, same_randomness

BATCH_COUPLED = (nn.modules.batchnorm._BatchNorm,)


@dataclass(frozen=True, eq=False)
class Factors:
    """A gradient by row as sum_t b_t a_t' over positions t, or over equal tokens.

    Parameters
    ----------
    kind : {"matrix", "tokens", "diagonal"}
        What the parameter is multiplied by: `seen` itself, one-hot `seen`, or
        `seen` elementwise.
    seen : Tensor of shape (n_rows, n_groups, n_positions, n_inputs) or (n_rows, n_positions)
        What the layer was given, or its normalised form.
    """

    kind: str
    seen: Tensor


def supported(module: nn.Module) -> bool:
    """Whether gradients by row of a module are known from its input and output.

    Parameters
    ----------
    module : Module
        A layer.

    Returns
    -------
    bool
    """
    if isinstance(module, nn.Conv1d | nn.Conv2d):
        return module.padding_mode == "zeros"
    if isinstance(module, nn.Embedding):
        return not module.scale_grad_by_freq and module.max_norm is None
    return isinstance(module, nn.Linear | nn.LayerNorm)


def factors_of(module: nn.Module, given: Tensor) -> Factors:
    """What the gradient of the weight of a module is made of beside its output's.

    Parameters
    ----------
    module : Module
        A supported layer.
    given : Tensor of shape (n_rows, ...)
        Its input.

    Returns
    -------
    Factors
    """
    given = given.detach()
    if isinstance(module, nn.Embedding):
        return Factors("tokens", given.reshape(len(given), -1))
    given = given.double() if given.dtype == torch.float64 else given.float()
    if isinstance(module, nn.LayerNorm):
        scaled = functional.layer_norm(given, module.normalized_shape, eps=module.eps)
        size = torch.Size(module.normalized_shape).numel()
        return Factors("diagonal", scaled.reshape(len(given), 1, -1, size))
    if isinstance(module, nn.Linear):
        return Factors("matrix", given.reshape(len(given), 1, -1, module.in_features))
    patches = _patches(module, given)
    groups = patches.reshape(len(given), module.groups, -1, patches.shape[-1])
    return Factors("matrix", groups.transpose(2, 3))


def _patches(module: nn.Conv1d | nn.Conv2d, given: Tensor) -> Tensor:
    """What each position of a convolution sees, of shape (n_rows, n_inputs, n_positions)."""
    flat = isinstance(module, nn.Conv1d)
    lift = (lambda pair: (1, *pair)) if flat else tuple
    still = (lambda pair: (0, *pair)) if flat else tuple
    kernel, dilation, stride = lift(module.kernel_size), lift(module.dilation), lift(module.stride)
    given = given.unsqueeze(-2) if flat else given
    if module.padding == "same":
        total = [d * (k - 1) for d, k in zip(dilation, kernel, strict=True)]
        before = [t // 2 for t in total]
        given = functional.pad(
            given, (before[1], total[1] - before[1], before[0], total[0] - before[0])
        )
        padding = (0, 0)
    else:
        padding = (0, 0) if module.padding == "valid" else still(module.padding)
    return functional.unfold(given, kernel, dilation, padding, stride)


def output_rows(module: nn.Module, sent: Tensor) -> Tensor:
    """Gradient of an output by row, group, position and channel.

    Parameters
    ----------
    module : Module
        A supported layer.
    sent : Tensor of shape (n_rows, ...)
        Gradient of the summed losses by its output.

    Returns
    -------
    Tensor of shape (n_rows, n_groups, n_positions, n_outputs)
    """
    sent = sent.double() if sent.dtype == torch.float64 else sent.float()
    if isinstance(module, nn.Conv1d | nn.Conv2d):
        sent = sent.reshape(len(sent), module.groups, module.out_channels // module.groups, -1)
        return sent.transpose(2, 3)
    size = (
        torch.Size(module.normalized_shape).numel()
        if isinstance(module, nn.LayerNorm)
        else sent.shape[-1]
    )
    return sent.reshape(len(sent), 1, -1, size)


def weight_norms(kind: str, seen: Tensor, sent: Tensor) -> Tensor:
    """Squared norms by row of the gradient of a weight.

    The Gram form costs T^2 (p + q) for T positions, the gradient itself T p q.

    Parameters
    ----------
    kind : {"matrix", "tokens", "diagonal"}
        As in `Factors`.
    seen : Tensor
        As in `Factors`.
    sent : Tensor of shape (n_rows, n_groups, n_positions, n_outputs)
        Gradient of the output.

    Returns
    -------
    Tensor of shape (n_rows,)
    """
    if kind == "diagonal":
        return (seen * sent).sum(2).square().sum((1, 2))
    if kind == "tokens":
        equal = (seen.unsqueeze(2) == seen.unsqueeze(1)).to(sent.dtype)
        return (equal * (sent @ sent.transpose(2, 3)).squeeze(1)).sum((1, 2))
    n_positions = seen.shape[2]
    if 2 * n_positions**2 <= seen.shape[3] * sent.shape[3]:
        gram = (seen @ seen.transpose(2, 3)) * (sent @ sent.transpose(2, 3))
        # Round-off may leave a tiny norm below zero.
        return gram.sum((1, 2, 3)).clamp_min(0.0)
    return (sent.transpose(2, 3) @ seen).square().sum((1, 2, 3))


@dataclass(frozen=True, eq=False)
class Call:
    """One pass of a batch through a layer.

    Parameters
    ----------
    module : Module
        The layer.
    factors : Factors
        What it saw.
    edge : GradientEdge
        Where the gradient of its output passes.
    """

    module: nn.Module
    factors: Factors
    edge: Any


def chosen_modules(owner: str, model: nn.Module, modules: Iterable | None) -> list[nn.Module]:
    """Layers whose gradients count.

    Parameters
    ----------
    owner : str
        Name of the class for messages.
    model : Module
        The model.
    modules : iterable of str or Module, default=None
        Names or layers; None means all that are supported.

    Returns
    -------
    list of Module

    Raises
    ------
    ValueError
        If a layer is unknown or not supported.
    """
    named = dict(bare(model).named_modules())
    if modules is None:
        return [module for module in named.values() if supported(module)]
    found = []
    for choice in [modules] if isinstance(modules, str | nn.Module) else modules:
        module = named.get(choice) if isinstance(choice, str) else choice
        if module is None or module not in named.values():
            raise ValueError(
                f"{owner}: modules names {choice!r}, which is no module of the model; pass names "
                "from model.named_modules()"
            )
        if not supported(module):
            raise ValueError(
                f"{owner}: gradients by row of {choice!r}, a {type(module).__name__}, are not "
                "known to method='ghost'; leave it out of modules, or pass method='exact'"
            )
        found.append(module)
    return found


def ghost_norms(
    owner: str,
    model: nn.Module,
    per_item_loss: Callable,
    batch: Any,
    modules: Iterable | None,
    approximate: bool,
) -> Tensor:
    """Squared norms by row of the gradients of the parameters of some layers.

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
    modules : iterable of str or Module, default=None
        Layers that count; None means all, and refuses parameters outside of
        supported layers.
    approximate : bool
        Whether to leave such parameters out, to let batch norm couple rows, and
        to add up norms where kinds of layers share a weight.

    Returns
    -------
    Tensor of shape (n_rows,)
    """
    chosen = chosen_modules(owner, model, modules)
    if not approximate:
        _refuse_batch_norm(owner, model)
    calls: list[Call] = []

    def record(module: nn.Module, given: tuple, output: Tensor) -> Tensor | None:
        if not output.requires_grad:
            return None
        # An edge stays valid when the output is later changed in place, unless it is a view.
        calls.append(Call(module, factors_of(module, given[0]), get_gradient_edge(output)))
        return output.clone() if output._is_view() else None

    hooks = [module.register_forward_hook(record) for module in chosen]
    try:
        with torch.enable_grad(), same_randomness(model):
            losses = row_losses(owner, per_item_loss(FunctionalCopy(model, {}), batch))
    finally:
        for hook in hooks:
            hook.remove()
    outside = [] if modules is not None or approximate else _outside(model, calls)
    sent = torch.autograd.grad(
        losses.sum(),
        [*(call.edge for call in calls), *(p for _, p in outside)],
        allow_unused=True,
    )
    _refuse_outside(
        owner,
        [name for (name, _), g in zip(outside, sent[len(calls) :], strict=True) if g is not None],
    )
    total = losses.new_zeros(losses.shape[0])
    for norms in _norms_of_weights(owner, calls, sent, losses.shape[0], approximate):
        total = total + norms
    return total.detach()


def _refuse_batch_norm(owner: str, model: nn.Module) -> None:
    for name, module in bare(model).named_modules():
        if isinstance(module, BATCH_COUPLED) and module.training:
            raise ValueError(
                f"{owner}: {name!r} is a {type(module).__name__} in training mode, through which "
                "the loss of a row depends on the other rows; pass method='exact', or "
                "approximate=True to look at each row's own path"
            )


def _outside(model: nn.Module, calls: list[Call]) -> list[tuple[str, Tensor]]:
    """Trained parameters of no layer that was passed."""
    inside = {id(p) for call in calls for p in call.module.parameters(recurse=False)}
    return [
        (name, p)
        for name, p in bare(model).named_parameters()
        if p.requires_grad and id(p) not in inside
    ]


def _refuse_outside(owner: str, names: list[str]) -> None:
    if names:
        raise ValueError(
            f"{owner}: the loss depends on {len(names)} parameters outside of linear, "
            f"convolutional, embedding and normalising layers, among them {names[0]!r}; pass "
            "modules= with the layers that count, method='exact', or approximate=True to leave "
            "those parameters out"
        )


def _norms_of_weights(owner: str, calls: list[Call], sent: tuple, n_rows: int, approximate: bool):
    """Squared norms by parameter; passes through the same weight add up before squaring."""
    weights: dict[int, list[tuple[Call, Tensor]]] = {}
    biases: dict[int, list[Tensor]] = {}
    for call, gradient in zip(calls, sent[: len(calls)], strict=True):
        if gradient is None:
            continue
        if gradient.shape[0] != n_rows:
            raise ValueError(
                f"{owner}: a {type(call.module).__name__} was given {gradient.shape[0]} rows for "
                f"{n_rows} losses; layers must keep rows in the first dimension"
            )
        rows = output_rows(call.module, gradient)
        weight, bias = call.module.weight, getattr(call.module, "bias", None)
        if isinstance(call.module, nn.Embedding) and call.module.padding_idx is not None:
            rows = rows * (call.factors.seen != call.module.padding_idx)[:, None, :, None]
        if weight is not None and weight.requires_grad:
            weights.setdefault(id(weight), []).append((call, rows))
        if bias is not None and bias.requires_grad:
            biases.setdefault(id(bias), []).append(rows.sum(2))
    for parts in weights.values():
        kinds = {call.factors.kind for call, _ in parts}
        if len(kinds) > 1 and not approximate:
            raise ValueError(
                f"{owner}: a {' and a '.join(type(c.module).__name__ for c, _ in parts[:2])} share "
                "a weight, so norms do not add up; pass approximate=True, or method='exact'"
            )
        for kind in kinds:
            same = [(c.factors.seen, rows) for c, rows in parts if c.factors.kind == kind]
            along = 1 if kind == "tokens" else 2
            yield weight_norms(
                kind, torch.cat([a for a, _ in same], along), torch.cat([b for _, b in same], 2)
            )
    for parts in biases.values():
        yield torch.stack(parts).sum(0).square().sum((1, 2))

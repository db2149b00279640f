"""Starts of networks whose layers pass signals of unit variance, or of a variance by depth."""

import math
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrize import is_parametrized

from reweight.torch.regularization import named_layers


@torch.no_grad()
def lsuv_(
    module: nn.Module,
    batch: Any,
    *,
    tol: float = 0.1,
    max_iter: int = 10,
    orthogonal: bool = True,
    generator: torch.Generator | None = None,
) -> dict[str, tuple[float, float]]:
    """Initialise layers so that each one's output has unit variance on a batch.

    Linear and convolutional layers get orthonormal weights and zero biases; then
    each, in the order in which they run, is scaled until the variance of all
    entries of its output is one.

    Parameters
    ----------
    module : Module
        Network, changed in place. It runs in the mode that it is in; its
        buffers, such as running statistics, are left as they were.
    batch : Tensor, tuple or mapping
        Input; a tuple or mapping is unpacked into the arguments of the module.
    tol : float, default=0.1
        How far the variance may be from one.
    max_iter : int, default=10
        Largest number of scalings of a layer.
    orthogonal : bool, default=True
        Whether to draw orthonormal weights, or to scale those there are.
    generator : Generator, default=None
        Source of the draws.

    Returns
    -------
    dict of str to (float, float)
        For each layer the factor that its weights were multiplied by, and the
        variance of its output at last.

    Raises
    ------
    RuntimeError
        If the output of a layer does not vary, or is not finite.
    ValueError
        If no layer runs, or a layer's weight is parametrised.

    References
    ----------
    Mishkin, D., Matas, J. (2016). All you need is a good init. ICLR.

    Examples
    --------
    >>> import torch
    >>> from reweight.torch import lsuv_
    >>> net = torch.nn.Sequential(torch.nn.Linear(8, 16), torch.nn.ReLU(), torch.nn.Linear(16, 2))
    >>> report = lsuv_(net, 5 * torch.randn(256, 8))
    >>> all(abs(variance - 1) <= 0.1 for _, variance in report.values())
    True
    """
    buffers = {name: b.clone() for name, b in module.named_buffers()}
    layers = _layers_in_order(module, batch)
    if not layers:
        raise ValueError("lsuv_: no linear or convolutional layer runs on this batch")
    report = {}
    try:
        for name, layer in layers.items():
            if is_parametrized(layer, "weight"):
                raise ValueError(
                    f"lsuv_: the weight of layer {name!r} is parametrised; initialise before "
                    "parametrising"
                )
            if orthogonal:
                nn.init.orthogonal_(layer.weight, generator=generator)
            if layer.bias is not None:
                layer.bias.zero_()
            report[name] = _scale_to_unit_variance(module, batch, name, layer, tol, max_iter)
    finally:
        for name, buffer in module.named_buffers():
            buffer.copy_(buffers[name])
    return report


def _layers_in_order(module: nn.Module, batch: Any) -> dict[str, nn.Module]:
    """Layers by name, in the order of their first run."""
    found: dict[str, nn.Module] = {}
    handles = [
        layer.register_forward_hook(_note(found, name)) for name, layer in named_layers(module)
    ]
    try:
        _run(module, batch)
    finally:
        for handle in handles:
            handle.remove()
    return found


def _note(found: dict, name: str, *, output: bool = False):
    """A hook that stores the layer, or its output, at its first run."""

    def hook(layer: nn.Module, _: Any, result: Tensor) -> None:
        found.setdefault(name, result.detach() if output else layer)

    return hook


def _run(module: nn.Module, batch: Any) -> None:
    if isinstance(batch, Mapping):
        module(**batch)
    elif isinstance(batch, tuple | list):
        module(*batch)
    else:
        module(batch)


def _scale_to_unit_variance(
    module: nn.Module, batch: Any, name: str, layer: nn.Module, tol: float, max_iter: int
) -> tuple[float, float]:
    scale = 1.0
    for step in range(max_iter + 1):
        found: dict[str, Tensor] = {}
        handle = layer.register_forward_hook(_note(found, name, output=True))
        try:
            _run(module, batch)
        finally:
            handle.remove()
        variance = float(found[name].double().var(correction=0))
        if not 1e-12 <= variance < math.inf:
            raise RuntimeError(
                f"lsuv_: the output of layer {name!r} has variance {variance:.3g}; a layer before "
                "it may be dead, or the batch constant"
            )
        if abs(variance - 1) <= tol or step == max_iter:
            break
        layer.weight.div_(math.sqrt(variance))
        scale /= math.sqrt(variance)
    return scale, variance


@torch.no_grad()
def layer_index_init_(
    blocks: Iterable[nn.Module],
    std: float = 0.02,
    factor: float = 1.0,
    *,
    module: nn.Module | None = None,
    generator: torch.Generator | None = None,
) -> None:
    r"""Draw the weights of block l from a normal law of standard deviation std / sqrt(l factor).

    Biases of linear layers become zero.

    Parameters
    ----------
    blocks : iterable of Module
        Blocks in their order of depth, such as the layers of a transformer.
    std : float, default=0.02
        Standard deviation at depth one.
    factor : float, default=1.0
        Multiplies the depth.
    module : Module, default=None
        The whole network: linear layers and embeddings of it outside the blocks
        are drawn with `std`, embeddings of padding are zero. None leaves them.
    generator : Generator, default=None
        Source of the draws.

    Raises
    ------
    ValueError
        If `std` or `factor` is not positive, or there is no block.

    References
    ----------
    Owen, L., Kumar, A., Chowdhury, N., Güra, F. (2025). Variance control via
    weight rescaling in LLM pre-training. arXiv:2503.17500.

    Examples
    --------
    >>> import torch
    >>> from reweight.torch import layer_index_init_
    >>> blocks = [torch.nn.Linear(300, 300) for _ in range(4)]
    >>> layer_index_init_(blocks)
    >>> [round(block.weight.std().item(), 3) for block in blocks]
    [0.02, 0.014, 0.012, 0.01]
    """
    blocks = list(blocks)
    if not blocks:
        raise ValueError("layer_index_init_: there are no blocks; pass at least one")
    for name, value in (("std", std), ("factor", factor)):
        if not 0 < value < math.inf:
            raise ValueError(f"layer_index_init_: {name}={value}; it must be positive and finite")
    inside: set[int] = set()
    for depth, block in enumerate(blocks, start=1):
        for layer in block.modules():
            inside.add(id(layer))
            if isinstance(layer, nn.Linear):
                _draw(layer, std / math.sqrt(depth * factor), generator)
    for layer in module.modules() if module is not None else ():
        if id(layer) not in inside and isinstance(layer, nn.Linear | nn.Embedding):
            _draw(layer, std, generator)


def _draw(layer: nn.Module, std: float, generator: torch.Generator | None) -> None:
    layer.weight.normal_(0.0, std, generator=generator)
    if getattr(layer, "bias", None) is not None:
        layer.bias.zero_()
    if getattr(layer, "padding_idx", None) is not None:
        layer.weight[layer.padding_idx].zero_()


class TargetVarianceRescaling:
    """Bring weights whose spread has grown back to a target, every so many steps.

    A matrix whose standard deviation exceeds the target by the ratio is scaled
    around its mean to the target, and the bias beside it set to zero. This
    changes the function: only for networks with normalisation layers.

    Parameters
    ----------
    blocks : iterable of Module
        Blocks in their order of depth. All modules in them with a weight of two
        dimensions are watched; others are not.
    std : float, default=0.02
        Target standard deviation.
    ratio : float, default=1.2
        How many times the target a weight may have.
    every : int, default=50
        Number of steps between two looks.
    depth_scaling : bool, default=False
        Whether the target of block l is `std` over the root of l.

    Raises
    ------
    ValueError
        If a number is not positive, or no weight is watched.

    References
    ----------
    Owen, L., Kumar, A., Chowdhury, N., Güra, F. (2025). Variance control via
    weight rescaling in LLM pre-training. arXiv:2503.17500.

    Examples
    --------
    >>> import torch
    >>> from reweight.torch import TargetVarianceRescaling
    >>> layer = torch.nn.Linear(50, 50)
    >>> rescaling = TargetVarianceRescaling([layer], every=1)
    >>> rescaling.step()
    1
    >>> round(layer.weight.std().item(), 4)
    0.02
    """

    def __init__(
        self,
        blocks: Iterable[nn.Module],
        *,
        std: float = 0.02,
        ratio: float = 1.2,
        every: int = 50,
        depth_scaling: bool = False,
    ) -> None:
        for name, value in (("std", std), ("ratio", ratio), ("every", every)):
            if not 0 < value < math.inf:
                raise ValueError(f"TargetVarianceRescaling: {name}={value}; it must be positive")
        self.ratio, self.every, self.n_steps = ratio, every, 0
        self.targets: list[tuple[nn.Module, float]] = []
        for depth, block in enumerate(blocks, start=1):
            target = std / math.sqrt(depth) if depth_scaling else std
            for layer in block.modules():
                weight = getattr(layer, "weight", None)
                if isinstance(weight, nn.Parameter) and weight.ndim == 2:
                    self.targets.append((layer, target))
        if not self.targets:
            raise ValueError(
                "TargetVarianceRescaling: the blocks have no weight of two dimensions to watch"
            )

    @torch.no_grad()
    def step(self) -> int:
        """Count a step of the optimiser, and rescale when it is time.

        Returns
        -------
        int
            Number of weights rescaled.
        """
        self.n_steps += 1
        if self.n_steps % self.every:
            return 0
        rescaled = 0
        for layer, target in self.targets:
            mean, spread = layer.weight.mean(), layer.weight.std()
            if spread > self.ratio * target:
                layer.weight.sub_(mean).mul_(target / spread).add_(mean)
                if getattr(layer, "bias", None) is not None:
                    layer.bias.zero_()
                rescaled += 1
        return rescaled

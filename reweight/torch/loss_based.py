"""Weights that follow the losses of a batch: learn from what is informative now."""

import math
import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from reweight.exceptions import WeightWarning
from reweight.torch._reduction import n_processes
from reweight.torch.base import LossWeighter
from reweight.torch.schedule import Schedule

# Each shape as f(h) minus its maximum over [-delta, delta], so that the largest exponential is one.
SHAPES: dict[str, Callable[[Tensor, float], Tensor]] = {
    "linupper": lambda h, delta: h.clamp_max(0.0),
    "quadratic": lambda h, delta: -((h / delta) ** 2),
    "extremes": lambda h, delta: h.abs() - delta,
    "upper": lambda h, delta: (h - delta) / 2.0,
}
FLAT = 1e-6


class LossBasedWeighter(LossWeighter):
    r"""Weights by the loss itself, from its place between the extremes of the batch.

    The losses of the global batch are mapped linearly to
    :math:`h_i \in [-\delta, \delta]` and weighted by
    :math:`w_i \propto \exp(f(h_i) / r)` with temperature :math:`r`. It needs
    no extra pass and no knowledge of the data. Not meant for importance
    weights, for labels with much noise together with a shape that favours high
    losses, or for global batches below about eight items.

    Parameters
    ----------
    strategy : {"linupper", "quadratic", "extremes", "upper"} or callable, default="linupper"
        The shape :math:`f`: low losses count less, :math:`\min(h + \delta, \delta)`;
        middling losses count most, :math:`1 - h^2/\delta^2`; both ends do,
        :math:`|h|`; the higher the more, :math:`(h + \delta) / 2`. A callable
        maps the tensor of h to f.
    temperature : float or callable, default=1.0
        :math:`r`; the larger, the more even the weights. A schedule is
        `Anneal` or a function of the step. For language models 0.4 after 1000
        to 2000 steps of warm-up.
    delta : float, default=1.0
        Half-width of the range of h.
    normalize, warmup_steps, max_weight, unit, aggregate, on_nonfinite, process_group : optional
        As in `LossWeighter`.

    Notes
    -----
    The weights are the maximiser of :math:`\sum_i w_i f(h_i) - r \sum_i w_i
    \log(n w_i)` over the simplex. A batch whose losses agree to six digits has
    equal weights. Affine changes of the losses change nothing.

    References
    ----------
    Sow, D., Woisetschlaeger, H., Bulusu, S., Wang, S., Jacobsen, H.-A. and
    Liang, Y. (2025). Dynamic loss-based sample reweighting for improved large
    language model pretraining. ICLR.

    Examples
    --------
    >>> import torch
    >>> from reweight.torch import LossBasedWeighter
    >>> weigh = LossBasedWeighter("linupper", temperature=0.5)
    >>> loss = torch.tensor([0.0, 1.0, 2.0], requires_grad=True)
    >>> weigh.weights(loss)
    tensor([0.1901, 1.4049, 1.4049])
    >>> weigh(loss).backward()
    >>> loss.grad
    tensor([0.0634, 0.4683, 0.4683])
    """

    def __init__(
        self,
        strategy: str | Callable[[Tensor], Tensor] = "linupper",
        temperature: Schedule = 1.0,
        *,
        delta: float = 1.0,
        normalize: str = "batch",
        warmup_steps: int = 0,
        max_weight: float | tuple[str, float] | None = None,
        unit: str = "row",
        aggregate: str = "row",
        on_nonfinite: str = "ignore",
        process_group: Any = None,
    ) -> None:
        super().__init__(
            normalize=normalize,
            warmup_steps=warmup_steps,
            max_weight=max_weight,
            unit=unit,
            aggregate=aggregate,
            on_nonfinite=on_nonfinite,
            process_group=process_group,
        )
        if not callable(strategy):
            self._check_choice("strategy", strategy, tuple(SHAPES))
        if not 0 < delta < math.inf:
            raise ValueError(f"LossBasedWeighter: delta={delta}; it must be finite and positive")
        self.strategy = strategy
        self.delta = float(delta)
        self.register_schedule("temperature", temperature)
        self._warned_of_one_item = False

    def raw_weights(self, loss: Tensor, *, mask: Tensor | None = None, **context: Any) -> Tensor:
        """Weights relative to the largest that the strategy can give.

        Parameters
        ----------
        loss : Tensor
            Losses of the items of this process.
        mask : Tensor of bool, default=None
            Active items, in the shape of `loss`.
        **context : Tensor
            Not used.

        Returns
        -------
        Tensor
            Weights in the shape of `loss`.
        """
        lowest, highest = self.global_extremes(loss, mask)
        spread = highest - lowest
        # Centring before scaling keeps nearly equal losses from cancelling.
        h = (loss - lowest) * (2.0 * self.delta / spread) - self.delta
        weights = torch.exp(self._exponent(h, mask) / self.scheduled("temperature"))
        self._warn_of_one_item(loss)
        return torch.where(spread > FLAT * highest.abs().clamp_min(1.0), weights, 1.0)

    def _exponent(self, h: Tensor, mask: Tensor | None) -> Tensor:
        """f(h) minus its maximum."""
        if not callable(self.strategy):
            return SHAPES[self.strategy](h, self.delta)
        f = self.strategy(h)
        if f.requires_grad:
            warnings.warn(
                "LossBasedWeighter: the strategy returns values with a graph, which are detached",
                WeightWarning,
                stacklevel=2,
            )
            f = f.detach()
        return f - self.global_extremes(f, mask)[1]

    def _warn_of_one_item(self, loss: Tensor) -> None:
        if loss.numel() != 1 or self._warned_of_one_item or torch.compiler.is_compiling():
            return
        if self.normalize == "batch" and n_processes(self.process_group) == 1:
            self._warned_of_one_item = True
            warnings.warn(
                "LossBasedWeighter: a batch of one item has weight one whatever its loss; use "
                "larger batches",
                WeightWarning,
                stacklevel=2,
            )

    def extra_repr(self) -> str:
        """Settings that are not the default.

        Returns
        -------
        str
        """
        delta = "" if self.delta == 1.0 else f", delta={self.delta}"
        return f"strategy={self.strategy!r}{delta}, {super().extra_repr()}"

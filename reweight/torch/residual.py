"""Weights of residual maps: pixels that have no counterpart count less."""

import math
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from reweight.torch._reduction import mask_like, n_processes
from reweight.torch.base import LossWeighter


class ResidualWeighter(LossWeighter):
    r"""Weights :math:`\max(0, 1 - r^2 / (2 \alpha))` of squared residuals, as a network would find.

    They minimise :math:`s r^2 + \alpha (s - 1)^2` over s in [0, 1], so that the
    weighted fit is one with a truncated robust loss. No network is needed; what it
    could add is that weights are smooth over an image.

    Parameters
    ----------
    alpha : float, default=0.02
        Price of giving up on a pixel; squared residuals of twice this size and
        more have weight zero.
    normalize : {"none", "batch", "deferred"}, default="none"
        As in `LossWeighter`; "none" divides by the number of pixels.
    warmup_steps, max_weight : optional
        As in `LossWeighter`.
    unit : {"token", "row"}, default="token"
        Whether each pixel or each image has a weight.
    aggregate, on_nonfinite, process_group : optional
        As in `LossWeighter`.

    Notes
    -----
    The loss that it is called on is the map of SQUARED residuals.

    References
    ----------
    Zhang, X., Stendahl, J. C., Staib, L. H., Sinusas, A. J., Wong, A. and Duncan,
    J. S. (2024). Adaptive correspondence scoring for unsupervised medical image
    registration. ECCV.

    Examples
    --------
    >>> import torch
    >>> from reweight.torch import ResidualWeighter
    >>> weigh = ResidualWeighter(alpha=0.02)
    >>> weigh.weights(torch.tensor([[0.0, 0.01, 0.02, 0.3]]))
    tensor([[1.0000, 0.7500, 0.5000, 0.0000]])
    """

    def __init__(
        self,
        alpha: float = 0.02,
        *,
        normalize: str = "none",
        warmup_steps: int = 0,
        max_weight: float | tuple[str, float] | None = None,
        unit: str = "token",
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
        self.alpha = _positive("ResidualWeighter", "alpha", alpha)

    def raw_weights(self, loss: Tensor, *, mask: Tensor | None = None, **context: Any) -> Tensor:
        """Weights of squared residuals.

        Parameters
        ----------
        loss : Tensor
            Squared residuals.
        mask : Tensor of bool, default=None
            Not used.
        **context : Tensor
            Not used.

        Returns
        -------
        Tensor in the shape of `loss`

        Raises
        ------
        ValueError
            If a loss is negative; checked on the CPU only, as elsewhere it would wait.
        """
        if loss.device.type == "cpu" and not torch.compiler.is_compiling():
            n_negative = int((loss < 0).sum())
            if n_negative:
                raise ValueError(
                    f"ResidualWeighter: {n_negative} of {loss.numel()} losses are negative; pass "
                    "squared residuals"
                )
        return (1.0 - loss / (2.0 * self.alpha)).clamp_min(0.0)

    def extra_repr(self) -> str:
        """Settings that are not the default.

        Returns
        -------
        str
        """
        return f"alpha={self.alpha}, {super().extra_repr()}".strip(", ")


class ResidualScoringLoss(nn.Module):
    r"""The two losses of training with a network that scores the pixels of residual maps.

    A scoring network sees the target image and says by s in (0, 1) where the
    residual r of a registration means something. The two networks take turns: one
    step of the registration on `motion_loss`, then, with the residual recomputed,
    one of the scores on `scoring_loss`, which is
    :math:`\overline{m r^2 s} + \alpha \overline{(m s - m)^2} + \beta_t TV(s)`.

    Parameters
    ----------
    alpha : float, default=0.02
        Price of scores below one.
    beta : float, default=1.5
        Price of scores that are rough, at its height.
    kappa : float, default=50.0
        The target of the price of roughness is :math:`\beta \cos(\pi \kappa \mu)`
        with :math:`\mu` the mean of the first term in the epoch so far.
    momentum : float, default=0.99
        Largest share of the old price that is kept in a step, at least 0 and below
        1; in epoch e, from 0, it is at most e / (e + 1).
    clamp_tv : bool, default=True
        Whether the price of roughness is at least zero. The cosine is negative for
        :math:`\mu` between 1 / (2 kappa) and 3 / (2 kappa), where the source's
        code, which is False, rewards rough scores.
    process_group : torch.distributed.ProcessGroup, default=None
        Processes that share a batch; None means all.

    Attributes
    ----------
    tv_weight : Tensor of shape ()
        Price of roughness after the latest step, before it is clamped; a buffer.
    epoch : Tensor of shape ()
        Number of calls of `end_epoch`, a buffer.

    Notes
    -----
    For both directions of a registration, concatenate them along the first
    dimension. The source starts with epochs of registration alone (scores of one),
    then of scores alone, then both. `ResidualWeighter` is the closed form without
    roughness.

    References
    ----------
    Zhang, X., Stendahl, J. C., Staib, L. H., Sinusas, A. J., Wong, A. and Duncan,
    J. S. (2024). Adaptive correspondence scoring for unsupervised medical image
    registration. ECCV.

    Examples
    --------
    >>> import torch
    >>> from reweight.torch import ResidualScoringLoss
    >>> criterion = ResidualScoringLoss()
    >>> residual, scores = torch.full((1, 1, 2, 2), 0.1), torch.full((1, 1, 2, 2), 0.5)
    >>> criterion.motion_loss(residual, scores)
    tensor(0.0050)
    >>> criterion.scoring_loss(residual, scores)
    tensor(0.0100)
    """

    tv_weight: Tensor
    epoch: Tensor
    residual_sum: Tensor
    n_steps: Tensor

    def __init__(
        self,
        alpha: float = 0.02,
        beta: float = 1.5,
        kappa: float = 50.0,
        momentum: float = 0.99,
        *,
        clamp_tv: bool = True,
        process_group: Any = None,
    ) -> None:
        super().__init__()
        name = "ResidualScoringLoss"
        self.alpha = _positive(name, "alpha", alpha)
        for setting, value in (("beta", beta), ("kappa", kappa)):
            if not 0 <= value < math.inf:
                raise ValueError(f"{name}: {setting}={value}; it must be finite and not negative")
        if not 0 <= momentum < 1:
            raise ValueError(f"{name}: momentum={momentum}; it must lie in [0, 1)")
        self.beta = float(beta)
        self.kappa = float(kappa)
        self.momentum = float(momentum)
        self.clamp_tv = clamp_tv
        self.process_group = process_group
        self.register_buffer("tv_weight", torch.zeros(()))
        self.register_buffer("epoch", torch.zeros((), dtype=torch.int64))
        self.register_buffer("residual_sum", torch.zeros(()))
        self.register_buffer("n_steps", torch.zeros(()))

    def motion_loss(self, residual: Tensor, score: Tensor, mask: Tensor | None = None) -> Tensor:
        """Mean of weighted squared residuals, without a gradient in the scores.

        Parameters
        ----------
        residual : Tensor of shape (n_images, 1, height, width[, depth])
            Differences of target and moved image.
        score : Tensor in the shape of `residual`
            Scores in [0, 1].
        mask : Tensor, default=None
            Foreground.

        Returns
        -------
        Tensor of shape ()
        """
        residual, score, mask = self._checked(residual, score, mask)
        return self._weighted(residual, score.detach(), mask).mean()

    def scoring_loss(self, residual: Tensor, score: Tensor, mask: Tensor | None = None) -> Tensor:
        """Loss of the scores, without a gradient in the residuals; a step of the price.

        Parameters
        ----------
        residual : Tensor of shape (n_images, 1, height, width[, depth])
            Differences of target and moved image, after the step of the registration.
        score : Tensor in the shape of `residual`
            Scores in [0, 1].
        mask : Tensor, default=None
            Foreground.

        Returns
        -------
        Tensor of shape ()
        """
        residual, score, mask = self._checked(residual, score, mask)
        first = self._weighted(residual.detach(), score, mask).mean()
        missing = score - 1.0 if mask is None else mask * (score - 1.0)
        if self.training:
            self._step(first.detach())
        price = self.tv_weight.clamp_min(0.0) if self.clamp_tv else self.tv_weight
        # A copy, as the buffer changes before the backward pass of accumulated losses.
        price = price.to(first.dtype).clone()
        return first + self.alpha * missing.square().mean() + price * total_variation(score)

    def end_epoch(self) -> None:
        """Forget the mean residual, and let the price change more slowly."""
        self.epoch.add_(1)
        self.residual_sum.zero_()
        self.n_steps.zero_()

    def _weighted(self, residual: Tensor, score: Tensor, mask: Tensor | None) -> Tensor:
        weighted = residual.square() * score
        return weighted if mask is None else mask * weighted

    @torch.no_grad()
    def _step(self, value: Tensor) -> None:
        """Move the price towards its target."""
        value = value.to(self.residual_sum)
        n_ranks = n_processes(self.process_group)
        if n_ranks > 1:
            value = value.clone()
            dist.all_reduce(value, dist.ReduceOp.SUM, self.process_group)
            value = value / n_ranks
        self.residual_sum.add_(value)
        self.n_steps.add_(1)
        mean = self.residual_sum / self.n_steps
        target = self.beta * torch.cos(math.pi * self.kappa * mean)
        kept = (1.0 - 1.0 / (self.epoch + 1)).clamp_max(self.momentum)
        self.tv_weight.copy_(torch.lerp(target, self.tv_weight, kept.to(target)))

    def _checked(
        self, residual: Tensor, score: Tensor, mask: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """Maps in at least single precision, finite where masked."""
        if residual.shape != score.shape or residual.dim() < 3:
            raise ValueError(
                f"ResidualScoringLoss: residual has shape {tuple(residual.shape)} and score "
                f"{tuple(score.shape)}; pass both of shape (n_images, n_channels, height, ...)"
            )
        if residual.dtype in (torch.float16, torch.bfloat16):
            residual = residual.float()
        score = score.to(residual.dtype)
        if mask is None:
            return residual, score, None
        active = mask_like("ResidualScoringLoss", mask, residual)
        return torch.where(active, residual, 0.0), score, active.to(residual.dtype)

    def extra_repr(self) -> str:
        """Settings.

        Returns
        -------
        str
        """
        return (
            f"alpha={self.alpha}, beta={self.beta}, kappa={self.kappa}, "
            f"momentum={self.momentum}, clamp_tv={self.clamp_tv}"
        )


def total_variation(score: Tensor) -> Tensor:
    """Mean squared difference of neighbours, averaged over the axes of space.

    Parameters
    ----------
    score : Tensor of shape (n_images, n_channels, ...)
        Maps.

    Returns
    -------
    Tensor of shape ()
        Axes of one pixel count as smooth.
    """
    axes = range(2, score.dim())
    steps = [score.diff(dim=axis).square() for axis in axes if score.shape[axis] > 1]
    return sum((step.mean() for step in steps), score.new_zeros(())) / len(axes)


def _positive(owner: str, name: str, value: float) -> float:
    if not 0 < value < math.inf:
        raise ValueError(f"{owner}: {name}={value}; it must be finite and positive")
    return float(value)

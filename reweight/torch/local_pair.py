"""Weights of adversarial variants inside the pair that they form with their instance."""

import math
from typing import Any

import torch
from torch import Tensor

from reweight.torch._transition_matrix import check_labels
from reweight.torch.base import LossWeighter

SCORES = ("margin", "steps")


class LocalPairWeighter(LossWeighter):
    r"""Loss of adversarial training that weighs each instance's own variants against it.

    A variant that fools the model counts, one that does not leaves its weight to the
    instance itself: :math:`\sum_j w_{ij} \ell_{ij} + \max(c - \sum_j w_{ij}, 0)
    \ell_i`. Weights of a row depend on that row alone, unlike those that rank
    instances against each other and neglect what an attack of another kind would
    find.

    Parameters
    ----------
    score : {"margin", "steps"}, default="margin"
        What says how vulnerable a variant is: the margin s of its logits, the true
        class beside the best other, by :math:`w = 1 / (1 + e^{\gamma s})` with
        :math:`\gamma` the `sharpness`; or the number k of steps that the attack
        took, by :math:`w = (1 + \tanh(b + 5 (1 - 2 k / K))) / 2` with b the
        `offset` and K the `n_steps`.
    sharpness : float, default=1.0
        Slope of the weight in the margin.
    min_total : float, default=1.0
        c, the least weight of an instance and its variants together.
    offset : float, default=-1.0
        b; the larger, the heavier variants that take many steps.
    n_steps : int, default=10
        K, the number of steps of the attack.
    on_nonfinite, process_group : optional
        As in `LossWeighter`.

    Notes
    -----
    The mean over the rows of all processes is taken, as of losses of pairs that
    count alike. To weigh pairs by another weighter, call that one on `pair_losses`.
    In evaluation mode the loss is the mean of the natural losses. The margin form is
    this package's; the paper's rule is that pairs are weighted inside and never
    skipped.

    References
    ----------
    Gao, R., Liu, F., Zhou, K., Niu, G., Han, B. and Cheng, J. (2021). Local
    reweighting for adversarial training. arXiv:2106.15776.

    Zhang, J., Zhu, J., Niu, G., Han, B., Sugiyama, M. and Kankanhalli, M. (2021).
    Geometry-aware instance-reweighted adversarial training. ICLR.

    Examples
    --------
    >>> import torch
    >>> from reweight.torch import LocalPairWeighter
    >>> weigh = LocalPairWeighter()
    >>> natural, adversarial = torch.tensor([0.1, 0.2]), torch.tensor([[2.0], [0.3]])
    >>> logits = torch.tensor([[[0.0, 2.0]], [[3.0, 0.0]]])
    >>> target = torch.tensor([0, 0])
    >>> weigh.pair_weights(logits=logits, target=target)
    tensor([[0.1192, 0.8808],
            [0.9526, 0.0474]])
    >>> weigh(natural, adversarial, logits=logits, target=target)
    tensor(0.9891)
    """

    def __init__(
        self,
        score: str = "margin",
        *,
        sharpness: float = 1.0,
        min_total: float = 1.0,
        offset: float = -1.0,
        n_steps: int = 10,
        on_nonfinite: str = "ignore",
        process_group: Any = None,
    ) -> None:
        super().__init__(normalize="none", on_nonfinite=on_nonfinite, process_group=process_group)
        self._check_choice("score", score, SCORES)
        for name, value in (("sharpness", sharpness), ("min_total", min_total)):
            if not 0 < value < math.inf:
                raise ValueError(
                    f"LocalPairWeighter: {name}={value}; it must be finite and positive"
                )
        if not math.isfinite(offset):
            raise ValueError(f"LocalPairWeighter: offset={offset}; it must be finite")
        if not (isinstance(n_steps, int) and n_steps >= 1):
            raise ValueError(
                f"LocalPairWeighter: n_steps={n_steps!r}; pass a whole number of steps >= 1"
            )
        self.score = score
        self.sharpness = float(sharpness)
        self.min_total = float(min_total)
        self.offset = float(offset)
        self.n_steps = n_steps

    def forward(
        self,
        loss: Tensor,
        adversarial_loss: Tensor | None = None,
        *,
        logits: Tensor | None = None,
        steps: Tensor | None = None,
        target: Tensor | None = None,
        mask: Tensor | None = None,
    ) -> Tensor:
        """Mean loss of the pairs of a batch.

        Parameters
        ----------
        loss : Tensor of shape (n_rows,)
            Losses of the instances.
        adversarial_loss : Tensor of shape (n_rows, n_variants) or (n_rows,)
            Losses of their variants; may be left out in evaluation mode.
        logits : Tensor of shape (n_rows, n_variants, n_classes) or (n_rows, n_classes)
            Scores of the variants, for "margin".
        steps : Tensor of shape (n_rows, n_variants) or (n_rows,)
            Steps that the attack took until the model erred, for "steps".
        target : Tensor of int of shape (n_rows,), default=None
            Labels, for "margin".
        mask : Tensor of shape (n_rows,), default=None
            Non-zero where an instance counts.

        Returns
        -------
        Tensor of shape ()

        Raises
        ------
        ValueError
            If something that the score needs is missing or does not fit.
        """
        if not self.training:
            return super().forward(loss, mask=mask)
        pairs = self.pair_losses(
            loss, adversarial_loss, logits=logits, steps=steps, target=target, mask=mask
        )
        return super().forward(pairs, mask=mask)

    def pair_losses(
        self,
        loss: Tensor,
        adversarial_loss: Tensor,
        *,
        logits: Tensor | None = None,
        steps: Tensor | None = None,
        target: Tensor | None = None,
        mask: Tensor | None = None,
    ) -> Tensor:
        """Weighted loss of each instance and its variants, to reduce by what you like.

        Parameters
        ----------
        loss, adversarial_loss, logits, steps, target, mask : Tensor
            As in `forward`.

        Returns
        -------
        Tensor of shape (n_rows,)
        """
        adversarial_loss = self._variants(loss, adversarial_loss)
        if mask is not None and target is not None and mask.shape == target.shape:
            target = torch.where(mask != 0, target, 0)
        shares = self.pair_weights(logits=logits, steps=steps, target=target)
        losses = torch.cat([loss.unsqueeze(1), adversarial_loss], 1)
        if shares.shape != losses.shape:
            raise ValueError(
                f"LocalPairWeighter: there are {shares.shape[1] - 1} variants of {len(shares)} "
                f"rows to score, but losses of {losses.shape[1] - 1} variants of {len(losses)} "
                "rows; pass both of the same variants"
            )
        if mask is not None and mask.shape == loss.shape:
            # What is padded may hold NaN, which times zero would reach the gradient.
            active = mask.unsqueeze(1) != 0
            shares, losses = torch.where(active, shares, 0.0), torch.where(active, losses, 0.0)
        return (shares * losses).sum(1)

    @torch.no_grad()
    def pair_weights(
        self,
        *,
        logits: Tensor | None = None,
        steps: Tensor | None = None,
        target: Tensor | None = None,
    ) -> Tensor:
        """Weights of each instance, first, and of its variants.

        Parameters
        ----------
        logits, steps, target : Tensor
            As in `forward`.

        Returns
        -------
        Tensor of shape (n_rows, 1 + n_variants)
            Their sums are at least `min_total`.
        """
        if self.score == "margin":
            weights = torch.sigmoid(-self.sharpness * self._margins(logits, target))
        else:
            weights = self._by_steps(steps)
        own = (self.min_total - weights.sum(1, keepdim=True)).clamp_min(0.0)
        return torch.cat([own, weights], 1)

    def raw_weights(self, loss: Tensor, *, mask: Tensor | None = None, **context: Any) -> Tensor:
        """Ones, as pairs count alike; weights inside pairs are those of `pair_weights`.

        Parameters
        ----------
        loss : Tensor of shape (n_rows,)
            Losses of the pairs.
        mask : Tensor of bool, default=None
            Not used.
        **context : Tensor
            Not used.

        Returns
        -------
        Tensor of shape (n_rows,)
        """
        return torch.ones_like(loss)

    def __mul__(self, other: LossWeighter) -> LossWeighter:
        raise TypeError(
            "LocalPairWeighter: it weighs inside pairs and has no part in a product; call the "
            "other weighter on weigh.pair_losses(...)"
        )

    __rmul__ = __mul__

    def _margins(self, logits: Tensor | None, target: Tensor | None) -> Tensor:
        """Score of the true class minus the best other, by variant."""
        if logits is not None and logits.dim() == 2:
            logits = logits.unsqueeze(1)
        if logits is None or target is None or logits.dim() != 3 or logits.shape[2] < 2:
            found = "no logits" if logits is None else f"logits of shape {tuple(logits.shape)}"
            raise ValueError(
                f"LocalPairWeighter: the call has {found} and "
                f"{'no' if target is None else 'a'} target; score='margin' needs logits of shape "
                "(n_rows, n_variants, n_classes) and a target"
            )
        check_labels("LocalPairWeighter", logits[:, 0], target, logits.shape[2])
        scores = logits if logits.dtype == torch.float64 else logits.float()
        label = target.long().reshape(-1, 1, 1).expand(-1, scores.shape[1], 1)
        others = scores.scatter(2, label, -math.inf)
        return scores.gather(2, label).squeeze(2) - others.amax(2)

    def _by_steps(self, steps: Tensor | None) -> Tensor:
        if steps is None or steps.dim() not in (1, 2):
            found = "no steps" if steps is None else f"steps of shape {tuple(steps.shape)}"
            raise ValueError(
                f"LocalPairWeighter: the call has {found}; score='steps' needs steps of shape "
                "(n_rows, n_variants)"
            )
        steps = steps.unsqueeze(1) if steps.dim() == 1 else steps
        if steps.device.type == "cpu" and not torch.compiler.is_compiling() and steps.numel():
            lowest, highest = float(steps.min()), float(steps.max())
            if lowest < 0 or highest > self.n_steps:
                wrong = lowest if lowest < 0 else highest
                raise ValueError(
                    f"LocalPairWeighter: steps holds {wrong:g}, which is not between 0 and "
                    f"n_steps={self.n_steps}; pass the n_steps of the attack"
                )
        steps = steps if steps.dtype == torch.float64 else steps.float()
        return (1.0 + torch.tanh(self.offset + 5.0 * (1.0 - 2.0 * steps / self.n_steps))) / 2.0

    def _variants(self, loss: Tensor, adversarial_loss: Tensor | None) -> Tensor:
        """Losses of the variants as a matrix."""
        if adversarial_loss is None:
            raise ValueError(
                "LocalPairWeighter: the call has no adversarial_loss; pass the losses of the "
                "variants as second argument"
            )
        if adversarial_loss.dim() == 1:
            adversarial_loss = adversarial_loss.unsqueeze(1)
        if loss.dim() != 1 or adversarial_loss.dim() != 2 or len(loss) != len(adversarial_loss):
            raise ValueError(
                f"LocalPairWeighter: loss has shape {tuple(loss.shape)} and adversarial_loss "
                f"{tuple(adversarial_loss.shape)}; pass (n_rows,) and (n_rows, n_variants), with "
                "reduction='none'"
            )
        return adversarial_loss

    def extra_repr(self) -> str:
        """Settings of the score.

        Returns
        -------
        str
        """
        if self.score == "margin":
            own = f"sharpness={self.sharpness}"
        else:
            own = f"offset={self.offset}, n_steps={self.n_steps}"
        return f"score={self.score!r}, {own}, min_total={self.min_total}"

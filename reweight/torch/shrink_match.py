"""Consistency of uncertain rows on fewer classes."""

import math
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor, nn

from reweight.torch._reduction import n_processes

FEWEST_CLASSES = 3


class ShrinkMatchLoss(nn.Module):
    r"""Semi-supervised loss of rows whose pseudo label is uncertain, on the classes left to it.

    FixMatch and its kin learn from unlabelled rows with a confident pseudo label
    and waste the others. Here the classes that make a row uncertain are taken
    out until it is confident of its top class among those that remain, and the
    cross-entropy of the other view of the row is taken on these. With
    :math:`p_{(0)} \geq p_{(1)} \geq \dots` the sorted probabilities of the weak
    view, classes 1, ..., c - 1 go for the first :math:`c \geq 2` at which
    :math:`p_{(0)} / (p_{(0)} + \sum_{k \geq c} p_{(k)})` reaches the threshold.

    Parameters
    ----------
    threshold : float, default=0.95
        Confidence from which a row is certain, between 0 and 1. The source has
        0.95 for ten classes and 0.7 for ImageNet.
    momentum : float, default=0.999
        Of the moving share of certain rows, at least 0 and below 1.
    principle1 : bool, default=True
        Whether a row counts by its top probability before the shrinking.
    principle2 : bool, default=True
        Whether the loss is multiplied by the moving share of certain rows, so
        that it grows with the quality of the model.
    process_group : torch.distributed.ProcessGroup, default=None
        Processes that share a batch; None means all.

    Attributes
    ----------
    certain_share : Tensor of shape ()
        The moving share, a buffer; NaN before the first batch, whose share it
        starts with.

    Notes
    -----
    This is the uncertain term alone. The certain one, with soft labels, is yours:
    ``certain = p.amax(1) >= threshold`` and ``(certain * cross_entropy(z, p,
    reduction="none")).mean()``. Weak probabilities carry no gradient; align their
    distribution before if you want to. The source takes the strong logits from a
    head of their own. With two classes nothing can be taken out and the loss is
    zero. The source's code for CIFAR starts the moving share anew in each epoch;
    call `reset` for that.

    References
    ----------
    Yang, L., Zhao, Z., Qi, L., Qiao, Y., Shi, Y. and Zhao, H. (2023). Shrinking
    class space for enhanced certainty in semi-supervised learning. ICCV.

    Examples
    --------
    >>> import torch
    >>> from reweight.torch import ShrinkMatchLoss
    >>> weak = torch.tensor([[0.50, 0.46, 0.03, 0.01], [0.97, 0.01, 0.01, 0.01]])
    >>> strong = torch.zeros(2, 4, requires_grad=True)
    >>> loss = ShrinkMatchLoss(0.9)
    >>> loss.per_item(weak, strong)
    tensor([0.5493, 0.0000], grad_fn=<MulBackward0>)
    >>> loss(weak, strong)
    tensor(0.1373, grad_fn=<MulBackward0>)
    """

    certain_share: Tensor

    def __init__(
        self,
        threshold: float = 0.95,
        momentum: float = 0.999,
        principle1: bool = True,
        principle2: bool = True,
        *,
        process_group: Any = None,
    ) -> None:
        super().__init__()
        if not 0 < threshold < 1:
            raise ValueError(f"ShrinkMatchLoss: threshold={threshold}; it must lie between 0 and 1")
        if not 0 <= momentum < 1:
            raise ValueError(f"ShrinkMatchLoss: momentum={momentum}; it must lie in [0, 1)")
        self.threshold = float(threshold)
        self.momentum = float(momentum)
        self.principle1 = principle1
        self.principle2 = principle2
        self.process_group = process_group
        self.register_buffer("certain_share", torch.tensor(math.nan))

    def forward(self, probs_weak: Tensor, logits_strong: Tensor) -> Tensor:
        """Mean loss over all rows, certain ones too; in training mode the share moves.

        Parameters
        ----------
        probs_weak : Tensor of shape (n_rows, n_classes)
            Class probabilities of the weak views.
        logits_strong : Tensor of shape (n_rows, n_classes)
            Scores of the strong views.

        Returns
        -------
        Tensor of shape ()

        Raises
        ------
        ValueError
            If shapes differ or the second dimension is missing.
        """
        losses = self.per_item(probs_weak, logits_strong)
        mean = losses.sum() / max(len(losses), 1)
        if not self.principle2:
            return mean
        share = self._share(probs_weak.detach())
        if self.training:
            self.certain_share.copy_(share)
        return share.to(mean.dtype) * mean

    def per_item(self, probs_weak: Tensor, logits_strong: Tensor) -> Tensor:
        """Loss of each row, without the share of certain rows; changes no state.

        Parameters
        ----------
        probs_weak : Tensor of shape (n_rows, n_classes)
            Class probabilities of the weak views.
        logits_strong : Tensor of shape (n_rows, n_classes)
            Scores of the strong views.

        Returns
        -------
        Tensor of shape (n_rows,)
            Zero for certain rows, and for those that stay uncertain whatever is
            taken out.
        """
        self._check(probs_weak, logits_strong)
        p = probs_weak.detach()
        p = p if p.dtype == torch.float64 else p.float()
        z = logits_strong if logits_strong.dtype == torch.float64 else logits_strong.float()
        if p.shape[1] < FEWEST_CLASSES:
            return 0.0 * z.sum(1)
        label, keep, counts = self._kept(p)
        # The cut is a constant, so one masked log-sum-exp does for all rows.
        losses = torch.logsumexp(z.masked_fill(~keep, -math.inf), 1) - z.gather(1, label).squeeze(1)
        weight = counts.to(z.dtype)
        if self.principle1:
            weight = weight * p.amax(1).to(z.dtype)
        return weight * losses

    def reset(self) -> None:
        """Forget the share of certain rows; the next batch starts it anew."""
        self.certain_share.fill_(math.nan)

    def _kept(self, p: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Top class, classes left to each row, and whether the row counts."""
        ascending = _sorted_rows(p)
        largest = ascending[:, -1:]
        # Summed from the smallest upwards, tails keep their digits.
        tails = ascending.cumsum(1)[:, :-2]
        sure = largest / (largest + tails) >= self.threshold
        counts = (largest.squeeze(1) < self.threshold) & sure[:, 0]
        # Confidence falls with the length of the tail. A row that is never sure has weight zero.
        length = sure.sum(1, keepdim=True).clamp_min(1)
        border = ascending.gather(1, length - 1)
        below, tied = p < border, p == border
        # Of classes tied at the border, those that come first are ranked higher and go.
        n_tied_kept = length - below.sum(1, keepdim=True)
        from_last = tied.sum(1, keepdim=True) - tied.cumsum(1) + 1
        keep = below | (tied & (from_last <= n_tied_kept))
        label = p.argmax(1, keepdim=True)
        return label, keep.scatter(1, label, True), counts

    def _share(self, p: Tensor) -> Tensor:
        """Moving share of certain rows after this batch; that stored, out of training."""
        stored = self.certain_share
        n_certain = (p.amax(1) >= self.threshold).sum().to(stored)
        n_rows = stored.new_tensor(p.shape[0])
        if self.training and n_processes(self.process_group) > 1:
            pair = torch.stack([n_certain, n_rows])
            dist.all_reduce(pair, dist.ReduceOp.SUM, self.process_group)
            n_certain, n_rows = pair[0], pair[1]
        now = n_certain / n_rows.clamp_min(1)
        start = torch.where(torch.isnan(stored), now, stored)
        return torch.lerp(now, start, self.momentum) if self.training else start

    def _check(self, probs_weak: Tensor, logits_strong: Tensor) -> None:
        for name, given in (("probs_weak", probs_weak), ("logits_strong", logits_strong)):
            if not isinstance(given, Tensor):
                raise TypeError(
                    f"ShrinkMatchLoss: {name} is a {type(given).__name__}; pass a tensor"
                )
        if probs_weak.dim() != 2 or probs_weak.shape != logits_strong.shape:
            raise ValueError(
                f"ShrinkMatchLoss: probs_weak has shape {tuple(probs_weak.shape)} and "
                f"logits_strong {tuple(logits_strong.shape)}; pass both of shape "
                "(n_rows, n_classes)"
            )
        for name, given in (("probs_weak", probs_weak), ("logits_strong", logits_strong)):
            if not given.is_floating_point():
                raise TypeError(
                    f"ShrinkMatchLoss: {name} has dtype {given.dtype}; it must be floating point"
                )
        if probs_weak.device.type == "cpu" and not torch.compiler.is_compiling():
            p = probs_weak.detach()
            # Written so that NaN fails.
            if p.numel() and not bool(((p >= 0) & (p <= 1.0 + 1e-3)).all()):
                raise ValueError(
                    "ShrinkMatchLoss: probs_weak has entries outside [0, 1] or NaN; pass "
                    "probabilities, logits.softmax(1)"
                )

    def extra_repr(self) -> str:
        """Settings.

        Returns
        -------
        str
        """
        return (
            f"threshold={self.threshold}, momentum={self.momentum}, "
            f"principle1={self.principle1}, principle2={self.principle2}"
        )


def _sorted_rows(p: Tensor) -> Tensor:
    """Entries of each row in ascending order."""
    if p.device.type == "cpu" and not torch.compiler.is_compiling():
        # Numpy sorts values alone, which is some forty times faster.
        return torch.from_numpy(np.sort(p.numpy(), axis=1))
    return p.sort(1).values

"""Losses of one against the rest that count hard labels more."""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from reweight.torch._transition_matrix import check_labels

REDUCTIONS = ("mean", "sum", "none")


class FocalLoss(nn.Module):
    r"""Sigmoid losses of every class against the rest, by :math:`(1 - p_t)^\gamma`.

    With :math:`p_t` the probability of what is true of the class, the loss of a row
    is :math:`-\sum_c (1 - p_t)^\gamma \log p_t`.

    Parameters
    ----------
    focusing : float, default=2.0
        The exponent, 0 or more; 0 is the binary cross-entropy.
    reduction : {"mean", "sum", "none"}, default="mean"
        Over rows; "none" for use with a weighter such as `ClassBalancedWeighter`.

    References
    ----------
    Lin, T.-Y., Goyal, P., Girshick, R., He, K. and Dollár, P. (2017). Focal loss for
    dense object detection. ICCV.

    Examples
    --------
    >>> import torch
    >>> from reweight.torch import ClassBalancedWeighter, FocalLoss
    >>> logits, target = torch.tensor([[2.0, 0.0], [2.0, 0.0]]), torch.tensor([0, 1])
    >>> losses = FocalLoss(reduction="none")(logits, target)
    >>> losses
    tensor([0.1751, 1.8234])
    >>> ClassBalancedWeighter([90, 10])(losses, target=target)
    tensor(1.6579)
    """

    def __init__(self, focusing: float = 2.0, reduction: str = "mean") -> None:
        super().__init__()
        if not 0 <= focusing < math.inf:
            raise ValueError(f"FocalLoss: focusing={focusing}; it must be finite and not negative")
        if reduction not in REDUCTIONS:
            raise ValueError(
                f"FocalLoss: reduction={reduction!r}; choose one of {list(REDUCTIONS)}"
            )
        self.focusing = float(focusing)
        self.reduction = reduction

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """Loss of labels.

        Parameters
        ----------
        logits : Tensor of shape (n_rows, n_classes, ...)
            Scores.
        target : Tensor of int of shape (n_rows, ...)
            Labels.

        Returns
        -------
        Tensor of shape () or that of `target`
        """
        n_classes = logits.shape[1] if logits.dim() > 1 else 2
        check_labels("FocalLoss", logits, target, n_classes)
        scores = torch.movedim(logits if logits.dtype == torch.float64 else logits.float(), 1, -1)
        is_label = functional.one_hot(target.long(), n_classes).bool()
        # The score of what is true: the probability that it is not is a sigmoid, too.
        signed = torch.where(is_label, scores, -scores)
        losses = -functional.logsigmoid(signed)
        if self.focusing:
            losses = torch.exp(self.focusing * functional.logsigmoid(-signed)) * losses
        losses = losses.sum(-1)
        if self.reduction == "none":
            return losses
        return losses.mean() if self.reduction == "mean" else losses.sum()

    def extra_repr(self) -> str:
        """Settings.

        Returns
        -------
        str
        """
        return f"focusing={self.focusing}, reduction={self.reduction!r}"

"""Losses of noisy labels, corrected by their transition matrix."""

import warnings

import torch
from numpy.typing import ArrayLike
from torch import Tensor, nn
from torch.nn import functional

from reweight.exceptions import WeightWarning
from reweight.torch._transition_matrix import check_labels, check_transition

REDUCTIONS = ("mean", "sum", "none")
LARGEST_CONDITION = 1e3
NO_INVERSE = 1e7


class _CorrectedLoss(nn.Module):
    """Base of losses of noisy labels with a transition matrix."""

    transition: Tensor

    def __init__(self, transition: ArrayLike | Tensor, convention: str, reduction: str) -> None:
        super().__init__()
        name = type(self).__name__
        if reduction not in REDUCTIONS:
            raise ValueError(f"{name}: reduction={reduction!r}; choose one of {list(REDUCTIONS)}")
        matrix = check_transition(name, transition, convention)
        self.reduction = reduction
        self.register_buffer("transition", matrix)

    def _reduced(self, losses: Tensor) -> Tensor:
        if self.reduction == "none":
            return losses
        return losses.mean() if self.reduction == "mean" else losses.sum()

    def extra_repr(self) -> str:
        """Number of classes and reduction.

        Returns
        -------
        str
        """
        return f"n_classes={len(self.transition)}, reduction={self.reduction!r}"


class ForwardCorrectionLoss(_CorrectedLoss):
    r"""Cross-entropy of the noisy label under :math:`T f`: fit what is seen, predict what is clean.

    Parameters
    ----------
    transition : array-like or Tensor of shape (n_classes, n_classes)
        T[a, b], the probability of the noisy label a given the clean class b.
    convention : {"columns", "rows"}, default="columns"
        Which dimension of `transition` sums to one.
    reduction : {"mean", "sum", "none"}, default="mean"
        As in PyTorch's losses; "none" for use with a weighter.

    Attributes
    ----------
    transition : Tensor of shape (n_classes, n_classes)
        T with columns that sum to one, a buffer, float64 if given as such.

    References
    ----------
    Patrini, G., Rozza, A., Menon, A. K., Nock, R. and Qu, L. (2017). Making deep
    neural networks robust to label noise: a loss correction approach. CVPR.

    Examples
    --------
    >>> import torch
    >>> from reweight.torch import ForwardCorrectionLoss
    >>> loss = ForwardCorrectionLoss([[0.8, 0.2], [0.2, 0.8]])
    >>> loss(torch.tensor([[20.0, 0.0]]), torch.tensor([1]))
    tensor(1.6094)
    """

    def __init__(
        self,
        transition: ArrayLike | Tensor,
        convention: str = "columns",
        reduction: str = "mean",
    ) -> None:
        super().__init__(transition, convention, reduction)

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """Loss of noisy labels.

        Parameters
        ----------
        logits : Tensor of shape (n_rows, n_classes, ...)
            Scores of the clean classes.
        target : Tensor of int of shape (n_rows, ...)
            Noisy labels.

        Returns
        -------
        Tensor of shape () or that of `target`
        """
        check_labels(type(self).__name__, logits, target, len(self.transition))
        scores = logits if logits.dtype == torch.float64 else logits.float()
        log_f = torch.movedim(functional.log_softmax(scores, 1), 1, -1)
        log_rows = self.transition.to(log_f.dtype).log()[target.long()]
        return self._reduced(-torch.logsumexp(log_rows + log_f, -1))


class BackwardCorrectionLoss(_CorrectedLoss):
    r"""Cross-entropies combined by :math:`T^{-1}`: unbiased for the loss of the clean label.

    Single losses may be negative and their variance is large where T is far from
    the identity; a `WeightWarning` says when its condition number is above 1000.

    Parameters
    ----------
    transition : array-like or Tensor of shape (n_classes, n_classes)
        T[a, b], the probability of the noisy label a given the clean class b; it
        must be invertible.
    convention : {"columns", "rows"}, default="columns"
        Which dimension of `transition` sums to one.
    reduction : {"mean", "sum", "none"}, default="mean"
        As in PyTorch's losses.

    Attributes
    ----------
    transition : Tensor of shape (n_classes, n_classes)
        T with columns that sum to one, a buffer, float64 if given as such.
    correction : Tensor of shape (n_classes, n_classes)
        Transposed inverse of T, a buffer in the precision of `transition`.

    References
    ----------
    Natarajan, N., Dhillon, I., Ravikumar, P. and Tewari, A. (2013). Learning with
    noisy labels. NeurIPS.

    Patrini, G., Rozza, A., Menon, A. K., Nock, R. and Qu, L. (2017). Making deep
    neural networks robust to label noise: a loss correction approach. CVPR.

    Examples
    --------
    >>> import torch
    >>> from reweight.torch import BackwardCorrectionLoss
    >>> loss = BackwardCorrectionLoss([[0.8, 0.2], [0.2, 0.8]], reduction="none")
    >>> logits = torch.tensor([[1.0, 0.0], [1.0, 0.0]])
    >>> loss(logits, torch.tensor([0, 1]))
    tensor([-0.0201,  1.6466])
    """

    correction: Tensor

    def __init__(
        self,
        transition: ArrayLike | Tensor,
        convention: str = "columns",
        reduction: str = "mean",
    ) -> None:
        super().__init__(transition, convention, reduction)
        matrix = self.transition.double()
        condition = float(torch.linalg.cond(matrix))
        if not condition < NO_INVERSE:
            raise ValueError(
                f"BackwardCorrectionLoss: transition has condition number {condition:.2g} and no "
                "usable inverse; use ForwardCorrectionLoss"
            )
        if condition > LARGEST_CONDITION:
            warnings.warn(
                f"BackwardCorrectionLoss: transition has condition number {condition:.2g}, so "
                "losses vary wildly; use ForwardCorrectionLoss",
                WeightWarning,
                stacklevel=2,
            )
        inverse = torch.linalg.inv(matrix).T.contiguous()
        self.register_buffer("correction", inverse.to(self.transition.dtype))

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """Loss of noisy labels.

        Parameters
        ----------
        logits : Tensor of shape (n_rows, n_classes, ...)
            Scores of the clean classes.
        target : Tensor of int of shape (n_rows, ...)
            Noisy labels.

        Returns
        -------
        Tensor of shape () or that of `target`
        """
        check_labels(type(self).__name__, logits, target, len(self.transition))
        scores = logits if logits.dtype == torch.float64 else logits.float()
        losses = -torch.movedim(functional.log_softmax(scores, 1), 1, -1)
        rows = self.correction.to(losses.dtype)[target.long()]
        return self._reduced((rows * losses).sum(-1))

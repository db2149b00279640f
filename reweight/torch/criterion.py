"""A criterion with a weighter inside, for trainers that have a slot for a criterion."""

from collections.abc import Callable

from torch import Tensor, nn

from reweight.torch.base import LossWeighter


class WeightedCriterion(nn.Module):
    """Criterion whose per-item losses a weighter reduces.

    In skorch: ``NeuralNetClassifier(..., criterion=WeightedCriterion,
    criterion__criterion=nn.CrossEntropyLoss, criterion__weighter=weigh)``.

    Parameters
    ----------
    criterion : Module, callable or class of Module
        Per-item loss of (input, target); a class is built with
        ``reduction="none"``, an instance must have been.
    weighter : LossWeighter
        What reduces the losses.
    ignore_index : int, default=None
        Targets that are masked; None takes `criterion.ignore_index` where there
        is one.

    Raises
    ------
    TypeError
        If `weighter` is no `LossWeighter`.
    ValueError
        If the criterion reduces its losses itself.

    Examples
    --------
    >>> import torch
    >>> from reweight.torch import LossBasedWeighter, WeightedCriterion
    >>> criterion = WeightedCriterion(torch.nn.MSELoss, LossBasedWeighter(temperature=0.5))
    >>> criterion(torch.tensor([0.0, 1.0]), torch.tensor([0.0, 0.0]))
    tensor(0.8808)
    """

    def __init__(
        self,
        criterion: Callable | type[nn.Module],
        weighter: LossWeighter,
        *,
        ignore_index: int | None = None,
    ) -> None:
        super().__init__()
        if not isinstance(weighter, LossWeighter):
            raise TypeError(
                f"WeightedCriterion: weighter is a {type(weighter).__name__}; pass a loss "
                "weighter, such as reweight.torch.IndexWeighter(weights)"
            )
        if isinstance(criterion, type):
            criterion = criterion(reduction="none")
        reduction = getattr(criterion, "reduction", "none")
        if reduction != "none":
            raise ValueError(
                f"WeightedCriterion: the criterion has reduction={reduction!r}; build it with "
                "reduction='none'"
            )
        self.criterion = criterion
        self.weighter = weighter
        self.ignore_index = getattr(criterion, "ignore_index", None)
        if ignore_index is not None:
            self.ignore_index = ignore_index

    def forward(
        self,
        input: Tensor,  # noqa: A002
        target: Tensor,
        *,
        index: Tensor | None = None,
        mask: Tensor | None = None,
    ) -> Tensor:
        """Weighted loss of a batch.

        Parameters
        ----------
        input : Tensor
            What the model returned.
        target : Tensor
            Targets.
        index : Tensor of int of shape (n_rows,), default=None
            Position of each row in the training set.
        mask : Tensor, default=None
            Non-zero where an item counts.

        Returns
        -------
        Tensor of shape ()
        """
        losses = self.criterion(input, target)
        if self.ignore_index is not None and target.shape == losses.shape:
            kept = target != self.ignore_index
            mask = kept if mask is None else kept & _aligned(mask, kept)
        return self.weighter(losses, mask=mask, index=index, target=target, logits=input)


def _aligned(mask: Tensor, like: Tensor) -> Tensor:
    return (mask != 0).reshape(tuple(mask.shape) + (1,) * (like.dim() - mask.dim()))

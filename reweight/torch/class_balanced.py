"""Weights of rows by how rare their class is."""

from typing import Any

import torch
from numpy.typing import ArrayLike
from torch import Tensor

from reweight.torch._class_counts import check_counts, check_share, effective_number_weights
from reweight.torch.base import LossWeighter


class ClassBalancedWeighter(LossWeighter):
    r"""Weights :math:`(1 - \beta) / (1 - \beta^{n_c})` of rows of a class with n_c rows.

    The inverse of the effective number of rows of the class: between equal weights,
    for :math:`\beta = 0`, and inverse frequencies, for 1.

    Parameters
    ----------
    class_counts : array-like or Tensor of shape (n_classes,)
        Number of training rows of each class.
    beta : float, default=0.9999
        From 0 to 1.
    normalize : {"none", "batch", "deferred"}, default="none"
        As in `LossWeighter`. "none" divides by the number of rows;
        ``CrossEntropyLoss(weight=...)`` divides by the sum of weights of the batch,
        like "batch", and so gives a rare row more or less by the company it is in.
    warmup_steps : int, default=0
        Steps before weights set in, known as deferred reweighting.
    max_weight, unit, aggregate, on_nonfinite, process_group : optional
        As in `LossWeighter`.

    Attributes
    ----------
    class_weights_ : Tensor of shape (n_classes,)
        Weight of each class, a float32 buffer with mean one over classes.

    Notes
    -----
    Calls need the labels as `target`. Do not pass class weights to the loss as well.

    References
    ----------
    Cui, Y., Jia, M., Lin, T.-Y., Song, Y. and Belongie, S. (2019). Class-balanced
    loss based on effective number of samples. CVPR.

    Cao, K., Wei, C., Gaidon, A., Arechiga, N. and Ma, T. (2019). Learning imbalanced
    datasets with label-distribution-aware margin loss. NeurIPS.

    Examples
    --------
    >>> import torch
    >>> from reweight.torch import ClassBalancedWeighter
    >>> weigh = ClassBalancedWeighter([900, 100], beta=0.99)
    >>> weigh.class_weights_
    tensor([0.7760, 1.2240])
    >>> weigh(torch.tensor([1.0, 1.0]), target=torch.tensor([0, 1]))
    tensor(1.)
    """

    class_weights_: Tensor

    def __init__(
        self,
        class_counts: ArrayLike | Tensor,
        beta: float = 0.9999,
        *,
        normalize: str = "none",
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
        counts = check_counts("ClassBalancedWeighter", class_counts)
        self.beta = check_share("ClassBalancedWeighter", "beta", beta)
        self.register_buffer("class_weights_", effective_number_weights(counts, self.beta).float())

    def raw_weights(
        self,
        loss: Tensor,
        *,
        target: Tensor | None = None,
        mask: Tensor | None = None,
        **context: Any,
    ) -> Tensor:
        """Weights of the classes of the rows.

        Parameters
        ----------
        loss : Tensor of shape (n_rows, ...)
            Losses, of which only the device matters.
        target : Tensor of int of shape (n_rows, ...)
            Labels.
        mask : Tensor of bool, default=None
            Active items, in the shape of `loss`; labels of others may be anything.
        **context : Tensor
            Not used.

        Returns
        -------
        Tensor in the shape of `target`

        Raises
        ------
        ValueError
            If the labels are missing, not integer, or name a class without a count.
        TypeError
            If the labels are no tensor.
        """
        if target is None:
            raise ValueError(
                "ClassBalancedWeighter: the call has no target; pass the labels as target=..."
            )
        if not isinstance(target, Tensor):
            raise TypeError(
                f"ClassBalancedWeighter: target is a {type(target).__name__}; pass a tensor"
            )
        if target.is_floating_point() or target.is_complex() or target.dtype == torch.bool:
            raise ValueError(
                f"ClassBalancedWeighter: target has dtype {target.dtype}; pass labels as integers"
            )
        target = target.to(self.class_weights_.device).long()
        if mask is not None and mask.shape == target.shape:
            target = torch.where(mask.to(target.device), target, 0)
        last = len(self.class_weights_) - 1
        label = target.clamp(0, last)
        known = label == target
        if target.device.type == "cpu" and not torch.compiler.is_compiling():
            if not bool(known.all()):
                raise ValueError(
                    f"ClassBalancedWeighter: target holds {int(target[~known][0])}, which is not "
                    f"among 0, ..., {last}; mask rows without a label"
                )
            return self.class_weights_[label].to(loss.device)
        # A check would wait for the device; an unknown label makes the loss NaN there.
        return torch.where(known, self.class_weights_[label], float("nan")).to(loss.device)

    def extra_repr(self) -> str:
        """Number of classes and settings that are not the default.

        Returns
        -------
        str
        """
        own = f"n_classes={len(self.class_weights_)}, beta={self.beta}"
        return f"{own}, {super().extra_repr()}".strip(", ")

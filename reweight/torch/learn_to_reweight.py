"""Weights by agreement of each row's gradient with that of clean data."""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn

from reweight.torch._functional import (
    check_params,
    chosen_params,
    loss_gradient,
    losses_at,
    sum_over_processes,
)
from reweight.torch._observing import MetaWeighter
from reweight.torch.gradient_alignment import METHODS, alignment


class LearnToReweight(MetaWeighter):
    r"""Weights by how much a step on each row would lower the loss of clean data.

    With :math:`u_i = \langle \nabla \ell_{val}(\theta), \nabla \ell_i(\theta)
    \rangle` the weight of a row is :math:`\max(u_i, 0)` over the sum of these in
    the batch. It is meant for a few clean rows beside many doubtful ones.

    Parameters
    ----------
    val_loader : iterable
        Batches of clean data, in the form that ``per_item_loss`` takes; it is
        iterated over again and again.
    every : int, default=1
        Steps from one look at the validation loss to the next.
    n_samples : int, default=None
        Number of rows of the training set. With it, and with `index` in each
        call, a row has its latest weight in the steps between; without, or as a
        factor of a product, one.
    params : {"head"} or iterable of str, default=None
        Parameters by which gradients are taken: those of the last linear layer,
        by name, or all that are trained.
    method : {"auto", "jvp", "fd"}, default="auto"
        How `alignment` differentiates.
    normalize, warmup_steps, max_weight, on_nonfinite, process_group : optional
        As in `LossWeighter`.

    Attributes
    ----------
    row_weights : Tensor of shape (n_samples,)
        Latest weight of each row, mean one in its batch; None without `n_samples`.

    Notes
    -----
    A look costs a gradient of the validation loss and a directional derivative.
    A batch in which every row disagrees with the clean data has a zero loss.
    Resuming from a state repeats the batches of a loader that does not shuffle.

    References
    ----------
    Ren, M., Zeng, W., Yang, B. and Urtasun, R. (2018). Learning to reweight
    examples for robust deep learning. ICML.

    Examples
    --------
    >>> import torch
    >>> from reweight.torch import LearnToReweight
    >>> model = torch.nn.Linear(1, 1, bias=False)
    >>> squared = lambda call, batch: (call(batch[0]) - batch[1]).square().squeeze(1)
    >>> clean = (torch.ones(1, 1), torch.full((1, 1), 5.0))
    >>> batch = (torch.ones(2, 1), torch.tensor([[5.0], [-5.0]]))
    >>> weigh = LearnToReweight([clean])
    >>> weigh.observe(model, squared, batch)
    >>> weigh.weights(squared(model, batch))
    tensor([2., 0.])
    """

    row_weights: Tensor | None

    def __init__(
        self,
        val_loader: Iterable[Any],
        *,
        every: int = 1,
        n_samples: int | None = None,
        params: str | Iterable[str] | None = None,
        method: str = "auto",
        normalize: str = "batch",
        warmup_steps: int = 0,
        max_weight: float | tuple[str, float] | None = None,
        on_nonfinite: str = "ignore",
        process_group: Any = None,
    ) -> None:
        super().__init__(
            val_loader,
            every,
            normalize=normalize,
            warmup_steps=warmup_steps,
            max_weight=max_weight,
            on_nonfinite=on_nonfinite,
            process_group=process_group,
        )
        self._check_choice("method", method, METHODS)
        if n_samples is not None and not (isinstance(n_samples, int) and n_samples >= 1):
            raise ValueError(f"LearnToReweight: n_samples={n_samples!r}; pass a whole number >= 1")
        self.params = check_params("LearnToReweight", params)
        self.method = method
        self.n_samples = n_samples
        self.register_buffer("row_weights", None if n_samples is None else torch.ones(n_samples))

    def raw_weights(
        self,
        loss: Tensor,
        *,
        index: Tensor | None = None,
        mask: Tensor | None = None,
        **context: Any,
    ) -> Tensor:
        """Positive parts of the agreement, or the latest weights of the rows.

        Parameters
        ----------
        loss : Tensor of shape (n_rows,)
            Losses by row.
        index : Tensor of int of shape (n_rows,), default=None
            Position of each row in the training set, for `n_samples`.
        mask : Tensor of bool, default=None
            Not used.
        **context : Tensor
            Not used.

        Returns
        -------
        Tensor of shape (n_rows,)
        """
        seen = self._check_observed(loss)
        if seen is not None:
            return seen
        if self.row_weights is None:
            return torch.ones_like(loss)
        return self.row_weights[self._positions(index)]

    def forward(
        self,
        loss: Tensor,
        *,
        index: Tensor | None = None,
        mask: Tensor | None = None,
        **context: Any,
    ) -> Tensor:
        """Weighted loss of a batch, after keeping the weights of its rows.

        Parameters
        ----------
        loss : Tensor of shape (n_rows, ...)
            Losses by item.
        index : Tensor of int of shape (n_rows,), default=None
            Position of each row in the training set, for `n_samples`.
        mask : Tensor, default=None
            Non-zero where an item counts.
        **context : Tensor
            As in `LossWeighter.forward`.

        Returns
        -------
        Tensor of shape ()
        """
        if self.training and self.row_weights is not None and self._seen is not None:
            positions = self._positions(index)
            total = self.global_sum(
                torch.stack([self._seen.sum(), self._seen.new_tensor(len(self._seen))])
            )
            mean_one = self._seen * (total[1] / total[0].clamp_min(torch.finfo(total.dtype).tiny))
            self.row_weights[positions] = mean_one.to(self.row_weights)
        return super().forward(loss, index=index, mask=mask, **context)

    def _positions(self, index: Tensor | None) -> Tensor:
        if index is None:
            raise ValueError(
                "LearnToReweight: n_samples is given but the call has no index; pass index=..., "
                "wrap the dataset in WithIndex"
            )
        if index.device.type == "cpu" and index.numel():
            lowest, highest = int(index.min()), int(index.max())
            if lowest < 0 or highest >= self.n_samples:
                wrong = lowest if lowest < 0 else highest
                raise ValueError(
                    f"LearnToReweight: index {wrong} is not among the {self.n_samples} rows of "
                    "n_samples; pass positions in the training set"
                )
        return index.to(self.row_weights.device)

    def _look(self, model: nn.Module, per_item_loss: Callable, batch: Any) -> Tensor | None:
        if not self._due():
            return None
        params = chosen_params(self._name(), model, self.params)
        clean = self._batches.draw()
        v, _ = loss_gradient(self._name(), model, per_item_loss, clean, params)
        v = sum_over_processes(v, self.process_group)
        losses = losses_at(model, per_item_loss, batch)
        return alignment(losses, params, v, method=self.method).clamp_min(0.0)

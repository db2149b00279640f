"""Weights by a small net of the loss, learned on clean data."""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn

from reweight.torch._functional import check_params, chosen_params
from reweight.torch._look_ahead import check_rate, step_net, step_rates, validation_slopes
from reweight.torch._observing import MetaWeighter
from reweight.torch.gradient_alignment import METHODS


class MetaWeightNet(MetaWeighter):
    r"""Weights :math:`w_i = V(\ell_i)` by a net that is trained on clean data.

    V has one hidden layer and a sigmoid at its end. Every few steps it moves so
    as to lower the validation loss after a step with its weights; the derivative
    through that step is exact and takes one directional derivative.

    Parameters
    ----------
    val_loader : iterable
        Batches of clean data, in the form that ``per_item_loss`` takes; it is
        iterated over again and again.
    lr : float or Optimizer
        Size of the step that is looked ahead, or the optimiser in training, whose
        current learning rates are taken.
    hidden : int, default=100
        Units of the hidden layer.
    meta_lr : float, default=1e-3
        Learning rate of the net, by Adam.
    meta_weight_decay : float, default=1e-4
        Its weight decay.
    every : int, default=1
        Steps from one step of the net to the next.
    params : {"head"} or iterable of str, default=None
        Parameters that the looked-ahead step moves: those of the last linear
        layer, by name, or all that are trained.
    inner : {"sgd", "adam"}, default="sgd"
        Whether that step is plain, or divided by the roots of the second moments
        of the Adam optimiser that is given as `lr`, which are held fixed.
    method : {"auto", "jvp", "fd"}, default="auto"
        How `alignment` differentiates.
    normalize : {"none", "batch", "deferred"}, default="none"
        As in `LossWeighter`; the weights of the net are not scaled in the source.
    warmup_steps, max_weight, on_nonfinite, process_group : optional
        As in `LossWeighter`.

    Attributes
    ----------
    weight_net : Module
        V, from losses of shape (n_rows, 1) to weights of that shape.
    meta_optimizer : Optimizer
        Its optimiser.

    Notes
    -----
    In a distributed run, seed all processes alike before, so that their nets start
    alike. Copies refer to the same `val_loader` and optimiser of the model. Resuming
    from a state repeats the batches of a loader that does not shuffle.

    References
    ----------
    Shu, J., Xie, Q., Yi, L., Zhao, Q., Zhou, S., Xu, Z. and Meng, D. (2019).
    Meta-Weight-Net: learning an explicit mapping for sample weighting. NeurIPS.

    Examples
    --------
    >>> import torch
    >>> from reweight.torch import MetaWeightNet
    >>> model = torch.nn.Linear(1, 1)
    >>> squared = lambda call, batch: (call(batch[0]) - batch[1]).square().squeeze(1)
    >>> clean = (torch.ones(2, 1), torch.ones(2, 1))
    >>> batch = (torch.ones(2, 1), torch.tensor([[1.0], [-5.0]]))
    >>> weigh = MetaWeightNet([clean], lr=0.1)
    >>> weigh.observe(model, squared, batch)
    >>> weigh(squared(model, batch)).shape
    torch.Size([])
    """

    def __init__(
        self,
        val_loader: Iterable[Any],
        lr: float | torch.optim.Optimizer,
        *,
        hidden: int = 100,
        meta_lr: float = 1e-3,
        meta_weight_decay: float = 1e-4,
        every: int = 1,
        params: str | Iterable[str] | None = None,
        inner: str = "sgd",
        method: str = "auto",
        normalize: str = "none",
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
        check_rate("MetaWeightNet", lr, inner)
        if not (isinstance(hidden, int) and hidden >= 1):
            raise ValueError(f"MetaWeightNet: hidden={hidden!r}; pass a whole number of units >= 1")
        self.lr = lr
        self.inner = inner
        self.method = method
        self.params = check_params("MetaWeightNet", params)
        self.weight_net = nn.Sequential(
            nn.Linear(1, hidden), nn.ReLU(), nn.Linear(hidden, 1), nn.Sigmoid()
        )
        self.meta_optimizer = torch.optim.Adam(
            self.weight_net.parameters(), lr=meta_lr, weight_decay=meta_weight_decay
        )

    def raw_weights(self, loss: Tensor, *, mask: Tensor | None = None, **context: Any) -> Tensor:
        """Values of the net at the losses.

        Parameters
        ----------
        loss : Tensor of shape (n_rows,)
            Losses by row.
        mask : Tensor of bool, default=None
            Not used.
        **context : Tensor
            Not used.

        Returns
        -------
        Tensor of shape (n_rows,)
        """
        self._check_observed(loss)
        return self._values(loss)

    def _values(self, losses: Tensor) -> Tensor:
        dtype = next(self.weight_net.parameters()).dtype
        return self.weight_net(losses.to(dtype).unsqueeze(-1)).squeeze(-1)

    def _look(self, model: nn.Module, per_item_loss: Callable, batch: Any) -> None:
        params = chosen_params(self._name(), model, self.params)
        rates = step_rates(self._name(), model, params, self.lr, self.inner)
        if rates is None or not self._due():
            return

        @torch.no_grad()
        def weigh(losses: Tensor) -> Tensor:
            return self._values(losses)

        found = validation_slopes(
            self._name(),
            model,
            per_item_loss,
            batch,
            self._batches.draw(),
            weigh,
            params,
            rates,
            method=self.method,
            group=self.process_group,
        )
        with torch.enable_grad():
            surrogate = (self._values(found.losses) * found.slopes).sum()
            step_net(self.weight_net, self.meta_optimizer, surrogate, self.process_group)

    def _shared(self) -> tuple[Any, ...]:
        return (self.lr,) if isinstance(self.lr, torch.optim.Optimizer) else ()

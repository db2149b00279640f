"""Weights by a net that reads a batch as a whole, learned on the validation loss."""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn

from reweight.torch._functional import check_params, chosen_params
from reweight.torch._look_ahead import check_rate, step_net, step_rates, validation_slopes
from reweight.torch._observing import MetaWeighter
from reweight.torch._reduction import positive
from reweight.torch.gradient_alignment import METHODS


class BilevelWeighter(MetaWeighter):
    r"""Weights :math:`w = \mathrm{softmax}(\phi(z))` over a batch, learned by a look ahead.

    The lower level is one step of the model on the weighted batch; the upper
    level moves :math:`\phi` so that the validation loss after that step falls.
    The derivative through the step is exact and takes one directional
    derivative, without a graph of second order.

    Parameters
    ----------
    val_loader : iterable
        Batches of the validation task, in the form that ``per_item_loss`` takes;
        it is iterated over again and again.
    weight_net : Module
        :math:`\phi`, from inputs of shape (n_rows, n_inputs) to scores of shape
        (n_rows,) or (n_rows, 1). It may let the rows of a batch attend to each
        other. Inputs are `features`, or the loss and its difference from the
        mean of the batch.
    lr : float or Optimizer
        Size of the step that is looked ahead, or the optimiser in training, whose
        current learning rates are taken.
    features : callable, default=None
        ``features(model, batch)`` returns inputs of `weight_net`, such as pooled
        hidden states; called by `observe`. None reads losses.
    meta_optimizer : callable, default=None
        Parameters of the net to their optimiser; None is Adam with a learning
        rate of 1e-3.
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
    normalize, warmup_steps, max_weight, on_nonfinite, process_group : optional
        As in `LossWeighter`.

    Attributes
    ----------
    meta_optimizer : Optimizer
        Optimiser of the net.

    Notes
    -----
    To train in stages, freeze the net by ``weigh.weight_net.requires_grad_(False)``:
    `observe` then costs nothing but `features`. The net of the source is not
    known, so none is built in. In a distributed run the net must start alike on
    all processes. Copies refer to the same `val_loader` and optimiser of the
    model. Resuming from a state repeats the batches of a loader that does not
    shuffle.

    References
    ----------
    Yu, J., Han, Y., Zhou, R., Tang, Y., Huang, X., Wang, Z. and Tao, D. (2025).
    Dynamic bi-level data weighting for language model training. ICML.

    Examples
    --------
    >>> import torch
    >>> from reweight.torch import BilevelWeighter
    >>> model = torch.nn.Linear(1, 1)
    >>> squared = lambda call, batch: (call(batch[0]) - batch[1]).square().squeeze(1)
    >>> clean = (torch.ones(2, 1), torch.ones(2, 1))
    >>> batch = (torch.ones(2, 1), torch.tensor([[1.0], [-5.0]]))
    >>> weigh = BilevelWeighter([clean], torch.nn.Linear(2, 1), lr=0.1)
    >>> weigh.observe(model, squared, batch)
    >>> round(float(weigh.weights(squared(model, batch)).mean().detach()), 4)
    1.0
    """

    def __init__(
        self,
        val_loader: Iterable[Any],
        weight_net: nn.Module,
        lr: float | torch.optim.Optimizer,
        *,
        features: Callable[[nn.Module, Any], Tensor] | None = None,
        meta_optimizer: Callable[[Iterable[nn.Parameter]], torch.optim.Optimizer] | None = None,
        every: int = 1,
        params: str | Iterable[str] | None = None,
        inner: str = "sgd",
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
        check_rate("BilevelWeighter", lr, inner)
        if not isinstance(weight_net, nn.Module) or not list(weight_net.parameters()):
            raise ValueError(
                f"BilevelWeighter: weight_net is a {type(weight_net).__name__}; pass a module with "
                "parameters"
            )
        self.lr = lr
        self.inner = inner
        self.method = method
        self.features = features
        self.params = check_params("BilevelWeighter", params)
        self.weight_net = weight_net
        optimizer = torch.optim.Adam if meta_optimizer is None else meta_optimizer
        self.meta_optimizer = optimizer(weight_net.parameters())

    def raw_weights(
        self,
        loss: Tensor,
        *,
        features: Tensor | None = None,
        mask: Tensor | None = None,
        **context: Any,
    ) -> Tensor:
        """Exponentials of the scores of the net, relative to the largest.

        Parameters
        ----------
        loss : Tensor of shape (n_rows,)
            Losses by row.
        features : Tensor of shape (n_rows, n_inputs), default=None
            Inputs of the net; None takes what `observe` has seen.
        mask : Tensor of bool, default=None
            Active rows; others are at the mean of the losses.
        **context : Tensor
            Not used.

        Returns
        -------
        Tensor of shape (n_rows,)
        """
        seen = self._check_observed(loss)
        scores = self._scores(loss, seen if features is None else features, mask)
        return torch.exp(scores - self.global_extremes(scores, mask)[1])

    def _scores(self, losses: Tensor, features: Tensor | None, mask: Tensor | None) -> Tensor:
        """Scores of the net, one a row."""
        if features is None:
            if self.features is not None:
                raise RuntimeError(
                    "BilevelWeighter: features of this batch are not known; call "
                    "weigh.observe(model, per_item_loss, batch) before, or pass features="
                )
            count = losses.new_tensor(losses.numel()) if mask is None else mask.sum()
            total = self.global_sum(torch.stack([losses.sum(), count.to(losses.dtype)]))
            mean = total[0] / total[1].clamp_min(1)
            centred = losses - mean
            features = torch.stack([losses, centred if mask is None else centred * mask], dim=1)
        dtype = next(self.weight_net.parameters()).dtype
        scores = self.weight_net(features.to(dtype))
        if scores.shape not in (losses.shape, (*losses.shape, 1)):
            raise ValueError(
                f"BilevelWeighter: weight_net returns scores of shape {tuple(scores.shape)} for "
                f"{losses.shape[0]} rows; it must return one a row"
            )
        return scores.reshape(losses.shape)

    def observe(self, model: nn.Module, per_item_loss: Callable, batch: Any) -> None:
        """Read the features of a batch and, when due, train the net.

        Parameters
        ----------
        model : Module
            The model in training; that inside DistributedDataParallel is used.
        per_item_loss : callable
            ``per_item_loss(call, batch)`` returns the losses of the batch, where
            `call` is the model or a functional copy of it.
        batch : object
            The batch that the next call will weight.
        """
        super().observe(model, per_item_loss, batch)

    def _look(self, model: nn.Module, per_item_loss: Callable, batch: Any) -> Tensor | None:
        features = None
        if self.features is not None:
            with torch.no_grad():
                features = self.features(model, batch).detach()
        frozen = not any(p.requires_grad for p in self.weight_net.parameters())
        params = chosen_params(self._name(), model, self.params)
        rates = step_rates(self._name(), model, params, self.lr, self.inner)
        if frozen or rates is None or not self._due():
            return features

        @torch.no_grad()
        def weigh(losses: Tensor) -> Tensor:
            return self._softmax(self._scores(losses, features, None))

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
            scores = self._scores(found.losses, features, None)
            with torch.no_grad():
                weights = self._softmax(scores)
                mean_slope = self.global_sum((weights * found.slopes).sum()) / found.n_rows
                pull = weights * (found.slopes - mean_slope)
            step_net(
                self.weight_net, self.meta_optimizer, (scores * pull).sum(), self.process_group
            )
        return features

    def _softmax(self, scores: Tensor) -> Tensor:
        """Mean-one weights of the rows of this process in the global batch."""
        raw = torch.exp(scores - self.global_extremes(scores)[1])
        total, count = self._totals(raw, None, None)
        return raw / positive(total) * count

    def _shared(self) -> tuple[Any, ...]:
        return (self.lr,) if isinstance(self.lr, torch.optim.Optimizer) else ()

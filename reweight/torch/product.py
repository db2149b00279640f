"""Products of loss weighters, normalised once."""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from reweight.torch.base import REACTIONS, LossWeighter
from reweight.torch.index import IndexWeighter


class ProductWeighter(LossWeighter):
    """Product of the raw weights of several weighters, normalised once.

    What ``a * b`` makes of two weighters. Each factor keeps its own warm-up,
    schedule and cap; how the product is normalised is its own affair.

    Parameters
    ----------
    *factors : LossWeighter
        Weighters with the same `unit`, `aggregate` and `process_group`.
    normalize : {"batch", "dataset", "deferred", "none"}, default=None
        As in `LossWeighter`. None takes the first of "deferred", "batch",
        "dataset", "none" that a factor has.
    warmup_steps : int, default=0
        Steps during which the whole product is one.
    max_weight : float or ("quantile", float), default=None
        Cap on the product.
    mean : float, default=None
        Mean raw weight of the training set, which ``normalize="dataset"``
        divides by. None takes that of the factors that are normalised by the
        data set: the mean of their product where all are `IndexWeighter` of the
        same rows, else the product of their means, which is exact if they are
        uncorrelated.

    Raises
    ------
    ValueError
        If the factors disagree on their unit, aggregation or processes.

    Examples
    --------
    >>> import torch
    >>> from reweight.torch import LossBasedWeighter
    >>> focus = LossBasedWeighter("linupper") * LossBasedWeighter("extremes")
    >>> round(float(focus(torch.tensor([0.0, 1.0, 2.0]))), 4)
    1.3642
    """

    def __init__(
        self,
        *factors: LossWeighter,
        normalize: str | None = None,
        warmup_steps: int = 0,
        max_weight: float | tuple[str, float] | None = None,
        mean: float | None = None,
    ) -> None:
        if not factors or not all(isinstance(factor, LossWeighter) for factor in factors):
            raise ValueError(
                f"ProductWeighter: got {[type(factor).__name__ for factor in factors]}; pass "
                "loss weighters"
            )
        common = {}
        for name in ("unit", "aggregate", "process_group"):
            values = [getattr(factor, name) for factor in factors]
            if any(value != values[0] for value in values):
                raise ValueError(
                    f"ProductWeighter: its factors have {name} {values}; give them the same"
                )
            common[name] = values[0]
        reactions = {factor.on_nonfinite for factor in factors}
        modes = {factor.normalize for factor in factors}
        order = ("deferred", "batch", "dataset", "none")
        super().__init__(
            normalize=normalize or next(mode for mode in order if mode in modes),
            warmup_steps=warmup_steps,
            max_weight=max_weight,
            on_nonfinite=next(reaction for reaction in REACTIONS if reaction in reactions),
            **common,
        )
        self.factors = nn.ModuleList(factors)
        self._mean_is_stated = mean is not None
        mean = _joint_mean(factors) if mean is None else mean
        self.register_buffer("mean", None if mean is None else torch.as_tensor(float(mean)))
        if self.normalize == "dataset":
            self.dataset_mean()

    def raw_weights(self, loss: Tensor, *, mask: Tensor | None = None, **context: Any) -> Tensor:
        """Product of the raw weights of the factors, each after its warm-up and cap.

        Parameters
        ----------
        loss, mask : Tensor
            As in `LossWeighter.raw_weights`.
        **context : Tensor
            Context of all factors.

        Returns
        -------
        Tensor
            Weights in the shape of `loss`.
        """
        product = None
        for factor in self.factors:
            weights = factor._prepared(loss, mask, context)
            product = weights if product is None else product * weights
        return product

    def dataset_mean(self) -> Tensor:
        """Mean of the product over the training set.

        Returns
        -------
        Tensor of shape ()
        """
        return super().dataset_mean() if self.mean is None else self.mean

    def observe(self, model: nn.Module, per_item_loss: Callable, batch: Any) -> None:
        """Let every factor look at the model.

        Parameters
        ----------
        model : Module
            The model in training.
        per_item_loss : callable
            As in `LossWeighter.observe`.
        batch : object
            The batch that the next call will weight.
        """
        for factor in self.factors:
            factor.observe(model, per_item_loss, batch)

    def set_step(self, step: int) -> None:
        """Set the step counter of the product and of its factors.

        Parameters
        ----------
        step : int
            Number of steps already taken.
        """
        super().set_step(step)
        for factor in self.factors:
            factor.set_step(step)

    def _advance(self) -> None:
        super()._advance()
        for factor in self.factors:
            factor._advance()


def _joint_mean(factors: Sequence[LossWeighter]) -> float | None:
    """Mean over the training set of the product of the factors that know theirs."""
    known = list(_known(factors))
    if not known:
        return None
    if all(isinstance(factor, IndexWeighter) for factor in known) and _same_rows(known):
        return float(torch.stack([factor.row_weights for factor in known]).double().prod(0).mean())
    return math.prod(float(factor.dataset_mean()) for factor in known)


def _known(factors: Iterable[LossWeighter]) -> Iterator[LossWeighter]:
    """Factors that are normalised by the data set, those of nested products one by one."""
    for factor in factors:
        if factor.normalize == "dataset":
            if isinstance(factor, ProductWeighter) and not factor._mean_is_stated:
                yield from _known(factor.factors)
            else:
                yield factor


def _same_rows(factors: Sequence[IndexWeighter]) -> bool:
    """Whether weights by index are of the same rows in the same order."""
    first = factors[0]
    if first.keys is None:
        return all(
            f.keys is None and f.row_weights.shape == first.row_weights.shape for f in factors
        )
    return all(f.keys is not None and torch.equal(f.keys, first.keys) for f in factors)

"""Weighters that look at the model before each call, and batches to validate on without end."""

from collections.abc import Callable, Iterable
from copy import deepcopy
from itertools import islice
from typing import Any

import torch
from torch import Tensor, nn

from reweight.torch.base import LossWeighter


class ObservingWeighter(LossWeighter):
    """Base of weighters that need `observe` before each call in training mode.

    Parameters
    ----------
    **settings : Any
        Arguments of `LossWeighter`.
    """

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self._observed = False
        self._seen: Tensor | None = None

    def observe(self, model: nn.Module, per_item_loss: Callable, batch: Any) -> None:
        """Look at the model and at the batch that the next call will weight.

        Nothing happens in evaluation mode, and no look is taken during warm-up.
        Parameters, buffers and random state of the model stay as they are.

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
        if not self.training:
            return
        self._seen = None
        if self._now() >= self.warmup_steps:
            self._seen = self._look(model, per_item_loss, batch)
        self._observed = True

    def _look(self, model: nn.Module, per_item_loss: Callable, batch: Any) -> Tensor | None:
        """What the next call needs to know by row, if anything."""
        raise NotImplementedError

    def _check_observed(self, loss: Tensor) -> Tensor | None:
        """What was seen of the rows of this batch."""
        if self.training and not self._observed:
            raise RuntimeError(
                f"{self._name()}: the batch was not observed; call weigh.observe(model, "
                "per_item_loss, batch) before each weigh(loss)"
            )
        if self._seen is not None and self._seen.shape[0] != loss.shape[0]:
            raise ValueError(
                f"{self._name()}: {self._seen.shape[0]} rows were observed but there are losses "
                f"of {loss.shape[0]}; observe the batch that the call weights"
            )
        return self._seen

    def _advance(self) -> None:
        super()._advance()
        self._observed, self._seen = False, None

    def __getstate__(self) -> dict:
        return {**super().__getstate__(), "_observed": False, "_seen": None}


class Batches:
    """Batches of a loader, from the start again after the last.

    Parameters
    ----------
    owner : str
        Name of the class for messages.
    loader : iterable
        What yields batches, each time it is iterated over.

    Raises
    ------
    TypeError
        If the loader cannot be iterated over again.
    """

    def __init__(self, owner: str, loader: Iterable[Any]) -> None:
        if not isinstance(loader, Iterable) or iter(loader) is loader:
            raise TypeError(
                f"{owner}: val_loader is a {type(loader).__name__}, which cannot be iterated over "
                "again and again; pass a DataLoader or a list of batches"
            )
        self.owner = owner
        self.loader = loader
        self.position = 0
        self._iterator: Any = None

    def draw(self) -> Any:
        """The next batch.

        Returns
        -------
        object

        Raises
        ------
        ValueError
            If the loader yields nothing.
        """
        if self._iterator is None:
            self._iterator = islice(self.loader, self.position, None)
        for _ in range(2):
            for batch in self._iterator:
                self.position += 1
                return batch
            self._iterator, self.position = iter(self.loader), 0
        raise ValueError(f"{self.owner}: val_loader yields no batch; pass one with clean data")

    def seek(self, position: int) -> None:
        """Go on after so many batches of a pass.

        Parameters
        ----------
        position : int
            Number of batches of the pass already drawn.
        """
        self.position, self._iterator = position, None

    def __deepcopy__(self, memo: dict) -> "Batches":
        copied = type(self)(self.owner, self.loader)
        copied.position = self.position
        return copied

    def __getstate__(self) -> dict:
        return {**self.__dict__, "_iterator": None}


class MetaWeighter(ObservingWeighter):
    """Base of weighters with a validation stream and, perhaps, a net with an optimiser.

    Parameters
    ----------
    val_loader : iterable
        Batches of clean data, in the form that ``per_item_loss`` takes.
    every : int
        Steps from one look at the validation loss to the next.
    **settings : Any
        Arguments of `LossWeighter`.
    """

    def __init__(self, val_loader: Iterable[Any], every: int, **settings: Any) -> None:
        super().__init__(**settings)
        if not (isinstance(every, int) and every >= 1):
            raise ValueError(f"{self._name()}: every={every!r}; pass a whole number of steps >= 1")
        self.every = every
        self._batches = Batches(self._name(), val_loader)
        self.meta_optimizer: torch.optim.Optimizer | None = None

    def _due(self) -> bool:
        return (self._now() - self.warmup_steps) % self.every == 0

    def _shared(self) -> tuple[Any, ...]:
        """What copies refer to rather than copy."""
        return ()

    def __deepcopy__(self, memo: dict) -> "MetaWeighter":
        memo |= {id(thing): thing for thing in self._shared()}
        copied = type(self).__new__(type(self))
        memo[id(self)] = copied
        copied.__setstate__(deepcopy(self.__getstate__(), memo))
        return copied

    def get_extra_state(self) -> dict:
        """Position in the validation stream and state of the optimiser of the net.

        Returns
        -------
        dict
        """
        optimizer = self.meta_optimizer
        return {
            "position": self._batches.position,
            "optimizer": None if optimizer is None else optimizer.state_dict(),
        }

    def set_extra_state(self, state: dict) -> None:
        """Go on from a saved state.

        Parameters
        ----------
        state : dict
            What `get_extra_state` returned.
        """
        self._batches.seek(state["position"])
        if self.meta_optimizer is not None:
            self.meta_optimizer.load_state_dict(deepcopy(state["optimizer"]))

    def _apply(self, fn: Any, recurse: bool = True) -> nn.Module:
        super()._apply(fn, recurse)
        if self.meta_optimizer is not None:
            # Loading moves the state of the optimiser to where its parameters now are.
            self.meta_optimizer.load_state_dict(self.meta_optimizer.state_dict())
        return self

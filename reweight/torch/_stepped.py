"""A module that counts training steps, and settings that follow the count."""

from typing import Any

import torch
from torch import Tensor, nn

from reweight.torch.schedule import Anneal, Schedule, check_schedule

HALF = (torch.float16, torch.bfloat16)


class SteppedModule(nn.Module):
    """A module with a step counter on the device and on the host, and with schedules.

    The counter on the host spares eager code the wait for the buffer; compiled
    code, in which a changing number would compile anew, reads the buffer.

    Attributes
    ----------
    step : Tensor of shape ()
        Training steps taken, a buffer.
    """

    step: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("step", torch.zeros((), dtype=torch.int64))
        self._schedules: dict[str, Schedule] = {}
        self._schedule_bounds: dict[str, tuple[float, bool]] = {}
        self._externally_stepped = False
        # None while only the buffer knows the count.
        self._host_step: int | None = 0

    def set_step(self, step: int) -> None:
        """Set the step counter, and with it warm-up and schedules.

        Parameters
        ----------
        step : int
            Number of steps already taken.
        """
        self.step.fill_(step)
        self._host_step = int(step)
        self._externally_stepped = True
        for name, value in self._schedules.items():
            if callable(value):
                self._buffers[f"_{name}"].fill_(self._evaluate(name))

    def register_schedule(
        self, name: str, value: Schedule, *, low: float = 0.0, closed: bool = False
    ) -> None:
        """Declare a hyper-parameter that may be a number or a function of the step.

        Parameters
        ----------
        name : str
            Name of the hyper-parameter.
        value : float or callable
            Constant, `Anneal`, or ``callable(step) -> float``.
        low : float, default=0.0
            Lower bound of the value.
        closed : bool, default=False
            Whether the bound itself is allowed.
        """
        self._schedules[name] = check_schedule(self._name(), name, value, low=low, closed=closed)
        self._schedule_bounds[name] = (low, closed)
        if callable(value):
            self.register_buffer(f"_{name}", torch.zeros(()), persistent=False)
            self._buffers[f"_{name}"].fill_(self._evaluate(name))

    def scheduled(self, name: str) -> float | Tensor:
        """Value of a hyper-parameter at the current step, without waiting for the device.

        Parameters
        ----------
        name : str
            Name given to `register_schedule`.

        Returns
        -------
        float or Tensor of shape ()
            A tensor in compiled code.
        """
        value = self._schedules[name]
        if not callable(value):
            return value
        if not torch.compiler.is_compiling():
            return self._evaluate(name)
        if isinstance(value, Anneal):
            return value(self.step)
        if not self._externally_stepped:
            raise RuntimeError(
                f"{self._name()}: compiled code cannot call the schedule of {name}; call "
                "weigh.set_step(step) before each step, or use Anneal"
            )
        return self._buffers[f"_{name}"]

    def _now(self) -> int:
        """Steps taken, from the counter on the host."""
        if self._host_step is None:
            self._host_step = int(self.step)
        return self._host_step

    def _advance(self) -> None:
        """Count a training step in the buffer and, where it is known, on the host."""
        self._buffers["step"].add_(1)
        if torch.compiler.is_compiling():
            self._host_step = None
        elif self._host_step is not None:
            self._host_step += 1

    def _evaluate(self, name: str) -> float:
        low, closed = self._schedule_bounds[name]
        value = self._schedules[name](self._now())
        return check_schedule(self._name(), name, value, low=low, closed=closed)

    def _load_from_state_dict(self, *args: Any, **kwargs: Any) -> None:
        super()._load_from_state_dict(*args, **kwargs)
        self._host_step = None

    def _apply(self, fn: Any, recurse: bool = True) -> nn.Module:
        """Follow the model to its device, but keep statistics out of half precision."""

        def keep_precision(tensor: Tensor) -> Tensor:
            moved = fn(tensor)
            lost = moved.dtype in HALF and tensor.dtype not in HALF
            return tensor.to(moved.device) if lost else moved

        return super()._apply(keep_precision, recurse)

    def _name(self) -> str:
        return type(self).__name__

"""Hyper-parameters that change over the steps of a training run."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

Schedule = float | Callable[[int], float]
KINDS = ("linear", "cosine", "exponential")


@dataclass(frozen=True)
class Anneal:
    """A value that moves from `start` to `end` within `steps` steps and stays there.

    Of all schedules it is the one that compiled code can follow by itself,
    because it is arithmetic on the step counter.

    Parameters
    ----------
    start : float
        Value at step 0.
    end : float
        Value from step `steps` on.
    steps : int
        Number of steps of the transition, at least one.
    kind : {"linear", "cosine", "exponential"}, default="linear"
        Straight line, half a cosine wave, or straight line in the logarithm,
        which needs two values of the same sign.

    Raises
    ------
    ValueError
        If `steps` is below one, `kind` is unknown, a value is not finite, or
        the exponential kind meets values that have no common sign.

    Examples
    --------
    >>> from reweight.torch import Anneal
    >>> temperature = Anneal(100.0, 1.0, steps=2, kind="exponential")
    >>> [round(temperature(step), 6) for step in range(4)]
    [100.0, 10.0, 1.0, 1.0]
    """

    start: float
    end: float
    steps: int
    kind: str = "linear"

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"Anneal: kind={self.kind!r} is unknown; choose one of {list(KINDS)}")
        if self.steps < 1:
            raise ValueError(f"Anneal: steps={self.steps}; a transition takes at least one step")
        if not (math.isfinite(self.start) and math.isfinite(self.end)):
            raise ValueError(
                f"Anneal: start={self.start} and end={self.end}; both values must be finite"
            )
        if self.kind == "exponential" and self.start * self.end <= 0:
            raise ValueError(
                f"Anneal: start={self.start} and end={self.end} have no common sign; the "
                "exponential kind needs one, use kind='linear'"
            )

    def __call__(self, step: int | Tensor) -> float | Tensor:
        """Value at a step.

        Parameters
        ----------
        step : int or Tensor of shape ()
            Number of steps already taken.

        Returns
        -------
        float or Tensor of shape ()
            A tensor if `step` is one.
        """
        if isinstance(step, Tensor):
            share = (step / self.steps).clamp(0.0, 1.0)
            cos, exp = torch.cos, torch.exp
        else:
            share = min(max(step / self.steps, 0.0), 1.0)
            cos, exp = math.cos, math.exp
        if self.kind == "exponential":
            return self.start * exp(share * math.log(self.end / self.start))
        if self.kind == "cosine":
            share = (1.0 - cos(math.pi * share)) / 2.0
        return self.start + share * (self.end - self.start)


def check_schedule(
    owner: str, name: str, value: Schedule, *, low: float, closed: bool = False
) -> Schedule:
    """A constant that is finite and above its bound, or a callable as it is.

    Parameters
    ----------
    owner : str
        Name of the class for the message.
    name : str
        Name of the argument.
    value : float or callable
        Constant, or function of the step.
    low : float
        Lower bound of the value.
    closed : bool, default=False
        Whether the bound itself is allowed.

    Returns
    -------
    float or callable

    Raises
    ------
    ValueError
        If a constant is out of bounds.
    """
    if callable(value):
        return value
    value = float(value)
    if not (math.isfinite(value) and (value > low or (closed and value == low))):
        raise ValueError(
            f"{owner}: {name}={value}; it must be finite and {'>=' if closed else '>'} {low}"
        )
    return value

"""What a benchmark is made of."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Case:
    """One library solving one problem of one size.

    Parameters
    ----------
    library : str
        Whose code runs.
    size : dict of str to int
        What makes the problem large, such as rows and columns.
    run : callable
        Solves the problem; only this is timed.
    quality : callable, default=None
        Figures that judge what `run` returned, by name, so that nobody wins by being wrong.
    """

    library: str
    size: dict[str, int]
    run: Callable[[], Any]
    quality: Callable[[Any], dict[str, float]] = field(default=lambda solution: {})

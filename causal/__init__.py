"""Weights that balance treatment groups, and effects with honest intervals."""

from importlib import import_module
from typing import TYPE_CHECKING

from reweight import __version__

if TYPE_CHECKING:
    from causal.balancing.entropy import EntropyBalancing
    from causal.balancing.stable import StableBalancing

_PUBLIC = {
    "EntropyBalancing": "causal.balancing.entropy",
    "StableBalancing": "causal.balancing.stable",
}

__all__ = sorted(_PUBLIC)


def __getattr__(name: str):
    if name in _PUBLIC:
        return getattr(import_module(_PUBLIC[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(set(globals()) | set(_PUBLIC))

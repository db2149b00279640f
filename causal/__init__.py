"""Weights that balance treatment groups, and effects with honest intervals."""

from importlib import import_module
from typing import TYPE_CHECKING

from reweight import __version__

if TYPE_CHECKING:
    pass

_PUBLIC: dict[str, str] = {}

__all__ = sorted(_PUBLIC)


def __getattr__(name: str):
    if name in _PUBLIC:
        return getattr(import_module(_PUBLIC[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(set(globals()) | set(_PUBLIC))

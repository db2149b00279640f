"""Weights inside PyTorch training loops: reducers of losses, index-keyed weights, samplers."""

from importlib import import_module
from typing import TYPE_CHECKING

try:
    import torch
except ImportError as error:
    raise ImportError('reweight.torch needs PyTorch: pip install "counterpoise[torch]"') from error

if TYPE_CHECKING:
    from reweight.torch.base import LossWeighter
    from reweight.torch.loss_based import LossBasedWeighter
    from reweight.torch.product import ProductWeighter
    from reweight.torch.schedule import Anneal

_PUBLIC = {
    "Anneal": "reweight.torch.schedule",
    "LossBasedWeighter": "reweight.torch.loss_based",
    "LossWeighter": "reweight.torch.base",
    "ProductWeighter": "reweight.torch.product",
}

__all__ = sorted(_PUBLIC)


def __getattr__(name: str):
    if name in _PUBLIC:
        return getattr(import_module(_PUBLIC[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(set(globals()) | set(_PUBLIC))

"""Weights that balance treatment groups, and effects with honest intervals."""

from importlib import import_module
from typing import TYPE_CHECKING

from reweight import __version__

if TYPE_CHECKING:
    from causal.balancing.cbps import CBPS
    from causal.balancing.entropy import EntropyBalancing
    from causal.balancing.propensity import PropensityWeighting
    from causal.balancing.stable import StableBalancing
    from causal.balancing.tilting import InverseProbabilityTilting
    from causal.datasets.kang_schafer import make_kang_schafer
    from causal.datasets.lalonde import load_lalonde

_PUBLIC = {
    "CBPS": "causal.balancing.cbps",
    "EntropyBalancing": "causal.balancing.entropy",
    "InverseProbabilityTilting": "causal.balancing.tilting",
    "PropensityWeighting": "causal.balancing.propensity",
    "StableBalancing": "causal.balancing.stable",
    "load_lalonde": "causal.datasets.lalonde",
    "make_kang_schafer": "causal.datasets.kang_schafer",
}

__all__ = sorted(_PUBLIC)


def __getattr__(name: str):
    if name in _PUBLIC:
        return getattr(import_module(_PUBLIC[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(set(globals()) | set(_PUBLIC))

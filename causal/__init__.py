"""Weights that balance treatment groups, and effects with honest intervals."""

from importlib import import_module
from typing import TYPE_CHECKING

from reweight import __version__

if TYPE_CHECKING:
    from causal.balancing.cbps import CBPS
    from causal.balancing.energy import EnergyBalancing
    from causal.balancing.entropy import EntropyBalancing
    from causal.balancing.kernel import KernelBalancing
    from causal.balancing.propensity import PropensityWeighting
    from causal.balancing.stable import StableBalancing
    from causal.balancing.tilting import InverseProbabilityTilting
    from causal.datasets.kang_schafer import make_kang_schafer
    from causal.datasets.lalonde import load_lalonde
    from causal.effects.cross_fitter import CrossFitter
    from causal.effects.target import make_effect_target
    from causal.effects.weighted_effect import WeightedEffect

_PUBLIC = {
    "CBPS": "causal.balancing.cbps",
    "CrossFitter": "causal.effects.cross_fitter",
    "EnergyBalancing": "causal.balancing.energy",
    "EntropyBalancing": "causal.balancing.entropy",
    "InverseProbabilityTilting": "causal.balancing.tilting",
    "KernelBalancing": "causal.balancing.kernel",
    "PropensityWeighting": "causal.balancing.propensity",
    "StableBalancing": "causal.balancing.stable",
    "WeightedEffect": "causal.effects.weighted_effect",
    "load_lalonde": "causal.datasets.lalonde",
    "make_effect_target": "causal.effects.target",
    "make_kang_schafer": "causal.datasets.kang_schafer",
}

__all__ = sorted(_PUBLIC)


def __getattr__(name: str):
    if name in _PUBLIC:
        return getattr(import_module(_PUBLIC[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(set(globals()) | set(_PUBLIC))

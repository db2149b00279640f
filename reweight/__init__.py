"""What a weight is: diagnostics, kernels, certified solvers and the families built on them."""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from reweight.base import Weighter
    from reweight.cross_fitting import cross_fit
    from reweight.normalization import effective_sample_size, normalize_weights
    from reweight.resampling import resample_weights
    from reweight.reweighted import Reweighted
    from reweight.solvers.result import SolverResult

_PUBLIC = {
    "Reweighted": "reweight.reweighted",
    "SolverResult": "reweight.solvers.result",
    "Weighter": "reweight.base",
    "cross_fit": "reweight.cross_fitting",
    "effective_sample_size": "reweight.normalization",
    "normalize_weights": "reweight.normalization",
    "resample_weights": "reweight.resampling",
}

__all__ = sorted(_PUBLIC)
__version__ = "0.1.0"


def __getattr__(name: str):
    if name in _PUBLIC:
        return getattr(import_module(_PUBLIC[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(set(globals()) | set(_PUBLIC))

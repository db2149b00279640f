"""Weights that balance treatment groups, and effects with honest intervals."""

from importlib import import_module
from typing import TYPE_CHECKING

from reweight import __version__

if TYPE_CHECKING:
    from causal.balancing.cbps import CBPS
    from causal.balancing.energy import EnergyBalancing
    from causal.balancing.entropy import EntropyBalancing
    from causal.balancing.ipm import IPMBalancing
    from causal.balancing.kernel import KernelBalancing
    from causal.balancing.propensity import PropensityWeighting
    from causal.balancing.stable import StableBalancing
    from causal.balancing.tilting import InverseProbabilityTilting
    from causal.balancing.uniform_transformer import UniformTransformer
    from causal.balancing.uniform_transformer_effect import UniformTransformerEffect
    from causal.datasets.cate import make_cate
    from causal.datasets.kang_schafer import make_kang_schafer
    from causal.datasets.lalonde import load_lalonde
    from causal.datasets.training_loop import simulate_training_loop
    from causal.effects.cross_fitter import CrossFitter
    from causal.effects.dr_learner import DRLearner
    from causal.effects.effect_tables import effect_calibration, effect_profile
    from causal.effects.interactive import InteractiveDML
    from causal.effects.losses import dr_loss, r_loss, r_score
    from causal.effects.overlap import overlap_report
    from causal.effects.partially_linear import PartiallyLinearDML
    from causal.effects.plots import (
        effect_calibration_plot,
        effect_profile_plot,
        overlap_plot,
        sorted_effect_plot,
    )
    from causal.effects.pseudo_outcome import pseudo_outcome, pseudo_outcome_weights
    from causal.effects.pseudo_outcome_regressor import PseudoOutcomeRegressor
    from causal.effects.r_learner import RLearner
    from causal.effects.rs_learner import RSLearner
    from causal.effects.s_learner import SLearner
    from causal.effects.t_learner import TLearner
    from causal.effects.target import make_effect_target
    from causal.effects.u_learner import ULearner
    from causal.effects.weighted_effect import WeightedEffect
    from causal.effects.x_learner import XLearner
    from causal.experiments.arm_weighter import ArmWeighter
    from causal.experiments.weighted_training import WeightedTraining

_PUBLIC = {
    "ArmWeighter": "causal.experiments.arm_weighter",
    "CBPS": "causal.balancing.cbps",
    "CrossFitter": "causal.effects.cross_fitter",
    "DRLearner": "causal.effects.dr_learner",
    "EnergyBalancing": "causal.balancing.energy",
    "EntropyBalancing": "causal.balancing.entropy",
    "IPMBalancing": "causal.balancing.ipm",
    "InteractiveDML": "causal.effects.interactive",
    "InverseProbabilityTilting": "causal.balancing.tilting",
    "KernelBalancing": "causal.balancing.kernel",
    "PartiallyLinearDML": "causal.effects.partially_linear",
    "PropensityWeighting": "causal.balancing.propensity",
    "PseudoOutcomeRegressor": "causal.effects.pseudo_outcome_regressor",
    "RLearner": "causal.effects.r_learner",
    "RSLearner": "causal.effects.rs_learner",
    "SLearner": "causal.effects.s_learner",
    "StableBalancing": "causal.balancing.stable",
    "TLearner": "causal.effects.t_learner",
    "ULearner": "causal.effects.u_learner",
    "UniformTransformer": "causal.balancing.uniform_transformer",
    "UniformTransformerEffect": "causal.balancing.uniform_transformer_effect",
    "WeightedEffect": "causal.effects.weighted_effect",
    "WeightedTraining": "causal.experiments.weighted_training",
    "XLearner": "causal.effects.x_learner",
    "dr_loss": "causal.effects.losses",
    "effect_calibration": "causal.effects.effect_tables",
    "effect_calibration_plot": "causal.effects.plots",
    "effect_profile": "causal.effects.effect_tables",
    "effect_profile_plot": "causal.effects.plots",
    "load_lalonde": "causal.datasets.lalonde",
    "make_cate": "causal.datasets.cate",
    "make_effect_target": "causal.effects.target",
    "make_kang_schafer": "causal.datasets.kang_schafer",
    "overlap_plot": "causal.effects.plots",
    "overlap_report": "causal.effects.overlap",
    "pseudo_outcome": "causal.effects.pseudo_outcome",
    "pseudo_outcome_weights": "causal.effects.pseudo_outcome",
    "r_loss": "causal.effects.losses",
    "r_score": "causal.effects.losses",
    "simulate_training_loop": "causal.datasets.training_loop",
    "sorted_effect_plot": "causal.effects.plots",
}

__all__ = sorted(_PUBLIC)


def __getattr__(name: str):
    if name in _PUBLIC:
        return getattr(import_module(_PUBLIC[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(set(globals()) | set(_PUBLIC))

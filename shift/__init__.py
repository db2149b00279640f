"""Weights for data that differ from where they are used."""

from importlib import import_module
from typing import TYPE_CHECKING

from reweight import __version__

if TYPE_CHECKING:
    from shift.covariate.classifier_density_ratio import ClassifierDensityRatio
    from shift.covariate.double_kernel_mean_matching import DoubleKernelMeanMatching
    from shift.covariate.double_weighting_classifier import DoubleWeightingClassifier
    from shift.covariate.kernel_mean_matching import KernelMeanMatching
    from shift.covariate.kliep import KLIEP
    from shift.covariate.plots import domain_score_histogram, source_weight_plot
    from shift.covariate.robust_bias_aware import RobustBiasAwareClassifier
    from shift.covariate.rulsif import RuLSIF
    from shift.covariate.shift_test import covariate_shift_test
    from shift.covariate.ulsif import ULSIF
    from shift.datasets.block_model import make_block_model
    from shift.datasets.covariate_shift import make_covariate_shift
    from shift.datasets.target_shift import make_target_shift
    from shift.structure.edge_weights import edge_probability, edge_weights, structure_shift
    from shift.structure.structural_reweighter import StructuralReweighter
    from shift.target.bbse import BBSE
    from shift.target.l2iwe import L2IWE
    from shift.target.label_shift_classifier import LabelShiftClassifier
    from shift.target.mlls import MLLS
    from shift.target.plots import class_pair_plot, label_prior_plot, weight_function_plot
    from shift.target.retasa import ReTaSA
    from shift.target.rlls import RLLS
    from shift.target.target_kernel_mean_matching import TargetKernelMeanMatching

_PUBLIC: dict[str, str] = {
    "BBSE": "shift.target.bbse",
    "ClassifierDensityRatio": "shift.covariate.classifier_density_ratio",
    "DoubleKernelMeanMatching": "shift.covariate.double_kernel_mean_matching",
    "DoubleWeightingClassifier": "shift.covariate.double_weighting_classifier",
    "KLIEP": "shift.covariate.kliep",
    "KernelMeanMatching": "shift.covariate.kernel_mean_matching",
    "L2IWE": "shift.target.l2iwe",
    "LabelShiftClassifier": "shift.target.label_shift_classifier",
    "MLLS": "shift.target.mlls",
    "RLLS": "shift.target.rlls",
    "ReTaSA": "shift.target.retasa",
    "RobustBiasAwareClassifier": "shift.covariate.robust_bias_aware",
    "RuLSIF": "shift.covariate.rulsif",
    "StructuralReweighter": "shift.structure.structural_reweighter",
    "TargetKernelMeanMatching": "shift.target.target_kernel_mean_matching",
    "ULSIF": "shift.covariate.ulsif",
    "class_pair_plot": "shift.target.plots",
    "covariate_shift_test": "shift.covariate.shift_test",
    "domain_score_histogram": "shift.covariate.plots",
    "edge_probability": "shift.structure.edge_weights",
    "edge_weights": "shift.structure.edge_weights",
    "label_prior_plot": "shift.target.plots",
    "make_block_model": "shift.datasets.block_model",
    "make_covariate_shift": "shift.datasets.covariate_shift",
    "make_target_shift": "shift.datasets.target_shift",
    "source_weight_plot": "shift.covariate.plots",
    "structure_shift": "shift.structure.edge_weights",
    "weight_function_plot": "shift.target.plots",
}

__all__ = sorted(_PUBLIC)


def __getattr__(name: str):
    if name in _PUBLIC:
        return getattr(import_module(_PUBLIC[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(set(globals()) | set(_PUBLIC))

"""Weights inside PyTorch training loops: reducers of losses, index-keyed weights, samplers."""

from importlib import import_module
from typing import TYPE_CHECKING

try:
    import torch
except ImportError as error:
    raise ImportError('reweight.torch needs PyTorch: pip install "counterpoise[torch]"') from error

if TYPE_CHECKING:
    from reweight.torch.adapters import WeightedNetMixin, trainer_compute_loss
    from reweight.torch.base import LossWeighter
    from reweight.torch.bilevel import BilevelWeighter
    from reweight.torch.class_balanced import ClassBalancedWeighter
    from reweight.torch.criterion import WeightedCriterion
    from reweight.torch.etf_classifier import ETFClassifier
    from reweight.torch.fisher import fisher_information
    from reweight.torch.focal import FocalLoss
    from reweight.torch.gradient_alignment import alignment
    from reweight.torch.index import IndexWeighter, WithIndex
    from reweight.torch.influence import SelfInfluenceWeighter, self_influence
    from reweight.torch.initialization import TargetVarianceRescaling, layer_index_init_, lsuv_
    from reweight.torch.label_correction import BackwardCorrectionLoss, ForwardCorrectionLoss
    from reweight.torch.learn_to_reweight import LearnToReweight
    from reweight.torch.local_pair import LocalPairWeighter
    from reweight.torch.logit_adjustment import LogitAdjustment
    from reweight.torch.loss_based import LossBasedWeighter
    from reweight.torch.meta_weight_net import MetaWeightNet
    from reweight.torch.product import ProductWeighter
    from reweight.torch.quantile_aggregator import DeepQuantileAggregator
    from reweight.torch.regularization import (
        CautiousWeightDecay,
        MaxNormConstraint,
        RowEquilibration,
        WeightCompander,
        norm_loss,
    )
    from reweight.torch.residual import ResidualScoringLoss, ResidualWeighter
    from reweight.torch.sampler import ImportanceSampler
    from reweight.torch.schedule import Anneal
    from reweight.torch.shrink_match import ShrinkMatchLoss
    from reweight.torch.transition import TransitionWeighter
    from reweight.torch.volume_minimization import volmin_transition

_PUBLIC = {
    "Anneal": "reweight.torch.schedule",
    "BackwardCorrectionLoss": "reweight.torch.label_correction",
    "BilevelWeighter": "reweight.torch.bilevel",
    "CautiousWeightDecay": "reweight.torch.regularization",
    "ClassBalancedWeighter": "reweight.torch.class_balanced",
    "DeepQuantileAggregator": "reweight.torch.quantile_aggregator",
    "ETFClassifier": "reweight.torch.etf_classifier",
    "FocalLoss": "reweight.torch.focal",
    "ForwardCorrectionLoss": "reweight.torch.label_correction",
    "ImportanceSampler": "reweight.torch.sampler",
    "IndexWeighter": "reweight.torch.index",
    "LearnToReweight": "reweight.torch.learn_to_reweight",
    "LocalPairWeighter": "reweight.torch.local_pair",
    "LogitAdjustment": "reweight.torch.logit_adjustment",
    "LossBasedWeighter": "reweight.torch.loss_based",
    "LossWeighter": "reweight.torch.base",
    "MaxNormConstraint": "reweight.torch.regularization",
    "MetaWeightNet": "reweight.torch.meta_weight_net",
    "ProductWeighter": "reweight.torch.product",
    "ResidualScoringLoss": "reweight.torch.residual",
    "ResidualWeighter": "reweight.torch.residual",
    "RowEquilibration": "reweight.torch.regularization",
    "SelfInfluenceWeighter": "reweight.torch.influence",
    "ShrinkMatchLoss": "reweight.torch.shrink_match",
    "TargetVarianceRescaling": "reweight.torch.initialization",
    "TransitionWeighter": "reweight.torch.transition",
    "WeightCompander": "reweight.torch.regularization",
    "WeightedCriterion": "reweight.torch.criterion",
    "WeightedNetMixin": "reweight.torch.adapters",
    "WithIndex": "reweight.torch.index",
    "alignment": "reweight.torch.gradient_alignment",
    "fisher_information": "reweight.torch.fisher",
    "layer_index_init_": "reweight.torch.initialization",
    "lsuv_": "reweight.torch.initialization",
    "norm_loss": "reweight.torch.regularization",
    "self_influence": "reweight.torch.influence",
    "trainer_compute_loss": "reweight.torch.adapters",
    "volmin_transition": "reweight.torch.volume_minimization",
}

__all__ = sorted(_PUBLIC)


def __getattr__(name: str):
    if name in _PUBLIC:
        return getattr(import_module(_PUBLIC[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(set(globals()) | set(_PUBLIC))

"""What a weight is: diagnostics, kernels, certified solvers and the families built on them."""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from reweight.base import Weighter
    from reweight.cross_fitting import cross_fit
    from reweight.datasets.noisy_labels import make_noisy_labels
    from reweight.datasets.quantile_models import make_quantile_models
    from reweight.datasets.response_errors import make_response_errors
    from reweight.datasets.timber_reuse import make_timber_reuse
    from reweight.diagnostics.balance_table import balance_table
    from reweight.diagnostics.distances import domain_auc, energy_distance, mmd, weighted_ks
    from reweight.diagnostics.plots import (
        love_plot,
        mirrored_propensity_histogram,
        weight_histogram,
    )
    from reweight.diagnostics.weight_report import weight_report
    from reweight.linear.kalman_regression import KalmanLinearRegression
    from reweight.linear.local_surrogate import LocalSurrogateSensitivity
    from reweight.metric_space.magnitude import magnitude, magnitude_function
    from reweight.metric_space.outlier_detector import MagnitudeOutlierDetector
    from reweight.metric_space.plots import magnitude_plot, weighting_vector_plot
    from reweight.metric_space.weighting_vector import WeightingVector
    from reweight.metrics.flips import negative_flip_rate, positive_flip_rate
    from reweight.metrics.label_errors import error_residual_ratio
    from reweight.metrics.ordinal import ranked_probability_score
    from reweight.metrics.quantile import (
        crps_from_quantiles,
        interval_calibration_error,
        interval_score,
        pinball_loss,
        quantile_calibration_error,
        weighted_interval_score,
    )
    from reweight.metrics.uncertainty import uncertainty_report
    from reweight.noisy_labels.contrastive_fragments import ContrastiveFragmentSelector
    from reweight.noisy_labels.noisy_label_classifier import NoisyLabelClassifier
    from reweight.noisy_labels.plots import response_error_plot
    from reweight.noisy_labels.response_errors import ResponseErrorDetector
    from reweight.noisy_labels.transition_matrix import anchor_transition, dual_transition
    from reweight.normalization import effective_sample_size, normalize_weights
    from reweight.ordinal.parallel_test import parallel_test
    from reweight.ordinal.plots import boundary_coefficient_plot, validation_path_plot
    from reweight.ordinal.relaxed_proportional_odds import RelaxedProportionalOdds
    from reweight.ordinal.relaxed_proportional_odds_cv import RelaxedProportionalOddsCV
    from reweight.parameters.averaging import average_parameters
    from reweight.parameters.backward_compatible import BackwardCompatibleClassifier
    from reweight.parameters.class_alignment import align_class_weights
    from reweight.parameters.dynamic_interpolation import (
        DynamicInterpolationClassifier,
        entropy_weights,
    )
    from reweight.parameters.fisher import fisher_information
    from reweight.parameters.gradient_matching import gradient_matching_weights
    from reweight.parameters.model_stock import stock_weights
    from reweight.parameters.moving_average import MovingAverageEstimator
    from reweight.parameters.plots import flip_path_plot
    from reweight.parameters.pooling import PooledEstimate, pool_estimates
    from reweight.parameters.similarity import similarity_weights
    from reweight.parameters.views import get_parameters, set_parameters
    from reweight.parameters.weight_signature import WeightSignature
    from reweight.quantiles.adapters import GaussianQuantileAdapter
    from reweight.quantiles.aggregator import QuantileAggregator
    from reweight.quantiles.conformal import ConformalQuantileCalibrator
    from reweight.quantiles.local_aggregator import LocalQuantileAggregator
    from reweight.quantiles.monotone import isotonic_quantiles, sort_quantiles, sweep_quantiles
    from reweight.quantiles.plots import (
        model_weights_plot,
        quantile_fan_plot,
        quantile_reliability_plot,
    )
    from reweight.quantiles.stacking import QuantileStackingRegressor
    from reweight.resampling import resample_weights
    from reweight.reuse.horseshoe_classifier import HorseshoeMultinomialClassifier
    from reweight.reuse.plots import (
        class_probability_plot,
        coefficient_posterior_plot,
        threshold_posterior_plot,
    )
    from reweight.reuse.residual_performance import ResidualPerformance
    from reweight.reuse.reuse_classifier import BayesianReuseClassifier
    from reweight.reweighted import Reweighted
    from reweight.selection.coreset import CoresetWeighter, moderate_coreset
    from reweight.selection.loss_ratio import (
        loss_ratio_distance,
        loss_ratio_weights,
        majority_vote,
        select_by_loss_ratio,
    )
    from reweight.solvers.result import SolverResult
    from reweight.uncertainty.calibrated_ensemble import CalibratedEnsembleRegressor
    from reweight.uncertainty.plots import uncertainty_plot
    from reweight.uncertainty.std_calibrator import StdCalibrator

_PUBLIC = {
    "BackwardCompatibleClassifier": "reweight.parameters.backward_compatible",
    "BayesianReuseClassifier": "reweight.reuse.reuse_classifier",
    "CalibratedEnsembleRegressor": "reweight.uncertainty.calibrated_ensemble",
    "ConformalQuantileCalibrator": "reweight.quantiles.conformal",
    "ContrastiveFragmentSelector": "reweight.noisy_labels.contrastive_fragments",
    "CoresetWeighter": "reweight.selection.coreset",
    "DynamicInterpolationClassifier": "reweight.parameters.dynamic_interpolation",
    "GaussianQuantileAdapter": "reweight.quantiles.adapters",
    "HorseshoeMultinomialClassifier": "reweight.reuse.horseshoe_classifier",
    "KalmanLinearRegression": "reweight.linear.kalman_regression",
    "LocalQuantileAggregator": "reweight.quantiles.local_aggregator",
    "LocalSurrogateSensitivity": "reweight.linear.local_surrogate",
    "MagnitudeOutlierDetector": "reweight.metric_space.outlier_detector",
    "MovingAverageEstimator": "reweight.parameters.moving_average",
    "NoisyLabelClassifier": "reweight.noisy_labels.noisy_label_classifier",
    "PooledEstimate": "reweight.parameters.pooling",
    "QuantileAggregator": "reweight.quantiles.aggregator",
    "QuantileStackingRegressor": "reweight.quantiles.stacking",
    "RelaxedProportionalOdds": "reweight.ordinal.relaxed_proportional_odds",
    "RelaxedProportionalOddsCV": "reweight.ordinal.relaxed_proportional_odds_cv",
    "ResidualPerformance": "reweight.reuse.residual_performance",
    "ResponseErrorDetector": "reweight.noisy_labels.response_errors",
    "Reweighted": "reweight.reweighted",
    "SolverResult": "reweight.solvers.result",
    "StdCalibrator": "reweight.uncertainty.std_calibrator",
    "WeightSignature": "reweight.parameters.weight_signature",
    "Weighter": "reweight.base",
    "WeightingVector": "reweight.metric_space.weighting_vector",
    "align_class_weights": "reweight.parameters.class_alignment",
    "anchor_transition": "reweight.noisy_labels.transition_matrix",
    "average_parameters": "reweight.parameters.averaging",
    "balance_table": "reweight.diagnostics.balance_table",
    "boundary_coefficient_plot": "reweight.ordinal.plots",
    "class_probability_plot": "reweight.reuse.plots",
    "coefficient_posterior_plot": "reweight.reuse.plots",
    "cross_fit": "reweight.cross_fitting",
    "crps_from_quantiles": "reweight.metrics.quantile",
    "domain_auc": "reweight.diagnostics.distances",
    "dual_transition": "reweight.noisy_labels.transition_matrix",
    "effective_sample_size": "reweight.normalization",
    "energy_distance": "reweight.diagnostics.distances",
    "entropy_weights": "reweight.parameters.dynamic_interpolation",
    "error_residual_ratio": "reweight.metrics.label_errors",
    "fisher_information": "reweight.parameters.fisher",
    "flip_path_plot": "reweight.parameters.plots",
    "get_parameters": "reweight.parameters.views",
    "gradient_matching_weights": "reweight.parameters.gradient_matching",
    "interval_calibration_error": "reweight.metrics.quantile",
    "interval_score": "reweight.metrics.quantile",
    "isotonic_quantiles": "reweight.quantiles.monotone",
    "loss_ratio_distance": "reweight.selection.loss_ratio",
    "loss_ratio_weights": "reweight.selection.loss_ratio",
    "love_plot": "reweight.diagnostics.plots",
    "magnitude": "reweight.metric_space.magnitude",
    "magnitude_function": "reweight.metric_space.magnitude",
    "magnitude_plot": "reweight.metric_space.plots",
    "majority_vote": "reweight.selection.loss_ratio",
    "make_noisy_labels": "reweight.datasets.noisy_labels",
    "make_quantile_models": "reweight.datasets.quantile_models",
    "make_response_errors": "reweight.datasets.response_errors",
    "make_timber_reuse": "reweight.datasets.timber_reuse",
    "mirrored_propensity_histogram": "reweight.diagnostics.plots",
    "mmd": "reweight.diagnostics.distances",
    "model_weights_plot": "reweight.quantiles.plots",
    "moderate_coreset": "reweight.selection.coreset",
    "negative_flip_rate": "reweight.metrics.flips",
    "normalize_weights": "reweight.normalization",
    "parallel_test": "reweight.ordinal.parallel_test",
    "pinball_loss": "reweight.metrics.quantile",
    "pool_estimates": "reweight.parameters.pooling",
    "positive_flip_rate": "reweight.metrics.flips",
    "quantile_calibration_error": "reweight.metrics.quantile",
    "quantile_fan_plot": "reweight.quantiles.plots",
    "quantile_reliability_plot": "reweight.quantiles.plots",
    "ranked_probability_score": "reweight.metrics.ordinal",
    "resample_weights": "reweight.resampling",
    "response_error_plot": "reweight.noisy_labels.plots",
    "select_by_loss_ratio": "reweight.selection.loss_ratio",
    "set_parameters": "reweight.parameters.views",
    "similarity_weights": "reweight.parameters.similarity",
    "sort_quantiles": "reweight.quantiles.monotone",
    "stock_weights": "reweight.parameters.model_stock",
    "sweep_quantiles": "reweight.quantiles.monotone",
    "threshold_posterior_plot": "reweight.reuse.plots",
    "uncertainty_plot": "reweight.uncertainty.plots",
    "uncertainty_report": "reweight.metrics.uncertainty",
    "validation_path_plot": "reweight.ordinal.plots",
    "weight_histogram": "reweight.diagnostics.plots",
    "weight_report": "reweight.diagnostics.weight_report",
    "weighted_interval_score": "reweight.metrics.quantile",
    "weighted_ks": "reweight.diagnostics.distances",
    "weighting_vector_plot": "reweight.metric_space.plots",
}

__all__ = sorted(_PUBLIC)
__version__ = "0.1.0"


def __getattr__(name: str):
    if name in _PUBLIC:
        return getattr(import_module(_PUBLIC[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(set(globals()) | set(_PUBLIC))

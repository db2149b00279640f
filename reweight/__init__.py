"""What a weight is: diagnostics, kernels, certified solvers and the families built on them."""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from reweight.base import Weighter
    from reweight.cross_fitting import cross_fit
    from reweight.datasets.response_errors import make_response_errors
    from reweight.diagnostics.balance_table import balance_table
    from reweight.diagnostics.distances import domain_auc, energy_distance, mmd, weighted_ks
    from reweight.diagnostics.plots import (
        love_plot,
        mirrored_propensity_histogram,
        weight_histogram,
    )
    from reweight.diagnostics.weight_report import weight_report
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
    from reweight.normalization import effective_sample_size, normalize_weights
    from reweight.ordinal.parallel_test import parallel_test
    from reweight.ordinal.plots import boundary_coefficient_plot, validation_path_plot
    from reweight.ordinal.relaxed_proportional_odds import RelaxedProportionalOdds
    from reweight.ordinal.relaxed_proportional_odds_cv import RelaxedProportionalOddsCV
    from reweight.quantiles.monotone import isotonic_quantiles, sort_quantiles, sweep_quantiles
    from reweight.resampling import resample_weights
    from reweight.reweighted import Reweighted
    from reweight.selection.loss_ratio import (
        loss_ratio_distance,
        loss_ratio_weights,
        majority_vote,
        select_by_loss_ratio,
    )
    from reweight.solvers.result import SolverResult

_PUBLIC = {
    "RelaxedProportionalOdds": "reweight.ordinal.relaxed_proportional_odds",
    "RelaxedProportionalOddsCV": "reweight.ordinal.relaxed_proportional_odds_cv",
    "Reweighted": "reweight.reweighted",
    "SolverResult": "reweight.solvers.result",
    "Weighter": "reweight.base",
    "balance_table": "reweight.diagnostics.balance_table",
    "boundary_coefficient_plot": "reweight.ordinal.plots",
    "cross_fit": "reweight.cross_fitting",
    "crps_from_quantiles": "reweight.metrics.quantile",
    "domain_auc": "reweight.diagnostics.distances",
    "effective_sample_size": "reweight.normalization",
    "energy_distance": "reweight.diagnostics.distances",
    "error_residual_ratio": "reweight.metrics.label_errors",
    "interval_calibration_error": "reweight.metrics.quantile",
    "interval_score": "reweight.metrics.quantile",
    "isotonic_quantiles": "reweight.quantiles.monotone",
    "loss_ratio_distance": "reweight.selection.loss_ratio",
    "loss_ratio_weights": "reweight.selection.loss_ratio",
    "love_plot": "reweight.diagnostics.plots",
    "majority_vote": "reweight.selection.loss_ratio",
    "make_response_errors": "reweight.datasets.response_errors",
    "mirrored_propensity_histogram": "reweight.diagnostics.plots",
    "mmd": "reweight.diagnostics.distances",
    "normalize_weights": "reweight.normalization",
    "parallel_test": "reweight.ordinal.parallel_test",
    "pinball_loss": "reweight.metrics.quantile",
    "quantile_calibration_error": "reweight.metrics.quantile",
    "ranked_probability_score": "reweight.metrics.ordinal",
    "resample_weights": "reweight.resampling",
    "select_by_loss_ratio": "reweight.selection.loss_ratio",
    "sort_quantiles": "reweight.quantiles.monotone",
    "sweep_quantiles": "reweight.quantiles.monotone",
    "uncertainty_report": "reweight.metrics.uncertainty",
    "validation_path_plot": "reweight.ordinal.plots",
    "weight_histogram": "reweight.diagnostics.plots",
    "weight_report": "reweight.diagnostics.weight_report",
    "weighted_interval_score": "reweight.metrics.quantile",
    "weighted_ks": "reweight.diagnostics.distances",
}

__all__ = sorted(_PUBLIC)
__version__ = "0.1.0"


def __getattr__(name: str):
    if name in _PUBLIC:
        return getattr(import_module(_PUBLIC[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(set(globals()) | set(_PUBLIC))

"""Standard errors and intervals of an effect, from influences or from resamples."""

from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm

from causal.effects._study import Study, estimate_effect
from reweight.resampling import bootstrap_statistic

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Inference:
    """What is known about the error of an effect.

    Parameters
    ----------
    effect : ndarray of shape (n_outputs,)
        The estimate.
    stderr : ndarray of shape (n_outputs,)
        Its standard error.
    draws : ndarray of shape (n_draws, n_outputs), optional
        Effects in resamples.
    shrinkage : float, optional
        What a deviation in a subsample is multiplied by to become one of the
        full sample; None for draws that are on that scale.
    """

    effect: Array
    stderr: Array
    draws: Array | None = None
    shrinkage: float | None = None

    def interval(self, confidence_level: float) -> Array:
        """Lower and upper limits, of shape (n_outputs, 2)."""
        tail = (1 - confidence_level) / 2
        if self.draws is None:
            half = norm.isf(tail) * self.stderr
            return np.column_stack([self.effect - half, self.effect + half])
        lower, upper = np.quantile(self.draws, [tail, 1 - tail], axis=0)
        if self.shrinkage is None:
            return np.column_stack([lower, upper])
        return np.column_stack(
            [
                self.effect - self.shrinkage * (upper - self.effect),
                self.effect - self.shrinkage * (lower - self.effect),
            ]
        )


def squared_influence(influence: Array, codes: NDArray[np.intp] | None) -> Array:
    """What each row, or each group of rows, adds to the variance.

    Parameters
    ----------
    influence : ndarray of shape (n_samples, n_outputs)
        Influence of each row, on the scale of the effect.
    codes : ndarray of int of shape (n_samples,) or None
        Group of each row; influences are summed within groups first.

    Returns
    -------
    ndarray of shape (n_groups, n_outputs)
    """
    if codes is not None:
        influence = np.column_stack([np.bincount(codes, column) for column in influence.T])
    return influence**2


def resampled_inference(
    effect: Array,
    study: Study,
    weighter: Any,
    outcome_estimator: Any,
    estimand: str,
    *,
    kind: str,
    codes: NDArray[np.intp] | None,
    **options: Any,
) -> tuple[Inference, int]:
    """Estimate the effect again in every resample.

    Parameters
    ----------
    effect : ndarray of shape (n_outputs,)
        The estimate from all rows.
    study : Study
        The rows.
    weighter, outcome_estimator : estimator
        What is fitted in every resample.
    estimand : str
        Target population.
    kind : {"bootstrap", "subsample"}
        Exponential factors of the sampling weights, or some of the rows.
    codes : ndarray of int of shape (n_samples,) or None
        Groups of rows that are resampled together.
    **options : dict
        n_resamples, random_state, n_jobs and verbose of `bootstrap_statistic`.

    Returns
    -------
    inference : Inference
    n_failed : int
        Resamples that gave no estimate.
    """
    units = len(study.y) if codes is None else int(codes.max()) + 1
    size = subsample_size(units) if kind == "subsample" else None
    result = bootstrap_statistic(
        partial(_effect, study, weighter, outcome_estimator, estimand, kind),
        len(study.y),
        kind="exponential" if kind == "bootstrap" else "subsample",
        groups=codes,
        subsample_size=size,
        name="WeightedEffect",
        **options,
    )
    if len(result.values) < 2:
        raise ValueError(
            f"WeightedEffect: {result.n_failed} of {options['n_resamples']} resamples failed, the "
            f"first with {next(iter(result.failures.values()))}; no interval can be formed; relax "
            "the weights, or choose another inference"
        )
    shrinkage = None if size is None else np.sqrt(size / (units - size))
    stderr = result.values.std(axis=0, ddof=1) * (shrinkage or 1.0)
    return Inference(effect, stderr, result.values, shrinkage), result.n_failed


def _effect(
    study: Study, weighter: Any, outcome_estimator: Any, estimand: str, kind: str, factor: Array
) -> Array:
    """Effect of one resample."""
    # Rows out of a subsample are cut, not weighted by zero, so that they cost no time.
    sample = study.reweighted(factor) if kind == "bootstrap" else study.take(np.flatnonzero(factor))
    return estimate_effect(sample, weighter, outcome_estimator, estimand).means.effect


def subsample_size(n_units: int) -> int:
    """Rows, or groups, in a subsample: the smallest whole number not below n^(2/3)."""
    return min(int(np.ceil(round(n_units ** (2 / 3), 9))), n_units - 1)

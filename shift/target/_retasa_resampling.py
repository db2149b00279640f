"""Resamples of both samples for ReTaSA: bands of the weight function and a test of target shift."""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from reweight.parallel import parallel_map
from reweight.resampling import resample_weights
from shift.target._retasa_solve import misfit, solve
from shift.target._retasa_system import Sample

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Settings:
    """How every resample is solved.

    Parameters
    ----------
    solver : {"binned", "ygrid"}
        How to build the system.
    grid_density : float
        Nodes a bandwidth.
    alpha : float
        Strength of regularisation.
    nonnegative : {"clip", "constrained"}
        Which solution.
    max_weight : float or None
        Cap on the weights.
    """

    solver: str
    grid_density: float
    alpha: float
    nonnegative: str
    max_weight: float | None


@dataclass(frozen=True, eq=False)
class TargetShiftTest:
    """Result of a test that only the distribution of the outcome moved.

    Parameters
    ----------
    statistic : float
        Mean square, over the source, of the part of the density ratio of the
        features that no weights of the outcome explain.
    p_value : float
        Share of resamples under the hypothesis whose statistic is as large.
    null : ndarray of shape (n_resamples,)
        Their statistics.
    """

    statistic: float
    p_value: float
    null: Array

    def __repr__(self) -> str:
        return (
            f"TargetShiftTest(statistic={self.statistic:.4g}, p_value={self.p_value:.4g}, "
            f"{len(self.null)} resamples)"
        )


def mean_one(rho: Array, mass: Array, max_weight: float | None) -> Array:
    """Weights of mean one at the nodes from rho."""
    weights = np.maximum(1.0 + rho, 0.0)
    weights /= mass @ weights
    if max_weight is not None:
        weights = np.minimum(weights, max_weight)
        weights /= mass @ weights
    return weights


def bootstrap_weights(
    sample: Sample,
    settings: Settings,
    grid: Array,
    n_resamples: int,
    rng: np.random.RandomState,
    n_jobs: int | None,
    verbose: int,
) -> Array:
    """Weight functions in resamples of source and target rows.

    Parameters
    ----------
    sample : Sample
        The data.
    settings : Settings
        How to solve.
    grid : ndarray of shape (n_nodes,)
        Where to evaluate.
    n_resamples : int
        Number of resamples.
    rng : RandomState
        Seeds the draws.
    n_jobs : int or None
        Number of jobs.
    verbose : int
        Whether to show a progress bar.

    Returns
    -------
    ndarray of shape (n_resamples, n_nodes)
    """
    source = resample_weights(len(sample.y), n_resamples, random_state=rng.randint(2**31 - 1))
    target = resample_weights(
        len(sample.z_target), n_resamples, random_state=rng.randint(2**31 - 1)
    )
    tasks = ((sample, settings, grid, *counts) for counts in zip(source, target, strict=True))
    return np.array(
        parallel_map(
            _resampled_weights,
            tasks,
            total=n_resamples,
            n_jobs=n_jobs,
            verbose=verbose,
            name="ReTaSA: resamples",
        )
    )


def _resampled_weights(
    sample: Sample, settings: Settings, grid: Array, counts: Array, target_counts: Array
) -> Array:
    share = sample.share * counts
    target_share = sample.target_share * target_counts
    drawn = sample.reweighted(share / share.sum(), target_share / target_share.sum())
    system = drawn.system(settings.solver, settings.grid_density)
    rho = solve(system, settings.alpha, settings.nonnegative).x
    weights = mean_one(rho, system.mass_y, settings.max_weight)
    return np.interp(grid, system.nodes, weights)


def shift_statistic(sample: Sample, settings: Settings) -> tuple[float, Array]:
    """Mean square of what weights leave unexplained, and the weights of the source rows.

    Parameters
    ----------
    sample : Sample
        The data.
    settings : Settings
        How to solve.

    Returns
    -------
    statistic : float
    weights : ndarray of shape (n,)
    """
    system = sample.system(settings.solver, settings.grid_density)
    rho = solve(system, settings.alpha, settings.nonnegative).x
    weights = mean_one(rho, system.mass_y, None)
    return misfit(system, rho), np.interp(sample.y, system.nodes, weights)


def null_statistics(
    sample: Sample,
    weights: Array,
    settings: Settings,
    n_resamples: int,
    rng: np.random.RandomState,
    n_jobs: int | None,
    verbose: int,
) -> Array:
    """Statistics of samples drawn so that only the outcome moved, and by these weights.

    The source is resampled from itself and the target from the source rows in
    proportion to their weights.

    Parameters
    ----------
    sample : Sample
        The data.
    weights : ndarray of shape (n,)
        Weights of the source rows.
    settings : Settings
        How to solve.
    n_resamples : int
        Number of draws.
    rng : RandomState
        Seeds the draws.
    n_jobs : int or None
        Number of jobs.
    verbose : int
        Whether to show a progress bar.

    Returns
    -------
    ndarray of shape (n_resamples,)
    """
    odds = sample.share * weights
    odds /= odds.sum()
    seeds = rng.randint(2**31 - 1, size=n_resamples)
    tasks = ((sample, settings, odds, int(seed)) for seed in seeds)
    return np.array(
        parallel_map(
            _null_statistic,
            tasks,
            total=n_resamples,
            n_jobs=n_jobs,
            verbose=verbose,
            name="ReTaSA: resamples",
        )
    )


def _null_statistic(sample: Sample, settings: Settings, odds: Array, seed: int) -> float:
    rng = np.random.default_rng(seed)
    m = len(sample.z_target)
    counts = rng.multinomial(len(sample.y), sample.share)
    drawn = replace(
        sample.reweighted(counts / counts.sum(), sample.target_share),
        z_target=sample.z,
        target_share=rng.multinomial(m, odds) / m,
    )
    return shift_statistic(drawn, settings)[0]

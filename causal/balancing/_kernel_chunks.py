"""Kernel balancing of rows that are read in chunks, through landmarks from a sample of them."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import clone
from sklearn.utils import check_random_state

from causal.balancing._base import MOVING_ARMS
from causal.balancing._basis import MomentBasis
from causal.balancing._chunked import (
    Design,
    chunks_of_arm,
    find_target,
    take_census,
    weigh_chunks,
)
from causal.balancing._dual import BalanceTarget, meet_or_relax
from causal.balancing._kernel_dual import LandmarkMap, solve_features
from causal.balancing._kernel_space import KernelSpace, Standardizer, bandwidth_of_rows
from reweight.kernels.chunks import map_chunks
from reweight.kernels.kernel_sums import DECAYING_KERNELS, check_kernel

SAMPLED_ROWS = 20_000


@dataclass
class KernelColumns:
    """Moments of covariates, then their landmark features.

    Parameters
    ----------
    basis : MomentBasis or None
        Balanced moments, if there are any.
    map : LandmarkMap
        Landmark features.
    """

    basis: MomentBasis | None
    map: LandmarkMap

    def __call__(self, X: NDArray[np.float64]) -> NDArray[np.float64]:
        features = self.map.features(self.map.space.standardizer.transform(X))
        return features if self.basis is None else np.hstack([self.basis.transform(X), features])


@dataclass
class _SamplePass:
    """Weighted second moments about a centre, and a share of the rows of each chunk."""

    design: Design
    center: NDArray

    def __call__(self, numbered: tuple[NDArray, Any]) -> tuple[NDArray, float, NDArray, NDArray]:
        chosen, item = numbered
        X, _, s = self.design.load_rows(item() if callable(item) else item)
        centred = X - self.center
        return (centred * s[:, None]).T @ centred, s.sum(), X[chosen], s[chosen]


@dataclass
class _ResidualPass:
    """Sums of q times what the landmarks miss, and of q^2, by arm."""

    design: Design
    map: LandmarkMap

    def __call__(self, item: Any) -> NDArray[np.float64]:
        X, codes, s = self.design.load_rows(item)
        Z = self.map.space.standardizer.transform(X)
        residual = self.map.residual(Z, self.map.features(Z))
        q = s / self.design.totals[codes]
        return np.array([np.bincount(codes, q * residual, 2), np.bincount(codes, q**2, 2)])


def fit_kernel_chunks(estimator: Any, chunks: Any, n_jobs: int | None) -> Any:
    """Fit a `KernelBalancing` on chunks of `(X, treatment, sample_weight)`.

    Standardisation, targets and weights come from all rows; the bandwidth rule
    and the landmarks from at most 20,000 of them, drawn over all chunks alike.

    Parameters
    ----------
    estimator : KernelBalancing
        Fitted in place.
    chunks : sequence or callable
        As `reweight.kernels.chunks.map_chunks` takes them.
    n_jobs : int or None
        joblib workers over a sequence.

    Returns
    -------
    KernelBalancing
    """
    _refuse_what_needs_all_rows(estimator)
    kernel, parameters = estimator._kernel()
    check_kernel(kernel, parameters)
    census = take_census(estimator, chunks, n_jobs)
    rng = check_random_state(estimator.random_state)
    basis = MomentBasis(max(estimator.exact_moments, 1))
    basis.fit_center(census.center, census.names, census.sample)
    design = Design(clone(estimator), census.classes, basis.transform, estimator.estimand)
    standardizer, rows, s = _sample(estimator, design, census, chunks, rng, n_jobs)
    Z = standardizer.transform(rows)
    _set_space(estimator, standardizer, kernel, parameters, Z[s > 0], rng)
    estimator._basis, estimator.solver_ = basis, "landmarks"
    estimator._set_landmarks(Z, s, rng)
    design.features = KernelColumns(basis if estimator.exact_moments else None, estimator._map)
    counts = find_target(design, chunks, n_jobs)
    moments = len(estimator._names())
    units = np.ones(len(design.target.mean))
    units[:moments] = design.target.scale[:moments]
    design.target = estimator._target = BalanceTarget(design.target.mean, units)
    return _solve_and_weigh(estimator, design, chunks, counts, n_jobs)


def _refuse_what_needs_all_rows(estimator: Any) -> None:
    owner = type(estimator).__name__
    joint = estimator.improved and estimator.estimand == "ATE"
    needs = {
        "solver='qp'": estimator.solver == "qp",
        "alpha='auto'": estimator.alpha == "auto",
        "alpha=0": estimator.alpha == 0,
        "improved=True for the ATE": joint,
    }
    for what, asked in needs.items():
        if asked:
            raise ValueError(
                f"{owner}: fit_chunks streams the landmark solver of one arm at a time, which "
                f"{what} does not allow; change it, or fit a sample of the rows"
            )


def _sample(
    estimator: Any, design: Design, census: Any, chunks: Any, rng: Any, n_jobs: int | None
) -> tuple[Standardizer, NDArray, NDArray]:
    """The standardisation of all rows, and some of the rows."""
    total = sum(census.counts)
    chosen = np.arange(total)
    if total > SAMPLED_ROWS:
        chosen = np.sort(rng.choice(total, SAMPLED_ROWS, replace=False))
    ends = np.cumsum(census.counts)
    parts = np.split(chosen, np.searchsorted(chosen, ends[:-1]))
    starts = ends - census.counts
    local = [part - start for part, start in zip(parts, starts, strict=True)]
    numbered: Any = _Numbered(local, chunks)
    if not callable(chunks):
        numbered = list(zip(local, chunks, strict=True))
    found = list(map_chunks(_SamplePass(design, census.center), numbered, n_jobs=n_jobs))
    covariance = sum(part[0] for part in found) / sum(part[1] for part in found)
    rows = np.concatenate([part[2] for part in found])
    s = np.concatenate([part[3] for part in found])
    standardizer = Standardizer.of_moments(census.center, covariance, estimator.standardize)
    return standardizer, rows, s


@dataclass
class _Numbered:
    """Chunks of a callable together with the rows to draw from each."""

    chosen: list[NDArray]
    chunks: Any

    def __call__(self) -> Any:
        return zip(self.chosen, self.chunks(), strict=True)


def _set_space(
    estimator: Any,
    standardizer: Standardizer,
    kernel: str,
    parameters: dict[str, Any],
    Z: NDArray[np.float64],
    rng: Any,
) -> None:
    """Set the bandwidth and the space of the kernel from sampled rows."""
    rule = estimator.bandwidth
    if isinstance(rule, str) and kernel not in DECAYING_KERNELS:
        rule = 1.0
    estimator.bandwidth_ = bandwidth_of_rows(type(estimator).__name__, Z, rule, rng)
    estimator._space = KernelSpace(standardizer, kernel, estimator.bandwidth_, parameters)


def _solve_and_weigh(
    estimator: Any, design: Design, chunks: Any, counts: list[int], n_jobs: int | None
) -> Any:
    """Solve each moving arm, and weigh all rows."""
    arms = MOVING_ARMS.get(estimator.estimand, (0, 1))
    sums = sum(map_chunks(_ResidualPass(design, estimator._map), chunks, n_jobs=n_jobs))
    estimator._missed = float(np.mean([sums[0, arm] * sums[1, arm] for arm in arms]))
    estimator.alpha_ = float(estimator.alpha)
    names = estimator._names()
    solved: dict[int, Any] = {}

    def attempt(max_smd: float) -> Any:
        for arm in arms:
            solved[arm] = solve_features(
                chunks_of_arm(design, arm, chunks),
                None,
                estimator.alpha_ + estimator._missed,
                names,
                len(design.target.mean) - len(names),
                max_smd=max_smd,
                divergence=estimator.divergence,
                tol=estimator.tol,
                max_iter=estimator.max_iter,
                n_jobs=n_jobs,
            )
        return max(solved.values(), key=lambda result: result.optimality_gap)

    fit = meet_or_relax(
        attempt,
        owner=type(estimator).__name__,
        max_smd=0.0,
        n_columns=len(names),
        n_rows=min(counts[arm] for arm in arms),
        on_infeasible=estimator.on_infeasible,
        remedy="pass on_infeasible='relax' to balance it to within {:g} sd, or exact_moments=0",
    )
    estimator._duals = {arm: result.dual for arm, result in solved.items()}
    estimator._store_results(solved)
    estimator._store_duals(fit, estimator._duals)
    judged = design
    if len(names) == 0:
        judged = replace(design, features=estimator._basis.transform)
        find_target(judged, chunks, n_jobs)
    elif len(names) < len(design.target.mean):
        judged = replace(
            design,
            features=estimator._basis.transform,
            target=BalanceTarget(
                design.target.mean[: len(names)], design.target.scale[: len(names)]
            ),
        )
    means = weigh_chunks(
        estimator, design, estimator._duals, estimator.divergence, chunks, n_jobs, judged
    )
    estimator.mmd_ = {
        design.classes[arm]: float(np.linalg.norm(mean[len(names) :]))
        for arm, mean in means.items()
    }
    return estimator

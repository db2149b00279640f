"""One estimate by way of the uniform transformer: what each resample repeats."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from causal.balancing._base import MOVING_ARMS
from causal.balancing._uniform_kernels import kernel_sums
from causal.balancing._uniform_map import fit_uniform_map, tie_keys
from causal.balancing._uniform_projection import (
    identity_weights,
    least_squares_weights,
    legendre_features,
)
from causal.balancing._uniform_study import ARM_WORDS, OWNER, UniformStudy
from reweight.base import MINIMUM_ESS_SHARE
from reweight.exceptions import InfeasibleError
from reweight.validation import warn_weights

Array = NDArray[np.float64]
EXACT = 1e-8
CURES = {
    "kernel": "widen bandwidth, choose a kernel without negative values, or pass "
    "method='projection'",
    "projection": "lower degree, or pass interactions=False or gram='empirical'",
}


@dataclass(frozen=True)
class UniformMethod:
    """Everything that is chosen before the estimate; see `UniformTransformerEffect`.

    Parameters
    ----------
    estimand, method, kernel, bandwidth, degree, interactions, gram, marginal, smoothing, cut
        Parameters of the estimator, with no choice left open.
    seed : int
        Seeds the map.
    relax : bool
        Whether features that cannot be balanced exactly are let pass.
    """

    estimand: str
    method: str
    kernel: str
    bandwidth: float
    degree: int
    interactions: bool
    gram: str
    marginal: bool
    smoothing: str
    cut: str
    seed: int
    relax: bool


@dataclass(frozen=True)
class UniformEstimate:
    """Weights and the means that they give.

    Parameters
    ----------
    weights : ndarray of shape (n,)
        Mean one in each arm; may be negative.
    means : ndarray of shape (2, n_outputs)
        Mean outcome of the target population as control and as treated.
    imbalance : tuple of (float, str)
        By how much the least balanced feature of any arm is off, and its name;
        (0, "") for kernels.
    """

    weights: Array
    means: Array
    imbalance: tuple[float, str]

    @property
    def effect(self) -> Array:
        """Difference of the means."""
        return self.means[1] - self.means[0]


def estimate_uniform_effect(
    study: UniformStudy, method: UniformMethod, factor: Array | None = None
) -> UniformEstimate:
    """Weigh each arm that is not the target itself, and average the outcomes.

    Parameters
    ----------
    study : UniformStudy
        The rows.
    method : UniformMethod
        How they are weighted.
    factor : ndarray of shape (n,), default=None
        Positive factors of the sampling weights, in a resample.

    Returns
    -------
    UniformEstimate
    """
    s = study.weight if factor is None else study.weight * factor
    weights, imbalance = s.copy(), (0.0, "")
    for arm in MOVING_ARMS.get(method.estimand, (0, 1)):
        rows = study.treated == arm
        phi = _image(study, method, arm, s)
        if method.method == "kernel":
            weights[rows] = _kernel_weights(method, phi, rows, s)
        else:
            weights[rows], worst = _projection_weights(study, method, phi, arm, s)
            imbalance = max(imbalance, worst)
    codes = study.treated.astype(np.intp)
    sums = np.bincount(codes, weights)
    for arm, total in enumerate(sums):
        if not total > 0:
            raise ValueError(
                f"{OWNER}: the weights of the {ARM_WORDS[arm]} rows sum to {total:.3g}, which no "
                f"mean can be taken with; {CURES[method.method]}"
            )
    weights *= (np.bincount(codes) / sums)[codes]
    means = [
        np.average(study.y[codes == arm], axis=0, weights=weights[codes == arm]) for arm in (0, 1)
    ]
    return UniformEstimate(weights, np.array(means), imbalance)


def _image(study: UniformStudy, method: UniformMethod, arm: int, s: Array) -> Array:
    """All rows under the map that makes the reference rows of an arm uniform."""
    rows = study.treated == arm
    random = method.cut == "random"
    keys = tie_keys(method.seed, study.X.shape) if random else None
    own = study.reference is None
    reference = study.reference_of(arm)
    reference_keys = None
    if random:
        reference_keys = keys[rows] if own else tie_keys(method.seed + 1, reference.shape)
    fitted = fit_uniform_map(
        reference,
        ends=study.ends,
        marginal=method.marginal,
        smoothing=method.smoothing,
        cut=method.cut,
        seed=method.seed,
        keys=reference_keys,
        weight=s[rows] if own else None,
    )
    phi = np.empty(study.X.shape)
    # Rows that tie are spread within their arm, so that each reference row keeps its own bin.
    for part in (rows, ~rows):
        phi[part] = fitted.transform(study.X[part], keys[part] if random else None, s[part])
    return phi


def _target(method: UniformMethod, rows: NDArray[np.bool_]) -> NDArray[np.intp]:
    """Rows of the target population, seen from an arm that is weighted to it."""
    return np.arange(len(rows)) if method.estimand == "ATE" else np.flatnonzero(~rows)


def _kernel_weights(method: UniformMethod, phi: Array, rows: NDArray[np.bool_], s: Array) -> Array:
    """Weighted sums of the kernel with the target rows, without a row itself."""
    target = _target(method, rows)
    # The place of each row in the target, where it is one of its rows.
    itself = np.flatnonzero(rows) if method.estimand == "ATE" else None
    sums = kernel_sums(phi[rows], phi[target], s[target], method.kernel, method.bandwidth, itself)
    return s[rows] * sums


def _projection_weights(
    study: UniformStudy, method: UniformMethod, phi: Array, arm: int, s: Array
) -> tuple[Array, tuple[float, str]]:
    """Weights that a projection onto polynomials implies, and the worst balance."""
    features, powers = legendre_features(phi, method.degree, method.interactions)
    rows = study.treated == arm
    target = _target(method, rows)
    goal = s[target] @ features[target] / s[target].sum()
    project = least_squares_weights if method.gram == "empirical" else identity_weights
    result = project(features[rows], s[rows], goal)
    worst = int(np.argmax(np.abs(result.imbalance)))
    size = float(np.abs(result.imbalance[worst]))
    name = _feature_name(powers[worst], study.names)
    if method.gram == "empirical" and size > EXACT and not method.relax:
        raise InfeasibleError(
            f"{OWNER}: the {rows.sum()} {ARM_WORDS[arm]} rows cannot balance the "
            f"{features.shape[1]} functions of the covariates exactly (worst {name!r}, off by "
            f"{size:.2g}); lower degree, pass interactions=False, or on_infeasible='relax'",
            worst_column=name,
        )
    return result.weights, (size, name)


def _feature_name(powers: NDArray[np.intp], names: list[str]) -> str:
    """What a product of polynomials is called."""
    parts = [
        name if power == 1 else f"{name}^{power}"
        for name, power in zip(names, powers, strict=True)
        if power
    ]
    return " ".join(parts) or "1"


def warn_estimate(study: UniformStudy, method: UniformMethod, estimate: UniformEstimate) -> None:
    """Say if the weights will mislead.

    Parameters
    ----------
    study : UniformStudy
        The rows.
    method : UniformMethod
        How they were weighted.
    estimate : UniformEstimate
        What came out.
    """
    size, worst = estimate.imbalance
    if method.gram == "empirical" and size > EXACT:
        warn_weights(
            f"{OWNER}: {worst!r} is off balance by {size:.2g} standard deviations, as not all "
            "polynomials can be balanced; lower degree, or pass interactions=False"
        )
    for arm in MOVING_ARMS.get(method.estimand, (0, 1)):
        w = estimate.weights[study.treated == arm]
        share = w.sum() ** 2 / (w**2).sum() / len(w)
        if share < MINIMUM_ESS_SHARE:
            warn_weights(
                f"{OWNER}: the weights leave an effective sample size of {share:.1%} of the "
                f"{ARM_WORDS[arm]} rows (below {MINIMUM_ESS_SHARE:.0%}); the estimate will rest on "
                "few rows; widen bandwidth, lower degree, or change the estimand"
            )

"""Simulation-based calibration: the posterior of data drawn from the prior has uniform ranks."""

import numpy as np
import pytest
from scipy.special import ndtr
from scipy.stats import chi2, invgamma

from reweight.reuse._model import GateData, GateModel, place_residuals
from reweight.reuse._sampling import SamplerSettings, sample_posterior

N_REPLICATIONS, N_ROWS, N_FEATURES, N_CLASSES = 200, 60, 3, 3
N_RANKS, N_BINS = 100, 20
TAU0 = 0.5
CUT_MEAN, CUT_SD = np.array([0.90, 0.75]), np.array([0.03, 0.05])


def draw_gate(rng):
    """Intercepts and coefficients from the prior, eqs. (6) and (8) to (12)."""
    shape = (N_FEATURES, N_CLASSES - 1)
    tau = TAU0 * abs(rng.standard_cauchy())
    lam = abs(rng.standard_cauchy(shape))
    c2 = invgamma.rvs(2.0, scale=2.0 * 2.0**2, random_state=rng)
    scale = tau * lam * np.sqrt(c2 / (c2 + tau**2 * lam**2))
    return 2.5 * rng.standard_normal(N_CLASSES - 1), scale * rng.standard_normal(shape)


def draw_levels(rng, X, alpha, beta):
    eta = np.c_[alpha + X @ beta, np.zeros(len(X))]
    return (eta + rng.gumbel(size=eta.shape)).argmax(axis=1)


def draw_cuts(rng):
    while True:
        cuts = rng.normal(CUT_MEAN, CUT_SD)
        if cuts[0] > cuts[1]:
            return cuts, 0.01 * np.exp(0.5 * rng.standard_normal())


def chances(r, cuts, softness):
    below = ndtr((r[:, None] - cuts) / softness)
    return np.c_[below[:, 0], below[:, 1] - below[:, 0], 1 - below[:, 1]]


def fit(model, data, seed):
    settings = SamplerSettings(
        sampler="nutpie", draws=495, tune=400, chains=1, target_accept=0.95, seed=seed
    )
    return sample_posterior(model, data, settings)[0]


def rank(draws, truth):
    """Rank of the truth among 99 thinned draws, for each entry."""
    thinned = draws[0, 4::5]
    assert len(thinned) == N_RANKS - 1
    return (thinned < truth).sum(axis=0).ravel()


def assert_uniform(ranks):
    ranks = np.array(ranks)
    counts = np.array([np.bincount(r * N_BINS // N_RANKS, minlength=N_BINS) for r in ranks.T])
    expected = len(ranks) / N_BINS
    p_values = chi2.sf(((counts - expected) ** 2 / expected).sum(axis=1), N_BINS - 1)
    assert p_values.min() > 1e-3 / len(p_values)


@pytest.mark.slow
def test_ranks_of_the_gate_are_uniform():
    rng = np.random.default_rng(1)
    model = GateModel(N_FEATURES, N_CLASSES, 0, "regularized", TAU0)
    ranks = []
    for seed in range(N_REPLICATIONS):
        X = rng.standard_normal((N_ROWS, N_FEATURES))
        alpha, beta = draw_gate(rng)
        y = draw_levels(rng, X, alpha, beta)
        data = GateData(X, y, np.zeros(N_ROWS, dtype=np.int64), np.ones(N_ROWS))
        draws = fit(model, data, seed)
        ranks.append(np.r_[rank(draws["alpha"], alpha), rank(draws["beta"], beta)])
    assert_uniform(ranks)


@pytest.mark.slow
def test_ranks_of_thresholds_without_a_label_are_uniform():
    rng = np.random.default_rng(2)
    base = rng.normal(0.84, 0.1, 200)
    model = GateModel(
        N_FEATURES,
        N_CLASSES,
        0,
        "regularized",
        TAU0,
        joint=True,
        cut_mean=tuple(CUT_MEAN),
        cut_sd=tuple(CUT_SD),
    )
    ranks = []
    for seed in range(N_REPLICATIONS):
        X = rng.standard_normal((N_ROWS, N_FEATURES))
        alpha, beta = draw_gate(rng)
        cuts, softness = draw_cuts(rng)
        levels = draw_levels(rng, X, alpha, beta)
        shares = chances(base, cuts, softness)
        shares /= shares.sum(axis=0)
        residual = np.array([rng.choice(base, p=shares[:, level]) for level in levels])
        places = place_residuals(residual, base, np.ones(N_ROWS))
        unknown = np.full(N_ROWS, -1)
        data = GateData(X, unknown, np.zeros(N_ROWS, dtype=np.int64), np.ones(N_ROWS), *places)
        draws = fit(model, data, seed)
        parts = [("alpha", alpha), ("beta", beta), ("thresholds", cuts), ("softness", softness)]
        ranks.append(np.concatenate([rank(draws[name], truth) for name, truth in parts]))
    assert_uniform(ranks)

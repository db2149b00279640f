"""Orthogonal scores: closed forms by enumeration, invariances, and first-order insensitivity."""

import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy.stats import norm

from causal.effects._linear_effects import LinearEffects, median_over_repeats
from causal.effects._scores import (
    instrument_score,
    interactive_score,
    partialling_out_score,
    solve_score,
)

ESTIMANDS = ["ATE", "ATT", "ATC", "ATO"]
N = 40


@pytest.fixture
def truth(rng):
    """Nuisances of rows whose treatment and noise are still to be drawn."""
    e = rng.uniform(0.1, 0.9, size=N)
    return {"e": e, "mu0": rng.normal(size=N), "mu1": rng.normal(size=N)}


def populations(e):
    return {"ATE": np.ones(N), "ATT": e, "ATC": 1 - e, "ATO": e * (1 - e)}


def expected(estimand, truth, e, mu0, mu1):
    """E[a], E[b] of each row at some nuisances: the treatment is enumerated, the noise is zero."""
    a, b = np.zeros(N), np.zeros(N)
    for t, chance, y in ((0, 1 - truth["e"], truth["mu0"]), (1, truth["e"], truth["mu1"])):
        score = interactive_score(estimand, y, np.full(N, float(t)), mu0, mu1, e, 1 - e)
        a, b = a + chance * score.a, b + chance * score.b
    return a, b


@pytest.mark.parametrize("estimand", ESTIMANDS)
def test_at_the_truth_scores_average_effects_over_their_population(estimand, truth):
    a, b = expected(estimand, truth, truth["e"], truth["mu0"], truth["mu1"])
    h = populations(truth["e"])[estimand]
    assert_allclose(a, h, rtol=1e-12)
    assert_allclose(b, h * (truth["mu1"] - truth["mu0"]), atol=1e-12)


@pytest.mark.parametrize("estimand", ["ATE", "ATT", "ATC"])
@pytest.mark.parametrize("wrong", ["propensity", "outcomes"])
def test_either_nuisance_may_be_wrong(estimand, wrong, truth, rng):
    e, mu0, mu1 = truth["e"], truth["mu0"], truth["mu1"]
    if wrong == "propensity":
        e = rng.uniform(0.2, 0.8, size=N)
    else:
        mu0, mu1 = rng.normal(size=(2, N))
    _, b = expected(estimand, truth, e, mu0, mu1)
    h = populations(truth["e"])[estimand]
    assert_allclose(b, h * (truth["mu1"] - truth["mu0"]), atol=1e-12)


@pytest.mark.parametrize("estimand", ESTIMANDS)
def test_errors_of_nuisances_count_to_second_order(estimand, truth, rng):
    directions = 0.3 * rng.normal(size=(3, N))
    directions[0] *= truth["e"] * (1 - truth["e"])
    h = populations(truth["e"])[estimand]
    theta = h @ (truth["mu1"] - truth["mu0"]) / h.sum()

    def bias(step):
        moved = [truth[k] + step * d for k, d in zip(truth, directions, strict=True)]
        a, b = expected(estimand, truth, *moved)
        return b.sum() / a.sum() - theta

    # Halving an error that enters squared quarters the bias.
    assert_allclose(bias(0.01) / bias(0.005), 4, rtol=0.1)


def test_partialling_out_is_orthogonal_for_a_dose(rng):
    e, g = rng.normal(size=(2, N))
    tau = 0.7
    noise, spread = np.array([-1.0, 1.0]), 1.3

    def theta(e_hat, m_hat):
        sums = np.zeros(2)
        for u in noise:
            t = e + spread * u
            score = partialling_out_score(g + tau * t, t, m_hat, e_hat)
            sums += score.b.sum(), score.a.sum()
        return sums[0] / sums[1]

    m = g + tau * e
    assert_allclose(theta(e, m), tau, rtol=1e-12)
    d_e, d_m = 0.5 * rng.normal(size=(2, N))
    big, small = (theta(e + h * d_e, m + h * d_m) - tau for h in (0.01, 0.005))
    assert_allclose(big / small, 4, rtol=0.05)


def test_instrument_score_at_the_truth_gives_the_effect_whatever_g_is(rng):
    e, g, wrong = rng.normal(size=(3, N))
    sums = np.zeros(2)
    for u in (-1.0, 1.0):
        t = e + u
        score = instrument_score(g + 0.7 * t, t, wrong, e)
        sums += score.b.sum(), score.a.sum()
    assert_allclose(sums[0] / sums[1], 0.7, rtol=1e-12)


@pytest.mark.parametrize(("estimand", "mirror"), [("ATE", "ATE"), ("ATT", "ATC"), ("ATO", "ATO")])
def test_swapping_the_arms_changes_the_sign(estimand, mirror, truth, rng):
    e, mu0, mu1 = truth["e"], truth["mu0"], truth["mu1"]
    y, t = rng.normal(size=N), (rng.random(N) < e).astype(float)
    score = interactive_score(estimand, y, t, mu0, mu1, e, 1 - e)
    swapped = interactive_score(mirror, y, 1 - t, mu1, mu0, 1 - e, e)
    assert_allclose(swapped.a, score.a, rtol=1e-12)
    assert_allclose(swapped.b, -score.b, rtol=1e-10)


def test_solution_is_weighted_least_squares_with_the_sandwich(rng):
    y, t = rng.normal(size=N), rng.normal(size=N)
    Z = np.column_stack([np.ones(N), rng.normal(size=N)])
    s, codes = rng.uniform(0.5, 2, size=N), np.arange(N) % 7
    score = partialling_out_score(y, t, np.zeros(N), np.zeros(N))
    design = t[:, None] * Z
    coef = np.linalg.lstsq(np.sqrt(s)[:, None] * design, np.sqrt(s) * y, rcond=None)[0]
    residual = y - design @ coef
    bread = np.linalg.inv((s[:, None] * design).T @ design)
    moments = (s * residual)[:, None] * design
    hc0 = bread @ moments.T @ moments @ bread
    solution = solve_score(score, Z, s, None)
    assert_allclose(solution.coef, coef, rtol=1e-10)
    assert_allclose(solution.covariance, hc0, rtol=1e-10)
    assert_allclose(solution.influence.sum(axis=0), 0, atol=1e-12)
    corrected = solve_score(score, Z, s, None, cov_type="HC1").covariance
    assert_allclose(corrected, hc0 * N / (N - 2), rtol=1e-10)
    sums = np.stack([moments[codes == g].sum(axis=0) for g in range(7)])
    clustered = solve_score(score, Z, s, codes, cov_type="HC1").covariance
    factor = 7 / 6 * (N - 1) / (N - 2)
    assert_allclose(clustered, factor * bread @ sums.T @ sums @ bread, rtol=1e-10)


def test_a_redundant_basis_has_the_least_norm_solution_and_says_what_is_unknown(rng):
    y, t, x = rng.normal(size=(3, N))
    Z = np.column_stack([np.ones(N), x, x])
    score = partialling_out_score(y, t, np.zeros(N), np.zeros(N))
    solution = solve_score(score, Z, None, None)
    effects = LinearEffects(
        ["one", "x", "again"],
        solution.coef[None],
        solution.covariance[None],
        solution.null_space,
        "coefficient",
    )
    assert_allclose(solution.coef[1], solution.coef[2], rtol=1e-8)
    assert np.isnan(effects.stderr_).tolist() == [False, True, True]
    plain = solve_score(score, Z[:, :2], None, None)
    row = np.array([[1.0, 0.4, 0.4]])
    estimate, stderr = effects._functional(row)
    assert_allclose(estimate, row[:, :2] @ plain.coef, rtol=1e-8)
    variance = row[0, :2] @ plain.covariance @ row[0, :2]
    assert_allclose(stderr, np.sqrt(variance), rtol=1e-6)


def test_median_over_repeats_by_hand():
    estimate, stderr = median_over_repeats(
        np.array([[1.0], [2.0], [4.0]]), np.array([[0.5], [1.0], [0.25]])
    )
    assert estimate.item() == 2.0
    # 0.5 + 1, 1 + 0, 0.25 + 4.
    assert_allclose(stderr.item(), np.sqrt(1.5))


def test_simultaneous_intervals_of_independent_effects_are_sidak():
    k = 5
    effects = LinearEffects(
        [str(j) for j in range(k)], np.zeros((1, k)), np.eye(k)[None], np.empty((k, 0)), "group"
    )
    sidak = norm.ppf(0.5 + 0.5 * 0.95 ** (1 / k))
    # The quantile of 10,000 draws of the largest of five normals has an error of 0.016.
    assert_allclose(effects.confint(simultaneous=True)[:, 1], sidak, atol=0.05)
    assert_allclose(effects.confint()[:, 1], norm.ppf(0.975))
    single = LinearEffects(["a"], np.zeros((1, 1)), np.eye(1)[None], np.empty((1, 0)), "group")
    assert_allclose(single.confint(simultaneous=True)[:, 1], norm.ppf(0.975), atol=0.06)

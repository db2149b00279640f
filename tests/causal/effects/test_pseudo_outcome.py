"""Pseudo-outcomes have the mean that they are for, and weights the variance."""

import numpy as np
import pytest
from numpy.testing import assert_allclose

from causal import pseudo_outcome, pseudo_outcome_weights

KINDS = ("dr", "u", "cov", "ipw", "plugin")


@pytest.fixture
def truth(rng):
    """Random nuisances that are consistent with each other."""
    n = 50
    e, mu0, mu1 = rng.uniform(0.05, 0.95, n), rng.normal(size=n), rng.normal(size=n)
    return {"propensity": e, "mu0": mu0, "mu1": mu1, "m": e * mu1 + (1 - e) * mu0}


def mean_over_arms(kind, truth, given=None, weighting=None):
    """E[w f | X] and E[w | X] when outcomes are noise-free, by enumerating the two arms."""
    e = truth["propensity"]
    given = given or truth
    total = weight = 0.0
    for arm, share, y in ((1, e, truth["mu1"]), (0, 1 - e, truth["mu0"])):
        t = np.full(len(e), float(arm))
        f = pseudo_outcome(kind, y, t, **given)
        w = pseudo_outcome_weights(weighting, t, given["propensity"])
        total, weight = total + share * w * f, weight + share * w
    return total, weight


@pytest.mark.parametrize("kind", KINDS)
def test_mean_over_arms_is_the_effect_at_the_true_nuisances(kind, truth):
    mean, _ = mean_over_arms(kind, truth)
    assert_allclose(mean, truth["mu1"] - truth["mu0"], atol=1e-12)


@pytest.mark.parametrize("weighting", ["residual", "overlap", "u_marginal", "dr_conditional"])
def test_weights_leave_the_mean_of_u_and_dr_alone(weighting, truth):
    for kind in ("u", "dr"):
        mean, weight = mean_over_arms(kind, truth, weighting=weighting)
        assert_allclose(mean, weight * (truth["mu1"] - truth["mu0"]), atol=1e-12)


def test_arm_weights_bias_cov_which_is_why_the_regressor_refuses_them(truth):
    mean, weight = mean_over_arms("cov", truth, weighting="residual")
    assert np.abs(mean - weight * (truth["mu1"] - truth["mu0"])).max() > 0.01


def test_dr_is_the_effect_for_any_outcome_model_if_the_propensity_is_right(truth, rng):
    wrong = {**truth, "mu0": rng.normal(size=50), "mu1": rng.normal(size=50)}
    mean, _ = mean_over_arms("dr", truth, wrong)
    assert_allclose(mean, truth["mu1"] - truth["mu0"], atol=1e-12)


def test_dr_is_the_effect_row_by_row_for_any_propensity_if_outcomes_are_right(truth, rng):
    wrong = {**truth, "propensity": rng.uniform(0.05, 0.95, 50)}
    for arm, y in ((1.0, truth["mu1"]), (0.0, truth["mu0"])):
        f = pseudo_outcome("dr", y, np.full(50, arm), **wrong)
        assert_allclose(f, truth["mu1"] - truth["mu0"], atol=1e-12)


def test_bias_of_dr_is_the_product_of_errors_over_the_estimated_propensity(truth, rng):
    hat = {name: value + rng.uniform(-0.02, 0.02, 50) for name, value in truth.items()}
    mean, _ = mean_over_arms("dr", truth, hat)
    error = truth["propensity"] - hat["propensity"]
    bias = error * (truth["mu1"] - hat["mu1"]) / hat["propensity"]
    bias += error * (truth["mu0"] - hat["mu0"]) / (1 - hat["propensity"])
    assert_allclose(mean - (truth["mu1"] - truth["mu0"]), bias, atol=1e-12)


def test_bias_of_weighted_forms(truth, rng):
    """Equations of second order for dr-overlap and u-residual, of first order for cov-overlap."""
    hat = {name: value + rng.uniform(-0.02, 0.02, 50) for name, value in truth.items()}
    e, e_hat, tau = truth["propensity"], hat["propensity"], truth["mu1"] - truth["mu0"]
    d = e - e_hat
    mean, weight = mean_over_arms("dr", truth, hat, "overlap")
    expected = d * ((1 - e_hat) * (truth["mu1"] - hat["mu1"]) + e_hat * (truth["mu0"] - hat["mu0"]))
    assert_allclose(mean - weight * tau, expected, atol=1e-12)
    mean, weight = mean_over_arms("u", truth, hat, "residual")
    assert_allclose(mean - weight * tau, d * (truth["m"] - hat["m"]) - d**2 * tau, atol=1e-12)
    mean, weight = mean_over_arms("cov", truth, hat, "overlap")
    expected = d * (truth["m"] - hat["m"]) + tau * d * (1 - e - e_hat)
    assert_allclose(mean - weight * tau, expected, atol=1e-12)


def test_in_a_trial_without_effect_dr_cov_and_u_agree_and_weights_are_constant(rng):
    y, t, m = rng.normal(size=40), rng.integers(0, 2, 40), rng.normal(size=40)
    half = np.full(40, 0.5)
    forms = [
        pseudo_outcome(kind, y, t, propensity=half, m=m, mu0=m, mu1=m)
        for kind in ("dr", "cov", "u")
    ]
    assert_allclose(forms[1], forms[0], atol=1e-12)
    assert_allclose(forms[2], forms[0], atol=1e-12)
    for kind in ("residual", "overlap", "u_marginal", "dr_conditional", "dr_conditional_sqrt"):
        weights = pseudo_outcome_weights(kind, t, half)
        assert_allclose(weights, weights[0], rtol=1e-12)


def test_swapping_the_arms_flips_the_sign(truth, rng):
    y, t = rng.normal(size=50), rng.integers(0, 2, 50)
    swapped = {
        "propensity": 1 - truth["propensity"],
        "mu0": truth["mu1"],
        "mu1": truth["mu0"],
        "m": truth["m"],
    }
    for kind in KINDS:
        there = pseudo_outcome(kind, y, t, **truth)
        assert_allclose(pseudo_outcome(kind, y, 1 - t, **swapped), -there, rtol=1e-12)
    for kind in ("residual", "overlap", "u_marginal"):
        there = pseudo_outcome_weights(kind, t, truth["propensity"])
        back = pseudo_outcome_weights(kind, 1 - t, 1 - truth["propensity"])
        assert_allclose(back, there, rtol=1e-12)


@pytest.mark.parametrize(
    ("kind", "weighting"), [("dr", "overlap"), ("u", "u_marginal"), ("cov", "overlap")]
)
def test_weights_are_inverse_variances_given_the_covariates(kind, weighting, truth):
    """Without effect and baseline, with noise of deviation one, up to the factor of all rows."""
    e = truth["propensity"]
    zero = {"propensity": e, "mu0": 0 * e, "mu1": 0 * e, "m": 0 * e}
    variance = sum(
        share * pseudo_outcome(kind, np.ones(len(e)), np.full(len(e), arm), **zero) ** 2
        for arm, share in ((1.0, e), (0.0, 1 - e))
    )
    assert_allclose(pseudo_outcome_weights(weighting, np.ones(len(e)), e) * variance, 1, rtol=1e-12)


def test_a_continuous_residual_is_kept_away_from_zero_in_outcome_and_weight(rng):
    t, e, y = rng.normal(size=30), np.zeros(30), rng.normal(size=30)
    t[0] = 0.0
    floor = 1e-3 * t.std()
    f = pseudo_outcome("u", y, t, m=np.zeros(30), propensity=e)
    assert_allclose(f[0], y[0] / floor)
    assert_allclose(pseudo_outcome_weights("residual", t, e)[0], floor**2)


def test_bad_arguments_say_what_to_pass():
    with pytest.raises(ValueError, match="kind 'dr' needs propensity"):
        pseudo_outcome("dr", [1.0], [1])
    with pytest.raises(ValueError, match="choose one of"):
        pseudo_outcome("r", [1.0], [1])
    with pytest.raises(ValueError, match="choose one of"):
        pseudo_outcome_weights("r", [1.0], [0.5])
    with pytest.raises(ValueError, match="perfectly predicted"):
        pseudo_outcome("u", [1.0, 2.0], [1, 0], m=[0, 0], propensity=[1, 0])
    with pytest.raises(ValueError, match="1 negative"):
        pseudo_outcome_weights(lambda t, e: t - e, [1.0, 0.0], [0.5, 0.5])
    with pytest.raises(ValueError, match="returned shape"):
        pseudo_outcome_weights(lambda t, e: 1.0, [1.0, 0.0], [0.5, 0.5])

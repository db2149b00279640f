"""Losses are means of squares, and a score of zero is the best constant."""

import numpy as np
import pytest
from numpy.testing import assert_allclose

from causal import dr_loss, make_cate, pseudo_outcome, r_loss, r_score


@pytest.fixture
def study():
    return make_cate(400, setup="A", random_state=0)


def test_r_loss_is_the_weighted_mean_square(study, rng):
    s = rng.uniform(size=400)
    residual = study.y - study.m - (study.treatment - study.propensity) * study.effect
    expected = np.average(residual**2, weights=s)
    found = r_loss(study.y, study.treatment, study.effect, study.m, study.propensity, s)
    assert_allclose(found, expected, rtol=1e-12)


def test_difference_of_r_losses_is_the_overlap_weighted_error_in_large_samples():
    study = make_cate(400_000, setup="A", random_state=1)
    arguments = study.m, study.propensity
    wrong = study.effect + 0.5 * study.X[:, 0]
    excess = r_loss(study.y, study.treatment, wrong, *arguments) - r_loss(
        study.y, study.treatment, study.effect, *arguments
    )
    e = study.propensity
    expected = np.mean(e * (1 - e) * (0.5 * study.X[:, 0]) ** 2)
    # The standard error of the difference is that of the mean of 2 (t - e) noise x / 2.
    assert abs(excess - expected) < 4 * np.std((study.treatment - e) * study.X[:, 0]) / 400_000**0.5


def test_dr_loss_is_the_weighted_mean_square(study):
    named = {name: study[name] for name in ("propensity", "mu0", "mu1")}
    f = pseudo_outcome("dr", study.y, study.treatment, **named)
    e = study.propensity
    for weighting, w in ((None, np.ones(400)), ("overlap", e * (1 - e))):
        found = dr_loss(study.y, study.treatment, study.effect, **named, weighting=weighting)
        assert_allclose(found, np.average((f - study.effect) ** 2, weights=w), rtol=1e-12)


def test_r_score_is_zero_for_the_best_constant_and_larger_for_the_truth(study):
    tt, yt = study.treatment - study.propensity, study.y - study.m
    constant = np.full(400, tt @ yt / (tt @ tt))
    arguments = study.m, study.propensity
    assert abs(r_score(study.y, study.treatment, constant, *arguments)) < 1e-12
    noiseless = study.m + tt * study.effect
    assert_allclose(r_score(noiseless, study.treatment, study.effect, *arguments), 1.0)


def test_lengths_must_agree(study):
    with pytest.raises(ValueError, match="one number per row"):
        r_loss(study.y, study.treatment, study.effect[:-1], study.m, study.propensity)

"""Facts about scores of quantile forecasts."""

import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy.integrate import quad
from scipy.stats import norm
from sklearn.metrics import mean_pinball_loss

from reweight import (
    crps_from_quantiles,
    interval_calibration_error,
    interval_score,
    pinball_loss,
    quantile_calibration_error,
    sort_quantiles,
    weighted_interval_score,
)
from reweight.metrics._quantile_checks import central_pairs, check_quantiles

LEVELS = np.array([0.05, 0.25, 0.5, 0.75, 0.95])


def forecasts(rng, n=200, levels=LEVELS):
    y = rng.normal(size=n)
    q = np.sort(0.3 * y[:, None] + rng.normal(size=(n, len(levels))), axis=1)
    return y, q, rng.uniform(0.5, 2.0, size=n)


def test_pinball_loss_is_that_of_scikit_learn_at_each_level(rng):
    y, q, w = forecasts(rng)
    expected = [
        mean_pinball_loss(y, q[:, k], sample_weight=w, alpha=tau) for k, tau in enumerate(LEVELS)
    ]
    assert_allclose(
        pinball_loss(y, q, LEVELS, sample_weight=w, per_quantile=True), expected, rtol=1e-12
    )
    assert_allclose(pinball_loss(y, q, LEVELS, sample_weight=w), np.mean(expected))


def test_interval_score_is_two_pinball_losses(rng):
    y, q, w = forecasts(rng)
    alpha = 0.1
    losses = pinball_loss(y, q, LEVELS, sample_weight=w, per_quantile=True)
    score = interval_score(y, q[:, 0], q[:, 4], 0.9, sample_weight=w)
    assert_allclose(alpha / 2 * score, losses[0] + losses[4], rtol=1e-12)


def test_weighted_interval_score_is_the_formula_of_its_authors(rng):
    y, q, w = forecasts(rng)
    total = 0.5 * np.average(np.abs(y - q[:, 2]), weights=w)
    for low, high, alpha in ((0, 4, 0.1), (1, 3, 0.5)):
        score = interval_score(y, q[:, low], q[:, high], 1 - alpha, sample_weight=w)
        total += alpha / 2 * score
    expected = total / 2.5
    assert_allclose(weighted_interval_score(y, q, LEVELS, sample_weight=w), expected, rtol=1e-12)
    summed = weighted_interval_score(y, q, LEVELS, sample_weight=w, reduction="sum")
    assert_allclose(summed, 5 * expected, rtol=1e-12)


def test_both_scores_approach_the_crps_of_the_normal_law(rng):
    levels = np.arange(1, 1000) / 1000
    y = rng.normal(size=300)
    exact = np.mean(y * (2 * norm.cdf(y) - 1) + 2 * norm.pdf(y) - 1 / np.sqrt(np.pi))
    q = np.tile(norm.ppf(levels), (300, 1))
    assert_allclose(weighted_interval_score(y, q, levels), exact, rtol=1e-2)
    assert_allclose(crps_from_quantiles(y, q, levels), exact, rtol=1e-3)
    # On an uneven grid only the integral is right.
    uneven = np.concatenate([np.arange(1, 100) / 1000, np.arange(10, 100) / 100])
    q = np.tile(norm.ppf(uneven), (300, 1))
    assert abs(weighted_interval_score(y, q, uneven) / exact - 1) > 0.05
    assert_allclose(crps_from_quantiles(y, q, uneven), exact, rtol=1e-2)


@pytest.mark.parametrize("y", [-3.0, 0.2, 0.5, 1.0, 4.0])
def test_crps_is_the_integral_over_levels_and_over_outcomes(y):
    levels, q = np.array([0.1, 0.3, 0.8]), np.array([-1.0, 0.5, 1.5])

    def loss(tau):
        residual = y - np.interp(tau, levels, q)
        return 2 * max(tau * residual, (tau - 1) * residual)

    def brier(z):
        # The law has mass 0.1 and 0.2 at its ends.
        share = 0.0 if z < q[0] else 1.0 if z >= q[-1] else np.interp(z, q, levels)
        return (share - (z >= y)) ** 2

    found = crps_from_quantiles([y], q[None], levels)
    points = [0.1, 0.3, 0.8, np.interp(y, q, levels)]
    assert_allclose(found, quad(loss, 0, 1, points=points, epsabs=1e-12)[0], atol=1e-9)
    integral = quad(brier, -5, 5, points=[*q, y], epsabs=1e-12, limit=200)[0]
    assert_allclose(found, integral, atol=1e-8)


def test_crps_handles_steps_of_the_law():
    assert_allclose(crps_from_quantiles([2.0], [[1.0, 1.0, 1.0]], [0.2, 0.5, 0.9]), 1.0)


def test_calibration_errors_by_hand():
    y, q = np.arange(1.0, 11.0), np.tile([2.5, 5.5, 9.5], (10, 1))
    levels = [0.1, 0.5, 0.9]
    assert_allclose(quantile_calibration_error(y, q, levels), (0.1 + 0 + 0) / 3)
    squared = quantile_calibration_error(y, q, levels, kind="squared")
    assert_allclose(squared, np.sqrt(0.01 / 3))
    assert_allclose(interval_calibration_error(y, q, levels), 0.1)
    weights = np.where(y > 9.5, 11.0, 1.0)
    shares = np.array([2, 5, 9]) / 20
    expected = np.abs(shares - levels).mean()
    assert_allclose(quantile_calibration_error(y, q, levels, sample_weight=weights), expected)


def test_sample_weights_count_rows(rng):
    y, q, _ = forecasts(rng)
    counts = rng.integers(0, 4, size=200)
    index = np.repeat(np.arange(200), counts)
    for score in (
        pinball_loss,
        weighted_interval_score,
        quantile_calibration_error,
        interval_calibration_error,
        crps_from_quantiles,
    ):
        weighted = score(y, q, LEVELS, sample_weight=counts.astype(float))
        assert_allclose(weighted, score(y[index], q[index], LEVELS), rtol=1e-12)


def test_infinite_ends_are_scored_and_count_for_coverage():
    q = [[-np.inf, 0.0, np.inf]]
    assert pinball_loss([1.0], q, [0.1, 0.5, 0.9]) == np.inf
    assert_allclose(interval_calibration_error([1.0], q, [0.1, 0.5, 0.9]), 0.2)


def test_pairs_are_found_in_spite_of_rounding():
    levels = np.arange(1, 100) / 100
    pairs = central_pairs(levels)
    assert pairs == [(k, 98 - k) for k in range(49)]
    assert central_pairs(np.array([0.1, 0.2, 0.7])) == []
    assert central_pairs(np.array([0.1, 0.3, 0.5, 0.9])) == [(0, 3)]


@pytest.mark.parametrize(
    ("levels", "message"),
    [
        ([0.1, 0.9, 0.5], r"got 0.9 followed by 0.5"),
        ([0.1, 0.5, 0.5], r"got 0.5 twice"),
        ([0.0, 0.5], r"in \(0, 1\), got 0 at position 0"),
        ([5, 50, 95], r"in \(0, 1\), got 5 at position 0; percentages"),
        ([0.5, np.nan], r"got nan"),
        ([], r"one-dimensional"),
        ([[0.5]], r"one-dimensional"),
        (["a"], r"one-dimensional"),
    ],
)
def test_levels_that_are_none_are_refused(levels, message):
    with pytest.raises(ValueError, match=message):
        check_quantiles(levels, "caller")


def test_bad_forecasts_are_refused(rng):
    y, q, _ = forecasts(rng)
    with pytest.raises(ValueError, match="pass one row of quantiles per outcome"):
        pinball_loss(y, q[:, :3], LEVELS)
    broken = q.copy()
    broken[:7, 1] = np.nan
    with pytest.raises(ValueError, match="7 rows have outcomes"):
        weighted_interval_score(y, broken, LEVELS)
    with pytest.raises(ValueError, match="200 rows have quantiles that cross"):
        crps_from_quantiles(y, q[:, ::-1], LEVELS)
    assert crps_from_quantiles(y, sort_quantiles(q[:, ::-1]), LEVELS) > 0
    with pytest.raises(ValueError, match="no two quantiles add up to one"):
        interval_calibration_error(y, q[:, :2], LEVELS[:2])
    with pytest.raises(ValueError, match="confidence_level must be between"):
        interval_score(y, q[:, 0], q[:, 1], 1.0)
    with pytest.raises(ValueError, match="one of each per row"):
        interval_score(y, q[:9, 0], q[:, 1], 0.9)
    with pytest.raises(ValueError, match="200 rows have NaN"):
        interval_score(y, q[:, 0], np.full(200, np.nan), 0.9)
    with pytest.raises(ValueError, match="reduction must be"):
        weighted_interval_score(y, q, LEVELS, reduction="median")
    with pytest.raises(ValueError, match="kind must be"):
        quantile_calibration_error(y, q, LEVELS, kind="signed")
    with pytest.raises(ValueError, match="Negative values"):
        pinball_loss(y, q, LEVELS, sample_weight=-np.ones(200))

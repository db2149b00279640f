"""Figures of forecasts with standard deviations: closed forms, integrals, other libraries."""

import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy.integrate import quad
from scipy.stats import norm, spearmanr

from reweight import uncertainty_report


@pytest.fixture(name="forecast")
def forecast_of_many_scales(rng):
    std = rng.uniform(0.5, 3, size=400)
    mean = rng.normal(size=400)
    return mean + 1.3 * std * rng.normal(size=400), mean, std


def test_scores_of_a_right_forecast_are_those_of_the_normal_law(rng):
    n = 200_000
    std = rng.uniform(1, 3, size=n)
    report = uncertainty_report(std * rng.normal(size=n), np.zeros(n), std)
    assert_allclose(report["z_mean"], 0, atol=0.01)
    assert_allclose(report["z_std"], 1, atol=0.01)
    assert_allclose(report["z_p95"], 1.96, atol=0.02)
    coverage = [report[f"coverage_{k}std"] for k in (1, 2, 3)]
    assert_allclose(coverage, [0.6827, 0.9545, 0.9973], atol=0.004)
    assert report["ence"] < 0.01
    assert_allclose(report["calibration_slope"], 1, atol=0.02)
    assert report["miscalibration_area"] < 0.005
    # E of the normal CRPS at its own law is std / sqrt(pi).
    assert_allclose(report["crps"], std.mean() / np.sqrt(np.pi), rtol=0.01)
    assert_allclose(report["sharpness"], np.sqrt(np.mean(std**2)))
    assert_allclose(report["rmse"], report["sharpness"], rtol=0.01)


def test_crps_is_the_integral_that_it_is_defined_by(forecast):
    y, mean, std = (values[:5] for values in forecast)
    integrals = [
        quad(lambda t, *law: norm.cdf(t, *law) ** 2, -40, value, tuple(law))[0]
        + quad(lambda t, *law: norm.sf(t, *law) ** 2, value, 40, tuple(law))[0]
        for value, *law in zip(y, mean, std, strict=True)
    ]
    assert_allclose(uncertainty_report(y, mean, std)["crps"], np.mean(integrals), rtol=1e-6)


def test_likelihood_and_correlation_agree_with_scipy(forecast):
    y, mean, std = forecast
    report = uncertainty_report(y, mean, std)
    assert_allclose(report["nll"], -norm.logpdf(y, mean, std).mean(), rtol=1e-12)
    expected = spearmanr(np.abs(y - mean), std).statistic
    assert_allclose(report["rank_correlation"], expected, rtol=1e-10)


def test_the_area_is_the_integral_between_coverage_and_level(forecast):
    y, mean, std = forecast
    level = (np.arange(200_000) + 0.5) / 200_000
    inside = np.searchsorted(np.sort(2 * norm.cdf(np.abs(y - mean) / std) - 1), level) / len(y)
    expected = np.abs(inside - level).mean()
    assert_allclose(uncertainty_report(y, mean, std)["miscalibration_area"], expected, rtol=1e-3)


def test_bins_by_loops(forecast):
    y, mean, std = forecast
    order = np.argsort(std).reshape(10, 40)
    rmse = np.array([np.sqrt(np.mean((y - mean)[rows] ** 2)) for rows in order])
    rmv = np.array([np.sqrt(np.mean(std[rows] ** 2)) for rows in order])
    report = uncertainty_report(y, mean, std)
    assert_allclose(report["ence"], np.mean(np.abs(rmse - rmv) / rmv), rtol=1e-10)
    assert_allclose(report["calibration_slope"], np.polyfit(rmv, rmse, 1)[0], rtol=1e-8)


def test_a_weight_counts_rows(forecast, rng):
    y, mean, std = forecast
    counts = rng.integers(0, 4, size=400)
    index = np.repeat(np.arange(400), counts)
    repeated = uncertainty_report(y[index], mean[index], std[index], n_bins=4)
    weighted = uncertainty_report(y, mean, std, sample_weight=counts, n_bins=4)
    assert repeated.keys() == weighted.keys()
    for name, value in repeated.items():
        assert_allclose(weighted[name], value, rtol=1e-9, err_msg=name)


def test_units_and_order_do_not_matter(forecast, rng):
    y, mean, std = forecast
    report = uncertainty_report(y, mean, std)
    order = rng.permutation(400)
    shuffled = uncertainty_report(y[order], mean[order], std[order])
    scaled = uncertainty_report(3 - 100 * y, 3 - 100 * mean, 100 * std)
    for name, value in report.items():
        assert_allclose(shuffled[name], value, rtol=1e-9)
        expected = {
            "z_mean": -value,
            "nll": value + np.log(100),
            "crps": 100 * value,
            "rmse": 100 * value,
            "sharpness": 100 * value,
        }.get(name, value)
        assert_allclose(scaled[name], expected, rtol=1e-9, err_msg=name)


def test_equal_standard_deviations_are_one_bin(rng):
    y = rng.normal(size=50)
    report = uncertainty_report(y, np.zeros(50), np.ones(50))
    assert np.isnan(report["calibration_slope"])
    assert np.isnan(report["rank_correlation"])
    assert_allclose(report["ence"], abs(np.sqrt(np.mean(y**2)) - 1))


def test_bad_input_is_named():
    with pytest.raises(ValueError, match=r"std has 1 entries that are not positive"):
        uncertainty_report([1.0, 2.0], [1.0, 2.0], [1.0, 0.0])
    with pytest.raises(ValueError, match=r"\[2, 1, 2\] entries"):
        uncertainty_report([1.0, 2.0], [1.0], [1.0, 1.0])
    with pytest.raises(ValueError, match="mean has 1 entries that are NaN"):
        uncertainty_report([1.0, 2.0], [1.0, np.nan], [1.0, 1.0])
    with pytest.raises(ValueError, match="y has shape"):
        uncertainty_report([[1.0]], [1.0], [1.0])
    with pytest.raises(ValueError, match="n_bins must be a positive integer, got 0"):
        uncertainty_report([1.0], [1.0], [1.0], n_bins=0)

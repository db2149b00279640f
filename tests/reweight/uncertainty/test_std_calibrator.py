"""Calibrated standard deviations: moments, limits, and the published table's form."""

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy.optimize import minimize
from scipy.stats import norm, spearmanr

from reweight import StdCalibrator
from reweight.exceptions import WeightWarning

METHODS = ["bins", "scaling", "affine", "isotonic"]


@pytest.fixture(name="pairs")
def stated_and_made(rng):
    std = rng.gamma(2.0, 1.0, size=2000) + 0.1
    return std, 3 * std**0.7 * rng.normal(size=2000)


def test_scaling_makes_squared_z_one_on_average(pairs):
    std, error = pairs
    calibrator = StdCalibrator("scaling").fit(std, error)
    assert_allclose(np.mean((error / calibrator.transform(std)) ** 2), 1, rtol=1e-12)
    best = minimize(lambda a: -norm.logpdf(error, scale=a[0] * std).sum(), [1.0], tol=1e-10)
    assert_allclose(calibrator.ratio_[0], best.x[0], rtol=1e-4)


def test_bins_meet_the_errors_of_each_bin(pairs, rng):
    std, error = pairs
    for weights in (np.ones(2000), rng.exponential(size=2000)):
        calibrator = StdCalibrator(interpolate=False).fit(std, error, weights)
        sigma = calibrator.transform(std)
        code = np.searchsorted(calibrator.bin_edges_, std, side="right")
        assert len(calibrator.ratio_) == 20
        assert_allclose(calibrator.bin_counts_, 100)
        made, stated = (np.bincount(code, weights * values**2) for values in (error, sigma))
        assert_allclose(made, stated, rtol=1e-10)


@pytest.mark.parametrize("scale", ["rms", "mad", "quantile"])
@pytest.mark.parametrize("method", METHODS)
def test_a_constant_factor_is_found_by_all(method, scale):
    rng = np.random.default_rng(0)
    std = rng.uniform(1, 3, size=100_000)
    error = 3 * std * rng.normal(size=100_000)
    inner = np.linspace(1.2, 2.8, 9)
    ratio = StdCalibrator(method, scale=scale).fit(std, error).transform(inner) / inner
    tolerance = 0.3 if method == "isotonic" else 0.12 if scale != "rms" else 0.08
    assert_allclose(ratio, 3, atol=tolerance)
    if method != "isotonic":
        assert_allclose(ratio.mean(), 3, atol=0.05)


def test_affine_recovers_floor_and_slope():
    rng = np.random.default_rng(1)
    std = rng.gamma(2.0, 1.0, size=100_000)
    error = np.sqrt(2.0 + 0.5 * std**2) * rng.normal(size=100_000)
    calibrator = StdCalibrator("affine").fit(std, error)
    assert_allclose([calibrator.intercept_, calibrator.slope_], [2.0, 0.5], rtol=0.05)


def test_affine_is_stationary_in_the_likelihood(pairs):
    std, error = pairs
    calibrator = StdCalibrator("affine").fit(std, error)
    a, b = calibrator.intercept_, calibrator.slope_

    def loss(a, b):
        return -norm.logpdf(error, scale=np.sqrt(a + b * std**2)).mean()

    for da, db in ((1.01, 1), (0.99, 1), (1, 1.01), (1, 0.99)):
        assert loss(da * a, db * b) > loss(a, b)


@pytest.mark.parametrize("method", METHODS)
def test_units_scale_through(method, pairs):
    std, error = pairs
    sigma = StdCalibrator(method).fit(std, error).transform(std)
    scaled = StdCalibrator(method).fit(std, -100 * error).transform(std)
    assert_allclose(scaled, 100 * sigma, rtol=1e-5)
    both = StdCalibrator(method).fit(100 * std, 100 * error).transform(100 * std)
    assert_allclose(both, 100 * sigma, rtol=1e-5)


@pytest.mark.parametrize("method", ["scaling", "affine", "isotonic"])
def test_order_of_standard_deviations_is_kept(method, pairs):
    std, error = pairs
    sigma = StdCalibrator(method).fit(std, error).transform(std)
    assert np.all(np.diff(sigma[np.argsort(std)]) >= 0)
    assert sigma.min() > 0
    if method != "isotonic":
        correlation = [spearmanr(s, np.abs(error)).statistic for s in (std, sigma)]
        assert_allclose(correlation[1], correlation[0], rtol=1e-12)


def test_interpolation_is_linear_in_logarithms(pairs):
    std, error = pairs
    calibrator = StdCalibrator(n_bins=4).fit(std, error)
    centers, ratio = calibrator.bin_centers_, calibrator.ratio_
    assert_allclose(calibrator.transform(centers), ratio * centers, rtol=1e-12)
    between = np.sqrt(centers[1] * centers[2])
    expected = np.sqrt(ratio[1] * ratio[2]) * between
    assert_allclose(calibrator.transform([between]), expected, rtol=1e-12)
    beyond = calibrator.transform([centers[0] / 2, 2 * centers[-1]])
    assert_allclose(beyond, [ratio[0] * centers[0] / 2, ratio[-1] * 2 * centers[-1]], rtol=1e-12)


def test_bins_of_a_width_are_those_of_the_published_table(rng):
    std = rng.uniform(0, 10, size=5000)
    table = np.array([3.30, 2.11, 1.61, 1.38, 1.26])
    error = table[(std // 2).astype(int)] * std * rng.choice([-1, 1], size=5000)
    calibrator = StdCalibrator(bin_width=2.0, interpolate=False).fit(std, error)
    assert_array_equal(calibrator.bin_edges_, [2, 4, 6, 8])
    assert_allclose(calibrator.ratio_, table, rtol=1e-10)
    # Beyond the table, the last bin holds.
    assert_allclose(calibrator.transform([1.0, 2.0, 99.0]), [3.3, 2.11 * 2, 1.26 * 99], rtol=1e-10)


def test_thin_bins_are_merged_and_said(rng):
    std = np.append(rng.uniform(0, 4, size=200), [11.0, 13.0])
    with pytest.warns(WeightWarning, match="202 rows fill 2 of 7 bins"):
        calibrator = StdCalibrator(bin_width=2.0).fit(std, rng.normal(size=202))
    assert calibrator.bin_counts_.sum() == 202
    assert calibrator.bin_counts_.min() >= 30
    with pytest.warns(WeightWarning, match="40 rows fill 1 of 20 bins"):
        StdCalibrator().fit(std[:40], rng.normal(size=40))


@pytest.mark.parametrize("method", METHODS)
def test_members_that_agree_do_not_make_a_prediction_exact(method, rng):
    std = np.append(np.zeros(100), rng.uniform(1, 2, size=400))
    error = np.append(0.5 * rng.normal(size=100), 3 * rng.normal(size=400))
    sigma = StdCalibrator(method).fit(std, error).transform([0.0, 1.5])
    assert np.isfinite(sigma).all()
    assert 0.3 < sigma[0] < 0.8 if method != "affine" else sigma[0] > 0.05
    assert_allclose(sigma[1], 3, rtol=0.25)


def test_one_standard_deviation_for_all_leaves_one_factor(rng):
    error = rng.normal(size=300)
    with pytest.warns(WeightWarning, match="all 300 standard deviations equal 2"):
        calibrator = StdCalibrator().fit(np.full(300, 2.0), error)
    assert calibrator.method_ == "scaling"
    assert_allclose(calibrator.transform([2.0]), np.sqrt(np.mean(error**2)))
    with pytest.warns(WeightWarning, match="equal 0"):
        silent = StdCalibrator().fit(np.zeros(300), error)
    assert_allclose(silent.transform([0.0]), np.sqrt(np.mean(error**2)))


def test_bad_input_is_named(pairs):
    std, error = pairs
    with pytest.raises(ValueError, match="1 entries, the smallest -1"):
        StdCalibrator().fit(np.append(-1, std[1:]), error)
    with pytest.raises(ValueError, match="contains NaN"):
        StdCalibrator().fit(np.append(np.nan, std[1:]), error)
    with pytest.raises(ValueError, match="1 errors are NaN or infinite"):
        StdCalibrator().fit(std, np.append(np.inf, error[1:]))
    with pytest.raises(ValueError, match="2000 rows but y has 3"):
        StdCalibrator().fit(std, error[:3])
    with pytest.raises(ValueError, match="all 2000 errors are zero"):
        StdCalibrator().fit(std, np.zeros(2000))
    with pytest.raises(ValueError, match=r"shape \(1000, 2\)"):
        StdCalibrator().fit(std.reshape(-1, 2), error[:1000])
    with pytest.raises(ValueError, match="pass a larger one"):
        StdCalibrator(bin_width=1e-9).fit(std, error)

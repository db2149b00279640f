"""Bands of the weight function and the test of target shift."""

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from shift import ReTaSA, make_target_shift

pytestmark = pytest.mark.filterwarnings("ignore::reweight.exceptions.WeightWarning")


def fit(data, X_target=None, **parameters):
    target = data.X_target if X_target is None else X_target
    return ReTaSA(random_state=0, **parameters).fit(data.X, data.y, X_target=target)


@pytest.mark.parametrize("nonnegative", ["clip", "constrained"])
def test_interval_is_made_of_percentiles_of_resamples(nonnegative):
    data = make_target_shift(300, random_state=0)
    weighter = fit(data, n_resamples=60, nonnegative=nonnegative)
    draws, grid = weighter._draws, weighter.grid_
    assert draws.shape == (60, len(grid))
    assert draws.min() >= 0
    assert_allclose(weighter.grid_stderr_, draws.std(axis=0, ddof=1))
    wide, narrow = weighter.weight_interval(grid), weighter.weight_interval(grid, 0.5)
    assert_allclose(wide, np.quantile(draws, [0.025, 0.975], axis=0).T, atol=1e-12)
    assert (wide[:, 0] <= narrow[:, 0]).all()
    assert (narrow[:, 1] <= wide[:, 1]).all()
    inside = (weighter.grid_weights_ >= wide[:, 0]) & (weighter.grid_weights_ <= wide[:, 1])
    density = weighter.source_density(grid)
    assert density @ inside > 0.9 * density.sum()


@pytest.mark.parametrize("d", [1, 3])
def test_resamples_do_not_depend_on_jobs_and_follow_the_seed(d):
    data = make_target_shift(80, n_features=d, random_state=0)
    alone, shared = (fit(data, n_resamples=4, n_jobs=n_jobs) for n_jobs in (1, 2))
    assert_array_equal(alone._draws, shared._draws)
    assert_array_equal(alone.weights_, shared.weights_)
    other = ReTaSA(random_state=1, n_resamples=4).fit(data.X, data.y, X_target=data.X_target)
    assert np.abs(other._draws - alone._draws).max() > 0
    pair = [fit(data).target_shift_test(5).null for _ in range(2)]
    assert_array_equal(*pair)


def test_bootstrap_spread_is_that_of_new_samples():
    grid = np.linspace(-1, 2, 7)
    fits = [fit(make_target_shift(800, random_state=seed), solver="binned") for seed in range(60)]
    truth = np.std([weighter.predict_weights(y=grid) for weighter in fits], axis=0, ddof=1)
    data = make_target_shift(800, random_state=999)
    weighter = fit(data, solver="binned", n_resamples=100)
    estimate = np.interp(grid, weighter.grid_, weighter.grid_stderr_)
    # Standard deviations of 60 and 100 draws have errors of 9 % and 7 %; weights differ by draw.
    assert_allclose(np.mean(estimate / truth), 1, atol=0.35)


def test_intervals_need_resamples_and_a_level():
    data = make_target_shift(60, random_state=0)
    with pytest.raises(ValueError, match="fit with n_resamples=200"):
        fit(data).weight_interval([0.0])
    with pytest.raises(ValueError, match="between 0 and 1, got 95"):
        fit(data, n_resamples=2).weight_interval([0.0], 95)


def test_p_value_counts_resamples_at_least_as_large():
    data = make_target_shift(200, random_state=0)
    weighter = fit(data)
    result = weighter.target_shift_test(19)
    assert result.null.shape == (19,)
    assert result.p_value == (1 + np.sum(result.null >= result.statistic)) / 20
    system = weighter._sample.system("binned", 4)
    rho = np.linalg.solve(
        system.operator + 0.01 * np.eye(len(system.nodes)), system.smooth_y @ system.eta
    )
    unexplained = system.mass_x @ (system.smooth_x @ rho - system.eta) ** 2
    assert_allclose(result.statistic, unexplained, rtol=1e-6)
    assert repr(result).startswith("TargetShiftTest(statistic=")


def sharper(data, seed):
    """Target features with less noise than the source's law of x given y has."""
    rng = np.random.default_rng(seed + 999)
    y = data.y_target
    return (y + 3 * np.tanh(y) + 0.3 * rng.normal(size=len(y)))[:, None]


def test_what_weights_cannot_make_is_found():
    data = make_target_shift(400, target_std=0.2, random_state=0)
    assert fit(data, sharper(data, 0)).target_shift_test(99).p_value == 0.01
    pair = make_target_shift(300, n_features=2, random_state=0)
    moved = pair.X_target + [0.0, 2.0]
    assert fit(pair, moved).target_shift_test(39).p_value == 0.025


@pytest.mark.slow
def test_size_and_power_of_the_test():
    def rejections(make, transform=None, n_draws=100):
        p_values = []
        for seed in range(n_draws):
            data = make(seed)
            target = None if transform is None else transform(data, seed)
            p_values.append(fit(data, target).target_shift_test(99).p_value)
        return np.mean(np.array(p_values) <= 0.05)

    # Binomial errors of 0.05 and 0.5 in 100 draws: 0.022 and 0.05.
    assert rejections(lambda seed: make_target_shift(400, random_state=seed)) < 0.05 + 3 * 0.022
    wide = {"target_mean": 0.0, "target_std": 2.0}
    assert rejections(lambda seed: make_target_shift(400, **wide, random_state=seed)) < 0.05
    narrow = {"target_std": 0.2}
    power = rejections(
        lambda seed: make_target_shift(400, **narrow, random_state=seed), sharper, n_draws=40
    )
    assert power > 0.8


@pytest.mark.slow
def test_coverage_of_pointwise_intervals():
    grid = np.array([-0.5, 0.0, 0.5, 1.0])
    covered = []
    for seed in range(100):
        data = make_target_shift(1000, random_state=seed)
        weighter = fit(data, solver="binned", n_resamples=100)
        # What the estimator converges to with these bandwidths: its mean over draws.
        covered.append((weighter.predict_weights(y=grid), weighter.weight_interval(grid)))
    center = np.mean([estimate for estimate, _ in covered], axis=0)
    share = np.mean(
        [
            (low <= center) & (center <= high)
            for _, (low, high) in [(estimate, interval.T) for estimate, interval in covered]
        ],
        axis=0,
    )
    assert (share > 0.85).all()

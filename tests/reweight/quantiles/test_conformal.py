"""Facts about calibrated quantiles: ranks by hand, coverage by simulation."""

import math
import pickle
import warnings

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy.stats import norm
from sklearn.base import clone
from sklearn.exceptions import NotFittedError

from reweight import ConformalQuantileCalibrator
from reweight.quantiles.conformal import find_pair

LEVELS = np.array([0.05, 0.25, 0.5, 0.75, 0.95])


def forecasts(rng, n, levels=LEVELS):
    """Outcomes, and quantiles that are too narrow and noisy."""
    x = rng.normal(size=n)
    y = x + rng.normal(size=n)
    q = x[:, None] + 0.5 * norm.ppf(levels) + 0.2 * rng.normal(size=(n, 1))
    return y, q


def kth(scores, level):
    """The order statistic as it is defined."""
    n = len(scores)
    rank = math.ceil(round(level * (n + 1), 9))
    return np.sort(scores)[rank - 1] if rank <= n else np.inf


def test_zero_width_quantiles_give_the_symmetric_interval_of_the_outcome():
    y = np.array([3.0, -1.0, 4.0, -1.5, 5.0, -9.0, 2.0, 6.0, 5.3])
    calibrator = ConformalQuantileCalibrator([0.05, 0.95]).fit(np.zeros((9, 2)), y)
    # Nine rows at 90 %: rank 9, the largest.
    assert_array_equal(calibrator.offsets_, [-9.0, 9.0])
    with pytest.warns(UserWarning, match="8 calibration rows are too few .* at least 9 cal"):
        short = ConformalQuantileCalibrator([0.05, 0.95]).fit(np.zeros((8, 2)), y[:8])
    assert_array_equal(short.predict([[0.0, 0.0]]), [[-np.inf, np.inf]])


def test_symmetric_and_asymmetric_intervals_by_order_statistics(rng):
    y, q = forecasts(rng, 237)
    calibrator = ConformalQuantileCalibrator(LEVELS).fit(q, y)
    for low, high, coverage in ((0, 4, 0.9), (1, 3, 0.5)):
        moved = kth(np.maximum(q[:, low] - y, y - q[:, high]), coverage)
        assert_allclose(calibrator.offsets_[[low, high]], [-moved, moved])
    assert calibrator.offsets_[2] == 0
    each = ConformalQuantileCalibrator(LEVELS, symmetric=False).fit(q, y)
    expected = [
        -kth(q[:, 0] - y, 0.95),
        -kth(q[:, 1] - y, 0.75),
        0.0,
        kth(y - q[:, 3], 0.75),
        kth(y - q[:, 4], 0.95),
    ]
    assert_allclose(each.offsets_, expected)


def test_levels_by_order_statistics(rng):
    y, q = forecasts(rng, 143)
    calibrator = ConformalQuantileCalibrator(LEVELS, mode="level").fit(q, y)
    for k, tau in enumerate(LEVELS):
        above, below = y - q[:, k], q[:, k] - y
        expected = kth(above, tau) if tau >= 0.5 else -kth(below, 1 - tau)
        assert_allclose(calibrator.offsets_[k], expected)


def test_intervals_that_are_too_wide_shrink(rng):
    y = rng.normal(size=500)
    q = np.tile(10 * norm.ppf(LEVELS), (500, 1))
    calibrator = ConformalQuantileCalibrator(LEVELS).fit(q, y)
    assert calibrator.offsets_[0] > 0 > calibrator.offsets_[4]


def test_coverage_over_many_calibration_sets():
    """99 rows at 90 % cover with a probability between 0.90 and 0.91."""
    rng = np.random.default_rng(0)
    covered = np.empty(2000)
    for repetition in range(2000):
        y, q = forecasts(rng, 99 + 50, LEVELS[[0, 4]])
        calibrator = ConformalQuantileCalibrator(LEVELS[[0, 4]]).fit(q[:99], y[:99])
        low, high = calibrator.predict(q[99:]).T
        covered[repetition] = ((low <= y[99:]) & (y[99:] <= high)).mean()
    error = covered.std() / np.sqrt(2000)
    assert 0.90 - 3 * error <= covered.mean() <= 0.91 + 3 * error


def test_levels_are_kept_one_by_one():
    rng = np.random.default_rng(1)
    below = np.zeros((500, 5))
    for repetition in range(500):
        y, q = forecasts(rng, 39 + 50)
        calibrator = ConformalQuantileCalibrator(LEVELS, mode="level", postprocess=None)
        below[repetition] = (y[39:, None] <= calibrator.fit(q[:39], y[:39]).predict(q[39:])).mean(0)
    error = 3 * below.std(axis=0) / np.sqrt(500)
    mean = below.mean(axis=0)
    upper, lower = LEVELS >= 0.5, LEVELS < 0.5
    assert (mean[upper] >= LEVELS[upper] - error[upper]).all()
    assert (mean[upper] <= LEVELS[upper] + 1 / 40 + error[upper]).all()
    assert (mean[lower] <= LEVELS[lower] + error[lower]).all()
    assert (mean[lower] >= LEVELS[lower] - 1 / 40 - error[lower]).all()


@pytest.mark.parametrize("mode", ["interval", "level"])
def test_order_afterwards_only_widens(rng, mode):
    y, q = forecasts(rng, 60)
    q = q + rng.normal(size=q.shape)
    raw = ConformalQuantileCalibrator(LEVELS, mode=mode, postprocess=None).fit(q, y)
    swept = ConformalQuantileCalibrator(LEVELS, mode=mode).fit(q, y).predict(q)
    before = raw.predict(q)
    assert (np.diff(before, axis=1) < 0).any()
    assert (np.diff(swept, axis=1) >= 0).all()
    assert (swept[:, :2] <= before[:, :2]).all()
    assert (swept[:, 3:] >= before[:, 3:]).all()
    assert_array_equal(swept[:, 2], before[:, 2])


def test_sweep_starts_at_the_median_of_uneven_levels():
    levels = [0.5, 0.7, 0.9]
    calibrator = ConformalQuantileCalibrator(levels, mode="level")
    calibrator.fit(np.zeros((99, 3)), np.zeros(99))
    assert_array_equal(calibrator.predict([[2.0, 1.0, 3.0]]), [[2.0, 2.0, 3.0]])


def test_weighted_scores_by_hand(rng):
    y, q = forecasts(rng, 50, LEVELS[[1, 3]])
    weights = rng.uniform(0.2, 3.0, size=50)
    own = rng.uniform(0.2, 3.0, size=7)
    calibrator = ConformalQuantileCalibrator(LEVELS[[1, 3]], postprocess=None)
    calibrator.fit(q, y, sample_weight=weights)
    new = rng.normal(size=(7, 2))
    found = calibrator.predict(new, sample_weight=own)
    scores = np.maximum(q[:, 0] - y, y - q[:, 1])
    for i in range(7):
        candidates = [
            s
            for s in np.sort(scores)
            if weights[scores <= s].sum() >= 0.5 * (weights.sum() + own[i]) - 1e-9
        ]
        assert_allclose(found[i], new[i] + np.array([-1, 1]) * candidates[0])
    default = calibrator.predict(new)
    assert_allclose(default, calibrator.predict(new, sample_weight=np.full(7, weights.mean())))
    equal = clone(calibrator).fit(q, y, sample_weight=np.full(50, 3.0))
    assert_allclose(equal.offsets_, clone(calibrator).fit(q, y).offsets_)
    # A row that weighs as much as all others cannot be covered by them.
    heavy = calibrator.predict(new[:1], sample_weight=[10 * weights.sum()])
    assert np.isinf(heavy).all()


def test_weights_restore_coverage_where_rows_are_shifted():
    rng = np.random.default_rng(0)
    plain, weighted = [], []
    for _ in range(200):
        x, x_new = rng.normal(size=400), rng.normal(1.0, 1.0, size=400)
        y, y_new = (z + np.exp(0.7 * z) * rng.normal(size=400) for z in (x, x_new))
        q, q_new = (np.column_stack([z, z]) for z in (x, x_new))
        ratio, ratio_new = (np.exp(z - 0.5) for z in (x, x_new))
        calibrator = ConformalQuantileCalibrator([0.1, 0.9])
        low, high = calibrator.fit(q, y).predict(q_new).T
        plain.append(((low <= y_new) & (y_new <= high)).mean())
        calibrator.fit(q, y, sample_weight=ratio)
        low, high = calibrator.predict(q_new, sample_weight=ratio_new).T
        weighted.append(((low <= y_new) & (y_new <= high)).mean())
    assert np.mean(plain) < 0.7
    assert np.mean(weighted) >= 0.8 - 3 * np.std(weighted) / np.sqrt(200)


def by_brute_force(q_fold, folds, scores, alpha, side):
    """Order statistics of the moved ends of all rows, as Barber et al. define CV+."""
    n = len(folds)
    moved = q_fold[folds] + (scores if side == "upper" else -scores)[:, None]
    moved = np.sort(moved, axis=0)
    if side == "upper":
        return moved[math.ceil(round((1 - alpha) * (n + 1), 9)) - 1]
    return moved[math.floor(round(alpha * (n + 1), 9)) - 1]


@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize(("n", "n_folds"), [(60, 5), (47, 4), (30, 30)])
def test_cross_conformal_intervals_agree_with_brute_force(rng, n, n_folds, symmetric):
    levels = np.array([0.1, 0.5, 0.9])
    y, q = forecasts(rng, n, levels)
    folds = rng.permutation(np.arange(n) % n_folds)
    Q = rng.normal(size=(n_folds, 11, 3))
    calibrator = ConformalQuantileCalibrator(levels, symmetric=symmetric, postprocess=None)
    found = calibrator.fit(q, y, folds=folds).predict(Q)
    lower, upper = q[:, 0] - y, y - q[:, 2]
    if symmetric:
        lower = upper = np.maximum(lower, upper)
    alpha = 0.2 if symmetric else 0.1
    assert_array_equal(found[:, 0], by_brute_force(Q[:, :, 0], folds, lower, alpha, "lower"))
    assert_array_equal(found[:, 2], by_brute_force(Q[:, :, 2], folds, upper, alpha, "upper"))
    assert_allclose(found[:, 1], Q[:, :, 1].mean(axis=0))


def test_leaving_one_out_of_a_mean_is_the_jackknife_plus():
    y = np.array([0.0, 1.0, 3.0, 7.0, 8.0, 12.0, 13.0, 20.0, 21.0])
    others = (y.sum() - y) / 8
    calibrator = ConformalQuantileCalibrator([0.1, 0.9])
    calibrator.fit(np.column_stack([others, others]), y, folds=np.arange(9))
    found = calibrator.predict(np.repeat(others[:, None, None], 2, axis=2))
    residual = np.abs(y - others)
    # Ranks 2 and 8 of 9 at 80 %.
    expected = [np.sort(others - residual)[1], np.sort(others + residual)[7]]
    assert_allclose(found, [expected])


def test_folds_that_agree_give_the_split_intervals(rng):
    y, q = forecasts(rng, 200)
    new = rng.normal(size=(20, 5))
    split = ConformalQuantileCalibrator(LEVELS).fit(q, y)
    crossed = ConformalQuantileCalibrator(LEVELS).fit(q, y, folds=np.arange(200) % 4)
    assert_array_equal(crossed.offsets_, split.offsets_)
    assert_allclose(crossed.predict(np.tile(new, (4, 1, 1))), split.predict(new), rtol=1e-12)
    assert_array_equal(crossed.folds_, [0, 1, 2, 3])


def test_cross_conformal_coverage_keeps_its_promise():
    rng = np.random.default_rng(0)
    covered = []
    for _ in range(300):
        x, y = rng.normal(size=(2, 100))
        y = x + y
        folds = np.arange(100) % 5
        slopes = np.array([np.polyfit(x[folds != f], y[folds != f], 1) for f in range(5)])
        own = slopes[folds, 0] * x + slopes[folds, 1]
        calibrator = ConformalQuantileCalibrator([0.1, 0.9])
        calibrator.fit(np.column_stack([own, own]), y, folds=folds)
        z = rng.normal(size=100)
        lines = slopes[:, :1] * z + slopes[:, 1:]
        low, high = calibrator.predict(np.stack([lines, lines], axis=2)).T
        outcome = z + rng.normal(size=100)
        covered.append(((low <= outcome) & (outcome <= high)).mean())
    assert np.mean(covered) >= 1 - 2 * 0.2 - np.sqrt(2 / 100)
    # What the theory allows is far below what happens.
    assert abs(np.mean(covered) - 0.8) < 0.02


def test_too_few_rows_for_folds_give_infinite_ends(rng):
    y, q = forecasts(rng, 8, LEVELS[[0, 4]])
    calibrator = ConformalQuantileCalibrator(LEVELS[[0, 4]])
    with pytest.warns(UserWarning, match="at least 9 calibration rows"):
        calibrator.fit(q, y, folds=np.arange(8) % 2)
    assert_array_equal(calibrator.predict(np.zeros((2, 1, 2))), [[-np.inf, np.inf]])


def test_intervals_are_picked_by_their_coverage(rng):
    y, q = forecasts(rng, 100)
    calibrator = ConformalQuantileCalibrator(LEVELS).fit(q, y)
    quantiles = calibrator.predict(q)
    assert_array_equal(calibrator.predict_interval(q, confidence_level=0.9), quantiles[:, [0, 4]])
    assert_array_equal(calibrator.predict_interval(q, confidence_level=0.5), quantiles[:, [1, 3]])
    assert find_pair(np.arange(1, 100) / 100, 0.9, "caller") == (4, 94)
    with pytest.raises(ValueError, match=r"confidence_level=0.8 is matched .* \[0.9, 0.5\]"):
        calibrator.predict_interval(q, confidence_level=0.8)


def test_frames_names_clone_and_pickle(rng):
    y, q = forecasts(rng, 100)
    frame = pd.DataFrame(q, columns=[f"level {tau}" for tau in LEVELS])
    calibrator = ConformalQuantileCalibrator(LEVELS)
    expected = calibrator.fit(q, y).predict(q)
    named = clone(calibrator).fit(frame, pd.Series(y))
    assert list(named.feature_names_in_) == list(frame.columns)
    assert_array_equal(named.predict(frame), expected)
    assert list(named.get_feature_names_out()) == list(frame.columns)
    moved = clone(calibrator).set_output(transform="pandas").fit(frame, y).transform(frame)
    assert list(moved.columns) == list(frame.columns)
    assert_array_equal(named.transform(frame), expected)
    assert_array_equal(pickle.loads(pickle.dumps(named)).predict(frame), expected)


@pytest.mark.parametrize(
    ("levels", "message"),
    [
        ([0.05, 0.5, 0.9], r"levels \[0.05, 0.9\] have no partner"),
        ([0.5], "there are none"),
        ([0.9, 0.1], "strictly increasing"),
    ],
)
def test_levels_without_partner_are_refused(levels, message):
    q, y = np.zeros((50, len(levels))), np.zeros(50)
    with pytest.raises(ValueError, match=message):
        ConformalQuantileCalibrator(levels).fit(q, y)
    if levels[0] < levels[-1]:
        ConformalQuantileCalibrator(levels, mode="level").fit(q, y)


def test_bad_input_is_refused(rng):
    y, q = forecasts(rng, 100)
    calibrator = ConformalQuantileCalibrator(LEVELS)
    with pytest.raises(ValueError, match="4 columns, but there are 5 quantiles"):
        calibrator.fit(q[:, :4], y)
    with pytest.raises(ValueError, match=r"Input y contains NaN: 1 outcomes .* rows \[99\]"):
        calibrator.fit(q, np.append(y[:-1], np.nan))
    with pytest.raises(ValueError, match="requires y"):
        calibrator.fit(q)
    with pytest.raises(ValueError, match="CV\\+ has no weighted form"):
        calibrator.fit(q, y, sample_weight=np.ones(100), folds=np.arange(100) % 2)
    with pytest.raises(ValueError, match="needs at least two"):
        calibrator.fit(q, y, folds=np.zeros(100))
    with pytest.raises(ValueError, match="50 rows have a negative fold"):
        calibrator.fit(q, y, folds=np.arange(100) % 2 - 1)
    with pytest.raises(ValueError, match="pass one per row"):
        calibrator.fit(q, y, folds=np.zeros(9))
    with pytest.raises(NotFittedError):
        clone(calibrator).predict(q)
    calibrator.fit(q, y)
    with pytest.raises(ValueError, match="not to fit"):
        calibrator.predict(q, sample_weight=np.ones(100))
    calibrator.fit(q, y, folds=np.arange(100) % 2)
    with pytest.raises(ValueError, match=r"pass an array of shape \(2, n_samples, 5\)"):
        calibrator.predict(q)
    with pytest.raises(ValueError, match="CV\\+ has no weighted form; leave"):
        calibrator.predict(np.zeros((2, 9, 5)), sample_weight=np.ones(9))
    with pytest.raises(ValueError, match="1 entries that are NaN"):
        calibrator.predict(np.where(np.arange(500).reshape(2, 50, 5) == 7, np.nan, 0.0))
    with pytest.raises(ValueError, match="mode"):
        ConformalQuantileCalibrator(LEVELS, mode="both").fit(q, y)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        calibrator.fit(q, y)

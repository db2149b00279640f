import math

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from reweight.kernels.order_statistics import conformal_p_values, conformal_quantile


def quantile_by_search(scores, level, weights, test_weight):
    """The definition: try every score."""
    for s in np.sort(scores):
        if weights[scores <= s].sum() >= level * (weights.sum() + test_weight) - 1e-9:
            return s
    return math.inf


@pytest.mark.parametrize("level", [0.07, 0.29, 0.5, 0.57, 0.9, 0.95, 0.99])
@pytest.mark.parametrize("n", [1, 9, 19, 56, 99])
def test_the_quantile_is_the_sorted_order_statistic(level, n, rng):
    scores = rng.normal(size=n)
    # The rank in exact arithmetic, with the level in hundredths.
    rank = -(-round(100 * level) * (n + 1) // 100)
    expected = np.sort(scores)[rank - 1] if rank <= n else math.inf
    assert conformal_quantile(scores, level) == expected


@pytest.mark.parametrize("test_weight", [None, 0.0, 0.3, 5.0])
def test_the_weighted_quantile_is_the_smallest_score_that_reaches_the_level(test_weight, rng):
    scores = rng.integers(0, 15, size=40).astype(float)
    weights = rng.gamma(1.0, size=40) * (rng.uniform(size=40) > 0.2)
    for level in (0.05, 0.3, 0.5, 0.8, 0.9, 0.97):
        expected = quantile_by_search(
            scores, level, weights, weights.mean() if test_weight is None else test_weight
        )
        found = conformal_quantile(scores, level, weights, test_weight=test_weight)
        assert found == expected
        scale = None if test_weight is None else 8 * test_weight
        assert conformal_quantile(scores, level, 8 * weights, test_weight=scale) == expected


def test_equal_weights_are_no_weights(rng):
    for n in range(1, 60):
        scores = rng.normal(size=n)
        for level in (0.07, 0.5, 0.9):
            weighted = conformal_quantile(scores, level, np.full(n, 0.1))
            assert weighted == conformal_quantile(scores, level)


def test_the_quantile_covers_at_the_level_but_hardly_more(rng):
    n, level, draws = 24, 0.9, 20_000
    scores = rng.exponential(size=(draws, n + 1))
    covered = np.mean([row[-1] <= conformal_quantile(row[:-1], level) for row in scores])
    exact = math.ceil(level * (n + 1)) / (n + 1)
    assert level <= exact < level + 1 / (n + 1)
    assert_allclose(covered, exact, atol=3 * math.sqrt(exact * (1 - exact) / draws))


def test_weights_restore_coverage_under_covariate_shift(rng):
    # Scores are |N(0, 1)| times x; x is uniform on {1, 2} in the source and 2 with 0.8 after.
    n, draws, covered = 60, 4000, 0
    for _ in range(draws):
        x = rng.integers(1, 3, size=n)
        x_new = 1 + (rng.uniform() < 0.8)
        ratio = np.array([0.4, 1.6])
        quantile = conformal_quantile(
            x * np.abs(rng.normal(size=n)), 0.8, ratio[x - 1], test_weight=ratio[x_new - 1]
        )
        covered += x_new * abs(rng.normal()) <= quantile
    assert covered / draws > 0.8 - 3 * math.sqrt(0.16 / draws)
    assert covered / draws < 0.84


def test_p_values_count_the_scores_at_least_as_large(rng):
    scores, calibration = rng.integers(0, 9, size=30), rng.integers(0, 9, size=17)
    expected = [(1 + sum(c >= s for c in calibration)) / 18 for s in scores]
    assert_array_equal(conformal_p_values(scores, calibration), expected)


def test_p_values_of_exchangeable_scores_are_super_uniform(rng):
    draws = 5000
    p = [conformal_p_values([row[0]], row[1:])[0] for row in rng.normal(size=(draws, 20))]
    for level in (0.05, 0.1, 0.5):
        share = np.mean(np.array(p) <= level + 1e-12)
        assert_allclose(share, level, atol=3 * math.sqrt(level * (1 - level) / draws))


def test_bad_input_is_named():
    with pytest.raises(ValueError, match="scores has shape"):
        conformal_quantile([], 0.9)
    with pytest.raises(ValueError, match="scores has 1 entries that are NaN"):
        conformal_quantile([1.0, np.nan], 0.9)
    with pytest.raises(ValueError, match="confidence_level must be between 0 and 1, got 90"):
        conformal_quantile([1.0], 90)
    with pytest.raises(ValueError, match=r"weights has shape \(1,\) but there are 2 scores"):
        conformal_quantile([1.0, 2.0], 0.5, [1.0])
    with pytest.raises(ValueError, match="values from -1 to 2"):
        conformal_quantile([1.0, 2.0], 0.5, [-1.0, 2.0])
    with pytest.raises(ValueError, match="test_weight must be finite"):
        conformal_quantile([1.0, 2.0], 0.5, [1.0, 2.0], test_weight=-1.0)
    with pytest.raises(ValueError, match="test_weight without weights"):
        conformal_quantile([1.0, 2.0], 0.5, test_weight=1.0)
    with pytest.raises(ValueError, match="calibration has shape"):
        conformal_p_values([1.0], [])

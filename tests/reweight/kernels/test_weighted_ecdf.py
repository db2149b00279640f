"""The Kolmogorov-Smirnov kernel against loops over the ecdf and scipy's two-sample statistic."""

import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy.stats import ks_2samp

from reweight.kernels.weighted_ecdf import ks


def by_loops(x, w, group):
    """Both ecdfs at every value, by their definition."""
    gaps = []
    for value in x:
        below = x <= value
        first = w[below & group].sum() / w[group].sum()
        second = w[below & ~group].sum() / w[~group].sum()
        gaps.append(abs(first - second))
    return max(gaps)


@pytest.fixture(name="sample")
def two_samples(rng):
    group = rng.random(80) < 0.4
    return rng.standard_normal(80) + group, rng.exponential(size=80), group


@pytest.mark.parametrize("decimals", [0, 1, 8], ids=["many ties", "some ties", "no ties"])
def test_equals_the_ecdfs_by_loops(decimals, sample):
    x, w, group = sample
    x = x.round(decimals)
    w[::7] = 0
    assert_allclose(ks(x, w, group), by_loops(x, w, group), rtol=1e-12)
    before_and_after = ks(x, np.column_stack([np.ones(80), w]), group)
    assert_allclose(before_and_after, [ks(x, np.ones(80), group), ks(x, w, group)], rtol=1e-14)


@pytest.mark.parametrize("decimals", [0, 8])
def test_equal_weights_give_scipys_statistic(decimals, sample):
    x, _, group = sample
    x = x.round(decimals)
    assert_allclose(
        ks(x, np.full(80, 3.0), group), ks_2samp(x[group], x[~group]).statistic, rtol=1e-12
    )


def test_invariances(sample):
    x, w, group = sample
    distance = ks(x, w, group)
    assert_allclose(ks(x, np.where(group, 5 * w, w / 3), group), distance, rtol=1e-12)
    assert_allclose(ks(np.exp(x), w, group), distance, rtol=1e-12)
    assert_allclose(ks(-x, w, group), distance, rtol=1e-10)
    assert_allclose(ks(x, w, ~group), distance, rtol=1e-12)
    order = np.random.default_rng(0).permutation(80)
    assert_allclose(ks(x[order], w[order], group[order]), distance, rtol=1e-12)


def test_an_integer_weight_is_a_row_repeated(sample, rng):
    x, _, group = sample
    times = rng.integers(0, 4, size=80)
    times[:2] = 1
    repeated = np.repeat(np.arange(80), times)
    assert_allclose(
        ks(x, times, group), ks(x[repeated], np.ones(len(repeated)), group[repeated]), rtol=1e-12
    )


def test_a_binary_column_gives_the_difference_of_proportions(rng):
    x, w, group = rng.integers(0, 2, 60).astype(float), rng.random(60), rng.random(60) < 0.5
    means = [np.average(x[rows], weights=w[rows]) for rows in (group, ~group)]
    assert_allclose(ks(x, w, group), abs(means[0] - means[1]), rtol=1e-12)


def test_extremes(sample):
    _, w, group = sample
    assert_allclose(ks(group.astype(float), w, group), 1.0, rtol=1e-14)
    assert ks(np.zeros(80), w, group) < 1e-14


def test_bad_input_is_named(sample):
    x, w, group = sample
    with pytest.raises(ValueError, match="rows with group=False sum to 0"):
        ks(x, np.where(group, w, 0.0), group)
    with pytest.raises(ValueError, match=r"w has shape \(79,\)"):
        ks(x, w[:-1], group)
    with pytest.raises(ValueError, match="x has 79 rows but there are 80 weights"):
        ks(x[:-1], w, group)
    x[3] = np.nan
    with pytest.raises(ValueError, match="finite"):
        ks(x, w, group)

"""Nulls, discoveries and local rates against closed forms and brute force."""

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy.stats import false_discovery_control, laplace, norm, t

from reweight.noisy_labels._false_discovery import (
    Null,
    discoveries,
    laplace_null,
    local_null_probability,
    mixture_null,
    normal_null,
    storey_share,
)


@pytest.mark.parametrize(
    ("df", "law"), [(np.inf, norm()), (3.0, t(3)), (0.0, laplace())], ids=["normal", "t", "laplace"]
)
def test_p_values_are_two_sided(df, law):
    z = np.array([-3.0, 0.5, 2.0, 40.0])
    p = Null(0.5, 2.0, df).p_values(z)
    assert_allclose(p, 2 * law.sf(np.abs(z - 0.5) / 2), rtol=1e-10)
    assert Null(0.0, 1e-3, np.inf).p_values(z).min() > 0


def test_laplace_p_values_halve_at_each_median(rng):
    z = rng.laplace(size=501)
    null = laplace_null(z, np.ones(501))
    median = np.median(np.abs(z - np.median(z)))
    expected = 2.0 ** (-np.abs(z - np.median(z)) / median)
    assert_allclose(null.p_values(z), expected, rtol=1e-10)


def test_normal_null_recovers_its_law(rng):
    null = normal_null(3 + 2 * rng.normal(size=20_000), np.ones(20_000))
    assert_allclose([null.center, null.scale, null.share], [3, 2, 1], atol=0.06)


@pytest.mark.parametrize("df", [np.inf, 5.0, 3.0])
def test_mixture_without_errors_is_the_law_itself(df, rng):
    z = rng.normal(size=5000) if np.isinf(df) else rng.standard_t(df, size=5000)
    null = mixture_null(z, np.ones(5000))
    assert null.share == 1.0
    assert_allclose(null.scale, 1, atol=0.08)
    assert null.df in ((np.inf, 10.0) if np.isinf(df) else (df, df + 2, df - 2))
    assert discoveries(null.p_values(z), null.share, 0.2, np.ones(5000)).mean() < 0.005


@pytest.mark.parametrize(
    ("draw", "low", "high"),
    [
        (lambda rng: rng.laplace(size=2000), 0.0, 0.005),
        (lambda rng: rng.standard_t(3, size=2000), 0.0, 0.005),
        # Skewed noise, and noise of two widths, mislead it as far as its documentation says.
        (lambda rng: rng.exponential(size=2000), 0.01, 0.05),
        (lambda rng: rng.normal(size=2000) * rng.choice([1, 1, 3], size=2000), 0.005, 0.08),
    ],
    ids=["laplace", "student", "exponential", "two widths"],
)
def test_flags_without_errors_by_law_of_the_noise(draw, low, high, rng):
    shares = []
    for _ in range(4):
        z = draw(rng)
        null = mixture_null(z, np.ones(2000))
        shares.append(discoveries(null.p_values(z), null.share, 0.2, np.ones(2000)).mean())
    assert low <= np.mean(shares) <= high


@pytest.mark.parametrize("tails", [np.inf, 3.0])
def test_mixture_tells_errors_from_tails(tails, rng):
    noise = rng.normal(size=2000) if np.isinf(tails) else rng.standard_t(tails, size=2000)
    wrong = np.arange(2000) < 200
    z = noise + 9 * wrong * rng.choice([-1, 1], size=2000)
    null = mixture_null(z, np.ones(2000))
    assert_allclose(null.share, 0.9, atol=0.02)
    found = discoveries(null.p_values(z), null.share, 0.2, np.ones(2000))
    assert found[wrong].mean() > 0.85
    assert np.mean(~wrong[found]) < 0.25


def test_weights_count_rows(rng):
    z = np.append(rng.normal(size=300), rng.normal(6, 1, size=30))
    counts = rng.integers(1, 4, size=330)
    weighted, repeated = (
        (null(z, counts.astype(float)) for null in (mixture_null, normal_null)),
        (null(np.repeat(z, counts), np.ones(counts.sum())) for null in (mixture_null, normal_null)),
    )
    for one, other in zip(*map(list, (weighted, repeated)), strict=True):
        assert_allclose(
            [one.center, one.scale, one.share], [other.center, other.scale, other.share], rtol=0.02
        )


def test_discoveries_are_those_of_benjamini_and_hochberg(rng):
    for _ in range(20):
        p = np.append(rng.uniform(size=80), rng.uniform(0, 0.01, size=20)).round(3)
        expected = false_discovery_control(p) <= 0.1
        assert_array_equal(discoveries(p, 1.0, 0.1, np.ones(100)), expected)
        index = np.repeat(np.arange(100), 3)
        assert_array_equal(discoveries(p[index], 1.0, 0.1, np.ones(300)), expected[index])
    assert not discoveries(np.full(10, 0.5), 1.0, 0.1, np.ones(10)).any()


def grenander_by_search(p):
    """Slopes of the least concave majorant: the steepest chord from each point on."""
    values = np.unique(np.append(p, [0.0, 1.0]))
    F = np.array([np.mean(p <= value) if value > 0 else 0.0 for value in values])
    slopes, at = {}, 0
    while at < len(values) - 1:
        chords = (F[at + 1 :] - F[at]) / (values[at + 1 :] - values[at])
        to = at + 1 + len(chords) - 1 - np.argmax(chords[::-1])
        for k in range(at + 1, to + 1):
            slopes[values[k]] = chords.max()
        at = to
    return np.array([slopes[value] for value in p])


def test_local_rates_are_the_slopes_of_the_least_concave_majorant(rng):
    p = np.append(rng.uniform(size=60), rng.beta(0.2, 4, size=30)).round(2).clip(0.01, 1)
    found = local_null_probability(p, 0.7, np.ones(90))
    assert_allclose(found, np.minimum(1, 0.7 / grenander_by_search(p)), rtol=1e-9)
    order = np.argsort(p)
    assert np.all(np.diff(found[order]) >= 0)


def test_storey_share_of_a_mixture(rng):
    p = np.append(rng.uniform(size=8000), np.zeros(2000))
    assert_allclose(storey_share(p, np.ones(10_000)), 0.8, atol=0.02)


def test_residuals_that_are_all_alike_flag_nothing():
    for null in (mixture_null, normal_null, laplace_null):
        found = null(np.zeros(50), np.ones(50))
        assert_array_equal(found.p_values(np.zeros(50)), 1.0)

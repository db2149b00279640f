"""Resampling schemes have the moments of the literature, whatever the number of jobs."""

import warnings
from itertools import combinations

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from reweight import resample_weights
from reweight.exceptions import WeightWarning
from reweight.resampling import bootstrap_statistic

KINDS = ["multinomial", "exponential", "rademacher", "subsample"]
N, DRAWS = 8, 20_000


def draw(kind, n=N, draws=DRAWS, seed=0, **options):
    return np.array(list(resample_weights(n, draws, kind, random_state=seed, **options)))


# Mean, variance and covariance of two weights in closed form; the subsample of 8 has 4.
MOMENTS = {
    "multinomial": (1.0, 1 - 1 / N, -1 / N),
    "exponential": (1.0, (N - 1) / (N + 1), -1 / (N + 1)),
    "rademacher": (0.0, 1.0, 0.0),
    "subsample": (1 / 2, 1 / 4, -1 / 4 / (N - 1)),
}


@pytest.mark.parametrize("kind", KINDS)
def test_moments_are_those_of_the_scheme(kind):
    weights = draw(kind)
    assert weights.shape == (DRAWS, N)
    mean, variance, covariance = MOMENTS[kind]
    # Five Monte-Carlo standard errors; no fourth moment of the schemes exceeds 10.
    error = 5 * np.sqrt(10 / DRAWS)
    assert_allclose(weights.mean(axis=0), mean, atol=error)
    found = np.cov(weights.T)
    assert_allclose(np.diag(found), variance, atol=error)
    assert_allclose(found[np.triu_indices(N, 1)], covariance, atol=error)


def test_multinomial_weights_are_counts_and_exponential_ones_positive():
    counts = draw("multinomial", draws=200)
    assert_array_equal(counts, np.round(counts))
    assert_array_equal(counts.sum(axis=1), N)
    exponential = draw("exponential", draws=200)
    assert exponential.min() > 0
    assert_allclose(exponential.mean(axis=1), 1, rtol=1e-14)
    assert set(np.unique(draw("rademacher", draws=200))) == {-1.0, 1.0}


@pytest.mark.parametrize(
    ("n", "size", "expected"),
    [(8, None, 4), (1000, None, 100), (1001, None, 101), (2, None, 1), (10, 3, 3), (10, 0.8, 8)],
)
def test_subsamples_have_the_size_asked_for(n, size, expected):
    weights = draw("subsample", n=n, draws=50, subsample_size=size)
    assert_array_equal(weights.sum(axis=1), expected)
    assert set(np.unique(weights)) == {0.0, 1.0}


def test_every_subsample_is_equally_likely():
    weights = draw("subsample", n=5, draws=10_000, subsample_size=2)
    pairs = [weights[:, list(pair)].all(axis=1).mean() for pair in combinations(range(5), 2)]
    assert_allclose(pairs, 0.1, atol=5 * np.sqrt(0.09 / 10_000))


@pytest.mark.parametrize("kind", KINDS)
def test_rows_of_a_group_share_a_weight_that_is_drawn_as_for_a_row(kind):
    groups = np.array(["b", "a", "c", "a", "b", "b", "d", "e"])
    _, first, codes = np.unique(groups, return_index=True, return_inverse=True)
    grouped = draw(kind, draws=100, groups=groups)
    assert_array_equal(grouped, grouped[:, first][:, codes])
    assert_array_equal(grouped[:, first], draw(kind, n=5, draws=100))


@pytest.mark.parametrize("kind", KINDS)
def test_seeds(kind):
    assert_array_equal(draw(kind, draws=5), draw(kind, draws=5))
    assert_array_equal(draw(kind, draws=5), draw(kind, draws=9)[:5])
    assert not np.array_equal(draw(kind, draws=5), draw(kind, draws=5, seed=1))
    state = np.random.RandomState(0)
    assert_array_equal(draw(kind, draws=5, seed=state), draw(kind, draws=5))
    assert not np.array_equal(draw(kind, draws=5, seed=state), draw(kind, draws=5))


def test_weights_are_drawn_one_at_a_time_but_arguments_checked_at_once():
    weights = resample_weights(3, 10**9, random_state=0)
    assert next(weights).shape == (3,)
    with pytest.raises(ValueError, match="kind is 'jackknife'"):
        resample_weights(3, 2, "jackknife")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"n_samples": 0}, "n_samples is 0"),
        ({"n_samples": 2.5}, "n_samples is 2.5"),
        ({"n_resamples": 0}, "n_resamples is 0"),
        ({"n_samples": 1}, "only 1 row to resample"),
        ({"groups": [1, 1, 1, 1]}, "only 1 group to resample"),
        ({"groups": [1, 2]}, "groups has shape"),
        ({"subsample_size": 2}, "goes with kind='subsample' only"),
        ({"kind": "subsample", "subsample_size": 4}, "makes 4 of 4 units"),
        ({"kind": "subsample", "subsample_size": 0.01}, "makes 0 of 4 units"),
    ],
)
def test_wrong_arguments_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        resample_weights(**{"n_samples": 4, "n_resamples": 2, **arguments})


Y = np.random.default_rng(0).normal(size=50)


# Lambdas are sent to other processes by value; these cannot import a test module.
weighted_mean = lambda weights: weights @ Y / weights.sum()
two_moments = lambda weights: np.array([weights @ Y, weights @ Y**2]) / weights.sum()


def fails_without_the_first_row(weights):
    if weights[0] == 0:
        raise ValueError("the first row is missing")
    return weights[0]


def not_finite_without_the_first_row(weights):
    return np.log(weights[0]) if weights[0] > 0 else -np.inf


def warns_without_the_first_row(weights):
    if weights[0] == 0:
        warnings.warn("the first row is missing", UserWarning, stacklevel=1)
    return weights[0]


def has_a_mistake(weights):
    raise TypeError("no such function")


@pytest.mark.parametrize("kind", KINDS[:2])
def test_bootstrap_finds_the_standard_error_of_a_mean(kind):
    draws = bootstrap_statistic(
        weighted_mean, 50, n_resamples=4000, kind=kind, random_state=1
    ).values
    expected = Y.std() / np.sqrt(50 if kind == "multinomial" else 51)
    assert_allclose(draws.std(), expected, rtol=5 / np.sqrt(2 * 4000))


def test_subsamples_find_the_standard_error_of_a_mean_after_rescaling():
    draws = bootstrap_statistic(
        weighted_mean, 50, n_resamples=4000, kind="subsample", random_state=1
    ).values
    size = np.ceil(50 ** (2 / 3))
    expected = Y.std(ddof=1) / np.sqrt(50)
    assert_allclose(draws.std() / np.sqrt(50 / size - 1), expected, rtol=5 / np.sqrt(2 * 4000))


def test_signs_find_the_standard_error_of_a_mean_from_its_influence():
    influence = (Y - Y.mean()) / 50
    draws = bootstrap_statistic(
        influence.dot, 50, n_resamples=4000, kind="rademacher", random_state=1
    ).values
    assert_allclose(draws.std(), Y.std() / np.sqrt(50), rtol=5 / np.sqrt(2 * 4000))


@pytest.mark.parametrize("kind", KINDS)
def test_number_of_jobs_does_not_change_a_bit(kind):
    options = {"n_resamples": 20, "kind": kind, "groups": np.arange(50) // 2, "random_state": 3}
    # Sums of signs may vanish; moments without division do not.
    function = (Y**2).dot if kind == "rademacher" else two_moments
    alone = bootstrap_statistic(function, 50, **options)
    shared = bootstrap_statistic(function, 50, n_jobs=2, **options)
    assert alone.values.shape == ((20,) if kind == "rademacher" else (20, 2))
    assert_array_equal(alone.values, shared.values)
    weights = resample_weights(50, **options)
    assert_array_equal(alone.values, [function(w) for w in weights])


@pytest.mark.parametrize(
    ("function", "why"),
    [
        (fails_without_the_first_row, "ValueError: the first row is missing"),
        (not_finite_without_the_first_row, "a statistic that is not finite"),
    ],
)
def test_failures_are_counted_and_said_once(function, why):
    weights = draw("multinomial", n=50, draws=40)
    failing = np.flatnonzero(weights[:, 0] == 0)
    assert 0 < len(failing) < 40
    with pytest.warns(WeightWarning) as caught:
        draws = bootstrap_statistic(function, 50, n_resamples=40, random_state=0, name="Study")
    assert draws.failures == dict.fromkeys(failing, why)
    assert draws.n_failed == len(failing)
    assert draws.values.shape == (40 - len(failing),)
    assert len(caught) == 1
    assert f"Study: {len(failing)} of 40 resamples failed, the first with {why}" in str(
        caught[0].message
    )
    assert caught[0].filename == __file__


def test_warnings_are_counted_and_said_once():
    failing = int((draw("multinomial", n=50, draws=40)[:, 0] == 0).sum())
    with pytest.warns(WeightWarning) as caught:
        draws = bootstrap_statistic(warns_without_the_first_row, 50, n_resamples=40, random_state=0)
    assert len(draws.values) == 40
    assert len(caught) == 1
    assert f"{failing} of 40 resamples warned" in str(caught[0].message)


def test_nothing_left_is_an_error_and_mistakes_are_not_counted():
    with pytest.raises(ValueError, match=r"9 of 9 resamples failed, the first with .*not finite"):
        bootstrap_statistic(lambda w: np.nan, 5, n_resamples=9, random_state=0)
    with pytest.raises(TypeError, match="no such function"):
        bootstrap_statistic(has_a_mistake, 5, n_resamples=9, random_state=0)


def test_progress_is_shown_on_request(capsys):
    bootstrap_statistic(weighted_mean, 50, n_resamples=3, random_state=0)
    assert capsys.readouterr().err == ""
    bootstrap_statistic(weighted_mean, 50, n_resamples=3, random_state=0, verbose=1, name="Study")
    assert "Study: resamples: 100%" in capsys.readouterr().err

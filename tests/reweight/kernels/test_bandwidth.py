"""Bandwidth rules against scipy's distances, loops and textbook factors."""

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy.spatial.distance import cdist, pdist
from scipy.stats import gaussian_kde

from reweight.kernels.bandwidth import resolve_bandwidth


@pytest.fixture(name="X")
def rows(rng):
    return rng.standard_normal((120, 3)) * [1.0, 5.0, 0.2]


def test_median_is_the_median_of_pairwise_distances(X):
    assert resolve_bandwidth(X, "median") == np.median(pdist(X))


def test_scott_and_silverman_are_scipys_factors_times_the_deviations(X):
    # scipy's multivariate factors, which do not include the deviations.
    deviations = X.std(axis=0, ddof=1)
    kde = gaussian_kde(X.T)
    assert_allclose(resolve_bandwidth(X, "scott"), deviations * kde.scotts_factor(), rtol=1e-14)
    assert_allclose(
        resolve_bandwidth(X, "silverman"), deviations * kde.silverman_factor(), rtol=1e-14
    )


@pytest.mark.parametrize("n", [120, 50, 20])
def test_knn50_is_the_mean_distance_to_the_fiftieth_row_counting_itself(n, X):
    ordered = np.sort(cdist(X[:n], X[:n]), axis=1)
    expected = ordered[:, min(49, n - 1)].mean()
    assert_allclose(resolve_bandwidth(X[:n], "knn50"), expected, rtol=1e-12)


@pytest.mark.parametrize("rule", ["median", "knn50"])
def test_rows_are_drawn_when_there_are_many(rule, rng):
    X = rng.standard_normal((3000, 2))
    first = resolve_bandwidth(X, rule, max_rows=500, random_state=1)
    assert resolve_bandwidth(X, rule, max_rows=500, random_state=1) == first
    assert resolve_bandwidth(X, rule, max_rows=500, random_state=2) != first
    # 500 rows estimate the value of all rows within a few per cent.
    assert_allclose(first, resolve_bandwidth(X, rule, max_rows=3000), rtol=0.05)


@pytest.mark.parametrize("rule", ["median", "scott", "silverman", "knn50"])
def test_length_moves_with_the_units(rule, X):
    assert_allclose(resolve_bandwidth(X * 7, rule), 7 * resolve_bandwidth(X, rule), rtol=1e-12)
    assert_allclose(resolve_bandwidth(X + 100, rule), resolve_bandwidth(X, rule), rtol=1e-10)


def test_numbers_pass_through(X):
    assert resolve_bandwidth(X, 2) == 2.0
    given = np.array([1.0, 2.0, 3.0])
    resolved = resolve_bandwidth(X, given)
    assert_array_equal(resolved, given)
    assert resolved is not given


def test_median_of_mostly_equal_rows_skips_the_duplicates():
    X = np.r_[np.zeros(30), 2.0, 2.0][:, None]
    assert np.median(pdist(X)) == 0
    assert resolve_bandwidth(X, "median") == 2.0


@pytest.mark.parametrize("rule", ["median", "knn50"])
def test_equal_rows_have_no_bandwidth(rule):
    with pytest.raises(ValueError, match=f"bandwidth='{rule}': the bandwidth is 0"):
        resolve_bandwidth(np.ones((60, 2)), rule)


@pytest.mark.parametrize("rule", ["scott", "silverman"])
def test_constant_columns_are_named(rule, X):
    X[:, 1] = 3.0
    with pytest.raises(ValueError, match=r"columns \[1\] are constant"):
        resolve_bandwidth(X, rule)
    with pytest.raises(ValueError, match=r"columns \['age'\] are constant"):
        resolve_bandwidth(X, rule, feature_names=["a", "age", "b"])


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        ("mean", r"bandwidth='mean' is not known; pass a positive number or one of \['median'"),
        (0.0, "positive and finite, got 0.0"),
        (-1, "positive and finite, got -1"),
        (np.inf, "positive and finite, got inf"),
        ([1.0, 0.0, 1.0], "positive and finite"),
        ([1.0, 2.0], r"bandwidth has shape \(2,\) but X has 3 columns"),
    ],
)
def test_bad_bandwidths_are_named(rule, message, X):
    with pytest.raises(ValueError, match=message):
        resolve_bandwidth(X, rule)


def test_bad_rows_are_named(X):
    with pytest.raises(ValueError, match=r"X.reshape\(-1, 1\)"):
        resolve_bandwidth(X[:, 0], "median")
    with pytest.raises(ValueError, match="at least two rows, got 1"):
        resolve_bandwidth(X[:1], "median")

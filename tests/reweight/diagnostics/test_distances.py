"""Distances of weighted samples against scipy, dense sums and their own axioms."""

import numpy as np
import pandas as pd
import polars as pl
import pytest
from joblib import parallel_config
from numpy.testing import assert_allclose
from scipy.spatial.distance import cdist, pdist
from scipy.stats import energy_distance as scipy_energy
from scipy.stats import ks_2samp
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.metrics.pairwise import rbf_kernel
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import LinearSVC

from reweight import domain_auc, energy_distance, mmd, weighted_ks

DISTANCES = {
    "mmd": lambda *samples: mmd(*samples, bandwidth=1.3),
    "energy": energy_distance,
    "ks": lambda *samples: weighted_ks(*samples).max(),
}


@pytest.fixture(name="samples")
def two_samples(rng):
    X, Z = rng.standard_normal((60, 3)), rng.standard_normal((45, 3)) * 1.2 + 0.4
    return X, Z, rng.exponential(size=60), rng.random(45)


def test_mmd_is_the_dense_double_sum(samples):
    X, Z, a, b = samples
    a, b = a / a.sum(), b / b.sum()
    gamma = 1 / (2 * 0.8**2)
    square = (
        a @ rbf_kernel(X, X, gamma) @ a
        - 2 * a @ rbf_kernel(X, Z, gamma) @ b
        + b @ rbf_kernel(Z, Z, gamma) @ b
    )
    assert_allclose(mmd(X, Z, a, b, bandwidth=0.8, squared=True), square, rtol=1e-10)
    assert_allclose(mmd(X, Z, a, b, bandwidth=0.8), np.sqrt(square), rtol=1e-10)


def test_median_bandwidth_is_that_of_the_pooled_rows(samples):
    X, Z, a, b = samples
    pooled = np.median(pdist(np.vstack([X, Z])))
    assert_allclose(mmd(X, Z, a, b), mmd(X, Z, a, b, bandwidth=pooled), rtol=1e-12)


def test_linear_mmd_is_the_distance_of_the_means(samples):
    X, Z, a, b = samples
    difference = np.average(X, axis=0, weights=a) - np.average(Z, axis=0, weights=b)
    assert_allclose(mmd(X, Z, a, b, kernel="linear"), np.linalg.norm(difference), rtol=1e-10)


def test_energy_mmd_is_the_energy_distance(samples):
    X, Z, a, b = samples
    assert_allclose(mmd(X, Z, a, b, kernel="energy"), energy_distance(X, Z, a, b), rtol=1e-12)


def test_energy_distance_is_the_dense_double_sum(samples):
    X, Z, a, b = samples
    a, b = a / a.sum(), b / b.sum()
    square = 2 * a @ cdist(X, Z) @ b - a @ cdist(X, X) @ a - b @ cdist(Z, Z) @ b
    assert_allclose(energy_distance(X, Z, a, b, squared=True), square, rtol=1e-10)


def test_one_dimension_agrees_with_scipy(samples):
    X, Z, a, b = samples
    x, z = X[:, 0], Z[:, 0]
    assert_allclose(energy_distance(x, z, a, b), scipy_energy(x, z, a, b), rtol=1e-8)
    assert_allclose(weighted_ks(x, z), ks_2samp(x, z).statistic, rtol=1e-12)


def test_ks_has_one_value_per_column(samples):
    X, Z, a, b = samples
    by_column = [weighted_ks(X[:, j], Z[:, j], a, b)[0] for j in range(3)]
    assert_allclose(weighted_ks(X, Z, a, b), by_column, rtol=1e-14)
    plain = [ks_2samp(X[:, j], Z[:, j]).statistic for j in range(3)]
    assert_allclose(weighted_ks(X, Z), plain, rtol=1e-12)


@pytest.mark.parametrize("name", DISTANCES)
def test_axioms(name, samples):
    distance = DISTANCES[name]
    X, Z, a, b = samples
    value = distance(X, Z, a, b)
    assert_allclose(distance(Z, X, b, a), value, rtol=1e-10)
    assert_allclose(distance(X, Z, 5 * a, b / 9), value, rtol=1e-10)
    # Round-off of a square that is 0 is about 1e-16.
    assert distance(X, X, a, a) < 1e-7
    assert value > 0.05
    other = np.random.default_rng(0).standard_normal((30, 3)) - 0.3
    assert distance(X, other, a) + distance(other, Z, None, b) >= value


@pytest.mark.parametrize("name", DISTANCES)
def test_an_integer_weight_is_a_row_repeated(name, samples):
    X, Z, _, b = samples
    times = np.arange(60) % 4
    assert_allclose(
        DISTANCES[name](X, Z, times, b),
        DISTANCES[name](np.repeat(X, times, axis=0), Z, None, b),
        rtol=1e-9,
    )


@pytest.mark.parametrize("function", [mmd, energy_distance, domain_auc])
def test_many_rows_are_drawn_with_a_seed(function, rng):
    X, Z = rng.standard_normal((900, 2)), rng.standard_normal((800, 2)) + 0.5
    options = {"estimator": LogisticRegression()} if function is domain_auc else {}
    first = function(X, Z, max_rows=200, random_state=3, **options)
    assert function(X, Z, max_rows=200, random_state=3, **options) == first
    assert function(X, Z, max_rows=200, random_state=4, **options) != first
    assert_allclose(first, function(X, Z, max_rows=None, **options), rtol=0.25)


@pytest.mark.parametrize("function", [mmd, energy_distance])
def test_threads_do_not_change_the_value(function, rng):
    X, Z = rng.standard_normal((1500, 2)), rng.standard_normal((1100, 2))
    assert function(X, Z, n_jobs=2) == function(X, Z)


def test_weights_that_match_the_target_bring_the_samples_together(rng):
    # Weighting N(0, 1) by the ratio of densities gives N(0.5, 1).
    X, Z = rng.standard_normal((2000, 1)), rng.standard_normal((2000, 1)) + 0.5
    w = np.exp(0.5 * X[:, 0] - 0.125)
    for distance in DISTANCES.values():
        assert distance(X, Z, w) < 0.3 * distance(X, Z)
    before, after = domain_auc(X, Z), domain_auc(X, Z, w)
    # Phi(0.5 / sqrt(2)) = 0.638 is the best area that a classifier can reach.
    assert_allclose(before, 0.638, atol=0.04)
    assert_allclose(after, 0.5, atol=0.04)


def test_data_frames_are_read(samples):
    X, Z, a, b = samples
    frames = [pd.DataFrame(X, columns=list("abc")), pl.DataFrame(Z, schema=list("abc"))]
    for distance in DISTANCES.values():
        assert_allclose(distance(*frames, a, b), distance(X, Z, a, b), rtol=1e-14)


def test_domain_auc_sees_a_shift_that_keeps_the_means(rng):
    X, Z = rng.standard_normal((600, 2)), 3 * rng.standard_normal((600, 2))
    assert domain_auc(X, Z) > 0.75
    assert_allclose(domain_auc(X, Z, estimator=LogisticRegression()), 0.5, atol=0.07)


@pytest.mark.parametrize(
    "estimator",
    [LogisticRegression(), make_pipeline(StandardScaler(), LogisticRegression()), LinearSVC()],
    ids=["probability", "pipeline", "decision function"],
)
def test_domain_auc_takes_any_classifier_with_weights(estimator, rng):
    X, Z = rng.standard_normal((300, 2)), rng.standard_normal((200, 2)) + 1.0
    value = domain_auc(X, Z, rng.random(300) + 0.5, estimator=estimator)
    # Phi(1) = 0.841 is the best area; linear classifiers reach it.
    assert_allclose(value, 0.841, atol=0.05)


def test_domain_auc_is_the_same_for_any_number_of_jobs_and_reads_splitters(samples):
    X, Z, a, b = samples
    forest = RandomForestClassifier(5, random_state=0)
    value = domain_auc(X, Z, a, b, estimator=forest, random_state=1)
    with parallel_config("threading"):
        assert domain_auc(X, Z, a, b, estimator=forest, random_state=1, n_jobs=2) == value
    folds = [(np.arange(0, 105, 2), np.arange(1, 105, 2))]
    assert 0.5 < domain_auc(X, Z, estimator=LogisticRegression(), cv=folds) < 1


FUNCTIONS = {
    "mmd": mmd,
    "energy_distance": energy_distance,
    "weighted_ks": weighted_ks,
    "domain_auc": domain_auc,
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_bad_samples_are_named(name, samples):
    function = FUNCTIONS[name]
    X, Z, a, _ = samples
    with pytest.raises(ValueError, match=f"{name}: X has 3 columns but Z has 2"):
        function(X, Z[:, :2])
    with pytest.raises(ValueError, match=f"{name}: x_weights has 60 entries but there are 45"):
        function(Z, X, a)
    with pytest.raises(ValueError, match="passed to `z_weights`: 45 entries"):
        function(X, Z, None, -np.ones(45))
    with pytest.raises(ValueError, match=f"{name}: x_weights is zero in every row"):
        function(X, Z, np.zeros(60))
    with pytest.raises(TypeError, match=rf"{name}: columns \['c'\] of Z are not numeric"):
        function(X, pd.DataFrame({"c": ["a", "b"]}))
    with pytest.raises(ValueError, match=r"columns of X are \['a', 'b', 'c'\] but those of Z"):
        function(pd.DataFrame(X, columns=list("abc")), pd.DataFrame(Z, columns=list("acb")))
    X[0, 1] = np.inf
    with pytest.raises(ValueError, match=f"{name}: Input X contains inf: 1 entries"):
        function(X, Z)


def test_bad_kernels_are_named(samples):
    X, Z, _, _ = samples
    with pytest.raises(ValueError, match="kernel 'gaussian' is not known"):
        mmd(X, Z, kernel="gaussian")
    with pytest.raises(TypeError, match="kernel 'rbf' has no parameter 'degree'"):
        mmd(X, Z, degree=2)
    with pytest.raises(ValueError, match="bandwidth must be positive"):
        mmd(X, Z, bandwidth=-1.0)


def test_bad_classifiers_are_named(samples):
    X, Z, _, _ = samples
    with pytest.raises(ValueError, match="domain_auc: KNeighborsClassifier cannot be weighted"):
        domain_auc(X, Z, estimator=KNeighborsClassifier())
    with pytest.raises(ValueError, match=r"smaller sample has 4 rows .* fewer than cv=5"):
        domain_auc(X, Z[:4])

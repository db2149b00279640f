"""Facts about weighting vectors: closed forms, invariances, exactness, and refused input."""

import warnings

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy.spatial.distance import cdist, pdist, squareform
from scipy.stats import ortho_group
from sklearn.kernel_ridge import KernelRidge
from sklearn.linear_model import LinearRegression

from reweight import Reweighted, WeightingVector, normalize_weights
from reweight.exceptions import WeightWarning


def weights(X, scale=1.0, **parameters):
    return WeightingVector(scale=scale, **parameters).fit(X).weighting_vector_


def on_a_line(x, scale):
    """Closed form of the weights of sorted points on a line."""
    half = np.tanh(scale * np.diff(x) / 2)
    return 0.5 * (np.r_[1.0, half] + np.r_[half, 1.0])


@pytest.mark.parametrize("scale", [0.1, 1.0, 50.0])
def test_points_on_a_line_have_a_closed_form(scale, rng):
    x = np.sort(rng.normal(size=200))
    fitted = WeightingVector(scale=scale).fit(x[:, None])
    expected = on_a_line(x, scale)
    # Gaps down to 1e-5 make Z nearly singular: digits are lost relative to the largest weight.
    assert_allclose(fitted.weighting_vector_, expected, rtol=0, atol=1e-8 * expected.max())
    assert_allclose(fitted.magnitude_, 1 + np.tanh(scale * np.diff(x) / 2).sum(), rtol=1e-10)


def test_two_points_and_simplices_have_closed_forms():
    assert_allclose(weights([[0.0], [0.7]], 2.0), 1 / (1 + np.exp(-1.4)), rtol=1e-12)
    simplex = np.eye(6) / np.sqrt(2)
    assert_allclose(weights(simplex, 0.3), 1 / (1 + 5 * np.exp(-0.3)), rtol=1e-12)
    assert_array_equal(weights([[3.0, 1.0]]), [1.0])


def test_a_grid_with_city_block_distances_is_a_product(rng):
    x, y = np.sort(rng.normal(size=6)), np.sort(rng.normal(size=5))
    grid = np.array([(a, b) for a in x for b in y])
    expected = np.outer(on_a_line(x, 1.5), on_a_line(y, 1.5)).ravel()
    for metric in ("manhattan", "cityblock", "l1"):
        assert_allclose(weights(grid, 1.5, metric=metric), expected, rtol=1e-10)
    assert_allclose(weights(grid, 1.5, metric="minkowski", p=1), expected, rtol=1e-10)


@pytest.mark.parametrize("scale", [0.05, 1.0, 20.0])
def test_the_equations_hold(scale, rng):
    X = rng.normal(size=(150, 3))
    fitted = WeightingVector(scale=scale).fit(X)
    Z, w = np.exp(-scale * cdist(X, X)), fitted.weighting_vector_
    assert_allclose(Z @ w, 1, atol=1e-8)
    assert fitted.residual_norm_ < 1e-8
    assert_allclose(fitted.magnitude_, w @ Z @ w, rtol=1e-9)
    assert 1 - 1e-9 <= fitted.magnitude_ <= 150 + 1e-9


def test_limits_of_the_scale(rng):
    X = rng.normal(size=(40, 2))
    assert_allclose(weights(X, 1e5), 1, atol=1e-12)
    assert_allclose(WeightingVector(scale=1e-6).fit(X).magnitude_, 1, atol=1e-4)


def test_scattered_points_have_positive_weights(rng):
    X = rng.normal(size=(60, 4))
    w = weights(X, 1.01 * np.log(59) / pdist(X).min())
    assert w.min() > 0


def test_moving_scaling_and_reordering_rows(rng):
    X = rng.normal(size=(80, 3))
    w = weights(X, 1.3)
    moved = X @ ortho_group.rvs(3, random_state=0) + [5.0, -2.0, 1.0]
    assert_allclose(weights(moved, 1.3), w, rtol=1e-8, atol=1e-10)
    assert_allclose(weights(7 * X, 1.3 / 7), w, rtol=1e-8, atol=1e-10)
    order = rng.permutation(80)
    assert_array_equal(weights(X[order], 1.3), w[order])


def test_magnitude_grows_with_the_set(rng):
    X = rng.normal(size=(60, 3))
    sizes = [WeightingVector(scale=0.7).fit(X[:n]).magnitude_ for n in range(1, 61, 7)]
    assert (np.diff(sizes) > 0).all()


def test_a_new_point_has_the_weight_of_a_row(rng):
    X, new = rng.normal(size=(50, 2)), rng.normal(size=(4, 2))
    fitted = WeightingVector(scale=1.5).fit(X)
    for point, value in zip(new, fitted.transform(new)[:, 0], strict=True):
        joined = WeightingVector(scale=1.5).fit(np.vstack([X, point]))
        assert_allclose(value, joined.weighting_vector_[-1], rtol=1e-8)
    assert_allclose(fitted.transform(X)[:, 0], fitted.weighting_vector_)
    assert_allclose(fitted.transform([[1e4, 0.0]]), 1, rtol=1e-12)


def test_a_ridge_is_a_least_squares_machine(rng):
    X = rng.normal(size=(60, 2))
    Z = np.exp(-cdist(X, X))
    for C in (0.5, 10.0):
        w = weights(X, alpha=1 / C)
        assert_allclose(Z @ w + w / C, 1, atol=1e-10)
        ridge = KernelRidge(kernel="precomputed", alpha=1 / C).fit(Z, np.ones(60))
        assert_allclose(w, ridge.dual_coef_, rtol=1e-10)
    assert_allclose(weights(X, alpha=1e-10), weights(X), atol=1e-5)
    fitted = WeightingVector(scale=1.0, alpha=0.1).fit(X)
    joined = weights(np.vstack([X, [[0.3, 0.4]]]), alpha=0.1)
    assert_allclose(fitted.transform([[0.3, 0.4]])[0, 0], joined[-1], rtol=1e-8)


def test_copies_share_the_weight_of_their_point(rng):
    X = rng.normal(size=(30, 2))
    index = np.r_[np.arange(30), [3, 3, 7]]
    single, fitted = weights(X), WeightingVector(scale=1.0).fit(X[index])
    shared = fitted.weighting_vector_
    assert_allclose(np.bincount(index, shared), single)
    assert_allclose(shared[index == 3], single[3] / 3)
    assert fitted.n_points_ == 30
    assert_allclose(fitted.magnitude_, single.sum())
    # Minus zero is zero.
    assert WeightingVector(scale=1.0).fit([[0.0], [-0.0], [1.0]]).n_points_ == 2


def test_sample_weight_shares_among_copies_and_drops_rows(rng):
    X = rng.normal(size=(20, 2))
    rows = X[np.r_[0:20, 4]]
    s = np.r_[np.ones(4), 3.0, np.ones(14), 0.0, 1.0]
    w = WeightingVector(scale=1.0).fit(rows, sample_weight=s).weighting_vector_
    expected = weights(X[:19])
    assert_allclose(w[[4, 20]], expected[4] * np.array([0.75, 0.25]))
    assert_allclose(np.delete(w[:19], 4), np.delete(expected, 4))
    assert w[19] == 0


@pytest.mark.parametrize("scale", ["magnitude", "median", "nn"])
def test_rules_of_the_scale(scale, rng):
    X = rng.normal(size=(120, 3))
    distance = squareform(pdist(X))
    fitted = WeightingVector(scale=scale, magnitude_fraction=0.3).fit(X)
    if scale == "magnitude":
        assert_allclose(fitted.magnitude_, 1 + 0.3 * 119, rtol=1e-7)
    elif scale == "median":
        assert_allclose(fitted.scale_, 1 / np.median(pdist(X)))
    else:
        np.fill_diagonal(distance, np.inf)
        assert_allclose(fitted.scale_, 1 / np.median(distance.min(axis=1)))
    scaled = WeightingVector(scale=scale, magnitude_fraction=0.3).fit(100 * X)
    assert_allclose(scaled.weighting_vector_, fitted.weighting_vector_, rtol=1e-6, atol=1e-9)


def test_the_scale_of_many_points_is_extrapolated_from_some(rng):
    fitted = WeightingVector(random_state=0, solver="vecchia").fit(rng.normal(size=(6000, 2)))
    assert fitted.approximation_ok_
    assert_allclose((fitted.magnitude_ - 1) / 5999, 0.5, atol=0.04)


def test_precomputed_distances_are_those_of_coordinates(rng):
    X, new = rng.normal(size=(40, 3)), rng.normal(size=(5, 3))
    X[7] = X[2]
    by_rows = WeightingVector(scale=1.2).fit(X)
    by_distance = WeightingVector(scale=1.2, metric="precomputed").fit(cdist(X, X))
    assert_allclose(by_distance.weighting_vector_, by_rows.weighting_vector_, rtol=1e-9)
    assert_allclose(by_distance.transform(cdist(new, X)), by_rows.transform(new), rtol=1e-9)
    assert_allclose(by_distance.transform(cdist(X, X)), by_rows.transform(X), rtol=1e-9)


def test_a_metric_of_ones_own_and_indefinite_similarities():
    # Steps between the six corners of the complete bipartite graph are an indefinite metric.
    graph = np.array(
        [[0 if i == j else 2 if (i < 3) == (j < 3) else 1 for j in range(6)] for i in range(6)]
    )
    Z = np.exp(-0.5 * graph)
    assert np.linalg.eigvalsh(Z).min() < 0
    with pytest.raises(ValueError, match=r"not positive definite.*at scale=0.5; use solver='ldl'"):
        weights(graph, 0.5, metric="precomputed")
    fitted = WeightingVector(scale=0.5, metric="precomputed", solver="ldl").fit(graph)
    assert_allclose(Z @ fitted.weighting_vector_, 1, atol=1e-12)
    value = fitted.transform(np.full((1, 6), 1.5))[0, 0]
    joined = np.full((7, 7), np.exp(-0.75))
    joined[:6, :6], joined[6, 6] = Z, 1.0
    assert_allclose(value, np.linalg.solve(joined, np.ones(7))[-1], rtol=1e-10)
    line = WeightingVector(scale=1.0, metric=lambda a, b: abs(a - b).sum()).fit([[0.0], [1.0]])
    assert_allclose(line.magnitude_, 1 + np.tanh(0.5))


def test_weights_are_a_weight_only_where_none_is_negative(rng):
    X = rng.normal(size=(50, 2))
    signed = WeightingVector(scale=0.1).fit(X)
    with pytest.raises(AttributeError, match=r"may be negative .here \d+ of 50 are.; pass nonneg"):
        _ = signed.weights_
    assert not hasattr(signed, "weights_")
    fitted = WeightingVector(scale=0.1, nonnegative=True).fit(X)
    assert_allclose(fitted.weights_, normalize_weights(fitted.weighting_vector_))
    assert 1 < fitted.ess_ < 50


def test_it_weights_the_rows_of_another_estimator(rng):
    X = rng.normal(size=(60, 2))
    y = X[:, 0] ** 2 + rng.normal(size=60)
    weighting = WeightingVector(nonnegative=True)
    model = Reweighted(LinearRegression(), weighting, weighted_score=False).fit(X, y)
    expected = LinearRegression().fit(X, y, sample_weight=weighting.fit(X).weights_)
    assert_allclose(model.estimator_.coef_, expected.coef_)


def test_frames_give_the_same_weights_and_keep_their_names(rng):
    pandas, polars = pytest.importorskip("pandas"), pytest.importorskip("polars")
    X = rng.normal(size=(30, 2))
    for library in (pandas, polars):
        fitted = WeightingVector().fit(library.DataFrame({"a": X[:, 0], "b": X[:, 1]}))
        assert list(fitted.feature_names_in_) == ["a", "b"]
        assert_array_equal(fitted.weighting_vector_, WeightingVector().fit(X).weighting_vector_)
    assert list(fitted.get_feature_names_out()) == ["weightingvector0"]


def test_near_copies_add_to_the_diagonal_and_say_so(rng):
    X = rng.normal(size=(30, 2))
    with pytest.warns(WeightWarning, match="rounding makes the similarities singular"):
        fitted = WeightingVector(scale=1.0).fit(np.vstack([X, X + 1e-17 + 1e-16 * np.sign(X)]))
    assert fitted.alpha_ > 0


def test_defaults_make_no_noise(rng):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        WeightingVector().fit(rng.normal(size=(100, 5)))


D = np.array([[0.0, 1.0, 2.0], [1.0, 0.0, 1.5], [2.0, 1.5, 0.0]])


@pytest.mark.parametrize(
    ("parameters", "X", "message"),
    [
        ({"scale": 0.0}, np.eye(3), "'scale' parameter of WeightingVector must be"),
        ({"scale": -1.0}, np.eye(3), "'scale' parameter of WeightingVector must be"),
        ({"scale": np.inf}, np.eye(3), "'scale' parameter of WeightingVector must be"),
        ({"magnitude_fraction": 1.0}, np.eye(3), "'magnitude_fraction' parameter"),
        ({}, [[0.0, np.nan], [1.0, 2.0]], "WeightingVector: Input X contains NaN: 1 entries"),
        ({}, [[0.0, np.inf], [1.0, 2.0]], "WeightingVector: Input X contains inf"),
        ({}, np.ones((5, 2)), r"WeightingVector: X has only one distinct point \(n_samples = 5\)"),
        ({"metric": "precomputed"}, D[:2], r"X has shape \(2, 3\), which is not square"),
        (
            {"metric": "precomputed"},
            D + np.triu(D),
            r"X\[0, 1\] = 2 differs from its transpose \(6",
        ),
        ({"metric": "precomputed"}, -D, r"X\[0, 1\] = -1 is negative \(6 such entries\)"),
        ({"metric": "precomputed"}, D + np.eye(3), r"X\[0, 0\] = 1 is not zero on the diagonal"),
        (
            {"metric": "braycurtis"},
            [[1.0], [-1.0], [2.0]],
            "WeightingVector: metric='braycurtis' gives distances that are neg",
        ),
        (
            {"metric": lambda a, b: 0.0},
            np.eye(3),
            "WeightingVector: scale='magnitude': the metric gives distance 0",
        ),
        (
            {"solver": "vecchia", "metric": "chebyshev"},
            np.eye(3),
            "by coordinates, but metric='cheb",
        ),
        (
            {"solver": "exact", "exact_max": 2},
            np.eye(3),
            r"3 distinct points are more than exact_m",
        ),
        ({"exact_max": 2, "metric": "hamming"}, np.eye(3), r"need 0.0 GB for solver='exact'"),
        ({"solver": "local", "nonnegative": True}, np.eye(3), "gives weights of either sign"),
        ({"solver": "normalization"}, np.eye(3), "gives non-negative weights only"),
    ],
)
def test_bad_input_is_refused_with_its_reason(parameters, X, message):
    with pytest.raises(ValueError, match=message):
        WeightingVector(**parameters).fit(X)


def test_new_distances_must_not_be_negative():
    fitted = WeightingVector(scale=1.0, metric="precomputed").fit(D)
    with pytest.raises(
        ValueError, match="WeightingVector: X has negative entries, the smallest -1"
    ):
        fitted.transform([[1.0, -1.0, 2.0]])

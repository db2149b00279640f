"""Facts about approximate and iterative solvers: where they are exact, and that they say if not."""

import warnings

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy.spatial.distance import cdist
from sklearn.exceptions import ConvergenceWarning

from reweight import WeightingVector
from reweight.exceptions import WeightWarning
from reweight.metric_space._local_solve import (
    condition,
    earlier_neighbors,
    nearest_others,
    sparse_inverse,
)
from reweight.metric_space._points import distinct_points
from reweight.metric_space._solutions import Cholesky, ExactSolution, SymmetricIndefinite


@pytest.mark.parametrize("power", [1.0, 1.5, 2.0])
@pytest.mark.parametrize("alpha", [0.0, 0.2])
def test_conditioning_is_that_of_plain_algebra(power, alpha, rng):
    points, queries = rng.normal(size=(40, 3)), rng.normal(size=(7, 3))
    neighbors = np.array([rng.permutation(40)[:6] for _ in range(7)])
    neighbors[2, 4:] = -1
    neighbors[3] = -1
    coefficients, variances = condition(queries, points, neighbors, 1.7, power, alpha)
    for i, row in enumerate(neighbors):
        near = points[row[row >= 0]]
        Z = np.exp(-1.7 * cdist(near, near, "minkowski", p=power)) + alpha * np.eye(len(near))
        c = np.exp(-1.7 * cdist(near, queries[[i]], "minkowski", p=power))[:, 0]
        b = np.linalg.solve(Z, c)
        assert_allclose(coefficients[i], np.r_[b, np.zeros(6 - len(b))], atol=1e-12)
        assert_allclose(variances[i], 1 + alpha - c @ b, rtol=1e-12)


@pytest.mark.parametrize("p", [2, 20])
@pytest.mark.parametrize("power", [1.0, 2.0])
def test_neighbors_are_those_of_sorted_distances(p, power, rng):
    X = rng.normal(size=(700, p))
    distance = cdist(X, X, "minkowski", p=power)
    np.fill_diagonal(distance, np.inf)
    found = np.take_along_axis(distance, nearest_others(X, 5, power), axis=1)
    assert_allclose(found, np.sort(distance, axis=1)[:, :5])
    distance[np.triu_indices(700)] = np.inf
    neighbors = earlier_neighbors(X, 5, power)
    assert_array_equal((neighbors >= 0).sum(axis=1), np.minimum(np.arange(700), 5))
    found = np.where(neighbors >= 0, np.take_along_axis(distance, neighbors, axis=1), np.inf)
    assert_allclose(found, np.sort(distance, axis=1)[:, :5])


@pytest.mark.parametrize("alpha", [0.0, 0.3])
def test_the_sparse_inverse_is_the_inverse_with_all_neighbors(alpha, rng):
    X = rng.normal(size=(60, 2))
    inverse = np.linalg.inv(np.exp(-2 * cdist(X, X)) + alpha * np.eye(60))
    sparse = sparse_inverse(X, 59, 2.0, 2.0, alpha, np.random.RandomState(0))
    v = rng.normal(size=60)
    assert_allclose(sparse.product(v), inverse @ v, rtol=1e-8, atol=1e-10)
    assert_allclose(sparse.diagonal(), np.diag(inverse), rtol=1e-10)
    assert_allclose(sparse.total(), inverse.sum(), rtol=1e-9)


def test_the_sparse_inverse_is_always_positive(rng):
    X = rng.normal(size=(300, 10))
    sparse = sparse_inverse(X, 8, 0.1, 2.0, 0.0, np.random.RandomState(0))
    matrix = np.array([sparse.product(row) for row in np.eye(300)])
    assert_allclose(matrix, matrix.T, atol=1e-8 * np.abs(matrix).max())
    assert np.linalg.eigvalsh(matrix).min() > 0
    assert_allclose(sparse.total(), matrix.sum(), rtol=1e-8)
    assert_allclose(sparse.diagonal(), np.diag(matrix), rtol=1e-8)


@pytest.mark.parametrize("kind", [Cholesky, SymmetricIndefinite])
def test_the_diagonal_of_the_inverse(kind, rng):
    points = distinct_points(rng.normal(size=(1050, 2)), "euclidean")[0]
    factor = kind(points, 5.0, 0.1)
    Z = np.exp(-5 * cdist(points.data, points.data)) + 0.1 * np.eye(1050)
    assert_allclose(factor.inverse_diagonal(), np.diag(np.linalg.inv(Z)), rtol=1e-9)
    c = rng.uniform(size=(3, 1050))
    assert_allclose(factor.explained(c.copy()), np.diag(c @ np.linalg.solve(Z, c.T)), rtol=1e-9)


def test_leaving_one_out_has_closed_forms(rng):
    X = np.unique(rng.normal(size=(30, 2)), axis=0)
    points = distinct_points(X, "euclidean")[0]
    solution = ExactSolution(points, 1.0)
    inverse = solution.inverse_diagonal()
    for i in range(30):
        rest = ExactSolution(points.subset(np.delete(np.arange(30), i)), 1.0)
        residual, variance = rest.residual_and_variance(X[[i]])
        assert_allclose(variance, 1 / inverse[i], rtol=1e-8)
        assert_allclose(residual, solution.w[i] / inverse[i], rtol=1e-8)
        gain = solution.magnitude - rest.magnitude
        assert_allclose(gain, solution.w[i] ** 2 / inverse[i], rtol=1e-8)
        assert_allclose(residual**2 / variance, gain, rtol=1e-8)


@pytest.mark.parametrize("solver", ["local", "vecchia", "cg"])
def test_all_neighbors_give_exact_weights_for_rows_and_new_points(solver, rng):
    X, new = rng.normal(size=(80, 3)), rng.normal(size=(5, 3))
    exact = WeightingVector(scale=0.8).fit(X)
    near = WeightingVector(scale=0.8, solver=solver, n_neighbors=79, random_state=0).fit(X)
    assert_allclose(near.weighting_vector_, exact.weighting_vector_, rtol=1e-6, atol=1e-8)
    assert_allclose(near.magnitude_, exact.magnitude_, rtol=1e-8)
    assert near.approximation_ok_
    more = WeightingVector(scale=0.8, solver=solver, n_neighbors=80, random_state=0).fit(X)
    assert_allclose(more.transform(new), exact.transform(new), rtol=1e-8)


def test_on_a_line_the_two_adjacent_points_are_enough(rng):
    x = np.sort(rng.normal(size=200))
    gaps = np.tanh(np.diff(x) / 2)
    expected = 0.5 * (np.r_[1.0, gaps] + np.r_[gaps, 1.0])
    adjacent = np.column_stack([np.arange(200) - 1, np.arange(200) + 1])
    adjacent[-1] = [198, -1]
    adjacent[0] = [1, -1]
    coefficients, variance = condition(x[:, None], x[:, None], adjacent, 1.0, 2.0)
    assert_allclose((1 - coefficients.sum(axis=1)) / variance, expected, rtol=1e-10, atol=1e-10)
    near = WeightingVector(scale=1.0, solver="local", n_neighbors=20).fit(x[:, None])
    assert_allclose(near.weighting_vector_, expected, atol=1e-3)


@pytest.mark.parametrize("metric", ["euclidean", "manhattan"])
def test_conjugate_gradients_are_exact_where_neighbors_are_not(metric, rng):
    X = rng.normal(size=(600, 10))
    exact = WeightingVector(metric=metric).fit(X)
    steps = WeightingVector(scale=exact.scale_, metric=metric, solver="cg", random_state=0).fit(X)
    assert_allclose(steps.weighting_vector_, exact.weighting_vector_, atol=1e-6)
    assert steps.approximation_ok_
    assert 1 < steps.n_iter_ < 60


# Magnitudes of the table in benchmarks/results/magnitude_outliers.md.
@pytest.mark.parametrize(
    ("p", "scale", "k", "magnitude", "ok"),
    [(2, 10.0, 20, 283.2, False), (2, 10.0, 50, 317.9, True), (2, 2.0, 20, -79.3, False)],
)
def test_local_magnitudes_say_when_they_do_not_hold(p, scale, k, magnitude, ok):
    X = np.random.default_rng(0).normal(size=(2000, p))
    weighting = WeightingVector(scale=scale, solver="local", n_neighbors=k, random_state=0)
    if ok:
        weighting.fit(X)
    else:
        with pytest.warns(WeightWarning, match=f"WeightingVector: {k} neighbours do not see"):
            weighting.fit(X)
    assert weighting.approximation_ok_ == ok
    assert_allclose(weighting.magnitude_, magnitude, atol=0.05)


@pytest.mark.parametrize("p", [1, 2, 3, 5])
def test_weights_that_are_called_good_are_good(p, rng):
    X = rng.normal(size=(700, p))
    for fraction in (0.2, 0.5, 0.8):
        exact = WeightingVector(magnitude_fraction=fraction).fit(X)
        for solver in ("local", "vecchia"):
            near = WeightingVector(scale=exact.scale_, solver=solver, random_state=0)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", WeightWarning)
                near.fit(X)
            error = near.weighting_vector_ - exact.weighting_vector_
            relative = np.sqrt(np.mean(error**2) / np.mean(exact.weighting_vector_**2))
            assert relative < 0.05 or not near.approximation_ok_
            # The default fraction holds in few columns.
            assert near.approximation_ok_ or p > 2 or fraction < 0.5


def test_an_exhausted_iteration_says_so(rng):
    X = rng.normal(size=(400, 6))
    weighting = WeightingVector(scale=0.3, solver="cg", max_iter=2, random_state=0)
    with pytest.warns(ConvergenceWarning, match=r"WeightingVector: solver='cg' did not converge"):
        weighting.fit(X)
    assert not weighting.approximation_ok_


def test_auto_picks_by_rows_and_columns(rng):
    chosen = {}
    for n, p in [(50, 2), (120, 2), (120, 6)]:
        fitted = WeightingVector(exact_max=100, random_state=0, scale=20.0).fit(
            rng.normal(size=(n, p))
        )
        chosen[n, p] = fitted.solver_
    few = WeightingVector(exact_max=100, nonnegative=True).fit(rng.normal(size=(120, 2)))
    assert few.solver_ == "projected_gradient"
    assert few.approximation_ok_
    assert chosen == {(50, 2): "exact", (120, 2): "vecchia", (120, 6): "cg"}


def test_a_subsample_gives_the_others_the_weight_of_new_points(rng):
    X = rng.normal(size=(150, 6))
    weighting = WeightingVector(scale=1.0, solver="subsample", exact_max=60, random_state=0)
    with pytest.warns(WeightWarning, match="a random 60 of the points"):
        weighting.fit(X)
    chosen = weighting._solution._exact.support
    rows = weighting._points.data
    alone = WeightingVector(scale=1.0).fit(rows[chosen])
    assert_allclose(weighting.transform(rows), alone.transform(rows), rtol=1e-8)
    assert_allclose(weighting.magnitude_, alone.magnitude_)


@pytest.mark.parametrize("solver", ["exact", "local", "vecchia", "cg"])
def test_number_of_threads_does_not_change_a_bit(solver, rng):
    X = rng.normal(size=(400, 2))
    alone, shared = (
        WeightingVector(solver=solver, random_state=0, n_jobs=n_jobs, n_neighbors=60).fit(X)
        for n_jobs in (1, 2)
    )
    assert_array_equal(alone.weighting_vector_, shared.weighting_vector_)
    assert_array_equal(alone.transform(X + 0.1), shared.transform(X + 0.1))


@pytest.mark.slow
def test_a_hundred_thousand_rows_in_three_columns():
    X = np.random.default_rng(0).normal(size=(100_000, 3))
    fitted = WeightingVector(random_state=0).fit(X)
    assert fitted.solver_ == "vecchia"
    assert fitted.approximation_ok_
    assert_allclose((fitted.magnitude_ - 1) / (len(X) - 1), 0.5, atol=0.08)

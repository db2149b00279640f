"""Facts about non-negative weighting vectors: optimality, diversity, agreement of solvers."""

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy.linalg import cholesky, solve_triangular
from scipy.optimize import nnls
from scipy.spatial.distance import cdist
from sklearn.exceptions import ConvergenceWarning

from reweight import WeightingVector

SOLVERS = ["exact", "projected_gradient", "normalization"]


def by_least_squares(Z):
    """min |L'a - L^-1 1| over a >= 0 with Z = L L'."""
    L = cholesky(Z, lower=True)
    return nnls(L.T, solve_triangular(L, np.ones(len(Z)), lower=True))[0]


@pytest.mark.parametrize(("p", "scale"), [(2, 0.3), (2, 2.0), (6, 0.2)])
def test_weights_are_optimal_and_those_of_least_squares(p, scale, rng):
    X = rng.normal(size=(150, p))
    fitted = WeightingVector(scale=scale, nonnegative=True).fit(X)
    a, Z = fitted.weighting_vector_, np.exp(-scale * cdist(X, X))
    assert a.min() >= 0
    assert (Z @ a).min() >= 1 - 1e-6
    assert_allclose(a * (Z @ a - 1), 0, atol=1e-6)
    assert fitted.residual_norm_ < 1e-6
    assert_allclose(a, by_least_squares(Z), atol=1e-7)


def test_the_magnitude_is_the_largest_diversity_and_below_the_signed_one(rng):
    X = rng.normal(size=(60, 2))
    Z = np.exp(-0.5 * cdist(X, X))
    fitted = WeightingVector(scale=0.5, nonnegative=True).fit(X)
    signed = WeightingVector(scale=0.5).fit(X)
    assert signed.weighting_vector_.min() < 0
    assert fitted.magnitude_ < signed.magnitude_
    for v in rng.exponential(size=(200, 60)) * (rng.uniform(size=(200, 60)) < 0.3):
        assert v.sum() ** 2 / (v @ Z @ v) <= fitted.magnitude_
    a = fitted.weighting_vector_
    assert_allclose(a.sum() ** 2 / (a @ Z @ a), fitted.magnitude_)


def test_where_no_weight_is_negative_nothing_changes(rng):
    X = rng.normal(size=(40, 3))
    signed = WeightingVector(scale=10.0).fit(X)
    assert signed.weighting_vector_.min() > 0
    fitted = WeightingVector(scale=10.0, nonnegative=True).fit(X)
    assert_array_equal(fitted.weighting_vector_, signed.weighting_vector_)


@pytest.mark.parametrize("solver", SOLVERS)
def test_solvers_agree(solver, rng):
    X = rng.normal(size=(200, 2))
    exact = WeightingVector(nonnegative=True, magnitude_fraction=0.4).fit(X)
    # Some weights are zero and others small, which repeated normalisation reaches slowly.
    other = WeightingVector(
        scale=exact.scale_, nonnegative=True, solver=solver, max_iter=5000, tol=1e-10
    ).fit(X)
    assert_allclose(other.weighting_vector_, exact.weighting_vector_, atol=1e-4)
    assert_allclose(other.magnitude_, exact.magnitude_, rtol=1e-6)
    assert other.approximation_ok_
    new = rng.normal(size=(6, 2))
    assert_allclose(other.transform(new), exact.transform(new), atol=2e-3)


def test_rows_without_weight_are_where_new_rows_would_have_none(rng):
    X = rng.normal(size=(100, 2))
    fitted = WeightingVector(scale=0.3, nonnegative=True).fit(X)
    zero = fitted.weighting_vector_ == 0
    assert 0 < zero.sum() < 100
    # Off the support the formula for new rows gives what training rows have.
    moved = X[zero] * (1 - 1e-9)
    assert_allclose(fitted.transform(moved)[:, 0], 0, atol=1e-6)
    assert_array_equal(fitted.transform(X)[:, 0], fitted.weighting_vector_)


def test_repeated_normalisation_says_when_it_has_not_arrived(rng):
    weighting = WeightingVector(scale=0.1, nonnegative=True, solver="normalization", max_iter=20)
    with pytest.warns(ConvergenceWarning, match="after 20 steps of at most max_iter=20 its cond"):
        weighting.fit(rng.normal(size=(60, 2)))
    assert not weighting.approximation_ok_
    assert weighting.n_iter_ == 20

"""Projection onto the simplex against the sorting formula, Clarabel and its own conditions."""

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from reweight.solvers.reference import projection_reference
from reweight.solvers.simplex_projection import project_simplex


def by_sorting(v, total):
    """The threshold that leaves `total`, found among the sorted partial sums."""
    ordered = np.sort(v)[::-1]
    threshold = (np.cumsum(ordered) - total) / np.arange(1, len(v) + 1)
    return np.maximum(v - threshold[np.flatnonzero(ordered > threshold)[-1]], 0.0)


@pytest.mark.parametrize("total", [1.0, 0.01, 250.0])
@pytest.mark.parametrize("d", [1, 2, 3, 17, 400])
def test_equals_the_sorting_formula(d, total):
    V = np.random.default_rng(d).standard_normal((50, d)) * 10
    projected = project_simplex(V, total)
    assert_allclose(projected, [by_sorting(v, total) for v in V], atol=1e-12 * total + 1e-13)
    assert_allclose(projected.sum(axis=1), total, rtol=1e-12)
    assert (projected >= 0).all()


@pytest.mark.parametrize("d", [3, 4, 5, 10])
def test_rare_orders_of_candidates(d):
    # Few rows move several candidates to the back of a nearly full row.
    V = np.random.default_rng(d).standard_normal((20_000, d))
    assert_allclose(project_simplex(V), [by_sorting(v, 1.0) for v in V], atol=1e-14)


def test_candidates_that_overlap_with_those_that_wait():
    # Three candidates near one another, then one that outdoes them by nearly the total.
    v = np.array([0.0, 0.1, 0.15, 1.1])
    assert_allclose(project_simplex(v), by_sorting(v, 1.0), atol=1e-15)


@pytest.mark.parametrize(
    "v",
    [
        np.zeros(6),
        np.arange(30.0),
        np.arange(30.0)[::-1],
        np.tile([0.3, 0.1], 9),
        np.r_[1e8, 1e8, np.zeros(4)],
        np.full(5, -1e6),
    ],
    ids=["zeros", "rising", "falling", "ties", "large", "negative"],
)
def test_ties_and_orders(v):
    assert_allclose(project_simplex(v), by_sorting(v, 1.0), atol=1e-8)


def test_agrees_with_clarabel():
    v = np.random.default_rng(0).standard_normal(20)
    assert_allclose(project_simplex(v, 2.0), projection_reference(v, 2.0), atol=1e-7)


def test_points_of_the_simplex_stay():
    W = np.random.default_rng(1).dirichlet(np.ones(9), size=20)
    assert_allclose(project_simplex(W), W, atol=1e-15)


def test_one_row_equals_the_row_of_many():
    V = np.random.default_rng(2).standard_normal((6, 11))
    assert_array_equal(project_simplex(V), [project_simplex(v) for v in V])
    assert project_simplex(V[0]).shape == (11,)


def test_input_is_left_alone():
    V = np.random.default_rng(3).standard_normal((4, 5))
    before = V.copy()
    project_simplex(V)
    assert_array_equal(V, before)


@pytest.mark.parametrize(
    ("V", "total", "message"),
    [
        (np.zeros((2, 0)), 1.0, "at least one entry"),
        (np.zeros((2, 2, 2)), 1.0, "shape"),
        (np.zeros(3), 0.0, "total must be positive"),
        (np.array([0.0, np.nan]), 1.0, "1 entries that are NaN"),
    ],
)
def test_bad_input_is_named(V, total, message):
    with pytest.raises(ValueError, match=message):
        project_simplex(V, total)

"""Facts about rows made non-decreasing."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.isotonic import isotonic_regression

from reweight.kernels.isotonic_rows import pava_rows, sort_rows, sweep_rows

OPERATORS = [pava_rows, sort_rows, sweep_rows]


def rows(rng, n=300, m=23, noise=1.0):
    return np.sort(rng.normal(size=(n, m)), axis=1) + noise * rng.normal(size=(n, m))


@pytest.mark.parametrize("noise", [0.01, 0.3, 5.0])
@pytest.mark.parametrize("m", [1, 2, 5, 99])
def test_pooling_agrees_with_scikit_learn_row_by_row(rng, noise, m):
    Q = rows(rng, m=m, noise=noise)
    expected = np.array([isotonic_regression(q) for q in Q])
    assert_allclose(pava_rows(Q), expected, atol=1e-12)


@given(st.lists(st.integers(-3, 3), min_size=1, max_size=12))
@settings(max_examples=200, deadline=None)
def test_pooling_handles_ties_and_any_pattern(values):
    q = np.array(values, dtype=float)
    assert_allclose(pava_rows(q), isotonic_regression(q), atol=1e-12)


@pytest.mark.parametrize("m", [1, 2, 5, 8])
def test_sweep_agrees_with_running_extremes(rng, m):
    Q = rows(rng, m=m)
    middle = m // 2
    out = Q.copy()
    out[:, middle:] = np.maximum.accumulate(Q[:, middle:], axis=1)
    out[:, : middle + 1] = np.minimum.accumulate(Q[:, middle::-1], axis=1)[:, ::-1]
    assert_array_equal(sweep_rows(Q), out)
    assert_array_equal(sweep_rows(Q)[:, middle], Q[:, middle])
    assert_array_equal(sweep_rows(Q, 0), np.maximum.accumulate(Q, axis=1))


@pytest.mark.parametrize("operator", [pava_rows, sweep_rows])
def test_rows_shared_by_threads_come_out_the_same(rng, operator):
    Q = rows(rng, n=3000, m=7)
    assert_array_equal(operator(Q), np.concatenate([operator(part) for part in np.split(Q, 6)]))


def test_sort_agrees_with_numpy(rng):
    Q = rows(rng)
    assert_array_equal(sort_rows(Q), np.sort(Q, axis=1))


@pytest.mark.parametrize("operator", OPERATORS)
def test_rows_come_out_in_order_and_stay_when_they_are(rng, operator):
    Q = rows(rng)
    once = operator(Q)
    assert (np.diff(once, axis=1) >= 0).all()
    assert_array_equal(operator(once), once)
    assert_array_equal(operator(Q[0]), once[0])


def test_pooling_keeps_sums_and_is_closest(rng):
    Q = rows(rng)
    fitted = pava_rows(Q)
    assert_allclose(fitted.sum(axis=1), Q.sum(axis=1), atol=1e-11)
    distance = ((fitted - Q) ** 2).sum(axis=1)
    for other in (sort_rows(Q), sweep_rows(Q), np.repeat(Q.mean(axis=1)[:, None], 23, axis=1)):
        assert (distance <= ((other - Q) ** 2).sum(axis=1) + 1e-12).all()


@pytest.mark.parametrize("operator", [pava_rows, sort_rows])
@pytest.mark.parametrize("order", [1, 2, np.inf])
def test_no_distance_to_an_ordered_target_rises(rng, operator, order):
    Q, target = rows(rng), np.sort(rng.normal(size=(300, 23)), axis=1)
    before = np.linalg.norm(Q - target, order, axis=1)
    assert (np.linalg.norm(operator(Q) - target, order, axis=1) <= before + 1e-12).all()


def test_infinite_ends_can_be_swept_and_sorted_but_have_no_mean():
    row = [[-np.inf, 2.0, 1.0, np.inf]]
    assert_array_equal(sort_rows(row), [[-np.inf, 1.0, 2.0, np.inf]])
    assert_array_equal(sweep_rows(row), [[-np.inf, 1.0, 1.0, np.inf]])
    with pytest.raises(ValueError, match="2 infinite entries"):
        pava_rows(row)


@pytest.mark.parametrize("operator", OPERATORS)
def test_bad_input_is_refused(operator):
    with pytest.raises(ValueError, match="1 entries that are NaN"):
        operator([[0.0, np.nan]])
    with pytest.raises(ValueError, match="at least one entry"):
        operator(np.zeros((3, 0)))
    with pytest.raises(ValueError, match="middle must be from 0 to 1"):
        sweep_rows([[0.0, 1.0]], 2)

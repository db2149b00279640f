"""The recursions beside plain twins in numpy."""

import numpy as np
import pytest
from numpy.testing import assert_allclose

from reweight.linear._kalman_filter import (
    filter_drifting_rows,
    filter_rows,
    smoothed_gradient_rows,
    update_batch,
)

NO_CAP = np.inf


@pytest.fixture
def rows(rng):
    H = np.column_stack([np.ones(40), rng.normal(size=(40, 3))])
    y = H @ [1.0, 2.0, -1.0, 0.0] + rng.normal(size=40)
    return H, y, rng.uniform(0.5, 2.0, size=40)


def plain_filter(H, y, w, mean, P, noise, drift, inflation):
    """Textbook equations, one row at a time."""
    sum_log = sum_squares = 0.0
    means = []
    for h, outcome, weight in zip(H, y, w, strict=True):
        P = inflation * P + drift * np.eye(len(mean))
        S = h @ P @ h + noise / weight
        nu = outcome - h @ mean
        g = P @ h / S
        mean = mean + g * nu
        A = np.eye(len(mean)) - np.outer(g, h)
        P = A @ P @ A.T + np.outer(g, g) * noise / weight
        sum_log += np.log(S)
        sum_squares += nu**2 / S
        means.append(mean)
    return mean, P, sum_log, sum_squares, np.array(means)


@pytest.mark.parametrize(("drift", "inflation"), [(0.0, 1.0), (0.05, 1.0), (0.05, 1.1), (0.0, 1.1)])
def test_filter_of_the_covariance(drift, inflation, rows):
    H, y, w = rows
    mean, P, path = np.zeros(4), 9.0 * np.eye(4), np.empty(H.shape)
    expected = plain_filter(H, y, w, mean, P, 0.7, drift, inflation)
    sums = filter_drifting_rows(H, y, w, mean, P, 0.7, drift, inflation, NO_CAP, 0, path)
    for found, value in zip((mean, P, *sums, path), expected, strict=True):
        assert_allclose(found, value, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("inflation", [1.0, 1.1])
def test_filter_of_its_root(inflation, rows):
    H, y, w = rows
    mean, S, path = np.zeros(4), 3.0 * np.eye(4), np.empty(H.shape)
    expected = plain_filter(H, y, w, mean, S @ S.T, 0.7, 0.0, inflation)
    sums = filter_rows(H, y, w, mean, S, 0.7, inflation, NO_CAP, 0, path)
    for found, value in zip((mean, S @ S.T, *sums, path), expected, strict=True):
        assert_allclose(found, value, rtol=1e-10, atol=1e-12)


def test_all_rows_at_once(rows, rng):
    H, y, w = rows
    start, S = rng.normal(size=4), rng.normal(size=(4, 4))
    expected = plain_filter(H, y, w, start, S @ S.T, 0.7, 0.0, 1.0)
    mean, root, *sums = update_batch(H, y, w, start, S, 0.7)
    for found, value in zip((mean, root @ root.T, *sums), expected[:4], strict=True):
        assert_allclose(found, value, rtol=1e-9, atol=1e-12)


def test_inflation_stops_at_the_cap_once_each_coefficient_could_have_been_seen(rows):
    H, y, w = rows
    H[:, 3] = 0.0
    y = H @ [1.0, 2.0, -1.0, 0.0]
    mean, S = np.zeros(4), 3.0 * np.eye(4)
    filter_rows(
        np.tile(H, (20, 1)),
        np.tile(y, 20),
        np.tile(w, 20),
        mean,
        S,
        0.7,
        1.1,
        36.0,
        0,
        np.empty((0, 4)),
    )
    P = S @ S.T
    # The coefficient without evidence takes the whole of the cap.
    assert 36.0 / 1.1 < np.trace(P) <= 36.0
    assert P[3, 3] > 30.0


def test_gradient_iterates_and_their_smoothing(rows):
    H, y, w = rows
    theta, mean, state = np.zeros(4), np.zeros(4), np.array([np.inf, 0.0])
    path = np.empty(H.shape)
    squares = smoothed_gradient_rows(H, y, w, theta, mean, state, 0.3, 0.05, 0.1, path)
    b, m, P, total = np.zeros(4), np.zeros(4), np.inf, 0.0
    for t, (h, outcome, weight) in enumerate(zip(H, y, w, strict=True)):
        total += weight * (outcome - h @ m) ** 2
        b = b + 0.05 / (1 + 0.1 * t) * weight * (outcome - h @ b) * h
        k = 1.0 if np.isinf(P) else (P + 0.3) / (P + 0.3 + 1)
        m = m + k * (b - m)
        P = 1.0 if np.isinf(P) else (1 - k) * (P + 0.3)
        assert_allclose(path[t], m, rtol=1e-12)
    assert_allclose(theta, b, rtol=1e-12)
    assert_allclose(squares, total, rtol=1e-12)
    assert state[1] == 40

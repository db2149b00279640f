"""Binned counts keep sums and moments, and equal counts by plain numpy."""

import numpy as np
import pytest
from numpy.testing import assert_allclose

from reweight.kernels.linear_binning import bin_1d, bin_2d, bin_columns, interpolate_1d


def corners(x, grid):
    """The two nodes around each row and the shares that they get, by plain numpy."""
    left = np.clip(np.searchsorted(grid, x, side="right") - 1, 0, len(grid) - 2)
    share = (x - grid[left]) / (grid[1] - grid[0])
    return [(left, 1 - share), (left + 1, share)]


def plain_counts(columns, grids, w):
    counts = np.zeros([len(grid) for grid in grids])
    choices = [corners(x, grid) for x, grid in zip(columns, grids, strict=True)]
    for bits in np.ndindex(*[2] * len(columns)):
        picked = [choice[bit] for choice, bit in zip(choices, bits, strict=True)]
        shares = np.prod([share for _, share in picked], axis=0)
        np.add.at(counts, tuple(nodes for nodes, _ in picked), w * shares)
    return counts


@pytest.fixture(params=[1, 2, 3])
def problem(request, rng):
    columns = list(rng.normal(size=(request.param, 400)))
    grids = [np.linspace(x.min(), x.max(), 9 + k) for k, x in enumerate(columns)]
    return columns, grids, rng.exponential(size=400)


def test_counts_equal_those_of_plain_numpy(problem):
    columns, grids, w = problem
    assert_allclose(bin_columns(columns, grids, w), plain_counts(columns, grids, w), atol=1e-12)
    ones = plain_counts(columns, grids, np.ones(400))
    assert_allclose(bin_columns(columns, grids), ones, atol=1e-12)


def test_general_kernel_equals_those_of_one_and_two_columns(rng):
    x, y = rng.uniform(size=(2, 200))
    grid, flat = np.linspace(0, 1, 7), [np.zeros(200), np.linspace(0, 1, 2)]
    three = bin_columns([x, y, flat[0]], [grid, grid, flat[1]])
    assert_allclose(three[..., 0], bin_2d(x, y, grid, grid), atol=1e-12)
    assert_allclose(three[..., 1], 0, atol=0)
    assert_allclose(three.sum(axis=(1, 2)), bin_1d(x, grid), atol=1e-12)


def test_sums_and_first_moments_are_kept(rng):
    x, w = rng.normal(size=300), rng.exponential(size=300)
    grid = np.linspace(-6, 6, 31)
    counts = bin_1d(x, grid, w)
    assert_allclose(counts.sum(), w.sum())
    assert_allclose(counts @ grid, w @ x)


def test_rows_on_nodes_stay_there():
    grid = np.linspace(0, 1, 5)
    assert_allclose(bin_1d(grid, grid), 1, atol=1e-15)
    assert_allclose(bin_2d(grid, grid, grid, grid), np.eye(5), atol=1e-15)


def test_interpolation_is_that_of_numpy_and_the_transpose_of_binning(rng):
    grid = np.linspace(-1, 2, 12)
    values, x = rng.normal(size=12), rng.uniform(-2, 3, size=500)
    assert_allclose(interpolate_1d(x, grid, values), np.interp(x, grid, values), atol=1e-12)
    inside, w = np.clip(x, -1, 2), rng.normal(size=500)
    assert_allclose(w @ interpolate_1d(inside, grid, values), bin_1d(inside, grid, w) @ values)


def test_what_does_not_fit_is_refused(rng):
    grid = np.linspace(0, 1, 5)
    with pytest.raises(ValueError, match=r"x reaches from 0.5 to 1.5 but its grid from 0 to 1"):
        bin_1d([0.5, 1.5], grid)
    with pytest.raises(ValueError, match="equal steps"):
        bin_1d([0.5], [0.0, 0.1, 1.0])
    with pytest.raises(ValueError, match="at least two nodes"):
        bin_1d([0.5], [0.0])
    with pytest.raises(ValueError, match="2 rows but y has 1"):
        bin_2d([0.5, 0.5], [0.5], grid, grid)
    with pytest.raises(ValueError, match="one weight per row"):
        bin_1d([0.5, 0.5], grid, [1.0])
    with pytest.raises(ValueError, match="1 columns but 2 grids"):
        bin_columns([[0.5]], [grid, grid])
    with pytest.raises(ValueError, match="3 values but 5 nodes"):
        interpolate_1d([0.5], grid, np.ones(3))
    with pytest.raises(ValueError, match="reaches"):
        bin_1d([np.nan], grid)

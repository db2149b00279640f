"""Facts about order statistics of moved lists."""

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from reweight.kernels.shifted_lists import kth_of_shifted_lists


def sorted_lists(rng, sizes, decimals):
    lists = [np.sort(np.round(rng.normal(size=size), decimals)) for size in sizes]
    return np.concatenate(lists), np.concatenate([[0], np.cumsum(sizes)])


@pytest.mark.parametrize("sizes", [(5,), (3, 4), (1, 0, 6, 2), (20, 30, 25, 22, 28)])
@pytest.mark.parametrize("decimals", [0, 6])
def test_every_rank_agrees_with_a_sort_of_all(rng, sizes, decimals):
    values, starts = sorted_lists(rng, sizes, decimals)
    shifts = np.round(rng.normal(size=(9, len(sizes))), decimals)
    moved = values + np.repeat(shifts, sizes, axis=1)
    expected = np.sort(moved, axis=1)
    for rank in range(1, len(values) + 1):
        assert_array_equal(
            kth_of_shifted_lists(values, starts, shifts, rank), expected[:, rank - 1]
        )


def test_rows_shared_by_threads_come_out_the_same(rng):
    values, starts = sorted_lists(rng, (20, 30, 25), 6)
    shifts = rng.normal(size=(600, 3))
    parts = [kth_of_shifted_lists(values, starts, part, 31) for part in np.split(shifts, 6)]
    assert_array_equal(kth_of_shifted_lists(values, starts, shifts, 31), np.concatenate(parts))


def test_ranks_out_of_range_are_refused(rng):
    values, starts = sorted_lists(rng, (3, 3), 2)
    for rank in (0, 7):
        with pytest.raises(ValueError, match="rank must be from 1 to 6"):
            kth_of_shifted_lists(values, starts, np.zeros((1, 2)), rank)
    assert kth_of_shifted_lists(values, starts, np.zeros((0, 2)), 1).shape == (0,)

"""Counts and look-ups by pairs of classes agree with numpy's."""

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from reweight.kernels.edge_pairs import count_pairs, take_pairs


@pytest.mark.parametrize("dtype", [np.int64, np.int32, np.uint8])
@pytest.mark.parametrize("masked", [False, True])
def test_both_agree_with_numpy(rng, dtype, masked):
    # Rows of a transposed array, so that edges are not contiguous.
    senders, receivers = rng.integers(0, 90, (700, 2)).astype(dtype).T
    codes = rng.integers(0, 5, 90)
    mask = rng.uniform(size=90) < 0.5 if masked else None
    kept = mask[receivers] if masked else np.ones(700, dtype=bool)
    pair = codes[receivers], codes[senders]
    for weights in (None, rng.uniform(size=700)):
        expected = np.zeros((5, 5))
        values = np.ones(700) if weights is None else weights
        np.add.at(expected, pair, values * kept)
        found = count_pairs(senders, receivers, codes, 5, counted=mask, weights=weights)
        assert_allclose(found, expected, rtol=1e-12)
    table = rng.uniform(size=(5, 5))
    found = take_pairs(senders, receivers, codes, table, weighted=mask)
    assert_array_equal(found, np.where(kept, table[pair], 1.0))


def test_no_edges_count_nothing():
    none = np.zeros(0, dtype=np.int64)
    assert_array_equal(count_pairs(none, none, np.array([0, 1]), 2), np.zeros((2, 2)))
    assert take_pairs(none, none, np.array([0, 1]), np.eye(2)).shape == (0,)

"""Checks that several families share."""

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from reweight.validation import check_groups, label_codes


def test_groups_are_coded_in_the_order_of_their_labels():
    labels, codes = check_groups(["b", "a", "b"], 3)
    assert_array_equal(labels, ["a", "b"])
    assert_array_equal(codes, [1, 0, 1])


@pytest.mark.parametrize("groups", [[1.0, np.nan, 2.0], np.array(["a", None, "b"], dtype=object)])
def test_a_missing_group_is_refused(groups):
    with pytest.raises(ValueError, match="groups contains 1 missing"):
        check_groups(groups, 3)


@pytest.mark.parametrize(
    "labels",
    [
        np.array([7, -3, 7, 0], dtype=np.int8),
        np.array([2**62, -(2**62), 5]),
        np.array([3, 1, 1], dtype=np.uint16),
        np.repeat(np.array([-100, 100], dtype=np.int8), 200),
        np.array(["b", "a", "b"]),
        np.array([True, False, True]),
        np.array([], dtype=int),
    ],
)
def test_label_codes_are_those_of_unique(labels):
    distinct, codes = label_codes(labels)
    expected, inverse = np.unique(labels, return_inverse=True)
    assert_array_equal(distinct, expected)
    assert_array_equal(codes, inverse)
    assert distinct.dtype == labels.dtype

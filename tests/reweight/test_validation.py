"""Checks that several families share."""

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from reweight.validation import check_groups


def test_groups_are_coded_in_the_order_of_their_labels():
    labels, codes = check_groups(["b", "a", "b"], 3)
    assert_array_equal(labels, ["a", "b"])
    assert_array_equal(codes, [1, 0, 1])


@pytest.mark.parametrize("groups", [[1.0, np.nan, 2.0], np.array(["a", None, "b"], dtype=object)])
def test_a_missing_group_is_refused(groups):
    with pytest.raises(ValueError, match="groups contains 1 missing"):
        check_groups(groups, 3)

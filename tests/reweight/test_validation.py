"""Checks that several families share."""

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from reweight.outcomes import check_outcomes
from reweight.validation import (
    check_groups,
    check_magnitude,
    check_sample_weight,
    label_codes,
    validate_features,
    validate_rows,
)
from shift import KernelMeanMatching


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


@pytest.mark.parametrize("factor", [1e200, 1e-200])
def test_numbers_whose_products_overflow_or_vanish_are_refused(rng, factor):
    X = rng.normal(size=(20, 3))
    X[:, 1] *= factor
    with pytest.raises(ValueError, match=r"KernelMeanMatching: X has entries .* in column 1"):
        KernelMeanMatching().fit(X, X_target=X)
    with pytest.raises(ValueError, match="sample_weight has entries of magnitude"):
        check_sample_weight(np.full(20, factor), X)
    with pytest.raises(ValueError, match="owner: y has entries of magnitude"):
        check_outcomes("owner", X[:, 1])
    X[:, 1] = 0.0
    check_magnitude(X * 1e60, name="X")


@pytest.mark.parametrize(
    "X",
    [{"rows": 3}, "a word", object(), [[1.0, 2.0], [3.0]]],
    ids=["dict", "word", "object", "ragged"],
)
def test_what_holds_no_rows_is_named(X):
    for check in (validate_features, validate_rows):
        with pytest.raises(
            (TypeError, ValueError), match=r"KernelMeanMatching: .*rows|Expected 2D"
        ):
            check(KernelMeanMatching(), X)


@pytest.mark.parametrize("weights", [["a", "b"], [{}, 1.0], [1.0, 2j], [None, "x"]])
def test_weights_that_are_no_numbers_are_named(weights):
    with pytest.raises((TypeError, ValueError), match=r"^sample_weight is (not numeric|complex)"):
        check_sample_weight(weights, np.zeros((2, 1)))

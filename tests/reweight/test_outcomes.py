"""What counts as a recorded outcome, and what is said of the rest."""

import numpy as np
import pandas as pd
import polars as pl
import pytest
from numpy.testing import assert_array_equal

from reweight.outcomes import check_outcomes


@pytest.mark.parametrize(
    "y",
    [
        [1, 2, 3],
        np.array([1, 2, 3], dtype=np.int8),
        np.array([1.0, 2.0, 3.0], dtype=object),
        pd.Series([1, 2, 3], dtype="Int64", index=[5, 4, 3]),
        pl.Series([1, 2, 3]),
    ],
    ids=["list", "small integers", "objects", "pandas", "polars"],
)
def test_numbers_of_any_container_become_floats(y):
    found = check_outcomes("caller", y)
    assert found.dtype == np.float64
    assert_array_equal(found, [1.0, 2.0, 3.0])


def test_what_is_not_finite_is_counted_or_left_to_the_caller():
    y = [1.0, np.nan, -np.inf]
    with pytest.raises(
        ValueError, match=r"caller: Input y contains NaN: 2 outcomes .* rows \[1, 2\]"
    ):
        check_outcomes("caller", y)
    with pytest.raises(ValueError, match="contains inf: 1 outcomes"):
        check_outcomes("caller", y[::2])
    assert_array_equal(check_outcomes("caller", y, allow_nonfinite=True), y)


@pytest.mark.parametrize(
    ("y", "message"),
    [
        (None, "caller requires y to be passed, but the target y is None"),
        (["a", "b"], "type <U1 and is not numeric"),
        (pd.date_range("2020", periods=2), "type datetime64.* and is not numeric; .* days since"),
        ([[1.0, 2.0]], "1d array"),
    ],
)
def test_what_is_no_outcome_is_refused(y, message):
    with pytest.raises(ValueError, match=message):
        check_outcomes("caller", y)

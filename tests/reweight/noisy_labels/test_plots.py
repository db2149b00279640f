"""Points, axes and refusals of the picture of suspicious outcomes."""

import numpy as np
import pytest
from matplotlib import pyplot as plt
from numpy.testing import assert_allclose

from reweight import response_error_plot

PREDICTED, RECORDED = np.array([1.0, 2.0, 3.0, 4.0]), np.array([1.5, 9.0, 2.0, 4.0])
FLAGGED = np.array([False, True, False, False])


def test_points_are_the_rows_and_flags_their_colour():
    _, ax = plt.subplots()
    assert response_error_plot(PREDICTED, RECORDED, FLAGGED, ax) is ax
    plain, flagged = (points.get_offsets() for points in ax.collections)
    assert_allclose(plain, np.column_stack([PREDICTED, RECORDED])[~FLAGGED])
    assert_allclose(flagged, [[2.0, 9.0]])
    assert ax.get_ylabel() == "Recorded"


def test_a_scale_turns_outcomes_into_standardised_residuals():
    ax = response_error_plot(PREDICTED, RECORDED, FLAGGED, scale=np.array([0.5, 2.0, 1.0, 1.0]))
    assert_allclose(ax.collections[1].get_offsets(), [[2.0, 3.5]])


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        ((PREDICTED[:2], RECORDED, FLAGGED), {}, "predictions has 2 rows"),
        ((PREDICTED, RECORDED, FLAGGED.astype(int)), {}, "one boolean a row"),
        ((PREDICTED, RECORDED * np.nan, FLAGGED), {}, "y must be finite"),
        ((PREDICTED, RECORDED, FLAGGED), {"scale": np.zeros(4)}, "the smallest 0"),
    ],
)
def test_bad_input_is_named(arguments, options, message):
    with pytest.raises(ValueError, match=message):
        response_error_plot(*arguments, **options)

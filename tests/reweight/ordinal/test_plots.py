"""Pictures of ordinal regressions show the numbers that they are given."""

import numpy as np
import pytest
from matplotlib import pyplot as plt
from numpy.testing import assert_allclose

from reweight import boundary_coefficient_plot, validation_path_plot


@pytest.fixture(autouse=True)
def _close():
    yield
    plt.close("all")


def test_slopes_stand_at_their_feature():
    coef = np.array([[1.0, -0.5, 0.0], [1.0, 0.5, 0.2]])
    ax = boundary_coefficient_plot(coef, categories=["a", "b", "c"], feature_names=["x", "y", "z"])
    marks = [line for line in ax.lines if line.get_marker() == "o"]
    assert_allclose([line.get_xdata() for line in marks], coef)
    assert [text.get_text() for text in ax.get_yticklabels()] == ["x", "y", "z"]
    assert [line.get_label() for line in marks] == ["above a", "above b"]


def test_losses_stand_at_their_strength():
    fig, ax = plt.subplots()
    found = validation_path_plot([1.0, 0.1], [0.5, 0.4], [0.1, 0.1], ax, chosen=0.1)
    assert found is ax
    assert_allclose(ax.lines[0].get_xydata(), [[1.0, 0.5], [0.1, 0.4]])
    assert ax.lines[1].get_xdata()[0] == 0.1
    assert len(fig.axes) == 1


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: boundary_coefficient_plot([1.0, 2.0]), "coef must be finite"),
        (lambda: boundary_coefficient_plot(np.zeros((2, 41))), "at most 40"),
        (lambda: boundary_coefficient_plot([[np.nan]]), "coef must be finite"),
        (lambda: boundary_coefficient_plot([[1.0]], categories=["a"]), "categories has 1 names"),
        (lambda: validation_path_plot([1.0], [1.0, 2.0]), "mean_loss must be one finite number"),
        (lambda: validation_path_plot([0.0], [1.0]), "alphas must be positive"),
    ],
)
def test_what_cannot_be_drawn_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()

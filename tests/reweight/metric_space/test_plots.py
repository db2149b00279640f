"""Facts about the pictures of weighting vectors and magnitudes."""

import numpy as np
import pytest
from matplotlib import pyplot as plt
from numpy.testing import assert_allclose, assert_array_equal

from reweight import magnitude_plot, weighting_vector_plot


@pytest.fixture(autouse=True)
def close_figures():
    yield
    plt.close("all")


def test_rows_are_drawn_with_their_weights_and_marks(rng):
    X, w = rng.normal(size=(30, 2)), rng.uniform(size=30)
    ax = weighting_vector_plot(X, w, marked=w > 0.8)
    dots, rings = ax.collections[:2]
    order = np.argsort(w)
    assert_array_equal(dots.get_offsets(), X[order])
    assert_array_equal(dots.get_array(), w[order])
    assert_array_equal(rings.get_offsets(), X[w > 0.8])
    assert weighting_vector_plot(X, w, ax) is ax


def test_magnitudes_are_drawn_in_order_of_scale():
    ax = magnitude_plot([10.0, 1.0, 0.1], [3.0, 2.0, 1.1], n_points=4, label="a")
    assert_allclose(ax.lines[0].get_xydata(), [[0.1, 1.1], [1.0, 2.0], [10.0, 3.0]])
    assert_allclose(ax.lines[1].get_ydata(), 4)
    magnitude_plot([1.0, 2.0], [1.0, 1.5], ax, label="b")
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["a", "b"]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: weighting_vector_plot(np.eye(3), np.ones(3)), "pass two columns"),
        (lambda: weighting_vector_plot(np.eye(2), np.ones(3)), "one per row"),
        (lambda: weighting_vector_plot(np.eye(2), [1.0, np.nan]), "2 finite numbers"),
        (lambda: weighting_vector_plot(np.eye(2), np.ones(2), marked=[1, 0]), "2 booleans"),
        (lambda: magnitude_plot([1.0, 0.0], [1.0, 1.0]), "scales must be positive"),
        (lambda: magnitude_plot([1.0, 2.0], [1.0]), "magnitudes must be positive"),
    ],
)
def test_bad_input_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()

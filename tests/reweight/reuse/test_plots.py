"""What the pictures of posteriors show, and what they refuse."""

import numpy as np
import pytest
from matplotlib import pyplot as plt
from numpy.testing import assert_allclose

from reweight import (
    class_probability_plot,
    coefficient_posterior_plot,
    threshold_posterior_plot,
)


@pytest.fixture(autouse=True)
def close_figures():
    yield
    plt.close("all")


def test_densities_of_thresholds_have_area_one_and_their_place(rng):
    draws = rng.normal([0.9, 0.75], [0.01, 0.02], (2000, 2))
    residual = np.r_[rng.normal(0.84, 0.1, 50), np.nan]
    ax = threshold_posterior_plot(
        draws, prior_mean=[0.9, 0.75], prior_sd=[0.03, 0.05], residual=residual
    )
    lines = {line.get_label(): line.get_xydata() for line in ax.get_lines()}
    for label, mean in (("threshold 1", 0.9), ("threshold 2", 0.75), ("prior", 0.75)):
        x, density = lines[label].T
        assert_allclose(np.trapezoid(density, x), 1, atol=0.02)
        assert_allclose(x[density.argmax()], mean, atol=0.01)


def test_thresholds_that_do_not_vary_are_a_spike():
    ax = threshold_posterior_plot(np.tile([0.9, 0.75], (10, 1)))
    assert all(np.isfinite(line.get_ydata()).all() for line in ax.get_lines())


def test_coefficients_show_means_and_intervals(rng):
    draws = rng.normal(size=(500, 2, 3)) + [1.0, 0.0, -1.0]
    ax = coefficient_posterior_plot(draws, scale=[2.0, 1.0, 1.0], class_names=["a", "b"])
    points = [line for line in ax.get_lines() if line.get_marker() == "o"]
    for k, line in enumerate(points):
        assert_allclose(line.get_xdata(), draws[:, k].mean(axis=0) * [2.0, 1.0, 1.0])
    assert "per standard deviation" in ax.get_xlabel()
    thin = ax.collections[0].get_segments()
    ends = np.quantile(2.0 * draws[:, 0, 0], [0.025, 0.975])
    assert_allclose([thin[0][0][0], thin[0][1][0]], ends)


def test_probabilities_are_drawn_in_order_of_the_feature():
    P, interval = np.array([[0.2, 0.8], [0.6, 0.4]]), np.zeros((2, 2, 2))
    own = plt.subplots()[1]
    ax = class_probability_plot([2.0, 1.0], P, interval, own, feature_name="Depth")
    assert ax is own
    assert_allclose(ax.get_lines()[0].get_xydata(), [[1.0, 0.6], [2.0, 0.2]])
    assert ax.get_xlabel() == "Depth"
    assert "95% interval" in ax.get_ylabel()


@pytest.mark.parametrize(
    ("draw", "message"),
    [
        (lambda: threshold_posterior_plot([0.9, 0.75]), "2 axes"),
        (lambda: threshold_posterior_plot([[np.nan]]), "finite"),
        (lambda: threshold_posterior_plot([[0.9]], prior_mean=[0.9]), "1 numbers each"),
        (lambda: coefficient_posterior_plot(np.ones((2, 1, 3)), feature_names=["a"]), "1 names"),
        (lambda: coefficient_posterior_plot(np.ones((2, 1, 3)), scale=[1.0]), "3 features"),
        (lambda: coefficient_posterior_plot(np.ones((2, 1, 3)), confidence_level=2), "between"),
        (lambda: class_probability_plot([0.0], [[0.5, 0.5]] * 2), "2 rows"),
        (lambda: class_probability_plot([0.0], [[0.5, 0.5]], [[[0, 1]]]), "is needed"),
    ],
)
def test_bad_input_is_named(draw, message):
    with pytest.raises(ValueError, match=message):
        draw()

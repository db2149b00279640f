"""Facts about the picture of a weight function."""

import numpy as np
import pytest
from matplotlib import pyplot as plt
from numpy.testing import assert_allclose

from shift import (
    ReTaSA,
    class_pair_plot,
    label_prior_plot,
    make_target_shift,
    weight_function_plot,
)


@pytest.fixture(autouse=True)
def close_figures():
    yield
    plt.close("all")


def test_curve_and_band_are_those_given_in_order_of_the_outcome(rng):
    y, weights = rng.normal(size=30), rng.exponential(size=30)
    interval = np.column_stack([0.5 * weights, 2 * weights])
    ax = weight_function_plot(y, weights, interval, confidence_level=0.9)
    order = np.argsort(y)
    assert_allclose(ax.lines[0].get_xydata(), np.column_stack([y, weights])[order])
    band = ax.collections[0].get_paths()[0].vertices
    assert_allclose(band[:, 1].max(), interval.max())
    assert ax.get_ylim()[1] > interval.max()
    labels = [text.get_text() for text in ax.get_legend().get_texts()]
    assert labels == ["90% interval", "weight", "equal weights"]


def test_densities_stand_behind_on_one_scale():
    data = make_target_shift(300, random_state=0)
    weighter = ReTaSA().fit(data.X, data.y, X_target=data.X_target)
    grid = weighter.grid_
    source, target = weighter.source_density(grid), weighter.target_density(grid)
    figure, given = plt.subplots()
    ax = weight_function_plot(
        grid, weighter.grid_weights_, ax=given, source_density=source, target_density=target
    )
    assert ax is given
    behind = figure.axes[1]
    assert_allclose([line.get_ydata() for line in behind.lines], [source, target])
    assert behind.get_ylim()[1] > max(source.max(), target.max())
    assert behind.get_zorder() < ax.get_zorder()
    labels = [text.get_text() for text in ax.get_legend().get_texts()]
    assert {"source density", "target density"} <= set(labels)
    figure.canvas.draw()


def test_numbers_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="y must be at least two finite numbers"):
        weight_function_plot([1.0], [1.0])
    with pytest.raises(ValueError, match=r"weights must be 2 finite numbers.*shape \(3,\)"):
        weight_function_plot([1.0, 2.0], [1.0, 2.0, 3.0])
    with pytest.raises(ValueError, match="interval must be two finite numbers for each of 2"):
        weight_function_plot([1.0, 2.0], [1.0, 2.0], [1.0, 2.0])
    with pytest.raises(ValueError, match="source_density has a negative value"):
        weight_function_plot([1.0, 2.0], [1.0, 2.0], source_density=[-1.0, 1.0])


def test_bars_and_intervals_are_the_priors_given():
    interval = np.array([[0.1, 0.3], [0.7, 0.9]])
    given = plt.subplots()[1]
    ax = label_prior_plot([0.5, 0.5], [0.2, 0.8], interval, given, classes=["a", "b"])
    assert ax is given
    heights = [[bar.get_height() for bar in bars] for bars in ax.containers]
    assert_allclose(heights, [[0.5, 0.5], [0.2, 0.8]])
    segments = ax.collections[0].get_segments()
    assert_allclose([segment[:, 1] for segment in segments], interval)
    middles = [bar.get_x() + bar.get_width() / 2 for bar in ax.containers[1]]
    assert_allclose([segment[0, 0] for segment in segments], middles)
    assert [text.get_text() for text in ax.get_xticklabels()] == ["a", "b"]


def test_pairs_of_classes_stand_where_they_belong():
    matrix = np.array([[0.5, 0.1, 0.0], [0.2, 3.0, 0.4], [0.0, 0.0, 1.0]])
    ax = class_pair_plot(matrix, row_label="receiver", digits=1)
    assert_allclose(ax.images[0].get_array(), matrix)
    for text in ax.texts:
        column, row = text.get_position()
        assert text.get_text() == f"{matrix[row, column]:.1f}"
    assert ax.get_ylabel() == "receiver"


def test_pictures_of_pairs_can_share_a_scale():
    small, large = (
        class_pair_plot(factor * np.array([[0.0, 1.0], [2.0, 3.0]]), limits=(0, 30))
        for factor in (1, 10)
    )
    assert small.images[0].get_clim() == large.images[0].get_clim() == (0, 30)
    # Figures are white where the colour is dark, on the common scale.
    assert [text.get_color() for text in small.texts] == ["black"] * 4
    assert [text.get_color() for text in large.texts] == ["black"] * 2 + ["white"] * 2
    with pytest.raises(ValueError, match=r"limits=\(3, 3\) must be a lower and a higher"):
        class_pair_plot(np.eye(2), limits=(3, 3))


def test_priors_and_matrices_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="target_prior must be 2 non-negative numbers"):
        label_prior_plot([0.5, 0.5], [0.2, 0.3, 0.5])
    with pytest.raises(ValueError, match="source_prior must be 2 non-negative numbers"):
        label_prior_plot([0.5, -0.5], [0.2, 0.8])
    with pytest.raises(ValueError, match="interval must be two finite numbers for each of 2"):
        label_prior_plot([0.5, 0.5], [0.2, 0.8], [0.1, 0.2])
    with pytest.raises(ValueError, match="classes has 1 names but there are 2 classes"):
        label_prior_plot([0.5, 0.5], [0.2, 0.8], classes=["a"])
    with pytest.raises(ValueError, match=r"matrix must be square and finite, got shape \(2, 3\)"):
        class_pair_plot(np.ones((2, 3)))

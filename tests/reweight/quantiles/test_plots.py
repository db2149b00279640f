"""Facts that the pictures of quantile forecasts show."""

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib import pyplot as plt
from numpy.testing import assert_allclose
from scipy.stats import binom

from reweight import model_weights_plot, quantile_fan_plot, quantile_reliability_plot

mpl.use("Agg")
LEVELS = np.array([0.05, 0.25, 0.5, 0.75, 0.95])


@pytest.fixture(autouse=True)
def close():
    yield
    plt.close("all")


def texts(ax):
    return [text.get_text() for text in ax.get_legend().get_texts()]


def test_a_fan_has_a_band_for_each_interval_in_the_order_of_x(rng):
    x = rng.permutation(20.0 * np.arange(20))
    q = x[:, None] + np.array([-2, -1, 0, 1, 2])
    ax = quantile_fan_plot(x, q, LEVELS, x)
    assert texts(ax) == ["90% interval", "50% interval", "median", "outcomes"]
    assert_allclose(ax.lines[0].get_xdata(), np.sort(x))
    assert_allclose(ax.lines[0].get_ydata(), np.sort(x))
    corners = ax.collections[0].get_paths()[0].vertices
    assert corners[:, 1].min() == x.min() - 2
    assert corners[:, 1].max() == x.max() + 2
    assert len(quantile_fan_plot(x, q, LEVELS, max_bands=1).collections) == 1


def test_reliability_is_the_share_below_minus_the_level(rng):
    y = rng.normal(size=200)
    q = np.tile([-1.0, 0.0, 1.0], (200, 1))
    s = rng.uniform(size=200)
    ax = quantile_reliability_plot(
        y, {"a": q, "b": q + 1}, [0.1, 0.5, 0.9], sample_weight=s, ax=plt.figure().add_subplot()
    )
    shares = [np.average(y <= cut, weights=s) for cut in (-1, 0, 1)]
    assert_allclose(ax.lines[1].get_ydata(), np.subtract(shares, [0.1, 0.5, 0.9]), atol=1e-12)
    assert texts(ax) == ["chance", "a", "b"]


def test_a_calibrated_forecast_stays_in_the_band():
    ax = quantile_reliability_plot(np.arange(400.0), np.zeros((400, 1)), [0.5])
    top = ax.collections[0].get_paths()[0].vertices[:, 1].max()
    inside = binom.cdf(400 * (0.5 + top), 400, 0.5) - binom.cdf(400 * (0.5 - top) - 1, 400, 0.5)
    assert_allclose(inside, 0.95, atol=0.01)


@pytest.mark.parametrize("shape", [(2,), (2, 5), (2, 5, 5)])
def test_weights_are_stacked_up_to_one(rng, shape):
    weights = rng.uniform(size=shape)
    weights /= weights.sum(axis=(0, 1) if len(shape) == 3 else 0)
    ax = model_weights_plot(weights, LEVELS, ["a", "b"])
    bottom, top = ax.patches
    assert_allclose(
        bottom.get_data().values,
        np.broadcast_to(weights.sum(axis=1)[0] if len(shape) == 3 else weights[0], 5),
    )
    assert_allclose(top.get_data().values, 1)
    assert texts(ax) == ["b", "a"]


def test_negative_weights_are_lines_and_many_models_keep_apart():
    ax = model_weights_plot([[1.5], [-0.5]], [0.5])
    assert_allclose([line.get_ydata()[0] for line in ax.lines[:2]], [1.5, -0.5])
    many = model_weights_plot(np.full(14, 1 / 14), [0.5])
    assert len({patch.get_facecolor() for patch in many.patches}) == 14


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: quantile_fan_plot([0, 1], [[0, 1]] * 3, [0.1, 0.9]), r"q_pred must .*\(2, 2\)"),
        (lambda: quantile_fan_plot([0], [[0, 1]], [0.1, 0.8]), "no two quantiles add up"),
        (lambda: quantile_fan_plot([0], [[0, np.inf]], [0.1, 0.9]), "1 that are not"),
        (lambda: quantile_fan_plot([0], [[0, 1]], [0.1, 0.9], max_bands=0), "max_bands"),
        (lambda: quantile_reliability_plot([0], {}, [0.5]), "0 forecasts"),
        (lambda: quantile_reliability_plot([0], [[0]], [0.5], confidence_level=2), "between 0"),
        (lambda: model_weights_plot([[1, 0]], [0.5]), "model_weights must"),
        (lambda: model_weights_plot([1.0], [0.5], ["a", "b"]), "2 names for 1 models"),
    ],
)
def test_what_cannot_be_drawn_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()

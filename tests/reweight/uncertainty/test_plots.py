"""Curves, axes and refusals of the picture of uncertainty."""

import numpy as np
import pytest
from numpy.testing import assert_allclose

from reweight import uncertainty_plot, uncertainty_report


@pytest.fixture(name="forecast")
def overconfident(rng):
    std = rng.uniform(1, 3, size=1000)
    return 2 * std * rng.normal(size=1000), np.zeros(1000), std


def test_bins_are_those_of_the_report(forecast):
    y, mean, std = forecast
    curve = uncertainty_plot(y, mean, std, n_bins=5).lines[1]
    stated, made = curve.get_data()
    assert len(stated) == 5
    assert_allclose(
        np.mean(np.abs(made - stated) / stated), uncertainty_report(y, mean, std, n_bins=5)["ence"]
    )


def test_coverage_climbs_from_zero_to_one(forecast):
    y, mean, std = forecast
    level, inside = uncertainty_plot(y, mean, std, kind="coverage").lines[1].get_data()
    report = uncertainty_report(y, mean, std)
    assert inside[0] == 0
    assert_allclose(inside[-1], 1)
    assert_allclose(np.interp(0.6827, level, inside), report["coverage_1std"], atol=0.01)


def test_forecasts_share_axes(forecast):
    y, mean, std = forecast
    ax = uncertainty_plot(y, mean, std, label="stated")
    assert uncertainty_plot(y, mean, 2 * std, ax, label="doubled") is ax
    assert [t.get_text() for t in ax.get_legend().get_texts()] == [
        "error as stated",
        "stated",
        "doubled",
    ]
    assert ax.lines[1].get_color() != ax.lines[2].get_color()
    assert ax.get_xlim()[1] >= max(line.get_xdata().max() for line in ax.lines[1:])


def test_bad_input_is_named(forecast):
    y, mean, std = forecast
    with pytest.raises(ValueError, match="uncertainty_plot: std has 1000 entries"):
        uncertainty_plot(y, mean, -std)
    with pytest.raises(ValueError, match="kind must be one of"):
        uncertainty_plot(y, mean, std, kind="histogram")

"""What the pictures show, read back from the Axes."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_rgba
from numpy.testing import assert_allclose

from reweight import (
    balance_table,
    love_plot,
    mirrored_propensity_histogram,
    weight_histogram,
)
from reweight.exceptions import WeightWarning


@pytest.fixture(autouse=True)
def close_figures():
    yield
    plt.close("all")


@pytest.fixture(name="study")
def small_study(rng):
    X = pd.DataFrame(rng.standard_normal((120, 4)), columns=["age", "dose", "weight", "height"])
    propensity = 1 / (1 + np.exp(-X["age"].to_numpy()))
    treatment = (rng.random(120) < propensity).astype(int)
    weights = np.where(treatment, 1 / propensity, 1 / (1 - propensity))
    return X, treatment, weights, propensity


def entries(ax):
    return [text.get_text() for text in ax.get_legend().get_texts()]


def marks(ax):
    """Positions of each series of marks, by its name."""
    return {c.get_label(): c.get_offsets().data for c in ax.collections if c.get_offsets().size > 2}


def overlaps_axes(ax):
    """Whether the legend covers part of the data or of the axis labels."""
    ax.figure.canvas.draw()
    legend = ax.get_legend().get_window_extent()
    others = [ax.get_window_extent(), ax.xaxis.label.get_window_extent()]
    return any(legend.overlaps(box) for box in others)


def inside_figure(ax):
    ax.figure.canvas.draw()
    box, figure = ax.get_tightbbox(), ax.figure.bbox
    return box.x0 >= 0 and box.y0 >= 0 and box.x1 <= figure.x1 and box.y1 <= figure.y1


def test_love_plot_shows_the_table_sorted(study):
    X, treatment, weights, _ = study
    table = balance_table(X, treatment, weights)
    ax = love_plot(table, threshold=0.2)
    ordered = table.abs().sort_values("smd_before")
    names = [label.get_text() for label in ax.get_yticklabels()]
    assert names == ordered.index.tolist()
    assert_allclose(marks(ax)["before"], np.c_[ordered["smd_before"], range(4)])
    assert_allclose(marks(ax)["after"], np.c_[ordered["smd_after"], range(4)])
    assert entries(ax) == ["before", "after", "threshold 0.2"]
    assert not overlaps_axes(ax)
    assert inside_figure(ax)


def test_love_plot_without_weights_shows_one_series(study):
    X, treatment, _, _ = study
    ax = love_plot(balance_table(X, treatment), threshold=None)
    assert entries(ax) == ["before"]


def test_love_plot_draws_on_given_axes(study):
    X, treatment, weights, _ = study
    _, ax = plt.subplots()
    assert love_plot(balance_table(X, treatment, weights), ax=ax) is ax


def test_love_plot_shortens_long_names_but_keeps_them_apart(study):
    X, treatment, weights, _ = study
    long = [f"household income {when} taxes in the year before enrolment" for when in "ab"]
    X = X.rename(columns={"age": long[0] + " (first)", "dose": long[1] + " (second)"})
    ax = love_plot(balance_table(X, treatment, weights))
    names = [label.get_text() for label in ax.get_yticklabels()]
    assert max(map(len, names)) <= 38
    assert len(set(names)) == 4
    assert inside_figure(ax)


def test_love_plot_of_many_covariates_says_how_many_it_shows(study):
    X, treatment, weights, _ = study
    table = balance_table(X, treatment, weights, interactions=True, squares=True)
    ax = love_plot(table, max_features=6)
    assert ax.get_ylabel() == "6 of 14 covariates, those with the largest values"
    largest = table[["smd_before", "smd_after"]].abs().max(axis=1).nlargest(6).index
    assert {label.get_text() for label in ax.get_yticklabels()} == set(largest)


def test_love_plot_marks_infinite_differences(study):
    X, treatment, weights, _ = study
    X = X.assign(always=np.where(treatment == 1, 1.0, X["age"] > 0))
    with pytest.warns(WeightWarning):
        table = balance_table(X, treatment, weights, estimand="ATT")
    ax = love_plot(table)
    assert [text.get_text() for text in ax.texts] == ["∞"]
    assert marks(ax)["before"][-1, 0] == ax.get_xlim()[1]
    assert np.isfinite(ax.get_xlim()).all()


def stairs(ax):
    """Outlines of the histograms, by label."""
    return {p.get_label(): p.get_data() for p in ax.patches if hasattr(p, "get_data")}


def test_weight_histogram_has_unit_mass_and_mean_one(study):
    _, treatment, weights, _ = study
    arms = np.where(treatment == 1, "treated", "control")
    ax = weight_histogram(50 * weights, arms, bins=400)
    outlines = {k: v for k, v in stairs(ax).items() if "ESS" in str(k)}
    assert len(outlines) == 2
    for label, (values, edges, _) in outlines.items():
        n = (arms == label.split(":")[0]).sum()
        assert f"n = {n}," in label
        assert_allclose(values.sum(), 1.0)
        # The mean of the bins is that of the weights up to half a bin.
        middle = (edges[1:] + edges[:-1]) / 2
        assert_allclose(values @ middle, 1.0, atol=np.diff(edges)[0])
    assert entries(ax)[-1] == "equal weights"
    assert not overlaps_axes(ax)
    assert inside_figure(ax)


def test_weight_histogram_draws_equal_weights_as_a_line(study):
    _, treatment, weights, _ = study
    ax = weight_histogram(np.where(treatment == 1, 2.0, weights), treatment)
    assert entries(ax)[1] == f"1: n = {treatment.sum()}, all equal"
    assert sum("ESS" in str(label) for label in stairs(ax)) == 1


def test_weight_histogram_counts_zeros_that_a_log_axis_cannot_show(rng):
    w = rng.lognormal(size=100)
    w[:7] = 0
    ax = weight_histogram(w, log_scale=True)
    assert ax.get_xscale() == "log"
    (label,) = [entry for entry in entries(ax) if "ESS" in entry]
    assert label.endswith(", 7 of weight 0")
    assert_allclose(stairs(ax)[label][0].sum(), 0.93)


def test_weight_histogram_refuses_what_it_cannot_tell_apart():
    with pytest.raises(ValueError, match="groups has 9 different values; pass at most 6"):
        weight_histogram(np.ones(9), np.arange(9))


def test_groups_have_colours_that_differ(rng):
    ax = weight_histogram(rng.random(60), np.arange(60) % 6)
    colors = {to_rgba(p.get_edgecolor()) for p in ax.patches if "ESS" in str(p.get_label())}
    assert len(colors) == 6


def test_mirrored_histogram_puts_the_arms_on_two_sides(study):
    _, treatment, weights, propensity = study
    ax = mirrored_propensity_histogram(propensity, treatment, weights, bins=10)
    shapes = stairs(ax)
    up, down = shapes["treated (1), weighted"][0], shapes["control (0), weighted"][0]
    edges = np.linspace(0, 1, 11)
    for arm, drawn in ((1, up), (0, -down)):
        own = treatment == arm
        counts = np.histogram(propensity[own], edges, weights=weights[own])[0]
        assert_allclose(drawn, counts / weights[own].sum())
    assert_allclose(shapes["unweighted"][0].sum(), 1.0)
    assert entries(ax) == ["control (0), weighted", "treated (1), weighted", "unweighted"]
    assert not overlaps_axes(ax)
    assert inside_figure(ax)
    assert "−" not in "".join(label.get_text() for label in ax.get_yticklabels())


def test_mirrored_histogram_without_weights(study):
    _, treatment, _, propensity = study
    ax = mirrored_propensity_histogram(propensity, np.where(treatment, "new", "control"))
    assert entries(ax) == ["control (control)", "treated (new)"]


def test_bad_input_of_pictures_is_named(study):
    X, treatment, weights, propensity = study
    with pytest.raises(ValueError, match=r"lacks the columns \['smd_after', 'smd_before'\]"):
        love_plot(X)
    with pytest.raises(ValueError, match="threshold must be non-negative"):
        love_plot(balance_table(X, treatment), threshold=-1)
    with pytest.raises(ValueError, match="no rows"):
        love_plot(balance_table(X, treatment).iloc[:0])
    with pytest.raises(ValueError, match=r"predict_proba\(X\)\[:, 1\]"):
        mirrored_propensity_histogram(np.c_[propensity, propensity], treatment)
    with pytest.raises(ValueError, match=r"1 entries outside \[0, 1\], the first 1.5"):
        mirrored_propensity_histogram(np.r_[1.5, propensity[1:]], treatment)
    with pytest.raises(ValueError, match="weights has 5 entries but there are 120 rows"):
        mirrored_propensity_histogram(propensity, treatment, weights[:5])

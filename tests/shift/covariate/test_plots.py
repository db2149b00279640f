"""Facts about the pictures of a covariate shift."""

import numpy as np
import pytest
from matplotlib import pyplot as plt
from numpy.testing import assert_allclose

from shift import domain_score_histogram, source_weight_plot


@pytest.fixture(autouse=True)
def close_figures():
    yield
    plt.close("all")


def test_histograms_hold_shares_and_weighted_shares(rng):
    source, target = rng.normal(size=50), rng.normal(1.0, 1.0, size=(30, 1))
    weights = rng.uniform(size=50)
    ax = domain_score_histogram(source, target, weights, bins=10)
    steps = [patch.get_data() for patch in ax.patches]
    assert len(steps) == 3
    for step in steps:
        assert_allclose(step.values.sum(), 1)
    expected = np.histogram(source, steps[2].edges, weights=weights)[0] / weights.sum()
    assert_allclose(steps[2].values, expected)
    assert ax.get_ylabel() == "Share of the sample"


def test_without_weights_there_is_no_weighted_source(rng):
    ax = domain_score_histogram(rng.normal(size=5), rng.normal(size=5))
    assert len(ax.patches) == 2


def test_weights_are_drawn_with_mean_one(rng):
    scores = rng.normal(size=20)
    ax = source_weight_plot(scores, 7 * rng.uniform(size=20), target_scores=rng.normal(size=9))
    points = ax.collections[0].get_offsets()
    assert_allclose(points[:, 0], scores)
    assert_allclose(points[:, 1].mean(), 1)
    low, high = ax.get_ylim()
    assert low < 0 < points[:, 1].max() < high


def test_given_axes_are_drawn_on(rng):
    _, ax = plt.subplots()
    assert domain_score_histogram([0.0, 1.0], [2.0], ax=ax) is ax
    assert source_weight_plot([0.0, 1.0], [1.0, 1.0], ax=ax) is ax


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: domain_score_histogram([[0.0, 1.0]], [1.0]), r"source_scores .* shape \(1, 2\)"),
        (lambda: domain_score_histogram([0.0], [np.nan]), "target_scores must be one finite"),
        (lambda: domain_score_histogram([0.0], [1.0], [1.0, 1.0]), "weights has 2 entries"),
        (lambda: source_weight_plot([0.0, 1.0], [0.0, 0.0]), "sum to zero"),
        (lambda: source_weight_plot([0.0, 1.0], [-1.0, 1.0]), "Negative values"),
    ],
)
def test_bad_input_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()

"""The overlap report: effective sizes, balance and the cut-off against their definitions."""

import numpy as np
import pytest
from numpy.testing import assert_allclose
from sklearn.metrics import roc_auc_score

from causal import PropensityWeighting, overlap_plot, overlap_report
from causal.effects.overlap import estimand_weights, variance_cutoff
from reweight import balance_table, effective_sample_size


@pytest.fixture
def arms(rng):
    X = rng.normal(size=(500, 2))
    e = 1 / (1 + np.exp(-1.5 * X[:, 0]))
    return X, e, (rng.random(500) < e).astype(int)


def definition(e, s, steps=200_001):
    """Smallest a of a grid with 1 / (a (1 - a)) <= twice the mean of 1 / (e (1 - e)) inside."""
    variance = e * (1 - e)
    order = np.argsort(-variance)
    means = np.cumsum((s / variance)[order]) / np.cumsum(s[order])
    grid = np.linspace(0, 0.5, steps)[1:]
    inside = np.searchsorted(-variance[order], -grid * (1 - grid), side="right")
    known = inside > 0
    good = 1 / (grid * (1 - grid))[known] <= 2 * means[inside[known] - 1]
    return grid[known][good][0]


@pytest.mark.parametrize("shape", [(0.3, 0.5), (0.5, 0.5), (1.0, 2.0)])
@pytest.mark.parametrize("weighted", [False, True])
def test_the_cutoff_is_the_smallest_that_its_definition_allows(rng, shape, weighted):
    e = rng.beta(*shape, size=300).clip(1e-4, 1 - 1e-4)
    s = rng.uniform(0.5, 2, size=300) if weighted else np.ones(300)
    assert_allclose(variance_cutoff(e, s), definition(e, s), atol=3e-6)


def test_good_overlap_is_not_cut(rng):
    e = rng.uniform(0.2, 0.8, size=200)
    # The largest variance, 1/0.16, is less than twice the mean.
    assert variance_cutoff(e, np.ones(200)) == 0.0
    report = overlap_report(e, rng.random(200) < e)
    assert report.share_inside == 1.0


def test_the_cutoff_minimises_the_variance_of_the_effect_inside(rng):
    e = rng.beta(0.4, 0.6, size=2000).clip(1e-4, 1 - 1e-4)
    cutoff = variance_cutoff(e, np.ones(2000))

    def variance(a):
        inside = (e >= a) & (e <= 1 - a)
        return (1 / (e * (1 - e)))[inside].sum() / inside.sum() ** 2

    grid = np.linspace(0.001, 0.4, 800)
    best = min(variance(a) for a in grid)
    assert variance(cutoff) <= best * 1.001


def test_sizes_and_balance_are_those_of_the_weights(arms):
    X, e, t = arms
    report = overlap_report(e, t, X)
    for estimand in ("ATE", "ATT", "ATC", "ATO"):
        w = estimand_weights(estimand, e, t)
        assert_allclose(report.ess.loc[estimand], effective_sample_size(w, t))
        table = balance_table(X, t, w)
        assert_allclose(report.balance[estimand], table["smd_after"])
    assert_allclose(report.ess.loc["none"], np.bincount(t))
    assert_allclose(report.balance["none"], table["smd_before"])
    assert_allclose(report.auc, roc_auc_score(t, e))
    # Weights from the true propensity balance what it depends on.
    assert report.balance.loc[report.balance.index[0], "ATO"] < report.balance["none"].iloc[0] / 5


def test_weights_of_estimands_are_those_of_a_propensity_weighter(arms):
    X, _, t = arms
    for estimand in ("ATE", "ATT", "ATC", "ATO"):
        weighter = PropensityWeighting(estimand=estimand).fit(X, t)
        w = estimand_weights(estimand, weighter.propensity_, t)
        for arm in (0, 1):
            own = w[t == arm]
            assert_allclose(weighter.weights_[t == arm], own / own.mean(), rtol=1e-8)


def test_distribution_by_arm(arms):
    _, e, t = arms
    report = overlap_report(e, np.array(["no", "yes"])[t])
    row = report.distribution.loc["yes"]
    own = e[t == 1]
    assert row["n_rows"] == len(own)
    assert (row["min"], row["max"]) == (own.min(), own.max())
    assert_allclose(row["outside [0.1, 0.9]"], np.mean((own < 0.1) | (own > 0.9)))
    text = repr(report)
    assert "AUC" in text
    assert "Effective sample size" in text


def test_rows_of_weight_k_count_as_k_rows(arms, rng):
    X, e, t = arms
    s = rng.integers(0, 4, size=len(e))
    index = np.repeat(np.arange(len(e)), s)
    weighted = overlap_report(e, t, X, sample_weight=s)
    longer = overlap_report(e[index], t[index], X[index])
    assert_allclose(weighted.cutoff, longer.cutoff)
    assert_allclose(weighted.auc, longer.auc)
    assert_allclose(weighted.share_inside, longer.share_inside)
    assert_allclose(weighted.balance, longer.balance, rtol=0.02, atol=1e-3)
    columns = ["min", "q05", "median", "q95", "max"]
    assert_allclose(weighted.distribution[columns], longer.distribution[columns])


def test_the_plot_shades_what_is_outside(arms):
    _, e, t = arms
    report = overlap_report(e, t)
    ax = report.plot()
    labels = [text.get_text() for text in ax.get_legend().get_texts()]
    assert labels[-1].startswith(f"outside [{report.cutoff:.3g}")
    plain = overlap_plot(e, t)
    assert len(plain.get_legend().get_texts()) == 2


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"propensity": [[0.1, 0.9]] * 4}, "predict_proba"),
        ({"propensity": [0.1, 1.2, 0.3, 0.4]}, r"1 entries outside \[0, 1\]"),
        ({"propensity": [0.1, 0.0, 0.3, 0.4]}, "1 rows have the arm that their propensity"),
        ({"treatment": [1, 1, 1, 1]}, "one class"),
        ({"treatment": [0, 1, 0]}, "inconsistent"),
        ({"sample_weight": [-1, 1, 1, 1]}, "Negative"),
    ],
)
def test_bad_input_is_refused_with_a_remedy(change, message):
    arguments = {"propensity": [0.1, 0.2, 0.3, 0.4], "treatment": [0, 1, 0, 1]} | change
    with pytest.raises(ValueError, match=message):
        overlap_report(**arguments)
    with pytest.raises(ValueError, match="cutoff"):
        overlap_plot([0.2, 0.3, 0.6, 0.8], [0, 0, 1, 1], cutoff=0.7)

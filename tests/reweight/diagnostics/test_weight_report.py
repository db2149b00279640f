"""What a report says of weights whose concentration is known."""

import numpy as np
import pytest
from numpy.testing import assert_allclose
from pandas.testing import assert_frame_equal

from reweight import effective_sample_size, weight_report
from reweight.diagnostics.weight_report import concentration


def test_equal_weights_cost_nothing():
    row = weight_report(np.full(50, 3.0)).summary.loc["all"]
    assert_allclose(row["ess"], 50)
    assert_allclose(row["ess_share"], 1)
    assert_allclose(row["max_share"], 0.02)
    assert_allclose(row["entropy"], np.log(50))
    assert_allclose(row["gini"], 0, atol=1e-14)
    assert row["zero_share"] == 0


def test_one_weight_costs_all_but_one_row():
    row = weight_report([0.0, 0.0, 2.0, 0.0]).summary.loc["all"]
    assert row["ess"] == 1
    assert row["max_share"] == 1
    assert row["zero_share"] == 0.75
    assert row["entropy"] == 0
    assert row["gini"] == 0.75


def test_measures_follow_their_definitions(rng):
    w = rng.exponential(size=200)
    share = w / w.sum()
    measures = concentration(w)
    assert_allclose(measures["ess"], effective_sample_size(w))
    assert_allclose(measures["entropy"], -(share * np.log(share)).sum())
    # Gini: half the mean absolute difference of pairs, over the mean.
    assert_allclose(measures["gini"], np.abs(w[:, None] - w).mean() / (2 * w.mean()), rtol=1e-12)


def test_scale_does_not_matter(rng):
    w, groups = rng.exponential(size=60), np.arange(60) % 3
    report, scaled = weight_report(w, groups), weight_report(w * 10.0**groups, groups)
    assert_frame_equal(report.summary, scaled.summary)
    assert_frame_equal(report.largest, scaled.largest)


def test_groups_are_reported_apart_and_rows_are_found(rng):
    w, groups = rng.exponential(size=60), np.where(np.arange(60) % 3 == 0, "b", "a")
    report = weight_report(w, groups, n_largest=4)
    assert report.summary.index.tolist() == ["a", "b"]
    assert_allclose(report.summary["ess"], effective_sample_size(w, groups))
    for name in "ab":
        own = report.largest[report.largest["group"] == name]
        rows = np.flatnonzero(groups == name)
        assert own["row"].tolist() == rows[np.argsort(-w[rows])][:4].tolist()
        assert_allclose(own["share"], w[own["row"]] / w[rows].sum())
        assert_allclose(own["weight"], w[own["row"]] / w[rows].mean())


def test_short_groups_list_all_their_rows():
    report = weight_report([1.0, 2.0, 3.0], n_largest=10)
    assert report.largest["row"].tolist() == [2, 1, 0]
    assert len(weight_report([1.0, 2.0], n_largest=0).largest) == 0


def test_report_prints_itself():
    text = repr(weight_report([1.0, 3.0], ["x", "y"]))
    assert "ess_share" in text
    assert "100.0%" in text
    assert "Largest weights" in text


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([1.0, -1.0],), "Negative values"),
        (([0.0, 0.0],), "sum to zero"),
        (([1.0, 0.0], ["a", "b"]), "in group 'b' sum to zero"),
        (([1.0, np.nan],), "NaN or infinite"),
        (([1.0, 2.0], ["a"]), "groups has shape"),
    ],
)
def test_bad_weights_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        weight_report(*arguments)


def test_bad_length_of_the_list_is_named():
    with pytest.raises(ValueError, match="n_largest must be a non-negative integer, got -1"):
        weight_report([1.0], n_largest=-1)

"""The ranked probability score: closed forms, propriety and what it refuses."""

import numpy as np
import pytest
from numpy.testing import assert_allclose
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import brier_score_loss, make_scorer
from sklearn.model_selection import cross_val_score

from reweight import ranked_probability_score


def test_it_is_the_sum_of_squared_errors_of_cumulative_probabilities(rng):
    P = rng.dirichlet(np.ones(4), size=30)
    y = rng.integers(0, 4, size=30)
    w = rng.uniform(size=30)
    total = 0.0
    for p, label, weight in zip(P, y, w, strict=True):
        for k in range(3):
            total += weight * (p[: k + 1].sum() - (label <= k)) ** 2
    assert_allclose(ranked_probability_score(y, P, sample_weight=w), total / w.sum(), rtol=1e-12)


def test_for_two_levels_it_is_the_squared_error_of_the_probability(rng):
    p = rng.uniform(size=50)
    y = rng.integers(0, 2, size=50)
    for proba in (p, np.column_stack([1 - p, p])):
        assert_allclose(ranked_probability_score(y, proba), brier_score_loss(y, p))


def test_mass_nearby_costs_less_than_mass_far_away():
    near = ranked_probability_score([2], [[0.0, 1.0, 0.0]], labels=[0, 1, 2])
    far = ranked_probability_score([2], [[1.0, 0.0, 0.0]], labels=[0, 1, 2])
    assert (near, far) == (1.0, 2.0)
    assert ranked_probability_score([2], [[0.0, 0.0, 1.0]], labels=[0, 1, 2]) == 0.0


def test_the_truth_has_the_least_expected_score(rng):
    truth = np.array([0.5, 0.3, 0.2])

    def expected(p):
        return ranked_probability_score([0, 1, 2], np.tile(p, (3, 1)), sample_weight=truth)

    best = expected(truth)
    assert all(expected(p) > best for p in rng.dirichlet(np.ones(3), size=50))


def test_labels_give_the_order():
    P = [[0.7, 0.2, 0.1]]
    low_first = ranked_probability_score(["low"], P, labels=["low", "mid", "high"])
    assert_allclose(low_first, 0.3**2 + 0.1**2)


def test_it_makes_a_scorer(rng):
    X = rng.normal(size=(90, 2))
    y = np.digitize(X[:, 0], [-0.5, 0.5])
    scorer = make_scorer(
        ranked_probability_score, greater_is_better=False, response_method="predict_proba"
    )
    scores = cross_val_score(LogisticRegression(), X, y, scoring=scorer, cv=3)
    assert (scores < 0).all()
    assert scores.mean() > -0.2


@pytest.mark.parametrize(
    ("y", "P", "labels", "message"),
    [
        ([0, 1], [[0.5, 0.5, 0.0]] * 2, None, "y_proba has shape"),
        ([0, 1], [[0.5, 0.6]] * 2, None, "sum to one"),
        ([0, 1], [[1.5, -0.5]] * 2, None, "non-negative"),
        ([0, 1], [[np.nan, 1.0]] * 2, None, "non-negative and sum to one"),
        ([0, 5], [[0.5, 0.5]] * 2, [0, 1], r"labels \['5'\] that are not among"),
        ([0, 1], [[0.5, 0.5]] * 2, [0, 0], "name each level once"),
        ([0, 1], [[0.5, 0.5]] * 3, None, "inconsistent numbers"),
    ],
)
def test_what_is_no_forecast_is_refused(y, P, labels, message):
    with pytest.raises(ValueError, match=message):
        ranked_probability_score(y, P, labels=labels)

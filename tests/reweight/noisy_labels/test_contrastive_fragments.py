"""ConFrag on tables: its oracles, its parts against brute force, and its refusals."""

from itertools import permutations

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy.spatial.distance import cdist
from sklearn.ensemble import ExtraTreesClassifier
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import KFold
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import Normalizer, StandardScaler

from reweight import ContrastiveFragmentSelector, Reweighted, error_residual_ratio
from reweight.noisy_labels._fragments import (
    cut_fragments,
    draw_window,
    match_fragments,
    mixing_weights,
    neighbor_votes,
    neighborly_agreement,
)


def noisy_table(n=600, share=0.4, seed=0):
    """The first feature is the outcome; a share of the labels is permuted."""
    rng = np.random.default_rng(seed)
    X = rng.uniform(size=(n, 5))
    truth = 10 * X[:, 0] + rng.normal(0, 0.5, size=n)
    wrong = rng.permutation(n)[: round(share * n)]
    y = truth.copy()
    y[wrong] = truth[rng.permutation(wrong)]
    return StandardScaler().fit_transform(X), y, truth, np.isin(np.arange(n), wrong)


def selector(**parameters):
    return ContrastiveFragmentSelector(LogisticRegression(), **{"n_jitters": 2, **parameters})


@pytest.mark.parametrize("n_fragments", [4, 6, 8, 16])
def test_equal_fragments_are_paired_half_the_range_apart(n_fragments):
    lower, upper, _ = cut_fragments(np.arange(10.0 * n_fragments), n_fragments)
    half = n_fragments // 2
    assert match_fragments(lower, upper) == [(f, f + half) for f in range(half)]


def test_pairs_maximise_the_smallest_gap(rng):
    for _ in range(30):
        ends = np.sort(rng.exponential(size=16).cumsum() ** 1.5).reshape(8, 2)
        pairs = match_fragments(ends[:, 0], ends[:, 1])
        assert sorted(np.ravel(pairs)) == list(range(8))
        best = max(
            min(ends[b, 0] - ends[a, 1] for a, b in map(sorted, zip(p[::2], p[1::2], strict=True)))
            for p in permutations(range(8))
            if all(p[k] < p[k + 1] for k in (0, 2, 4, 6))
        )
        assert min(ends[b, 0] - ends[a, 1] for a, b in pairs) == best


def test_fragments_hold_nearly_equal_numbers_of_labels():
    labels = np.arange(10.0)
    lower, upper, centers = cut_fragments(labels, 4)
    assert_array_equal(lower, [0, 3, 6, 8])
    assert_array_equal(upper, [2, 5, 7, 9])
    assert_array_equal(centers, [1, 4, 6.5, 8.5])


def test_windows_leave_out_a_share_at_the_ends():
    labels = np.arange(200.0)
    starts = set()
    for seed in range(200):
        window = draw_window(labels, 0.05, np.random.RandomState(seed))
        assert len(window) == 190
        assert_array_equal(np.diff(window), 1)
        starts.add(window[0])
    assert min(starts) == 0
    assert max(starts) == 10
    assert len(draw_window(labels, 0.0, np.random.RandomState(0))) == 200


def test_mixing_weights_are_the_nearness_of_the_label():
    centers = np.array([10.0, 40.0, 60.0, 90.0])
    y = np.array([10.0, 0.0, 50.0, 100.0])
    weights = mixing_weights(y, centers)
    assert_allclose(weights.sum(axis=1), 1, rtol=1e-12)
    # A label in the centre of a fragment: 100 / 0.1, and still no overflow.
    assert_allclose(weights[0], [1, 0, 0, 0], atol=1e-12)
    assert_allclose(weights[2, 1], weights[2, 2])
    raw = np.exp(100 / (np.abs(y[1] - centers) + 0.1))
    assert_allclose(weights[1], raw / raw.sum(), rtol=1e-10)


def test_agreement_needs_the_fragment_and_one_beside_it(rng):
    agreement = rng.uniform(size=(50, 6)) < 0.5
    mixing = rng.dirichlet(np.ones(6), size=50)
    expected = np.zeros(50)
    for i in range(50):
        for j in range(6):
            beside = [agreement[i, k] for k in (j - 1, j + 1) if 0 <= k < 6]
            expected[i] += mixing[i, j] * (agreement[i, j] and any(beside))
    assert_allclose(neighborly_agreement(agreement, mixing), expected, atol=1e-12)


def test_votes_are_those_of_the_nearest_rows_but_oneself(rng):
    Z = rng.normal(size=(80, 3))
    Z[40] = Z[41]
    rows = np.sort(rng.permutation(80)[:50])
    upper = rng.uniform(size=50) < 0.5
    D = cdist(Z, Z[rows])
    D[rows, np.arange(50)] = np.inf
    expected = upper[np.argsort(D, axis=1)[:, :3]].sum(axis=1)
    assert_array_equal(neighbor_votes(Z, rows, upper, 3), expected)


def test_clean_rows_are_told_from_permuted_ones():
    X, y, truth, wrong = noisy_table(2000)
    forest = ExtraTreesClassifier(30, min_samples_leaf=5, random_state=0)
    fitted = ContrastiveFragmentSelector(forest, n_jitters=2).fit(X, y)
    assert roc_auc_score(~wrong, fitted.selection_probability_) >= 0.70
    assert error_residual_ratio(y, truth, fitted.support_) <= 0.40
    assert error_residual_ratio(y, truth, sample_weight=fitted.weights_) <= 0.45
    assert fitted.pairs_ == [(0, 2), (1, 3)]
    assert_allclose(fitted.fragment_edges_, np.quantile(y, [0.25, 0.5, 0.75]), atol=0.05)


def test_labels_without_noise_are_kept():
    X, y, _, _ = noisy_table(1000, share=0.0)
    fitted = selector().fit(X, y)
    inner = (y > np.quantile(y, 0.05)) & (y < np.quantile(y, 0.95))
    assert fitted.support_[inner].mean() > 0.95
    assert_array_equal(fitted.support_, fitted.selection_probability_ >= 0.5)


def test_probability_is_that_of_a_union():
    X, y, *_ = noisy_table()
    fitted = selector(n_jitters=1).fit(X, y)
    p, q = fitted.p_pred_, fitted.p_knn_
    assert_allclose(fitted.selection_probability_, 1 - (1 - p) * (1 - q), rtol=1e-12)
    u = np.random.default_rng(0).uniform(size=(2, 20_000, len(y)))
    drawn = ((u[0] <= p) | (u[1] <= q)).mean(axis=0)
    assert_allclose(fitted.selection_probability_, drawn, atol=0.02)


def test_a_draw_takes_rows_with_their_probability():
    X, y, *_ = noisy_table()
    drawn = selector(selection="sample").fit(X, y)
    p = drawn.selection_probability_
    assert set(drawn.support_[p == 0]) <= {False}
    assert abs(drawn.support_.sum() - p.sum()) < 4 * np.sqrt((p * (1 - p)).sum())


def test_units_of_the_label_do_not_matter():
    X, y, *_ = noisy_table()
    fitted, moved = selector().fit(X, y), selector().fit(X, 1000 + 64 * y)
    assert_allclose(moved.selection_probability_, fitted.selection_probability_, atol=1e-9)
    assert_allclose(moved.fragment_edges_, 1000 + 64 * fitted.fragment_edges_)


def test_classifiers_judge_rows_that_they_have_not_learned_from():
    # A classifier that remembers its rows would confirm every label; features say nothing here.
    rng = np.random.default_rng(1)
    X, y = rng.normal(size=(400, 3)), rng.uniform(size=400)
    memory = ContrastiveFragmentSelector(KNeighborsClassifier(1), n_jitters=2).fit(X, y)
    code = np.searchsorted(memory.fragment_edges_, y, side="right")
    inner = (code == 1) | (code == 2)
    # Both neighbours of an inner fragment are a pair, one of which claims the row: what is left is
    # a fair coin.
    assert_allclose(memory.p_pred_[inner].mean(), 0.5, atol=0.06)


def test_edges_are_lifted_to_the_inner_fragments():
    X, y, *_ = noisy_table(1000)
    means = []
    for correct in (False, True):
        fitted = selector(edge_correction=correct).fit(X, y)
        code = np.searchsorted(fitted.fragment_edges_, y, side="right")
        means.append([fitted.selection_probability_[code == f].mean() for f in range(4)])
    plain, lifted = np.array(means)
    assert_allclose(lifted[1:3], plain[1:3])
    assert np.all(lifted[[0, 3]] >= plain[[0, 3]])
    assert lifted.max() <= 1


def test_selected_rows_make_a_better_model():
    X, y, truth, _ = noisy_table(1000, share=0.6)
    weighted = Reweighted(Ridge(), selector()).fit(X, y)
    errors = [np.abs(m.predict(X) - truth).mean() for m in (weighted, Ridge().fit(X, y))]
    assert errors[0] < 0.8 * errors[1]


def test_embeddings_can_be_compared_by_angle():
    X, y, *_ = noisy_table()
    fitted = selector(featurizer=make_pipeline(StandardScaler(), Normalizer())).fit(X, y)
    assert not np.array_equal(fitted.p_knn_, selector().fit(X, y).p_knn_)
    assert_array_equal(fitted.p_pred_, selector().fit(X, y).p_pred_)


def test_folds_of_all_rows_may_be_given():
    X, y, _, wrong = noisy_table()
    fitted = selector(cv=KFold(4)).fit(X, y)
    assert roc_auc_score(~wrong, fitted.selection_probability_) > 0.7


@pytest.mark.parametrize(
    ("parameters", "change", "message"),
    [
        ({"n_fragments": 5}, {}, "n_fragments=5 is odd"),
        ({"n_fragments": 2}, {}, "n_fragments"),
        ({"min_agree": 4}, {}, "min_agree=4 votes of n_neighbors=3 cannot be had"),
        ({"n_fragments": 8, "cv": 20}, {}, "n_samples = 600 rows .* which need 800"),
        ({}, {"y": np.arange(600) % 3}, "3 distinct labels"),
        ({}, {"y": np.where(np.arange(600) < 590, 0, np.arange(600))}, "labels are tied unevenly"),
        ({}, {"y": np.full(600, np.nan)}, "600 outcomes are NaN"),
        ({"classifier": KNeighborsClassifier()}, {"sample_weight": np.ones(600)}, "be weighted"),
    ],
)
def test_bad_input_is_named(parameters, change, message):
    X, y, *_ = noisy_table()
    model = ContrastiveFragmentSelector(**{"classifier": LogisticRegression(), **parameters})
    with pytest.raises(ValueError, match=message):
        model.fit(**{"X": X, "y": y, **change})

"""Transition matrices: recovery from anchors, counts, weights, scale of weights, bad input."""

import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy.optimize import nnls

from reweight import anchor_transition, dual_transition
from reweight.noisy_labels.transition_matrix import clean_posteriors, label_weights

T = np.array([[0.7, 0.1, 0.05], [0.2, 0.6, 0.15], [0.1, 0.3, 0.8]])


def make(n, seed=0, sharp=5.0):
    """Clean posteriors with anchors, noisy posteriors, and noisy labels drawn from these."""
    rng = np.random.default_rng(seed)
    F = rng.dirichlet(np.full(3, 1 / sharp), n)
    F[rng.random(n) < 0.2] = np.eye(3)[0]
    F[:60] = np.repeat(np.eye(3), 20, axis=0)
    P = F @ T.T
    y = (rng.random((n, 1)) > P.cumsum(axis=1)[:, :-1]).sum(axis=1)
    return F, P, y


def test_anchors_recover_the_matrix_from_exact_posteriors():
    _, P, y = make(4000)
    assert_allclose(anchor_transition(P, y, fraction=0.01), T, atol=1e-6)


def test_dual_is_the_product_of_counts_and_anchors():
    _, P, y = make(4000)
    first = anchor_transition(P, y)
    predicted = P.argmax(axis=1)
    second = np.array([[np.mean(y[predicted == b] == a) for b in range(3)] for a in range(3)])
    assert_allclose(dual_transition(P, y), second @ first)
    assert_allclose(dual_transition(P, y).sum(axis=0), 1)


def test_dual_recovers_the_matrix_from_sure_predictions():
    F, _, y = make(8000)
    clean = F.argmax(axis=1)
    keep = F.max(axis=1) > 1 - 1e-9
    found = dual_transition(np.eye(3)[clean[keep]], y[keep])
    counts = np.bincount(clean[keep], minlength=3)
    assert (np.abs(found - T) < 4 * np.sqrt(0.25 / counts)).all()


def test_a_class_that_is_never_predicted_is_not_flipped():
    P = np.array([[0.6, 0.4], [0.7, 0.3], [0.6, 0.4]])
    first = anchor_transition(P, [0, 0, 1])
    second = np.array([[2 / 3, 0.0], [1 / 3, 1.0]])
    assert_allclose(dual_transition(P, [0, 0, 1]), second @ first)


def test_the_anchor_is_the_row_that_completes_the_share():
    p = np.linspace(0.9, 0.5, 100)
    P, y = np.column_stack([p, 1 - p]), np.zeros(100, dtype=int)
    P, y = np.vstack([P, P[:, ::-1]]), np.append(y, np.ones(100, dtype=int))
    for fraction, rank in ((0.001, 0), (0.03, 2), (0.031, 3), (1.0, 99)):
        assert_allclose(anchor_transition(P, y, fraction=fraction)[0, 0], p[rank])


@pytest.mark.parametrize("estimate", [anchor_transition, dual_transition])
def test_weights_count_as_repeated_rows_on_any_scale(estimate):
    _, P, y = make(300, seed=1)
    s = np.random.default_rng(2).integers(0, 4, 300)
    repeated = np.repeat(np.arange(300), s)
    expected = estimate(P[repeated], y[repeated], fraction=0.1)
    for scale in (1.0, 1e-6):
        assert_allclose(estimate(P, y, fraction=0.1, sample_weight=scale * s), expected)


def test_clean_posteriors_are_nearest():
    rng = np.random.default_rng(0)
    F, P, _ = make(100)
    assert_allclose(clean_posteriors(P, T), F, atol=1e-3)
    noisy = rng.dirichlet(np.ones(3), 30)
    # A heavy row makes non-negative least squares keep the sum.
    heavy = np.vstack([T, np.full((1, 3), 1e4)])
    expected = [nnls(heavy, np.append(row, 1e4))[0] for row in noisy]
    assert_allclose(clean_posteriors(noisy, T), expected, atol=1e-3)
    errors = lambda f: ((noisy - f @ T.T) ** 2).sum()
    assert_allclose(errors(clean_posteriors(noisy, T)), errors(np.array(expected)), rtol=1e-5)


def test_label_weights_are_bounded_and_one_without_noise():
    F, _, y = make(200)
    assert_allclose(label_weights(F, y, np.eye(3)), 1)
    weights = label_weights(F, y, T)
    rows = np.arange(200)
    expected = F[rows, y] / (F @ T.T)[rows, y]
    assert_allclose(weights, expected, atol=1e-9)
    assert (weights <= (1 + 1e-9) / T.diagonal()[y]).all()


def test_bad_input_is_named():
    _, P, y = make(60)
    with pytest.raises(ValueError, match="The 'fraction' parameter of anchor_transition"):
        anchor_transition(P, y, fraction=0)
    with pytest.raises(ValueError, match="rows of P are off a sum of one by up to 1"):
        dual_transition(2 * P, y)
    with pytest.raises(ValueError, match="must hold finite, non-negative probabilities"):
        anchor_transition(P - 0.5, y)
    with pytest.raises(ValueError, match="labels from 1 to 3, but P has 3 columns"):
        anchor_transition(P, y + 1)
    with pytest.raises(ValueError, match="pass the column of P of each label, as integers"):
        anchor_transition(P, y.astype(str))
    with pytest.raises(ValueError, match="class 2 has no rows"):
        anchor_transition(P, np.minimum(y, 1))

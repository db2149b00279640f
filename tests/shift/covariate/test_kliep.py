"""Facts about density ratios by maximum likelihood."""

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.exceptions import ConvergenceWarning

from reweight.exceptions import WeightWarning
from reweight.kernels.kernel_sums import kernel_matrix
from shift import KLIEP, make_covariate_shift


@pytest.fixture
def design_h():
    return make_covariate_shift(40, 50, design="planar", random_state=20230724)


def log_ratio(data, weighter):
    features = kernel_matrix(data.X_target, weighter.centers_, "rbf", weighter.bandwidth_)
    return np.log(features @ weighter.theta_).mean()


def test_solution_is_feasible_and_certified(design_h):
    weighter = KLIEP(bandwidth=0.8).fit(design_h.X, X_target=design_h.X_target)
    assert_array_equal(weighter.centers_, design_h.X_target)
    assert weighter.theta_.min() >= 0
    assert_allclose(weighter.raw_weights_.mean(), 1, rtol=1e-10)
    assert weighter.optimality_gap_ <= 1e-7
    assert_allclose(weighter.objective_, log_ratio(design_h, weighter), rtol=1e-10)


def test_objective_equals_the_conic_program(design_h):
    fast = KLIEP(bandwidth=0.8, tol=1e-10).fit(design_h.X, X_target=design_h.X_target)
    slow = KLIEP(bandwidth=0.8, solver="cvxpy").fit(design_h.X, X_target=design_h.X_target)
    assert_allclose(fast.objective_, slow.objective_, atol=1e-9)
    assert fast.objective_ >= slow.objective_ - 1e-10
    assert_allclose(slow.raw_weights_.mean(), 1, rtol=1e-10)


def test_objective_rises_with_every_step(design_h):
    with pytest.warns(ConvergenceWarning, match="certified only to"):
        values = [
            KLIEP(bandwidth=0.8, max_iter=steps, tol=1e-13)
            .fit(design_h.X, X_target=design_h.X_target)
            .objective_
            for steps in (1, 2, 4, 8, 16, 32)
        ]
    assert np.diff(values).min() > -1e-13


def test_bandwidth_is_that_of_the_largest_held_out_likelihood(design_h):
    grid = [0.2, 0.5, 1.0, 3.0]
    weighter = KLIEP(bandwidth_grid=grid, random_state=1)
    weighter.fit(design_h.X, X_target=design_h.X_target)
    table = weighter.cv_results_
    assert_array_equal(table["bandwidth"], grid)
    assert weighter.bandwidth_ == table.loc[table["score"].idxmax(), "bandwidth"]
    # One fold of one bandwidth by hand: centres stay, the held-out rows leave the likelihood.
    folds = np.random.RandomState(1).permutation(np.arange(50) % 5)
    components = kernel_matrix(design_h.X_target, design_h.X_target, "rbf", 1.0)
    components /= kernel_matrix(design_h.X, design_h.X_target, "rbf", 1.0).mean(axis=0)
    scores = []
    for fold in range(5):
        q = np.full(50, 1 / 50)
        train = components[folds != fold]
        for _ in range(3000):
            q = q * (train / (train @ q)[:, None]).mean(axis=0)
        scores.append(np.log(components[folds == fold] @ q).mean())
    assert_allclose(table.loc[2, "score"], np.mean(scores), atol=2e-3)


def test_ratio_is_close_to_the_truth():
    data = make_covariate_shift(800, 600, n_features=2, random_state=0)
    weighter = KLIEP().fit(data.X, X_target=data.X_target)
    assert np.corrcoef(weighter.raw_weights_, data.density_ratio)[0, 1] > 0.9
    # The objective estimates the divergence of the target from the source.
    divergence = 2 * (np.log(1 / 0.8) + (0.64 + 0.49 - 1) / 2)
    assert_allclose(weighter.objective_, divergence, atol=0.1)


def test_target_equal_to_source_has_ratio_one():
    X = np.random.default_rng(0).normal(size=(200, 2))
    weighter = KLIEP(bandwidth=3.0).fit(X, X_target=X)
    # By Jensen's inequality the mean log of weights of mean one is at most zero.
    assert -0.01 < weighter.objective_ <= 1e-12
    assert_allclose(np.quantile(weighter.raw_weights_, [0.05, 0.95]), 1, atol=0.2)


def test_sampling_weights_are_copies(design_h):
    s = np.random.default_rng(1).integers(0, 4, size=40)
    weighter = KLIEP(bandwidth=0.8)
    weighted = weighter.fit(design_h.X, X_target=design_h.X_target, sample_weight=s)
    value, mean = weighted.objective_, weighted.raw_weights_.mean()
    copies = weighter.fit(np.repeat(design_h.X, s, axis=0), X_target=design_h.X_target)
    assert_allclose(copies.objective_, value, atol=2e-7)
    assert_allclose(mean, 1, rtol=1e-10)


def test_order_of_rows_does_not_matter_with_a_given_bandwidth(design_h):
    order = np.random.default_rng(3).permutation(40)
    weighter = KLIEP(bandwidth=0.8)
    weights = weighter.fit(design_h.X, X_target=design_h.X_target).weights_
    permuted = weighter.fit(design_h.X[order], X_target=design_h.X_target).weights_
    assert_allclose(permuted, weights[order], rtol=1e-6)


def test_new_rows_are_weighed_by_the_same_sum(design_h):
    weighter = KLIEP(bandwidth=0.8).fit(design_h.X, X_target=design_h.X_target)
    assert_allclose(weighter.predict_weights(design_h.X), weighter.weights_, rtol=1e-10)


def test_gaussians_that_the_source_does_not_reach_are_counted():
    rng = np.random.default_rng(0)
    X, X_target = rng.normal(size=(60, 1)), rng.normal(size=(40, 1))
    X_target[:3] += 9.0
    weighter = KLIEP(bandwidth=1.0)
    with pytest.warns(WeightWarning, match=r"\d of 40 Gaussians vanish"):
        weighter.fit(X, X_target=X_target)
    with (
        pytest.warns(WeightWarning, match="3 of 40 Gaussians vanish"),
        pytest.raises(ValueError, match="3 of 40 target rows are out of reach"),
    ):
        KLIEP(bandwidth=0.1).fit(X, X_target=X_target + 50.0 * (X_target > 5))


def test_bandwidths_that_reach_no_held_out_row_are_named(design_h):
    with pytest.raises(ValueError, match="with none of the bandwidths"):
        KLIEP(bandwidth_grid=[1e-4, 1e-3]).fit(design_h.X, X_target=design_h.X_target)

"""Kernel mean matching of the outcome against its printed program, cvxpy's optimum and a peer."""

import warnings

import numpy as np
import pytest
from numpy.testing import assert_allclose
from sklearn.metrics.pairwise import rbf_kernel

from shift import TargetKernelMeanMatching, make_target_shift
from shift.target.target_kernel_mean_matching import _bounded_program

pytestmark = pytest.mark.filterwarnings("ignore::reweight.exceptions.WeightWarning")


def fit(data, **parameters):
    return TargetKernelMeanMatching(**parameters).fit(data.X, data.y, X_target=data.X_target)


def printed_program(data, hx, hy, alpha):
    """Matrix and vector of the objective, with whole kernels and inverses."""
    n, m = len(data.X), len(data.X_target)
    K = rbf_kernel(data.X, gamma=0.5 / hx**2)
    cross = rbf_kernel(data.X_target, data.X, gamma=0.5 / hx**2)
    L = rbf_kernel(data.y[:, None], gamma=0.5 / hy**2)
    Om = L @ np.linalg.inv(L + alpha * np.eye(n))
    return Om @ K @ Om.T, (n / m) * (cross.sum(axis=0) @ Om.T)


def test_objective_is_the_printed_one_and_constraints_hold():
    data = make_target_shift(250, random_state=0)
    weighter = fit(data, bandwidth_x=2.0, bandwidth_y=1.0, alpha=0.1)
    w = weighter.raw_weights_
    matrix, vector = printed_program(data, 2.0, 1.0, 0.1)
    assert_allclose(0.5 * w @ matrix @ w - vector @ w, weighter.objective_, rtol=1e-9)
    assert w.min() >= -1e-6
    assert w.max() <= 10 + 1e-6
    assert abs(w.mean() - 1) <= 10 / (4 * np.sqrt(250)) + 1e-6
    assert weighter.optimality_gap_ < 1e-6


def test_optimum_is_that_of_cvxpy():
    cp = pytest.importorskip("cvxpy")
    data = make_target_shift(120, random_state=1)
    weighter = fit(data, bandwidth_x=2.0, bandwidth_y=1.0, max_weight=3.0, mean_tolerance=0.05)
    matrix, vector = printed_program(data, 2.0, 1.0, 0.01)
    values, vectors = np.linalg.eigh(matrix)
    factor = (vectors * np.sqrt(np.maximum(values, 0))).T
    # Smooth in y: sums of the eigenfunctions of the kernel that are not numerically zero.
    values, vectors = np.linalg.eigh(rbf_kernel(data.y[:, None], gamma=0.5))
    basis = vectors[:, values > 1e-10 * values[-1]]
    c = cp.Variable(basis.shape[1])
    w = basis @ c
    constraints = [w >= 0, w <= 3.0, cp.abs(cp.sum(w) / 120 - 1) <= 0.05]
    problem = cp.Problem(cp.Minimize(0.5 * cp.sum_squares(factor @ w) - vector @ w), constraints)
    problem.solve(solver="CLARABEL")
    assert_allclose(weighter.objective_, problem.value, rtol=1e-6)
    assert_allclose(weighter.raw_weights_, w.value, atol=0.02)


def test_certificate_is_a_lower_bound_whatever_the_multipliers(rng):
    F = rng.normal(size=(30, 4))
    linear = rng.normal(size=4)
    basis = np.linalg.qr(rng.normal(size=(30, 4)))[0] + 0.3
    result = _bounded_program(F.T @ F, linear, basis, np.ones(30), 5.0, 0.5, 100)
    assert result.converged
    stopped = _bounded_program(F.T @ F, linear, basis, np.ones(30), 5.0, 0.5, 3)
    assert not stopped.converged
    assert stopped.optimality_gap > 1e-6


def test_same_samples_get_weights_near_one_and_no_worse_objective():
    data = make_target_shift(300, random_state=0)
    weighter = TargetKernelMeanMatching(alpha=1e-3).fit(data.X, data.y, X_target=data.X)
    assert np.abs(weighter.weights_ - 1).max() < 0.2
    hx, hy = weighter.bandwidth_x_, weighter.bandwidth_y_
    data.X_target = data.X
    matrix, vector = printed_program(data, hx, hy, 1e-3)
    ones = np.ones(300)
    assert weighter.objective_ <= 0.5 * ones @ matrix @ ones - vector @ ones + 1e-9


def test_weights_beat_none_and_landmarks_change_little():
    data = make_target_shift(400, random_state=0)
    weighter = fit(data)
    none = np.mean((1 - data.density_ratio) ** 2)
    assert np.mean((weighter.weights_ - data.density_ratio) ** 2) < 0.2 * none
    landmarks = fit(data, n_components=80)
    assert_allclose(landmarks.weights_, weighter.weights_, atol=0.02)
    assert_allclose(weighter.predict_weights(y=data.y), weighter.weights_, rtol=1e-8, atol=1e-10)


def test_many_rows_go_by_landmarks():
    data = make_target_shift(6000, random_state=0)
    weighter = fit(data, n_components=50)
    error = np.mean((weighter.weights_ - data.density_ratio) ** 2)
    assert error < 0.1 * np.mean((1 - data.density_ratio) ** 2)


def test_rows_of_sampling_weight_k_count_as_k_rows_of_the_same_ridge(rng):
    data = make_target_shift(80, random_state=0)
    counts = rng.integers(1, 4, size=80)
    index = np.repeat(np.arange(80), counts)
    common = {"bandwidth_x": 2.0, "bandwidth_y": 1.0, "mean_tolerance": 0.1}
    # Sampling weights of mean one make as many rows as there are, so the ridge has to follow.
    ratio = counts.mean()
    many = TargetKernelMeanMatching(alpha=0.05 * ratio, **common).fit(
        data.X[index], data.y[index], X_target=data.X_target
    )
    few = TargetKernelMeanMatching(alpha=0.05, **common).fit(
        data.X, data.y, X_target=data.X_target, sample_weight=counts
    )
    merged = np.bincount(index, many.weights_)
    assert_allclose(merged / merged.mean(), few.weights_, atol=1e-4)


def test_skada_reaches_no_lower_objective_and_weighs_alike():
    reweight = pytest.importorskip("skada._reweight")
    data = make_target_shift(150, random_state=0)
    gamma, alpha = 0.5, 0.01
    adapter = reweight.MMDTarSReweightAdapter(gamma=gamma, reg=alpha, tol=1e-8, max_iter=5000)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs, _ = adapter._weights_optimization(data.X, data.X_target, data.y)
    ours = fit(data, bandwidth_x=1.0, bandwidth_y=1.0, alpha=alpha)
    matrix, vector = printed_program(data, 1.0, 1.0, alpha)
    value = 0.5 * theirs @ matrix @ theirs - vector @ theirs
    assert ours.objective_ <= value + 1e-4 * abs(value)
    assert_allclose(ours.objective_, value, rtol=2e-3)
    assert np.corrcoef(ours.raw_weights_, theirs)[0, 1] > 0.98

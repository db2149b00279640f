"""Kernel sums against scikit-learn's dense kernels, Gaussian processes' Matérn and limits."""

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy.spatial.distance import cdist
from sklearn.gaussian_process.kernels import Matern
from sklearn.metrics import pairwise

from reweight.kernels.kernel_sums import (
    DECAYING_KERNELS,
    check_kernel,
    kernel_diagonal,
    kernel_matrix,
    kernel_matvec,
    kernel_mean,
    kernel_smooth,
)

CASES = [
    ("rbf", {}),
    ("laplacian", {}),
    ("matern", {"nu": 0.5}),
    ("matern", {"nu": 1.5}),
    ("matern", {"nu": 2.5}),
    ("energy", {}),
    ("energy", {"exponent": 0.7}),
    ("linear", {}),
    ("polynomial", {}),
    ("polynomial", {"degree": 2, "coef0": 0.5}),
]
IDS = [name + "".join(f" {key}={value}" for key, value in own.items()) for name, own in CASES]


def dense(X, Y, kernel, h, **own):
    """The same kernel by libraries: K = f(distance / h)."""
    X, Y = X / h, Y / h
    if kernel == "rbf":
        return pairwise.rbf_kernel(X, Y, gamma=0.5)
    if kernel == "laplacian":
        return np.exp(-cdist(X, Y))
    if kernel == "matern":
        return Matern(length_scale=1.0, nu=own["nu"])(X, Y)
    if kernel == "energy":
        return -(cdist(X, Y) ** own.get("exponent", 1.0))
    if kernel == "linear":
        return pairwise.linear_kernel(X, Y)
    return pairwise.polynomial_kernel(
        X, Y, degree=own.get("degree", 3), coef0=own.get("coef0", 1.0), gamma=1.0
    )


@pytest.fixture
def sample(rng):
    return rng.standard_normal((53, 4)), rng.standard_normal((37, 4)), rng.standard_normal((37, 3))


@pytest.mark.parametrize(("kernel", "own"), CASES, ids=IDS)
@pytest.mark.parametrize("h", [0.8, np.array([0.5, 1.0, 2.0, 3.0])], ids=["scalar", "by column"])
def test_equals_the_dense_product(kernel, own, h, sample):
    X, Y, V = sample
    K = dense(X, Y, kernel, h, **own)
    assert_allclose(kernel_matrix(X, Y, kernel, h, **own), K, rtol=1e-12, atol=1e-13)
    assert_allclose(kernel_matvec(X, Y, V, kernel, h, chunk=11, **own), K @ V, rtol=1e-10)
    assert_allclose(kernel_matvec(X, Y, V[:, 0], kernel, h, **own), K @ V[:, 0], rtol=1e-10)
    assert_allclose(kernel_mean(X, Y, None, kernel, h, chunk=8, **own), K.mean(axis=1), rtol=1e-10)
    w = np.abs(V[:, 1])
    assert_allclose(kernel_mean(X, Y, w, kernel, h, **own), K @ w / w.sum(), rtol=1e-10)
    K_xx = dense(X, X, kernel, h, **own)
    assert_allclose(kernel_diagonal(X, kernel, h, **own), np.diag(K_xx), rtol=1e-12)


@pytest.mark.parametrize(
    ("kernel", "own"), [case for case in CASES if case[0] in DECAYING_KERNELS], ids=str
)
def test_smoothing_equals_the_row_normalised_product(kernel, own, sample):
    X, Y, V = sample
    w = np.where(V[:, 2] > 0, V[:, 2], 0.0)
    K = dense(X, Y, kernel, 0.7, **own)
    assert_allclose(
        kernel_smooth(X, Y, V, kernel, 0.7, chunk=10, **own),
        K @ V / K.sum(axis=1, keepdims=True),
        rtol=1e-9,
    )
    assert_allclose(
        kernel_smooth(X, Y, V[:, 0], kernel, 0.7, weights=w, **own),
        K @ (w * V[:, 0]) / (K @ w),
        rtol=1e-9,
    )


def test_matern_with_nu_one_half_is_the_laplacian(sample):
    X, Y, _ = sample
    assert_array_equal(kernel_matrix(X, Y, "matern", nu=0.5), kernel_matrix(X, Y, "laplacian"))


@pytest.mark.parametrize("kernel", sorted(DECAYING_KERNELS))
def test_smoothing_where_the_kernel_underflows_gives_the_nearest_value(kernel):
    Y, V = np.array([[0.0], [1.0], [5.0]]), np.array([1.0, 2.0, 7.0])
    smoothed = kernel_smooth([[-1e4], [1e4], [1e6]], Y, V, kernel, 1e-2, chunk=1)
    assert_allclose(smoothed, [1.0, 7.0, 7.0], rtol=1e-12)


def test_smoothing_keeps_constants_and_ignores_rows_of_weight_zero(sample):
    X, Y, V = sample
    assert_allclose(kernel_smooth(X, Y, np.full(37, 3.0)), 3.0, rtol=1e-14)
    weights = np.ones(37)
    weights[5:] = 0
    assert_allclose(
        kernel_smooth(X, Y, V, weights=weights), kernel_smooth(X, Y[:5], V[:5]), rtol=1e-14
    )


def test_duplicates_are_at_distance_exactly_zero(rng):
    X = 1e6 + rng.standard_normal((40, 5))
    X[20:] = X[:20]
    assert_array_equal(np.diag(kernel_matrix(X[:20], X[20:], "energy")), 0.0)
    assert_array_equal(np.diag(kernel_matrix(X, X, "rbf", 1e-3)), 1.0)
    K = kernel_matrix(X, X, "laplacian")
    assert_array_equal(K, K.T)


@pytest.mark.parametrize("kernel", ["rbf", "energy", "matern"])
def test_threads_do_not_change_a_bit(kernel, rng):
    X, V = rng.standard_normal((300, 3)), rng.standard_normal((300, 2))
    one, two = (kernel_matvec(X, X, V, kernel, chunk=64, n_jobs=k) for k in (1, 2))
    assert_array_equal(one, two)
    if kernel in DECAYING_KERNELS:
        one, two = (kernel_smooth(X, X, V, kernel, chunk=64, n_jobs=k) for k in (1, 2))
        assert_array_equal(one, two)


def test_no_rows_give_an_empty_product():
    assert kernel_matvec(np.empty((0, 2)), np.ones((3, 2)), np.ones((3, 4))).shape == (0, 4)
    assert kernel_smooth(np.empty((0, 2)), np.ones((3, 2)), np.ones(3)).shape == (0,)


def test_input_is_left_alone(sample):
    copies = [array.copy() for array in sample]
    kernel_matvec(*sample, "laplacian", 1.0)
    kernel_smooth(*sample)
    for array, copy in zip(sample, copies, strict=True):
        assert_array_equal(array, copy)


@pytest.mark.parametrize(
    ("arguments", "own", "error", "message"),
    [
        (("gaussian", 1.0), {}, ValueError, "kernel 'gaussian' is not known; choose one of"),
        (("rbf", 0.0), {}, ValueError, "bandwidth must be positive"),
        (("rbf", np.nan), {}, ValueError, "bandwidth must be positive"),
        (("rbf", [1.0, 2.0]), {}, ValueError, r"bandwidth has shape \(2,\) but the data have 4"),
        (("rbf", "median"), {}, TypeError, "resolve_bandwidth"),
        (("rbf", 1.0), {"nu": 1.5}, TypeError, "kernel 'rbf' has no parameter 'nu'"),
        (("matern", 1.0), {"nu": 2.0}, ValueError, "must be 0.5, 1.5 or 2.5, got 2.0"),
        (("energy", 1.0), {"exponent": 2.0}, ValueError, "between 0 and 2, got 2.0"),
        (("polynomial", 1.0), {"degree": 1.5}, ValueError, "degree .* got 1.5"),
        (("polynomial", 1.0), {"coef0": -1}, ValueError, "coef0 .* got -1"),
    ],
)
def test_bad_kernels_are_named(arguments, own, error, message, sample):
    X, Y, V = sample
    with pytest.raises(error, match=message):
        kernel_matvec(X, Y, V, *arguments, **own)
    with pytest.raises(error, match=message):
        kernel_matrix(X, Y, *arguments, **own)


def test_bad_shapes_are_named(sample):
    X, Y, V = sample
    with pytest.raises(ValueError, match="X has 3 columns but Y has 4"):
        kernel_matrix(X[:, :3], Y)
    with pytest.raises(ValueError, match=r"for one column X.reshape\(-1, 1\)"):
        kernel_matrix(X[:, 0], Y)
    with pytest.raises(ValueError, match=r"V has shape .* but Y has 37 rows"):
        kernel_matvec(X, Y, V[:5])
    with pytest.raises(ValueError, match=r"V has shape .* but Y has 37 rows"):
        kernel_smooth(X, Y, V[:5])
    with pytest.raises(ValueError, match="weights sum to 0"):
        kernel_mean(X, Y, np.zeros(37))
    with pytest.raises(ValueError, match="37 non-negative numbers"):
        kernel_smooth(X, Y, V, weights=-np.ones(37))
    with pytest.raises(ValueError, match="kernel 'energy' is not a decaying one"):
        kernel_smooth(X, Y, V, "energy")


def test_defaults_of_kernel_parameters_are_filled_in():
    assert check_kernel("polynomial", {"degree": 2}) == {"degree": 2, "coef0": 1.0}

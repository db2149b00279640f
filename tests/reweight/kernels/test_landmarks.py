"""Landmark features against the full kernel, scikit-learn's Nystroem and the error they promise."""

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.kernel_approximation import Nystroem

from reweight.kernels.kernel_sums import kernel_matrix
from reweight.kernels.landmarks import (
    choose_landmarks,
    landmark_features,
    landmark_projection,
    landmark_residual,
)

X = np.random.default_rng(0).standard_normal((70, 3))
KERNELS = {
    "rbf": {},
    "laplacian": {},
    "matern": {"nu": 2.5},
    "linear": {},
    "polynomial": {"degree": 2},
}


@pytest.mark.parametrize("kernel", KERNELS)
def test_all_rows_as_landmarks_give_the_full_kernel(kernel):
    F = landmark_features(X, X, kernel, 1.3, **KERNELS[kernel])
    K = kernel_matrix(X, X, kernel, 1.3, **KERNELS[kernel])
    assert_allclose(F @ F.T, K, atol=1e-7 * np.abs(K).max())


@pytest.mark.parametrize("exponent", [0.5, 1.0, 1.8])
def test_energy_features_give_the_energy_distance(exponent):
    # Any weights that sum to zero see the same form as with -d.
    rng = np.random.default_rng(1)
    v = rng.standard_normal(70)
    v -= v.mean()
    F = landmark_features(X, X, "energy", exponent=exponent)
    K = kernel_matrix(X, X, "energy", exponent=exponent)
    assert_allclose(np.sum((v @ F) ** 2), v @ K @ v, rtol=1e-9)


def test_few_landmarks_agree_with_scikit_learn():
    landmarks = X[:15]
    sklearn = Nystroem(kernel="rbf", gamma=0.5 / 2.0**2, n_components=15).fit(landmarks)
    F, G = landmark_features(X, landmarks, "rbf", 2.0), sklearn.transform(X)
    assert_allclose(F @ F.T, G @ G.T, atol=1e-8)


@pytest.mark.parametrize("kernel", ["rbf", "energy"])
def test_the_kernel_left_out_is_positive_semidefinite_and_shrinks(kernel):
    F = landmark_features(X, X, kernel)
    full = F @ F.T
    errors = []
    for m in (5, 20, 50):
        # The origin of the energy kernel is the mean of the landmarks; centring removes it.
        f = landmark_features(X, X[:m], kernel)
        centre = np.eye(70) - 1 / 70
        left = centre @ (full - f @ f.T) @ centre
        assert np.linalg.eigvalsh(left)[0] > -1e-8 * np.trace(full)
        errors.append(np.trace(left))
    assert errors[0] > 1.2 * errors[1] > 1.2 * errors[2] > 0


@pytest.mark.parametrize("kernel", ["rbf", "matern", "energy", "polynomial"])
def test_residual_is_the_diagonal_that_features_miss(kernel):
    F = landmark_features(X, X[:12], kernel)
    residual = landmark_residual(X, F, X[:12], kernel)
    full = np.diag(kernel_matrix(X, X, kernel))
    if kernel == "energy":
        full = 2 * np.linalg.norm(X - X[:12].mean(axis=0), axis=1)
    assert residual.min() == 0
    assert residual.max() > 0.1
    assert_allclose(residual[:12], 0, atol=1e-8)
    assert_allclose(residual[12:], (full - (F**2).sum(axis=1))[12:], atol=1e-12)


def test_duplicated_landmarks_lower_the_rank():
    landmarks = np.vstack([X[:10], X[:10]])
    F = landmark_features(X, landmarks)
    assert F.shape[1] == 10
    assert_allclose(F @ F.T, _outer(landmark_features(X, X[:10])), atol=1e-9)


def _outer(F):
    return F @ F.T


def test_linear_kernel_has_the_rank_of_the_data():
    assert landmark_features(X, X[:20], "linear").shape[1] == 3


def test_many_rows_go_through_in_chunks():
    many = np.random.default_rng(2).standard_normal((20_000, 3))
    projection = landmark_projection(X)
    whole = landmark_features(many, X)
    parts = [landmark_features(part, X, projection=projection) for part in (many[:777], many[777:])]
    assert_allclose(np.vstack(parts), whole, atol=1e-12)


def test_equal_landmarks_are_refused_where_the_kernel_vanishes():
    with pytest.raises(ValueError, match="vanishes on the landmarks"):
        landmark_features(X, np.ones((4, 3)), "energy")


@pytest.mark.parametrize("method", ["kmeans++", "uniform"])
def test_landmarks_are_distinct_rows_of_positive_weight(method):
    weight = np.r_[np.zeros(30), np.random.default_rng(0).uniform(0.5, 2, 40)]
    chosen = choose_landmarks(X, 12, method=method, sample_weight=weight, random_state=3)
    assert chosen.shape == (12, 3)
    allowed = {tuple(row) for row in X[30:]}
    assert len({tuple(row) for row in chosen} & allowed) == 12


@pytest.mark.parametrize("method", ["kmeans++", "uniform"])
def test_landmarks_depend_on_the_seed_alone(method):
    big = np.random.default_rng(5).standard_normal((9000, 2))
    first, second, other = (
        choose_landmarks(big, 20, method=method, random_state=seed) for seed in (0, 0, 1)
    )
    assert_array_equal(first, second)
    assert not np.array_equal(first, other)


def test_enough_landmarks_are_all_distinct_rows_in_any_order():
    twice = np.vstack([X, X])
    order = np.random.default_rng(0).permutation(140)
    assert_array_equal(choose_landmarks(twice[order], 100), np.unique(X, axis=0))


def test_seeding_reaches_the_tails_better_than_chance():
    skewed = np.random.default_rng(0).lognormal(sigma=1.5, size=(4000, 1))
    far, near = (
        np.mean(
            [
                choose_landmarks(skewed, 20, method=method, random_state=seed).max()
                for seed in range(10)
            ]
        )
        for method in ("kmeans++", "uniform")
    )
    assert far > 2 * near


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"method": "grid"}, "method 'grid' is unknown"),
        ({"n_components": 0}, "n_components must be positive"),
        ({"sample_weight": np.zeros(70)}, "no row has positive weight"),
    ],
)
def test_bad_input_is_named(options, message):
    with pytest.raises(ValueError, match=message):
        choose_landmarks(**{"X": X, "n_components": 5, **options})

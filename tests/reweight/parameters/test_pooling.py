"""Pooling gives what the pooled rows give, and what is taken out leaves the rest."""

import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy import stats
from sklearn.linear_model import LinearRegression, LogisticRegression

from reweight import average_parameters, fisher_information, pool_estimates

SIZES = (30, 50, 80)


@pytest.fixture
def sites(rng):
    return [
        (
            D := np.column_stack([np.ones(n), rng.normal(size=(n, 3))]),
            D @ [1, 2, 0, -1] + rng.normal(size=n),
        )
        for n in SIZES
    ]


def least_squares(D, y):
    return np.linalg.lstsq(D, y, rcond=None)[0]


def ridge(D, y, anchor, H_0, weight=1.0):
    """Minimiser of half the weighted squares plus the distance from an anchor."""
    return np.linalg.solve(weight * D.T @ D + H_0, weight * D.T @ y + H_0 @ anchor)


def test_least_squares_pool_to_those_of_the_stacked_rows(sites):
    pooled = pool_estimates([least_squares(*s) for s in sites], [D.T @ D for D, _ in sites])
    D, y = (np.concatenate(part) for part in zip(*sites, strict=True))
    assert_allclose(pooled.mean, least_squares(D, y), rtol=1e-10)
    assert_allclose(pooled.precision, D.T @ D, rtol=1e-12)
    assert_allclose(pooled.covariance, np.linalg.inv(D.T @ D), rtol=1e-10)
    assert_allclose(pooled.stderr, np.sqrt(np.diag(np.linalg.inv(D.T @ D))), rtol=1e-10)


def test_ridge_fits_pool_to_the_joint_one_for_any_weights(sites, rng):
    anchor = rng.normal(size=4)
    H_0 = np.diag(rng.uniform(1, 5, size=4)) + 0.1
    estimates = [ridge(D, y, anchor, H_0) for D, y in sites]
    H = [D.T @ D for D, _ in sites]
    for alpha in ([1, 1, 1], [0.5, 2.0, 0.7], [1, 1, 0]):
        pooled = pool_estimates(estimates, H, anchor=anchor, anchor_precision=H_0, weights=alpha)
        gram = sum(a * h for a, h in zip(alpha, H, strict=True)) + H_0
        cross = sum(a * D.T @ y for a, (D, y) in zip(alpha, sites, strict=True)) + H_0 @ anchor
        assert_allclose(pooled.mean, np.linalg.solve(gram, cross), rtol=1e-9)
        assert_allclose(pooled.precision, gram, rtol=1e-12)
        assert np.isnan([pooled.q, pooled.p_value, pooled.i2]).all()


@pytest.mark.parametrize("strength", [0.0, 3.0])
def test_a_site_taken_out_leaves_the_joint_fit_of_the_rest(sites, strength):
    anchor, H_0 = np.full(4, 0.3), strength * np.eye(4)
    with_anchor = {"anchor": anchor, "anchor_precision": H_0} if strength else {}
    H = [D.T @ D for D, _ in sites]
    estimates = [ridge(D, y, anchor, H_0) for D, y in sites]
    joint = pool_estimates(estimates, H, **with_anchor)
    left = pool_estimates(
        [joint.mean, estimates[1]], [sum(H), H[1]], weights=[1, -1], **with_anchor
    )
    rest = pool_estimates([estimates[0], estimates[2]], [H[0], H[2]], **with_anchor)
    assert_allclose(left.mean, rest.mean, rtol=1e-9)
    assert_allclose(left.precision, rest.precision, rtol=1e-9)


def test_diagonals_and_numbers_are_matrices(rng):
    estimates = rng.normal(size=(3, 2))
    numbers = rng.uniform(1, 2, size=3)
    expected = pool_estimates(estimates, [x * np.eye(2) for x in numbers])
    for precisions in (numbers, np.outer(numbers, [1, 1])):
        found = pool_estimates(estimates, precisions)
        assert_allclose(found.mean, expected.mean, rtol=1e-14)
        assert_allclose(found.q, expected.q)
    average = average_parameters([{"w": e} for e in estimates], numbers)["w"]
    assert_allclose(expected.mean, average, rtol=1e-12)


def test_heterogeneity_of_homogeneous_sites_is_that_of_chance(rng):
    q, p_values = [], []
    designs = [rng.normal(size=(n, 2)) for n in (40, 60, 90)]
    for _ in range(500):
        estimates = [least_squares(D, D @ [1, -1] + rng.normal(size=len(D))) for D in designs]
        pooled = pool_estimates(estimates, [D.T @ D for D in designs])
        q.append(pooled.q)
        p_values.append(pooled.p_value)
    assert pooled.df == 4
    assert 0.95 < np.mean(q) / 4 < 1.05
    assert stats.kstest(p_values, "uniform").pvalue > 0.01


def test_heterogeneity_by_hand():
    pooled = pool_estimates([[0.0], [4.0]], [1.0, 1.0])
    assert_allclose([pooled.mean[0], pooled.q, pooled.i2], [2, 8, 1 - 1 / 8], rtol=1e-12)
    assert pooled.df == 1
    assert_allclose(pooled.p_value, stats.chi2.sf(8, 1))
    alone = pool_estimates([[1.0]], [2.0])
    assert alone.q < 1e-20
    assert (alone.df, alone.i2) == (0, 0.0)
    assert np.isnan(alone.p_value)


def test_a_site_that_knows_one_direction_only_counts_its_rank():
    pooled = pool_estimates([[1.0, 0.0], [2.0, 5.0]], [np.diag([1.0, 0.0]), np.eye(2)])
    assert_allclose(pooled.mean, [1.5, 5.0])
    assert pooled.df == 1


def test_logistic_fits_of_sites_come_close_to_the_pooled_fit(rng):
    beta = np.array([1.0, -0.5])
    sites = []
    for n in (1000, 2000, 4000):
        X = rng.normal(size=(n, 2))
        sites.append((X, (rng.uniform(size=n) < 1 / (1 + np.exp(-X @ beta))).astype(int)))
    fits = [LogisticRegression(C=np.inf).fit(*s) for s in sites]
    H = [fisher_information(f, X, kind="full") for f, (X, _) in zip(fits, sites, strict=True)]
    pooled = pool_estimates([np.r_[f.coef_[0], f.intercept_] for f in fits], H)
    joint = LogisticRegression(C=np.inf).fit(*(np.concatenate(p) for p in zip(*sites, strict=True)))
    difference = pooled.mean - np.r_[joint.coef_[0], joint.intercept_]
    assert np.abs(difference / pooled.stderr).max() < 0.1


ONE = np.ones((1, 2))


@pytest.mark.parametrize(
    ("arguments", "options", "error", "message"),
    [
        (([], []), {}, ValueError, "Expected 2D array"),
        (([1.0, 2.0], [1.0, 1.0]), {}, ValueError, "Expected 2D array"),
        ((ONE, [1.0, 1.0]), {}, ValueError, "got 1 estimates, 2 precisions"),
        ((ONE, [np.ones(3)]), {}, ValueError, r"precisions\[0\] of shape \(3,\)"),
        ((ONE, [np.array([[1.0, 0.5], [0.0, 1.0]])]), {}, ValueError, "must be symmetric"),
        (([[np.nan, 0.0]], [1.0]), {}, ValueError, "estimates contains NaN"),
        ((ONE, [1.0]), {"weights": [1.0, 2.0]}, ValueError, r"weights of shape \(2,\)"),
        ((ONE, [1.0]), {"anchor": [0, 0]}, ValueError, "pass both of anchor"),
        ((ONE, [np.ones((2, 2))]), {}, np.linalg.LinAlgError, "total precision is not positive"),
        ((ONE, [-1.0]), {}, np.linalg.LinAlgError, "a site may be separated or collinear"),
    ],
)
def test_bad_input_is_refused(arguments, options, error, message):
    with pytest.raises(error, match=message):
        pool_estimates(*arguments, **options)


def test_a_collinear_design_is_refused(rng):
    x = rng.normal(size=50)
    D = np.column_stack([x, x / 3, rng.normal(size=50)])
    with pytest.raises(np.linalg.LinAlgError, match="collinear"):
        pool_estimates([[1.0, 0.0, 0.0]], [D.T @ D])


def test_standard_errors_are_those_of_the_linear_model(rng):
    X = rng.normal(size=(60, 2))
    y = X @ [1.0, 2.0] + rng.normal(size=60)
    fit = LinearRegression().fit(X, y)
    pooled = pool_estimates(
        [[*fit.coef_, fit.intercept_]], [fisher_information(fit, X, y, kind="full")]
    )
    D = np.column_stack([X, np.ones(60)])
    residual = y - fit.predict(X)
    expected = residual @ residual / 57 * np.linalg.inv(D.T @ D)
    assert_allclose(pooled.covariance, expected, rtol=1e-10)

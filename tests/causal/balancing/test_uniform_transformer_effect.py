import pickle
import warnings

import numpy as np
import pandas as pd
import polars as pl
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy.integrate import quad
from scipy.special import expit
from scipy.stats import norm
from sklearn import config_context
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LinearRegression
from sklearn.model_selection import cross_validate
from sklearn.preprocessing import PolynomialFeatures

from causal import (
    StableBalancing,
    UniformTransformer,
    UniformTransformerEffect,
    WeightedEffect,
    make_kang_schafer,
)
from causal.balancing._uniform_kernels import KERNELS, grid_shape, kernel_sums
from causal.balancing._uniform_projection import least_squares_weights, legendre_features
from reweight.exceptions import InfeasibleError, WeightWarning

# {kernel: (its definition, order of its first moment that is not zero)}
DEFINITIONS = {
    "rbf": (lambda u: norm.pdf(u), 2),
    "rbf4": (lambda u: norm.pdf(u) * (3 / 2 - u**2 / 2), 4),
    "rbf6": (lambda u: norm.pdf(u) * (15 / 8 - 5 * u**2 / 4 + u**4 / 8), 6),
    "rbf8": (
        lambda u: norm.pdf(u) * (35 / 16 - 35 * u**2 / 16 + 7 * u**4 / 16 - u**6 / 48),
        8,
    ),
    "rbf10": (
        lambda u: (
            norm.pdf(u)
            * (315 / 128 - 105 * u**2 / 32 + 63 * u**4 / 64 - 3 * u**6 / 32 + u**8 / 384)
        ),
        10,
    ),
    "silverman": (
        lambda u: np.exp(-abs(u) / 2**0.5) * np.sin(abs(u) / 2**0.5 + np.pi / 4) / 2,
        4,
    ),
    "epanechnikov": (lambda u: 3 / 4 * (1 - u**2), 2),
    "uniform": (lambda u: 0.5 + 0 * u, 2),
    "triangular": (lambda u: 1 - abs(u), 2),
    "biweight": (lambda u: 15 / 16 * (1 - u**2) ** 2, 2),
    "triweight": (lambda u: 35 / 32 * (1 - u**2) ** 3, 2),
    "tricube": (lambda u: 70 / 81 * (1 - abs(u) ** 3) ** 3, 2),
    "cosine": (lambda u: np.pi / 4 * np.cos(np.pi * u / 2), 2),
}
COMPACT = list(DEFINITIONS)[6:]


def dense(A, B, kernel, bandwidth):
    """The whole matrix of products."""
    u = (A[:, None, :] - B[None, :, :]) / bandwidth
    values = DEFINITIONS[kernel][0](u)
    if kernel in COMPACT:
        values = np.where(np.abs(u) <= 1, values, 0.0)
    return values.prod(axis=2)


@pytest.fixture
def study():
    rng = np.random.default_rng(11)
    X = rng.normal(size=(240, 2))
    t = (rng.random(240) < expit(0.5 * X[:, 0] - 0.3)).astype(int)
    y = X @ [1.0, -1.0] + 0.5 * X[:, 0] ** 2 + t * (1 + 0.5 * X[:, 1]) + rng.normal(size=240)
    return X, y, t


def effect(**parameters):
    return UniformTransformerEffect(
        **{"n_resamples": None, "random_state": 0, **parameters},
    )


def arm_difference(y, t):
    return y[t == 1].mean() - y[t == 0].mean()


def normalized(w):
    return w / w.mean()


def test_every_kernel_is_tested():
    assert set(DEFINITIONS) == set(KERNELS)


@pytest.mark.parametrize("kernel", DEFINITIONS)
def test_kernels_have_their_mass_and_their_order(kernel):
    function, order = DEFINITIONS[kernel]
    reach = KERNELS[kernel][1]
    end = 1 if kernel in COMPACT else 2 * reach

    def moment(power):
        return 2 * quad(lambda u: u**power * function(u), 0, end, epsabs=1e-12, limit=200)[0]

    assert moment(0) == pytest.approx(1, abs=1e-9)
    for power in range(2, order, 2):
        assert moment(power) == pytest.approx(0, abs=1e-8)
    assert abs(moment(order)) > 0.05
    if kernel not in COMPACT:
        assert abs(function(reach)) < 1e-12 * function(0)


@pytest.mark.parametrize("kernel", DEFINITIONS)
@pytest.mark.parametrize(("d", "bandwidth"), [(1, 0.003), (2, 0.06), (3, 0.3)])
def test_sums_over_cells_are_those_of_the_whole_matrix(rng, kernel, d, bandwidth):
    A, B, weight = rng.random((70, d)), rng.random((200, d)), rng.exponential(size=200)
    A[:3], B[:3] = [0.0], [1.0]
    A[3] = B[3]
    expected = dense(A, B, kernel, bandwidth) @ weight
    peak = DEFINITIONS[kernel][0](0.0) ** d
    assert_allclose(kernel_sums(A, B, weight, kernel, bandwidth), expected, atol=1e-10 * peak)
    itself = np.full(70, -1)
    itself[3] = 3
    expected[3] -= weight[3] * peak
    sums = kernel_sums(A, B, weight, kernel, bandwidth, itself)
    assert_allclose(sums, expected, atol=1e-10 * peak)


def test_cells_are_no_smaller_than_the_reach_nor_more_than_rows():
    for n in (2, 50, 10**4, 10**6):
        for d in (1, 2, 3, 5, 12):
            for reach in (1e-7, 0.01, n ** (-1 / d), 0.3, 2.0):
                g, side = grid_shape(n, d, reach)
                assert g <= d
                assert side**g <= max(n, 1)
                assert side == 1 or side * reach <= 1 + 1e-12
    # At the default bandwidth of a compact kernel all columns are cut.
    assert grid_shape(10**4, 2, 10**-2) == (2, 100)


@pytest.mark.parametrize("kernel", ["rbf", "rbf6", "epanechnikov", "silverman"])
@pytest.mark.parametrize("estimand", ["ATT", "ATC", "ATE"])
def test_kernel_estimate_is_the_sum_over_pairs(study, kernel, estimand):
    X, y, t = study
    fit = effect(estimand=estimand, method="kernel", kernel=kernel, cut="midpoint", bandwidth=0.2)
    fit.fit(X, y, treatment=t)
    means, weights = {}, np.ones(240)
    for arm in (0, 1):
        rows = t == arm
        if (estimand, arm) in (("ATT", 1), ("ATC", 0)):
            means[arm] = y[rows].mean()
            continue
        phi = UniformTransformer(cut="midpoint").fit(X, X_reference=X[rows]).transform(X)
        K = dense(phi, phi, kernel, 0.2)
        np.fill_diagonal(K, 0.0)
        target = np.ones(240, bool) if estimand == "ATE" else ~rows
        weights[rows] = normalized(K[rows][:, target].sum(axis=1))
        means[arm] = np.average(y[rows], weights=weights[rows])
    assert_allclose(fit.raw_weights_, weights, rtol=1e-9)
    assert_allclose(fit.effect_, means[1] - means[0], rtol=1e-9)
    assert_allclose(fit.potential_means_, [means[0], means[1]], rtol=1e-9)
    assert fit.bandwidth_ == 0.2
    if (weights >= 0).all():
        assert_array_equal(fit.weights_, fit.raw_weights_)
    else:
        assert not hasattr(fit, "weights_")


def test_projection_on_covariates_themselves_is_regression_imputation(study, rng):
    X, y, t = study
    treated, control = X[t == 1], X[t == 0]
    s = rng.exponential(size=len(control))
    for weight in (None, s):
        ones = np.ones(len(control))
        w = least_squares_weights(
            np.column_stack([ones, control]),
            ones if weight is None else weight,
            np.append(1.0, treated.mean(axis=0)),
        ).weights
        model = LinearRegression().fit(control, y[t == 0], sample_weight=weight)
        assert_allclose(w @ y[t == 0], model.predict(treated).mean(), rtol=1e-10)
        full = np.ones(len(y))
        full[t == 0] = ones if weight is None else weight
        signed = StableBalancing("ATT", max_smd=0.0, nonnegative=False)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            signed.fit(X, t, sample_weight=full)
        assert_allclose(w * len(control), signed.raw_weights_[t == 0], atol=1e-8)


@pytest.mark.parametrize("estimand", ["ATT", "ATC", "ATE"])
@pytest.mark.parametrize("interactions", [True, False])
@pytest.mark.parametrize("degree", [1, 3])
def test_projection_is_imputation_by_polynomials_of_the_image(
    study, estimand, interactions, degree
):
    X, y, t = study
    fit = effect(
        estimand=estimand, method="projection", degree=degree, interactions=interactions
    ).fit(X, y, treatment=t)
    means = [y[t == 0].mean(), y[t == 1].mean()]
    for arm in {"ATT": [0], "ATC": [1], "ATE": [0, 1]}[estimand]:
        rows = t == arm
        transformer = UniformTransformer(marginal=True, cut="midpoint")
        phi = transformer.fit(X, X_reference=X[rows]).transform(X)
        if interactions:
            features = PolynomialFeatures(degree, include_bias=False).fit_transform(phi)
        else:
            features = np.hstack([phi**k for k in range(1, degree + 1)])
        target = np.ones(240, bool) if estimand == "ATE" else ~rows
        model = LinearRegression().fit(features[rows], y[rows])
        means[arm] = model.predict(features[target]).mean()
        # All moments are met exactly.
        balanced = fit.raw_weights_[rows] @ features[rows] / rows.sum()
        assert_allclose(balanced, features[target].mean(axis=0), atol=1e-10)
    assert_allclose(fit.potential_means_, means, rtol=1e-9)
    assert fit.max_imbalance_ < 1e-10


def test_projection_of_degree_one_is_signed_balancing_of_the_image(study):
    X, y, t = study
    fit = effect(method="projection", degree=1).fit(X, y, treatment=t)
    transformer = UniformTransformer(marginal=True, cut="midpoint")
    phi = transformer.fit(X, X_reference=X[t == 0]).transform(X)
    signed = StableBalancing("ATT", max_smd=0.0, nonnegative=False)
    other = WeightedEffect(signed, inference="robust").fit(phi, y, treatment=t)
    assert_allclose(fit.effect_, other.effect_, atol=1e-8)


def test_polynomials_are_orthonormal_under_uniform_rows_and_span_the_monomials():
    nodes, weights = np.polynomial.legendre.leggauss(8)
    grid = np.stack(np.meshgrid(nodes, nodes), axis=-1).reshape(-1, 2) / 2 + 0.5
    mass = np.outer(weights, weights).ravel() / 4
    features, powers = legendre_features(grid, 3, True)
    assert_allclose(features.T * mass @ features, np.eye(10), atol=1e-12)
    assert powers.tolist()[:3] == [[0, 0], [1, 0], [0, 1]]
    monomials = PolynomialFeatures(3).fit_transform(grid)
    residual = monomials - features @ np.linalg.lstsq(features, monomials, rcond=None)[0]
    assert_allclose(residual, 0, atol=1e-10)
    assert legendre_features(grid, 3, False)[0].shape == (64, 7)


def test_identity_moments_are_those_of_uniform_rows(study):
    X, y, t = study
    fit = effect(method="projection", gram="identity", marginal=False, cut="midpoint")
    fit.fit(X, y, treatment=t)
    phi = UniformTransformer(cut="midpoint").fit(X, X_reference=X[t == 0]).transform(X)
    features, _ = legendre_features(phi, 2, True)
    w = features[t == 0] @ features[t == 1].mean(axis=0)
    assert_allclose(fit.raw_weights_[t == 0], normalized(w), rtol=1e-9)
    assert fit.max_imbalance_ > 1e-3


def test_both_kinds_of_moments_meet_as_rows_fill_the_cube():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(20000, 1))
    t = (rng.random(20000) < expit(X[:, 0])).astype(int)
    y = np.sin(X[:, 0]) + rng.normal(size=20000)
    fits = [
        effect(method="projection", gram=gram, cut="midpoint").fit(X, y, treatment=t)
        for gram in ("empirical", "identity")
    ]
    assert abs(fits[0].effect_ - fits[1].effect_) < 1e-3


@pytest.mark.parametrize(
    ("parameters", "published", "spread"),
    [
        ({"method": "kernel", "marginal": True}, -13.85, 0.04),
        ({"method": "projection", "marginal": True}, -2.56, 0.05),
        ({"method": "kernel", "marginal": False}, -15.9, 0.3),
        ({"method": "projection", "marginal": False}, -3.3, 0.8),
    ],
)
def test_published_figures_of_one_study_over_random_cuts(parameters, published, spread):
    # Mean and spread over 20 to 30 cuts of the authors' R code and of a prototype.
    study = make_kang_schafer(200, random_state=7)
    X, y, t = study.X, study.y, study.treatment
    assert t.sum() == 112
    assert round(arm_difference(y, t), 2) == -20.91
    effects = [
        effect(cut="random", random_state=r, **parameters).fit(X, y, treatment=t).effect_
        for r in range(30)
    ]
    # Both means are over at least 20 cuts; the published one is rounded.
    rounding = 0.005 if spread < 0.1 else 0.05
    assert abs(np.mean(effects) - published) < 3 * spread * np.sqrt(2 / 20) + rounding
    # Spreads of so few have an error of a sixth.
    assert 0.5 < np.std(effects) / spread < 2


@pytest.mark.parametrize("method", ["kernel", "projection"])
@pytest.mark.parametrize("estimand", ["ATT", "ATE", "ATC"])
def test_randomised_studies_agree_with_the_difference_in_means(method, estimand):
    rng = np.random.default_rng(1)
    X = rng.normal(size=(2000, 2))
    t = rng.integers(0, 2, size=2000)
    y = X[:, 0] + t + rng.normal(size=2000)
    fit = effect(method=method, estimand=estimand).fit(X, y, treatment=t)
    stderr = np.sqrt(sum(y[t == arm].var() / (t == arm).sum() for arm in (0, 1)))
    assert abs(fit.effect_ - arm_difference(y, t)) < 3 * stderr
    assert abs(fit.effect_ - 1) < 3 * stderr


@pytest.mark.parametrize("d", [1, 2])
def test_smooth_confounding_is_removed_as_rows_grow(d):
    rng = np.random.default_rng(2)
    X = rng.normal(size=(20000, d))
    t = (rng.random(20000) < expit(X.sum(axis=1) - 0.5)).astype(int)
    y = np.exp(X[:, 0] / 2) + X[:, -1] + t + 0.5 * rng.normal(size=20000)
    assert arm_difference(y, t) > 1.8
    for kernel in ("rbf", "epanechnikov"):
        fit = effect(method="kernel", kernel=kernel).fit(X, y, treatment=t)
        assert abs(fit.effect_ - 1) < 0.1


@pytest.mark.parametrize("method", ["kernel", "projection"])
def test_swapped_arms_swap_the_estimand_and_the_sign(study, method):
    X, y, t = study
    fits = [
        effect(method=method, estimand=estimand, cut="midpoint").fit(X, y, treatment=labels)
        for estimand, labels in (("ATT", t), ("ATC", 1 - t))
    ]
    assert_allclose(fits[0].effect_, -fits[1].effect_, rtol=1e-12)
    assert_allclose(fits[0].raw_weights_, fits[1].raw_weights_, rtol=1e-12)


@pytest.mark.parametrize("method", ["kernel", "projection"])
@pytest.mark.parametrize("estimand", ["ATT", "ATE"])
def test_order_of_rows_and_units_do_not_matter(study, rng, method, estimand):
    X, y, t = study
    fit = effect(method=method, estimand=estimand)
    expected = fit.fit(X, y, treatment=t)
    order = rng.permutation(240)
    permuted = clone(fit).fit(X[order], y[order], treatment=t[order])
    assert_allclose(permuted.effect_, expected.effect_, rtol=1e-9)
    assert_allclose(permuted.raw_weights_, expected.raw_weights_[order], rtol=1e-7, atol=1e-9)
    scaled = clone(fit).fit(X * [1e-5, 1e5] + [1, 2], 3 * y + 7, treatment=t)
    assert_allclose(scaled.effect_, 3 * expected.effect_, rtol=1e-6)


@pytest.mark.parametrize("method", ["kernel", "projection"])
@pytest.mark.parametrize("estimand", ["ATT", "ATC", "ATE"])
def test_sampling_weights_enter_and_their_scale_does_not(study, rng, method, estimand):
    X, y, t = study
    s = rng.integers(0, 3, size=240).astype(float)
    fit = effect(method=method, estimand=estimand, cut="midpoint")
    weighted = clone(fit).fit(X, y, treatment=t, sample_weight=s)
    assert weighted.effect_ != clone(fit).fit(X, y, treatment=t).effect_
    scaled = clone(fit).fit(X, y, treatment=t, sample_weight=8 * s)
    assert_allclose(scaled.effect_, weighted.effect_, rtol=1e-10)
    kept = s > 0
    without = clone(fit).fit(X[kept], y[kept], treatment=t[kept], sample_weight=s[kept])
    assert_allclose(without.effect_, weighted.effect_, rtol=1e-10)
    assert_array_equal(weighted.raw_weights_[~kept], 0)
    for arm in (0, 1):
        assert_allclose(weighted.raw_weights_[t == arm].mean(), 1)
    equal = clone(fit).fit(X, y, treatment=t, sample_weight=np.full(240, 0.3))
    assert_allclose(equal.effect_, clone(fit).fit(X, y, treatment=t).effect_, rtol=1e-9)


def test_a_row_of_weight_k_is_close_to_k_rows():
    rng = np.random.default_rng(5)
    X = rng.normal(size=(4000, 2))
    t = (rng.random(4000) < expit(X[:, 0])).astype(int)
    y = X[:, 0] + X[:, 1] ** 2 + rng.normal(size=4000)
    s = rng.integers(1, 4, size=4000)
    index = np.repeat(np.arange(4000), s)
    # Shares of the standard error of about 0.035; in the joint map, bins follow the count of rows.
    for method, share in (("kernel", 0.5), ("projection", 0.1)):
        fit = effect(method=method, bandwidth=0.05)
        weighted = clone(fit).fit(X, y, treatment=t, sample_weight=s)
        repeated = clone(fit).fit(X[index], y[index], treatment=t[index])
        assert abs(weighted.effect_ - repeated.effect_) < share * 0.035


def test_defaults_follow_the_number_of_covariates(rng):
    X = rng.normal(size=(200, 3))
    t = (rng.random(200) < 0.5).astype(int)
    y = rng.normal(size=200)
    two, three = (effect().fit(X[:, :d], y, treatment=t) for d in (2, 3))
    assert (two.method_, two.marginal_, two.cut_) == ("kernel", False, "random")
    assert two.bandwidth_ == pytest.approx(200**-0.5)
    assert (three.method_, three.marginal_, three.cut_) == ("projection", True, "midpoint")
    assert not hasattr(three, "bandwidth_")
    identity = effect(gram="identity").fit(X, y, treatment=t)
    assert identity.cut_ == "random"


def test_external_rows_teach_the_map(study, rng):
    X, y, t = study
    reference = X[t == 0] + 1e-9
    own = effect(cut="midpoint").fit(X, y, treatment=t)
    other = effect(cut="midpoint").fit(X, y, treatment=t, X_reference=reference)
    assert_allclose(other.effect_, own.effect_, rtol=0.02)
    many = rng.normal(size=(5000, 2)) - [0.25, 0]
    learned = effect(method="kernel").fit(X, y, treatment=t, X_reference=(many,))
    assert abs(learned.effect_ - own.effect_) < 0.5
    with pytest.raises(ValueError, match=r"X_reference stands for one arm.*ATE"):
        effect(estimand="ATE").fit(X, y, treatment=t, X_reference=many)
    with pytest.raises(ValueError, match="X_reference has 1 row"):
        effect().fit(X, y, treatment=t, X_reference=many[:1])


@pytest.mark.parametrize("method", ["kernel", "projection"])
def test_binary_covariate_is_stratified(method):
    rng = np.random.default_rng(3)
    x = rng.integers(0, 2, size=3000)
    t = (rng.random(3000) < 0.2 + 0.5 * x).astype(int)
    y = 2.0 * x + t + rng.normal(size=3000)
    strata = (
        sum(arm_difference(y[x == k], t[x == k]) * ((x == k) & (t == 1)).sum() for k in (0, 1))
        / t.sum()
    )
    fit = effect(method=method, degree=1).fit(x[:, None].astype(float), y, treatment=t)
    # The projection is exact; the kernel blurs the border of the strata by one bandwidth.
    tolerance = 1e-9 if method == "projection" else 0.02
    assert abs(fit.effect_ - strata) < tolerance


def test_bootstrap_intervals_and_table(study):
    X, y, t = study
    fit = UniformTransformerEffect(method="projection", n_resamples=200, random_state=0)
    fit.fit(X, y, treatment=t)
    assert fit.effect_draws_.shape == (200,)
    assert fit.stderr_ == fit.effect_draws_.std(ddof=1)
    assert fit.n_failed_resamples_ == 0
    assert_allclose(fit.confint(0.9), [np.quantile(fit.effect_draws_, [0.05, 0.95])])
    table = fit.summary(0.9)
    assert list(table.columns) == ["estimate", "stderr", "z", "p_value", "lower", "upper"]
    assert table.index.tolist() == ["y"]
    row = table.iloc[0]
    assert row["estimate"] == fit.effect_
    assert row["z"] == fit.effect_ / fit.stderr_
    assert_allclose(row["p_value"], 2 * norm.sf(abs(row["z"])))
    assert_allclose([row["lower"], row["upper"]], fit.confint(0.9)[0])
    assert table.attrs == {"estimand": "ATT", "inference": "bootstrap", "confidence_level": 0.9}


def test_bootstrap_error_of_randomised_arms_is_that_of_regression_adjustment():
    rng = np.random.default_rng(4)
    X = rng.normal(size=(1500, 1))
    t = rng.integers(0, 2, size=1500)
    y = 3 * X[:, 0] + rng.normal(size=1500)
    fit = UniformTransformerEffect(method="projection", degree=3, n_resamples=300, random_state=0)
    fit.fit(X, y, treatment=t)
    # The covariate is adjusted for up to the cubic's misfit of a normal quantile.
    noise = np.sqrt(sum(1 / (t == arm).sum() for arm in (0, 1)))
    naive = np.sqrt(sum(y[t == arm].var() / (t == arm).sum() for arm in (0, 1)))
    assert 0.85 * noise < fit.stderr_ < 1.5 * noise < naive


@pytest.mark.parametrize("method", ["kernel", "projection"])
def test_number_of_jobs_changes_no_bit(study, method):
    X, y, t = study
    fits = [
        UniformTransformerEffect(
            method=method, cut="random", n_resamples=6, n_jobs=n_jobs, random_state=3
        ).fit(X, y, treatment=t)
        for n_jobs in (None, 2)
    ]
    assert fits[0].effect_ == fits[1].effect_
    assert_array_equal(fits[0].effect_draws_, fits[1].effect_draws_)


def test_random_state_reproduces(study):
    X, y, t = study
    one, same, other = (
        UniformTransformerEffect(n_resamples=4, random_state=r).fit(X, y, treatment=t)
        for r in (0, 0, 1)
    )
    assert one.effect_ == same.effect_ != other.effect_
    assert_array_equal(one.effect_draws_, same.effect_draws_)


def test_groups_are_resampled_together(study):
    X, y, t = study
    index = np.tile(np.arange(240), 2)
    fit = UniformTransformerEffect(method="projection", n_resamples=200, random_state=0)
    copies = clone(fit).fit(X[index], y[index], treatment=t[index], groups=index)
    alone = clone(fit).fit(X, y, treatment=t)
    # Two copies of each row know no more than one.
    assert_allclose(copies.stderr_, alone.stderr_, rtol=0.05)
    split = clone(fit).fit(X[index], y[index], treatment=t[index])
    assert_allclose(split.stderr_, alone.stderr_ / np.sqrt(2), rtol=0.25)
    with pytest.warns(WeightWarning, match="groups has 4 values"):
        clone(fit).set_params(n_resamples=2).fit(X, y, treatment=t, groups=np.arange(240) % 4)


def test_several_outcomes_give_several_effects(study):
    X, y, t = study
    frame = pd.DataFrame({"pain": y, "cost": -2 * y})
    fit = UniformTransformerEffect(n_resamples=5, random_state=0).fit(X, frame, treatment=t)
    single = UniformTransformerEffect(n_resamples=5, random_state=0).fit(X, y, treatment=t)
    assert_allclose(fit.effect_, [single.effect_, -2 * single.effect_])
    assert_allclose(fit.stderr_, [single.stderr_, 2 * single.stderr_])
    assert fit.potential_means_.shape == (2, 2)
    assert fit.effect_draws_.shape == (5, 2)
    assert fit.confint().shape == (2, 2)
    assert fit.summary().index.tolist() == ["pain", "cost"]


@pytest.mark.parametrize("library", [pd, pl])
def test_frames_labels_and_two_columns_give_the_same(study, library):
    X, y, t = study
    frame = library.DataFrame({"age": X[:, 0], "income": X[:, 1]})
    words = np.where(t == 1, "drug", "control")
    expected = effect().fit(X, y, treatment=t)
    fit = effect().fit(frame, library.Series(y), treatment=library.Series(words))
    assert fit.effect_ == expected.effect_
    assert list(fit.feature_names_in_) == ["age", "income"]
    assert fit.classes_.tolist() == ["control", "drug"]
    both = effect().fit(X, np.column_stack([y, t]))
    assert both.effect_ == expected.effect_
    mixed = effect().fit(X, library.DataFrame({"gain": y, "arm": words}))
    assert mixed.effect_ == expected.effect_
    assert mixed.outcome_names_ == ["gain"]


def test_clone_pickle_and_a_later_fit(study):
    X, y, t = study
    fit = UniformTransformerEffect(n_resamples=5, random_state=0).fit(X, y, treatment=t)
    copy = pickle.loads(pickle.dumps(fit))
    assert_array_equal(copy.confint(), fit.confint())
    assert clone(fit).get_params() == fit.get_params()
    assert not hasattr(clone(fit), "effect_")
    assert hasattr(fit, "bandwidth_")
    fit.set_params(method="projection", n_resamples=None).fit(X, y, treatment=t)
    for name in ("stderr_", "effect_draws_", "bandwidth_", "n_failed_resamples_"):
        assert not hasattr(fit, name)
    with pytest.raises(ValueError, match=r"n_resamples=None leaves the error.*unknown"):
        fit.confint()
    with pytest.raises(NotFittedError):
        clone(fit).summary()


def test_treatment_is_routed(study):
    X, y, t = study
    with config_context(enable_metadata_routing=True):
        result = cross_validate(
            effect(method="projection"),
            X,
            y,
            params={"treatment": t},
            cv=3,
            scoring=lambda estimator, X, y: estimator.effect_,
        )
    assert np.isfinite(result["test_score"]).all()


def test_polynomials_that_cannot_be_balanced_are_named(rng):
    X = pd.DataFrame(rng.normal(size=(40, 6)), columns=list("abcdef"))
    t = np.arange(40) % 2
    y = rng.normal(size=40)
    message = "20 control rows cannot balance the 28 functions"
    with pytest.raises(InfeasibleError, match=message) as caught:
        effect().fit(X, y, treatment=t)
    assert set(caught.value.worst_column.replace("^2", "").split()) <= set("abcdef")
    with pytest.warns(WeightWarning, match="off balance by"):
        relaxed = effect(on_infeasible="relax").fit(X, y, treatment=t)
    assert relaxed.max_imbalance_ > 1e-3
    assert_allclose(relaxed.raw_weights_[t == 0].mean(), 1)
    feasible = effect(interactions=False).fit(X, y, treatment=t)
    assert feasible.max_imbalance_ < 1e-10


@pytest.mark.parametrize("small", [0, 1])
def test_worst_balance_is_that_of_the_worse_arm(rng, small):
    X, y = rng.normal(size=(200, 6)), rng.normal(size=200)
    t = np.where(np.arange(200) % 10 == 0, small, 1 - small)
    with pytest.warns(WeightWarning, match="off balance by"):
        fit = effect(estimand="ATE", on_infeasible="relax").fit(X, y, treatment=t)
    assert fit.max_imbalance_ > 1e-2


def test_relaxed_weights_come_closest_in_the_sum_of_squares(rng):
    features = np.column_stack([np.ones(5), rng.normal(size=(5, 8))])
    goal = np.append(1.0, rng.normal(size=8))
    result = least_squares_weights(features, np.ones(5), goal)
    assert result.weights.sum() == pytest.approx(1)
    for _ in range(20):
        step = rng.normal(size=5)
        moved = features.T @ (result.weights + 1e-3 * (step - step.mean())) - goal
        assert (moved**2).sum() >= (result.imbalance**2).sum()


def test_column_that_is_constant_in_one_arm_is_named(study):
    X, y, t = study
    frame = pd.DataFrame({"x": X[:, 0], "z": X[:, 1] * t})
    with pytest.raises(InfeasibleError, match=r"columns \['z'\] are constant among the control"):
        effect().fit(frame, y, treatment=t)
    with pytest.raises(InfeasibleError, match=r"columns \['z'\] are constant among the control"):
        effect(estimand="ATE").fit(frame, y, treatment=t)
    with pytest.warns(WeightWarning, match=r"treated rows lie outside the range of the control"):
        effect(on_infeasible="relax").fit(frame, y, treatment=t)
    # The treated vary where the controls are, so the controls can be the target.
    assert np.isfinite(effect(estimand="ATC").fit(frame, y, treatment=t).effect_)


def test_column_that_is_constant_everywhere_changes_nothing(study):
    X, y, t = study
    padded = np.column_stack([X, np.ones(240)])
    for method in ("kernel", "projection"):
        plain = effect(method=method, cut="midpoint").fit(X, y, treatment=t)
        fit = effect(method=method, cut="midpoint").fit(padded, y, treatment=t)
        assert_allclose(fit.effect_, plain.effect_, rtol=1e-9)


def test_poor_overlap_and_few_effective_rows_are_said(study):
    X, y, t = study
    shifted = X + np.outer(t, [2.5, 0.0])
    with pytest.warns(WeightWarning, match=r"of the treated rows lie outside the range of the con"):
        effect().fit(shifted, y, treatment=t)
    with pytest.warns(WeightWarning, match="effective sample size of .* of the control rows"):
        effect(bandwidth=0.01).fit(shifted, y, treatment=t)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        effect().fit(X, y, treatment=np.arange(240) % 2)


def test_empty_neighbourhoods_raise_instead_of_giving_zero(study):
    X, y, t = study
    fit = effect(kernel="uniform", bandwidth=1e-9, cut="random")
    with pytest.raises(ValueError, match=r"control rows sum to 0, which no mean.*widen bandwidth"):
        fit.fit(X, y, treatment=t)


def test_coarse_joint_maps_are_said_or_refused(rng):
    X, y, t = rng.normal(size=(60, 13)), rng.normal(size=60), np.arange(60) % 2
    with pytest.raises(ValueError, match=r"13 columns.*at most 12.*marginal=True"):
        effect(method="kernel").fit(X, y, treatment=t)
    with pytest.raises(ValueError, match=r"joint map of 5 columns needs at least 32.*are 30 contr"):
        effect(method="kernel").fit(X[:, :5], y, treatment=t)
    with pytest.warns(WeightWarning, match="3 columns the joint map has only 3 bins"):
        effect(method="kernel").fit(X[:, :3], y, treatment=t)


BAD_PARAMETERS = [
    ({"estimand": "LATE"}, "'estimand' parameter of UniformTransformerEffect"),
    ({"estimand": "ATO"}, "'estimand' parameter of UniformTransformerEffect"),
    ({"method": "matching"}, "'method' parameter"),
    ({"kernel": "gaussian"}, "'kernel' parameter"),
    ({"bandwidth": 0.0}, "'bandwidth' parameter"),
    ({"degree": 0}, "'degree' parameter"),
    ({"gram": "none"}, "'gram' parameter"),
    ({"n_resamples": 1}, "'n_resamples' parameter"),
]


@pytest.mark.parametrize(("parameters", "message"), BAD_PARAMETERS)
def test_bad_parameters_are_named(study, parameters, message):
    X, y, t = study
    with pytest.raises(ValueError, match=message):
        effect(**parameters).fit(X, y, treatment=t)


BAD_DATA = [
    ({"treatment": None}, "treatment is required, but y has shape"),
    ({"y": None}, "requires y to be passed"),
    ({"treatment": np.zeros(240)}, "exactly two values, got one class"),
    ({"treatment": np.arange(240) % 3}, r"exactly two values, got \[0, 1, 2\]"),
    ({"treatment": np.arange(240) == 0}, "has 1 row with value"),
    ({"y": np.full(240, np.nan)}, "Input y contains NaN"),
    ({"y": np.full(240, "a")}, "could not convert string"),
    ({"y": np.zeros(239)}, "inconsistent numbers of samples"),
    ({"y": np.zeros((240, 2, 2))}, r"y has shape \(240, 2, 2\)"),
    ({"X": np.full((240, 2), np.inf)}, "240 rows|contains inf"),
    ({"sample_weight": np.zeros(240)}, "zero in every row"),
    ({"sample_weight": -np.ones(240)}, "Negative values"),
    ({"sample_weight": np.ones(3)}, "3 entries but there are 240 rows"),
    ({"groups": np.ones(3)}, "240 rows"),
]


@pytest.mark.parametrize(("changes", "message"), BAD_DATA)
def test_bad_data_are_named(study, changes, message):
    X, y, t = study
    with pytest.raises(ValueError, match=message):
        effect().fit(**{"X": X, "y": y, "treatment": t, **changes})


def test_an_arm_without_weight_is_named(study):
    X, y, t = study
    with pytest.raises(ValueError, match="sample_weight is zero in all control rows"):
        effect().fit(X, y, treatment=t, sample_weight=t.astype(float))


def test_confidence_level_is_checked(study):
    X, y, t = study
    fit = UniformTransformerEffect(n_resamples=3, random_state=0).fit(X, y, treatment=t)
    with pytest.raises(ValueError, match="confidence_level is 95"):
        fit.confint(95)


def one_study(seed, method, d):
    """Whether the interval of one simulated study covers the effect, and how far off it is."""
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(400, d))
    t = (rng.random(400) < expit(0.6 * X[:, 0] - 0.3)).astype(int)
    y = X[:, 0] + 0.5 * X[:, -1] ** 2 + t + rng.normal(size=400)
    fit = UniformTransformerEffect(method=method, n_resamples=199, random_state=seed)
    lower, upper = fit.fit(X, y, treatment=t).confint()[0]
    return lower <= 1 <= upper, fit.effect_, fit.stderr_


@pytest.mark.slow
@pytest.mark.parametrize(("method", "d"), [("projection", 3), ("kernel", 1)])
def test_intervals_cover(method, d):
    covered, effects, stderr = np.array([one_study(seed, method, d) for seed in range(300)]).T
    # Three standard errors of a share of 300; kernel intervals are known to be too long.
    error = 3 * np.sqrt(0.95 * 0.05 / 300)
    assert covered.mean() > 0.95 - error
    if method == "projection":
        assert covered.mean() < 0.95 + error
    # The Monte-Carlo error of a standard deviation of 300 is 4 %.
    assert stderr.mean() > 0.88 * effects.std()

"""Facts about effects of switches over settings: closed forms, invariances, power and level."""

import pickle
import warnings

import numpy as np
import pandas as pd
import polars as pl
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy.stats import chi2, kstest
from sklearn.base import clone
from sklearn.linear_model import LinearRegression, Ridge
from statsmodels.api import WLS

from reweight import LocalSurrogateSensitivity

FIGURES = ("influence", "consistency", "reliability", "sensitivity", "tau2", "q_pvalue")


def draw(rng, n=60, a=4, k=3):
    X = rng.integers(0, 2, size=(n * k, a)).astype(float)
    groups = np.repeat(np.arange(k), n)
    y = 0.5 + X @ np.linspace(-0.1, 0.2, a) + 0.02 * rng.normal(size=n * k)
    return X, y, groups


def one_setting(**parameters):
    return LocalSurrogateSensitivity(**parameters)


def test_one_setting_is_a_weighted_linear_regression(rng):
    X, y, _ = draw(rng)
    w = rng.uniform(0.5, 2.0, size=len(y))
    with pytest.warns(UserWarning, match="one setting, so that tau2_ and q_pvalue_ are NaN"):
        model = one_setting().fit(X, y, sample_weight=w)
    plain = LinearRegression().fit(X, y, sample_weight=w)
    assert_allclose(model.coef_[0], plain.coef_, atol=1e-10)
    assert_allclose(model.intercept_[0], plain.intercept_, atol=1e-10)
    assert_allclose(model.predict(X), plain.predict(X), atol=1e-10)
    assert_array_equal(model.consistency_, 1.0)
    assert_array_equal(model.sensitivity_, 0.0)
    assert np.isnan(model.q_pvalue_).all()
    assert np.isnan(model.tau2_).all()


def test_a_ridge_is_scikit_learns(rng):
    X, y, groups = draw(rng)
    w = rng.uniform(0.5, 2.0, size=len(y))
    model = LocalSurrogateSensitivity(alpha=3.0).fit(X, y, groups=groups, sample_weight=w)
    for k, coef in enumerate(model.coef_):
        rows = groups == k
        peer = Ridge(alpha=3.0).fit(X[rows], y[rows], sample_weight=w[rows])
        assert_allclose(coef, peer.coef_, atol=1e-10)
        assert_allclose(model.intercept_[k], peer.intercept_, atol=1e-10)


@pytest.mark.parametrize("cov_type", ["nonrobust", "HC0", "HC1", "HC2", "HC3"])
def test_standard_errors_are_those_of_statsmodels(cov_type, rng):
    X, y, groups = draw(rng)
    w = rng.uniform(0.5, 2.0, size=len(y))
    model = LocalSurrogateSensitivity(cov_type=cov_type)
    model.fit(X, y, groups=groups, sample_weight=w)
    for k in range(3):
        rows = groups == k
        H = np.column_stack([np.ones(rows.sum()), X[rows]])
        peer = WLS(y[rows], H, weights=w[rows]).fit(cov_type=cov_type)
        assert_allclose(model.stderr_[k], peer.bse[1:], rtol=1e-8)


def test_in_a_full_factorial_coefficients_are_differences_of_means(rng):
    design = np.array(np.meshgrid(*[[0, 1]] * 4)).reshape(4, -1).T.astype(float)
    X = np.tile(design, (4, 1))
    groups = np.repeat(["a", "b"], 32)
    y = rng.normal(size=64)
    model = LocalSurrogateSensitivity().fit(X, y, groups=groups)
    for k, label in enumerate(["a", "b"]):
        rows = groups == label
        for j in range(4):
            on, off = (y[rows & (X[:, j] == value)].mean() for value in (1, 0))
            assert_allclose(model.coef_[k, j], on - off, atol=1e-12)


def test_figures_follow_their_definitions(rng):
    X, y, groups = draw(rng)
    model = LocalSurrogateSensitivity().fit(X, y, groups=groups)
    B, V = model.coef_, model.stderr_**2
    mean = B.mean(axis=0)
    assert_allclose(model.influence_, np.abs(mean))
    assert_allclose(model.consistency_, np.abs(np.sign(B).sum(axis=0)) / 3)
    assert_allclose(model.reliability_, model.influence_ * model.consistency_)
    assert_allclose(model.sensitivity_, B.std(axis=0))
    expected = np.maximum(B.var(axis=0, ddof=1) - V.mean(axis=0), 0)
    assert_allclose(model.tau2_, expected, atol=1e-16)
    pooled = np.average(B, axis=0, weights=1 / V)
    Q = ((B - pooled) ** 2 / V).sum(axis=0)
    assert_allclose(model.q_statistic_, Q)
    assert_allclose(model.q_pvalue_, chi2.sf(Q, 2))


def test_a_constant_added_in_one_setting_moves_only_its_intercept(rng):
    X, y, groups = draw(rng)
    plain = LocalSurrogateSensitivity().fit(X, y, groups=groups)
    moved = LocalSurrogateSensitivity().fit(X, y + 10 * (groups == 1), groups=groups)
    assert_allclose(moved.coef_, plain.coef_, atol=1e-12)
    assert_allclose(moved.intercept_ - plain.intercept_, [0, 10, 0], atol=1e-12)


def test_the_scale_of_the_score_scales_what_it_should(rng):
    X, y, groups = draw(rng)
    plain = LocalSurrogateSensitivity().fit(X, y, groups=groups)
    scaled = LocalSurrogateSensitivity().fit(X, -4 * y, groups=groups)
    for figure in ("influence_", "reliability_", "sensitivity_"):
        assert_allclose(getattr(scaled, figure), 4 * getattr(plain, figure))
    assert_allclose(scaled.consistency_, plain.consistency_)
    assert_allclose(scaled.q_pvalue_, plain.q_pvalue_, rtol=1e-8)


def test_p_values_are_uniform_where_nothing_depends_on_the_setting():
    p_values = []
    for seed in range(250):
        rng = np.random.default_rng(seed)
        X = rng.integers(0, 2, size=(240, 5)).astype(float)
        y = X @ [0.1, 0.2, 0.0, 0.0, -0.1] + rng.normal(size=240)
        model = LocalSurrogateSensitivity(cov_type="nonrobust")
        model.fit(X, y, groups=np.repeat(np.arange(4), 60))
        p_values.append(model.q_pvalue_[seed % 5])
    assert kstest(p_values, "uniform").pvalue > 1e-3


def test_sensitive_switches_are_found_among_many():
    found = 0
    for seed in range(60):
        rng = np.random.default_rng(seed)
        X = rng.integers(0, 2, size=(256, 9)).astype(float)
        groups = np.repeat(np.arange(4), 64)
        effect = np.tile(rng.normal(scale=0.02, size=9), (4, 1))
        effect[:, :3] += rng.normal(scale=0.02, size=(4, 3))
        y = 0.9 + (X * effect[groups]).sum(axis=1) + 0.01 * rng.normal(size=256)
        model = LocalSurrogateSensitivity().fit(X, y, groups=groups)
        found += set(model.ranking(by="q_pvalue")[:3]) == {"x0", "x1", "x2"}
    assert found > 0.95 * 60


def test_near_runs_count_around_a_reference_point(rng):
    X = rng.integers(0, 2, size=(300, 3)).astype(float)
    U = rng.uniform(-1, 1, size=(300, 2)) * [1.0, 50.0]
    y = X[:, 0] * U[:, 0] + 0.01 * rng.normal(size=300)
    reference = np.array([[-0.8, 0.0], [0.8, 0.0]])
    with pytest.warns(UserWarning, match="reference points share runs"):
        model = LocalSurrogateSensitivity().fit(X, y, hyperparameters=U, reference=reference)
    assert model.coef_[0, 0] < -0.2
    assert model.coef_[1, 0] > 0.2
    assert model.consistency_[0] == 0
    assert model.ranking(by="sensitivity")[0] == "x0"
    # LIME's kernel by hand.
    d2 = (((U - reference[1]) / U.std(axis=0)) ** 2).sum(axis=1)
    w = np.exp(-d2 / (0.75 * np.sqrt(2)) ** 2)
    by_hand = LinearRegression().fit(X, y, sample_weight=w)
    assert_allclose(model.coef_[1], by_hand.coef_, atol=1e-10)
    assert_allclose(model.predict(X, groups=np.ones(300, int)), by_hand.predict(X), atol=1e-10)


def test_one_hyperparameter_needs_no_second_axis(rng):
    X, y, _ = draw(rng)
    u = rng.normal(size=len(y))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        flat = LocalSurrogateSensitivity().fit(X, y, hyperparameters=u, reference=[-1, 1])
        full = LocalSurrogateSensitivity()
        full.fit(X, y, hyperparameters=u[:, None], reference=[[-1], [1]])
    assert_array_equal(flat.coef_, full.coef_)
    with pytest.raises(ValueError, match="0 runs within the bandwidth of reference point 1 for"):
        LocalSurrogateSensitivity(bandwidth=0.1).fit(
            X, y, hyperparameters=u, reference=[0.0, 500.0]
        )


def test_without_a_bandwidth_to_speak_of_all_runs_count_alike(rng):
    X, y, _ = draw(rng)
    U = rng.normal(size=(len(y), 1))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        model = LocalSurrogateSensitivity(bandwidth=np.inf).fit(X, y, hyperparameters=U)
    assert_allclose(model.coef_[0], LinearRegression().fit(X, y).coef_, atol=1e-10)
    assert_allclose(model.reference_, U.mean(axis=0)[None])


def test_standardised_coefficients_are_per_standard_deviation(rng):
    X, y, groups = draw(rng)
    X = X * [1.0, 10.0, 0.1, 2.0]
    plain = LocalSurrogateSensitivity().fit(X, y, groups=groups)
    standard = LocalSurrogateSensitivity(standardize=True).fit(X, y, groups=groups)
    assert_allclose(standard.coef_, plain.coef_ * X.std(axis=0), rtol=1e-8)
    assert_allclose(standard.q_pvalue_, plain.q_pvalue_, rtol=1e-6)
    assert_allclose(standard.predict(X, groups), plain.predict(X, groups), atol=1e-10)


@pytest.mark.parametrize("library", ["pandas", "polars"])
def test_frames_keep_names_in_all_that_is_said(library, rng):
    X, y, groups = draw(rng)
    names = ["flip", "crop", "blur", "invert"]
    frame = pd.DataFrame(X, columns=names) if library == "pandas" else pl.DataFrame(X, schema=names)
    model = LocalSurrogateSensitivity().fit(frame, y, groups=np.array(["a", "b", "c"])[groups])
    assert_array_equal(model.groups_, ["a", "b", "c"])
    table = model.to_frame()
    assert list(table.index) == names
    assert list(table) == ["coef", *FIGURES[:5], "q_statistic", "q_pvalue"]
    assert_allclose(table["coef"], model.coef_.mean(axis=0))
    for by in FIGURES:
        order = model.ranking(by)
        assert sorted(order) == sorted(names)
        assert list(table[by][order]) == sorted(table[by], reverse=by != "q_pvalue")


def test_clone_and_pickle(rng):
    X, y, groups = draw(rng)
    model = LocalSurrogateSensitivity(alpha=0.5).fit(X, y, groups=groups)
    copy = pickle.loads(pickle.dumps(model))
    assert_array_equal(copy.predict(X, groups), model.predict(X, groups))
    assert not hasattr(clone(model), "coef_")


def test_predictions_average_settings_unless_told_which(rng):
    X, y, groups = draw(rng)
    model = LocalSurrogateSensitivity().fit(X, y, groups=groups)
    each = np.array([model.predict(X, np.full(len(X), k)) for k in range(3)])
    assert_allclose(model.predict(X), each.mean(axis=0))
    assert_array_equal(model.predict(X, 2), each[2])
    with pytest.raises(ValueError, match=r"no run was in the settings \['9'\]"):
        model.predict(X, np.full(len(X), 9))


def broken(rng, change):
    X, y, groups = draw(rng)
    names = ["flip", "crop", "blur", "invert"]
    arguments = {"X": X, "y": y, "groups": groups}
    change(arguments)
    return {**arguments, "X": pd.DataFrame(arguments["X"], columns=names)}


def keep(arguments, rows):
    for name in arguments:
        arguments[name] = arguments[name][rows]


BAD = [
    (lambda a: keep(a, np.r_[0:65, 120:180]), "n_samples=5 runs in the setting 1 for 4 switches"),
    (
        lambda a: a["X"].__setitem__((slice(60), 2), 1.0),
        r"switches \['blur'\] do not vary in the setting 0",
    ),
    (
        lambda a: a["X"].__setitem__((slice(60), 2), 1 - a["X"][:60, 1]),
        "'crop' and 'blur' vary together",
    ),
    (
        lambda a: a["X"].__setitem__((slice(60), 3), a["X"][:60, :3].sum(axis=1)),
        "one switch is a combination of others",
    ),
    (lambda a: a["X"].__setitem__((0, 0), np.nan), "NaN"),
    (lambda a: a["y"].__setitem__(0, np.inf), "Input y contains infinity"),
    (lambda a: a.update(y=None), "requires y"),
    (lambda a: a.update(hyperparameters=a["X"]), "pass one"),
    (lambda a: a.update(groups=None, hyperparameters=["low"]), "hyperparameters is not numeric"),
    (lambda a: a.update(reference=[0.0]), "reference needs hyperparameters"),
    (
        lambda a: a.update(groups=None, hyperparameters=a["X"], reference=[0.0]),
        r"reference has shape \(1, 1\) but there are 4 hyperparameters",
    ),
]


@pytest.mark.parametrize(("change", "message"), BAD, ids=[bad[1] for bad in BAD])
def test_runs_that_cannot_be_used_are_refused_by_name(change, message, rng):
    with pytest.raises(ValueError, match=message):
        LocalSurrogateSensitivity().fit(**broken(rng, change))


def test_a_run_that_is_fitted_exactly_is_said(rng):
    X, y, groups = draw(rng)
    X[:60, 0] = 0.0
    X[7, 0] = 1.0
    with pytest.raises(ValueError, match="in the setting 0: run 7 of it is fitted exactly"):
        LocalSurrogateSensitivity().fit(X, y, groups=groups)
    LocalSurrogateSensitivity(cov_type="HC1").fit(X, y, groups=groups)


def test_figures_that_do_not_exist_are_refused(rng):
    X, y, groups = draw(rng)
    with pytest.raises(ValueError, match="by='luck' is not one of"):
        LocalSurrogateSensitivity().fit(X, y, groups=groups).ranking("luck")

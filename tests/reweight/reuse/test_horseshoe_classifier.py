"""Facts about the sparse multinomial classifier: what draws mean, and who may use them."""

import pickle
import warnings

import numpy as np
import pandas as pd
import polars as pl
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss
from sklearn.model_selection import GridSearchCV, cross_validate
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from reweight import HorseshoeMultinomialClassifier
from reweight.exceptions import ConvergenceError, WeightWarning

SMALL = {
    "draws": 100,
    "tune": 150,
    "chains": 2,
    "cores": 1,
    "sampler": "nutpie",
    "target_accept": 0.85,
    "on_nonconvergence": "ignore",
    "random_state": 0,
}


def classifier(**changes):
    return HorseshoeMultinomialClassifier(**{**SMALL, **changes})


def draw(rng, n=150, n_groups=4):
    X = rng.normal([10.0, -5.0, 0.0], [2.0, 1.0, 0.1], (n, 3))
    Z = (X - [10.0, -5.0, 0.0]) / [2.0, 1.0, 0.1]
    groups = np.repeat(["b", "a", "d", "c"][:n_groups], -(-n // n_groups))[:n]
    shift = {"a": -1.0, "b": 1.0, "c": 0.0, "d": 0.5}
    eta = np.c_[1.5 * Z[:, 0] + [shift[g] for g in groups], 0.3 * Z[:, 0], np.zeros(n)]
    y = np.array(["fair", "good", "bad"])[(eta + rng.gumbel(size=eta.shape)).argmax(axis=1)]
    return X, y, groups


@pytest.fixture(scope="module")
def problem():
    return draw(np.random.default_rng(5))


@pytest.fixture(scope="module")
def fitted(problem):
    X, y, groups = problem
    return classifier().fit(X, y, groups=groups)


def test_probabilities_are_averages_of_draws_and_intervals_are_their_quantiles(problem, fitted):
    X, _, groups = problem
    draws = fitted.predict_proba_draws(X[:7], groups=groups[:7])
    assert draws.shape == (200, 7, 3)
    assert draws.min() >= 0
    assert draws.max() <= 1
    assert_allclose(draws.sum(axis=2), 1, atol=1e-12)
    assert_allclose(fitted.predict_proba(X[:7], groups=groups[:7]), draws.mean(axis=0))
    interval = fitted.predict_proba_interval(X[:7], groups=groups[:7], confidence_level=0.8)
    assert_allclose(np.moveaxis(interval, 2, 0), np.quantile(draws, [0.1, 0.9], axis=0))
    assert fitted.predict_proba_draws(X[:7], groups=groups[:7], max_draws=20).shape[0] == 20


def test_coefficients_in_units_of_the_features_give_the_same_probabilities(problem, fitted):
    X, _, groups = problem
    codes = np.searchsorted(fitted.groups_, groups)
    eta = fitted.intercept_draws_[:, None] + X @ np.swapaxes(fitted.coef_draws_, 1, 2)
    eta += fitted.idata_.posterior["u"].to_numpy().reshape(200, 4, 2)[:, codes]
    eta = np.concatenate([eta, np.zeros((200, len(X), 1))], axis=2)
    P = np.exp(eta) / np.exp(eta).sum(axis=2, keepdims=True)
    assert_allclose(fitted.predict_proba(X, groups=groups), P.mean(axis=0), rtol=1e-9)
    assert fitted.coef_.shape == (2, 3)
    assert_allclose(fitted.intercept_, fitted.intercept_draws_.mean(axis=0))


def test_active_feature_and_groups_are_found(fitted):
    assert_array_equal(fitted.classes_, ["bad", "fair", "good"])
    assert_array_equal(fitted.groups_, ["a", "b", "c", "d"])
    strength = np.abs(fitted.coef_ * fitted.x_scale_).max(axis=0)
    assert strength[0] > 4 * strength[1:].max()
    # Labels in sorted order: "fair" is more common in group b than in group a.
    assert fitted.group_effects_[1, 1] > fitted.group_effects_[0, 1]


def test_large_data_do_not_change_an_answer(problem, fitted, monkeypatch):
    X, _, groups = problem
    whole = fitted.predict_proba(X, groups=groups)
    monkeypatch.setattr("reweight.reuse._prediction.CHUNK_NUMBERS", 5000)
    assert_array_equal(fitted.predict_proba(X, groups=groups), whole)


def test_same_seed_gives_the_same_draws_for_any_number_of_cores(problem):
    X, y, _ = problem
    alone, shared, other = (
        classifier(cores=cores, random_state=seed, draws=20, tune=20).fit(X, y).coef_draws_
        for cores, seed in ((1, 3), (2, 3), (1, 4))
    )
    assert_array_equal(alone, shared)
    assert not np.array_equal(alone, other)


def test_counts_are_repeated_rows_and_order_does_not_matter(problem, rng):
    X, y, groups = problem
    counts = rng.integers(0, 3, len(y))
    model = classifier(draws=20, tune=20)
    weighted = model.fit(X, y, groups=groups, sample_weight=counts).coef_draws_
    rows = rng.permutation(np.repeat(np.arange(len(y)), counts))
    repeated = clone(model).fit(X[rows], y[rows], groups=groups[rows]).coef_draws_
    assert_array_equal(weighted, repeated)
    with pytest.warns(WeightWarning, match="pseudo-posterior"):
        model.fit(X, y, sample_weight=counts + 0.5)


def test_frames_clone_and_pickle(problem, fitted):
    X, y, groups = problem
    frame = pd.DataFrame(X, columns=["a", "b", "c"])
    model = classifier(draws=20, tune=20).fit(frame, y, groups=groups)
    assert list(model.feature_names_in_) == ["a", "b", "c"]
    assert list(model.idata_.posterior["feature"].to_numpy()) == ["a", "b", "c"]
    other = clone(model).fit(pl.DataFrame(frame), y, groups=groups)
    assert_array_equal(other.coef_draws_, model.coef_draws_)
    copy = pickle.loads(pickle.dumps(fitted))
    assert_array_equal(copy.predict_proba(X, groups=groups), fitted.predict_proba(X, groups=groups))


@pytest.mark.parametrize("column", [-1, "site"])
def test_groups_may_be_a_column(column, problem):
    X, y, groups = problem
    model = classifier(draws=20, tune=20)
    expected = model.fit(X, y, groups=groups).predict_proba(X, groups=groups)
    data = pd.DataFrame(X, columns=["a", "b", "c"])
    data["site"] = groups
    if column != "site":
        data = data.to_numpy()
    named = clone(model).set_params(groups=column).fit(data, y)
    assert_array_equal(named.predict_proba(data), expected)
    assert named.n_features_in_ == 3
    scores = cross_validate(named, data, y, cv=2, return_estimator=True)
    assert all(len(found.groups_) >= 2 for found in scores["estimator"])


def test_new_groups_are_drawn_set_to_zero_or_refused(problem):
    X, y, groups = problem
    model = classifier().fit(X, y, groups=groups)
    known = model.predict_proba_draws(X[:5], groups=groups[:5])
    sampled = model.predict_proba_draws(X[:5], groups=["new"] * 5)
    assert_array_equal(model.predict_proba_draws(X[:5]), sampled)
    model.set_params(new_groups="zero")
    zero = model.predict_proba_draws(X[:5], groups=["new"] * 5)
    eta = model.intercept_draws_[:, None] + X[:5] @ np.swapaxes(model.coef_draws_, 1, 2)
    expected = np.exp(np.concatenate([eta, np.zeros((200, 5, 1))], axis=2))
    assert_allclose(zero, expected / expected.sum(axis=2, keepdims=True))
    # What is not known about a new group widens what is said about it.
    assert sampled.std(axis=0).mean() > 1.2 * known.std(axis=0).mean()
    model.set_params(new_groups="error")
    with pytest.raises(ValueError, match=r"groups \['new'\] were not seen"):
        model.predict(X[:1], groups=["new"])


def test_a_loss_matrix_moves_decisions_to_the_cheaper_side(problem, fitted):
    X, _, groups = problem
    P = fitted.predict_proba(X, groups=groups)
    loss = np.array([[0.0, 1.0, 50.0], [1.0, 0.0, 1.0], [1.0, 1.0, 0.0]])
    careful = clone(fitted).set_params(loss_matrix=loss).fit(*problem[:2], groups=groups)
    assert_array_equal(careful.predict_proba(X, groups=groups), P)
    expected = fitted.classes_[(P @ loss).argmin(axis=1)]
    assert_array_equal(careful.predict(X, groups=groups), expected)
    plain = fitted.predict(X, groups=groups)
    assert (expected == "good").sum() < (plain == "good").sum()


def test_score_and_log_predictive_density(problem, fitted, rng):
    X, y, groups = problem
    weight = rng.uniform(size=len(y))
    P = fitted.predict_proba(X, groups=groups)
    right = fitted.classes_[P.argmax(axis=1)] == y
    assert_allclose(fitted.score(X, y, weight, groups=groups), np.average(right, weights=weight))
    density = fitted.log_predictive_density(X, y, groups=groups, sample_weight=weight)
    assert_allclose(density, -log_loss(y, P, sample_weight=weight))
    assert_allclose(np.exp(fitted.predict_log_proba(X, groups=groups)), P)


def test_leave_one_out_and_predictive_checks(problem, fitted):
    _, y, groups = problem
    loo = fitted.loo()
    assert len(loo.pareto_k) == len(y)
    likelihood = fitted.idata_.log_likelihood["y"].to_numpy().reshape(200, -1)
    in_sample = np.log(np.exp(likelihood).mean(axis=0)).sum()
    # Rows are predicted worse by the others than by themselves, by about the parameters.
    assert in_sample - 15 < loo.elpd_loo < in_sample
    check = fitted.posterior_predictive_check(draws=100)
    assert_array_equal(check["observed"], [(y == k).sum() for k in fitted.classes_])
    assert_array_equal(check["replicated"].sum(axis=1), len(y))
    assert ((check["p_value"] > 0.02) & (check["p_value"] < 0.98)).all()
    check = fitted.posterior_predictive_check("group_counts", draws=50)
    table = pd.crosstab(groups, y).loc[fitted.groups_, fitted.classes_]
    assert_array_equal(check["observed"], table)
    own = fitted.posterior_predictive_check(lambda y: (y == "good").mean(), draws=50)
    assert_allclose(own["observed"], (y == "good").mean())
    assert own["replicated"].shape == (50,)


def test_options_of_the_prior(rng):
    X, y = rng.normal(size=(80, 4)), rng.integers(0, 3, 80)
    shared = classifier(local_scales="feature", draws=20, tune=20).fit(X, y)
    assert shared.idata_.posterior["lam"].shape == (2, 20, 4, 1)
    symmetric = classifier(reference="none", draws=20, tune=20).fit(X, y)
    assert symmetric.coef_.shape == (3, 4)
    assert_allclose(symmetric.predict_proba(X).sum(axis=1), 1)
    normal = classifier(horseshoe=None, draws=20, tune=20).fit(X, y)
    assert "tau" not in normal.idata_.posterior
    assert np.isnan(normal.tau0_)
    kept = classifier(keep_auxiliary=True, keep_log_likelihood=False, draws=20, tune=20).fit(X, y)
    assert "z" in kept.idata_.posterior
    with pytest.raises(ValueError, match="keep_log_likelihood=True"):
        kept.loo()
    single = classifier(draws=20, tune=20).fit(X[:, :1], y)
    assert np.isnan(single.tau0_)


def test_global_scale_follows_the_expected_number_of_features(rng):
    X, y = rng.normal(size=(60, 5)), np.repeat([0, 1], [15, 45])
    share = (15 + 0.5) / (60 + 1)
    for expected in (1, 4):
        model = classifier(expected_nonzero=expected, draws=10, tune=10).fit(X, y)
        tau0 = expected / (5 - expected) / np.sqrt(60 * share * (1 - share))
        assert_allclose(model.tau0_, tau0)
    assert classifier(tau0=0.3, draws=10, tune=10).fit(X, y).tau0_ == 0.3


def test_separated_classes_have_finite_coefficients(rng):
    X = rng.normal(size=(60, 2))
    y = (X[:, 0] > 0).astype(int)
    model = classifier().fit(X, y)
    assert np.abs(model.coef_ * model.x_scale_).max() < 20
    assert model.score(X, y) > 0.95


def test_four_times_the_data_halve_the_posterior_deviations(rng):
    X = rng.normal(size=(100, 2))
    y = (1.5 * X[:, 0] + rng.logistic(size=100) > 0).astype(int)
    model = classifier(draws=250, tune=200, horseshoe=None)
    once = model.fit(X, y).coef_draws_[:, 0, 0].std()
    four = model.fit(X, y, sample_weight=np.full(100, 4)).coef_draws_[:, 0, 0].std()
    assert 1.5 < once / four < 2.7


@pytest.mark.slow
def test_features_without_effect_are_shrunk(rng):
    X = rng.normal(size=(400, 20))
    eta = 1.5 * X[:, 0] - 1.5 * X[:, 1]
    y = (eta + rng.logistic(size=400) > 0).astype(int)
    model = classifier(expected_nonzero=2, draws=500, tune=500).fit(X, y)
    strength = np.abs(model.coef_draws_[:, 0] * model.x_scale_).mean(axis=0)
    assert strength[2:].mean() < 0.1
    assert strength[:2].min() > 1.0
    assert model.effective_nonzero_ < 8


@pytest.mark.slow
def test_log_loss_on_wine_is_not_behind_ridge_logistic_regression():
    from sklearn.datasets import load_wine

    X, y = load_wine(return_X_y=True)
    ours = classifier(draws=250, tune=250)
    peer = make_pipeline(StandardScaler(), LogisticRegression(C=1.0))
    losses = [
        -cross_validate(model, X, y, cv=5, scoring="neg_log_loss")["test_score"].mean()
        for model in (ours, peer)
    ]
    assert losses[0] < losses[1] + 0.02


def test_it_works_in_pipelines_and_searches(problem):
    X, y, groups = problem
    model = make_pipeline(StandardScaler(), classifier(draws=10, tune=10))
    model.fit(X, y, horseshoemultinomialclassifier__groups=groups)
    frame = pd.DataFrame(X).assign(site=groups).rename(columns=str)
    model = classifier(groups="site", draws=10, tune=10)
    search = GridSearchCV(model, {"expected_nonzero": [1, 2]}, cv=2).fit(frame, y)
    assert_array_equal(search.best_estimator_.groups_, ["a", "b", "c", "d"])


def test_chains_that_disagree_are_never_silent(rng):
    X, y = rng.normal(size=(50, 3)), rng.integers(0, 3, 50)
    model = classifier(draws=10, tune=5, on_nonconvergence="warn")
    with pytest.warns(ConvergenceWarning, match=r"sample size of \w+ is .* raise tune"):
        model.fit(X, y)
    with pytest.raises(ConvergenceError, match="have not converged") as caught:
        model.set_params(on_nonconvergence="raise").fit(X, y)
    assert caught.value.diagnostics == model.diagnostics_
    with warnings.catch_warnings():
        warnings.simplefilter("error", ConvergenceWarning)
        model.set_params(on_nonconvergence="ignore").fit(X, y)


def test_good_chains_pass_the_strict_policy(rng):
    X = rng.normal(size=(100, 2))
    y = (X[:, 0] + rng.logistic(size=100) > 0).astype(int)
    model = classifier(
        draws=600, tune=600, target_accept=0.95, horseshoe=None, on_nonconvergence="raise"
    ).fit(X, y)
    assert model.diagnostics_["max_rhat"] < 1.01
    assert model.diagnostics_["n_divergent"] == 0


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"expected_nonzero": 3}, "expected_nonzero=3 must be below the number of features, 3"),
        ({"loss_matrix": [[0, 1], [1, 0]]}, r"loss_matrix has shape \(2, 2\)"),
        ({"loss_matrix": np.diag([0, 1, np.nan])}, "and 1 entries that are not finite"),
        ({"loss_matrix": [[0, 1], [1]]}, "loss_matrix is not numeric"),
        ({"groups": 7}, "groups=7 is no column of X"),
        ({"groups": "site"}, "groups='site' is no column of X"),
    ],
)
def test_bad_parameters_are_named(parameters, message, problem):
    X, y, _ = problem
    with pytest.raises(ValueError, match=message):
        classifier(**parameters).fit(X, y)


def test_bad_data_are_named(problem, fitted):
    X, y, groups = problem
    with pytest.raises(ValueError, match="one class"):
        classifier().fit(X, np.zeros(len(X)))
    with pytest.raises(ValueError, match="groups has shape"):
        classifier().fit(X, y, groups=groups[:-1])
    with pytest.raises(ValueError, match="groups were passed too"):
        classifier(groups=0).fit(X, y, groups=groups)
    with pytest.raises(ValueError, match="contains NaN"):
        classifier().fit(np.where(X > 13, np.nan, X), y)
    with pytest.raises(ValueError, match="Classifier: y contains 2 missing entries"):
        classifier().fit(X, [None, np.nan, *y[2:]])
    with pytest.raises(ValueError, match=r"loss_matrix has shape \(2, 2\)"):
        classifier(draws=10, tune=10).fit(X, y).set_params(loss_matrix=np.eye(2)).predict(X)
    with pytest.raises(ValueError, match="has not seen"):
        fitted.log_predictive_density(X, np.full(len(X), "best"), groups=groups)
    with pytest.raises(ValueError, match="fitted without"):
        classifier(draws=10, tune=10).fit(X, y).predict(X, groups=groups)
    with pytest.raises(ValueError, match="confidence_level"):
        fitted.predict_proba_interval(X, groups=groups, confidence_level=95)
    with pytest.raises(ValueError, match="max_draws=0"):
        fitted.predict_proba_draws(X, max_draws=0)
    with pytest.raises(ValueError, match="statistic='means'"):
        fitted.posterior_predictive_check("means")


def test_a_column_that_does_not_vary_is_named(problem):
    X, y, _ = problem
    with pytest.warns(UserWarning, match=r"columns \['1'\] of X do not vary"):
        model = classifier(draws=10, tune=10).fit(np.c_[X[:, 0], np.full(len(X), 1 / 3)], y)
    assert model.x_scale_[1] == 1.0

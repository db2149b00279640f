"""Doubly robust averages: closed forms, populations, groups, predictors, and what is refused."""

import pickle

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
from sklearn.linear_model import LinearRegression, LogisticRegression, Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from causal import (
    CBPS,
    CrossFitter,
    EntropyBalancing,
    InteractiveDML,
    PartiallyLinearDML,
    load_lalonde,
    pseudo_outcome,
)
from reweight.exceptions import WeightWarning

ESTIMANDS = ["ATE", "ATT", "ATC", "ATO"]
N = 400


class Study:
    """Rows whose effect is 1 + x_0, confounded by x_0."""

    def __init__(self, n=N, seed=0):
        rng = np.random.default_rng(seed)
        self.X = rng.normal(size=(n, 3))
        self.e = 1 / (1 + np.exp(-0.7 * self.X[:, 0]))
        self.t = (rng.random(n) < self.e).astype(int)
        self.effect = 1 + self.X[:, 0]
        self.y = self.X @ [1.0, 0.5, 0.0] + self.effect * self.t + rng.normal(size=n)
        self.s = rng.integers(1, 4, size=n).astype(float)
        self.groups = rng.integers(0, 80, size=n)
        code = rng.permutation(n) % 5
        self.folds = [(np.flatnonzero(code != k), np.flatnonzero(code == k)) for k in range(5)]

    def fit(self, *args, n_repeats=1, **parameters):
        metadata = {
            name: parameters.pop(name)
            for name in ("sample_weight", "groups", "propensity")
            if name in parameters
        }
        if n_repeats == 1:
            parameters.setdefault("cv", self.folds)
        return InteractiveDML(*args, n_repeats=n_repeats, **parameters).fit(
            self.X, self.y, treatment=self.t, **metadata
        )


@pytest.fixture(scope="module")
def study():
    return Study()


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("clustered", [False, True])
def test_ate_is_the_mean_of_doubly_robust_pseudo_outcomes(study, weighted, clustered):
    fit = study.fit(
        sample_weight=study.s if weighted else None,
        groups=study.groups if clustered else None,
        cv=5,
        random_state=0,
    )
    nuisances = {
        name: fit.nuisances_[key]
        for name, key in {"e": "propensity", "mu0": "mu0", "mu1": "mu1"}.items()
    }
    f = pseudo_outcome(
        "dr",
        study.y,
        study.t,
        propensity=nuisances["e"],
        mu0=nuisances["mu0"],
        mu1=nuisances["mu1"],
    )
    w = study.s if weighted else np.ones(N)
    theta = np.average(f, weights=w)
    psi = w * (f - theta) / w.sum()
    sums = np.bincount(study.groups, psi) if clustered else psi
    assert_allclose([fit.effect_, fit.stderr_], [theta, np.sqrt((sums**2).sum())], rtol=1e-10)
    assert_allclose(fit.influence_function_, psi, atol=1e-14)


def test_att_is_the_closed_form(study):
    fit = study.fit(estimand="ATT")
    e, mu0, t = fit.nuisances_["propensity"], fit.nuisances_["mu0"], study.t
    assert set(fit.nuisances_) == {"propensity", "mu0"}
    p = t.mean()
    f = (t * (study.y - mu0) - (1 - t) * e / (1 - e) * (study.y - mu0)) / p
    psi = f - f.mean() * t / p
    assert_allclose([fit.effect_, fit.stderr_], [f.mean(), np.sqrt((psi**2).mean() / N)])


@pytest.mark.parametrize("estimand", ESTIMANDS)
def test_each_estimand_averages_over_its_population(estimand):
    study = Study(20_000, seed=2)
    h = {"ATE": 1.0, "ATT": study.e, "ATC": 1 - study.e, "ATO": study.e * (1 - study.e)}[estimand]
    truth = np.average(study.effect, weights=h * np.ones(len(study.e)))
    fit = study.fit(estimand=estimand, random_state=0)
    assert abs(fit.effect_ - truth) < 3 * fit.stderr_
    assert fit.stderr_ < 0.03


def test_with_a_constant_propensity_the_overlap_population_is_everybody(study):
    ate, ato = (study.fit(LinearRegression(), 0.5, estimand=name) for name in ("ATE", "ATO"))
    assert_allclose(ato.effect_, ate.effect_, rtol=1e-12)
    assert_allclose(ato.stderr_, ate.stderr_, rtol=1e-12)


def test_with_an_additive_model_the_overlap_effect_is_the_partially_linear_one(study):
    # With mu_t = m + (t - e) theta the doubly robust score is that of residuals on residuals.
    plain = PartiallyLinearDML(Ridge(), LogisticRegression(), cv=study.folds).fit(
        study.X, study.y, treatment=study.t
    )
    m, e, theta = plain.nuisances_["m"], plain.nuisances_["propensity"], plain.effect_
    target = np.column_stack([study.y, study.t, m, e, m - e * theta, m + (1 - e) * theta])
    fit = InteractiveDML(estimand="ATO").fit(study.X, target)
    assert_allclose(fit.effect_, theta, rtol=1e-10)
    assert_allclose(fit.stderr_, plain.stderr_, rtol=1e-10)


@pytest.mark.parametrize("estimand", ESTIMANDS)
def test_given_nuisances_are_taken_and_not_fitted(study, estimand):
    fitter = CrossFitter(cv=study.folds)
    target = fitter.fit_transform(study.X, study.y, treatment=study.t)
    given = InteractiveDML(estimand=estimand).fit(study.X, target)
    assert given.models_ == {}
    assert_allclose(given.effect_, study.fit(estimand=estimand).effect_, rtol=1e-10)


def test_a_row_of_weight_k_counts_as_k_rows_of_its_fold(study):
    index = np.repeat(np.arange(N), study.s.astype(int))
    code = np.empty(N, dtype=int)
    for k, (_, test) in enumerate(study.folds):
        code[test] = k
    cv = [(np.flatnonzero(code[index] != k), np.flatnonzero(code[index] == k)) for k in range(5)]
    models = LinearRegression(), LogisticRegression()
    for estimand in ESTIMANDS:
        weighted = study.fit(*models, estimand=estimand, sample_weight=study.s)
        longer = InteractiveDML(*models, estimand=estimand, cv=cv).fit(
            study.X[index], study.y[index], treatment=study.t[index], groups=index
        )
        assert_allclose(longer.effect_, weighted.effect_, rtol=1e-7)
        assert_allclose(longer.stderr_, weighted.stderr_, rtol=1e-7)


def test_repeats_are_summarised_by_medians(study):
    fit = study.fit(n_repeats=3, random_state=0, estimand="ATT")
    assert fit.repeat_effects_.shape == (3,)
    assert fit.effect_ == np.median(fit.repeat_effects_)
    gate = fit.group_effects(np.zeros(N))
    assert_allclose([gate.coef_[0], gate.stderr_[0]], [fit.effect_, fit.stderr_], rtol=1e-12)


def test_effects_by_group_are_means_of_scores_and_average_to_the_whole(study):
    by = np.array(["a", "b", "c"])[np.arange(N) % 3]
    fit = study.fit(random_state=0)
    gate = fit.group_effects(by)
    f = fit.influence_function_ * N + fit.effect_
    for j, name in enumerate(gate.names):
        own = f[by == name]
        assert_allclose(gate.coef_[j], own.mean(), rtol=1e-10)
        assert_allclose(gate.stderr_[j], own.std() / np.sqrt(len(own)), rtol=1e-10)
    shares = np.bincount(np.arange(N) % 3) / N
    assert_allclose(shares @ gate.coef_, fit.effect_, rtol=1e-10)
    assert gate.summary().index.tolist() == ["a", "b", "c"]
    wide, narrow = gate.confint(simultaneous=True), gate.confint()
    assert (wide[:, 0] < narrow[:, 0]).all()
    assert (wide[:, 1] > narrow[:, 1]).all()


@pytest.mark.parametrize("estimand", ["ATT", "ATO"])
def test_effects_by_group_of_other_populations_average_to_the_whole(study, estimand):
    fit = study.fit(estimand=estimand)
    by = np.arange(N) % 4
    gate = fit.group_effects(by)
    a = fit._scored.scores[0].a
    assert_allclose(np.bincount(by, a) @ gate.coef_ / a.sum(), fit.effect_, rtol=1e-10)


def test_best_linear_predictor_is_least_squares_of_the_scores():
    study = Study(3000, seed=3)
    fit = study.fit()
    blp = fit.best_linear_predictor(pd.DataFrame({"age": study.X[:, 0]}))
    f = fit.influence_function_ * len(study.y) + fit.effect_
    Z = np.column_stack([np.ones(len(f)), study.X[:, 0]])
    assert_allclose(blp.coef_, np.linalg.lstsq(Z, f, rcond=None)[0], rtol=1e-8)
    assert blp.names == ["intercept", "age"]
    # The effect is 1 + x.
    assert (np.abs(blp.coef_ - 1) < 3 * blp.stderr_).all()
    rows = np.array([[-1.0], [0.0], [2.0]])
    assert_allclose(blp.predict(rows), blp.coef_[0] + rows[:, 0] * blp.coef_[1])
    interval = blp.predict_interval(rows)
    variance = np.einsum(
        "kd,de,ke->k", np.c_[np.ones(3), rows], blp.covariance_, np.c_[np.ones(3), rows]
    )
    assert_allclose(interval[:, 1] - blp.predict(rows), 1.959964 * np.sqrt(variance), rtol=1e-6)
    assert (np.diff(blp.predict_interval(rows, simultaneous=True)) > np.diff(interval)).all()
    constant = fit.best_linear_predictor(np.ones(len(f)), fit_intercept=False, cov_type="HC0")
    assert_allclose([constant.coef_[0], constant.stderr_[0]], [fit.effect_, fit.stderr_])
    with pytest.raises(ValueError, match="features has 2 columns"):
        blp.predict([[1.0, 2.0]])


def test_redundant_features_and_empty_populations_are_said_aloud(study):
    fit = study.fit(estimand="ATT")
    with pytest.warns(WeightWarning, match="do not determine"):
        blp = fit.best_linear_predictor(study.X[:, [0, 0]])
    assert np.isnan(blp.stderr_[1:]).all()
    assert np.isfinite(blp.predict_interval([[0.3, 0.3]])).all()
    # A group without treated rows has no effect on the treated.
    by = np.where((study.t == 0) & (np.arange(N) < 50), "nobody", "rest")
    with pytest.warns(WeightWarning, match="'nobody'"):
        gate = fit.group_effects(by)
    assert np.isnan(gate.stderr_).tolist() == [True, False]


def test_balancing_weights_serve_as_propensities(study):
    for weighter in (CBPS("ATE"), EntropyBalancing("ATE")):
        fit = study.fit(treatment_estimator=weighter)
        assert abs(fit.effect_ - 1) < 4 * fit.stderr_
    assert "control_propensity" in fit.nuisances_


def test_flexible_nuisances_on_lalonde_reach_the_experiment():
    X, y, treatment = load_lalonde(return_X_y_t=True)
    fit = InteractiveDML(
        HistGradientBoostingRegressor(max_iter=30, min_samples_leaf=10),
        HistGradientBoostingClassifier(max_iter=15, min_samples_leaf=10),
        estimand="ATT",
        cv=3,
        random_state=0,
    ).fit(X, y, treatment=treatment)
    lower, upper = fit.confint()[0]
    assert lower < 1794 < upper


def test_target_arrays_pass_through_pipelines(study):
    target = np.column_stack([study.y, study.t])
    pipeline = make_pipeline(StandardScaler(), InteractiveDML(cv=study.folds))
    effect = pipeline.fit(study.X, target)[-1].effect_
    assert_allclose(effect, study.fit().effect_, rtol=1e-8)


def test_pickled_effects_answer_as_before(study):
    fit = study.fit()
    copy = pickle.loads(pickle.dumps(fit))
    assert_array_equal(copy.group_effects(study.t).coef_, fit.group_effects(study.t).coef_)
    # The covariates are not carried along.
    assert len(pickle.dumps(fit)) < 25 * study.y.nbytes


ERRORS = {
    "dose": ({}, {"treatment": np.linspace(0, 1, N)}, "only two are supported"),
    "no treatment": ({}, {"treatment": None}, "treatment is required"),
    "four columns": (
        {},
        {"treatment": None, "y": np.c_[np.ones(N), np.arange(N) % 2, np.ones((N, 2)) / 2]},
        "mu0 and mu1 are needed",
    ),
    "estimand": ({"estimand": "LATE"}, {}, "estimand"),
    "weighter": (
        {"estimand": "ATT", "treatment_estimator": EntropyBalancing("ATE")},
        {},
        "weights of EntropyBalancing .* use estimand='ATE'",
    ),
    "empty arm": ({}, {"sample_weight": (np.arange(N) % 2).astype(float)}, "sample_weight is zero"),
}


@pytest.mark.parametrize("case", list(ERRORS))
def test_bad_input_is_refused_with_a_remedy(study, case):
    parameters, changes, message = ERRORS[case]
    if case == "empty arm":
        changes = {"sample_weight": (study.t == 0).astype(float)}
    arguments = {"X": study.X, "y": study.y, "treatment": study.t} | changes
    with pytest.raises(ValueError, match=message):
        InteractiveDML(**parameters).fit(**arguments)


@pytest.mark.parametrize(
    ("ask", "message"),
    [
        (lambda fit: fit.group_effects(np.zeros(3)), "by has shape"),
        (lambda fit: fit.best_linear_predictor(np.zeros((3, 1))), "features has shape"),
        (lambda fit: fit.best_linear_predictor(np.full(N, np.nan)), "NaN or infinite"),
        (lambda fit: fit.best_linear_predictor(np.zeros((N, N))), "401 columns for 400 rows"),
        (lambda fit: fit.best_linear_predictor(np.ones(N), cov_type="HC3"), "HC0"),
        (lambda fit: fit.summary(2.0), "confidence_level"),
    ],
)
def test_bad_questions_are_refused_with_a_remedy(study, ask, message):
    fit = study.fit()
    with pytest.raises(ValueError, match=message):
        ask(fit)

"""Facts about which moments are balanced, how closely, and towards what."""

import numpy as np
import pytest
from numpy.testing import assert_allclose
from sklearn.model_selection import GridSearchCV, StratifiedKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from causal import CBPS, EntropyBalancing, PropensityWeighting, StableBalancing
from reweight.exceptions import WeightWarning


def test_signed_exact_weights_are_those_of_regression_imputation(study):
    X, treatment, _ = study
    y = np.random.default_rng(1).standard_normal(len(X)) + X @ [1.0, 2.0, -1.0] + treatment
    with pytest.warns(WeightWarning, match="negative"):
        balancer = StableBalancing("ATT", max_smd=0.0, nonnegative=False).fit(X * 3, treatment)
    assert not hasattr(balancer, "weights_")
    w, treated = balancer.raw_weights_, treatment == 1
    assert w.min() < 0
    design = np.column_stack([np.ones(len(X)), X])
    beta = np.linalg.lstsq(design[~treated], y[~treated], rcond=None)[0]
    assert np.average(y[~treated], weights=w[~treated]) == pytest.approx(
        (design[treated] @ beta).mean(), abs=1e-10
    )


def test_stable_weights_are_uniform_when_the_tolerance_is_wide(study):
    X, treatment, s = study
    weights = StableBalancing("ATE", max_smd=5.0).fit_weights(X, treatment, sample_weight=s)
    for arm in (0, 1):
        rows = treatment == arm
        assert_allclose(weights[rows], s[rows] / s[rows].mean(), rtol=1e-12)


def test_stable_tolerance_is_met_and_binds(study):
    X, treatment, _ = study
    balancer = StableBalancing("ATT", max_smd=0.05).fit(X, treatment)
    assert balancer.max_imbalance_ == pytest.approx(0.05, abs=1e-9)


def test_automatic_tolerance_is_the_best_of_its_grid_and_repeatable(study):
    X, treatment, _ = study
    first = StableBalancing("ATT", max_smd="auto", random_state=3).fit(X, treatment)
    second = StableBalancing("ATT", max_smd="auto", random_state=3).fit(X, treatment)
    assert first.max_smd_ == second.max_smd_
    assert_allclose(first.weights_, second.weights_, rtol=0)
    assert first.max_smd_scores_[first.max_smd_] == min(first.max_smd_scores_.values())
    assert len(first.max_smd_scores_) == 9


def test_automatic_tolerance_serves_weights_of_very_few_rows():
    rng = np.random.default_rng(1)
    X = np.r_[rng.normal(size=(60, 1)), [[3.0]], rng.normal(2.8, 0.3, size=(12, 1))]
    treatment = np.r_[np.zeros(61), np.ones(12)]
    balancer = StableBalancing("ATT", max_smd="auto", random_state=0)
    with pytest.warns(WeightWarning, match="effective sample size"):
        balancer.fit(X, treatment)
    assert np.count_nonzero(balancer.weights_[:61]) <= 3
    scores = balancer.max_smd_scores_
    assert np.isfinite(list(scores.values())).all()
    assert balancer.max_smd_ == min(scores, key=scores.get)


def test_lalonde_figures(lalonde):
    X, treatment, y = lalonde.data, np.asarray(lalonde.treatment), np.asarray(lalonde.target)

    def effect(balancer):
        w = balancer.fit_weights(X, treatment)
        means = [np.average(y[treatment == arm], weights=w[treatment == arm]) for arm in (0, 1)]
        return means[1] - means[0]

    assert effect(EntropyBalancing("ATT")) == pytest.approx(1273.262, abs=5e-4)
    assert EntropyBalancing("ATT").fit(X, treatment).ess_[0] == pytest.approx(98.458, abs=5e-4)
    assert effect(PropensityWeighting(estimand="ATT")) == pytest.approx(1214.071, abs=2e-3)
    assert effect(PropensityWeighting(estimand="ATE")) == pytest.approx(224.676, abs=2e-3)
    assert effect(PropensityWeighting(estimand="ATC")) == pytest.approx(-186.916, abs=2e-3)
    assert effect(PropensityWeighting(estimand="ATO")) == pytest.approx(1242.201, abs=2e-3)
    over = CBPS("ATE").fit(X, treatment)
    assert over.objective_ == pytest.approx(0.0063314, abs=5e-8)
    assert effect(CBPS("ATE")) == pytest.approx(165.8, abs=0.05)
    att = CBPS("ATT").fit(X, treatment)
    assert att.objective_ == pytest.approx(0.010400, abs=5e-7)
    assert effect(CBPS("ATT")) == pytest.approx(1247.3, abs=0.05)


def test_moments_and_interactions_are_balanced_and_redundant_ones_named(lalonde):
    X, treatment = lalonde.data, np.asarray(lalonde.treatment)
    balancer = EntropyBalancing("ATT", moments=2).fit(X, treatment)
    assert balancer.dropped_columns_ == ["black^2", "hispan^2", "married^2", "nodegree^2"]
    values, w = X.to_numpy(float) ** 2, balancer.weights_
    treated = treatment == 1
    assert_allclose(
        np.average(values[~treated], axis=0, weights=w[~treated]) / values[treated].mean(axis=0),
        1,
        atol=1e-8,
    )


def test_full_rank_one_hot_sets_do_not_fail(study):
    X, treatment, _ = study
    group = np.digitize(X[:, 0], [-0.5, 0.5])
    wide = np.column_stack([X[:, 1:], np.eye(3)[group]])
    narrow = wide[:, :-1]
    assert_allclose(
        EntropyBalancing().fit_weights(wide, treatment),
        EntropyBalancing().fit_weights(narrow, treatment),
        atol=1e-9,
    )


def test_a_featurizer_replaces_the_moments(study):
    X, treatment, _ = study
    balancer = EntropyBalancing(featurizer=lambda X: np.column_stack([X, X[:, :1] ** 2])).fit(
        X, treatment
    )
    w, treated = balancer.weights_, treatment == 1
    assert np.average(X[~treated, 0] ** 2, weights=w[~treated]) == pytest.approx(
        (X[treated, 0] ** 2).mean(), abs=1e-9
    )


def arm_means(X, treatment, weights, arm):
    return np.average(X[treatment == arm], axis=0, weights=weights[treatment == arm])


def test_base_weights_move_the_solution_and_not_the_target(study):
    X, treatment, _ = study
    base = np.exp(0.5 * X[:, 0])
    balancer = EntropyBalancing("ATT").fit(X, treatment, base_weight=base)
    goal = X[treatment == 1].mean(axis=0)
    assert_allclose(arm_means(X, treatment, balancer.weights_, 0), goal, atol=1e-9)
    # A log-linear base weight in a balanced column is absorbed by the dual.
    assert_allclose(balancer.weights_, EntropyBalancing("ATT").fit_weights(X, treatment), rtol=1e-7)
    nonlinear = EntropyBalancing("ATT").fit_weights(X, treatment, base_weight=1 + X[:, 0] ** 2)
    assert np.abs(nonlinear - balancer.weights_).max() > 0.05


@pytest.mark.parametrize("cls", [EntropyBalancing, StableBalancing])
def test_base_weights_that_leave_an_arm_empty_are_refused(study, cls):
    X, treatment, _ = study
    with pytest.raises(ValueError, match=f"{cls.__name__}: base_weight is zero in every row"):
        cls("ATT").fit(X, treatment, base_weight=1.0 * treatment)
    cls("ATC").fit(X, treatment, base_weight=1.0 * treatment)


def test_grid_search_prefers_better_held_out_balance(study):
    X, treatment, _ = study
    search = GridSearchCV(
        make_pipeline(StandardScaler(), StableBalancing()),
        {"stablebalancing__max_smd": [0.0, 1.0]},
        cv=list(StratifiedKFold(4, shuffle=True, random_state=0).split(X, treatment)),
    ).fit(X, treatment)
    assert search.best_params_ == {"stablebalancing__max_smd": 0.0}
    mmd = EntropyBalancing(scoring="mmd").fit(X, treatment)
    assert mmd.score(X, treatment) > StableBalancing(max_smd=5.0, scoring="mmd").fit(
        X, treatment
    ).score(X, treatment)


def test_powers_of_large_numbers_leave_the_unit_of_other_columns_alone(study):
    X, treatment, _ = study
    dollars = X * [1.0, 1.0, 1e5]
    tolerant = {"moments": 3, "max_smd": 0.05}
    plain = StableBalancing("ATT", **tolerant).fit(X, treatment)
    fitted = StableBalancing("ATT", **tolerant).fit(dollars, treatment)
    assert plain.max_imbalance_ == pytest.approx(0.05)
    assert fitted.max_imbalance_ == pytest.approx(0.05)
    assert_allclose(fitted.weights_, plain.weights_, atol=1e-6)

"""Facts about propensity weights, and where other methods agree with them."""

import numpy as np
import pytest
from numpy.testing import assert_allclose
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_predict
from sklearn.neighbors import KNeighborsClassifier
from sklearn.tree import DecisionTreeClassifier

from causal import (
    CBPS,
    EntropyBalancing,
    InverseProbabilityTilting,
    PropensityWeighting,
    StableBalancing,
)
from reweight.exceptions import InfeasibleError, WeightWarning


def test_the_logistic_family_agrees_on_the_treated(study):
    X, treatment, s = study
    entropy = EntropyBalancing("ATT").fit_weights(X, treatment, sample_weight=s)
    for other in (CBPS("ATT", over_identified=False), InverseProbabilityTilting("ATT")):
        assert_allclose(other.fit_weights(X, treatment, sample_weight=s), entropy, rtol=1e-8)


@pytest.mark.parametrize("estimand", ["ATT", "ATC"])
def test_entropy_weights_imply_the_balancing_propensity(study, estimand):
    X, treatment, s = study
    entropy = EntropyBalancing(estimand).fit(X, treatment, sample_weight=s)
    balancing = CBPS(estimand, over_identified=False).fit(X, treatment, sample_weight=s)
    assert_allclose(entropy.propensity_, balancing.propensity_, rtol=1e-8)
    assert EntropyBalancing("ATE").fit(X, treatment).propensity_ is None


def test_the_logistic_family_differs_for_the_whole_sample(study):
    X, treatment, _ = study
    fits = [
        EntropyBalancing("ATE").fit_weights(X, treatment),
        CBPS("ATE", over_identified=False).fit_weights(X, treatment),
        InverseProbabilityTilting("ATE").fit_weights(X, treatment),
    ]
    for i in range(3):
        for j in range(i):
            assert np.abs(fits[i] - fits[j]).max() > 1e-2


def test_just_identified_cbps_balances_the_arms_against_each_other(study):
    X, treatment, s = study
    balancer = CBPS("ATE", over_identified=False).fit(X, treatment, sample_weight=s)
    e = balancer.propensity_
    omega = s * (treatment - e) / (e * (1 - e))
    assert_allclose(omega @ X / s.sum(), 0, atol=1e-9)
    assert omega.sum() / s.sum() == pytest.approx(0, abs=1e-9)
    assert balancer.max_imbalance_ > 1e-4


def test_overlap_weights_of_a_logistic_fit_balance_means(study):
    X, treatment, s = study
    balancer = PropensityWeighting(estimand="ATO").fit(X, treatment, sample_weight=s)
    assert balancer.max_imbalance_ <= 1e-6


def test_saturated_propensity_weighting_is_poststratification():
    rng = np.random.default_rng(2)
    stratum = rng.integers(0, 3, 300)
    treatment = (rng.random(300) < np.array([0.3, 0.5, 0.7])[stratum]).astype(int)
    y = rng.standard_normal(300) + stratum * (1 + treatment)
    X = np.eye(3)[stratum]
    w = PropensityWeighting().fit_weights(X, treatment)
    treated = treatment == 1
    hajek = np.average(y[treated], weights=w[treated]) - np.average(
        y[~treated], weights=w[~treated]
    )
    stratified = sum(
        np.mean(stratum == k)
        * (y[treated & (stratum == k)].mean() - y[~treated & (stratum == k)].mean())
        for k in range(3)
    )
    assert hajek == pytest.approx(stratified, abs=1e-8)


def test_any_classifier_serves_and_can_be_cross_fitted(study):
    X, treatment, s = study
    forest = RandomForestClassifier(50, min_samples_leaf=10, random_state=0)
    balancer = PropensityWeighting(forest, cv=5, estimand="ATT").fit(X, treatment, sample_weight=s)
    held_out = cross_val_predict(
        forest, X, treatment, cv=5, method="predict_proba", params={"sample_weight": s}
    )[:, 1]
    assert_allclose(balancer.propensity_, held_out, rtol=1e-12)
    assert balancer.estimating_equations() is None
    odds = s * held_out / (1 - held_out)
    controls = treatment == 0
    assert_allclose(balancer.weights_[controls], odds[controls] / odds[controls].mean(), rtol=1e-12)
    neighbours = PropensityWeighting(KNeighborsClassifier(40)).fit(X, treatment)
    assert neighbours.propensity_.shape == (240,)
    with pytest.raises(ValueError, match="KNeighborsClassifier"):
        PropensityWeighting(KNeighborsClassifier(40)).fit(X, treatment, sample_weight=s)


def test_built_in_logistic_regression_is_that_of_scikit_learn_without_penalty(study):
    X, treatment, s = study
    ours = PropensityWeighting().fit(X, treatment, sample_weight=s)
    theirs = LogisticRegression(C=np.inf, tol=1e-10, max_iter=1000).fit(X, treatment, s)
    assert_allclose(ours.coef_, theirs.coef_[0], rtol=1e-5)
    assert ours.intercept_ == pytest.approx(theirs.intercept_[0], rel=1e-4)
    assert_allclose(ours.predict_propensity(X), theirs.predict_proba(X)[:, 1], rtol=1e-5)


@pytest.mark.parametrize(
    ("estimand", "treated", "control"),
    [
        ("ATE", lambda e: 1 / e, lambda e: 1 / (1 - e)),
        ("ATT", lambda e: np.ones_like(e), lambda e: e / (1 - e)),
        ("ATC", lambda e: (1 - e) / e, lambda e: np.ones_like(e)),
        ("ATO", lambda e: 1 - e, lambda e: e),
        ("ATM", lambda e: np.minimum(e, 1 - e) / e, lambda e: np.minimum(e, 1 - e) / (1 - e)),
        ("ATOS", lambda e: (abs(e - 0.5) < 0.4) / e, lambda e: (abs(e - 0.5) < 0.4) / (1 - e)),
        (
            "ATEN",
            lambda e: -(e * np.log(e) + (1 - e) * np.log(1 - e)) / e,
            lambda e: -(e * np.log(e) + (1 - e) * np.log(1 - e)) / (1 - e),
        ),
    ],
)
def test_propensity_weights_of_every_estimand(study, estimand, treated, control):
    X, treatment, _ = study
    balancer = PropensityWeighting(estimand=estimand).fit(4 * X, treatment)
    e, is_treated = balancer.propensity_, treatment == 1
    for rows, rule in ((is_treated, treated), (~is_treated, control)):
        expected = rule(e[rows])
        assert_allclose(balancer.weights_[rows], expected / expected.mean(), rtol=1e-10)


def test_clipped_propensities_are_counted(study):
    X, treatment, _ = study
    plain = PropensityWeighting().fit(X, treatment)
    outside = int(((plain.propensity_ < 0.3) | (plain.propensity_ > 0.7)).sum())
    assert outside > 12
    with pytest.warns(WeightWarning, match=f"{outside} of 240 propensities were clipped"):
        clipped = PropensityWeighting(propensity_clip=0.3).fit(X, treatment)
    assert clipped.n_clipped_ == outside
    assert clipped.propensity_.min() == 0.3
    assert clipped.predict_propensity(X).max() == 0.7


def test_propensities_of_exactly_zero_or_one_are_refused(study):
    X, treatment, _ = study
    folds = [(np.arange(120, 240), np.arange(120)), (np.arange(120), np.arange(120, 240))]
    with pytest.raises(ValueError, match=r"exactly 0 or 1 in \d+ rows.*propensity_clip"):
        PropensityWeighting(DecisionTreeClassifier(random_state=0), cv=folds).fit(X, treatment)
    with pytest.raises(ValueError, match="120 rows out of every test fold"):
        PropensityWeighting(DecisionTreeClassifier(), cv=folds[:1]).fit(X, treatment)


@pytest.mark.parametrize(
    "cls", [EntropyBalancing, StableBalancing, CBPS, InverseProbabilityTilting]
)
@pytest.mark.parametrize("estimand", ["ATO", "ATM", "ATOS", "ATEN"])
def test_overlap_estimands_name_the_class_that_has_them(study, cls, estimand):
    X, treatment, _ = study
    with pytest.raises(ValueError, match=f"{cls.__name__}: .*use PropensityWeighting"):
        cls(estimand).fit(X, treatment)


@pytest.mark.parametrize("estimand", ["ATE", "ATT"])
def test_separated_arms_warn_or_raise(estimand):
    rng = np.random.default_rng(0)
    X = rng.standard_normal((80, 2))
    treatment = (X[:, 0] > 0).astype(int)
    with pytest.warns(WeightWarning, match="separate treated from control"):
        PropensityWeighting(estimand=estimand).fit(X, treatment)
    with pytest.raises(InfeasibleError):
        CBPS(estimand, over_identified=False).fit(X, treatment)
    with pytest.warns(WeightWarning, match="separate treated from control"):
        CBPS(estimand).fit(X, treatment)
    with pytest.raises(InfeasibleError):
        EntropyBalancing(estimand).fit(X, treatment)

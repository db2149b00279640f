"""Facts that hold for every method that balances moments of the covariates."""

import pickle

import numpy as np
import polars as pl
import pytest
from numpy.testing import assert_allclose
from scipy.special import expit
from sklearn.base import clone
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, StratifiedKFold, cross_val_predict
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.tree import DecisionTreeClassifier

from causal import (
    CBPS,
    EntropyBalancing,
    InverseProbabilityTilting,
    KernelBalancing,
    PropensityWeighting,
    StableBalancing,
    load_lalonde,
)
from reweight.exceptions import InfeasibleError, WeightWarning

ESTIMANDS = ["ATE", "ATT", "ATC"]
FACTORIES = {
    "entropy": lambda estimand: EntropyBalancing(estimand),
    "entropy-el": lambda estimand: EntropyBalancing(estimand, divergence="el"),
    "stable": lambda estimand: StableBalancing(estimand, max_smd=0.0),
    "tilting": lambda estimand: InverseProbabilityTilting(estimand),
    "cbps-just": lambda estimand: CBPS(estimand, over_identified=False),
    "cbps-over": lambda estimand: CBPS(estimand),
    "cbps-updating": lambda estimand: CBPS(estimand, two_step=False),
    "propensity": lambda estimand: PropensityWeighting(estimand=estimand),
}
EXACT = ["entropy", "entropy-el", "stable", "tilting"]
SMOOTH = ["entropy", "entropy-el", "stable", "tilting", "cbps-just", "propensity"]


@pytest.fixture(scope="module")
def study():
    rng = np.random.default_rng(11)
    X = rng.standard_normal((240, 3)) @ np.array([[1.0, 0.4, 0.0], [0, 1, 0.2], [0, 0, 1]])
    treatment = (rng.random(240) < expit(X @ [0.5, -0.4, 0.3] - 0.2)).astype(int)
    return X, treatment, rng.integers(1, 4, 240).astype(float)


@pytest.fixture(scope="module")
def lalonde():
    return load_lalonde()


def arm_means(X, treatment, weights, arm):
    return np.average(X[treatment == arm], axis=0, weights=weights[treatment == arm])


def target_mean(X, treatment, s, estimand):
    keep = {"ATE": slice(None), "ATT": treatment == 1, "ATC": treatment == 0}[estimand]
    return np.average(X[keep], axis=0, weights=s[keep])


@pytest.mark.parametrize("estimand", ESTIMANDS)
@pytest.mark.parametrize("method", EXACT)
def test_weighted_means_meet_the_target(study, method, estimand):
    X, treatment, s = study
    balancer = FACTORIES[method](estimand).fit(X, treatment, sample_weight=s)
    goal = target_mean(X, treatment, s, estimand)
    for arm in (0, 1):
        assert_allclose(arm_means(X, treatment, balancer.weights_, arm), goal, atol=1e-9)
    assert balancer.max_imbalance_ < 1e-8
    if method != "stable":
        assert balancer.weights_.min() > 0
    assert balancer.converged_
    assert balancer.optimality_gap_ < 1e-8


@pytest.mark.parametrize("estimand", ESTIMANDS)
@pytest.mark.parametrize("method", FACTORIES)
def test_weights_have_mean_one_per_arm_and_the_target_keeps_its_own(study, method, estimand):
    X, treatment, s = study
    weights = FACTORIES[method](estimand).fit_weights(X, treatment, sample_weight=s)
    for arm in (0, 1):
        assert weights[treatment == arm].mean() == pytest.approx(1, abs=1e-12)
    still = {"ATT": 1, "ATC": 0}.get(estimand)
    if still is not None:
        rows = treatment == still
        assert_allclose(weights[rows], s[rows] / s[rows].mean(), rtol=1e-12)


@pytest.mark.parametrize("estimand", ESTIMANDS)
@pytest.mark.parametrize("method", FACTORIES)
def test_affine_maps_of_the_covariates_change_nothing(study, method, estimand):
    X, treatment, s = study
    A = np.array([[2.0, 0.3, -1.0], [0.0, 50.0, 4.0], [1.0, 0.0, 0.01]])
    before = FACTORIES[method](estimand).fit_weights(X, treatment, sample_weight=s)
    after = FACTORIES[method](estimand).fit_weights(
        X @ A + [3, -700, 9], treatment, sample_weight=s
    )
    assert_allclose(after, before, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("method", FACTORIES)
def test_rows_may_come_in_any_order(study, method):
    X, treatment, s = study
    order = np.random.default_rng(0).permutation(len(X))
    before = FACTORIES[method]("ATE").fit_weights(X, treatment, sample_weight=s)
    after = FACTORIES[method]("ATE").fit_weights(X[order], treatment[order], sample_weight=s[order])
    assert_allclose(after, before[order], rtol=1e-7)


@pytest.mark.parametrize("method", FACTORIES)
def test_atc_is_att_with_the_labels_swapped(study, method):
    X, treatment, s = study
    atc = FACTORIES[method]("ATC").fit_weights(X, treatment, sample_weight=s)
    att = FACTORIES[method]("ATT").fit_weights(X, 1 - treatment, sample_weight=s)
    assert_allclose(atc, att, rtol=1e-7)


@pytest.mark.parametrize("estimand", ESTIMANDS)
@pytest.mark.parametrize("method", FACTORIES)
def test_a_sampling_weight_of_k_is_a_row_repeated_k_times(study, method, estimand):
    X, treatment, s = study
    weighted = FACTORIES[method](estimand).fit_weights(X, treatment, sample_weight=s)
    index = np.repeat(np.arange(len(X)), s.astype(int))
    repeated = FACTORIES[method](estimand).fit_weights(X[index], treatment[index])
    summed = np.bincount(index, repeated)
    for arm in (0, 1):
        rows = treatment == arm
        assert_allclose(
            weighted[rows] / weighted[rows].sum(), summed[rows] / summed[rows].sum(), rtol=1e-6
        )


@pytest.mark.parametrize("estimand", ESTIMANDS)
@pytest.mark.parametrize("method", FACTORIES)
def test_the_weight_function_returns_the_fitted_weights(study, method, estimand):
    X, treatment, s = study
    balancer = FACTORIES[method](estimand).fit(X, treatment, sample_weight=s)
    assert_allclose(s * balancer.predict_weights(X, treatment), balancer.weights_, rtol=1e-9)
    treated = balancer.predict_weights(X[:5], np.ones(5, dtype=int))
    assert treated.shape == (5,)


@pytest.mark.parametrize("estimand", ESTIMANDS)
@pytest.mark.parametrize("method", FACTORIES)
def test_estimating_equations_hold_and_give_the_derivative_of_the_weights(study, method, estimand):
    X, treatment, s = study
    balancer = FACTORIES[method](estimand).fit(X, treatment, sample_weight=s)
    equations = balancer.estimating_equations()
    size = np.abs(equations.moments).sum(axis=0)
    assert_allclose(equations.moments.sum(axis=0) / size, 0, atol=1e-7)
    if method not in SMOOTH:
        return
    for row in (3, 17, int(np.flatnonzero(treatment == 1)[4])):
        step = 1e-4
        shifted = []
        for sign in (1, -1):
            moved = s.copy()
            moved[row] += sign * step
            shifted.append(
                FACTORIES[method](estimand).fit_weights(X, treatment, sample_weight=moved)
            )
        direct = np.zeros(len(X))
        direct[row] = balancer.weights_[row] / s[row]
        through = np.linalg.lstsq(equations.jacobian, -equations.moments[row] / s[row], rcond=None)[
            0
        ]
        change = direct + equations.weight_derivative @ through
        for arm in (0, 1):
            rows = treatment == arm
            share = balancer.weights_[rows] / rows.sum()
            expected = change[rows] / rows.sum() - share * change[rows].sum() / rows.sum()
            numeric = (shifted[0][rows] - shifted[1][rows]) / (2 * step) / rows.sum()
            assert_allclose(numeric, expected, atol=2e-7)


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


@pytest.mark.parametrize("method", ["entropy", "stable", "cbps-just", "propensity"])
def test_one_binary_covariate_gives_the_ratio_of_stratum_shares(method):
    x = np.repeat([0.0, 1.0, 0.0, 1.0], [40, 20, 15, 45])
    treatment = np.repeat([0, 1], [60, 60])
    weights = FACTORIES[method]("ATT").fit_weights(x[:, None], treatment)
    expected = np.where(x == 1, (45 / 60) / (20 / 60), (15 / 60) / (40 / 60))
    assert_allclose(weights[:60], expected[:60], rtol=1e-7)


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


@pytest.mark.parametrize("cls", [EntropyBalancing, StableBalancing])
@pytest.mark.parametrize("estimand", ESTIMANDS)
def test_chunks_give_the_weights_of_the_rows_in_memory(study, cls, estimand):
    X, treatment, s = study
    options = {"moments": 2, "interactions": True, "max_smd": 0.01}
    whole = cls(estimand, **options).fit(X, treatment, sample_weight=s)
    pieces = [slice(0, 50), slice(50, 51), slice(51, 240)]
    items = [(X[p], treatment[p], s[p]) for p in pieces]
    for chunks in (items, lambda: iter(items), [lambda item=item: item for item in items]):
        streamed = cls(estimand, **options).fit_chunks(chunks)
        assert_allclose(streamed.weights_, whole.weights_, atol=1e-10)
        assert streamed.max_imbalance_ == pytest.approx(whole.max_imbalance_, abs=1e-10)
    assert_allclose(
        streamed.predict_weights(X, treatment), whole.predict_weights(X, treatment), atol=1e-10
    )


def test_empty_chunks_are_passed_over(study):
    X, treatment, _ = study
    empty = (X[:0], treatment[:0])
    chunks = [empty, (X[:100], treatment[:100]), empty, (X[100:], treatment[100:])]
    whole = EntropyBalancing().fit(X, treatment)
    assert_allclose(EntropyBalancing().fit_chunks(chunks).weights_, whole.weights_, atol=1e-10)
    kernel = KernelBalancing(n_components=20, random_state=0)
    assert_allclose(
        clone(kernel).fit_chunks(chunks).weights_,
        kernel.fit(X, treatment).weights_,
        atol=1e-7,
    )


def test_chunks_keep_feature_names_and_may_leave_weights_out(lalonde):
    X, treatment = lalonde.data, np.asarray(lalonde.treatment)
    pieces = [(X.iloc[i : i + 200], treatment[i : i + 200]) for i in range(0, len(X), 200)]
    streamed = EntropyBalancing().fit_chunks(pieces, n_jobs=2)
    whole = EntropyBalancing().fit(X, treatment)
    assert list(streamed.feature_names_in_) == list(X.columns)
    assert_allclose(streamed.weights_, whole.weights_, atol=1e-10)


@pytest.mark.parametrize(
    ("chunks", "message"),
    [
        ([], "holds no rows"),
        (
            [(np.ones((3, 2)), [0, 1, 0]), (np.ones((3, 1)), [0, 1, 0])],
            "disagree about the columns",
        ),
        ([(np.ones((3, 2)), [0, 0, 0])], "exactly two values"),
        ([(np.array([[np.nan]]), [0])], "NaN"),
        ([(np.ones((0, 2)), [])], "holds no rows"),
        ([np.ones((4, 2))], r"a chunk is a ndarray.*\(X, treatment"),
    ],
)
def test_bad_chunks_are_refused(chunks, message):
    with pytest.raises(ValueError, match=message):
        EntropyBalancing().fit_chunks(chunks)


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


def test_outcome_pipelines_pass_the_treatment_by_keyword(study):
    X, treatment, _ = study
    y = X @ [1.0, 1.0, 1.0]
    by_keyword = EntropyBalancing().fit(X, y, treatment=treatment)
    assert_allclose(by_keyword.weights_, EntropyBalancing().fit_weights(X, treatment))


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


@pytest.mark.parametrize("method", FACTORIES)
def test_a_pickled_copy_weighs_new_rows_but_does_not_carry_the_data(study, method):
    X, treatment, _ = study
    balancer = FACTORIES[method]("ATE").fit(X, treatment)
    copy = pickle.loads(pickle.dumps(balancer))
    assert_allclose(copy.predict_weights(X, treatment), balancer.predict_weights(X, treatment))
    with pytest.raises(AttributeError, match="training rows are not in memory"):
        copy.balance_table()
    assert clone(balancer).get_params() == balancer.get_params()


def test_labels_may_be_strings(study):
    X, treatment, _ = study
    labels = np.where(treatment == 1, "drug", "control")
    balancer = EntropyBalancing("ATT").fit(X, labels)
    assert list(balancer.classes_) == ["control", "drug"]
    assert_allclose(balancer.weights_, EntropyBalancing("ATT").fit_weights(X, treatment))
    assert set(balancer.dual_coef_) == {"control"}


@pytest.mark.parametrize("method", ["entropy", "stable", "tilting", "cbps-just"])
def test_infeasible_balance_is_reported(study, method):
    X, treatment, _ = study
    far = X.copy()
    far[treatment == 1, 1] += 20
    with pytest.raises(InfeasibleError, match=r"x1.* cannot be balanced") as caught:
        FACTORIES[method]("ATT").fit(far, treatment)
    assert caught.value.worst_column == "x1"
    relaxed = EntropyBalancing("ATT", on_infeasible="relax").fit(far, treatment)
    assert relaxed.relaxed_max_smd_ == pytest.approx(1.05 * caught.value.smallest_tolerance)
    assert relaxed.max_imbalance_ == pytest.approx(relaxed.relaxed_max_smd_, rel=1e-6)


def test_relaxing_with_a_warning_says_by_how_much(study):
    X, treatment, _ = study
    far = X.copy()
    far[treatment == 1, 1] += 20
    with pytest.warns(WeightWarning, match=r"x1.*relaxed to"):
        EntropyBalancing("ATT", on_infeasible="warn").fit(far, treatment)


def test_a_column_constant_among_the_controls_is_named(study):
    X, treatment, _ = study
    X = X.copy()
    X[treatment == 0, 2] = 1.0
    with pytest.raises(InfeasibleError, match="x2"):
        EntropyBalancing("ATT").fit(X, treatment)


def test_more_columns_than_rows_says_what_to_do(study):
    _, treatment, _ = study
    wide = np.random.default_rng(0).standard_normal((240, 200))
    with pytest.raises(InfeasibleError, match=r"200 columns for the .* rows of the arm"):
        EntropyBalancing("ATT").fit(wide, treatment)


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


def bad(**changes):
    rng = np.random.default_rng(0)
    given = {"X": rng.standard_normal((20, 2)), "y": np.tile([0, 1], 10)}
    return {**given, **changes}


@pytest.mark.parametrize("method", FACTORIES)
@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        (bad(y=np.arange(20) % 3), ValueError, r"exactly two values, got \[0, 1, 2\]"),
        (bad(y=np.zeros(20)), ValueError, "exactly two values"),
        (bad(y=np.r_[1, np.zeros(19)]), ValueError, "at least two rows"),
        (bad(y=np.tile([0, 1], 9)), ValueError, "inconsistent numbers of samples"),
        (bad(y=None), ValueError, "requires y to be passed"),
        (bad(y=np.r_[np.nan, np.tile([0.0, 1.0], 10)[1:]]), ValueError, "NaN"),
        (bad(X=np.full((20, 2), np.nan)), ValueError, "NaN"),
        (bad(sample_weight=-np.ones(20)), ValueError, "Negative values"),
        (bad(sample_weight=np.zeros(20)), ValueError, "zero in every row"),
        (
            bad(sample_weight=np.tile([0.0, 1.0], 10)),
            ValueError,
            "zero in every row with treatment",
        ),
        (bad(sample_weight=np.ones(19)), ValueError, "sample_weight"),
    ],
)
def test_bad_input_is_refused(method, given, error, message):
    with pytest.raises(error, match=message):
        FACTORIES[method]("ATT").fit(**given)


def test_columns_with_missing_values_or_text_are_named(lalonde):
    frame = lalonde.data.astype(float)
    frame.loc[3, "age"] = np.nan
    with pytest.raises(ValueError, match=r"1 entries.*'age'.*SimpleImputer"):
        EntropyBalancing().fit(frame, lalonde.treatment)
    text = lalonde.data.assign(race="black")
    with pytest.raises(TypeError, match=r"'race'.*OneHotEncoder"):
        EntropyBalancing().fit(text, lalonde.treatment)


def test_unseen_labels_cannot_be_weighed(study):
    X, treatment, _ = study
    balancer = EntropyBalancing().fit(X, treatment)
    with pytest.raises(ValueError, match="value 2 that fit has not seen"):
        balancer.predict_weights(X, treatment + 1)
    with pytest.raises(ValueError, match="depends on its arm"):
        balancer.predict_weights(X)


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


def test_a_lazy_frame_is_refused_with_the_remedy(study):
    X, treatment, _ = study
    lazy = pl.DataFrame(X).lazy()
    with pytest.raises(TypeError, match=r"lazy frame.*collect"):
        EntropyBalancing().fit(lazy, treatment)


@pytest.mark.parametrize("constant", [0.1, 1e6, 1.7e9])
@pytest.mark.parametrize("estimand", ESTIMANDS)
@pytest.mark.parametrize("method", FACTORIES)
def test_a_column_of_one_value_changes_nothing(study, method, estimand, constant):
    X, treatment, s = study
    wider = np.column_stack([X, np.full(len(X), constant)])
    plain = FACTORIES[method](estimand).fit(X, treatment, sample_weight=s)
    fitted = FACTORIES[method](estimand).fit(wider, treatment, sample_weight=s)
    assert_allclose(fitted.weights_, plain.weights_, atol=1e-8)


@pytest.mark.parametrize("method", FACTORIES)
def test_covariates_that_do_not_vary_leave_the_weights_alone(method):
    s = np.random.default_rng(3).random(20) + 1.0
    treatment = np.arange(20) % 2
    fitted = FACTORIES[method]("ATT").fit(np.ones((20, 2)), treatment, sample_weight=s)
    for arm in (0, 1):
        rows = treatment == arm
        assert_allclose(fitted.weights_[rows], s[rows] / s[rows].mean())


def test_chunks_drop_a_column_of_one_value(study):
    X, treatment, s = study
    X = np.column_stack([X, np.full(len(X), 1e6)])
    parts = [(X[rows], treatment[rows], s[rows]) for rows in (slice(0, 77), slice(77, None))]
    chunked = EntropyBalancing("ATE").fit_chunks(parts)
    assert chunked.dropped_columns_ == ["x3"]
    whole = EntropyBalancing("ATE").fit(X, treatment, sample_weight=s)
    assert_allclose(chunked.weights_, whole.weights_, atol=1e-10)


def test_signed_weights_are_told_apart_from_not_fitted(lalonde):
    X, treatment = lalonde.data, lalonde.treatment
    balancer = StableBalancing("ATE", max_smd=0.0).fit(X, treatment)
    balancer.set_params(nonnegative=False)
    with pytest.warns(WeightWarning, match="weights are negative"):
        balancer.fit(X, treatment)
    assert not hasattr(balancer, "weights_")
    for read in (lambda: balancer.ess_, balancer.balance_table, balancer.love_plot):
        with pytest.raises(AttributeError, match="weights are negative"):
            read()
    assert balancer.score(X, treatment) == pytest.approx(0.0, abs=1e-8)
    with pytest.warns(WeightWarning, match="new rows have negative weights"):
        predicted = balancer.predict_weights(X, treatment)
    assert_allclose(predicted, balancer.raw_weights_, atol=1e-10)


def test_chunks_leave_nothing_of_an_earlier_fit(lalonde):
    X, treatment = lalonde.data, np.asarray(lalonde.treatment)
    balancer = EntropyBalancing().fit(X, treatment)
    balancer.fit_chunks([(X.to_numpy(), treatment)])
    assert not hasattr(balancer, "feature_names_in_")
    with pytest.raises(AttributeError, match="rows are not in memory"):
        balancer.balance_table()


@pytest.mark.parametrize("cls", [EntropyBalancing, StableBalancing])
def test_base_weights_that_leave_an_arm_empty_are_refused(study, cls):
    X, treatment, _ = study
    with pytest.raises(ValueError, match=f"{cls.__name__}: base_weight is zero in every row"):
        cls("ATT").fit(X, treatment, base_weight=1.0 * treatment)
    cls("ATC").fit(X, treatment, base_weight=1.0 * treatment)


@pytest.mark.parametrize(
    "cls", [EntropyBalancing, StableBalancing, CBPS, InverseProbabilityTilting]
)
@pytest.mark.parametrize("estimand", ["ATO", "ATM", "ATOS", "ATEN"])
def test_overlap_estimands_name_the_class_that_has_them(study, cls, estimand):
    X, treatment, _ = study
    with pytest.raises(ValueError, match=f"{cls.__name__}: .*use PropensityWeighting"):
        cls(estimand).fit(X, treatment)


@pytest.mark.parametrize("estimand", ESTIMANDS)
@pytest.mark.parametrize("method", FACTORIES)
def test_units_of_columns_may_differ_by_any_factor(study, method, estimand):
    X, treatment, s = study
    plain = FACTORIES[method](estimand).fit(X, treatment, sample_weight=s)
    fitted = FACTORIES[method](estimand).fit(X * [1e-9, 1.0, 1e9], treatment, sample_weight=s)
    assert_allclose(fitted.weights_, plain.weights_, atol=1e-7)


def test_powers_of_large_numbers_leave_the_unit_of_other_columns_alone(study):
    X, treatment, _ = study
    dollars = X * [1.0, 1.0, 1e5]
    tolerant = {"moments": 3, "max_smd": 0.05}
    plain = StableBalancing("ATT", **tolerant).fit(X, treatment)
    fitted = StableBalancing("ATT", **tolerant).fit(dollars, treatment)
    assert plain.max_imbalance_ == pytest.approx(0.05)
    assert fitted.max_imbalance_ == pytest.approx(0.05)
    assert_allclose(fitted.weights_, plain.weights_, atol=1e-6)


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

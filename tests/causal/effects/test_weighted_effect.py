import pickle
import warnings

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy.special import expit
from scipy.stats import norm
from sklearn import config_context
from sklearn.base import BaseEstimator, RegressorMixin, clone
from sklearn.ensemble import HistGradientBoostingRegressor, RandomForestClassifier
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.model_selection import GroupKFold, KFold
from sklearn.neighbors import KNeighborsRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import PolynomialFeatures, StandardScaler
from sklearn.svm import LinearSVC
from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor
from sklearn.utils import ClassifierTags
from sklearn.utils.estimator_checks import parametrize_with_checks

from causal import EntropyBalancing, PropensityWeighting, WeightedEffect, load_lalonde
from reweight import Weighter, normalize_weights
from reweight.exceptions import WeightWarning
from reweight.validation import check_sample_weight


class UnitWeighter(Weighter):
    """Sampling weights and nothing else."""

    def __init__(self, estimand="ATE", fail_above=np.inf):
        self.estimand = estimand
        self.fail_above = fail_above

    def fit(self, X, y=None, *, sample_weight=None):
        s = check_sample_weight(sample_weight, X)
        if s[0] > self.fail_above:
            raise ValueError("the first row is too heavy")
        _, codes = np.unique(y, return_inverse=True)
        self._set_weights(normalize_weights(s, codes), codes)
        return self


class RandomWeighter(UnitWeighter):
    """Draws its weights, as methods with random landmarks do."""

    def __init__(self, estimand="ATE", random_state=None):
        self.estimand = estimand
        self.random_state = random_state

    def fit(self, X, y=None, *, sample_weight=None):
        s = check_sample_weight(sample_weight, X)
        rng = np.random.RandomState(self.random_state)
        self._set_weights(normalize_weights(s * rng.uniform(0.5, 1.5, len(s)), y), y)
        return self


class DistanceWeighter(UnitWeighter):
    """Asks for subsampling, as exact minimisers of a distance do."""

    _resampling = "subsample"


class KnownRegressor(RegressorMixin, BaseEstimator):
    """Predicts the first column, whatever the data."""

    def fit(self, X, y, sample_weight=None):
        self.n_rows_ = len(X)
        self.rows_ = frozenset(X[:, -1])
        return self

    def predict(self, X):
        return X[:, 0]


@pytest.fixture
def study():
    rng = np.random.default_rng(3)
    X = rng.normal(size=(150, 3))
    t = (rng.random(150) < expit(0.5 * X[:, 0] - 0.3)).astype(int)
    y = X @ [1.0, -1.0, 0.5] + t * (1 + 0.5 * X[:, 1]) + rng.normal(size=150)
    return X, y, t


def arm_difference(y, t, w=None):
    return np.average(y[t == 1], weights=None if w is None else w[t == 1]) - np.average(
        y[t == 0], weights=None if w is None else w[t == 0]
    )


def test_published_effects_of_job_training():
    X, y, t = load_lalonde(return_X_y_t=True)
    fit = WeightedEffect(EntropyBalancing("ATT")).fit(X, y, treatment=t)
    assert round(fit.effect_, 3) == 1273.262
    assert round(fit.stderr_, 1) == 789.7
    assert fit.inference_ == "influence"
    published = {"ATT": 1214.071, "ATE": 224.676, "ATC": -186.916, "ATO": 1242.201}
    for estimand, effect in published.items():
        fit = WeightedEffect(PropensityWeighting(estimand=estimand)).fit(X, y, treatment=t)
        assert round(fit.effect_, 3) == effect
        assert fit.estimand_ == estimand


def test_unit_weights_give_the_difference_in_means_and_its_conservative_error(study):
    X, y, t = study
    fit = WeightedEffect(UnitWeighter(), inference="robust").fit(X, y, treatment=t)
    assert_allclose(fit.effect_, arm_difference(y, t), rtol=1e-12)
    neyman = sum(y[t == arm].var() / (t == arm).sum() for arm in (0, 1))
    assert_allclose(fit.stderr_, np.sqrt(neyman), rtol=1e-12)
    assert_allclose(fit.potential_means_, [y[t == 0].mean(), y[t == 1].mean()], rtol=1e-12)


def test_effect_is_the_difference_of_weighted_means(study):
    X, y, t = study
    fit = WeightedEffect(EntropyBalancing("ATE")).fit(X, y, treatment=t)
    weights = EntropyBalancing("ATE").fit_weights(X, t)
    assert_array_equal(fit.weights_, weights)
    assert_allclose(fit.effect_, arm_difference(y, t, weights), rtol=1e-12)
    assert_allclose(fit.effect_, fit.potential_means_[1] - fit.potential_means_[0])


@pytest.mark.parametrize("outcome_estimator", [None, LinearRegression()])
def test_a_row_of_sample_weight_k_counts_as_k_rows_of_one_group(study, outcome_estimator):
    X, y, t = study
    k = np.random.default_rng(0).integers(1, 4, size=len(y))
    index = np.repeat(np.arange(len(y)), k)
    effect = WeightedEffect(EntropyBalancing("ATE"), outcome_estimator=outcome_estimator)
    weighted = clone(effect).fit(X, y, treatment=t, sample_weight=k)
    repeated = clone(effect).fit(X[index], y[index], treatment=t[index], groups=index)
    assert_allclose(weighted.effect_, repeated.effect_, rtol=1e-8)
    assert_allclose(weighted.stderr_, repeated.stderr_, rtol=1e-6)


def test_copies_of_all_rows_add_no_information_when_grouped(study):
    X, y, t = study
    index = np.tile(np.arange(len(y)), 2)
    fit = WeightedEffect(EntropyBalancing("ATE"))
    single = clone(fit).fit(X, y, treatment=t)
    grouped = clone(fit).fit(X[index], y[index], treatment=t[index], groups=index)
    naive = clone(fit).fit(X[index], y[index], treatment=t[index])
    assert_allclose(grouped.stderr_, single.stderr_, rtol=1e-6)
    assert_allclose(naive.stderr_, single.stderr_ / np.sqrt(2), rtol=1e-6)


def test_scale_of_sample_weight_does_not_matter(study):
    X, y, t = study
    s = np.random.default_rng(1).uniform(0.5, 2, size=len(y))
    one, ten = (
        WeightedEffect(PropensityWeighting(), outcome_estimator=LinearRegression()).fit(
            X, y, treatment=t, sample_weight=factor * s
        )
        for factor in (1, 10)
    )
    assert_allclose(one.effect_, ten.effect_, rtol=1e-9)
    assert_allclose(one.stderr_, ten.stderr_, rtol=1e-7)


def test_swapped_labels_flip_the_sign(study):
    X, y, t = study
    treated = WeightedEffect(EntropyBalancing("ATT")).fit(X, y, treatment=t)
    controls = WeightedEffect(EntropyBalancing("ATC")).fit(X, y, treatment=1 - t)
    assert_allclose(controls.effect_, -treated.effect_, rtol=1e-9)
    assert_allclose(controls.stderr_, treated.stderr_, rtol=1e-9)


def test_outcomes_may_change_units(study):
    X, y, t = study
    effect = WeightedEffect(PropensityWeighting(), outcome_estimator=LinearRegression())
    one = clone(effect).fit(X, y, treatment=t)
    other = clone(effect).fit(X, 5 - 3 * y, treatment=t)
    assert_allclose(other.effect_, -3 * one.effect_, rtol=1e-9)
    assert_allclose(other.stderr_, 3 * one.stderr_, rtol=1e-9)


@pytest.mark.parametrize("estimand", ["ATE", "ATT", "ATC", "ATO"])
@pytest.mark.parametrize("cv", [None, 3])
def test_right_outcome_models_need_no_right_weights(study, estimand, cv):
    X, _, t = study
    slopes = np.array([[1.0, 2.0, -1.0], [0.5, 1.0, 3.0]])
    y = np.where(t == 1, 4 + X @ slopes[1], X @ slopes[0])
    weighter = PropensityWeighting(estimand=estimand)
    fit = WeightedEffect(weighter, outcome_estimator=LinearRegression(), cv=cv, random_state=0)
    fit.fit(X, y, treatment=t)
    e = weighter.fit(X, t).propensity_
    target = {"ATE": np.ones(len(t)), "ATT": t, "ATC": 1 - t, "ATO": e * (1 - e)}[estimand]
    assert_allclose(fit.effect_, np.average(4 + X @ (slopes[1] - slopes[0]), weights=target))
    for arm in (0, 1):
        assert_allclose(fit.outcome_predictions_[arm], 4 * arm + X @ slopes[arm], atol=1e-9)


def test_augmented_effect_is_its_formula(study):
    X, y, t = study
    fit = WeightedEffect(
        PropensityWeighting(), outcome_estimator=DecisionTreeRegressor(max_depth=2)
    )
    fit.set_params(outcome_estimator__random_state=0).fit(X, y, treatment=t)
    tree = DecisionTreeRegressor(max_depth=2, random_state=0)
    m0, m1 = (clone(tree).fit(X[t == arm], y[t == arm]).predict(X) for arm in (0, 1))
    w = fit.weights_
    expected = (m1 - m0).mean() + arm_difference(y - np.where(t == 1, m1, m0), t, w)
    assert_allclose(fit.effect_, expected, rtol=1e-12)


def test_no_outcome_model_predicts_a_row_that_it_saw(study):
    X, y, t = study
    X = np.column_stack([X, np.arange(len(y))])
    fit = WeightedEffect(UnitWeighter(), outcome_estimator=KnownRegressor(), inference="robust")
    fit.set_params(cv=KFold(5, shuffle=True, random_state=0)).fit(X, y, treatment=t)
    for arm, by_outcome in enumerate(fit.outcome_estimators_):
        models = by_outcome[0]
        assert len(models) == 5
        times_seen = sum(np.isin(np.arange(len(y)), list(model.rows_)) for model in models)
        # Each row of the arm is left out once, rows of the other arm are never seen.
        assert_array_equal(times_seen, np.where(t == arm, 4, 0))


def test_folds_keep_groups_whole(study):
    X, y, t = study
    X = np.column_stack([X, np.arange(len(y))])
    groups = np.arange(len(y)) // 3
    fit = WeightedEffect(UnitWeighter(), outcome_estimator=KnownRegressor(), inference="robust")
    fit.set_params(cv=4, random_state=0).fit(X, y, treatment=t, groups=groups)
    seen = [
        fit.outcome_estimators_[0][0][k].rows_ | fit.outcome_estimators_[1][0][k].rows_
        for k in range(4)
    ]
    for rows in seen:
        counts = np.bincount(groups[np.array(sorted(rows), dtype=int)], minlength=50)
        assert set(counts) <= {0, 3}


def test_classifier_serves_through_its_probability_of_one(study):
    X, y, t = study
    answered = (y > 0).astype(float)
    tree = {"max_depth": 2, "random_state": 0}
    one, other = (
        WeightedEffect(EntropyBalancing("ATT"), outcome_estimator=model).fit(
            X, answered, treatment=t
        )
        for model in (DecisionTreeClassifier(**tree), DecisionTreeRegressor(**tree))
    )
    assert_allclose(one.effect_, other.effect_, rtol=1e-12)
    assert_allclose(one.stderr_, other.stderr_, rtol=1e-12)


@pytest.mark.filterwarnings("ignore:cross_fit. 1 of 1 fold models have not seen:RuntimeWarning")
def test_classifier_that_sees_one_value_in_an_arm_predicts_that_value(study):
    X, _, t = study
    for value in (0.0, 1.0):
        y = np.where(t == 1, np.arange(len(t)) % 2, value)
        fit = WeightedEffect(UnitWeighter(), inference="robust")
        fit.set_params(outcome_estimator=DecisionTreeClassifier(random_state=0))
        assert_array_equal(fit.fit(X, y, treatment=t).outcome_predictions_[0], value)


def test_several_outcomes_are_those_of_one_at_a_time(study):
    X, y, t = study
    outcomes = np.column_stack([y, y**2])
    effect = WeightedEffect(PropensityWeighting(), outcome_estimator=LinearRegression())
    both = clone(effect).fit(X, outcomes, treatment=t)
    for j in (0, 1):
        one = clone(effect).fit(X, outcomes[:, j], treatment=t)
        assert_allclose(both.effect_[j], one.effect_)
        assert_allclose(both.stderr_[j], one.stderr_)
        assert_allclose(both.potential_means_[:, j], one.potential_means_)
        assert_allclose(both.influence_function_[:, j], one.influence_function_)
        assert_allclose(both.outcome_predictions_[..., j], one.outcome_predictions_)
        assert_allclose(both.confint()[[j]], one.confint())
    assert both.confint().shape == (2, 2)


def test_treatment_may_be_the_second_column(study):
    X, y, t = study
    apart = WeightedEffect(EntropyBalancing("ATE")).fit(X, y, treatment=t)
    together = WeightedEffect(EntropyBalancing("ATE")).fit(X, np.column_stack([y, t]))
    assert together.effect_ == apart.effect_
    assert together.stderr_ == apart.stderr_


def test_interval_and_summary_follow_from_effect_and_error(study):
    X, y, t = study
    fit = WeightedEffect(EntropyBalancing("ATE")).fit(X, y, treatment=t)
    for level in (0.5, 0.95):
        half = norm.ppf((1 + level) / 2) * fit.stderr_
        assert_allclose(fit.confint(level), [[fit.effect_ - half, fit.effect_ + half]])
    table = fit.summary(confidence_level=0.9)
    assert list(table.columns) == ["estimate", "stderr", "z", "p_value", "lower", "upper"]
    assert list(table.index) == ["y"]
    row = table.iloc[0]
    assert_allclose(row["z"], fit.effect_ / fit.stderr_)
    assert_allclose(row["p_value"], 2 * norm.cdf(-abs(row["z"])))
    assert_allclose([[row["lower"], row["upper"]]], fit.confint(0.9))
    assert table.attrs == {
        "estimand": "ATE", "inference": "influence", "confidence_level": 0.9
    }  # fmt: skip


def test_bootstrap_of_unit_weights_has_its_closed_form(study):
    X, y, t = study
    fit = WeightedEffect(UnitWeighter(), inference="bootstrap", n_resamples=2000, random_state=0)
    fit.fit(X, y, treatment=t)
    # Shares of independent exponentials are Dirichlet: variance v / (n + 1) for each arm's mean.
    variance = sum(y[t == arm].var() / ((t == arm).sum() + 1) for arm in (0, 1))
    assert_allclose(fit.stderr_, np.sqrt(variance), rtol=4 * np.sqrt(0.5 / 2000))
    assert abs(fit.effect_draws_.mean() - fit.effect_) < 4 * fit.stderr_ / np.sqrt(2000)
    assert_allclose(fit.stderr_, fit.effect_draws_.std(ddof=1))
    assert_allclose(fit.confint(0.9)[0], np.quantile(fit.effect_draws_, [0.05, 0.95]))
    assert fit.n_failed_resamples_ == 0


def test_bootstrap_agrees_with_influence_where_both_are_valid(study):
    X, y, t = study
    effect = WeightedEffect(EntropyBalancing("ATT"), n_resamples=400, random_state=0)
    influence = clone(effect).fit(X, y, treatment=t)
    bootstrap = clone(effect).set_params(inference="bootstrap").fit(X, y, treatment=t)
    assert bootstrap.effect_ == influence.effect_
    # Monte Carlo error of a standard deviation over 400 draws, and terms of order 1/n.
    assert_allclose(bootstrap.stderr_, influence.stderr_, rtol=4 * np.sqrt(0.5 / 400))


def test_bootstrap_of_groups_keeps_copies_together(study):
    X, y, t = study
    index = np.tile(np.arange(len(y)), 2)
    fit = WeightedEffect(UnitWeighter(), inference="bootstrap", n_resamples=1000, random_state=0)
    fit.fit(X[index], y[index], treatment=t[index], groups=index)
    variance = sum(y[t == arm].var() / ((t == arm).sum() + 1) for arm in (0, 1))
    assert_allclose(fit.stderr_, np.sqrt(variance), rtol=4 * np.sqrt(0.5 / 1000))


def test_subsamples_are_rescaled_to_the_full_sample(study):
    X, y, t = study
    fit = WeightedEffect(UnitWeighter(), inference="subsample", n_resamples=2000, random_state=0)
    fit.fit(X, y, treatment=t)
    n, b = 150, 29
    shrinkage = np.sqrt(b / (n - b))
    assert_allclose(fit.stderr_, shrinkage * fit.effect_draws_.std(ddof=1))
    high, low = np.quantile(fit.effect_draws_ - fit.effect_, [0.975, 0.025])
    assert_allclose(
        fit.confint(), [[fit.effect_ - shrinkage * high, fit.effect_ - shrinkage * low]]
    )
    # A subsample of 29 has arms of random size, which costs a tenth of precision.
    robust = WeightedEffect(UnitWeighter(), inference="robust").fit(X, y, treatment=t)
    assert_allclose(fit.stderr_, robust.stderr_, rtol=0.15)


@pytest.mark.parametrize(("inference", "cv"), [("bootstrap", None), ("subsample", 3)])
def test_number_of_jobs_changes_no_bit(study, inference, cv):
    X, y, t = study
    # A forest that draws anew unless it is seeded.
    forest = RandomForestClassifier(n_estimators=5, max_depth=2, min_samples_leaf=10)
    fits = [
        WeightedEffect(
            PropensityWeighting(forest, propensity_clip=0.01),
            outcome_estimator=LinearRegression(),
            cv=cv,
            inference=inference,
            n_resamples=8,
            n_jobs=n_jobs,
            random_state=5,
        ).fit(X, y, treatment=t)
        for n_jobs in (None, 2)
    ]
    assert_array_equal(fits[0].effect_draws_, fits[1].effect_draws_)
    assert fits[0].effect_ == fits[1].effect_


def test_random_state_reaches_weighter_folds_and_resamples(study):
    X, y, t = study
    effect = WeightedEffect(
        RandomWeighter(), outcome_estimator=LinearRegression(), cv=3, n_resamples=5
    )
    one, same, other = (
        clone(effect).set_params(random_state=seed).fit(X, y, treatment=t) for seed in (0, 0, 1)
    )
    assert one.effect_ == same.effect_ != other.effect_
    assert_array_equal(one.effect_draws_, same.effect_draws_)
    given = clone(effect).set_params(weighter__random_state=7).fit(X, y, treatment=t)
    assert given.weighter_.random_state == 7


def test_auto_takes_the_first_way_that_is_valid(study):
    X, y, t = study
    expected = {
        "influence": EntropyBalancing("ATE"),
        "bootstrap": UnitWeighter(),
        "subsample": DistanceWeighter(),
    }
    for inference, weighter in expected.items():
        fit = WeightedEffect(weighter, n_resamples=5).fit(X, y, treatment=t)
        assert fit.inference_ == inference
        assert hasattr(fit, "influence_function_") == (inference == "influence")
        assert hasattr(fit, "effect_draws_") == (inference != "influence")


def test_failed_resamples_are_counted_and_said(study):
    X, y, t = study
    fit = WeightedEffect(UnitWeighter(fail_above=2.0), n_resamples=200, random_state=0)
    with pytest.warns(WeightWarning, match="resamples failed.*the first row is too heavy"):
        fit.fit(X, y, treatment=t)
    assert fit.n_failed_resamples_ + len(fit.effect_draws_) == 200
    # P(Exp(1) > 2) = 0.135.
    assert abs(fit.n_failed_resamples_ / 200 - np.exp(-2)) < 4 * np.sqrt(0.135 * 0.865 / 200)


def test_no_interval_if_no_resample_works(study):
    X, y, t = study

    class Fragile(UnitWeighter):
        def fit(self, X, y=None, *, sample_weight=None):
            if sample_weight is not None:
                raise ValueError("weights frighten me")
            return super().fit(X, y)

    fit = WeightedEffect(Fragile(), inference="bootstrap", n_resamples=4)
    with pytest.raises(ValueError, match=r"4 of 4 resamples failed.*weights frighten me"):
        fit.fit(X, y, treatment=t)


def test_a_later_fit_forgets_an_earlier_one(study):
    X, y, t = study
    fit = WeightedEffect(UnitWeighter(), outcome_estimator=LinearRegression(), n_resamples=3)
    fit.fit(X, y, treatment=t)
    assert hasattr(fit, "effect_draws_")
    fit.set_params(inference="robust", outcome_estimator=None).fit(X, y, treatment=t)
    for name in ("effect_draws_", "n_failed_resamples_", "outcome_predictions_"):
        assert not hasattr(fit, name)


def test_bootstrap_of_exact_minimisers_is_warned_about(study):
    X, y, t = study
    fit = WeightedEffect(DistanceWeighter(), inference="bootstrap", n_resamples=5)
    with pytest.warns(WeightWarning, match="pass inference='subsample'"):
        fit.fit(X, y, treatment=t)


def test_few_clusters_are_warned_about(study):
    X, y, t = study
    with pytest.warns(WeightWarning, match="groups has 5 values"):
        WeightedEffect(EntropyBalancing("ATE")).fit(X, y, treatment=t, groups=np.arange(len(y)) % 5)


def test_a_row_that_is_most_of_the_variance_is_warned_about(study):
    X, y, t = study
    y = y.copy()
    y[7] = 1e3
    with pytest.warns(WeightWarning, match=r"one row carries \d\d%"):
        WeightedEffect(EntropyBalancing("ATE")).fit(X, y, treatment=t)


def test_ordinary_use_does_not_warn(study):
    X, y, t = study
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        WeightedEffect(EntropyBalancing("ATE")).fit(X, y, treatment=t).summary()


def test_pipeline_of_weighter_weighs_what_its_steps_make(study):
    X, y, t = study
    s = np.random.default_rng(1).uniform(0.5, 2, size=len(y))
    pipeline = make_pipeline(
        PolynomialFeatures(2, include_bias=False), StandardScaler(), EntropyBalancing("ATE")
    )
    features = PolynomialFeatures(2, include_bias=False).fit_transform(X)
    expected = WeightedEffect(EntropyBalancing("ATE"))
    expected.fit(features, y, treatment=t, sample_weight=s)
    for routing in (False, True):
        with config_context(enable_metadata_routing=routing):
            fit = WeightedEffect(pipeline).fit(X, y, treatment=t, sample_weight=s)
        assert_allclose(fit.effect_, expected.effect_, rtol=1e-7)
        assert_allclose(fit.stderr_, expected.stderr_, rtol=1e-6)
    assert not hasattr(pipeline[-1], "weights_")


def test_pipeline_of_outcome_model_takes_weights(study):
    X, y, t = study
    s = np.random.default_rng(1).uniform(0.5, 2, size=len(y))
    plain, piped = LinearRegression(), make_pipeline(StandardScaler(), LinearRegression())
    for routing in (False, True):
        with config_context(enable_metadata_routing=routing):
            one, other = (
                WeightedEffect(PropensityWeighting(), outcome_estimator=model).fit(
                    X, y, treatment=t, sample_weight=s
                )
                for model in (plain, piped)
            )
        assert_allclose(one.effect_, other.effect_, rtol=1e-9)


def test_it_is_a_step_itself(study):
    X, y, t = study
    pipeline = make_pipeline(StandardScaler(), WeightedEffect(EntropyBalancing("ATE")))
    expected = WeightedEffect(EntropyBalancing("ATE")).fit(X, y, treatment=t)
    columns = pipeline.fit(X, np.column_stack([y, t]))[-1].effect_
    with config_context(enable_metadata_routing=True):
        routed = pipeline.fit(X, y, treatment=t)[-1].effect_
    assert_allclose([columns, routed], expected.effect_, rtol=1e-8)


@pytest.mark.parametrize("library", ["pandas", "polars"])
@pytest.mark.parametrize("inference", ["auto", "subsample"])
def test_data_frames(study, library, inference):
    frames = pytest.importorskip(library)
    X, y, t = study
    names = ["age", "income", "height"]
    table = frames.DataFrame(dict(zip(names, X.T, strict=True)))
    labels = np.array(["control", "drug"])[t]
    options = {"inference": inference, "n_resamples": 5, "random_state": 0}
    options["outcome_estimator"] = LinearRegression()
    fit = WeightedEffect(EntropyBalancing("ATE", max_smd=0.1), **options)
    expected = clone(fit).fit(X, y, treatment=t)
    fit.fit(table, frames.Series("wage", y) if library == "polars" else
            frames.Series(y, name="wage"), treatment=frames.Series(labels))  # fmt: skip
    assert list(fit.feature_names_in_) == names
    assert list(fit.classes_) == ["control", "drug"]
    assert list(fit.summary().index) == ["wage"]
    assert_allclose(fit.effect_, expected.effect_, rtol=1e-12)
    assert_allclose(fit.confint(), expected.confint(), rtol=1e-9)
    several = frames.DataFrame({"wage": y, "hours": 2 * y})
    fit.fit(table, several, treatment=frames.Series(labels))
    assert list(fit.summary().index) == ["wage", "hours"]
    fit.fit(table, frames.DataFrame({"wage": y, "arm": labels}))
    assert list(fit.summary().index) == ["wage"]
    assert_allclose(fit.effect_, expected.effect_, rtol=1e-12)


def test_clone_forgets_and_pickle_remembers(study):
    X, y, t = study
    fit = WeightedEffect(EntropyBalancing("ATE")).fit(X, y, treatment=t)
    assert not hasattr(clone(fit), "effect_")
    copy = pickle.loads(pickle.dumps(fit))
    assert_array_equal(copy.confint(), fit.confint())
    assert copy.summary().equals(fit.summary())


def test_boosted_outcome_models_with_missing_covariates(study):
    X, y, t = study
    X = np.column_stack([X, np.where(np.arange(len(y)) % 5 == 0, np.nan, 1.0)])
    fit = WeightedEffect(
        UnitWeighter(), outcome_estimator=HistGradientBoostingRegressor(max_iter=5)
    )
    fit.set_params(inference="robust", cv=3, random_state=0).fit(X, y, treatment=t)
    assert np.isfinite(fit.effect_)


class TwoColumns(WeightedEffect):
    """Feeds scikit-learn's checks, which know one two-valued y, an outcome and a treatment."""

    def fit(self, X, y, *, sample_weight=None):
        return super().fit(X, y, treatment=y, sample_weight=sample_weight)

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.classifier_tags = ClassifierTags(multi_class=False)
        tags.target_tags.multi_output = False
        return tags


@parametrize_with_checks(
    [
        TwoColumns(EntropyBalancing(on_infeasible="relax")),
        TwoColumns(PropensityWeighting(estimand="ATO"), outcome_estimator=LinearRegression()),
        TwoColumns(EntropyBalancing(on_infeasible="relax"), inference="bootstrap", n_resamples=3),
    ]
)
@pytest.mark.filterwarnings("ignore::reweight.exceptions.WeightWarning")
def test_scikit_learn_checks(estimator, check):
    check(estimator)


BAD_PARAMETERS = [
    ({"weighter": 3}, "'weighter' parameter of WeightedEffect must be"),
    ({"estimand": "LATE"}, "'estimand' parameter of WeightedEffect must be"),
    ({"inference": "sandwich"}, "'inference' parameter of WeightedEffect must be"),
    ({"n_resamples": 1}, "'n_resamples' parameter of WeightedEffect must be"),
    ({"weighter": LogisticRegression()}, "LogisticRegression sets no weights_"),
    ({"estimand": "ATT"}, r"the weights of UnitWeighter are for the ATE.*estimand='ATT'"),
    ({"inference": "influence"}, "UnitWeighter has no estimating equations"),
    (
        {"weighter": PropensityWeighting(estimand="ATM"), "outcome_estimator": LinearRegression()},
        "outcome_estimator needs an estimand among",
    ),
    ({"weighter": UnitWeighter("ATO"), "outcome_estimator": LinearRegression()}, "no propensity_"),
    ({"outcome_estimator": LinearSVC()}, "LinearSVC is a classifier without predict_proba"),
    ({"outcome_estimator": LogisticRegression()}, "serves outcomes 0 and 1, but y has the value"),
    (
        {"outcome_estimator": KNeighborsRegressor(), "inference": "bootstrap"},
        "inference='bootstrap'.: KNeighborsRegressor cannot be weighted",
    ),
    (
        {"outcome_estimator": LinearRegression(), "cv": [(np.arange(3), np.arange(150))]},
        "has no (control|treated) rows",
    ),
]


@pytest.mark.parametrize(("parameters", "message"), BAD_PARAMETERS)
def test_bad_parameters_are_named(study, parameters, message):
    X, y, t = study
    t = t.copy()
    t[:3] = 1
    fit = WeightedEffect(**{"weighter": UnitWeighter(), "n_resamples": 3, **parameters})
    with pytest.raises(ValueError, match=message):
        fit.fit(X, y, treatment=t)


def test_bad_data_are_named(study):
    X, y, t = study
    fit = WeightedEffect(EntropyBalancing("ATE"))
    missing = np.where(np.arange(len(y)) < 3, np.nan, y)
    for arguments, message in [
        (((X, y), {}), "treatment is required"),
        (((X, np.column_stack([y, y, t])), {}), r"treatment is required, but y has shape \(150, 3"),
        (((X, None), {"treatment": t}), "requires y to be passed"),
        (((X, missing), {"treatment": t}), "y contains 3 NaN or infinite entries"),
        (((X, np.where(t, "yes", "no")), {"treatment": t}), "y is not numeric"),
        (((X, y[:, None, None]), {"treatment": t}), r"y has shape \(150, 1, 1\)"),
        (((X, y[:-1]), {"treatment": t}), "inconsistent numbers of samples"),
        (((X, y), {"treatment": t[:-1]}), "inconsistent numbers of samples"),
        (((X, y), {"treatment": np.arange(len(y)) % 3}), "exactly two values"),
        (((X, y), {"treatment": t, "groups": t[:-1]}), "groups has shape"),
        (((X, y), {"treatment": t, "sample_weight": -np.ones(len(y))}), "[Nn]egative"),
    ]:
        with pytest.raises(ValueError, match=message):
            fit.fit(*arguments[0], **arguments[1])


def test_folds_that_split_groups_are_refused(study):
    X, y, t = study
    groups = np.arange(len(y)) // 2
    fit = WeightedEffect(UnitWeighter(), outcome_estimator=LinearRegression(), inference="robust")
    with pytest.raises(ValueError, match="splits groups"):
        fit.set_params(cv=KFold(3, shuffle=True, random_state=0)).fit(
            X, y, treatment=t, groups=groups
        )
    fit.set_params(cv=GroupKFold(3)).fit(X, y, treatment=t, groups=groups)


def test_weights_of_fewer_rows_are_refused(study):
    X, y, t = study

    class Dropper(UnitWeighter):
        def fit(self, X, y=None, *, sample_weight=None):
            return super().fit(X[1:], y[1:])

    with pytest.raises(
        ValueError, match=r"weights_ of Dropper has shape \(149,\) but there are 150"
    ):
        WeightedEffect(Dropper()).fit(X, y, treatment=t)


@pytest.mark.parametrize("level", [0, 1, 95])
def test_confidence_level_is_a_probability(study, level):
    X, y, t = study
    fit = WeightedEffect(EntropyBalancing("ATE"))
    with pytest.raises(NotFittedError):
        fit.confint()
    with pytest.raises(ValueError, match=f"confidence_level is {level}; pass a number between"):
        fit.fit(X, y, treatment=t).confint(level)

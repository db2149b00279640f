"""The partially linear model: closed form, invariances, chunks, and what it refuses."""

import pickle
import warnings

import numpy as np
import pandas as pd
import polars as pl
import pytest
from joblib import parallel_config
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.base import clone
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
from sklearn.linear_model import Lasso, LinearRegression, LogisticRegression, Ridge
from sklearn.model_selection import GroupKFold, KFold
from sklearn.neighbors import KNeighborsRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler

from causal import (
    CrossFitter,
    EntropyBalancing,
    PartiallyLinearDML,
    PropensityWeighting,
    RLearner,
    make_effect_target,
)
from reweight.exceptions import WeightWarning

N = 400


class Study:
    """Rows with a binary treatment and a dose, whose effects are 1.5 and 0.7."""

    def __init__(self, n=N, seed=0):
        rng = np.random.default_rng(seed)
        self.X = rng.normal(size=(n, 3)) + [0.0, 5.0, -2.0]
        e = 1 / (1 + np.exp(-0.6 * self.X[:, 0]))
        self.t = (rng.random(n) < e).astype(int)
        self.dose = self.X[:, 0] + rng.normal(size=n)
        common = self.X @ [1.0, 0.5, 0.0] + rng.normal(size=n)
        self.y, self.z = common + 1.5 * self.t, common + 0.7 * self.dose
        self.s = rng.integers(1, 4, size=n).astype(float)
        self.groups = rng.integers(0, 80, size=n)
        code = rng.permutation(n) % 5
        self.folds = [(np.flatnonzero(code != k), np.flatnonzero(code == k)) for k in range(5)]

    def of(self, kind):
        return (self.y, self.t) if kind == "binary" else (self.z, self.dose)


@pytest.fixture(scope="module")
def study():
    return Study()


@pytest.mark.parametrize("kind", ["binary", "dose"])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("clustered", [False, True])
def test_effect_and_error_are_the_closed_form_of_the_nuisances(study, kind, weighted, clustered):
    y, t = study.of(kind)
    s = study.s if weighted else None
    groups = study.groups if clustered else None
    fit = PartiallyLinearDML(random_state=0).fit(
        study.X, y, treatment=t, sample_weight=s, groups=groups
    )
    w = study.s if weighted else np.ones(N)
    yt, tt = y - fit.nuisances_["m"], t - fit.nuisances_["propensity"]
    theta = (w * tt * yt).sum() / (w * tt**2).sum()
    psi = w * (yt - theta * tt) * tt
    sums = np.bincount(study.groups, psi) if clustered else psi
    stderr = np.sqrt((sums**2).sum()) / (w * tt**2).sum()
    assert_allclose([fit.effect_, fit.stderr_], [theta, stderr], rtol=1e-12)
    assert_allclose(fit.influence_function_, psi / (w * tt**2).sum(), atol=1e-14)
    if not clustered:
        squares = (fit.influence_function_**2).sum()
        assert_allclose(squares, fit.stderr_**2, rtol=1e-12)


def test_an_r_learner_with_an_intercept_only_is_the_same(study):
    target = CrossFitter(random_state=0, outcome_by_arm=False).fit_transform(
        study.X, study.y, treatment=study.t
    )
    ours = PartiallyLinearDML().fit(study.X, target)
    only_intercept = FunctionTransformer(lambda X: X[:, :1] * 0.0)
    with warnings.catch_warnings():
        # The column of zeros besides the intercept is not determined.
        warnings.simplefilter("ignore")
        learner = RLearner(featurizer=only_intercept, cov_type="HC0").fit(study.X, target)
    assert_allclose(learner.predict(study.X), ours.effect_, rtol=1e-10)
    assert_allclose(np.sqrt(learner.cov_[0, 0]), ours.stderr_, rtol=1e-10)


def test_instrument_moment_is_the_closed_form(study):
    cv = study.folds
    fit = PartiallyLinearDML(Ridge(), moment="iv", cv=cv).fit(study.X, study.y, treatment=study.t)
    plain = PartiallyLinearDML(Ridge(), cv=cv).fit(study.X, study.y, treatment=study.t)
    g = np.empty(N)
    rest = study.y - plain.effect_ * study.t
    for train, test in cv:
        g[test] = Ridge().fit(study.X[train], rest[train]).predict(study.X[test])
    tt = study.t - plain.nuisances_["propensity"]
    assert_allclose(fit.nuisances_["g"], g, rtol=1e-8)
    theta = (tt * (study.y - g)).sum() / (tt * study.t).sum()
    psi = (study.y - theta * study.t - g) * tt
    assert_allclose(fit.effect_, theta, rtol=1e-10)
    assert_allclose(fit.stderr_, np.sqrt((psi**2).sum()) / (tt * study.t).sum(), rtol=1e-10)


@pytest.mark.parametrize("moment", ["partialling_out", "iv"])
def test_given_nuisances_are_taken_and_not_fitted(study, moment):
    fitter = CrossFitter(Ridge(), LogisticRegression(), outcome_by_arm=False, random_state=3)
    target = fitter.fit_transform(study.X, study.y, treatment=study.t)
    direct = PartiallyLinearDML(Ridge(), LogisticRegression(), moment=moment, cv=folds_of(fitter))
    direct.fit(study.X, study.y, treatment=study.t)
    given = PartiallyLinearDML(Lasso(), moment=moment).fit(study.X, target)
    assert given.models_ == {}
    assert (given.folds_ == -1).all()
    if moment == "partialling_out":
        assert_allclose(given.effect_, direct.effect_, rtol=1e-12)
    else:
        # E[Y - theta T | X] is m - theta e, which ridge regressions of y and t do not add up to.
        assert_allclose(given.effect_, direct.effect_, atol=0.1 * direct.stderr_)


def folds_of(fitted):
    codes = fitted.folds_
    return [(np.flatnonzero(codes != k), np.flatnonzero(codes == k)) for k in np.unique(codes)]


def test_affine_outcomes_scale_the_effect_and_doses_divide_it(study):
    cv = study.folds
    fit = lambda y, t: PartiallyLinearDML(
        LinearRegression(), LinearRegression(), cv=cv, discrete_treatment=False
    ).fit(study.X, y, treatment=t)
    base = fit(study.z, study.dose)
    moved = fit(3 * study.z - 7, 5 * study.dose + 2)
    assert_allclose(moved.effect_, base.effect_ * 3 / 5, rtol=1e-9)
    assert_allclose(moved.stderr_, base.stderr_ * 3 / 5, rtol=1e-9)


def test_a_row_of_weight_k_counts_as_k_rows_of_its_fold(study):
    index = np.repeat(np.arange(N), study.s.astype(int))
    code = np.empty(N, dtype=int)
    for k, (_, test) in enumerate(study.folds):
        code[test] = k
    repeated = [
        (np.flatnonzero(code[index] != k), np.flatnonzero(code[index] == k)) for k in range(5)
    ]
    models = LinearRegression(), LogisticRegression()
    weighted = PartiallyLinearDML(*models, cv=study.folds).fit(
        study.X, study.y, treatment=study.t, sample_weight=study.s
    )
    longer = PartiallyLinearDML(*models, cv=repeated).fit(
        study.X[index], study.y[index], treatment=study.t[index], groups=index
    )
    assert_allclose(longer.effect_, weighted.effect_, rtol=1e-8)
    # With copies as clusters the errors agree as well.
    assert_allclose(longer.stderr_, weighted.stderr_, rtol=1e-8)


def test_permuted_rows_with_their_folds_change_nothing(study, rng):
    order = rng.permutation(N)
    place = np.argsort(order)
    cv = [(place[train], place[test]) for train, test in study.folds]
    base = PartiallyLinearDML(cv=study.folds).fit(study.X, study.y, treatment=study.t)
    moved = PartiallyLinearDML(cv=cv).fit(study.X[order], study.y[order], treatment=study.t[order])
    assert_allclose(moved.effect_, base.effect_, rtol=1e-8)
    assert_allclose(moved.influence_function_, base.influence_function_[order], atol=1e-10)


def test_groups_of_one_row_are_no_groups_and_groups_stay_in_one_fold(study):
    alone = PartiallyLinearDML(cv=study.folds).fit(
        study.X, study.y, treatment=study.t, groups=np.arange(N)
    )
    plain = PartiallyLinearDML(cv=study.folds).fit(study.X, study.y, treatment=study.t)
    assert_allclose(alone.stderr_, plain.stderr_, rtol=1e-12)
    clustered = PartiallyLinearDML(random_state=0).fit(
        study.X, study.y, treatment=study.t, groups=study.groups
    )
    pairs = pd.DataFrame({"group": study.groups, "fold": clustered.folds_}).drop_duplicates()
    assert pairs["group"].is_unique


@pytest.mark.parametrize("moment", ["partialling_out", "iv"])
def test_repeats_are_summarised_by_medians(study, moment):
    fit = PartiallyLinearDML(moment=moment, n_repeats=4, random_state=0).fit(
        study.X, study.y, treatment=study.t
    )
    assert fit.folds_.shape == fit.influence_function_.shape == (4, N)
    assert len(np.unique(fit.repeat_effects_)) == 4
    single = PartiallyLinearDML(moment=moment, cv=folds_of_codes(fit.folds_[2]))
    single.fit(study.X, study.y, treatment=study.t)
    assert_allclose(fit.repeat_effects_[2], single.effect_, rtol=1e-8)
    assert_allclose(fit.effect_, np.median(fit.repeat_effects_))
    spread = fit.repeat_stderrs_**2 + (fit.repeat_effects_ - fit.effect_) ** 2
    assert_allclose(fit.stderr_, np.sqrt(np.median(spread)))


def folds_of_codes(codes):
    return [(np.flatnonzero(codes != k), np.flatnonzero(codes == k)) for k in range(5)]


def test_flexible_nuisances_remove_confounding_that_a_difference_of_means_keeps():
    study = Study(3000, seed=1)
    y = study.y + 2 * np.sin(2 * study.X[:, 0])
    outcome, treatment = (
        HistGradientBoostingRegressor(max_iter=50),
        HistGradientBoostingClassifier(max_iter=20),
    )
    fit = PartiallyLinearDML(outcome, treatment, cv=3, random_state=0).fit(
        study.X, y, treatment=study.t
    )
    assert abs(fit.effect_ - 1.5) < 3 * fit.stderr_
    plain = y[study.t == 1].mean() - y[study.t == 0].mean()
    assert plain - 1.5 > 10 * fit.stderr_
    assert set(fit.nuisance_scores_) == {"m", "propensity"}
    assert fit.nuisance_scores_["m"]["r2"] > 0.5


def test_same_seed_same_bits_for_any_number_of_jobs(study):
    make = lambda n_jobs: PartiallyLinearDML(
        HistGradientBoostingRegressor(max_iter=5), random_state=4, n_jobs=n_jobs
    ).fit(study.X, study.y, treatment=study.t)
    one = make(1)
    with parallel_config(backend="threading"):
        two = make(2)
    assert one.effect_ == two.effect_
    assert_array_equal(one.influence_function_, two.influence_function_)


def test_clone_pickle_and_refit(study):
    fit = PartiallyLinearDML(random_state=0).fit(study.X, study.y, treatment=study.t)
    copy = pickle.loads(pickle.dumps(fit))
    assert_array_equal(copy.confint(), fit.confint())
    assert not hasattr(clone(fit), "effect_")
    target = make_effect_target(study.y, study.t)
    fit.fit_chunks([(study.X, target)])
    assert not hasattr(fit, "influence_function_")
    with pytest.raises(AttributeError):
        fit.nuisance_scores_  # noqa: B018


@pytest.mark.parametrize("frame", [pd.DataFrame, pl.DataFrame])
def test_frames_give_the_same_effect_and_keep_their_names(study, frame):
    names = ["age", "income", "region"]
    table = frame({name: study.X[:, j] for j, name in enumerate(names)})
    fit = PartiallyLinearDML(random_state=0).fit(table, study.y, treatment=study.t)
    assert fit.feature_names_in_.tolist() == names
    plain = PartiallyLinearDML(random_state=0).fit(study.X, study.y, treatment=study.t)
    assert_allclose(fit.effect_, plain.effect_, rtol=1e-12)


def test_target_arrays_pass_through_pipelines(study):
    target = make_effect_target(study.y, study.t)
    pipeline = make_pipeline(StandardScaler(), PartiallyLinearDML(random_state=0))
    pipeline.fit(study.X, target)
    plain = PartiallyLinearDML(random_state=0).fit(study.X, study.y, treatment=study.t)
    assert_allclose(pipeline[-1].effect_, plain.effect_, rtol=1e-8)


def test_a_known_propensity_is_used_as_it_is(study):
    fits = [
        PartiallyLinearDML(treatment_estimator=0.5, cv=study.folds).fit(
            study.X, study.y, treatment=study.t
        ),
        PartiallyLinearDML(treatment_estimator="known", cv=study.folds).fit(
            study.X, study.y, treatment=study.t, propensity=np.full(N, 0.5)
        ),
    ]
    for fit in fits:
        assert_array_equal(fit.nuisances_["propensity"], 0.5)
    assert fits[0].effect_ == fits[1].effect_


def test_a_weighter_with_a_propensity_is_a_treatment_model(study):
    weighter = PropensityWeighting(estimand="ATE")
    fit = PartiallyLinearDML(treatment_estimator=weighter, cv=study.folds).fit(
        study.X, study.y, treatment=study.t
    )
    assert abs(fit.effect_ - 1.5) < 4 * fit.stderr_
    with pytest.raises(ValueError, match=r"weights of EntropyBalancing .* InteractiveDML"):
        PartiallyLinearDML(treatment_estimator=EntropyBalancing("ATE"), cv=study.folds).fit(
            study.X, study.y, treatment=study.t
        )


def test_words_as_arms_and_a_binary_outcome(study):
    words = np.array(["control", "drug"])[study.t]
    fit = PartiallyLinearDML(random_state=0).fit(study.X, study.y, treatment=words)
    assert fit.classes_.tolist() == ["control", "drug"]
    plain = PartiallyLinearDML(random_state=0).fit(study.X, study.y, treatment=study.t)
    assert fit.effect_ == plain.effect_
    binary = (study.y > study.y.mean()).astype(int)
    logistic = PartiallyLinearDML(LogisticRegression(), random_state=0).fit(
        study.X, binary, treatment=study.t
    )
    assert 0 < logistic.effect_ < 1


def test_summary_and_intervals_agree(study):
    fit = PartiallyLinearDML(random_state=0).fit(study.X, study.y, treatment=study.t)
    table = fit.summary(0.9)
    row = table.loc["treatment"]
    assert_allclose(row[["lower", "upper"]], fit.confint(0.9)[0])
    assert_allclose(row["upper"] - row["estimate"], 1.6448536 * fit.stderr_, rtol=1e-6)
    assert_allclose(row["z"], fit.effect_ / fit.stderr_)
    assert table.attrs["confidence_level"] == 0.9
    with pytest.raises(ValueError, match="confidence_level"):
        fit.confint(95)


CHUNK_MODELS = {
    "defaults": (None, None, None),
    "ridge": (Ridge(2.0), LogisticRegression(C=0.5), Ridge(3.0)),
    "no intercept": (
        Ridge(2.0, fit_intercept=False),
        LogisticRegression(fit_intercept=False),
        LinearRegression(fit_intercept=False),
    ),
    "known": (LinearRegression(), 0.5, 0.0),
}


@pytest.mark.parametrize("kind", ["binary", "dose"])
@pytest.mark.parametrize("models", list(CHUNK_MODELS))
@pytest.mark.parametrize("moment", ["partialling_out", "iv"])
@pytest.mark.parametrize("metadata", [False, True])
def test_chunks_give_what_all_rows_give_on_the_same_folds(study, kind, models, moment, metadata):
    y, t = study.of(kind)
    outcome, classifier, regressor = CHUNK_MODELS[models]
    models = outcome, classifier if kind == "binary" else regressor
    s, groups = (study.s, study.groups) if metadata else (None, None)
    target = make_effect_target(y, t)
    cuts = [slice(0, 100), slice(100, 110), slice(110, N)]
    chunks = [
        (study.X[cut], target[cut]) + ((s[cut], groups[cut]) if metadata else ()) for cut in cuts
    ]
    chunked = PartiallyLinearDML(*models, moment=moment, random_state=1).fit_chunks(chunks)
    whole = PartiallyLinearDML(*models, moment=moment, cv=folds_of(chunked)).fit(
        study.X, y, treatment=t, sample_weight=s, groups=groups
    )
    # Logistic regressions are solved to a gradient of 1e-9 on either side.
    assert_allclose(chunked.effect_, whole.effect_, rtol=1e-7)
    assert_allclose(chunked.stderr_, whole.stderr_, rtol=1e-7)
    assert chunked.n_clipped_ == whole.n_clipped_


def test_chunks_may_be_loaded_iterated_and_spread_over_jobs(study):
    target = make_effect_target(study.y, study.t)
    frames = [
        (pd.DataFrame(study.X[cut], columns=list("abc")), target[cut])
        for cut in (slice(0, 150), slice(150, N))
    ]
    make = lambda: PartiallyLinearDML(random_state=0, n_repeats=2)
    plain = make().fit_chunks(frames)
    assert plain.feature_names_in_.tolist() == ["a", "b", "c"]
    loaders = [lambda item=item: item for item in frames]
    for chunks, n_jobs in ((loaders, None), (lambda: iter(frames), None), (frames, 2)):
        with parallel_config(backend="threading"):
            other = make().fit_chunks(chunks, n_jobs=n_jobs)
        assert other.effect_ == plain.effect_
        assert other.stderr_ == plain.stderr_
    assert plain.repeat_effects_.shape == (2,)


def test_separated_arms_are_said_aloud_in_chunks(study):
    t = (study.X[:, 0] > 0).astype(int)
    chunks = [(study.X, make_effect_target(study.y, t))]
    model = LogisticRegression(C=np.inf)
    with pytest.warns(UserWarning, match=r"clipped|did not converge"):
        PartiallyLinearDML(treatment_estimator=model).fit_chunks(chunks)


def chunk_of(study, **changes):
    parts = {"X": study.X, "y": make_effect_target(study.y, study.t), "s": None, "groups": None}
    parts |= changes
    return tuple(parts.values())


CHUNK_ERRORS = {
    "no rows": (lambda s: [], "holds no rows"),
    "an iterator": (lambda s: iter([chunk_of(s)]), "read only once"),
    "no tuple": (lambda s: [s.X], "a chunk is ndarray"),
    "one column": (lambda s: [chunk_of(s, y=s.y)], "treatment is required"),
    "lengths": (lambda s: [chunk_of(s, X=s.X[:-1])], "399 rows in X but 400 in y"),
    "columns": (lambda s: [chunk_of(s), chunk_of(s, X=s.X[:, :2])], "disagree about the columns"),
    "one arm": (lambda s: [chunk_of(s, y=np.c_[s.y, np.ones(N)])], "one value only"),
    "weights": (lambda s: [chunk_of(s, s=np.zeros(N))], "zero in every row of every chunk"),
    "negative": (lambda s: [chunk_of(s, s=-s.s)], "Negative values"),
    "some groups": (lambda s: [chunk_of(s), chunk_of(s, groups=s.groups)], "some have none"),
    "groups": (lambda s: [chunk_of(s, groups=s.groups[:-1])], "groups of a chunk"),
    "NaN": (lambda s: [chunk_of(s, X=np.where(s.X > 5, np.nan, s.X))], "NaN"),
    "nuisances": (
        lambda s: [chunk_of(s, y=np.c_[s.y, s.t, s.y, np.full(N, 0.5)])],
        "which fit_chunks fits itself",
    ),
}


@pytest.mark.parametrize("case", list(CHUNK_ERRORS))
def test_bad_chunks_are_refused_with_a_reason(study, case):
    make, message = CHUNK_ERRORS[case]
    with pytest.raises((ValueError, TypeError), match=message):
        PartiallyLinearDML().fit_chunks(make(study))


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"outcome_estimator": Lasso()}, "outcome_estimator is Lasso"),
        ({"treatment_estimator": HistGradientBoostingClassifier()}, "treatment_estimator is Hist"),
        ({"treatment_estimator": "known"}, "treatment_estimator is str"),
        ({"cv": KFold(3)}, "cv is a KFold"),
    ],
)
def test_chunks_need_linear_nuisances_and_drawn_folds(study, parameters, message):
    with pytest.raises(ValueError, match=message):
        PartiallyLinearDML(**parameters).fit_chunks([chunk_of(study)])


ERRORS = {
    "no treatment": ({}, {"treatment": None}, "treatment is required: pass|treatment is required"),
    "lengths": ({}, {"treatment": [0, 1]}, "treatment has 2 entries but y has 400"),
    "one value": ({}, {"treatment": np.ones(N)}, "one value only"),
    "two doses": ({}, {"treatment": np.arange(N) % 2 + 1}, "encode the arms as 0 and 1"),
    "three arms": (
        {"discrete_treatment": True},
        {"treatment": np.arange(N) % 3},
        "only two are supported",
    ),
    "NaN outcome": ({}, {"y": np.full(N, np.nan)}, "400 NaN"),
    "no probability": ({"treatment_estimator": Ridge()}, {}, "no predict_proba"),
    "negative weights": ({}, {"sample_weight": -np.ones(N)}, "Negative values"),
    "known": ({"treatment_estimator": "known"}, {}, "needs the propensity"),
    "propensity": ({}, {"propensity": np.full(N, 1.5)}, r"outside \(0, 1\)"),
    "iv": (
        {"moment": "iv", "outcome_estimator": LogisticRegression()},
        {},
        "y - theta \\* treatment",
    ),
    "moment": ({"moment": "IV"}, {}, "moment"),
    "repeats": ({"n_repeats": 2, "cv": KFold(3)}, {}, "n_repeats=2 draws folds anew"),
    "split groups": (
        {"cv": KFold(3)},
        {"groups": np.arange(N) % 7},
        "splits groups",
    ),
    "many folds": ({"cv": 500}, {}, "cv=500"),
    "no weights": (
        {"outcome_estimator": KNeighborsRegressor()},
        {"sample_weight": np.ones(N)},
        "KNeighborsRegressor cannot be weighted",
    ),
}


@pytest.mark.filterwarnings("ignore::reweight.exceptions.WeightWarning")
@pytest.mark.parametrize("case", list(ERRORS))
def test_bad_input_is_refused_with_a_remedy(study, case):
    parameters, changes, message = ERRORS[case]
    arguments = {"X": study.X, "y": study.y, "treatment": study.t} | changes
    with pytest.raises(ValueError, match=message):
        PartiallyLinearDML(**parameters).fit(**arguments)


def test_a_treatment_made_of_the_covariates_is_refused(study):
    dose = study.X @ [1.0, 2.0, 3.0]
    for fit in (
        lambda: PartiallyLinearDML(treatment_estimator=LinearRegression()).fit(
            study.X, study.y, treatment=dose
        ),
        lambda: PartiallyLinearDML(treatment_estimator=LinearRegression()).fit_chunks(
            [(study.X, make_effect_target(study.y, dose))]
        ),
    ):
        with pytest.raises(ValueError, match="perfectly predicted"):
            fit()


def test_few_groups_and_dominant_rows_are_said_aloud(study):
    with pytest.warns(WeightWarning, match="groups has 5 values"):
        PartiallyLinearDML(cv=GroupKFold(5)).fit(
            study.X, study.y, treatment=study.t, groups=np.arange(N) % 5
        )
    y = study.y.copy()
    y[3] += 1e4
    with pytest.warns(WeightWarning, match="one row carries"):
        PartiallyLinearDML(cv=study.folds).fit(study.X, y, treatment=study.t)

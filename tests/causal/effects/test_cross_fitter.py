"""Nuisances are those of models that have not seen the row, however they are computed."""

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.base import BaseEstimator, RegressorMixin
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
from sklearn.linear_model import (
    LassoCV,
    LinearRegression,
    LogisticRegression,
    Ridge,
    RidgeClassifier,
)
from sklearn.model_selection import GroupKFold, KFold
from sklearn.neighbors import KNeighborsRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor

from causal import CBPS, CrossFitter, EntropyBalancing, PropensityWeighting, make_cate
from causal.effects._default_models import StandardizedLogistic, StandardizedRidge
from reweight.exceptions import WeightWarning


@pytest.fixture
def study():
    return make_cate(300, setup="C", random_state=0)


def folds_of(fitter):
    codes = fitter.folds_
    return [(np.flatnonzero(codes != k), np.flatnonzero(codes == k)) for k in np.unique(codes)]


def out_of_fold(model, X, y, folds, *, rows=None, sample_weight=None):
    """Predictions fold by fold, the plain way."""
    rows = np.ones(len(y), dtype=bool) if rows is None else rows
    predictions = np.empty(len(y))
    for train, test in folds:
        train = train[rows[train]]
        weight = {} if sample_weight is None else {"sample_weight": sample_weight[train]}
        fitted = model().fit(X[train], y[train], **weight)
        if hasattr(fitted, "predict_proba"):
            predictions[test] = fitted.predict_proba(X[test])[:, 1]
        else:
            predictions[test] = fitted.predict(X[test])
    return predictions


@pytest.mark.parametrize("alpha", [0.0, 1e-3, 1.0, 1e3])
@pytest.mark.parametrize("fit_intercept", [True, False])
@pytest.mark.parametrize("weighted", [False, True])
def test_ridge_of_all_folds_at_once_is_ridge_of_each(study, rng, alpha, fit_intercept, weighted):
    X = study.X * [1, 2, 3, 4, 5, 6] + 20.0
    s = rng.integers(0, 3, 300).astype(float) if weighted else None
    model = lambda: Ridge(alpha, fit_intercept=fit_intercept)
    if alpha == 0:
        model = lambda: LinearRegression(fit_intercept=fit_intercept)
    fitter = CrossFitter(model(), random_state=0)
    fitter.fit(X, study.y, treatment=study.treatment, sample_weight=s)
    folds = folds_of(fitter)
    for name, rows in (("m", None), ("mu0", study.treatment == 0), ("mu1", study.treatment == 1)):
        expected = out_of_fold(model, X, study.y, folds, rows=rows, sample_weight=s)
        assert_allclose(fitter.nuisances_[name], expected, atol=1e-8, rtol=0)
        models = fitter.models_[name]
        assert_allclose(models[1].predict(X[folds[1][1]]), expected[folds[1][1]], atol=1e-8)


@pytest.mark.parametrize("C", [0.01, 1.0, 1e6, np.inf])
@pytest.mark.parametrize("fit_intercept", [True, False])
@pytest.mark.parametrize("weighted", [False, True])
def test_logistic_of_all_folds_at_once_is_that_of_each(study, rng, C, fit_intercept, weighted):
    s = rng.integers(0, 3, 300).astype(float) if weighted else None
    X = study.X + 3.0
    model = lambda: LogisticRegression(
        C=C, fit_intercept=fit_intercept, solver="newton-cholesky", tol=1e-10, max_iter=500
    )
    fitter = CrossFitter(None, model(), propensity_clip=0.0, random_state=0)
    fitter.fit(X, study.y, treatment=study.treatment, sample_weight=s)
    expected = out_of_fold(model, X, study.treatment, folds_of(fitter), sample_weight=s)
    assert_allclose(fitter.nuisances_["propensity"], expected, atol=1e-6, rtol=0)


def test_logistic_regressions_of_many_rows_start_from_some_of_them():
    study = make_cate(40_000, setup="C", random_state=0)
    model = lambda: LogisticRegression(solver="newton-cholesky", tol=1e-10)
    fitter = CrossFitter(None, model(), outcome_by_arm=False, cv=3, random_state=0)
    fitter.fit(study.X, study.y, treatment=study.treatment)
    expected = out_of_fold(model, study.X, study.treatment, folds_of(fitter)).clip(0.01, 0.99)
    assert_allclose(fitter.nuisances_["propensity"], expected, atol=1e-6, rtol=0)


def test_separated_arms_without_penalty_are_told_of(study):
    t = (study.X[:, 0] > 0).astype(int)
    model = LogisticRegression(C=np.inf)
    with pytest.warns(UserWarning, match=r"(clipped|did not converge)"):
        fitter = CrossFitter(None, model, random_state=0).fit(study.X, study.y, treatment=t)
    assert np.isfinite(fitter.nuisances_["propensity"]).all()
    assert fitter.nuisances_["propensity"].min() >= 0.01


@pytest.mark.parametrize("weighted", [False, True])
def test_defaults_are_the_standardised_models(study, rng, weighted):
    s = rng.integers(0, 3, 300).astype(float) if weighted else None
    X = study.X * [1, 10, 100, 1, 1, 1] + 5
    fitter = CrossFitter(propensity_clip=0.0, random_state=0)
    fitter.fit(X, study.y, treatment=study.treatment, sample_weight=s)
    folds, t = folds_of(fitter), study.treatment
    for name, rows in (("m", None), ("mu1", t == 1)):
        expected = out_of_fold(StandardizedRidge, X, study.y, folds, rows=rows, sample_weight=s)
        assert_allclose(fitter.nuisances_[name], expected, atol=1e-9)
    expected = out_of_fold(StandardizedLogistic, X, t, folds, sample_weight=s)
    assert_allclose(fitter.nuisances_["propensity"], expected, atol=1e-7)


def test_standardised_models_are_pipelines_with_a_scaler(study):
    X = np.column_stack([study.X * [1, 10, 100, 1, 1, 1] + 5, np.full(300, 3.0)])
    logistic = StandardizedLogistic().fit(X, study.treatment)
    pipe = make_pipeline(StandardScaler(), LogisticRegression(tol=1e-10, max_iter=1000))
    expected = pipe.fit(X, study.treatment).predict_proba(X)
    assert_allclose(logistic.predict_proba(X), expected, atol=1e-6)
    ridge = StandardizedRidge().fit(X, study.y)
    fits = [
        make_pipeline(StandardScaler(), Ridge(alpha)).fit(X, study.y).predict(X)
        for alpha in np.logspace(-3, 3, 13)
    ]
    gaps = [np.abs(ridge.predict(X) - fit).max() for fit in fits]
    assert min(gaps) < 1e-9
    # The penalty is that of least generalised cross-validation error, from the hat matrix.
    Z = StandardScaler().fit_transform(X)
    errors = []
    for alpha in np.logspace(-3, 3, 13):
        hat = Z @ np.linalg.solve(Z.T @ Z + alpha * np.eye(7), Z.T) + 1 / 300
        rest = study.y - hat @ study.y
        errors.append(300 * rest @ rest / (300 - np.trace(hat)) ** 2)
    assert int(np.argmin(gaps)) == int(np.argmin(errors))


@pytest.mark.parametrize("pipeline", [False, True])
def test_a_pipeline_with_a_scaler_is_recognised_and_exact(study, pipeline):
    X = study.X * [1, 10, 100, 1, 1, 1] + 5
    model = lambda: make_pipeline(StandardScaler(), Ridge(30.0))
    if not pipeline:
        model = lambda: make_pipeline(StandardScaler(with_std=False), Ridge(30.0))
    fitter = CrossFitter(model(), random_state=0).fit(X, study.y, treatment=study.treatment)
    assert_allclose(
        fitter.nuisances_["m"], out_of_fold(model, X, study.y, folds_of(fitter)), atol=1e-9
    )


def test_collinear_columns_leave_the_sums_for_the_library(study):
    X = np.column_stack([study.X, study.X[:, 0]])
    fitter = CrossFitter(LinearRegression(), random_state=0)
    fitter.fit(X, study.y, treatment=study.treatment)
    expected = out_of_fold(LinearRegression, X, study.y, folds_of(fitter))
    assert_allclose(fitter.nuisances_["m"], expected, atol=1e-8)


class Spy(RegressorMixin, BaseEstimator):
    """Remembers the rows that it was fitted to, which a first column numbers."""

    def fit(self, X, y, sample_weight=None):
        self.seen_ = set(X[:, 0].astype(int))
        return self

    def predict(self, X):
        assert not self.seen_ & set(X[:, 0].astype(int))
        return np.full(len(X), float(len(self.seen_)))


@pytest.mark.parametrize(("order", "blocks"), [(2, 1), (3, 2), (4, 6)])
def test_no_model_predicts_a_row_that_it_has_seen(study, order, blocks):
    X = np.column_stack([np.arange(300), study.X])
    fitter = CrossFitter(
        Spy(), 0.5, cross_fitting=order, cv=None if order > 2 else 3, random_state=0
    ).fit(X, study.y, treatment=study.treatment)
    assert fitter.nuisances_["m"].shape == fitter.row_.shape == (300 * blocks,)
    assert_array_equal(fitter.row_, np.tile(np.arange(300), blocks))
    size = 200 if order == 2 else 300 // order
    assert_allclose(fitter.nuisances_["m"], size)


class PartOf(RegressorMixin, BaseEstimator):
    """Predicts the part of the rows that it was fitted to, which the outcome holds."""

    def fit(self, X, y, sample_weight=None):
        assert len(set(y)) == 1
        self.part_ = y[0]
        return self

    def predict(self, X):
        return np.full(len(X), self.part_)


@pytest.mark.parametrize("order", [3, 4])
def test_treatment_and_outcome_come_from_different_parts_in_all_orders(study, order):
    part = np.arange(300) % order
    cv = [(np.flatnonzero(part != k), np.flatnonzero(part == k)) for k in range(order)]
    # A treatment that is the part tells which part its model was trained on.
    fitter = CrossFitter(PartOf(), PartOf(), outcome_by_arm=False, cross_fitting=order, cv=cv)
    fitter.fit(study.X, part.astype(float), treatment=part.astype(float))
    triples = zip(
        part[fitter.row_], fitter.nuisances_["m"], fitter.nuisances_["propensity"], strict=True
    )
    seen = pd.Series(list(triples)).value_counts()
    assert all(len(set(triple)) == 3 for triple in seen.index)
    assert len(seen) == order * (order - 1) * (order - 2)
    assert seen.min() == seen.max()


def test_order_four_takes_the_control_propensity_from_a_third_part(study):
    fitter = CrossFitter(cross_fitting=4, cv=None, propensity_clip=0.0, random_state=0)
    fitter.fit(study.X, study.y, treatment=study.treatment)
    total = fitter.nuisances_["propensity"] + fitter.nuisances_["control_propensity"]
    assert 0.005 < np.abs(total - 1).mean() < 0.3


@pytest.mark.parametrize("order", [3, 4])
def test_linear_parts_are_those_of_the_library(study, order):
    arguments = {"cross_fitting": order, "cv": None, "random_state": 0, "propensity_clip": 0.0}
    tight = LogisticRegression(solver="newton-cholesky", tol=1e-10)
    fast = CrossFitter(Ridge(2.0), tight, **arguments)
    # A subclass is not recognised and takes the long way.
    slow = CrossFitter(
        type("R", (Ridge,), {})(2.0),
        type("L", (LogisticRegression,), {})(solver="newton-cholesky", tol=1e-10),
        **arguments,
    )
    for fitter in (fast, slow):
        fitter.fit(study.X, study.y, treatment=study.treatment)
    assert len(fast.nuisances_) == order + 1
    for name in fast.nuisances_:
        assert_allclose(fast.nuisances_[name], slow.nuisances_[name], atol=1e-6)


def test_repeats_draw_new_folds_and_the_target_averages_them(study):
    fitter = CrossFitter(n_repeats=3, random_state=0)
    target = fitter.fit_transform(study.X, study.y, treatment=study.treatment)
    assert fitter.folds_.shape == (3, 300)
    assert (fitter.folds_[0] != fitter.folds_[1]).mean() > 0.5
    blocks = fitter.nuisances_["mu1"].reshape(3, 300)
    assert np.abs(blocks[0] - blocks[1]).max() > 1e-6
    assert_allclose(target[:, 5], blocks.mean(axis=0))
    assert_array_equal(target[:, 0], study.y)
    assert_array_equal(target[:, 1], study.treatment)


def test_single_outcome_model_sees_the_treatment_last(study):
    fitter = CrossFitter(LinearRegression(), outcome_model="single", random_state=0)
    fitter.fit(study.X, study.y, treatment=study.treatment)
    expected = np.empty((300, 2))
    for train, test in folds_of(fitter):
        both = np.column_stack([study.X, study.treatment])
        model = LinearRegression().fit(both[train], study.y[train])
        for arm in (0, 1):
            expected[test, arm] = model.predict(
                np.column_stack([study.X[test], np.full(len(test), arm)])
            )
    assert_allclose(fitter.nuisances_["mu0"], expected[:, 0], atol=1e-10)
    assert_allclose(fitter.nuisances_["mu1"], expected[:, 1], atol=1e-10)


def test_known_propensities_are_used_and_nothing_is_fitted(study):
    for fitter, given in (
        (CrossFitter(treatment_estimator=0.3), None),
        (CrossFitter(treatment_estimator="known"), 0.3),
        (CrossFitter(treatment_estimator="known"), np.full(300, 0.3)),
    ):
        fitter.fit(study.X, study.y, treatment=study.treatment, propensity=given)
        assert_allclose(fitter.nuisances_["propensity"], 0.3)
        assert "propensity" not in fitter.models_
    with pytest.raises(ValueError, match="needs the propensity"):
        CrossFitter(treatment_estimator="known").fit(study.X, study.y, treatment=study.treatment)


def test_groups_stay_whole(study, rng):
    groups = rng.integers(0, 40, 300)
    fitter = CrossFitter(random_state=0)
    fitter.fit(study.X, study.y, treatment=study.treatment, groups=groups)
    for group in range(40):
        assert len(np.unique(fitter.folds_[groups == group])) == 1
    with pytest.raises(ValueError, match="splits groups"):
        CrossFitter(cv=KFold(3)).fit(study.X, study.y, treatment=study.treatment, groups=groups)
    fitter = CrossFitter(cv=GroupKFold(4)).fit(
        study.X, study.y, treatment=study.treatment, groups=groups
    )
    assert len(np.unique(fitter.folds_)) == 4


def test_folds_are_stratified_and_auto_takes_fewer_for_more_rows(study):
    fitter = CrossFitter(cv="auto", random_state=0).fit(study.X, study.y, treatment=study.treatment)
    assert len(np.unique(fitter.folds_)) == 10
    shares = [study.treatment[fitter.folds_ == k].mean() for k in range(10)]
    assert max(shares) - min(shares) < 0.07
    from causal.effects._folds import number_of_folds

    assert [number_of_folds("auto", n) for n in (999, 1_000, 50_000, 500_000)] == [10, 5, 3, 2]


def test_permuting_rows_with_their_folds_permutes_the_nuisances(study, rng):
    order = rng.permutation(300)
    codes = np.arange(300) % 3
    results = []
    for index in (np.arange(300), order):
        own = codes[index]
        cv = [(np.flatnonzero(own != k), np.flatnonzero(own == k)) for k in range(3)]
        results.append(
            CrossFitter(cv=cv).fit_transform(
                study.X[index], study.y[index], treatment=study.treatment[index]
            )
        )
    assert_allclose(results[1], results[0][order], atol=1e-8)


def test_integer_weights_count_as_rows(study, rng):
    s = rng.integers(0, 4, 300)
    codes = np.arange(300) % 3
    index = np.repeat(np.arange(300), s)
    results = []
    for rows, weight in ((np.arange(300), s.astype(float)), (index, None)):
        own = codes[rows]
        cv = [(np.flatnonzero(own != k), np.flatnonzero(own == k)) for k in range(3)]
        fitter = CrossFitter(cv=cv).fit(
            study.X[rows], study.y[rows], treatment=study.treatment[rows], sample_weight=weight
        )
        results.append(fitter.nuisances_)
    for name in results[0]:
        assert_allclose(results[1][name], results[0][name][index], atol=1e-7)


@pytest.mark.parametrize("n_jobs", [1, 2])
def test_the_same_seed_gives_the_same_bits_for_any_jobs(study, n_jobs):
    def fit(jobs):
        return CrossFitter(
            HistGradientBoostingRegressor(max_iter=5, max_features=0.5),
            HistGradientBoostingClassifier(max_iter=5, max_features=0.5),
            random_state=3,
            n_jobs=jobs,
        ).fit_transform(study.X, study.y, treatment=study.treatment)

    assert_array_equal(fit(n_jobs), fit(None))


def test_a_continuous_treatment_gives_four_columns(study, rng):
    dose = study.X[:, 0] + rng.normal(size=300)
    fitter = CrossFitter(outcome_by_arm=False, random_state=0)
    target = fitter.fit_transform(study.X, study.y, treatment=dose)
    assert target.shape == (300, 4)
    assert fitter.classes_ is None
    assert fitter.nuisance_scores_["propensity"]["r2"] > 0.3
    with pytest.raises(ValueError, match=r"continuous.*outcome_by_arm=False"):
        CrossFitter().fit(study.X, study.y, treatment=dose)
    with pytest.raises(ValueError, match="is a classifier"):
        CrossFitter(None, DecisionTreeClassifier(), outcome_by_arm=False).fit(
            study.X, study.y, treatment=dose
        )


def test_binary_outcomes_by_a_classifier(study):
    y = (study.y > np.median(study.y)).astype(int)
    model = lambda: DecisionTreeClassifier(max_depth=2, random_state=0)
    fitter = CrossFitter(model(), random_state=0).fit(study.X, y, treatment=study.treatment)
    expected = out_of_fold(model, study.X, y, folds_of(fitter))
    assert_allclose(fitter.nuisances_["m"], expected)
    with pytest.raises(ValueError, match="serves outcomes 0 and 1"):
        CrossFitter(model()).fit(study.X, study.y, treatment=study.treatment)


@pytest.mark.parametrize("library", ["pandas", "polars"])
def test_frames_reach_the_models_with_their_names(study, library):
    frames = pytest.importorskip(library)
    columns = {f"c{j}": column for j, column in enumerate(study.X.T)}
    fitter = CrossFitter(DecisionTreeRegressor(max_depth=3, random_state=0), random_state=0)
    target = fitter.fit_transform(
        frames.DataFrame(columns), frames.Series(study.y), treatment=frames.Series(study.treatment)
    )
    assert list(fitter.feature_names_in_) == list(columns)
    if library == "pandas":
        assert list(fitter.models_["m"][0].feature_names_in_) == list(columns)
    plain = CrossFitter(DecisionTreeRegressor(max_depth=3, random_state=0), random_state=0)
    assert_allclose(target, plain.fit_transform(study.X, study.y, treatment=study.treatment))


def test_text_columns_pass_to_models_that_encode_them(study):
    from sklearn.compose import make_column_transformer
    from sklearn.preprocessing import OneHotEncoder

    frame = pd.DataFrame(study.X[:, :2], columns=["a", "b"])
    frame["city"] = np.where(study.X[:, 2] > 0, "north", "south")
    encode = make_column_transformer((OneHotEncoder(), ["city"]), remainder="passthrough")
    fitter = CrossFitter(
        make_pipeline(encode, Ridge()), make_pipeline(encode, LogisticRegression()), random_state=0
    ).fit(frame, study.y, treatment=study.treatment)
    coded = frame.assign(city=(frame["city"] == "south").astype(float)).to_numpy()
    again = CrossFitter(Ridge(), LogisticRegression(), random_state=0).fit(
        coded, study.y, treatment=study.treatment
    )
    assert np.corrcoef(fitter.nuisances_["m"], again.nuisances_["m"])[0, 1] > 0.999
    with pytest.raises((TypeError, ValueError), match=r"(convert|numeric)"):
        CrossFitter().fit(frame, study.y, treatment=study.treatment)


def test_missing_values_pass_where_all_models_take_them(study):
    X = study.X.copy()
    X[::7, 2] = np.nan
    boosted = CrossFitter(
        HistGradientBoostingRegressor(max_iter=3), HistGradientBoostingClassifier(max_iter=3)
    )
    assert np.isfinite(boosted.fit_transform(X, study.y, treatment=study.treatment)).all()
    with pytest.raises(ValueError, match="NaN"):
        CrossFitter(HistGradientBoostingRegressor()).fit(X, study.y, treatment=study.treatment)


def test_weighters_stand_for_propensities(study):
    """A logistic PropensityWeighting is its propensity; ATE weights are inverse propensities."""
    study = make_cate(600, setup="C", random_state=0)
    arguments = study.X, study.y
    fitter = CrossFitter(None, PropensityWeighting(), random_state=0)
    fitter.fit(*arguments, treatment=study.treatment)
    logistic = CrossFitter(None, LogisticRegression(C=np.inf), random_state=0)
    logistic.fit(*arguments, treatment=study.treatment)
    assert_allclose(fitter.nuisances_["propensity"], logistic.nuisances_["propensity"], atol=1e-6)
    assert "control_propensity" not in fitter.nuisances_
    trial = make_cate(2000, setup="B", random_state=0)
    fitter = CrossFitter(None, EntropyBalancing("ATE"), random_state=0)
    fitter.fit(trial.X, trial.y, treatment=trial.treatment)
    # A logistic propensity of six columns is off by about root(7 / 1600) / 2 in its mean square.
    for name in ("propensity", "control_propensity"):
        assert np.mean((fitter.nuisances_[name] - 0.5) ** 2) ** 0.5 < 0.06
    with pytest.raises(ValueError, match="no propensities"):
        CrossFitter(None, EntropyBalancing("ATE")).fit_transform(
            *arguments, treatment=study.treatment
        )
    with pytest.raises(ValueError, match="estimand='ATT'"):
        CrossFitter(None, EntropyBalancing("ATT")).fit(*arguments, treatment=study.treatment)


def test_weights_of_a_weighter_on_all_rows_are_its_own_inverse_propensities(study):
    """Scaled back, mean-one weights within arms are the inverse propensities of a logistic fit."""
    from causal.effects._outcome_designs import WeighterPropensity

    class WithoutPropensity(PropensityWeighting):
        predict_propensity = property(lambda self: (_ for _ in ()).throw(AttributeError()))

    whole = PropensityWeighting().fit(study.X, study.treatment)
    pair = WeighterPropensity(WithoutPropensity()).fit(study.X, study.treatment).predict(study.X)
    # Exact up to the total of inverse propensities, whose mean is one up to sampling error.
    ratio = pair[:, 0] / whole.propensity_
    assert_allclose(ratio, ratio[0], rtol=1e-9)
    assert abs(ratio[0] - 1) < 0.1
    assert CBPS("ATE").fit(study.X, study.treatment).predict_propensity(study.X).max() < 1


BAD = {
    "treatment missing": ({"treatment": None}, "treatment is required"),
    "lengths": ({"treatment": np.arange(299) % 2}, "treatment has 299 entries but y has 300"),
    "one value": ({"treatment": np.zeros(300)}, "one value only"),
    "two other values": ({"treatment": np.arange(300) % 2 + 1}, "two values 1 and 2"),
    "NaN in y": ({"y": np.where(np.arange(300) < 3, np.nan, 1.0)}, "y contains 3 NaN"),
    "NaN in t": ({"treatment": np.where(np.arange(300) < 3, np.nan, 1.0)}, "3 NaN"),
    "propensity": ({"propensity": np.full(300, 1.5)}, r"300 entries outside \(0, 1\)"),
    "negative weight": ({"sample_weight": np.full(300, -1.0)}, "must be non-negative"),
    "zero weights": ({"sample_weight": np.zeros(300)}, "zero in every row"),
    "text y": ({"y": np.full(300, "a")}, "not numeric"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_named_with_a_remedy(study, case):
    changes, message = BAD[case]
    arguments = {"y": study.y, "treatment": study.treatment, **changes}
    with pytest.raises(ValueError, match=message):
        CrossFitter().fit(study.X, **arguments)


def test_bad_parameters_are_named_with_a_remedy(study):
    def fit(*arguments, treatment=study.treatment, **parameters):
        return CrossFitter(*arguments, **parameters).fit(study.X, study.y, treatment=treatment)

    everyone = np.arange(300)
    with pytest.raises(ValueError, match="no partition"):
        fit(cv=[(everyone[:150], everyone[150:])])
    with pytest.raises(ValueError, match="trains on rows that it tests"):
        fit(cv=[(everyone, everyone[:150]), (everyone, everyone[150:])])
    t = (everyone >= 150).astype(int)
    with pytest.raises(ValueError, match="fold 0 has no control rows"):
        fit(treatment=t, cv=[(everyone[150:], everyone[:150]), (everyone[:150], everyone[150:])])
    with pytest.raises(ValueError, match="no predict_proba"):
        fit(None, RidgeClassifier())
    with pytest.raises(ValueError, match=r"needs exactly 3 parts.*cv=None"):
        fit(cross_fitting=3)
    with pytest.raises(ValueError, match="several pseudo rows"):
        CrossFitter(cross_fitting=3, cv=None).fit_transform(
            study.X, study.y, treatment=study.treatment
        )
    with pytest.raises(ValueError, match="n_repeats"):
        fit(n_repeats=2, cv=KFold(3))
    with pytest.raises(ValueError, match="3 arms"):
        fit(treatment=everyone % 3, discrete_treatment=True)
    with pytest.raises(ValueError, match="strictly between"):
        fit(None, 1.5)
    labels = np.array(["a", "b"])[study.treatment]
    assert list(fit(treatment=labels).classes_) == ["a", "b"]
    with pytest.raises(ValueError, match="cannot be weighted"):
        CrossFitter(KNeighborsRegressor()).fit(
            study.X, study.y, treatment=study.treatment, sample_weight=np.ones(300)
        )


def test_many_clipped_propensities_are_counted_and_told_of(study):
    with pytest.warns(WeightWarning, match="were clipped at 0.3"):
        fitter = CrossFitter(propensity_clip=0.3, random_state=0).fit(
            study.X, study.y, treatment=study.treatment
        )
    e = fitter.nuisances_["propensity"]
    assert fitter.n_clipped_ == np.sum((e == 0.3) | (e == 0.7)) > 15


def test_scores_of_nuisances_are_those_of_the_metrics(study):
    from sklearn.metrics import r2_score, roc_auc_score

    fitter = CrossFitter(LassoCV(), random_state=0)
    fitter.fit(study.X, study.y, treatment=study.treatment)
    scores, treated = fitter.nuisance_scores_, study.treatment == 1
    expected = r2_score(study.y[treated], fitter.nuisances_["mu1"][treated])
    assert_allclose(scores["mu1"]["r2"], expected)
    expected = roc_auc_score(study.treatment, fitter.nuisances_["propensity"])
    assert_allclose(scores["propensity"]["roc_auc"], expected)

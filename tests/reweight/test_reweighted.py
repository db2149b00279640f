"""`Reweighted` is its estimator, fitted and scored with the weights of its weighter."""

import pickle
import warnings

import numpy as np
import pandas as pd
import polars as pl
import pytest
import scipy.sparse as sp
from numpy.testing import assert_allclose, assert_array_equal
from sklearn import config_context
from sklearn.base import BaseEstimator, RegressorMixin, clone, is_classifier, is_regressor
from sklearn.calibration import CalibratedClassifierCV
from sklearn.cluster import KMeans
from sklearn.compose import TransformedTargetRegressor
from sklearn.ensemble import StackingRegressor, VotingRegressor
from sklearn.exceptions import NotFittedError, UnsetMetadataPassedError
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import BayesianRidge, LinearRegression, LogisticRegression, Ridge
from sklearn.metrics import accuracy_score, get_scorer, r2_score
from sklearn.model_selection import (
    GridSearchCV,
    KFold,
    cross_val_predict,
    cross_val_score,
    cross_validate,
)
from sklearn.naive_bayes import GaussianNB
from sklearn.neighbors import KNeighborsRegressor
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import SplineTransformer, StandardScaler
from sklearn.utils import get_tags
from sklearn.utils.estimator_checks import parametrize_with_checks
from sklearn.utils.validation import check_is_fitted

from reweight import Reweighted, Weighter, normalize_weights
from reweight.exceptions import WeightWarning
from reweight.validation import (
    check_sample_weight,
    check_treatment,
    count_rows,
    unwrap_target,
    validate_features,
    warn_weights,
)


class ShiftWeighter(Weighter):
    """Ratio of two normal densities that differ in their means, for rows that follow the target."""

    __metadata_request__fit = {"X_target": True}

    def __init__(self, strength=1.0):
        self.strength = strength

    def fit(self, X, y=None, *, X_target=None, sample_weight=None):
        X = validate_features(self, X)
        s = check_sample_weight(sample_weight, X)
        mean = np.average(X, axis=0, weights=s)
        self.n_target_, self.target_mean_ = 0, mean
        if X_target is None:
            warn_weights("ShiftWeighter: no X_target; the weights are the sampling weights")
        else:
            target = validate_features(self, unwrap_target(X_target), reset=False)
            self.n_target_, self.target_mean_ = len(target), target.mean(axis=0)
        variance = np.average((X - mean) ** 2, axis=0, weights=s)
        move = self.strength * (self.target_mean_ - mean)
        self.slope_ = np.divide(move, variance, out=np.zeros_like(mean), where=variance > 0)
        self.scale_ = len(X) / (s @ np.exp(X @ self.slope_))
        self._set_weights(s * self._ratio(X))
        return self

    def _ratio(self, X):
        return self.scale_ * np.exp(X @ self.slope_)

    def predict_weights(self, X, y=None):
        return self._ratio(validate_features(self, X, reset=False))


class ArmWeighter(Weighter):
    """Rows weigh what they weigh in the population of both arms, if columns were independent."""

    _needs_treatment = True
    __metadata_request__fit = {"treatment": True}

    def fit(self, X, y=None, *, treatment=None, sample_weight=None):
        X = validate_features(self, X)
        s = check_sample_weight(sample_weight, X)
        self.classes_, codes = check_treatment(y if treatment is None else treatment, X)
        lengths = np.hypot(1.0, np.linalg.norm(X, axis=1))
        self._set_weights(normalize_weights(lengths ** (1 - 2 * codes), codes, s), codes)
        return self

    def predict_weights(self, X, y=None):
        raise AssertionError("held-out rows of a study must not be weighted")


class StudyReweighted(Reweighted):
    """A study whose treatment alternates by pairs, for checks that know of no treatment."""

    def fit(self, X, y=None, *, sample_weight=None):
        treatment = np.arange(count_rows(X)) // 2 % 2
        return super().fit(X, y, sample_weight=sample_weight, treatment=treatment)


class NoWeights(RegressorMixin, BaseEstimator):
    def fit(self, X, y):
        raise AssertionError("must not be fitted")


# Takes sample_weight, and must not get it.
UNSCALED = StandardScaler(with_mean=False, with_std=False)


@pytest.fixture(params=[False, True], ids=["routing off", "routing on"])
def routing(request):
    with config_context(enable_metadata_routing=request.param):
        yield request.param


@pytest.fixture
def data(rng):
    X = rng.normal(size=(90, 3))
    y = X[:, 0] ** 2 + X @ [1.0, -1.0, 0.5] + 0.1 * rng.normal(size=90)
    X_target = rng.normal(0.8, 1.0, size=(90, 3))
    return X, y, X_target


def labels(y):
    return np.array(["high", "low", "middle"])[np.digitize(y, np.quantile(y, [0.3, 0.6]))]


# Weights have mean one over the rows. Only estimators that do not depend on their scale treat a row
# of weight two as two rows, so none here is penalised.
CHECKED = [
    Reweighted(LinearRegression(), ShiftWeighter()),
    Reweighted(GaussianNB(), ShiftWeighter()),
    Reweighted(make_pipeline(UNSCALED, LinearRegression()), ShiftWeighter()),
    Reweighted(LinearRegression(), make_pipeline(UNSCALED, ShiftWeighter())),
    Reweighted(SplineTransformer(n_knots=3), ShiftWeighter()),
    StudyReweighted(LinearRegression(), ArmWeighter()),
]


@parametrize_with_checks(CHECKED)
def test_scikit_learn_checks(estimator, check):
    check(estimator)


@parametrize_with_checks(CHECKED[:3])
def test_scikit_learn_checks_with_routing(estimator, check):
    with config_context(enable_metadata_routing=True):
        check(estimator)


def fit_weights(X, y, **params):
    return ShiftWeighter().fit(X, y, **params).weights_


def test_fit_is_the_estimator_fitted_with_the_weights(data, routing):
    X, y, X_target = data
    sample_weight = np.arange(90) % 3
    model = Reweighted(Ridge(), ShiftWeighter())
    assert model.fit(X, y, sample_weight=sample_weight, X_target=X_target) is model
    weights = fit_weights(X, y, X_target=X_target, sample_weight=sample_weight)
    assert_array_equal(model.weights_, weights)
    assert_array_equal(model.weighter_.weights_, weights)
    expected = Ridge().fit(X, y, sample_weight=weights)
    assert_array_equal(model.predict(X), expected.predict(X))
    assert not np.allclose(model.predict(X), Ridge().fit(X, y).predict(X))
    # The parts that were passed stay as they were.
    assert not hasattr(model.estimator, "coef_")
    assert not hasattr(model.weighter, "weights_")


COMPOSED = [
    make_pipeline(StandardScaler(), Ridge()),
    make_pipeline(StandardScaler(), make_pipeline(StandardScaler(), Ridge())),
    Pipeline([("nothing", "passthrough"), ("ridge", Ridge())]),
    TransformedTargetRegressor(make_pipeline(StandardScaler(), Ridge())),
    VotingRegressor([("a", Ridge()), ("b", LinearRegression()), ("c", "drop")]),
    GridSearchCV(LinearRegression(), {"fit_intercept": [True]}, cv=3),
]


def fit_by_hand(estimator, X, y, weights):
    """Fit with weights in the learning steps only, one step after the other."""
    if isinstance(estimator, Pipeline):
        for _, step in estimator.steps[:-1]:
            X = X if step == "passthrough" else clone(step).fit_transform(X, y)
        return fit_by_hand(estimator[-1], X, y, weights)
    if isinstance(estimator, TransformedTargetRegressor):
        return fit_by_hand(estimator.regressor, X, y, weights)
    if isinstance(estimator, VotingRegressor):
        parts = [part for _, part in estimator.estimators if part != "drop"]
        return np.mean([fit_by_hand(part, X, y, weights) for part in parts], axis=0)
    estimator = getattr(estimator, "estimator", estimator)
    return clone(estimator).fit(X, y, sample_weight=weights).predict(X)


@pytest.mark.parametrize("estimator", COMPOSED, ids=repr)
def test_weights_reach_the_step_that_learns_and_no_other(estimator, data, routing):
    X, y, X_target = data
    if routing and isinstance(estimator, GridSearchCV):
        # Whether a search is scored with weights is for its user to say.
        estimator = clone(estimator)
        estimator.estimator.set_score_request(sample_weight=False)
    model = Reweighted(estimator, ShiftWeighter()).fit(X, y, X_target=X_target)
    expected = fit_by_hand(estimator, X, y, fit_weights(X, y, X_target=X_target))
    assert_allclose(model.predict(X), expected, rtol=1e-12)


def test_requests_are_set_on_the_clone_and_those_of_the_user_respected(data):
    X, y, X_target = data
    with config_context(enable_metadata_routing=True):
        weighted_scaler = StandardScaler().set_fit_request(sample_weight=True)
        pipeline = make_pipeline(weighted_scaler, Ridge())
        model = Reweighted(pipeline, ShiftWeighter()).fit(X, y, X_target=X_target)
        weights = model.weights_
        mean = np.average(X, axis=0, weights=weights)
        assert_allclose(model.estimator_[0].mean_, mean)
        assert pipeline[-1].get_metadata_routing().fit.requests["sample_weight"] is None
        refusing = make_pipeline(StandardScaler(), Ridge().set_fit_request(sample_weight=False))
        with pytest.raises(ValueError, match="Reweighted: Ridge refuses weights"):
            Reweighted(refusing, ShiftWeighter()).fit(X, y, X_target=X_target)
        search = GridSearchCV(Ridge(), {"alpha": [1.0]})
        with pytest.raises(UnsetMetadataPassedError, match="sample_weight"):
            Reweighted(search, ShiftWeighter()).fit(X, y, X_target=X_target)


@pytest.mark.parametrize(
    ("estimator", "name"),
    [
        (NoWeights(), "NoWeights"),
        (KNeighborsRegressor(), "KNeighborsRegressor"),
        (make_pipeline(StandardScaler(), KNeighborsRegressor()), "KNeighborsRegressor"),
        (Pipeline([("scale", StandardScaler()), ("end", "passthrough")]), "passthrough"),
        (GridSearchCV(KNeighborsRegressor(), {"n_neighbors": [1]}), "KNeighborsRegressor"),
        (StackingRegressor([("a", Ridge()), ("b", KNeighborsRegressor())]), "KNeighborsRegressor"),
    ],
    ids=repr,
)
def test_an_estimator_that_cannot_take_weights_is_named(estimator, name, data, routing):
    X, y, X_target = data
    with pytest.raises(ValueError, match=f"Reweighted: {name} cannot be weighted"):
        Reweighted(estimator, ShiftWeighter()).fit(X, y, X_target=X_target)


def test_metadata_that_the_weighter_does_not_know_are_named(data, routing):
    X, y, X_target = data
    with pytest.raises(TypeError, match=r"unexpected arguments \['X_tgt'\].*takes \['X_target'\]"):
        Reweighted(Ridge(), ShiftWeighter()).fit(X, y, X_tgt=X_target)


def test_parts_are_validated_in_fit(data):
    X, y, _ = data
    for parameters in ({"estimator": "ridge"}, {"weighter": None}, {"weighted_score": "yes"}):
        model = Reweighted(Ridge(), ShiftWeighter()).set_params(**parameters)
        with pytest.raises(ValueError, match=f"The '{next(iter(parameters))}' parameter"):
            model.fit(X, y)


def test_a_weighter_without_weights_is_an_error(data):
    X, y, _ = data

    class Signed(ShiftWeighter):
        def _set_weights(self, weights, groups=None):
            self.raw_weights_ = -weights

    class Short(ShiftWeighter):
        def _set_weights(self, weights, groups=None):
            self.weights_ = weights[1:]

    class Plain(BaseEstimator):
        def fit(self, X, y=None):
            self.weights_ = np.ones(len(X))
            return self

    with pytest.raises(ValueError, match="Reweighted: Signed has no weights_ after fit"):
        Reweighted(Ridge(), Signed()).fit(X, y, X_target=X)
    with pytest.raises(ValueError, match=r"Short gave weights of shape \(89,\) for 90 rows"):
        Reweighted(Ridge(), Short()).fit(X, y, X_target=X)
    Reweighted(Ridge(), Plain()).fit(X, y)
    with pytest.raises(ValueError, match="the fit of Plain takes none"):
        Reweighted(Ridge(), Plain()).fit(X, y, sample_weight=np.ones(90))


def test_treatment_is_balanced_never_the_outcome(data, rng, routing):
    X, _, _ = data
    treatment, outcome = rng.integers(2, size=90), rng.integers(2, size=90)
    model = Reweighted(Ridge(), ArmWeighter())
    with pytest.raises(ValueError, match="ArmWeighter balances treatment arms, and fit got no"):
        model.fit(X, outcome)
    model.fit(X, outcome, treatment=treatment)
    weights = ArmWeighter().fit(X, treatment).weights_
    assert_array_equal(model.weights_, weights)
    expected = Ridge().fit(X, outcome, sample_weight=weights)
    # The score of a study is not weighted, since the weights of new rows depend on their arms.
    assert model.score(X, outcome) == expected.score(X, outcome)


@pytest.mark.parametrize("inner", [Ridge(), make_pipeline(StandardScaler(), Ridge())], ids=repr)
def test_score_is_weighted_as_the_target_weighs_rows(inner, data, rng, routing):
    X, y, X_target = data
    model = Reweighted(inner, ShiftWeighter()).fit(X, y, X_target=X_target)
    X_new, y_new = rng.normal(size=(50, 3)), rng.normal(size=50)
    sample_weight = rng.uniform(size=50)
    weights = model.weighter_.predict_weights(X_new)
    prediction = model.predict(X_new)
    assert_allclose(model.score(X_new, y_new), r2_score(y_new, prediction, sample_weight=weights))
    assert_allclose(
        model.score(X_new, y_new, sample_weight=sample_weight),
        r2_score(y_new, prediction, sample_weight=weights * sample_weight),
    )
    model.set_params(weighted_score=False)
    assert_allclose(model.score(X_new, y_new), r2_score(y_new, prediction))
    assert_allclose(
        model.score(X_new, y_new, sample_weight=sample_weight),
        r2_score(y_new, prediction, sample_weight=sample_weight),
    )


def test_importance_weighted_score_estimates_the_score_in_the_target(rng):
    X = rng.normal(size=(200_000, 1))
    X_target = rng.normal(0.7, 1.0, size=(200_000, 1))

    def outcome(X):
        return np.sin(2 * X[:, 0])

    model = Reweighted(FrozenEstimator(Ridge().fit(X[:100], outcome(X[:100]))), ShiftWeighter())
    model.fit(X[:100_000], outcome(X[:100_000]), X_target=X_target[:100_000])
    held_out = X[100_000:], outcome(X[100_000:])
    truth = r2_score(outcome(X_target), model.predict(X_target))
    assert_allclose(model.score(*held_out), truth, atol=0.01)
    plain = model.set_params(weighted_score=False).score(*held_out)
    assert abs(plain - truth) > 0.1


def test_weights_that_need_no_function_of_new_rows_are_scored_without(data):
    X, y, _ = data

    class Once(Weighter):
        def fit(self, X, y=None):
            self._set_weights(np.ones(len(X)))
            return self

    model = Reweighted(Ridge(), Once()).fit(X, y)
    assert model.score(X, y) == Ridge().fit(X, y).score(X, y)


def test_rows_outside_the_target_cannot_be_scored(data):
    X, y, X_target = data

    class Half(ShiftWeighter):
        def predict_weights(self, X, y=None):
            return super().predict_weights(X) * (X[:, 0] > 0)

    model = Reweighted(Ridge(), Half()).fit(X, y, X_target=X_target)
    outside = X[:, 0] < 0
    with pytest.raises(ValueError, match=f"all {outside.sum()} rows to score have weight zero"):
        model.score(X[outside], y[outside])


def test_a_search_inside_is_scored_by_its_own_scorer(data):
    X, y, X_target = data
    for scoring, refit in [
        (None, True),
        ("neg_mean_absolute_error", True),
        (["r2", "neg_mean_absolute_error"], "r2"),
    ]:
        search = GridSearchCV(
            make_pipeline(StandardScaler(), Ridge()),
            {"ridge__alpha": [0.1, 1.0]},
            scoring=scoring,
            refit=refit,
        )
        model = Reweighted(search, ShiftWeighter()).fit(X, y, X_target=X_target)
        weights = model.weighter_.predict_weights(X)
        name = scoring if isinstance(scoring, str) else "r2"
        expected = get_scorer(name)(model, X, y, sample_weight=weights)
        assert_allclose(model.score(X, y), expected)


def test_a_score_that_cannot_be_weighted_is_named(data):
    X, y, X_target = data

    class OwnScore(Ridge):
        def score(self, X, y):
            return 7.0

    model = Reweighted(OwnScore(), ShiftWeighter()).fit(X, y, X_target=X_target)
    with pytest.raises(ValueError, match="score of OwnScore takes no sample_weight"):
        model.score(X, y)
    assert model.set_params(weighted_score=False).score(X, y) == 7.0


@pytest.mark.parametrize("inside", ["estimator", "weighter"])
def test_as_many_target_rows_as_rows_pass_whole_in_a_tuple(inside, data, routing):
    X, y, X_target = data
    assert len(X) == len(X_target)
    weighter = ShiftWeighter()
    estimator = Ridge()
    if inside == "estimator":
        estimator = make_pipeline(StandardScaler(), estimator)
    else:
        weighter = make_pipeline(StandardScaler(), weighter)
    model = Reweighted(estimator, weighter)

    def n_targets(X_target):
        result = cross_validate(
            model, X, y, cv=3, params={"X_target": X_target}, return_estimator=True
        )
        parts = [fitted.weighter_ for fitted in result["estimator"]]
        return [getattr(part, "n_target_", None) or part[-1].n_target_ for part in parts]

    assert n_targets((X_target,)) == [90, 90, 90]
    # What the tuple is for: a bare array is taken for one entry a training row.
    assert n_targets(X_target) == [60, 60, 60]


def test_cross_validation_is_importance_weighted(data, routing):
    X, y, X_target = data
    model = Reweighted(make_pipeline(StandardScaler(), Ridge()), ShiftWeighter())
    result = cross_validate(model, X, y, cv=KFold(3), params={"X_target": (X_target,)})
    for score, (train, test) in zip(result["test_score"], KFold(3).split(X), strict=True):
        weighter = ShiftWeighter().fit(X[train], X_target=X_target)
        weights = weighter.predict_weights(X[test])
        scaler = StandardScaler().fit(X[train])
        ridge = Ridge().fit(scaler.transform(X[train]), y[train], weighter.weights_)
        expected = ridge.score(scaler.transform(X[test]), y[test], weights)
        assert_allclose(score, expected, rtol=1e-10)


def test_a_search_tunes_both_parts(data, routing):
    X, y, X_target = data
    model = Reweighted(make_pipeline(StandardScaler(), Ridge()), ShiftWeighter())
    grid = {"estimator__ridge__alpha": [0.1, 10.0], "weighter__strength": [0.0, 1.0]}
    search = GridSearchCV(model, grid, cv=3).fit(X, y, X_target=(X_target,))
    assert search.best_estimator_.weighter_.n_target_ == 90
    scores = [
        cross_val_score(
            clone(model).set_params(**parameters), X, y, cv=3, params={"X_target": (X_target,)}
        ).mean()
        for parameters in search.cv_results_["params"]
    ]
    assert_allclose(search.cv_results_["mean_test_score"], scores, rtol=1e-12)
    assert len(set(np.round(scores, 6))) == 4
    assert_array_equal(search.predict(X), search.best_estimator_.predict(X))


def test_treatment_is_cut_to_the_training_rows(data, rng, routing):
    X, y, _ = data
    treatment = rng.integers(2, size=90)
    model = Reweighted(Ridge(), ArmWeighter())
    predictions = cross_val_predict(model, X, y, cv=KFold(3), params={"treatment": treatment})
    for train, test in KFold(3).split(X):
        weights = ArmWeighter().fit(X[train], treatment[train]).weights_
        expected = Ridge().fit(X[train], y[train], weights).predict(X[test])
        assert_allclose(predictions[test], expected)


def test_inside_a_pipeline(data):
    X, y, X_target = data
    expected = Reweighted(Ridge(), make_pipeline(StandardScaler(), ShiftWeighter()))
    expected.fit(X, y, X_target=X_target)
    pipeline = make_pipeline(StandardScaler(), Reweighted(Ridge(), ShiftWeighter()))
    # Without routing the pipeline transforms X but not the target rows.
    pipeline.fit(X, y, reweighted__X_target=X_target)
    untransformed = X_target.mean(axis=0)
    assert_allclose(pipeline[-1].weighter_.target_mean_, untransformed)
    assert not np.allclose(pipeline[-1].weights_, expected.weights_)
    pipeline.set_params(transform_input=["X_target"])
    with pytest.raises(ValueError, match="transform_input"):
        pipeline.fit(X, y, reweighted__X_target=X_target)
    with config_context(enable_metadata_routing=True):
        for target in (X_target, (X_target,)):
            pipeline.fit(X, y, X_target=target)
            assert_allclose(pipeline[-1].weights_, expected.weights_)
        scores = cross_val_score(pipeline, X, y, cv=3, params={"X_target": (X_target,)})
        assert np.isfinite(scores).all()


def test_requests_for_sample_weight_are_those_of_any_estimator(data):
    X, y, X_target = data
    sample_weight = np.arange(90) % 3 + 1.0
    with config_context(enable_metadata_routing=True):
        model = Reweighted(LinearRegression(), ShiftWeighter())
        params = {"sample_weight": sample_weight, "X_target": (X_target,)}
        with pytest.raises(UnsetMetadataPassedError, match="sample_weight"):
            cross_validate(model, X, y, params=params)
        model.set_fit_request(sample_weight=True).set_score_request(sample_weight=False)
        result = cross_validate(model, X, y, params=params, cv=KFold(3), return_estimator=True)
        for fitted, (train, _) in zip(result["estimator"], KFold(3).split(X), strict=True):
            expected = fit_weights(
                X[train], y, X_target=X_target, sample_weight=sample_weight[train]
            )
            assert_array_equal(fitted.weights_, expected)


def test_aliases_of_the_weighter_are_understood(data):
    X, y, X_target = data
    with config_context(enable_metadata_routing=True):
        weighter = ShiftWeighter().set_fit_request(X_target="rows_of_tomorrow")
        model = Reweighted(Ridge(), weighter)
        search = GridSearchCV(model, {"estimator__alpha": [1.0]}, cv=3)
        search.fit(X, y, rows_of_tomorrow=(X_target,))
        assert search.best_estimator_.weighter_.n_target_ == 90


def test_a_pipeline_may_prepare_the_rows_of_a_weighter(data, tmp_path, routing):
    X, y, X_target = data
    scaler = StandardScaler().fit(X)
    expected = ShiftWeighter().fit(scaler.transform(X), X_target=scaler.transform(X_target))
    for memory in (None, str(tmp_path)):
        weighter = make_pipeline(StandardScaler(), ShiftWeighter(), memory=memory)
        for target in (X_target, (X_target,)):
            model = Reweighted(Ridge(), weighter).fit(X, y, X_target=target)
            assert_allclose(model.weights_, expected.weights_)
        check_is_fitted(model.weighter_[0])
        weights = expected.predict_weights(scaler.transform(X[:20]))
        score = r2_score(y[:20], model.predict(X[:20]), sample_weight=weights)
        assert_allclose(model.score(X[:20], y[:20]), score)


def test_steps_before_a_balancer_see_the_treatment_and_not_the_outcome(data, rng):
    X, y, _ = data
    treatment = rng.integers(2, size=90)

    class Witness(StandardScaler):
        def fit(self, X, y=None, sample_weight=None):
            self.seen_ = y
            return super().fit(X)

    model = Reweighted(Ridge(), make_pipeline(Witness(), ArmWeighter()))
    model.fit(X, y, treatment=treatment)
    assert_array_equal(model.weighter_[0].seen_, treatment)


def test_a_frozen_estimator_stays_and_is_scored_with_weights(data, routing):
    X, y, X_target = data
    old = make_pipeline(StandardScaler(), Ridge()).fit(X[:30], y[:30])
    model = Reweighted(FrozenEstimator(old), ShiftWeighter())
    expected = old.predict(X)
    model = clone(model).fit(X, y, X_target=X_target)
    assert_array_equal(model.predict(X), expected)
    weights = model.weighter_.predict_weights(X)
    assert_allclose(model.score(X, y), r2_score(y, expected, sample_weight=weights))
    # What is not frozen is forgotten by clone.
    with pytest.raises(NotFittedError):
        clone(old).predict(X)


def test_a_frozen_weighter_weighs_other_rows_by_its_function(data):
    X, y, X_target = data
    weighter = ShiftWeighter().fit(X[:50], X_target=X_target)
    sample_weight = np.arange(40) % 2 + 1.0
    model = Reweighted(Ridge(), FrozenEstimator(weighter))
    model.fit(X[50:], y[50:], sample_weight=sample_weight)
    expected = normalize_weights(weighter.predict_weights(X[50:]), sample_weight=sample_weight)
    assert_allclose(model.weights_, expected)
    # As many rows as the weighter was fitted on are no reason to take its weights.
    model.fit(X[40:], y[40:])
    assert_allclose(model.weights_, normalize_weights(weighter.predict_weights(X[40:])))


def test_methods_are_those_of_the_estimator(data):
    X, y, X_target = data
    names = ["predict_proba", "predict_log_proba", "decision_function", "transform", "classes_"]
    regressor = Reweighted(Ridge(), ShiftWeighter())
    assert [hasattr(regressor, name) for name in names] == [False] * 5
    regressor.fit(X, y, X_target=X_target)
    assert [hasattr(regressor, name) for name in names] == [False] * 5
    classifier = Reweighted(LogisticRegression(), ShiftWeighter())
    assert [hasattr(classifier, name) for name in names] == [True, True, True, False, False]
    with pytest.raises(NotFittedError):
        classifier.predict_proba(X)
    classifier.fit(X, labels(y), X_target=X_target)
    fitted = LogisticRegression().fit(X, labels(y), sample_weight=classifier.weights_)
    assert_array_equal(classifier.classes_, ["high", "low", "middle"])
    for name in ["predict", *names[:3]]:
        assert_array_equal(getattr(classifier, name)(X), getattr(fitted, name)(X))
    scaler = Reweighted(StandardScaler(), ShiftWeighter())
    assert not hasattr(scaler, "predict")
    assert not hasattr(scaler, "score")
    transformed = scaler.fit_transform(X, X_target=X_target)
    assert_allclose(np.average(transformed, axis=0, weights=scaler.weights_), 0, atol=1e-12)
    assert_allclose(scaler.inverse_transform(transformed), X)
    assert list(scaler.get_feature_names_out()) == ["x0", "x1", "x2"]
    bayesian = Reweighted(BayesianRidge(), ShiftWeighter()).fit(X, y, X_target=X_target)
    _, std = bayesian.predict(X, return_std=True)
    assert_array_equal(std, bayesian.estimator_.predict(X, return_std=True)[1])
    clusters = Reweighted(KMeans(2, random_state=0), ShiftWeighter()).fit(X, X_target=X_target)
    assert_array_equal(clusters.predict(X), clusters.estimator_.predict(X))


def test_tags_are_those_of_the_parts(data):
    class Dense(ShiftWeighter):
        pass

    class Sparse(ShiftWeighter):
        def __sklearn_tags__(self):
            tags = super().__sklearn_tags__()
            tags.input_tags.sparse = True
            tags.target_tags.required = True
            return tags

        def fit(self, X, y=None, *, X_target=None):
            self._set_weights(np.ones(X.shape[0]))
            return self

    assert is_regressor(Reweighted(Ridge(), Dense()))
    assert is_classifier(Reweighted(make_pipeline(StandardScaler(), GaussianNB()), Dense()))
    assert get_tags(Reweighted(Ridge(), Sparse())).input_tags.sparse
    assert not get_tags(Reweighted(Ridge(), Dense())).input_tags.sparse
    assert not get_tags(Reweighted(GaussianNB(), Sparse())).input_tags.sparse
    assert get_tags(Reweighted(Ridge(), Dense())).target_tags.required
    assert not get_tags(Reweighted(KMeans(), Dense())).target_tags.required
    assert get_tags(Reweighted(KMeans(), Sparse())).target_tags.required
    X, y, _ = data
    model = Reweighted(Ridge(), Sparse()).fit(sp.csr_array(X), y)
    assert_allclose(model.predict(sp.csr_array(X)), Ridge().fit(X, y).predict(X), rtol=1e-6)


@pytest.mark.parametrize("library", [pd, pl], ids=["pandas", "polars"])
def test_data_frames_keep_their_names(library, data, routing):
    X, y, X_target = data

    def frame(array):
        return library.DataFrame({name: array[:, j] for j, name in enumerate("abc")})

    model = Reweighted(make_pipeline(StandardScaler(), Ridge()), ShiftWeighter())
    with warnings.catch_warnings():
        # A warning about names would say that a frame was taken for an array.
        warnings.simplefilter("error")
        model.fit(frame(X), library.Series(y), X_target=frame(X_target))
        assert list(model.feature_names_in_) == ["a", "b", "c"]
        assert model.n_features_in_ == 3
        predictions = model.predict(frame(X))
        score = model.score(frame(X), library.Series(y))
        cross_validate(model, frame(X), y, cv=3, params={"X_target": (frame(X_target),)})
    arrays = clone(model).fit(X, y, X_target=X_target)
    assert not hasattr(arrays, "feature_names_in_")
    assert_allclose(predictions, arrays.predict(X))
    assert_allclose(score, arrays.score(X, y))


def test_outputs_may_be_several(data, routing):
    X, y, X_target = data
    targets = np.column_stack([y, -2 * y])
    model = Reweighted(Ridge(), ShiftWeighter()).fit(X, targets, X_target=X_target)
    assert model.predict(X).shape == (90, 2)
    assert_allclose(model.predict(X)[:, 1], -2 * model.predict(X)[:, 0])
    predictions = cross_val_predict(model, X, targets, params={"X_target": (X_target,)})
    assert predictions.shape == (90, 2)


def test_calibration_of_a_reweighted_classifier(data, routing):
    X, y, X_target = data
    model = Reweighted(LogisticRegression(), ShiftWeighter())
    calibrated = CalibratedClassifierCV(model, cv=3).fit(X, labels(y), X_target=(X_target,))
    assert_allclose(calibrated.predict_proba(X).sum(axis=1), 1)
    inner = calibrated.calibrated_classifiers_[0].estimator
    assert inner.weighter_.n_target_ == 90
    assert accuracy_score(labels(y), calibrated.predict(X)) > 0.5


def test_nested_weighting_multiplies(data, routing):
    X, y, X_target = data
    inner = Reweighted(Ridge(), ShiftWeighter(strength=0.5))
    with pytest.warns(WeightWarning, match="no X_target"):
        model = Reweighted(inner, ShiftWeighter()).fit(X, y, X_target=X_target)
    assert_allclose(model.estimator_.weights_, model.weights_)


def test_clone_and_pickle(data):
    X, y, X_target = data
    model = Reweighted(Ridge(2.0), ShiftWeighter(0.5), weighted_score=False)
    model.fit(X, y, X_target=X_target)
    fresh = clone(model)
    assert not hasattr(fresh, "estimator_")
    assert repr(fresh) == repr(model)
    copy = pickle.loads(pickle.dumps(model))
    assert repr(copy) == repr(model)
    assert_array_equal(copy.weights_, model.weights_)
    assert_array_equal(copy.predict(X), model.predict(X))
    assert copy.score(X, y) == model.score(X, y)


def test_repr_shows_both_parts(data):
    X, y, X_target = data
    model = Reweighted(make_pipeline(StandardScaler(), Ridge()), ShiftWeighter())
    text = "".join(repr(model).split())
    assert text.startswith("Reweighted(estimator=Pipeline(")
    assert text.endswith("weighter=ShiftWeighter())")
    for page in (model._repr_html_(), model.fit(X, y, X_target=X_target)._repr_html_()):
        for word in ("Reweighted", "StandardScaler", "Ridge", "weighter: ShiftWeighter"):
            assert word in page

"""Models of two arms from one log: limits of the weights, streams, searches, what is refused."""

import pickle

import numpy as np
import pandas as pd
import polars as pl
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from sklearn import config_context
from sklearn.base import BaseEstimator, ClassifierMixin, clone, is_classifier, is_regressor
from sklearn.compose import make_column_transformer
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
from sklearn.linear_model import LinearRegression, LogisticRegression, Ridge, SGDRegressor
from sklearn.model_selection import GridSearchCV
from sklearn.naive_bayes import GaussianNB
from sklearn.neighbors import KNeighborsRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from causal import ArmWeighter, WeightedTraining

N = 400
METHODS = ("weighted", "pooling", "splitting")


class Probability(ClassifierMixin, BaseEstimator):
    """A classifier that has been told the probability: a function of the first column."""

    def __init__(self, function):
        self.function = function

    def fit(self, X, y, sample_weight=None):
        self.classes_ = np.unique(y)
        return self

    def partial_fit(self, X, y, classes=None, sample_weight=None):
        self.classes_ = classes
        return self

    def predict_proba(self, X):
        one = self.function(np.asarray(X)[:, 0])
        return np.column_stack([1 - one, one])


def half(x):
    return np.full(len(x), 0.5)


def sign(x):
    return (x > 0.4).astype(float)


class Log:
    def __init__(self, n=N, seed=0):
        rng = np.random.default_rng(seed)
        self.z = (rng.random(n) < 0.5).astype(int)
        self.X = rng.normal(size=(n, 2)) + 0.8 * self.z[:, None] * [1.0, 0.0]
        self.y = np.maximum(self.X[:, 0], 0.0) + 0.3 * rng.normal(size=n)
        self.two = np.column_stack([self.y, self.X[:, 1] - self.y])
        self.s = rng.integers(1, 4, size=n).astype(float)

    def fit(self, estimator=None, weight_estimator=None, *, y=None, z=None, s=None, **parameters):
        training = WeightedTraining(estimator or Ridge(), weight_estimator, **parameters)
        return training.fit(
            self.X,
            self.y if y is None else y,
            treatment=self.z if z is None else z,
            sample_weight=s,
        )


@pytest.fixture(scope="module")
def log():
    return Log()


def coefficients(training):
    return [
        np.append(model.coef_, model.intercept_)
        for model in (training.control_model_, training.treatment_model_)
    ]


@pytest.mark.parametrize("weighted", [False, True])
def test_each_arm_learns_with_the_weights_of_its_law(log, weighted):
    s = log.s if weighted else None
    training = log.fit(y=log.two, s=s)
    for column, arm in enumerate(("control", "treatment")):
        weights = ArmWeighter(arm).fit(log.X, log.z, sample_weight=s).weights_
        assert_allclose(training.training_weights_[:, column], weights, rtol=1e-10)
        direct = Ridge().fit(log.X, log.two, sample_weight=weights)
        assert_allclose(training.predict(log.X, arm=arm), direct.predict(log.X), rtol=1e-8)
    assert_allclose(training.training_weights_.mean(axis=0), 1)


def test_a_constant_probability_is_pooling(log):
    weighted = log.fit(weight_estimator=Probability(half))
    pooled = log.fit(method="pooling")
    for coefficient in coefficients(weighted):
        assert_allclose(coefficient, coefficients(pooled)[0], rtol=1e-10)
    assert pooled.control_model_ is pooled.treatment_model_
    assert_array_equal(pooled.training_weights_, 1.0)


def test_an_arm_that_is_a_function_of_the_features_is_splitting(log):
    z = (log.X[:, 0] > 0.4).astype(int)
    weighted = log.fit(weight_estimator=Probability(sign), z=z)
    split = log.fit(method="splitting", z=z)
    assert_allclose(weighted.training_weights_, split.training_weights_, rtol=1e-12)
    for one, other in zip(coefficients(weighted), coefficients(split), strict=True):
        assert_allclose(one, other, rtol=1e-8)


def test_splitting_is_a_fit_to_the_rows_of_the_arm(log):
    split = log.fit(LinearRegression(), method="splitting")
    for code, model in enumerate((split.control_model_, split.treatment_model_)):
        own = LinearRegression().fit(log.X[log.z == code], log.y[log.z == code])
        assert_allclose(model.coef_, own.coef_, rtol=1e-8)
        assert_allclose(split.training_weights_[:, code], (log.z == code) / np.mean(log.z == code))
    # Rows that all count alike need no weights, so that any model will do.
    neighbours = log.fit(KNeighborsRegressor(), method="splitting")
    assert neighbours.treatment_model_.n_samples_fit_ == log.z.sum()
    with pytest.raises(ValueError, match="KNeighborsRegressor cannot be weighted"):
        log.fit(KNeighborsRegressor())


def test_a_known_share_scales_nothing_that_models_see(log):
    assert_allclose(
        log.fit(treatment_prob=0.3).training_weights_, log.fit().training_weights_, rtol=1e-12
    )
    assert log.fit(treatment_prob=0.3).treatment_prob_ == 0.3


def test_weighting_removes_what_the_other_arm_does_to_a_model_that_is_too_simple():
    """A line through a bend: its slope depends on where the rows are."""
    log = Log(40_000, seed=1)
    weighted = log.fit(LinearRegression())
    split = log.fit(LinearRegression(), method="splitting")
    pooled = log.fit(LinearRegression(), method="pooling")
    for one, own, both in zip(*map(coefficients, (weighted, split, pooled)), strict=True):
        assert abs(one[0] - own[0]) < 0.01
        assert abs(both[0] - own[0]) > 0.05


@pytest.mark.parametrize("method", METHODS)
def test_words_as_arms_pickles_and_clones(log, method):
    words = np.array(["A", "B"])[log.z]
    training = log.fit(method=method, z=words)
    assert training.treatment_labels_.tolist() == ["A", "B"]
    copy = pickle.loads(pickle.dumps(training))
    assert_array_equal(copy.predict(log.X, arm="control"), training.predict(log.X, arm="control"))
    assert not hasattr(clone(training), "control_model_")
    assert is_regressor(training)


@pytest.mark.parametrize("frame", [pd.DataFrame, pl.DataFrame])
def test_frames_give_the_same_models(log, frame):
    table = frame({"age": log.X[:, 0], "price": log.X[:, 1]})
    training = WeightedTraining(Ridge()).fit(table, log.y, treatment=log.z)
    assert training.feature_names_in_.tolist() == ["age", "price"]
    predictions = training.predict(table, arm="treatment")
    assert_allclose(predictions, log.fit().predict(log.X, arm="treatment"), rtol=1e-10)


def test_pipelines_see_words_and_their_last_step_is_weighted(log):
    words = np.where(log.X[:, 0] > 0.4, "long", "short")
    table = pd.DataFrame({"item": words, "age": log.X[:, 1]})
    encode = make_column_transformer((OneHotEncoder(), ["item"]), remainder="passthrough")
    training = WeightedTraining(
        make_pipeline(encode, Ridge()), make_pipeline(encode, LogisticRegression())
    ).fit(table, log.y, treatment=log.z)
    Z = encode.fit_transform(table)
    weights = training.training_weights_[:, 1]
    direct = Ridge().fit(Z, log.y, sample_weight=weights)
    assert_allclose(training.predict(table, arm="treatment"), direct.predict(Z), rtol=1e-8)
    with config_context(enable_metadata_routing=True):
        routed = clone(training).fit(table, log.y, treatment=log.z)
    assert_allclose(routed.predict(table, arm="treatment"), direct.predict(Z), rtol=1e-8)


def test_classifiers_keep_their_classes_and_probabilities(log):
    y = np.where(log.y > 0.5, "long", "short")
    training = log.fit(LogisticRegression(), y=y)
    assert is_classifier(training)
    assert training.classes_.tolist() == ["long", "short"]
    assert training.predict_proba(log.X, arm="control").shape == (N, 2)
    assert training.decision_function(log.X, arm="control").shape == (N,)
    assert 0.5 < training.score(log.X, y) < 1
    assert not hasattr(log.fit(), "predict_proba")


def test_missing_values_pass_if_both_models_take_them(log):
    X = log.X.copy()
    X[::7, 1] = np.nan
    trees = WeightedTraining(
        HistGradientBoostingRegressor(max_iter=5), HistGradientBoostingClassifier(max_iter=5), cv=2
    )
    assert np.isfinite(trees.fit(X, log.y, treatment=log.z).predict(X, arm="control")).all()
    with pytest.raises(ValueError, match="Input X contains NaN"):
        WeightedTraining(HistGradientBoostingRegressor()).fit(X, log.y, treatment=log.z)


def test_the_score_is_that_of_the_arm_on_its_own_law(log):
    training = log.fit()
    fresh = Log(seed=5)
    G = training.weighter_.predict_arm_probability(fresh.X)
    by_hand = {}
    for arm, w in (("treatment", G), ("control", 1 - G)):
        model = training.treatment_model_ if arm == "treatment" else training.control_model_
        by_hand[arm] = model.score(fresh.X, fresh.y, sample_weight=w)
        assert_allclose(training.score(fresh.X, fresh.y, arm=arm), by_hand[arm], rtol=1e-10)
    assert_allclose(training.score(fresh.X, fresh.y), np.mean(list(by_hand.values())), rtol=1e-10)


@pytest.mark.parametrize("method", METHODS)
def test_searches_work(log, method):
    search = GridSearchCV(
        WeightedTraining(Ridge(), method=method), {"estimator__alpha": [0.1, 1e5]}, cv=3
    )
    search.fit(log.X, log.y, treatment=log.z)
    assert search.best_params_ == {"estimator__alpha": 0.1}


@pytest.mark.parametrize("method", METHODS)
def test_streams_weigh_batches_as_the_stream_so_far_asks(log, method):
    training = WeightedTraining(
        SGDRegressor(random_state=0), Probability(half), method=method, treatment_prob=0.5
    )
    counts = np.zeros(2)
    for rows in np.array_split(np.arange(N), 8):
        training.partial_fit(log.X[rows], log.y[rows], treatment=log.z[rows])
        arms = np.column_stack([log.z[rows] == 0, log.z[rows] == 1])
        counts += arms.sum(axis=0)
        if method == "splitting":
            assert_allclose(training.training_weights_, arms * counts.sum() / counts)
        else:
            assert_allclose(training.training_weights_, 1)
    # The models saw exactly these weights.
    plain = SGDRegressor(random_state=0)
    for rows in np.array_split(np.arange(N), 8):
        own = rows[log.z[rows] == 1] if method == "splitting" else rows
        seen = np.arange(N)[: rows[-1] + 1]
        weight = len(seen) / log.z[seen].sum() if method == "splitting" else 1.0
        plain.partial_fit(log.X[own], log.y[own], sample_weight=np.full(len(own), weight))
    assert_allclose(training.treatment_model_.coef_, plain.coef_, rtol=1e-10)


def test_streams_of_classifiers_and_batches_of_one_arm(log):
    y = (log.y > 0.5).astype(int)
    training = WeightedTraining(GaussianNB(), method="splitting")
    training.partial_fit(log.X[:100], y[:100], treatment=log.z[:100], classes=[0, 1])
    before = training.control_model_.class_count_.sum()
    treated = np.flatnonzero(log.z == 1)[60:]
    training.partial_fit(log.X[treated], y[treated], treatment=log.z[treated])
    assert training.control_model_.class_count_.sum() == before
    assert training.predict(log.X, arm="control").shape == (N,)


def test_streams_go_on_from_a_fit(log):
    training = WeightedTraining(SGDRegressor(random_state=0))
    training.fit(log.X, log.y, treatment=log.z)
    first = training.treatment_model_.t_
    training.partial_fit(log.X[:50], log.y[:50], treatment=log.z[:50])
    assert training.treatment_model_.t_ == first + 50
    assert training.training_weights_.shape == (50, 2)
    # 400 rows say more than the 50 that come twice: a fresh stream is further off.
    whole = log.fit().training_weights_[:50, 1]
    fresh = WeightedTraining(SGDRegressor(random_state=0))
    fresh.partial_fit(log.X[:50], log.y[:50], treatment=log.z[:50])
    off = [np.abs(model.training_weights_[:, 1] - whole).mean() for model in (training, fresh)]
    assert off[0] < off[1] / 3


ERRORS = {
    "no arm": ({}, {"treatment": None}, "treatment is required"),
    "one arm": ({}, {"treatment": np.ones(N)}, "one class"),
    "lengths": ({}, {"treatment": np.ones(3)}, "inconsistent"),
    "no y": ({}, {"y": None}, "requires y"),
    "share": ({"treatment_prob": 0.0}, {}, "treatment_prob"),
    "method": ({"method": "snapshot"}, {}, "method"),
    "NaN": ({}, {"X": np.full((N, 2), np.nan)}, "NaN"),
    "weights": ({}, {"sample_weight": -np.ones(N)}, "Negative"),
}


@pytest.mark.parametrize("case", list(ERRORS))
def test_bad_input_is_refused_with_a_remedy(log, case):
    parameters, changes, message = ERRORS[case]
    arguments = {"X": log.X, "y": log.y, "treatment": log.z} | changes
    with pytest.raises(ValueError, match=message):
        WeightedTraining(Ridge(), **parameters).fit(**arguments)


def test_the_arm_must_be_said(log):
    training = log.fit(make_pipeline(StandardScaler(), Ridge()))
    for arm in (None, "T", 1):
        with pytest.raises(ValueError, match="'treatment' or 'control'"):
            training.predict(log.X, arm=arm)
    log.fit(method="pooling").predict(log.X)


def test_bad_streams_are_refused_with_a_remedy(log):
    assert not hasattr(WeightedTraining(Ridge()), "partial_fit")

    class Plain(BaseEstimator):
        def fit(self, X, y):
            return self

        def partial_fit(self, X, y):
            return self

    with pytest.raises(ValueError, match="partial_fit of Plain takes no sample_weight"):
        WeightedTraining(Plain()).partial_fit(log.X, log.y, treatment=log.z)
    training = WeightedTraining(SGDRegressor(), method="pooling")
    training.partial_fit(log.X, log.y, treatment=log.z)
    with pytest.raises(ValueError, match="value 3 that the first batch did not have"):
        training.partial_fit(log.X[:1], log.y[:1], treatment=[3])

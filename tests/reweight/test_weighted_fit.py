"""Weights reach what learns, wherever it stands, with metadata routing on and off."""

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from sklearn import config_context
from sklearn.base import clone
from sklearn.compose import make_column_transformer
from sklearn.ensemble import BaggingRegressor, StackingRegressor
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LinearRegression, LogisticRegression, Ridge
from sklearn.metrics import accuracy_score, r2_score
from sklearn.model_selection import GridSearchCV
from sklearn.multioutput import MultiOutputRegressor
from sklearn.neighbors import KNeighborsRegressor
from sklearn.pipeline import make_pipeline, make_union
from sklearn.preprocessing import PolynomialFeatures, StandardScaler

from reweight.weighted_fit import weight_key, weighted_fit, weighted_score


@pytest.fixture(params=[False, True], ids=["routing off", "routing on"])
def routing(request):
    with config_context(enable_metadata_routing=request.param):
        yield request.param


@pytest.fixture
def problem(rng):
    X = rng.normal(size=(50, 2))
    y = X[:, 0] ** 2 + X[:, 1] + 0.1 * rng.normal(size=50)
    return X, y, rng.exponential(size=50)


def test_preparation_of_any_depth_does_without_weights(problem, routing):
    X, y, weights = problem
    front = make_column_transformer((make_union(StandardScaler(), PolynomialFeatures()), [0, 1]))
    model = weighted_fit(make_pipeline(clone(front), Ridge()), X, y, weights, owner="Study")
    Z = front.fit_transform(X)
    expected = Ridge().fit(Z, y, sample_weight=weights)
    assert_allclose(model.predict(X), expected.predict(Z))


def test_other_metadata_go_with_the_weights(problem, routing):
    X, y, weights = problem

    class Shrunk(LinearRegression):
        __metadata_request__fit = {"shrinkage": True}

        def fit(self, X, y, sample_weight=None, shrinkage=1.0):
            return super().fit(X, shrinkage * np.asarray(y), sample_weight)

    model = weighted_fit(Shrunk(), X, y, weights, owner="Study", shrinkage=0.5)
    expected = 0.5 * LinearRegression().fit(X, y, weights).predict(X)
    assert_allclose(model.predict(X), expected)


def test_without_weights_nothing_is_asked_of_the_estimator(problem, routing):
    X, y, _ = problem
    model = weighted_fit(KNeighborsRegressor(), X, y, None, owner="Study")
    assert_array_equal(model.predict(X), KNeighborsRegressor().fit(X, y).predict(X))


def test_frozen_parts_stay(problem, routing):
    X, y, weights = problem
    scaler, old = StandardScaler().fit(X[:9]), Ridge().fit(X[:9], y[:9])
    model = make_pipeline(FrozenEstimator(scaler), Ridge())
    weighted_fit(model, X, y, weights, owner="Study")
    expected = Ridge().fit(scaler.transform(X), y, weights).predict(scaler.transform(X))
    assert_allclose(model.predict(X), expected)
    assert weight_key(FrozenEstimator(old), owner="Study") == "sample_weight"
    frozen = weighted_fit(FrozenEstimator(old), X, y, weights, owner="Study")
    assert_array_equal(frozen.predict(X), old.predict(X))


def test_members_of_a_stack_are_weighted(problem, routing):
    X, y, weights = problem
    stack = StackingRegressor([("a", Ridge()), ("b", LinearRegression())], Ridge(), cv=3)
    if routing:
        stack.final_estimator.set_fit_request(sample_weight=True)
    weighted_fit(stack, X, y, weights, owner="Study")
    assert_allclose(stack.estimators_[0].coef_, Ridge().fit(X, y, weights).coef_)
    assert_allclose(stack.estimators_[1].coef_, LinearRegression().fit(X, y, weights).coef_)


def test_meta_estimators_that_take_weights_hand_them_on(problem):
    X, y, weights = problem
    targets = np.column_stack([y, -y])
    model = weighted_fit(MultiOutputRegressor(Ridge()), X, targets, weights, owner="Study")
    assert_allclose(model.estimators_[0].coef_, Ridge().fit(X, y, weights).coef_)
    bag = BaggingRegressor(Ridge(), n_estimators=3, random_state=0)
    expected = clone(bag).fit(X, y, sample_weight=weights).predict(X)
    assert_allclose(weighted_fit(bag, X, y, weights, owner="Study").predict(X), expected)


def test_a_search_hands_the_weights_to_the_end_of_its_pipeline(problem):
    X, y, weights = problem
    search = GridSearchCV(make_pipeline(StandardScaler(), Ridge()), {"ridge__alpha": [2.0]}, cv=3)
    assert weight_key(search, owner="Study") == "ridge__sample_weight"
    weighted_fit(search, X, y, weights, owner="Study")
    Z = StandardScaler().fit_transform(X)
    assert_allclose(search.predict(X), Ridge(2.0).fit(Z, y, weights).predict(Z))


def test_scores_are_weighted_wherever_the_model_stands(problem, routing):
    X, y, weights = problem
    for model in (Ridge(), make_pipeline(StandardScaler(), "passthrough", Ridge())):
        model.fit(X, y)
        expected = r2_score(y, model.predict(X), sample_weight=weights)
        for form in (model, FrozenEstimator(model), make_pipeline(model)):
            assert_allclose(weighted_score(form, X, y, weights, owner="Study"), expected)
        assert weighted_score(model, X, y, None, owner="Study") == model.score(X, y)
    classifier = LogisticRegression().fit(X, y > 0)
    expected = accuracy_score(y > 0, classifier.predict(X), sample_weight=weights)
    assert_allclose(weighted_score(classifier, X, y > 0, weights, owner="Study"), expected)

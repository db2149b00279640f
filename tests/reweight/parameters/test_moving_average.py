"""The slow copy is the average it says, in streams and in fits."""

import pickle

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.base import clone, is_classifier, is_regressor
from sklearn.exceptions import NotFittedError
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import SGDClassifier, SGDRegressor
from sklearn.model_selection import GridSearchCV
from sklearn.naive_bayes import GaussianNB
from sklearn.neural_network import MLPClassifier

from reweight import MovingAverageEstimator


def batches(rng, n_batches=12):
    for _ in range(n_batches):
        X = rng.normal(size=(30, 3))
        yield X, (X[:, 0] - X[:, 1] + 0.5 * rng.normal(size=30) > 0).astype(int)


def test_it_is_the_recursion(rng):
    fast = SGDClassifier(random_state=0)
    model = MovingAverageEstimator(SGDClassifier(random_state=0), decay=0.8)
    slow = None
    for X, y in batches(rng):
        model.partial_fit(X, y, classes=[0, 1])
        fast.partial_fit(X, y, classes=[0, 1])
        slow = fast.coef_.copy() if slow is None else 0.8 * slow + 0.2 * fast.coef_
        assert_allclose(model.estimator_.coef_, slow, rtol=1e-10)
        assert_allclose(model.fast_estimator_.coef_, fast.coef_, rtol=1e-12)
    assert model.n_updates_ == 12
    assert_array_equal(model.predict(X), model.estimator_.predict(X))


def test_without_memory_the_slow_copy_is_the_fast_one(rng):
    model = MovingAverageEstimator(SGDRegressor(random_state=0), decay=0.0)
    for X, y in batches(rng, 3):
        model.partial_fit(X, y)
        assert_array_equal(model.estimator_.coef_, model.fast_estimator_.coef_)


def test_it_starts_from_a_given_model(rng):
    X, y = next(batches(rng))
    start = SGDClassifier(random_state=1).fit(X, y)
    before = start.coef_.copy()
    model = MovingAverageEstimator(SGDClassifier(random_state=0), 0.9, FrozenEstimator(start))
    X, y = next(batches(rng))
    model = clone(model).partial_fit(X, y)
    expected = 0.9 * before + 0.1 * model.fast_estimator_.coef_
    assert_allclose(model.estimator_.coef_, expected, rtol=1e-12)
    assert_array_equal(start.coef_, before)
    assert model.fast_estimator_.t_ > 30  # went on from the start
    with pytest.raises(
        TypeError, match="start_from is a SGDClassifier but estimator a SGDRegressor"
    ):
        MovingAverageEstimator(SGDRegressor(), start_from=start).partial_fit(X, y)
    with pytest.raises(NotFittedError):
        MovingAverageEstimator(SGDRegressor(), start_from=SGDRegressor()).partial_fit(X, y)


def test_it_is_less_noisy_than_the_fast_copy(rng):
    errors = []
    for seed in range(10):
        learner = SGDRegressor(learning_rate="constant", eta0=0.05, random_state=seed)
        model = MovingAverageEstimator(learner, decay=0.95, random_state=seed, max_iter=3)
        X = rng.normal(size=(1000, 4))
        model.fit(X, X @ np.ones(4) + rng.normal(size=1000))
        errors.append(
            [((m.coef_ - 1) ** 2).sum() for m in (model.estimator_, model.fast_estimator_)]
        )
    slow, fast = np.mean(errors, axis=0)
    assert slow < 0.4 * fast


def test_fit_is_shuffled_batches(rng):
    X, y = rng.normal(size=(250, 2)), rng.normal(size=250)
    options = {"max_iter": 2, "batch_size": 100, "random_state": 5}
    model = MovingAverageEstimator(SGDRegressor(random_state=0), 0.5, **options).fit(X, y)
    assert (model.n_updates_, model.n_iter_) == (6, 2)
    again = clone(model).fit(X, y)
    assert_array_equal(again.estimator_.coef_, model.estimator_.coef_)
    model.fit(X, y)  # starts anew
    assert model.n_updates_ == 6
    assert_array_equal(again.estimator_.coef_, model.estimator_.coef_)
    by_hand = clone(model)
    shuffles = np.random.RandomState(5)
    for _ in range(2):
        order = shuffles.permutation(250)
        for rows in (order[:100], order[100:200], order[200:]):
            by_hand.partial_fit(X[rows], y[rows])
    assert_array_equal(by_hand.estimator_.coef_, model.estimator_.coef_)


def test_weights_reach_the_fast_copy(rng):
    X, y = next(batches(rng))
    weight = rng.uniform(size=30)
    model = MovingAverageEstimator(SGDRegressor(random_state=0))
    model.partial_fit(X, y, sample_weight=weight)
    expected = SGDRegressor(random_state=0).partial_fit(X, y, sample_weight=weight)
    assert_array_equal(model.fast_estimator_.coef_, expected.coef_)


def test_networks_searches_and_frames(rng):
    pandas = pytest.importorskip("pandas")
    X, y = next(batches(rng))
    frame = pandas.DataFrame(X, columns=["a", "b", "c"])
    net = MovingAverageEstimator(MLPClassifier((4,), random_state=0), decay=0.5, random_state=0)
    search = GridSearchCV(net, {"decay": [0.0, 0.5], "estimator__alpha": [0.1]}, cv=2).fit(frame, y)
    best = search.best_estimator_
    assert list(best.feature_names_in_) == ["a", "b", "c"]
    assert_array_equal(
        pickle.loads(pickle.dumps(best)).predict_proba(frame), best.predict_proba(frame)
    )
    assert is_classifier(net)
    assert is_regressor(MovingAverageEstimator(SGDRegressor()))
    assert not hasattr(MovingAverageEstimator(SGDClassifier()), "predict_proba")
    assert_allclose(best.score(frame, y, sample_weight=np.ones(30)), best.score(frame, y))


def test_bad_input_is_refused(rng):
    X, y = next(batches(rng))
    for decay in (-0.1, 1.0):
        with pytest.raises(ValueError, match="'decay' parameter"):
            MovingAverageEstimator(SGDRegressor(), decay).partial_fit(X, y)
    with pytest.raises(TypeError, match="GaussianNB has no coef_, coefs_ or state_dict"):
        MovingAverageEstimator(GaussianNB()).partial_fit(X, y, classes=[0, 1])
    with pytest.raises(ValueError, match="requires y to be passed"):
        MovingAverageEstimator(SGDRegressor()).fit(X)
    with pytest.raises(NotFittedError):
        MovingAverageEstimator(SGDRegressor()).predict(X)

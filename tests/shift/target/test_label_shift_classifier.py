"""Facts about classifiers for shifted class priors."""

import pickle
import warnings

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.base import clone
from sklearn.datasets import load_digits
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss
from sklearn.model_selection import (
    GridSearchCV,
    cross_val_predict,
    cross_validate,
    train_test_split,
)
from sklearn.naive_bayes import GaussianNB
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from reweight.exceptions import WeightWarning
from shift import BBSE, MLLS, RLLS, LabelShiftClassifier, make_target_shift

STRATEGIES = ["adapt", "reweight", "both"]


@pytest.fixture(scope="module")
def data():
    return make_target_shift(3000, design="classes", random_state=0)


def model(**parameters):
    return LabelShiftClassifier(LogisticRegression(), **parameters)


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("weighter", [None, BBSE(), RLLS()], ids=str)
def test_every_strategy_is_better_in_the_target(strategy, weighter, data):
    plain = LogisticRegression().fit(data.X, data.y)
    fitted = model(strategy=strategy, weighter=weighter).fit(data.X, data.y, X_target=data.X_target)
    before = log_loss(data.y_target, plain.predict_proba(data.X_target))
    after = log_loss(data.y_target, fitted.predict_proba(data.X_target))
    assert after < before - 0.1
    assert fitted.score(data.X_target, data.y_target) > plain.score(data.X_target, data.y_target)
    # The truth knows the new priors; nobody can be much better than it.
    assert_allclose(fitted.predict_proba(data.X_target).mean(axis=0), [0.15, 0.25, 0.6], atol=0.05)


def test_adapt_is_the_parts_put_together(data):
    fitted = model(cv=4).fit(data.X, data.y, X_target=data.X_target)
    estimator = LogisticRegression()
    P = cross_val_predict(estimator, data.X, data.y, cv=4, method="predict_proba")
    estimator.fit(data.X, data.y)
    weighter = MLLS().fit(P, data.y, X_target=estimator.predict_proba(data.X_target))
    assert_allclose(fitted.weighter_.class_weights_, weighter.class_weights_, rtol=1e-10)
    adapted = weighter.adapt_proba(estimator.predict_proba(data.X_target))
    assert_allclose(fitted.predict_proba(data.X_target), adapted, rtol=1e-10)
    assert_array_equal(fitted.predict(data.X_target), adapted.argmax(axis=1))
    assert_allclose(fitted.predict_log_proba(data.X_target), np.log(adapted))


def test_reweight_is_a_fit_with_the_weights(data):
    fitted = model(strategy="reweight").fit(data.X, data.y, X_target=data.X_target)
    expected = LogisticRegression().fit(data.X, data.y, sample_weight=fitted.weights_)
    assert_allclose(fitted.predict_proba(data.X), expected.predict_proba(data.X))
    assert_allclose(fitted.weights_, fitted.weighter_.predict_weights(y=data.y), rtol=1e-10)
    assert fitted.adapter_ is None


def test_both_does_not_count_the_weights_twice(data):
    fitted = model(strategy="both").fit(data.X, data.y, X_target=data.X_target)
    assert np.abs(fitted.weighter_.class_weights_ - 1).max() > 0.5
    # Weighted rows already have the priors of the target.
    assert_allclose(fitted.adapter_.class_weights_, 1, atol=0.05)
    assert_allclose(fitted.adapter_.target_prior_, fitted.weighter_.target_prior_, atol=0.02)


@pytest.mark.parametrize("strategy", ["reweight", "both"])
def test_a_class_that_the_target_lacks_stays_known(strategy, data):
    two = data.y_target < 2
    meta = model(strategy=strategy, weighter=RLLS())
    fitted = meta.fit(
        data.X, data.y, X_target=data.X_target[two], sample_weight=0.5 + data.X[:, 0] ** 2
    )
    assert fitted.weighter_.target_prior_[2] < 0.03
    assert list(fitted.classes_) == [0, 1, 2]
    P = fitted.predict_proba(data.X)
    assert np.isfinite(P).all()
    assert fitted.weights_[data.y == 2].max() < 0.5


def test_a_target_of_one_class_is_adapted_to(data):
    meta = LabelShiftClassifier(GaussianNB(), MLLS(calibration=None), strategy="both")
    one = data.X_target[data.y_target == 2] + [0.0, 3.0]
    fitted = meta.fit(data.X, data.y, X_target=one)
    assert fitted.weights_[data.y == 1].max() < 1e-6
    assert list(fitted.classes_) == [0, 1, 2]
    assert_allclose(fitted.predict_proba(one).mean(axis=0), [0, 0, 1], atol=0.01)


def test_sample_weight_reaches_every_part(data):
    s = np.where(data.y == 0, 0.3, 1.0)
    fitted = model().fit(data.X, data.y, X_target=data.X_target, sample_weight=s)
    prior = np.bincount(data.y, s) / s.sum()
    assert_allclose(fitted.weighter_.source_prior_, prior, atol=1e-8)
    assert_allclose(fitted.weights_.mean(), 1)
    expected = LogisticRegression().fit(data.X, data.y, sample_weight=s)
    assert_allclose(fitted.estimator_.coef_, expected.coef_)


def test_a_frozen_classifier_stays(data):
    frozen = LogisticRegression().fit(data.X[:1000], data.y[:1000])
    fitted = LabelShiftClassifier(FrozenEstimator(frozen)).fit(
        data.X[1000:], data.y[1000:], X_target=data.X_target
    )
    weighter = MLLS().fit(
        frozen.predict_proba(data.X[1000:]),
        data.y[1000:],
        X_target=frozen.predict_proba(data.X_target),
    )
    assert_allclose(fitted.weighter_.class_weights_, weighter.class_weights_)


def test_target_rows_as_many_as_source_rows_pass_whole(data):
    X, y = data.X[:300], data.y[:300]
    found = cross_validate(
        model(cv=3), X, y, params={"X_target": (data.X_target[:300],)}, return_estimator=True, cv=3
    )
    assert [fitted.n_target_ for fitted in found["estimator"]] == [300] * 3


def test_pipelines_names_labels_and_searches(data):
    import pandas as pd

    X, X_target = (pd.DataFrame(rows, columns=["a", "b"]) for rows in (data.X, data.X_target))
    y = np.array(["one", "two", "three"])[data.y]
    pipeline = make_pipeline(StandardScaler(), LogisticRegression())
    meta = LabelShiftClassifier(pipeline, MLLS(), strategy="both", cv=3)
    fitted = meta.fit(X, y, X_target=X_target)
    assert list(fitted.feature_names_in_) == ["a", "b"]
    assert fitted.n_features_in_ == 2
    assert list(fitted.classes_) == ["one", "three", "two"]
    assert set(fitted.predict(X_target)) <= set(y)
    assert_allclose(fitted.weighter_.target_prior_, [0.15, 0.6, 0.25], atol=0.06)
    copy = pickle.loads(pickle.dumps(fitted))
    assert_array_equal(copy.predict_proba(X), fitted.predict_proba(X))
    assert not hasattr(clone(fitted), "estimator_")
    grid = {"weighter__calibration": [None, "bcts"], "strategy": ["adapt", "reweight"]}
    search = GridSearchCV(meta, grid, cv=2).fit(X[:400], y[:400], X_target=(X_target,))
    assert set(search.best_params_) == set(grid)


def test_folds_in_parallel_give_the_same_bits(data):
    X, y, X_target = data.X[:500], data.y[:500], data.X_target[:500]
    alone, shared = (
        model(random_state=3, n_jobs=n_jobs).fit(X, y, X_target=X_target).predict_proba(X_target)
        for n_jobs in (1, 2)
    )
    assert_array_equal(alone, shared)


def test_without_target_it_is_the_classifier_and_says_so(data):
    with pytest.warns(WeightWarning, match="X_target is not given"):
        fitted = model().fit(data.X, data.y)
    expected = LogisticRegression().fit(data.X, data.y)
    assert_allclose(fitted.predict_proba(data.X), expected.predict_proba(data.X))
    assert_allclose(fitted.weights_, 1)
    assert fitted.weighter_ is None


def test_what_cannot_work_is_refused_before_any_fit(data):
    neighbors = LabelShiftClassifier(KNeighborsClassifier(), strategy="reweight")
    with pytest.raises(ValueError, match="KNeighborsClassifier cannot be weighted"):
        neighbors.fit(data.X, data.y, X_target=data.X_target)
    LabelShiftClassifier(KNeighborsClassifier(30)).fit(data.X, data.y, X_target=data.X_target)
    with pytest.raises(ValueError, match="requires y to be passed"):
        model().fit(data.X, X_target=data.X_target)
    half = [(np.arange(1000), np.arange(1000, 2000))]
    with pytest.raises(ValueError, match="cv leaves 2000 rows out of every test fold"):
        model(cv=half).fit(data.X, data.y, X_target=data.X_target)
    with pytest.raises(ValueError, match="'strategy' parameter"):
        model(strategy="none").fit(data.X, data.y)
    with pytest.raises(ValueError, match="weighter"):
        LabelShiftClassifier(GaussianNB(), weighter=GaussianNB()).fit(data.X, data.y)


def test_calibrated_likelihood_wins_on_digits_under_dirichlet_shift():
    """Mean squared errors over 99 targets: 0.014, and 0.04 to 0.09 for the equations."""
    X, y = load_digits(return_X_y=True)
    X, X_pool, y, y_pool = train_test_split(X, y, test_size=0.5, stratify=y, random_state=0)
    frozen = LogisticRegression(C=0.01, max_iter=2000).fit(X[:400] / 16, y[:400])
    P, labels = frozen.predict_proba(X[400:] / 16), y[400:]
    prior = np.bincount(labels) / len(labels)
    rng = np.random.default_rng(0)
    methods = {"mlls": MLLS(), "rlls": RLLS(), "soft": BBSE(), "hard": BBSE(soft=False)}
    errors = {name: [] for name in methods}
    for concentration in np.repeat([0.1, 1.0, 10.0], 33):
        shifted = rng.dirichlet(np.full(10, concentration))
        share = shifted[y_pool] / np.bincount(y_pool)[y_pool]
        rows = rng.choice(len(y_pool), 500, p=share / share.sum())
        truth = np.bincount(y_pool[rows], minlength=10) / 500 / prior
        P_target = frozen.predict_proba(X_pool[rows] / 16)
        for name, method in methods.items():
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", WeightWarning)
                found = method.fit(P, labels, X_target=P_target).class_weights_
            errors[name].append(prior @ (found - truth) ** 2)
    for name in ("rlls", "soft", "hard"):
        paired = np.array(errors[name]) - errors["mlls"]
        assert paired.mean() > 2 * paired.std() / np.sqrt(len(paired))

"""Classifier of clean classes: no noise, recovery, agreement of parts, composition, bad input."""

import pickle

import numpy as np
import pandas as pd
import polars as pl
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy.sparse import csr_array
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning, NotFittedError
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.naive_bayes import GaussianNB
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.tree import DecisionTreeClassifier

from reweight import NoisyLabelClassifier, make_noisy_labels
from reweight.noisy_labels.transition_matrix import label_weights

METHODS = ["reweight", "rent", "dirichlet", "forward"]
MODEL = LogisticRegression(C=0.5)


@pytest.fixture(scope="module")
def three():
    """Three classes in the plane with anchors, labels flipped to the next class."""
    rng = np.random.default_rng(0)
    y = rng.integers(3, size=1500)
    X = 3.0 * np.eye(3)[y, :2] + rng.normal(size=(1500, 2))
    return make_noisy_labels(X, y, noise="pair", rate=0.4, n_val=0, n_test=600, random_state=1)


@pytest.mark.parametrize("n_classes", [2, 3])
@pytest.mark.parametrize("method", ["reweight", "forward"])
def test_without_noise_it_is_the_classifier_itself(three, n_classes, method):
    X, y = three.X[three.y < n_classes], three.y[three.y < n_classes]
    tight = LogisticRegression(C=0.5, tol=1e-8, max_iter=1000)
    model = NoisyLabelClassifier(tight, np.eye(n_classes), method=method).fit(X, y)
    plain = clone(tight).fit(X, y)
    assert_allclose(model.predict_proba(X), plain.predict_proba(X), atol=1e-5)
    assert_allclose(model.weights_, 1, atol=1e-9)


@pytest.mark.filterwarnings("ignore:NoisyLabelClassifier. weights still change")
@pytest.mark.parametrize("method", METHODS)
def test_clean_classes_are_found_when_flips_are_known(three, method):
    model = NoisyLabelClassifier(MODEL, three.transition, method=method, random_state=0)
    model.fit(three.X, three.y)
    best = clone(MODEL).fit(three.X, three.y_true).score(three.X_test, three.y_test)
    plain = clone(MODEL).fit(three.X, three.y).score(three.X_test, three.y_test)
    assert model.score(three.X_test, three.y_test) > best - 0.04
    assert plain < best - 0.04
    assert_allclose(model.weights_.mean(), 1)


def test_weights_sort_flipped_labels_from_right_ones(three):
    model = NoisyLabelClassifier(MODEL, three.transition, tol=1e-2).fit(three.X, three.y)
    right = three.y == three.y_true
    assert model.weights_[right].mean() > 2 * model.weights_[~right].mean()


@pytest.mark.parametrize("transition", ["anchor", "dual"])
def test_the_matrix_is_estimated(transition):
    rng = np.random.default_rng(0)
    y = rng.integers(3, size=3000)
    X = 8.0 * np.eye(3)[y] + rng.normal(size=(3000, 3))
    data = make_noisy_labels(X, y, noise="pair", rate=0.4, n_val=0, n_test=0, random_state=1)
    leaves = DecisionTreeClassifier(min_samples_leaf=200, random_state=0)
    model = NoisyLabelClassifier(leaves, transition, max_iter=1).fit(data.X, data.y)
    # Proportions of 200 rows have a standard error of 0.035.
    assert_allclose(model.transition_.sum(axis=0), 1)
    # Leaves are calibrated, so the dual estimate flips twice.
    T = data.transition
    expected = {"anchor": T, "dual": T @ T}[transition]
    assert np.abs(model.transition_ - expected).max() < 0.12


def test_a_settled_fit_reproduces_its_own_weights(three):
    model = NoisyLabelClassifier(
        MODEL, three.transition, tol=1e-5, max_iter=300, cv=[(np.arange(900), np.arange(900))]
    ).fit(three.X, three.y)
    F = model.predict_proba(three.X)
    w = label_weights(F, three.y, three.transition)
    assert model.n_iter_ < 300
    assert_allclose(model.weights_, w / w.mean(), atol=1e-3)


def test_draws_have_whole_counts_and_the_spread_of_each_other(three):
    fit = lambda **settings: NoisyLabelClassifier(
        MODEL, three.transition, max_iter=1, random_state=0, **settings
    ).fit(three.X, three.y)
    weights = fit().weights_
    counts = fit(method="rent").weights_
    assert_array_equal(counts, counts.round())
    assert counts.sum() == 900
    shares = fit(method="dirichlet").weights_
    spread = lambda drawn: ((drawn - weights) ** 2).mean()
    assert_allclose(spread(counts) / spread(shares), 1, atol=0.25)
    sharp = fit(method="dirichlet", concentration=1e9).weights_
    assert_allclose(sharp, weights, atol=1e-2)


@pytest.mark.parametrize("method", ["rent", "forward"])
def test_same_seed_same_bits_for_any_number_of_jobs(three, method):
    rows = slice(0, 200)
    fits = [
        NoisyLabelClassifier(
            MODEL, three.transition, method=method, max_iter=2, tol=10, random_state=3, n_jobs=jobs
        ).fit(three.X[rows], three.y[rows])
        for jobs in (None, 2)
    ]
    assert_array_equal(fits[0].weights_, fits[1].weights_)
    again = pickle.loads(pickle.dumps(fits[0]))
    assert_array_equal(again.predict_proba(three.X), fits[1].predict_proba(three.X))


def test_sampling_weights_count_and_are_in_the_weights(three):
    s = np.where(np.arange(900) % 3 == 0, 0.0, 2.0)
    model = NoisyLabelClassifier(MODEL, three.transition, tol=1e-2)
    model.fit(three.X, three.y, sample_weight=s)
    assert (model.weights_[s == 0] == 0).all()
    assert_allclose(model.weights_.mean(), 1)
    forward = clone(model).set_params(method="forward", estimator__tol=1e-8)
    kept = s > 0
    weighted = clone(forward).fit(three.X, three.y, sample_weight=s)
    twice = clone(forward).fit(np.repeat(three.X[kept], 2, axis=0), np.repeat(three.y[kept], 2))
    assert_allclose(weighted.estimator_.coef_, twice.estimator_.coef_, atol=1e-4)


def test_names_strings_frames_and_sparse_features(three):
    names = np.array(["apple", "berry", "cherry"])
    y = names[three.y]
    frame = pd.DataFrame(three.X, columns=["a", "b"])
    base = NoisyLabelClassifier(MODEL, three.transition, max_iter=2, tol=10)
    model = clone(base).fit(frame, y)
    assert_array_equal(model.feature_names_in_, ["a", "b"])
    assert_array_equal(model.classes_, names)
    assert set(model.predict(frame)) <= set(names)
    for X in (pl.DataFrame(three.X, schema=["a", "b"]), csr_array(three.X)):
        other = clone(base).fit(X, y)
        assert_allclose(other.predict_proba(X), model.predict_proba(frame), atol=1e-3)


def test_pipelines_searches_and_trees(three):
    scaled = make_pipeline(StandardScaler(), LogisticRegression())
    forward = NoisyLabelClassifier(scaled, three.transition, method="forward")
    assert forward.fit(three.X, three.y).score(three.X_test, three.y_test) > 0.85
    base = NoisyLabelClassifier(MODEL, three.transition, max_iter=1, cv=3)
    search = GridSearchCV(base, {"estimator__C": [0.1, 1.0], "method": ["reweight"]}, cv=3)
    assert search.fit(three.X, three.y).best_estimator_.n_iter_ == 1
    tree = NoisyLabelClassifier(
        DecisionTreeClassifier(min_samples_leaf=20, random_state=0),
        three.transition,
        method="rent",
        max_iter=3,
        random_state=0,
    )
    assert cross_val_score(tree, three.X, three.y, cv=3).min() > 0.4


def test_not_settled_says_so(three):
    model = NoisyLabelClassifier(MODEL, three.transition, tol=0, max_iter=2)
    with pytest.warns(ConvergenceWarning, match=r"weights still change by .* in round 2, above"):
        model.fit(three.X, three.y)
    forward = NoisyLabelClassifier(
        LogisticRegression(max_iter=1, tol=1e-10), three.transition, method="forward"
    )
    with pytest.warns(ConvergenceWarning, match="the gradient is"):
        forward.fit(three.X * 100, three.y)


def test_bad_input_is_named(three):
    X, y = three.X[:90], three.y[:90]
    fit = lambda **settings: NoisyLabelClassifier(**settings).fit(X, y)
    with pytest.raises(ValueError, match="The 'method' parameter of NoisyLabelClassifier"):
        fit(method="backward")
    with pytest.raises(ValueError, match=r"shape \(2, 2\) but y has 3 classes"):
        fit(transition=np.eye(2))
    with pytest.raises(ValueError, match="its rows do, so pass its transpose"):
        fit(transition=[[0.5, 0.5, 0.0], [0.0, 0.5, 0.5], [0.0, 0.0, 1.0]])
    with pytest.raises(ValueError, match="normalise its columns"):
        fit(transition=2 * np.eye(3))
    with pytest.raises(ValueError, match="negative or non-finite entries"):
        fit(transition=-np.eye(3))
    with pytest.raises(ValueError, match="KNeighborsClassifier"):
        fit(estimator=KNeighborsClassifier())
    with pytest.raises(ValueError, match="method='forward' with GaussianNB; pass a Logistic"):
        fit(estimator=GaussianNB(), method="forward")
    with pytest.raises(ValueError, match="method='forward' with class_weight='balanced'"):
        fit(estimator=LogisticRegression(class_weight="balanced"), method="forward")
    with pytest.raises(ValueError, match="cv leaves 60 rows out of every test fold"):
        fit(cv=[(np.arange(30, 90), np.arange(30))])
    with pytest.raises(NotFittedError):
        NoisyLabelClassifier().predict(X)

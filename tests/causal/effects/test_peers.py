"""On the same folds the numbers are those of EconML and DoubleML, pinned by reference/peers.py."""

import json
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import numpy as np
import pytest
from numpy.testing import assert_allclose
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.preprocessing import PolynomialFeatures

from causal import DRLearner, RLearner

FOLDER = Path(__file__).parent / "reference"


@pytest.fixture(scope="module")
def peers():
    return json.loads((FOLDER / "peers.json").read_text())


@pytest.fixture(scope="module")
def rows():
    spec = spec_from_file_location("effects_of_peers", FOLDER / "peers.py")
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    X, y, t, fold = module.study()
    cv = [(np.flatnonzero(fold != k), np.flatnonzero(fold == k)) for k in range(module.FOLDS)]
    return X, y, t, cv


def models():
    return LinearRegression(), LogisticRegression(C=1.0)


def assert_same_effects(learner, X, expected):
    # The logistic regressions stop at gradients of about 1e-9.
    assert_allclose(learner.intercept_, expected["intercept"], rtol=1e-6)
    assert_allclose(learner.coef_, expected["coef"], rtol=1e-6)
    assert_allclose(learner.predict(X[:5]), expected["effect"], rtol=1e-6)
    assert_allclose(learner.stderr(X[:5]), expected["stderr"], rtol=1e-6)


def test_r_learner_is_the_linear_dml_of_econml(peers, rows):
    X, y, t, cv = rows
    learner = RLearner(*models(), cv=cv).fit(X, y, treatment=t)
    assert_same_effects(learner, X, peers["LinearDML"])


def test_dr_learner_with_one_outcome_model_is_the_linear_dr_learner_of_econml(peers, rows):
    X, y, t, cv = rows
    learner = DRLearner(*models(), cv=cv, outcome_model="single").fit(X, y, treatment=t)
    assert_same_effects(learner, X, peers["LinearDRLearner"])


def test_r_learner_with_intercept_only_is_the_partially_linear_model_of_doubleml(peers, rows):
    X, y, t, cv = rows
    learner = RLearner(*models(), cv=cv, cov_type="HC0", featurizer=PolynomialFeatures(0))
    learner.fit(X, y, treatment=t)
    assert_allclose(learner.predict(X[:1]), peers["DoubleMLPLR"]["coef"], rtol=1e-6)
    assert_allclose(learner.stderr(X[:1]), peers["DoubleMLPLR"]["stderr"], rtol=1e-6)


def test_mean_of_the_dr_pseudo_outcome_is_the_interactive_model_of_doubleml(peers, rows):
    X, y, t, cv = rows
    f = DRLearner(*models(), cv=cv).fit(X, y, treatment=t).pseudo_outcome_
    assert_allclose(f.mean(), peers["DoubleMLIRM"]["coef"], rtol=1e-6)
    assert_allclose(f.std() / len(f) ** 0.5, peers["DoubleMLIRM"]["stderr"], rtol=1e-6)

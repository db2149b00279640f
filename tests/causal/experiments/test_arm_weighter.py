"""Weights of an arm's law: identities, the least variance, streams, and what is refused."""

import warnings

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy.optimize import minimize
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.compose import make_column_transformer
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LinearRegression, LogisticRegression, SGDClassifier
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder

from causal import ArmWeighter
from causal.experiments._polynomial_logistic import PolynomialLogistic
from reweight import Reweighted, normalize_weights

N = 600


class Log:
    """Logged rows whose features depend on the arm."""

    def __init__(self, n=N, seed=0, share=0.5):
        rng = np.random.default_rng(seed)
        self.z = (rng.random(n) < share).astype(int)
        self.X = rng.normal(size=(n, 2)) + 0.8 * self.z[:, None] * [1.0, 0.0]
        self.y = self.X[:, 0] ** 2 + rng.normal(size=n)
        self.s = rng.integers(1, 4, size=n).astype(float)
        # Normal features one unit of mean apart have logistic probabilities.
        odds = share / (1 - share) * np.exp(0.8 * self.X[:, 0] - 0.32)
        self.G = odds / (1 + odds)


class Known(ClassifierMixin, BaseEstimator):
    """A classifier that has been told the probability: a function of the first column."""

    def __init__(self, function):
        self.function = function

    def fit(self, X, y, sample_weight=None):
        self.classes_ = np.unique(y)
        return self

    def predict_proba(self, X):
        one = self.function(np.asarray(X)[:, 0])
        return np.column_stack([1 - one, one])


@pytest.fixture(scope="module")
def log():
    return Log()


@pytest.mark.parametrize("share", [None, 0.3])
def test_weights_of_both_arms_average_to_one_in_each_row(log, share):
    T, C = (ArmWeighter(arm, treatment_prob=share).fit(log.X, log.z) for arm in ARMS)
    p = log.z.mean() if share is None else share
    assert T.treatment_prob_ == p
    assert_allclose(p * T.raw_weights_ + (1 - p) * C.raw_weights_, 1, rtol=1e-12)
    assert T.raw_weights_.min() >= 0
    assert T.raw_weights_.max() <= 1 / p
    assert_allclose(T.weights_, T.raw_weights_ / T.raw_weights_.mean(), rtol=1e-12)


ARMS = ("treatment", "control")


def test_means_over_all_rows_become_means_over_the_arm():
    log = Log(40_000, seed=1, share=0.3)
    for arm, code in (("treatment", 1), ("control", 0)):
        weights = ArmWeighter(arm).fit(log.X, log.z).weights_
        for h in (log.X[:, 0], log.X[:, 0] ** 2, log.y):
            own = h[log.z == code]
            error = own.std() / np.sqrt(len(own))
            assert abs(np.average(h, weights=weights) - own.mean()) < 3 * error


def test_moments_that_the_logistic_model_contains_are_met_exactly(log):
    # Without penalty, the score equations of logistic regression say sum (z - G) h = 0.
    model = LogisticRegression(C=np.inf, solver="newton-cholesky", tol=1e-12)
    weights = ArmWeighter(weight_estimator=model).fit(log.X, log.z).weights_
    own = log.X[log.z == 1].mean(axis=0)
    assert_allclose(np.average(log.X, axis=0, weights=weights), own, rtol=1e-7)


def test_these_weights_vary_least():
    """Splitting is unbiased as well; its variance is larger, as Rao and Blackwell have it."""
    split, weighted = [], []
    for seed in range(200):
        log = Log(200, seed)
        split.append(log.y[log.z == 1].mean())
        weights = normalize_weights(log.G)
        weighted.append(np.average(log.y, weights=weights))
    truth = 0.8**2 + 1
    for values in (split, weighted):
        assert abs(np.mean(values) - truth) < 4 * np.std(values) / np.sqrt(200)
    assert np.var(weighted) < 0.8 * np.var(split)


def test_a_constant_probability_means_equal_weights_and_a_certain_one_means_splitting(log):
    constant = ArmWeighter(weight_estimator=Known(lambda x: np.full(len(x), 0.5)))
    assert_allclose(constant.fit(log.X, log.z).weights_, 1)
    certain = Known(lambda x: (x > 0).astype(float))
    z = (log.X[:, 0] > 0).astype(int)
    weights = ArmWeighter(weight_estimator=certain).fit(log.X, z).weights_
    assert_allclose(weights, z / z.mean())


def test_the_default_model_is_penalised_logistic_regression(log):
    model = PolynomialLogistic().fit(log.X, log.z, sample_weight=log.s)
    mean = np.average(log.X, axis=0, weights=log.s)
    A = (log.X - mean) / np.sqrt(np.average((log.X - mean) ** 2, axis=0, weights=log.s))
    Z = np.column_stack([A, A[:, 0] ** 2, A[:, 0] * A[:, 1], A[:, 1] ** 2, np.ones(N)])
    w = log.s / log.s.sum()

    def loss(beta):
        eta = Z @ beta
        return w @ (np.logaddexp(0, eta) - log.z * eta) + 1e-3 * (beta[:-1] ** 2).sum() / 2

    reference = minimize(loss, np.zeros(6), method="BFGS", options={"gtol": 1e-8})
    assert_allclose(model.coef_, reference.x, atol=1e-5)


def test_many_columns_leave_products_out():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(300, 40))
    model = PolynomialLogistic().fit(X, (X[:, 0] + rng.normal(size=300) > 0).astype(int))
    assert model.coef_.shape == (81,)


def test_a_stream_in_one_batch_is_a_fit(log):
    fitted = ArmWeighter().fit(log.X, log.z, sample_weight=log.s)
    streamed = ArmWeighter().partial_fit(log.X, log.z, sample_weight=log.s)
    assert_allclose(streamed.weights_, fitted.weights_, rtol=1e-8)
    assert_allclose(streamed.predict_weights(log.X), fitted.predict_weights(log.X), rtol=1e-8)


def test_a_stream_comes_close_to_a_fit_on_all_of_it():
    log = Log(4000, seed=3)
    whole = ArmWeighter().fit(log.X, log.z)
    streamed = ArmWeighter()
    seen, total = 0, 0.0
    for rows in np.array_split(np.arange(4000), 40):
        streamed.partial_fit(log.X[rows], treatment=log.z[rows])
        seen, total = seen + len(rows), total + streamed.raw_weights_.sum()
        assert_allclose(streamed.weights_, streamed.raw_weights_ * seen / total)
    assert_allclose(streamed.treatment_prob_, log.z.mean())
    difference = streamed.predict_arm_probability(log.X) - whole.arm_probability_
    # The standard error of a probability with six parameters is about sqrt(6 / 4000) / 2 = 0.02.
    assert np.sqrt(np.mean(difference**2)) < 0.01


def test_a_stream_goes_on_from_a_fit_and_takes_batches_of_one_arm(log):
    weighter = ArmWeighter().fit(log.X[:500], log.z[:500])
    treated = np.flatnonzero(log.z[500:] == 1) + 500
    weighter.partial_fit(log.X[treated], log.z[treated])
    rows = np.append(np.arange(500), treated)
    assert_allclose(weighter.treatment_prob_, log.z[rows].mean())
    assert weighter.weights_.shape == treated.shape
    SGD = ArmWeighter(weight_estimator=SGDClassifier(loss="log_loss", random_state=0))
    assert SGD.partial_fit(log.X, log.z).partial_fit(log.X, log.z).ess_ <= N


def test_cross_fitted_probabilities_are_out_of_fold(log):
    memory = KNeighborsClassifier(1)
    inside = ArmWeighter(weight_estimator=memory).fit(log.X, log.z)
    assert set(inside.arm_probability_) == {0.0, 1.0}
    assert_array_equal(inside.arm_probability_, log.z)
    outside = ArmWeighter(weight_estimator=memory, cv=5, random_state=0).fit(log.X, log.z)
    assert 0.4 < np.mean(outside.arm_probability_ == log.z) < 0.8
    trees = HistGradientBoostingClassifier(max_iter=20, random_state=0)
    flexible = ArmWeighter(weight_estimator=trees, cv=3, random_state=0).fit(log.X, log.z)
    assert np.corrcoef(flexible.arm_probability_, log.G)[0, 1] > 0.6


def test_frames_with_words_go_to_a_pipeline_as_they_are(log):
    words = np.where(log.X[:, 0] > 0.4, "long", "short")
    table = pd.DataFrame({"age": log.X[:, 1], "item": words})
    encode = make_column_transformer((OneHotEncoder(), ["item"]), remainder="passthrough")
    model = make_pipeline(encode, LogisticRegression())
    weighter = ArmWeighter(weight_estimator=model).fit(table, log.z)
    assert weighter.feature_names_in_.tolist() == ["age", "item"]
    assert weighter.weights_[words == "long"].min() > 1 > weighter.weights_.min()
    with pytest.raises(TypeError, match=r"columns \['item'\] of X are not numeric"):
        ArmWeighter().fit(table, log.z)


def test_weights_reach_any_learner(log):
    model = Reweighted(LinearRegression(), ArmWeighter("control"))
    model.fit(log.X, log.y, treatment=log.z)
    weights = ArmWeighter("control").fit(log.X, log.z).weights_
    direct = LinearRegression().fit(log.X, log.y, sample_weight=weights)
    assert_allclose(model.predict(log.X), direct.predict(log.X))
    with pytest.raises(ValueError, match="got no treatment"):
        Reweighted(LinearRegression(), ArmWeighter()).fit(log.X, log.y)


def test_arms_that_the_features_tell_apart_are_weighed_without_alarm(log):
    z = (log.X[:, 0] > 0).astype(int)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        weighter = ArmWeighter().fit(log.X, z)
    assert np.average(z, weights=weighter.weights_) > 0.9


ERRORS = {
    "no arm": ({}, {"y": None}, "arm of each row"),
    "one arm": ({}, {"y": np.ones(N)}, "one class"),
    "three arms": ({}, {"y": np.arange(N) % 3}, "exactly two values"),
    "share": ({"treatment_prob": 1.0}, {}, "treatment_prob"),
    "whose": ({"arm": "both"}, {}, "arm"),
    "no probability": ({"weight_estimator": LinearRegression()}, {}, "weight_estimator"),
    "weights": ({"weight_estimator": KNeighborsClassifier()}, {"sample_weight": 1.0}, "weighted"),
    "hopeless": (
        {"weight_estimator": Known(lambda x: np.zeros(len(x)))},
        {},
        "no row a chance to be of the treatment arm",
    ),
}


@pytest.mark.parametrize("case", list(ERRORS))
def test_bad_input_is_refused_with_a_remedy(log, case):
    parameters, changes, message = ERRORS[case]
    with pytest.raises(ValueError, match=message):
        ArmWeighter(**parameters).fit(**{"X": log.X, "y": log.z} | changes)


def test_weights_that_leave_an_arm_out_are_refused(log):
    with pytest.raises(ValueError, match="zero in every row of one arm"):
        ArmWeighter().fit(log.X, log.z, sample_weight=log.z.astype(float))


def test_bad_streams_are_refused_with_a_remedy(log):
    with pytest.raises(ValueError, match="cv=None"):
        ArmWeighter(cv=3).partial_fit(log.X, log.z)
    with pytest.raises(ValueError, match="has no partial_fit"):
        ArmWeighter(weight_estimator=LogisticRegression()).partial_fit(log.X, log.z)
    with pytest.raises(ValueError, match="one class"):
        ArmWeighter().partial_fit(log.X[:3], np.ones(3))
    with pytest.raises(ValueError, match="value 7 that the first batch did not have"):
        ArmWeighter().partial_fit(log.X, log.z).partial_fit(log.X[:1], [7])

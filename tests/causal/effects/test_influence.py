"""Influences against independent derivations and against derivatives of refitted estimates."""

import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy.optimize import root
from scipy.special import expit
from sklearn.base import BaseEstimator, RegressorMixin
from sklearn.linear_model import LinearRegression

from causal import (
    CBPS,
    EntropyBalancing,
    InverseProbabilityTilting,
    PropensityWeighting,
    StableBalancing,
    WeightedEffect,
)


class KnownRegressor(RegressorMixin, BaseEstimator):
    """An outcome model that data do not change."""

    def fit(self, X, y, sample_weight=None):
        self.n_features_in_ = X.shape[1]
        self.is_fitted_ = True
        return self

    def predict(self, X):
        return X[:, 0] ** 2 + X[:, 1]


def draw(n=60, seed=0):
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, 2))
    t = (rng.random(n) < expit(0.6 * X[:, 0] - 0.3 * X[:, 1])).astype(int)
    y = X @ [1.0, 2.0] + 0.5 * X[:, 0] ** 2 + t * (1 + X[:, 0]) + rng.normal(size=n)
    return X, y, t, rng.integers(1, 4, size=n).astype(float)


def entropy_weights(X, base, goal):
    """Weights that sum to one, from the moment equations by a general root finder."""

    def weights(theta):
        w = base * np.exp((X - goal) @ theta)
        return w / w.sum()

    solution = root(lambda theta: weights(theta) @ X - goal, np.zeros(X.shape[1]), tol=1e-13)
    return weights(solution.x)


def weighted_least_squares(B, y, w):
    return np.linalg.solve(B.T @ (w[:, None] * B), B.T @ (w * y))


@pytest.mark.parametrize("weighted", [False, True])
def test_entropy_balancing_for_the_treated(weighted):
    X, y, t, s = draw()
    s = s if weighted else np.ones(len(y))
    treated, n1 = t == 1, s[t == 1].sum()
    B = np.column_stack([np.ones(len(y)), X])
    w = np.zeros(len(y))
    goal = s[treated] @ X[treated] / n1
    w[~treated] = entropy_weights(X[~treated], s[~treated], goal)
    tau = s[treated] @ y[treated] / n1 - w @ y
    residual = y - B @ weighted_least_squares(B, y, w)
    psi = (s * t * (residual - tau) - n1 * w * residual) / n1
    fit = WeightedEffect(EntropyBalancing("ATT")).fit(X, y, treatment=t, sample_weight=s)
    assert_allclose(fit.effect_, tau, rtol=1e-7)
    assert_allclose(fit.influence_function_, psi, atol=1e-8)
    assert_allclose(fit.stderr_, np.sqrt((psi**2).sum()), rtol=1e-7)


@pytest.mark.parametrize("weighted", [False, True])
def test_entropy_balancing_for_all(weighted):
    X, y, t, s = draw()
    s = s if weighted else np.ones(len(y))
    n = s.sum()
    B = np.column_stack([np.ones(len(y)), X])
    weights, fitted = [], []
    for arm in (0, 1):
        w = np.zeros(len(y))
        w[t == arm] = entropy_weights(X[t == arm], s[t == arm], s @ X / n)
        weights.append(w)
        fitted.append(B @ weighted_least_squares(B, y, w))
    tau = weights[1] @ y - weights[0] @ y
    psi = s * (fitted[1] - fitted[0] - tau) / n
    psi += weights[1] * (y - fitted[1]) - weights[0] * (y - fitted[0])
    fit = WeightedEffect(EntropyBalancing("ATE")).fit(X, y, treatment=t, sample_weight=s)
    assert_allclose(fit.effect_, tau, rtol=1e-7)
    assert_allclose(fit.influence_function_, psi, atol=1e-8)


@pytest.mark.parametrize("estimand", ["ATE", "ATT", "ATC", "ATO"])
def test_logistic_propensity_agrees_with_stacked_equations(estimand):
    X, y, t, s = draw()
    Z = np.column_stack([np.ones(len(y)), X])

    def row_weight(beta):
        e = expit(Z @ beta)
        return {
            "ATE": t / e + (1 - t) / (1 - e),
            "ATT": t + (1 - t) * e / (1 - e),
            "ATC": t * (1 - e) / e + (1 - t),
            "ATO": t * (1 - e) + (1 - t) * e,
        }[estimand]

    def moments(theta):
        beta, (mu1, mu0) = theta[:3], theta[3:]
        w = s * row_weight(beta)
        score = (s * (t - expit(Z @ beta)))[:, None] * Z
        return np.column_stack([score, w * t * (y - mu1), w * (1 - t) * (y - mu0)])

    theta = root(lambda theta: moments(theta).sum(axis=0), np.zeros(5), tol=1e-13).x
    step = 1e-5
    A = np.column_stack(
        [
            (moments(theta + step * unit) - moments(theta - step * unit)).sum(axis=0) / (2 * step)
            for unit in np.eye(5)
        ]
    )
    per_row = -np.linalg.solve(A, moments(theta).T).T
    fit = WeightedEffect(PropensityWeighting(estimand=estimand))
    fit.fit(X, y, treatment=t, sample_weight=s)
    assert_allclose(fit.effect_, theta[3] - theta[4], rtol=1e-7)
    assert_allclose(fit.influence_function_, per_row[:, 3] - per_row[:, 4], atol=1e-7)


def jackknife(make, X, y, t, s, step=1e-4):
    """s_i d effect / d s_i by central differences of refits."""
    rows = np.empty(len(y))
    for i in range(len(y)):
        shift = step * s[i] * (np.arange(len(y)) == i)
        up, down = (
            make().fit(X, y, treatment=t, sample_weight=s + sign * shift).effect_
            for sign in (1, -1)
        )
        rows[i] = (up - down) / (2 * step)
    return rows


PLAIN = {
    **{f"entropy-{e}": (EntropyBalancing, {"estimand": e}) for e in ("ATE", "ATT", "ATC")},
    **{
        f"{divergence}-{estimand}": (
            EntropyBalancing,
            {"estimand": estimand, "divergence": divergence},
        )
        for divergence, estimand in [("chi2", "ATE"), ("chi2_signed", "ATT"), ("el", "ATC")]
    },
    **{
        f"propensity-{e}": (PropensityWeighting, {"estimand": e})
        for e in ("ATE", "ATT", "ATC", "ATO", "ATM", "ATEN")
    },
    **{f"tilting-{e}": (InverseProbabilityTilting, {"estimand": e}) for e in ("ATE", "ATT", "ATC")},
    **{
        f"cbps-{e}": (CBPS, {"estimand": e, "over_identified": False})
        for e in ("ATE", "ATT", "ATC")
    },
    "stable-ATT": (StableBalancing, {"estimand": "ATT", "max_smd": 0.0}),
}


@pytest.mark.filterwarnings("ignore:EntropyBalancing. 1 weights are negative")
@pytest.mark.parametrize("name", PLAIN)
def test_influence_is_the_derivative_in_the_sampling_weight(name):
    weighter, options = PLAIN[name]
    X, y, t, s = draw(n=40, seed=1)

    def make():
        return WeightedEffect(weighter(**options), inference="influence")

    influence = make().fit(X, y, treatment=t, sample_weight=s).influence_function_
    numerical = jackknife(make, X, y, t, s)
    assert_allclose(influence, numerical, atol=2e-6 * np.abs(numerical).max())
    assert abs(influence.sum()) < 1e-8


@pytest.mark.parametrize("estimand", ["ATE", "ATT", "ATC", "ATO"])
def test_augmented_influence_is_the_derivative_for_a_known_outcome_model(estimand):
    X, y, t, s = draw(n=40, seed=2)

    def make():
        return WeightedEffect(
            PropensityWeighting(estimand=estimand), outcome_estimator=KnownRegressor()
        )

    influence = make().fit(X, y, treatment=t, sample_weight=s).influence_function_
    numerical = jackknife(make, X, y, t, s)
    assert_allclose(influence, numerical, atol=2e-6 * np.abs(numerical).max())


@pytest.mark.parametrize("estimand", ["ATE", "ATT", "ATC"])
def test_outcome_model_in_the_balanced_span_changes_neither_effect_nor_influence(estimand):
    X, y, t, s = draw()
    plain = WeightedEffect(EntropyBalancing(estimand))
    augmented = WeightedEffect(EntropyBalancing(estimand), outcome_estimator=LinearRegression())
    for fit in (plain, augmented):
        fit.fit(X, y, treatment=t, sample_weight=s)
    assert_allclose(augmented.effect_, plain.effect_, rtol=1e-8)
    assert_allclose(augmented.influence_function_, plain.influence_function_, atol=1e-7)


def test_robust_errors_are_those_of_weighted_regression_on_treatment():
    X, y, t, s = draw()
    fit = WeightedEffect(EntropyBalancing("ATE"), inference="robust")
    fit.fit(X, y, treatment=t, sample_weight=s)
    B, w = np.column_stack([np.ones(len(y)), t]), fit.weights_
    bread = np.linalg.inv(B.T @ (w[:, None] * B))
    residual = y - B @ (bread @ B.T @ (w * y))
    meat = B.T @ ((w * residual)[:, None] ** 2 * B)
    assert_allclose(fit.stderr_, np.sqrt((bread @ meat @ bread)[1, 1]), rtol=1e-10)

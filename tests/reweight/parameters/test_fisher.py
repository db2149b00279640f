"""Information matrices beside numerical second derivatives and outer products of gradients."""

import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy import sparse
from scipy.special import log_softmax
from sklearn.datasets import load_iris
from sklearn.linear_model import (
    GammaRegressor,
    LinearRegression,
    LogisticRegression,
    PoissonRegressor,
    Ridge,
    SGDClassifier,
)
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.tree import DecisionTreeRegressor

from reweight import fisher_information
from reweight.parameters import fisher as module


@pytest.fixture(name="X")
def rows(rng):
    return rng.normal(size=(80, 3))


def augmented(X):
    return np.column_stack([X, np.ones(len(X))])


def hessian(loss, theta, step=1e-4):
    """Second derivatives by central differences."""
    eye = step * np.eye(theta.size)

    def shifted(*moves):
        return loss(theta + sum(moves))

    return np.array(
        [
            [
                (shifted(a, b) - shifted(a, -b) - shifted(-a, b) + shifted(-a, -b)) / 4 / step**2
                for b in eye
            ]
            for a in eye
        ]
    )


def test_multinomial_is_the_curvature_of_its_loss():
    X, y = load_iris(return_X_y=True)
    model = LogisticRegression(C=0.1, max_iter=5000).fit(X, y)
    D, w = augmented(X), np.random.default_rng(0).uniform(size=len(y))

    def loss(theta):
        return -(w * log_softmax(D @ theta.reshape(3, 5).T, axis=1)[np.arange(len(y)), y]).sum()

    theta = np.column_stack([model.coef_, model.intercept_]).ravel()
    full = fisher_information(model, X, kind="full", sample_weight=w)
    assert_allclose(full, hessian(loss, theta), atol=1e-3)
    diagonal = fisher_information(model, X, sample_weight=w)
    by_row = np.column_stack([diagonal["coef_"], diagonal["intercept_"]])
    assert_allclose(by_row.ravel(), np.diag(full), rtol=1e-12)


def test_binary_and_poisson_are_the_curvature_of_their_losses(X, rng):
    D = augmented(X)
    labels = (X[:, 0] + rng.normal(size=80) > 0).astype(int)
    counts = rng.poisson(np.exp(0.3 * X[:, 1]))
    cases = {
        LogisticRegression(): (labels, lambda eta, y: np.logaddexp(0, eta) - y * eta),
        PoissonRegressor(): (counts, lambda eta, y: np.exp(eta) - y * eta),
    }
    for model, (y, loss) in cases.items():
        model.fit(X, y)
        theta = np.r_[np.ravel(model.coef_), np.ravel(model.intercept_)]
        expected = hessian(lambda t, loss=loss, y=y: loss(D @ t, y).sum(), theta)
        assert_allclose(fisher_information(model, X, kind="full"), expected, atol=1e-4)


def test_least_squares(X, rng):
    y = X @ [1.0, 0.0, 2.0] + rng.normal(size=80)
    D = augmented(X)
    model = LinearRegression().fit(X, y)
    H = fisher_information(model, X, kind="full", noise_variance=2.0)
    assert_allclose(H, D.T @ D / 2, rtol=1e-12)
    variance = ((y - model.predict(X)) ** 2).sum() / 76
    assert_allclose(fisher_information(model, X, y, kind="full"), D.T @ D / variance, rtol=1e-12)
    bare = Ridge(fit_intercept=False).fit(X, y)
    assert fisher_information(bare, X, y, kind="full").shape == (3, 3)
    diagonal = fisher_information(bare, X, y)
    assert diagonal["coef_"].shape == (3,)
    assert diagonal["intercept_"] == 0


@pytest.mark.parametrize("n_classes", [2, 3])
def test_empirical_is_the_sum_of_squared_gradients(n_classes):
    X, y = load_iris(return_X_y=True)
    X, y = X[y < n_classes], y[y < n_classes]
    model = LogisticRegression(max_iter=1000).fit(X, y)
    P, D = model.predict_proba(X), augmented(X)
    R = (y[:, None] == np.arange(n_classes)) - P
    if n_classes == 2:
        R = R[:, 1:]
    gradients = (R[:, :, None] * D[:, None]).reshape(len(y), -1)
    found = fisher_information(model, X, y, kind="full", empirical=True)
    assert_allclose(found, gradients.T @ gradients, rtol=1e-10, atol=1e-12)
    diagonal = fisher_information(model, X, y, empirical=True)
    by_row = np.column_stack([diagonal["coef_"], diagonal["intercept_"]])
    assert_allclose(by_row.ravel(), (gradients**2).sum(axis=0), rtol=1e-10)


def test_empirical_of_a_regressor(X, rng):
    y = X @ [1.0, 0.0, 2.0] + rng.normal(size=80)
    model = LinearRegression().fit(X, y)
    found = fisher_information(model, X, y, kind="full", empirical=True, noise_variance=2.0)
    gradients = ((y - model.predict(X)) / 2.0)[:, None] * augmented(X)
    assert_allclose(found, gradients.T @ gradients, rtol=1e-10)


@pytest.mark.parametrize("kind", ["diag", "full"])
def test_sparse_rows_weights_and_chunks(X, rng, monkeypatch, kind):
    y = rng.integers(0, 3, size=80)
    X = np.where(np.abs(X) < 0.5, 0.0, X)
    model = LogisticRegression().fit(X, y)
    weight = rng.integers(0, 3, size=80)

    def flat(value):
        return np.concatenate([np.ravel(v) for v in value.values()]) if kind == "diag" else value

    expected = flat(fisher_information(model, np.repeat(X, weight, axis=0), kind=kind))
    found = fisher_information(model, X, kind=kind, sample_weight=weight)
    assert_allclose(flat(found), expected, rtol=1e-10)
    mean = fisher_information(model, X, kind=kind, sample_weight=weight, reduction="mean")
    assert_allclose(flat(mean) * weight.sum(), expected, rtol=1e-10)
    monkeypatch.setattr(module, "CHUNK_ROWS", 7)
    for rows in (X, sparse.csr_array(X), sparse.csc_matrix(X)):
        found = fisher_information(model, rows, kind=kind, sample_weight=weight)
        assert_allclose(flat(found), expected, rtol=1e-10)


def test_pipelines_and_stochastic_gradients(X, rng):
    y = (X[:, 0] + rng.normal(size=80) > 0).astype(int)
    pipeline = make_pipeline(StandardScaler(), LogisticRegression()).fit(X, y)
    expected = fisher_information(pipeline[-1], pipeline[0].transform(X), kind="full")
    assert_allclose(fisher_information(pipeline, X, kind="full"), expected)
    sgd = SGDClassifier(loss="log_loss", random_state=0).fit(X, y)
    p = sgd.predict_proba(X)[:, 1]
    D = augmented(X)
    expected = D.T @ (D * (p * (1 - p))[:, None])
    assert_allclose(fisher_information(sgd, X, kind="full"), expected, rtol=1e-10)


def test_bad_input_is_refused(X, rng):
    y = X[:, 0] + rng.normal(size=80)
    linear = LinearRegression().fit(X, y)
    labels = (y > 0).astype(int)
    logistic = LogisticRegression().fit(X, labels)
    for model in (DecisionTreeRegressor(), GammaRegressor(), SGDClassifier(loss="hinge")):
        model.fit(X, labels + 1)
        with pytest.raises(TypeError, match=f"information of {type(model).__name__} is not known"):
            fisher_information(model, X)
    with pytest.raises(ValueError, match="pass y or noise_variance"):
        fisher_information(linear, X)
    for variance in (0.0, -1.0, np.inf, np.nan):
        with pytest.raises(ValueError, match=f"noise_variance is {variance:.3g} with"):
            fisher_information(linear, X, noise_variance=variance)
    with pytest.raises(ValueError, match="noise_variance is 0 with 4 rows"):
        fisher_information(LinearRegression().fit(X[:4], y[:4]), X[:4], y[:4])
    with pytest.raises(ValueError, match="empirical=True needs y"):
        fisher_information(logistic, X, empirical=True)
    with pytest.raises(ValueError, match="classes that are not in"):
        fisher_information(logistic, X, np.full(80, 7), empirical=True)
    with pytest.raises(ValueError, match="inconsistent numbers of samples"):
        fisher_information(logistic, X, [0, 1, 0], empirical=True)
    with pytest.raises(ValueError, match="kind must be one of"):
        fisher_information(logistic, X, kind="dense")
    with pytest.raises(TypeError, match="least-squares model of one output"):
        fisher_information(LinearRegression().fit(X, X[:, :2]), X, noise_variance=1.0)
    with pytest.raises(ValueError, match="expecting 3 features"):
        fisher_information(logistic, X[:, :2])

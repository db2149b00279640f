"""Facts about regression on a stream: closed forms, order, drift, coverage, refusals."""

import pickle

import numpy as np
import pandas as pd
import polars as pl
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy.stats import multivariate_normal, multivariate_t
from sklearn.base import clone
from sklearn.linear_model import LinearRegression, Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from reweight import KalmanLinearRegression


@pytest.fixture
def data(rng):
    X = rng.normal(size=(200, 3)) * [1.0, 3.0, 0.5] + [0.0, 5.0, -1.0]
    y = 2.0 + X @ [1.0, -0.5, 2.0] + rng.normal(size=200)
    return X, y, rng.uniform(0.5, 2.0, size=200)


def with_ones(X):
    return np.column_stack([np.ones(len(X)), X])


def coefficients(model):
    return np.r_[model.intercept_, model.coef_]


@pytest.mark.parametrize("record_path", [False, True])
def test_without_drift_it_is_ridge_regression_in_closed_form(record_path, data):
    X, y, w = data
    model = KalmanLinearRegression(
        noise_variance=2.0, prior_variance=50.0, record_path=record_path
    ).fit(X, y, sample_weight=w)
    H = with_ones(X)
    A = H.T @ (H * w[:, None]) + 2.0 / 50.0 * np.eye(4)
    assert_allclose(coefficients(model), np.linalg.solve(A, H.T @ (w * y)), atol=1e-8)
    assert_allclose(model.covariance_, 2.0 * np.linalg.inv(A), atol=1e-8)


@pytest.mark.parametrize("record_path", [False, True])
def test_it_is_scikit_learns_ridge_and_least_squares(record_path, data):
    X, y, w = data
    ridge = Ridge(alpha=2.0 / 50.0, fit_intercept=False, solver="cholesky")
    ridge.fit(with_ones(X), y, sample_weight=w)
    model = KalmanLinearRegression(
        noise_variance=2.0, prior_variance=50.0, record_path=record_path
    ).fit(X, y, sample_weight=w)
    assert_allclose(coefficients(model), ridge.coef_, atol=1e-8)
    flat = KalmanLinearRegression(prior_variance=1e10, record_path=record_path).fit(X, y)
    plain = LinearRegression().fit(X, y)
    assert_allclose(coefficients(flat), np.r_[plain.intercept_, plain.coef_], atol=1e-5)
    through_zero = KalmanLinearRegression(fit_intercept=False, prior_variance=1e10).fit(X, y)
    assert through_zero.intercept_ == 0.0
    expected = LinearRegression(fit_intercept=False).fit(X, y).coef_
    assert_allclose(through_zero.coef_, expected, atol=1e-5)


@pytest.mark.parametrize("record_path", [False, True])
def test_the_order_of_rows_does_not_matter_without_drift(record_path, data, rng):
    X, y, w = data
    order = rng.permutation(len(y))
    models = [
        KalmanLinearRegression(record_path=record_path).fit(X[rows], y[rows], sample_weight=w[rows])
        for rows in (np.arange(len(y)), order)
    ]
    assert_allclose(coefficients(models[0]), coefficients(models[1]), atol=1e-8)
    assert_allclose(models[0].covariance_, models[1].covariance_, atol=1e-8)
    assert_allclose(models[0].log_evidence_, models[1].log_evidence_, atol=1e-7)


@pytest.mark.parametrize(
    "parameters",
    [
        {},
        {"noise_variance": 1.5},
        {"drift_variance": 0.01},
        {"forgetting": 0.95},
        {"mode": "iterates", "eta0": 0.005},
    ],
)
@pytest.mark.parametrize("cuts", [[1, 2, 3, 100], [50], [3, 150]])
def test_any_cut_into_batches_gives_the_same_model(cuts, parameters, data):
    X, y, w = data
    whole = KalmanLinearRegression(**parameters).fit(X, y, sample_weight=w)
    parts = KalmanLinearRegression(**parameters)
    for rows in np.split(np.arange(len(y)), cuts):
        parts.partial_fit(X[rows], y[rows], sample_weight=w[rows])
    assert_allclose(coefficients(parts), coefficients(whole), atol=1e-10)
    assert_allclose(parts.covariance_, whole.covariance_, atol=1e-10)
    assert_allclose(parts.noise_variance_, whole.noise_variance_, rtol=1e-10)
    assert_allclose(parts.log_evidence_, whole.log_evidence_, rtol=1e-9)
    assert parts.n_samples_seen_ == whole.n_samples_seen_ == len(y)


@pytest.mark.parametrize("forgetting", [1.0, 0.97])
def test_a_weight_of_two_is_the_row_twice(forgetting, data):
    X, y, _ = data
    model = KalmanLinearRegression(noise_variance=1.0).fit(X, y, sample_weight=np.full(200, 2.0))
    twice = KalmanLinearRegression(noise_variance=1.0).fit(np.repeat(X, 2, axis=0), np.repeat(y, 2))
    assert_allclose(coefficients(model), coefficients(twice), atol=1e-8)
    assert_allclose(model.covariance_, twice.covariance_, atol=1e-8)
    # A row of weight zero is no row, and lets no time pass.
    dropped = np.arange(200) % 3 == 0
    zero = KalmanLinearRegression(forgetting=forgetting).fit(X, y, sample_weight=~dropped * 1.0)
    less = KalmanLinearRegression(forgetting=forgetting).fit(X[~dropped], y[~dropped])
    assert_array_equal(coefficients(zero), coefficients(less))
    assert zero.n_samples_seen_ == (~dropped).sum()


@pytest.mark.parametrize("forgetting", [0.99, 0.9])
def test_forgetting_weighs_rows_by_their_age(forgetting, data):
    X, y, _ = data
    model = KalmanLinearRegression(
        forgetting=forgetting, noise_variance=1.0, prior_variance=10.0
    ).fit(X[:30], y[:30])
    H, age = with_ones(X[:30]), forgetting ** np.arange(29, -1, -1)
    A = H.T @ (H * age[:, None]) + forgetting**30 / 10.0 * np.eye(4)
    expected = np.linalg.solve(A, H.T @ (age * y[:30]))
    assert_allclose(coefficients(model), expected, atol=1e-8)
    assert_allclose(model.covariance_, np.linalg.inv(A), atol=1e-8)


@pytest.mark.parametrize("parameters", [{}, {"drift_variance": 1e-9}, {"forgetting": 0.999}])
def test_covariance_stays_positive_definite_over_a_million_rows(parameters):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(1_000_000, 3))
    X[:, 2] = X[:, 1] + 1e-3 * X[:, 2]
    model = KalmanLinearRegression(noise_variance=1e-4, record_path=False, **parameters)
    for rows in np.array_split(np.arange(len(X)), 50):
        model.partial_fit(X[rows], X[rows] @ [1.0, 2.0, 3.0])
    P = model.covariance_
    assert_allclose(P, P.T, rtol=1e-12)
    assert np.linalg.eigvalsh(P).min() > 0
    assert_allclose(model.coef_, [1.0, 2.0, 3.0], atol=1e-3)


def test_evidence_is_the_density_of_the_outcomes(data):
    X, y, w = data
    H = with_ones(X)
    covariance = 4.0 * H @ H.T + np.diag(1.0 / w)
    for batch in (True, False):
        fixed = KalmanLinearRegression(
            noise_variance=1.0, prior_variance=4.0, record_path=not batch
        ).fit(X, y, sample_weight=w)
        expected = multivariate_normal.logpdf(y, np.zeros(len(y)), covariance)
        assert_allclose(fixed.log_evidence_, expected, rtol=1e-9)
        free = KalmanLinearRegression(prior_variance=4.0, record_path=not batch)
        free.fit(X, y, sample_weight=w)
        expected = multivariate_t.logpdf(y, np.zeros(len(y)), covariance, df=2)
        assert_allclose(free.log_evidence_, expected, rtol=1e-9)


def test_estimated_noise_variance_is_the_posterior_mean(data):
    X, y, w = data
    model = KalmanLinearRegression(prior_variance=4.0).fit(X, y, sample_weight=w)
    H = with_ones(X)
    precision = np.linalg.inv(4.0 * H @ H.T + np.diag(1.0 / w))
    assert_allclose(model.noise_variance_, (2.0 + y @ precision @ y) / len(y), rtol=1e-9)


def test_drift_is_followed_where_it_happens(rng):
    n = 2000
    X = rng.normal(size=(n, 2))
    slope = np.where(np.arange(n) < n // 2, 1.0, -1.0)
    y = slope * X[:, 0] + 0.3 * rng.normal(size=n)
    errors, evidence = {}, {}
    for drift in (0.0, 1e-2):
        model = KalmanLinearRegression(drift_variance=drift, record_path=True).fit(X, y)
        before = np.vstack([np.zeros(3), model.path_[:-1]])
        errors[drift] = ((y - (with_ones(X) * before).sum(axis=1)) ** 2).mean()
        evidence[drift] = model.log_evidence_
    assert errors[1e-2] < 0.5 * errors[0.0]
    assert evidence[1e-2] > evidence[0.0] + 100
    forgetful = KalmanLinearRegression(forgetting=0.98).fit(X, y)
    assert abs(forgetful.coef_[0] + 1) < 0.15


@pytest.mark.parametrize("noise_variance", ["estimate", 4.0])
def test_intervals_cover_at_their_level(noise_variance, rng):
    X = rng.normal(size=(10_020, 3))
    y = 1.0 + X @ [1.0, 0.0, -1.0] + 2.0 * rng.normal(size=len(X))
    model = KalmanLinearRegression(noise_variance=noise_variance).fit(X[:20], y[:20])
    inside = []
    for rows in np.array_split(np.arange(20, len(X)), 100):
        lower, upper = model.predict_interval(X[rows], confidence_level=0.9).T
        inside.append((lower < y[rows]) & (y[rows] < upper))
        model.partial_fit(X[rows], y[rows])
    assert 0.88 < np.concatenate(inside).mean() < 0.92


def test_spread_of_a_forecast_is_noise_and_uncertainty_and_drift(data):
    X, y, _ = data
    model = KalmanLinearRegression(noise_variance=1.5, drift_variance=0.02, forgetting=0.99)
    model.fit(X, y)
    mean, std = model.predict(X[:5], return_std=True)
    H = with_ones(X[:5])
    P = model.covariance_ / 0.99 + 0.02 * np.eye(4)
    assert_allclose(std**2, 1.5 + np.diag(H @ P @ H.T))
    assert_allclose(mean, model.predict(X[:5]))
    wide = model.predict_interval(X[:5], confidence_level=0.95)
    assert_allclose((wide[:, 1] - wide[:, 0]) / (2 * std), 1.959964, rtol=1e-6)
    assert_allclose(wide.mean(axis=1), mean)


def test_without_drift_smoothed_iterates_are_their_average(data):
    X, y, _ = data
    X = StandardScaler().fit_transform(X)
    model = KalmanLinearRegression(mode="iterates", eta0=0.02).fit(X, y)
    H, theta, iterates = with_ones(X), np.zeros(4), []
    for h, outcome in zip(H, y, strict=True):
        theta = theta + 0.02 * (outcome - h @ theta) * h
        iterates.append(theta)
    assert_allclose(coefficients(model), np.mean(iterates, axis=0), atol=1e-12)
    latest = KalmanLinearRegression(mode="iterates", eta0=0.02, smoothing_ratio=1e12).fit(X, y)
    assert_allclose(coefficients(latest), theta, atol=1e-9)


def test_iterates_come_near_least_squares(rng):
    X = rng.normal(size=(20_000, 3))
    y = 1.0 + X @ [1.0, 2.0, 0.0] + rng.normal(size=20_000)
    model = KalmanLinearRegression(mode="iterates", n_epochs=3, random_state=0).fit(X, y)
    plain = LinearRegression().fit(X, y)
    assert_allclose(coefficients(model), np.r_[plain.intercept_, plain.coef_], atol=0.02)
    again = KalmanLinearRegression(mode="iterates", n_epochs=3, random_state=0).fit(X, y)
    assert_array_equal(again.coef_, model.coef_)
    assert model.n_samples_seen_ == 20_000
    assert np.isnan(model.covariance_).all()
    assert np.isnan(model.log_evidence_)


def test_the_path_says_where_validation_loss_is_least(rng):
    X = rng.normal(size=(400, 1))
    slope = np.where(np.arange(400) < 200, 1.0, -1.0)
    y = slope * X[:, 0] + 0.1 * rng.normal(size=400)
    model = KalmanLinearRegression(record_path=True)
    model.partial_fit(X[:150], y[:150]).partial_fit(X[150:], y[150:])
    assert model.path_.shape == (400, 2)
    assert_array_equal(model.path_[-1], coefficients(model))
    X_val = rng.normal(size=(100, 1))
    w = rng.uniform(size=100)
    y_val = X_val[:, 0]
    scores = model.path_scores(X_val, y_val, sample_weight=w)
    by_hand = [np.average((y_val - with_ones(X_val) @ b) ** 2, weights=w) for b in model.path_]
    assert_allclose(scores, by_hand, atol=1e-12)
    assert scores.argmin() < 200


def test_frames_clones_pickles_and_pipelines(data):
    X, y, _ = data
    names = list("abc")
    expected = KalmanLinearRegression().fit(X, y)
    for frame in (pd.DataFrame(X, columns=names), pl.DataFrame(X, schema=names)):
        model = KalmanLinearRegression().partial_fit(frame, y)
        assert list(model.feature_names_in_) == names
        assert_allclose(model.predict(frame), expected.predict(X))
    copy = pickle.loads(pickle.dumps(expected))
    copy.partial_fit(X, y)
    assert copy.n_samples_seen_ == 400
    assert expected.n_samples_seen_ == 200
    assert not hasattr(clone(expected), "coef_")
    pipeline = make_pipeline(StandardScaler(), KalmanLinearRegression()).fit(X, y)
    assert pipeline.score(X, y) > 0.7


def test_fit_forgets_and_drift_may_be_switched_on_midway(data):
    X, y, _ = data
    model = KalmanLinearRegression(noise_variance=1.0).fit(X, y)
    again = KalmanLinearRegression(noise_variance=1.0).fit(X + 1, y).fit(X, y)
    assert_array_equal(again.coef_, model.coef_)
    model.set_params(drift_variance=0.1).partial_fit(X[:1], y[:1])
    model.set_params(drift_variance=0.0).partial_fit(X[:1], y[:1])
    P = np.linalg.eigvalsh(model.covariance_)
    assert P.min() > np.linalg.eigvalsh(again.covariance_).min()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"mode": "iterates"}, "mode is 'iterates' now and was 'exact'"),
        ({"fit_intercept": False}, "fit_intercept is False now and was True"),
        ({"noise_variance": 2.0}, "noise_variance is 'a number' now and was 'estimate'"),
    ],
)
def test_what_the_state_stands_for_cannot_change_between_batches(change, message, data):
    X, y, _ = data
    model = KalmanLinearRegression().fit(X, y)
    expected = model.predict_interval(X)
    model.set_params(**change)
    with pytest.raises(ValueError, match=message):
        model.partial_fit(X, y)
    assert_array_equal(model.predict_interval(X), expected)
    assert model.fit(X, y).n_samples_seen_ == 200


def test_a_known_noise_variance_may_change_between_batches(data):
    X, y, _ = data
    w = np.r_[np.ones(100), np.full(100, 0.25)]
    expected = KalmanLinearRegression(noise_variance=1.0).fit(X, y, sample_weight=w)
    model = KalmanLinearRegression(noise_variance=1.0).fit(X[:100], y[:100])
    model.set_params(noise_variance=4.0).partial_fit(X[100:], y[100:])
    assert_allclose(coefficients(model), coefficients(expected), atol=1e-10)
    assert model.noise_variance_ == 4.0


BAD = [
    ({"prior_variance": 0.0}, "'prior_variance' parameter"),
    ({"noise_variance": -1.0}, "'noise_variance' parameter"),
    ({"drift_variance": -1.0}, "'drift_variance' parameter"),
    ({"forgetting": 0.0}, "'forgetting' parameter"),
    ({"forgetting": 1.5}, "'forgetting' parameter"),
    ({"mode": "area"}, "'mode' parameter"),
    ({"smoothing_ratio": -1.0}, "'smoothing_ratio' parameter"),
]


@pytest.mark.parametrize(("parameters", "message"), BAD, ids=[str(bad[0]) for bad in BAD])
def test_parameters_out_of_range_are_refused(parameters, message, data):
    X, y, _ = data
    for method in ("fit", "partial_fit"):
        with pytest.raises(ValueError, match=message):
            getattr(KalmanLinearRegression(**parameters), method)(X, y)


def test_rows_that_cannot_be_used_are_refused_and_leave_the_model_as_it_was(data):
    X, y, _ = data
    model = KalmanLinearRegression().fit(X, y)
    before = model.coef_.copy()
    with pytest.raises(ValueError, match="expecting 3 features"):
        model.partial_fit(X[:, :2], y)
    with pytest.raises(ValueError, match="NaN"):
        model.partial_fit(np.where(X > 0, np.nan, X), y)
    with pytest.raises(ValueError, match="negative"):
        model.partial_fit(X, y, sample_weight=-np.ones(200))
    model.partial_fit(X, y, sample_weight=np.zeros(200))
    assert_array_equal(model.coef_, before)
    with pytest.raises(ValueError, match="2001 features need a covariance"):
        KalmanLinearRegression().fit(np.zeros((3, 2001)), np.zeros(3))
    with pytest.raises(ValueError, match="confidence_level must lie between"):
        model.predict_interval(X, confidence_level=1.0)


def test_what_iterates_do_not_know_is_refused(data):
    X, y, _ = data
    model = KalmanLinearRegression(mode="iterates", eta0=0.001).fit(X, y)
    with pytest.raises(ValueError, match="needs mode='exact'"):
        model.predict(X, return_std=True)
    with pytest.raises(ValueError, match="needs mode='exact'"):
        model.predict_interval(X)
    with pytest.raises(ValueError, match="gradient descent diverged with eta0=5"):
        KalmanLinearRegression(mode="iterates", eta0=5.0).fit(X, y)
    with pytest.raises(AttributeError, match="record_path=True"):
        model.path_  # noqa: B018


def test_columns_that_rounding_makes_equal_are_refused(data):
    X, y, _ = data
    with pytest.raises(ValueError, match=r"cannot be told apart .* StandardScaler"):
        KalmanLinearRegression().fit(X + 1e12, y)

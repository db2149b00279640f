"""Ensembles: held-out calibration, coverage, prefit members, and refusals."""

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.base import clone
from sklearn.datasets import make_friedman1
from sklearn.ensemble import ExtraTreesRegressor
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LinearRegression
from sklearn.model_selection import KFold, TimeSeriesSplit
from sklearn.neighbors import KNeighborsRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.tree import DecisionTreeRegressor

from reweight import CalibratedEnsembleRegressor, uncertainty_report
from reweight.exceptions import WeightWarning

TREE = DecisionTreeRegressor(min_samples_leaf=20)


@pytest.fixture(name="data", scope="module")
def friedman():
    X, y = make_friedman1(900, noise=1.0, random_state=3)
    return X[:500], y[:500], X[500:], y[500:]


def ensemble(**parameters):
    return CalibratedEnsembleRegressor(TREE, **{"resample": "bootstrap", **parameters})


@pytest.mark.parametrize("cv", [4, "oob"])
@pytest.mark.parametrize("method", ["bins", "scaling", "affine", "isotonic"])
def test_standard_deviations_match_errors_of_new_rows(cv, method, data):
    X, y, X_new, y_new = data
    model = ensemble(cv=cv, method=method, n_estimators=32 if cv == "oob" else 8).fit(X, y)
    mean, std = model.predict(X_new, return_std=True)
    report = uncertainty_report(y_new, mean, std, n_bins=5)
    # Few members leave a row out, whose noisy spread makes the one factor too large.
    assert (0.8 if cv == "oob" else 0.85) < report["z_std"] < 1.12
    # One factor for all cannot be right in every bin.
    assert report["ence"] < (0.35 if method == "scaling" else 0.2)
    raw = uncertainty_report(y_new, mean, model.predict_members(X_new).std(axis=1))
    assert raw["z_std"] > 1.3


def test_held_out_pairs_are_those_of_ensembles_that_have_not_seen_the_fold(data):
    X, y, *_ = data
    folds = KFold(4, shuffle=True, random_state=0)
    model = CalibratedEnsembleRegressor(ExtraTreesRegressor(3), cv=folds, n_estimators=3).fit(X, y)
    assert len(model.estimators_) == 3
    assert_array_equal(model.calibration_rows_, np.arange(500))
    # Trees that saw a row reproduce it, those that did not miss it by more than the noise.
    assert np.abs(y - model.calibration_mean_).mean() > 1.0
    assert np.abs(y - model.predict(X)).mean() < 1e-6
    states = {member.random_state for member in model.estimators_}
    assert len(states) == 3


def test_predictions_are_the_mean_of_members(data):
    X, y, X_new, _ = data
    model = ensemble(n_estimators=5).fit(X, y)
    P = model.predict_members(X_new)
    assert P.shape == (400, 5)
    for k, member in enumerate(model.estimators_):
        assert_array_equal(P[:, k], member.predict(X_new))
    mean, std = model.predict(X_new, return_std=True)
    assert_allclose(mean, P.mean(axis=1))
    assert_allclose(std, model.calibrator_.transform(P.std(axis=1)))
    expected = (y - model.calibration_mean_) / model.calibrator_.transform(model.calibration_std_)
    assert_allclose(model.z_scores_, expected)


def test_conformal_intervals_cover_at_their_level(rng):
    # Members are fixed, so calibration and new rows are exchangeable.
    members = [LinearRegression().fit(rng.normal(size=(20, 2)), rng.normal(size=20)) for _ in "abc"]
    n, draws, level = 39, 400, 0.9
    covered = []
    model = CalibratedEnsembleRegressor(members, cv="prefit", method="scaling")
    for _ in range(draws):
        X = rng.normal(size=(n + 50, 2))
        y = rng.standard_t(3, size=n + 50)
        # The one factor is a symmetric function of the rows, so it cancels in the conformal rank.
        model.fit(X[:n], y[:n])
        lower, upper = model.predict_interval(X[n:], level).T
        covered.append(np.mean((lower <= y[n:]) & (y[n:] <= upper)))
    error = 3 * np.std(covered) / np.sqrt(draws)
    assert level - error <= np.mean(covered) <= level + 1 / (n + 1) + error


def test_intervals_of_laws_are_multiples_of_the_std(data):
    X, y, X_new, _ = data
    model = ensemble(interval="normal").fit(X, y)
    mean, std = model.predict(X_new, return_std=True)
    lower, upper = model.predict_interval(X_new).T
    assert_allclose((upper - mean) / std, 1.959964, rtol=1e-6)
    assert_allclose(mean - lower, upper - mean, rtol=1e-9)
    student = ensemble(interval="student").fit(X, y)
    assert np.isfinite(student.predict_interval(X_new)).all()
    model.z_scores_ = np.random.default_rng(0).standard_t(10, size=200_000)
    model._calibration_weights = np.ones(200_000)
    model.interval = "student"
    # Variance 10/8 of z is that of the std; Student's quantile is scaled to unit variance.
    assert_allclose(model._multiple(0.95), 2.228 * np.sqrt(8 / 10), rtol=0.02)


def test_prefit_members_are_used_as_they_are(data):
    X, y, X_new, y_new = data
    members = [
        FrozenEstimator(DecisionTreeRegressor(max_depth=4).fit(X[k::3], y[k::3])) for k in range(3)
    ]
    model = clone(CalibratedEnsembleRegressor(members, cv="prefit")).fit(X_new, y_new)
    for member, given in zip(model.estimators_, members, strict=True):
        assert_array_equal(member.predict(X_new), given.predict(X_new))
    assert_allclose(model.calibration_mean_, model.predict(X_new))


def test_members_without_randomness_are_noticed(data):
    X, y, X_new, y_new = data
    with pytest.warns(WeightWarning, match="members agree in all 500 rows"):
        model = CalibratedEnsembleRegressor(LinearRegression()).fit(X, y)
    mean, std = model.predict(X_new, return_std=True)
    assert np.ptp(std) == 0
    # The seeds of a tree break ties, which leave nothing but rounding.
    with pytest.warns(WeightWarning, match="members agree in all 500 rows"):
        CalibratedEnsembleRegressor(TREE).fit(X, y)
    assert 0.85 < uncertainty_report(y_new, mean, std)["z_std"] < 1.15


def test_seeds_reach_into_pipelines_and_jobs_change_nothing(data):
    X, y, X_new, _ = data
    pipeline = make_pipeline(StandardScaler(), ExtraTreesRegressor(2, max_depth=4))
    model = CalibratedEnsembleRegressor(pipeline, n_estimators=3, cv=2)
    mean, std = model.fit(X, y).predict(X_new, return_std=True)
    assert model.predict_members(X_new).std(axis=1).min() > 0
    again = model.set_params(n_jobs=2).fit(X, y).predict(X_new, return_std=True)
    assert_array_equal(again, (mean, std))
    assert pipeline.get_params()["extratreesregressor__random_state"] is None


def test_rows_without_weight_play_no_part(data):
    X, y, X_new, _ = data
    s = np.where(np.arange(500) % 5 == 0, 0.0, 1.0)
    spoiled = np.where(s == 0, 1e6, y)
    model = ensemble().fit(X, spoiled, sample_weight=s)
    assert np.abs(model.predict(X_new)).max() < 100
    assert_array_equal(model.calibration_rows_, np.flatnonzero(s))


def test_out_of_bag_rows_that_all_members_drew_are_said(data):
    X, y, *_ = data
    with pytest.warns(WeightWarning, match="rows have no held-out prediction .* raise n_est"):
        model = ensemble(cv="oob", n_estimators=4).fit(X, y)
    assert 2 < len(model.calibration_rows_) < 500
    with pytest.warns(WeightWarning, match="100 of 500 rows .* pass folds that cover all"):
        ensemble(cv=TimeSeriesSplit(4)).fit(X, y)


def test_too_few_rows_for_a_level_are_said(data):
    X, y, X_new, _ = data
    model = ensemble(method="scaling", cv=2).fit(X[:30], y[:30])
    with pytest.warns(WeightWarning, match="30 calibration rows .* pass at least 99 rows"):
        assert np.isinf(model.predict_interval(X_new, 0.99)).all()
    assert np.isfinite(model.predict_interval(X_new, 0.9)).all()


def test_frames_keep_their_names(data):
    X, y, *_ = data
    frame = pd.DataFrame(X, columns=[f"x{j}" for j in range(10)])
    model = ensemble(n_estimators=2, cv=2).fit(frame, pd.Series(y))
    assert list(model.feature_names_in_) == list(frame.columns)


@pytest.mark.parametrize(
    ("parameters", "change", "message"),
    [
        ({"cv": "prefit"}, {}, "pass a list of fitted members"),
        ({"estimator": [TREE], "cv": "prefit"}, {}, "1 prefit members have no spread"),
        ({"estimator": [TREE, TREE]}, {}, "estimator is a list and cv=5"),
        ({"cv": "oob", "resample": "seed"}, {}, "resample='seed' leaves none"),
        ({"n_estimators": 1}, {}, "n_estimators"),
        ({"cv": 300}, {}, "n_samples = 500 rows are too few for cv=300"),
        ({}, {"y": np.append(np.nan, np.zeros(499))}, "1 outcomes are NaN or infinite"),
        ({}, {"y": np.zeros(500)}, "all 500 held-out errors are zero"),
        (
            {"estimator": KNeighborsRegressor()},
            {"sample_weight": np.ones(500)},
            "cannot be weighted",
        ),
    ],
)
def test_bad_input_is_named(parameters, change, message, data):
    X, y, *_ = data
    model = CalibratedEnsembleRegressor(**{"estimator": TREE, **parameters})
    with pytest.raises(ValueError, match=message):
        model.fit(**{"X": X, "y": y, **change})
    fitted = ensemble(n_estimators=2, cv=2).fit(X, y)
    with pytest.raises(ValueError, match="confidence_level must be between 0 and 1, got 95"):
        fitted.predict_interval(X, 95)

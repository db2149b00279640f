"""The error detector: its oracles, its count of errors, its costs and its refusals."""

import pickle

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.base import BaseEstimator, RegressorMixin
from sklearn.compose import make_column_transformer
from sklearn.ensemble import RandomForestRegressor
from sklearn.linear_model import LinearRegression, Ridge
from sklearn.metrics import average_precision_score, r2_score
from sklearn.model_selection import GroupKFold, KFold, cross_val_predict
from sklearn.neighbors import KNeighborsRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from sklearn.tree import DecisionTreeRegressor

from reweight import ResponseErrorDetector, Reweighted, make_response_errors

STUMP = DecisionTreeRegressor(max_depth=2, random_state=0)
FOLDS = KFold(5, shuffle=True, random_state=1)


class CountingRegressor(RegressorMixin, BaseEstimator):
    """Counts fits, and remembers the rows of each."""

    fits = []

    def fit(self, X, y):
        type(self).fits.append(np.asarray(X)[:, 0].copy())
        self.model_ = LinearRegression().fit(X, y)
        return self

    def predict(self, X):
        return self.model_.predict(X)


@pytest.fixture(name="data", scope="module")
def linear_data():
    return make_response_errors(300, shift=3.0, random_state=11)


def detector(**parameters):
    return ResponseErrorDetector(LinearRegression(), **parameters)


def test_without_scale_and_trimming_it_ranks_by_out_of_fold_residuals(data):
    fitted = detector(shrinkage=0, trim=0, cv=FOLDS).fit(data.X, data.y)
    expected = data.y - cross_val_predict(LinearRegression(), data.X, data.y, cv=FOLDS)
    assert_allclose(fitted.residuals_, expected, rtol=1e-10)
    assert_allclose(fitted.scores_, np.abs(expected) / np.abs(expected).mean(), rtol=1e-10)


def test_second_models_do_not_learn_from_the_most_suspicious_rows(data):
    fitted = detector(shrinkage=0, cv=FOLDS).fit(data.X, data.y)
    first = data.y - cross_val_predict(LinearRegression(), data.X, data.y, cv=FOLDS)
    suspects = np.isin(np.arange(300), np.argsort(-np.abs(first))[:30])
    for train, test in FOLDS.split(data.X):
        kept = train[~suspects[train]]
        model = LinearRegression().fit(data.X[kept], data.y[kept])
        assert_allclose(fitted.predictions_[test], model.predict(data.X[test]), rtol=1e-10)


def test_units_of_the_outcome_do_not_matter(data):
    fitted = detector(n_resamples=3).fit(data.X, data.y)
    moved = detector(n_resamples=3).fit(data.X, 16 - 4 * data.y)
    assert_allclose(moved.scores_, fitted.scores_, rtol=1e-8)
    assert_allclose(moved.veracity_, fitted.veracity_, rtol=1e-8)
    assert_array_equal(moved.is_error_, fitted.is_error_)
    assert_allclose(moved.aleatoric_, 4 * fitted.aleatoric_, rtol=1e-8)


@pytest.mark.parametrize("size", [50.0, 1e6, 1e15])
def test_a_gross_error_ranks_first_and_leaves_the_others_alone(data, size):
    y = data.y.copy()
    y[7] = size
    fitted = detector().fit(data.X, y)
    assert np.argmax(fitted.scores_) == 7
    assert fitted.is_error_[7]
    assert fitted.correct_probability_[7] < 0.05
    without = detector().fit(data.X, np.where(np.arange(300) == 7, data.y[7], data.y))
    others = np.arange(300) != 7
    precision = [
        average_precision_score(data.is_error[others], d.scores_[others]) for d in (fitted, without)
    ]
    assert min(precision) > 0.97


def test_first_models_are_the_only_ones_that_a_gross_error_can_bend(data):
    y = data.y.copy()
    y[7] = 1e6
    folds = list(FOLDS.split(data.X))
    (own,) = (test for _, test in folds if 7 in test)
    scores = [
        detector(shrinkage=0, trim=0, cv=folds).fit(data.X, outcome).residuals_[own]
        for outcome in (data.y, y)
    ]
    others = own != 7
    assert_allclose(scores[0][others], scores[1][others], rtol=1e-10)


def test_default_costs_ten_folds_two_forests_and_one_refit(data, monkeypatch):
    forests = []
    fit = RandomForestRegressor.fit
    monkeypatch.setattr(
        RandomForestRegressor, "fit", lambda self, *a, **k: forests.append(1) or fit(self, *a, **k)
    )
    CountingRegressor.fits = []
    fitted = ResponseErrorDetector(CountingRegressor()).fit(data.X, data.y)
    assert len(forests) == 2
    assert len(CountingRegressor.fits) == 11
    # The refit sees all rows that are not flagged, and only those.
    assert_array_equal(CountingRegressor.fits[-1], data.X[~fitted.is_error_, 0])


@pytest.mark.parametrize(
    ("design", "shift"), [("linear", 2.0), ("linear", 3.0), ("heteroscedastic", 3.0)]
)
def test_about_as_many_rows_are_flagged_as_are_wrong(design, shift):
    shares, false = [], []
    for seed in range(5):
        data = make_response_errors(400, design=design, shift=shift, random_state=100 + seed)
        fitted = detector(refit=False).fit(data.X, data.y)
        shares.append(fitted.contamination_)
        false.append(np.mean(~data.is_error[fitted.is_error_]) if fitted.n_errors_ else 0.0)
    assert 0.08 <= np.mean(shares) <= 0.13
    assert np.mean(false) < 0.25


@pytest.mark.parametrize("design", ["linear", "heteroscedastic"])
def test_hardly_any_row_is_flagged_where_none_is_wrong(design):
    shares = [
        detector(refit=False).fit(data.X, data.y).contamination_
        for data in (
            make_response_errors(400, design=design, error_share=0.0, random_state=200 + seed)
            for seed in range(5)
        )
    ]
    assert np.mean(shares) <= 0.02


@pytest.mark.slow
@pytest.mark.parametrize(
    ("design", "shift", "share", "low", "high"),
    [
        ("linear", 2.0, 0.1, 0.08, 0.13),
        ("linear", 3.0, 0.1, 0.08, 0.13),
        ("heteroscedastic", 3.0, 0.1, 0.08, 0.13),
        ("linear", 3.0, 0.0, 0.0, 0.02),
        ("heteroscedastic", 3.0, 0.0, 0.0, 0.02),
    ],
)
def test_count_of_errors_over_fifty_tables(design, shift, share, low, high):
    flagged = []
    for seed in range(50):
        data = make_response_errors(
            400, design=design, shift=shift, error_share=share, random_state=300 + seed
        )
        flagged.append(detector(refit=False).fit(data.X, data.y).contamination_)
    assert low <= np.mean(flagged) <= high


def test_even_noise_is_not_followed_where_data_are_many():
    even = make_response_errors(3000, random_state=5)
    fitted = detector(refit=False).fit(even.X, even.y)
    assert fitted.shrinkage_ <= 0.75
    plain = detector(shrinkage=0, refit=False).fit(even.X, even.y)
    precision = [average_precision_score(even.is_error, d.scores_) for d in (plain, fitted)]
    assert precision[1] > precision[0] - 0.01


def test_uneven_noise_is_followed():
    uneven = make_response_errors(400, design="heteroscedastic", shift=2.0, random_state=5)
    fitted = detector().fit(uneven.X, uneven.y)
    assert fitted.shrinkage_ >= 0.75
    plain = detector(shrinkage=0).fit(uneven.X, uneven.y)
    gain = [average_precision_score(uneven.is_error, d.scores_) for d in (plain, fitted)]
    assert gain[1] > gain[0] + 0.05
    assert np.corrcoef(fitted.aleatoric_, uneven.noise_std)[0, 1] > 0.8


def test_weights_are_the_probability_of_being_correct_times_sample_weight(data, rng):
    s = rng.uniform(0.5, 2.0, size=300)
    fitted = detector().fit(data.X, data.y, sample_weight=s)
    expected = fitted.correct_probability_ * s
    assert_allclose(fitted.weights_, expected / expected.mean(), rtol=1e-12)
    assert np.median(fitted.correct_probability_[data.is_error]) < 0.3
    assert np.median(fitted.correct_probability_[~data.is_error]) > 0.95
    # Weights make a model better than the errors do.
    truth = LinearRegression().fit(data.X, data.y_true).coef_
    weighted = Reweighted(LinearRegression(), detector()).fit(data.X, data.y)
    spoiled = LinearRegression().fit(data.X, data.y)
    gaps = [np.abs(m.coef_ - truth).sum() for m in (weighted.estimator_, spoiled)]
    assert gaps[0] < 0.5 * gaps[1]


def test_numbers_and_shares_of_errors_are_the_highest_scores(data):
    for asked, wanted in ((17, 17), (0.1, 30), (0, 0)):
        fitted = detector(n_errors=asked).fit(data.X, data.y)
        assert fitted.n_errors_ == wanted
        top = np.argsort(-fitted.scores_)[:wanted]
        assert_array_equal(np.flatnonzero(fitted.is_error_), np.sort(top))


def test_search_by_r2_takes_the_share_that_predicts_best(data):
    fitted = detector(n_errors="r2", cv=FOLDS).fit(data.X, data.y)
    shares, r2 = fitted.search_path_.T
    assert {0.0, 0.05, 0.1, 0.15, 0.2} <= set(shares.round(2))
    assert_allclose(fitted.contamination_, shares[np.argmax(r2)], atol=0.5 / 300)
    # R^2 of removing nothing is that of plain cross-validation.
    plain = cross_val_predict(LinearRegression(), data.X, data.y, cv=FOLDS)
    assert_allclose(r2[shares == 0], r2_score(data.y, plain), rtol=1e-10)
    assert_allclose(r2.max(), r2_score(data.y, fitted.predictions_), rtol=1e-10)


def test_the_spread_of_models_is_large_where_data_are_thin():
    data = make_response_errors(400, design="bimodal", error_share=0.0, random_state=2)
    fitted = ResponseErrorDetector(
        KNeighborsRegressor(5), n_resamples=20, subsample_size=0.5, refit=False
    ).fit(data.X[:, :1], data.y)
    inner = np.abs(data.X[:, 0]) < 0.4
    noisy = data.X[:, 0] > 1.0
    assert fitted.epistemic_[noisy].mean() > 1.5 * fitted.epistemic_[inner].mean()
    for combine, rule in (
        ("quadrature", np.hypot),
        ("add", np.add),
        ("geometric", lambda a, e: np.sqrt(a * e)),
    ):
        other = detector(combine=combine, n_resamples=4).fit(data.X, data.y)
        expected = np.abs(other.residuals_) / rule(other.aleatoric_, other.epistemic_)
        assert_allclose(other.scores_, expected, rtol=1e-10)


def test_conformal_null_is_honest_with_clean_rows_of_any_law(rng):
    false, flagged = [], []
    for _ in range(10):
        X = rng.normal(size=(300, 2))
        y = X @ [1.0, 1.0] + rng.lognormal(0, 1, size=300)
        clean = np.arange(300) < 150
        wrong = np.arange(300) >= 280
        fitted = detector(null="conformal", shrinkage=0).fit(X, y + 40 * wrong, is_clean=clean)
        assert not fitted.is_error_[clean].any()
        assert_array_equal(fitted.correct_probability_[clean], 1.0)
        flagged.append(fitted.is_error_[wrong].mean())
        false.append(np.mean(~wrong[fitted.is_error_]) if fitted.n_errors_ else 0.0)
    assert np.mean(flagged) > 0.8
    assert np.mean(false) < 0.25


def test_new_rows_are_scored_on_the_same_scale(data):
    fitted = detector(n_resamples=4).fit(data.X, data.y)
    new = make_response_errors(2000, error_share=0.0, random_state=11)
    # The signs of the coefficients differ by seed; the same law is drawn from the same data.
    y_new = new.X @ LinearRegression().fit(data.X, data.y_true).coef_
    noise = np.random.default_rng(0).normal(scale=0.5, size=2000)
    scores = fitted.score_outcomes(new.X, y_new + noise)
    old = fitted.scores_[~data.is_error]
    assert_allclose(np.median(scores), np.median(old), rtol=0.15)
    assert np.all(fitted.score_outcomes(new.X, y_new + 50) > scores.max())


def test_rows_without_weight_are_scored_but_not_learned_from(data):
    s = np.where(np.arange(300) < 200, 1.0, 0.0)
    fitted = detector().fit(data.X, data.y, sample_weight=s)
    alone = detector().fit(data.X[:200], data.y[:200], sample_weight=np.ones(200))
    assert_allclose(fitted.scores_[:200], alone.scores_, rtol=1e-9)
    expected = alone.score_outcomes(data.X[200:], data.y[200:])
    assert_allclose(fitted.scores_[200:], expected, rtol=1e-9)
    assert average_precision_score(data.is_error[200:], fitted.scores_[200:]) > 0.9


def test_groups_stay_in_one_fold(data, rng):
    groups = rng.integers(0, 40, size=300)
    CountingRegressor.fits = []
    ResponseErrorDetector(
        CountingRegressor(), scale_estimator=STUMP, trim=0, refit=False, n_resamples=2
    ).fit(data.X, data.y, groups=groups)
    for seen in CountingRegressor.fits:
        inside = np.isin(data.X[:, 0], seen)
        assert not set(groups[inside]) & set(groups[~inside])
    by_splitter = ResponseErrorDetector(LinearRegression(), cv=GroupKFold(4))
    assert by_splitter.fit(data.X, data.y, groups=groups).scores_.shape == (300,)


def test_tables_with_text_columns_go_through_a_pipeline(data):
    frame = pd.DataFrame(data.X, columns=list("abcde"))
    frame["kind"] = np.where(frame.a > 0, "up", "down")
    front = make_column_transformer((OneHotEncoder(), ["kind"]), remainder=StandardScaler())
    model = ResponseErrorDetector(make_pipeline(front, Ridge(1e-6)))
    fitted = model.fit(frame, pd.Series(data.y))
    assert average_precision_score(data.is_error, fitted.scores_) > 0.95
    assert list(fitted.feature_names_in_) == [*"abcde", "kind"]
    assert fitted.predict(frame.head(3)).shape == (3,)
    assert_allclose(
        pickle.loads(pickle.dumps(fitted)).score_outcomes(frame, data.y),
        fitted.score_outcomes(frame, data.y),
    )


def test_default_estimator_finds_errors_in_a_curve(rng):
    X = rng.uniform(-2, 2, size=(400, 2))
    y = np.sin(2 * X[:, 0]) + 0.1 * rng.normal(size=400)
    wrong = np.arange(400) % 20 == 0
    fitted = ResponseErrorDetector().fit(X, y + 2.0 * wrong)
    assert average_precision_score(wrong, fitted.scores_) > 0.95
    assert fitted.is_error_[wrong].mean() > 0.8


def test_jobs_change_nothing_and_seeds_do(data):
    model = ResponseErrorDetector(DecisionTreeRegressor(random_state=0), n_resamples=2, refit=False)
    alone = model.fit(data.X, data.y).scores_
    assert_array_equal(model.set_params(n_jobs=2).fit(data.X, data.y).scores_, alone)
    assert not np.array_equal(model.set_params(random_state=1).fit(data.X, data.y).scores_, alone)


def test_without_refit_there_is_nothing_to_predict_with(data):
    fitted = detector(refit=False).fit(data.X, data.y)
    assert not hasattr(fitted, "estimator_")
    assert not hasattr(fitted, "predict")


@pytest.mark.parametrize(
    ("parameters", "change", "message"),
    [
        ({}, {"y": "nan"}, r"1 outcomes are NaN or infinite, the first in rows \[3\]"),
        ({}, {"y": "constant"}, "y is constant, 2 in all 300 rows"),
        ({}, {"y": "text"}, "not numeric"),
        ({"cv": 200}, {}, "n_samples = 300 rows of positive weight are too few for cv=200"),
        ({"cv": [([0, 1, 2, 3], [4, 5])]}, {}, "leaves 298 of 300 rows out of every test part"),
        ({"null": "conformal"}, {}, "is_clean marks none"),
        ({}, {"is_clean": [True]}, r"is_clean has shape \(1,\)"),
        ({"n_resamples": 1}, {}, "n_resamples=1 has no spread"),
        ({"combine": "geometric"}, {}, "n_resamples=0 fits none"),
        ({"n_errors": 400}, {}, "n_errors=400 rows cannot be flagged among 300"),
        ({"n_errors": 1.5}, {}, "n_errors"),
        ({"estimator": KNeighborsRegressor()}, {"sample_weight": np.ones(300)}, "cannot be weig"),
        ({}, {"sample_weight": -np.ones(300)}, "Negative values"),
        ({}, {"groups": [1, 2]}, r"groups has shape \(2,\)"),
    ],
)
def test_bad_input_is_named(data, parameters, change, message):
    y = {
        "nan": np.where(np.arange(300) == 3, np.nan, data.y),
        "constant": np.full(300, 2.0),
        "text": np.full(300, "a"),
    }
    change = {key: y.get(value, value) if key == "y" else value for key, value in change.items()}
    model = ResponseErrorDetector(**{"estimator": LinearRegression(), **parameters})
    with pytest.raises(ValueError, match=message):
        model.fit(**{"X": data.X, "y": data.y, **change})

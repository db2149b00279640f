"""Facts about stacks of quantile models: who sees which row, and what follows from it."""

import pickle

import numpy as np
import pandas as pd
import polars as pl
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from quantile_forest import RandomForestQuantileRegressor
from sklearn import config_context
from sklearn.base import BaseEstimator, clone
from sklearn.compose import make_column_transformer
from sklearn.linear_model import BayesianRidge, LinearRegression, QuantileRegressor
from sklearn.model_selection import (
    GridSearchCV,
    GroupKFold,
    KFold,
    RepeatedKFold,
    TimeSeriesSplit,
    cross_val_predict,
    cross_validate,
)
from sklearn.neighbors import KNeighborsRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder

from reweight import (
    ConformalQuantileCalibrator,
    GaussianQuantileAdapter,
    LocalQuantileAggregator,
    QuantileAggregator,
    QuantileStackingRegressor,
    cross_fit,
    quantile_calibration_error,
    weighted_interval_score,
)
from reweight.quantiles.adapters import QuantileModel

LEVELS = np.array([0.1, 0.5, 0.9])


class Spread(BaseEstimator):
    """Least squares on one column, and quantiles of the residuals."""

    def __init__(self, quantiles=None, column=0):
        self.quantiles = quantiles
        self.column = column

    def fit(self, X, y, sample_weight=None):
        x = np.asarray(X, float)[:, [self.column]]
        self.line_ = LinearRegression().fit(x, y, sample_weight)
        self.offsets_ = np.quantile(
            y - self.line_.predict(x), self.quantiles, weights=sample_weight, method="inverted_cdf"
        )
        return self

    def predict(self, X):
        return self.line_.predict(np.asarray(X, float)[:, [self.column]])[:, None] + self.offsets_


MODELS = [("first", Spread(column=0)), ("second", Spread(column=1))]


def draw(n, seed=0):
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, 3))
    return X, X @ [1.0, 0.7, 0.0] + (0.5 + 0.2 * np.abs(X[:, 0])) * rng.standard_t(4, size=n)


@pytest.fixture(scope="module")
def data():
    return draw(150)


def stack(**parameters):
    return QuantileStackingRegressor(MODELS, LEVELS, **parameters)


def test_out_of_fold_quantiles_are_those_of_cross_validation(data):
    X, y = data
    model = stack(cv=KFold(4, shuffle=True, random_state=0)).fit(X, y)
    for j, (_, estimator) in enumerate(MODELS):
        estimator = clone(estimator).set_params(quantiles=LEVELS)
        expected = cross_val_predict(estimator, X, y, cv=KFold(4, shuffle=True, random_state=0))
        assert_array_equal(model.oof_predictions_[:, j], expected)
        assert_array_equal(cross_fit(estimator, X, y, cv=model.cv).predictions, expected)


@pytest.mark.parametrize("granularity", ["coarse", "medium", "fine", "average", "median"])
def test_weights_come_from_out_of_fold_quantiles_and_models_from_all_rows(data, granularity):
    X, y = data
    model = stack(granularity=granularity).fit(X, y)
    aggregator = QuantileAggregator(LEVELS, granularity=granularity)
    aggregator.fit(model.oof_predictions_, y)
    full = [clone(m).set_params(quantiles=LEVELS).fit(X, y).predict(X) for _, m in MODELS]
    assert_array_equal(model.predict(X), aggregator.predict(np.stack(full, axis=1)))
    assert_array_equal(model.transform(X), np.concatenate(full, axis=1))
    assert_array_equal(model.named_estimators_["first"].predict(X), full[0])
    assert (np.diff(model.predict(X), axis=1) >= 0).all()


def test_without_refit_fold_models_are_averaged(data):
    X, y = data
    model = stack(refit=False, cv=3).fit(X, y)
    assert model.estimators_ is None
    estimator = MODELS[0][1].set_params(quantiles=LEVELS)
    expected = cross_fit(estimator, X, y, cv=3).predict(X)
    assert_allclose(model.transform(X)[:, :3], expected, rtol=1e-12)


def by_hand_with_folds(X, y, X_new, folds):
    """The nested scheme, without sharing any fit."""
    n_folds = int(folds.max()) + 1

    def fitted(rows):
        return [clone(m).set_params(quantiles=LEVELS).fit(X[rows], y[rows]) for _, m in MODELS]

    def stacked(models, rows):
        return np.stack([m.predict(rows) for m in models], axis=1)

    own, new = np.empty((len(y), 3)), []
    for f in range(n_folds):
        rest = np.flatnonzero(folds != f)
        Q = np.empty((len(y), 2, 3))
        for g in range(n_folds):
            if g != f:
                at = folds == g
                Q[at] = stacked(fitted((folds != f) & (folds != g)), X[at])
        aggregator = QuantileAggregator(LEVELS).fit(Q[rest], y[rest])
        models = fitted(folds != f)
        own[folds == f] = aggregator.predict(stacked(models, X[folds == f]))
        new.append(aggregator.predict(stacked(models, X_new)))
    return own, np.array(new)


def test_cv_plus_is_the_nested_scheme(data):
    X, y = data[0][:60], data[1][:60]
    X_new = draw(20, seed=5)[0]
    folds = np.arange(60) // 20
    model = stack(cv=3, calibrate="cv+").fit(X, y)
    own, new = by_hand_with_folds(X, y, X_new, folds)
    scores = np.maximum(own[:, 0] - y, y - own[:, 2])
    lower = np.sort(new[folds, :, 0] - scores[:, None], axis=0)
    upper = np.sort(new[folds, :, 2] + scores[:, None], axis=0)
    # 80 % of 61: the 49th smallest, and as many from above.
    got = model.predict(X_new)
    assert_allclose(got[:, 2], np.maximum(upper[48], new[:, :, 1].mean(axis=0)), atol=1e-6)
    assert_allclose(got[:, 0], np.minimum(lower[-49], new[:, :, 1].mean(axis=0)), atol=1e-6)
    assert_array_equal(model.predict_interval(X_new, confidence_level=0.8), got[:, [0, 2]])
    assert len(model.fold_aggregators_) == 3


class Memory(BaseEstimator):
    """Knows the outcomes of the rows that it has seen, by the row number in the first column."""

    fits = []

    def fit(self, X, y):
        self.seen_ = frozenset(X[:, 0].astype(int).tolist())
        Memory.fits.append(self.seen_)
        return self

    def predict(self, X):
        known = np.array([int(row) in self.seen_ for row in X[:, 0]], float)
        return np.repeat(known[:, None], 3, axis=1)


class Witness(QuantileAggregator):
    learned = []

    def fit(self, Q, y, *, sample_weight=None):
        Witness.learned.append(np.abs(Q).max())
        return super().fit(Q, y, sample_weight=sample_weight)


@pytest.mark.parametrize("calibrate", [None, "split", "cv+"])
def test_no_weight_is_learned_from_rows_that_a_model_has_seen(calibrate):
    Memory.fits, Witness.learned = [], []
    n = 50
    X, y = np.arange(n, dtype=float)[:, None], np.random.default_rng(0).normal(size=n)
    model = QuantileStackingRegressor(
        [("memory", Memory())], LEVELS, aggregator=Witness(LEVELS), calibrate=calibrate
    ).fit(X, y)
    assert max(Witness.learned) == 0
    assert_array_equal(model.oof_predictions_, 0)
    # Ten pairs of five folds, the folds, and all rows.
    assert len(Memory.fits) == (16 if calibrate == "cv+" else 6)
    aside = set(range(n)) - set(model.training_rows_.tolist())
    assert len(aside) == (13 if calibrate == "split" else 0)
    assert all(not (seen & aside) for seen in Memory.fits)


@pytest.mark.parametrize("calibrate", ["split", "cv+"])
def test_intervals_cover_although_models_are_wrong(calibrate):
    covered = []
    for seed in range(40):
        X, y = draw(300, seed)
        y = np.exp(y)
        model = stack(calibrate=calibrate, cv=4, granularity="coarse", random_state=seed)
        model.fit(X[:100], y[:100])
        low, high = model.predict_interval(X[100:], confidence_level=0.8).T
        covered.append(((low <= y[100:]) & (y[100:] <= high)).mean())
    mean, error = np.mean(covered), np.std(covered, ddof=1) / np.sqrt(len(covered))
    if calibrate == "split":
        # 25 calibration rows: between 0.8 and 0.8 + 1/26.
        assert 0.8 - 3 * error <= mean <= 0.8 + 1 / 26 + 3 * error
    else:
        assert 0.8 - 3 * error <= mean <= 0.86


def test_split_calibration_is_that_of_the_rows_set_aside(data):
    X, y = data
    model = stack(calibrate="split", calibration_size=40, random_state=1).fit(X, y)
    aside = np.setdiff1d(np.arange(150), model.training_rows_)
    assert len(aside) == 40
    rest = model.training_rows_
    plain = stack(cv=model.cv).set_params(random_state=None)
    folds = KFold(5, shuffle=True, random_state=0)
    plain.set_params(cv=folds).fit(X[rest], y[rest])
    again = stack(calibrate="split", calibration_size=40, random_state=1).set_params(
        cv=[(rest[a], rest[b]) for a, b in folds.split(rest)]
    )
    again.fit(X, y)
    assert_array_equal(again.training_rows_, rest)
    calibrator = ConformalQuantileCalibrator(LEVELS).fit(plain.predict(X[aside]), y[aside])
    assert_array_equal(again.predict(X), calibrator.predict(plain.predict(X)))


def test_levels_without_partners_are_calibrated_one_by_one(data):
    X, y = data
    model = QuantileStackingRegressor(MODELS, [0.2, 0.7], calibrate="cv+").fit(X, y)
    assert model.calibrator_.mode == "level"
    assert stack(calibrate="cv+").fit(X, y).calibrator_.mode == "interval"


def test_the_leaderboard_scores_out_of_fold_quantiles(data):
    X, y = data
    model = stack().fit(X, y)
    board = model.leaderboard_
    assert board.index.tolist() == ["first", "second", "average", "median", "aggregate"]
    Q = model.oof_predictions_
    for name, q in {"first": Q[:, 0], "average": Q.mean(axis=1)}.items():
        row = board.loc[name]
        assert_allclose(row["weighted_interval_score"], weighted_interval_score(y, q, LEVELS))
        assert_allclose(row["calibration_error"], quantile_calibration_error(y, q, LEVELS))
    aggregate = np.empty_like(Q[:, 0])
    for train, test in KFold(5).split(X):
        aggregate[test] = QuantileAggregator(LEVELS).fit(Q[train], y[train]).predict(Q[test])
    expected = weighted_interval_score(y, aggregate, LEVELS)
    assert_allclose(board.loc["aggregate", "weighted_interval_score"], expected)
    assert (board["fit_seconds"] > 0).all()
    assert board.loc["aggregate", "crossing_rate"] == 0


def test_a_row_of_weight_k_counts_as_k_rows(data):
    X, y = data
    s = np.random.default_rng(2).integers(0, 4, size=150)
    copies = np.repeat(np.arange(150), s)
    folds = np.arange(150) % 3
    cv = [(np.flatnonzero(folds != f), np.flatnonzero(folds == f)) for f in range(3)]
    wide = folds[copies]
    wide_cv = [(np.flatnonzero(wide != f), np.flatnonzero(wide == f)) for f in range(3)]
    weighted = stack(cv=cv).fit(X, y, sample_weight=s)
    repeated = stack(cv=wide_cv).fit(X[copies], y[copies])
    assert_allclose(weighted.aggregator_.objective_, repeated.aggregator_.objective_, rtol=1e-9)
    columns = ["weighted_interval_score", "calibration_error"]
    assert_allclose(weighted.leaderboard_[columns], repeated.leaderboard_[columns], rtol=1e-4)
    assert_allclose(weighted.predict(X), repeated.predict(X), atol=1e-3)


def test_weights_of_one_group_of_rows_leave_the_others_out(data):
    X, y = data
    first = np.arange(150) < 100
    s = first.astype(float)
    model = stack(cv=KFold(5, shuffle=True, random_state=0)).fit(X, y, s)
    noisy = np.where(first, y, 1e6)
    again = stack(cv=KFold(5, shuffle=True, random_state=0)).fit(X, noisy, s)
    assert_allclose(model.predict(X), again.predict(X), rtol=1e-9)


def test_groups_are_kept_whole(data):
    X, y = data
    groups = np.arange(150) // 7
    model = stack(cv=4).fit(X, y, groups=groups)
    expected = stack(cv=list(GroupKFold(4).split(X, y, groups))).fit(X, y)
    assert_array_equal(model.oof_predictions_, expected.oof_predictions_)
    split = stack(calibrate="split", random_state=0).fit(X, y, groups=groups)
    kept = set(groups[split.training_rows_])
    aside = np.setdiff1d(np.arange(150), split.training_rows_)
    assert len(aside)
    assert not kept & set(groups[aside])
    with config_context(enable_metadata_routing=True):
        scores = cross_validate(
            stack(cv=3), X, y, cv=GroupKFold(3), params={"groups": groups}, error_score="raise"
        )
    assert len(scores["test_score"]) == 3


def test_rows_that_no_fold_predicts_are_left_out_and_counted(data):
    X, y = data
    with pytest.warns(UserWarning, match="30 of 150 rows are predicted by no fold"):
        model = stack(cv=TimeSeriesSplit(4)).fit(X, y)
    assert np.isnan(model.oof_predictions_[:30]).all()
    expected = QuantileAggregator(LEVELS).fit(model.oof_predictions_[30:], y[30:])
    assert_array_equal(model.aggregator_.model_weights_, expected.model_weights_)
    with pytest.warns(UserWarning, match="by no fold"):
        late = stack(cv=TimeSeriesSplit(3), calibrate="split", calibration_size=0.2).fit(X, y)
    assert_array_equal(late.training_rows_, np.arange(120))


def test_repeated_folds_are_averaged(data):
    X, y = data
    cv = RepeatedKFold(n_splits=3, n_repeats=2, random_state=0)
    model = stack(cv=cv).fit(X, y)
    estimator = MODELS[1][1].set_params(quantiles=LEVELS)
    expected = cross_fit(estimator, X, y, cv=cv).predictions
    assert_allclose(model.oof_predictions_[:, 1], expected, rtol=1e-12)


@pytest.mark.parametrize("calibrate", [None, "split", "cv+"])
def test_jobs_and_pickling_do_not_change_a_bit(data, calibrate):
    X, y = data
    models = [
        ("line", QuantileRegressor(alpha=0)),
        ("normal", GaussianQuantileAdapter(BayesianRidge())),
        ("forest", RandomForestQuantileRegressor(n_estimators=5)),
    ]
    parameters = {"calibrate": calibrate, "random_state": 3}
    alone = QuantileStackingRegressor(models, LEVELS, **parameters).fit(X, y)
    shared = QuantileStackingRegressor(models, LEVELS, n_jobs=2, **parameters).fit(X, y)
    assert_array_equal(alone.predict(X), shared.predict(X))
    assert_array_equal(pickle.loads(pickle.dumps(alone)).predict(X), alone.predict(X))
    assert_array_equal(clone(alone).fit(X, y).predict(X), alone.predict(X))


def test_grid_search_over_stack_and_models(data):
    X, y = data
    models = [("line", QuantileRegressor(alpha=0)), ("first", Spread())]
    grid = {"granularity": ["coarse", "median"], "line__alpha": [0.0, 10.0], "first": ["drop"]}
    search = GridSearchCV(QuantileStackingRegressor(models, LEVELS, cv=2), grid, cv=2)
    search.fit(X[:60], y[:60])
    assert search.best_params_["line__alpha"] == 0.0
    assert search.best_estimator_._names == ["line"]
    expected = -weighted_interval_score(y, search.predict(X), LEVELS)
    assert_allclose(search.score(X, y), expected)


def test_parameters_of_models_are_those_of_the_stack():
    model = stack()
    assert model.get_params()["first__column"] == 0
    model = clone(model).set_params(first__column=2, second=Spread(column=0))
    assert model.estimators[0][1].column == 2
    assert model.estimators[1][1].column == 0
    assert not hasattr(model, "second")


@pytest.mark.parametrize("library", [pd, pl])
def test_frames_reach_the_models_as_they_are(data, library):
    X, y = data
    kinds = np.array(["a", "b", "c"])[np.arange(150) % 3]
    frame = library.DataFrame({"x": X[:, 0], "z": X[:, 1], "kind": kinds})
    encode = make_column_transformer((OneHotEncoder(), ["kind"]), remainder="passthrough")
    models = [("line", make_pipeline(encode, QuantileRegressor(alpha=0)))]
    model = QuantileStackingRegressor(models, LEVELS, calibrate="split", random_state=0)
    model.fit(frame, library.Series(y))
    matrix = np.column_stack([np.arange(150)[:, None] % 3 == np.arange(3), X[:, :2]])
    plain = QuantileStackingRegressor(
        [("line", QuantileRegressor(alpha=0))], LEVELS, calibrate="split", random_state=0
    ).fit(matrix, y)
    assert_allclose(model.predict(frame), plain.predict(matrix), atol=1e-6)
    assert list(model.feature_names_in_) == ["x", "z", "kind"]
    assert list(model.get_feature_names_out()) == ["line_q0.1", "line_q0.5", "line_q0.9"]
    assert model.set_output(transform="pandas").transform(frame).columns[1] == "line_q0.5"


def test_weights_may_depend_on_the_features(data):
    X, y = data
    local = LocalQuantileAggregator(LEVELS, alpha=0.01)
    model = stack(aggregator=local, passthrough_local=True).fit(X, y)
    expected = clone(local).fit(model.oof_predictions_, y, gate_features=X)
    assert_array_equal(model.aggregator_.coef_, expected.coef_)
    Q = model.transform(X)
    assert_array_equal(model.predict(X), model.aggregator_.predict(Q, gate_features=X))
    plain = stack(passthrough_local=True, granularity="coarse").fit(X[:60], y[:60])
    assert isinstance(plain.aggregator_, LocalQuantileAggregator)
    assert plain.aggregator_.granularity == "coarse"


def test_seeds_are_given_to_models_without_one(data):
    model = stack(random_state=0)
    assert isinstance(model._make_models(LEVELS, None, [1, 2])[0], QuantileModel)
    assert model._make_models(LEVELS, None, [1, 2])[1].random_state == 2


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"estimators": []}, "must be a list of"),
        ({"estimators": [Spread()]}, "must be a list of"),
        ({"estimators": [("a", Spread()), ("a", Spread())]}, "'a' is there twice"),
        ({"estimators": [("a__b", Spread())]}, "'a__b' cannot be a name"),
        ({"estimators": [("cv", Spread())]}, "'cv' cannot be a name"),
        ({"estimators": [("a", "drop")]}, "all 1 estimators are dropped"),
        ({"estimators": [("a", Spread)]}, "cannot be fitted"),
        ({"estimators": [("a", LinearRegression())]}, "3 columns are needed"),
        ({"estimators": [("a", BayesianRidge())]}, "GaussianQuantileAdapter"),
        ({"quantiles": [0.5, 0.2]}, "strictly increasing"),
        ({"quantiles": [10, 50, 90]}, "strictly increasing in"),
        ({"granularity": "tiny"}, "'granularity' parameter"),
        ({"calibrate": "cv"}, "'calibrate' parameter"),
        ({"calibrate": "split", "calibration_size": 150}, "leaves none of 150 rows"),
        ({"calibrate": "cv+", "cv": TimeSeriesSplit(3)}, "leave 39 rows out"),
        ({"calibrate": "cv+", "cv": 2}, "three folds or more"),
        ({"calibrate": "cv+", "cv": RepeatedKFold(n_splits=3, n_repeats=2)}, "150 several times"),
        ({"cv": []}, "no fold with rows to predict"),
        ({"aggregator": QuantileAggregator([0.5])}, "pass both the same"),
        (
            {"aggregator": QuantileAggregator(LEVELS), "passthrough_local": True},
            "takes no gate_features",
        ),
    ],
    ids=lambda value: str(value)[:40],
)
def test_what_cannot_be_is_refused(data, parameters, message):
    parameters = {"estimators": MODELS, "quantiles": LEVELS, **parameters}
    with pytest.raises(ValueError, match=message):
        QuantileStackingRegressor(**parameters).fit(*data)


def test_bad_rows_and_weights_are_refused(data):
    X, y = data
    bad = y.copy()
    bad[:3] = np.nan
    with pytest.raises(ValueError, match="contains NaN"):
        stack().fit(X, bad)
    with pytest.raises(ValueError, match="no weighted form"):
        stack(calibrate="cv+").fit(X, y, sample_weight=np.ones(150))
    knn = [("knn", make_pipeline(KNeighborsRegressor()))]
    with pytest.raises(ValueError, match="KNeighborsRegressor cannot be weighted"):
        QuantileStackingRegressor(knn, LEVELS).fit(X, y, sample_weight=np.ones(150))
    with pytest.raises(ValueError, match=r"available are \[0.8\]"):
        stack().fit(X, y).predict_interval(X, confidence_level=0.9)
    with pytest.warns(UserWarning, match="pass at least 4 calibration rows"):
        stack(calibrate="split", calibration_size=3, random_state=0).fit(X, y)

"""Out-of-fold predictions agree with scikit-learn, and with the fold models that are kept."""

import dataclasses
import pickle
import warnings

import numpy as np
import pandas as pd
import polars as pl
import pytest
import scipy.sparse as sp
from numpy.testing import assert_allclose, assert_array_equal
from sklearn import config_context
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin, clone
from sklearn.dummy import DummyClassifier
from sklearn.ensemble import IsolationForest, RandomForestClassifier, RandomForestRegressor
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LinearRegression, LogisticRegression, Ridge
from sklearn.metrics.pairwise import rbf_kernel
from sklearn.model_selection import (
    GroupKFold,
    KFold,
    LeaveOneOut,
    RepeatedKFold,
    ShuffleSplit,
    StratifiedKFold,
    TimeSeriesSplit,
    cross_val_predict,
)
from sklearn.naive_bayes import GaussianNB
from sklearn.neighbors import KNeighborsClassifier, KNeighborsRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC, SVR

from reweight import Reweighted, Weighter, cross_fit
from reweight.validation import check_sample_weight

N = 60


@pytest.fixture(params=[False, True], ids=["routing off", "routing on"])
def routing(request):
    with config_context(enable_metadata_routing=request.param):
        yield request.param


@pytest.fixture(name="X")
def features(rng):
    return rng.normal(size=(N, 3))


@pytest.fixture
def y(X, rng):
    return X @ [1.0, -2.0, 0.5] + 0.5 * rng.normal(size=N)


@pytest.fixture
def letters(y):
    return np.array(["c", "a", "b"])[np.digitize(y, np.quantile(y, [0.4, 0.7]))]


METHODS = ["predict", "predict_proba", "predict_log_proba", "decision_function"]


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("binary", [True, False], ids=["two classes", "three classes"])
def test_classifiers_agree_with_scikit_learn(method, binary, X, letters):
    target = letters == "a" if binary else letters
    model = LogisticRegression()
    crossed = cross_fit(model, X, target, cv=4, method=method)
    expected = cross_val_predict(model, X, target, cv=4, method=method)
    assert_array_equal(crossed.predictions, expected)
    assert crossed.predictions.dtype == expected.dtype
    assert crossed.missing_rows.size == 0
    if method == "predict":
        assert crossed.classes is None
    else:
        assert_array_equal(crossed.classes, np.unique(target))


@pytest.mark.parametrize(
    "cv", [3, None, KFold(4, shuffle=True, random_state=1), LeaveOneOut()], ids=repr
)
def test_regressors_agree_with_scikit_learn(cv, X, y):
    for target in (y, np.column_stack([y, -y])):
        crossed = cross_fit(Ridge(), X, target, cv=cv)
        assert_array_equal(crossed.predictions, cross_val_predict(Ridge(), X, target, cv=cv))


def test_each_model_has_seen_all_rows_but_those_it_predicts(X, y):
    cv = KFold(4, shuffle=True, random_state=0)
    crossed = cross_fit(Ridge(), X, y, cv=cv)
    assert len(crossed.estimators) == 4
    for number, (train, test) in enumerate(cv.split(X)):
        model = crossed.estimators[number]
        assert_allclose(model.coef_, Ridge().fit(X[train], y[train]).coef_)
        assert_array_equal(crossed.test_rows[number], test)
        assert_array_equal(crossed.fold_of_row[test], number)
        assert_array_equal(crossed.predictions[test], model.predict(X[test]))


def test_new_rows_get_the_mean_of_the_models(X, y, letters, rng):
    new = rng.normal(size=(7, 3))
    crossed = cross_fit(Ridge(), X, y, cv=3)
    outputs = [model.predict(new) for model in crossed.estimators]
    assert_allclose(crossed.predict(new), np.mean(outputs, axis=0))
    model = LogisticRegression()
    crossed = cross_fit(model, X, letters, cv=3, method="predict_proba")
    expected = np.mean([model.predict_proba(new) for model in crossed.estimators], axis=0)
    assert_allclose(crossed.predict(new), expected)
    # The logarithm of the mean probability, and so that of a distribution.
    crossed = cross_fit(model, X, letters, cv=3, method="predict_log_proba")
    assert_allclose(crossed.predict(new), np.log(expected))
    crossed = cross_fit(model, X, letters, cv=3, method="decision_function")
    outputs = [model.decision_function(new) for model in crossed.estimators]
    assert_allclose(crossed.predict(new), np.mean(outputs, axis=0))


class Constant(ClassifierMixin, BaseEstimator):
    """Predicts the first label that it has seen."""

    def fit(self, X, y):
        self.classes_, self.label_ = np.unique(y), y[0]
        return self

    def predict(self, X):
        return np.full(len(X), self.label_)


def test_new_rows_get_the_label_of_the_majority():
    y = np.array(["z", "a", "z", "m", "m", "z"])
    everyone = np.arange(6)
    first = [0, 1, 2, 3]
    folds = [(np.roll(everyone, -start), everyone) for start in first]
    crossed = cross_fit(Constant(), np.zeros((6, 1)), y, cv=folds)
    assert [model.label_ for model in crossed.estimators] == ["z", "a", "z", "m"]
    assert list(crossed.predict(np.zeros((2, 1)))) == ["z", "z"]
    # Of labels with as many votes it is the first in order.
    tied = cross_fit(Constant(), np.zeros((6, 1)), y, cv=folds[:2])
    assert list(tied.predict(np.zeros((1, 1)))) == ["a"]
    assert list(tied.predictions) == ["a"] * 6


def test_repeated_folds_are_averaged(X, y, letters):
    cv = RepeatedKFold(n_splits=3, n_repeats=4, random_state=0)
    folds = list(cv.split(X))
    crossed = cross_fit(Ridge(), X, y, cv=cv)
    repeats = [
        cross_val_predict(Ridge(), X, y, cv=folds[3 * repeat : 3 * repeat + 3])
        for repeat in range(4)
    ]
    assert_allclose(crossed.predictions, np.mean(repeats, axis=0))
    assert crossed.missing_rows.size == 0
    for number, (_, test) in enumerate(folds[:3]):
        assert_array_equal(crossed.fold_of_row[test], number)
    # Labels are voted on.
    model = KNeighborsClassifier(1)
    crossed = cross_fit(model, X, letters, cv=cv)
    votes = np.array(
        [cross_val_predict(model, X, letters, cv=folds[3 * r : 3 * r + 3]) for r in range(4)]
    )
    counts = np.array([(votes == letter).sum(axis=0) for letter in "abc"])
    assert_array_equal(crossed.predictions, np.array(list("abc"))[counts.argmax(axis=0)])
    assert (counts.max(axis=0) < 4).any()


def test_rows_in_no_test_part_are_missing(X, y, letters):
    cv = TimeSeriesSplit(4)
    crossed = cross_fit(Ridge(), X, y, cv=cv)
    missing = np.arange(12)
    assert_array_equal(crossed.missing_rows, missing)
    assert_array_equal(crossed.fold_of_row[missing], -1)
    assert_array_equal(np.isnan(crossed.predictions), np.arange(N) < 12)
    for train, test in cv.split(X):
        expected = Ridge().fit(X[train], y[train]).predict(X[test])
        assert_array_equal(crossed.predictions[test], expected)
    labels = cross_fit(GaussianNB(), X, letters, cv=cv).predictions
    assert list(labels[:12]) == [None] * 12
    assert set(labels[12:]) <= set("abc")
    numbers = cross_fit(GaussianNB(), X, (letters == "a").astype(int), cv=cv).predictions
    assert_array_equal(np.isnan(numbers), np.arange(N) < 12)
    draws = cross_fit(Ridge(), X, y, cv=ShuffleSplit(5, test_size=0.3, random_state=0))
    seen = np.unique(np.concatenate(draws.test_rows))
    assert_array_equal(draws.missing_rows, np.setdiff1d(np.arange(N), seen))
    assert_array_equal(np.flatnonzero(np.isnan(draws.predictions)), draws.missing_rows)


@pytest.mark.parametrize("method", METHODS[1:])
def test_columns_are_those_of_all_classes(method, X, letters):
    # The model without the class in the middle must not shift the columns of the others.
    folds = [(np.setdiff1d(np.arange(N), np.flatnonzero(letters == "b")), np.arange(30))]
    folds += [(np.arange(30), np.arange(30, N))]
    if method == "decision_function":
        with pytest.raises(ValueError, match="cannot be told apart"):
            cross_fit(LogisticRegression(), X, letters, cv=folds, method=method)
        return
    with pytest.warns(RuntimeWarning, match="1 of 2 fold models have not seen all classes") as seen:
        crossed = cross_fit(LogisticRegression(), X, letters, cv=folds, method=method)
    assert seen[0].filename == __file__
    with pytest.warns(RuntimeWarning, match="Number of classes"):
        expected = cross_val_predict(LogisticRegression(), X, letters, cv=folds, method=method)
    assert_array_equal(crossed.predictions, expected)
    poor = crossed.estimators[0]
    assert list(poor.classes_) == ["a", "c"]
    values = getattr(poor, method)(X[:30])
    assert_array_equal(crossed.predictions[:30][:, [0, 2]], values)
    nothing = 0.0 if method == "predict_proba" else np.finfo(float).min
    assert_array_equal(crossed.predictions[:30, 1], nothing)
    mean = crossed.predict(X)
    assert_allclose(np.exp(mean).sum(axis=1) if "log" in method else mean.sum(axis=1), 1)


def test_decision_functions_of_many_classes_are_aligned(rng):
    X, y = rng.normal(size=(80, 2)), np.repeat(np.arange(4), 20)
    without = np.flatnonzero(y != 1)
    folds = [(without, np.arange(40)), (np.arange(80), np.arange(40, 80))]
    with pytest.warns(RuntimeWarning, match="1 of 2 fold models"):
        crossed = cross_fit(LogisticRegression(), X, y, cv=folds, method="decision_function")
    values = LogisticRegression().fit(X[without], y[without]).decision_function(X[:40])
    assert_array_equal(crossed.predictions[:40][:, [0, 2, 3]], values)
    assert_array_equal(crossed.predictions[:40, 1], np.finfo(float).min)
    # A score that is infinite in words stays so in the mean of several.
    repeated = folds + folds
    with pytest.warns(RuntimeWarning, match="2 of 4 fold models"):
        twice = cross_fit(LogisticRegression(), X, y, cv=repeated, method="decision_function")
    assert_allclose(twice.predictions, crossed.predictions)


@pytest.mark.filterwarnings("ignore:cross_fit:RuntimeWarning")
def test_columns_that_belong_to_pairs_of_classes_are_not_aligned(rng):
    X, y = rng.normal(size=(100, 2)), np.repeat(np.arange(5), 20)
    pairs = SVC(decision_function_shape="ovo")
    whole = cross_fit(pairs, X, y, cv=4, method="decision_function")
    assert whole.predictions.shape == (100, 10)
    with pytest.raises(ValueError, match=r"shape \(1, 6\) in a fold with 4 of the 5 classes"):
        cross_fit(pairs, X, y, cv=[(np.flatnonzero(y > 0), [0])], method="decision_function")
    # Three classes have as many pairs, which only the other folds give away.
    folds = [(np.flatnonzero(y > 1), [0]), (np.arange(100), [1])]
    with pytest.raises(ValueError, match=r"rows of shapes \[\(5,\), \(10,\)\]"):
        cross_fit(pairs, X, y, cv=folds, method="decision_function")


def test_probabilities_of_several_outputs(X, letters, y):
    targets = np.column_stack([letters, np.where(y > 0, "yes", "no")])
    model = RandomForestClassifier(5, random_state=0)
    crossed = cross_fit(model, X, targets, cv=KFold(3), method="predict_proba")
    expected = cross_val_predict(model, X, targets, cv=KFold(3), method="predict_proba")
    assert [values.shape for values in crossed.predictions] == [(N, 3), (N, 2)]
    for values, wanted in zip(crossed.predictions, expected, strict=True):
        assert_array_equal(values, wanted)
    assert [list(labels) for labels in crossed.classes] == [["a", "b", "c"], ["no", "yes"]]
    means = crossed.predict(X[:4])
    for j, values in enumerate(means):
        outputs = [model.predict_proba(X[:4])[j] for model in crossed.estimators]
        assert_allclose(values, np.mean(outputs, axis=0))
    without = [(np.flatnonzero(letters != "b"), np.arange(N))]
    with pytest.warns(RuntimeWarning, match="1 of 1 fold models"):
        first, second = cross_fit(model, X, targets, cv=without, method="predict_proba").predictions
    assert_array_equal(first[:, 1], 0)
    assert_allclose(first.sum(axis=1), 1)
    assert second.shape == (N, 2)
    labels = cross_fit(model, X, targets, cv=RepeatedKFold(n_splits=3, n_repeats=2, random_state=0))
    assert labels.predictions.shape == (N, 2)
    assert set(labels.predictions[:, 1]) == {"yes", "no"}


def test_indicator_targets_keep_one_column_an_output(X, y):
    targets = np.column_stack([y > 0, y > 1]).astype(int)
    model = KNeighborsClassifier(3)
    crossed = cross_fit(model, X, targets, cv=3, method="predict_proba")
    expected = cross_val_predict(model, X, targets, cv=3, method="predict_proba")
    for values, wanted in zip(crossed.predictions, expected, strict=True):
        assert_array_equal(values, wanted)
    forest = RandomForestClassifier(5, random_state=0)
    assert_array_equal(
        cross_fit(forest, X, targets, cv=3).predictions,
        cross_val_predict(forest, X, targets, cv=3),
    )


@pytest.mark.parametrize("inner", [Ridge(), make_pipeline(StandardScaler(), Ridge())], ids=repr)
def test_weights_reach_the_last_step_of_each_model(inner, X, y, routing):
    sample_weight = np.arange(N) % 4
    crossed = cross_fit(inner, X, y, cv=KFold(3), sample_weight=sample_weight)
    for train, test in KFold(3).split(X):
        scaled = inner.__class__ is not Ridge
        scaler = StandardScaler(with_mean=scaled, with_std=scaled).fit(X[train])
        ridge = Ridge().fit(scaler.transform(X[train]), y[train], sample_weight[train])
        assert_allclose(crossed.predictions[test], ridge.predict(scaler.transform(X[test])))
    # Zero weight is absence.
    model = LinearRegression()
    without = cross_fit(
        model, X, y, cv=KFold(3), sample_weight=np.where(np.arange(N) % 4, 1.0, 0.0)
    )
    for train, test in KFold(3).split(X):
        kept = train[train % 4 > 0]
        assert_allclose(
            without.predictions[test], LinearRegression().fit(X[kept], y[kept]).predict(X[test])
        )


def test_an_estimator_that_cannot_take_weights_is_named(X, y, routing):
    model = make_pipeline(StandardScaler(), KNeighborsRegressor())
    with pytest.raises(ValueError, match="cross_fit: KNeighborsRegressor cannot be weighted"):
        cross_fit(model, X, y, sample_weight=np.ones(N))
    assert_array_equal(cross_fit(model, X, y).predictions, cross_val_predict(model, X, y))


class TargetWeighter(Weighter):
    __metadata_request__fit = {"X_target": True}

    def fit(self, X, y=None, *, X_target=None, sample_weight=None):
        s = check_sample_weight(sample_weight, X)
        self.n_target_ = len(X_target[0])
        self._set_weights(s / s.mean())
        return self


def test_other_metadata_pass_to_fit(X, y, routing):
    sample_weight = np.arange(N) % 2 + 1.0
    crossed = cross_fit(
        Reweighted(Ridge(), TargetWeighter()),
        X,
        y,
        cv=KFold(3),
        sample_weight=sample_weight,
        params={"X_target": (X,)},
    )
    for model, (train, _) in zip(crossed.estimators, KFold(3).split(X), strict=True):
        assert model.weighter_.n_target_ == N
        s = sample_weight[train]
        assert_array_equal(model.weights_, s / s.mean())


@pytest.mark.parametrize("random_state", [None, 0])
def test_an_integer_cv_stratifies_and_keeps_groups_whole(X, y, letters, random_state):
    groups = np.arange(N) // 3
    crossed = cross_fit(Ridge(), X, y, cv=4, groups=groups, random_state=random_state)
    assert len(np.unique(np.column_stack([groups, crossed.fold_of_row]), axis=0)) == 20
    if random_state is None:
        expected = cross_val_predict(Ridge(), X, y, cv=GroupKFold(4), groups=groups)
        assert_array_equal(crossed.predictions, expected)
    # The classes are those of the groups, so that folds can have both whole.
    target = np.repeat(["a", "b", "c", "c"], 15)
    crossed = cross_fit(GaussianNB(), X, target, cv=5, groups=groups, random_state=random_state)
    assert len(np.unique(np.column_stack([groups, crossed.fold_of_row]), axis=0)) == 20
    for fold in range(5):
        assert list(target[crossed.fold_of_row == fold]).count("a") == 3
    crossed = cross_fit(GaussianNB(), X, letters, cv=3, random_state=random_state)
    shares = [np.mean(letters[crossed.fold_of_row == fold] == "a") for fold in range(3)]
    assert np.ptp(shares) < 0.06


def test_random_state_shuffles_the_rows(X, y, letters):
    crossed = cross_fit(Ridge(), X, y, cv=3, random_state=4)
    cv = KFold(3, shuffle=True, random_state=4)
    assert_array_equal(crossed.predictions, cross_val_predict(Ridge(), X, y, cv=cv))
    crossed = cross_fit(GaussianNB(), X, letters, cv=3, random_state=4)
    cv = StratifiedKFold(3, shuffle=True, random_state=4)
    assert_array_equal(crossed.predictions, cross_val_predict(GaussianNB(), X, letters, cv=cv))


def test_number_of_jobs_does_not_change_a_bit(X, y):
    model = RandomForestRegressor(5, random_state=np.random.RandomState(0))
    alone = cross_fit(model, X, y, random_state=1)
    shared = cross_fit(model, X, y, random_state=1, n_jobs=2)
    assert_array_equal(alone.predictions, shared.predictions)
    assert_array_equal(alone.fold_of_row, shared.fold_of_row)
    assert_array_equal(alone.predict(X), shared.predict(X))


@pytest.mark.parametrize("library", [pd, pl], ids=["pandas", "polars"])
def test_data_frames_keep_their_names(library, X, y, letters, routing):
    frame = library.DataFrame({name: X[:, j] for j, name in enumerate("abc")})
    series = library.Series(y)
    model = make_pipeline(StandardScaler(), Ridge())
    weights = library.Series(np.arange(N) % 3 + 1.0)
    with warnings.catch_warnings():
        # A warning about names would say that a frame was taken for an array.
        warnings.simplefilter("error")
        crossed = cross_fit(model, frame, series, sample_weight=weights)
        assert_allclose(crossed.predict(frame[:5]), crossed.predict(frame)[:5])
    expected = cross_fit(model, X, y, sample_weight=np.asarray(weights)).predictions
    assert_allclose(crossed.predictions, expected)
    assert list(crossed.estimators[0].feature_names_in_) == list("abc")
    classes = cross_fit(GaussianNB(), frame, library.Series(letters), method="predict_proba")
    assert_allclose(
        classes.predictions, cross_fit(GaussianNB(), X, letters, method="predict_proba").predictions
    )


def test_rows_of_an_odd_index_are_taken_by_place(X, y):
    frame = pd.DataFrame(X, columns=list("abc"), index=np.arange(N)[::-1] * 7)
    target = pd.Series(y, index=frame.index)
    assert_allclose(
        cross_fit(Ridge(), frame, target).predictions, cross_fit(Ridge(), X, y).predictions
    )


def test_sparse_lists_texts_and_kernels(X, y):
    model = LinearRegression()
    expected = cross_fit(model, X, y).predictions
    assert_allclose(cross_fit(model, sp.csr_array(X), y).predictions, expected, rtol=1e-4)
    assert_allclose(cross_fit(model, X.tolist(), y.tolist()).predictions, expected)
    kernel = rbf_kernel(X, gamma=0.1)
    assert_allclose(
        cross_fit(SVR(kernel="precomputed"), kernel, y).predictions,
        cross_fit(SVR(gamma=0.1), X, y).predictions,
    )
    texts = ["red dog", "blue cat", "red cat", "blue dog"]
    crossed = cross_fit(CountVectorizer(vocabulary=["dog", "red"]), texts, cv=2, method="transform")
    assert_array_equal(crossed.predictions, [[1, 1], [0, 0], [0, 1], [1, 0]])


def test_without_targets(X):
    model = IsolationForest(n_estimators=10, random_state=0)
    crossed = cross_fit(model, X, cv=3)
    assert_array_equal(crossed.predictions, cross_val_predict(model, X, cv=3))
    assert set(crossed.predict(X)) <= {-1, 1}
    scores = cross_fit(model, X, cv=3, method="decision_function")
    assert scores.predictions.shape == (N,)


def test_single_precision_stays(X, y):
    X, y = X.astype(np.float32), y.astype(np.float32)
    assert cross_fit(Ridge(), X, y).predictions.dtype == np.float32
    repeated = RepeatedKFold(n_splits=3, n_repeats=2, random_state=0)
    assert cross_fit(Ridge(), X, y, cv=repeated).predictions.dtype == np.float32


def test_frozen_models_are_not_fitted(X, y):
    old = Ridge().fit(X[:20], y[:20])
    crossed = cross_fit(FrozenEstimator(old), X, y, sample_weight=np.ones(N))
    assert_allclose(crossed.predictions, old.predict(X))


def test_folds_may_be_masks_and_may_be_empty_of_tests(X, y):
    mask = np.arange(N) < 20
    folds = [(~mask, mask), (mask, ~mask)]
    rows = [(np.flatnonzero(train), np.flatnonzero(test)) for train, test in folds]
    by_mask, by_row = (cross_fit(Ridge(), X, y, cv=cv) for cv in (folds, rows))
    assert_array_equal(by_mask.predictions, by_row.predictions)
    crossed = cross_fit(Ridge(), X, y, cv=[*rows, (np.arange(N), [])])
    assert len(crossed.estimators) == 3
    assert_array_equal(crossed.predictions, by_row.predictions)


def test_the_same_rows_may_be_fitted_and_predicted(X, y):
    everyone = np.arange(N)
    crossed = cross_fit(Ridge(), X, y, cv=[(everyone, everyone)])
    assert_array_equal(crossed.predictions, Ridge().fit(X, y).predict(X))


class NoMethod(RegressorMixin, BaseEstimator):
    def fit(self, X, y):
        raise AssertionError("must not be fitted")


def test_what_cannot_work_is_refused_before_any_work(X, y):
    with pytest.raises(AttributeError, match="cross_fit: NoMethod has no method 'predict'"):
        cross_fit(NoMethod(), X, y)
    with pytest.raises(ValueError, match="inconsistent numbers of samples"):
        cross_fit(Ridge(), X, y[1:])
    with pytest.raises(ValueError, match="sample_weight has 59 entries"):
        cross_fit(Ridge(), X, y, sample_weight=np.ones(59))
    with pytest.raises(ValueError, match="Negative values in data passed to `sample_weight`"):
        cross_fit(Ridge(), X, y, sample_weight=np.full(N, -1.0))
    with pytest.raises(ValueError, match="train part of fold 1 is empty"):
        cross_fit(Ridge(), X, y, cv=[([0, 1], [2]), ([], [0])])
    with pytest.raises(ValueError, match="none of the 1 folds has rows to predict"):
        cross_fit(Ridge(), X, y, cv=[([0, 1], [])])
    with pytest.raises(IndexError, match="out of bounds"):
        cross_fit(Ridge(), X, y, cv=[([0, 1], [N])])


def test_the_record_is_frozen_small_in_print_and_survives_pickling(X, y, letters):
    crossed = cross_fit(Ridge(), X, y, cv=TimeSeriesSplit(4))
    assert repr(crossed) == "CrossFit(4 x Ridge.predict, 60 rows, 12 missing)"
    with pytest.raises(dataclasses.FrozenInstanceError):
        crossed.method = "transform"
    copy = pickle.loads(pickle.dumps(crossed))
    assert_array_equal(copy.predictions, crossed.predictions)
    assert_array_equal(copy.predict(X), crossed.predict(X))


def test_the_estimator_and_the_data_stay_as_they_were(X, y):
    for array in (X, y):
        array.setflags(write=False)
    model = make_pipeline(StandardScaler(), Ridge())
    with config_context(enable_metadata_routing=True):
        cross_fit(model, X, y, sample_weight=np.ones(N))
        assert model[0].get_metadata_routing().fit.requests == {"sample_weight": None}
    assert not hasattr(model[-1], "coef_")
    assert clone(model).get_params().keys() == model.get_params().keys()


def test_progress_is_shown_on_request(X, y, capsys):
    cross_fit(DummyClassifier(), X, y > 0)
    assert capsys.readouterr().err == ""
    cross_fit(DummyClassifier(), X, y > 0, verbose=1)
    assert "cross_fit: folds: 100%" in capsys.readouterr().err

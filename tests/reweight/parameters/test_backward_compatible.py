"""Updates between an old and a new model: their path, what is selected, what is refused."""

import pickle

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy import stats
from sklearn import config_context
from sklearn.base import clone
from sklearn.datasets import load_digits, make_classification
from sklearn.exceptions import NotFittedError
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import (
    LinearRegression,
    LogisticRegression,
    RidgeClassifier,
    SGDClassifier,
)
from sklearn.model_selection import GridSearchCV, cross_validate, train_test_split
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.tree import DecisionTreeClassifier

from reweight import (
    BackwardCompatibleClassifier,
    average_parameters,
    fisher_information,
    negative_flip_rate,
    positive_flip_rate,
)
from reweight.parameters.backward_compatible import paired_lower_bound


@pytest.fixture(scope="module", params=[2, 3])
def data(request):
    return make_classification(
        700, n_features=8, n_informative=5, n_classes=request.param, flip_y=0.1, random_state=1
    )


def fitted(data, n=80, **params):
    return LogisticRegression(max_iter=1000, **params).fit(data[0][:n], data[1][:n])


def update(old, data, **options):
    X, y = data
    model = BackwardCompatibleClassifier(FrozenEstimator(old), **options)
    return model.fit(X[:300], y[:300], X_val=X[300:500], y_val=y[300:500])


def test_the_ends_are_the_new_and_the_old_model(data):
    X = data[0]
    old = fitted(data)
    new = LogisticRegression(max_iter=1000).fit(data[0][:300], data[1][:300])
    for alpha, expected in ((0.0, new), (1.0, old)):
        model = update(old, data, old_weight=alpha)
        assert_array_equal(model.predict_proba(X), expected.predict_proba(X))
    model = update(old, data, old_weight=0.3)
    Z = 0.3 * old.decision_function(X) + 0.7 * new.decision_function(X)
    assert_allclose(model.decision_function(X), Z, rtol=1e-10, atol=1e-10)
    assert model.old_weight_ == 0.3


def test_the_path_is_that_of_the_merged_models(data):
    old = fitted(data)
    model = update(old, data, old_weights=[0.2, 0.7, 1.0])
    X_val, y_val = (part[300:500] for part in data)
    assert_array_equal(model.path_["old_weight"], [0, 0.2, 0.7, 1.0])
    new = model.new_estimators_[0]
    for i, alpha in enumerate(model.path_["old_weight"]):
        merged = average_parameters([old, new], [alpha, 1 - alpha])
        predicted = merged.predict(X_val)
        figures = {
            "accuracy": merged.score(X_val, y_val),
            "negative_flip_rate": negative_flip_rate(y_val, old.predict(X_val), predicted),
            "positive_flip_rate": positive_flip_rate(y_val, old.predict(X_val), predicted),
            "accuracy_difference": merged.score(X_val, y_val) - new.score(X_val, y_val),
        }
        for name, value in figures.items():
            assert_allclose(model.path_[name][i], value, rtol=1e-12, atol=1e-14)
        offset = np.r_[new.coef_.ravel(), new.intercept_] - np.r_[old.coef_.ravel(), old.intercept_]
        assert_allclose(model.path_["distance"][i], (1 - alpha) * np.linalg.norm(offset), atol=1e-9)
    assert model.path_["negative_flip_rate"][-1] == 0


def test_importance_draws_entries_to_the_old_ones(data):
    old = fitted(data)
    new = LogisticRegression(max_iter=1000).fit(data[0][:300], data[1][:300])
    shapes = {"coef_": old.coef_.shape, "intercept_": old.intercept_.shape}

    def merged(alpha, F, scale=None):
        model = update(old, data, old_weight=alpha, importance=F, importance_scale=scale)
        return model.estimator_

    constant = {name: np.full(shape, 3.0) for name, shape in shapes.items()}
    for alpha in (0.0, 0.3, 1.0):
        same = 3 * alpha / (3 * alpha + 1 - alpha)
        expected = average_parameters([old, new], [same, 1 - same])
        found = merged(alpha, constant)
        assert_allclose(
            found.decision_function(data[0]), expected.decision_function(data[0]), atol=1e-12
        )
        # Divided by its mean, a constant importance is none.
        plain = average_parameters([old, new], [alpha, 1 - alpha])
        scaled = merged(alpha, constant, "mean")
        assert_allclose(
            scaled.decision_function(data[0]), plain.decision_function(data[0]), atol=1e-12
        )
    if len(old.classes_) == 2:  # rows of more classes are centred first
        some = {"coef_": np.array([[0.0, 1, 1, 1, 1, 1, 1, 1]]), "intercept_": np.ones(1)}
        assert_allclose(merged(0.6, some).coef_[0, 0], new.coef_[0, 0], rtol=1e-12)
        assert_allclose(merged(1.0, some).coef_[0, 0], old.coef_[0, 0], rtol=1e-12)


def test_fisher_of_the_old_rows_is_an_importance(data):
    old = fitted(data)
    F = fisher_information(old, data[0][:80])
    model = update(old, data, importance=F)
    X_val, y_val = (part[300:500] for part in data)
    chosen = model.path_["old_weight"] == model.old_weight_
    assert_allclose(model.path_["accuracy"][chosen], model.score(X_val, y_val))


def select(path, rule, tolerance):
    """The rules as they are written."""
    D, s = path["accuracy_difference"], path["accuracy_difference_stderr"]
    alpha, best = path["old_weight"], 0.0
    for i in range(len(alpha)):
        good = {
            "max": np.isclose(D[i], D.max(), atol=1e-12),
            "tolerance": D[i] >= -tolerance - 1e-12,
            "guarded": D[i] >= 0.5 * s[i] - 1e-12,
            "one_se": D[i] >= -s[i] - 1e-12,
            "noninferior": (path["accuracy_difference_lower"][: i + 1] >= -tolerance).all(),
        }[rule]
        best = alpha[i] if good else best
    return best


@pytest.mark.parametrize("rule", ["max", "tolerance", "guarded", "one_se", "noninferior"])
@pytest.mark.parametrize("tolerance", [0.0, 0.03])
def test_rules_of_selection(data, rule, tolerance):
    model = update(fitted(data), data, selection=rule, tolerance=tolerance)
    assert model.old_weight_ == select(model.path_, rule, tolerance)
    right = model.predict(data[0][300:500]) == data[1][300:500]
    reference = model.new_estimators_[0].predict(data[0][300:500]) == data[1][300:500]
    i = list(model.path_["old_weight"]).index(model.old_weight_)
    paired = right.astype(float) - reference
    assert_allclose(model.path_["accuracy_difference_stderr"][i], paired.std() / np.sqrt(200))


def test_the_bound_is_the_adjusted_one_and_covers():
    b, c, n, z = 7, 3, 100, stats.norm.ppf(0.95)
    p, q = (b + 1) / (n + 2), (c + 1) / (n + 2)
    expected = p - q - z * np.sqrt((p + q - (p - q) ** 2) / (n + 2))
    assert_allclose(paired_lower_bound(b / n, c / n, n, 0.95), expected, rtol=1e-12)
    rng = np.random.default_rng(0)
    for gained, lost in ((0.03, 0.06), (0.1, 0.1), (0.01, 0.02)):
        b, c, _ = rng.multinomial(300, [gained, lost, 1 - gained - lost], size=20_000).T / 300
        covered = paired_lower_bound(b, c, 300, 0.9) <= gained - lost
        assert 0.885 < covered.mean() < 0.94
    # Two classifiers that never differ are not known to be equal.
    assert -0.03 < paired_lower_bound(0.0, 0.0, 100, 0.95) < 0


def test_published_design_on_digits():
    X, y = load_digits(return_X_y=True)
    X, results = X / 16, []
    for seed in range(4):
        order = np.random.default_rng(seed).permutation(len(y))
        train, val, test = order[:600], order[600:1000], order[1000:]
        old = LogisticRegression(max_iter=2000).fit(X[order[:150]], y[order[:150]])
        model = BackwardCompatibleClassifier(old, selection="tolerance")
        model.fit(X[train], y[train], X_val=X[val], y_val=y[val])
        new = model.new_estimators_[0]
        y_old = old.predict(X[test])
        results.append(
            [negative_flip_rate(y[test], y_old, m.predict(X[test])) for m in (new, model)]
            + [m.score(X[test], y[test]) for m in (new, model)]
        )
    new_flips, flips, new_accuracy, accuracy = np.mean(results, axis=0)
    assert flips < new_flips
    assert abs(new_accuracy - 0.9518) < 0.01
    assert abs(accuracy - 0.9483) < 0.01


def test_rows_are_held_out_by_class_and_weights_go_with_them(data):
    X, y = data
    old = fitted(data)
    weight = np.random.default_rng(0).uniform(0.5, 2, size=len(y))
    model = BackwardCompatibleClassifier(old, random_state=3, validation_fraction=0.3)
    model.fit(X, y, sample_weight=weight)
    parts = train_test_split(
        X, y, weight, test_size=0.3, stratify=y, random_state=np.random.RandomState(3)
    )
    X_new, X_val, y_new, y_val, w_new, w_val = parts
    new = clone(old).fit(X_new, y_new, sample_weight=w_new)
    assert_allclose(model.new_estimators_[0].coef_, new.coef_)
    accuracy = np.average(new.predict(X_val) == y_val, weights=w_val)
    assert_allclose(model.path_["accuracy"][0], accuracy)
    without = BackwardCompatibleClassifier(old, old_weight=0.5).fit(X, y)
    assert without.path_ is None
    assert_allclose(without.new_estimators_[0].coef_, clone(old).fit(X, y).coef_)


@pytest.mark.filterwarnings("ignore:Stochastic")
def test_networks_go_on_from_the_old_one_and_are_averaged(data):
    X, y = data
    old = MLPClassifier((6,), max_iter=30, random_state=0).fit(X[:80], y[:80])
    before = [a.copy() for a in old.coefs_]
    further = MLPClassifier((6,), max_iter=1, learning_rate_init=1e-6)
    runs = [update(old, data, estimator=further, n_updates=3, random_state=0) for _ in range(2)]
    model = runs[0]
    for a, b in zip(model.new_estimators_, runs[1].new_estimators_, strict=True):
        assert_array_equal(a.coefs_[0], b.coefs_[0])
    for new in model.new_estimators_:
        # One tiny step from the old parameters, not a new start.
        assert 0 < np.abs(new.coefs_[0] - old.coefs_[0]).max() < 1e-4
        assert not new.warm_start
    seeds = {new.random_state for new in model.new_estimators_}
    assert len(seeds) == 3
    mean = average_parameters(model.new_estimators_)
    expected = average_parameters([old, mean], [model.old_weight_, 1 - model.old_weight_])
    assert_allclose(model.estimator_.coefs_[1], expected.coefs_[1])
    for a, b in zip(old.coefs_, before, strict=True):
        assert_array_equal(a, b)
    fresh = update(old, data, estimator=further, init="fresh", random_state=0)
    assert np.abs(fresh.new_estimators_[0].coefs_[0] - old.coefs_[0]).max() > 0.1


def test_pipelines_keep_the_old_preprocessing(data):
    X, y = data
    old = make_pipeline(StandardScaler(), LogisticRegression()).fit(X[:80], y[:80])
    model = update(old, data, estimator=LogisticRegression(C=0.1), old_weight=0.4)
    assert model.estimator_[0].mean_ == pytest.approx(old[0].mean_)
    new = LogisticRegression(C=0.1).fit(old[0].transform(X[:300]), y[:300])
    Z = 0.4 * old.decision_function(X) + 0.6 * new.decision_function(old[0].transform(X))
    assert_allclose(model.decision_function(X), Z, rtol=1e-8, atol=1e-10)
    with pytest.raises(ValueError, match="the preprocessing of the old model is kept"):
        update(old, data, estimator=clone(old))


def test_new_classes_are_learned():
    X, y = make_classification(600, n_features=8, n_informative=5, n_classes=3, random_state=0)
    seen = y[:100] < 2
    old = LogisticRegression().fit(X[:100][seen], y[:100][seen])
    model = BackwardCompatibleClassifier(old, random_state=0).fit(X[:500], y[:500])
    assert_array_equal(model.classes_, [0, 1, 2])
    assert model.score(X[500:], y[500:]) > old.score(X[500:], y[500:]) + 0.1
    assert set(model.predict(X)) == {0, 1, 2}


@pytest.mark.parametrize("classifier", [RidgeClassifier(), SGDClassifier(random_state=0)])
def test_other_linear_classifiers(classifier, data):
    old = clone(classifier).fit(data[0][:80], data[1][:80])
    model = update(old, data)
    chosen = model.path_["old_weight"] == model.old_weight_
    score = model.score(data[0][300:500], data[1][300:500])
    assert_allclose(model.path_["accuracy"][chosen], score)
    assert not hasattr(model, "predict_proba")


def test_searches_clones_pickles_and_frames(data):
    pandas = pytest.importorskip("pandas")
    polars = pytest.importorskip("polars")
    X, y = data
    names = [f"x{j}" for j in range(X.shape[1])]
    old = LogisticRegression().fit(pandas.DataFrame(X[:80], columns=names), y[:80])
    model = BackwardCompatibleClassifier(FrozenEstimator(old), LogisticRegression(), random_state=0)
    grid = {"old_weight": [0.0, 0.5, 1.0], "estimator__C": [0.1, 1.0]}
    search = GridSearchCV(model, grid, cv=3).fit(pandas.DataFrame(X, columns=names), y)
    assert set(search.best_params_) == set(grid)
    assert clone(model).get_params()["old_estimator"].estimator is old
    assert list(search.best_estimator_.feature_names_in_) == names
    for library in (pandas, polars):
        frame = library.DataFrame({name: X[:, j] for j, name in enumerate(names)})
        labels = library.Series(values=y) if library is polars else pandas.Series(y)
        fit = clone(model).fit(frame, labels)
        again = pickle.loads(pickle.dumps(fit))
        assert_array_equal(again.predict(frame), fit.predict(frame))
        same = clone(model).fit(pandas.DataFrame(X, columns=names), y)
        assert_allclose(fit.estimator_.coef_, same.estimator_.coef_)


def test_validation_rows_pass_whole_through_cross_validation(data):
    X, y = data
    old = fitted(data)
    X, y, X_val, y_val = X[:350], y[:350], X[350:], y[350:]
    model = BackwardCompatibleClassifier(FrozenEstimator(old))
    for routing in (False, True):
        with config_context(enable_metadata_routing=routing):
            params = {"X_val": (X_val,), "y_val": (y_val,)}
            found = cross_validate(model, X, y, cv=3, params=params, return_estimator=True)
        for fit in found["estimator"]:
            accuracy = fit.new_estimators_[0].score(X_val, y_val)
            assert_allclose(fit.path_["accuracy"][0], accuracy)


def test_bad_input_is_refused(data):
    X, y = data
    old = fitted(data)
    with pytest.raises(TypeError, match="LinearRegression is no classifier"):
        BackwardCompatibleClassifier(LinearRegression().fit(X, y)).fit(X, y)
    with pytest.raises(NotFittedError):
        BackwardCompatibleClassifier(LogisticRegression()).fit(X, y)
    with pytest.raises(TypeError, match="no coef_, coefs_ or state_dict"):
        BackwardCompatibleClassifier(DecisionTreeClassifier().fit(X, y)).fit(X, y)
    for alpha in (-0.1, 1.1):
        with pytest.raises(ValueError, match="'old_weight' parameter"):
            update(old, data, old_weight=alpha)
    with pytest.raises(ValueError, match="old_weights must be from 0 to 1"):
        update(old, data, old_weights=[0.5, 2.0])
    with pytest.raises(ValueError, match="pass both of X_val and y_val"):
        BackwardCompatibleClassifier(old).fit(X, y, X_val=X)
    with pytest.raises(ValueError, match="differ in n_features_in_, 8 and 3"):
        BackwardCompatibleClassifier(old, old_weight=0.5).fit(X[:, :3], y)
    zero = {"coef_": 0 * old.coef_, "intercept_": 0 * old.intercept_}
    with np.errstate(all="ignore"), pytest.raises(ValueError, match="'coef_' are NaN"):
        update(old, data, importance=zero)
    with pytest.raises(KeyError, match="lacks 'intercept_'"):
        update(old, data, importance={"coef_": np.ones_like(old.coef_)})
    ridge = RidgeClassifier().fit(X, y)
    with pytest.raises(ValueError, match="cannot go on from RidgeClassifier by"):
        BackwardCompatibleClassifier(ridge, init="old", old_weight=0.5).fit(X, y)
    with pytest.raises(NotFittedError):
        BackwardCompatibleClassifier(old).predict(X)

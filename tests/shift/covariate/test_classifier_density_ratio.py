"""Facts about the density ratio by classification."""

import warnings

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy.sparse import csr_matrix
from sklearn.calibration import CalibratedClassifierCV
from sklearn.ensemble import RandomForestClassifier
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.model_selection import GridSearchCV, KFold, cross_val_score
from sklearn.naive_bayes import GaussianNB
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from reweight import Reweighted, cross_fit
from reweight.exceptions import WeightWarning
from shift import ClassifierDensityRatio, make_covariate_shift

# So weak a penalty that it does not show.
FREE = LogisticRegression(C=1e8, tol=1e-10, max_iter=1000)


def mean_shift(n=4000, t=3000, seed=0, p=3):
    rng = np.random.default_rng(seed)
    delta = np.array([0.8, -0.4, 0.2])[:p]
    return rng.normal(size=(n, p)), rng.normal(size=(t, p)) + delta, delta


def test_gaussian_mean_shift_has_its_log_linear_ratio():
    X, X_target, delta = mean_shift()
    weighter = ClassifierDensityRatio(FREE).fit(X, X_target=X_target)
    truth = np.exp(X @ delta - delta @ delta / 2)
    # Three standard errors of a slope are about 3 sqrt(1/n + 1/t).
    assert_allclose(weighter.estimator_.coef_[0], delta, atol=3 * np.sqrt(1 / 4000 + 1 / 3000))
    assert_allclose(weighter.raw_weights_.mean(), 1, atol=0.05)
    assert np.corrcoef(weighter.raw_weights_, truth)[0, 1] > 0.99


def test_ratio_is_the_odds_times_the_ratio_of_sizes():
    X, X_target, _ = mean_shift(300, 100)
    weighter = ClassifierDensityRatio().fit(X, X_target=X_target)
    g = weighter.estimator_.predict_proba(X)[:, 1]
    assert_allclose(weighter.raw_weights_, 3 * g / (1 - g), rtol=1e-9)
    assert_allclose(weighter.predict_weights(X), weighter.weights_, rtol=1e-12)


def test_copies_of_the_target_do_not_matter():
    X, X_target, _ = mean_shift(400, 200)
    once = ClassifierDensityRatio(FREE).fit(X, X_target=X_target)
    # A well-specified model would be indifferent; the odds of this one move with the shares.
    thrice = ClassifierDensityRatio(FREE).fit(X, X_target=np.tile(X_target, (3, 1)))
    assert_allclose(thrice.raw_weights_.mean(), once.raw_weights_.mean(), rtol=0.1)
    saturated = ClassifierDensityRatio(FREE)
    x, x_target = np.array([[0.0], [0], [1], [1], [1]]), np.array([[0.0], [1], [1]])
    first = saturated.fit(x, X_target=x_target).raw_weights_
    second = saturated.fit(x, X_target=np.tile(x_target, (4, 1))).raw_weights_
    # With one weight per group the ratio is that of shares: (1/3)/(2/5), (2/3)/(3/5).
    assert_allclose(first, [5 / 6, 5 / 6, 10 / 9, 10 / 9, 10 / 9], rtol=1e-5)
    assert_allclose(second, first, rtol=1e-5)


@pytest.mark.parametrize("class_weight", ["balanced", {0: 2.0, 1: 7.0}])
def test_class_weights_are_taken_out_again(class_weight):
    x, x_target = np.array([[0.0], [0], [1], [1], [1]]), np.array([[0.0], [1], [1]])
    estimator = LogisticRegression(C=1e8, tol=1e-10, class_weight=class_weight)
    weighter = ClassifierDensityRatio(make_pipeline(estimator)).fit(x, X_target=x_target)
    assert_allclose(weighter.raw_weights_, [5 / 6, 5 / 6, 10 / 9, 10 / 9, 10 / 9], rtol=1e-5)


def test_cross_fitting_weighs_rows_by_models_that_have_not_seen_them():
    X, X_target, _ = mean_shift(150, 100)
    forest = RandomForestClassifier(30, min_samples_leaf=10, random_state=0)
    weighter = ClassifierDensityRatio(forest, cv=4, random_state=1).fit(X, X_target=X_target)
    rows, label = np.concatenate([X, X_target]), np.repeat([0, 1], [150, 100])
    crossed = cross_fit(forest, rows, label, cv=4, method="predict_log_proba", random_state=1)
    odds = np.exp(crossed.predictions[:150, 1] - crossed.predictions[:150, 0])
    assert_allclose(weighter.raw_weights_, 1.5 * odds, rtol=1e-9)
    in_sample = ClassifierDensityRatio(forest).fit(X, X_target=X_target)
    assert_array_equal(in_sample.predict_weights(X[:5]), in_sample.weights_[:5])
    jobs = ClassifierDensityRatio(forest, cv=4, random_state=1, n_jobs=2).fit(X, X_target=X_target)
    assert_array_equal(jobs.weights_, weighter.weights_)


@pytest.mark.parametrize(
    ("estimator", "cv"),
    [
        (GaussianNB(), None),
        (make_pipeline(StandardScaler(), LogisticRegression()), None),
        (
            CalibratedClassifierCV(RandomForestClassifier(30, min_samples_leaf=20, random_state=0)),
            5,
        ),
    ],
)
def test_any_probabilistic_classifier_will_do(estimator, cv):
    X, X_target, delta = mean_shift(600, 600)
    weighter = ClassifierDensityRatio(estimator, cv=cv, random_state=0).fit(X, X_target=X_target)
    # Weighted means lie beyond the middle between source (0) and target (delta).
    assert 0.6 < weighter.weights_ @ X @ delta / 600 / (delta @ delta) < 1.3


def test_classifier_without_weights_serves_equal_sampling_weights_only():
    X, X_target, _ = mean_shift(100, 100)
    weighter = ClassifierDensityRatio(KNeighborsClassifier(20))
    weighter.fit(X, X_target=X_target, sample_weight=np.full(100, 3.0))
    with pytest.raises(ValueError, match=r"KNeighborsClassifier.*sample_weight"):
        weighter.fit(X, X_target=X_target, sample_weight=np.arange(100.0))


def test_sampling_weights_are_copies_for_a_saturated_classifier():
    x, x_target = np.array([[0.0], [1], [1]]), np.array([[0.0], [1], [1]])
    weighter = ClassifierDensityRatio(FREE).fit(x, X_target=x_target, sample_weight=[2.0, 2.0, 1.0])
    # The weighted source has shares 2/5 and 3/5.
    assert_allclose(weighter.raw_weights_ / [1.2, 1.2, 0.6], [5 / 6, 10 / 9, 10 / 9], rtol=1e-5)


def test_sparse_rows_give_the_same_weights():
    X, X_target, _ = mean_shift(200, 150)
    X, X_target = np.where(np.abs(X) < 0.5, 0, X), np.where(np.abs(X_target) < 0.5, 0, X_target)
    dense = ClassifierDensityRatio().fit(X, X_target=X_target)
    sparse = ClassifierDensityRatio().fit(csr_matrix(X), X_target=csr_matrix(X_target))
    assert_allclose(sparse.weights_, dense.weights_, rtol=1e-4)
    assert_allclose(sparse.predict_weights(csr_matrix(X)), sparse.weights_, rtol=1e-10)
    for rows, target in ((csr_matrix(X), X_target), (X, csr_matrix(X_target))):
        mixed = ClassifierDensityRatio().fit(rows, X_target=target)
        assert_allclose(mixed.weights_, sparse.weights_, rtol=1e-10)
    s = np.arange(200) % 3
    weighted = ClassifierDensityRatio().fit(
        csr_matrix(X), X_target=csr_matrix(X_target), sample_weight=s
    )
    assert_array_equal(weighted.weights_[s == 0], 0)


def test_cap_is_on_the_ratio_and_counted():
    X, X_target, _ = mean_shift(500, 500)
    with pytest.warns(WeightWarning, match=r"max_weight=1.2 caps \d+%"):
        capped = ClassifierDensityRatio(max_weight=1.2).fit(X, X_target=X_target)
    plain = ClassifierDensityRatio().fit(X, X_target=X_target)
    assert_allclose(capped.raw_weights_, np.minimum(plain.raw_weights_, 1.2))
    assert_allclose(capped.predict_weights(X), capped.weights_, rtol=1e-12)


def test_certain_classifier_is_refused_with_a_way_out():
    X, X_target, _ = mean_shift(50, 50)
    tree = RandomForestClassifier(1, bootstrap=False, random_state=0)
    rows = np.concatenate([X, X[:10]])
    with pytest.raises(ValueError, match=r"certain that .* source rows.*cv=5.*max_weight"):
        ClassifierDensityRatio(tree, cv=2).fit(rows, X_target=X_target)


def test_folds_that_leave_rows_out_are_named():
    X, X_target, _ = mean_shift(50, 50)
    folds = [next(KFold(5).split(np.zeros(100)))]
    with pytest.raises(ValueError, match="cv leaves 30 source rows out"):
        ClassifierDensityRatio(cv=folds).fit(X, X_target=X_target)


def test_flattening_exponent_applies_to_new_rows_too():
    X, X_target, _ = mean_shift(200, 200)
    full = ClassifierDensityRatio().fit(X, X_target=X_target)
    half = ClassifierDensityRatio(exponent=0.5).fit(X, X_target=X_target)
    root = np.sqrt(full.predict_weights(X))
    assert_allclose(half.predict_weights(X), root / root.mean(), rtol=1e-10)
    assert_allclose(half.predict_density_ratio(X), full.raw_weights_, rtol=1e-12)


def test_importance_weighted_validation_is_the_weighted_mean_of_losses():
    """Score of Reweighted on held-out rows, against the formula of Sugiyama et al. by hand."""
    data = make_covariate_shift(200, 150, design="sinc", random_state=0)
    model = Reweighted(LinearRegression(), ClassifierDensityRatio())
    scores = cross_val_score(
        model, data.X, data.y, cv=KFold(4), params={"X_target": (data.X_target,)}
    )
    expected = []
    for train, test in KFold(4).split(data.X):
        weighter = ClassifierDensityRatio().fit(data.X[train], X_target=data.X_target)
        fit = LinearRegression().fit(data.X[train], data.y[train], weighter.weights_)
        w = weighter.predict_weights(data.X[test])
        error = w @ (data.y[test] - fit.predict(data.X[test])) ** 2
        spread = w @ (data.y[test] - np.average(data.y[test], weights=w)) ** 2
        expected.append(1 - error / spread)
    assert_allclose(scores, expected, rtol=1e-10)


def test_weight_one_gives_plain_cross_validation_exactly():
    data = make_covariate_shift(120, 100, random_state=0)
    model = Reweighted(LogisticRegression(), ClassifierDensityRatio(exponent=0.0))
    weighted = cross_val_score(model, data.X, data.y, params={"X_target": (data.X_target,)})
    assert_allclose(weighted, cross_val_score(LogisticRegression(), data.X, data.y), rtol=1e-12)


@pytest.mark.parametrize("method", ["predict_weights", "predict_density_ratio"])
def test_new_rows_are_weighed_only_after_fit(method):
    with pytest.raises(NotFittedError):
        getattr(ClassifierDensityRatio(), method)(np.zeros((2, 3)))


def full_ratio_score(model, X, y):
    """Importance-weighted score, whatever the exponent of the training weights."""
    ratio = model.weighter_.predict_density_ratio(X)
    return model.estimator_.score(X, y, sample_weight=ratio)


@pytest.mark.filterwarnings("ignore::reweight.exceptions.WeightWarning")
def test_exponent_is_tuned_by_importance_weighted_validation():
    data = make_covariate_shift(1000, 500, design="sinc", random_state=0)
    model = Reweighted(LinearRegression(), ClassifierDensityRatio())
    exponents = [0.0, 0.5, 1.0]
    search = GridSearchCV(
        model, {"weighter__exponent": exponents}, cv=KFold(4), scoring=full_ratio_score
    )
    search.fit(data.X, data.y, X_target=(data.X_target,))
    # A straight line through the source misses the target, so plain training must lose.
    assert search.best_params_["weighter__exponent"] > 0
    train, test = next(KFold(4).split(data.X))
    weighter = ClassifierDensityRatio().fit(data.X[train], X_target=data.X_target)
    plain = LinearRegression().fit(data.X[train], data.y[train])
    expected = plain.score(data.X[test], data.y[test], weighter.predict_weights(data.X[test]))
    assert_allclose(search.cv_results_["split0_test_score"][0], expected, rtol=1e-10)


def test_a_target_out_of_reach_is_said(rng):
    X, apart = rng.standard_normal((200, 2)), rng.standard_normal((200, 2)) + 6
    with pytest.warns(WeightWarning, match="most of the target lies where there are no source"):
        ClassifierDensityRatio().fit(X, X_target=apart)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ClassifierDensityRatio().fit(X, X_target=X + 0.5)

"""The strength chosen by cross-validation is the one that held-out rows ask for."""

import warnings

import numpy as np
import pytest
from joblib import parallel_config
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import KFold, StratifiedKFold

from reweight import (
    RelaxedProportionalOdds,
    RelaxedProportionalOddsCV,
    ranked_probability_score,
)


@pytest.fixture
def data(rng):
    X = rng.normal(size=(300, 3))
    signal = X[:, 0] + 0.8 * np.maximum(X[:, 1], 0)
    return X, np.digitize(signal + rng.logistic(size=300), [0.0, 1.5, 3.0])


def brier(y, P, w):
    return np.average(((P - np.eye(4)[y]) ** 2).sum(axis=1), weights=w)


def surprise(y, P, w):
    # Held-out rows between boundaries that cross have probability zero, and an infinite loss.
    with np.errstate(divide="ignore"):
        return np.average(-np.log(P[np.arange(len(y)), y]), weights=w)


LOSSES = {
    "brier": brier,
    "ranked_probability_score": lambda y, P, w: ranked_probability_score(y, P, sample_weight=w),
    "log_loss": surprise,
}


@pytest.mark.parametrize("scoring", LOSSES)
def test_losses_are_those_of_fits_without_the_fold(scoring, data, rng):
    X, y = data
    w = rng.uniform(0.5, 2.0, size=len(y))
    folds = list(KFold(3).split(X))
    model = RelaxedProportionalOddsCV(4, cv=folds, scoring=scoring, tol=1e-10).fit(
        X, y, sample_weight=w
    )
    for alpha, losses in zip(model.alphas_, model.cv_losses_, strict=True):
        for (train, test), loss in zip(folds, losses, strict=True):
            part = RelaxedProportionalOdds(alpha, tol=1e-10)
            part.fit(X[train], y[train], sample_weight=w[train])
            P = part.predict_proba(X[test])
            assert_allclose(loss, LOSSES[scoring](y[test], P, w[test]), atol=1e-7)


def test_the_largest_strength_of_least_loss_is_taken_and_fitted_on_all_rows(data):
    X, y = data
    model = RelaxedProportionalOddsCV(random_state=0).fit(X, y)
    mean = model.cv_losses_.mean(axis=1)
    assert model.alpha_ == model.alphas_[mean == mean.min()].max()
    single = RelaxedProportionalOdds(model.alpha_).fit(X, y)
    assert_allclose(model.coef_, single.coef_, atol=1e-6)
    assert_allclose(model.loglik_, single.loglik_, rtol=1e-9)
    assert_allclose(model.objective_, single.objective_, rtol=1e-10)
    assert_allclose(model.predict_proba(X), single.predict_proba(X), atol=1e-7)


def test_a_tie_goes_to_the_largest_strength(data):
    X, y = data
    # Above the largest useful strength all fits are the null model.
    top = RelaxedProportionalOdds().path(X, y, 1).alphas[0]
    model = RelaxedProportionalOddsCV([4 * top, 2 * top, 3 * top], cv=2, random_state=0).fit(X, y)
    assert model.alpha_ == 4 * top
    assert_array_equal(model.coef_, 0.0)


def test_the_path_is_told_as_a_table(data):
    model = RelaxedProportionalOddsCV(6, random_state=0).fit(*data)
    table = model.cv_path_
    assert list(table) == ["alpha", "mean_loss", "stderr", "n_relaxed"]
    assert_allclose(table["mean_loss"], model.cv_losses_.mean(axis=1))
    assert_allclose(table["stderr"], model.cv_losses_.std(axis=1, ddof=1) / np.sqrt(5))
    assert_array_equal(table["n_relaxed"], model.path_.n_relaxed)
    assert model.n_iter_ == model.path_.n_iter.sum()


def test_folds_keep_the_shares_of_the_levels(rng):
    X = rng.normal(size=(205, 2))
    y = np.r_[np.zeros(120, int), np.ones(80, int), np.full(5, 2)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        model = RelaxedProportionalOddsCV(3, cv=5, random_state=0).fit(X, y)
    assert np.isfinite(model.cv_losses_).all()
    # The same folds by hand.
    folds = list(
        StratifiedKFold(
            5, shuffle=True, random_state=np.random.RandomState(0).randint(2**31 - 1)
        ).split(X, y)
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        again = RelaxedProportionalOddsCV(3, cv=folds).fit(X, y)
    assert_array_equal(again.cv_losses_, model.cv_losses_)


def test_a_fold_without_a_level_is_named(data):
    X, y = data
    order = np.argsort(y, kind="stable")
    with pytest.raises(
        ValueError, match=r"classes \[0\] have no weight in the training rows of fold 0"
    ):
        RelaxedProportionalOddsCV(cv=KFold(2)).fit(X[order], y[order])


def test_rows_without_weight_leave_no_trace(data):
    X, y = data
    w = (np.arange(len(y)) % 5 > 0).astype(float)
    kept = w > 0
    expected = RelaxedProportionalOddsCV(5, random_state=0).fit(X[kept], y[kept])
    model = RelaxedProportionalOddsCV(5, random_state=0).fit(X, y, sample_weight=w)
    assert_array_equal(model.cv_losses_, expected.cv_losses_)
    # Folds of a splitter count all rows, and lose those without weight.
    place = np.cumsum(kept) - 1
    folds = [tuple(place[part[kept[part]]] for part in fold) for fold in KFold(4).split(X)]
    expected = RelaxedProportionalOddsCV(5, cv=folds).fit(X[kept], y[kept])
    model = RelaxedProportionalOddsCV(5, cv=KFold(4)).fit(X, y, sample_weight=w)
    assert_array_equal(model.cv_losses_, expected.cv_losses_)


def test_jobs_and_order_of_strengths_change_nothing(data):
    X, y = data
    expected = RelaxedProportionalOddsCV([0.1, 0.01], random_state=3).fit(X, y)
    with parallel_config(backend="threading"):
        model = RelaxedProportionalOddsCV([0.01, 0.1], random_state=3, n_jobs=2).fit(X, y)
    assert_array_equal(model.cv_losses_, expected.cv_losses_)
    assert_array_equal(model.coef_, expected.coef_)


def test_progress_is_shown_on_request(data, capsys):
    RelaxedProportionalOddsCV(2, cv=2, verbose=1).fit(*data)
    assert "folds" in capsys.readouterr().err


@pytest.mark.slow
def test_it_errs_less_on_a_rare_level_than_logistic_regression_or_proportional_odds():
    """A dense design of the source; benchmarks/presto_tables.py has all of them."""
    errors = []
    for seed in range(12):
        rng = np.random.default_rng(seed)
        while True:
            X = rng.uniform(-1, 1, size=(2500, 10))
            slopes = np.cumsum(rng.uniform(-0.5, 0.5, size=(3, 10)), axis=0)
            eta = X @ slopes.T + [0.0, 2.5, 4.5]
            y = (rng.uniform(size=(2500, 1)) > 1 / (1 + np.exp(-eta))).sum(axis=1)
            if (np.diff(eta, axis=1) > 0).all() and len(np.unique(y)) == 4:
                break
        truth = 1 / (1 + np.exp(eta[:, -1]))
        models = [
            RelaxedProportionalOddsCV(random_state=0),
            RelaxedProportionalOdds(1e3, penalize_first=False),
        ]
        found = [model.fit(X, y).predict_tail_proba(X) for model in models]
        plain = LogisticRegression(C=np.inf, max_iter=1000).fit(X, y == 3)
        found.append(plain.predict_proba(X)[:, 1])
        errors.append([((p - truth) ** 2).mean() for p in found])
    ours, parallel, logistic = np.array(errors).T
    for other in (parallel, logistic):
        gain = other - ours
        assert gain.mean() > 2 * gain.std(ddof=1) / np.sqrt(len(gain))


BAD = [
    ({"alphas": 0}, "'alphas' parameter"),
    ({"alphas": [-1.0]}, "alphas must be a number of strengths"),
    ({"eps": 2.0}, "'eps' parameter"),
    ({"scoring": "accuracy"}, "'scoring' parameter"),
    ({"cv": [(np.arange(250), np.arange(0))]}, "fold 0 holds out no row"),
]


@pytest.mark.parametrize(("parameters", "message"), BAD, ids=[bad[1] for bad in BAD])
def test_what_cannot_be_used_is_refused_by_name(parameters, message, data):
    with pytest.raises(ValueError, match=message):
        RelaxedProportionalOddsCV(**parameters).fit(*data)

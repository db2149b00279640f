"""Facts about grades and thresholds: what rows may hold, and what the posterior then says."""

import pickle

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy.special import ndtr
from sklearn import config_context
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, cross_val_predict, cross_validate
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from reweight import BayesianReuseClassifier, HorseshoeMultinomialClassifier, make_timber_reuse

SMALL = {
    "draws": 100,
    "tune": 150,
    "chains": 2,
    "cores": 1,
    "sampler": "nutpie",
    "target_accept": 0.85,
    "on_nonconvergence": "ignore",
    "random_state": 0,
}
TINY = {**SMALL, "draws": 10, "tune": 10}
pytestmark = pytest.mark.filterwarnings("ignore:.*average probability of a grade:UserWarning")


def draw_gate(n, rng):
    """Levels from a softmax gate, residuals given them by rejection; cuts (0.90, 0.75)."""
    X = rng.normal(size=(n, 5))
    eta = np.c_[0.8 + 1.5 * X[:, 0] - X[:, 1], 0.3 + 0.3 * X[:, 0], np.zeros(n)]
    level = (eta + rng.gumbel(size=eta.shape)).argmax(axis=1)
    residual = np.full(n, np.nan)
    while np.isnan(residual).any():
        rows = np.flatnonzero(np.isnan(residual))
        r = rng.normal(0.84, 0.1, len(rows))
        below = ndtr((r[:, None] - [0.90, 0.75]) / 0.01)
        chances = np.c_[below[:, 0], below[:, 1] - below[:, 0], 1 - below[:, 1]]
        kept = rng.uniform(size=len(rows)) < chances[np.arange(len(rows)), level[rows]]
        residual[rows[kept]] = r[kept]
    return X, level, residual


@pytest.fixture(scope="module")
def timber():
    data = make_timber_reuse((50, 50, 50), random_state=0)
    rows = ~data.is_control
    return data.X[rows], data.level[rows], data.residual[rows], data.cycles[rows]


@pytest.fixture(scope="module")
def fitted(timber):
    X, _, residual, cycles = timber
    return BayesianReuseClassifier(**SMALL).fit(X, residual=residual, groups=cycles)


def test_labels_pin_the_thresholds():
    X, level, residual = draw_gate(200, np.random.default_rng(1))
    model = BayesianReuseClassifier(**SMALL, horseshoe=None, slab_scale=1.0)
    model.fit(X, level, residual=residual)
    assert_allclose(model.thresholds_, [0.90, 0.75], atol=0.02)
    width = np.diff(model.thresholds_interval_, axis=1)
    assert (width < 0.03).all()
    assert (model.threshold_draws_[:, 0] > model.threshold_draws_[:, 1]).all()
    strong = (model.coef_draws_ * model.x_scale_)[:, 0]
    assert_allclose(strong.mean(axis=0), [1.5, -1.0, 0, 0, 0], atol=0.6)


def test_thresholds_are_found_without_a_label():
    X, _, residual = draw_gate(300, np.random.default_rng(2))
    model = BayesianReuseClassifier(**SMALL, horseshoe=None, slab_scale=1.0)
    model.fit(X, residual=residual)
    # The prior has standard deviation 0.03; the data say more.
    assert model.threshold_draws_[:, 0].std() < 0.02
    assert_allclose(model.thresholds_[0], 0.90, atol=0.03)


def test_features_without_information_leave_the_prior():
    rng = np.random.default_rng(3)
    X, residual = rng.normal(size=(80, 2)), rng.normal(0.84, 0.1, 80)
    settings = {**SMALL, "draws": 600, "tune": 200}
    model = BayesianReuseClassifier(**settings, tau0=1e-3, slab_scale=0.01)
    model.fit(X, residual=residual)
    draws = model.idata_.posterior["thresholds"].to_numpy()
    from arviz import ess

    for k, (mean, sd) in enumerate(((0.90, 0.03), (0.75, 0.05))):
        error = draws[..., k].std() / np.sqrt(float(ess(draws[..., k])))
        # The two priors overlap little, so that their order cuts off next to nothing.
        assert abs(draws[..., k].mean() - mean) < 4 * error + 0.2 * sd
        assert_allclose(draws[..., k].std(), sd, rtol=0.2)


def test_a_measured_residual_updates_the_gate_by_bayes_rule(timber, fitted):
    X, _, _, cycles = timber
    R = np.array([0.95, 0.82, np.nan, 0.60])
    draws = fitted.predict_proba_draws(X[:4], residual=R, groups=cycles[:4])
    gate = fitted.predict_proba_draws(X[:4], groups=cycles[:4])
    assert_allclose(draws[:, 2], gate[:, 2], rtol=1e-12)
    softness = fitted.idata_.posterior["softness"].to_numpy().ravel()
    base = fitted.idata_.observed_data["residual"].to_numpy()
    for s in (0, 77, 199):
        cuts = fitted.threshold_draws_[s]

        def chances(r, cuts=cuts, width=softness[s]):
            below = ndtr((np.asarray(r)[:, None] - cuts) / width)
            return np.c_[below[:, 0], below[:, 1] - below[:, 0], 1 - below[:, 1]]

        joint = gate[s, [0, 1, 3]] * chances(R[[0, 1, 3]]) / chances(base).mean(axis=0)
        expected = joint / joint.sum(axis=1, keepdims=True)
        assert_allclose(draws[s, [0, 1, 3]], expected, rtol=1e-6, atol=1e-12)
    assert_array_equal(fitted.predict(X[:4], residual=R, groups=cycles[:4])[[0, 3]], [0, 2])


def test_grades_of_residuals(fitted):
    high, low = fitted.thresholds_
    assert_array_equal(fitted.classify_residual([high + 1e-9, high - 1e-9, low - 1e-9]), [0, 1, 2])
    P = fitted.level_probability_given_residual([0.5, 0.84, 1.2])
    assert_allclose(P.sum(axis=1), 1)
    assert_array_equal(P.argmax(axis=1), [2, 1, 0])
    with pytest.raises(ValueError, match="not finite"):
        fitted.classify_residual([np.nan])


def test_fixed_thresholds_are_the_multinomial_model_of_the_cut_levels(timber):
    X, level, residual, cycles = timber
    plain = HorseshoeMultinomialClassifier(**TINY).fit(X, level, groups=cycles)
    for thresholds in ("fixed", [0.90, 0.75]):
        model = BayesianReuseClassifier(thresholds=thresholds, **TINY)
        model.fit(X, residual=residual, groups=cycles)
        assert_array_equal(model.coef_draws_, plain.coef_draws_)
        assert_array_equal(model.thresholds_interval_, [[0.90, 0.90], [0.75, 0.75]])
        assert model.softness_ == 0.0
    P = model.predict_proba(X[:3], residual=[0.95, 0.8, np.nan], groups=cycles[:3])
    assert_array_equal(P[:2], np.eye(3)[:2])
    assert_allclose(P[2], model.predict_proba(X[2:3], groups=cycles[2:3])[0], rtol=1e-12)
    assert_array_equal(model.level_probability_given_residual([0.8]), [[0, 1, 0]])
    # A grade that is given wins over the one of the residual.
    y = np.full(len(X), -1)
    y[:5] = 2
    model.fit(X, y, residual=residual)
    assert (model.idata_.observed_data["y"].to_numpy()[:5] == 2).all()


def test_quantile_thresholds_make_grades_of_equal_size(timber):
    X, _, residual, _ = timber
    model = BayesianReuseClassifier(thresholds="quantile", n_classes=5, **TINY)
    model.fit(X, residual=residual)
    assert_array_equal(np.bincount(model.classify_residual(residual)), np.full(5, len(X) // 5))


def test_two_columns_of_y_are_grade_and_residual(timber):
    X, level, residual, _ = timber
    mixed = np.where(np.arange(len(X)) % 3 == 0, level, -1)
    model = BayesianReuseClassifier(**TINY)
    expected = model.fit(X, mixed, residual=residual).threshold_draws_
    both = np.c_[np.where(mixed < 0, np.nan, mixed), residual]
    assert_array_equal(clone(model).fit(X, both).threshold_draws_, expected)
    assert_array_equal(clone(model).fit(X, pd.DataFrame(both)).threshold_draws_, expected)
    objects = pd.Series(mixed).astype(object).where(mixed >= 0, None)
    assert_array_equal(model.fit(X, objects, residual=residual).threshold_draws_, expected)
    search = GridSearchCV(model, {"expected_nonzero": [1, 2]}, cv=2)
    search.fit(X, np.nan_to_num(both, nan=-1.0))
    assert 0 <= search.best_score_ <= 1
    with pytest.raises(ValueError, match="residual was passed too"):
        model.fit(X, both, residual=residual)


def test_rows_are_split_with_their_residuals_in_cross_validation(timber):
    X, level, residual, cycles = timber
    model = BayesianReuseClassifier(**TINY)
    params = {"residual": residual, "groups": cycles}
    cross_validate(model, X, level, params=params, cv=2, error_score="raise")
    with config_context(enable_metadata_routing=True):
        found = cross_val_predict(model, X, level, params=params, cv=2, method="predict_proba")
        assert found.shape == (len(X), 3)


def test_a_row_with_neither_grade_nor_residual_is_left_out_and_counted(timber):
    X, level, residual, _ = timber
    y, R = level.copy(), residual.copy()
    y[:60] = -1
    R[:20] = np.nan
    R[100:] = np.nan
    model = BayesianReuseClassifier(**TINY)
    with pytest.warns(UserWarning, match="20 of 150 rows have neither"):
        model.fit(X, y, residual=R)
    other = clone(model).fit(X[20:], y[20:], residual=R[20:])
    assert_array_equal(model.threshold_draws_, other.threshold_draws_)


def test_density_of_residuals_is_relative_to_their_base(timber, fitted):
    X, level, residual, cycles = timber
    value = fitted.log_predictive_density(X, residual=residual, groups=cycles)
    likelihood = fitted.idata_.log_likelihood["y"].to_numpy().reshape(200, -1)
    assert_allclose(value, np.log(np.exp(likelihood).mean(axis=0)).mean(), rtol=1e-9)
    assert value > 0  # features and cycles do say something
    known = fitted.log_predictive_density(X, level, groups=cycles)
    P = fitted.predict_proba(X, groups=cycles)
    assert_allclose(known, np.log(P[np.arange(len(X)), level]).mean())
    with pytest.raises(ValueError, match="1 rows have neither"):
        fitted.log_predictive_density(X[:2], [0, -1])


def test_score_needs_a_known_grade(timber, fitted):
    X, level, residual, cycles = timber
    some = np.where(np.arange(len(X)) < 40, level, -1)
    expected = (fitted.predict(X[:40], groups=cycles[:40]) == level[:40]).mean()
    assert_allclose(fitted.score(X, some, groups=cycles), expected)
    with pytest.raises(ValueError, match="no known grade"):
        fitted.score(X, np.full(len(X), -1))
    fixed = BayesianReuseClassifier(thresholds="fixed", **TINY).fit(X, residual=residual)
    unknown = np.c_[np.full(len(X), -1), residual]
    assert fixed.score(X, unknown) == fixed.score(X, level)


def test_predictive_checks_draw_grades_that_nobody_saw(fitted, timber):
    check = fitted.posterior_predictive_check(draws=200)
    assert_allclose(check["observed"].sum(), len(timber[0]))
    assert_array_equal(check["replicated"].sum(axis=1), len(timber[0]))
    assert ((check["p_value"] > 0.01) & (check["p_value"] < 0.99)).all()
    assert len(fitted.loo().pareto_k) == len(timber[0])


def test_coherence_compares_the_gate_with_the_thresholds(fitted, timber):
    X, _, residual, cycles = timber
    gate = fitted.predict_proba_draws(X, groups=cycles).mean(axis=1)
    softness = fitted.idata_.posterior["softness"].to_numpy().ravel()
    below = ndtr((residual - fitted.threshold_draws_.T[:, :, None]) / softness[:, None])
    mass = np.diff(np.r_[np.zeros((1, 200)), below.mean(axis=2), np.ones((1, 200))], axis=0).T
    assert_allclose(fitted.coherence_, np.abs(gate - mass).mean(axis=0).max(), rtol=1e-6)


def test_a_base_sample_takes_the_place_of_the_residuals(timber):
    X, level, residual, _ = timber
    base = np.random.default_rng(0).normal(0.84, 0.1, 500)
    model = BayesianReuseClassifier(base_residuals=base, **TINY).fit(X, level, residual=residual)
    plain = BayesianReuseClassifier(**TINY).fit(X, level, residual=residual)
    assert not np.array_equal(model.threshold_draws_, plain.threshold_draws_)
    copy = pickle.loads(pickle.dumps(model))
    assert_array_equal(
        copy.predict_proba(X[:5], residual=residual[:5]),
        model.predict_proba(X[:5], residual=residual[:5]),
    )


def test_two_grades_have_one_threshold(timber):
    X, _, residual, _ = timber
    model = BayesianReuseClassifier(n_classes=2, threshold_mean=[0.8], threshold_sd=0.05, **TINY)
    model.fit(X, residual=residual)
    assert model.threshold_draws_.shape == (20, 1)
    assert model.predict_proba(X).shape == (len(X), 2)


@pytest.mark.parametrize(
    ("parameters", "changes", "message"),
    [
        ({}, {"residual": None, "y": "level"}, "none was measured; pass residual="),
        ({"thresholds": "fixed"}, {"residual": None}, "no row has a grade or a residual"),
        ({}, {"y": [3] * 150}, r"y holds \[3.0\]; grades are 0 to 2"),
        ({}, {"y": [0.5] * 150}, r"y holds \[0.5\].* or pass residuals as residual="),
        ({}, {"residual": ["high"] * 150}, "residual is not numeric"),
        ({}, {"y": ["good"] * 150}, "no numbers"),
        ({}, {"y": [0, 1]}, "one grade per row"),
        ({}, {"residual": [0.9]}, r"residual has shape \(1,\)"),
        ({}, {"residual": [np.inf] * 150}, "150 entries that are not finite"),
        ({"threshold_mean": [0.75, 0.90]}, {}, "must fall strictly"),
        ({"threshold_mean": [0.9]}, {}, "n_classes=3 grades have 2 thresholds"),
        ({"threshold_sd": [0.1, -1]}, {}, "2 positive numbers"),
        ({"thresholds": [0.5, 0.6]}, {}, "must fall strictly"),
        ({"thresholds": "quantile"}, {"residual": [0.9] * 150}, "coincide"),
        ({"thresholds": "fixed"}, {"residual": [0.95] * 150}, "every row has grade 0, one class"),
        ({"base_residuals": [np.nan]}, {}, "base_residuals has 1 entries"),
    ],
)
def test_bad_input_is_named(parameters, changes, message, timber):
    X, level, residual, _ = timber
    arguments = {"residual": residual, **changes}
    if isinstance(arguments.get("y"), str):
        arguments["y"] = level
    with pytest.raises(ValueError, match=message):
        BayesianReuseClassifier(**parameters, **TINY).fit(X, **arguments)


def test_residuals_on_one_side_of_every_cut_are_warned_of(timber):
    X, _, residual, _ = timber
    with pytest.warns(UserWarning, match="one side of every prior threshold"):
        model = BayesianReuseClassifier(**TINY).fit(X, residual=residual + 10)
    assert np.isfinite(model.threshold_draws_).all()


@pytest.mark.slow
def test_the_gate_is_as_near_the_true_probabilities_as_logistic_regression():
    data = make_timber_reuse((150, 150, 150), random_state=1)
    rows = ~data.is_control
    X, cycles, truth = data.X[rows], data.cycles[rows], data.level_probability[rows]
    model = BayesianReuseClassifier(thresholds="fixed", **SMALL)
    model.fit(X, residual=data.residual[rows], groups=cycles)
    # The truth is no logit, and few rows leave errors of estimation: a peer says how large.
    dummies = np.c_[X, cycles == 2, cycles == 3]
    peer = make_pipeline(StandardScaler(), LogisticRegression()).fit(dummies, data.level[rows])
    errors = [model.predict_proba(X, groups=cycles) - truth, peer.predict_proba(dummies) - truth]
    ours, theirs = (np.sqrt((error**2).mean()) for error in errors)
    assert ours < 1.25 * theirs

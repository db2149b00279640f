"""Facts about weights of quantile models that depend on features."""

import pickle
import warnings

import numpy as np
import pandas as pd
import polars as pl
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy.optimize import approx_fprime
from sklearn import config_context
from sklearn.base import clone
from sklearn.compose import make_column_transformer
from sklearn.exceptions import ConvergenceWarning, NotFittedError
from sklearn.model_selection import GridSearchCV
from sklearn.preprocessing import OneHotEncoder, SplineTransformer

from reweight import (
    LocalQuantileAggregator,
    QuantileAggregator,
    make_quantile_models,
    pinball_loss,
    weighted_interval_score,
)
from reweight.quantiles._linear_gate import (
    GateProblem,
    gate_loss,
    gate_weights,
    smooth_gate_loss,
    smoothing_path,
)

FITTED = ["coarse", "medium", "fine"]


@pytest.fixture(scope="module")
def data():
    return make_quantile_models(400, 3, n_quantiles=5, random_state=0)


@pytest.fixture(scope="module")
def switch():
    return make_quantile_models(2000, n_quantiles=9, design="switch", random_state=0)


def fit(data, granularity="medium", rows=slice(None), sample_weight=None, **parameters):
    parameters = {"alpha": 1e-4, **parameters}
    model = LocalQuantileAggregator(data.quantiles, granularity=granularity, **parameters)
    return model.fit(
        data.Q[rows], data.y[rows], gate_features=data.X[rows], sample_weight=sample_weight
    )


def make_problem(rng, K=3):
    w = rng.uniform(size=30)
    return GateProblem(
        rng.normal(size=(30, 2)),
        rng.normal(size=(30, 4, K)),
        rng.normal(size=30),
        np.linspace(0.2, 0.7, K),
        w / w.sum(),
    )


def test_the_gradient_is_that_of_the_loss(rng):
    problem, theta = make_problem(rng), rng.normal(size=(3, 4))

    def value(flat):
        return smooth_gate_loss(flat.reshape(3, 4), problem, 0.3, 0.2)[0]

    gradient = smooth_gate_loss(theta, problem, 0.3, 0.2)[1]
    numeric = approx_fprime(theta.ravel(), value, 1e-7)
    assert_allclose(gradient.ravel(), numeric, atol=1e-6)


def test_losses_by_loops_and_without_smoothing(rng):
    problem, theta = make_problem(rng), rng.normal(size=(3, 4))
    total = 0.0
    for i in range(30):
        logits = np.exp(theta[0] + problem.features[i] @ theta[1:])
        w = logits / logits.sum()
        for k, tau in enumerate(problem.levels):
            r = problem.y[i] - w @ problem.inputs[i, :, k]
            total += problem.weights[i] * max(tau * r, (tau - 1) * r) / 3
    assert_allclose(gate_loss(theta, problem), total, rtol=1e-12)
    # Rounding the kink takes away at most half its width.
    smooth = smooth_gate_loss(theta, problem, 1e-6, 0.0)[0]
    assert 0 <= total - smooth <= 5e-7
    assert_allclose(gate_weights(theta, problem.features).sum(axis=1), 1, rtol=1e-12)


def test_smoothing_falls_to_what_is_asked_for():
    assert_allclose(smoothing_path(1e-3, 2.0), [0.2, 0.02, 0.002])
    assert_allclose(smoothing_path(0.5, 1.0), [0.5])


@pytest.mark.parametrize("granularity", FITTED)
@pytest.mark.parametrize("alpha", [0.0, 1e-4, np.inf])
def test_training_loss_is_never_above_that_of_constant_weights(data, granularity, alpha):
    local = fit(data, granularity, alpha=alpha)
    assert local.objective_ <= local.global_aggregator_.objective_ + 1e-12
    raw = clone(local).set_params(postprocess=None)
    raw.fit(data.Q, data.y, gate_features=data.X)
    loss = pinball_loss(data.y, raw.predict(data.Q, gate_features=data.X), data.quantiles)
    assert_allclose(local.objective_, loss, rtol=1e-12)
    if np.isinf(alpha):
        assert_allclose(local.objective_, local.global_aggregator_.objective_, rtol=1e-9)


@pytest.mark.parametrize("granularity", FITTED)
def test_features_that_are_constant_give_constant_weights(data, granularity):
    model = LocalQuantileAggregator(data.quantiles, granularity=granularity, alpha=0.0)
    model.fit(data.Q, data.y, gate_features=np.ones((400, 2)))
    expected = QuantileAggregator(data.quantiles, granularity=granularity).fit(data.Q, data.y)
    assert_allclose(model.objective_, expected.objective_, rtol=1e-9)
    got = model.predict(data.Q, gate_features=np.ones((400, 2)))
    assert_allclose(got, expected.predict(data.Q), atol=1e-4)


@pytest.mark.parametrize("granularity", ["coarse", "medium"])
@pytest.mark.parametrize("alpha", [1e-5, "cv"])
def test_a_gate_finds_where_each_model_is_right(switch, granularity, alpha):
    train, test = slice(0, 1000), slice(1000, None)
    local = fit(switch, granularity, train, alpha=alpha)
    q = local.predict(switch.Q[test], gate_features=switch.X[test])
    score = weighted_interval_score(switch.y[test], q, switch.quantiles)
    oracle = weighted_interval_score(switch.y[test], switch.true_quantiles[test], switch.quantiles)
    assert score <= 1.02 * oracle
    constant = -local.global_aggregator_.score(switch.Q[test], switch.y[test])
    assert constant > 1.2 * oracle


def test_cross_validation_finds_that_features_are_noise(rng):
    data = make_quantile_models(2400, 3, n_quantiles=5, random_state=0)
    noise = rng.normal(size=(2400, 5))
    chosen = LocalQuantileAggregator(data.quantiles)
    chosen.fit(data.Q[:400], data.y[:400], gate_features=noise[:400])
    assert chosen.alpha_ == min(chosen.alpha_losses_, key=chosen.alpha_losses_.get)
    free = clone(chosen).set_params(alpha=0.0)
    free.fit(data.Q[:400], data.y[:400], gate_features=noise[:400])
    Q, y = data.Q[400:], data.y[400:]
    constant = chosen.global_aggregator_.score(Q, y)
    assert chosen.score(Q, y, gate_features=noise[400:]) > 1.005 * constant
    assert free.score(Q, y, gate_features=noise[400:]) < 1.005 * constant


@pytest.mark.parametrize("granularity", FITTED)
def test_weights_combine_quantiles_and_sum_to_one(switch, granularity):
    local = fit(switch, granularity, slice(0, 200), postprocess=None)
    Q, X = switch.Q[200:300], switch.X[200:300]
    weights = local.sample_model_weights(Q, gate_features=X)
    got = local.predict(Q, gate_features=X)
    formula = {"coarse": "njk,nj->nk", "medium": "njk,njk->nk", "fine": "njl,njlk->nk"}
    assert_allclose(np.einsum(formula[granularity], Q, weights), got, atol=1e-12)
    axes = (1, 2) if granularity == "fine" else 1
    assert_allclose(weights.sum(axis=axes), 1, rtol=1e-12)
    seen = local.sample_model_weights(switch.Q[:200], gate_features=switch.X[:200])
    assert_allclose(local.model_weights_, seen.mean(axis=0), atol=1e-12)
    assert local.model_weights_.shape == local.global_aggregator_.model_weights_.shape
    # The first model is right on the left.
    if granularity == "coarse":
        assert weights[X[:, 0] < -0.5, 0].min() > 0.9


def test_a_row_of_weight_k_counts_as_k_rows(switch):
    s = np.random.default_rng(0).integers(0, 3, size=300)
    rows = np.repeat(np.arange(300), s)
    weighted = fit(switch, "coarse", slice(0, 300), sample_weight=s, alpha=1e-3)
    repeated = fit(switch, "coarse", rows, alpha=1e-3)
    assert_allclose(weighted.objective_, repeated.objective_, rtol=1e-4)
    assert_allclose(weighted.scaler_.mean_, repeated.scaler_.mean_, rtol=1e-12)


def test_units_of_outcome_and_features_do_not_matter(switch):
    plain = fit(switch, "coarse", slice(0, 300), alpha=1e-3)
    model = LocalQuantileAggregator(switch.quantiles, granularity="coarse", alpha=8e-3)
    model.fit(8 * switch.Q[:300] + 3, 8 * switch.y[:300] + 3, gate_features=9 * switch.X[:300] - 4)
    assert_allclose(model.objective_, 8 * plain.objective_, rtol=1e-5)


def test_jobs_and_pickling_do_not_change_a_bit(data):
    parameters = {"alpha": "cv", "cv": 2}
    alone, shared = (fit(data, n_jobs=n_jobs, **parameters) for n_jobs in (1, 2))
    assert_array_equal(alone.coef_, shared.coef_)
    assert_array_equal(alone.intercept_, shared.intercept_)
    copy = pickle.loads(pickle.dumps(alone))
    arguments = {"gate_features": data.X}
    assert_array_equal(copy.predict(data.Q, **arguments), alone.predict(data.Q, **arguments))


def test_both_layouts_and_frames_are_taken(switch):
    flat = switch.Q[:200].reshape(200, -1)
    expected = fit(switch, "coarse", slice(0, 200)).predict(switch.Q, gate_features=switch.X)
    for library in (pd, pl):
        Q = library.DataFrame({f"q{j}": column for j, column in enumerate(flat.T)})
        X = library.DataFrame({"x": switch.X[:200, 0]})
        model = LocalQuantileAggregator(switch.quantiles, 2, granularity="coarse", alpha=1e-4)
        model.fit(Q, library.Series(switch.y[:200]), gate_features=X)
        assert list(model.feature_names_in_)[:2] == ["q0", "q1"]
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            got = model.predict(Q, gate_features=X)
        assert_array_equal(got, expected[:200])


def test_a_featurizer_bends_the_gate_and_encodes_categories(switch):
    left = (np.abs(switch.X[:, 0]) < 1)[:, None, None]
    Q = np.where(left, switch.Q, switch.Q[:, ::-1])
    Q = np.where((switch.X[:, 0] < 0)[:, None, None], Q, Q[:, ::-1])
    straight = LocalQuantileAggregator(switch.quantiles, granularity="coarse", alpha=1e-6)
    bent = clone(straight).set_params(featurizer=SplineTransformer(n_knots=12))
    straight.fit(Q, switch.y, gate_features=switch.X)
    bent.fit(Q, switch.y, gate_features=switch.X)
    oracle = pinball_loss(switch.y, switch.true_quantiles, switch.quantiles)
    assert bent.objective_ < 1.05 * oracle
    assert straight.objective_ > 1.2 * oracle
    frame = pd.DataFrame({"side": np.where(switch.X[:, 0] < 0, "left", "right")})
    encoded = clone(straight).set_params(
        featurizer=make_column_transformer((OneHotEncoder(), ["side"]))
    )
    encoded.fit(switch.Q, switch.y, gate_features=frame)
    assert encoded.objective_ < 1.02 * oracle


def test_without_features_the_quantiles_decide(switch):
    model = LocalQuantileAggregator(switch.quantiles, granularity="coarse", alpha=1e-4)
    model.fit(switch.Q[:500], switch.y[:500])
    assert model.scaler_.n_features_in_ == 4
    assert model.score(switch.Q[500:], switch.y[500:]) > model.global_aggregator_.score(
        switch.Q[500:], switch.y[500:]
    )
    with pytest.raises(ValueError, match="gate_features were not given to fit"):
        model.predict(switch.Q, gate_features=switch.X)


def test_features_are_routed_by_a_search(switch):
    grid = {"granularity": ["coarse"], "alpha": [1e-4, np.inf]}
    with config_context(enable_metadata_routing=True):
        search = GridSearchCV(LocalQuantileAggregator(switch.quantiles, 2), grid, cv=2)
        search.fit(switch.Q[:200].reshape(200, -1), switch.y[:200], gate_features=switch.X[:200])
    assert search.best_params_["alpha"] == 1e-4


def test_iterations_that_run_out_are_not_silent(data):
    with pytest.warns(ConvergenceWarning, match="5 of 5 gates stopped at max_iter=1"):
        fit(data, max_iter=1, alpha=0.0)


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"quantiles": [0.5, 0.5]}, "strictly increasing"),
        ({"n_models": 4}, "n_models=4"),
        ({"granularity": "average"}, "'granularity' parameter"),
        ({"alpha": -1.0}, "'alpha' parameter"),
        ({"smoothing": 0.0}, "'smoothing' parameter"),
        ({"gate_features": np.zeros((3, 1))}, "gate_features has 3 rows, but Q has 400"),
        ({"gate_features": np.array([["a"]] * 400)}, "not all numeric; pass featurizer="),
        ({"gate_features": np.full((400, 1), np.nan)}, "400 rows of gate_features are NaN"),
        ({"sample_weight": np.zeros(400)}, "zero in every row"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_what_cannot_be_is_refused(data, parameters, message):
    to_fit = {k: parameters[k] for k in ("gate_features", "sample_weight") if k in parameters}
    rest = {k: v for k, v in parameters.items() if k not in to_fit}
    model = LocalQuantileAggregator(**{"quantiles": data.quantiles, **rest})
    with pytest.raises(ValueError, match=message):
        model.fit(data.Q, data.y, **{"gate_features": data.X, **to_fit})


def test_prediction_asks_for_what_fit_was_given(data):
    with pytest.raises(NotFittedError):
        LocalQuantileAggregator(data.quantiles).predict(data.Q)
    model = fit(data)
    with pytest.raises(ValueError, match="given to fit, not here"):
        model.predict(data.Q)
    with pytest.raises(ValueError, match="has 2 columns, but 1 were fitted"):
        model.predict(data.Q, gate_features=np.ones((400, 2)))
    Q = data.Q.copy()
    Q[0, 1, 2] = np.inf
    with pytest.raises(ValueError, match=r"1 rows of Q are NaN or infinite, in models \[1\]"):
        model.predict(Q, gate_features=data.X)
    with pytest.warns(UserWarning, match="left out"):
        fitted = clone(model).set_params(on_nonfinite="warn").fit(Q, data.y, gate_features=data.X)
    rest = slice(1, None)
    assert_array_equal(fitted.coef_, fit(data, rows=rest).coef_)


def test_folds_without_weight_are_said(rng):
    Q = np.sort(rng.standard_normal((40, 2, 3)), axis=2)
    weight = np.zeros(40)
    weight[:3] = 1.0
    with pytest.raises(ValueError, match=r"no fold of cv=5 .* 3 rows"):
        LocalQuantileAggregator([0.1, 0.5, 0.9], alpha="cv").fit(
            Q, rng.standard_normal(40), sample_weight=weight
        )

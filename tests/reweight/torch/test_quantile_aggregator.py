"""Facts about weights of quantile models that a network gives."""

import math
import pickle
import warnings

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from sklearn import config_context
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV
from sklearn.utils.estimator_checks import check_estimator

torch = pytest.importorskip("torch")

from reweight import (  # noqa: E402
    QuantileAggregator,
    QuantileStackingRegressor,
    make_quantile_models,
    pinball_loss,
)
from reweight.torch import DeepQuantileAggregator  # noqa: E402
from reweight.torch._gate_network import (  # noqa: E402
    Gate,
    batch_size_for,
    combine,
    crossing_margins,
    gate_objective,
)

FITTED = ["coarse", "medium", "fine"]


@pytest.fixture(scope="module")
def switch():
    return make_quantile_models(1500, n_quantiles=5, design="switch", random_state=0)


def fit(data, granularity="medium", rows=slice(None), sample_weight=None, **parameters):
    parameters = {"max_steps": 200, "random_state": 0, **parameters}
    model = DeepQuantileAggregator(data.quantiles, granularity=granularity, **parameters)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        return model.fit(
            data.Q[rows], data.y[rows], gate_features=data.X[rows], sample_weight=sample_weight
        )


@pytest.mark.parametrize("granularity", FITTED)
def test_a_gate_starts_from_equal_weights_that_combine(rng, granularity):
    gate = Gate(2, 3, 4, granularity, 8, 2, 0.0, seed=0).double()
    Q, x = torch.as_tensor(rng.normal(size=(5, 3, 4))), torch.as_tensor(rng.normal(size=(5, 2)))
    weights = gate(x)
    assert_allclose(weights.detach().numpy(), 1 / (12 if granularity == "fine" else 3))
    with torch.no_grad():
        for parameter in gate.parameters():
            parameter.add_(torch.as_tensor(rng.normal(size=parameter.shape)))
        weights = gate(x)
    axes = (1, 2) if granularity == "fine" else 1
    assert_allclose(weights.numpy().sum(axis=axes), 1, rtol=1e-12)
    formula = {"coarse": "njk,nj->nk", "medium": "njk,njk->nk", "fine": "njl,njlk->nk"}
    expected = np.einsum(formula[granularity], Q.numpy(), weights.numpy())
    assert_allclose(combine(weights, Q).numpy(), expected, rtol=1e-12)


@pytest.mark.parametrize("adjacent", [False, True])
def test_the_objective_is_the_loss_plus_the_price_of_crossings(rng, adjacent):
    q, y, s = rng.normal(size=(6, 4)), rng.normal(size=6), rng.uniform(size=6)
    levels = np.array([0.1, 0.4, 0.6, 0.9])
    margins = rng.uniform(size=(4, 4))
    tensors = [torch.as_tensor(part) for part in (q, y, s)]
    objective = gate_objective(
        torch.as_tensor(levels), torch.as_tensor(margins), 2.0, adjacent=adjacent
    )
    pairs = [(k, k2) for k in range(4) for k2 in range(k + 1, 4) if k2 == k + 1 or not adjacent]
    crossing = [
        np.mean([max(row[k] - row[k2] + margins[k, k2], 0.0) for k, k2 in pairs]) for row in q
    ]
    expected = pinball_loss(y, q, levels, sample_weight=s) + 2 * np.average(crossing, weights=s)
    assert_allclose(float(objective(*tensors)), expected, rtol=1e-12)


def test_margins_of_pairs(rng):
    Q, y = rng.normal(size=(50, 3, 3)), rng.normal(size=50)
    levels, ones = np.array([0.2, 0.5, 0.8]), np.ones(50)
    assert_array_equal(crossing_margins(Q, y, ones, levels, 0.1, "single"), np.full((3, 3), 0.1))
    residual = np.sort(y - np.median(Q[:, :, 1], axis=1))
    margins = crossing_margins(Q, y, ones, levels, 0.5, "adapt")
    assert_allclose(margins[0, 2], 0.5 * (residual[39] - residual[9]))
    assert margins[2, 0] == 0


def test_batches_grow_with_the_digits_of_n():
    assert [batch_size_for(n) for n in (9, 10, 999, 1000, 72_000)] == [8, 16, 32, 64, 128]


def test_constant_weights_come_near_the_exact_optimum():
    data = make_quantile_models(1000, 3, n_quantiles=5, random_state=1)
    exact = QuantileAggregator(data.quantiles).fit(data.Q, data.y).objective_
    equal = QuantileAggregator(data.quantiles, granularity="average").fit(data.Q, data.y).objective_
    deep = fit(data, local=False, max_steps=2000, learning_rate=1e-2, dtype="float64")
    assert exact <= deep.objective_ + 1e-12
    assert deep.objective_ - exact < 0.1 * (equal - exact)


@pytest.mark.parametrize("granularity", FITTED)
def test_the_network_finds_where_each_model_is_right(switch, granularity):
    train, test = slice(0, 1000), slice(1000, None)
    deep = fit(switch, granularity, train, max_steps=1000, learning_rate=3e-3)
    q = deep.predict(switch.Q[test], gate_features=switch.X[test])
    loss = pinball_loss(switch.y[test], q, switch.quantiles)
    oracle = pinball_loss(switch.y[test], switch.true_quantiles[test], switch.quantiles)
    assert loss < 1.04 * oracle
    assert (np.diff(q, axis=1) >= 0).all()
    constant = QuantileAggregator(switch.quantiles, granularity=granularity)
    constant.fit(switch.Q[train], switch.y[train])
    assert loss < pinball_loss(switch.y[test], constant.predict(switch.Q[test]), switch.quantiles)
    assert deep.model_weights_.shape == constant.model_weights_.shape
    axes = (0, 1) if granularity == "fine" else 0
    assert_allclose(deep.model_weights_.sum(axis=axes), 1, rtol=1e-5)


def test_a_price_on_crossings_lessens_them():
    data = make_quantile_models(1000, 3, n_quantiles=19, random_state=0)
    crossing = []
    for price in (0.0, 20.0):
        deep = fit(
            data,
            crossing_penalty=price,
            penalty_pairs="adjacent",
            local=False,
            postprocess=None,
            learning_rate=1e-2,
            max_steps=400,
            check_every=400,
        )
        assert deep.n_steps_ == 400
        q = deep.predict(data.Q, gate_features=data.X)
        crossing.append(np.maximum(q[:, :-1] - q[:, 1:], 0).mean())
    assert crossing[1] < 0.7 * crossing[0]


def test_the_same_seed_gives_the_same_bits_and_leaves_torch_alone(switch):
    torch.manual_seed(5)
    state = torch.random.get_rng_state()
    models = [fit(switch, rows=slice(0, 200), dropout=0.1) for _ in range(2)]
    assert torch.equal(torch.random.get_rng_state(), state)
    first, second = (m.predict(switch.Q, gate_features=switch.X) for m in models)
    assert_array_equal(first, second)
    assert not np.array_equal(
        first,
        fit(switch, rows=slice(0, 200), random_state=1).predict(switch.Q, gate_features=switch.X),
    )
    copy = pickle.loads(pickle.dumps(models[0]))
    assert_array_equal(copy.predict(switch.Q, gate_features=switch.X), first)


def test_blocks_of_rows_do_not_matter(switch, monkeypatch):
    deep = fit(switch, "fine", slice(0, 200), dtype="float64")
    whole = deep.predict(switch.Q, gate_features=switch.X)
    monkeypatch.setattr("reweight.torch.quantile_aggregator.BLOCK", 500)
    assert_allclose(deep.predict(switch.Q, gate_features=switch.X), whole, rtol=1e-12)


def test_steps_are_those_of_the_least_loss_on_rows_set_aside(switch):
    deep = fit(switch, rows=slice(0, 300), check_every=20, patience=60)
    losses = deep.validation_losses_
    assert deep.n_steps_ == 20 * int(np.argmin(losses))
    kept = fit(switch, rows=slice(0, 300), check_every=20, patience=60, refit=False)
    assert_allclose(kept.validation_losses_, losses)


def test_rows_without_weight_and_units_do_not_matter(switch):
    s = np.r_[np.ones(200), np.zeros(100)]
    weighted = fit(switch, rows=slice(0, 300), sample_weight=s)
    alone = fit(switch, rows=slice(0, 200))
    assert_array_equal(weighted.model_weights_, alone.model_weights_)
    scaled = clone(alone).fit(
        8 * switch.Q[:200], 8 * switch.y[:200], gate_features=2 * switch.X[:200]
    )
    assert_allclose(scaled.objective_, 8 * alone.objective_, rtol=1e-4)


def test_a_stack_takes_it_and_a_search_routes_to_it(switch):
    from sklearn.linear_model import QuantileRegressor

    deep = DeepQuantileAggregator(switch.quantiles, max_steps=50, random_state=0)
    stack = QuantileStackingRegressor(
        [("line", QuantileRegressor(alpha=0)), ("flat", QuantileRegressor(alpha=10))],
        switch.quantiles,
        cv=2,
        aggregator=deep,
        passthrough_local=True,
    )
    with pytest.warns(UserWarning, match="raise max_steps"):
        stack.fit(switch.X[:100], switch.y[:100])
    assert stack.predict(switch.X).shape == (1500, 5)
    with config_context(enable_metadata_routing=True), warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        search = GridSearchCV(deep, {"hidden_units": [4]}, cv=2)
        search.fit(switch.Q[:100].reshape(100, -1), switch.y[:100], gate_features=switch.X[:100])
    assert math.isfinite(search.best_score_)


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"quantiles": [0.9, 0.5]}, "strictly increasing"),
        ({"n_models": 5}, "n_models=5"),
        ({"granularity": "median"}, "'granularity' parameter"),
        ({"dropout": 1.0}, "'dropout' parameter"),
        ({"gate_features": np.zeros((3, 1))}, "gate_features has 3 rows, but Q has 1500"),
        ({"gate_features": np.full((1500, 1), np.nan)}, "1500 rows of gate_features are NaN"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_what_cannot_be_is_refused(switch, parameters, message):
    features = parameters.pop("gate_features", switch.X)
    model = DeepQuantileAggregator(**{"quantiles": switch.quantiles, **parameters})
    with pytest.raises(ValueError, match=message):
        model.fit(switch.Q, switch.y, gate_features=features)


def test_prediction_asks_for_what_fit_was_given(switch):
    deep = fit(switch, rows=slice(0, 100), max_steps=10)
    with pytest.raises(ValueError, match="given to fit, not here"):
        deep.predict(switch.Q)
    with pytest.raises(ValueError, match="has 2 columns, but 1 were fitted"):
        deep.predict(switch.Q, gate_features=np.ones((1500, 2)))


def test_scikit_learn_checks():
    model = DeepQuantileAggregator([0.5], max_steps=20, check_every=10, random_state=0)
    drawn = "batches and the rows set aside are drawn by row, so that repeated rows train otherwise"
    weights = "check_sample_weight_equivalence_on_dense_data"
    check_estimator(model, expected_failed_checks={weights: drawn}, on_skip=None)

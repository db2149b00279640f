"""Facts about optimal weights of quantile models."""

import pickle
import warnings

import numpy as np
import pandas as pd
import polars as pl
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning, NotFittedError
from sklearn.model_selection import GridSearchCV, KFold, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from reweight import QuantileAggregator, make_quantile_models, pinball_loss, weighted_interval_score
from reweight.exceptions import InfeasibleError
from reweight.solvers.pinball_highs import pinball_highs

FITTED = ["coarse", "medium", "fine"]


@pytest.fixture(scope="module")
def data():
    return make_quantile_models(600, 4, n_quantiles=7, random_state=0)


def fit(data, granularity="medium", sample_weight=None, **parameters):
    aggregator = QuantileAggregator(data.quantiles, granularity=granularity, **parameters)
    return aggregator.fit(data.Q, data.y, sample_weight=sample_weight)


def train_loss(data, aggregator, **changes):
    raw = clone(aggregator).set_params(postprocess=None, **changes).fit(data.Q, data.y)
    return pinball_loss(data.y, raw.predict(data.Q), data.quantiles)


def weights_of_rows(n=600):
    return np.random.default_rng(1).integers(1, 4, size=n).astype(float)


@pytest.mark.parametrize("weighted", [False, True])
def test_medium_weights_solve_each_level(data, weighted):
    c = weights_of_rows() if weighted else np.ones(600)
    aggregator = fit(data, sample_weight=c if weighted else None)
    total = 0.0
    for k, tau in enumerate(data.quantiles):
        E = data.y[:, None] - data.Q[:, :, k]
        reference = pinball_highs(E, c * (tau - 1), c * tau)
        w = aggregator.model_weights_[:, k]
        residual = E @ w
        loss = (c * np.maximum(tau * residual, (tau - 1) * residual)).sum()
        assert_allclose(loss, reference.objective, rtol=1e-7)
        # A dual of another solver certifies the weights without trust in ours.
        assert loss - (E.T @ reference.dual).min() <= 1e-7 * loss
        total += loss
    assert_allclose(aggregator.objective_, total / (c.sum() * 7), rtol=1e-12)
    assert aggregator.optimality_gap_.shape == (7,)
    assert aggregator.optimality_gap_.max() <= 1e-8


@pytest.mark.parametrize("groups", [None, [0, 0, 0, 1, 2, 2, 2]])
def test_shared_weights_solve_the_stack_with_each_row_at_its_own_weight(data, groups):
    c = weights_of_rows()
    granularity = "coarse" if groups is None else "medium"
    aggregator = fit(data, granularity, sample_weight=c, quantile_groups=groups)
    labels = np.zeros(7, int) if groups is None else np.array(groups)
    weights = aggregator.model_weights_
    weights = np.tile(weights[:, None], 7) if groups is None else weights
    for label in np.unique(labels):
        levels = np.flatnonzero(labels == label)
        E = np.vstack([data.y[:, None] - data.Q[:, :, k] for k in levels])
        tau = np.repeat(data.quantiles[levels], 600)
        rows = np.tile(c, len(levels))
        reference = pinball_highs(E, rows * (tau - 1), rows * tau)
        residual = E @ weights[:, levels[0]]
        loss = (rows * np.maximum(tau * residual, (tau - 1) * residual)).sum()
        assert_allclose(loss, reference.objective, rtol=1e-7)
        assert_array_equal(weights[:, levels], weights[:, levels[:1]].repeat(len(levels), axis=1))


def test_fine_weights_solve_each_level_over_all_columns(data):
    aggregator = fit(data, "fine")
    assert aggregator.model_weights_.shape == (4, 7, 7)
    E = data.y[:, None] - data.Q.reshape(600, 28)
    for k, tau in enumerate(data.quantiles):
        reference = pinball_highs(E, np.full(600, tau - 1), np.full(600, tau))
        residual = E @ aggregator.model_weights_[:, :, k].ravel()
        loss = np.maximum(tau * residual, (tau - 1) * residual).sum()
        assert_allclose(loss, reference.objective, rtol=1e-7)


@pytest.mark.parametrize("granularity", FITTED)
def test_solvers_agree(data, granularity):
    ours, highs = fit(data, granularity), fit(data, granularity, solver="highs")
    assert_allclose(ours.objective_, highs.objective_, rtol=1e-7)
    assert highs.solver_used_ == "highs"
    assert ours.solver_used_ == ("ipm-columns" if granularity == "fine" else "ipm")


def test_finer_weights_fit_better_and_coarse_ones_beat_each_model(data):
    fine, medium, coarse, equal = (
        fit(data, granularity).objective_ for granularity in ("fine", "medium", "coarse", "average")
    )
    assert fine < medium < coarse < equal
    for j in range(4):
        assert coarse <= pinball_loss(data.y, data.Q[:, j], data.quantiles) + 1e-9
    grouped = fit(data, quantile_groups=[0, 0, 0, 1, 2, 2, 2]).objective_
    assert medium <= grouped + 1e-9 <= coarse + 2e-9


def test_losses_of_the_simulated_design_are_those_of_an_independent_prototype():
    """Its figures for 5000 rows to train on and 5000 to test on, cut from one draw."""
    draw = make_quantile_models(11_000, random_state=0)
    expected = {"average": 0.19187, "median": 0.19355, "coarse": 0.17541, "medium": 0.17491}
    for granularity, loss in expected.items():
        aggregator = QuantileAggregator(draw.quantiles, granularity=granularity, postprocess=None)
        quantiles = aggregator.fit(draw.Q[:5000], draw.y[:5000]).predict(draw.Q[6000:])
        assert_allclose(pinball_loss(draw.y[6000:], quantiles, draw.quantiles), loss, atol=5e-6)
    assert_allclose(aggregator.objective_, 0.174306, atol=5e-7)


@pytest.mark.parametrize("granularity", FITTED)
def test_units_order_and_repetition_of_rows(data, granularity):
    plain = fit(data, granularity)
    moved = QuantileAggregator(data.quantiles, granularity=granularity)
    moved.fit(1e3 * data.Q + 7, 1e3 * data.y + 7)
    assert_allclose(moved.objective_, 1e3 * plain.objective_, rtol=1e-8)
    order = np.random.default_rng(0).permutation(600)
    permuted = clone(moved).fit(data.Q[order], data.y[order])
    assert_allclose(permuted.objective_, plain.objective_, rtol=1e-8)
    c = weights_of_rows()
    index = np.repeat(np.arange(600), c.astype(int))
    repeated = clone(moved).fit(data.Q[index], data.y[index])
    weighted = clone(moved).fit(data.Q, data.y, sample_weight=c)
    assert_allclose(repeated.objective_, weighted.objective_, rtol=2e-8)
    if granularity != "fine":
        assert_allclose(moved.model_weights_, plain.model_weights_, atol=1e-4)
        assert_allclose(permuted.model_weights_, plain.model_weights_, atol=1e-4)
        assert_allclose(repeated.model_weights_, weighted.model_weights_, atol=1e-4)


@pytest.mark.parametrize("granularity", FITTED)
def test_models_keep_their_weights_under_another_order_and_mirrored_data(data, granularity):
    plain = fit(data, granularity)
    turned = clone(plain).fit(data.Q[:, ::-1], data.y)
    assert_allclose(turned.objective_, plain.objective_, rtol=1e-8)
    mirrored = clone(plain).fit(-data.Q[:, :, ::-1], -data.y)
    assert_allclose(mirrored.objective_, plain.objective_, rtol=1e-8)
    if granularity == "medium":
        assert_allclose(turned.model_weights_, plain.model_weights_[::-1], atol=1e-4)
        assert_allclose(mirrored.model_weights_, plain.model_weights_[:, ::-1], atol=1e-4)


@pytest.mark.parametrize("granularity", ["coarse", "medium"])
def test_a_model_given_twice_shares_its_weight(data, granularity):
    plain = fit(data, granularity, tol=1e-10)
    twice = clone(plain).fit(np.concatenate([data.Q, data.Q[:, :1]], axis=1), data.y)
    assert_allclose(twice.objective_, plain.objective_, rtol=1e-9)
    both = twice.model_weights_[0] + twice.model_weights_[4]
    assert_allclose(both, plain.model_weights_[0], atol=1e-4)


@pytest.mark.parametrize("granularity", FITTED)
def test_a_single_and_a_perfect_model(data, granularity):
    alone = QuantileAggregator(data.quantiles, granularity=granularity).fit(data.Q[:, :1], data.y)
    if granularity != "fine":
        assert_allclose(alone.model_weights_, 1.0)
    Q = data.Q.copy()
    Q[:, 2] = data.y[:, None]
    perfect = clone(alone).fit(Q, data.y)
    assert perfect.objective_ < 1e-10
    assert_allclose(perfect.predict(Q), Q[:, 2], atol=1e-7)


def test_baselines_are_mean_and_median(data):
    average = fit(data, "average", postprocess=None)
    assert_allclose(average.predict(data.Q), data.Q.mean(axis=1), rtol=1e-12)
    assert_array_equal(average.model_weights_, np.full(4, 0.25))
    median = fit(data, "median", postprocess=None)
    assert_array_equal(median.predict(data.Q), np.median(data.Q, axis=1))
    assert median.model_weights_ is None
    loss = pinball_loss(data.y, np.median(data.Q, axis=1), data.quantiles)
    assert_allclose(median.objective_, loss)


@pytest.mark.parametrize("granularity", FITTED)
def test_ridge_leads_to_equal_weights(data, granularity):
    losses = [train_loss(data, fit(data, granularity, alpha=a)) for a in (0.0, 0.01, 1.0, np.inf)]
    assert (np.diff(losses) > 0).all()
    equal = fit(data, granularity, alpha=np.inf)
    strong = fit(data, granularity, alpha=1e6)
    size = 1 / (28 if granularity == "fine" else 4)
    assert_allclose(equal.model_weights_, size)
    assert_allclose(strong.model_weights_, size, atol=1e-5)
    weak = fit(data, granularity, alpha=1e-9)
    assert_allclose(weak.objective_, fit(data, granularity).objective_, rtol=1e-6)
    assert np.max(weak.optimality_gap_) <= 1e-8


def test_objective_with_ridge_is_the_formula(data):
    alpha = 0.3
    aggregator = fit(data, alpha=alpha, postprocess=None)
    loss = pinball_loss(data.y, aggregator.predict(data.Q), data.quantiles)
    ridge = alpha / 2 * ((aggregator.model_weights_ - 0.25) ** 2).sum()
    assert_allclose(aggregator.objective_, loss + ridge, rtol=1e-12)
    # No other weights on the simplex are better.
    rng = np.random.default_rng(0)
    for _ in range(20):
        other = aggregator.model_weights_ + 0.02 * (
            rng.dirichlet(np.ones(4), size=7).T - aggregator.model_weights_
        )
        value = (
            pinball_loss(data.y, np.einsum("njk,jk->nk", data.Q, other), data.quantiles)
            + alpha / 2 * ((other - 0.25) ** 2).sum()
        )
        assert value >= aggregator.objective_ * (1 - 1e-8)


def test_ridge_is_chosen_on_folds(data):
    small = make_quantile_models(60, 6, n_quantiles=5, random_state=3)
    aggregator = QuantileAggregator(small.quantiles, alpha="cv", granularity="medium")
    aggregator.fit(small.Q, small.y)
    assert len(aggregator.alpha_losses_) == 8
    assert aggregator.alpha_losses_[aggregator.alpha_] == min(aggregator.alpha_losses_.values())
    assert aggregator.alpha_ > 0
    by_hand = []
    for train, test in KFold(5).split(small.y):
        part = QuantileAggregator(small.quantiles, alpha=aggregator.alpha_, postprocess=None)
        quantiles = part.fit(small.Q[train], small.y[train]).predict(small.Q[test])
        by_hand.append(pinball_loss(small.y[test], quantiles, small.quantiles))
    assert_allclose(aggregator.alpha_losses_[aggregator.alpha_], np.mean(by_hand), rtol=1e-6)
    assert_allclose(
        aggregator.model_weights_,
        clone(aggregator).set_params(alpha=aggregator.alpha_).fit(small.Q, small.y).model_weights_,
    )


def test_given_folds_name_rows_as_they_were_passed():
    small = make_quantile_models(80, 3, n_quantiles=3, random_state=0)
    dropped = np.arange(80) % 4 == 0
    folds = list(KFold(4, shuffle=True, random_state=0).split(small.y))
    aggregator = QuantileAggregator(small.quantiles, alpha="cv", cv=folds)
    aggregator.fit(small.Q, small.y, sample_weight=1.0 - dropped)
    place = np.cumsum(~dropped) - 1
    kept = [tuple(place[part[~dropped[part]]] for part in fold) for fold in folds]
    expected = clone(aggregator).set_params(cv=kept)
    expected.fit(small.Q[~dropped], small.y[~dropped])
    assert aggregator.alpha_losses_ == expected.alpha_losses_


@pytest.mark.parametrize("granularity", ["coarse", "medium"])
@pytest.mark.parametrize(
    "freedom",
    [{"nonnegative": False}, {"unit_sum": False}, {"fit_intercept": True}],
    ids=lambda freedom: next(iter(freedom)),
)
def test_fewer_constraints_fit_better(data, granularity, freedom):
    plain, free = fit(data, granularity), fit(data, granularity, **freedom)
    assert free.objective_ <= plain.objective_ + 1e-9
    highs = fit(data, granularity, solver="highs", **freedom)
    assert_allclose(free.objective_, highs.objective_, rtol=1e-7)
    if "fit_intercept" in freedom:
        assert np.abs(free.intercept_).max() > 0.01
        raw = clone(free).set_params(postprocess=None).fit(data.Q, data.y).predict(data.Q)
        below = (data.y[:, None] <= raw + 1e-9).mean(axis=0)
        if granularity == "medium":
            assert_allclose(below, data.quantiles, atol=6 / 600)


def test_fine_weights_with_fewer_constraints(data):
    few = make_quantile_models(200, 2, n_quantiles=3, random_state=0)
    plain = fit(few, "fine")
    for freedom in ({"nonnegative": False}, {"unit_sum": False}, {"fit_intercept": True}):
        free = fit(few, "fine", **freedom)
        assert free.objective_ <= plain.objective_ + 1e-9
        assert_allclose(
            free.objective_, fit(few, "fine", solver="highs", **freedom).objective_, rtol=1e-7
        )
    equal = fit(few, "fine", alpha=np.inf, fit_intercept=True)
    assert_allclose(equal.model_weights_, 1 / 6)
    assert equal.objective_ <= fit(few, "fine", alpha=np.inf).objective_


def ordered(n=150):
    data = make_quantile_models(n, 3, n_quantiles=9, random_state=0)
    data.Q = np.sort(data.Q, axis=2)
    return data


def test_quantiles_do_not_cross_at_training_rows_if_forbidden():
    data = ordered()
    free = fit(data, postprocess=None)
    assert np.diff(free.predict(data.Q), axis=1).min() < -1e-3
    kept = fit(data, postprocess=None, noncross=True)
    assert np.diff(kept.predict(data.Q), axis=1).min() >= -1e-6
    assert free.objective_ <= kept.objective_ + 1e-9
    assert kept.objective_ <= fit(data, "coarse").objective_ + 1e-9
    assert isinstance(kept.optimality_gap_, float)
    assert kept.optimality_gap_ <= 1e-7


def test_price_of_crossing_is_in_the_objective():
    data = ordered()
    priced = fit(data, postprocess=None, crossing_penalty=0.5, margin=0.02)
    g = priced.predict(data.Q)
    delta = 0.02 * data.y.std()
    crossing = np.maximum(g[:, :-1] - g[:, 1:] + delta, 0).mean()
    expected = pinball_loss(data.y, g, data.quantiles) + 0.5 * crossing
    assert_allclose(priced.objective_, expected, rtol=1e-10)
    free = fit(data, postprocess=None).predict(data.Q)
    before = np.maximum(free[:, :-1] - free[:, 1:] + delta, 0).mean()
    assert crossing < before
    assert expected <= pinball_loss(data.y, free, data.quantiles) + 0.5 * before + 1e-9


def test_margins_adapt_to_the_distance_of_levels():
    data = ordered()
    margin = {"margin": 0.05, "margin_rule": "adapt"}
    kept = fit(data, postprocess=None, noncross=True, fit_intercept=True, **margin)
    pilot = data.y - np.median(data.Q[:, :, 4], axis=1)
    quantiles = np.quantile(pilot, data.quantiles, method="inverted_cdf")
    assert (np.diff(kept.predict(data.Q), axis=1) >= 0.05 * np.diff(quantiles) - 1e-6).all()


def test_ridge_and_order_together():
    data = ordered(60)
    kept = fit(data, postprocess=None, noncross=True, alpha=0.1)
    assert np.diff(kept.predict(data.Q), axis=1).min() >= -1e-6
    free, strong = fit(data, alpha=0.1), fit(data, noncross=True, alpha=100.0)
    assert kept.objective_ >= free.objective_ - 1e-8
    assert_allclose(strong.model_weights_, 1 / 3, atol=1e-3)


@pytest.mark.parametrize("postprocess", ["sort", "isotonic", "sweep"])
def test_predictions_are_in_order(data, postprocess):
    aggregator = fit(data, postprocess=postprocess)
    assert (np.diff(aggregator.predict(data.Q), axis=1) >= 0).all()
    raw = clone(aggregator).set_params(postprocess=None).fit(data.Q, data.y).predict(data.Q)
    if postprocess != "sweep":
        score = weighted_interval_score(data.y, raw, data.quantiles)
        assert -aggregator.score(data.Q, data.y) <= score + 1e-12


def test_score_is_minus_the_weighted_interval_score(data):
    aggregator, c = fit(data), weights_of_rows()
    expected = weighted_interval_score(
        data.y, aggregator.predict(data.Q), data.quantiles, sample_weight=c
    )
    assert_allclose(aggregator.score(data.Q, data.y, sample_weight=c), -expected)


@pytest.mark.parametrize("granularity", [*FITTED, "average", "median"])
def test_flat_quantiles_are_read_model_by_model(data, granularity):
    flat = data.Q.reshape(600, 28)
    aggregator = QuantileAggregator(data.quantiles, n_models=4, granularity=granularity)
    assert_array_equal(
        aggregator.fit(flat, data.y).predict(flat), fit(data, granularity).predict(data.Q)
    )
    assert aggregator.n_features_in_ == 28
    assert aggregator.n_models_ == 4


@pytest.mark.parametrize("frames", [pd, pl], ids=["pandas", "polars"])
def test_data_frames_keep_their_names(data, frames):
    names = [f"model {j} level {k}" for j in range(4) for k in range(7)]
    flat = data.Q.reshape(600, 28)
    frame = frames.DataFrame({name: flat[:, j] for j, name in enumerate(names)})
    aggregator = QuantileAggregator(data.quantiles).fit(frame, frames.Series(data.y))
    assert list(aggregator.feature_names_in_) == names
    assert_array_equal(aggregator.predict(frame), fit(data).predict(data.Q))


def test_pipelines_and_grid_search(data):
    pipeline = make_pipeline(
        FunctionTransformer(
            lambda X: np.hstack([data.Q[X[:, 0].astype(int), j] for j in range(4)])
        ),
        QuantileAggregator(data.quantiles, n_models=4),
    )
    rows = np.arange(600.0)[:, None]
    search = GridSearchCV(
        pipeline,
        {"quantileaggregator__granularity": ["average", "median", "coarse", "medium"]},
        cv=3,
    ).fit(rows, data.y)
    assert search.best_params_["quantileaggregator__granularity"] in ("coarse", "medium")
    assert search.predict(rows).shape == (600, 7)
    scores = cross_val_score(QuantileAggregator(data.quantiles), data.Q, data.y, cv=3)
    assert (scores < 0).all()


def test_clone_pickle_and_threads(data):
    aggregator = fit(data, "fine")
    assert not hasattr(clone(aggregator), "model_weights_")
    copy = pickle.loads(pickle.dumps(aggregator))
    assert_array_equal(copy.predict(data.Q), aggregator.predict(data.Q))
    for granularity in ("medium", "fine"):
        shared = fit(data, granularity, n_jobs=2)
        assert_array_equal(shared.model_weights_, fit(data, granularity).model_weights_)


def test_progress_is_shown_to_those_who_ask(data, capsys):
    fit(data)
    assert "levels" not in capsys.readouterr().err
    fit(data, verbose=1)
    assert "levels: 100%" in capsys.readouterr().err


def test_rows_that_are_not_finite(data):
    Q, y = data.Q.copy(), data.y.copy()
    Q[:3, 1, 2] = np.nan
    Q[5, 3, 0] = np.inf
    y[7] = np.nan
    aggregator = QuantileAggregator(data.quantiles)
    with pytest.raises(
        ValueError, match=r"contains NaN: 4 rows of Q .* in models \[1, 3\] and Input y"
    ):
        aggregator.fit(Q, y)
    kept = np.isfinite(Q).all(axis=(1, 2)) & np.isfinite(y)
    expected = clone(aggregator).fit(data.Q[kept], data.y[kept]).model_weights_
    with pytest.warns(UserWarning, match="4 rows of Q .* are left out"):
        aggregator.set_params(on_nonfinite="warn").fit(Q, y)
    assert_array_equal(aggregator.model_weights_, expected)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ignoring = clone(aggregator).set_params(on_nonfinite="ignore").fit(Q, y)
        # Rows of weight zero may be anything.
        QuantileAggregator(data.quantiles).fit(Q, y, sample_weight=kept.astype(float))
    assert_array_equal(ignoring.model_weights_, expected)
    with pytest.raises(ValueError, match=r"4 rows of Q are NaN or infinite, in models \[1, 3\]"):
        aggregator.predict(Q)
    with pytest.raises(ValueError, match="no row with finite values"):
        ignoring.fit(np.full((3, 4, 7), np.nan), np.zeros(3))


def test_crossing_of_models_is_reported(data):
    assert_allclose(fit(data).base_crossing_rate_, (np.diff(data.Q, axis=2) < 0).any(axis=2).mean())
    assert fit(ordered()).base_crossing_rate_ == 0


def test_too_few_rows_are_warned_about(data):
    with pytest.warns(UserWarning, match="5 rows determine 28 weights of one level"):
        QuantileAggregator(data.quantiles, granularity="fine").fit(data.Q[:5], data.y[:5])
    with pytest.warns(UserWarning, match="3 rows determine 4 weights"):
        QuantileAggregator(data.quantiles).fit(data.Q[:3], data.y[:3])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        QuantileAggregator(data.quantiles, granularity="coarse").fit(data.Q[:3], data.y[:3])


def test_iterations_that_end_early_are_warned_about(data):
    aggregator = QuantileAggregator(data.quantiles, alpha=0.1, max_iter=2)
    with pytest.warns(ConvergenceWarning, match="relative duality gap is .* after 2 iterations"):
        aggregator.fit(data.Q, data.y)
    rescued = fit(data, max_iter=2)
    assert rescued.solver_used_ == "highs"
    assert_allclose(rescued.objective_, fit(data).objective_, rtol=1e-7)


def test_a_constant_outcome_is_allowed(data):
    aggregator = QuantileAggregator(data.quantiles)
    with pytest.warns(UserWarning, match="same value, 3, in all 600 rows"):
        aggregator.fit(data.Q, np.full(600, 3.0))
    assert_allclose(aggregator.model_weights_.sum(axis=0), 1)


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"quantiles": [0.5, 0.1]}, "strictly increasing"),
        ({"granularity": "medim"}, "granularity"),
        ({"quantile_groups": [0, 1]}, "one label for each level"),
        ({"quantile_groups": np.zeros(7), "granularity": "fine"}, "needs granularity='medium'"),
        ({"noncross": True, "granularity": "fine"}, "takes neither noncross"),
        ({"crossing_penalty": 1.0, "granularity": "fine"}, "takes neither noncross"),
        ({"solver": "highs", "alpha": 0.1}, "solves linear programs"),
        ({"margin": 0.1}, "margin=0.1 is kept only where"),
        ({"n_models": 3}, "n_models=3"),
        ({"alpha": -1.0}, "alpha"),
    ],
)
def test_bad_parameters_are_refused(data, parameters, message):
    aggregator = QuantileAggregator(data.quantiles).set_params(**parameters)
    with pytest.raises(ValueError, match=message):
        aggregator.fit(data.Q, data.y)


def test_bad_data_are_refused(data):
    aggregator = QuantileAggregator(data.quantiles)
    with pytest.raises(ValueError, match=r"shape \(600, 4, 6\), but quantiles has 7 levels"):
        aggregator.fit(data.Q[:, :, :6], data.y)
    with pytest.raises(ValueError, match="27 columns, which is no multiple of the 7"):
        aggregator.fit(data.Q.reshape(600, 28)[:, :27], data.y)
    with pytest.raises(ValueError, match="n_models=3 with 7 quantiles need 21"):
        clone(aggregator).set_params(n_models=3).fit(data.Q.reshape(600, 28), data.y)
    with pytest.raises(ValueError, match="Negative values"):
        aggregator.fit(data.Q, data.y, sample_weight=-np.ones(600))
    with pytest.raises(ValueError, match="zero in every row"):
        aggregator.fit(data.Q, data.y, sample_weight=np.zeros(600))
    with pytest.raises(ValueError, match="requires y"):
        aggregator.fit(data.Q)
    with pytest.raises(ValueError, match="inconsistent numbers of samples"):
        aggregator.fit(data.Q, data.y[:9])
    with pytest.raises(NotFittedError):
        QuantileAggregator(data.quantiles).predict(data.Q)
    with pytest.raises(ValueError, match="n_models=4; its second axis"):
        fit(data).predict(data.Q[:, :3])
    crossed = np.sort(data.Q, axis=2)[:, :, ::-1]
    with pytest.raises(InfeasibleError, match="sort the quantiles of the models"):
        clone(aggregator).set_params(noncross=True).fit(crossed, data.y)

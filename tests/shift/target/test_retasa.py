"""ReTaSA against its equations, closed forms, limits and invariances."""

import pickle
from math import factorial

import numpy as np
import pytest
from numpy.polynomial.hermite_e import hermeval
from numpy.testing import assert_allclose, assert_array_equal
from scipy.optimize import lsq_linear
from sklearn.ensemble import RandomForestRegressor
from sklearn.linear_model import LinearRegression, Ridge
from sklearn.model_selection import GridSearchCV, cross_validate
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from reweight import Reweighted
from reweight.exceptions import WeightWarning
from shift import ReTaSA, make_target_shift
from shift.target._retasa_solve import solve_nonnegative, solve_tikhonov

pytestmark = pytest.mark.filterwarnings("ignore::reweight.exceptions.WeightWarning")


def study(n=300, seed=0, **kwargs):
    return make_target_shift(n, random_state=seed, **kwargs)


def fit(data, **parameters):
    return ReTaSA(**parameters).fit(data.X, data.y, X_target=data.X_target)


def error(weights, data):
    return np.mean((weights - data.density_ratio) ** 2)


def dense_equation(data, hx, hy):
    """S_x, S_y and eta row by row, as the method is printed."""

    def kernel(a, b, h):
        return np.exp(-0.5 * (((a[:, None] - b[None]) / h) ** 2).sum(axis=2))

    K, Kt = kernel(data.X, data.X, hx), kernel(data.X, data.X_target, hx)
    L = kernel(data.y[:, None], data.y[:, None], hy)
    eta = Kt.mean(axis=1) / K.mean(axis=1) - 1
    return K / K.sum(axis=1, keepdims=True), L / L.sum(axis=1, keepdims=True), eta


@pytest.mark.parametrize("n_features", [1, 2])
def test_exact_solution_solves_the_printed_equation(n_features):
    data = study(n_features=n_features)
    weighter = fit(data, alpha=0.02)
    n, d = data.X.shape
    hx = data.X.std(axis=0, ddof=1) * n ** (-1 / (d + 4))
    hy = data.y.std(ddof=1) * n ** (-1 / 5)
    assert_allclose(weighter.bandwidth_x_, hx)
    assert_allclose(weighter.bandwidth_y_, hy)
    S_x, S_y, eta = dense_equation(data, hx, hy)
    residual = 0.02 * weighter.rho_ + S_y @ S_x @ weighter.rho_ - S_y @ eta
    assert np.abs(residual).max() < 1e-9
    assert_allclose(weighter.eta_, eta, atol=1e-10)
    unexplained = np.mean((S_x @ weighter.rho_ - eta) ** 2) / np.mean(eta**2)
    assert_allclose(weighter.residual_, unexplained, rtol=1e-8)
    assert_allclose(weighter.negative_mass_, np.maximum(-1 - weighter.rho_, 0).mean(), atol=1e-12)
    clipped = np.maximum(1 + weighter.rho_, 0)
    assert_allclose(weighter.weights_, clipped / clipped.mean(), atol=1e-12)
    assert_allclose(weighter.raw_weights_, 1 + weighter.rho_, atol=1e-12)


@pytest.mark.parametrize("solver", ["exact", "ygrid", "binned"])
def test_new_outcomes_get_the_weights_of_the_same_outcomes(solver):
    data = study()
    weighter = fit(data, solver=solver)
    assert_allclose(weighter.predict_weights(data.X, data.y), weighter.weights_, rtol=1e-6)
    assert_array_equal(
        weighter.predict_weights(y=data.y[:5]), weighter.predict_weights(data.X, data.y)[:5]
    )
    with pytest.warns(WeightWarning, match="2 of 3 outcomes lie outside"):
        ends = weighter.predict_weights(y=[-99.0, 0.0, 99.0])
    low, high = data.y.min(), data.y.max()
    assert_allclose(ends[[0, 2]], weighter.predict_weights(y=[low, high]))


@pytest.mark.parametrize(("solver", "atol"), [("exact", 1e-10), ("ygrid", 1e-10), ("binned", 1e-8)])
@pytest.mark.parametrize("d", [1, 2])
def test_no_shift_gives_weights_of_exactly_one(solver, atol, d):
    data = study(200, n_features=d)
    weighter = ReTaSA(solver=solver).fit(data.X, data.y, X_target=data.X)
    assert_allclose(weighter.eta_, 0, atol=atol)
    assert_allclose(weighter.rho_, 0, atol=atol)
    assert_allclose(weighter.weights_, 1, atol=atol)
    assert weighter.residual_ <= 1


def test_much_regularisation_leaves_the_right_hand_side():
    data = study()
    weighter = fit(data, alpha=1e8)
    _, S_y, eta = dense_equation(data, weighter.bandwidth_x_, weighter.bandwidth_y_)
    assert_allclose(1e8 * weighter.rho_, S_y @ eta, rtol=1e-6, atol=1e-6)
    assert_allclose(weighter.weights_, 1, atol=1e-6)


def test_constant_right_hand_side_is_shrunk_by_one_plus_alpha(rng):
    S = rng.exponential(size=(40, 40))
    S /= S.sum(axis=1, keepdims=True)
    result = solve_tikhonov(S, np.full(40, 1.7), 0.3)
    assert_allclose(result.x, 1.7 / 1.3)
    assert result.optimality_gap < 1e-12


@pytest.mark.parametrize("solver", ["exact", "binned", "ygrid"])
def test_permuting_rows_permutes_weights(solver, rng):
    data = study(150)
    order = rng.permutation(150)
    weights = fit(data, solver=solver).weights_
    moved = ReTaSA(solver=solver).fit(
        data.X[order], data.y[order], X_target=data.X_target[::-1].copy()
    )
    assert_allclose(moved.weights_, weights[order], rtol=1e-7, atol=1e-9)


def test_units_of_features_and_outcome_do_not_matter():
    data = study(150, n_features=2)
    weights = fit(data).weights_
    scale, shift = np.array([100.0, -0.01]), np.array([5.0, -7.0])
    other = ReTaSA().fit(
        data.X * scale + shift, 9 - 3 * data.y, X_target=data.X_target * scale + shift
    )
    assert_allclose(other.weights_, weights, rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("solver", ["exact", "binned"])
def test_duplicated_samples_change_nothing(solver):
    data = study(120)
    weights = fit(data, solver=solver, bandwidth_x=1.0, bandwidth_y=0.6).weights_
    twice = ReTaSA(solver=solver, bandwidth_x=1.0, bandwidth_y=0.6).fit(
        np.tile(data.X, (2, 1)), np.tile(data.y, 2), X_target=np.tile(data.X_target, (2, 1))
    )
    assert_allclose(twice.weights_, np.tile(weights, 2), rtol=1e-8, atol=1e-10)
    target_twice = ReTaSA(solver=solver).fit(
        data.X, data.y, X_target=np.tile(data.X_target, (3, 1))
    )
    expected = fit(data, solver=solver).weights_
    assert_allclose(target_twice.weights_, expected, rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("solver", ["exact", "binned", "ygrid"])
def test_wide_bandwidths_see_no_shift(solver):
    data = study(150)
    wide = fit(data, solver=solver, bandwidth_x=1e6 * data.X.std())
    assert_allclose(wide.weights_, 1, atol=1e-8)
    wide = fit(data, solver=solver, bandwidth_y=1e6 * data.y.std(), alpha=0.05)
    assert_allclose(wide.rho_, wide.eta_.mean() / 1.05, rtol=1e-2 if solver == "binned" else 1e-6)


@pytest.mark.parametrize("solver", ["ygrid", "binned"])
def test_grids_converge_at_second_order(solver):
    data = study(500)
    exact = fit(data, solver="exact").rho_
    errors = [
        np.abs(fit(data, solver=solver, grid_density=density).rho_ - exact).max()
        for density in (4, 8, 16)
    ]
    ratios = np.divide(errors[:-1], errors[1:])
    assert (ratios > 2.5).all()
    assert (ratios < 6).all()


def test_two_features_on_a_grid_converge_too():
    data = study(300, n_features=2)
    exact = fit(data, solver="exact", alpha=0.05).rho_
    coarse, fine = (
        np.abs(fit(data, solver="binned", alpha=0.05, grid_density=q).rho_ - exact).max()
        for q in (2, 4)
    )
    assert fine < 0.05
    assert coarse > 2.5 * fine


def test_error_of_the_grid_is_below_its_bound_and_near_its_estimate():
    data = study(400)
    exact = fit(data, solver="exact")
    assert exact.grid_error_bound_ == 0
    for density in (2, 4):
        weighter = fit(data, solver="ygrid", grid_density=density)
        nodes, rho = weighter.grid_, weighter.solver_result_.x
        truth = exact.predict_weights(y=nodes) / exact._scale - 1
        unclipped = truth > -1 + 1e-9
        true_error = np.abs(rho - truth)[unclipped].max()
        assert 0 < true_error <= weighter.grid_error_bound_
    assert fit(data, solver="binned").grid_error_bound_ is None


@pytest.mark.parametrize("solver", ["ygrid", "binned"])
def test_grids_are_refined_until_their_error_does_not_show(solver):
    data = study(400)
    weighter = fit(data, solver=solver, check_grid=True)
    assert weighter.grid_error_estimate_ < 0.05 * 0.05
    true_error = np.abs(weighter.rho_ - fit(data, solver="exact").rho_).max()
    assert weighter.grid_error_estimate_ / 3 < true_error < 3 * weighter.grid_error_estimate_
    assert fit(data, solver="exact", check_grid=True).grid_error_estimate_ == 0


def test_gaussian_case_converges_to_its_expansion_in_hermite_polynomials():
    data = study(200_000, design="gaussian")
    weighter = fit(data, alpha=0.05)
    k = np.arange(1, 25)
    coefficients = 0.3**k / [factorial(j) for j in k] * 0.9 ** (2 * k) / (0.05 + 0.9 ** (2 * k))
    reference = hermeval(data.y, np.r_[0.0, coefficients])
    assert_allclose(reference.std(), 0.289, atol=0.003)
    assert np.sqrt(np.mean((weighter.rho_ - reference) ** 2)) < 0.05


def test_weights_approach_the_truth():
    errors, without = [], []
    for seed in range(10):
        data = study(1000, seed)
        errors.append(error(fit(data, solver="binned").weights_, data))
        without.append(error(1.0, data))
    assert np.median(errors) < 0.15
    assert np.median(errors) < 0.1 * np.median(without)
    large = study(100_000)
    assert error(fit(large).weights_, large) < 0.02


def test_constrained_solution_is_optimal_and_that_of_scipy():
    data = study(500)
    weighter = fit(data, nonnegative="constrained")
    assert weighter.solver_ == "binned"
    assert weighter.negative_mass_ == 0
    system = weighter._sample.system("binned", 4)
    root_p = np.sqrt(system.mass_x)[:, None]
    q = weighter.alpha_ * (system.mass_y + 1e-12)
    A = np.vstack([root_p * system.smooth_x, np.diag(np.sqrt(q))])
    b = np.r_[root_p[:, 0] * (1 + system.eta), np.sqrt(q)]
    w = 1 + weighter.solver_result_.x
    gradient = A.T @ (A @ w - b) / np.abs(A.T @ b).max()
    assert gradient[w <= 1e-12].min() >= -1e-6
    assert np.abs(gradient[w > 1e-12]).max() < 1e-6
    reference = lsq_linear(A, b, bounds=(0, np.inf), method="bvls", tol=1e-14)
    assert_allclose(weighter.solver_result_.objective, 2 * reference.cost, rtol=1e-9)
    held = system.mass_y > 1e-6
    assert_allclose(w[held], reference.x[held], atol=1e-5)


def test_without_active_bounds_constrained_is_tikhonov_with_the_true_adjoint():
    data = study(400, design="gaussian")
    weighter = fit(data, nonnegative="constrained", alpha=1.0)
    system = weighter._sample.system("binned", 4)
    T, p, q = system.smooth_x, system.mass_x, system.mass_y + 1e-12
    rho = np.linalg.solve(
        T.T @ (p[:, None] * T) + np.diag(q),
        T.T @ (p * system.eta) - T.T @ (p * (T.sum(axis=1) - 1)),
    )
    assert rho.min() > -1
    result = solve_nonnegative(system, 1.0)
    held = q > 1e-6
    assert_allclose(result.x[held], rho[held], atol=1e-6)


@pytest.mark.parametrize("nonnegative", ["clip", "constrained"])
@pytest.mark.parametrize("solver", ["ygrid", "binned"])
def test_a_row_of_weight_k_counts_as_k_rows_on_grids(solver, nonnegative, rng):
    data = study(120)
    counts = rng.integers(0, 4, size=120)
    parameters = {
        "solver": solver,
        "nonnegative": nonnegative,
        "bandwidth_x": 1.0,
        "bandwidth_y": 0.7,
    }
    index = np.repeat(np.arange(120), counts)
    repeated = ReTaSA(**parameters).fit(data.X[index], data.y[index], X_target=data.X_target)
    weighted = ReTaSA(**parameters).fit(
        data.X, data.y, X_target=data.X_target, sample_weight=counts
    )
    merged = np.bincount(index, repeated.weights_, minlength=120)
    assert_allclose(merged / merged.mean(), weighted.weights_, atol=1e-6)
    assert_array_equal(np.isnan(weighted.eta_), counts == 0)


def test_max_weight_caps_before_the_last_scaling():
    data = study(300)
    plain, capped = fit(data), fit(data, max_weight=2.0)
    expected = np.minimum(plain.weights_, 2.0)
    assert_allclose(capped.weights_, expected / expected.mean(), rtol=1e-10)
    assert_allclose(capped.predict_weights(y=data.y), capped.weights_, rtol=1e-8)
    assert_allclose(fit(data, max_weight=1e-3).weights_[plain.weights_ > 1e-3].std(), 0, atol=1e-9)


def test_rule_of_silverman_widens_that_of_scott():
    data = study(100, n_features=2)
    scott, silverman = fit(data), fit(data, bandwidth_x="silverman", bandwidth_y="silverman")
    assert_allclose(silverman.bandwidth_x_, scott.bandwidth_x_ * (4 / 4) ** (1 / 6))
    assert_allclose(silverman.bandwidth_y_, scott.bandwidth_y_ * (4 / 3) ** (1 / 5))
    given = fit(data, bandwidth_x=[1.0, 2.0], bandwidth_y=0.5)
    assert_array_equal(given.bandwidth_x_, [1.0, 2.0])


def test_solver_suits_the_sample():
    assert fit(study(100)).solver_ == "exact"
    assert fit(study(1501)).solver_ == "binned"
    assert fit(study(1501, n_features=2), grid_density=2).solver_ == "ygrid"
    assert fit(study(5001, n_features=2), grid_density=2).solver_ == "binned"
    assert fit(study(100, n_features=3), nonnegative="constrained").solver_ == "ygrid"


def test_cross_validated_alpha_is_the_largest_that_is_nearly_best():
    data = study(300)
    weighter = fit(data, alpha="cv", random_state=0)
    table = weighter.cv_results_
    assert len(table) == 17
    best = table.loc[table["mean_loss"].idxmin()]
    near = table["mean_loss"] <= best["mean_loss"] + 0.25 * best["stderr_loss"]
    assert weighter.alpha_ == table.loc[near, "alpha"].max()
    plain = fit(data, alpha="cv", alpha_rule_se=0.0, random_state=0)
    assert plain.alpha_ == best["alpha"] <= weighter.alpha_
    some = fit(data, alpha="cv", alpha_grid=[0.3, 0.1], random_state=0)
    assert some.alpha_ in (0.1, 0.3)
    assert_array_equal(fit(data, alpha=some.alpha_).weights_, some.weights_)


def test_cross_validation_helps_where_the_target_is_wide():
    gains = []
    for seed in range(8):
        data = study(400, seed, target_mean=1.0, target_std=1.5)
        fixed = fit(data, solver="binned")
        chosen = fit(data, solver="binned", alpha="cv", random_state=0)
        gains.append(error(fixed.weights_, data) - error(chosen.weights_, data))
    assert np.mean(gains) > 2 * np.std(gains, ddof=1) / np.sqrt(8)


@pytest.mark.parametrize("solver", ["exact", "ygrid", "binned"])
def test_implied_ratio_is_that_of_densities(solver):
    data = study(800, design="gaussian", target_mean=0.5)
    weighter = fit(data, solver=solver)
    ratio = weighter.predict_ratio(data.X)
    assert_allclose(ratio.mean(), 1, atol=0.05)
    S_x, _, _ = dense_equation(data, weighter.bandwidth_x_, weighter.bandwidth_y_)
    expected = 1 + S_x @ np.maximum(weighter.rho_, -1)
    assert_allclose(ratio, expected, atol=1e-9 if solver == "exact" else 0.05)


def test_implied_ratio_is_the_true_one_for_many_rows():
    data = study(200_000, design="gaussian", target_mean=0.5)
    x = np.linspace(-2, 2, 9)
    # x is N(0, 1) in the source and N(0.45, 1) in the target.
    expected = np.exp(0.45 * x - 0.45**2 / 2)
    assert_allclose(fit(data).predict_ratio(x[:, None]), expected, rtol=0.06)


def test_score_is_the_held_out_criterion():
    data, other = study(300), study(200, seed=1)
    weighter = fit(data)
    r, r_target = weighter.predict_ratio(other.X), weighter.predict_ratio(other.X_target)
    score = weighter.score(other.X, other.y, X_target=(other.X_target,))
    assert_allclose(score, r_target.mean() - 0.5 * np.mean(r**2))
    own = weighter.predict_ratio(data.X_target).mean() - 0.5 * np.mean(r**2)
    assert_allclose(weighter.score(other.X, other.y), own)
    s = np.r_[np.ones(100), np.zeros(100)]
    assert_allclose(
        weighter.score(other.X, other.y, X_target=other.X_target, sample_weight=s),
        r_target.mean() - 0.5 * np.mean(r[:100] ** 2),
    )


def test_densities_integrate_to_one_and_show_the_target():
    data = study(2000)
    weighter = fit(data)
    y = np.linspace(-9, 9, 2001)
    step = y[1] - y[0]
    assert_allclose(weighter.source_density(y).sum() * step, 1, atol=1e-3)
    density = weighter.target_density(y)
    assert_allclose(density.sum() * step, 1, atol=0.02)
    assert_allclose(density @ y * step, data.y_target.mean(), atol=0.12)
    assert_allclose(y[density.argmax()], 0.5, atol=0.3)


def test_out_of_fold_features_beat_those_that_have_seen_their_rows():
    cross, seen = [], []
    for seed in range(3):
        data = study(300, seed, n_features=20)
        forest = RandomForestRegressor(n_estimators=15, max_features=0.3, random_state=0)
        weighter = fit(data, featurizer=forest, random_state=0)
        cross.append(error(weighter.weights_, data))
        overfitted = forest.fit(data.X, data.y).predict
        seen.append(error(fit(data, featurizer=overfitted).weights_, data))
    assert np.mean(cross) < 0.7
    assert np.mean(cross) < np.mean(seen)


def test_featurizer_deals_target_rows_out_evenly_and_leaves_source_rows_out():
    data = study(103, n_features=8)
    weighter = fit(data, featurizer=Ridge(), featurizer_cv=4, random_state=0)
    models = weighter._feature_map.models
    z, z_target = weighter._sample.z[:, 0], weighter._sample.z_target[:, 0]
    views = np.array([model.predict(data.X_target) for model in models])
    used = np.argmin(np.abs(views - z_target), axis=0)
    assert_allclose(np.take_along_axis(views, used[None], 0)[0], z_target)
    assert_array_equal(np.sort(np.bincount(used)), [25, 26, 26, 26])
    own = np.array([model.predict(data.X) for model in models])
    fold = np.argmin(np.abs(own - z), axis=0)
    for number in range(4):
        rows = fold != number
        refitted = Ridge().fit(data.X[rows], data.y[rows])
        assert_allclose(refitted.predict(data.X), own[number])
    ratio = weighter.predict_ratio(data.X_target)
    assert_allclose(
        ratio, np.mean([weighter._ratio_of_features(view[:, None]) for view in views], axis=0)
    )


def test_callable_features_are_taken_as_they_are():
    data = study(200, n_features=6)
    means = fit(data, featurizer=lambda X: X.mean(axis=1))
    by_hand = ReTaSA().fit(
        data.X.mean(axis=1, keepdims=True),
        data.y,
        X_target=data.X_target.mean(axis=1, keepdims=True),
    )
    assert_array_equal(means.weights_, by_hand.weights_)


def test_a_regressor_that_takes_gaps_may_have_them():
    from sklearn.ensemble import HistGradientBoostingRegressor

    data = study(150, n_features=3)
    data.X[::7, 1] = np.nan
    weighter = fit(data, featurizer=HistGradientBoostingRegressor(max_iter=20), random_state=0)
    assert np.isfinite(weighter.weights_).all()
    with pytest.raises(ValueError, match="Input X contains NaN"):
        fit(data, featurizer=Ridge())


def test_whole_target_reaches_every_fold():
    data = study(90)
    model = Reweighted(Ridge(), ReTaSA())
    results = cross_validate(
        model,
        data.X,
        data.y,
        cv=3,
        params={"X_target": (data.X_target,)},
        return_estimator=True,
    )
    assert [fitted.weighter_.n_target_ for fitted in results["estimator"]] == [90] * 3


def test_weighted_regressor_predicts_the_target_better():
    data = study(1000)

    def loss(model):
        return np.mean((model.predict(data.X_target) - data.y_target) ** 2)

    plain = loss(LinearRegression().fit(data.X, data.y))
    oracle = loss(LinearRegression().fit(data.X, data.y, sample_weight=data.density_ratio))
    weighter = ReTaSA(nonnegative="constrained")
    model = Reweighted(LinearRegression(), weighter).fit(data.X, data.y, X_target=data.X_target)
    # The oracle gains 72 % on average over draws, these weights about 71 %.
    assert 1 - loss(model) / plain > 0.9 * (1 - oracle / plain) > 0.5
    # Its score weighs held-out rows of the source by their outcomes.
    other = study(500, seed=1)
    w = model.weighter_.predict_weights(y=np.clip(other.y, data.y.min(), data.y.max()))
    expected = model.estimator_.score(other.X, other.y, sample_weight=w)
    assert_allclose(model.score(other.X, other.y), expected)


def test_searches_run_over_both_parts_and_over_the_weighter_alone():
    data = study(120)
    pipeline = make_pipeline(StandardScaler(), Ridge())
    grid = {"weighter__alpha": [0.01, 0.1], "estimator__ridge__alpha": [0.1, 1.0]}
    search = GridSearchCV(Reweighted(pipeline, ReTaSA()), grid, cv=3)
    search.fit(data.X, data.y, X_target=(data.X_target,))
    assert set(search.best_params_) == set(grid)
    alone = GridSearchCV(ReTaSA(), {"alpha": [1e-4, 1e-2, 10.0]}, cv=3)
    alone.fit(data.X, data.y, X_target=(data.X_target,))
    assert alone.best_params_["alpha"] < 10
    assert np.isfinite(alone.cv_results_["mean_test_score"]).all()


def test_pickles_predict_but_do_not_carry_the_rows():
    data = study(100)
    weighter = fit(data, solver="binned")
    copy = pickle.loads(pickle.dumps(weighter))
    assert_array_equal(copy.predict_ratio(data.X), weighter.predict_ratio(data.X))
    assert_array_equal(copy.target_density(data.y), weighter.target_density(data.y))
    with pytest.raises(ValueError, match="pickles do not carry; fit again"):
        copy.target_shift_test()

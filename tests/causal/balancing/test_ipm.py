"""Facts about weights that bring arms close in an integral probability metric."""

import pickle
import warnings

import cvxpy as cp
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy.optimize import approx_fprime, linprog
from scipy.spatial.distance import cdist
from scipy.special import expit
from scipy.stats import wasserstein_distance
from sklearn.base import clone
from sklearn.gaussian_process.kernels import RBF, Matern
from sklearn.neighbors import KNeighborsRegressor

from causal import (
    EntropyBalancing,
    InverseProbabilityTilting,
    IPMBalancing,
    WeightedEffect,
    make_kang_schafer,
)
from causal.balancing._ipm_arm import ArmProblem, chi2_divergence, kl_divergence
from causal.balancing._ipm_halfspaces import best_rotation, half_space_suprema, rotate_search
from causal.balancing._ipm_kernel import KernelDiscrepancy, rbf_kernel
from causal.balancing._ipm_linear import LinearDiscrepancy
from causal.balancing._ipm_sigmoid import SigmoidDiscrepancy
from causal.balancing._ipm_softmax import SoftmaxModel
from causal.balancing._ipm_transport import spread_sweep, transport
from causal.balancing._ipm_wasserstein import WassersteinDiscrepancy
from reweight.exceptions import InfeasibleError, WeightWarning
from reweight.solvers.reference import divergence_reference, quadratic_reference

ESTIMANDS = ["ATE", "ATT", "ATC"]
CLASSES = ["linear", "mmd", "sobolev", "wasserstein", "sipm"]
FACTORIES = {
    **{ipm: lambda estimand, ipm=ipm: IPMBalancing(estimand, ipm=ipm) for ipm in CLASSES},
    "mmd-chi2": lambda estimand: IPMBalancing(estimand, divergence="chi2", alpha=1e-4),
    "mmd-capped": lambda estimand: IPMBalancing(estimand, max_weight=2.5, alpha=1e-4),
    "wasserstein-capped": lambda estimand: IPMBalancing(
        estimand, ipm="wasserstein", max_weight=2.0
    ),
    "wasserstein-spread": lambda estimand: IPMBalancing(estimand, ipm="wasserstein", alpha=0.1),
    "linear-capped": lambda estimand: IPMBalancing(estimand, ipm="linear", max_weight=4.0),
    "linear-soft": lambda estimand: IPMBalancing(estimand, ipm="linear", alpha=0.01),
    "linear-linf": lambda estimand: IPMBalancing(estimand, ipm="linear", norm="linf", alpha=0.01),
    "linear-l1": lambda estimand: IPMBalancing(estimand, ipm="linear", norm="l1", alpha=0.01),
    "softmax-linear": lambda estimand: IPMBalancing(estimand, ipm="linear", weight_model="linear"),
    "softmax-mmd": lambda estimand: IPMBalancing(
        estimand, ipm="mmd", weight_model="linear", bandwidth=2.0, tol=1e-8
    ),
}
# What is unique and found to the last digits; the search over half-spaces is neither.
EXACT = [name for name in FACTORIES if name != "sipm"]


@pytest.fixture(scope="module")
def study():
    rng = np.random.default_rng(5)
    X = rng.standard_normal((90, 2)) @ np.array([[1.0, 0.4], [0.0, 1.0]])
    treatment = (rng.random(90) < expit(X @ [0.6, -0.4] - 0.2)).astype(int)
    return X, treatment, rng.integers(1, 4, 90).astype(float)


@pytest.fixture(scope="module")
def arm():
    rng = np.random.default_rng(8)
    base = rng.integers(1, 4, 30).astype(float)
    demand = rng.integers(1, 4, 20).astype(float)
    return ArmProblem(
        rng.standard_normal((30, 2)),
        base / base.sum(),
        rng.standard_normal((20, 2)) + 0.5,
        demand / demand.sum(),
    )


def capped(arm, max_ratio):
    return ArmProblem(arm.X, arm.base, arm.target, arm.target_weight, max_ratio)


def kernel_features(arm, kernel):
    """Features of the kernel centred at the target, by an eigendecomposition of everything."""
    rows = np.concatenate([arm.X, arm.target])
    values, vectors = np.linalg.eigh(kernel(rows))
    features = vectors * np.sqrt(np.maximum(values, 0))
    return features[: len(arm.X)] - arm.target_weight @ features[len(arm.X) :]


def solve_reference(problem):
    problem.solve(solver=cp.CLARABEL, tol_gap_abs=1e-11, tol_gap_rel=1e-11, tol_feas=1e-11)
    return float(problem.value)


def chi2_term(w, base):
    return 0.5 * cp.sum_squares(cp.multiply(1 / np.sqrt(base), w) - np.sqrt(base))


def simplex(w, arm):
    constraints = [w >= 0, cp.sum(w) == 1]
    return [*constraints, w <= arm.upper] if np.isfinite(arm.max_ratio) else constraints


def transport_program(arm, alpha):
    """Weights of the arm and optimal value of the transport program, all pairs at once."""
    plan = cp.Variable((len(arm.X), len(arm.target)), nonneg=True)
    w = cp.sum(plan, axis=1)
    cost = cp.sum(cp.multiply(cdist(arm.X, arm.target), plan)) + alpha * chi2_term(w, arm.base)
    constraints = [cp.sum(plan, axis=0) == arm.target_weight, *simplex(w, arm)]
    value = solve_reference(cp.Problem(cp.Minimize(cost), constraints))
    return w.value, value


def half_spaces(points):
    """Indicators of all half-spaces that points of the line or the plane tell apart."""
    if points.shape[1] == 1:
        return np.array([points[:, 0] <= c for c in points[:, 0]], dtype=float)
    sets = set()
    for i in range(len(points)):
        for j in range(len(points)):
            if i == j:
                continue
            edge = points[j] - points[i]
            normal = np.array([-edge[1], edge[0]])
            side = (points - points[i]) @ normal
            side[[i, j]] = 0.0
            inside = side < -1e-12
            # The line through two points may turn a little either way about a point between.
            for first in (False, True):
                for second in (False, True):
                    member = inside.copy()
                    member[i], member[j] = first, second
                    sets.add(member.tobytes())
    return np.array([np.frombuffer(member, dtype=bool) for member in sets], dtype=float)


def least_half_space_distance(arm, alpha):
    """Minimum over weights of the largest difference over all half-spaces, by cvxpy."""
    G = half_spaces(np.concatenate([arm.X, arm.target]))
    on_arm, on_target = G[:, : len(arm.X)], G[:, len(arm.X) :] @ arm.target_weight
    w = cp.Variable(len(arm.X))
    cost = cp.max(cp.abs(on_arm @ w - on_target))
    if alpha > 0:
        cost = cost + alpha * chi2_term(w, arm.base)
    value = solve_reference(cp.Problem(cp.Minimize(cost), simplex(w, arm)))
    return w.value, value


# What holds for every class


@pytest.mark.parametrize("estimand", ESTIMANDS)
@pytest.mark.parametrize("method", FACTORIES)
def test_weights_have_mean_one_per_arm_and_the_target_keeps_its_own(study, method, estimand):
    X, treatment, s = study
    balancer = FACTORIES[method](estimand).set_params(random_state=0)
    weights = balancer.fit(X, treatment, sample_weight=s).weights_
    assert weights.min() >= 0
    for code in (0, 1):
        assert weights[treatment == code].mean() == pytest.approx(1, abs=1e-12)
    still = {"ATT": 1, "ATC": 0}.get(estimand)
    if still is not None:
        rows = treatment == still
        assert_allclose(weights[rows], s[rows] / s[rows].mean(), rtol=1e-12)
    assert balancer.converged_


@pytest.mark.parametrize("method", EXACT)
def test_atc_is_att_with_the_labels_swapped(study, method):
    X, treatment, s = study
    atc = FACTORIES[method]("ATC").fit_weights(X, treatment, sample_weight=s)
    att = FACTORIES[method]("ATT").fit_weights(X, 1 - treatment, sample_weight=s)
    assert_allclose(atc, att, rtol=1e-6, atol=1e-9)


def test_atc_of_half_spaces_is_att_with_the_labels_swapped(study):
    X, treatment, s = study
    atc, att = (
        IPMBalancing(estimand, ipm="sipm", random_state=3).fit_weights(X, t, sample_weight=s)
        for estimand, t in (("ATC", treatment), ("ATT", 1 - treatment))
    )
    assert_array_equal(atc, att)


@pytest.mark.parametrize("estimand", ["ATE", "ATT"])
@pytest.mark.parametrize("method", EXACT)
def test_rows_may_come_in_any_order(study, method, estimand):
    X, treatment, s = study
    order = np.random.default_rng(0).permutation(len(X))
    before = FACTORIES[method](estimand).fit_weights(X, treatment, sample_weight=s)
    after = FACTORIES[method](estimand).fit_weights(
        X[order], treatment[order], sample_weight=s[order]
    )
    assert_allclose(after, before[order], rtol=1e-5, atol=2e-5)


@pytest.mark.parametrize("estimand", ["ATE", "ATT"])
@pytest.mark.parametrize("method", EXACT)
def test_a_sampling_weight_of_k_is_a_row_repeated_k_times(study, method, estimand):
    X, treatment, s = study
    index = np.repeat(np.arange(len(X)), s.astype(int))
    weighted = FACTORIES[method](estimand).fit_weights(X, treatment, sample_weight=s)
    repeated = FACTORIES[method](estimand).fit_weights(X[index], treatment[index])
    merged = np.bincount(index, repeated)
    scale = np.bincount(treatment) / np.bincount(treatment, merged)
    assert_allclose(merged * scale[treatment], weighted, rtol=1e-5, atol=5e-5)


@pytest.mark.parametrize("method", EXACT)
def test_location_and_units_of_the_covariates_do_not_matter(study, method):
    X, treatment, s = study
    before = FACTORIES[method]("ATT").fit_weights(X, treatment, sample_weight=s)
    after = FACTORIES[method]("ATT").fit_weights(
        X * [1e4, -0.01] + [-700, 9], treatment, sample_weight=s
    )
    assert_allclose(after, before, rtol=1e-5, atol=2e-5)


@pytest.mark.parametrize("estimand", ["ATE", "ATT"])
@pytest.mark.parametrize("weight_model", ["nonparametric", "linear"])
@pytest.mark.parametrize("ipm", CLASSES)
def test_the_metric_falls_below_that_of_uniform_and_tilting_weights(
    study, ipm, weight_model, estimand
):
    X, treatment, s = study
    balancer = IPMBalancing(
        estimand,
        ipm=ipm,
        weight_model=weight_model,
        alpha=0 if ipm != "sipm" else None,
        random_state=1,
    ).fit(X, treatment, sample_weight=s)
    reached = balancer.discrepancy()
    tilting = InverseProbabilityTilting(estimand).fit_weights(X, treatment, sample_weight=s)
    for other in (s, tilting):
        distances = balancer.discrepancy(other)
        for label, value in reached.items():
            # The penalty of half-spaces is 0.001 of a divergence of order one.
            assert value <= distances[label] + (3e-3 if ipm == "sipm" else 1e-7)
    for label, value in balancer.discrepancy_.items():
        assert value == pytest.approx(reached[label], rel=0.05, abs=1e-9)


def test_the_ate_solves_a_program_per_arm_with_all_rows_as_target(study):
    X, treatment, _ = study
    balancer = IPMBalancing("ATE", alpha=1e-4).fit(X, treatment)
    Z = (X - X.mean(axis=0)) / X.std(axis=0)
    for code in (0, 1):
        rows = treatment == code
        arm = ArmProblem(
            Z[rows], np.full(rows.sum(), 1 / rows.sum()), Z, np.full(len(Z), 1 / len(Z))
        )
        features = kernel_features(arm, RBF(10.0))
        w = divergence_reference(features, arm.base, divergence="kl", alpha=1e-4).x
        assert_allclose(balancer.weights_[rows], rows.sum() * w, atol=1e-4)


# Kernel classes


@pytest.mark.parametrize(
    ("bandwidth", "max_ratio", "alpha"),
    [(10.0, np.inf, 1e-5), (1.0, np.inf, 0.0), (1.0, 2.0, 1e-3), ([1.0, 3.0, 10.0], 1.5, 1e-4)],
)
def test_chi_square_kernel_weights_solve_the_reference_program(arm, bandwidth, max_ratio, alpha):
    problem = capped(arm, max_ratio)
    lengths = np.atleast_1d(bandwidth)
    found = KernelDiscrepancy(problem, rbf_kernel(list(lengths)), "chi2", None, None)
    result = found.minimize(alpha, 1e-9, 200)
    features = kernel_features(problem, lambda X: sum(RBF(h)(X) for h in lengths) / len(lengths))
    reference = quadratic_reference(
        features, np.zeros(30), upper=problem.upper, diagonal=alpha / arm.base
    )
    assert result.converged
    assert result.objective <= reference.objective + 1e-8
    assert_allclose(found.value(result.x), np.linalg.norm(result.x @ features), atol=1e-8)
    # Gradient equal between the bounds, not smaller at zero, not larger at the cap.
    gradient = features @ (features.T @ result.x) + alpha * result.x / arm.base
    lower, upper = result.x <= 1e-9, result.x >= problem.upper - 1e-9
    level = gradient[~lower & ~upper]
    assert np.ptp(level) < 1e-7
    assert np.all(gradient[lower] >= level.mean() - 1e-7)
    assert np.all(gradient[upper] <= level.mean() + 1e-7)


@pytest.mark.parametrize("alpha", [1e-5, 1e-2])
def test_entropy_kernel_weights_solve_the_reference_program(arm, alpha):
    found = KernelDiscrepancy(arm, rbf_kernel([2.0]), "kl", None, None)
    result = found.minimize(alpha, 1e-9, 200)
    features = kernel_features(arm, RBF(2.0))
    reference = divergence_reference(features, arm.base, alpha=alpha)

    def objective(w):
        return np.sum((w @ features) ** 2) / 2 + alpha * kl_divergence(w, arm.base)

    assert objective(result.x) <= objective(reference.x / reference.x.sum()) + 1e-8
    # log(w / q) and the gradient of the metric are a constant apart.
    stationary = features @ (result.x @ features) + alpha * np.log(result.x / arm.base)
    assert np.ptp(stationary) < 1e-8


def test_landmarks_at_all_rows_are_exact(arm):
    exact = KernelDiscrepancy(arm, rbf_kernel([1.0]), "chi2", None, None)
    landmarks = KernelDiscrepancy(arm, rbf_kernel([1.0]), "chi2", 30, None)
    landmarks.whole, landmarks.landmarks = False, arm.X
    assert_allclose(
        landmarks.minimize(1e-3, 1e-9, 200).x, exact.minimize(1e-3, 1e-9, 200).x, atol=1e-6
    )


def test_many_rows_take_landmarks_and_come_close_to_the_exact_weights(study):
    X, treatment, _ = study
    exact = IPMBalancing(alpha=1e-3, bandwidth=2.0).fit(X, treatment)
    few = IPMBalancing(alpha=1e-3, bandwidth=2.0, n_components=20, random_state=0)
    assert_allclose(few.fit_weights(X, treatment), exact.weights_, atol=0.02)
    assert few.weights_.tolist() == clone(few).fit_weights(X, treatment).tolist()


def test_a_large_alpha_leaves_the_sampling_weights(study):
    X, treatment, s = study
    for divergence in ("kl", "chi2"):
        balancer = IPMBalancing(alpha=1e6, divergence=divergence)
        weights = balancer.fit_weights(X, treatment, sample_weight=s)
        controls = treatment == 0
        assert_allclose(weights[controls], s[controls] / s[controls].mean(), atol=1e-5)


@pytest.mark.parametrize(("order", "nu"), [(None, 1.5), (2.5, 1.5), (3.25, 2.25)])
def test_the_sobolev_order_sets_the_smoothness_of_the_matern_kernel(study, order, nu):
    X, treatment, _ = study
    balancer = IPMBalancing(ipm="sobolev", sobolev_order=order, bandwidth=2.0).fit(X, treatment)
    Z = (X - X.mean(axis=0)) / X.std(axis=0)
    K = Matern(2.0, nu=nu)(Z)
    signed = np.where(treatment == 1, -1 / (treatment == 1).sum(), balancer.weights_)
    signed[treatment == 0] /= (treatment == 0).sum()
    assert balancer.discrepancy_[0] == pytest.approx(np.sqrt(signed @ K @ signed), rel=1e-6)


def test_alpha_auto_takes_the_largest_that_balances(study):
    X, treatment, s = study
    balancer = IPMBalancing("ATE", alpha="auto").fit(X, treatment, sample_weight=s)
    assert balancer.max_imbalance_ <= 0.01
    strongest = max(balancer.alpha_.values())
    stronger = IPMBalancing("ATE", alpha=10 * strongest).fit(X, treatment, sample_weight=s)
    assert stronger.max_imbalance_ > 0.01
    for label, alpha in balancer.alpha_.items():
        same = IPMBalancing("ATE", alpha=alpha).fit(X, treatment, sample_weight=s)
        rows = treatment == label
        assert_allclose(balancer.weights_[rows], same.weights_[rows], rtol=1e-9)


# Linear functions


@pytest.mark.parametrize("estimand", ESTIMANDS)
def test_linear_functions_and_weights_are_inverse_probability_tilting(study, estimand):
    X, treatment, s = study
    balancer = IPMBalancing(estimand, ipm="linear", weight_model="linear")
    weights = balancer.fit_weights(X, treatment, sample_weight=s)
    tilting = InverseProbabilityTilting(estimand).fit(X, treatment, sample_weight=s)
    assert_allclose(weights, tilting.weights_, rtol=1e-6)
    for label, coef in balancer.coef_.items():
        assert_allclose(coef, tilting.dual_coef_[label], rtol=1e-6)
    if estimand != "ATE":
        entropy = EntropyBalancing(estimand).fit_weights(X, treatment, sample_weight=s)
        assert_allclose(weights, entropy, rtol=1e-6)
    other = clone(tilting).fit(X, treatment, sample_weight=s).estimating_equations()
    gradient = other.weight_derivative.T @ X
    assert_allclose(
        balancer.estimating_equations().influence(
            balancer.estimating_equations().weight_derivative.T @ X
        ),
        other.influence(gradient),
        rtol=1e-6,
        atol=1e-10,
    )


def test_nonparametric_linear_att_is_entropy_balancing_and_ate_is_not_tilting(study):
    X, treatment, s = study
    for estimand in ("ATT", "ATE"):
        weights = IPMBalancing(estimand, ipm="linear").fit_weights(X, treatment, sample_weight=s)
        entropy = EntropyBalancing(estimand).fit_weights(X, treatment, sample_weight=s)
        assert_allclose(weights, entropy, rtol=1e-6)
    tilting = InverseProbabilityTilting("ATE").fit_weights(X, treatment, sample_weight=s)
    assert np.abs(weights - tilting).max() > 0.01


@pytest.mark.parametrize("norm", ["l2", "linf", "l1"])
@pytest.mark.parametrize("max_ratio", [np.inf, 1.5])
@pytest.mark.parametrize("alpha", [0.0, 1e-2])
def test_unbalanceable_means_come_closest_in_the_norm(arm, norm, max_ratio, alpha):
    problem = ArmProblem(arm.X, arm.base, arm.target + 4.0, arm.target_weight, max_ratio)
    discrepancy = LinearDiscrepancy(problem, norm, "chi2")
    result = discrepancy.minimize(alpha, 1e-9, 200)
    w = cp.Variable(30)
    means = discrepancy.features.T @ w
    distance = {
        "l2": cp.sum_squares(means) / 2,
        "linf": cp.norm(means, "inf"),
        "l1": cp.norm1(means),
    }[norm]
    penalty = alpha * chi2_term(w, arm.base) if alpha else 0
    reference = solve_reference(cp.Problem(cp.Minimize(distance + penalty), simplex(w, problem)))
    value = discrepancy.value(result.x)
    reached = (value**2 / 2 if norm == "l2" else value) + alpha * chi2_divergence(
        result.x, arm.base
    )
    assert reached == pytest.approx(reference, rel=1e-6)
    assert result.converged
    assert np.all(result.x <= problem.upper + 1e-9)


def test_means_that_cannot_be_met_are_reported(study):
    X, treatment, _ = study
    apart = X + 8.0 * treatment[:, None]
    with pytest.warns(WeightWarning, match="no weights meet the means"):
        balancer = IPMBalancing(ipm="linear").fit(apart, treatment)
    assert balancer.discrepancy_[0] > 0.1
    with pytest.raises(InfeasibleError, match=r"IPMBalancing: column 'x[01]' cannot be balanced"):
        IPMBalancing(ipm="linear", weight_model="linear").fit(apart, treatment)


def test_capped_balance_is_exact_and_of_least_chi_square(study):
    X, treatment, s = study
    balancer = IPMBalancing(ipm="linear", max_weight=4.0).fit(X, treatment, sample_weight=s)
    assert balancer.max_imbalance_ < 1e-8
    controls, treated = treatment == 0, treatment == 1
    base = s[controls] / s[controls].sum()
    centred = X[controls] - np.average(X[treated], axis=0, weights=s[treated])
    w = cp.Variable(controls.sum())
    program = cp.Problem(
        cp.Minimize(chi2_term(w, base)),
        [centred.T @ w == 0, w >= 0, cp.sum(w) == 1, w <= 4.0 * base],
    )
    solve_reference(program)
    assert_allclose(balancer.weights_[controls], controls.sum() * w.value, atol=1e-5)


# Wasserstein


def test_wasserstein_weights_count_nearest_neighbours(study):
    X, treatment, s = study
    weights = IPMBalancing(ipm="wasserstein").fit_weights(X, treatment, sample_weight=s)
    Z = (X - np.average(X, axis=0, weights=s)) / np.sqrt(
        np.average((X - np.average(X, axis=0, weights=s)) ** 2, axis=0, weights=s)
    )
    controls, treated = Z[treatment == 0], Z[treatment == 1]
    nearest = cdist(treated, controls).argmin(axis=1)
    counts = np.bincount(nearest, s[treatment == 1], len(controls))
    assert_allclose(weights[treatment == 0], counts / counts.mean(), rtol=1e-12)


def test_wasserstein_effect_is_that_of_one_nearest_neighbour_matching(study):
    X, treatment, _ = study
    y = np.sin(X[:, 0]) + X[:, 1] ** 2 + treatment
    Z = (X - X.mean(axis=0)) / X.std(axis=0)
    weights = IPMBalancing("ATE", ipm="wasserstein").fit_weights(X, treatment)
    effect = np.average(y[treatment == 1], weights=weights[treatment == 1]) - np.average(
        y[treatment == 0], weights=weights[treatment == 0]
    )
    imputed = [
        KNeighborsRegressor(1).fit(Z[treatment == code], y[treatment == code]).predict(Z)
        for code in (0, 1)
    ]
    assert effect == pytest.approx(np.mean(imputed[1] - imputed[0]), rel=1e-12)


def test_ties_are_shared_in_proportion_to_the_sampling_weights():
    X = np.array([[0.0], [2.0], [0.0], [1.0], [1.0]])
    treatment = np.array([0, 0, 0, 1, 1])
    weights = IPMBalancing(ipm="wasserstein").fit_weights(X, treatment)
    assert_allclose(weights[:3], [1.0, 1.0, 1.0])
    s = np.array([1.0, 2.0, 3.0, 1.0, 1.0])
    weights = IPMBalancing(ipm="wasserstein").fit_weights(X, treatment, sample_weight=s)
    assert_allclose(weights[:3], s[:3] / 2.0)


@pytest.mark.parametrize(
    ("max_ratio", "alpha"), [(np.inf, 0.0), (1.0, 0.0), (1.7, 0.0), (np.inf, 0.05), (np.inf, 2.0)]
)
def test_wasserstein_weights_solve_the_reference_program(arm, max_ratio, alpha):
    problem = capped(arm, max_ratio)
    result = WassersteinDiscrepancy(problem).minimize(alpha, 1e-9, 500)
    w, value = transport_program(problem, alpha)
    assert result.converged
    assert result.objective == pytest.approx(value, rel=1e-7)
    assert np.all(result.x <= problem.upper + 1e-12)
    assert_allclose(result.x, w, atol=1e-5)


def test_transport_by_candidates_equals_transport_over_all_pairs(monkeypatch):
    rng = np.random.default_rng(2)
    X, target = rng.standard_normal((60, 3)), rng.standard_normal((50, 3)) + 0.7
    supply, demand = rng.dirichlet(np.ones(60)), rng.dirichlet(np.ones(50))
    whole = [
        transport(X, given, target, demand, at_most=at_most)
        for given, at_most in ((supply, False), (2 * supply, True))
    ]
    monkeypatch.setattr("causal.balancing._ipm_transport.ALL_PAIRS", 0)
    monkeypatch.setattr("causal.balancing._ipm_transport.FIRST_NEIGHBORS", 2)
    for plan, (given, at_most) in zip(whole, ((supply, False), (2 * supply, True)), strict=True):
        found = transport(X, given, target, demand, at_most=at_most)
        assert found.n_rounds > 1
        assert found.cost == pytest.approx(plan.cost, rel=1e-9)
        assert found.bound == pytest.approx(found.cost, rel=1e-9)
        price = found.arm_price[:, None] + found.target_price
        assert np.all(price <= cdist(X, target) + 1e-12)


def test_the_distance_on_the_line_is_the_area_between_distribution_functions(rng):
    x, z = rng.standard_normal(25), rng.standard_normal(18) + 1.0
    w, r = rng.dirichlet(np.ones(25)), rng.dirichlet(np.ones(18))
    arm = ArmProblem(x[:, None], w, z[:, None], r)
    distance = WassersteinDiscrepancy(arm)
    assert distance.value(w) == pytest.approx(wasserstein_distance(x, z, w, r), rel=1e-10)
    G, b = distance.separate(w)
    other = rng.dirichlet(np.ones(25))
    assert (G @ w - b)[0] == pytest.approx(distance.value(w), rel=1e-10)
    assert (G @ other - b)[0] <= distance.value(other) + 1e-12


def spread_sweep_plain(distance, demand, slope, plan):
    """One target row after another, by bisection for the level that meets its demand."""
    plan = plan.copy()
    for j, wanted in enumerate(demand):
        price = distance[j] + slope * (plan.sum(axis=0) - plan[j])
        low, high = price.min(), price.min() + slope.max() * wanted
        for _ in range(200):
            level = 0.5 * (low + high)
            supply = (np.maximum(level - price, 0.0) / slope).sum()
            low, high = (level, high) if supply < wanted else (low, level)
        plan[j] = np.maximum(level - price, 0.0) / slope
    return plan


def test_sweeps_equal_their_plain_form(rng):
    distance, demand = rng.random((6, 9)), rng.dirichlet(np.ones(6))
    slope = 0.3 / rng.dirichlet(np.ones(9))
    plan = np.zeros((6, 9))
    plan[np.arange(6), distance.argmin(axis=1)] = demand
    expected = spread_sweep_plain(distance, demand, slope, plan)
    weights = plan.sum(axis=0)
    spread_sweep(distance, demand, slope, plan, weights, np.empty(9))
    assert_allclose(plan, expected, atol=1e-12)
    assert_allclose(weights, plan.sum(axis=0), atol=1e-12)


# Half-spaces and sigmoids


def test_half_space_suprema_equal_brute_force(rng):
    projections = rng.integers(0, 6, (4, 15)).astype(float)
    signed = rng.standard_normal(15)
    signed -= signed.mean()
    value, threshold = half_space_suprema(projections, signed)
    for d, z in enumerate(projections):
        sums = [signed[z <= c].sum() for c in np.unique(z)]
        assert abs(value[d]) == pytest.approx(np.abs(sums).max())
        assert signed[z <= threshold[d]].sum() == pytest.approx(value[d])


def test_the_best_rotation_equals_brute_force(rng):
    along, across = rng.standard_normal((2, 12))
    along -= along[3]
    across -= across[3]
    signed = rng.standard_normal(12)
    signed -= signed.mean()
    phi, value = best_rotation(along, across, signed, np.empty(12))
    best = 0.0
    for angle in np.linspace(0, np.pi, 20001)[:-1]:
        z = np.cos(angle) * along + np.sin(angle) * across
        best = max(best, abs(signed[z < -1e-12].sum()), abs(signed[z <= 1e-12].sum()))
    assert value == pytest.approx(best)
    z = np.cos(phi) * along + np.sin(phi) * across
    assert max(abs(signed[z < -1e-12].sum()), abs(signed[z <= 1e-12].sum())) == pytest.approx(best)


def test_rotations_find_the_worst_half_space_of_the_plane(rng):
    points = rng.standard_normal((25, 2))
    signed = rng.standard_normal(25)
    signed -= signed.mean()
    worst = np.abs(half_spaces(points) @ signed).max()
    found = 0.0
    for _ in range(20):
        direction = rng.standard_normal(2)
        direction /= np.linalg.norm(direction)
        value = rotate_search(points, signed, direction, np.eye(2))
        attained, _ = half_space_suprema((points @ direction)[None, :], signed)
        assert value == pytest.approx(abs(attained[0]))
        found = max(found, value)
    assert found == pytest.approx(worst)


@pytest.mark.parametrize("alpha", [0.0, 1e-3])
@pytest.mark.parametrize("max_ratio", [np.inf, 1.5])
def test_on_the_line_sigmoids_are_the_least_kolmogorov_smirnov_distance(rng, alpha, max_ratio):
    x, z = rng.standard_normal((25, 1)).round(1), rng.standard_normal((18, 1)).round(1) + 1.0
    arm = ArmProblem(x, np.full(25, 1 / 25), z, np.full(18, 1 / 18), max_ratio)
    # Rounded values tie within and between the samples.
    result = SigmoidDiscrepancy(arm, 10, None, np.random.RandomState(0)).minimize(alpha, 1e-9, 500)
    w, value = least_half_space_distance(arm, alpha)
    assert result.converged
    assert result.objective == pytest.approx(value, abs=1e-8)
    if alpha > 0:
        # Weights of equal rows are interchangeable; their spread costs divergence.
        assert_allclose(result.x, w, atol=1e-5)


def test_on_the_line_the_gap_is_that_of_the_linear_program(study):
    X, treatment, s = study
    x = X[:, :1]
    balancer = IPMBalancing("ATT", ipm="sipm", alpha=0).fit(x, treatment, sample_weight=s)
    assert balancer.optimality_gap_ < 1e-8
    controls, treated = treatment == 0, treatment == 1
    r = s[treated] / s[treated].sum()
    G = (x[controls][:, 0] <= x).astype(float)
    b = (x[treated][:, 0] <= x) @ r
    n = controls.sum()
    program = linprog(
        np.r_[np.zeros(n), 1.0],
        A_ub=np.vstack([np.c_[G, -np.ones(len(b))], np.c_[-G, -np.ones(len(b))]]),
        b_ub=np.r_[b, -b],
        A_eq=np.r_[np.ones(n), 0.0][None, :],
        b_eq=[1.0],
    )
    assert balancer.discrepancy_[0] == pytest.approx(program.fun, abs=1e-8)


@pytest.mark.parametrize("alpha", [0.0, 1e-2])
def test_in_the_plane_cutting_planes_reach_the_program_over_all_half_spaces(arm, alpha):
    small = ArmProblem(arm.X[:14], np.full(14, 1 / 14), arm.target[:10], np.full(10, 0.1))
    result = SigmoidDiscrepancy(small, 50, None, np.random.RandomState(0)).minimize(
        alpha, 1e-7, 500
    )
    _, value = least_half_space_distance(small, alpha)
    assert result.objective == pytest.approx(value, abs=1e-6)


def test_bounded_slopes_reach_the_program_over_a_grid_of_sigmoids(rng):
    x, z = rng.standard_normal((20, 1)), rng.standard_normal((15, 1)) + 0.8
    arm = ArmProblem(x, np.full(20, 0.05), z, np.full(15, 1 / 15))
    discrepancy = SigmoidDiscrepancy(arm, 20, 3.0, np.random.RandomState(0))
    result = discrepancy.minimize(1e-2, 1e-5, 200)
    levels = np.linspace(-4, 4, 800)
    G, b = expit(3.0 * (x[:, 0] - levels[:, None])), expit(3.0 * (z[:, 0] - levels[:, None]))
    w = cp.Variable(20)
    cost = cp.max(cp.abs(G @ w - b @ arm.target_weight)) + 1e-2 * chi2_term(w, arm.base)
    value = solve_reference(cp.Problem(cp.Minimize(cost), simplex(w, arm)))
    assert result.objective == pytest.approx(value, rel=1e-3)
    # Steeper sigmoids tell more apart, and half-spaces most.
    distances = [
        SigmoidDiscrepancy(arm, 20, scale, np.random.RandomState(0)).value(arm.base)
        for scale in (1.0, 3.0, 30.0, None)
    ]
    assert distances == sorted(distances)


# The linear weight model


@pytest.mark.parametrize("kappa", [0.0, 0.4])
@pytest.mark.parametrize("divergence", ["kl", "chi2"])
def test_gradients_of_the_linear_weight_model_are_right(arm, kappa, divergence):
    model = SoftmaxModel(arm, kappa, divergence)
    theta = np.array([0.3, -0.8])
    assert model.weights(theta).sum() == pytest.approx(1)
    g = np.random.default_rng(0).standard_normal(30)
    analytic = model.pull_back(model.moving(theta), g)
    numeric = approx_fprime(theta, lambda t: g @ model.weights(t), 1e-7)
    assert_allclose(analytic, numeric, atol=1e-6)
    slope = model.pull_back(model.moving(theta), model.penalty(model.weights(theta))[1])
    numeric = approx_fprime(theta, lambda t: model.penalty(model.weights(t))[0], 1e-7)
    assert_allclose(slope, numeric, atol=1e-5)


@pytest.mark.parametrize("ipm", ["mmd", "sobolev", "wasserstein", "sipm"])
def test_fits_of_the_linear_weight_model_are_local_minima(study, ipm):
    X, treatment, _ = study
    balancer = IPMBalancing(ipm=ipm, weight_model="linear", bandwidth=2.0, random_state=0).fit(
        X, treatment
    )
    assert balancer.solver_result_.certificate == "kkt"
    assert balancer.optimality_gap_ < 1e-4
    reached = balancer.discrepancy()[0]
    rng = np.random.default_rng(1)
    controls = treatment == 0
    for size in (0.3, 0.03, 0.003):
        for _ in range(4):
            trial = np.ones(len(X))
            score = X[controls] @ (balancer.coef_[0] + size * rng.standard_normal(2))
            trial[controls] = np.exp(score)
            slack = 5e-3 if ipm == "sipm" else 1e-9
            assert balancer.discrepancy(trial)[0] >= reached - slack


def test_more_starts_never_make_the_metric_larger(study):
    X, treatment, _ = study
    values = [
        IPMBalancing(weight_model="linear", bandwidth=0.5, n_init=n_init, random_state=0)
        .fit(X, treatment)
        .discrepancy_[0]
        for n_init in (1, 2, 6)
    ]
    assert values[1] <= values[0] + 1e-9
    assert values[2] <= values[1] + 1e-9


@pytest.mark.parametrize("estimand", ["ATE", "ATT"])
def test_weights_of_the_linear_model_have_the_shape_of_inverse_propensities(study, estimand):
    X, treatment, s = study
    balancer = IPMBalancing(estimand, weight_model="linear", bandwidth=2.0)
    balancer.fit(X, treatment, sample_weight=s)
    for label, coef in balancer.coef_.items():
        rows = treatment == label
        q = s[rows] / s[rows].sum()
        odds = q * np.exp(X[rows] @ coef)
        kappa = s[rows].sum() / s.sum() if estimand == "ATE" else 0.0
        w = kappa * q + (1 - kappa) * odds / odds.sum()
        assert_allclose(balancer.weights_[rows], rows.sum() * w, rtol=1e-8)
    predicted = balancer.predict_weights(X, treatment)
    assert_allclose(predicted * s, balancer.weights_, rtol=1e-9)


# Around the estimator


def test_only_the_linear_weight_model_weighs_new_rows(study):
    X, treatment, _ = study
    balancer = IPMBalancing().fit(X, treatment)
    assert not hasattr(balancer, "predict_weights")
    with pytest.raises(AttributeError) as refused:
        balancer.predict_weights(X, treatment)
    assert "weight_model='linear'" in str(refused.value.__cause__)
    parametric = pickle.loads(pickle.dumps(IPMBalancing(weight_model="linear").fit(X, treatment)))
    assert parametric.predict_weights(X[:3], treatment[:3]).shape == (3,)


def test_the_effect_is_resampled_as_its_weights_allow(study):
    X, treatment, _ = study
    y = X[:, 0] + treatment + np.random.default_rng(0).standard_normal(len(X))
    assert IPMBalancing()._resampling == "subsample"
    assert IPMBalancing(weight_model="linear")._resampling == "bootstrap"
    effect = WeightedEffect(
        IPMBalancing(ipm="linear", weight_model="linear"), inference="influence"
    ).fit(X, y, treatment=treatment)
    tilting = WeightedEffect(InverseProbabilityTilting("ATT"), inference="influence").fit(
        X, y, treatment=treatment
    )
    assert effect.stderr_ == pytest.approx(tilting.stderr_, rel=1e-6)
    with pytest.raises(ValueError, match="no estimating equations"):
        WeightedEffect(IPMBalancing(), inference="influence").fit(X, y, treatment=treatment)


def test_the_seed_decides_every_random_choice(study):
    X, treatment, _ = study
    for seed in (0, np.random.RandomState(4)):
        state = pickle.dumps(seed)
        weights = [
            IPMBalancing(ipm="sipm", random_state=pickle.loads(state)).fit_weights(X, treatment)
            for _ in range(2)
        ]
        assert_array_equal(*weights)


def test_constant_columns_change_nothing(study):
    X, treatment, _ = study
    wide = np.column_stack([X, np.full(len(X), 7.0)])
    for ipm in ("linear", "mmd", "wasserstein"):
        assert_allclose(
            IPMBalancing(ipm=ipm).fit_weights(wide, treatment),
            IPMBalancing(ipm=ipm).fit_weights(X, treatment),
            atol=1e-6,
        )


def test_too_few_iterations_are_not_silent(study):
    X, treatment, _ = study
    for parameters in (
        {"max_iter": 1, "bandwidth": 1.0},
        {"max_iter": 1, "ipm": "wasserstein", "alpha": 1.0},
        {"max_iter": 2, "ipm": "sipm"},
        {"max_iter": 1, "weight_model": "linear"},
    ):
        with pytest.warns(UserWarning, match="not converged"):
            balancer = IPMBalancing(random_state=0, **parameters).fit(X, treatment)
        assert not balancer.converged_


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"ipm": "hoelder"}, "ipm"),
        ({"max_weight": 0.5}, "max_weight"),
        ({"bandwidth": [1.0, -1.0]}, "bandwidth must be positive"),
        ({"bandwidth": []}, "bandwidth must be positive"),
        ({"bandwidth": 0}, "bandwidth"),
        ({"ipm": "sobolev", "sobolev_order": 1.0}, "sobolev_order=1 must exceed"),
        ({"weight_model": "linear", "max_weight": 3.0}, "weight_model='linear'"),
        ({"divergence": "kl", "max_weight": 3.0}, "no program with a cap"),
        ({"ipm": "wasserstein", "alpha": 0.1, "max_weight": 3.0}, "not by both"),
        ({"ipm": "sipm", "divergence": "kl"}, "chi-square divergence only"),
        ({"ipm": "linear", "norm": "l1", "alpha": 0.1, "divergence": "kl"}, "norm='l1'"),
        ({"estimand": "ATO"}, "estimand"),
    ],
)
def test_parameters_that_do_not_go_together_are_refused(study, parameters, message):
    X, treatment, _ = study
    with pytest.raises(ValueError, match=message):
        IPMBalancing(**parameters).fit(X, treatment)


def test_bad_rows_are_refused(study):
    X, treatment, s = study
    broken = X.copy()
    broken[3, 1] = np.nan
    with pytest.raises(ValueError, match="NaN"):
        IPMBalancing().fit(broken, treatment)
    with pytest.raises(ValueError, match="exactly two values"):
        IPMBalancing().fit(X, np.arange(len(X)) % 3)
    with pytest.raises(ValueError, match="Negative values"):
        IPMBalancing().fit(X, treatment, sample_weight=-s)
    with pytest.raises(ValueError, match="sample_weight has"):
        IPMBalancing().fit(X, treatment, sample_weight=s[:-1])
    with pytest.raises(ValueError, match="weights has 3 entries"):
        IPMBalancing().fit(X, treatment).discrepancy(np.ones(3))


@pytest.mark.slow
def test_kang_schafer_figures_of_the_quadratic_program():
    """Bias and effective sample size of the unregularised program with bandwidth 10.

    Bias -1.59, ESS share 0.095 (300 replications; ours are 100 of them, so their errors differ
    by less than three Monte-Carlo standard errors of the 100).
    """
    estimates, shares = [], []
    for seed in range(100):
        study = make_kang_schafer(200, random_state=seed)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            balancer = IPMBalancing(alpha=0, divergence="chi2").fit(study.X, study.treatment)
        treated = study.treatment == 1
        estimates.append(
            study.y[treated].mean()
            - np.average(study.y[~treated], weights=balancer.weights_[~treated])
        )
        shares.append(balancer.ess_[0] / (~treated).sum())
    error = np.std(estimates) / 10
    assert abs(np.mean(estimates) + 1.59) < 3 * error
    assert abs(np.mean(shares) - 0.095) < 3 * np.std(shares) / 10

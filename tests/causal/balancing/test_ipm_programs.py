"""The programs of single arms against reference programs, closed forms and brute force."""

import cvxpy as cp
import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy.optimize import approx_fprime
from scipy.spatial.distance import cdist
from scipy.special import expit
from scipy.stats import wasserstein_distance
from sklearn.gaussian_process.kernels import RBF

from causal import (
    IPMBalancing,
)
from causal.balancing._ipm_arm import ArmProblem, chi2_divergence, kl_divergence
from causal.balancing._ipm_halfspaces import best_rotation, half_space_suprema, rotate_search
from causal.balancing._ipm_kernel import KernelDiscrepancy, rbf_kernel
from causal.balancing._ipm_linear import LinearDiscrepancy
from causal.balancing._ipm_sigmoid import SigmoidDiscrepancy
from causal.balancing._ipm_softmax import SoftmaxModel
from causal.balancing._ipm_transport import spread_sweep, transport
from causal.balancing._ipm_wasserstein import WassersteinDiscrepancy
from reweight.solvers.reference import divergence_reference, quadratic_reference


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


# Linear functions


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

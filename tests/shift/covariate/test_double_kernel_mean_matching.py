"""Facts about double kernel mean matching."""

import pickle

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy.stats import ortho_group
from sklearn.exceptions import ConvergenceWarning

from reweight.exceptions import WeightWarning
from reweight.kernels.kernel_sums import kernel_matrix
from shift import DoubleKernelMeanMatching, KernelMeanMatching

pytestmark = pytest.mark.filterwarnings("ignore::reweight.exceptions.WeightWarning")

# Exact optima of design G, seed 0, p = 5, bandwidth 1.5, found by a conic solver.
OPTIMA = {
    (60, 1): 0.03145487,
    (60, 4): 0.00397136,
    (60, 25): 2.39527e-4,
    (200, 1): 6.512534e-3,
    (200, 4): 4.061720e-4,
    (200, 25): 1.03634e-5,
}


def design_g(n, t=None, p=5, seed=0):
    rng = np.random.default_rng(seed)
    X = rng.normal(0, 1, (n, p))
    return X, rng.normal(0.7, 0.8, (t or n, p))


def fitted(n=60, D=4.0, bandwidth=1.5, **parameters):
    X, X_target = design_g(n)
    return DoubleKernelMeanMatching(D, bandwidth=bandwidth, **parameters).fit(X, X_target=X_target)


def witness(X, X_target, weighter, rows):
    """f of eq. (10), by the plain sums."""
    at_source = kernel_matrix(rows, X, "rbf", weighter.bandwidth_) @ weighter.raw_weights_
    at_target = kernel_matrix(rows, X_target, "rbf", weighter.bandwidth_)
    return at_source / len(X) - at_target @ weighter.raw_target_weights_ / len(X_target)


def objective(X, X_target, weighter):
    f, g = (witness(X, X_target, weighter, rows) for rows in (X, X_target))
    return weighter.raw_weights_ @ f / len(X) - weighter.raw_target_weights_ @ g / len(X_target)


@pytest.mark.parametrize(("n", "D"), OPTIMA)
def test_pinned_optima_are_reached(n, D):
    weighter = fitted(n, D)
    assert_allclose(weighter.objective_, OPTIMA[n, D], rtol=2e-6)
    assert weighter.optimality_gap_ < 1e-8
    assert_allclose(objective(*design_g(n), weighter), weighter.objective_, rtol=1e-9)


@pytest.mark.parametrize("solver", ["exact", "gradient", "landmarks", "cvxpy"])
@pytest.mark.parametrize("D", [1, 1.5625, 4, 25, np.inf])
def test_every_solver_is_feasible_and_its_gap_holds(solver, D):
    weighter = fitted(60, D, solver=solver, tol=1e-3, random_state=0, n_components=60)
    beta, alpha = weighter.raw_weights_, weighter.raw_target_weights_
    assert beta.min() >= 0
    assert alpha.min() >= 0
    assert alpha.max() <= 1
    if np.isfinite(D):
        r = 1 - 1 / np.sqrt(D)
        assert beta.max() <= 1000 / np.sqrt(D)
        assert np.linalg.norm(alpha - 1) <= r * np.sqrt(60) + 1e-8
        assert alpha.mean() >= 1 / np.sqrt(D) - 1e-8
    else:
        assert_allclose(beta, 1, rtol=1e-12)
    assert abs(beta.mean() - alpha.mean()) <= 1 - 1 / np.sqrt(60) + 1e-8
    excess = weighter.objective_ - fitted(60, D).objective_
    assert -1e-12 <= excess <= weighter.optimality_gap_ * (2 / 60) + 1e-12


@pytest.mark.parametrize("solver", ["gradient", "landmarks", "cvxpy"])
def test_solvers_agree_on_the_objective_and_on_means_but_not_on_rows(solver):
    X, _ = design_g(60)
    exact = fitted(60)
    other = fitted(60, solver=solver, tol=1e-5, n_components=200, random_state=0)
    assert_allclose(other.objective_, exact.objective_, atol=2e-5 * 2 / 60)
    assert_allclose(
        other.raw_weights_ @ np.tanh(X), exact.raw_weights_ @ np.tanh(X), atol=0.02 * 60
    )


def test_d_one_is_kernel_mean_matching():
    X, X_target = design_g(60)
    single = KernelMeanMatching(1.5).fit(X, X_target=X_target)
    double = fitted(60, 1)
    assert_array_equal(double.raw_target_weights_, 1.0)
    assert_allclose(double.objective_, single.objective_, rtol=1e-12)
    assert_allclose(double.raw_weights_, single.raw_weights_, rtol=1e-12)


def test_objective_falls_in_d_at_least_as_fast_as_one_over_d():
    grid = [1 / (1 - 0.1 * level) ** 2 for level in range(10)]
    values = np.array([fitted(60, D).objective_ for D in grid])
    assert np.diff(values).max() < 1e-12
    assert (values <= values[0] / np.array(grid) + 1e-12).all()


@pytest.mark.parametrize("D", [4, 25])
def test_optimality_conditions_of_the_exact_solution(D):
    X, X_target = design_g(60)
    weighter = fitted(60, D)
    beta, alpha = weighter.raw_weights_, weighter.raw_target_weights_
    f = witness(X, X_target, weighter, X)
    assert f.min() >= -1e-8
    assert_allclose(f[beta > 1e-6], 0, atol=1e-7)
    assert_allclose(np.linalg.norm(alpha - 1), (1 - 1 / np.sqrt(D)) * np.sqrt(60), atol=1e-6)


@pytest.mark.parametrize("D", [1.5625, 4, 25])
def test_target_weights_extend_to_new_rows(D):
    _, X_target = design_g(60)
    weighter = fitted(60, D)
    extended = weighter.predict_target_weights(X_target)
    assert_allclose(extended, weighter.raw_target_weights_, atol=1e-4)
    far = weighter.predict_target_weights(X_target + 100)
    assert_allclose(far, 1, atol=1e-12)  # where neither sample is, the bound pulls alpha to one


def test_target_weights_extend_with_a_ridge_and_with_the_means_held():
    _, X_target = design_g(60)
    for options in ({"alpha": 0.01}, {"mean_tolerance": 0.01}):
        weighter = fitted(60, 4, **options)
        extended = weighter.predict_target_weights(X_target)
        assert_allclose(extended, weighter.raw_target_weights_, atol=1e-4)


def test_target_weights_without_a_ball():
    _, X_target = design_g(60)
    assert_array_equal(fitted(60, 1).predict_target_weights(X_target[:5]), 1.0)
    robust = fitted(60, np.inf)
    assert_allclose(
        robust.predict_target_weights(X_target),
        robust.raw_target_weights_,
        atol=1e-12,
    )


@pytest.mark.parametrize("tolerance", [0.0, 0.02, 0.2])
def test_bound_on_the_means_holds_and_costs(tolerance):
    free, bound = fitted(60, 4), fitted(60, 4, mean_tolerance=tolerance)
    difference = bound.raw_weights_.mean() - bound.raw_target_weights_.mean()
    assert abs(difference) <= tolerance + 1e-8
    assert bound.objective_ >= free.objective_ - 1e-12
    reference = fitted(60, 4, mean_tolerance=tolerance, solver="cvxpy")
    assert_allclose(bound.objective_, reference.objective_, rtol=1e-5)
    gradient = fitted(60, 4, mean_tolerance=tolerance, solver="gradient", tol=1e-4)
    assert gradient.objective_ - bound.objective_ <= 1e-4 * 2 / 60


def test_target_equal_to_source_is_matched_exactly():
    X, _ = design_g(50)
    weighter = DoubleKernelMeanMatching(1, bandwidth=1.5).fit(X, X_target=X)
    assert weighter.objective_ < 1e-12
    assert_allclose(weighter.raw_weights_ @ np.sin(X) / 50, np.sin(X).mean(axis=0), atol=1e-4)


def test_landmarks_at_all_rows_are_the_whole_kernel():
    for D in (1, 4):
        dense = fitted(60, D, solver="gradient", tol=1e-4)
        landmarks = fitted(60, D, solver="landmarks", n_components=120, tol=1e-4, random_state=0)
        gaps = (dense.optimality_gap_ + landmarks.optimality_gap_) * 2 / 60
        assert abs(dense.objective_ - landmarks.objective_) <= gaps + 1e-9


@pytest.mark.parametrize("D", [1, 4, np.inf])
def test_gap_of_few_landmarks_is_about_the_whole_kernel(D):
    exact = fitted(200, D)
    rough = fitted(200, D, solver="landmarks", n_components=25, random_state=0)
    excess = rough.objective_ - exact.objective_
    assert 0 <= excess <= rough.optimality_gap_ * 2 / 200
    assert_allclose(rough.objective_, objective(*design_g(200), rough), rtol=1e-6)
    only_landmarks = fitted(
        200, D, solver="landmarks", n_components=25, random_state=0, certify="landmarks"
    )
    assert only_landmarks.optimality_gap_ <= rough.optimality_gap_
    assert only_landmarks.objective_ <= rough.objective_ + 1e-12


def test_rotation_translation_and_scale_do_not_matter():
    X, X_target = design_g(60)
    rotation = ortho_group.rvs(5, random_state=0)
    plain = fitted(60, 4, alpha=0.01)
    moved = DoubleKernelMeanMatching(4, bandwidth=4.5, alpha=0.01).fit(
        3 * X @ rotation + 7, X_target=3 * X_target @ rotation + 7
    )
    assert_allclose(moved.objective_, plain.objective_, rtol=1e-8)
    assert_allclose(moved.raw_weights_, plain.raw_weights_, atol=1e-5)
    assert_allclose(moved.raw_target_weights_, plain.raw_target_weights_, atol=1e-6)


def test_order_of_rows_does_not_matter():
    X, X_target = design_g(60)
    rng = np.random.default_rng(1)
    order, order_target = rng.permutation(60), rng.permutation(60)
    plain = fitted(60, 4, alpha=0.01)
    moved = DoubleKernelMeanMatching(4, bandwidth=1.5, alpha=0.01)
    moved.fit(X[order], X_target=X_target[order_target])
    assert_allclose(moved.raw_weights_, plain.raw_weights_[order], atol=1e-6)
    assert_allclose(moved.raw_target_weights_, plain.raw_target_weights_[order_target], atol=1e-6)


def test_bandwidth_rule_follows_the_scale():
    X, X_target = design_g(60)
    length = DoubleKernelMeanMatching().fit(X, X_target=X_target).bandwidth_
    scaled = DoubleKernelMeanMatching().fit(3 * X, X_target=3 * X_target).bandwidth_
    assert_allclose(scaled, 3 * length)
    pooled = np.concatenate([X, X_target])
    distances = np.sqrt(((pooled[:, None] - pooled) ** 2).sum(axis=2))
    assert_allclose(length, np.sort(distances, axis=1)[:, 49].mean())


def test_ridge_makes_weights_unique():
    exact = fitted(60, 4, alpha=0.01)
    for solver in ("cvxpy", "gradient", "landmarks"):
        other = fitted(60, 4, alpha=0.01, solver=solver, tol=1e-9, n_components=120, max_iter=20000)
        assert_allclose(other.raw_weights_, exact.raw_weights_, atol=2e-3)
        assert_allclose(other.objective_, exact.objective_, rtol=1e-6)
    auto = fitted(60, 4, alpha="auto")
    assert_allclose(auto.raw_weights_, fitted(60, 4, alpha=0.1 * 2 / 60).raw_weights_)
    assert auto.ess_ > fitted(60, 4).ess_


@pytest.mark.parametrize(
    ("q", "tolerance", "beta"), [(0.6, 0.0, 1.0), (0.6, 1.0, 0.6), (0.6, 0.1, 0.9)]
)
def test_one_row_on_each_side_has_a_closed_form(q, tolerance, beta):
    x_target = [[np.sqrt(-2 * np.log(q))]]
    weighter = DoubleKernelMeanMatching(1, bandwidth=1.0, mean_tolerance=tolerance)
    weighter.fit([[0.0]], X_target=x_target)
    assert_allclose(weighter.raw_weights_, [beta], atol=1e-8)
    assert_allclose(weighter.objective_, beta**2 - 2 * beta * q + 1, atol=1e-8)
    same = DoubleKernelMeanMatching(1, bandwidth=1.0).fit([[3.0]], X_target=[[3.0]])
    assert_allclose([same.raw_weights_[0], same.objective_], [1.0, 0.0], atol=1e-8)


def test_sampling_weights_count_as_copies():
    X, X_target = design_g(40, 30)
    s = np.random.default_rng(1).integers(0, 4, size=40)
    for D in (1, 4, np.inf):
        weighter = DoubleKernelMeanMatching(D, bandwidth=1.5, mean_tolerance=0.5)
        weighted = weighter.fit(X, X_target=X_target, sample_weight=s)
        value = weighted.objective_
        assert_allclose(weighted.raw_weights_[s == 0], 0)
        assert_allclose(objective(X, X_target, weighted), value, rtol=1e-8)
        copies = weighter.fit(np.repeat(X, s, axis=0), X_target=X_target)
        assert_allclose(copies.objective_, value, rtol=1e-6)


def test_large_samples_take_landmarks_and_stay_certified():
    X, X_target = design_g(3000, 2500, p=2)
    for D in (1, 4, np.inf):
        weighter = DoubleKernelMeanMatching(D, bandwidth=1.0, random_state=0)
        weighter.fit(X, X_target=X_target)
        assert weighter.solver_result_.converged
        assert weighter.optimality_gap_ <= 0.05
        assert_allclose(weighter.weights_.mean(), 1)


def test_single_precision_features_do_not_change_the_objective(monkeypatch):
    import shift.covariate._matching_problem as matching

    double = fitted(200, 4, solver="landmarks", n_components=100, random_state=0)
    monkeypatch.setattr(matching, "SINGLE_PRECISION_ROWS", 10)
    single = fitted(200, 4, solver="landmarks", n_components=100, random_state=0)
    assert_allclose(single.objective_, double.objective_, rtol=1e-3)
    assert_allclose(single.raw_weights_, double.raw_weights_, atol=1e-3)


def test_too_few_iterations_are_said():
    with pytest.warns(ConvergenceWarning, match=r"certified only to .* raise max_iter=3"):
        fitted(60, 4, solver="gradient", max_iter=3)


def test_too_few_landmarks_are_said():
    with pytest.warns(WeightWarning, match="raise n_components or tol"):
        fitted(200, 1, solver="landmarks", n_components=5, random_state=0)


def test_little_overlap_is_said():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(60, 1))
    X_target = np.r_[rng.normal(size=(12, 1)), rng.normal(4.5, 0.1, size=(48, 1))]
    with pytest.warns(WeightWarning, match="overlap little"):
        DoubleKernelMeanMatching(np.inf, bandwidth=0.3).fit(X, X_target=X_target)


def test_degenerate_kernels_are_said():
    with (
        pytest.warns(WeightWarning, match=r"bandwidth 0.001 the kernel is 0 .* larger"),
        pytest.raises(ValueError, match="weights vanish on every row"),
    ):
        fitted(60, 4, bandwidth=1e-3)
    with pytest.warns(WeightWarning, match=r"the kernel is 1 .* median distance is .* smaller"):
        fitted(60, 4, bandwidth=1e6)


def test_neighbour_rule_on_few_rows_is_said():
    X, X_target = design_g(20)
    with pytest.warns(WeightWarning, match="have 40 rows together"):
        DoubleKernelMeanMatching().fit(X, X_target=X_target)


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"D": 0.5}, "The 'D' parameter"),
        ({"D": np.nan}, "The 'D' parameter"),
        ({"mean_tolerance": -0.1}, "The 'mean_tolerance' parameter"),
        ({"max_weight": 0.5, "mean_tolerance": 0.1, "D": 1}, r"max_weight=0.5 .* at least .* 0.9"),
        ({"bandwidth": 0.0}, "bandwidth"),
        ({"bandwidth": [1.0, 2.0]}, "bandwidth has shape"),
        ({"solver": "magic"}, "The 'solver' parameter"),
    ],
)
def test_bad_parameters_are_named(parameters, message):
    X, X_target = design_g(30)
    with pytest.raises(ValueError, match=message):
        DoubleKernelMeanMatching(**parameters).fit(X, X_target=X_target)


def test_duplicates_give_bandwidth_zero():
    X = np.repeat([[1.0, 2.0]], 60, axis=0)
    with pytest.raises(ValueError, match="bandwidth is 0"):
        DoubleKernelMeanMatching().fit(X, X_target=X)


def test_pickle_extends_target_weights_without_the_problem():
    _, X_target = design_g(60)
    weighter = fitted(60, 4)
    copy = pickle.loads(pickle.dumps(weighter))
    assert_array_equal(
        copy.predict_target_weights(X_target), weighter.predict_target_weights(X_target)
    )
    assert not hasattr(copy, "_problem")


def test_without_target_rows_nothing_shifts():
    X, _ = design_g(30)
    with pytest.warns(WeightWarning, match="no shift"):
        weighter = DoubleKernelMeanMatching().fit(X)
    assert_array_equal(weighter.weights_, 1.0)
    assert weighter.raw_target_weights_.shape == (0,)
    assert_array_equal(weighter.predict_target_weights(X[:3]), 1.0)

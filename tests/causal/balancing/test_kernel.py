"""Kernel and energy balancing: exact programs, landmarks, limits, identities and refusals."""

import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy.spatial.distance import cdist
from scipy.special import expit
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV, StratifiedKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from causal import (
    EnergyBalancing,
    EntropyBalancing,
    IPMBalancing,
    KernelBalancing,
    StableBalancing,
)
from reweight.diagnostics.distances import mmd
from reweight.exceptions import InfeasibleError, WeightWarning
from reweight.kernels.kernel_sums import kernel_matrix
from reweight.solvers.reference import divergence_reference, quadratic_reference

ESTIMANDS = ["ATE", "ATT", "ATC"]
KERNELS = {
    "rbf": {"bandwidth": 1.5},
    "laplacian": {"bandwidth": 1.5},
    "matern": {"bandwidth": 1.5, "kernel_params": {"nu": 2.5}},
    "energy": {},
    "linear": {},
    "polynomial": {"kernel_params": {"degree": 2}},
}


@pytest.fixture(scope="module")
def study():
    rng = np.random.default_rng(4)
    X = rng.standard_normal((90, 3)) @ np.array([[1, 0.4, 0], [0, 1, 0.2], [0, 0, 2.0]]) + 1
    treatment = (rng.random(90) < expit(0.7 * X[:, 0] - 0.3 * X[:, 2] - 0.2)).astype(int)
    return X, treatment


def arm(balancer, treatment, label):
    w = balancer.weights_[treatment == label]
    return w / w.sum()


def means(balancer, X, treatment, label):
    return arm(balancer, treatment, label) @ X[treatment == label]


def standardized(X, sample_weight=None):
    mean = np.average(X, axis=0, weights=sample_weight)
    return (X - mean) / np.sqrt(np.average((X - mean) ** 2, axis=0, weights=sample_weight))


def squared_discrepancy(K, w, r):
    """w'Kw - 2 w'Kr + r'Kr, with w and r over all rows."""
    return (w - r) @ K @ (w - r)


@pytest.mark.parametrize("kernel", ["rbf", "energy"])
def test_exact_program_agrees_with_cvxpy(study, kernel):
    X, t = study
    alpha = 1e-4
    balancer = KernelBalancing(
        "ATT", kernel=kernel, bandwidth=1.5, divergence="chi2", alpha=alpha, exact_moments=0
    ).fit(X, t)
    K = kernel_matrix(standardized(X), standardized(X), kernel, balancer.bandwidth_)
    r = t / t.sum()
    # Centred at the target's mean the matrix is positive semidefinite for any kernel.
    P = np.eye(len(X)) - np.outer(np.ones(len(X)), r)
    G = (P @ K @ P.T)[np.ix_(t == 0, t == 0)]
    n = len(G)
    values, vectors = np.linalg.eigh(G)
    F = vectors * np.sqrt(np.maximum(values, 0))
    reference = quadratic_reference(F, np.zeros(n), diagonal=alpha * n)
    w = arm(balancer, t, 0)
    objective = 0.5 * w @ G @ w + 0.5 * alpha * n * w @ w
    assert balancer.solver_ == "qp"
    assert objective == pytest.approx(reference.objective, rel=1e-7)
    assert objective <= reference.objective * (1 + 1e-8)
    assert balancer.mmd_[0] ** 2 == pytest.approx(w @ G @ w, rel=1e-9)
    slope = G @ w + alpha * n * w
    assert_allclose(slope[w > 0], slope[w > 0].mean(), atol=1e-10)
    assert slope[w == 0].min(initial=np.inf) >= slope[w > 0].mean() - 1e-10


def test_improved_energy_program_is_the_sum_of_three_energies(study):
    X, t = study
    n, alpha = len(X), 1e-4
    D = cdist(standardized(X), standardized(X))
    balancer = EnergyBalancing("ATE", alpha=alpha).fit(X, t)

    def energy(u, v):
        return 2 * u @ D @ v - u @ D @ u - v @ D @ v

    everyone = np.ones(n) / n

    def objective(weights):
        w1, w0 = (np.where(t == a, weights, 0) / weights[t == a].sum() for a in (1, 0))
        energies = energy(w1, everyone) + energy(w0, everyone) + energy(w1, w0)
        ridge = sum((w**2).sum() * (t == a).sum() for a, w in ((1, w1), (0, w0)))
        return 0.5 * energies + 0.5 * alpha * ridge

    best = objective(balancer.weights_)
    assert balancer.converged_
    rng = np.random.default_rng(0)
    for _ in range(200):
        other = np.maximum(balancer.weights_ + 0.02 * rng.standard_normal(n), 0)
        assert objective(other) > best
    separate = EnergyBalancing("ATE", alpha=alpha, improved=False).fit(X, t)
    assert objective(separate.weights_) > best
    w1, w0 = (np.where(t == a, balancer.weights_, 0) / (t == a).sum() for a in (1, 0))
    v1, v0 = (np.where(t == a, separate.weights_, 0) / (t == a).sum() for a in (1, 0))
    assert energy(w1, w0) < energy(v1, v0)
    assert energy(w1, everyone) > energy(v1, everyone)


def test_energy_identity(study):
    X, _ = study
    rng = np.random.default_rng(0)
    D = cdist(X, X)
    w, r = rng.dirichlet(np.ones(len(X)), size=2)
    z = rng.standard_normal((1, 3))
    K0 = cdist(X, z) + cdist(X, z).T - D
    assert_allclose(
        2 * w @ D @ r - w @ D @ w - r @ D @ r, squared_discrepancy(K0, w, r), rtol=1e-10
    )


@pytest.mark.parametrize("exact_moments", [0, 1])
@pytest.mark.parametrize("estimand", ESTIMANDS)
@pytest.mark.parametrize("kernel", KERNELS)
def test_all_rows_as_landmarks_equal_the_exact_program(study, kernel, estimand, exact_moments):
    X, t = study
    options = {
        "kernel": kernel,
        "divergence": "chi2",
        "alpha": 1e-3,
        "exact_moments": exact_moments,
        **KERNELS[kernel],
    }
    exact = KernelBalancing(estimand, solver="qp", **options).fit(X, t)
    landmarks = KernelBalancing(estimand, solver="landmarks", n_components=90, **options).fit(X, t)
    assert exact.converged_
    assert landmarks.converged_
    assert_allclose(landmarks.weights_, exact.weights_, atol=1e-6)
    for label, value in exact.mmd_.items():
        assert landmarks.mmd_[label] == pytest.approx(value, rel=1e-5, abs=1e-7)


@pytest.mark.parametrize("exact_moments", [0, 1])
def test_joint_landmarks_equal_the_joint_program(study, exact_moments):
    X, t = study
    options = {"alpha": 1e-3, "exact_moments": exact_moments}
    exact = EnergyBalancing("ATE", solver="qp", **options).fit(X, t)
    landmarks = EnergyBalancing("ATE", solver="landmarks", **options).fit(X, t)
    assert_allclose(landmarks.weights_, exact.weights_, atol=1e-6)
    assert_allclose(landmarks.predict_weights(X, t), landmarks.weights_, atol=1e-7)


def test_kl_with_all_landmarks_agrees_with_cvxpy(study):
    X, t = study
    alpha = 1e-2
    balancer = KernelBalancing("ATC", bandwidth=1.5, alpha=alpha, exact_moments=0).fit(X, t)
    K = kernel_matrix(standardized(X), standardized(X), "rbf", 1.5)
    values, vectors = np.linalg.eigh(K)
    F = vectors * np.sqrt(np.maximum(values, 0))
    C = F[t == 1] - F[t == 0].mean(axis=0)
    kept = np.abs(C).max(axis=0) > 1e-6
    reference = divergence_reference(C[:, kept], np.ones(len(C)), alpha=np.full(kept.sum(), alpha))
    assert_allclose(arm(balancer, t, 1), reference.x, atol=2e-6)


@pytest.mark.parametrize("exact_moments", [1, 2])
@pytest.mark.parametrize("estimand", ESTIMANDS)
@pytest.mark.parametrize("options", [{}, {"divergence": "chi2"}, {"kernel": "energy"}])
def test_moments_are_met_exactly(study, estimand, exact_moments, options):
    X, t = study
    balancer = KernelBalancing(estimand, exact_moments=exact_moments, bandwidth=1.5, **options)
    balancer.fit(X, t)
    goal = {"ATE": np.ones(90), "ATT": t, "ATC": 1 - t}[estimand]
    for label in balancer.mmd_:
        for power in range(1, exact_moments + 1):
            target = np.average(X**power, axis=0, weights=goal)
            assert_allclose(means(balancer, X**power, t, label), target, atol=1e-7)
    assert balancer.max_imbalance_ < 1e-8


@pytest.mark.parametrize("divergence", ["kl", "chi2"])
@pytest.mark.parametrize("solver", ["qp", "landmarks"])
def test_a_huge_alpha_leaves_the_base_weights(study, divergence, solver):
    if (divergence, solver) == ("kl", "qp"):
        return
    X, t = study
    s = np.random.default_rng(0).uniform(0.5, 2, 90)
    balancer = KernelBalancing(
        "ATE", divergence=divergence, solver=solver, alpha=1e8, exact_moments=0, bandwidth=1.0
    ).fit(X, t, sample_weight=s)
    for label in (0, 1):
        assert_allclose(arm(balancer, t, label), s[t == label] / s[t == label].sum(), rtol=1e-6)


@pytest.mark.parametrize(
    ("divergence", "other"),
    [
        ("kl", EntropyBalancing("ATT")),
        ("el", EntropyBalancing("ATT", divergence="el")),
        ("chi2", StableBalancing("ATT", max_smd=0.0)),
    ],
)
def test_linear_kernel_without_a_ridge_is_balance_of_means(study, divergence, other):
    X, t = study
    balancer = KernelBalancing(
        "ATT", kernel="linear", alpha=1e-8, exact_moments=0, divergence=divergence
    ).fit(X, t)
    assert_allclose(balancer.weights_, other.fit(X, t).weights_, atol=1e-6)


def test_smaller_alpha_leaves_less_discrepancy_and_fewer_effective_rows(study):
    X, t = study
    fits = [KernelBalancing(alpha=alpha, bandwidth=1.5).fit(X, t) for alpha in (1, 1e-2, 1e-4)]
    left, rows = [fit.mmd_[0] for fit in fits], [fit.ess_[0] for fit in fits]
    assert left[0] > left[1] > left[2]
    assert rows[0] > rows[1] > rows[2]


@pytest.mark.parametrize(
    "balancer",
    [
        KernelBalancing("ATT", standardize="mahalanobis", bandwidth=1.5),
        EnergyBalancing("ATE", standardize="mahalanobis"),
        EnergyBalancing("ATE", standardize="mahalanobis", solver="landmarks"),
    ],
)
def test_mahalanobis_distances_ignore_affine_maps(study, balancer):
    X, t = study
    A = np.array([[2.0, 1.0, 0.0], [0.0, -3.0, 1.0], [0.5, 0.0, 100.0]])
    weights = clone(balancer).fit(X, t).weights_
    assert_allclose(clone(balancer).fit(X @ A + 7, t).weights_, weights, atol=2e-6)


@pytest.mark.parametrize(
    "balancer", [KernelBalancing("ATE"), EnergyBalancing("ATE"), EnergyBalancing("ATT")]
)
def test_units_of_columns_do_not_matter(study, balancer):
    X, t = study
    weights = clone(balancer).fit(X, t).weights_
    assert_allclose(
        clone(balancer).fit(X * [1e3, 1e-3, 1] + [0, 5, -2], t).weights_, weights, atol=1e-7
    )


@pytest.mark.parametrize("cls", [KernelBalancing, EnergyBalancing])
def test_atc_is_att_with_labels_swapped(study, cls):
    X, t = study
    assert_allclose(cls("ATC").fit(X, t).weights_, cls("ATT").fit(X, 1 - t).weights_, atol=1e-9)


@pytest.mark.parametrize(
    "balancer",
    [
        EnergyBalancing("ATE"),
        EnergyBalancing("ATT", exact_moments=1),
        EnergyBalancing("ATE", solver="landmarks"),
        KernelBalancing("ATE", bandwidth=1.2),
        KernelBalancing("ATT", bandwidth=1.2, divergence="chi2", alpha=1e-6),
    ],
)
def test_a_sample_weight_is_a_number_of_rows(study, balancer):
    X, t = study
    s = np.random.default_rng(2).integers(0, 4, 90)
    index = np.repeat(np.arange(90), s)
    weighted = clone(balancer).fit(X, t, sample_weight=s).weights_
    repeated = np.bincount(index, clone(balancer).fit(X[index], t[index]).weights_, 90)
    for label in (0, 1):
        rows = t == label
        assert_allclose(
            repeated[rows] / repeated[rows].sum(),
            weighted[rows] / weighted[rows].sum(),
            atol=1e-8,
        )


def test_base_weights_move_the_solution_but_not_the_target(study):
    X, t = study
    base = np.random.default_rng(3).uniform(0.2, 3, 90)
    near = KernelBalancing("ATT", alpha=1e6, exact_moments=0).fit(X, t, base_weight=base)
    assert_allclose(arm(near, t, 0), base[t == 0] / base[t == 0].sum(), rtol=1e-4)
    assert np.all(near.weights_[t == 1] == 1)
    near, far = (KernelBalancing("ATT").fit(X, t, base_weight=b) for b in (base, None))
    assert not np.allclose(near.weights_, far.weights_, atol=0.01)
    for fit in (near, far):
        assert_allclose(means(fit, X, t, 0), X[t == 1].mean(axis=0), atol=1e-7)


def test_landmarks_count_what_they_miss():
    rng = np.random.default_rng(1)
    X = rng.standard_normal((1200, 4))
    t = (rng.random(1200) < expit(1.5 * X[:, 0] - 0.7 * X[:, 1])).astype(int)
    exact = EnergyBalancing("ATT").fit(X, t)
    few = EnergyBalancing("ATT", solver="landmarks", n_components=60, random_state=0).fit(X, t)
    K = -cdist(standardized(X), standardized(X))
    r = t / t.sum()

    def left(balancer):
        w = np.where(t == 0, balancer.weights_, 0) / (t == 0).sum()
        return np.sqrt(squared_discrepancy(K, w, r))

    assert exact.mmd_[0] == pytest.approx(left(exact), rel=1e-9)
    # Fitted to the features alone, the distance would double.
    assert left(few) < 1.1 * left(exact)
    assert few.mmd_[0] == pytest.approx(left(few), rel=0.1)
    assert np.corrcoef(few.weights_, exact.weights_)[0, 1] > 0.9


@pytest.mark.parametrize("divergence", ["kl", "chi2", "el"])
def test_tiny_alpha_on_few_rows_converges(divergence):
    # Started from zero, Newton's method on these programs does not end.
    rng = np.random.default_rng(0)
    X = rng.standard_normal((60, 2))
    t = (rng.random(60) < expit(1.5 * X[:, 0])).astype(int)
    balancer = KernelBalancing(
        "ATT", alpha=1e-7, bandwidth=0.5, divergence=divergence, solver="landmarks"
    ).fit(X, t)
    assert balancer.converged_
    assert balancer.max_imbalance_ < 1e-7


def test_auto_alpha_takes_the_largest_that_balances_what_it_judges(study):
    X, t = study
    options = {"estimand": "ATT", "kernel": "linear", "exact_moments": 0}
    balancer = KernelBalancing(alpha="auto", **options).fit(X, t)
    assert balancer.max_imbalance_ <= 0.01
    above = KernelBalancing(alpha=10 * balancer.alpha_, **options).fit(X, t)
    assert above.max_imbalance_ > 0.01
    fixed = KernelBalancing(alpha=balancer.alpha_, **options).fit(X, t)
    assert_allclose(fixed.weights_, balancer.weights_, atol=1e-8)


def test_auto_alpha_says_when_nothing_balances_enough():
    rng = np.random.default_rng(0)
    X = rng.standard_normal((40, 6))
    t = (X[:, 0] + 0.8 * rng.standard_normal(40) > 0).astype(int)
    with pytest.warns(WeightWarning, match="alpha='auto' found no strength"):
        KernelBalancing("ATT", alpha="auto", on_infeasible="relax").fit(X, t)


def test_score_prefers_a_sensible_bandwidth(study):
    X, t = study
    folds = list(StratifiedKFold(3).split(X, t))
    for scoring in ("smd", "mmd"):
        search = GridSearchCV(
            KernelBalancing("ATT", alpha=1e-3, scoring=scoring),
            {"bandwidth": [0.1, 2.0]},
            cv=folds,
        ).fit(X, t)
        scores = search.cv_results_["mean_test_score"]
        assert np.all(np.isfinite(scores))
        assert np.all(scores < 0)
    pipe = make_pipeline(StandardScaler(), KernelBalancing("ATE")).fit(X, t)
    assert pipe[-1].weights_.shape == (90,)


@pytest.mark.parametrize("options", [{}, {"divergence": "chi2", "solver": "landmarks"}])
@pytest.mark.parametrize("estimand", ESTIMANDS)
def test_estimating_equations_vanish_and_match_numerical_derivatives(study, options, estimand):
    X, t = study
    balancer = KernelBalancing(
        estimand, alpha=0.05, bandwidth=2.0, n_components=8, random_state=0, **options
    ).fit(X, t)
    equations = balancer.estimating_equations()
    assert_allclose(equations.moments.sum(axis=0), 0, atol=1e-7)
    before, duals = balancer.weights_.copy(), {a: d.copy() for a, d in balancer._duals.items()}
    moments, column, step = equations.moments.sum(axis=0), 0, 1e-6
    for label, dual in duals.items():
        for j in range(len(dual)):
            balancer._duals[label] = dual + step * np.eye(len(dual))[j]
            moved = balancer.estimating_equations()
            slope = (moved.moments.sum(axis=0) - moments) / step
            assert_allclose(slope, equations.jacobian[:, column], rtol=1e-3, atol=2e-5)
            rows = t == label
            change = (balancer.predict_weights(X, t) - before) / step
            held = rows.sum() / before[rows].sum()
            assert_allclose(
                change[rows], held * equations.weight_derivative[rows, column], rtol=1e-3, atol=2e-4
            )
            column += 1
        balancer._duals[label] = dual


def test_coupled_and_exact_weights_have_no_estimating_equations(study):
    X, t = study
    assert EnergyBalancing("ATE").fit(X, t).estimating_equations() is None
    assert KernelBalancing("ATE", improved=True).fit(X, t).estimating_equations() is None


def test_new_rows_of_the_exact_program_are_refused_with_the_reason(study):
    X, t = study
    exact = EnergyBalancing("ATT").fit(X, t)
    with pytest.raises(AttributeError) as caught:
        exact.predict_weights(X, t)
    assert "pass solver='landmarks'" in str(caught.value.__cause__)
    assert not hasattr(exact, "score")


def test_signed_weights_may_be_negative(study):
    X, t = study
    with pytest.warns(WeightWarning, match="negative"):
        balancer = KernelBalancing("ATT", divergence="chi2_signed", alpha=1e-6, bandwidth=0.7).fit(
            X, t
        )
    assert balancer.raw_weights_.min() < 0
    assert not hasattr(balancer, "weights_")


@pytest.mark.parametrize("solver", ["qp", "landmarks"])
def test_means_out_of_reach_are_relaxed_with_a_warning_that_says_so(study, solver):
    X, t = study
    X = np.column_stack([X, np.where(t == 0, 3.0, 3.0 + (np.arange(90) % 2))])
    options = {"divergence": "chi2", "solver": solver, "bandwidth": 2.0}
    with pytest.warns(WeightWarning, match="'x3' cannot be balanced exactly"):
        balancer = KernelBalancing("ATT", **options).fit(X, t)
    assert balancer.max_imbalance_ <= balancer.relaxed_max_smd_ * (1 + 1e-6)
    with pytest.raises(InfeasibleError, match="exact_moments=0") as caught:
        KernelBalancing("ATT", on_infeasible="raise", **options).fit(X, t)
    assert caught.value.worst_column == "x3"
    free = KernelBalancing("ATT", exact_moments=0, **options).fit(X, t)
    assert free.relaxed_max_smd_ is None


@pytest.mark.parametrize("solver", ["qp", "landmarks"])
def test_redundant_columns_are_dropped_not_failed(study, solver):
    X, t = study
    group = np.arange(90) % 3
    dummies = np.eye(3)[group]
    balancer = KernelBalancing("ATT", divergence="chi2", solver=solver, bandwidth=2.0).fit(
        np.hstack([X, dummies]), t
    )
    assert balancer.converged_
    assert len(balancer.dropped_columns_) == 1
    assert_allclose(means(balancer, dummies, t, 0), dummies[t == 1].mean(axis=0), atol=1e-8)


def test_constant_columns_do_no_harm(study):
    X, t = study
    constant = np.column_stack([X, np.full(90, 4.0)])
    for balancer in (KernelBalancing("ATT"), EnergyBalancing("ATE")):
        for standardize in ("std", "mahalanobis"):
            balancer.set_params(standardize=standardize)
            weights = clone(balancer).fit(X, t).weights_
            assert_allclose(clone(balancer).fit(constant, t).weights_, weights, atol=1e-6)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"solver": "qp"}, ValueError, "pass divergence='chi2'"),
        ({"alpha": 0.0}, ValueError, "alpha=0 leaves the landmark solver"),
        ({"bandwidth": 0.0}, ValueError, "bandwidth"),
        ({"bandwidth": [1.0, -1.0, 1.0]}, ValueError, "bandwidth must be positive"),
        ({"kernel": "cosine"}, ValueError, "kernel"),
        ({"kernel": "matern", "kernel_params": {"nu": 3}}, ValueError, "nu of the Mat"),
        ({"kernel_params": {"degree": 2}}, TypeError, "has no parameter 'degree'"),
        ({"estimand": "ATO"}, ValueError, "estimand"),
        ({"divergence": "tv"}, ValueError, "divergence"),
        ({"alpha": -1.0}, ValueError, "alpha"),
        ({"exact_moments": -1}, ValueError, "exact_moments"),
        ({"n_components": 0}, ValueError, "n_components"),
    ],
)
def test_parameters_are_checked(study, options, error, message):
    X, t = study
    with pytest.raises(error, match=message):
        KernelBalancing(**{"estimand": "ATT", **options}).fit(X, t)


@pytest.mark.parametrize("cls", [KernelBalancing, EnergyBalancing])
def test_data_are_checked(study, cls):
    X, t = study
    bad = X.copy()
    bad[3, 1] = np.nan
    with pytest.raises(ValueError, match="columns \\['1'\\]"):
        cls().fit(bad, t)
    with pytest.raises(ValueError, match="exactly two values"):
        cls().fit(X, np.arange(90) % 3)
    with pytest.raises(ValueError, match="Negative"):
        cls().fit(X, t, sample_weight=np.r_[-1.0, np.ones(89)])
    with pytest.raises(ValueError, match="zero in every row"):
        cls().fit(X, t, sample_weight=t)
    with pytest.raises(ValueError, match="inconsistent"):
        cls().fit(X, t[:-1])


def test_rows_that_are_all_alike_leave_no_bandwidth_and_say_whose():
    X, treatment = np.ones((20, 2)), np.arange(20) % 2
    message = (
        "{}: bandwidth='median': the bandwidth is 0 because rows are duplicates.*pass a positi"
    )
    with pytest.raises(ValueError, match=message.format("KernelBalancing")):
        KernelBalancing().fit(X, treatment)
    with pytest.raises(ValueError, match=message.format("KernelBalancing")):
        KernelBalancing().fit_chunks([(X, treatment, None)])
    with pytest.raises(ValueError, match=message.format("IPMBalancing")):
        IPMBalancing(ipm="mmd", bandwidth="median").fit(X, treatment)
    # With a bandwidth there is nothing to balance, and weights stay equal.
    weights = KernelBalancing(bandwidth=1.0).fit(X, treatment).weights_
    assert_allclose(weights, 1)


@pytest.mark.slow
def test_published_errors_on_kang_schafer():
    # Kernel balancing with exact means, bandwidth 10, alpha 1e-5: RMSE 3.64 over 100 runs.
    from causal import make_kang_schafer

    errors = []
    for seed in range(100):
        data = make_kang_schafer(200, design="nonlinear", random_state=seed)
        balancer = KernelBalancing("ATT", bandwidth=10.0, alpha=1e-5, on_infeasible="relax").fit(
            data.X, data.treatment
        )
        w, y, t = balancer.weights_, data.y, data.treatment
        errors.append(y[t == 1].mean() - np.average(y[t == 0], weights=w[t == 0]))
    rmse = np.sqrt(np.mean(np.square(errors)))
    assert rmse == pytest.approx(3.64, abs=3 * 3.64 / np.sqrt(200))


@pytest.mark.parametrize("estimand", ["ATE", "ATT", "ATC"])
@pytest.mark.parametrize("exact_moments", [0, 2])
@pytest.mark.parametrize("standardize", ["std", "mahalanobis"])
def test_chunks_give_the_weights_of_the_rows_in_memory(estimand, exact_moments, standardize):
    rng = np.random.default_rng(5)
    X = rng.standard_normal((180, 3)) @ [[1.0, 0.5, 0], [0, 2, 0], [0, 0, 30]]
    treatment = (rng.random(180) < 1 / (1 + np.exp(-X[:, 0]))).astype(int)
    s = rng.uniform(0.5, 2, 180)
    options = {
        "estimand": estimand,
        "alpha": 1e-3,
        "exact_moments": exact_moments,
        "standardize": standardize,
        "n_components": 20,
        "random_state": 0,
    }
    whole = KernelBalancing(**options).fit(X, treatment, sample_weight=s)
    items = [(X[p], treatment[p], s[p]) for p in (slice(0, 70), slice(70, 71), slice(71, 180))]
    for chunks in (items, lambda: iter(items)):
        streamed = KernelBalancing(**options).fit_chunks(chunks)
        assert_allclose(streamed.weights_, whole.weights_, atol=1e-8)
        assert streamed.max_imbalance_ == pytest.approx(whole.max_imbalance_, abs=1e-9)
    assert_allclose(
        streamed.predict_weights(X, treatment), whole.predict_weights(X, treatment), atol=1e-8
    )


def test_many_rows_in_chunks_are_balanced_from_a_sample_of_landmarks():
    rng = np.random.default_rng(6)
    X = rng.standard_normal((30_000, 2))
    treatment = (rng.random(30_000) < 1 / (1 + np.exp(-X[:, 0]))).astype(int)
    items = [(X[i : i + 7000], treatment[i : i + 7000]) for i in range(0, 30_000, 7000)]
    balancer = KernelBalancing(n_components=30, random_state=0).fit_chunks(items)
    assert balancer.max_imbalance_ < 1e-8
    raw = mmd(X[treatment == 0], X[treatment == 1], bandwidth=1.0, max_rows=3000)
    w = balancer.weights_
    rows = treatment == 0
    left = mmd(X[rows], X[~rows], w[rows], w[~rows], bandwidth=1.0, max_rows=3000)
    assert left < 0.2 * raw


@pytest.mark.parametrize(
    "options",
    [
        {"solver": "qp", "divergence": "chi2"},
        {"alpha": "auto"},
        {"estimand": "ATE", "improved": True},
    ],
)
def test_what_needs_all_rows_is_not_streamed(options):
    with pytest.raises(ValueError, match="fit_chunks streams the landmark solver"):
        KernelBalancing(**options).fit_chunks([(np.ones((4, 1)), [0, 1, 0, 1])])


def test_columns_of_any_size_are_standardised():
    rng = np.random.default_rng(7)
    X, treatment = rng.standard_normal((60, 2)), np.tile([0, 1, 1], 20)
    weights = EnergyBalancing("ATT").fit_weights(X, treatment)
    assert_allclose(EnergyBalancing("ATT").fit_weights(1e-70 * X, treatment), weights, atol=1e-6)
    assert_allclose(EnergyBalancing("ATT").fit_weights(1e70 * X, treatment), weights, atol=1e-6)
    with pytest.raises(ValueError, match=r"magnitude .* in column 0; .*rescale"):
        EnergyBalancing("ATT").fit(1e150 * X, treatment)

"""The dual solver against cvxpy, its optimality conditions, its limits and its refusals."""

import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy.optimize import linprog

from reweight.exceptions import InfeasibleError
from reweight.solvers.divergence_dual import divergence_dual, dual_weights
from reweight.solvers.reference import divergence_reference

DIVERGENCES = ["kl", "chi2", "chi2_signed", "el"]
RELAXATIONS = {
    "exact": (0.0, 0.0),
    "box": (0.0, 0.05),
    "ridge": (0.02, 0.0),
    "mixed": (np.array([0.0, 0.0, 0.0, 0.05]), np.array([0.0, 0.02, 0.08, 0.0])),
}


@pytest.fixture(scope="module")
def rows():
    rng = np.random.default_rng(7)
    C = rng.standard_normal((80, 4)) @ np.diag([1.0, 3.0, 0.2, 1.0]) + [0.3, -0.6, 0.05, 0.2]
    return C, rng.uniform(0.5, 1.5, 80)


def primal(x, C, q, divergence, alpha, tolerance):
    """Objective of the primal program, the ridge part included."""
    u = x / (q / q.sum())
    with np.errstate(divide="ignore", invalid="ignore"):
        h = {
            "kl": lambda: np.where(u > 0, u * np.log(u), 0) - u + 1,
            "chi2": lambda: 0.5 * (u - 1) ** 2,
            "chi2_signed": lambda: 0.5 * (u - 1) ** 2,
            "el": lambda: -np.log(u) + u - 1,
        }[divergence]()
    means = x @ C
    alpha = np.broadcast_to(alpha, means.shape)
    ridge = alpha > 0
    return (q / q.sum()) @ h + np.sum(means[ridge] ** 2 / (2 * alpha[ridge]))


@pytest.mark.parametrize("relaxation", RELAXATIONS)
@pytest.mark.parametrize("divergence", DIVERGENCES)
def test_agrees_with_the_cvxpy_primal(rows, divergence, relaxation):
    C, q = rows
    alpha, tolerance = RELAXATIONS[relaxation]
    result = divergence_dual(C, q, divergence=divergence, alpha=alpha, tolerance=tolerance)
    reference = divergence_reference(C, q, divergence=divergence, alpha=alpha, tolerance=tolerance)
    assert result.converged
    assert_allclose(result.x, reference.x, atol=2e-7)
    assert_allclose(
        result.objective,
        primal(result.x, C, q, divergence, alpha, tolerance),
        rtol=1e-9,
        err_msg="strong duality",
    )
    assert result.objective == pytest.approx(reference.objective, rel=1e-7)


@pytest.mark.parametrize("relaxation", RELAXATIONS)
@pytest.mark.parametrize("divergence", DIVERGENCES)
def test_optimality_conditions(rows, divergence, relaxation):
    C, q = rows
    alpha, tolerance = RELAXATIONS[relaxation]
    result = divergence_dual(C, q, divergence=divergence, alpha=alpha, tolerance=tolerance)
    theta, means = result.dual[1:], result.x @ C
    alpha, tolerance = np.broadcast_to(alpha, 4), np.broadcast_to(tolerance, 4)
    assert result.x.sum() == pytest.approx(1, abs=1e-12)
    box = tolerance > 0
    assert_allclose(means[~box], -(alpha * theta)[~box], atol=1e-10)
    assert np.all(np.abs(means[box]) <= tolerance[box] + 1e-10)
    moved = box & (theta != 0)
    assert_allclose(means[moved], -tolerance[moved] * np.sign(theta[moved]), atol=1e-10)
    assert_allclose(
        dual_weights(C, q / q.sum(), result.dual, divergence), result.x, rtol=1e-9, atol=1e-15
    )


@pytest.mark.parametrize("divergence", DIVERGENCES)
def test_streamed_chunks_give_the_weights_of_the_rows_in_memory(rows, divergence):
    C, q = rows
    q = q / q.sum()
    whole = divergence_dual(C, q, divergence=divergence, tolerance=[0, 0, 0.02, 0.02])
    pieces = [(C[:10], q[:10]), lambda: (C[10:55], q[10:55]), (C[55:], q[55:])]
    for chunks in (pieces, lambda: iter(pieces)):
        streamed = divergence_dual(
            chunks, None, divergence=divergence, tolerance=[0, 0, 0.02, 0.02]
        )
        assert streamed.x is None
        assert_allclose(dual_weights(C, q, streamed.dual, divergence), whole.x, atol=1e-12)


def test_box_wider_than_the_imbalance_keeps_the_base_weights(rows):
    C, q = rows
    for divergence in DIVERGENCES:
        result = divergence_dual(C, q, divergence=divergence, tolerance=np.abs(q @ C) / q.sum())
        assert_allclose(result.x, q / q.sum(), atol=1e-12)


def test_center_stands_for_a_shifted_copy(rows):
    C, q = rows
    shift = np.array([5.0, -2.0, 0.5, 100.0])
    moved = divergence_dual(C + shift, q, center=shift)
    assert_allclose(moved.x, divergence_dual(C, q).x, atol=1e-12)


def test_redundant_columns_change_nothing(rows):
    C, q = rows
    wide = np.column_stack([C, C[:, 0] + 2 * C[:, 1], np.zeros(len(C))])
    result = divergence_dual(wide, q)
    assert_allclose(result.x, divergence_dual(C, q).x, atol=1e-11)
    assert (result.dual[1:] == 0).sum() == 2


def test_nearly_redundant_column_is_kept(rows):
    C, q = rows
    noise = np.random.default_rng(0).standard_normal(len(C))
    close = np.column_stack([C, C[:, 0] + 1e-7 * noise])
    result = divergence_dual(close, q, divergence="chi2_signed")
    assert result.dual[5] != 0
    assert_allclose(result.x @ close, 0, atol=1e-9)
    assert abs(result.x @ noise) < 0.01 * abs(divergence_dual(C, q).x @ noise)


def test_rows_of_zero_base_weight_are_left_out(rows):
    C, q = rows
    q = q.copy()
    q[:20] = 0
    result = divergence_dual(C, q)
    assert_allclose(result.x[:20], 0, atol=0)
    assert_allclose(result.x[20:], divergence_dual(C[20:], q[20:]).x, atol=1e-12)


@pytest.mark.parametrize("divergence", DIVERGENCES)
def test_far_rows_of_zero_base_weight_do_no_harm(rows, divergence):
    C, q = rows
    far = np.vstack([C, 1e4 * np.ones((3, 4)), -1e4 * np.ones((3, 4))])
    result = divergence_dual(far, np.r_[q, np.zeros(6)], divergence=divergence)
    assert_allclose(result.x[:-6], divergence_dual(C, q, divergence=divergence).x, atol=1e-11)
    assert_allclose(result.x[-6:], 0, atol=0)


@pytest.mark.parametrize("divergence", ["kl", "chi2", "el"])
def test_infeasible_means_name_the_column_and_the_smallest_tolerance(rows, divergence):
    C, q = rows
    C = C.copy()
    C[:, 2] -= C[:, 2].min() - 0.25
    with pytest.raises(InfeasibleError, match="income") as caught:
        divergence_dual(C, q, divergence=divergence, column_names=["age", "x", "income", "z"])
    smallest = caught.value.smallest_tolerance
    assert caught.value.worst_column == "income"
    assert smallest >= 0.25
    relaxed = divergence_dual(C, q, divergence=divergence, tolerance=1.01 * smallest)
    assert relaxed.converged
    with pytest.raises(InfeasibleError):
        divergence_dual(C, q, divergence=divergence, tolerance=0.99 * smallest)


def test_smallest_tolerance_of_one_column_is_its_distance_to_the_hull():
    C = np.array([[0.5], [1.0], [2.0]])
    with pytest.raises(InfeasibleError) as caught:
        divergence_dual(C, np.ones(3))
    assert caught.value.smallest_tolerance == pytest.approx(0.5, abs=1e-12)


def test_smallest_tolerance_by_column_generation_is_that_of_the_whole_program():
    rng = np.random.default_rng(3)
    C = np.abs(rng.standard_normal((20_000, 3))) + [0.1, -0.2, -0.2]
    ones = np.ones((3, 1))
    whole = linprog(
        np.r_[np.zeros(len(C)), 1.0],
        A_ub=np.block([[C.T, -ones], [-C.T, -ones]]),
        b_ub=np.zeros(6),
        A_eq=[np.r_[np.ones(len(C)), 0.0]],
        b_eq=[1.0],
    ).fun
    chunks = [(part, np.full(len(part), 1 / len(C))) for part in np.split(C, 20)]
    for rows in ((C, np.ones(len(C))), (chunks, None)):
        with pytest.raises(InfeasibleError) as caught:
            divergence_dual(*rows)
        assert caught.value.smallest_tolerance == pytest.approx(whole, rel=1e-7)


@pytest.mark.parametrize("divergence", DIVERGENCES)
def test_constant_column_away_from_the_target_is_infeasible(rows, divergence):
    C, q = rows
    with pytest.raises(InfeasibleError) as caught:
        divergence_dual(np.column_stack([C, np.full(len(C), 0.4)]), q, divergence=divergence)
    assert caught.value.worst_column == 4
    assert caught.value.smallest_tolerance == pytest.approx(0.4, abs=1e-9)


def test_target_on_the_edge_of_the_hull_is_approached():
    C = np.array([[0.0, 1.0], [0.0, -1.0], [1.0, 0.3], [2.0, 0.0]])
    result = divergence_dual(C, np.ones(4))
    assert_allclose(result.x, [0.5, 0.5, 0, 0], atol=1e-7)


def test_large_incomes_do_not_overflow():
    rng = np.random.default_rng(5)
    C = np.exp(rng.normal(9, 1.5, (500, 2))) * [1.0, 1e6]
    C -= np.quantile(C, 0.4, axis=0)
    result = divergence_dual(C, np.ones(500))
    assert result.converged
    assert_allclose(result.x @ C / C.std(axis=0), 0, atol=1e-9)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"divergence": "cauchy"}, "choose one of"),
        ({"alpha": -1.0}, "alpha must be non-negative"),
        ({"tolerance": [0.1, -0.1, 0, 0]}, "tolerance must be non-negative"),
        ({"alpha": 0.1, "tolerance": 0.1}, "relax it by one of them"),
    ],
)
def test_bad_parameters_are_refused(rows, options, message):
    with pytest.raises(ValueError, match=message):
        divergence_dual(*rows, **options)


def test_bad_base_weights_are_refused(rows):
    with pytest.raises(ValueError, match="base_weights must be non-negative"):
        divergence_dual(rows[0], -rows[1])


def test_one_pass_iterator_of_chunks_is_refused(rows):
    with pytest.raises(TypeError, match="read only once"):
        divergence_dual(iter([rows]), None)


@pytest.mark.parametrize("divergence", DIVERGENCES)
def test_a_start_at_the_solution_ends_there_and_a_bad_one_does_no_harm(rows, divergence):
    C, q = rows
    cold = divergence_dual(C, q, divergence=divergence, alpha=0.01)
    warm = divergence_dual(C, q, divergence=divergence, alpha=0.01, start=cold.dual)
    wild = divergence_dual(C, q, divergence=divergence, alpha=0.01, start=np.full(5, 1e3))
    assert warm.n_iter <= 1
    assert_allclose(warm.x, cold.x, atol=1e-10)
    assert_allclose(wild.x, cold.x, atol=1e-8)


def test_a_ridge_on_a_tiny_column_leaves_the_others_alone(rows):
    C, q = rows
    tiny = np.column_stack([C, 1e-9 * C[:, 0] ** 2])
    alpha = np.r_[0.0, 0.0, 0.02, 0.02, 10.0]
    result = divergence_dual(tiny, q, alpha=alpha)
    assert result.converged
    assert_allclose(result.x, divergence_dual(C, q, alpha=alpha[:4]).x, atol=1e-12)

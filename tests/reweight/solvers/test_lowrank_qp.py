"""The interior point method against Clarabel, its optimality conditions, limits and refusals."""

import numpy as np
import pytest
from numpy.testing import assert_allclose

from reweight.exceptions import InfeasibleError
from reweight.solvers.lowrank_qp import lowrank_qp
from reweight.solvers.reference import quadratic_reference

N = 120
GROUPS = np.repeat(["a", "b", "c"], N // 3)
rng = np.random.default_rng(3)
FACTOR = rng.standard_normal((N, 8)) + 0.8
LINEAR = 0.3 * rng.standard_normal(N)
EQUATION = (rng.standard_normal((2, N)), np.array([0.1, -0.5]), np.array([0.1, 0.3]))
FIXED = np.where(np.arange(N) % 10 == 0, 0.02, 0.0)

PROGRAMS = {
    "simplex": {},
    "ridge": {"diagonal": 0.5},
    "uneven ridge, some zero": {"diagonal": np.where(np.arange(N) % 2, 0.7, 0.0)},
    "cap": {"upper": 3 / N, "diagonal": 0.1},
    "cap on some": {"upper": np.where(np.arange(N) % 3, np.inf, 1 / N), "diagonal": 0.1},
    "floor": {"lower": 0.2 / N, "upper": 6 / N, "diagonal": 0.1},
    "negative floor": {"lower": -0.1, "diagonal": 1.0},
    "group sums": {"groups": GROUPS, "total": np.array([1.0, 2.0, 0.5]), "diagonal": 0.1},
    "range": {"total": (0.2, 3.0), "diagonal": 0.1},
    "range that binds": {"total": (5.0, 6.0), "diagonal": 0.1},
    "group ranges": {
        "groups": GROUPS,
        "total": (np.array([0.5, 1.0, 0.0]), np.array([0.9, 1.0, 2.0])),
        "diagonal": 0.1,
        "upper": 0.2,
    },
    "fixed rows": {"lower": FIXED, "upper": np.where(FIXED > 0, FIXED, np.inf), "diagonal": 0.1},
    "equations": {"equations": EQUATION, "diagonal": 0.1},
}


def curvature(diagonal):
    return FACTOR @ FACTOR.T + np.diag(np.broadcast_to(diagonal, (N,)))


@pytest.mark.parametrize("linear", [0.0, 1.0], ids=["no linear term", "linear term"])
@pytest.mark.parametrize("program", PROGRAMS)
def test_agrees_with_clarabel_and_meets_the_optimality_conditions(program, linear):
    options = PROGRAMS[program]
    c = linear * LINEAR
    result = lowrank_qp(FACTOR, c, **options)
    reference = quadratic_reference(FACTOR, c, **options)
    size = abs(reference.objective) + 1e-9
    assert result.converged
    assert result.objective <= reference.objective + 1e-8 * size
    assert result.objective >= reference.objective - 1e-6 * size
    _assert_feasible(result.x, **options)
    slope = curvature(options.get("diagonal", 0.0)) @ result.x - c
    _assert_stationary(slope, result, options)


def _assert_feasible(
    w, lower=0.0, upper=np.inf, total=1.0, groups=None, diagonal=None, equations=None
):
    assert (w >= lower).all()
    assert (w <= upper).all()
    codes = np.zeros(N, int) if groups is None else np.unique(groups, return_inverse=True)[1]
    sums = np.bincount(codes, w)
    low, high = total if isinstance(total, tuple) else (total, total)
    assert np.all(sums >= low - 1e-9 * np.abs(sums))
    assert np.all(sums <= high + 1e-9 * np.abs(sums))
    if equations is not None:
        A, low, high = equations
        assert np.all(A @ w >= low - 1e-9)
        assert np.all(A @ w <= high + 1e-9)


def _assert_stationary(slope, result, options):
    """Prices vanish strictly inside the bounds and have the right sign on them."""
    lower = np.broadcast_to(options.get("lower", 0.0), (N,))
    upper = np.broadcast_to(options.get("upper", np.inf), (N,))
    groups = options.get("groups")
    codes = np.zeros(N, int) if groups is None else np.unique(groups, return_inverse=True)[1]
    k = codes.max() + 1
    price = slope - result.dual[codes]
    if "equations" in options:
        price = price - result.dual[k:] @ options["equations"][0]
    tolerance = 1e-6 * np.abs(slope).max()
    width = np.minimum(upper - lower, 1.0)
    inside = (result.x > lower + 1e-7 * width) & (result.x < upper - 1e-7 * width)
    assert inside.any()
    assert_allclose(price[inside], 0, atol=tolerance)
    movable = upper > lower
    assert price[movable & (result.x <= lower)].min(initial=0.0) >= -tolerance
    assert price[movable & (result.x >= upper)].max(initial=0.0) <= tolerance


def test_the_gap_bounds_the_distance_to_the_minimum():
    reference = quadratic_reference(FACTOR, LINEAR, diagonal=0.1, upper=3 / N)
    for max_iter in (1, 2, 3, 4):
        result = lowrank_qp(FACTOR, LINEAR, diagonal=0.1, upper=3 / N, max_iter=max_iter)
        product = curvature(0.1) @ result.x
        size = 0.5 * result.x @ product + abs(LINEAR @ result.x)
        excess = result.objective - reference.objective
        assert result.n_iter == max_iter
        assert not result.converged
        assert 0 < excess <= result.optimality_gap * size * (1 + 1e-6)


def test_equal_rows_share_a_closed_form():
    # Without a factor the ridge alone is minimised: weights inverse to it, up to the cap.
    diagonal = np.array([1.0, 2.0, 4.0])
    free = lowrank_qp(np.zeros((3, 1)), np.zeros(3), diagonal=diagonal)
    assert_allclose(free.x, np.array([4, 2, 1]) / 7, rtol=1e-9)
    capped = lowrank_qp(np.zeros((3, 1)), np.zeros(3), diagonal=diagonal, upper=0.5)
    assert_allclose(capped.x, [0.5, 1 / 3, 1 / 6], rtol=1e-9)


def test_weights_on_a_bound_are_exactly_on_it():
    result = lowrank_qp(FACTOR, LINEAR, diagonal=0.1, upper=3 / N)
    assert np.sum(result.x == 0) > 10
    assert np.sum(result.x == 3 / N) > 5
    assert result.x[(result.x > 0)].min() > 1e-6 / N


def test_zero_optimum_is_recognised():
    # The mean of many rows in three dimensions can be met exactly.
    F = rng.standard_normal((400, 3))
    result = lowrank_qp(F, np.zeros(400))
    assert result.converged
    assert_allclose(result.x @ F, 0, atol=1e-12)


@pytest.mark.parametrize("size", [1e-6, 1e6])
def test_does_not_depend_on_units(size):
    result = lowrank_qp(FACTOR, LINEAR, diagonal=0.1)
    scaled = lowrank_qp(FACTOR / size, LINEAR / size, diagonal=0.1 / size**2, total=size)
    assert_allclose(scaled.x / size, result.x, atol=1e-9)
    assert scaled.n_iter == result.n_iter


def test_permuting_rows_permutes_weights():
    order = np.random.default_rng(0).permutation(N)
    result = lowrank_qp(FACTOR, LINEAR, diagonal=0.1, upper=3 / N)
    permuted = lowrank_qp(FACTOR[order], LINEAR[order], diagonal=0.1, upper=3 / N)
    assert_allclose(permuted.x, result.x[order], atol=1e-10)


def test_a_group_whose_sum_leaves_no_room_is_held():
    result = lowrank_qp(
        FACTOR, LINEAR, groups=GROUPS, total=np.array([0.0, 1.0, 4.0]), upper=0.1, diagonal=0.1
    )
    assert result.converged
    assert np.all(result.x[GROUPS == "a"] == 0)
    assert np.all(result.x[GROUPS == "c"] == 0.1)
    assert_allclose(result.x[GROUPS == "b"].sum(), 1)


def test_every_row_fixed_is_a_solution():
    result = lowrank_qp(FACTOR, LINEAR, lower=1 / N, upper=1 / N)
    assert np.all(result.x == 1 / N)
    assert result.converged


def test_a_full_factor_serves_a_kernel_matrix():
    X = rng.standard_normal((60, 2))
    K = np.exp(-0.5 * ((X[:, None] - X) ** 2).sum(-1)) + 1e-8 * np.eye(60)
    K_factor = np.linalg.cholesky(K)
    c = K @ rng.dirichlet(np.ones(60))
    result = lowrank_qp(K_factor, c)
    assert result.converged
    slope = K @ result.x - c
    assert slope[result.x > 1e-6].max() - slope.min() < 1e-7


def test_sums_that_the_bounds_exclude_are_refused():
    with pytest.raises(InfeasibleError, match="total asks for"):
        lowrank_qp(FACTOR, LINEAR, upper=0.5 / N)
    with pytest.raises(InfeasibleError, match="group 1"):
        lowrank_qp(FACTOR, LINEAR, groups=GROUPS, total=np.array([1.0, 90.0, 1.0]), upper=2.0)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"diagonal": -1.0}, "diagonal must be non-negative"),
        ({"lower": 1.0, "upper": 0.0}, "lower <= upper"),
        ({"lower": -np.inf}, "lower must be finite"),
        ({"total": (2.0, 1.0)}, "low <= high"),
        ({"total": np.nan}, "finite"),
        ({"groups": np.zeros(3)}, "labels for"),
    ],
)
def test_bad_input_is_named(options, message):
    with pytest.raises(ValueError, match=message):
        lowrank_qp(FACTOR, LINEAR, **options)


def test_shapes_are_checked():
    with pytest.raises(ValueError, match="pass \\(n, r\\)"):
        lowrank_qp(FACTOR, LINEAR[:-1])


@pytest.mark.slow
def test_many_rows_with_a_hard_cap():
    gen = np.random.default_rng(0)
    X = gen.standard_normal((20_000, 4))
    landmarks = X[:100]
    features = np.exp(-((X[:, None] - landmarks) ** 2).sum(-1) / 8)
    treated = gen.random(20_000) < 1 / (1 + np.exp(-X[:, 0]))
    F = features[~treated] - features[treated].mean(axis=0)
    result = lowrank_qp(F, np.zeros(len(F)), diagonal=1e-4, upper=5 / len(F))
    assert result.converged
    assert result.optimality_gap < 1e-8

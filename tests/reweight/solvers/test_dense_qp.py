"""Active sets on dense programs against the interior point method, Clarabel and KKT."""

import numpy as np
import pytest
from numpy.testing import assert_allclose

from reweight.exceptions import InfeasibleError
from reweight.solvers.dense_qp import dense_qp
from reweight.solvers.lowrank_qp import lowrank_qp
from reweight.solvers.reference import quadratic_reference

N = 90
rng = np.random.default_rng(11)
X = rng.standard_normal((N, 2))
D = np.sqrt(((X[:, None] - X) ** 2).sum(-1))
# The centred energy kernel: positive semidefinite with a slowly falling spectrum.
NORM = np.sqrt((X**2).sum(axis=1))
K = NORM[:, None] + NORM - D
F = np.linalg.cholesky(K + 1e-10 * np.eye(N))
TARGET = 0.7 * rng.standard_normal((50, 2)) + [0.8, -0.3]
C = NORM - np.sqrt(((X[:, None] - TARGET) ** 2).sum(-1)).mean(axis=1)
GROUPS = np.arange(N) % 3
MEANS = (X.T, np.array([0.8, -0.1]), np.array([0.8, 0.1]))
FIXED = np.where(np.arange(N) % 10 == 0, 0.02, 0.0)

PROGRAMS = {
    "simplex": {},
    "ridge": {"diagonal": 0.3},
    "cap": {"upper": 2 / N},
    "floor and cap": {"lower": 0.3 / N, "upper": 4 / N},
    "group sums": {"groups": GROUPS, "total": np.array([1.0, 2.0, 0.5])},
    "slack range": {"total": (0.1, 5.0), "diagonal": 0.1},
    "range that binds": {"total": (3.0, 5.0)},
    "equations": {"equations": MEANS},
    "fixed rows": {"lower": FIXED, "upper": np.where(FIXED > 0, FIXED, np.inf)},
    "group without room": {
        "groups": GROUPS,
        "total": np.array([0.0, 1.0, 3.0]),
        "upper": 0.1,
    },
}


@pytest.mark.parametrize("program", PROGRAMS)
def test_agrees_with_clarabel(program):
    options = PROGRAMS[program]
    result = dense_qp(K, C, **options)
    reference = quadratic_reference(F, C, **options)
    assert result.converged
    assert result.optimality_gap <= 1e-8
    assert result.objective == pytest.approx(reference.objective, rel=1e-7)
    assert_allclose(result.x, reference.x, atol=2e-4 / N)


@pytest.mark.parametrize("program", PROGRAMS)
def test_active_sets_and_interior_points_agree(program):
    options = PROGRAMS[program]
    result = dense_qp(K, C, **options)
    other = lowrank_qp(F, C, tol=1e-11, **options)
    assert result.solver == "active-set"
    assert_allclose(result.x, other.x, atol=1e-6 / N)
    assert_allclose(result.dual, other.dual, atol=1e-6)


@pytest.mark.parametrize("program", ["simplex", "cap", "equations"])
def test_prices_on_and_off_the_support(program):
    options = PROGRAMS[program]
    result = dense_qp(K, C, **options)
    upper = np.broadcast_to(options.get("upper", np.inf), (N,))
    price = K @ result.x - C - result.dual[0]
    if program == "equations":
        price = price - result.dual[1:] @ X.T
    inside = (result.x > 0) & (result.x < upper)
    assert 3 < inside.sum() < N
    assert_allclose(price[inside], 0, atol=1e-10)
    assert price[result.x == 0].min(initial=0) >= 0
    assert price[result.x == upper].max(initial=0) <= 0


def test_a_kernel_that_is_definite_only_on_sums_may_be_shifted():
    # Adding a constant to every entry changes nothing on weights that sum to one.
    shifted = dense_qp(K + 7.0, C)
    assert_allclose(shifted.x, dense_qp(K, C).x, atol=1e-9)


def test_singular_matrices_fall_back_to_interior_points():
    rows = np.random.default_rng(0).standard_normal((N, 4)) + 0.5
    G = rows @ rows.T
    result = dense_qp(G, G @ np.ones(N) / N + 0.1 * X[:, 0])
    other = lowrank_qp(rows, G @ np.ones(N) / N + 0.1 * X[:, 0])
    assert result.converged
    assert result.objective == pytest.approx(other.objective, rel=1e-7)


def test_bordering_equals_factorising(monkeypatch):
    from reweight.solvers import dense_qp as module

    options = {"upper": 2 / N, "diagonal": 0.01}
    bordered = dense_qp(K, C, **options)
    monkeypatch.setattr(module._ReducedSystem, "_bordering_pays", lambda self, index: False)
    fresh = dense_qp(K, C, **options)
    assert bordered.n_iter == fresh.n_iter > 2
    assert_allclose(bordered.x, fresh.x, atol=1e-13)


@pytest.mark.parametrize("size", [1e-6, 1e6])
def test_does_not_depend_on_units(size):
    result = dense_qp(K / size**2, C / size, total=size, upper=3 * size / N)
    assert_allclose(result.x / size, dense_qp(K, C, upper=3 / N).x, atol=1e-12)


def test_permuting_rows_permutes_weights():
    order = np.random.default_rng(0).permutation(N)
    assert_allclose(dense_qp(K[np.ix_(order, order)], C[order]).x, dense_qp(K, C).x[order])


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"upper": 0.5 / N}, InfeasibleError, "total asks for"),
        ({"diagonal": -1.0}, ValueError, "dense_qp: diagonal must be non-negative"),
        ({"lower": 1.0, "upper": 0.0}, ValueError, "dense_qp: lower"),
    ],
)
def test_bad_input_is_named(options, error, message):
    with pytest.raises(error, match=message):
        dense_qp(K, C, **options)
    with pytest.raises(ValueError, match="pass \\(n, n\\)"):
        dense_qp(K[:-1], C)

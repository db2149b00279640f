"""Facts about weights of many levels that keep quantiles from crossing."""

from dataclasses import replace

import numpy as np
import pytest
from numpy.testing import assert_allclose

from reweight.exceptions import InfeasibleError
from reweight.solvers.crossing_pinball import CrossingProgram, crossing_pinball
from reweight.solvers.reference import crossing_reference


def make_program(rng, n=120, p=3, m=5, noise=0.3, price=np.inf, **changes):
    """Models that are sorted in themselves, whose best weights differ much between levels."""
    y = rng.normal(size=n)
    levels = np.arange(1, m + 1) / (m + 1)
    spread = np.array([0.3, 1.0, 2.0])[:p]
    Q = 0.6 * y[:, None, None] + spread[:, None] * (levels - 0.5) * 3
    Q = np.sort(Q + noise * rng.normal(size=(n, p, m)), axis=2)
    weights = rng.integers(1, 4, size=n).astype(float)
    program = CrossingProgram(Q, y, levels, weights, np.arange(m), price, np.zeros(m - 1))
    return replace(program, **changes)


def value(program, w, b):
    g = program.fitted(w, b)
    return program.loss(g) + program.penalty(g)


CASES = {
    "medium": {},
    "groups": {"groups": np.array([0, 1, 1, 1, 0])},
    "coarse": {"groups": np.zeros(5, dtype=int)},
    "intercept": {"fit_intercept": True},
    "no sum": {"unit_sum": False},
    "signed": {"nonnegative": False},
    "free": {"unit_sum": False, "nonnegative": False, "fit_intercept": True},
    "margin": {"margins": np.full(4, 0.05), "fit_intercept": True},
}


@pytest.mark.parametrize("price", [0.05, 2.0, np.inf])
@pytest.mark.parametrize("case", CASES)
def test_objective_agrees_with_the_conic_program(rng, case, price):
    program = make_program(rng, price=price, **CASES[case])
    result = crossing_pinball(program)
    assert result.converged
    assert_allclose(value(program, *result.x), result.objective, rtol=1e-12)
    assert_allclose(result.objective, crossing_reference(program).objective, rtol=1e-6)
    if np.isinf(price):
        assert program.crossings(program.fitted(*result.x)).max() <= 1e-6


def test_forbidding_crossings_costs_something_where_they_happen(rng):
    program = make_program(rng)
    free = crossing_pinball(replace(program, crossing_price=0.0))
    assert program.crossings(program.fitted(*free.x)).max() > 0.01
    prices = [0.01, 0.1, 1.0, np.inf]
    losses, worst = [], []
    for price in prices:
        fitted = program.fitted(*crossing_pinball(replace(program, crossing_price=price)).x)
        losses.append(program.loss(fitted))
        worst.append(np.maximum(program.crossings(fitted), 0).sum(axis=1) @ program.weights)
    assert_allclose(free.objective, program.loss(program.fitted(*free.x)))
    assert (np.diff([free.objective, *losses]) >= -1e-7).all()
    assert losses[-1] > free.objective * (1 + 1e-6)
    assert (np.diff(worst) <= 1e-7).all()


def test_a_large_price_forbids(rng):
    program = make_program(rng)
    hard = crossing_pinball(program)
    assert_allclose(
        crossing_pinball(replace(program, crossing_price=1e4)).objective, hard.objective, rtol=1e-7
    )


def test_certificate_is_a_lower_bound_that_the_test_computes(rng):
    program = make_program(rng)
    result = crossing_pinball(program)
    losses, prices = result.dual
    c, tau = program.weights[:, None], program.quantiles
    assert (losses >= c * (tau - 1) - 1e-12).all()
    assert (losses <= c * tau + 1e-12).all()
    assert prices.min() >= 0
    flow = -losses.copy()
    flow[:, :-1] += prices
    flow[:, 1:] -= prices
    bound = (program.y @ losses).sum()
    for k in range(5):
        bound += (program.Q[:, :, k].T @ flow[:, k]).min()
    assert -1e-9 <= result.objective - bound <= 1e-7 * result.objective


def test_models_that_cross_everywhere_leave_no_weights(rng):
    program = make_program(rng)
    crossed = replace(program, Q=program.Q[:, :, ::-1].copy())
    with pytest.raises(InfeasibleError, match="sort the quantiles of the models"):
        crossing_pinball(crossed)
    with pytest.raises(InfeasibleError, match="sort the quantiles of the models"):
        crossing_reference(crossed)
    assert crossing_pinball(replace(crossed, crossing_price=1.0)).converged


@pytest.mark.parametrize("case", ["medium", "coarse", "free", "no sum"])
def test_rows_left_out_at_first_do_not_change_the_optimum(rng, case, monkeypatch):
    program = make_program(rng, n=700, noise=0.5, **CASES[case])
    few = crossing_pinball(program)
    monkeypatch.setattr("reweight.solvers.crossing_pinball.FIRST_SHARE", 1.0)
    every = crossing_pinball(program)
    assert few.converged
    assert_allclose(few.objective, every.objective, rtol=1e-8)


def test_rows_are_added_where_too_few_leave_losses_without_bound(rng, monkeypatch):
    program = make_program(rng, n=60, **CASES["free"])
    expected = crossing_pinball(program).objective
    monkeypatch.setattr("reweight.solvers.crossing_pinball.FIRST_SHARE", 0.0)
    monkeypatch.setattr("reweight.solvers.crossing_pinball.FIRST_ROWS", 0)
    found = crossing_pinball(program)
    assert found.converged
    assert_allclose(found.objective, expected, rtol=1e-8)


def test_a_shift_of_all_quantiles_changes_nothing(rng):
    program = make_program(rng)
    moved = replace(program, Q=program.Q + 1e4, y=program.y + 1e4)
    assert_allclose(
        crossing_pinball(moved).objective, crossing_pinball(program).objective, rtol=1e-7
    )

"""Facts about piecewise linear losses minimised over the simplex."""

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from reweight.solvers._pinball_rows import (
    BLAS_COLUMNS,
    CHUNK,
    advance,
    affine_pass,
    corrector_pass,
)
from reweight.solvers.pinball_highs import pinball_highs
from reweight.solvers.reference import pinball_reference
from reweight.solvers.simplex_pinball import (
    linear_pinball,
    simplex_pinball,
    simplex_pinball_columns,
)

LEVELS = (0.01, 0.3, 0.5, 0.99)


def problem(rng, n=400, d=6, tau=0.3, weighted=True):
    """Residuals of models that are shifted and noisy, and the slopes of one level."""
    y = rng.normal(size=n)
    E = y[:, None] - (0.5 * y[:, None] + rng.normal(size=d) + 0.5 * rng.normal(size=(n, d)))
    c = rng.integers(1, 4, size=n).astype(float) if weighted else np.ones(n)
    return E, c * (tau - 1), c * tau


def loss(E, lower, upper, w, offset=0.0):
    residual = offset + E @ w
    return np.maximum(upper * residual, lower * residual).sum()


@pytest.mark.parametrize("tau", LEVELS)
def test_objective_agrees_with_highs_and_with_the_conic_program(rng, tau):
    E, lower, upper = problem(rng, tau=tau)
    result = simplex_pinball(E, lower, upper)
    assert result.converged
    assert_allclose(result.objective, pinball_highs(E, lower, upper).objective, rtol=1e-7)
    assert_allclose(result.objective, pinball_reference(E, lower, upper).objective, rtol=1e-7)
    assert_allclose(result.objective, loss(E, lower, upper, result.x), rtol=1e-13)


@pytest.mark.parametrize("tau", LEVELS)
def test_certificate_is_what_anyone_can_compute_from_the_dual(rng, tau):
    E, lower, upper = problem(rng, tau=tau)
    result = simplex_pinball(E, lower, upper, tol=1e-9)
    assert (result.dual >= lower).all()
    assert (result.dual <= upper).all()
    gap = result.objective - (E.T @ result.dual).min()
    assert_allclose(result.optimality_gap, gap / result.objective, atol=1e-14)
    assert gap <= 1e-9 * result.objective
    # The dual of another solver certifies the same weights.
    assert result.objective - (E.T @ pinball_highs(E, lower, upper).dual).min() <= (
        1e-7 * result.objective
    )


def test_gap_bounds_the_distance_to_the_optimum_at_every_iteration(rng):
    E, lower, upper = problem(rng)
    best = simplex_pinball(E, lower, upper, tol=1e-12).objective
    for max_iter in range(1, 12):
        result = simplex_pinball(E, lower, upper, tol=1e-15, max_iter=max_iter)
        assert result.objective - best <= result.optimality_gap * result.objective + 1e-12
        assert result.n_iter == max_iter
        assert not result.converged


def test_weights_are_on_the_simplex_and_zeros_are_exact(rng):
    E, lower, upper = problem(rng, d=20)
    w = simplex_pinball(E, lower, upper).x
    assert w.min() == 0
    assert abs(w.sum() - 1) < 1e-15
    assert w[w > 0].min() > 1e-9


@pytest.mark.parametrize("alpha", [1e-3, 1.0, 30.0, 1e5])
def test_ridge_agrees_with_the_conic_program(rng, alpha):
    E, lower, upper = problem(rng)
    center = rng.dirichlet(np.ones(6))
    result = simplex_pinball(E, lower, upper, alpha=alpha, center=center)
    reference = pinball_reference(E, lower, upper, alpha=alpha, center=center)
    assert result.converged
    assert_allclose(result.objective, reference.objective, rtol=1e-7)
    if alpha >= 1:
        assert_allclose(result.x, reference.x, atol=1e-4)


def test_ridge_goes_from_the_linear_program_to_its_centre(rng):
    E, lower, upper = problem(rng)
    plain = simplex_pinball(E, lower, upper)
    weak = simplex_pinball(E, lower, upper, alpha=1e-7)
    assert_allclose(loss(E, lower, upper, weak.x), plain.objective, rtol=1e-7)
    assert_allclose(simplex_pinball(E, lower, upper, alpha=1e10).x, np.full(6, 1 / 6), atol=1e-6)


@pytest.mark.parametrize("nonnegative", [True, False])
@pytest.mark.parametrize("unit_sum", [True, False])
@pytest.mark.parametrize("alpha", [0.0, 5.0])
@pytest.mark.parametrize("fit_intercept", [True, False])
def test_fewer_constraints_agree_with_the_references(
    rng, nonnegative, unit_sum, alpha, fit_intercept
):
    E, lower, upper = problem(rng, n=300, d=4)
    y = rng.normal(size=300)
    Q = y[:, None] - E
    options = {"nonnegative": nonnegative, "unit_sum": unit_sum}
    result = linear_pinball(Q, y, lower, upper, alpha=alpha, fit_intercept=fit_intercept, **options)
    assert result.converged
    w = result.x[:4]
    if nonnegative:
        assert w.min() >= 0
    if unit_sum:
        assert_allclose(w.sum(), 1, rtol=1e-14)
    if not fit_intercept:
        arguments = (E, None) if unit_sum else (-Q, y)
        reference = pinball_reference(
            arguments[0], lower, upper, alpha=alpha, offset=arguments[1], **options
        )
        assert_allclose(result.objective, reference.objective, rtol=1e-7)
        return
    if alpha == 0:
        A = np.column_stack([E if unit_sum else -Q, -np.ones(300)])
        reference = pinball_highs(
            A,
            lower,
            upper,
            offset=None if unit_sum else y,
            bounded=np.append(np.full(4, nonnegative), False),
            unit=np.append(np.full(4, float(unit_sum)), 0.0),
        )
        assert_allclose(result.objective, reference.objective, rtol=1e-7)
    # Moving the intercept either way does not help.
    for step in (-1e-3, 1e-3):
        r = y - Q @ w - result.x[4] - step
        moved = np.maximum(upper * r, lower * r).sum() + alpha / 2 * ((w - 0.25) ** 2).sum()
        assert moved >= result.objective * (1 - 1e-8)


def test_an_intercept_alone_is_a_quantile(rng):
    y = rng.normal(size=201)
    slopes = np.full(201, 0.3 - 1), np.full(201, 0.3)
    result = linear_pinball(np.zeros((201, 1)), y, *slopes, fit_intercept=True)
    assert_allclose(result.x[1], np.quantile(y, 0.3, method="inverted_cdf"), atol=1e-6)


@pytest.mark.parametrize("tau", LEVELS)
def test_column_generation_reaches_the_optimum_over_all_columns(rng, tau):
    E, lower, upper = problem(rng, n=300, d=120, tau=tau)
    result = simplex_pinball_columns(E, lower, upper, start=[3])
    assert result.converged
    assert_allclose(result.objective, simplex_pinball(E, lower, upper).objective, rtol=2e-8)
    gap = (result.objective - (E.T @ result.dual).min()) / result.objective
    assert_allclose(result.optimality_gap, gap, atol=1e-13)
    assert gap <= 1e-8


@pytest.mark.parametrize("d", [1, 2, 5])
def test_a_perfect_column_takes_all_weight_and_leaves_no_loss(rng, d):
    E, lower, upper = problem(rng, d=d)
    E[:, 0] = 0.0
    result = simplex_pinball(E, lower, upper)
    assert result.converged
    assert result.objective <= 1e-10 * loss(E, lower, upper, np.full(d, 1 / d))
    if d > 1:
        assert result.x[0] > 1 - 1e-8
    assert simplex_pinball(0 * E, lower, upper).objective == 0


def test_equal_weights_may_be_perfect(rng):
    E, lower, upper = problem(rng, d=1)
    for noise in (0.0, 1e-15):
        opposite = np.column_stack([E, -E * (1 + noise)])
        result = simplex_pinball(opposite, lower, upper)
        assert result.converged
        assert_allclose(result.x, 0.5, atol=1e-6)
        assert result.objective <= 1e-12 * loss(E, lower, upper, np.ones(1))


@pytest.mark.parametrize("start", [[0], [3], [0, 1, 2, 3, 4, 5]])
def test_column_generation_finds_a_perfect_column(rng, start):
    E, lower, upper = problem(rng)
    E[:, 3] = 0.0
    result = simplex_pinball_columns(E, lower, upper, start=start)
    assert result.converged
    assert result.x[3] > 1 - 1e-6
    assert simplex_pinball_columns(0 * E, lower, upper, start=start).converged


def test_one_column_gets_weight_one(rng):
    E, lower, upper = problem(rng, d=1)
    assert_array_equal(simplex_pinball(E, lower, upper).x, [1.0])


def test_equal_columns_share_the_weight_of_one(rng):
    E, lower, upper = problem(rng)
    plain = simplex_pinball(E, lower, upper, tol=1e-10)
    twice = simplex_pinball(np.column_stack([E, E[:, 0]]), lower, upper, tol=1e-10)
    assert_allclose(twice.objective, plain.objective, rtol=1e-9)
    assert_allclose(twice.x[0] + twice.x[6], plain.x[0], atol=1e-5)


def test_rows_without_slopes_leave_no_trace_and_weights_count_rows(rng):
    E, lower, upper = problem(rng)
    kept = np.arange(400) % 3 > 0
    part = simplex_pinball(E, lower * kept, upper * kept)
    assert_allclose(part.x, simplex_pinball(E[kept], lower[kept], upper[kept]).x, atol=1e-12)
    assert (part.dual[~kept] == 0).all()
    counts = np.round(upper / upper.min()).astype(int)
    repeated = np.repeat(np.arange(400), counts)
    ones = np.ones(len(repeated))
    many = simplex_pinball(E[repeated], ones * (lower / counts)[0], ones * (upper / counts)[0])
    assert_allclose(many.objective, simplex_pinball(E, lower, upper).objective, rtol=1e-8)


@pytest.mark.parametrize("factor", [1e-8, 1e8])
def test_units_do_not_matter(rng, factor):
    E, lower, upper = problem(rng)
    plain = simplex_pinball(E, lower, upper)
    for arguments in ((factor * E, lower, upper), (E, factor * lower, factor * upper)):
        scaled = simplex_pinball(*arguments)
        assert_allclose(scaled.objective, factor * plain.objective, rtol=1e-9)
        assert scaled.converged


def test_one_sided_slopes_are_allowed(rng):
    E, lower, upper = problem(rng)
    lower[::2] = 0.0
    result = simplex_pinball(E, lower, upper)
    assert_allclose(result.objective, pinball_highs(E, lower, upper).objective, rtol=1e-7)


def test_bad_input_is_refused(rng):
    E, lower, upper = problem(rng)
    broken, wrong = E.copy(), lower.copy()
    broken[:3, 1] = np.nan
    wrong[:5] = 0.1
    with pytest.raises(ValueError, match="3 entries that are NaN or infinite"):
        simplex_pinball(broken, lower, upper)
    with pytest.raises(ValueError, match="5 rows have slopes"):
        simplex_pinball(E, wrong, upper)
    with pytest.raises(ValueError, match="one of each per row"):
        simplex_pinball(E, lower[1:], upper)
    with pytest.raises(ValueError, match="alpha must be finite"):
        simplex_pinball(E, lower, upper, alpha=-1.0)
    with pytest.raises(ValueError, match="center must be 6"):
        simplex_pinball(E, lower, upper, center=np.ones(6))


@pytest.mark.parametrize("d", [3, BLAS_COLUMNS + 2])
@pytest.mark.parametrize("n", [7, CHUNK + 5])
def test_passes_over_rows_agree_with_plain_arrays(rng, d, n):
    """The three kernels against the formulas that they stand for."""
    E, offset = rng.normal(size=(n, d)), rng.normal(size=n)
    lo, hi = -rng.uniform(0.5, 1.0, n), rng.uniform(0.5, 1.0, n)
    w, dw, dw2 = rng.dirichlet(np.ones(d)), rng.normal(size=d), rng.normal(size=d)
    state = np.zeros((12, n))
    state[:2] = rng.uniform(0.5, 2.0, (2, n))
    dual = lo + (hi - lo) * rng.uniform(0.2, 0.8, n)
    state[2], state[3] = hi - dual, dual - lo
    state[4:7] = 0.01 * rng.normal(size=(3, n))
    steps = (0.7, 0.9)
    u, v = state[0] + 0.7 * state[4], state[1] + 0.7 * state[5]
    dual = dual + 0.9 * state[6]
    gram, image, right = np.empty((d, d)), np.empty(d), np.empty(d)
    found = advance(np.ascontiguousarray(E.T), offset, lo, hi, w, state, steps, gram, image, right)
    a, b, r = hi - dual, dual - lo, offset + E @ w
    q = 1 / (u / a + v / b)
    expected = np.maximum(hi * r, lo * r).sum(), offset @ dual, (u * a + v * b).sum()
    assert_allclose(found, expected, rtol=1e-11)
    lower_half = np.tril_indices(d)
    assert_allclose(gram[lower_half], ((E * q[:, None]).T @ E)[lower_half], atol=1e-11 * n)
    assert_allclose(image, E.T @ dual, atol=1e-12 * n)
    assert_allclose(right, E.T @ (q * r), atol=1e-12 * n)

    corrected, centring = np.empty(d), np.empty(d)
    found = affine_pass(np.ascontiguousarray(E.T), state, dw, corrected, centring)
    delta = q * (E @ dw + r)
    du, dv = -u + u * delta / a, -v - v * delta / b
    second_u, second_v = du * delta, -dv * delta
    ratios = max((-du / u).max(), (-dv / v).max()), max((delta / a).max(), (-delta / b).max())
    assert_allclose(found[:2], ratios, rtol=1e-11)
    primal, dual_step = 0.3, 0.6
    after = ((u + primal * du) * (a - dual_step * delta)).sum() + (
        (v + primal * dv) * (b + dual_step * delta)
    ).sum()
    before = expected[2]
    by_sums = (
        before * (1 - primal)
        + (primal - dual_step * (1 - primal)) * found[2]
        - primal * dual_step * found[3]
    )
    assert_allclose(by_sums, after, rtol=1e-9)

    target = 0.05
    k1, k2 = target - u * a + second_u, target - v * b + second_v
    h = k1 / a - k2 / b
    residual = r - u + v
    assert_allclose(corrected - target * centring, E.T @ (q * (residual - h)), atol=1e-10 * n)
    found = corrector_pass(np.ascontiguousarray(E.T), state, dw2, target)
    delta = q * (E @ dw2 + residual - h)
    du, dv = (k1 + u * delta) / a, (k2 - v * delta) / b
    assert_allclose(state[4:7], [du, dv, delta], rtol=1e-8, atol=1e-10)
    ratios = max((-du / u).max(), (-dv / v).max()), max((delta / a).max(), (-delta / b).max())
    assert_allclose(found, ratios, rtol=1e-8)

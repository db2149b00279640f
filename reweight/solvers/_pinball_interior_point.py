"""The interior point for piecewise linear losses: its small system and its iterations.

The program and the names of its parts are those of `reweight.solvers._pinball_rows`.
"""

import numpy as np
from numba import njit

from reweight.solvers._pinball_rows import (
    CHUNK,
    advance,
    affine_pass,
    combine,
    corrector_pass,
    dots,
)


@njit(cache=True, nogil=True)
def _factor(gram):
    """Cholesky factor in the lower triangle; directions without curvature get no step."""
    d = gram.shape[0]
    largest = 0.0
    for j in range(d):
        largest = max(largest, gram[j, j])
    for j in range(d):
        own = gram[j, j]
        pivot = own
        for k in range(j):
            pivot -= gram[j, k] * gram[j, k]
        if not pivot > 1e-15 * own or not pivot > 1e-30 * largest:
            pivot = 1e64 * max(largest, 1e-200)
        root = np.sqrt(pivot)
        gram[j, j] = root
        for i in range(j + 1, d):
            total = gram[i, j]
            for k in range(j):
                total -= gram[i, k] * gram[j, k]
            gram[i, j] = total / root


@njit(cache=True, nogil=True)
def _solve(factor, right, out):
    """Solve with the Cholesky factor."""
    d = factor.shape[0]
    for i in range(d):
        total = right[i]
        for k in range(i):
            total -= factor[i, k] * out[k]
        out[i] = total / factor[i, i]
    for i in range(d - 1, -1, -1):
        total = out[i]
        for k in range(i + 1, d):
            total -= factor[k, i] * out[k]
        out[i] = total / factor[i, i]


@njit(cache=True, nogil=True)
def _reduce(gram, w, s, ridge, bounded, unit, pivot, reduced):
    """Factor the system with the weight `pivot` eliminated by the sum of the weights.

    Near the optimum the Gram matrix is all but singular along the very direction that the sum
    rules out, so that eliminating the sum last would leave nothing but rounding.
    """
    d = gram.shape[0]
    for j in range(d):
        gram[j, j] += ridge[j]
        if bounded[j]:
            gram[j, j] += s[j] / w[j]
    for j in range(d):
        for k in range(j + 1):
            value = gram[j, k]
            if pivot >= 0:
                value += unit[j] * unit[k] * gram[pivot, pivot]
                value -= unit[j] * gram[max(pivot, k), min(pivot, k)]
                value -= unit[k] * gram[max(pivot, j), min(pivot, j)]
            reduced[j, k] = value
    if pivot >= 0:
        for j in range(d):
            reduced[max(pivot, j), min(pivot, j)] = 0.0
        reduced[pivot, pivot] = 1.0
    _factor(reduced)


@njit(cache=True, nogil=True)
def _direction(gram, reduced, right, unit, pivot, shortfall, scratch, dw):
    """Solve for the step of the weights, whose sum makes up for the shortfall."""
    if pivot < 0:
        _solve(reduced, right, dw)
        return
    d = gram.shape[0]
    at_pivot = right[pivot] - gram[pivot, pivot] * shortfall
    for j in range(d):
        own = right[j] - gram[max(pivot, j), min(pivot, j)] * shortfall
        scratch[j] = own - unit[j] * at_pivot
    scratch[pivot] = 0.0
    _solve(reduced, scratch, dw)
    rest = shortfall
    for j in range(d):
        if j != pivot:
            rest -= unit[j] * dw[j]
    dw[pivot] = rest


@njit(cache=True, nogil=True)
def _pivot(w, unit):
    """The largest weight of the sum; -1 if there is none to keep."""
    best = -1
    for j in range(w.shape[0]):
        if unit[j] > 0 and (best < 0 or w[j] > w[best]):
            best = j
    return best


@njit(cache=True, nogil=True)
def _multiplier(image, w, s, ridge, center, unit):
    """The multiplier of the sum, where the larger weights, whose slack is small, say most."""
    total, mass = 0.0, 0.0
    for j in range(w.shape[0]):
        share = unit[j] * abs(w[j])
        total += share * (image[j] + ridge[j] * (w[j] - center[j]) - s[j])
        mass += share
    return total / mass if mass > 0 else 0.0


@njit(cache=True, nogil=True)
def _affine_ratios(w, dw, bounded, primal_ratio, dual_ratio):
    """Ratios that limit the affine step, the weights counted; there -ds/s is 1 + dw/w."""
    for j in range(w.shape[0]):
        if bounded[j]:
            primal_ratio = max(primal_ratio, -dw[j] / w[j])
            dual_ratio = max(dual_ratio, 1.0 + dw[j] / w[j])
    return primal_ratio, dual_ratio


@njit(cache=True, nogil=True)
def _after_affine(w, s, dw, bounded, rows_sum, first, second, primal, dual_step):
    """Complementarity after the affine step."""
    after = (
        rows_sum * (1.0 - primal)
        + (primal - dual_step * (1.0 - primal)) * first
        - primal * dual_step * second
    )
    for j in range(w.shape[0]):
        if bounded[j]:
            ds = -s[j] * (1.0 + dw[j] / w[j])
            after += (w[j] + primal * dw[j]) * (s[j] + dual_step * ds)
    return max(after, 0.0)


@njit(cache=True, nogil=True)
def _slack_step(w, s, affine, dw, bounded, target, ds, primal_ratio, dual_ratio):
    """Corrected step of the slacks, and the ratios that limit the step, the weights counted."""
    for j in range(w.shape[0]):
        if bounded[j]:
            second = affine[j] * s[j] * (1.0 + affine[j] / w[j])
            ds[j] = (target + second - s[j] * dw[j]) / w[j] - s[j]
            primal_ratio = max(primal_ratio, -dw[j] / w[j])
            dual_ratio = max(dual_ratio, -ds[j] / s[j])
    return primal_ratio, dual_ratio


@njit(cache=True, nogil=True)
def _length(ratio):
    return min(1.0, 0.9995 / ratio) if ratio > 0 else 1.0


@njit(cache=True, nogil=True)
def _start(ET, offset, lo, hi, w, bounded, unit, state):
    """Strictly feasible start: residuals of w split in two, the dual in the middle."""
    d, n = ET.shape
    u, v, a, b = state[0], state[1], state[2], state[3]
    state[4:7] = 0.0
    product = np.empty(CHUNK)
    scale = 0.0
    for start in range(0, n, CHUNK):
        size = min(CHUNK, n - start)
        combine(ET, w, start, size, product)
        for i in range(size):
            u[start + i] = product[i] + offset[start + i]
            scale += abs(u[start + i])
    scale /= n
    image = np.zeros(d)
    for start in range(0, n, CHUNK):
        size = min(CHUNK, n - start)
        for k in range(start, start + size):
            r = u[k]
            u[k] = max(r, 0.0) + scale
            v[k] = u[k] - r
            a[k] = b[k] = 0.5 * (hi[k] - lo[k])
            product[k - start] = 0.5 * (lo[k] + hi[k])
        dots(ET, start, size, product, image)
    has_sum = unit.max() > 0
    lowest, mean, count = np.inf, 0.0, 0
    for j in range(d):
        if bounded[j]:
            lowest = min(lowest, image[j])
            mean += image[j]
            count += 1
    mean = mean / count if count else 0.0
    spread = 0.0
    for j in range(d):
        if bounded[j]:
            spread = max(spread, abs(image[j] - mean))
    margin = 0.1 * spread + d * scale * np.mean(hi - lo)
    t = lowest - margin if has_sum and count else 0.0
    s = np.zeros(d)
    for j in range(d):
        if bounded[j]:
            s[j] = max(image[j] - t * unit[j], margin)
    return s


@njit(cache=True, nogil=True)
def _dual_bound(image, constant, bounded, unit, w, t):
    """Lower bound of the optimum for the dual at hand, where the weights have no ridge.

    Exact on the simplex. Columns that are free, or have no sum to keep, hold only up to round-off,
    which is charged at the size of their weights.
    """
    has_sum = unit.max() > 0
    all_bounded = True
    for j in range(bounded.shape[0]):
        all_bounded = all_bounded and bounded[j]
    multiplier = t
    if has_sum:
        any_bounded = False
        lowest = np.inf
        for j in range(bounded.shape[0]):
            if bounded[j] and unit[j] > 0:
                any_bounded = True
                lowest = min(lowest, image[j])
        if any_bounded:
            multiplier = lowest
    bound = constant + (multiplier if has_sum else 0.0)
    for j in range(bounded.shape[0]):
        slack = image[j] - (multiplier * unit[j] if has_sum else 0.0)
        if not bounded[j]:
            bound -= abs(slack) * abs(w[j])
        elif slack < 0:
            bound += slack * w[j]
    return bound


@njit(cache=True, nogil=True)
def _lengths(primal_ratio, dual_ratio, has_ridge):
    """Step lengths of both sides, one and the same with a ridge."""
    primal, dual_step = _length(primal_ratio), _length(dual_ratio)
    if has_ridge:
        primal = dual_step = min(primal, dual_step)
    return primal, dual_step


@njit(cache=True, nogil=True)
def interior_point(
    ET, offset, lo, hi, w, ridge, center, bounded, unit, floor, tol, max_iter, state
):
    """Iterate from w until the gap is small; w and the distances in `state` are the answer.

    Returns the number of iterations. With a ridge the gap is judged by complementarity.
    """
    d, n = ET.shape
    gram, reduced = np.empty((d, d)), np.empty((d, d))
    image, affine_right = np.empty(d), np.empty(d)
    corrected_right, centring_right = np.empty(d), np.empty(d)
    right, dw, affine, scratch = np.zeros(d), np.zeros(d), np.zeros(d), np.zeros(d)
    ds = np.zeros(d)
    has_ridge = ridge.max() > 0
    size = 2 * n + bounded.sum()
    s = _start(ET, offset, lo, hi, w, bounded, unit, state)
    steps = (0.0, 0.0)
    for iteration in range(max_iter + 1):
        loss, constant, rows_sum = advance(
            ET, offset, lo, hi, w, state, steps, gram, image, affine_right
        )
        complementarity = rows_sum + (w * s).sum()
        if not (np.isfinite(loss) and np.isfinite(complementarity)):
            return iteration
        t = _multiplier(image, w, s, ridge, center, unit)
        gap = complementarity
        if not has_ridge:
            gap = loss - _dual_bound(image, constant, bounded, unit, w, t)
        if gap <= tol * max(loss, floor) or iteration == max_iter:
            return iteration
        pivot = _pivot(w, unit)
        _reduce(gram, w, s, ridge, bounded, unit, pivot, reduced)
        shortfall = 1.0 - (unit * w).sum()
        stationarity = image + ridge * (w - center) - t * unit - s
        right[:] = -stationarity - affine_right - s
        _direction(gram, reduced, right, unit, pivot, shortfall, scratch, affine)
        primal_ratio, dual_ratio, first, second = affine_pass(
            ET, state, affine, corrected_right, centring_right
        )
        primal_ratio, dual_ratio = _affine_ratios(w, affine, bounded, primal_ratio, dual_ratio)
        primal, dual_step = _lengths(primal_ratio, dual_ratio, has_ridge)
        after = _after_affine(w, s, affine, bounded, rows_sum, first, second, primal, dual_step)
        mu = complementarity / size
        # Beyond the tolerance there is nothing to win, and numbers too small to tell apart.
        least = min(0.1 * tol * max(loss, floor) / size, mu)
        target = max(min((after / complementarity) ** 3, 1.0) * mu, least)
        right[:] = -stationarity - corrected_right + target * centring_right - s
        for j in range(d):
            if bounded[j]:
                second = affine[j] * s[j] * (1.0 + affine[j] / w[j])
                right[j] += (target + second) / w[j]
        _direction(gram, reduced, right, unit, pivot, shortfall, scratch, dw)
        primal_ratio, dual_ratio = corrector_pass(ET, state, dw, target)
        primal_ratio, dual_ratio = _slack_step(
            w, s, affine, dw, bounded, target, ds, primal_ratio, dual_ratio
        )
        steps = _lengths(primal_ratio, dual_ratio, has_ridge)
        w += steps[0] * dw
        s += steps[1] * ds
    return max_iter

"""Log density of the gate and its gradient, in one compiled pass over the rows.

The parameters are unconstrained and in units of their priors, so that zero is a sensible start: a
scale is the prior's scale times exp(t), the first cut is its prior mean plus t standard deviations,
and so on; `reweight.reuse._model` holds their layout and names.
"""

import math

import numpy as np
from numba import njit

LOG_SQRT_2PI = 0.5 * math.log(2.0 * math.pi)
INVERSE_SQRT_2PI = 1.0 / math.sqrt(2.0 * math.pi)
SQRT_HALF = math.sqrt(0.5)
# Below this erfc leaves the range of normal numbers, and a series takes over.
FAR_TAIL = -25.0
# Tails beyond this count as zero, chances below that are handled by their logarithms: products of
# smaller numbers would leave the range of normal ones, where arithmetic is slow.
NO_TAIL = 20.0
TINY = 1e-80
LOG_TINY = math.log(TINY)
# What `shape[4]` means.
NO_HORSESHOE, PLAIN_HORSESHOE, REGULARIZED_HORSESHOE = 0, 1, 2


@njit(cache=True, nogil=True)
def log_normal_cdf(z):
    """Logarithm of the standard normal distribution function, accurate in both tails."""
    if z > 0.0:
        return math.log1p(-0.5 * math.erfc(z * SQRT_HALF))
    if z > FAR_TAIL:
        return math.log(0.5 * math.erfc(-z * SQRT_HALF))
    q = 1.0 / (z * z)
    series = 1.0 - q * (1.0 - 3.0 * q * (1.0 - 5.0 * q * (1.0 - 7.0 * q)))
    return -0.5 * z * z - LOG_SQRT_2PI - math.log(-z) + math.log(series)


@njit(cache=True, nogil=True)
def log_level(r, cuts, softness, k):
    """Log h_k(r) of eq. (16): the chance of level k given the residual, in any tail."""
    n_cuts = len(cuts)
    if k == 0:
        return log_normal_cdf((r - cuts[0]) / softness)
    if k == n_cuts:
        return log_normal_cdf((cuts[n_cuts - 1] - r) / softness)
    z, z_before = (r - cuts[k]) / softness, (r - cuts[k - 1]) / softness
    if z + z_before > 0.0:
        large, small = log_normal_cdf(-z_before), log_normal_cdf(-z)
    else:
        large, small = log_normal_cdf(z), log_normal_cdf(z_before)
    return large + math.log(-math.expm1(min(small - large, 0.0)))


@njit(cache=True, nogil=True)
def level_mass(points, cuts, softness):
    """The chances h_k(r) themselves, zero where they leave the range of numbers."""
    n_cuts = len(cuts)
    out = np.empty((len(points), n_cuts + 1))
    for j in range(len(points)):
        tail_before, positive_before = 0.0, False
        for k in range(n_cuts):
            z = (points[j] - cuts[k]) / softness
            tail = 0.5 * math.erfc(abs(z) * SQRT_HALF) if abs(z) < NO_TAIL else 0.0
            positive = z > 0.0
            if k == 0 or (positive and not positive_before):
                out[j, k] = 1.0 - tail - tail_before if positive else tail
            else:
                out[j, k] = abs(tail - tail_before)
            tail_before, positive_before = tail, positive
        out[j, n_cuts] = tail_before if positive_before else 1.0 - tail_before
    return out


@njit(cache=True, nogil=True)
def log_base_mass(points, base, levels, cuts, softness):
    """Log Q_k of eq. (18): the share of each level in the base distribution of residuals."""
    m, n_classes = levels.shape
    out = np.zeros(n_classes)
    for j in range(m):
        for k in range(n_classes):
            out[k] += base[j] * levels[j, k]
    for k in range(n_classes):
        if out[k] > TINY:
            out[k] = math.log(out[k])
            continue
        top, total = -np.inf, 0.0
        for j in range(m):
            if base[j] > 0.0:
                term = math.log(base[j]) + log_level(points[j], cuts, softness, k)
                if term > top:
                    total = total * math.exp(top - term) + 1.0
                    top = term
                elif term > -np.inf:
                    total += math.exp(term - top)
        out[k] = top + math.log(total) if total > 0.0 else -np.inf
    return out


@njit(cache=True, nogil=True)
def _softplus(x):
    return max(x, 0.0) + math.log1p(math.exp(-abs(x)))


@njit(cache=True, nogil=True)
def _half_t(t, df):
    """Log density of log x for a half-t x with unit scale, at t = log x, and its derivative."""
    u = 2.0 * t - math.log(df)
    value = -0.5 * (df + 1.0) * _softplus(u) + t
    return value, 1.0 - (df + 1.0) / (1.0 + math.exp(-u))


@njit(cache=True, nogil=True)
def _coefficient_scales(theta, start, shape, prior):
    """Log scale of each coefficient, and a = tau^2 lam^2 / c^2, zero without a slab."""
    p, columns, kind, shared = shape[0], shape[2], shape[4], shape[5]
    log_scale = np.empty((p, columns))
    a = np.zeros((p, columns))
    log_slab = math.log(prior[6])
    if kind == NO_HORSESHOE:
        log_scale[:] = log_slab
        return log_scale, a
    log_tau = math.log(prior[2]) + theta[start]
    n_local = p if shared else p * columns
    log_c2 = 2.0 * log_slab
    if kind == REGULARIZED_HORSESHOE:
        log_c2 += theta[start + 1 + n_local]
    for j in range(p):
        for k in range(columns):
            plain = log_tau + theta[start + 1 + (j if shared else j * columns + k)]
            log_scale[j, k] = plain
            if kind == REGULARIZED_HORSESHOE:
                log_a = 2.0 * plain - log_c2
                log_scale[j, k] -= 0.5 * _softplus(log_a)
                a[j, k] = math.exp(log_a)
    return log_scale, a


@njit(cache=True, nogil=True)
def _log_softmax(eta, log_pi, pi):
    """Class probabilities and their logarithms; the class that `eta` may lack has zero."""
    columns, n_classes = len(eta), len(pi)
    top = 0.0 if columns < n_classes else -np.inf
    for k in range(columns):
        top = max(top, eta[k])
    total = 0.0
    for k in range(n_classes):
        log_pi[k] = (eta[k] if k < columns else 0.0) - top
        pi[k] = math.exp(log_pi[k])
        total += pi[k]
    log_total = math.log(total)
    for k in range(n_classes):
        log_pi[k] -= log_total
        pi[k] /= total
    return top + log_total


@njit(cache=True, nogil=True)
def _mixture(r, log_pi, pi, chances, log_q, inverse_q, cuts, softness, target):
    """Log likelihood (19b) of a row without a label; leaves the chance of each level."""
    total = 0.0
    for k in range(len(pi)):
        target[k] = pi[k] * chances[k] * inverse_q[k]
        total += target[k]
    if total > TINY and total < np.inf:
        for k in range(len(pi)):
            target[k] /= total
        return math.log(total)
    for k in range(len(pi)):
        log_pi[k] += log_level(r, cuts, softness, k) - log_q[k]
    return _log_softmax(log_pi, log_pi, target)


@njit(cache=True, nogil=True)
def _row_pass(eta, y, point, points, weight, levels, log_q, cuts, softness, residual, taken, mass):
    """Log likelihood; leaves its gradient by eta, by log h of each point and by log Q."""
    n, columns = eta.shape
    n_classes = levels.shape[1]
    log_pi, pi = np.zeros(n_classes), np.zeros(n_classes)
    target = np.empty(n_classes)
    # A level without mass has an infinite quotient, which logarithms then handle.
    inverse_q = np.exp(-log_q)
    total = 0.0
    for i in range(n):
        _log_softmax(eta[i], log_pi, pi)
        label, at = y[i], point[i]
        if label >= 0:
            value = log_pi[label]
            target[:] = 0.0
            target[label] = 1.0
            if at >= 0:
                value += log_level(points[at], cuts, softness, label) - log_q[label]
        else:
            value = _mixture(
                points[at], log_pi, pi, levels[at], log_q, inverse_q, cuts, softness, target
            )
        total += weight[i] * value
        for k in range(columns):
            residual[i, k] = weight[i] * (target[k] - pi[k])
        if at >= 0:
            for k in range(n_classes):
                taken[at, k] += weight[i] * target[k]
                mass[k] += weight[i] * target[k]
    return total


@njit(cache=True, nogil=True)
def _cut_gradient(points, base, levels, log_q, taken, mass, cuts, softness):
    """Gradient by the cuts and by the log softness."""
    by_cut = np.zeros(len(cuts))
    by_softness = 0.0
    # The same for all points of the base: what a unit of density at the cut costs each level.
    cost = np.zeros(len(mass))
    for k in range(len(mass)):
        if log_q[k] > LOG_TINY:
            cost[k] = mass[k] * math.exp(-LOG_SQRT_2PI - log_q[k])
    for j in range(len(points)):
        for k in range(len(cuts)):
            z = (points[j] - cuts[k]) / softness
            bell = math.exp(-0.5 * z * z) if abs(z) < NO_TAIL else 0.0
            slope = base[j] * bell * (cost[k + 1] - cost[k])
            for level in range(k, k + 2):
                sign = 1.0 if level == k else -1.0
                if log_q[level] <= LOG_TINY and mass[level] > 0.0:
                    log_cost = -0.5 * z * z - LOG_SQRT_2PI - log_q[level]
                    slope -= sign * base[j] * mass[level] * math.exp(log_cost)
                if taken[j, level] > 0.0:
                    if levels[j, level] > TINY:
                        ratio = INVERSE_SQRT_2PI * bell / levels[j, level]
                    else:
                        log_h = log_level(points[j], cuts, softness, level)
                        ratio = math.exp(-0.5 * z * z - LOG_SQRT_2PI - log_h)
                    slope += sign * taken[j, level] * ratio
            by_cut[k] -= slope / softness
            by_softness -= slope * z
    return by_cut, by_softness


@njit(cache=True, nogil=True)
def _cuts_of(theta, start, n_cuts, cut_mean, cut_sd):
    """Cuts from the first one and the logarithms of the gaps below it."""
    cuts = np.empty(n_cuts)
    cuts[0] = cut_mean[0] + cut_sd[0] * theta[start]
    for k in range(1, n_cuts):
        gap = cut_mean[k - 1] - cut_mean[k]
        cuts[k] = cuts[k - 1] - gap * math.exp(cut_sd[k] / gap * theta[start + k])
    return cuts


@njit(cache=True, nogil=True)
def _add_cut_terms(theta, start, cuts, by_cut, cut_mean, cut_sd, gradient):
    """Prior of the cuts, and the gradient by what they are made of."""
    value = 0.0
    n_cuts = len(cuts)
    for k in range(n_cuts):
        z = (cuts[k] - cut_mean[k]) / cut_sd[k]
        value -= 0.5 * z * z
        by_cut[k] -= z / cut_sd[k]
    below = 0.0
    for k in range(n_cuts - 1, 0, -1):
        below += by_cut[k]
        rate = cut_sd[k] / (cut_mean[k - 1] - cut_mean[k])
        value += rate * theta[start + k]
        gradient[start + k] = rate - rate * (cuts[k - 1] - cuts[k]) * below
    gradient[start] = cut_sd[0] * (below + by_cut[0])
    return value


@njit(cache=True, nogil=True)
def _add_horseshoe_terms(theta, start, slope, a, shape, prior, gradient):
    """Priors of the scales, and the gradient by them; `slope` is beta times the gradient by it."""
    p, columns, kind, shared = shape[0], shape[2], shape[4], shape[5]
    n_local = p if shared else p * columns
    value, gradient[start] = _half_t(theta[start], prior[4])
    for j in range(n_local):
        part, gradient[start + 1 + j] = _half_t(theta[start + 1 + j], prior[3])
        value += part
    slab = start + 1 + n_local
    if kind == REGULARIZED_HORSESHOE:
        half = 0.5 * prior[5]
        value -= half * (theta[slab] + math.exp(-theta[slab]))
        gradient[slab] = -half + half * math.exp(-theta[slab])
    for j in range(p):
        for k in range(columns):
            free = slope[j, k] / (1.0 + a[j, k])
            gradient[start] += free
            gradient[start + 1 + (j if shared else j * columns + k)] += free
            if kind == REGULARIZED_HORSESHOE:
                gradient[slab] += 0.5 * (slope[j, k] - free)
    return value


@njit(cache=True, nogil=True)
def _add_intercepts(theta, groups, start, group_scale, n_groups, eta):
    """Add the intercept, and the effect of the row's group, to each linear predictor."""
    n, columns = eta.shape
    for i in range(n):
        for k in range(columns):
            eta[i, k] += theta[k]
            if n_groups > 0:
                eta[i, k] += group_scale[k] * theta[start + columns * (1 + groups[i]) + k]


@njit(cache=True, nogil=True)
def _add_intercept_terms(theta, groups, start, group_scale, n_groups, residual, prior, gradient):
    """Priors of intercepts and group effects, and the gradient by them."""
    n, columns = residual.shape
    value = 0.0
    for k in range(columns):
        value -= 0.5 * (theta[k] / prior[0]) ** 2
        gradient[k] = -theta[k] / prior[0] ** 2
    for i in range(n):
        for k in range(columns):
            gradient[k] += residual[i, k]
            if n_groups > 0:
                gradient[start + columns * (1 + groups[i]) + k] += residual[i, k]
    for k in range(columns if n_groups > 0 else 0):
        t = theta[start + k]
        value += t - 0.5 * math.exp(2.0 * t)
        gradient[start + k] = 1.0 - math.exp(2.0 * t)
        for g in range(n_groups):
            at = start + columns * (1 + g) + k
            by_effect = group_scale[k] * gradient[at]
            gradient[start + k] += by_effect * theta[at]
            gradient[at] = by_effect - theta[at]
            value -= 0.5 * theta[at] ** 2
    return value


@njit(cache=True, nogil=True)
def log_density(theta, X, y, groups, point, points, base, weight, shape, prior, cut_mean, cut_sd):
    """Log posterior density up to a constant, and its gradient.

    Parameters
    ----------
    theta : ndarray of shape (n_parameters,)
        Unconstrained parameters in the order of `GateModel.blocks`.
    X : ndarray of shape (n, p)
        Standardised features.
    y : ndarray of shape (n,)
        Code of the level of each row, -1 where unknown.
    groups : ndarray of shape (n,)
        Code of the group of each row.
    point : ndarray of shape (n,)
        Place of the row's residual in `points`, -1 without one.
    points : ndarray of shape (m,)
        Residuals of the rows and of the base distribution.
    base : ndarray of shape (m,)
        Probability of each point in the base distribution.
    weight : ndarray of shape (n,)
        Weight of each row in the likelihood.
    shape : ndarray of shape (7,)
        Numbers of features, classes, columns of coefficients and groups; kind
        of the horseshoe; whether a feature's local scale is shared by its
        columns; whether thresholds are parameters.
    prior : ndarray of shape (9,)
        Scales of intercepts and group effects, tau0, degrees of freedom of the
        local and global scales and of the slab, scale of the slab, softness
        and the standard deviation of its logarithm.
    cut_mean, cut_sd : ndarray of shape (n_classes - 1,)
        Prior of the thresholds.

    Returns
    -------
    value : float
    gradient : ndarray of shape (n_parameters,)
    """
    p, n_classes, columns, n_groups, kind, shared, joint = shape
    n_beta = p * columns
    gradient = np.zeros(len(theta))
    scales_at = columns + n_beta
    groups_at = scales_at
    if kind != NO_HORSESHOE:
        groups_at += 1 + (p if shared else n_beta) + (kind == REGULARIZED_HORSESHOE)
    cuts_at = groups_at + (columns + n_groups * columns if n_groups > 0 else 0)

    log_scale, a = _coefficient_scales(theta, scales_at, shape, prior)
    z = theta[columns:scales_at].copy().reshape(p, columns)
    beta = np.exp(log_scale) * z
    eta = np.dot(X, beta)
    group_scale = np.exp(theta[groups_at : groups_at + (columns if n_groups > 0 else 0)]) * prior[1]
    _add_intercepts(theta, groups, groups_at, group_scale, n_groups, eta)
    cuts, softness = np.empty(0), 1.0
    levels, log_q = np.empty((0, n_classes)), np.zeros(n_classes)
    if joint:
        cuts = _cuts_of(theta, cuts_at, n_classes - 1, cut_mean, cut_sd)
        softness = prior[7] * math.exp(prior[8] * theta[cuts_at + n_classes - 1])
        levels = level_mass(points, cuts, softness)
        log_q = log_base_mass(points, base, levels, cuts, softness)
    residual = np.empty((len(y), columns))
    taken, mass = np.zeros(levels.shape), np.zeros(n_classes)
    value = _row_pass(
        eta, y, point, points, weight, levels, log_q, cuts, softness, residual, taken, mass
    )

    by_beta = np.dot(X.T, residual)
    gradient[columns:scales_at] = (by_beta * np.exp(log_scale) - z).ravel()
    value -= 0.5 * (z**2).sum()
    if kind != NO_HORSESHOE:
        value += _add_horseshoe_terms(theta, scales_at, by_beta * beta, a, shape, prior, gradient)
    value += _add_intercept_terms(
        theta, groups, groups_at, group_scale, n_groups, residual, prior, gradient
    )
    if joint:
        by_cut, by_softness = _cut_gradient(
            points, base, levels, log_q, taken, mass, cuts, softness
        )
        value += _add_cut_terms(theta, cuts_at, cuts, by_cut, cut_mean, cut_sd, gradient)
        at = cuts_at + n_classes - 1
        value -= 0.5 * theta[at] ** 2
        gradient[at] = prior[8] * by_softness - theta[at]
    return value, gradient

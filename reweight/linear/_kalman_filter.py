"""The recursions of Kalman-filtered regression."""

import numpy as np
from numba import njit
from numpy.typing import NDArray
from scipy.linalg import cho_factor, cho_solve, solve_triangular
from scipy.special import gammaln

Array = NDArray[np.float64]


@njit(cache=True)
def filter_drifting_rows(H, y, w, mean, P, noise, drift, inflation, cap, seen, path):
    """Predict and update once a row, changing `mean` and the covariance `P`.

    Parameters
    ----------
    H : ndarray of shape (n, q)
        Rows, with a leading one if there is an intercept.
    y, w : ndarray of shape (n,)
        Outcomes, and positive weights that divide the noise variance.
    mean : ndarray of shape (q,)
        Mean of the coefficients, overwritten.
    P : ndarray of shape (q, q)
        Their covariance, overwritten.
    noise, drift, inflation : float
        Noise variance, variance of a coefficient's step, and 1 / forgetting.
    cap : float
        Largest trace that inflation may lead to, from the q-th row on.
    seen : int
        Rows seen before.
    path : ndarray of shape (n or 0, q)
        Receives the mean after each row.

    Returns
    -------
    sum_log, sum_squares : float
        Sums over rows of log S and of nu^2 / S, with nu the error of the
        one-step forecast and S its variance.
    """
    n, q = H.shape
    gain = np.empty(q)
    product = np.empty(q)
    left = np.empty(q)
    half = np.empty((q, q))
    sum_log = 0.0
    sum_squares = 0.0
    for t in range(n):
        trace = 0.0
        for j in range(q):
            trace += P[j, j]
        if inflation > 1.0 and (seen + t < q or trace * inflation <= cap):
            P *= inflation
        for j in range(q):
            P[j, j] += drift
        variance = noise / w[t]
        total, error = _forecast(H[t], y[t], mean, P, variance, product)
        for i in range(q):
            gain[i] = product[i] / total
            mean[i] += gain[i] * error
        _joseph_update(H[t], P, gain, product, variance, half, left)
        sum_log += np.log(total)
        sum_squares += error * error / total
        if len(path):
            path[t] = mean
    return sum_log, sum_squares


@njit(cache=True)
def filter_rows(H, y, w, mean, S, noise, inflation, cap, seen, path):
    """`filter_drifting_rows` without drift, on a square root of the covariance.

    Without drift a root can be updated for the price of a covariance (Potter's
    form), and keeps twice the digits: it neither loses definiteness nor minds a
    prior variance of 1e6.

    Parameters
    ----------
    H, y, w, mean, noise, inflation, cap, seen, path
        As in `filter_drifting_rows`.
    S : ndarray of shape (q, q)
        Any S with S S' the covariance of the coefficients, overwritten.

    Returns
    -------
    sum_log, sum_squares : float
    """
    n, q = H.shape
    product = np.empty(q)
    direction = np.empty(q)
    sum_log = 0.0
    sum_squares = 0.0
    for t in range(n):
        if inflation > 1.0:
            trace = 0.0
            for i in range(q):
                for j in range(q):
                    trace += S[i, j] * S[i, j]
            if seen + t < q or trace * inflation <= cap:
                S *= np.sqrt(inflation)
        variance = noise / w[t]
        total, error = _root_forecast(H[t], y[t], mean, S, variance, direction, product)
        shrink = 1.0 / (total + np.sqrt(variance * total))
        for i in range(q):
            mean[i] += product[i] / total * error
            for j in range(q):
                S[i, j] -= product[i] * direction[j] * shrink
        sum_log += np.log(total)
        sum_squares += error * error / total
        if len(path):
            path[t] = mean
    return sum_log, sum_squares


@njit(cache=True)
def _root_forecast(h, outcome, mean, S, variance, direction, product):
    """Variance and error of the one-step forecast; fills S' h and S S' h."""
    q = len(h)
    total, error = variance, outcome
    for j in range(q):
        direction[j] = 0.0
    for i in range(q):
        error -= h[i] * mean[i]
        for j in range(q):
            direction[j] += S[i, j] * h[i]
    for j in range(q):
        total += direction[j] * direction[j]
    for i in range(q):
        value = 0.0
        for j in range(q):
            value += S[i, j] * direction[j]
        product[i] = value
    return total, error


@njit(cache=True)
def _forecast(h, outcome, mean, P, variance, product):
    """Variance and error of the one-step forecast; fills `product` with P h."""
    q = len(h)
    total, error = variance, outcome
    for i in range(q):
        value = 0.0
        for j in range(q):
            value += P[i, j] * h[j]
        product[i] = value
        total += value * h[i]
        error -= h[i] * mean[i]
    return total, error


@njit(cache=True)
def _joseph_update(h, P, gain, product, variance, half, left):
    """Covariance after the update, in place; `half` and `left` are scratch."""
    q = len(h)
    # Joseph's form (I - g h) P (I - g h)' + r g g', one factor at a time: the second takes
    # back the rounding of the first, which (I - g h) P alone would keep as lost definiteness.
    for i in range(q):
        value = 0.0
        for j in range(q):
            half[i, j] = P[i, j] - gain[i] * product[j]
            value += half[i, j] * h[j]
        left[i] = variance * gain[i] - value
    for i in range(q):
        for j in range(i + 1):
            value = 0.5 * (half[i, j] + left[i] * gain[j] + half[j, i] + left[j] * gain[i])
            P[i, j] = value
            P[j, i] = value


def update_batch(
    H: Array, y: Array, w: Array, mean: Array, S: Array, noise: float
) -> tuple[Array, Array, float, float]:
    """All rows at once for coefficients that stand still; the same as `filter_rows`.

    In coordinates in which the prior covariance is the identity, so that the
    system is as well conditioned as the rows allow.

    Returns
    -------
    mean, S, sum_log, sum_squares
    """
    scale = np.sqrt(w / noise)
    A = (H * scale[:, None]) @ S
    error = (y - H @ mean) * scale
    system = A.T @ A
    system[np.diag_indices_from(system)] += 1.0
    try:
        factor = cho_factor(system, lower=True, check_finite=False)
    except np.linalg.LinAlgError:
        raise ValueError(
            "KalmanLinearRegression: the columns of X, with the intercept, cannot be told apart in "
            f"floating point numbers; their largest entry is {np.abs(H).max():.3g}. Centre and "
            "scale them, for example by StandardScaler"
        ) from None
    step = cho_solve(factor, A.T @ error, check_finite=False)
    root = solve_triangular(factor[0], S.T, lower=True, check_finite=False).T
    left = error - A @ step
    sum_squares = float(left @ left + step @ step)
    sum_log = float(2 * np.log(np.diag(factor[0])).sum() - 2 * np.log(scale).sum())
    return mean + S @ step, root, sum_log, sum_squares


@njit(cache=True)
def smoothed_gradient_rows(H, y, w, theta, mean, state, ratio, eta0, decay, path):
    """Stochastic gradient steps whose iterates a local-level filter smooths.

    Parameters
    ----------
    H : ndarray of shape (n, q)
        Rows, with a leading one if there is an intercept.
    y, w : ndarray of shape (n,)
        Outcomes and weights.
    theta, mean : ndarray of shape (q,)
        Iterate and its filtered value, overwritten.
    state : ndarray of shape (2,)
        Filter variance in units of the iterates' noise (infinite at the start), and
        the number of steps; overwritten.
    ratio : float
        Variance of the level's steps over that of the iterates' noise.
    eta0, decay : float
        Step size eta0 / (1 + decay t).
    path : ndarray of shape (n or 0, q)
        Receives the filtered value after each row.

    Returns
    -------
    float
        Sum of squared one-step forecast errors times weights.
    """
    n, q = H.shape
    squares = 0.0
    for t in range(n):
        rate = eta0 / (1.0 + decay * state[1])
        error = y[t]
        forecast_error = y[t]
        for j in range(q):
            error -= H[t, j] * theta[j]
            forecast_error -= H[t, j] * mean[j]
        squares += w[t] * forecast_error * forecast_error
        predicted = state[0] + ratio
        gain = 1.0 if np.isinf(predicted) else predicted / (predicted + 1.0)
        for j in range(q):
            theta[j] += rate * w[t] * error * H[t, j]
            mean[j] += gain * (theta[j] - mean[j])
        # gain = P / (P + 1) of the predicted variance is also the filtered variance.
        state[0] = gain
        state[1] += 1.0
        if len(path):
            path[t] = mean
    return squares


def log_evidence(
    n: int, sum_log: float, sum_squares: float, prior: tuple[float, float] | None
) -> float:
    """Log density of n outcomes from the sums that a filter returns.

    `prior` holds shape and scale of the inverse-gamma prior of a noise variance in
    whose units the filter ran; None is a known one.
    """
    value = -0.5 * (n * np.log(2 * np.pi) + sum_log)
    if prior is None:
        return float(value - 0.5 * sum_squares)
    shape, scale = prior
    a, b = shape + 0.5 * n, scale + 0.5 * sum_squares
    normaliser = shape * np.log(scale) - gammaln(shape)
    return float(value + normaliser + gammaln(a) - a * np.log(b))

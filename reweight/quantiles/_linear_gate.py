"""Weights over quantiles that are a softmax of a linear function of features, by gradients."""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import softmax

Array = NDArray[np.float64]

# The loss is smoothed over this many standard deviations of y at first, then ten times less.
FIRST_SMOOTHING = 0.1
SMOOTHING_STEP = 0.1
# Weight that every input gets at the start, without which the gradient of none would ever move it.
START_WEIGHT = 1e-3
SMALLEST_WEIGHT = 1e-16
HISTORY = 20


@dataclass(frozen=True)
class GateProblem:
    """What one gate learns from: the levels that share its weights.

    Parameters
    ----------
    features : ndarray of shape (n, d)
        Standardised, without intercept.
    inputs : ndarray of shape (n, D, K)
        Quantiles to be averaged over the second axis, for each level.
    y : ndarray of shape (n,)
        Outcomes.
    levels : ndarray of shape (K,)
        Levels.
    weights : ndarray of shape (n,)
        Row weights that sum to one.
    """

    features: Array
    inputs: Array
    y: Array
    levels: Array
    weights: Array

    def at(self, rows: NDArray[np.intp]) -> "GateProblem":
        """The problem of some rows.

        Parameters
        ----------
        rows : ndarray of int
            Which.

        Returns
        -------
        GateProblem
        """
        w = self.weights[rows]
        return replace(
            self,
            features=self.features[rows],
            inputs=self.inputs[rows],
            y=self.y[rows],
            weights=w / w.sum(),
        )


def gate_inputs(Q: Array, granularity: str) -> list[Array]:
    """What each gate averages.

    Parameters
    ----------
    Q : ndarray of shape (n, p, m)
        Stacked quantiles.
    granularity : {"coarse", "medium", "fine"}
        One gate for all levels, or one for each, over models or over all quantiles.

    Returns
    -------
    list of ndarray of shape (n, D, K)
    """
    if granularity == "coarse":
        return [Q]
    if granularity == "medium":
        return [Q[:, :, [k]] for k in range(Q.shape[2])]
    return [Q.reshape(len(Q), -1, 1)] * Q.shape[2]


def gate_problems(
    features: Array, Q: Array, y: Array, levels: Array, weights: Array, granularity: str
) -> list[GateProblem]:
    """What each gate learns from.

    Parameters
    ----------
    features : ndarray of shape (n, d)
        Standardised.
    Q : ndarray of shape (n, p, m)
        Stacked quantiles.
    y : ndarray of shape (n,)
        Outcomes.
    levels : ndarray of shape (m,)
        Levels.
    weights : ndarray of shape (n,)
        Row weights that sum to one.
    granularity : {"coarse", "medium", "fine"}
        What weights are for.

    Returns
    -------
    list of GateProblem
    """
    inputs = gate_inputs(Q, granularity)
    return [
        GateProblem(features, part, y, level, weights)
        for part, level in zip(inputs, np.split(levels, len(inputs)), strict=True)
    ]


def gate_weights(theta: Array, features: Array) -> Array:
    """Weights of each row.

    Parameters
    ----------
    theta : ndarray of shape (1 + d, D)
        Intercepts and coefficients of the logits.
    features : ndarray of shape (n, d)
        Features.

    Returns
    -------
    ndarray of shape (n, D)
        Rows sum to one.
    """
    return softmax(theta[0] + features @ theta[1:], axis=1)


def lay_out(weights: Array, n_models: int, granularity: str) -> Array:
    """Weights of all gates, laid out as those of `QuantileAggregator` after the first axis.

    Parameters
    ----------
    weights : ndarray of shape (n, D, n_gates)
        Weights of each row and gate.
    n_models : int
        Number of models p.
    granularity : {"coarse", "medium", "fine"}
        What weights are for.

    Returns
    -------
    ndarray of shape (n, p), (n, p, m) or (n, p, m, m)
    """
    if granularity == "coarse":
        return weights[:, :, 0]
    if granularity == "medium":
        return weights
    return weights.reshape(len(weights), n_models, -1, weights.shape[2])


def gate_loss(theta: Array, problem: GateProblem) -> float:
    """Mean pinball loss, as it is.

    Parameters
    ----------
    theta : ndarray of shape (1 + d, D)
        Intercepts and coefficients.
    problem : GateProblem
        Rows to judge by.

    Returns
    -------
    float
    """
    combined = np.einsum("nd,ndk->nk", gate_weights(theta, problem.features), problem.inputs)
    residual = problem.y[:, None] - combined
    losses = np.maximum(problem.levels * residual, (problem.levels - 1) * residual)
    return float(problem.weights @ losses.mean(axis=1))


def smooth_gate_loss(
    theta: Array, problem: GateProblem, smoothing: float, alpha: float
) -> tuple[float, Array]:
    r"""Loss with a kink rounded off over `smoothing`, plus ridge, and its gradient.

    In place of :math:`|r|` stands :math:`r^2/(2h)` for :math:`|r| < h` and
    :math:`|r| - h/2` beyond.

    Parameters
    ----------
    theta : ndarray of shape (1 + d, D)
        Intercepts and coefficients.
    problem : GateProblem
        Rows to learn from.
    smoothing : float
        h, in the units of y.
    alpha : float
        Ridge on the coefficients, not the intercepts.

    Returns
    -------
    value : float
    gradient : ndarray of shape (1 + d, D)
    """
    W = gate_weights(theta, problem.features)
    combined = np.einsum("nd,ndk->nk", W, problem.inputs)
    residual = problem.y[:, None] - combined
    side = np.where(residual >= 0, problem.levels, 1 - problem.levels)
    size = np.abs(residual)
    rounded = np.where(size < smoothing, residual**2 / (2 * smoothing), size - smoothing / 2)
    slopes = theta[1:]
    value = problem.weights @ (side * rounded).mean(axis=1) + 0.5 * alpha * (slopes**2).sum()
    # Change of the loss by that of each combined quantile, then by that of each logit.
    outer = -side * np.clip(residual / smoothing, -1, 1)
    outer *= (problem.weights / len(problem.levels))[:, None]
    by_input = np.einsum("ndk,nk->nd", problem.inputs, outer)
    logits = W * (by_input - (outer * combined).sum(axis=1)[:, None])
    gradient = np.vstack([logits.sum(axis=0), problem.features.T @ logits + alpha * slopes])
    return float(value), gradient


def constant_gate(weights: Array, n_features: int, smallest: float = SMALLEST_WEIGHT) -> Array:
    """Coefficients that give every row the same weights.

    Parameters
    ----------
    weights : ndarray of shape (D,)
        The weights.
    n_features : int
        Number of features d.
    smallest : float
        What is added to each weight, whose logarithm must exist.

    Returns
    -------
    ndarray of shape (1 + d, D)
    """
    theta = np.zeros((1 + n_features, len(weights)))
    theta[0] = np.log(np.maximum(weights, 0) + smallest)
    return theta


def fit_gate(
    problem: GateProblem,
    start: Array,
    alpha: float,
    smoothings: list[float],
    tol: float,
    limit: int,
) -> tuple[Array, int, bool]:
    """Minimise the smoothed loss, ever less smoothed.

    Parameters
    ----------
    problem : GateProblem
        Rows to learn from.
    start : ndarray of shape (1 + d, D)
        Coefficients to begin with.
    alpha : float
        Ridge.
    smoothings : list of float
        In the units of y, decreasing.
    tol : float
        Largest relative decrease of the loss at which to stop.
    limit : int
        Largest number of iterations at one smoothing.

    Returns
    -------
    theta : ndarray of shape (1 + d, D)
    n_iter : int
    converged : bool
    """
    theta, n_iter, converged = start, 0, True
    for smoothing in smoothings:

        def function(flat: Array, smoothing: float = smoothing) -> tuple[float, Array]:
            value, gradient = smooth_gate_loss(flat.reshape(start.shape), problem, smoothing, alpha)
            return value, gradient.ravel()

        result = minimize(
            function,
            theta.ravel(),
            jac=True,
            method="L-BFGS-B",
            options={"maxiter": limit, "maxfun": 2 * limit, "ftol": tol, "maxcor": HISTORY},
        )
        theta = result.x.reshape(start.shape)
        n_iter += int(result.nit)
        converged = result.status != 1
    return theta, n_iter, converged


def smoothing_path(last: float, scale: float) -> list[float]:
    """Smoothings from coarse to fine.

    Parameters
    ----------
    last : float
        The last, in units of `scale`.
    scale : float
        Standard deviation of y.

    Returns
    -------
    list of float
    """
    path, smoothing = [], FIRST_SMOOTHING
    while smoothing > last * (1 + 1e-9):
        path.append(smoothing * scale)
        smoothing *= SMOOTHING_STEP
    return [*path, last * scale]


def path_losses(
    problem: GateProblem,
    train: NDArray[np.intp],
    test: NDArray[np.intp],
    weights: Array,
    alphas: list[float],
    smoothings: list[float],
    tol: float,
    limit: int,
) -> list[float]:
    """Loss on held-out rows for each ridge, from the largest, each started where the last ended.

    Parameters
    ----------
    problem : GateProblem
        All rows.
    train, test : ndarray of int
        Rows to learn from and to judge by.
    weights : ndarray of shape (D,)
        Constant weights to start from, which an infinite ridge keeps.
    alphas : list of float
        Decreasing ridges.
    smoothings : list of float
        Smoothings of the first; the others take the last of them.
    tol : float
        Tolerance of each fit.
    limit : int
        Largest number of iterations.

    Returns
    -------
    list of float
    """
    part, held_out = problem.at(train), problem.at(test)
    d = part.features.shape[1]
    theta, losses, path = constant_gate(weights, d, START_WEIGHT), [], smoothings
    for alpha in alphas:
        if np.isinf(alpha):
            losses.append(gate_loss(constant_gate(weights, d), held_out))
            continue
        theta, _, _ = fit_gate(part, theta, alpha, path, tol, limit)
        path = smoothings[-1:]
        losses.append(gate_loss(theta, held_out))
    return losses


def best_gate(
    problem: GateProblem,
    weights: Array,
    alpha: float,
    smoothings: list[float],
    tol: float,
    limit: int,
) -> tuple[Array, int, bool]:
    """The gate of least loss, or the constant one where that is no worse.

    Parameters
    ----------
    problem : GateProblem
        Rows to learn from.
    weights : ndarray of shape (D,)
        Constant weights.
    alpha : float
        Ridge; infinite keeps them.
    smoothings : list of float
        In the units of y, decreasing.
    tol : float
        Tolerance.
    limit : int
        Largest number of iterations at one smoothing.

    Returns
    -------
    theta : ndarray of shape (1 + d, D)
    n_iter : int
    converged : bool
    """
    d = problem.features.shape[1]
    constant = constant_gate(weights, d)
    if np.isinf(alpha):
        return constant, 0, True
    start = constant_gate(weights, d, START_WEIGHT)
    theta, n_iter, converged = fit_gate(problem, start, alpha, smoothings, tol, limit)
    if gate_loss(constant, problem) <= gate_loss(theta, problem):
        return constant, n_iter, converged
    return theta, n_iter, converged

"""One fit of a minimax risk classifier: moments, confidence bounds, learning, and validation."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reweight.exceptions import InfeasibleError
from reweight.solvers.result import SolverResult
from shift.covariate._minimax_confidence import (
    Confidence,
    attain_bounds,
    feasible_bounds,
    standard_error_bounds,
)
from shift.covariate._minimax_log import minimize_log_loss
from shift.covariate._minimax_loss import largest_risk, rule
from shift.covariate._minimax_pieces import minimize_pieces
from shift.covariate._minimax_problem import MinimaxProblem


@dataclass(frozen=True)
class Solution:
    """What a fit leaves.

    Parameters
    ----------
    M : ndarray of shape (C, q)
        Coefficients.
    tau : ndarray of shape (C, q)
        Weighted means of the source features of each class.
    confidence : Confidence
        Confidence bounds.
    result : SolverResult
        Certificate; the gap is relative to the risk of knowing nothing.
    """

    M: NDArray[np.float64]
    tau: NDArray[np.float64]
    confidence: Confidence
    result: SolverResult


@dataclass(frozen=True)
class Game:
    """Everything about a fit but the pair of weights.

    Parameters
    ----------
    source : ndarray of shape (n, q)
        Features of the source rows.
    labels : ndarray of int of shape (n,)
        Class of each source row.
    sample_weight : ndarray of shape (n,)
        Positive sampling weights of the source rows.
    target : ndarray of shape (t, q)
        Features of the target rows.
    row_weight : ndarray of shape (t,)
        Weights of the target rows, summing to one.
    classes : ndarray of shape (C,)
        Class labels.
    loss : {"0-1", "log"}
        Loss.
    confidence : {"feasible", "std"} or ndarray of shape (C, q)
        Rule of the confidence bounds, or the bounds.
    slack : float
        Added to the bounds of "feasible".
    tol : float
        Gap at which to stop, relative to the risk of knowing nothing.
    max_iter : int
        Largest number of steps.
    """

    source: NDArray[np.float64]
    labels: NDArray[np.intp]
    sample_weight: NDArray[np.float64]
    target: NDArray[np.float64]
    row_weight: NDArray[np.float64]
    classes: NDArray
    loss: str
    confidence: Any
    slack: float
    tol: float
    max_iter: int

    @property
    def n_classes(self) -> int:
        """Number of classes."""
        return len(self.classes)

    def solve(self, source_weights: NDArray, target_weights: NDArray) -> Solution:
        """Fit for one pair of weights; source weights without the sampling weights.

        Raises
        ------
        InfeasibleError
            If no class probabilities of the target rows attain the confidence bounds.
        """
        share = self.sample_weight * source_weights / self.sample_weight.sum()
        tau = np.stack([share * (self.labels == c) @ self.source for c in range(self.n_classes)])
        problem = MinimaxProblem(
            features=self.target * target_weights[:, None],
            row_weight=self.row_weight,
            tau=tau,
            bounds=np.zeros_like(tau),
            loss=self.loss,
        )
        confidence = self._bounds(problem, source_weights)
        problem = replace(problem, bounds=confidence.bounds)
        risk = largest_risk(self.n_classes, self.loss)
        if self.loss == "log":
            result = minimize_log_loss(
                problem, confidence.interior, tol=self.tol * risk, max_iter=self.max_iter
            )
        else:
            result = minimize_pieces(problem, max_iter=self.max_iter)
        M = settle_common_shift(result.x, problem)
        value = problem.objective(M)
        lower = problem.lower_bound(result.dual, confidence.interior)
        if self.loss == "log":
            lower = max(lower, result.objective - result.optimality_gap)
        gap = max(value - lower, 0.0) / risk
        result = replace(
            result, x=M, objective=value, optimality_gap=gap, converged=bool(gap <= self.tol)
        )
        return Solution(M, tau, confidence, result)

    def _bounds(self, problem: MinimaxProblem, source_weights: NDArray) -> Confidence:
        if isinstance(self.confidence, str) and self.confidence == "feasible":
            return feasible_bounds(problem, self.slack)
        if isinstance(self.confidence, str):
            bounds = standard_error_bounds(
                self.source, self.labels, source_weights, self.sample_weight, self.n_classes
            )
        else:
            bounds = self.confidence
        confidence = attain_bounds(replace(problem, bounds=bounds))
        if confidence.distance > 0:
            outside = np.abs(problem.residual(confidence.interior)) - bounds
            c, j = np.unravel_index(np.argmax(outside), outside.shape)
            raise InfeasibleError(
                "DoubleWeightingClassifier: confidence too small: the uncertainty set is empty "
                f"(violation {outside[c, j]:.3g} at feature {j}, class "
                f"{self.classes.tolist()[c]!r}); pass larger bounds or use 'feasible'",
                worst_column=int(j),
            )
        return confidence

    def validation_risk(
        self,
        source_weights: NDArray[np.float64],
        target_weights: NDArray[np.float64],
        own_target_weights: NDArray[np.float64] | None,
        importance: NDArray[np.float64],
        folds: list[tuple[NDArray, NDArray]],
    ) -> float:
        """Importance-weighted cross-validation of one pair of weights.

        Parameters
        ----------
        source_weights : ndarray of shape (n,)
            Source weights, without the sampling weights.
        target_weights : ndarray of shape (t,)
            Target weights.
        own_target_weights : ndarray of shape (n,) or None
            Target weights of the source rows, where the rule has to answer; None is one.
        importance : ndarray of shape (n,)
            Density ratio of target to source, the same for all pairs that are compared.
        folds : list of tuple of ndarray
            Training and held-out rows of each fold.

        Returns
        -------
        float
            (1/n) sum of importance times loss over all held-out rows.
        """
        losses = np.zeros(len(self.labels))
        alpha = np.ones(len(self.labels)) if own_target_weights is None else own_target_weights
        for train, test in folds:
            part = replace(
                self,
                source=self.source[train],
                labels=self.labels[train],
                sample_weight=self.sample_weight[train],
            )
            M = part.solve(source_weights[train], target_weights).M
            losses[test] = self._losses(M, test, alpha)
        return float((self.sample_weight * importance) @ losses / self.sample_weight.sum())

    def _losses(self, M: NDArray, rows: NDArray, own_target_weights: NDArray) -> NDArray:
        scores = self.source[rows] @ M.T
        if self.loss == "0-1":
            return (np.argmax(scores, axis=1) != self.labels[rows]).astype(float)
        P = rule(own_target_weights[rows, None] * scores, "log")
        given = P[np.arange(len(rows)), self.labels[rows]]
        return -np.log(np.maximum(given, np.finfo(float).tiny))


def settle_common_shift(M: NDArray[np.float64], problem: MinimaxProblem) -> NDArray[np.float64]:
    """Add the same row to the coefficients of all classes, as the objective or else the norm asks.

    A common shift changes no rule, so the objective is a piecewise linear function of it, least on
    an interval whose point of least norm treats all classes alike.

    Parameters
    ----------
    M : ndarray of shape (C, q)
        Coefficients.
    problem : MinimaxProblem
        Problem.

    Returns
    -------
    ndarray of shape (C, q)
    """
    slope = problem.weighted_features.sum(axis=0) - problem.tau.sum(axis=0)
    order = np.argsort(-M, axis=0)
    kinks = np.take_along_axis(-M, order, axis=0)
    weights = np.take_along_axis(problem.bounds, order, axis=0)
    total = weights.sum(axis=0)
    right = slope - total + 2 * np.cumsum(weights, axis=0)
    flat = 1e-9 * total + np.finfo(float).eps
    columns = np.arange(M.shape[1])
    last = len(M) - 1
    low = kinks[np.minimum((right < -flat).sum(axis=0), last), columns]
    high = kinks[np.minimum((right <= flat).sum(axis=0), last), columns]
    return M + np.clip(-M.mean(axis=0), low, high)

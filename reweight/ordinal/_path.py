"""Fits along a path of penalties, each started at the one before."""

from dataclasses import dataclass
from numbers import Integral
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator
from sklearn.exceptions import ConvergenceWarning

from reweight.ordinal._cumulative_logit import gradient, loss_terms, null_model
from reweight.ordinal._design import OrdinalDesign, elastic_net, largest_alpha
from reweight.ordinal._newton_cd import Penalty, fista, newton_cd
from reweight.solvers.result import SolverResult
from reweight.validation import warn_user

Array = NDArray[np.float64]

MANY_PARAMETERS = 2000
SEPARATED = 30.0


@dataclass(frozen=True)
class OrdinalPath:
    """Models of one data set for several strengths of the penalty, the strongest first.

    Parameters
    ----------
    alphas : ndarray of shape (n_alphas,)
        Strengths of the penalty, descending.
    intercept : ndarray of shape (n_alphas, n_classes - 1)
        Intercepts of the boundaries.
    coef : ndarray of shape (n_alphas, n_classes - 1, n_features)
        Slopes of the boundaries.
    differences : ndarray of shape (n_alphas, n_classes - 1, n_features)
        Slopes of the first boundary, and differences of neighbours.
    loss : ndarray of shape (n_alphas,)
        Mean negative log-likelihood of the training rows.
    objective : ndarray of shape (n_alphas,)
        Loss plus penalty.
    optimality_gap : ndarray of shape (n_alphas,)
        Largest violation of the optimality conditions.
    n_iter : ndarray of shape (n_alphas,)
        Steps of the solver.
    classes : ndarray of shape (n_classes,)
        Levels in their order.
    """

    alphas: Array
    intercept: Array
    coef: Array
    differences: Array
    loss: Array
    objective: Array
    optimality_gap: Array
    n_iter: NDArray[np.intp]
    classes: NDArray

    @property
    def n_relaxed(self) -> NDArray[np.intp]:
        """Number of slopes that differ from those of the boundary before, by strength."""
        return np.count_nonzero(self.differences[:, 1:], axis=(1, 2))


def solve(
    estimator: BaseEstimator, design: OrdinalDesign, penalty: Penalty, start: Array
) -> SolverResult:
    """One fit by the estimator's solver."""
    name = estimator.solver
    if name == "auto":
        name = "newton-cd" if start.size <= MANY_PARAMETERS else "fista"
    return {"newton-cd": newton_cd, "fista": fista}[name](
        design.problem,
        penalty,
        start,
        tol=estimator.tol,
        max_iter=estimator.max_iter,
        no_crossing=estimator.domain == "all",
    )


def without_penalised(estimator: BaseEstimator, design: OrdinalDesign, unit: Array) -> Array:
    """The fit in which all penalised coordinates are zero."""
    start = null_model(design.problem)
    free = unit == 0
    if not free[:, 1:].any():
        return start
    return solve(
        estimator, design, Penalty(np.zeros(unit.shape), np.zeros(unit.shape), free), start
    ).x


def grid(estimator: BaseEstimator, design: OrdinalDesign, alphas: Any, eps: float, unit: Array):
    """Descending strengths: those given, or a number of them from the largest useful one down."""
    name = type(estimator).__name__
    if not isinstance(alphas, Integral):
        values = np.unique(np.asarray(alphas, dtype=np.float64))[::-1]
        if values.ndim != 1 or not values.size or not np.isfinite(values).all() or values[-1] < 0:
            raise ValueError(
                f"{name}: alphas must be a number of strengths or non-negative, finite strengths, "
                f"got {alphas!r}"
            )
        return values
    theta = without_penalised(estimator, design, unit)
    slope = gradient(design.problem, loss_terms(design.problem, theta)[1])
    top = largest_alpha(slope, unit, estimator.l1_ratio)
    if top == 0:
        raise ValueError(
            f"{name}: nothing to penalise: all penalty_factors are zero or all features are "
            "constant; pass alphas as numbers"
        )
    return top * np.geomspace(1.0, eps, int(alphas))


def fit_path(
    estimator: BaseEstimator,
    design: OrdinalDesign,
    alphas: Array,
    unit: Array,
    classes: NDArray,
) -> OrdinalPath:
    """Models for descending strengths."""
    theta = null_model(design.problem)
    results, losses, parts = [], [], []
    for alpha in alphas:
        penalty = elastic_net(alpha, estimator.l1_ratio, unit)
        result = solve(estimator, design, penalty, theta)
        theta = result.x
        results.append(result)
        losses.append(result.objective - penalty.value(theta))
        parts.append(design.to_original(theta))
    intercept, coef, differences = (np.array(part) for part in zip(*parts, strict=True))
    return OrdinalPath(
        alphas=np.asarray(alphas, dtype=np.float64),
        intercept=intercept,
        coef=coef,
        differences=differences,
        loss=np.array(losses),
        objective=np.array([result.objective for result in results]),
        optimality_gap=np.array([result.optimality_gap for result in results]),
        n_iter=np.array([result.n_iter for result in results]),
        classes=classes,
    )


def warn_unless_converged(estimator: BaseEstimator, gaps: Array) -> None:
    """Say that fits stopped short of the tolerance, and how far."""
    gaps = np.atleast_1d(gaps)
    short = int((gaps > estimator.tol).sum())
    if not short:
        return
    name = type(estimator).__name__
    fits = f"{short} of {gaps.size} fits" if gaps.size > 1 else "the fit"
    cure = "raise max_iter or alpha, or lower the demand tol"
    if estimator.domain == "all":
        cure += "; with domain='all' the solver also stops where a training row would cross"
    warn_user(
        f"{name}: {fits} did not converge: the optimality conditions are violated by "
        f"{gaps.max():.2g}, tol={estimator.tol:g}; {cure}",
        ConvergenceWarning,
    )


def warn_if_separated(estimator: BaseEstimator, theta: Array) -> None:
    """Say that a level is told apart perfectly, so that no finite maximum exists."""
    worst = float(np.abs(theta[:, 0]).max())
    if worst > SEPARATED:
        warn_user(
            f"{type(estimator).__name__}: an intercept at the features' means is {worst:.0f}: the "
            "features separate levels perfectly and the likelihood has no maximum; use alpha > 0",
            ConvergenceWarning,
        )

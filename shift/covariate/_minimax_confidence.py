"""How far the moments of the target may lie from those of the source: the confidence bounds."""

from dataclasses import dataclass, replace

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from shift.covariate._minimax_pieces import minimize_pieces
from shift.covariate._minimax_problem import MinimaxProblem

STANDARD_ERRORS = 0.3
TIE = 1e-8


@dataclass(frozen=True)
class Confidence:
    """Confidence bounds and class probabilities that attain them.

    Parameters
    ----------
    bounds : ndarray of shape (C, q)
        Bounds.
    interior : ndarray of shape (t, C)
        Class probabilities of the target rows whose moments lie within the bounds.
    distance : float
        For "feasible" the smallest sum of absolute residuals of any probabilities; else the sum of
        what `interior` leaves outside the bounds, zero if they can be attained.
    unique : bool
        Whether the bounds are the unique least-squares ones, which only a failure of the quadratic
        program prevents.
    """

    bounds: NDArray[np.float64]
    interior: NDArray[np.float64]
    distance: float
    unique: bool = True


def feasible_bounds(problem: MinimaxProblem, slack: float) -> Confidence:
    """|E| + slack, E the residual of least Euclidean norm among those of least absolute sum.

    The least absolute sum leaves E undetermined, and with it the risk and the rule; the second
    criterion is strictly convex in E, so that the bounds do not depend on a solver.

    Parameters
    ----------
    problem : MinimaxProblem
        Problem; its bounds and loss are not used.
    slack : float
        Added to every bound, so that the learning problem has a solution.

    Returns
    -------
    Confidence
    """
    nearest = replace(problem, bounds=np.zeros_like(problem.tau), loss="maximum")
    result = minimize_pieces(nearest, box=1.0)
    P, distance, unique = result.dual, -result.objective, True
    if distance > 1e-10 * (1.0 + np.abs(problem.tau).sum()):
        P, unique = _least_norm(nearest, result.x, P, distance)
    return Confidence(np.abs(problem.residual(P)) + slack, P, distance, unique)


def _least_norm(
    problem: MinimaxProblem, Y: NDArray[np.float64], P: NDArray[np.float64], distance: float
) -> tuple[NDArray[np.float64], bool]:
    """The point of least ||E||_2 on the face that one optimal multiplier Y describes.

    Every solution gives each row only classes of largest score Y f_i, and has E_cj = 0 where
    |Y_cj| < 1 and the sign of Y_cj elsewhere; so only rows with tied classes are free.
    """
    scores = problem.scores(Y)
    near = scores >= scores.max(axis=1, keepdims=True) - TIE * np.abs(scores).max()
    tied = np.flatnonzero((near.sum(axis=1) > 1) | ((P > TIE) & (P < 1 - TIE)).any(axis=1))
    if not tied.size:
        return P, True
    held = P.copy()
    held[tied] = 0.0
    allowed = near[tied] | (P[tied] > TIE)
    at_bound = np.abs(Y) > 1 - 1e-7
    solution = _face_program(problem, tied, allowed, problem.residual(held), at_bound, np.sign(Y))
    if solution is not None:
        held[tied] = solution
        if np.abs(problem.residual(held)).sum() <= distance * (1 + 1e-6) + 1e-9:
            return held, True
    return P, False


def _face_program(
    problem: MinimaxProblem,
    rows: NDArray[np.intp],
    allowed: NDArray[np.bool_],
    moments: NDArray[np.float64],
    at_bound: NDArray[np.bool_],
    signs: NDArray[np.float64],
) -> NDArray[np.float64] | None:
    """Probabilities of `rows` with the least ||moments - theirs||_2, by Clarabel; None if it fails.

    Residuals are zero outside `at_bound` and have the given signs inside.
    """
    import clarabel

    C, q = problem.tau.shape
    row, label = np.nonzero(allowed)
    features = problem.weighted_features[rows[row]]
    n, free = row.size, np.flatnonzero(at_bound.ravel())
    columns = label[:, None] * q + np.arange(q)
    A = sp.csc_matrix(
        (features.ravel(), (columns.ravel(), np.repeat(np.arange(n), q))), shape=(C * q, n)
    )
    # Unknowns: the probabilities, then the residuals that may differ from zero.
    residuals = sp.csc_matrix(
        (np.ones(free.size), (free, np.arange(free.size))), (C * q, free.size)
    )
    sums = sp.csc_matrix((np.ones(n), (row, np.arange(n))), shape=(len(rows), n + free.size))
    facing = np.concatenate([np.ones(n), signs.ravel()[free]])
    constraints = sp.vstack([sp.hstack([A, residuals]), sums, -sp.diags(facing)], format="csc")
    right = np.concatenate([moments.ravel(), np.ones(len(rows)), np.zeros(n + free.size)])
    settings = clarabel.DefaultSettings()
    settings.verbose = False
    settings.tol_gap_abs = settings.tol_gap_rel = settings.tol_feas = 1e-11
    cones = [clarabel.ZeroConeT(C * q + len(rows)), clarabel.NonnegativeConeT(n + free.size)]
    quadratic = sp.diags(np.concatenate([np.zeros(n), np.ones(free.size)]), format="csc")
    solution = clarabel.DefaultSolver(
        quadratic, np.zeros(n + free.size), constraints, right, cones, settings
    ).solve()
    if str(solution.status) not in ("Solved", "AlmostSolved"):
        return None
    P = np.zeros(allowed.shape)
    P[row, label] = np.maximum(np.asarray(solution.x)[:n], 0.0)
    return P / P.sum(axis=1, keepdims=True)


def standard_error_bounds(
    features: NDArray[np.float64],
    labels: NDArray[np.intp],
    weights: NDArray[np.float64],
    sample_weight: NDArray[np.float64],
    n_classes: int,
) -> NDArray[np.float64]:
    """0.3 standard errors of the weighted class means of the features.

    Parameters
    ----------
    features : ndarray of shape (n, q)
        Features of the source rows.
    labels : ndarray of int of shape (n,)
        Class of each row.
    weights : ndarray of shape (n,)
        Source weights.
    sample_weight : ndarray of shape (n,)
        Sampling weights; their effective number stands for the number of rows.
    n_classes : int
        Number of classes.

    Returns
    -------
    ndarray of shape (n_classes, q)
    """
    s = sample_weight / sample_weight.sum()
    bounds = np.empty((n_classes, features.shape[1]))
    for c in range(n_classes):
        terms = features * (weights * (labels == c))[:, None]
        bounds[c] = np.sqrt(s @ (terms - s @ terms) ** 2)
    return STANDARD_ERRORS * bounds * np.sqrt(np.sum(s**2))


def attain_bounds(problem: MinimaxProblem) -> Confidence:
    """Class probabilities within the problem's bounds, or as near as can be.

    Parameters
    ----------
    problem : MinimaxProblem
        Problem with its bounds; its loss is not used.

    Returns
    -------
    Confidence
        `distance` is zero if and only if the bounds can be attained.
    """
    scale = 1.0 + np.abs(problem.tau).sum()
    # A little room inside the bounds is what certificates are made of.
    for shrink in (1 - 1e-3, 1.0):
        inner = replace(problem, bounds=shrink * problem.bounds, loss="maximum")
        result = minimize_pieces(inner, box=1.0)
        P = result.dual
        distance = float(np.maximum(np.abs(problem.residual(P)) - problem.bounds, 0.0).sum())
        if distance <= 1e-10 * scale:
            return Confidence(problem.bounds, P, 0.0)
    return Confidence(problem.bounds, P, distance)

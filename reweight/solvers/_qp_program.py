"""From a quadratic program over weights to a certified solution of it."""

from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike, NDArray

from reweight.solvers._interior_point import (
    ROUND_OFF,
    Hessian,
    InteriorPoint,
    interior_point,
    objective_size,
)
from reweight.solvers._qp_constraints import Constraints, certified_gap
from reweight.solvers.result import SolverResult

INTERIOR_SHARE = 1e-3
POLISH_ROUNDS = 3
PROXIMAL = 1e-8
PROXIMAL_STEPS = 3
FEASIBILITY_TOLERANCE = 1e-9
NEGLIGIBLE = 1e-6


def solve_program(
    restrict: Callable[[NDArray[np.bool_]], Hessian],
    c: NDArray[np.float64],
    constraints: Constraints,
    tol: float,
    max_iter: int,
    solver: str,
) -> SolverResult:
    """Hold the weights that cannot move, solve for the rest, polish and certify.

    Parameters
    ----------
    restrict : callable
        Q restricted to the rows of a mask; with all rows, Q itself.
    c : ndarray of shape (n,)
        Linear term.
    constraints : Constraints
        The feasible set.
    tol : float
        Relative duality gap asked for.
    max_iter : int
        Largest number of Newton steps.
    solver : str
        Name of the algorithm.

    Returns
    -------
    SolverResult
    """
    whole = restrict(np.ones(len(c), dtype=bool))
    free, w = movable(constraints)
    y = np.zeros(len(constraints.A))
    n_iter = 0
    if free.any():
        linear = c[free] - whole.product(np.where(free, 0.0, w))[free]
        kept = constraints.keep(free, w[~free])
        point = interior_point(
            restrict(free), linear, kept, tol=INTERIOR_SHARE * tol, max_iter=max_iter
        )
        n_iter, y = point.n_iter, point.y
        w, y = best_vertex(restrict, whole, c, constraints, free, w, point, tol)
    return certified_result(whole, c, constraints, w, y, n_iter, tol, solver)


def best_vertex(
    restrict: Callable[[NDArray[np.bool_]], Hessian],
    whole: Hessian,
    c: NDArray[np.float64],
    constraints: Constraints,
    free: NDArray[np.bool_],
    w: NDArray[np.float64],
    point: InteriorPoint,
    tol: float,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The interior solution moved onto the bounds that it approaches, where that is as good.

    Parameters
    ----------
    restrict : callable
        Q restricted to the rows of a mask.
    whole : Hessian
        Q.
    c : ndarray of shape (n,)
        Linear term.
    constraints : Constraints
        The feasible set.
    free : ndarray of bool of shape (n,)
        Weights that `point` is about.
    w : ndarray of shape (n,)
        Values of the others.
    point : InteriorPoint
        Interior solution.
    tol : float
        Relative gap that is good enough.

    Returns
    -------
    w : ndarray of shape (n,)
    y : ndarray of shape (k,)
    """
    w = w.copy()
    w[free] = point.w
    price = np.zeros(len(w)), np.zeros(len(w))
    price[0][free], price[1][free] = point.lower_price, point.upper_price
    snapped, inside = _snap(w, constraints, free, price)
    candidates = [(snapped, point.y), (w, point.y)]
    polished = _polish(restrict, whole, c, constraints, snapped, point.y, inside)
    if polished is not None:
        candidates.insert(0, polished)
    gaps = []
    for value, y in candidates:
        product = whole.product(value)
        gap = certified_gap(value, product - c, y, constraints)
        feasible = constraints.violation(value) <= FEASIBILITY_TOLERANCE
        gaps.append(gap if feasible else np.inf)
    size, floor = objective_size(whole, w, product, c)
    good_enough = max(min(gaps), INTERIOR_SHARE * tol * size, floor)
    return candidates[next(i for i, gap in enumerate(gaps) if gap <= good_enough)]


def _snap(w, constraints, free, price) -> tuple[NDArray, NDArray[np.bool_]]:
    """Put weights that approach a bound on it and give the difference to the rest of the group."""
    lower, upper, codes = constraints.lower, constraints.upper, constraints.codes
    room_l, room_u = w - lower, upper - w
    typical = float(room_l[free].mean())
    largest = float((price[0] + price[1])[free].max())
    # At a solution one factor of each pair vanishes.
    at_lower = free & (room_l <= NEGLIGIBLE * typical)
    at_lower &= price[0] * typical > room_l * largest
    at_upper = free & (room_u <= NEGLIGIBLE * typical) & ~at_lower
    at_upper &= price[1] * typical > room_u * largest
    snapped = np.where(at_lower, lower, np.where(at_upper, upper, w))
    inside = free & ~(at_lower | at_upper)
    k = constraints.n_groups
    missing = np.bincount(codes, w - snapped, k)
    room = np.where(missing[codes] > 0, np.minimum(room_u, room_l), room_l) * inside
    share = missing / np.maximum(np.bincount(codes, room, k), np.finfo(float).tiny)
    return np.clip(snapped + share[codes] * room, lower, upper), inside


def _polish(restrict, whole, c, constraints, w, y, inside):
    """Newton steps on the weights inside the bounds, with the active equations held."""
    value = constraints.A @ w
    width = constraints.high - constraints.low
    near_low = value - constraints.low <= 1e-6 * width
    near_high = constraints.high - value <= 1e-6 * width
    held = near_low | near_high
    aim = np.where(near_low, constraints.low, constraints.high)[held]
    A = constraints.A[held]
    for _ in range(POLISH_ROUNDS):
        if not inside.any():
            return None
        block = A[:, inside]
        # An equation without a weight left inside cannot be steered.
        steered = np.abs(block).max(axis=1, initial=0.0) > 0
        part = restrict(inside)
        curvature = np.einsum("i,i->", w, whole.product(w)) / max(float(w @ w), 1e-300)
        proximal = np.full(int(inside.sum()), max(PROXIMAL * curvature, 1e-300))
        try:
            system = part.factorize(proximal, block[steered], np.zeros(int(steered.sum())))
        except np.linalg.LinAlgError:
            return None
        trial, multiplier = w.copy(), np.zeros(len(y))
        multiplier[held] = y[held]
        active = np.flatnonzero(held)[steered]
        for _ in range(PROXIMAL_STEPS):
            slope = whole.product(trial) - c - multiplier @ constraints.A
            dw, dy = system(-slope[inside], (aim - A @ trial)[steered])
            trial[inside] += dw
            multiplier[active] += dy
        low, high = constraints.lower[inside], constraints.upper[inside]
        outside = (trial[inside] < low) | (trial[inside] > high)
        if not np.isfinite(trial).all():
            return None
        if not outside.any():
            return trial, multiplier
        w = np.where(inside, np.clip(trial, constraints.lower, constraints.upper), w)
        index = np.flatnonzero(inside)[outside]
        inside = inside.copy()
        inside[index] = False
    return None


def movable(constraints: Constraints) -> tuple[NDArray[np.bool_], NDArray[np.float64]]:
    """Mask of the weights that can move, and the values of those that cannot.

    Parameters
    ----------
    constraints : Constraints
        The feasible set.

    Returns
    -------
    free : ndarray of bool of shape (n,)
    w : ndarray of shape (n,)
        The only feasible value where a weight cannot move, else the lower bound.
    """
    lower, upper, codes = constraints.lower, constraints.upper, constraints.codes
    k = constraints.n_groups
    free = upper > lower
    low, high = constraints.low[:k], constraints.high[:k]
    least, most = np.bincount(codes, lower, k), np.bincount(codes, upper, k)
    slack = ROUND_OFF * (np.abs(low) + np.abs(high) + np.abs(least))
    at_lower, at_upper = high - least <= slack, most - low <= slack
    free &= ~(at_lower | at_upper)[codes]
    return free, np.where(at_upper[codes], upper, lower)


def certified_result(
    hessian: Hessian,
    c: NDArray[np.float64],
    constraints: Constraints,
    w: NDArray[np.float64],
    y: NDArray[np.float64],
    n_iter: int,
    tol: float,
    solver: str,
) -> SolverResult:
    """Objective and certified relative gap of feasible weights.

    Parameters
    ----------
    hessian : Hessian
        Q.
    c : ndarray of shape (n,)
        Linear term.
    constraints : Constraints
        The feasible set.
    w : ndarray of shape (n,)
        Weights.
    y : ndarray of shape (k,)
        Multipliers of the linear constraints.
    n_iter : int
        Iterations taken.
    tol : float
        Relative duality gap asked for.
    solver : str
        Name of the algorithm.

    Returns
    -------
    SolverResult
    """
    product = hessian.product(w)
    quadratic, linear = 0.5 * float(w @ product), float(c @ w)
    gap = max(certified_gap(w, product - c, y, constraints), 0.0)
    if not c.any():
        # A quadratic form is not negative, so its value bounds its distance to the minimum.
        gap = min(gap, quadratic)
    size, floor = objective_size(hessian, w, product, c)
    met = constraints.violation(w) <= FEASIBILITY_TOLERANCE
    relative = gap / size if size > 0 else 0.0
    return SolverResult(
        x=w,
        dual=y,
        objective=quadratic - linear,
        optimality_gap=relative if met else np.inf,
        certificate="duality_gap",
        n_iter=n_iter,
        converged=bool(gap <= max(tol * size, floor) and met),
        solver=solver,
    )


def check_diagonal(diagonal: ArrayLike | float, n: int, name: str) -> NDArray[np.float64]:
    """Diagonal of the quadratic form as an array.

    Parameters
    ----------
    diagonal : float or array-like of shape (n,)
        What the caller passed.
    n : int
        Number of weights.
    name : str
        Name of the solver, for errors.

    Returns
    -------
    ndarray of shape (n,)

    Raises
    ------
    ValueError
        If an entry is negative.
    """
    diagonal = np.broadcast_to(np.asarray(diagonal, dtype=np.float64), (n,))
    if not (diagonal >= 0).all():
        raise ValueError(f"{name}: diagonal must be non-negative, got {diagonal.min():.6g}")
    return diagonal

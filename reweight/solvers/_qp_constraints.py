"""The feasible set of a quadratic program over weights, and what is easy to do on it."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from reweight.exceptions import InfeasibleError

FEASIBILITY_SLACK = 1e-9


@dataclass(frozen=True)
class Constraints:
    """Bounds, group sums and further linear constraints of a program over n weights.

    Parameters
    ----------
    lower, upper : ndarray of shape (n,)
        Bounds; `upper` may be infinite.
    codes : ndarray of int of shape (n,)
        Group of each weight.
    A : ndarray of shape (k, n)
        Group indicators, then the further constraints.
    low, high : ndarray of shape (k,)
        Range of A w; equal for an equation.
    n_groups : int
        Number of groups.
    """

    lower: NDArray[np.float64]
    upper: NDArray[np.float64]
    codes: NDArray[np.intp]
    A: NDArray[np.float64]
    low: NDArray[np.float64]
    high: NDArray[np.float64]
    n_groups: int

    def scaled(self, size: float) -> "Constraints":
        """The same constraints on weights divided by `size`."""
        return replace(
            self,
            lower=self.lower / size,
            upper=self.upper / size,
            low=self.low / size,
            high=self.high / size,
        )

    def keep(self, free: NDArray[np.bool_], fixed_values: NDArray) -> "Constraints":
        """The constraints on the free weights when the others are held at their values."""
        moved = self.A[:, ~free] @ fixed_values
        return replace(
            self,
            lower=self.lower[free],
            upper=self.upper[free],
            codes=self.codes[free],
            A=np.ascontiguousarray(self.A[:, free]),
            low=self.low - moved,
            high=self.high - moved,
        )

    def violation(self, w: NDArray) -> float:
        """Largest violation of the linear constraints, relative to their size."""
        value = self.A @ w
        size = np.abs(self.A) @ np.abs(w) + np.finfo(float).tiny
        return float((np.maximum(self.low - value, value - self.high) / size).max(initial=0.0))


def prepare_constraints(
    n: int,
    *,
    lower: ArrayLike,
    upper: ArrayLike,
    total: Any,
    groups: ArrayLike | None,
    equations: tuple[NDArray, ArrayLike, ArrayLike] | None,
    name: str,
) -> Constraints:
    """Check the constraints and bring them into one form.

    Parameters
    ----------
    n : int
        Number of weights.
    lower, upper : float or array-like of shape (n,)
        Bounds.
    total : float, array-like of shape (n_groups,) or tuple (low, high) of those
        Group sums.
    groups : array-like of shape (n,) or None
        Group labels.
    equations : tuple (A, low, high) or None
        Further constraints low <= A w <= high, A of shape (k, n).
    name : str
        Name of the solver, for errors.

    Returns
    -------
    Constraints

    Raises
    ------
    ValueError
        If shapes or orders are wrong.
    InfeasibleError
        If a group sum cannot be met within the bounds.
    """
    lower = np.broadcast_to(np.asarray(lower, dtype=np.float64), (n,)).copy()
    upper = np.broadcast_to(np.asarray(upper, dtype=np.float64), (n,)).copy()
    if not np.isfinite(lower).all() or np.isnan(upper).any() or (lower > upper).any():
        raise ValueError(
            f"{name}: lower must be finite and lower <= upper in every row; "
            "pass upper=np.inf for rows without a cap"
        )
    if groups is None:
        codes, n_groups = np.zeros(n, dtype=np.intp), 1
    else:
        labels, codes = np.unique(np.asarray(groups), return_inverse=True)
        n_groups = len(labels)
        if codes.shape != (n,):
            raise ValueError(f"{name}: groups has {codes.size} labels for {n} weights")
    low, high = total if isinstance(total, tuple) else (total, total)
    low = np.broadcast_to(np.asarray(low, dtype=np.float64), (n_groups,)).copy()
    high = np.broadcast_to(np.asarray(high, dtype=np.float64), (n_groups,)).copy()
    if not (np.isfinite(low).all() and np.isfinite(high).all() and (low <= high).all()):
        raise ValueError(
            f"{name}: total must be finite, and a range (low, high) needs low <= high; "
            f"got {low}, {high}"
        )
    least, most = np.bincount(codes, lower, n_groups), np.bincount(codes, upper, n_groups)
    slack = FEASIBILITY_SLACK * (np.abs(low) + np.abs(high))
    if np.any(least > high + slack) or np.any(most < low - slack):
        g = int(np.argmax(np.maximum(least - high, low - most)))
        raise InfeasibleError(
            f"{name}: the bounds allow group {g} a sum between {least[g]:.6g} and {most[g]:.6g}, "
            f"but total asks for [{low[g]:.6g}, {high[g]:.6g}]; widen lower, upper or total",
            worst_column=g,
        )
    # A range that the bounds cut short has no interior beyond what they allow.
    low, high = np.maximum(low, least), np.minimum(high, most)
    A = np.zeros((n_groups, n))
    A[codes, np.arange(n)] = 1.0
    if equations is not None:
        rows, rows_low, rows_high = equations
        rows = np.atleast_2d(np.asarray(rows, dtype=np.float64))
        A = np.concatenate([A, rows])
        low = np.r_[low, np.broadcast_to(np.asarray(rows_low, dtype=float), (len(rows),))]
        high = np.r_[high, np.broadcast_to(np.asarray(rows_high, dtype=float), (len(rows),))]
        if (low > high).any():
            raise ValueError(f"{name}: equations need low <= high")
    return Constraints(lower, upper, codes, A, low, high, n_groups)


def interior_start(constraints: Constraints) -> NDArray[np.float64]:
    """A point strictly inside the bounds whose group sums lie inside their ranges.

    Parameters
    ----------
    constraints : Constraints
        Bounds and group sums; the further constraints are not looked at.

    Returns
    -------
    ndarray of shape (n,)
    """
    k, codes = constraints.n_groups, constraints.codes
    lower = constraints.lower
    middle = 0.5 * (constraints.low[:k] + constraints.high[:k])
    missing = np.maximum(middle - np.bincount(codes, lower, k), 0.0)
    room = np.minimum(constraints.upper - lower, missing[codes])
    share = missing / np.maximum(np.bincount(codes, room, k), np.finfo(float).tiny)
    return lower + np.minimum(share, 1.0)[codes] * room


def linear_minimizer(slope: NDArray, constraints: Constraints) -> NDArray[np.float64]:
    """Weights that minimise slope'w within the bounds and the group sums.

    Parameters
    ----------
    slope : ndarray of shape (n,)
        Linear objective.
    constraints : Constraints
        Bounds and group sums; the further constraints are not looked at.

    Returns
    -------
    ndarray of shape (n,)
    """
    w = constraints.lower.copy()
    room = constraints.upper - w
    for group in range(constraints.n_groups):
        rows = np.flatnonzero(constraints.codes == group)
        base = w[rows].sum()
        least, most = constraints.low[group] - base, constraints.high[group] - base
        if not np.isfinite(room[rows]).any():
            cheapest = rows[np.argmin(slope[rows])]
            w[cheapest] += max(most if slope[cheapest] < 0 else least, 0.0)
            continue
        order = rows[np.argsort(slope[rows], kind="stable")]
        filled = np.cumsum(room[order])
        before = np.r_[0.0, filled[:-1]]
        wanted = np.where(slope[order] < 0, most, least)
        w[order] += np.clip(wanted - before, 0.0, room[order])
    return w


def certified_gap(w: NDArray, gradient: NDArray, y: NDArray, constraints: Constraints) -> float:
    """Upper bound on f(w) - min f for a convex f, from its gradient at a feasible w.

    f(v) >= f(w) + gradient'(v - w), and the right side is minimised over the
    bounds and group sums exactly; further constraints enter by their multipliers,
    for which any values give a bound.

    Parameters
    ----------
    w : ndarray of shape (n,)
        Feasible weights.
    gradient : ndarray of shape (n,)
        Gradient of the objective at `w`.
    y : ndarray of shape (k,)
        Multipliers of the linear constraints.
    constraints : Constraints
        The feasible set.

    Returns
    -------
    float
    """
    k = constraints.n_groups
    further, multiplier = constraints.A[k:], y[k:]
    slope = gradient - multiplier @ further
    gap = float(slope @ (w - linear_minimizer(slope, constraints)))
    ends = np.where(multiplier > 0, constraints.low[k:], constraints.high[k:])
    return gap + float(multiplier @ (further @ w - ends))

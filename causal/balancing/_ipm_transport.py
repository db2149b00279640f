"""Transport programs between an arm and its target, certified over all pairs of rows."""

from dataclasses import dataclass

import numpy as np
from numba import njit
from numpy.typing import NDArray
from scipy.optimize import linprog
from scipy.sparse import coo_array
from scipy.spatial.distance import cdist
from sklearn.neighbors import NearestNeighbors

from reweight.kernels.chunks import row_slices

Array = NDArray[np.float64]

ALL_PAIRS = 20_000
MAX_PAIRS = 2_000_000
FIRST_NEIGHBORS = 8
NEW_PAIRS_PER_ROW = 4
MAX_ROUNDS = 60
MAX_NEWTON = 100
BLOCK = 1024


@dataclass(frozen=True)
class TransportPlan:
    """Optimal plan of a transport program.

    Parameters
    ----------
    weights : ndarray of shape (N,)
        Mass that leaves each row of the arm.
    cost : float
        Cost of the plan.
    bound : float
        Lower bound on the cost of any plan, from dual prices that hold for all pairs.
    arm_price : ndarray of shape (N,)
        Price f of mass at each row of the arm.
    target_price : ndarray of shape (M,)
        Price g at each target row; f_i + g_j <= d_ij for all pairs.
    n_rounds : int
        Programs solved until no pair was missing.
    """

    weights: Array
    cost: float
    bound: float
    arm_price: Array
    target_price: Array
    n_rounds: int


def transport(
    X: Array, supply: Array, target: Array, demand: Array, *, at_most: bool, tol: float = 1e-9
) -> TransportPlan:
    """Cheapest way to carry the demand of the target from the rows of an arm.

    A linear program over candidate pairs, at first each row's nearest
    neighbours. Its dual prices are tried on all pairs; those that undercut them
    become candidates, until there are none.

    Parameters
    ----------
    X : ndarray of shape (N, p)
        Rows of the arm.
    supply : ndarray of shape (N,)
        What each may give, or gives.
    target : ndarray of shape (M, p)
        Rows of the target.
    demand : ndarray of shape (M,)
        Positive, with sum one.
    at_most : bool
        Whether supply is a cap (sum at least one) or is used up (sum one).
    tol : float, default=1e-9
        How far a price may be undercut, relative to the largest distance.

    Returns
    -------
    TransportPlan

    Raises
    ------
    RuntimeError
        If the linear program fails.

    Examples
    --------
    >>> import numpy as np
    >>> X, target = np.array([[0.0], [1.0]]), np.array([[0.1], [0.2]])
    >>> plan = transport(X, np.full(2, 0.5), target, np.full(2, 0.5), at_most=True)
    >>> round(plan.cost, 6)
    0.45
    """
    i, j = _first_pairs(X, target)
    # Mass may go missing at either end for more than any journey costs, so that few
    # candidates are still enough for a plan.
    farthest = float(np.linalg.norm(np.ptp(np.concatenate([X, target]), axis=0)))
    penalty = max(farthest, np.finfo(float).tiny)
    n_rounds = 0
    while n_rounds < MAX_ROUNDS:
        n_rounds += 1
        distance = np.linalg.norm(X[i] - target[j], axis=1)
        flow, f, g, missing = _solve_pairs(i, j, distance, supply, demand, penalty, at_most)
        new_i, new_j, target_price = _price(X, target, f, g, tol * penalty)
        if not len(new_i):
            break
        if len(i) + len(new_i) > MAX_PAIRS:
            raise RuntimeError(
                f"IPMBalancing: the transport program needs more than {MAX_PAIRS} pairs; weigh "
                "fewer rows"
            )
        i, j = np.r_[i, new_i], np.r_[j, new_j]
    weights = np.bincount(i, flow, len(X))
    bound = float(supply @ f + demand @ target_price)
    cost = float(flow @ distance) + penalty * missing
    return TransportPlan(weights, cost, bound, f, target_price, n_rounds)


def _first_pairs(X: Array, target: Array) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    n, m = len(X), len(target)
    if n * m <= ALL_PAIRS:
        return np.repeat(np.arange(n), m), np.tile(np.arange(m), n)
    k = min(FIRST_NEIGHBORS, n)
    near_target = NearestNeighbors(n_neighbors=k).fit(X).kneighbors(target, return_distance=False)
    k_arm = min(FIRST_NEIGHBORS, m)
    near_arm = NearestNeighbors(n_neighbors=k_arm).fit(target).kneighbors(X, return_distance=False)
    i = np.r_[near_target.ravel(), np.repeat(np.arange(n), k_arm)]
    j = np.r_[np.repeat(np.arange(m), k), near_arm.ravel()]
    return np.divmod(np.unique(i * m + j), m)


def _solve_pairs(i, j, distance, supply, demand, penalty, at_most):
    """Plan over candidate pairs, its prices, and the mass that found no way."""
    n, m, pairs = len(supply), len(demand), len(i)
    size = 1.0 / max(supply.mean(), demand.mean())
    columns = np.arange(pairs)
    extra = m if at_most else m + n
    rows = [i, n + j, n + np.arange(m)]
    places = [columns, columns, pairs + np.arange(m)]
    if not at_most:
        rows.append(np.arange(n))
        places.append(pairs + m + np.arange(n))
    rows, places = np.concatenate(rows), np.concatenate(places)
    A = coo_array((np.ones(len(rows)), (rows, places)), shape=(n + m, pairs + extra)).tocsr()
    cost = np.r_[distance / penalty, np.ones(extra)]
    options = {"primal_feasibility_tolerance": 1e-10, "dual_feasibility_tolerance": 1e-10}
    if at_most:
        parts = {"A_ub": A[:n], "b_ub": size * supply, "A_eq": A[n:], "b_eq": size * demand}
    else:
        parts = {"A_eq": A, "b_eq": size * np.r_[supply, demand]}
    result = linprog(cost, bounds=(0, None), method="highs", options=options, **parts)
    if result.x is None:
        raise RuntimeError(f"IPMBalancing: HiGHS failed on the transport program: {result.message}")
    if at_most:
        f, g = result.ineqlin.marginals, result.eqlin.marginals
    else:
        f, g = result.eqlin.marginals[:n], result.eqlin.marginals[n:]
    flow = np.maximum(result.x[:pairs], 0.0) / size
    missing = float(np.maximum(result.x[pairs:], 0.0).sum() / size)
    return flow, penalty * np.asarray(f), penalty * np.asarray(g), missing


def _price(X: Array, target: Array, f: Array, g: Array, slack: float):
    """Pairs whose distance undercuts their prices, and the largest feasible target prices."""
    feasible = np.empty(len(target))
    found_i, found_j = [], []
    k = min(NEW_PAIRS_PER_ROW, len(X))
    for rows in row_slices(len(target), BLOCK):
        reduced = cdist(target[rows], X) - f
        feasible[rows] = reduced.min(axis=1)
        short = np.flatnonzero(feasible[rows] < g[rows] - slack)
        if not short.size:
            continue
        best = np.argpartition(reduced[short], k - 1, axis=1)[:, :k]
        undercut = np.take_along_axis(reduced[short], best, 1) < (g[rows][short] - slack)[:, None]
        found_i.append(best[undercut])
        found_j.append(np.repeat(rows.start + short, undercut.sum(axis=1)))
    if not found_i:
        return np.array([], dtype=np.intp), np.array([], dtype=np.intp), feasible
    return np.concatenate(found_i), np.concatenate(found_j), feasible


@njit(cache=True, nogil=True)
def spread_sweep(distance, demand, price_slope, plan, weights, scratch):
    """Re-route each target row's demand optimally, the others held.

    The cost is the transport plus sum_i price_slope_i weights_i^2 / 2. For one
    target row the optimal plan is max(0, level - cost_i) / price_slope_i, with
    the level that meets the demand; Newton's method from above finds it in a
    few steps, because the supply is convex in the level.

    Parameters
    ----------
    distance : ndarray of shape (M, N)
        Distances from target rows to rows of the arm.
    demand : ndarray of shape (M,)
        Demands.
    price_slope : ndarray of shape (N,)
        Increase of the price of a row with its weight.
    plan : ndarray of shape (M, N)
        Plan; changed in place.
    weights : ndarray of shape (N,)
        Its sums over target rows; changed in place.
    scratch : ndarray of shape (N,)
        Work space.
    """
    n = len(weights)
    for j in range(len(demand)):
        best, cheapest = np.inf, 0
        for i in range(n):
            scratch[i] = distance[j, i] + price_slope[i] * (weights[i] - plan[j, i])
            if scratch[i] < best:
                best, cheapest = scratch[i], i
        level = best + price_slope[cheapest] * demand[j]
        for _ in range(MAX_NEWTON):
            supply, slope = 0.0, 0.0
            for i in range(n):
                if scratch[i] < level:
                    supply += (level - scratch[i]) / price_slope[i]
                    slope += 1.0 / price_slope[i]
            lower = level - (supply - demand[j]) / slope
            if not lower < level:
                break
            level = lower
        for i in range(n):
            new = max(level - scratch[i], 0.0) / price_slope[i]
            weights[i] += new - plan[j, i]
            plan[j, i] = new

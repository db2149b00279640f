"""Wasserstein distance of an arm to its target: matching, capped matching, spread matching."""

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.distance import cdist
from sklearn.neighbors import NearestNeighbors

from causal.balancing._ipm_arm import ArmProblem, Array, Cuts, Discrepancy
from causal.balancing._ipm_transport import TransportPlan, spread_sweep, transport
from reweight.solvers.result import SolverResult

MAX_PLAN_ENTRIES = 20_000_000
TIE_TOLERANCE = 1e-9
SWEEPS_PER_ITERATION = 20


class WassersteinDiscrepancy(Discrepancy):
    """First Wasserstein distance with the Euclidean metric of the standardised covariates.

    Equal rows are merged first: their weights are interchangeable, and are split
    in proportion to the base weights.

    Parameters
    ----------
    arm : ArmProblem
        The arm.
    """

    def __init__(self, arm: ArmProblem) -> None:
        super().__init__(arm)
        self.X, self.index = np.unique(arm.X, axis=0, return_inverse=True)
        self.base = np.bincount(self.index, arm.base)
        self.target, index = np.unique(arm.target, axis=0, return_inverse=True)
        self.demand = np.bincount(index, arm.target_weight)

    def minimize(self, alpha: float, tol: float, max_iter: int) -> SolverResult:
        """Least distance + alpha * chi-square divergence, or least distance under a cap."""
        if alpha > 0:
            return self._spread(alpha, tol, max_iter)
        if self.arm.capped:
            return self._capped(tol)
        return self._nearest()

    def _split(self, merged: Array) -> Array:
        share = merged / self.base
        return share[self.index] * self.arm.base

    def _result(
        self, merged: Array, objective: float, bound: float, n_iter: int, tol: float, solver: str
    ) -> SolverResult:
        size = objective if objective > 0 else 1.0
        gap = max(objective - bound, 0.0) / size
        return SolverResult(
            x=self._split(merged / merged.sum()),
            dual=None,
            objective=objective,
            optimality_gap=gap,
            certificate="duality_gap",
            n_iter=n_iter,
            converged=bool(gap <= tol),
            solver=solver,
        )

    def _nearest(self) -> SolverResult:
        """Each target row sends its mass to the nearest row of the arm; ties share by base."""
        rows, nearest, distance = nearest_with_ties(self.X, self.target)
        share = self.base[nearest]
        share /= np.bincount(rows, share, len(self.target))[rows]
        mass = share * self.demand[rows]
        merged = np.bincount(nearest, mass, len(self.X))
        cost = float(mass @ distance)
        return self._result(merged, cost, cost, 1, 0.0, "nearest-neighbor")

    def _capped(self, tol: float) -> SolverResult:
        cap = self.arm.max_ratio * self.base
        plan = transport(self.X, cap, self.target, self.demand, at_most=True)
        # HiGHS meets the cap to its own tolerance; the weights meet it exactly.
        merged = np.minimum(plan.weights, cap)
        return self._result(
            merged, plan.cost, plan.bound, plan.n_rounds, max(tol, 1e-7), "highs-transport"
        )

    def _spread(self, alpha: float, tol: float, max_iter: int) -> SolverResult:
        """Block descent over target rows, with the Fenchel dual of the current prices."""
        n, m = len(self.X), len(self.target)
        if n * m > MAX_PLAN_ENTRIES:
            raise ValueError(
                f"IPMBalancing: alpha > 0 with ipm='wasserstein' needs a plan of {n} x {m} "
                f"entries, more than {MAX_PLAN_ENTRIES}; pass alpha=0 (with max_weight=, to "
                "spread the weights), or fewer rows"
            )
        distance = cdist(self.target, self.X)
        plan = np.zeros((m, n))
        plan[np.arange(m), distance.argmin(axis=1)] = self.demand
        weights, slope = plan.sum(axis=0), alpha / self.base
        scratch = np.empty(n)
        # The divergence is a square less this constant.
        shift = 0.5 * alpha
        n_iter, gap = 0, np.inf
        while n_iter < max_iter and gap > tol:
            n_iter += 1
            for _ in range(SWEEPS_PER_ITERATION):
                spread_sweep(distance, self.demand, slope, plan, weights, scratch)
            # Sums kept up by differences drift by round-off.
            weights = plan.sum(axis=0)
            price = slope * weights
            transported = float(np.einsum("ji,ji->", distance, plan))
            primal = transported + 0.5 * float(weights @ price)
            dual = float(self.demand @ (distance + price).min(axis=1)) - 0.5 * float(
                weights @ price
            )
            gap = (primal - dual) / (primal - shift)
        return self._result(
            weights, primal - shift, dual - shift, n_iter, tol, "block-descent-transport"
        )

    def value(self, w: Array) -> float:
        """Distance at weights that sum to one."""
        return self._carry(w).cost

    def separate(self, w: Array) -> Cuts:
        """The Kantorovich potential, which attains the distance at `w`."""
        plan = self._carry(w)
        potential = plan.arm_price[self.index]
        return potential[None, :], np.array([-float(self.demand @ plan.target_price)])

    def _carry(self, w: Array) -> TransportPlan:
        merged = np.bincount(self.index, w)
        return transport(self.X, merged, self.target, self.demand, at_most=False)


def nearest_with_ties(
    X: Array, target: Array
) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.float64]]:
    """All nearest rows of X of each target row.

    Parameters
    ----------
    X : ndarray of shape (N, p)
        Candidates, without duplicates.
    target : ndarray of shape (M, p)
        Rows to find neighbours of.

    Returns
    -------
    rows : ndarray of int of shape (k,)
        Target row of each pair.
    nearest : ndarray of int of shape (k,)
        Its nearest row of X; several pairs where distances tie to a relative 1e-9.
    distance : ndarray of shape (k,)
        Their distances.

    Examples
    --------
    >>> import numpy as np
    >>> X, target = np.array([[0.0], [2.0]]), np.array([[1.0], [1.5]])
    >>> rows, nearest, distance = nearest_with_ties(X, target)
    >>> rows, nearest
    (array([0, 0, 1]), array([0, 1, 1]))
    """
    search = NearestNeighbors().fit(X)
    pending = np.arange(len(target))
    k = min(2, len(X))
    parts = []
    while pending.size:
        distance, index = search.kneighbors(target[pending], k)
        tied = distance <= distance[:, :1] * (1 + TIE_TOLERANCE)
        # Where all k tie, there may be more.
        settled = ~tied.all(axis=1) | (k == len(X))
        row, place = np.nonzero(tied & settled[:, None])
        parts.append((pending[row], index[row, place], distance[row, place]))
        pending, k = pending[~settled], min(2 * k, len(X))
    rows, nearest, distance = map(np.concatenate, zip(*parts, strict=True))
    order = np.lexsort([nearest, rows])
    return rows[order], nearest[order], distance[order]

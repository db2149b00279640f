"""The discrepancy over linear functions: a norm of the difference of means."""

import numpy as np
from scipy.linalg import qr

from causal.balancing._ipm_arm import ArmProblem, Array, Cuts, Discrepancy
from causal.balancing._ipm_programs import smallest_maximum
from reweight.exceptions import InfeasibleError
from reweight.solvers.divergence_dual import divergence_dual
from reweight.solvers.lowrank_qp import lowrank_qp
from reweight.solvers.result import SolverResult

BALANCED = 1e-9
RANK_TOLERANCE = 1e-10


class LinearDiscrepancy(Discrepancy):
    """Norm of the difference of the means of arm and target.

    It is the discrepancy over linear functions whose coefficients lie in the unit
    ball of the dual norm.

    Parameters
    ----------
    arm : ArmProblem
        The arm.
    norm : {"l2", "linf", "l1"}
        Norm of the difference of means.
    divergence : {"kl", "chi2"}
        What `minimize` regularises by, and chooses among balancing weights.
    """

    def __init__(self, arm: ArmProblem, norm: str, divergence: str) -> None:
        super().__init__(arm)
        self.norm, self.divergence = norm, divergence
        self.smooth = norm == "l2"
        self.features = arm.X - arm.target_weight @ arm.target

    def value(self, w: Array) -> float:
        """Norm of the difference of means at weights that sum to one."""
        order = {"l2": 2, "linf": np.inf, "l1": 1}[self.norm]
        return float(np.linalg.norm(w @ self.features, order))

    def separate(self, w: Array) -> Cuts:
        """The linear functions that attain the norm; for "linf" all that may."""
        if self.norm == "linf":
            G = np.concatenate([self.features.T, -self.features.T])
        else:
            signs = np.where(w @ self.features < 0, -1.0, 1.0)
            G = (self.features @ signs)[None, :]
        return G, np.zeros(len(G))

    def minimize(self, alpha: float, tol: float, max_iter: int) -> SolverResult:
        """Exact balance of least divergence, else the least norm; with `alpha` the trade-off."""
        if alpha == 0:
            return self._exact(tol, max_iter) or self._closest(0.0, tol, max_iter)
        if self.norm == "l2" and self.divergence == "kl":
            return divergence_dual(
                self.features, self.arm.base, alpha=alpha, tol=tol, max_iter=max_iter
            )
        return self._closest(alpha, tol, max_iter)

    def _exact(self, tol: float, max_iter: int) -> SolverResult | None:
        """Weights of least divergence that meet the means, or None if no weights do."""
        arm = self.arm
        if not arm.capped:
            try:
                return divergence_dual(
                    self.features,
                    arm.base,
                    divergence=self.divergence,
                    tol=tol,
                    max_iter=max_iter,
                )
            except InfeasibleError:
                return None
        closest = self._least_maximum(0.0, tol)
        if closest.objective > BALANCED * max(1.0, float(np.abs(self.features).max())):
            return None
        kept = independent_columns(self.features)
        zero = np.zeros(len(kept))
        return lowrank_qp(
            np.zeros((len(arm.base), 1)),
            np.zeros(len(arm.base)),
            upper=arm.upper,
            diagonal=1.0 / arm.base,
            equations=(self.features[:, kept].T, zero, zero),
            tol=tol,
            max_iter=max_iter,
        )

    def _closest(self, alpha: float, tol: float, max_iter: int) -> SolverResult:
        if self.norm != "l2":
            return self._least_maximum(alpha, tol)
        base = self.arm.base
        return lowrank_qp(
            self.features,
            np.zeros(len(base)),
            upper=self.arm.upper,
            diagonal=alpha / base,
            tol=tol,
            max_iter=max_iter,
        )

    def _least_maximum(self, alpha: float, tol: float) -> SolverResult:
        """Least largest difference ("linf"), or sum of differences, as one program."""
        p = self.features.shape[1]
        G = np.concatenate([self.features.T, -self.features.T])
        single = self.norm == "linf" or (alpha == 0 and self.norm == "l2")
        blocks = np.zeros(2 * p, dtype=int) if single else np.tile(np.arange(p), 2)
        found = smallest_maximum(G, np.zeros(2 * p), blocks, self.arm, alpha, 0.1 * tol)
        difference = np.abs(found.w @ self.features)
        distance = float(difference.max() if single else difference.sum())
        divergence = 0.5 * alpha * float(self.arm.base @ (found.w / self.arm.base - 1.0) ** 2)
        objective = distance + divergence
        floor = 1.0 / len(self.arm.X) + 1.0 / len(self.arm.target)
        gap = max(objective - found.bound, 0.0) / max(objective, floor)
        return SolverResult(
            x=found.w,
            dual=None,
            objective=objective,
            optimality_gap=gap,
            certificate="duality_gap",
            n_iter=1,
            converged=bool(gap <= max(tol, 1e-7)),
            solver="highs" if alpha == 0 else "interior-point-lowrank",
        )


def independent_columns(C: Array) -> np.ndarray:
    """Indices of columns that span the column space, by a pivoted factorisation.

    Parameters
    ----------
    C : ndarray of shape (n, p)
        Columns.

    Returns
    -------
    ndarray of int

    Examples
    --------
    >>> import numpy as np
    >>> len(independent_columns(np.array([[1.0, 2.0], [2.0, 4.0], [0.0, 0.0]])))
    1
    """
    triangle, pivots = qr(C, mode="r", pivoting=True, check_finite=False)
    diagonal = np.abs(np.diag(triangle))
    return np.sort(pivots[: len(diagonal)][diagonal > RANK_TOLERANCE * max(diagonal.max(), 1e-300)])

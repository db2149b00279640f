"""One arm, the distribution it is to resemble, and what a discrepancy between them offers."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from reweight.solvers.result import SolverResult

Array = NDArray[np.float64]
Cuts = tuple[Array, Array]


@dataclass(frozen=True)
class ArmProblem:
    """An arm and its target, in standard units; rows without weight are left out.

    Parameters
    ----------
    X : ndarray of shape (N, p)
        Rows of the arm.
    base : ndarray of shape (N,)
        Their positive sampling weights, with sum one.
    target : ndarray of shape (M, p)
        Rows of the target.
    target_weight : ndarray of shape (M,)
        Their positive weights, with sum one.
    max_ratio : float
        Largest weight of a row relative to its base weight.
    """

    X: Array
    base: Array
    target: Array
    target_weight: Array
    max_ratio: float = np.inf

    @property
    def upper(self) -> Array:
        """Largest weight of each row of the arm."""
        return self.max_ratio * self.base

    @property
    def capped(self) -> bool:
        """Whether the largest weight can bind."""
        return bool(self.max_ratio * self.base.min() < 1)


class Discrepancy:
    """A distance between a weighted arm and its target, convex in the weights of the arm.

    A smooth one has `features` C with square ||C'w||^2; any other offers affine
    functions of the weights whose absolute values it exceeds, by `separate`.

    Parameters
    ----------
    arm : ArmProblem
        The arm.
    """

    smooth: ClassVar[bool] = False
    # Whether `separate` is sure to find the function of largest absolute value.
    exact: bool = True
    features: Array

    def __init__(self, arm: ArmProblem) -> None:
        self.arm = arm

    def value(self, w: Array) -> float:
        """Distance at weights that sum to one."""
        if self.smooth:
            return float(np.linalg.norm(w @ self.features))
        G, b = self.separate(w)
        return float(np.abs(G @ w - b).max(initial=0.0))

    def separate(self, w: Array) -> Cuts:
        """Functions |g'w - b| that bound the distance from below, large at `w`.

        Parameters
        ----------
        w : ndarray of shape (N,)
            Weights that sum to one.

        Returns
        -------
        G : ndarray of shape (k, N)
        b : ndarray of shape (k,)
        """
        raise NotImplementedError

    def minimize(self, alpha: float, tol: float, max_iter: int) -> SolverResult:
        """Weights on the simplex of least distance plus `alpha` times their divergence."""
        raise NotImplementedError


def chi2_divergence(w: Array, base: Array) -> float:
    """sum_i q_i (w_i / q_i - 1)^2 / 2 for weights and base weights that sum to one."""
    return 0.5 * float(base @ (w / base - 1.0) ** 2)


def kl_divergence(w: Array, base: Array) -> float:
    """sum_i w_i log(w_i / q_i) for weights and base weights that sum to one."""
    positive = w > 0
    return float(w[positive] @ np.log(w[positive] / base[positive]))

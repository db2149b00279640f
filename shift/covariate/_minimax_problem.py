"""The learning problem of minimax risk classifiers and its dual, free of solvers."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from shift.covariate._minimax_loss import entropy, potential

ROUND_OFF = 1e-12


@dataclass(frozen=True)
class MinimaxProblem:
    """min over M of -<tau, M> + sum_i w_i psi(M f_i) + <bounds, |M|>.

    Its dual is the game's: the largest entropy sum_i w_i entropy(P_i) over rows P_i on the simplex
    whose moments sum_i w_i P_ic f_i lie within `bounds` of `tau`.

    Parameters
    ----------
    features : ndarray of shape (t, q)
        Rows f_i: the features of the target rows times their target weights.
    row_weight : ndarray of shape (t,)
        Weight w_i of each target row; they sum to one.
    tau : ndarray of shape (C, q)
        Means of the features of the source rows of each class.
    bounds : ndarray of shape (C, q)
        Non-negative confidence bounds.
    loss : {"0-1", "log", "maximum"}
        "maximum" is psi(s) = max_c s_c, entropy zero: the nearest attainable moments.
    """

    features: NDArray[np.float64]
    row_weight: NDArray[np.float64]
    tau: NDArray[np.float64]
    bounds: NDArray[np.float64]
    loss: str

    @property
    def n_rows(self) -> int:
        """Number of target rows."""
        return len(self.features)

    @property
    def n_classes(self) -> int:
        """Number of classes."""
        return len(self.tau)

    @cached_property
    def weighted_features(self) -> NDArray[np.float64]:
        """w_i f_i."""
        return self.features * self.row_weight[:, None]

    def scores(self, M: NDArray[np.float64]) -> NDArray[np.float64]:
        """M f_i of each row, shape (t, C)."""
        return self.features @ M.T

    def row_values(self, scores: NDArray[np.float64]) -> NDArray[np.float64]:
        """Value of psi in each row."""
        return scores.max(axis=1) if self.loss == "maximum" else potential(scores, self.loss)

    def objective(self, M: NDArray[np.float64]) -> float:
        """Value of the learning problem at M."""
        smooth = self.row_weight @ self.row_values(self.scores(M))
        return float(smooth - np.sum(self.tau * M) + np.sum(self.bounds * np.abs(M)))

    def residual(self, P: NDArray[np.float64]) -> NDArray[np.float64]:
        """Excess of tau over the moments of P, shape (C, q)."""
        return self.tau - P.T @ self.weighted_features

    def dual_objective(self, P: NDArray[np.float64]) -> float:
        """Entropy of P, whether or not its moments lie within the bounds."""
        return 0.0 if self.loss == "maximum" else float(self.row_weight @ entropy(P, self.loss))

    def lower_bound(self, P: NDArray[np.float64], interior: NDArray[np.float64]) -> float:
        """A certified lower bound on the minimum, from nearly feasible P.

        P is moved towards `interior`, whose moments lie within the bounds, until its own do. Where
        `interior` leaves no room for that, the bound is minus infinity.
        """
        outside = np.maximum(np.abs(self.residual(P)) - self.bounds, 0.0)
        outside[outside <= ROUND_OFF * (1.0 + np.abs(self.tau))] = 0.0
        room = self.bounds - np.abs(self.residual(interior))
        if np.any((outside > 0) & (room <= 0)):
            return -np.inf
        ratio = np.divide(outside, outside + room, out=np.zeros_like(room), where=outside > 0)
        share = ratio.max(initial=0.0)
        return self.dual_objective((1 - share) * P + share * interior)

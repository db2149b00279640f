"""Kernel balancing through landmark features and the dual of the divergence program."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from causal.balancing._base import Arms
from causal.balancing._dual import BalanceTarget
from causal.balancing._kernel_space import KernelSpace
from reweight.kernels.landmarks import (
    landmark_features,
    landmark_projection,
    landmark_residual,
)
from reweight.solvers.divergence_dual import divergence_dual
from reweight.solvers.result import SolverResult

# Cholesky factor of [[2, -1], [-1, 2]]: |p0|^2 + |p1|^2 + |p0 - p1|^2 as a sum of squares.
JOINT_FACTOR = np.linalg.cholesky(np.array([[2.0, -1.0], [-1.0, 2.0]]))
# A program that Newton's method has not solved by then is stiff.
EASY_ITERATIONS = 20
LARGE_ALPHA = 1e-2
ROUGH_TOL = 1e-2
SMALLEST_FACTOR = 1.2


@dataclass(frozen=True)
class LandmarkMap:
    """Moments and landmark features of new rows.

    Parameters
    ----------
    space : KernelSpace
        Where arms are compared.
    landmarks : ndarray of shape (k, q)
        Landmarks, standardised.
    projection : ndarray of shape (k, r)
        From kernels with landmarks to features.
    """

    space: KernelSpace
    landmarks: NDArray[np.float64]
    projection: NDArray[np.float64]

    @classmethod
    def of(cls, space: KernelSpace, landmarks: NDArray[np.float64]) -> "LandmarkMap":
        """Compute the projection of the landmarks' kernel."""
        projection = landmark_projection(
            landmarks, space.kernel, space.bandwidth, **space.parameters
        )
        return cls(space, landmarks, projection)

    def residual(self, Z: NDArray[np.float64], features: NDArray[np.float64]) -> NDArray:
        """What the features of standardised rows miss of their kernel with themselves."""
        return landmark_residual(
            Z,
            features,
            self.landmarks,
            self.space.kernel,
            self.space.bandwidth,
            **self.space.parameters,
        )

    def features(self, Z: NDArray[np.float64]) -> NDArray[np.float64]:
        """Features of standardised rows."""
        return landmark_features(
            Z,
            self.landmarks,
            self.space.kernel,
            self.space.bandwidth,
            projection=self.projection,
            **self.space.parameters,
        )


class DualSolver:
    """Solves min KL (or chi-square) + MMD^2 / (2 alpha) for each arm, or both arms jointly.

    The part of the kernel that the landmarks miss is nearly diagonal. Its form
    sum residual w^2 is counted, on average over the rows, as an addition to
    alpha: without it a small alpha would fit the features at the price of all
    that they do not see.

    Parameters
    ----------
    A : ndarray of shape (n, m + r)
        Moments, then landmark features.
    target : BalanceTarget
        Means and scales of the columns of `A`.
    n_moments : int
        m.
    names : list of str
        Names of the moments.
    residual : ndarray of shape (n,)
        What the features miss of the kernel of each row with itself.
    arms : Arms
        The arms.
    divergence : str
        Name of the divergence.
    improved : bool
        Whether the discrepancy between the arms is added, which couples them.
    """

    def __init__(
        self,
        A: NDArray[np.float64],
        target: BalanceTarget,
        n_moments: int,
        names: list[str],
        residual: NDArray[np.float64],
        arms: Arms,
        divergence: str,
        improved: bool,
    ) -> None:
        self.n_moments, self.names = n_moments, names
        self.divergence = divergence
        self.joint = improved and len(arms.moving_arms) == 2
        self.n_rows = np.bincount(arms.codes)
        self.rows, self.base, self.residual, self.used = {}, {}, {}, {}
        for arm, rows, base in arms.problems():
            # Rows of base weight zero have weight zero and stay outside the program.
            used = np.flatnonzero(rows)[base > 0]
            self.rows[arm], self.base[arm] = target.rows(A[used]), base[base > 0]
            self.residual[arm], self.used[arm] = residual[used], base > 0
        missed = [(q @ self.residual[arm]) * (q @ q) for arm, q in self.base.items()]
        self.missed = float(np.mean(missed))
        self.duals: dict[int, NDArray[np.float64]] = {}
        self.dropped: set[int] = set()

    def solve(
        self, alpha: float, max_smd: float, tol: float, max_iter: int
    ) -> dict[int, tuple[NDArray, SolverResult]]:
        """Weights of each moving arm's rows, summing to one, and the solver's result.

        Parameters
        ----------
        alpha : float
            Ridge of the features, positive.
        max_smd : float
            Box tolerance of the moments.
        tol : float
            Largest residual of the optimality conditions.
        max_iter : int
            Largest number of Newton steps.

        Returns
        -------
        dict of int to tuple

        Raises
        ------
        InfeasibleError
            If the moments cannot be met to within `max_smd`.
        """
        if self.joint:
            # The form over both arms counts each arm's own kernel twice.
            solved = self._solve_jointly(alpha + 2.0 * self.missed, max_smd, tol, max_iter)
        else:
            solved = {}
            for arm, C in self.rows.items():
                result = solve_features(
                    C,
                    self.base[arm],
                    alpha + self.missed,
                    self.names,
                    C.shape[1] - self.n_moments,
                    max_smd=max_smd,
                    divergence=self.divergence,
                    tol=tol,
                    max_iter=max_iter,
                )
                self.duals[arm] = result.dual
                solved[arm] = result.x, result
        solved = {arm: (self._spread(arm, x), result) for arm, (x, result) in solved.items()}
        if max_smd == 0:
            thetas = [dual[1 : self.n_moments + 1] for dual in self.duals.values()]
            self.dropped = set(np.flatnonzero(np.any(np.equal(thetas, 0), axis=0)).tolist())
        return solved

    def _spread(self, arm: int, x: NDArray[np.float64]) -> NDArray[np.float64]:
        """Weights of all rows of an arm from those of the rows in the program."""
        weights = np.zeros(len(self.used[arm]))
        weights[self.used[arm]] = x
        return weights

    def _solve_jointly(self, alpha, max_smd, tol, max_iter):
        """One program over both arms, each of which holds half of the mass.

        With v = w / 2 the sum of the arms' divergences is twice the divergence
        of v from q / 2. Columns are doubled to keep their means those of w.
        """
        m = self.n_moments
        r = self.rows[0].shape[1] - m
        blocks = []
        for arm in (0, 1):
            C = self.rows[arm]
            moments = np.zeros((len(C), 2, m))
            moments[:, arm] = 2.0 * C[:, :m]
            # F' p with the factor F F' of the form, p the features' mean in each arm.
            kernel = np.einsum("j,nr->njr", 2.0 * JOINT_FACTOR[arm], C[:, m:])
            half = np.full((len(C), 1), arm - 0.5)
            blocks.append(
                np.hstack([half, moments.reshape(len(C), -1), kernel.reshape(len(C), -1)])
            )
        first = len(self.base[0])
        result = _solve_dual(
            np.vstack(blocks),
            np.r_[self.base[0], self.base[1]],
            2.0 * alpha,
            np.r_[np.zeros(1 + 2 * m), np.ones(2 * r)],
            divergence=self.divergence,
            tolerance=np.r_[0.0, np.full(2 * m, max_smd), np.zeros(2 * r)],
            tol=tol,
            max_iter=max_iter,
            column_names=["the share of an arm", *self.names, *column_names(self.names, 2 * r)],
        )
        theta = result.dual[1:]
        for arm in (0, 1):
            kernel = 2.0 * JOINT_FACTOR[arm] @ theta[1 + 2 * m :].reshape(2, r)
            moments = 2.0 * theta[1 + arm * m : 1 + (arm + 1) * m]
            level = result.dual[0] + (arm - 0.5) * theta[0]
            self.duals[arm] = np.r_[level, moments, kernel]
        halves = {0: result.x[:first], 1: result.x[first:]}
        return {arm: (x / x.sum(), result) for arm, x in halves.items()}

    def discrepancy(self, arm: int, weights: NDArray[np.float64]) -> float:
        """Maximum mean discrepancy of an arm's weights to the target.

        The features' part and the diagonal of the rest.
        """
        weights = weights[self.used[arm]]
        seen = weights @ self.rows[arm][:, self.n_moments :]
        return float(np.sqrt(seen @ seen + weights**2 @ self.residual[arm]))


def column_names(moments: list[str], n_features: int) -> list[str]:
    """Names of moments, then of landmark features.

    Parameters
    ----------
    moments : list of str
        Names of the moments.
    n_features : int
        Number of features.

    Returns
    -------
    list of str
    """
    return moments + [f"kernel feature {j}" for j in range(n_features)]


def solve_features(
    C: Any,
    base: NDArray | None,
    alpha: float,
    moments: list[str],
    n_features: int,
    *,
    max_smd: float,
    **options: Any,
) -> SolverResult:
    """One arm's program: moments to within a tolerance, features under a ridge.

    Parameters
    ----------
    C : ndarray of shape (n, m + r) or chunks
        Moments, then features, centred at the target.
    base : ndarray of shape (n,) or None
        Base weights; None with chunks.
    alpha : float
        Ridge of the features.
    moments : list of str
        Names of the m moments.
    n_features : int
        r.
    max_smd : float
        Box tolerance of the moments.
    **options : dict
        Passed on to `divergence_dual`.

    Returns
    -------
    SolverResult
    """
    m = len(moments)
    return _solve_dual(
        C,
        base,
        alpha,
        np.r_[np.zeros(m), np.ones(n_features)],
        tolerance=np.r_[np.full(m, max_smd), np.zeros(n_features)],
        column_names=column_names(moments, n_features),
        **options,
    )


def _solve_dual(
    C: NDArray, base: NDArray, alpha: float, ridged: NDArray, **options: Any
) -> SolverResult:
    """The dual program; where a small ridge makes it stiff, from larger ridges downwards."""
    max_iter = options.pop("max_iter")
    result = divergence_dual(
        C, base, alpha=alpha * ridged, max_iter=min(max_iter, EASY_ITERATIONS), **options
    )
    n_iter = result.n_iter
    rough = {**options, "tol": max(ROUGH_TOL, options["tol"])}
    ridge, factor, start = max(LARGE_ALPHA, alpha), 10.0, None
    while not result.converged and n_iter < max_iter and factor > SMALLEST_FACTOR:
        last = ridge <= alpha
        trial = divergence_dual(
            C,
            base,
            alpha=ridge * ridged,
            start=start,
            max_iter=min(max_iter - n_iter, EASY_ITERATIONS),
            **(options if last else rough),
        )
        n_iter += trial.n_iter
        if not trial.converged:
            # The step was too long for the start that the last ridge gave.
            ridge, factor = ridge * factor, np.sqrt(factor)
        elif last:
            result = trial
        else:
            start = trial.dual
        ridge = max(ridge / factor, alpha)
    return replace(result, n_iter=n_iter)

"""The problem of kernel mean matching, the forms of its objective and certified solutions."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reweight.kernels.chunks import row_slices
from reweight.kernels.kernel_sums import kernel_matrix, kernel_matvec
from reweight.kernels.landmarks import landmark_features, landmark_projection
from reweight.solvers.result import SolverResult
from shift.covariate._matching_set import MatchingSet

# Features of more rows than this are kept in single precision.
SINGLE_PRECISION_ROWS = 20_000
# Rows on which the largest eigenvalue of the kernel is estimated.
EIGENVALUE_ROWS = 1000


@dataclass(frozen=True)
class MatchingProblem:
    """Minimise the squared distance of the kernel means of weighted source and target rows.

    Parameters
    ----------
    X : ndarray of shape (n, p)
        Source rows.
    X_target : ndarray of shape (t, p)
        Target rows.
    share : ndarray of shape (n,)
        Sampling weights of the source rows, positive and summing to one.
    D : float
        1 fixes the target weights, infinity the source weights.
    max_weight : float
        Cap on sqrt(D) times a source weight.
    mean_tolerance : float
        Largest difference of the mean source weight and the mean target weight.
    alpha : float
        Ridge on the mean square of the weights.
    kernel : str
        Name of the kernel.
    bandwidth : float or ndarray of shape (p,)
        Its length.
    """

    X: NDArray[np.float64]
    X_target: NDArray[np.float64]
    share: NDArray[np.float64]
    D: float
    max_weight: float
    mean_tolerance: float
    alpha: float
    kernel: str
    bandwidth: Any

    @property
    def n(self) -> int:
        """Number of source rows."""
        return len(self.X)

    @property
    def t(self) -> int:
        """Number of target rows."""
        return len(self.X_target)

    @property
    def noise(self) -> float:
        """1/n + 1/t, the sampling noise of the objective, to which gaps are relative."""
        return float(self.share @ self.share) + 1.0 / self.t

    @cached_property
    def rows(self) -> NDArray[np.float64]:
        """Source rows above target rows."""
        return np.concatenate([self.X, self.X_target])

    @cached_property
    def mass(self) -> NDArray[np.float64]:
        """What weight one amounts to in each row."""
        return np.concatenate([self.share, np.full(self.t, 1.0 / self.t)])

    @cached_property
    def ridge(self) -> NDArray[np.float64]:
        """Diagonal of the ridge on shares: alpha times the weighted mean of squared weights."""
        return self.alpha / self.mass

    @cached_property
    def feasible(self) -> MatchingSet:
        """Constraints on the shares."""
        target = np.full(self.t, 1.0 / self.t)
        if self.D == 1:
            low, high = np.r_[0 * self.share, target], np.r_[self.max_weight * self.share, target]
            return MatchingSet(low, high, self.n, None, self.mean_tolerance)
        if np.isinf(self.D):
            low, high = np.r_[self.share, 0 * target], self.mass
            return MatchingSet(low, high, self.n, None, self.mean_tolerance)
        root = np.sqrt(self.D)
        high = np.r_[self.max_weight / root * self.share, target]
        radius = (1 - 1 / root) / np.sqrt(self.t)
        return MatchingSet(np.zeros_like(high), high, self.n, radius, self.mean_tolerance)

    def kernel_between(self, X: NDArray, Y: NDArray) -> NDArray[np.float64]:
        """Kernel between rows."""
        return kernel_matrix(X, Y, self.kernel, self.bandwidth)

    def embed(self, X: NDArray, Y: NDArray, mass: NDArray) -> NDArray[np.float64]:
        """Kernel between rows of X and those of Y, summed over Y with the given mass."""
        carrying = mass != 0
        return kernel_matvec(X, Y[carrying], mass[carrying], self.kernel, self.bandwidth)

    def witness(self, X: NDArray, shares: NDArray) -> NDArray[np.float64]:
        """Difference of the two kernel means at new rows; positive where the source dominates."""
        return self.embed(X, self.rows, self.feasible.signs * shares)

    def objective(self, shares: NDArray) -> float:
        """Squared distance of the kernel means, plus the ridge, with the whole kernel."""
        w, a = shares[: self.n], shares[self.n :]
        some, others = w > 0, a > 0
        w, a, X, X_target = w[some], a[others], self.X[some], self.X_target[others]
        value = w @ self.embed(X, X, w) - 2 * (w @ self.embed(X, X_target, a))
        value += a @ self.embed(X_target, X_target, a)
        return max(float(value), 0.0) + float(self.ridge @ shares**2)


@dataclass(frozen=True)
class Matching:
    """Solution of a matching problem.

    Parameters
    ----------
    source, target : ndarray
        Weights beta of shape (n,) and alpha of shape (t,).
    result : SolverResult
        Its `x` are the shares [beta * share; alpha / t].
    """

    source: NDArray[np.float64]
    target: NDArray[np.float64]
    result: SolverResult


class DenseForm:
    """The objective on shares, with the kernel matrix in memory."""

    name = "dense"

    def __init__(self, problem: MatchingProblem, K: NDArray) -> None:
        self.K, self.ridge, self.signs = K, problem.ridge, problem.feasible.signs
        self.problem = problem

    def half_gradient(self, x: NDArray) -> NDArray[np.float64]:
        """Half the gradient of the objective."""
        return self.signs * (self.K @ (self.signs * x)) + self.ridge * x

    def embedding_lipschitz(self) -> float | None:
        """Largest eigenvalue of the kernel, or None to have it found."""
        return None


class LandmarkForm:
    """The objective on shares, with features in place of the kernel matrix."""

    name = "landmarks"

    def __init__(self, problem: MatchingProblem, landmarks: NDArray) -> None:
        self.problem, self.ridge, self.signs = problem, problem.ridge, problem.feasible.signs
        projection = landmark_projection(landmarks, problem.kernel, problem.bandwidth)
        rows = problem.rows
        single = len(rows) > SINGLE_PRECISION_ROWS and 1 < problem.D < np.inf
        self.Z = np.empty((len(rows), projection.shape[1]), np.float32 if single else np.float64)
        for part in row_slices(len(rows)):
            self.Z[part] = landmark_features(
                rows[part], landmarks, problem.kernel, problem.bandwidth, projection=projection
            )

    def half_gradient(self, x: NDArray) -> NDArray[np.float64]:
        """Half the gradient of the objective."""
        mean = (self.signs * x).astype(self.Z.dtype, copy=False) @ self.Z
        return self.signs * (self.Z @ mean) + self.ridge * x

    def embedding_lipschitz(self) -> float | None:
        """Largest eigenvalue of the kernel, guessed from some rows; steps correct a low guess."""
        n_rows = len(self.Z)
        some = self.Z[:: max(n_rows // EIGENVALUE_ROWS, 1)].astype(np.float64)
        return 1.1 * float(np.linalg.eigvalsh(some.T @ some)[-1]) * n_rows / len(some)


def certified(problem, form, x, n_iter, tol, solver=None) -> SolverResult:
    """A solution with its gap: to the best point of the set along the gradient, or to zero."""
    half = form.half_gradient(x)
    objective = max(float(x @ half), 0.0)
    gap = 2 * float(half @ (x - problem.feasible.linear_minimum(half)))
    gap = min(max(gap, 0.0), objective)
    return record(problem, x, objective, gap, n_iter, tol, solver or f"{form.name}")


def record(problem, x, objective, gap, n_iter, tol, solver) -> SolverResult:
    return SolverResult(
        x=x,
        dual=None,
        objective=objective,
        optimality_gap=gap / problem.noise,
        certificate="duality_gap",
        n_iter=n_iter,
        converged=bool(gap <= tol * problem.noise),
        solver=solver,
    )

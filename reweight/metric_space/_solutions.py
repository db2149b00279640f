"""Weighting vectors of distinct points: one class for each way to hold the inverse of Z."""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_factor, cho_solve, lapack, solve_triangular
from scipy.sparse.linalg import LinearOperator, cg

from reweight.kernels.chunks import row_slices
from reweight.metric_space._local_solve import (
    VARIANCE_FLOOR,
    NeighborSearch,
    SparseInverse,
    condition,
    nearest_others,
    sparse_inverse,
)
from reweight.metric_space._points import PointSet

QUERY_ROWS = 1024
JITTERS = (0.0, 1e-10, 1e-8, 1e-6)
# Rows of Z w = 1 that are looked at where looking at all would take longer than solving.
CHECKED_ROWS = 256
# Local solves see the range of the similarities if at the last neighbour they have fallen to this,
# and their weights are then within 3 % (root mean square) where Z w deviates from one by less than
# that; benchmarks/magnitude_outliers.py shows on what.
SIMILARITY_AT_LAST_NEIGHBOR = 0.1
DEVIATION = 0.03
EXACT_DEVIATION = 1e-6


class Cholesky:
    """Z + alpha I = L L', with a jitter on the diagonal where rounding makes it singular."""

    def __init__(self, points: PointSet, scale: float, alpha: float) -> None:
        for jitter in JITTERS:
            Z = points.similarity_matrix(scale)
            Z[np.diag_indices(len(Z))] = 1.0 + alpha + jitter
            try:
                # The transpose of a symmetric matrix is itself, in the order that LAPACK reads.
                factor = cho_factor(Z.T, lower=True, overwrite_a=True, check_finite=False)
            except np.linalg.LinAlgError:
                continue
            self.L, self.jitter = factor[0], jitter
            return
        raise np.linalg.LinAlgError("similarities are not positive definite")

    def solve(self, right: NDArray) -> NDArray[np.float64]:
        """(Z + alpha I)^-1 times vectors."""
        return cho_solve((self.L, True), right, check_finite=False)

    def explained(self, c: NDArray) -> NDArray[np.float64]:
        """Quadratic form c' (Z + alpha I)^-1 c of each row c."""
        half = solve_triangular(self.L, c.T, lower=True, check_finite=False, overwrite_b=True)
        return np.einsum("ij,ij->j", half, half)

    def inverse_diagonal(self) -> NDArray[np.float64]:
        """Diagonal of (Z + alpha I)^-1, some columns of L^-1 at a time."""
        n = len(self.L)
        out = np.empty(n)
        for rows in row_slices(n, QUERY_ROWS):
            # The columns of L^-1 vanish above the diagonal.
            unit = np.eye(n - rows.start, rows.stop - rows.start, order="F")
            corner = self.L[rows.start :, rows.start :]
            columns = solve_triangular(
                corner, unit, lower=True, check_finite=False, overwrite_b=True
            )
            out[rows] = np.einsum("ij,ij->j", columns, columns)
        return out


class SymmetricIndefinite:
    """Z + alpha I = L D L', for metrics whose similarities need not be positive definite."""

    jitter = 0.0

    def __init__(self, points: PointSet, scale: float, alpha: float) -> None:
        Z = points.similarity_matrix(scale)
        Z[np.diag_indices(len(Z))] = 1.0 + alpha
        self.factor, self.pivots, info = lapack.dsytrf(Z.T, lower=True, overwrite_a=True)
        if info > 0:
            raise np.linalg.LinAlgError("similarities are singular")

    def solve(self, right: NDArray) -> NDArray[np.float64]:
        """(Z + alpha I)^-1 times vectors."""
        return lapack.dsytrs(self.factor, self.pivots, right, lower=True)[0]

    def explained(self, c: NDArray) -> NDArray[np.float64]:
        """Quadratic form c' (Z + alpha I)^-1 c of each row c."""
        return np.einsum("ij,ji->i", c, self.solve(c.T))

    def inverse_diagonal(self) -> NDArray[np.float64]:
        """Diagonal of (Z + alpha I)^-1."""
        n = len(self.factor)
        out = np.empty(n)
        for rows in row_slices(n, QUERY_ROWS):
            width = rows.stop - rows.start
            out[rows] = self.solve(np.eye(n, width, -rows.start))[rows].diagonal()
        return out


@dataclass
class ExactSolution:
    """Weights from a factor of Z, or of its rows and columns at some support.

    Parameters
    ----------
    points : PointSet
        All points.
    scale : float
        Inverse length t.
    alpha : float, default=0
        Ridge.
    indefinite : bool, default=False
        Whether to factorise without asking for positive definite similarities.
    support : ndarray of int, default=None
        Points that may have a weight; None is all.
    """

    points: PointSet
    scale: float
    alpha: float = 0.0
    indefinite: bool = False
    support: NDArray[np.intp] | None = None

    def __post_init__(self) -> None:
        chosen = self.points if self.support is None else self.points.subset(self.support)
        self._chosen = chosen
        kind = SymmetricIndefinite if self.indefinite else Cholesky
        self._factor = kind(chosen, self.scale, self.alpha)
        w = self._factor.solve(np.ones(len(chosen)))
        # A step of refinement undoes most of the rounding, and of the jitter.
        w = w + self._factor.solve(1.0 - chosen.product(w, self.scale) - self.alpha * w)
        self._w = w
        if self.support is None:
            self.w = w
        else:
            self.w = np.zeros(len(self.points))
            self.w[self.support] = w
        self.alpha_used = self.alpha + self._factor.jitter
        self.magnitude = float(w.sum())
        self.residual_norm = self._residual_norm()
        self.approximation_ok = self.residual_norm < EXACT_DEVIATION

    def _residual_norm(self) -> float:
        value = self._chosen.product(self._w, self.scale) + self.alpha * self._w
        return float(np.abs(value - 1.0).max())

    def inverse_diagonal(self) -> NDArray[np.float64]:
        """Diagonal of the inverse; infinite, so that nothing is gained, off the support."""
        diagonal = self._factor.inverse_diagonal()
        if self.support is None:
            return diagonal
        out = np.full(len(self.points), np.inf)
        out[self.support] = diagonal
        return out

    def residual(self, queries: NDArray) -> NDArray[np.float64]:
        """1 - c'w of each query."""
        queries = self._form(queries)
        return 1.0 - self._chosen.product(self._w, self.scale, queries)

    def residual_and_variance(self, queries: NDArray) -> tuple[NDArray, NDArray]:
        """1 - c'w and 1 + alpha - c' (Z + alpha I)^-1 c of each query."""
        queries = self._form(queries)
        residual, variance = np.empty(len(queries)), np.empty(len(queries))
        for rows in row_slices(len(queries), QUERY_ROWS):
            c = self._chosen.similarities(queries[rows], self.scale)
            residual[rows] = 1.0 - c @ self._w
            variance[rows] = 1.0 + self.alpha - self._factor.explained(c)
        if not self.indefinite:
            variance = np.maximum(variance, VARIANCE_FLOOR)
        return residual, variance

    def _form(self, queries: NDArray) -> NDArray:
        return queries if self.support is None else self.points.towards(queries, self.support)


@dataclass
class NeighborSolution:
    """Weights from nearest points: local, by Vecchia's factor, or by conjugate gradients on it.

    New points are conditioned on their nearest points.

    Parameters
    ----------
    points : PointSet
        Distinct points with coordinates.
    scale : float
        Inverse length t.
    solver : {"local", "vecchia", "cg"}
        Where the weights come from.
    n_neighbors : int
        Number of neighbours.
    alpha : float
        Ridge.
    tol : float
        Relative residual at which conjugate gradients stop.
    max_iter : int
        Largest number of their steps.
    rng : numpy.random.RandomState
        Draws the order of the points and the rows of Z w = 1 to look at.
    verbose : int, default=0
        Whether to show the steps of conjugate gradients as a progress bar.
    """

    points: PointSet
    scale: float
    solver: str
    n_neighbors: int
    alpha: float
    tol: float
    max_iter: int
    rng: np.random.RandomState
    verbose: int = 0
    n_iter: int = field(init=False, default=0)

    def __post_init__(self) -> None:
        points = self.points
        self.k = max(min(self.n_neighbors, len(points) - 1), 0)
        self.alpha_used = self.alpha
        self._search = NeighborSearch(points.data, points.power, points.n_jobs)
        ones = np.ones(len(points))
        if self.solver == "local":
            self._solve_locally()
        else:
            self._inverse: SparseInverse = sparse_inverse(
                points.data,
                self.k,
                self.scale,
                points.power,
                self.alpha,
                self.rng,
                points.n_jobs,
            )
            self.w = self._inverse.product(ones)
            self.magnitude = self._inverse.total()
            self._diagonal = self._inverse.diagonal()
        if self.solver == "cg":
            self._conjugate_gradients(ones)
        self._check()

    def _solve_locally(self) -> None:
        others = nearest_others(self.points.data, self.k, self.points.power, self.points.n_jobs)
        gain, variance = self._given(self.points.data, others)
        self.w = gain / variance
        self.magnitude = float(self.w.sum())
        self._diagonal = 1.0 / variance

    def _conjugate_gradients(self, ones: NDArray) -> None:
        shape = (len(ones), len(ones))
        progress = None
        if self.verbose:
            from tqdm.auto import tqdm

            progress = tqdm(desc="conjugate gradients", unit="step")

        def count(_) -> None:
            self.n_iter += 1
            if progress is not None:
                progress.update()

        self.w, info = cg(
            LinearOperator(shape, matvec=self._product, dtype=np.float64),
            ones,
            x0=self.w,
            rtol=self.tol,
            maxiter=self.max_iter,
            M=LinearOperator(shape, matvec=self._inverse.product, dtype=np.float64),
            callback=count,
        )
        if progress is not None:
            progress.close()
        self.converged = info == 0
        self.magnitude = float(self.w.sum())

    def _product(self, w: NDArray) -> NDArray[np.float64]:
        w = np.ravel(w)
        return self.points.product(w, self.scale) + self.alpha * w

    def _check(self) -> None:
        """Deviation of Z w from one, over all or some rows, and whether the weights hold."""
        n = len(self.points)
        rows = np.arange(n)
        if n > CHECKED_ROWS and self.solver != "cg":
            rows = np.sort(self.rng.choice(n, CHECKED_ROWS, replace=False))
        value = self.points.product(self.w, self.scale, self.points.data[rows])
        deviation = value + self.alpha * self.w[rows] - 1.0
        self.residual_norm = float(np.abs(deviation).max())
        if self.solver == "cg":
            self.approximation_ok = self.converged
            return
        rms = np.sqrt(np.mean(deviation**2))
        seen = self._similarity_at_last_neighbor(rows) < SIMILARITY_AT_LAST_NEIGHBOR
        self.approximation_ok = bool(rms < EXACT_DEVIATION or (seen and rms < DEVIATION))

    def _similarity_at_last_neighbor(self, rows: NDArray) -> float:
        data = self.points.data
        last = self._search(data[rows], self.k + 1)[:, -1]
        distance = np.linalg.norm(data[rows] - data[last], ord=self.points.power, axis=1)
        return float(np.median(np.exp(-self.scale * distance)))

    def inverse_diagonal(self) -> NDArray[np.float64]:
        """Approximate diagonal of the inverse."""
        return self._diagonal

    def _given(self, queries: NDArray, neighbors: NDArray) -> tuple[NDArray, NDArray]:
        coefficients, variance = condition(
            queries,
            self.points.data,
            neighbors,
            self.scale,
            self.points.power,
            self.alpha,
            self.points.n_jobs,
        )
        return 1.0 - coefficients.sum(axis=1), variance

    def residual(self, queries: NDArray) -> NDArray[np.float64]:
        """1 - c'w of each query, given its nearest points."""
        return self.residual_and_variance(queries)[0]

    def residual_and_variance(self, queries: NDArray) -> tuple[NDArray, NDArray]:
        """Residual and variance of each query given its nearest points."""
        k = min(self.n_neighbors, len(self.points))
        return self._given(queries, self._search(queries, k))


class SubsampleSolution:
    """An exact solution for some points, which gives all others the weight of a new point.

    Parameters
    ----------
    points : PointSet
        All points.
    exact : ExactSolution
        Solution whose support is the subsample.
    """

    approximation_ok = False

    def __init__(self, points: PointSet, exact: ExactSolution) -> None:
        self._exact = exact
        self.alpha_used, self.magnitude = exact.alpha_used, exact.magnitude
        others = np.setdiff1d(np.arange(len(points)), exact.support)
        residual, variance = exact.residual_and_variance(points.data[others])
        self.w = exact.w
        self.w[others] = residual / variance
        self._diagonal = exact.inverse_diagonal()
        self._diagonal[others] = 1.0 / variance
        self.residual_norm = float(np.abs(residual).max())
        self.residual = exact.residual
        self.residual_and_variance = exact.residual_and_variance

    def inverse_diagonal(self) -> NDArray[np.float64]:
        """1 / variance given the subsample."""
        return self._diagonal

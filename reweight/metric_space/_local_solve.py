"""Weighting vectors from the nearest points of each point only, in time linear in the points.

The weight of a point given others is that of the last row of a larger weighting vector: with c the
similarities to some points N and b = Z_NN^-1 c, it is (1 - 1'b) / (1 - c'b). Taking for N the
nearest points gives the local weights; taking the nearest points that come earlier in some order
gives a sparse factor of the inverse of Z (Vecchia's approximation), and weights that know of all
points through it.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from joblib import Parallel, delayed
from numba import njit
from numpy.typing import NDArray
from scipy.spatial import cKDTree
from scipy.spatial.distance import cdist
from sklearn.neighbors import NearestNeighbors

from reweight.kernels.chunks import row_slices

# The variance of a point given others that it nearly coincides with is not taken below this.
VARIANCE_FLOOR = 1e-12
# Trees look at about every point beyond this many columns.
TREE_COLUMNS = 15
GROWTH = 1.3
FIRST_BLOCK = 256


@njit(cache=True, nogil=True)
def _similarity(a, b, scale, power):
    total = 0.0
    if power == 2.0:
        for k in range(a.shape[0]):
            difference = a[k] - b[k]
            total += difference * difference
        return np.exp(-scale * np.sqrt(total))
    if power == 1.0:
        for k in range(a.shape[0]):
            total += abs(a[k] - b[k])
        return np.exp(-scale * total)
    for k in range(a.shape[0]):
        total += abs(a[k] - b[k]) ** power
    return np.exp(-scale * total ** (1.0 / power))


# Sums may be taken in any order, which lets them vectorise; NaN keeps its meaning.
@njit(cache=True, nogil=True, fastmath={"reassoc", "contract"})
def _condition(queries, points, neighbors, scale, power, alpha, floor, coefficients, variances):
    """Coefficients b = (Z_NN + alpha)^-1 c and variances 1 + alpha - c'b of each query.

    `neighbors` is padded with -1. Pivots that rounding has spoiled are raised to the floor.
    """
    k = neighbors.shape[1]
    L = np.empty((k, k))
    y = np.empty(k)
    near = np.empty((k, points.shape[1]))
    for i in range(queries.shape[0]):
        m = 0
        while m < k and neighbors[i, m] >= 0:
            near[m] = points[neighbors[i, m]]
            m += 1
        variance = 1.0 + alpha
        for a in range(m):
            # Row a of the Cholesky factor, and of the forward solve.
            for b in range(a):
                value = _similarity(near[a], near[b], scale, power)
                for j in range(b):
                    value -= L[a, j] * L[b, j]
                L[a, b] = value / L[b, b]
            pivot = 1.0 + alpha
            value = _similarity(queries[i], near[a], scale, power)
            for j in range(a):
                pivot -= L[a, j] * L[a, j]
                value -= L[a, j] * y[j]
            L[a, a] = np.sqrt(max(pivot, floor))
            y[a] = value / L[a, a]
            variance -= y[a] * y[a]
        variances[i] = max(variance, floor)
        for a in range(m - 1, -1, -1):
            value = y[a]
            for j in range(a + 1, m):
                value -= L[j, a] * coefficients[i, j]
            coefficients[i, a] = value / L[a, a]
        for a in range(m, k):
            coefficients[i, a] = 0.0


@njit(cache=True, nogil=True)
def _subtract_from_earlier(neighbors, coefficients, values, out):
    """out[j] -= sum of coefficients times values over the rows that have j as a neighbour."""
    for i in range(neighbors.shape[0]):
        for a in range(neighbors.shape[1]):
            j = neighbors[i, a]
            if j < 0:
                break
            out[j] -= coefficients[i, a] * values[i]


@njit(cache=True, nogil=True)
def _subtract_neighbors(neighbors, coefficients, values, out):
    """out[i] -= sum of coefficients times values over the neighbours of row i."""
    for i in range(neighbors.shape[0]):
        total = 0.0
        for a in range(neighbors.shape[1]):
            j = neighbors[i, a]
            if j < 0:
                break
            total += coefficients[i, a] * values[j]
        out[i] -= total


def condition(
    queries: NDArray,
    points: NDArray,
    neighbors: NDArray[np.intp],
    scale: float,
    power: float,
    alpha: float = 0.0,
    n_jobs: int | None = None,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Coefficients and variance of each query given its neighbours.

    Parameters
    ----------
    queries : ndarray of shape (m, p)
        Rows that are predicted.
    points : ndarray of shape (n, p)
        Points that neighbours are taken from.
    neighbors : ndarray of shape (m, k)
        Positions of the neighbours of each query, -1 where there are fewer.
    scale : float
        Inverse length t of exp(-t d).
    power : float
        Power of the Minkowski distance.
    alpha : float, default=0
        Ridge on the similarities.
    n_jobs : int, default=None
        Number of threads; it does not change the result.

    Returns
    -------
    coefficients : ndarray of shape (m, k)
    variances : ndarray of shape (m,)
    """
    coefficients = np.empty(neighbors.shape)
    variances = np.empty(len(queries))

    def work(rows: slice) -> None:
        _condition(
            queries[rows],
            points,
            neighbors[rows],
            scale,
            float(power),
            alpha,
            VARIANCE_FLOOR,
            coefficients[rows],
            variances[rows],
        )

    Parallel(n_jobs=n_jobs, require="sharedmem")(
        delayed(work)(rows) for rows in row_slices(len(queries))
    )
    return coefficients, variances


class NeighborSearch:
    """Nearest points in a Minkowski distance: a tree where trees help, all distances elsewhere.

    Parameters
    ----------
    points : ndarray of shape (n, p)
        Points to search.
    power : float
        Power of the distance.
    n_jobs : int, default=None
        Number of threads.
    """

    def __init__(self, points: NDArray, power: float, n_jobs: int | None = None) -> None:
        self.power, self.n_jobs = power, n_jobs
        self.tree = self.brute = None
        if points.shape[1] <= TREE_COLUMNS:
            self.tree = cKDTree(points, balanced_tree=False, compact_nodes=False)
        else:
            self.brute = NearestNeighbors(
                algorithm="brute", metric="minkowski", p=power, n_jobs=n_jobs
            ).fit(points)

    def __call__(self, queries: NDArray, k: int) -> NDArray[np.intp]:
        """Positions of the k nearest points of each query, of shape (m, k), nearest first."""
        if self.tree is None:
            return self.brute.kneighbors(queries, k, return_distance=False)
        found = self.tree.query(queries, k, p=self.power, workers=self.n_jobs or 1)[1]
        return found.reshape(len(queries), k)


def nearest_others(
    points: NDArray, k: int, power: float, n_jobs: int | None = None
) -> NDArray[np.intp]:
    """Positions of the k nearest other points of each point.

    Parameters
    ----------
    points : ndarray of shape (n, p)
        Distinct points.
    k : int
        Number of neighbours, at most n - 1.
    power : float
        Power of the Minkowski distance.
    n_jobs : int, default=None
        Number of threads.

    Returns
    -------
    ndarray of shape (n, k)
    """
    found = NeighborSearch(points, power, n_jobs)(points, k + 1)
    other = found != np.arange(len(points))[:, None]
    # Rounding may rank a close point before the point itself, or drop the latter.
    other[other.all(axis=1), -1] = False
    return found[other].reshape(len(points), k)


def earlier_neighbors(
    points: NDArray, k: int, power: float, n_jobs: int | None = None
) -> NDArray[np.intp]:
    """Positions of the k nearest points among those that come before each point.

    The points are taken in blocks that grow by a constant factor. Most of the
    points up to the end of a block come before a point in it, so a search for a
    few more than k of them finds k earlier ones for nearly all; the rest search
    again.

    Parameters
    ----------
    points : ndarray of shape (n, p)
        Distinct points, in an order without a trend.
    k : int
        Number of neighbours.
    power : float
        Power of the Minkowski distance.
    n_jobs : int, default=None
        Number of threads.

    Returns
    -------
    ndarray of shape (n, k)
        The first rows, which have fewer, end in -1.
    """
    n = len(points)
    neighbors = np.full((n, k), -1, dtype=np.intp)
    size = min(n, max(FIRST_BLOCK, 2 * k))
    distance = cdist(points[:size], points[:size], "minkowski", p=power)
    distance[np.triu_indices(size)] = np.inf
    nearest = np.argsort(distance, axis=1, kind="stable")[:, :k]
    count = np.minimum(np.arange(size), k)
    inside = np.arange(nearest.shape[1]) < count[:, None]
    neighbors[:size, : nearest.shape[1]] = np.where(inside, nearest, -1)
    while size < n:
        end = min(n, int(GROWTH * size) + 1)
        search = NeighborSearch(points[:end], power, n_jobs)
        for rows, found in _until_enough(search, points, np.arange(size, end), k, end):
            neighbors[rows] = found
        size = end
    return neighbors


def _until_enough(
    search: NeighborSearch, points: NDArray, rows: NDArray, k: int, end: int
) -> Iterator[tuple[NDArray, NDArray]]:
    """Rows and their k nearest earlier points, searching for more where too few are earlier."""
    wanted = int(0.5 * (1 + GROWTH) * k) + 8
    while len(rows):
        found = search(points[rows], min(wanted, end))
        earlier = found < rows[:, None]
        rank = earlier.cumsum(axis=1)
        enough = rank[:, -1] >= k
        kept = (earlier & (rank <= k))[enough]
        yield rows[enough], found[enough][kept].reshape(-1, k)
        rows = rows[~enough]
        wanted *= 2


@dataclass
class SparseInverse:
    """Vecchia's approximation of the inverse of Z + alpha I, (I - B)' D^-1 (I - B).

    Parameters
    ----------
    order : ndarray of shape (n,)
        Position of the point that is i-th in the order.
    neighbors : ndarray of shape (n, k)
        Positions, in the order, of the earlier neighbours of each point.
    coefficients : ndarray of shape (n, k)
        Rows of B at those.
    variances : ndarray of shape (n,)
        Diagonal of D.
    """

    order: NDArray[np.intp]
    neighbors: NDArray[np.intp]
    coefficients: NDArray[np.float64]
    variances: NDArray[np.float64]

    def product(self, v: NDArray) -> NDArray[np.float64]:
        """The approximate inverse times a vector, both in the order of the points."""
        v = np.ravel(v)[self.order]
        u = v.copy()
        _subtract_neighbors(self.neighbors, self.coefficients, v, u)
        u /= self.variances
        w = u.copy()
        _subtract_from_earlier(self.neighbors, self.coefficients, u, w)
        return self._in_order_of_points(w)

    def diagonal(self) -> NDArray[np.float64]:
        """Diagonal of the approximate inverse."""
        inverse = 1.0 / self.variances
        diagonal = inverse.copy()
        _subtract_from_earlier(self.neighbors, -(self.coefficients**2), inverse, diagonal)
        return self._in_order_of_points(diagonal)

    def total(self) -> float:
        """Sum of all entries of the approximate inverse, which is never negative."""
        gain = 1.0 - self.coefficients.sum(axis=1)
        return float((gain**2 / self.variances).sum())

    def _in_order_of_points(self, values: NDArray) -> NDArray:
        out = np.empty_like(values)
        out[self.order] = values
        return out


def sparse_inverse(
    points: NDArray,
    n_neighbors: int,
    scale: float,
    power: float,
    alpha: float,
    rng: np.random.RandomState,
    n_jobs: int | None = None,
) -> SparseInverse:
    """Vecchia's approximation with the points in random order.

    Parameters
    ----------
    points : ndarray of shape (n, p)
        Distinct points.
    n_neighbors : int
        Number of earlier neighbours; n - 1 makes the inverse exact.
    scale : float
        Inverse length t of exp(-t d).
    power : float
        Power of the Minkowski distance.
    alpha : float
        Ridge on the similarities.
    rng : numpy.random.RandomState
        Draws the order.
    n_jobs : int, default=None
        Number of threads.

    Returns
    -------
    SparseInverse
    """
    order = rng.permutation(len(points))
    ordered = np.ascontiguousarray(points[order])
    k = max(min(n_neighbors, len(points) - 1), 1)
    neighbors = earlier_neighbors(ordered, k, power, n_jobs)
    coefficients, variances = condition(ordered, ordered, neighbors, scale, power, alpha, n_jobs)
    return SparseInverse(order, neighbors, coefficients, variances)

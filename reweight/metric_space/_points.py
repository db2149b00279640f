"""Points of a metric space, given by their coordinates or by their distances."""

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from joblib import Parallel, delayed
from numpy.typing import NDArray
from sklearn.metrics import pairwise_distances

from reweight.kernels.chunks import row_slices
from reweight.kernels.kernel_sums import kernel_matrix

TILE_ROWS = 256
MINKOWSKI = {"euclidean": 2.0, "l2": 2.0, "manhattan": 1.0, "cityblock": 1.0, "l1": 1.0}


def minkowski_power(metric: str | Callable, p: float) -> float | None:
    """Power of a Minkowski distance; None for other metrics.

    Parameters
    ----------
    metric : str or callable
        Metric.
    p : float
        Power of metric "minkowski".

    Returns
    -------
    float or None
    """
    if callable(metric):
        return None
    return float(p) if metric == "minkowski" else MINKOWSKI.get(metric)


def metric_label(metric: str | Callable) -> str:
    """How messages call a metric.

    Parameters
    ----------
    metric : str or callable
        Metric.

    Returns
    -------
    str
    """
    return repr(metric) if isinstance(metric, str) else getattr(metric, "__name__", repr(metric))


@dataclass
class PointSet:
    """Distinct points and the distances from others to them.

    Parameters
    ----------
    data : ndarray of shape (n, p) or (n, n)
        Coordinates, or distances between the points for metric "precomputed".
    metric : str or callable
        Any metric of `sklearn.metrics.pairwise_distances`.
    p : float, default=2
        Power of metric "minkowski".
    n_jobs : int, default=None
        Number of threads.
    name : str, default="metric"
        Whom errors about the metric are raised for.
    """

    data: NDArray[np.float64]
    metric: str | Callable
    p: float = 2.0
    n_jobs: int | None = None
    name: str = "metric"
    _positions: dict = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self.power = minkowski_power(self.metric, self.p)
        self.precomputed = isinstance(self.metric, str) and self.metric == "precomputed"
        rows = [] if self.precomputed else self.data
        self._positions = {row.tobytes(): i for i, row in enumerate(rows)}

    def __len__(self) -> int:
        return len(self.data)

    @property
    def definite(self) -> bool:
        """Whether similarities are known to be positive definite at every scale."""
        return self.power is not None and self.power <= 2

    def subset(self, index: NDArray) -> "PointSet":
        """Some of the points."""
        data = self.data[np.ix_(index, index)] if self.precomputed else self.data[index]
        return PointSet(np.ascontiguousarray(data), self.metric, self.p, self.n_jobs, self.name)

    def towards(self, queries: NDArray, index: NDArray) -> NDArray:
        """Queries in the form that `subset(index)` takes them."""
        return np.ascontiguousarray(queries[:, index]) if self.precomputed else queries

    def distances(self, queries: NDArray) -> NDArray[np.float64]:
        """Distances of queries to all points, of shape (m, n)."""
        if self.precomputed:
            return queries.copy()
        if self.power == 2:
            out = kernel_matrix(queries, self.data, "energy")
            return np.negative(out, out=out)
        parameters = {"p": self.p} if self.metric == "minkowski" else {}
        out = pairwise_distances(queries, self.data, metric=self.metric, **parameters)
        if self.power is None and not (np.isfinite(out).all() and out.min(initial=0.0) >= 0):
            raise ValueError(
                f"{self.name}: metric={metric_label(self.metric)} gives distances that are "
                "negative or not finite; choose a metric that suits the rows"
            )
        return out

    def similarities(self, queries: NDArray, scale: float) -> NDArray[np.float64]:
        """exp(-scale d) of queries with all points, of shape (m, n)."""
        out = self.distances(queries)
        out *= -scale
        return np.exp(out, out=out)

    def similarity_matrix(self, scale: float) -> NDArray[np.float64]:
        """Z, built a tile of rows at a time."""
        Z = np.empty((len(self), len(self)))

        def fill(rows: slice) -> None:
            Z[rows] = self.similarities(self.data[rows], scale)

        self._over_tiles(fill, len(self))
        return Z

    def product(
        self, v: NDArray, scale: float, queries: NDArray | None = None
    ) -> NDArray[np.float64]:
        """Similarities of queries, or of the points themselves, times a vector; Z is not stored."""
        queries = self.data if queries is None else queries
        parts = self._over_tiles(
            lambda rows: self.similarities(queries[rows], scale) @ v, len(queries)
        )
        return np.concatenate(parts) if parts else np.zeros(0)

    def _over_tiles(self, function: Callable[[slice], NDArray | None], n_rows: int) -> list:
        return Parallel(n_jobs=self.n_jobs, require="sharedmem")(
            delayed(function)(rows) for rows in row_slices(n_rows, TILE_ROWS)
        )

    def find(self, queries: NDArray) -> NDArray[np.intp]:
        """Position of the point that each query coincides with, -1 where there is none."""
        if self.precomputed:
            nearest = queries.argmin(axis=1)
            return np.where(queries[np.arange(len(queries)), nearest] == 0, nearest, -1)
        lookup = self._positions.get
        return np.array([lookup(row.tobytes(), -1) for row in queries], dtype=np.intp)


def distinct_points(
    X: NDArray,
    metric: str | Callable,
    p: float = 2.0,
    n_jobs: int | None = None,
    name: str = "metric",
) -> tuple[PointSet, NDArray[np.intp], NDArray[np.intp]]:
    """The distinct points among rows, and which row is which.

    Parameters
    ----------
    X : ndarray of shape (n, p) or (n, n)
        Rows, or distances between them for metric "precomputed".
    metric : str or callable
        Metric.
    p : float, default=2
        Power of metric "minkowski".
    n_jobs : int, default=None
        Number of threads.
    name : str, default="metric"
        Whom errors about the metric are raised for.

    Returns
    -------
    points : PointSet
        In an order that does not depend on that of the rows, if they are coordinates.
    first : ndarray of shape (n_points,)
        A row at each point.
    point_of_row : ndarray of shape (n,)
        Position of the point of each row.
    """
    if isinstance(metric, str) and metric == "precomputed":
        first, point_of_row = np.unique((X == 0).argmax(axis=1), return_inverse=True)
        return PointSet(X, metric, p, n_jobs, name).subset(first), first, point_of_row
    _, first, point_of_row = np.unique(X, axis=0, return_index=True, return_inverse=True)
    data = np.ascontiguousarray(X[first])
    return PointSet(data, metric, p, n_jobs, name), first, np.ravel(point_of_row)

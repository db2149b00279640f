"""Counts on a grid: each row is shared among the nodes of the cell that it lies in."""

from collections.abc import Sequence

import numpy as np
from numba import njit
from numpy.typing import ArrayLike, NDArray

# Relative deviation from equal spacing that rounding alone can explain.
SPACING_TOLERANCE = 1e-6


@njit(cache=True, nogil=True)
def _bin_1d(x, w, start, step, counts):
    last = counts.shape[0] - 2
    unit = w.shape[0] == 1
    for i in range(x.shape[0]):
        position = (x[i] - start) / step
        node = min(max(int(position), 0), last)
        share = min(max(position - node, 0.0), 1.0)
        weight = w[0] if unit else w[i]
        counts[node] += weight * (1.0 - share)
        counts[node + 1] += weight * share


@njit(cache=True, nogil=True)
def _bin_2d(x, y, w, start_x, step_x, start_y, step_y, counts):
    last_x, last_y = counts.shape[0] - 2, counts.shape[1] - 2
    unit = w.shape[0] == 1
    for i in range(x.shape[0]):
        position = (x[i] - start_x) / step_x
        a = min(max(int(position), 0), last_x)
        right = min(max(position - a, 0.0), 1.0)
        position = (y[i] - start_y) / step_y
        b = min(max(int(position), 0), last_y)
        up = min(max(position - b, 0.0), 1.0)
        weight = w[0] if unit else w[i]
        counts[a, b] += weight * (1.0 - right) * (1.0 - up)
        counts[a, b + 1] += weight * (1.0 - right) * up
        counts[a + 1, b] += weight * right * (1.0 - up)
        counts[a + 1, b + 1] += weight * right * up


@njit(cache=True, nogil=True)
def _bin_columns(columns, w, starts, steps, lasts, strides, counts):
    """Any number of columns, counts flattened; corners are the bits of a number."""
    d = starts.shape[0]
    shares = np.empty(d)
    unit = w.shape[0] == 1
    for i in range(columns.shape[1]):
        corner = 0
        for k in range(d):
            position = (columns[k, i] - starts[k]) / steps[k]
            node = min(max(int(position), 0), lasts[k])
            shares[k] = min(max(position - node, 0.0), 1.0)
            corner += node * strides[k]
        weight = w[0] if unit else w[i]
        for bits in range(1 << d):
            at, part = corner, weight
            for k in range(d):
                if bits >> k & 1:
                    at += strides[k]
                    part *= shares[k]
                else:
                    part *= 1.0 - shares[k]
            counts[at] += part


@njit(cache=True, nogil=True)
def _interpolate_1d(x, start, step, values, out):
    last = values.shape[0] - 2
    for i in range(x.shape[0]):
        position = (x[i] - start) / step
        node = min(max(int(position), 0), last)
        share = min(max(position - node, 0.0), 1.0)
        out[i] = (1.0 - share) * values[node] + share * values[node + 1]


def _values(x: ArrayLike, name: str) -> NDArray[np.float64]:
    x = np.ascontiguousarray(x, dtype=np.float64)
    if x.ndim != 1:
        raise ValueError(f"{name} has shape {x.shape}; pass one number per row")
    return x


def _axis(grid: ArrayLike, name: str) -> tuple[NDArray[np.float64], float]:
    """Nodes of a grid and the distance between them."""
    grid = np.asarray(grid, dtype=np.float64)
    if grid.ndim != 1 or len(grid) < 2:
        raise ValueError(f"{name} has shape {grid.shape}; pass at least two nodes")
    step = (grid[-1] - grid[0]) / (len(grid) - 1)
    uneven = np.abs(np.diff(grid) - step).max() > SPACING_TOLERANCE * step
    if not step > 0 or uneven:
        raise ValueError(f"{name} must increase by equal steps; make it with numpy.linspace")
    return grid, step


def _check_inside(x: NDArray[np.float64], grid: NDArray[np.float64], name: str) -> None:
    if not len(x):
        return
    low, high = x.min(), x.max()
    if not (low >= grid[0] and high <= grid[-1]):
        raise ValueError(
            f"{name} reaches from {low:g} to {high:g} but its grid from {grid[0]:g} to "
            f"{grid[-1]:g}; pass a grid that spans all rows"
        )


def _weights(w: ArrayLike | None, n: int) -> NDArray[np.float64]:
    if w is None:
        return np.ones(1)
    w = np.ascontiguousarray(w, dtype=np.float64)
    if w.shape != (n,):
        raise ValueError(f"w has shape {w.shape} but there are {n} rows; pass one weight per row")
    return w


def bin_1d(x: ArrayLike, grid: ArrayLike, w: ArrayLike | None = None) -> NDArray[np.float64]:
    """Weight at each node of a grid when rows are shared between their two neighbours.

    A row at a share s of the way from one node to the next gives them the parts
    1 - s and s of its weight, so sums and first moments are kept.

    Parameters
    ----------
    x : array-like of shape (n,)
        Rows, within the grid.
    grid : array-like of shape (n_nodes,)
        Nodes at equal distances.
    w : array-like of shape (n,), default=None
        Weights of the rows; None is one each.

    Returns
    -------
    ndarray of shape (n_nodes,)

    Raises
    ------
    ValueError
        If the grid is uneven, rows lie outside it, or shapes do not match.

    References
    ----------
    Wand, M. P. (1994). Fast computation of multivariate kernel estimators.
    Journal of Computational and Graphical Statistics, 3(4), 433-445.

    Examples
    --------
    >>> bin_1d([0.0, 1.25], [0.0, 1.0, 2.0])
    array([1.  , 0.75, 0.25])
    """
    x = _values(x, "x")
    grid, step = _axis(grid, "grid")
    w = _weights(w, len(x))
    _check_inside(x, grid, "x")
    counts = np.zeros(len(grid))
    _bin_1d(x, w, grid[0], step, counts)
    return counts


def bin_2d(
    x: ArrayLike,
    y: ArrayLike,
    grid_x: ArrayLike,
    grid_y: ArrayLike,
    w: ArrayLike | None = None,
) -> NDArray[np.float64]:
    """Weight at each node of a product grid when rows are shared among the corners of their cell.

    Parameters
    ----------
    x : array-like of shape (n,)
        First coordinate of the rows, within `grid_x`.
    y : array-like of shape (n,)
        Second coordinate, within `grid_y`.
    grid_x : array-like of shape (n_nodes_x,)
        Nodes at equal distances.
    grid_y : array-like of shape (n_nodes_y,)
        Nodes at equal distances.
    w : array-like of shape (n,), default=None
        Weights of the rows; None is one each.

    Returns
    -------
    ndarray of shape (n_nodes_x, n_nodes_y)

    Raises
    ------
    ValueError
        If a grid is uneven, rows lie outside it, or shapes do not match.

    Examples
    --------
    >>> bin_2d([0.5], [0.25], [0.0, 1.0], [0.0, 1.0])
    array([[0.375, 0.125],
           [0.375, 0.125]])
    """
    x, y = _values(x, "x"), _values(y, "y")
    if len(x) != len(y):
        raise ValueError(f"x has {len(x)} rows but y has {len(y)}; pass the same ones")
    grid_x, step_x = _axis(grid_x, "grid_x")
    grid_y, step_y = _axis(grid_y, "grid_y")
    w = _weights(w, len(x))
    _check_inside(x, grid_x, "x")
    _check_inside(y, grid_y, "y")
    counts = np.zeros((len(grid_x), len(grid_y)))
    _bin_2d(x, y, w, grid_x[0], step_x, grid_y[0], step_y, counts)
    return counts


def bin_columns(
    columns: Sequence[ArrayLike], grids: Sequence[ArrayLike], w: ArrayLike | None = None
) -> NDArray[np.float64]:
    """Weight at each node of a product grid of any dimension.

    Parameters
    ----------
    columns : sequence of array-like of shape (n,)
        Coordinates of the rows.
    grids : sequence of array-like of shape (n_nodes_k,)
        For each coordinate, nodes at equal distances that span it.
    w : array-like of shape (n,), default=None
        Weights of the rows; None is one each.

    Returns
    -------
    ndarray of shape (n_nodes_1, n_nodes_2, ...)

    Raises
    ------
    ValueError
        If a grid is uneven, rows lie outside it, or shapes do not match.

    Examples
    --------
    >>> bin_columns([[0.5], [0.0], [1.0]], [[0.0, 1.0]] * 3).ravel()
    array([0. , 0.5, 0. , 0. , 0. , 0.5, 0. , 0. ])
    """
    if len(columns) != len(grids):
        raise ValueError(f"there are {len(columns)} columns but {len(grids)} grids; pass one each")
    if len(columns) == 1:
        return bin_1d(columns[0], grids[0], w)
    if len(columns) == 2:
        return bin_2d(columns[0], columns[1], grids[0], grids[1], w)
    rows = np.array([_values(column, "columns") for column in columns])
    axes = [_axis(grid, "grids") for grid in grids]
    for row, (grid, _) in zip(rows, axes, strict=True):
        _check_inside(row, grid, "columns")
    counts = np.zeros([len(grid) for grid, _ in axes])
    strides = np.array(counts.strides) // counts.itemsize
    starts = np.array([grid[0] for grid, _ in axes])
    steps = np.array([step for _, step in axes])
    lasts = np.array(counts.shape) - 2
    w = _weights(w, rows.shape[1])
    _bin_columns(rows, w, starts, steps, lasts, strides, counts.reshape(-1))
    return counts


def interpolate_1d(x: ArrayLike, grid: ArrayLike, values: ArrayLike) -> NDArray[np.float64]:
    """Values at the rows from values at the nodes, linearly: the transpose of `bin_1d`.

    The spacing of the nodes tells the cell of a row without a search, which
    makes this many times faster than `numpy.interp` on long columns.

    Parameters
    ----------
    x : array-like of shape (n,)
        Rows; outside the grid the value of the nearest end counts.
    grid : array-like of shape (n_nodes,)
        Nodes at equal distances.
    values : array-like of shape (n_nodes,)
        Values at the nodes.

    Returns
    -------
    ndarray of shape (n,)

    Raises
    ------
    ValueError
        If the grid is uneven, or there is not one value a node.

    Examples
    --------
    >>> interpolate_1d([0.25, 1.5, 9.0], [0.0, 1.0, 2.0], [0.0, 4.0, 6.0])
    array([1., 5., 6.])
    """
    x = _values(x, "x")
    grid, step = _axis(grid, "grid")
    values = _values(values, "values")
    if len(values) != len(grid):
        raise ValueError(f"there are {len(values)} values but {len(grid)} nodes; pass one each")
    out = np.empty(len(x))
    _interpolate_1d(x, grid[0], step, values, out)
    return out

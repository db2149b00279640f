"""Kernel matrices, and sums over their rows that never hold the whole matrix."""

from collections.abc import Callable
from typing import Any

import numpy as np
from joblib import Parallel, delayed
from numba import njit
from numpy.typing import ArrayLike, NDArray

from reweight.kernels.chunks import row_slices

# Own parameters of each kernel and their defaults.
KERNELS: dict[str, dict[str, float]] = {
    "energy": {"exponent": 1.0},
    "laplacian": {},
    "linear": {},
    "matern": {"nu": 1.5},
    "polynomial": {"degree": 3, "coef0": 1.0},
    "rbf": {},
}
INNER_PRODUCT_KERNELS = frozenset({"linear", "polynomial"})
DECAYING_KERNELS = frozenset({"laplacian", "matern", "rbf"})
# A tile of 1024 x 1024 doubles fits the outer caches.
TILE_ROWS = 1024


@njit(cache=True, nogil=True)
def _squared_distances(X, Y_columns, out):
    """Squared Euclidean distances; the inner loop runs over rows of Y so that it vectorises.

    Summing squared differences keeps duplicates at exactly zero, which expanding
    the square into inner products does not.
    """
    for i in range(X.shape[0]):
        row = out[i]
        row[:] = 0.0
        for k in range(X.shape[1]):
            x = X[i, k]
            column = Y_columns[k]
            for j in range(row.shape[0]):
                difference = x - column[j]
                row[j] += difference * difference


def check_kernel(kernel: str, kernel_parameters: dict[str, Any]) -> dict[str, Any]:
    """Parameters of a kernel with defaults filled in.

    Parameters
    ----------
    kernel : str
        Name of the kernel.
    kernel_parameters : dict
        Its own parameters, where they differ from the defaults: `nu` of
        "matern", `exponent` of "energy", `degree` and `coef0` of "polynomial".

    Returns
    -------
    dict

    Raises
    ------
    ValueError
        If the kernel is unknown or a parameter out of its range.
    TypeError
        If the kernel has no such parameter.

    Examples
    --------
    >>> check_kernel("matern", {"nu": 2.5})
    {'nu': 2.5}
    """
    if kernel not in KERNELS:
        raise ValueError(f"kernel {kernel!r} is not known; choose one of {sorted(KERNELS)}")
    unknown = set(kernel_parameters) - set(KERNELS[kernel])
    if unknown:
        raise TypeError(
            f"kernel {kernel!r} has no parameter {sorted(unknown)[0]!r}; its parameters are "
            f"{sorted(KERNELS[kernel])}"
        )
    chosen = {**KERNELS[kernel], **kernel_parameters}
    if kernel == "matern" and chosen["nu"] not in (0.5, 1.5, 2.5):
        raise ValueError(f"nu of the Matérn kernel must be 0.5, 1.5 or 2.5, got {chosen['nu']}")
    if kernel == "energy" and not 0 < chosen["exponent"] < 2:
        raise ValueError(
            "exponent of the energy kernel must lie strictly between 0 and 2, "
            f"got {chosen['exponent']}"
        )
    if kernel == "polynomial":
        degree, coef0 = chosen["degree"], chosen["coef0"]
        if not (degree >= 1 and degree == int(degree)):
            raise ValueError(f"degree of the polynomial kernel must be 1, 2, ..., got {degree}")
        if not coef0 >= 0:
            raise ValueError(f"coef0 of the polynomial kernel must not be negative, got {coef0}")
    return chosen


def _check_rows(X: ArrayLike, name: str) -> NDArray[np.float64]:
    X = np.asarray(X, dtype=np.float64)
    if X.ndim != 2:
        raise ValueError(
            f"{name} has shape {X.shape}; pass rows and columns, for one column X.reshape(-1, 1)"
        )
    return X


def _scaled(
    X: ArrayLike, Y: ArrayLike, bandwidth: float | ArrayLike
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Rows in units of the bandwidth."""
    X, Y = _check_rows(X, "X"), _check_rows(Y, "Y")
    if X.shape[1] != Y.shape[1]:
        raise ValueError(f"X has {X.shape[1]} columns but Y has {Y.shape[1]}; pass the same ones")
    if isinstance(bandwidth, str):
        raise TypeError(
            f"bandwidth is the rule {bandwidth!r}; turn it into a length with resolve_bandwidth"
        )
    bandwidth = np.asarray(bandwidth, dtype=np.float64)
    if bandwidth.shape not in ((), (X.shape[1],)):
        raise ValueError(
            f"bandwidth has shape {bandwidth.shape} but the data have {X.shape[1]} columns; pass "
            "one number, or one per column"
        )
    if not (np.isfinite(bandwidth).all() and (bandwidth > 0).all()):
        raise ValueError(f"bandwidth must be positive and finite, got {bandwidth.tolist()}")
    return X / bandwidth, Y / bandwidth


def _of_squared_distance(kernel: str, parameters: dict[str, Any], d: NDArray) -> NDArray:
    """Kernel values from squared scaled distances, in place where possible."""
    if kernel == "rbf":
        d *= -0.5
        return np.exp(d, out=d)
    if kernel == "energy":
        if parameters["exponent"] == 1:
            np.sqrt(d, out=d)
        else:
            np.power(d, 0.5 * parameters["exponent"], out=d)
        return np.negative(d, out=d)
    np.sqrt(d, out=d)
    if kernel == "laplacian" or parameters["nu"] == 0.5:
        np.negative(d, out=d)
        return np.exp(d, out=d)
    d *= np.sqrt(2.0 * parameters["nu"])
    decay = np.exp(-d)
    decay *= 1.0 + d if parameters["nu"] == 1.5 else 1.0 + d + d * d / 3.0
    return decay


def _log_of_squared_distance(kernel: str, parameters: dict[str, Any], d: NDArray) -> NDArray:
    """Logarithm of a decaying kernel, finite where the kernel itself underflows."""
    if kernel == "rbf":
        d *= -0.5
        return d
    np.sqrt(d, out=d)
    if kernel == "laplacian" or parameters["nu"] == 0.5:
        return np.negative(d, out=d)
    d *= np.sqrt(2.0 * parameters["nu"])
    return np.log1p(d if parameters["nu"] == 1.5 else d + d * d / 3.0) - d


def _tile(
    transform: Callable[..., NDArray],
    kernel: str,
    parameters: dict[str, Any],
    X: NDArray[np.float64],
    Y: NDArray[np.float64],
) -> NDArray[np.float64]:
    """Kernel between scaled rows, small enough to hold."""
    if kernel in INNER_PRODUCT_KERNELS:
        products = X @ Y.T
        if kernel == "polynomial":
            products += parameters["coef0"]
            products **= parameters["degree"]
        return products
    squares = np.empty((len(X), len(Y)))
    _squared_distances(np.ascontiguousarray(X), np.ascontiguousarray(Y.T), squares)
    return transform(kernel, parameters, squares)


def kernel_matrix(
    X: ArrayLike,
    Y: ArrayLike,
    kernel: str = "rbf",
    bandwidth: float | ArrayLike = 1.0,
    **kernel_parameters: Any,
) -> NDArray[np.float64]:
    """Kernel between all rows of X and all rows of Y.

    With d the Euclidean distance of rows divided by the bandwidth h: "rbf" is
    exp(-d^2 / 2), "laplacian" exp(-d), "matern" the Matérn kernel of order `nu`
    with length scale h, "energy" -d^exponent (positive definite only on weights
    that sum to zero), "linear" <x, y> / h^2 and "polynomial"
    (<x, y> / h^2 + coef0)^degree. Equal rows are at distance exactly zero.

    Parameters
    ----------
    X : array-like of shape (n, p)
        Rows.
    Y : array-like of shape (m, p)
        Rows.
    kernel : {"rbf", "laplacian", "matern", "energy", "linear", "polynomial"}, default="rbf"
        The kernel.
    bandwidth : float or array-like of shape (p,), default=1
        Length in units of X, one for all columns or one per column.
    **kernel_parameters : dict
        `nu` in {0.5, 1.5, 2.5} of "matern" (default 1.5), `exponent` in (0, 2)
        of "energy" (default 1), `degree` (default 3) and `coef0` (default 1) of
        "polynomial".

    Returns
    -------
    ndarray of shape (n, m)

    Raises
    ------
    ValueError
        If shapes do not match, the kernel is unknown, or a bandwidth or kernel
        parameter is out of its range.
    TypeError
        If the kernel has no such parameter, or the bandwidth is a rule's name.

    Examples
    --------
    >>> kernel_matrix([[0.0], [2.0]], [[0.0]], "laplacian", 2.0)
    array([[1.    ],
           [0.3679]])
    """
    parameters = check_kernel(kernel, kernel_parameters)
    X, Y = _scaled(X, Y, bandwidth)
    if kernel in INNER_PRODUCT_KERNELS:
        return _tile(_of_squared_distance, kernel, parameters, X, Y)
    out = np.empty((len(X), len(Y)))
    for rows in row_slices(len(X), TILE_ROWS):
        for columns in row_slices(len(Y), TILE_ROWS):
            out[rows, columns] = _tile(
                _of_squared_distance, kernel, parameters, X[rows], Y[columns]
            )
    return out


def kernel_diagonal(
    X: ArrayLike,
    kernel: str = "rbf",
    bandwidth: float | ArrayLike = 1.0,
    **kernel_parameters: Any,
) -> NDArray[np.float64]:
    """Kernel of each row with itself.

    Parameters
    ----------
    X : array-like of shape (n, p)
        Rows.
    kernel : str, default="rbf"
        As in `kernel_matrix`.
    bandwidth : float or array-like of shape (p,), default=1
        As in `kernel_matrix`.
    **kernel_parameters : dict
        As in `kernel_matrix`.

    Returns
    -------
    ndarray of shape (n,)

    Examples
    --------
    >>> kernel_diagonal([[1.0], [3.0]], "linear")
    array([1., 9.])
    """
    parameters = check_kernel(kernel, kernel_parameters)
    X, _ = _scaled(X, X, bandwidth)
    if kernel in DECAYING_KERNELS:
        return np.ones(len(X))
    if kernel == "energy":
        return np.zeros(len(X))
    squares = np.einsum("ij,ij->i", X, X)
    if kernel == "polynomial":
        squares = (squares + parameters["coef0"]) ** parameters["degree"]
    return squares


def _over_row_slices(
    function: Callable[[slice], NDArray], n_rows: int, chunk: int, n_jobs: int | None
) -> list[NDArray]:
    """Apply a function to slices of rows in threads; the slices do not depend on `n_jobs`."""
    return Parallel(n_jobs=n_jobs, require="sharedmem")(
        delayed(function)(rows) for rows in row_slices(n_rows, chunk)
    )


def kernel_matvec(
    X: ArrayLike,
    Y: ArrayLike,
    V: ArrayLike,
    kernel: str = "rbf",
    bandwidth: float | ArrayLike = 1.0,
    chunk: int = TILE_ROWS,
    *,
    n_jobs: int | None = None,
    **kernel_parameters: Any,
) -> NDArray[np.float64]:
    """Product of the kernel matrix with vectors, a tile of the matrix at a time.

    Parameters
    ----------
    X : array-like of shape (n, p)
        Rows of the product.
    Y : array-like of shape (m, p)
        Rows summed over.
    V : array-like of shape (m, k) or (m,)
        Coefficients of the rows of Y.
    kernel : str, default="rbf"
        As in `kernel_matrix`.
    bandwidth : float or array-like of shape (p,), default=1
        As in `kernel_matrix`.
    chunk : int, default=1024
        Tiles have this many rows and columns.
    n_jobs : int, default=None
        Number of threads; it does not change the result.
    **kernel_parameters : dict
        As in `kernel_matrix`.

    Returns
    -------
    ndarray of shape (n, k) or (n,)

    Raises
    ------
    ValueError
        If shapes do not match, or as in `kernel_matrix`.

    Examples
    --------
    >>> kernel_matvec([[0.0], [3.0]], [[0.0], [1.0]], [1.0, 2.0], "energy")
    array([-2., -7.])
    """
    parameters = check_kernel(kernel, kernel_parameters)
    X, Y = _scaled(X, Y, bandwidth)
    V = np.asarray(V, dtype=np.float64)
    if V.ndim not in (1, 2) or len(V) != len(Y):
        raise ValueError(
            f"V has shape {V.shape} but Y has {len(Y)} rows; pass one row of coefficients per row"
        )

    if kernel == "linear":
        return X @ (Y.T @ V)

    def multiply(rows: slice) -> NDArray[np.float64]:
        total = np.zeros((rows.stop - rows.start, *V.shape[1:]))
        for columns in row_slices(len(Y), chunk):
            K = _tile(_of_squared_distance, kernel, parameters, X[rows], Y[columns])
            total += K @ V[columns]
        return total

    parts = _over_row_slices(multiply, len(X), chunk, n_jobs)
    return np.concatenate(parts) if parts else np.zeros((0, *V.shape[1:]))


def kernel_mean(
    X: ArrayLike,
    Y: ArrayLike,
    weights: ArrayLike | None = None,
    kernel: str = "rbf",
    bandwidth: float | ArrayLike = 1.0,
    chunk: int = TILE_ROWS,
    *,
    n_jobs: int | None = None,
    **kernel_parameters: Any,
) -> NDArray[np.float64]:
    """Mean over the rows of Y of their kernel with each row of X.

    This is the kernel mean embedding of the weighted sample Y, evaluated at X.

    Parameters
    ----------
    X : array-like of shape (n, p)
        Where to evaluate.
    Y : array-like of shape (m, p)
        Rows averaged over.
    weights : array-like of shape (m,), default=None
        Weights of the rows of Y on any scale with a sum that is not zero; None
        weighs them equally.
    kernel : str, default="rbf"
        As in `kernel_matrix`.
    bandwidth : float or array-like of shape (p,), default=1
        As in `kernel_matrix`.
    chunk : int, default=1024
        As in `kernel_matvec`.
    n_jobs : int, default=None
        As in `kernel_matvec`.
    **kernel_parameters : dict
        As in `kernel_matrix`.

    Returns
    -------
    ndarray of shape (n,)

    Examples
    --------
    >>> kernel_mean([[0.0]], [[0.0], [2.0]], kernel="energy")
    array([-1.])
    """
    weights = np.ones(len(Y)) if weights is None else np.asarray(weights, dtype=np.float64)
    total = weights.sum()
    if not (np.isfinite(total) and total != 0):
        raise ValueError(f"weights sum to {total}; their sum must be finite and not zero")
    return kernel_matvec(
        X, Y, weights / total, kernel, bandwidth, chunk, n_jobs=n_jobs, **kernel_parameters
    )


def kernel_smooth(
    X: ArrayLike,
    Y: ArrayLike,
    V: ArrayLike,
    kernel: str = "rbf",
    bandwidth: float | ArrayLike = 1.0,
    chunk: int = TILE_ROWS,
    *,
    weights: ArrayLike | None = None,
    n_jobs: int | None = None,
    **kernel_parameters: Any,
) -> NDArray[np.float64]:
    """Kernel-weighted mean of V around each row of X.

    The rows of the kernel matrix are scaled to sum to one (the estimator of
    Nadaraya and Watson). Far from all rows of Y, where the kernel underflows,
    the result is the value of the nearest row instead of 0/0.

    Parameters
    ----------
    X : array-like of shape (n, p)
        Where to evaluate.
    Y : array-like of shape (m, p)
        Rows averaged over.
    V : array-like of shape (m, k) or (m,)
        Values of the rows of Y.
    kernel : {"rbf", "laplacian", "matern"}, default="rbf"
        As in `kernel_matrix`.
    bandwidth : float or array-like of shape (p,), default=1
        As in `kernel_matrix`.
    chunk : int, default=1024
        As in `kernel_matvec`.
    weights : array-like of shape (m,), default=None
        Non-negative weights of the rows of Y.
    n_jobs : int, default=None
        As in `kernel_matvec`.
    **kernel_parameters : dict
        As in `kernel_matrix`.

    Returns
    -------
    ndarray of shape (n, k) or (n,)

    Raises
    ------
    ValueError
        If the kernel takes negative values, shapes do not match, or weights
        are negative or all zero.

    Examples
    --------
    >>> kernel_smooth([[0.0], [50.0]], [[-1.0], [1.0]], [1.0, 3.0])
    array([2., 3.])
    """
    parameters = check_kernel(kernel, kernel_parameters)
    if kernel not in DECAYING_KERNELS:
        raise ValueError(
            f"kernel {kernel!r} is not a decaying one; smoothing takes one of "
            f"{sorted(DECAYING_KERNELS)}"
        )
    X, Y = _scaled(X, Y, bandwidth)
    V = np.asarray(V, dtype=np.float64)
    if V.ndim not in (1, 2) or len(V) != len(Y):
        raise ValueError(
            f"V has shape {V.shape} but Y has {len(Y)} rows; pass one row of values per row"
        )
    weights = np.ones(len(Y)) if weights is None else np.asarray(weights, dtype=np.float64)
    if weights.shape != (len(Y),) or not (weights >= 0).all() or not weights.any():
        raise ValueError(
            f"weights must be {len(Y)} non-negative numbers, one per row of Y, not all zero"
        )
    shape = V.shape[1:]
    kept = weights > 0
    Y, V, weights = Y[kept], V[kept].reshape(kept.sum(), -1), weights[kept]
    weighted = np.column_stack([weights[:, None] * V, weights])

    def smooth(rows: slice) -> NDArray[np.float64]:
        # The peak of the row so far divides out of numerator and denominator.
        peak = np.full(rows.stop - rows.start, -np.inf)
        total = np.zeros((len(peak), weighted.shape[1]))
        for columns in row_slices(len(Y), chunk):
            K = _tile(_log_of_squared_distance, kernel, parameters, X[rows], Y[columns])
            new_peak = np.maximum(peak, K.max(axis=1))
            K -= new_peak[:, None]
            np.exp(K, out=K)
            total *= np.exp(peak - new_peak)[:, None]
            total += K @ weighted[columns]
            peak = new_peak
        return total[:, :-1] / total[:, -1:]

    parts = _over_row_slices(smooth, len(X), chunk, n_jobs)
    smoothed = np.concatenate(parts) if parts else np.zeros((0, weighted.shape[1] - 1))
    return smoothed.reshape(len(X), *shape)

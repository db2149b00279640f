"""Lengths of kernels: numbers, or rules that read them off the data."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.spatial.distance import pdist
from sklearn.neighbors import NearestNeighbors
from sklearn.utils import check_random_state

RULES = ("median", "scott", "silverman", "knn50")
N_NEIGHBORS = 50


def resolve_bandwidth(
    X: ArrayLike,
    rule: str | float | ArrayLike,
    max_rows: int = 2000,
    random_state: Any = 0,
    *,
    feature_names: Sequence[str] | None = None,
) -> float | NDArray[np.float64]:
    """Bandwidth in units of X from a number or a rule.

    Parameters
    ----------
    X : array-like of shape (n, p)
        Rows.
    rule : {"median", "scott", "silverman", "knn50"}, float or array-like of shape (p,)
        A positive number, or one per column, is returned as it is. "median":
        median Euclidean distance of two rows; if that is zero because most
        pairs are duplicates, the median of the distances that are not.
        "scott": standard deviation of each column times n^(-1/(p + 4)).
        "silverman": Scott's times (4 / (p + 2))^(1/(p + 4)). "knn50": mean
        distance to the 50th nearest row, the row itself counted as the first.
    max_rows : int, default=2000
        Where n is larger, "median" looks at the pairs among this many rows
        drawn without replacement, and "knn50" at the neighbours, among all
        rows, of this many; the other rules use all rows.
    random_state : int, RandomState instance or None, default=0
        Seed of the draw.
    feature_names : sequence of str, default=None
        Names of the columns in error messages.

    Returns
    -------
    float or ndarray of shape (p,)
        One length for "median", "knn50" and a number; one per column for
        "scott", "silverman" and an array.

    Raises
    ------
    ValueError
        If the rule is unknown, a bandwidth is not positive, has the wrong
        shape, or comes out as zero because columns are constant or rows equal.

    References
    ----------
    Scott, D. W. (1992). Multivariate Density Estimation. Wiley.

    Silverman, B. W. (1986). Density Estimation for Statistics and Data
    Analysis. Chapman and Hall.

    Gretton, A. et al. (2012). A kernel two-sample test. Journal of Machine
    Learning Research, 13, 723-773.

    Examples
    --------
    >>> resolve_bandwidth([[0.0], [1.0], [4.0]], "median")
    3.0
    >>> resolve_bandwidth([[0.0], [1.0], [4.0]], 0.5)
    0.5
    """
    X = np.asarray(X, dtype=np.float64)
    if X.ndim != 2:
        raise ValueError(
            f"X has shape {X.shape}; pass rows and columns, for one column X.reshape(-1, 1)"
        )
    if not isinstance(rule, str):
        return _given(X, rule)
    if rule not in RULES:
        raise ValueError(
            f"bandwidth={rule!r} is not known; pass a positive number or one of {list(RULES)}"
        )
    if len(X) < 2:
        raise ValueError(
            f"bandwidth={rule!r} needs at least two rows, got {len(X)}; pass a number instead"
        )
    if rule in ("scott", "silverman"):
        return _normal_reference(X, rule, feature_names)
    rng = check_random_state(random_state)
    rows = X if len(X) <= max_rows else X[rng.choice(len(X), max_rows, replace=False)]
    length = _median_distance(rows) if rule == "median" else _neighbor_distance(X, rows)
    if length == 0:
        raise ValueError(
            f"bandwidth={rule!r}: the bandwidth is 0 because rows are duplicates of one another; "
            "pass a positive number"
        )
    return length


def _given(X: NDArray[np.float64], bandwidth: Any) -> float | NDArray[np.float64]:
    bandwidth = np.array(bandwidth, dtype=np.float64)
    if bandwidth.shape not in ((), (X.shape[1],)):
        raise ValueError(
            f"bandwidth has shape {bandwidth.shape} but X has {X.shape[1]} columns; pass one "
            "number, or one per column"
        )
    if not (np.isfinite(bandwidth).all() and (bandwidth > 0).all()):
        raise ValueError(
            f"bandwidth must be positive and finite, got {bandwidth.tolist()}; pass a positive "
            f"number or one of {list(RULES)}"
        )
    return float(bandwidth) if bandwidth.ndim == 0 else bandwidth


def _normal_reference(
    X: NDArray[np.float64], rule: str, feature_names: Sequence[str] | None
) -> NDArray[np.float64]:
    n, p = X.shape
    constant = np.flatnonzero(np.ptp(X, axis=0) == 0)
    if constant.size:
        names = [j if feature_names is None else feature_names[j] for j in constant[:10].tolist()]
        raise ValueError(
            f"bandwidth={rule!r}: columns {names} are constant, which gives bandwidth 0; drop "
            "them or pass a number"
        )
    factor = n ** (-1.0 / (p + 4))
    if rule == "silverman":
        factor *= (4.0 / (p + 2)) ** (1.0 / (p + 4))
    return X.std(axis=0, ddof=1) * factor


def _median_distance(rows: NDArray[np.float64]) -> float:
    distances = pdist(rows)
    median = float(np.median(distances))
    if median == 0:
        positive = distances[distances > 0]
        median = float(np.median(positive)) if positive.size else 0.0
    return median


def _neighbor_distance(X: NDArray[np.float64], rows: NDArray[np.float64]) -> float:
    k = min(N_NEIGHBORS, len(X))
    distances, _ = NearestNeighbors(n_neighbors=k).fit(X).kneighbors(rows)
    return float(distances[:, -1].mean())

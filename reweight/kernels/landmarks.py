"""Features whose inner products approximate a kernel, from its values at a few landmarks."""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.cluster import kmeans_plusplus
from sklearn.utils import check_random_state

from reweight.kernels.chunks import row_slices
from reweight.kernels.kernel_sums import kernel_diagonal, kernel_matrix

# Seeding looks at no more rows than this for each landmark.
ROWS_PER_LANDMARK = 20
LEAST_ROWS = 5000


def choose_landmarks(
    X: ArrayLike,
    n_components: int,
    *,
    method: str = "kmeans++",
    sample_weight: ArrayLike | None = None,
    random_state: Any = None,
) -> NDArray[np.float64]:
    """Rows that stand for the whole sample in a low-rank approximation.

    Parameters
    ----------
    X : array-like of shape (n, p)
        Rows.
    n_components : int
        Number of landmarks; with as many as there are distinct rows of
        positive weight, those are returned.
    method : {"kmeans++", "uniform"}, default="kmeans++"
        "kmeans++" draws rows far from those drawn before, which reaches the
        tails; "uniform" draws rows in proportion to their weights.
    sample_weight : array-like of shape (n,), default=None
        Weights of the rows; rows of weight zero are never landmarks.
    random_state : int, RandomState instance or None, default=None
        Seed of the draw.

    Returns
    -------
    ndarray of shape (m, p)
        Distinct rows, m at most `n_components`.

    Raises
    ------
    ValueError
        If `method` is unknown, `n_components` is not positive, or no row has
        positive weight.

    References
    ----------
    Arthur, D., Vassilvitskii, S. (2007). k-means++: the advantages of careful
    seeding. SODA.

    Examples
    --------
    >>> choose_landmarks([[0.0], [1.0], [1.0]], 5)
    array([[0.],
           [1.]])
    """
    if method not in ("kmeans++", "uniform"):
        raise ValueError(
            f"choose_landmarks: method {method!r} is unknown; choose 'kmeans++' or 'uniform'"
        )
    if n_components < 1:
        raise ValueError(f"choose_landmarks: n_components must be positive, got {n_components}")
    X = np.asarray(X, dtype=np.float64)
    weight = np.ones(len(X)) if sample_weight is None else np.asarray(sample_weight, dtype=float)
    kept = np.flatnonzero(weight > 0)
    if kept.size == 0:
        raise ValueError("choose_landmarks: no row has positive weight")
    if kept.size <= max(n_components, LEAST_ROWS):
        rows, code = np.unique(X[kept], axis=0, return_inverse=True)
        if len(rows) <= n_components:
            return rows
        X, weight = rows, np.bincount(code.ravel(), weight[kept])
        kept = np.arange(len(rows))
    rng = check_random_state(random_state)
    share = weight[kept] / weight[kept].sum()
    if method == "uniform":
        drawn = rng.choice(kept, n_components, replace=False, p=share)
        return np.unique(X[drawn], axis=0)
    pool = max(LEAST_ROWS, ROWS_PER_LANDMARK * n_components)
    if kept.size > pool:
        # A row drawn in proportion to its weight stands for its share already.
        kept = rng.choice(kept, pool, replace=False, p=share)
        share = np.full(pool, 1.0)
    chosen, _ = kmeans_plusplus(X[kept], n_components, sample_weight=share, random_state=rng)
    return np.unique(chosen, axis=0)


def landmark_projection(
    landmarks: ArrayLike,
    kernel: str = "rbf",
    bandwidth: float | ArrayLike = 1.0,
    rank_tol: float = 1e-10,
    **kernel_parameters: Any,
) -> NDArray[np.float64]:
    """The matrix U S^(-1/2) that turns kernels with landmarks into features.

    Parameters
    ----------
    landmarks : array-like of shape (m, p)
        Landmarks.
    kernel : str, default="rbf"
        As in `reweight.kernels.kernel_sums.kernel_matrix`.
    bandwidth : float or array-like of shape (p,), default=1
        As in `kernel_matrix`.
    rank_tol : float, default=1e-10
        Eigenvalues of the landmarks' kernel below this share of the largest
        are dropped.
    **kernel_parameters : dict
        As in `kernel_matrix`.

    Returns
    -------
    ndarray of shape (m, r)

    Raises
    ------
    ValueError
        If the kernel vanishes on the landmarks.

    Examples
    --------
    >>> landmark_projection([[0.0], [50.0]])
    array([[1., 0.],
           [0., 1.]])
    """
    landmarks = np.asarray(landmarks, dtype=np.float64)
    gram = _definite_kernel(landmarks, landmarks, kernel, bandwidth, kernel_parameters)
    values, vectors = np.linalg.eigh(0.5 * (gram + gram.T))
    kept = values > rank_tol * values[-1]
    if not (values[-1] > 0 and kept.any()):
        raise ValueError(
            f"landmark_projection: the {kernel!r} kernel vanishes on the landmarks, which are "
            "equal rows; pass landmarks that differ"
        )
    return (vectors[:, kept] / np.sqrt(values[kept]))[:, ::-1]


def landmark_features(
    X: ArrayLike,
    landmarks: ArrayLike,
    kernel: str = "rbf",
    bandwidth: float | ArrayLike = 1.0,
    rank_tol: float = 1e-10,
    *,
    projection: NDArray[np.float64] | None = None,
    **kernel_parameters: Any,
) -> NDArray[np.float64]:
    """Features F with F F' close to the kernel matrix, exact on the landmarks (Nystroem).

    For "energy" the kernel is k(x, y) - k(x, z) - k(y, z) with z the mean of
    the landmarks, which is positive definite and gives weights that sum to
    zero the same quadratic form.

    Parameters
    ----------
    X : array-like of shape (n, p)
        Rows.
    landmarks : array-like of shape (m, p)
        Landmarks.
    kernel : str, default="rbf"
        As in `reweight.kernels.kernel_sums.kernel_matrix`.
    bandwidth : float or array-like of shape (p,), default=1
        As in `kernel_matrix`.
    rank_tol : float, default=1e-10
        Directions of the landmarks' kernel below this share of the largest
        eigenvalue are dropped.
    projection : ndarray of shape (m, r), default=None
        What `landmark_projection` returned for the same arguments, to be
        computed once for many batches of rows.
    **kernel_parameters : dict
        As in `kernel_matrix`.

    Returns
    -------
    ndarray of shape (n, r)
        Ordered from the largest eigenvalue to the smallest.

    Raises
    ------
    ValueError
        If the kernel vanishes on the landmarks.

    References
    ----------
    Williams, C., Seeger, M. (2001). Using the Nystroem method to speed up
    kernel machines. NeurIPS.

    Examples
    --------
    >>> F = landmark_features([[0.0], [1.0]], [[0.0], [1.0]])
    >>> F @ F.T
    array([[1.    , 0.6065],
           [0.6065, 1.    ]])
    """
    X = np.asarray(X, dtype=np.float64)
    landmarks = np.asarray(landmarks, dtype=np.float64)
    if projection is None:
        projection = landmark_projection(
            landmarks, kernel, bandwidth, rank_tol, **kernel_parameters
        )
    features = np.empty((len(X), projection.shape[1]))
    for rows in row_slices(len(X)):
        block = _definite_kernel(X[rows], landmarks, kernel, bandwidth, kernel_parameters)
        np.matmul(block, projection, out=features[rows])
    return features


def landmark_residual(
    X: ArrayLike,
    features: NDArray[np.float64],
    landmarks: ArrayLike,
    kernel: str = "rbf",
    bandwidth: float | ArrayLike = 1.0,
    **kernel_parameters: Any,
) -> NDArray[np.float64]:
    """What landmark features miss of the kernel of each row with itself.

    Parameters
    ----------
    X : array-like of shape (n, p)
        Rows.
    features : ndarray of shape (n, r)
        Their features.
    landmarks : array-like of shape (m, p)
        Landmarks of the features.
    kernel : str, default="rbf"
        As in `landmark_features`.
    bandwidth : float or array-like of shape (p,), default=1
        As in `landmark_features`.
    **kernel_parameters : dict
        As in `landmark_features`.

    Returns
    -------
    ndarray of shape (n,)
        Non-negative; zero at the landmarks.

    Examples
    --------
    >>> F = landmark_features([[0.0], [9.0]], [[0.0]])
    >>> landmark_residual([[0.0], [9.0]], F, [[0.0]])
    array([0., 1.])
    """
    X = np.asarray(X, dtype=np.float64)
    own = kernel_diagonal(X, kernel, bandwidth, **kernel_parameters)
    if kernel == "energy":
        origin = np.asarray(landmarks, dtype=np.float64).mean(axis=0, keepdims=True)
        own = own - 2.0 * kernel_matrix(X, origin, kernel, bandwidth, **kernel_parameters)[:, 0]
    return np.maximum(own - np.einsum("ij,ij->i", features, features), 0.0)


def _definite_kernel(
    X: NDArray, Y: NDArray, kernel: str, bandwidth: Any, parameters: dict[str, Any]
) -> NDArray[np.float64]:
    """The kernel, for "energy" centred at the mean of `Y`."""
    values = kernel_matrix(X, Y, kernel, bandwidth, **parameters)
    if kernel == "energy":
        origin = Y.mean(axis=0, keepdims=True)
        values -= kernel_matrix(X, origin, kernel, bandwidth, **parameters)
        values -= kernel_matrix(origin, Y, kernel, bandwidth, **parameters)
    return values

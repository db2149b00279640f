"""Distances between two weighted samples."""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.utils import check_random_state

from reweight.diagnostics._checks import check_columns, check_row_weights
from reweight.kernels.bandwidth import resolve_bandwidth
from reweight.kernels.kernel_sums import DECAYING_KERNELS, check_kernel, kernel_matvec
from reweight.kernels.weighted_ecdf import ecdf_steps, ks_of_steps

Sample = tuple[NDArray[np.float64], NDArray[np.float64]]


def _two_samples(
    caller: str, X: Any, Z: Any, x_weights: ArrayLike | None, z_weights: ArrayLike | None
) -> tuple[Sample, Sample]:
    """Rows of positive weight of both samples, with weights that sum to one."""
    arrays, names = {}, {}
    for name, rows in (("X", X), ("Z", Z)):
        arrays[name], names[name] = check_columns(rows, caller=caller, name=name)
    if len(names["X"]) != len(names["Z"]):
        raise ValueError(
            f"{caller}: X has {len(names['X'])} columns but Z has {len(names['Z'])}; pass the "
            "same ones"
        )
    if hasattr(X, "columns") and hasattr(Z, "columns") and names["X"] != names["Z"]:
        raise ValueError(
            f"{caller}: the columns of X are {names['X'][:10]} but those of Z {names['Z'][:10]}; "
            "pass the same ones in the same order"
        )
    return (
        _weighted_rows(arrays["X"], x_weights, caller, "x_weights"),
        _weighted_rows(arrays["Z"], z_weights, caller, "z_weights"),
    )


def _weighted_rows(
    rows: NDArray[np.float64], weights: ArrayLike | None, caller: str, name: str
) -> Sample:
    w = check_row_weights(weights, len(rows), caller=caller, name=name)
    kept = w > 0
    return rows[kept], w[kept] / w.sum()


def _thin(sample: Sample, max_rows: int | None, rng: np.random.RandomState) -> Sample:
    """At most `max_rows` rows, drawn without replacement whatever their weight."""
    rows, w = sample
    if max_rows is None or len(rows) <= max_rows:
        return sample
    drawn = rng.choice(len(rows), max_rows, replace=False)
    return rows[drawn], w[drawn] / w[drawn].sum()


def _quadratic_form(
    x: Sample, z: Sample, kernel: str, bandwidth: Any, n_jobs: int | None, **own: Any
) -> float:
    """The sum over pairs of v_i v_j k(i, j), v the weights of x and minus those of z."""
    (X, a), (Z, b) = x, z

    def form(A: NDArray, u: NDArray, B: NDArray, v: NDArray) -> float:
        return float(u @ kernel_matvec(A, B, v, kernel, bandwidth, n_jobs=n_jobs, **own))

    return max(form(X, a, X, a) - 2.0 * form(X, a, Z, b) + form(Z, b, Z, b), 0.0)


def mmd(
    X: Any,
    Z: Any,
    x_weights: ArrayLike | None = None,
    z_weights: ArrayLike | None = None,
    *,
    kernel: str = "rbf",
    bandwidth: str | float | ArrayLike = "median",
    squared: bool = False,
    max_rows: int | None = 5000,
    random_state: Any = 0,
    n_jobs: int | None = None,
    **kernel_parameters: Any,
) -> float:
    """Maximum mean discrepancy of two weighted samples.

    The largest difference of the weighted means of a function in the unit ball
    of the kernel's space. The kernel matrix is summed in tiles, never stored.
    All pairs count, a row with itself included, so the value of two samples of
    one distribution is above zero by about 1 / n. Samples of more than
    `max_rows` rows are represented by that many, drawn without replacement;
    rows of weight zero are left out before the draw.

    Parameters
    ----------
    X : array-like of shape (n_samples_x, n_features) or (n_samples_x,)
        First sample. Distances mix the columns, so bring them to comparable
        scales first, or pass one bandwidth per column.
    Z : array-like of shape (n_samples_z, n_features) or (n_samples_z,)
        Second sample.
    x_weights : array-like of shape (n_samples_x,), default=None
        Non-negative weights of the first sample on any scale; None for equal ones.
    z_weights : array-like of shape (n_samples_z,), default=None
        The same for the second sample.
    kernel : {"rbf", "laplacian", "matern", "energy", "linear", "polynomial"}, default="rbf"
        The kernel. "linear" compares means; "energy" gives the energy distance.
    bandwidth : {"median", "scott", "silverman", "knn50"}, float or array-like, default="median"
        Length of the kernel in units of the columns, or the rule that finds it
        on both samples together without their weights, so that values before
        and after weighting compare. Rules are for the kernels that decay; the
        others take 1 in their place.
    squared : bool, default=False
        Whether to return the squared discrepancy.
    max_rows : int or None, default=5000
        Number of rows of each sample to use; None for all.
    random_state : int, RandomState instance or None, default=0
        Seed of the draws of rows.
    n_jobs : int, default=None
        Number of threads; it does not change the result.
    **kernel_parameters : dict
        `nu` of "matern", `exponent` of "energy", `degree` and `coef0` of
        "polynomial".

    Returns
    -------
    float

    Raises
    ------
    ValueError
        If the samples have different columns, entries that are not finite, or
        weights that are negative, all zero or not one per row; or if a kernel
        or bandwidth is not valid.
    TypeError
        If columns are not numeric.

    References
    ----------
    Gretton, A., Borgwardt, K. M., Rasch, M. J., Schölkopf, B. and Smola, A.
    (2012). A kernel two-sample test. Journal of Machine Learning Research, 13,
    723-773.

    Examples
    --------
    >>> from reweight import mmd
    >>> X, Z = [[0.0], [1.0]], [[0.0], [0.0], [1.0]]
    >>> round(mmd(X, Z, bandwidth=1.0), 3)
    0.148
    >>> mmd(X, Z, x_weights=[2, 1])
    0.0
    """
    check_kernel(kernel, kernel_parameters)
    x, z = _two_samples("mmd", X, Z, x_weights, z_weights)
    rng = check_random_state(random_state)
    x, z = _thin(x, max_rows, rng), _thin(z, max_rows, rng)
    if isinstance(bandwidth, str) and kernel not in DECAYING_KERNELS:
        bandwidth = 1.0
    bandwidth = resolve_bandwidth(np.vstack([x[0], z[0]]), bandwidth, random_state=rng)
    square = _quadratic_form(x, z, kernel, bandwidth, n_jobs, **kernel_parameters)
    return square if squared else float(np.sqrt(square))


def energy_distance(
    X: Any,
    Z: Any,
    x_weights: ArrayLike | None = None,
    z_weights: ArrayLike | None = None,
    *,
    squared: bool = False,
    max_rows: int | None = 5000,
    random_state: Any = 0,
    n_jobs: int | None = None,
) -> float:
    """Energy distance of two weighted samples.

    The root of 2 E|X - Z| - E|X - X'| - E|Z - Z'| with Euclidean distances and
    all pairs counted; in one dimension it is `scipy.stats.energy_distance`. It
    is zero only if the two weighted samples are equal. Samples of more than
    `max_rows` rows are represented by that many, drawn without replacement;
    rows of weight zero are left out before the draw.

    Parameters
    ----------
    X : array-like of shape (n_samples_x, n_features) or (n_samples_x,)
        First sample. Distances mix the columns, so bring them to comparable
        scales first.
    Z : array-like of shape (n_samples_z, n_features) or (n_samples_z,)
        Second sample.
    x_weights : array-like of shape (n_samples_x,), default=None
        Non-negative weights of the first sample on any scale; None for equal ones.
    z_weights : array-like of shape (n_samples_z,), default=None
        The same for the second sample.
    squared : bool, default=False
        Whether to return the square, which is what energy balancing minimises.
    max_rows : int or None, default=5000
        Number of rows of each sample to use; None for all.
    random_state : int, RandomState instance or None, default=0
        Seed of the draws of rows.
    n_jobs : int, default=None
        Number of threads; it does not change the result.

    Returns
    -------
    float

    Raises
    ------
    ValueError
        If the samples have different columns, entries that are not finite, or
        weights that are negative, all zero or not one per row.
    TypeError
        If columns are not numeric.

    References
    ----------
    Székely, G. J. and Rizzo, M. L. (2013). Energy statistics: a class of
    statistics based on distances. Journal of Statistical Planning and
    Inference, 143, 1249-1272.

    Examples
    --------
    >>> from reweight import energy_distance
    >>> energy_distance([[0.0]], [[2.0]])
    2.0
    >>> energy_distance([[0.0], [2.0]], [[2.0]], x_weights=[0.0, 1.0])
    0.0
    """
    x, z = _two_samples("energy_distance", X, Z, x_weights, z_weights)
    rng = check_random_state(random_state)
    x, z = _thin(x, max_rows, rng), _thin(z, max_rows, rng)
    square = _quadratic_form(x, z, "energy", 1.0, n_jobs)
    return square if squared else float(np.sqrt(square))


def weighted_ks(
    X: Any,
    Z: Any,
    x_weights: ArrayLike | None = None,
    z_weights: ArrayLike | None = None,
) -> NDArray[np.float64]:
    """Kolmogorov-Smirnov distance of two weighted samples, column by column.

    The largest difference of the two weighted empirical distribution
    functions; equal values are one step. All rows are used.

    Parameters
    ----------
    X : array-like of shape (n_samples_x, n_features) or (n_samples_x,)
        First sample.
    Z : array-like of shape (n_samples_z, n_features) or (n_samples_z,)
        Second sample.
    x_weights : array-like of shape (n_samples_x,), default=None
        Non-negative weights of the first sample on any scale; None for equal ones.
    z_weights : array-like of shape (n_samples_z,), default=None
        The same for the second sample.

    Returns
    -------
    ndarray of shape (n_features,)

    Raises
    ------
    ValueError
        If the samples have different columns, entries that are not finite, or
        weights that are negative, all zero or not one per row.
    TypeError
        If columns are not numeric.

    Examples
    --------
    >>> from reweight import weighted_ks
    >>> weighted_ks([[0.0], [1.0]], [[1.0], [1.0]])
    array([0.5])
    >>> weighted_ks([[0.0], [1.0]], [[1.0], [1.0]], x_weights=[1.0, 3.0])
    array([0.25])
    """
    (X, a), (Z, b) = _two_samples("weighted_ks", X, Z, x_weights, z_weights)
    group = np.arange(len(X) + len(Z)) < len(X)
    steps = ecdf_steps(np.concatenate([a, b]), group)
    stacked = np.vstack([X, Z]).T
    return np.array([ks_of_steps(np.ascontiguousarray(x), steps)[0] for x in stacked])


def domain_auc(
    X: Any,
    Z: Any,
    x_weights: ArrayLike | None = None,
    z_weights: ArrayLike | None = None,
    *,
    estimator: Any = None,
    cv: Any = 5,
    max_rows: int | None = 5000,
    random_state: Any = 0,
    n_jobs: int | None = None,
) -> float:
    """How well a classifier tells two weighted samples apart on held-out rows.

    The mean over the folds of the weighted area under the ROC curve: about 0.5
    if the samples have one distribution, 1 if they do not overlap. Each sample
    counts half in training, whatever its size. Samples of more than `max_rows`
    rows are represented by that many, drawn without replacement; rows of
    weight zero are left out before the draw.

    Parameters
    ----------
    X : array-like of shape (n_samples_x, n_features) or (n_samples_x,)
        First sample, for example the source or the controls.
    Z : array-like of shape (n_samples_z, n_features) or (n_samples_z,)
        Second sample, for example the target or the treated.
    x_weights : array-like of shape (n_samples_x,), default=None
        Non-negative weights of the first sample on any scale; None for equal ones.
    z_weights : array-like of shape (n_samples_z,), default=None
        The same for the second sample.
    estimator : estimator or None, default=None
        Classifier with `predict_proba` or `decision_function`, or a Pipeline
        that ends in one; its `fit` must take `sample_weight`. None means
        histogram gradient boosting, which also sees shifts that keep the means.
    cv : int or splitter, default=5
        Number of stratified, shuffled folds, or a splitter.
    max_rows : int or None, default=5000
        Number of rows of each sample to use; None for all.
    random_state : int, RandomState instance or None, default=0
        Seed of the draws of rows, of the folds and of the default estimator.
    n_jobs : int, default=None
        Number of folds that run at a time; it does not change the result.

    Returns
    -------
    float

    Raises
    ------
    ValueError
        If the samples have different columns, entries that are not finite, or
        weights that are negative, all zero or not one per row; if a sample has
        fewer rows than there are folds; or if the estimator takes no weights.
    TypeError
        If columns are not numeric.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.linear_model import LogisticRegression
    >>> from reweight import domain_auc
    >>> X = np.arange(20.0)
    >>> domain_auc(X, X + 100, estimator=LogisticRegression())
    1.0
    """
    from reweight.diagnostics._domain_classifier import mean_auc

    x, z = _two_samples("domain_auc", X, Z, x_weights, z_weights)
    rng = check_random_state(random_state)
    x, z = _thin(x, max_rows, rng), _thin(z, max_rows, rng)
    return mean_auc(x, z, estimator, cv, rng, n_jobs)

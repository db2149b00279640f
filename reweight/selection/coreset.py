"""Weights learned on a few representative rows and handed on to all."""

from collections.abc import Callable
from numbers import Integral, Real
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import clone
from sklearn.neighbors import NearestNeighbors
from sklearn.utils import check_array, column_or_1d
from sklearn.utils._param_validation import HasMethods, Interval, StrOptions
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_consistent_length

from reweight.base import Weighter
from reweight.kernels.bandwidth import resolve_bandwidth
from reweight.kernels.kernel_sums import kernel_smooth
from reweight.normalization import normalize_weights
from reweight.selection._meta_weight_net import meta_weights
from reweight.validation import check_sample_weight, unwrap_target, validate_features, warn_weights

Array = NDArray[np.float64]

# Up to this many features a tree finds neighbours faster than a product of matrices.
LARGEST_TREE_DIMENSION = 20
ROWS_PER_CLASS = 10


def moderate_coreset(F: ArrayLike, y: ArrayLike, m: int) -> NDArray[np.intp]:
    """Rows whose distance from the middle of their class is neither small nor large.

    The middle of a class is the median of each feature. Of every class the
    floor(m / n_classes) rows are taken whose ranks of Euclidean distance from it are
    central: the nearest tell little, the farthest are often wrong.

    Parameters
    ----------
    F : array-like of shape (n_samples, n_features)
        Features, such as those of a pretrained network.
    y : array-like of shape (n_samples,)
        Classes.
    m : int
        Number of rows to take. If it is smaller than that of classes, the m central
        ranks of all rows are taken.

    Returns
    -------
    ndarray of int
        Sorted indices; classes of too few rows are taken whole.

    Raises
    ------
    ValueError
        If m is not between 1 and the number of rows, or features and classes do not
        fit.

    References
    ----------
    Xia, X., Liu, J., Yu, J., Shen, X., Han, B. and Liu, T. (2023). Moderate coreset:
    a universal method of data selection for real-world data-efficient deep learning.
    ICLR.

    Examples
    --------
    >>> from reweight import moderate_coreset
    >>> F = [[0.0], [1.0], [2.0], [3.0], [9.0], [4.0], [5.0], [6.0]]
    >>> y = ["a", "a", "a", "a", "a", "b", "b", "b"]
    >>> moderate_coreset(F, y, 3)
    array([3, 5])
    """
    F = check_array(F, dtype=np.float64, input_name="F")
    y = column_or_1d(y)
    check_consistent_length(F, y)
    if not (isinstance(m, Integral) and 1 <= m <= len(F)):
        raise ValueError(
            f"moderate_coreset: m={m!r} for {len(F)} rows; pass a whole number from 1 to that"
        )
    _, codes = np.unique(y, return_inverse=True)
    return _moderate(F, codes, int(m))


def _moderate(F: Array, codes: NDArray[np.intp], m: int) -> NDArray[np.intp]:
    members = _class_members(codes)
    distances = np.empty(len(F))
    for rows in members:
        distances[rows] = np.linalg.norm(F[rows] - np.median(F[rows], axis=0), axis=1)
    if m < len(members):
        return np.sort(_central(np.arange(len(F)), distances, m))
    share = m // len(members)
    return np.sort(np.concatenate([_central(rows, distances, share) for rows in members]))


def _class_members(codes: NDArray[np.intp]) -> list[NDArray[np.intp]]:
    order = np.argsort(codes, kind="stable")
    return np.split(order, np.cumsum(np.bincount(codes))[:-1])


def _central(rows: NDArray[np.intp], distances: Array, count: int) -> NDArray[np.intp]:
    """The rows of central rank, as many as asked for or as there are."""
    count = min(count, len(rows))
    start = (len(rows) - count) // 2
    return rows[np.argsort(distances[rows], kind="stable")][start : start + count]


class CoresetWeighter(Weighter):
    """Weights of rows from those of the nearest rows of a coreset, on which they were learned.

    Learning weights by what they do to a trusted loss is dear. Here it is done on a
    moderate coreset, and each row takes the weight of the coreset rows next to it.

    Parameters
    ----------
    n_coreset : float or int, default=0.01
        Share of the rows, or number of them, in the coreset. A share of a small data
        set may leave too few rows a class, of which there is a warning.
    reweighter : callable, default=None
        ``reweighter(X, y, X_val, y_val)`` returns one non-negative weight per coreset
        row; features are those of `featurizer`. None is a net of the loss that is
        trained beside a softmax regression, see the notes.
    broadcast : {"nn", "knn", "kernel"}, default="nn"
        Weight of the nearest coreset row, mean weight of `n_neighbors`, or mean
        weight by a Gaussian kernel.
    same_class : bool, default=True
        Whether only coreset rows with the label of the row count, which tells a wrong
        label from right ones beside it. False ignores labels, as the source does,
        which suits errors that depend on the features alone. Rows of a class that has
        no coreset row take weights from all.
    n_neighbors : int, default=5
        For "knn".
    bandwidth : float or str, default="median"
        Of the kernel, as in `resolve_bandwidth`, from the features of the coreset.
    featurizer : transformer, default=None
        Makes the features of distances and of the default `reweighter`, such as
        `StandardScaler` or a wrapped network; None is X itself.
    random_state : int, RandomState instance or None, default=0
        Start of the default `reweighter`.
    n_jobs : int, default=None
        Jobs of the search for neighbours; they do not change the result.

    Attributes
    ----------
    weights_ : ndarray of shape (n_samples,)
        Broadcast weights times `sample_weight`, mean one.
    ess_ : float
        Effective sample size of `weights_`.
    coreset_indices_ : ndarray of int of shape (n_coreset_rows,)
        Rows of X in the coreset, sorted.
    coreset_weights_ : ndarray of shape (n_coreset_rows,)
        Their weights, as the reweighter gave them.
    classes_ : ndarray of shape (n_classes,)
        Labels of y.
    featurizer_ : transformer or None
        The fitted featurizer.
    n_features_in_ : int
        Number of columns of X.
    feature_names_in_ : ndarray of str of shape (n_features_in_,)
        Their names, if X has any.

    See Also
    --------
    moderate_coreset : The choice of rows alone.
    Reweighted : Fits any classifier with these weights.

    Notes
    -----
    By default each weight is V(loss) with V a net of one hidden layer, trained so
    that a step of the weighted softmax regression lowers the loss of the trusted
    rows. Without `X_val` there is nothing to learn by: weights are equal, and a
    `WeightWarning` says so; a `reweighter` of your own gets None for both then. Within
    torch, `MetaWeightNet` may be the `reweighter`. Pass the fitted weighter to
    `IndexWeighter.from_estimator` to train a network.

    A coreset too small, or without wrong labels, teaches nothing: with a handful of
    rows a class the model fits whatever they say, and where classes lie so far apart
    that wrong labels are the farthest rows of their class, central ranks leave them
    all out. On digits with labels wrong at random, a fifth of the rows ranks them with
    an AUC of 0.86, and yet a classifier does better without weights; weights learned
    on all rows (``n_coreset=1.0``) help. Compare with that where you can afford it.

    References
    ----------
    Jafari, M., Zhang, Y., Zhang, Y. and Liu, S. (2024). The power of few: accelerating
    and enhancing data reweighting with coreset selection. ICASSP.

    Shu, J., Xie, Q., Yi, L., Zhao, Q., Zhou, S., Xu, Z. and Meng, D. (2019).
    Meta-Weight-Net: learning an explicit mapping for sample weighting. NeurIPS.

    Examples
    --------
    >>> import numpy as np
    >>> from reweight import CoresetWeighter
    >>> rng = np.random.default_rng(0)
    >>> X = rng.normal(size=(600, 2))
    >>> truth = (X[:, 0] > 0).astype(int)
    >>> wrong = rng.uniform(size=600) < 0.3
    >>> y = np.where(wrong, 1 - truth, truth)
    >>> weighter = CoresetWeighter(0.2)
    >>> _ = weighter.fit(X[:550], y[:550], X_val=X[550:], y_val=truth[550:])
    >>> bool(weighter.weights_[wrong[:550]].mean() < 0.5 < weighter.weights_.mean())
    True
    """

    __metadata_request__fit = {"X_val": True, "y_val": True}
    _parameter_constraints = {
        "n_coreset": [
            Interval(Integral, 1, None, closed="left"),
            Interval(Real, 0, 1, closed="right"),
        ],
        "reweighter": [callable, None],
        "broadcast": [StrOptions({"nn", "knn", "kernel"})],
        "same_class": ["boolean"],
        "n_neighbors": [Interval(Integral, 1, None, closed="left")],
        "bandwidth": [
            Interval(Real, 0, None, closed="neither"),
            StrOptions({"median", "scott", "silverman", "knn50"}),
        ],
        "featurizer": [HasMethods(["fit", "transform"]), None],
        "random_state": ["random_state"],
        "n_jobs": [Integral, None],
    }

    def __init__(
        self,
        n_coreset: float = 0.01,
        reweighter: Callable[..., ArrayLike] | None = None,
        *,
        broadcast: str = "nn",
        same_class: bool = True,
        n_neighbors: int = 5,
        bandwidth: float | str = "median",
        featurizer: Any = None,
        random_state: Any = 0,
        n_jobs: int | None = None,
    ) -> None:
        self.n_coreset = n_coreset
        self.reweighter = reweighter
        self.broadcast = broadcast
        self.same_class = same_class
        self.n_neighbors = n_neighbors
        self.bandwidth = bandwidth
        self.featurizer = featurizer
        self.random_state = random_state
        self.n_jobs = n_jobs

    def fit(
        self,
        X: Any,
        y: ArrayLike,
        *,
        X_val: Any = None,
        y_val: Any = None,
        sample_weight: ArrayLike | None = None,
    ) -> "CoresetWeighter":
        """Learn weights on the coreset and hand them on.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Features.
        y : array-like of shape (n_samples,)
            Classes.
        X_val : array-like of shape (n_val, n_features), default=None
            Trusted rows; a 1-tuple passes whole through cross-validation.
        y_val : array-like of shape (n_val,), default=None
            Their classes, among those of y.
        sample_weight : array-like of shape (n_samples,), default=None
            Sampling weights, which multiply the result; rows of weight zero are not
            chosen for the coreset.

        Returns
        -------
        CoresetWeighter
            The fitted weighter.

        Raises
        ------
        ValueError
            If the coreset is larger than the data, trusted rows are incomplete or of
            unknown classes, or the reweighter returns no weights.
        """
        self._validate_params()
        X, codes, s = self._check_data(X, y, sample_weight)
        rows = np.flatnonzero(s > 0)
        self.featurizer_ = None
        if self.featurizer is not None:
            self.featurizer_ = clone(self.featurizer).fit(X[rows], np.asarray(y)[rows])
        F = self._features(X)
        # Classes without a row of positive weight have no place in the coreset.
        _, present = np.unique(codes[rows], return_inverse=True)
        chosen = rows[_moderate(F[rows], present, self._coreset_size(len(rows)))]
        self._warn_of_few(len(chosen), len(np.unique(present)))
        self.coreset_indices_ = chosen
        self._coreset, self._coreset_codes = F[chosen], codes[chosen]
        trusted = self._trusted(X_val, y_val)
        self.coreset_weights_ = self._learned(*trusted)
        self._kernel_width = None
        if self.broadcast == "kernel":
            lone = len(np.unique(self._coreset, axis=0)) < 2
            self._kernel_width = 1.0 if lone else resolve_bandwidth(self._coreset, self.bandwidth)
        raw = self._broadcast(F, codes)
        if self.broadcast == "nn":
            # Among equal rows a coreset row keeps its own.
            raw[chosen] = self.coreset_weights_
        if not (raw * s).any():
            raise ValueError(
                f"{type(self).__name__}: all weights are zero; look at coreset_weights_, pass more "
                "trusted rows, or another reweighter"
            )
        self._scale = len(raw) / (raw * s).sum()
        self._set_weights(normalize_weights(raw, sample_weight=s))
        return self

    def predict_weights(self, X: Any, y: ArrayLike | None = None) -> Array:
        """Weights of new rows, on the scale of `fit` and without `sample_weight`.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Features.
        y : array-like of shape (n_samples,), default=None
            Classes, needed if `same_class`.

        Returns
        -------
        ndarray of shape (n_samples,)
        """
        X = validate_features(self, X, reset=False)
        codes = None
        if self.same_class:
            if y is None:
                raise ValueError(
                    f"{type(self).__name__}: y is None, but same_class=True looks among rows of "
                    "the same class; pass y"
                )
            y = column_or_1d(y)
            check_consistent_length(X, y)
            codes = np.searchsorted(self.classes_, y).clip(0, len(self.classes_) - 1)
            # Labels not seen in fit have no class.
            codes = np.where(self.classes_[codes] == y, codes, -1)
        return self._scale * self._broadcast(self._features(X), codes)

    def _check_data(
        self, X: Any, y: Any, sample_weight: Any
    ) -> tuple[Array, NDArray[np.intp], Array]:
        """Features, class codes and weights of the rows."""
        if y is None:
            raise ValueError(
                f"{type(self).__name__}: requires y to be passed, but the target y is None"
            )
        X = validate_features(self, X)
        y = column_or_1d(y, warn=True)
        check_consistent_length(X, y)
        check_classification_targets(y)
        self.classes_, codes = np.unique(y, return_inverse=True)
        return X, codes, check_sample_weight(sample_weight, X)

    def _features(self, X: Array) -> Array:
        if self.featurizer_ is None:
            return X
        F = np.asarray(self.featurizer_.transform(X), dtype=np.float64)
        return check_array(F, input_name="features of the featurizer")

    def _coreset_size(self, n: int) -> int:
        if isinstance(self.n_coreset, Integral):
            if self.n_coreset > n:
                raise ValueError(
                    f"{type(self).__name__}: n_coreset={self.n_coreset} of {n} rows of positive "
                    "weight; pass a smaller number or a share"
                )
            return int(self.n_coreset)
        # Rounding errors of a share may not add a row.
        return max(1, int(np.ceil(self.n_coreset * n - 1e-9)))

    def _warn_of_few(self, m: int, n_classes: int) -> None:
        if m < ROWS_PER_CLASS * n_classes:
            warn_weights(
                f"{type(self).__name__}: the coreset has {m} rows for {n_classes} classes, too few "
                f"to learn weights from; pass n_coreset={ROWS_PER_CLASS * n_classes} or more"
            )

    def _trusted(self, X_val: Any, y_val: Any) -> tuple[Array | None, NDArray[np.intp] | None]:
        """Features and class codes of trusted rows, None if there are none."""
        X_val, y_val = unwrap_target(X_val), unwrap_target(y_val)
        name = type(self).__name__
        if (X_val is None) != (y_val is None):
            raise ValueError(f"{name}: pass both of X_val and y_val, or neither")
        if X_val is None:
            return None, None
        X_val = validate_features(self, X_val, reset=False)
        y_val = column_or_1d(y_val)
        check_consistent_length(X_val, y_val)
        unknown = np.setdiff1d(y_val, self.classes_)
        if len(unknown):
            raise ValueError(
                f"{name}: y_val has classes {list(unknown[:5])}, which y has not; drop those rows"
            )
        return self._features(X_val), np.searchsorted(self.classes_, y_val)

    def _learned(self, F_val: Array | None, codes_val: NDArray[np.intp] | None) -> Array:
        """Weights of the coreset rows, checked."""
        F, codes = self._coreset, self._coreset_codes
        if self.reweighter is None and F_val is None:
            warn_weights(
                f"{type(self).__name__}: X_val is None, so that there is nothing to learn weights "
                "by and all are equal; pass X_val and y_val, rows whose labels are right"
            )
            return np.ones(len(F))
        if self.reweighter is None:
            # Many steps magnify rounding errors, which so do not depend on the order of rows.
            order = np.lexsort((codes, *F.T))
            seed = self.random_state
            weights = np.empty(len(F))
            weights[order] = meta_weights(
                F[order], codes[order], F_val, codes_val, random_state=seed
            )
            return weights
        y_val = None if codes_val is None else self.classes_[codes_val]
        found = self.reweighter(F, self.classes_[codes], F_val, y_val)
        weights = np.array(found, dtype=np.float64)
        # Written so that NaN fails.
        if weights.shape != (len(F),) or not ((weights >= 0) & (weights < np.inf)).all():
            raise ValueError(
                f"{type(self).__name__}: reweighter returned an array of shape {weights.shape} for "
                f"{len(F)} coreset rows, or entries that are negative or not finite; return one "
                "finite weight >= 0 per row"
            )
        return weights

    def _broadcast(self, F: Array, codes: NDArray[np.intp] | None) -> Array:
        """Weight of each row from the coreset."""
        everything = np.arange(len(self._coreset))
        if not self.same_class:
            return self._from(everything, F)
        raw = np.empty(len(F))
        for code in np.unique(codes):
            members = np.flatnonzero(self._coreset_codes == code)
            rows = codes == code
            raw[rows] = self._from(members if len(members) else everything, F[rows])
        return raw

    def _from(self, members: NDArray[np.intp], F: Array) -> Array:
        """Weights of rows from some rows of the coreset."""
        weights, near = self.coreset_weights_[members], self._coreset[members]
        if self.broadcast == "kernel":
            smooth = kernel_smooth(F, near, weights, "rbf", self._kernel_width, n_jobs=self.n_jobs)
            return np.asarray(smooth).reshape(len(F))
        k = 1 if self.broadcast == "nn" else min(self.n_neighbors, len(members))
        tree = F.shape[1] <= LARGEST_TREE_DIMENSION
        search = NearestNeighbors(
            n_neighbors=k, algorithm="kd_tree" if tree else "brute", n_jobs=self.n_jobs
        )
        found = search.fit(near).kneighbors(F, return_distance=False)
        return weights[found].mean(axis=1)

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.target_tags.required = True
        return tags

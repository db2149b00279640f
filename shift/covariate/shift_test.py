"""Two-sample tests of whether features are distributed differently."""

from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import rankdata
from sklearn.base import clone
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.model_selection import StratifiedShuffleSplit
from sklearn.utils import check_array, check_random_state
from sklearn.utils._param_validation import HasMethods, Interval, StrOptions, validate_params

from reweight.kernels.bandwidth import resolve_bandwidth
from reweight.kernels.kernel_sums import kernel_matrix
from reweight.validation import unwrap_target

MAX_KERNEL_ROWS = 3000


@dataclass(frozen=True)
class ShiftTestResult:
    """What a two-sample test found.

    Parameters
    ----------
    statistic : float
        Squared maximum mean discrepancy, or area under the ROC curve.
    p_value : float
        Share of permutations, the observed order among them, whose statistic
        is at least as large.
    method : {"mmd", "classifier"}
        The statistic.
    null : ndarray of shape (n_resamples,)
        Statistics of the permutations.
    n_source, n_target : int
        Rows that were used.

    Examples
    --------
    >>> import numpy as np
    >>> from shift import covariate_shift_test
    >>> X = np.arange(30.0).reshape(-1, 1)
    >>> covariate_shift_test(X, X + 20, n_resamples=99)
    ShiftTestResult(method='mmd', statistic=0.624, p_value=0.01, 30 v 30 rows)
    """

    statistic: float
    p_value: float
    method: str
    null: NDArray[np.float64]
    n_source: int
    n_target: int

    def __repr__(self) -> str:
        return (
            f"ShiftTestResult(method={self.method!r}, statistic={self.statistic:.3g}, "
            f"p_value={self.p_value:.3g}, {self.n_source} v {self.n_target} rows)"
        )


@validate_params(
    {
        "method": [StrOptions({"mmd", "classifier"})],
        "estimator": [HasMethods(["fit", "predict_proba"]), None],
        "test_size": [Interval(Real, 0, 1, closed="neither")],
        "n_resamples": [Interval(Integral, 1, None, closed="left")],
        "max_rows": [Interval(Integral, 4, None, closed="left"), None],
        "random_state": ["random_state"],
    },
    prefer_skip_nested_validation=True,
)
def covariate_shift_test(
    X: ArrayLike,
    X_target: Any,
    *,
    method: str = "mmd",
    bandwidth: float | ArrayLike | str = "median",
    estimator: Any = None,
    test_size: float = 0.5,
    n_resamples: int = 199,
    max_rows: int | None = MAX_KERNEL_ROWS,
    random_state: Any = 0,
) -> ShiftTestResult:
    """Test whether source and target rows have one distribution.

    Under that hypothesis the labels of the rows are exchangeable, so the
    p-value by permutation is valid at any sample size, with any kernel and any
    classifier. A small one says that there is a shift, not that weights help:
    see `reweight.domain_auc` for its size and `ess_` of a weighter for its price.

    Parameters
    ----------
    X : array-like of shape (n_source, n_features)
        Source rows.
    X_target : array-like of shape (n_target, n_features) or 1-tuple of it
        Target rows.
    method : {"mmd", "classifier"}, default="mmd"
        The statistic: the squared maximum mean discrepancy with a Gaussian
        kernel, or the area under the ROC curve of a classifier on rows that it
        has not seen, which finds differences that a kernel drowns in the noise
        of many columns.
    bandwidth : float, array-like or {"median", "knn50", "scott", "silverman"}, default="median"
        Length of the kernel.
    estimator : classifier, default=None
        Classifier with `predict_proba`; None is histogram gradient boosting.
    test_size : float, default=0.5
        Share of each sample held out from the classifier. It is fitted once:
        given it, labels of held-out rows are exchangeable, which they are not
        across the folds of a cross-validation.
    n_resamples : int, default=199
        Number of permutations; the smallest possible p-value is
        1 / (n_resamples + 1).
    max_rows : int or None, default=3000
        Rows of each sample to use, drawn without replacement; None for all.
        The kernel needs memory for the square of their number.
    random_state : int, RandomState instance or None, default=0
        Seed of draws, the split and permutations.

    Returns
    -------
    ShiftTestResult
        With `statistic`, `p_value` and the `null` distribution.

    Raises
    ------
    ValueError
        If rows are not finite, the numbers of columns differ, or a sample is
        too small to be split.

    References
    ----------
    Gretton, A., Borgwardt, K., Rasch, M., Schoelkopf, B., Smola, A. (2012). A
    kernel two-sample test. JMLR, 13, 723-773.

    Lopez-Paz, D., Oquab, M. (2017). Revisiting classifier two-sample tests.
    ICLR.

    Examples
    --------
    >>> from shift import covariate_shift_test, make_covariate_shift
    >>> data = make_covariate_shift(100, 100, random_state=0)
    >>> covariate_shift_test(data.X, data.X_target).p_value
    0.005
    """
    rng = check_random_state(random_state)
    samples = [_check_sample(name, rows) for name, rows in (("X", X), ("X_target", X_target))]
    if samples[0].shape[1] != samples[1].shape[1]:
        raise ValueError(
            f"covariate_shift_test: X has {samples[0].shape[1]} columns but X_target has "
            f"{samples[1].shape[1]}; pass the same ones"
        )
    source, target = (_thin(rows, max_rows, rng) for rows in samples)
    if method == "mmd":
        statistic, null = _mmd_null(source, target, bandwidth, n_resamples, rng)
    else:
        statistic, null = _auc_null(source, target, estimator, test_size, n_resamples, rng)
    # Statistics that are equal but for round-off count as ties.
    slack = 1e-10 * max(abs(statistic), np.finfo(float).tiny)
    p_value = (1 + int((null >= statistic - slack).sum())) / (n_resamples + 1)
    return ShiftTestResult(float(statistic), p_value, method, null, len(source), len(target))


def _check_sample(name: str, rows: Any) -> NDArray[np.float64]:
    try:
        rows = unwrap_target(rows)
        if rows is None:
            raise ValueError("it is None; pass the rows of that sample")
        return check_array(rows, dtype=np.float64, ensure_min_samples=2)
    except ValueError as error:
        raise ValueError(f"covariate_shift_test: {name} is not usable: {error}") from error


def _thin(rows: NDArray, max_rows: int | None, rng: np.random.RandomState) -> NDArray[np.float64]:
    if max_rows is None or len(rows) <= max_rows:
        return rows
    return rows[rng.choice(len(rows), max_rows, replace=False)]


def _mmd_null(source, target, bandwidth, n_resamples, rng) -> tuple[float, NDArray[np.float64]]:
    """Squared discrepancy as observed and under permutations, all as quadratic forms at once."""
    rows = np.concatenate([source, target])
    try:
        length = resolve_bandwidth(rows, bandwidth, random_state=rng)
    except ValueError as error:
        raise ValueError(f"covariate_shift_test: {error}") from error
    K = kernel_matrix(rows, rows, "rbf", length)
    observed = np.repeat([1 / len(source), -1 / len(target)], [len(source), len(target)])
    orders = [np.arange(len(rows))] + [rng.permutation(len(rows)) for _ in range(n_resamples)]
    V = observed[np.array(orders)].T
    values = np.einsum("ij,ij->j", V, K @ V)
    return float(values[0]), values[1:]


def _auc_null(
    source, target, estimator, test_size, n_resamples, rng
) -> tuple[float, NDArray[np.float64]]:
    """Area under the ROC curve of held-out rows, as observed and with their labels permuted."""
    rows = np.concatenate([source, target])
    label = np.repeat([0, 1], [len(source), len(target)])
    seed = rng.randint(np.iinfo(np.int32).max)
    if estimator is None:
        estimator = HistGradientBoostingClassifier(
            max_iter=50, max_leaf_nodes=15, early_stopping=False, random_state=seed
        )
    try:
        train, test = next(
            StratifiedShuffleSplit(1, test_size=test_size, random_state=rng).split(rows, label)
        )
    except ValueError as error:
        raise ValueError(f"covariate_shift_test: the samples cannot be split: {error}") from error
    fitted = clone(estimator).fit(rows[train], label[train])
    ranks, held = rankdata(fitted.predict_proba(rows[test])[:, 1]), label[test]
    return _auc(ranks, held), np.array(
        [_auc(ranks, rng.permutation(held)) for _ in range(n_resamples)]
    )


def _auc(ranks: NDArray, label: NDArray) -> float:
    """Area under the ROC curve from ranks (Mann and Whitney)."""
    positives = int(label.sum())
    negatives = len(label) - positives
    excess = ranks[label == 1].sum() - positives * (positives + 1) / 2
    return float(excess / (positives * negatives))

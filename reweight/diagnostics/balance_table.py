"""How alike two treatment arms are, covariate by covariate, before and after weighting."""

from collections.abc import Iterator, Sequence
from itertools import combinations
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from reweight.diagnostics._checks import check_columns, check_row_weights
from reweight.diagnostics.weight_report import concentration
from reweight.kernels.weighted_ecdf import ecdf_steps, ks_of_steps
from reweight.kernels.weighted_moments import weighted_mean_variance
from reweight.normalization import effective_sample_size
from reweight.validation import check_sample_weight, check_treatment, warn_weights

if TYPE_CHECKING:
    import pandas as pd

ESTIMANDS = ("ATE", "ATT", "ATC", "ATO")
# Arms whose variance makes the denominator of a standardised difference; others take both.
REFERENCE_ARMS = {"ATT": (1,), "ATC": (0,)}
ARM_NAMES = ("control", "treated")
COSTS = ("n_rows", "ess_before", "ess", "ess_share", "max_share", "zero_share", "entropy")
# Products of columns are made and used this many at a time.
BLOCK_COLUMNS = 32


def balance_table(
    X: Any,
    treatment: ArrayLike,
    weights: ArrayLike | None = None,
    *,
    estimand: str = "ATE",
    sample_weight: ArrayLike | None = None,
    feature_names: Sequence[str] | None = None,
    interactions: bool = False,
    squares: bool = False,
    binary: str = "std",
) -> "pd.DataFrame":
    """Balance of two treatment arms, before and after weighting.

    A standardised mean difference (SMD) is the mean of the treated minus that
    of the controls, over a standard deviation that the weights do not touch:
    that of the treated under "ATT", of the controls under "ATC", otherwise the
    root of the mean of the two variances, from rows weighted by
    `sample_weight` alone. Variances are unbiased, those of binary columns
    p (1 - p). The weights may come from any source.

    Parameters
    ----------
    X : array-like of shape (n_samples, n_features)
        Covariates: an array, a pandas or a polars data frame.
    treatment : array-like of shape (n_samples,)
        Two-valued treatment; the larger label in sorted order is "treated".
    weights : array-like of shape (n_samples,), default=None
        Weights on any scale, already multiplied by `sample_weight`, as
        `weights_` of a weighter is. None leaves the arms as they are.
    estimand : {"ATE", "ATT", "ATC", "ATO"}, default="ATE"
        Target population; it sets the denominator of the SMD.
    sample_weight : array-like of shape (n_samples,), default=None
        Sampling weights, which "before" already counts.
    feature_names : sequence of str, default=None
        Names of the covariates; None takes the columns of a data frame, or x0,
        x1, ...
    interactions : bool, default=False
        Whether to add the products of all pairs of covariates.
    squares : bool, default=False
        Whether to add the squares of covariates that are not binary.
    binary : {"std", "raw"}, default="std"
        "raw" shows the difference of proportions of binary columns, those of
        two values, in place of a standardised one.

    Returns
    -------
    pandas.DataFrame
        One row per covariate, with the columns

        - `mean_treated`, `mean_control`: means under `weights`,
        - `smd_before`, `smd_after`: standardised mean differences,
        - `vr_before`, `vr_after`: variance of the treated over that of the
          controls, NaN for binary and constant columns,
        - `ks_before`, `ks_after`: largest difference of the two empirical
          distribution functions.

        Its `attrs` hold `estimand`, the labels of the arms in `arms`, and for
        each arm, under "control" and "treated", `n_rows`, the effective sample
        size `ess_before` and `ess`, `ess_share` of the rows, `max_share` of one
        row in the total weight, `zero_share` of the rows and the `entropy` of
        the weights.

    Raises
    ------
    ValueError
        If there are not two arms of at least two rows, an arm has no weight,
        entries are not finite, weights are negative, or lengths differ.
    TypeError
        If columns are not numeric.

    Warns
    -----
    WeightWarning
        If a column has no variance in the denominator but different means: its
        SMD is infinite.

    References
    ----------
    Austin, P. C. and Stuart, E. A. (2015). Moving towards best practice when
    using inverse probability of treatment weighting. Statistics in Medicine,
    34, 3661-3679.

    Examples
    --------
    >>> from reweight import balance_table
    >>> X = [[0.0], [1.0], [1.0], [0.0], [0.0], [1.0]]
    >>> treatment = [1, 1, 1, 0, 0, 0]
    >>> table = balance_table(X, treatment, weights=[1, 1, 1, 1, 1, 4], feature_names=["smokes"])
    >>> table[["mean_treated", "mean_control", "smd_before", "smd_after"]].round(2)
            mean_treated  mean_control  smd_before  smd_after
    smokes          0.67          0.67        0.71        0.0
    >>> table.attrs["ess"]["control"]
    2.0
    """
    import pandas as pd

    if estimand not in ESTIMANDS:
        raise ValueError(
            f"balance_table: estimand {estimand!r} is not known; choose one of {list(ESTIMANDS)}"
        )
    if binary not in ("std", "raw"):
        raise ValueError(f"balance_table: binary must be 'std' or 'raw', got {binary!r}")
    X, names = check_columns(X, caller="balance_table", feature_names=feature_names)
    classes, codes = check_treatment(treatment, X)
    s = check_sample_weight(sample_weight, X)
    w = s if weights is None else check_row_weights(weights, len(X), caller="balance_table")
    attributes = _attributes(classes, codes, s, w, estimand)
    kept = slice(None) if w.all() else (s > 0) | (w > 0)
    X, codes, s, w = X[kept], codes[kept], s[kept], w[kept]
    steps = ecdf_steps(np.column_stack([s, w]), codes == 1)
    rows = [np.flatnonzero(codes == arm) for arm in (0, 1)]
    pairs = _pairs(X, interactions, squares)
    parts = [
        _block_statistics(block, rows, s, w, steps, estimand, binary) for block in _blocks(X, pairs)
    ]
    columns = {key: np.concatenate([part[key] for part in parts]) for key in parts[0]}
    names += [f"{names[i]}^2" if i == j else f"{names[i]} {names[j]}" for i, j in pairs]
    table = pd.DataFrame(columns, index=names)
    table.attrs.update(attributes)
    _warn_infinite(table, estimand)
    return table


def _is_binary(X: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Whether columns take exactly two values."""
    low, high = X.min(axis=0), X.max(axis=0)
    binary = ((X[:1000] == low) | (X[:1000] == high)).all(axis=0) & (low < high)
    for j in np.flatnonzero(binary):
        binary[j] = ((X[:, j] == low[j]) | (X[:, j] == high[j])).all()
    return binary


def _pairs(X: NDArray[np.float64], interactions: bool, squares: bool) -> list[tuple[int, int]]:
    """Pairs of columns whose products are added: squares first."""
    pairs = [(j, j) for j in np.flatnonzero(~_is_binary(X)).tolist()] if squares else []
    return pairs + (list(combinations(range(X.shape[1]), 2)) if interactions else [])


def _blocks(X: NDArray[np.float64], pairs: list[tuple[int, int]]) -> Iterator[NDArray[np.float64]]:
    """Columns and products, block by block, so that the products never exist all at once."""
    for start in range(0, X.shape[1], BLOCK_COLUMNS):
        yield X[:, start : start + BLOCK_COLUMNS]
    for start in range(0, len(pairs), BLOCK_COLUMNS):
        first, second = np.array(pairs[start : start + BLOCK_COLUMNS]).T
        yield X[:, first] * X[:, second]


def _arm_moments(
    A: NDArray[np.float64], is_binary: NDArray[np.bool_], *weightings: NDArray
) -> tuple[NDArray, NDArray]:
    """Means and variances of an arm's columns under each weighting.

    The variance is unbiased, except that of a binary column, p (1 - p). A
    constant column has its value as mean and no variance, without round-off.
    """
    means, variances = [], []
    for w in weightings:
        mean, variance = weighted_mean_variance(A, w)
        share = w / w.sum()
        variance[~is_binary] /= max(1.0 - share @ share, np.finfo(float).tiny)
        used = A if w.all() else A[w > 0]
        constant = used.min(axis=0) == used.max(axis=0)
        means.append(np.where(constant, used[0], mean))
        variances.append(np.where(constant, 0.0, variance))
    return np.array(means), np.array(variances)


def _block_statistics(
    block: NDArray[np.float64],
    rows: list[NDArray[np.intp]],
    s: NDArray[np.float64],
    w: NDArray[np.float64],
    steps: NDArray[np.float64],
    estimand: str,
    binary: str,
) -> dict[str, NDArray[np.float64]]:
    """Columns of the table for a block of covariates."""
    is_binary, width = _is_binary(block), np.ptp(block, axis=0)
    control, treated = (_arm_moments(block[r], is_binary, s[r], w[r]) for r in rows)
    differences = treated[0] - control[0]
    arms = REFERENCE_ARMS.get(estimand, (0, 1))
    scale = np.sqrt(np.mean([(control, treated)[arm][1][0] for arm in arms], axis=0))
    if binary == "raw":
        scale[is_binary] = width[is_binary]
    smd = np.where(differences == 0, 0.0, np.copysign(np.inf, differences))
    np.divide(differences, scale, out=smd, where=scale > 0)
    ratio = np.full_like(smd, np.nan)
    comparable = ~is_binary & (control[1] > 0) & (treated[1] > 0)
    np.divide(treated[1], control[1], out=ratio, where=comparable)
    ks = np.zeros_like(smd)
    np.divide(np.abs(differences), width, out=ks, where=is_binary)
    for j in np.flatnonzero(~is_binary & (width > 0)):
        ks[:, j] = ks_of_steps(np.ascontiguousarray(block[:, j]), steps)
    return {
        "mean_treated": treated[0][1],
        "mean_control": control[0][1],
        "smd_before": smd[0],
        "smd_after": smd[1],
        "vr_before": ratio[0],
        "vr_after": ratio[1],
        "ks_before": ks[0],
        "ks_after": ks[1],
    }


def _attributes(
    classes: NDArray,
    codes: NDArray[np.intp],
    s: NDArray[np.float64],
    w: NDArray[np.float64],
    estimand: str,
) -> dict[str, Any]:
    """What the weights cost, per arm, in plain Python numbers that pandas can compare."""
    costs: dict[str, dict[str, float]] = {}
    for arm, name in enumerate(ARM_NAMES):
        before, after = s[codes == arm], w[codes == arm]
        for values, argument in ((before, "sample_weight"), (after, "weights")):
            if not values.any():
                raise ValueError(
                    f"balance_table: {argument} is zero in every row with treatment "
                    f"{classes[arm]}; each arm needs rows of positive weight"
                )
        costs[name] = {**concentration(after), "ess_before": effective_sample_size(before)}
    return {
        "estimand": estimand,
        "arms": dict(zip(ARM_NAMES, classes.tolist(), strict=True)),
        **{key: {name: costs[name][key] for name in ARM_NAMES} for key in COSTS},
    }


def _warn_infinite(table: "pd.DataFrame", estimand: str) -> None:
    infinite = np.isinf(table[["smd_before", "smd_after"]]).any(axis=1)
    if infinite.any():
        where = {"ATT": "among the treated", "ATC": "among the controls"}.get(estimand, "in an arm")
        names = [str(name) for name in table.index[infinite]]
        warn_weights(
            f"balance_table: columns {names[:10]}{' and more' if len(names) > 10 else ''} do not "
            f"vary {where} but their means differ, so their standardised differences are infinite; "
            "drop them, or the rows of the other arm that have no counterpart"
        )

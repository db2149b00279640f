"""How much label error is left in a selection of rows."""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from reweight.validation import check_weights


def error_residual_ratio(
    y_recorded: ArrayLike,
    y_true: ArrayLike,
    support: ArrayLike | None = None,
    *,
    sample_weight: ArrayLike | None = None,
) -> float:
    r"""Mean absolute label error of the selected rows over that of all rows.

    .. math::
        \mathrm{ERR} = \frac{\sum_{i \in S} w_i |y_i - y_i^*| / \sum_{i \in S} w_i}
        {\sum_i |y_i - y_i^*| / n}

    It is 1 for a selection no better than a random one, 0 if all selected rows
    are clean, and does not change under y -> a y + b. Read it beside the share
    of selected rows: a few rows are easily clean.

    Parameters
    ----------
    y_recorded : array-like of shape (n_samples,)
        Outcomes as recorded, or as repaired.
    y_true : array-like of shape (n_samples,)
        Correct outcomes.
    support : array-like of shape (n_samples,) or (n_selected,), default=None
        The selected rows, as booleans or as row numbers; None selects all.
    sample_weight : array-like of shape (n_samples,), default=None
        Weights of a soft selection, such as `weights_` of
        `ContrastiveFragmentSelector`; they count in the numerator only.

    Returns
    -------
    float

    Raises
    ------
    ValueError
        If lengths differ, numbers are not finite, no row is selected, or there
        is no label error at all.

    References
    ----------
    Kim, C., Moon, S., Moon, J., Woo, D., Kim, G. (2024). Sample selection via
    contrastive fragmentation for noisy label regression. NeurIPS.

    Examples
    --------
    >>> from reweight import error_residual_ratio
    >>> error_residual_ratio([1.0, 2.0, 7.0, 4.0], [1.0, 2.0, 3.0, 0.0], [True, True, True, False])
    0.6666666666666666
    >>> error_residual_ratio([1.0, 5.0], [1.0, 4.0], sample_weight=[3.0, 1.0])
    0.5
    """
    recorded, truth = _outcomes("y_recorded", y_recorded), _outcomes("y_true", y_true)
    n = len(recorded)
    if len(truth) != n:
        raise ValueError(
            f"error_residual_ratio: y_recorded has {n} rows and y_true {len(truth)}; pass the same "
            "rows in the same order"
        )
    error = np.abs(recorded - truth)
    total = error.mean()
    if total == 0:
        raise ValueError(
            "error_residual_ratio: y_recorded equals y_true in every row, so that there is no "
            "label error to compare with; pass the outcomes as recorded"
        )
    weights = np.ones(n)
    if sample_weight is not None:
        weights = check_weights(sample_weight, name="sample_weight")
        if len(weights) != n:
            raise ValueError(
                f"error_residual_ratio: sample_weight has {len(weights)} entries but there are {n} "
                "rows; pass one per row"
            )
    rows = _selected_rows(support, n)
    selected = weights[rows].sum()
    if selected == 0:
        raise ValueError(
            "error_residual_ratio: no row of positive weight is selected; lower the threshold of "
            "the selection"
        )
    return float(weights[rows] @ error[rows] / selected / total)


def _outcomes(name: str, values: ArrayLike) -> NDArray[np.float64]:
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 1 or array.size == 0 or not np.isfinite(array).all():
        raise ValueError(
            f"error_residual_ratio: {name} must be one-dimensional, finite and not empty, got "
            f"shape {array.shape} with {int((~np.isfinite(array)).sum())} entries that are not"
        )
    return array


def _selected_rows(support: ArrayLike | None, n: int) -> NDArray[np.intp]:
    """Row numbers of a selection."""
    if support is None:
        return np.arange(n)
    support = np.asarray(support)
    if support.dtype == bool and support.shape == (n,):
        return np.flatnonzero(support)
    if support.dtype.kind in "iu" and support.ndim == 1:
        if len(support) and (support.min() < 0 or support.max() >= n):
            raise ValueError(
                f"error_residual_ratio: support has row numbers from {support.min()} to "
                f"{support.max()} but there are {n} rows; pass numbers from 0 to {n - 1}"
            )
        if len(np.unique(support)) < len(support):
            raise ValueError(
                "error_residual_ratio: support repeats row numbers; pass each selected row once"
            )
        return support.astype(np.intp)
    raise ValueError(
        f"error_residual_ratio: support has shape {support.shape} and type {support.dtype}; pass "
        f"{n} booleans, or the numbers of the selected rows"
    )

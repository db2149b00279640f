"""What a set of weights costs: effective sample size, concentration, largest rows."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import entr

from reweight.normalization import effective_sample_size, normalize_weights
from reweight.validation import check_groups

if TYPE_CHECKING:
    import pandas as pd


def concentration(weights: NDArray[np.float64]) -> dict[str, float]:
    """Measures of how unequal the weights of one group are, on any scale.

    Parameters
    ----------
    weights : ndarray of shape (n,)
        Non-negative weights, not all zero.

    Returns
    -------
    dict
        `n_rows`, `ess`, `ess_share`, `max_share`, `zero_share`, `entropy` and
        `gini`.

    Examples
    --------
    >>> concentration(np.array([1.0, 1.0, 0.0, 0.0]))["ess_share"]
    0.5
    """
    n = weights.size
    ordered = np.sort(weights / weights.max())
    share = ordered / ordered.sum()
    ess = effective_sample_size(share)
    return {
        "n_rows": n,
        "ess": ess,
        "ess_share": ess / n,
        "max_share": float(share[-1]),
        "zero_share": float(np.mean(weights == 0)),
        "entropy": float(entr(share).sum()),
        "gini": float(max((2 * np.arange(1, n + 1) - n - 1) @ share / n, 0.0)),
    }


@dataclass(frozen=True, repr=False)
class WeightReport:
    """What `weight_report` returns.

    Parameters
    ----------
    summary : pandas.DataFrame
        One row per group.
    largest : pandas.DataFrame
        The rows with the largest weights of each group.

    Examples
    --------
    >>> from reweight import weight_report
    >>> weight_report([1.0, 3.0]).largest["row"].tolist()
    [1, 0]
    """

    summary: "pd.DataFrame"
    largest: "pd.DataFrame"

    def __repr__(self) -> str:
        summary = self.summary.to_string(
            float_format="{:.4g}".format,
            formatters={
                column: "{:.1%}".format
                for column in ("ess_share", "max_share", "zero_share")
                if column in self.summary
            },
        )
        largest = self.largest.to_string(
            index=False, float_format="{:.4g}".format, formatters={"share": "{:.2%}".format}
        )
        return f"{summary}\n\nLargest weights\n{largest}"


def weight_report(
    weights: ArrayLike, groups: ArrayLike | None = None, *, n_largest: int = 10
) -> WeightReport:
    """Effective sample size, concentration and largest rows of weights.

    Nothing in the report depends on the scale of the weights.

    Parameters
    ----------
    weights : array-like of shape (n_samples,)
        Non-negative weights on any scale.
    groups : array-like of shape (n_samples,), default=None
        Group label of each row, such as the treatment arm; None means one group.
    n_largest : int, default=10
        Number of rows with the largest weights to list per group.

    Returns
    -------
    WeightReport
        A record that prints itself, with two data frames. `summary` has one
        row per group, in the order of the sorted labels, with `n_rows`, `ess`,
        `ess_share` of the rows, `max_share` of the largest weight in the total,
        `zero_share` of the rows, the `entropy` of the weights in nats (log
        `n_rows` if all are equal) and their `gini` coefficient (0 if all are
        equal). `largest` lists `group`, `row`, `weight` on the mean-one scale and
        `share` of the total.

    Raises
    ------
    ValueError
        If weights are negative, not finite, or sum to zero in a group, or if
        there is not one group label per row.

    References
    ----------
    Kish, L. (1965). Survey Sampling. Wiley.

    Examples
    --------
    >>> from reweight import weight_report
    >>> weight_report([2.0, 1.0, 1.0, 0.0], n_largest=2)
         n_rows   ess ess_share max_share zero_share  entropy  gini
    all       4 2.667     66.7%     50.0%      25.0%     1.04 0.375
    <BLANKLINE>
    Largest weights
    group  row  weight  share
      all    0       2 50.00%
      all    1       1 25.00%
    """
    import pandas as pd

    if not (isinstance(n_largest, int | np.integer) and n_largest >= 0):
        raise ValueError(
            f"weight_report: n_largest must be a non-negative integer, got {n_largest!r}"
        )
    weights = normalize_weights(weights, groups)
    labels, codes = check_groups(groups, weights.size)
    names = ["all"] if groups is None else labels.tolist()
    rows_of = [np.flatnonzero(codes == code) for code in range(len(names))]
    summary = pd.DataFrame(
        [concentration(weights[rows]) for rows in rows_of],
        index=pd.Index(names),
    )
    largest = [
        {"group": name, "row": int(row), "weight": weights[row], "share": weights[row] / len(rows)}
        for name, rows in zip(names, rows_of, strict=True)
        for row in rows[np.argsort(-weights[rows], kind="stable")[:n_largest]]
    ]
    columns = ["group", "row", "weight", "share"]
    return WeightReport(summary, pd.DataFrame(largest, columns=columns))

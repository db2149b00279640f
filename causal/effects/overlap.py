"""How much two treatment arms overlap, judged from the propensity."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from reweight.diagnostics.balance_table import balance_table
from reweight.normalization import effective_sample_size
from reweight.validation import check_sample_weight, check_treatment

if TYPE_CHECKING:
    import pandas as pd

Array = NDArray[np.float64]
QUANTILES = {"min": 0.0, "q01": 0.01, "q05": 0.05, "q25": 0.25, "median": 0.5} | {
    "q75": 0.75,
    "q95": 0.95,
    "q99": 0.99,
    "max": 1.0,
}
MARGINS = (0.05, 0.1)
ESTIMANDS = ("ATE", "ATT", "ATC", "ATO")


@dataclass(frozen=True, eq=False, repr=False)
class OverlapReport:
    """What `overlap_report` returns.

    Parameters
    ----------
    distribution : pandas.DataFrame
        One row per arm: number of rows, quantiles of the propensity, and the
        shares of rows whose propensity is outside [0.05, 0.95] and [0.1, 0.9].
    ess : pandas.DataFrame
        Effective sample size of each arm without weights and under the weights
        of each estimand.
    balance : pandas.DataFrame or None
        Standardised mean difference of each covariate without weights and
        under the weights of each estimand; None if there were no covariates.
    auc : float
        Area under the ROC curve of the propensity: 0.5 if it does not tell the
        arms apart, 1 if it does so perfectly.
    cutoff : float
        Rows with a propensity outside [cutoff, 1 - cutoff] cost more variance
        than they are worth; 0 if all are worth it.
    share_inside : float
        Share of the rows inside.
    propensity, treatment : ndarray of shape (n_samples,)
        What the report is about, for `plot`.

    Examples
    --------
    >>> from causal import overlap_report
    >>> overlap_report([0.2, 0.4, 0.5, 0.7], [0, 1, 0, 1]).auc
    0.75
    """

    distribution: "pd.DataFrame"
    ess: "pd.DataFrame"
    balance: "pd.DataFrame | None"
    auc: float
    cutoff: float
    share_inside: float
    propensity: Array
    treatment: NDArray

    def plot(self, ax: Any = None, *, bins: int = 30) -> Any:
        """Mirrored histogram of the propensity with the cut-off drawn in.

        Parameters
        ----------
        ax : matplotlib.axes.Axes, default=None
            Axes to draw on; None makes a new figure.
        bins : int, default=30
            Number of bins between 0 and 1.

        Returns
        -------
        matplotlib.axes.Axes
        """
        from causal.effects.plots import overlap_plot

        return overlap_plot(self.propensity, self.treatment, self.cutoff, ax, bins=bins)

    def __repr__(self) -> str:
        number = "{:.3g}".format
        parts = [
            "Propensity by arm",
            self.distribution.to_string(float_format=number),
            "\nEffective sample size",
            self.ess.to_string(float_format="{:.1f}".format),
        ]
        if self.balance is not None:
            worst = self.balance.abs().max().to_frame("largest |SMD|").T
            parts += ["\nBalance", worst.to_string(float_format=number)]
        parts.append(
            f"\nAUC {self.auc:.3f}; {self.share_inside:.1%} of the rows have a propensity in "
            f"[{self.cutoff:.3f}, {1 - self.cutoff:.3f}], where the variance is least"
        )
        return "\n".join(parts)


def overlap_report(
    propensity: ArrayLike,
    treatment: ArrayLike,
    X: Any = None,
    *,
    sample_weight: ArrayLike | None = None,
) -> OverlapReport:
    """Overlap of two treatment arms: propensities, effective sizes, balance, where to cut.

    Weights of an estimand are inverse propensities for the ATE, propensity
    odds for the ATT and ATC, and the propensity of the other arm for the ATO.
    The cut-off minimises the variance of an effect on the rows inside (Crump
    et al. 2009): the smallest a with
    1 / (a (1 - a)) <= 2 mean{1 / (e (1 - e)) : e (1 - e) >= a (1 - a)}.

    Parameters
    ----------
    propensity : array-like of shape (n_samples,)
        Probability of treatment of each row, best out of fold: `nuisances_`
        of an effect estimator has it.
    treatment : array-like of shape (n_samples,)
        Two-valued treatment; the larger label in sorted order is "treated".
    X : array-like of shape (n_samples, n_features), default=None
        Covariates, for their balance.
    sample_weight : array-like of shape (n_samples,), default=None
        Sampling weights.

    Returns
    -------
    OverlapReport
        A record that prints itself, with `plot()`.

    Raises
    ------
    ValueError
        If propensities are not between 0 and 1, a row has the arm that its
        propensity rules out, there are not two arms, or lengths differ.

    References
    ----------
    Crump, R. K., Hotz, V. J., Imbens, G. W. and Mitnik, O. A. (2009). Dealing
    with limited overlap in estimation of average treatment effects.
    Biometrika 96(1), 187-199.

    Examples
    --------
    >>> import numpy as np
    >>> from causal import overlap_report
    >>> rng = np.random.default_rng(0)
    >>> e = rng.beta(2, 3, size=1000)
    >>> report = overlap_report(e, rng.random(1000) < e)
    >>> bool(report.ess.loc["ATO"].min() > report.ess.loc["ATE"].min())
    True
    """
    import pandas as pd
    from sklearn.metrics import roc_auc_score

    e = _check_propensity(propensity)
    classes, arm = check_treatment(treatment, e)
    s = check_sample_weight(sample_weight, e)
    ruled_out = (s > 0) & np.where(arm == 1, e == 0, e == 1)
    if ruled_out.any():
        raise ValueError(
            f"overlap_report: {int(ruled_out.sum())} rows have the arm that their propensity of 0 "
            "or 1 rules out; pass propensities that were predicted out of fold, or clip them"
        )
    weights = {name: s * estimand_weights(name, e, arm) for name in ESTIMANDS}
    index = pd.Index(classes, name="treatment")
    ess = {"none": s, **weights}
    cutoff = variance_cutoff(e, s)
    inside = (e >= cutoff) & (e <= 1 - cutoff)
    return OverlapReport(
        distribution=pd.DataFrame([_distribution(e[arm == a], s[arm == a]) for a in (0, 1)], index),
        ess=pd.DataFrame(
            [effective_sample_size(w, arm) for w in ess.values()],
            index=pd.Index(ess, name="weights"),
            columns=index,
        ),
        balance=None if X is None else _balance(X, classes[arm], weights, s),
        auc=float(roc_auc_score(arm, e, sample_weight=s)),
        cutoff=cutoff,
        share_inside=float(np.average(inside, weights=s)),
        propensity=e,
        treatment=classes[arm],
    )


def estimand_weights(estimand: str, e: Array, arm: NDArray) -> Array:
    """Weights that make each arm resemble the population of an estimand.

    Parameters
    ----------
    estimand : {"ATE", "ATT", "ATC", "ATO"}
        Population.
    e : ndarray of shape (n_samples,)
        Propensity.
    arm : ndarray of int of shape (n_samples,)
        0 for controls, 1 for treated.

    Returns
    -------
    ndarray of shape (n_samples,)
    """
    own = np.where(arm == 1, e, 1 - e)
    with np.errstate(divide="ignore", invalid="ignore"):
        if estimand == "ATT":
            weights = np.where(arm == 1, 1.0, e / own)
        elif estimand == "ATC":
            weights = np.where(arm == 0, 1.0, (1 - e) / own)
        elif estimand == "ATO":
            weights = 1 - own
        else:
            weights = 1 / own
    # Rows that their propensity rules out have no sampling weight.
    return np.where(own > 0, weights, 0.0)


def variance_cutoff(e: Array, sample_weight: Array) -> float:
    """Propensity below which, and above one minus which, rows cost more than they are worth.

    Parameters
    ----------
    e : ndarray of shape (n_samples,)
        Propensity.
    sample_weight : ndarray of shape (n_samples,)
        Sampling weights.

    Returns
    -------
    float
    """
    kept = sample_weight > 0
    variance = e[kept] * (1 - e[kept])
    usable = variance > 0
    if not usable.any():
        return 0.5
    order = np.argsort(-variance[usable], kind="stable")
    cost = 1 / variance[usable][order]
    weight = sample_weight[kept][usable][order]
    limit = 2 * np.cumsum(weight * cost) / np.cumsum(weight)
    # Within ties the mean is that of all of them.
    last = np.searchsorted(cost, cost, side="right") - 1
    limit = limit[last]
    if usable.all() and cost[-1] <= limit[-1]:
        return 0.0
    best = limit[np.flatnonzero(cost <= limit)[-1]]
    return float(0.5 - np.sqrt(max(0.25 - 1 / best, 0.0)))


def _check_propensity(propensity: ArrayLike) -> Array:
    e = np.asarray(propensity, dtype=np.float64)
    if e.ndim != 1 or not e.size:
        raise ValueError(
            f"overlap_report: propensity has shape {e.shape}; pass one probability per row, for "
            "example predict_proba(X)[:, 1]"
        )
    outside = ~((e >= 0) & (e <= 1))
    if outside.any():
        raise ValueError(
            f"overlap_report: propensity has {int(outside.sum())} entries outside [0, 1], the "
            f"first {e[outside][0]:g}; pass probabilities of treatment"
        )
    return e


def _distribution(e: Array, s: Array) -> dict[str, float]:
    """Row count, quantiles and tail shares of one arm."""
    levels = list(QUANTILES.values())
    # The lowest quantile must not be that of a row without weight, as it is in older numpy.
    used = s > 0
    values = np.quantile(e[used], levels, weights=s[used], method="inverted_cdf")
    tails = {
        f"outside [{low:g}, {1 - low:g}]": np.average((e < low) | (e > 1 - low), weights=s)
        for low in MARGINS
    }
    return {"n_rows": len(e), **dict(zip(QUANTILES, values, strict=True)), **tails}


def _balance(X: Any, treatment: NDArray, weights: dict[str, Array], s: Array) -> "pd.DataFrame":
    """Standardised mean differences under each set of weights, in units of the ATE."""
    import pandas as pd

    columns = {}
    for name, w in weights.items():
        table = balance_table(X, treatment, w, sample_weight=s)
        columns.setdefault("none", table["smd_before"])
        columns[name] = table["smd_after"]
    return pd.DataFrame(columns)

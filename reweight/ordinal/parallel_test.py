"""Test of proportional odds."""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import chi2
from sklearn.exceptions import ConvergenceWarning

from reweight.ordinal._cumulative_logit import null_model
from reweight.ordinal._design import OrdinalDesign, check_rows, make_design
from reweight.ordinal._newton_cd import Penalty, newton_cd
from reweight.ordinal._path import warn_if_separated
from reweight.ordinal.relaxed_proportional_odds import RelaxedProportionalOdds
from reweight.solvers.result import SolverResult
from reweight.validation import warn_user

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class ParallelTest:
    """Likelihood-ratio test that all boundaries share their slopes.

    Parameters
    ----------
    statistic : float
        Twice the difference of the log-likelihoods.
    df : int
        Degrees of freedom: features that vary, times levels less two.
    p_value : float
        Upper tail of the chi-squared law.
    loglik_parallel : float
        Log-likelihood of proportional odds.
    loglik_free : float
        Log-likelihood with slopes of its own at each boundary.
    features : DataFrame
        By feature: statistic, df and p_value of the test that only its slopes
        differ, against proportional odds.
    """

    statistic: float
    df: int
    p_value: float
    loglik_parallel: float
    loglik_free: float
    features: "pd.DataFrame" = field(repr=False)


# Checks name the class of the estimator that they are made for.
_ASKER = type("parallel_test", (RelaxedProportionalOdds,), {})


def parallel_test(
    X: Any,
    y: ArrayLike,
    *,
    categories: ArrayLike | None = None,
    sample_weight: ArrayLike | None = None,
) -> ParallelTest:
    """Test whether one set of slopes serves all boundaries of an ordinal regression.

    Compares maximum likelihood under proportional odds with that of a model in
    which each boundary has its own slopes, for all features at once and for one
    at a time. A small p-value says that proportional odds fails; with many rows
    it will say so of differences too small to matter, so look at the size of the
    differences in a `RelaxedProportionalOdds` too.

    Parameters
    ----------
    X : array-like of shape (n_samples, n_features)
        Features.
    y : array-like of shape (n_samples,)
        Levels.
    categories : array-like of shape (n_classes,), default=None
        Levels from the lowest to the highest; None takes the order of an ordered
        categorical, otherwise the sorted labels.
    sample_weight : array-like of shape (n_samples,), default=None
        Numbers of rows that each row stands for. The statistic grows with their
        scale, and its law does not hold for weights that are no such numbers.

    Returns
    -------
    ParallelTest
        With attributes `statistic`, `df`, `p_value` and the table `features`.

    Raises
    ------
    TypeError
        If rows are not numeric.
    ValueError
        If rows or weights cannot be used, or there are fewer than three levels.

    References
    ----------
    Brant, R. (1990). Assessing proportionality in the proportional odds model for
    ordinal logistic regression. Biometrics 46, 1171-1178.

    Examples
    --------
    >>> import numpy as np
    >>> from reweight import parallel_test
    >>> rng = np.random.default_rng(0)
    >>> X = rng.normal(size=(600, 2))
    >>> y = np.digitize(X[:, 0] + rng.logistic(size=600), [0.0, 2.0])
    >>> result = parallel_test(X, y)
    >>> result.df, result.p_value > 0.05
    (2, True)
    """
    import pandas as pd

    asker = _ASKER(categories=categories)
    rows = check_rows(asker, X, y, sample_weight, smallest=3)
    design = make_design(rows, standardize=True)
    n_boundaries, q = design.problem.size
    names = getattr(asker, "feature_names_in_", np.arange(q - 1))
    varies = design.problem.Z[:, 1:].any(axis=0)
    parallel = _fit(design, np.zeros(q - 1, bool), null_model(design.problem))
    free = _fit(design, np.ones(q - 1, bool), parallel.x)
    _warn(asker, [parallel, free])
    table = []
    for j in range(q - 1):
        one = _fit(design, np.arange(q - 1) == j, parallel.x)
        df = (n_boundaries - 1) * int(varies[j])
        table.append(_compare(design, parallel, one, df))
    rank = int(np.linalg.matrix_rank(design.problem.Z[:, 1:]))
    statistic, df, p_value = _compare(design, parallel, free, rank * (n_boundaries - 1))
    return ParallelTest(
        statistic=statistic,
        df=df,
        p_value=p_value,
        loglik_parallel=-design.total_weight * parallel.objective,
        loglik_free=-design.total_weight * free.objective,
        features=pd.DataFrame(
            table, columns=["statistic", "df", "p_value"], index=pd.Index(names, name="feature")
        ),
    )


def _fit(design: OrdinalDesign, relaxed: NDArray[np.bool_], start: NDArray) -> SolverResult:
    """Maximum likelihood in which the slopes of some features differ between boundaries."""
    size = design.problem.size
    free = np.ones(size, bool)
    free[1:, 1:] = relaxed
    return newton_cd(design.problem, Penalty(np.zeros(size), np.zeros(size), free), start)


def _compare(
    design: OrdinalDesign, small: SolverResult, large: SolverResult, df: int
) -> tuple[float, int, float]:
    statistic = max(2 * design.total_weight * (small.objective - large.objective), 0.0)
    return statistic, df, float(chi2.sf(statistic, df)) if df else 1.0


def _warn(asker: RelaxedProportionalOdds, fits: list[SolverResult]) -> None:
    gap = max(fit.optimality_gap for fit in fits)
    if not all(fit.converged for fit in fits):
        warn_user(
            f"parallel_test: maximum likelihood was not reached, optimality gap {gap:.2g}; the "
            "features may separate levels; drop features or merge levels",
            ConvergenceWarning,
        )
    for fit in fits:
        warn_if_separated(asker, fit.x)

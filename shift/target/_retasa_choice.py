"""Bandwidths and strength of regularisation of ReTaSA, chosen from the data."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from reweight.kernels.bandwidth import resolve_bandwidth
from shift.target._retasa_solve import solve
from shift.target._retasa_system import Sample

if TYPE_CHECKING:
    import pandas as pd

Array = NDArray[np.float64]


def choose_bandwidth(
    z: Array, share: Array, bandwidth: Any, names: Sequence[str], owner: str
) -> Array:
    """A length for each column, from numbers or a rule for normal densities.

    Parameters
    ----------
    z : ndarray of shape (n, d)
        Source rows.
    share : ndarray of shape (n,)
        Sampling weights that sum to one; rules count rows by their effective
        sample size.
    bandwidth : float, array-like of shape (d,) or {"scott", "silverman"}
        What the user asked for.
    names : sequence of str
        What to call the columns.
    owner : str
        Who is asking, for error messages.

    Returns
    -------
    ndarray of shape (d,)

    Raises
    ------
    ValueError
        If a bandwidth is not positive, has the wrong shape, or a column is
        constant.
    """
    d = z.shape[1]
    if not isinstance(bandwidth, str):
        try:
            return np.broadcast_to(resolve_bandwidth(z, bandwidth), (d,)).copy()
        except ValueError as error:
            raise ValueError(f"{owner}: {error}") from error
    constant = [name for name, width in zip(names, np.ptp(z, axis=0), strict=True) if width == 0]
    if constant:
        raise ValueError(
            f"{owner}: columns {constant} are constant in the source, so bandwidth={bandwidth!r} "
            "gives 0 for them; drop them, or pass a number"
        )
    size = 1.0 / float(share @ share)
    deviations = z - share @ z
    sd = np.sqrt(share @ deviations**2 * size / (size - 1.0))
    factor = size ** (-1.0 / (d + 4))
    if bandwidth == "silverman":
        factor *= (4.0 / (d + 2)) ** (1.0 / (d + 4))
    return sd * factor


def choose_alpha(
    sample: Sample,
    solver: str,
    grid_density: float,
    nonnegative: str,
    alphas: Array,
    n_folds: int,
    rule_se: float,
    rng: np.random.RandomState,
) -> tuple[float, "pd.DataFrame"]:
    """Largest alpha whose density ratio of held-out features is nearly the best.

    With r = 1 + T rho the criterion is half the mean of r^2 over held-out
    source rows minus the mean of r over held-out target rows: up to a constant
    half the mean squared error of r as a density ratio. It sees rho only
    through T, so its minimum is flat and lies too low; the largest alpha
    within `rule_se` standard errors of it is taken.

    Parameters
    ----------
    sample : Sample
        The data.
    solver : str
        How to build the system.
    grid_density : float
        Nodes a bandwidth.
    nonnegative : {"clip", "constrained"}
        Which solution.
    alphas : ndarray of shape (n_alphas,)
        Candidates.
    n_folds : int
        Number of folds of both samples.
    rule_se : float
        Standard errors over folds that are given up for a larger alpha.
    rng : RandomState
        Deals rows out to folds.

    Returns
    -------
    alpha : float
    results : pandas.DataFrame
        Mean and standard error of the criterion at each candidate.
    """
    import pandas as pd

    alphas = np.sort(alphas)
    n, m = len(sample.y), len(sample.z_target)
    n_folds = min(n_folds, n // 5, m)
    source = rng.permutation(np.arange(n) % n_folds)
    target = rng.permutation(np.arange(m) % n_folds)
    scores = np.empty((n_folds, len(alphas)))
    for fold in range(n_folds):
        train = sample.rows(np.flatnonzero(source != fold), np.flatnonzero(target != fold))
        system = train.system(solver, grid_density)
        rho = [np.maximum(solve(system, alpha, nonnegative).x, -1.0) for alpha in alphas]
        ratio = system.ratio_function(np.column_stack(rho))
        scores[fold] = ratio_loss(
            ratio(sample.z[source == fold]),
            ratio(sample.z_target[target == fold]),
            sample.share[source == fold],
            sample.target_share[target == fold],
        )
    mean = scores.mean(axis=0)
    stderr = scores.std(axis=0, ddof=1) / np.sqrt(n_folds)
    best = int(np.argmin(mean))
    chosen = float(alphas[mean <= mean[best] + rule_se * stderr[best]].max())
    results = pd.DataFrame({"alpha": alphas, "mean_loss": mean, "stderr_loss": stderr})
    return chosen, results


def ratio_loss(ratio: Array, ratio_target: Array, share: Array, target_share: Array) -> Any:
    """Half the mean of r^2 over the source minus the mean of r over the target.

    Parameters
    ----------
    ratio : ndarray of shape (n,) or (n, k)
        r at source rows.
    ratio_target : ndarray of shape (m,) or (m, k)
        r at target rows.
    share : ndarray of shape (n,)
        Weights of the source rows.
    target_share : ndarray of shape (m,)
        Weights of the target rows.

    Returns
    -------
    float or ndarray of shape (k,)

    Examples
    --------
    >>> one = np.ones(3)
    >>> float(ratio_loss(one, one, one, one))
    -0.5
    """
    squares = share @ ratio**2 / share.sum()
    return 0.5 * squares - target_share @ ratio_target / target_share.sum()

"""Rules for the scale: how close two points must be to count as one."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import LinAlgError, cho_factor, cho_solve, solve
from scipy.optimize import brentq

from reweight.metric_space._points import PointSet, metric_label

# Above the first number of points the scale is found on the second.
MAX_POINTS = 2000
SUBSAMPLE = 1000
PARTS = 4
TOLERANCE = 1e-9
MAX_DOUBLINGS = 200


def choose_scale(
    points: PointSet,
    rule: str,
    fraction: float,
    rng: np.random.RandomState,
    indefinite: bool = False,
) -> float:
    """Inverse length t of exp(-t d) by a rule.

    Parameters
    ----------
    points : PointSet
        At least two distinct points.
    rule : {"magnitude", "median", "nn"}
        "magnitude" solves Mag(t X) = 1 + fraction (n - 1); "median" and "nn"
        are one over the median distance, of all pairs or of nearest neighbours.
    fraction : float
        Share of the largest magnitude.
    rng : numpy.random.RandomState
        Draws the subsample of many points.
    indefinite : bool, default=False
        Whether similarities may be indefinite.

    Returns
    -------
    float

    Raises
    ------
    ValueError
        If distances between distinct points are zero, or no scale gives the magnitude.
    """
    n = len(points)
    caller = points.name
    large = n > MAX_POINTS
    if large:
        index = rng.permutation(n)
        sample = np.sort(index[:SUBSAMPLE])
        if rule == "nn":
            return _one_over(_nearest_distances(points, sample), rule, caller)
        points = points.subset(sample)
    D = points.distances(points.data)
    if rule == "median":
        return _one_over(D[np.triu_indices(len(D), 1)], rule, caller)
    nearest = _one_over(_nearest(D), rule, caller)
    if rule == "nn":
        return nearest
    try:
        scale = _scale_of_fraction(D, fraction, indefinite)
        return scale * _growth(D, scale, fraction, n, indefinite) if large else scale
    except ValueError as error:
        raise ValueError(
            f"{caller}: no scale between those that make one point of all and those that set "
            f"each apart gives magnitude_fraction={fraction:g} with metric="
            f"{metric_label(points.metric)}; pass scale as a number"
        ) from error


def _one_over(distances: NDArray, rule: str, caller: str) -> float:
    """Inverse of the median of distances between distinct rows."""
    median = float(np.median(distances))
    if median == 0:
        raise ValueError(
            f"{caller}: scale={rule!r}: the metric gives distance 0 between most rows that differ; "
            "pass scale as a number, or another metric"
        )
    return 1.0 / median


def _nearest(D: NDArray) -> NDArray[np.float64]:
    """Distance of each point from the nearest other one."""
    D = D.copy()
    np.fill_diagonal(D, np.inf)
    return D.min(axis=1)


def _nearest_distances(points: PointSet, rows: NDArray) -> NDArray[np.float64]:
    """The same for some points of many."""
    D = points.distances(points.data[rows])
    D[np.arange(len(rows)), rows] = np.inf
    return D.min(axis=1)


def _magnitude(D: NDArray, scale: float, indefinite: bool) -> float:
    Z = np.exp(-scale * D)
    ones = np.ones(len(Z))
    if indefinite:
        return float(solve(Z, ones, assume_a="sym", check_finite=False).sum())
    try:
        factor = cho_factor(Z.T, lower=True, overwrite_a=True, check_finite=False)
    except LinAlgError:
        # So long a range that rounding makes Z singular: all points are nearly one.
        return 1.0
    return float(cho_solve(factor, ones, check_finite=False).sum())


def _scale_of_fraction(D: NDArray, fraction: float, indefinite: bool) -> float:
    """Scale at which the magnitude is 1 + fraction (n - 1), by bracketing in log t."""
    target = 1.0 + fraction * (len(D) - 1)

    def excess(log_scale: float) -> float:
        return _magnitude(D, np.exp(log_scale), indefinite) - target

    start = -np.log(np.median(_nearest(D)))
    above = excess(start) > 0
    step = -np.log(2.0) if above else np.log(2.0)
    end = _first_crossing(excess, start, step, above)
    low, high = sorted((start, end))
    return float(np.exp(brentq(excess, low, high, xtol=TOLERANCE)))


def _first_crossing(
    excess: Callable[[float], float], start: float, step: float, above: bool
) -> float:
    for count in range(1, MAX_DOUBLINGS + 1):
        if (excess(start + count * step) > 0) != above:
            return start + count * step
    raise ValueError("no scale gives the magnitude asked for")


def _growth(D: NDArray, scale: float, fraction: float, n: int, indefinite: bool) -> float:
    """Factor on the scale of a subsample for n points.

    Parts of the subsample tell by what power the scale grows with the number
    of points, which is one over the dimension that distances see.
    """
    m = len(D)
    parts = [np.arange(start, m, PARTS) for start in range(PARTS)]
    smaller = np.mean(
        [np.log(_scale_of_fraction(D[np.ix_(rows, rows)], fraction, indefinite)) for rows in parts]
    )
    power = (np.log(scale) - smaller) / np.log(PARTS)
    return float((n / m) ** np.clip(power, 0.0, 1.0))

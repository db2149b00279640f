"""How many standardised residuals are too large to be noise: nulls, p-values, local rates."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize, minimize_scalar
from scipy.special import expit, ndtr, stdtr
from sklearn.isotonic import isotonic_regression

from reweight.kernels.order_statistics import conformal_p_values

Array = NDArray[np.float64]

NORMAL_IQR = 1.349
MAD_TO_STD = 1.4826
# Degrees of freedom of scaled noise; infinity is the normal law. Two, a law without variance, would
# pass a good part of any errors off as its tails.
DEGREES = (3.0, 5.0, 10.0, np.inf)
# Absolute residuals are counted in bins up to so many robust standard deviations; what lies beyond
# is one bin, so that an error of any size is just an error.
CAP = 12.0
N_BINS = 120
# Errors lie around a place at least so many robust standard deviations out.
NEAREST_ERRORS = 3.0
NARROWEST_ERRORS = 0.5
LARGEST_ERROR_SHARE = 0.45
# Log likelihood that a second component must gain to be believed: 2 x 4 is the 95 % point of
# chi-squared for its three parameters.
NEEDED_GAIN = 4.0
SMALLEST_P = 1e-300
LOG_SCALE_BOUNDS = (-1.6, 1.0)


@dataclass(frozen=True)
class Null:
    """Law of standardised residuals of correct rows, and their share.

    Parameters
    ----------
    center, scale : float
        Of the residuals.
    df : float
        Degrees of freedom of Student's law, infinity for the normal and 0 for Laplace's.
    share : float
        Estimated share of correct rows.
    """

    center: float
    scale: float
    df: float
    share: float = 1.0

    def p_values(self, z: Array) -> Array:
        """Probability that the residual of a correct row is as large."""
        size = np.abs(z - self.center) / self.scale
        return np.maximum(_two_tails(size, self.df), SMALLEST_P)


def _two_tails(size: Array, df: float) -> Array:
    """P(|Z| >= size) under the standard law."""
    if df == 0:
        return np.exp(-size)
    return 2 * (ndtr(-size) if np.isinf(df) else stdtr(df, -size))


def _quantile(values: Array, level: float, weights: Array) -> float:
    """Quantile that changes its sign with the values, as steps of the distribution are halved."""
    lower = np.quantile(values, level, weights=weights, method="inverted_cdf")
    upper = -np.quantile(-values, 1 - level, weights=weights, method="inverted_cdf")
    return float(0.5 * (lower + upper))


def _robust_scale(size: Array, weights: Array) -> float:
    """Median of absolute residuals, or their mean where that is zero."""
    for scale in (_quantile(size, 0.5, weights), np.average(size, weights=weights)):
        if scale > 0:
            return float(scale)
    return 1.0


def storey_share(p: Array, weights: Array) -> float:
    """Share of correct rows by the density of p-values above one half."""
    share = np.average(p > 0.5, weights=weights) / 0.5
    return float(min(1.0, max(share, 1 / len(p))))


def normal_null(z: Array, weights: Array) -> Null:
    """Normal law through the quartiles."""
    center = _quantile(z, 0.5, weights)
    scale = (_quantile(z, 0.75, weights) - _quantile(z, 0.25, weights)) / NORMAL_IQR
    if scale <= 0:
        scale = _robust_scale(np.abs(z - center), weights)
    return _with_share(Null(center, scale, np.inf), z, weights)


def laplace_null(z: Array, weights: Array) -> Null:
    """Laplace's law through the median of the absolute residuals: p = 2^(-|z| / median)."""
    center = _quantile(z, 0.5, weights)
    scale = _robust_scale(np.abs(z - center), weights) / np.log(2)
    return _with_share(Null(center, scale, 0.0), z, weights)


def _with_share(null: Null, z: Array, weights: Array) -> Null:
    share = storey_share(null.p_values(z), weights)
    return Null(null.center, null.scale, null.df, share)


def mixture_null(z: Array, weights: Array) -> Null:
    """Student's law of unknown tails, beside a component of errors that lies away from zero.

    Standardised residuals of correct rows have heavier tails than normal ones,
    because the scale that they were divided by is estimated. A quantile ratio
    cannot tell such tails from errors, which fatten the same quantiles; the
    shape can: tails fall, errors heap up. So two models of the absolute
    residuals compete by likelihood, Student's law alone and Student's law
    mixed with a folded normal around a place at least three robust standard
    deviations out. The second must gain what three more parameters gain by
    chance in 5 % of cases.
    """
    center = _quantile(z, 0.5, weights)
    size = np.abs(z - center)
    unit = _robust_scale(size, weights) * MAD_TO_STD
    edges = np.linspace(0, CAP, N_BINS + 1)
    number = np.minimum(size / unit * (N_BINS / CAP), N_BINS).astype(np.intp)
    counts = np.bincount(number, weights * (len(z) / weights.sum()), minlength=N_BINS + 1)
    alone, mixed = None, None
    for df in DEGREES:
        found = _fit_alone(edges, counts, df)
        alone = found if alone is None else max(alone, found)
        for start in ((-1.5, 0.0, 0.0), (-1.0, 1.5, 1.0)):
            found = _fit_mixture(edges, counts, df, (alone[1], *start))
            mixed = found if mixed is None else max(mixed, found)
    _, log_scale, df, share = mixed if mixed[0] - alone[0] > NEEDED_GAIN else alone
    return Null(center, unit * float(np.exp(log_scale)), df, share)


def _log_likelihood(counts: Array, masses: Array) -> float:
    return float(counts @ np.log(masses + SMALLEST_P))


def _null_masses(edges: Array, scale: float, df: float) -> Array:
    tails = _two_tails(edges / scale, df)
    return np.append(tails[:-1] - tails[1:], tails[-1])


def _error_masses(edges: Array, place: float, width: float) -> Array:
    below = ndtr((edges - place) / width) - ndtr((-edges - place) / width)
    return np.append(np.diff(below), 1 - below[-1])


def _fit_alone(edges: Array, counts: Array, df: float) -> tuple[float, float, float, float]:
    """Log likelihood, log scale, df and the share 1 of the null without errors."""
    best = minimize_scalar(
        lambda log_scale: -_log_likelihood(counts, _null_masses(edges, np.exp(log_scale), df)),
        bounds=LOG_SCALE_BOUNDS,
        method="bounded",
    )
    return -float(best.fun), float(best.x), df, 1.0


def _fit_mixture(
    edges: Array, counts: Array, df: float, start: tuple[float, ...]
) -> tuple[float, float, float, float]:
    """Log likelihood, log scale, df and share of the null beside errors."""

    def loss(theta):
        log_scale, odds, place, width = theta
        errors = LARGEST_ERROR_SHARE * expit(odds)
        bump = _error_masses(
            edges, NEAREST_ERRORS + np.exp(place), NARROWEST_ERRORS + np.exp(width)
        )
        masses = (1 - errors) * _null_masses(edges, np.exp(log_scale), df) + errors * bump
        # A vague prior keeps the place and width of a component without rows from drifting off.
        prior = ((place - 1) ** 2 + width**2) / 8
        return prior - _log_likelihood(counts, masses)

    bounds = [LOG_SCALE_BOUNDS, (-6, 3), (-3, 3), (-3, 3)]
    best = minimize(loss, start, method="L-BFGS-B", bounds=bounds)
    share = 1 - LARGEST_ERROR_SHARE * float(expit(best.x[1]))
    return -float(best.fun), float(best.x[0]), df, share


NULLS = {"mixture": mixture_null, "normal": normal_null, "laplace": laplace_null}


def null_p_values(
    name: str,
    z: Array,
    weights: Array,
    rows: NDArray[np.intp],
    clean: NDArray[np.intp],
) -> tuple[Array, float]:
    """p-values of all rows, and the share of correct rows.

    Parameters
    ----------
    name : str
        A key of `NULLS`, or "conformal".
    z : ndarray of shape (n_samples,)
        Standardised residuals.
    weights : ndarray of shape (n_samples,)
        Sampling weights.
    rows, clean : ndarray of int
        Rows of positive weight, and those of them known to be correct.

    Returns
    -------
    p_values : ndarray of shape (n_samples,)
    null_share : float
    """
    if name != "conformal":
        null = NULLS[name](z[rows], weights[rows])
        return null.p_values(z), null.share
    size = np.abs(z)
    p = np.ones(len(z))
    others = np.setdiff1d(np.arange(len(z)), clean)
    if len(others):
        p[others] = conformal_p_values(size[others], size[clean])
    judged = np.setdiff1d(rows, clean)
    return p, storey_share(p[judged], weights[judged]) if len(judged) else 1.0


def discoveries(p: Array, null_share: float, fdr: float, weights: Array) -> NDArray[np.bool_]:
    """Rows up to the largest p with null_share p <= fdr F(p), F the share of rows at most p."""
    order = np.argsort(p, kind="stable")
    share = np.cumsum(weights[order]) / weights.sum()
    passing = np.flatnonzero(null_share * p[order] <= fdr * share)
    if not len(passing):
        return np.zeros(len(p), dtype=bool)
    return p <= p[order[passing[-1]]]


def local_null_probability(p: Array, null_share: float, weights: Array) -> Array:
    """Probability that each row is correct, given its p-value.

    It is null_share / f(p) with f the decreasing density of the p-values, the
    slope of the least concave majorant of their distribution function
    (Grenander), so that rows with larger p are never less probably correct.
    """
    values, code = np.unique(p, return_inverse=True)
    mass = np.bincount(code, weights) / weights.sum()
    if values[-1] < 1:
        values, mass = np.append(values, 1.0), np.append(mass, 0.0)
    gaps = np.diff(np.concatenate([[0.0], values]))
    density = isotonic_regression(mass / gaps, sample_weight=gaps, increasing=False)
    return np.minimum(1.0, null_share / np.maximum(density[code], SMALLEST_P))

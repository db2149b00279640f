"""Accuracy of two classifiers on the same rows, and how sure its difference is."""

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.stats import norm

from reweight.normalization import effective_sample_size

Array = NDArray[np.float64]


def paired_difference(
    right: NDArray[np.bool_], right_reference: NDArray[np.bool_], weight: Array
) -> tuple[float, float, float, float, float]:
    """Difference of accuracies, its standard error, shares gained and lost, and effective rows.

    Parameters
    ----------
    right : ndarray of bool of shape (n_samples,)
        Whether the classifier is right.
    right_reference : ndarray of bool of shape (n_samples,)
        Whether the one it is compared with is.
    weight : ndarray of shape (n_samples,)
        Weight of each row.

    Returns
    -------
    difference, stderr, gained, lost, n_effective : float
    """
    n = effective_sample_size(weight)
    gained = float(np.average(right & ~right_reference, weights=weight))
    lost = float(np.average(~right & right_reference, weights=weight))
    difference = gained - lost
    variance = max(gained + lost - difference**2, 0.0)
    return difference, (variance / n) ** 0.5, gained, lost, n


def difference_lower_bound(
    gained: float, lost: float, n_samples: float, confidence_level: float
) -> float:
    """Lower confidence bound of a difference of paired shares, from Tango's score test.

    Parameters
    ----------
    gained : float
        Share of rows that only the first gets right.
    lost : float
        Share that only the second does.
    n_samples : float
        Number of rows.
    confidence_level : float
        Probability that the bound lies below the difference.

    Returns
    -------
    float

    References
    ----------
    Tango, T. (1998). Equivalence test and confidence interval for the
    difference in proportions for the paired-sample design. Statistics in
    Medicine, 17.
    """
    z = norm.ppf(confidence_level)

    def excess(delta: float) -> float:
        # The share lost under a difference of delta is the root of a quadratic.
        b = (2 + lost - gained) * delta - gained - lost
        share = (np.sqrt(max(b * b + 8 * lost * delta * (1 - delta), 0.0)) - b) / 4
        variance = max(2 * share + delta * (1 - delta), 0.0)
        return gained - lost - delta - z * np.sqrt(variance / n_samples)

    difference = gained - lost
    # Without rows that differ, the difference itself is a second root.
    upper = difference - 1e-9
    if upper <= -1 or excess(upper) >= 0:
        return difference
    return float(brentq(excess, -1.0, upper, xtol=1e-12))

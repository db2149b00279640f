"""Half-spaces on which two weighted samples differ most: along directions, and by rotation."""

import numpy as np
from numba import njit
from numpy.typing import NDArray

GAIN = 1e-12


@njit(cache=True, nogil=True)
def sorted_supremum(projection, order, signed):
    """Partial sum of largest absolute value of signed weights along a sorted projection.

    Parameters
    ----------
    projection : ndarray of shape (n,)
        Projections of the rows.
    order : ndarray of int of shape (n,)
        Their sorting permutation.
    signed : ndarray of shape (n,)
        Weight of a row in one sample less its weight in the other.

    Returns
    -------
    float
        The partial sum, with its sign.
    int
        The last row that it includes; -1 where no partial sum differs from zero.
    """
    n = len(signed)
    total, best, where = 0.0, 0.0, -1
    for k in range(n):
        row = order[k]
        total += signed[row]
        # Rows that tie belong to the same half-spaces.
        if k + 1 < n and projection[order[k + 1]] == projection[row]:
            continue
        if abs(total) > abs(best):
            best, where = total, row
    return best, where


@njit(cache=True, nogil=True)
def _suprema(projections, orders, signed, value, threshold):
    for d in range(len(value)):
        value[d], row = sorted_supremum(projections[d], orders[d], signed)
        threshold[d] = projections[d, row] if row >= 0 else -np.inf


def half_space_suprema(
    projections: NDArray[np.float64],
    signed: NDArray[np.float64],
    orders: NDArray[np.intp] | None = None,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Weighted Kolmogorov-Smirnov statistic along each direction, and where it is attained.

    Parameters
    ----------
    projections : ndarray of shape (D, n)
        Projections of the rows on each direction.
    signed : ndarray of shape (n,)
        Weight of a row in one sample less its weight in the other.
    orders : ndarray of int of shape (D, n), default=None
        Sorting permutations, where they are known.

    Returns
    -------
    value : ndarray of shape (D,)
        Difference of largest absolute value, with its sign.
    threshold : ndarray of shape (D,)
        It is the difference on {projection <= threshold}.

    Examples
    --------
    >>> import numpy as np
    >>> value, threshold = half_space_suprema(
    ...     np.array([[0.0, 1.0, 2.0]]), np.array([0.5, -1.0, 0.5])
    ... )
    >>> value, threshold
    (array([0.5]), array([0.]))
    """
    if orders is None:
        orders = np.argsort(projections, axis=1, kind="stable")
    value, threshold = np.empty(len(projections)), np.empty(len(projections))
    _suprema(
        np.ascontiguousarray(projections), np.ascontiguousarray(orders), signed, value, threshold
    )
    return value, threshold


@njit(cache=True, nogil=True)
def best_rotation(along, across, signed, angle):
    """Angle at which a half-space with a boundary through the origin of a plane differs most.

    Rotated by phi the half-space is {cos(phi) along + sin(phi) across <= 0}, with or
    without the points at the origin. Each other point enters or leaves once as phi
    goes from 0 to pi, and the half-spaces beyond are complements.

    Parameters
    ----------
    along, across : ndarray of shape (n,)
        Coordinates of the rows about the pivot, in the plane of the rotation.
    signed : ndarray of shape (n,)
        Weight of a row in one sample less its weight in the other; sum zero.
    angle : ndarray of shape (n,)
        Work space.

    Returns
    -------
    float
        The angle, halfway between two crossings.
    float
        The difference there, in absolute value.
    """
    n = len(signed)
    inside_sum, pivot_sum = 0.0, 0.0
    for i in range(n):
        if along[i] == 0.0 and across[i] == 0.0:
            pivot_sum += signed[i]
            angle[i] = np.inf
            continue
        # The crossing lies a quarter turn from the point.
        crossing = np.arctan2(-along[i], across[i])
        if crossing < 0.0:
            crossing += np.pi
        angle[i] = crossing if crossing < np.pi else 0.0
        if along[i] < 0.0 or (along[i] == 0.0 and across[i] < 0.0):
            inside_sum += signed[i]
    order = np.argsort(angle)
    best = max(abs(inside_sum), abs(inside_sum + pivot_sum))
    where = 0.5 * min(angle[order[0]], np.pi)
    for k in range(n):
        i = order[k]
        if angle[i] == np.inf:
            break
        inside = along[i] < 0.0 or (along[i] == 0.0 and across[i] < 0.0)
        inside_sum += -signed[i] if inside else signed[i]
        after = min(angle[order[k + 1]], np.pi) if k + 1 < n else np.pi
        difference = max(abs(inside_sum), abs(inside_sum + pivot_sum))
        if after > angle[i] and difference > best:
            best, where = difference, 0.5 * (angle[i] + after)
    return where, best


@njit(cache=True, nogil=True)
def rotate_search(points, signed, direction, planes):
    """Local search: rotate the half-space about a boundary row in one plane after another.

    Parameters
    ----------
    points : ndarray of shape (n, p)
        Rows.
    signed : ndarray of shape (n,)
        Weight of a row in one sample less its weight in the other; sum zero.
    direction : ndarray of shape (p,)
        Unit normal to start from; changed in place to the best one found.
    planes : ndarray of shape (k, p)
        Second directions of the planes, tried in turn and again until none helps.

    Returns
    -------
    float
        The largest difference found, in absolute value.
    """
    n = len(points)
    angle, across, shifted = np.empty(n), np.empty(n), np.empty(n)
    along = points @ direction
    difference, pivot = sorted_supremum(along, np.argsort(along), signed)
    value = abs(difference)
    idle, k = 0, 0
    while idle < len(planes) and pivot >= 0:
        second = planes[k] - (planes[k] @ direction) * direction
        k = (k + 1) % len(planes)
        idle += 1
        length = np.sqrt(second @ second)
        if length < 1e-8:
            continue
        second /= length
        across[:] = points @ second
        across -= across[pivot]
        shifted[:] = along - along[pivot]
        phi, best = best_rotation(shifted, across, signed, angle)
        if best <= value + GAIN:
            continue
        trial = np.cos(phi) * direction + np.sin(phi) * second
        trial /= np.sqrt(trial @ trial)
        projection = points @ trial
        difference, row = sorted_supremum(projection, np.argsort(projection), signed)
        # Rows that round-off places on the other side of the boundary may cost the gain.
        if abs(difference) > value + GAIN:
            value, pivot, idle = abs(difference), row, 0
            direction[:], along[:] = trial, projection
    return value

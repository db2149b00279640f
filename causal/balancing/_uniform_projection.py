"""Polynomials on the unit cube, and the weights that a projection onto them implies."""

from dataclasses import dataclass

import numpy as np
from numpy.polynomial.legendre import legvander
from numpy.typing import NDArray
from sklearn.preprocessing import PolynomialFeatures

Array = NDArray[np.float64]
RANK_TOL = 1e-10


def legendre_features(
    phi: Array, degree: int, interactions: bool
) -> tuple[Array, NDArray[np.intp]]:
    """Products of shifted Legendre polynomials, orthonormal under uniform rows.

    They span the monomials of the same total degree, without their bad
    conditioning.

    Parameters
    ----------
    phi : ndarray of shape (n, d)
        Points of the unit cube.
    degree : int
        Largest total degree.
    interactions : bool
        Whether products of different columns are included.

    Returns
    -------
    features : ndarray of shape (n, m)
        The first is one.
    powers : ndarray of int of shape (m, d)
        Degree of each feature in each column.
    """
    d = phi.shape[1]
    if interactions:
        powers = PolynomialFeatures(degree).fit(np.zeros((1, d))).powers_
    else:
        steps = np.arange(1, degree + 1)[:, None, None] * np.eye(d, dtype=np.intp)
        powers = np.vstack([np.zeros((1, d), dtype=np.intp), steps.reshape(-1, d)])
    norms = np.sqrt(2 * np.arange(degree + 1) + 1)
    features = np.ones((len(phi), len(powers)))
    for k in range(d):
        one = legvander(2 * phi[:, k] - 1, degree) * norms
        used = powers[:, k] > 0
        features[:, used] *= one[:, powers[used, k]]
    return features, powers


@dataclass(frozen=True)
class Projection:
    """Weights of reference rows.

    Parameters
    ----------
    weights : ndarray of shape (n,)
        On any scale; may be negative.
    imbalance : ndarray of shape (m,)
        Weighted mean of each feature less its goal.
    """

    weights: Array
    imbalance: Array


def least_squares_weights(features: Array, weight: Array, goal: Array) -> Projection:
    """Weights by which a least-squares fit predicts the mean outcome at a goal.

    The prediction at the mean features `goal`, of the regression of an outcome
    on `features` with weights `weight`, is linear in the outcomes; these are
    its coefficients. Of all weights that balance the features exactly they have
    the least sum of squares relative to `weight`.

    Parameters
    ----------
    features : ndarray of shape (n, m)
        Functions of the rows, with the constant.
    weight : ndarray of shape (n,)
        Sampling weights.
    goal : ndarray of shape (m,)
        Mean features of the target.

    Returns
    -------
    Projection
        Weights sum to one. Where none balance all features, they come closest
        in the sum of squares.
    """
    share = weight / weight.sum()
    center = share @ features
    root = np.sqrt(share)
    left, singular, right = np.linalg.svd(root[:, None] * (features - center), full_matrices=False)
    # Orthonormal features have singular values of about one; fewer rows than features, none.
    kept = singular > RANK_TOL * max(singular[0], 1.0)
    tilt = left[:, kept] @ ((right[kept] @ (goal - center)) / singular[kept])
    weights = share + root * tilt
    return Projection(weights, features.T @ weights - goal)


def identity_weights(features: Array, weight: Array, goal: Array) -> Projection:
    """Weights of the projection in the population, where features are orthonormal.

    Parameters
    ----------
    features, weight, goal
        As in `least_squares_weights`.

    Returns
    -------
    Projection
        Its imbalance is that of weights that sum to one.
    """
    weights = weight * (features @ goal)
    return Projection(weights, features.T @ weights / weights.sum() - goal)

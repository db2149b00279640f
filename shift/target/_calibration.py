"""Calibration of class probabilities: softmax of scaled and shifted log probabilities."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import block_diag
from scipy.special import log_softmax

from reweight.kernels.chunks import row_slices
from reweight.solvers.damped_newton import damped_newton
from reweight.solvers.result import SolverResult

Array = NDArray[np.float64]

CALIBRATIONS = ("ts", "bcts", "vs", "nbvs")
# Smallest probability whose logarithm is taken.
FLOOR = 1e-12


@dataclass(frozen=True, eq=False)
class Calibration:
    """A fitted map of probabilities, softmax(scale * log P + bias).

    Parameters
    ----------
    scale : ndarray of shape (n_classes,)
        Factor of each log probability; the inverse temperature in all of them
        for "ts" and "bcts".
    bias : ndarray of shape (n_classes,)
        Shift of each, summing to zero; zeros for "ts" and "nbvs".
    design : ndarray of shape (2 * n_classes, n_parameters)
        Free parameters to scale and bias.
    result : SolverResult
        How the parameters were found.
    """

    scale: Array
    bias: Array
    design: Array
    result: SolverResult

    def __call__(self, P: Array) -> Array:
        """Calibrated probabilities of rows."""
        out = np.empty(P.shape)
        for rows in row_slices(len(P)):
            out[rows] = _apply(log_probabilities(P[rows]), self.scale, self.bias)
        return out

    def moved(self, step: Array) -> "Calibration":
        """The map with its free parameters moved by a step."""
        scale, bias = np.split(self.design @ step, 2)
        return Calibration(self.scale + scale, self.bias + bias, self.design, self.result)

    def influence(self, P: Array, codes: NDArray[np.intp], share: Array) -> Array:
        """Influence of each held-out row on the free parameters, (n_samples, n_parameters)."""
        z = log_probabilities(P)
        p = _apply(z, self.scale, self.bias)
        hessian = self.design.T @ _full_hessian(z, p, share) @ self.design
        p[np.arange(len(p)), codes] -= 1.0
        scores = np.hstack([p * z, p]) @ self.design
        # Where classes are separated perfectly, directions of no curvature do not matter.
        return -scores @ np.linalg.pinv(hessian, rcond=1e-12, hermitian=True)


def log_probabilities(P: Array) -> Array:
    """Logarithms of probabilities, of which those below the floor are raised to it."""
    return np.log(np.maximum(P, FLOOR))


def tangent_basis(n: int) -> Array:
    """Orthonormal columns that span the vectors whose entries sum to zero, shape (n, n - 1)."""
    return np.linalg.qr(np.column_stack([np.ones(n), np.eye(n)[:, : n - 1]]))[0][:, 1:]


def fit_calibration(
    P: Array, codes: NDArray[np.intp], share: Array, kind: str, *, max_iter: int = 200
) -> Calibration:
    """Scale and bias that minimise the log loss of held-out rows.

    The loss is convex in the inverse temperature, so Newton's method finds its
    minimum; a scale below zero says that the probabilities point the wrong way.

    Parameters
    ----------
    P : ndarray of shape (n_samples, n_classes)
        Probabilities of held-out rows.
    codes : ndarray of int of shape (n_samples,)
        Column of the class of each row.
    share : ndarray of shape (n_samples,)
        Weights that sum to one.
    kind : {"ts", "bcts", "vs", "nbvs"}
        Temperature scaling, the same with a bias for each class, vector
        scaling, or vector scaling without bias.
    max_iter : int, default=200
        Largest number of Newton steps.

    Returns
    -------
    Calibration
    """
    n_classes = P.shape[1]
    design = _design(kind, n_classes)
    start = np.zeros(design.shape[1])
    start[: 1 if kind in ("ts", "bcts") else n_classes] = 1.0
    z = log_probabilities(P)
    rows = np.arange(len(z))

    def loss(theta: Array) -> tuple[float, Array, Array]:
        scale, bias = np.split(design @ theta, 2)
        log_p = log_softmax(z * scale + bias, axis=1)
        value = -float(share @ log_p[rows, codes])
        p = np.exp(log_p)
        hessian = design.T @ _full_hessian(z, p, share) @ design
        p[rows, codes] -= 1.0
        p *= share[:, None]
        gradient = np.concatenate([(p * z).sum(axis=0), p.sum(axis=0)]) @ design
        return value, gradient, hessian

    result = damped_newton(loss, start, tol=1e-9, max_iter=max_iter)
    scale, bias = np.split(design @ result.x, 2)
    return Calibration(scale, bias, design, result)


def _design(kind: str, n_classes: int) -> Array:
    """Linear map from the free parameters of a kind to (scale, bias)."""
    scale = np.ones((n_classes, 1)) if kind in ("ts", "bcts") else np.eye(n_classes)
    if kind in ("ts", "nbvs"):
        return np.vstack([scale, np.zeros_like(scale)])
    return block_diag(scale, tangent_basis(n_classes))


def _apply(z: Array, scale: Array, bias: Array) -> Array:
    """Softmax of the rows of scale * z + bias."""
    eta = z * scale
    eta += bias
    # With few columns, reductions by column are several times faster than by row.
    highest = eta[:, 0].copy()
    for column in eta.T[1:]:
        np.maximum(highest, column, out=highest)
    eta -= highest[:, None]
    np.exp(eta, out=eta)
    eta /= (eta @ np.ones(eta.shape[1]))[:, None]
    return eta


def _full_hessian(z: Array, p: Array, share: Array) -> Array:
    """Second derivatives of the mean log loss by all scales and all biases."""
    moved = np.hstack([p * z, p])
    hessian = -(moved * share[:, None]).T @ moved
    n = z.shape[1]
    diagonals = {(0, 0): p * z * z, (0, n): p * z, (n, 0): p * z, (n, n): p}
    for (row, column), values in diagonals.items():
        index = np.arange(n)
        hessian[row + index, column + index] += share @ values
    return hessian

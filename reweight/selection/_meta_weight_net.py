"""Weights of rows by a small net of their loss, learned on trusted rows beside a linear model."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, log_softmax
from sklearn.utils import check_random_state

Array = NDArray[np.float64]

N_STEPS = 1000
# Before the model has learned something, losses say nothing about labels, and V may learn to favour
# high ones, which confirms itself.
WARMUP_STEPS = 200
RATE = 0.5
META_RATE = 1e-2
ALPHA = 1e-2
HIDDEN = 20
# Adam's usual constants.
DECAY_MEAN, DECAY_SQUARE, FLOOR = 0.9, 0.999, 1e-8


def meta_weights(X: Array, y: Array, X_val: Array, y_val: Array, *, random_state: Any) -> Array:
    r"""Weights V(loss) of rows, with V trained so that the weighted fit does well on trusted rows.

    The model is a softmax regression by gradient descent on the mean loss with
    weights that sum to one: without that, V would first learn that larger steps help,
    and end up constant. In each step the derivative of the trusted loss after a step
    in the weights, :math:`-\eta \langle g_{val}, g_i \rangle` less its weighted mean
    and over the sum of the weights, moves V; then the model takes the step.

    Parameters
    ----------
    X : ndarray of shape (m, p)
        Features.
    y : ndarray of int of shape (m,)
        Codes of the classes.
    X_val : ndarray of shape (n_val, p)
        Trusted features.
    y_val : ndarray of int of shape (n_val,)
        Trusted codes.
    random_state : int, RandomState instance or None
        Start of V.

    Returns
    -------
    ndarray of shape (m,)
        In (0, 1).
    """
    rng = check_random_state(random_state)
    n_classes = 1 + max(int(y.max()), int(y_val.max()))
    Z, Z_val = _with_constant(X, X), _with_constant(X_val, X)
    # Gradient descent on a softmax regression is stable below 2 / (largest eigenvalue / 2).
    rate = RATE * 4.0 / np.linalg.norm(Z.T @ Z / len(Z), 2)
    labels, labels_val = np.eye(n_classes)[y], np.eye(n_classes)[y_val]
    theta = np.zeros((Z.shape[1], n_classes))
    net = LossNet(rng)
    for step in range(N_STEPS):
        losses, errors = _losses(Z @ theta, labels)
        if step < WARMUP_STEPS:
            theta = theta - rate * _gradient(Z, errors, np.ones(len(Z)), theta)
            continue
        w = net.values(losses)
        ahead = theta - rate * _gradient(Z, errors, w, theta)
        _, errors_val = _losses(Z_val @ ahead, labels_val)
        g_val = Z_val.T @ errors_val / len(Z_val)
        slopes = -rate * ((Z @ g_val) * errors).sum(axis=1)
        net.step((slopes - np.average(slopes, weights=w)) / w.sum())
        w = net.values(losses)
        theta = theta - rate * _gradient(Z, errors, w, theta)
    return net.values(_losses(Z @ theta, labels)[0])


class LossNet:
    """A net from a loss to a weight, with a hidden layer, a sigmoid and Adam.

    Parameters
    ----------
    rng : RandomState
        Source of the start.
    """

    def __init__(self, rng: np.random.RandomState) -> None:
        bound = 1.0 / np.sqrt(HIDDEN)
        # Kinks of the rectifiers lie among losses from 0 to 3.
        slope = rng.uniform(-1.0, 1.0, HIDDEN)
        self.params = [
            slope,
            -slope * rng.uniform(0.0, 3.0, HIDDEN),
            0.1 * rng.uniform(-bound, bound, HIDDEN),
            np.zeros(1),
        ]
        self._mean = [np.zeros_like(p) for p in self.params]
        self._square = [np.zeros_like(p) for p in self.params]
        self._n_steps = 0

    def values(self, losses: Array) -> Array:
        """Weights of losses.

        Parameters
        ----------
        losses : ndarray of shape (m,)
            Losses.

        Returns
        -------
        ndarray of shape (m,)
        """
        a, b, c, d = self.params
        self._losses = losses
        self._hidden = np.maximum(losses[:, None] * a + b, 0.0)
        self._out = expit(self._hidden @ c + d)
        return self._out

    def gradient(self, slopes: Array) -> list[Array]:
        """Derivatives in the parameters of the sum of slopes times the latest values.

        Parameters
        ----------
        slopes : ndarray of shape (m,)
            Derivative in each value.

        Returns
        -------
        list of ndarray
        """
        back = slopes * self._out * (1.0 - self._out)
        inner = back[:, None] * self.params[2] * (self._hidden > 0)
        return [
            self._losses @ inner,
            inner.sum(axis=0),
            back @ self._hidden,
            np.array([back.sum()]),
        ]

    def step(self, slopes: Array) -> None:
        """Move the parameters down the slopes.

        Parameters
        ----------
        slopes : ndarray of shape (m,)
            Derivative of the trusted loss in each value.
        """
        self._n_steps += 1
        for j, g in enumerate(self.gradient(slopes)):
            self._mean[j] = DECAY_MEAN * self._mean[j] + (1 - DECAY_MEAN) * g
            self._square[j] = DECAY_SQUARE * self._square[j] + (1 - DECAY_SQUARE) * g**2
            mean = self._mean[j] / (1 - DECAY_MEAN**self._n_steps)
            square = self._square[j] / (1 - DECAY_SQUARE**self._n_steps)
            self.params[j] = self.params[j] - META_RATE * mean / (np.sqrt(square) + FLOOR)


def _with_constant(X: Array, reference: Array) -> Array:
    """Features on the scale of the reference, and a column of ones."""
    scale = reference.std(axis=0)
    scale = np.where(scale > 1e-12 * np.abs(reference).max(axis=0, initial=0.0), scale, 1.0)
    return np.column_stack([(X - reference.mean(axis=0)) / scale, np.ones(len(X))])


def _losses(scores: Array, labels: Array) -> tuple[Array, Array]:
    """Cross-entropy of each row and its derivatives in the scores."""
    log_p = log_softmax(scores, axis=1)
    return -(labels * log_p).sum(axis=1), np.exp(log_p) - labels


def _gradient(Z: Array, errors: Array, w: Array, theta: Array) -> Array:
    """Gradient of the weighted mean of losses and the ridge."""
    return Z.T @ (w[:, None] * errors) / w.sum() + ALPHA * theta

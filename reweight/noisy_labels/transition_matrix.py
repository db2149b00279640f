"""How labels were flipped: transition matrices from the predictions of a model of them."""

from numbers import Real

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.utils._param_validation import Interval, validate_params

from reweight.solvers.projected_gradient import projected_gradient
from reweight.solvers.simplex_projection import project_simplex
from reweight.validation import check_sample_weight

Array = NDArray[np.float64]
SHARE = {"fraction": [Interval(Real, 0, 1, closed="right")]}
# What keeps 0 / 0 at one.
TINY = 1e-12


def _check_predictions(
    owner: str, P: ArrayLike, y: ArrayLike, sample_weight: ArrayLike | None
) -> tuple[Array, NDArray[np.intp], Array]:
    """Probabilities, labels as columns of them, and sampling weights."""
    P = np.asarray(P, dtype=np.float64)
    y = np.asarray(y)
    if P.ndim != 2 or P.shape[1] < 1 or not np.isfinite(P).all() or (P < 0).any():
        raise ValueError(
            f"{owner}: P has shape {P.shape} and must hold finite, non-negative probabilities, one "
            "column a class"
        )
    off = np.abs(P.sum(axis=1) - 1).max(initial=0.0)
    if off > 1e-4:
        raise ValueError(f"{owner}: rows of P are off a sum of one by up to {off:.3g}; normalise P")
    if y.shape != (len(P),) or y.dtype.kind not in "iu":
        raise ValueError(
            f"{owner}: y has shape {y.shape} and dtype {y.dtype} for {len(P)} rows of P; pass "
            "the column of P of each label, as integers"
        )
    if len(y) and not 0 <= y.min() <= y.max() < P.shape[1]:
        raise ValueError(
            f"{owner}: y holds labels from {y.min()} to {y.max()}, but P has {P.shape[1]} columns; "
            "pass the column of P of each label"
        )
    s = check_sample_weight(sample_weight, P)
    empty = np.flatnonzero(np.bincount(y, s, minlength=P.shape[1]) <= 0)
    if len(empty):
        raise ValueError(
            f"{owner}: class {empty[0]} has no rows; pass rows of every class, or fewer columns"
        )
    return P, y.astype(np.intp), s


@validate_params(SHARE, prefer_skip_nested_validation=True)
def anchor_transition(
    P: ArrayLike,
    y: ArrayLike,
    *,
    fraction: float = 0.03,
    sample_weight: ArrayLike | None = None,
) -> Array:
    """Read the transition matrix off rows that are almost surely of their class.

    Of the rows with noisy label c, the one at the upper `fraction` of the predicted
    probability of c is an anchor: its probabilities are column c.

    Parameters
    ----------
    P : array-like of shape (n_samples, n_classes)
        Predicted probabilities of the noisy label, best from models that have not
        seen the row.
    y : array-like of int of shape (n_samples,)
        Noisy labels, as columns of `P`.
    fraction : float, default=0.03
        Share of the rows of a class that are at least as sure as its anchor; the
        surest one alone may be an outlier.
    sample_weight : array-like of shape (n_samples,), default=None
        Sampling weights.

    Returns
    -------
    ndarray of shape (n_classes, n_classes)
        T[a, b], the probability of the noisy label a given the clean class b;
        columns sum to one.

    Raises
    ------
    ValueError
        If `P` holds no probabilities, or labels do not fit it or miss a class.

    References
    ----------
    Patrini, G., Rozza, A., Menon, A. K., Nock, R. and Qu, L. (2017). Making deep
    neural networks robust to label noise: a loss correction approach. CVPR.

    Examples
    --------
    >>> import numpy as np
    >>> from reweight import anchor_transition
    >>> P = np.array([[0.8, 0.2], [0.6, 0.4], [0.3, 0.7], [0.5, 0.5]])
    >>> anchor_transition(P, [0, 0, 1, 1])
    array([[0.8, 0.3],
           [0.2, 0.7]])
    """
    P, y, s = _check_predictions("anchor_transition", P, y, sample_weight)
    columns = []
    for label in range(P.shape[1]):
        rows = np.flatnonzero(y == label)
        rows = rows[np.argsort(-P[rows, label], kind="stable")]
        held = np.cumsum(s[rows])
        # Counting up to round-off keeps a share of whole rows exact.
        anchor = rows[np.searchsorted(held, fraction * held[-1] * (1 - 1e-9))]
        columns.append(P[anchor] / P[anchor].sum())
    return np.stack(columns, axis=1)


@validate_params(SHARE, prefer_skip_nested_validation=True)
def dual_transition(
    P: ArrayLike,
    y: ArrayLike,
    *,
    fraction: float = 0.03,
    sample_weight: ArrayLike | None = None,
) -> Array:
    """Estimate the transition matrix by way of the predicted label.

    The product of two matrices that are easier to estimate: from the clean class to
    the predicted one, by anchors, and from there to the noisy label, by counting.

    Parameters
    ----------
    P : array-like of shape (n_samples, n_classes)
        Predicted probabilities of the noisy label, best from models that have not
        seen the row.
    y : array-like of int of shape (n_samples,)
        Noisy labels, as columns of `P`.
    fraction : float, default=0.03
        As in `anchor_transition`.
    sample_weight : array-like of shape (n_samples,), default=None
        Sampling weights.

    Returns
    -------
    ndarray of shape (n_classes, n_classes)
        T[a, b], the probability of the noisy label a given the clean class b;
        columns sum to one. A class that is never predicted is not flipped in the
        second matrix.

    Raises
    ------
    ValueError
        If `P` holds no probabilities, or labels do not fit it or miss a class.

    Notes
    -----
    It is meant for models that are nearly sure of every row, as deep nets are:
    then the first matrix says how often they err, and counting does the rest.
    Calibrated probabilities of a noisy label are not sure; with them the first
    matrix is T already, and the product near T T. Use `anchor_transition` there.

    References
    ----------
    Yao, Y., Liu, T., Han, B., Gong, M., Deng, J., Niu, G. and Sugiyama, M. (2020).
    Dual T: reducing estimation error for transition matrix in label-noise learning.
    NeurIPS.

    Examples
    --------
    >>> import numpy as np
    >>> from reweight import dual_transition
    >>> P = np.array([[0.9, 0.1], [0.8, 0.2], [0.2, 0.8], [0.1, 0.9]])
    >>> dual_transition(P, [0, 1, 1, 1])
    array([[0.4, 0.1],
           [0.6, 0.9]])
    """
    P, y, s = _check_predictions("dual_transition", P, y, sample_weight)
    to_predicted = anchor_transition(P, y, fraction=fraction, sample_weight=s)
    counts = np.zeros((P.shape[1], P.shape[1]))
    np.add.at(counts, (y, P.argmax(axis=1)), s)
    totals = counts.sum(axis=0)
    counts[:, totals == 0] = np.eye(len(totals))[:, totals == 0]
    return counts / counts.sum(axis=0) @ to_predicted


def clean_posteriors(P: Array, transition: Array) -> Array:
    """Probabilities of the clean classes whose flips are nearest to those of noisy labels.

    Parameters
    ----------
    P : ndarray of shape (n_samples, n_classes)
        Probabilities of the noisy label.
    transition : ndarray of shape (n_classes, n_classes)
        T, columns sum to one.

    Returns
    -------
    ndarray of shape (n_samples, n_classes)
        For each row the point f of the simplex that minimises ||P - T f||^2; their
        sum is within 1e-10 of its minimum, relatively. A start, not an end.

    Examples
    --------
    >>> import numpy as np
    >>> from reweight.noisy_labels.transition_matrix import clean_posteriors
    >>> T = np.array([[0.8, 0.2], [0.2, 0.8]])
    >>> clean_posteriors(np.array([[0.8, 0.2], [0.5, 0.5]]), T).round(6)
    array([[1. , 0. ],
           [0.5, 0.5]])
    """
    gram = transition.T @ transition

    def vertices(gradient: Array) -> Array:
        return np.eye(len(gram))[gradient.argmin(axis=1)]

    return projected_gradient(
        lambda F: F @ gram,
        project_simplex,
        vertices,
        project_simplex(P),
        c=P @ transition,
        lipschitz=float(np.linalg.eigvalsh(gram)[-1]),
        tol=1e-10,
    ).x


def label_weights(F: Array, y: NDArray[np.intp], transition: Array) -> Array:
    """Weights f_y / (T f)_y with which rows of noisy labels stand for clean ones.

    Parameters
    ----------
    F : ndarray of shape (n_samples, n_classes)
        Probabilities of the clean classes.
    y : ndarray of int of shape (n_samples,)
        Noisy labels, as columns of `F`.
    transition : ndarray of shape (n_classes, n_classes)
        T, columns sum to one.

    Returns
    -------
    ndarray of shape (n_samples,)
        At most 1 / T[y, y].

    Examples
    --------
    >>> import numpy as np
    >>> from reweight.noisy_labels.transition_matrix import label_weights
    >>> T = np.array([[0.8, 0.2], [0.2, 0.8]])
    >>> label_weights(np.array([[1.0, 0.0], [1.0, 0.0]]), np.array([0, 1]), T).round(6)
    array([1.25, 0.  ])
    """
    rows = np.arange(len(y))
    return (F[rows, y] + TINY) / ((F @ transition.T)[rows, y] + TINY)

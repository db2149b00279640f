"""Handwritten digits, or any labelled rows, whose training labels are flipped at random."""

from numbers import Integral, Real

import numpy as np
from numpy.random import Generator
from numpy.typing import ArrayLike, NDArray
from sklearn.datasets import load_digits
from sklearn.utils import Bunch, check_consistent_length
from sklearn.utils._param_validation import Interval, StrOptions, validate_params


@validate_params(
    {
        "X": ["array-like", None],
        "y": ["array-like", None],
        "noise": [StrOptions({"symmetric", "pair"})],
        "rate": [Interval(Real, 0, 1, closed="left")],
        "n_val": [Interval(Integral, 0, None, closed="left")],
        "n_test": [Interval(Integral, 0, None, closed="left")],
        "random_state": ["random_state", np.random.Generator],
    },
    prefer_skip_nested_validation=True,
)
def make_noisy_labels(
    X: ArrayLike | None = None,
    y: ArrayLike | None = None,
    *,
    noise: str = "symmetric",
    rate: float = 0.5,
    n_val: int = 50,
    n_test: int = 500,
    random_state: int | Generator | np.random.RandomState | None = None,
) -> Bunch:
    """Split labelled rows and flip the labels of those to train on.

    Parameters
    ----------
    X : array-like of shape (n_samples, n_features), default=None
        Features. None means the 1797 handwritten digits of scikit-learn, divided
        by their largest value, 16.
    y : array-like of shape (n_samples,), default=None
        Their labels.
    noise : {"symmetric", "pair"}, default="symmetric"
        Whether a flipped label is any other with the same probability, or the next
        class in sorted order, the first after the last.
    rate : float, default=0.5
        Probability of a flip.
    n_val : int, default=50
        Rows with clean labels to validate on.
    n_test : int, default=500
        Rows with clean labels to test on.
    random_state : int, Generator, RandomState or None, default=None
        An int seeds `numpy.random.default_rng`.

    Returns
    -------
    Bunch
        With these entries:

        X, y : ndarray
            Rows to train on and their noisy labels.
        y_true : ndarray
            Their labels before the flips, which only an evaluation should look at.
        X_val, y_val, X_test, y_test : ndarray
            Rows with clean labels.
        transition : ndarray of shape (n_classes, n_classes)
            T[a, b], the probability of the noisy label a given the clean class b.
        classes : ndarray of shape (n_classes,)
            Classes in the order of `transition`.

    Raises
    ------
    ValueError
        If only one of `X` and `y` is given, or no row is left to train on.

    Examples
    --------
    >>> from reweight import make_noisy_labels
    >>> data = make_noisy_labels(noise="pair", rate=0.4, random_state=0)
    >>> data.X.shape, data.X_val.shape, data.X_test.shape
    ((1247, 64), (50, 64), (500, 64))
    >>> print((data.y != data.y_true).mean().round(2))
    0.4
    """
    if (X is None) != (y is None):
        raise ValueError("make_noisy_labels: one of X and y is None; pass both, or none for digits")
    if X is None:
        X, y = load_digits(return_X_y=True)
        X = X / 16.0
    X, y = np.asarray(X), np.asarray(y)
    check_consistent_length(X, y)
    if n_val + n_test >= len(y):
        raise ValueError(
            f"make_noisy_labels: n_val={n_val} and n_test={n_test} leave none of the {len(y)} rows "
            "to train on; lower them"
        )
    rng = _generator(random_state)
    order = rng.permutation(len(y))
    test, val, train = np.split(order, [n_test, n_test + n_val])
    classes, codes = np.unique(y, return_inverse=True)
    T = _transition(noise, rate, len(classes))
    steps = T.cumsum(axis=0)[:, codes[train]].T
    flipped = (rng.random((len(train), 1)) > steps[:, :-1]).sum(axis=1)
    return Bunch(
        X=X[train],
        y=classes[flipped],
        y_true=y[train],
        X_val=X[val],
        y_val=y[val],
        X_test=X[test],
        y_test=y[test],
        transition=T,
        classes=classes,
    )


def _transition(noise: str, rate: float, n_classes: int) -> NDArray[np.float64]:
    if n_classes == 1:
        return np.ones((1, 1))
    if noise == "pair":
        return (1 - rate) * np.eye(n_classes) + rate * np.roll(np.eye(n_classes), 1, axis=0)
    off = rate / (n_classes - 1)
    return (1 - rate - off) * np.eye(n_classes) + off


def _generator(random_state: int | Generator | np.random.RandomState | None) -> Generator:
    if isinstance(random_state, np.random.RandomState):
        random_state = random_state.randint(np.iinfo(np.int32).max)
    elif random_state is np.random:
        random_state = np.random.randint(np.iinfo(np.int32).max)  # noqa: NPY002
    return np.random.default_rng(random_state)

"""Feature maps of classifiers that are linear in functions of a row."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import clone
from sklearn.kernel_approximation import RBFSampler
from sklearn.utils import check_array

from reweight.kernels.bandwidth import resolve_bandwidth


def fit_featurizer(
    featurizer: Any,
    rows: NDArray[np.float64],
    *,
    n_components: int,
    bandwidth: str | float,
    random_state: int,
    name: str,
) -> Any:
    """A fitted feature map, or None for the rows themselves.

    Parameters
    ----------
    featurizer : {"linear", "rbf"} or transformer
        What the user asked for.
    rows : ndarray of shape (n_rows, n_features)
        Source and target rows together: a map fitted on one sample would treat the other unlike it.
    n_components : int
        Number of random Fourier features of "rbf".
    bandwidth : float or str
        Length of their kernel, or a rule.
    random_state : int
        Seed of their draw.
    name : str
        Name of the estimator, for errors.

    Returns
    -------
    transformer or None

    Raises
    ------
    ValueError
        If the bandwidth is not positive, or rows leave its rule without a length.
    """
    if isinstance(featurizer, str):
        if featurizer == "linear":
            return None
        try:
            length = resolve_bandwidth(rows, bandwidth, random_state=random_state)
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from error
        gamma = 0.5 / length**2
        featurizer = RBFSampler(gamma=gamma, n_components=n_components, random_state=random_state)
    return clone(featurizer).fit(rows)


def feature_rows(
    featurizer: Any, X: NDArray[np.float64], fit_intercept: bool, name: str
) -> NDArray[np.float64]:
    """phi(x) of each row, led by a one if there is an intercept.

    Parameters
    ----------
    featurizer : transformer or None
        Fitted feature map.
    X : ndarray of shape (n_rows, n_features)
        Rows.
    fit_intercept : bool
        Whether a column of ones comes first.
    name : str
        Name of the estimator, for errors.

    Returns
    -------
    ndarray of shape (n_rows, q)
    """
    if featurizer is not None:
        X = check_array(
            featurizer.transform(X),
            dtype=np.float64,
            input_name=f"featurizer.transform(X) in {name}",
        )
    return np.column_stack([np.ones(len(X)), X]) if fit_intercept else X

"""What weights of models may depend on, as numbers."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import issparse

from reweight.validation import count_rows


def numeric_features(owner: str, featurizer: Any, features: Any) -> NDArray[np.float64]:
    """Features as a finite matrix.

    Parameters
    ----------
    owner : str
        What errors name.
    featurizer : transformer or None
        Fitted, to be applied first.
    features : array-like, sparse matrix or data frame of shape (n, d)
        Features.

    Returns
    -------
    ndarray of shape (n, d)
    """
    values = features
    if featurizer is not None:
        values = featurizer.transform(values)
    values = values.toarray() if issparse(values) else np.asarray(values)
    if values.ndim == 1:
        values = values[:, None]
    try:
        values = values.astype(np.float64)
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"{owner}: gate_features are not all numeric; pass featurizer=, such as a "
            "ColumnTransformer with OneHotEncoder"
        ) from error
    bad = ~np.isfinite(values).all(axis=1)
    if bad.any():
        raise ValueError(
            f"{owner}: {int(bad.sum())} rows of gate_features are NaN or infinite; drop "
            "those rows, or pass featurizer=SimpleImputer()"
        )
    return values


def check_rows(owner: str, features: Any, n: int) -> None:
    """One row of features for each of n rows, if there are any.

    Parameters
    ----------
    owner : str
        What errors name.
    features : array-like or None
        Features.
    n : int
        Number of rows.

    Raises
    ------
    ValueError
        If their number is another.
    """
    if features is not None and count_rows(features) != n:
        raise ValueError(
            f"{owner}: gate_features has {count_rows(features)} rows, but Q has {n}; pass one row "
            "for each"
        )


def features_of_quantiles(Q: NDArray) -> NDArray[np.float64]:
    """Middle quantile of each model, and the distance of its outermost ones.

    Parameters
    ----------
    Q : ndarray of shape (n, p, m)
        Stacked quantiles.

    Returns
    -------
    ndarray of shape (n, 2 p), or (n, p) with one level
    """
    middle = Q[:, :, Q.shape[2] // 2]
    if Q.shape[2] == 1:
        return middle
    return np.concatenate([middle, Q[:, :, -1] - Q[:, :, 0]], axis=1)

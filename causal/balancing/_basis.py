"""The functions of the covariates whose means are balanced."""

from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import clone


class MomentBasis:
    """Powers and pairwise products of covariates, or the user's own functions of them.

    Powers above the first and products are taken of covariates centred at
    their weighted mean, which spans the same functions with far better
    conditioning than raw powers.

    Parameters
    ----------
    moments : int
        Highest power of each covariate.
    interactions : bool
        Whether to add the products of all pairs.
    featurizer : callable, transformer or None
        Replaces powers and products: X -> array of shape (n, m).
    """

    def __init__(
        self, moments: int = 1, interactions: bool = False, featurizer: Any = None
    ) -> None:
        self.moments = moments
        self.interactions = interactions
        self.featurizer = featurizer

    def fit(
        self, X: NDArray[np.float64], weight: NDArray[np.float64], names: Any = None
    ) -> "MomentBasis":
        """Learn the centre and the names of the columns.

        Parameters
        ----------
        X : ndarray of shape (n, p)
            Covariates.
        weight : ndarray of shape (n,)
            Weights of the rows in the centre.
        names : sequence of str or None
            Names of the covariates.
        """
        names = [f"x{j}" for j in range(X.shape[1])] if names is None else [str(v) for v in names]
        return self.fit_center(weight @ X / weight.sum(), names, X)

    def fit_center(self, center: NDArray, names: list[str], X: NDArray) -> "MomentBasis":
        """Take the centre as given; `X` only teaches a user's transformer."""
        self.center_ = center
        self.featurizer_ = self.featurizer
        if hasattr(self.featurizer, "transform"):
            self.featurizer_ = clone(self.featurizer).fit(X)
        if self.featurizer is not None:
            width = self.transform(X[:1]).shape[1]
            named = getattr(self.featurizer_, "get_feature_names_out", None)
            self.names_ = list(named()) if named else [f"b{j}" for j in range(width)]
            return self
        powers = [f"{v}^{k}" for k in range(2, self.moments + 1) for v in names]
        products = [f"{a} {b}" for a, b in combinations(names, 2)] if self.interactions else []
        self.names_ = names + powers + products
        return self

    def transform(self, X: NDArray[np.float64]) -> NDArray[np.float64]:
        """Evaluate the functions.

        Parameters
        ----------
        X : ndarray of shape (n, p)
            Covariates.

        Returns
        -------
        ndarray of shape (n, m)
            `X` itself when only first moments are balanced.
        """
        if self.featurizer is not None:
            apply = getattr(self.featurizer_, "transform", self.featurizer_)
            values = apply(X)
            values = values.toarray() if hasattr(values, "toarray") else np.asarray(values)
            values = values.astype(np.float64, copy=False)
            if values.ndim != 2 or len(values) != len(X) or not np.isfinite(values).all():
                raise ValueError(
                    f"featurizer returned an array of shape {values.shape} for {len(X)} rows, or "
                    "values that are not finite; it must return one finite row per row of X"
                )
            return values
        if self.moments == 1 and not self.interactions:
            return X
        centred = X - self.center_
        parts = [X] + [centred**k for k in range(2, self.moments + 1)]
        if self.interactions:
            parts += [
                (centred[:, i] * centred[:, j])[:, None]
                for i, j in combinations(range(X.shape[1]), 2)
            ]
        return np.hstack(parts)

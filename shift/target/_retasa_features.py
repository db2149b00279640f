"""Low-dimensional features for ReTaSA: columns, a function of them, or predictions."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from reweight.cross_fitting import cross_fit

Array = NDArray[np.float64]


class FeatureMap:
    """z = f(x), with target rows and source rows treated alike.

    A regressor is cross-fitted: a source row is mapped by the model that has
    not seen it, a target row by one of the models, drawn evenly. Both samples
    then follow the same mixture given the outcome.

    Parameters
    ----------
    featurizer : None, callable or regressor
        What the user asked for.
    owner : str
        Who is asking, for error messages.
    """

    def __init__(self, featurizer: Any, owner: str) -> None:
        self.featurizer = featurizer
        self.owner = owner
        self.models: list[Any] = []

    def fit(
        self,
        X: Array,
        y: Array,
        X_target: Array,
        share: Array,
        *,
        cv: Any,
        rng: np.random.RandomState,
        n_jobs: int | None,
        verbose: int,
    ) -> tuple[Array, Array]:
        """Features of the source and of the target.

        Parameters
        ----------
        X : ndarray of shape (n, p)
            Source rows.
        y : ndarray of shape (n,)
            Their outcomes.
        X_target : ndarray of shape (m, p)
            Target rows.
        share : ndarray of shape (n,)
            Sampling weights that sum to one.
        cv : int or cross-validation generator
            Folds.
        rng : RandomState
            Shuffles the rows into folds, and target rows among the models.
        n_jobs : int or None
            Number of jobs over folds.
        verbose : int
            Whether to show a progress bar.

        Returns
        -------
        z : ndarray of shape (n, d)
        z_target : ndarray of shape (m, d)
        """
        if not hasattr(self.featurizer, "fit"):
            return self._plain(X), self._plain(X_target)
        weighted = np.ptp(share) > 0
        crossed = cross_fit(
            self.featurizer,
            X,
            y,
            cv=cv,
            sample_weight=share * len(share) if weighted else None,
            random_state=rng.randint(2**31 - 1),
            n_jobs=n_jobs,
            verbose=verbose,
        )
        if len(crossed.missing_rows):
            raise ValueError(
                f"{self.owner}: {len(crossed.missing_rows)} rows are in no test part of "
                "featurizer_cv; pass folds that hold out every row once"
            )
        self.models = crossed.estimators
        return self._check(crossed.predictions, len(X)), self.of_new_rows(X_target, rng)

    def of_new_rows(self, X: Array, rng: np.random.RandomState) -> Array:
        """Features of rows that no model has seen, each by one of the models.

        Parameters
        ----------
        X : ndarray of shape (n_rows, p)
            Rows.
        rng : RandomState
            Deals the rows out to the models.

        Returns
        -------
        ndarray of shape (n_rows, d)
        """
        if not self.models:
            return self._plain(X)
        number = rng.permutation(np.arange(len(X)) % len(self.models))
        return np.stack(self.views(X))[number, np.arange(len(X))]

    def views(self, X: Array) -> list[Array]:
        """Features of the rows by each of the models.

        Parameters
        ----------
        X : ndarray of shape (n_rows, p)
            Rows.

        Returns
        -------
        list of ndarray of shape (n_rows, d)
        """
        if not self.models:
            return [self._plain(X)]
        return [self._check(model.predict(X), len(X)) for model in self.models]

    def _plain(self, X: Array) -> Array:
        return X if self.featurizer is None else self._check(self.featurizer(X), len(X))

    def _check(self, z: Any, n_rows: int) -> Array:
        z = np.asarray(z, dtype=np.float64)
        z = z.reshape(-1, 1) if z.ndim == 1 else z
        if z.ndim != 2 or len(z) != n_rows:
            raise ValueError(
                f"{self.owner}: featurizer gave an array of shape {z.shape} for {n_rows} rows; it "
                "must give one row of at most three features per row"
            )
        if not np.isfinite(z).all():
            raise ValueError(
                f"{self.owner}: featurizer gave {int((~np.isfinite(z)).sum())} NaN or infinite "
                "features; it must give finite ones"
            )
        return z

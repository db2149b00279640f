"""The models behind residuals: what is expected of a row, how far off, and how surely."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from reweight.cross_fitting import CrossFit, cross_fit
from reweight.noisy_labels._folds import Folds, without_rows
from reweight.noisy_labels._outcome_table import OutcomeTable, residuals_of
from reweight.noisy_labels._resampled_spread import pooled_spread
from reweight.noisy_labels._residual_scale import fit_scale
from reweight.resampling import resample_weights

Array = NDArray[np.float64]

# Share of the typical residual below which a spread of models is no spread.
SMALLEST_SPREAD = 1e-12


class ResidualModels:
    """Out-of-fold predictions, the scale of their residuals, and the spread of resampled models.

    Parameters
    ----------
    estimator : estimator
        Predicts the outcome.
    scale_estimator : estimator or None
        Predicts absolute residuals.
    shrinkage : float or "cv"
        How far the scale follows its model.
    seed : int
        Of the scale's forest.
    n_jobs : int or None
        Jobs.
    verbose : int
        Whether to show progress.
    """

    def __init__(
        self,
        estimator: Any,
        scale_estimator: Any,
        shrinkage: float | str,
        *,
        seed: int,
        n_jobs: int | None,
        verbose: int,
    ) -> None:
        self.estimator = estimator
        self.scale_estimator = scale_estimator
        self.shrinkage = shrinkage
        self.seed = seed
        self.n_jobs = n_jobs
        self.verbose = verbose
        self.resampled: list[Any] = []
        self.spread: Array | None = None

    def cross_fit(self, table: OutcomeTable, folds: Folds) -> CrossFit:
        """Predictions of each row by models that have not seen it."""
        return cross_fit(
            self.estimator,
            table.X,
            table.y,
            cv=folds,
            sample_weight=table.weights,
            n_jobs=self.n_jobs,
            verbose=self.verbose,
        )

    def fit(self, table: OutcomeTable, folds: Folds, removed: NDArray[np.bool_]) -> None:
        """Fit predictions and their scale, the predictions without some rows."""
        self.crossed = self.cross_fit(table, without_rows(folds, removed))
        self.scale = fit_scale(
            self.estimator,
            self.scale_estimator,
            table.X,
            residuals_of(table.y, self.crossed.predictions),
            table.weights,
            folds,
            shrinkage=self.shrinkage,
            grouped=table.groups is not None,
            seed=self.seed,
            n_jobs=self.n_jobs,
        )

    def scores(self, table: OutcomeTable) -> Array:
        """Absolute residuals over their scale."""
        return np.abs(residuals_of(table.y, self.crossed.predictions)) / self.scale.values

    def fit_twice(self, table: OutcomeTable, folds: Folds, trim: float) -> NDArray[np.bool_]:
        """Fit, and fit again without a share of the most suspicious rows, which are returned."""
        suspects = np.zeros(len(table.y), dtype=bool)
        self.fit(table, folds, suspects)
        if trim > 0:
            scores = self.scores(table)
            mass = np.ones(len(scores)) if table.weights is None else table.weights
            limit = np.quantile(scores, 1 - trim, weights=mass, method="inverted_cdf")
            suspects = (scores > limit) & ~table.is_clean
            self.fit(table, folds, suspects)
        return suspects

    def fit_spread(
        self,
        table: OutcomeTable,
        suspects: NDArray[np.bool_],
        n_resamples: int,
        subsample_size: float,
        seed: int,
    ) -> None:
        """Standard deviation over models of subsamples that have not seen the row."""
        draws = resample_weights(
            len(table.y),
            n_resamples,
            "subsample",
            groups=table.groups,
            subsample_size=subsample_size,
            random_state=seed,
        )
        drawn = np.array([draw > 0 for draw in draws])
        subsamples = [
            (np.flatnonzero(taken & ~suspects), np.flatnonzero(~taken)) for taken in drawn
        ]
        self.resampled = self.cross_fit(table, subsamples).estimators
        P = np.array([model.predict(table.X) for model in self.resampled], dtype=np.float64)
        self.spread = pooled_spread(np.where(drawn, np.nan, P))

    def parts(self) -> tuple[Array, Array, Array]:
        """Prediction, scale and spread of the rows fitted on."""
        prediction = np.asarray(self.crossed.predictions, dtype=np.float64)
        spread = np.zeros(len(prediction)) if self.spread is None else self.spread
        return prediction, self.scale.values, spread

    def predict_parts(self, X: Any) -> tuple[Array, Array, Array]:
        """Prediction, scale and spread of new rows."""
        prediction = np.asarray(self.crossed.predict(X), dtype=np.float64)
        spread = np.zeros(len(prediction))
        if self.resampled:
            spread = np.std([model.predict(X) for model in self.resampled], axis=0)
            spread = np.maximum(spread, SMALLEST_SPREAD * self.scale.mean)
        return prediction, self.scale.predict(X), spread

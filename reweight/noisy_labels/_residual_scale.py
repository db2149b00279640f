"""How large residuals are expected to be, as a function of the features, shrunk to a constant."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import clone
from sklearn.ensemble import RandomForestRegressor
from sklearn.pipeline import Pipeline

from reweight.cross_fitting import cross_fit
from reweight.validation import count_rows
from reweight.weighted_fit import weighted_fit

Array = NDArray[np.float64]

SHRINKAGES = (0.0, 0.25, 0.5, 0.75, 1.0)
# Shrinkages whose log likelihood is within this of the best are taken as equal, and the one that
# follows the model most wins: to miss uneven noise costs more than to divide even noise by a rough
# constant.
LIKELIHOOD_SLACK = 2.0
WORST_SHARE = 0.1
WINSORISED_AT = 0.95
FLOOR = 1e-3
N_TREES = 100


@dataclass(frozen=True)
class ResidualScale:
    """A fitted scale.

    Parameters
    ----------
    values : ndarray of shape (n_samples,)
        Expected absolute residual of each row by a model that has not seen it.
    shrinkage : float
        0 is the same scale for all rows, 1 that of the model.
    model : object with `predict` or None
        For new rows.
    mean : float
        The constant that is shrunk to.
    """

    values: Array
    shrinkage: float
    model: Any
    mean: float

    def predict(self, X: Any) -> Array:
        """Expected absolute residual of new rows."""
        if self.model is None:
            return np.full(count_rows(X), self.mean)
        return shrink(self.model.predict(X), self.mean, self.shrinkage)


def shrink(scale: Array, mean: float, shrinkage: float) -> Array:
    """Geometric mean of a scale and a constant, floored."""
    if shrinkage == 0:
        return np.full(len(scale), mean)
    return np.maximum(scale, FLOOR * mean) ** shrinkage * mean ** (1 - shrinkage)


def choose_shrinkage(scale: Array, mean: float, size: Array, weights: Array) -> float:
    """Largest shrinkage whose trimmed Laplace log likelihood is within the slack of the best."""
    deviances = []
    for shrinkage in SHRINKAGES:
        sigma = shrink(scale, mean, shrinkage)
        z = size / sigma
        # The largest residuals are the errors looked for; they must not choose the scale.
        kept = z <= np.quantile(z, 1 - WORST_SHARE, weights=weights, method="inverted_cdf")
        typical = np.average(z[kept], weights=weights[kept])
        if typical <= 0:
            return 0.0
        deviances.append(np.average(np.log(sigma[kept]), weights=weights[kept]) + np.log(typical))
    close = np.array(deviances) <= min(deviances) + LIKELIHOOD_SLACK / len(size)
    return SHRINKAGES[int(np.flatnonzero(close)[-1])]


def fit_scale(
    estimator: Any,
    scale_estimator: Any,
    X: Any,
    residuals: Array,
    weights: Array | None,
    folds: Sequence[tuple[NDArray, NDArray]],
    *,
    shrinkage: float | str,
    grouped: bool,
    seed: int,
    n_jobs: int | None,
) -> ResidualScale:
    """Expected absolute residual of each row by models that have not seen it.

    Parameters
    ----------
    estimator : estimator
        Model of the outcome; if it is a pipeline, its front prepares the
        features for the default model of the scale too.
    scale_estimator : estimator or None
        Model of the scale, fitted once a fold. None is a random forest, fitted
        once: its out-of-bag predictions have not seen the row.
    X : array-like of shape (n_samples, n_features)
        Features.
    residuals : ndarray of shape (n_samples,)
        Out-of-fold residuals.
    weights : ndarray of shape (n_samples,) or None
        Sampling weights.
    folds : sequence of (train, test)
        Folds of the residuals.
    shrinkage : float or "cv"
        How far the model is followed.
    grouped : bool
        Whether rows of one group must not tell of each other, which
        out-of-bag predictions would not heed.
    seed : int
        Of the forest.
    n_jobs : int or None
        Jobs.

    Returns
    -------
    ResidualScale
    """
    mass = np.ones(len(residuals)) if weights is None else weights
    size = np.abs(residuals)
    if shrinkage == 0 or not size.any():
        mean = float(np.average(size, weights=mass)) or 1.0
        return ResidualScale(np.full(len(size), mean), 0.0, None, mean)
    target = np.minimum(size, np.quantile(size, WINSORISED_AT, weights=mass, method="inverted_cdf"))
    if scale_estimator is None and not grouped:
        model = _OutOfBagForest(estimator, seed, n_jobs)
        predicted = model.fit_predict(X, target, weights)
    else:
        model = scale_estimator
        if model is None:
            model = _with_front(estimator, _forest(len(size), seed))
        model = cross_fit(model, X, target, cv=list(folds), sample_weight=weights, n_jobs=n_jobs)
        predicted = np.asarray(model.predictions, dtype=np.float64)
    mean = float(np.average(np.maximum(predicted, 0), weights=mass))
    if mean <= 0:
        mean = float(np.average(size, weights=mass))
    chosen = shrinkage
    if shrinkage == "cv":
        chosen = choose_shrinkage(predicted, mean, size, mass)
    return ResidualScale(shrink(predicted, mean, chosen), float(chosen), model, mean)


def _forest(n_rows: int, seed: int, **parameters: Any) -> RandomForestRegressor:
    leaf = max(30, n_rows // 50)
    return RandomForestRegressor(N_TREES, min_samples_leaf=leaf, random_state=seed, **parameters)


def _with_front(estimator: Any, model: Any) -> Any:
    """A model behind what prepares the features for the estimator."""
    if isinstance(estimator, Pipeline) and len(estimator.steps) > 1:
        return Pipeline([*clone(estimator).steps[:-1], ("scale", model)])
    return model


class _OutOfBagForest:
    """Forest whose predictions for its own rows come from the trees that have not seen them."""

    def __init__(self, estimator: Any, seed: int, n_jobs: int | None) -> None:
        self.estimator = estimator
        self.seed = seed
        self.n_jobs = n_jobs

    def fit_predict(self, X: Any, target: Array, weights: Array | None) -> Array:
        forest = _forest(len(target), self.seed, oob_score=_no_score, n_jobs=self.n_jobs)
        self.model = weighted_fit(
            _with_front(self.estimator, forest), X, target, weights, owner="scale model"
        )
        last = self.model.steps[-1][1] if isinstance(self.model, Pipeline) else self.model
        return last.oob_prediction_

    def predict(self, X: Any) -> Array:
        return self.model.predict(X)


def _no_score(truth: Any, predicted: Any) -> float:
    """What a forest is to score its out-of-bag predictions by: they are wanted, a score is not."""
    return 0.0

"""What a stack asks of its arguments, the rows it sets aside, and its table of scores."""

from inspect import signature
from numbers import Integral, Real
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from sklearn.model_selection import GroupShuffleSplit, ShuffleSplit, TimeSeriesSplit

from reweight.metrics._quantile_checks import central_pairs
from reweight.metrics.quantile import quantile_calibration_error, weighted_interval_score
from reweight.quantiles._crossed_models import Fold
from reweight.quantiles.adapters import QuantileModel, find_way
from reweight.quantiles.conformal import ConformalQuantileCalibrator
from reweight.validation import take_rows, warn_user
from reweight.weighted_fit import weight_key

if TYPE_CHECKING:
    import pandas as pd

SCORES = ("weighted_interval_score", "calibration_error", "crossing_rate")


def check_names(owner: str, estimators: Any, names: list[Any], taken: set[str]) -> None:
    """Names of base models that are distinct and can be told from parameters.

    Parameters
    ----------
    owner : str
        What errors name.
    estimators : object
        What was passed.
    names : list
        The names in it, as far as it is a list of pairs.
    taken : set of str
        Parameters of the stack.

    Raises
    ------
    ValueError
        If it is no list of pairs, or names clash.
    """
    if not names or len(names) != len(estimators):
        raise ValueError(
            f"{owner}: estimators must be a list of (name, estimator), got {estimators!r}"
        )
    wrong = [n for n in names if not isinstance(n, str) or "__" in n or n in taken]
    twice = [n for i, n in enumerate(names) if n in names[:i]]
    if wrong or twice:
        raise ValueError(
            f"{owner}: estimators are named {names}, where {(wrong or twice)[0]!r} "
            f"{'cannot be a name' if wrong else 'is there twice'}; pass distinct names without "
            "'__' that are no parameters of the stack"
        )


def make_models(
    owner: str,
    pairs: list[tuple[str, Any]],
    levels: NDArray,
    weighted: bool,
    seeds: list[int | None],
) -> list[QuantileModel]:
    """Base models that all are asked in one way.

    Parameters
    ----------
    owner : str
        What errors name.
    pairs : list of (str, estimator)
        Names and base models, or "drop".
    levels : ndarray of shape (m,)
        Levels.
    weighted : bool
        Whether they must take weights.
    seeds : list of int or None
        Seed of each.

    Returns
    -------
    list of QuantileModel

    Raises
    ------
    ValueError
        If one gives no quantiles, cannot be weighted, or none is left.
    """
    models = []
    for (name, estimator), seed in zip(pairs, seeds, strict=True):
        if isinstance(estimator, str) and estimator == "drop":
            continue
        if isinstance(estimator, type) or not hasattr(estimator, "fit"):
            raise ValueError(
                f"{owner}: estimators has {estimator!r} (named {name!r}), which cannot "
                "be fitted; pass an instance of an estimator, or 'drop'"
            )
        find_way(estimator, owner=owner, name=name)
        if weighted:
            weight_key(estimator, owner=owner)
        models.append(QuantileModel(estimator, levels, name, owner, seed))
    if not models:
        raise ValueError(f"{owner}: all {len(pairs)} estimators are dropped; keep one")
    return models


def check_aggregator(owner: str, given: Any, levels: NDArray, *, local: bool) -> None:
    """An aggregator for the same levels, which takes features if those are passed on.

    Parameters
    ----------
    owner : str
        What errors name.
    given : estimator
        The aggregator.
    levels : ndarray of shape (m,)
        Levels of the stack.
    local : bool
        Whether features are passed on.

    Raises
    ------
    ValueError
        If it is not.
    """
    if local and "gate_features" not in signature(given.fit).parameters:
        raise ValueError(
            f"{owner}: passthrough_local=True, but {type(given).__name__} takes no "
            "gate_features; pass a LocalQuantileAggregator"
        )
    own = getattr(given, "quantiles", levels)
    if np.shape(own) != levels.shape or not np.allclose(own, levels, rtol=0, atol=1e-9):
        raise ValueError(
            f"{owner}: the aggregator has {np.size(own)} quantiles {np.ravel(own)[:5]}, "
            f"the stack {len(levels)} quantiles {levels[:5]}; pass both the same"
        )


def make_calibrator(levels: NDArray, *, sweep: bool) -> ConformalQuantileCalibrator:
    """A calibrator of intervals if each level has its partner, and of levels otherwise.

    Parameters
    ----------
    levels : ndarray of shape (m,)
        Levels.
    sweep : bool
        Whether calibrated quantiles are put in order.

    Returns
    -------
    ConformalQuantileCalibrator
    """
    paired = 2 * len(central_pairs(levels)) + np.isclose(levels, 0.5).sum() == len(levels)
    return ConformalQuantileCalibrator(
        levels,
        mode="interval" if paired and len(levels) > 1 else "level",
        postprocess="sweep" if sweep else None,
    )


def set_aside(
    owner: str, X: Any, y: NDArray, groups: Any, cv: Any, size: float, seed: int
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Rows to fit on, and rows to calibrate on.

    Parameters
    ----------
    owner : str
        What errors name.
    X : array-like of shape (n, d)
        Features.
    y : ndarray of shape (n,)
        Outcomes.
    groups : array-like of shape (n,) or None
        Rows that stay together.
    cv : object
        Folds; of a `TimeSeriesSplit` the last rows are set aside.
    size : float or int
        Share or number of rows to set aside.
    seed : int
        Seed of the draw.

    Returns
    -------
    rows, aside : ndarray of int
    """
    n = len(y)
    everyone = np.arange(n)
    share = isinstance(size, Real) and not isinstance(size, Integral)
    if not share and size >= n:
        raise ValueError(
            f"{owner}: calibration_size={size} leaves none of {n} rows to fit on; pass less"
        )
    if isinstance(cv, TimeSeriesSplit):
        count = int(np.ceil(size * n)) if share else int(size)
        return everyone[: n - count], everyone[n - count :]
    splitter = ShuffleSplit if groups is None else GroupShuffleSplit
    if groups is not None and not share:
        size = size / n
    (parts,) = splitter(1, test_size=size, random_state=seed).split(X, y, groups)
    return np.sort(parts[0]), np.sort(parts[1])


def take_all(
    estimator: Any, X: Any, y: NDArray, weights: Any, groups: Any, rows: NDArray[np.intp]
) -> tuple[Any, NDArray, Any, Any]:
    """Some rows of everything that has rows.

    Parameters
    ----------
    estimator : estimator
        What the rows are for.
    X : array-like of shape (n, d)
        Features.
    y : ndarray of shape (n,)
        Outcomes.
    weights, groups : array-like of shape (n,) or None
        Row weights and groups.
    rows : ndarray of int
        Rows to take; all of them leave everything as it is.

    Returns
    -------
    tuple of X, y, weights, groups
    """
    if len(rows) == len(y):
        return X, y, weights, groups
    groups = None if groups is None else np.asarray(groups)[rows]
    weights = None if weights is None else weights[rows]
    return take_rows(estimator, X, None, rows)[0], y[rows], weights, groups


def stack_predictions(models: list[Any], X: Any) -> NDArray[np.float64]:
    """Quantiles of several models.

    Parameters
    ----------
    models : list of p estimators
        Fitted.
    X : array-like of shape (n, d)
        Features.

    Returns
    -------
    ndarray of shape (n, p, m)
    """
    return np.stack([model.predict(X) for model in models], axis=1)


def check_folds(owner: str, folds: list[Fold], n: int, *, partition: bool) -> None:
    """Folds that give predictions, where need be one for each row.

    Parameters
    ----------
    owner : str
        What errors name.
    folds : list of (train, test)
        Row numbers.
    n : int
        Number of rows.
    partition : bool
        Whether each row must be in the test part of just one fold.

    Raises
    ------
    ValueError
        If there is none, or rows are not covered once.

    Warns
    -----
    UserWarning
        If rows are left out.
    """
    if not folds:
        raise ValueError(f"{owner}: cv has no fold with rows to predict; pass another")
    counts = np.bincount(np.concatenate([test for _, test in folds]), minlength=n)
    if partition and (len(folds) < 3 or (counts != 1).any()):
        raise ValueError(
            f"{owner}: calibrate='cv+' needs three folds or more, in one of which each "
            f"row is predicted, got {len(folds)} folds that leave {int((counts == 0).sum())} "
            f"rows out and predict {int((counts > 1).sum())} several times; pass such as "
            "cv=5, or calibrate='split'"
        )
    missing = int((counts == 0).sum())
    if missing:
        warn_user(
            f"{owner}: {missing} of {n} rows are predicted by no fold and are left out "
            "of the fit of weights; pass folds that cover all rows to use them",
            UserWarning,
        )


def make_leaderboard(
    forecasts: dict[str, NDArray],
    aggregate: NDArray,
    seconds: NDArray,
    y: NDArray,
    levels: NDArray,
    weights: NDArray | None,
) -> "pd.DataFrame":
    """Scores of base models, of their average and median, and of the aggregate.

    Parameters
    ----------
    forecasts : dict of str to ndarray of shape (n, m)
        Out-of-fold quantiles of each base model.
    aggregate : ndarray of shape (n, m)
        Those of the aggregate.
    seconds : ndarray of shape (p,)
        Time spent on each base model.
    y : ndarray of shape (n,)
        Outcomes.
    levels : ndarray of shape (m,)
        Levels.
    weights : ndarray of shape (n,) or None
        Row weights.

    Returns
    -------
    DataFrame
    """
    import pandas as pd

    Q = np.stack(list(forecasts.values()), axis=1)
    every = {**forecasts, "average": Q.mean(axis=1), "median": np.median(Q, axis=1)}
    every["aggregate"] = aggregate
    rows = [_scores(y, q, levels, weights) for q in every.values()]
    table = pd.DataFrame(rows, index=pd.Index(every, name="forecast"))
    table["fit_seconds"] = [*seconds, *[seconds.sum()] * 3]
    return table


def _scores(y: NDArray, q: NDArray, levels: NDArray, weights: NDArray | None) -> dict[str, float]:
    """Scores over the rows that are predicted and have weight."""
    known = np.isfinite(q).all(axis=1)
    if weights is not None:
        known &= weights > 0
    if not known.any():
        return dict.fromkeys(SCORES, np.nan)
    y, q, weights = y[known], q[known], None if weights is None else weights[known]
    crossing = (np.diff(q, axis=1) < 0).any(axis=1)
    values = (
        weighted_interval_score(y, q, levels, sample_weight=weights),
        quantile_calibration_error(y, q, levels, sample_weight=weights),
        float(np.average(crossing, weights=weights)),
    )
    return dict(zip(SCORES, values, strict=True))

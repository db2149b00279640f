"""What grades, residuals and thresholds have to be."""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from reweight.validation import as_numbers, warn_user

Array = NDArray[np.float64]


def check_thresholds(values: ArrayLike, n_classes: int, owner: str, name: str) -> Array:
    """Falling thresholds, one less than grades.

    Parameters
    ----------
    values : array-like of shape (n_classes - 1,)
        Thresholds.
    n_classes : int
        Number of grades.
    owner, name : str
        Class and parameter to name.

    Returns
    -------
    ndarray of shape (n_classes - 1,)

    Raises
    ------
    ValueError
        If they are too few, too many, not finite, or do not fall.
    """
    cuts = as_numbers(values, name=f"{owner}: {name}")
    if cuts.shape != (n_classes - 1,):
        raise ValueError(
            f"{owner}: {name} has shape {cuts.shape} but n_classes={n_classes} grades have "
            f"{n_classes - 1} thresholds; pass one number for each"
        )
    if not np.isfinite(cuts).all() or (np.diff(cuts) >= 0).any():
        raise ValueError(
            f"{owner}: {name}={cuts.tolist()} must fall strictly, as grade 0 is the best; sort "
            "from high to low"
        )
    return cuts


def check_threshold_prior(estimator: Any) -> tuple[Array, Array]:
    """Prior means and standard deviations of the thresholds.

    Parameters
    ----------
    estimator : BayesianReuseClassifier
        Its parameters are checked.

    Returns
    -------
    mean : ndarray of shape (n_classes - 1,)
    sd : ndarray of shape (n_classes - 1,)
    """
    owner, k = type(estimator).__name__, estimator.n_classes
    needed = isinstance(estimator.thresholds, str) and estimator.thresholds != "quantile"
    if not needed:
        return np.empty(0), np.empty(0)
    mean = check_thresholds(estimator.threshold_mean, k, owner, "threshold_mean")
    if estimator.thresholds == "fixed":
        return mean, np.empty(0)
    sd = as_numbers(estimator.threshold_sd, name=f"{owner}: threshold_sd")
    if sd.ndim == 0:
        sd = np.full(k - 1, float(sd))
    if sd.shape != (k - 1,) or not np.isfinite(sd).all() or (sd <= 0).any():
        raise ValueError(
            f"{owner}: threshold_sd={sd.tolist()} must be {k - 1} positive numbers, one per "
            "threshold; pass one number for all, or as many as thresholds"
        )
    return mean, sd


def check_residual(values: ArrayLike, n_samples: int | None, owner: str, name: str) -> Array:
    """Residuals as float64; NaN only where they belong to rows.

    Parameters
    ----------
    values : array-like of shape (n_samples,)
        Residuals.
    n_samples : int or None
        Number of rows, where NaN means not measured; None allows any number
        and no NaN.
    owner, name : str
        Class and parameter to name.

    Returns
    -------
    ndarray of shape (n_samples,)

    Raises
    ------
    ValueError
        If the shape is wrong or numbers are infinite.
    """
    array = as_numbers(values, name=f"{owner}: {name}")
    if array.ndim == 2 and array.shape[1] == 1:
        array = array[:, 0]
    if array.ndim != 1 or (n_samples is not None and len(array) != n_samples) or not len(array):
        wanted = (
            "at least one number"
            if n_samples is None
            else f"one number for each of {n_samples} rows"
        )
        raise ValueError(f"{owner}: {name} has shape {array.shape}; pass {wanted}")
    bad = np.isinf(array) if n_samples is not None else ~np.isfinite(array)
    if bad.any():
        raise ValueError(
            f"{owner}: {name} has {int(bad.sum())} entries that are not finite; "
            + ("pass NaN where it was not measured" if n_samples is not None else "drop them")
        )
    return array


def observed_levels(
    estimator: Any,
    y: ArrayLike | None,
    residual: ArrayLike | None,
    n_samples: int,
    n_classes: int,
) -> tuple[NDArray[np.int64], Array]:
    """Grade codes, -1 where unknown, and residuals, NaN where unknown.

    Parameters
    ----------
    estimator : BayesianReuseClassifier
        Gives the mark of unknown grades.
    y : array-like of shape (n_samples,) or (n_samples, 2) or None
        Grades, or grades and residuals.
    residual : array-like of shape (n_samples,) or None
        Residuals.
    n_samples : int
        Number of rows.
    n_classes : int
        Number of grades.

    Returns
    -------
    levels : ndarray of shape (n_samples,)
    residual : ndarray of shape (n_samples,)

    Raises
    ------
    ValueError
        If grades are no grades, lengths differ, or what is needed is missing.
    """
    owner = type(estimator).__name__
    y = None if y is None else _numbers(y, owner)
    if y is not None and y.ndim == 2 and y.shape[1] == 2:
        if residual is not None:
            raise ValueError(
                f"{owner}: y has two columns, grade and residual, and residual was passed too; "
                "leave one out"
            )
        y, residual = y[:, 0], y[:, 1]
    if y is not None and y.ndim == 2 and y.shape[1] == 1:
        y = y[:, 0]
    if y is not None and y.shape != (n_samples,):
        raise ValueError(
            f"{owner}: y has shape {y.shape} but there are {n_samples} rows; pass one grade per "
            "row, or the two columns grade and residual"
        )
    levels = np.full(n_samples, -1, dtype=np.int64)
    if y is not None:
        known = ~(np.isnan(y) | (y == estimator.unlabeled))
        wrong = known & ~np.isin(y, np.arange(n_classes))
        if wrong.any():
            raise ValueError(
                f"{owner}: y holds {np.unique(y[wrong])[:10].tolist()}; grades are 0 to "
                f"{n_classes - 1}, 0 the best, and {estimator.unlabeled} or NaN where "
                "unknown, so recode them, raise n_classes, or pass residuals as residual="
            )
        levels[known] = y[known].astype(np.int64)
    if residual is None:
        residual = np.full(n_samples, np.nan)
    residual = check_residual(residual, n_samples, owner, "residual")
    return levels, residual


def _numbers(y: ArrayLike, owner: str) -> Array:
    """Grades as float64, missing ones as NaN."""
    try:
        return np.asarray(y, dtype=np.float64)
    except (TypeError, ValueError):
        values = np.asarray(y, dtype=object)
        flat = [np.nan if value is None else value for value in values.ravel().tolist()]
        try:
            return np.array(flat, dtype=np.float64).reshape(values.shape)
        except (TypeError, ValueError) as error:
            raise ValueError(
                f"{owner}: y holds values that are no numbers; grades are numbered from 0, the "
                "best, so recode them"
            ) from error


def check_enough(estimator: Any, y: NDArray[np.int64], residual: Array) -> None:
    """Refuse data from which nothing could be learned.

    Parameters
    ----------
    estimator : BayesianReuseClassifier
        Says how thresholds are found.
    y : ndarray of shape (n_samples,)
        Grade codes, -1 where unknown.
    residual : ndarray of shape (n_samples,)
        Residuals, NaN where unknown.

    Raises
    ------
    ValueError
        If residuals are missing where thresholds or grades depend on them.
    """
    owner, how = type(estimator).__name__, estimator.thresholds
    measured = np.isfinite(residual).any()
    if isinstance(how, str) and how in ("joint", "quantile") and not measured:
        raise ValueError(
            f"{owner}: thresholds={how!r} are found from residuals and none was measured; pass "
            "residual=, or thresholds='fixed' with grades in y"
        )
    if not measured and (y < 0).all():
        raise ValueError(f"{owner}: no row has a grade or a residual; pass y, residual= or both")


def chosen_thresholds(estimator: Any, mean: Array, residual: Array, weight: Array) -> Array:
    """Thresholds that are not sampled.

    Parameters
    ----------
    estimator : BayesianReuseClassifier
        Says how they are found.
    mean : ndarray of shape (n_classes - 1,)
        Used by "fixed".
    residual : ndarray of shape (n_samples,)
        Used by "quantile".
    weight : ndarray of shape (n_samples,)
        Weights of the rows.

    Returns
    -------
    ndarray of shape (n_classes - 1,)
    """
    owner, k = type(estimator).__name__, estimator.n_classes
    if not isinstance(estimator.thresholds, str):
        return check_thresholds(estimator.thresholds, k, owner, "thresholds")
    if estimator.thresholds == "fixed":
        return mean
    seen = np.isfinite(residual)
    values, place = np.unique(residual[seen], return_inverse=True)
    below = np.cumsum(np.bincount(place, weight[seen]))
    wanted = (1 - np.arange(1, k) / k) * below[-1]
    # Halfway to the next residual where the share is met exactly, as for a median of two.
    first = np.searchsorted(below, wanted * (1 - 1e-12))
    met = np.minimum(first + (below[first] <= wanted * (1 + 1e-12)), len(values) - 1)
    cuts = (values[first] + values[met]) / 2
    if (np.diff(cuts) >= 0).any():
        raise ValueError(
            f"{owner}: the quantiles of the residuals coincide at {cuts.tolist()}; pass fewer "
            "n_classes, or thresholds as numbers"
        )
    return cuts


def warn_about_cuts(
    estimator: Any, levels: NDArray[np.int64], y: NDArray[np.int64], joint: bool
) -> None:
    """Refuse a single grade; warn where residuals lie on one side of every prior threshold.

    Parameters
    ----------
    estimator : BayesianReuseClassifier
        Named in the message.
    levels : ndarray of shape (n_samples,)
        Grades, from the residual where unknown.
    y : ndarray of shape (n_samples,)
        Grades as given, -1 where unknown.
    joint : bool
        Whether thresholds are sampled.

    Raises
    ------
    ValueError
        If every row has the same grade and thresholds cannot change it.
    """
    owner = type(estimator).__name__
    if len(np.unique(levels)) > 1:
        return
    if not joint or (y >= 0).all():
        raise ValueError(
            f"{owner}: every row has grade {levels[0]}, one class; at least two grades are "
            "needed, so pass other rows or other thresholds"
        )
    warn_user(
        f"{owner}: all residuals lie on one side of every prior threshold (grade {levels[0]}), "
        "so that thresholds cannot be learned; check the units of residual and threshold_mean",
        UserWarning,
    )

"""Tables that show an estimated effect: along a covariate, and against what the data say."""

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import norm

from causal.effects._checks import indexable_rows
from causal.effects._effect_data import split_target
from causal.effects._learner import check_level
from causal.effects.pseudo_outcome import pseudo_outcome
from reweight.validation import check_sample_weight

if TYPE_CHECKING:
    import pandas as pd

Array = NDArray[np.float64]
EDGE_QUANTILES = (0.01, 0.99)


def effect_profile(
    learner: Any,
    X: Any,
    column: int | str,
    *,
    n_points: int = 50,
    confidence_level: float = 0.95,
) -> "pd.DataFrame":
    """Effect of a typical row along one covariate.

    All other columns stay at their median, or most frequent value if they are
    not numbers, and this one runs from its quantile 0.01 to 0.99.

    Parameters
    ----------
    learner : estimator
        Fitted learner of effects; intervals are there if it has
        `predict_interval`.
    X : array-like of shape (n_samples, n_features)
        Covariates: array or data frame.
    column : int or str
        Place or name of the covariate, which must be numeric.
    n_points : int, default=50
        Number of values.
    confidence_level : float, default=0.95
        Level of the pointwise intervals.

    Returns
    -------
    pandas.DataFrame
        Columns effect and, with intervals, lower and upper; the index holds the
        values of the covariate.

    Raises
    ------
    ValueError
        If the column is not there or not numeric.

    Examples
    --------
    >>> from causal import RLearner, effect_profile, make_cate
    >>> study = make_cate(500, setup="A", random_state=0)
    >>> learner = RLearner(random_state=0).fit(study.X, study.y, treatment=study.treatment)
    >>> list(effect_profile(learner, study.X, 0, n_points=5).columns)
    ['effect', 'lower', 'upper']
    """
    import pandas as pd

    check_level(confidence_level, "effect_profile")
    grid, rows = _typical_rows(indexable_rows(X, owner="effect_profile"), column, n_points)
    table = {"effect": learner.predict(rows)}
    if hasattr(learner, "predict_interval"):
        interval = learner.predict_interval(rows, confidence_level)
        table |= {"lower": interval[:, 0], "upper": interval[:, 1]}
    frame = pd.DataFrame(table, index=pd.Index(grid, name=_label(column)))
    frame.attrs["confidence_level"] = confidence_level
    return frame


def _label(column: int | str) -> str:
    return column if isinstance(column, str) else f"x{column}"


def _typical_rows(X: Any, column: int | str, n_points: int) -> tuple[Array, Any]:
    """Values of a column and rows that differ in it alone."""
    if not hasattr(X, "columns"):
        X = np.asarray(X, dtype=np.float64)
        if not isinstance(column, int | np.integer) or not -X.shape[1] <= column < X.shape[1]:
            raise ValueError(
                f"effect_profile: column is {column!r}, but X is an array of {X.shape[1]} columns; "
                "pass a place among them"
            )
        grid = _grid(X[:, column], n_points)
        rows = np.repeat(np.nanmedian(X, axis=0)[None, :], n_points, axis=0)
        rows[:, column] = grid
        return grid, rows
    import narwhals.stable.v1 as nw

    frame = nw.from_native(X, eager_only=True)
    name = column if isinstance(column, str) else frame.columns[column]
    if name not in frame.columns or not frame[name].dtype.is_numeric():
        raise ValueError(
            f"effect_profile: {name!r} is not a numeric column of X, whose columns are "
            f"{frame.columns}"
        )
    grid = _grid(frame[name].to_numpy().astype(np.float64), n_points)
    backend = nw.get_native_namespace(frame)
    series = []
    for other in frame.columns:
        values = frame[other]
        if other == name or values.dtype.is_numeric():
            filled = grid if other == name else np.full(n_points, float(values.median()))
            series.append(nw.new_series(other, filled, backend=backend))
        else:
            first = int(np.argmax((values == values.mode().sort()[0]).to_numpy()))
            series.append(values[[first] * n_points])
    frame = nw.concat([s.to_frame() for s in map(_renumbered, series)], how="horizontal")
    return grid, frame.to_native()


def _renumbered(series: Any) -> Any:
    """A series whose rows are numbered from zero, for containers that number rows."""
    import narwhals.stable.v1 as nw

    native = series.to_native()
    if hasattr(native, "reset_index"):
        return nw.from_native(native.reset_index(drop=True), series_only=True)
    return series


def _grid(values: Array, n_points: int) -> Array:
    low, high = np.nanquantile(values, EDGE_QUANTILES)
    return np.linspace(low, high, n_points)


def effect_calibration(
    effect: ArrayLike,
    target: ArrayLike,
    *,
    n_groups: int = 5,
    sample_weight: ArrayLike | None = None,
    confidence_level: float = 0.95,
) -> "pd.DataFrame":
    """Mean effects that a learner predicts and that the data show, by groups of the former.

    Rows are sorted by predicted effect and cut into groups of equal weight. What
    the data show is the mean of the doubly robust pseudo-outcome, whose error
    is known. Predictions must come from rows that were not used to fit the
    learner, as those of `cross_val_predict`.

    Parameters
    ----------
    effect : array-like of shape (n_samples,)
        Predicted effects.
    target : array-like of shape (n_samples, 6)
        What `CrossFitter.fit_transform` returns.
    n_groups : int, default=5
        Number of groups.
    sample_weight : array-like of shape (n_samples,), default=None
        Sampling weights.
    confidence_level : float, default=0.95
        Level of the intervals.

    Returns
    -------
    pandas.DataFrame
        One row for each group: n_rows, predicted, observed, stderr, lower,
        upper.

    Raises
    ------
    ValueError
        If the target does not have six columns, lengths differ, or there are
        fewer rows than two for each group.

    References
    ----------
    Chernozhukov, V., Demirer, M., Duflo, E., Fernandez-Val, I. (2018). Generic
    machine learning inference on heterogeneous treatment effects in randomized
    experiments. NBER working paper 24678.

    Examples
    --------
    >>> from sklearn.model_selection import cross_val_predict
    >>> from causal import CrossFitter, RLearner, effect_calibration, make_cate
    >>> study = make_cate(2000, setup="B", random_state=0)
    >>> target = CrossFitter(random_state=0).fit_transform(
    ...     study.X, study.y, treatment=study.treatment
    ... )
    >>> table = effect_calibration(cross_val_predict(RLearner(), study.X, target), target)
    >>> bool(table["observed"].is_monotonic_increasing)
    True
    """
    import pandas as pd

    check_level(confidence_level, "effect_calibration")
    y, t, nuisances = split_target(target, None, owner="effect_calibration")
    effect = np.asarray(effect, dtype=np.float64)
    if "mu0" not in nuisances or effect.shape != y.shape:
        raise ValueError(
            f"effect_calibration: effect has shape {effect.shape} and target "
            f"{np.shape(target)}; pass one effect for each row of the six-column target of "
            "CrossFitter"
        )
    if n_groups < 1 or len(y) < 2 * n_groups:
        raise ValueError(
            f"effect_calibration: n_groups={n_groups} for {len(y)} rows; pass at least two rows "
            "for each group"
        )
    s = check_sample_weight(sample_weight, y)
    f = pseudo_outcome("dr", y, t.astype(np.float64), **nuisances)
    order = np.argsort(effect, kind="stable")
    place = (np.cumsum(s[order]) - s[order] / 2) / s.sum()
    group = np.empty(len(y), dtype=np.intp)
    group[order] = np.minimum((place * n_groups).astype(np.intp), n_groups - 1)
    total = np.bincount(group, s, n_groups)
    predicted = np.bincount(group, s * effect, n_groups) / total
    observed = np.bincount(group, s * f, n_groups) / total
    square = np.bincount(group, (s * (f - observed[group])) ** 2, n_groups)
    stderr = np.sqrt(square) / total
    half = norm.isf((1 - confidence_level) / 2) * stderr
    return pd.DataFrame(
        {
            "n_rows": np.bincount(group, minlength=n_groups),
            "predicted": predicted,
            "observed": observed,
            "stderr": stderr,
            "lower": observed - half,
            "upper": observed + half,
        },
        index=pd.RangeIndex(1, n_groups + 1, name="group"),
    )

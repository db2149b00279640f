"""Magnitude of a set of points: the effective number of distinct ones at a scale."""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.utils import check_random_state

from reweight.metric_space.weighting_vector import WeightingVector

# Checks name the class of the estimator that they are made for.
_WEIGHTING = type("magnitude", (WeightingVector,), {})


def magnitude(
    X: Any,
    scale: float = 1.0,
    metric: str | Callable = "euclidean",
    *,
    p: float = 2,
    solver: str = "auto",
    n_neighbors: int = 30,
    exact_max: int = 8000,
    n_jobs: int | None = None,
    random_state: int | np.random.RandomState | None = None,
) -> float:
    r"""Magnitude of the rows of X at a scale.

    The sum :math:`1' Z^{-1} 1` of all entries of the inverse of
    :math:`Z_{ij} = \exp(-t\, d(x_i, x_j))`: one where all rows look like one, and
    the number of distinct rows where all look different.

    Parameters
    ----------
    X : array-like of shape (n_samples, n_features)
        Features, or distances for metric "precomputed".
    scale : float, default=1
        Inverse length t.
    metric : str or callable, default="euclidean"
        As in `WeightingVector`.
    p : float, default=2
        Power of `metric="minkowski"`.
    solver : str, default="auto"
        As in `WeightingVector`; the magnitude by "vecchia" is never negative.
    n_neighbors : int, default=30
        Neighbours of approximate solvers.
    exact_max : int, default=8000
        Most points that are solved exactly by "auto".
    n_jobs : int, default=None
        Number of threads.
    random_state : int, RandomState or None, default=None
        Order of the points of "vecchia".

    Returns
    -------
    float

    Raises
    ------
    ValueError
        As in `WeightingVector`.

    See Also
    --------
    WeightingVector : What each row contributes.

    References
    ----------
    Leinster, T. (2013). The magnitude of metric spaces. Documenta Mathematica,
    18, 857-905.

    Examples
    --------
    Two points at distance d have magnitude 1 + tanh(t d / 2).

    >>> from reweight import magnitude
    >>> round(magnitude([[0.0], [2.0]], scale=1.0), 4)
    1.7616
    """
    weighting = _WEIGHTING(
        scale=scale,
        metric=metric,
        p=p,
        solver=solver,
        n_neighbors=n_neighbors,
        exact_max=exact_max,
        n_jobs=n_jobs,
        random_state=random_state,
    )
    return weighting.fit(X).magnitude_


def magnitude_function(
    X: Any,
    scales: ArrayLike,
    metric: str | Callable = "euclidean",
    *,
    p: float = 2,
    solver: str = "auto",
    n_neighbors: int = 30,
    exact_max: int = 8000,
    n_jobs: int | None = None,
    random_state: int | np.random.RandomState | None = None,
    verbose: int = 0,
) -> NDArray[np.float64]:
    """Magnitude of the rows of X at each of many scales.

    Where the rows look like a solid of k dimensions, the magnitude grows as the
    k-th power of the scale: `np.gradient(np.log(magnitudes), np.log(scales))` is
    the dimension at each scale.

    Parameters
    ----------
    X : array-like of shape (n_samples, n_features)
        Features, or distances for metric "precomputed".
    scales : array-like of shape (n_scales,)
        Inverse lengths t.
    metric : str or callable, default="euclidean"
        As in `WeightingVector`.
    p : float, default=2
        Power of `metric="minkowski"`.
    solver : str, default="auto"
        As in `WeightingVector`.
    n_neighbors : int, default=30
        Neighbours of approximate solvers.
    exact_max : int, default=8000
        Most points that are solved exactly by "auto".
    n_jobs : int, default=None
        Number of threads.
    random_state : int, RandomState or None, default=None
        Order of the points of "vecchia", the same at all scales.
    verbose : int, default=0
        Whether to show a progress bar over scales.

    Returns
    -------
    ndarray of shape (n_scales,)

    Raises
    ------
    ValueError
        If scales are not positive and finite, and as in `WeightingVector`.

    Examples
    --------
    >>> from reweight import magnitude_function
    >>> magnitude_function([[0.0], [1.0], [2.0]], [0.01, 1.0, 100.0]).round(3)
    array([1.01 , 1.924, 3.   ])
    """
    scales = np.asarray(scales, dtype=np.float64)
    wrong = ~(np.isfinite(scales) & (scales > 0))
    if scales.ndim != 1 or not len(scales) or wrong.any():
        found = f"shape {scales.shape}" if scales.ndim != 1 or not len(scales) else scales[wrong][0]
        raise ValueError(
            f"magnitude_function: scales must be a list of positive numbers, got {found}; pass "
            "for example numpy.geomspace(0.1, 10, 20)"
        )
    seed = check_random_state(random_state).randint(np.iinfo(np.int32).max)
    steps = scales
    if verbose:
        from tqdm.auto import tqdm

        steps = tqdm(scales, desc="scales")
    return np.array(
        [
            magnitude(
                X,
                float(scale),
                metric,
                p=p,
                solver=solver,
                n_neighbors=n_neighbors,
                exact_max=exact_max,
                n_jobs=n_jobs,
                random_state=seed,
            )
            for scale in steps
        ]
    )

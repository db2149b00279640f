"""Simulated covariate shift: one law of y given x, two distributions of x."""

from collections.abc import Callable
from dataclasses import dataclass
from numbers import Integral

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from scipy.special import expit
from scipy.stats import norm
from sklearn.utils import Bunch
from sklearn.utils._param_validation import Interval, StrOptions, validate_params

KEEP_IN_SOURCE = 0.7
RINGNORM_FEATURES = 20


@dataclass(frozen=True)
class _Draw:
    X: NDArray[np.float64]
    y: NDArray
    X_target: NDArray[np.float64]
    y_target: NDArray
    density_ratio: NDArray[np.float64]


@validate_params(
    {
        "n_source": [Interval(Integral, 1, None, closed="left")],
        "n_target": [Interval(Integral, 1, None, closed="left")],
        "design": [StrOptions({"gaussian", "offset", "planar", "ringnorm", "sinc"})],
        "n_features": [Interval(Integral, 1, None, closed="left"), None],
        "random_state": ["random_state", np.random.Generator],
    },
    prefer_skip_nested_validation=True,
)
def make_covariate_shift(
    n_source: int = 500,
    n_target: int = 500,
    *,
    design: str = "gaussian",
    n_features: int | None = None,
    random_state: int | Generator | np.random.RandomState | None = None,
) -> Bunch:
    """Draw source rows and target rows whose features are distributed differently.

    Parameters
    ----------
    n_source, n_target : int, default=500
        Numbers of rows.
    design : {"gaussian", "planar", "sinc", "offset", "ringnorm"}, default="gaussian"
        What is drawn.

        - "gaussian": source N(0, I), target N(0.7, 0.64 I); classes with
          log odds 2 x_1 - x_2 + x_1 x_2.
        - "planar": two features, source N(0, I), target N((0.8, -0.4), 0.49 I);
          classes with log odds 2 x_1 - x_2.
        - "sinc": one feature, source N(1, 1/4), target N(2, 1/16); regression
          of sin(pi x) / (pi x) with noise of standard deviation 1/4. A
          straight line fits each of both samples but not the same one.
        - "offset": uniform on cubes of side 2 that share half of the first
          axis, so each sample has rows where the other has none; classes with
          log odds 3 x_1 - 1.5 in the half that the source covers, falling
          beyond it.
        - "ringnorm": two classes, N(0, 4 I) and N(2/sqrt(20), I) in 20
          dimensions; a row below the median of the first feature is a source
          row with probability 0.7, one above it with probability 0.3.
    n_features : int, default=None
        Number of columns of "gaussian" (at least two, default 5) and "offset"
        (default 2); the other designs have their own.
    random_state : int, Generator, RandomState or None, default=None
        An int seeds `numpy.random.default_rng`.

    Returns
    -------
    Bunch
        With these entries:

        X : ndarray of shape (n_source, n_features)
            Source features.
        y : ndarray of shape (n_source,)
            Source outcomes: classes 0 and 1, or numbers for "sinc".
        X_target : ndarray of shape (n_target, n_features)
            Target features.
        y_target : ndarray of shape (n_target,)
            Target outcomes, which only an evaluation should look at.
        density_ratio : ndarray of shape (n_source,)
            The true ratio of target to source density at each source row.
        design : str
            Name of the design.

    Raises
    ------
    ValueError
        If the design does not have that many features.

    References
    ----------
    Shimodaira, H. (2000). Improving predictive inference under covariate shift
    by weighting the log-likelihood function. Journal of Statistical Planning
    and Inference, 90(2), 227-244.

    Sugiyama, M., Krauledat, M., Mueller, K.-R. (2007). Covariate shift
    adaptation by importance weighted cross validation. JMLR, 8, 985-1005.

    Breiman, L. (1996). Bias, variance, and arcing classifiers. Technical report
    460, University of California, Berkeley.

    Examples
    --------
    >>> from shift import make_covariate_shift
    >>> data = make_covariate_shift(200, 100, design="sinc", random_state=0)
    >>> data.X.shape, data.X_target.shape
    ((200, 1), (100, 1))
    >>> data.X.mean(axis=0).round(1), data.X_target.mean(axis=0).round(1)
    (array([1.]), array([2.]))
    """
    if isinstance(random_state, np.random.RandomState):
        random_state = random_state.randint(np.iinfo(np.int32).max)
    rng = np.random.default_rng(random_state)
    n_features = _check_features(design, n_features)
    draw = DESIGNS[design](n_source, n_target, n_features, rng)
    return Bunch(
        X=draw.X,
        y=draw.y,
        X_target=draw.X_target,
        y_target=draw.y_target,
        density_ratio=draw.density_ratio,
        design=design,
    )


def _check_features(design: str, n_features: int | None) -> int:
    default, least, most = {
        "gaussian": (5, 2, np.inf),
        "offset": (2, 1, np.inf),
        "planar": (2, 2, 2),
        "ringnorm": (RINGNORM_FEATURES,) * 3,
        "sinc": (1, 1, 1),
    }[design]
    if n_features is None:
        return default
    if not least <= n_features <= most:
        bound = "at least " if most == np.inf else ""
        raise ValueError(
            f"make_covariate_shift: design {design!r} has {bound}{least} features, got "
            f"n_features={n_features}; leave it out"
        )
    return n_features


def _classes(log_odds: NDArray, rng: Generator) -> NDArray[np.intp]:
    return (rng.uniform(size=len(log_odds)) < expit(log_odds)).astype(np.intp)


def _normal_ratio(X: NDArray, mean: NDArray | float, scale: float) -> NDArray[np.float64]:
    """Ratio of N(mean, scale^2 I) to N(0, I)."""
    logs = norm.logpdf(X, mean, scale) - norm.logpdf(X)
    return np.exp(logs.sum(axis=1))


def _gaussian(n: int, t: int, p: int, rng: Generator) -> _Draw:
    def log_odds(X):
        return 2 * X[:, 0] - X[:, 1] + X[:, 0] * X[:, 1]

    X, X_target = rng.normal(0, 1, (n, p)), rng.normal(0.7, 0.8, (t, p))
    y, y_target = _classes(log_odds(X), rng), _classes(log_odds(X_target), rng)
    return _Draw(X, y, X_target, y_target, _normal_ratio(X, 0.7, 0.8))


def _planar(n: int, t: int, p: int, rng: Generator) -> _Draw:
    mean = np.array([0.8, -0.4])

    def log_odds(X):
        return 2 * X[:, 0] - X[:, 1]

    X = rng.normal(size=(n, p))
    y = _classes(log_odds(X), rng)
    X_target = 0.7 * rng.normal(size=(t, p)) + mean
    y_target = _classes(log_odds(X_target), rng)
    return _Draw(X, y, X_target, y_target, _normal_ratio(X, mean, 0.7))


def _sinc(n: int, t: int, p: int, rng: Generator) -> _Draw:
    X, X_target = rng.normal(1.0, 0.5, (n, p)), rng.normal(2.0, 0.25, (t, p))

    def outcome(X):
        return np.sinc(X[:, 0]) + rng.normal(0.0, 0.25, len(X))

    y, y_target = outcome(X), outcome(X_target)
    x = X[:, 0]
    ratio = np.exp(norm.logpdf(x, 2.0, 0.25) - norm.logpdf(x, 1.0, 0.5))
    return _Draw(X, y, X_target, y_target, ratio)


def _offset(n: int, t: int, p: int, rng: Generator) -> _Draw:
    X, X_target = rng.uniform(-1, 1, (n, p)), rng.uniform(-1, 1, (t, p))
    X_target[:, 0] += 1.0

    def log_odds(X):
        x = X[:, 0]
        return 3 * np.minimum(x, 2 - x) - 1.5

    y, y_target = _classes(log_odds(X), rng), _classes(log_odds(X_target), rng)
    return _Draw(X, y, X_target, y_target, (X[:, 0] >= 0).astype(float))


def _ringnorm(n: int, t: int, p: int, rng: Generator) -> _Draw:
    size = 2 * (n + t) + 50
    while True:
        y = rng.integers(0, 2, size)
        X = rng.normal(size=(size, p))
        X = np.where(y[:, None] == 0, 2 * X, X + 2 / np.sqrt(RINGNORM_FEATURES))
        low = X[:, 0] <= np.median(X[:, 0])
        to_source = rng.uniform(size=size) < np.where(low, KEEP_IN_SOURCE, 1 - KEEP_IN_SOURCE)
        source, target = np.flatnonzero(to_source), np.flatnonzero(~to_source)
        if len(source) >= n and len(target) >= t:
            break
        size *= 2
    source, target = source[:n], target[:t]
    odds = (1 - KEEP_IN_SOURCE) / KEEP_IN_SOURCE
    return _Draw(X[source], y[source], X[target], y[target], np.where(low[source], odds, 1 / odds))


DESIGNS: dict[str, Callable[[int, int, int, Generator], _Draw]] = {
    "gaussian": _gaussian,
    "offset": _offset,
    "planar": _planar,
    "ringnorm": _ringnorm,
    "sinc": _sinc,
}

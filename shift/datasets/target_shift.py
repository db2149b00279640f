"""Simulated target shift: one law of the features given the outcome, two of the outcome."""

from numbers import Integral, Real

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from scipy.stats import norm
from sklearn.utils import Bunch
from sklearn.utils._param_validation import Interval, StrOptions, validate_params

# Source mean and standard deviation, target mean and standard deviation, noise of the features.
NORMAL_OUTCOMES = {
    "tanh": (0.0, 2.0, 0.5, 0.5, 1.0),
    "zhang": (2.0, 2.0, 0.0, 0.5, 1.5),
}
GAUSSIAN_MEAN = 0.3
GAUSSIAN_CORRELATION = 0.9
MIXTURE = ((0.4, 1.0, 1.5), (0.6, 2.5, 0.5))
CLASS_MEANS = np.array([[0.0, 0.0], [1.5, 0.0], [0.0, 1.5]])
SOURCE_PRIOR = np.array([0.5, 0.3, 0.2])
TARGET_PRIOR = np.array([0.15, 0.25, 0.6])


@validate_params(
    {
        "n_source": [Interval(Integral, 1, None, closed="left")],
        "n_target": [Interval(Integral, 1, None, closed="left"), None],
        "design": [StrOptions({"tanh", "zhang", "gaussian", "mixture", "classes"})],
        "target_mean": [Interval(Real, None, None, closed="neither"), None],
        "target_std": [Interval(Real, 0, None, closed="neither"), None],
        "n_features": [Interval(Integral, 1, None, closed="left")],
        "random_state": ["random_state", np.random.Generator],
    },
    prefer_skip_nested_validation=True,
)
def make_target_shift(
    n_source: int = 500,
    n_target: int | None = None,
    *,
    design: str = "tanh",
    target_mean: float | None = None,
    target_std: float | None = None,
    n_features: int = 1,
    random_state: int | Generator | np.random.RandomState | None = None,
) -> Bunch:
    """Draw source rows and target rows whose outcomes are distributed differently.

    Parameters
    ----------
    n_source : int, default=500
        Number of source rows.
    n_target : int, default=None
        Number of target rows; None is as many as in the source.
    design : {"tanh", "zhang", "gaussian", "mixture", "classes"}, default="tanh"
        What is drawn.

        - "tanh": source y from N(0, 4), target y from N(0.5, 0.25), and
          x = y + 3 tanh(y) + N(0, 1).
        - "zhang": the same curve with noise of standard deviation 1.5, source y
          from N(2, 4), target y from N(0, 0.25).
        - "gaussian": x and y standard normal with correlation 0.9 in the
          source, and target y from N(0.3, 1).
        - "mixture": source y from 0.4 N(1, 2.25) + 0.6 N(2.5, 0.25), target y
          from N(2.5, 0.25), and x = y + 3 + N(0, 2.25).
        - "classes": three classes, normal around (0, 0), (1.5, 0) and (0, 1.5)
          with unit covariance, in the shares (0.5, 0.3, 0.2) in the source and
          (0.15, 0.25, 0.6) in the target.
    target_mean : float, default=None
        Mean of the target's y in place of the design's; not for "classes".
    target_std : float, default=None
        Its standard deviation; not for "classes".
    n_features : int, default=1
        Number of columns of the designs with a number as outcome. With p of
        them the noise of each is sqrt(p) times as large and independent, so
        that their mean is as informative as the one column.
    random_state : int, Generator, RandomState or None, default=None
        An int seeds `numpy.random.default_rng`.

    Returns
    -------
    Bunch
        With these entries:

        X : ndarray of shape (n_source, n_features)
            Source features.
        y : ndarray of shape (n_source,)
            Source outcomes, integers for "classes".
        X_target : ndarray of shape (n_target, n_features)
            Target features.
        y_target : ndarray of shape (n_target,)
            Target outcomes, which only an evaluation should look at.
        density_ratio : ndarray of shape (n_source,)
            The true ratio of target to source density of the outcome at each
            source row.
        design : str
            Name of the design.

    Raises
    ------
    ValueError
        If "classes" is asked for other outcomes or columns than it has.

    References
    ----------
    Kim, H., Zhang, X., Zhao, J., Tian, Q. (2024). ReTaSA: a nonparametric
    functional estimation approach for addressing continuous target shift. ICLR.

    Zhang, K., Schoelkopf, B., Muandet, K., Wang, Z. (2013). Domain adaptation
    under target and conditional shift. ICML.

    Nguyen, T. D., Christoffel, M., Sugiyama, M. (2015). Continuous target shift
    adaptation in supervised learning. ACML.

    Examples
    --------
    >>> from shift import make_target_shift
    >>> data = make_target_shift(2000, 1000, random_state=0)
    >>> data.X.shape, data.X_target.shape
    ((2000, 1), (1000, 1))
    >>> print(data.y.mean().round(1), data.y_target.mean().round(1))
    -0.1 0.5
    """
    if isinstance(random_state, np.random.RandomState):
        random_state = random_state.randint(np.iinfo(np.int32).max)
    elif random_state is np.random:
        random_state = np.random.randint(np.iinfo(np.int32).max)  # noqa: NPY002
    rng = np.random.default_rng(random_state)
    n_target = n_source if n_target is None else n_target
    if design == "classes":
        if n_features != 1 or target_mean is not None or target_std is not None:
            raise ValueError(
                "make_target_shift: design='classes' has two columns and fixed shares of its "
                "classes; leave out n_features, target_mean and target_std"
            )
        return _classes(n_source, n_target, rng)
    y = _source_outcomes(design, n_source, rng)
    mean, std = _target_moments(design, target_mean, target_std)
    y_target = rng.normal(mean, std, n_target)
    return Bunch(
        X=_features(design, y, n_features, rng),
        y=y,
        X_target=_features(design, y_target, n_features, rng),
        y_target=y_target,
        density_ratio=norm.pdf(y, mean, std) / _source_density(design, y),
        design=design,
    )


def _source_outcomes(design: str, n: int, rng: Generator) -> NDArray[np.float64]:
    if design == "mixture":
        (share, mean, std), (_, other_mean, other_std) = MIXTURE
        first = rng.random(n) < share
        return np.where(first, rng.normal(mean, std, n), rng.normal(other_mean, other_std, n))
    if design == "gaussian":
        return rng.standard_normal(n)
    mean, std, *_ = NORMAL_OUTCOMES[design]
    return rng.normal(mean, std, n)


def _source_density(design: str, y: NDArray[np.float64]) -> NDArray[np.float64]:
    if design == "mixture":
        return sum(share * norm.pdf(y, mean, std) for share, mean, std in MIXTURE)
    mean, std = NORMAL_OUTCOMES[design][:2] if design in NORMAL_OUTCOMES else (0.0, 1.0)
    return norm.pdf(y, mean, std)


def _target_moments(design: str, mean: float | None, std: float | None) -> tuple[float, float]:
    if design == "mixture":
        own = MIXTURE[1][1:]
    elif design == "gaussian":
        own = (GAUSSIAN_MEAN, 1.0)
    else:
        own = NORMAL_OUTCOMES[design][2:4]
    return own[0] if mean is None else mean, own[1] if std is None else std


def _features(
    design: str, y: NDArray[np.float64], n_features: int, rng: Generator
) -> NDArray[np.float64]:
    """Features given outcomes, the same in source and target."""
    if design == "gaussian":
        curve, noise = GAUSSIAN_CORRELATION * y, np.sqrt(1.0 - GAUSSIAN_CORRELATION**2)
    elif design == "mixture":
        curve, noise = y + 3.0, 1.5
    else:
        curve, noise = y + 3.0 * np.tanh(y), NORMAL_OUTCOMES[design][4]
    spread = noise * np.sqrt(n_features)
    return curve[:, None] + spread * rng.standard_normal((len(y), n_features))


def _classes(n_source: int, n_target: int, rng: Generator) -> Bunch:
    y = rng.choice(3, n_source, p=SOURCE_PRIOR)
    y_target = rng.choice(3, n_target, p=TARGET_PRIOR)
    return Bunch(
        X=CLASS_MEANS[y] + rng.standard_normal((n_source, 2)),
        y=y,
        X_target=CLASS_MEANS[y_target] + rng.standard_normal((n_target, 2)),
        y_target=y_target,
        density_ratio=(TARGET_PRIOR / SOURCE_PRIOR)[y],
        design="classes",
    )

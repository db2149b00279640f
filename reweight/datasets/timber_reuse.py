"""Simulated timber specimens, tested after wet-dry cycles and graded for reuse."""

from numbers import Integral

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from scipy.special import ndtr
from sklearn.utils import Bunch
from sklearn.utils._param_validation import Interval, validate_params

Array = NDArray[np.float64]

FEATURES = ("density", "moisture_content", "depth", "grain_angle", "hardness")
METRICS = ("modulus", "load")
THRESHOLDS = np.array([0.90, 0.75])
# Mean and total standard deviation of the residual after one, two and three cycles.
CYCLE_MEAN = np.array([0.94, 0.80, 0.76])
CYCLE_SD = np.array([0.0763, 0.10, 0.10])
# Effect on the residual of a standard deviation of density, moisture, grain and hardness.
EFFECTS = {"density": 0.030, "hardness": 0.030, "moisture_content": -0.025, "grain_angle": -0.010}
HARDNESS_ON_DENSITY = 0.6
LOAD_NOISE = 0.06
MODULUS_WEIGHT = 0.8


def _linear_variance() -> float:
    """Variance of the part of the residual that the features explain."""
    joint = 2 * HARDNESS_ON_DENSITY * EFFECTS["density"] * EFFECTS["hardness"]
    return sum(effect**2 for effect in EFFECTS.values()) + joint


@validate_params(
    {
        "n_per_cycle": ["array-like", Interval(Integral, 0, None, closed="left")],
        "n_controls": [Interval(Integral, 2, None, closed="left")],
        "random_state": ["random_state", np.random.Generator],
        "return_frame": ["boolean"],
    },
    prefer_skip_nested_validation=True,
)
def make_timber_reuse(
    n_per_cycle: int | tuple[int, int, int] = (100, 100, 100),
    n_controls: int = 30,
    random_state: int | Generator | np.random.RandomState | None = None,
    *,
    return_frame: bool = False,
) -> Bunch:
    """Draw timber specimens after one to three wet-dry cycles, and unexposed controls.

    The residual performance of a specimen is its cycle's mean, 0.94, 0.80 or
    0.76, plus effects of density, surface hardness, moisture content and grain
    angle, plus noise; its depth has no effect. It lies above 0.90 for 70 % of
    the specimens after one cycle. Grades are 0 at 0.90 or more, 1 at 0.75 or
    more, else 2.

    Parameters
    ----------
    n_per_cycle : int or tuple of 3 int, default=(100, 100, 100)
        Number of specimens after one, two and three cycles.
    n_controls : int, default=30
        Number of unexposed controls.
    random_state : int, Generator, RandomState or None, default=None
        An int seeds `numpy.random.default_rng`.
    return_frame : bool, default=False
        Whether `X` and `metrics` are pandas data frames.

    Returns
    -------
    Bunch
        With these entries, exposed specimens first:

        X : ndarray or DataFrame of shape (n, 5)
            Density in kg/m3, moisture content in %, depth in mm, grain angle
            in degrees and surface hardness in kN: what can be measured in the
            field.
        feature_names : list of str
            Names of the columns of X.
        metrics : ndarray or DataFrame of shape (n, 2)
            Flexural modulus in GPa and maximum load in kN, from destructive tests.
        is_control : ndarray of shape (n,)
            Whether the specimen was never exposed.
        cycles : ndarray of shape (n,)
            Number of wet-dry cycles, 0 for controls.
        residual : ndarray of shape (n,)
            0.8 times the share of the controls' mean modulus plus 0.2 times
            that of the load; NaN for controls.
        level : ndarray of shape (n,)
            Grade, -1 for controls.
        level_probability : ndarray of shape (n, 3)
            True probability of each grade given features and cycles; NaN for
            controls.

    Raises
    ------
    ValueError
        If `n_per_cycle` is not three counts, or all of them are zero.

    References
    ----------
    Probabilistic assessment of engineered timber reusability after moisture
    exposure (2025). Preprint. Simulated to agree with the figures of its
    abstract; its specimens are not public.

    Examples
    --------
    >>> from reweight import make_timber_reuse
    >>> data = make_timber_reuse(random_state=0)
    >>> data.X.shape, int(data.is_control.sum())
    ((330, 5), 30)
    """
    counts = np.broadcast_to(np.asarray(n_per_cycle), (3,)) if np.ndim(n_per_cycle) == 0 else None
    counts = np.asarray(n_per_cycle) if counts is None else counts
    if (
        counts.shape != (3,)
        or counts.dtype.kind not in "iu"
        or counts.min() < 0
        or not counts.sum()
    ):
        raise ValueError(
            f"make_timber_reuse: n_per_cycle={n_per_cycle!r} must be three counts, not all zero; "
            "pass one for each of one, two and three cycles"
        )
    if isinstance(random_state, np.random.RandomState):
        random_state = random_state.randint(np.iinfo(np.int32).max)
    elif random_state is np.random:
        random_state = np.random.randint(np.iinfo(np.int32).max)  # noqa: NPY002
    rng = np.random.default_rng(random_state)
    cycles = np.repeat([1, 2, 3, 0], [*counts, n_controls])
    exposed = cycles > 0
    X, explained = _features(exposed, rng)
    residual, probability = _residuals(cycles[exposed], explained[exposed], rng)
    metrics = _metrics(exposed, residual, rng)
    n = len(cycles)
    data = Bunch(
        X=X,
        feature_names=list(FEATURES),
        metrics=metrics,
        is_control=~exposed,
        cycles=cycles,
        residual=np.full(n, np.nan),
        level=np.full(n, -1),
        level_probability=np.full((n, 3), np.nan),
    )
    data.residual[exposed] = residual
    data.level[exposed] = (residual[:, None] < THRESHOLDS).sum(axis=1)
    data.level_probability[exposed] = probability
    if return_frame:
        import pandas as pd

        data.X = pd.DataFrame(X, columns=list(FEATURES))
        data.metrics = pd.DataFrame(metrics, columns=list(METRICS))
    return data


def _features(exposed: NDArray[np.bool_], rng: Generator) -> tuple[Array, Array]:
    """Features in their units, and the part of the residual that they explain."""
    n = len(exposed)
    z = {"density": rng.standard_normal(n), "moisture_content": rng.standard_normal(n)}
    own = np.sqrt(1 - HARDNESS_ON_DENSITY**2) * rng.standard_normal(n)
    z["hardness"] = HARDNESS_ON_DENSITY * z["density"] + own
    z["grain_angle"] = rng.choice([-1.0, 1.0], n)
    X = np.column_stack(
        [
            480 + 40 * z["density"],
            np.where(exposed, 25 + 2 * z["moisture_content"], 12 + z["moisture_content"]),
            rng.choice([45.0, 90.0, 145.0], n),
            45 + 45 * z["grain_angle"],
            3 + 0.5 * z["hardness"],
        ]
    )
    return X, sum(effect * z[name] for name, effect in EFFECTS.items())


def _residuals(cycles: NDArray[np.intp], explained: Array, rng: Generator) -> tuple[Array, Array]:
    """Residuals, and the probability of each grade given features and cycles."""
    center = CYCLE_MEAN[cycles - 1] + explained
    noise = np.sqrt(CYCLE_SD[cycles - 1] ** 2 - _linear_variance())
    above = ndtr((center[:, None] - THRESHOLDS) / noise[:, None])
    probability = np.column_stack([above[:, 0], above[:, 1] - above[:, 0], 1 - above[:, 1]])
    return center + noise * rng.standard_normal(len(center)), probability


def _metrics(exposed: NDArray[np.bool_], residual: Array, rng: Generator) -> Array:
    """Modulus and load whose shares of the controls' sample means give the residual."""
    metrics = np.empty((len(exposed), 2))
    n_controls = int((~exposed).sum())
    metrics[~exposed] = rng.normal([11.0, 4.0], [1.0, 0.4], (n_controls, 2))
    load = residual + LOAD_NOISE * rng.standard_normal(len(residual))
    modulus = (residual - (1 - MODULUS_WEIGHT) * load) / MODULUS_WEIGHT
    metrics[exposed] = np.column_stack([modulus, load]) * metrics[~exposed].mean(axis=0)
    return metrics

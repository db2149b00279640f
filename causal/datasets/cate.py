"""Simulated studies whose effect differs between rows."""

from numbers import Integral, Real

import numpy as np
from numpy.typing import NDArray
from sklearn.utils import Bunch
from sklearn.utils._param_validation import Interval, StrOptions, validate_params

Array = NDArray[np.float64]
DEFAULT_FEATURES = 6
SMALLEST = {"A": 5, "B": 5, "C": 3, "D": 5, "E": 1, "F": 1}


def _setup_a(X: Array) -> tuple[Array, Array, Array]:
    wave = np.sin(np.pi * X[:, 0] * X[:, 1])
    baseline = wave + 2 * (X[:, 2] - 0.5) ** 2 + X[:, 3] + 0.5 * X[:, 4]
    return baseline, wave.clip(0.1, 0.9), (X[:, 0] + X[:, 1]) / 2


def _setup_b(X: Array) -> tuple[Array, Array, Array]:
    first = np.maximum(0.0, np.maximum(X[:, 0] + X[:, 1], X[:, 2]))
    baseline = first + np.maximum(0.0, X[:, 3] + X[:, 4])
    return baseline, np.full(len(X), 0.5), X[:, 0] + np.logaddexp(0.0, X[:, 1])


def _setup_c(X: Array) -> tuple[Array, Array, Array]:
    baseline = 2 * np.logaddexp(0.0, X[:, 0] + X[:, 1] + X[:, 2])
    return baseline, 1 / (1 + np.exp(X[:, 1] + X[:, 2])), np.ones(len(X))


def _setup_d(X: Array) -> tuple[Array, Array, Array]:
    first = np.maximum(X[:, 0] + X[:, 1] + X[:, 2], 0.0)
    second = np.maximum(X[:, 3] + X[:, 4], 0.0)
    return (first + second) / 2, 1 / (1 + np.exp(-X[:, 0]) + np.exp(-X[:, 1])), first - second


def _setup_e(X: Array) -> tuple[Array, Array, Array]:
    x = X[:, 0]
    baseline = np.select(
        [x <= -0.5, x < 0, x < 0.5],
        [0.5 * (x + 2) ** 2, x / 2 + 0.875, -5 * (x - 0.2) ** 2 + 1.075],
        x + 0.125,
    )
    return baseline, 0.1 + 0.8 * (x > 0), np.zeros(len(x))


def _setup_f(X: Array) -> tuple[Array, Array, Array]:
    return np.zeros(len(X)), X[:, 0], np.zeros(len(X))


SETUPS = {"A": _setup_a, "B": _setup_b, "C": _setup_c, "D": _setup_d, "E": _setup_e, "F": _setup_f}
UNIFORM = {"A": (0.0, 1.0), "E": (-1.0, 1.0), "F": (0.05, 0.95)}


@validate_params(
    {
        "n_samples": [Interval(Integral, 1, None, closed="left")],
        "setup": [StrOptions(set(SETUPS))],
        "n_features": [Interval(Integral, 1, None, closed="left"), None],
        "noise": [Interval(Real, 0, None, closed="left")],
        "random_state": ["random_state", np.random.Generator],
    },
    prefer_skip_nested_validation=True,
)
def make_cate(
    n_samples: int = 1000,
    *,
    setup: str = "A",
    n_features: int | None = None,
    noise: float = 1.0,
    random_state: int | np.random.Generator | np.random.RandomState | None = None,
) -> Bunch:
    """Draw a study from the designs by which learners of effects are compared.

    The treatment is Bernoulli(e(x)) and the outcome is
    b(x) + (t - 1/2) tau(x) + noise. Setups A to D are those of Nie and Wager, E
    is that of Kennedy and F that of Fisher:

    - A: uniform on (0, 1); b = sin(pi x1 x2) + 2 (x3 - 1/2)^2 + x4 + x5/2,
      e = sin(pi x1 x2) within [0.1, 0.9], tau = (x1 + x2)/2. Hard nuisances,
      easy effect.
    - B: normal; b = max(0, x1 + x2, x3) + max(0, x4 + x5), e = 1/2,
      tau = x1 + log(1 + exp(x2)). A randomised trial.
    - C: normal; b = 2 log(1 + exp(x1 + x2 + x3)), e = 1/(1 + exp(x2 + x3)),
      tau = 1. Easy propensity, hard baseline, constant effect.
    - D: normal; b = (max(x1 + x2 + x3, 0) + max(x4 + x5, 0))/2,
      e = 1/(1 + exp(-x1) + exp(-x2)), tau = max(x1 + x2 + x3, 0) -
      max(x4 + x5, 0). The arms have nothing in common.
    - E: one column, uniform on (-1, 1); b in four smooth pieces, e = 0.1 for
      x <= 0 and 0.9 above, tau = 0.
    - F: one column, uniform on (0.05, 0.95); b = 0, e = x, tau = 0.

    Parameters
    ----------
    n_samples : int, default=1000
        Number of rows.
    setup : {"A", "B", "C", "D", "E", "F"}, default="A"
        The design.
    n_features : int, default=None
        Number of columns, of which those above matter; None is six, for E and F
        one.
    noise : float, default=1.0
        Standard deviation of the outcome's noise.
    random_state : int, Generator, RandomState or None, default=None
        An int seeds `numpy.random.default_rng`, from which X, the uniforms that
        decide the treatment, and the noise are drawn in this order.

    Returns
    -------
    Bunch
        With these entries:

        X : ndarray of shape (n_samples, n_features)
            Covariates.
        treatment : ndarray of int of shape (n_samples,)
            1 for treated rows.
        y : ndarray of shape (n_samples,)
            Outcome.
        effect : ndarray of shape (n_samples,)
            The true effect tau.
        propensity : ndarray of shape (n_samples,)
            The true e.
        m, mu0, mu1 : ndarray of shape (n_samples,)
            True mean outcomes: of all, as a control, as treated.

    Raises
    ------
    ValueError
        If the setup needs more columns.

    References
    ----------
    Nie, X., Wager, S. (2021). Quasi-oracle estimation of heterogeneous
    treatment effects. Biometrika, 108(2), 299-319.
    Fisher, A. (2024). The connection between R-learning and inverse-variance
    weighting for estimation of heterogeneous treatment effects. ICML.

    Examples
    --------
    >>> from causal import make_cate
    >>> study = make_cate(100, setup="C", random_state=0)
    >>> study.X.shape, float(study.effect.mean())
    ((100, 6), 1.0)
    """
    if n_features is None:
        n_features = 1 if setup in ("E", "F") else DEFAULT_FEATURES
    if n_features < SMALLEST[setup]:
        raise ValueError(
            f"make_cate: setup {setup!r} needs at least {SMALLEST[setup]} columns, but n_features "
            f"is {n_features}; raise it"
        )
    rng = random_state
    if not isinstance(rng, np.random.Generator | np.random.RandomState):
        rng = np.random.default_rng(rng)
    size = (n_samples, n_features)
    X = rng.uniform(*UNIFORM[setup], size) if setup in UNIFORM else rng.standard_normal(size)
    baseline, propensity, effect = SETUPS[setup](X)
    treatment = (rng.uniform(size=n_samples) < propensity).astype(int)
    y = baseline + (treatment - 0.5) * effect + noise * rng.standard_normal(n_samples)
    return Bunch(
        X=X,
        treatment=treatment,
        y=y,
        effect=effect,
        propensity=propensity,
        m=baseline + (propensity - 0.5) * effect,
        mu0=baseline - effect / 2,
        mu1=baseline + effect / 2,
    )

"""Simulated quantile forecasts of several models, each wrong in its own way."""

from numbers import Integral

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from scipy.special import ndtri
from sklearn.utils import Bunch
from sklearn.utils._param_validation import Interval, StrOptions, validate_params

SHIFT, LOG_SCALE, ROW_NOISE, ENTRY_NOISE = 0.4, 0.5, 0.3, 0.05
WRONG_SHIFT, WRONG_SCALE = 1.0, 2.0


@validate_params(
    {
        "n_samples": [Interval(Integral, 1, None, closed="left")],
        "n_models": [Interval(Integral, 1, None, closed="left"), None],
        "n_quantiles": [Interval(Integral, 1, None, closed="left")],
        "design": [StrOptions({"distorted", "switch"})],
        "random_state": ["random_state", np.random.Generator],
    },
    prefer_skip_nested_validation=True,
)
def make_quantile_models(
    n_samples: int = 5000,
    n_models: int | None = None,
    *,
    n_quantiles: int = 99,
    design: str = "distorted",
    random_state: int | Generator | np.random.RandomState | None = None,
) -> Bunch:
    """Draw outcomes and the quantiles that several models give for them.

    x is uniform on (-2, 2) and y = sin(2x) + (0.3 + 0.3 |x|) e with e standard
    normal. The levels are k / (n_quantiles + 1).

    Parameters
    ----------
    n_samples : int, default=5000
        Number of rows.
    n_models : int, default=None
        Number of models; None is six of "distorted" and two of "switch", which
        has no other number.
    n_quantiles : int, default=99
        Number of levels.
    design : {"distorted", "switch"}, default="distorted"
        How models are wrong.

        - "distorted": each moves the true law by 0.4 e, spreads it by the
          factor exp(0.5 e), and adds noise of standard deviation 0.3 a row and
          0.05 an entry.
        - "switch": the first gives the true quantiles where x < 0 and ones
          moved up by 1 and twice as spread elsewhere, the second the other
          way round. No constant weights can keep up with ones that depend on x.
    random_state : int, Generator, RandomState or None, default=None
        An int seeds `numpy.random.default_rng`.

    Returns
    -------
    Bunch
        With these entries:

        X : ndarray of shape (n_samples, 1)
            The feature x.
        y : ndarray of shape (n_samples,)
            Outcomes.
        Q : ndarray of shape (n_samples, n_models, n_quantiles)
            Quantiles that the models give; with noise they may cross.
        quantiles : ndarray of shape (n_quantiles,)
            Levels.
        true_quantiles : ndarray of shape (n_samples, n_quantiles)
            Quantiles of y given x.
        design : str
            Name of the design.

    Raises
    ------
    ValueError
        If "switch" is asked for other than two models.

    Examples
    --------
    >>> from reweight import make_quantile_models
    >>> data = make_quantile_models(100, 3, n_quantiles=9, random_state=0)
    >>> data.Q.shape
    (100, 3, 9)
    """
    if design == "switch" and n_models not in (None, 2):
        raise ValueError(
            f"make_quantile_models: design='switch' has two models, got n_models={n_models}; leave "
            "it out"
        )
    if isinstance(random_state, np.random.RandomState):
        random_state = random_state.randint(np.iinfo(np.int32).max)
    elif random_state is np.random:
        random_state = np.random.randint(np.iinfo(np.int32).max)  # noqa: NPY002
    rng = np.random.default_rng(random_state)
    quantiles = np.arange(1, n_quantiles + 1) / (n_quantiles + 1)
    x = rng.uniform(-2, 2, n_samples)
    center, spread = np.sin(2 * x), 0.3 + 0.3 * np.abs(x)
    y = center + spread * rng.standard_normal(n_samples)
    true = center[:, None] + spread[:, None] * ndtri(quantiles)
    if design == "switch":
        wrong = center[:, None] + WRONG_SHIFT + WRONG_SCALE * spread[:, None] * ndtri(quantiles)
        left = (x < 0)[:, None]
        Q = np.stack([np.where(left, true, wrong), np.where(left, wrong, true)], axis=1)
    else:
        models = 6 if n_models is None else n_models
        Q = np.stack([_distorted(center, spread, quantiles, rng) for _ in range(models)], axis=1)
    return Bunch(X=x[:, None], y=y, Q=Q, quantiles=quantiles, true_quantiles=true, design=design)


def _distorted(
    center: NDArray, spread: NDArray, quantiles: NDArray, rng: Generator
) -> NDArray[np.float64]:
    """Quantiles of one model, moved, spread and blurred."""
    n = len(center)
    shift, scale = SHIFT * rng.standard_normal(), np.exp(LOG_SCALE * rng.standard_normal())
    center = center + shift + ROW_NOISE * rng.standard_normal(n)
    noise = ENTRY_NOISE * rng.standard_normal((n, len(quantiles)))
    return center[:, None] + (scale * spread)[:, None] * ndtri(quantiles) + noise

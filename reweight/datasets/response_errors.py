"""Simulated tables in which some recorded numbers are wrong."""

from numbers import Integral, Real

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from sklearn.utils import Bunch
from sklearn.utils._param_validation import Interval, StrOptions, validate_params

N_FEATURES = 5
NOISE = 0.5


@validate_params(
    {
        "n_samples": [Interval(Integral, 1, None, closed="left")],
        "design": [StrOptions({"linear", "heteroscedastic", "bimodal"})],
        "shift": [Interval(Real, None, None, closed="neither")],
        "error_share": [Interval(Real, 0, 1, closed="both")],
        "random_state": ["random_state", np.random.Generator],
    },
    prefer_skip_nested_validation=True,
)
def make_response_errors(
    n_samples: int = 200,
    *,
    design: str = "linear",
    shift: float = 3.0,
    error_share: float = 0.1,
    random_state: int | Generator | np.random.RandomState | None = None,
) -> Bunch:
    """Draw a regression table and add a constant to some of its outcomes.

    Parameters
    ----------
    n_samples : int, default=200
        Number of rows.
    design : {"linear", "heteroscedastic", "bimodal"}, default="linear"
        What is drawn. There are five features, uniform on (-1.5, 1.5) unless
        said otherwise.

        - "linear": the sum of the features under random signs, plus noise of
          standard deviation 0.5.
        - "heteroscedastic": x1 - x2 + x3 + x4 - x5, plus noise of standard
          deviation 0.15, or 1.15 where x2 > 0.5.
        - "bimodal": (x1 - 1)^2 (x1 + 1), plus or minus 2 sqrt(x1 - 0.5) by a
          fair coin where x1 > 0.5, plus noise of standard deviation 0.5. Nine
          in ten rows have x1 uniform on (-0.5, 1.5), the others on
          (-1.5, -0.5), where data are thin.
    shift : float, default=3.0
        What an error adds to the outcome.
    error_share : float, default=0.1
        Share of rows with an error, rounded to whole rows.
    random_state : int, Generator, RandomState or None, default=None
        An int seeds `numpy.random.default_rng`.

    Returns
    -------
    Bunch
        With these entries:

        X : ndarray of shape (n_samples, 5)
            Features.
        y : ndarray of shape (n_samples,)
            Outcomes as recorded.
        y_true : ndarray of shape (n_samples,)
            Outcomes without error, which only an evaluation should look at.
        is_error : ndarray of bool of shape (n_samples,)
            Rows with an error.
        noise_std : ndarray of shape (n_samples,)
            Standard deviation of the correct outcome given the features.
        design : str
            Name of the design.

    References
    ----------
    Zhou, H., Mueller, J., Kumar, M., Wang, J.-L., Lei, J. (2023). Detecting
    errors in a numerical response via any regression model. arXiv:2305.16583.

    Examples
    --------
    >>> from reweight import make_response_errors
    >>> data = make_response_errors(200, shift=3, random_state=0)
    >>> data.X.shape, int(data.is_error.sum())
    ((200, 5), 20)
    >>> print((data.y - data.y_true)[data.is_error].mean().round(1))
    3.0
    """
    if isinstance(random_state, np.random.RandomState):
        random_state = random_state.randint(np.iinfo(np.int32).max)
    elif random_state is np.random:
        random_state = np.random.randint(np.iinfo(np.int32).max)  # noqa: NPY002
    rng = np.random.default_rng(random_state)
    X = rng.uniform(-1.5, 1.5, size=(n_samples, N_FEATURES))
    y_true, noise_std = _draw_outcome(design, X, rng)
    is_error = np.zeros(n_samples, dtype=bool)
    is_error[rng.permutation(n_samples)[: round(error_share * n_samples)]] = True
    return Bunch(
        X=X,
        y=y_true + shift * is_error,
        y_true=y_true,
        is_error=is_error,
        noise_std=noise_std,
        design=design,
    )


def _draw_outcome(
    design: str, X: NDArray[np.float64], rng: Generator
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Correct outcomes and their standard deviations; the bimodal design redraws its column."""
    n = len(X)
    if design == "linear":
        signs = rng.choice([-1.0, 1.0], size=N_FEATURES)
        return X @ signs + NOISE * rng.normal(size=n), np.full(n, NOISE)
    if design == "heteroscedastic":
        noise_std = 0.15 + (X[:, 1] > 0.5)
        mean = X @ [1.0, -1.0, 1.0, 1.0, -1.0]
        return mean + noise_std * rng.normal(size=n), noise_std
    thin = rng.uniform(size=n) < 0.1
    x = np.where(thin, rng.uniform(-1.5, -0.5, size=n), rng.uniform(-0.5, 1.5, size=n))
    X[:, 0] = x
    branch = 2 * np.sqrt(np.maximum(x - 0.5, 0))
    mean = (x - 1) ** 2 * (x + 1)
    y = mean + rng.choice([-1.0, 1.0], size=n) * branch + NOISE * rng.normal(size=n)
    return y, np.sqrt(NOISE**2 + branch**2)

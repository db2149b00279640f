"""The design of Kang and Schafer: a model that looks right and is wrong."""

from numbers import Integral, Real

import numpy as np
from scipy.special import expit
from sklearn.utils import Bunch
from sklearn.utils._param_validation import Interval, StrOptions, validate_params

OUTCOME_COEFFICIENTS = np.array([27.4, 13.7, 13.7, 13.7])
NONLINEAR_COEFFICIENTS = np.array([-1.0, 0.5, -0.25, -0.1])
LINEAR_COEFFICIENTS = np.array([1.0, -0.5, -2.0, -0.01])
LINEAR_INTERCEPT = 8.0


@validate_params(
    {
        "n_samples": [Interval(Integral, 1, None, closed="left")],
        "design": [StrOptions({"nonlinear", "linear"})],
        "propensity_scale": [Interval(Real, 0, None, closed="left")],
        "noise": [Interval(Real, 0, None, closed="left")],
        "random_state": ["random_state", np.random.Generator],
    },
    prefer_skip_nested_validation=True,
)
def make_kang_schafer(
    n_samples: int = 1000,
    *,
    design: str = "nonlinear",
    propensity_scale: float = 1.0,
    noise: float = 1.0,
    random_state: int | np.random.Generator | np.random.RandomState | None = None,
) -> Bunch:
    """Draw a study whose covariates are distorted views of the true confounders.

    Z holds four independent standard normals, the outcome is
    210 + 27.4 Z1 + 13.7 (Z2 + Z3 + Z4) + noise, and the treatment has no
    effect on anyone. Only X is meant to be seen: exp(Z1/2),
    Z2 / (1 + exp(Z1)) + 10, (Z1 Z3 / 25 + 0.6)^3 and (Z2 + Z4 + 20)^2.

    Parameters
    ----------
    n_samples : int, default=1000
        Number of rows.
    design : {"nonlinear", "linear"}, default="nonlinear"
        Whether the logit of the propensity is linear in Z, hence nonlinear in
        what is seen (-Z1 + 0.5 Z2 - 0.25 Z3 - 0.1 Z4), or linear in X
        (X1 - 0.5 X2 - 2 X3 - 0.01 X4 + 8).
    propensity_scale : float, default=1.0
        Multiplies that logit; 2 gives weak overlap, 0 a randomised study.
    noise : float, default=1.0
        Standard deviation of the outcome's noise.
    random_state : int, Generator, RandomState or None, default=None
        An int seeds `numpy.random.default_rng`, from which Z, the uniforms
        that decide the treatment, and the noise are drawn in this order.

    Returns
    -------
    Bunch
        With these entries:

        X : ndarray of shape (n_samples, 4)
            Covariates as seen.
        Z : ndarray of shape (n_samples, 4)
            The true confounders.
        treatment : ndarray of int of shape (n_samples,)
            1 for treated rows.
        y : ndarray of shape (n_samples,)
            Outcome.
        propensity : ndarray of shape (n_samples,)
            Probability of treatment.
        effect : float
            The true effect, 0 in every population.

    References
    ----------
    Kang, J. D. Y., & Schafer, J. L. (2007). Demystifying double robustness.
    Statistical Science 22(4), 523-539.

    Kong, I., Park, Y., Jung, J., Lee, K., & Kim, Y. (2023). Covariate
    balancing using the integral probability metric for causal inference.
    ICML.

    Examples
    --------
    >>> from causal import make_kang_schafer
    >>> study = make_kang_schafer(200, random_state=0)
    >>> study.X.shape, int(study.treatment.sum())
    ((200, 4), 99)
    """
    rng = _generator(random_state)
    Z = rng.standard_normal((n_samples, 4))
    X = _distorted(Z)
    if design == "nonlinear":
        logit = Z @ NONLINEAR_COEFFICIENTS
    else:
        logit = X @ LINEAR_COEFFICIENTS + LINEAR_INTERCEPT
    propensity = expit(propensity_scale * logit)
    treatment = (propensity > rng.random(n_samples)).astype(int)
    y = 210.0 + Z @ OUTCOME_COEFFICIENTS + noise * rng.standard_normal(n_samples)
    return Bunch(X=X, Z=Z, treatment=treatment, y=y, propensity=propensity, effect=0.0)


def _generator(random_state) -> np.random.Generator:
    """A generator from whatever scikit-learn or numpy call a random state."""
    if isinstance(random_state, np.random.RandomState):
        random_state = random_state.randint(2**31)
    elif random_state is np.random:
        random_state = np.random.randint(2**31)  # noqa: NPY002
    return np.random.default_rng(random_state)


def _distorted(Z: np.ndarray) -> np.ndarray:
    """What is seen of the confounders."""
    z1, z2, z3, z4 = Z.T
    return np.column_stack(
        [
            np.exp(z1 / 2),
            z2 / (1 + np.exp(z1)) + 10,
            (z1 * z3 / 25 + 0.6) ** 3,
            (z2 + z4 + 20) ** 2,
        ]
    )

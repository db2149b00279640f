"""Transformed outcomes whose mean given the covariates is the effect, and weights for them."""

from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]
# Nuisances that each pseudo-outcome is made of.
NUISANCES_OF = {
    "dr": ("propensity", "mu0", "mu1"),
    "u": ("m", "propensity"),
    "cov": ("m", "propensity"),
    "ipw": ("propensity",),
    "plugin": ("mu0", "mu1"),
}
INVERSE_VARIANCE = {
    "dr": "overlap",
    "u": "residual",
    "cov": "overlap",
    "ipw": "overlap",
    "plugin": "none",
}
WEIGHTINGS = (
    "none",
    "residual",
    "overlap",
    "u_marginal",
    "dr_conditional",
    "dr_conditional_sqrt",
)
# Weights that depend on the arm of the row, not on covariates alone.
ARM_WEIGHTINGS = ("residual", "dr_conditional", "dr_conditional_sqrt")
# Pseudo-outcomes with mean tau within each arm, at least if outcome models are right.
UNBIASED_WITHIN_ARMS = ("dr", "u", "plugin")
SMALL_RESIDUAL = 1e-3


def safe_residual(treatment: Array, propensity: Array) -> Array:
    """T - e, kept away from zero by 1/1000 of its standard deviation.

    Parameters
    ----------
    treatment, propensity : ndarray of shape (n_samples,)
        Treatment and its mean given the covariates.

    Returns
    -------
    ndarray of shape (n_samples,)
    """
    residual = treatment - propensity
    floor = SMALL_RESIDUAL * residual.std()
    if not residual.any():
        raise ValueError(
            "treatment is perfectly predicted, so that nothing is left to learn its effect from; "
            "leave covariates out that determine it"
        )
    return np.where(np.abs(residual) < floor, np.where(residual < 0, -floor, floor), residual)


def pseudo_outcome(
    kind: str,
    y: ArrayLike,
    treatment: ArrayLike,
    *,
    m: ArrayLike | None = None,
    propensity: ArrayLike | None = None,
    mu0: ArrayLike | None = None,
    mu1: ArrayLike | None = None,
    control_propensity: ArrayLike | None = None,
) -> NDArray[np.float64]:
    r"""Pseudo-outcomes, whose mean given the covariates is the effect at the true nuisances.

    ========= ====================================================================
    "dr"      mu1 - mu0 + t (y - mu1) / e - (1 - t) (y - mu0) / (1 - e)
    "u"       (y - m) / (t - e)
    "cov"     (y - m) (t - e) / (e (1 - e))
    "ipw"     y (t - e) / (e (1 - e))
    "plugin"  mu1 - mu0
    ========= ====================================================================

    Parameters
    ----------
    kind : {"dr", "u", "cov", "ipw", "plugin"}
        Which of them.
    y : array-like of shape (n_samples,)
        Outcome.
    treatment : array-like of shape (n_samples,)
        0 or 1; for "u" also a continuous treatment.
    m : array-like of shape (n_samples,), default=None
        E[Y | X], for "u" and "cov".
    propensity : array-like of shape (n_samples,), default=None
        e = E[T | X], for all but "plugin".
    mu0, mu1 : array-like of shape (n_samples,), default=None
        E[Y | X, T = 0] and E[Y | X, T = 1], for "dr" and "plugin".
    control_propensity : array-like of shape (n_samples,), default=None
        What stands for 1 - e; None is that.

    Returns
    -------
    ndarray of shape (n_samples,)

    Raises
    ------
    ValueError
        If `kind` is unknown, a nuisance that it needs is missing, or the
        treatment is perfectly predicted.

    References
    ----------
    Fisher, A. (2024). The connection between R-learning and inverse-variance
    weighting for estimation of heterogeneous treatment effects. ICML.

    Examples
    --------
    >>> from causal import pseudo_outcome
    >>> pseudo_outcome("u", [3.0, 1.0], [1, 0], m=[2.0, 2.0], propensity=[0.5, 0.5])
    array([2., 2.])
    """
    if kind not in NUISANCES_OF:
        raise ValueError(f"pseudo_outcome: kind is {kind!r}; choose one of {sorted(NUISANCES_OF)}")
    given = {"m": m, "propensity": propensity, "mu0": mu0, "mu1": mu1}
    for name in NUISANCES_OF[kind]:
        if given[name] is None:
            raise ValueError(f"pseudo_outcome: kind {kind!r} needs {name}; pass it")
    y, t = np.asarray(y, dtype=np.float64), np.asarray(treatment, dtype=np.float64)
    values = {
        name: np.asarray(value, dtype=np.float64)
        for name, value in given.items()
        if value is not None
    }
    if kind == "plugin":
        return values["mu1"] - values["mu0"]
    e = values["propensity"]
    if kind == "u":
        return (y - values["m"]) / safe_residual(t, e)
    e0 = 1.0 - e if control_propensity is None else np.asarray(control_propensity, np.float64)
    if kind == "dr":
        mu0, mu1 = values["mu0"], values["mu1"]
        return mu1 - mu0 + t * (y - mu1) / e - (1.0 - t) * (y - mu0) / e0
    if kind == "ipw":
        return y * (t / e - (1.0 - t) / e0)
    return (y - values["m"]) * (t - e) / (e * e0)


def pseudo_outcome_weights(
    kind: str | Callable | None,
    treatment: ArrayLike,
    propensity: ArrayLike,
    *,
    control_propensity: ArrayLike | None = None,
) -> NDArray[np.float64]:
    r"""Weights of pseudo-outcomes in the regression on covariates.

    ===================== ================================= ====================================
    "none" or None        1
    "residual"            (t - e)^2                         1/variance of "u" given x and t
    "overlap"             e (1 - e)                         1/variance of "dr" and "cov" given x
    "u_marginal"          (e (1 - e))^2 / (e^3 + (1-e)^3)   1/variance of "u" given x
    "dr_conditional"      e^2 if t = 1, else (1 - e)^2      1/variance of "dr" given x and t
    "dr_conditional_sqrt" e if t = 1, else 1 - e
    ===================== ================================= ====================================

    The right column supposes a constant variance of the outcome. Weights that
    depend on t keep a regression of "dr" honest only if the outcome models are
    right: its double robustness is lost. "cov" and "ipw" do not stand them at
    all.

    Parameters
    ----------
    kind : str, callable or None
        One of the names; or a function of treatment and propensity.
    treatment : array-like of shape (n_samples,)
        0 or 1; for "residual" also a continuous treatment.
    propensity : array-like of shape (n_samples,)
        e = E[T | X].
    control_propensity : array-like of shape (n_samples,), default=None
        What stands for 1 - e; None is that.

    Returns
    -------
    ndarray of shape (n_samples,)
        On the scale of the formulas.

    Raises
    ------
    ValueError
        If `kind` is unknown, or a callable returns something else than one
        finite non-negative number per row.

    Examples
    --------
    >>> from causal import pseudo_outcome_weights
    >>> pseudo_outcome_weights("overlap", [1, 0], [0.5, 0.2])
    array([0.25, 0.16])
    """
    t, e = np.asarray(treatment, np.float64), np.asarray(propensity, np.float64)
    if callable(kind):
        return _check_callable(kind(t, e), len(t))
    e0 = 1.0 - e if control_propensity is None else np.asarray(control_propensity, np.float64)
    if kind is None or kind == "none":
        return np.ones(len(t))
    if kind == "residual":
        return safe_residual(t, e) ** 2
    if kind == "overlap":
        return e * e0
    if kind == "u_marginal":
        return (e * e0) ** 2 / (e**3 + e0**3)
    if kind in ("dr_conditional", "dr_conditional_sqrt"):
        own = np.where(t == 1, e, e0)
        return own if kind.endswith("sqrt") else own**2
    raise ValueError(
        f"pseudo_outcome_weights: kind is {kind!r}; choose one of {list(WEIGHTINGS)}, None or a "
        "function of treatment and propensity"
    )


def _check_callable(weights: ArrayLike, n: int) -> Array:
    values = np.asarray(weights, dtype=np.float64)
    if values.shape != (n,) or not np.isfinite(values).all() or (values < 0).any():
        raise ValueError(
            f"weighting: the function returned shape {values.shape} with "
            f"{int((~np.isfinite(values)).sum())} entries that are not finite and "
            f"{int((values < 0).sum())} negative ones; return one finite non-negative weight for "
            f"each of the {n} rows"
        )
    return values

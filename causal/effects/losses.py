"""Losses that compare estimates of effects without knowing the effects."""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from causal.effects.pseudo_outcome import pseudo_outcome, pseudo_outcome_weights
from reweight.validation import check_sample_weight

Array = NDArray[np.float64]


def _rows(**columns: ArrayLike) -> list[Array]:
    """Columns as float64 of one length."""
    arrays = {name: np.asarray(value, dtype=np.float64) for name, value in columns.items()}
    shapes = {name: value.shape for name, value in arrays.items()}
    if len(set(shapes.values())) > 1 or len(next(iter(shapes.values()))) != 1:
        raise ValueError(f"arguments have the shapes {shapes}; pass one number per row in each")
    return list(arrays.values())


def r_loss(
    y: ArrayLike,
    treatment: ArrayLike,
    effect: ArrayLike,
    m: ArrayLike,
    propensity: ArrayLike,
    sample_weight: ArrayLike | None = None,
) -> float:
    """Mean squared error of (y - m) explained as (t - e) times the effect; smaller is better.

    Up to what does not depend on the effect it is, at the true nuisances, the
    mean of e (1 - e) times the squared error of the effect. Nuisances must be
    the same for all candidates, and out-of-fold.

    Parameters
    ----------
    y : array-like of shape (n_samples,)
        Outcome.
    treatment : array-like of shape (n_samples,)
        Treatment, binary or continuous.
    effect : array-like of shape (n_samples,)
        Estimated effect at each row.
    m : array-like of shape (n_samples,)
        E[Y | X].
    propensity : array-like of shape (n_samples,)
        E[T | X].
    sample_weight : array-like of shape (n_samples,), default=None
        Sampling weights.

    Returns
    -------
    float

    References
    ----------
    Nie, X., Wager, S. (2021). Quasi-oracle estimation of heterogeneous
    treatment effects. Biometrika, 108(2), 299-319.

    Examples
    --------
    >>> from causal import r_loss
    >>> r_loss([3.0, 1.0], [1, 0], [2.0, 1.0], m=[2.0, 2.0], propensity=[0.5, 0.5])
    0.125
    """
    y, t, effect, m, e = _rows(y=y, treatment=treatment, effect=effect, m=m, propensity=propensity)
    s = check_sample_weight(sample_weight, y)
    return float(s @ (y - m - (t - e) * effect) ** 2 / s.sum())


def dr_loss(
    y: ArrayLike,
    treatment: ArrayLike,
    effect: ArrayLike,
    propensity: ArrayLike,
    mu0: ArrayLike,
    mu1: ArrayLike,
    sample_weight: ArrayLike | None = None,
    *,
    weighting: str | None = None,
) -> float:
    """Weighted mean squared distance of effects to the doubly robust pseudo-outcome.

    Parameters
    ----------
    y : array-like of shape (n_samples,)
        Outcome.
    treatment : array-like of shape (n_samples,)
        0 or 1.
    effect : array-like of shape (n_samples,)
        Estimated effect at each row.
    propensity : array-like of shape (n_samples,)
        P(T = 1 | X).
    mu0, mu1 : array-like of shape (n_samples,)
        E[Y | X, T = 0] and E[Y | X, T = 1].
    sample_weight : array-like of shape (n_samples,), default=None
        Sampling weights.
    weighting : str, default=None
        A weighting of `pseudo_outcome_weights`; "overlap" is steadier where
        propensities come near 0 and 1.

    Returns
    -------
    float
        Smaller is better.

    References
    ----------
    Kennedy, E. (2023). Towards optimal doubly robust estimation of
    heterogeneous causal effects. Electronic Journal of Statistics, 17(2).

    Examples
    --------
    >>> from causal import dr_loss
    >>> dr_loss([3.0, 1.0], [1, 0], [1.0, 1.0], [0.5, 0.5], mu0=[1.0, 1.0], mu1=[2.0, 2.0])
    2.0
    """
    y, t, effect, e, mu0, mu1 = _rows(
        y=y, treatment=treatment, effect=effect, propensity=propensity, mu0=mu0, mu1=mu1
    )
    s = check_sample_weight(sample_weight, y) * pseudo_outcome_weights(weighting, t, e)
    f = pseudo_outcome("dr", y, t, propensity=e, mu0=mu0, mu1=mu1)
    return float(s @ (f - effect) ** 2 / s.sum())


def r_score(
    y: ArrayLike,
    treatment: ArrayLike,
    effect: ArrayLike,
    m: ArrayLike,
    propensity: ArrayLike,
    sample_weight: ArrayLike | None = None,
) -> float:
    """One minus the R-loss over that of the best constant effect; larger is better.

    Zero for that constant, at most one, negative for what is worse. Most of the
    R-loss is noise, so that even the true effect scores low: differences
    between candidates count.

    Parameters
    ----------
    y : array-like of shape (n_samples,)
        Outcome.
    treatment : array-like of shape (n_samples,)
        Treatment, binary or continuous.
    effect : array-like of shape (n_samples,)
        Estimated effect at each row.
    m : array-like of shape (n_samples,)
        E[Y | X].
    propensity : array-like of shape (n_samples,)
        E[T | X].
    sample_weight : array-like of shape (n_samples,), default=None
        Sampling weights.

    Returns
    -------
    float

    References
    ----------
    Nie, X., Wager, S. (2021). Quasi-oracle estimation of heterogeneous
    treatment effects. Biometrika, 108(2), 299-319.

    Examples
    --------
    >>> from causal import r_score
    >>> score = r_score([3.0, 1.0, 1.0, 1.0], [1, 0, 1, 0], [2.0] * 4, [2.0] * 4, [0.5] * 4)
    >>> score < 0
    True
    """
    y, t, effect, m, e = _rows(y=y, treatment=treatment, effect=effect, m=m, propensity=propensity)
    s = check_sample_weight(sample_weight, y)
    residual = t - e
    spread = s @ residual**2
    constant = s @ (residual * (y - m)) / spread if spread > 0 else 0.0
    best = r_loss(y, t, np.full(len(y), constant), m, e, s)
    own = r_loss(y, t, effect, m, e, s)
    if best <= 0:
        return 1.0 if own <= 0 else -np.inf
    return 1.0 - own / best

"""Outcome, treatment and nuisances in one array, which pipelines and searches cut by rows."""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from causal.effects._effect_data import check_nuisances, read_treatment, split_target

NAME = "make_effect_target"


def make_effect_target(
    y: ArrayLike,
    treatment: ArrayLike,
    *,
    m: ArrayLike | None = None,
    propensity: ArrayLike | None = None,
    mu0: ArrayLike | None = None,
    mu1: ArrayLike | None = None,
) -> NDArray[np.float64]:
    """Target array of effect learners: outcome, treatment and, if known, nuisances.

    Every effect learner takes it in the place of `y`. It needs no metadata
    routing, so that learners work in a Pipeline, in GridSearchCV and in
    `cross_val_predict`. With nuisances, learners fit their final stage only,
    and `score` costs one pass over the rows.

    Parameters
    ----------
    y : array-like of shape (n_samples,)
        Outcome.
    treatment : array-like of shape (n_samples,)
        Treatment: 0 and 1, booleans, two words of which the larger one in
        sorted order is "treated", or a continuous dose.
    m : array-like of shape (n_samples,), default=None
        Mean outcome given the covariates alone, E[Y | X].
    propensity : array-like of shape (n_samples,), default=None
        Probability of treatment given the covariates, or mean of a continuous
        treatment, E[T | X].
    mu0, mu1 : array-like of shape (n_samples,), default=None
        Mean outcome given the covariates as a control and as treated.

    Returns
    -------
    ndarray of shape (n_samples, 2), (n_samples, 4) or (n_samples, 6)
        Columns outcome, treatment, m, propensity, mu0, mu1, as far as given.

    Raises
    ------
    ValueError
        If lengths differ, an entry is not finite, a propensity is not between
        0 and 1, or nuisances are given in part.

    Examples
    --------
    >>> from causal import make_effect_target
    >>> make_effect_target([3.0, 1.0, 2.0, 2.0], [1, 0, 1, 0])
    array([[3., 1.],
           [1., 0.],
           [2., 1.],
           [2., 0.]])
    """
    outcome, labels, _ = split_target(y, np.asarray(treatment), owner=NAME)
    if len(labels) != len(outcome):
        raise ValueError(
            f"{NAME}: treatment has {len(labels)} entries but y has {len(outcome)}; pass one of "
            "each per row"
        )
    classes, values = read_treatment(labels, "auto", owner=NAME)
    given = {
        name: np.asarray(value, dtype=np.float64)
        for name, value in {"m": m, "propensity": propensity, "mu0": mu0, "mu1": mu1}.items()
        if value is not None
    }
    if list(given) not in ([], ["m", "propensity"], ["m", "propensity", "mu0", "mu1"]):
        raise ValueError(
            f"{NAME}: got the nuisances {list(given)}; pass none, m and propensity, or all four"
        )
    for name, value in given.items():
        if value.shape != outcome.shape or not np.isfinite(value).all():
            raise ValueError(
                f"{NAME}: {name} has shape {value.shape} and {int((~np.isfinite(value)).sum())} "
                "entries that are not finite; pass one finite number for each of the "
                f"{len(outcome)} rows"
            )
    check_nuisances(given, classes is not None, owner=NAME)
    return np.column_stack([outcome, values, *given.values()])

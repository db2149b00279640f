"""The regression of pseudo-outcomes on covariates: linear with a covariance, or any regressor."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.model_selection import GridSearchCV, GroupKFold, RandomizedSearchCV

from causal.effects._effect_data import EffectData
from causal.effects._folds import make_effect_folds
from causal.effects._nuisance_checks import NuisanceSettings, is_weighter
from causal.effects._nuisances import Nuisances
from causal.effects._study import last_step, seeded_clone
from causal.effects.pseudo_outcome import (
    ARM_WEIGHTINGS,
    INVERSE_VARIANCE,
    UNBIASED_WITHIN_ARMS,
    pseudo_outcome,
    pseudo_outcome_weights,
    safe_residual,
)
from reweight.cross_fitting import cross_fit
from reweight.validation import take_rows
from reweight.weighted_fit import weighted_fit

Array = NDArray[np.float64]
VARIANCE_FLOOR = 0.01


@dataclass(frozen=True)
class PseudoRows:
    """Rows of the final regression.

    Parameters
    ----------
    outcome : ndarray of shape (n_pseudo_rows,)
        Pseudo-outcomes.
    weight : ndarray of shape (n_pseudo_rows,)
        Weights, sampling weights included.
    weighted : bool
        Whether any weight matters.
    row : ndarray of int of shape (n_pseudo_rows,)
        The row that each belongs to.
    n_blocks : int
        Number of blocks that each hold every row in order.
    response, slope, base_weight : ndarray of shape (n_pseudo_rows,)
        The same regression as weighted least squares of a response on slope
        times features; `slope` is None where it is one.
    """

    outcome: Array
    weight: Array
    weighted: bool
    row: NDArray[np.intp]
    n_blocks: int
    response: Array
    slope: Array | None
    base_weight: Array


def resolve_weighting(weighting: Any, kind: str) -> Any:
    """The weighting that "inverse_variance" and None stand for."""
    if isinstance(weighting, str) and weighting == "inverse_variance":
        return INVERSE_VARIANCE[kind]
    return "none" if weighting is None else weighting


def check_pair(
    kind: str, weighting: Any, data: EffectData, treatment_model: Any, owner: str
) -> None:
    """Whether pseudo-outcome, weights and treatment go together.

    Parameters
    ----------
    kind : str
        Pseudo-outcome.
    weighting : str, callable or Weighter
        Weights, resolved.
    data : EffectData
        Rows of the study.
    treatment_model : estimator or other
        Model of the treatment.
    owner : str
        Who is asking.
    """
    by_arm = is_weighter(last_step(weighting)) or weighting in ARM_WEIGHTINGS
    if not data.binary and not (kind == "u" and weighting == "residual"):
        shown = weighting if isinstance(weighting, str) else type(weighting).__name__
        raise ValueError(
            f"{owner}: the treatment is continuous, for which pseudo-outcome {kind!r} with weights "
            f"{shown!r} is not defined or too unstable; use RLearner, that is 'u' with 'residual'"
        )
    if by_arm and kind not in UNBIASED_WITHIN_ARMS:
        raise ValueError(
            f"{owner}: weights that depend on the arm bias the pseudo-outcome {kind!r}, whose mean "
            "within an arm is not the effect; use 'overlap', or pseudo_outcome='dr'"
        )
    if is_weighter(treatment_model) and not hasattr(treatment_model, "predict_propensity"):
        needs_propensity = kind in ("u", "cov") or (
            isinstance(weighting, str) and weighting != "none"
        )
        if needs_propensity:
            raise ValueError(
                f"{owner}: the weights of {type(treatment_model).__name__} are no propensities, "
                f"which pseudo-outcome {kind!r} or weights {weighting!r} need; use pseudo_outcome="
                "'dr' with weighting=None"
            )


def make_pseudo_rows(
    data: EffectData,
    nuisances: Nuisances,
    kind: str,
    weighting: Any,
    variance_estimator: Any,
    settings: NuisanceSettings,
) -> PseudoRows:
    """Pseudo-outcomes and weights from nuisances.

    Parameters
    ----------
    data : EffectData
        Rows of the study.
    nuisances : Nuisances
        Their nuisances.
    kind : str
        Pseudo-outcome.
    weighting : str, callable or Weighter
        Weights, resolved.
    variance_estimator : estimator or None
        Model of the squared errors of the outcome models.
    settings : NuisanceSettings
        Folds and seeds.

    Returns
    -------
    PseudoRows
    """
    row, values = nuisances.row, nuisances.by_name
    y, t = data.y[row], data.treatment[row]
    s = np.ones(len(row)) if data.sample_weight is None else data.sample_weight[row]
    try:
        f = pseudo_outcome(kind, y, t, **values)
        if is_weighter(last_step(weighting)):
            weight = _weights_of(weighting, data, settings)[row]
        elif variance_estimator is not None:
            weight = s * _inverse_variance(data, nuisances, variance_estimator, settings)
        else:
            e0 = values.get("control_propensity")
            e = values.get("propensity", np.full(len(t), 0.5))
            weight = s * pseudo_outcome_weights(weighting, t, e, control_propensity=e0)
    except ValueError as error:
        raise ValueError(f"{settings.owner}: {error}") from error
    if not weight.sum() > 0:
        raise ValueError(f"{settings.owner}: all weights are zero; choose another weighting")
    plain = weighting == "none" and data.sample_weight is None and variance_estimator is None
    rows = PseudoRows(f, weight, not plain, row, nuisances.n_blocks, f, None, weight)
    if kind == "u" and weighting == "residual":
        slope = safe_residual(t, values["propensity"])
        return replace(rows, response=y - values["m"], slope=slope, base_weight=s)
    return rows


def _weights_of(weighter: Any, data: EffectData, settings: NuisanceSettings) -> Array:
    """Weights that a Weighter gives to the rows, sampling weights included."""
    fitted = weighted_fit(
        seeded_clone(weighter, settings.random_state),
        data.X,
        data.treatment.astype(int),
        data.sample_weight,
        owner=settings.owner,
    )
    weights = getattr(last_step(fitted), "weights_", None)
    if weights is None or len(weights) != len(data.y):
        raise ValueError(
            f"weighting {type(last_step(weighter)).__name__} sets no weights_ for the rows, which "
            "is so for signed weights; ask it for non-negative ones"
        )
    return np.asarray(weights, dtype=np.float64)


def _inverse_variance(
    data: EffectData, nuisances: Nuisances, model: Any, settings: NuisanceSettings
) -> Array:
    """1 / (s1(x) / e + s0(x) / (1 - e)) with out-of-fold models of the squared errors by arm."""
    n, values = len(data.y), nuisances.by_name
    arm = data.treatment == 1
    weights = []
    for block in range(nuisances.n_blocks):
        part = slice(block * n, (block + 1) * n)
        e = values["propensity"][part]
        e0 = values["control_propensity"][part] if "control_propensity" in values else 1.0 - e
        fitted = np.where(arm, values["mu1"][part], values["mu0"][part])
        square = (data.y - fitted) ** 2
        folds = make_effect_folds(
            5 if settings.cross_fitting > 2 else settings.cv,
            data,
            random_state=settings.random_state,
            cross_fitting=2,
            owner=settings.owner,
        )
        variance = []
        for rows in (~arm, arm):
            fit = cross_fit(
                seeded_clone(model, settings.random_state),
                data.X,
                square,
                cv=[(train[rows[train]], test) for train, test in folds],
                sample_weight=data.sample_weight,
                n_jobs=settings.n_jobs,
            )
            floor = VARIANCE_FLOOR * np.average(
                square[rows],
                weights=None if data.sample_weight is None else data.sample_weight[rows],
            )
            variance.append(np.maximum(np.asarray(fit.predictions, np.float64).reshape(n), floor))
        weights.append(1.0 / np.maximum(variance[1] / e + variance[0] / e0, np.finfo(float).tiny))
    return np.concatenate(weights)


def fit_black_box(
    final_estimator: Any, X: Any, rows: PseudoRows, seed: int, average: bool, owner: str
) -> Any:
    """Fit a regressor to pseudo-outcomes, one for each block if they are to be averaged.

    Parameters
    ----------
    final_estimator : regressor
        Not fitted itself.
    X : array, data frame or sparse matrix of shape (n_samples, n_features)
        Covariates of the final stage.
    rows : PseudoRows
        Pseudo-outcomes and weights.
    seed : int
        For unset `random_state` of the regressor.
    average : bool
        Whether blocks have a model each.
    owner : str
        Who is asking.

    Returns
    -------
    estimator or list of estimators
    """
    n = len(rows.row) // rows.n_blocks
    if not average or rows.n_blocks == 1:
        return _fit_rows(final_estimator, X, rows, slice(None), seed, owner)
    return [
        _fit_rows(final_estimator, X, rows, slice(b * n, (b + 1) * n), seed, owner)
        for b in range(rows.n_blocks)
    ]


def _fit_rows(model: Any, X: Any, rows: PseudoRows, part: slice, seed: int, owner: str) -> Any:
    model, row, params = seeded_clone(model, seed), rows.row[part], {}
    repeated = len(np.unique(row)) < len(row)
    if isinstance(model, GridSearchCV | RandomizedSearchCV) and repeated:
        # Pseudo rows of one row must not stand on both sides of a split.
        if model.cv is None or isinstance(model.cv, int):
            model.set_params(cv=GroupKFold(model.cv or 5))
        params["groups"] = row
    if repeated or len(row) != len(np.unique(rows.row)):
        X = take_rows(model, X, None, row)[0]
    weight = None
    if rows.weighted:
        weight = rows.weight[part] * (len(row) / rows.weight[part].sum())
    return weighted_fit(model, X, rows.outcome[part], weight, owner=owner, **params)

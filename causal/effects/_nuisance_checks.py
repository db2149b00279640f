"""How nuisances are to be fitted, and whether models, folds and treatment go together."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.base import is_classifier
from sklearn.utils import get_tags

from causal.effects._effect_data import EffectData

OUTCOMES = ("m", "mu0", "mu1")


@dataclass(frozen=True)
class NuisanceSettings:
    """How nuisances are fitted; the parameters of `CrossFitter`.

    Parameters
    ----------
    outcome_estimator : estimator or None
        Model of the outcome.
    treatment_estimator : estimator, float, "known" or None
        Model of the treatment, or the propensity itself.
    outcome_model : {"separate", "single"}
        One outcome model for each arm, or one for both with the treatment as
        its last column.
    cv : int, "auto", None, splitter or iterable
        Folds.
    cross_fitting : {2, 3, 4}
        Order of cross-fitting.
    n_repeats : int
        Number of draws of the folds.
    propensity_clip : float
        Propensities are moved this far from 0 and 1.
    random_state : int
        Seeds folds and models.
    n_jobs : int or None
        Number of jobs, over folds.
    verbose : int
        Whether to show progress.
    owner : str
        Who is asking, for messages.
    """

    outcome_estimator: Any
    treatment_estimator: Any
    outcome_model: str
    cv: Any
    cross_fitting: int
    n_repeats: int
    propensity_clip: float
    random_state: int
    n_jobs: int | None
    verbose: int
    owner: str


def is_weighter(estimator: Any) -> bool:
    """Whether an estimator makes weights, from its tags."""
    return hasattr(estimator, "fit") and get_tags(estimator).estimator_type == "weighter"


def check_nuisance_models(
    data: EffectData, names: tuple[str, ...], settings: NuisanceSettings
) -> None:
    """Whether models, folds and treatment fit together.

    Parameters
    ----------
    data : EffectData
        Rows of the study.
    names : tuple of str
        Nuisances asked for.
    settings : NuisanceSettings
        Models and folds.
    """
    owner, model = settings.owner, settings.treatment_estimator
    if settings.n_repeats > 1 and not isinstance(settings.cv, (int, np.integer, str, type(None))):
        raise ValueError(
            f"{owner}: n_repeats={settings.n_repeats} draws folds anew, but cv is a "
            f"{type(settings.cv).__name__}, which gives the same ones; pass an int"
        )
    if not data.binary and ("mu0" in names or "mu1" in names):
        raise ValueError(
            f"{owner}: the treatment is continuous, so that there are no outcomes of two arms; use "
            "RLearner, or outcome_by_arm=False of CrossFitter"
        )
    _check_outcome_model(data, names, settings)
    if "propensity" not in names or data.propensity is not None or model is None:
        return
    if isinstance(model, str):
        raise ValueError(
            f"{owner}: treatment_estimator='known' needs the propensity; pass it as "
            "fit(..., propensity=...)"
        )
    if is_weighter(model):
        _check_weighter(model, data, owner)
    elif data.binary and not hasattr(model, "fit") and not 0 < model < 1:
        raise ValueError(
            f"{owner}: treatment_estimator is {model!r}; a propensity lies strictly between 0 and 1"
        )
    elif data.binary and hasattr(model, "fit") and not hasattr(model, "predict_proba"):
        raise ValueError(
            f"{owner}: treatment_estimator {type(model).__name__} has no predict_proba, which a "
            "binary treatment needs; pass a classifier"
        )
    elif not data.binary and hasattr(model, "fit") and is_classifier(model):
        raise ValueError(
            f"{owner}: treatment_estimator {type(model).__name__} is a classifier, but the "
            "treatment is continuous; pass a regressor, or discrete_treatment=True"
        )


def _check_outcome_model(
    data: EffectData, names: tuple[str, ...], settings: NuisanceSettings
) -> None:
    model = settings.outcome_estimator
    if model is None or not is_classifier(model) or not set(names) & set(OUTCOMES):
        return
    name = type(model).__name__
    if not hasattr(model, "predict_proba"):
        raise ValueError(
            f"{settings.owner}: outcome_estimator {name} is a classifier without predict_proba; "
            "pass one that has it, or a regressor"
        )
    others = np.setdiff1d(data.y, [0.0, 1.0])
    if others.size:
        raise ValueError(
            f"{settings.owner}: outcome_estimator {name} is a classifier, which serves outcomes 0 "
            f"and 1, but y has the value {others[0]:g}; recode y, or pass a regressor"
        )


def _check_weighter(model: Any, data: EffectData, owner: str) -> None:
    name = type(model).__name__
    estimand = getattr(model, "estimand", None)
    if not data.binary or not hasattr(model, "fit"):
        raise ValueError(f"{owner}: {name} weighs two arms, but the treatment is continuous")
    if not hasattr(model, "predict_weights"):
        raise ValueError(
            f"{owner}: treatment_estimator {name} has no predict_weights, so that its weights "
            "cannot be cross-fitted; pass it as weighting= of a PseudoOutcomeRegressor instead"
        )
    if not hasattr(model, "predict_propensity") and estimand != "ATE":
        raise ValueError(
            f"{owner}: treatment_estimator {name} has estimand={estimand!r}, whose weights are not "
            f"inverse propensities; pass {name}(estimand='ATE')"
        )

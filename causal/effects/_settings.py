"""Parameters that `CrossFitter` and the cross-fitted learners share, and what is read from them."""

from numbers import Integral, Real
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.utils import check_random_state, get_tags
from sklearn.utils._param_validation import HasMethods, Interval, Options, StrOptions

from causal.effects._effect_data import EffectData
from causal.effects._nuisance_checks import NuisanceSettings

NUISANCE_CONSTRAINTS = {
    "outcome_estimator": [HasMethods(["fit", "predict"]), None],
    "treatment_estimator": [
        HasMethods("fit"),
        Interval(Real, None, None, closed="neither"),
        StrOptions({"known"}),
        None,
    ],
    "outcome_model": [StrOptions({"separate", "single"})],
    "cv": ["cv_object", StrOptions({"auto"})],
    "cross_fitting": [Options(Integral, {2, 3, 4})],
    "n_repeats": [Interval(Integral, 1, 100, closed="both")],
    "discrete_treatment": ["boolean", StrOptions({"auto"})],
    "propensity_clip": [Interval(Real, 0, 0.5, closed="left")],
    "random_state": ["random_state"],
    "n_jobs": [Integral, None],
    "verbose": ["verbose"],
}


def nuisance_settings(estimator: Any) -> NuisanceSettings:
    """How an estimator wants its nuisances fitted.

    Parameters
    ----------
    estimator : estimator
        With the parameters of `CrossFitter`; `outcome_model` may be absent.

    Returns
    -------
    NuisanceSettings
    """
    generator = check_random_state(estimator.random_state)
    return NuisanceSettings(
        outcome_estimator=estimator.outcome_estimator,
        treatment_estimator=estimator.treatment_estimator,
        outcome_model=getattr(estimator, "outcome_model", "separate"),
        cv=estimator.cv,
        cross_fitting=estimator.cross_fitting,
        n_repeats=estimator.n_repeats,
        propensity_clip=estimator.propensity_clip,
        random_state=int(generator.randint(np.iinfo(np.int32).max)),
        n_jobs=estimator.n_jobs,
        verbose=estimator.verbose,
        owner=getattr(estimator, "owner", type(estimator).__name__),
    )


def accepts_missing(*models: Any) -> bool:
    """Whether all models that are estimators, of which there is at least one, accept NaN in X.

    Parameters
    ----------
    *models : estimator, None or other
        None stands for a linear model, which does not.

    Returns
    -------
    bool
    """
    learned = [model for model in models if not isinstance(model, Real | str)]
    return bool(learned) and all(
        hasattr(model, "fit") and get_tags(model).input_tags.allow_nan for model in learned
    )


def nuisance_scores(
    values: dict[str, NDArray], row: NDArray[np.intp], data: EffectData
) -> dict[str, dict[str, float]]:
    """How well out-of-fold nuisances predict.

    Parameters
    ----------
    values : dict of ndarray of shape (n_pseudo_rows,)
        Nuisances by name.
    row : ndarray of int of shape (n_pseudo_rows,)
        Row of each pseudo row.
    data : EffectData
        Rows of the study.

    Returns
    -------
    dict of dict of str to float
        "r2" of outcomes and of the mean of a continuous treatment, in the arm
        that a nuisance is for; "log_loss" and "roc_auc" of a propensity.
    """
    from sklearn.metrics import log_loss, r2_score, roc_auc_score

    y, t = data.y[row], data.treatment[row]
    s = None if data.sample_weight is None else data.sample_weight[row]
    scores = {}
    for name, value in values.items():
        if name == "control_propensity":
            continue
        if name == "propensity" and data.binary:
            e = value.clip(1e-15, 1 - 1e-15)
            scores[name] = {
                "log_loss": float(log_loss(t, e, sample_weight=s, labels=[0, 1])),
                "roc_auc": float(roc_auc_score(t, e, sample_weight=s)),
            }
            continue
        rows = np.ones(len(t), dtype=bool)
        if name in ("mu0", "mu1"):
            rows = t == (name == "mu1")
        truth = t if name == "propensity" else y
        own = None if s is None else s[rows]
        scores[name] = {"r2": float(r2_score(truth[rows], value[rows], sample_weight=own))}
    return scores

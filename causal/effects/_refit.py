"""Another final stage on nuisances that are there already."""

from typing import Any

import numpy as np

from causal.effects._effect_data import EffectData
from causal.effects._final_stage import check_pair, make_pseudo_rows
from causal.effects._nuisances import Nuisances
from causal.effects._settings import nuisance_settings
from causal.effects.pseudo_outcome_regressor import PseudoOutcomeRegressor

FINAL_PARAMETERS = (
    "pseudo_outcome",
    "weighting",
    "variance_estimator",
    "final_estimator",
    "featurizer",
    "effect_columns",
    "fold_aggregation",
    "cov_type",
    "scoring",
)


def refit(learner: Any, data: EffectData, changes: dict[str, Any]) -> PseudoOutcomeRegressor:
    """A fitted `PseudoOutcomeRegressor` that shares the nuisances of a learner.

    Parameters
    ----------
    learner : CrossFittedLearner
        Fitted.
    data : EffectData
        Its training rows.
    changes : dict
        Parameters of the final stage that differ.

    Returns
    -------
    PseudoOutcomeRegressor
    """
    name = type(learner).__name__
    wrong = sorted(set(changes) - set(FINAL_PARAMETERS))
    if wrong:
        raise ValueError(
            f"{name}: refit_final got {wrong}, which do not concern the final stage; pass some of "
            f"{list(FINAL_PARAMETERS)}, or fit anew"
        )
    kind, weighting, variance_estimator = learner._rule()
    if "pseudo_outcome" in changes and changes["pseudo_outcome"] != kind:
        weighting, variance_estimator = "inverse_variance", None
    own = {
        "pseudo_outcome": kind,
        "weighting": weighting,
        "variance_estimator": variance_estimator,
    }
    shared = {
        key: value
        for key, value in learner.get_params(deep=False).items()
        if key in PseudoOutcomeRegressor._parameter_constraints
    }
    other = PseudoOutcomeRegressor(**{**shared, **own, **changes})
    other._validate_params()
    kind, weighting, variance_estimator = other._rule()
    weighting = other._check_rule(kind, weighting, variance_estimator)
    settings = nuisance_settings(other)
    check_pair(kind, weighting, data, other.treatment_estimator, settings.owner)
    needed = set(other._needed(kind, weighting, variance_estimator))
    if other.fit_nuisances == "all":
        needed &= set(learner.nuisances_)
    missing = sorted(needed - set(learner.nuisances_))
    if missing:
        raise ValueError(
            f"{name}: refit_final with pseudo-outcome {kind!r} needs {missing}, which were not "
            "fitted; fit with fit_nuisances='all'"
        )
    for attribute in ("classes_", "n_features_in_", "feature_names_in_", "nuisances_", "row_"):
        if hasattr(learner, attribute):
            setattr(other, attribute, getattr(learner, attribute))
    for attribute in ("folds_", "models_", "n_clipped_"):
        setattr(other, attribute, getattr(learner, attribute))
    n = len(data.y)
    nuisances = Nuisances(
        learner.nuisances_,
        learner.row_,
        len(learner.row_) // n,
        np.atleast_2d(learner.folds_),
        learner.n_clipped_,
        learner.models_,
    )
    rows = make_pseudo_rows(data, nuisances, kind, weighting, variance_estimator, settings)
    other._training = data
    other._fit_final(data, rows, settings)
    return other

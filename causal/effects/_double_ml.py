"""What `PartiallyLinearDML` and `InteractiveDML` share: nuisances, repeats, intervals."""

from dataclasses import dataclass, replace
from numbers import Integral
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted

from causal.effects._effect_data import EffectData, read_effect_data
from causal.effects._folds import make_effect_folds
from causal.effects._linear_effects import LinearEffects
from causal.effects._nuisance_checks import is_weighter
from causal.effects._nuisances import (
    Nuisances,
    NuisanceSettings,
    check_nuisance_models,
    cross_fit_nuisances,
    given_nuisances,
)
from causal.effects._scores import LinearScore, Solution, solve_score
from causal.effects._settings import accepts_missing, nuisance_scores, nuisance_settings
from reweight.validation import warn_weights

if TYPE_CHECKING:
    import pandas as pd

Array = NDArray[np.float64]
FEW_CLUSTERS = 20
LARGE_SHARE = 0.5
# What an earlier fit, to chunks or to rows, may have left.
SOMETIMES_SET = ("nuisances_", "models_", "influence_function_", "_scored", "_rows")


@dataclass(frozen=True)
class Scored:
    """Scores of the rows in every draw of the folds.

    Parameters
    ----------
    scores : list of LinearScore
        One for each draw.
    sample_weight : ndarray of shape (n_samples,) or None
        Sampling weights.
    groups : ndarray of int of shape (n_samples,) or None
        Code of the group of each row.
    """

    scores: list[LinearScore]
    sample_weight: Array | None
    groups: NDArray[np.intp] | None

    def solve(
        self, basis: Array, names: list[str], label: str, *, cov_type: str, intercept: bool = False
    ) -> tuple[LinearEffects, list[Solution]]:
        """Effects on a basis, and the solution in each draw of the folds."""
        solutions = [
            solve_score(score, basis, self.sample_weight, self.groups, cov_type=cov_type)
            for score in self.scores
        ]
        effects = LinearEffects(
            names,
            np.stack([solution.coef for solution in solutions]),
            np.stack([solution.covariance for solution in solutions]),
            solutions[0].null_space,
            label,
            intercept,
        )
        return effects, solutions


def refuse_two_propensities(estimator: BaseEstimator, remedy: str) -> None:
    """Refuse weights that stand for a propensity of either arm, which need not sum to one.

    Parameters
    ----------
    estimator : DoubleMachineLearning
        Whose `treatment_estimator` to look at.
    remedy : str
        What serves such weights.
    """
    model = estimator.treatment_estimator
    if is_weighter(model) and not hasattr(model, "predict_propensity"):
        name = type(model).__name__
        raise ValueError(
            f"{type(estimator).__name__}: the weights of {name} stand for the inverse propensities "
            f"of the ATE, which need not come from one propensity; use {remedy}, or a "
            "treatment_estimator with predict_proba or predict_propensity"
        )


class DoubleMachineLearning(BaseEstimator):
    """Base class of average effects from orthogonal scores and cross-fitted nuisances."""

    __metadata_request__fit = {"treatment": True, "groups": True, "propensity": True}

    cross_fitting = 2

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.target_tags.required = True
        tags.input_tags.allow_nan = accepts_missing(
            self.outcome_estimator, self.treatment_estimator
        )
        return tags

    def _nuisance_names(self) -> tuple[str, ...]:
        """Nuisances that the score needs."""
        raise NotImplementedError

    def _make_scores(
        self,
        data: EffectData,
        nuisances: list[dict[str, Array]],
        fold: NDArray[np.intp],
        settings: NuisanceSettings,
    ) -> list[LinearScore]:
        """The score in every draw of the folds."""
        raise NotImplementedError

    def _effect_label(self) -> str:
        """Name of the effect in tables."""
        raise NotImplementedError

    def _fit(
        self, X: Any, y: Any, treatment: Any, discrete_treatment: bool | str, **metadata: Any
    ) -> None:
        """Check, fit nuisances or take those that came with y, and solve the score."""
        self._validate_params()
        self._forget()
        data = read_effect_data(
            self,
            X,
            y,
            treatment,
            discrete_treatment=discrete_treatment,
            allow_nan=accepts_missing(self.outcome_estimator, self.treatment_estimator),
            **metadata,
        )
        self.classes_ = data.classes
        self._warn_few_groups(data.groups)
        fitted, settings = self._cross_fit(data, nuisance_settings(self))
        self.nuisances_ = fitted.by_name
        self.folds_ = fitted.fold[0] if len(fitted.fold) == 1 else fitted.fold
        self.n_clipped_ = fitted.n_clipped
        self.models_ = fitted.models
        self._rows = replace(data, X=None, nuisances={})
        n = len(data.y)
        by_repeat = [
            {name: values[start : start + n] for name, values in fitted.by_name.items()}
            for start in range(0, n * fitted.n_blocks, n)
        ]
        scores = self._make_scores(data, by_repeat, fitted.fold, settings)
        self._store(Scored(scores, data.sample_weight, data.groups))

    def _forget(self) -> None:
        """Drop what an earlier fit has set and this one may not."""
        for name in SOMETIMES_SET:
            vars(self).pop(name, None)

    def _cross_fit(
        self, data: EffectData, settings: NuisanceSettings
    ) -> tuple[Nuisances, NuisanceSettings]:
        """Nuisances, and settings whose folds can be used a second time."""
        needed = self._nuisance_names()
        if data.nuisances:
            missing = [name for name in needed if name not in data.nuisances]
            if missing:
                raise ValueError(
                    f"{settings.owner}: y has the nuisances {list(data.nuisances)}, but "
                    f"{' and '.join(missing)} are needed; pass six columns, as from "
                    "CrossFitter(outcome_by_arm=True)"
                )
            return given_nuisances(data), settings
        if not isinstance(settings.cv, Integral | str | None):
            check_nuisance_models(data, needed, settings)
            folds = make_effect_folds(
                settings.cv, data, random_state=0, cross_fitting=2, owner=settings.owner
            )
            settings = replace(settings, cv=folds)
        return cross_fit_nuisances(data, needed, settings), settings

    def _warn_few_groups(self, groups: NDArray[np.intp] | None) -> None:
        n_groups = FEW_CLUSTERS if groups is None else int(groups.max()) + 1
        if n_groups < FEW_CLUSTERS:
            warn_weights(
                f"{type(self).__name__}: groups has {n_groups} values; intervals that treat so few "
                "clusters as a large sample are too short; read them as lower bounds"
            )

    def _store(self, scored: Scored) -> None:
        """Set the effect, its error and the influence of each row."""
        self._scored = scored
        n = len(scored.scores[0].a)
        effects, solutions = scored.solve(
            np.ones((n, 1)), [self._effect_label()], "effect", cov_type="HC0"
        )
        influence = np.stack([solution.influence[:, 0] for solution in solutions])
        self.influence_function_ = influence[0] if len(influence) == 1 else influence
        self._warn_large_share(influence.mean(axis=0), scored.groups)
        self._set_effects(effects)

    def _set_effects(self, effects: LinearEffects) -> None:
        self._effects = effects
        self.effect_ = float(effects.coef_[0])
        self.stderr_ = float(effects.stderr_[0])
        self.repeat_effects_ = effects.coefs[:, 0]
        self.repeat_stderrs_ = np.sqrt(effects.covariances[:, 0, 0])

    def _warn_large_share(self, influence: Array, groups: NDArray[np.intp] | None) -> None:
        squares = (influence if groups is None else np.bincount(groups, influence)) ** 2
        share = squares.max() / squares.sum() if squares.any() else 0.0
        if share > LARGE_SHARE:
            warn_weights(
                f"{type(self).__name__}: one {'row' if groups is None else 'group'} carries "
                f"{share:.0%} of the variance of the effect, so that its normal interval will "
                "mislead; look at influence_function_ and at causal.overlap_report"
            )

    @property
    def nuisance_scores_(self) -> dict[str, dict[str, float]]:
        """How well out-of-fold nuisances predict, by nuisance and score."""
        check_is_fitted(self, "nuisances_")
        n_blocks = len(next(iter(self.nuisances_.values()))) // len(self._rows.y)
        row = np.tile(np.arange(len(self._rows.y)), n_blocks)
        scored = {name: value for name, value in self.nuisances_.items() if name != "g"}
        return nuisance_scores(scored, row, self._rows)

    def confint(self, confidence_level: float = 0.95) -> Array:
        """Normal confidence interval of the effect.

        Parameters
        ----------
        confidence_level : float, default=0.95
            Probability that the interval covers the effect, between 0 and 1.

        Returns
        -------
        ndarray of shape (1, 2)
            Lower and upper limit.

        Raises
        ------
        ValueError
            If `confidence_level` is not between 0 and 1.
        """
        check_is_fitted(self, "effect_")
        return self._effects.confint(confidence_level)

    def summary(self, confidence_level: float = 0.95) -> "pd.DataFrame":
        """Effect, its standard error, a test of no effect, and an interval.

        Parameters
        ----------
        confidence_level : float, default=0.95
            Level of the interval.

        Returns
        -------
        pandas.DataFrame
            One row: estimate, stderr, z, p_value (two-sided, normal), lower,
            upper. `attrs` has confidence_level.

        Raises
        ------
        ValueError
            If `confidence_level` is not between 0 and 1.
        """
        check_is_fitted(self, "effect_")
        return self._effects.summary(confidence_level)

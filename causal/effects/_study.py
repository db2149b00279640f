"""One estimate of an effect from weights: what each resample repeats."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import clone

from causal._estimating_equations import EstimatingEquations
from causal.effects._influence import ArmMeans, arm_means, target_weights
from causal.effects._outcome_models import OutcomeModels, fit_outcome_models
from reweight.weighted_fit import weighted_fit

Array = NDArray[np.float64]
Folds = list[tuple[NDArray[np.intp], NDArray[np.intp]]]
TARGETS = ("ATE", "ATT", "ATC", "ATO")


@dataclass(frozen=True)
class Study:
    """Rows of a study.

    Parameters
    ----------
    X : array, data frame or sparse matrix of shape (n_samples, n_features)
        Covariates, as the user passed them.
    y : ndarray of shape (n_samples, n_outputs)
        Outcomes.
    labels : ndarray of shape (n_samples,)
        Treatment as the user passed it.
    treated : ndarray of bool of shape (n_samples,)
        Whether the row has the larger label.
    sample_weight : ndarray of shape (n_samples,) or None
        Sampling weights.
    folds : list of (train, test), or None
        Row numbers for the cross-fitting of outcome models.
    """

    X: Any
    y: Array
    labels: NDArray
    treated: NDArray[np.bool_]
    sample_weight: Array | None
    folds: Folds | None

    @property
    def total_weight(self) -> Array:
        """Sampling weights, ones if there are none."""
        return np.ones(len(self.y)) if self.sample_weight is None else self.sample_weight

    def reweighted(self, factor: Array) -> "Study":
        """The same rows with sampling weights multiplied by a factor."""
        return replace(self, sample_weight=self.total_weight * factor)

    def take(self, index: NDArray[np.intp]) -> "Study":
        """Some of the rows, each in the fold that it was in."""
        place = np.full(len(self.y), -1)
        place[index] = np.arange(len(index))
        folds = self.folds and [
            tuple(place[part][place[part] >= 0] for part in fold) for fold in self.folds
        ]
        return Study(
            X=self.X.iloc[index] if hasattr(self.X, "iloc") else self.X[index],
            y=self.y[index],
            labels=self.labels[index],
            treated=self.treated[index],
            sample_weight=None if self.sample_weight is None else self.sample_weight[index],
            folds=folds,
        )


@dataclass(frozen=True)
class Estimate:
    """A fitted weighter and the means that its weights give.

    Parameters
    ----------
    weighter : estimator
        The fitted weighter, or pipeline that ends in one.
    weights : ndarray of shape (n_samples,)
        Weights of the rows within their arms.
    models : OutcomeModels or None
        Outcome models and what they predict.
    means : ArmMeans
        Means of the target population under either arm.
    """

    weighter: Any
    weights: Array
    models: OutcomeModels | None
    means: ArmMeans


def estimate_effect(
    study: Study, weighter: Any, outcome_estimator: Any, estimand: str, n_jobs: int | None = None
) -> Estimate:
    """Fit the weights, and the outcome models if there are any, and take the difference of means.

    Parameters
    ----------
    study : Study
        The rows.
    weighter : estimator
        Weighter, or pipeline that ends in one; not fitted itself.
    outcome_estimator : estimator or None
        Outcome model of one arm; not fitted itself.
    estimand : str
        Target population of the weights.
    n_jobs : int, default=None
        Number of jobs that fit outcome models.

    Returns
    -------
    Estimate
    """
    weighter = fit_weighter(weighter, study)
    weights = read_weights(weighter, len(study.y))
    models = target = None
    if outcome_estimator is not None:
        models = fit_outcome_models(
            outcome_estimator,
            study.X,
            study.y,
            study.treated,
            sample_weight=study.sample_weight,
            folds=study.folds,
            n_jobs=n_jobs,
        )
        propensity = read_propensity(weighter) if estimand == "ATO" else None
        target = target_weights(estimand, study.total_weight, study.treated, propensity)
    predictions = None if models is None else models.predictions
    means = arm_means(study.y, study.treated, weights, target, predictions)
    return Estimate(weighter, weights, models, means)


def last_step(weighter: Any) -> Any:
    """The weighter itself, or the last step of a pipeline."""
    return weighter.steps[-1][1] if hasattr(weighter, "steps") else weighter


def fit_weighter(weighter: Any, study: Study) -> Any:
    """A fitted clone of a weighter, or of a pipeline whose last step is one."""
    return weighted_fit(
        clone(weighter), study.X, study.labels, study.sample_weight, owner="WeightedEffect"
    )


def estimating_equations(weighter: Any) -> EstimatingEquations | None:
    """What the last step tells about the estimation of its weights, if anything."""
    method = getattr(last_step(weighter), "estimating_equations", None)
    return None if method is None else method()


def read_propensity(weighter: Any) -> Array:
    """`propensity_` of the last step, which defines the overlap population."""
    last = last_step(weighter)
    propensity = getattr(last, "propensity_", None)
    if propensity is None:
        raise ValueError(
            f"WeightedEffect: {type(last).__name__} has no propensity_, which outcome_estimator "
            "needs to average over the overlap population (ATO); leave outcome_estimator out, or "
            "use causal.PropensityWeighting(estimand='ATO')"
        )
    return propensity


def read_weights(weighter: Any, n_samples: int) -> Array:
    """`weights_` of the last step; for signed weights `raw_weights_`."""
    last = last_step(weighter)
    name = type(last).__name__
    weights = getattr(last, "weights_", getattr(last, "raw_weights_", None))
    if weights is None:
        raise ValueError(
            f"WeightedEffect: {name} sets no weights_ when it is fitted; pass a Weighter as "
            "weighter=, such as causal.EntropyBalancing(), or a pipeline that ends in one"
        )
    weights = np.asarray(weights, dtype=np.float64)
    if weights.shape != (n_samples,):
        raise ValueError(
            f"WeightedEffect: weights_ of {name} has shape {weights.shape} but there are "
            f"{n_samples} rows; a step of the pipeline may drop rows, which weights cannot follow"
        )
    return weights


def seeded_clone(estimator: Any, random_state: int) -> Any:
    """A clone whose unset `random_state` parameters are all set.

    Resamples then share what a method draws for itself, such as landmarks, so
    that they differ by the rows alone, and jobs cannot change the result.
    """
    estimator = clone(estimator)
    unset = {
        name: random_state
        for name, value in estimator.get_params().items()
        if name.split("__")[-1] == "random_state" and value is None
    }
    return estimator.set_params(**unset) if unset else estimator

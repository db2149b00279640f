"""What all learners of heterogeneous effects share: scores, summaries, columns of X."""

from numbers import Real
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator
from sklearn.utils._param_validation import StrOptions
from sklearn.utils.validation import check_is_fitted

from causal.effects._effect_data import EffectData, read_covariates, read_effect_data
from causal.effects._nuisances import cross_fit_nuisances, given_nuisances
from causal.effects._settings import accepts_missing, nuisance_settings
from causal.effects.losses import r_loss, r_score
from causal.effects.pseudo_outcome import pseudo_outcome

if TYPE_CHECKING:
    import pandas as pd

Array = NDArray[np.float64]
SCORING_CONSTRAINT = [StrOptions({"r", "dr"})]
SCORE_NUISANCES = {"r": ("m", "propensity"), "dr": ("propensity", "mu0", "mu1")}
QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)


class EffectLearner(BaseEstimator):
    """Base class of estimators whose `predict` is an effect.

    Subclasses set `classes_` in `fit` and define `predict`. Parameters that
    they lack take the values below where nuisances are fitted for `score`.
    """

    __metadata_request__fit = {"treatment": True}
    __metadata_request__score = {"treatment": True}

    _score_defaults = {
        "outcome_estimator": None,
        "treatment_estimator": None,
        "cv": "auto",
        "cross_fitting": 2,
        "n_repeats": 1,
        "propensity_clip": 0.01,
        "random_state": 0,
        "n_jobs": None,
        "verbose": 0,
    }

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.target_tags.required = True
        tags.target_tags.multi_output = True
        tags.input_tags.allow_nan = self._accepts_missing()
        return tags

    def __getstate__(self):
        # Training rows serve refit_final and summaries; a pickle does not carry the data.
        state = super().__getstate__()
        return {name: value for name, value in state.items() if name != "_training"}

    def _models(self) -> tuple[Any, ...]:
        """The models that see X."""
        return (getattr(self, "outcome_estimator", None),)

    def _accepts_missing(self) -> bool:
        return accepts_missing(*self._models())

    def _read(self, X: Any, y: Any, treatment: Any, **metadata: Any) -> EffectData:
        """Everything passed to `fit`, checked."""
        data = read_effect_data(
            self,
            X,
            y,
            treatment,
            discrete_treatment=getattr(self, "discrete_treatment", "auto"),
            allow_nan=self._accepts_missing(),
            **metadata,
        )
        self.classes_ = data.classes
        return data

    def _later_rows(self, X: Any) -> Any:
        """Covariates of rows to predict."""
        check_is_fitted(self, "classes_")
        return read_covariates(self, X, reset=False, allow_nan=self._accepts_missing())

    def score(
        self,
        X: Any,
        y: ArrayLike,
        *,
        treatment: ArrayLike | None = None,
        sample_weight: ArrayLike | None = None,
    ) -> float:
        """How much better than a constant the predicted effects are; larger is better.

        With `scoring="r"` one minus the R-loss over that of the best constant,
        see `r_score`; with "dr" one minus the squared distance to the doubly
        robust pseudo-outcome over that of its mean. Most of either loss is
        noise, so that scores are small, and differences between candidates
        are what counts.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Covariates, usually held out.
        y : array-like of shape (n_samples,) or (n_samples, 2), (n_samples, 4), (n_samples, 6)
            Outcome, or the target array. With its nuisances, from `CrossFitter`,
            scoring is one pass, and the same nuisances judge all candidates;
            without, they are cross-fitted on the rows given, which is slow.
        treatment : array-like of shape (n_samples,), default=None
            Treatment, if it is not in `y`.
        sample_weight : array-like of shape (n_samples,), default=None
            Sampling weights.

        Returns
        -------
        float
        """
        check_is_fitted(self, "classes_")
        effect = self.predict(X)
        data = read_effect_data(
            self,
            X,
            y,
            treatment,
            sample_weight=sample_weight,
            classes=self.classes_,
            allow_nan=self._accepts_missing(),
            reset=False,
        )
        return effect_score(effect, data, self._nuisances_to_score(data), self.scoring)

    def _nuisances_to_score(self, data: EffectData) -> dict[str, Array]:
        """Nuisances in `data`, or cross-fitted on its rows."""
        names = SCORE_NUISANCES[self.scoring]
        if set(names) <= set(data.nuisances):
            return given_nuisances(data).by_name
        if data.nuisances:
            raise ValueError(
                f"{type(self).__name__}: scoring={self.scoring!r} needs the nuisances "
                f"{list(names)}, but y has {list(data.nuisances)}; pass the target array of "
                "CrossFitter(outcome_by_arm=True)"
            )
        settings = nuisance_settings(_WithDefaults(self))
        return cross_fit_nuisances(data, names, settings).by_name

    def summary(self) -> "pd.DataFrame":
        """Mean, deviation and quantiles of the effects of the training rows.

        Returns
        -------
        pandas.DataFrame
            One row: mean, sd, and the quantiles 0.05, 0.25, 0.5, 0.75, 0.95.
        """
        import pandas as pd

        check_is_fitted(self, "classes_")
        if not hasattr(self, "_training"):
            raise AttributeError(
                f"{type(self).__name__}: the training rows are not in memory (a pickled copy does "
                "not carry them); fit again, or describe predict(X) of your rows"
            )
        effect = self.predict(self._training.X)
        table = {"mean": effect.mean(), "sd": effect.std()}
        table |= {f"q{100 * q:g}": np.quantile(effect, q) for q in QUANTILES}
        return pd.DataFrame(table, index=pd.Index(["effect"], name="term"))


class _WithDefaults:
    """Attributes of a learner, and defaults for those that it lacks."""

    def __init__(self, learner: EffectLearner) -> None:
        values = {name: getattr(learner, name, v) for name, v in learner._score_defaults.items()}
        # One pseudo row for each row, whatever the final stage was fitted to.
        values |= {"cross_fitting": 2, "n_repeats": 1, "owner": type(learner).__name__}
        if not isinstance(values["cv"], int | str):
            values["cv"] = "auto"
        vars(self).update(values)


def effect_score(
    effect: Array, data: EffectData, nuisances: dict[str, Array], scoring: str
) -> float:
    """The score of estimated effects on rows with nuisances.

    Parameters
    ----------
    effect : ndarray of shape (n_samples,)
        Estimated effects.
    data : EffectData
        The rows.
    nuisances : dict of ndarray of shape (n_samples,)
        By name.
    scoring : {"r", "dr"}
        Which score.

    Returns
    -------
    float
    """
    y, t, s = data.y, data.treatment, data.sample_weight
    if scoring == "r":
        return r_score(y, t, effect, nuisances["m"], nuisances["propensity"], s)
    named = {name: nuisances[name] for name in SCORE_NUISANCES["dr"]}
    f = pseudo_outcome("dr", y, t, **named)
    zero, one = np.zeros(len(y)), np.ones(len(y))
    mean = np.full(len(y), np.average(f, weights=s))
    best, own = r_loss(f, one, mean, zero, zero, s), r_loss(f, one, effect, zero, zero, s)
    if best <= 0:
        return 1.0 if own <= 0 else -np.inf
    return 1.0 - own / best


def select_columns(X: Any, columns: Any, *, owner: str) -> Any:
    """Some columns of covariates, in their container.

    Parameters
    ----------
    X : array, data frame or sparse matrix of shape (n_samples, n_features)
        Covariates.
    columns : sequence of int or str, or None
        Places or names; None is all of them.
    owner : str
        Who is asking, for error messages.

    Returns
    -------
    array, data frame or sparse matrix
    """
    if columns is None:
        return X
    columns = list(columns)
    if not columns:
        raise ValueError(f"{owner}: effect_columns is empty; pass at least one column, or None")
    if not hasattr(X, "columns"):
        wrong = [c for c in columns if not _is_place(c, X.shape[1])]
        if wrong:
            raise ValueError(
                f"{owner}: effect_columns has {wrong}, but X is an array of {X.shape[1]} columns; "
                "pass their places, or X as a data frame"
            )
        return X[:, columns]
    import narwhals.stable.v1 as nw

    frame = nw.from_native(X, eager_only=True)
    names = list(frame.columns)
    wrong = [c for c in columns if c not in names and not _is_place(c, len(names))]
    if wrong:
        raise ValueError(f"{owner}: effect_columns has {wrong}, but the columns of X are {names}")
    return frame.select([c if c in names else names[c] for c in columns]).to_native()


def _is_place(column: Any, n_columns: int) -> bool:
    return isinstance(column, int | np.integer) and -n_columns <= column < n_columns


def column_names(estimator: Any, columns: Any) -> list[str]:
    """Names of the columns that the final stage sees.

    Parameters
    ----------
    estimator : estimator
        Fitted learner.
    columns : sequence of int or str, or None
        Its `effect_columns`.

    Returns
    -------
    list of str
    """
    names = getattr(estimator, "feature_names_in_", None)
    if names is None:
        names = [f"x{j}" for j in range(estimator.n_features_in_)]
    names = [str(name) for name in names]
    if columns is None:
        return names
    return [c if isinstance(c, str) else names[c] for c in columns]


def check_level(confidence_level: float, owner: str) -> None:
    """Raise unless a confidence level is between 0 and 1."""
    if not isinstance(confidence_level, Real) or not 0 < confidence_level < 1:
        raise ValueError(
            f"{owner}: confidence_level is {confidence_level!r}; pass a number between 0 and 1, "
            "such as 0.95"
        )

"""The engine of `PseudoOutcomeRegressor` and of the learners that are special cases of it."""

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import norm
from sklearn.base import clone
from sklearn.utils._param_validation import HasMethods, StrOptions
from sklearn.utils.metaestimators import available_if
from sklearn.utils.validation import check_is_fitted

from causal.effects._effect_data import EffectData
from causal.effects._final_stage import (
    PseudoRows,
    check_pair,
    fit_black_box,
    make_pseudo_rows,
    resolve_weighting,
)
from causal.effects._learner import (
    SCORING_CONSTRAINT,
    EffectLearner,
    check_level,
    column_names,
    select_columns,
)
from causal.effects._nuisance_checks import NuisanceSettings
from causal.effects._nuisances import (
    Nuisances,
    cross_fit_nuisances,
    dense_matrix,
    given_nuisances,
)
from causal.effects._orthogonal_linear import average_linear_stages
from causal.effects._settings import NUISANCE_CONSTRAINTS, nuisance_scores, nuisance_settings
from causal.effects.pseudo_outcome import NUISANCES_OF
from reweight.normalization import normalize_weights

if TYPE_CHECKING:
    import pandas as pd

Array = NDArray[np.float64]
# What an earlier fit with another final stage may have left.
SOMETIMES_SET = ("coef_", "intercept_", "cov_", "stderr_", "featurizer_", "_stage")
FINAL_STAGE_CONSTRAINTS = {
    **{name: kind for name, kind in NUISANCE_CONSTRAINTS.items() if name != "outcome_model"},
    "final_estimator": [StrOptions({"linear"}), HasMethods(["fit", "predict"])],
    "featurizer": [HasMethods(["fit", "transform"]), None],
    "effect_columns": ["array-like", None],
    "fit_nuisances": [StrOptions({"needed", "all"})],
    "fold_aggregation": [StrOptions({"stack", "average"})],
    "cov_type": [StrOptions({"HC0", "HC1", "nonrobust"})],
    "scoring": SCORING_CONSTRAINT,
}


def _is_linear(learner: Any) -> bool:
    if learner.final_estimator != "linear":
        raise AttributeError(
            f"{type(learner).__name__} has no standard errors for final_estimator "
            f"{type(learner.final_estimator).__name__}; pass final_estimator='linear'"
        )
    return True


class CrossFittedLearner(EffectLearner):
    """Base class of learners that regress a pseudo-outcome of out-of-fold nuisances on X.

    Subclasses say by `_rule` which pseudo-outcome, weights and variance model.
    """

    __metadata_request__fit = {"treatment": True, "groups": True, "propensity": True}

    def _rule(self) -> tuple[str, Any, Any]:
        """Pseudo-outcome, weighting and variance estimator."""
        raise NotImplementedError

    def _models(self) -> tuple[Any, ...]:
        return self.outcome_estimator, self.treatment_estimator, self.final_estimator

    def fit(
        self,
        X: Any,
        y: ArrayLike,
        *,
        treatment: ArrayLike | None = None,
        sample_weight: ArrayLike | None = None,
        groups: ArrayLike | None = None,
        propensity: ArrayLike | float | None = None,
    ) -> "CrossFittedLearner":
        """Cross-fit the nuisances and fit the final stage.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Covariates: array, data frame, or sparse matrix if the models take it.
        y : array-like of shape (n_samples,) or (n_samples, 2), (n_samples, 4), (n_samples, 6)
            Outcome; or the target array of `make_effect_target` or
            `CrossFitter`. With its nuisances none is fitted here.
        treatment : array-like of shape (n_samples,), default=None
            Treatment, if it is not in `y`.
        sample_weight : array-like of shape (n_samples,), default=None
            Sampling weights, used by nuisances and final stage.
        groups : array-like of shape (n_samples,), default=None
            Rows that stay in one fold, and clusters of standard errors.
        propensity : array-like of shape (n_samples,) or float, default=None
            Known propensity, as in a randomised trial.

        Returns
        -------
        CrossFittedLearner
            The learner itself.

        Raises
        ------
        ValueError
            If the treatment is missing, has one value, or does not suit
            pseudo-outcome and models; a fold lacks an arm; folds are no
            partition or split groups; weights do not suit the pseudo-outcome
            or the final estimator; or a number is not finite.
        """
        self._validate_params()
        for name in SOMETIMES_SET:
            vars(self).pop(name, None)
        kind, weighting, variance_estimator = self._rule()
        weighting = self._check_rule(kind, weighting, variance_estimator)
        settings = nuisance_settings(self)
        data = self._read(
            X, y, treatment, sample_weight=sample_weight, groups=groups, propensity=propensity
        )
        check_pair(kind, weighting, data, self.treatment_estimator, settings.owner)
        names = self._needed(kind, weighting, variance_estimator)
        nuisances = self._get_nuisances(data, names, settings)
        self.nuisances_, self.row_ = nuisances.by_name, nuisances.row
        self.folds_ = nuisances.fold[0] if len(nuisances.fold) == 1 else nuisances.fold
        self.models_, self.n_clipped_ = nuisances.models, nuisances.n_clipped
        rows = make_pseudo_rows(data, nuisances, kind, weighting, variance_estimator, settings)
        self._training = data
        self._fit_final(data, rows, settings)
        return self

    def _check_rule(self, kind: str, weighting: Any, variance_estimator: Any) -> Any:
        """The weighting that is meant; parameters that do not go together raise."""
        name = type(self).__name__
        if variance_estimator is not None and (kind != "dr" or weighting != "inverse_variance"):
            raise ValueError(
                f"{name}: variance_estimator is for pseudo_outcome='dr' with "
                f"weighting='inverse_variance', but they are {kind!r} and {weighting!r}; leave it "
                "out"
            )
        repeated = self.cross_fitting > 2 or self.n_repeats > 1
        if self.cov_type == "nonrobust" and repeated and self.final_estimator == "linear":
            raise ValueError(
                f"{name}: cov_type='nonrobust' counts the pseudo rows of a row as independent; use "
                "'HC1', which is then clustered"
            )
        return resolve_weighting(weighting, kind)

    def _needed(self, kind: str, weighting: Any, variance_estimator: Any) -> tuple[str, ...]:
        """Names of the nuisances that the final stage is made of, or of all."""
        if self.fit_nuisances == "all":
            return ("m", "propensity", "mu0", "mu1")
        needed = set(NUISANCES_OF[kind])
        if callable(weighting) or (isinstance(weighting, str) and weighting != "none"):
            needed.add("propensity")
        return tuple(name for name in ("m", "propensity", "mu0", "mu1") if name in needed)

    def _get_nuisances(
        self, data: EffectData, names: tuple[str, ...], settings: NuisanceSettings
    ) -> Nuisances:
        """Nuisances that came with y, or cross-fitted ones."""
        if not data.nuisances:
            if not data.binary and self.fit_nuisances == "all":
                names = ("m", "propensity")
            return cross_fit_nuisances(data, names, settings)
        given = given_nuisances(data)
        if data.propensity is not None:
            given.by_name["propensity"] = data.propensity
        needed = NUISANCES_OF[self._rule()[0]]
        missing = [name for name in needed if name not in given.by_name]
        if missing:
            raise ValueError(
                f"{settings.owner}: pseudo-outcome {self._rule()[0]!r} needs {missing}, but y has "
                f"{list(data.nuisances)}; pass the six-column target of CrossFitter"
            )
        return given

    def _fit_final(self, data: EffectData, rows: PseudoRows, settings: NuisanceSettings) -> None:
        """Regress pseudo-outcomes on the covariates of the final stage."""
        self.pseudo_outcome_ = rows.outcome
        self.weights_ = normalize_weights(rows.weight)
        X = select_columns(data.X, self.effect_columns, owner=settings.owner)
        if self.featurizer is not None:
            self.featurizer_ = clone(self.featurizer).fit(X)
            X = self.featurizer_.transform(X)
        average = self.fold_aggregation == "average"
        if self.final_estimator == "linear":
            self.final_estimator_ = "linear"
            self._fit_linear(X, data, rows, average)
        else:
            self.final_estimator_ = fit_black_box(
                self.final_estimator, X, rows, settings.random_state, average, settings.owner
            )

    def _fit_linear(self, X: Any, data: EffectData, rows: PseudoRows, average: bool) -> None:
        name, n = type(self).__name__, len(data.y)
        phi = self._phi(X)
        clusters = data.groups
        if clusters is not None and self.cov_type == "nonrobust":
            raise ValueError(
                f"{name}: groups make clusters, which cov_type='nonrobust' does not know; use 'HC1'"
            )
        if average or rows.n_blocks == 1:
            parts = [slice(b * n, (b + 1) * n) for b in range(rows.n_blocks)]
        else:
            parts, phi = [slice(None)], phi[rows.row]
            clusters = rows.row if clusters is None else clusters[rows.row]
        stages = [
            (
                rows.response[part],
                rows.base_weight[part],
                None if rows.slope is None else rows.slope[part],
            )
            for part in parts
        ]
        stage = average_linear_stages(
            phi, stages, clusters=clusters, cov_type=self.cov_type, owner=name
        )
        self._stage = stage
        self.intercept_, self.coef_ = float(stage.theta[0]), stage.theta[1:]
        self.stderr_ = stage.stderr(np.eye(len(stage.theta)))
        self.cov_ = stage.covariance.copy()
        lost = np.isnan(self.stderr_)
        self.cov_[lost], self.cov_[:, lost] = np.nan, np.nan

    def _phi(self, X: Any) -> Array:
        """Features of the linear final stage, the intercept first."""
        matrix = dense_matrix(X)
        if matrix is None:
            raise ValueError(
                f"{type(self).__name__}: the linear final stage needs finite dense numbers, but X "
                "is sparse, has text or Input X contains NaN; pass a featurizer that encodes it, "
                "effect_columns that are numeric, or another final_estimator"
            )
        phi = np.empty((len(matrix), matrix.shape[1] + 1))
        phi[:, 0], phi[:, 1:] = 1.0, matrix
        return phi

    def _final_covariates(self, X: Any) -> Any:
        X = select_columns(self._later_rows(X), self.effect_columns, owner=type(self).__name__)
        return self.featurizer_.transform(X) if self.featurizer is not None else X

    def predict(self, X: Any) -> NDArray[np.float64]:
        """Effect at each row.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Covariates.

        Returns
        -------
        ndarray of shape (n_samples,)
        """
        X = self._final_covariates(X)
        if hasattr(self, "_stage"):
            return self._stage.predict(self._phi(X))
        models = self.final_estimator_
        models = models if isinstance(models, list) else [models]
        return np.mean([np.asarray(model.predict(X)).ravel() for model in models], axis=0)

    @available_if(_is_linear)
    def stderr(self, X: Any) -> NDArray[np.float64]:
        """Standard error of the effect at each row, of the linear final stage.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Covariates.

        Returns
        -------
        ndarray of shape (n_samples,)
            NaN where the effect is not identified.
        """
        X = self._final_covariates(X)
        return self._stage.stderr(self._phi(X))

    @available_if(_is_linear)
    def predict_interval(self, X: Any, confidence_level: float = 0.95) -> NDArray[np.float64]:
        """Pointwise confidence interval of the effect at each row, of the linear final stage.

        It is about the best linear approximation of the effect under the
        weights, and counts on nuisances whose errors vanish faster than
        n^(-1/4).

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Covariates.
        confidence_level : float, default=0.95
            Probability that an interval covers the effect, between 0 and 1.

        Returns
        -------
        ndarray of shape (n_samples, 2)
            Lower and upper limits.
        """
        check_level(confidence_level, type(self).__name__)
        phi = self._phi(self._final_covariates(X))
        half = norm.isf((1 - confidence_level) / 2) * self._stage.stderr(phi)
        effect = self._stage.predict(phi)
        return np.column_stack([effect - half, effect + half])

    @property
    def nuisance_scores_(self) -> dict[str, dict[str, float]]:
        """How well out-of-fold nuisances predict, by nuisance and score."""
        check_is_fitted(self, "nuisances_")
        return nuisance_scores(self.nuisances_, self.row_, self._training_rows())

    def _training_rows(self) -> EffectData:
        if not hasattr(self, "_training"):
            raise AttributeError(
                f"{type(self).__name__}: the training rows are not in memory (a pickled copy does "
                "not carry them); fit again"
            )
        return self._training

    def _term_names(self) -> list[str]:
        names = column_names(self, self.effect_columns)
        if self.featurizer is None:
            return names
        if hasattr(self.featurizer_, "get_feature_names_out"):
            inputs = getattr(self.featurizer_, "feature_names_in_", names)
            return [str(name) for name in self.featurizer_.get_feature_names_out(inputs)]
        return [f"phi{j}" for j in range(len(self.coef_))]

    def summary(self, confidence_level: float = 0.95) -> "pd.DataFrame":
        """Coefficients of the linear final stage, or the spread of effects of any other.

        Parameters
        ----------
        confidence_level : float, default=0.95
            Level of the intervals.

        Returns
        -------
        pandas.DataFrame
            Linear: one row for each term with estimate, stderr, z, p_value
            (two-sided, normal), lower and upper. Else one row with mean, sd and
            quantiles of the effects of the training rows.
        """
        import pandas as pd

        check_is_fitted(self, "classes_")
        check_level(confidence_level, type(self).__name__)
        if not hasattr(self, "_stage"):
            return super().summary()
        theta, error = self._stage.theta, self.stderr_
        with np.errstate(divide="ignore", invalid="ignore"):
            z = theta / error
        half = norm.isf((1 - confidence_level) / 2) * error
        return pd.DataFrame(
            {
                "estimate": theta,
                "stderr": error,
                "z": z,
                "p_value": 2 * norm.sf(np.abs(z)),
                "lower": theta - half,
                "upper": theta + half,
            },
            index=pd.Index(["intercept", *self._term_names()], name="term"),
        )

    def refit_final(self, **changes: Any) -> "CrossFittedLearner":
        """A learner with another final stage on the same nuisances; nothing else is fitted.

        Parameters
        ----------
        **changes : dict
            Parameters of `PseudoOutcomeRegressor` that concern the final stage:
            pseudo_outcome, weighting, variance_estimator, final_estimator,
            featurizer, effect_columns, fold_aggregation, cov_type, scoring.

        Returns
        -------
        PseudoOutcomeRegressor
            Fitted; this learner stays as it is.

        Raises
        ------
        ValueError
            If a parameter concerns the nuisances, or a nuisance is needed that
            was not fitted; see `fit_nuisances`.
        """
        from causal.effects._refit import refit

        check_is_fitted(self, "nuisances_")
        return refit(self, self._training_rows(), changes)

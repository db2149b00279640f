"""Average effects of two arms from doubly robust scores and cross-fitted nuisances."""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.utils._param_validation import StrOptions
from sklearn.utils.validation import check_is_fitted

from causal.effects._double_ml import DoubleMachineLearning, refuse_two_propensities
from causal.effects._effect_data import EffectData
from causal.effects._linear_effects import LinearEffects
from causal.effects._nuisances import NuisanceSettings
from causal.effects._scores import LinearScore, interactive_score
from causal.effects._settings import NUISANCE_CONSTRAINTS
from reweight.validation import warn_weights

NEEDED = {"ATT": ("propensity", "mu0"), "ATC": ("propensity", "mu1")}
EVERYTHING = ("propensity", "mu0", "mu1")


class InteractiveDML(DoubleMachineLearning):
    r"""Average effect of a two-valued treatment whose effect may differ between rows.

    The interactive regression model is :math:`Y = g(T, X) + U`,
    :math:`E[T | X] = e(X)`. With :math:`\mu_a(x) = E[Y | X = x, T = a]`, cross-fitted
    like e, the effect is a (weighted) mean of the doubly robust scores

    .. math:: f = \mu_1 - \mu_0 + \frac{T (Y - \mu_1)}{e}
              - \frac{(1 - T)(Y - \mu_0)}{1 - e},

    whose errors in e and in :math:`\mu_a` count only as products. The same
    scores give effects by group and their best linear predictor.

    Parameters
    ----------
    outcome_estimator : estimator, default=None
        Regressor of the outcome, fitted once for each arm; or a classifier with
        `predict_proba` for an outcome of 0 and 1. None is ridge regression on
        standardised columns with a penalty chosen by generalised
        cross-validation.
    treatment_estimator : estimator, float or "known", default=None
        Classifier with `predict_proba`; a Weighter such as `causal.CBPS("ATE")`,
        whose weights then stand for inverse propensities; the propensity itself
        if it is the same for all; "known" if `fit` is given it. None is
        logistic regression with C=1 on standardised columns.
    estimand : {"ATE", "ATT", "ATC", "ATO"}, default="ATE"
        Effect on all, on the treated, on the controls, or on the overlap
        population, in which rows count with weight e (1 - e).
    outcome_model : {"separate", "single"}, default="separate"
        One outcome model for each arm, or one for both that sees the treatment
        as its last column.
    cv : int, "auto", splitter or iterable of (train, test), default=5
        Folds. An int stratifies by treatment and keeps groups whole; "auto" is
        10 below 1000 rows, 5 below 50,000, 3 below 500,000, else 2. Test parts
        must cover each row once.
    n_repeats : int, default=1
        Number of draws of the folds. The effect is the median over them, and
        the standard error counts their spread.
    propensity_clip : float, default=0.01
        Propensities are moved into [propensity_clip, 1 - propensity_clip].
    random_state : int, RandomState instance or None, default=None
        Seeds folds and every unset `random_state` of the models.
    n_jobs : int, default=None
        Number of jobs over folds, through joblib; it does not change the
        result.
    verbose : int, default=0
        Whether to show progress.

    Attributes
    ----------
    effect_ : float
        The estimate.
    stderr_ : float
        Its standard error.
    repeat_effects_, repeat_stderrs_ : ndarray of shape (n_repeats,)
        Estimate and standard error from each draw of the folds.
    influence_function_ : ndarray of shape (n_samples,) or (n_repeats, n_samples)
        Influence of each row on the effect, on the scale of the effect: sums to
        zero, and the squares sum to the variance (without groups).
    nuisances_ : dict of ndarray of shape (n_repeats * n_samples,)
        Out-of-fold "propensity", "mu0" and "mu1" as far as the estimand needs
        them, one repeat after the other; "control_propensity" where it is not
        one minus the propensity.
    nuisance_scores_ : dict
        Out-of-fold R2, or log loss and area under the ROC curve.
    folds_ : ndarray of int of shape (n_samples,) or (n_repeats, n_samples)
        Fold that tests each row, -1 if nuisances came with `y`.
    models_ : dict of list of estimators
        Fitted models by nuisance, over repeats and folds.
    n_clipped_ : int
        Number of propensities that were clipped.
    classes_ : ndarray of shape (2,)
        Control label, treated label (the larger one).
    n_features_in_ : int
        Number of covariates.
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Their names, when X has string column names.

    See Also
    --------
    PartiallyLinearDML : One effect for all rows; needs less overlap.
    WeightedEffect : Effects from balancing weights.

    Notes
    -----
    Standard errors are those of the influence function; with `groups`, folds
    keep groups whole and influences are summed within them. The score of the
    ATO carries the estimation of its weights e (1 - e), which makes it
    orthogonal: it is the mean of (T - e)^2 (mu1 - mu0) + (T - e) (Y - mu_T)
    over that of (T - e)^2, so that no propensity is divided by.

    References
    ----------
    Chernozhukov, V. et al. (2018). Double/debiased machine learning for
    treatment and structural parameters. Econometrics Journal 21(1), C1-C68.

    Semenova, V. and Chernozhukov, V. (2021). Debiased machine learning of
    conditional average treatment effects and other causal functions.
    Econometrics Journal 24(2), 264-289.

    Examples
    --------
    >>> from causal import InteractiveDML, make_kang_schafer
    >>> study = make_kang_schafer(1000, random_state=0)
    >>> effect = InteractiveDML(random_state=0).fit(study.Z, study.y, treatment=study.treatment)
    >>> bool(abs(effect.effect_) < 3 * effect.stderr_)
    True
    >>> effect.confint().shape
    (1, 2)
    """

    _parameter_constraints = {
        **{
            k: v
            for k, v in NUISANCE_CONSTRAINTS.items()
            if k not in ("cross_fitting", "discrete_treatment")
        },
        "estimand": [StrOptions({"ATE", "ATT", "ATC", "ATO"})],
    }

    def __init__(
        self,
        outcome_estimator: Any = None,
        treatment_estimator: Any = None,
        *,
        estimand: str = "ATE",
        outcome_model: str = "separate",
        cv: Any = 5,
        n_repeats: int = 1,
        propensity_clip: float = 0.01,
        random_state: int | np.random.RandomState | None = None,
        n_jobs: int | None = None,
        verbose: int = 0,
    ) -> None:
        self.outcome_estimator = outcome_estimator
        self.treatment_estimator = treatment_estimator
        self.estimand = estimand
        self.outcome_model = outcome_model
        self.cv = cv
        self.n_repeats = n_repeats
        self.propensity_clip = propensity_clip
        self.random_state = random_state
        self.n_jobs = n_jobs
        self.verbose = verbose

    def fit(
        self,
        X: Any,
        y: ArrayLike,
        *,
        treatment: ArrayLike | None = None,
        sample_weight: ArrayLike | None = None,
        groups: ArrayLike | None = None,
        propensity: ArrayLike | float | None = None,
    ) -> "InteractiveDML":
        """Fit the nuisances and the effect.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Covariates.
        y : array-like of shape (n_samples,) or (n_samples, 2), (n_samples, 6)
            Outcome; or outcome and treatment, from `make_effect_target`; or
            with nuisances, from `CrossFitter`, which are then not fitted.
        treatment : array-like of shape (n_samples,), default=None
            Two-valued treatment, if it is not in `y`; the larger label is the
            treated one.
        sample_weight : array-like of shape (n_samples,), default=None
            Sampling weights.
        groups : array-like of shape (n_samples,), default=None
            Clusters: rows that stay in one fold and whose influences are summed
            before they are squared.
        propensity : array-like of shape (n_samples,) or float, default=None
            Known propensity, as in a randomised trial.

        Returns
        -------
        InteractiveDML

        Raises
        ------
        ValueError
            If the treatment is missing, has other than two values, or does not
            suit the estimators; a fold lacks an arm; folds are no partition or
            split groups; or a number is not finite.
        """
        if self.estimand != "ATE":
            refuse_two_propensities(self, "estimand='ATE'")
        self._fit(
            X,
            y,
            treatment,
            True,
            sample_weight=sample_weight,
            groups=groups,
            propensity=propensity,
        )
        return self

    def group_effects(self, by: ArrayLike) -> LinearEffects:
        """Effect in each group of rows, from the scores of `fit`.

        Parameters
        ----------
        by : array-like of shape (n_samples,)
            Group of each row given to `fit`, which must not depend on
            treatment or outcome.

        Returns
        -------
        LinearEffects
            With `coef_`, `stderr_`, `covariance_`, `summary()` and `confint()`,
            one entry a group in the order of the sorted labels; intervals may
            be asked to cover simultaneously.

        Raises
        ------
        ValueError
            If there is not one label for each row of `fit`.
        """
        check_is_fitted(self, "effect_")
        by = np.asarray(by)
        n = len(self._scored.scores[0].a)
        if by.shape != (n,):
            raise ValueError(
                f"InteractiveDML: by has shape {by.shape}, but fit saw {n} rows; pass one label "
                "for each of them"
            )
        labels, codes = np.unique(by, return_inverse=True)
        effects, _ = self._scored.solve(
            (codes[:, None] == np.arange(len(labels))).astype(np.float64),
            [str(label) for label in labels],
            "group",
            cov_type="HC0",
        )
        self._warn_unidentified(effects)
        return effects

    def best_linear_predictor(
        self, features: ArrayLike, *, fit_intercept: bool = True, cov_type: str = "HC1"
    ) -> LinearEffects:
        """Best linear predictor of the effect of a row, from the scores of `fit`.

        For the ATE this is least squares of the doubly robust scores on the
        features; for other estimands, the best linear predictor in the population
        of the estimand.

        Parameters
        ----------
        features : array-like of shape (n_samples, n_columns)
            Functions of the covariates at the rows given to `fit`.
        fit_intercept : bool, default=True
            Whether to add a column of ones in front.
        cov_type : {"HC0", "HC1"}, default="HC1"
            Covariance of the coefficients, without and with correction of the
            degrees of freedom; by groups if `fit` was given them.

        Returns
        -------
        LinearEffects
            With `coef_`, `stderr_`, `covariance_`, `summary()`, `confint()`,
            and `predict(features)`, `predict_interval(features)` for other rows.

        Raises
        ------
        ValueError
            If the features do not have one row for each row of `fit`, or entries
            that are not finite.
        """
        check_is_fitted(self, "effect_")
        if cov_type not in ("HC0", "HC1"):
            raise ValueError(f"InteractiveDML: cov_type is {cov_type!r}; pass 'HC0' or 'HC1'")
        names, rows = self._read_features(features)
        if fit_intercept:
            names, rows = ["intercept", *names], np.column_stack([np.ones(len(rows)), rows])
        if rows.shape[1] >= len(rows):
            raise ValueError(
                f"InteractiveDML: features has {rows.shape[1]} columns for {len(rows)} rows; pass "
                "fewer columns"
            )
        effects, _ = self._scored.solve(
            rows, names, "coefficient", cov_type=cov_type, intercept=fit_intercept
        )
        self._warn_unidentified(effects)
        return effects

    def _nuisance_names(self) -> tuple[str, ...]:
        return NEEDED.get(self.estimand, EVERYTHING)

    def _effect_label(self) -> str:
        return self.estimand

    def _make_scores(
        self,
        data: EffectData,
        nuisances: list[dict[str, NDArray]],
        fold: NDArray[np.intp],
        settings: NuisanceSettings,
    ) -> list[LinearScore]:
        scores = []
        for values in nuisances:
            e = values["propensity"]
            control = values.get("control_propensity", 1.0 - e)
            nothing = np.zeros(len(e))
            mu0, mu1 = values.get("mu0", nothing), values.get("mu1", nothing)
            scores.append(
                interactive_score(self.estimand, data.y, data.treatment, mu0, mu1, e, control)
            )
        return scores

    def _read_features(self, features: Any) -> tuple[list[str], NDArray[np.float64]]:
        """Names and columns to regress effects on."""
        n = len(self._scored.scores[0].a)
        rows = np.asarray(features, dtype=np.float64)
        names = [str(name) for name in features.columns] if hasattr(features, "columns") else None
        rows = rows.reshape(-1, 1) if rows.ndim == 1 else rows
        if rows.ndim != 2 or len(rows) != n:
            raise ValueError(
                f"InteractiveDML: features has shape {rows.shape}, but fit saw {n} rows; pass one "
                "row for each of them"
            )
        bad = int((~np.isfinite(rows)).sum())
        if bad:
            raise ValueError(
                f"InteractiveDML: features has {bad} NaN or infinite entries; fill or drop "
                "them first"
            )
        return names or [f"x{j}" for j in range(rows.shape[1])], rows

    @staticmethod
    def _warn_unidentified(effects: LinearEffects) -> None:
        lost = [
            name
            for name, stderr in zip(effects.names, effects.stderr_, strict=True)
            if np.isnan(stderr)
        ]
        if lost:
            warn_weights(
                f"InteractiveDML: the data do not determine the effects {lost[:10]} one by one; "
                "their standard errors are NaN; drop redundant columns, or groups without rows in "
                "the population of the estimand"
            )

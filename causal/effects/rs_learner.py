"""The RS-learner: lasso on treatment residuals times covariates, and on covariates."""

from numbers import Real
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import clone
from sklearn.linear_model import Lasso, LassoCV
from sklearn.utils._param_validation import HasMethods, Interval

from causal.effects._effect_data import EffectData
from causal.effects._learner import SCORING_CONSTRAINT, EffectLearner
from causal.effects._nuisances import cross_fit_nuisances, dense_matrix, given_nuisances
from causal.effects._settings import NUISANCE_CONSTRAINTS, nuisance_settings
from causal.effects.pseudo_outcome import safe_residual

Array = NDArray[np.float64]
LASSO_ITERATIONS = 20_000


class RSLearner(EffectLearner):
    r"""Sparse linear effects: the R-learner with a lasso that may also repair the baseline.

    With out-of-fold residuals :math:`\tilde y = y - m(x)` and
    :math:`\tilde t = t - e(x)`, the lasso of :math:`\tilde y` on
    :math:`\tilde t`, :math:`\tilde t x` and x, all but the first column
    penalised; the effect is what stands with :math:`\tilde t`. The columns x
    take up what the nuisance m has missed.

    Parameters
    ----------
    outcome_estimator : estimator, default=None
        Model of the outcome, as in `CrossFitter`.
    treatment_estimator : estimator, float or "known", default=None
        Model of the treatment, as in `CrossFitter`.
    featurizer : transformer, default=None
        Applied to the covariates before the lasso, such as SplineTransformer.
    alpha : float, default=None
        Penalty of the lasso, on columns of deviation one; None is chosen by
        cross-validation.
    cv : int, "auto", splitter or iterable of (train, test), default=5
        Folds of the nuisances, as in `CrossFitter`.
    discrete_treatment : bool or "auto", default="auto"
        Whether there are two arms, as in `CrossFitter`.
    propensity_clip : float, default=0.01
        Propensities are moved into [propensity_clip, 1 - propensity_clip].
    scoring : {"r", "dr"}, default="r"
        What `score` is made of.
    random_state : int, RandomState instance or None, default=None
        Seeds folds and every unset `random_state` of the models.
    n_jobs : int, default=None
        Number of jobs over folds; it does not change the result.
    verbose : int, default=0
        Whether to show progress.

    Attributes
    ----------
    coef_ : ndarray of shape (n_terms,)
        Slopes of the effect, in units of the features.
    intercept_ : float
        Its intercept.
    baseline_coef_ : ndarray of shape (n_terms,)
        Slopes of the part without treatment.
    penalty_ : float
        Penalty used.
    nuisances_ : dict of ndarray of shape (n_samples,)
        Out-of-fold nuisances, by name.
    featurizer_ : transformer
        Fitted, if there is one.
    n_clipped_ : int
        Number of propensities that were clipped.
    classes_ : ndarray of shape (2,) or None
        Control label, treated label; None for a continuous treatment.
    n_features_in_ : int
        Number of covariates.
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Their names, when X has string column names.

    References
    ----------
    Nie, X., Wager, S. (2021). Quasi-oracle estimation of heterogeneous
    treatment effects. Biometrika, 108(2), 299-319.

    Examples
    --------
    >>> from causal import RSLearner, make_cate
    >>> study = make_cate(1000, setup="C", random_state=0)
    >>> learner = RSLearner(random_state=0).fit(study.X, study.y, treatment=study.treatment)
    >>> bool(abs(learner.predict(study.X).mean() - 1) < 0.3)
    True
    """

    __metadata_request__fit = {"treatment": True, "groups": True, "propensity": True}

    _parameter_constraints = {
        **{
            name: NUISANCE_CONSTRAINTS[name]
            for name in (
                "outcome_estimator",
                "treatment_estimator",
                "cv",
                "discrete_treatment",
                "propensity_clip",
                "random_state",
                "n_jobs",
                "verbose",
            )
        },
        "featurizer": [HasMethods(["fit", "transform"]), None],
        "alpha": [Interval(Real, 0, None, closed="neither"), None],
        "scoring": SCORING_CONSTRAINT,
    }

    def __init__(
        self,
        outcome_estimator: Any = None,
        treatment_estimator: Any = None,
        *,
        featurizer: Any = None,
        alpha: float | None = None,
        cv: Any = 5,
        discrete_treatment: bool | str = "auto",
        propensity_clip: float = 0.01,
        scoring: str = "r",
        random_state: int | np.random.RandomState | None = None,
        n_jobs: int | None = None,
        verbose: int = 0,
    ) -> None:
        self.outcome_estimator = outcome_estimator
        self.treatment_estimator = treatment_estimator
        self.featurizer = featurizer
        self.alpha = alpha
        self.cv = cv
        self.discrete_treatment = discrete_treatment
        self.propensity_clip = propensity_clip
        self.scoring = scoring
        self.random_state = random_state
        self.n_jobs = n_jobs
        self.verbose = verbose

    # The order of cross-fitting is not a choice here.
    cross_fitting = 2
    n_repeats = 1

    def _models(self) -> tuple[Any, ...]:
        return self.outcome_estimator, self.treatment_estimator, None

    def fit(
        self,
        X: Any,
        y: ArrayLike,
        *,
        treatment: ArrayLike | None = None,
        sample_weight: ArrayLike | None = None,
        groups: ArrayLike | None = None,
        propensity: ArrayLike | float | None = None,
    ) -> "RSLearner":
        """Cross-fit the nuisances and fit the lasso.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Covariates.
        y : array-like of shape (n_samples,) or (n_samples, 2), (n_samples, 4), (n_samples, 6)
            Outcome; or the target array. With its nuisances none is fitted here.
        treatment : array-like of shape (n_samples,), default=None
            Treatment, if it is not in `y`.
        sample_weight : array-like of shape (n_samples,), default=None
            Sampling weights.
        groups : array-like of shape (n_samples,), default=None
            Rows that stay in one fold.
        propensity : array-like of shape (n_samples,) or float, default=None
            Known propensity.

        Returns
        -------
        RSLearner

        Raises
        ------
        ValueError
            If the treatment is missing, has one value or is perfectly
            predicted, or a number is not finite.
        """
        self._validate_params()
        vars(self).pop("featurizer_", None)
        data = self._read(
            X, y, treatment, sample_weight=sample_weight, groups=groups, propensity=propensity
        )
        settings = nuisance_settings(self)
        if data.nuisances:
            fitted = given_nuisances(data)
        else:
            fitted = cross_fit_nuisances(data, ("m", "propensity"), settings)
        self.nuisances_, self.n_clipped_ = fitted.by_name, fitted.n_clipped
        try:
            residual = safe_residual(data.treatment, fitted.by_name["propensity"])
        except ValueError as error:
            raise ValueError(f"{settings.owner}: {error}") from error
        features = data.X
        if self.featurizer is not None:
            self.featurizer_ = clone(self.featurizer).fit(features)
            features = self.featurizer_.transform(features)
        self._fit_lasso(
            self._dense(features),
            data.y - fitted.by_name["m"],
            residual,
            data,
            settings.random_state,
        )
        self._training = data
        return self

    def _dense(self, X: Any) -> Array:
        matrix = dense_matrix(X)
        if matrix is None:
            raise ValueError(
                f"{type(self).__name__}: the lasso needs finite dense numbers, but X is sparse, "
                "has text or Input X contains NaN; pass a featurizer that encodes it"
            )
        return matrix

    def _fit_lasso(
        self, phi: Array, response: Array, residual: Array, data: EffectData, seed: int
    ) -> None:
        """Lasso with the first column free, by taking that column out of all others."""
        s = np.ones(len(phi)) if data.sample_weight is None else data.sample_weight
        center = np.average(phi, axis=0, weights=s)
        scale = np.sqrt(np.average((phi - center) ** 2, axis=0, weights=s))
        scale = np.where(scale > 0, scale, 1.0)
        Z = (phi - center) / scale
        columns = np.column_stack([residual[:, None] * Z, Z])
        free = np.column_stack([np.ones(len(phi)), residual])
        root = np.sqrt(s)[:, None]
        both = np.column_stack([response, columns])
        projection = np.linalg.lstsq(free * root, both * root, rcond=None)[0]
        rest = both - free @ projection
        if self.alpha is None:
            lasso = LassoCV(
                fit_intercept=False,
                max_iter=LASSO_ITERATIONS,
                random_state=seed,
                n_jobs=self.n_jobs,
            )
        else:
            lasso = Lasso(self.alpha, fit_intercept=False, max_iter=LASSO_ITERATIONS, tol=1e-8)
        # Rows without weight say nothing, and could fill a fold of the search for the penalty.
        seen = s > 0
        weight = None if data.sample_weight is None else s[seen]
        lasso.fit(rest[seen, 1:], rest[seen, 0], sample_weight=weight)
        self.penalty_ = float(getattr(lasso, "alpha_", self.alpha or 0.0))
        d = phi.shape[1]
        first = projection[1, 0] - projection[1, 1:] @ lasso.coef_
        self.coef_ = lasso.coef_[:d] / scale
        self.baseline_coef_ = lasso.coef_[d:] / scale
        self.intercept_ = float(first - center @ self.coef_)

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
        X = self._later_rows(X)
        if self.featurizer is not None:
            X = self.featurizer_.transform(X)
        return self._dense(X) @ self.coef_ + self.intercept_

"""One effect of a treatment, binary or continuous, from residuals on residuals."""

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import is_classifier
from sklearn.utils._param_validation import StrOptions

from causal.effects._double_ml import DoubleMachineLearning, refuse_two_propensities
from causal.effects._effect_data import EffectData
from causal.effects._nuisances import NuisanceSettings, cross_fit_nuisances
from causal.effects._scores import LinearScore, instrument_score, partialling_out_score
from causal.effects._settings import NUISANCE_CONSTRAINTS

# Smallest share of the variance of the treatment that covariates may leave.
PERFECT = 1e-12


class PartiallyLinearDML(DoubleMachineLearning):
    r"""Effect of a treatment that is the same for all rows, or its overlap-weighted mean.

    The partially linear model is :math:`Y = \theta T + g(X) + U`. With
    :math:`m(x) = E[Y | X = x]` and :math:`e(x) = E[T | X = x]`, cross-fitted,

    .. math:: \theta = \frac{\sum_i s_i (T_i - e_i)(Y_i - m_i)}{\sum_i s_i (T_i - e_i)^2},

    to which errors of m and e count only as products. The treatment may be
    binary or continuous. If its effect differs between rows, theta is the mean
    effect weighted by the variance of the treatment given the covariates.

    Parameters
    ----------
    outcome_estimator : estimator, default=None
        Regressor of the outcome on the covariates; or a classifier with
        `predict_proba` for an outcome of 0 and 1. None is ridge regression on
        standardised columns with a penalty chosen by generalised
        cross-validation.
    treatment_estimator : estimator, float or "known", default=None
        Classifier with `predict_proba` for two arms, regressor for a continuous
        treatment; a Weighter with `predict_propensity`; the propensity itself
        if it is the same for all; "known" if `fit` is given it. None is
        logistic regression with C=1 on standardised columns, or ridge
        regression as above.
    moment : {"partialling_out", "iv"}, default="partialling_out"
        The estimating equation: residuals on residuals as above, or the
        residual of the treatment as an instrument in
        :math:`\sum_i s_i (T_i - e_i)(Y_i - g_i - \theta T_i) = 0`, where g is
        the regression of :math:`Y - \theta_0 T` on the covariates and
        :math:`\theta_0` comes from the former.
    cv : int, "auto", splitter or iterable of (train, test), default=5
        Folds. An int stratifies by a binary treatment and keeps groups whole;
        "auto" is 10 below 1000 rows, 5 below 50,000, 3 below 500,000, else 2.
        Test parts must cover each row once.
    n_repeats : int, default=1
        Number of draws of the folds. The effect is the median over them, and
        the standard error counts their spread.
    discrete_treatment : bool or "auto", default="auto"
        Whether there are two arms. "auto" says so for 0/1, booleans and two
        words; other numbers are a continuous treatment.
    propensity_clip : float, default=0.01
        Propensities of two arms are moved into [propensity_clip,
        1 - propensity_clip].
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
        The estimate, per unit of the treatment.
    stderr_ : float
        Its standard error.
    repeat_effects_, repeat_stderrs_ : ndarray of shape (n_repeats,)
        Estimate and standard error from each draw of the folds.
    influence_function_ : ndarray of shape (n_samples,) or (n_repeats, n_samples)
        Influence of each row on the effect, on the scale of the effect: sums to
        zero, and the squares sum to the variance (without groups). Not set by
        `fit_chunks`, like all that has an entry for each row but `folds_`.
    nuisances_ : dict of ndarray of shape (n_repeats * n_samples,)
        Out-of-fold "m" and "propensity", one repeat after the other, and "g"
        if `moment` is "iv".
    nuisance_scores_ : dict
        Out-of-fold R2, or log loss and area under the ROC curve.
    folds_ : ndarray of int of shape (n_samples,) or (n_repeats, n_samples)
        Fold that tests each row, -1 if nuisances came with `y`.
    models_ : dict of list of estimators
        Fitted models by nuisance, over repeats and folds.
    n_clipped_ : int
        Number of propensities that were clipped.
    classes_ : ndarray of shape (2,) or None
        Control label, treated label (the larger one); None for a continuous
        treatment.
    n_features_in_ : int
        Number of covariates.
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Their names, when X has string column names.

    See Also
    --------
    InteractiveDML : Average effects of two arms, on all or on the treated.

    Notes
    -----
    With linear nuisances (scikit-learn's LinearRegression, Ridge and
    LogisticRegression, alone or behind a StandardScaler, and the defaults) the
    models of all folds come from one pass of sums over the rows; `fit_chunks`
    then serves rows that do not fit into memory. Standard errors are those of
    the influence function; with `groups`, folds keep groups whole and
    influences are summed within them.

    References
    ----------
    Robinson, P. M. (1988). Root-N-consistent semiparametric regression.
    Econometrica 56(4), 931-954.

    Chernozhukov, V. et al. (2018). Double/debiased machine learning for
    treatment and structural parameters. Econometrics Journal 21(1), C1-C68.

    Examples
    --------
    >>> import numpy as np
    >>> from causal import PartiallyLinearDML
    >>> rng = np.random.default_rng(0)
    >>> X = rng.normal(size=(1000, 3))
    >>> dose = X[:, 0] + rng.normal(size=1000)
    >>> y = 2.0 * dose + X @ [1.0, 1.0, 0.0] + rng.normal(size=1000)
    >>> effect = PartiallyLinearDML(random_state=0).fit(X, y, treatment=dose)
    >>> bool(abs(effect.effect_ - 2.0) < 2 * effect.stderr_)
    True
    """

    _parameter_constraints = {
        **{
            name: allowed
            for name, allowed in NUISANCE_CONSTRAINTS.items()
            if name not in ("cross_fitting", "outcome_model")
        },
        "moment": [StrOptions({"partialling_out", "iv"})],
    }

    def __init__(
        self,
        outcome_estimator: Any = None,
        treatment_estimator: Any = None,
        *,
        moment: str = "partialling_out",
        cv: Any = 5,
        n_repeats: int = 1,
        discrete_treatment: bool | str = "auto",
        propensity_clip: float = 0.01,
        random_state: int | np.random.RandomState | None = None,
        n_jobs: int | None = None,
        verbose: int = 0,
    ) -> None:
        self.outcome_estimator = outcome_estimator
        self.treatment_estimator = treatment_estimator
        self.moment = moment
        self.cv = cv
        self.n_repeats = n_repeats
        self.discrete_treatment = discrete_treatment
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
    ) -> "PartiallyLinearDML":
        """Fit the nuisances and the effect.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Covariates.
        y : array-like of shape (n_samples,) or (n_samples, 2), (n_samples, 4), (n_samples, 6)
            Outcome; or outcome and treatment, from `make_effect_target`; or
            with nuisances, from `CrossFitter`, which are then not fitted.
        treatment : array-like of shape (n_samples,), default=None
            Treatment, if it is not in `y`.
        sample_weight : array-like of shape (n_samples,), default=None
            Sampling weights.
        groups : array-like of shape (n_samples,), default=None
            Clusters: rows that stay in one fold and whose influences are summed
            before they are squared.
        propensity : array-like of shape (n_samples,) or float, default=None
            Known propensity, or known mean of a continuous treatment.

        Returns
        -------
        PartiallyLinearDML

        Raises
        ------
        ValueError
            If the treatment is missing, has one value, is predicted perfectly,
            or does not suit the estimators; a fold lacks an arm; folds are no
            partition or split groups; or a number is not finite.
        """
        self._check_moment()
        refuse_two_propensities(self, "InteractiveDML")
        self._fit(
            X,
            y,
            treatment,
            self.discrete_treatment,
            sample_weight=sample_weight,
            groups=groups,
            propensity=propensity,
        )
        return self

    def fit_chunks(self, chunks: Any, *, n_jobs: int | None = None) -> "PartiallyLinearDML":
        """Fit to rows that are read in chunks, several times, never all at once.

        The same estimate as `fit` on the same folds, with linear nuisances
        only. Folds are drawn chunk by chunk without regard to the treatment;
        with groups, a group goes to the fold that its label is hashed to.

        Parameters
        ----------
        chunks : sequence or callable
            A sequence whose items are tuples (X, y), (X, y, sample_weight) or
            (X, y, sample_weight, groups), with y of shape (n_rows, 2) from
            `make_effect_target`, or zero-argument callables that load one; or
            a callable that returns a fresh iterator of them. The chunks must
            be the same in every pass.
        n_jobs : int, default=None
            Number of jobs over the chunks of a sequence, through joblib; its
            dask backend spreads them over a cluster.

        Returns
        -------
        PartiallyLinearDML

        Raises
        ------
        ValueError
            If nuisances are not linear, or chunks disagree or have bad entries.
        """
        from causal.effects._chunked_partially_linear import fit_partially_linear_chunks

        self._check_moment()
        self._validate_params()
        return fit_partially_linear_chunks(self, chunks, n_jobs)

    def _check_moment(self) -> None:
        model = self.outcome_estimator
        if self.moment == "iv" and model is not None and is_classifier(model):
            raise ValueError(
                "PartiallyLinearDML: moment='iv' fits outcome_estimator to y - theta * treatment, "
                f"which is no class, but {type(model).__name__} is a classifier; "
                "pass a regressor, or moment='partialling_out'"
            )

    def _nuisance_names(self) -> tuple[str, ...]:
        return ("m", "propensity")

    def _effect_label(self) -> str:
        return "treatment"

    def _make_scores(
        self,
        data: EffectData,
        nuisances: list[dict[str, NDArray]],
        fold: NDArray[np.intp],
        settings: NuisanceSettings,
    ) -> list[LinearScore]:
        scores, added = [], []
        for values, code in zip(nuisances, fold, strict=True):
            m, e = values["m"], values["propensity"]
            score = partialling_out_score(data.y, data.treatment, m, e)
            check_residual_treatment(score.a, data)
            if self.moment == "iv":
                g = _outcome_without_effect(score, data, values, code, settings)
                score = instrument_score(data.y, data.treatment, g, e)
                added.append(g)
            scores.append(score)
        if added:
            self.nuisances_ = {**self.nuisances_, "g": np.concatenate(added)}
        return scores


def _outcome_without_effect(
    score: LinearScore,
    data: EffectData,
    values: dict[str, NDArray],
    fold: NDArray[np.intp],
    settings: NuisanceSettings,
) -> NDArray[np.float64]:
    """E[Y - theta0 T | X] in one draw of the folds, theta0 from partialling out."""
    s = 1.0 if data.sample_weight is None else data.sample_weight
    theta = (s * score.b).sum() / (s * score.a).sum()
    if fold[0] < 0:
        return values["m"] - theta * values["propensity"]
    rest = replace(data, y=data.y - theta * data.treatment)
    folds = settings.cv
    if not isinstance(folds, list):
        folds = [
            (np.flatnonzero(fold != k), np.flatnonzero(fold == k)) for k in range(fold.max() + 1)
        ]
    settings = replace(settings, cv=folds, n_repeats=1)
    return cross_fit_nuisances(rest, ("m",), settings).by_name["m"]


def check_residual_treatment(squares: NDArray[np.float64], data: EffectData) -> None:
    """Whether the covariates leave any of the treatment unexplained.

    Parameters
    ----------
    squares : ndarray of shape (n_samples,)
        Squared residuals of the treatment.
    data : EffectData
        Rows of the study.
    """
    s = data.sample_weight
    mean = np.average(data.treatment, weights=s)
    total = np.average((data.treatment - mean) ** 2, weights=s)
    if np.average(squares, weights=s) <= PERFECT * total:
        raise ValueError(
            "PartiallyLinearDML: the treatment is perfectly predicted by the covariates, so that "
            "no row tells what it does; drop the columns that the treatment is made from"
        )

"""Find the wrong numbers in a column by how badly a model of the other columns predicts them."""

from numbers import Integral, Real
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import clone
from sklearn.ensemble import HistGradientBoostingRegressor
from sklearn.utils import check_random_state, get_tags, indexable
from sklearn.utils._param_validation import HasMethods, Interval, StrOptions
from sklearn.utils.metaestimators import available_if
from sklearn.utils.validation import check_is_fitted

from reweight.base import Weighter
from reweight.noisy_labels._false_discovery import (
    NULLS,
    discoveries,
    local_null_probability,
    null_p_values,
)
from reweight.noisy_labels._folds import folds_of_rows
from reweight.noisy_labels._outcome_table import (
    OutcomeTable,
    check_table,
    residuals_of,
)
from reweight.noisy_labels._removal_search import search_removed_rows
from reweight.noisy_labels._residual_models import ResidualModels
from reweight.normalization import normalize_weights
from reweight.outcomes import check_outcomes
from reweight.validation import count_rows, take_rows, validate_rows
from reweight.weighted_fit import weight_key, weighted_fit

Array = NDArray[np.float64]

COMBINATIONS = {
    "quadrature": np.hypot,
    "add": np.add,
    "geometric": lambda aleatoric, epistemic: np.sqrt(aleatoric * epistemic),
}


def _refits(self) -> bool:
    return bool(self.refit)


class ResponseErrorDetector(Weighter):
    r"""Score how likely each recorded outcome is wrong, and count the wrong ones.

    Each row is predicted by models that have not seen it. Its score is the
    absolute residual over the size that residuals have around its features:

    .. math:: s_i = |y_i - \hat f(x_i)| / u(x_i).

    Models are fitted twice: the second time without the most suspicious rows of
    the first, so that errors do not bend the curve they are measured by. The
    size u(x) is a forest's out-of-bag prediction of \|residual\|, shrunk to a
    constant if the data speak for even noise. How many scores are too large for
    noise is decided by false discovery rate, against a law of the residuals with
    tails as heavy as they show.

    Use it for a numeric column with single wrong entries: sensors, data entry,
    ratings. It cannot see shifts that all rows share, errors in the features,
    or tell an error from a true value that is unusual given the features.
    Below about 50 rows the count means little.

    Parameters
    ----------
    estimator : estimator, default=None
        Regressor that predicts the outcome; None is
        `HistGradientBoostingRegressor`. Errors are found if it predicts well.
    scale_estimator : estimator, default=None
        Regressor of absolute residuals, fitted by the same folds. None is a
        random forest, fitted once: its out-of-bag predictions take the place
        of folds. It sees what the last step of a pipeline `estimator` sees.
    combine : {"quadrature", "add", "geometric"}, default="quadrature"
        How the scale of residuals and the spread of resampled models make up
        u(x): root of the sum of squares, sum, or geometric mean.
    shrinkage : float or "cv", default="cv"
        How far u(x) follows its model, on a logarithmic scale: 0 ranks by plain
        residuals, 1 trusts it; "cv" is the largest of 0, 0.25, 0.5, 0.75 and 1
        whose trimmed Laplace log likelihood out of bag is within 2 of the best.
    trim : float, default=0.1
        Share of rows, the most suspicious at first, that the second models do
        not learn from. 0 fits once.
    n_resamples : int, default=0
        Number of models fitted to subsamples, whose spread at rows they have
        not seen is added to u(x); at least 2, or 0 for none.
    subsample_size : float, default=0.8
        Share of rows in a subsample, drawn without replacement.
    cv : int, cross-validation generator or iterable of (train, test), default=5
        Folds, which must predict every row. A number shuffles the rows and
        keeps `groups` whole.
    n_errors : "fdr", "r2", int or float, default="fdr"
        How many rows are flagged: by false discovery rate; the share whose
        removal makes models predict all recorded outcomes best (the search of
        Zhou et al., which leaves many errors in); a number; or a
        share between 0 and 1.
    fdr : float, default=0.2
        Share of flagged rows that may be correct. Only for "fdr".
    null : {"mixture", "normal", "laplace", "conformal"}, default="mixture"
        Law of scaled residuals of correct rows. "mixture" is Student's law with
        tails that are estimated beside a component of errors. "normal" and
        "laplace" are scaled by quartiles. "conformal" compares with rows known
        to be correct, passed to `fit` as `is_clean`, and assumes nothing else.
    refit : bool, default=True
        Whether to fit `estimator_` to the rows not flagged.
    random_state : int, RandomState instance or None, default=0
        Seeds folds, the forest and subsamples. Randomness of `estimator` is
        its own.
    n_jobs : int, default=None
        Number of jobs, through joblib; it does not change the result.
    verbose : int, default=0
        Whether to show progress bars.

    Attributes
    ----------
    weights_ : ndarray of shape (n_samples,)
        Probability that the row is correct times `sample_weight`, mean one.
    ess_ : float
        Effective sample size of `weights_`.
    scores_ : ndarray of shape (n_samples,)
        Suspicion, larger is worse.
    veracity_ : ndarray of shape (n_samples,)
        exp(-scores_ / their median), in (0, 1].
    is_error_ : ndarray of bool of shape (n_samples,)
        Flagged rows.
    n_errors_ : int
        Their number.
    contamination_ : float
        Their share.
    p_values_ : ndarray of shape (n_samples,)
        Probability that a correct row scores as high.
    correct_probability_ : ndarray of shape (n_samples,)
        One minus the probability that the row is wrong: its local false
        discovery rate.
    null_share_ : float
        Estimated share of correct rows, whether the others can be told or not.
    predictions_ : ndarray of shape (n_samples,)
        Predictions by models that have not seen the row.
    residuals_ : ndarray of shape (n_samples,)
        y minus those.
    aleatoric_ : ndarray of shape (n_samples,)
        Expected absolute residual.
    epistemic_ : ndarray of shape (n_samples,)
        Spread of resampled models; zero without them.
    shrinkage_ : float
        The shrinkage in use.
    search_path_ : ndarray of shape (n_steps, 2) or None
        Removed share and R^2 of the search "r2".
    estimator_ : estimator
        Fitted to the rows that are not flagged, if `refit`.
    n_features_in_ : int
        Number of features.
    feature_names_in_ : ndarray of str of shape (n_features_in_,)
        Their names, if X has any.

    See Also
    --------
    ContrastiveFragmentSelector : For a large share of wrong labels.
    Reweighted : Fits any estimator with the weights found.

    Notes
    -----
    The default costs 12 fits: two times five folds of `estimator`, and two
    forests; `refit` adds one. A `scale_estimator` costs two times five.

    Where no row is wrong, the "mixture" flags hardly any row under normal,
    Laplace's or Student's noise of three or more degrees of freedom. It is
    misled by noise of other shapes: about 3 % of the rows are flagged if noise
    is exponential, and 5 % if it has two widths that no feature tells apart.

    References
    ----------
    Zhou, H., Mueller, J., Kumar, M., Wang, J.-L., Lei, J. (2023). Detecting
    errors in a numerical response via any regression model. arXiv:2305.16583.

    Storey, J. D. (2002). A direct approach to false discovery rates. Journal
    of the Royal Statistical Society B 64(3), 479-498.

    Strimmer, K. (2008). A unified approach to false discovery rate estimation.
    BMC Bioinformatics 9, 303.

    Examples
    --------
    >>> from reweight import ResponseErrorDetector, make_response_errors
    >>> from sklearn.linear_model import LinearRegression
    >>> data = make_response_errors(400, shift=3, random_state=0)
    >>> detector = ResponseErrorDetector(LinearRegression()).fit(data.X, data.y)
    >>> suspects = (-detector.scores_).argsort()[:40]
    >>> print(data.is_error[suspects].mean())
    1.0
    >>> detector.n_errors_, int((detector.is_error_ & data.is_error).sum())
    (43, 40)
    """

    _parameter_constraints = {
        "estimator": [HasMethods(["fit", "predict"]), None],
        "scale_estimator": [HasMethods(["fit", "predict"]), None],
        "combine": [StrOptions(set(COMBINATIONS))],
        "shrinkage": [Interval(Real, 0, 1, closed="both"), StrOptions({"cv"})],
        "trim": [Interval(Real, 0, 0.5, closed="left")],
        "n_resamples": [Interval(Integral, 0, None, closed="left")],
        "subsample_size": [Interval(Real, 0, 1, closed="neither")],
        "cv": ["cv_object"],
        "n_errors": [
            StrOptions({"fdr", "r2"}),
            Interval(Integral, 0, None, closed="left"),
            Interval(Real, 0, 1, closed="neither"),
        ],
        "fdr": [Interval(Real, 0, 1, closed="neither")],
        "null": [StrOptions({*NULLS, "conformal"})],
        "refit": ["boolean"],
        "random_state": ["random_state"],
        "n_jobs": [Integral, None],
        "verbose": ["verbose"],
    }

    def __init__(
        self,
        estimator: Any = None,
        *,
        scale_estimator: Any = None,
        combine: str = "quadrature",
        shrinkage: float | str = "cv",
        trim: float = 0.1,
        n_resamples: int = 0,
        subsample_size: float = 0.8,
        cv: Any = 5,
        n_errors: str | int | float = "fdr",
        fdr: float = 0.2,
        null: str = "mixture",
        refit: bool = True,
        random_state: Any = 0,
        n_jobs: int | None = None,
        verbose: int = 0,
    ) -> None:
        self.estimator = estimator
        self.scale_estimator = scale_estimator
        self.combine = combine
        self.shrinkage = shrinkage
        self.trim = trim
        self.n_resamples = n_resamples
        self.subsample_size = subsample_size
        self.cv = cv
        self.n_errors = n_errors
        self.fdr = fdr
        self.null = null
        self.refit = refit
        self.random_state = random_state
        self.n_jobs = n_jobs
        self.verbose = verbose

    def fit(
        self,
        X: Any,
        y: ArrayLike,
        *,
        sample_weight: ArrayLike | None = None,
        groups: ArrayLike | None = None,
        is_clean: ArrayLike | None = None,
    ) -> "ResponseErrorDetector":
        """Score the recorded outcomes and flag those that look wrong.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Features, in whatever container `estimator` takes.
        y : array-like of shape (n_samples,)
            Outcomes as recorded.
        sample_weight : array-like of shape (n_samples,), default=None
            Sampling weights. Rows of weight zero are scored like new rows.
        groups : array-like of shape (n_samples,), default=None
            Rows, such as repeated measurements, that share a fold.
        is_clean : array-like of bool of shape (n_samples,), default=None
            Rows known to be correct, which are never flagged; the "conformal"
            null compares with them, and the others ignore them.

        Returns
        -------
        ResponseErrorDetector
            The fitted detector.

        Raises
        ------
        ValueError
            If outcomes are missing or all equal, rows are too few for the
            folds, folds leave rows out, or parameters do not go together.
        """
        self._validate_params()
        self._check_parameters()
        y = check_outcomes(self._name, y)
        X = validate_rows(self, X)
        (X,) = indexable(X)
        if sample_weight is not None:
            weight_key(self._regressor, owner=self._name)
        table, rows, s = check_table(
            self._name, self._regressor, X, y, sample_weight, groups, is_clean, self.cv
        )
        if self.null == "conformal" and not table.is_clean.any():
            raise ValueError(
                f"{self._name}: null='conformal' compares with rows known to be correct, and "
                "is_clean marks none; pass is_clean to fit, or another null"
            )
        seeds = check_random_state(self.random_state).randint(np.iinfo(np.int32).max, size=3)
        folds = folds_of_rows(self._name, self.cv, X, table, groups, rows, int(seeds[0]))
        self._models = ResidualModels(
            self._regressor,
            self.scale_estimator,
            self.shrinkage,
            seed=int(seeds[1]),
            n_jobs=self.n_jobs,
            verbose=self.verbose,
        )
        suspects = self._models.fit_twice(table, folds, self.trim)
        self.search_path_ = removed = None
        if self.n_errors == "r2":
            removed, self.search_path_ = search_removed_rows(
                self._models.cross_fit, table, folds, self._models.scores(table)
            )
            suspects = removed
            self._models.fit(table, folds, removed)
        if self.n_resamples:
            size = float(self.subsample_size)
            self._models.fit_spread(table, suspects, self.n_resamples, size, int(seeds[2]))
        self._score(table, X, y, rows, s)
        self._count(rows, s, table, removed)
        if self.refit:
            kept = np.flatnonzero(~self.is_error_[rows])
            self.estimator_ = self._fit_on(table, kept)
        return self

    def _check_parameters(self) -> None:
        if self.n_resamples == 1:
            raise ValueError(
                f"{self._name}: n_resamples=1 has no spread; pass 0 or at least 2, such as 5"
            )
        if self.combine == "geometric" and self.n_resamples == 0:
            raise ValueError(
                f"{self._name}: combine='geometric' multiplies by the spread of resampled models, "
                "and n_resamples=0 fits none; pass n_resamples=5, or combine='quadrature'"
            )

    def _score(self, table: OutcomeTable, X: Any, y: Array, rows: NDArray, s: Array) -> None:
        """Fill in what there is of each row; rows of weight zero are scored as new rows."""
        parts = np.empty((3, len(s)))
        parts[:, rows] = self._models.parts()
        outside = np.flatnonzero(s == 0)
        if len(outside):
            X_outside = take_rows(self._regressor, X, None, outside)[0]
            parts[:, outside] = self._models.predict_parts(X_outside)
        self.predictions_, self.aleatoric_, self.epistemic_ = parts
        self.residuals_ = residuals_of(y, self.predictions_)
        self.shrinkage_ = self._models.scale.shrinkage
        self._uncertainty = self._combined(self.aleatoric_, self.epistemic_)
        self.scores_ = np.abs(self.residuals_) / self._uncertainty
        typical = float(np.median(self.scores_[rows])) or 1.0
        self.veracity_ = np.exp(-self.scores_ / typical)

    def _combined(self, aleatoric: Array, epistemic: Array) -> Array:
        return COMBINATIONS[self.combine](aleatoric, epistemic)

    def _count(
        self, rows: NDArray, s: Array, table: OutcomeTable, removed: NDArray[np.bool_] | None
    ) -> None:
        """p-values, flags and weights."""
        judged, clean = rows[~table.is_clean], rows[table.is_clean]
        z = self.residuals_ / self._uncertainty
        self.p_values_, self.null_share_ = null_p_values(self.null, z, s, rows, clean)
        self.is_error_ = np.zeros(len(s), dtype=bool)
        self.correct_probability_ = np.ones(len(s))
        if len(judged):
            p = self.p_values_[judged]
            if self.n_errors == "fdr":
                flagged = judged[discoveries(p, self.null_share_, self.fdr, s[judged])]
            elif removed is not None:
                flagged = rows[removed]
            else:
                flagged = judged[self._highest(self.scores_[judged], len(rows))]
            self.is_error_[flagged] = True
            self.correct_probability_[judged] = local_null_probability(
                p, self.null_share_, s[judged]
            )
        self.n_errors_ = int(self.is_error_.sum())
        self.contamination_ = self.n_errors_ / len(rows)
        self._set_weights(normalize_weights(self.correct_probability_, sample_weight=s))

    def _highest(self, scores: Array, n_rows: int) -> NDArray[np.intp]:
        """As many of the highest scores as were asked for."""
        wanted = self.n_errors
        if not isinstance(wanted, Integral):
            wanted = round(wanted * n_rows)
        if wanted > len(scores):
            raise ValueError(
                f"{self._name}: n_errors={self.n_errors} rows cannot be flagged among "
                f"{len(scores)}; pass a smaller number"
            )
        return np.argsort(-scores, kind="stable")[: int(wanted)]

    def _fit_on(self, table: OutcomeTable, kept: NDArray[np.intp]) -> Any:
        X, y = take_rows(self._regressor, table.X, table.y, kept)
        weights = None if table.weights is None else table.weights[kept]
        return weighted_fit(clone(self._regressor), X, y, weights, owner=self._name)

    @available_if(_refits)
    def predict(self, X: Any) -> Array:
        """Predictions of the model fitted without the flagged rows.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Features.

        Returns
        -------
        ndarray of shape (n_samples,)
        """
        check_is_fitted(self, "estimator_")
        return self.estimator_.predict(X)

    def score_outcomes(self, X: Any, y: ArrayLike) -> Array:
        """Suspicion of the outcomes of new rows, on the scale of `scores_`.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Features.
        y : array-like of shape (n_samples,)
            Outcomes as recorded.

        Returns
        -------
        ndarray of shape (n_samples,)
            Larger is worse.
        """
        check_is_fitted(self, "scores_")
        X = validate_rows(self, X, reset=False)
        y = check_outcomes(self._name, y)
        if len(y) != count_rows(X):
            raise ValueError(
                f"{self._name}: X has {count_rows(X)} rows and y {len(y)}; pass one outcome a row"
            )
        prediction, aleatoric, epistemic = self._models.predict_parts(X)
        return np.abs(y - prediction) / self._combined(aleatoric, epistemic)

    @property
    def _regressor(self) -> Any:
        return HistGradientBoostingRegressor() if self.estimator is None else self.estimator

    @property
    def _name(self) -> str:
        return type(self).__name__

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        inner = get_tags(self._regressor)
        tags.input_tags = inner.input_tags
        tags.target_tags.required = True
        tags.non_deterministic = inner.non_deterministic
        return tags

"""Quantile models stacked: out-of-fold predictions, combined, put in order and calibrated."""

from numbers import Integral, Real
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import TransformerMixin, clone
from sklearn.utils import check_random_state, indexable
from sklearn.utils._param_validation import HasMethods, Interval, StrOptions
from sklearn.utils.validation import check_is_fitted

from reweight.metrics._quantile_checks import check_quantiles
from reweight.metrics.quantile import weighted_interval_score
from reweight.outcomes import check_outcomes
from reweight.quantiles._crossed_models import CrossedModels, cross_models, make_folds
from reweight.quantiles._named_models import NamedModels
from reweight.quantiles._stack_parts import (
    check_aggregator,
    check_folds,
    check_names,
    make_calibrator,
    make_leaderboard,
    make_models,
    set_aside,
    stack_predictions,
    take_all,
)
from reweight.quantiles.adapters import QuantileModel
from reweight.quantiles.aggregator import GRANULARITIES, ORDERS, QuantileAggregator
from reweight.quantiles.conformal import find_pair
from reweight.quantiles.local_aggregator import LocalQuantileAggregator
from reweight.validation import check_sample_weight, count_rows, take_rows, validate_rows


class QuantileStackingRegressor(TransformerMixin, NamedModels):
    r"""One quantile forecast from base models that are fitted here.

    Each base model predicts every fold of the rows after a fit to the others.
    An aggregator learns from these out-of-fold quantiles how to combine the
    models, which are then fitted to all rows. Predicted quantiles are in order,
    and on request calibrated, so that intervals cover as often as they say for
    rows exchangeable with those of `fit`, whatever the models are worth.

    Parameters
    ----------
    estimators : list of (str, estimator)
        Base models and their names; "drop" in place of one leaves it out. What
        can give quantiles: a model whose `predict` takes `quantiles`, as those
        of quantile-forest do; one with a parameter `quantiles`; one with a
        parameter for the level and the pinball loss, as in `QuantileRegressor`,
        `HistGradientBoostingRegressor(loss="quantile")` or
        `LGBMRegressor(objective="quantile")`, which is fitted for each level;
        one whose `predict` returns a column for each level; and
        `GaussianQuantileAdapter` around models with a standard deviation.
        Pipelines and meta-estimators around these do as well.
    quantiles : array-like of shape (n_quantiles,)
        Levels, strictly increasing in (0, 1).
    granularity : {"coarse", "medium", "fine", "average", "median"}, default="medium"
        What weights depend on, see `QuantileAggregator`.
    cv : int, cross-validation generator or iterable, default=5
        Folds. An int keeps `groups` whole and shuffles rows if there is a
        `random_state`. Rows that no fold predicts are left out of the weights.
    aggregator : estimator, default=None
        `QuantileAggregator`, `LocalQuantileAggregator`, or another with
        `fit(Q, y)` and `predict(Q)` for stacked quantiles; its own parameters
        then stand in place of `granularity` and `postprocess`.
    passthrough_local : bool, default=False
        Whether weights depend on X, which is handed to the aggregator as
        `gate_features`; without `aggregator` it is a `LocalQuantileAggregator`.
    calibrate : {"split", "cv+"} or None, default=None
        Conformal calibration. "split" sets rows aside, which nothing is fitted
        on. "cv+" uses all rows: intervals of :math:`1 - \alpha` are sure to
        cover with probability :math:`1 - 2\alpha - \sqrt{2/n}` at least, and do so
        with about :math:`1 - \alpha` as a rule. Its fold aggregates have seen nothing
        of their fold, for which each base model is fitted without every pair of
        folds. Central intervals are calibrated if each level has its partner,
        single levels otherwise.
    calibration_size : float or int, default=0.25
        Share or number of rows that "split" sets aside: at random and by whole
        `groups`, or the last ones with a `TimeSeriesSplit`.
    postprocess : {"sort", "isotonic", "sweep"} or None, default="sort"
        What puts combined quantiles in order.
    refit : bool, default=True
        Whether base models are fitted to all rows in the end. Otherwise the
        quantiles of a model are averages over its fold models.
    n_jobs : int, default=None
        Jobs over fits of base models, through joblib; it does not change the
        result.
    random_state : int, RandomState instance or None, default=None
        Shuffles rows, chooses those set aside, and seeds base models whose own
        random_state is None.
    verbose : int, default=0
        Whether to show a progress bar over fits.

    Attributes
    ----------
    estimators_ : list of estimators or None
        For each base model what was fitted to all rows: an object with
        `predict`, whose own `estimators_` are the models; None without `refit`.
    named_estimators_ : dict
        The same by name.
    fold_estimators_ : list of list of estimators or None
        The models of each fold, where prediction needs them.
    aggregator_ : estimator
        What combines the models, fitted on `oof_predictions_`.
    fold_aggregators_ : list of estimators or None
        With "cv+", the aggregate of each fold.
    calibrator_ : ConformalQuantileCalibrator or None
        What moves the combined quantiles.
    oof_predictions_ : ndarray of shape (n_training, n_models, n_quantiles)
        Out-of-fold quantiles; NaN for rows that no fold predicts.
    training_rows_ : ndarray of shape (n_training,)
        Rows of `fit` that they belong to: all but those set aside.
    leaderboard_ : DataFrame
        Out-of-fold scores of each base model, of their average, their median
        and the aggregate: `weighted_interval_score`, `calibration_error` (mean
        absolute difference of shares from levels), `crossing_rate` (share of
        rows whose quantiles cross) and `fit_seconds` (all fits of the model).
        Weights that score the aggregate come from other folds.
    quantiles_ : ndarray of shape (n_quantiles,)
        Levels.
    n_features_in_ : int
        Number of features.
    feature_names_in_ : ndarray of str of shape (n_features_in_,)
        Their names, if X has any.

    See Also
    --------
    QuantileAggregator : Combines quantiles that are there already.
    ConformalQuantileCalibrator : Calibrates those of one model.

    Notes
    -----
    With K folds "cv+" fits each base model K(K - 1)/2 + K + 1 times. Neither
    scheme promises coverage for a time series that drifts.

    References
    ----------
    Fakoor, R., Kim, T., Mueller, J., Smola, A. J., Tibshirani, R. J. (2023).
    Flexible model aggregation for quantile regression. JMLR, 24.

    Barber, R. F., Candes, E. J., Ramdas, A., Tibshirani, R. J. (2021).
    Predictive inference with the jackknife+. Annals of Statistics, 49(1).

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.linear_model import BayesianRidge, QuantileRegressor
    >>> from reweight import GaussianQuantileAdapter, QuantileStackingRegressor
    >>> rng = np.random.default_rng(0)
    >>> X = rng.uniform(1, 3, size=(400, 1))
    >>> y = X[:, 0] * (1 + 0.3 * rng.normal(size=400))
    >>> models = [
    ...     ("linear", QuantileRegressor(alpha=0)),
    ...     ("normal", GaussianQuantileAdapter(BayesianRidge())),
    ... ]
    >>> stack = QuantileStackingRegressor(models, [0.1, 0.5, 0.9], calibrate="cv+").fit(X, y)
    >>> stack.predict([[2.0]]).round(1)
    array([[1.2, 2. , 2.8]])
    >>> stack.leaderboard_.index.tolist()
    ['linear', 'normal', 'average', 'median', 'aggregate']
    """

    __metadata_request__fit = {"groups": True}

    _parameter_constraints = {
        "estimators": [list, tuple],
        "quantiles": ["array-like"],
        "granularity": [StrOptions(set(GRANULARITIES))],
        "cv": ["cv_object"],
        "aggregator": [HasMethods(["fit", "predict"]), None],
        "passthrough_local": ["boolean"],
        "calibrate": [StrOptions({"split", "cv+"}), None],
        "calibration_size": [
            Interval(Real, 0, 1, closed="neither"),
            Interval(Integral, 1, None, closed="left"),
        ],
        "postprocess": [StrOptions(set(ORDERS)), None],
        "refit": ["boolean"],
        "n_jobs": [Integral, None],
        "random_state": ["random_state"],
        "verbose": ["verbose"],
    }

    def __init__(
        self,
        estimators: list[tuple[str, Any]],
        quantiles: ArrayLike,
        *,
        granularity: str = "medium",
        cv: Any = 5,
        aggregator: Any = None,
        passthrough_local: bool = False,
        calibrate: str | None = None,
        calibration_size: float = 0.25,
        postprocess: str | None = "sort",
        refit: bool = True,
        n_jobs: int | None = None,
        random_state: Any = None,
        verbose: int = 0,
    ) -> None:
        self.estimators = estimators
        self.quantiles = quantiles
        self.granularity = granularity
        self.cv = cv
        self.aggregator = aggregator
        self.passthrough_local = passthrough_local
        self.calibrate = calibrate
        self.calibration_size = calibration_size
        self.postprocess = postprocess
        self.refit = refit
        self.n_jobs = n_jobs
        self.random_state = random_state
        self.verbose = verbose

    def fit(
        self,
        X: Any,
        y: ArrayLike,
        sample_weight: ArrayLike | None = None,
        groups: ArrayLike | None = None,
    ) -> Self:
        """Fit base models, aggregator and calibrator.

        Parameters
        ----------
        X : array-like, sparse matrix or data frame of shape (n_samples, n_features)
            Features, which base models get as they are.
        y : array-like of shape (n_samples,)
            Outcomes.
        sample_weight : array-like of shape (n_samples,), default=None
            Row weights, for models, weights and calibration; not with "cv+".
        groups : array-like of shape (n_samples,), default=None
            Rows that folds keep together.

        Returns
        -------
        QuantileStackingRegressor
            The fitted stack itself.

        Raises
        ------
        ValueError
            If a base model gives no quantiles, or parameters do not go
            together.

        Warns
        -----
        UserWarning
            If folds leave rows without prediction, or there are too few rows
            to calibrate outer levels.
        """
        self._validate_params()
        levels = check_quantiles(self.quantiles, self._name)
        rng = check_random_state(self.random_state)
        seeds = rng.randint(np.iinfo(np.int32).max, size=3 + len(self.estimators))
        seeds = [None if self.random_state is None else int(seed) for seed in seeds]
        models = self._make_models(levels, sample_weight, seeds[3:])
        aggregator = self._make_aggregator(levels, len(models))
        X = validate_rows(self, X)
        y = check_outcomes(self._name, y)
        X, y, groups = indexable(X, y, groups)
        s = None if sample_weight is None else check_sample_weight(sample_weight, X)
        if self.calibrate == "cv+" and s is not None:
            raise ValueError(
                f"{self._name}: sample_weight was passed, but calibrate='cv+' has no weighted "
                "form; pass calibrate='split'"
            )
        self.quantiles_ = levels
        if self.calibrate == "split":
            rows, aside = set_aside(
                self._name, X, y, groups, self.cv, self.calibration_size, int(seeds[0] or 0)
            )
        else:
            rows, aside = np.arange(len(y)), np.arange(0)
        n_samples = len(y)
        whole = (X, y, s)
        X, y, s, groups = take_all(self, X, y, s, groups, rows)
        folds = make_folds(X, y, self.cv, groups, seeds[1], rows, n_samples)
        check_folds(self._name, folds, len(y), partition=self.calibrate == "cv+")
        crossed = cross_models(
            models,
            X,
            y,
            s,
            folds,
            n_quantiles=len(levels),
            refit=self.refit,
            nested=self.calibrate == "cv+",
            keep=self.calibrate == "cv+" or not self.refit,
            owner=self._name,
            n_jobs=self.n_jobs,
            verbose=self.verbose,
        )
        self._store_models(crossed, rows)
        self._fit_aggregators(aggregator, crossed, X, y, s)
        self._fit_calibrator(crossed, y, whole, aside)
        return self

    def predict(self, X: Any) -> NDArray[np.float64]:
        """Combined, ordered and calibrated quantiles.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Features.

        Returns
        -------
        ndarray of shape (n_samples, n_quantiles)
        """
        check_is_fitted(self)
        if self.fold_aggregators_ is not None:
            by_fold = [
                self._aggregate(aggregator, stack_predictions(models, X), X)
                for aggregator, models in zip(
                    self.fold_aggregators_, self.fold_estimators_, strict=True
                )
            ]
            return self.calibrator_.predict(np.stack(by_fold))
        combined = self._aggregate(self.aggregator_, self._stacked(X), X)
        return combined if self.calibrator_ is None else self.calibrator_.predict(combined)

    def predict_interval(self, X: Any, confidence_level: float = 0.9) -> NDArray[np.float64]:
        """Central interval of each row.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Features.
        confidence_level : float, default=0.9
            Nominal coverage; two quantiles must have this distance and add up
            to one.

        Returns
        -------
        ndarray of shape (n_samples, 2)
            Lower and upper ends.
        """
        check_is_fitted(self)
        low, high = find_pair(self.quantiles_, confidence_level, self._name)
        return self.predict(X)[:, [low, high]]

    def transform(self, X: Any) -> NDArray[np.float64]:
        """Quantiles of the base models.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Features.

        Returns
        -------
        ndarray of shape (n_samples, n_models * n_quantiles)
            Model by model, as `QuantileAggregator` takes them.
        """
        check_is_fitted(self)
        return self._stacked(X).reshape(count_rows(X), -1)

    def get_feature_names_out(self, input_features: Any = None) -> NDArray[np.object_]:
        """Names of the columns that `transform` returns.

        Parameters
        ----------
        input_features : array-like of str, default=None
            Not used.

        Returns
        -------
        ndarray of str of shape (n_models * n_quantiles,)
        """
        check_is_fitted(self)
        names = [f"{name}_q{level:g}" for name in self._names for level in self.quantiles_]
        return np.asarray(names, dtype=object)

    def score(self, X: Any, y: ArrayLike, sample_weight: ArrayLike | None = None) -> float:
        """Minus the weighted interval score of the predicted quantiles.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Features.
        y : array-like of shape (n_samples,)
            Outcomes.
        sample_weight : array-like of shape (n_samples,), default=None
            Row weights on any scale.

        Returns
        -------
        float
            Minus twice the mean pinball loss over rows and levels; larger is
            better.
        """
        predicted = self.predict(X)
        return -weighted_interval_score(y, predicted, self.quantiles_, sample_weight=sample_weight)

    def _make_models(
        self, levels: NDArray, sample_weight: Any, seeds: list[int | None]
    ) -> list[QuantileModel]:
        """Base models that all are asked in one way."""
        pairs = self._pairs()
        taken = set(super().get_params(deep=False))
        check_names(self._name, self.estimators, [name for name, _ in pairs], taken)
        models = make_models(self._name, pairs, levels, sample_weight is not None, seeds)
        self._names = [model.name for model in models]
        return models

    def _make_aggregator(self, levels: NDArray, n_models: int) -> Any:
        """The aggregator, not fitted."""
        given = self.aggregator
        if given is None:
            cls = LocalQuantileAggregator if self.passthrough_local else QuantileAggregator
            return cls(
                levels,
                n_models=n_models,
                granularity=self.granularity,
                postprocess=self.postprocess,
                n_jobs=self.n_jobs,
            )
        check_aggregator(self._name, given, levels, local=self.passthrough_local)
        return clone(given)

    def _store_models(self, crossed: CrossedModels, rows: NDArray) -> None:
        self.estimators_ = crossed.models
        self.named_estimators_ = dict(zip(self._names, crossed.models or [], strict=False))
        needed = self.calibrate == "cv+" or not self.refit
        self.fold_estimators_ = crossed.fold_models if needed else None
        self.oof_predictions_ = crossed.predictions
        self.training_rows_ = rows

    def _fit_aggregators(
        self, aggregator: Any, crossed: CrossedModels, X: Any, y: NDArray, s: NDArray | None
    ) -> None:
        """The aggregate of all rows, and those of the folds."""
        known = np.flatnonzero(np.isfinite(crossed.predictions[:, 0, 0]))
        fitted = self._fit_aggregator(aggregator, crossed.predictions[known], X, y, s, known)
        self.aggregator_ = fitted
        total, counts = np.zeros((len(y), len(self.quantiles_))), np.zeros(len(y))
        by_fold = []
        for f, (_, test) in enumerate(crossed.folds):
            rows, Q = crossed.training_part(f)
            if not len(rows) or (s is not None and not s[rows].any()):
                continue
            by_fold.append(self._fit_aggregator(aggregator, Q, X, y, s, rows))
            X_test, _ = take_rows(self, X, None, test)
            q = self._aggregate(by_fold[-1], crossed.fold_predictions[f], X_test)
            np.add.at(total, test, q)
            np.add.at(counts, test, 1)
        self.fold_aggregators_ = by_fold if self.calibrate == "cv+" else None
        with np.errstate(invalid="ignore"):
            self._oof_aggregate = total / np.where(counts > 0, counts, np.nan)[:, None]
        forecasts = {name: crossed.predictions[:, j] for j, name in enumerate(self._names)}
        self.leaderboard_ = make_leaderboard(
            forecasts, self._oof_aggregate, crossed.seconds, y, self.quantiles_, s
        )

    def _fit_aggregator(
        self, aggregator: Any, Q: NDArray, X: Any, y: NDArray, s: NDArray | None, rows: NDArray
    ) -> Any:
        params: dict[str, Any] = {} if s is None else {"sample_weight": s[rows]}
        if self.passthrough_local:
            params["gate_features"] = take_rows(self, X, None, rows)[0]
        return clone(aggregator).fit(Q, y[rows], **params)

    def _aggregate(self, aggregator: Any, Q: NDArray, X: Any) -> NDArray[np.float64]:
        if self.passthrough_local:
            return aggregator.predict(Q, gate_features=X)
        return aggregator.predict(Q)

    def _fit_calibrator(
        self, crossed: CrossedModels, y: NDArray, whole: tuple, aside: NDArray
    ) -> None:
        self.calibrator_ = None
        if self.calibrate is None:
            return
        calibrator = make_calibrator(self.quantiles_, sweep=self.postprocess is not None)
        if self.calibrate == "cv+":
            folds = np.empty(len(y), dtype=np.intp)
            for f, (_, test) in enumerate(crossed.folds):
                folds[test] = f
            self.calibrator_ = calibrator.fit(self._oof_aggregate, y, folds=folds)
            return
        X, y_all, s = whole
        X_aside, _ = take_rows(self, X, None, aside)
        q = self._aggregate(self.aggregator_, self._stacked(X_aside), X_aside)
        weights = None if s is None else s[aside]
        self.calibrator_ = calibrator.fit(q, y_all[aside], sample_weight=weights)

    def _stacked(self, X: Any) -> NDArray[np.float64]:
        """Quantiles of the base models, (n, p, m)."""
        if self.estimators_ is not None:
            return stack_predictions(self.estimators_, X)
        return np.mean([stack_predictions(models, X) for models in self.fold_estimators_], axis=0)

    @property
    def _name(self) -> str:
        return type(self).__name__

"""One quantile forecast from those of several models, by weights that depend on features."""

from numbers import Integral, Real
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, clone
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import check_cv
from sklearn.preprocessing import StandardScaler
from sklearn.utils import Tags
from sklearn.utils._param_validation import HasMethods, Interval, StrOptions
from sklearn.utils.validation import check_is_fitted

from reweight.metrics._quantile_checks import check_quantiles
from reweight.metrics.quantile import pinball_loss, weighted_interval_score
from reweight.parallel import parallel_map
from reweight.quantiles._gate_features import (
    check_rows,
    features_of_quantiles,
    numeric_features,
)
from reweight.quantiles._linear_gate import (
    GateProblem,
    best_gate,
    gate_inputs,
    gate_problems,
    gate_weights,
    lay_out,
    path_losses,
    smoothing_path,
)
from reweight.quantiles._stacked import (
    nonfinite_message,
    nonfinite_rows,
    read_stacked,
    read_training_rows,
)
from reweight.quantiles.aggregator import ORDERS, QuantileAggregator
from reweight.validation import warn_user

# Ridges tried by alpha="cv", in units of the mean absolute residual over the number of rows.
ALPHA_GRID = (np.inf, *np.logspace(3, -4, 8))
# Numbers of a block of rows when weights are applied.
BLOCK = 4_000_000


class LocalQuantileAggregator(BaseEstimator):
    r"""Weights over models that depend on features, by a softmax of a linear function.

    The combined quantiles are those of `QuantileAggregator` with weights
    :math:`w(x) = \mathrm{softmax}(b + B \varphi(x))` over what is averaged, with a gate
    (b, B) for all levels ("coarse") or for each ("medium", "fine"), where
    :math:`\varphi` are standardised features. Each gate minimises

    .. math:: \frac{1}{K \sum_i c_i} \sum_{ik} c_i \psi_{\tau_k}(y_i - \hat g_{ik})
              + \frac{\alpha}{2} \|B\|^2

    over its K levels, started from the optimal constant weights and with the
    kink of the loss rounded off, ever less. This is no convex program, and a
    gate that ends above the constant weights is replaced by them: on the rows
    of `fit` weights that depend on x are never worse.

    It pays where models are right in different places. Fit out of fold.

    Parameters
    ----------
    quantiles : array-like of shape (n_quantiles,)
        Levels, strictly increasing in (0, 1).
    n_models : int, default=None
        Number of models; None takes it from the shape of Q.
    featurizer : transformer, default=None
        What is done to `gate_features` before they are standardised, such as
        `SplineTransformer`, `Nystroem` or a `ColumnTransformer`.
    granularity : {"coarse", "medium", "fine"}, default="medium"
        What weights are for, see `QuantileAggregator`.
    smoothing : float, default=1e-3
        Half-width of the rounded kink in the end, in standard deviations of y.
    alpha : float or "cv", default="cv"
        Ridge on the coefficients, in the units of y; infinity is constant
        weights. "cv" tries infinity and 1e-4 to 1000 times the mean absolute
        residual over the number of rows, on folds.
    postprocess : {"sort", "isotonic", "sweep"} or None, default="sort"
        What puts predicted quantiles in order.
    cv : int, cross-validation generator or iterable, default=5
        Folds of `alpha="cv"`; an int makes contiguous folds.
    on_nonfinite : {"raise", "warn", "ignore"}, default="raise"
        Whether training rows with NaN or infinite quantiles or outcomes are an
        error, left out with a warning, or left out.
    tol : float, default=1e-8
        Relative decrease of the loss at which iterations stop.
    max_iter : int, default=500
        Largest number of iterations at one smoothing.
    n_jobs : int, default=None
        Jobs over gates and folds, through joblib; it does not change the
        result.
    verbose : int, default=0
        Whether to show a progress bar.

    Attributes
    ----------
    coef_ : ndarray of shape (n_gates, n_gate_features, n_inputs)
        Coefficients of standardised features, for each input of the averages:
        models, or all quantiles of all models if "fine".
    intercept_ : ndarray of shape (n_gates, n_inputs)
        Intercepts.
    model_weights_ : ndarray
        Mean weights over the rows of `fit`, laid out as those of
        `QuantileAggregator`.
    global_aggregator_ : QuantileAggregator
        Optimal constant weights, of which gates started.
    alpha_ : float
        Ridge that was used.
    alpha_losses_ : dict or None
        Held-out loss of each ridge tried.
    objective_ : float
        Mean pinball loss on the rows of `fit`, before any reordering.
    n_iter_ : int
        Largest number of iterations of a gate.
    featurizer_ : transformer or None
        The fitted featurizer.
    scaler_ : StandardScaler
        What standardised its features.
    base_crossing_rate_ : float
        Share of rows and models whose own quantiles cross.
    quantiles_ : ndarray of shape (n_quantiles,)
        Levels.
    n_models_ : int
        Number of models.
    n_features_in_ : int
        Number of columns of flat Q.
    feature_names_in_ : ndarray of str of shape (n_features_in_,)
        Their names, if Q is a data frame.

    See Also
    --------
    QuantileAggregator : Constant weights, optimal with a certificate.
    QuantileStackingRegressor : Fits the models too.

    References
    ----------
    Fakoor, R., Kim, T., Mueller, J., Smola, A. J., Tibshirani, R. J. (2023).
    Flexible model aggregation for quantile regression. JMLR, 24.

    Examples
    --------
    >>> from reweight import LocalQuantileAggregator, make_quantile_models
    >>> data = make_quantile_models(1000, n_quantiles=3, design="switch", random_state=0)
    >>> local = LocalQuantileAggregator(data.quantiles, alpha=1e-4)
    >>> local = local.fit(data.Q, data.y, gate_features=data.X)
    >>> local.objective_ < 0.8 * local.global_aggregator_.objective_
    True
    """

    __metadata_request__fit = {"gate_features": True}
    __metadata_request__predict = {"gate_features": True}
    __metadata_request__score = {"gate_features": True}

    _parameter_constraints = {
        "quantiles": ["array-like"],
        "n_models": [Interval(Integral, 1, None, closed="left"), None],
        "featurizer": [HasMethods(["fit", "transform"]), None],
        "granularity": [StrOptions({"coarse", "medium", "fine"})],
        "smoothing": [Interval(Real, 0, None, closed="neither")],
        "alpha": [Interval(Real, 0, np.inf, closed="both"), StrOptions({"cv"})],
        "postprocess": [StrOptions(set(ORDERS)), None],
        "cv": ["cv_object"],
        "on_nonfinite": [StrOptions({"raise", "warn", "ignore"})],
        "tol": [Interval(Real, 0, None, closed="neither")],
        "max_iter": [Interval(Integral, 1, None, closed="left")],
        "n_jobs": [Integral, None],
        "verbose": ["verbose"],
    }

    def __init__(
        self,
        quantiles: ArrayLike,
        n_models: int | None = None,
        *,
        featurizer: Any = None,
        granularity: str = "medium",
        smoothing: float = 1e-3,
        alpha: float | str = "cv",
        postprocess: str | None = "sort",
        cv: Any = 5,
        on_nonfinite: str = "raise",
        tol: float = 1e-8,
        max_iter: int = 500,
        n_jobs: int | None = None,
        verbose: int = 0,
    ) -> None:
        self.quantiles = quantiles
        self.n_models = n_models
        self.featurizer = featurizer
        self.granularity = granularity
        self.smoothing = smoothing
        self.alpha = alpha
        self.postprocess = postprocess
        self.cv = cv
        self.on_nonfinite = on_nonfinite
        self.tol = tol
        self.max_iter = max_iter
        self.n_jobs = n_jobs
        self.verbose = verbose

    def fit(
        self,
        Q: ArrayLike,
        y: ArrayLike | None = None,
        *,
        gate_features: Any = None,
        sample_weight: ArrayLike | None = None,
    ) -> Self:
        """Fit the gates.

        Parameters
        ----------
        Q : array-like of shape (n_samples, n_models, n_quantiles) or \
                (n_samples, n_models * n_quantiles)
            Quantiles that the models give for rows they were not trained on.
            Flat ones are in C order: all levels of the first model come first.
        y : array-like of shape (n_samples,)
            Outcomes.
        gate_features : array-like or data frame of shape (n_samples, n_gate_features), \
                default=None
            What weights depend on. None takes each model's middle quantile and width.
        sample_weight : array-like of shape (n_samples,), default=None
            Row weights on any scale.

        Returns
        -------
        LocalQuantileAggregator
            The fitted aggregator itself.
        """
        self._validate_params()
        levels = check_quantiles(self.quantiles, self._name)
        Q = read_stacked(self, Q, len(levels), self.n_models, reset=True)
        n_samples = len(Q)
        check_rows(self._name, gate_features, n_samples)
        Q_all = Q
        Q, y, weights, rows = read_training_rows(self, Q, y, sample_weight, self.on_nonfinite)
        self.quantiles_, self.n_models_ = levels, Q.shape[1]
        self.base_crossing_rate_ = float((np.diff(Q, axis=2) < 0).any(axis=2).mean())
        features = self._fit_features(gate_features, Q_all, rows, weights)
        self.global_aggregator_ = self._global_aggregator().fit(Q, y, sample_weight=weights)
        mean = float(np.average(y, weights=weights))
        scale = float(np.sqrt(np.average((y - mean) ** 2, weights=weights))) or 1.0
        problems = gate_problems(
            features,
            (Q - mean) / scale,
            (y - mean) / scale,
            levels,
            weights / weights.sum(),
            self.granularity,
        )
        constant = _constant_weights(self.global_aggregator_, len(problems))
        path = smoothing_path(self.smoothing, 1.0)
        self.alpha_, self.alpha_losses_ = self.alpha, None
        if self.alpha == "cv":
            self._choose_alpha(problems, path, scale, Q, y, weights, rows, n_samples)
        self._fit_gates(problems, constant, path, float(self.alpha_) / scale)
        combined = self._combine(Q, features)
        self.objective_ = pinball_loss(y, combined, levels, sample_weight=weights)
        by_gate = [weights @ gate_weights(gate, features) for gate in self._gates()]
        mean_weights = np.stack(by_gate, axis=1) / weights.sum()
        self.model_weights_ = lay_out(mean_weights[None], self.n_models_, self.granularity)[0]
        return self

    def predict(self, Q: ArrayLike, *, gate_features: Any = None) -> NDArray[np.float64]:
        """Combine quantiles of the models for further rows.

        Parameters
        ----------
        Q : array-like of shape (n_samples, n_models, n_quantiles) or \
                (n_samples, n_models * n_quantiles)
            Quantiles that the models give.
        gate_features : array-like or data frame of shape (n_samples, n_gate_features), \
                default=None
            What weights depend on, if `fit` was given such.

        Returns
        -------
        ndarray of shape (n_samples, n_quantiles)
            Combined quantiles, in order unless `postprocess` is None.
        """
        Q, features = self._read_new(Q, gate_features)
        combined = self._combine(Q, features)
        return combined if self.postprocess is None else ORDERS[self.postprocess](combined)

    def sample_model_weights(
        self, Q: ArrayLike, *, gate_features: Any = None
    ) -> NDArray[np.float64]:
        """Weights of each row.

        Parameters
        ----------
        Q : array-like of shape (n_samples, n_models, n_quantiles) or \
                (n_samples, n_models * n_quantiles)
            Quantiles that the models give.
        gate_features : array-like or data frame of shape (n_samples, n_gate_features), \
                default=None
            What weights depend on, if `fit` was given such.

        Returns
        -------
        ndarray of shape (n_samples, n_models), (n_samples, n_models, n_quantiles) or \
                (n_samples, n_models, n_quantiles, n_quantiles)
            For coarse, medium and fine weights; the last axis of fine ones is
            the level that is predicted.
        """
        _, features = self._read_new(Q, gate_features)
        return self._weights_of(features)

    def score(
        self,
        Q: ArrayLike,
        y: ArrayLike,
        sample_weight: ArrayLike | None = None,
        *,
        gate_features: Any = None,
    ) -> float:
        """Minus the weighted interval score of the predicted quantiles.

        Parameters
        ----------
        Q : array-like of shape (n_samples, n_models, n_quantiles) or \
                (n_samples, n_models * n_quantiles)
            Quantiles that the models give.
        y : array-like of shape (n_samples,)
            Outcomes.
        sample_weight : array-like of shape (n_samples,), default=None
            Row weights on any scale.
        gate_features : array-like or data frame of shape (n_samples, n_gate_features), \
                default=None
            What weights depend on, if `fit` was given such.

        Returns
        -------
        float
            Minus twice the mean pinball loss; larger is better.
        """
        predicted = self.predict(Q, gate_features=gate_features)
        return -weighted_interval_score(y, predicted, self.quantiles_, sample_weight=sample_weight)

    def _read_new(self, Q: Any, gate_features: Any) -> tuple[NDArray, NDArray]:
        """Quantiles and standardised features of further rows."""
        check_is_fitted(self)
        Q = read_stacked(self, Q, len(self.quantiles_), self.n_models_, reset=False)
        if nonfinite_rows(Q).any():
            raise ValueError(f"{nonfinite_message(self._name, Q)}; predict without those rows")
        if (gate_features is None) != self._gate_of_quantiles:
            what = "not given to fit" if self._gate_of_quantiles else "given to fit, not here"
            raise ValueError(
                f"{self._name}: gate_features were {what}; pass them to both or to neither"
            )
        check_rows(self._name, gate_features, len(Q))
        raw = (
            features_of_quantiles(Q)
            if gate_features is None
            else numeric_features(self._name, self.featurizer_, gate_features)
        )
        if raw.shape[1] != self.scaler_.n_features_in_:
            raise ValueError(
                f"{self._name}: gate_features has {raw.shape[1]} columns, but "
                f"{self.scaler_.n_features_in_} were fitted"
            )
        return Q, self.scaler_.transform(raw)

    def _fit_features(
        self, gate_features: Any, Q: NDArray, rows: NDArray, weights: NDArray
    ) -> NDArray[np.float64]:
        """Standardised features of the rows to fit on."""
        self._gate_of_quantiles = gate_features is None
        self.featurizer_ = None
        if gate_features is None:
            raw = features_of_quantiles(Q[rows])
        else:
            if self.featurizer is not None:
                self.featurizer_ = clone(self.featurizer).fit(gate_features)
            raw = numeric_features(self._name, self.featurizer_, gate_features)[rows]
        self.scaler_ = StandardScaler().fit(raw, sample_weight=weights)
        return self.scaler_.transform(raw)

    def _global_aggregator(self) -> QuantileAggregator:
        return QuantileAggregator(
            self.quantiles_,
            n_models=self.n_models_,
            granularity=self.granularity,
            postprocess=None,
            n_jobs=self.n_jobs,
        )

    def _choose_alpha(
        self,
        problems: list[GateProblem],
        path: list[float],
        scale: float,
        Q: NDArray,
        y: NDArray,
        weights: NDArray,
        rows: NDArray,
        n_samples: int,
    ) -> None:
        """The ridge with the smallest held-out loss, and the loss of each."""
        equal = np.abs(y[:, None] - Q.mean(axis=1)).mean(axis=1)
        unit = float(np.average(equal, weights=weights)) / len(y)
        grid = [float(alpha * unit) for alpha in ALPHA_GRID]
        scaled = [alpha / scale for alpha in grid]
        # Folds cut the rows as they were passed; some of those may have been left out.
        place = np.full(n_samples, -1)
        place[rows] = np.arange(len(rows))
        tasks, shares = [], []
        for fold in check_cv(self.cv).split(place):
            train, test = (part[part >= 0] for part in (place[indices] for indices in fold))
            if not len(train) or not len(test):
                continue
            constant = _constant_weights(
                self._global_aggregator().fit(Q[train], y[train], sample_weight=weights[train]),
                len(problems),
            )
            for problem, start in zip(problems, constant, strict=True):
                tasks.append(
                    (problem, train, test, start, scaled, path[-2:], self.tol, self.max_iter)
                )
                shares.append(weights[test].sum())
        if not shares:
            raise ValueError(
                f"{self._name}: no fold of cv={self.cv} has rows with weight on both sides, of "
                f"{len(rows)} rows that have any; pass other folds or a number as alpha"
            )
        losses = np.array(self._map(path_losses, tasks, "ridges"))
        mean = scale * np.average(losses, axis=0, weights=shares)
        # The first is the largest ridge, which wins among equals.
        self.alpha_ = grid[int(np.argmin(mean))]
        self.alpha_losses_ = dict(zip(grid, mean.tolist(), strict=True))

    def _fit_gates(
        self, problems: list[GateProblem], constant: NDArray, path: list[float], alpha: float
    ) -> None:
        tasks = [
            (problem, weights, alpha, path, self.tol, self.max_iter)
            for problem, weights in zip(problems, constant, strict=True)
        ]
        results = self._map(best_gate, tasks, "gates")
        gates = np.array([theta for theta, _, _ in results])
        self.intercept_, self.coef_ = gates[:, 0], gates[:, 1:]
        self.n_iter_ = max(n_iter for _, n_iter, _ in results)
        failed = sum(not converged for _, _, converged in results)
        if failed:
            warn_user(
                f"{self._name}: {failed} of {len(results)} gates stopped at "
                f"max_iter={self.max_iter}; raise max_iter, alpha or smoothing",
                ConvergenceWarning,
            )

    def _map(self, function: Any, tasks: list[tuple], what: str) -> list[Any]:
        return parallel_map(
            function,
            tasks,
            total=len(tasks),
            n_jobs=self.n_jobs,
            verbose=self.verbose,
            name=f"{self._name}: {what}",
        )

    def _gates(self) -> NDArray[np.float64]:
        return np.concatenate([self.intercept_[:, None], self.coef_], axis=1)

    def _combine(self, Q: NDArray, features: NDArray) -> NDArray[np.float64]:
        """Combined quantiles, which may cross."""
        n, p, m = Q.shape
        combined = np.empty((n, m))
        step = max(1, BLOCK // (p * m))
        for first in range(0, n, step):
            rows = slice(first, first + step)
            parts = [
                np.einsum("nd,ndk->nk", gate_weights(theta, features[rows]), inputs)
                for theta, inputs in zip(
                    self._gates(), gate_inputs(Q[rows], self.granularity), strict=True
                )
            ]
            combined[rows] = np.concatenate(parts, axis=1)
        return combined

    def _weights_of(self, features: NDArray) -> NDArray[np.float64]:
        """Weights of each row, laid out as those of QuantileAggregator after the first axis."""
        by_gate = [gate_weights(theta, features) for theta in self._gates()]
        return lay_out(np.stack(by_gate, axis=2), self.n_models_, self.granularity)

    @property
    def _name(self) -> str:
        return type(self).__name__

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.target_tags.required = True
        tags.input_tags.three_d_array = True
        return tags


def _constant_weights(aggregator: QuantileAggregator, n_gates: int) -> NDArray:
    """Optimal constant weights of each gate, (n_gates, D)."""
    return aggregator.model_weights_.reshape(-1, n_gates).T

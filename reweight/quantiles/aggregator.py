"""One quantile forecast from those of several models, by weights of least pinball loss."""

from dataclasses import replace
from numbers import Integral, Real
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import check_cv
from sklearn.utils import Tags
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.validation import check_is_fitted

from reweight.metrics._quantile_checks import check_quantiles
from reweight.metrics.quantile import pinball_loss, weighted_interval_score
from reweight.quantiles._fitting import Fit, Task, crossing_margins, fit_fine, fit_groups
from reweight.quantiles._stacked import (
    nonfinite_message,
    nonfinite_rows,
    read_stacked,
    read_training_rows,
)
from reweight.quantiles.monotone import isotonic_quantiles, sort_quantiles, sweep_quantiles
from reweight.validation import warn_user

ORDERS = {"sort": sort_quantiles, "isotonic": isotonic_quantiles, "sweep": sweep_quantiles}
GRANULARITIES = ("average", "coarse", "fine", "medium", "median")
# Ridges tried by alpha="cv", in units of the mean absolute residual under equal weights.
ALPHA_GRID = (0.0, *np.logspace(-4, 1, 6), np.inf)


class QuantileAggregator(BaseEstimator):
    r"""Weights over models that minimise the pinball loss of their combined quantiles.

    Model j gives the quantiles :math:`Q_{ijk}` of row i at the levels
    :math:`\tau_k`. The combined quantiles are averages of quantiles,

    - coarse: :math:`\hat g_{ik} = \sum_j w_j Q_{ijk}`, one weight a model;
    - medium: :math:`\sum_j w_{jk} Q_{ijk}`, one a model and level;
    - fine: :math:`\sum_{jl} w_{jl,k} Q_{ijl}`, every level of every model may
      inform level k,

    with weights that are non-negative and sum to one. They minimise

    .. math:: \frac{1}{m \sum_i c_i} \sum_{ik} c_i \psi_{\tau_k}(y_i - \hat g_{ik})
              + \lambda \rho(\hat g) + \frac{\alpha}{2} \|w - w_{equal}\|^2,

    a linear program without ridge, which is solved to a certified duality gap.
    Fit on predictions for rows that the models were not trained on, such as
    those of `reweight.cross_fit`: in sample, models that overfit take all the
    weight. With fewer than about 50 rows per free weight, take coarse
    weights or `alpha="cv"`. Averages of quantiles are sharper than the
    quantiles of a mixture of the same laws.

    Parameters
    ----------
    quantiles : array-like of shape (n_quantiles,)
        Levels, strictly increasing in (0, 1).
    n_models : int, default=None
        Number of models; None takes it from the shape of Q.
    granularity : {"coarse", "medium", "fine", "average", "median"}, default="medium"
        What weights depend on. "average" weighs models equally and "median" is
        the median over models at each level: baselines, which fit nothing.
    solver : {"ipm", "highs"}, default="ipm"
        Interior point, or the dual simplex method of HiGHS, which is slower
        and takes no ridge.
    alpha : float or "cv", default=0.0
        Ridge towards equal weights, in the units of y; infinity is equal
        weights. "cv" tries 0, 1e-4 to 10 times the mean absolute residual, and
        infinity on folds.
    nonnegative : bool, default=True
        Whether weights must not be negative.
    unit_sum : bool, default=True
        Whether weights must sum to one.
    fit_intercept : bool, default=False
        Whether an intercept is added to each level, or group of levels.
    quantile_groups : array-like of shape (n_quantiles,), default=None
        Labels of levels that share their weights, with medium weights.
    noncross : bool, default=False
        Whether the combined quantiles must not cross at any training row, by a
        linear program over all levels at once; not with fine weights.
    crossing_penalty : float, default=0.0
        Price :math:`\lambda` of crossings in its place, where :math:`\rho` is the
        mean of :math:`(\hat g_{ik} - \hat g_{i,k+1} + \delta_k)_+` over rows and
        neighbouring levels; not with fine weights.
    margin : float, default=0.0
        Distance :math:`\delta` that neighbouring levels are to keep.
    margin_rule : {"single", "adapt"}, default="single"
        Whether `margin` is in units of the standard deviation of y, or times
        the distance of the two levels' quantiles of y minus the models' median.
    postprocess : {"sort", "isotonic", "sweep"} or None, default="sort"
        What puts predicted quantiles in order; the first two never raise the
        loss.
    cv : int, cross-validation generator or iterable, default=5
        Folds of `alpha="cv"`; an int makes contiguous folds.
    on_nonfinite : {"raise", "warn", "ignore"}, default="raise"
        Whether training rows with NaN or infinite values are an error, left
        out with a warning, or left out.
    tol : float, default=1e-8
        Relative duality gap.
    max_iter : int, default=100
        Largest number of interior point iterations of one program.
    n_jobs : int, default=None
        Number of threads over levels.
    verbose : int, default=0
        Whether to show a progress bar over levels.

    Attributes
    ----------
    model_weights_ : ndarray or None
        Weights of shape (n_models,) if coarse, (n_models, n_quantiles) if medium
        and (n_models, n_quantiles, n_quantiles) if fine, whose axes are model,
        level that informs, level informed. None for "median".
    intercept_ : ndarray of shape (n_quantiles,)
        Intercept of each level.
    objective_ : float
        Minimum of the objective, a mean over rows and levels.
    optimality_gap_ : float or ndarray of shape (n_quantiles,)
        Duality gap of each level, relative to its loss; one number where levels
        share weights or are coupled.
    n_iter_ : int
        Largest number of iterations of one program.
    solver_used_ : str
        What solved the programs.
    alpha_ : float
        The ridge, chosen if `alpha="cv"`.
    alpha_losses_ : dict or None
        Mean held-out loss of each ridge, if `alpha="cv"`.
    base_crossing_rate_ : float
        Share of training rows and models whose own quantiles cross.
    quantiles_ : ndarray of shape (n_quantiles,)
        Levels.
    n_models_ : int
        Number of models.
    n_features_in_ : int
        Number of models times number of levels.
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Names of the columns, when Q is a data frame.

    See Also
    --------
    sort_quantiles : What orders predictions by default.
    weighted_interval_score : Minus the score.

    References
    ----------
    Fakoor, R., Kim, T., Mueller, J., Smola, A. J., Tibshirani, R. J. (2023).
    Flexible model aggregation for quantile regression. JMLR, 24.

    Brooks, L. C., Ray, E. L., Bien, J., et al. (2020). Comparing ensemble
    approaches for short-term probabilistic COVID-19 forecasts in the U.S.
    International Institute of Forecasters.

    Examples
    --------
    >>> from reweight import QuantileAggregator, make_quantile_models
    >>> data = make_quantile_models(2000, n_quantiles=9, random_state=0)
    >>> aggregator = QuantileAggregator(data.quantiles).fit(data.Q, data.y)
    >>> aggregator.model_weights_.shape
    (6, 9)
    >>> average = QuantileAggregator(data.quantiles, granularity="average").fit(data.Q, data.y)
    >>> aggregator.score(data.Q, data.y) > average.score(data.Q, data.y)
    True
    """

    _parameter_constraints = {
        "quantiles": ["array-like"],
        "n_models": [Interval(Integral, 1, None, closed="left"), None],
        "granularity": [StrOptions(set(GRANULARITIES))],
        "solver": [StrOptions({"ipm", "highs"})],
        "alpha": [Interval(Real, 0, np.inf, closed="both"), StrOptions({"cv"})],
        "nonnegative": ["boolean"],
        "unit_sum": ["boolean"],
        "fit_intercept": ["boolean"],
        "quantile_groups": ["array-like", None],
        "noncross": ["boolean"],
        "crossing_penalty": [Interval(Real, 0, None, closed="left")],
        "margin": [Interval(Real, 0, None, closed="left")],
        "margin_rule": [StrOptions({"single", "adapt"})],
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
        *,
        n_models: int | None = None,
        granularity: str = "medium",
        solver: str = "ipm",
        alpha: float | str = 0.0,
        nonnegative: bool = True,
        unit_sum: bool = True,
        fit_intercept: bool = False,
        quantile_groups: ArrayLike | None = None,
        noncross: bool = False,
        crossing_penalty: float = 0.0,
        margin: float = 0.0,
        margin_rule: str = "single",
        postprocess: str | None = "sort",
        cv: Any = 5,
        on_nonfinite: str = "raise",
        tol: float = 1e-8,
        max_iter: int = 100,
        n_jobs: int | None = None,
        verbose: int = 0,
    ) -> None:
        self.quantiles = quantiles
        self.n_models = n_models
        self.granularity = granularity
        self.solver = solver
        self.alpha = alpha
        self.nonnegative = nonnegative
        self.unit_sum = unit_sum
        self.fit_intercept = fit_intercept
        self.quantile_groups = quantile_groups
        self.noncross = noncross
        self.crossing_penalty = crossing_penalty
        self.margin = margin
        self.margin_rule = margin_rule
        self.postprocess = postprocess
        self.cv = cv
        self.on_nonfinite = on_nonfinite
        self.tol = tol
        self.max_iter = max_iter
        self.n_jobs = n_jobs
        self.verbose = verbose

    def fit(
        self, Q: ArrayLike, y: ArrayLike | None = None, *, sample_weight: ArrayLike | None = None
    ) -> Self:
        """Fit the weights.

        Parameters
        ----------
        Q : array-like of shape (n_samples, n_models, n_quantiles) or \
                (n_samples, n_models * n_quantiles)
            Quantiles that the models give for rows they were not trained on.
            Flat ones are in C order: all levels of the first model come first.
        y : array-like of shape (n_samples,)
            Outcomes.
        sample_weight : array-like of shape (n_samples,), default=None
            Row weights on any scale.

        Returns
        -------
        QuantileAggregator
            The fitted aggregator itself.
        """
        self._validate_params()
        levels = check_quantiles(self.quantiles, type(self).__name__)
        groups = self._groups(len(levels))
        Q = read_stacked(self, Q, len(levels), self.n_models, reset=True)
        n_samples = len(Q)
        Q, y, weights, rows = read_training_rows(self, Q, y, sample_weight, self.on_nonfinite)
        self.quantiles_, self.n_models_ = levels, Q.shape[1]
        self.base_crossing_rate_ = float((np.diff(Q, axis=2) < 0).any(axis=2).mean())
        task = self._task(Q, y, weights, levels, groups)
        self._warn_if_underdetermined(task)
        self.alpha_, self.alpha_losses_ = self.alpha, None
        if self.alpha == "cv":
            self.alpha_, self.alpha_losses_ = self._choose_alpha(task, rows, n_samples)
        fit = self._fit_task(replace(task, alpha=float(self.alpha_)))
        self._store(fit, task)
        return self

    def predict(self, Q: ArrayLike) -> NDArray[np.float64]:
        """Combine quantiles of the models for further rows.

        Parameters
        ----------
        Q : array-like of shape (n_samples, n_models, n_quantiles) or \
                (n_samples, n_models * n_quantiles)
            Quantiles that the models give.

        Returns
        -------
        ndarray of shape (n_samples, n_quantiles)
            Combined quantiles, in order unless `postprocess` is None.
        """
        check_is_fitted(self)
        Q = read_stacked(self, Q, len(self.quantiles_), self.n_models_, reset=False)
        if nonfinite_rows(Q).any():
            message = nonfinite_message(type(self).__name__, Q)
            raise ValueError(f"{message}; predict without those rows")
        combined = self._combine(Q)
        return combined if self.postprocess is None else ORDERS[self.postprocess](combined)

    def score(self, Q: ArrayLike, y: ArrayLike, sample_weight: ArrayLike | None = None) -> float:
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

        Returns
        -------
        float
            Minus twice the mean pinball loss over rows and levels; larger is
            better.
        """
        quantiles = self.predict(Q)
        return -weighted_interval_score(y, quantiles, self.quantiles_, sample_weight=sample_weight)

    def _groups(self, m: int) -> NDArray[np.intp]:
        """Code of the group of each level, and the combinations that cannot be."""
        name = type(self).__name__
        priced = self.noncross or self.crossing_penalty > 0
        if priced and self.granularity == "fine":
            raise ValueError(
                f"{name}: granularity='fine' takes neither noncross nor crossing_penalty; use "
                "medium weights, or leave the order to postprocess"
            )
        if self.margin > 0 and not priced:
            raise ValueError(
                f"{name}: margin={self.margin:g} is kept only where crossing is forbidden or has "
                "its price; pass noncross=True or a crossing_penalty too"
            )
        if self.solver == "highs" and self.alpha != 0:
            raise ValueError(
                f"{name}: solver='highs' solves linear programs, got alpha={self.alpha!r}; use "
                "solver='ipm' with a ridge"
            )
        if self.quantile_groups is None:
            if self.granularity == "coarse":
                return np.zeros(m, dtype=np.intp)
            return np.arange(m)
        if self.granularity != "medium":
            raise ValueError(
                f"{name}: quantile_groups needs granularity='medium', got {self.granularity!r}; "
                "coarse weights are one group, fine ones have none"
            )
        labels = np.asarray(self.quantile_groups)
        if labels.shape != (m,):
            raise ValueError(
                f"{name}: quantile_groups has shape {labels.shape}, but there are {m} quantiles; "
                "pass one label for each level"
            )
        return np.unique(labels, return_inverse=True)[1]

    def _task(
        self, Q: NDArray, y: NDArray, weights: NDArray, levels: NDArray, groups: NDArray
    ) -> Task:
        m = len(levels)
        price = np.inf if self.noncross else self.crossing_penalty * m / max(m - 1, 1)
        return Task(
            Q=Q,
            y=y,
            weights=weights,
            quantiles=levels,
            groups=groups,
            nonnegative=self.nonnegative,
            unit_sum=self.unit_sum,
            fit_intercept=self.fit_intercept,
            crossing_price=price,
            margins=crossing_margins(Q, y, weights, levels, self.margin, self.margin_rule),
            solver=self.solver,
            tol=self.tol,
            max_iter=self.max_iter,
            n_jobs=self.n_jobs,
            verbose=self.verbose,
        )

    def _warn_if_underdetermined(self, task: Task) -> None:
        n, p, m = task.Q.shape
        rows = n * np.bincount(task.groups).min()
        unknowns = {"fine": p * m, "medium": p, "coarse": p}.get(self.granularity, 0)
        if rows < unknowns and self.alpha == 0:
            warn_user(
                f"{type(self).__name__}: {rows} rows determine {unknowns} weights of one level, "
                "which many solutions do equally well; pass alpha='cv' or granularity='coarse'",
                UserWarning,
            )

    def _choose_alpha(
        self, task: Task, rows: NDArray, n_samples: int
    ) -> tuple[float, dict[float, float]]:
        """The ridge with the smallest held-out loss, and the loss of each."""
        equal = task.Q.mean(axis=1)
        unit = float(np.average(np.abs(task.y[:, None] - equal).mean(axis=1), weights=task.weights))
        grid = [float(alpha * unit) if alpha > 0 else 0.0 for alpha in ALPHA_GRID]
        losses, total = np.zeros(len(grid)), 0.0
        # Folds cut the rows as they were passed; some of those may have been left out.
        place = np.full(n_samples, -1)
        place[rows] = np.arange(len(rows))
        for fold in check_cv(self.cv).split(place):
            train, test = (part[part >= 0] for part in (place[indices] for indices in fold))
            part = replace(task, Q=task.Q[train], y=task.y[train], weights=task.weights[train])
            share = task.weights[test].sum()
            total += share
            for a, alpha in enumerate(grid):
                fit = self._fit_task(replace(part, alpha=alpha))
                self._take(fit, task.groups)
                losses[a] += share * pinball_loss(
                    task.y[test],
                    self._combine(task.Q[test]),
                    task.quantiles,
                    sample_weight=task.weights[test],
                )
        losses /= total
        # Among equals the largest ridge, whose weights vary least.
        best = len(grid) - 1 - int(np.argmin(losses[::-1]))
        return grid[best], dict(zip(grid, losses.tolist(), strict=True))

    def _fit_task(self, task: Task) -> Fit:
        n, p, m = task.Q.shape
        fine = self.granularity == "fine"
        n_groups = m if fine else int(task.groups.max()) + 1
        if self.granularity in ("average", "median"):
            return Fit(np.full((p, m), 1.0 / p), np.zeros(m), np.zeros(m), 0, True, "none")
        if np.isfinite(task.alpha):
            return fit_fine(task) if fine else fit_groups(task)
        columns = p * m if fine else p
        weights, intercepts = np.full((columns, n_groups), 1.0 / columns), np.zeros(n_groups)
        if not self.fit_intercept:
            return Fit(weights, intercepts, np.zeros(n_groups), 1, True, "none")
        mean = task.Q.mean(axis=(1, 2), keepdims=True) if fine else task.Q.mean(1, keepdims=True)
        rest = replace(task, Q=np.broadcast_to(mean, (n, 1, m)), alpha=0.0, unit_sum=True)
        return replace(fit_groups(rest), weights=weights)

    def _take(self, fit: Fit, groups: NDArray) -> None:
        """Lay weights and intercepts out by level."""
        p, m = self.n_models_, len(self.quantiles_)
        self.intercept_ = fit.intercepts[groups]
        if self.granularity == "fine":
            self.model_weights_ = fit.weights.reshape(p, m, m)
        elif self.granularity in ("coarse", "average"):
            self.model_weights_ = fit.weights[:, 0].copy()
        elif self.granularity == "medium":
            self.model_weights_ = fit.weights[:, groups]
        else:
            self.model_weights_ = None

    def _store(self, fit: Fit, task: Task) -> None:
        self._take(fit, task.groups)
        coupled = task.crossing_price > 0 or len(fit.gaps) == 1
        single = self.granularity in ("coarse", "average", "median")
        self.optimality_gap_ = float(fit.gaps.max()) if coupled or single else fit.gaps[task.groups]
        self.n_iter_, self.solver_used_ = fit.n_iter, fit.solver
        self.objective_ = self._objective(fit, task)
        if not fit.converged:
            worst = float(np.max(fit.gaps))
            warn_user(
                f"{type(self).__name__}: the relative duality gap is {worst:.3g} after "
                f"{fit.n_iter} iterations, which is above tol={self.tol:g}; raise max_iter or tol",
                ConvergenceWarning,
            )

    def _objective(self, fit: Fit, task: Task) -> float:
        combined = self._combine(task.Q)
        value = pinball_loss(task.y, combined, task.quantiles, sample_weight=task.weights)
        if np.isfinite(task.crossing_price) and task.crossing_price > 0 and self._has_weights():
            crossing = np.maximum(combined[:, :-1] - combined[:, 1:] + task.margins, 0.0)
            mean = np.average(crossing.mean(axis=1), weights=task.weights)
            value += self.crossing_penalty * float(mean)
        if self._has_weights() and 0 < self.alpha_ < np.inf:
            distance = ((fit.weights - 1.0 / len(fit.weights)) ** 2).sum()
            value += 0.5 * self.alpha_ * float(distance)
        return value

    def _has_weights(self) -> bool:
        return self.granularity not in ("average", "median")

    def _combine(self, Q: NDArray) -> NDArray[np.float64]:
        """Combined quantiles, which may cross."""
        weights = self.model_weights_
        if weights is None:
            return np.median(Q, axis=1)
        if weights.ndim == 1:
            return np.einsum("njk,j->nk", Q, weights) + self.intercept_
        if weights.ndim == 2:
            return np.einsum("njk,jk->nk", Q, weights) + self.intercept_
        n, p, m = Q.shape
        return Q.reshape(n, p * m) @ weights.reshape(p * m, m) + self.intercept_

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.target_tags.required = True
        tags.input_tags.three_d_array = True
        return tags

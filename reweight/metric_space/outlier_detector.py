"""Outliers and novelties by the weight that a point has in, or would add to, a set of points."""

from collections.abc import Callable
from numbers import Real
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, logit
from sklearn.base import BaseEstimator, OutlierMixin
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.validation import check_is_fitted

from reweight.metric_space._solve import solve
from reweight.metric_space.weighting_vector import PARAMETER_CONSTRAINTS, WeightingVector
from reweight.validation import validate_features, warn_weights

CRITERIA = frozenset({"weight", "residual", "gain", "spread", "power"})
POWER_SCALES = np.linspace(1e-3, 10.0, 20)
MAX_POWER_GIGABYTES = 8.0
DEVIATIONS = 3.0
# Logits of scores that rounding takes to one; and a distance that rounding does not reach.
LARGEST_LOGIT = 36.0
LOGIT_ROUNDING = 1e-6
# Makes the median absolute deviation that of the standard deviation of normal scores.
NORMAL_MAD = 1.4826


class MagnitudeOutlierDetector(OutlierMixin, BaseEstimator):
    r"""Outlier detection by weighting vectors.

    A point deep inside a dense region adds nothing to a set, one on its own adds
    a whole point. The score of a row of the training set and that of a new row
    are one quantity: what the row has, or would have if it joined. Rows that
    coincide are one point, so that a heap of copies counts as one row; for
    outliers relative to the density around them use
    `sklearn.neighbors.LocalOutlierFactor`. Put the columns on one scale first. On
    tables of real data it is about as good as the distance to the tenth
    neighbour, and "spread" as good as "weight".

    Parameters
    ----------
    criterion : {"weight", "residual", "gain", "spread", "power"}, default="weight"
        What makes a row abnormal, with :math:`c_i = \exp(-t\, d(x, x_i))` over the
        other points and w their weighting vector: "weight"
        :math:`(1 - c'w) / (1 - c'Z^{-1}c)`; "residual" :math:`1 - c'w`, the decision
        value of a one-class machine; "gain" of magnitude
        :math:`(1 - c'w)^2 / (1 - c'Z^{-1}c)`; "spread" :math:`1 / (1 + \sum_i c_i)`;
        "power" is the integral of :math:`e^{-t}` times the weight over 20 scales t
        between 0.001 and 10, whatever `scale` says, for standardised columns.
    contamination : "auto" or float, default="auto"
        Share of training rows to call outliers, at most 0.5. "auto" looks at the
        logits of positive scores, which for two points are their distance times
        t, and flags those above the median by three standard deviations, told
        from the median absolute deviation as for normal logits.
    scale : {"magnitude", "median", "nn"} or float, default="magnitude"
        Inverse length t; see `WeightingVector`.
    magnitude_fraction : float, default=0.5
        Aim of `scale="magnitude"`.
    metric : str or callable, default="euclidean"
        Metric, or "precomputed" for distances in X.
    p : float, default=2
        Power of `metric="minkowski"`.
    solver : str, default="auto"
        As in `WeightingVector`.
    n_neighbors : int, default=30
        Neighbours of approximate solvers, and of new rows for them.
    alpha : float, default=0
        Ridge on the similarities.
    nonnegative : bool, default=False
        Whether weights must not be negative; then rows away from the boundary all
        score zero.
    exact_max : int, default=8000
        Most points that are solved exactly by "auto".
    tol : float, default=1e-8
        Tolerance of iterative solvers.
    max_iter : int, default=500
        Largest number of their steps.
    n_jobs : int, default=None
        Number of threads; it does not change the result.
    random_state : int, RandomState or None, default=None
        Order and subsamples of large sets.
    verbose : int, default=0
        Whether to show progress.

    Attributes
    ----------
    outlier_scores_ : ndarray of shape (n_samples,)
        Score of each training row; larger is more abnormal.
    offset_ : float
        `decision_function` is `score_samples` minus this.
    weighting_ : WeightingVector
        The weighting vector of the training rows.
    n_iter_ : int
        Steps of iterative solvers, 1 for others.
    n_features_in_ : int
        Number of columns of X.
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Their names, when X has string column names.

    See Also
    --------
    WeightingVector : The weights themselves.

    References
    ----------
    Bunch, E., Kline, J., Dickinson, D., Bhat, S., Fung, G. (2021). Weighting
    vectors for machine learning: numerical harmonic analysis applied to
    boundary detection. arXiv:2106.00827.
    Willerton, S. (2015). Spread: a measure of the size of metric spaces.
    International Journal of Computational Geometry and Applications, 25(3).

    Examples
    --------
    >>> import numpy as np
    >>> from reweight import MagnitudeOutlierDetector
    >>> X = np.r_[np.random.default_rng(0).normal(size=(50, 2)), [[6.0, 6.0]]]
    >>> detector = MagnitudeOutlierDetector(contamination=0.02).fit(X)
    >>> np.flatnonzero(detector.predict(X) == -1)
    array([50])
    >>> detector.predict([[-7.0, 5.0], [0.0, 0.0]])
    array([-1,  1])
    """

    _parameter_constraints = {
        "criterion": [StrOptions(set(CRITERIA))],
        "contamination": [StrOptions({"auto"}), Interval(Real, 0, 0.5, closed="right")],
        **PARAMETER_CONSTRAINTS,
    }

    def __init__(
        self,
        *,
        criterion: str = "weight",
        contamination: str | float = "auto",
        scale: str | float = "magnitude",
        magnitude_fraction: float = 0.5,
        metric: str | Callable = "euclidean",
        p: float = 2,
        solver: str = "auto",
        n_neighbors: int = 30,
        alpha: float = 0.0,
        nonnegative: bool = False,
        exact_max: int = 8000,
        tol: float = 1e-8,
        max_iter: int = 500,
        n_jobs: int | None = None,
        random_state: int | np.random.RandomState | None = None,
        verbose: int = 0,
    ) -> None:
        self.criterion = criterion
        self.contamination = contamination
        self.scale = scale
        self.magnitude_fraction = magnitude_fraction
        self.metric = metric
        self.p = p
        self.solver = solver
        self.n_neighbors = n_neighbors
        self.alpha = alpha
        self.nonnegative = nonnegative
        self.exact_max = exact_max
        self.tol = tol
        self.max_iter = max_iter
        self.n_jobs = n_jobs
        self.random_state = random_state
        self.verbose = verbose

    def fit(self, X: Any, y: Any = None) -> "MagnitudeOutlierDetector":
        """Find the weighting vector and score the training rows.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Features, or distances of shape (n_samples, n_samples) for metric
            "precomputed".
        y : None
            Ignored.

        Returns
        -------
        MagnitudeOutlierDetector
            The estimator itself.

        Raises
        ------
        ValueError
            If there are fewer than two distinct rows, and as in `WeightingVector`.
        """
        self._validate_params()
        X = validate_features(self, X, ensure_min_samples=2)
        name = type(self).__name__
        rng = check_random_state(self.random_state)
        self.weighting_ = self._weighting(rng)._fit_as(name, X)
        if self.weighting_.n_points_ < 2:
            raise ValueError(
                f"{name}: X has only one distinct point among {len(X)} rows; outliers need other "
                "rows to differ from"
            )
        self._solutions = [self.weighting_._solution]
        if self.criterion == "power":
            self._solutions = self._solve_at_power_scales(rng)
        self._known = self._scores_of_points()
        self.outlier_scores_ = self._scores(X)
        if isinstance(self.contamination, str):
            self.offset_ = -_usual_limit(self.outlier_scores_)
        else:
            self.offset_ = float(np.percentile(-self.outlier_scores_, 100 * self.contamination))
        self.n_iter_ = self.weighting_.n_iter_
        return self

    def _weighting(self, rng: np.random.RandomState) -> WeightingVector:
        own = self.get_params(deep=False)
        shared = {name: own[name] for name in PARAMETER_CONSTRAINTS}
        return WeightingVector(**{**shared, "random_state": rng})

    def _solve_at_power_scales(self, rng: np.random.RandomState) -> list[Any]:
        name, weighting = type(self).__name__, self.weighting_
        points, solver = weighting._points, weighting.solver_
        size = 8e-9 * len(points) ** 2 * len(POWER_SCALES)
        if solver in ("exact", "ldl") and size > MAX_POWER_GIGABYTES:
            raise ValueError(
                f"{name}: criterion='power' keeps {len(POWER_SCALES)} factors of {len(points)} "
                f"points, {size:.1f} GB; use another criterion, fewer rows or a lower exact_max"
            )
        options = weighting._options(name)
        scales = POWER_SCALES
        if self.verbose:
            from tqdm.auto import tqdm

            scales = tqdm(scales, desc="scales")
        solutions = [solve(points, float(scale), solver, options, rng) for scale in scales]
        wrong = sum(not solution.approximation_ok for solution in solutions)
        if wrong:
            warn_weights(
                f"{name}: solver={solver!r} does not hold at {wrong} of {len(solutions)} scales of "
                "criterion='power'; use another criterion, or fewer rows and solver='exact'"
            )
        return solutions

    def _scores_of_points(self) -> NDArray[np.float64]:
        """Scores of the distinct training points given the others."""
        if self.criterion == "power":
            return self._integral([solution.w for solution in self._solutions])
        solution = self._solutions[0]
        if self.criterion == "weight":
            return solution.w.copy()
        if self.criterion == "spread":
            points = self.weighting_._points
            return 1.0 / points.product(np.ones(len(points)), self.weighting_.scale_)
        inverse = solution.inverse_diagonal()
        return solution.w / inverse if self.criterion == "residual" else solution.w**2 / inverse

    def _scores_of_new(self, queries: NDArray) -> NDArray[np.float64]:
        """Scores of rows that coincide with no training point."""
        if self.criterion == "power":
            return self._integral(
                [self._new_weight(solution, queries) for solution in self._solutions]
            )
        if self.criterion == "spread":
            points = self.weighting_._points
            total = points.product(np.ones(len(points)), self.weighting_.scale_, queries)
            return 1.0 / (1.0 + total)
        solution = self._solutions[0]
        if self.criterion == "weight":
            return self._new_weight(solution, queries)
        if self.criterion == "residual":
            return self._signed(solution.residual(queries))
        residual, variance = solution.residual_and_variance(queries)
        return self._signed(residual) ** 2 / variance

    def _signed(self, residual: NDArray) -> NDArray[np.float64]:
        """Residuals, which a machine with non-negative weights counts where it misses one."""
        return np.maximum(residual, 0.0) if self.nonnegative else residual

    def _new_weight(self, solution: Any, queries: NDArray) -> NDArray[np.float64]:
        residual, variance = solution.residual_and_variance(queries)
        return self._signed(residual) / variance

    @staticmethod
    def _integral(weights: list[NDArray]) -> NDArray[np.float64]:
        step = POWER_SCALES[1] - POWER_SCALES[0]
        return step * np.exp(-POWER_SCALES) @ np.array(weights)

    def _scores(self, X: NDArray) -> NDArray[np.float64]:
        return self.weighting_._point_values(X, self._known, self._scores_of_new)

    def score_samples(self, X: Any) -> NDArray[np.float64]:
        """Negative score of each row; lower is more abnormal.

        Parameters
        ----------
        X : array-like of shape (n_rows, n_features)
            Features, or distances from the training rows for metric "precomputed".

        Returns
        -------
        ndarray of shape (n_rows,)
        """
        check_is_fitted(self, "weighting_")
        return -self._scores(validate_features(self, X, reset=False))

    def decision_function(self, X: Any) -> NDArray[np.float64]:
        """`score_samples` minus `offset_`; negative for outliers.

        Parameters
        ----------
        X : array-like of shape (n_rows, n_features)
            Features, or distances from the training rows for metric "precomputed".

        Returns
        -------
        ndarray of shape (n_rows,)
        """
        return self.score_samples(X) - self.offset_

    def predict(self, X: Any) -> NDArray[np.intp]:
        """Whether each row is an inlier, 1, or an outlier, -1.

        Parameters
        ----------
        X : array-like of shape (n_rows, n_features)
            Features, or distances from the training rows for metric "precomputed".

        Returns
        -------
        ndarray of shape (n_rows,)
        """
        return np.where(self.decision_function(X) < 0, -1, 1)

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.pairwise = isinstance(self.metric, str) and self.metric == "precomputed"
        return tags


def _usual_limit(scores: NDArray[np.float64]) -> float:
    """Score that usual rows stay below: median plus three deviations of positive scores' logits.

    Scores are bounded by about one, so that no outlier could lie several
    deviations above the median of the scores themselves.
    """
    positive = scores[scores > 0]
    if not len(positive):
        return 0.0
    with np.errstate(divide="ignore"):
        logits = logit(np.minimum(positive, 1.0))
    logits = np.minimum(logits, LARGEST_LOGIT)
    middle = np.median(logits)
    deviation = NORMAL_MAD * np.median(np.abs(logits - middle))
    limit = middle + DEVIATIONS * deviation + LOGIT_ROUNDING
    # Where usual points are as good as alone, only what rounding cannot explain stands out.
    return float(expit(limit)) if limit < LARGEST_LOGIT else 1.0 + LOGIT_ROUNDING

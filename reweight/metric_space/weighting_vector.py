"""The weighting vector of a set of points."""

from collections.abc import Callable
from numbers import Integral, Real
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.validation import check_is_fitted

from reweight.metric_space._points import PointSet, distinct_points
from reweight.metric_space._scale import choose_scale
from reweight.metric_space._solve import SOLVERS, SolverOptions, choose_solver, solve, warn_if_wrong
from reweight.normalization import effective_sample_size, normalize_weights
from reweight.validation import check_sample_weight, validate_features

METRICS = frozenset(
    {
        "braycurtis",
        "canberra",
        "chebyshev",
        "cityblock",
        "euclidean",
        "hamming",
        "haversine",
        "l1",
        "l2",
        "manhattan",
        "minkowski",
        "precomputed",
    }
)
SYMMETRY_TOLERANCE = 1e-8
PARAMETER_CONSTRAINTS: dict[str, list] = {
    "scale": [StrOptions({"magnitude", "median", "nn"}), Interval(Real, 0, None, closed="neither")],
    "magnitude_fraction": [Interval(Real, 0, 1, closed="neither")],
    "metric": [StrOptions(set(METRICS)), callable],
    "p": [Interval(Real, 1, None, closed="left")],
    "solver": [StrOptions(set(SOLVERS))],
    "n_neighbors": [Interval(Integral, 1, None, closed="left")],
    "alpha": [Interval(Real, 0, None, closed="left")],
    "nonnegative": ["boolean"],
    "exact_max": [Interval(Integral, 1, None, closed="left")],
    "tol": [Interval(Real, 0, None, closed="neither")],
    "max_iter": [Interval(Integral, 1, None, closed="left")],
    "n_jobs": [Integral, None],
    "random_state": ["random_state"],
    "verbose": ["verbose"],
}


class WeightingVector(ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator):
    r"""How much new territory each point adds to a set of points.

    With similarities :math:`Z_{ij} = \exp(-t\, d(x_i, x_j))` the weighting vector
    solves :math:`Z w = 1`, and its sum is the magnitude of the set, the
    effective number of distinct points at the scale t. A weight is near zero
    deep inside a dense region, larger at a boundary, and near one at a point on
    its own. It may be negative where t is small. The function
    :math:`f = \sum_i w_i \exp(-t\, d(x_i, \cdot))` is the smoothest in its space that is
    one at every point; `alpha` = 1/C makes it a least-squares one-class
    machine, :math:`(Z + \alpha I) w = 1`, and `nonnegative=True` that with
    :math:`f(x_i) \ge 1`, whose weights vanish away from the boundary.

    Put the columns on one scale first. With many columns of which few matter,
    distances say little.

    Parameters
    ----------
    scale : {"magnitude", "median", "nn"} or float, default="magnitude"
        Inverse length t. "magnitude" finds it so that the magnitude is
        1 + `magnitude_fraction` times the number of other points; "median" and
        "nn" are one over the median distance of all pairs and of nearest
        neighbours.
    magnitude_fraction : float, default=0.5
        Aim of `scale="magnitude"`, between 0 (all points as one) and 1 (each
        for itself). Beyond 2000 points it is met approximately.
    metric : str or callable, default="euclidean"
        "euclidean", "manhattan", "minkowski", another metric of scikit-learn's
        `pairwise_distances`, a function of two rows (slow: better compute
        distances once), or "precomputed" for distances in X.
    p : float, default=2
        Power of `metric="minkowski"`; up to 2 similarities are positive definite.
    solver : str, default="auto"
        "exact" is a Cholesky factor, "ldl" the same for metrics whose
        similarities are indefinite. "vecchia" conditions each point on its
        nearest among earlier ones, "local" on its nearest; both are quick for
        few columns and a short range. "cg" is exact to `tol` at a product with Z,
        which is never stored, per step. "subsample" gives all points the weight of a
        new point given `exact_max` of them. With `nonnegative=True` there are
        "exact", "projected_gradient" and the slow "normalization". "auto" is
        "exact" up to `exact_max` points; beyond, it is
        "vecchia" to 5 columns, then "cg" to 50,000 points, then "subsample".
    n_neighbors : int, default=30
        Neighbours of "local" and "vecchia", and of new points wherever these
        and "cg" are used.
    alpha : float, default=0
        Ridge on the similarities.
    nonnegative : bool, default=False
        Whether weights must not be negative; only then there are `weights_`.
    exact_max : int, default=8000
        Most points for which Z is stored, which takes 8 n^2 bytes.
    tol : float, default=1e-8
        Relative residual, or gap, at which iterative solvers stop.
    max_iter : int, default=500
        Largest number of their steps.
    n_jobs : int, default=None
        Number of threads; it does not change the result.
    random_state : int, RandomState or None, default=None
        Order of the points of "vecchia", subsamples of large sets.
    verbose : int, default=0
        Whether to show the progress of "cg".

    Attributes
    ----------
    weighting_vector_ : ndarray of shape (n_samples,)
        Weight of each row. Rows that coincide are one point, whose weight they
        share in proportion to `sample_weight`.
    weights_ : ndarray of shape (n_samples,)
        The same with mean one, to pass on as `sample_weight`; only with
        `nonnegative=True`.
    ess_ : float
        Effective sample size of `weights_`.
    magnitude_ : float
        Sum of the weights.
    scale_ : float
        Inverse length in use.
    alpha_ : float
        `alpha`, and what had to be added to it to factorise.
    solver_ : str
        Solver in use.
    residual_norm_ : float
        Largest deviation of (Z + alpha I) w from one, for "local" and "vecchia"
        among 256 random points; with `nonnegative=True` the largest violation
        of the optimality conditions.
    approximation_ok_ : bool
        Whether the weights can be relied on: for exact solvers if the equations
        hold to 1e-6, for iterative ones if they converged, for "local" and
        "vecchia" if neighbours see the range of the similarities and residuals
        are small; never for "subsample".
    n_points_ : int
        Number of distinct points with a positive `sample_weight`.
    n_iter_ : int
        Steps of iterative solvers, 1 for others.
    n_features_in_ : int
        Number of columns of X.
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Their names, when X has string column names.

    See Also
    --------
    MagnitudeOutlierDetector : Outliers by these weights.
    magnitude_function : Magnitude at many scales.

    References
    ----------
    Bunch, E., Kline, J., Dickinson, D., Bhat, S., Fung, G. (2021). Weighting
    vectors for machine learning: numerical harmonic analysis applied to
    boundary detection. arXiv:2106.00827.
    Leinster, T. (2013). The magnitude of metric spaces. Documenta Mathematica,
    18, 857-905.
    Vecchia, A. (1988). Estimation and model identification for continuous
    spatial processes. JRSS B, 50(2), 297-312.

    Examples
    --------
    >>> import numpy as np
    >>> from reweight import WeightingVector
    >>> X = np.array([[0.0], [1.0], [2.0], [10.0]])
    >>> weighting = WeightingVector(scale=1.0).fit(X)
    >>> weighting.weighting_vector_.round(3)
    array([0.731, 0.462, 0.731, 1.   ])
    >>> weighting.transform([[50.0]]).round(3)
    array([[1.]])
    """

    _parameter_constraints = PARAMETER_CONSTRAINTS
    _n_features_out = 1

    def __init__(
        self,
        *,
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

    def fit(
        self, X: Any, y: Any = None, *, sample_weight: ArrayLike | None = None
    ) -> "WeightingVector":
        """Find the weight of each row.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Features, or distances of shape (n_samples, n_samples) for metric
            "precomputed".
        y : None
            Ignored.
        sample_weight : array-like of shape (n_samples,), default=None
            Shares of rows that coincide; rows without weight are left out.
            Weighting vectors belong to sets, so it changes nothing else.

        Returns
        -------
        WeightingVector
            The estimator itself.

        Raises
        ------
        ValueError
            If the input is not finite, distances are not a metric's, fewer
            points than the rule of the scale needs are distinct, or the solver cannot
            do what is asked.
        """
        self._validate_params()
        return self._fit_as(type(self).__name__, X, sample_weight)

    def _fit_as(
        self, name: str, X: Any, sample_weight: ArrayLike | None = None
    ) -> "WeightingVector":
        """Fit, with errors in the name of the estimator that the user knows."""
        X = validate_features(self, X)
        s = check_sample_weight(sample_weight, X)
        if self._precomputed:
            _check_distances(X, name)
        # Minus zero and zero are one place.
        X = X + 0.0
        rng = check_random_state(self.random_state)
        kept = np.flatnonzero(s > 0)
        rows = X[np.ix_(kept, kept)] if self._precomputed else X[kept]
        points, first, point_of_row = distinct_points(rows, self.metric, self.p, self.n_jobs, name)
        options = self._options(name)
        self.solver_ = choose_solver(points, options)
        self.scale_ = self._scale_of(points, len(kept), name, rng)
        self._solution = solve(points, self.scale_, self.solver_, options, rng)
        warn_if_wrong(self._solution, self.solver_, options)
        self._points, self._columns = points, kept[first]
        self._set_weights(s, kept, point_of_row)
        self.n_points_ = len(points)
        self.magnitude_ = self._solution.magnitude
        self.alpha_ = self._solution.alpha_used
        self.residual_norm_ = self._solution.residual_norm
        self.approximation_ok_ = self._solution.approximation_ok
        self.n_iter_ = max(1, getattr(self._solution, "n_iter", 1))
        return self

    @property
    def _precomputed(self) -> bool:
        return isinstance(self.metric, str) and self.metric == "precomputed"

    def _options(self, name: str) -> SolverOptions:
        return SolverOptions(
            name,
            self.solver,
            self.n_neighbors,
            float(self.alpha),
            self.nonnegative,
            self.exact_max,
            self.tol,
            self.max_iter,
            self.verbose,
        )

    def _scale_of(
        self, points: PointSet, n_rows: int, name: str, rng: np.random.RandomState
    ) -> float:
        if not isinstance(self.scale, str):
            return float(self.scale)
        if len(points) < 2:
            raise ValueError(
                f"{name}: X has only one distinct point (n_samples = {n_rows}), for which "
                f"scale={self.scale!r} has no meaning; pass more rows, or scale as a number"
            )
        indefinite = self.solver_ == "ldl"
        return choose_scale(points, self.scale, self.magnitude_fraction, rng, indefinite)

    def _set_weights(self, s: NDArray, kept: NDArray, point_of_row: NDArray) -> None:
        share = s[kept] / np.bincount(point_of_row, s[kept])[point_of_row]
        self.weighting_vector_ = np.zeros(len(s))
        self.weighting_vector_[kept] = self._solution.w[point_of_row] * share
        if self.nonnegative:
            self._weights = normalize_weights(self.weighting_vector_)

    @property
    def weights_(self) -> NDArray[np.float64]:
        """Weights with mean one; only with `nonnegative=True`."""
        check_is_fitted(self, "weighting_vector_")
        if not self.nonnegative:
            raise AttributeError(
                f"{type(self).__name__}: there are no weights_ with nonnegative=False, as entries "
                "of weighting_vector_ may be negative (here "
                f"{int((self.weighting_vector_ < 0).sum())} of {len(self.weighting_vector_)} "
                "are); pass nonnegative=True"
            )
        return self._weights

    @property
    def ess_(self) -> float:
        """Effective sample size of `weights_`."""
        return effective_sample_size(self.weights_)

    def transform(self, X: Any) -> NDArray[np.float64]:
        """Weight that each row has, or would have if it joined the points.

        Parameters
        ----------
        X : array-like of shape (n_rows, n_features)
            Features, or distances of shape (n_rows, n_samples) from the rows
            given to `fit` for metric "precomputed".

        Returns
        -------
        ndarray of shape (n_rows, 1)
            At a point of the set, the whole weight of that point.
        """
        check_is_fitted(self, "weighting_vector_")
        X = validate_features(self, X, reset=False)
        return self._point_values(X, self._solution.w, self._weight_of_new)[:, None]

    def _weight_of_new(self, queries: NDArray) -> NDArray[np.float64]:
        residual, variance = self._solution.residual_and_variance(queries)
        if self.nonnegative:
            residual = np.maximum(residual, 0.0)
        return residual / variance

    def _point_values(
        self, X: NDArray, known: NDArray, of_new: Callable[[NDArray], NDArray]
    ) -> NDArray[np.float64]:
        """Values of the points where rows coincide with them, a function of the row elsewhere."""
        queries = X[:, self._columns] if self._precomputed else np.ascontiguousarray(X + 0.0)
        if self._precomputed and queries.min(initial=0.0) < 0:
            raise ValueError(
                f"{type(self).__name__}: X has negative entries, the smallest {queries.min():.6g}; "
                "with metric='precomputed' pass distances"
            )
        position = self._points.find(queries)
        new = position < 0
        values = known[position]
        if new.any():
            values[new] = of_new(queries[new])
        return values

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.pairwise = self._precomputed
        return tags


def _check_distances(D: NDArray, name: str) -> None:
    """Refuse what cannot be distances, naming the first entry at fault."""
    advice = "with metric='precomputed' pass the distances between all rows"
    if D.shape[0] != D.shape[1]:
        raise ValueError(f"{name}: X has shape {D.shape}, which is not square; {advice}")
    largest = np.abs(D).max(initial=0.0)
    for bad, what in (
        (np.diag(np.diag(D) != 0), "is not zero on the diagonal"),
        (D < 0, "is negative"),
        (np.abs(D - D.T) > SYMMETRY_TOLERANCE * largest, "differs from its transpose"),
    ):
        if bad.any():
            i, j = np.argwhere(bad)[0]
            raise ValueError(
                f"{name}: X[{i}, {j}] = {D[i, j]:.6g} {what} ({int(bad.sum())} such entries); "
                f"{advice}"
            )

"""Kernel mean matching that weighs source rows and target rows."""

from numbers import Real
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.spatial import cKDTree
from sklearn.utils._param_validation import Interval
from sklearn.utils.validation import check_is_fitted

from reweight.kernels.kernel_sums import kernel_matvec
from reweight.validation import validate_features, warn_weights
from shift.covariate._matching_problem import Matching, MatchingProblem
from shift.covariate._matching_weighter import MatchingWeighter

INTERIOR = 1e-3
NO_SUPPORT = 0.05
ROUND_OFF = 1e-12
# Target rows from which the extension of their weights is estimated.
EXTENSION_ROWS = 500


class DoubleKernelMeanMatching(MatchingWeighter):
    r"""Weights of source and target rows under which both have the same kernel mean.

    Reweighting the source alone fails where it is thin: a few huge weights.
    Here target rows may be weighted down as well, which marks those that the
    source cannot speak for. With :math:`r = 1 - 1/\sqrt D`,

    .. math:: \min_{\beta, \alpha} \Big\| \frac1n \sum_j \beta_j k(x_j, \cdot)
              - \frac1t \sum_i \alpha_i k(x^*_i, \cdot) \Big\|^2
              \quad \text{s.t.} \quad 0 \le \beta_j \le B / \sqrt D, \;
              0 \le \alpha_i \le 1, \; \|\alpha - 1\| \le r \sqrt t, \;
              \Big| \frac1n \sum_j \beta_j - \frac1t \sum_i \alpha_i \Big| \le \epsilon.

    D = 1 leaves the target alone and is kernel mean matching; D = inf leaves
    the source alone, the robust direction. The minimum is sharp but the
    minimiser is not: without a positive `alpha` quite different weights can
    match equally well.

    Parameters
    ----------
    D : float, default=4.0
        How far target weights may fall, from 1 (not at all) to infinity, where
        only they move. The mean of the target weights is at least 1/sqrt(D).
    bandwidth : float, array-like or {"knn50", "median", "scott", "silverman"}, default="knn50"
        Length of the kernel in units of X, or the rule that finds it on source
        and target together. "knn50" is the mean distance to the 50th nearest
        row, the row itself counted. Scale the columns first.
    kernel : {"rbf", "laplacian", "matern"}, default="rbf"
        The kernel; "rbf" is exp(-d^2 / (2 bandwidth^2)).
    max_weight : float, default=1000.0
        Cap on sqrt(D) times a source weight.
    mean_tolerance : float, default=None
        Largest difference of the mean source weight and the mean target
        weight; None is 1 - 1/sqrt(n), or 1 - 1/sqrt(t) for D = inf.
    alpha : float or "auto", default=0.0
        Ridge on the mean squared source weight plus that of the target
        weights; a positive value makes the weights unique. 0 is the method as
        published, "auto" is 0.1 (1/n + 1/t).
    exponent : float, default=1.0
        Power between 0 and 1 that flattens `weights_`: 0 gives equal weights.
    solver : {"auto", "exact", "gradient", "landmarks", "cvxpy"}, default="auto"
        "exact" is an active set method with the kernel matrix in memory, up to
        a thousand rows or two. "landmarks" approximates the kernel from
        `n_components` rows and scales to 1e5 rows and more. "gradient" is a
        projected gradient method on the whole matrix, "cvxpy" the slow plain
        formulation. "auto" is "exact" up to 400 rows in all (2000 weighted
        rows for D = 1 and D = inf), then "landmarks".
    n_components : int, default=400
        Number of landmarks.
    tol : float, default=0.05
        Gap at which to stop, as a share of the sampling noise 1/n + 1/t of the
        objective; solving further fits noise.
    max_iter : int, default=3000
        Largest number of iterations.
    certify : {"auto", "kernel", "landmarks"}, default="auto"
        Which problem the gap of "landmarks" is about: the one with the whole
        kernel, which takes one pass over it, or the approximated one. "auto"
        makes the pass up to 20000 rows in all.
    random_state : int, RandomState instance or None, default=None
        Seed of the draw of landmarks.

    Attributes
    ----------
    weights_ : ndarray of shape (n_samples,)
        Source weights with mean one, sampling weights included.
    raw_weights_ : ndarray of shape (n_samples,)
        beta times the sampling weights scaled to mean one, on the scale on
        which it matches `raw_target_weights_`.
    raw_target_weights_ : ndarray of shape (n_target_,)
        alpha, between 0 and 1.
    ess_ : float
        Effective sample size of `weights_`.
    objective_ : float
        Squared discrepancy left, ridge included.
    optimality_gap_ : float
        Certified distance of `objective_` from the minimum, relative to
        1/n + 1/t because the minimum itself may be zero.
    solver_result_ : SolverResult
        Of the solver; its `x` are the shares [beta_j / n, alpha_i / t].
    n_iter_ : int
        Iterations taken.
    bandwidth_ : float, ndarray of shape (n_features,) or None
        Length used; None without target rows.
    n_target_ : int
        Number of target rows.
    n_features_in_ : int
        Number of columns.
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Their names, when X has string column names.

    References
    ----------
    Segovia-Martin, J. I., Mazuelas, S., Liu, A. (2023). Double-weighting for
    covariate shift adaptation. ICML, PMLR 202, 30439-30457.

    Examples
    --------
    >>> import numpy as np
    >>> from shift import DoubleKernelMeanMatching
    >>> rng = np.random.default_rng(0)
    >>> X, X_target = rng.uniform(0, 1, (200, 1)), rng.uniform(0.5, 1.5, (100, 1))
    >>> weighter = DoubleKernelMeanMatching(D=4, bandwidth=0.2, alpha="auto")
    >>> weighter.fit(X, X_target=X_target).predict_target_weights([[0.6], [1.4]]).round(1)
    array([1. , 0.2])
    """

    _parameter_constraints = {
        "D": [Interval(Real, 1, None, closed="both")],
        **MatchingWeighter._parameter_constraints,
    }

    def __init__(
        self,
        D: float = 4.0,
        *,
        bandwidth: float | ArrayLike | str = "knn50",
        kernel: str = "rbf",
        max_weight: float = 1000.0,
        mean_tolerance: float | None = None,
        alpha: float | str = 0.0,
        exponent: float = 1.0,
        solver: str = "auto",
        n_components: int = 400,
        tol: float = 0.05,
        max_iter: int = 3000,
        certify: str = "auto",
        random_state: Any = None,
    ) -> None:
        self.D = D
        self.bandwidth = bandwidth
        self.kernel = kernel
        self.max_weight = max_weight
        self.mean_tolerance = mean_tolerance
        self.alpha = alpha
        self.exponent = exponent
        self.solver = solver
        self.n_components = n_components
        self.tol = tol
        self.max_iter = max_iter
        self.certify = certify
        self.random_state = random_state

    def _fit_ratio(
        self, X: NDArray, X_target: NDArray, share: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        matching = self._match(X, X_target, share, self.D)
        self.raw_target_weights_ = matching.target
        self._extension = _TargetWeights(self._problem, matching)
        unsupported = float((matching.target < NO_SUPPORT).mean())
        if unsupported > 0.5:
            warn_weights(
                f"{type(self).__name__}: {unsupported:.0%} of the target rows have weights below "
                f"{NO_SUPPORT:g}, so source and target overlap little; use a smaller D or a "
                "larger bandwidth, or collect source rows where the target is"
            )
        return matching.source

    def _fit_no_shift(self, X: NDArray) -> None:
        super()._fit_no_shift(X)
        self.raw_target_weights_ = np.zeros(0)

    def predict_target_weights(self, X: Any) -> NDArray[np.float64]:
        """Target weights of new rows, on the scale of `raw_target_weights_`.

        Where the bound on the target weights is active, stationarity makes
        them the function clip(1 + c f(x), 0, 1) of the difference f of the two
        weighted kernel means, with one constant c.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            New rows of the target.

        Returns
        -------
        ndarray of shape (n_samples,)
            Between 0 and 1; one without target rows in `fit`.
        """
        check_is_fitted(self, "weights_")
        X = validate_features(self, X, reset=False)
        return self._extension(X) if self._has_target else np.ones(len(X))


class _TargetWeights:
    """Target weights as a function of the row."""

    def __init__(self, problem: MatchingProblem, matching: Matching) -> None:
        shares = problem.feasible.signs * matching.result.x
        carrying = shares != 0
        self.rows, self.shares = problem.rows[carrying], shares[carrying]
        self.kernel, self.bandwidth = problem.kernel, problem.bandwidth
        self.D, self.X_target, self.target = problem.D, problem.X_target, matching.target
        self.slope, self.intercept, self.level = None, -problem.alpha, ROUND_OFF
        interior = (self.target > INTERIOR) & (self.target < 1 - INTERIOR)
        if problem.D > 1 and interior.any():
            interior = np.flatnonzero(interior)
            interior = interior[:: max(len(interior) // EXTENSION_ROWS, 1)]
            f = self._witness(self.X_target[interior])
            # Interior rows without a ball have equal means of both kernels, but for the gap.
            self.level = max(float(np.abs(f).max()), ROUND_OFF)
            if np.isfinite(problem.D):
                self._estimate_slope(problem, matching, f, self.target[interior] - 1)

    def _witness(self, X: NDArray) -> NDArray[np.float64]:
        return kernel_matvec(X, self.rows, self.shares, self.kernel, self.bandwidth)

    def _estimate_slope(
        self, problem: MatchingProblem, matching: Matching, f: NDArray, drop: NDArray
    ) -> None:
        difference = abs(problem.feasible.difference(matching.result.x))
        if difference >= problem.mean_tolerance * (1 - 1e-6) and len(f) > 1:
            # The price of the bound on the means shifts the witness by a constant.
            slope, offset = np.polyfit(f, drop, 1)
            if slope > 0:
                self.slope, self.intercept = float(slope), float(offset / slope)
            return
        f = f + self.intercept
        slope = float(f @ drop) / max(float(f @ f), np.finfo(float).tiny)
        if slope > 0:
            self.slope = slope

    def __call__(self, X: NDArray) -> NDArray[np.float64]:
        if self.D == 1:
            return np.ones(len(X))
        f = self._witness(X)
        if self.slope is not None:
            return np.clip(1.0 + self.slope * (f + self.intercept), 0.0, 1.0)
        nearest = self.target[cKDTree(self.X_target).query(X)[1]]
        if np.isinf(self.D):
            return np.where(f > self.level, 1.0, np.where(f < -self.level, 0.0, nearest))
        return np.where(f >= -ROUND_OFF, 1.0, nearest)

"""Kernel mean matching for a continuous outcome that moved."""

from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.linalg import cho_factor, cho_solve
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import Interval, StrOptions

from reweight.kernels.bandwidth import resolve_bandwidth
from reweight.kernels.kernel_sums import kernel_matrix, kernel_matvec, kernel_mean
from reweight.kernels.landmarks import choose_landmarks, landmark_features, landmark_projection
from reweight.solvers.result import SolverResult
from reweight.validation import warn_user
from shift.target._target_shift_weighter import TargetShiftWeighter

Array = NDArray[np.float64]

# The kernel of one outcome has numerical rank of a few dozens, which as many landmarks reach.
OUTCOME_LANDMARKS = 400
RANK_TOLERANCE = 1e-10
MOST_ROWS = 20_000
MEDIAN_ROWS = 1000
GAP_TOLERANCE = 1e-6


class TargetKernelMeanMatching(TargetShiftWeighter):
    r"""Weights of the outcome that match the kernel mean of the target's features.

    The mean of the features given the outcome, in the space of a Gaussian
    kernel, is estimated by kernel ridge regression. Averaged over the source
    with weights w(y) it is to come near the mean of the target:

    .. math:: \min_w \Big\| \frac1n \sum_i w(y_i)\, \hat\mu(y_i)
              - \frac1m \sum_j k(\tilde x_j, \cdot) \Big\|^2
              \quad \text{s.t.} \quad 0 \le w(y_i) \le B, \;
              \Big| \frac1n \sum_i w(y_i) - 1 \Big| \le \epsilon,

    over w that are smooth in y: sums of the eigenfunctions of a Gaussian
    kernel that are numerically different from zero.

    Parameters
    ----------
    bandwidth_x : float, array-like or {"median", "scott", "silverman", "knn50"}, default="median"
        Length of the kernel of the features; rules look at both samples.
    bandwidth_y : float or {"median", "scott", "silverman", "knn50"}, default="median"
        Length of the kernel of the outcome.
    alpha : float, default=0.01
        Ridge of the regression, for kernels that are one at distance zero.
    max_weight : float, default=10.0
        Cap B on the weights.
    mean_tolerance : float, default=None
        Largest distance epsilon of the mean weight from one; None is
        max_weight / (4 sqrt(n)).
    n_components : int, default=None
        Number of landmarks that stand for the kernel of the features, which
        makes the cost linear in the rows; None takes the kernel itself, for
        up to 20000 rows.
    max_iter : int, default=200
        Largest number of iterations.
    random_state : int, RandomState instance or None, default=0
        Seed of landmarks and of rules that look at some rows.

    Attributes
    ----------
    weights_ : ndarray of shape (n_samples,)
        Mean one, sampling weights included.
    raw_weights_ : ndarray of shape (n_samples,)
        The solution, whose mean differs from one by up to `mean_tolerance`,
        times the sampling weights scaled to mean one.
    ess_ : float
        Effective sample size of `weights_`.
    coef_ : ndarray of shape (n_eigenfunctions,) or None
        Coefficients of the eigenfunctions; None without target rows, as all below.
    objective_ : float or None
        1/2 w'Aw - (n/m) 1'Kc Om'w with A = Om K Om', Om = L (L + alpha I)^-1,
        L the kernel of the outcome, K and Kc those of the features.
    bandwidth_x_ : float, ndarray of shape (n_features,) or None
        Length used.
    bandwidth_y_ : float or None
        Length used.
    solver_result_ : SolverResult
        Of the quadratic program.
    optimality_gap_ : float
        Its duality gap, relative to the size of the objective.
    n_iter_ : int
        Iterations taken.
    n_target_ : int
        Number of target rows.
    n_features_in_ : int
        Number of columns.
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Their names, when X has string column names.

    See Also
    --------
    ReTaSA : Solves an integral equation; faster, and for many rows.

    References
    ----------
    Zhang, K., Schoelkopf, B., Muandet, K., Wang, Z. (2013). Domain adaptation
    under target and conditional shift. ICML.

    Examples
    --------
    >>> from shift import TargetKernelMeanMatching, make_target_shift
    >>> study = make_target_shift(300, random_state=0)
    >>> weighter = TargetKernelMeanMatching().fit(study.X, study.y, X_target=study.X_target)
    >>> float(abs(weighter.weights_ @ study.y / 300 - study.y_target.mean())) < 0.3
    True
    """

    _parameter_constraints = {
        "bandwidth_x": [
            Interval(Real, 0, None, closed="neither"),
            StrOptions({"median", "scott", "silverman", "knn50"}),
            "array-like",
        ],
        "bandwidth_y": [
            Interval(Real, 0, None, closed="neither"),
            StrOptions({"median", "scott", "silverman", "knn50"}),
        ],
        "alpha": [Interval(Real, 0, None, closed="neither")],
        "max_weight": [Interval(Real, 0, None, closed="neither")],
        "mean_tolerance": [Interval(Real, 0, None, closed="left"), None],
        "n_components": [Interval(Integral, 1, None, closed="left"), None],
        "max_iter": [Interval(Integral, 1, None, closed="left")],
        "random_state": ["random_state"],
    }

    def __init__(
        self,
        bandwidth_x: float | ArrayLike | str = "median",
        bandwidth_y: float | str = "median",
        *,
        alpha: float = 0.01,
        max_weight: float = 10.0,
        mean_tolerance: float | None = None,
        n_components: int | None = None,
        max_iter: int = 200,
        random_state: Any = 0,
    ) -> None:
        self.bandwidth_x = bandwidth_x
        self.bandwidth_y = bandwidth_y
        self.alpha = alpha
        self.max_weight = max_weight
        self.mean_tolerance = mean_tolerance
        self.n_components = n_components
        self.max_iter = max_iter
        self.random_state = random_state

    def _fit_ratio(self, X: Array, y: Array, X_target: Array, share: Array) -> None:
        name, n = type(self).__name__, len(y)
        if self.n_components is None and n > MOST_ROWS:
            raise ValueError(
                f"{name}: {n} rows make kernels of {n} x {n}, of at most {MOST_ROWS}; pass "
                "n_components=200 for landmarks, or use ReTaSA(solver='binned')"
            )
        tolerance = self.mean_tolerance
        if tolerance is None:
            tolerance = self.max_weight / (4.0 * np.sqrt(n))
        if self.max_weight < 1.0 - tolerance:
            raise ValueError(
                f"{name}: max_weight={self.max_weight:g} keeps the mean weight further than "
                f"mean_tolerance={tolerance:.3g} below one; raise one of them"
            )
        rng = check_random_state(self.random_state)
        self._set_bandwidths(X, y, X_target, rng)
        count = share * n
        basis = self._basis(y)
        # The mean features of the weighted source are sum_i v_i k(x_i, .), v = embed @ c.
        embed = self._embedding(y, basis, count)
        hessian, linear = self._moments(X, X_target, embed, rng)
        result = _bounded_program(
            hessian, linear, basis, count, self.max_weight, tolerance, self.max_iter
        )
        self.solver_result_, self.coef_ = result, result.x
        self.objective_, self.optimality_gap_ = result.objective, result.optimality_gap
        self.n_iter_ = result.n_iter
        if not result.converged:
            warn_user(
                f"{name}: the quadratic program stopped after {result.n_iter} iterations at a "
                f"relative gap of {result.optimality_gap:.2g}; raise max_iter={self.max_iter} or "
                f"alpha",
                ConvergenceWarning,
            )

    def _set_bandwidths(
        self, X: Array, y: Array, X_target: Array, rng: np.random.RandomState
    ) -> None:
        try:
            self.bandwidth_x_ = resolve_bandwidth(
                np.concatenate([X, X_target]), self.bandwidth_x, MEDIAN_ROWS, rng
            )
            length = resolve_bandwidth(y[:, None], self.bandwidth_y, MEDIAN_ROWS, rng)
        except ValueError as error:
            raise ValueError(f"{type(self).__name__}: {error}") from error
        self.bandwidth_y_ = float(np.ravel(length)[0])

    def _basis(self, y: Array) -> Array:
        """Orthonormal eigenfunctions of the kernel of the outcome at the rows."""
        landmarks = np.unique(y)
        if len(landmarks) > OUTCOME_LANDMARKS:
            landmarks = np.quantile(landmarks, np.linspace(0, 1, OUTCOME_LANDMARKS))
        self._landmarks = landmarks[:, None]
        projection = landmark_projection(
            self._landmarks, "rbf", self.bandwidth_y_, rank_tol=RANK_TOLERANCE
        )
        triangle = np.linalg.qr(self._kernel(y) @ projection, mode="r")
        # Rows of equal outcome are to get bitwise equal weights, as new rows of it do.
        self._projection = projection @ np.linalg.pinv(triangle)
        return self._kernel(y) @ self._projection

    def _kernel(self, y: Array) -> Array:
        return kernel_matrix(y[:, None], self._landmarks, "rbf", self.bandwidth_y_)

    def _embedding(self, y: Array, basis: Array, count: Array) -> Array:
        """(L + alpha S^-1)^-1 L S basis, S the diagonal of sampling weights."""
        features = landmark_features(
            y[:, None], self._landmarks, "rbf", self.bandwidth_y_, rank_tol=RANK_TOLERANCE
        )
        gram = (features * count[:, None]).T @ features
        factor = cho_factor(gram + self.alpha * np.eye(len(gram)))
        return count[:, None] * (
            features @ cho_solve(factor, features.T @ (count[:, None] * basis))
        )

    def _moments(
        self, X: Array, X_target: Array, embed: Array, rng: np.random.RandomState
    ) -> tuple[Array, Array]:
        """Quadratic and linear term of the objective."""
        h = self.bandwidth_x_
        if self.n_components is None:
            hessian = embed.T @ kernel_matvec(X, X, embed, "rbf", h)
            return 0.5 * (hessian + hessian.T), len(X) * (
                embed.T @ kernel_mean(X, X_target, None, "rbf", h)
            )
        rows = np.concatenate([X, X_target])
        landmarks = choose_landmarks(rows, self.n_components, random_state=rng)
        means = embed.T @ landmark_features(X, landmarks, "rbf", h)
        target = landmark_features(X_target, landmarks, "rbf", h).mean(axis=0)
        return means @ means.T, len(X) * (means @ target)

    def _ratio(self, y: Array) -> Array:
        return self._kernel(y) @ (self._projection @ self.coef_)

    def _fit_no_shift(self, X: Array, y: Array, s: Array) -> None:
        self.coef_ = self.objective_ = self.bandwidth_x_ = self.bandwidth_y_ = None
        self.optimality_gap_, self.n_iter_ = 0.0, 0
        self.solver_result_ = SolverResult(
            np.ones(len(y)), None, 0.0, 0.0, "duality_gap", 0, True, "none"
        )


@dataclass(frozen=True)
class _Attempt:
    x: Array
    dual: Array
    n_iter: int


def _bounded_program(
    hessian: Array,
    linear: Array,
    basis: Array,
    count: Array,
    max_weight: float,
    mean_tolerance: float,
    max_iter: int,
) -> SolverResult:
    """Minimise 1/2 c'Qc - q'c over few coefficients c of bounded weights `basis` @ c.

    An interior point method (Clarabel) on the few coefficients with the bounds
    of all rows as inequalities. The certificate is our own: any non-negative
    multipliers bound the minimum from below.
    """
    n = len(basis)
    total = count @ basis
    A = np.vstack([-basis, basis, -total / n, total / n])
    b = np.concatenate(
        [np.zeros(n), np.full(n, max_weight), [mean_tolerance - 1.0, mean_tolerance + 1.0]]
    )
    size = np.abs(hessian).max()
    attempt = _clarabel(hessian / size, linear / size, A, b, max_iter)
    c, multipliers = attempt.x, np.maximum(attempt.dual, 0.0) * size
    value = 0.5 * c @ hessian @ c - linear @ c
    # The unconstrained minimum of the Lagrangian, over directions that the objective sees.
    slope = linear - A.T @ multipliers
    lowest = np.linalg.lstsq(hessian, slope, rcond=1e-14)[0]
    bound = 0.5 * lowest @ hessian @ lowest - slope @ lowest - b @ multipliers
    scale = 0.5 * c @ hessian @ c + abs(linear @ c)
    gap = float(max(value - bound, 0.0) / scale)
    return SolverResult(
        c,
        multipliers,
        float(value),
        gap,
        "duality_gap",
        attempt.n_iter,
        gap < GAP_TOLERANCE,
        "clarabel",
    )


def _clarabel(P: Array, q: Array, A: Array, b: Array, max_iter: int) -> _Attempt:
    import clarabel
    from scipy.sparse import csc_matrix, triu

    settings = clarabel.DefaultSettings()
    settings.verbose = False
    settings.max_iter = max_iter
    settings.tol_gap_abs = settings.tol_gap_rel = settings.tol_feas = 1e-10
    solution = clarabel.DefaultSolver(
        triu(csc_matrix(P), format="csc"),
        -q,
        csc_matrix(A),
        b,
        [clarabel.NonnegativeConeT(len(b))],
        settings,
    ).solve()
    return _Attempt(np.asarray(solution.x), np.asarray(solution.z), int(solution.iterations))

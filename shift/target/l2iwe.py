"""Weights of a continuous outcome by least squares between densities of the features."""

from dataclasses import dataclass, replace
from numbers import Integral, Real
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_factor, cho_solve
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import Interval, StrOptions

from reweight.kernels.kernel_sums import kernel_matrix, kernel_mean
from reweight.solvers.dense_qp import dense_qp
from reweight.solvers.result import SolverResult
from reweight.validation import warn_user
from shift.target._target_shift_weighter import TargetShiftWeighter

Array = NDArray[np.float64]

# In standard deviations, as the data are standardised.
BANDWIDTH_GRID = np.logspace(-1.5, 1.5, 9)
ALPHA_GRID = np.logspace(-3, 1, 9)
TOLERANCE = 1e-8
LEAST_UNIT = 1e-10


@dataclass(frozen=True)
class _Sample:
    X: Array
    y: Array
    share: Array
    X_target: Array
    centers_x: Array
    centers_y: Array

    def rows(self, source: NDArray[np.bool_], target: NDArray[np.bool_]) -> "_Sample":
        share = self.share[source] / self.share[source].sum()
        return replace(
            self, X=self.X[source], y=self.y[source], share=share, X_target=self.X_target[target]
        )

    def target_means(self, bandwidth: float) -> Array:
        """u: means of the witness functions over the target."""
        return kernel_mean(self.centers_x, self.X_target, None, "rbf", bandwidth)

    def source_means(self, bandwidth: float) -> Array:
        """Their means over the source."""
        return kernel_mean(self.centers_x, self.X, self.share, "rbf", bandwidth)

    def cross_means(self, bandwidth_x: float, bandwidth_y: float) -> Array:
        """V: means over the source of witness functions times weight functions."""
        psi = kernel_matrix(self.centers_x, self.X, "rbf", bandwidth_x)
        return (psi * self.share) @ self.weight_functions(self.y, bandwidth_y)

    def weight_functions(self, y: Array, bandwidth: float) -> Array:
        """phi_k at outcomes."""
        return kernel_matrix(y[:, None], self.centers_y[:, None], "rbf", bandwidth)

    def overlaps(self, bandwidth: float) -> Array:
        """U: integrals of products of two witness functions."""
        d = self.centers_x.shape[1]
        wide = np.sqrt(2.0) * bandwidth
        return (np.sqrt(np.pi) * bandwidth) ** d * kernel_matrix(
            self.centers_x, self.centers_x, "rbf", wide
        )


class L2IWE(TargetShiftWeighter):
    r"""Weights w(y) = sum_k a_k phi_k(y) that bring densities of the features together.

    With Gaussians phi around source outcomes and a >= 0, the squared distance

    .. math:: \int \Big( p_t(x) - \int w(y)\, p_s(x, y)\, dy \Big)^2 dx

    is estimated through its best witness function, a sum of Gaussians around
    rows of both samples, and minimised with a ridge on the coefficients and
    weights of mean one. It needs the features to follow the same distribution
    given the outcome in both samples. Meant for a few thousand rows and few
    features.

    Parameters
    ----------
    bandwidth_x : float or "cv", default="cv"
        Length of the witness functions, in standard deviations of the features
        if `standardize`.
    bandwidth_y : float or "cv", default="cv"
        Length of the weight functions, in standard deviations of the outcome.
    alpha : float or "cv", default="cv"
        Ridge on the coefficients of the weights.
    witness_alpha : float or "cv", default="cv"
        Ridge on those of the witness.
    n_components : int, default=100
        Number of weight functions; with no more distinct outcomes, one each.
    n_components_x : int, default=200
        Number of witness functions; with no more distinct rows, one each.
    standardize : bool, default=True
        Whether to divide by the standard deviations in the source.
    n_folds : int, default=5
        Number of folds. "cv" chooses the witness as that of the difference of
        the two samples, from 9 bandwidths times 9 ridges, then the weights by
        the distance of held-out rows under this one witness, from as many.
    random_state : int, RandomState instance or None, default=0
        Seed of centres and folds.

    Attributes
    ----------
    weights_ : ndarray of shape (n_samples,)
        Mean one, sampling weights included.
    raw_weights_ : ndarray of shape (n_samples,)
        The same before the last rounding to mean one.
    ess_ : float
        Effective sample size of `weights_`.
    coef_ : ndarray of shape (n_weight_functions,) or None
        Coefficients a; None without target rows, as all below.
    objective_ : float or None
        1/2 a'Ha - u'(U + witness_alpha I)^-1 V a, H with the ridge.
    best_params_ : dict or None
        Bandwidths and ridges used.
    cv_results_ : pandas.DataFrame or None
        Held-out distance of each pair of a `bandwidth_y` and an `alpha`, if
        there was a choice.
    solver_result_ : SolverResult
        Of the quadratic program.
    optimality_gap_ : float
        Its duality gap, relative to the objective.
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

    Notes
    -----
    The published criterion compares bandwidths and ridges of the witness by
    distances that each measures in its own metric, and is smallest where the
    witness sees nothing. Hence the two stages.

    References
    ----------
    Nguyen, T. D., Christoffel, M., Sugiyama, M. (2015). Continuous target shift
    adaptation in supervised learning. ACML.

    Sugiyama, M. et al. (2013). Density-difference estimation. Neural
    Computation, 25(10), 2734-2775.

    Examples
    --------
    >>> from shift import L2IWE, make_target_shift
    >>> study = make_target_shift(300, random_state=0)
    >>> weighter = L2IWE(bandwidth_x=0.3, bandwidth_y=0.3, alpha=0.01, witness_alpha=0.01)
    >>> weighter = weighter.fit(study.X, study.y, X_target=study.X_target)
    >>> float(abs(weighter.weights_ @ study.y / 300 - study.y_target.mean())) < 0.1
    True
    """

    _parameter_constraints = {
        "bandwidth_x": [Interval(Real, 0, None, closed="neither"), StrOptions({"cv"})],
        "bandwidth_y": [Interval(Real, 0, None, closed="neither"), StrOptions({"cv"})],
        "alpha": [Interval(Real, 0, None, closed="neither"), StrOptions({"cv"})],
        "witness_alpha": [Interval(Real, 0, None, closed="neither"), StrOptions({"cv"})],
        "n_components": [Interval(Integral, 1, None, closed="left")],
        "n_components_x": [Interval(Integral, 1, None, closed="left")],
        "standardize": ["boolean"],
        "n_folds": [Interval(Integral, 2, None, closed="left")],
        "random_state": ["random_state"],
    }

    def __init__(
        self,
        *,
        bandwidth_x: float | str = "cv",
        bandwidth_y: float | str = "cv",
        alpha: float | str = "cv",
        witness_alpha: float | str = "cv",
        n_components: int = 100,
        n_components_x: int = 200,
        standardize: bool = True,
        n_folds: int = 5,
        random_state: Any = 0,
    ) -> None:
        self.bandwidth_x = bandwidth_x
        self.bandwidth_y = bandwidth_y
        self.alpha = alpha
        self.witness_alpha = witness_alpha
        self.n_components = n_components
        self.n_components_x = n_components_x
        self.standardize = standardize
        self.n_folds = n_folds
        self.random_state = random_state

    def _fit_ratio(self, X: Array, y: Array, X_target: Array, share: Array) -> None:
        rng = check_random_state(self.random_state)
        X, X_target, y = self._standardized(X, X_target, y, share)
        rows = np.unique(np.concatenate([X, X_target]), axis=0)
        sample = _Sample(
            X,
            y,
            share,
            X_target,
            _draw(rows, self.n_components_x, rng),
            _draw(np.unique(y), self.n_components, rng),
        )
        n_folds = min(self.n_folds, len(y), len(X_target))
        folds = (
            rng.permutation(np.arange(len(y)) % n_folds),
            rng.permutation(np.arange(len(X_target)) % n_folds),
        )
        halves = [
            (
                sample.rows(folds[0] != fold, folds[1] != fold),
                sample.rows(folds[0] == fold, folds[1] == fold),
            )
            for fold in range(n_folds)
        ]
        witness = self._choose_witness(sample, halves)
        chosen = self._choose_weights(halves, *witness)
        self.best_params_ = dict(
            zip(
                ("bandwidth_x", "witness_alpha", "bandwidth_y", "alpha"),
                map(float, (*witness, *chosen)),
                strict=True,
            )
        )
        factor = _ridged(sample.overlaps(witness[0]), witness[1])
        program = _program(sample, factor, witness[0], chosen[0])
        self.solver_result_ = program.solve(chosen[1])
        self.coef_ = self.solver_result_.x
        self.objective_ = self.solver_result_.objective
        self.optimality_gap_ = self.solver_result_.optimality_gap
        self.n_iter_ = self.solver_result_.n_iter
        if not self.solver_result_.converged:
            warn_user(
                f"{type(self).__name__}: the quadratic program stopped at a relative gap of "
                f"{self.optimality_gap_:.2g}; use a larger alpha",
                ConvergenceWarning,
            )
        self._centers_y = sample.centers_y

    def _standardized(
        self, X: Array, X_target: Array, y: Array, share: Array
    ) -> tuple[Array, Array, Array]:
        """Data in standard deviations of the source."""
        self._scale_y = 1.0
        if not self.standardize:
            return X, X_target, y
        scale = np.sqrt(share @ (X - share @ X) ** 2)
        constant = np.flatnonzero(np.ptp(X, axis=0) == 0)
        if constant.size:
            labels = getattr(self, "feature_names_in_", np.arange(X.shape[1]))
            raise ValueError(
                f"{type(self).__name__}: columns {[str(labels[j]) for j in constant]} are constant "
                "in the source and cannot be standardised; drop them"
            )
        self._scale_y = float(np.sqrt(share @ (y - share @ y) ** 2))
        return X / scale, X_target / scale, y / self._scale_y

    def _choose_witness(self, sample: _Sample, halves: list) -> tuple[float, float]:
        """Bandwidth and ridge with which the difference of held-out samples is seen best."""
        bandwidths = _candidates(self.bandwidth_x, BANDWIDTH_GRID)
        alphas = _candidates(self.witness_alpha, ALPHA_GRID)
        if len(bandwidths) == len(alphas) == 1:
            return bandwidths[0], alphas[0]
        losses = np.zeros((len(bandwidths), len(alphas)))
        for i, bandwidth in enumerate(bandwidths):
            U = sample.overlaps(bandwidth)
            differences = [
                [half.target_means(bandwidth) - half.source_means(bandwidth) for half in pair]
                for pair in halves
            ]
            for j, alpha in enumerate(alphas):
                factor = _ridged(U, alpha)
                for train, test in differences:
                    theta = cho_solve(factor, train)
                    losses[i, j] += theta @ U @ theta - 2.0 * theta @ test
        i, j = np.unravel_index(np.argmin(losses), losses.shape)
        return bandwidths[i], alphas[j]

    def _choose_weights(
        self, halves: list, bandwidth_x: float, witness_alpha: float
    ) -> tuple[float, float]:
        """Bandwidth and ridge of the weights with which held-out densities come closest."""
        import pandas as pd

        self.cv_results_ = None
        bandwidths = _candidates(self.bandwidth_y, BANDWIDTH_GRID)
        alphas = _candidates(self.alpha, ALPHA_GRID)
        if len(bandwidths) == len(alphas) == 1:
            return bandwidths[0], alphas[0]
        factor = _ridged(halves[0][0].overlaps(bandwidth_x), witness_alpha)
        results = []
        for bandwidth in bandwidths:
            held_out = [
                (
                    _program(train, factor, bandwidth_x, bandwidth),
                    test.target_means(bandwidth_x),
                    test.cross_means(bandwidth_x, bandwidth),
                )
                for train, test in halves
            ]
            for alpha in alphas:
                loss = 0.0
                for program, u, V in held_out:
                    gap = u - V @ program.solve(alpha).x
                    loss += 0.5 * gap @ cho_solve(factor, gap) / len(halves)
                results.append({"bandwidth_y": bandwidth, "alpha": alpha, "mean_loss": loss})
        self.cv_results_ = pd.DataFrame(results)
        best = self.cv_results_.loc[self.cv_results_["mean_loss"].idxmin()]
        return float(best["bandwidth_y"]), float(best["alpha"])

    def _ratio(self, y: Array) -> Array:
        bandwidth = self.best_params_["bandwidth_y"]
        functions = kernel_matrix(
            y[:, None] / self._scale_y, self._centers_y[:, None], "rbf", bandwidth
        )
        return functions @ self.coef_

    def _fit_no_shift(self, X: Array, y: Array, s: Array) -> None:
        self.coef_ = self.objective_ = self.best_params_ = self.cv_results_ = None
        self.optimality_gap_, self.n_iter_ = 0.0, 0
        self.solver_result_ = SolverResult(
            np.ones(len(y)), None, 0.0, 0.0, "duality_gap", 0, True, "none"
        )


def _candidates(value: float | str, grid: Array) -> list[float]:
    return grid.tolist() if value == "cv" else [float(value)]


def _draw(rows: Array, n_rows: int, rng: np.random.RandomState) -> Array:
    """All rows in order, or as many as asked for."""
    if len(rows) <= n_rows:
        return rows
    return rows[np.sort(rng.choice(len(rows), n_rows, replace=False))]


def _ridged(U: Array, alpha: float) -> tuple[Array, bool]:
    return cho_factor(U + alpha * np.eye(len(U)))


@dataclass(frozen=True)
class _Program:
    """The quadratic program over coefficients, but for their ridge.

    In units of what each function adds to the mean weight, coefficients sum to
    one. Functions that reach no row add nothing, and are left out.
    """

    hessian: Array
    linear: Array
    unit: Array
    used: NDArray[np.bool_]

    def solve(self, alpha: float) -> SolverResult:
        """Coefficients a >= 0 of weights of mean one."""
        result = dense_qp(
            self.hessian,
            self.linear,
            lower=0.0,
            total=1.0,
            diagonal=alpha / self.unit**2,
            tol=TOLERANCE,
        )
        a = np.zeros(len(self.used))
        a[self.used] = np.maximum(result.x, 0.0) / self.unit
        return replace(result, x=a)


def _program(
    sample: _Sample, factor: tuple[Array, bool], bandwidth_x: float, bandwidth_y: float
) -> _Program:
    V = sample.cross_means(bandwidth_x, bandwidth_y)
    solved = cho_solve(factor, V)
    hessian, linear = V.T @ solved, solved.T @ sample.target_means(bandwidth_x)
    unit = sample.share @ sample.weight_functions(sample.y, bandwidth_y)
    used = unit > LEAST_UNIT * unit.max()
    unit = unit[used]
    return _Program(
        hessian[np.ix_(used, used)] / np.outer(unit, unit), linear[used] / unit, unit, used
    )

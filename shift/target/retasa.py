"""Weights for a continuous outcome that moved, from a regularised integral equation."""

from collections.abc import Callable
from numbers import Integral, Real
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import HasMethods, Interval, StrOptions

from reweight.kernels.kernel_sums import kernel_smooth
from reweight.kernels.linear_binning import interpolate_1d
from reweight.solvers.result import SolverResult
from reweight.validation import warn_weights
from shift.target._retasa_checks import (
    check_sizes,
    choose_solver,
    warn_of_doubtful_fit,
    warn_of_doubtful_problem,
)
from shift.target._retasa_choice import choose_alpha, choose_bandwidth
from shift.target._retasa_features import FeatureMap
from shift.target._retasa_fitted import FittedReTaSA
from shift.target._retasa_resampling import (
    bootstrap_weights,
)
from shift.target._retasa_solve import interpolation_bound, solve, unexplained_share
from shift.target._retasa_system import Sample, System

Array = NDArray[np.float64]

ALPHA_GRID = np.logspace(-4, 0, 17)
# Errors of the grid below this share of the standard error, or of 0.05 without one, do not show.
GRID_ERROR_SHARE = 0.05
UNKNOWN_STANDARD_ERROR = 0.05
MAX_REFINEMENTS = 4


class ReTaSA(FittedReTaSA):
    r"""Weights w(y) = p_target(y) / p_source(y) of a continuous outcome that moved.

    The target has features only. If the features follow the same distribution
    given the outcome in both samples, w solves

    .. math:: \mathbb E_s[w(y) \mid x] = p_t(x) / p_s(x).

    With T the conditional mean on the left, T* that of functions of x given y,
    and eta the right-hand side minus one, rho = w - 1 is found by Tikhonov's
    method from (alpha I + T*T) rho = T* eta, conditional means and densities
    being estimated with Gaussian kernels.

    It is not for features that moved while the outcome given the features did
    not (covariate shift), for outcomes that the source never has, and can do
    little where features say little about the outcome.

    Parameters
    ----------
    alpha : float or "cv", default=0.01
        Strength of regularisation. "cv" chooses the largest value of
        `alpha_grid` that gives held-out features nearly the best density ratio;
        it helps where the target is as wide as the source, and costs up to a
        quarter of the accuracy elsewhere.
    bandwidth_x : float, array-like or {"scott", "silverman"}, default="scott"
        Length of the kernel of the features, one for each, in both samples.
    bandwidth_y : float or {"scott", "silverman"}, default="scott"
        Length of the kernel of the outcome.
    featurizer : regressor, callable or None, default=None
        Map of the features to at most three, which kernels need. The
        predictions of a regressor are cross-fitted: source rows are mapped by
        the model that has not seen them, target rows by one of the models. A
        callable maps rows to an array of shape (n_rows, d) as it is.
    featurizer_cv : int or cross-validation generator, default=5
        Folds for a regressor.
    solver : {"auto", "exact", "ygrid", "binned"}, default="auto"
        "exact" solves for every distinct outcome, up to 10000 of them. "ygrid"
        interpolates between equally spaced outcomes, at a cost quadratic in the
        rows. "binned" puts one or two features on a grid too, at a cost linear
        in the rows. "auto" is "exact" up to 1500 rows; beyond, or with
        `nonnegative="constrained"`, "binned" for one feature (for two as well
        where rows are many), else "ygrid".
    nonnegative : {"clip", "constrained"}, default="clip"
        "clip" sets negative weights to zero afterwards, as published.
        "constrained" solves over non-negative weights, from which a regression
        usually gains a little more; it needs the grid of "ygrid" or "binned".
    max_weight : float, default=None
        Cap on the weights of mean one, which are then scaled once more.
    grid_density : float, default=4
        Nodes of the grids in one bandwidth.
    check_grid : bool, default=False
        Whether to solve on finer grids until the error that interpolation
        makes is below a twentieth of the standard error (of 0.05 without
        resamples).
    alpha_grid : array-like of shape (n_alphas,), default=None
        Values for "cv"; None is 17 from 0.0001 to 1.
    alpha_rule_se : float, default=0.25
        How many standard errors from the best criterion "cv" goes for a larger
        alpha.
    n_folds : int, default=5
        Number of folds of source and target for "cv".
    n_resamples : int, default=0
        Number of bootstrap resamples of both samples for `weight_interval`;
        they keep alpha, bandwidths and features as they are.
    random_state : int, RandomState instance or None, default=None
        Seed of folds and resamples.
    n_jobs : int, default=None
        Number of jobs over folds and resamples, and of threads over rows; it
        does not change the result.
    verbose : int, default=0
        Whether to show progress bars.

    Attributes
    ----------
    weights_ : ndarray of shape (n_samples,)
        Mean one, sampling weights included.
    raw_weights_ : ndarray of shape (n_samples,)
        1 + rho, possibly negative, times the sampling weights scaled to mean one.
    ess_ : float
        Effective sample size of `weights_`.
    rho_ : ndarray of shape (n_samples,)
        The solution at each row, before clipping.
    eta_ : ndarray of shape (n_samples,)
        Ratio of feature densities minus one at each row; NaN where
        `sample_weight` is zero.
    grid_ : ndarray of shape (n_nodes,) or None
        Outcomes at equal distances; None without target rows, as all below.
    grid_weights_ : ndarray of shape (n_nodes,) or None
        Weights there, of mean one over the source.
    grid_stderr_ : ndarray of shape (n_nodes,) or None
        Their bootstrap standard errors, if there are resamples.
    alpha_ : float or None
        Strength of regularisation used.
    bandwidth_x_ : ndarray of shape (n_reduced_features,) or None
        Length of the kernel of the features.
    bandwidth_y_ : float or None
        Length of the kernel of the outcome.
    solver_ : str or None
        Solver used.
    residual_ : float or None
        Share of the mean square of eta that T rho does not explain.
    negative_mass_ : float or None
        Mean size of the negative weights that were clipped.
    cv_results_ : pandas.DataFrame or None
        Criterion of each alpha, if there was a choice.
    grid_error_bound_ : float or None
        Bound on the error of rho at the nodes, safe but far too large; 0 for
        "exact", None for "binned", where none is known.
    grid_error_estimate_ : float or None
        Largest error of rho at the nodes by Richardson's extrapolation, if
        `check_grid`.
    solver_result_ : SolverResult
        Of the solver; its `x` is rho at its own nodes.
    optimality_gap_ : float
        Largest residual of the linear system, relative to its right-hand side;
        for "constrained" of the optimality conditions.
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
    TargetKernelMeanMatching : Matches means of features in a kernel space.
    L2IWE : Least squares between densities.

    Notes
    -----
    In a cross-validated search `X_target` must be a 1-tuple; see `fit`.
    `Reweighted(estimator, ReTaSA())` is a regressor for the target, whose
    `score` weighs held-out rows of the source.

    References
    ----------
    Kim, H., Zhang, X., Zhao, J., Tian, Q. (2024). ReTaSA: a nonparametric
    functional estimation approach for addressing continuous target shift. ICLR.

    Darolles, S., Fan, Y., Florens, J.-P., Renault, E. (2011). Nonparametric
    instrumental regression. Econometrica, 79(5), 1541-1565.

    Examples
    --------
    >>> from shift import ReTaSA, make_target_shift
    >>> study = make_target_shift(500, random_state=0)
    >>> weighter = ReTaSA().fit(study.X, study.y, X_target=study.X_target)
    >>> float(abs(weighter.weights_ @ study.y / 500 - study.y_target.mean())) < 0.2
    True
    """

    _parameter_constraints = {
        "alpha": [Interval(Real, 0, None, closed="neither"), StrOptions({"cv"})],
        "bandwidth_x": [
            Interval(Real, 0, None, closed="neither"),
            StrOptions({"scott", "silverman"}),
            "array-like",
        ],
        "bandwidth_y": [
            Interval(Real, 0, None, closed="neither"),
            StrOptions({"scott", "silverman"}),
        ],
        "featurizer": [HasMethods(["fit", "predict"]), callable, None],
        "featurizer_cv": ["cv_object"],
        "solver": [StrOptions({"auto", "exact", "ygrid", "binned"})],
        "nonnegative": [StrOptions({"clip", "constrained"})],
        "max_weight": [Interval(Real, 0, None, closed="neither"), None],
        "grid_density": [Interval(Real, 0, None, closed="neither")],
        "check_grid": ["boolean"],
        "alpha_grid": ["array-like", None],
        "alpha_rule_se": [Interval(Real, 0, None, closed="left")],
        "n_folds": [Interval(Integral, 2, None, closed="left")],
        "n_resamples": [Interval(Integral, 0, None, closed="left")],
        "random_state": ["random_state"],
        "n_jobs": [Integral, None],
        "verbose": ["verbose"],
    }

    def __init__(
        self,
        alpha: float | str = 0.01,
        *,
        bandwidth_x: float | ArrayLike | str = "scott",
        bandwidth_y: float | str = "scott",
        featurizer: Any | Callable[[Array], ArrayLike] | None = None,
        featurizer_cv: Any = 5,
        solver: str = "auto",
        nonnegative: str = "clip",
        max_weight: float | None = None,
        grid_density: float = 4,
        check_grid: bool = False,
        alpha_grid: ArrayLike | None = None,
        alpha_rule_se: float = 0.25,
        n_folds: int = 5,
        n_resamples: int = 0,
        random_state: Any = None,
        n_jobs: int | None = None,
        verbose: int = 0,
    ) -> None:
        self.alpha = alpha
        self.bandwidth_x = bandwidth_x
        self.bandwidth_y = bandwidth_y
        self.featurizer = featurizer
        self.featurizer_cv = featurizer_cv
        self.solver = solver
        self.nonnegative = nonnegative
        self.max_weight = max_weight
        self.grid_density = grid_density
        self.check_grid = check_grid
        self.alpha_grid = alpha_grid
        self.alpha_rule_se = alpha_rule_se
        self.n_folds = n_folds
        self.n_resamples = n_resamples
        self.random_state = random_state
        self.n_jobs = n_jobs
        self.verbose = verbose

    @property
    def _cap(self) -> float | None:
        return self.max_weight

    def _fit_ratio(self, X: Array, y: Array, X_target: Array, share: Array) -> None:
        rng = check_random_state(self.random_state)
        sample = self._reduce(X, y, X_target, share, rng)
        self.solver_ = choose_solver(self, sample)
        check_sizes(self, sample, self.solver_, self.grid_density)
        warn_of_doubtful_problem(self, sample)
        # Resamples and folds need speed more than the last digit.
        d = sample.z.shape[1]
        self._fast_solver = "binned" if d == 1 or (d == 2 and len(y) > 1500) else "ygrid"
        self._resample_seed = rng.randint(2**31 - 1)
        self._sample = sample
        self._choose_alpha(sample, rng)
        system = sample.system(self.solver_, self.grid_density)
        self._solve(sample, system)
        self._bootstrap(sample)
        if self.check_grid:
            self._refine(sample)
        warn_of_doubtful_fit(self, self._outside)

    def _reduce(
        self, X: Array, y: Array, X_target: Array, share: Array, rng: np.random.RandomState
    ) -> Sample:
        """Features for the kernels, and the lengths of these."""
        name = type(self).__name__
        self._feature_map = FeatureMap(self.featurizer, name)
        z, z_target = self._feature_map.fit(
            X,
            y,
            X_target,
            share,
            cv=self.featurizer_cv,
            rng=rng,
            n_jobs=self.n_jobs,
            verbose=self.verbose,
        )
        labels = [str(column) for column in range(z.shape[1])]
        if self.featurizer is None:
            labels = [str(label) for label in getattr(self, "feature_names_in_", labels)]
        self.bandwidth_x_ = choose_bandwidth(z, share, self.bandwidth_x, labels, name)
        self.bandwidth_y_ = float(
            choose_bandwidth(y[:, None], share, self.bandwidth_y, ["y"], name)[0]
        )
        target_share = np.full(len(z_target), 1.0 / len(z_target))
        return Sample(
            z,
            y,
            share,
            z_target,
            target_share,
            self.bandwidth_x_,
            self.bandwidth_y_,
            n_jobs=self.n_jobs,
        )

    def _choose_alpha(self, sample: Sample, rng: np.random.RandomState) -> None:
        self.cv_results_ = None
        if self.alpha != "cv":
            self.alpha_ = float(self.alpha)
            return
        alphas = ALPHA_GRID
        if self.alpha_grid is not None:
            alphas = np.asarray(self.alpha_grid, dtype=np.float64).ravel()
            if not (alphas.size and np.isfinite(alphas).all() and (alphas > 0).all()):
                raise ValueError(
                    f"{type(self).__name__}: alpha_grid must hold positive numbers, got "
                    f"{alphas.tolist()}"
                )
        self.alpha_, self.cv_results_ = choose_alpha(
            sample,
            self._fast_solver,
            self.grid_density,
            self.nonnegative,
            alphas,
            self.n_folds,
            self.alpha_rule_se,
            rng,
        )

    def _solve(self, sample: Sample, system: System) -> None:
        """Solve, and keep the weight function in the form that new outcomes need."""
        result = solve(system, self.alpha_, self.nonnegative)
        rho = result.x
        self.solver_result_ = result
        self.optimality_gap_, self.n_iter_ = result.optimality_gap, result.n_iter
        self._nodes, self._mass_y = system.nodes, system.mass_y
        self._extension = None
        if self.solver_ == "exact":
            unexplained = system.eta - system.smooth_x @ rho
            self._extension = sample.y[:, None], unexplained / self.alpha_, sample.share
        self._eta_of_kept = system.eta_of_row()
        self._outside = system.outside
        self._ratio_of_features = system.ratio_function(np.maximum(rho, -1.0))
        self.residual_ = unexplained_share(system, rho)
        self.negative_mass_ = float(system.mass_y @ np.maximum(-1.0 - rho, 0.0))
        self.grid_error_estimate_ = None
        self.grid_error_bound_ = 0.0 if self.solver_ == "exact" else None
        if self.solver_ == "ygrid":
            self.grid_error_bound_ = interpolation_bound(system, sample, rho, self.alpha_)

    def _bootstrap(self, sample: Sample) -> None:
        """Weight functions of resamples, as a band over equally spaced outcomes."""
        self.grid_ = sample.outcome_grid(self.grid_density)
        self.grid_stderr_ = self._draws = None
        if self.n_resamples:
            self._draws = bootstrap_weights(
                sample,
                self._settings,
                self.grid_,
                self.n_resamples,
                np.random.RandomState(self._resample_seed),
                self.n_jobs,
                self.verbose,
            )
            self.grid_stderr_ = self._draws.std(axis=0, ddof=1) if self.n_resamples > 1 else None

    def _refine(self, sample: Sample) -> None:
        """Halve the distance of nodes until interpolation does not show."""
        self.grid_error_estimate_ = 0.0
        if self.solver_ == "exact":
            return
        stderr = UNKNOWN_STANDARD_ERROR
        if self.grid_stderr_ is not None:
            density = self.source_density(self.grid_)
            stderr = float(density @ self.grid_stderr_ / density.sum())
        tolerance, density = GRID_ERROR_SHARE * stderr, self.grid_density
        coarse_nodes, coarse_rho = self._nodes, self.solver_result_.x
        for _ in range(MAX_REFINEMENTS):
            density *= 2
            check_sizes(self, sample, self.solver_, density)
            self._solve(sample, sample.system(self.solver_, density))
            # Every other of the new nodes need not be an old one, so compare by interpolation.
            change = np.interp(coarse_nodes, self._nodes, self.solver_result_.x) - coarse_rho
            coarse_nodes, coarse_rho = self._nodes, self.solver_result_.x
            # What is left after halving is a quarter of 4/3 of the change.
            self.grid_error_estimate_ = float(np.abs(change).max() / 3.0)
            if self.grid_error_estimate_ < tolerance:
                break
        else:
            warn_weights(
                f"{type(self).__name__}: at grid_density {density:g} the grid still makes errors "
                f"of about {self.grid_error_estimate_:.2g}, above {tolerance:.2g}; outcomes with "
                "few rows make them; use solver='exact' if n allows, or drop isolated outcomes"
            )
        self.grid_ = self._nodes

    def _ratio(self, y: Array) -> Array:
        if self._extension is not None:
            rows, values, share = self._extension
            smooth = kernel_smooth(
                y[:, None], rows, values, "rbf", self.bandwidth_y_, weights=share
            )
            return 1.0 + smooth
        return 1.0 + interpolate_1d(y, self._nodes, self.solver_result_.x)

    def _store(self, ratio: Array, s: Array) -> None:
        self.rho_ = ratio - 1.0
        self.eta_ = np.zeros(len(s))
        if self._has_target:
            self.eta_ = np.full(len(s), np.nan)
            self.eta_[s > 0] = self.__dict__.pop("_eta_of_kept")
        super()._store(ratio, s)
        if self._has_target:
            self.grid_weights_ = self._mean_one(self._ratio(self.grid_))

    def _fit_no_shift(self, X: Array, y: Array, s: Array) -> None:
        self.solver_ = self.alpha_ = self.bandwidth_x_ = self.bandwidth_y_ = None
        self.residual_ = self.negative_mass_ = self.cv_results_ = None
        self.grid_ = self.grid_weights_ = self.grid_stderr_ = self._draws = None
        self.grid_error_bound_ = self.grid_error_estimate_ = None
        self.optimality_gap_, self.n_iter_ = 0.0, 0
        self.solver_result_ = SolverResult(np.zeros(len(y)), None, 0.0, 0.0, "kkt", 0, True, "none")

    def __getstate__(self):
        # The rows serve the test of target shift and the default of `score`; a pickle does
        # without them.
        state = super().__getstate__()
        return {name: value for name, value in state.items() if name != "_sample"}

"""Kernel balancing."""

from numbers import Integral, Real
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import Interval, StrOptions

from causal._estimating_equations import EstimatingEquations
from causal.balancing._base import Arms, BalancingWeighter
from causal.balancing._basis import MomentBasis
from causal.balancing._dual import (
    BalanceTarget,
    DualFit,
    dual_equations,
    meet_or_relax,
    relative_weights,
)
from causal.balancing._kernel_chunks import fit_kernel_chunks
from causal.balancing._kernel_dual import DualSolver, LandmarkMap
from causal.balancing._kernel_exact import ExactSolver
from causal.balancing._kernel_space import KernelSpace, Standardizer, bandwidth_of_rows
from reweight.kernels.bandwidth import RULES
from reweight.kernels.chunks import row_slices
from reweight.kernels.kernel_sums import DECAYING_KERNELS, KERNELS, check_kernel
from reweight.kernels.landmarks import choose_landmarks
from reweight.validation import warn_weights

EXACT_ROWS = 4000
DEFAULT_COMPONENTS = 300
ALPHAS = (1e-1, 1e-2, 1e-3, 1e-4, 1e-5, 1e-6)
GOOD_SMD = 0.01


class KernelBalancing(BalancingWeighter):
    r"""Weights that balance all smooth functions of the covariates at once.

    Each arm that differs from the target population gets the weights

    .. math:: \min_w \; \sum_i q_i h(w_i / q_i) + \frac{1}{2\alpha} \,
              \mathrm{MMD}^2(w), \quad \sum_i w_i = 1,

    where the maximum mean discrepancy is the largest difference between the
    weighted mean of the arm and the mean of the target over all functions of
    unit norm in the space of the kernel, q are base weights and h is the
    divergence. Means of the covariates are balanced exactly besides, unless
    `exact_moments=0`. The "matern" kernel gives the functions of a Sobolev
    space, "energy" the energy distance.

    With `solver="landmarks"` the kernel is replaced by its features at a few
    landmarks, and the part that they miss by a ridge; the weights are then a
    function of the covariates, and the cost is linear in the rows.
    `solver="qp"` is exact and takes a few thousand rows.

    Parameters
    ----------
    estimand : {"ATE", "ATT", "ATC"}, default="ATT"
        Target population: all rows, the treated, or the controls.
    kernel : {"rbf", "laplacian", "matern", "energy", "linear", "polynomial"}, default="rbf"
        The kernel, on standardised covariates.
    kernel_params : dict, default=None
        Its own parameters: `nu` of "matern", `exponent` of "energy", `degree`
        and `coef0` of "polynomial".
    bandwidth : {"median", "scott", "silverman", "knn50"}, float or array-like, default="median"
        Length of the kernel in standardised units, or a rule that reads it off
        the rows; kernels without a length take rules as 1.
    divergence : {"kl", "chi2", "chi2_signed", "el"}, default="kl"
        Distance from the base weights: entropy, chi-square with or without
        non-negativity, or empirical likelihood.
    alpha : float or "auto", default=1e-4
        Strength of the pull towards the base weights, on the scale of the
        squared discrepancy. "auto" takes the largest of 0.1, 0.01, ..., 1e-6
        with standardised mean differences of at most 0.01 in the first
        functions that are not balanced exactly: squares and products of the
        covariates where `exact_moments=1`, the covariates where it is 0. No
        outcome is seen.
    exact_moments : int, default=1
        Highest power of the covariates whose means are balanced exactly; 0 for
        none.
    n_components : int or "auto", default="auto"
        Number of landmarks; "auto" is 300 or the number of rows. With as many
        as there are rows the landmark solver is exact too.
    solver : {"auto", "qp", "landmarks"}, default="auto"
        Exact quadratic program (for `divergence="chi2"`), or landmarks; "auto"
        takes the program up to 4000 rows.
    improved : bool, default=False
        For the ATE, add the discrepancy between the two arms, which couples
        their weights.
    standardize : {"std", "mahalanobis", "none"}, default="std"
        Unit variances, unit covariance matrix, or covariates as they are.
    tol : float, default=1e-8
        Relative duality gap ("qp"), or largest residual of the optimality
        conditions in standard units ("landmarks").
    max_iter : int, default=200
        Largest number of iterations.
    on_infeasible : {"raise", "relax", "warn"}, default="warn"
        When means cannot be balanced exactly: raise `InfeasibleError`, or
        balance them to 1.05 times the smallest feasible tolerance, with or
        without a warning.
    scoring : {"smd", "mmd"}, default="smd"
        What `score` is the negative of: the largest absolute standardised
        mean difference, or the maximum mean discrepancy under the kernel.
    random_state : int, RandomState instance or None, default=None
        Seed of landmarks, and of the rows that the bandwidth rule looks at
        where there are more than 2000.

    Attributes
    ----------
    weights_ : ndarray of shape (n_samples,)
        Mean one in each arm, sampling weights included. Not set when
        "chi2_signed" gives negative weights.
    raw_weights_ : ndarray of shape (n_samples,)
        The same, possibly negative.
    ess_ : ndarray of shape (2,)
        Effective sample size of the controls and of the treated.
    classes_ : ndarray of shape (2,)
        Label of the controls, label of the treated.
    alpha_ : float
        The strength used.
    bandwidth_ : float or ndarray
        The length used, in standardised units.
    landmarks_ : ndarray of shape (n_landmarks, n_standardized) or None
        Landmarks in standardised units; None for the exact program.
    solver_ : {"qp", "landmarks"}
        The solver used.
    mmd_ : dict
        By label of each weighted arm: the maximum mean discrepancy left; with
        landmarks that of the features and of the diagonal that they miss.
    dual_coef_ : dict or None
        By label of each weighted arm: coefficients of the moments, in units of
        the columns, then of the landmark features; None for the exact program.
    max_imbalance_ : float
        Largest absolute standardised mean difference left in the moments.
    relaxed_max_smd_ : float or None
        The tolerance used where means could not be balanced exactly.
    dropped_columns_ : list of str
        Moments that others determine.
    optimality_gap_ : float
        Largest over the arms of what `tol` bounds.
    solver_result_ : SolverResult
        Of the arm with the largest gap; `solver_results_` has all, by label.
    solver_results_ : dict
        By label of each weighted arm.
    converged_ : bool
        Whether every arm met `tol`.
    n_iter_ : int
        Iterations over the arms.
    estimand_ : str
        The estimand of the fit.
    n_features_in_ : int
        Number of covariates.
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Their names, when X has string column names.

    References
    ----------
    Hazlett, C. (2020). Kernel balancing: a flexible non-parametric weighting
    procedure for estimating causal effects. Statistica Sinica, 30(3).
    Kallus, N. (2020). Generalized optimal matching methods for causal
    inference. JMLR, 21(62).

    Examples
    --------
    >>> from causal import KernelBalancing, load_lalonde
    >>> lalonde = load_lalonde()
    >>> balancer = KernelBalancing("ATT", random_state=0).fit(lalonde.data, lalonde.treatment)
    >>> bool(balancer.max_imbalance_ < 1e-8)
    True
    """

    _parameter_constraints = {
        "estimand": [StrOptions({"ATE", "ATT", "ATC"})],
        "kernel": [StrOptions(set(KERNELS))],
        "kernel_params": [dict, None],
        "bandwidth": [
            StrOptions(set(RULES)),
            Interval(Real, 0, None, closed="neither"),
            "array-like",
        ],
        "divergence": [StrOptions({"kl", "chi2", "chi2_signed", "el"})],
        "alpha": [StrOptions({"auto"}), Interval(Real, 0, None, closed="left")],
        "exact_moments": [Interval(Integral, 0, None, closed="left")],
        "n_components": [StrOptions({"auto"}), Interval(Integral, 1, None, closed="left")],
        "solver": [StrOptions({"auto", "qp", "landmarks"})],
        "improved": ["boolean"],
        "standardize": [StrOptions({"std", "mahalanobis", "none"})],
        "tol": [Interval(Real, 0, None, closed="neither")],
        "max_iter": [Interval(Integral, 1, None, closed="left")],
        "on_infeasible": [StrOptions({"raise", "relax", "warn"})],
        "scoring": [StrOptions({"smd", "mmd"})],
        "random_state": ["random_state"],
    }

    def __init__(
        self,
        estimand: str = "ATT",
        *,
        kernel: str = "rbf",
        kernel_params: dict[str, Any] | None = None,
        bandwidth: str | float | ArrayLike = "median",
        divergence: str = "kl",
        alpha: float | str = 1e-4,
        exact_moments: int = 1,
        n_components: int | str = "auto",
        solver: str = "auto",
        improved: bool = False,
        standardize: str = "std",
        tol: float = 1e-8,
        max_iter: int = 200,
        on_infeasible: str = "warn",
        scoring: str = "smd",
        random_state: Any = None,
    ) -> None:
        self.estimand = estimand
        self.kernel = kernel
        self.kernel_params = kernel_params
        self.bandwidth = bandwidth
        self.divergence = divergence
        self.alpha = alpha
        self.exact_moments = exact_moments
        self.n_components = n_components
        self.solver = solver
        self.improved = improved
        self.standardize = standardize
        self.tol = tol
        self.max_iter = max_iter
        self.on_infeasible = on_infeasible
        self.scoring = scoring
        self.random_state = random_state

    def fit(
        self,
        X: Any,
        y: ArrayLike | None = None,
        *,
        treatment: ArrayLike | None = None,
        sample_weight: ArrayLike | None = None,
        base_weight: ArrayLike | None = None,
    ) -> "KernelBalancing":
        """Find the weights.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Covariates.
        y : array-like of shape (n_samples,), default=None
            The treatment, two-valued; ignored when `treatment` is given.
        treatment : array-like of shape (n_samples,), default=None
            The treatment, when `y` holds an outcome.
        sample_weight : array-like of shape (n_samples,), default=None
            Sampling weights; they change the target and the weights.
        base_weight : array-like of shape (n_samples,), default=None
            Weights to stay close to; they do not change the target.

        Returns
        -------
        KernelBalancing

        Raises
        ------
        InfeasibleError
            If means cannot be balanced exactly and `on_infeasible="raise"`.
        ValueError
            If the input is not two arms of finite numbers, or parameters do
            not go together.
        """
        arms = self._validate_arms(X, y, treatment, sample_weight, base_weight)
        kernel, parameters = self._kernel()
        check_kernel(kernel, parameters)
        self.solver_ = self._choose_solver(arms)
        rng = check_random_state(self.random_state)
        self._basis = MomentBasis(max(self.exact_moments, 1)).fit(
            arms.X, arms.sample_weight, getattr(self, "feature_names_in_", None)
        )
        Z = self._standardize(arms, kernel, parameters, rng)
        problem = self._exact_problem(arms, Z) if self.solver_ == "qp" else None
        if problem is None:
            problem = self._landmark_problem(arms, Z, rng)
        solved, fit = self._solve(problem, arms)
        self._store(problem, solved, fit, arms)
        return self

    def fit_chunks(self, chunks: Any, *, n_jobs: int | None = None) -> "KernelBalancing":
        """Find the weights of data that are larger than memory, through landmarks.

        Parameters
        ----------
        chunks : sequence or callable
            A sequence whose items are `(X, treatment, sample_weight)`, or
            zero-argument callables that load one, mapped with joblib; or a
            callable returning a fresh iterator of such items. sample_weight
            may be None or left out. The chunks are read several times.
        n_jobs : int, default=None
            joblib workers over a sequence.

        Returns
        -------
        KernelBalancing
            Bandwidth rule and landmarks come from at most 20,000 rows drawn
            over all chunks; with no more rows than that, the weights are those
            of `fit(solver="landmarks")`.

        Raises
        ------
        InfeasibleError
            If means cannot be balanced exactly and `on_infeasible="raise"`.
        ValueError
            If `solver="qp"`, `alpha="auto"` or 0, `improved=True` for the ATE,
            or the chunks disagree.
        """
        self._validate_params()
        return fit_kernel_chunks(self, chunks, n_jobs)

    def estimating_equations(self) -> EstimatingEquations | None:
        """Estimating equations of the weights, with landmarks and bandwidth held fixed.

        Returns
        -------
        EstimatingEquations or None
            None for the exact program and for `improved=True`, whose weights
            call for resampling.
        """
        arms = self._fitted_arms()
        if self.solver_ == "qp" or self._joint(arms):
            return None
        return dual_equations(
            arms,
            self._columns,
            self._target,
            self._duals,
            divergence=self.divergence,
            tolerance=dict.fromkeys(self._duals, self.relaxed_max_smd_ or 0.0),
            alpha=self._ridge(),
        )

    def _kernel(self) -> tuple[str, dict[str, Any]]:
        return self.kernel, dict(self.kernel_params or {})

    def _joint(self, arms: Arms) -> bool:
        return self.improved and len(arms.moving_arms) == 2

    def _choose_solver(self, arms: Arms) -> str:
        name = type(self).__name__
        if self.solver == "qp" and self.divergence != "chi2":
            raise ValueError(
                f"{name}: solver='qp' is a quadratic program, but divergence={self.divergence!r}; "
                "pass divergence='chi2', or n_components=len(X) for an exact landmark solution"
            )
        chosen = self.solver
        if chosen == "auto":
            counts = [int(arms.rows(arm).sum()) for arm in arms.moving_arms]
            rows = sum(counts) if self._joint(arms) else max(counts)
            small = self.divergence == "chi2" and rows <= EXACT_ROWS
            chosen = "qp" if small else "landmarks"
        if chosen == "landmarks" and self.alpha == 0:
            raise ValueError(
                f"{name}: alpha=0 leaves the landmark solver without a solution; pass a positive "
                "alpha, or divergence='chi2' with solver='qp'"
            )
        return chosen

    def _standardize(
        self, arms: Arms, kernel: str, parameters: dict[str, Any], rng: np.random.RandomState
    ) -> NDArray[np.float64]:
        standardizer = Standardizer.fit(arms.X, arms.sample_weight, self.standardize)
        Z = standardizer.transform(arms.X)
        rule: Any = self.bandwidth
        if isinstance(rule, str) and kernel not in DECAYING_KERNELS:
            rule = 1.0
        self.bandwidth_ = bandwidth_of_rows(
            type(self).__name__,
            Z[arms.sample_weight > 0],
            rule,
            rng,
            getattr(self, "feature_names_in_", None) if Z.shape[1] == self.n_features_in_ else None,
        )
        self._space = KernelSpace(standardizer, kernel, self.bandwidth_, parameters)
        return Z

    def _exact_problem(self, arms: Arms, Z: NDArray[np.float64]) -> ExactSolver:
        A = self._exact_columns(arms.X)
        self._target = BalanceTarget.of(A, arms)
        self.landmarks_ = None
        return ExactSolver(self._space, Z, self._target.rows(A), self._names(), arms, self.improved)

    def _landmark_problem(
        self, arms: Arms, Z: NDArray[np.float64], rng: np.random.RandomState
    ) -> DualSolver:
        self._set_landmarks(Z, arms.sample_weight, rng)
        A = self._columns(arms.X)
        moments = len(self._names())
        residual = self._map.residual(Z, A[:, moments:])
        target = BalanceTarget.of(A[:, :moments], arms)
        # Features stay in the units in which their ridge is alpha.
        self._target = BalanceTarget(
            np.r_[target.mean, arms.target @ A[:, moments:]],
            np.r_[target.scale, np.ones(A.shape[1] - moments)],
        )
        problem = DualSolver(
            A, self._target, moments, self._names(), residual, arms, self.divergence, self.improved
        )
        self._missed = problem.missed
        return problem

    def _set_landmarks(
        self, Z: NDArray[np.float64], s: NDArray[np.float64], rng: np.random.RandomState
    ) -> None:
        m = DEFAULT_COMPONENTS if self.n_components == "auto" else self.n_components
        self.landmarks_ = choose_landmarks(Z, m, sample_weight=s, random_state=rng)
        self._map = LandmarkMap.of(self._space, self.landmarks_)

    def _names(self) -> list[str]:
        return self._basis.names_ if self.exact_moments else []

    def _features(self, X: NDArray[np.float64]) -> NDArray[np.float64]:
        return self._basis.transform(X)

    def _exact_columns(self, X: NDArray[np.float64]) -> NDArray[np.float64]:
        return self._basis.transform(X) if self.exact_moments else np.empty((len(X), 0))

    def _columns(self, X: NDArray[np.float64]) -> NDArray[np.float64]:
        """Moments, then landmark features."""
        Z = self._space.standardizer.transform(X)
        if not self.exact_moments:
            return self._map.features(Z)
        moments = self._exact_columns(X)
        columns = np.empty((len(X), moments.shape[1] + self._map.projection.shape[1]))
        columns[:, : moments.shape[1]] = moments
        for rows in row_slices(len(X)):
            columns[rows, moments.shape[1] :] = self._map.features(Z[rows])
        return columns

    def _ridge(self) -> NDArray[np.float64]:
        moments = len(self._names())
        ridge = np.full(len(self._target.mean), self.alpha_ + self._missed)
        ridge[:moments] = 0.0
        return ridge

    def _solve(self, problem: ExactSolver | DualSolver, arms: Arms) -> tuple[dict, DualFit]:
        """Solutions of the arms, at the strength asked for or the one that balances enough."""
        solved: dict = {}

        def attempt(max_smd: float, alpha: float):
            solved.clear()
            solved.update(problem.solve(alpha, max_smd, self.tol, self.max_iter))
            return next(iter(solved.values()))[1]

        first = ALPHAS[0] if self.alpha == "auto" else float(self.alpha)
        fit = meet_or_relax(
            lambda max_smd: attempt(max_smd, first),
            owner=type(self).__name__,
            max_smd=0.0,
            n_columns=len(self._names()),
            n_rows=int(problem.n_rows[list(arms.moving_arms)].min()),
            on_infeasible=self.on_infeasible,
            remedy="pass on_infeasible='relax' to balance it to within {:g} sd, or exact_moments=0",
        )
        self.alpha_ = first
        if self.alpha == "auto":
            self._tune(arms, solved, lambda alpha: attempt(fit.tolerance, alpha))
        return solved, fit

    def _tune(self, arms: Arms, solved: dict, attempt: Any) -> None:
        """Lower alpha until functions that are not balanced exactly are balanced well."""
        judged = MomentBasis(self.exact_moments + 1, interactions=self.exact_moments > 0)
        A = judged.fit(arms.X, arms.sample_weight).transform(arms.X)
        left = {}
        for alpha in ALPHAS:
            if alpha != ALPHAS[0]:
                attempt(alpha)
            weights = arms.sample_weight.copy()
            for arm, (w, _) in solved.items():
                weights[arms.rows(arm)] = w
            left[alpha] = self._imbalance(A, arms, weights)
            if left[alpha] <= GOOD_SMD:
                self.alpha_ = alpha
                return
        self.alpha_ = min(left, key=left.get)
        if self.alpha_ != ALPHAS[-1]:
            attempt(self.alpha_)
        functions = "squares and products" if self.exact_moments == 1 else "the covariates"
        if self.exact_moments > 1:
            functions = f"powers up to {self.exact_moments + 1} and products"
        warn_weights(
            f"{type(self).__name__}: alpha='auto' found no strength that leaves standardised mean "
            f"differences of {functions} below {GOOD_SMD:g}; it took alpha="
            f"{self.alpha_:g}, which leaves {left[self.alpha_]:.3g}; look at balance_table"
        )

    def _store(
        self, problem: ExactSolver | DualSolver, solved: dict, fit: DualFit, arms: Arms
    ) -> None:
        """Set what a user reads off the solutions of the arms."""
        labels = {arm: self.classes_[arm] for arm in solved}
        self._store_results({arm: result for arm, (_, result) in solved.items()})
        self._store_duals(fit, dict(problem.duals) if self.solver_ == "landmarks" else {})
        self.dropped_columns_ = [self._names()[j] for j in sorted(problem.dropped)]
        self.mmd_ = {labels[arm]: problem.discrepancy(arm, w) for arm, (w, _) in solved.items()}
        totals = arms.sample_weight * arms.base_weight
        self._finish(
            arms, {arm: w * totals[arms.rows(arm)].sum() for arm, (w, _) in solved.items()}
        )
        self.max_imbalance_ = self._imbalance(self._features(arms.X), arms, self.raw_weights_)

    def _store_duals(self, fit: DualFit, duals: dict[int, NDArray[np.float64]]) -> None:
        """Set the weight functions of the arms, of which the exact program has none."""
        self.relaxed_max_smd_ = fit.tolerance if fit.relaxed else None
        self._duals = duals
        m = len(self._names())
        idle = [np.flatnonzero(dual[1 : m + 1] == 0) for dual in duals.values()]
        idle = [] if fit.relaxed else sorted(set().union(*idle))
        self.dropped_columns_ = [self._names()[j] for j in idle]
        self.dual_coef_ = {
            self.classes_[arm]: dual[1:] / self._target.scale for arm, dual in duals.items()
        } or None

    @property
    def _resampling(self) -> str:
        """Exact minimisers are no smooth function of the sample."""
        return "subsample" if self.solver_ == "qp" else "bootstrap"

    def _why_no_weight_function(self) -> str | None:
        if getattr(self, "solver_", self.solver) != "qp":
            return None
        return (
            "the exact quadratic program weighs the rows given to fit and is no function of the "
            "covariates; pass solver='landmarks'"
        )

    def _predict_arm(self, X: NDArray[np.float64], arm: int) -> NDArray[np.float64]:
        C = self._target.rows(self._columns(X))
        return relative_weights(C, self._duals[arm], self.divergence)

    def _discrepancies(self, arms: Arms, weights: NDArray[np.float64]) -> list[float]:
        """Maximum mean discrepancy of each weighted arm to the target, in the landmark features."""
        features = self._map.features(self._space.standardizer.transform(arms.X))
        goal = arms.target @ features
        found = []
        for arm in arms.moving_arms:
            w = weights[arms.rows(arm)]
            found.append(float(np.linalg.norm(w @ features[arms.rows(arm)] / w.sum() - goal)))
        return found

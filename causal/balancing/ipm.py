"""Balancing of integral probability metrics."""

from numbers import Integral, Real
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import Interval, StrOptions

from causal._estimating_equations import EstimatingEquations
from causal.balancing._base import Arms, BalancingWeighter
from causal.balancing._ipm_fit import (
    GOOD_SMD,
    KERNEL_CLASSES,
    ArmFit,
    ArmSolver,
    check_combination,
    resolve_bandwidths,
    resolve_nu,
)
from causal.balancing._kernel_space import Standardizer
from causal.balancing.tilting import InverseProbabilityTilting
from reweight.exceptions import InfeasibleError
from reweight.kernels.bandwidth import RULES
from reweight.validation import check_weights, warn_weights


class IPMBalancing(BalancingWeighter):
    r"""Weights that bring each arm close to the target in an integral probability metric.

    With F a class of functions of the standardised covariates, an arm gets the
    weights that minimise

    .. math:: \gamma_F(w) = \sup_{f \in F} \Big| \sum_i w_i f(x_i) - \sum_j r_j f(x_j) \Big|

    plus `alpha` times their divergence from the sampling weights, r being the
    weights of the target: all rows for the ATE (each arm has its own program),
    the treated for the ATT. For the kernel classes and the Euclidean norm the
    square of the metric, halved, takes its place, as in `KernelBalancing`.

    Nonparametric weights are any on the simplex. Their programs are convex and
    solved to the certificate that `solver_result_` holds:

    - "linear": the difference of means in a norm. Where the means can be met,
      the weights meet them with least divergence; else they come closest.
    - "mmd", "sobolev": quadratic or entropy program; exact up to 2000 rows an
      arm (and 10000 target rows), with landmarks beyond.
    - "wasserstein": matching each target row to the nearest row of the arm,
      ties shared. `max_weight` makes it a transport program, and `alpha` a
      quadratic one.
    - "sipm": half-spaces, found by cutting planes. With one covariate this is
      the Kolmogorov-Smirnov distance and exact. With more the search for the
      worst half-space is a heuristic (axes, random directions, gradient ascent,
      rotations): the gap compares with the half-spaces that it found, and
      `discrepancy_` is a lower bound of the metric. It takes seconds for a few
      hundred rows and minutes for a few thousand.

    With `weight_model="linear"` weights are a softmax of the covariates (ATT),
    and for the ATE its mixture with the sampling weights in the shares that
    inverse propensities of a logistic model have. They are then a function of
    new rows. "linear" with this model is `InverseProbabilityTilting`; the other
    classes lead to programs that are not convex, solved to a stationary point
    from `n_init` starts.

    Parameters
    ----------
    estimand : {"ATE", "ATT", "ATC"}, default="ATT"
        Target population: all rows, the treated, or the controls.
    ipm : {"mmd", "sobolev", "wasserstein", "sipm", "linear"}, default="mmd"
        Class of functions: unit ball of a Gaussian kernel's space, of a Sobolev
        space, functions of Lipschitz constant one, sigmoids of linear
        functions, linear functions.
    weight_model : {"nonparametric", "linear"}, default="nonparametric"
        Any weights, or weights that are a softmax of the covariates.
    bandwidth : float, array-like or {"median", "scott", "silverman", "knn50"}, default=10.0
        Length of the kernels in standard units; several are averaged as
        kernels.
    sobolev_order : float, default=None
        Order s of the Sobolev space, more than half the number of covariates p;
        its kernel is the Matérn kernel of smoothness s - p/2. None takes
        smoothness 3/2.
    norm : {"l2", "linf", "l1"}, default="l2"
        Norm of the difference of means for "linear".
    divergence : {"kl", "chi2"}, default=None
        What keeps weights near the sampling weights. None is "kl" where the
        program has such a form (kernel classes, and "linear" with norm "l2"),
        and "chi2" elsewhere and with `max_weight`.
    alpha : float or "auto", default=None
        Strength of the divergence. None is 1e-5 for the kernel classes, 1e-3 for
        "sipm", and 0 otherwise and for the linear weight model. "auto" takes for
        each arm the largest of 0.1, 0.01, ..., 1e-6 that leaves standardised
        mean differences of at most 0.01. At 0 weights of "sipm", and of "linear"
        where the means cannot be met, may not be the only solution.
    max_weight : float, default=None
        Largest weight of a row, in units of its normalised sampling weight.
    n_components : int, default=None
        Landmarks of the kernel classes. None is every row where the program is
        exact, and 300 beyond.
    n_sigmoids : int, default=100
        Starts of the gradient ascent of "sipm".
    sigmoid_scale : float, default=None
        Bound on the slope of the sigmoids, for a smoother class. None leaves
        them free, which makes them half-spaces.
    n_init : int, default=2
        Starts of the linear weight model: equal weights, balanced means, then
        random ones.
    tol : float, default=None
        Relative gap, or residual of the optimality conditions, to stop at. None
        is 1e-8; 1e-5 for the linear weight model, and 0.02 where the search for
        the worst sigmoid is a heuristic.
    max_iter : int, default=500
        Largest number of iterations: Newton steps, rounds of cutting planes, or
        quasi-Newton steps per start.
    scoring : {"smd", "mmd"}, default="smd"
        What `score` is the negative of: the largest absolute standardised
        mean difference, or the maximum mean discrepancy (Gaussian kernel).
    random_state : int, RandomState instance or None, default=None
        Seed of directions, starts and landmarks.

    Attributes
    ----------
    weights_ : ndarray of shape (n_samples,)
        Mean one in each arm, sampling weights included.
    raw_weights_ : ndarray of shape (n_samples,)
        The same.
    ess_ : ndarray of shape (2,)
        Effective sample size of the controls and of the treated.
    classes_ : ndarray of shape (2,)
        Label of the controls, label of the treated.
    discrepancy_ : dict
        By label of each weighted arm: the metric left; for "sipm" with several
        covariates the largest value found, with landmarks that of the kernel
        that they span.
    alpha_ : dict
        By label of each weighted arm: the strength used.
    bandwidth_ : list of float or None
        Lengths of the kernels; None for classes without.
    coef_ : dict or None
        By label of each weighted arm: coefficients of the linear weight model
        in units of the covariates; None for nonparametric weights.
    max_imbalance_ : float
        Largest absolute standardised mean difference left.
    optimality_gap_ : float
        Largest over the arms; relative to the objective, or, where its optimum
        may be zero, to 1/N + 1/M if that is larger (N rows of the arm, M of the
        target). For the linear weight model the residual of the stationarity
        conditions.
    solver_result_ : SolverResult
        Of the arm with the largest gap; `solver_results_` has all, by label.
    solver_results_ : dict
        By label of each weighted arm.
    converged_ : bool
        Whether every arm met its tolerance.
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
    Kong, I., Park, Y., Jung, J., Lee, K., Kim, Y. (2023). Covariate balancing
    using the integral probability metric for causal inference. ICML.
    Abadie, A., Imbens, G. (2006). Large sample properties of matching
    estimators for average treatment effects. Econometrica, 74(1), 235-267.

    Examples
    --------
    >>> from causal import IPMBalancing, make_kang_schafer
    >>> study = make_kang_schafer(200, random_state=0)
    >>> balancer = IPMBalancing("ATT", bandwidth=10.0).fit(study.X, study.treatment)
    >>> bool(balancer.discrepancy_[0] < 0.1 * balancer.discrepancy([1.0] * 200)[0])
    True
    """

    _parameter_constraints = {
        "estimand": [StrOptions({"ATE", "ATT", "ATC"})],
        "ipm": [StrOptions({"mmd", "sobolev", "wasserstein", "sipm", "linear"})],
        "weight_model": [StrOptions({"nonparametric", "linear"})],
        "bandwidth": [
            StrOptions(set(RULES)),
            Interval(Real, 0, None, closed="neither"),
            "array-like",
        ],
        "sobolev_order": [None, Interval(Real, 0, None, closed="neither")],
        "norm": [StrOptions({"l2", "linf", "l1"})],
        "divergence": [None, StrOptions({"kl", "chi2"})],
        "alpha": [None, StrOptions({"auto"}), Interval(Real, 0, None, closed="left")],
        "max_weight": [None, Interval(Real, 1, None, closed="left")],
        "n_components": [None, Interval(Integral, 1, None, closed="left")],
        "n_sigmoids": [Interval(Integral, 1, None, closed="left")],
        "sigmoid_scale": [None, Interval(Real, 0, None, closed="neither")],
        "n_init": [Interval(Integral, 1, None, closed="left")],
        "tol": [None, Interval(Real, 0, None, closed="neither")],
        "max_iter": [Interval(Integral, 1, None, closed="left")],
        "scoring": [StrOptions({"smd", "mmd"})],
        "random_state": ["random_state"],
    }

    def __init__(
        self,
        estimand: str = "ATT",
        *,
        ipm: str = "mmd",
        weight_model: str = "nonparametric",
        bandwidth: float | ArrayLike | str = 10.0,
        sobolev_order: float | None = None,
        norm: str = "l2",
        divergence: str | None = None,
        alpha: float | str | None = None,
        max_weight: float | None = None,
        n_components: int | None = None,
        n_sigmoids: int = 100,
        sigmoid_scale: float | None = None,
        n_init: int = 2,
        tol: float | None = None,
        max_iter: int = 500,
        scoring: str = "smd",
        random_state: Any = None,
    ) -> None:
        self.estimand = estimand
        self.ipm = ipm
        self.weight_model = weight_model
        self.bandwidth = bandwidth
        self.sobolev_order = sobolev_order
        self.norm = norm
        self.divergence = divergence
        self.alpha = alpha
        self.max_weight = max_weight
        self.n_components = n_components
        self.n_sigmoids = n_sigmoids
        self.sigmoid_scale = sigmoid_scale
        self.n_init = n_init
        self.tol = tol
        self.max_iter = max_iter
        self.scoring = scoring
        self.random_state = random_state

    def fit(
        self,
        X: Any,
        y: ArrayLike | None = None,
        *,
        treatment: ArrayLike | None = None,
        sample_weight: ArrayLike | None = None,
    ) -> "IPMBalancing":
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
            Sampling weights.

        Returns
        -------
        IPMBalancing

        Raises
        ------
        InfeasibleError
            If `ipm="linear"` with `weight_model="linear"` cannot balance the
            means, so that no coefficients attain the minimum.
        ValueError
            If the input is not two arms of finite numbers, or parameters do not
            go together.
        """
        arms = self._validate_arms(X, y, treatment, sample_weight)
        check_combination(self)
        rng = check_random_state(self.random_state)
        self._map = Standardizer.fit(arms.X, arms.sample_weight, "std")
        Z = self._map.transform(arms.X)
        kernels = self.ipm in KERNEL_CLASSES
        self.bandwidth_ = resolve_bandwidths(self.bandwidth, Z, rng) if kernels else None
        if self.ipm == "sobolev":
            resolve_nu(self.sobolev_order, Z.shape[1])
        self._seeds = rng.randint(2**31 - 1, size=2)
        if self._is_tilting():
            return self._fit_tilting(arms, Z)
        self._tilting = None
        solver = ArmSolver(self, arms, Z, self.bandwidth_)
        fits = {
            arm: solver.solve(rows, seed)
            for (arm, rows, _), seed in zip(arms.problems(), self._seeds, strict=False)
        }
        self._store_fits(arms, solver, fits)
        return self

    def _is_tilting(self) -> bool:
        """Whether exact balance of means solves the program."""
        return (self.ipm, self.weight_model) == ("linear", "linear") and self.alpha in (None, 0)

    def _store_fits(self, arms: Arms, solver: ArmSolver, fits: dict[int, ArmFit]) -> None:
        raw, self._offsets = {}, {}
        self._theta = {arm: fit.coef for arm, fit in fits.items()}
        for arm, fit in fits.items():
            rows = arms.rows(arm)
            if fit.coef is not None:
                self._offsets[arm] = self._offset(solver, rows, fit.coef)
                raw[arm] = arms.sample_weight[rows] * self._weigh(solver.Z[rows], arm)
                continue
            raw[arm] = np.zeros(int(rows.sum()))
            raw[arm][arms.sample_weight[rows] > 0] = fit.w
        self._store_results({arm: fit.result for arm, fit in fits.items()})
        self.alpha_ = {self.classes_[arm]: fit.alpha for arm, fit in fits.items()}
        self.discrepancy_ = {self.classes_[arm]: fit.value for arm, fit in fits.items()}
        self.coef_ = None
        if self.weight_model == "linear":
            self.coef_ = {
                self.classes_[arm]: theta * self._map.matrix for arm, theta in self._theta.items()
            }
        self._finish(arms, raw)
        self.max_imbalance_ = self._imbalance(arms.X, arms, self.weights_)
        self._warn_imbalance(fits)

    def _warn_imbalance(self, fits: dict[int, ArmFit]) -> None:
        """Say where what was asked for could not be had."""
        if self.alpha == "auto" and self.max_imbalance_ > 1.01 * GOOD_SMD:
            warn_weights(
                f"IPMBalancing: no alpha of the grid leaves standardised mean differences of at "
                f"most {GOOD_SMD:g} (smallest {self.max_imbalance_:.3g}); the arms may lack "
                "overlap; look at balance_table(), or change the estimand"
            )
        unmet = [fit.value for fit in fits.values() if fit.alpha == 0 and fit.value > 1e-6]
        if self.ipm == "linear" and unmet:
            warn_weights(
                f"IPMBalancing: no weights meet the means of the target; the closest leave a "
                f"difference of {max(unmet):.3g} standard deviations in the {self.norm} norm; "
                "change the estimand, or see balance_table()"
            )

    @staticmethod
    def _offset(solver: ArmSolver, rows: NDArray[np.bool_], theta: NDArray) -> tuple[float, float]:
        """Share of the constant part, and log of the mean of exp(x'theta) over the arm."""
        problem = solver.problem(rows)
        score = problem.X @ theta
        peak = float(score.max())
        return solver.kappa(rows), peak + float(np.log(problem.base @ np.exp(score - peak)))

    def _weigh(self, Z: NDArray[np.float64], arm: int) -> NDArray[np.float64]:
        """Weight function of the linear weight model, relative to the sampling weight."""
        kappa, level = self._offsets[arm]
        return kappa + (1.0 - kappa) * np.exp(Z @ self._theta[arm] - level)

    def _fit_tilting(self, arms: Arms, Z: NDArray[np.float64]) -> "IPMBalancing":
        """Exact balance of means by weights of the linear model: inverse probability tilting."""
        tilting = InverseProbabilityTilting(
            self.estimand, tol=self.tol or 1e-8, max_iter=self.max_iter, scoring=self.scoring
        )
        try:
            tilting.fit(Z, arms.codes, sample_weight=arms.sample_weight)
        except InfeasibleError as error:
            name = self._column_name(int(str(error.worst_column).removeprefix("x")))
            raise InfeasibleError(
                f"IPMBalancing: column {name!r} cannot be balanced exactly, so that no "
                "coefficients of the linear weight model attain the minimum; pass "
                "weight_model='nonparametric', alpha > 0, or another ipm",
                worst_column=name,
                smallest_tolerance=error.smallest_tolerance,
            ) from error
        self._tilting = tilting
        solver = ArmSolver(self, arms, Z)
        raw = {
            arm: arms.sample_weight[rows] * tilting._predict_arm(Z[rows], arm)
            for arm, rows, _ in arms.problems()
        }
        self._finish(arms, raw)
        labels = {arm: self.classes_[arm] for arm in raw}
        self._store_results(
            {arm: tilting.solver_results_[arm] for arm in raw}, explained=not tilting.converged_
        )
        self.alpha_ = dict.fromkeys(labels.values(), 0.0)
        self.coef_ = {
            label: tilting.dual_coef_[arm] * self._map.matrix for arm, label in labels.items()
        }
        self.discrepancy_ = self._values(solver, self.weights_)
        self.max_imbalance_ = self._imbalance(arms.X, arms, self.weights_)
        return self

    def _column_name(self, column: int) -> str:
        names = getattr(self, "feature_names_in_", None)
        return f"x{column}" if names is None else str(names[column])

    def _values(self, solver: ArmSolver, weights: NDArray[np.float64]) -> dict:
        """The metric of each weighted arm under weights of all rows."""
        values = {}
        for (arm, rows, _), seed in zip(solver.arms.problems(), self._seeds, strict=False):
            w = weights[rows & (solver.arms.sample_weight > 0)]
            discrepancy = solver.discrepancy(solver.problem(rows), seed)
            values[self.classes_[arm]] = discrepancy.value(w / w.sum())
        return values

    def discrepancy(self, weights: ArrayLike | None = None) -> dict:
        """The metric between arms and target under any weights of the training rows.

        Parameters
        ----------
        weights : array-like of shape (n_samples,), default=None
            Weights on any scale, sampling weights included; rows without
            sampling weight are left out. None is `weights_`.

        Returns
        -------
        dict
            By label of each weighted arm. For "sipm" with several covariates a
            lower bound, from a search of its own.
        """
        arms = self._fitted_arms()
        weights = self.weights_ if weights is None else check_weights(weights)
        if weights.size != len(arms.X):
            raise ValueError(
                f"IPMBalancing: weights has {weights.size} entries but fit saw {len(arms.X)} "
                "rows; pass one per row"
            )
        solver = ArmSolver(self, arms, self._map.transform(arms.X), self.bandwidth_)
        return self._values(solver, weights)

    @property
    def _resampling(self) -> str:
        """Minimisers over all weights are no smooth function of the sample."""
        return "bootstrap" if self.weight_model == "linear" else "subsample"

    def _why_no_weight_function(self) -> str | None:
        if self.weight_model == "linear":
            return None
        return (
            "weight_model='nonparametric' gives weights to the rows of fit one by one; pass "
            "weight_model='linear' for weights that are a function of the covariates"
        )

    def _predict_arm(self, X: NDArray[np.float64], arm: int) -> NDArray[np.float64]:
        Z = self._map.transform(X)
        return self._weigh(Z, arm) if self._tilting is None else self._tilting._predict_arm(Z, arm)

    def estimating_equations(self) -> EstimatingEquations | None:
        """Estimating equations of the weights, for standard errors.

        Returns
        -------
        EstimatingEquations or None
            Those of inverse probability tilting for "linear" with the linear
            weight model; None otherwise, where resampling serves.
        """
        self._fitted_arms()
        return None if self._tilting is None else self._tilting.estimating_equations()

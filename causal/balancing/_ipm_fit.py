"""From the parameters of `IPMBalancing` to the weights of one arm."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from sklearn.utils import check_random_state

from causal.balancing._base import Arms
from causal.balancing._ipm_arm import ArmProblem, Array, Discrepancy, chi2_divergence
from causal.balancing._ipm_kernel import KernelDiscrepancy, matern_kernel, rbf_kernel
from causal.balancing._ipm_linear import LinearDiscrepancy
from causal.balancing._ipm_sigmoid import SigmoidDiscrepancy
from causal.balancing._ipm_softmax import SoftmaxModel, fit_softmax
from causal.balancing._ipm_wasserstein import WassersteinDiscrepancy
from causal.balancing._kernel_space import bandwidth_of_rows
from reweight.exceptions import InfeasibleError
from reweight.kernels.weighted_moments import nonzero_scale, standardized_scale
from reweight.solvers.divergence_dual import divergence_dual
from reweight.solvers.result import SolverResult

KERNEL_CLASSES = ("mmd", "sobolev")
DEFAULT_ALPHA = {"mmd": 1e-5, "sobolev": 1e-5, "sipm": 1e-3}
DEFAULT_TOL = 1e-8
SEARCH_TOL = 2e-2
STATIONARITY_TOL = 1e-5
DEFAULT_NU = 1.5
ALPHAS = (1e-1, 1e-2, 1e-3, 1e-4, 1e-5, 1e-6)
GOOD_SMD = 0.01


def check_combination(balancer: Any) -> None:
    """Refuse parameters that do not go together, before any work.

    Parameters
    ----------
    balancer : IPMBalancing
        Its parameters are read.

    Raises
    ------
    ValueError
        Naming the parameters and what to change.
    """
    parametric = balancer.weight_model == "linear"
    regularized = balancer.alpha is None or balancer.alpha != 0
    if balancer.max_weight is not None:
        if parametric:
            raise ValueError(
                "IPMBalancing: max_weight caps weights one by one, which weight_model='linear' "
                "does not allow; pass weight_model='nonparametric' or max_weight=None"
            )
        if balancer.divergence == "kl":
            raise ValueError(
                "IPMBalancing: divergence='kl' has no program with a cap; pass "
                "divergence='chi2' or max_weight=None"
            )
        if balancer.ipm == "wasserstein" and balancer.alpha not in (None, 0):
            raise ValueError(
                f"IPMBalancing: ipm='wasserstein' spreads weights by max_weight="
                f"{balancer.max_weight} or by alpha={balancer.alpha}, not by both; pass alpha=0 "
                "or max_weight=None"
            )
    quadratic_only = balancer.ipm in ("sipm", "wasserstein") or (
        balancer.ipm == "linear" and balancer.norm != "l2" and balancer.alpha not in (None, 0)
    )
    if balancer.divergence == "kl" and quadratic_only and regularized and not parametric:
        norm = f" with norm={balancer.norm!r}" if balancer.ipm == "linear" else ""
        raise ValueError(
            f"IPMBalancing: ipm={balancer.ipm!r}{norm} is regularised by the chi-square "
            "divergence only; pass divergence='chi2' or None"
        )


def resolve_divergence(balancer: Any) -> str:
    """The divergence used where the parameter is None."""
    if balancer.divergence is not None:
        return balancer.divergence
    return "kl" if balancer.max_weight is None else "chi2"


def resolve_nu(sobolev_order: float | None, n_features: int) -> float:
    """Smoothness of the Matérn kernel whose space is a Sobolev space of an order.

    Parameters
    ----------
    sobolev_order : float or None
        Order s; None takes the kernel of smoothness 3/2.
    n_features : int
        Dimension p; the smoothness is s - p / 2.

    Returns
    -------
    float

    Raises
    ------
    ValueError
        If the space has no kernel because s <= p / 2.
    """
    if sobolev_order is None:
        return DEFAULT_NU
    nu = sobolev_order - 0.5 * n_features
    if nu <= 0:
        raise ValueError(
            f"IPMBalancing: sobolev_order={sobolev_order:g} must exceed half the number of "
            f"covariates, {0.5 * n_features:g}, or functions of that order are not continuous; "
            "raise it, or pass None"
        )
    return float(nu)


def resolve_bandwidths(bandwidth: Any, Z: Array, rng: Any) -> list:
    """One length a kernel: numbers as they are, a rule read off the rows.

    Parameters
    ----------
    bandwidth : float, str or array-like
        What the user passed; an array is one kernel each.
    Z : ndarray of shape (n, p)
        Standardised rows.
    rng : numpy.random.RandomState
        Draws the rows that a rule looks at.

    Returns
    -------
    list

    Raises
    ------
    ValueError
        If a bandwidth is not positive.
    """
    if isinstance(bandwidth, str):
        return [bandwidth_of_rows("IPMBalancing", Z, bandwidth, rng)]
    lengths = np.atleast_1d(np.asarray(bandwidth, dtype=np.float64))
    fine = lengths.ndim == 1 and lengths.size and np.isfinite(lengths).all()
    if not (fine and lengths.min() > 0):
        raise ValueError(
            f"IPMBalancing: bandwidth must be positive, got {bandwidth!r}; pass one number, "
            "a list of numbers whose kernels are averaged, or a rule such as 'median'"
        )
    return lengths.tolist()


@dataclass
class ArmFit:
    """Weights of one arm and what they cost.

    Parameters
    ----------
    w : ndarray of shape (N,)
        Weights of the rows with sampling weight, with sum one.
    result : SolverResult
        Of the solver.
    alpha : float
        Strength of the divergence.
    value : float
        The discrepancy left.
    coef : ndarray of shape (p,) or None
        Coefficients of the linear weight model in standard units.
    """

    w: Array
    result: SolverResult
    alpha: float
    value: float
    coef: Array | None = None


@dataclass
class ArmSolver:
    """Builds and solves the program of an arm.

    Parameters
    ----------
    balancer : IPMBalancing
        Its parameters are read.
    arms : Arms
        Rows of both arms.
    Z : ndarray of shape (n, p)
        Their covariates in standard units.
    bandwidths : list
        Lengths of the kernels.
    """

    balancer: Any
    arms: Arms
    Z: Array
    bandwidths: list = field(default_factory=list)

    def problem(self, rows: ArrayLike) -> ArmProblem:
        """The rows of an arm that have weight, and the target."""
        s, target = self.arms.sample_weight, self.arms.target
        kept, goal = rows & (s > 0), target > 0
        cap = self.balancer.max_weight
        return ArmProblem(
            self.Z[kept],
            s[kept] / s[kept].sum(),
            self.Z[goal],
            target[goal],
            np.inf if cap is None else float(cap),
        )

    def discrepancy(self, problem: ArmProblem, seed: int) -> Discrepancy:
        """The discrepancy asked for, with its own random numbers."""
        balancer, rng = self.balancer, np.random.RandomState(seed)
        if balancer.ipm in KERNEL_CLASSES:
            kernel = rbf_kernel(self.bandwidths)
            if balancer.ipm == "sobolev":
                nu = resolve_nu(balancer.sobolev_order, self.Z.shape[1])
                kernel = matern_kernel(self.bandwidths, nu)
            divergence = resolve_divergence(balancer)
            return KernelDiscrepancy(problem, kernel, divergence, balancer.n_components, rng)
        if balancer.ipm == "linear":
            return LinearDiscrepancy(problem, balancer.norm, resolve_divergence(balancer))
        if balancer.ipm == "wasserstein":
            return WassersteinDiscrepancy(problem)
        return SigmoidDiscrepancy(problem, balancer.n_sigmoids, balancer.sigmoid_scale, rng)

    def tol(self, discrepancy: Discrepancy) -> float:
        """Tolerance: a search that is a heuristic deserves no more digits than it finds."""
        if self.balancer.tol is not None:
            return self.balancer.tol
        if not discrepancy.exact:
            return SEARCH_TOL
        return STATIONARITY_TOL if self.balancer.weight_model == "linear" else DEFAULT_TOL

    def solve(self, rows: ArrayLike, seed: int) -> ArmFit:
        """Weights of the arm, with `alpha` chosen where it is "auto"."""
        problem = self.problem(rows)
        discrepancy = self.discrepancy(problem, seed)
        alpha = self.balancer.alpha
        if alpha is None:
            free = self.balancer.weight_model == "linear"
            alpha = 0.0 if free else DEFAULT_ALPHA.get(self.balancer.ipm, 0.0)
        if alpha != "auto":
            return self._solve(discrepancy, rows, float(alpha), seed)
        best, smallest = None, np.inf
        for strength in ALPHAS:
            fit = self._solve(discrepancy, rows, strength, seed)
            imbalance = self._imbalance(problem, fit.w)
            if imbalance < smallest:
                best, smallest = fit, imbalance
            # Weaker regularisation would only cost effective sample size.
            if imbalance <= GOOD_SMD:
                break
        return best

    def _solve(self, discrepancy: Discrepancy, rows: ArrayLike, alpha: float, seed: int) -> ArmFit:
        balancer, tol = self.balancer, self.tol(discrepancy)
        if balancer.weight_model == "linear":
            return self._softmax(discrepancy, rows, alpha, tol, seed)
        result = discrepancy.minimize(alpha, tol, balancer.max_iter)
        # The distance of a transport plan costs a program of its own; the plan has it already.
        if balancer.ipm == "wasserstein":
            value = result.objective - alpha * chi2_divergence(result.x, discrepancy.arm.base)
        else:
            value = discrepancy.value(result.x)
        return ArmFit(result.x, result, alpha, max(value, 0.0))

    def kappa(self, rows: ArrayLike) -> float:
        """Share of the base weights in the linear weight model."""
        if self.arms.estimand != "ATE":
            return 0.0
        s = self.arms.sample_weight
        return float(s[rows].sum() / s.sum())

    def _softmax(self, discrepancy, rows, alpha: float, tol: float, seed: int) -> ArmFit:
        arm = discrepancy.arm
        model = SoftmaxModel(arm, self.kappa(rows), resolve_divergence(self.balancer))
        starts = self._starts(arm, rows, seed)
        theta, result = fit_softmax(model, discrepancy, starts, alpha, tol, self.balancer.max_iter)
        return ArmFit(result.x, result, alpha, discrepancy.value(result.x), theta)

    def _starts(self, arm: ArmProblem, rows: ArrayLike, seed: int) -> list[Array]:
        """Equal weights, then exact balance of means where it exists, then random ones."""
        p = self.Z.shape[1]
        starts = [np.zeros(p)]
        kappa = self.kappa(rows)
        goal = (arm.target_weight @ arm.target - kappa * (arm.base @ arm.X)) / (1.0 - kappa)
        try:
            tilt = divergence_dual(arm.X - goal, arm.base)
            starts.append(tilt.dual[1:])
        except InfeasibleError:
            pass
        rng = check_random_state(seed)
        while len(starts) < self.balancer.n_init:
            starts.append(rng.standard_normal(p))
        return starts[: self.balancer.n_init]

    def _imbalance(self, problem: ArmProblem, w: Array) -> float:
        """Largest absolute standardised mean difference of an arm to its target."""
        arms = self.arms
        scale = standardized_scale(self.Z, arms.treated, arms.sample_weight, arms.estimand)
        difference = w @ problem.X - problem.target_weight @ problem.target
        return float(np.abs(difference / nonzero_scale(scale)).max())

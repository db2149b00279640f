"""Energy balancing."""

from numbers import Integral, Real
from typing import Any

from sklearn.utils._param_validation import Interval, StrOptions

from causal.balancing.kernel import KernelBalancing


class EnergyBalancing(KernelBalancing):
    r"""Weights that minimise the energy distance of the arms to the target population.

    Kernel balancing with the kernel :math:`-\|x - x'\|`, which needs no
    bandwidth, and a chi-square pull towards the base weights,

    .. math:: \min_{w \ge 0} \; \tfrac12 \mathcal E(w) + \tfrac{\alpha}{2}
              \sum_i w_i^2 / q_i, \quad \sum_i w_i = 1,

    with the energy distance :math:`\mathcal E` of the weighted arm to the
    target. For the ATE the distance between the two arms is added.

    Parameters
    ----------
    estimand : {"ATE", "ATT", "ATC"}, default="ATE"
        Target population: all rows, the treated, or the controls.
    alpha : float or "auto", default=1e-7
        Strength of the pull towards the base weights, as in `KernelBalancing`.
        The penalty `lambda` of R's WeightIt is 2 n alpha for an arm of n rows.
    exponent : float, default=1.0
        Power of the distance, between 0 and 2.
    exact_moments : int, default=0
        Highest power of the covariates whose means are balanced exactly.
    n_components : int or "auto", default="auto"
        Number of landmarks of the landmark solver; "auto" is 300 or the number
        of rows.
    solver : {"auto", "qp", "landmarks"}, default="auto"
        Exact quadratic program, or landmarks; "auto" takes the program up to
        4000 rows.
    improved : bool, default=True
        For the ATE, add the distance between the arms.
    standardize : {"std", "mahalanobis", "none"}, default="std"
        Unit variances, unit covariance matrix, or covariates as they are.
    tol : float, default=1e-8
        Relative duality gap ("qp"), or largest residual of the optimality
        conditions in standard units ("landmarks").
    max_iter : int, default=200
        Largest number of iterations.
    on_infeasible : {"raise", "relax", "warn"}, default="warn"
        What to do when means cannot be balanced exactly.
    scoring : {"smd", "mmd"}, default="smd"
        What `score` is the negative of: the largest absolute standardised
        mean difference, or the square root of the energy distance.
    random_state : int, RandomState instance or None, default=None
        Seed of landmarks.

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
    alpha_ : float
        The strength used.
    bandwidth_ : float
        Always 1: the distance is that of standardised covariates.
    landmarks_ : ndarray of shape (n_landmarks, n_standardized) or None
        Landmarks in standardised units; None for the exact program.
    solver_ : {"qp", "landmarks"}
        The solver used.
    mmd_ : dict
        By label of each weighted arm: the square root of the energy distance
        to the target that is left.
    dual_coef_ : dict or None
        By label of each weighted arm: coefficients of the moments, in units of
        the columns, then of the landmark features; None for the exact program.
    max_imbalance_ : float
        Largest absolute standardised mean difference left.
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
    Huling, J., Mak, S. (2024). Energy balancing of covariate distributions.
    Journal of Causal Inference, 12(1).

    Examples
    --------
    >>> from causal import EnergyBalancing, load_lalonde
    >>> lalonde = load_lalonde()
    >>> balancer = EnergyBalancing("ATT").fit(lalonde.data, lalonde.treatment)
    >>> balancer.solver_, balancer.converged_
    ('qp', True)
    """

    kernel = "energy"
    kernel_params = None
    bandwidth = 1.0
    divergence = "chi2"

    _parameter_constraints = {
        **{
            name: rule
            for name, rule in KernelBalancing._parameter_constraints.items()
            if name not in ("kernel", "kernel_params", "bandwidth", "divergence")
        },
        "alpha": [StrOptions({"auto"}), Interval(Real, 0, None, closed="left")],
        "exponent": [Interval(Real, 0, 2, closed="neither")],
        "exact_moments": [Interval(Integral, 0, None, closed="left")],
    }

    def __init__(
        self,
        estimand: str = "ATE",
        *,
        alpha: float | str = 1e-7,
        exponent: float = 1.0,
        exact_moments: int = 0,
        n_components: int | str = "auto",
        solver: str = "auto",
        improved: bool = True,
        standardize: str = "std",
        tol: float = 1e-8,
        max_iter: int = 200,
        on_infeasible: str = "warn",
        scoring: str = "smd",
        random_state: Any = None,
    ) -> None:
        self.estimand = estimand
        self.alpha = alpha
        self.exponent = exponent
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

    def _kernel(self) -> tuple[str, dict[str, Any]]:
        return "energy", {"exponent": self.exponent}

"""Stable balancing weights."""

from numbers import Integral, Real
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import HasMethods, Interval, StrOptions

from causal._estimating_equations import EstimatingEquations
from causal.balancing._base import Arms
from causal.balancing._basis import MomentBasis
from causal.balancing._chunked import fit_dual_chunks
from causal.balancing._dual import BalanceTarget
from causal.balancing._dual_balancer import DualBalancer
from reweight.exceptions import InfeasibleError
from reweight.resampling import resample_weights
from reweight.solvers.divergence_dual import divergence_dual

TOLERANCES = (0.0, 1e-4, 1e-3, 2e-3, 5e-3, 0.01, 0.02, 0.05, 0.1)


class StableBalancing(DualBalancer):
    r"""Weights of least variance that balance means to within a tolerance.

    Each arm that differs from the target population gets the weights

    .. math:: \min_w \tfrac12 \sum_i q_i (w_i / q_i - 1)^2 \quad \text{s.t.} \quad
              |\sum_i w_i \phi_j(x_i) - \bar\phi_j| \le \delta\, d_j,
              \; \sum_i w_i = 1, \; w_i \ge 0,

    with `d_j` the denominator of the standardised mean difference.

    Parameters
    ----------
    estimand : {"ATE", "ATT", "ATC"}, default="ATT"
        Target population: all rows, the treated, or the controls.
    max_smd : float or "auto", default=0.02
        Largest absolute standardised mean difference allowed; 0 is exact.
        "auto" takes, from (0, 1e-4, 1e-3, 2e-3, 5e-3, .01, .02, .05, .1), the
        tolerance whose weights balance bootstrap resamples of the arm best.
    nonnegative : bool, default=True
        Whether weights must not be negative. Without the constraint and with
        `max_smd=0` they are the weights implied by linear regression.
    moments : int, default=1
        Highest power of each covariate that is balanced.
    interactions : bool, default=False
        Whether products of all pairs of covariates are balanced.
    featurizer : callable or transformer, default=None
        Functions of the covariates to balance in place of `moments` and
        `interactions`: X -> array of shape (n_samples, m).
    n_resamples : int, default=200
        Bootstrap resamples for `max_smd="auto"`.
    tol : float, default=1e-8
        Largest residual of the optimality conditions in standard units.
    max_iter : int, default=200
        Largest number of Newton steps per arm.
    on_infeasible : {"raise", "relax", "warn"}, default="raise"
        When the means cannot be met: raise `InfeasibleError`, or balance to
        1.05 times the smallest feasible tolerance, with or without a warning.
    scoring : {"smd", "mmd"}, default="smd"
        What `score` is the negative of: the largest absolute standardised
        mean difference, or the maximum mean discrepancy (Gaussian kernel).
    random_state : int, RandomState instance or None, default=None
        Seeds the resamples of `max_smd="auto"`.

    Attributes
    ----------
    weights_ : ndarray of shape (n_samples,)
        Mean one in each arm, sampling weights included. Not set when
        `nonnegative=False` gives negative weights.
    raw_weights_ : ndarray of shape (n_samples,)
        The same, possibly negative.
    max_smd_ : float
        The tolerance used.
    max_smd_scores_ : dict or None
        With "auto": mean imbalance of the resamples by tolerance.
    propensity_ : None
        These weights imply no propensity.
    ess_ : ndarray of shape (2,)
        Effective sample size of the controls and of the treated.
    classes_ : ndarray of shape (2,)
        Label of the controls, label of the treated.
    dual_coef_ : dict
        By label of each weighted arm: coefficients of the balanced functions
        in the truncated linear weight model. Zero where the tolerance is slack.
    max_imbalance_ : float
        Largest absolute standardised mean difference left.
    relaxed_max_smd_ : float or None
        The tolerance used where `max_smd` could not be met.
    dropped_columns_ : list of str
        Balanced functions that others determine.
    optimality_gap_ : float
        Largest residual of the optimality conditions over the arms.
    solver_result_ : SolverResult
        Of the arm with the largest residual.
    solver_results_ : dict of SolverResult
        By label of each weighted arm.
    converged_ : bool
        Whether every arm met `tol`.
    n_iter_ : int
        Newton steps over the arms.
    estimand_ : str
        The estimand of the fit.
    n_features_in_ : int
        Number of covariates.
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Their names, when X has string column names.

    References
    ----------
    Zubizarreta, J. (2015). Stable weights that balance covariates for
    estimation with incomplete outcome data. JASA, 110(511), 910-922.
    Wang, Y., Zubizarreta, J. (2020). Minimal dispersion approximately
    balancing weights. Biometrika, 107(1), 93-105.

    Examples
    --------
    >>> from causal import StableBalancing, load_lalonde
    >>> lalonde = load_lalonde()
    >>> balancer = StableBalancing("ATT", max_smd=0.05).fit(lalonde.data, lalonde.treatment)
    >>> round(balancer.max_imbalance_, 6)
    0.05
    """

    _parameter_constraints = {
        "estimand": [StrOptions({"ATE", "ATT", "ATC"})],
        "max_smd": [Interval(Real, 0, None, closed="left"), StrOptions({"auto"})],
        "nonnegative": ["boolean"],
        "moments": [Interval(Integral, 1, None, closed="left")],
        "interactions": ["boolean"],
        "featurizer": [None, callable, HasMethods(["fit", "transform"])],
        "n_resamples": [Interval(Integral, 2, None, closed="left")],
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
        max_smd: float | str = 0.02,
        nonnegative: bool = True,
        moments: int = 1,
        interactions: bool = False,
        featurizer: Any = None,
        n_resamples: int = 200,
        tol: float = 1e-8,
        max_iter: int = 200,
        on_infeasible: str = "raise",
        scoring: str = "smd",
        random_state: Any = None,
    ) -> None:
        self.estimand = estimand
        self.max_smd = max_smd
        self.nonnegative = nonnegative
        self.moments = moments
        self.interactions = interactions
        self.featurizer = featurizer
        self.n_resamples = n_resamples
        self.tol = tol
        self.max_iter = max_iter
        self.on_infeasible = on_infeasible
        self.scoring = scoring
        self.random_state = random_state

    @property
    def _divergence_name(self) -> str:
        return "chi2" if self.nonnegative else "chi2_signed"

    def fit(
        self,
        X: Any,
        y: ArrayLike | None = None,
        *,
        treatment: ArrayLike | None = None,
        sample_weight: ArrayLike | None = None,
        base_weight: ArrayLike | None = None,
    ) -> "StableBalancing":
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
        StableBalancing

        Raises
        ------
        InfeasibleError
            If the means cannot be met and `on_infeasible="raise"`.
        ValueError
            If the input is not two arms of finite numbers.
        """
        arms = self._validate_arms(X, y, treatment, sample_weight, base_weight)
        self.max_smd_, self.max_smd_scores_ = self.max_smd, None
        if self.max_smd == "auto":
            self.max_smd_ = self._choose_tolerance(arms)
        return self._fit_arms(arms, self._divergence_name, self.max_smd_)

    def fit_chunks(self, chunks: Any, *, n_jobs: int | None = None) -> "StableBalancing":
        """Find the weights of data that are larger than memory.

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
        StableBalancing
            With the same weights as `fit` on all rows at once.

        Raises
        ------
        InfeasibleError
            If the means cannot be met and `on_infeasible="raise"`.
        ValueError
            If `max_smd="auto"`, a `featurizer` that must be fitted is given, or the
            chunks disagree.
        """
        self._validate_params()
        if self.max_smd == "auto":
            raise ValueError(
                "StableBalancing: max_smd='auto' resamples rows in memory; choose it by fit on a "
                "sample of the rows and pass the number to fit_chunks"
            )
        self.max_smd_, self.max_smd_scores_ = self.max_smd, None
        return fit_dual_chunks(self, chunks, self._divergence_name, self.max_smd, n_jobs)

    def _choose_tolerance(self, arms: Arms) -> float:
        """The tolerance whose weights balance bootstrap resamples best; no outcome is seen."""
        basis = MomentBasis(self.moments, self.interactions, self.featurizer)
        A = basis.fit(arms.X, arms.sample_weight).transform(arms.X)
        target = BalanceTarget.of(A, arms)
        # Every tolerance sees the same resamples, so that scores differ by the weights alone.
        seed = int(check_random_state(self.random_state).randint(2**31 - 2))
        scores: dict[float, float] = {}
        for tolerance in TOLERANCES:
            imbalances = []
            try:
                for arm, rows, base in arms.problems():
                    C = target.rows(A[rows])
                    weights = divergence_dual(
                        C,
                        base,
                        divergence=self._divergence_name,
                        tolerance=tolerance,
                        tol=self.tol,
                        max_iter=self.max_iter,
                    ).x
                    imbalances.append(self._resampled_imbalance(C, weights, seed + arm))
            except InfeasibleError:
                continue
            scores[tolerance] = float(np.mean(imbalances))
        if not scores:
            # Even the widest tolerance fails: fit reports it, or relaxes it, in its own words.
            scores[TOLERANCES[-1]] = np.nan
        self.max_smd_scores_ = scores
        return min(scores, key=scores.get)

    def _resampled_imbalance(
        self, C: NDArray[np.float64], weights: NDArray[np.float64], seed: int
    ) -> float:
        """Mean absolute standardised difference over resamples of an arm and columns."""
        draws = resample_weights(len(C), self.n_resamples, kind="multinomial", random_state=seed)
        weighted, imbalances = weights[:, None] * C, []
        for counts in draws:
            total = counts @ weights
            # A resample without any row of positive weight has no weighted mean.
            if total != 0:
                imbalances.append(np.abs(counts @ weighted / total).mean())
        return float(np.mean(imbalances))

    def estimating_equations(self) -> EstimatingEquations:
        """Estimating equations of the weights, for standard errors.

        Returns
        -------
        EstimatingEquations
        """
        return self._dual_equations()

    def _predict_arm(self, X: NDArray[np.float64], arm: int) -> NDArray[np.float64]:
        return self._predict_dual(X, arm)

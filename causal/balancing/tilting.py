"""Inverse probability tilting."""

from numbers import Integral, Real
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.linalg import block_diag
from sklearn.utils._param_validation import HasMethods, Interval, StrOptions

from causal._estimating_equations import EstimatingEquations
from causal.balancing._base import Arms, BalancingWeighter
from causal.balancing._basis import MomentBasis
from causal.balancing._dual import BalanceTarget, relative_weights, solve_arm
from reweight.kernels.weighted_moments import (
    nonzero_scale,
    standardized_scale,
    weighted_mean,
)


class InverseProbabilityTilting(BalancingWeighter):
    r"""Inverse-propensity weights that balance each arm to the target exactly.

    For the ATE each arm has its own logistic model, fitted so that the
    inverse-probability weights of the arm meet the means of the whole sample,

    .. math:: \sum_i s_i \{ t_i / e_1(x_i) - 1 \} x_i = 0, \qquad
              \sum_i s_i \{ (1 - t_i) / (1 - e_0(x_i)) - 1 \} x_i = 0,

    the constant included. Because 1/e = 1 + exp(-eta), an arm keeps its own
    sampling weights and adds weights that entropy-balance it to the other
    arm; that is how it is solved. For the ATT and the ATC the weights are
    those of `EntropyBalancing`.

    Parameters
    ----------
    estimand : {"ATE", "ATT", "ATC"}, default="ATE"
        Target population.
    moments : int, default=1
        Highest power of each covariate that is balanced.
    interactions : bool, default=False
        Whether products of all pairs of covariates are balanced.
    featurizer : callable or transformer, default=None
        Functions of the covariates to balance in place of `moments` and
        `interactions`: X -> array of shape (n_samples, m).
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

    Attributes
    ----------
    weights_ : ndarray of shape (n_samples,)
        Mean one in each arm, sampling weights included.
    dual_coef_ : dict
        By label of each weighted arm: slopes of the log-odds of being in the
        other arm, in the units of the balanced columns.
    raw_weights_ : ndarray of shape (n_samples,)
        The same as `weights_`.
    ess_ : ndarray of shape (2,)
        Effective sample size of the controls and of the treated.
    classes_ : ndarray of shape (2,)
        Label of the controls, label of the treated.
    relaxed_max_smd_ : float or None
        The tolerance used where the means could not be met.
    max_imbalance_ : float
        Largest absolute standardised mean difference left.
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
    Graham, B., Pinto, C., Egel, D. (2012). Inverse probability tilting for
    moment condition models with missing data. Review of Economic Studies,
    79(3), 1053-1079.

    Examples
    --------
    >>> from causal import InverseProbabilityTilting, make_kang_schafer
    >>> study = make_kang_schafer(500, random_state=0)
    >>> tilting = InverseProbabilityTilting("ATE").fit(study.X, study.treatment)
    >>> bool(tilting.max_imbalance_ < 1e-8)
    True
    """

    _parameter_constraints = {
        "estimand": [StrOptions({"ATE", "ATT", "ATC"})],
        "moments": [Interval(Integral, 1, None, closed="left")],
        "interactions": ["boolean"],
        "featurizer": [None, callable, HasMethods(["fit", "transform"])],
        "tol": [Interval(Real, 0, None, closed="neither")],
        "max_iter": [Interval(Integral, 1, None, closed="left")],
        "on_infeasible": [StrOptions({"raise", "relax", "warn"})],
        "scoring": [StrOptions({"smd", "mmd"})],
    }

    def __init__(
        self,
        estimand: str = "ATE",
        *,
        moments: int = 1,
        interactions: bool = False,
        featurizer: Any = None,
        tol: float = 1e-8,
        max_iter: int = 200,
        on_infeasible: str = "raise",
        scoring: str = "smd",
    ) -> None:
        self.estimand = estimand
        self.moments = moments
        self.interactions = interactions
        self.featurizer = featurizer
        self.tol = tol
        self.max_iter = max_iter
        self.on_infeasible = on_infeasible
        self.scoring = scoring

    def fit(
        self,
        X: Any,
        y: ArrayLike | None = None,
        *,
        treatment: ArrayLike | None = None,
        sample_weight: ArrayLike | None = None,
    ) -> "InverseProbabilityTilting":
        """Fit the models of the arms and form the weights.

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
        InverseProbabilityTilting

        Raises
        ------
        InfeasibleError
            If an arm cannot meet the means of the other.
        ValueError
            If the input is not two arms of finite numbers.
        """
        arms = self._validate_arms(X, y, treatment, sample_weight)
        basis = MomentBasis(self.moments, self.interactions, self.featurizer)
        names = getattr(self, "feature_names_in_", None)
        self._basis = basis.fit(arms.X, arms.sample_weight, names)
        A = self._basis.transform(arms.X)
        self._targets, self._duals, results, raw = {}, {}, {}, {}
        self._odds, self._tolerances = {}, {}
        for arm, rows, base in arms.problems():
            self._targets[arm] = target = self._other_arm(A, arms, arm)
            fit = solve_arm(
                target.rows(A[rows]),
                base,
                owner=type(self).__name__,
                divergence="kl",
                max_smd=0.0,
                alpha=None,
                names=self._basis.names_,
                n_rows=int(rows.sum()),
                tol=self.tol,
                max_iter=self.max_iter,
                on_infeasible=self.on_infeasible,
                remedy="set on_infeasible='relax' (to {:g} sd), or change the estimand",
            )
            s = arms.sample_weight
            self._odds[arm] = s[~rows].sum() / s[rows].sum()
            self._duals[arm], results[arm] = fit.result.dual, fit.result
            self._tolerances[arm] = fit.tolerance
            added = fit.result.x * s[~rows].sum()
            raw[arm] = s[rows] + added if self.estimand == "ATE" else added
        self._store_results(results)
        self.relaxed_max_smd_ = max(self._tolerances.values()) or None
        self.dual_coef_ = {
            self.classes_[arm]: dual[1:] / self._targets[arm].scale
            for arm, dual in self._duals.items()
        }
        self._finish(arms, raw)
        self.max_imbalance_ = self._imbalance(A, arms, self.weights_)
        return self

    @staticmethod
    def _other_arm(A: NDArray[np.float64], arms: Arms, arm: int) -> BalanceTarget:
        """The means of the other arm, which the exponential part of the weights meets."""
        rows = ~arms.rows(arm)
        s = arms.sample_weight
        scale = standardized_scale(A, arms.treated, s, arms.estimand)
        mean = weighted_mean(A[rows], s[rows])
        return BalanceTarget(mean, nonzero_scale(scale, mean))

    def _features(self, X: NDArray[np.float64]) -> NDArray[np.float64]:
        return self._basis.transform(X)

    def _predict_arm(self, X: NDArray[np.float64], arm: int) -> NDArray[np.float64]:
        C = self._targets[arm].rows(self._basis.transform(X))
        odds = self._odds[arm] * relative_weights(C, self._duals[arm], "kl")
        return 1.0 + odds if self.estimand_ == "ATE" else odds

    def estimating_equations(self) -> EstimatingEquations:
        """Estimating equations of the arms' models, for standard errors.

        Returns
        -------
        EstimatingEquations
        """
        arms = self._fitted_arms()
        A, s = self._basis.transform(arms.X), arms.sample_weight
        moments, derivatives, blocks = [], [], []
        for arm, rows, _ in arms.problems():
            C, theta = self._targets[arm].rows(A), self._duals[arm][1:]
            odds = self._odds[arm] * relative_weights(C[rows], self._duals[arm], "kl")
            # Where means were relaxed, only the columns at their bound have an equation.
            active = (theta != 0) | (self._tolerances[arm] == 0)
            design = np.column_stack([np.ones(len(C)), C[:, active]])
            added, other = np.zeros(len(C)), np.where(rows, 0.0, s)
            added[rows] = s[rows] * odds
            psi = design * (added - other)[:, None]
            psi[:, 1:] += np.outer(other, self._tolerances[arm] * np.sign(theta[active]))
            moments.append(psi)
            derivatives.append(design * (self._arm_scales[arm] * added)[:, None])
            blocks.append((design * added[:, None]).T @ design)
        return EstimatingEquations(np.hstack(moments), block_diag(*blocks), np.hstack(derivatives))

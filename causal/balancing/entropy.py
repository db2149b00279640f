"""Entropy balancing."""

from numbers import Integral, Real
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.utils._param_validation import HasMethods, Interval, StrOptions

from causal._estimating_equations import EstimatingEquations
from causal.balancing._chunked import fit_dual_chunks
from causal.balancing._dual_balancer import DualBalancer


class EntropyBalancing(DualBalancer):
    r"""Weights closest in entropy to the base weights that balance means.

    Each arm that differs from the target population gets the weights

    .. math:: \min_w \sum_i w_i \log(w_i / q_i) \quad \text{s.t.} \quad
              \sum_i w_i \phi(x_i) = \bar\phi, \; \sum_i w_i = 1,

    found by Newton's method on the dual. For the ATT the controls meet the
    means of the treated, which is the logistic propensity model fitted by
    balance instead of likelihood; for the ATE each arm meets the means of the
    whole sample.

    Parameters
    ----------
    estimand : {"ATE", "ATT", "ATC"}, default="ATT"
        Target population: all rows, the treated, or the controls.
    moments : int, default=1
        Highest power of each covariate that is balanced.
    interactions : bool, default=False
        Whether products of all pairs of covariates are balanced.
    featurizer : callable or transformer, default=None
        Functions of the covariates to balance in place of `moments` and
        `interactions`: X -> array of shape (n_samples, m).
    divergence : {"kl", "chi2", "chi2_signed", "el"}, default="kl"
        Distance from the base weights: entropy, chi-square with or without
        non-negativity, or empirical likelihood.
    max_smd : float, default=0.0
        Largest absolute standardised mean difference allowed; 0 is exact.
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
        Mean one in each arm, sampling weights included. Not set when
        "chi2_signed" gives negative weights.
    raw_weights_ : ndarray of shape (n_samples,)
        The same, possibly negative.
    ess_ : ndarray of shape (2,)
        Effective sample size of the controls and of the treated.
    classes_ : ndarray of shape (2,)
        Label of the controls, label of the treated.
    dual_coef_ : dict
        By label of each weighted arm: the coefficients of the balanced
        functions in the log-linear (or linear) weight model, in the units of
        the columns.
    propensity_ : ndarray of shape (n_samples,) or None
        The logistic propensity that the weights imply: with "kl", for the ATT
        and the ATC, in memory (with base weights: relative to theirs).
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
    Hainmueller, J. (2012). Entropy balancing for causal effects. Political
    Analysis, 20(1), 25-46.
    Zhao, Q., Percival, D. (2017). Entropy balancing is doubly robust. Journal
    of Causal Inference, 5(1).

    Examples
    --------
    >>> from causal import EntropyBalancing, load_lalonde
    >>> lalonde = load_lalonde()
    >>> balancer = EntropyBalancing("ATT").fit(lalonde.data, lalonde.treatment)
    >>> balancer.ess_.round(1)
    array([ 98.5, 185. ])
    >>> bool(balancer.max_imbalance_ < 1e-8)
    True
    """

    _parameter_constraints = {
        "estimand": [StrOptions({"ATE", "ATT", "ATC"})],
        "moments": [Interval(Integral, 1, None, closed="left")],
        "interactions": ["boolean"],
        "featurizer": [None, callable, HasMethods(["fit", "transform"])],
        "divergence": [StrOptions({"kl", "chi2", "chi2_signed", "el"})],
        "max_smd": [Interval(Real, 0, None, closed="left")],
        "tol": [Interval(Real, 0, None, closed="neither")],
        "max_iter": [Interval(Integral, 1, None, closed="left")],
        "on_infeasible": [StrOptions({"raise", "relax", "warn"})],
        "scoring": [StrOptions({"smd", "mmd"})],
    }

    def __init__(
        self,
        estimand: str = "ATT",
        *,
        moments: int = 1,
        interactions: bool = False,
        featurizer: Any = None,
        divergence: str = "kl",
        max_smd: float = 0.0,
        tol: float = 1e-8,
        max_iter: int = 200,
        on_infeasible: str = "raise",
        scoring: str = "smd",
    ) -> None:
        self.estimand = estimand
        self.moments = moments
        self.interactions = interactions
        self.featurizer = featurizer
        self.divergence = divergence
        self.max_smd = max_smd
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
        base_weight: ArrayLike | None = None,
    ) -> "EntropyBalancing":
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
        EntropyBalancing

        Raises
        ------
        InfeasibleError
            If the means cannot be met and `on_infeasible="raise"`.
        ValueError
            If the input is not two arms of finite numbers.
        """
        arms = self._validate_arms(X, y, treatment, sample_weight, base_weight)
        return self._fit_arms(arms, self.divergence, self.max_smd)

    def fit_chunks(self, chunks: Any, *, n_jobs: int | None = None) -> "EntropyBalancing":
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
        EntropyBalancing
            With the same weights as `fit` on all rows at once.

        Raises
        ------
        InfeasibleError
            If the means cannot be met and `on_infeasible="raise"`.
        ValueError
            If a `featurizer` that must be fitted is given, or the chunks disagree.
        """
        self._validate_params()
        return fit_dual_chunks(self, chunks, self.divergence, self.max_smd, n_jobs)

    def estimating_equations(self) -> EstimatingEquations:
        """Estimating equations of the weights, for standard errors.

        Returns
        -------
        EstimatingEquations
        """
        return self._dual_equations()

    def _predict_arm(self, X: NDArray[np.float64], arm: int) -> NDArray[np.float64]:
        return self._predict_dual(X, arm)

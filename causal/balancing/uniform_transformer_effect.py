"""Effect of a treatment by averaging over neighbours under a map that makes an arm uniform."""

from functools import partial
from numbers import Integral, Real
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import norm
from sklearn.base import BaseEstimator
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.validation import check_is_fitted

from causal.balancing._uniform_estimate import (
    UniformEstimate,
    UniformMethod,
    estimate_uniform_effect,
    warn_estimate,
)
from causal.balancing._uniform_kernels import KERNELS
from causal.balancing._uniform_map import SMOOTHINGS
from causal.balancing._uniform_study import (
    UniformStudy,
    check_reference,
    read_study,
    warn_reference,
)
from causal.balancing.uniform_transformer import check_dimension
from reweight.resampling import bootstrap_statistic

if TYPE_CHECKING:
    import pandas as pd

MOST_KERNEL_COLUMNS = 2
# What an earlier fit with other parameters may have left.
SOMETIMES_SET = (
    "weights_",
    "bandwidth_",
    "max_imbalance_",
    "stderr_",
    "effect_draws_",
    "n_failed_resamples_",
)


class UniformTransformerEffect(BaseEstimator):
    r"""Average effect of a treatment by way of the uniform transformer.

    For the ATT a map :math:`\varphi` makes the controls uniform on the unit
    cube. Their density there is one, so that sums over pairs of a control and a
    treated row need no ratio of densities. With "kernel", control i weighs

    .. math:: w_i \propto s_i \sum_{j \in T} s_j
              \prod_k \kappa\left(\frac{\varphi_k(x_i) - \varphi_k(x_j)}{h}\right),

    and with "projection" it has the weight that the least-squares regression of
    the controls' outcomes on polynomials of :math:`\varphi` gives it when it
    predicts for the treated. The effect is the mean outcome of the treated less
    the weighted mean of the controls. The ATC swaps the arms. For the ATE each
    arm is made uniform in turn and weighted to all rows, no row with itself.

    Parameters
    ----------
    estimand : {"ATT", "ATC", "ATE"}, default="ATT"
        Target population: the treated, the controls, or all rows.
    method : {"kernel", "projection"}, default=None
        How rows are compared. None takes the kernel for one or two covariates
        and the projection for more, where the kernel is far too smooth: in the
        design of Kang and Schafer with 200 rows and 4 covariates it leaves three
        quarters of the bias of the plain difference, and the projection a
        quarter.
    kernel : str, default="rbf"
        One of "rbf" and the Gaussian kernels of higher order "rbf4", "rbf6",
        "rbf8", "rbf10"; "epanechnikov", "uniform", "triangular", "biweight",
        "triweight", "tricube", "cosine", which are zero beyond one bandwidth;
        "silverman". Those of higher order, and "silverman", have negative
        values.
    bandwidth : float, default=None
        Bandwidth of the kernel in units of the cube. None takes n^(-1/d), the
        smallest that keeps the variance of order 1/n.
    degree : int, default=2
        Largest total degree of the polynomials.
    interactions : bool, default=True
        Whether polynomials include products of different covariates.
    gram : {"empirical", "identity"}, default="empirical"
        Second moments of the polynomials in the projection: those of the arm,
        which balances them exactly, or those of uniform rows.
    marginal : bool, default=None
        Whether covariates are mapped one by one. None does so for the
        projection, which any map suits, and not for the kernel, which is biased
        under the marginal map if covariates are dependent.
    smoothing : {"constant", "linear", "quadratic"}, default="constant"
        Degree of the density with which mass is spread within a bin.
    cut : {"random", "midpoint"}, default=None
        As in `UniformTransformer`. None takes "midpoint" for the projection
        with its empirical moments, and "random" otherwise, where rows that tie
        have to be spread to be uniform.
    on_infeasible : {"raise", "relax"}, default="raise"
        When an arm cannot balance all polynomials, or is constant in a column
        where the other is not: raise `InfeasibleError`, or warn and use the
        weights that come closest in the sum of squares.
    n_resamples : int, default=500
        Bootstrap resamples for standard error and intervals; None for neither.
    n_jobs : int, default=None
        Number of jobs over resamples. It does not change the result.
    random_state : int, RandomState instance or None, default=None
        Seeds the map and the resamples.
    verbose : int, default=0
        Whether to show the progress of resampling.

    Attributes
    ----------
    effect_ : float or ndarray of shape (n_outputs,)
        The estimate; an array if `y` has several columns.
    stderr_ : float or ndarray of shape (n_outputs,)
        Its standard error; not set without resamples.
    potential_means_ : ndarray of shape (2,) or (2, n_outputs)
        Mean outcome of the target population under control and under treatment.
    weights_ : ndarray of shape (n_samples,)
        The weights, mean one in each arm. Not set if some are negative.
    raw_weights_ : ndarray of shape (n_samples,)
        The weights that the estimate uses, negative ones included.
    effect_draws_ : ndarray of shape (n_draws,) or (n_draws, n_outputs)
        Effects in the resamples.
    n_failed_resamples_ : int
        Resamples without an estimate; they are not in `effect_draws_`.
    method_ : str
        How rows were compared.
    marginal_ : bool
        Whether covariates were mapped one by one.
    cut_ : str
        How bins were cut.
    bandwidth_ : float
        Bandwidth of the kernel; set by "kernel".
    max_imbalance_ : float
        Largest difference of a polynomial's weighted mean from its mean in the
        target, in standard deviations of uniform rows; set by "projection".
    estimand_ : str
        The target population.
    classes_ : ndarray of shape (2,)
        Control label, treated label (the larger one).
    outcome_names_ : list of str
        Names of the outcomes.
    n_features_in_ : int
        Number of covariates.
    feature_names_in_ : ndarray of str
        Names of the covariates, if X has any.

    See Also
    --------
    causal.UniformTransformer : The map.
    causal.WeightedEffect : Effects from balancing weights.

    Notes
    -----
    Intervals come from the Bayesian bootstrap: each resample multiplies the
    sampling weights by independent standard exponentials and repeats the map and
    the weights, with the same random cuts. At the default bandwidth the variance
    of the kernel estimate has a part from pairs of rows, which resampling
    exaggerates, so that its intervals are rather too long. The bias that smoothing
    leaves is not in them: with 400 rows of one covariate and an outcome that
    bends, intervals of 95 % covered .96 for the ATT and .80 for the ATE, both of
    whose arms are smoothed.

    Sampling weights are the mass of rows in bins, in sums over pairs and in the
    regression. A row of weight k is then close to k rows, but one bin of mass k
    is not k bins, and bandwidth and number of bins count rows. They do not
    apply to `X_reference`, whose rows count as one each and are held fixed in
    resamples. With one covariate the joint and the marginal map are the same.

    Kernel sums cost O(n 3^d) at the default bandwidth if the kernel is compact,
    otherwise up to the product of the sizes of arm and target.

    References
    ----------
    Yu, R., & Wang, S. (2020). Treatment effects estimation by uniform
    transformer. arXiv:2008.03738.

    Rubin, D. B. (1981). The Bayesian bootstrap. Annals of Statistics 9(1),
    130-134.

    Cattaneo, M. D., Crump, R. K., & Jansson, M. (2014). Bootstrapping
    density-weighted average derivatives. Econometric Theory 30(6), 1135-1164.

    Examples
    --------
    >>> from causal import UniformTransformerEffect, make_kang_schafer
    >>> study = make_kang_schafer(200, random_state=0)
    >>> effect = UniformTransformerEffect(n_resamples=200, random_state=0)
    >>> effect = effect.fit(study.X, study.y, treatment=study.treatment)
    >>> effect.method_
    'projection'
    """

    __metadata_request__fit = {"treatment": True, "groups": True, "X_reference": True}

    _parameter_constraints = {
        "estimand": [StrOptions({"ATT", "ATC", "ATE"})],
        "method": [StrOptions({"kernel", "projection"}), None],
        "kernel": [StrOptions(set(KERNELS))],
        "bandwidth": [Interval(Real, 0, None, closed="neither"), None],
        "degree": [Interval(Integral, 1, None, closed="left")],
        "interactions": ["boolean"],
        "gram": [StrOptions({"empirical", "identity"})],
        "marginal": ["boolean", None],
        "smoothing": [StrOptions(set(SMOOTHINGS))],
        "cut": [StrOptions({"random", "midpoint"}), None],
        "on_infeasible": [StrOptions({"raise", "relax"})],
        "n_resamples": [Interval(Integral, 2, None, closed="left"), None],
        "n_jobs": [Integral, None],
        "random_state": ["random_state"],
        "verbose": ["verbose"],
    }

    def __init__(
        self,
        estimand: str = "ATT",
        *,
        method: str | None = None,
        kernel: str = "rbf",
        bandwidth: float | None = None,
        degree: int = 2,
        interactions: bool = True,
        gram: str = "empirical",
        marginal: bool | None = None,
        smoothing: str = "constant",
        cut: str | None = None,
        on_infeasible: str = "raise",
        n_resamples: int | None = 500,
        n_jobs: int | None = None,
        random_state: int | np.random.RandomState | None = None,
        verbose: int = 0,
    ) -> None:
        self.estimand = estimand
        self.method = method
        self.kernel = kernel
        self.bandwidth = bandwidth
        self.degree = degree
        self.interactions = interactions
        self.gram = gram
        self.marginal = marginal
        self.smoothing = smoothing
        self.cut = cut
        self.on_infeasible = on_infeasible
        self.n_resamples = n_resamples
        self.n_jobs = n_jobs
        self.random_state = random_state
        self.verbose = verbose

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.target_tags.required = True
        tags.target_tags.multi_output = True
        return tags

    def fit(
        self,
        X: Any,
        y: ArrayLike,
        *,
        treatment: ArrayLike | None = None,
        sample_weight: ArrayLike | None = None,
        groups: ArrayLike | None = None,
        X_reference: Any = None,
    ) -> "UniformTransformerEffect":
        """Fit the map, the weights, and the effect with its error.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Covariates.
        y : array-like of shape (n_samples,) or (n_samples, n_outputs)
            Outcomes; or two columns, outcome and treatment, if `treatment` is
            not given.
        treatment : array-like of shape (n_samples,), default=None
            Two-valued treatment; the larger label is the treated one.
        sample_weight : array-like of shape (n_samples,), default=None
            Sampling weights.
        groups : array-like of shape (n_samples,), default=None
            Rows that belong together, resampled together.
        X_reference : array-like of shape (n_reference, n_features), default=None
            Rows distributed like the arm that is weighted, with no outcome, from
            which the map is learned instead: controls for the ATT, treated rows
            for the ATC. In a 1-tuple inside cross-validation.

        Returns
        -------
        UniformTransformerEffect

        Raises
        ------
        ValueError
            If the treatment is missing or not two-valued, an outcome is not
            finite, the joint map has too many columns or too few rows, or the
            weights of an arm do not have a positive sum.
        InfeasibleError
            If an arm cannot balance all polynomials, or is constant in a column
            where the other is not, and `on_infeasible` is "raise".

        Warns
        -----
        WeightWarning
            If arms overlap poorly, few rows carry the weights, the joint map has
            few bins, or polynomials are not balanced.
        """
        self._validate_params()
        for name in SOMETIMES_SET:
            vars(self).pop(name, None)
        study = read_study(self, X, y, treatment, sample_weight, groups, X_reference)
        self.classes_, self.outcome_names_ = study.classes, study.outcome_names
        self._one_output = study.one_output
        draws = check_random_state(self.random_state).randint(np.iinfo(np.int32).max, size=2)
        seed, draw_seed = map(int, draws)
        method = self._resolve(study, seed)
        check_reference(study, self.estimand, method.marginal, method.relax)
        warn_reference(study, self.estimand, method.marginal)
        self._store_estimate(study, method, estimate_uniform_effect(study, method))
        if self.n_resamples is not None:
            self._resample(study, method, draw_seed)
        return self

    def _resolve(self, study: UniformStudy, seed: int) -> UniformMethod:
        """Settle what the parameters leave open."""
        n, d = len(study.X), study.n_varying
        method = self.method
        if method is None:
            method = "kernel" if d <= MOST_KERNEL_COLUMNS else "projection"
        marginal = method == "projection" if self.marginal is None else self.marginal
        cut = self.cut
        if cut is None:
            exact = method == "projection" and self.gram == "empirical"
            cut = "midpoint" if exact else "random"
        if not marginal:
            check_dimension(type(self).__name__, d)
        return UniformMethod(
            estimand=self.estimand,
            method=method,
            kernel=self.kernel,
            bandwidth=float(n ** (-1 / d)) if self.bandwidth is None else float(self.bandwidth),
            degree=self.degree,
            interactions=self.interactions,
            gram=self.gram,
            marginal=marginal,
            smoothing=self.smoothing,
            cut=cut,
            seed=seed,
            relax=self.on_infeasible == "relax",
        )

    def _store_estimate(
        self, study: UniformStudy, method: UniformMethod, estimate: UniformEstimate
    ) -> None:
        """Set what the fit on all rows gives, and warn of weights that mislead."""
        self.estimand_, self.method_ = self.estimand, method.method
        self.marginal_, self.cut_ = method.marginal, method.cut
        weights = self.raw_weights_ = study.full_weights(estimate.weights)
        if weights.min() >= 0:
            self.weights_ = weights
        self.effect_ = self._shaped(estimate.effect)
        self.potential_means_ = self._shaped(estimate.means)
        if method.method == "kernel":
            self.bandwidth_ = method.bandwidth
        else:
            self.max_imbalance_ = estimate.imbalance[0]
        warn_estimate(study, method, estimate)

    def _resample(self, study: UniformStudy, method: UniformMethod, draw_seed: int) -> None:
        """Set standard errors from the Bayesian bootstrap."""
        result = bootstrap_statistic(
            partial(_effect, study, method),
            len(study.y),
            n_resamples=self.n_resamples,
            kind="exponential",
            groups=study.groups,
            random_state=draw_seed,
            n_jobs=self.n_jobs,
            verbose=self.verbose,
            name=type(self).__name__,
        )
        draws = np.asarray(result.values)
        if len(draws) < 2:
            raise ValueError(
                f"{type(self).__name__}: {result.n_failed} of {self.n_resamples} resamples failed, "
                f"the first with {next(iter(result.failures.values()))}; no interval can be "
                "formed; widen bandwidth or lower degree, or pass n_resamples=None"
            )
        self.n_failed_resamples_ = result.n_failed
        self.effect_draws_ = self._shaped(draws)
        self.stderr_ = self._shaped(draws.std(axis=0, ddof=1))

    def _shaped(self, values: NDArray) -> Any:
        """Without the axis of outcomes if there is one; a number if nothing else is left."""
        if not self._one_output:
            return values
        values = values[..., 0]
        return float(values) if values.ndim == 0 else values

    def confint(self, confidence_level: float = 0.95) -> NDArray[np.float64]:
        """Confidence intervals of the effects: quantiles of the resampled ones.

        Parameters
        ----------
        confidence_level : float, default=0.95
            Probability that an interval covers the effect, between 0 and 1.

        Returns
        -------
        ndarray of shape (n_outputs, 2)
            Lower and upper limits.
        """
        check_is_fitted(self, "effect_")
        name = type(self).__name__
        if not 0 < confidence_level < 1:
            raise ValueError(
                f"{name}: confidence_level is {confidence_level!r}; pass a number between 0 and 1, "
                "such as 0.95"
            )
        if not hasattr(self, "stderr_"):
            raise ValueError(
                f"{name}: n_resamples=None leaves the error of the effect unknown; pass "
                "n_resamples=500 and fit again"
            )
        tail = (1 - confidence_level) / 2
        return np.atleast_2d(np.quantile(self.effect_draws_, [tail, 1 - tail], axis=0).T)

    def summary(self, confidence_level: float = 0.95) -> "pd.DataFrame":
        """Effects, their standard errors, tests of no effect, and intervals.

        Parameters
        ----------
        confidence_level : float, default=0.95
            Level of the intervals.

        Returns
        -------
        pandas.DataFrame
            One row per outcome: estimate, stderr, z, p_value (two-sided,
            normal), lower, upper. `attrs` has estimand, inference and
            confidence_level.
        """
        import pandas as pd

        interval = self.confint(confidence_level)
        effect, stderr = np.atleast_1d(self.effect_), np.atleast_1d(self.stderr_)
        with np.errstate(divide="ignore", invalid="ignore"):
            z = effect / stderr
        table = pd.DataFrame(
            {
                "estimate": effect,
                "stderr": stderr,
                "z": z,
                "p_value": 2 * norm.sf(np.abs(z)),
                "lower": interval[:, 0],
                "upper": interval[:, 1],
            },
            index=pd.Index(self.outcome_names_, name="outcome"),
        )
        table.attrs = {
            "estimand": self.estimand_,
            "inference": "bootstrap",
            "confidence_level": confidence_level,
        }
        return table


def _effect(
    study: UniformStudy, method: UniformMethod, factor: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Effect of one resample."""
    return estimate_uniform_effect(study, method, factor).effect

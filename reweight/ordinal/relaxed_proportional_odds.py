"""Proportional odds whose boundaries differ where the data ask for it."""

from numbers import Real
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike
from sklearn.utils._param_validation import Interval

from reweight.ordinal._base import BaseOrdinalClassifier
from reweight.ordinal._cumulative_logit import loss_terms, null_model, some_row_crosses
from reweight.ordinal._design import OrdinalDesign, elastic_net, make_design, unit_penalty
from reweight.ordinal._path import solve, warn_if_separated, warn_unless_converged


class RelaxedProportionalOdds(BaseOrdinalClassifier):
    r"""Ordinal regression with slopes of its own at each boundary, shrunk towards its neighbour's.

    For levels 1 to K and boundaries k = 1 to K - 1,

    .. math:: P(y \le k \mid x) = s(\alpha_k + \beta_k' x), \quad s(t) = 1 / (1 + e^{-t}),

    and intercepts and slopes minimise the mean negative log-likelihood plus

    .. math::
        \lambda \sum_{k, j} f_j \left( r |\psi_{jk}| + \frac{1 - r}{2} \psi_{jk}^2 \right),
        \quad \psi_1 = \beta_1, \quad \psi_k = \beta_k - \beta_{k-1}.

    One set of slopes for all boundaries is the proportional odds model; slopes
    without ties are K - 1 separate ones. In between, a rare last level borrows
    from the common ones what they share with it. Levels must be ordered steps of
    one process; for two use a logistic regression, for unordered classes a
    multinomial one.

    Parameters
    ----------
    alpha : float, default=1e-2
        Strength of the penalty, :math:`\lambda`.
    l1_ratio : float, default=1.0
        Share r of the absolute values; 0 is a ridge on the differences.
    penalize_first : bool, default=True
        Whether the slopes of the first boundary are penalised too. If not, a
        strong penalty gives the maximum likelihood of proportional odds.
    penalty_factors : array-like of shape (n_features,), default=None
        Factor :math:`f_j` of each feature; None is one for all, 0 no penalty.
    standardize : bool, default=True
        Whether to penalise slopes per standard deviation of the feature rather
        than per unit. Coefficients are reported per unit.
    categories : array-like of shape (n_classes,), default=None
        Levels from the lowest to the highest. None takes the order of an ordered
        categorical of pandas or an Enum of polars, otherwise the sorted labels.
    solver : {"auto", "newton-cd", "fista"}, default="auto"
        Newton's method with coordinate descent, or accelerated proximal gradient;
        "auto" takes the first up to 2000 parameters.
    domain : {"observed", "all"}, default="observed"
        "observed" asks for a positive probability of the level that each training
        row has, which is the likelihood; "all" of every level in every training
        row. Where the best model is not of that kind, the solver stops at one that
        is, short of the best, and a `ConvergenceWarning` says so.
    max_iter : int, default=100
        Largest number of Newton steps, or of hundreds of gradient steps.
    tol : float, default=1e-7
        Largest violation of the optimality conditions, on the scale of features
        of unit variance.
    warm_start : bool, default=False
        Whether to start at the coefficients of the last fit.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
        Levels from the lowest to the highest.
    intercept_ : ndarray of shape (n_classes - 1,)
        Intercepts of the boundaries.
    coef_ : ndarray of shape (n_classes - 1, n_features)
        Slopes of the log-odds of lying at or below each level: positive ones lower
        the level.
    exceedance_coef_ : ndarray of shape (n_classes - 1, n_features)
        Minus `coef_`, the slopes of the log-odds of lying above.
    differences_ : ndarray of shape (n_classes - 1, n_features)
        Slopes of the first boundary, then what each adds to the one before.
    loglik_ : float
        Log-likelihood of the training rows, each times its sample weight.
    objective_ : float
        Mean negative log-likelihood plus penalty.
    optimality_gap_ : float
        Largest violation of the optimality conditions.
    n_iter_ : int
        Steps of the solver.
    solver_result_ : SolverResult
        The solution on the scale of standardised features.
    n_features_in_ : int
        Number of features.
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Their names, when X has string column names.

    See Also
    --------
    RelaxedProportionalOddsCV : Chooses the strength by cross-validation.
    parallel_test : Tests proportional odds.

    References
    ----------
    Faletto, G., Bien, J. (2023). Predicting rare events by shrinking towards
    proportional odds. ICML, PMLR 202.

    Examples
    --------
    >>> import numpy as np
    >>> from reweight import RelaxedProportionalOdds
    >>> rng = np.random.default_rng(0)
    >>> X = rng.normal(size=(500, 2))
    >>> y = np.digitize(X[:, 0] + rng.logistic(size=500), [0.0, 3.0])
    >>> model = RelaxedProportionalOdds(alpha=0.01).fit(X, y)
    >>> model.predict_tail_proba([[-1.0, 0.0], [2.0, 0.0]]).round(2)
    array([0.02, 0.27])
    """

    _parameter_constraints = {
        **BaseOrdinalClassifier._parameter_constraints,
        "alpha": [Interval(Real, 0, None, closed="left")],
        "warm_start": ["boolean"],
    }

    def __init__(
        self,
        alpha: float = 1e-2,
        *,
        l1_ratio: float = 1.0,
        penalize_first: bool = True,
        penalty_factors: ArrayLike | None = None,
        standardize: bool = True,
        categories: ArrayLike | None = None,
        solver: str = "auto",
        domain: str = "observed",
        max_iter: int = 100,
        tol: float = 1e-7,
        warm_start: bool = False,
    ) -> None:
        self.alpha = alpha
        self.l1_ratio = l1_ratio
        self.penalize_first = penalize_first
        self.penalty_factors = penalty_factors
        self.standardize = standardize
        self.categories = categories
        self.solver = solver
        self.domain = domain
        self.max_iter = max_iter
        self.tol = tol
        self.warm_start = warm_start

    def fit(self, X: Any, y: ArrayLike, sample_weight: ArrayLike | None = None) -> Self:
        """Fit intercepts and slopes.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Features.
        y : array-like of shape (n_samples,)
            Levels.
        sample_weight : array-like of shape (n_samples,), default=None
            Sampling weights; the fit does not depend on their scale.

        Returns
        -------
        Self

        Raises
        ------
        TypeError
            If rows are not numeric.
        ValueError
            If a parameter, the rows or the weights cannot be used, there are fewer
            than three levels, or a level has no rows or no weight.
        """
        self._validate_params()
        rows = self._check_rows(X, y, sample_weight)
        design = make_design(rows, self.standardize)
        unit = unit_penalty(self, design.problem.size)
        penalty = elastic_net(self.alpha, self.l1_ratio, unit)
        result = solve(self, design, penalty, self._start(design))
        warn_unless_converged(self, result.optimality_gap)
        warn_if_separated(self, result.x)
        self.classes_ = rows.classes
        self._store(*design.to_original(result.x))
        self.loglik_ = -design.total_weight * (result.objective - penalty.value(result.x))
        self.objective_ = result.objective
        self.optimality_gap_ = result.optimality_gap
        self.n_iter_ = result.n_iter
        self.solver_result_ = result
        return self

    def _start(self, design: OrdinalDesign) -> np.ndarray:
        """The last solution if it is asked for and lies inside the domain, or the null model."""
        shape = (design.problem.n_boundaries, len(design.scale))
        if self.warm_start and getattr(self, "coef_", np.empty(0)).shape == shape:
            start = design.from_original(self.intercept_, self.coef_)
            crossed = self.domain == "all" and some_row_crosses(design.problem, start)
            if np.isfinite(loss_terms(design.problem, start)[0]) and not crossed:
                return start
        return null_model(design.problem)

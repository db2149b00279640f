"""Density ratios by maximum likelihood."""

from numbers import Integral, Real
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils._param_validation import Interval, StrOptions

from reweight.solvers.mixture_proportions import mixture_proportions
from reweight.solvers.result import SolverResult
from reweight.validation import warn_user, warn_weights
from shift.covariate._kernel_ratio import KernelRatioWeighter, fold_codes

NEGLIGIBLE = 1e-12


class KLIEP(KernelRatioWeighter):
    r"""Weights from the density ratio under which the target is most likely.

    The ratio w of the target density to the source density is modelled as a
    sum of Gaussians around target rows with non-negative coefficients,

    .. math:: \max_\theta \frac1t \sum_i \log \psi(x^*_i)^\top \theta
              \quad \text{s.t.} \quad \theta \ge 0, \;
              \frac1n \sum_j \psi(x_j)^\top \theta = 1,

    which minimises the Kullback-Leibler divergence of the target from the
    weighted source. It is the maximum likelihood of a mixture, and solved as
    such, with a certificate.

    Parameters
    ----------
    bandwidth : float, array-like or {"cv", "median", "knn50", "scott", "silverman"}, default="cv"
        Length of the Gaussians in units of X. "cv" chooses from
        `bandwidth_grid` by the likelihood of held-out target rows, a rule
        finds it on source and target together.
    n_components : int, default=100
        Number of Gaussians, around as many target rows drawn at random; with
        no more target rows than that, around all of them in order.
    bandwidth_grid : array-like of shape (n_bandwidths,), default=None
        Bandwidths to choose from; None is 0.25, 0.5, 1 and 2 times the median
        distance of all rows.
    n_folds : int, default=5
        Number of folds of the target rows.
    exponent : float, default=1.0
        Power between 0 and 1 that flattens the weights: 0 gives equal weights.
    solver : {"em-newton", "cvxpy"}, default="em-newton"
        EM steps and then Newton steps, or the slow plain formulation.
    tol : float, default=1e-7
        Gap in the mean log-likelihood at which to stop.
    max_iter : int, default=10000
        Largest number of steps.
    random_state : int, RandomState instance or None, default=0
        Seed of the centres and the folds.

    Attributes
    ----------
    weights_ : ndarray of shape (n_samples,)
        Mean one, sampling weights included.
    raw_weights_ : ndarray of shape (n_samples,)
        The ratio at each row, times the sampling weights scaled to mean one;
        its mean is one by construction.
    ess_ : float
        Effective sample size of `weights_`.
    theta_ : ndarray of shape (n_centers,) or None
        Coefficients; None without target rows.
    centers_ : ndarray of shape (n_centers, n_features) or None
        Centres of the Gaussians.
    bandwidth_ : float, ndarray of shape (n_features,) or None
        Length used.
    cv_results_ : pandas.DataFrame or None
        Mean log ratio of held-out target rows for each bandwidth, if there was
        a choice; larger is better.
    objective_ : float
        Mean log ratio of the target rows, an estimate of the Kullback-Leibler
        divergence.
    optimality_gap_ : float
        Certified distance of `objective_` from the maximum, in its own units.
    solver_result_ : SolverResult
        Of the solver; its `x` are the coefficients times the mean of each
        Gaussian over the source, which sum to one.
    n_iter_ : int
        Steps taken.
    n_target_ : int
        Number of target rows.
    n_features_in_ : int
        Number of columns.
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Their names, when X has string column names.

    References
    ----------
    Sugiyama, M., Suzuki, T., Nakajima, S., Kashima, H., von Buenau, P.,
    Kawanabe, M. (2008). Direct importance estimation for covariate shift
    adaptation. Annals of the Institute of Statistical Mathematics, 60(4).

    Examples
    --------
    >>> import numpy as np
    >>> from shift import KLIEP
    >>> rng = np.random.default_rng(0)
    >>> X, X_target = rng.normal(size=(300, 1)), rng.normal(0.5, 0.8, size=(200, 1))
    >>> weighter = KLIEP().fit(X, X_target=X_target)
    >>> (weighter.weights_ @ X / 300).round(1)
    array([0.5])
    """

    _parameter_constraints = {
        **KernelRatioWeighter._parameter_constraints,
        "solver": [StrOptions({"em-newton", "cvxpy"})],
        "tol": [Interval(Real, 0, None, closed="neither")],
        "max_iter": [Interval(Integral, 1, None, closed="left")],
    }

    def __init__(
        self,
        *,
        bandwidth: float | ArrayLike | str = "cv",
        n_components: int = 100,
        bandwidth_grid: ArrayLike | None = None,
        n_folds: int = 5,
        exponent: float = 1.0,
        solver: str = "em-newton",
        tol: float = 1e-7,
        max_iter: int = 10_000,
        random_state: Any = 0,
    ) -> None:
        self.bandwidth = bandwidth
        self.n_components = n_components
        self.bandwidth_grid = bandwidth_grid
        self.n_folds = n_folds
        self.exponent = exponent
        self.solver = solver
        self.tol = tol
        self.max_iter = max_iter
        self.random_state = random_state

    def _fit_ratio(
        self, X: NDArray, X_target: NDArray, share: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        rng = self._start(X, X_target)
        self.bandwidth_ = self._bandwidths[0]
        if len(self._bandwidths) > 1:
            self.bandwidth_ = self._select(X, X_target, share, rng)
        source = self._features(X, self.bandwidth_)
        components, means, kept = self._components(source, X_target, share, self.bandwidth_)
        if not kept.all():
            warn_weights(
                f"KLIEP: {int((~kept).sum())} of {len(kept)} Gaussians vanish on every source "
                "row and are left out: the source does not reach those target rows; use a larger "
                "bandwidth"
            )
        unreached = int((~components.any(axis=1)).sum())
        if unreached:
            raise ValueError(
                f"KLIEP: {unreached} of {len(X_target)} target rows are out of reach of every "
                f"Gaussian that the source reaches, with bandwidth {self.bandwidth_}; pass a "
                "larger bandwidth or drop those rows"
            )
        result = self._solve(components)
        self._store_result(result)
        self.theta_ = np.zeros(len(self.centers_))
        self.theta_[kept] = result.x / means[kept]
        return source @ self.theta_

    def _fit_no_shift(self, X: NDArray) -> None:
        super()._fit_no_shift(X)
        self.objective_ = self.optimality_gap_ = 0.0
        self.n_iter_ = 0
        self.solver_result_ = SolverResult(
            np.ones(1), None, 0.0, 0.0, "duality_gap", 0, True, "none"
        )

    def _components(self, source: NDArray, X_target: NDArray, share: NDArray, bandwidth: Any):
        """Gaussians at the target rows, scaled to mean one over the source, where they have one."""
        means = share @ source
        kept = means > NEGLIGIBLE
        return self._features(X_target, bandwidth)[:, kept] / means[kept], means, kept

    def _solve(self, components: NDArray) -> SolverResult:
        if self.solver == "em-newton":
            return mixture_proportions(components, tol=self.tol, max_iter=self.max_iter)
        from dataclasses import replace

        from reweight.solvers.reference import mixture_reference

        weights = np.full(len(components), 1.0 / len(components))
        result = mixture_reference(components, weights)
        x = np.maximum(result.x, 0.0)
        x /= x.sum()
        mixture = components @ x
        gap = max(float(((weights / mixture) @ components).max() - 1), 0.0)
        return replace(
            result,
            x=x,
            objective=float(weights @ np.log(mixture)),
            optimality_gap=gap,
            converged=bool(gap <= self.tol),
        )

    def _store_result(self, result: SolverResult) -> None:
        self.solver_result_ = result
        self.objective_ = result.objective
        self.optimality_gap_ = result.optimality_gap
        self.n_iter_ = result.n_iter
        if not result.converged:
            warn_user(
                f"KLIEP: the mean log-likelihood is certified only to {result.optimality_gap:.3g}, "
                f"above tol={self.tol:g}, after {result.n_iter} steps; raise max_iter or tol",
                ConvergenceWarning,
            )

    def _select(self, X: NDArray, X_target: NDArray, share: NDArray, rng) -> Any:
        """Bandwidth under which held-out target rows are most likely."""
        import pandas as pd

        n_folds = self._check_folds(len(X_target), "target")
        folds = fold_codes(len(X_target), n_folds, rng)
        scores = []
        for bandwidth in self._bandwidths:
            source = self._features(X, bandwidth)
            components, _, _ = self._components(source, X_target, share, bandwidth)
            scores.append(np.mean([self._held_out(components, folds == k) for k in range(n_folds)]))
        self.cv_results_ = pd.DataFrame({"bandwidth": self._bandwidths, "score": scores})
        if np.isneginf(scores).all():
            raise ValueError(
                f"KLIEP: with none of the bandwidths {self._bandwidths} do the Gaussians reach "
                "all held-out target rows; pass a larger bandwidth"
            )
        return self._bandwidths[int(np.argmax(scores))]

    def _held_out(self, components: NDArray, held: NDArray[np.bool_]) -> float:
        train = components[~held]
        if components.shape[1] == 0 or not train.any(axis=1).all():
            return -np.inf
        fitted = mixture_proportions(train, tol=1e-4, max_iter=self.max_iter)
        with np.errstate(divide="ignore"):
            return float(np.log(components[held] @ fitted.x).mean())

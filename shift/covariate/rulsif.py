"""Density ratios by least squares: relative, and plain."""

from numbers import Real
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.linalg import cho_factor, cho_solve
from sklearn.utils._param_validation import Interval, StrOptions

from reweight.kernels.leave_pair_out import leave_pair_out_scores
from reweight.validation import warn_weights
from shift.covariate._kernel_ratio import KernelRatioWeighter, fold_codes

ALPHA_GRID = np.logspace(-3, 1, 9)
# The relative ratio must stay this far below its bound for the plain one to be recovered.
RECOVERABLE = 0.99


class RuLSIF(KernelRatioWeighter):
    r"""Weights from the relative density ratio, fitted by least squares.

    The relative ratio

    .. math:: w_m(x) = \frac{p^*(x)}{m \, p^*(x) + (1 - m) \, p(x)} \le \frac1m

    of the target density p* and the source density p with `mixing` m is
    bounded where the plain ratio, m = 0, explodes. It is modelled as a sum of
    Gaussians around target rows, whose non-negative coefficients have a closed
    form.

    Parameters
    ----------
    mixing : float, default=0.1
        Share m of the target in the denominator, in [0, 1).
    bandwidth : float, array-like or {"cv", "median", "knn50", "scott", "silverman"}, default="cv"
        Length of the Gaussians in units of X. "cv" chooses from
        `bandwidth_grid`, a rule finds it on source and target together.
    alpha : float or "cv", default="cv"
        Ridge on the coefficients; "cv" chooses from `alpha_grid`.
    n_components : int, default=100
        Number of Gaussians, around as many target rows drawn at random; with
        no more target rows than that, around all of them in order.
    bandwidth_grid : array-like of shape (n_bandwidths,), default=None
        Bandwidths to choose from; None is 0.25, 0.5, 1 and 2 times the median
        distance of all rows.
    alpha_grid : array-like of shape (n_alphas,), default=None
        Ridges to choose from; None is nine from 0.001 to 10.
    relative : bool, default=True
        Whether the weights are the relative ratio. False recovers the plain
        ratio from it, capped where the relative one comes near its bound.
    n_folds : int, default=5
        Number of folds. With `mixing=0` and equal sampling weights all pairs
        of a source and a target row are left out in turn instead.
    exponent : float, default=1.0
        Power between 0 and 1 that flattens the weights: 0 gives equal weights.
    random_state : int, RandomState instance or None, default=0
        Seed of the centres, the pairs and the folds.

    Attributes
    ----------
    weights_ : ndarray of shape (n_samples,)
        Mean one, sampling weights included.
    raw_weights_ : ndarray of shape (n_samples,)
        The ratio at each row, times the sampling weights scaled to mean one.
    ess_ : float
        Effective sample size of `weights_`.
    theta_ : ndarray of shape (n_centers,) or None
        Coefficients of the relative ratio; None without target rows.
    centers_ : ndarray of shape (n_centers, n_features) or None
        Centres of the Gaussians.
    bandwidth_ : float, ndarray of shape (n_features,) or None
        Length used.
    best_params_ : dict
        Bandwidth and ridge used.
    cv_results_ : pandas.DataFrame or None
        Held-out error of each pair of a bandwidth and a ridge, if there was a choice.
    n_target_ : int
        Number of target rows.
    n_features_in_ : int
        Number of columns.
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Their names, when X has string column names.

    References
    ----------
    Yamada, M., Suzuki, T., Kanamori, T., Hachiya, H., Sugiyama, M. (2013).
    Relative density-ratio estimation for robust distribution comparison.
    Neural Computation, 25(5), 1324-1370.

    Examples
    --------
    >>> import numpy as np
    >>> from shift import RuLSIF
    >>> rng = np.random.default_rng(0)
    >>> X, X_target = rng.normal(size=(300, 1)), rng.normal(1.0, 0.7, size=(200, 1))
    >>> weighter = RuLSIF(mixing=0.2).fit(X, X_target=X_target)
    >>> bool(weighter.raw_weights_.max() < 5.5)
    True
    """

    _parameter_constraints = {
        **KernelRatioWeighter._parameter_constraints,
        "mixing": [Interval(Real, 0, 1, closed="left")],
        "alpha": [Interval(Real, 0, None, closed="neither"), StrOptions({"cv"})],
        "alpha_grid": ["array-like", None],
        "relative": ["boolean"],
    }

    def __init__(
        self,
        mixing: float = 0.1,
        *,
        bandwidth: float | ArrayLike | str = "cv",
        alpha: float | str = "cv",
        n_components: int = 100,
        bandwidth_grid: ArrayLike | None = None,
        alpha_grid: ArrayLike | None = None,
        relative: bool = True,
        n_folds: int = 5,
        exponent: float = 1.0,
        random_state: Any = 0,
    ) -> None:
        self.mixing = mixing
        self.bandwidth = bandwidth
        self.alpha = alpha
        self.n_components = n_components
        self.bandwidth_grid = bandwidth_grid
        self.alpha_grid = alpha_grid
        self.relative = relative
        self.n_folds = n_folds
        self.exponent = exponent
        self.random_state = random_state

    def _fit_ratio(
        self, X: NDArray, X_target: NDArray, share: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        rng = self._start(X, X_target)
        alphas = self._ridges()
        if len(self._bandwidths) * len(alphas) > 1:
            bandwidth, alpha = self._select(X, X_target, share, alphas, rng)
        else:
            bandwidth, alpha = self._bandwidths[0], alphas[0]
        self.bandwidth_ = bandwidth
        self.best_params_ = {"bandwidth": bandwidth, "alpha": float(alpha)}
        source, target = self._features(X, bandwidth), self._features(X_target, bandwidth)
        H = _mix(self.mixing, (source * share[:, None]).T @ source, target.T @ target / len(target))
        self.theta_ = _coefficients(H, target.mean(axis=0), alpha)
        return self._as_asked(source @ self.theta_, warn=True)

    def _fit_no_shift(self, X: NDArray) -> None:
        super()._fit_no_shift(X)
        self.best_params_ = {}

    def _ratio(self, X: NDArray) -> NDArray[np.float64]:
        return self._as_asked(super()._ratio(X))

    def _as_asked(self, relative: NDArray, warn: bool = False) -> NDArray[np.float64]:
        """The relative ratio itself, or the plain one recovered from it."""
        m = self.mixing
        if self.relative or m == 0:
            return relative
        near = m * relative > RECOVERABLE
        if warn and near.any():
            warn_weights(
                f"{type(self).__name__}: the relative ratio is near its bound 1/mixing = "
                f"{1 / m:.4g} in {int(near.sum())} of {len(near)} rows, where the plain ratio "
                "cannot be recovered and is capped; use relative=True or a smaller mixing"
            )
        relative = np.minimum(relative, RECOVERABLE / m)
        return (1 - m) * relative / (1 - m * relative)

    def _ridges(self) -> NDArray[np.float64]:
        if self.alpha != "cv":
            return np.array([float(self.alpha)])
        grid = ALPHA_GRID if self.alpha_grid is None else np.asarray(self.alpha_grid, dtype=float)
        if grid.ndim != 1 or grid.size == 0 or not (np.isfinite(grid) & (grid > 0)).all():
            raise ValueError(
                f"{type(self).__name__}: alpha_grid must be a list of positive numbers, got "
                f"{grid.tolist()}"
            )
        return grid

    def _select(self, X, X_target, share, alphas, rng) -> tuple[Any, float]:
        """Bandwidth and ridge of the smallest held-out error."""
        import pandas as pd

        n, t = len(X), len(X_target)
        in_pairs = self.mixing == 0 and np.ptp(share) <= 1e-12 * share.max()
        self._check_folds(min(n, t), "source and target")
        if in_pairs:
            order, order_target = rng.permutation(n), rng.permutation(t)
        else:
            folds = fold_codes(n, self._check_folds(min(n, t), "source and target"), rng)
            folds_target = fold_codes(t, folds.max() + 1, rng)
        scores = np.empty((len(self._bandwidths), len(alphas)))
        features = zip(
            self._features_by_bandwidth(X), self._features_by_bandwidth(X_target), strict=True
        )
        for b, (source, target) in enumerate(features):
            if in_pairs:
                scores[b] = leave_pair_out_scores(source[order], target[order_target], alphas)
            else:
                scores[b] = _fold_scores(
                    source, target, share, folds, folds_target, self.mixing, alphas
                )
        grid = pd.MultiIndex.from_product(
            [range(len(self._bandwidths)), alphas.tolist()], names=["bandwidth", "alpha"]
        )
        results = pd.DataFrame({"score": scores.ravel()}, index=grid).reset_index()
        results["bandwidth"] = [self._bandwidths[b] for b in results["bandwidth"]]
        self.cv_results_ = results
        b, a = np.unravel_index(np.argmin(scores), scores.shape)
        return self._bandwidths[b], float(alphas[a])


def _mix(mixing: float, source: NDArray, target: NDArray) -> NDArray[np.float64]:
    """Second moments of the features under the mixture in the denominator."""
    return source if mixing == 0 else mixing * target + (1 - mixing) * source


def _coefficients(H: NDArray, h: NDArray, alpha: float) -> NDArray[np.float64]:
    """The coefficients max((H + alpha I)^-1 h, 0)."""
    factor = cho_factor(H + alpha * np.eye(len(H)), lower=True, check_finite=False)
    return np.maximum(cho_solve(factor, h, check_finite=False), 0.0)


def _fold_scores(
    source: NDArray,
    target: NDArray,
    share: NDArray,
    folds: NDArray,
    folds_target: NDArray,
    mixing: float,
    alphas: NDArray,
) -> NDArray[np.float64]:
    """Mean held-out error of each ridge, from second moments of the folds."""
    n_folds = int(folds.max()) + 1
    grams, grams_target, sums, masses = [], [], [], []
    for fold in range(n_folds):
        rows, part = source[folds == fold], share[folds == fold]
        rows_target = target[folds_target == fold]
        grams.append((rows * part[:, None]).T @ rows)
        grams_target.append(rows_target.T @ rows_target)
        sums.append(rows_target.sum(axis=0))
        masses.append((part.sum(), len(rows_target)))
    everything = [sum(parts) for parts in (grams, grams_target, sums)]
    mass, mass_target = np.sum(masses, axis=0)
    scores = np.zeros(len(alphas))
    for fold in range(n_folds):
        m, m_target = masses[fold]
        inside = _mix(mixing, grams[fold] / m, grams_target[fold] / m_target)
        outside = _mix(
            mixing,
            (everything[0] - grams[fold]) / (mass - m),
            (everything[1] - grams_target[fold]) / (mass_target - m_target),
        )
        h = (everything[2] - sums[fold]) / (mass_target - m_target)
        for a, alpha in enumerate(alphas):
            theta = _coefficients(outside, h, alpha)
            scores[a] += 0.5 * theta @ inside @ theta - theta @ sums[fold] / m_target
    return scores / n_folds

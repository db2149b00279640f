"""Plain density ratios by least squares."""

from typing import Any

from numpy.typing import ArrayLike

from shift.covariate.rulsif import RuLSIF


class ULSIF(RuLSIF):
    r"""Weights from the density ratio, fitted by least squares.

    The ratio of the target density to the source density is modelled as a sum
    of Gaussians around target rows, whose non-negative coefficients minimise
    the squared error under the source and have a closed form. So has the error
    of leaving out every pair of a source and a target row, by which bandwidth
    and ridge are chosen. It is `RuLSIF` with `mixing=0`.

    Parameters
    ----------
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
    n_folds : int, default=5
        Number of folds where sampling weights differ; otherwise pairs are left out.
    exponent : float, default=1.0
        Power between 0 and 1 that flattens the weights: 0 gives equal weights.
    random_state : int, RandomState instance or None, default=0
        Seed of the centres and of the pairs.

    Attributes
    ----------
    weights_ : ndarray of shape (n_samples,)
        Mean one, sampling weights included.
    raw_weights_ : ndarray of shape (n_samples,)
        The ratio at each row, times the sampling weights scaled to mean one.
    ess_ : float
        Effective sample size of `weights_`.
    theta_ : ndarray of shape (n_centers,) or None
        Coefficients of the ratio; None without target rows.
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
    Kanamori, T., Hido, S., Sugiyama, M. (2009). A least-squares approach to
    direct importance estimation. JMLR, 10, 1391-1445.

    Examples
    --------
    >>> import numpy as np
    >>> from shift import ULSIF
    >>> rng = np.random.default_rng(0)
    >>> X, X_target = rng.normal(size=(300, 1)), rng.normal(0.5, 0.8, size=(200, 1))
    >>> weighter = ULSIF().fit(X, X_target=X_target)
    >>> (weighter.weights_ @ X / 300).round(1)
    array([0.5])
    """

    _parameter_constraints = {
        name: constraint
        for name, constraint in RuLSIF._parameter_constraints.items()
        if name not in ("mixing", "relative")
    }
    mixing = 0.0
    relative = True

    def __init__(
        self,
        *,
        bandwidth: float | ArrayLike | str = "cv",
        alpha: float | str = "cv",
        n_components: int = 100,
        bandwidth_grid: ArrayLike | None = None,
        alpha_grid: ArrayLike | None = None,
        n_folds: int = 5,
        exponent: float = 1.0,
        random_state: Any = 0,
    ) -> None:
        self.bandwidth = bandwidth
        self.alpha = alpha
        self.n_components = n_components
        self.bandwidth_grid = bandwidth_grid
        self.alpha_grid = alpha_grid
        self.n_folds = n_folds
        self.exponent = exponent
        self.random_state = random_state

"""Kernel mean matching."""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from shift.covariate._matching_weighter import MatchingWeighter


class KernelMeanMatching(MatchingWeighter):
    r"""Weights of the source rows whose kernel mean is that of the target rows.

    .. math:: \min_\beta \Big\| \frac1n \sum_j \beta_j k(x_j, \cdot)
              - \frac1t \sum_i k(x^*_i, \cdot) \Big\|^2 + \alpha \frac1n \sum_j \beta_j^2
              \quad \text{s.t.} \quad 0 \le \beta_j \le B, \;
              \Big| \frac1n \sum_j \beta_j - 1 \Big| \le \epsilon.

    The first term is the squared maximum mean discrepancy of the weighted
    source and the target. With sampling weights, means over source rows are
    weighted means. Weights of rows that were not seen by `fit` do not exist:
    they are not a function of the row, and so there is no `predict_weights`.

    The minimum is sharp but the minimiser is not: without `alpha` quite
    different weights can match equally well. Judge them by what they do to
    means, not row by row.

    Parameters
    ----------
    bandwidth : float, array-like or {"knn50", "median", "scott", "silverman"}, default="knn50"
        Length of the kernel in units of X, or the rule that finds it on source
        and target together. "knn50" is the mean distance to the 50th nearest
        row, the row itself counted. Scale the columns first.
    kernel : {"rbf", "laplacian", "matern"}, default="rbf"
        The kernel; "rbf" is exp(-d^2 / (2 bandwidth^2)).
    max_weight : float, default=1000.0
        Cap on the weights.
    mean_tolerance : float, default=None
        Largest distance of the mean weight from one; None is 1 - 1/sqrt(n).
    alpha : float or "auto", default=0.0
        Ridge on the mean squared weight; a positive value makes the weights
        unique. 0 is the method as published, whose weights are often spiky
        without need. "auto" is 0.1 (1/n + 1/t): it keeps the match to well
        below the sampling noise and can raise `ess_` several times.
    exponent : float, default=1.0
        Power between 0 and 1 that flattens `weights_`: 0 gives equal weights.
        It trades bias for variance and can be tuned by cross-validation.
    solver : {"auto", "exact", "gradient", "landmarks", "cvxpy"}, default="auto"
        "exact" is an active set method with the kernel matrix in memory, for
        a few thousand source rows. "landmarks" approximates the kernel from
        `n_components` rows and scales to 1e5 rows and more. "gradient" is a
        projected gradient method on the whole matrix, "cvxpy" the slow plain
        formulation. "auto" is "exact" up to 2000 source rows.
    n_components : int, default=400
        Number of landmarks.
    tol : float, default=0.05
        Gap at which to stop, as a share of the sampling noise 1/n + 1/t of the
        objective; solving further fits noise.
    max_iter : int, default=3000
        Largest number of iterations.
    certify : {"auto", "kernel", "landmarks"}, default="auto"
        Which problem the gap of "landmarks" is about: the one with the whole
        kernel, which takes one pass over it, or the approximated one. "auto"
        makes the pass up to 20000 rows in all.
    random_state : int, RandomState instance or None, default=None
        Seed of the draw of landmarks.

    Attributes
    ----------
    weights_ : ndarray of shape (n_samples,)
        Mean one, sampling weights included.
    raw_weights_ : ndarray of shape (n_samples,)
        The solution as it is, times the sampling weights scaled to mean one.
    ess_ : float
        Effective sample size of `weights_`.
    objective_ : float
        Squared discrepancy left, ridge included.
    optimality_gap_ : float
        Certified distance of `objective_` from the minimum, relative to
        1/n + 1/t because the minimum itself may be zero.
    solver_result_ : SolverResult
        Of the solver; its `x` are the shares [beta_j / n, 1 / t].
    n_iter_ : int
        Iterations taken.
    bandwidth_ : float, ndarray of shape (n_features,) or None
        Length used; None without target rows.
    n_target_ : int
        Number of target rows.
    n_features_in_ : int
        Number of columns.
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Their names, when X has string column names.

    References
    ----------
    Huang, J., Gretton, A., Borgwardt, K., Schoelkopf, B., Smola, A. (2006).
    Correcting sample selection bias by unlabeled data. NIPS.

    Examples
    --------
    >>> import numpy as np
    >>> from shift import KernelMeanMatching
    >>> rng = np.random.default_rng(0)
    >>> X, X_target = rng.normal(size=(200, 2)), rng.normal(0.5, 1.0, size=(100, 2))
    >>> weighter = KernelMeanMatching(alpha="auto").fit(X, X_target=X_target)
    >>> (weighter.weights_ @ X / len(X)).round(1), X_target.mean(axis=0).round(1)
    (array([0.5, 0.6]), array([0.5, 0.6]))
    """

    def __init__(
        self,
        bandwidth: float | ArrayLike | str = "knn50",
        *,
        kernel: str = "rbf",
        max_weight: float = 1000.0,
        mean_tolerance: float | None = None,
        alpha: float | str = 0.0,
        exponent: float = 1.0,
        solver: str = "auto",
        n_components: int = 400,
        tol: float = 0.05,
        max_iter: int = 3000,
        certify: str = "auto",
        random_state: Any = None,
    ) -> None:
        self.bandwidth = bandwidth
        self.kernel = kernel
        self.max_weight = max_weight
        self.mean_tolerance = mean_tolerance
        self.alpha = alpha
        self.exponent = exponent
        self.solver = solver
        self.n_components = n_components
        self.tol = tol
        self.max_iter = max_iter
        self.certify = certify
        self.random_state = random_state

    def _fit_ratio(
        self, X: NDArray, X_target: NDArray, share: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        return self._match(X, X_target, share, 1.0).source

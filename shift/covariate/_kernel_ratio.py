"""What density ratios that are sums of Gaussians share."""

from collections.abc import Iterator
from numbers import Integral, Real
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.distance import cdist
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import Interval, StrOptions

from reweight.kernels.bandwidth import RULES, resolve_bandwidth
from reweight.kernels.kernel_sums import kernel_matrix
from shift._target_rows import RatioWeighter

# Numbers that are all but zero and yet not denormal, which are slow to compute with.
LEAST_EXPONENT = -700.0
MEDIAN_MULTIPLES = (0.25, 0.5, 1.0, 2.0)


class KernelRatioWeighter(RatioWeighter):
    """Base class of ratios psi(x)'theta with psi Gaussians around some target rows."""

    _parameter_constraints = {
        "bandwidth": [
            Interval(Real, 0, None, closed="neither"),
            StrOptions({"cv", *RULES}),
            "array-like",
        ],
        "bandwidth_grid": ["array-like", None],
        "n_components": [Interval(Integral, 1, None, closed="left")],
        "n_folds": [Interval(Integral, 2, None, closed="left")],
        "exponent": [Interval(Real, 0, 1, closed="both")],
        "random_state": ["random_state"],
    }

    def _start(self, X: NDArray, X_target: NDArray) -> np.random.RandomState:
        """Choose the centres and list the bandwidths to choose from."""
        rng = check_random_state(self.random_state)
        t = len(X_target)
        if t <= self.n_components:
            self.centers_ = X_target.copy()
        else:
            self.centers_ = X_target[rng.choice(t, self.n_components, replace=False)]
        self._bandwidths = self._candidates(np.concatenate([X, X_target]), rng)
        self.cv_results_ = None
        return rng

    def _candidates(self, rows: NDArray, rng: np.random.RandomState) -> list[Any]:
        name = type(self).__name__
        by_cv = isinstance(self.bandwidth, str) and self.bandwidth == "cv"
        if by_cv and self.bandwidth_grid is not None and len(self.bandwidth_grid) == 0:
            raise ValueError(
                f"{name}: bandwidth_grid is empty; pass at least one bandwidth, or None for "
                "multiples of the median distance"
            )
        try:
            if not by_cv:
                return [resolve_bandwidth(rows, self.bandwidth, random_state=rng)]
            if self.bandwidth_grid is None:
                median = resolve_bandwidth(rows, "median", random_state=rng)
                return [multiple * median for multiple in MEDIAN_MULTIPLES]
            return [resolve_bandwidth(rows, value) for value in self.bandwidth_grid]
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from error

    def _check_folds(self, n_rows: int, sample: str) -> int:
        """Number of folds that the rows allow."""
        if n_rows < 2:
            raise ValueError(
                f"{type(self).__name__}: cross-validation needs at least two {sample} rows, got "
                f"{n_rows}; pass numbers instead of 'cv'"
            )
        return min(self.n_folds, n_rows)

    def _features(self, X: NDArray, bandwidth: Any) -> NDArray[np.float64]:
        return kernel_matrix(X, self.centers_, "rbf", bandwidth)

    def _features_by_bandwidth(self, rows: NDArray) -> Iterator[NDArray[np.float64]]:
        """Features for each bandwidth to choose from, which share their distances."""
        if np.ndim(self._bandwidths[0]) > 0:
            yield from (self._features(rows, bandwidth) for bandwidth in self._bandwidths)
            return
        squares = cdist(rows, self.centers_, "sqeuclidean")
        for bandwidth in self._bandwidths:
            exponent = np.maximum(squares * (-0.5 / bandwidth**2), LEAST_EXPONENT)
            yield np.exp(exponent, out=exponent)

    def _ratio(self, X: NDArray) -> NDArray[np.float64]:
        return self._features(X, self.bandwidth_) @ self.theta_

    def _fit_no_shift(self, X: NDArray) -> None:
        self.theta_ = self.centers_ = self.bandwidth_ = self.cv_results_ = None


def fold_codes(n_rows: int, n_folds: int, rng: np.random.RandomState) -> NDArray[np.intp]:
    """Fold of each row, of nearly equal size, in random order.

    Parameters
    ----------
    n_rows : int
        Number of rows.
    n_folds : int
        Number of folds.
    rng : RandomState
        Source of the order.

    Returns
    -------
    ndarray of int of shape (n_rows,)

    Examples
    --------
    >>> np.bincount(fold_codes(5, 2, np.random.RandomState(0)))
    array([3, 2])
    """
    return rng.permutation(np.arange(n_rows) % n_folds)

"""The base class of everything that turns data into one non-negative number per row."""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted

from reweight.normalization import effective_sample_size
from reweight.validation import check_groups, warn_weights

MINIMUM_ESS_SHARE = 0.1


class Weighter(BaseEstimator):
    """Base class of weighters.

    A weighter's `fit` sets `weights_`: one finite, non-negative float64 per
    row, with mean one over each weighted group, that already contains the
    `sample_weight` given to `fit`. Pass it unchanged as `sample_weight=` to
    anything.

    Subclasses implement `fit(X, y=None, *, sample_weight=None, ...)`, end it
    with `self._set_weights(weights, groups)`, and define
    `predict_weights(X, y=None)` if their weights are a function of new rows.

    Attributes
    ----------
    weights_ : ndarray of shape (n_samples,)
        The weights of the rows given to `fit`.
    ess_ : float or ndarray of shape (n_groups,)
        Effective sample size of `weights_`, per weighted group.

    Examples
    --------
    >>> import numpy as np
    >>> from reweight import Weighter
    >>> class NormWeighter(Weighter):
    ...     def fit(self, X, y=None, *, sample_weight=None):
    ...         norms = np.linalg.norm(X, axis=1)
    ...         self._set_weights(norms / norms.mean())
    ...         return self
    >>> NormWeighter().fit_weights(np.array([[1.0], [3.0]]))
    array([0.5, 1.5])
    """

    def fit_weights(self, X: Any, y: Any = None, **params: Any) -> NDArray:
        """Fit and return `weights_`.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Features.
        y : array-like of shape (n_samples,), default=None
            Passed on to `fit`.
        **params : dict
            Metadata passed on to `fit`, such as `sample_weight`.

        Returns
        -------
        ndarray of shape (n_samples,)
        """
        return self.fit(X, y, **params).weights_

    @property
    def ess_(self) -> float | NDArray:
        """Effective sample size of `weights_`, per weighted group in the order of the labels."""
        check_is_fitted(self, "weights_")
        return effective_sample_size(self.weights_, getattr(self, "_weight_groups", None))

    def _set_weights(self, weights: NDArray, groups: ArrayLike | None = None) -> None:
        """Store weights that are already on the mean-one scale; warn if few rows carry them."""
        self.weights_ = weights
        self._weight_groups = groups
        _, codes = check_groups(groups, len(weights))
        ess = np.atleast_1d(effective_sample_size(weights, groups))
        share = float((ess / np.bincount(codes)).min())
        if share < MINIMUM_ESS_SHARE:
            warn_weights(
                f"{type(self).__name__}: the weights leave an effective sample size of "
                f"{share:.1%} of the rows (below {MINIMUM_ESS_SHARE:.0%}); estimates will rest on "
                "few rows; look at reweight.weight_report, relax the weights or change the target"
            )

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.estimator_type = "weighter"
        return tags

"""A slow copy of an estimator that learns in steps."""

from copy import deepcopy
from numbers import Integral, Real
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike
from sklearn.base import BaseEstimator, MetaEstimatorMixin, clone, is_classifier
from sklearn.utils import check_random_state, get_tags, indexable
from sklearn.utils._param_validation import HasMethods, Interval
from sklearn.utils.validation import check_is_fitted

from reweight.parameters._delegation import PredictsByModel
from reweight.parameters.averaging import average_parameters
from reweight.parameters.views import check_responses, copy_attributes, final_estimator
from reweight.validation import check_magnitude, count_rows, refuse_no_rows, take_rows


class MovingAverageEstimator(PredictsByModel, MetaEstimatorMixin, BaseEstimator):
    r"""Exponential moving average of the parameters of an estimator that learns in steps.

    A fast copy learns from each batch by `partial_fit`; a slow copy, which
    predicts, follows it: :math:`\theta_{slow} \leftarrow \beta \theta_{slow} +
    (1 - \beta) \theta_{fast}`.

    Parameters
    ----------
    estimator : estimator
        Estimator with `partial_fit` and parameters that `get_parameters` finds,
        such as `SGDClassifier` or `MLPRegressor`.
    decay : float, default=0.99
        The β of the average, from 0 (no memory) to below 1.
    start_from : estimator, default=None
        Fitted estimator of the same kind that both copies start from; wrap it
        in `FrozenEstimator` where the whole may be cloned. None starts from the
        parameters after the first batch.
    max_iter : int, default=10
        Passes of `fit` over the rows.
    batch_size : int, default=100
        Rows of a batch of `fit`.
    random_state : int, RandomState instance or None, default=None
        Shuffles the rows in each pass of `fit`.

    Attributes
    ----------
    estimator_ : estimator
        The slow copy.
    fast_estimator_ : estimator
        The fast copy.
    n_updates_ : int
        Number of batches seen.
    n_iter_ : int
        Number of passes of `fit`.
    classes_ : ndarray of shape (n_classes,)
        Classes, for classifiers.
    n_features_in_ : int
        Number of features.
    feature_names_in_ : ndarray of str of shape (n_features_in_,)
        Their names, if there are any.

    References
    ----------
    Stojanovski, Z., Roth, K., Akata, Z. (2022). Momentum-based weight
    interpolation of strong zero-shot models for continual learning. NeurIPS
    workshop on interpolation regularizers.

    Examples
    --------
    >>> import numpy as np
    >>> from reweight import MovingAverageEstimator
    >>> from sklearn.linear_model import SGDRegressor
    >>> rng = np.random.default_rng(0)
    >>> model = MovingAverageEstimator(SGDRegressor(random_state=0), decay=0.9)
    >>> for _ in range(200):
    ...     X = rng.normal(size=(20, 1))
    ...     model = model.partial_fit(X, 2 * X[:, 0] + rng.normal(size=20))
    >>> model.n_updates_, model.estimator_.coef_.round(1)
    (200, array([2.]))
    """

    _parameter_constraints = {
        "estimator": [HasMethods(["fit", "partial_fit", "predict"])],
        "decay": [Interval(Real, 0, 1, closed="left")],
        "start_from": [HasMethods(["predict"]), None],
        "max_iter": [Interval(Integral, 1, None, closed="left")],
        "batch_size": [Interval(Integral, 1, None, closed="left")],
        "random_state": ["random_state"],
    }

    def __init__(
        self,
        estimator: Any,
        decay: float = 0.99,
        start_from: Any = None,
        *,
        max_iter: int = 10,
        batch_size: int = 100,
        random_state: int | np.random.RandomState | None = None,
    ) -> None:
        self.estimator = estimator
        self.decay = decay
        self.start_from = start_from
        self.max_iter = max_iter
        self.batch_size = batch_size
        self.random_state = random_state

    def fit(self, X: Any, y: ArrayLike | None = None) -> Self:
        """Start anew and learn from shuffled batches of these rows.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Features.
        y : array-like of shape (n_samples,), default=None
            Responses.

        Returns
        -------
        MovingAverageEstimator
        """
        self._validate_params()
        vars(self).pop("fast_estimator_", None)
        refuse_no_rows(X, name=type(self).__name__)
        check_responses(self, y)
        X, y = indexable(X, y)
        n, classes = count_rows(X), np.unique(np.asarray(y)) if is_classifier(self) else None
        rng = check_random_state(self.random_state)
        for _ in range(self.max_iter):
            order = rng.permutation(n)
            # A batch without rows is left to the estimator, which has the words for it.
            for start in range(0, max(n, 1), self.batch_size):
                rows = order[start : start + self.batch_size]
                self.partial_fit(*take_rows(self.estimator, X, y, rows), classes)
        self.n_iter_ = self.max_iter
        return self

    def partial_fit(
        self,
        X: Any,
        y: ArrayLike | None = None,
        classes: ArrayLike | None = None,
        sample_weight: ArrayLike | None = None,
    ) -> Self:
        """Let the fast copy learn from a batch and the slow one follow.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Features.
        y : array-like of shape (n_samples,), default=None
            Responses.
        classes : array-like of shape (n_classes,), default=None
            All classes, needed by classifiers in the first call.
        sample_weight : array-like of shape (n_samples,), default=None
            Weights, if the estimator takes any.

        Returns
        -------
        MovingAverageEstimator
        """
        self._validate_params()
        first = not hasattr(self, "fast_estimator_")
        if isinstance(X, np.ndarray) and X.dtype.kind == "f":
            check_magnitude(X, name=f"{type(self).__name__}: X")
        fast, slow = self._start() if first else (self.fast_estimator_, self.estimator_)
        params = {"classes": classes if first else None, "sample_weight": sample_weight}
        fast.partial_fit(X, y, **{name: p for name, p in params.items() if p is not None})
        slow = deepcopy(fast) if slow is None else slow
        self.estimator_ = average_parameters([slow, fast], [self.decay, 1 - self.decay])
        self.fast_estimator_, self.n_updates_ = fast, 1 if first else self.n_updates_ + 1
        copy_attributes(fast, self)
        return self

    def _start(self) -> tuple[Any, Any]:
        """Fast and slow copy before the first batch."""
        if self.start_from is None:
            return clone(self.estimator), None
        slow = final_estimator(self.start_from)
        check_is_fitted(slow)
        if type(slow) is not type(self.estimator):
            raise TypeError(
                f"{type(self).__name__}: start_from is a {type(slow).__name__} but estimator a "
                f"{type(self.estimator).__name__}"
            )
        return deepcopy(slow).set_params(**self.estimator.get_params(deep=False)), slow

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        inner = get_tags(self.estimator)
        for name in ("estimator_type", "classifier_tags", "regressor_tags", "target_tags"):
            setattr(tags, name, getattr(inner, name))
        tags.input_tags.sparse = inner.input_tags.sparse
        return tags

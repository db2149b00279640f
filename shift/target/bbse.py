"""Black-box shift estimation."""

from numpy.typing import ArrayLike

from shift.target._label_shift_weighter import (
    Array,
    Codes,
    LabelShiftWeighter,
    confusion_moments,
    hard_predictions,
    invert_confusion,
    moment_covariances,
)


class BBSE(LabelShiftWeighter):
    r"""Class weights that make the mean prediction of the source that of the target.

    If only the priors of the classes have moved, what any classifier predicts
    on average in the target is :math:`\mu = C w`, where
    :math:`C_{ak} = E_s[f_a(x) 1\{y = k\}]` is the confusion matrix on held-out
    source rows and :math:`w_k = p_t(y = k) / p_s(y = k)`. So :math:`w = C^{-1} \mu`,
    of which negative entries are set to zero. The classifier need not be
    calibrated, but it must not have been trained on the rows given to `fit`.

    Parameters
    ----------
    soft : bool, default=True
        Whether to average probabilities rather than the most probable class.
    classes : array-like of shape (n_classes,), default=None
        Classes in the order of the columns of X; None is the sorted labels of y.

    Attributes
    ----------
    weights_ : ndarray of shape (n_samples,)
        Weight of each row, mean one, sampling weights included.
    ess_ : float
        Effective sample size of `weights_`.
    class_weights_ : ndarray of shape (n_classes,)
        Ratio of the target to the source prior of each class, non-negative.
    raw_class_weights_ : ndarray of shape (n_classes,)
        The solution of the equations, negative values included.
    source_prior_ : ndarray of shape (n_classes,)
        Share of each class in the source.
    target_prior_ : ndarray of shape (n_classes,)
        Estimated share of each class in the target.
    covariance_ : ndarray of shape (n_classes, n_classes)
        Covariance of the class weights by the delta method.
    target_prior_covariance_ : ndarray of shape (n_classes, n_classes)
        That of the target priors.
    stderr_ : ndarray of shape (n_classes,)
        Standard errors of the class weights.
    confusion_ : ndarray of shape (n_classes, n_classes)
        Joint confusion matrix, predictions by rows.
    classes_ : ndarray of shape (n_classes,)
        Classes in the order of the columns.
    n_target_ : int
        Number of target rows.
    n_features_in_ : int
        Number of columns of X.
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Their names, when X has string column names.

    See Also
    --------
    RLLS : The same equations, regularised.
    MLLS : Maximum likelihood, more precise with calibrated probabilities.
    LabelShiftClassifier : Does everything from the features on.

    References
    ----------
    Lipton, Z., Wang, Y.-X., Smola, A. (2018). Detecting and correcting for
    label shift with black box predictors. ICML.

    Examples
    --------
    >>> import numpy as np
    >>> from shift import BBSE
    >>> P = np.array([[0.8, 0.2], [0.8, 0.2], [0.3, 0.7], [0.3, 0.7]])
    >>> weighter = BBSE().fit(P, [0, 0, 1, 1], X_target=[[0.8, 0.2], [0.3, 0.7], [0.3, 0.7]])
    >>> weighter.target_prior_.round(3)
    array([0.333, 0.667])
    """

    _parameter_constraints = {**LabelShiftWeighter._parameter_constraints, "soft": ["boolean"]}

    def __init__(self, soft: bool = True, *, classes: ArrayLike | None = None) -> None:
        self.soft = soft
        self.classes = classes

    def _estimate(self, P: Array, codes: Codes, share: Array, P_target: Array) -> Array:
        F, F_target = (P, P_target) if self.soft else map(hard_predictions, (P, P_target))
        C, _, mu = confusion_moments(F, codes, share, F_target)
        inverse = invert_confusion(C, type(self).__name__)
        raw = inverse @ mu
        self.confusion_ = C
        self.covariance_, self.target_prior_covariance_ = moment_covariances(
            inverse, C, F, codes, share, F_target, raw, self.source_prior_
        )
        return raw

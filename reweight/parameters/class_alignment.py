"""Weight aligning: rows of new classes on the scale of those of old ones."""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from reweight.parameters._tensors import plain
from reweight.parameters.views import final_estimator, get_parameters, set_parameters


def align_class_weights(
    model: Any, old_classes: ArrayLike, *, value: float = 1.0, shrink_only: bool = False
) -> Any:
    r"""Rescale the rows of new classes so that their mean norm is that of the old.

    New rows are multiplied by :math:`\gamma \rho^{C_{old} / C_{new}}`, with γ the
    mean norm of old over that of new rows; intercepts stay.

    Parameters
    ----------
    model : linear classifier, Pipeline or array of shape (n_classes, n_features)
        Classifier of three classes or more, or the last layer's weights.
    old_classes : array-like
        Labels of the classes that were known before; for an array a boolean
        mask of shape (n_classes,).
    value : float, default=1.0
        The base ρ of the correction for the numbers of classes; 1 is none.
    shrink_only : bool, default=False
        Whether to leave the rows as they are where they would grow.

    Returns
    -------
    model or array
        A copy.

    Raises
    ------
    TypeError
        If the model has no row of coefficients for each class.
    ValueError
        If old classes are not some but not all of the classes, `value` is not
        positive, or the new rows are all zero.

    References
    ----------
    Zhao, B., Xiao, X., Gan, G., Zhang, B., Xia, S.-T. (2020). Maintaining
    discrimination and fairness in class incremental learning. CVPR.

    Wang, F.-Y., Zhou, D.-W., Ye, H.-J., Zhan, D.-C. (2022). FOSTER: feature
    boosting and compression for class-incremental learning. ECCV.

    Examples
    --------
    >>> import numpy as np
    >>> from reweight import align_class_weights
    >>> align_class_weights(np.array([[1.0, 0.0], [0.0, 1.0], [3.0, 4.0]]), [True, True, False])
    array([[1. , 0. ],
           [0. , 1. ],
           [0.6, 0.8]])
    """
    if not 0 < value < np.inf:
        raise ValueError(f"align_class_weights: value must be positive and finite, got {value!r}")
    W, old = model, np.asarray(old_classes)
    if is_model := hasattr(model, "fit"):
        parameters, last = get_parameters(model), final_estimator(model)
        W, classes = parameters.get("coef_"), getattr(last, "classes_", None)
        if classes is None or np.shape(W)[:1] != (len(classes),):
            raise TypeError(
                f"align_class_weights: {type(last).__name__} has no row of coefficients for each "
                "class; pass a linear classifier of three classes or more"
            )
        if not np.isin(old, classes).all():
            raise ValueError(
                f"align_class_weights: old_classes {old.tolist()} are not all known to the model; "
                f"its classes are {list(classes)}"
            )
        old = np.isin(classes, old)
    W = plain(W)
    if W.ndim != 2 or old.dtype != bool or old.shape != (W.shape[0],) or old.all() or not old.any():
        raise ValueError(
            f"align_class_weights: rows of shape {tuple(W.shape)} need some but not all classes "
            f"named, for an array by a boolean mask with one entry a row, got {old}"
        )
    norms = np.array(((W * W).sum(1) ** 0.5).tolist())
    if not norms[~old].mean() > 0:
        raise ValueError("align_class_weights: the rows of the new classes are zero or not finite")
    factor = norms[old].mean() / norms[~old].mean() * value ** (old.sum() / (~old).sum())
    factors = np.where(old, 1.0, min(factor, 1.0) if shrink_only else factor)[:, None]
    aligned = W * (W.new_tensor(factors) if hasattr(W, "new_tensor") else factors.astype(W.dtype))
    return set_parameters(model, {**parameters, "coef_": aligned}) if is_model else aligned

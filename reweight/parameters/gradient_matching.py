"""Gradient matching: merge fits as if their losses had been minimised together."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike


def gradient_matching_weights(
    importances: Sequence[Mapping[str, Any]],
    base_importance: Mapping[str, Any] | None = None,
    *,
    task_weights: ArrayLike = 1.0,
    scale: ArrayLike | None = None,
    base_scale: float = 1.0,
    damping: float = 1e-12,
) -> list[dict[str, Any]]:
    r"""Weights that merge fits to several tasks and their anchor by diagonal curvature.

    The weight of task t is :math:`\alpha_t (H_0 + H_t)`, that of the anchor
    :math:`(1 - \sum_t \alpha_t) H_0`: one step towards the fit to all tasks.
    `task_weights` of minus one take a task out of a joint fit.

    Parameters
    ----------
    importances : sequence of mappings
        Diagonal curvature of each task's loss, such as `fisher_information`.
    base_importance : mapping, default=None
        That of the anchor's; None is none, which gives Fisher averaging.
    task_weights : float or array-like of shape (n_tasks,), default=1.0
        The multiples of the losses, of any sign.
    scale : float or array-like of shape (n_tasks,), default=None
        Factor of each importance, such as the number of rows where it is a
        mean over rows; None is one.
    base_scale : float, default=1.0
        Factor of the base importance.
    damping : float, default=1e-12
        Added to the base importance. Where no task has any, differences from
        the anchor then add up, as in task arithmetic.

    Returns
    -------
    list of dict of str to array
        For `average_parameters([base, *models], weights)`.

    Raises
    ------
    ValueError
        If numbers of tasks do not fit or numbers are not finite.
    KeyError
        If an importance lacks a parameter of the first.

    Notes
    -----
    Task arithmetic needs no importance: `average_parameters([base, *models],
    [1 - sum(weights), *weights])`.

    References
    ----------
    Daheim, N., Möllenhoff, T., Ponti, E., Gurevych, I., Khan, M. (2024). Model
    merging by uncertainty-based gradient matching. ICLR.

    Examples
    --------
    >>> import numpy as np
    >>> from reweight import average_parameters, gradient_matching_weights
    >>> base, models = {"w": np.zeros(1)}, [{"w": np.ones(1)}, {"w": np.full(1, 2.0)}]
    >>> weights = gradient_matching_weights([{"w": 1.0}, {"w": 3.0}], {"w": 1.0})
    >>> average_parameters([base, *models], weights)["w"]
    array([2.])
    """
    T = len(importances)
    if not T:
        raise ValueError("gradient_matching_weights: pass the importance of at least one task")
    alpha = np.broadcast_to(np.asarray(task_weights, dtype=np.float64), T)
    factors = np.broadcast_to(np.asarray(1.0 if scale is None else scale, dtype=np.float64), T)
    if not np.isfinite([*alpha, *factors, base_scale, damping]).all() or damping < 0:
        raise ValueError(
            "gradient_matching_weights: task_weights, scale, base_scale and damping must be "
            "finite and damping not negative"
        )
    anchor = dict.fromkeys(importances[0], damping)
    if base_importance is not None:
        anchor = {name: damping + base_scale * base_importance[name] for name in anchor}
    rest = 1.0 - float(alpha.sum())
    return [
        {name: rest * H_0 for name, H_0 in anchor.items()},
        *(
            {name: a * (H_0 + s * H[name]) for name, H_0 in anchor.items()}
            for a, s, H in zip(alpha.tolist(), factors.tolist(), importances, strict=True)
        ),
    ]

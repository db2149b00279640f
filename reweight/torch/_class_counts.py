"""Numbers of rows by class, and weights made of them."""

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor


def check_counts(owner: str, class_counts: ArrayLike | Tensor) -> Tensor:
    """Numbers of rows by class in double precision.

    Parameters
    ----------
    owner : str
        Name of the class for messages.
    class_counts : array-like or Tensor of shape (n_classes,)
        Numbers of training rows, or what is proportional to them.

    Returns
    -------
    Tensor of shape (n_classes,)

    Raises
    ------
    ValueError
        If they are not a vector of positive numbers.
    """
    if isinstance(class_counts, Tensor):
        class_counts = class_counts.detach().cpu().double().numpy()
    counts = np.asarray(class_counts, dtype=np.float64)
    if counts.ndim != 1 or len(counts) < 2:
        raise ValueError(
            f"{owner}: class_counts has shape {counts.shape}; pass one count a class, for example "
            "np.bincount(y)"
        )
    # Written so that NaN fails.
    right = (counts > 0) & (counts < np.inf)
    if not right.all():
        wrong = np.flatnonzero(~right)
        raise ValueError(
            f"{owner}: class_counts has {len(wrong)} entries that are not positive and finite, for "
            f"example {counts[wrong[0]]:g} of class {wrong[0]}; leave classes without rows out, or "
            "count them as 1"
        )
    return torch.tensor(counts)


def check_share(owner: str, name: str, value: float) -> float:
    """A setting from 0 to 1.

    Parameters
    ----------
    owner : str
        Name of the class for messages.
    name : str
        Name of the setting.
    value : float
        The setting.

    Returns
    -------
    float

    Raises
    ------
    ValueError
        If it is out of range.
    """
    if not 0 <= value <= 1:
        raise ValueError(f"{owner}: {name}={value}; it must lie in [0, 1]")
    return float(value)


def effective_number_weights(counts: Tensor, beta: float) -> Tensor:
    r"""Class weights :math:`(1 - \beta) / (1 - \beta^{n_c})`, scaled to a mean of one.

    Parameters
    ----------
    counts : Tensor of shape (n_classes,)
        Positive numbers of rows, double precision.
    beta : float
        From 0, where all weights are one, to 1, where they are 1 / n.

    Returns
    -------
    Tensor of shape (n_classes,)
    """
    if beta == 0:
        return torch.ones_like(counts)
    # The numerator is the same for all classes.
    raw = 1.0 / counts if beta == 1 else -1.0 / torch.expm1(counts * np.log(beta))
    return raw / raw.mean()

"""Transition matrices of labels: what is accepted, and the weights that they give."""

import torch
from numpy.typing import ArrayLike
from torch import Tensor

CONVENTIONS = ("columns", "rows")
TINY = 1e-12


def check_transition(owner: str, transition: ArrayLike | Tensor, convention: str) -> Tensor:
    """A transition matrix whose columns sum to one.

    Parameters
    ----------
    owner : str
        Name of the class for messages.
    transition : array-like or Tensor of shape (n_classes, n_classes)
        Probabilities of noisy labels given clean ones.
    convention : {"columns", "rows"}
        What sums to one.

    Returns
    -------
    Tensor of shape (n_classes, n_classes)
        In the precision of a tensor that is given, else float32.

    Raises
    ------
    ValueError
        If it is no such matrix.
    """
    if convention not in CONVENTIONS:
        raise ValueError(f"{owner}: convention={convention!r}; choose one of {list(CONVENTIONS)}")
    matrix = torch.as_tensor(transition).detach().double()
    if matrix.dim() != 2 or matrix.shape[0] != matrix.shape[1] or matrix.shape[0] < 2:
        raise ValueError(
            f"{owner}: transition has shape {tuple(matrix.shape)}; pass a square matrix with a row "
            "and a column for each class"
        )
    if not torch.isfinite(matrix).all() or (matrix < 0).any():
        n_bad = int((~(torch.isfinite(matrix) & (matrix >= 0))).sum())
        raise ValueError(
            f"{owner}: transition has {n_bad} entries that are negative or not finite; pass "
            "probabilities"
        )
    other = CONVENTIONS[1 - CONVENTIONS.index(convention)]
    off = {"columns": (matrix.sum(0) - 1).abs().max(), "rows": (matrix.sum(1) - 1).abs().max()}
    if off[convention] > 1e-4:
        hint = (
            f"its {other} do, so pass convention='{other}'"
            if off[other] <= 1e-4
            else f"nor do its {other}; normalise it"
        )
        raise ValueError(
            f"{owner}: the {convention} of transition are off a sum of one by up to "
            f"{float(off[convention]):.3g}, as assumed by convention={convention!r}; {hint}"
        )
    matrix = matrix if convention == "columns" else matrix.T.contiguous()
    given = isinstance(transition, Tensor) and transition.dtype == torch.float64
    return matrix if given else matrix.float()


def check_labels(owner: str, logits: Tensor | None, target: Tensor | None, n_classes: int) -> None:
    """Refuse logits and labels that do not fit a transition matrix.

    Parameters
    ----------
    owner : str
        Name of the class for messages.
    logits : Tensor of shape (n_rows, n_classes, ...)
        Scores of clean classes.
    target : Tensor of int of shape (n_rows, ...)
        Noisy labels.
    n_classes : int
        Number of classes.

    Raises
    ------
    ValueError
        If one is missing or does not fit.
    TypeError
        If one is no tensor.
    """
    for name, value in (("logits", logits), ("target", target)):
        if value is None:
            raise ValueError(f"{owner}: the call has no {name}; pass {name}=...")
        if not isinstance(value, Tensor):
            raise TypeError(f"{owner}: {name} is a {type(value).__name__}; pass a tensor")
    if logits.dim() < 2 or logits.shape[1] != n_classes:
        raise ValueError(
            f"{owner}: logits have shape {tuple(logits.shape)} for {n_classes} classes; pass one "
            "score a class in the second dimension"
        )
    if target.shape != (logits.shape[0], *logits.shape[2:]):
        raise ValueError(
            f"{owner}: target has shape {tuple(target.shape)} for logits of shape "
            f"{tuple(logits.shape)}; pass one label for each vector of scores"
        )
    if target.is_floating_point():
        raise ValueError(f"{owner}: target has dtype {target.dtype}; pass labels as integers")
    if target.device.type == "cpu" and not torch.compiler.is_compiling() and target.numel():
        lowest, highest = int(target.min()), int(target.max())
        if lowest < 0 or highest >= n_classes:
            wrong = lowest if lowest < 0 else highest
            raise ValueError(
                f"{owner}: target holds {wrong}, which is not among 0, ..., {n_classes - 1}; mask "
                "rows without a label"
            )


def transition_weights(logits: Tensor, target: Tensor, transition: Tensor) -> Tensor:
    """f_y / (T f)_y of each row.

    Parameters
    ----------
    logits : Tensor of shape (n_rows, n_classes, ...)
        Scores of the clean classes.
    target : Tensor of int of shape (n_rows, ...)
        Noisy labels.
    transition : Tensor of shape (n_classes, n_classes)
        T, columns sum to one.

    Returns
    -------
    Tensor in the shape of `target`
    """
    logits = logits.detach()
    f = torch.softmax(logits.double() if logits.dtype == torch.float64 else logits.float(), 1)
    noisy = torch.movedim(torch.movedim(f, 1, -1) @ transition.to(f.dtype).T, -1, 1)
    label = target.long().unsqueeze(1)
    return ((f.gather(1, label) + TINY) / (noisy.gather(1, label) + TINY)).squeeze(1)

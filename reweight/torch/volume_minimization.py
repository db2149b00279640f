"""A transition matrix of small volume that explains noisy labels."""

import math
import warnings

import torch
from sklearn.exceptions import ConvergenceWarning
from torch import Tensor

from reweight.torch._transition_matrix import TINY, check_labels


def volmin_transition(
    logits: Tensor,
    target: Tensor,
    *,
    alpha: float = 1e-4,
    tol: float = 1e-7,
    max_iter: int = 500,
) -> Tensor:
    r"""Estimate a transition matrix of small volume from the scores of a fixed net.

    Maximises the likelihood of the noisy labels under :math:`T f`, with f the
    class probabilities of the scores, less `alpha` times the logarithm of the
    determinant of T, over matrices whose diagonal is the largest of each column.

    Parameters
    ----------
    logits : Tensor of shape (n_rows, n_classes)
        Scores of the clean classes.
    target : Tensor of int of shape (n_rows,)
        Noisy labels.
    alpha : float, default=1e-4
        Weight of the volume. It must be small: a matrix without volume has no
        smallest logarithm.
    tol : float, default=1e-7
        Largest entry of the gradient at which to stop.
    max_iter : int, default=500
        Largest number of steps of L-BFGS.

    Returns
    -------
    Tensor of shape (n_classes, n_classes)
        T[a, b], the probability of the noisy label a given the clean class b;
        columns sum to one.

    Raises
    ------
    ValueError
        If scores and labels do not fit, or `alpha` makes the volume vanish.

    References
    ----------
    Li, X., Liu, T., Han, B., Niu, G. and Sugiyama, M. (2021). Provably end-to-end
    label-noise learning without anchor points. ICML.

    Examples
    --------
    >>> import torch
    >>> from reweight.torch import volmin_transition
    >>> logits = torch.tensor([[9.0, 0.0]] * 10 + [[0.0, 9.0]] * 10)
    >>> noisy = torch.tensor([0] * 8 + [1] * 2 + [1] * 9 + [0])
    >>> volmin_transition(logits, noisy, alpha=0.0)
    tensor([[0.8001, 0.0999],
            [0.1999, 0.9001]])
    """
    if logits is None or logits.dim() != 2:
        raise ValueError("volmin_transition: pass logits of shape (n_rows, n_classes)")
    n_classes = logits.shape[1]
    check_labels("volmin_transition", logits, target, n_classes)
    if not alpha >= 0:
        raise ValueError(f"volmin_transition: alpha={alpha}; it must be >= 0")
    f = torch.softmax(logits.detach().double(), 1)
    label = target.long().unsqueeze(1)
    off = ~torch.eye(n_classes, dtype=torch.bool, device=f.device)
    scores = torch.full((n_classes, n_classes), -2.0, dtype=f.dtype, device=f.device)
    scores.requires_grad_()

    def by_rows() -> Tensor:
        unscaled = torch.where(off, torch.sigmoid(scores), 1.0)
        return unscaled / unscaled.sum(1, keepdim=True)

    def objective() -> Tensor:
        optimizer.zero_grad()
        matrix = by_rows()
        noisy = (f @ matrix).gather(1, label).clamp_min(TINY)
        value = alpha * torch.linalg.slogdet(matrix)[1] - noisy.log().mean()
        value.backward()
        return value

    optimizer = torch.optim.LBFGS(
        [scores],
        max_iter=max_iter,
        max_eval=3 * max_iter,
        tolerance_grad=tol,
        tolerance_change=1e-14,
        line_search_fn="strong_wolfe",
    )
    with torch.enable_grad():
        optimizer.step(objective)
        objective()
    gap = float(scores.grad.abs().max())
    if not math.isfinite(gap):
        raise ValueError(
            f"volmin_transition: with alpha={alpha} the volume of the matrix vanishes; lower alpha"
        )
    if gap > 10.0 * tol:
        warnings.warn(
            f"volmin_transition: the gradient is {gap:.2g} after {max_iter} steps, above "
            f"tol={tol:.2g}; raise max_iter",
            ConvergenceWarning,
            stacklevel=2,
        )
    return (
        by_rows()
        .detach()
        .T.contiguous()
        .to(logits.dtype if logits.is_floating_point() else torch.float32)
    )

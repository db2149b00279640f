"""Derivatives of all losses of a batch along one direction in parameter space."""

import warnings
from collections.abc import Callable, Mapping

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from reweight.exceptions import WeightWarning
from reweight.torch._functional import row_losses

METHODS = ("auto", "jvp", "fd")


@torch.no_grad()
def alignment(
    call_loss: Callable[[dict[str, Tensor]], Tensor],
    params: Mapping[str, Tensor],
    v: Mapping[str, Tensor],
    *,
    method: str = "auto",
    fd_eps: float = 1e-2,
) -> Tensor:
    r"""Inner products of the gradient of each loss with a direction.

    :math:`\langle v, \nabla_\theta \ell_i(\theta) \rangle` for all rows at once
    is one directional derivative: neither gradients per row nor a graph of
    second order are made.

    Parameters
    ----------
    call_loss : callable
        ``call_loss(params)`` returns the losses by row as a function of all
        parameters, such as ``lambda p: loss(functional_call(model, p, x), y)``.
        It must not draw afresh what is random between calls.
    params : dict of str to Tensor
        Where to take derivatives.
    v : dict of str to Tensor
        The direction. Parameters that it does not name stay where they are.
    method : {"auto", "jvp", "fd"}, default="auto"
        Forward-mode differentiation; central differences, which need no rule
        for any operation, but are off by some thousandths in single precision;
        or the latter only where an operation has no forward-mode rule, which a
        `WeightWarning` says.
    fd_eps : float, default=1e-2
        Length of the step of central differences to either side.

    Returns
    -------
    Tensor of shape (n_rows,)
        Detached.

    Raises
    ------
    ValueError
        If names or shapes of `params` and `v` do not fit, or there is no
        direction.

    Notes
    -----
    Attention runs by its plain kernel, as fused ones have no forward-mode rule.

    Examples
    --------
    >>> import torch
    >>> from reweight.torch import alignment
    >>> x, y = torch.tensor([[1.0, 0.0], [0.0, 2.0]]), torch.tensor([1.0, 1.0])
    >>> losses = lambda p: (x @ p["w"] - y) ** 2 / 2
    >>> alignment(losses, {"w": torch.zeros(2)}, {"w": torch.tensor([1.0, 1.0])})
    tensor([-1., -2.])
    """
    if method not in METHODS:
        raise ValueError(f"alignment: method={method!r}; choose one of {list(METHODS)}")
    if not fd_eps > 0:
        raise ValueError(f"alignment: fd_eps={fd_eps}; it must be positive")
    _check_direction(params, v)
    fixed = {name: tensor.detach() for name, tensor in params.items()}
    moving = {name: fixed[name] for name in v}
    tangent = {name: v[name].detach().to(fixed[name].dtype) for name in v}

    def losses(moved: dict[str, Tensor]) -> Tensor:
        return row_losses("alignment", call_loss({**fixed, **moved}))

    if method != "fd":
        try:
            with sdpa_kernel(SDPBackend.MATH):
                return torch.func.jvp(losses, (moving,), (tangent,))[1].detach()
        except (NotImplementedError, RuntimeError) as error:
            # Operations without a rule say so in different ways; a model that fails does so again.
            if method == "jvp" or not _lacks_rule(error):
                raise
            warnings.warn(
                "alignment: an operation of the model has no forward-mode rule, so central "
                "differences are taken; pass method='fd' to take them without this warning",
                WeightWarning,
                stacklevel=3,
            )
    return _central_difference(losses, moving, tangent, fd_eps)


def _lacks_rule(error: Exception) -> bool:
    return isinstance(error, NotImplementedError) or "forward AD" in str(error)


def _check_direction(params: Mapping[str, Tensor], v: Mapping[str, Tensor]) -> None:
    if not v:
        raise ValueError("alignment: v is empty; name at least one parameter")
    for name, direction in v.items():
        if name not in params:
            raise ValueError(f"alignment: v names {name!r}, which is not among params")
        if direction.shape != params[name].shape:
            raise ValueError(
                f"alignment: v[{name!r}] has shape {tuple(direction.shape)} but the parameter has "
                f"shape {tuple(params[name].shape)}; pass a direction of that shape"
            )


def _central_difference(
    losses: Callable, moving: dict[str, Tensor], tangent: dict[str, Tensor], fd_eps: float
) -> Tensor:
    """Difference of the losses at both ends of a short step, over its length."""
    squares = [
        (t.double() if t.dtype == torch.float64 else t.float()).square().sum()
        for t in tangent.values()
    ]
    norm = torch.stack([s.to(squares[0].device) for s in squares]).sum().sqrt()
    # A direction of no length has no derivative along it to divide by.
    step = fd_eps / norm.clamp_min(torch.finfo(norm.dtype).tiny ** 0.5)
    ahead, behind = (
        losses({k: p + sign * (step.to(p.dtype) * tangent[k]) for k, p in moving.items()})
        for sign in (1.0, -1.0)
    )
    return ((ahead - behind) / (2.0 * step.to(ahead.dtype))).detach()

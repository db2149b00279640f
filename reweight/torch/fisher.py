"""Fisher information of a module, from gradients sample by sample."""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap


def fisher_information(
    module: nn.Module,
    loader: Iterable[Any],
    loss: Callable[[Tensor, Tensor], Tensor] = nn.functional.cross_entropy,
    *,
    empirical: bool = False,
    draw: Callable[[Tensor, torch.Generator | None], Tensor] | None = None,
    n_draws: int = 1,
    reduction: str = "sum",
    chunk_size: int | None = None,
    generator: torch.Generator | None = None,
) -> dict[str, Tensor]:
    """Diagonal Fisher information of a module's parameters.

    Gradients are squared sample by sample. Squaring the gradient of a batch's
    mean would be wrong by about the batch size.

    Parameters
    ----------
    module : Module
        Trained module; it runs in evaluation mode and is left in its own.
    loader : iterable
        Batches: tuples whose first entry is the input and whose second the
        targets, which only `empirical=True` needs.
    loss : callable, default=torch.nn.functional.cross_entropy
        Negative log-likelihood of outputs and targets of a batch of one.
    empirical : bool, default=False
        Whether to take the targets of the loader, rather than to draw them from
        the model.
    draw : callable, default=None
        Draws targets given outputs and generator; None draws classes from the
        softmax of outputs of shape (n, n_classes).
    n_draws : int, default=1
        Draws for each sample, whose squares are averaged.
    reduction : {"sum", "mean"}, default="sum"
        Whether to sum over samples or to average.
    chunk_size : int, default=None
        Samples whose gradients are held at a time; None is the batch.
    generator : Generator, default=None
        Source of the draws.

    Returns
    -------
    dict of str to Tensor
        For each parameter of `named_parameters`, for `average_parameters`.
        Buffers, such as running statistics, have no entry: give them one.

    Raises
    ------
    ValueError
        If there are no batches, targets are missing, outputs are no logits
        while `draw` is not given, or arguments are unknown.

    See Also
    --------
    reweight.fisher_information : The same for linear models of scikit-learn, and
        full matrices.

    References
    ----------
    Kunstner, F., Balles, L., Hennig, P. (2019). Limitations of the empirical
    Fisher approximation for natural gradient descent. NeurIPS.

    Examples
    --------
    >>> import torch
    >>> from reweight.torch import fisher_information
    >>> layer = torch.nn.Linear(2, 3)
    >>> layer.weight.data.zero_(), layer.bias.data.zero_()
    (tensor(...), tensor(...))
    >>> batches = [(torch.ones(4, 2), torch.tensor([0, 1, 2, 0]))]
    >>> fisher_information(layer, batches, empirical=True)["bias"]
    tensor([1.1111, 0.7778, 0.7778])
    """
    if reduction not in ("sum", "mean"):
        raise ValueError(f"fisher_information: reduction={reduction!r}; choose 'sum' or 'mean'")
    if n_draws < 1:
        raise ValueError(f"fisher_information: n_draws={n_draws}; draw at least once")
    parameters = {name: p.detach() for name, p in module.named_parameters()}
    buffers = {name: b.detach() for name, b in module.named_buffers()}

    def loss_of_one(parameters: dict, x: Tensor, target: Tensor) -> Tensor:
        output = functional_call(module, (parameters, buffers), (x.unsqueeze(0),))
        return loss(output, target.unsqueeze(0)).sum()

    gradients = vmap(grad(loss_of_one), in_dims=(None, 0, 0), chunk_size=chunk_size)
    total = {name: torch.zeros_like(p) for name, p in parameters.items()}
    n_samples, modes = 0, {m: m.training for m in module.modules()}
    module.eval()
    try:
        for batch in loader:
            x, targets = _inputs_and_targets(batch, empirical)
            n_samples += len(x)
            for _ in range(1 if empirical else n_draws):
                if not empirical:
                    with torch.no_grad():
                        targets = (draw or _draw_classes)(module(x), generator)
                for name, each in gradients(parameters, x, targets).items():
                    total[name] += each.square().sum(0) / (1 if empirical else n_draws)
    finally:
        for part, training in modes.items():
            part.training = training
    if not n_samples:
        raise ValueError("fisher_information: the loader has no samples; pass at least one batch")
    if reduction == "mean":
        total = {name: value / n_samples for name, value in total.items()}
    return total


def _inputs_and_targets(batch: Any, empirical: bool) -> tuple[Tensor, Tensor | None]:
    if isinstance(batch, Tensor):
        batch = (batch,)
    if empirical and len(batch) < 2:
        raise ValueError(
            "fisher_information: empirical=True needs targets, but a batch has inputs only; pass "
            "tuples of both"
        )
    return batch[0], batch[1] if len(batch) > 1 else None


def _draw_classes(output: Tensor, generator: torch.Generator | None) -> Tensor:
    if output.ndim != 2 or output.shape[1] < 2:
        raise ValueError(
            f"fisher_information: outputs have shape {tuple(output.shape)}, which are no logits of "
            "classes; pass draw= to say how targets follow from them"
        )
    return torch.multinomial(output.softmax(1), 1, generator=generator).squeeze(1)

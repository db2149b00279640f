r"""Decay, penalties and parametrisations of weights; recipes for what PyTorch already has.

Decoupled weight decay as in the paper (Loshchilov and Hutter, ICLR 2019) multiplies the decay by
the schedule but not by the learning rate: :math:`\theta \leftarrow \theta - \eta_t (\alpha \hat m
/ (\sqrt{\hat v} + \epsilon) + \lambda \theta)`. PyTorch multiplies by both, so divide by the rate:

>>> import torch
>>> layer, rate, decay = torch.nn.Linear(4, 2), 1e-3, 1e-4
>>> optimizer = torch.optim.AdamW(layer.parameters(), lr=rate, weight_decay=decay / rate)
>>> schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=100)  # the eta_t

Its normalised form sets the decay by the batch size B, the number of rows N and the epochs T:

>>> normalized_decay, B, N, T = 0.025, 128, 50_000, 100
>>> decay = normalized_decay * (B / (N * T)) ** 0.5

No decay for biases and gains, that is for what has one dimension:

>>> matrices = [p for p in layer.parameters() if p.ndim > 1]
>>> others = [p for p in layer.parameters() if p.ndim <= 1]
>>> groups = [{"params": matrices, "weight_decay": 0.1}, {"params": others, "weight_decay": 0.0}]
>>> optimizer = torch.optim.AdamW(groups, lr=rate)

Weight normalisation w = g v / ||v|| (Salimans and Kingma, 2016), with the start that depends on the
data: one batch with g = 1 and b = 0, then g = 1 / sd and b = -mean / sd of each unit:

>>> batch = torch.randn(256, 4)
>>> normed = torch.nn.utils.parametrizations.weight_norm(torch.nn.Linear(4, 2))
>>> with torch.no_grad():
...     gain = normed.parametrizations.weight.original0.fill_(1.0)
...     _ = normed.bias.zero_()
...     output = normed(batch)
...     sd = output.std(0, correction=0)
...     _ = gain.copy_(1 / sd[:, None])
...     _ = normed.bias.copy_(-output.mean(0) / sd)
...     standardized = normed(batch)
>>> bool(torch.allclose(standardized.std(0, correction=0), torch.ones(2), atol=1e-5))
True

A slow copy of a module that predicts, and is never trained (Stojanovski et al., 2022): call
`update_parameters` after every step of the optimiser, `update_bn` before use if there is batch
normalisation:

>>> from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
>>> slow = AveragedModel(layer, multi_avg_fn=get_ema_multi_avg_fn(0.99))
>>> slow.update_parameters(layer)
"""

import math
from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
LAYERS = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d, *TRANSPOSED)


class CautiousWeightDecay:
    r"""Decay only the entries that the optimiser's step shrinks or leaves.

    :math:`x \leftarrow x - \eta (u + \lambda 1\{u x \geq 0\} x)` by entry, with u
    the optimiser's update after momentum and preconditioning and x the value
    before it. It works for any optimiser, for one copy of the parameters.

    Parameters
    ----------
    optimizer : Optimizer
        Its own weight decay is switched off.
    weight_decay : float, default=None
        The λ of all groups; None takes over what each group has, so that
        groups without decay stay so.

    Raises
    ------
    ValueError
        If the decay is negative or not finite.

    Notes
    -----
    This masks the decay. "Cautious optimisers" mask the update instead.

    References
    ----------
    Chen, L., Li, J., Liang, K., Su, B., et al. (2025). Cautious weight decay.
    arXiv:2510.12402.

    Examples
    --------
    >>> import torch
    >>> from reweight.torch import CautiousWeightDecay
    >>> x = torch.nn.Parameter(torch.tensor([1.0, -1.0]))
    >>> optimizer = torch.optim.SGD([x], lr=0.1)
    >>> decay = CautiousWeightDecay(optimizer, 0.5)
    >>> x.grad = torch.ones(2)
    >>> optimizer.step()
    >>> x.data
    tensor([ 0.8500, -1.1000])
    """

    def __init__(self, optimizer: Optimizer, weight_decay: float | None = None) -> None:
        if weight_decay is not None and not 0 <= weight_decay < math.inf:
            raise ValueError(
                f"CautiousWeightDecay: weight_decay={weight_decay}; it must be finite and not "
                "negative"
            )
        self.optimizer, self.weight_decay = optimizer, weight_decay
        self._before: list[tuple[dict, Tensor, Tensor]] = []
        for group in optimizer.param_groups:
            self._take_over(group)
        self._handles = [
            optimizer.register_step_pre_hook(self._remember),
            optimizer.register_step_post_hook(self._decay),
        ]

    def remove(self) -> None:
        """Give the optimiser its own weight decay back."""
        for handle in self._handles:
            handle.remove()
        for group in self.optimizer.param_groups:
            if "own_weight_decay" in group:
                group["weight_decay"] = group.pop("own_weight_decay")
                group.pop("cautious_weight_decay")

    def _take_over(self, group: dict) -> None:
        own = group.get("weight_decay", 0.0)
        group["own_weight_decay"] = own
        group["cautious_weight_decay"] = own if self.weight_decay is None else self.weight_decay
        group["weight_decay"] = 0.0

    @torch.no_grad()
    def _remember(self, *_: object) -> None:
        self._before = []
        for group in self.optimizer.param_groups:
            if "cautious_weight_decay" not in group:  # added since
                self._take_over(group)
            if group["cautious_weight_decay"] != 0:
                self._before += [
                    (group, p, p.detach().clone()) for p in group["params"] if p.grad is not None
                ]

    @torch.no_grad()
    def _decay(self, *_: object) -> None:
        for group, parameter, before in self._before:
            shrinks = (before - parameter) * before >= 0
            rate = group["lr"] * group["cautious_weight_decay"]
            parameter.sub_(rate * before * shrinks)
        self._before = []


def norm_loss(module: nn.Module, target: float = 1.0) -> Tensor:
    r"""Sum over layers and units of the squared distance of the weights' norm from a target.

    Its gradient :math:`2 (1 - 1 / \|w\|) w` is a weight decay whose rate depends
    on the norm and turns into growth below the target. Add it to the loss, with
    a factor such as 0.01.

    Parameters
    ----------
    module : Module
        Its linear and convolutional layers are penalised, each output unit by
        itself.
    target : float, default=1.0
        The norm that costs nothing.

    Returns
    -------
    Tensor
        A scalar.

    Raises
    ------
    ValueError
        If the module has no such layer.

    References
    ----------
    Georgiou, T., Schmitt, S., Bäck, T., Chen, W., Lew, M. (2020). Norm loss: an
    efficient yet effective regularization method for deep neural networks. ICPR.

    Examples
    --------
    >>> import torch
    >>> from reweight.torch import norm_loss
    >>> layer = torch.nn.Linear(2, 1)
    >>> layer.weight.data = torch.tensor([[3.0, 4.0]])
    >>> norm_loss(layer).item()
    16.0
    """
    terms = [
        # The constant keeps the gradient of a zero row finite.
        ((unit_rows(layer).square().sum(1) + 1e-12).sqrt() - target).square().sum()
        for _, layer in named_layers(module)
    ]
    if not terms:
        raise ValueError("norm_loss: the module has no linear or convolutional layer to penalise")
    return torch.stack(terms).sum()


class RowEquilibration(nn.Module):
    r"""Parametrisation of a weight by its rows scaled to length one.

    Among all scalings of the rows it is within :math:`\sqrt{m}` of the best
    condition number, for m rows of full rank. It is weight normalisation
    without the gain.

    References
    ----------
    Saratchandran, H., Wang, T., Lucey, S. (2024). Weight conditioning for smooth
    optimization of neural networks. ECCV.

    Van der Sluis, A. (1969). Condition numbers and equilibration of matrices.
    Numerische Mathematik, 14.

    Examples
    --------
    >>> import torch
    >>> from reweight.torch import RowEquilibration
    >>> layer = torch.nn.Linear(3, 2)
    >>> _ = torch.nn.utils.parametrize.register_parametrization(layer, "weight", RowEquilibration())
    >>> layer.weight.norm(dim=1).tolist()
    [1.0, 1.0]
    """

    def __init__(self) -> None:
        super().__init__()

    def forward(self, weight: Tensor) -> Tensor:
        """The weight with rows of length one; zero rows stay.

        Parameters
        ----------
        weight : Tensor of shape (n_units, ...)
            Weight, each unit a slice of the first axis.

        Returns
        -------
        Tensor
        """
        squares = weight.flatten(1).square().sum(1)
        scale = torch.where(squares > 0, squares, 1.0).rsqrt()
        return weight * scale.view(-1, *[1] * (weight.ndim - 1))

    def right_inverse(self, weight: Tensor) -> Tensor:
        """A weight that is mapped to the given one's directions: itself.

        Parameters
        ----------
        weight : Tensor
            Weight.

        Returns
        -------
        Tensor
        """
        return weight


class WeightCompander(nn.Module):
    r"""Parametrisation of a weight by :math:`w = a \arctan(v / b)`.

    Weights stay within :math:`\pm a \pi / 2`, small ones learn faster, by the
    factor a / b, and large ones slower.

    Parameters
    ----------
    a : float, default=1.0
        Positive scale of the weights.
    b : float, default=1.0
        Positive scale of what is learned.
    learnable : bool, default=False
        Whether both are learned, by their logarithms.

    Raises
    ------
    ValueError
        If a or b is not positive.

    References
    ----------
    Cakaj, R., Mehnert, J., Yang, B. (2023). Weight compander: a simple weight
    reparameterization for regularization. IJCNN.

    Examples
    --------
    >>> import torch
    >>> from reweight.torch import WeightCompander
    >>> compander = WeightCompander(a=2.0)
    >>> compander(torch.tensor([1e6])) / torch.pi
    tensor([1.0000])
    """

    def __init__(self, a: float = 1.0, b: float = 1.0, learnable: bool = False) -> None:
        super().__init__()
        for name, value in (("a", a), ("b", b)):
            if not 0 < value < math.inf:
                raise ValueError(f"WeightCompander: {name}={value}; it must be positive and finite")
            log = torch.tensor(math.log(value))
            if learnable:
                self.register_parameter(f"log_{name}", nn.Parameter(log))
            else:
                self.register_buffer(f"log_{name}", log)

    def forward(self, v: Tensor) -> Tensor:
        """The weight.

        Parameters
        ----------
        v : Tensor
            What is learned.

        Returns
        -------
        Tensor
        """
        return self.log_a.exp() * torch.arctan(v / self.log_b.exp())

    def right_inverse(self, weight: Tensor) -> Tensor:
        """What is mapped to a weight.

        Parameters
        ----------
        weight : Tensor
            Weight with entries below a π / 2 in absolute value.

        Returns
        -------
        Tensor
        """
        a = self.log_a.exp()
        bound = float(a.detach()) * math.pi / 2
        largest = float(weight.detach().abs().max()) if weight.numel() else 0.0
        if largest >= bound:
            raise ValueError(
                f"WeightCompander: the weight has an entry of size {largest:.3g}, but entries "
                f"must be below a pi / 2 = {bound:.3g}; choose a larger a"
            )
        return self.log_b.exp() * torch.tan(weight / a)


class MaxNormConstraint:
    r"""Cap on the norms of a layer's rows, from their spread when it is made.

    The cap of each linear or convolutional layer is its smallest norm plus a
    share q of the way to its largest. For the second stage of training on long
    tails, in which rows of common classes would outgrow the others.

    Parameters
    ----------
    module : Module
        Module, usually the last layer.
    q : float, default=0.1
        The share, from 0 to 1.

    Raises
    ------
    ValueError
        If q is out of its range, or there is no such layer.

    References
    ----------
    Alshammari, S., Wang, Y.-X., Ramanan, D., Kong, S. (2022). Long-tailed
    recognition via weight balancing. CVPR.

    Examples
    --------
    >>> import torch
    >>> from reweight.torch import MaxNormConstraint
    >>> layer = torch.nn.Linear(1, 2)
    >>> layer.weight.data = torch.tensor([[1.0], [3.0]])
    >>> MaxNormConstraint(layer, q=0.5).apply_()
    >>> layer.weight.data.flatten()
    tensor([1., 2.])
    """

    def __init__(self, module: nn.Module, q: float = 0.1) -> None:
        if not 0 <= q <= 1:
            raise ValueError(f"MaxNormConstraint: q={q}; it must be between 0 and 1")
        self.layers = [layer for _, layer in named_layers(module)]
        if not self.layers:
            raise ValueError(
                "MaxNormConstraint: the module has no linear or convolutional layer to constrain"
            )
        self.caps = []
        for layer in self.layers:
            norms = unit_rows(layer).detach().norm(dim=1)
            self.caps.append(norms.min() + q * (norms.max() - norms.min()))

    @torch.no_grad()
    def apply_(self) -> None:
        """Scale rows that are too long to the cap, after a step of the optimiser."""
        for layer, cap in zip(self.layers, self.caps, strict=True):
            rows = unit_rows(layer)
            norms = rows.norm(dim=1, keepdim=True)
            # A row at the cap up to rounding is left alone, or repeats would move it.
            long = norms > cap * (1 + 8 * torch.finfo(norms.dtype).eps)
            scale = torch.where(long, cap / norms, 1.0).squeeze(1)
            axis = 1 if isinstance(layer, TRANSPOSED) else 0
            shape = [1] * layer.weight.ndim
            shape[axis] = -1
            layer.weight.mul_(scale.view(shape))


def named_layers(module: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """Linear and convolutional layers by name.

    Parameters
    ----------
    module : Module
        Module.

    Yields
    ------
    name, layer
    """
    for name, layer in module.named_modules():
        if isinstance(layer, LAYERS):
            yield name, layer


def unit_rows(layer: nn.Module) -> Tensor:
    """Weights of a layer with one row an output unit.

    Parameters
    ----------
    layer : Module
        Linear or convolutional layer.

    Returns
    -------
    Tensor of shape (n_units, n_inputs)
    """
    weight = layer.weight.transpose(0, 1) if isinstance(layer, TRANSPOSED) else layer.weight
    return weight.flatten(1)

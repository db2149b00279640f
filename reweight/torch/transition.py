"""Weights for noisy labels whose transition matrix is known."""

import math
from typing import Any

import torch
from numpy.typing import ArrayLike
from torch import Tensor

from reweight.torch._random import Draws, dirichlet_shares, multinomial_counts
from reweight.torch._reduction import gather_padded, n_processes, positive
from reweight.torch._transition_matrix import check_labels, check_transition, transition_weights
from reweight.torch.base import LossWeighter

METHODS = ("rent", "dirichlet", "reweight")


class TransitionWeighter(LossWeighter):
    r"""Importance weights for labels that were flipped with known probabilities.

    With T[a, b] the probability of the noisy label a given the clean class b, and
    f the class probabilities of the model, a row with noisy label y has weight
    :math:`w = f_y / (T f)_y`: its loss then stands for that of a clean row.
    Not meant for noise that depends on the features.

    Parameters
    ----------
    transition : array-like or Tensor of shape (n_classes, n_classes)
        T.
    method : {"rent", "dirichlet", "reweight"}, default="rent"
        Draw rows with replacement in proportion to the weights, as often as there
        are rows; draw the shares of rows from a Dirichlet distribution around
        them; or take the weights themselves, which is the limit of a large
        `concentration`.
    concentration : float, default=10.0
        That of "dirichlet": the variance of a share u with mean w is
        w (1 - w) / (concentration + 1).
    n_draws : int, default=1
        Number of draws that are averaged.
    convention : {"columns", "rows"}, default="columns"
        Which dimension of `transition` sums to one; "rows" means that rows are
        clean classes.
    generator : torch.Generator, default=None
        Source of the draws; None makes one that is seeded by the default
        generator.
    normalize, warmup_steps, max_weight, unit, aggregate, on_nonfinite, process_group : optional
        As in `LossWeighter`. The classical form divides by the number of rows,
        ``normalize="none"``.

    Attributes
    ----------
    transition : Tensor of shape (n_classes, n_classes)
        T with columns that sum to one, a buffer, float64 if given as such.

    Notes
    -----
    Calls need `logits` in the layout of `torch.nn.functional.cross_entropy` and the
    noisy labels as `target`. Weights are at most 1 / T[y, y], and one if T is the
    identity. Draws count with the sum of the weights, so that their expectation is
    the weight. `weights` shows the draw of the next call. In compiled code draws
    come from the default generator. Weights mean little before the model knows
    something: give it some epochs of plain loss by `warmup_steps`. With a true T
    and a small model, `ForwardCorrectionLoss` may do better.

    References
    ----------
    Bae, H., Shin, S., Na, B. and Moon, I.-C. (2024). Dirichlet-based per-sample
    weighting by transition matrix for noisy label learning. ICLR.

    Liu, T. and Tao, D. (2016). Classification with noisy labels by importance
    reweighting. IEEE TPAMI 38, 447-461.

    Examples
    --------
    >>> import torch
    >>> from reweight.torch import TransitionWeighter
    >>> T = torch.tensor([[0.8, 0.2], [0.2, 0.8]])
    >>> weigh = TransitionWeighter(T, method="reweight", normalize="none")
    >>> logits, noisy = torch.tensor([[2.0, 0.0], [2.0, 0.0]]), torch.tensor([0, 1])
    >>> loss = torch.nn.functional.cross_entropy(logits, noisy, reduction="none")
    >>> weigh.weights(loss, logits=logits, target=noisy)
    tensor([1.2091, 0.4390])
    """

    transition: Tensor

    def __init__(
        self,
        transition: ArrayLike | Tensor,
        method: str = "rent",
        *,
        concentration: float = 10.0,
        n_draws: int = 1,
        convention: str = "columns",
        generator: torch.Generator | None = None,
        normalize: str = "batch",
        warmup_steps: int = 0,
        max_weight: float | tuple[str, float] | None = None,
        unit: str = "row",
        aggregate: str = "row",
        on_nonfinite: str = "ignore",
        process_group: Any = None,
    ) -> None:
        super().__init__(
            normalize=normalize,
            warmup_steps=warmup_steps,
            max_weight=max_weight,
            unit=unit,
            aggregate=aggregate,
            on_nonfinite=on_nonfinite,
            process_group=process_group,
        )
        self._check_choice("method", method, METHODS)
        if not 0 < concentration < math.inf:
            raise ValueError(
                f"TransitionWeighter: concentration={concentration}; it must be finite and positive"
            )
        if not (isinstance(n_draws, int) and n_draws >= 1):
            raise ValueError(f"TransitionWeighter: n_draws={n_draws!r}; pass a whole number >= 1")
        matrix = check_transition("TransitionWeighter", transition, convention)
        self.method = method
        self.concentration = float(concentration)
        self.n_draws = n_draws
        self.register_buffer("transition", matrix)
        self._draws = Draws(generator)

    def raw_weights(
        self,
        loss: Tensor,
        *,
        target: Tensor | None = None,
        logits: Tensor | None = None,
        mask: Tensor | None = None,
        **context: Any,
    ) -> Tensor:
        """Weights of the noisy labels, or a draw whose expectation they are.

        Parameters
        ----------
        loss : Tensor of shape (n_rows, ...)
            Losses of the items.
        target : Tensor of int of shape (n_rows, ...)
            Noisy labels.
        logits : Tensor of shape (n_rows, n_classes, ...)
            Scores of the clean classes.
        mask : Tensor of bool, default=None
            Active items, in the shape of `loss`; labels of others may be anything.
        **context : Tensor
            Not used.

        Returns
        -------
        Tensor in the shape of `target`
        """
        if mask is not None and target is not None and mask.shape == target.shape:
            target = torch.where(mask, target, 0)
        check_labels("TransitionWeighter", logits, target, len(self.transition))
        weights = transition_weights(logits, target, self.transition)
        if mask is not None and mask.shape == weights.shape:
            weights = torch.where(mask, weights, 0.0)
        if self.method == "reweight":
            return weights
        return self._drawn(weights.reshape(-1), mask).reshape(weights.shape)

    def _drawn(self, own: Tensor, mask: Tensor | None) -> Tensor:
        """A draw of the rows of all processes, and from it those of this one."""
        n_ranks = n_processes(self.process_group)
        if n_ranks == 1 and not own.numel():
            return own
        n_items = own.new_tensor(own.numel()) if mask is None else mask.sum().to(own.dtype)
        weights = own
        if n_ranks > 1:
            weights = gather_padded(own, self.process_group)
            weights = torch.where(torch.isinf(weights), 0.0, weights)
            n_items = self.global_sum(n_items)
        total = weights.sum()
        shares = weights / positive(total)
        drawn = self._one_draw(shares, n_items)
        for _ in range(self.n_draws - 1):
            drawn = drawn + self._one_draw(shares, n_items)
        drawn = drawn * (total / self.n_draws)
        if n_ranks > 1:
            # Generators of processes may differ; all take the draw of the first.
            rank = torch.distributed.get_rank(self.process_group)
            drawn = self.global_sum(drawn if rank == 0 else torch.zeros_like(drawn))
            start = rank * (len(drawn) // n_ranks)
            drawn = drawn[start : start + own.numel()]
        return drawn

    def _one_draw(self, shares: Tensor, n_items: Tensor) -> Tensor:
        generator = self._draws.on(shares.device)
        if self.method == "dirichlet":
            return dirichlet_shares(self.concentration * shares, generator)
        counts = multinomial_counts(shares, n_items, shares.numel(), generator)
        return counts / n_items.clamp_min(1.0)

    def weights(self, loss: Tensor, **context: Any) -> Tensor:
        """Weights that the next call will use, after warm-up and cap; changes no state.

        Parameters
        ----------
        loss : Tensor of shape (n_rows, ...)
            Losses by item.
        **context : Tensor
            As in `LossWeighter.weights`.

        Returns
        -------
        Tensor of shape (n_rows,) or that of `loss`
        """
        self._draws.on(loss.device)
        state = self._draws.get_state()
        try:
            return super().weights(loss, **context)
        finally:
            self._draws.set_state(state)

    def get_extra_state(self) -> dict[str, Any]:
        """State of the generator.

        Returns
        -------
        dict
        """
        return self._draws.get_state()

    def set_extra_state(self, state: dict[str, Any]) -> None:
        """Go on from a saved state.

        Parameters
        ----------
        state : dict
            What `get_extra_state` returned.
        """
        self._draws.set_state(state)

    def extra_repr(self) -> str:
        """Settings that are not the default.

        Returns
        -------
        str
        """
        own = f"n_classes={len(self.transition)}, method={self.method!r}"
        if self.method == "dirichlet":
            own += f", concentration={self.concentration}"
        if self.n_draws > 1:
            own += f", n_draws={self.n_draws}"
        base = super().extra_repr()
        return f"{own}, {base}" if base else own

"""Draw rows in proportion to their weights: alike on all processes, and from where one left off."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from numpy.typing import ArrayLike
from torch import Tensor
from torch.utils.data import Sampler

from reweight.torch.index import estimator_weights
from reweight.validation import check_weights

CHUNK = 65536


class ImportanceSampler(Sampler[int]):
    r"""Sampler that draws rows with probability proportional to a power of their weights.

    Drawing row i with probability :math:`p_i \propto w_i^a` and weighting its
    loss by :math:`r_i = w_i / (n p_i \bar w)` estimates the weighted mean loss
    :math:`\sum_i w_i \ell_i / \sum_i w_i` without bias for any power a: one is
    pure resampling, zero pure weighting. What is left to the loss is in
    `residual_weights`.

    Parameters
    ----------
    weights : array-like of shape (n_samples,) or Tensor
        Finite, non-negative weights on any scale.
    num_samples : int, default=None
        Draws of an epoch over all processes; None means n_samples. Rounded up
        to a multiple of `num_replicas`, so that all processes take as many steps.
    power : float, default=1.0
        Share of the weights that the sampling takes, from 0 to 1.
    method : {"systematic", "multinomial"}, default="systematic"
        Systematic sampling draws row i either floor or ceil of num_samples * p_i
        times, which has the least variance; multinomial draws are independent.
    replacement : bool, default=True
        Whether a row may be drawn more than once in an epoch. Systematic
        sampling without replacement needs num_samples * p_i <= 1 everywhere.
    seed : int, default=0
        Seed that all processes share.
    num_replicas : int, default=None
        Number of processes; None asks `torch.distributed`, and is one without.
    rank : int, default=None
        Number of this process; None asks `torch.distributed`.

    Attributes
    ----------
    epoch : int
        Epoch that the next iteration draws; it moves on by itself when one is
        used up.
    position : int
        Draws handed out by this process in the current epoch.

    Raises
    ------
    ValueError
        If the weights are unusable, an argument is out of range, or rows would
        have to be drawn more than once without replacement.

    Notes
    -----
    The process of rank r gets every `num_replicas`-th draw, starting with the
    r-th. A ``DataLoader`` with workers asks ahead of time; give `state_dict`
    the number of draws that have been trained on. Any number of rows works,
    also above the :math:`2^{24}` of ``torch.multinomial``. In Lightning, pass
    ``use_distributed_sampler=False`` to the trainer.

    References
    ----------
    Madow, W. G. (1949). On the theory of systematic sampling, II. Annals of
    Mathematical Statistics 20, 333-354.

    Examples
    --------
    >>> from reweight.torch import ImportanceSampler
    >>> sampler = ImportanceSampler([1.0, 1.0, 2.0], num_samples=4)
    >>> sorted(sampler)
    [0, 1, 2, 2]
    >>> ImportanceSampler([1.0, 1.0, 2.0], power=0.0).residual_weights()
    tensor([0.7500, 0.7500, 1.5000], dtype=torch.float64)
    """

    def __init__(
        self,
        weights: ArrayLike | Tensor,
        num_samples: int | None = None,
        *,
        power: float = 1.0,
        method: str = "systematic",
        replacement: bool = True,
        seed: int = 0,
        num_replicas: int | None = None,
        rank: int | None = None,
    ) -> None:
        self.weights = _check_sampling_weights(weights)
        if not 0.0 <= power <= 1.0:
            raise ValueError(f"ImportanceSampler: power={power}; it must lie in [0, 1]")
        if method not in ("systematic", "multinomial"):
            raise ValueError(
                f"ImportanceSampler: method={method!r}; choose 'systematic' or 'multinomial'"
            )
        self.power = float(power)
        self.method = method
        self.replacement = replacement
        self.seed = seed
        self.num_replicas, self.rank = _resolve_processes(num_replicas, rank)
        n_draws = self.weights.size if num_samples is None else num_samples
        if not n_draws >= 1:
            raise ValueError(f"ImportanceSampler: num_samples={num_samples}; draw at least one row")
        self.num_samples = -(-int(n_draws) // self.num_replicas) * self.num_replicas
        self.epoch = 0
        self.position = 0
        self._resume_at = 0
        self._check_replacement()

    @classmethod
    def from_estimator(
        cls, estimator: Any, *, attr: str | None = None, **settings: Any
    ) -> "ImportanceSampler":
        """Take the weights of a fitted estimator.

        Parameters
        ----------
        estimator : estimator
            Fitted weighter, pipeline that ends in one, or `Reweighted`.
        attr : str, default=None
            Attribute with the weights; None looks for `weights_`, then
            `sample_weight_`.
        **settings : Any
            Further arguments of `ImportanceSampler`.

        Returns
        -------
        ImportanceSampler
        """
        return cls(estimator_weights(estimator, attr), **settings)

    def __len__(self) -> int:
        return self.num_samples // self.num_replicas

    def __iter__(self) -> Iterator[int]:
        draws = self._draws()[self.rank :: self.num_replicas]
        self.position, self._resume_at = self._resume_at, 0
        for start in range(self.position, draws.size, CHUNK):
            for row in draws[start : start + CHUNK].tolist():
                self.position += 1
                yield row
        self.epoch, self.position = self.epoch + 1, 0

    def set_epoch(self, epoch: int) -> None:
        """Choose the draws of the next iteration; the current epoch keeps its position.

        Parameters
        ----------
        epoch : int
            Number of the epoch.
        """
        if epoch != self.epoch:
            self.epoch, self.position, self._resume_at = int(epoch), 0, 0

    def state_dict(self, position: int | None = None) -> dict[str, int]:
        """What `load_state_dict` needs to go on with the next draw.

        Parameters
        ----------
        position : int, default=None
            Draws of this epoch that this process has trained on; None means
            all that were handed out, which is more if a loader with workers has
            asked ahead.

        Returns
        -------
        dict
        """
        return {"epoch": self.epoch, "position": self.position if position is None else position}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Let the next iteration go on where a saved one stood.

        Parameters
        ----------
        state : dict
            What `state_dict` returned, on a sampler with the same arguments.

        Raises
        ------
        ValueError
            If the position lies beyond the draws of this sampler.
        """
        if not 0 <= state["position"] <= len(self):
            raise ValueError(
                f"ImportanceSampler: the saved position {state['position']} is not among the "
                f"{len(self)} draws of this process; build the sampler with the same arguments"
            )
        self.epoch = int(state["epoch"])
        self.position = self._resume_at = int(state["position"])

    def residual_weights(self) -> Tensor:
        """What is left of the weights for the loss, for ``IndexWeighter(..., normalize="none")``.

        Returns
        -------
        Tensor of shape (n_samples,)
            float64; constant one for ``power=1``.
        """
        scale = self._sampling_weights().sum() / self.weights.sum()
        return torch.from_numpy(self.weights ** (1.0 - self.power) * scale)

    def _sampling_weights(self) -> np.ndarray:
        return self.weights if self.power == 1.0 else self.weights**self.power

    def _cumulative(self) -> np.ndarray:
        """Distribution function of the draws, exactly one at the last row that has weight."""
        cumulative = np.cumsum(self._sampling_weights())
        cumulative /= cumulative[-1]
        return cumulative

    def _draws(self) -> np.ndarray:
        """The draws of all processes in this epoch."""
        rng = np.random.default_rng([self.seed, self.epoch])
        if self.method == "systematic":
            # Pointer k + u falls on the row whose interval of the scaled distribution holds it.
            upto = np.ceil(self._cumulative() * self.num_samples - rng.random())
            counts = np.diff(upto.astype(np.int64), prepend=0)
            rows = np.repeat(np.arange(counts.size), counts)
        else:
            uniforms = np.sort(rng.random(self.num_samples))
            rows = np.searchsorted(self._cumulative(), uniforms, side="right")
        rng.shuffle(rows)
        return rows

    def _check_replacement(self) -> None:
        if self.replacement:
            return
        if self.method != "systematic":
            raise ValueError(
                "ImportanceSampler: multinomial draws repeat rows; pass replacement=True or "
                "method='systematic'"
            )
        sampling = self._sampling_weights()
        expected = sampling.max() * self.num_samples / sampling.sum()
        if expected > 1.0 + 1e-9:
            raise ValueError(
                f"ImportanceSampler: row {int(sampling.argmax())} would be drawn {expected:.3g} "
                f"times in {self.num_samples} draws, which needs replacement; draw at most "
                f"{int(self.num_samples / expected)} rows, lower power, or pass replacement=True"
            )


def _check_sampling_weights(weights: Any) -> np.ndarray:
    if isinstance(weights, Tensor):
        weights = weights.detach().cpu().double().numpy()
    try:
        weights = check_weights(weights)
    except ValueError as error:
        raise ValueError(f"ImportanceSampler: {error}") from None
    if not weights.any():
        raise ValueError(
            f"ImportanceSampler: all {weights.size} weights are zero; one must be positive"
        )
    return weights


def _resolve_processes(num_replicas: int | None, rank: int | None) -> tuple[int, int]:
    """Number of processes and number of this one."""
    running = dist.is_available() and dist.is_initialized()
    if num_replicas is None:
        num_replicas = dist.get_world_size() if running else 1
    if rank is None:
        rank = dist.get_rank() if running else 0
    if not 0 <= rank < num_replicas:
        raise ValueError(
            f"ImportanceSampler: rank={rank} of num_replicas={num_replicas} processes; ranks go "
            "from 0 to num_replicas - 1"
        )
    return num_replicas, rank

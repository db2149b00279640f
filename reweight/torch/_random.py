"""Draws from distributions by a module's own generator, also on accelerators."""

import hashlib
from typing import Any

import torch
from torch import Tensor

from reweight.validation import warn_user

# An attempt fails with a probability below five per cent.
ATTEMPTS = 12


class Draws:
    """A generator that follows its module to other devices.

    Parameters
    ----------
    generator : torch.Generator, default=None
        None makes one that is seeded by the default generator.

    Notes
    -----
    Compiled code cannot hold a generator and draws from the default one.
    """

    def __init__(self, generator: torch.Generator | None = None) -> None:
        if generator is None:
            generator = torch.Generator().manual_seed(int(torch.randint(2**62, ())))
        self.generator = generator

    def on(self, device: torch.device) -> torch.Generator | None:
        """The generator on a device.

        Parameters
        ----------
        device : torch.device
            Where to draw.

        Returns
        -------
        torch.Generator or None
            None in compiled code.
        """
        if torch.compiler.is_compiling():
            return None
        if self.generator.device.type != device.type:
            seed = int(
                torch.randint(2**62, (), generator=self.generator, device=self.generator.device)
            )
            self.generator = torch.Generator(device).manual_seed(seed)
        return self.generator

    def get_state(self) -> dict[str, Any]:
        """Device and state of the generator.

        Returns
        -------
        dict
        """
        return {"device": str(self.generator.device), "state": self.generator.get_state()}

    def set_state(self, state: dict[str, Any]) -> None:
        """Go on from a state.

        Parameters
        ----------
        state : dict
            What `get_state` returned.
        """
        if str(self.generator.device) != state["device"]:
            try:
                self.generator = torch.Generator(state["device"])
            except RuntimeError:
                self._restart(state)
                return
        self.generator.set_state(state["state"].cpu())

    def _restart(self, state: dict[str, Any]) -> None:
        """Seed by the state of a generator whose device this machine does not have."""
        warn_user(
            f"the saved generator is one of {state['device']}, which is not here; draws go on from "
            f"a seed made of its state, on {self.generator.device}, and are not those that the "
            "other device would give",
            UserWarning,
        )
        digest = hashlib.sha256(state["state"].cpu().numpy().tobytes()).digest()
        self.generator.manual_seed(int.from_bytes(digest[:7], "big"))


def multinomial_counts(
    shares: Tensor, n_trials: Tensor | int, largest: int, generator: torch.Generator | None
) -> Tensor:
    """How often each item is drawn, with replacement.

    Parameters
    ----------
    shares : Tensor of shape (n_items,)
        Non-negative weights, not all zero.
    n_trials : Tensor of shape () or int
        Number of draws, at most `largest`.
    largest : int
        Bound that fixes shapes.
    generator : torch.Generator or None
        Source of randomness.

    Returns
    -------
    Tensor of shape (n_items,)
    """
    edges = shares.double().cumsum(0)
    pointers = torch.rand(largest, generator=generator, device=shares.device, dtype=torch.float64)
    # A pointer may round to an edge; items without a share are skipped by right=True.
    drawn = torch.searchsorted(edges, pointers * edges[-1], right=True)
    drawn = drawn.clamp_max(shares.numel() - 1)
    counted = torch.arange(largest, device=shares.device) < n_trials
    return torch.zeros_like(shares).scatter_add(0, drawn, counted.to(shares.dtype))


def log_gamma_draws(shape: Tensor, generator: torch.Generator | None) -> Tensor:
    """Logarithms of gamma variates; small shapes do not underflow.

    Parameters
    ----------
    shape : Tensor
        Positive shapes.
    generator : torch.Generator or None
        Source of randomness.

    Returns
    -------
    Tensor in the shape of `shape`

    Notes
    -----
    Draws of shape a + 1 by rejection from a cubed normal, with a fixed number of
    attempts so that nothing waits for the device, times a power of a uniform.

    References
    ----------
    Marsaglia, G. and Tsang, W. W. (2000). A simple method for generating gamma
    variables. ACM Transactions on Mathematical Software 26, 363-372.
    """
    settings = {"generator": generator, "device": shape.device, "dtype": torch.float64}
    d = shape.double() + 2.0 / 3.0
    x = torch.randn((ATTEMPTS, *shape.shape), **settings)
    cube = (1.0 + x / (3.0 * d.sqrt())) ** 3
    log_cube = cube.clamp_min(1e-300).log()
    log_u = torch.rand(x.shape, **settings).clamp_min(1e-300).log()
    accepted = (cube > 0) & (log_u < 0.5 * x.square() + d * (1.0 - cube + log_cube))
    first = accepted.to(torch.uint8).argmax(0, keepdim=True)
    log_power = torch.rand(shape.shape, **settings).clamp_min(1e-300).log() / shape.double()
    return d.log() + log_cube.gather(0, first).squeeze(0) + log_power


def dirichlet_shares(concentration: Tensor, generator: torch.Generator | None) -> Tensor:
    """A draw from a Dirichlet distribution; items of concentration zero get nothing.

    Parameters
    ----------
    concentration : Tensor of shape (n_items,)
        Non-negative, not all zero.
    generator : torch.Generator or None
        Source of randomness.

    Returns
    -------
    Tensor of shape (n_items,)
    """
    present = concentration > 0
    logs = log_gamma_draws(torch.where(present, concentration, 1.0), generator)
    return torch.softmax(torch.where(present, logs, -torch.inf), 0).to(concentration.dtype)

"""A network whose output are weights that sum to one, and its training."""

import copy
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

Data = tuple[Tensor, Tensor, Tensor, Tensor]
Objective = Callable[[Tensor, Tensor, Tensor], Tensor]


class Gate(nn.Module):
    """Weights over models, or over all quantiles of all models, for each row.

    Parameters
    ----------
    n_features : int
        Number of features; 0 gives the same weights to all rows.
    p, m : int
        Number of models and of levels.
    granularity : {"coarse", "medium", "fine"}
        What weights are for.
    hidden_units, n_layers : int
        Size of the network.
    dropout : float
        Share of units left out.
    seed : int
        Of the initial parameters.
    """

    def __init__(
        self,
        n_features: int,
        p: int,
        m: int,
        granularity: str,
        hidden_units: int,
        n_layers: int,
        dropout: float,
        seed: int,
    ) -> None:
        super().__init__()
        self.shape = {"coarse": (p,), "medium": (p, m), "fine": (p * m, m)}[granularity]
        self.fine = (p, m, m) if granularity == "fine" else None
        outputs = math.prod(self.shape)
        self.constant = nn.Parameter(torch.zeros(outputs))
        self.body: nn.Module | None = None
        if n_features:
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(seed)
                layers: list[nn.Module] = []
                width = n_features
                for _ in range(n_layers):
                    layers += [nn.Linear(width, hidden_units), nn.ELU(), nn.Dropout(dropout)]
                    width = hidden_units
                last = nn.Linear(width, outputs, bias=False)
            # Zero logits are equal weights.
            nn.init.zeros_(last.weight)
            self.body = nn.Sequential(*layers, last)

    def forward(self, features: Tensor) -> Tensor:
        """Weights of rows.

        Parameters
        ----------
        features : Tensor of shape (n, d)
            Standardised features.

        Returns
        -------
        Tensor of shape (n, p), (n, p, m) or (n, p, m, m)
        """
        logits = self.constant.expand(len(features), -1)
        if self.body is not None:
            logits = logits + self.body(features)
        weights = logits.reshape(len(features), *self.shape).softmax(dim=1)
        return weights if self.fine is None else weights.reshape(len(features), *self.fine)


def combine(weights: Tensor, Q: Tensor) -> Tensor:
    """Averages of quantiles.

    Parameters
    ----------
    weights : Tensor of shape (n, p), (n, p, m) or (n, p, m, m)
        Weights of each row; of the last kind the last axis is the level out.
    Q : Tensor of shape (n, p, m)
        Quantiles.

    Returns
    -------
    Tensor of shape (n, m)
    """
    formula = {2: "nj,njk->nk", 3: "njk,njk->nk", 4: "njlk,njl->nk"}[weights.ndim]
    return torch.einsum(formula, weights, Q)


def crossing_margins(
    Q: NDArray, y: NDArray, weights: NDArray, levels: NDArray, margin: float, rule: str
) -> NDArray[np.float64]:
    """Distance that level l is to keep from level k below it.

    Parameters
    ----------
    Q : ndarray of shape (n, p, m)
        Quantiles, in standard deviations of y.
    y : ndarray of shape (n,)
        Outcomes, likewise.
    weights : ndarray of shape (n,)
        Row weights.
    levels : ndarray of shape (m,)
        Levels.
    margin : float
        The distance, or the share of that of pilot residuals.
    rule : {"single", "adapt"}
        Which of the two.

    Returns
    -------
    ndarray of shape (m, m)
        Row k, column l.
    """
    m = len(levels)
    if rule == "single":
        return np.full((m, m), margin)
    middle = int(np.argmin(np.abs(levels - 0.5)))
    pilot = y - np.median(Q[:, :, middle], axis=1)
    quantiles = np.quantile(pilot, levels, weights=weights, method="inverted_cdf")
    return margin * np.maximum(quantiles[None, :] - quantiles[:, None], 0.0)


def gate_objective(levels: Tensor, margins: Tensor, price: float, *, adjacent: bool) -> Objective:
    """Mean pinball loss, plus a price on crossings.

    Parameters
    ----------
    levels : Tensor of shape (m,)
        Levels.
    margins : Tensor of shape (m, m)
        Distances that pairs are to keep.
    price : float
        Price of the mean crossing over pairs.
    adjacent : bool
        Whether only neighbouring levels are pairs.

    Returns
    -------
    callable
        From combined quantiles (n, m), outcomes (n,) and row weights (n,) to the loss.
    """
    m = len(levels)
    low, high = np.triu_indices(m, 1)
    if adjacent:
        low, high = np.arange(m - 1), np.arange(1, m)
    below, above = torch.as_tensor(low), torch.as_tensor(high)
    below, above = below.to(levels.device), above.to(levels.device)

    def objective(q: Tensor, y: Tensor, weights: Tensor) -> Tensor:
        residual = y[:, None] - q
        by_row = torch.maximum(levels * residual, (levels - 1) * residual).mean(dim=1)
        if price > 0 and len(below):
            crossing = (q[:, below] - q[:, above] + margins[below, above]).clamp(min=0)
            by_row = by_row + price * crossing.mean(dim=1)
        return (weights * by_row).sum() / weights.sum()

    return objective


def batch_size_for(n: int) -> int:
    """Two to the power of three plus the digits of n less one.

    Parameters
    ----------
    n : int
        Number of rows.

    Returns
    -------
    int
    """
    return 2 ** (3 + math.floor(math.log10(n)))


def train_gate(
    network: Gate,
    objective: Objective,
    held_out_loss: Objective,
    train: Data,
    held_out: Data | None,
    max_steps: int,
    *,
    seed: int,
    batch_size: int,
    learning_rate: float,
    weight_decay: float,
    check_every: int,
    patience: int,
    verbose: int,
    name: str,
) -> tuple[int, list[float]]:
    """Train until rows set aside are no longer predicted better; the best network is kept.

    Parameters
    ----------
    network : Gate
        Trained in place.
    objective, held_out_loss : callable
        What is minimised, and what judges the steps.
    train, held_out : tuple of Tensor
        Features, quantiles, outcomes and row weights; without rows set aside
        all steps are taken.
    max_steps : int
        Largest number of steps.
    seed : int
        Of batches and dropout.
    batch_size, learning_rate, weight_decay : number
        Of Adam.
    check_every, patience : int
        In steps.
    verbose : int
        Whether to show a progress bar.
    name : str
        Label of it.

    Returns
    -------
    steps : int
        Number of steps of the network that is kept.
    losses : list of float
        On the rows set aside.
    """
    optimizer = torch.optim.Adam(
        network.parameters(), lr=learning_rate, weight_decay=weight_decay, amsgrad=True
    )
    best = (math.inf, 0, copy.deepcopy(network.state_dict()))
    losses = []
    steps: Any = range(1, max_steps + 1)
    if verbose:
        from tqdm.auto import tqdm

        steps = tqdm(steps, desc=f"{name}: steps")
    batches = _batches(len(train[0]), batch_size, seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if held_out is not None:
            losses.append(_loss(network, held_out_loss, held_out))
            best = (losses[0], 0, best[2])
        for step in steps:
            network.train()
            rows = next(batches).to(train[0].device)
            features, Q, y, weights = (part[rows] for part in train)
            optimizer.zero_grad()
            objective(combine(network(features), Q), y, weights).backward()
            optimizer.step()
            if held_out is None or (step % check_every and step < max_steps):
                continue
            losses.append(_loss(network, held_out_loss, held_out))
            if losses[-1] < best[0]:
                best = (losses[-1], step, copy.deepcopy(network.state_dict()))
            elif step - best[1] >= patience:
                break
    if held_out is None:
        return max_steps, losses
    network.load_state_dict(best[2])
    return best[1], losses


def _batches(n: int, size: int, seed: int):
    """Rows of each batch, without end; each row once in every pass."""
    rng = np.random.default_rng(seed)
    while True:
        order = torch.as_tensor(rng.permutation(n))
        yield from order.split(size)


def _loss(network: Gate, objective: Objective, data: Data) -> float:
    """Loss in evaluation mode, in blocks of rows."""
    network.eval()
    total, mass = 0.0, 0.0
    with torch.no_grad():
        for features, Q, y, weights in zip(*(part.split(2048) for part in data), strict=True):
            share = float(weights.sum())
            total += share * float(objective(combine(network(features), Q), y, weights))
            mass += share
    return total / mass

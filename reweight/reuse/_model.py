"""What is sampled: the layout of the parameters, the data, and the way back to natural units."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
KINDS = {None: 0, "plain": 1, "regularized": 2}


@dataclass(frozen=True)
class GateModel:
    """Sizes and priors of the gate; see `HorseshoeMultinomialClassifier` for what they mean."""

    n_features: int
    n_classes: int
    n_groups: int
    horseshoe: str | None
    tau0: float
    symmetric: bool = False
    shared_scales: bool = False
    joint: bool = False
    intercept_scale: float = 2.5
    group_scale: float = 1.0
    local_df: float = 1.0
    global_df: float = 1.0
    slab_df: float = 4.0
    slab_scale: float = 2.0
    softness: float = 0.01
    softness_sd: float = 0.5
    cut_mean: tuple[float, ...] = ()
    cut_sd: tuple[float, ...] = ()

    @property
    def n_columns(self) -> int:
        """Number of columns of coefficients."""
        return self.n_classes if self.symmetric else self.n_classes - 1

    @property
    def blocks(self) -> dict[str, slice]:
        """Place of each block in the vector of unconstrained parameters."""
        p, columns = self.n_features, self.n_columns
        sizes = {"alpha": columns, "z": p * columns}
        if self.horseshoe is not None:
            sizes |= {"tau": 1, "lam": p if self.shared_scales else p * columns}
        if self.horseshoe == "regularized":
            sizes["c2"] = 1
        if self.n_groups:
            sizes |= {"s": columns, "v": self.n_groups * columns}
        if self.joint:
            sizes |= {"cuts": self.n_classes - 1, "softness": 1}
        ends = np.cumsum(list(sizes.values()))
        return {
            name: slice(int(end) - size, int(end))
            for (name, size), end in zip(sizes.items(), ends, strict=True)
        }

    @property
    def n_parameters(self) -> int:
        """Length of the vector of unconstrained parameters."""
        return list(self.blocks.values())[-1].stop

    def kernel_arguments(self) -> tuple[NDArray[np.int64], Array, Array, Array]:
        """The last four arguments of `log_density`."""
        shape = (
            self.n_features,
            self.n_classes,
            self.n_columns,
            self.n_groups,
            KINDS[self.horseshoe],
            self.shared_scales,
            self.joint,
        )
        prior = (
            self.intercept_scale,
            self.group_scale,
            self.tau0,
            self.local_df,
            self.global_df,
            self.slab_df,
            self.slab_scale,
            self.softness,
            self.softness_sd,
        )
        return (
            np.array(shape, dtype=np.int64),
            np.array(prior, dtype=np.float64),
            np.array(self.cut_mean, dtype=np.float64),
            np.array(self.cut_sd, dtype=np.float64),
        )

    def constrain(self, theta: Array) -> dict[str, Array]:
        """Natural parameters of draws of the unconstrained ones.

        Parameters
        ----------
        theta : ndarray of shape (..., n_parameters)
            Draws.

        Returns
        -------
        dict of str to ndarray of shape (..., *shape of the parameter)
        """
        block = {name: theta[..., place] for name, place in self.blocks.items()}
        lead, columns = theta.shape[:-1], self.n_columns
        z = block["z"].reshape(*lead, self.n_features, columns)
        named = {"alpha": block["alpha"], "z": z}
        if self.horseshoe is None:
            named["beta"] = self.slab_scale * z
        else:
            log_tau = np.log(self.tau0) + block["tau"][..., 0]
            lam_columns = 1 if self.shared_scales else columns
            log_lam = block["lam"].reshape(*lead, self.n_features, lam_columns)
            named |= {"tau": np.exp(log_tau), "lam": np.exp(log_lam)}
            log_scale = log_tau[..., None, None] + log_lam
            if self.horseshoe == "regularized":
                log_c2 = 2 * np.log(self.slab_scale) + block["c2"][..., 0]
                named["c2"] = np.exp(log_c2)
                log_a = 2 * log_scale - log_c2[..., None, None]
                log_scale = log_scale - 0.5 * np.logaddexp(0, log_a)
            named["beta"] = np.exp(log_scale) * z
        if self.n_groups:
            named["s"] = self.group_scale * np.exp(block["s"])
            named["v"] = block["v"].reshape(*lead, self.n_groups, columns)
            named["u"] = named["s"][..., None, :] * named["v"]
        if self.joint:
            named["thresholds"] = self._cuts(block["cuts"])
            named["softness"] = self.softness * np.exp(self.softness_sd * block["softness"][..., 0])
        return named

    def _cuts(self, t: Array) -> Array:
        mean, sd = np.array(self.cut_mean), np.array(self.cut_sd)
        gap_mean = -np.diff(mean)
        gaps = gap_mean * np.exp(sd[1:] / gap_mean * t[..., 1:])
        first = mean[0] + sd[0] * t[..., :1]
        return np.concatenate([first, first - np.cumsum(gaps, axis=-1)], axis=-1)

    def scales(self, draws: dict[str, Array]) -> Array:
        """Prior standard deviation tau ltil of each coefficient, at each draw."""
        shape = (*draws["alpha"].shape[:-1], self.n_features, self.n_columns)
        if self.horseshoe is None:
            return np.full(shape, self.slab_scale)
        plain = draws["tau"][..., None, None] * draws["lam"]
        if self.horseshoe == "regularized":
            plain = plain / np.sqrt(1 + plain**2 / draws["c2"][..., None, None])
        return np.broadcast_to(plain, shape)


@dataclass(frozen=True)
class GateData:
    """Rows of one fit, as the log density takes them."""

    X: Array
    y: NDArray[np.int64]
    groups: NDArray[np.int64]
    weight: Array
    point: NDArray[np.int64] = field(default=None)
    points: Array = field(default_factory=lambda: np.empty(0))
    base: Array = field(default_factory=lambda: np.empty(0))

    def __post_init__(self) -> None:
        if self.point is None:
            object.__setattr__(self, "point", np.full(len(self.y), -1, dtype=np.int64))

    def kernel_arguments(self) -> tuple[Any, ...]:
        """What `log_density` takes after the parameters."""
        return (self.X, self.y, self.groups, self.point, self.points, self.base, self.weight)


def place_residuals(
    residual: Array, base_residuals: Array | None, weight: Array
) -> tuple[NDArray[np.int64], Array, Array]:
    """Distinct residuals, where each row's stands, and their probabilities in the base.

    Parameters
    ----------
    residual : ndarray of shape (n,)
        Residual of each row, NaN where not measured.
    base_residuals : ndarray of shape (m,) or None
        The base distribution; None takes the observed residuals, weighted.
    weight : ndarray of shape (n,)
        Weight of each row.

    Returns
    -------
    point : ndarray of shape (n,)
        Place of each row's residual, -1 where it is NaN.
    points : ndarray of shape (k,)
    base : ndarray of shape (k,)
        Sums to one.
    """
    seen = np.isfinite(residual)
    base_values = residual[seen] if base_residuals is None else base_residuals
    base_weight = weight[seen] if base_residuals is None else np.ones(len(base_residuals))
    points, place = np.unique(np.concatenate([residual[seen], base_values]), return_inverse=True)
    point = np.full(len(residual), -1, dtype=np.int64)
    point[seen] = place[: seen.sum()]
    base = np.bincount(place[seen.sum() :], base_weight, minlength=len(points))
    return point, points, base / base.sum()

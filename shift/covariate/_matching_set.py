"""The feasible set of mean matching: what it projects to and where a linear function is least."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

BISECTIONS = 100


@dataclass(frozen=True)
class MatchingSet:
    """Source and target weights, each as a share of its sample, between which means are matched.

    Points are x = [w; a]: w_j = share_j beta_j of source row j, a_i = alpha_i / t of target row i.

    Parameters
    ----------
    lower, upper : ndarray of shape (n + t,)
        Bounds of the entries; equal for one that is fixed.
    n : int
        Number of source rows.
    radius : float or None
        Largest Euclidean norm of 1/t - a; None for no such bound.
    mean_tolerance : float
        Largest difference of the sums of w and a.
    """

    lower: NDArray[np.float64]
    upper: NDArray[np.float64]
    n: int
    radius: float | None
    mean_tolerance: float

    @property
    def t(self) -> int:
        """Number of target rows."""
        return len(self.lower) - self.n

    @property
    def signs(self) -> NDArray[np.float64]:
        """1 for source rows, -1 for target rows."""
        return np.repeat([1.0, -1.0], [self.n, self.t])

    def difference(self, x: NDArray) -> float:
        """Sum of w minus sum of a."""
        return float(x[: self.n].sum() - x[self.n :].sum())

    def project(self, x: NDArray) -> NDArray[np.float64]:
        """Nearest point of the set."""
        signs = self.signs
        return self._couple(lambda kappa: self._project_apart(x - kappa * signs), np.abs(x).max())

    def linear_minimum(self, g: NDArray) -> NDArray[np.float64]:
        """A point of the set at which g'x is least."""
        signs = self.signs
        return self._couple(lambda kappa: self._minimum_apart(g + kappa * signs), np.abs(g).max())

    def _couple(self, point: Callable[[float], NDArray], size: float) -> NDArray[np.float64]:
        """Meet the bound on the difference of the sums by a price on it.

        The difference falls as the price rises. Where it jumps, the points on
        both sides have the same value, and so has a mixture of them.
        """
        x = point(0.0)
        excess = self.difference(x)
        if abs(excess) <= self.mean_tolerance:
            return x
        sign = np.sign(excess)
        inside, outside = self._bracket(point, sign, max(size, np.finfo(float).tiny))
        for _ in range(BISECTIONS):
            middle = 0.5 * (inside + outside)
            if middle in (inside, outside):
                break
            if sign * self.difference(point(sign * middle)) > self.mean_tolerance:
                outside = middle
            else:
                inside = middle
        near, far = point(sign * inside), point(sign * outside)
        d_near, d_far = sign * self.difference(near), sign * self.difference(far)
        mix = (self.mean_tolerance - d_near) / (d_far - d_near) if d_far > d_near else 0.0
        return near + np.clip(mix, 0.0, 1.0) * (far - near)

    def _bracket(self, point: Callable, sign: float, size: float) -> tuple[float, float]:
        """A price at which the bound holds and a smaller one at which it does not."""
        outside, inside = 0.0, size
        for _ in range(BISECTIONS):
            if sign * self.difference(point(sign * inside)) <= self.mean_tolerance:
                break
            outside, inside = inside, 2 * inside
        return inside, outside

    def _project_apart(self, x: NDArray) -> NDArray[np.float64]:
        out = np.clip(x, self.lower, self.upper)
        if self.radius is not None:
            shortfall = np.maximum(1.0 / self.t - x[self.n :], 0.0)
            out[self.n :] = 1.0 / self.t - shrink_to_ball(shortfall, 1.0 / self.t, self.radius)
        return out

    def _minimum_apart(self, g: NDArray) -> NDArray[np.float64]:
        out = np.where(g < 0, self.upper, self.lower)
        if self.radius is not None:
            slope = np.maximum(g[self.n :], 0.0)
            out[self.n :] = 1.0 / self.t - stretch_to_ball(slope, 1.0 / self.t, self.radius)
        return out


def shrink_to_ball(z: NDArray, cap: float, radius: float) -> NDArray[np.float64]:
    """Nearest point to z >= 0 within [0, cap] and of norm at most `radius`.

    Parameters
    ----------
    z : ndarray of shape (t,)
        Non-negative entries.
    cap : float
        Largest entry.
    radius : float
        Largest norm.

    Returns
    -------
    ndarray of shape (t,)

    Examples
    --------
    >>> shrink_to_ball(np.array([3.0, 4.0]), 10.0, 1.0)
    array([0.6, 0.8])
    """
    capped = np.minimum(z, cap)
    if capped @ capped <= radius**2:
        return capped
    return stretch_to_ball(z, cap, radius)


def stretch_to_ball(z: NDArray, cap: float, radius: float) -> NDArray[np.float64]:
    """min(s z, cap) with the largest s that keeps the norm at `radius`.

    Parameters
    ----------
    z : ndarray of shape (t,)
        Non-negative entries.
    cap : float
        Largest entry.
    radius : float
        Norm to reach; where it is out of reach, every positive entry is at `cap`.

    Returns
    -------
    ndarray of shape (t,)

    Examples
    --------
    >>> stretch_to_ball(np.array([0.0, 1.0, 2.0]), 1.0, 1.25)
    array([0.  , 0.75, 1.  ])
    """
    positive = z > 0
    if radius == 0 or not positive.any():
        return np.zeros_like(z)
    if positive.sum() * cap**2 <= radius**2:
        return np.where(positive, cap, 0.0)
    scaled = z / z.max()
    full = np.zeros(len(z), dtype=bool)
    # The set of capped entries only grows from one round to the next.
    while True:
        free = float(np.sum(scaled[~full] ** 2))
        if free == 0:
            return np.where(full, cap, 0.0)
        s = np.sqrt((radius**2 - full.sum() * cap**2) / free)
        grown = s * scaled >= cap
        if not (grown & ~full).any():
            return np.minimum(s * scaled, cap)
        full |= grown

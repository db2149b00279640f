"""The discrepancy over sigmoids of linear functions (SIPM), found along directions."""

import numpy as np
from scipy.special import expit

from causal.balancing._ipm_arm import ArmProblem, Array, Cuts, Discrepancy
from causal.balancing._ipm_halfspaces import half_space_suprema, rotate_search
from causal.balancing._ipm_programs import cutting_planes
from reweight.solvers.result import SolverResult

RANDOM_DIRECTIONS = 50
MAX_DIRECTIONS = 400
MAX_NEW_CUTS = 80
ASCENT_STEPS = 30
ASCENT_RATE = 0.3
# How many of the best and how many random directions are rotated.
QUICK = (15, 30)
THOROUGH = (30, 60)
PLANES = 16
LEVELS = 24
START_SCALE = 3.0


class SigmoidDiscrepancy(Discrepancy):
    """Largest difference of the means of a sigmoid of theta'x + c.

    A sigmoid is a mixture of indicators of half-spaces, and they are its limits, so
    that without a bound on theta the largest difference is that over half-spaces;
    for one covariate it is the Kolmogorov-Smirnov distance. With |theta| <= scale it
    is attained at |theta| = scale, because flatter sigmoids are mixtures of
    steeper ones.

    Along a direction the best half-space is found by sorting. The directions are
    the axes, random ones, and those that gradient ascent of the squared
    difference and rotations about boundary rows find at the weights of each round; they
    are kept for later rounds. In one dimension there is only one.

    Parameters
    ----------
    arm : ArmProblem
        The arm.
    n_sigmoids : int
        Starts of the gradient ascent.
    scale : float or None
        Bound on |theta|.
    rng : numpy.random.RandomState
        Draws directions and starts.
    """

    def __init__(
        self, arm: ArmProblem, n_sigmoids: int, scale: float | None, rng: np.random.RandomState
    ) -> None:
        super().__init__(arm)
        p = arm.X.shape[1]
        self.scale, self.rng = scale, rng
        self.last: Array | None = None
        self.exact = p == 1 and scale is None
        n = len(arm.X)
        # Equal rows of arm and target must not be told apart by round-off.
        self.points, index = np.unique(
            np.concatenate([arm.X, arm.target]), axis=0, return_inverse=True
        )
        self.arm_index = index[:n]
        self.target_mass = np.bincount(index[n:], arm.target_weight, len(self.points))
        self.directions = np.empty((0, p))
        self.projections = np.empty((0, len(self.points)))
        self.orders = np.empty((0, len(self.points)), dtype=np.intp)
        self._keep(np.eye(p))
        if p > 1:
            self._keep(_unit(rng.standard_normal((RANDOM_DIRECTIONS, p))))
            theta = START_SCALE * _unit(rng.standard_normal((n_sigmoids, p)))
            center = self.points[rng.randint(len(self.points), size=n_sigmoids)]
            self.theta, self.offset = theta, -np.einsum("kj,kj->k", theta, center)

    def minimize(self, alpha: float, tol: float, max_iter: int) -> SolverResult:
        """Least discrepancy + alpha * chi-square divergence, by cutting planes."""
        return cutting_planes(self, alpha, tol, max_iter)

    def value(self, w: Array) -> float:
        """Largest difference found at weights that sum to one."""
        return max(super(SigmoidDiscrepancy, self).value(w) for _ in range(1 if self.exact else 3))

    def separate(self, w: Array) -> Cuts:
        """Sigmoids, or half-spaces, on which arm and target differ most at `w`."""
        signed = np.bincount(self.arm_index, w, len(self.points)) - self.target_mass
        if self.points.shape[1] > 1:
            # Far from the solution any violated half-space serves; whoever asks again about
            # the same weights wants to know whether there is none.
            again = self.last is not None and np.array_equal(w, self.last)
            self.last = w.copy()
            self._keep(self._search(signed, THOROUGH if again else QUICK))
        value, threshold = half_space_suprema(self.projections, signed, self.orders)
        best = np.argsort(-np.abs(value), kind="stable")[:MAX_NEW_CUTS]
        if self.scale is not None:
            return self._sigmoid_cuts(best, threshold[best], signed)
        sign = np.where(value[best] < 0, -1.0, 1.0)[:, None]
        inside = sign * (self.projections[best] <= threshold[best][:, None])
        return inside[:, self.arm_index], inside @ self.target_mass

    def _keep(self, directions: Array) -> None:
        """Add directions to the pool; its oldest finds make room, axes and first draws stay."""
        projections = directions @ self.points.T
        for row, direction in zip(projections, directions, strict=True):
            axis = np.flatnonzero(direction)
            if len(axis) == 1:
                row[:] = direction[axis[0]] * self.points[:, axis[0]]
        self.directions = np.concatenate([self.directions, directions])
        self.projections = np.concatenate([self.projections, projections])
        orders = np.argsort(projections, axis=1, kind="stable")
        self.orders = np.concatenate([self.orders, orders])
        surplus = len(self.directions) - MAX_DIRECTIONS
        if surplus > 0:
            first = directions.shape[1] + RANDOM_DIRECTIONS
            gone = slice(first, first + surplus)
            self.directions = np.delete(self.directions, gone, axis=0)
            self.projections = np.delete(self.projections, gone, axis=0)
            self.orders = np.delete(self.orders, gone, axis=0)

    def _search(self, signed: Array, effort: tuple[int, int]) -> Array:
        """Directions found by gradient ascent from old and new starts, improved by rotations."""
        n_best, n_random = effort
        self.theta, self.offset = adam_ascent(
            self.points, signed, self.theta, self.offset, scale=None
        )
        p = self.points.shape[1]
        fresh = _unit(self.rng.standard_normal((RANDOM_DIRECTIONS, p)))
        new = np.concatenate([_unit(self.theta), fresh])
        value, _ = half_space_suprema(new @ self.points.T, signed)
        old_value, _ = half_space_suprema(self.projections, signed, self.orders)
        candidates = np.concatenate([new, self.directions])
        best = np.argsort(-np.abs(np.r_[value, old_value]), kind="stable")[:n_best]
        found = candidates[np.r_[best, self.rng.choice(len(candidates), n_random)]]
        for direction in found:
            planes = np.concatenate([np.eye(p), self.rng.standard_normal((PLANES, p))])
            rotate_search(self.points, signed, direction, planes)
        climbed = new[best[best < len(self.theta)]]
        return np.concatenate([found, climbed])

    def _sigmoid_cuts(self, best: Array, threshold: Array, signed: Array) -> Cuts:
        """Steepest sigmoids allowed: peaks over the level of each direction, then climbed."""
        projections = self.scale * self.projections[best]
        low, high = projections.min(axis=1), projections.max(axis=1)
        middle = np.clip(self.scale * threshold, low, high)
        levels = np.concatenate(
            [
                np.quantile(projections, np.linspace(0.0, 1.0, LEVELS), axis=1),
                np.linspace(low, high, LEVELS),
                middle[None, :],
            ]
        ).T
        levels = np.sort(levels, axis=1)
        height = np.abs(
            np.stack([expit(projections - c[:, None]) @ signed for c in levels.T], axis=1)
        )
        padded = np.pad(height, ((0, 0), (1, 1)), constant_values=-1.0)
        peak = (height >= padded[:, :-2]) & (height >= padded[:, 2:])
        row, place = np.nonzero(peak)
        highest = np.argsort(-height[row, place], kind="stable")[:MAX_NEW_CUTS]
        row, place = row[highest], place[highest]
        theta, offset = adam_ascent(
            self.points,
            signed,
            self.scale * self.directions[best][row],
            -levels[row, place],
            scale=self.scale,
        )
        sigmoids = expit(theta @ self.points.T + offset[:, None])
        difference = sigmoids @ signed
        sign = np.where(difference < 0, -1.0, 1.0)[:, None]
        sigmoids = sign * sigmoids
        return sigmoids[:, self.arm_index], sigmoids @ self.target_mass


def adam_ascent(
    points: Array, signed: Array, theta: Array, offset: Array, *, scale: float | None
) -> tuple[Array, Array]:
    """Gradient ascent of the squared difference of each sigmoid, by Adam.

    Parameters
    ----------
    points : ndarray of shape (n, p)
        Rows.
    signed : ndarray of shape (n,)
        Weight of a row in one sample less its weight in the other.
    theta : ndarray of shape (k, p)
        Slopes to start from.
    offset : ndarray of shape (k,)
        Offsets to start from.
    scale : float or None
        Length that slopes are held at.

    Returns
    -------
    theta : ndarray of shape (k, p)
        The best slopes seen.
    offset : ndarray of shape (k,)
    """
    x = np.column_stack([theta, offset])
    design = np.column_stack([points, np.ones(len(points))])
    first, second = np.zeros_like(x), np.zeros_like(x)
    best, best_value = x.copy(), np.full(len(x), -1.0)
    for step in range(1, ASCENT_STEPS + 1):
        sigmoid = expit(x @ design.T)
        difference = sigmoid @ signed
        better = np.abs(difference) > best_value
        best[better], best_value[better] = x[better], np.abs(difference[better])
        slope = (sigmoid * (1.0 - sigmoid) * signed) @ design
        gradient = 2.0 * difference[:, None] * slope
        first = 0.9 * first + 0.1 * gradient
        second = 0.999 * second + 0.001 * gradient**2
        rate = ASCENT_RATE * np.sqrt(1 - 0.999**step) / (1 - 0.9**step)
        x = x + rate * first / (np.sqrt(second) + 1e-12)
        if scale is not None:
            x[:, :-1] = scale * _unit(x[:, :-1])
    return best[:, :-1], best[:, -1]


def _unit(directions: Array) -> Array:
    length = np.linalg.norm(directions, axis=1, keepdims=True)
    return directions / np.maximum(length, np.finfo(float).tiny)

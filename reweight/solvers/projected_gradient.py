"""Accelerated projected gradient for quadratic programs that fit no factorisation."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from reweight.solvers.result import SolverResult


def projected_gradient(
    matvec: Callable[[NDArray], NDArray],
    project: Callable[[NDArray], NDArray],
    linear_minimum: Callable[[NDArray], NDArray],
    x0: ArrayLike,
    *,
    c: ArrayLike | None = None,
    lipschitz: float | None = None,
    gap_scale: float | None = None,
    tol: float = 1e-6,
    max_iter: int = 10_000,
    check_every: int = 10,
) -> SolverResult:
    """Minimise 1/2 x'Qx - c'x over a convex set, by products with Q alone.

    Nesterov's momentum, restarted when it points uphill, with a step of
    1 / `lipschitz` that is shortened where the set's curvature shows
    `lipschitz` to be too small. The certificate is the Frank-Wolfe gap
    g'(x - v), v the minimiser of g'v over the set, which bounds the distance
    to the minimum; without a linear term the objective itself is such a bound,
    and the smaller one counts.

    Parameters
    ----------
    matvec : callable
        x -> Qx, Q symmetric positive semidefinite.
    project : callable
        Nearest point of the set.
    linear_minimum : callable
        g -> v, a point of the set that minimises g'v.
    x0 : array-like
        Start; it is projected first. Any shape that the callables agree on.
    c : array-like of the shape of `x0`, default=None
        Linear term; None is zero.
    lipschitz : float, default=None
        Largest eigenvalue of Q, or a bound on it; None estimates it by the
        power method.
    gap_scale : float, default=None
        Size that the gap is relative to, for objectives whose minimum may be
        zero; None is 1/2 x'Qx + |c'x|.
    tol : float, default=1e-6
        Relative gap at which to stop.
    max_iter : int, default=10000
        Largest number of products with Q.
    check_every : int, default=10
        Steps between looks at the gap.

    Returns
    -------
    SolverResult
        The best point seen at a check; `dual` is None.

    Raises
    ------
    ValueError
        If `lipschitz` or `gap_scale` is not positive.

    References
    ----------
    Beck, A., Teboulle, M. (2009). A fast iterative shrinkage-thresholding
    algorithm for linear inverse problems. SIAM Journal on Imaging Sciences.
    O'Donoghue, B., Candes, E. (2015). Adaptive restart for accelerated gradient
    schemes. Foundations of Computational Mathematics, 15, 715-732.
    Jaggi, M. (2013). Revisiting Frank-Wolfe. ICML.

    Examples
    --------
    >>> import numpy as np
    >>> from reweight.solvers.projected_gradient import projected_gradient
    >>> from reweight.solvers.simplex_projection import project_simplex
    >>> Q = np.diag([1.0, 2.0, 4.0])
    >>> result = projected_gradient(
    ...     lambda x: Q @ x, project_simplex, lambda g: np.eye(3)[np.argmin(g)], np.ones(3) / 3
    ... )
    >>> result.x.round(3)
    array([0.571, 0.286, 0.143])
    """
    x = project(np.asarray(x0, dtype=np.float64))
    c = np.zeros_like(x) if c is None else np.asarray(c, dtype=np.float64)
    if lipschitz is None:
        lipschitz = largest_eigenvalue(matvec, x)
    if not (np.isfinite(lipschitz) and lipschitz > 0):
        raise ValueError(
            f"projected_gradient: lipschitz must be positive and finite, got {lipschitz}"
        )
    if gap_scale is not None and not gap_scale > 0:
        raise ValueError(f"projected_gradient: gap_scale must be positive, got {gap_scale}")
    state = _Momentum(matvec, project, linear_minimum, x, c, float(lipschitz), gap_scale)
    best = state.certify()
    n_iter = 0
    while best.relative > tol and n_iter < max_iter:
        for _ in range(min(check_every, max_iter - n_iter)):
            state.step()
            n_iter += 1
        found = state.certify()
        # Objectives that differ by less than round-off are told apart by their gap.
        if found.objective < best.objective or found.relative <= tol:
            best = found
    return SolverResult(
        x=best.x,
        dual=None,
        objective=best.objective,
        optimality_gap=best.relative,
        certificate="duality_gap",
        n_iter=n_iter,
        converged=bool(best.relative <= tol),
        solver="projected-gradient",
    )


def largest_eigenvalue(
    matvec: Callable[[NDArray], NDArray], like: NDArray, n_iter: int = 20
) -> float:
    """Largest eigenvalue of Q by the power method, with a margin for its slow end.

    Parameters
    ----------
    matvec : callable
        x -> Qx.
    like : ndarray
        An array of the shape that `matvec` takes.
    n_iter : int, default=20
        Products with Q.

    Returns
    -------
    float

    Examples
    --------
    >>> import numpy as np
    >>> Q = np.diag([1.0, 3.0])
    >>> 3.0 <= largest_eigenvalue(lambda x: Q @ x, np.ones(2)) < 3.2
    True
    """
    v = 1.0 + np.random.default_rng(0).random(like.shape)
    value = 0.0
    for _ in range(n_iter):
        v = v / np.sqrt(np.sum(v * v))
        product = matvec(v)
        value = float(np.sum(v * product))
        if not np.any(product):
            return np.finfo(float).tiny
        v = product
    return 1.05 * value


@dataclass
class _Certified:
    """A point with its objective and its relative gap."""

    x: NDArray
    objective: float
    relative: float


class _Momentum:
    """Iterates of the accelerated method; Qx and Qz are kept so that a step costs one product."""

    def __init__(
        self, matvec, project, linear_minimum, x, c, lipschitz: float, gap_scale: float | None
    ) -> None:
        self.matvec, self.project, self.linear_minimum = matvec, project, linear_minimum
        self.c, self.lipschitz, self.gap_scale = c, lipschitz, gap_scale
        self.x, self.product = x, matvec(x)
        self.z, self.z_product = x, self.product
        self.t = 1.0

    def certify(self) -> _Certified:
        quadratic = 0.5 * float(np.sum(self.x * self.product))
        linear = float(np.sum(self.c * self.x))
        gradient = self.product - self.c
        gap = max(float(np.sum(gradient * (self.x - self.linear_minimum(gradient)))), 0.0)
        if not self.c.any():
            gap = min(gap, quadratic)
        size = self.gap_scale or quadratic + abs(linear)
        return _Certified(self.x, quadratic - linear, gap / size if size > 0 else 0.0)

    def step(self) -> None:
        gradient = self.z_product - self.c
        while True:
            x = self.project(self.z - gradient / self.lipschitz)
            product = self.matvec(x)
            move = x - self.z
            curvature = float(np.sum(move * (product - self.z_product)))
            length = float(np.sum(move * move))
            if curvature <= self.lipschitz * length * (1 + 1e-9) or length == 0:
                break
            self.lipschitz = 1.1 * curvature / length
        if float(np.sum((self.z - x) * (x - self.x))) > 0:
            self.t = 1.0
        t = 0.5 * (1 + np.sqrt(1 + 4 * self.t**2))
        momentum = (self.t - 1) / t
        self.z = x + momentum * (x - self.x)
        # Q is linear, so the product at the extrapolated point needs no new one.
        self.z_product = product + momentum * (product - self.product)
        self.x, self.product, self.t = x, product, t

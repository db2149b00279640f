"""Pinball losses of many levels whose fitted quantiles are kept from crossing."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from scipy.optimize import linprog

from reweight.exceptions import InfeasibleError
from reweight.solvers.result import SolverResult
from reweight.solvers.simplex_pinball import linear_pinball

MAX_ROUNDS = 60
# Share of the rows, those of the smallest residuals, in the first program, and their least number.
FIRST_SHARE = 0.1
FIRST_ROWS = 20
# Pairs enter the program as soon as they are this close to crossing, in units of the mean gap.
NEAR = 0.05
# Crossings up to this share of the mean absolute residual are round-off of the linear program.
CROSSING_TOLERANCE = 1e-8


@dataclass(frozen=True)
class CrossingProgram:
    """Weights of each group of levels, with a price on quantiles that cross.

    With fitted quantiles g_ik = sum_j w_jk Q_ijk + b_k, minimises the sum of pinball losses of
    y_i - g_ik plus `crossing_price` c_i times the positive part of g_ik - g_i,k+1 + margin_k; an
    infinite price forbids it.

    Parameters
    ----------
    Q : ndarray of shape (n, p, m)
        Quantiles of each model.
    y : ndarray of shape (n,)
        Outcomes.
    quantiles : ndarray of shape (m,)
        Levels.
    weights : ndarray of shape (n,)
        Positive row weights c.
    groups : ndarray of shape (m,)
        Codes from 0; levels of one code share their weights.
    crossing_price : float
        Price of a crossing, possibly infinite.
    margins : ndarray of shape (m - 1,)
        Distance below which neighbouring levels count as crossing.
    nonnegative, unit_sum, fit_intercept : bool
        Constraints on the weights of a group.
    """

    Q: NDArray
    y: NDArray
    quantiles: NDArray
    weights: NDArray
    groups: NDArray
    crossing_price: float
    margins: NDArray
    nonnegative: bool = True
    unit_sum: bool = True
    fit_intercept: bool = False

    def fitted(self, w: NDArray, b: NDArray) -> NDArray[np.float64]:
        """Quantiles of shape (n, m) under weights (p, n_groups) and intercepts (n_groups,)."""
        return np.einsum("njk,jk->nk", self.Q, w[:, self.groups]) + b[self.groups]

    def crossings(self, g: NDArray) -> NDArray[np.float64]:
        """How far each level is above the next, margins included; positive is a crossing."""
        return g[:, :-1] - g[:, 1:] + self.margins

    def loss(self, g: NDArray) -> float:
        """Sum of pinball losses."""
        r = self.y[:, None] - g
        tau = self.quantiles
        return float(self.weights @ np.maximum(tau * r, (tau - 1) * r).sum(axis=1))

    def penalty(self, g: NDArray) -> float:
        """What crossings cost; nothing where they are forbidden."""
        if not np.isfinite(self.crossing_price):
            return 0.0
        crossing = np.maximum(self.crossings(g), 0).sum(axis=1)
        return self.crossing_price * float(self.weights @ crossing)


def crossing_pinball(program: CrossingProgram, *, tol: float = 1e-8) -> SolverResult:
    """Solve a program by HiGHS in dual form, with the rows and pairs that matter.

    The dual has one bounded column per row and level, and only as many rows
    as there are weights. Rows far from the fit without constraints keep their
    side, which fixes their dual; those that change it, and pairs that cross,
    are added until none is left. The certificate is over all rows and pairs.

    Parameters
    ----------
    program : CrossingProgram
        What to solve.
    tol : float, default=1e-8
        Relative duality gap at which to stop.

    Returns
    -------
    SolverResult
        `x` is a tuple of weights (p, n_groups) and intercepts (n_groups,);
        `dual` a tuple of the duals of the losses and of the crossings.

    Raises
    ------
    InfeasibleError
        If no weights keep the quantiles from crossing at all rows.

    References
    ----------
    Portnoy, S., Koenker, R. (1997). The Gaussian hare and the Laplacian
    tortoise. Statistical Science, 12(4).

    Bondell, H. D., Reich, B. J., Wang, H. (2010). Noncrossing quantile
    regression curve estimation. Biometrika, 97(4).

    Examples
    --------
    >>> import numpy as np
    >>> from reweight.solvers.crossing_pinball import CrossingProgram, crossing_pinball
    >>> Q = np.array([[[0.0, 1.0], [2.0, 1.0]], [[0.0, 1.0], [2.0, 3.0]]])
    >>> program = CrossingProgram(
    ...     Q,
    ...     np.array([2.0, 2.0]),
    ...     np.array([0.4, 0.6]),
    ...     np.ones(2),
    ...     np.arange(2),
    ...     np.inf,
    ...     np.zeros(1),
    ... )
    >>> result = crossing_pinball(program)
    >>> bool(program.crossings(program.fitted(*result.x)).max() < 1e-8)
    True
    """
    n, _, m = program.Q.shape
    scale = np.abs(program.y[:, None] - program.Q.mean(axis=1)).mean() or 1.0
    spread = np.abs(np.diff(program.Q.mean(axis=1), axis=1)).mean() if m > 1 else 0.0
    pairs = np.zeros((n, max(m - 1, 0)), bool)
    sides = _first_residuals(program)
    free = _nearest(np.abs(sides), FIRST_SHARE, FIRST_ROWS * program.Q.shape[1])
    hard = not np.isfinite(program.crossing_price)
    n_iter = 0
    for _ in range(MAX_ROUNDS):
        fixed = np.where(free, 0.0, _outer_dual(program, sides))
        solved = _solve_dual(program, pairs, free, fixed)
        if solved is None:
            # Without the other side of the rows that were fixed, losses may have no bound.
            if free.all():
                raise InfeasibleError(
                    "crossing_pinball: no weights keep the quantiles of all rows from crossing by "
                    "the margin; sort the quantiles of the models first, lower the margin, or "
                    "price crossings by crossing_penalty"
                )
            free[:] = True
            continue
        w, b, losses, prices, steps = solved
        n_iter += steps
        g = program.fitted(w, b)
        crossing = program.crossings(g)
        objective = program.loss(g) + program.penalty(g)
        gap = max(objective - _bound(program, losses, prices, w, b), 0.0)
        gap /= max(objective, 1e-3 * scale * program.weights.sum())
        worst = float(crossing.max(initial=0.0))
        kept = not hard or worst <= CROSSING_TOLERANCE * scale
        missing = ~pairs & (crossing > 0)
        residual = program.y[:, None] - g
        turned = ~free & (residual * sides < 0)
        if (gap <= tol and kept) or not (missing.any() or turned.any()):
            break
        pairs |= crossing > -NEAR * spread
        # Rows that turned come with as many that may be next.
        free |= turned | _nearest(np.abs(residual) + 1e300 * free, 0.0, int(turned.sum(0).max()))
    return SolverResult(
        x=(w, b),
        dual=(losses, prices),
        objective=objective,
        optimality_gap=gap,
        certificate="duality_gap",
        n_iter=n_iter,
        converged=bool(gap <= tol and kept),
        solver="highs",
    )


def _first_residuals(program: CrossingProgram) -> NDArray[np.float64]:
    """Residuals of the weights that need not keep quantiles from crossing."""
    n, p, m = program.Q.shape
    residual = np.empty((n, m))
    for group in range(int(program.groups.max()) + 1):
        levels = np.flatnonzero(program.groups == group)
        QT = np.ascontiguousarray(program.Q[:, :, levels].transpose(1, 2, 0)).reshape(p, -1)
        tau = np.repeat(program.quantiles[levels], n)
        c = np.tile(program.weights, len(levels))
        x = linear_pinball(
            QT.T,
            np.tile(program.y, len(levels)),
            c * (tau - 1),
            c * tau,
            nonnegative=program.nonnegative,
            unit_sum=program.unit_sum,
            fit_intercept=program.fit_intercept,
            tol=1e-4,
        ).x
        fitted = x[:p] @ QT + (x[p] if program.fit_intercept else 0.0)
        residual[:, levels] = program.y[:, None] - fitted.reshape(len(levels), n).T
    return residual


def _nearest(size: NDArray, share: float, count: int) -> NDArray[np.bool_]:
    """The smallest entries of each column, a share of them but at least so many."""
    n = len(size)
    rank = min(max(int(np.ceil(share * n)), count), n)
    if rank == 0:
        return np.zeros(size.shape, bool)
    return size <= np.partition(size, rank - 1, axis=0)[rank - 1]


def _outer_dual(program: CrossingProgram, sides: NDArray) -> NDArray[np.float64]:
    """Dual of the losses of rows that stay on their side."""
    return program.weights[:, None] * (program.quantiles - (sides < 0))


def _solve_dual(
    program: CrossingProgram, pairs: NDArray, free: NDArray, fixed: NDArray
) -> tuple[NDArray, NDArray, NDArray, NDArray, int] | None:
    """Weights and intercepts, duals of losses (n, m) and of crossings (n, m - 1), iterations.

    None if the program has no solution.
    """
    n, p, m = program.Q.shape
    n_groups = int(program.groups.max()) + 1
    # A common shift cancels where weights sum to one, and keeps numbers small.
    shift = float(np.average(program.y, weights=program.weights)) if program.unit_sum else 0.0
    Q, y = program.Q - shift, program.y - shift
    columns = p + program.fit_intercept
    values = np.ones((n, columns, m))
    values[:, :p] = Q
    row, level = np.nonzero(free)
    pair_row, pair_level = np.nonzero(pairs)
    of_losses = _block(-values, row, level, program.groups, n_groups)
    of_pairs = _block(values, pair_row, pair_level, program.groups, n_groups) - _block(
        values, pair_row, pair_level + 1, program.groups, n_groups
    )
    summed = np.zeros((n_groups, columns, n_groups))
    if program.unit_sum:
        summed[np.arange(n_groups), :p, np.arange(n_groups)] = -1.0
    summed = sparse.csr_array(summed.reshape(n_groups * columns, n_groups))
    A = sparse.csr_array(sparse.hstack([of_losses, of_pairs, summed]))
    # What rows of a fixed dual contribute to each row of the program.
    constant = np.zeros((n_groups, columns))
    np.add.at(constant, program.groups, -np.einsum("njk,nk->kj", values, fixed))
    constant = constant.ravel()
    cost = -np.concatenate(
        [y[row], program.margins[pair_level], np.full(n_groups, float(program.unit_sum))]
    )
    c, tau = program.weights, program.quantiles
    price = np.full(len(pair_row), np.inf)
    if np.isfinite(program.crossing_price):
        price = program.crossing_price * c[pair_row]
    unbounded = np.inf if program.unit_sum else 0.0
    lower = np.concatenate(
        [c[row] * (tau[level] - 1), np.zeros(len(price)), np.full(n_groups, -unbounded)]
    )
    upper = np.concatenate([c[row] * tau[level], price, np.full(n_groups, unbounded)])
    equal = np.zeros((n_groups, columns), bool)
    equal[:, :p] = not program.nonnegative
    equal[:, p:] = True
    equal = equal.ravel()
    found = linprog(
        cost,
        A_ub=-A[~equal] if (~equal).any() else None,
        b_ub=constant[~equal] if (~equal).any() else None,
        A_eq=-A[equal] if equal.any() else None,
        b_eq=constant[equal] if equal.any() else None,
        bounds=np.column_stack([lower, upper]),
        method="highs",
        options={"primal_feasibility_tolerance": 1e-10, "dual_feasibility_tolerance": 1e-10},
    )
    if found.x is None:
        if found.status not in (2, 3, 4):
            raise RuntimeError(f"crossing_pinball: HiGHS returned no solution: {found.message}")
        return None
    solution = np.zeros(len(equal))
    solution[~equal] = -found.ineqlin.marginals
    solution[equal] = -found.eqlin.marginals
    solution = solution.reshape(n_groups, columns)
    w, b = solution[:, :p].T.copy(), np.zeros(n_groups)
    if program.nonnegative:
        w = np.maximum(w, 0.0)
    if program.unit_sum:
        w /= w.sum(axis=0)
    if program.fit_intercept:
        b = solution[:, p].copy()
    losses = fixed.copy()
    losses[row, level] = found.x[: len(row)]
    prices = np.zeros((n, max(m - 1, 0)))
    prices[pair_row, pair_level] = found.x[len(row) : len(row) + len(price)]
    return w, b, losses, prices, int(found.nit)


def _block(
    values: NDArray, row: NDArray, level: NDArray, groups: NDArray, n_groups: int
) -> sparse.csc_array:
    """Columns of the dual: the entries of one row and level, in the rows of the level's group."""
    columns = values.shape[1]
    entries = values[row, :, level]
    place = groups[level][:, None] * columns + np.arange(columns)
    starts = np.arange(0, entries.size + 1, columns)
    return sparse.csc_array(
        (entries.ravel(), place.ravel(), starts), shape=(n_groups * columns, len(row))
    )


def _bound(
    program: CrossingProgram, losses: NDArray, prices: NDArray, w: NDArray, b: NDArray
) -> float:
    """Lower bound of the optimum; infeasibility of free columns is charged at their size."""
    n_groups = w.shape[1]
    c, tau = program.weights[:, None], program.quantiles
    losses = np.clip(losses, c * (tau - 1), c * tau)
    flow = -losses
    flow[:, :-1] += prices
    flow[:, 1:] -= prices
    bound = float(program.y @ losses.sum(axis=1) + prices.sum(axis=0) @ program.margins)
    image = np.zeros_like(w)
    np.add.at(image.T, program.groups, np.einsum("njk,nk->kj", program.Q, flow))
    for group in range(n_groups):
        column, size = image[:, group], np.abs(w[:, group])
        if program.unit_sum:
            level = column.min() if program.nonnegative else float(np.median(column))
            bound += level
            column = column - level
        slack = np.minimum(column, 0.0) if program.nonnegative else -np.abs(column)
        bound += float(slack @ size)
        total = flow[:, program.groups == group].sum()
        bound -= abs(b[group] * total) if program.fit_intercept else 0.0
    return bound

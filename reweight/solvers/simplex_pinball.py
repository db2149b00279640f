"""Piecewise linear losses of residuals that are linear in weights, solved with a certificate."""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from reweight.solvers._pinball_interior_point import interior_point
from reweight.solvers.result import SolverResult
from reweight.solvers.simplex_projection import project_simplex

# The gap is relative to the loss, or to this share of that at the start if it is larger, so that
# problems with a loss of zero at the optimum can be solved.
LOSS_FLOOR = 1e-3
# Losses below this share of those of the first column alone are rounding.
ROUNDING = 1e-15
# Weights below this are set to zero if the certificate still holds.
NEGLIGIBLE = 1e-9
STATE_ROWS = 12
# Columns that enter at a time, and the gap at which candidates are looked for at first.
COLUMNS_PER_ROUND = 10
FIRST_TOLERANCE = 1e-3


def simplex_pinball(
    E: ArrayLike,
    lower_slope: ArrayLike,
    upper_slope: ArrayLike,
    *,
    alpha: float = 0.0,
    center: ArrayLike | None = None,
    tol: float = 1e-8,
    max_iter: int = 100,
) -> SolverResult:
    r"""Weights on the simplex that minimise a sum of piecewise linear losses.

    Minimises :math:`\sum_i \phi_i((Ew)_i) + \frac{\alpha}{2} \|w - c\|^2` over
    :math:`w \ge 0, 1'w = 1`, where :math:`\phi_i` has the slope `lower_slope[i]`
    left and `upper_slope[i]` right of zero, by a predictor-corrector interior
    point whose cost is linear in the rows. For any d between the slopes,
    :math:`\min_j (E'd)_j` is a lower bound of the optimum without ridge; what
    separates the loss from it is the certificate.

    Parameters
    ----------
    E : array-like of shape (N, d)
        Residual of each row under each column alone; stored by columns
        (Fortran order), it is not copied.
    lower_slope : array-like of shape (N,)
        Slope for negative residuals, at most zero.
    upper_slope : array-like of shape (N,)
        Slope for positive residuals, at least zero.
    alpha : float, default=0
        Ridge towards `center`, on the scale of the sum of losses.
    center : array-like of shape (d,), default=None
        A point of the simplex; None is equal weights.
    tol : float, default=1e-8
        Relative duality gap at which to stop.
    max_iter : int, default=100
        Largest number of iterations.

    Returns
    -------
    SolverResult
        `x` are the weights of shape (d,), `dual` is d of shape (N,),
        `objective` the minimum. The gap is relative to the objective, or to a
        thousandth of that at equal weights, or to what rounding leaves at that
        tolerance, where these are larger.

    Raises
    ------
    ValueError
        If shapes do not match, entries are not finite, or slopes have the
        wrong sign.

    References
    ----------
    Mehrotra, S. (1992). On the implementation of a primal-dual interior point
    method. SIAM Journal on Optimization, 2(4).

    Portnoy, S., Koenker, R. (1997). The Gaussian hare and the Laplacian
    tortoise. Statistical Science, 12(4).

    Examples
    --------
    >>> from reweight.solvers.simplex_pinball import simplex_pinball
    >>> E = [[1.0, -1.0], [2.0, -2.0], [-1.0, 3.0]]
    >>> simplex_pinball(E, [-0.5] * 3, [0.5] * 3).x.round(6)
    array([0.5, 0.5])
    """
    ET = _by_columns(E, "simplex_pinball")
    d = len(ET)
    center = np.full(d, 1.0 / d) if center is None else np.asarray(center, dtype=np.float64)
    if center.shape != (d,) or center.min() < 0 or abs(center.sum() - 1) > 1e-8:
        raise ValueError(
            f"simplex_pinball: center must be {d} non-negative numbers that sum to one"
        )
    program = _Program(
        ET, None, lower_slope, upper_slope, alpha, center, np.ones(d, bool), np.ones(d)
    )
    return program.solve(tol, max_iter)


def linear_pinball(
    Q: ArrayLike,
    y: ArrayLike,
    lower_slope: ArrayLike,
    upper_slope: ArrayLike,
    *,
    nonnegative: bool = True,
    unit_sum: bool = True,
    fit_intercept: bool = False,
    alpha: float = 0.0,
    center: ArrayLike | None = None,
    tol: float = 1e-8,
    max_iter: int = 100,
) -> SolverResult:
    r"""The same losses of y - Qw - b, with fewer constraints on w or with an intercept b.

    Parameters
    ----------
    Q : array-like of shape (N, d)
        Columns to combine; stored by columns, it is not copied.
    y : array-like of shape (N,)
        What they are to meet.
    lower_slope, upper_slope : array-like of shape (N,)
        Slopes of the loss left and right of zero.
    nonnegative : bool, default=True
        Whether the weights must not be negative.
    unit_sum : bool, default=True
        Whether the weights must sum to one.
    fit_intercept : bool, default=False
        Whether an intercept, without ridge, is added.
    alpha : float, default=0
        Ridge towards `center`, on the scale of the sum of losses.
    center : array-like of shape (d,), default=None
        None is equal weights that sum to one.
    tol : float, default=1e-8
        Relative duality gap at which to stop.
    max_iter : int, default=100
        Largest number of iterations.

    Returns
    -------
    SolverResult
        `x` are the weights, followed by the intercept if there is one; `dual`
        has shape (N,). Where a column is free, the dual is feasible up to
        round-off only, which the gap counts at the size of the weights.

    Examples
    --------
    >>> from reweight.solvers.simplex_pinball import linear_pinball
    >>> Q, y = [[1.0], [2.0], [3.0]], [3.0, 5.0, 7.0]
    >>> slopes = [-0.5] * 3, [0.5] * 3
    >>> linear_pinball(Q, y, *slopes, unit_sum=False, fit_intercept=True).x.round(6)
    array([2., 1.])
    """
    QT = _by_columns(Q, "linear_pinball")
    y = np.asarray(y, dtype=np.float64)
    d, n = QT.shape
    if y.shape != (n,) or not np.isfinite(y).all():
        raise ValueError(f"linear_pinball: y must be {n} finite numbers, one for each row of Q")
    center = np.full(d, 1.0 / d) if center is None else np.asarray(center, dtype=np.float64)
    columns = d + fit_intercept
    ET = np.empty((columns, n))
    # With a sum of one the response goes into the columns, where it cancels large offsets.
    ET[:d] = (y - QT) if unit_sum else -QT
    ET[d:] = -1.0
    bounded = np.zeros(columns, bool)
    bounded[:d] = nonnegative
    unit = np.zeros(columns)
    unit[:d] = unit_sum
    ridge = np.zeros(columns)
    ridge[:d] = alpha
    middle = np.zeros(columns)
    middle[:d] = center
    offset = None if unit_sum else y
    program = _Program(ET, offset, lower_slope, upper_slope, ridge, middle, bounded, unit)
    return program.solve(tol, max_iter)


def simplex_pinball_columns(
    E: ArrayLike,
    lower_slope: ArrayLike,
    upper_slope: ArrayLike,
    *,
    start: ArrayLike,
    tol: float = 1e-8,
    max_iter: int = 100,
) -> SolverResult:
    """`simplex_pinball` for many columns of which few get weight, by column generation.

    Solves with some columns, and lets those enter whose product with the dual
    is below that of all that are in, until none is: the certificate is over
    all columns.

    Parameters
    ----------
    E : array-like of shape (N, d)
        Residual of each row under each column alone.
    lower_slope, upper_slope : array-like of shape (N,)
        Slopes of the loss left and right of zero.
    start : array-like of int
        Columns to start with.
    tol : float, default=1e-8
        Relative duality gap over all columns at which to stop.
    max_iter : int, default=100
        Largest number of iterations of each solve.

    Returns
    -------
    SolverResult
        As that of `simplex_pinball`; `n_iter` counts the iterations of all
        solves.

    Examples
    --------
    >>> import numpy as np
    >>> from reweight.solvers.simplex_pinball import simplex_pinball_columns
    >>> E = np.array([[1.0, -1.0, 5.0], [2.0, -2.0, 5.0], [-1.0, 3.0, 5.0]])
    >>> simplex_pinball_columns(E, [-0.5] * 3, [0.5] * 3, start=[2]).x.round(6)
    array([0.5, 0.5, 0. ])
    """
    ET = _by_columns(E, "simplex_pinball_columns")
    active = np.unique(np.asarray(start, dtype=np.intp))
    scale = None
    wanted, n_iter = max(tol, FIRST_TOLERANCE), 0
    while True:
        part = simplex_pinball(
            ET[active].T, lower_slope, upper_slope, tol=wanted, max_iter=max_iter
        )
        n_iter += part.n_iter
        if scale is None:
            lower, upper = (np.asarray(slope, float) for slope in (lower_slope, upper_slope))
            residual = ET.mean(axis=0)
            scale = LOSS_FLOOR * float(np.maximum(upper * residual, lower * residual).sum())
        image = ET @ part.dual
        size = max(part.objective, scale, np.finfo(float).tiny)
        gap = max(part.objective - float(image.min()), 0.0) / size
        outside = np.flatnonzero(image < image[active].min())
        if outside.size == 0 and wanted <= tol:
            # The same certificate, relative to the loss that this solve started from.
            gap = min(gap, part.optimality_gap)
            break
        if gap <= tol or not part.converged:
            break
        if gap <= wanted or outside.size == 0:
            wanted = max(tol, min(wanted, gap) * 1e-2)
        order = outside[np.argsort(image[outside], kind="stable")]
        active = np.union1d(active, order[:COLUMNS_PER_ROUND])
    weights = np.zeros(len(ET))
    weights[active] = part.x
    return SolverResult(
        x=weights,
        dual=part.dual,
        objective=part.objective,
        optimality_gap=gap,
        certificate="duality_gap",
        n_iter=n_iter,
        converged=bool(gap <= tol),
        solver="ipm-columns",
    )


def _by_columns(E: ArrayLike, name: str) -> NDArray[np.float64]:
    """The transpose of E, contiguous."""
    E = np.asarray(E, dtype=np.float64)
    if E.ndim != 2 or 0 in E.shape:
        raise ValueError(f"{name}: the matrix has shape {E.shape}; pass rows of at least one entry")
    if not np.isfinite(E).all():
        raise ValueError(
            f"{name}: the matrix has {int((~np.isfinite(E)).sum())} entries that are NaN or "
            "infinite; pass finite rows"
        )
    ET = np.ascontiguousarray(E.T)
    # Compiled code is the same for all input only if none is read-only.
    return ET if ET.flags.writeable else ET.copy()


def _check_slopes(
    lower: ArrayLike, upper: ArrayLike, n: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    lower, upper = (np.array(slope, dtype=np.float64, order="C") for slope in (lower, upper))
    if lower.shape != (n,) or upper.shape != (n,):
        raise ValueError(
            f"simplex_pinball: slopes have shapes {lower.shape} and {upper.shape}, but there are "
            f"{n} rows; pass one of each per row"
        )
    right = np.isfinite(lower) & np.isfinite(upper) & (lower <= 0) & (upper >= 0)
    if not right.all():
        raise ValueError(
            f"simplex_pinball: {int((~right).sum())} rows have slopes that are not finite or of "
            "the wrong sign; lower slopes must be at most and upper slopes at least zero"
        )
    return lower, upper


class _Program:
    """One program, with residuals offset + E w, and the checks of what the iterations return."""

    def __init__(self, ET, offset, lower, upper, ridge, center, bounded, unit) -> None:
        lower, upper = _check_slopes(lower, upper, ET.shape[1])
        ridge = np.broadcast_to(np.asarray(ridge, dtype=np.float64), (len(ET),))
        if not (np.isfinite(ridge).all() and ridge.min() >= 0):
            raise ValueError(f"simplex_pinball: alpha must be finite and at least 0, got {ridge}")
        self.n_rows = ET.shape[1]
        # Rows without a loss would leave the dual no room.
        self.kept = np.flatnonzero(upper > lower)
        if self.kept.size < self.n_rows:
            ET = np.ascontiguousarray(ET[:, self.kept])
            lower, upper = lower[self.kept], upper[self.kept]
            offset = None if offset is None else offset[self.kept]
        self.ET, self.lower, self.upper = ET, lower, upper
        self.offset = np.zeros(ET.shape[1]) if offset is None else np.array(offset)
        self.ridge, self.center = np.array(ridge), np.array(center)
        self.bounded, self.unit = bounded, unit

    def objective(self, w: NDArray) -> float:
        r = self.offset + w @ self.ET
        loss = np.maximum(self.upper * r, self.lower * r).sum()
        return float(loss + 0.5 * self.ridge @ (w - self.center) ** 2)

    def start(self) -> NDArray[np.float64]:
        """Equal weights, and an intercept of zero."""
        w = np.zeros(len(self.ET))
        models = self.bounded | (self.unit > 0) if (self.bounded.any() or self.unit.any()) else None
        if models is not None:
            w[models] = 1.0 / models.sum()
        return w

    def solve(self, tol: float, max_iter: int) -> SolverResult:
        w = self.start()
        first = self.objective(w)
        rounding = ROUNDING * self._size()
        scale = max(LOSS_FLOOR * first, rounding / tol, np.finfo(float).tiny)
        state = np.zeros((STATE_ROWS, self.ET.shape[1]))
        n_iter, lossless = 0, first <= rounding
        if not lossless:
            # With a ridge complementarity, which the iterations go by, is not quite the gap.
            aim = 0.1 * tol if self.ridge.any() else tol
            n_iter = interior_point(
                self.ET,
                self.offset,
                self.lower,
                self.upper,
                w,
                self.ridge,
                self.center,
                self.bounded,
                self.unit,
                scale,
                aim,
                max_iter,
                state,
            )
        w = self._on_the_set(w)
        # Where the start has no loss, a dual of zero certifies it.
        part = np.zeros(self.ET.shape[1]) if lossless else self._dual(state)
        bound = self._bound(w, self.ET @ part, float(self.offset @ part))
        w, objective, gap = self._polish(w, bound, scale, tol)
        dual = np.zeros(self.n_rows)
        dual[self.kept] = part
        return SolverResult(
            x=w,
            dual=dual,
            objective=objective,
            optimality_gap=gap,
            certificate="duality_gap",
            n_iter=int(n_iter),
            converged=bool(gap <= tol),
            solver="ipm",
        )

    def _size(self) -> float:
        """What losses are made of, which bounds what rounding leaves of them."""
        slopes = np.maximum(self.upper, -self.lower)
        return float(slopes @ (np.abs(self.offset) + np.abs(self.ET[0])))

    def _dual(self, state: NDArray) -> NDArray[np.float64]:
        """The dual from its distances to the slopes, of which the smaller one is exact."""
        a, b = state[2], state[3]
        dual = np.where(a < b, self.upper - a, self.lower + b)
        return np.clip(dual, self.lower, self.upper)

    def _on_the_set(self, w: NDArray) -> NDArray[np.float64]:
        """Weights whose sum is one to the last bit."""
        w = np.where(self.bounded, np.maximum(w, 0.0), w)
        models = self.unit > 0
        if models.any():
            w[models] /= w[models].sum()
        return w

    def _gap(self, objective: float, bound: float, scale: float) -> float:
        gap = (objective - bound) / max(objective, scale)
        return max(gap, 0.0) if np.isfinite(gap) else float("inf")

    def _polish(
        self, w: NDArray, bound: float, scale: float, tol: float
    ) -> tuple[NDArray, float, float]:
        """Exact zeros where they leave the certificate as good as was asked for."""
        objective = self.objective(w)
        gap = self._gap(objective, bound, scale)
        tiny = self.bounded & (w > 0) & (w < NEGLIGIBLE)
        if tiny.any():
            trial = self._on_the_set(np.where(tiny, 0.0, w))
            value = self.objective(trial)
            trial_gap = self._gap(value, bound, scale)
            if trial_gap <= max(gap, tol):
                return trial, value, trial_gap
        return w, objective, gap

    def _bound(self, w: NDArray, image: NDArray, constant: float) -> float:
        """Lower bound of the optimum: the least of the Lagrangian over the weights allowed."""
        models = (self.unit > 0) | self.bounded | (self.ridge > 0)
        # A free column needs a product of zero with the dual; the rest is round-off.
        constant -= float(np.abs(image[~models]) @ np.abs(w[~models]))
        image, center = image[models], self.center[models]
        bounded, summed = self.bounded[models].all(), self.unit.any()
        alpha = float(self.ridge[models].max(initial=0.0))
        if not image.size:
            return constant
        if alpha > 0:
            if summed:
                # A common shift moves the bound alone, and small ridges leave it no rounding.
                constant, image = constant + float(image.min()), image - image.min()
            best = center - image / alpha
            if summed:
                best = project_simplex(best) if bounded else best + (1 - best.sum()) / len(best)
            elif bounded:
                best = np.maximum(best, 0.0)
            return constant + float(image @ best + 0.5 * alpha * ((best - center) ** 2).sum())
        w = w[models]
        if summed:
            level = float(image.min()) if bounded else float(np.median(image))
            # Without bounds all products must be equal.
            return constant + level - (0.0 if bounded else float(np.abs(image - level) @ np.abs(w)))
        # A negative product would make the bound minus infinity; at round-off it is charged.
        return constant + float(np.minimum(image, 0.0) @ np.abs(w))

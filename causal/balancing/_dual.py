"""Balancing arms through the dual of a divergence program: the part that methods share."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import block_diag

from causal._estimating_equations import EstimatingEquations
from causal.balancing._base import Arms
from reweight.exceptions import InfeasibleError
from reweight.kernels.weighted_moments import (
    nonzero_scale,
    standardized_scale,
    weighted_mean,
)
from reweight.solvers._dual_sums import conjugate
from reweight.solvers.divergence_dual import divergence_dual
from reweight.solvers.result import SolverResult
from reweight.validation import warn_weights

RELAXATION = 1.05


@dataclass(frozen=True)
class BalanceTarget:
    """What weighted means are to meet, and the unit in which they may miss it.

    Parameters
    ----------
    mean : ndarray of shape (m,)
        Means of the columns in the target population.
    scale : ndarray of shape (m,)
        Denominators of standardised mean differences; one where a column
        does not vary.
    """

    mean: NDArray[np.float64]
    scale: NDArray[np.float64]

    @classmethod
    def of(cls, A: NDArray[np.float64], arms: Arms) -> "BalanceTarget":
        """Target means and scales of the columns `A` for the estimand of `arms`."""
        scale = standardized_scale(A, arms.treated, arms.sample_weight, arms.estimand)
        mean = weighted_mean(A, arms.target)
        return cls(mean, nonzero_scale(scale, mean))

    def rows(self, A: NDArray[np.float64]) -> NDArray[np.float64]:
        """Rows centred at the target, in units of the scale."""
        centred = A - self.mean
        centred /= self.scale
        return centred


@dataclass(frozen=True)
class DualFit:
    """Solution for one arm.

    Parameters
    ----------
    result : SolverResult
        Of the dual solver, in units of the target's scale.
    tolerance : float
        The box tolerance that was met, in standard deviations.
    relaxed : bool
        Whether the tolerance had to be raised.
    """

    result: SolverResult
    tolerance: float
    relaxed: bool


def solve_arm(
    C: Any,
    base: NDArray[np.float64] | None,
    *,
    owner: str,
    divergence: str,
    max_smd: float,
    alpha: NDArray[np.float64] | None,
    names: list[str],
    n_rows: int,
    tol: float,
    max_iter: int,
    on_infeasible: str,
    remedy: str = "pass max_smd={:g} or on_infeasible='relax', or change the estimand",
    n_jobs: int | None = None,
) -> DualFit:
    """Solve one arm; when its means cannot be met, raise or relax and say so.

    Parameters
    ----------
    C : ndarray of shape (n_arm, m) or chunks
        Rows of the arm, centred at the target and scaled.
    base : ndarray of shape (n_arm,) or None
        Base weights; None with chunks.
    owner : str
        Class to name in messages.
    divergence, alpha, tol, max_iter, n_jobs
        Passed on to `divergence_dual`.
    max_smd : float
        Box tolerance of the columns without ridge.
    names : list of str
        Names of the columns.
    n_rows : int
        Rows in the arm.
    on_infeasible : {"raise", "relax", "warn"}
        What to do when `max_smd` cannot be met.
    remedy : str
        End of the error message, with a place for a tolerance that can be met.

    Returns
    -------
    DualFit
    """

    def solve(tolerance: float) -> SolverResult:
        box = tolerance if alpha is None else np.where(alpha > 0, 0.0, tolerance)
        return divergence_dual(
            C,
            base,
            divergence=divergence,
            tolerance=box,
            alpha=alpha,
            tol=tol,
            max_iter=max_iter,
            column_names=names,
            n_jobs=n_jobs,
        )

    return meet_or_relax(
        solve,
        owner=owner,
        max_smd=max_smd,
        n_columns=len(names),
        n_rows=n_rows,
        on_infeasible=on_infeasible,
        remedy=remedy,
    )


def meet_or_relax(
    solve: Callable[[float], SolverResult],
    *,
    owner: str,
    max_smd: float,
    n_columns: int,
    n_rows: int,
    on_infeasible: str,
    remedy: str,
) -> DualFit:
    """Solve at the tolerance asked for; where that cannot be met, raise or relax and say so.

    Parameters
    ----------
    solve : callable
        Solution at a box tolerance in standard deviations; raises
        `InfeasibleError` with the smallest tolerance that is feasible.
    owner : str
        Class to name in messages.
    max_smd : float
        Box tolerance asked for.
    n_columns, n_rows : int
        Columns with a tolerance, and rows of the arm.
    on_infeasible : {"raise", "relax", "warn"}
        What to do when `max_smd` cannot be met.
    remedy : str
        End of the error message, with a place for a tolerance that can be met.

    Returns
    -------
    DualFit
    """
    try:
        return DualFit(solve(max_smd), max_smd, False)
    except InfeasibleError as error:
        smallest, worst = error.smallest_tolerance, error.worst_column
    wanted = "exactly" if max_smd == 0 else f"to within {max_smd:g} sd"
    crowded = (
        f" ({n_columns} columns for the {n_rows} rows of the arm: balance fewer columns, or "
        "approximately with KernelBalancing)"
        if n_columns >= n_rows
        else ""
    )
    found = (
        f"{owner}: column {worst!r} cannot be balanced {wanted} (smallest feasible tolerance "
        f"{smallest:.3g} sd){crowded}"
    )
    if on_infeasible == "raise":
        raise InfeasibleError(
            f"{found}; {remedy.format(_round_up(RELAXATION * smallest))}",
            worst_column=worst,
            smallest_tolerance=smallest,
        )
    relaxed = RELAXATION * smallest
    if on_infeasible == "warn":
        warn_weights(f"{found}; relaxed to {relaxed:.3g} sd")
    return DualFit(solve(relaxed), relaxed, True)


def _round_up(value: float) -> float:
    """Two significant digits, rounded up."""
    digits = 10.0 ** (np.floor(np.log10(value)) - 1)
    return float(np.ceil(value / digits) * digits)


def relative_weights(
    C: NDArray[np.float64], dual: NDArray[np.float64], divergence: str
) -> NDArray[np.float64]:
    """Weights relative to the base weights, (h*)'(nu + c'theta)."""
    z = dual[0] + C @ dual[1:]
    if divergence == "el":
        z = np.minimum(z, 1.0 - 1e-12)
    return conjugate(divergence, z)[1]


def dual_equations(
    arms: Arms,
    features: Callable[[NDArray], NDArray],
    target: BalanceTarget,
    duals: dict[int, NDArray[np.float64]],
    *,
    divergence: str,
    tolerance: dict[int, float],
    alpha: NDArray[np.float64] | None = None,
) -> EstimatingEquations:
    """Estimating equations of dual weights, the target means counted as estimated.

    Per arm the parameters are (nu, theta) with the moments
    q (g - 1) and q g c - r c + ridge, where q are base weights and r target
    weights that sum to one and g = (h*)'(nu + c'theta). Columns whose box
    constraint is slack have theta zero and no equation.

    Parameters
    ----------
    arms : Arms
        Training rows.
    features : callable
        Balanced functions of the covariates.
    target : BalanceTarget
        Target means and scales.
    duals : dict of int to ndarray of shape (m + 1,)
        (nu, theta) of each moving arm.
    divergence : str
        Name of the divergence.
    tolerance : dict of int to float
        Box tolerance of each moving arm.
    alpha : ndarray of shape (m,), default=None
        Ridge per column.

    Returns
    -------
    EstimatingEquations
    """
    C = target.rows(features(arms.X))
    r = arms.target
    n = len(C)
    alpha = np.zeros(C.shape[1]) if alpha is None else alpha
    moments, derivatives, blocks = [], [], []
    for arm, rows, base in arms.problems():
        dual = duals[arm]
        box = (alpha == 0) & (tolerance[arm] > 0)
        active = ~box | (dual[1:] != 0)
        design = np.column_stack([np.ones(n), C[:, active]])
        q = np.zeros(n)
        q[rows] = base
        z = dual[0] + C @ dual[1:]
        _, first, second = conjugate(divergence, np.where(rows, z, 0.0))
        psi = design * (q * first)[:, None]
        psi[:, 0] -= q
        psi[:, 1:] -= r[:, None] * C[:, active]
        offset = np.where(box, tolerance[arm] * np.sign(dual[1:]), alpha * dual[1:])[active]
        psi[:, 1:] += q[:, None] * offset
        block = (design * (q * second)[:, None]).T @ design
        block[np.arange(1, len(block)), np.arange(1, len(block))] += alpha[active]
        moments.append(psi)
        derivatives.append(design * (rows.sum() * q * second)[:, None])
        blocks.append(block)
    return EstimatingEquations(np.hstack(moments), block_diag(*blocks), np.hstack(derivatives))

"""Kernel balancing by the exact quadratic program over the weights."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import qr

from causal.balancing._base import Arms
from causal.balancing._kernel_space import KernelSpace
from reweight.exceptions import InfeasibleError
from reweight.solvers._dual_sums import Rows
from reweight.solvers.dense_qp import dense_qp
from reweight.solvers.feasibility import smallest_excess
from reweight.solvers.result import SolverResult

FEASIBLE_EXCESS = 1e-9
RANK_TOLERANCE = 1e-10


@dataclass
class _Program:
    """The quadratic program of one arm, or of both together."""

    members: tuple[int, ...]
    codes: NDArray[np.intp]
    base: NDArray[np.float64]
    gram: NDArray[np.float64]
    moments: NDArray[np.float64]


class ExactSolver:
    """Solves min 1/2 w'Gw + alpha/2 sum w^2 / q for each arm, or both arms jointly.

    Parameters
    ----------
    space : KernelSpace
        Where arms are compared.
    Z : ndarray of shape (n, q)
        Standardised rows.
    moments : ndarray of shape (n, m)
        Functions whose weighted means are to be zero, in standard deviations.
    names : list of str
        Their names.
    arms : Arms
        The arms.
    improved : bool
        Whether the discrepancy between the arms is added, which couples them.
    """

    def __init__(
        self,
        space: KernelSpace,
        Z: NDArray,
        moments: NDArray,
        names: list[str],
        arms: Arms,
        improved: bool,
    ) -> None:
        self.names = names
        self.n_rows = np.bincount(arms.codes)
        self.arms = arms
        self.programs = list(self._build(space, Z, moments, improved))
        self.dropped: set[int] = set()

    def _build(self, space, Z, moments, improved) -> Iterator[_Program]:
        arms = self.arms
        target = arms.target
        goal = target > 0
        q = np.zeros(len(Z))
        for _, rows, base in arms.problems():
            q[rows] = base
        together = improved and len(arms.moving_arms) == 2
        for members in [arms.moving_arms] if together else [(a,) for a in arms.moving_arms]:
            # Rows of base weight zero have weight zero and stay outside the program.
            rows = (q > 0) & np.isin(arms.codes, members)
            gram = space.centred_gram(Z[rows], Z[goal], target[goal])
            yield _Program(members, arms.codes[rows], q[rows], gram, moments[rows])

    def solve(
        self, alpha: float, max_smd: float, tol: float, max_iter: int
    ) -> dict[int, tuple[NDArray, SolverResult]]:
        """Weights of each moving arm's rows, summing to one, and the solver's result.

        Parameters
        ----------
        alpha : float
            Strength of the pull towards the base weights.
        max_smd : float
            Box tolerance of the moments.
        tol : float
            Relative duality gap.
        max_iter : int
            Largest number of rounds.

        Returns
        -------
        dict of int to tuple

        Raises
        ------
        InfeasibleError
            If the moments cannot be met to within `max_smd`.
        """
        self._check_feasible(max_smd)
        solved = {}
        for program in self.programs:
            result = dense_qp(
                self._hessian(program),
                np.zeros(len(program.base)),
                groups=program.codes,
                diagonal=alpha / program.base,
                equations=self._equations(program, max_smd),
                tol=tol,
                max_iter=max_iter,
            )
            for arm in program.members:
                rows = self.arms.rows(arm)
                weights = np.zeros(rows.sum())
                q = self._base_of(arm)
                weights[q > 0] = result.x[program.codes == arm]
                solved[arm] = weights, result
        return solved

    def discrepancy(self, arm: int, weights: NDArray[np.float64]) -> float:
        """Maximum mean discrepancy of an arm's weights to the target."""
        program = next(p for p in self.programs if arm in p.members)
        own = program.codes == arm
        w = weights[self._base_of(arm) > 0]
        return float(np.sqrt(max(w @ program.gram[np.ix_(own, own)] @ w, 0.0)))

    def _base_of(self, arm: int) -> NDArray[np.float64]:
        return next(base for a, _, base in self.arms.problems() if a == arm)

    def _hessian(self, program: _Program) -> NDArray[np.float64]:
        """G, or for both arms the form of G11 + G00 and the distance between the arms."""
        if len(program.members) == 1:
            return program.gram
        same = program.codes[:, None] == program.codes
        return np.where(same, 2.0 * program.gram, -program.gram)

    def _check_feasible(self, max_smd: float) -> None:
        worst = None
        for program in self.programs:
            for arm in program.members:
                own = program.codes == arm
                C, q = program.moments[own], program.base[own]
                if C.shape[1] == 0:
                    continue
                found = smallest_excess(Rows(C, q), np.full(C.shape[1], max_smd))
                if found.excess > FEASIBLE_EXCESS and (
                    worst is None or found.excess > worst.excess
                ):
                    worst = found
        if worst is not None:
            raise InfeasibleError(
                "the means cannot be met",
                worst_column=self.names[worst.worst_column],
                smallest_tolerance=worst.excess + max_smd,
            )

    def _equations(self, program: _Program, max_smd: float):
        blocks, m = [], program.moments.shape[1]
        if m == 0:
            return None
        for arm in program.members:
            own = program.codes == arm
            kept = np.arange(m)
            if max_smd == 0:
                kept = _independent(program.moments[own], program.base[own])
                self.dropped |= set(range(m)) - set(kept.tolist())
            block = np.zeros((len(kept), len(own)))
            block[:, own] = program.moments[own][:, kept].T
            blocks.append(block)
        rows = np.concatenate(blocks)
        return rows, np.full(len(rows), -max_smd), np.full(len(rows), max_smd)


def _independent(C: NDArray[np.float64], q: NDArray[np.float64]) -> NDArray[np.intp]:
    """Columns that no combination of the others and a constant determines."""
    block = (C - q @ C) * np.sqrt(q)[:, None]
    block /= np.maximum(np.sqrt(q @ C**2), np.finfo(float).tiny)
    triangle, order = qr(block, mode="r", pivoting=True, check_finite=False)
    size = np.abs(np.diag(triangle))
    return np.sort(order[: int((size > RANK_TOLERANCE * max(1.0, size[0])).sum())])

"""Logistic regressions that leave a fold out, of rows that are read in chunks.

Newton steps on all rows first; then steps of all models together, with the Hessian at their common
start. Each step is a pass over the chunks.
"""

from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_factor, cho_solve
from scipy.special import expit
from sklearn.exceptions import ConvergenceWarning

from causal.effects._chunked_rows import Chunks, Reader
from causal.effects._linear_nuisances import LinearSpec
from reweight.kernels.weighted_gram import gram_by_fold
from reweight.solvers.damped_newton import damped_newton
from reweight.validation import warn_user

Array = NDArray[np.float64]
GRADIENT_TOL = 1e-9
MAX_CHORD_STEPS = 50


@dataclass(frozen=True)
class _Logistic:
    """Sums of logistic regressions over the chunks.

    `penalty` has a row for each model, and leaving out is by fold; `common`
    asks for the one model that sees all rows.
    """

    reader: Reader
    spec: LinearSpec

    def _columns(self, A: Array) -> Array:
        return A if self.spec.fit_intercept else A[:, :-1] + self.reader.center

    def loss(self, beta: Array, without: int | None, numbered: tuple[int, tuple]) -> list:
        """Loss, gradient and Hessian of one model on a chunk."""
        A, _, s, fold, rows = self.reader(numbered)
        A = self._columns(A)
        s = s if without is None else s * (fold != without)
        eta = A @ beta
        e = expit(eta)
        value = s @ (np.logaddexp(0.0, eta) - rows.treatment * eta)
        root = A * np.sqrt(s * e * (1 - e))[:, None]
        return [float(value), A.T @ (s * (e - rows.treatment)), root.T @ root]

    def hessians(self, beta: Array, numbered: tuple[int, tuple]) -> list:
        """Hessians by fold at one point."""
        A, _, s, fold, _ = self.reader(numbered)
        A = self._columns(A)
        e = expit(A @ beta)
        nothing = np.empty((len(A), 0))
        return [gram_by_fold(A, nothing, s * e * (1 - e), fold, n_folds=self.reader.n_folds)[0]]

    def gradients(self, B: Array, numbered: tuple[int, tuple]) -> list:
        """Gradient of every model, a column each."""
        A, _, s, fold, rows = self.reader(numbered)
        A = self._columns(A)
        seen = s[:, None] * (fold[:, None] != np.arange(self.reader.n_folds))
        return [A.T @ ((expit(A @ B) - rows.treatment[:, None]) * seen)]


def logistic_by_fold_of_chunks(
    chunks: Chunks, sums: list, spec: LinearSpec, reader: Reader, owner: str
) -> Array:
    """Coefficients (d + 1, n_folds) of logistic models that leave a fold out."""
    gram = sums[0]
    without = gram.sum(axis=0) - gram
    totals = without[:, -1, -1]
    penalty = np.stack([_penalty(part, spec, reader.center) for part in without])
    passes = _Logistic(reader, spec)
    if not spec.fit_intercept:
        penalty = penalty[:, :-1]
    start = _newton(
        chunks, passes, None, penalty.mean(axis=0), np.zeros(penalty.shape[1]), totals.mean()
    ).x
    (by_fold,) = chunks.total(partial(passes.hessians, start))
    hessians = by_fold.sum(axis=0) - by_fold + np.stack([np.diag(row) for row in penalty])
    factors = [_factor(hessian) for hessian in hessians]
    B = np.repeat(start[:, None], reader.n_folds, axis=1)
    size = np.full(reader.n_folds, np.inf)
    active = np.array([factor is not None for factor in factors])
    for _ in range(MAX_CHORD_STEPS):
        (gradient,) = chunks.total(partial(passes.gradients, B))
        gradient += penalty.T * B
        new_size = np.abs(gradient).max(axis=0) / totals
        active &= (new_size >= GRADIENT_TOL) & (new_size < 0.5 * size)
        size = new_size
        if not active.any():
            break
        for k in np.flatnonzero(active):
            B[:, k] -= cho_solve(factors[k], gradient[:, k])
    for k in np.flatnonzero(size >= GRADIENT_TOL):
        result = _newton(chunks, passes, int(k), penalty[k], start, totals[k])
        if not result.converged:
            warn_user(
                f"{owner}: a logistic propensity did not converge (gradient "
                f"{result.optimality_gap:.1e}); the arms may be separated, so penalise it or drop "
                "columns that tell the arms apart",
                ConvergenceWarning,
            )
        B[:, k] = result.x
    return B if spec.fit_intercept else np.vstack([B, reader.center @ B])


def _factor(hessian: Array) -> Any:
    """Cholesky factor, None if the Hessian has lost too many digits."""
    try:
        return cho_factor(hessian, lower=True)
    except np.linalg.LinAlgError:
        return None


def _penalty(gram: Array, spec: LinearSpec, center: Array) -> Array:
    """Penalty of each coefficient of a model trained on rows with these sums."""
    slopes = np.ones(len(gram) - 1)
    if spec.standardize:
        total = gram[-1, -1]
        slopes = np.diag(gram)[:-1] / total - (gram[:-1, -1] / total) ** 2
        # A column that does not vary in the training part gets the slope zero.
        slopes = np.where(slopes <= 1e-20 * np.maximum(center**2, 1.0), 1e12, slopes)
    return np.append(spec.alphas[0] * slopes, 0.0)


def _newton(
    chunks: Chunks,
    passes: _Logistic,
    without: int | None,
    penalty: Array,
    start: Array,
    total: float,
) -> Any:
    """Newton's method on one logistic regression, a pass for each evaluation."""

    def evaluate(beta: Array) -> tuple[float, Array, Array]:
        value, gradient, hessian = chunks.total(partial(passes.loss, beta, without))
        return (
            (value + penalty @ beta**2 / 2) / total,
            (gradient + penalty * beta) / total,
            (hessian + np.diag(penalty)) / total,
        )

    return damped_newton(evaluate, start, tol=GRADIENT_TOL)

r"""Linear nuisances of all folds at once, from sums over the rows of each fold.

Ridge: with the centred sums of squares and products of each fold, what a model
trained without a fold needs is a subtraction, so all folds and all outcomes
cost one pass and a few Cholesky factors. Logistic: all models that leave a fold
out start at one common solution and take Newton steps with the Hessian there;
each step is two matrix products for all folds together. Rows are sorted by fold
and handled in blocks that fit the cache, so that each pass reads them once.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_factor, cho_solve
from scipy.special import expit
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LinearRegression, LogisticRegression, Ridge
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler

from reweight.kernels.chunks import row_slices
from reweight.kernels.weighted_gram import gram_by_fold
from reweight.solvers.damped_newton import damped_newton
from reweight.validation import warn_user

Array = NDArray[np.float64]
Codes = NDArray[np.intp]
DEFAULT_ALPHAS = np.logspace(-3, 3, 13)
EXACT_SOLVERS = ("auto", "cholesky", "svd")
PENALISED_INTERCEPT = "liblinear"
GRADIENT_TOL = 1e-9
MAX_CHORD_STEPS = 25
WARM_START_ROWS = 10_000
BLOCK_ROWS = 4096
# The mean gradient from which one Newton step of all models reaches about GRADIENT_TOL.
CLOSE = 1e-6
STEEP = 500.0
SINGULAR = 1e-10
TINY = 1e-14


@dataclass(frozen=True)
class LinearSpec:
    """A linear model whose fits to all folds have a closed form or share their steps.

    Parameters
    ----------
    kind : {"ridge", "logistic"}
        Loss.
    alphas : ndarray of shape (n_alphas,)
        Penalties in scikit-learn's scale, sum of losses plus alpha times half
        (logistic) or all (ridge) of the squared slopes; the best of several
        by generalised cross-validation.
    fit_intercept : bool
        Whether there is an unpenalised intercept.
    standardize : bool
        Whether the penalty is on slopes of columns with variance one in the
        training part.
    """

    kind: str
    alphas: Array
    fit_intercept: bool = True
    standardize: bool = False


DEFAULT_RIDGE = LinearSpec("ridge", DEFAULT_ALPHAS, standardize=True)
DEFAULT_LOGISTIC = LinearSpec("logistic", np.ones(1), standardize=True)


def linear_spec(estimator: Any, *, weighted: bool) -> LinearSpec | None:
    """What `estimator` is, if its fits to all folds can share their work; else None.

    Parameters
    ----------
    estimator : estimator
        A nuisance model.
    weighted : bool
        Whether it will be fitted with weights. A pipeline hands these to its
        last step only, which a penalty scaled by weighted variances does not.

    Returns
    -------
    LinearSpec or None
    """
    standardize = False
    if type(estimator) is Pipeline and len(estimator.steps) == 2 and not weighted:
        scaler = estimator.steps[0][1]
        if type(scaler) is StandardScaler and scaler.with_mean and scaler.with_std:
            standardize, estimator = True, estimator.steps[1][1]
    if type(estimator) is LinearRegression and not estimator.positive:
        return LinearSpec("ridge", np.zeros(1), estimator.fit_intercept, False)
    if type(estimator) is Ridge and not estimator.positive and estimator.solver in EXACT_SOLVERS:
        if np.ndim(estimator.alpha) == 0:
            alphas = np.array([float(estimator.alpha)])
            return LinearSpec("ridge", alphas, estimator.fit_intercept, standardize)
    if type(estimator) is LogisticRegression and _is_plain_logistic(estimator):
        alphas = np.array([1.0 / estimator.C if getattr(estimator, "penalty", "l2") else 0.0])
        return LinearSpec("logistic", alphas, estimator.fit_intercept, standardize)
    return None


def _is_plain_logistic(estimator: LogisticRegression) -> bool:
    """Whether a logistic regression has the l2 penalty and nothing else."""
    return (
        estimator.class_weight is None
        and estimator.solver != PENALISED_INTERCEPT
        and getattr(estimator, "penalty", "l2") in ("l2", None, "deprecated")
        and not estimator.l1_ratio
    )


@dataclass(frozen=True)
class Design:
    """Rows of linear nuisances, sorted by fold: centred columns, then a column of ones.

    Parameters
    ----------
    A : ndarray of shape (n, d + 1)
        Columns less `center`, and ones.
    center : ndarray of shape (d,)
        Weighted means of the columns.
    w : ndarray of shape (n,) or None
        Sampling weights; None counts each row once.
    order : ndarray of int of shape (n,)
        Which of the user's rows each row of `A` is.
    ends : ndarray of int of shape (n_folds + 1,)
        The rows of `A` that fold k tests are those from ends[k] to ends[k + 1].
    train : ndarray of bool of shape (n_models, n_folds)
        Folds that each model is trained on.
    """

    A: Array
    center: Array
    w: Array | None
    order: Codes
    ends: Codes
    train: NDArray[np.bool_]

    @classmethod
    def of(cls, X: Array, w: Array | None, fold: Codes, train: NDArray[np.bool_]) -> "Design":
        """The design of some columns."""
        center = X.mean(axis=0) if w is None else w @ X / w.sum()
        n_folds = train.shape[1]
        # Integers of 16 bits are sorted by their digits.
        order = np.argsort(fold.astype(np.int16 if n_folds < 2**15 else np.intp), kind="stable")
        ends = np.concatenate([[0], np.cumsum(np.bincount(fold, minlength=n_folds))])
        A = np.empty((len(X), X.shape[1] + 1))
        for rows in row_slices(len(X), BLOCK_ROWS):
            np.subtract(X[order[rows]], center, out=A[rows, :-1])
        A[:, -1] = 1.0
        return cls(A, center, None if w is None else w[order], order, ends, train)

    @property
    def fold(self) -> Codes:
        """Fold that tests each row of `A`."""
        return np.repeat(np.arange(len(self.ends) - 1), np.diff(self.ends))

    def total(self, values: Array | None = None) -> Array:
        """Weighted sums of values of the sorted rows, or the weights, within folds."""
        if values is None:
            values = np.ones(len(self.A)) if self.w is None else self.w
        elif self.w is not None:
            values = values * (self.w if values.ndim == 1 else self.w[:, None])
        parts = zip(self.ends[:-1], self.ends[1:], strict=True)
        return np.stack([values[start:stop].sum(axis=0) for start, stop in parts])

    def blocks(self) -> Iterator[tuple[int, slice]]:
        """Parts of folds that fit the cache."""
        for fold, (start, stop) in enumerate(zip(self.ends[:-1], self.ends[1:], strict=True)):
            for rows in row_slices(stop - start, BLOCK_ROWS):
                yield fold, slice(start + rows.start, min(start + rows.stop, stop))

    def predict(self, coefficients: Array) -> Array:
        """Linear predictors of all models for the user's rows, (n, n_models)."""
        values = np.empty((len(self.A), coefficients.shape[1]))
        values[self.order] = self.A @ coefficients
        return values

    def predict_own(self, coefficients: Array) -> Array:
        """Linear predictors of the model with the number of the row's fold, (n,)."""
        values = np.empty(len(self.A))
        for fold, rows in self.blocks():
            values[self.order[rows]] = self.A[rows] @ coefficients[:, fold]
        return values


@dataclass(frozen=True)
class RidgeTask:
    """One outcome on some rows.

    Parameters
    ----------
    spec : LinearSpec
        The model.
    column : int
        Column of Y that it predicts.
    arm : int or None
        Arm that it is trained on; None for both.
    """

    spec: LinearSpec
    column: int
    arm: int | None


def ridge_by_fold(
    design: Design, Y: Array, arm: Codes | None, tasks: list[RidgeTask]
) -> list[Array | None]:
    """Coefficients of every task and model, None for a task that is too singular for sums.

    Parameters
    ----------
    design : Design
        Rows and folds.
    Y : ndarray of shape (n, q)
        Outcomes.
    arm : ndarray of int of shape (n,) or None
        Arm of each row, if a task is for one arm.
    tasks : list of RidgeTask
        What to fit.

    Returns
    -------
    list of ndarray of shape (d + 1, n_models), or None
        For the columns of the design, the intercept last.
    """
    n_arms = 1 if arm is None else 2
    cell = design.fold * n_arms + (0 if arm is None else arm[design.order])
    n_folds = design.train.shape[1]
    Y = Y[design.order]
    offset = design.total(Y).sum(axis=0) / design.total().sum()
    centred = Y - offset
    gram, cross = gram_by_fold(
        design.A, centred, design.w, cell, n_folds=n_folds * n_arms, chunk=BLOCK_ROWS
    )
    w = 1.0 if design.w is None else design.w
    squares = np.column_stack(
        [np.bincount(cell, w * column**2, n_folds * n_arms) for column in centred.T]
    )
    shape = (n_folds, n_arms)
    gram = gram.reshape(*shape, *gram.shape[1:])
    cross = cross.reshape(*shape, *cross.shape[1:])
    squares = squares.reshape(*shape, -1)
    results = []
    for task in tasks:
        pick = slice(None) if task.arm is None else slice(task.arm, task.arm + 1)
        own_gram, own_cross = gram[:, pick].sum(axis=1), cross[:, pick, :, task.column].sum(axis=1)
        own_squares = squares[:, pick, task.column].sum(axis=1)
        models = [
            ridge_from_sums(
                np.tensordot(used, own_gram, 1),
                used @ own_cross,
                used @ own_squares,
                task.spec,
                design.center,
                offset[task.column],
            )
            for used in design.train.astype(np.float64)
        ]
        singular = any(model is None for model in models)
        results.append(None if singular else np.column_stack(models))
    return results


def ridge_from_sums(
    gram: Array, cross: Array, square: float, spec: LinearSpec, center: Array, offset: float
) -> Array | None:
    """Coefficients for centred columns and the intercept, from the sums of a training part."""
    total = gram[-1, -1]
    sums, mean = gram[:-1, -1], cross[-1] / total
    column_mean = sums / total
    variance = (np.diag(gram)[:-1] / total - column_mean**2).clip(min=0.0)
    if spec.fit_intercept:
        G, c = gram[:-1, :-1] - np.outer(sums, column_mean), cross[:-1] - sums * mean
        square = max(square - total * mean**2, 0.0)
    else:
        # Without an intercept the origin is that of the user's columns and outcome.
        G = gram[:-1, :-1] + np.outer(sums, center) + np.outer(center, sums)
        G += total * np.outer(center, center)
        c = cross[:-1] + offset * sums + center * (cross[-1] + offset * total)
    constant = variance <= 1e-20 * np.maximum(center**2, 1.0)
    scale = np.where(constant, 1.0, np.sqrt(variance)) if spec.standardize else np.ones(len(c))
    G, c = G / np.outer(scale, scale), c / scale
    if spec.standardize:
        # The scaler makes columns that do not vary zero, and ridge gives zero slopes to those.
        G[constant], G[:, constant], c[constant] = 0.0, 0.0, 0.0
    alpha = _best_alpha(G, c, square, total, spec.alphas)
    slopes = _solve(G, c, alpha)
    if slopes is None:
        return None
    slopes = slopes / scale
    if spec.fit_intercept:
        return np.append(slopes, offset + mean - column_mean @ slopes)
    return np.append(slopes, center @ slopes)


def _solve(G: Array, c: Array, alpha: float) -> Array | None:
    """(G + alpha I)^-1 c, or None where the sums have lost the digits that it takes."""
    H = G + alpha * np.eye(len(G))
    scale = np.sqrt(np.where(np.diag(H) > 0, np.diag(H), 1.0))
    try:
        factor = cho_factor(H / np.outer(scale, scale), lower=True, check_finite=False)
    except np.linalg.LinAlgError:
        return None
    if len(G) and np.diag(factor[0]).min() ** 2 < (SINGULAR if alpha == 0 else TINY):
        return None
    return cho_solve(factor, c / scale, check_finite=False) / scale


def _best_alpha(G: Array, c: Array, square: float, total: float, alphas: Array) -> float:
    """Penalty with the least generalised cross-validation error (Golub, Heath and Wahba 1979)."""
    if len(alphas) == 1:
        return float(alphas[0])
    values, vectors = np.linalg.eigh(G)
    values = values.clip(min=0.0)
    z = (vectors.T @ c) ** 2
    errors = []
    for alpha in alphas:
        shrunk = values + alpha
        residual = square - (z * (values + 2 * alpha) / shrunk**2).sum()
        free = total - 1.0 - (values / shrunk).sum()
        residual = max(residual, 1e-14 * square)
        errors.append(total * residual / free**2 if free > 1e-8 * total else np.inf)
    return float(alphas[int(np.argmin(errors))])


def logistic_by_fold(design: Design, t: Array, spec: LinearSpec, *, owner: str) -> Array:
    """Coefficients of the logistic regressions of all models.

    Parameters
    ----------
    design : Design
        Rows and folds.
    t : ndarray of shape (n,)
        Zeros and ones.
    spec : LinearSpec
        The model.
    owner : str
        Who is asking, for warnings.

    Returns
    -------
    ndarray of shape (d + 1, n_models)
        For the columns of the design, the intercept last.
    """
    A = design.A if spec.fit_intercept else design.A[:, :-1] + design.center
    t = t[design.order]
    penalty = _penalties(design, spec)
    if not spec.fit_intercept:
        penalty = penalty[:, :-1]
    start = _common_start(A, design.w, t, penalty.mean(axis=0))
    B = _chord_steps(A, design, t, penalty, start)
    for model in np.flatnonzero(~np.isfinite(B).all(axis=0)):
        rows = design.train[model][design.fold]
        w = None if design.w is None else design.w[rows]
        objective = _LogisticLoss(A[rows], t[rows], w, penalty[model])
        result = damped_newton(objective, start, tol=GRADIENT_TOL)
        if not result.converged:
            warn_user(
                f"{owner}: a logistic propensity did not converge (gradient "
                f"{result.optimality_gap:.1e}); the arms may be separated, so penalise it or drop "
                "columns that tell the arms apart",
                ConvergenceWarning,
            )
        B[:, model] = result.x
    return B if spec.fit_intercept else np.vstack([B, design.center @ B])


def _penalties(design: Design, spec: LinearSpec) -> Array:
    """Penalty of each coefficient in every model, zero for the intercept; (n_models, d + 1)."""
    slopes = np.ones((len(design.train), design.A.shape[1] - 1))
    if spec.standardize:
        train = design.train.astype(np.float64)
        total = (train @ design.total())[:, None]
        mean = train @ design.total(design.A[:, :-1]) / total
        slopes = train @ design.total(design.A[:, :-1] ** 2) / total - mean**2
        # A column that does not vary in the training part gets the slope zero.
        slopes = np.where(slopes <= 1e-20 * np.maximum(design.center**2, 1.0), 1e12, slopes)
    return np.column_stack([spec.alphas[0] * slopes, np.zeros(len(slopes))])


class _LogisticLoss:
    """Mean logistic loss plus penalty, with its derivatives."""

    def __init__(self, A: Array, t: Array, w: Array | None, penalty: Array) -> None:
        w = np.ones(len(A)) if w is None else w
        self.A, self.t, self.total = A, t, w.sum()
        self.w, self.penalty = w / self.total, penalty / self.total

    def __call__(self, beta: Array) -> tuple[float, Array, Array]:
        eta = self.A @ beta
        e = expit(eta)
        value = self.w @ (np.logaddexp(0.0, eta) - self.t * eta) + self.penalty @ beta**2 / 2
        gradient = self.A.T @ (self.w * (e - self.t)) + self.penalty * beta
        root = self.A * np.sqrt(self.w * e * (1 - e))[:, None]
        return float(value), gradient, root.T @ root + np.diag(self.penalty)


def _common_start(A: Array, w: Array | None, t: Array, penalty: Array) -> Array:
    """Solution on evenly spaced rows of each fold, on all of them if there are few."""
    rows = slice(None, None, max(1, len(A) // WARM_START_ROWS))
    part, share = None, len(t[rows]) / len(t)
    if w is not None:
        if not w[rows].any():
            rows = slice(None)
        part, share = w[rows], w[rows].sum() / w.sum()
    objective = _LogisticLoss(A[rows], t[rows], part, penalty * share)
    return damped_newton(objective, np.zeros(A.shape[1]), tol=1e-4, max_iter=30).x


def _probabilities(eta: Array) -> Array:
    """Inverse logit, in place, with the vectorised exponential that expit does not use."""
    np.clip(eta, -STEEP, STEEP, out=eta)
    np.negative(eta, out=eta)
    np.exp(eta, out=eta)
    eta += 1.0
    return np.reciprocal(eta, out=eta)


def _fold_sums(A: Array, design: Design, t: Array, beta: Array) -> tuple[Array, Array]:
    """Gradient (K, d) and Hessian (K, d, d) of the losses of each fold at one point."""
    K, d = design.train.shape[1], A.shape[1]
    gradient, hessian = np.zeros((K, d)), np.zeros((K, d, d))
    for fold, rows in design.blocks():
        block = A[rows]
        e = _probabilities(block @ beta)
        residual, curvature = e - t[rows], e * (1 - e)
        if design.w is not None:
            residual *= design.w[rows]
            curvature *= design.w[rows]
        gradient[fold] += residual @ block
        block = block * np.sqrt(curvature)[:, None]
        hessian[fold] += block.T @ block
    return gradient, hessian


def _gradients(A: Array, design: Design, t: Array, B: Array, which: Codes) -> Array:
    """Gradient of the training loss of some models, each at its own coefficients."""
    gradient = np.zeros((A.shape[1], len(which)))
    columns = [np.flatnonzero(design.train[which, k]) for k in range(design.train.shape[1])]
    points = [B[:, which[used]] for used in columns]
    for fold, rows in design.blocks():
        if len(columns[fold]):
            residual = _probabilities(A[rows] @ points[fold])
            residual -= t[rows, None]
            if design.w is not None:
                residual *= design.w[rows, None]
            gradient[:, columns[fold]] += A[rows].T @ residual
    return gradient


def _chord_steps(A: Array, design: Design, t: Array, penalty: Array, start: Array) -> Array:
    """Newton steps of all models with the Hessian at a common start; NaN where they fail."""
    train = design.train.astype(np.float64)
    totals = train @ design.total()
    by_fold, curvature = _fold_sums(A, design, t, start)
    common = by_fold.sum(axis=0) + penalty.mean(axis=0) * start
    if np.abs(common).max() > CLOSE * totals.max():
        factor = _factor(curvature.sum(axis=0) + np.diag(penalty.mean(axis=0)))
        if factor is not None:
            start = start - cho_solve(factor, common, check_finite=False)
            by_fold, curvature = _fold_sums(A, design, t, start)
    factors = [
        _factor(np.tensordot(used, curvature, 1) + np.diag(own))
        for used, own in zip(train, penalty, strict=True)
    ]
    B = np.repeat(start[:, None], len(train), axis=1)
    active = np.array([factor is not None for factor in factors])
    size = np.full(len(train), np.inf)
    done = np.zeros(len(train), dtype=bool)
    gradient = (train @ by_fold).T
    which = np.flatnonzero(active)
    for _ in range(MAX_CHORD_STEPS):
        slope = gradient[:, which] + penalty[which].T * B[:, which]
        new_size = np.abs(slope).max(axis=0) / totals[which]
        # Steps with a fixed Hessian shrink the gradient by a factor; if not, it is too far off.
        active[which] &= new_size < 0.5 * size[which]
        done[which] = new_size < GRADIENT_TOL
        size[which] = new_size
        for j, model in enumerate(which):
            if active[model]:
                B[:, model] -= cho_solve(factors[model], slope[:, j], check_finite=False)
        which = np.flatnonzero(active & ~done)
        if not len(which):
            break
        gradient[:, which] = _gradients(A, design, t, B, which)
    B[:, ~done] = np.nan
    return B


def _factor(hessian: Array) -> tuple[Array, bool] | None:
    """Cholesky factor, None where there is none."""
    try:
        return cho_factor(hessian, lower=True, check_finite=False)
    except np.linalg.LinAlgError:
        return None

"""The partially linear model from rows that are read in chunks, never all at once.

Passes over the chunks: means and labels; sums of squares and products by fold,
which give every ridge regression; for a logistic propensity, Newton steps on
all rows and then steps of all models that leave a fold out; the effect; its
error. Each pass maps a picklable function over the chunks and adds up.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_factor, cho_solve
from scipy.special import expit
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning

from causal.effects._effect_data import read_treatment, split_target, treatment_codes
from causal.effects._folds import number_of_folds
from causal.effects._linear_effects import LinearEffects
from causal.effects._linear_nuisances import (
    DEFAULT_LOGISTIC,
    DEFAULT_RIDGE,
    LinearSpec,
    linear_spec,
    ridge_from_sums,
)
from causal.effects._settings import nuisance_settings
from reweight.kernels.chunks import map_chunks
from reweight.kernels.weighted_gram import gram_by_fold
from reweight.solvers.damped_newton import damped_newton
from reweight.validation import check_sample_weight, validate_features, warn_user, warn_weights

Array = NDArray[np.float64]
GRADIENT_TOL = 1e-9
MAX_CHORD_STEPS = 50
MANY_LABELS = 3
MUCH_CLIPPED = 0.05
PERFECT = 1e-12


@dataclass(frozen=True)
class _Numbered:
    """A chunk with its number, which seeds its folds."""

    number: int
    item: Any

    def __call__(self) -> tuple[int, tuple]:
        return self.number, self.item() if callable(self.item) else self.item


class _Chunks:
    """The chunks, numbered, and a map over them."""

    def __init__(self, chunks: Any, n_jobs: int | None) -> None:
        self.n_jobs = n_jobs
        if callable(chunks):
            self.chunks = lambda: (_Numbered(i, item) for i, item in enumerate(chunks()))
        elif hasattr(chunks, "__len__") and hasattr(chunks, "__getitem__"):
            self.chunks = [_Numbered(i, chunks[i]) for i in range(len(chunks))]
        else:
            self.chunks = chunks

    def map(self, function: Any) -> Iterator[Any]:
        return map_chunks(function, self.chunks, n_jobs=self.n_jobs)

    def total(self, function: Any) -> Any:
        """Sum over the chunks of a tuple of arrays."""
        total = None
        for part in self.map(function):
            total = part if total is None else [a + b for a, b in zip(total, part, strict=True)]
        return total


@dataclass(frozen=True)
class _Rows:
    """One loaded chunk."""

    X: Array
    y: Array
    treatment: NDArray
    s: Array
    groups: NDArray | None


def _load(estimator: Any, item: tuple) -> tuple[Any, _Rows]:
    """A chunk, checked, and a clone of the estimator that knows its columns."""
    name = type(estimator).__name__
    if not isinstance(item, tuple) or not 2 <= len(item) <= 4:
        raise ValueError(
            f"{name}: a chunk is {type(item).__name__} of length "
            f"{len(item) if hasattr(item, '__len__') else 'unknown'}; pass tuples (X, y), "
            "(X, y, sample_weight) or (X, y, sample_weight, groups)"
        )
    X, y, sample_weight, groups = (*item, None, None)[:4]
    probe = clone(estimator)
    X = validate_features(probe, X)
    outcome, treatment, nuisances = split_target(y, None, owner=name)
    if len(outcome) != len(X):
        raise ValueError(
            f"{name}: a chunk has {len(X)} rows in X but {len(outcome)} in y; pass one y per row"
        )
    if nuisances:
        raise ValueError(
            f"{name}: a chunk has nuisances in y, which fit_chunks fits itself; pass the two "
            "columns outcome and treatment"
        )
    s = check_sample_weight(sample_weight, X, allow_zero=True)
    groups = None if groups is None else np.asarray(groups)
    if groups is not None and groups.shape != (len(X),):
        raise ValueError(
            f"{name}: groups of a chunk has shape {groups.shape} but there are {len(X)} rows; pass "
            "one label per row"
        )
    return probe, _Rows(X, outcome, treatment, s, groups)


def _first_pass(estimator: Any, numbered: tuple[int, tuple]) -> tuple:
    """Distinct treatments, column names, sums, and which metadata there are."""
    probe, rows = _load(estimator, numbered[1])
    labels = np.unique(rows.treatment[rows.s > 0])[:MANY_LABELS]
    names = getattr(probe, "feature_names_in_", None)
    dose = rows.s @ rows.treatment if rows.treatment.dtype.kind in "biuf" else 0.0
    sums = [rows.s.sum(), rows.s @ rows.X, rows.s @ rows.y, dose, len(rows.X)]
    return labels, names, sums, rows.groups is not None, bool((rows.s != 1).any())


@dataclass(frozen=True)
class _Reader:
    """Everything that turns a chunk into centred columns, outcomes, weights and folds."""

    estimator: Any
    classes: NDArray | None
    center: Array
    offset: Array
    n_folds: int
    seed: int

    def __call__(self, numbered: tuple[int, tuple]) -> tuple[Array, Array, Array, NDArray, _Rows]:
        number, item = numbered
        _, rows = _load(self.estimator, item)
        t = treatment_codes(rows.treatment, self.classes, owner=type(self.estimator).__name__)
        A = np.column_stack([rows.X - self.center, np.ones(len(t))])
        Y = np.column_stack([rows.y, t]) - self.offset
        return A, Y, rows.s, self._fold(number, rows), replace(rows, treatment=t)

    def _fold(self, number: int, rows: _Rows) -> NDArray[np.intp]:
        """Fold of each row: shuffled within the chunk, or hashed from the group."""
        if rows.groups is None:
            rng = np.random.default_rng([self.seed, number])
            return rng.permutation(np.arange(len(rows.y)) % self.n_folds)
        return (hashed(rows.groups, self.seed) % self.n_folds).astype(np.intp)


def hashed(labels: NDArray, seed: int) -> NDArray[np.uint64]:
    """Hash of each label, the same in every process.

    Parameters
    ----------
    labels : ndarray of shape (n,)
        Labels of any type.
    seed : int
        Different seeds give different hashes.

    Returns
    -------
    ndarray of uint64 of shape (n,)
    """
    from pandas.util import hash_array

    return hash_array(np.asarray(labels).astype(str).astype(object), hash_key=f"{seed:016d}"[-16:])


def _gram_pass(reader: _Reader, numbered: tuple[int, tuple]) -> list:
    A, Y, s, fold, _ = reader(numbered)
    gram, cross = gram_by_fold(A, Y, s, fold, n_folds=reader.n_folds)
    _, products = gram_by_fold(Y, Y, s, fold, n_folds=reader.n_folds)
    return [gram, cross, products]


def _fold_pass(reader: _Reader, numbered: tuple[int, tuple]) -> NDArray[np.intp]:
    return reader(numbered)[3]


def _ridge_models(sums: list, direction: Array, spec: LinearSpec, reader: _Reader) -> Array:
    """Coefficients (d + 1, n_folds) of ridge models of Y @ direction that leave a fold out."""
    gram, cross, products = sums
    columns = []
    for k in range(reader.n_folds):
        column = ridge_from_sums(
            gram.sum(axis=0) - gram[k],
            (cross.sum(axis=0) - cross[k]) @ direction,
            direction @ (products.sum(axis=0) - products[k]) @ direction,
            spec,
            reader.center,
            float(reader.offset @ direction),
        )
        if column is None:
            raise ValueError(
                "PartiallyLinearDML: columns of X are linearly dependent without a fold, which "
                "sums over chunks cannot tell apart; drop columns, or pass Ridge() as the estimator"
            )
        columns.append(column)
    return np.column_stack(columns)


@dataclass(frozen=True)
class _Logistic:
    """Sums of logistic regressions over the chunks.

    `penalty` has a row for each model, and leaving out is by fold; `common`
    asks for the one model that sees all rows.
    """

    reader: _Reader
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


def _logistic_models(
    chunks: _Chunks, sums: list, spec: LinearSpec, reader: _Reader, owner: str
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
    chunks: _Chunks,
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


@dataclass(frozen=True)
class _Score:
    """Residuals of a chunk and the sums that the effect and its error need."""

    reader: _Reader
    outcome: Array
    treatment: Array | float
    logistic: bool
    clip: float
    moment: str

    def residuals(self, numbered: tuple[int, tuple]) -> tuple[Array, Array, Array, _Rows, int]:
        """A and b of the score, weights, rows and the number of clipped propensities."""
        A, _, s, fold, rows = self.reader(numbered)
        every = np.arange(len(fold))
        g = (A @ self.outcome)[every, fold]
        e = self.treatment
        n_clipped = 0
        if not isinstance(e, float):
            e = (A @ e)[every, fold]
            e = expit(e) if self.logistic else e
        if self.reader.classes is not None:
            clipped = np.clip(e, self.clip, 1 - self.clip)
            n_clipped = int(np.sum(np.broadcast_to(clipped != e, fold.shape)))
            e = clipped
        residual = rows.treatment - e
        factor = rows.treatment if self.moment == "iv" else residual
        return residual * factor, residual * (rows.y - g), s, rows, n_clipped

    def effect(self, numbered: tuple[int, tuple]) -> list:
        """Sums of a and b, and the number of clipped propensities."""
        a, b, s, _, n_clipped = self.residuals(numbered)
        return [s @ a, s @ b, n_clipped]

    def variance(self, theta: float, numbered: tuple[int, tuple]) -> tuple[float, dict]:
        """Sum of squared scores; with groups, sums of scores within them."""
        a, b, s, rows, _ = self.residuals(numbered)
        psi = s * (b - a * theta)
        if rows.groups is None:
            return float(psi @ psi), {}
        labels, codes = np.unique(rows.groups, return_inverse=True)
        return 0.0, dict(zip(labels.tolist(), np.bincount(codes, psi).tolist(), strict=True))


def fit_partially_linear_chunks(estimator: Any, chunks: Any, n_jobs: int | None) -> Any:
    """Fit a `PartiallyLinearDML` on chunks of `(X, y, sample_weight, groups)`.

    Parameters
    ----------
    estimator : PartiallyLinearDML
        Fitted in place.
    chunks : sequence or callable
        As `reweight.kernels.chunks.map_chunks` takes them.
    n_jobs : int or None
        joblib workers over a sequence.

    Returns
    -------
    PartiallyLinearDML
    """
    owner = type(estimator).__name__
    settings = nuisance_settings(estimator)
    if not isinstance(settings.cv, int | str | None):
        raise ValueError(
            f"{owner}: fit_chunks draws folds chunk by chunk, but cv is a "
            f"{type(settings.cv).__name__}; pass an int"
        )
    chunks = _Chunks(chunks, n_jobs)
    summary = _summarize(estimator, chunks)
    outcome_spec, treatment_spec = _specs(estimator, summary)
    estimator._forget()
    estimator.classes_ = summary.classes
    estimator.n_features_in_ = len(summary.center)
    vars(estimator).pop("feature_names_in_", None)
    if summary.names is not None:
        estimator.feature_names_in_ = summary.names
    n_folds = int(number_of_folds(5 if settings.cv is None else settings.cv, summary.n))
    thetas, variances, folds, n_clipped = [], [], [], 0
    seeds = np.random.RandomState(settings.random_state).randint(
        np.iinfo(np.int32).max, size=settings.n_repeats
    )
    for seed in seeds:
        reader = _Reader(
            clone(estimator),
            summary.classes,
            summary.center,
            summary.offset,
            n_folds,
            int(seed),
        )
        theta, variance, clipped = _one_repeat(
            estimator, chunks, reader, outcome_spec, treatment_spec
        )
        thetas.append(theta)
        variances.append(variance)
        folds.append(np.concatenate(list(chunks.map(partial(_fold_pass, reader)))))
        n_clipped += clipped
    if n_clipped > MUCH_CLIPPED * summary.n * len(seeds):
        warn_weights(
            f"{owner}: {n_clipped} of {summary.n * len(seeds)} propensities were clipped at "
            f"{settings.propensity_clip:g}; the arms hardly overlap there, so drop those rows"
        )
    estimator.folds_ = folds[0] if len(folds) == 1 else np.stack(folds)
    estimator.n_clipped_ = n_clipped
    estimator._set_effects(
        LinearEffects(
            [estimator._effect_label()],
            np.array(thetas)[:, None],
            np.array(variances)[:, None, None],
            np.empty((1, 0)),
            "effect",
        )
    )
    return estimator


@dataclass(frozen=True)
class _Summary:
    """What the first pass finds."""

    classes: NDArray | None
    names: NDArray | None
    center: Array
    offset: Array
    n: int
    weighted: bool


def _summarize(estimator: Any, chunks: _Chunks) -> _Summary:
    """Means of the columns, labels of the treatment, and whether chunks agree."""
    owner = type(estimator).__name__
    labels, total, first, grouped, weighted = [], None, None, set(), False
    for found, names, sums, has_groups, varies in chunks.map(
        partial(_first_pass, clone(estimator))
    ):
        if total is None:
            total, first = sums, names
        elif len(sums[1]) != len(total[1]) or not np.array_equal(names, first):
            raise ValueError(
                f"{owner}: chunks disagree about the columns; every chunk needs the same columns "
                "in the same order"
            )
        else:
            total = [a + b for a, b in zip(total, sums, strict=True)]
        labels.append(found)
        grouped.add(has_groups)
        weighted = weighted or varies
    if total is None or total[-1] == 0:
        raise ValueError(f"{owner}: chunks holds no rows; pass at least one")
    if not total[0] > 0:
        raise ValueError(
            f"{owner}: sample_weight is zero in every row of every chunk; at least one must be "
            "positive"
        )
    if len(grouped) > 1:
        raise ValueError(f"{owner}: some chunks have groups and some have none; pass them in all")
    distinct = np.unique(np.concatenate(labels))[:MANY_LABELS]
    # Each label twice, since an arm of one row would be refused.
    repeated = distinct if len(distinct) == 1 else np.repeat(distinct, 2)
    classes, _ = read_treatment(repeated, estimator.discrete_treatment, owner=owner)
    dose = total[3] / total[0] if classes is None else 0.0
    offset = np.array([total[2] / total[0], dose])
    return _Summary(classes, first, total[1] / total[0], offset, int(total[-1]), bool(weighted))


def _specs(estimator: Any, summary: _Summary) -> tuple[LinearSpec, LinearSpec | float]:
    """The linear models that the estimators are, or the propensity itself."""
    binary = summary.classes is not None
    wanted = {"outcome_estimator": "ridge", "treatment_estimator": "ridge"}
    if binary:
        wanted["treatment_estimator"] = "logistic"
    specs = []
    for name, kind in wanted.items():
        model = getattr(estimator, name)
        if isinstance(model, (int, float)) and not isinstance(model, bool):
            specs.append(float(model))
            continue
        default = DEFAULT_RIDGE if kind == "ridge" else DEFAULT_LOGISTIC
        spec = default if model is None else linear_spec(model, weighted=summary.weighted)
        if spec is None or spec.kind != kind:
            allowed = {
                "ridge": "LinearRegression, Ridge with a direct solver, or None",
                "logistic": "LogisticRegression, a number, or None",
            }[kind]
            raise ValueError(
                f"{type(estimator).__name__}: fit_chunks needs sums over rows, but {name} is "
                f"{type(model).__name__}; pass {allowed}, or use fit"
            )
        specs.append(spec)
    return specs[0], specs[1]


def _one_repeat(
    estimator: Any,
    chunks: _Chunks,
    reader: _Reader,
    outcome_spec: LinearSpec,
    treatment_spec: LinearSpec | float,
) -> tuple[float, float, int]:
    """Effect, its variance and the number of clipped propensities in one draw of the folds."""
    owner = type(estimator).__name__
    sums = chunks.total(partial(_gram_pass, reader))
    if (sums[0][:, -1, -1].sum() - sums[0][:, -1, -1] <= 0).any():
        raise ValueError(
            f"{owner}: a fold leaves no rows of positive weight to fit on; use fewer folds"
        )
    logistic = not isinstance(treatment_spec, float) and treatment_spec.kind == "logistic"
    if isinstance(treatment_spec, float):
        treatment = treatment_spec
    elif logistic:
        treatment = _logistic_models(chunks, sums, treatment_spec, reader, owner)
    else:
        treatment = _ridge_models(sums, np.array([0.0, 1.0]), treatment_spec, reader)
    outcome = _ridge_models(sums, np.array([1.0, 0.0]), outcome_spec, reader)
    score = _Score(
        reader, outcome, treatment, logistic, estimator.propensity_clip, "partialling_out"
    )
    a, b, n_clipped = chunks.total(score.effect)
    spread = sums[2][:, 1, 1].sum() - sums[1][:, -1, 1].sum() ** 2 / sums[0][:, -1, -1].sum()
    if a <= PERFECT * spread:
        raise ValueError(
            f"{owner}: the treatment is perfectly predicted by the covariates, so that no row "
            "tells what it does; drop the columns that the treatment is made from"
        )
    if estimator.moment == "iv":
        outcome = _ridge_models(sums, np.array([1.0, -b / a]), outcome_spec, reader)
        score = replace(score, outcome=outcome, moment="iv")
        a, b, n_clipped = chunks.total(score.effect)
    squares, by_group = 0.0, {}
    for square, parts in chunks.map(partial(score.variance, b / a)):
        squares += square
        for label, value in parts.items():
            by_group[label] = by_group.get(label, 0.0) + value
    squares += sum(value**2 for value in by_group.values())
    return b / a, squares / a**2, n_clipped

"""The partially linear model from rows that are read in chunks, never all at once.

Passes over the chunks: means and labels; sums of squares and products by fold,
which give every ridge regression; for a logistic propensity, Newton steps on
all rows and then steps of all models that leave a fold out; the effect; its
error. Each pass maps a picklable function over the chunks and adds up.
"""

from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit
from sklearn.base import clone

from causal.effects._chunked_logistic import logistic_by_fold_of_chunks
from causal.effects._chunked_rows import MANY_LABELS, Chunks, Reader, Rows, first_pass
from causal.effects._effect_data import read_treatment
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
from reweight.kernels.weighted_gram import gram_by_fold
from reweight.validation import warn_weights

Array = NDArray[np.float64]
MUCH_CLIPPED = 0.05
PERFECT = 1e-12


def _gram_pass(reader: Reader, numbered: tuple[int, tuple]) -> list:
    A, Y, s, fold, _ = reader(numbered)
    gram, cross = gram_by_fold(A, Y, s, fold, n_folds=reader.n_folds)
    _, products = gram_by_fold(Y, Y, s, fold, n_folds=reader.n_folds)
    return [gram, cross, products]


def _fold_pass(reader: Reader, numbered: tuple[int, tuple]) -> NDArray[np.intp]:
    return reader(numbered)[3]


def _ridge_models(sums: list, direction: Array, spec: LinearSpec, reader: Reader) -> Array:
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
class _Score:
    """Residuals of a chunk and the sums that the effect and its error need."""

    reader: Reader
    outcome: Array
    treatment: Array | float
    logistic: bool
    clip: float
    moment: str

    def residuals(self, numbered: tuple[int, tuple]) -> tuple[Array, Array, Array, Rows, int]:
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
    chunks = Chunks(chunks, n_jobs)
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
        reader = Reader(
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


def _summarize(estimator: Any, chunks: Chunks) -> _Summary:
    """Means of the columns, labels of the treatment, and whether chunks agree."""
    owner = type(estimator).__name__
    labels, total, first, grouped, weighted = [], None, None, set(), False
    for found, names, sums, has_groups, varies in chunks.map(partial(first_pass, clone(estimator))):
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
    chunks: Chunks,
    reader: Reader,
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
        treatment = logistic_by_fold_of_chunks(chunks, sums, treatment_spec, reader, owner)
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

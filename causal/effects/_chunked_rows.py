"""Rows of a study of effects that are read in chunks: checked, centred, and put into folds."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import clone

from causal.effects._effect_data import split_target, treatment_codes
from reweight.kernels.chunks import map_chunks
from reweight.validation import check_sample_weight, validate_features

Array = NDArray[np.float64]
MANY_LABELS = 3


@dataclass(frozen=True)
class Numbered:
    """A chunk with its number, which seeds its folds."""

    number: int
    item: Any

    def __call__(self) -> tuple[int, tuple]:
        return self.number, self.item() if callable(self.item) else self.item


class Chunks:
    """The chunks, numbered, and a map over them."""

    def __init__(self, chunks: Any, n_jobs: int | None) -> None:
        self.n_jobs = n_jobs
        if callable(chunks):
            self.chunks = lambda: (Numbered(i, item) for i, item in enumerate(chunks()))
        elif hasattr(chunks, "__len__") and hasattr(chunks, "__getitem__"):
            self.chunks = [Numbered(i, chunks[i]) for i in range(len(chunks))]
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
class Rows:
    """One loaded chunk."""

    X: Array
    y: Array
    treatment: NDArray
    s: Array
    groups: NDArray | None


def load_chunk(estimator: Any, item: tuple) -> tuple[Any, Rows]:
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
    return probe, Rows(X, outcome, treatment, s, groups)


def first_pass(estimator: Any, numbered: tuple[int, tuple]) -> tuple:
    """Distinct treatments, column names, sums, and which metadata there are."""
    probe, rows = load_chunk(estimator, numbered[1])
    labels = np.unique(rows.treatment[rows.s > 0])[:MANY_LABELS]
    names = getattr(probe, "feature_names_in_", None)
    dose = rows.s @ rows.treatment if rows.treatment.dtype.kind in "biuf" else 0.0
    sums = [rows.s.sum(), rows.s @ rows.X, rows.s @ rows.y, dose, len(rows.X)]
    return labels, names, sums, rows.groups is not None, bool((rows.s != 1).any())


@dataclass(frozen=True)
class Reader:
    """Everything that turns a chunk into centred columns, outcomes, weights and folds."""

    estimator: Any
    classes: NDArray | None
    center: Array
    offset: Array
    n_folds: int
    seed: int

    def __call__(self, numbered: tuple[int, tuple]) -> tuple[Array, Array, Array, NDArray, Rows]:
        number, item = numbered
        _, rows = load_chunk(self.estimator, item)
        t = treatment_codes(rows.treatment, self.classes, owner=type(self.estimator).__name__)
        A = np.column_stack([rows.X - self.center, np.ones(len(t))])
        Y = np.column_stack([rows.y, t]) - self.offset
        return A, Y, rows.s, self._fold(number, rows), replace(rows, treatment=t)

    def _fold(self, number: int, rows: Rows) -> NDArray[np.intp]:
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

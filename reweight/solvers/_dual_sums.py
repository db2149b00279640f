"""Sums over rows that the dual of a divergence program needs, chunk by chunk.

Every quantity is a sum over rows, so arrays in memory and chunks streamed from
elsewhere go through the same code.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reweight.kernels.chunks import map_chunks, row_slices

DIVERGENCES = ("kl", "chi2", "chi2_signed", "el")


def conjugate(divergence: str, z: NDArray) -> tuple[NDArray, NDArray, NDArray]:
    """h*(z), its first and its second derivative.

    Parameters
    ----------
    divergence : {"kl", "chi2", "chi2_signed", "el"}
        Name of h.
    z : ndarray of shape (n,)
        Linear predictor; below one for "el".

    Returns
    -------
    value, first, second : ndarray of shape (n,)
        `first` is the weight relative to the base weight.
    """
    if divergence == "kl":
        first = np.exp(z)
        return first - 1.0, first, first
    if divergence == "chi2_signed":
        return z + 0.5 * z**2, 1.0 + z, np.ones_like(z)
    if divergence == "chi2":
        positive = z > -1.0
        return (
            np.where(positive, z + 0.5 * z**2, -0.5),
            np.maximum(1.0 + z, 0.0),
            positive.astype(float),
        )
    room = 1.0 - z
    return -np.log(room), 1.0 / room, 1.0 / room**2


@dataclass
class DualSums:
    """Sums over rows at one dual point; for "kl" relative to exp(`peak`).

    Parameters
    ----------
    peak : float
        Largest linear predictor z.
    largest : float
        Largest single term q h*'(z).
    value : float
        sum q h*(z); for "kl" sum q exp(z - peak).
    first : ndarray of shape (m + 1,)
        sum q h*'(z) (1, c).
    second : ndarray of shape (m + 1, m + 1) or None
        sum q h*''(z) (1, c)(1, c)'.
    """

    peak: float
    largest: float
    value: float
    first: NDArray[np.float64]
    second: NDArray[np.float64] | None


def chunk_sums(
    C: NDArray,
    q: NDArray,
    *,
    dual: NDArray,
    divergence: str,
    center: NDArray | None,
    hessian: bool,
) -> DualSums:
    """Sums over one chunk of rows.

    Parameters
    ----------
    C : ndarray of shape (n, m)
        Constraint rows.
    q : ndarray of shape (n,)
        Base weights.
    dual : ndarray of shape (m + 1,)
        (nu, theta).
    divergence : str
        Name of the divergence.
    center : ndarray of shape (m,) or None
        Subtracted from every row.
    hessian : bool
        Whether to compute `second`.

    Returns
    -------
    DualSums
    """
    m = C.shape[1]
    kl = divergence == "kl"
    total = DualSums(-np.inf, 0.0, 0.0, np.zeros(m + 1), np.zeros((m + 1, m + 1)))
    for rows in row_slices(len(C)):
        block = C[rows] if center is None else C[rows] - center
        base = q[rows]
        z = dual[0] + block @ dual[1:]
        # Rows of base weight zero are outside the program and must not set its scale.
        z[base == 0] = -np.inf if kl else 0.0
        peak = float(z.max())
        if peak == -np.inf:
            continue
        if kl:
            first = base * np.exp(z - peak)
            value, second = float(first.sum()), first
        elif divergence == "el" and peak >= 1.0:
            return DualSums(np.inf, np.inf, np.inf, total.first, total.second)
        else:
            values, first, second = conjugate(divergence, z)
            value, first, second = float(base @ values), base * first, base * second
        part = DualSums(peak, float(first.max()), value, np.r_[first.sum(), first @ block], None)
        if hessian:
            root = np.sqrt(second)
            scaled = block * root[:, None]
            part.second = np.empty((m + 1, m + 1))
            part.second[0, 0] = second.sum()
            part.second[0, 1:] = part.second[1:, 0] = root @ scaled
            # A matrix times its own transpose takes half the work.
            part.second[1:, 1:] = scaled.T @ scaled
        total = merge(total, part, relative=kl)
    return total


def merge(left: DualSums, right: DualSums, *, relative: bool) -> DualSums:
    """Add two sums; with `relative`, bring them to the larger peak first.

    Parameters
    ----------
    left, right : DualSums
        Sums over disjoint rows.
    relative : bool
        Whether the sums are relative to their peaks, as for "kl".

    Returns
    -------
    DualSums
    """
    peak = max(left.peak, right.peak)
    a, b = 1.0, 1.0
    if relative:
        a = np.exp(left.peak - peak) if left.peak > -np.inf else 0.0
        b = np.exp(right.peak - peak) if right.peak > -np.inf else 0.0
    second = None
    if left.second is not None and right.second is not None:
        second = a * left.second + b * right.second
    return DualSums(
        peak,
        max(a * left.largest, b * right.largest),
        a * left.value + b * right.value,
        a * left.first + b * right.first,
        second,
    )


class Rows:
    """Constraint rows and base weights, in memory or in chunks.

    Parameters
    ----------
    C : ndarray of shape (n, m), sequence or callable
        Rows in memory, or chunks of `(C, base_weights)` as
        `reweight.kernels.chunks.map_chunks` takes them.
    base_weights : ndarray of shape (n,) or None
        Base weights of rows in memory.
    center : ndarray of shape (m,) or None
        Subtracted from every row.
    n_jobs : int or None
        joblib workers for chunks.
    """

    def __init__(
        self, C: Any, base_weights: Any, center: NDArray | None = None, n_jobs: int | None = None
    ) -> None:
        self.in_memory = base_weights is not None
        self.C = np.asarray(C, dtype=np.float64) if self.in_memory else C
        self.q = np.asarray(base_weights, dtype=np.float64) if self.in_memory else None
        self.center = center
        self.n_jobs = n_jobs

    def map(self, function: Callable[[NDArray, NDArray], Any]):
        """Results of `function(C, q)` over the chunks, in order."""
        if self.in_memory:
            yield function(self.C, self.q)
        else:
            yield from map_chunks(_Unpacked(function), self.C, n_jobs=self.n_jobs)

    def sums(self, dual: NDArray, divergence: str, hessian: bool = True) -> DualSums:
        """Sums over all rows at a dual point."""
        function = _Sums(dual, divergence, self.center, hessian)
        total = None
        for part in self.map(function):
            if total is None:
                total = part
            else:
                total = merge(total, part, relative=divergence == "kl")
        if total is None:
            raise ValueError("chunks holds no rows; pass at least one chunk")
        return total


@dataclass
class _Unpacked:
    function: Callable

    def __call__(self, chunk: Any) -> Any:
        C, q = chunk
        return self.function(np.asarray(C, dtype=np.float64), np.asarray(q, dtype=np.float64))


@dataclass
class _Sums:
    dual: NDArray
    divergence: str
    center: NDArray | None
    hessian: bool

    def __call__(self, C: NDArray, q: NDArray) -> DualSums:
        return chunk_sums(
            C,
            q,
            dual=self.dual,
            divergence=self.divergence,
            center=self.center,
            hessian=self.hessian,
        )

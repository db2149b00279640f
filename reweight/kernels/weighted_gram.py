"""Weighted sums of squares and products within folds, in one pass over the rows."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from reweight.kernels.chunks import CHUNK_ROWS, map_chunks, row_slices

Array = NDArray[np.float64]


def gram_by_fold(
    A: Array,
    Y: Array,
    w: Array | None,
    folds: NDArray[np.intp],
    *,
    n_folds: int | None = None,
    chunk: int = CHUNK_ROWS,
) -> tuple[Array, Array]:
    """Sums of w a a' and w a y' over the rows of each fold.

    What is left of a least-squares problem when a fold is left out is the
    total minus the fold, so that all folds cost one pass. Downdating loses
    digits if the columns' means are large beside their deviations: centre
    them first.

    Parameters
    ----------
    A : ndarray of shape (n, d)
        Regressors, with a column of ones if an intercept is wanted.
    Y : ndarray of shape (n, q)
        Responses.
    w : ndarray of shape (n,) or None
        Non-negative weights; None counts each row once.
    folds : ndarray of int of shape (n,)
        Fold of each row, from 0; negative ones are left out.
    n_folds : int, default=None
        Number of folds K; None is the largest fold plus one.
    chunk : int, default=8192
        Rows handled at a time, which bounds the memory.

    Returns
    -------
    gram : ndarray of shape (K, d, d)
    cross : ndarray of shape (K, d, q)

    Examples
    --------
    >>> import numpy as np
    >>> A, y = np.array([[1.0], [2.0], [3.0]]), np.array([[1.0], [1.0], [2.0]])
    >>> gram, cross = gram_by_fold(A, y, None, np.array([0, 0, 1]))
    >>> gram.ravel(), cross.ravel()
    (array([5., 9.]), array([3., 6.]))
    """
    K = int(folds.max(initial=-1)) + 1 if n_folds is None else n_folds
    gram = np.zeros((K, A.shape[1], A.shape[1]))
    cross = np.zeros((K, A.shape[1], Y.shape[1]))
    for rows in row_slices(len(A), chunk):
        code, block, response = folds[rows], A[rows], Y[rows]
        root = None if w is None else np.sqrt(w[rows])
        if (code[1:] < code[:-1]).any():
            order = np.argsort(code, kind="stable")
            code, block, response = code[order], block[order], response[order]
            root = None if root is None else root[order]
        ends = np.searchsorted(code, np.arange(K + 1))
        if root is not None:
            block, response = block * root[:, None], response * root[:, None]
        for k in range(K):
            part = block[ends[k] : ends[k + 1]]
            gram[k] += part.T @ part
            cross[k] += part.T @ response[ends[k] : ends[k + 1]]
    return gram, cross


def gram_by_fold_of_chunks(
    chunks: Any, n_folds: int, *, n_jobs: int | None = None
) -> tuple[Array, Array]:
    """`gram_by_fold` of rows that do not fit into memory.

    Parameters
    ----------
    chunks : sequence or callable
        As in `map_chunks`; each chunk is a tuple (A, Y, w, folds).
    n_folds : int
        Number of folds K.
    n_jobs : int, default=None
        Number of jobs, over chunks.

    Returns
    -------
    gram : ndarray of shape (K, d, d)
    cross : ndarray of shape (K, d, q)

    Raises
    ------
    ValueError
        If there are no chunks.

    Examples
    --------
    >>> import numpy as np
    >>> chunk = np.ones((2, 1)), np.ones((2, 1)), None, np.array([0, 1])
    >>> gram, _ = gram_by_fold_of_chunks([chunk, chunk], 2)
    >>> gram.ravel()
    array([2., 2.])
    """
    total = None
    for gram, cross in map_chunks(_Sums(n_folds), chunks, n_jobs=n_jobs):
        total = (gram, cross) if total is None else (total[0] + gram, total[1] + cross)
    if total is None:
        raise ValueError("gram_by_fold_of_chunks: there are no chunks; pass at least one")
    return total


class _Sums:
    """`gram_by_fold` of one chunk, for workers that unpickle it."""

    def __init__(self, n_folds: int) -> None:
        self.n_folds = n_folds

    def __call__(self, item: tuple) -> tuple[Array, Array]:
        A, Y, w, folds = item
        return gram_by_fold(A, Y, w, folds, n_folds=self.n_folds)

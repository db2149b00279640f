"""Row chunks: arrays in memory, or data too large for it, mapped and reduced alike."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

CHUNK_ROWS = 8192


def row_slices(n_rows: int, chunk: int = CHUNK_ROWS) -> Iterator[slice]:
    """Slices that cut `n_rows` rows into chunks that fit the processor's cache.

    Parameters
    ----------
    n_rows : int
        Number of rows.
    chunk : int, default=8192
        Rows per slice.

    Yields
    ------
    slice

    Examples
    --------
    >>> list(row_slices(5, 3))
    [slice(0, 3, None), slice(3, 5, None)]
    """
    for start in range(0, n_rows, chunk):
        yield slice(start, min(start + chunk, n_rows))


def _load(item: Any) -> Any:
    """A chunk: what a callable loads, with lazy blocks, such as those of Dask, computed."""
    item = item() if callable(item) else item
    if isinstance(item, tuple):
        return tuple(part.compute() if hasattr(part, "compute") else part for part in item)
    return item


def map_chunks(
    function: Callable[..., Any], chunks: Any, *, n_jobs: int | None = None
) -> Iterator[Any]:
    """Apply a function to every chunk of rows, in order.

    Parameters
    ----------
    function : callable
        Called with one loaded chunk.
    chunks : sequence or callable
        A sequence whose items are chunks or zero-argument callables that load
        one, where members of a tuple may be blocks of Dask arrays; the items
        are spread over joblib workers, so that under
        `joblib.parallel_config(backend="dask")` they run on its cluster.
        Or a callable returning a fresh iterator of chunks, read one at a time.
    n_jobs : int, default=None
        Number of joblib workers for a sequence.

    Yields
    ------
    object
        Results in the order of the chunks.

    Raises
    ------
    TypeError
        If `chunks` is an iterator, which could be read only once.

    Examples
    --------
    >>> list(map_chunks(sum, [[1, 2], lambda: [3, 4]]))
    [3, 7]
    """
    if callable(chunks):
        for item in chunks():
            yield function(_load(item))
    elif isinstance(chunks, Sequence):
        from joblib import Parallel, delayed

        yield from Parallel(n_jobs=n_jobs, return_as="generator")(
            delayed(_apply)(function, item) for item in chunks
        )
    else:
        raise TypeError(
            f"chunks is a {type(chunks).__name__}, which can be read only once; pass a sequence "
            "of chunks or a callable that returns a fresh iterator"
        )


def _apply(function: Callable[..., Any], item: Any) -> Any:
    return function(_load(item))

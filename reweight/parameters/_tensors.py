"""What numpy arrays and torch tensors have in common, without importing torch."""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

Parameters = Mapping[str, Any]

# Entries of a tensor handled at a time: temporaries stay in the processor's cache.
BLOCK_ENTRIES = 1 << 16


def plain(array: Any) -> Any:
    """A tensor without its gradient, anything else as a numpy array."""
    return array.detach() if hasattr(array, "detach") else np.asarray(array)


def is_floating(array: Any) -> bool:
    """Whether entries are floating-point numbers, real or complex."""
    return any(kind in str(array.dtype) for kind in ("float", "complex"))


def widened(array: Any) -> Any:
    """Half precision as single, in which sums keep their digits."""
    if array.dtype.itemsize >= 4:
        return array
    return array.float() if hasattr(array, "float") else array.astype(np.float32)


def empty(like: Any, shape: Any) -> Any:
    """A new array of the kind, type and place of another."""
    return like.new_empty(shape) if hasattr(like, "new_empty") else np.empty(shape, like.dtype)


def row_blocks(shape: Sequence[int]) -> list[Any]:
    """Slices of the first axis that hold about `BLOCK_ENTRIES`, at least one row."""
    if not len(shape):
        return [...]
    rows = max(1, BLOCK_ENTRIES // max(1, math.prod(shape[1:])))
    return [slice(start, start + rows) for start in range(0, shape[0], rows)]


def shared_tensors(
    parameters: Sequence[Parameters], caller: str
) -> Iterator[tuple[str, list[Any]]]:
    """The tensors of each name, one a model; models of other names or shapes are refused."""
    for other in parameters[1:]:
        different = sorted(set(parameters[0]) ^ set(other))
        if different:
            raise ValueError(
                f"{caller}: architecture differs, parameter {different[0]!r} is in some models "
                "only; pass models of one architecture"
            )
    for name in parameters[0]:
        tensors = [plain(p[name]) for p in parameters]
        shapes = list(dict.fromkeys(tuple(tensor.shape) for tensor in tensors))
        if len(shapes) > 1:
            raise ValueError(
                f"{caller}: architecture differs, parameter {name!r} has shapes {shapes[0]} and "
                f"{shapes[1]}; pass models of one architecture"
            )
        yield name, tensors


def check_options(caller: str, **options: tuple[Any, tuple]) -> None:
    """Refuse values that are not among the known ones."""
    for name, (value, known) in options.items():
        if value not in known:
            raise ValueError(f"{caller}: {name} must be one of {known}, got {value!r}")

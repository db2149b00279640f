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
    if hasattr(array, "is_floating_point"):
        return array.is_floating_point() or array.is_complex()
    return array.dtype.kind in "fc"


def widened(array: Any) -> Any:
    """Half precision as single, in which sums keep their digits."""
    if hasattr(array, "element_size"):
        return array.float() if array.element_size() < 4 else array
    return array.astype(np.float32) if array.dtype.itemsize < 4 else array


def empty_like(array: Any) -> Any:
    """A new array of the same shape, kind and place."""
    return array.new_empty(array.shape) if hasattr(array, "new_empty") else np.empty_like(array)


def broadcast_weight(name: str, weight: Any, like: Any) -> Any:
    """A weight as an array of the kind, place and shape of a tensor."""
    wide = widened(like)
    if hasattr(like, "new_tensor"):
        is_tensor = hasattr(weight, "detach")
        weight = weight.detach().to(wide) if is_tensor else wide.new_tensor(np.asarray(weight))
    else:
        weight = np.asarray(weight.detach().cpu() if hasattr(weight, "detach") else weight)
        weight = weight.astype(np.result_type(wide, np.float32), copy=False)
    try:
        if hasattr(weight, "broadcast_to"):
            return weight.broadcast_to(like.shape)
        return np.broadcast_to(weight, like.shape)
    except (ValueError, RuntimeError):
        raise ValueError(
            f"average_parameters: weights of {name!r} have shape {tuple(weight.shape)}, the tensor "
            f"{tuple(like.shape)}; pass a number or an array that broadcasts to it"
        ) from None


def flat_or_same(arrays: list[Any]) -> list[Any]:
    """One-dimensional views if all arrays allow it, else the arrays."""
    contiguous = all(
        a.is_contiguous() if hasattr(a, "is_contiguous") else a.flags.c_contiguous for a in arrays
    )
    return [a.reshape(-1) for a in arrays] if contiguous and arrays[0].ndim else arrays


def row_blocks(shape: Sequence[int], entries: int = BLOCK_ENTRIES) -> Iterator[Any]:
    """Slices of the first axis that hold about so many entries, at least one row."""
    if not len(shape):
        yield ()
        return
    rows = max(1, entries // max(1, math.prod(shape[1:])))
    for start in range(0, shape[0], rows):
        yield slice(start, start + rows)


def check_names(parameters: Sequence[Parameters], caller: str) -> None:
    """Refuse mappings with other names than the first."""
    names = set(parameters[0])
    for other in parameters[1:]:
        different = sorted(names ^ set(other))
        if different:
            raise ValueError(
                f"{caller}: architecture differs, parameter {different[0]!r} is in some models "
                "only; pass models of one architecture"
            )


def same_shape(name: str, tensors: Sequence[Any], caller: str) -> None:
    """Refuse tensors of unlike shapes."""
    first = tuple(tensors[0].shape)
    for tensor in tensors[1:]:
        if tuple(tensor.shape) != first:
            raise ValueError(
                f"{caller}: architecture differs, parameter {name!r} has shapes {first} and "
                f"{tuple(tensor.shape)}; pass models of one architecture"
            )


def tied_names(parameters: Sequence[Parameters]) -> dict[str, str]:
    """For each name, the first one that shares its storage in every model."""
    if not all(isinstance(p, dict) for p in parameters):
        return {}  # a mapping may load each entry when it is asked for
    seen: dict[tuple, str] = {}
    keys = {name: tuple(_storage(p[name]) for p in parameters) for name in parameters[0]}
    return {name: seen.setdefault(key, name) for name, key in keys.items() if None not in key}


def _storage(array: Any) -> tuple | None:
    if hasattr(array, "data_ptr"):
        return array.data_ptr(), tuple(array.shape), array.stride()
    if isinstance(array, np.ndarray):
        return array.__array_interface__["data"][0], array.shape, array.strides
    return None

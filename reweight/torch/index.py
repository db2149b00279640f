"""Weights looked up by the position of a row in the training set: the bridge from estimators."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike
from sklearn.exceptions import NotFittedError
from torch import Tensor
from torch.utils.data import Dataset, IterableDataset

from reweight.torch.base import LossWeighter
from reweight.validation import check_weights
from reweight.weighters import last_step

WEIGHT_ATTRIBUTES = ("weights_", "sample_weight_")


def estimator_weights(estimator: Any, attr: str | None = None) -> Any:
    """The weights that a fitted estimator holds.

    Parameters
    ----------
    estimator : estimator
        Fitted weighter, pipeline that ends in one, or `Reweighted`.
    attr : str, default=None
        Attribute with the weights; None looks for `weights_`, then
        `sample_weight_`.

    Returns
    -------
    array-like of shape (n_samples,)

    Raises
    ------
    NotFittedError
        If the estimator has no such attribute.
    """
    holder = last_step(estimator)
    for owner in (holder, getattr(holder, "weighter_", None)):
        for name in WEIGHT_ATTRIBUTES if attr is None else (attr,):
            if owner is not None and hasattr(owner, name):
                return getattr(owner, name)
    sought = " or ".join(WEIGHT_ATTRIBUTES) if attr is None else attr
    raise NotFittedError(
        f"{type(holder).__name__} has no attribute {sought}; fit it first, or name the attribute "
        "that holds its weights by attr="
    )


class IndexWeighter(LossWeighter):
    """Weights known beforehand, one per row of the training set.

    Parameters
    ----------
    weights : array-like of shape (n_samples,), Tensor or dict
        Finite, non-negative weights on any scale, not all zero. A dict maps
        integer keys to weights.
    keys : array-like of int of shape (n_samples,), default=None
        What the rows are called in the `index` that comes with a batch; None
        means by their positions 0, ..., n_samples - 1.
    default : float, default=None
        Weight of rows that are not among the keys; None refuses them.
    normalize : {"dataset", "batch", "deferred", "none"}, default="dataset"
        As in `LossWeighter`. Dividing by the mean weight of the data set keeps
        the gradient unbiased; dividing by the sum of the batch does not, see
        the notes.
    warmup_steps, max_weight, unit, aggregate, on_nonfinite, process_group : optional
        As in `LossWeighter`.

    Attributes
    ----------
    row_weights : Tensor of shape (n_samples,)
        The weights, a float32 buffer, in the order of the keys.
    mean : Tensor of shape ()
        Their mean.

    Raises
    ------
    ValueError
        If weights are negative, not finite or all zero, or keys are repeated.

    Notes
    -----
    The loss divided by the sum of the weights of each batch is a ratio
    estimate, biased by the correlation of that sum with the loss. With weights
    of high variance (gamma of shape 0.3, correlated with what is averaged,
    whose weighted mean is -0.122) the mean over batches of 4, 16, 64 and 256
    rows is off by -0.382, -0.094, -0.023 and -0.005; divided by the mean weight
    of the data set it is exact.

    On an accelerator, and in compiled code, a check of the index would wait for
    the device; an unknown one makes the loss NaN there.

    Examples
    --------
    >>> import torch
    >>> from reweight.torch import IndexWeighter
    >>> weigh = IndexWeighter([0.5, 1.0, 1.5])
    >>> weigh(torch.tensor([2.0, 4.0]), index=torch.tensor([0, 2]))
    tensor(3.5000)
    """

    row_weights: Tensor
    mean: Tensor
    keys: Tensor | None

    def __init__(
        self,
        weights: ArrayLike | Tensor | Mapping[int, float],
        *,
        keys: ArrayLike | Tensor | None = None,
        default: float | None = None,
        normalize: str = "dataset",
        warmup_steps: int = 0,
        max_weight: float | tuple[str, float] | None = None,
        unit: str = "row",
        aggregate: str = "row",
        on_nonfinite: str = "ignore",
        process_group: Any = None,
    ) -> None:
        super().__init__(
            normalize=normalize,
            warmup_steps=warmup_steps,
            max_weight=max_weight,
            unit=unit,
            aggregate=aggregate,
            on_nonfinite=on_nonfinite,
            process_group=process_group,
        )
        if isinstance(weights, Mapping):
            if keys is not None:
                raise ValueError("IndexWeighter: weights is a dict and keys are given; pass one")
            keys, weights = list(weights.keys()), list(weights.values())
        values = _as_weights(weights, named=keys is not None)
        if default is not None:
            default = float(check_weights([default], name="default")[0])
        self.default = default
        self.register_buffer("keys", None)
        if keys is not None:
            keys, order = _sorted_keys(keys, values.size)
            self.keys, values = torch.from_numpy(keys), values[order]
        self.register_buffer("row_weights", torch.tensor(values, dtype=torch.float32))
        self.register_buffer("mean", torch.tensor(values.mean(), dtype=torch.float32))

    @classmethod
    def from_estimator(
        cls, estimator: Any, *, attr: str | None = None, **settings: Any
    ) -> "IndexWeighter":
        """Take the weights of a fitted estimator.

        Parameters
        ----------
        estimator : estimator
            Fitted weighter, pipeline that ends in one, or `Reweighted`.
        attr : str, default=None
            Attribute with the weights; None looks for `weights_`, then
            `sample_weight_`.
        **settings : Any
            Further arguments of `IndexWeighter`.

        Returns
        -------
        IndexWeighter

        Examples
        --------
        >>> import numpy as np
        >>> from reweight.torch import IndexWeighter
        >>> from shift import ULSIF
        >>> X = np.linspace(0.0, 1.0, 20)[:, None]
        >>> weighter = ULSIF(random_state=0).fit(X, X_target=(X[10:],))
        >>> IndexWeighter.from_estimator(weighter)
        IndexWeighter(n_samples=20)
        """
        return cls(estimator_weights(estimator, attr), **settings)

    def raw_weights(
        self,
        loss: Tensor,
        *,
        index: Tensor | None = None,
        mask: Tensor | None = None,
        **context: Any,
    ) -> Tensor:
        """The stored weights of the rows of a batch.

        Parameters
        ----------
        loss : Tensor
            Losses, of which only the device matters.
        index : Tensor of int of shape (n_rows,)
            Position or key of each row.
        mask : Tensor of bool, default=None
            Active items; the index of others may be anything.
        **context : Tensor
            Not used.

        Returns
        -------
        Tensor in the shape of `index`

        Raises
        ------
        ValueError
            If the index is missing or unknown.
        TypeError
            If the index is not of integers.
        """
        if index is None:
            raise ValueError(
                "IndexWeighter: index is missing; pass index=..., and wrap the data set in "
                "WithIndex to get it with each batch"
            )
        index = self._as_index(index)
        position, found = self._positions(index)
        if (
            not torch.compiler.is_compiling()
            and index.device.type == "cpu"
            and self.default is None
        ):
            self._refuse_unknown(index, found, mask)
            weights = self.row_weights[position]
        else:
            other = float("nan") if self.default is None else self.default
            weights = torch.where(found, self.row_weights[position], other)
        return weights.to(loss.device)

    def dataset_mean(self) -> Tensor:
        """Mean of the stored weights.

        Returns
        -------
        Tensor of shape ()
        """
        return self.mean

    @torch.no_grad()
    def update(self, index: Tensor, values: Tensor, momentum: float = 0.0) -> None:
        """Move stored weights towards new ones, as in a history of losses.

        Each process of a distributed run updates its own copy.

        Parameters
        ----------
        index : Tensor of int of shape (n_rows,)
            Position or key of rows, each at most once.
        values : Tensor of shape (n_rows,)
            New non-negative weights.
        momentum : float, default=0.0
            Share of the old weight that is kept, at least 0 and below 1.

        Raises
        ------
        ValueError
            If the index is unknown, a weight is negative or NaN, or `momentum`
            is out of range.
        """
        if not 0.0 <= momentum < 1.0:
            raise ValueError(f"IndexWeighter: momentum={momentum}; it must lie in [0, 1)")
        index = self._as_index(index)
        position, found = self._positions(index)
        self._refuse_unknown(index, found, None)
        values = torch.as_tensor(values).detach().to(self.row_weights)
        n_bad = int((~(torch.isfinite(values) & (values >= 0))).sum())
        if n_bad:
            raise ValueError(
                f"IndexWeighter: {n_bad} of {values.numel()} new weights are negative, NaN or "
                "infinite; weights must be finite and non-negative"
            )
        self.row_weights[position] = torch.lerp(values, self.row_weights[position], momentum)
        self.mean.copy_(self.row_weights.mean(dtype=torch.float64))

    def _as_index(self, index: Any) -> Tensor:
        index = torch.as_tensor(index, device=self.row_weights.device)
        if index.is_floating_point() or index.is_complex() or index.dtype == torch.bool:
            raise TypeError(f"IndexWeighter: index has dtype {index.dtype}; pass integers")
        return index.long()

    def _positions(self, index: Tensor) -> tuple[Tensor, Tensor]:
        """Where the weight of each row is stored, and whether there is one."""
        last = self.row_weights.numel() - 1
        if self.keys is None:
            position = index.clamp(0, last)
            return position, position == index
        position = torch.searchsorted(self.keys, index).clamp_max(last)
        return position, self.keys[position] == index

    def _refuse_unknown(self, index: Tensor, found: Tensor, mask: Tensor | None) -> None:
        if bool(found.all()):
            return
        unknown = ~found
        if mask is not None:
            shape = found.shape + (1,) * (mask.dim() - found.dim())
            unknown = (unknown.reshape(shape) & mask.to(found.device)).flatten(found.dim() - 1)
            unknown = unknown.any(-1) if unknown.dim() > found.dim() else unknown
        n_unknown = int(unknown.sum())
        if n_unknown:
            example = int(index.expand(unknown.shape)[unknown][0])
            known = f"0 to {self.row_weights.numel() - 1}" if self.keys is None else "the keys"
            raise ValueError(
                f"IndexWeighter: {n_unknown} of {index.numel()} rows have no weight, for example "
                f"index {example}; it holds {self.row_weights.numel()} weights for {known}; pass "
                "the index into the same training set, or default= for unknown rows"
            )

    def extra_repr(self) -> str:
        """Number of weights and settings that are not the default.

        Returns
        -------
        str
        """
        default = "" if self.default is None else f", default={self.default}"
        return f"n_samples={self.row_weights.numel()}{default}, {super().extra_repr()}".strip(", ")


class WithIndex(Dataset):
    """A map-style data set that also yields the position of each item.

    Positions are those in the wrapped data set: wrap before taking a subset to
    keep those of the full one.

    Parameters
    ----------
    dataset : Dataset
        Anything with a length and items by position.

    Raises
    ------
    TypeError
        If the data set has no items by position.

    Notes
    -----
    A tuple or list ``(x, y)`` becomes ``(index, x, y)``, a dict gets the entry
    "index", anything else becomes ``(index, item)``.

    Examples
    --------
    >>> from reweight.torch import WithIndex
    >>> WithIndex([("a", 0), ("b", 1)])[1]
    (1, 'b', 1)
    """

    def __init__(self, dataset: Any) -> None:
        if isinstance(dataset, IterableDataset) or not (
            hasattr(dataset, "__getitem__") and hasattr(dataset, "__len__")
        ):
            raise TypeError(
                f"WithIndex: {type(dataset).__name__} has no items by position; pass a map-style "
                "data set, or yield the index from your own iterable one"
            )
        self.dataset = dataset

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> Any:
        return self._joined(index, self.dataset[index])

    def __getitems__(self, indices: list[int]) -> list:
        if hasattr(self.dataset, "__getitems__"):
            items = self.dataset.__getitems__(indices)
        else:
            items = [self.dataset[index] for index in indices]
        return [self._joined(index, item) for index, item in zip(indices, items, strict=True)]

    def _joined(self, index: int, item: Any) -> Any:
        index = index + len(self) if index < 0 else index
        if isinstance(item, Mapping):
            if "index" in item:
                raise ValueError(
                    "WithIndex: the items have an entry 'index' already; rename it, or pass it on "
                    "as it is if it is the position"
                )
            return {**item, "index": index}
        if isinstance(item, tuple | list):
            return (index, *item)
        return (index, item)


def _as_weights(weights: Any, *, named: bool) -> np.ndarray:
    """Weights as a checked float64 array."""
    if isinstance(weights, Tensor):
        weights = weights.detach().cpu().double().numpy()
    elif not named and _has_labels(weights):
        raise ValueError(
            "IndexWeighter: weights is a Series whose index is not 0, ..., n - 1; pass "
            "keys=series.index to look rows up by label, or series.to_numpy() for positions"
        )
    try:
        values = check_weights(weights)
    except ValueError as error:
        raise ValueError(f"IndexWeighter: {error}") from None
    if not values.any():
        raise ValueError(f"IndexWeighter: all {values.size} weights are zero; one must be positive")
    return values


def _has_labels(weights: Any) -> bool:
    """Whether this is a pandas series with labels other than its positions."""
    labels = getattr(weights, "index", None)
    if labels is None or callable(labels):
        return False
    return not np.array_equal(np.asarray(labels), np.arange(len(weights)))


def _sorted_keys(keys: Any, n_weights: int) -> tuple[np.ndarray, np.ndarray]:
    """Distinct integer keys in order, and the order that sorts them."""
    keys = keys.cpu().numpy() if isinstance(keys, Tensor) else np.asarray(keys)
    if keys.dtype.kind not in "iu":
        raise TypeError(
            f"IndexWeighter: keys have dtype {keys.dtype}; pass integers, and map other labels to "
            "positions yourself (WithIndex yields positions)"
        )
    if keys.shape != (n_weights,):
        raise ValueError(
            f"IndexWeighter: keys have shape {keys.shape} but there are {n_weights} weights; pass "
            "one key per weight"
        )
    order = np.argsort(keys, kind="stable")
    keys = keys[order].astype(np.int64)
    repeated = keys[1:][keys[1:] == keys[:-1]]
    if repeated.size:
        raise ValueError(
            f"IndexWeighter: {repeated.size} keys are repeated, for example {repeated[0]}; each "
            "row needs a key of its own"
        )
    return keys, order

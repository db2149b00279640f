"""Robust weight signatures: what training on corrupted data adds, as a patch."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from reweight.parameters._tensors import is_floating, shared_tensors, widened
from reweight.parameters.views import get_parameters, set_parameters


@dataclass(frozen=True)
class WeightSignature:
    r"""What a robust fit has that a clean fit has not, ready to be added to other models.

    With u the offset of the clean fit from their common start and d that of the
    robust fit, a tensor's signature is :math:`d - (u'd / u'u) u`.

    Parameters
    ----------
    offsets : mapping of str to array
        What to add to each tensor; `from_models` computes it.

    References
    ----------
    Cai, R., Zhang, Z., Wang, Z. (2023). Robust weight signatures: gaining
    robustness as easy as patching weights? ICML.

    Examples
    --------
    >>> import numpy as np
    >>> from reweight import WeightSignature
    >>> base, clean, robust = ({"w": np.array(w)} for w in ([0.0, 0.0], [1.0, 0.0], [2.0, 3.0]))
    >>> signature = WeightSignature.from_models(base, clean, robust)
    >>> signature.apply(clean, strength=0.5)["w"]
    array([1. , 1.5])
    """

    offsets: Mapping[str, Any]

    @classmethod
    def from_models(
        cls, base: Any, clean: Any, robust: Any, *, n_layers: int | None = None
    ) -> "WeightSignature":
        """Signature of a robust fit against a clean one.

        Parameters
        ----------
        base : model
            What both fits started from: whatever `get_parameters` takes.
        clean : model
            Fit to clean data.
        robust : model
            Fit to corrupted data.
        n_layers : int, default=None
            Number of layers, the first ones that have a matrix or kernel, to
            keep with their biases; None keeps every tensor.

        Returns
        -------
        WeightSignature

        Raises
        ------
        ValueError
            If the models differ in architecture, or `n_layers` is not positive.
        """
        if n_layers is not None and n_layers < 1:
            raise ValueError(f"WeightSignature: n_layers must be at least 1, got {n_layers}")
        parameters = [get_parameters(model) for model in (base, clean, robust)]
        kept, offsets = _first_layers(parameters[0], n_layers), {}
        for name, tensors in shared_tensors(parameters, "WeightSignature"):
            if name in kept and is_floating(tensors[0]):
                start, *ends = map(widened, tensors)
                u, d = (end - start for end in ends)
                length = float((u * u).sum())
                offsets[name] = d - float((u * d).sum()) / length * u if length > 0 else d
        return cls(offsets)

    def apply(self, target: Any, strength: float = 1.0) -> Any:
        """A copy of a model with the signature added.

        Parameters
        ----------
        target : model
            Model of the same architecture. Running statistics of its batch
            normalisation should be estimated anew afterwards.
        strength : float, default=1.0
            Multiple of the signature; its negative takes it off again.

        Returns
        -------
        model
        """
        parameters = dict(get_parameters(target))
        patched = {name: parameters[name] for name in self.offsets if name in parameters}
        for name, (tensor, offset) in shared_tensors([patched, self.offsets], "WeightSignature"):
            total = widened(tensor) + strength * offset
            is_tensor = hasattr(total, "to")
            parameters[name] = total.to(tensor) if is_tensor else total.astype(tensor.dtype)
        return set_parameters(target, parameters)

    def quantize(self, n_values: int) -> "WeightSignature":
        """The signature with few distinct values a tensor, evenly spaced.

        Parameters
        ----------
        n_values : int
            Number of values, at least 2. No entry moves by more than half a step.

        Returns
        -------
        WeightSignature
        """
        if n_values < 2:
            raise ValueError(f"WeightSignature: n_values must be at least 2, got {n_values}")
        quantized = {}
        for name, offset in self.offsets.items():
            lowest = float(offset.min())
            step = (float(offset.max()) - lowest) / (n_values - 1)
            quantized[name] = lowest + step * ((offset - lowest) / (step or 1.0)).round()
        return type(self)(quantized)

    def __add__(self, other: "WeightSignature") -> "WeightSignature":
        if not isinstance(other, WeightSignature):
            return NotImplemented
        common = {name: other.offsets[name] + self.offsets.get(name, 0) for name in other.offsets}
        return type(self)({**self.offsets, **common})


def _first_layers(parameters: Mapping[str, Any], n_layers: int | None) -> set[str]:
    """Names of all tensors, or of the first layers that have a matrix or kernel."""

    def layer(name: str) -> str:
        """What the names of a layer's weights and biases share."""
        head, _, tail = name.rpartition(".")
        return tail if head in ("coefs_", "intercepts_") else head

    layers = dict.fromkeys(layer(n) for n, tensor in parameters.items() if tensor.ndim >= 2)
    kept = list(layers)[:n_layers]
    return {name for name in parameters if n_layers is None or layer(name) in kept}

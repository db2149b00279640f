"""Models on the way between an old and a new one."""

from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reweight.parameters._class_rows import classes_differ
from reweight.parameters.averaging import average_parameters
from reweight.parameters.views import final_estimator, get_parameters

Array = NDArray[np.float64]


class Interpolation:
    """Called with the weight of the old model, gives the model in between.

    Parameters
    ----------
    old : classifier
        Fitted model whose weight is α.
    new : classifier
        Fitted model whose weight is 1 - α.
    importance : dict of str to ndarray or None
        Factor of α for each parameter.
    """

    def __init__(self, old: Any, new: Any, importance: dict[str, Any] | None) -> None:
        self.old, self.new, self.importance = old, new, importance

    def __call__(self, alpha: float) -> Any:
        """The model with weight alpha of the old one."""
        if self.importance is None:
            return average_parameters([self.old, self.new], [alpha, 1 - alpha])
        kept = {name: alpha * np.asarray(value) for name, value in self.importance.items()}
        fresh = dict.fromkeys(get_parameters(self.new), 1 - alpha)
        return average_parameters([self.old, self.new], [kept, fresh])

    def predictions(self, grid: Array, X: Any) -> list[NDArray]:
        """Predictions for each weight of the old model."""
        linear = all(
            hasattr(final_estimator(m), "coef_") and hasattr(m, "decision_function")
            for m in (self.old, self.new)
        )
        if self.importance is not None or classes_differ([self.old, self.new]) or not linear:
            return [self(alpha).predict(X) for alpha in grid]
        # Decision values are linear in the parameters: two products do for the whole path.
        Z_old, Z_new = self.old.decision_function(X), self.new.decision_function(X)
        classes = final_estimator(self.old).classes_
        found = []
        for alpha in grid:
            Z = alpha * Z_old + (1 - alpha) * Z_new
            found.append(classes[(Z > 0).astype(int) if Z.ndim == 1 else Z.argmax(axis=1)])
        return found

    def distance(self, alpha: float) -> float:
        """Euclidean distance of the parameters from those of weight one."""
        if self.importance is None:
            return (1 - alpha) * self._length
        return self._distance_from_old(alpha)

    @cached_property
    def _end(self) -> Any:
        return get_parameters(self(1.0))

    @cached_property
    def _length(self) -> float:
        return self._distance_from_old(0.0)

    def _distance_from_old(self, alpha: float) -> float:
        merged = get_parameters(self(alpha))
        return float(np.sqrt(sum(np.sum((merged[n] - self._end[n]) ** 2) for n in self._end)))

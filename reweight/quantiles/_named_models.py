"""Parameters of named base models as parameters of what holds them."""

from typing import Any, Self

from sklearn.base import BaseEstimator
from sklearn.utils import Tags, get_tags


class NamedModels(BaseEstimator):
    """An estimator with a list `estimators` of (name, estimator), whose parameters it shows."""

    estimators: list[tuple[str, Any]]

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """Parameters, with the base models and theirs by name.

        Parameters
        ----------
        deep : bool, default=True
            Whether to include those of the base models and the aggregator.

        Returns
        -------
        dict
        """
        parameters = super().get_params(deep=deep)
        for name, estimator in self._pairs() if deep else ():
            parameters[name] = estimator
            if hasattr(estimator, "get_params"):
                inner = estimator.get_params(deep=True)
                parameters.update({f"{name}__{key}": value for key, value in inner.items()})
        return parameters

    def set_params(self, **params: Any) -> Self:
        """Set parameters; the name of a base model replaces it.

        Parameters
        ----------
        **params : dict
            Such as `linear__alpha=0.1`, or `linear="drop"`.

        Returns
        -------
        NamedModels
            The stack itself.
        """
        if "estimators" in params:
            self.estimators = params.pop("estimators")
        names = [name for name, _ in self._pairs()]
        replaced = {name: params.pop(name) for name in names if name in params}
        if replaced:
            self.estimators = [
                (name, replaced.get(name, estimator)) for name, estimator in self.estimators
            ]
        return super().set_params(**params)

    def _pairs(self) -> list[tuple[str, Any]]:
        """Names and estimators, as far as they are well formed."""
        estimators = self.estimators if isinstance(self.estimators, list | tuple) else []
        return [pair for pair in estimators if isinstance(pair, tuple | list) and len(pair) == 2]

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.target_tags.required = True
        parts = [
            get_tags(estimator).input_tags
            for _, estimator in self._pairs()
            if hasattr(estimator, "fit") and not isinstance(estimator, type)
        ]
        tags.input_tags.sparse = bool(parts) and all(part.sparse for part in parts)
        tags.input_tags.allow_nan = bool(parts) and all(part.allow_nan for part in parts)
        return tags

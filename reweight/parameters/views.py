"""Parameters of fitted models as plain dictionaries of arrays."""

from collections.abc import Mapping, Sequence
from copy import deepcopy
from typing import Any

import joblib
import numpy as np
from sklearn.base import is_classifier
from sklearn.frozen import FrozenEstimator
from sklearn.pipeline import Pipeline
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted

from reweight.parameters._tensors import Parameters

# Attributes of a layer each, in a list, and single ones.
LISTS, ARRAYS = ("coefs_", "intercepts_"), ("coef_", "intercept_")


def get_parameters(model: Any) -> dict[str, Any]:
    """Parameters of a fitted model by name, as views where the model stores arrays.

    Parameters
    ----------
    model : mapping, module or estimator
        A mapping of names to arrays (returned as it is), an object with
        `state_dict()` and `load_state_dict()` such as a torch module, a fitted
        scikit-learn estimator that stores `coefs_` and `intercepts_` or `coef_`,
        or a Pipeline that ends in one. A `FrozenEstimator` is looked into.

    Returns
    -------
    dict of str to array
        Such as "coef_" and "intercept_", or "coefs_.0", "intercepts_.0" and so on.

    Raises
    ------
    TypeError
        If the model has no parameters that can be averaged, as trees.
    NotFittedError
        If it is not fitted.

    Examples
    --------
    >>> from reweight import get_parameters
    >>> from sklearn.linear_model import LinearRegression
    >>> model = LinearRegression().fit([[0.0], [1.0]], [1.0, 3.0])
    >>> {name: value.round(6).tolist() for name, value in get_parameters(model).items()}
    {'coef_': [2.0], 'intercept_': 1.0}
    """
    if isinstance(model, Mapping):
        return model
    if _is_module(model):
        return dict(model.state_dict())
    model = final_estimator(model)
    stored = getattr(model, "__dict__", {})  # an attribute that is computed cannot be set
    if "coefs_" in stored:
        return {f"{name}.{i}": a for name in LISTS for i, a in enumerate(stored[name])}
    if "coef_" in stored:
        return {name: np.asarray(stored[name]) for name in ARRAYS if name in stored}
    if hasattr(model, "fit"):
        check_is_fitted(model)
    raise TypeError(
        f"get_parameters: {type(model).__name__} has no coef_, coefs_ or state_dict to average"
    )


def set_parameters(model: Any, parameters: Parameters) -> Any:
    """A deep copy of a model with other parameters; the model itself stays as it is.

    Parameters
    ----------
    model : mapping, module or estimator
        As for `get_parameters`.
    parameters : mapping of str to array
        New values, under the names that `get_parameters` gives.

    Returns
    -------
    model
        Of the same kind.

    Raises
    ------
    ValueError
        If names differ from the model's.

    Examples
    --------
    >>> import numpy as np
    >>> from reweight import set_parameters
    >>> from sklearn.linear_model import LinearRegression
    >>> model = LinearRegression().fit([[0.0], [1.0]], [1.0, 3.0])
    >>> changed = set_parameters(model, {"coef_": np.array([5.0]), "intercept_": 0.0})
    >>> changed.predict([[1.0]]), model.predict([[1.0]]).round(6)
    (array([5.]), array([3.]))
    """
    different = sorted(set(get_parameters(model)) ^ set(parameters))
    if different:
        raise ValueError(
            f"set_parameters: parameter {different[0]!r} is in one of model and parameters only"
        )
    if isinstance(model, Mapping):
        return dict(parameters)
    copy = deepcopy(model)
    if _is_module(copy):
        copy.load_state_dict(parameters)
        return copy
    last = final_estimator(copy)
    for name in parameters:
        attribute, _, layer = name.partition(".")
        value = np.array(parameters[name])
        if layer:
            getattr(last, attribute)[int(layer)] = value
        else:
            setattr(last, attribute, value if value.ndim else float(value))
    return copy


def final_estimator(model: Any) -> Any:
    """The estimator that holds the parameters: past FrozenEstimator and Pipeline."""
    while isinstance(model, FrozenEstimator | Pipeline):
        model = model.estimator if isinstance(model, FrozenEstimator) else model.steps[-1][1]
    return model


def preprocessing_steps(model: Any) -> list[Any]:
    """Steps of a pipeline before the last; none for anything else."""
    while isinstance(model, FrozenEstimator):
        model = model.estimator
    return [step for _, step in model.steps[:-1]] if isinstance(model, Pipeline) else []


def check_models(models: Sequence[Any], caller: str) -> None:
    """Refuse none, and models that read other features or the same after other preprocessing."""
    if not models:
        raise ValueError(f"{caller}: pass at least one model")
    for name in ("n_features_in_", "feature_names_in_"):
        seen = [str(np.asarray(getattr(m, name)).tolist()) for m in models if hasattr(m, name)]
        if len(set(seen)) > 1:
            raise ValueError(
                f"{caller}: models differ in {name}, {' and '.join(dict.fromkeys(seen))}; fit all "
                "of them on the same features in the same order"
            )
    first, *others = [preprocessing_steps(model) for model in models]
    for steps in others:
        if steps != first and [joblib.hash(s) for s in steps] != [joblib.hash(s) for s in first]:
            raise ValueError(
                f"{caller}: the fitted preprocessing of the pipelines differs, so their "
                "coefficients are in different units; fit the preprocessing once and share it"
            )


def check_classifiers(models: Sequence[Any], caller: str) -> None:
    """Refuse what is no classifier, not fitted, or without parameters."""
    for model in models:
        if not is_classifier(model):
            raise TypeError(f"{caller}: {type(model).__name__} is no classifier")
        check_is_fitted(model)
        get_parameters(model)


def check_responses(estimator: Any, y: Any) -> None:
    """Refuse none, and for a classifier what are no classes."""
    name = type(estimator).__name__
    if y is None:
        raise ValueError(f"{name}: requires y to be passed, but the target y is None")
    if is_classifier(estimator):
        check_classification_targets(y)


def is_linear(model: Any) -> bool:
    """Whether decision values are linear in the parameters."""
    return hasattr(final_estimator(model), "coef_")


def copy_attributes(model: Any, estimator: Any) -> None:
    """Give an estimator the classes and features that a fitted model knows."""
    for name in ("classes_", "n_features_in_", "feature_names_in_"):
        if hasattr(model, name):
            setattr(estimator, name, getattr(model, name))


def _is_module(model: Any) -> bool:
    return hasattr(model, "state_dict") and hasattr(model, "load_state_dict")

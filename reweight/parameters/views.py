"""Parameters of fitted models as plain dictionaries of arrays."""

from collections.abc import Mapping, Sequence
from copy import deepcopy
from typing import Any

import joblib
import numpy as np
from sklearn.frozen import FrozenEstimator
from sklearn.pipeline import Pipeline
from sklearn.utils.validation import check_is_fitted

from reweight.parameters._tensors import Parameters


def get_parameters(model: Any) -> dict[str, Any]:
    """Parameters of a fitted model by name, as views where the model stores arrays.

    Parameters
    ----------
    model : mapping, module or estimator
        A mapping of names to arrays (returned as it is), an object with
        `state_dict()` and `load_state_dict()` such as a torch module, a fitted
        scikit-learn estimator with `coefs_` and `intercepts_` or with `coef_`,
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
    if hasattr(model, "coefs_") and hasattr(model, "intercepts_"):
        names = ("coefs_", "intercepts_")
        return {f"{name}.{i}": a for name in names for i, a in enumerate(getattr(model, name))}
    if hasattr(model, "coef_"):
        names = [name for name in ("coef_", "intercept_") if hasattr(model, name)]
        return {name: np.asarray(getattr(model, name)) for name in names}
    if hasattr(model, "fit"):
        check_is_fitted(model)
    raise TypeError(
        f"get_parameters: {type(model).__name__} has no coef_, coefs_ or state_dict; only models "
        "that are described by arrays of parameters can be averaged"
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
    TypeError
        If the model computes its parameters and cannot be given others.

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
            f"set_parameters: parameter {different[0]!r} is in one of model and parameters only; "
            "pass those of a model of the same architecture"
        )
    if isinstance(model, Mapping):
        return dict(parameters)
    copy = deepcopy(model)
    if _is_module(copy):
        copy.load_state_dict(parameters)
        return copy
    last = final_estimator(copy)
    try:
        for name in ("coefs_", "intercepts_"):
            if f"{name}.0" in parameters:
                arrays = [
                    np.array(parameters[f"{name}.{i}"]) for i in range(len(getattr(last, name)))
                ]
                setattr(last, name, arrays)
        for name in {"coef_", "intercept_"} & set(parameters):
            value = np.array(parameters[name])
            setattr(last, name, float(value) if value.ndim == 0 else value)
    except AttributeError as error:
        raise TypeError(
            f"set_parameters: {type(last).__name__} computes its parameters ({error}); use a "
            "linear model that stores them, such as LinearSVC for SVC"
        ) from error
    return copy


def final_estimator(model: Any) -> Any:
    """The estimator that holds the parameters: past FrozenEstimator and Pipeline.

    Parameters
    ----------
    model : estimator
        Estimator.

    Returns
    -------
    estimator
    """
    while isinstance(model, FrozenEstimator | Pipeline):
        model = model.estimator if isinstance(model, FrozenEstimator) else model.steps[-1][1]
    return model


def preprocessing_steps(model: Any) -> list[Any]:
    """Steps of a pipeline before the last; none for anything else.

    Parameters
    ----------
    model : estimator
        Estimator.

    Returns
    -------
    list of transformers
    """
    while isinstance(model, FrozenEstimator):
        model = model.estimator
    return [step for _, step in model.steps[:-1]] if isinstance(model, Pipeline) else []


def check_same_inputs(models: Sequence[Any], caller: str) -> None:
    """Refuse models that read other features, or the same ones after other preprocessing.

    Parameters
    ----------
    models : sequence of models
        Models.
    caller : str
        Whom an error message names.

    Raises
    ------
    ValueError
        If features or fitted preprocessing differ.
    """
    for name in ("n_features_in_", "feature_names_in_"):
        seen = [list(np.atleast_1d(getattr(m, name))) for m in models if hasattr(m, name)]
        for value in seen[1:]:
            if value != seen[0]:
                raise ValueError(
                    f"{caller}: models differ in {name}, {_short(seen[0])} and {_short(value)}; "
                    "fit all of them on the same features in the same order"
                )
    first, *others = [preprocessing_steps(model) for model in models]
    for steps in others:
        same = len(steps) == len(first) and all(
            a is b or _fingerprint(a) == _fingerprint(b) for a, b in zip(first, steps, strict=True)
        )
        if not same:
            raise ValueError(
                f"{caller}: the fitted preprocessing of the pipelines differs, so their "
                "coefficients are in different units; fit the preprocessing once and share it"
            )


def _fingerprint(step: Any) -> Any:
    """Hash of the whole state of a step; the step itself if it cannot be pickled."""
    try:
        return joblib.hash(step)
    except Exception:  # pickling runs the step's own code, which may raise anything
        return step


def _short(values: list) -> str:
    return str(values[0]) if len(values) == 1 else f"[{', '.join(map(str, values[:5]))}, ...]"


def _is_module(model: Any) -> bool:
    return hasattr(model, "state_dict") and hasattr(model, "load_state_dict")

"""Get weights out of any weighter: alone, at the end of a pipeline, or fitted and frozen."""

from inspect import Parameter, signature
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.frozen import FrozenEstimator
from sklearn.pipeline import Pipeline

from reweight.normalization import normalize_weights
from reweight.validation import count_rows, metadata_requests, routing_enabled, unwrap_target
from reweight.weighted_fit import transform_front

# Metadata that are rows of features, which the steps before a weighter must transform like X.
FEATURE_METADATA = frozenset({"X_target", "X_val"})


def last_step(weighter: Any) -> Any:
    """The weighter itself, without the pipeline or the frozen estimator around it.

    Parameters
    ----------
    weighter : estimator
        Weighter, pipeline that ends in one, or either of them frozen.

    Returns
    -------
    estimator
    """
    if isinstance(weighter, FrozenEstimator):
        return last_step(weighter.estimator)
    if isinstance(weighter, Pipeline):
        return last_step(weighter.steps[-1][1])
    return weighter


def needs_treatment(weighter: Any) -> bool:
    """Whether the weights balance treatment arms.

    Parameters
    ----------
    weighter : estimator
        Weighter, pipeline that ends in one, or either of them frozen.

    Returns
    -------
    bool
    """
    return getattr(last_step(weighter), "_needs_treatment", False)


def check_weighter_metadata(
    weighter: Any, params: dict[str, Any], sample_weight: ArrayLike | None, *, owner: str
) -> dict[str, Any]:
    """Metadata under the names that the weighter has for them, before any work.

    Parameters
    ----------
    weighter : estimator
        Weighter, pipeline that ends in one, or either of them frozen.
    params : dict
        Metadata by the names that a user gave, which may be aliases while
        metadata routing is on.
    sample_weight : array-like of shape (n_samples,) or None
        Sampling weights.
    owner : str
        Who is asking, for error messages.

    Returns
    -------
    dict
        What to hand to `fit_weights`.

    Raises
    ------
    TypeError
        If the weighter does not know the metadata.
    ValueError
        If it cannot take the sampling weights, or treatment is missing.
    """
    weighter = last_step(weighter)
    kind = type(weighter).__name__
    if routing_enabled():
        aliases = metadata_requests(weighter, "fit")
        names = {alias: name for name, alias in aliases.items() if isinstance(alias, str)}
        params = {names.get(name, name): value for name, value in params.items()}
    known = signature(weighter.fit).parameters
    if not any(parameter.kind is Parameter.VAR_KEYWORD for parameter in known.values()):
        unknown = sorted(set(params) - set(known))
        if unknown:
            taken = sorted(set(known) - {"X", "y", "sample_weight"})
            raise TypeError(
                f"{owner}: fit got unexpected arguments {unknown}; besides sample_weight, the fit "
                f"of {kind} takes {taken}"
            )
        if sample_weight is not None and "sample_weight" not in known:
            raise ValueError(
                f"{owner}: sample_weight was passed, but the fit of {kind} takes none; leave it "
                "out, or choose a weighter that takes it"
            )
    if needs_treatment(weighter) and params.get("treatment") is None:
        raise ValueError(
            f"{owner}: {kind} balances treatment arms, and fit got no treatment; without it the "
            "outcome y would be balanced; pass fit(X, y, treatment=treatment)"
        )
    return params


def fit_weights(
    weighter: Any,
    X: Any,
    y: Any,
    sample_weight: ArrayLike | None = None,
    *,
    owner: str,
    **params: Any,
) -> NDArray[np.float64]:
    """Fit a weighter and return the weights of the rows.

    In a pipeline, metadata that are rows of features, such as `X_target`, are
    transformed like X, and steps before a weighter of treatment arms see the
    treatment in place of the outcome. A frozen weighter is not fitted; it weighs
    the rows by its `predict_weights`.

    Parameters
    ----------
    weighter : estimator
        Weighter, pipeline that ends in one, or either of them frozen; fitted in
        place.
    X : array-like of shape (n_samples, n_features)
        Features.
    y : array-like or None
        Targets.
    sample_weight : array-like of shape (n_samples,), default=None
        Sampling weights, which the weights then contain.
    owner : str
        Who is asking, for error messages.
    **params : dict
        Metadata for the weighter.

    Returns
    -------
    ndarray of shape (n_samples,)

    Raises
    ------
    ValueError
        If the weighter has no weights, or not one for each row.
    """
    if isinstance(weighter, FrozenEstimator):
        labels = params.get("treatment", y) if needs_treatment(weighter) else y
        weights = weigh_new_rows(weighter, X, labels)
        if weights is None:
            raise ValueError(
                f"{owner}: {type(last_step(weighter)).__name__} is frozen and has no "
                "predict_weights, so that it cannot weigh these rows; pass it unfrozen"
            )
        return normalize_weights(weights, sample_weight=sample_weight)
    n_samples = count_rows(X)
    if isinstance(weighter, Pipeline):
        X, params = _fit_front(weighter, X, y, params)
        weighter = weighter.steps[-1][1]
    if sample_weight is not None:
        params = {**params, "sample_weight": sample_weight}
    weighter.fit(X, y, **params)
    weights = getattr(weighter, "weights_", None)
    if weights is None:
        raise ValueError(
            f"{owner}: {type(weighter).__name__} has no weights_ after fit (perhaps some are "
            "negative); choose a weighter whose weights are not negative"
        )
    weights = np.asarray(weights)
    if weights.shape != (n_samples,):
        raise ValueError(
            f"{owner}: {type(weighter).__name__} gave weights of shape {weights.shape} for "
            f"{n_samples} rows; a weighter gives one per row"
        )
    return weights


def _fit_front(
    pipeline: Pipeline, X: Any, y: Any, params: dict[str, Any]
) -> tuple[Any, dict[str, Any]]:
    """Fit the steps before a weighter; transform X, and metadata that are rows like it."""
    if len(pipeline.steps) == 1:
        return X, params
    front = Pipeline(pipeline.steps[:-1], memory=pipeline.memory)
    X = front.fit_transform(X, params.get("treatment", y) if needs_treatment(pipeline) else y)
    # With memory, the steps that were fitted are copies.
    pipeline.steps[:-1] = front.steps
    names = FEATURE_METADATA.union(getattr(pipeline, "transform_input", None) or ())
    moved = {
        name: front.transform(unwrap_target(value))
        for name, value in params.items()
        if name in names and value is not None
    }
    return X, {**params, **moved}


def weigh_new_rows(weighter: Any, X: Any, y: Any = None) -> NDArray[np.float64] | None:
    """Weights of new rows by a fitted weighter.

    Parameters
    ----------
    weighter : estimator
        Weighter, pipeline that ends in one, or either of them frozen.
    X : array-like of shape (n_samples, n_features)
        Features.
    y : array-like, default=None
        What the weights depend on besides.

    Returns
    -------
    ndarray of shape (n_samples,) or None
        None if the weighter has no function of new rows.
    """
    if not hasattr(last_step(weighter), "predict_weights"):
        return None
    if isinstance(weighter, FrozenEstimator):
        return weigh_new_rows(weighter.estimator, X, y)
    if isinstance(weighter, Pipeline):
        return weigh_new_rows(weighter.steps[-1][1], transform_front(weighter, X), y)
    return weighter.predict_weights(X, y)

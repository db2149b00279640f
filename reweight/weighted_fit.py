"""Hand weights to whatever takes them: an estimator, the last step of a pipeline, a search."""

from inspect import Parameter, signature
from typing import Any

from numpy.typing import ArrayLike
from sklearn.frozen import FrozenEstimator
from sklearn.pipeline import Pipeline
from sklearn.utils.validation import has_fit_parameter

from reweight.validation import metadata_requests, routing_enabled

# What meta-estimators that hand on keywords call the estimators that they fit.
INNER_NAMES = ("estimator", "regressor", "classifier", "base_estimator")


def weight_key(estimator: Any, *, owner: str) -> str:
    """Keyword under which `fit` takes weights while metadata routing is off.

    Parameters
    ----------
    estimator : estimator
        Estimator, pipeline or meta-estimator.
    owner : str
        Who is asking, for the error message.

    Returns
    -------
    str
        "sample_weight", or "<last step>__sample_weight" for a pipeline.

    Raises
    ------
    ValueError
        If the estimator, or the step of it that learns, cannot take weights.

    Examples
    --------
    >>> from sklearn.linear_model import Ridge
    >>> from sklearn.pipeline import make_pipeline
    >>> from sklearn.preprocessing import StandardScaler
    >>> from reweight.weighted_fit import weight_key
    >>> weight_key(make_pipeline(StandardScaler(), Ridge()), owner="Study")
    'ridge__sample_weight'
    """
    if isinstance(estimator, Pipeline):
        name, last = estimator.steps[-1]
        return f"{name}__{weight_key(last, owner=owner)}"
    # A frozen estimator is not fitted at all, with weights or without.
    if isinstance(estimator, FrozenEstimator):
        return "sample_weight"
    members = _members(estimator)
    if members:
        # A stack or vote has one keyword for all, and none may go without.
        for member in members:
            weight_key(member, owner=owner)
        return "sample_weight"
    if has_fit_parameter(estimator, "sample_weight"):
        return "sample_weight"
    for inner in _inner_estimators(estimator):
        return weight_key(inner, owner=owner)
    name = estimator if isinstance(estimator, str) else type(estimator).__name__
    raise ValueError(
        f"{owner}: {name} cannot be weighted, since its fit takes no sample_weight; "
        "choose an estimator that takes sample_weight"
    )


def _members(estimator: Any) -> list[Any]:
    """The estimators of a stack or a vote."""
    named = getattr(estimator, "estimators", None)
    if not isinstance(named, list):
        return []
    return [item[1] for item in named if isinstance(item, tuple) and hasattr(item[1], "fit")]


def _inner_estimators(estimator: Any) -> list[Any]:
    """The estimators to which a meta-estimator hands the keywords of its fit."""
    members = _members(estimator)
    fit = getattr(estimator, "fit", None)
    if members or fit is None:
        return members
    if all(p.kind is not Parameter.VAR_KEYWORD for p in signature(fit).parameters.values()):
        return []
    return [
        inner for name in INNER_NAMES if hasattr(inner := getattr(estimator, name, None), "fit")
    ]


def weighted_fit(
    estimator: Any,
    X: Any,
    y: Any,
    sample_weight: ArrayLike | None,
    *,
    owner: str,
    **params: Any,
) -> Any:
    """Fit an estimator, or a pipeline by its last step, with weights.

    With metadata routing on, the steps that learn ask for the weights and those
    before them do not, wherever the user has not said otherwise; these requests
    are set on `estimator` itself, so pass a clone.

    Parameters
    ----------
    estimator : estimator
        What to fit.
    X : array-like of shape (n_samples, n_features)
        Features.
    y : array-like or None
        Targets.
    sample_weight : array-like of shape (n_samples,) or None
        Weights; None fits without.
    owner : str
        Who is asking, for error messages.
    **params : dict
        Other metadata for `fit`.

    Returns
    -------
    estimator
        The fitted `estimator`.

    Raises
    ------
    ValueError
        If the estimator cannot take weights, or refuses them by its request.

    Examples
    --------
    >>> from sklearn.linear_model import Ridge
    >>> from sklearn.pipeline import make_pipeline
    >>> from sklearn.preprocessing import StandardScaler
    >>> from reweight.weighted_fit import weighted_fit
    >>> model = make_pipeline(StandardScaler(), Ridge())
    >>> X, y = [[0.0], [1.0], [2.0]], [0.0, 0.0, 1.0]
    >>> float(weighted_fit(model, X, y, [1, 1, 0], owner="Study").predict([[5.0]])[0])
    0.0
    """
    if sample_weight is None:
        return estimator.fit(X, y, **params)
    key = weight_key(estimator, owner=owner)
    if routing_enabled():
        _request_weights(estimator, owner)
        key = "sample_weight"
    return estimator.fit(X, y, **params, **{key: sample_weight})


def _request_weights(estimator: Any, owner: str) -> None:
    """Let what learns in an unfitted estimator ask routers for the weights."""
    if isinstance(estimator, FrozenEstimator):
        return
    if isinstance(estimator, Pipeline):
        for _, step in estimator.steps[:-1]:
            _decline_weights(step)
        _request_weights(estimator.steps[-1][1], owner)
        return
    if has_fit_parameter(estimator, "sample_weight"):
        requests = metadata_requests(estimator, "fit")
        if requests.get("sample_weight") is False:
            raise ValueError(
                f"{owner}: {type(estimator).__name__} refuses weights by "
                "set_fit_request(sample_weight=False), and would silently be fitted without; "
                "take that request back"
            )
        if "sample_weight" in requests:
            estimator.set_fit_request(sample_weight=True)
    for inner in _inner_estimators(estimator):
        _request_weights(inner, owner)


def _decline_weights(step: Any) -> None:
    """Let a step that prepares data do without weights, unless the user has asked for them."""
    if not hasattr(step, "get_params") or isinstance(step, FrozenEstimator):
        return
    for part in (step, *step.get_params(deep=True).values()):
        for method in ("fit", "transform"):
            if metadata_requests(part, method).get("sample_weight", False) is None:
                getattr(part, f"set_{method}_request")(sample_weight=False)


def transform_front(pipeline: Pipeline, X: Any) -> Any:
    """What the last step of a fitted pipeline gets to see of new rows.

    Parameters
    ----------
    pipeline : Pipeline
        Fitted pipeline.
    X : array-like of shape (n_samples, n_features)
        Features.

    Returns
    -------
    array-like of shape (n_samples, n_transformed_features)
    """
    for _, step in pipeline.steps[:-1]:
        if step is not None and step != "passthrough":
            X = step.transform(X)
    return X


def weighted_score(
    estimator: Any, X: Any, y: Any, sample_weight: ArrayLike | None, *, owner: str
) -> float:
    """Score of a fitted estimator, or of the last step of a pipeline, with weights.

    Parameters
    ----------
    estimator : estimator
        What to score; a search is scored by its own scorer.
    X : array-like of shape (n_samples, n_features)
        Features.
    y : array-like or None
        Targets.
    sample_weight : array-like of shape (n_samples,) or None
        Weights; None scores without.
    owner : str
        Who is asking, for error messages.

    Returns
    -------
    float

    Raises
    ------
    ValueError
        If the score cannot be weighted.

    Examples
    --------
    >>> from sklearn.linear_model import LinearRegression
    >>> from reweight.weighted_fit import weighted_score
    >>> model = LinearRegression().fit([[0.0], [1.0]], [0.0, 1.0])
    >>> weighted_score(model, [[2.0], [3.0], [4.0]], [2.0, 3.0, 9.0], [1, 1, 0], owner="Study")
    1.0
    """
    if sample_weight is None:
        return estimator.score(X, y)
    if isinstance(estimator, FrozenEstimator):
        return weighted_score(estimator.estimator, X, y, sample_weight, owner=owner)
    if isinstance(estimator, Pipeline):
        X = transform_front(estimator, X)
        return weighted_score(estimator.steps[-1][1], X, y, sample_weight, owner=owner)
    if hasattr(estimator, "best_estimator_"):
        if estimator.scoring is None:
            return weighted_score(estimator.best_estimator_, X, y, sample_weight, owner=owner)
        scorer = estimator.scorer_
        scorer = scorer[estimator.refit] if isinstance(scorer, dict) else scorer
        return scorer(estimator.best_estimator_, X, y, sample_weight=sample_weight)
    parameters = signature(estimator.score).parameters.values()
    if not any(p.name == "sample_weight" or p.kind is p.VAR_KEYWORD for p in parameters):
        raise ValueError(
            f"{owner}: the score of {type(estimator).__name__} takes no sample_weight, so it "
            "cannot be weighted; pass weighted_score=False, or use a scorer of your own"
        )
    return estimator.score(X, y, sample_weight=sample_weight)

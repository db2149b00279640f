"""One way to ask models of all kinds for quantiles."""

from inspect import signature
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import ndtri
from sklearn.base import BaseEstimator, MetaEstimatorMixin, clone
from sklearn.linear_model import ARDRegression, BayesianRidge
from sklearn.pipeline import Pipeline
from sklearn.utils import Tags, check_array, get_tags
from sklearn.utils._param_validation import HasMethods
from sklearn.utils.validation import check_is_fitted

from reweight.metrics._quantile_checks import check_quantiles
from reweight.outcomes import check_outcomes
from reweight.validation import check_sample_weight, validate_rows
from reweight.weighted_fit import transform_front, weighted_fit

# What meta-estimators call the estimators that they fit.
INNER_NAMES = ("estimator", "regressor")
RECKON_WITH_FRAMES = (ARDRegression, BayesianRidge)
# Parameters that choose the loss, with the values under which another one is the level.
LOSSES = {
    "loss": {"quantile": "alpha"},
    "objective": {"quantile": "alpha", "reg:quantileerror": "quantile_alpha"},
}


class GaussianQuantileAdapter(MetaEstimatorMixin, BaseEstimator):
    r"""Quantiles of a normal law, from a model that gives a mean and a standard deviation.

    The quantile at level :math:`\tau` is
    :math:`\mu(x) + \sigma(x) \Phi^{-1}(\tau)`.

    Parameters
    ----------
    estimator : estimator
        Regressor whose `predict` takes `return_std`, such as `BayesianRidge`,
        `GaussianProcessRegressor` or `CalibratedEnsembleRegressor`, or a
        pipeline that ends in one.
    quantiles : array-like of shape (n_quantiles,), default=None
        Levels that `predict` gives if it is not told which;
        `QuantileStackingRegressor` tells it.

    Attributes
    ----------
    estimator_ : estimator
        The fitted regressor.
    n_features_in_ : int
        Number of features.
    feature_names_in_ : ndarray of str of shape (n_features_in_,)
        Their names, if X has any.

    See Also
    --------
    QuantileStackingRegressor : Combines quantiles of several models.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.linear_model import BayesianRidge
    >>> from reweight import GaussianQuantileAdapter
    >>> rng = np.random.default_rng(0)
    >>> X = rng.normal(size=(500, 1))
    >>> y = X[:, 0] + rng.normal(size=500)
    >>> model = GaussianQuantileAdapter(BayesianRidge(), quantiles=[0.1, 0.5, 0.9])
    >>> model.fit(X, y).predict([[0.0]]).round(1)
    array([[-1.3, -0.1,  1.1]])
    """

    _parameter_constraints = {
        "estimator": [HasMethods(["fit", "predict"])],
        "quantiles": ["array-like", None],
    }

    def __init__(self, estimator: Any, *, quantiles: ArrayLike | None = None) -> None:
        self.estimator = estimator
        self.quantiles = quantiles

    def fit(self, X: Any, y: ArrayLike, sample_weight: ArrayLike | None = None) -> Self:
        """Fit the regressor.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Features.
        y : array-like of shape (n_samples,)
            Outcomes.
        sample_weight : array-like of shape (n_samples,), default=None
            Weights of the rows.

        Returns
        -------
        GaussianQuantileAdapter
            The fitted adapter itself.
        """
        self._validate_params()
        name = type(self).__name__
        if y is None:
            raise ValueError(f"{name} requires y to be passed, but the target y is None")
        if not _takes(self.estimator, "return_std"):
            raise ValueError(
                f"{name}: predict of {_class_name(self.estimator)} takes no return_std, so that it "
                "has no standard deviation; pass such as BayesianRidge, or add one by "
                "CalibratedEnsembleRegressor"
            )
        if self.quantiles is not None:
            check_quantiles(self.quantiles, name)
        X = validate_rows(self, X)
        y = check_outcomes(name, y)
        if sample_weight is not None:
            sample_weight = check_sample_weight(sample_weight, X)
        self.estimator_ = weighted_fit(
            clone(self.estimator), self._as_read(X), y, sample_weight, owner=name
        )
        return self

    def _as_read(self, X: Any) -> Any:
        """Frames of numbers as arrays, for models that reckon with the frame itself."""
        if isinstance(X, np.ndarray) or not isinstance(self.estimator, RECKON_WITH_FRAMES):
            return X
        return check_array(X, dtype=np.float64, accept_sparse=True, ensure_all_finite=False)

    def predict(self, X: Any, quantiles: ArrayLike | None = None) -> NDArray[np.float64]:
        """Quantiles of the normal law of each row.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Features.
        quantiles : array-like of shape (n_quantiles,), default=None
            Levels; None takes those of the constructor.

        Returns
        -------
        ndarray of shape (n_samples, n_quantiles)

        Raises
        ------
        ValueError
            If there are no levels, or standard deviations are negative or not
            finite.
        """
        check_is_fitted(self)
        name = type(self).__name__
        quantiles = self.quantiles if quantiles is None else quantiles
        if quantiles is None:
            raise ValueError(
                f"{name}: neither the constructor nor predict was given quantiles; pass levels to "
                "one of them"
            )
        levels = check_quantiles(quantiles, name)
        model, seen = self.estimator_, self._as_read(X)
        if isinstance(model, Pipeline):
            model, seen = model.steps[-1][1], transform_front(model, X)
        if isinstance(seen, np.ndarray) and seen.dtype.kind == "O":
            # Some models check features for the mean only.
            seen = check_array(seen, dtype="numeric", ensure_all_finite=False)
        mean, std = (np.asarray(part, np.float64) for part in model.predict(seen, return_std=True))
        bad = ~(np.isfinite(std) & (std >= 0))
        if bad.any():
            raise ValueError(
                f"{name}: {_class_name(model)} gives {int(bad.sum())} standard deviations that are "
                "negative or not finite; scale features and outcomes, or choose another model"
            )
        return mean[:, None] + std[:, None] * ndtri(levels)

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.input_tags = get_tags(self.estimator).input_tags
        tags.target_tags.required = True
        return tags


class QuantileModel(BaseEstimator):
    """Any model that can give quantiles, with `fit` and `predict` that return all of them.

    Parameters
    ----------
    estimator : estimator
        Whose `predict` takes `quantiles`; or with a parameter `quantiles`; or
        with one for the level, of which a clone is fitted for each; or whose
        `predict` returns one column for each level.
    quantiles : array-like of shape (n_quantiles,)
        Levels.
    name : str
        What errors call the model.
    owner : str
        Who is asking, for errors.
    random_state : int, default=None
        Seeds whatever in the estimator has a random_state of None.
    """

    def __init__(
        self, estimator: Any, quantiles: ArrayLike, name: str, owner: str, random_state: Any = None
    ) -> None:
        self.estimator = estimator
        self.quantiles = quantiles
        self.name = name
        self.owner = owner
        self.random_state = random_state

    def fit(self, X: Any, y: ArrayLike, sample_weight: ArrayLike | None = None) -> Self:
        """Fit the estimator, or one for each level.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Features.
        y : array-like of shape (n_samples,)
            Outcomes.
        sample_weight : array-like of shape (n_samples,), default=None
            Weights of the rows.

        Returns
        -------
        QuantileModel
        """
        self.way_ = find_way(self.estimator, owner=self.owner, name=self.name)
        models = [seeded(clone(self.estimator), self.random_state) for _ in self._settings()]
        for model, settings in zip(models, self._settings(), strict=True):
            model.set_params(**settings)
            weighted_fit(model, X, y, sample_weight, owner=self.owner)
        self.estimators_ = models
        return self

    def _settings(self) -> list[dict[str, Any]]:
        """Parameters of each model to fit."""
        kind, parameter = self.way_
        if kind == "level":
            return [{parameter: float(level)} for level in self.quantiles]
        return [{parameter: np.asarray(self.quantiles)} if kind == "levels" else {}]

    def predict(self, X: Any) -> NDArray[np.float64]:
        """Quantiles at all levels.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Features.

        Returns
        -------
        ndarray of shape (n_samples, n_quantiles)
        """
        kind, _ = self.way_
        m = len(self.quantiles)
        if kind == "level":
            return np.column_stack([self._column(model.predict(X)) for model in self.estimators_])
        model = self.estimators_[0]
        if kind == "predict":
            if isinstance(model, Pipeline):
                X, model = transform_front(model, X), model.steps[-1][1]
            output = model.predict(X, quantiles=list(map(float, self.quantiles)))
        else:
            output = model.predict(X)
        output = np.asarray(output, dtype=np.float64)
        if m == 1 and output.ndim == 1:
            output = output[:, None]
        if output.ndim != 2 or output.shape[1] != m:
            raise ValueError(
                f"{self.owner}: predict of {self._label()} returns an array of shape "
                f"{output.shape}, but {m} columns are needed, one for each of the quantiles; pass "
                "a model with a parameter for the level, one whose predict takes quantiles, or "
                "GaussianQuantileAdapter around one with a standard deviation"
            )
        return output

    def _column(self, output: Any) -> NDArray[np.float64]:
        output = np.asarray(output, dtype=np.float64)
        if output.ndim == 2 and output.shape[1] == 1:
            return output[:, 0]
        if output.ndim != 1:
            raise ValueError(
                f"{self.owner}: predict of {self._label()} returns an array of shape "
                f"{output.shape} for one level; it must return one number per row"
            )
        return output

    def _label(self) -> str:
        return f"{_class_name(self.estimator)} (named {self.name!r})"

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.input_tags = get_tags(self.estimator).input_tags
        return tags


def find_way(estimator: Any, *, owner: str, name: str) -> tuple[str, str]:
    """How an estimator is asked for quantiles, and by which parameter.

    Parameters
    ----------
    estimator : estimator
        Any regressor, pipeline or meta-estimator.
    owner : str
        Who is asking, for errors.
    name : str
        What errors call the estimator.

    Returns
    -------
    kind : {"predict", "levels", "level", "columns"}
        `predict` takes all levels; a parameter does; a parameter takes one; or
        the columns that `predict` returns are taken as they are.
    parameter : str
        Name of the parameter, empty if there is none.

    Raises
    ------
    ValueError
        If it is known beforehand that the estimator gives no quantiles.
    """
    if _takes(estimator, "quantiles"):
        return "predict", ""
    prefix, model = "", estimator
    while True:
        parameters = model.get_params(deep=False)
        if "quantiles" in parameters:
            return "levels", prefix + "quantiles"
        if parameter := _level_parameter(model, parameters, owner, name):
            return "level", prefix + parameter
        if isinstance(model, Pipeline):
            step, model = model.steps[-1]
            prefix += f"{step}__"
            continue
        inner = next((key for key in INNER_NAMES if hasattr(parameters.get(key), "fit")), None)
        if inner is None:
            break
        prefix, model = f"{prefix}{inner}__", parameters[inner]
    if _takes(estimator, "return_std"):
        raise ValueError(
            f"{owner}: {_class_name(estimator)} (named {name!r}) gives a mean and a standard "
            "deviation, no quantiles; wrap it in GaussianQuantileAdapter"
        )
    return "columns", ""


def _level_parameter(model: Any, parameters: dict[str, Any], owner: str, name: str) -> str | None:
    """Parameter that sets the level of the pinball loss, if the model minimises that."""
    for key, names in LOSSES.items():
        value = parameters.get(key)
        if isinstance(value, str) and value in names:
            return "quantile" if "quantile" in parameters else names[value]
        if key in parameters and _knows_pinball_loss(model, parameters, key):
            right = "reg:quantileerror" if "quantile_alpha" in parameters else "quantile"
            raise ValueError(
                f"{owner}: {_class_name(model)} (named {name!r}) has {key}={value!r} and gives no "
                f"quantiles; pass {key}={right!r}"
            )
    return "quantile" if "quantile" in parameters else None


def _knows_pinball_loss(model: Any, parameters: dict[str, Any], key: str) -> bool:
    """Whether the pinball loss is among the losses of a model."""
    if {"quantile", "quantile_alpha"} & parameters.keys():
        return True
    allowed = getattr(model, "_parameter_constraints", {}).get(key, [])
    documented = any("quantile" in getattr(option, "options", ()) for option in allowed)
    return documented or type(model).__module__.startswith("lightgbm")


def seeded(model: Any, random_state: int | None) -> Any:
    """Give every random_state that is None a seed of its own.

    Parameters
    ----------
    model : estimator
        Estimator that is not fitted; it is changed.
    random_state : int or None
        Where the seeds come from; None changes nothing.

    Returns
    -------
    estimator
        `model`.
    """
    if random_state is None:
        return model
    rng = np.random.RandomState(random_state)
    open_seeds = [
        key
        for key, value in sorted(model.get_params(deep=True).items(), key=lambda item: item[0])
        if (key == "random_state" or key.endswith("__random_state")) and value is None
    ]
    return model.set_params(**{key: int(rng.randint(np.iinfo(np.int32).max)) for key in open_seeds})


def _takes(estimator: Any, keyword: str) -> bool:
    """Whether `predict` of an estimator, or of the last step of a pipeline, has a keyword."""
    while isinstance(estimator, Pipeline):
        estimator = estimator.steps[-1][1]
    try:
        return keyword in signature(estimator.predict).parameters
    except (AttributeError, TypeError, ValueError):
        return False


def _class_name(estimator: Any) -> str:
    if isinstance(estimator, Pipeline):
        return f"a pipeline of {_class_name(estimator.steps[-1][1])}"
    return type(estimator).__name__

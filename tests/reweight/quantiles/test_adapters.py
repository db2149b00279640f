"""Facts about how models of all kinds are asked for quantiles."""

import numpy as np
import pytest
from lightgbm import LGBMRegressor
from numpy.testing import assert_allclose, assert_array_equal
from quantile_forest import RandomForestQuantileRegressor
from scipy.stats import norm
from sklearn.base import BaseEstimator
from sklearn.compose import TransformedTargetRegressor
from sklearn.ensemble import (
    GradientBoostingRegressor,
    HistGradientBoostingRegressor,
    RandomForestRegressor,
)
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.linear_model import BayesianRidge, LinearRegression, QuantileRegressor
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from reweight import GaussianQuantileAdapter
from reweight.quantiles.adapters import QuantileModel, find_way, seeded

LEVELS = np.array([0.1, 0.5, 0.9])


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(120, 2))
    return X, X[:, 0] + (1 + 0.3 * X[:, 1]) * rng.normal(size=120)


def predict(estimator, data, sample_weight=None):
    return QuantileModel(estimator, LEVELS, "m", "Stack").fit(*data, sample_weight).predict(data[0])


@pytest.mark.parametrize(
    ("estimator", "parameter"),
    [
        (QuantileRegressor(alpha=0.01), "quantile"),
        (HistGradientBoostingRegressor(loss="quantile", max_iter=5), "quantile"),
        (GradientBoostingRegressor(loss="quantile", n_estimators=5, random_state=0), "alpha"),
        (
            LGBMRegressor(objective="quantile", n_estimators=5, n_jobs=1, verbose=-1),
            "alpha",
        ),
        (make_pipeline(StandardScaler(), QuantileRegressor()), "quantileregressor__quantile"),
        (TransformedTargetRegressor(QuantileRegressor()), "regressor__quantile"),
        (
            GridSearchCV(QuantileRegressor(), {"alpha": [0.0, 1.0]}, cv=2),
            "estimator__quantile",
        ),
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_model_with_a_parameter_for_the_level_is_fitted_for_each(data, estimator, parameter):
    assert find_way(estimator, owner="Stack", name="m") == ("level", parameter)
    got = predict(estimator, data)
    for k, level in enumerate(LEVELS):
        model = estimator.set_params(**{parameter: level}).fit(*data)
        assert_array_equal(got[:, k], model.predict(data[0]))


@pytest.mark.parametrize("wrap", [False, True])
def test_a_forest_is_asked_for_all_levels_at_once(data, wrap):
    forest = RandomForestQuantileRegressor(n_estimators=5, random_state=0)
    estimator = make_pipeline(StandardScaler(), forest) if wrap else forest
    X = StandardScaler().fit_transform(data[0]) if wrap else data[0]
    expected = forest.fit(X, data[1]).predict(X, quantiles=list(LEVELS))
    assert find_way(estimator, owner="Stack", name="m") == ("predict", "")
    assert_array_equal(predict(estimator, data), expected)
    one = QuantileModel(estimator, LEVELS[:1], "m", "Stack").fit(*data).predict(data[0])
    assert one.shape == (120, 1)


class Columns(BaseEstimator):
    """Returns as many columns as it is told, or as it has quantiles."""

    def __init__(self, width=3):
        self.width = width

    def fit(self, X, y):
        return self

    def predict(self, X):
        return np.tile(np.arange(self.width), (len(X), 1))


class Levels(BaseEstimator):
    def __init__(self, quantiles=None):
        self.quantiles = quantiles

    def fit(self, X, y):
        return self

    def predict(self, X):
        return np.tile(self.quantiles, (len(X), 1))


def test_columns_are_taken_as_they_are_and_levels_are_handed_on(data):
    assert_array_equal(predict(Columns(), data)[0], [0, 1, 2])
    assert_array_equal(predict(Levels(), data)[0], LEVELS)


@pytest.mark.parametrize(
    "mean_model", [BayesianRidge(), make_pipeline(StandardScaler(), BayesianRidge())]
)
def test_the_adapter_gives_quantiles_of_the_normal_law(data, mean_model):
    X, y = data
    adapter = GaussianQuantileAdapter(mean_model).fit(X, y)
    mean, std = adapter.estimator_.predict(X, return_std=True)
    expected = norm.ppf(LEVELS[None, :], mean[:, None], std[:, None])
    assert_allclose(adapter.predict(X, quantiles=LEVELS), expected, rtol=1e-12)
    stored = GaussianQuantileAdapter(mean_model, quantiles=LEVELS).fit(X, y)
    assert_allclose(stored.predict(X), expected, rtol=1e-12)


def test_weights_reach_the_model(data):
    X, y = data
    s = np.random.default_rng(1).integers(0, 3, size=len(y))
    rows = np.repeat(np.arange(len(y)), s)
    for estimator in (QuantileRegressor(alpha=0), GaussianQuantileAdapter(BayesianRidge())):
        weighted = QuantileModel(estimator, LEVELS, "m", "Stack").fit(X, y, s).predict(X)
        repeated = QuantileModel(estimator, LEVELS, "m", "Stack").fit(X[rows], y[rows]).predict(X)
        assert_allclose(weighted, repeated, atol=1e-3)


def test_only_open_seeds_are_set():
    forest = make_pipeline(StandardScaler(), RandomForestRegressor())
    seed = seeded(forest, 3).get_params()["randomforestregressor__random_state"]
    assert isinstance(seed, int)
    assert seeded(RandomForestRegressor(random_state=7), 3).random_state == 7
    assert seeded(RandomForestRegressor(), None).random_state is None


@pytest.mark.parametrize(
    ("estimator", "message"),
    [
        (HistGradientBoostingRegressor(), "loss='squared_error'.*pass loss='quantile'"),
        (GradientBoostingRegressor(), "pass loss='quantile'"),
        (LGBMRegressor(), "pass objective='quantile'"),
        (BayesianRidge(), "'m'.*wrap it in GaussianQuantileAdapter"),
        (make_pipeline(StandardScaler(), BayesianRidge()), "GaussianQuantileAdapter"),
        (GaussianProcessRegressor(), "GaussianQuantileAdapter"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_models_that_give_no_quantiles_are_refused_with_a_remedy(estimator, message):
    with pytest.raises(ValueError, match=message):
        find_way(estimator, owner="Stack", name="m")


def test_predictions_of_the_wrong_shape_are_refused(data):
    with pytest.raises(ValueError, match=r"LinearRegression.*shape \(120,\).*3 columns"):
        predict(LinearRegression(), data)
    with pytest.raises(ValueError, match=r"shape \(120, 4\)"):
        predict(Columns(width=4), data)
    with pytest.raises(ValueError, match="takes no return_std"):
        GaussianQuantileAdapter(LinearRegression()).fit(*data)
    with pytest.raises(ValueError, match="neither the constructor nor predict"):
        GaussianQuantileAdapter(BayesianRidge()).fit(*data).predict(data[0])


class Unsure(LinearRegression):
    def predict(self, X, return_std=False):
        return super().predict(X), np.full(len(X), -1.0)


def test_a_standard_deviation_must_be_one(data):
    adapter = GaussianQuantileAdapter(Unsure(), quantiles=LEVELS).fit(*data)
    with pytest.raises(ValueError, match="120 standard deviations that are negative"):
        adapter.predict(data[0])

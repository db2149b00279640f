"""Views, copies and refusals of `get_parameters` and `set_parameters`."""

import numpy as np
import pytest
from numpy.testing import assert_array_equal
from sklearn.cross_decomposition import PLSRegression
from sklearn.exceptions import NotFittedError
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LinearRegression, LogisticRegression, Ridge, RidgeClassifier
from sklearn.neighbors import KNeighborsClassifier
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC
from sklearn.tree import DecisionTreeClassifier

from reweight import get_parameters, set_parameters


@pytest.fixture
def data(rng):
    X = rng.normal(size=(60, 3))
    return X, (X[:, 0] + 0.5 * rng.normal(size=60) > 0).astype(int)


MODELS = [
    LinearRegression(),
    Ridge(fit_intercept=False),
    LogisticRegression(),
    RidgeClassifier(),
    MLPClassifier((4,), max_iter=5),
    make_pipeline(StandardScaler(), LogisticRegression()),
]


@pytest.mark.filterwarnings("ignore:Stochastic")
@pytest.mark.parametrize("model", MODELS, ids=lambda m: type(m).__name__)
def test_a_model_with_its_own_parameters_predicts_the_same(model, data):
    X, y = data
    model.fit(X, y)
    parameters = get_parameters(model)
    again = set_parameters(model, parameters)
    assert again is not model
    assert_array_equal(again.predict(X), model.predict(X))
    for name, value in get_parameters(again).items():
        assert not np.shares_memory(value, parameters[name])
    zeros = set_parameters(model, {name: np.zeros_like(a) for name, a in parameters.items()})
    assert all(not value.any() for value in get_parameters(zeros).values())
    assert any(value.any() for value in get_parameters(model).values())


def test_parameters_are_views_and_frozen_models_are_looked_into(data):
    model = LogisticRegression().fit(*data)
    for holder in (model, FrozenEstimator(model)):
        assert np.shares_memory(get_parameters(holder)["coef_"], model.coef_)
    frozen = set_parameters(FrozenEstimator(model), {"coef_": np.ones((1, 3)), "intercept_": [0.0]})
    assert_array_equal(frozen.estimator.coef_, np.ones((1, 3)))
    assert model.coef_.min() < 1


def test_an_intercept_that_is_a_float_stays_one(data):
    model = LinearRegression().fit(*data)
    assert get_parameters(model)["intercept_"].shape == ()
    assert type(set_parameters(model, get_parameters(model)).intercept_) is float


def test_mappings_are_themselves():
    parameters = {"w": np.ones(2)}
    assert get_parameters(parameters) is parameters
    assert set_parameters(parameters, {"w": 2}) == {"w": 2}


@pytest.mark.parametrize("model", [DecisionTreeClassifier(), KNeighborsClassifier()])
def test_models_without_parameters_are_refused(model, data):
    with pytest.raises(NotFittedError):
        get_parameters(model)
    with pytest.raises(TypeError, match="no coef_, coefs_ or state_dict"):
        get_parameters(model.fit(*data))


def test_computed_coefficients_are_refused(data):
    model = SVC(kernel="linear").fit(*data)
    with pytest.raises(TypeError, match="no coef_, coefs_ or state_dict"):
        get_parameters(model)


def test_not_fitted_and_unknown_names(data):
    with pytest.raises(NotFittedError):
        get_parameters(LogisticRegression())
    with pytest.raises(NotFittedError):
        get_parameters(make_pipeline(StandardScaler(), PLSRegression()))
    with pytest.raises(ValueError, match="'intercept_' is in one of model and parameters only"):
        set_parameters(LogisticRegression().fit(*data), {"coef_": np.ones((1, 3))})


def test_modules_give_their_state():
    torch = pytest.importorskip("torch")
    net = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.BatchNorm1d(3))
    parameters = get_parameters(net)
    assert parameters["0.weight"].data_ptr() == net[0].weight.data_ptr()
    assert not parameters["0.weight"].requires_grad
    changed = set_parameters(net, {n: torch.zeros_like(p) for n, p in parameters.items()})
    assert changed[0].weight.abs().sum() == 0
    assert net[0].weight.abs().sum() > 0

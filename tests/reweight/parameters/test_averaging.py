"""The one kernel: facts of averages, of aligned classes, and what is refused."""

from collections.abc import Mapping

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.datasets import load_iris
from sklearn.linear_model import LinearRegression, LogisticRegression, RidgeClassifier
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from reweight import average_parameters, get_parameters
from reweight.parameters._tensors import BLOCK_ENTRIES


def twin(parameters, weights):
    """The equation as it stands."""
    result = {}
    for name in parameters[0]:
        A = [
            np.broadcast_to(w[name] if isinstance(w, dict) else w, p[name].shape)
            for w, p in zip(weights, parameters, strict=True)
        ]
        top = np.sum([a * p[name] for a, p in zip(A, parameters, strict=True)], axis=0)
        below = np.sum(A, axis=0)
        result[name] = np.where(below == 0, parameters[0][name], top / np.where(below, below, 1))
    return result


@pytest.fixture
def models(rng):
    shapes = {"a": (), "b": (7,), "c": (5, 3), "d": (2, 3, 4), "long": (2, BLOCK_ENTRIES + 5)}
    return [{name: np.asarray(rng.normal(size=s)) for name, s in shapes.items()} for _ in range(4)]


def check(found, expected, rtol=1e-12):
    assert list(found) == list(expected)
    for name in expected:
        assert_allclose(found[name], expected[name], rtol=rtol, atol=1e-13)


def test_numbers_as_weights(models, rng):
    check(average_parameters(models), twin(models, [1, 1, 1, 1]))
    weights = rng.uniform(size=4)
    check(average_parameters(models, weights), twin(models, weights))
    arithmetic = [-0.4, 0.5, 0.2, 0.7]
    check(average_parameters(models, arithmetic), twin(models, arithmetic), rtol=1e-10)


def test_arrays_as_weights_broadcast(models, rng):
    weights = [
        {
            "a": 0.5,
            "b": rng.uniform(size=7),
            "c": rng.uniform(size=(5, 1)),
            "d": rng.uniform(size=4),
            "long": rng.uniform(size=models[0]["long"].shape),
        }
        for _ in models
    ]
    weights[2]["b"] = 2.0
    check(average_parameters(models, weights), twin(models, weights))


@pytest.mark.parametrize("layout", ["C", "F", "strided"])
def test_memory_layout_does_not_matter(models, layout, rng):
    def laid_out(array):
        if layout != "strided" or not array.ndim:
            return np.asarray(array, order=None if layout == "strided" else layout)
        wide = np.full([2 * size for size in array.shape], np.nan)
        view = wide[tuple(slice(None, None, 2) for _ in array.shape)]
        view[...] = array
        return view

    arranged = [{name: laid_out(value) for name, value in model.items()} for model in models]
    before = [{name: value.copy() for name, value in model.items()} for model in arranged]
    check(average_parameters(arranged, [1, 2, 3, 4]), twin(models, [1, 2, 3, 4]))
    for model, kept in zip(arranged, before, strict=True):
        for name in model:
            assert_array_equal(model[name], kept[name])


def test_copies_average_to_the_model(models, rng):
    weights = rng.uniform(0.1, 1, size=5)
    check(average_parameters([models[0]] * 5, weights), models[0])
    by_entry = [
        {name: rng.uniform(0.1, 1, value.shape) for name, value in models[0].items()}
        for _ in range(5)
    ]
    check(average_parameters([models[0]] * 5, by_entry), models[0])


def test_scale_and_order_do_not_matter(models, rng):
    weights, order = rng.uniform(size=4), rng.permutation(4)
    expected = average_parameters(models, weights)
    check(average_parameters(models, 37.5 * weights), expected)
    check(average_parameters([models[i] for i in order], weights[order]), expected)


def test_where_no_model_weighs_the_first_is_kept():
    models = [{"w": np.array([1.0, 2.0])}, {"w": np.array([3.0, 4.0])}]
    merged = average_parameters(models, [{"w": [0.0, 1.0]}, {"w": [0.0, 3.0]}])
    assert_array_equal(merged["w"], [1.0, 3.5])
    merged = average_parameters(models, [{"w": [1.0, 1.0]}, {"w": [-1.0, 1.0]}])
    assert_array_equal(merged["w"], [1.0, 3.0])
    assert_array_equal(average_parameters(models, [{"w": 0}, {"w": 0.0}])["w"], [1.0, 2.0])


def test_integers_are_those_of_the_last_model():
    models = [{"w": np.array([1.0]), "n": np.array([k])} for k in range(3)]
    merged = average_parameters(models)["n"]
    assert_array_equal(merged, [2])
    assert not np.shares_memory(merged, models[2]["n"])


def test_types_are_kept_and_half_precision_is_summed_in_single(rng):
    values = rng.normal(size=(8, 1000))
    for dtype, bound in ((np.float16, 6e-4), (np.float32, 1e-6)):
        merged = average_parameters([{"w": v.astype(dtype)} for v in values])["w"]
        assert merged.dtype == dtype
        exact = values.astype(dtype).astype(float).mean(axis=0)
        # One rounding of the result, not one of each partial sum.
        assert np.abs(merged - exact).max() <= bound * np.abs(exact).max()


def test_mappings_are_read_one_entry_at_a_time():
    class Lazy(Mapping):
        loaded = []

        def __init__(self, shift):
            self.shift = shift

        def __getitem__(self, name):
            Lazy.loaded.append(name)
            return np.full(3, float(name[1:]) + self.shift)

        def __iter__(self):
            return iter(["w1", "w2"])

        def __len__(self):
            return 2

    merged = average_parameters([Lazy(0), Lazy(1)])
    assert_array_equal(merged["w2"], np.full(3, 2.5))
    assert Lazy.loaded == ["w1", "w1", "w2", "w2"]


def test_memory_beyond_the_models_is_that_of_the_result(rng):
    import tracemalloc

    models = [{"w": rng.normal(size=(1000, 1000)).astype(np.float32)} for _ in range(6)]
    size = models[0]["w"].nbytes
    for weights in (None, [{"w": np.abs(m["w"])} for m in models]):
        tracemalloc.start()
        average_parameters(models, weights)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 2.5 * size


def test_linear_models_average_their_predictions(rng):
    X, y = rng.normal(size=(50, 3)), rng.normal(size=50)
    models = [LinearRegression().fit(X[k::2], y[k::2]) for k in range(2)]
    merged = average_parameters(models, [1, 3])
    expected = 0.25 * models[0].predict(X) + 0.75 * models[1].predict(X)
    assert_allclose(merged.predict(X), expected, rtol=1e-12)
    assert isinstance(merged.intercept_, float)


@pytest.mark.filterwarnings("ignore:Stochastic")
def test_networks_and_pipelines(rng):
    X, y = rng.normal(size=(50, 3)), rng.normal(size=50)
    models = [
        MLPRegressor(hidden_layer_sizes=(4,), max_iter=3, random_state=0).fit(X[k::2], y[k::2])
        for k in (0, 1)
    ]
    merged = average_parameters(models)
    assert_allclose(merged.coefs_[1], (models[0].coefs_[1] + models[1].coefs_[1]) / 2)
    scaler = StandardScaler().fit(X)
    pipelines = [
        make_pipeline(scaler, LinearRegression().fit(scaler.transform(X[k::2]), y[k::2]))
        for k in range(2)
    ]
    merged = average_parameters(pipelines)
    assert_allclose(merged.predict(X), np.mean([p.predict(X) for p in pipelines], axis=0))
    own = [
        make_pipeline(StandardScaler(), LinearRegression()).fit(X[k::2], y[k::2]) for k in (0, 1)
    ]
    with pytest.raises(ValueError, match="fit the preprocessing once and share it"):
        average_parameters(own)
    same = [make_pipeline(StandardScaler(), LinearRegression()).fit(X, y) for _ in range(2)]
    assert_allclose(average_parameters(same).predict(X), same[0].predict(X))


@pytest.fixture
def iris():
    return load_iris(return_X_y=True)


def logits(model, X):
    Z = model.decision_function(X)
    return Z if Z.ndim == 2 else np.column_stack([-Z / 2, Z / 2])


def test_centring_softmax_rows_changes_no_prediction(iris, rng):
    X, y = iris
    model = LogisticRegression(max_iter=2000).fit(X, y)
    moved = average_parameters([model])
    moved.coef_ = moved.coef_ + rng.normal(size=4)
    moved.intercept_ = moved.intercept_ + 3.0
    weights = [
        {name: rng.uniform(0.1, 1, a.shape) for name, a in get_parameters(model).items()}
        for _ in range(2)
    ]
    merged = average_parameters([model, moved], weights)
    assert_allclose(merged.predict_proba(X), model.predict_proba(X), atol=1e-10)


def test_rows_of_classes_that_the_first_does_not_know_come_from_the_others(iris):
    X, y = iris
    old = LogisticRegression(max_iter=2000).fit(X[y > 0], y[y > 0])  # two classes of three
    new = [LogisticRegression(C=c, max_iter=2000).fit(X, y) for c in (0.1, 1.0)]
    for alpha in (0.0, 0.4, 1.0):
        merged = average_parameters([old, *new], [alpha, (1 - alpha) / 2, (1 - alpha) / 2])
        assert_array_equal(merged.classes_, [0, 1, 2])
        mean = np.mean([logits(m, X) for m in new], axis=0)
        # Softmax knows differences: between known classes they are interpolated.
        known = alpha * np.diff(logits(old, X), axis=1)[:, 0] + (1 - alpha) * (
            mean[:, 2] - mean[:, 1]
        )
        found = logits(merged, X)
        assert_allclose(found[:, 2] - found[:, 1], known, atol=1e-10)
        unknown = mean[:, 0] - mean[:, 1:].mean(axis=1)
        assert_allclose(found[:, 0] - found[:, 1:].mean(axis=1), unknown, atol=1e-10)


def test_importance_of_an_old_binary_model_spreads_over_its_rows(iris, rng):
    X, y = iris
    old = LogisticRegression(max_iter=2000).fit(X[y > 0], y[y > 0])
    new = LogisticRegression(max_iter=2000).fit(X, y)
    F = {"coef_": rng.uniform(size=(1, 4)), "intercept_": np.ones(1)}
    merged = average_parameters([old, new], [F, {"coef_": 1.0, "intercept_": 1.0}])
    a = F["coef_"][0] / (1 + F["coef_"][0])
    expected = a * old.coef_[0] + (1 - a) * (new.coef_[2] - new.coef_[1])
    assert_allclose(merged.coef_[2] - merged.coef_[1], expected, rtol=1e-10)


def test_votes_against_the_rest_align_too(iris):
    X, y = iris
    old, new = RidgeClassifier().fit(X[y > 0], y[y > 0]), RidgeClassifier().fit(X, y)
    merged = average_parameters([old, new], [1, 1])
    Z_old = old.decision_function(X)
    expected = 0.5 * np.column_stack([-Z_old, Z_old]) + 0.5 * new.decision_function(X)[:, 1:]
    assert_allclose(merged.decision_function(X)[:, 1:], expected, atol=1e-10)


@pytest.mark.filterwarnings("ignore:Stochastic")
def test_classes_that_are_not_nested_are_refused(iris):
    X, y = iris
    a, b, c = (LogisticRegression(max_iter=2000).fit(X[y != k], y[y != k]) for k in range(3))
    with pytest.raises(ValueError, match=r"models know different classes, \[.*1.*2.*\] and"):
        average_parameters([a, b])
    full = LogisticRegression(max_iter=2000).fit(X, y)
    with pytest.raises(ValueError, match="different classes"):
        average_parameters([full, c])
    nets = [MLPClassifier((3,), max_iter=3).fit(X[rows], y[rows]) for rows in (y > 0, y > -1)]
    with pytest.raises(ValueError, match="only linear classifiers"):
        average_parameters(nets)


W = {"w": np.ones(2)}


@pytest.mark.parametrize(
    ("models", "weights", "error", "message"),
    [
        ([], None, ValueError, "at least one model"),
        ([W, {"v": np.ones(2)}], None, ValueError, "architecture differs, parameter 'v'"),
        ([W, {"w": np.ones(3)}], None, ValueError, r"'w' has shapes \(2,\) and \(3,\)"),
        ([W, W], [1.0], ValueError, "one for each of 2 models"),
        ([W, W], [1.0, np.nan], ValueError, "weights must have a positive sum"),
        ([W, W], [1.0, np.inf], ValueError, "weights must have a positive sum"),
        ([W, W], [1.0, -1.0], ValueError, "weights must have a positive sum"),
        ([W, W], [[1.0], [2.0]], ValueError, "one for each of 2 models"),
        ([W, W], [{"w": 1.0}, {}], KeyError, "lacks 'w'"),
        ([W, W], [{"w": 1.0}, 1.0], TypeError, "must be a string or a real number"),
        (
            [W, W],
            [{"w": [1.0, 1.0]}, {"w": [0.0, -2.0]}],
            ValueError,
            "'w' are NaN .* or have a negative sum",
        ),
        ([W, W], [{"w": 1.0}, {"w": -2.0}], ValueError, "'w' are NaN .* or have a negative sum"),
        ([W, W], [{"w": [1.0, np.nan]}, {"w": 1.0}], ValueError, "'w' are NaN or infinite"),
        ([W, W], [{"w": np.nan}, {"w": 1.0}], ValueError, "'w' are NaN or infinite"),
        (
            [W, W],
            [{"w": np.ones(3)}, {"w": 1.0}],
            ValueError,
            "could not be broadcast",
        ),
    ],
)
def test_bad_input_is_refused(models, weights, error, message):
    with pytest.raises(error, match=message):
        average_parameters(models, weights)


def test_models_of_other_features_are_refused(rng):
    pandas = pytest.importorskip("pandas")
    X, y = rng.normal(size=(20, 2)), rng.normal(size=20)
    wide = LinearRegression().fit(np.c_[X, X], y)
    with pytest.raises(ValueError, match="differ in n_features_in_, 2 and 4"):
        average_parameters([LinearRegression().fit(X, y), wide])
    named = [
        LinearRegression().fit(pandas.DataFrame(X, columns=c), y) for c in (["a", "b"], ["b", "a"])
    ]
    with pytest.raises(ValueError, match="differ in feature_names_in_"):
        average_parameters(named)


def test_tensors_average_as_arrays_do(rng):
    torch = pytest.importorskip("torch")
    arrays = [rng.normal(size=(30, 4)) for _ in range(3)]
    tensors = [{"w": torch.tensor(a, requires_grad=True)} for a in arrays]
    merged = average_parameters(tensors, [1, 2, 3])["w"]
    assert not merged.requires_grad
    expected = average_parameters([{"w": a} for a in arrays], [1, 2, 3])["w"]
    assert_allclose(merged.numpy(), expected, rtol=1e-12)
    by_entry = [np.abs(a) for a in arrays]
    expected = average_parameters([{"w": a} for a in arrays], [{"w": w} for w in by_entry])["w"]
    for kind in (np.asarray, torch.tensor):
        merged = average_parameters(tensors, [{"w": kind(w)} for w in by_entry])["w"]
        assert_allclose(merged.numpy(), expected, rtol=1e-12)
    half = [{"w": torch.full((5,), 1.0 + k / 64, dtype=torch.bfloat16)} for k in range(8)]
    merged = average_parameters(half)["w"]
    assert merged.dtype == torch.bfloat16
    assert_allclose(merged.float(), np.full(5, np.mean([1 + k / 64 for k in range(8)])), rtol=4e-3)


def test_modules_with_counters_and_tied_weights_average():
    torch = pytest.importorskip("torch")

    class Tied(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.embed = torch.nn.Embedding(4, 3)
            self.norm = torch.nn.BatchNorm1d(3)
            self.out = torch.nn.Linear(3, 4, bias=False)
            self.out.weight = self.embed.weight

    models = [Tied() for _ in range(2)]
    for k, model in enumerate(models):
        model.norm.num_batches_tracked.fill_(10 + k)
    merged = average_parameters(models, [1, 3])
    assert merged.out.weight is merged.embed.weight
    expected = 0.25 * models[0].embed.weight + 0.75 * models[1].embed.weight
    assert torch.allclose(merged.out.weight, expected)
    assert merged.norm.num_batches_tracked == 11
    assert merged.norm.running_mean.shape == (3,)
    # A tied weight needs one entry only, under its first name.
    weights = [{n: 1.0 for n in get_parameters(m) if n != "out.weight"} for m in models]
    half = average_parameters(models, weights)
    assert torch.allclose(half.out.weight, (models[0].embed.weight + models[1].embed.weight) / 2)

"""Weights by entropy, mixtures of logits, and clusters of merged models."""

import pickle
import warnings

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy.special import softmax
from scipy.stats import beta, entropy
from sklearn.base import clone
from sklearn.datasets import load_digits, make_classification
from sklearn.exceptions import ConvergenceWarning, NotFittedError
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LinearRegression, LogisticRegression, RidgeClassifier
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.tree import DecisionTreeClassifier

from reweight import DynamicInterpolationClassifier, average_parameters, entropy_weights
from reweight.parameters._beta_mixture import fit_beta_mixture, responsibilities

pytestmark = pytest.mark.filterwarnings("ignore:Stochastic")


def test_entropies_decide(rng):
    Z = rng.normal(size=(2, 30, 4))
    H = [entropy(softmax(z, axis=1), axis=1) for z in Z]
    expected = np.exp(-H[1]) / (np.exp(-H[0]) + np.exp(-H[1]))
    found = entropy_weights(list(Z))
    assert_allclose(found[:, 1], expected, rtol=1e-12)
    assert_allclose(found.sum(axis=1), 1, rtol=1e-14)
    assert_allclose(entropy_weights([Z[1], Z[0]]), found[:, ::-1], rtol=1e-12)
    assert_allclose(entropy_weights([Z[0], Z[0]]), 0.5, rtol=1e-14)
    assert_allclose(entropy_weights(softmax(Z, axis=2), from_logits=False), found, rtol=1e-10)
    assert_array_equal(entropy_weights([Z[0]]), np.ones((30, 1)))
    heated = entropy_weights([Z[0], 3 * Z[1]], temperature=[1.0, 3.0])
    assert_allclose(heated, found, rtol=1e-12)


@pytest.mark.parametrize("C", [2, 5])
def test_uniform_against_certain(C):
    uniform, certain = np.full((1, C), 1 / C), np.eye(C)[:1]
    found = entropy_weights([uniform, certain], from_logits=False)
    assert_allclose(found[0, 1], 1 / (1 + 1 / C), rtol=1e-12)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        extreme = entropy_weights([[[0.0, 0.0]], [[1e4, -1e4]]])
    assert_allclose(extreme, [[1 / 3, 2 / 3]], rtol=1e-12)


def test_the_offset_is_that_of_the_formula(rng):
    Z = rng.normal(size=(2, 40, 3)) * np.array([1.0, 3.0])[:, None, None]
    H = [entropy(softmax(z, axis=1), axis=1) for z in Z]
    b = 0.5 * sum(h.std(ddof=1) / h.mean() for h in H)
    r = (H[0].mean() + H[1].mean()) / H[0].mean()
    expected = (np.exp(-H[1]) + b / r) / (np.exp(-H[0]) + np.exp(-H[1]) + b)
    assert_allclose(entropy_weights(Z, offset=True)[:, 1], expected, rtol=1e-12)
    # Constant entropies have no deviation, and so no offset.
    same = np.repeat(Z[:, :1], 5, axis=1)
    assert_allclose(entropy_weights(same, offset=True), entropy_weights(same), rtol=1e-7)


@pytest.fixture(scope="module", params=[2, 3])
def task(request):
    X, y = make_classification(
        500, n_features=6, n_informative=4, n_classes=request.param, random_state=0
    )
    shifted = X[:, ::-1]
    models = [
        LogisticRegression().fit(np.r_[shifted, X[:50]], np.r_[y, y[:50]]),
        LogisticRegression().fit(X, y),
        LogisticRegression(C=0.01).fit(X, y),
    ]
    return np.r_[X, shifted], np.r_[y, y], models


def logits(model, X):
    Z = model.decision_function(X)
    return Z if Z.ndim == 2 else np.column_stack([np.zeros(len(Z)), Z])


def test_linear_models_mix_their_logits(task):
    X, _, models = task
    model = DynamicInterpolationClassifier(models[:2]).fit(X)
    weights = model.sample_model_weights(X)
    Z = [logits(m, X) for m in models[:2]]
    assert_allclose(weights, entropy_weights(Z), rtol=1e-12)
    mixed = weights[:, :1] * Z[0] + weights[:, 1:] * Z[1]
    assert_allclose(model.predict_proba(X), softmax(mixed, axis=1), atol=1e-10)
    assert_array_equal(model.predict(X), model.classes_[mixed.argmax(axis=1)])
    # Each row has the predictions of the model merged for it.
    for i in (0, 400, 700):
        merged = average_parameters(models[:2], weights[i])
        assert_allclose(
            model.predict_proba(X[i : i + 1]), merged.predict_proba(X[i : i + 1]), rtol=1e-8
        )


def test_one_cluster_is_static_interpolation_at_the_mean(task):
    X, _, models = task
    free = DynamicInterpolationClassifier(models[:2]).fit(X)
    mean = free.sample_model_weights(X).mean(axis=0)
    model = DynamicInterpolationClassifier(models[:2], n_clusters=1, random_state=0).fit(X)
    assert_allclose(model.cluster_weights_, [mean], rtol=1e-8)
    static = average_parameters(models[:2], mean)
    assert_allclose(model.predict_proba(X), static.predict_proba(X), atol=1e-8)


@pytest.mark.parametrize("n_models", [2, 3])
def test_clusters_predict_by_their_own_model(task, n_models):
    X, _, models = task
    model = DynamicInterpolationClassifier(models[:n_models], n_clusters=3, random_state=0).fit(X)
    free = DynamicInterpolationClassifier(models[:n_models]).fit(X).sample_model_weights(X)
    weights = model.sample_model_weights(X)
    assert len(model.cluster_estimators_) == 3
    assert_allclose(model.cluster_weights_.sum(axis=1), 1, rtol=1e-12)
    spread = np.abs(free - free.mean(axis=0)).mean()
    assert np.abs(weights - free).mean() < 0.9 * spread
    for k, merged in enumerate(model.cluster_estimators_):
        rows = (weights == model.cluster_weights_[k]).all(axis=1)
        assert rows.any()
        assert_allclose(model.predict_proba(X[rows]), merged.predict_proba(X[rows]), atol=1e-10)


def test_offsets_around_an_anchor(task):
    X, _, (anchor, *models) = task
    model = DynamicInterpolationClassifier(models, anchor=anchor, scale=0.4).fit(X)
    weights = model.sample_model_weights(X)
    assert_allclose(weights, 0.8 * entropy_weights([logits(m, X) for m in models]), rtol=1e-12)
    i = 17
    merged = average_parameters([anchor, *models], [0.2, *weights[i]])
    assert_allclose(
        model.predict_proba(X[i : i + 1]), merged.predict_proba(X[i : i + 1]), rtol=1e-8
    )
    clustered = clone(model)
    clustered.set_params(
        anchor=FrozenEstimator(anchor), estimators=list(map(FrozenEstimator, models)), n_clusters=2
    ).fit(X)
    assert_allclose(clustered.cluster_weights_.sum(axis=1), 0.8, rtol=1e-10)


def test_the_offset_is_learned_in_fit(task):
    X, _, models = task
    model = DynamicInterpolationClassifier(models[:2], offset=True).fit(X)
    expected = entropy_weights([logits(m, X) for m in models[:2]], offset=True)
    assert_allclose(model.sample_model_weights(X[:7]), expected[:7], rtol=1e-12)


def test_networks_are_merged_row_by_row_or_by_cluster(task):
    X, y, _ = task
    first = MLPClassifier((5,), max_iter=5, random_state=0, warm_start=True).fit(X, y)
    second = pickle.loads(pickle.dumps(first)).fit(X[:500], y[:500])
    model = DynamicInterpolationClassifier([first, second]).fit(X)
    weights = model.sample_model_weights(X[:5])
    for i in range(5):
        merged = average_parameters([first, second], weights[i])
        assert_allclose(
            model.predict_proba(X[: i + 1])[i], merged.predict_proba(X[i : i + 1])[0], rtol=1e-8
        )
    with pytest.raises(ValueError, match="pass n_clusters=3"):
        model.predict(np.r_[X, X])
    clustered = DynamicInterpolationClassifier([first, second], n_clusters=2, random_state=0).fit(X)
    assert clustered.predict_proba(np.r_[X, X]).shape == (2000, len(set(y)))


def test_pipelines_frames_and_clones(task):
    pandas = pytest.importorskip("pandas")
    polars = pytest.importorskip("polars")
    X, y, _ = task
    frame = pandas.DataFrame(X, columns=list("abcdef"))
    scaler = StandardScaler().set_output(transform="pandas").fit(frame)
    models = [
        make_pipeline(scaler, LogisticRegression(C=c).fit(scaler.transform(frame), y))
        for c in (0.01, 1)
    ]
    model = DynamicInterpolationClassifier([FrozenEstimator(m) for m in models])
    found = clone(model).fit(frame)
    assert list(found.feature_names_in_) == list("abcdef")
    again = pickle.loads(pickle.dumps(found))
    assert_array_equal(again.predict(frame), found.predict(frame))
    Z = [logits(m, frame) for m in models]
    weights = entropy_weights(Z)
    mixed = weights[:, :1] * Z[0] + weights[:, 1:] * Z[1]
    assert_allclose(found.predict_proba(frame), softmax(mixed, axis=1), atol=1e-10)
    plain = [LogisticRegression(C=c).fit(frame, y) for c in (0.01, 1)]
    other = DynamicInterpolationClassifier(plain).fit(frame)
    array = polars.DataFrame({name: frame[name].to_numpy() for name in frame})
    assert_array_equal(other.predict(array), other.predict(frame))


def test_bad_input_is_refused(task):
    X, y, models = task
    build = DynamicInterpolationClassifier
    with pytest.raises(ValueError, match="needs at least two estimators, got 1"):
        build(models[:1]).fit(X)
    with pytest.raises(TypeError, match="LinearRegression is no classifier"):
        build([models[0], LinearRegression().fit(X, y)]).fit(X)
    with pytest.raises(TypeError, match="no coef_"):
        build([models[0], DecisionTreeClassifier().fit(X, y)]).fit(X)
    with pytest.raises(NotFittedError):
        build([models[0], LogisticRegression()]).fit(X)
    with pytest.raises(NotFittedError):
        build(models).predict(X)
    with pytest.raises(ValueError, match="models know different classes"):
        build([models[0], LogisticRegression().fit(X, y + 1)]).fit(X)
    for options in ({"offset": True}, {"n_clusters": 2}):
        with pytest.raises(ValueError, match=r"at least two rows"):
            build(models[:2], **options).fit(X[:1])
    with pytest.raises(ValueError, match="offset needs two models"):
        build(models, offset=True).fit(X)
    with pytest.raises(ValueError, match="offset is for two models without an anchor"):
        build(models[:2], anchor=models[2], offset=True).fit(X)
    with pytest.raises(ValueError, match="differ in n_features_in_"):
        build([models[0], LogisticRegression().fit(X[:, :2], y)]).fit(X)
    assert build([RidgeClassifier().fit(X, y), models[0]]).fit(X).predict(X).shape == y.shape


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        (([[[0.0, np.nan]], [[0.0, 1.0]]],), {}, "contains NaN"),
        (([[[0.5, 0.6]], [[0.5, 0.5]]],), {"from_logits": False}, "sum to 1"),
        (([[[-0.5, 1.5]], [[0.5, 0.5]]],), {"from_logits": False}, "non-negative"),
        (([[[0.0, 1.0]], [[0.0, 1.0, 2.0]]],), {}, "must have the same shape"),
        (([[[0.0]], [[0.0]]],), {}, "minimum of 2 is required"),
        (([[[0.0, 1.0]]] * 2,), {"temperature": 0.0}, "temperature must be positive"),
        (([[[0.0, 1.0]]] * 2,), {"temperature": [1.0, 2.0, 3.0]}, "could not be broadcast"),
        (([[[0.0, 1.0]]] * 2,), {"offset": True}, "two models and two rows"),
    ],
)
def test_bad_predictions_are_refused(arguments, options, message):
    with pytest.raises(ValueError, match=message):
        entropy_weights(*arguments, **options)


def test_published_design_on_digits():
    X, y = load_digits(return_X_y=True)
    found = []
    for seed in range(3):
        r = np.random.default_rng(seed)
        order = r.permutation(len(y))
        A, labels = X[order] / 16, y[order]
        B = A[:, ::-1] + 0.25 * r.normal(size=A.shape)
        model = LogisticRegression(C=0.3, max_iter=500)
        special = clone(model).fit(A[:900], labels[:900])
        robust = model.fit(np.r_[A[:120], B[:900]], np.r_[labels[:120], labels[:900]])
        dynamic = DynamicInterpolationClassifier([robust, special]).fit(A[900:])
        static = average_parameters([robust, special])
        both, twice = np.r_[A[900:], B[900:]], np.r_[labels[900:], labels[900:]]
        found.append([m.score(both, twice) for m in (static, dynamic)])
    assert_allclose(np.mean(found, axis=0), [0.734, 0.780], atol=0.012)


def test_a_beta_mixture_finds_its_components():
    rng = np.random.default_rng(0)
    x = np.r_[rng.beta(4, 16, 3000), rng.beta(30, 10, 1000)]
    mixture = fit_beta_mixture(x, 2, np.random.RandomState(0))
    shares, a, b = mixture
    assert_allclose(a / (a + b), [0.2, 0.75], atol=0.01)
    assert_allclose(shares, [0.75, 0.25], atol=0.02)
    assert_allclose(a + b, [20, 40], rtol=0.15)
    r, mean_log_likelihood = responsibilities(x, *mixture)
    assert_allclose(r.sum(axis=1), 1, rtol=1e-12)
    assert (r[:3000].argmax(axis=1) == 0).mean() > 0.98
    density = shares @ [beta.pdf(x, *ab) for ab in zip(a, b, strict=True)]
    assert_allclose(mean_log_likelihood, np.log(density).mean(), rtol=1e-10)
    # A fixed point: the moments weighted by the responsibilities are those of the components.
    assert_allclose(r.T @ x / r.sum(axis=0), a / (a + b), atol=1e-3)
    again = fit_beta_mixture(x, 2, np.random.RandomState(0))
    assert_array_equal(again[1], a)


def test_a_mixture_of_numbers_that_do_not_vary_has_one_component():
    x = np.full(20, 0.3)
    with pytest.warns(ConvergenceWarning, match="1 distinct values"):
        _, a, b = mixture = fit_beta_mixture(x, 3, np.random.RandomState(0))
    assert_allclose(a / (a + b), [0.3], rtol=1e-6)
    assert_array_equal(responsibilities(x, *mixture)[0], 1)


def test_a_mixture_that_is_stopped_early_says_so():
    x = np.random.default_rng(0).uniform(size=200)
    with pytest.warns(ConvergenceWarning, match="not converged after 1 steps"):
        fit_beta_mixture(x, 3, np.random.RandomState(0), max_iter=1)

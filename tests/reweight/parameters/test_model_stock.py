"""The ratio of Model Stock: its limits, its invariances, and what it is for."""

import numpy as np
import pytest
from numpy.testing import assert_allclose

from reweight import average_parameters, stock_weights

SHAPES = {"bias": (4,), "kernel": (6, 3, 2), "matrix": (300, 500)}


def draw(rng, K, shapes=SHAPES):
    base = {name: rng.normal(size=s) for name, s in shapes.items()}
    common = {name: rng.normal(size=s) for name, s in shapes.items()}
    models = [
        {name: base[name] + common[name] + rng.normal(size=s) for name, s in shapes.items()}
        for _ in range(K)
    ]
    return base, models


def ratios(weights):
    return {name: 1 - value for name, value in weights[0].items()}


def twin(base, models, aggregate, rows):
    """Pair by pair, as the formula stands."""
    K, D = len(models), [m.reshape(rows, -1) - base.reshape(rows, -1) for m in models]
    t = []
    for row in range(rows):
        cosines = [
            D[i][row] @ D[j][row] / np.linalg.norm(D[i][row]) / np.linalg.norm(D[j][row])
            for i in range(K)
            for j in range(i)
        ]
        c = np.cos(np.mean(np.arccos(cosines))) if aggregate == "angle" else np.mean(cosines)
        t.append(np.clip(K * c / (1 + (K - 1) * c), 0, 1) if 1 + (K - 1) * c > 0 else 0.0)
    return np.array(t)


@pytest.mark.parametrize("aggregate", ["cosine", "angle"])
@pytest.mark.parametrize("K", [2, 5])
def test_beside_pairwise_loops(rng, K, aggregate):
    base, models = draw(rng, K)
    by_tensor = ratios(stock_weights(base, models, aggregate=aggregate))
    by_row = ratios(stock_weights(base, models, aggregate=aggregate, granularity="row"))
    overall = ratios(stock_weights(base, models, aggregate=aggregate, granularity="global"))
    everything = [np.concatenate([m[n].ravel() for n in SHAPES]) for m in (base, *models)]
    expected = twin(everything[0], everything[1:], aggregate, 1)[0]
    for name, shape in SHAPES.items():
        tensors = [m[name] for m in models]
        assert_allclose(by_tensor[name], twin(base[name], tensors, aggregate, 1)[0], rtol=1e-10)
        n_rows = 1 if name == "bias" else shape[0]
        rows = twin(base[name], tensors, aggregate, n_rows)
        assert_allclose(np.ravel(by_row[name]), rows, rtol=1e-10, atol=1e-12)
        assert_allclose(overall[name], expected, rtol=1e-10)


def test_limits(rng):
    base, models = draw(rng, 1)
    same = ratios(stock_weights(base, [models[0]] * 3))
    assert_allclose(list(same.values()), 1, rtol=1e-10)
    corner = {"w": np.zeros(3)}
    orthogonal = [{"w": np.array([3.0, 0, 0])}, {"w": np.array([0, 5.0, 0])}]
    assert ratios(stock_weights(corner, orthogonal)) == {"w": 0.0}
    c = 0.6
    two = [{"w": np.array([1.0, 0, 0])}, {"w": np.array([c, 0.8, 0])}]
    assert_allclose(ratios(stock_weights(corner, two))["w"], 2 * c / (1 + c), rtol=1e-12)
    still = {"w": np.zeros(3)}
    assert ratios(stock_weights(corner, [still, two[0]])) == {"w": 0.0}
    apart = [{"w": np.array([1.0, 0, 0])}, {"w": np.array([-0.5, 0.1, 0])}]
    assert ratios(stock_weights(corner, apart)) == {"w": 0.0}
    c = -0.5 / np.hypot(0.5, 0.1)
    raw = ratios(stock_weights(corner, apart, clip=False))["w"]
    assert_allclose(raw, 2 * c / (1 + c), rtol=1e-10)


def test_doubled_and_rotated_offsets_have_the_same_ratio(rng):
    base, models = draw(rng, 3, {"w": (40,)})
    expected = ratios(stock_weights(base, models, granularity="global"))["w"]
    doubled = [{"w": base["w"] + 2 * (m["w"] - base["w"])} for m in models]
    assert_allclose(ratios(stock_weights(base, doubled))["w"], expected, rtol=1e-10)
    Q = np.linalg.qr(rng.normal(size=(40, 40)))[0]
    turned = [{"w": Q @ m["w"]} for m in models]
    rotated = stock_weights({"w": Q @ base["w"]}, turned, granularity="global")
    assert_allclose(ratios(rotated)["w"], expected, rtol=1e-10)


@pytest.mark.parametrize(("K", "t", "error"), [(2, 1 / 3, 1 / 6), (4, 1 / 2, 1 / 8)])
def test_it_shrinks_as_a_reliability_and_halves_the_error(K, t, error):
    rng = np.random.default_rng(0)
    found, errors, plain = [], [], []
    for _ in range(200):
        truth = rng.normal(size=2000)
        truth *= 0.5 * np.sqrt(2000) / np.linalg.norm(truth)
        models = [{"w": truth + rng.normal(size=2000)} for _ in range(K)]
        weights = stock_weights({"w": np.zeros(2000)}, models)
        merged = average_parameters([{"w": np.zeros(2000)}, *models], weights)["w"]
        found.append(1 - weights[0]["w"])
        errors.append(np.mean((merged - truth) ** 2))
        plain.append(np.mean((average_parameters(models)["w"] - truth) ** 2))
    assert abs(np.mean(found) - t) < 0.01
    assert abs(np.mean(errors) - error) < 0.01
    assert abs(np.mean(plain) - 1 / K) < 0.01


def test_weights_sum_to_one_and_integers_have_none(rng):
    base, models = draw(rng, 3)
    counted = [{**m, "n": np.array(3)} for m in (base, *models)]
    weights = stock_weights(counted[0], counted[1:], granularity="row")
    for name in SHAPES:
        assert_allclose(sum(w[name] for w in weights), 1, rtol=1e-12)
    assert "n" not in weights[0]
    assert average_parameters(counted, weights)["n"] == 3


def test_tensors_and_half_precision(rng):
    torch = pytest.importorskip("torch")
    base, models = draw(rng, 3)
    expected = ratios(stock_weights(base, models, granularity="row"))
    tensors = [{n: torch.tensor(v) for n, v in m.items()} for m in (base, *models)]
    weights = stock_weights(tensors[0], tensors[1:], granularity="row")
    for name, value in ratios(weights).items():
        assert_allclose(value, expected[name], rtol=1e-10)
    merged = average_parameters(tensors, weights)
    plain = average_parameters([base, *models], stock_weights(base, models, granularity="row"))
    assert_allclose(merged["kernel"].numpy(), plain["kernel"], rtol=1e-10)
    half = [{n: v.half() for n, v in m.items()} for m in tensors]
    rounded = ratios(stock_weights(half[0], half[1:]))["matrix"]
    assert abs(rounded - ratios(stock_weights(base, models))["matrix"]) < 1e-3


def test_bad_input_is_refused(rng):
    base, models = draw(rng, 2)
    with pytest.raises(ValueError, match="needs at least two models besides the base, got 1"):
        stock_weights(base, models[:1])
    with pytest.raises(ValueError, match="architecture differs"):
        stock_weights({"w": np.ones(2)}, models)
    with pytest.raises(ValueError, match=r"'w' has shapes \(2,\) and \(3,\)"):
        stock_weights({"w": np.ones(2)}, [{"w": np.ones(3)}] * 2)
    with pytest.raises(ValueError, match="granularity must be one of"):
        stock_weights(base, models, granularity="layer")
    with pytest.raises(ValueError, match="aggregate must be one of"):
        stock_weights(base, models, aggregate="median")

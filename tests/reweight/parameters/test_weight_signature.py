"""Signatures are orthogonal to the clean fit, can be taken off again, and add up."""

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.neural_network import MLPRegressor

from reweight import WeightSignature, get_parameters

SHAPES = {"a.weight": (4, 3), "a.bias": (4,), "n.gain": (4,), "b.weight": (2, 4), "b.bias": (2,)}


@pytest.fixture
def models(rng):
    return [{name: rng.normal(size=s) for name, s in SHAPES.items()} for _ in range(4)]


def test_it_is_orthogonal_to_the_clean_fit(models):
    base, clean, robust, _ = models
    signature = WeightSignature.from_models(base, clean, robust)
    for name in SHAPES:
        u, d = clean[name] - base[name], robust[name] - base[name]
        v = signature.offsets[name]
        assert abs((v * u).sum()) < 1e-10
        rest = (d - v) / u  # along u
        assert_allclose(rest, rest.flat[0], rtol=1e-8)
    same = WeightSignature.from_models(base, base, robust)
    assert_allclose(same.offsets["a.bias"], robust["a.bias"] - base["a.bias"])


def test_applied_and_taken_off_it_leaves_the_model(models):
    base, clean, robust, target = models
    signature = WeightSignature.from_models(base, clean, robust)
    patched = signature.apply(target, 0.7)
    assert_allclose(patched["b.bias"], target["b.bias"] + 0.7 * signature.offsets["b.bias"])
    restored = signature.apply(patched, -0.7)
    for name in SHAPES:
        assert_allclose(restored[name], target[name], atol=1e-10)


def test_sums_commute(models):
    base, clean, robust, other = models
    one = WeightSignature.from_models(base, clean, robust)
    two = WeightSignature.from_models(base, clean, other, n_layers=1)
    for name in SHAPES:
        assert_allclose((one + two).offsets[name], (two + one).offsets[name], rtol=1e-12)
    both = two.apply(one.apply(clean))
    assert_allclose((one + two).apply(clean)["a.weight"], both["a.weight"], rtol=1e-10)


def test_quantised_entries_move_by_half_a_step_at_most(models):
    signature = WeightSignature.from_models(*models[:3])
    for L in (2, 5, 16):
        quantized = signature.quantize(L)
        for name, v in signature.offsets.items():
            q = quantized.offsets[name]
            step = (v.max() - v.min()) / (L - 1)
            assert np.abs(q - v).max() <= step / 2 * (1 + 1e-10)
            assert len(np.unique(np.round((q - v.min()) / step, 9))) <= L
    assert len(np.unique(signature.quantize(2).offsets["a.weight"])) == 2
    flat = WeightSignature({"w": np.full(3, 2.0)}).quantize(4)
    assert_array_equal(flat.offsets["w"], 2.0)


def test_only_the_first_layers_carry_it(models):
    one = WeightSignature.from_models(*models[:3], n_layers=1)
    assert list(one.offsets) == ["a.weight", "a.bias"]
    assert list(WeightSignature.from_models(*models[:3], n_layers=2).offsets) == [
        "a.weight", "a.bias", "b.weight", "b.bias",
    ]  # fmt: skip


@pytest.mark.filterwarnings("ignore:Stochastic")
def test_networks_of_both_libraries(rng):
    X, y = rng.normal(size=(40, 3)), rng.normal(size=40)
    nets = [
        MLPRegressor(hidden_layer_sizes=(5,), max_iter=3, random_state=k).fit(X, y)
        for k in range(3)
    ]
    signature = WeightSignature.from_models(*nets, n_layers=1)
    assert sorted(signature.offsets) == ["coefs_.0", "intercepts_.0"]
    patched = signature.apply(nets[1])
    assert_allclose(patched.coefs_[0], nets[1].coefs_[0] + signature.offsets["coefs_.0"])
    assert_array_equal(patched.coefs_[1], nets[1].coefs_[1])
    torch = pytest.importorskip("torch")
    layers = [torch.nn.Linear(3, 2).half() for _ in range(3)]
    signature = WeightSignature.from_models(*layers)
    patched = signature.apply(layers[1])
    assert patched.weight.dtype == torch.float16
    assert get_parameters(patched)["weight"].shape == (2, 3)


def test_bad_input_is_refused(models):
    base, clean, robust, target = models
    with pytest.raises(ValueError, match="n_layers must be at least 1"):
        WeightSignature.from_models(base, clean, robust, n_layers=0)
    with pytest.raises(ValueError, match="architecture differs"):
        WeightSignature.from_models(base, clean, {"w": np.ones(1)})
    signature = WeightSignature.from_models(base, clean, robust)
    with pytest.raises(ValueError, match="n_values must be at least 2"):
        signature.quantize(1)
    with pytest.raises(ValueError, match=r"architecture differs, parameter 'a\.bias'"):
        signature.apply({"w": np.ones(1)})
    with pytest.raises(ValueError, match="has shapes"):
        signature.apply({**target, "a.bias": np.ones(9)})
    with pytest.raises(TypeError):
        signature + 1

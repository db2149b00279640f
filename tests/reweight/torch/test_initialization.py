"""Networks start with the variances that they should, in the order in which layers run."""

import math

import pytest
import torch
from torch import nn

from reweight.torch import TargetVarianceRescaling, layer_index_init_, lsuv_


class Backwards(nn.Module):
    """Registers its layers in the order opposite to that in which they run."""

    def __init__(self):
        super().__init__()
        self.last = nn.Linear(8, 3)
        self.norm = nn.BatchNorm1d(8)
        self.middle = nn.Linear(12, 8)
        self.first = nn.Conv1d(2, 4, 2)
        self.unused = nn.Linear(2, 2)

    def forward(self, x):
        x = torch.relu(self.first(x)).flatten(1)
        return self.last(self.norm(torch.relu(self.middle(x))))


@pytest.fixture
def batch():
    return 5 + 3 * torch.randn(300, 2, 4, generator=torch.Generator().manual_seed(0))


def outputs(net, batch):
    found = {}
    handles = [
        layer.register_forward_hook(lambda m, i, o, name=name: found.__setitem__(name, o.detach()))
        for name, layer in net.named_modules()
        if isinstance(layer, nn.Linear | nn.Conv1d)
    ]
    with torch.no_grad():
        net(batch)
    for handle in handles:
        handle.remove()
    return found


def test_every_layer_has_unit_variance_the_first_included(batch):
    net = Backwards()
    unused = net.unused.weight.detach().clone()
    report = lsuv_(net, batch, generator=torch.Generator().manual_seed(1))
    assert list(report) == ["first", "middle", "last"]
    found = outputs(net, batch)
    for name, (_, variance) in report.items():
        assert 0.9 <= found[name].var(correction=0) <= 1.1
        assert variance == pytest.approx(found[name].var(correction=0).item(), rel=1e-4)
    assert torch.equal(net.unused.weight, unused)
    assert not net.first.bias.any()


def test_scale_of_the_batch_does_not_matter(batch):
    nets = [Backwards(), Backwards()]
    for net, scale in zip(nets, (1.0, 10.0), strict=True):
        lsuv_(net, scale * batch, generator=torch.Generator().manual_seed(1))
    one, ten = outputs(nets[0], batch), outputs(nets[1], 10 * batch)
    for name in ("first", "middle", "last"):
        torch.testing.assert_close(one[name], ten[name], rtol=1e-3, atol=1e-4)


def test_weights_are_multiples_of_orthonormal_ones(batch):
    net = Backwards()
    scale, _ = lsuv_(net, batch)["middle"]
    W = net.middle.weight.detach() / scale
    torch.testing.assert_close(W @ W.T, torch.eye(8), atol=1e-4, rtol=0)
    kept = Backwards()
    before = kept.middle.weight.detach().clone()
    scale, _ = lsuv_(kept, batch, orthogonal=False)["middle"]
    torch.testing.assert_close(kept.middle.weight.detach(), scale * before)


@pytest.mark.parametrize("training", [True, False])
def test_mode_and_running_statistics_are_left_alone(batch, training):
    net = Backwards().train(training)
    before = {name: b.clone() for name, b in net.named_buffers()}
    lsuv_(net, batch)
    assert net.training == training
    for name, buffer in net.named_buffers():
        assert torch.equal(buffer, before[name])
    assert not any(layer._forward_hooks for layer in net.modules())


def test_inputs_may_be_tuples_or_mappings(batch):
    class Sum(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(4, 2)

        def forward(self, a, b):
            return self.layer(a + b)

    for inputs in ((batch[:, 0], batch[:, 1]), {"a": batch[:, 0], "b": batch[:, 1]}):
        assert abs(lsuv_(Sum(), inputs)["layer"][1] - 1) <= 0.1


def test_dead_layers_are_refused(batch):
    with pytest.raises(RuntimeError, match="layer 'first' has variance 0"):
        lsuv_(Backwards(), torch.zeros_like(batch))
    with pytest.raises(ValueError, match="no linear or convolutional layer runs"):
        lsuv_(nn.ReLU(), batch)
    normed = nn.Sequential(nn.utils.parametrizations.weight_norm(nn.Linear(4, 2)))
    with pytest.raises(ValueError, match="parametrised"):
        lsuv_(normed, batch)


def test_layers_are_drawn_by_depth():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.embedding = nn.Embedding(500, 100, padding_idx=0)
            self.blocks = nn.ModuleList(
                nn.Sequential(nn.Linear(100, 200), nn.LayerNorm(200), nn.Linear(200, 100))
                for _ in range(3)
            )
            self.head = nn.Linear(100, 300)

    net = Net()
    layer_index_init_(net.blocks, std=0.1, factor=2.0, module=net, generator=torch.Generator())
    for depth, block in enumerate(net.blocks, start=1):
        for layer in (block[0], block[2]):
            spread = 0.1 / math.sqrt(2 * depth)
            assert layer.weight.std().item() == pytest.approx(spread, rel=0.03)
            assert not layer.bias.any()
        assert torch.equal(block[1].weight, torch.ones(200))
    assert net.head.weight.std().item() == pytest.approx(0.1, rel=0.03)
    assert not net.embedding.weight[0].any()
    assert net.embedding.weight[1:].std().item() == pytest.approx(0.1, rel=0.03)
    with pytest.raises(ValueError, match="there are no blocks"):
        layer_index_init_([])
    with pytest.raises(ValueError, match="std=0"):
        layer_index_init_(net.blocks, std=0.0)


@pytest.mark.parametrize("depth_scaling", [False, True])
def test_only_weights_beyond_the_ratio_are_rescaled(depth_scaling):
    torch.manual_seed(0)
    blocks = nn.ModuleList(nn.Sequential(nn.Linear(30, 30), nn.LayerNorm(30)) for _ in range(3))
    for block, spread in zip(blocks, (0.05, 0.023, 0.01), strict=True):
        block[0].weight.data.normal_(0.3, spread)
    before = [block[0].weight.detach().clone() for block in blocks]
    biases = [block[0].bias.detach().clone() for block in blocks]
    gains = blocks[0][1].weight.detach().clone()
    rescaling = TargetVarianceRescaling(blocks, every=2, depth_scaling=depth_scaling)
    assert rescaling.step() == 0
    assert torch.equal(blocks[0][0].weight, before[0])
    expected = [True, depth_scaling, False]
    assert rescaling.step() == sum(expected)
    for depth, (block, W, b, changed) in enumerate(
        zip(blocks, before, biases, expected, strict=True), start=1
    ):
        layer = block[0]
        if changed:
            target = 0.02 / math.sqrt(depth) if depth_scaling else 0.02
            assert layer.weight.std().item() == pytest.approx(target, abs=1e-6)
            assert layer.weight.mean().item() == pytest.approx(W.mean().item(), abs=1e-6)
            assert not layer.bias.any()
        else:
            assert torch.equal(layer.weight, W)
            assert torch.equal(layer.bias, b)
    assert torch.equal(blocks[0][1].weight, gains)


def test_settings_of_the_rescaling_are_checked():
    with pytest.raises(ValueError, match="no weight of two dimensions"):
        TargetVarianceRescaling([nn.LayerNorm(3)])
    with pytest.raises(ValueError, match="ratio=0"):
        TargetVarianceRescaling([nn.Linear(2, 2)], ratio=0.0)

"""Products: one normalisation after the product, each factor with its own settings."""

import pytest
import torch
from torch.testing import assert_close

from reweight.torch import IndexWeighter, LossBasedWeighter, LossWeighter, ProductWeighter

LOSS = torch.tensor([0.0, 1.0, 2.0, 5.0])
INDEX = torch.tensor([2, 0, 1, 3])
ONES = IndexWeighter(torch.ones(4))


def test_raw_weights_multiply_and_are_normalised_once():
    known, focus = IndexWeighter([1.0, 2.0, 3.0, 4.0]), LossBasedWeighter(temperature=0.5)
    product = known * focus
    raw = known.raw_weights(LOSS, index=INDEX) * focus.raw_weights(LOSS)
    assert_close(product.weights(LOSS, index=INDEX), raw / raw.mean())
    assert_close(product(LOSS, index=INDEX), (raw * LOSS).sum() / raw.sum())


@pytest.mark.parametrize(
    "factor", [IndexWeighter([1.0, 2.0, 3.0, 4.0]), LossBasedWeighter(temperature=0.5)]
)
def test_one_is_neutral(factor):
    for product in (ONES * factor, factor * ONES):
        assert product.normalize == factor.normalize
        assert_close(product(LOSS, index=INDEX), factor(LOSS, index=INDEX))


def test_products_nest():
    a, b, c = (IndexWeighter(torch.rand(4) + 0.1) for _ in range(3))
    assert_close((a * b * c)(LOSS, index=INDEX), ProductWeighter(a, b, c)(LOSS, index=INDEX))


@pytest.mark.parametrize(
    ("modes", "expected"),
    [
        (("dataset", "none"), "dataset"),
        (("dataset", "batch"), "batch"),
        (("batch", "deferred"), "deferred"),
        (("none", "none"), "none"),
    ],
)
def test_the_product_takes_the_strictest_mode_of_its_factors(modes, expected):
    first, second = (IndexWeighter(torch.ones(4), normalize=mode) for mode in modes)
    assert (first * second).normalize == (second * first).normalize == expected


def test_mean_of_a_product_of_known_weights_is_exact_for_the_same_rows():
    a, b = torch.tensor([1.0, 2.0, 9.0]), torch.tensor([4.0, 1.0, 3.0])
    assert_close((IndexWeighter(a) * IndexWeighter(b)).dataset_mean(), (a * b).mean())
    keyed = {7: 1.0, 5: 2.0, 6: 9.0}, {5: 1.0, 6: 3.0, 7: 4.0}
    product = IndexWeighter(keyed[0]) * IndexWeighter(keyed[1])
    assert_close(product.dataset_mean(), (a * b).mean())
    other = IndexWeighter(a) * IndexWeighter(keyed[1])
    assert_close(other.dataset_mean(), a.mean() * b.mean())
    assert ProductWeighter(IndexWeighter(a), mean=2.5).dataset_mean() == 2.5


def test_factors_keep_their_own_warm_up():
    known = IndexWeighter([1.0, 2.0, 3.0, 4.0], normalize="batch")
    product = known * LossBasedWeighter(temperature=0.2, warmup_steps=1)
    first, second = (product(LOSS, index=INDEX) for _ in range(2))
    assert_close(first, known(LOSS, index=INDEX))
    assert not torch.isclose(first, second)
    assert [int(factor.step) for factor in product.factors] == [3, 2]
    product.set_step(0)
    assert_close(product(LOSS, index=INDEX), first)


def test_factors_observe_the_model_and_load_their_state():
    class Seen(LossWeighter):
        def __init__(self):
            super().__init__()
            self.register_buffer("seen", torch.zeros(()))

        def raw_weights(self, loss, **context):
            return torch.ones_like(loss)

        def observe(self, model, per_item_loss, batch):
            self.seen += batch

    product = Seen() * Seen()
    product.observe(torch.nn.Identity(), lambda call, batch: call(batch), 2.0)
    other = Seen() * Seen()
    other.load_state_dict(product.state_dict())
    assert [factor.seen.item() for factor in other.factors] == [2.0, 2.0]


def test_factors_must_agree():
    with pytest.raises(ValueError, match=r"factors have unit \['row', 'token'\]; give them"):
        LossBasedWeighter() * LossBasedWeighter(unit="token")
    with pytest.raises(ValueError, match=r"got \['int'\]; pass loss weighters"):
        ProductWeighter(2)
    with pytest.raises(TypeError, match="unsupported operand"):
        LossBasedWeighter() * 2
    with pytest.raises(ValueError, match="ProductWeighter: normalize='dataset' needs the mean"):
        ProductWeighter(LossBasedWeighter(), normalize="dataset")

"""Weights by index: look-up, keys, the bridge from estimators, indices from data sets."""

import numpy as np
import pandas as pd
import polars as pl
import pytest
import torch
from numpy.testing import assert_allclose
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch.testing import assert_close
from torch.utils.data import DataLoader, IterableDataset, Subset, TensorDataset

from causal import EntropyBalancing
from reweight import Reweighted
from reweight.torch import ImportanceSampler, IndexWeighter, WithIndex
from shift import ULSIF


@pytest.mark.parametrize(
    "container",
    [list, np.array, torch.tensor, pd.Series, pl.Series, lambda w: dict(enumerate(w))],
    ids=["list", "numpy", "torch", "pandas", "polars", "dict"],
)
def test_weights_come_from_any_container(container, device):
    weigh = IndexWeighter(container([1.0, 2.0, 3.0])).to(device)
    index = torch.tensor([2, 0], device=device)
    weights = weigh.weights(torch.ones(2, device=device), index=index)
    assert_close(weights, torch.tensor([1.5, 0.5], device=device))


def test_keys_are_matched_exactly_in_any_order():
    keys = np.array([40, -7, 2**40, 3])
    weigh = IndexWeighter([1.0, 2.0, 3.0, 4.0], keys=keys, normalize="none")
    index = torch.tensor([3, 2**40, -7, 40])
    assert_close(weigh.raw_weights(torch.ones(4), index=index), torch.tensor([4.0, 3.0, 2.0, 1.0]))
    with pytest.raises(ValueError, match=r"index 4; it holds 4 weights for the keys"):
        weigh(torch.ones(2), index=torch.tensor([3, 4]))


def test_series_labels_are_never_taken_for_positions_silently():
    series = pd.Series([1.0, 2.0], index=[5, 3])
    with pytest.raises(ValueError, match=r"keys=series\.index"):
        IndexWeighter(series)
    weigh = IndexWeighter(series, keys=series.index)
    assert_close(weigh.raw_weights(torch.ones(1), index=torch.tensor([3])), torch.tensor([2.0]))


@pytest.mark.parametrize("unknown", [-1, 3])
def test_unknown_positions_are_refused_or_get_the_default(unknown):
    index = torch.tensor([1, unknown])
    with pytest.raises(ValueError, match=f"index {unknown}; it holds 3 weights for 0 to 2"):
        IndexWeighter([1.0, 2.0, 3.0])(torch.ones(2), index=index)
    weigh = IndexWeighter([1.0, 2.0, 3.0], default=0.25)
    assert_close(weigh.raw_weights(torch.ones(2), index=index), torch.tensor([2.0, 0.25]))
    masked = IndexWeighter([1.0, 2.0, 3.0], normalize="batch")
    loss, mask = torch.tensor([4.0, float("nan")]), torch.tensor([1, 0])
    assert masked(loss, index=index, mask=mask) == 4.0
    two_by_two = torch.ones(2, 2)
    assert masked(two_by_two, index=index, mask=mask) == 1.0
    with pytest.raises(ValueError, match="1 of 2 rows have no weight"):
        IndexWeighter([1.0, 2.0], unit="token")(two_by_two, index=index)


def test_unknown_positions_make_the_loss_nan_where_a_check_would_wait():
    torch._dynamo.reset()
    compiled = torch.compile(IndexWeighter([1.0, 2.0]), fullgraph=True, backend="eager")
    assert torch.isnan(compiled(torch.ones(2), index=torch.tensor([0, -1])))
    assert compiled(torch.ones(2), index=torch.tensor([0, 0])) == pytest.approx(2 / 3)


def test_a_look_up_on_an_accelerator_reads_nothing_back():
    """Tensors on the meta device have no numbers: to read one raises."""
    weigh = IndexWeighter({3: 1.0, 4: 2.0, 5: 3.0}).to("meta")
    loss = torch.ones(2, device="meta", requires_grad=True)
    value = weigh(loss, index=torch.zeros(2, dtype=torch.int64, device="meta"))
    value.backward()
    assert loss.grad.shape == (2,)
    with pytest.raises(RuntimeError, match="meta"):
        value.item()


def test_a_sequence_takes_the_weight_of_its_row_or_of_each_token():
    loss = torch.tensor([[1.0, 3.0], [5.0, 7.0]])
    index = torch.tensor([1, 0])
    by_row = IndexWeighter([1.0, 3.0], normalize="batch")
    assert by_row(loss, index=index).item() == (3 * 2 + 1 * 6) / 4
    by_token = IndexWeighter([1.0, 3.0], normalize="batch", unit="token")
    assert by_token(loss, index=torch.tensor([[1, 0], [0, 1]])).item() == (3 + 3 + 5 + 21) / 8


def test_update_moves_weights_and_their_mean():
    weigh = IndexWeighter({10: 1.0, 20: 2.0, 30: 6.0})
    weigh.update(torch.tensor([30, 10]), torch.tensor([2.0, 5.0]), momentum=0.5)
    assert_close(weigh.row_weights, torch.tensor([3.0, 2.0, 4.0]))
    assert weigh.dataset_mean() == 3.0
    with pytest.raises(ValueError, match="1 of 2 new weights are negative, NaN or infinite"):
        weigh.update(torch.tensor([30, 10]), torch.tensor([2.0, -5.0]))
    with pytest.raises(ValueError, match="index 11"):
        weigh.update(torch.tensor([11]), torch.tensor([2.0]))
    with pytest.raises(ValueError, match=r"momentum=1; it must lie in \[0, 1\)"):
        weigh.update(torch.tensor([10]), torch.tensor([2.0]), momentum=1)


@pytest.mark.parametrize(
    ("weights", "settings", "error", "message"),
    [
        ([1.0, -2.0, -3.0], {}, ValueError, "2 entries, the smallest -3"),
        ([1.0, float("nan")], {}, ValueError, "1 entries that are NaN or infinite"),
        ([0.0, 0.0], {}, ValueError, "all 2 weights are zero"),
        ([[1.0]], {}, ValueError, r"has shape \(1, 1\)"),
        ([1.0, 2.0], {"keys": [3, 3]}, ValueError, "1 keys are repeated, for example 3"),
        ([1.0, 2.0], {"keys": [3]}, ValueError, r"keys have shape \(1,\) but there are 2"),
        ([1.0, 2.0], {"keys": ["a", "b"]}, TypeError, "keys have dtype <U1; pass integers"),
        ({1: 1.0}, {"keys": [1]}, ValueError, "weights is a dict and keys are given"),
        ([1.0], {"default": -1.0}, ValueError, "Negative values in data passed to `default`"),
    ],
)
def test_weights_and_keys_are_checked(weights, settings, error, message):
    with pytest.raises(error, match=message):
        IndexWeighter(weights, **settings)


def test_the_index_must_come_and_be_of_integers():
    weigh = IndexWeighter([1.0, 2.0])
    with pytest.raises(ValueError, match=r"index is missing; pass index=.* WithIndex"):
        weigh(torch.ones(2))
    for index in (torch.tensor([0.0, 1.0]), torch.tensor([True, False])):
        with pytest.raises(TypeError, match="index has dtype"):
            weigh(torch.ones(2), index=index)
    with pytest.raises(ValueError, match=r"raw weights have shape \(1,\)"):
        weigh(torch.ones(2), index=torch.tensor([1]))


@pytest.fixture
def shifted(rng):
    X = rng.normal(size=(120, 3))
    y = X @ [1.0, -2.0, 0.5] + X[:, 0] ** 2 + 0.1 * rng.normal(size=120)
    return X, y, rng.normal(0.5, 0.8, size=(80, 3))


def test_estimators_of_shift_and_causal_become_loss_weights_in_one_line(shifted, rng):
    X, y, X_target = shifted
    ratio = ULSIF(random_state=0).fit(X, X_target=(X_target,))
    treatment = rng.integers(0, 2, size=120)
    balanced = EntropyBalancing().fit(X, treatment)
    both = Reweighted(Ridge(), ULSIF(random_state=0)).fit(X, y, X_target=(X_target,))
    piped = make_pipeline(StandardScaler(), EntropyBalancing()).fit(X, treatment)
    for estimator, weights in [
        (ratio, ratio.weights_),
        (balanced, balanced.weights_),
        (both, both.weighter_.weights_),
        (piped, piped[-1].weights_),
    ]:
        weigh = IndexWeighter.from_estimator(estimator)
        assert_allclose(weigh.row_weights.numpy(), weights, rtol=1e-6)
        assert_allclose(ImportanceSampler.from_estimator(estimator).weights, weights)
    ratio.importance = ratio.weights_ + 1
    assert_allclose(
        IndexWeighter.from_estimator(ratio, attr="importance").row_weights.numpy(),
        ratio.weights_ + 1,
        rtol=1e-6,
    )
    with pytest.raises(NotFittedError, match="ULSIF has no attribute weights_ or sample_weight_"):
        IndexWeighter.from_estimator(ULSIF())


@pytest.mark.parametrize("batch_size", [120, 30])
def test_a_linear_model_gets_the_coefficients_of_scikit_learn(shifted, batch_size):
    X, y, X_target = shifted
    weighter = ULSIF(random_state=0).fit(X, X_target=(X_target,))
    expected = Ridge(alpha=1e-3, fit_intercept=False).fit(X, y, sample_weight=weighter.weights_)
    weigh = IndexWeighter.from_estimator(weighter)
    rows = WithIndex(TensorDataset(torch.tensor(X), torch.tensor(y)))
    theta = torch.zeros(3, dtype=torch.float64, requires_grad=True)
    optimiser = torch.optim.LBFGS([theta], max_iter=100, tolerance_grad=1e-12, tolerance_change=0)

    def closure():
        optimiser.zero_grad()
        total = 0.0
        for index, x, target in DataLoader(rows, batch_size=batch_size):
            loss = weigh((x @ theta - target) ** 2, index=index) * len(index)
            loss.backward()
            total += float(loss.detach())
        penalty = 1e-3 * (theta**2).sum()
        penalty.backward()
        return total + float(penalty.detach())

    optimiser.step(closure)
    assert_allclose(theta.detach().numpy(), expected.coef_, rtol=1e-5)
    plain = Ridge(alpha=1e-3, fit_intercept=False).fit(X, y)
    assert abs(plain.coef_ - expected.coef_).max() > 0.05


def test_data_sets_yield_their_positions():
    pairs = WithIndex(TensorDataset(torch.arange(6.0), torch.arange(6)))
    assert len(pairs) == 6
    assert pairs[-1] == (5, torch.tensor(5.0), torch.tensor(5))
    batches = list(DataLoader(pairs, batch_size=4, shuffle=True))
    assert sorted(torch.cat([index for index, _, _ in batches]).tolist()) == list(range(6))
    for index, x, y in batches:
        assert_close(index, y)
        assert_close(x, y.float())
    dicts = WithIndex([{"x": 1}, {"x": 2}])
    assert dicts[1] == {"x": 2, "index": 1}
    assert WithIndex(["a", "b"])[0] == (0, "a")
    assert Subset(pairs, [4, 2])[0][0] == 4
    assert WithIndex(Subset(pairs, [4, 2]))[0][:2] == (0, 4)


def test_batched_fetching_is_handed_on():
    class Batched:
        def __len__(self):
            return 4

        def __getitem__(self, index):
            raise AssertionError("one by one")

        def __getitems__(self, indices):
            return [(10 * index,) for index in indices]

    index, x = next(iter(DataLoader(WithIndex(Batched()), batch_size=3)))
    assert index.tolist() == [0, 1, 2]
    assert x.tolist() == [0, 10, 20]


def test_data_sets_without_positions_are_refused():
    class Stream(IterableDataset):
        def __iter__(self):
            yield 1

    with pytest.raises(TypeError, match="WithIndex: Stream has no items by position"):
        WithIndex(Stream())
    with pytest.raises(ValueError, match="have an entry 'index' already"):
        WithIndex([{"index": 3}])[0]

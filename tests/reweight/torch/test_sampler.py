"""The sampler: counts, processes, resuming, unbiasedness, sizes beyond 2^24."""

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from scipy.stats import chisquare
from torch.utils.data import DataLoader

from reweight.torch import ImportanceSampler, IndexWeighter

WEIGHTS = np.array([0.0, 1.0, 0.3, 5.0, 2.2, 0.7, 0.0, 3.1])


@pytest.mark.parametrize("power", [1.0, 0.5, 0.0])
@pytest.mark.parametrize("n_draws", [8, 3, 1000])
def test_systematic_counts_are_floor_or_ceil_of_their_expectation(power, n_draws):
    sampler = ImportanceSampler(WEIGHTS, n_draws, power=power)
    expected = n_draws * WEIGHTS**power / (WEIGHTS**power).sum()
    for epoch in range(20):
        sampler.set_epoch(epoch)
        counts = np.bincount(list(sampler), minlength=8)
        assert counts.sum() == n_draws == len(sampler)
        assert (counts >= np.floor(expected - 1e-9)).all()
        assert (counts <= np.ceil(expected + 1e-9)).all()


@pytest.mark.parametrize("method", ["systematic", "multinomial"])
def test_expected_counts_are_proportional_to_the_weights(method):
    sampler = ImportanceSampler(WEIGHTS, 10, method=method, seed=4)
    counts = np.zeros(8)
    for _ in range(4000):
        counts += np.bincount(list(sampler), minlength=8)
    drawn = WEIGHTS > 0
    assert counts[~drawn].sum() == 0
    expected = counts.sum() * WEIGHTS[drawn] / WEIGHTS.sum()
    if method == "multinomial":
        assert chisquare(counts[drawn], expected).pvalue > 1e-3
    else:
        # Each epoch's count has at most the variance of one coin.
        assert (abs(counts[drawn] - expected) < 4 * np.sqrt(4000 / 4)).all()


@pytest.mark.parametrize("power", [0.0, 0.4, 1.0])
def test_draws_with_residual_weights_estimate_the_weighted_mean(power):
    losses = np.array([3.0, -1.0, 2.0, 0.5, 4.0, 1.0, 9.0, -2.0])
    sampler = ImportanceSampler(WEIGHTS, power=power)
    residual = sampler.residual_weights().numpy()
    probability = WEIGHTS**power / (WEIGHTS**power).sum()
    assert_allclose((probability * residual) @ losses, WEIGHTS @ losses / WEIGHTS.sum())
    if power == 1.0:
        assert_allclose(residual, 1.0)


def test_residual_weights_reduce_the_loss_without_bias():
    losses = torch.tensor([3.0, -1.0, 2.0, 0.5, 4.0, 1.0, 9.0, -2.0], dtype=torch.float64)
    sampler = ImportanceSampler(WEIGHTS, 64, power=0.5)
    weigh = IndexWeighter(sampler.residual_weights(), normalize="none")
    estimates = [
        weigh(losses[index], index=index).item()
        for _ in range(400)
        for index in DataLoader(range(8), sampler=sampler, batch_size=64)
    ]
    exact = WEIGHTS @ losses.numpy() / WEIGHTS.sum()
    assert abs(np.mean(estimates) - exact) < 4 * np.std(estimates) / np.sqrt(400)


@pytest.mark.parametrize("method", ["systematic", "multinomial"])
def test_processes_interleave_to_the_list_of_one(method):
    settings = {"num_samples": 12, "method": method, "seed": 9}
    whole = list(ImportanceSampler(WEIGHTS, **settings))
    parts = [
        list(ImportanceSampler(WEIGHTS, num_replicas=3, rank=rank, **settings)) for rank in range(3)
    ]
    assert [row for rows in zip(*parts, strict=True) for row in rows] == whole


def test_all_processes_take_as_many_steps():
    parts = [ImportanceSampler(WEIGHTS, num_replicas=3, rank=rank) for rank in range(3)]
    assert [len(list(part)) for part in parts] == [3, 3, 3] == [len(part) for part in parts]
    assert parts[0].num_samples == 9


def test_epochs_differ_and_are_reproducible():
    first, second = ImportanceSampler(WEIGHTS, 50), ImportanceSampler(WEIGHTS, 50)
    lists = [list(first) for _ in range(3)]
    assert lists[0] != lists[1] != lists[2]
    second.set_epoch(1)
    assert list(second) == lists[1]
    assert second.epoch == 2
    assert list(ImportanceSampler(WEIGHTS, 50, seed=1)) != lists[0]


def test_an_epoch_that_was_broken_off_starts_anew():
    sampler = ImportanceSampler(WEIGHTS, 50)
    iterator = iter(sampler)
    start = [next(iterator) for _ in range(5)]
    assert list(sampler)[:5] == start


@pytest.mark.parametrize("consumed", [0, 16, 48])
def test_training_goes_on_in_the_middle_of_an_epoch(consumed):
    sampler = ImportanceSampler(WEIGHTS, 48, num_replicas=1, rank=0)
    loader = DataLoader(range(8), sampler=sampler, batch_size=16)
    list(loader)
    whole = []
    for epoch in range(1, 3):
        sampler.set_epoch(epoch)
        whole += [row for batch in loader for row in batch.tolist()]

    saving = ImportanceSampler(WEIGHTS, 48)
    saving.set_epoch(1)
    batches = iter(DataLoader(range(8), sampler=saving, batch_size=16))
    for _ in range(consumed // 16):
        next(batches)
    state = saving.state_dict()
    assert state == {"epoch": 1, "position": consumed}
    resumed = ImportanceSampler(WEIGHTS, 48)
    resumed.load_state_dict(state)
    rest = []
    for epoch in range(1, 3):
        resumed.set_epoch(epoch)
        rest += list(resumed)
    assert rest == whole[consumed:]


def test_a_loader_with_workers_resumes_from_what_was_trained_on():
    sampler = ImportanceSampler(WEIGHTS, 48)
    loader = DataLoader(range(8), sampler=sampler, batch_size=4, num_workers=1, prefetch_factor=3)
    batches = iter(loader)
    trained = [next(batches), next(batches)]
    assert sampler.position > 8
    state = sampler.state_dict(position=4 * len(trained))
    rest = [row for batch in batches for row in batch.tolist()]
    resumed = ImportanceSampler(WEIGHTS, 48)
    resumed.load_state_dict(state)
    assert list(resumed) == rest


def test_without_replacement_each_row_comes_at_most_once():
    weights = np.array([1.0, 2.0, 3.0, 4.0, 0.0])
    sampler = ImportanceSampler(weights, 2, replacement=False, seed=2)
    counts = np.zeros(5)
    for _ in range(4000):
        drawn = list(sampler)
        assert len(set(drawn)) == 2
        counts[drawn] += 1
    expected = 2 * weights / weights.sum()
    error = np.sqrt(expected * (1 - expected) / 4000)
    assert (abs(counts / 4000 - expected) <= 4 * error + 1e-12).all()
    with pytest.raises(
        ValueError, match=r"row 3 would be drawn 1.2 times in 3 draws, .* at most 2"
    ):
        ImportanceSampler(weights, 3, replacement=False)
    with pytest.raises(ValueError, match="multinomial draws repeat rows"):
        ImportanceSampler(weights, 2, replacement=False, method="multinomial")


def test_more_rows_than_torch_multinomial_allows():
    n_rows = 2**24 + 10
    weights = np.zeros(n_rows, dtype=np.float32)
    weights[-5:] = [1.0, 2.0, 3.0, 4.0, 0.0]
    weights[7] = 10.0
    with pytest.raises(RuntimeError, match="2\\^24"):
        torch.multinomial(torch.ones(n_rows), 1)
    for method in ("systematic", "multinomial"):
        rows, counts = np.unique(
            list(ImportanceSampler(weights, 20, method=method)), return_counts=True
        )
        assert set(rows) <= {7, *range(n_rows - 5, n_rows - 1)}
        if method == "systematic":
            assert_array_equal(counts, [10, 1, 2, 3, 4])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"weights": [1.0, -1.0]}, "ImportanceSampler: Negative values"),
        ({"weights": [0.0, 0.0]}, "all 2 weights are zero"),
        ({"weights": torch.tensor([1.0, float("nan")])}, "1 entries that are NaN or infinite"),
        ({"power": 1.5}, r"power=1.5; it must lie in \[0, 1\]"),
        ({"method": "residual"}, "method='residual'; choose 'systematic' or 'multinomial'"),
        ({"num_samples": 0}, "num_samples=0; draw at least one row"),
        ({"num_replicas": 2, "rank": 2}, "rank=2 of num_replicas=2 processes"),
    ],
)
def test_arguments_are_checked(arguments, message):
    with pytest.raises(ValueError, match=message):
        ImportanceSampler(**{"weights": [1.0, 2.0], **arguments})


def test_a_state_of_another_sampler_is_refused():
    with pytest.raises(ValueError, match="saved position 9 is not among the 8 draws"):
        ImportanceSampler(WEIGHTS).load_state_dict({"epoch": 0, "position": 9})

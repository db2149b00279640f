"""Flipped digits: sizes, rates, the matrix, repeatability, bad input."""

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.datasets import load_digits

from reweight import make_noisy_labels


@pytest.mark.parametrize(("noise", "rate"), [("symmetric", 0.5), ("pair", 0.4)])
def test_labels_are_flipped_as_the_matrix_says(noise, rate):
    y = np.repeat(np.arange(5), 4000)
    data = make_noisy_labels(
        np.zeros((20_000, 1)), y, noise=noise, rate=rate, n_val=0, n_test=0, random_state=0
    )
    counts = np.zeros((5, 5))
    np.add.at(counts, (data.y, data.y_true), 1)
    share = counts / counts.sum(axis=0)
    error = np.sqrt(data.transition * (1 - data.transition) / 4000)
    assert (np.abs(share - data.transition) <= 4 * error).all()
    assert_allclose(data.transition.sum(axis=0), 1)
    assert_allclose(data.transition.diagonal(), 1 - rate)
    if noise == "pair":
        assert_allclose(data.transition[0, 4], rate)
        assert_allclose(data.transition[1, 0], rate)


def test_digits_are_split_without_overlap_and_only_training_labels_are_flipped():
    data = make_noisy_labels(random_state=3)
    X, y = load_digits(return_X_y=True)
    rows = {tuple(row): label for row, label in zip((X / 16).tolist(), y, strict=True)}
    parts = [(data.X, data.y_true), (data.X_val, data.y_val), (data.X_test, data.y_test)]
    assert [len(part) for part, _ in parts] == [1247, 50, 500]
    together = np.vstack([part for part, _ in parts])
    assert_allclose(np.sort(together.sum(axis=1)), np.sort(X.sum(axis=1) / 16))
    for part, labels in parts:
        assert [rows[tuple(row)] for row in part.tolist()] == labels.tolist()
    assert 0.45 < (data.y != data.y_true).mean() < 0.55


def test_same_seed_same_rows_and_labels_of_any_kind():
    names = np.array(["a", "b", "c"])[np.arange(90) % 3]
    first, second = (
        make_noisy_labels(np.arange(90)[:, None], names, n_val=5, n_test=5, random_state=s)
        for s in (1, np.random.default_rng(1))
    )
    assert_array_equal(first.y, second.y)
    assert_array_equal(first.classes, ["a", "b", "c"])
    assert set(first.y) <= set(names)
    clean = make_noisy_labels(rate=0.0, random_state=0)
    assert_array_equal(clean.y, clean.y_true)


def test_bad_input_is_named():
    with pytest.raises(ValueError, match="one of X and y is None"):
        make_noisy_labels(np.zeros((3, 1)))
    with pytest.raises(ValueError, match="leave none of the 10 rows to train on"):
        make_noisy_labels(np.zeros((10, 1)), np.zeros(10), n_val=5, n_test=5)
    with pytest.raises(ValueError, match="The 'rate' parameter of make_noisy_labels"):
        make_noisy_labels(rate=1.0)

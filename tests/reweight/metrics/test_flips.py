"""Flip rates count what they say and add up to the change of accuracy."""

import numpy as np
import pytest
from numpy.testing import assert_allclose

from reweight import negative_flip_rate, positive_flip_rate


def test_by_hand():
    y, old, new = ["a", "b", "b", "a"], ["a", "b", "a", "b"], ["a", "a", "b", "b"]
    assert negative_flip_rate(y, old, new) == 0.25
    assert positive_flip_rate(y, old, new) == 0.25
    assert negative_flip_rate(y, old, new, sample_weight=[1, 3, 0, 0]) == 0.75
    assert positive_flip_rate(y, old, new, sample_weight=[1, 3, 0, 0]) == 0


def test_they_are_the_change_of_accuracy(rng):
    y, old, new = rng.integers(0, 3, size=(3, 200))
    weight = rng.uniform(size=200)
    negative = negative_flip_rate(y, old, new, sample_weight=weight)
    positive = positive_flip_rate(y, old, new, sample_weight=weight)
    right_old, right_new = (np.average(p == y, weights=weight) for p in (old, new))
    assert_allclose(right_new - right_old, positive - negative, rtol=1e-12)
    assert negative_flip_rate(y, old, old) == 0
    assert positive_flip_rate(y, old, new) == negative_flip_rate(y, new, old)
    assert 0 < negative <= min(right_old, 1 - right_new)


def test_bad_input_is_refused():
    with pytest.raises(ValueError, match="inconsistent numbers of samples"):
        negative_flip_rate([0, 1], [0, 1], [0])
    with pytest.raises(ValueError, match="at least one row"):
        negative_flip_rate([], [], [])
    with pytest.raises(ValueError, match="Negative values"):
        positive_flip_rate([0], [0], [0], sample_weight=[-1.0])

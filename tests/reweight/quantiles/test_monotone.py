"""Facts about what order does to scores."""

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from reweight import isotonic_quantiles, sort_quantiles, sweep_quantiles


def losses(y, q, levels):
    """Sum over levels of the pinball loss of each row."""
    residual = y[:, None] - q
    return np.maximum(levels * residual, (levels - 1) * residual).sum(axis=1)


def draw(rng, n=10_000, m=9):
    levels = np.sort(rng.uniform(0.01, 0.99, size=m))
    return rng.normal(size=n), rng.normal(size=(n, m)), levels


def test_gain_of_sorting_is_known_before_the_outcome_is(rng):
    y, q, levels = draw(rng)
    ordered = sort_quantiles(q)
    gain = losses(y, q, levels) - losses(y, ordered, levels)
    assert_allclose(gain, (ordered - q) @ levels, atol=1e-12)
    assert (gain[(np.diff(q, axis=1) < 0).any(axis=1)] > 0).all()


@pytest.mark.parametrize("operator", [sort_quantiles, isotonic_quantiles])
def test_no_outcome_is_scored_worse(rng, operator):
    y, q, levels = draw(rng)
    assert (losses(y, operator(q), levels) <= losses(y, q, levels) + 1e-12).all()


def test_sweep_may_score_worse_but_only_widens_intervals(rng):
    y, q, levels = draw(rng)
    swept = sweep_quantiles(q)
    assert (losses(y, swept, levels) > losses(y, q, levels) + 1e-6).any()
    assert (swept[:, 5:] >= q[:, 5:]).all()
    assert (swept[:, :4] <= q[:, :4]).all()
    assert_array_equal(swept[:, 4], q[:, 4])

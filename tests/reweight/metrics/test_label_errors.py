"""The error residual ratio at its fixed points, by hand, and under changes of units."""

import numpy as np
import pytest
from numpy.testing import assert_allclose

from reweight import error_residual_ratio


@pytest.fixture(name="labels")
def noisy_labels(rng):
    truth = rng.normal(size=200)
    clean = rng.uniform(size=200) < 0.6
    return np.where(clean, truth, rng.permutation(truth)), truth, clean


def test_all_rows_give_one_and_the_clean_rows_zero(labels):
    recorded, truth, clean = labels
    assert_allclose(error_residual_ratio(recorded, truth), 1, rtol=1e-14)
    assert_allclose(error_residual_ratio(recorded, truth, np.ones(200, bool)), 1, rtol=1e-14)
    assert error_residual_ratio(recorded, truth, clean) == 0.0


def test_it_does_not_depend_on_units(labels, rng):
    recorded, truth, _ = labels
    chosen = rng.uniform(size=200) < 0.3
    expected = error_residual_ratio(recorded, truth, chosen)
    moved = error_residual_ratio(3 - 7 * recorded, 3 - 7 * truth, chosen)
    assert_allclose(moved, expected, rtol=1e-12)


def test_weights_and_selections_by_hand(labels, rng):
    recorded, truth, _ = labels
    error, weights = np.abs(recorded - truth), rng.exponential(size=200)
    rows = rng.permutation(200)[:50]
    chosen = np.isin(np.arange(200), rows)
    expected = sum(weights[i] * error[i] for i in rows) / weights[rows].sum() / error.mean()
    for support in (rows, chosen):
        found = error_residual_ratio(recorded, truth, support, sample_weight=weights)
        assert_allclose(found, expected, rtol=1e-12)
    soft = error_residual_ratio(recorded, truth, sample_weight=chosen.astype(float))
    assert_allclose(soft, error_residual_ratio(recorded, truth, chosen), rtol=1e-12)


def test_bad_input_is_named(labels):
    recorded, truth, clean = labels
    with pytest.raises(ValueError, match="200 rows and y_true 199"):
        error_residual_ratio(recorded, truth[1:])
    with pytest.raises(ValueError, match="no label error to compare"):
        error_residual_ratio(truth, truth)
    with pytest.raises(ValueError, match="no row of positive weight is selected"):
        error_residual_ratio(recorded, truth, np.zeros(200, bool))
    with pytest.raises(ValueError, match="repeats row numbers"):
        error_residual_ratio(recorded, truth, [1, 1])
    with pytest.raises(ValueError, match="from 0 to 200"):
        error_residual_ratio(recorded, truth, np.array([0, 200]))
    with pytest.raises(ValueError, match="pass 200 booleans"):
        error_residual_ratio(recorded, truth, clean[1:])
    with pytest.raises(ValueError, match="1 entries that are not"):
        error_residual_ratio(np.where(np.arange(200) == 3, np.nan, recorded), truth)
    with pytest.raises(ValueError, match="sample_weight has 2 entries"):
        error_residual_ratio(recorded, truth, sample_weight=[1.0, 2.0])

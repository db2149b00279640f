"""Facts about simulated forecasts of quantiles."""

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from reweight import make_quantile_models, pinball_loss, quantile_calibration_error


@pytest.mark.parametrize(("design", "models"), [("distorted", 6), ("switch", 2)])
def test_true_quantiles_are_calibrated_and_no_model_beats_them(design, models):
    data = make_quantile_models(20_000, design=design, n_quantiles=19, random_state=0)
    assert data.Q.shape == (20_000, models, 19)
    assert_allclose(data.quantiles, np.arange(1, 20) / 20)
    assert quantile_calibration_error(data.y, data.true_quantiles, data.quantiles) < 0.006
    best = pinball_loss(data.y, data.true_quantiles, data.quantiles)
    for j in range(models):
        assert pinball_loss(data.y, data.Q[:, j], data.quantiles) > best


def test_models_of_the_switch_are_right_on_their_side():
    data = make_quantile_models(100, design="switch", random_state=0)
    left = data.X[:, 0] < 0
    assert_array_equal(data.Q[left, 0], data.true_quantiles[left])
    assert_array_equal(data.Q[~left, 1], data.true_quantiles[~left])
    assert (data.Q[~left, 0] != data.true_quantiles[~left]).all()


def test_seeds_decide_and_every_kind_is_taken():
    first = make_quantile_models(50, 3, random_state=1)
    assert_array_equal(first.Q, make_quantile_models(50, 3, random_state=1).Q)
    assert not np.array_equal(first.y, make_quantile_models(50, 3, random_state=2).y)
    for state in (np.random.RandomState(0), np.random.default_rng(0), None):
        assert make_quantile_models(10, random_state=state).y.shape == (10,)
    with pytest.raises(ValueError, match="has two models, got n_models=3"):
        make_quantile_models(10, 3, design="switch")

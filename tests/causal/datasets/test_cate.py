"""The designs are what their papers say."""

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from causal import make_cate

SETUPS = ("A", "B", "C", "D", "E", "F")


@pytest.mark.parametrize("setup", SETUPS)
def test_parts_are_consistent(setup):
    study = make_cate(200, setup=setup, noise=0.0, random_state=0)
    e, t = study.propensity, study.treatment
    assert ((e > 0) & (e < 1)).all()
    assert_allclose(study.mu1 - study.mu0, study.effect, atol=1e-12)
    assert_allclose(study.m, e * study.mu1 + (1 - e) * study.mu0, atol=1e-12)
    assert_allclose(study.y, np.where(t == 1, study.mu1, study.mu0), atol=1e-12)


@pytest.mark.parametrize("setup", SETUPS)
def test_arms_are_drawn_by_the_propensity_and_noise_has_its_deviation(setup):
    study = make_cate(100_000, setup=setup, noise=2.0, random_state=1)
    # Standard errors: 0.0016 of a share at most, 0.0045 of a deviation.
    assert abs((study.treatment - study.propensity).mean()) < 0.007
    residual = study.y - np.where(study.treatment == 1, study.mu1, study.mu0)
    assert abs(residual.std() - 2.0) < 0.02


def test_values_by_hand():
    study = make_cate(50, setup="D", n_features=7, random_state=0)
    assert study.X.shape == (50, 7)
    x = study.X[3]
    first, second = max(x[0] + x[1] + x[2], 0), max(x[3] + x[4], 0)
    assert_allclose(study.effect[3], first - second)
    assert_allclose(study.propensity[3], 1 / (1 + np.exp(-x[0]) + np.exp(-x[1])))
    assert_allclose((study.mu0 + study.mu1)[3] / 2, (first + second) / 2)
    study = make_cate(2000, setup="E", random_state=0)
    assert study.X.shape == (2000, 1)
    x, baseline = study.X[:, 0], study.m
    assert_allclose(baseline[x < -0.5], 0.5 * (x[x < -0.5] + 2) ** 2)
    assert_allclose(baseline[x > 0.5], x[x > 0.5] + 0.125)
    # The pieces join but for one step down of a half at -1/2.
    order = np.argsort(x)
    steps = np.diff(baseline[order])
    assert abs(steps[np.argmax(np.abs(steps))] + 0.5) < 0.02
    assert x[order][np.argmax(np.abs(steps))] < -0.5 < x[order][np.argmax(np.abs(steps)) + 1]
    assert np.sort(np.abs(steps))[-2] < 0.05


def test_seeds_and_bad_sizes():
    for setup in SETUPS:
        first, again = (make_cate(20, setup=setup, random_state=5) for _ in range(2))
        assert_array_equal(first.y, again.y)
    with pytest.raises(ValueError, match="needs at least 5 columns"):
        make_cate(10, setup="A", n_features=3)

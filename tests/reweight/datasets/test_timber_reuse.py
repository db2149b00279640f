"""Facts about the simulated timber: the figures that it is built to have."""

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from reweight import ResidualPerformance, make_timber_reuse


def test_shares_and_means_are_those_of_the_abstract():
    data = make_timber_reuse(100_000, random_state=0)
    first = data.residual[data.cycles == 1]
    assert_allclose((first > 0.90).mean(), 0.70, atol=0.02)
    assert_allclose(data.residual[data.cycles >= 2].mean(), 0.78, atol=0.005)
    assert_allclose(first.std(), 0.0763, atol=0.001)


def test_residual_performance_recovers_the_residual():
    data = make_timber_reuse((30, 20, 10), 12, random_state=1)
    model = ResidualPerformance().fit(data.metrics, control=data.is_control)
    tested = ~data.is_control
    found = model.transform(data.metrics[tested]).ravel()
    assert_allclose(found, data.residual[tested], atol=1e-12)


def test_grades_cut_the_residual_and_controls_have_none():
    data = make_timber_reuse(200, random_state=2)
    tested = ~data.is_control
    expected = (data.residual[tested, None] < [0.90, 0.75]).sum(axis=1)
    assert_array_equal(data.level[tested], expected)
    assert (data.level[~tested] == -1).all()
    assert np.isnan(data.residual[~tested]).all()
    assert_array_equal(data.cycles == 0, data.is_control)


def test_probabilities_are_those_of_the_grades():
    data = make_timber_reuse(60_000, random_state=3)
    tested = ~data.is_control
    P, level = data.level_probability[tested], data.level[tested]
    assert_allclose(P.sum(axis=1), 1, rtol=1e-12)
    for k in range(3):
        bins = np.digitize(P[:, k], [0.1, 0.3, 0.5, 0.7, 0.9])
        for at in np.unique(bins):
            rows = bins == at
            error = np.sqrt(max(P[rows, k].mean() * (1 - P[rows, k].mean()), 1e-4) / rows.sum())
            assert abs((level[rows] == k).mean() - P[rows, k].mean()) < 4.5 * error


def test_features_have_their_units_and_depth_does_not_matter():
    data = make_timber_reuse(50_000, random_state=4)
    tested = ~data.is_control
    density, moisture, depth, grain, hardness = data.X[tested].T
    assert_allclose([density.mean(), density.std()], [480, 40], rtol=0.01)
    assert_allclose([moisture.mean(), moisture.std()], [25, 2], rtol=0.01)
    assert_allclose(np.corrcoef(density, hardness)[0, 1], 0.6, atol=0.01)
    assert set(depth) == {45.0, 90.0, 145.0}
    assert set(grain) == {0.0, 90.0}
    one = data.cycles[tested] == 1
    assert abs(np.corrcoef(depth[one], data.residual[tested][one])[0, 1]) < 4 / np.sqrt(50_000)


def test_frames_and_seeds():
    frame = make_timber_reuse(10, random_state=0, return_frame=True)
    assert isinstance(frame.X, pd.DataFrame)
    assert list(frame.X) == frame.feature_names
    assert list(frame.metrics) == ["modulus", "load"]
    assert_array_equal(frame.X.to_numpy(), make_timber_reuse((10, 10, 10), random_state=0).X)
    generators = [np.random.RandomState(3), np.random.RandomState(3)]
    assert_array_equal(*(make_timber_reuse(5, random_state=g).X for g in generators))


@pytest.mark.parametrize("counts", [(1, 2), (0, 0, 0), (-1, 2, 3), (1.5, 2, 3)])
def test_counts_must_be_three(counts):
    with pytest.raises(ValueError, match="three counts"):
        make_timber_reuse(counts)

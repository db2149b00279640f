"""Facts about residual performance, and the controls that it refuses."""

import numpy as np
import pandas as pd
import polars as pl
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from reweight import ResidualPerformance


@pytest.fixture
def metrics(rng):
    return rng.normal([11.0, 4.0], [1.0, 0.4], (40, 2))


CONTROL = np.arange(40) < 15


def test_all_weight_on_one_measure_gives_its_share(metrics):
    model = ResidualPerformance([1, 0]).fit(metrics, control=CONTROL)
    expected = metrics[:, 0] / metrics[CONTROL, 0].mean()
    assert_allclose(model.transform(metrics).ravel(), expected, rtol=1e-12)


def test_default_weights_are_four_to_one_for_two_measures_and_equal_for_others(metrics):
    assert_array_equal(ResidualPerformance().fit(metrics).metric_weights_, [0.8, 0.2])
    three = np.c_[metrics, metrics[:, 0]]
    assert_allclose(ResidualPerformance().fit(three).metric_weights_, 1 / 3)


def test_units_do_not_matter(metrics):
    residual = ResidualPerformance().fit(metrics, control=CONTROL).transform(metrics)
    scaled = metrics * [1000.0, 0.2248]
    again = ResidualPerformance().fit(scaled, control=CONTROL).transform(scaled)
    assert_allclose(again, residual, rtol=1e-12)


@pytest.mark.parametrize("reference", ["mean", "median"])
def test_controls_have_residual_one_in_each_group(reference, metrics):
    groups = np.tile([3, 7], 20)
    model = ResidualPerformance(reference=reference)
    model.fit(metrics, control=CONTROL, groups=groups)
    center = np.mean if reference == "mean" else np.median
    assert model.reference_.shape == (2, 2)
    assert_array_equal(model.n_controls_, [8, 7])
    for code, group in enumerate((3, 7)):
        rows = CONTROL & (groups == group)
        assert_allclose(model.reference_[code], center(metrics[rows], axis=0))
        if reference == "mean":
            residual = model.transform(metrics[rows], groups=groups[rows])
            assert_allclose(residual.mean(), 1, rtol=1e-12)


def test_a_known_reference_needs_no_controls_and_has_no_error(metrics):
    model = ResidualPerformance(reference=[11.0, 4.0]).fit(metrics)
    assert_allclose(model.transform(metrics).ravel(), metrics @ [0.8 / 11, 0.2 / 4])
    assert_array_equal(model.stderr(metrics), 0)


def test_standard_error_is_the_spread_over_draws_of_controls(rng):
    specimen = np.array([[9.0, 3.0]])
    covariance = np.array([[1.0, 0.25], [0.25, 0.16]])
    controls = rng.multivariate_normal([11.0, 4.0], covariance, (4000, 25))
    residuals, errors = [], []
    for sample in controls:
        model = ResidualPerformance().fit(sample)
        residuals.append(model.transform(specimen)[0, 0])
        errors.append(model.stderr(specimen)[0])
    # The delta method is off by the order of 1 / n_controls.
    assert_allclose(np.mean(errors), np.std(residuals), rtol=0.05)


def test_frames_names_and_pipelines(metrics):
    frame = pd.DataFrame(metrics, columns=["modulus", "load"])
    model = ResidualPerformance().fit(frame, control=CONTROL)
    assert list(model.feature_names_in_) == ["modulus", "load"]
    assert list(model.get_feature_names_out()) == ["residual_performance"]
    table = model.set_output(transform="pandas").transform(frame)
    assert list(table) == ["residual_performance"]
    polars = ResidualPerformance().fit(pl.DataFrame(frame), control=CONTROL)
    assert_array_equal(polars.reference_, model.reference_)
    pipeline = make_pipeline(FunctionTransformer(), ResidualPerformance())
    pipeline.fit(metrics, residualperformance__control=CONTROL)
    assert_allclose(pipeline.transform(metrics), model.transform(frame).to_numpy(), rtol=1e-12)


@pytest.mark.parametrize(
    ("parameters", "arguments", "message"),
    [
        ({"metric_weights": [0.5, 0.4]}, {}, "sum 1, got the sum 0.9"),
        ({"metric_weights": [1.5, -0.5]}, {}, "non-negative"),
        ({"metric_weights": [1.0]}, {}, "one weight for each"),
        ({"metric_weights": ["most", "rest"]}, {}, "metric_weights is not numeric"),
        ({"reference": [1.0]}, {}, "one value for each"),
        ({"reference": [1.0, 0.0]}, {}, "'1': 0.0"),
        ({}, {"control": np.zeros(40, bool)}, "no row is a control"),
        ({}, {"control": [True]}, "one True or False for each of 40 rows"),
        ({}, {"control": np.full(40, 2)}, "True or False"),
        ({}, {"control": CONTROL, "groups": np.arange(40) // 20}, "no row of group .*1.* is a con"),
    ],
)
def test_bad_input_is_named(parameters, arguments, message, metrics):
    with pytest.raises(ValueError, match=message):
        ResidualPerformance(**parameters).fit(metrics, **arguments)


def test_controls_whose_reference_is_not_positive_are_named_with_measure_and_group(metrics):
    frame = pd.DataFrame(metrics, columns=["modulus", "load"])
    frame.loc[CONTROL & (np.arange(40) % 2 == 0), "load"] = 0.0
    with pytest.raises(ValueError, match=r"of group .*0.* not positive: \{'load': 0.0\}"):
        ResidualPerformance().fit(frame, control=CONTROL, groups=np.arange(40) % 2)
    frame.loc[0, "load"] = -1.0
    with pytest.raises(ValueError, match=r"Negative values .* \['load'\]"):
        ResidualPerformance().fit(frame, control=CONTROL)


def test_groups_at_transform_must_fit_those_of_fit(metrics):
    groups = np.arange(40) % 2
    model = ResidualPerformance().fit(metrics, groups=groups)
    with pytest.raises(ValueError, match="pass groups="):
        model.transform(metrics)
    with pytest.raises(ValueError, match=r"groups \[5\] have no controls"):
        model.transform(metrics[:1], groups=[5])
    with pytest.raises(ValueError, match="without groups"):
        ResidualPerformance().fit(metrics).transform(metrics, groups=groups)

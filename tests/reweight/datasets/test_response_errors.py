"""The generator draws what it says."""

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from reweight import make_response_errors

DESIGNS = ["linear", "heteroscedastic", "bimodal"]


@pytest.mark.parametrize("design", DESIGNS)
def test_errors_are_the_shift_in_the_share_of_rows_that_was_asked_for(design):
    data = make_response_errors(205, design=design, shift=-2.0, error_share=0.1, random_state=3)
    assert data.is_error.sum() == 20
    assert_allclose(data.y - data.y_true, np.where(data.is_error, -2.0, 0.0), atol=1e-12)
    again = make_response_errors(205, design=design, shift=-2.0, random_state=3)
    assert_array_equal(again.y, data.y)
    assert_array_equal(again.X, data.X)


@pytest.mark.parametrize("design", DESIGNS)
def test_the_truth_does_not_depend_on_the_errors(design):
    clean, dirty = (
        make_response_errors(50, design=design, error_share=share, random_state=1)
        for share in (0.0, 0.5)
    )
    assert not clean.is_error.any()
    assert_array_equal(clean.y_true, dirty.y_true)
    assert_array_equal(clean.y, clean.y_true)


def test_noise_has_the_standard_deviation_that_is_reported():
    data = make_response_errors(20_000, design="heteroscedastic", random_state=0)
    noise = data.y_true - data.X @ [1, -1, 1, 1, -1]
    assert_array_equal(data.noise_std, np.where(data.X[:, 1] > 0.5, 1.15, 0.15))
    assert_allclose((noise / data.noise_std).std(), 1, atol=0.02)
    data = make_response_errors(40_000, design="bimodal", random_state=0)
    x = data.X[:, 0]
    noise = data.y_true - (x - 1) ** 2 * (x + 1)
    assert_allclose((noise / data.noise_std).std(), 1, atol=0.02)
    assert_allclose(data.noise_std[x < 0.5], 0.5)
    assert_allclose(np.mean(x < -0.5), 0.1, atol=0.01)


def test_the_linear_design_has_coefficients_of_size_one():
    data = make_response_errors(5000, shift=1.0, error_share=0.0, random_state=5)
    coefficients, *_ = np.linalg.lstsq(data.X, data.y, rcond=None)
    assert_allclose(np.abs(coefficients), 1, atol=0.05)
    assert_allclose(np.std(data.y - data.X @ coefficients), 0.5, atol=0.02)


def test_bad_arguments_are_refused():
    with pytest.raises(ValueError, match="design"):
        make_response_errors(10, design="5D")
    with pytest.raises(ValueError, match="error_share"):
        make_response_errors(10, error_share=1.5)

"""Facts about calibrated probabilities."""

import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy.optimize import minimize
from scipy.special import log_softmax, softmax

from shift.target._calibration import CALIBRATIONS, fit_calibration, tangent_basis


@pytest.fixture
def held_out(rng):
    """Overconfident probabilities, the classes drawn from the right ones, and weights."""
    z = rng.normal(size=(600, 3))
    y = (softmax(z, axis=1).cumsum(axis=1) < rng.uniform(size=(600, 1))).sum(axis=1)
    share = rng.uniform(0.5, 1.5, size=600)
    return softmax(2 * z + [0, 0.3, -0.2], axis=1), y, share / share.sum()


def unpack(kind, theta, k=3):
    """Scale and bias of a kind as the literature writes them."""
    scale = np.full(k, np.exp(-theta[0])) if kind in ("ts", "bcts") else theta[:k]
    bias = np.zeros(k)
    if kind in ("bcts", "vs"):
        bias[1:] = theta[-(k - 1) :]
    return scale, bias


@pytest.mark.parametrize("kind", CALIBRATIONS)
def test_it_is_the_maximum_likelihood_that_scipy_finds(kind, held_out):
    P, y, share = held_out
    z = np.log(P)

    def loss(theta):
        scale, bias = unpack(kind, theta)
        return -share @ log_softmax(z * scale + bias, axis=1)[np.arange(len(y)), y]

    start = {"ts": [0.0], "bcts": [0.0] * 3, "vs": [1.0] * 3 + [0.0] * 2, "nbvs": [1.0] * 3}[kind]
    found = minimize(loss, start, method="BFGS", options={"gtol": 1e-8})
    calibration = fit_calibration(P, y, share, kind)
    assert calibration.result.converged
    assert calibration.result.objective <= found.fun + 1e-12
    scale, bias = unpack(kind, found.x)
    assert_allclose(calibration.scale, scale, rtol=1e-5)
    assert_allclose(calibration.bias, bias - bias.mean(), atol=1e-5)
    assert_allclose(calibration(P), softmax(z * scale + bias, axis=1), atol=1e-6)


@pytest.mark.parametrize("kind", ["bcts", "vs"])
def test_with_a_bias_mean_probabilities_are_the_shares_of_the_labels(kind, held_out):
    P, y, share = held_out
    calibrated = fit_calibration(P, y, share, kind)(P)
    assert_allclose(share @ calibrated, np.bincount(y, share), atol=1e-9)


@pytest.mark.parametrize("kind", ["ts", "bcts"])
def test_shifts_of_rows_of_logits_cancel(kind, held_out, rng):
    P, y, share = held_out
    shifted = np.log(P) + rng.normal(size=(len(P), 1))
    calibration = fit_calibration(P, y, share, kind)
    direct = softmax(shifted * calibration.scale + calibration.bias, axis=1)
    assert_allclose(calibration(P), direct, rtol=1e-10)


def test_the_temperature_that_was_applied_is_undone(rng):
    z = rng.normal(size=(40_000, 3))
    y = (softmax(z, axis=1).cumsum(axis=1) < rng.uniform(size=(40_000, 1))).sum(axis=1)
    calibration = fit_calibration(
        softmax(2 * z + [0, 0.3, -0.2], axis=1), y, np.full(40_000, 1 / 40_000), "bcts"
    )
    # softmax((logit - shift) / 2); standard errors are about 0.01.
    assert_allclose(calibration.scale, 0.5, atol=0.03)
    assert_allclose(calibration.bias, -0.5 * (np.array([0, 0.3, -0.2]) - 0.1 / 3), atol=0.05)


def test_influences_sum_to_zero_and_give_the_sandwich_of_the_jackknife(held_out):
    P, y, _ = held_out
    P, y = P[:150], y[:150]
    share = np.full(150, 1 / 150)
    calibration = fit_calibration(P, y, share, "bcts")
    influence = calibration.influence(P, y, share)
    assert_allclose(influence.mean(axis=0), 0, atol=1e-7)
    theta = [
        fit_calibration(np.delete(P, i, 0), np.delete(y, i), np.full(149, 1 / 149), "bcts").result.x
        for i in range(150)
    ]
    jackknife = 149 / 150 * np.cov(np.transpose(theta), bias=True) * 150
    assert_allclose(influence.T @ influence / 150**2, jackknife, rtol=0.25, atol=2e-4)


def test_perfect_probabilities_stay(held_out):
    _, y, share = held_out
    calibration = fit_calibration(np.eye(3)[y], y, share, "bcts")
    assert_allclose(calibration(np.eye(3)), np.eye(3), atol=1e-10)


def test_tangent_basis_is_orthonormal_and_sums_to_zero():
    basis = tangent_basis(5)
    assert_allclose(basis.T @ basis, np.eye(4), atol=1e-14)
    assert_allclose(basis.sum(axis=0), 0, atol=1e-14)

"""L2IWE against its printed program, scipy's optimum and integrals."""

import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy.integrate import quad
from scipy.optimize import minimize
from sklearn.metrics.pairwise import rbf_kernel

from shift import L2IWE, make_target_shift
from shift.target.l2iwe import _Sample

pytestmark = pytest.mark.filterwarnings("ignore::reweight.exceptions.WeightWarning")
FIXED = {"bandwidth_x": 0.3, "bandwidth_y": 0.3, "alpha": 0.01, "witness_alpha": 0.01}


def fit(data, **parameters):
    return L2IWE(**parameters).fit(data.X, data.y, X_target=data.X_target)


def printed_program(data, scale=True):
    """H without its ridge, linear term and mean of phi, on the data as `fit` standardises it."""
    sx, sy = (data.X.std(), data.y.std()) if scale else (1.0, 1.0)
    x, xt, y = data.X / sx, data.X_target / sx, data.y[:, None] / sy
    centers_x, centers_y = np.unique(np.r_[x, xt], axis=0), np.unique(y, axis=0)
    gamma = 0.5 / 0.3**2
    U = np.sqrt(np.pi) * 0.3 * rbf_kernel(centers_x, gamma=gamma / 2)
    psi, phi = rbf_kernel(x, centers_x, gamma=gamma), rbf_kernel(y, centers_y, gamma=gamma)
    V = psi.T @ phi / len(x)
    u = rbf_kernel(xt, centers_x, gamma=gamma).mean(axis=0)
    inverse = np.linalg.inv(U + 0.01 * np.eye(len(U)))
    return V.T @ inverse @ V, V.T @ inverse @ u, phi


def test_solution_is_that_of_the_printed_program():
    data = make_target_shift(60, random_state=0)
    weighter = fit(data, **FIXED)
    H, h, phi = printed_program(data)
    a, mean = weighter.coef_, phi.mean(axis=0)
    value = 0.5 * a @ (H + 0.01 * np.eye(60)) @ a - h @ a
    assert_allclose(weighter.objective_, value, rtol=1e-9)
    assert a.min() >= 0
    assert_allclose(mean @ a, 1, rtol=1e-9)
    assert_allclose(weighter.raw_weights_, phi @ a, atol=1e-10)
    assert_allclose(weighter.weights_, phi @ a, rtol=1e-8)
    assert weighter.optimality_gap_ < 1e-6
    reference = minimize(
        lambda v: 0.5 * v @ (H + 0.01 * np.eye(60)) @ v - h @ v,
        np.ones(60) / mean.sum(),
        jac=lambda v: (H + 0.01 * np.eye(60)) @ v - h,
        bounds=[(0, None)] * 60,
        constraints={"type": "eq", "fun": lambda v: mean @ v - 1, "jac": lambda v: mean},
        method="SLSQP",
        options={"ftol": 1e-14, "maxiter": 1000},
    )
    assert reference.success
    assert_allclose(weighter.objective_, reference.fun, rtol=1e-7)


def test_overlaps_are_integrals_of_products():
    centers = np.array([[0.0], [0.4], [1.5]])
    rows = np.zeros((1, 1))
    sample = _Sample(rows, rows[:, 0], np.ones(1), rows, centers, rows[:, 0])

    def witness(x, c):
        return np.exp(-((x - c) ** 2) / (2 * 0.3**2))

    expected = [
        [quad(lambda x, a=a, b=b: witness(x, a) * witness(x, b), -5, 6)[0] for b in centers[:, 0]]
        for a in centers[:, 0]
    ]
    assert_allclose(sample.overlaps(0.3), expected, atol=1e-9)


def test_weights_beat_none_with_fixed_and_with_chosen_lengths():
    fixed, chosen, none = [], [], []
    for seed in range(2):
        data = make_target_shift(300, random_state=seed)
        fixed.append(np.mean((fit(data, **FIXED).weights_ - data.density_ratio) ** 2))
        chosen.append(np.mean((fit(data).weights_ - data.density_ratio) ** 2))
        none.append(np.mean((1 - data.density_ratio) ** 2))
    assert np.mean(fixed) < 0.15 * np.mean(none)
    assert np.mean(chosen) < 0.3 * np.mean(none)


def test_no_shift_gives_weights_near_one():
    data = make_target_shift(300, random_state=0)
    lengths = {"bandwidth_x": 0.3, "bandwidth_y": 1.0, "alpha": 1e-4, "witness_alpha": 1e-3}
    weights = L2IWE(**lengths).fit(data.X, data.y, X_target=data.X).weights_
    # Beyond two standard deviations rows are too few for the ridge to let them reach one.
    central = np.abs(data.y - data.y.mean()) < 2 * data.y.std()
    assert np.abs(weights[central] - 1).max() < 0.1


def test_choices_are_recorded_and_given_ones_kept():
    data = make_target_shift(120, random_state=0)
    weighter = fit(data, bandwidth_y=0.4, alpha=0.1)
    assert weighter.cv_results_ is None
    assert weighter.best_params_["bandwidth_y"] == 0.4
    weighter = fit(data, bandwidth_x=0.4, witness_alpha=0.1, alpha=0.1)
    assert len(weighter.cv_results_) == 9
    best = weighter.cv_results_.loc[weighter.cv_results_["mean_loss"].idxmin()]
    assert weighter.best_params_["bandwidth_y"] == best["bandwidth_y"]
    same = fit(data, **weighter.best_params_)
    assert_allclose(same.weights_, weighter.weights_)


def test_units_do_not_matter_once_standardised_and_do_otherwise():
    data = make_target_shift(100, random_state=0)
    weights = fit(data, **FIXED).weights_
    scaled = L2IWE(**FIXED).fit(9 * data.X, 4 * data.y, X_target=9 * data.X_target).weights_
    assert_allclose(scaled, weights, atol=1e-7)
    raw = L2IWE(**FIXED, standardize=False).fit(data.X, data.y, X_target=data.X_target)
    H, h, _ = printed_program(data, scale=False)
    value = 0.5 * raw.coef_ @ (H + 0.01 * np.eye(100)) @ raw.coef_ - h @ raw.coef_
    assert_allclose(raw.objective_, value, rtol=1e-8)
    assert_allclose(raw.predict_weights(y=data.y), raw.weights_, rtol=1e-9)


def test_rows_may_come_in_any_order(rng):
    data = make_target_shift(90, random_state=0)
    order = rng.permutation(90)
    moved = L2IWE(**FIXED).fit(data.X[order], data.y[order], X_target=data.X_target)
    assert_allclose(moved.weights_, fit(data, **FIXED).weights_[order], atol=1e-7)


def test_centres_are_all_distinct_rows_or_as_many_as_asked_for():
    data = make_target_shift(90, random_state=0)
    assert fit(data, **FIXED).coef_.shape == (90,)
    assert fit(data, **FIXED, n_components=20).coef_.shape == (20,)

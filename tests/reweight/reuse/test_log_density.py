"""Facts about the compiled log density: its value, its gradient and its limits."""

from dataclasses import replace

import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy.optimize import minimize
from scipy.special import log_ndtr, logsumexp, ndtr
from scipy.stats import halfnorm, invgamma, lognorm, norm, t
from sklearn.linear_model import LogisticRegression

from reweight.reuse._log_density import level_mass, log_density, log_level, log_normal_cdf
from reweight.reuse._model import GateData, GateModel, place_residuals
from reweight.reuse._prediction import cut_levels, soft_base_mass, soft_levels

CUTS = {"cut_mean": (0.9, 0.75), "cut_sd": (0.03, 0.05)}
MODELS = {
    "normal": GateModel(3, 3, 0, None, 0.3),
    "plain": GateModel(3, 3, 2, "plain", 0.3),
    "regularized": GateModel(3, 3, 2, "regularized", 0.3, local_df=3.0, global_df=2.0),
    "symmetric": GateModel(3, 3, 0, "regularized", 0.3, symmetric=True),
    "shared": GateModel(3, 3, 2, "regularized", 0.3, shared_scales=True),
    "joint": GateModel(3, 3, 2, "regularized", 0.3, joint=True, **CUTS),
    "two levels": GateModel(3, 2, 0, None, 0.3, joint=True, cut_mean=(0.8,), cut_sd=(0.03,)),
}


def make_data(model, rng, n=40):
    y = rng.integers(0, model.n_classes, n)
    residual = rng.normal(0.84, 0.1, n)
    weight = rng.uniform(0.5, 2.0, n)
    places = ()
    if model.joint:
        # Grades and residuals contradict each other, so that tails are visited.
        y[10:] = -1
        residual[:5] = np.nan
        places = place_residuals(residual, None, weight)
    codes = rng.integers(0, max(model.n_groups, 1), n)
    X = rng.normal(size=(n, model.n_features))
    return GateData(X, y, codes, weight, *places)


def evaluate(model, data, theta):
    return log_density(theta, *data.kernel_arguments(), *model.kernel_arguments())


def levels_in_logs(points, cuts, softness):
    """Log h_k, eq. (16), level by level in high tails."""
    z = (points[:, None] - cuts) / softness
    low, high = log_ndtr(z), log_ndtr(-z)
    columns = [low[:, 0]]
    for k in range(1, len(cuts)):
        with np.errstate(divide="ignore"):
            upper = high[:, k - 1] + np.log1p(-np.exp(high[:, k] - high[:, k - 1]))
            lower = low[:, k] + np.log1p(-np.exp(low[:, k - 1] - low[:, k]))
        columns.append(np.where(z[:, k] + z[:, k - 1] > 0, upper, lower))
    return np.column_stack([*columns, high[:, -1]])


def likelihood(model, data, draw):
    """Eqs. (19a) to (19c) in plain numpy."""
    eta = draw["alpha"] + data.X @ draw["beta"]
    if model.n_groups:
        eta = eta + draw["u"][data.groups]
    if not model.symmetric:
        eta = np.c_[eta, np.zeros(len(eta))]
    joint = eta - logsumexp(eta, axis=1, keepdims=True)
    if model.joint:
        log_h = levels_in_logs(data.points, draw["thresholds"], draw["softness"])
        with np.errstate(divide="ignore"):
            log_q = logsumexp(log_h + np.log(data.base)[:, None], axis=0)
        measured = data.point >= 0
        joint[measured] += (log_h - log_q)[data.point[measured]]
    known = data.y >= 0
    rows = logsumexp(joint, axis=1)
    rows[known] = joint[known, data.y[known]]
    return data.weight @ rows


def prior(model, draw):
    """Eqs. (6) to (12) and the prior of the cuts, by scipy, on the unconstrained scale."""
    value = norm.logpdf(draw["alpha"], 0, model.intercept_scale).sum()
    value += norm.logpdf(draw["z"]).sum()
    if model.horseshoe is not None:
        value += t.logpdf(draw["tau"] / model.tau0, model.global_df) + np.log(draw["tau"])
        value += (t.logpdf(draw["lam"], model.local_df) + np.log(draw["lam"])).sum()
    if model.horseshoe == "regularized":
        shape, scale = model.slab_df / 2, model.slab_df * model.slab_scale**2 / 2
        value += invgamma.logpdf(draw["c2"], shape, scale=scale) + np.log(draw["c2"])
    if model.n_groups:
        value += (halfnorm.logpdf(draw["s"], 0, model.group_scale) + np.log(draw["s"])).sum()
        value += norm.logpdf(draw["v"]).sum()
    if model.joint:
        cuts, s = draw["thresholds"], draw["softness"]
        value += norm.logpdf(cuts, model.cut_mean, model.cut_sd).sum()
        value += np.log(-np.diff(cuts)).sum()
        value += lognorm.logpdf(s, model.softness_sd, scale=model.softness) + np.log(s)
    return value


@pytest.mark.parametrize("name", MODELS)
def test_value_is_that_of_plain_numpy_up_to_a_constant(name, rng):
    model = MODELS[name]
    data = make_data(model, rng)
    theta = 0.7 * rng.normal(size=(5, model.n_parameters))
    values = np.array([evaluate(model, data, row)[0] for row in theta])
    draws = [model.constrain(row) for row in theta]
    twin = np.array([prior(model, draw) + likelihood(model, data, draw) for draw in draws])
    assert_allclose(np.diff(values), np.diff(twin), rtol=1e-10)


@pytest.mark.parametrize("name", MODELS)
def test_gradient_is_that_of_central_differences(name, rng):
    model = MODELS[name]
    data = make_data(model, rng)
    theta, step = 0.7 * rng.normal(size=model.n_parameters), 1e-6
    gradient = evaluate(model, data, theta)[1]
    differences = [
        (evaluate(model, data, theta + step * e)[0] - evaluate(model, data, theta - step * e)[0])
        / (2 * step)
        for e in np.eye(model.n_parameters)
    ]
    assert_allclose(gradient, differences, rtol=1e-5, atol=1e-5)


def test_gradient_where_every_residual_is_far_above_every_cut(rng):
    model = MODELS["two levels"]
    residual = rng.normal(10.0, 0.1, 20)
    places = place_residuals(residual, None, np.ones(20))
    zero = np.zeros(20, dtype=np.int64)
    data = GateData(rng.normal(size=(20, 3)), zero - 1, zero, np.ones(20), *places)
    theta, step = 0.3 * rng.normal(size=model.n_parameters), 1e-6
    value, gradient = evaluate(model, data, theta)
    assert np.isfinite(value)
    differences = [
        (evaluate(model, data, theta + step * e)[0] - evaluate(model, data, theta - step * e)[0])
        / (2 * step)
        for e in np.eye(model.n_parameters)
    ]
    # Terms of 4e5 cancel, which leaves ten digits of each value.
    assert_allclose(gradient, differences, rtol=1e-3, atol=1e-3 * np.abs(gradient).max())


def test_log_of_the_normal_distribution_function_in_all_tails():
    z = np.concatenate([np.linspace(-200, 40, 4001), [-25.0, -25.000001, 0.0, 1e-9]])
    assert_allclose([log_normal_cdf(value) for value in z], log_ndtr(z), rtol=1e-12, atol=1e-300)


def test_levels_sum_to_one_and_so_do_masses(rng):
    points, cuts = rng.normal(0.84, 0.2, 500), np.array([0.95, 0.9, 0.7])
    levels = level_mass(points, cuts, 0.02)
    assert_allclose(levels.sum(axis=1), 1, rtol=1e-12)
    expected = -np.diff(ndtr((points[:, None] - cuts) / 0.02), axis=1, prepend=0, append=1)
    assert_allclose(levels, -expected, atol=1e-14)
    base = rng.dirichlet(np.ones(500))
    log_q = soft_base_mass(points, base, cuts[None], np.array([0.02]))[0]
    assert_allclose(np.exp(log_q).sum(), 1, rtol=1e-12)
    assert_allclose(np.exp(log_q), base @ levels, rtol=1e-12)


def test_log_levels_are_finite_far_from_every_cut_and_fall_with_distance():
    cuts, softness = np.array([0.9, 0.75]), 0.01
    r = np.linspace(0.75 - 40 * softness, 0.9 + 40 * softness, 301)
    values = np.array([[log_level(x, cuts, softness, k) for k in range(3)] for x in r])
    assert np.isfinite(values).all()
    assert (np.diff(values[:, 0]) >= 0).all()
    assert (np.diff(values[:, 2]) <= 0).all()
    assert_allclose(values, levels_in_logs(r, cuts, softness), rtol=1e-9, atol=1e-12)
    assert_allclose(soft_levels(r, cuts[None], np.array([softness]))[0], values)


def test_gradient_moves_a_cut_that_is_on_the_wrong_side_of_every_row():
    model = GateModel(1, 2, 0, None, 0.3, joint=True, cut_mean=(0.9,), cut_sd=(0.1,))
    residual = np.array([0.2, 0.21, 0.6, 0.61])
    places = place_residuals(residual, None, np.ones(4))
    y = np.array([1, 1, 0, 0])
    data = GateData(np.zeros((4, 1)), y, np.zeros(4, dtype=np.int64), np.ones(4), *places)
    theta = np.zeros(model.n_parameters)
    value, gradient = evaluate(model, data, theta)
    assert np.isfinite(value)
    # Two rows of grade 0 lie thirty softnesses below the cut: it must come down.
    assert gradient[model.blocks["cuts"]][0] < -1


def test_without_information_the_likelihood_is_flat_in_the_cuts(rng):
    model = MODELS["joint"]
    model = replace(model, n_groups=0)
    n = 200
    residual = rng.normal(0.84, 0.1, n)
    point, points, base = place_residuals(residual, None, np.ones(n))
    unknown = np.full(n, -1)
    X = rng.normal(size=(n, 3))
    data = GateData(X, unknown, np.zeros(n, dtype=np.int64), np.ones(n), point, points, base)
    for _ in range(5):
        theta = rng.normal(size=model.n_parameters)
        theta[model.blocks["z"]] = 0.0
        draw = model.constrain(theta)
        cuts, softness = draw["thresholds"], draw["softness"]
        log_q = soft_base_mass(points, base, cuts[None], softness[None])[0]
        theta[model.blocks["alpha"]] = log_q[:-1] - log_q[-1]
        draw = model.constrain(theta)
        assert abs(likelihood(model, data, draw)) < 1e-10
        # The kernel agrees: only the prior is left.
        other = theta.copy()
        other[model.blocks["alpha"]] = 0.0
        flat = evaluate(model, data, theta)[0] - evaluate(model, data, other)[0]
        twin = prior(model, draw) - prior(model, model.constrain(other))
        assert_allclose(flat, twin - likelihood(model, data, model.constrain(other)), atol=1e-9)


def test_a_hard_cut_gives_the_log_ratio_of_probability_and_share(rng):
    cuts = np.array([0.9, 0.75])
    residual = rng.normal(0.84, 0.1, 400)
    residual = residual[(abs(residual[:, None] - cuts) > 1e-4).all(axis=1)]
    n = len(residual)
    model = replace(MODELS["joint"], n_groups=0, softness=1e-6)
    places = place_residuals(residual, None, np.ones(n))
    X, unknown = rng.normal(size=(n, 3)), np.full(n, -1)
    data = GateData(X, unknown, np.zeros(n, dtype=np.int64), np.ones(n), *places)
    theta = rng.normal(size=model.n_parameters)
    theta[model.blocks["cuts"]] = theta[model.blocks["softness"]] = 0.0
    draw = model.constrain(theta)
    assert_allclose(draw["thresholds"], cuts)
    levels = cut_levels(residual, cuts)
    eta = np.c_[draw["alpha"] + X @ draw["beta"], np.zeros(n)]
    log_pi = eta - logsumexp(eta, axis=1, keepdims=True)
    shares = np.bincount(levels) / n
    expected = (log_pi[np.arange(n), levels] - np.log(shares)[levels]).sum()
    # Against a model whose gate is flat, so that the constant of the prior drops out.
    flat = theta.copy()
    flat[model.blocks["z"]] = 0.0
    flat[model.blocks["alpha"]] = np.log(shares[:-1]) - np.log(shares[-1])
    value = evaluate(model, data, theta)[0] - evaluate(model, data, flat)[0]
    value -= prior(model, draw) - prior(model, model.constrain(flat))
    assert_allclose(value, expected, atol=1e-8)


def test_relabelled_classes_have_the_same_likelihood_at_mapped_parameters(rng):
    model = replace(MODELS["normal"], n_features=2, slab_scale=1.0)
    X, y = rng.normal(size=(50, 2)), rng.integers(0, 3, 50)
    zero, ones = np.zeros(50, dtype=np.int64), np.ones(50)
    theta = rng.normal(size=model.n_parameters)
    alpha = np.append(theta[:2], 0.0)
    beta = np.c_[theta[2:].reshape(2, 2), np.zeros(2)]
    swap = np.array([2, 0, 1])  # the new label of each class
    old = np.argsort(swap)
    alpha, beta = alpha[old] - alpha[old[-1]], beta[:, old] - beta[:, [old[-1]]]
    mapped = np.r_[alpha[:2], beta[:, :2].ravel()]
    given, other = GateData(X, y, zero, ones), GateData(X, swap[y], zero, ones)
    difference = evaluate(model, other, mapped)[0] - evaluate(model, given, theta)[0]
    draws = model.constrain(mapped), model.constrain(theta)
    assert_allclose(difference, prior(model, draws[0]) - prior(model, draws[1]), atol=1e-10)


def mode(model, data):
    found = minimize(
        lambda theta: [-part for part in evaluate(model, data, theta)],
        np.zeros(model.n_parameters),
        jac=True,
        method="BFGS",
        options={"gtol": 1e-8},
    )
    return model.constrain(found.x)


def test_the_mode_of_two_classes_is_ridge_logistic_regression(rng):
    X = rng.normal(size=(120, 3))
    y = (X @ [1.0, -0.5, 0.0] + rng.logistic(size=120) > 0).astype(np.int64)
    model = GateModel(3, 2, 0, None, 1.0, intercept_scale=1e6, slab_scale=1.5)
    draw = mode(model, GateData(X, y, np.zeros(120, dtype=np.int64), np.ones(120)))
    peer = LogisticRegression(C=1.5**2, tol=1e-10, max_iter=1000).fit(X, y)
    # Ours are log odds of the first class.
    assert_allclose(-draw["beta"][:, 0], peer.coef_[0], atol=1e-4)
    assert_allclose(-draw["alpha"], peer.intercept_, atol=1e-4)


def test_the_mode_of_three_symmetric_classes_is_ridge_logistic_regression(rng):
    X, y = rng.normal(size=(150, 2)), rng.integers(0, 3, 150)
    y[X[:, 0] > 0.5] = 0
    model = GateModel(2, 3, 0, None, 1.0, symmetric=True, intercept_scale=100.0, slab_scale=0.7)
    draw = mode(model, GateData(X, y, np.zeros(150, dtype=np.int64), np.ones(150)))
    peer = LogisticRegression(C=0.7**2, tol=1e-10, max_iter=1000).fit(X, y)
    assert_allclose(draw["beta"].T, peer.coef_, atol=1e-4)


def test_expected_number_of_nonzeros_is_that_asked_for(rng):
    n, p, p0, share = 400, 20, 4, 0.3
    information = n * share * (1 - share)
    tau0 = p0 / (p - p0) / np.sqrt(information)
    model = GateModel(p, 2, 0, "plain", tau0)
    lam = abs(rng.standard_cauchy((100_000 // p, p, 1)))
    draws = {"alpha": np.zeros((len(lam), 1)), "tau": np.full(len(lam), tau0), "lam": lam}
    shrunk = information * model.scales(draws) ** 2
    expected = (shrunk / (1 + shrunk)).sum(axis=(1, 2)).mean()
    assert_allclose(expected, p0, rtol=0.02)

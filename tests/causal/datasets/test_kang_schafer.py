import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy.special import logit

from causal.datasets.kang_schafer import make_kang_schafer


def naive(seed, **options):
    study = make_kang_schafer(200, random_state=seed, **options)
    treated = study.treatment == 1
    return study.y[treated].mean() - study.y[~treated].mean()


def test_draws_come_in_the_published_order():
    rng = np.random.default_rng(7)
    Z = rng.standard_normal((50, 4))
    uniforms = rng.random(50)
    noise = rng.standard_normal(50)
    study = make_kang_schafer(50, noise=2.0, random_state=7)
    assert_array_equal(study.Z, Z)
    e = 1 / (1 + np.exp(Z[:, 0] - 0.5 * Z[:, 1] + 0.25 * Z[:, 2] + 0.1 * Z[:, 3]))
    assert_allclose(study.propensity, e, rtol=1e-14)
    assert_array_equal(study.treatment, e > uniforms)
    signal = 210 + 27.4 * Z[:, 0] + 13.7 * Z[:, 1:].sum(axis=1)
    assert_allclose(study.y, signal + 2 * noise, rtol=1e-13)


def test_covariates_undo_to_the_confounders():
    study = make_kang_schafer(100, random_state=0)
    z1 = 2 * np.log(study.X[:, 0])
    z2 = (study.X[:, 1] - 10) * (1 + np.exp(z1))
    z3 = (np.cbrt(study.X[:, 2]) - 0.6) * 25 / z1
    z4 = np.sqrt(study.X[:, 3]) - 20 - z2
    assert_allclose(np.column_stack([z1, z2, z3, z4]), study.Z, atol=1e-9)


def test_linear_design_is_linear_in_what_is_seen():
    study = make_kang_schafer(500, design="linear", random_state=0)
    slopes, *_ = np.linalg.lstsq(
        np.column_stack([np.ones(500), study.X]), logit(study.propensity), rcond=None
    )
    assert_allclose(slopes, [8, 1, -0.5, -2, -0.01], rtol=1e-8)


def test_scale_multiplies_the_logit():
    one, two, none = (
        make_kang_schafer(100, propensity_scale=scale, random_state=0) for scale in (1, 2, 0)
    )
    assert_allclose(logit(two.propensity), 2 * logit(one.propensity), rtol=1e-12)
    assert_array_equal(none.propensity, 0.5)


def test_published_bias_of_the_difference_in_means():
    # 300 replications: -19.7 and 20.4 to the digits given, same seeds and order of draws.
    differences = np.array([naive(seed) for seed in range(300)])
    assert round(differences.mean(), 1) == -19.7
    assert round(np.sqrt((differences**2).mean()), 1) == 20.4


def test_nobody_responds_to_treatment():
    study = make_kang_schafer(50, noise=0.0, random_state=1)
    design = np.column_stack([np.ones(50), study.Z, study.treatment])
    slopes, *_ = np.linalg.lstsq(design, study.y, rcond=None)
    assert_allclose(slopes, [210, 27.4, 13.7, 13.7, 13.7, 0], atol=1e-9)
    assert study.effect == 0.0


@pytest.mark.parametrize(
    "state", [lambda: 3, lambda: np.random.default_rng(3), lambda: np.random.RandomState(3)]
)
def test_same_state_same_study(state):
    one, two = (make_kang_schafer(20, random_state=state()) for _ in range(2))
    for name in one:
        assert_array_equal(one[name], two[name])


def test_no_state_draws_anew():
    assert not np.array_equal(make_kang_schafer(20).Z, make_kang_schafer(20).Z)


@pytest.mark.parametrize(
    ("argument", "value"),
    [
        ("n_samples", 0),
        ("design", "quadratic"),
        ("propensity_scale", -1.0),
        ("noise", -1.0),
        ("random_state", "seed"),
    ],
)
def test_bad_arguments_are_named(argument, value):
    with pytest.raises(ValueError, match=f"'{argument}' parameter of make_kang_schafer must be"):
        make_kang_schafer(**{argument: value})

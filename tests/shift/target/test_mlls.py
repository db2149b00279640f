"""Facts about maximum likelihood under label shift."""

import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy.special import softmax
from sklearn.exceptions import ConvergenceWarning

from reweight.exceptions import WeightWarning
from reweight.solvers.mixture_proportions import mixture_proportions
from reweight.solvers.reference import mixture_reference
from shift import BBSE, MLLS, make_target_shift
from shift.target import mlls

MEANS = np.array([[0.0, 0.0], [1.5, 0.0], [0.0, 1.5]])
TRUTH = np.array([0.15, 0.25, 0.6]) / [0.5, 0.3, 0.2]


def overconfident(X):
    logits = X @ MEANS.T - 0.5 * (MEANS**2).sum(axis=1) + np.log([0.5, 0.3, 0.2])
    return softmax(2 * logits + [0, 0.3, -0.2], axis=1)


def draw(n, seed=0):
    data = make_target_shift(n, design="classes", random_state=seed)
    return overconfident(data.X), data.y, overconfident(data.X_target)


def em(ratios, n_steps):
    """Plain EM, with the likelihood of every step."""
    q = np.full(ratios.shape[1], 1 / ratios.shape[1])
    values = []
    for _ in range(n_steps):
        mixture = ratios @ q
        values.append(np.log(mixture).mean())
        q = q * (ratios / mixture[:, None]).mean(axis=0)
    return q, np.array(values)


def ratios_of(weighter, P_target):
    return (
        softmax(np.log(P_target) * weighter.scale_ + weighter.bias_, axis=1)
        / weighter.source_prior_
    )


@pytest.mark.parametrize("calibration", [None, "bcts", "ts", "vs", "nbvs"])
@pytest.mark.parametrize("prior", ["probs", "labels"])
def test_optimality_conditions_hold(calibration, prior):
    P, y, P_target = draw(500)
    weighter = MLLS(calibration, prior=prior).fit(P, y, X_target=P_target)
    ratios = ratios_of(weighter, P_target)
    gradient = (ratios / (ratios @ weighter.target_prior_)[:, None]).mean(axis=0)
    assert gradient.max() <= 1 + 1.1e-8
    free = weighter.target_prior_ > 1e-6
    assert_allclose(gradient[free], 1, atol=1e-6)
    assert weighter.optimality_gap_ <= 1e-8


def test_em_climbs_and_ends_where_newton_does():
    P, y, P_target = draw(200)
    weighter = MLLS().fit(P, y, X_target=P_target)
    q, values = em(ratios_of(weighter, P_target), 20_000)
    assert np.diff(values).min() > -1e-13
    assert_allclose(weighter.target_prior_, q, atol=1e-6)
    uniform = np.full(len(P_target), 1 / len(P_target))
    cone = mixture_reference(ratios_of(weighter, P_target), uniform)
    assert_allclose(weighter.target_prior_, cone.x, atol=1e-4)


def test_source_priors_agree_where_calibration_has_a_bias():
    P, y, P_target = draw(500)
    probs, labels = (
        MLLS(prior=prior).fit(P, y, X_target=P_target) for prior in ("probs", "labels")
    )
    assert_allclose(probs.source_prior_, np.bincount(y) / 500, atol=1e-9)
    assert_allclose(probs.class_weights_, labels.class_weights_, rtol=1e-6)
    assert_allclose(probs.covariance_, labels.covariance_, rtol=1e-4)


def test_calibration_removes_the_bias_of_an_overconfident_classifier():
    P, y, P_target = draw(40_000)
    plain = MLLS(calibration=None).fit(P, y, X_target=P_target)
    calibrated = MLLS().fit(P, y, X_target=P_target)
    black_box = BBSE().fit(P, y, X_target=P_target)
    error = np.abs(calibrated.class_weights_ - TRUTH)
    # Standard errors are about 0.04 in the third class.
    assert (error < 4 * calibrated.stderr_).all()
    assert np.abs(plain.class_weights_ - TRUTH).max() > 3 * error.max()
    assert calibrated.stderr_.max() < black_box.stderr_.max()


def test_covariance_is_that_of_repeated_samples():
    weights, priors, stated, stated_prior = [], [], 0, 0
    for seed in range(200):
        P, y, P_target = draw(400, seed)
        weighter = MLLS().fit(P, y, X_target=P_target)
        weights.append(weighter.class_weights_)
        priors.append(weighter.target_prior_)
        stated = stated + weighter.covariance_ / 200
        stated_prior = stated_prior + weighter.target_prior_covariance_ / 200
    # The relative error of a variance from 200 draws is 0.1.
    assert_allclose(np.var(weights, axis=0) / np.diag(stated), 1, atol=0.35)
    assert_allclose(np.var(priors, axis=0) / np.diag(stated_prior), 1, atol=0.35)
    # Priors sum to one whatever the sample.
    assert_allclose(stated_prior.sum(axis=0), 0, atol=1e-10)


def test_a_class_that_the_target_lacks_gets_no_weight():
    P, y, P_target = draw(2000)
    only = P_target[P_target.argmax(axis=1) == 2]
    weighter = MLLS(calibration=None).fit(P, y, X_target=only)
    assert weighter.target_prior_[1] < mlls.ABSENT
    assert weighter.stderr_[1] < weighter.stderr_[0]
    assert weighter.target_prior_covariance_[1, 1] == 0


def test_many_rows_start_from_a_part_and_end_at_the_same_maximum(monkeypatch):
    P, y, P_target = draw(3000)
    expected = MLLS().fit(P, y, X_target=P_target)
    monkeypatch.setattr(mlls, "MANY_ROWS", 1000)
    monkeypatch.setattr(mlls, "PART_ROWS", 300)
    started = MLLS().fit(P, y, X_target=P_target)
    assert started.n_iter_ < expected.n_iter_
    assert_allclose(started.target_prior_, expected.target_prior_, atol=1e-6)
    with pytest.raises(ValueError, match="x0 must be 2 finite, positive proportions"):
        mixture_proportions(np.eye(2), x0=[1.0, 0.0])


def test_what_goes_wrong_is_said():
    P, y, P_target = draw(300)
    with pytest.warns(ConvergenceWarning, match="after max_iter=1 steps"):
        MLLS(max_iter=1).fit(P, y, X_target=P_target)
    with pytest.warns(WeightWarning, match="turns the probabilities round"):
        MLLS("ts").fit(P[:, [1, 2, 0]], y, X_target=P_target)


# Printed by benchmarks/label_shift_abstention.py, with the calibrator applied first.
@pytest.mark.parametrize(
    ("calibration", "weights"),
    [
        (None, [0.570023, 0.846761, 2.796645]),
        ("ts", [0.285584, 0.833792, 3.204263]),
        ("bcts", [0.275769, 0.82896, 2.870012]),
        ("vs", [0.254584, 0.854378, 2.879929]),
        ("nbvs", [0.256429, 0.822297, 3.113539]),
    ],
)
def test_weights_are_those_of_abstention(calibration, weights):
    P, y, P_target = draw(1000)
    weighter = MLLS(calibration).fit(P, y, X_target=P_target)
    # Its calibrators stop at a gradient of about 1e-5.
    assert_allclose(weighter.class_weights_, weights, rtol=1e-3)

"""Facts about black-box shift estimation, and about the input that label shift weighters refuse."""

import warnings

import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy.special import softmax

from reweight.exceptions import WeightWarning
from shift import BBSE, MLLS, RLLS, make_target_shift

WEIGHTERS = [BBSE(), BBSE(soft=False), RLLS(), MLLS(), MLLS(calibration=None)]
MEANS = np.array([[0.0, 0.0], [1.5, 0.0], [0.0, 1.5]])


def overconfident(X):
    """Probabilities of the design's Bayes rule, logits doubled and biased."""
    logits = X @ MEANS.T - 0.5 * (MEANS**2).sum(axis=1) + np.log([0.5, 0.3, 0.2])
    return softmax(2 * logits + [0, 0.3, -0.2], axis=1)


@pytest.fixture
def design():
    data = make_target_shift(2000, design="classes", random_state=0)
    return overconfident(data.X), data.y, overconfident(data.X_target)


@pytest.mark.parametrize("weighter", WEIGHTERS, ids=str)
def test_weights_have_mean_one_over_the_source(weighter, design):
    P, y, P_target = design
    weighter.fit(P, y, X_target=P_target)
    assert_allclose(weighter.source_prior_ @ weighter.class_weights_, 1, rtol=1e-12)
    assert_allclose(weighter.target_prior_.sum(), 1, rtol=1e-12)
    expected = weighter.class_weights_[y]
    assert_allclose(weighter.weights_, expected / expected.mean())


def test_the_equations_imply_mean_one_before_clipping(design):
    P, y, P_target = design
    weighter = BBSE().fit(P, y, X_target=P_target)
    assert_allclose(weighter.confusion_.sum(axis=0), weighter.source_prior_)
    assert_allclose(weighter.confusion_ @ weighter.raw_class_weights_, P_target.mean(axis=0))
    assert_allclose(weighter.source_prior_ @ weighter.raw_class_weights_, 1, rtol=1e-10)


@pytest.mark.parametrize("weighter", WEIGHTERS, ids=str)
def test_a_target_like_the_held_out_rows_leaves_weights_at_one(weighter, design):
    P, y, _ = design
    weighter.fit(P, y, X_target=P)
    # The likelihood is flat at its maximum: a gap of 1e-8 leaves 1e-4 in the priors at most.
    assert_allclose(weighter.class_weights_, 1, atol=1e-4 if isinstance(weighter, MLLS) else 1e-9)


@pytest.mark.parametrize("weighter", WEIGHTERS, ids=str)
def test_a_perfect_classifier_gives_ratios_of_frequencies(weighter, rng):
    y, y_target = rng.choice(3, 500, p=[0.5, 0.3, 0.2]), rng.choice(3, 300, p=[0.2, 0.2, 0.6])
    weighter.fit(np.eye(3)[y], y, X_target=np.eye(3)[y_target])
    expected = (np.bincount(y_target) / 300) / (np.bincount(y) / 500)
    assert_allclose(weighter.class_weights_, expected, rtol=1e-6)


# Printed by benchmarks/label_shift_abstention.py.
@pytest.mark.parametrize(
    ("weighter", "weights"),
    [
        (BBSE(), [0.246913, 0.834651, 2.92592]),
        (BBSE(soft=False), [0.237471, 0.833974, 2.947993]),
        (RLLS(), [0.246913, 0.834651, 2.92592]),
    ],
    ids=["soft", "hard", "rlls"],
)
def test_weights_are_those_of_abstention(weighter, weights):
    data = make_target_shift(1000, design="classes", random_state=0)
    weighter.fit(overconfident(data.X), data.y, X_target=overconfident(data.X_target))
    assert_allclose(weighter.class_weights_, weights, atol=1e-6)


def test_two_classes_have_a_closed_form(rng):
    p, p_target = rng.beta(1, 2, size=400), rng.beta(2, 1, size=300)
    y = (rng.uniform(size=400) < p).astype(int)
    with pytest.warns(WeightWarning, match="estimated below zero"):
        weighter = BBSE(soft=False).fit(p, y, X_target=p_target)
    hard, prior = p > 0.5, np.bincount(y) / 400
    C11, C10 = np.mean(hard & (y == 1)), np.mean(hard & (y == 0))
    mu = np.mean(p_target > 0.5)
    first = (mu - C10 / prior[0]) / (C11 - C10 * prior[1] / prior[0])
    assert_allclose(weighter.raw_class_weights_[1], first, rtol=1e-10)


@pytest.mark.parametrize("weighter", WEIGHTERS, ids=str)
def test_permuted_classes_permute_the_weights(weighter, design):
    P, y, P_target = design
    expected = weighter.fit(P, y, X_target=P_target)
    weights, covariance = expected.class_weights_, expected.covariance_
    order = [2, 0, 1]
    names = np.array(["a", "b", "c"])
    permuted = weighter.set_params(classes=names[order]).fit(
        P[:, order], names[y], X_target=P_target[:, order]
    )
    weighter.set_params(classes=None)
    assert_allclose(permuted.class_weights_, weights[order], rtol=1e-5)
    assert_allclose(permuted.covariance_, covariance[np.ix_(order, order)], rtol=1e-3, atol=1e-8)
    assert_allclose(permuted.predict_weights(y=names), permuted._scale * weights, rtol=1e-5)


@pytest.mark.parametrize("weighter", WEIGHTERS, ids=str)
def test_adapted_probabilities_are_bayes_rule_with_the_new_priors(weighter, design):
    P, y, P_target = design
    weighter.fit(P, y, X_target=P_target)
    adapted = weighter.adapt_proba(P_target)
    assert_allclose(adapted.sum(axis=1), 1)
    odds = np.log(adapted[:, 1] / adapted[:, 0])
    before = P_target
    if isinstance(weighter, MLLS):
        before = softmax(np.log(P_target) * weighter.scale_ + weighter.bias_, axis=1)
        # The maximum of the likelihood is a fixed point of EM.
        assert_allclose(adapted.mean(axis=0), weighter.target_prior_, atol=1e-5)
    w = weighter.class_weights_
    assert_allclose(odds, np.log(before[:, 1] * w[1] / (before[:, 0] * w[0])), rtol=1e-9)


def test_standard_errors_do_not_count_sample_weight_as_rows(design):
    P, y, P_target = design
    weighter = BBSE().fit(P, y, X_target=P_target)
    scaled = BBSE().fit(P, y, X_target=P_target, sample_weight=np.full(len(y), 7.0))
    assert_allclose(scaled.covariance_, weighter.covariance_, rtol=1e-9)
    ends = weighter.confint(0.9)
    assert_allclose(ends.mean(axis=1), weighter.raw_class_weights_)
    assert_allclose((ends[:, 1] - ends[:, 0]) / weighter.stderr_, 2 * 1.6448536, rtol=1e-6)
    prior = weighter.target_prior_interval()
    assert ((prior[:, 0] < weighter.target_prior_) & (weighter.target_prior_ < prior[:, 1])).all()


@pytest.mark.parametrize("weighter", [BBSE(), BBSE(soft=False), MLLS()], ids=str)
@pytest.mark.slow
def test_intervals_cover(weighter):
    expected = np.array([0.15, 0.25, 0.6]) / [0.5, 0.3, 0.2]
    covered, prior_covered = np.zeros(3), np.zeros(3)
    for seed in range(300):
        data = make_target_shift(2000, design="classes", random_state=seed)
        weighter.fit(overconfident(data.X), data.y, X_target=overconfident(data.X_target))
        low, high = weighter.confint().T
        covered += (low <= expected) & (expected <= high)
        low, high = weighter.target_prior_interval().T
        prior_covered += (low <= [0.15, 0.25, 0.6]) & (high >= [0.15, 0.25, 0.6])
    assert (covered / 300 >= 0.90).all()
    assert (covered / 300 <= 0.99).all()
    assert (prior_covered / 300 >= 0.90).all()
    assert (prior_covered / 300 <= 0.99).all()


def test_covariance_is_that_of_repeated_samples():
    raw, priors, stated, stated_prior = [], [], 0, 0
    for seed in range(200):
        data = make_target_shift(500, design="classes", random_state=seed)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", WeightWarning)
            weighter = BBSE().fit(
                overconfident(data.X), data.y, X_target=overconfident(data.X_target)
            )
        raw.append(weighter.raw_class_weights_)
        priors.append(weighter.source_prior_ * weighter.raw_class_weights_)
        stated = stated + np.diag(weighter.covariance_) / 200
        stated_prior = stated_prior + np.diag(weighter.target_prior_covariance_) / 200
    # The relative error of a variance from 200 draws is 0.1.
    assert_allclose(np.var(raw, axis=0) / stated, 1, atol=0.35)
    assert_allclose(np.var(priors, axis=0) / stated_prior, 1, atol=0.35)


def test_negative_weights_are_cut_off_and_counted(rng):
    P = np.array([[0.6, 0.4], [0.6, 0.4], [0.4, 0.6], [0.4, 0.6]])
    with pytest.warns(WeightWarning, match="1 of 2 class weights were estimated below zero"):
        weighter = BBSE().fit(P, [0, 0, 1, 1], X_target=[[0.2, 0.8]] * 5)
    assert weighter.raw_class_weights_.min() < 0
    assert_allclose(weighter.class_weights_, [0, 2])
    assert_allclose(weighter.adapt_proba([[1.0, 0.0], [0.5, 0.5]]), [[0, 1], [0, 1]])


@pytest.mark.parametrize("weighter", WEIGHTERS, ids=str)
class TestBadInput:
    P = np.array([[0.8, 0.2], [0.7, 0.3], [0.3, 0.7], [0.1, 0.9]])
    y = [0, 0, 1, 1]

    def test_rows_that_do_not_sum_to_one(self, weighter):
        P = self.P.copy()
        P[1] = [0.7, 0.4]
        with pytest.raises(ValueError, match=r"1 rows of X do not sum to 1, the first, row 1, to"):
            weighter.fit(P, self.y, X_target=self.P)
        with pytest.raises(ValueError, match="rows of X_target do not sum to 1"):
            weighter.fit(self.P, self.y, X_target=P)
        # Round-off of other libraries is not an error.
        weighter.fit(self.P * 1.0005, self.y, X_target=self.P)

    def test_negative_probabilities(self, weighter):
        with pytest.raises(ValueError, match="X_target has 1 negative entries"):
            weighter.fit(self.P, self.y, X_target=[[1.2, -0.2], [0.5, 0.5]])

    def test_classes_that_do_not_belong(self, weighter):
        with pytest.raises(ValueError, match="X has 2 columns but there are 3 classes"):
            weighter.fit(self.P, [0, 1, 2, 2], X_target=self.P)
        weighter.set_params(classes=[0, 5])
        with pytest.raises(ValueError, match=r"y has labels \[1\] that are not in classes"):
            weighter.fit(self.P, self.y, X_target=self.P)
        with pytest.raises(ValueError, match="prior shift of class 5 cannot be estimated"):
            weighter.fit(self.P, [0, 0, 0, 0], X_target=self.P)
        weighter.set_params(classes=[1, 1])
        with pytest.raises(ValueError, match="must be a list of different labels"):
            weighter.fit(self.P, self.y, X_target=self.P)
        weighter.set_params(classes=None)
        with pytest.raises(ValueError, match="y has one class"):
            weighter.fit(self.P[:, :1] * 0 + 1, [1, 1, 1, 1], X_target=self.P)

    def test_missing_or_unknown_classes(self, weighter):
        with pytest.raises(ValueError, match="requires y to be passed"):
            weighter.fit(self.P, X_target=self.P)
        weighter.fit(self.P, self.y, X_target=self.P)
        with pytest.raises(ValueError, match="predict_weights needs y"):
            weighter.predict_weights(self.P)
        with pytest.raises(ValueError, match=r"y has labels \[7\] that fit has not seen"):
            weighter.predict_weights(y=[0, 7])
        with pytest.raises(ValueError, match="confidence_level=95 must lie between 0 and 1"):
            weighter.confint(95)

    def test_one_column_is_the_probability_of_the_second_class(self, weighter):
        alone = weighter.fit(self.P[:, 1], self.y, X_target=self.P[:3, 1]).class_weights_
        assert_allclose(alone, weighter.fit(self.P, self.y, X_target=self.P[:3]).class_weights_)
        with pytest.raises(ValueError, match="some entries are not between 0 and 1"):
            weighter.fit(self.P[:, 1] * 2, self.y, X_target=self.P)


@pytest.mark.parametrize("weighter", [BBSE(), RLLS()], ids=str)
def test_classes_that_cannot_be_told_apart_are_warned_of(weighter):
    P = np.full((40, 2), 0.5)
    with pytest.warns(WeightWarning, match="confusion matrix has condition number"):
        weighter.fit(P, np.repeat([0, 1], 20), X_target=P)
    assert_allclose(weighter.class_weights_, 1, atol=1e-8)

"""Facts that hold for every method that balances moments of the covariates."""

import pickle

import numpy as np
import pytest
from numpy.testing import assert_allclose
from sklearn.base import clone

from causal import (
    CBPS,
    EntropyBalancing,
    InverseProbabilityTilting,
    PropensityWeighting,
    StableBalancing,
)
from reweight.exceptions import InfeasibleError

ESTIMANDS = ["ATE", "ATT", "ATC"]
FACTORIES = {
    "entropy": lambda estimand: EntropyBalancing(estimand),
    "entropy-el": lambda estimand: EntropyBalancing(estimand, divergence="el"),
    "stable": lambda estimand: StableBalancing(estimand, max_smd=0.0),
    "tilting": lambda estimand: InverseProbabilityTilting(estimand),
    "cbps-just": lambda estimand: CBPS(estimand, over_identified=False),
    "cbps-over": lambda estimand: CBPS(estimand),
    "cbps-updating": lambda estimand: CBPS(estimand, two_step=False),
    "propensity": lambda estimand: PropensityWeighting(estimand=estimand),
}
EXACT = ["entropy", "entropy-el", "stable", "tilting"]
SMOOTH = ["entropy", "entropy-el", "stable", "tilting", "cbps-just", "propensity"]


def arm_means(X, treatment, weights, arm):
    return np.average(X[treatment == arm], axis=0, weights=weights[treatment == arm])


def target_mean(X, treatment, s, estimand):
    keep = {"ATE": slice(None), "ATT": treatment == 1, "ATC": treatment == 0}[estimand]
    return np.average(X[keep], axis=0, weights=s[keep])


@pytest.mark.parametrize("estimand", ESTIMANDS)
@pytest.mark.parametrize("method", EXACT)
def test_weighted_means_meet_the_target(study, method, estimand):
    X, treatment, s = study
    balancer = FACTORIES[method](estimand).fit(X, treatment, sample_weight=s)
    goal = target_mean(X, treatment, s, estimand)
    for arm in (0, 1):
        assert_allclose(arm_means(X, treatment, balancer.weights_, arm), goal, atol=1e-9)
    assert balancer.max_imbalance_ < 1e-8
    if method != "stable":
        assert balancer.weights_.min() > 0
    assert balancer.converged_
    assert balancer.optimality_gap_ < 1e-8


@pytest.mark.parametrize("estimand", ESTIMANDS)
@pytest.mark.parametrize("method", FACTORIES)
def test_weights_have_mean_one_per_arm_and_the_target_keeps_its_own(study, method, estimand):
    X, treatment, s = study
    weights = FACTORIES[method](estimand).fit_weights(X, treatment, sample_weight=s)
    for arm in (0, 1):
        assert weights[treatment == arm].mean() == pytest.approx(1, abs=1e-12)
    still = {"ATT": 1, "ATC": 0}.get(estimand)
    if still is not None:
        rows = treatment == still
        assert_allclose(weights[rows], s[rows] / s[rows].mean(), rtol=1e-12)


@pytest.mark.parametrize("estimand", ESTIMANDS)
@pytest.mark.parametrize("method", FACTORIES)
def test_affine_maps_of_the_covariates_change_nothing(study, method, estimand):
    X, treatment, s = study
    A = np.array([[2.0, 0.3, -1.0], [0.0, 50.0, 4.0], [1.0, 0.0, 0.01]])
    before = FACTORIES[method](estimand).fit_weights(X, treatment, sample_weight=s)
    after = FACTORIES[method](estimand).fit_weights(
        X @ A + [3, -700, 9], treatment, sample_weight=s
    )
    assert_allclose(after, before, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("method", FACTORIES)
def test_rows_may_come_in_any_order(study, method):
    X, treatment, s = study
    order = np.random.default_rng(0).permutation(len(X))
    before = FACTORIES[method]("ATE").fit_weights(X, treatment, sample_weight=s)
    after = FACTORIES[method]("ATE").fit_weights(X[order], treatment[order], sample_weight=s[order])
    assert_allclose(after, before[order], rtol=1e-7)


@pytest.mark.parametrize("method", FACTORIES)
def test_atc_is_att_with_the_labels_swapped(study, method):
    X, treatment, s = study
    atc = FACTORIES[method]("ATC").fit_weights(X, treatment, sample_weight=s)
    att = FACTORIES[method]("ATT").fit_weights(X, 1 - treatment, sample_weight=s)
    assert_allclose(atc, att, rtol=1e-7)


@pytest.mark.parametrize("estimand", ESTIMANDS)
@pytest.mark.parametrize("method", FACTORIES)
def test_a_sampling_weight_of_k_is_a_row_repeated_k_times(study, method, estimand):
    X, treatment, s = study
    weighted = FACTORIES[method](estimand).fit_weights(X, treatment, sample_weight=s)
    index = np.repeat(np.arange(len(X)), s.astype(int))
    repeated = FACTORIES[method](estimand).fit_weights(X[index], treatment[index])
    summed = np.bincount(index, repeated)
    for arm in (0, 1):
        rows = treatment == arm
        assert_allclose(
            weighted[rows] / weighted[rows].sum(), summed[rows] / summed[rows].sum(), rtol=1e-6
        )


@pytest.mark.parametrize("estimand", ESTIMANDS)
@pytest.mark.parametrize("method", FACTORIES)
def test_the_weight_function_returns_the_fitted_weights(study, method, estimand):
    X, treatment, s = study
    balancer = FACTORIES[method](estimand).fit(X, treatment, sample_weight=s)
    assert_allclose(s * balancer.predict_weights(X, treatment), balancer.weights_, rtol=1e-9)
    treated = balancer.predict_weights(X[:5], np.ones(5, dtype=int))
    assert treated.shape == (5,)


@pytest.mark.parametrize("estimand", ESTIMANDS)
@pytest.mark.parametrize("method", FACTORIES)
def test_estimating_equations_hold_and_give_the_derivative_of_the_weights(study, method, estimand):
    X, treatment, s = study
    balancer = FACTORIES[method](estimand).fit(X, treatment, sample_weight=s)
    equations = balancer.estimating_equations()
    size = np.abs(equations.moments).sum(axis=0)
    assert_allclose(equations.moments.sum(axis=0) / size, 0, atol=1e-7)
    if method not in SMOOTH:
        return
    for row in (3, 17, int(np.flatnonzero(treatment == 1)[4])):
        step = 1e-4
        shifted = []
        for sign in (1, -1):
            moved = s.copy()
            moved[row] += sign * step
            shifted.append(
                FACTORIES[method](estimand).fit_weights(X, treatment, sample_weight=moved)
            )
        direct = np.zeros(len(X))
        direct[row] = balancer.weights_[row] / s[row]
        through = np.linalg.lstsq(equations.jacobian, -equations.moments[row] / s[row], rcond=None)[
            0
        ]
        change = direct + equations.weight_derivative @ through
        for arm in (0, 1):
            rows = treatment == arm
            share = balancer.weights_[rows] / rows.sum()
            expected = change[rows] / rows.sum() - share * change[rows].sum() / rows.sum()
            numeric = (shifted[0][rows] - shifted[1][rows]) / (2 * step) / rows.sum()
            assert_allclose(numeric, expected, atol=2e-7)


@pytest.mark.parametrize("method", ["entropy", "stable", "cbps-just", "propensity"])
def test_one_binary_covariate_gives_the_ratio_of_stratum_shares(method):
    x = np.repeat([0.0, 1.0, 0.0, 1.0], [40, 20, 15, 45])
    treatment = np.repeat([0, 1], [60, 60])
    weights = FACTORIES[method]("ATT").fit_weights(x[:, None], treatment)
    expected = np.where(x == 1, (45 / 60) / (20 / 60), (15 / 60) / (40 / 60))
    assert_allclose(weights[:60], expected[:60], rtol=1e-7)


@pytest.mark.parametrize("method", FACTORIES)
def test_a_pickled_copy_weighs_new_rows_but_does_not_carry_the_data(study, method):
    X, treatment, _ = study
    balancer = FACTORIES[method]("ATE").fit(X, treatment)
    copy = pickle.loads(pickle.dumps(balancer))
    assert_allclose(copy.predict_weights(X, treatment), balancer.predict_weights(X, treatment))
    with pytest.raises(AttributeError, match="training rows are not in memory"):
        copy.balance_table()
    assert clone(balancer).get_params() == balancer.get_params()


@pytest.mark.parametrize("method", ["entropy", "stable", "tilting", "cbps-just"])
def test_infeasible_balance_is_reported(study, method):
    X, treatment, _ = study
    far = X.copy()
    far[treatment == 1, 1] += 20
    with pytest.raises(InfeasibleError, match=r"x1.* cannot be balanced") as caught:
        FACTORIES[method]("ATT").fit(far, treatment)
    assert caught.value.worst_column == "x1"
    relaxed = EntropyBalancing("ATT", on_infeasible="relax").fit(far, treatment)
    assert relaxed.relaxed_max_smd_ == pytest.approx(1.05 * caught.value.smallest_tolerance)
    assert relaxed.max_imbalance_ == pytest.approx(relaxed.relaxed_max_smd_, rel=1e-6)


def bad(**changes):
    rng = np.random.default_rng(0)
    given = {"X": rng.standard_normal((20, 2)), "y": np.tile([0, 1], 10)}
    return {**given, **changes}


@pytest.mark.parametrize("method", FACTORIES)
@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        (bad(y=np.arange(20) % 3), ValueError, r"exactly two values, got \[0, 1, 2\]"),
        (bad(y=np.zeros(20)), ValueError, "exactly two values"),
        (bad(y=np.r_[1, np.zeros(19)]), ValueError, "at least two rows"),
        (bad(y=np.tile([0, 1], 9)), ValueError, "inconsistent numbers of samples"),
        (bad(y=None), ValueError, "requires y to be passed"),
        (bad(y=np.r_[np.nan, np.tile([0.0, 1.0], 10)[1:]]), ValueError, "NaN"),
        (bad(X=np.full((20, 2), np.nan)), ValueError, "NaN"),
        (bad(sample_weight=-np.ones(20)), ValueError, "Negative values"),
        (bad(sample_weight=np.zeros(20)), ValueError, "zero in every row"),
        (
            bad(sample_weight=np.tile([0.0, 1.0], 10)),
            ValueError,
            "zero in every row with treatment",
        ),
        (bad(sample_weight=np.ones(19)), ValueError, "sample_weight"),
    ],
)
def test_bad_input_is_refused(method, given, error, message):
    with pytest.raises(error, match=message):
        FACTORIES[method]("ATT").fit(**given)


@pytest.mark.parametrize("constant", [0.1, 1e6, 1.7e9])
@pytest.mark.parametrize("estimand", ESTIMANDS)
@pytest.mark.parametrize("method", FACTORIES)
def test_a_column_of_one_value_changes_nothing(study, method, estimand, constant):
    X, treatment, s = study
    wider = np.column_stack([X, np.full(len(X), constant)])
    plain = FACTORIES[method](estimand).fit(X, treatment, sample_weight=s)
    fitted = FACTORIES[method](estimand).fit(wider, treatment, sample_weight=s)
    assert_allclose(fitted.weights_, plain.weights_, atol=1e-8)


@pytest.mark.parametrize("method", FACTORIES)
def test_covariates_that_do_not_vary_leave_the_weights_alone(method):
    s = np.random.default_rng(3).random(20) + 1.0
    treatment = np.arange(20) % 2
    fitted = FACTORIES[method]("ATT").fit(np.ones((20, 2)), treatment, sample_weight=s)
    for arm in (0, 1):
        rows = treatment == arm
        assert_allclose(fitted.weights_[rows], s[rows] / s[rows].mean())


@pytest.mark.parametrize("estimand", ESTIMANDS)
@pytest.mark.parametrize("method", FACTORIES)
def test_units_of_columns_may_differ_by_any_factor(study, method, estimand):
    X, treatment, s = study
    plain = FACTORIES[method](estimand).fit(X, treatment, sample_weight=s)
    fitted = FACTORIES[method](estimand).fit(X * [1e-9, 1.0, 1e9], treatment, sample_weight=s)
    assert_allclose(fitted.weights_, plain.weights_, atol=1e-7)

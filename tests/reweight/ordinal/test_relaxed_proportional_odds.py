"""Facts about relaxed proportional odds: limits, invariances, peers, and what it refuses."""

import pickle
import time
import warnings

import numpy as np
import pandas as pd
import polars as pl
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy.special import logit
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import GridSearchCV, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from statsmodels.miscmodels.ordinal_model import OrderedModel

from reweight import RelaxedProportionalOdds


def draw(rng, n=400, p=4, cuts=(-0.5, 1.0, 2.0), bend=0.6):
    """Levels whose second feature matters only above the first boundary."""
    X = rng.normal(size=(n, p)) * np.linspace(0.5, 2.0, p) + np.arange(p)
    signal = X[:, 0] + bend * np.maximum(X[:, 1] - 1, 0)
    return X, np.digitize(signal + rng.logistic(size=n), cuts)


@pytest.fixture
def data(rng):
    return draw(rng)


def test_from_the_largest_strength_on_there_are_only_intercepts(data):
    X, y = data
    top = RelaxedProportionalOdds().path(X, y, 3).alphas[0]
    model = RelaxedProportionalOdds(top * (1 + 1e-9)).fit(X, y)
    assert_array_equal(model.coef_, 0.0)
    cumulative = np.cumsum(np.bincount(y))[:-1] / len(y)
    assert_allclose(model.intercept_, logit(cumulative), rtol=1e-10)
    assert np.count_nonzero(RelaxedProportionalOdds(0.999 * top).fit(X, y).coef_) > 0


def test_the_largest_strength_follows_from_the_shares_of_the_levels(data, rng):
    X, y = data
    s = rng.uniform(0.5, 2.0, size=len(y))
    s /= s.sum()
    Z = X - s @ X
    Z /= np.sqrt(s @ Z**2)
    share = np.bincount(y, s)
    cumulative = np.cumsum(share)[:-1]
    f = np.r_[0.0, cumulative * (1 - cumulative), 0.0]
    G = np.zeros((len(y), 5))
    rows = np.arange(len(y))
    G[rows, y + 1] -= s * f[y + 1] / share[y]
    G[rows, y] += s * f[y] / share[y]
    slopes = np.cumsum((Z.T @ G[:, 1:4])[:, ::-1], axis=1)[:, ::-1]
    factors = np.array([1.0, 2.0, 0.5, 1.0])
    expected = np.abs(slopes / factors[:, None]).max() / 0.8
    path = RelaxedProportionalOdds(l1_ratio=0.8, penalty_factors=factors).path(
        X, y, 2, sample_weight=s
    )
    assert_allclose(path.alphas, [expected, 0.01 * expected], rtol=1e-10)


def test_a_strong_penalty_on_differences_alone_is_proportional_odds(rng):
    X, y = draw(rng, n=600)
    model = RelaxedProportionalOdds(1e3, penalize_first=False).fit(X, y)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        peer = OrderedModel(y, X, distr="logit").fit(method="bfgs", maxiter=500, gtol=1e-9, disp=0)
    assert_allclose(model.coef_, np.tile(-peer.params[:4], (3, 1)), atol=1e-5)
    assert_allclose(model.exceedance_coef_, -model.coef_)
    assert_allclose(model.loglik_, peer.llf, rtol=1e-9)
    assert_allclose(model.predict_proba(X), peer.model.predict(peer.params, exog=X), atol=1e-5)


def test_three_levels_without_penalty_are_at_a_stationary_point(rng):
    X, y = draw(rng, cuts=(0.0, 1.5))
    model = RelaxedProportionalOdds(0.0).fit(X, y)
    assert model.optimality_gap_ < 1e-6

    def loglik(step):
        eta = X @ (model.coef_ + step[:, 1:]).T + model.intercept_ + step[:, 0]
        F = np.column_stack([np.zeros(len(y)), 1 / (1 + np.exp(-eta)), np.ones(len(y))])
        rows = np.arange(len(y))
        return np.log(F[rows, y + 1] - F[rows, y]).mean()

    assert_allclose(len(y) * loglik(np.zeros((2, 5))), model.loglik_, rtol=1e-10)
    for index in np.ndindex(2, 5):
        step = np.zeros((2, 5))
        step[index] = 1e-5
        assert abs(loglik(step) - loglik(-step)) / 2e-5 < 1e-6


def test_likelihood_grows_with_freedom(data):
    X, y = data
    free = RelaxedProportionalOdds(0.0).fit(X, y).loglik_
    parallel = RelaxedProportionalOdds(1e3, penalize_first=False).fit(X, y).loglik_
    null = RelaxedProportionalOdds(1e3).fit(X, y).loglik_
    assert free > parallel + 1 > null + 2


def test_shift_and_scale_of_features_change_no_prediction(data):
    X, y = data
    expected = RelaxedProportionalOdds(0.01).fit(X, y).predict_proba(X)
    for moved in (X + [1e3, -50.0, 7.0, 0.0], X * [1e3, 1e-3, -2.0, 1.0]):
        found = RelaxedProportionalOdds(0.01).fit(moved, y).predict_proba(moved)
        assert_allclose(found, expected, atol=1e-8)
    shifted = X + 100.0
    plain = RelaxedProportionalOdds(0.01, standardize=False).fit(X, y).predict_proba(X)
    found = RelaxedProportionalOdds(0.01, standardize=False).fit(shifted, y)
    assert_allclose(found.predict_proba(shifted), plain, atol=1e-8)


def test_slopes_are_sums_of_differences(data):
    model = RelaxedProportionalOdds(0.01).fit(*data)
    assert_allclose(np.cumsum(model.differences_, axis=0), model.coef_)
    assert 0 < np.count_nonzero(model.differences_) < model.differences_.size


@pytest.mark.parametrize("parameters", [{"alpha": 0.02, "penalize_first": False}, {"alpha": 0.0}])
def test_reversed_levels_mirror_the_model(parameters, data):
    X, y = data
    model = RelaxedProportionalOdds(**parameters).fit(X, y)
    mirror = RelaxedProportionalOdds(**parameters).fit(X, 3 - y)
    assert_allclose(mirror.intercept_, -model.intercept_[::-1], atol=1e-5)
    assert_allclose(mirror.coef_, -model.coef_[::-1], atol=1e-5)


def test_with_first_slopes_penalised_the_order_of_levels_matters(data):
    X, y = data
    model = RelaxedProportionalOdds(0.02).fit(X, y)
    mirror = RelaxedProportionalOdds(0.02).fit(X, 3 - y)
    assert np.abs(mirror.coef_ + model.coef_[::-1]).max() > 1e-3


def test_integer_weights_are_repeated_rows_and_scale_does_not_matter(data, rng):
    X, y = data
    s = rng.integers(0, 4, size=len(y))
    model = RelaxedProportionalOdds(0.01).fit(X, y, sample_weight=s)
    repeated = RelaxedProportionalOdds(0.01).fit(np.repeat(X, s, axis=0), np.repeat(y, s))
    assert_allclose(model.coef_, repeated.coef_, atol=1e-8)
    assert_allclose(model.loglik_, repeated.loglik_, rtol=1e-10)
    scaled = RelaxedProportionalOdds(0.01).fit(X, y, sample_weight=7.5 * s)
    assert_allclose(scaled.coef_, model.coef_, atol=1e-10)
    assert_allclose(scaled.loglik_, 7.5 * model.loglik_, rtol=1e-10)


def test_probabilities_sum_to_one_and_all_predictions_agree(data):
    X, y = data
    model = RelaxedProportionalOdds(0.02).fit(X, y)
    P = model.predict_proba(X)
    assert (P >= 0).all()
    assert_allclose(P.sum(axis=1), 1, atol=1e-12)
    assert_allclose(model.predict_log_proba(X), np.log(P), rtol=1e-10)
    above = model.predict_exceedance(X)
    assert_allclose(above, np.cumsum(P[:, ::-1], axis=1)[:, ::-1][:, 1:], atol=1e-12)
    assert_allclose(model.predict_tail_proba(X), P[:, -1], rtol=1e-12)
    assert_allclose(model.predict_tail_proba(X, 2), P[:, 2:].sum(axis=1), rtol=1e-10)
    assert_array_equal(model.predict_tail_proba(X, 0), 1.0)
    assert_array_equal(model.predict(X), P.argmax(axis=1))
    median = (np.cumsum(P, axis=1) < 0.5).sum(axis=1)
    assert_array_equal(model.predict(X, rule="median"), median)
    assert_allclose(model.score(X, y), (model.predict(X) == y).mean())


def test_rare_tails_keep_their_digits(rng):
    X, y = draw(rng, n=2000, cuts=(0.0, 4.0))
    model = RelaxedProportionalOdds(0.001).fit(X, y)
    far = X.mean(axis=0) - 30 * model.exceedance_coef_[-1]
    eta = model.cumulative_logits(far[None])[0, -1]
    assert eta > 25
    assert_allclose(model.predict_tail_proba(far[None]), np.exp(-eta), rtol=1e-9)


def test_the_path_is_monotone_and_its_models_are_those_of_single_fits(data):
    X, y = data
    model = RelaxedProportionalOdds()
    path = model.path(X, y, 8)
    scale = X.std(axis=0)
    size = (np.abs(path.differences) * scale).sum(axis=(1, 2))
    assert (np.diff(path.alphas) < 0).all()
    assert (np.diff(size) >= -1e-8).all()
    assert (np.diff(path.loss) <= 1e-10).all()
    assert (path.optimality_gap <= 1e-7).all()
    assert path.n_relaxed[0] == 0
    assert path.n_relaxed[-1] > 0
    single = RelaxedProportionalOdds(path.alphas[5]).fit(X, y)
    assert_allclose(path.coef[5], single.coef_, atol=1e-6)
    assert_allclose(path.objective[5], single.objective_, rtol=1e-12)
    assert not hasattr(model, "n_features_in_")


def test_given_strengths_are_sorted(data):
    path = RelaxedProportionalOdds().path(*data, [0.01, 0.1])
    assert_array_equal(path.alphas, [0.1, 0.01])


def test_five_penalties_on_2500_rows_take_a_fiftieth_of_a_second(rng):
    X, y = draw(rng, n=2500, p=10)
    model = RelaxedProportionalOdds()
    model.path(X, y, 5)
    seconds = []
    for _ in range(5):
        start = time.process_time()
        model.path(X, y, 5)
        seconds.append(time.process_time() - start)
    assert min(seconds) <= 0.02


def test_gradient_steps_find_the_same_model(data):
    X, y = data
    expected = RelaxedProportionalOdds(0.01).fit(X, y)
    model = RelaxedProportionalOdds(0.01, solver="fista").fit(X, y)
    assert model.solver_result_.solver == "fista"
    assert_allclose(model.coef_, expected.coef_, atol=1e-5)


def test_many_parameters_go_to_gradient_steps(rng):
    X = rng.normal(size=(150, 1100))
    y = np.digitize(X[:, 0] + rng.logistic(size=150), [-1.0, 1.0])
    model = RelaxedProportionalOdds(0.1).fit(X, y)
    assert model.solver_result_.solver == "fista"
    assert model.optimality_gap_ <= 1e-7


def test_warm_start_begins_at_the_last_solution(data):
    X, y = data
    model = RelaxedProportionalOdds(0.01, warm_start=True).fit(X, y)
    coef = model.coef_
    assert model.fit(X, y).n_iter_ == 0
    assert_allclose(model.coef_, coef, atol=1e-10)
    # A solution that lies outside the domain of other rows is no place to start.
    model.intercept_ = np.zeros(3)
    model.coef_ = 100 * rng_like(coef)
    assert_allclose(model.fit(X, y).coef_, coef, atol=1e-6)


def rng_like(array):
    return np.random.default_rng(0).normal(size=array.shape)


def crossing_data(rng):
    X = rng.uniform(-2, 2, size=(300, 1))
    y = np.where(rng.uniform(size=300) < 0.5, 1, np.where(X[:, 0] > 0, 0, 2))
    return X, y


def test_crossings_are_reported_and_repaired(rng):
    X, y = crossing_data(rng)
    # The lower boundary rises with x and the upper does too, but more slowly: they cross far out.
    model = RelaxedProportionalOdds(0.0).fit(X, y)
    model.intercept_, model.coef_ = np.array([0.0, 1.0]), np.array([[2.0], [1.0]])
    new = np.array([[-3.0], [0.0], [2.0], [5.0]])
    with pytest.warns(UserWarning, match="in 2 of 4 rows the boundaries cross"):
        P = model.predict_proba(new)
    assert (P >= 0).all()
    assert_allclose(P.sum(axis=1), 1, atol=1e-12)
    assert_allclose(P[2:, 1], 0, atol=1e-15)
    assert model.crossing_rate(new) == 0.5
    report = model.crossing_report(new)
    assert report.loc[1, "n_rows"] == 2
    assert report.loc[1, "worst_row"] == 2
    eta = model.cumulative_logits(new)[2]
    assert_allclose(
        report.loc[1, "lowest_probability"], 1 / (1 + np.exp(-eta[1])) - 1 / (1 + np.exp(-eta[0]))
    )
    assert (model.crossing_report(new[:2])["worst_row"] == -1).all()


def test_no_training_row_crosses_if_that_is_asked_for(rng):
    X, y = draw(rng, n=150, p=2, cuts=(0.0, 0.3), bend=3.0)
    X[0] = [-40.0, 60.0]
    loose = RelaxedProportionalOdds(0.0005).fit(X, y)
    assert loose.crossing_rate(X) > 0
    with pytest.warns(ConvergenceWarning, match="stops where a training row would cross"):
        strict = RelaxedProportionalOdds(0.0005, domain="all").fit(X, y)
    assert strict.crossing_rate(X) == 0
    assert strict.objective_ >= loose.objective_
    # Where the best model crosses nowhere, it is found.
    rows = draw(rng)
    loose, strict = (
        RelaxedProportionalOdds(0.05, domain=d).fit(*rows) for d in ("observed", "all")
    )
    assert loose.crossing_rate(rows[0]) == 0
    assert_allclose(strict.coef_, loose.coef_, atol=1e-6)


NAMES = np.array(["none", "some", "much", "all of it"])


@pytest.mark.parametrize("container", ["list", "pandas", "polars", "object"])
def test_order_of_named_levels(container, data):
    X, y = data
    labels = NAMES[y]
    expected = RelaxedProportionalOdds().fit(X, y)
    given = {"categories": list(NAMES)}
    if container == "pandas":
        labels = pd.Series(pd.Categorical(labels, categories=NAMES, ordered=True))
        given = {}
    if container == "polars":
        labels = pl.Series(labels.tolist(), dtype=pl.Enum(NAMES.tolist()))
        given = {}
    if container == "object":
        labels = labels.astype(object)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model = RelaxedProportionalOdds(**given).fit(X, labels)
    assert_array_equal(model.classes_, NAMES)
    assert_allclose(model.coef_, expected.coef_)
    assert_array_equal(model.predict(X), NAMES[expected.predict(X)])
    assert_allclose(model.predict_tail_proba(X, "much"), expected.predict_tail_proba(X, 2))


def test_strings_without_an_order_are_sorted_with_a_warning(data):
    X, y = data
    with pytest.warns(UserWarning, match=r"alphabetical order \['all of it', 'much', 'none'"):
        RelaxedProportionalOdds().fit(X, NAMES[y])


def test_frames_keep_their_names(data):
    X, y = data
    names = list("abcd")
    expected = RelaxedProportionalOdds().fit(X, y)
    for frame in (pd.DataFrame(X, columns=names), pl.DataFrame(X, schema=names)):
        model = RelaxedProportionalOdds().fit(frame, y)
        assert list(model.feature_names_in_) == names
        assert_allclose(model.predict_proba(frame), expected.predict_proba(X))


def test_works_with_scikit_learn(data):
    X, y = data
    pipeline = make_pipeline(StandardScaler(), RelaxedProportionalOdds())
    search = GridSearchCV(pipeline, {"relaxedproportionalodds__alpha": [0.001, 0.1]}, cv=3)
    search.fit(X, y)
    assert search.best_score_ > np.bincount(y).max() / len(y)
    P = cross_val_predict(RelaxedProportionalOdds(), X, y, method="predict_proba", cv=3)
    assert P.shape == (len(y), 4)
    model = RelaxedProportionalOdds(0.02).fit(X, y)
    copy = pickle.loads(pickle.dumps(model))
    assert_array_equal(copy.predict_proba(X), model.predict_proba(X))
    assert not hasattr(clone(model), "coef_")


def test_constant_features_get_no_slope(data):
    X, y = data
    wide = np.column_stack([X, np.full(len(y), 1e6)])
    model = RelaxedProportionalOdds(0.01).fit(wide, y)
    assert_array_equal(model.coef_[:, -1], 0.0)
    assert_allclose(model.coef_[:, :4], RelaxedProportionalOdds(0.01).fit(X, y).coef_, atol=1e-7)


def test_penalty_factors_free_a_feature_and_weigh_others(data):
    X, y = data
    model = RelaxedProportionalOdds(10.0, penalty_factors=[0, 1, 1, 1]).fit(X, y)
    assert np.all(model.coef_[:, 0] != 0)
    assert_array_equal(model.coef_[:, 1:], 0.0)
    # Penalised twice as much in half the units is penalised the same.
    plain = RelaxedProportionalOdds(0.01, standardize=False).fit(X, y)
    other = RelaxedProportionalOdds(0.01, standardize=False, penalty_factors=[0.5, 1, 1, 1])
    other.fit(X * [0.5, 1, 1, 1], y)
    assert_allclose(other.coef_ * [0.5, 1, 1, 1], plain.coef_, atol=1e-6)


def test_perfect_separation_without_penalty_is_said():
    X = np.linspace(-1, 1, 60)[:, None]
    y = np.repeat([0, 1, 2], 20)
    with pytest.warns(ConvergenceWarning):
        RelaxedProportionalOdds(0.0, max_iter=300, tol=1e-14).fit(X, y)


def test_too_few_steps_are_said(data):
    with pytest.warns(ConvergenceWarning, match="did not converge: the optimality conditions"):
        RelaxedProportionalOdds(1e-4, max_iter=1).fit(*data)


def test_a_level_with_few_rows_is_said(data):
    X, y = data
    y = np.where(np.arange(len(y)) < 3, 4, y)
    with pytest.warns(UserWarning, match="level 4 has 3 rows"):
        RelaxedProportionalOdds().fit(X, y)


BAD = [
    ({}, lambda X, y, s: (X, np.minimum(y, 1), None), "at least 3 ordered levels; use sklearn"),
    ({}, lambda X, y, s: (X, 0 * y, None), "1 class"),
    ({}, lambda X, y, s: (X, y + 0.5, None), "Unknown label type"),
    ({}, lambda X, y, s: (X, None, None), "requires y"),
    ({}, lambda X, y, s: (X, np.where(y > 2, np.nan, y), None), "Odds: y contains .* missing"),
    ({}, lambda X, y, s: (X, [None, pd.NA, *NAMES[y][2:]], None), "y contains 2 missing entries"),
    ({}, lambda X, y, s: (X[:4], [0, 1, 2, 3], None), "n_samples=4 rows for 4 levels"),
    ({}, lambda X, y, s: (X, y, np.where(y == 2, 0, s)), r"classes \[2\] have no weight"),
    ({}, lambda X, y, s: (X, y, -s), "negative"),
    ({}, lambda X, y, s: (np.where(X > 3, np.nan, X), y, None), "NaN"),
    ({"categories": [0, 1, 2, 3, 9]}, lambda X, y, s: (X, y, None), r"the levels \[9\]"),
    ({"categories": [0, 1, 2]}, lambda X, y, s: (X, y, None), r"labels \[3\]"),
    ({"categories": [0, 1, 2, 3, 3]}, lambda X, y, s: (X, y, None), "repeats labels"),
    ({"alpha": -1.0}, lambda X, y, s: (X, y, None), "'alpha' parameter"),
    ({"l1_ratio": 1.5}, lambda X, y, s: (X, y, None), "'l1_ratio' parameter"),
    ({"penalty_factors": [1, 1, -1, 1]}, lambda X, y, s: (X, y, None), "penalty_factors must be 4"),
    ({"penalty_factors": ["a"] * 4}, lambda X, y, s: (X, y, None), "penalty_factors is not num"),
    ({"penalty_factors": [1, 1]}, lambda X, y, s: (X, y, None), "penalty_factors must be 4"),
]


@pytest.mark.parametrize(("parameters", "change", "message"), BAD, ids=[bad[2] for bad in BAD])
def test_what_cannot_be_used_is_refused_by_name(parameters, change, message, data):
    X, y = data
    X, y, s = change(X, y, np.ones(len(y)))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        with pytest.raises(ValueError, match=message):
            RelaxedProportionalOdds(**parameters).fit(X, y, sample_weight=s)


def test_questions_that_make_no_sense_are_refused(data):
    X, y = data
    model = RelaxedProportionalOdds().fit(X, y)
    with pytest.raises(ValueError, match="category=7 is not among the levels"):
        model.predict_tail_proba(X, 7)
    with pytest.raises(ValueError, match="rule='mean' is unknown"):
        model.predict(X, rule="mean")
    with pytest.raises(ValueError, match="expecting 4 features"):
        model.predict(X[:, :3])
    with pytest.raises(ValueError, match="path needs alphas >= 1"):
        model.path(X, y, 0)
    with pytest.raises(ValueError, match="alphas must be a number of strengths or"):
        model.path(X, y, [0.1, -0.1])
    with pytest.raises(ValueError, match="nothing to penalise"):
        RelaxedProportionalOdds(penalty_factors=np.zeros(4)).path(X, y, 5)

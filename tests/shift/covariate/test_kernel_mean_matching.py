"""Facts about kernel mean matching."""

import warnings

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from sklearn import config_context
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LinearRegression, LogisticRegression, Ridge
from sklearn.model_selection import GridSearchCV, cross_validate
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from reweight import Reweighted, mmd
from reweight.exceptions import WeightWarning
from reweight.kernels.kernel_sums import kernel_matrix
from shift import KernelMeanMatching, make_covariate_shift

pytestmark = pytest.mark.filterwarnings("ignore::reweight.exceptions.WeightWarning")


def design_g(n, t=None, p=5, seed=0):
    rng = np.random.default_rng(seed)
    return rng.normal(0, 1, (n, p)), rng.normal(0.7, 0.8, (t or n, p))


def test_objective_is_the_textbook_quadratic_program_plus_its_constant():
    X, X_target = design_g(60, 40)
    weighter = KernelMeanMatching(1.5).fit(X, X_target=X_target)
    beta = weighter.raw_weights_
    K = kernel_matrix(X, X, "rbf", 1.5)
    kappa = 60 / 40 * kernel_matrix(X, X_target, "rbf", 1.5).sum(axis=1)
    constant = kernel_matrix(X_target, X_target, "rbf", 1.5).mean()
    quadratic = 0.5 * beta @ K @ beta - kappa @ beta
    assert_allclose(weighter.objective_, 2 * quadratic / 60**2 + constant, rtol=1e-9)
    # With weights as they are, not of mean one, that is the squared discrepancy.
    f = K @ beta - kappa
    assert f.min() > -1e-7
    assert_allclose(f[beta > 1e-6], 0, atol=1e-6)


def test_weights_lower_the_discrepancy():
    X, X_target = design_g(200)
    weights = KernelMeanMatching(1.5).fit(X, X_target=X_target).weights_
    before = mmd(X, X_target, bandwidth=1.5)
    after = mmd(X, X_target, x_weights=weights, bandwidth=1.5)
    assert after < before / 4
    # The pinned optimum, but for the scaling of the weights to mean one.
    assert_allclose(after, np.sqrt(6.512534e-3), rtol=0.1)


def test_cap_binds_and_costs():
    X, X_target = design_g(60)
    free = KernelMeanMatching(1.5).fit(X, X_target=X_target)
    capped = KernelMeanMatching(1.5, max_weight=2.0).fit(X, X_target=X_target)
    assert free.raw_weights_.max() > 2.0
    assert_allclose(capped.raw_weights_.max(), 2.0, rtol=1e-9)
    assert capped.objective_ > free.objective_
    assert capped.optimality_gap_ < 1e-8
    for solver in ("landmarks", "gradient"):
        other = KernelMeanMatching(
            1.5, max_weight=2.0, solver=solver, n_components=120, tol=1e-3, random_state=0
        ).fit(X, X_target=X_target)
        assert other.raw_weights_.max() <= 2.0 + 1e-12
        assert other.objective_ - capped.objective_ <= other.optimality_gap_ * 2 / 60 + 1e-12


@pytest.mark.parametrize("tolerance", [0.0, 0.1])
def test_mean_weight_stays_within_its_tolerance(tolerance):
    X, X_target = design_g(60)
    # Far from the source the unconstrained weights would be small.
    weighter = KernelMeanMatching(0.7, mean_tolerance=tolerance).fit(X, X_target=X_target + 1.5)
    assert_allclose(weighter.raw_weights_.mean(), 1 - tolerance, atol=1e-8)
    reference = KernelMeanMatching(0.7, mean_tolerance=tolerance, solver="cvxpy")
    reference.fit(X, X_target=X_target + 1.5)
    assert_allclose(weighter.objective_, reference.objective_, rtol=1e-6)


@pytest.mark.parametrize("kernel", ["rbf", "laplacian", "matern"])
def test_kernels(kernel):
    X, X_target = design_g(50, 40)
    weighter = KernelMeanMatching(1.5, kernel=kernel).fit(X, X_target=X_target)
    beta = weighter.raw_weights_
    value = beta @ kernel_matrix(X, X, kernel, 1.5) @ beta / 50**2
    value -= 2 * (beta @ kernel_matrix(X, X_target, kernel, 1.5)).sum() / 2000
    value += kernel_matrix(X_target, X_target, kernel, 1.5).mean()
    assert_allclose(weighter.objective_, value, rtol=1e-8)


def test_one_bandwidth_per_column_is_a_scaling_of_columns():
    X, X_target = design_g(50, 40)
    lengths = np.array([1.0, 2.0, 1.5, 3.0, 1.0])
    one = KernelMeanMatching(1.0, alpha=0.01).fit(X / lengths, X_target=X_target / lengths)
    many = KernelMeanMatching(lengths, alpha=0.01).fit(X, X_target=X_target)
    assert_allclose(many.weights_, one.weights_, rtol=1e-6)


def test_automatic_ridge_spreads_weights_without_spoiling_the_match():
    X, X_target = design_g(300)
    plain = KernelMeanMatching(1.5).fit(X, X_target=X_target)
    spread = KernelMeanMatching(1.5, alpha="auto").fit(X, X_target=X_target)
    assert spread.ess_ > 1.5 * plain.ess_
    matched = spread.objective_ - 0.1 * (2 / 300) * (spread.raw_weights_**2).mean()
    assert matched - plain.objective_ < 0.5 * (2 / 300)


def test_exponent_flattens():
    X, X_target = design_g(60)
    full = KernelMeanMatching(1.5, alpha="auto").fit(X, X_target=X_target)
    half = KernelMeanMatching(1.5, alpha="auto", exponent=0.5).fit(X, X_target=X_target)
    none = KernelMeanMatching(1.5, alpha="auto", exponent=0.0).fit(X, X_target=X_target)
    assert_allclose(half.weights_, np.sqrt(full.raw_weights_) / np.sqrt(full.raw_weights_).mean())
    assert_allclose(none.weights_, 1)
    assert full.ess_ < half.ess_ < none.ess_
    assert_allclose(half.raw_weights_, full.raw_weights_)


def test_landmarks_are_reproducible_and_certified():
    X, X_target = design_g(2200, 300)
    first, second = (
        KernelMeanMatching(1.5, random_state=3).fit(X, X_target=X_target) for _ in range(2)
    )
    assert_array_equal(first.weights_, second.weights_)
    assert first.solver_result_.solver == "interior-point-lowrank"
    assert first.optimality_gap_ <= 0.05


def test_there_are_no_weights_for_new_rows():
    X, X_target = design_g(30)
    assert not hasattr(KernelMeanMatching().fit(X, X_target=X_target), "predict_weights")


def test_target_passes_whole_through_cross_validation_in_a_tuple():
    data = make_covariate_shift(60, 60, random_state=0)
    model = Reweighted(LogisticRegression(), KernelMeanMatching(2.0))
    found = cross_validate(
        model,
        data.X,
        data.y,
        params={"X_target": (data.X_target,)},
        return_estimator=True,
        cv=3,
    )
    assert [part.weighter_.n_target_ for part in found["estimator"]] == [60, 60, 60]
    assert np.isfinite(found["test_score"]).all()


def test_parameters_can_be_searched():
    data = make_covariate_shift(80, 60, random_state=0)
    model = Reweighted(make_pipeline(StandardScaler(), Ridge()), KernelMeanMatching())
    grid = {"weighter__bandwidth": [1.0, 2.0], "weighter__exponent": [0.0, 1.0]}
    search = GridSearchCV(model, grid, cv=3).fit(data.X, data.y, X_target=(data.X_target,))
    assert search.best_estimator_.weighter_.n_target_ == 60
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()


def test_weights_help_a_misspecified_regression():
    data = make_covariate_shift(200, 200, design="sinc", random_state=0)
    model = Reweighted(LinearRegression(), KernelMeanMatching(0.3, alpha="auto"))
    model.fit(data.X, data.y, X_target=data.X_target)
    plain = LinearRegression().fit(data.X, data.y)

    def error(fitted):
        return np.mean((fitted.predict(data.X_target) - np.sinc(data.X_target[:, 0])) ** 2)

    assert error(model) < 0.3 * error(plain)


def test_target_that_was_not_transformed_is_noticed():
    X, X_target = design_g(50)
    with pytest.warns(WeightWarning, match=r"means of 5 of 5 columns of X_target .* transform"):
        KernelMeanMatching(5.0).fit(X, X_target=100 + 30 * X_target)
    with warnings.catch_warnings():
        warnings.simplefilter("error", ConvergenceWarning)
        KernelMeanMatching(1.5).fit(X, X_target=X_target)


@pytest.mark.parametrize(
    ("X_target", "error", "message"),
    [
        (np.ones((5, 4)), ValueError, "X_target is not usable.* 4 features.* 5 features"),
        (np.full((5, 5), np.nan), ValueError, "X_target is not usable.*NaN"),
        (np.empty((0, 5)), ValueError, "X_target is not usable.*0 sample"),
        ((np.ones((5, 5)), 1), ValueError, "tuple of 2 members"),
    ],
)
def test_bad_target_rows_are_named(X_target, error, message):
    with pytest.raises(error, match=message):
        KernelMeanMatching(1.5).fit(design_g(20)[0], X_target=X_target)


def test_sparse_rows_are_refused_with_a_way_out():
    from scipy.sparse import csr_matrix

    X, X_target = design_g(20)
    with pytest.raises(TypeError, match=r"sparse data was passed.*ClassifierDensityRatio"):
        KernelMeanMatching(1.5).fit(csr_matrix(X), X_target=X_target)


def test_where_many_weights_match_the_most_even_ones_are_taken(monkeypatch):
    import shift.covariate._matching as matching

    X, X_target = design_g(3000, 3000, p=2)
    options = {"solver": "landmarks", "n_components": 40, "random_state": 0}
    plain = KernelMeanMatching(1.0, **options).fit(X, X_target=X_target)
    monkeypatch.setattr(matching, "MOST_EVEN_ROWS", 1000)
    even = KernelMeanMatching(1.0, **options).fit(X, X_target=X_target)
    assert even.solver_result_.solver == "newton-chi2"
    assert even.ess_ > 1.5 * plain.ess_
    assert even.optimality_gap_ <= 0.05
    assert_allclose(even.raw_weights_.mean(), 1, rtol=1e-9)
    # A cap that they break, or a target out of reach, leaves the problem to the interior point.
    for changes, rows in (({"max_weight": 3.0}, X_target), ({}, X_target + 2.0)):
        other = KernelMeanMatching(1.0, **options, **changes).fit(X, X_target=rows)
        assert other.solver_result_.solver == "interior-point-lowrank"
        assert other.raw_weights_.max() <= changes.get("max_weight", 1000.0) + 1e-9


def test_few_effective_rows_are_said():
    X = np.linspace(0, 1, 60)[:, None]
    with pytest.warns(WeightWarning, match=r"effective sample size of \d\.\d rows, fewer than 10"):
        KernelMeanMatching(0.05, alpha="auto").fit(X, X_target=X[:8])


@pytest.mark.parametrize("wrap", [lambda rows: rows, lambda rows: (rows,)])
def test_pipeline_transforms_the_target_when_it_is_told_to(wrap):
    X, X_target = design_g(50, 40)
    X, X_target = 30 * X + 100, 30 * X_target + 100
    scaler = StandardScaler().fit(X)
    expected = KernelMeanMatching(1.5).fit(scaler.transform(X), X_target=scaler.transform(X_target))
    with config_context(enable_metadata_routing=True):
        pipeline = Pipeline(
            [("scale", StandardScaler()), ("weigh", KernelMeanMatching(1.5))],
            transform_input=["X_target"],
        )
        pipeline.fit(X, X_target=wrap(X_target))
        plain = Pipeline([("scale", StandardScaler()), ("weigh", KernelMeanMatching(1.5))])
        with pytest.warns(WeightWarning, match="transform_input"):
            plain.fit(X, X_target=wrap(X_target))
    assert_allclose(pipeline["weigh"].weights_, expected.weights_, rtol=1e-9)

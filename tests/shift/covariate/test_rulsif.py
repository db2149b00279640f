"""Facts about density ratios by least squares."""

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from reweight import Reweighted
from reweight.exceptions import WeightWarning
from reweight.kernels.kernel_sums import kernel_matrix
from reweight.kernels.leave_pair_out import leave_pair_out_scores
from shift import ULSIF, RuLSIF, make_covariate_shift


@pytest.fixture
def data():
    return make_covariate_shift(150, 80, n_features=2, random_state=0)


def coefficients(data, bandwidth, alpha, mixing, share=None):
    source = kernel_matrix(data.X, data.X_target, "rbf", bandwidth)
    target = kernel_matrix(data.X_target, data.X_target, "rbf", bandwidth)
    share = np.full(len(source), 1 / len(source)) if share is None else share
    H = mixing * target.T @ target / len(target) + (1 - mixing) * (source.T * share) @ source
    theta = np.linalg.solve(H + alpha * np.eye(len(H)), target.mean(axis=0))
    return np.maximum(theta, 0), source


@pytest.mark.parametrize("mixing", [0.0, 0.1, 0.5])
def test_coefficients_have_their_closed_form(data, mixing):
    weighter = RuLSIF(mixing, bandwidth=0.8, alpha=0.05).fit(data.X, X_target=data.X_target)
    theta, source = coefficients(data, 0.8, 0.05, mixing)
    assert_array_equal(weighter.centers_, data.X_target)
    assert_allclose(weighter.theta_, theta, rtol=1e-8, atol=1e-10)
    assert_allclose(weighter.raw_weights_, source @ theta, rtol=1e-8)
    assert weighter.cv_results_ is None
    assert weighter.best_params_ == {"bandwidth": 0.8, "alpha": 0.05}


def test_ulsif_is_rulsif_without_mixing(data):
    plain = ULSIF(random_state=3).fit(data.X, X_target=data.X_target)
    relative = RuLSIF(0.0, random_state=3).fit(data.X, X_target=data.X_target)
    assert_array_equal(plain.weights_, relative.weights_)
    assert plain.best_params_ == relative.best_params_
    assert "mixing" not in plain.get_params()


def test_relative_ratio_estimates_a_bounded_quantity(data):
    for mixing in (0.1, 0.5):
        weighter = RuLSIF(mixing).fit(data.X, X_target=data.X_target)
        truth = data.density_ratio / (mixing * data.density_ratio + 1 - mixing)
        assert np.corrcoef(weighter.raw_weights_, truth)[0, 1] > 0.9
        assert weighter.raw_weights_.max() < 1.3 / mixing


def test_plain_ratio_is_recovered_from_the_relative_one(data):
    relative = RuLSIF(0.1, bandwidth=0.8, alpha=0.05)
    w = relative.fit(data.X, X_target=data.X_target).raw_weights_
    plain = RuLSIF(0.1, bandwidth=0.8, alpha=0.05, relative=False)
    plain.fit(data.X, X_target=data.X_target)
    assert w.max() * 0.1 < 0.99
    assert_allclose(plain.raw_weights_, 0.9 * w / (1 - 0.1 * w))
    assert_allclose(plain.predict_weights(data.X), plain.weights_, rtol=1e-10)


def test_plain_ratio_beyond_the_bound_is_capped_and_counted(data):
    weighter = RuLSIF(0.9, bandwidth=0.3, alpha=1e-3, relative=False)
    with pytest.warns(WeightWarning, match=r"near its bound 1/mixing = 1.111 in \d+ of 150"):
        weighter.fit(data.X, X_target=data.X_target)
    assert_allclose(weighter.raw_weights_.max(), 0.1 * (0.99 / 0.9) / (1 - 0.99))


def test_target_equal_to_source_has_ratio_one():
    X = np.random.default_rng(0).normal(size=(200, 2))
    # Wide Gaussians with a small ridge would lose their negative coefficients to the clipping.
    weights = ULSIF(bandwidth=0.3, alpha=1e-3, n_components=200).fit(X, X_target=X).raw_weights_
    assert_allclose(weights, 1, atol=0.2)
    assert_allclose(weights.mean(), 1, atol=0.02)


def test_pairs_choose_bandwidth_and_ridge(data):
    weighter = ULSIF(bandwidth_grid=[0.5, 1.0], alpha_grid=[0.01, 0.1, 1.0], random_state=5)
    weighter.fit(data.X, X_target=data.X_target)
    rng = np.random.RandomState(5)
    order, order_target = rng.permutation(150), rng.permutation(80)
    table = weighter.cv_results_
    for bandwidth in (0.5, 1.0):
        source = kernel_matrix(data.X, data.X_target, "rbf", bandwidth)[order]
        target = kernel_matrix(data.X_target, data.X_target, "rbf", bandwidth)[order_target]
        scores = leave_pair_out_scores(source, target, np.array([0.01, 0.1, 1.0]))
        assert_allclose(table.loc[table["bandwidth"] == bandwidth, "score"], scores)
    best = table.loc[table["score"].idxmin()]
    assert weighter.best_params_ == {"bandwidth": best["bandwidth"], "alpha": best["alpha"]}
    assert weighter.bandwidth_ == best["bandwidth"]


@pytest.mark.parametrize("mixing", [0.0, 0.3])
def test_folds_choose_bandwidth_and_ridge(data, mixing):
    """Scores from second moments of folds against plain refitting on each training part."""
    s = np.random.default_rng(1).uniform(0.5, 2.0, size=150)
    weighter = RuLSIF(mixing, bandwidth_grid=[0.7], alpha_grid=[0.02, 0.3], n_folds=4)
    weighter.fit(data.X, X_target=data.X_target, sample_weight=s)
    rng = np.random.RandomState(0)
    folds, folds_target = (rng.permutation(np.arange(size) % 4) for size in (150, 80))
    source = kernel_matrix(data.X, data.X_target, "rbf", 0.7)
    target = kernel_matrix(data.X_target, data.X_target, "rbf", 0.7)

    def moments(fold, inside):
        rows, rows_target = (folds == fold) == inside, (folds_target == fold) == inside
        T = target[rows_target]
        w = s[rows] / s[rows].sum()
        H = mixing * T.T @ T / len(T) + (1 - mixing) * (source[rows].T * w) @ source[rows]
        return H, T.mean(axis=0)

    for alpha, score in zip([0.02, 0.3], weighter.cv_results_["score"], strict=True):
        losses = []
        for fold in range(4):
            H, h = moments(fold, False)
            theta = np.maximum(np.linalg.solve(H + alpha * np.eye(80), h), 0)
            H, h = moments(fold, True)
            losses.append(0.5 * theta @ H @ theta - h @ theta)
        assert_allclose(score, np.mean(losses), rtol=1e-8)


def test_default_bandwidths_are_multiples_of_the_median(data):
    weighter = ULSIF().fit(data.X, X_target=data.X_target)
    from scipy.spatial.distance import pdist

    median = np.median(pdist(np.concatenate([data.X, data.X_target])))
    assert_allclose(
        weighter.cv_results_["bandwidth"].unique(), median * np.array([0.25, 0.5, 1, 2])
    )
    assert_allclose(weighter.cv_results_["alpha"].unique(), np.logspace(-3, 1, 9))


def test_sampling_weights_are_copies(data):
    s = np.random.default_rng(2).integers(0, 4, size=150)
    weighter = RuLSIF(0.1, bandwidth=0.8, alpha=0.05)
    theta = weighter.fit(data.X, X_target=data.X_target, sample_weight=s).theta_
    copies = weighter.fit(np.repeat(data.X, s, axis=0), X_target=data.X_target).theta_
    assert_allclose(copies, theta, atol=1e-10)


def test_order_of_rows_does_not_matter_with_given_parameters(data):
    order = np.random.default_rng(3).permutation(150)
    weighter = ULSIF(bandwidth=0.8, alpha=0.05)
    weights = weighter.fit(data.X, X_target=data.X_target).weights_
    permuted = weighter.fit(data.X[order], X_target=data.X_target).weights_
    assert_allclose(permuted, weights[order], rtol=1e-9)


def test_few_centres_are_drawn_from_the_target(data):
    weighter = ULSIF(n_components=10, random_state=1).fit(data.X, X_target=data.X_target)
    assert weighter.centers_.shape == (10, 2)
    assert (weighter.centers_[:, None] == data.X_target).all(axis=2).any(axis=1).all()


def test_works_with_any_estimator_in_cross_validation():
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import GridSearchCV

    data = make_covariate_shift(80, 80, random_state=0)
    model = Reweighted(LogisticRegression(), RuLSIF(bandwidth="median", alpha=0.1))
    search = GridSearchCV(model, {"weighter__mixing": [0.0, 0.5]}, cv=3)
    search.fit(data.X, data.y, X_target=(data.X_target,))
    assert search.best_estimator_.weighter_.n_target_ == 80
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"mixing": 1.0}, "The 'mixing' parameter"),
        ({"bandwidth": -1.0}, "The 'bandwidth' parameter"),
        ({"alpha": 0.0}, "The 'alpha' parameter"),
        ({"alpha_grid": [0.1, -1.0]}, "alpha_grid must be a list of positive numbers"),
        ({"bandwidth_grid": [0.0]}, "RuLSIF: bandwidth must be positive"),
        ({"bandwidth_grid": []}, "RuLSIF: bandwidth_grid is empty"),
    ],
)
def test_bad_parameters_are_named(data, parameters, message):
    with pytest.raises(ValueError, match=message):
        RuLSIF(**parameters).fit(data.X, X_target=data.X_target)


def test_one_target_row_cannot_be_cross_validated(data):
    with pytest.raises(ValueError, match="at least two source and target rows, got 1"):
        ULSIF(bandwidth=1.0).fit(data.X, X_target=data.X_target[:1])
    ULSIF(bandwidth=1.0, alpha=0.1).fit(data.X, X_target=data.X_target[:1])


def test_no_source_near_the_target_is_an_error(data):
    with pytest.raises(ValueError, match="weights vanish on every row"):
        ULSIF(bandwidth=0.1, alpha=0.1).fit(data.X, X_target=data.X_target + 100)

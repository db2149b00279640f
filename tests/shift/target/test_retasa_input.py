"""What ReTaSA refuses or warns of, and in which words."""

import warnings

import numpy as np
import pandas as pd
import pytest

from reweight.exceptions import WeightWarning
from shift import L2IWE, ReTaSA, TargetKernelMeanMatching, make_target_shift

WEIGHTERS = [ReTaSA, L2IWE, TargetKernelMeanMatching]


@pytest.fixture
def data():
    return make_target_shift(60, n_features=2, random_state=0)


@pytest.fixture(params=WEIGHTERS)
def weighter(request):
    return request.param()


def refused(weighter, match, X, y, X_target, error=ValueError, **kwargs):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with pytest.raises(error, match=match):
            weighter.fit(X, y, X_target=X_target, **kwargs)


def test_outcomes_must_be_finite_numbers_that_differ(weighter, data):
    name = type(weighter).__name__
    bad = data.y.copy()
    bad[3] = np.nan
    refused(weighter, f"{name}: y must be finite: .* 1 NaN", data.X, bad, data.X_target)
    texts = np.array(["a"] * 60)
    refused(weighter, f"{name}: y must be finite numbers", data.X, texts, data.X_target)
    refused(weighter, "y has zero variance", data.X, np.ones(60), data.X_target)
    refused(weighter, "requires y to be passed", data.X, None, data.X_target)
    refused(weighter, "inconsistent numbers of samples", data.X, data.y[:-1], data.X_target)


def test_samples_must_be_large_enough_and_of_equal_width(weighter, data):
    refused(weighter, r"X has 9 rows .* 10 and 2 are needed", data.X[:9], data.y[:9], data.X)
    refused(weighter, "X_target 1; at least", data.X, data.y, data.X_target[:1])
    kept = np.r_[np.ones(9), np.zeros(51)]
    refused(weighter, "X has 9 rows", data.X, data.y, data.X_target, sample_weight=kept)
    refused(weighter, "X has 1 features, but .* 2 features", data.X, data.y, data.X_target[:, :1])
    refused(weighter, "X_target is not usable: .* NaN", data.X, data.y, np.full((5, 2), np.nan))


def test_missing_target_means_no_shift_and_is_said(weighter, data):
    with pytest.warns(WeightWarning, match="X_target is not given, so no shift is assumed"):
        weighter.fit(data.X, data.y)
    assert (weighter.weights_ == 1).all()
    assert (weighter.predict_weights(y=data.y) == 1).all()


def test_weights_are_functions_of_finite_outcomes(weighter, data):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        weighter.fit(data.X, data.y, X_target=data.X_target)
    with pytest.raises(ValueError, match="predict_weights needs y"):
        weighter.predict_weights(data.X)
    with pytest.raises(ValueError, match="y must be finite, got 1"):
        weighter.predict_weights(y=[0.0, np.inf])


def test_classes_are_pointed_to_label_shift(weighter, data):
    with pytest.warns(WeightWarning, match="only 3 different values.*MLLS"):
        weighter.fit(data.X, np.arange(60) % 3, X_target=data.X_target)


def test_constant_columns_are_named(data):
    frame = pd.DataFrame({"age": data.X[:, 0], "site": 1.0})
    target = pd.DataFrame({"age": data.X_target[:, 0], "site": 1.0})
    refused(ReTaSA(), r"columns \['site'\] are constant.*drop them", frame, data.y, target)
    refused(L2IWE(), r"columns \['site'\] are constant", frame, data.y, target)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", WeightWarning)
        given = ReTaSA(bandwidth_x=[0.5, 1.0]).fit(frame, data.y, X_target=target)
        binned = ReTaSA(bandwidth_x=[0.5, 1.0], solver="binned").fit(frame, data.y, X_target=target)
    np.testing.assert_allclose(binned.weights_, given.weights_, atol=0.1)


@pytest.mark.parametrize(
    ("parameters", "match"),
    [
        ({"alpha": 0.0}, "alpha"),
        ({"alpha": -1.0}, "alpha"),
        ({"bandwidth_x": 0.0}, "bandwidth_x"),
        ({"bandwidth_x": [1.0]}, "bandwidth has shape"),
        ({"solver": "dense"}, "solver"),
        ({"alpha": "cv", "alpha_grid": [0.1, 0.0]}, "alpha_grid must hold positive numbers"),
        ({"solver": "exact", "nonnegative": "constrained"}, "use solver='binned' or 'ygrid'"),
        ({"featurizer": lambda X: X[:-1, 0]}, r"featurizer gave an array of shape \(59, 1\)"),
        ({"featurizer": lambda X: X / 0}, "NaN or infinite features"),
    ],
)
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_bad_parameters_of_retasa(parameters, match, data):
    refused(ReTaSA(**parameters), match, data.X, data.y, data.X_target)


def test_grids_need_few_features_and_no_outliers():
    data = make_target_shift(60, n_features=3, random_state=0)
    refused(
        ReTaSA(solver="binned"), "'ygrid', or reduce the features with featurizer",
        data.X, data.y, data.X_target,
    )  # fmt: skip
    single = make_target_shift(60, random_state=0)
    y = single.y.copy()
    y[0] = 1e6
    refused(
        ReTaSA(solver="binned", bandwidth_y=0.1), "remove outliers",
        single.X, y, single.X_target,
    )  # fmt: skip
    many = make_target_shift(10_001, random_state=0)
    refused(
        ReTaSA(solver="exact"), "at most 10000 rows; use solver='binned'",
        many.X, many.y, many.X_target,
    )  # fmt: skip


def test_large_kernels_of_matching_are_refused():
    data = make_target_shift(20_001, random_state=0)
    refused(
        TargetKernelMeanMatching(), r"use ReTaSA\(solver='binned'\)",
        data.X, data.y, data.X_target,
    )  # fmt: skip
    refused(
        TargetKernelMeanMatching(max_weight=0.5, mean_tolerance=0.1), "raise one of them",
        data.X[:50], data.y[:50], data.X_target,
    )  # fmt: skip


def test_doubtful_problems_are_warned_of():
    wide = make_target_shift(250, n_features=4, random_state=0)
    with pytest.warns(WeightWarning, match="kernel estimates in 4 dimensions are poor"):
        ReTaSA(alpha=0.1).fit(wide.X, wide.y, X_target=wide.X_target)
    data = make_target_shift(200, random_state=0)
    far = data.X_target + 6 * data.X.std()
    with pytest.warns(WeightWarning, match="outside the source's support"):
        ReTaSA().fit(data.X, data.y, X_target=np.r_[data.X_target, far[:30]])
    large = make_target_shift(5000, random_state=0)
    unrelated = np.random.default_rng(77).normal(size=5000)
    with pytest.warns(WeightWarning, match="unexplained.*target_shift_test"):
        ReTaSA().fit(large.X, unrelated, X_target=large.X_target)
    # The features of outcomes beyond those of the source.
    low = data.y < 0.5
    with pytest.warns(WeightWarning, match="negative weights of mean size"):
        ReTaSA(alpha=1e-4).fit(data.X[low], data.y[low], X_target=data.X_target + 2)


def test_methods_of_a_fit_without_target_say_so(data):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        weighter = ReTaSA().fit(data.X, data.y)
    for ask in (
        lambda: weighter.target_density([0.0]),
        lambda: weighter.source_density([0.0]),
        lambda: weighter.predict_ratio(data.X),
        lambda: weighter.weight_interval([0.0]),
        weighter.target_shift_test,
    ):
        with pytest.raises(ValueError, match="needs a fit with X_target, the unlabelled target"):
            ask()
    assert weighter.score(data.X) == 0.5

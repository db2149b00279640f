"""Facts about the two-sample tests of shift."""

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

from reweight import mmd
from shift import covariate_shift_test
from shift.covariate.shift_test import _auc


def test_statistic_is_the_squared_discrepancy(rng):
    X, Z = rng.normal(size=(30, 2)), rng.normal(0.5, 1.0, size=(40, 2))
    result = covariate_shift_test(X, Z, bandwidth=1.3, n_resamples=9)
    assert_allclose(result.statistic, mmd(X, Z, bandwidth=1.3, squared=True), rtol=1e-10)
    assert result.null.shape == (9,)
    assert (result.n_source, result.n_target) == (30, 40)


def test_area_under_the_curve_from_ranks(rng):
    from scipy.stats import rankdata

    label, score = rng.integers(0, 2, size=50), rng.integers(0, 10, size=50)
    assert_allclose(_auc(rankdata(score), label), roc_auc_score(label, score))


@pytest.mark.parametrize("method", ["mmd", "classifier"])
def test_shift_is_found(rng, method):
    X, Z = rng.normal(size=(100, 2)), rng.normal(1.0, 1.0, size=(100, 2))
    result = covariate_shift_test(
        X, Z, method=method, estimator=LogisticRegression(), n_resamples=99
    )
    assert_allclose(result.p_value, 0.01)
    assert result.statistic > result.null.max()
    assert "p_value=0.01" in repr(result)


@pytest.mark.parametrize("method", ["mmd", "classifier"])
def test_p_values_are_uniform_without_shift(method):
    """The level is exact, so among 400 tests it is within three standard errors."""
    rng = np.random.default_rng(0)
    p_values = np.array(
        [
            covariate_shift_test(
                rng.normal(size=(20, 2)),
                rng.normal(size=(16, 2)),
                method=method,
                bandwidth=1.5,
                estimator=LogisticRegression(),
                n_resamples=19,
                random_state=seed,
            ).p_value
            for seed in range(400)
        ]
    )
    for level in (0.05, 0.2, 0.5):
        error = 3 * np.sqrt(level * (1 - level) / 400)
        assert (p_values <= level + 1e-12).mean() < level + error
        # Ties of the rank statistic make the test of the classifier a little conservative.
        assert (p_values <= level + 1e-12).mean() > 0.8 * level - error


def test_equal_samples_are_no_shift():
    X = np.arange(20.0).reshape(-1, 1)
    result = covariate_shift_test(X, X, n_resamples=19)
    assert_allclose(result.statistic, 0, atol=1e-12)
    assert result.p_value == 1.0


def test_many_rows_are_thinned_and_seeded(rng):
    X, Z = rng.normal(size=(300, 1)), rng.normal(size=(200, 1))
    first, second = (covariate_shift_test(X, (Z,), max_rows=50, n_resamples=19) for _ in range(2))
    assert (first.n_source, first.n_target) == (50, 50)
    assert_array_equal(first.null, second.null)


@pytest.mark.parametrize(
    ("X", "X_target", "options", "message"),
    [
        (np.ones((5, 2)), np.ones((5, 3)), {}, "X has 2 columns but X_target has 3"),
        (np.ones((1, 2)), np.ones((5, 2)), {}, "X is not usable.*minimum of 2"),
        (
            np.ones((5, 2)),
            None,
            {},
            "covariate_shift_test: X_target is not usable: it is None; pass",
        ),
        (np.ones((5, 2)), np.full((5, 2), np.nan), {}, "X_target is not usable.*NaN"),
        (np.ones((5, 2)), np.ones((5, 2)), {}, "bandwidth is 0"),
        (np.ones((5, 2)), np.ones((5, 2)), {"method": "magic"}, "'method' parameter"),
        (np.eye(2), np.eye(2), {"method": "classifier", "test_size": 0.1}, "cannot be split"),
    ],
)
def test_bad_input_is_named(X, X_target, options, message):
    with pytest.raises(ValueError, match=message):
        covariate_shift_test(X, X_target, **options)

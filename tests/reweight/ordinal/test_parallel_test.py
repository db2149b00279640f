"""The test of proportional odds: its law, its power, and its arithmetic."""

import warnings

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose
from scipy.stats import chi2, kstest
from sklearn.exceptions import ConvergenceWarning
from statsmodels.miscmodels.ordinal_model import OrderedModel

from reweight import RelaxedProportionalOdds, parallel_test


def draw(rng, n=300, bend=0.0):
    X = rng.normal(size=(n, 2))
    signal = X[:, 0] + bend * np.maximum(X[:, 1], 0)
    return X, np.digitize(signal + rng.logistic(size=n), [-0.5, 0.5, 1.5])


def test_statistic_compares_the_two_likelihoods(rng):
    X, y = draw(rng, bend=0.5)
    result = parallel_test(X, y)
    free = RelaxedProportionalOdds(0.0).fit(X, y)
    parallel = RelaxedProportionalOdds(1e4, penalize_first=False).fit(X, y)
    assert_allclose(result.loglik_free, free.loglik_, rtol=1e-8)
    assert_allclose(result.loglik_parallel, parallel.loglik_, rtol=1e-8)
    assert_allclose(result.statistic, 2 * (free.loglik_ - parallel.loglik_), rtol=1e-6)
    assert result.df == 4
    assert_allclose(result.p_value, chi2.sf(result.statistic, 4))


def test_proportional_odds_is_that_of_statsmodels(rng):
    X, y = draw(rng)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        peer = OrderedModel(y, X, distr="logit").fit(method="bfgs", maxiter=500, gtol=1e-9, disp=0)
    assert_allclose(parallel_test(X, y).loglik_parallel, peer.llf, rtol=1e-9)


def test_p_values_are_uniform_where_proportional_odds_holds():
    results = [parallel_test(*draw(np.random.default_rng(seed), n=400)) for seed in range(100)]
    assert kstest([result.p_value for result in results], "uniform").pvalue > 1e-3
    second = [result.features["p_value"].iloc[1] for result in results]
    assert kstest(second, "uniform").pvalue > 1e-3


def test_the_feature_that_breaks_proportional_odds_is_found(rng):
    n = 2000
    X = rng.normal(size=(n, 2))
    y = (X[:, 0] + rng.logistic(size=n) > 0).astype(int)
    y = y + y * (2 * X[:, 1] + rng.logistic(size=n) > 0)
    frame = pd.DataFrame(X, columns=["same", "other"])
    result = parallel_test(frame, y)
    assert result.p_value < 1e-10
    assert list(result.features.index) == ["same", "other"]
    assert result.features.loc["other", "p_value"] < 1e-10
    assert result.features.loc["other", "statistic"] <= result.statistic + 1e-6
    assert (result.features["df"] == 1).all()


def test_weights_count_rows(rng):
    X, y = draw(rng, bend=0.5)
    s = rng.integers(1, 4, size=len(y))
    repeated = parallel_test(np.repeat(X, s, axis=0), np.repeat(y, s))
    weighted = parallel_test(X, y, sample_weight=s)
    assert_allclose(weighted.statistic, repeated.statistic, rtol=1e-6)


def test_columns_that_say_nothing_new_take_no_degrees_of_freedom(rng):
    X, y = draw(rng, bend=0.5)
    expected = parallel_test(X, y)
    wide = np.column_stack([X, np.ones(len(y)), X[:, 0] - X[:, 1]])
    result = parallel_test(wide, y)
    assert result.df == expected.df
    assert_allclose(result.statistic, expected.statistic, rtol=1e-5)
    assert result.features.loc[2, "df"] == 0
    assert result.features.loc[2, "p_value"] == 1.0


def test_order_of_named_levels_matters(rng):
    X, y = draw(rng, bend=0.5)
    names = np.array(["d", "a", "c", "b"])
    named = parallel_test(X, names[y], categories=list(names))
    assert_allclose(named.statistic, parallel_test(X, y).statistic)


def test_two_levels_are_refused_and_separation_is_said(rng):
    X, y = draw(rng)
    with pytest.raises(ValueError, match="at least 3 ordered levels"):
        parallel_test(X, np.minimum(y, 1))
    separated = np.linspace(-1, 1, 60)[:, None]
    with pytest.warns(ConvergenceWarning):
        parallel_test(separated, np.repeat([0, 1, 2], 20))


def test_what_is_said_bears_its_name(rng):
    X, y = draw(rng)
    with pytest.raises(ValueError, match="parallel_test: y has 2 classes"):
        parallel_test(X, np.minimum(y, 1))
    with pytest.raises(ValueError, match="parallel_test: Input X contains NaN"):
        parallel_test(np.where(X > 1, np.nan, X), y)
    with pytest.warns(UserWarning, match="parallel_test: y holds strings"):
        parallel_test(X, np.array(list("abcd"))[y])

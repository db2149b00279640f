"""What users are told when balance fails or input is not what it seems."""

import numpy as np
import polars as pl
import pytest
from numpy.testing import assert_allclose

from causal import EntropyBalancing, StableBalancing
from reweight.exceptions import InfeasibleError, WeightWarning


def test_relaxing_with_a_warning_says_by_how_much(study):
    X, treatment, _ = study
    far = X.copy()
    far[treatment == 1, 1] += 20
    with pytest.warns(WeightWarning, match=r"x1.*relaxed to"):
        EntropyBalancing("ATT", on_infeasible="warn").fit(far, treatment)


def test_a_column_constant_among_the_controls_is_named(study):
    X, treatment, _ = study
    X = X.copy()
    X[treatment == 0, 2] = 1.0
    with pytest.raises(InfeasibleError, match="x2"):
        EntropyBalancing("ATT").fit(X, treatment)


def test_more_columns_than_rows_says_what_to_do(study):
    _, treatment, _ = study
    wide = np.random.default_rng(0).standard_normal((240, 200))
    with pytest.raises(InfeasibleError, match=r"200 columns for the .* rows of the arm"):
        EntropyBalancing("ATT").fit(wide, treatment)


def test_columns_with_missing_values_or_text_are_named(lalonde):
    frame = lalonde.data.astype(float)
    frame.loc[3, "age"] = np.nan
    with pytest.raises(ValueError, match=r"1 entries.*'age'.*SimpleImputer"):
        EntropyBalancing().fit(frame, lalonde.treatment)
    text = lalonde.data.assign(race="black")
    with pytest.raises(TypeError, match=r"'race'.*OneHotEncoder"):
        EntropyBalancing().fit(text, lalonde.treatment)


def test_unseen_labels_cannot_be_weighed(study):
    X, treatment, _ = study
    balancer = EntropyBalancing().fit(X, treatment)
    with pytest.raises(ValueError, match="value 2 that fit has not seen"):
        balancer.predict_weights(X, treatment + 1)
    with pytest.raises(ValueError, match="depends on its arm"):
        balancer.predict_weights(X)


def test_labels_may_be_strings(study):
    X, treatment, _ = study
    labels = np.where(treatment == 1, "drug", "control")
    balancer = EntropyBalancing("ATT").fit(X, labels)
    assert list(balancer.classes_) == ["control", "drug"]
    assert_allclose(balancer.weights_, EntropyBalancing("ATT").fit_weights(X, treatment))
    assert set(balancer.dual_coef_) == {"control"}


def test_outcome_pipelines_pass_the_treatment_by_keyword(study):
    X, treatment, _ = study
    y = X @ [1.0, 1.0, 1.0]
    by_keyword = EntropyBalancing().fit(X, y, treatment=treatment)
    assert_allclose(by_keyword.weights_, EntropyBalancing().fit_weights(X, treatment))


def test_a_lazy_frame_is_refused_with_the_remedy(study):
    X, treatment, _ = study
    lazy = pl.DataFrame(X).lazy()
    with pytest.raises(TypeError, match=r"lazy frame.*collect"):
        EntropyBalancing().fit(lazy, treatment)


def test_signed_weights_are_told_apart_from_not_fitted(lalonde):
    X, treatment = lalonde.data, lalonde.treatment
    balancer = StableBalancing("ATE", max_smd=0.0).fit(X, treatment)
    balancer.set_params(nonnegative=False)
    with pytest.warns(WeightWarning, match="weights are negative"):
        balancer.fit(X, treatment)
    assert not hasattr(balancer, "weights_")
    for read in (lambda: balancer.ess_, balancer.balance_table, balancer.love_plot):
        with pytest.raises(AttributeError, match="weights are negative"):
            read()
    assert balancer.score(X, treatment) == pytest.approx(0.0, abs=1e-8)
    with pytest.warns(WeightWarning, match="new rows have negative weights"):
        predicted = balancer.predict_weights(X, treatment)
    assert_allclose(predicted, balancer.raw_weights_, atol=1e-10)

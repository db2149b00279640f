"""Facts about balancing rows that come in chunks."""

import numpy as np
import pytest
from numpy.testing import assert_allclose
from sklearn.base import clone

from causal import EntropyBalancing, KernelBalancing, StableBalancing

ESTIMANDS = ["ATE", "ATT", "ATC"]


@pytest.mark.parametrize("cls", [EntropyBalancing, StableBalancing])
@pytest.mark.parametrize("estimand", ESTIMANDS)
def test_chunks_give_the_weights_of_the_rows_in_memory(study, cls, estimand):
    X, treatment, s = study
    options = {"moments": 2, "interactions": True, "max_smd": 0.01}
    whole = cls(estimand, **options).fit(X, treatment, sample_weight=s)
    pieces = [slice(0, 50), slice(50, 51), slice(51, 240)]
    items = [(X[p], treatment[p], s[p]) for p in pieces]
    for chunks in (items, lambda: iter(items), [lambda item=item: item for item in items]):
        streamed = cls(estimand, **options).fit_chunks(chunks)
        assert_allclose(streamed.weights_, whole.weights_, atol=1e-10)
        assert streamed.max_imbalance_ == pytest.approx(whole.max_imbalance_, abs=1e-10)
    assert_allclose(
        streamed.predict_weights(X, treatment), whole.predict_weights(X, treatment), atol=1e-10
    )


def test_empty_chunks_are_passed_over(study):
    X, treatment, _ = study
    empty = (X[:0], treatment[:0])
    chunks = [empty, (X[:100], treatment[:100]), empty, (X[100:], treatment[100:])]
    whole = EntropyBalancing().fit(X, treatment)
    assert_allclose(EntropyBalancing().fit_chunks(chunks).weights_, whole.weights_, atol=1e-10)
    kernel = KernelBalancing(n_components=20, random_state=0)
    assert_allclose(
        clone(kernel).fit_chunks(chunks).weights_,
        kernel.fit(X, treatment).weights_,
        atol=1e-7,
    )


def test_chunks_keep_feature_names_and_may_leave_weights_out(lalonde):
    X, treatment = lalonde.data, np.asarray(lalonde.treatment)
    pieces = [(X.iloc[i : i + 200], treatment[i : i + 200]) for i in range(0, len(X), 200)]
    streamed = EntropyBalancing().fit_chunks(pieces, n_jobs=2)
    whole = EntropyBalancing().fit(X, treatment)
    assert list(streamed.feature_names_in_) == list(X.columns)
    assert_allclose(streamed.weights_, whole.weights_, atol=1e-10)


@pytest.mark.parametrize(
    ("chunks", "message"),
    [
        ([], "holds no rows"),
        (
            [(np.ones((3, 2)), [0, 1, 0]), (np.ones((3, 1)), [0, 1, 0])],
            "disagree about the columns",
        ),
        ([(np.ones((3, 2)), [0, 0, 0])], "exactly two values"),
        ([(np.array([[np.nan]]), [0])], "NaN"),
        ([(np.ones((0, 2)), [])], "holds no rows"),
        ([np.ones((4, 2))], r"a chunk is a ndarray.*\(X, treatment"),
    ],
)
def test_bad_chunks_are_refused(chunks, message):
    with pytest.raises(ValueError, match=message):
        EntropyBalancing().fit_chunks(chunks)


def test_chunks_drop_a_column_of_one_value(study):
    X, treatment, s = study
    X = np.column_stack([X, np.full(len(X), 1e6)])
    parts = [(X[rows], treatment[rows], s[rows]) for rows in (slice(0, 77), slice(77, None))]
    chunked = EntropyBalancing("ATE").fit_chunks(parts)
    assert chunked.dropped_columns_ == ["x3"]
    whole = EntropyBalancing("ATE").fit(X, treatment, sample_weight=s)
    assert_allclose(chunked.weights_, whole.weights_, atol=1e-10)


def test_chunks_leave_nothing_of_an_earlier_fit(lalonde):
    X, treatment = lalonde.data, np.asarray(lalonde.treatment)
    balancer = EntropyBalancing().fit(X, treatment)
    balancer.fit_chunks([(X.to_numpy(), treatment)])
    assert not hasattr(balancer, "feature_names_in_")
    with pytest.raises(AttributeError, match="rows are not in memory"):
        balancer.balance_table()

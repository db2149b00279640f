"""Tables of effects hold what the learner predicts and what the data show."""

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose
from sklearn.model_selection import cross_val_predict

from causal import (
    CrossFitter,
    RLearner,
    TLearner,
    effect_calibration,
    effect_calibration_plot,
    effect_profile,
    effect_profile_plot,
    make_cate,
    pseudo_outcome,
    sorted_effect_plot,
)


@pytest.fixture(scope="module")
def study():
    return make_cate(1000, setup="B", random_state=0)


@pytest.fixture(scope="module")
def target(study):
    return CrossFitter(random_state=0).fit_transform(study.X, study.y, treatment=study.treatment)


def test_profile_is_the_prediction_for_a_typical_row(study, target):
    learner = RLearner().fit(study.X, target)
    table = effect_profile(learner, study.X, 1, n_points=7, confidence_level=0.8)
    rows = np.tile(np.median(study.X, axis=0), (7, 1))
    rows[:, 1] = np.linspace(*np.quantile(study.X[:, 1], [0.01, 0.99]), 7)
    assert_allclose(table.index, rows[:, 1])
    assert_allclose(table["effect"], learner.predict(rows))
    assert_allclose(table[["lower", "upper"]], learner.predict_interval(rows, 0.8))
    assert list(effect_profile(TLearner().fit(study.X, target), study.X, 0)) == ["effect"]


class Echo:
    """Remembers what it was asked to predict."""

    def predict(self, X):
        self.X = X
        return np.zeros(len(X))


@pytest.mark.parametrize("library", ["pandas", "polars"])
def test_profile_of_frames_takes_the_most_frequent_word(library):
    frames = pytest.importorskip(library)
    frame = frames.DataFrame(
        {"age": [20.0, 30.0, 40.0], "city": ["a", "b", "b"], "count": [1, 2, 9]}
    )
    echo = Echo()
    effect_profile(echo, frame, "age", n_points=4)
    assert isinstance(echo.X, frames.DataFrame)
    assert list(echo.X["city"]) == ["b"] * 4
    assert list(echo.X["count"]) == [2.0] * 4
    assert_allclose(echo.X["age"], np.linspace(20.2, 39.8, 4))
    with pytest.raises(ValueError, match="not a numeric column"):
        effect_profile(echo, frame, "city")


def test_calibration_is_the_mean_pseudo_outcome_by_groups(study, target):
    effect = cross_val_predict(RLearner(), study.X, target)
    table = effect_calibration(effect, target, n_groups=4)
    y, t, _, e, mu0, mu1 = target.T
    f = pseudo_outcome("dr", y, t, propensity=e, mu0=mu0, mu1=mu1)
    group = pd.qcut(effect, 4, labels=False)
    assert list(table["n_rows"]) == [250] * 4
    for k in range(4):
        own = f[group == k]
        assert_allclose(table["observed"].iloc[k], own.mean())
        assert_allclose(table["stderr"].iloc[k], own.std() / 250**0.5)
        assert_allclose(table["predicted"].iloc[k], effect[group == k].mean())


def test_groups_have_equal_weight(study, target, rng):
    s = rng.integers(1, 4, 1000).astype(float)
    effect = study.effect
    table = effect_calibration(effect, target, n_groups=5, sample_weight=s)
    index = np.repeat(np.arange(1000), s.astype(int))
    repeated = effect_calibration(effect[index], target[index], n_groups=5)
    # A row of weight k goes into one group, k rows may be cut in two.
    assert_allclose(table["observed"], repeated["observed"], atol=0.05)


def test_plots_show_what_they_are_given(study, target):
    learner = RLearner().fit(study.X, target)
    ax = effect_profile_plot(effect_profile(learner, study.X, 0))
    assert ax.get_legend_handles_labels()[1] == ["95% pointwise", "effect of a typical row"]
    effect = learner.predict(study.X)
    ax = sorted_effect_plot(effect, learner.predict_interval(study.X))
    assert_allclose(ax.lines[0].get_ydata(), np.sort(effect))
    table = effect_calibration(effect, target)
    ax = effect_calibration_plot(table)
    assert len(ax.containers) == 1
    import matplotlib.pyplot as plt

    plt.close("all")


def test_bad_arguments_say_what_to_pass(study, target):
    learner = RLearner().fit(study.X, target)
    with pytest.raises(ValueError, match="array of 6 columns"):
        effect_profile(learner, study.X, "age")
    with pytest.raises(ValueError, match="six-column"):
        effect_calibration(study.effect, target[:, :4])
    with pytest.raises(ValueError, match="two rows for each group"):
        effect_calibration(study.effect, target, n_groups=900)
    with pytest.raises(ValueError, match=r"causal\.effect_profile"):
        effect_profile_plot(pd.DataFrame({"a": [1]}))
    with pytest.raises(ValueError, match="interval has shape"):
        sorted_effect_plot(study.effect, np.zeros((3, 2)))

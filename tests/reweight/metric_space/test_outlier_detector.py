"""Facts about outlier detection by weighting vectors."""

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy.spatial.distance import cdist
from sklearn.datasets import load_breast_cancer, load_wine
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from reweight import MagnitudeOutlierDetector, WeightingVector
from reweight.exceptions import WeightWarning

CRITERIA = ["weight", "residual", "gain", "spread", "power"]


@pytest.mark.parametrize("criterion", CRITERIA)
def test_a_row_scores_as_it_would_if_it_were_new(criterion, rng):
    X = rng.normal(size=(25, 2))
    detector = MagnitudeOutlierDetector(criterion=criterion, scale=1.2).fit(X)
    assert_array_equal(detector.score_samples(X), -detector.outlier_scores_)
    for i in range(25):
        rest = MagnitudeOutlierDetector(criterion=criterion, scale=1.2).fit(np.delete(X, i, axis=0))
        assert_allclose(rest.score_samples(X[[i]]), -detector.outlier_scores_[i], rtol=1e-7)


def test_criteria_are_what_their_formulas_say(rng):
    X = rng.normal(size=(30, 2))
    Z = np.exp(-1.5 * cdist(X, X))
    w, inverse = np.linalg.solve(Z, np.ones(30)), np.diag(np.linalg.inv(Z))
    expected = {
        "weight": w,
        "residual": w / inverse,
        "gain": w**2 / inverse,
        "spread": 1 / Z.sum(axis=1),
    }
    for criterion, scores in expected.items():
        detector = MagnitudeOutlierDetector(criterion=criterion, scale=1.5).fit(X)
        assert_allclose(detector.outlier_scores_, scores, rtol=1e-9)
    detector = MagnitudeOutlierDetector(criterion="power").fit(X)
    scales = np.linspace(1e-3, 10, 20)
    total = sum(
        np.exp(-t) * WeightingVector(scale=t).fit(X).weighting_vector_ * (scales[1] - scales[0])
        for t in scales
    )
    assert_allclose(detector.outlier_scores_, total, rtol=1e-6)


@pytest.mark.parametrize("criterion", ["weight", "residual", "gain", "spread"])
def test_far_away_a_row_is_a_whole_point(criterion, rng):
    detector = MagnitudeOutlierDetector(criterion=criterion).fit(rng.normal(size=(60, 2)))
    far = np.array([[1.0, 0.0], [0.0, -1.0]]) * (100 / detector.weighting_.scale_ + 5)
    scores = -detector.score_samples(far)
    assert ((scores > 0.99) & (scores <= 1.0)).all()
    assert_array_equal(detector.predict(far), [-1, -1])


def test_corners_weigh_more_than_edges_and_edges_more_than_the_inside():
    grid = np.array([(i, j) for i in range(15) for j in range(15)], dtype=float) / 5
    scores = MagnitudeOutlierDetector(scale=2.0).fit(grid).outlier_scores_.reshape(15, 15)
    assert scores[7, 7] < scores[0, 7] < scores[0, 0]
    # At the middle it is the density of a solid body, t^2 / (2 omega_2) a unit of area.
    assert_allclose(scores[7, 7], 4 / (2 * np.pi) / 25, rtol=0.05)


@pytest.mark.parametrize("contamination", [0.05, 0.2, 0.5])
def test_contamination_is_the_share_called_outliers(contamination, rng):
    X = rng.normal(size=(200, 3))
    detector = MagnitudeOutlierDetector(contamination=contamination).fit(X)
    assert (detector.predict(X) == -1).sum() == round(200 * contamination)
    assert_array_equal(detector.predict(X), detector.fit_predict(X))
    new = rng.normal(size=(50, 3))
    assert_array_equal(detector.predict(new), np.where(detector.decision_function(new) < 0, -1, 1))


def test_auto_calls_few_usual_rows_and_all_far_ones_outliers(rng):
    X = np.r_[rng.normal(size=(300, 2)), [[9.0, 0.0], [0.0, -12.0], [-8.0, 8.0]]]
    flagged = MagnitudeOutlierDetector().fit_predict(X) == -1
    assert flagged[-3:].all()
    assert flagged[:-3].mean() < 0.1
    # Rows that are all alike have no outliers, whatever rounding does.
    assert (MagnitudeOutlierDetector(scale=1.0).fit_predict(np.eye(20)) == 1).all()
    assert (MagnitudeOutlierDetector(scale=1e4).fit_predict(X) == 1).all()


def test_copies_count_as_one_point(rng):
    X = rng.normal(size=(40, 2))
    detector, copied = (
        MagnitudeOutlierDetector(scale=1.0).fit(rows) for rows in (X, np.r_[X, X[:3], X[:1]])
    )
    assert_array_equal(copied.outlier_scores_[:40], detector.outlier_scores_)
    assert_array_equal(copied.outlier_scores_[40:], detector.outlier_scores_[[0, 1, 2, 0]])


@pytest.mark.parametrize("criterion", ["weight", "residual", "gain"])
@pytest.mark.parametrize("solver", ["local", "vecchia", "cg"])
def test_neighbors_give_nearly_the_exact_scores(criterion, solver, rng):
    X, new = rng.normal(size=(800, 2)), 1.5 * rng.normal(size=(100, 2))
    exact = MagnitudeOutlierDetector(criterion=criterion).fit(X)
    near = MagnitudeOutlierDetector(
        criterion=criterion, solver=solver, scale=exact.weighting_.scale_, random_state=0
    ).fit(X)
    assert_allclose(near.outlier_scores_, exact.outlier_scores_, atol=0.02)
    assert_allclose(near.score_samples(new), exact.score_samples(new), atol=0.02)


def test_non_negative_weights_score_only_the_support(rng):
    X = rng.normal(size=(80, 2))
    for criterion in ("weight", "residual", "gain"):
        detector = MagnitudeOutlierDetector(criterion=criterion, nonnegative=True, scale=0.3).fit(X)
        zero = detector.weighting_.weighting_vector_ == 0
        assert zero.any()
        assert_array_equal(detector.outlier_scores_ == 0, zero)
        inside = detector.score_samples([[0.0, 0.0]])
        assert_allclose(inside, 0, atol=1e-12)


# The draw of the first table of benchmarks/magnitude_outliers.py.
def areas(X, label, **parameters):
    scores = MagnitudeOutlierDetector(**parameters).fit(X).outlier_scores_
    return roc_auc_score(label, scores)


@pytest.mark.parametrize(
    ("load", "usual", "n_outliers", "expected"),
    [
        (load_breast_cancer, [1], 20, [0.906, 0.929, 0.920, 0.929, 0.734, 0.954]),
        (load_wine, [1, 2], 10, [0.637, 0.845, 0.860, 0.817, 0.482, 0.881]),
    ],
)
def test_areas_are_those_of_an_independent_run(load, usual, n_outliers, expected):
    data, y = load(return_X_y=True)
    outliers = data[~np.isin(y, usual)]
    drawn = np.random.default_rng(0).choice(len(outliers), n_outliers, replace=False)
    X = StandardScaler().fit_transform(np.r_[data[np.isin(y, usual)], outliers[drawn]])
    label = np.arange(len(X)) >= len(X) - n_outliers
    found = [areas(X, label, magnitude_fraction=fraction) for fraction in (0.1, 0.5, 0.9)]
    found += [areas(X, label, scale=1.0), areas(X, label, scale="median")]
    found += [areas(X, label, criterion="spread", scale="median")]
    assert_allclose(found, expected, atol=0.01)


def test_it_works_in_pipelines_and_searches(rng):
    X = rng.normal(size=(80, 2)) * [1.0, 50.0]
    label = np.ones(80, dtype=int)
    X[:5, 0] += [8.0, -8.0, 11.0, -11.0, 14.0]
    label[:5] = -1
    pipeline = make_pipeline(StandardScaler(), MagnitudeOutlierDetector(contamination=0.1))
    assert set(np.flatnonzero(pipeline.fit_predict(X) == -1)) >= set(range(5))
    search = GridSearchCV(
        pipeline,
        {"magnitudeoutlierdetector__magnitude_fraction": [0.3, 0.7]},
        scoring="roc_auc",
        cv=[(np.arange(0, 80, 2), np.arange(1, 80, 2))],
    ).fit(X, label)
    assert search.best_score_ > 0.9


def test_precomputed_distances_score_alike(rng):
    X, new = rng.normal(size=(30, 2)), rng.normal(size=(4, 2))
    by_rows = MagnitudeOutlierDetector().fit(X)
    by_distance = MagnitudeOutlierDetector(metric="precomputed").fit(cdist(X, X))
    assert_allclose(by_distance.outlier_scores_, by_rows.outlier_scores_, rtol=1e-6)
    assert_allclose(by_distance.score_samples(cdist(new, X)), by_rows.score_samples(new), rtol=1e-6)


def test_errors_and_warnings_bear_the_name_of_the_detector(rng):
    name = "MagnitudeOutlierDetector"
    with pytest.raises(ValueError, match=f"a minimum of 2 is required by {name}"):
        MagnitudeOutlierDetector().fit([[1.0, 2.0]])
    with pytest.raises(ValueError, match=f"{name}: X has only one distinct point"):
        MagnitudeOutlierDetector().fit(np.ones((4, 2)))
    with pytest.raises(ValueError, match=f"{name}: X has only one distinct point among 4 rows"):
        MagnitudeOutlierDetector(scale=1.0).fit(np.ones((4, 2)))
    with pytest.raises(ValueError, match=f"'contamination' parameter of {name}"):
        MagnitudeOutlierDetector(contamination=0.6).fit(np.eye(3))
    with pytest.raises(ValueError, match=f"{name}: Input X contains NaN"):
        MagnitudeOutlierDetector().fit([[1.0], [np.nan]])
    with pytest.warns(WeightWarning, match=f"{name}: 2 neighbours do not see"):
        MagnitudeOutlierDetector(solver="local", n_neighbors=2, scale=0.1).fit(
            rng.normal(size=(50, 2))
        )

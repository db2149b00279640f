"""Robust classification under sample selection bias."""

import pickle

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from numpydoc.docscrape import ClassDoc
from scipy.optimize import approx_fprime
from scipy.special import expit, softmax
from sklearn.base import clone
from sklearn.datasets import load_iris
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, cross_validate

from reweight.exceptions import WeightWarning
from shift import DoubleWeightingClassifier, KernelMeanMatching, RobustBiasAwareClassifier
from shift.covariate import robust_bias_aware
from shift.covariate.robust_bias_aware import _RobustLoss

pytestmark = pytest.mark.filterwarnings("ignore::reweight.exceptions.WeightWarning")


@pytest.fixture
def iris():
    X, y = load_iris(return_X_y=True)
    return X - X.mean(axis=0), y


def make_shift(rng, n=150, t=100):
    """Logistic truth, target moved by one standard deviation of the first column."""
    X = rng.normal(size=(n, 2))
    y = (rng.uniform(size=n) < expit(1.5 * X[:, 0] - X[:, 1])).astype(int)
    return X, y, rng.normal(size=(t, 2)) + np.array([1.0, 0.0])


def true_ratio(X):
    return np.exp(0.5 - X[:, 0])


class TestOracles:
    @pytest.mark.parametrize("C", [0.1, 1.0])
    @pytest.mark.parametrize("rows", [slice(None), slice(50, 150)], ids=["three", "two"])
    def test_ratio_one_is_logistic_regression(self, iris, C, rows):
        X, y = iris[0][rows], iris[1][rows]
        model = RobustBiasAwareClassifier(ratio=1.0, C=C).fit(X, y, X_target=X)
        logistic = LogisticRegression(C=C, tol=1e-10, max_iter=10_000).fit(X, y)
        assert_allclose(model.coef_, logistic.coef_, rtol=0, atol=1e-5)
        assert_allclose(model.predict_proba(X), logistic.predict_proba(X), rtol=0, atol=1e-5)
        assert_array_equal(model.predict(X), logistic.predict(X))

    @pytest.mark.parametrize("rows", [slice(None), slice(50, 150)], ids=["three", "two"])
    def test_ratio_zero_knows_nothing(self, iris, rows):
        X, y = iris[0][rows], iris[1][rows]
        model = RobustBiasAwareClassifier(ratio=0.0).fit(X, y, X_target=X)
        assert_allclose(model.predict_proba(X), 1 / len(np.unique(y)), rtol=0, atol=1e-12)

    @pytest.mark.parametrize("n_classes", [2, 3])
    def test_moments_agree_up_to_the_ridge(self, iris, n_classes, rng):
        X, y = (
            iris[0][: 50 * n_classes] + rng.normal(size=(50 * n_classes, 4)),
            iris[1][: 50 * n_classes],
        )
        s = rng.uniform(0.5, 2.0, size=len(X))
        model = RobustBiasAwareClassifier(ratio=lambda X: expit(X[:, 0]), C=0.5)
        model.fit(X, y, X_target=X, sample_weight=s)
        excess = (np.eye(n_classes)[y] - model.predict_proba(X)) * (s / s.sum())[:, None]
        moments = excess.T @ X
        ridge = model.coef_ / (0.5 * s.sum())
        assert_allclose(moments[-len(ridge) :], ridge, rtol=0, atol=1e-8)
        assert_allclose(excess.sum(axis=0), 0, rtol=0, atol=1e-8)

    def test_probabilities_are_those_of_the_paper(self, rng):
        X, y, X_target = make_shift(rng)
        model = RobustBiasAwareClassifier(ratio=true_ratio).fit(X, y, X_target=X_target)
        score = X @ model.coef_[0] + model.intercept_[0]
        assert_allclose(model.decision_function(X), score)
        assert_allclose(model.predict_proba(X)[:, 1], expit(np.minimum(true_ratio(X), 10) * score))

    def test_certainty_falls_where_the_source_is_thin(self, rng):
        X, y, X_target = make_shift(rng)
        model = RobustBiasAwareClassifier(ratio=true_ratio).fit(X, y, X_target=X_target)
        far = model.predict_proba(np.array([[2.0, -1.0], [5.0, -1.0], [40.0, -1.0]]))
        assert (np.diff(far[:, 1]) < 0).all()
        assert far[-1, 1] == pytest.approx(0.5, abs=1e-6)

    def test_the_ratio_changes_the_coefficients(self, rng):
        X, y, X_target = make_shift(rng)
        plain = RobustBiasAwareClassifier(ratio=1.0).fit(X, y, X_target=X_target)
        robust = RobustBiasAwareClassifier(ratio=true_ratio).fit(X, y, X_target=X_target)
        assert not np.allclose(plain.coef_, robust.coef_, rtol=0.1)

    def test_it_is_double_weighting_with_the_expectation_on_the_source(self):
        # Expectations over the target of ratio * g are those over the source of g, so in large
        # samples the two fits agree; in small ones they do not.
        rng = np.random.default_rng(5)
        X, y, X_target = make_shift(rng, n=20_000, t=20_000)
        robust = RobustBiasAwareClassifier(ratio=true_ratio, C=1e6, max_ratio=1e6)
        robust.fit(X, y, X_target=X_target)
        double = DoubleWeightingClassifier(loss="log", slack=1e-4)
        double.fit(X, y, X_target=X_target, target_weights=true_ratio(X_target))
        slope = double.coef_[1] - double.coef_[0]
        assert_allclose(slope[1:], robust.coef_[0], atol=0.06)
        assert slope[0] == pytest.approx(robust.intercept_[0], abs=0.06)


class TestLoss:
    @pytest.mark.parametrize("n_rows", [1, 3])
    def test_derivatives(self, n_rows, rng):
        Z = np.column_stack([np.ones(30), rng.normal(size=(30, 2))])
        labels = rng.integers(0, max(n_rows, 2), size=30)
        ratio = np.r_[0.0, 1e-10, 1e-7, rng.uniform(0.1, 3.0, size=27)]
        loss = _RobustLoss(Z, labels, ratio, rng.uniform(0.5, 1.5, 30), n_rows, 0.1, True)
        theta = rng.normal(size=3 * n_rows)
        _, gradient, hessian = loss(theta)
        assert_allclose(gradient, approx_fprime(theta, lambda x: loss(x)[0], 1e-7), atol=1e-5)
        numeric = np.stack(
            [approx_fprime(theta, lambda x, k=k: loss(x)[1][k], 1e-7) for k in range(theta.size)]
        )
        assert_allclose(hessian, numeric, atol=1e-5)

    def test_small_ratios_meet_their_limit(self, rng):
        Z, labels, s = rng.normal(size=(20, 2)), rng.integers(0, 3, size=20), np.ones(20)
        theta = rng.normal(size=6)
        values = [
            _RobustLoss(Z, labels, np.full(20, r), s, 3, 0.0, False)(theta)[0]
            for r in (0.0, 1e-300, 1e-12, 1e-8)
        ]
        assert_allclose(values, values[0], rtol=0, atol=1e-7)
        # And large ones theirs: the largest score less that of the class.
        scores = Z @ theta.reshape(3, 2).T
        gap = (scores.max(axis=1) - scores[np.arange(20), labels]).mean()
        large = _RobustLoss(Z, labels, np.full(20, 1e6), s, 3, 0.0, False)(theta)[0]
        assert large == pytest.approx(gap, abs=1e-5)

    def test_many_coefficients_use_first_order_steps_to_the_same_answer(self, iris, monkeypatch):
        X, y = iris
        newton = RobustBiasAwareClassifier(ratio=0.5, C=0.1, tol=1e-7).fit(X, y, X_target=X)
        monkeypatch.setattr(robust_bias_aware, "MAX_NEWTON_SIZE", 0)
        quasi = RobustBiasAwareClassifier(ratio=0.5, C=0.1, tol=1e-7, max_iter=5000).fit(
            X, y, X_target=X
        )
        assert quasi.solver_result_.solver == "l-bfgs"
        assert quasi.optimality_gap_ <= 1e-7
        assert_allclose(quasi.coef_, newton.coef_, atol=1e-4)


class TestRatio:
    def test_the_roles_of_the_samples_are_exchanged(self, rng):
        from shift import ClassifierDensityRatio

        X, y, X_target = make_shift(rng, n=400, t=400)
        model = RobustBiasAwareClassifier().fit(X, y, X_target=X_target)
        direct = ClassifierDensityRatio().fit(X_target, X_target=X)
        assert_allclose(model.source_ratio_, np.minimum(direct.predict_weights(X), 10))
        # The truth is exp(1/2 - x_1): the log ratio falls by one per unit.
        log_ratio = np.log(model.ratio_.predict_weights(X))
        slope = np.polyfit(X[:, 0], log_ratio, 1)[0]
        assert slope == pytest.approx(-1.0, abs=0.25)

    def test_any_weighter_with_a_weight_function(self, rng):
        from shift import ULSIF

        X, y, X_target = make_shift(rng)
        ratio = ULSIF(random_state=0)
        model = RobustBiasAwareClassifier(ratio=ratio).fit(X, y, X_target=X_target)
        assert model.ratio_ is not ratio
        assert_array_equal(model.predict_proba(X).sum(axis=1).round(12), 1)

    def test_the_cap_is_applied_and_counted(self, rng):
        X, y, X_target = make_shift(rng)
        share = np.mean(true_ratio(X) > 2)
        with pytest.warns(WeightWarning, match=f"{share:.0%} of the source rows is capped"):
            model = RobustBiasAwareClassifier(ratio=true_ratio, max_ratio=2.0).fit(
                X, y, X_target=X_target
            )
        assert model.source_ratio_.max() == 2.0
        capped = RobustBiasAwareClassifier(ratio=lambda X: np.minimum(true_ratio(X), 2.0))
        capped.fit(X, y, X_target=X_target)
        assert_allclose(model.predict_proba(X), capped.predict_proba(X))

    def test_no_target_is_logistic_regression(self, iris):
        X, y = iris
        with pytest.warns(WeightWarning, match="X_target is not given, so no shift is assumed"):
            model = RobustBiasAwareClassifier().fit(X, y)
        logistic = LogisticRegression(tol=1e-10, max_iter=10_000).fit(X, y)
        assert_allclose(model.coef_, logistic.coef_, atol=1e-5)


class TestScikitLearn:
    def test_sample_weight_counts_rows(self, rng):
        X, y, X_target = make_shift(rng)
        s = rng.integers(0, 4, size=150)
        index = np.repeat(np.arange(150), s)
        model = RobustBiasAwareClassifier(ratio=true_ratio)
        weighted = clone(model).fit(X, y, X_target=X_target, sample_weight=s)
        repeated = clone(model).fit(X[index], y[index], X_target=X_target)
        assert_allclose(weighted.coef_, repeated.coef_, atol=1e-8)
        assert_allclose(weighted.intercept_, repeated.intercept_, atol=1e-8)

    def test_target_rows_pass_whole_through_cross_validation(self, rng):
        X, y, X_target = make_shift(rng, t=150)
        model = RobustBiasAwareClassifier(ratio=true_ratio)
        found = cross_validate(
            model, X, y, params={"X_target": (X_target,)}, cv=3, return_estimator=True
        )
        assert [m.n_target_ for m in found["estimator"]] == [150] * 3
        search = GridSearchCV(model, {"C": [0.1, 1.0]}, cv=3).fit(X, y, X_target=(X_target,))
        assert search.best_params_["C"] in (0.1, 1.0)

    @pytest.mark.parametrize("library", ["pandas", "polars"])
    def test_data_frames_and_labels(self, library, iris):
        frames = pytest.importorskip(library)
        X, y = iris
        names = np.array(["setosa", "versicolor", "virginica"])
        frame = frames.DataFrame({f"c{j}": X[:, j] for j in range(4)})
        model = RobustBiasAwareClassifier(ratio=0.5).fit(frame, names[y], X_target=frame)
        assert list(model.feature_names_in_) == ["c0", "c1", "c2", "c3"]
        plain = RobustBiasAwareClassifier(ratio=0.5).fit(X, y, X_target=X)
        assert_array_equal(model.predict(frame), names[plain.predict(X)])
        documented = {entry.name for entry in ClassDoc(RobustBiasAwareClassifier)["Attributes"]}
        assert {name for name in vars(model) if name.endswith("_")} == documented
        copy = pickle.loads(pickle.dumps(model))
        assert_array_equal(copy.predict_proba(frame), model.predict_proba(frame))

    def test_without_intercept(self, iris):
        X, y = iris
        model = RobustBiasAwareClassifier(ratio=0.5, fit_intercept=False).fit(X, y, X_target=X)
        assert_array_equal(model.intercept_, 0)
        assert_allclose(model.predict_proba(X), softmax(0.5 * X @ model.coef_.T, axis=1))

    def test_not_converged(self, iris):
        X, y = iris
        with pytest.warns(ConvergenceWarning, match="not converged after 1 iterations"):
            RobustBiasAwareClassifier(ratio=1.0, max_iter=1).fit(X, y, X_target=X)


class TestBadInput:
    def refuse(self, rng, match, error=ValueError, fit=None, **parameters):
        X, y, X_target = make_shift(rng)
        with pytest.raises(error, match=match):
            RobustBiasAwareClassifier(**parameters).fit(
                **{"X": X, "y": y, "X_target": X_target, **(fit or {})}
            )

    @pytest.mark.parametrize(
        "parameters",
        [{"ratio": -1.0}, {"ratio": "auto"}, {"C": 0.0}, {"max_ratio": 0.0}, {"tol": -1.0}],
    )
    def test_parameters(self, rng, parameters):
        name = next(iter(parameters))
        self.refuse(rng, f"The '{name}' parameter of RobustBiasAwareClassifier", **parameters)

    def test_a_weighter_without_a_weight_function(self, rng):
        self.refuse(
            rng, "The 'ratio' parameter of RobustBiasAwareClassifier", ratio=KernelMeanMatching()
        )

    def test_ratios_of_the_wrong_kind(self, rng):
        self.refuse(rng, "ratio gives 3 values for 150 rows", ratio=lambda X: np.ones(3))
        self.refuse(
            rng, "Negative values in data passed to `the ratio`", ratio=lambda X: -np.ones(len(X))
        )
        self.refuse(
            rng, "the ratio has 150 entries that are NaN", ratio=lambda X: np.full(len(X), np.nan)
        )

    def test_rows(self, rng):
        from scipy.sparse import csr_matrix

        X, _, X_target = make_shift(rng)
        self.refuse(
            rng, "X_target is not usable: X has 1 features", fit={"X_target": X_target[:, :1]}
        )
        self.refuse(rng, "y has one class, 1, among", fit={"y": np.ones(150, int)})
        self.refuse(rng, "requires y to be passed", fit={"y": None})
        self.refuse(rng, "sparse data was passed for X", TypeError, fit={"X": csr_matrix(X)})
        self.refuse(rng, "Input X contains NaN", fit={"X": np.where(X > 2, np.nan, X)})

"""Minimax risk classification by double weighting."""

import pickle
import warnings

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from numpydoc.docscrape import ClassDoc
from scipy.optimize import linprog
from sklearn import config_context
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning, NotFittedError
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, StratifiedKFold, cross_val_score, cross_validate
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import PolynomialFeatures, StandardScaler

from reweight.exceptions import InfeasibleError, WeightWarning
from shift import DoubleKernelMeanMatching, DoubleWeightingClassifier, KernelMeanMatching
from shift.covariate._minimax_checks import D_GRID
from shift.covariate._minimax_confidence import standard_error_bounds
from shift.covariate._minimax_loss import potential, rule

pytestmark = pytest.mark.filterwarnings("ignore::reweight.exceptions.WeightWarning")

LOSSES = ("0-1", "log")


def design_h():
    """A small shifted sample, drawn in the order of the study that its figures come from."""
    rng = np.random.default_rng(20230724)

    def labels(X):
        return (rng.uniform(size=len(X)) < 1 / (1 + np.exp(-2 * X[:, 0] + X[:, 1]))).astype(int)

    X = rng.normal(size=(40, 2))
    y = labels(X)
    X_target = 0.7 * rng.normal(size=(50, 2)) + np.array([0.8, -0.4])
    return X, y, X_target, labels(X_target)


def make_shift(rng, n=80, t=60, n_classes=2, p=3):
    X = rng.normal(size=(n, p))
    X_target = rng.normal(0.5, 0.8, size=(t, p))
    y = np.argmax(X[:, :n_classes] + 0.7 * rng.gumbel(size=(n, n_classes)), axis=1)
    return X, y, X_target


def hand_weights(rng, n=80, t=60):
    return {"source_weights": rng.uniform(0.3, 2.0, size=n), "target_weights": rng.uniform(size=t)}


def phi(X):
    return np.column_stack([np.ones(len(X)), X])


class TestOracles:
    """What the theory says, whatever the data."""

    @pytest.mark.parametrize("loss", LOSSES)
    @pytest.mark.parametrize("n_classes", [2, 3])
    def test_the_objective_is_the_one_of_the_paper(self, loss, n_classes, rng):
        X, y, X_target = make_shift(rng, n_classes=n_classes)
        pair = hand_weights(rng)
        model = DoubleWeightingClassifier(loss=loss, slack=0.02)
        model.fit(X, y, X_target=X_target, **pair)
        beta, alpha = pair["source_weights"], pair["target_weights"]
        tau = np.stack([((y == c) * beta) @ phi(X) / len(X) for c in range(n_classes)])
        assert_allclose(model.tau_, tau, atol=1e-12)
        M, bounds = model.coef_, model.confidence_bounds_
        scores = alpha[:, None] * (phi(X_target) @ M.T)
        value = potential(scores, loss).mean() - np.sum(tau * M) + np.sum(bounds * np.abs(M))
        assert model.minimax_risk_ == pytest.approx(value, abs=1e-10)
        assert model.optimality_gap_ <= 1e-6
        assert_allclose(model.raw_weights_, beta)
        assert_array_equal(model.raw_target_weights_, alpha)

    def test_without_weights_it_is_the_minimax_risk_classifier_of_one_sample(self, rng):
        # The marginally constrained classifier, written out as one linear program.
        X, y, _ = make_shift(rng, n=50, n_classes=3)
        bounds = np.full((3, 4), 0.05)
        model = DoubleWeightingClassifier(confidence=bounds).fit(
            X, y, X_target=X, source_weights=np.ones(50)
        )
        F, n, C, q = phi(X), 50, 3, 4
        tau = model.tau_
        rows, right = [], []
        for members in ([0], [1], [2], [0, 1], [0, 2], [1, 2], [0, 1, 2]):
            indicator = np.isin(np.arange(C), members) / len(members)
            block = np.kron(indicator, F)
            rows.append(np.hstack([block, -block, -np.eye(n)]))
            right.append(np.full(n, 1 / len(members) - 1))
        costs = np.concatenate([(bounds - tau).ravel(), (bounds + tau).ravel(), np.full(n, 1 / n)])
        limits = [(0, None)] * (2 * C * q) + [(None, None)] * n
        result = linprog(costs, A_ub=np.vstack(rows), b_ub=np.concatenate(right), bounds=limits)
        assert model.minimax_risk_ == pytest.approx(result.fun, abs=1e-9)

    def test_with_log_loss_and_tiny_bounds_it_is_logistic_regression(self, rng):
        X, y, _ = make_shift(rng, n=150, n_classes=3)
        model = DoubleWeightingClassifier(loss="log", confidence=np.full((3, 4), 1e-9), tol=1e-8)
        model.fit(X, y, X_target=X, source_weights=np.ones(150))
        logistic = LogisticRegression(C=np.inf, tol=1e-10, max_iter=10_000).fit(X, y)
        expected = np.column_stack([logistic.intercept_, logistic.coef_])
        # Rows may differ by a common shift.
        assert_allclose(
            model.coef_ - model.coef_.mean(axis=0), expected - expected.mean(axis=0), atol=1e-5
        )
        P = logistic.predict_proba(X)
        assert_allclose(model.predict_proba(X), P, atol=1e-5)
        assert model.minimax_risk_ == pytest.approx(-np.log(P[np.arange(150), y]).mean(), abs=1e-5)

    @pytest.mark.parametrize("n_classes", [2, 3])
    def test_log_loss_meets_the_constraints_of_its_game(self, n_classes, rng):
        X, y, X_target = make_shift(rng, n_classes=n_classes)
        pair = hand_weights(rng)
        model = DoubleWeightingClassifier(loss="log", slack=0.02).fit(
            X, y, X_target=X_target, **pair
        )
        alpha = pair["target_weights"]
        h = model.predict_proba(X_target, target_weights=alpha)
        residual = model.tau_ - (h * alpha[:, None]).T @ phi(X_target) / len(X_target)
        assert (np.abs(residual) <= model.confidence_bounds_ + 1e-5).all()
        used = np.abs(model.coef_) > 1e-6
        assert used.any()
        assert_allclose(
            residual[used], (np.sign(model.coef_) * model.confidence_bounds_)[used], atol=1e-5
        )

    @pytest.mark.parametrize("loss", LOSSES)
    @pytest.mark.parametrize("n_classes", [2, 3])
    @pytest.mark.parametrize("slack", [1e-6, 1e-2, 1.0])
    def test_the_risk_is_between_nothing_and_guessing(self, loss, n_classes, slack, rng):
        X, y, X_target = make_shift(rng, n_classes=n_classes)
        model = DoubleWeightingClassifier(loss=loss, slack=slack)
        model.fit(X, y, X_target=X_target, **hand_weights(rng))
        largest = np.log(n_classes) if loss == "log" else 1 - 1 / n_classes
        assert 0 <= model.minimax_risk_ <= largest + 1e-9
        if slack == 1.0:
            assert model.minimax_risk_ == pytest.approx(largest)
            assert_array_equal(model.coef_, 0)

    @pytest.mark.parametrize("loss", LOSSES)
    def test_wider_bounds_mean_more_risk(self, loss, rng):
        X, y, X_target = make_shift(rng)
        pair = hand_weights(rng)
        risks = [
            DoubleWeightingClassifier(loss=loss, slack=slack)
            .fit(X, y, X_target=X_target, **pair)
            .minimax_risk_
            for slack in (1e-6, 1e-3, 0.01, 0.05, 0.2)
        ]
        assert (np.diff(risks) > 0).all()

    @pytest.mark.parametrize("loss", LOSSES)
    def test_relabelling_permutes_the_coefficients(self, loss, rng):
        X, y, X_target = make_shift(rng, n_classes=3)
        pair = hand_weights(rng)
        model = DoubleWeightingClassifier(loss=loss, slack=0.02)
        coef = clone(model).fit(X, y, X_target=X_target, **pair).coef_
        order = np.array([2, 0, 1])
        relabelled = clone(model).fit(X, order[y], X_target=X_target, **pair).coef_
        assert_allclose(relabelled[order], coef, atol=1e-6)

    @pytest.mark.parametrize(("loss", "largest"), [("0-1", 2 / 3), ("log", np.log(3))])
    def test_target_weights_near_zero_leave_nothing_to_know(self, loss, largest, rng):
        X, y, X_target = make_shift(rng, n_classes=3)
        model = DoubleWeightingClassifier(loss=loss)
        model.fit(X, y, X_target=X_target, target_weights=np.full(60, 1e-7))
        assert model.minimax_risk_ == pytest.approx(largest, abs=1e-4)

    def test_the_risk_holds_for_every_truth_within_the_bounds(self, rng):
        # Minimax: the randomised rule loses at most R for each P that the constraints allow.
        X, y, X_target = make_shift(rng)
        pair = hand_weights(rng)
        model = DoubleWeightingClassifier(slack=0.02).fit(X, y, X_target=X_target, **pair)
        h = model.predict_proba(X_target, target_weights=pair["target_weights"])
        F = phi(X_target) * pair["target_weights"][:, None] / 60
        # Largest loss mean(1 - sum_c P h) over P: a linear program in P_i1, with P_i2 = 1 - P_i1.
        gain = (h[:, 0] - h[:, 1]) / 60
        low, high = model.tau_ - model.confidence_bounds_, model.tau_ + model.confidence_bounds_
        total = F.sum(axis=0)
        A = np.vstack([F.T, -F.T, -F.T, F.T])
        b = np.concatenate([high[0], -low[0], high[1] - total, total - low[1]])
        result = linprog(gain, A_ub=A, b_ub=b, bounds=(0, 1))
        worst = 1 - h[:, 1].mean() - result.fun
        assert worst == pytest.approx(model.minimax_risk_, abs=1e-7)


class TestFigures:
    """Figures of the small design of the specification."""

    def test_least_squares_bounds_on_the_small_design(self):
        X, y, X_target, _ = design_h()
        weighter = DoubleKernelMeanMatching(bandwidth=0.7, solver="exact")
        model = DoubleWeightingClassifier(weighter=weighter).fit(X, y, X_target=X_target)
        assert model.minimax_risk_path_[0] == pytest.approx(0.0085, abs=5e-5)
        assert pytest.approx(1 / 0.81) == model.D_

    def test_the_grid_of_d(self):
        rounded = [1, 1.235, 1.5625, 2.041, 2.778, 4, 6.25, 11.11, 25, 100]
        assert_allclose(D_GRID, rounded, rtol=5e-4)

    def test_the_risk_does_not_bound_the_error(self):
        X, y, X_target, y_target = design_h()
        weighter = DoubleKernelMeanMatching(bandwidth=0.7, solver="exact")
        model = DoubleWeightingClassifier(weighter=weighter).fit(X, y, X_target=X_target)
        assert model.minimax_risk_ < 0.2 < 1 - model.score(X_target, y_target)


class TestWeights:
    def test_one_given_weight_sets_the_other_to_one(self, rng):
        X, y, X_target = make_shift(rng)
        pair = hand_weights(rng)
        model = DoubleWeightingClassifier(slack=0.02)
        for name, other, size in (
            ("source_weights", "target_weights", 60),
            ("target_weights", "source_weights", 80),
        ):
            alone = clone(model).fit(X, y, X_target=X_target, **{name: pair[name]})
            both = clone(model).fit(
                X, y, X_target=X_target, **{name: pair[name], other: np.ones(size)}
            )
            assert_array_equal(alone.coef_, both.coef_)
            assert alone.D_ is None
            assert alone.weighter_ is None

    def test_weights_of_the_weighter_are_the_raw_pair(self, rng):
        X, y, X_target = make_shift(rng)
        model = DoubleWeightingClassifier(D=4.0, slack=0.02).fit(X, y, X_target=X_target)
        weighter = DoubleKernelMeanMatching(D=4.0).fit(X, X_target=X_target)
        assert_allclose(model.raw_weights_, weighter.raw_weights_)
        assert_allclose(model.raw_target_weights_, weighter.raw_target_weights_)
        by_hand = DoubleWeightingClassifier(slack=0.02).fit(
            X,
            y,
            X_target=X_target,
            source_weights=weighter.raw_weights_,
            target_weights=weighter.raw_target_weights_,
        )
        assert_allclose(model.coef_, by_hand.coef_)
        assert model.D_ == 4.0

    def test_d_of_one_is_kernel_mean_matching_and_infinity_leaves_the_source(self, rng):
        X, y, X_target = make_shift(rng)
        one = DoubleWeightingClassifier(D=1).fit(X, y, X_target=X_target)
        assert_array_equal(one.raw_target_weights_, 1)
        infinite = DoubleWeightingClassifier(D=np.inf).fit(X, y, X_target=X_target)
        assert_array_equal(infinite.raw_weights_, 1)
        assert infinite.raw_target_weights_.min() < 0.9

    def test_a_weighter_without_d_gives_source_weights_only(self, rng):
        X, y, X_target = make_shift(rng)
        weighter = KernelMeanMatching(bandwidth=1.0)
        model = DoubleWeightingClassifier(weighter=weighter).fit(X, y, X_target=X_target)
        assert_allclose(model.raw_weights_, clone(weighter).fit(X, X_target=X_target).weights_)
        assert_array_equal(model.raw_target_weights_, 1)
        assert model.D_ == 1.0
        assert not hasattr(weighter, "weights_")

    @pytest.mark.parametrize("loss", LOSSES)
    def test_a_row_of_sample_weight_k_counts_as_k_rows(self, loss, rng):
        X, y, X_target = make_shift(rng)
        s = rng.integers(0, 4, size=80)
        beta = rng.uniform(0.5, 1.5, size=80)
        model = DoubleWeightingClassifier(loss=loss, slack=0.02)
        weighted = clone(model).fit(X, y, X_target=X_target, source_weights=beta, sample_weight=s)
        index = np.repeat(np.arange(80), s)
        repeated = clone(model).fit(
            X[index], y[index], X_target=X_target, source_weights=beta[index]
        )
        assert_allclose(weighted.coef_, repeated.coef_, atol=1e-6)
        assert_array_equal(weighted.raw_weights_[s == 0], 0)
        assert_allclose(
            np.bincount(index, repeated.raw_weights_, 80), weighted.raw_weights_ * s.mean()
        )

    def test_sample_weights_reach_the_weighter(self, rng):
        X, y, X_target = make_shift(rng)
        s = rng.uniform(0.2, 2.0, size=80)
        model = DoubleWeightingClassifier(D=2.0).fit(X, y, X_target=X_target, sample_weight=s)
        weighter = DoubleKernelMeanMatching(D=2.0).fit(X, X_target=X_target, sample_weight=s)
        assert_allclose(model.raw_weights_, weighter.raw_weights_)

    def test_no_target_means_no_shift(self, rng):
        X, y, _ = make_shift(rng)
        model = DoubleWeightingClassifier(loss="log", slack=0.02)
        with pytest.warns(WeightWarning, match="X_target is not given, so no shift is assumed"):
            alone = clone(model).fit(X, y)
        same = clone(model).fit(X, y, X_target=X, source_weights=np.ones(80))
        assert_allclose(alone.coef_, same.coef_, atol=1e-9)
        assert alone.D_ is None
        assert alone.n_target_ == alone.raw_target_weights_.size == 0


class TestPath:
    @pytest.mark.parametrize("loss", LOSSES)
    def test_the_smallest_risk_is_chosen(self, loss, rng):
        X, y, X_target = make_shift(rng)
        model = DoubleWeightingClassifier(D=[1.0, 2.0, 4.0, np.inf], loss=loss, slack=0.02)
        model.fit(X, y, X_target=X_target)
        assert_array_equal(model.D_path_, [1.0, 2.0, 4.0, np.inf])
        risks = [
            DoubleWeightingClassifier(D=D, loss=loss, slack=0.02)
            .fit(X, y, X_target=X_target)
            .minimax_risk_
            for D in model.D_path_
        ]
        assert_allclose(model.minimax_risk_path_, risks, atol=1e-9)
        assert model.D_path_[np.argmin(risks)] == model.D_
        assert model.minimax_risk_ == min(risks)

    def test_ties_go_to_the_smallest_d(self, rng):
        X, y, X_target = make_shift(rng)
        # Bounds that nothing can violate make every risk that of guessing.
        model = DoubleWeightingClassifier(D=[4.0, 2.0, 1.0], slack=10.0).fit(
            X, y, X_target=X_target
        )
        assert_allclose(model.minimax_risk_path_, 0.5)
        assert model.D_ == 1.0

    @pytest.mark.parametrize("loss", LOSSES)
    def test_importance_weighted_validation_is_what_it_says(self, loss, rng):
        X, y, X_target = make_shift(rng)
        values = [2.0, 9.0]
        splits = list(StratifiedKFold(4).split(X, y))
        model = DoubleWeightingClassifier(D=values, loss=loss, slack=0.05, select="iwcv", cv=splits)
        model.fit(X, y, X_target=X_target)
        importance = DoubleKernelMeanMatching(D=1.0).fit(X, X_target=X_target).raw_weights_
        expected = []
        for D in values:
            weighter = DoubleKernelMeanMatching(D=D).fit(X, X_target=X_target)
            losses = np.zeros(80)
            for train, test in splits:
                part = DoubleWeightingClassifier(loss=loss, slack=0.05).fit(
                    X[train],
                    y[train],
                    X_target=X_target,
                    source_weights=weighter.raw_weights_[train],
                    target_weights=weighter.raw_target_weights_,
                )
                if loss == "0-1":
                    losses[test] = part.predict(X[test]) != y[test]
                else:
                    P = part.predict_proba(
                        X[test], target_weights=weighter.predict_target_weights(X[test])
                    )
                    losses[test] = -np.log(P[np.arange(len(test)), y[test]])
            expected.append((importance * losses).mean())
        assert_allclose(model.validation_risk_path_, expected, rtol=1e-6)
        assert values[np.argmin(expected)] == model.D_

    def test_validation_with_folds_drops_rows_without_weight(self, rng):
        X, y, X_target = make_shift(rng)
        s = np.r_[np.zeros(20), np.ones(60)]
        model = DoubleWeightingClassifier(D=[1.0, 4.0], slack=0.05, select="iwcv")
        splits = list(StratifiedKFold(3).split(X, y))
        kept = [(train[train >= 20] - 20, test[test >= 20] - 20) for train, test in splits]
        weighted = clone(model).set_params(cv=splits).fit(X, y, X_target=X_target, sample_weight=s)
        without = clone(model).set_params(cv=kept).fit(X[20:], y[20:], X_target=X_target)
        assert_allclose(weighted.validation_risk_path_, without.validation_risk_path_)

    @pytest.mark.parametrize("select", ["risk", "iwcv"])
    def test_number_of_jobs_does_not_change_a_bit(self, select, rng):
        X, y, X_target = make_shift(rng)
        model = DoubleWeightingClassifier(
            D=[1.0, 4.0],
            featurizer="rbf",
            n_components=8,
            slack=0.05,
            select=select,
            random_state=3,
        )
        alone = clone(model).set_params(n_jobs=1).fit(X, y, X_target=X_target)
        shared = clone(model).set_params(n_jobs=2).fit(X, y, X_target=X_target)
        assert_array_equal(alone.coef_, shared.coef_)
        assert_array_equal(alone.minimax_risk_path_, shared.minimax_risk_path_)

    def test_only_the_chosen_value_warns(self, rng):
        X, y, X_target = make_shift(rng)
        weighter = DoubleKernelMeanMatching(max_iter=1, tol=1e-9, solver="gradient", bandwidth=1.0)
        model = DoubleWeightingClassifier(D=[1.0, 4.0, 25.0], weighter=weighter)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            model.fit(X, y, X_target=X_target)
        assert sum(entry.category is ConvergenceWarning for entry in caught) == 1


class TestPrediction:
    @pytest.mark.parametrize("n_classes", [2, 3])
    def test_the_deterministic_rule_is_the_largest_score(self, n_classes, rng):
        X, y, X_target = make_shift(rng, n_classes=n_classes)
        names = np.array(["ash", "birch", "cedar"])
        model = DoubleWeightingClassifier(D=4, slack=0.02).fit(X, names[y], X_target=X_target)
        scores = phi(X_target) @ model.coef_.T
        assert_array_equal(model.predict(X_target), names[np.argmax(scores, axis=1)])
        expected = scores[:, 1] - scores[:, 0] if n_classes == 2 else scores
        assert_allclose(model.decision_function(X_target), expected)

    @pytest.mark.parametrize("loss", LOSSES)
    def test_probabilities_use_the_target_weight_of_the_row(self, loss, rng):
        X, y, X_target = make_shift(rng)
        model = DoubleWeightingClassifier(D=4, loss=loss, slack=0.02).fit(X, y, X_target=X_target)
        new = rng.normal(0.5, 1.5, size=(40, 3))
        alpha = model.weighter_.predict_target_weights(new)
        assert np.ptp(alpha) > 0.1
        expected = rule(alpha[:, None] * (phi(new) @ model.coef_.T), loss)
        assert_allclose(model.predict_proba(new), expected)
        assert_allclose(model.predict_proba(new, target_weights=alpha), expected)
        assert_allclose(model.predict_proba(new, target_weights=np.zeros(40)), 0.5)
        assert_allclose(model.predict_proba(new).sum(axis=1), 1, rtol=0, atol=1e-12)

    def test_without_a_function_of_the_row_target_weights_are_one(self, rng):
        X, y, X_target = make_shift(rng)
        model = DoubleWeightingClassifier(slack=0.02)
        model.fit(X, y, X_target=X_target, target_weights=rng.uniform(size=60))
        assert_allclose(model.predict_proba(X), rule(phi(X) @ model.coef_.T, "0-1"))

    def test_the_randomised_rule_draws_from_the_probabilities(self, rng):
        X, y, X_target = make_shift(rng, n_classes=3)
        model = DoubleWeightingClassifier(D=2, loss="log", slack=0.05).fit(X, y, X_target=X_target)
        row, n = X_target[:1], 4000
        drawn = model.predict(np.repeat(row, n, axis=0), randomised=True, random_state=0)
        P = model.predict_proba(row)[0]
        share = np.bincount(drawn, minlength=3) / n
        assert (np.abs(share - P) <= 4 * np.sqrt(P * (1 - P) / n) + 1e-12).all()
        again = model.predict(np.repeat(row, n, axis=0), randomised=True, random_state=0)
        assert_array_equal(drawn, again)

    def test_a_certain_rule_is_not_random(self, rng):
        X, y, X_target = make_shift(rng)
        model = DoubleWeightingClassifier(D=1).fit(X, y, X_target=X_target)
        certain = model.predict_proba(X_target).max(axis=1) == 1
        assert certain.any()
        drawn = model.predict(X_target[certain], randomised=True, random_state=1)
        assert_array_equal(drawn, model.predict(X_target[certain]))

    def test_it_predicts_only_after_fit(self):
        for method in ("predict", "predict_proba", "decision_function"):
            with pytest.raises(NotFittedError):
                getattr(DoubleWeightingClassifier(), method)(np.zeros((1, 2)))


class TestFeatures:
    def test_a_transformer_is_fitted_on_both_samples(self, rng):
        X, y, X_target = make_shift(rng)
        pair = hand_weights(rng)
        scaler = StandardScaler()
        model = DoubleWeightingClassifier(featurizer=scaler, slack=0.02)
        model.fit(X, y, X_target=X_target, **pair)
        pooled = StandardScaler().fit(np.concatenate([X, X_target]))
        assert_allclose(model.featurizer_.mean_, pooled.mean_)
        assert not hasattr(scaler, "mean_")
        plain = DoubleWeightingClassifier(slack=0.02).fit(
            pooled.transform(X), y, X_target=pooled.transform(X_target), **pair
        )
        assert_allclose(model.coef_, plain.coef_)
        assert_array_equal(model.predict(X), plain.predict(pooled.transform(X)))

    def test_random_features_approximate_the_kernel_of_the_bandwidth(self, rng):
        X, y, X_target = make_shift(rng)
        model = DoubleWeightingClassifier(
            D=4,
            featurizer="rbf",
            n_components=4000,
            bandwidth=1.5,
            fit_intercept=False,
            loss="log",
            confidence=np.full((2, 4000), 0.3),
            random_state=0,
        )
        model.fit(X, y, X_target=X_target)
        F = model.featurizer_.transform(X)
        distance = np.sum((X[:, None] - X) ** 2, axis=2)
        assert_allclose(F @ F.T, np.exp(-distance / (2 * 1.5**2)), atol=0.1)

    def test_random_features_learn_what_no_line_can(self, rng):
        X = rng.normal(size=(200, 2))
        X_target = rng.normal(0.2, 0.8, size=(200, 2))

        def ring(X):
            return (np.sum(X**2, axis=1) > 1.2).astype(int)

        linear = DoubleWeightingClassifier(D=1, loss="log", slack=0.01)
        rbf = clone(linear).set_params(featurizer="rbf", n_components=60, random_state=0)
        scores = [
            m.fit(X, ring(X), X_target=X_target).score(X_target, ring(X_target))
            for m in (linear, rbf)
        ]
        assert scores[0] < 0.75
        assert scores[1] > 0.85

    def test_the_intercept_is_the_first_coefficient(self, rng):
        X, y, X_target = make_shift(rng)
        pair = hand_weights(rng)
        with_ones = DoubleWeightingClassifier(
            fit_intercept=False, slack=0.02, featurizer=PolynomialFeatures(1)
        )
        model = DoubleWeightingClassifier(slack=0.02)
        for m in (model, with_ones):
            m.fit(X, y, X_target=X_target, **pair)
        assert model.coef_.shape == (2, 4)
        assert_allclose(model.coef_, with_ones.coef_)

    def test_standard_error_bounds(self, rng):
        X, y, _ = make_shift(rng, n=400)
        model = DoubleWeightingClassifier(confidence="std", loss="log")
        model.fit(X, y, X_target=X, source_weights=np.ones(400))
        terms = np.stack([phi(X) * (y == c)[:, None] for c in range(2)])
        assert_allclose(model.confidence_bounds_, 0.3 * terms.std(axis=1) / np.sqrt(400))
        # With weights: those of the terms, and the effective number of rows.
        beta, s = rng.uniform(0.5, 1.5, size=400), rng.integers(1, 4, size=400)
        bounds = standard_error_bounds(phi(X), y, beta, s, 2)
        repeated = np.repeat(terms * beta[:, None], s, axis=1).std(axis=1)
        n = s.sum() ** 2 / np.sum(s**2)
        assert_allclose(bounds, 0.3 * repeated / np.sqrt(n))

    def test_given_bounds_are_used(self, rng):
        X, y, X_target = make_shift(rng)
        pair = hand_weights(rng)
        first = DoubleWeightingClassifier(slack=0.05).fit(X, y, X_target=X_target, **pair)
        second = DoubleWeightingClassifier(confidence=first.confidence_bounds_)
        second.fit(X, y, X_target=X_target, **pair)
        assert_array_equal(second.confidence_bounds_, first.confidence_bounds_)
        assert_allclose(second.coef_, first.coef_, atol=1e-9)


class TestScikitLearn:
    def test_target_rows_pass_whole_through_cross_validation(self, rng):
        X, y, _ = make_shift(rng)
        X_target = rng.normal(0.5, 0.8, size=(80, 3))
        model = DoubleWeightingClassifier(D=2, slack=0.02)
        found = cross_validate(
            model, X, y, params={"X_target": (X_target,)}, cv=3, return_estimator=True
        )
        assert [m.n_target_ for m in found["estimator"]] == [80] * 3
        # The fact that makes the tuple necessary: an array as long as X is cut.
        cut = cross_validate(
            model, X, y, params={"X_target": X_target}, cv=4, return_estimator=True
        )
        assert [m.n_target_ for m in cut["estimator"]] == [60] * 4
        weights = {"X_target": (X_target,), "target_weights": (np.full(80, 0.5),)}
        assert np.isfinite(cross_val_score(model, X, y, params=weights, cv=3)).all()

    def test_routing_transforms_the_target_in_a_pipeline(self, rng):
        X, y, X_target = make_shift(rng)
        model = DoubleWeightingClassifier(D=2, slack=0.02)
        with config_context(enable_metadata_routing=True):
            pipeline = make_pipeline(StandardScaler(), model)
            pipeline.transform_input = ["X_target"]
            pipeline.fit(X, y, X_target=X_target)
            scores = cross_val_score(
                make_pipeline(StandardScaler(), model), X, y, params={"X_target": (X_target,)}, cv=3
            )
        scaler = StandardScaler().fit(X)
        direct = clone(model).fit(scaler.transform(X), y, X_target=scaler.transform(X_target))
        assert_allclose(pipeline[-1].coef_, direct.coef_)
        assert np.isfinite(scores).all()

    def test_grid_search(self, rng):
        X, y, X_target = make_shift(rng)
        search = GridSearchCV(
            DoubleWeightingClassifier(D=1), {"slack": [0.01, 0.1], "loss": ["0-1", "log"]}, cv=3
        ).fit(X, y, X_target=(X_target,))
        assert search.best_estimator_.n_target_ == 60

    def test_clone_pickle_and_constructor(self, rng):
        X, y, X_target = make_shift(rng)
        weighter = DoubleKernelMeanMatching(bandwidth=1.0)
        model = DoubleWeightingClassifier(D=[1.0, 4.0], weighter=weighter, slack=0.02)
        assert clone(model).weighter is not weighter
        model.fit(X, y, X_target=X_target)
        assert not hasattr(weighter, "weights_")
        copy = pickle.loads(pickle.dumps(model))
        assert_array_equal(copy.predict_proba(X), model.predict_proba(X))
        assert_array_equal(
            copy.predict(X, randomised=True, random_state=2),
            model.predict(X, randomised=True, random_state=2),
        )

    @pytest.mark.parametrize("library", ["pandas", "polars"])
    def test_data_frames_keep_their_names(self, library, rng):
        frames = pytest.importorskip(library)
        X, y, X_target = make_shift(rng)
        names = ["height", "width", "depth"]
        left, right = (
            frames.DataFrame({name: A[:, j] for j, name in enumerate(names)}) for A in (X, X_target)
        )
        model = DoubleWeightingClassifier(D=2, slack=0.02).fit(
            left, frames.Series(y), X_target=right
        )
        assert list(model.feature_names_in_) == names
        plain = DoubleWeightingClassifier(D=2, slack=0.02).fit(X, y, X_target=X_target)
        assert_array_equal(model.coef_, plain.coef_)
        assert_array_equal(model.predict_proba(right), plain.predict_proba(X_target))

    @pytest.mark.parametrize("select", ["risk", "iwcv"])
    def test_what_fit_stores_is_documented(self, select, rng):
        X, y, X_target = make_shift(rng)
        pandas = pytest.importorskip("pandas")
        frame, target = (pandas.DataFrame(rows, columns=list("abc")) for rows in (X, X_target))
        model = DoubleWeightingClassifier(D=[1.0, 4.0], slack=0.05, select=select)
        model.fit(frame, y, X_target=target)
        documented = {entry.name for entry in ClassDoc(DoubleWeightingClassifier)["Attributes"]}
        assert {name for name in vars(model) if name.endswith("_")} == documented

    def test_the_same_seed_gives_the_same_fit(self, rng):
        X, y, X_target = make_shift(rng)
        model = DoubleWeightingClassifier(D=2, featurizer="rbf", n_components=10, slack=0.05)
        first, second, other = (
            clone(model).set_params(random_state=seed).fit(X, y, X_target=X_target).coef_
            for seed in (0, 0, 1)
        )
        assert_array_equal(first, second)
        assert not np.array_equal(first, other)


class TestBadInput:
    @pytest.fixture
    def data(self, rng):
        return make_shift(rng)

    def refuse(self, data, match, error=ValueError, fit=None, **parameters):
        X, y, X_target = data
        arguments = {"X": X, "y": y, "X_target": X_target, **(fit or {})}
        with pytest.raises(error, match=match):
            DoubleWeightingClassifier(**parameters).fit(**arguments)

    @pytest.mark.parametrize("D", [0.5, np.nan, [1.0, 0.2], -np.inf])
    def test_d_below_one(self, data, D):
        self.refuse(data, r"DoubleWeightingClassifier: D must be >= 1, got", D=D)

    @pytest.mark.parametrize("D", ["best", None, []])
    def test_d_of_another_kind(self, data, D):
        self.refuse(data, "'D' parameter|D must be >= 1", D=D)

    def test_width_of_the_target(self, data):
        self.refuse(
            data,
            "X_target is not usable: X has 2 features.*3 features",
            fit={"X_target": data[2][:, :2]},
        )

    @pytest.mark.parametrize(("argument", "position"), [("X", 0), ("X_target", 2)])
    def test_nan(self, data, argument, position):
        rows = data[position].copy()
        rows[3, 1] = np.nan
        message = (
            "X_target is not usable.*contains NaN"
            if argument == "X_target"
            else "Input X contains NaN"
        )
        self.refuse(data, message, fit={argument: rows})

    def test_empty_target(self, data):
        self.refuse(data, "X_target is not usable.*0 sample", fit={"X_target": np.empty((0, 3))})

    def test_tuple_of_two(self, data):
        self.refuse(data, "tuple of 2 members", fit={"X_target": (data[2], data[2])})

    def test_one_class(self, data):
        self.refuse(data, "y has one class, 1, among", fit={"y": np.ones(80, int)})
        s = (data[1] == 0).astype(float)
        self.refuse(data, "y has one class, 0, among", fit={"sample_weight": s})

    def test_no_labels_and_continuous_labels(self, data):
        self.refuse(data, "requires y to be passed", fit={"y": None})
        self.refuse(data, "Unknown label type", fit={"y": data[0][:, 0]})

    def test_sparse_rows(self, data):
        from scipy.sparse import csr_matrix

        self.refuse(
            data,
            "DoubleWeightingClassifier: sparse data was passed for X",
            TypeError,
            fit={"X": csr_matrix(data[0])},
        )

    @pytest.mark.parametrize("name", ["source_weights", "target_weights"])
    def test_weights(self, data, name):
        size = 80 if name == "source_weights" else 60
        self.refuse(data, f"{name} has 7 entries but there are {size} rows", fit={name: np.ones(7)})
        self.refuse(
            data,
            f"Negative values in data passed to `{name}`",
            fit={name: np.r_[-1.0, np.ones(size - 1)]},
        )
        self.refuse(data, f"the {name[:6]} weights vanish on every row", fit={name: np.zeros(size)})
        self.refuse(
            data, f"{name} has 1 entries that are NaN", fit={name: np.r_[np.nan, np.ones(size - 1)]}
        )
        self.refuse(data, "need X_target", fit={name: np.ones(size), "X_target": None})

    def test_bounds_that_cannot_be_attained(self, data):
        X, y, X_target = data
        model = DoubleWeightingClassifier(confidence=np.zeros((2, 4)))
        names = np.array(["left", "right"])
        message = (
            "DoubleWeightingClassifier: confidence too small: the uncertainty set is empty "
            r"\(violation 0.\d+ at feature \d, class '(left|right)'\); pass larger bounds or use"
        )
        with pytest.raises(InfeasibleError, match=message) as found:
            model.fit(X, names[y], X_target=X_target, source_weights=np.ones(80))
        assert found.value.worst_column in range(4)

    def test_the_violation_is_the_truth(self, data):
        X, y, X_target = data
        free = DoubleWeightingClassifier().fit(X, y, X_target=X_target, source_weights=np.ones(80))
        bounds = free.confidence_bounds_ - 1e-6
        worst = np.unravel_index(np.argmax(bounds), bounds.shape)
        bounds[worst] -= 0.01
        with pytest.raises(InfeasibleError):
            DoubleWeightingClassifier(confidence=np.maximum(bounds, 0)).fit(
                X, y, X_target=X_target, source_weights=np.ones(80)
            )

    @pytest.mark.parametrize(
        "confidence", [np.ones((2, 3)), -np.ones((2, 4)), np.full((2, 4), np.inf)]
    )
    def test_bounds_of_the_wrong_kind(self, data, confidence):
        self.refuse(
            data, r"pass finite, non-negative bounds of shape \(2, 4\)", confidence=confidence
        )

    @pytest.mark.parametrize(
        "parameters",
        [
            {"loss": "hinge"},
            {"featurizer": "poly"},
            {"slack": -1.0},
            {"tol": 0},
            {"select": "cv"},
            {"weighter": 3},
            {"max_iter": 0},
            {"bandwidth": "scott"},
            {"confidence": "exact"},
        ],
    )
    def test_parameters(self, data, parameters):
        self.refuse(
            data,
            f"The '{next(iter(parameters))}' parameter of DoubleWeightingClassifier",
            **parameters,
        )

    @pytest.mark.parametrize("bandwidth", [0.0, -1.0])
    def test_bandwidth(self, data, bandwidth):
        self.refuse(data, "bandwidth", bandwidth=bandwidth)
        message = (
            f"DoubleWeightingClassifier: bandwidth must be positive and finite, got {bandwidth}"
        )
        self.refuse(data, message, bandwidth=bandwidth, featurizer="rbf")

    def test_all_rows_equal(self, data):
        self.refuse(
            data, "bandwidth is 0", fit={"X": np.ones((80, 3)), "X_target": np.ones((60, 3))}
        )

    def test_new_rows(self, data):
        X, y, X_target = data
        model = DoubleWeightingClassifier(D=1).fit(X, y, X_target=X_target)
        with pytest.raises(ValueError, match="2 features"):
            model.predict(X[:, :2])
        with pytest.raises(ValueError, match="inconsistent numbers of samples"):
            model.predict_proba(X, target_weights=np.ones(3))
        with pytest.raises(ValueError, match="Negative values"):
            model.predict_proba(X, target_weights=-np.ones(80))


class TestWarnings:
    def test_few_effective_rows(self, rng):
        X, y, X_target = make_shift(rng)
        beta = np.full(80, 1e-6)
        beta[[np.argmax(y == 0), np.argmax(y == 1)]] = 1.0
        with pytest.warns(WeightWarning, match=r"effective sample size of 2\.0 rows \(below 10\)"):
            DoubleWeightingClassifier(slack=0.1).fit(X, y, X_target=X_target, source_weights=beta)

    def test_little_overlap(self, rng):
        X, y, X_target = make_shift(rng)
        alpha = np.r_[np.full(40, 0.01), np.ones(20)]
        with pytest.warns(WeightWarning, match="little overlap: 67% of the target rows"):
            DoubleWeightingClassifier(slack=0.1).fit(X, y, X_target=X_target, target_weights=alpha)

    def test_target_on_another_scale(self, rng):
        X, y, X_target = make_shift(rng)
        with pytest.warns(WeightWarning, match="was the target transformed like the source"):
            DoubleWeightingClassifier(D=1, slack=0.1).fit(X, y, X_target=100 * X_target)

    def test_not_converged(self, rng):
        X, y, X_target = make_shift(rng)
        with pytest.warns(ConvergenceWarning, match="not converged after 1 iterations"):
            DoubleWeightingClassifier(D=1, loss="log", max_iter=1).fit(X, y, X_target=X_target)

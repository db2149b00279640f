"""Coresets of central distance, weights learned on them, and how they are handed on."""

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy.optimize import approx_fprime
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_validate
from sklearn.preprocessing import StandardScaler

from reweight import CoresetWeighter, Reweighted, moderate_coreset, normalize_weights
from reweight.exceptions import WeightWarning
from reweight.selection._meta_weight_net import LossNet, meta_weights


@pytest.fixture
def classes(rng):
    X = rng.normal(size=(120, 3))
    y = np.repeat(["a", "b", "c"], [70, 30, 20])[rng.permutation(120)]
    return X, y


def loss_ranks(X, y, X_val, y_val):
    """A rule whose weights differ by row."""
    return 1.0 + np.abs(X[:, 0]) + (y == y[0])


@pytest.fixture
def flipped():
    """Three overlapping classes with a third of wrong labels, and trusted rows."""
    rng = np.random.default_rng(3)
    truth = rng.integers(3, size=900)
    X = rng.normal(size=(900, 30)) + 0.5 * rng.normal(size=(3, 30))[truth]
    wrong = rng.uniform(size=800) < 0.35
    y = np.where(wrong, (truth[:800] + rng.integers(1, 3, size=800)) % 3, truth[:800])
    return X[:800], y, wrong, {"X_val": X[800:], "y_val": truth[800:]}


class TestModerateCoreset:
    @pytest.mark.parametrize("m", [3, 15, 17, 45, 60])
    def test_central_ranks_of_each_class(self, classes, m):
        X, y = classes
        rows = moderate_coreset(X, y, m)
        assert_array_equal(rows, np.unique(rows))
        for label in "abc":
            members = np.flatnonzero(y == label)
            d = np.sqrt(((X[members] - np.median(X[members], axis=0)) ** 2).sum(axis=1))
            count = m // 3
            ranks = np.argsort(np.argsort(d))[np.isin(members, rows)]
            first = (len(members) - count) // 2
            assert_array_equal(np.sort(ranks), np.arange(first, first + count))

    def test_fifteen_asked_for_are_fifteen(self, rng):
        X, y = rng.normal(size=(100, 2)), np.repeat(np.arange(3), [33, 34, 33])
        assert len(moderate_coreset(X, y, 15)) == 15

    def test_fewer_rows_than_classes_are_one_window(self, classes):
        X, y = classes
        d = np.empty(120)
        for label in "abc":
            d[y == label] = np.linalg.norm(X[y == label] - np.median(X[y == label], axis=0), axis=1)
        assert_array_equal(moderate_coreset(X, y, 2), np.sort(np.argsort(d)[59:61]))

    def test_small_classes_are_taken_whole(self, classes):
        X, y = classes
        rows = moderate_coreset(X, y, 90)
        assert_array_equal(np.unique(y[rows], return_counts=True)[1], [30, 30, 20])

    def test_bad_input_is_named(self, classes):
        X, y = classes
        for m in (0, 121, 5.0):
            with pytest.raises(ValueError, match=f"m={m} for 120 rows; pass a whole number"):
                moderate_coreset(X, y, m)
        with pytest.raises(ValueError, match="inconsistent numbers of samples"):
            moderate_coreset(X, y[:-1], 5)


class TestMetaWeights:
    def test_gradient_of_the_net_is_that_of_finite_differences(self):
        rng = np.random.RandomState(0)
        net, losses, slopes = LossNet(rng), rng.uniform(0, 3, 9), rng.normal(size=9)
        net.values(losses)
        found = np.concatenate(net.gradient(slopes))
        sizes = np.cumsum([p.size for p in net.params])[:-1]

        def value(flat):
            net.params = np.split(flat, sizes)
            return slopes @ net.values(losses)

        expected = approx_fprime(np.concatenate(net.params), value, 1e-7)
        assert_allclose(found, expected, atol=1e-6)

    def test_wrong_labels_get_little_weight(self, flipped):
        X, y, wrong, trusted = flipped
        codes = (X[:300], y[:300], trusted["X_val"], trusted["y_val"])
        weights = meta_weights(*codes, random_state=0)
        assert ((weights > 0) & (weights < 1)).all()
        assert weights[wrong[:300]].mean() < 0.3 * weights[~wrong[:300]].mean()

    def test_constant_features_and_seeds(self, flipped):
        X, y, _, trusted = flipped
        X, X_val = np.c_[X[:60], np.full(60, 1e9)], np.c_[trusted["X_val"], np.full(100, 1e9)]
        one, two, other = (
            meta_weights(X, y[:60], X_val, trusted["y_val"], random_state=seed)
            for seed in (0, 0, 1)
        )
        assert_array_equal(one, two)
        assert np.isfinite(one).all()
        assert (one != other).any()


class TestCoresetWeighter:
    def test_wrong_labels_are_told_from_right_ones(self, flipped):
        X, y, wrong, trusted = flipped
        weights = CoresetWeighter(0.2).fit(X, y, **trusted).weights_
        assert weights[wrong].mean() < 0.4 < 1.2 < weights[~wrong].mean()
        blind = CoresetWeighter(0.2, same_class=False).fit(X, y, **trusted).weights_
        assert blind[wrong].mean() > 0.8

    @pytest.mark.parametrize("same_class", [True, False])
    def test_all_rows_as_coreset_have_the_direct_weights(self, classes, same_class):
        X, y = classes
        # Windows take equal numbers a class, so that all rows need equal classes.
        X, y = X[:90], np.tile(["a", "b", "c"], 30)
        weighter = CoresetWeighter(1.0, loss_ranks, same_class=same_class).fit(X, y)
        assert_array_equal(weighter.coreset_indices_, np.arange(90))
        direct = normalize_weights(loss_ranks(X, y, None, None))
        assert_allclose(weighter.weights_, direct)

    @pytest.mark.parametrize("p", [3, 40])
    @pytest.mark.parametrize("same_class", [True, False])
    def test_each_row_takes_the_weight_of_its_nearest(self, rng, p, same_class):
        X, y = rng.normal(size=(90, p)), np.tile(["a", "b", "c"], 30)
        weighter = CoresetWeighter(30, loss_ranks, same_class=same_class).fit(X, y)
        core = weighter.coreset_indices_
        assert_array_equal(core, moderate_coreset(X, y, 30))
        d = np.linalg.norm(X[:, None] - X[core], axis=2)
        if same_class:
            d = np.where(y[:, None] == y[core], d, np.inf)
        raw = weighter.coreset_weights_[d.argmin(axis=1)]
        assert_allclose(weighter.weights_, normalize_weights(raw))
        assert_allclose(raw[core], weighter.coreset_weights_)
        assert_allclose(weighter.predict_weights(X, y), weighter.weights_)

    def test_means_of_several_and_kernels(self, rng):
        X, y = rng.normal(size=(90, 3)), np.tile(["a", "b", "c"], 30)
        settings = {"same_class": False, "n_neighbors": 4}
        weighter = CoresetWeighter(30, loss_ranks, broadcast="knn", **settings).fit(X, y)
        d = np.linalg.norm(X[:, None] - X[weighter.coreset_indices_], axis=2)
        raw = weighter.coreset_weights_[np.argsort(d, axis=1)[:, :4]].mean(axis=1)
        assert_allclose(weighter.weights_, normalize_weights(raw))
        settings = {"same_class": False, "bandwidth": 0.7}
        weighter = CoresetWeighter(30, loss_ranks, broadcast="kernel", **settings).fit(X, y)
        kernel = np.exp(-(d**2) / (2 * 0.7**2))
        raw = kernel @ weighter.coreset_weights_ / kernel.sum(axis=1)
        assert_allclose(weighter.weights_, normalize_weights(raw))

    @pytest.mark.parametrize("broadcast", ["nn", "knn", "kernel"])
    def test_constant_weights_stay_constant(self, classes, broadcast):
        X, y = classes
        weighter = CoresetWeighter(30, lambda X, *rest: np.full(len(X), 0.3), broadcast=broadcast)
        assert_allclose(weighter.fit(X, y).weights_, 1.0)

    def test_handing_on_is_invariant_to_rotations(self, rng):
        X, y = rng.normal(size=(90, 3)), np.tile(["a", "b", "c"], 30)
        rotation = np.linalg.qr(rng.normal(size=(3, 3)))[0]
        direct = rng.uniform(size=90)
        # All rows are the coreset, as medians of features do not rotate along.
        new = rng.normal(size=(50, 3))
        found = [
            CoresetWeighter(1.0, lambda *rest: direct, same_class=False)
            .fit(X @ Q, y)
            .predict_weights(new @ Q)
            for Q in (np.eye(3), rotation)
        ]
        assert_allclose(found[0], found[1])

    def test_rows_without_weight_are_not_chosen(self, classes):
        X, y = classes
        s = np.where(np.arange(120) % 3 == 0, 0.0, 2.0)
        weighter = CoresetWeighter(45, loss_ranks).fit(X, y, sample_weight=s)
        assert (s[weighter.coreset_indices_] > 0).all()
        some = CoresetWeighter(45, loss_ranks).fit(X[s > 0], y[s > 0])
        assert_allclose(normalize_weights(weighter.weights_[s > 0]), some.weights_)

    def test_a_featurizer_makes_what_is_near(self, classes):
        X, y = classes
        X = X * [1.0, 1e4, 1e-4]
        scaled = CoresetWeighter(45, loss_ranks, featurizer=StandardScaler()).fit(X, y)
        expected = CoresetWeighter(45, loss_ranks).fit(StandardScaler().fit_transform(X), y)
        assert_allclose(scaled.weights_, expected.weights_)

    def test_without_trusted_rows_weights_are_equal_and_say_so(self, classes):
        X, y = classes
        s = np.arange(1.0, 121.0)
        with pytest.warns(WeightWarning, match="X_val is None, so that there is nothing to learn"):
            weighter = CoresetWeighter(45).fit(X, y, sample_weight=s)
        assert_allclose(weighter.weights_, normalize_weights(s))

    def test_a_coreset_of_few_rows_a_class_warns(self, classes):
        X, y = classes
        with pytest.warns(WeightWarning, match="has 2 rows for 3 classes, too few .* n_coreset=30"):
            weighter = CoresetWeighter(reweighter=loss_ranks).fit(X, y)
        assert len(weighter.coreset_indices_) == 2

    def test_with_reweighted_in_cross_validation(self, flipped):
        X, y, _, trusted = flipped
        model = Reweighted(LogisticRegression(), CoresetWeighter(0.3))
        wrapped = {name: (value,) for name, value in trusted.items()}
        scores = cross_validate(model, X, y, params=wrapped, cv=3, error_score="raise")
        assert np.isfinite(scores["test_score"]).all()
        fitted, plain = model.fit(X, y, **wrapped), LogisticRegression().fit(X, y)
        accuracy, before = (
            (m.predict(trusted["X_val"]) == trusted["y_val"]).mean() for m in (fitted, plain)
        )
        assert accuracy > before

    def test_bad_input_is_named(self, classes):
        X, y = classes
        with pytest.raises(ValueError, match="pass both of X_val and y_val, or neither"):
            CoresetWeighter(45).fit(X, y, X_val=X)
        with pytest.raises(ValueError, match=r"y_val has classes .*'z'.*, which y has not"):
            CoresetWeighter(45).fit(X, y, X_val=X[:1], y_val=["z"])
        with pytest.raises(ValueError, match="n_coreset=121 of 120 rows of positive weight"):
            CoresetWeighter(121).fit(X, y)
        with pytest.raises(ValueError, match=r"returned an array of shape \(3,\) for 45 coreset"):
            CoresetWeighter(45, lambda *rest: [1.0, 2.0, 3.0]).fit(X, y)
        with pytest.raises(ValueError, match="entries that are negative or not finite"):
            CoresetWeighter(45, lambda *rest: np.full(45, np.nan)).fit(X, y)
        with pytest.raises(ValueError, match="all weights are zero; look at coreset_weights_"):
            CoresetWeighter(45, lambda *rest: np.zeros(45)).fit(X, y)
        with pytest.raises(ValueError, match="y is None, but same_class=True"):
            CoresetWeighter(45, loss_ranks).fit(X, y).predict_weights(X)
        with pytest.raises(ValueError, match="Unknown label type"):
            CoresetWeighter(45).fit(X, X[:, 0])

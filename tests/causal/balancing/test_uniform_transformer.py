import pickle
import warnings

import numpy as np
import pandas as pd
import polars as pl
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy.stats import kstest
from sklearn import config_context
from sklearn.base import clone
from sklearn.linear_model import Ridge
from sklearn.model_selection import GridSearchCV, cross_validate
from sklearn.pipeline import make_pipeline
from sklearn.utils.estimator_checks import parametrize_with_checks

from causal import UniformTransformer
from causal.balancing._uniform_map import (
    bins_per_column,
    fit_uniform_map,
    smooth_step,
    tie_keys,
)
from reweight.exceptions import WeightWarning

few_bins = pytest.mark.filterwarnings("ignore:.*joint map has only")


def step_twin(x, smoothing):
    """The bump of the paper, on [-1/2, 1/2]."""
    if smoothing == "constant":
        return x + 1 / 2
    if smoothing == "linear":
        return 2 * x**2 + 2 * x + 1 / 2 if x <= 0 else -2 * x**2 + 2 * x + 1 / 2
    if x <= -1 / 4:
        return 16 / 3 * (x + 1 / 2) ** 3
    if x <= 1 / 4:
        return 1 / 2 + 2 * x - 16 / 3 * x**3
    return 1 + 16 / 3 * (x - 1 / 2) ** 3


def image_twin(reference, row, bins, smoothing):
    """Image of one row under half-way cuts, bin by bin, for values that do not tie."""
    n = len(reference)
    margin = 0.5 / n * np.ptp(reference, axis=0)
    ends = reference.min(axis=0) - margin, reference.max(axis=0) + margin
    image, inside = [], reference
    for k, m in enumerate(bins):
        x = np.sort(inside[:, k])
        rows = [int(np.floor(c * len(x) / m + 0.5)) for c in range(1, m)]
        cuts = [ends[0][k], *((x[p - 1] + x[p]) / 2 for p in rows), ends[1][k]]
        j = next(c for c in range(m) if row[k] <= cuts[c + 1])
        position = (row[k] - cuts[j]) / (cuts[j + 1] - cuts[j]) - 1 / 2
        image.append((j + step_twin(position, smoothing)) / m)
        inside = inside[(inside[:, k] > cuts[j]) & (inside[:, k] <= cuts[j + 1])]
    return image


def cells(image, n_bins):
    """How many rows fall into each cell of the cube."""
    places = np.ceil(image * n_bins - 1e-9).astype(int) - 1
    return np.bincount(np.ravel_multi_index(places.T, n_bins), minlength=np.prod(n_bins))


@pytest.fixture(name="X")
def covariates(rng):
    return np.column_stack([rng.normal(size=150), rng.exponential(size=150)])


@pytest.mark.parametrize("smoothing", ["constant", "linear", "quadratic"])
def test_step_is_that_of_the_paper(smoothing):
    grid = np.linspace(0, 1, 201)
    H = smooth_step(grid, smoothing)
    assert_allclose(H, [step_twin(x - 0.5, smoothing) for x in grid], atol=1e-15)
    assert H[0] == 0
    assert H[-1] == 1
    assert (np.diff(H) > 0).all()
    assert_allclose(H + H[::-1], 1, atol=1e-15)
    # At most as steep as the peak of its density: 1 flat, 2 for a tent or parabolas.
    assert np.abs(np.diff(H)).max() * 200 <= (1 if smoothing == "constant" else 2) + 1e-9


def test_quadratic_step_meets_at_the_quarter():
    assert_allclose(smooth_step(np.array([0.25, 0.25 - 1e-12]), "quadratic"), 1 / 12, atol=1e-11)


@pytest.mark.parametrize("d", [1, 2, 3, 5, 7])
@pytest.mark.parametrize("n", [2, 5, 64, 125, 128, 200, 243, 1000, 10**6, 3**14 + 1])
def test_numbers_of_bins(n, d):
    bins = bins_per_column(n, d, None).tolist()
    root = max(k for k in range(1, int(n ** (1 / d)) + 2) if k**d <= n)
    if root**d == n:
        assert bins == [root] * d
        return
    product = np.prod(bins, dtype=object)
    raised = bins.count(root + 1)
    assert sorted(bins) == [root] * (d - raised) + [root + 1] * raised
    assert bins == sorted(bins, reverse=True)
    assert product < n <= product // root * (root + 1)


def test_numbers_of_bins_are_permuted_over_columns():
    seen = {tuple(bins_per_column(13, 3, np.random.default_rng(r))) for r in range(40)}
    assert seen == {(3, 2, 2), (2, 3, 2), (2, 2, 3)}


@pytest.mark.parametrize("smoothing", ["constant", "linear", "quadratic"])
def test_joint_map_is_that_of_the_definition(X, rng, smoothing):
    new = X[:40] + 0.01 * rng.normal(size=(40, 2))
    new = np.clip(new, X.min(axis=0), X.max(axis=0))
    transformer = UniformTransformer(cut="midpoint", smoothing=smoothing).fit(X)
    expected = [image_twin(X, row, transformer.n_bins_, smoothing) for row in [*X, *new]]
    assert_allclose(transformer.transform(np.vstack([X, new])), expected, atol=1e-12)


@pytest.mark.parametrize("cut", ["midpoint", "random"])
def test_each_reference_row_has_its_own_band_of_every_margin(X, cut):
    transformer = UniformTransformer(marginal=True, cut=cut, random_state=0)
    image = transformer.fit_transform(X)
    bands = np.ceil(np.sort(image, axis=0) * 150 - 1e-9)
    assert_array_equal(bands, np.arange(1, 151)[:, None] * [1, 1])
    assert_array_equal(transformer.n_bins_, [150, 150])
    # Monotone: the order of each column is kept.
    assert_array_equal(image.argsort(axis=0), X.argsort(axis=0))


@pytest.mark.parametrize("cut", ["midpoint", "random"])
@pytest.mark.parametrize("n", [150, 163, 225])
def test_each_cell_of_the_joint_map_holds_as_many_reference_rows(rng, cut, n):
    X = rng.normal(size=(n, 2)) @ [[1.0, 0.9], [0.0, 0.4]]
    transformer = UniformTransformer(cut=cut, random_state=1)
    counts = cells(transformer.fit_transform(X), transformer.n_bins_)
    assert counts.sum() == n
    # Each column is cut into sizes that differ by one row at most.
    assert counts.max() - counts.min() <= 1


@few_bins
def test_each_first_cut_in_three_columns_holds_as_many_rows(rng):
    X = rng.normal(size=(97, 3))
    transformer = UniformTransformer(random_state=3)
    image = transformer.fit_transform(X)
    for k in range(1, 4):
        counts = cells(image[:, :k], transformer.n_bins_[:k])
        assert counts.max() - counts.min() <= k


def test_dependent_columns_become_independent_and_uniform():
    rng = np.random.default_rng(0)
    z = rng.normal(size=(4000, 2))
    X = np.column_stack([z[:, 0], z[:, 0] ** 2 + 0.5 * z[:, 1]])
    new = rng.normal(size=(4000, 2))
    new = np.column_stack([new[:, 0], new[:, 0] ** 2 + 0.5 * new[:, 1]])
    image = UniformTransformer(random_state=0).fit(X).transform(new)
    for column in image.T:
        assert kstest(column, "uniform").statistic < 1.63 * np.sqrt(2 / 4000)
    marginal = UniformTransformer(marginal=True, random_state=0).fit(X).transform(new)
    counts = [
        np.histogram2d(*both.T, bins=5, range=[[0, 1], [0, 1]])[0] for both in (image, marginal)
    ]
    # 160 expected per cell: far off for the margins alone, by sampling error only for the tree.
    assert np.abs(counts[0] - 160).max() < 6 * np.sqrt(160)
    assert np.abs(counts[1] - 160).max() > 15 * np.sqrt(160)


@pytest.mark.parametrize("marginal", [False, True])
@pytest.mark.parametrize("cut", ["midpoint", "random"])
def test_units_and_order_of_rows_do_not_matter(X, rng, marginal, cut):
    transformer = UniformTransformer(marginal, cut=cut, random_state=0)
    image = transformer.fit_transform(X)
    order = rng.permutation(len(X))
    assert_allclose(transformer.fit_transform(X[order]), image[order], atol=1e-12)
    assert_allclose(transformer.fit_transform(X * [1e-6, 1e6] + [3, -5e6]), image, atol=1e-8)


@pytest.mark.parametrize("marginal", [False, True])
def test_first_column_rises_from_end_to_end_without_a_jump(X, marginal):
    transformer = UniformTransformer(marginal, smoothing="linear", random_state=0).fit(X)
    cuts = transformer._map.splits[0].cuts[0]
    line = np.linspace(X[:, 0].min(), X[:, 0].max(), 20001)
    # Just left and right of each cut the image is the same.
    line = np.sort(np.concatenate([line, cuts[1:-1], np.nextafter(cuts[1:-1], np.inf)]))
    image = transformer.transform(np.column_stack([line, np.full(len(line), X[0, 1])]))[:, 0]
    assert (np.diff(image) > -1e-12).all()
    steepest = 2 / len(cuts[1:]) / np.diff(cuts).min()
    assert (np.diff(image) <= steepest * np.diff(line) + 1e-9).all()
    assert image[0] < 0.02
    assert image[-1] > 0.98


def test_rows_that_tie_are_spread_over_the_bins_of_their_value(rng):
    X = rng.integers(0, 2, size=(60, 2)).astype(float)
    transformer = UniformTransformer(marginal=True, random_state=0)
    image = transformer.fit_transform(X)
    zeros = int((X[:, 0] == 0).sum())
    for x, block in ((0, np.arange(zeros)), (1, np.arange(zeros, 60))):
        # A bin without length maps to its end; the last of a block starts where it begins.
        values = np.sort(image[X[:, 0] == x, 0])
        assert values[0] >= block[0] / 60
        assert values[-1] <= (block[-1] + 1) / 60
        assert len(np.unique(values)) >= len(block) - 1
    # Columns do not share their order.
    both = (X == 0).all(axis=1)
    assert np.abs(np.corrcoef(image[both].T)[0, 1]) < 0.99
    assert_array_equal(transformer.transform(X), image)
    again = clone(transformer).set_params(random_state=1).fit_transform(X)
    assert not np.array_equal(image, again)


def test_later_rows_that_tie_are_spread_too():
    reference = np.repeat([0.0, 1.0], 500)[:, None]
    transformer = UniformTransformer(random_state=0).fit(reference)
    image = transformer.transform(np.zeros((100, 1))).ravel()
    assert_allclose(np.sort(image), np.linspace(0, 0.5, 101)[1:] - 0.0025, atol=0.004)


def test_without_draws_rows_that_tie_share_the_bin_of_their_average_rank():
    X = np.array([0.0, 1.0, 1.0, 1.0, 2.0, 3.0, 3.0])[:, None]
    image = UniformTransformer(cut="midpoint").fit_transform(X).ravel()
    assert_array_equal(np.ceil(image * 7 - 1e-9), [1, 3, 3, 3, 5, 6, 6])
    assert image[1] == image[2] == image[3]


@few_bins
@pytest.mark.parametrize("marginal", [False, True])
def test_without_draws_equal_rows_are_equal_in_any_order(rng, marginal):
    X = np.column_stack([rng.integers(0, 2, 80), rng.integers(0, 3, 80), rng.normal(size=80)])
    X[:, 2] = X[:, 2].round(1)
    transformer = UniformTransformer(marginal, cut="midpoint")
    image = transformer.fit_transform(X)
    assert ((image >= 0) & (image <= 1)).all()
    order = rng.permutation(80)
    assert_array_equal(transformer.fit_transform(X[order]), image[order])
    # A value that no reference row of its branch has still has a place.
    everywhere = np.array([[a, b, c] for a in (0, 0.5, 1) for b in (0, 0.5, 2) for c in (-1, 1)])
    assert np.isfinite(transformer.transform(everywhere)).all()


@few_bins
def test_constant_column_takes_no_bins_and_draws_nothing(rng):
    X = rng.normal(size=(100, 3))
    X[:, 1] = 4.0
    transformer = UniformTransformer(random_state=0)
    image = transformer.fit_transform(X)
    assert_array_equal(image[:, 1], 1.0)
    assert transformer.n_bins_[1] == 1
    assert sorted(transformer.n_bins_[[0, 2]]) == [10, 10]


@pytest.mark.parametrize("marginal", [False, True])
def test_weighted_reference_rows_are_uniform_by_their_mass(rng, marginal):
    X = rng.normal(size=(400, 2))
    weight = rng.exponential(size=400)
    fitted = fit_uniform_map(
        X,
        ends=(X.min(axis=0), X.max(axis=0)),
        marginal=marginal,
        smoothing="constant",
        cut="random",
        seed=0,
        keys=tie_keys(0, X.shape),
        weight=weight,
    )
    image = fitted.transform(X, tie_keys(0, X.shape), weight)
    for k, column in enumerate(image.T):
        order = column.argsort()
        share = weight[order].cumsum() / weight.sum()
        bins = 1 if marginal else fitted.splits[k].n_bins
        # Off by the row itself; in a tree also by the rows at the ends of the nodes before.
        slack = weight.max() / weight.sum() * (1.001 if marginal else bins)
        assert np.abs(share - column[order]).max() < slack
    if marginal:
        order = X[:, 0].argsort()
        share = weight[order].cumsum() / weight.sum()
        assert (image[order, 0] <= share + 1e-12).all()
        assert (image[order, 0] >= np.append(0, share[:-1]) - 1e-12).all()


def test_equal_weights_of_any_size_are_no_weights(X):
    options = {
        "ends": (X.min(axis=0), X.max(axis=0)),
        "marginal": False,
        "smoothing": "linear",
        "cut": "random",
        "seed": 5,
        "keys": tie_keys(5, X.shape),
    }
    plain = fit_uniform_map(X, **options)
    weighted = fit_uniform_map(X, weight=np.full(150, 0.3), **options)
    for one, other in zip(plain.splits, weighted.splits, strict=True):
        assert_array_equal(one.cuts, other.cuts)
        assert_array_equal(one.levels, other.levels)


def test_reference_rows_may_come_from_elsewhere(X, rng):
    reference = rng.normal(size=(300, 2))
    transformer = UniformTransformer(random_state=0).fit(X, X_reference=reference)
    assert transformer.n_reference_ == 300
    assert_array_equal(transformer.data_max_, np.maximum(X.max(axis=0), reference.max(axis=0)))
    image = transformer.transform(reference)
    counts = cells(image, transformer.n_bins_)
    assert counts.max() - counts.min() <= 1
    wrapped = UniformTransformer(random_state=0).fit(X, X_reference=(reference,))
    assert_array_equal(wrapped.transform(X), transformer.transform(X))
    # Rows that only widen the range change the outermost bins alone.
    alone = UniformTransformer(marginal=True, cut="midpoint").fit(reference)
    wide = UniformTransformer(marginal=True, cut="midpoint").fit(X, X_reference=reference)
    order = reference[:, 0].argsort()[1:-1]
    assert_allclose(
        wide.transform(reference)[order, 0], alone.transform(reference)[order, 0], atol=1e-12
    )


def test_reference_rows_pass_whole_through_cross_validation(rng):
    X, reference = rng.normal(size=(60, 1)), rng.normal(size=(60, 1))
    y = X[:, 0]
    with config_context(enable_metadata_routing=True):
        result = cross_validate(
            make_pipeline(UniformTransformer(random_state=0), Ridge()),
            X,
            y,
            params={"X_reference": (reference,)},
            cv=3,
            return_estimator=True,
        )
    assert [pipe[0].n_reference_ for pipe in result["estimator"]] == [60, 60, 60]


def test_rows_out_of_range_go_to_the_ends_and_are_counted(X):
    transformer = UniformTransformer(marginal=True, random_state=0).fit(X)
    with pytest.warns(WeightWarning, match=r"100.0% of the rows .* in column '0'"):
        image = transformer.transform(np.array([[-1e9, 1e9]]))
    assert_array_equal(image, [[0.0, 1.0]])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        transformer.transform(X)


@pytest.mark.parametrize("library", [pd, pl])
def test_frames_keep_their_names(X, library):
    frame = library.DataFrame({"age": X[:, 0], "income": X[:, 1]})
    transformer = UniformTransformer(random_state=0).fit(frame)
    assert list(transformer.get_feature_names_out()) == ["age", "income"]
    output = transformer.set_output(transform="pandas").transform(frame)
    assert list(output.columns) == ["age", "income"]
    expected = UniformTransformer(random_state=0).fit_transform(X)
    assert_array_equal(output.to_numpy(), expected)


def test_pickle_clone_pipeline_and_grid_search(X, rng):
    transformer = UniformTransformer(random_state=0).fit(X)
    copy = pickle.loads(pickle.dumps(transformer))
    assert_array_equal(copy.transform(X), transformer.transform(X))
    assert clone(transformer).get_params() == transformer.get_params()
    grid = GridSearchCV(
        make_pipeline(UniformTransformer(random_state=0), Ridge()),
        {"uniformtransformer__marginal": [True, False]},
        cv=3,
    )
    y = np.argsort(np.argsort(X[:, 0])) / 150 + 0.01 * rng.normal(size=150)
    assert grid.fit(X, y).best_score_ > 0.9


def test_random_state_reproduces_and_a_generator_moves_on(X):
    one, same, other = (UniformTransformer(random_state=r).fit_transform(X) for r in (0, 0, 1))
    assert_array_equal(one, same)
    assert not np.array_equal(one, other)
    state = np.random.RandomState(0)
    transformer = UniformTransformer(random_state=state)
    first = transformer.fit(X).transform(X)
    assert_array_equal(first, transformer.transform(X))
    assert not np.array_equal(first, transformer.fit(X).transform(X))


BAD = [
    ({"marginal": 3}, {}, ValueError, "'marginal' parameter of UniformTransformer"),
    ({"smoothing": "cubic"}, {}, ValueError, "'smoothing' parameter of UniformTransformer"),
    ({"cut": "left"}, {}, ValueError, "'cut' parameter of UniformTransformer"),
    ({}, {"X": np.eye(100)[:, :13]}, ValueError, "13 columns.*at most 12.*marginal=True"),
    ({}, {"X": np.array([[1.0, np.nan], [0, 1]])}, ValueError, r"contains NaN.*columns \['1'\]"),
    ({}, {"X": np.ones((1, 2))}, ValueError, "minimum of 2 is required"),
    ({}, {"X_reference": np.ones((1, 2))}, ValueError, "X_reference has 1 row"),
    ({}, {"X_reference": np.ones((9, 3))}, ValueError, "3 features.*expecting 2"),
    ({}, {"X": pd.DataFrame({"a": ["x", "y"]})}, TypeError, r"columns \['a'\].*not numeric"),
]


@pytest.mark.parametrize(("parameters", "changes", "error", "message"), BAD)
def test_bad_input_is_named(X, parameters, changes, error, message):
    with pytest.raises(error, match=message):
        UniformTransformer(**parameters).fit(**{"X": X, **changes})


def test_too_few_bins_are_said(rng):
    with pytest.warns(WeightWarning, match=r"only 1 bins.*2 columns are not cut at all.*marginal"):
        UniformTransformer(random_state=0).fit(rng.normal(size=(10, 5)))
    with pytest.warns(WeightWarning, match="6 columns the joint map has only 3 bins"):
        UniformTransformer(random_state=0).fit(rng.normal(size=(1000, 6)))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        UniformTransformer(random_state=0).fit(rng.normal(size=(100, 2)))
        UniformTransformer(marginal=True, random_state=0).fit(rng.normal(size=(30, 20)))


@few_bins
@parametrize_with_checks(
    [
        UniformTransformer(cut="midpoint", smoothing="quadratic"),
        UniformTransformer(marginal=True, smoothing="linear"),
    ]
)
def test_scikit_learn_checks(estimator, check):
    check(estimator)

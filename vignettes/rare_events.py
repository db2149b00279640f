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
# # Rare events that are the last of several steps
#
# Of the people who see an advertisement some look closer, few click, and hardly any buy. How likely
# is it that this visitor buys? A logistic regression on "bought or not" has a handful of events to
# learn from and ignores that those who clicked went most of the way. A proportional odds model uses
# all levels but insists that a feature moves every step by the same log-odds.
#
# `RelaxedProportionalOdds` stands in between: each boundary has slopes of its own, and differences
# between neighbours are penalised, so that the rare step borrows from the common ones wherever the
# data do not object.
#
# Do not use it for classes without an order, for levels that are not steps of one process, or for
# two levels, where it is an ordinary penalised logistic regression.

# %%
import warnings

import numpy as np
import pandas as pd
from scipy.special import expit
from sklearn.linear_model import LogisticRegression

from reweight import (
    KalmanLinearRegression,
    RelaxedProportionalOdds,
    RelaxedProportionalOddsCV,
    boundary_coefficient_plot,
    parallel_test,
    ranked_probability_score,
    validation_path_plot,
)

LEVELS = ["seen", "looked", "clicked", "bought"]
FEATURES = ["age", "visits", "price", "mobile", "evening", "rated", "distance", "returning"]


def draw(n, rng):
    """Visitors; price matters only for the last step, and a mobile deters from it."""
    X = rng.uniform(-1, 1, size=(n, len(FEATURES)))
    slopes = np.zeros((3, len(FEATURES)))
    slopes[:, [0, 1, 5]] = [-0.5, -0.8, -0.5]
    slopes[2, [2, 3]] = [1.2, 0.8]
    logits = X @ slopes.T + [0.5, 2.5, 4.5]
    y = (rng.uniform(size=(n, 1)) > expit(logits)).sum(axis=1)
    frame = pd.DataFrame(X, columns=FEATURES)
    return (
        frame,
        pd.Series(pd.Categorical.from_codes(y, LEVELS, ordered=True)),
        expit(-logits[:, 2]),
    )


rng = np.random.default_rng(1)
X, y, truth = draw(4000, rng)
y.value_counts(sort=False)

# %% [markdown]
# The levels are an ordered categorical, so the model knows their order. For plain strings pass
# `categories=[lowest, ..., highest]`; without it they are sorted, with a warning.
#
# ## Does proportional odds hold?
#
# `parallel_test` compares the two ends of the scale by their likelihoods, for all features at once
# and one at a time.

# %%
result = parallel_test(X, y)
print(f"all features: chi2 = {result.statistic:.1f}, df = {result.df}, p = {result.p_value:.2g}")
result.features.round(3)

# %% [markdown]
# ## How much to relax
#
# Cross-validation chooses the strength of the penalty. Its folds keep the shares of the levels: in
# plain folds a rare level may be missing altogether. The default score is Brier's, as in the source
# of the method; it is a sum over levels that hardly sees the rare one. The log loss does, at the
# price of more variance.

# %%
model = RelaxedProportionalOddsCV(scoring="log_loss", random_state=0).fit(X, y)
path = model.cv_path_
ax = validation_path_plot(path["alpha"], path["mean_loss"], path["stderr"], chosen=model.alpha_)
ax.set_title("Log loss of held-out rows")

# %% [markdown]
# Slopes of the log-odds of going beyond each level. Where the points coincide the boundaries share
# a slope; where they spread, the data insisted.

# %%
ax = boundary_coefficient_plot(
    model.exceedance_coef_, categories=model.classes_, feature_names=model.feature_names_in_
)
ax.set_title("Slopes at the three boundaries")

# %% [markdown]
# The first two boundaries share their slopes; at the last one price and mobile set in.
#
# ## The probability of the rare event
#
# `predict_tail_proba` keeps its digits however small it is. Here the truth is known, so that the
# estimates of new visitors can be compared with it, over ten samples of this size.

# %%
LAST = LEVELS[-1]
methods = ("logistic regression", "proportional odds", "relaxed, Brier", "relaxed, log loss")
errors = {name: [] for name in methods}
X_new, y_new, truth_new = draw(20_000, rng)
for _ in range(10):
    X_train, y_train, _ = draw(4000, rng)
    logistic = LogisticRegression(C=np.inf, max_iter=1000).fit(X_train, y_train == LAST)
    # A strong penalty on differences alone is proportional odds by maximum likelihood.
    parallel = RelaxedProportionalOdds(alpha=1e3, penalize_first=False).fit(X_train, y_train)
    brier = RelaxedProportionalOddsCV(random_state=0).fit(X_train, y_train)
    relaxed = RelaxedProportionalOddsCV(scoring="log_loss", random_state=0).fit(X_train, y_train)
    with warnings.catch_warnings():
        # New rows may lie where boundaries cross; see below.
        warnings.simplefilter("ignore", UserWarning)
        found = {
            "logistic regression": logistic.predict_proba(X_new)[:, 1],
            "proportional odds": parallel.predict_tail_proba(X_new),
            "relaxed, Brier": brier.predict_tail_proba(X_new),
            "relaxed, log loss": relaxed.predict_tail_proba(X_new),
        }
    for name, p in found.items():
        errors[name].append(1e5 * ((p - truth_new) ** 2).mean())
table = pd.DataFrame(errors)
pd.DataFrame({"squared error, 1e-5": table.mean(), "s.e.": table.sem()}).round(2)

# %% [markdown]
# With the strength chosen by log loss both neighbours lose: logistic regression for want of events,
# proportional odds for its bias. Brier's score chose too strong a penalty in some samples, and is
# then no better than logistic regression here. How much is gained depends on the truth: where
# proportional odds holds nothing beats it, and where events are not that rare separate models come
# near. Tables over designs, with Brier's score, are in `benchmarks/results/presto_tables.md`.
#
# Whole forecasts are judged by the ranked probability score, which charges less for a near miss:

# %%
new = {"relaxed": relaxed, "proportional odds": parallel}
with warnings.catch_warnings():
    warnings.simplefilter("ignore", UserWarning)
    scores = {
        name: ranked_probability_score(y_new, fitted.predict_proba(X_new), labels=LEVELS)
        for name, fitted in new.items()
    }
pd.Series(scores).round(5)

# %% [markdown]
# ## When boundaries cross
#
# With slopes of its own each boundary is a plane, and planes that are not parallel cross somewhere.
# Beyond, the probability of the level between would be negative. Predictions repair this by raising
# cumulative probabilities to be monotone, and say how many rows needed it. `crossing_report` says
# where.

# %%
free = RelaxedProportionalOdds(alpha=0.0).fit(X, y)
far = 3 * X_new
pd.concat(
    {
        "relaxed, new rows": model.crossing_report(X_new),
        "no penalty, new rows": free.crossing_report(X_new),
        "relaxed, three times as far": model.crossing_report(far),
    }
).round(4)

# %% [markdown]
# Crossings far from the data are a property of the model, not of the world: do not extrapolate
# there. Crossings near the data call for a stronger penalty; `domain="all"` allows none in the
# training rows.
#
# ## A stream of rates
#
# Rates move. When the quantity of interest is the mean of a stream, such as the log-odds of a daily
# rate, `KalmanLinearRegression` reads each batch once, knows its uncertainty, and follows drift; its
# evidence tells whether there is any.

# %%
days = np.arange(600)
level = -4.5 + np.cumsum(rng.normal(scale=0.03, size=600))
weekend = (days % 7 >= 5).astype(float)
n_visits = rng.integers(20_000, 40_000, size=600)
bought = rng.binomial(n_visits, expit(level - 0.4 * weekend))
log_odds = np.log((bought + 0.5) / (n_visits - bought + 0.5))
# The variance of an empirical log-odds is nearly one over the number of events.
fits = {}
for drift in (0.0, 1e-4, 1e-3, 1e-2):
    stream = KalmanLinearRegression(
        noise_variance=1.0, prior_variance=25.0, drift_variance=drift, record_path=True
    )
    for rows in np.array_split(days, 20):
        stream.partial_fit(weekend[rows, None], log_odds[rows], sample_weight=bought[rows] + 0.5)
    fits[drift] = stream
pd.DataFrame(
    {
        "log evidence": {drift: fit.log_evidence_ for drift, fit in fits.items()},
        "weekend": {drift: fit.coef_[0] for drift, fit in fits.items()},
        "error of the last level": {
            drift: fit.intercept_ - level[-1] for drift, fit in fits.items()
        },
    }
).rename_axis("drift variance").round(2)

# %%
import matplotlib.pyplot as plt

_, ax = plt.subplots(figsize=(6.4, 3.4), layout="constrained")
ax.plot(days, level, color="black", lw=1, label="truth")
for drift, color in ((0.0, "#D55E00"), (1e-3, "#0072B2")):
    ax.plot(days, fits[drift].path_[:, 0], color=color, lw=1.2, label=f"drift variance {drift:g}")
ax.set_ylim(level.min() - 0.3, level.max() + 0.3)
ax.set_xlabel("Day")
ax.set_ylabel("Log-odds on a weekday")
ax.spines[["top", "right"]].set_visible(False)
ax.legend(frameon=False)
ax.set_title("A level that wanders, filtered")

# %% [markdown]
# ## What to check
#
# - Is the order of the levels right? `classes_` shows it.
# - How many rows has the rarest level? Below ten there is a warning; the penalty then decides nearly
#   everything.
# - `optimality_gap_` is the largest violation of the optimality conditions; a fit that stopped short
#   says so.
# - Calibrated probabilities are the aim: compare predictions with shares on held-out rows, not the
#   training rows.

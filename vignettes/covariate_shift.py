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
# # When weights help under covariate shift, and when they hurt
#
# You train on one population and predict on another. The features are distributed differently, the
# law of the outcome given the features is the same. Weighting the training rows by the ratio of the
# two densities makes the training sample look like the target. It is not free: weights spend
# effective sample size. This page shows one data set where the trade is good, one where it is bad,
# one where no weights can work, and the figures that tell them apart **without outcomes of the
# target**.

# %%
import warnings

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.metrics import log_loss
from sklearn.model_selection import GridSearchCV, cross_validate

from reweight import Reweighted, domain_auc, weight_report
from reweight.exceptions import WeightWarning
from shift import (
    KLIEP,
    ULSIF,
    ClassifierDensityRatio,
    DoubleKernelMeanMatching,
    DoubleWeightingClassifier,
    KernelMeanMatching,
    covariate_shift_test,
    domain_score_histogram,
    make_covariate_shift,
    source_weight_plot,
)

# Low effective sample sizes are what this page is about; we look at the figures themselves.
warnings.simplefilter("ignore", WeightWarning)

# %% [markdown]
# ## A model that is too simple
#
# The outcome is a curve, the model a straight line. A line is a fine summary of either population,
# but not the same line.

# %%
curve = make_covariate_shift(400, 300, design="sinc", random_state=0)
weighter = KernelMeanMatching(bandwidth=0.3, alpha="auto").fit(curve.X, X_target=curve.X_target)
plain = LinearRegression().fit(curve.X, curve.y)
weighted = LinearRegression().fit(curve.X, curve.y, sample_weight=weighter.weights_)

fig, axes = plt.subplots(1, 2, figsize=(10, 3.8), layout="constrained")
axes[0].scatter(curve.X, curve.y, s=6, color="0.7", label="source")
axes[0].scatter(curve.X_target, curve.y_target, s=6, color="#D55E00", label="target (not seen)")
grid = np.linspace(0, 2.7, 50)[:, None]
axes[0].plot(grid, plain.predict(grid), color="0.4", label="unweighted line")
axes[0].plot(grid, weighted.predict(grid), color="#0072B2", label="weighted line")
axes[0].set(xlabel="x", ylabel="y")
axes[0].legend(frameon=False)
source_weight_plot(curve.X, weighter.weights_, curve.X_target, ax=axes[1])
axes[1].set_xlabel("x")

# %% [markdown]
# `Reweighted` ties weighter and estimator together, so that preprocessing, searches and validation
# work as usual. Pass the target as a 1-tuple: cross-validation would cut an array as long as X.
#
# How much should we flatten the weights? `exponent=0` is no weighting, `1` the full ratio. We
# validate with the full ratio whatever the training weights were. This estimates the error in the
# target from source rows alone.


# %%
def target_score(model, X, y):
    """Score on held-out source rows, weighted to resemble the target."""
    ratio = model.weighter_.predict_density_ratio(X)
    return model.estimator_.score(X, y, sample_weight=ratio)


def tune_exponent(estimator, data):
    search = GridSearchCV(
        Reweighted(estimator, ClassifierDensityRatio()),
        {"weighter__exponent": [0.0, 0.5, 1.0]},
        scoring=target_score,
        cv=5,
    )
    search.fit(data.X, data.y, X_target=(data.X_target,))
    results = pd.DataFrame(search.cv_results_)
    return results[["param_weighter__exponent", "mean_test_score", "std_test_score"]].round(3)


tune_exponent(LinearRegression(), curve)

# %% [markdown]
# ## A model that is right
#
# Now the model family contains the truth: a logistic regression whose log odds are linear. The
# unweighted fit is consistent everywhere, in the target too, and weights can only add variance.

# %%
right = make_covariate_shift(100, 300, design="planar", random_state=0)
tune_exponent(LogisticRegression(), right)

# %% [markdown]
# Validation sees no gain, within its error. One sample proves little, so here is the truth, the
# error in the target over 60 repetitions with its Monte-Carlo standard error. (It looks at
# outcomes of the target, which you would not have.)


# %%
def target_errors(design, n_source, estimator, error, n_repetitions=60):
    weighters = {
        "unweighted": ClassifierDensityRatio(exponent=0.0),
        "classifier": ClassifierDensityRatio(),
        "kernel mean matching": KernelMeanMatching("median", alpha="auto"),
        "KLIEP": KLIEP(bandwidth="median"),
        "uLSIF": ULSIF(bandwidth="median", alpha=0.1),
    }
    errors = {name: [] for name in weighters}
    for seed in range(n_repetitions):
        data = make_covariate_shift(n_source, 300, design=design, random_state=seed)
        for name, weighter in weighters.items():
            model = Reweighted(estimator, weighter).fit(data.X, data.y, X_target=data.X_target)
            errors[name].append(error(model, data))
    table = pd.DataFrame(errors)
    gain = table.sub(table["unweighted"], axis=0)
    return pd.DataFrame(
        {
            "error in the target": table.mean(),
            "minus unweighted": gain.mean(),
            "standard error": gain.sem(),
        }
    ).round(4)


def squared_error(model, data):
    return np.mean((model.predict(data.X_target) - data.y_target) ** 2)


def log_error(model, data):
    return log_loss(data.y_target, model.predict_proba(data.X_target), labels=[0, 1])


target_errors("sinc", 100, LinearRegression(), squared_error)

# %%
target_errors("planar", 100, LogisticRegression(C=100.0), log_error)

# %% [markdown]
# The first table: weights take away most of the error that exceeds the noise. The second: each
# weighter makes things worse, by some three to five standard errors. Both data sets have an unmistakable
# shift, so a test of shift cannot tell them apart.

# %%
report = {}
for name, data in {"too simple": curve, "right": right}.items():
    ratio = ClassifierDensityRatio().fit(data.X, X_target=data.X_target)
    report[name] = {
        "p-value of no shift": covariate_shift_test(data.X, data.X_target).p_value,
        "domain AUC": domain_auc(data.X, data.X_target, estimator=LogisticRegression()),
        "effective sample size": ratio.ess_,
        "share of the rows": ratio.ess_ / len(data.X),
    }
pd.DataFrame(report).round(3)

# %% [markdown]
# What tells them apart is **importance-weighted validation**, which asks whether the model needs
# the weights, read next to the **effective sample size**, which says what they cost: with few
# effective rows a gain must be large to be worth it. `weight_report` shows where the weight sits.

# %%
weight_report(ClassifierDensityRatio().fit(curve.X, X_target=curve.X_target).weights_)

# %% [markdown]
# ## Where no weights can work
#
# Half of this target lies where there is no source at all. A ratio does not exist there, and
# whatever a weighter returns, it speaks for the other half only. Scores of the two samples show it.

# %%
apart = make_covariate_shift(400, 400, design="offset", random_state=0)
ratio = ClassifierDensityRatio().fit(apart.X, X_target=apart.X_target)
ax = domain_score_histogram(apart.X[:, 0], apart.X_target[:, 0], ratio.weights_)
ax.set_xlabel("first feature")

# %% [markdown]
# Double weighting says which half: it may also weigh target rows down, and does so where the
# source cannot speak for them.

# %%
double = DoubleKernelMeanMatching(D=4, alpha="auto").fit(apart.X, X_target=apart.X_target)
beyond = apart.X_target[:, 0] > 1
pd.Series(
    {
        "mean weight of target rows within reach": double.raw_target_weights_[~beyond].mean(),
        "mean weight of target rows beyond reach": double.raw_target_weights_[beyond].mean(),
        "effective source rows": double.ess_,
        "certified gap, in units of sampling noise": double.optimality_gap_,
    }
).round(3)

# %% [markdown]
# New target rows get such a weight, too, before you trust a prediction:

# %%
double.predict_target_weights([[0.5, 0.0], [1.0, 0.0], [1.9, 0.0]]).round(2)

# %% [markdown]
# A classifier can use both weights at once. `DoubleWeightingClassifier` chooses how far to trust the
# source (`D_`) by the error it expects in the worst case, and its probabilities fade where its
# target weights say that the source has nothing to tell.

# %%
classes = make_covariate_shift(80, 80, design="planar", random_state=0)
robust = DoubleWeightingClassifier(loss="log").fit(classes.X, classes.y, X_target=classes.X_target)
pd.Series(
    {
        "chosen D": robust.D_,
        "expected worst-case loss": robust.minimax_risk_,
        "share of target labels right": robust.score(classes.X_target, classes.y_target),
    }
).round(3)

# %% [markdown]
# ## In short
#
# 1. `covariate_shift_test` and `domain_auc`: is there a shift, and how large is it?
# 2. `domain_score_histogram` and `DoubleKernelMeanMatching`: does the source reach the target? Where
#    it does not, collect data; weights will not help.
# 3. `ess_` and `weight_report`: what do the weights cost?
# 4. Importance-weighted validation over `exponent`: does this model gain by them?
#
# The plain route of cross-validation is the same as ever; the weights are found anew in each fold.

# %%
scores = cross_validate(
    Reweighted(LinearRegression(), ClassifierDensityRatio()),
    curve.X,
    curve.y,
    params={"X_target": (curve.X_target,)},
)
scores["test_score"].round(2)

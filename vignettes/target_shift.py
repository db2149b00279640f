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
# # When the outcome moved: continuous target shift
#
# A model was trained in one place and is used in another. What changed in between decides what can
# be done about it.
#
# * **Covariate shift**: the features moved, the outcome given the features did not. Weights are a
#   function of the features (`KernelMeanMatching` and its siblings).
# * **Target shift**: the *outcome* moved, the features given the outcome did not. A clinic that
#   treats graver cases sees the same laboratory values for a given severity, only more high
#   severities. The features are effects of the outcome, and weights are a function of the outcome.
#
# In both cases there are no outcomes in the new place, only features. This page is about the second.

# %%
import warnings

import numpy as np
import pandas as pd
from matplotlib import pyplot as plt
from sklearn.ensemble import HistGradientBoostingRegressor
from sklearn.linear_model import LinearRegression, Ridge
from sklearn.model_selection import GridSearchCV

from reweight import Reweighted, weight_report
from shift import (
    L2IWE,
    KernelMeanMatching,
    ReTaSA,
    TargetKernelMeanMatching,
    make_target_shift,
    weight_function_plot,
)

data = make_target_shift(1000, random_state=1)
figure, axes = plt.subplots(1, 2, figsize=(9, 3.4), layout="constrained")
axes[0].scatter(data.X[:, 0], data.y, s=5, color="grey", label="source")
axes[0].set(xlabel="Feature", ylabel="Outcome")
axes[1].hist(data.X[:, 0], 40, density=True, color="grey", alpha=0.6, label="source")
axes[1].hist(data.X_target[:, 0], 40, density=True, alpha=0.5, label="target")
axes[1].set(xlabel="Feature", ylabel="Density")
_ = axes[1].legend(frameon=False)

# %% [markdown]
# The source has pairs of a feature and an outcome. The target has features only, and they are
# visibly different. If the law of the feature given the outcome is the same, the ratio of the two
# densities of the feature is an average of the unknown weights:
#
# $$\mathbb E_s[w(y) \mid x] = p_t(x) / p_s(x), \qquad w(y) = p_t(y) / p_s(y).$$
#
# Everything but $w$ can be estimated. `ReTaSA` solves this equation. It is an inverse problem, as
# averaging blurs, so it has to be regularised (`alpha`).

# %%
weighter = ReTaSA(n_resamples=100, random_state=0).fit(data.X, data.y, X_target=data.X_target)
grid = weighter.grid_
weight_function_plot(
    grid,
    weighter.grid_weights_,
    weighter.weight_interval(grid),
    source_density=weighter.source_density(grid),
    target_density=weighter.target_density(grid),
)

# %% [markdown]
# The orange shape is the density of outcomes that nobody has observed. Here the data are simulated,
# so it can be compared with the truth:

# %%
density = weighter.target_density(grid)
mean = np.trapezoid(grid * density, grid)
pd.Series(
    {
        "mean, from weights": mean,
        "mean, true": data.y_target.mean(),
        "sd, from weights": np.sqrt(np.trapezoid((grid - mean) ** 2 * density, grid)),
        "sd, true": data.y_target.std(),
    }
).round(2)

# %% [markdown]
# Smoothing and regularisation widen the density a little. With `nonnegative="constrained"` weights
# are not clipped at zero after the fact but kept from going below it, from which a regression
# usually gains a little more. Two other methods find such weights too, for up to a few thousand
# rows; a method for covariate shift answers another question and finds something else.

# %%
weighters = {
    "ReTaSA": ReTaSA(),
    "ReTaSA, constrained": ReTaSA(nonnegative="constrained"),
    "ReTaSA, alpha by cross-validation": ReTaSA(alpha="cv", random_state=0),
    "TargetKernelMeanMatching": TargetKernelMeanMatching(),
    "L2IWE": L2IWE(),
    "KernelMeanMatching (covariate shift)": KernelMeanMatching(alpha="auto"),
}
rows = {"no weights": {"error": np.mean((1 - data.density_ratio) ** 2), "ESS": 1000}}
for name, method in weighters.items():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        method.fit(data.X, data.y, X_target=data.X_target)
    rows[name] = {
        "error": np.mean((method.weights_ - data.density_ratio) ** 2),
        "ESS": method.ess_,
    }
rows["the true weights"] = {
    "error": 0.0,
    "ESS": data.density_ratio.sum() ** 2 / (data.density_ratio**2).sum(),
}
pd.DataFrame.from_dict(rows, orient="index").round(3)

# %% [markdown]
# ## A regression for the target
#
# `Reweighted` makes a weighter and a regressor one estimator. A straight line cannot follow the
# curve everywhere; weighted, it follows it where the target is.


# %%
def target_error(model):
    return np.mean((model.predict(data.X_target) - data.y_target) ** 2)


plain = LinearRegression().fit(data.X, data.y)
model = Reweighted(LinearRegression(), ReTaSA(nonnegative="constrained"))
model.fit(data.X, data.y, X_target=data.X_target)
oracle = LinearRegression().fit(data.X, data.y, sample_weight=data.density_ratio)
pd.Series(
    {
        "unweighted": target_error(plain),
        "weighted": target_error(model),
        "weighted by the truth": target_error(oracle),
    }
).round(3)

# %% [markdown]
# Parameters of both parts can be searched. The score of `Reweighted` weighs held-out rows of the
# source by their outcomes, so it estimates the error *in the target*. One trap: cross-validation
# cuts every array that is as long as `X`, and would cut the target to some of its rows. Pass it as
# a tuple of one.

# %%
search = GridSearchCV(
    Reweighted(Ridge(), ReTaSA(nonnegative="constrained")),
    {"estimator__alpha": [0.1, 10.0, 1000.0], "weighter__alpha": [0.003, 0.03]},
)
search.fit(data.X, data.y, X_target=(data.X_target,))
search.best_params_

# %% [markdown]
# ## Many features
#
# Kernels fail in many dimensions. What the weights need from the features is only what they say
# about the outcome, and a regressor knows that. With `featurizer=` its predictions take the place
# of the features. They are made out of fold: predictions for rows that a model was trained on are
# too good, distributed unlike those for target rows, and the difference would pass for a shift.

# %%
wide = make_target_shift(1500, n_features=20, random_state=0)


def wide_error(weights):
    return round(float(np.mean((weights - wide.density_ratio) ** 2)), 3)


regressor = HistGradientBoostingRegressor(max_iter=60, random_state=0)
out_of_fold = ReTaSA(featurizer=regressor, random_state=0)
out_of_fold.fit(wide.X, wide.y, X_target=wide.X_target)
seen = regressor.fit(wide.X, wide.y).predict
with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    in_sample = ReTaSA(featurizer=seen).fit(wide.X, wide.y, X_target=wide.X_target)
pd.Series(
    {
        "no weights": wide_error(1.0),
        "predictions of seen rows": wide_error(in_sample.weights_),
        "out of fold": wide_error(out_of_fold.weights_),
    },
    name="error of the weights",
)

# %% [markdown]
# ## Is it target shift at all?
#
# The features of the target can contradict the assumption: if no weights of the outcome produce
# them, something else moved. `residual_` is the share of the difference between the samples that
# the weights leave unexplained, and `target_shift_test` compares what is left with samples in
# which target shift holds.

# %%
weighter.residual_, weighter.target_shift_test(99)

# %% [markdown]
# Here is a target whose feature is measured with less noise: the law of the feature given the
# outcome changed.

# %%
rng = np.random.default_rng(0)
y_new = rng.normal(0.5, 0.2, 1000)
X_new = (y_new + 3 * np.tanh(y_new) + 0.3 * rng.normal(size=1000))[:, None]
with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    other = ReTaSA(random_state=0).fit(data.X, data.y, X_target=X_new)
other.residual_, other.target_shift_test(99)

# %% [markdown]
# The test only finds what weights cannot mimic. A sensor with an offset, for example, looks like a
# shift of the outcome, and nothing in the data tells the two apart. Whether the outcome causes the
# features is knowledge about the world.
#
# ## A million rows
#
# The outcome is one number, so the equation can be solved on a grid, at a cost that is linear in
# the rows.

# %%
import time

many = make_target_shift(1_000_000, random_state=0)
start = time.perf_counter()
large = ReTaSA().fit(many.X, many.y, X_target=many.X_target)
seconds = time.perf_counter() - start
seconds < 2, large.solver_, round(float(np.mean((large.weights_ - many.density_ratio) ** 2)), 4)

# %%
weight_report(large.weights_)

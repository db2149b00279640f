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
# # Grading used timber for a second life
#
# Beams from a demolished building have been wet and dry again. Some are as good as new, some should
# carry less, some should go to the fire. To know for sure one would have to break them. A laboratory
# has broken a few hundred specimens after one to three wet-dry cycles, and unexposed controls; on the
# site only density, moisture content, depth, grain angle and surface hardness can be measured.
#
# This page turns the laboratory's numbers into one residual performance per specimen, learns from
# it where one reuse level ends and the next begins, with uncertainty, and predicts the level of
# beams that nobody will break. The data are simulated, so that the truth is known.
#
# Do not use it when a standard fixes the levels and the residual is measured anyway (just cut it),
# or when all that is wanted is a point prediction (use logistic regression).

# %%
import numpy as np
import pandas as pd
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from reweight import (
    BayesianReuseClassifier,
    ResidualPerformance,
    class_probability_plot,
    coefficient_posterior_plot,
    make_timber_reuse,
    threshold_posterior_plot,
)

data = make_timber_reuse((80, 80, 80), random_state=3, return_frame=True)
tested = ~data.is_control
data.X[tested].describe().loc[["mean", "std", "min", "max"]].round(1)

# %% [markdown]
# ## One number per specimen
#
# Flexural modulus and maximum load, each as a share of the controls' mean, weigh 80 % and 20 %. A
# value of 0.9 means that nine tenths are left; it can exceed one. That there are only thirty controls
# adds an error which all specimens share in.

# %%
performance = ResidualPerformance([0.8, 0.2]).fit(data.metrics, control=data.is_control)
residual = performance.transform(data.metrics[tested]).ravel()
table = pd.DataFrame({"cycles": data.cycles[tested], "residual": residual})
table["error by controls"] = performance.stderr(data.metrics[tested])
table["above 0.90"] = residual >= 0.90
table.groupby("cycles").mean().round(3)

# %% [markdown]
# ## Thresholds and grades at once
#
# The engineers expect the best level to end around 0.90, give or take 0.03, and the worst to begin
# around 0.75, give or take 0.05. That is the prior. The model places thresholds where the field
# measurements separate the levels best, and samples them together with the coefficients. No
# specimen has a label; the cycles are a grouping that shifts the levels.

# %%
X, cycles = data.X[tested], data.cycles[tested]
sampling = {"draws": 500, "tune": 500, "chains": 2, "random_state": 1, "target_accept": 0.9}
model = BayesianReuseClassifier(
    threshold_mean=[0.90, 0.75], threshold_sd=[0.03, 0.05], on_nonconvergence="ignore", **sampling
).fit(X, residual=residual, groups=cycles)
pd.DataFrame(
    np.c_[model.thresholds_, model.thresholds_interval_],
    index=["level 0 | 1", "level 1 | 2"],
    columns=["threshold", "lower", "upper"],
).round(3)

# %% [markdown]
# Two short chains keep this page quick; the default is four of 1000 draws. `diagnostics_` says what
# was reached, and without `on_nonconvergence="ignore"` the model itself says so when R-hat is above
# 1.01, draws are too few or diverge:

# %%
pd.Series(model.diagnostics_).to_frame("value")

# %%
ax = threshold_posterior_plot(
    model.threshold_draws_, prior_mean=[0.90, 0.75], prior_sd=[0.03, 0.05], residual=residual
)
ax.set_title("What the data add to what the engineers expected")

# %% [markdown]
# Where posterior and prior agree, the data have little to say about that threshold, and the
# engineers' judgement stands. This is as it should be: features that tell nothing leave the prior
# exactly as it was.
#
# ## What matters
#
# The horseshoe prior pulls coefficients to zero unless the data insist. Depth has no effect in
# this simulation. Coefficients are log odds against the worst level.

# %%
ax = coefficient_posterior_plot(
    model.coef_draws_,
    feature_names=data.feature_names,
    class_names=["0 (best)", "1"],
    scale=model.x_scale_,
)

# %% [markdown]
# ## A beam on the site
#
# The chance of each level along the density, other measurements at their mean, after one cycle:

# %%
grid = np.linspace(X["density"].min(), X["density"].max(), 60)
beams = pd.DataFrame([X.mean()] * len(grid)).assign(density=grid)
groups = np.full(len(grid), 1)
ax = class_probability_plot(
    grid,
    model.predict_proba(beams, groups=groups),
    model.predict_proba_interval(beams, groups=groups, confidence_level=0.9),
    class_names=["0 (best)", "1", "2"],
    feature_name="Density in kg/m³",
    confidence_level=0.9,
)

# %% [markdown]
# Beams whose history is unknown belong to no known group. Their effect is drawn from the
# distribution of the groups, which widens the interval. A residual that was measured after all
# takes over:

# %%
beam = X.iloc[[0]]
pd.DataFrame(
    {
        "after one cycle": model.predict_proba(beam, groups=[1])[0],
        "after three": model.predict_proba(beam, groups=[3])[0],
        "history unknown": model.predict_proba(beam)[0],
        "one cycle, residual 0.70": model.predict_proba(beam, residual=[0.70], groups=[1])[0],
    },
    index=["level 0", "level 1", "level 2"],
).T.round(2)

# %% [markdown]
# ## Decisions with costs
#
# Calling a bad beam good costs more than the reverse. Rows of the loss matrix are the truth,
# columns what is decided; `predict` takes the decision of least expected loss.

# %%
loss = np.array([[0, 1, 3], [5, 0, 1], [20, 8, 0]])
careful = BayesianReuseClassifier(
    loss_matrix=loss, thresholds="fixed", on_nonconvergence="ignore", **sampling
).fit(X, residual=residual, groups=cycles)
fresh = make_timber_reuse((1000, 1000, 1000), random_state=4, return_frame=True)
new = ~fresh.is_control
level, P = fresh.level[new], careful.predict_proba(fresh.X[new], groups=fresh.cycles[new])
decided = careful.predict(fresh.X[new], groups=fresh.cycles[new])
pd.Series(
    {
        "most probable level": loss[level, P.argmax(axis=1)].mean(),
        "least expected loss": loss[level, decided].mean(),
        "all to the worst level": loss[level, 2].mean(),
    },
    name="mean loss",
).round(2).to_frame()

# %% [markdown]
# With thresholds fixed the model is a sparse multinomial logit, and its probabilities can be judged
# by the truth: log loss on 3000 new specimens, beside logistic regression that knows the cycles
# and beside the true probabilities.

# %%
with_cycles = X.assign(two=cycles == 2, three=cycles == 3).astype(float)
plain = make_pipeline(StandardScaler(), LogisticRegression())
plain.fit(with_cycles, careful.classify_residual(residual))
fresh_cycles = fresh.cycles[new]
wide = fresh.X[new].assign(two=fresh_cycles == 2, three=fresh_cycles == 3).astype(float)
pd.Series(
    {
        "fixed thresholds, horseshoe": log_loss(level, P),
        "logistic regression": log_loss(level, plain.predict_proba(wide)),
        "true probabilities": log_loss(level, fresh.level_probability[new]),
    },
    name="log loss",
).round(3).to_frame()

# %% [markdown]
# ## What to check
#
# - `diagnostics_` before anything else, and more draws where it is not good.
# - `coherence_`, the difference between the gate's average and the share of each level: above 0.05
#   thresholds may be biased, and `base_residuals` from the population before grading help.
# - Does the model replicate the counts of levels in each group? Levels nobody saw are drawn given
#   the residual. Shares near 0 or 1 mean no.
# - `loo()` compares models; its `pareto_k` above 0.7 marks rows where the approximation fails.

# %%
check = model.posterior_predictive_check("group_counts", draws=200)
print("coherence", round(model.coherence_, 3))
pd.DataFrame(check["p_value"], index=model.groups_, columns=["level 0", "level 1", "level 2"])

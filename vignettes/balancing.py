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
# # From a raw table to a balanced effect
#
# You have a table: one row per person, some covariates, a treatment, an outcome. The treated
# differ from the controls in the covariates, so comparing their outcomes compares the people as
# much as the treatment. Weights on the controls can make the two groups comparable. This page goes
# from the table to an effect with an interval, and shows how to tell when the weights are good,
# when they are not, and what it looks like when no weights exist.
#
# The data are LaLonde's: 185 men who took part in a job training programme and 429 men of a
# survey. What makes them famous is that the programme was also run as an experiment, which found
# that training raised earnings by 1794 dollars. A method that works should come near it.

# %%
import numpy as np
import pandas as pd

from causal import (
    CBPS,
    EnergyBalancing,
    EntropyBalancing,
    InverseProbabilityTilting,
    KernelBalancing,
    PropensityWeighting,
    StableBalancing,
    WeightedEffect,
    load_lalonde,
)
from reweight import (
    balance_table,
    love_plot,
    mirrored_propensity_histogram,
    weight_histogram,
    weight_report,
)
from reweight.exceptions import InfeasibleError

lalonde = load_lalonde()
X, treatment, earnings = lalonde.data, lalonde.treatment, lalonde.target
X.describe().T[["mean", "std", "min", "max"]].round(1)

# %% [markdown]
# ## Look before weighting
#
# `balance_table` compares the arms column by column. The standardised mean difference (SMD) is the
# difference of means in standard deviations; above 0.1 is usually called imbalance. The variance
# ratio and the Kolmogorov-Smirnov distance see differences of shape that means do not.

# %%
before = balance_table(X, treatment, estimand="ATT")
before[["mean_treated", "mean_control", "smd_before", "vr_before", "ks_before"]].round(2)

# %% [markdown]
# The trained men are younger, far more often black, less often married, and earned much less
# before. Nothing can be concluded from the raw difference of minus 635 dollars.

# %%
t = np.asarray(treatment) == 1
round(earnings[t].mean() - earnings[~t].mean(), 2)

# %% [markdown]
# ## Entropy balancing
#
# The question here is what training did *to those who were trained*: the average effect on the
# treated, `"ATT"`. Entropy balancing finds the weights on the controls that are closest to equal
# among all that give the controls exactly the covariate means of the trained.

# %%
balancer = EntropyBalancing("ATT").fit(X, treatment)
balancer.balance_table()[["smd_before", "smd_after", "vr_after", "ks_after"]].round(3)

# %%
balancer.love_plot()
# %% [markdown]
# All means agree to machine precision, and the solver certifies it: `optimality_gap_` is the
# largest residual of the optimality conditions.

# %%
balancer.optimality_gap_, balancer.n_iter_

# %% [markdown]
# Balance has a price. The effective sample size says how many equally weighted controls carry the
# same information: 98 of 429.

# %%
balancer.ess_.round(1)

# %%
weight_report(balancer.weights_, treatment)

# %%
weight_histogram(balancer.weights_, treatment)
# %% [markdown]
# ## The effect and its interval
#
# The weights never saw the outcome. Now they meet it. The standard error counts that the weights
# were estimated; treating them as given would be wrong, usually too wide.

# %%
effect = WeightedEffect(EntropyBalancing("ATT")).fit(X, earnings, treatment=treatment)
effect.summary().round(1)

# %% [markdown]
# 1273 dollars with an interval that reaches from below zero to beyond the experiment's 1794. The
# weights moved the estimate by 1900 dollars in the right direction; the data do not allow more
# certainty than this.

# %% [markdown]
# ## Choosing a method
#
# | you want | take |
# |---|---|
# | exact balance of means, few assumptions, fast | `EntropyBalancing` |
# | the least variable weights, a little imbalance allowed | `StableBalancing` |
# | a propensity score as well | `CBPS`, `InverseProbabilityTilting`, `PropensityWeighting` |
# | balance of whole distributions, not only of means | `KernelBalancing`, `EnergyBalancing` |
# | an answer where the groups hardly overlap | `PropensityWeighting(estimand="ATO")` |
#
# They are all used the same way, so trying several is cheap. Agreement between methods is
# reassuring; disagreement means that the answer hangs on a modelling choice.

# %%
weighters = {
    "logistic propensity": PropensityWeighting(estimand="ATT"),
    "over-identified CBPS": CBPS("ATT"),
    "inverse probability tilting": InverseProbabilityTilting("ATT"),
    "stable weights, 0.02 sd": StableBalancing("ATT", max_smd=0.02),
    "entropy, squares too": EntropyBalancing("ATT", moments=2),
    "kernel": KernelBalancing("ATT", random_state=0),
    "energy": EnergyBalancing("ATT", random_state=0),
}
rows = {}
for name, weighter in weighters.items():
    fit = WeightedEffect(weighter, n_resamples=50, random_state=0).fit(
        X, earnings, treatment=treatment
    )
    lower, upper = np.ravel(fit.confint())
    table = fit.weighter_.balance_table()
    rows[name] = {
        "effect": fit.effect_,
        "lower": lower,
        "upper": upper,
        "worst SMD": table["smd_after"].abs().max(),
        "worst KS": table["ks_after"].max(),
        "ESS of controls": fit.weighter_.ess_[0],
    }
pd.DataFrame.from_dict(rows, orient="index").round(2)

# %% [markdown]
# Two things to read off. Methods that balance means exactly also leave shapes imbalanced (KS), and
# the methods that look at whole distributions trade a little of the means for them. And every step
# of balance costs effective sample size.

# %% [markdown]
# ## Doubly robust
#
# An outcome model can be added. The estimate is then right if either the weights or the model are.
# With linear regression on the balanced columns nothing changes, because exact balance already
# removes all that a linear model could:

# %%
from sklearn.ensemble import RandomForestRegressor
from sklearn.linear_model import LinearRegression

linear = WeightedEffect(EntropyBalancing("ATT"), outcome_estimator=LinearRegression())
forest = WeightedEffect(
    EntropyBalancing("ATT"),
    outcome_estimator=RandomForestRegressor(min_samples_leaf=10, random_state=0),
    cv=5,
    random_state=0,
)
for model in (linear, forest):
    model.fit(X, earnings, treatment=treatment)
round(linear.effect_, 2), round(forest.effect_, 2), round(forest.stderr_, 1)

# %% [markdown]
# ## Where the groups do not overlap
#
# The propensity score is the probability of being treated given the covariates. Its histogram,
# mirrored by arm, shows at a glance who can be compared with whom.

# %%
propensity = PropensityWeighting(estimand="ATO").fit(X, treatment)
mirrored_propensity_histogram(propensity.propensity_, treatment)
# %% [markdown]
# Most survey men have a propensity near zero: nobody like them was trained. For the effect on the
# trained that is harmless, they just get small weights. For the effect on *everybody* it is not:
# a few trained men must stand for the whole survey, and the package says so.

# %%
import warnings

with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    everybody = EntropyBalancing("ATE").fit(X, treatment)
print(*[w.message for w in caught], sep="\n")
everybody.ess_.round(1)

# %% [markdown]
# ## What infeasible balance looks like
#
# Ask for too much and no weights exist. Here all squares and pairwise products are to agree as
# well, for the whole sample. The error names the worst column and the smallest tolerance at which
# the problem has a solution:

# %%
try:
    EntropyBalancing("ATE", moments=2, interactions=True).fit(X, treatment)
except InfeasibleError as error:
    print(error)
    print(error.worst_column, round(error.smallest_tolerance, 3))

# %% [markdown]
# Three ways out: accept the tolerance (`max_smd=`), let the package find it
# (`on_infeasible="relax"`, then look at `relaxed_max_smd_`), or change the question to a population
# that the data can speak for.

# %%
with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    relaxed = EntropyBalancing("ATE", moments=2, interactions=True, on_infeasible="relax").fit(
        X, treatment
    )
round(relaxed.relaxed_max_smd_, 3), relaxed.ess_.round(1)

# %% [markdown]
# The relaxed weights exist, but 20 effective trained men are a poor basis for a statement about
# everybody. The overlap population is the honest alternative:

# %%
overlap = WeightedEffect(PropensityWeighting(estimand="ATO")).fit(X, earnings, treatment=treatment)
overlap.summary().round(1)

# %%
love_plot(overlap.weighter_.balance_table())

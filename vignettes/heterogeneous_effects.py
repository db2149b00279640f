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
# # Effects that differ: which learner, which weights, and why
#
# A treatment helps some and not others. You have a table with covariates X, an outcome y and a
# treatment t, and want the effect as a function of the covariates. A dozen learners offer
# themselves. This page shows that most of them are one regression with two switches, what the
# switches do, and how to choose without knowing the truth.
#
# The data are simulated, so that the truth is there to compare with: setup A of Nie and Wager, in
# which the baseline and the propensity are wavy and the effect is simple, (x1 + x2)/2.

# %%
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
from sklearn.model_selection import GridSearchCV, cross_val_predict

from causal import (
    CrossFitter,
    InteractiveDML,
    PseudoOutcomeRegressor,
    RLearner,
    SLearner,
    TLearner,
    XLearner,
    effect_calibration,
    effect_calibration_plot,
    effect_profile,
    effect_profile_plot,
    make_cate,
    pseudo_outcome,
    pseudo_outcome_weights,
    sorted_effect_plot,
)
from reweight import mirrored_propensity_histogram

study = make_cate(6000, setup="A", random_state=3)
X = pd.DataFrame(study.X, columns=[f"x{j + 1}" for j in range(6)])
y, t = study.y, study.treatment
print(f"{len(X)} rows, {t.mean():.0%} treated, mean effect {study.effect.mean():.2f}")

# %% [markdown]
# ## Nuisances, once
#
# Every learner below needs some of four functions of the covariates: the mean outcome m, the
# propensity e, and the mean outcomes of the arms, mu0 and mu1. They are not what we are after, which
# is why they are called nuisances. `CrossFitter` fits each one once, and predicts each row by models
# that have not seen it. Any scikit-learn estimator will do; here small boosted trees.

# %%
trees = {"learning_rate": 0.1, "max_leaf_nodes": 8, "max_iter": 80, "random_state": 0}
outcome_model = HistGradientBoostingRegressor(**trees)
treatment_model = HistGradientBoostingClassifier(**trees)
fitter = CrossFitter(outcome_model, treatment_model, random_state=0)
target = fitter.fit_transform(X, y, treatment=t)
pd.DataFrame(fitter.nuisance_scores_).T.round(3)

# %% [markdown]
# The result is an array of six columns: y, t, m, e, mu0, mu1. It takes the place of y in every
# learner, so nothing below fits a nuisance again. Look at the propensities before anything else:
# where one arm is missing, no learner knows anything.

# %%
mirrored_propensity_histogram(target[:, 3], t)

# %% [markdown]
# ## One regression, two switches
#
# A *pseudo-outcome* is made from the outcome so that its mean given the covariates is the effect.
# Regress it on the covariates, and you have a learner. The first switch is which one:
#
# | name | pseudo-outcome | |
# |---|---|---|
# | U | (y − m)/(t − e) | |
# | DR | mu1 − mu0 + t(y − mu1)/e − (1 − t)(y − mu0)/(1 − e) | doubly robust |
# | Cov | (y − m)(t − e)/(e(1 − e)) | |
#
# Each of them divides by something small where an arm is rare. The second switch are the *weights*
# of the regression, and the natural ones are inverse variances: (t − e)² for U, e(1 − e) for the
# other two. The picture shows why they matter: the spread of the pseudo-outcomes, left, and the
# weights, right, over the propensity.

# %%
e = target[:, 3]
values = dict(zip(("m", "propensity", "mu0", "mu1"), target[:, 2:].T, strict=True))
figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.6), layout="constrained")
bins = np.quantile(e, np.linspace(0, 1, 13))
place = np.clip(np.searchsorted(bins, e) - 1, 0, 11)
middle = [e[place == k].mean() for k in range(12)]
for kind, label in (("u", "U"), ("dr", "DR"), ("cov", "Cov")):
    f = pseudo_outcome(kind, y, t, **values)
    left.plot(middle, [f[place == k].std() for k in range(12)], marker="o", label=label)
for kind in ("residual", "overlap", "u_marginal"):
    w = pseudo_outcome_weights(kind, t, e)
    right.plot(middle, [w[place == k].mean() for k in range(12)], marker="o", label=kind)
left.set(xlabel="Propensity", ylabel="Standard deviation of the pseudo-outcome", yscale="log")
right.set(xlabel="Propensity", ylabel="Mean weight")
left.legend(frameon=False)
right.legend(frameon=False)
figure

# %% [markdown]
# U with (t − e)² *is* the R-learner; DR without weights is the DR-learner of Kennedy; the rest have
# no names, but are one line each. `refit_final` changes the switches of a fitted learner and keeps
# its nuisances.

# %%
final = HistGradientBoostingRegressor(max_iter=40, max_leaf_nodes=4, random_state=0)
r = RLearner(final_estimator=final, fit_nuisances="all").fit(X, target)
learners = {
    "U": r.refit_final(weighting=None),
    "U, residual (R)": r,
    "DR": r.refit_final(pseudo_outcome="dr", weighting=None),
    "DR, overlap": r.refit_final(pseudo_outcome="dr", weighting="overlap"),
    "Cov": r.refit_final(pseudo_outcome="cov", weighting=None),
    "Cov, overlap": r.refit_final(pseudo_outcome="cov", weighting="overlap"),
}
for name, learner in {
    "S": SLearner(outcome_model),
    "T": TLearner(outcome_model),
    "X": XLearner(outcome_model, final, treatment_model),
}.items():
    learners[name] = learner.fit(X, target)

new = make_cate(10_000, setup="A", random_state=1)
X_new = pd.DataFrame(new.X, columns=X.columns)
errors = {
    name: np.sqrt(np.mean((learner.predict(X_new) - new.effect) ** 2))
    for name, learner in learners.items()
}
pd.Series(errors, name="root mean squared error").sort_values().to_frame().round(3)

# %% [markdown]
# The unweighted U is far behind, although its mean is as right as that of the others: its variance
# is not. With inverse-variance weights it is level with DR and Cov. That is the finding of Fisher
# (2024), and `benchmarks/cate_study.py` repeats it over six designs: **once the weights are right,
# the pseudo-outcome hardly matters.** T, the difference of two separate models, adds up the errors of
# both; it wins where the arms have nothing in common. S shrinks effects towards zero and X borrows
# strength between the arms, which helps here, where the effect is small and smooth.
#
# Why not "Cov, overlap" always? Its errors in the propensity are of first order: DR with weights of
# the covariates, and R, are wrong only by *products* of errors of nuisances. And weights that
# depend on the arm (`dr_conditional`) give up that protection.
#
# ## Choosing without the truth
#
# On your data there is no column of true effects. The R-loss stands in: how well the effect explains
# the residual outcome by the residual treatment. `score` turns it into a number that is zero for the
# best constant effect, and the nuisances in the target make it a matter of one pass. So the usual
# search works, over learners as over their parameters.

# %%
search = GridSearchCV(
    PseudoOutcomeRegressor(final_estimator=final),
    [
        {"pseudo_outcome": ["dr"], "weighting": [None, "overlap"]},
        {"pseudo_outcome": ["u"], "weighting": ["residual", None]},
        {"final_estimator": ["linear"], "pseudo_outcome": ["u"], "weighting": ["residual"]},
    ],
    cv=3,
).fit(X, target)
columns = ["param_pseudo_outcome", "param_weighting", "param_final_estimator"]
table = pd.DataFrame(search.cv_results_)[[*columns, "mean_test_score"]]
table["param_final_estimator"] = [
    "linear" if isinstance(value, str) else "trees" for value in table["param_final_estimator"]
]
table.sort_values("mean_test_score", ascending=False).round(4)

# %% [markdown]
# Scores are small, because most of the R-loss is noise that no effect explains; only differences
# count. The unweighted U is worse than a constant effect. R leads, and whether its final stage is
# linear, as the truth is, or made of trees, does not matter here.
#
# ## A linear final stage has intervals
#
# With `final_estimator="linear"` the last step is weighted least squares. Its coefficients come with
# robust standard errors, which are valid if the nuisances are estimated well enough, trees or not. So
# fit nuisances to predict, and look at their scores: trees that stop too early leave a bias behind.

# %%
linear = RLearner().fit(X, target)
linear.summary().round(3)

# %% [markdown]
# The true slopes are 1/2 for x1 and x2 and zero for the others; all six intervals cover them. Along
# one covariate, the others at their medians:

# %%
effect_profile_plot(effect_profile(linear, X, "x1"))

# %%
sorted_effect_plot(linear.predict(X), linear.predict_interval(X))

# %% [markdown]
# ## Is it true?
#
# Sort the rows by predicted effect, cut them into five groups, and compare the mean prediction with
# the mean doubly robust pseudo-outcome, which is an honest estimate of the group's effect as long as
# predictions are out-of-fold. Points on the diagonal are calibrated; a flat row of points says that
# the learner found differences that are not there.

# %%
out_of_fold = cross_val_predict(RLearner(), X, target, cv=5)
calibration = effect_calibration(out_of_fold, target)
calibration.round(3)

# %%
effect_calibration_plot(calibration)

# %% [markdown]
# ## Weights choose a population
#
# If the final stage is flexible enough, all weights lead to the same function. If it is not, each
# weighting finds its own best approximation: without weights over all rows, with overlap weights over
# the rows that could have been in either arm. In the extreme of a constant final stage these are two
# different average effects. So do not average a weighted fit to report an average; ask for the one
# that you mean.

# %%
averages = {
    "all rows": InteractiveDML(estimand="ATE").fit(X, target),
    "rows that overlap": InteractiveDML(estimand="ATO").fit(X, target),
}
true_overlap = np.average(study.effect, weights=study.propensity * (1 - study.propensity))
pd.DataFrame(
    {
        "estimate": [model.effect_ for model in averages.values()],
        "stderr": [model.stderr_ for model in averages.values()],
        "truth": [study.effect.mean(), true_overlap],
    },
    index=list(averages),
).round(3)

# %% [markdown]
# ## In short
#
# | situation | start with |
# |---|---|
# | most studies; continuous treatment | `RLearner` |
# | two arms, effect to hold for all rows, decent overlap | `DRLearner` |
# | two arms, poor overlap | `PseudoOutcomeRegressor("dr", "overlap")` or `RLearner` |
# | a randomised trial | any of these with `propensity=`; weights hardly matter |
# | arms of very different size | `XLearner` as a second opinion |
# | arms that have nothing in common | `TLearner` as a second opinion |
# | few of many covariates matter, linearly | `RSLearner` |
#
# Then let the R-score choose, and the calibration plot confirm. And remember what none of them can
# do: where a confounder was not measured, every number on this page would look just as good.

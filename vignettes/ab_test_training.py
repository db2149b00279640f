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
# # An A/B test whose models retrain
#
# A recommender shows each visitor a short or a long video. A model predicts whether she will finish
# it and how many minutes she will stay; a policy combines the two predictions and shows the video with the
# larger score. You want to know whether a new policy, which puts more weight on finishing, makes
# people stay longer. So half of the visitors get the new policy, and after two weeks you compare the
# arms.
#
# The catch: every night the model is retrained on the log of the day. The new policy shows other
# videos to other people, so it changes the data, so it changes the model, and the model serves
# *both* arms. The control arm is no longer the world without the new policy.

# %%
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from sklearn.linear_model import SGDRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from causal import ArmWeighter, InteractiveDML, WeightedTraining, simulate_training_loop
from causal.datasets.training_loop import arm_classifier, expected_stay, recommender
from reweight import weight_histogram, weight_report

# %% [markdown]
# ## What the test should find
#
# `simulate_training_loop` plays this out, with answers whose laws are known. Only a simulation can
# show the truth: run two worlds, one where everybody has the old policy and one where everybody has
# the new one, each with its own training loop. The difference between the worlds in the mean stay
# is the effect that the test is about.

# %%
seeds = range(16)
two_worlds = [simulate_training_loop("global", random_state=s) for s in seeds]
worlds = np.array([loop.estimate for loop in two_worlds])
print(f"effect of the new policy: {worlds.mean():.2f}, error {worlds.std(ddof=1) / 4:.2f}")

# %% [markdown]
# The new policy makes people stay about half a minute less. Now the tests, as they are run in
# practice: with one model that learns from all rows (pooling), with a model for each arm that learns
# from its own rows (splitting), and with the weights of this page.

# %%
methods = ("pooling", "splitting", "weighted")
tests = {m: [simulate_training_loop(m, random_state=s) for s in seeds] for m in methods}
estimates = pd.DataFrame({m: [loop.estimate for loop in loops] for m, loops in tests.items()})
pd.DataFrame(
    {
        "mean": estimates.mean(),
        "off by": estimates.mean() - worlds.mean(),
        "spread": estimates.std(),
    }
).round(3)

# %% [markdown]
# Pooling finds too little, since its model mixes the two worlds. Splitting has no such leak, but each
# model learns from half of the rows, and the estimate spreads. Weighted training is to have the small
# bias of the one and the small spread of the other. Sixteen experiments show it roughly, with an
# error of 0.02 to 0.03; two hundred (`benchmarks/training_loop.py`) show it well:
#
# | method | bias | spread |
# |---|---|---|
# | pooling | +0.11 | 0.07 |
# | not retraining at all | +0.06 | 0.18 |
# | splitting | -0.02 | 0.12 |
# | weighted | -0.03 | 0.08 |
#
# (Errors of a bias are about 0.01. The spreads have a tail: now and then a loop settles in another
# equilibrium, where the new policy does worse; that happened to 3 of the weighted and to 8 of the
# split experiments.)
#
# Where does the bias come from? Compare the arms with the worlds that they stand for.

# %%
arms = {
    "two worlds": two_worlds,
    **tests,
}
pd.DataFrame(
    {
        name: np.mean([loop.metric[10:].mean(axis=0) for loop in loops], axis=0)
        for name, loops in arms.items()
    },
    index=["control", "treatment"],
).T.round(3)

# %% [markdown]
# The control arm is about right. It is the treatment that pooling flatters: its policy is served by a
# model that keeps learning from what the control shows, which in a world of its own it would not see.

# %% [markdown]
# ## The idea
#
# Users answer a video in the same way in both arms; the arms differ in *what they show to whom*. Let
# x be all that decides an answer, user and video, and let G(x) be the share of the treatment among
# rows like x. If G is 0.9, the treatment shows this nine times as often as the control. Weighted by
# G(x)/p, with p the share of the treatment overall, *all* rows together look like the rows of the
# treatment, and weighted by (1 - G(x))/(1 - p) like those of the control. Each model can then learn
# from all rows what it would have learned in a world of its own.

# %%
log = tests["weighted"][0]
X = pd.DataFrame(log.X, columns=["u1", "u2", "long"])
for_treatment = ArmWeighter("treatment", weight_estimator=arm_classifier())
for_treatment.fit(log.X, log.treatment)
shown = pd.DataFrame(
    {
        "control rows": X[log.treatment == 0].mean(),
        "all rows": X.mean(),
        "treatment rows": X[log.treatment == 1].mean(),
        "all rows, weighted": X.mul(for_treatment.weights_, axis=0).mean(),
    }
)
shown.round(3)

# %% [markdown]
# The new policy shows more short videos, because those are finished. Weighted, all rows show as many
# long videos as the treatment does. Not only this mean agrees: people who like short videos get them
# as often as under the treatment.

# %%
liking = X["u1"] > 0
by_taste = {
    "all rows": X["long"].groupby(liking).mean(),
    "treatment rows": X["long"][log.treatment == 1].groupby(liking).mean(),
    "all rows, weighted": X["long"]
    .mul(for_treatment.weights_)
    .groupby(liking)
    .sum()
    .div(pd.Series(for_treatment.weights_).groupby(liking).sum()),
}
pd.DataFrame(by_taste).rename_axis("u1 > 0").round(3)

# %% [markdown]
# The price is small. Among all weights that do this, these vary least, and splitting is the extreme
# in the other direction, with weights 0 and 2:

# %%
weight_report(for_treatment.weights_, n_largest=3)

# %%
weight_histogram(for_treatment.weights_)

# %% [markdown]
# ## Training with them
#
# `WeightedTraining` wraps the model that you retrain. It fits the classifier of arms, makes both sets
# of weights, and trains one model for each arm. What the policies use is `predict` with the arm.

# %%
training = WeightedTraining(recommender(), arm_classifier())
training.fit(log.X, log.y, treatment=log.treatment)
(
    training.predict(log.X[:3], arm="treatment").round(2),
    training.predict(log.X[:3], arm="control").round(2),
)

# %% [markdown]
# `score` weights rows in the same way, so that `GridSearchCV(WeightedTraining(...), ...)` chooses the
# settings that serve each arm in its own world. A deep model takes the weights as weights of its
# loss: `training_weights_` has a column for each arm.

# %% [markdown]
# ## Over the rounds
#
# The leak takes time: a model must be retrained on the other arm's rows before it changes. The arms
# differ from the first round on, but what the new policy does to its own model builds up over the
# rounds, and with pooling it does not.

# %%
fig, ax = plt.subplots(figsize=(6.4, 3.8), layout="constrained")
colours = {"pooling": "#D55E00", "splitting": "#009E73", "weighted": "#0072B2"}
for method, loops in tests.items():
    difference = np.mean([np.diff(loop.metric, axis=1).ravel() for loop in loops], axis=0)
    ax.plot(
        np.arange(1, 21),
        pd.Series(difference).rolling(5, min_periods=1).mean(),
        color=colours[method],
        label=method,
    )
ax.axhline(worlds.mean(), color="black", ls="--", lw=1, label="two worlds")
ax.set_xticks(range(0, 21, 5))
ax.set_xlabel("Round of the experiment")
ax.set_ylabel("Treatment minus control\n(mean of the last 5 rounds)")
ax.spines[["top", "right"]].set_visible(False)
ax.legend(frameon=False)

# %% [markdown]
# ## The number in the report
#
# The test ends with a log: the stay of every visitor and her arm. The difference of means is an
# honest estimate, since arms were drawn at random. Knowing who the visitors are makes it sharper
# without making it less honest: `InteractiveDML` with the known probability of one half.

# %%
late = log["round"] >= 10
stay, arm, users = log.y[late, 1], log.treatment[late], log.X[late, :2]
plain = stay[arm == 1].mean() - stay[arm == 0].mean()
error = np.sqrt(sum(stay[arm == a].var(ddof=1) / (arm == a).sum() for a in (0, 1)))
adjusted = InteractiveDML(treatment_estimator=0.5, random_state=0).fit(users, stay, treatment=arm)
print(f"difference of means: {plain:.3f}, standard error {error:.3f}")
adjusted.summary().round(3)

# %% [markdown]
# The users' features leave most of the spread of an exponential stay unexplained, so the gain is
# small here. It also answers for whom the new policy is worse:

# %%
adjusted.group_effects(np.where(users[:, 0] > 0, "likes short videos", "does not"))

# %% [markdown]
# ## Streams
#
# Large recommenders are not refitted but updated. `partial_fit` takes the next rows, updates the
# classifier of arms (for the default one exactly as if the log so far were summarised by a normal
# law), weighs the rows and updates both models.

# %%
stream = WeightedTraining(SGDRegressor(random_state=0), treatment_prob=0.5)
scale = StandardScaler().fit(log.X)
for number in range(20):
    batch = log["round"] == number
    stream.partial_fit(
        scale.transform(log.X[batch]), log.y[batch, 1], treatment=log.treatment[batch]
    )
stream.training_weights_.mean(axis=0).round(2), stream.treatment_model_.coef_.round(2)

# %% [markdown]
# ## When not to
#
# - **Answers depend on the arm itself**, not only on what is shown: another layout, another price.
#   Put what differs into x, or split.
# - **x lacks what decides the show.** Whatever the policies look at belongs into x.
# - **The arms never show the same.** Then G is 0 or 1, the weights are those of splitting, and there
#   is nothing to share.
# - **Users of the two arms meet**, as in a market or a chat. That is another interference, which no
#   training scheme removes.
# - **A classifier that memorises** makes G 0 or 1 on its own rows: pass `cv=` for cross-fitted
#   probabilities.

# %%
memory = WeightedTraining(
    make_pipeline(StandardScaler(), SGDRegressor(random_state=0)),
    arm_classifier(),
    cv=5,
    random_state=0,
)
memory.fit(log.X, expected_stay(log.X), treatment=log.treatment).training_weights_[:3].round(2)

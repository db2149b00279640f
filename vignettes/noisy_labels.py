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
# # Learning from labels that were flipped
#
# Labels come from crowds, from search engines, from a form filled in at speed. Some are wrong, and
# often the same way: a 4 is taken for a 5 more than for a 1. If one knows how often each class is
# taken for each other, one can learn the true classes from the wrong labels. This page does so with
# a linear model by scikit-learn and with a network in PyTorch.
#
# Do not use it where errors depend on the row rather than on its class, for instance where only
# illegible digits are mislabelled: the methods here believe one matrix for all rows.

# %%
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from torch import nn
from torch.nn.functional import cross_entropy

from reweight import NoisyLabelClassifier, make_noisy_labels
from reweight.torch import (
    ForwardCorrectionLoss,
    LearnToReweight,
    TransitionWeighter,
    self_influence,
)

torch.set_num_threads(1)
data = make_noisy_labels(noise="pair", rate=0.4, random_state=0)
print(f"{len(data.y)} handwritten digits, {(data.y != data.y_true).mean():.0%} wrong labels")
pd.crosstab(data.y_true, data.y, rownames=["true"], colnames=["label"])

# %% [markdown]
# Four in ten digits carry the label of the next digit. The transition matrix says the same as
# probabilities: `transition[a, b]` is that of label a for a digit b, so its columns sum to one. Half
# of the literature writes the transposed matrix; the classes here refuse one that sums to one the
# wrong way and say so.
#
# ## A linear model
#
# `NoisyLabelClassifier` wraps a classifier. With `method="reweight"` it fits in turn: from the
# probabilities of the true classes follows a weight for each row, near zero if its label is
# probably a flip; from the weights, new probabilities. Rows are judged by models that have not seen
# them. With `method="forward"` it fits the probabilities that explain the labels after the flips.

# %%
linear = LogisticRegression(C=0.1)
models = {
    "as if nothing were wrong": linear,
    "reweight": NoisyLabelClassifier(linear, data.transition, tol=0.02),
    "forward": NoisyLabelClassifier(linear, data.transition, method="forward"),
    "reweight, matrix from anchors": NoisyLabelClassifier(linear, "anchor", tol=0.05),
}
accuracy = {
    name: model.fit(data.X, data.y).score(data.X_test, data.y_test)
    for name, model in models.items()
}
accuracy["true labels (not to be had)"] = linear.fit(data.X, data.y_true).score(
    data.X_test, data.y_test
)
pd.Series(accuracy, name="accuracy on clean digits").round(3).to_frame()

# %% [markdown]
# With the matrix known, most of what the flips had taken comes back. The last but one line has no
# matrix given: it reads it off rows that seem sure of their class. A linear model of about a hundred
# rows a class is seldom as sure as it should be, so the estimate is rough (right picture), and the
# weights can be no better than the matrix.

# %%
weights = models["reweight"].weights_
wrong = data.y != data.y_true
fig, axes = plt.subplots(1, 2, figsize=(10, 3.6), layout="constrained")
bins = np.linspace(0, weights.max(), 30)
axes[0].hist(weights[~wrong], bins, alpha=0.7, color="#0072B2", label="right labels")
axes[0].hist(weights[wrong], bins, alpha=0.7, color="#D55E00", label="flipped labels")
axes[0].set(xlabel="weight (mean one)", ylabel="rows", title="Weights of the linear model")
axes[0].legend(frameon=False)
estimated = models["reweight, matrix from anchors"].transition_
for values, color, label in (
    (data.transition, "0.2", "true"),
    (estimated, "#009E73", "from anchors"),
):
    axes[1].plot(np.diag(values), "o-", color=color, label=f"{label}: label kept")
    following = values[(np.arange(10) + 1) % 10, np.arange(10)]
    axes[1].plot(following, "s--", color=color, label=f"{label}: taken for the next")
axes[1].set(xlabel="true digit", ylabel="probability", ylim=(0, 1), title="Transition matrix")
axes[1].set_xticks(range(10))
axes[1].legend(frameon=False, fontsize=8)
# %% [markdown]
# ## A network
#
# A network can learn the wrong labels by heart, and does. In the loop, `TransitionWeighter` takes
# the place of `loss.mean()`; it needs the outputs of the network and the labels beside the losses.
# Its default draws the rows of each batch anew in proportion to their weights, which disturbs
# learning by heart more than weights do. `ForwardCorrectionLoss` is a loss like any other.
# `LearnToReweight` knows no matrix: it asks of each row whether a step on it would help on 50 clean
# digits, and so it looks at the model before each step, by `observe`.

# %%
x, y = torch.tensor(data.X, dtype=torch.float32), torch.tensor(data.y)
x_test = torch.tensor(data.X_test, dtype=torch.float32)
clean = [(torch.tensor(data.X_val, dtype=torch.float32), torch.tensor(data.y_val))]
T = torch.tensor(data.transition)
EPOCHS, PLAIN = 30, 5


def per_item(call, batch):
    return cross_entropy(call(batch[0]), batch[1], reduction="none")


def train(weigh=None, loss=None, plain=PLAIN):
    """Test accuracy after each epoch; the first epochs are plain."""
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 128), nn.ReLU(), nn.Linear(128, 10)
    )
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-3)
    path = []
    for epoch in range(EPOCHS):
        for rows in torch.randperm(len(y)).split(128):
            batch = (x[rows], y[rows])
            corrected = loss is not None and epoch >= plain
            weighted = weigh is not None and epoch >= plain
            if weighted:
                weigh.observe(net, per_item, batch)
            logits = net(batch[0])
            losses = (
                loss(logits, batch[1])
                if corrected
                else cross_entropy(logits, batch[1], reduction="none")
            )
            value = weigh(losses, logits=logits, target=batch[1]) if weighted else losses.mean()
            optimizer.zero_grad()
            value.backward()
            optimizer.step()
        with torch.no_grad():
            path.append((net(x_test).argmax(1).numpy() == data.y_test).mean())
    return path, net


ways = {
    "cross-entropy": {},
    "weights": {"weigh": TransitionWeighter(T, "reweight")},
    "drawn rows": {"weigh": TransitionWeighter(T, "rent")},
    "forward": {"loss": ForwardCorrectionLoss(T, reduction="none")},
    "50 clean digits": {"weigh": LearnToReweight(clean), "plain": 0},
}
paths, nets = {}, {}
for name, settings in ways.items():
    paths[name], nets[name] = train(**settings)

# %%
fig, ax = plt.subplots(figsize=(8, 4), layout="constrained")
colors = ["0.4", "#56B4E9", "#0072B2", "#D55E00", "#009E73"]
for (name, path), color in zip(paths.items(), colors, strict=True):
    ax.plot(range(1, EPOCHS + 1), path, color=color, label=f"{name} ({path[-1]:.2f})")
ax.axvline(PLAIN, color="0.8", lw=1)
ax.set(xlabel="epoch", ylabel="accuracy on clean digits", ylim=(0, 1))
ax.legend(frameon=False, loc="lower right", title="and after the last epoch")
# %% [markdown]
# The plain network stops where the flips stop it, and then learns those. What uses the true matrix
# or the clean digits goes on. Here the corrected likelihood is ahead, and it is so because the matrix
# is exact. Over several seeds, and for flips to any class, see `benchmarks/results/noisy_digits.md`:
# none of these is best everywhere.
#
# ## Which rows are odd?
#
# Self-influence, the squared norm of a row's own gradient, is large for rows that the network finds
# hard to believe. For a network that learned through the matrix those are the flips; for one that
# learns the flips as well, less so.

# %%
batch = (x, y)
pd.Series(
    {
        name: roc_auc_score(wrong, self_influence(nets[name], per_item, batch).numpy())
        for name in ("cross-entropy", "drawn rows", "forward")
    },
    name="AUC of self-influence for flipped labels",
).round(3).to_frame()

# %% [markdown]
# `SelfInfluenceWeighter` makes weights of it inside the loop: first in favour of such rows, later
# against them.

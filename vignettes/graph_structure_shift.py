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
# # When the classes of a graph connect differently
#
# A model that classifies the nodes of a graph learns from neighbours: authors of one field cite
# each other, so the fields of those whom an author cites say a lot. In another graph fields may
# cite each other far more. The neighbours then mean something else, and the model is misled by
# the very thing that made it good. This is structure shift. `StructuralReweighter` weighs the
# edges of the labelled source graph so that its neighbourhoods are made up as in the unlabelled
# target, where labels are predicted.
#
# Do not use it when only the features of nodes have moved, or when predictions in the target are
# near chance: it learns the target's structure from them.

# %%
import numpy as np
import pandas as pd
from matplotlib import pyplot as plt
from scipy.sparse import csr_array
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import confusion_matrix
from sklearn.model_selection import cross_val_predict

from shift import (
    StructuralReweighter,
    class_pair_plot,
    edge_probability,
    make_block_model,
    structure_shift,
)

graphs = make_block_model(500, (0.04, 0.004), (0.04, 0.032), random_state=0)
graphs.X.shape, graphs.edge_index.shape, graphs.edge_index_target.shape

# %% [markdown]
# Three classes of 500 nodes with two features each. In the source an edge within a class is ten
# times as likely as one between two classes, in the target hardly more likely. With the true
# labels one sees how much:

# %%
source = edge_probability(graphs.edge_index, graphs.y)
target = edge_probability(graphs.edge_index_target, graphs.y_target)
fig, axes = plt.subplots(1, 2, figsize=(9, 3.4), layout="constrained")
for ax, matrix, title in zip(axes, (source, target), ("Source", "Target"), strict=True):
    class_pair_plot(
        matrix, ax, row_label="Receiver", column_label="Sender", digits=3, limits=(0, 0.041)
    )
    ax.set_title(f"{title}: share of pairs with an edge")
pd.Series(structure_shift(source, target), name="shift").round(3).to_frame()

# %% [markdown]
# ## A model that looks at neighbours
#
# The smallest graph model: logistic regression on the features of a node and the mean of its
# neighbours'. It is one layer of a graph network, and shows all that matters. The weights come in
# after the division by the number of neighbours. Dividing by the sum of the weights instead, as
# layers that take edge weights usually do, would undo much of what they are for.


# %%
def node_features(X, edge_index, weights=None):
    """Features beside the mean of the neighbours', weighted after normalising."""
    senders, receivers = edge_index
    count = np.maximum(np.bincount(receivers, minlength=len(X)), 1)
    weights = np.ones(len(senders)) if weights is None else weights
    A = csr_array((weights / count[receivers], (receivers, senders)), shape=(len(X), len(X)))
    return np.hstack([X, A @ X])


def fit_model(graphs, weights=None):
    features = node_features(graphs.X, graphs.edge_index, weights)
    return LogisticRegression(max_iter=500).fit(features, graphs.y)


def target_accuracy(model, graphs):
    features = node_features(graphs.X_target, graphs.edge_index_target)
    return model.score(features, graphs.y_target)


plain = fit_model(graphs)
alone = LogisticRegression(max_iter=500).fit(graphs.X, graphs.y)
pd.Series(
    {
        "in the source": plain.score(node_features(graphs.X, graphs.edge_index), graphs.y),
        "in the target": target_accuracy(plain, graphs),
        "in the target, features of the node only": alone.score(graphs.X_target, graphs.y_target),
    },
    name="accuracy",
).round(3).to_frame()

# %% [markdown]
# Nearly perfect at home, and in the target worse than a model that does not look at the graph.
#
# ## Weights from predicted labels
#
# Predict the target, weigh the source's edges, fit again, and repeat. No label of the target is
# used.


# %%
def reweighted_model(graphs, n_rounds=3, **parameters):
    model = fit_model(graphs)
    for _ in range(n_rounds):
        features = node_features(graphs.X_target, graphs.edge_index_target)
        reweighter = StructuralReweighter(**parameters).fit(
            graphs.edge_index,
            graphs.y,
            edge_index_target=graphs.edge_index_target,
            y_target=model.predict(features),
        )
        model = fit_model(graphs, reweighter.edge_weights_)
    return model, reweighter


rows = {}
for n_rounds in (1, 3):
    model, reweighter = reweighted_model(graphs, n_rounds, strength=0.8)
    rows[f"after {n_rounds} round{'s' if n_rounds > 1 else ''}"] = target_accuracy(model, graphs)
pd.Series(rows, name="accuracy in the target").round(3).to_frame()

# %%
truth = StructuralReweighter().fit(
    graphs.edge_index,
    graphs.y,
    edge_index_target=graphs.edge_index_target,
    y_target=graphs.y_target,
)
fig, axes = plt.subplots(1, 2, figsize=(9, 3.4), layout="constrained")
for ax, fitted, title in zip(
    axes, (reweighter, truth), ("predicted labels", "true labels"), strict=True
):
    class_pair_plot(
        fitted.ratio_,
        ax,
        classes=fitted.classes_,
        row_label="Receiver",
        column_label="Sender",
        limits=(0, 9),
    )
    ax.set_title(f"Weights by {title}")

# %% [markdown]
# The loop finds nearly the weights that the true labels would have given. An edge between classes
# counts several times, one within a class about once.
#
# ## How much shift, and how much weight
#
# Under strong shift the weights bring the accuracy back to about that of the features alone: the
# neighbours say little in the target, and the model learns not to listen. Under mild shift there
# is little to gain, and weights can cost a point. So let a few labels of the target choose the
# `strength`; zero is one of the choices.

# %%
strengths = (0.0, 0.4, 0.8, 1.0)
rows = {}
for between in (0.004, 0.012, 0.020, 0.032):
    drawn = make_block_model(500, (0.04, 0.004), (0.04, between), random_state=1)
    rng = np.random.default_rng(0)
    labelled = rng.permutation(len(drawn.y_target)) < 150
    accuracy = {}
    features = node_features(drawn.X_target, drawn.edge_index_target)
    for strength in strengths:
        model = reweighted_model(drawn, 2, strength=strength)[0]
        hit = model.predict(features) == drawn.y_target
        accuracy[strength] = hit[labelled].mean(), hit[~labelled].mean()
    chosen = max(strengths, key=lambda s: accuracy[s][0])
    found = {f"strength {s:g}": accuracy[s][1] for s in strengths}
    alone = LogisticRegression(max_iter=500).fit(drawn.X, drawn.y)
    found["features only"] = alone.score(drawn.X_target, drawn.y_target)
    rows[between] = {**found, "chosen": chosen, "accuracy of it": accuracy[chosen][1]}
by_shift = pd.DataFrame(rows).T.rename_axis("between classes")
by_shift.round(3)

# %%
shown = ["strength 0", "strength 0.8", "accuracy of it", "features only"]
colors = ["#6B6B6B", "#0072B2", "#D55E00", "black"]
ax = by_shift[shown].plot(style=["o--", "s-", "^:", "-"], color=colors, figsize=(6.4, 3.8))
ax.set_xlabel("Probability of an edge between two classes in the target (source: 0.004)")
ax.set_ylabel("Accuracy in the target")
names = ["no weights", "strength 0.8", "strength chosen by 150 labels", "features only"]
ax.legend(names, frameon=False, loc="lower left")
ax.spines[["top", "right"]].set_visible(False)

# %% [markdown]
# One draw per point; `benchmarks/structure_shift_study.py` repeats it with Monte-Carlo errors, for
# a graph network too.
#
# ## Predictions that are often wrong
#
# Wrong labels blur the structure: edges within classes look like edges between them. If errors do
# not depend on the edges, given the class, the blur can be undone. `confusion` takes the share of
# each class (columns) that is predicted as each class (rows). Here labels are predicted from the
# features alone, which are noisy, and their confusion is known from source nodes out of fold.

# %%
noisy = make_block_model(500, (0.04, 0.004), (0.04, 0.012), noise=1.5, random_state=2)
by_features = LogisticRegression(max_iter=500)
out_of_fold = cross_val_predict(by_features, noisy.X, noisy.y, cv=5)
confusion = confusion_matrix(noisy.y, out_of_fold, normalize="true").T
predicted = by_features.fit(noisy.X, noisy.y).predict(noisy.X_target)
fits = {}
for name, labels, Q in (
    ("true labels", noisy.y_target, None),
    ("predicted", predicted, None),
    ("predicted, corrected", predicted, confusion),
):
    fits[name] = StructuralReweighter(confusion=Q).fit(
        noisy.edge_index,
        noisy.y,
        edge_index_target=noisy.edge_index_target,
        y_target=labels,
    )
pd.DataFrame(
    {
        name: {
            "mean ratio within classes": np.diag(fitted.ratio_).mean(),
            "mean ratio between classes": fitted.ratio_[~np.eye(3, dtype=bool)].mean(),
        }
        for name, fitted in fits.items()
    }
).round(2)

# %% [markdown]
# Predictions that have looked at the graph make errors that depend on it, so for those the
# correction is only a rough one.
#
# ## In a graph network
#
# Tensors go in and come out: `StructuralReweighter.fit` takes the `edge_index` of a graph library
# as it is, and `edge_weights_` is a tensor on the same device. The layer has to obey the weights
# after normalising, for which ten lines do, whatever library the rest is from:
#
# ```python
# def convolve(x, edge_index, weights, normalize="mean"):
#     sender, receiver = edge_index
#     degree = receiver.bincount(minlength=len(x)).clamp(min=1).to(x.dtype)
#     if normalize == "mean":
#         scale = 1 / degree[receiver]
#     else:
#         scale = (degree[sender] * degree[receiver]) ** -0.5
#     messages = (scale * weights)[:, None] * x[sender]
#     return x.new_zeros(x.shape).index_add(0, receiver, messages)
# ```
#
# Train without weights first, such as for 200 of 300 epochs, then find new weights every ten to
# twenty epochs, always from the graph and never from weights:
#
# ```python
# for epoch in range(300):
#     if epoch >= 200 and epoch % 15 == 0:
#         predicted = network(x_target, edge_index_target).argmax(1)
#         reweighter.fit(edge_index, y, edge_index_target=edge_index_target, y_target=predicted)
#         weights = reweighter.edge_weights_
#     train_step(weights)
# ```
#
# ## What to check
#
# - Source and target may be lists of graphs, sparse adjacency matrices, or two parts of one graph
#   (`receivers` and `receivers_target`).
# - A class that nobody predicts in the target leaves its edges at weight one, with a warning. Pairs
#   of classes with few nodes have ratios that are mostly noise: `smoothing=1` tames them, and
#   `max_ratio` caps them.
# - Ratios above ten or so make a few edges dominate; look at `ratio_` before training on it.
# - Never judge the method with weights that were found from the target's true labels.

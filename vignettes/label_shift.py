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
# # When the classes come in other shares
#
# A classifier was trained where one digit was as common as another. Where it is used, some digits
# are rare. How each digit looks has not changed, only how often it occurs: this is label shift. The
# classifier's probabilities are then wrong in a way that can be put right without a single new
# label. This page estimates the new shares with intervals, adapts the classifier, and shows what
# goes wrong when its probabilities are not calibrated.
#
# Do not use it when the look of a class has changed (concept shift), or when the features moved
# and their relation to the label did not (covariate shift).

# %%
import warnings

import numpy as np
import pandas as pd
from scipy.special import softmax
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss
from sklearn.model_selection import train_test_split
from sklearn.naive_bayes import GaussianNB
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from reweight.exceptions import WeightWarning
from shift import (
    BBSE,
    MLLS,
    RLLS,
    LabelShiftClassifier,
    class_pair_plot,
    label_prior_plot,
    make_target_shift,
)

X, y = load_digits(return_X_y=True)
X, X_pool, y, y_pool = train_test_split(X, y, test_size=0.5, stratify=y, random_state=0)


def draw_target(prior, n_rows, rng):
    """Rows of the pool whose classes have these shares."""
    share = prior[y_pool] / np.bincount(y_pool)[y_pool]
    return rng.choice(len(y_pool), n_rows, p=share / share.sum())


rng = np.random.default_rng(0)
true_prior = rng.dirichlet(np.full(10, 1.0))
rows = draw_target(true_prior, 800, rng)
X_target, y_target = X_pool[rows], y_pool[rows]
true_prior = np.bincount(y_target, minlength=10) / len(y_target)
true_prior.round(3)

# %% [markdown]
# ## One estimator for everything
#
# `LabelShiftClassifier` cross-fits the classifier, so that no row is judged by a model that has
# seen it, estimates the weight of each class from the unlabelled target rows, and adapts its
# probabilities. The target rows go in as `X_target`; inside cross-validation pass them as a
# 1-tuple `(X_target,)`, or scikit-learn may cut them.

# %%
base = make_pipeline(StandardScaler(), GaussianNB(var_smoothing=1e-2))
model = LabelShiftClassifier(base, MLLS(), random_state=0).fit(X, y, X_target=X_target)
weighter = model.weighter_
pd.DataFrame(
    {
        "source": weighter.source_prior_,
        "target": weighter.target_prior_,
        "lower": weighter.target_prior_interval()[:, 0],
        "upper": weighter.target_prior_interval()[:, 1],
        "truth": true_prior,
    }
).round(3)

# %%
ax = label_prior_plot(
    weighter.source_prior_, weighter.target_prior_, weighter.target_prior_interval()
)
ax.plot(np.arange(10) + 0.2, true_prior, "k_", ms=12)
ax.set_title("Shares of the digits; black marks: truth")

# %% [markdown]
# Accuracy and log loss in the target, which in practice nobody could measure without labels:

# %%
plain = base.fit(X, y)
table = {"as trained": plain}
for strategy in ("adapt", "reweight", "both"):
    fitted = LabelShiftClassifier(base, MLLS(), strategy=strategy, random_state=0)
    table[strategy] = fitted.fit(X, y, X_target=X_target)
pd.DataFrame(
    {
        name: {
            "accuracy": fitted.score(X_target, y_target),
            "log loss": log_loss(y_target, fitted.predict_proba(X_target), labels=range(10)),
        }
        for name, fitted in table.items()
    }
).T.round(3)

# %% [markdown]
# "adapt" multiplies calibrated probabilities by the class weights. "reweight" fits the classifier
# anew with the weights of the rows; for a model that estimates each class by itself, such as this
# one, it changes little but the priors. "both" fits anew, and then calibrates and adapts what shift
# is left, so that no weight counts twice. Much of the gain in log loss is calibration: naive Bayes
# is far too sure of itself.
#
# ## Three estimators of the same weights
#
# `BBSE` solves linear equations from the confusion matrix, `RLLS` regularises them, and `MLLS`
# maximises the likelihood. The first two need no calibration; the last is the most precise if the
# probabilities are calibrated, which it does itself on the held-out rows.

# %%
with warnings.catch_warnings():
    # Few rows of a rare class can put its weight below zero, which is set to zero and said.
    warnings.simplefilter("ignore", WeightWarning)
    errors = {}
    methods = {
        "MLLS": MLLS(),
        "RLLS": RLLS(),
        "BBSE": BBSE(),
        "BBSE, hard": BBSE(soft=False),
        "no weights": None,
    }
    frozen = LogisticRegression(C=0.01, max_iter=2000).fit(X[:400] / 16, y[:400])
    P, labels = frozen.predict_proba(X[400:] / 16), y[400:]
    for concentration in (0.5, 1.0, 10.0):
        found = {name: [] for name in methods}
        for _ in range(30):
            prior = rng.dirichlet(np.full(10, concentration))
            rows = draw_target(prior, 500, rng)
            P_target = frozen.predict_proba(X_pool[rows] / 16)
            truth = np.bincount(y_pool[rows], minlength=10) / 500
            for name, method in methods.items():
                estimate = np.bincount(labels) / len(labels)
                if method is not None:
                    estimate = method.fit(P, labels, X_target=P_target).target_prior_
                found[name].append(np.abs(estimate - truth).sum())
        errors[concentration] = {name: np.mean(values) for name, values in found.items()}
pd.DataFrame(errors).rename_axis(columns="Dirichlet concentration").round(3)

# %% [markdown]
# The numbers are the mean over 30 targets of the summed absolute error of the ten shares; small
# concentrations are strong shifts. The classifier is deliberately weak. Likelihood makes the best
# of it; regularisation does not help here, as the shifts are far from the "no shift" it leans to.
#
# The confusion matrix says where the equations get their information: columns that look alike
# cannot be told apart, and `BBSE` warns when they nearly coincide.

# %%
class_pair_plot(BBSE().fit(P, labels, X_target=P_target).confusion_, digits=3)

# %% [markdown]
# ## Why calibration matters
#
# Three normal classes and Bayes' own rule, made overconfident: logits doubled and shifted. The true
# class weights are known.

# %%
means = np.array([[0.0, 0.0], [1.5, 0.0], [0.0, 1.5]])
data = make_target_shift(5000, design="classes", random_state=0)


def overconfident(rows):
    logits = rows @ means.T - 0.5 * (means**2).sum(axis=1) + np.log([0.5, 0.3, 0.2])
    return softmax(2 * logits + [0, 0.3, -0.2], axis=1)


P, P_target = overconfident(data.X), overconfident(data.X_target)
rows = {"truth": np.array([0.15, 0.25, 0.6]) / [0.5, 0.3, 0.2]}
for name, method in {
    "MLLS, not calibrated": MLLS(calibration=None),
    "MLLS, temperature": MLLS("ts"),
    "MLLS, temperature and bias": MLLS("bcts"),
    "MLLS, vector scaling": MLLS("vs"),
    "BBSE": BBSE(),
}.items():
    method.fit(P, data.y, X_target=P_target)
    rows[name] = method.class_weights_
    rows[name + " (s.e.)"] = method.stderr_
pd.DataFrame(rows, index=["class 0", "class 1", "class 2"]).T.round(3)

# %% [markdown]
# Without calibration the first weight is off by many standard errors, and its interval says nothing
# of it. With temperature and bias the estimate is right, and its standard errors are smaller than
# those of `BBSE`.
#
# ## What to check
#
# - Probabilities must come from rows that the classifier has not seen: the confusion matrix of
#   training rows is too good. `LabelShiftClassifier` sees to it.
# - A class without held-out rows cannot be estimated; this is an error, not a guess.
# - A `WeightWarning` about a negative weight or the condition of the confusion matrix means that
#   classes are too few or too alike for the rows at hand.
# - A class estimated at zero has an interval of no width, since normal intervals fail at the edge;
#   read it as "hardly any".
# - No method can prove that only the shares moved. But `MLLS` and `BBSE` look at different sides of
#   the probabilities, and under label shift they agree up to their standard errors. Where they do
#   not, either the assumption or the calibration is in doubt.

# %%
black_box = LabelShiftClassifier(base, BBSE(), random_state=0).fit(X, y, X_target=X_target)
pd.DataFrame(
    {
        "MLLS": weighter.class_weights_,
        "s.e.": weighter.stderr_,
        "BBSE": black_box.weighter_.class_weights_,
        "s.e. ": black_box.weighter_.stderr_,
    }
).round(2)

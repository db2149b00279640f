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
# # Outliers, boundaries and the effective number of points
#
# How much does a point add to a set of points? In the middle of a crowd next to nothing, at its edge
# more, on its own a whole point. The weighting vector puts a number on it: with similarities
# $Z_{ij} = \exp(-t\, d(x_i, x_j))$ it is the solution of $Zw = 1$. Its sum is the magnitude of the
# set, the effective number of distinct points when one looks at lengths of about $1/t$.
#
# Use it to see boundaries, to find outliers and novelties, to spread a sample evenly over the space
# that it covers, and to say how diverse it is. Do not use it on columns of different scales
# (standardise first), for outliers that are only sparse relative to their own surroundings (use
# `LocalOutlierFactor`), or where few of many columns matter.

# %%
import warnings

import numpy as np
import pandas as pd
from matplotlib import pyplot as plt
from sklearn.datasets import load_breast_cancer, make_moons
from sklearn.decomposition import PCA
from sklearn.ensemble import IsolationForest
from sklearn.metrics import roc_auc_score
from sklearn.neighbors import LocalOutlierFactor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from reweight import (
    MagnitudeOutlierDetector,
    WeightingVector,
    effective_sample_size,
    magnitude_function,
    magnitude_plot,
    weighting_vector_plot,
)
from reweight.exceptions import WeightWarning

rng = np.random.default_rng(0)

# %% [markdown]
# ## Boundaries
#
# A square filled evenly. The length $1/t$ is a tenth of its side, so that many points are within
# reach of each other. Inside, the weights are those of a solid body; edges stand out, and corners
# more.

# %%
square = (np.stack(np.meshgrid(np.arange(30), np.arange(30)), -1).reshape(-1, 2) + 0.5) / 30
square = square + 0.004 * rng.normal(size=square.shape)
weighting = WeightingVector(scale=10.0).fit(square)
ax = weighting_vector_plot(square, weighting.weighting_vector_)
ax.set_title(f"900 points, magnitude {weighting.magnitude_:.1f}")

# %% [markdown]
# ## One number over all lengths
#
# The magnitude goes from 1, when all points look like one, to their number. In between its slope on
# logarithmic axes is the dimension that one sees at that length: 1 for points on a curve, towards 2
# for points that fill a square, whose edges keep it below.

# %%
scales = np.geomspace(0.1, 3000, 30)
angle = np.sort(rng.uniform(0, 2 * np.pi, 900))
circle = np.c_[np.cos(angle), np.sin(angle)] / 2
fig, ax = plt.subplots(figsize=(6.4, 4.2), layout="constrained")
ax.spines[["top", "right"]].set_visible(False)
slopes = {}
for name, points in {"square": square, "circle": circle}.items():
    curve = magnitude_function(points, scales)
    magnitude_plot(scales, curve, ax, label=name)
    slopes[name] = np.gradient(np.log(curve), np.log(scales)).max()
ax.axhline(900, color="0.5", ls="--", lw=1)
pd.Series(slopes, name="largest slope").round(2).to_frame()

# %% [markdown]
# By default the scale is chosen so that the magnitude is half the number of points, which makes
# weights informative: neither all one nor all lost in a crowd. Beyond 2000 points that is
# extrapolated from subsamples.
#
# ## Outliers and novelties
#
# Two moons and 20 strangers. The score of a training row is the weight that it has, the score of a
# new row the weight that it would have: one quantity, so the same threshold serves both.

# %%
moons = make_moons(500, noise=0.06, random_state=0)[0]
strangers = rng.uniform([-1.5, -1.0], [2.5, 1.5], size=(20, 2))
X = np.r_[moons, strangers]
detector = MagnitudeOutlierDetector(contamination=0.04).fit(X)
flagged = detector.predict(X) == -1
ax = weighting_vector_plot(X, detector.outlier_scores_, marked=flagged)
ax.plot(*strangers.T, "kx", ms=5)
ax.set_title("Score; rings: flagged, crosses: strangers")

# %% [markdown]
# Some strangers landed on the moons, where nobody could tell; some rows of the rim are ringed in
# their stead. Where would a new row be called a novelty?

# %%
grid = np.stack(np.meshgrid(np.linspace(-1.6, 2.6, 120), np.linspace(-1.1, 1.6, 90)), -1)
score = -detector.score_samples(grid.reshape(-1, 2)).reshape(grid.shape[:2])
fig, ax = plt.subplots(figsize=(6.4, 4.2), layout="constrained")
shade = ax.contourf(grid[..., 0], grid[..., 1], score, levels=20, cmap="viridis_r")
ax.contour(grid[..., 0], grid[..., 1], score, levels=[-detector.offset_], colors="crimson")
ax.plot(*X.T, "k.", ms=2)
ax.set_aspect("equal")
ax.set_title("Weight that a new row would have; red: threshold")
fig.colorbar(shade, ax=ax)

# %% [markdown]
# ### Beside other detectors
#
# Benign tumours, among them 20 malignant ones, all methods with their defaults. Areas under the
# curve, mean of ten draws:

# %%
data = load_breast_cancer()
benign, malignant = data.data[data.target == 1], data.data[data.target == 0]
found = {}
for draw in range(10):
    some = np.random.default_rng(draw).choice(len(malignant), 20, replace=False)
    Z = StandardScaler().fit_transform(np.r_[benign, malignant[some]])
    label = np.arange(len(Z)) >= len(benign)
    scores = {
        "weight": MagnitudeOutlierDetector().fit(Z).outlier_scores_,
        "spread": MagnitudeOutlierDetector(criterion="spread").fit(Z).outlier_scores_,
        "weight, scale='median'": MagnitudeOutlierDetector(scale="median").fit(Z).outlier_scores_,
        "isolation forest": -IsolationForest(random_state=0).fit(Z).score_samples(Z),
        "local outlier factor": -LocalOutlierFactor().fit(Z).negative_outlier_factor_,
    }
    for name, values in scores.items():
        found.setdefault(name, []).append(roc_auc_score(label, values))
pd.DataFrame(found).mean().rename("area under the curve").round(3).to_frame()

# %% [markdown]
# It is one of several good detectors here, not the best; and a poor choice of the scale costs more
# than the choice among them. The "spread" criterion, one over the summed similarities, needs no
# system of equations. `benchmarks/results/magnitude_outliers.md` has more data sets, on some of
# which the weight is behind.
#
# In a pipeline, with the threshold left to `contamination="auto"`:

# %%
model = make_pipeline(StandardScaler(), MagnitudeOutlierDetector())
flagged = model.fit(benign).predict(malignant) == -1
pd.Series(
    {
        "benign rows flagged": (model.predict(benign) == -1).mean(),
        "malignant rows flagged": flagged.mean(),
    }
).round(3).to_frame("share")

# %% [markdown]
# ## Weights for a sample that came unevenly
#
# With `nonnegative=True` the weights can be passed on as `sample_weight`. Rows in the crowd count
# less, and rows that are nearly copies share their weight: no other non-negative weights make the
# sample more diverse at that scale.

# %%
crowd = np.r_[rng.normal(0, 0.1, size=(400, 2)), rng.uniform(-1, 1, size=(100, 2))]
even = WeightingVector(scale=5.0, nonnegative=True).fit(crowd)
inside = np.linalg.norm(crowd, axis=1) < 0.3
pd.Series(
    {
        "share of rows in the crowd": inside.mean(),
        "share of weight in the crowd": even.weights_[inside].sum() / len(crowd),
        "rows without weight": (even.weights_ == 0).sum(),
        "effective sample size": effective_sample_size(even.weights_),
        "magnitude": even.magnitude_,
    }
).round(2).to_frame("value")

# %%
fig, ax = plt.subplots(figsize=(5.2, 4.6), layout="constrained")
weighting_vector_plot(crowd, even.weighting_vector_, ax)
ax.set_title("Non-negative weights at scale 5")

# %% [markdown]
# ## Many rows
#
# To 8000 points the equations are solved exactly. Beyond, in few columns each point is conditioned
# on its nearest among earlier ones, in time linear in the rows. That is accurate while the range
# $1/t$ is short beside the distance to the last neighbour, as it is with the default scale.
# `approximation_ok_` says whether it is, judged by that range and by how far $Zw$ is from one at
# random points; where it is not, there is a warning.

# %%
many = rng.normal(size=(20_000, 2))
near = WeightingVector(random_state=0).fit(many)
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always", WeightWarning)
    far = WeightingVector(scale=2.0, random_state=0).fit(many)
print(caught[0].message)
pd.DataFrame(
    {
        "solver": [near.solver_, far.solver_],
        "scale": [near.scale_, far.scale_],
        "magnitude": [near.magnitude_, far.magnitude_],
        "largest deviation of Z w": [near.residual_norm_, far.residual_norm_],
        "approximation_ok_": [near.approximation_ok_, far.approximation_ok_],
    },
    index=["default scale", "scale=2"],
).round(3)

# %% [markdown]
# ## Which points are alike?
#
# Weights can be looked at in any picture of the rows, such as principal components. Points that are
# lonely in thirty columns need not lie at the rim of two.

# %%
Z = StandardScaler().fit_transform(benign)
fitted = WeightingVector().fit(Z)
ax = weighting_vector_plot(
    PCA(2).fit_transform(Z), fitted.weighting_vector_, marked=fitted.weighting_vector_ > 0.95
)
ax.set_xlabel("First principal component")
ax.set_ylabel("Second")

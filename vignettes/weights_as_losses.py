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
# # Weights inside a training loop
#
# A weighter of `shift` or `causal` gives one number per training row. A network is trained on
# batches, shuffled, perhaps with accumulated gradients, perhaps on several machines. This page
# carries the numbers into the loop: one line builds the loss weight, one line replaces
# `loss.mean()`. It also shows what is easily done wrong on the way: dividing by the weights of the
# batch, and weighting twice.

# %%
import copy

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch
from sklearn.linear_model import Ridge
from torch import nn
from torch.nn.functional import mse_loss
from torch.utils.data import DataLoader, TensorDataset

from reweight import effective_sample_size
from reweight.torch import (
    Anneal,
    ImportanceSampler,
    IndexWeighter,
    LossBasedWeighter,
    WithIndex,
)
from shift import ULSIF

torch.set_num_threads(1)

# %% [markdown]
# ## A network that is too small for both populations
#
# The outcome is a curve. The source, where it is known, lies mostly left of the target, where we
# predict. A network with two hidden units cannot follow the whole curve, so it matters where it
# spends them.


# %%
def curve(x):
    return np.sin(2.2 * x) + 0.4 * x


rng = np.random.default_rng(0)
x_source = rng.normal(-0.6, 1.0, size=(600, 1))
x_target = rng.normal(0.9, 0.6, size=(600, 1))
y_source = curve(x_source) + 0.2 * rng.normal(size=x_source.shape)
y_target = curve(x_target) + 0.2 * rng.normal(size=x_target.shape)

weighter = ULSIF(random_state=0).fit(x_source, X_target=(x_target,))
effective_sample_size(weighter.weights_)

# %% [markdown]
# `IndexWeighter.from_estimator` is the bridge. `WithIndex` makes the data set say which row each
# item is, so that shuffling does no harm.

# %%
rows = WithIndex(
    TensorDataset(
        torch.tensor(x_source, dtype=torch.float32), torch.tensor(y_source, dtype=torch.float32)
    )
)


def small_network(seed):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(1, 2), nn.Tanh(), nn.Linear(2, 1))


def train(reduce, seed, n_epochs=60, batch_size=60):
    """An ordinary training loop; only the reduction of the loss is ours."""
    net = small_network(seed)
    optimiser = torch.optim.Adam(net.parameters(), lr=0.05)
    loader = DataLoader(
        rows, batch_size, shuffle=True, generator=torch.Generator().manual_seed(seed)
    )
    for _ in range(n_epochs):
        for index, x, y in loader:
            loss = mse_loss(net(x), y, reduction="none")[:, 0]
            optimiser.zero_grad()
            reduce(loss, index).backward()
            optimiser.step()
    return net


weigh = IndexWeighter.from_estimator(weighter)
plain = train(lambda loss, index: loss.mean(), seed=1)
weighted = train(lambda loss, index: weigh(loss, index=index), seed=1)

# %%
grid = torch.linspace(-4, 3, 200)[:, None]
fig, axes = plt.subplots(1, 2, figsize=(10, 3.8), sharex=True, layout="constrained")
axes[0].scatter(x_source, y_source, s=4, color="0.75", label="source")
axes[0].scatter(x_target, y_target, s=4, color="#D55E00", alpha=0.3, label="target (not seen)")
with torch.no_grad():
    axes[0].plot(grid, plain(grid), color="0.3", label="unweighted network")
    axes[0].plot(grid, weighted(grid), color="#0072B2", lw=2, label="weighted network")
axes[0].set(xlabel="x", ylabel="y", ylim=(-4, 3))
axes[0].legend(frameon=False, loc="lower right")
order = np.argsort(x_source[:, 0])
axes[1].plot(x_source[order], weighter.weights_[order], color="#0072B2")
axes[1].axhline(1, color="0.7", lw=1)
axes[1].set(xlabel="x", ylabel="weight of a source row (mean one)")


# %% [markdown]
# One start proves little, so here are four, with the error in the target that the networks never
# saw.


# %%
def target_error(net):
    with torch.no_grad():
        return mse_loss(net(torch.tensor(x_target).float()), torch.tensor(y_target).float()).item()


errors = pd.DataFrame(
    [
        {
            "unweighted": target_error(train(lambda loss, index: loss.mean(), seed)),
            "weighted": target_error(train(lambda loss, index: weigh(loss, index=index), seed)),
        }
        for seed in range(2, 6)
    ]
)
errors.rename_axis("start").round(3)

# %% [markdown]
# The noise alone has variance 0.04. Where the two units settle well, the weighted network comes
# close to it; the unweighted one never does, because its units serve the source. Weights do not
# cure bad starts.
#
# ## It is the same weight as `sample_weight`
#
# For a linear model there is nothing to tune, so the loop must reach what scikit-learn computes.

# %%
exact = Ridge(alpha=0).fit(x_source, y_source[:, 0], sample_weight=weighter.weights_)
line = nn.Linear(1, 1)
optimiser = torch.optim.LBFGS(line.parameters(), max_iter=100)
x_rows, y_rows = (torch.tensor(part, dtype=torch.float32) for part in (x_source, y_source))


def closure():
    optimiser.zero_grad()
    losses = mse_loss(line(x_rows), y_rows, reduction="none")[:, 0]
    loss = weigh(losses, index=torch.arange(len(losses)))
    loss.backward()
    return loss


optimiser.step(closure)
pd.DataFrame(
    {
        "slope": [exact.coef_[0], line.weight.item()],
        "intercept": [exact.intercept_, line.bias.item()],
    },
    index=["Ridge(alpha=0), sample_weight", "training loop"],
).round(4)

# %% [markdown]
# The bridge goes the other way, too: `weights` returns what a call would use, one number a row,
# and any weighter of losses, here one that prefers large losses times the one above, gives a
# `sample_weight` for scikit-learn.

# %%
squares = (y_rows - line(x_rows))[:, 0] ** 2
both = weigh * LossBasedWeighter(temperature=0.5)
sample_weight = both.weights(squares, index=torch.arange(len(squares))).numpy(force=True)
refit = Ridge(alpha=0).fit(x_source, y_source[:, 0], sample_weight=sample_weight)
print(f"mean weight {sample_weight.mean():.4f}, slope {refit.coef_[0]:.4f}")

# %% [markdown]
# ## What to divide by
#
# `normalize="dataset"`, the default of `IndexWeighter`, divides by the mean weight of the training
# set. Dividing by the sum of the weights of the batch looks more natural and is biased: a batch
# with much weight is divided by much. The smaller the batch, the larger the error. Here is the mean
# loss over all batches of an epoch against the weighted mean loss of the data.

# %%
# Weights of high variance that go along with what is averaged, as density ratios often do.
rng = np.random.default_rng(1)
skewed = rng.gamma(0.3, size=4096)
value = torch.tensor(rng.normal(size=4096) + 0.3 * np.log(skewed))
truth = float((torch.tensor(skewed) * value).sum() / skewed.sum())
table = {}
for batch_size in (4, 16, 64, 256):
    batches = torch.randperm(4096, generator=torch.Generator().manual_seed(0)).split(batch_size)
    table[batch_size] = {}
    for mode in ("batch", "dataset"):
        by_mode = IndexWeighter(skewed, normalize=mode)
        mean = np.mean([by_mode(value[index], index=index).item() for index in batches])
        table[batch_size][f"error, normalize={mode!r}"] = mean - truth
pd.DataFrame(table).T.rename_axis("batch size").round(4)

# %% [markdown]
# For weights whose scale means nothing, such as those that follow the loss, the sum of the batch is
# the right divisor. If memory forces batches to be small, `normalize="deferred"` accumulates and
# divides once, and gives the gradient of the large batch.


# %%
def accumulated_gradient(micro_batch):
    net = small_network(0)
    deferred = IndexWeighter.from_estimator(weighter, normalize="deferred")
    for index in torch.arange(600).split(micro_batch):
        loss = mse_loss(net(x_rows[index]), y_rows[index], reduction="none")[:, 0]
        deferred(loss, index=index).backward()
    deferred.finish_step(net.parameters())
    return torch.cat([parameter.grad.flatten() for parameter in net.parameters()])


float((accumulated_gradient(8) - accumulated_gradient(600)).abs().max())

# %% [markdown]
# ## Sample, or weight, but not both
#
# Rows of high weight can also be drawn more often. `ImportanceSampler` draws in proportion to a
# power of the weights, and says what is left for the loss. Full weights in both places would square
# them. All processes draw the same list and share it out, and an epoch can be resumed in its
# middle.

# %%
sampler = ImportanceSampler.from_estimator(weighter, power=0.5, num_samples=256)
residual = IndexWeighter(sampler.residual_weights(), normalize="none")
with torch.no_grad():
    fixed = mse_loss(plain(x_rows), y_rows, reduction="none")[:, 0]
exact_loss = float(fixed.numpy() @ weighter.weights_ / weighter.weights_.sum())
both = IndexWeighter.from_estimator(weighter)
estimates = {"residual weights": [], "full weights again (wrong)": []}
for _ in range(300):
    drawn = torch.tensor(list(sampler))
    estimates["residual weights"].append(residual(fixed[drawn], index=drawn).item())
    estimates["full weights again (wrong)"].append(both(fixed[drawn], index=drawn).item())
summary = pd.DataFrame(estimates).agg(["mean", "sem"]).T
summary.assign(exact=exact_loss).round(4)

# %% [markdown]
# ## Weights multiply
#
# Weighters multiply before they are normalised, once. Here the density ratio meets a rule that
# turns from easy rows as training goes on: `LossBasedWeighter` looks only at the losses of the
# batch. `last_` shows what the latest batch looked like without slowing the loop.

# %%
focus = LossBasedWeighter("linupper", temperature=Anneal(5.0, 0.5, steps=400), warmup_steps=150)
product = IndexWeighter.from_estimator(weighter) * focus
ratio_alone = IndexWeighter.from_estimator(weighter)
history = {"density ratio alone": [], "density ratio and focus": []}


def reduce(loss, index):
    reduced = product(loss, index=index)
    ratio_alone(loss, index=index)
    history["density ratio alone"].append(ratio_alone.last_["ess_fraction"])
    history["density ratio and focus"].append(product.last_["ess_fraction"])
    return reduced


both_rules = train(reduce, seed=1)
shares = pd.DataFrame({name: torch.stack(steps).numpy() for name, steps in history.items()})
fig, ax = plt.subplots(figsize=(7, 3), layout="constrained")
shares.rolling(50).mean().plot(ax=ax, color=["0.5", "#0072B2"])
ax.axvline(150, color="0.7", lw=1)
ax.text(155, ax.get_ylim()[0], " end of warm-up", va="bottom", color="0.4")
ax.set(xlabel="training step", ylabel="effective share of a batch")
ax.legend(frameon=False)

# %% [markdown]
# Everything that evolves is in `state_dict()`, so that a run goes on where it stopped.

# %%
restored = copy.deepcopy(product)
restored.load_state_dict(product.state_dict())
dict(restored.state_dict())["step"]

# %% [markdown]
# ## Elsewhere
#
# * **Several processes.** Under `DistributedDataParallel` call the weighter as here; its loss
#   carries the factor that makes the averaged gradient that of the global batch, also when the
#   parts differ in size.
# * **Lightning.** Keep the weighter as a submodule and call it in `training_step`.
# * **Hugging Face Trainer.** `Trainer(compute_loss_func=trainer_compute_loss(weigh))`.
# * **skorch.** `criterion=WeightedCriterion`, with `WeightedNetMixin` for weights by index.
# * **Your own rule.** Subclass `LossWeighter` and override `raw_weights`.

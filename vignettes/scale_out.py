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
# # Rows that do not fit into memory
#
# Balancing weights, and effects with linear nuisances, need nothing of the rows but sums. So the
# rows can stay where they are: in files, in a database, on other machines. `fit_chunks` reads them
# part by part, several times, and adds up. This page balances ten million rows here, says what a
# hundred million take, and spreads the work over a cluster of workers that may die on the way.
#
# Do not use it when the rows fit into memory: a single pass over an array is faster than a file.

# %%
import os
import signal
import tempfile
import threading
import time
from functools import partial
from pathlib import Path

import joblib
import numpy as np
import pandas as pd
from distributed import Client, LocalCluster
from scipy.special import expit
from sklearn.linear_model import LogisticRegression, Ridge

from causal import EntropyBalancing, PartiallyLinearDML, make_effect_target

N_CHUNKS, CHUNK_ROWS, N_COLUMNS = 20, 500_000, 5
EFFECT = 1.5
folder = Path(tempfile.mkdtemp())

# %% [markdown]
# ## A study in twenty files
#
# A chunk is whatever a callable without arguments loads. Here it is a file in single precision;
# it may as well be a query, or one partition of a table. Members of a chunk may also be blocks of
# Dask arrays: `[(X.blocks[i], t.blocks[i]) for i in range(X.numblocks[0])]`.


# %%
def write(number):
    """A part of an observational study: the first columns drive both treatment and outcome."""
    rng = np.random.default_rng(number)
    X = rng.standard_normal((CHUNK_ROWS, N_COLUMNS), dtype=np.float32)
    t = rng.random(CHUNK_ROWS) < expit(0.5 * X[:, 0] - 0.3 * X[:, 1])
    y = X[:, 0] + 0.5 * X[:, 1] + EFFECT * t + rng.standard_normal(CHUNK_ROWS)
    np.save(folder / f"{number}.npy", np.column_stack([X, t, y]).astype(np.float32))


for number in range(N_CHUNKS):
    write(number)


def load(folder, number, target):
    """The covariates and treatment of one file, with the outcome if asked."""
    rows = np.load(folder / f"{number}.npy")
    X, t, y = rows[:, :N_COLUMNS], rows[:, N_COLUMNS], rows[:, N_COLUMNS + 1]
    return (X, make_effect_target(y, t)) if target else (X, t.astype(int))


balancing_chunks = [partial(load, folder, number, False) for number in range(N_CHUNKS)]
effect_chunks = [partial(load, folder, number, True) for number in range(N_CHUNKS)]
size = sum(path.stat().st_size for path in folder.iterdir()) / 1e6
print(f"{N_CHUNKS * CHUNK_ROWS:,} rows in {size:.0f} MB of files")

# %% [markdown]
# ## Ten million rows, one chunk at a time

# %%
seconds = {}
start = time.perf_counter()
balancing = EntropyBalancing("ATT").fit_chunks(balancing_chunks)
seconds["entropy balancing"] = time.perf_counter() - start

X, t = balancing_chunks[0]()
weights = balancing.predict_weights(X, t)
before = X[t == 1].mean(axis=0) - X[t == 0].mean(axis=0)
after = X[t == 1].mean(axis=0) - np.average(X[t == 0], axis=0, weights=weights[t == 0])
print(f"largest imbalance over all rows: {np.max(balancing.max_imbalance_):.1e} sd")
pd.DataFrame({"difference in one file": before, "weighted": after}).round(3)

# %% [markdown]
# The means of both arms agree over all rows together; those of one file agree up to the noise of
# half a million rows. The weights of a file are a function of its rows, `predict_weights`, so that
# they are never all in memory either.
#
# The partially linear effect takes ridge and logistic nuisances of all five folds from sums, too.

# %%
start = time.perf_counter()
effect = PartiallyLinearDML(Ridge(), LogisticRegression(), random_state=0)
effect.fit_chunks(effect_chunks)
seconds["partially linear effect"] = time.perf_counter() - start
effect.summary().round(5)

# %% [markdown]
# ## What a hundred million rows take
#
# Time grows with rows times the number of passes, and memory does not grow at all: it is one chunk
# and a few matrices of columns by columns. On paper, for the columns here:

# %%
chunk_mb = CHUNK_ROWS * (N_COLUMNS + 2) * 8 / 1e6
pd.DataFrame(
    {
        "1e7 rows, measured (s)": pd.Series(seconds),
        "1e8 rows, on paper (s)": pd.Series(seconds) * 10,
        "1e8 rows in memory (MB)": 1e8 * (N_COLUMNS + 2) * 8 / 1e6,
        "1e8 rows in chunks (MB)": chunk_mb,
    }
).round(0)

# %% [markdown]
# ## A cluster, one of whose workers dies
#
# Chunks and folds are mapped by joblib, whose Dask backend runs them on a cluster. Sums are added
# in the order of the chunks, whoever computed them: the result has the same bits as above. Here a
# worker is killed half a second into the fit.

# %%
with (
    LocalCluster(
        n_workers=2, threads_per_worker=1, dashboard_address=None, silence_logs=50
    ) as cluster,
    Client(cluster),
    joblib.parallel_config(backend="dask"),
):
    victim = next(iter(cluster.workers.values())).process.pid
    threading.Timer(0.5, os.kill, (victim, signal.SIGKILL)).start()
    start = time.perf_counter()
    survived = EntropyBalancing("ATT").fit_chunks(balancing_chunks, n_jobs=-1)
    print(f"{time.perf_counter() - start:.1f} s on two workers")

print("same bits:", bool((survived.predict_weights(X, t) == weights).all()))

# %% [markdown]
# The same two lines, `Client(...)` and `parallel_config(backend="dask")`, spread cross-fitting
# (`RLearner(..., n_jobs=-1)`), the bootstrap (`WeightedEffect(..., n_jobs=-1)`) and
# `GridSearchCV(..., n_jobs=-1)`. In a grid search scikit-learn shares the data, which joblib gives
# to one worker; if that one dies, joblib waits for ever. Let the data travel with each task instead:
#
# ```python
# async def travel_with_the_task(data, **kwargs):
#     return data
#
# client.scatter = travel_with_the_task
# ```
#
# **If the rows fit into memory**, leave all this away. **If they do not, and the method is not one
# of sums** (kernel mean matching, say), fit it on a sample of rows and call `predict_weights` on
# the chunks.

# %%
for path in folder.iterdir():
    path.unlink()
folder.rmdir()

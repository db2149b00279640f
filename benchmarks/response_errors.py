"""The error detector beside residuals, the scores of its source paper, and cleanlab.

    python benchmarks/response_errors.py [--runs 20] [--forest-runs 8] [--jobs 2]

Writes benchmarks/results/response_errors.md. All methods see the same tables, learner and kind of
folds. The paper's scores are computed here as its authors' code does: the second regressor learns
squared residuals, and the spread is that of ten subsamples of 80 %. cleanlab comes from its
package, with its defaults.
"""

import argparse
import time
from pathlib import Path

import numpy as np
import pandas as pd
from joblib import Parallel, delayed
from sklearn.base import clone
from sklearn.ensemble import RandomForestRegressor
from sklearn.linear_model import LinearRegression
from sklearn.metrics import auc, precision_recall_curve
from sklearn.model_selection import KFold, cross_val_predict

from reweight import ResponseErrorDetector, make_response_errors

RESULTS = Path(__file__).parent / "results" / "response_errors.md"
OWN = "ResponseErrorDetector"
N_SUBSAMPLES = 10


def area(is_error, scores):
    """Area under precision and recall by trapezoids, as in the paper."""
    precision, recall, _ = precision_recall_curve(is_error, scores)
    return auc(recall, precision)


def paper_scores(estimator, X, y, seed):
    """Residuals, and the paper's two scores."""
    folds = KFold(5, shuffle=True, random_state=seed)
    residual = np.abs(y - cross_val_predict(estimator, X, y, cv=folds))
    squared = cross_val_predict(estimator, X, residual**2, cv=folds)
    aleatoric = np.sqrt(np.abs(squared)) + 1e-12
    rng = np.random.default_rng(seed)
    draws = np.empty((N_SUBSAMPLES, len(y)))
    for draw in draws:
        inside = np.sort(rng.permutation(len(y))[: int(0.8 * len(y))])
        draw[:] = clone(estimator).fit(X[inside], y[inside]).predict(X)
        draw[inside] = cross_val_predict(estimator, X[inside], y[inside], cv=folds)
    epistemic = draws.std(axis=0)
    return {
        "residual": residual,
        "paper, sum": residual / (epistemic + aleatoric),
        "paper, geometric": residual / np.sqrt(epistemic * aleatoric),
    }


def cleanlab_scores(estimator, X, y, seed):
    """Scores and flags of cleanlab."""
    from cleanlab.regression.learn import CleanLearning

    # It draws from the global generator, which nothing else here uses.
    issues = CleanLearning(clone(estimator), seed=seed).find_label_issues(X, y)
    return -issues["label_quality"].to_numpy(), issues["is_label_issue"].to_numpy()


def timed(function, *arguments):
    start = time.process_time()
    return function(*arguments), time.process_time() - start


def own_scores(estimator, X, y, seed):
    """Scores and flags of the detector with its defaults."""
    fitted = ResponseErrorDetector(clone(estimator), random_state=seed, refit=False).fit(X, y)
    return fitted.scores_, fitted.is_error_


def compare(design, learner, n_samples, shift, runs):
    """Area, flagged share, recall, false share and seconds: a record a method and table."""
    records = []
    for run in range(runs):
        estimator = LinearRegression()
        if learner == "forest":
            estimator = RandomForestRegressor(30, random_state=run)
        share = 0.0 if shift == 0 else 0.1
        data = make_response_errors(
            n_samples, design=design, shift=shift, error_share=share, random_state=1000 + run
        )
        arguments = estimator, data.X, data.y, run
        scores, seconds = timed(paper_scores, *arguments)
        found = {name: (values, None, seconds) for name, values in scores.items()}
        for name, method in (("cleanlab", cleanlab_scores), (OWN, own_scores)):
            (values, flags), seconds = timed(method, *arguments)
            found[name] = values, flags, seconds
        for name, (values, flags, seconds) in found.items():
            record = {"method": name, "run": run, "seconds": seconds}
            if shift:
                record["area"] = area(data.is_error, values)
            if flags is not None:
                record["flagged"] = flags.mean()
                record["false"] = np.mean(~data.is_error[flags]) if flags.any() else 0.0
                record["recall"] = data.is_error[flags].sum() / max(1, data.is_error.sum())
            records.append(record)
    return pd.DataFrame(records)


def study(rows):
    """One record a row of the tables."""
    areas, counts = [], []
    for design, learner, n_samples, shift, runs in rows:
        records = compare(design, learner, n_samples, shift, runs)
        table = records.groupby("method", sort=False).mean()
        label = {"design": design, "learner": learner, "n": n_samples, "shift": shift, "runs": runs}
        if shift:
            means = table["area"]
            best = means.drop(OWN).idxmax()
            by_table = records.pivot_table(index="run", columns="method", values="area")
            # All methods see the same tables, so that differences vary less than areas.
            ahead = by_table[OWN] - by_table[best]
            areas.append(
                {
                    **label,
                    **means.round(3),
                    "minus best other": round(ahead.mean(), 3),
                    "s.e. of difference": round(ahead.sem(), 3),
                }
            )
        for method in ("cleanlab", OWN):
            row = table.loc[method]
            counts.append(
                {
                    **label,
                    "method": method,
                    "flagged": round(row["flagged"], 3),
                    "recall": round(row["recall"], 3) if shift else "",
                    "false among flagged": round(row["false"], 3),
                    "CPU seconds": round(row["seconds"], 2),
                }
            )
        print(label, flush=True)
    return pd.DataFrame(areas), pd.DataFrame(counts)


def markdown(table):
    """A table in Markdown."""
    lines = [table.columns, ["---"] * len(table.columns), *table.itertuples(index=False)]
    return "\n".join("| " + " | ".join(str(cell) for cell in line) + " |" for line in lines)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--runs", type=int, default=20)
    parser.add_argument("--forest-runs", type=int, default=8)
    parser.add_argument("--jobs", type=int, default=1)
    options = parser.parse_args()
    linear, forest = options.runs, options.forest_runs
    rows = [("linear", "linear", 200, shift, linear) for shift in (-3, -2, -1, 1, 2, 3)]
    rows += [("linear", "linear", 400, shift, linear) for shift in (0, 1, 2, 3)]
    rows += [("heteroscedastic", "linear", 400, shift, linear) for shift in (0, 1, 2, 3)]
    rows += [("bimodal", "forest", 200, shift, forest) for shift in (-3, -2, -1, 0, 1, 2, 3)]
    rows += [("bimodal", "forest", 400, 1, forest)]
    parts = Parallel(n_jobs=options.jobs)(delayed(study)([row]) for row in rows)
    areas, counts = (pd.concat(tables).fillna("") for tables in zip(*parts, strict=True))
    RESULTS.write_text(
        "# Wrong numbers in a column\n\n"
        "Written by `benchmarks/response_errors.py`. One row in ten has `shift` added to its "
        "outcome. Designs are those of `make_response_errors`; learners are linear regression and "
        "a forest of 30 trees.\n\n"
        "## Ranking: area under precision and recall\n\n"
        "All methods see the same tables; the last column is the standard error of the mean "
        "difference from the best of the others.\n\n"
        f"{markdown(areas)}\n\n"
        "## Counting: rows flagged by defaults\n\n"
        "Shift 0 is a table without errors. Ours flags at a false discovery rate of 0.2. CPU "
        "seconds are those of one table.\n\n"
        f"{markdown(counts)}\n"
    )


if __name__ == "__main__":
    main()

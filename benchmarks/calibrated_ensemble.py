"""Standard deviations of ensembles before and after calibration, on rows kept apart.

    python benchmarks/calibrated_ensemble.py [--runs 5]

Writes benchmarks/results/calibrated_ensemble.md. Members are bagged trees. "raw" is the standard
deviation of the members; the others calibrate it on held-out rows.
"""

import argparse
import time
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.datasets import load_diabetes, make_friedman1
from sklearn.tree import DecisionTreeRegressor

from reweight import (
    CalibratedEnsembleRegressor,
    StdCalibrator,
    make_response_errors,
    uncertainty_report,
)
from reweight.exceptions import WeightWarning

RESULTS = Path(__file__).parent / "results" / "calibrated_ensemble.md"
SHOWN = ("z_std", "z_p95", "coverage_2std", "ence", "rank_correlation", "nll", "crps")
VARIANTS = {
    "bins": {},
    "bins, mad": {"scale": "mad"},
    "scaling": {"method": "scaling"},
    "affine": {"method": "affine"},
    "isotonic": {"method": "isotonic"},
    "bins, out of bag": {"cv": "oob", "n_estimators": 40},
}


def friedman(seed):
    X, y = make_friedman1(2000, random_state=seed)
    noise = np.random.default_rng(seed).normal(size=2000)
    return X, y + noise * (0.5 + 2 * X[:, 0])


def bimodal(seed):
    data = make_response_errors(2000, design="bimodal", error_share=0.0, random_state=seed)
    return data.X, data.y


def diabetes(seed):
    X, y = load_diabetes(return_X_y=True)
    order = np.random.default_rng(seed).permutation(len(y))
    return X[order], y[order]


def replicate(table, seed):
    X, y = table(seed)
    half = len(y) // 2
    tree = DecisionTreeRegressor(min_samples_leaf=10)
    records, shared = [], None
    for name, options in VARIANTS.items():
        start = time.process_time()
        if shared is None or "cv" in options:
            model = CalibratedEnsembleRegressor(
                tree, **{"n_estimators": 8, "resample": "bootstrap", "random_state": seed} | options
            ).fit(X[:half], y[:half])
            seconds = time.process_time() - start
        if shared is None:
            shared = model
        mean, std = model.predict(X[half:], return_std=True)
        covered = model.predict_interval(X[half:], 0.95)
        if "cv" not in options:
            # The members are those of the first variant; the calibration alone differs.
            spread = shared.predict_members(X[half:]).std(axis=1)
            error = y[shared.calibration_rows_] - shared.calibration_mean_
            calibrator = StdCalibrator(**options).fit(shared.calibration_std_, error)
            std = calibrator.transform(spread)
        if name == "bins":
            records.append(record("raw", y[half:], mean, spread, np.nan, 0.0))
        inside = np.mean((covered[:, 0] <= y[half:]) & (y[half:] <= covered[:, 1]))
        own = name in ("bins", "bins, out of bag")
        records.append(record(name, y[half:], mean, std, inside if own else np.nan, seconds))
    return records


def record(name, y, mean, std, inside, seconds):
    report = uncertainty_report(y, mean, np.maximum(std, 1e-6 * np.median(std)))
    shown = {key: report[key] for key in SHOWN}
    return {"method": name, **shown, "95 % interval": inside, "fit seconds": seconds}


def markdown(table):
    lines = [table.columns, ["---"] * len(table.columns), *table.itertuples(index=False)]
    text = "\n".join("| " + " | ".join(str(cell) for cell in line) + " |" for line in lines)
    return text.replace(" nan ", "  ")


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--runs", type=int, default=5)
    runs = parser.parse_args().runs
    warnings.simplefilter("ignore", WeightWarning)
    text = [
        (
            "# Calibrated ensembles\n\n"
            f"Written by `benchmarks/calibrated_ensemble.py`; means of {runs} runs on rows kept "
            "apart. Right values: z_std 1, z_p95 1.96 for normal errors, coverage_2std 0.954, ence "
            "0; the interval is conformal. Eight bagged trees and five folds, or forty and "
            "out-of-bag rows."
        )
    ]
    for table in (friedman, bimodal, diabetes):
        records = [row for seed in range(runs) for row in replicate(table, seed)]
        means = pd.DataFrame(records).groupby("method", sort=False).mean().round(3)
        text.append(f"## {table.__name__}\n\n{markdown(means.reset_index())}")
        print(table.__name__, flush=True)
    RESULTS.write_text("\n\n".join(text) + "\n")


if __name__ == "__main__":
    main()

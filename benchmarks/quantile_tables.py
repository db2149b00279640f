"""Quantile aggregation: losses of each kind of weights, what order costs, coverage, and time.

    python benchmarks/quantile_tables.py [--draws 4] [--sets 2000] [--without-highs]

Writes benchmarks/results/quantile_tables.md. The first table repeats one draw of 11 000 rows, of
which an independent prototype reported the figures beside ours; 5000 rows train, 5000 test. Times
are processor seconds of one thread, the best of two to four runs, one run for HiGHS.
"""

import argparse
import os

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("NUMBA_NUM_THREADS", "1")

import time
import warnings
from pathlib import Path

import numpy as np
import pandas as pd

from reweight import (
    ConformalQuantileCalibrator,
    QuantileAggregator,
    interval_calibration_error,
    isotonic_quantiles,
    make_quantile_models,
    pinball_loss,
    sort_quantiles,
    sweep_quantiles,
)

RESULT = Path(__file__).parent / "results" / "quantile_tables.md"
GRANULARITIES = ("average", "median", "coarse", "medium", "fine")
# Test losses of the prototype on the same draw; it had no fine weights.
PROTOTYPE = {"average": 0.19187, "median": 0.19355, "coarse": 0.17541, "medium": 0.17491}
TRAIN, TEST = slice(0, 5000), slice(6000, 11_000)


def summary(values: np.ndarray) -> tuple[float, float]:
    return float(values.mean()), float(values.std(ddof=1) / np.sqrt(len(values)))


def one_draw(seed: int) -> dict[str, tuple[float, float]]:
    """Training and test loss of each kind of weights."""
    data = make_quantile_models(11_000, random_state=seed)
    losses = {}
    for granularity in GRANULARITIES:
        aggregator = QuantileAggregator(
            data.quantiles, granularity=granularity, postprocess=None
        ).fit(data.Q[TRAIN], data.y[TRAIN])
        test = pinball_loss(data.y[TEST], aggregator.predict(data.Q[TEST]), data.quantiles)
        losses[granularity] = (aggregator.objective_, test)
    return losses


def table_of_losses(draws: int) -> pd.DataFrame:
    """One draw beside the prototype, and the excess over medium weights over many draws."""
    every = [one_draw(seed) for seed in range(draws)]
    rows = []
    for granularity in GRANULARITIES:
        train, test = every[0][granularity]
        excess = np.array([draw[granularity][1] / draw["medium"][1] - 1 for draw in every])
        mean, error = summary(100 * excess)
        rows.append(
            {
                "weights": granularity,
                "train": f"{train:.5f}",
                "test": f"{test:.5f}",
                "prototype": f"{PROTOTYPE[granularity]:.5f}" if granularity in PROTOTYPE else "",
                "excess over medium, %": f"{mean:.2f}",
                "mc error": f"{error:.2f}",
            }
        )
    return pd.DataFrame(rows)


def table_of_orders(draws: int) -> pd.DataFrame:
    """Medium weights fitted on few rows: loss, and rows whose loss an order raises."""
    orders = {
        "none": np.asarray,
        "sort": sort_quantiles,
        "isotonic": isotonic_quantiles,
        "sweep": sweep_quantiles,
    }
    figures = {name: [] for name in orders}
    for seed in range(draws):
        data = make_quantile_models(2300, random_state=seed)
        aggregator = QuantileAggregator(data.quantiles, postprocess=None)
        raw = aggregator.fit(data.Q[:300], data.y[:300]).predict(data.Q[300:])
        y, levels = data.y[300:], data.quantiles

        def per_row(q, y=y, levels=levels):
            residual = y[:, None] - q
            return np.maximum(levels * residual, (levels - 1) * residual).mean(axis=1)

        before = per_row(raw)
        for name, order in orders.items():
            q = order(raw)
            after = per_row(q)
            figures[name].append(
                [
                    100 * (after.mean() / before.mean() - 1),
                    100 * (after > before + 1e-12).mean(),
                    100 * (np.diff(q, axis=1) < 0).any(axis=1).mean(),
                    100 * interval_calibration_error(y, q, levels),
                ]
            )
    names = ["change of loss, %", "rows scored worse, %", "rows that cross, %", "coverage error, %"]
    rows = []
    for order, values in figures.items():
        means = np.mean(values, axis=0)
        rows.append({"order": order, **{n: f"{v:.3f}" for n, v in zip(names, means, strict=True)}})
    return pd.DataFrame(rows)


def draw_forecast(rng: np.random.Generator, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Outcomes and a narrow interval around a noisy guess."""
    x = rng.normal(size=n)
    guess = x + 0.2 * rng.normal(size=n)
    return x + rng.normal(size=n), np.column_stack([guess - 0.5, guess + 0.5])


def coverage_of_split(sets: int, **parameters) -> np.ndarray:
    rng = np.random.default_rng(0)
    covered = np.empty(sets)
    for i in range(sets):
        y, q = draw_forecast(rng, 199)
        calibrator = ConformalQuantileCalibrator([0.05, 0.95], **parameters).fit(q[:99], y[:99])
        low, high = calibrator.predict(q[99:]).T
        covered[i] = ((low <= y[99:]) & (y[99:] <= high)).mean()
    return covered


def coverage_of_folds(sets: int) -> np.ndarray:
    """A line through 99 rows, calibrated by nine folds."""
    rng = np.random.default_rng(0)
    covered = np.empty(sets)
    folds = np.arange(99) % 9
    for i in range(sets):
        x, noise = rng.normal(size=(2, 199))
        y = x + noise
        lines = np.array([np.polyfit(x[:99][folds != f], y[:99][folds != f], 1) for f in range(9)])
        own = lines[folds, 0] * x[:99] + lines[folds, 1]
        calibrator = ConformalQuantileCalibrator([0.05, 0.95])
        calibrator.fit(np.column_stack([own, own]), y[:99], folds=folds)
        new = lines[:, :1] * x[99:] + lines[:, 1:]
        low, high = calibrator.predict(np.stack([new, new], axis=2)).T
        covered[i] = ((low <= y[99:]) & (y[99:] <= high)).mean()
    return covered


def table_of_coverage(sets: int) -> pd.DataFrame:
    schemes = {
        "split, symmetric": (coverage_of_split(sets), "0.900 to 0.910"),
        "split, asymmetric": (coverage_of_split(sets, symmetric=False), "at least 0.900"),
        "CV+, 9 folds": (coverage_of_folds(sets), "at least 0.709"),
    }
    rows = []
    for name, (covered, promise) in schemes.items():
        mean, error = summary(covered)
        rows.append(
            {
                "scheme": name,
                "promise": promise,
                "coverage": f"{mean:.4f}",
                "mc error": f"{error:.4f}",
            }
        )
    return pd.DataFrame(rows)


def best_time(run, repeats: int) -> tuple[float, object]:
    seconds = []
    for _ in range(repeats):
        start = time.process_time()
        result = run()
        seconds.append(time.process_time() - start)
    return min(seconds), result


def table_of_times(with_highs: bool) -> pd.DataFrame:
    data = make_quantile_models(5000, random_state=0)
    n, p, m = data.Q.shape
    rows = []
    for granularity in ("medium", "coarse", "fine"):

        def run(solver="ipm", granularity=granularity):
            aggregator = QuantileAggregator(data.quantiles, granularity=granularity, solver=solver)
            return aggregator.fit(data.Q, data.y)

        seconds, fitted = best_time(run, 2 if granularity == "fine" else 4)
        row = {
            "weights": granularity,
            "programs": 1 if granularity == "coarse" else m,
            "rows": n * m if granularity == "coarse" else n,
            "columns": p * m if granularity == "fine" else p,
            "seconds": f"{seconds:.3f}",
            "gap": f"{np.max(fitted.optimality_gap_):.1e}",
        }
        if with_highs and granularity != "fine":
            highs, other = best_time(lambda run=run: run("highs"), 1)
            row |= {
                "HiGHS": f"{highs:.1f}",
                "ratio": f"{highs / seconds:.0f}",
                "difference of loss": f"{fitted.objective_ / other.objective_ - 1:.1e}",
            }
        rows.append(row)
    return pd.DataFrame(rows).fillna("")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--draws", type=int, default=4)
    parser.add_argument("--sets", type=int, default=2000)
    parser.add_argument("--without-highs", action="store_true")
    options = parser.parse_args()
    warnings.simplefilter("ignore", UserWarning)
    tables = {
        "Mean pinball loss, 99 levels of six models": table_of_losses(options.draws),
        "Order of quantiles, medium weights from 300 rows": table_of_orders(options.draws),
        "Coverage at 90 % from 99 calibration rows": table_of_coverage(options.sets),
        "Time to certified weights": table_of_times(not options.without_highs),
    }
    text = "# Quantile aggregation\n"
    for title, table in tables.items():
        text += f"\n## {title}\n\n{to_markdown(table)}\n"
    RESULT.write_text(text)
    print(text)


def to_markdown(table: pd.DataFrame) -> str:
    lines = [list(table.columns), ["---"] * table.shape[1], *table.astype(str).to_numpy().tolist()]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


if __name__ == "__main__":
    main()

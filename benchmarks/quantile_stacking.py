"""Stacks and local weights of quantile models: losses, coverage of whole stacks, and time.

    python benchmarks/quantile_stacking.py [--draws 5] [--sets 100]

Writes benchmarks/results/quantile_stacking.md. Times are processor seconds of one thread, on a
machine with other work. The networks of the first table need PyTorch.
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
from quantile_forest import RandomForestQuantileRegressor
from sklearn.ensemble import HistGradientBoostingRegressor
from sklearn.linear_model import BayesianRidge, QuantileRegressor

from reweight import (
    GaussianQuantileAdapter,
    LocalQuantileAggregator,
    QuantileAggregator,
    QuantileStackingRegressor,
    make_quantile_models,
    weighted_interval_score,
)
from reweight.torch import DeepQuantileAggregator

RESULT = Path(__file__).parent / "results" / "quantile_stacking.md"
TRAIN, TEST = slice(0, 1000), slice(1000, None)


def summary(values) -> tuple[float, float]:
    return float(np.mean(values)), float(np.std(values, ddof=1) / np.sqrt(len(values)))


def aggregators(levels: np.ndarray, seed: int) -> dict:
    local, deep = {"alpha": "cv"}, {"random_state": seed, "learning_rate": 3e-3, "max_steps": 2000}
    return {
        "equal": QuantileAggregator(levels, granularity="average"),
        "constant, medium": QuantileAggregator(levels),
        "linear gate, coarse": LocalQuantileAggregator(levels, granularity="coarse", **local),
        "linear gate, medium": LocalQuantileAggregator(levels, **local),
        "network, medium": DeepQuantileAggregator(levels, **deep),
        "network, fine": DeepQuantileAggregator(levels, granularity="fine", **deep),
    }


def table_of_gates(design: str, draws: int) -> pd.DataFrame:
    """Test score over that of the true quantiles, 1000 rows to learn from."""
    excess, seconds = {}, {}
    for seed in range(draws):
        data = make_quantile_models(4000, n_quantiles=19, design=design, random_state=seed)
        q, y = data.true_quantiles[TEST], data.y[TEST]
        oracle = weighted_interval_score(y, q, data.quantiles)
        for name, model in aggregators(data.quantiles, seed).items():
            gate = {} if isinstance(model, QuantileAggregator) else {"gate_features": data.X}
            start = time.process_time()
            model.fit(data.Q[TRAIN], data.y[TRAIN], **{k: v[TRAIN] for k, v in gate.items()})
            seconds.setdefault(name, []).append(time.process_time() - start)
            score = -model.score(data.Q[TEST], y, **{k: v[TEST] for k, v in gate.items()})
            excess.setdefault(name, []).append(100 * (score / oracle - 1))
    rows = []
    for name, values in excess.items():
        mean, error = summary(values)
        figures = {"excess over the truth, %": f"{mean:.2f}", "mc error": f"{error:.2f}"}
        rows.append({"weights": name, **figures, "seconds": f"{np.median(seconds[name]):.2f}"})
    return pd.DataFrame(rows)


def draw(n: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    X = rng.uniform(-2, 2, size=(n, 4))
    center = np.sin(2 * X[:, 0]) + 0.5 * X[:, 1] + 0.5 * np.abs(X[:, 2])
    return X, center + (0.3 + 0.3 * np.abs(X[:, 0])) * rng.standard_t(4, size=n)


def table_of_stacks(draws: int) -> pd.DataFrame:
    """Models fitted to 400 rows, alone and stacked."""
    levels = np.array([0.05, 0.25, 0.5, 0.75, 0.95])
    models = [
        ("linear", QuantileRegressor(alpha=0.0)),
        ("normal", GaussianQuantileAdapter(BayesianRidge())),
        ("boosting", HistGradientBoostingRegressor(loss="quantile", max_iter=40)),
        ("forest", RandomForestQuantileRegressor(50, min_samples_leaf=5)),
    ]
    scores: dict[str, list[float]] = {}
    for seed in range(draws):
        rng = np.random.default_rng(seed)
        X, y = draw(400, rng)
        X_test, y_test = draw(4000, rng)
        stack = QuantileStackingRegressor(models, levels, cv=5, random_state=seed).fit(X, y)
        Q = stack.transform(X_test).reshape(len(X_test), len(models), -1)
        forecasts = {name: Q[:, j] for j, (name, _) in enumerate(models)}
        for kind in ("average", "median", "coarse", "medium", "fine"):
            aggregator = QuantileAggregator(levels, granularity=kind)
            forecasts[f"stack, {kind}"] = aggregator.fit(stack.oof_predictions_, y).predict(Q)
        for name, q in forecasts.items():
            scores.setdefault(name, []).append(weighted_interval_score(y_test, q, levels))
    medium = np.array(scores["stack, medium"])
    rows = []
    for name, values in scores.items():
        mean, error = summary(100 * (np.array(values) / medium - 1))
        rows.append(
            {
                "forecast": name,
                "weighted interval score": f"{np.mean(values):.4f}",
                "excess over medium, %": f"{mean:.2f}",
                "mc error": f"{error:.2f}",
            }
        )
    return pd.DataFrame(rows)


def table_of_coverage(sets: int) -> pd.DataFrame:
    """Stacks of wrong models on 100 rows of heavy tails, intervals of 80 %."""
    levels = np.array([0.1, 0.5, 0.9])
    models = [
        ("linear", QuantileRegressor(alpha=0.0)),
        ("normal", GaussianQuantileAdapter(BayesianRidge())),
    ]
    promises = {None: "none", "split": "0.800 to 0.838", "cv+": f"{0.6 - np.sqrt(2 / 100):.3f}"}
    rows = []
    for calibrate, promise in promises.items():
        covered, widths = [], []
        for seed in range(sets):
            rng = np.random.default_rng(seed)
            X, y = draw(1100, rng)
            stack = QuantileStackingRegressor(
                models, levels, calibrate=calibrate, granularity="coarse", random_state=seed
            ).fit(X[:100], np.exp(y[:100]))
            low, high = stack.predict_interval(X[100:], confidence_level=0.8).T
            covered.append(((low <= np.exp(y[100:])) & (np.exp(y[100:]) <= high)).mean())
            widths.append((high - low).mean())
        mean, error = summary(covered)
        rows.append(
            {
                "calibrate": calibrate or "none",
                "promise": promise,
                "coverage": f"{mean:.4f}",
                "mc error": f"{error:.4f}",
                "mean width": f"{np.mean(widths):.2f}",
            }
        )
    return pd.DataFrame(rows)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--draws", type=int, default=5)
    parser.add_argument("--sets", type=int, default=100)
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    parts = {
        "Models right in different places": lambda: table_of_gates("switch", arguments.draws),
        "Models wrong everywhere": lambda: table_of_gates("distorted", arguments.draws),
        "Stacks of fitted models": lambda: table_of_stacks(arguments.draws),
        "Coverage of whole stacks": lambda: table_of_coverage(arguments.sets),
    }
    text = "# Stacks and local weights of quantile models\n"
    text += f"\n{arguments.draws} draws for losses, {arguments.sets} for coverage.\n"
    for title, make in parts.items():
        table = make()
        lines = [table.columns.tolist(), ["---"] * table.shape[1], *table.to_numpy().tolist()]
        text += f"\n## {title}\n\n" + "".join(f"| {' | '.join(line)} |\n" for line in lines)
        # Tables appear as they come, since all of them take minutes.
        RESULT.write_text(text)
        print(table.to_string(index=False), flush=True)


if __name__ == "__main__":
    main()

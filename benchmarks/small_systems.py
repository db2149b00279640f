"""Figures of Kalman regression and of local surrogates, by simulation.

    python benchmarks/small_systems.py [--replications 100]

Writes benchmarks/results/small_systems.md.
"""

import argparse
import time
import warnings
from pathlib import Path

import numpy as np
from scipy.stats import kstest
from sklearn.linear_model import SGDRegressor

from reweight import KalmanLinearRegression, LocalSurrogateSensitivity

HERE = Path(__file__).parent


def mean_and_error(values, digits=3):
    values = np.asarray(values, dtype=float)
    return f"{values.mean():.{digits}f} ± {values.std(ddof=1) / len(values) ** 0.5:.{digits}f}"


def forecast_errors(replications):
    """One-step errors where a slope jumps halfway, or wanders, or stays."""
    n, rows = 1000, []
    models = {
        "no drift": {},
        "drift variance 0.001": {"drift_variance": 1e-3},
        "drift variance 0.01": {"drift_variance": 1e-2},
        "forgetting 0.98": {"forgetting": 0.98},
        "averaged iterates": {"mode": "iterates", "eta0": 0.02},
        "smoothed iterates, ratio 0.1": {
            "mode": "iterates",
            "eta0": 0.05,
            "smoothing_ratio": 0.1,
        },
    }
    designs = ("constant", "jump", "random walk")
    found = {(model, design): [] for model in models for design in designs}
    chosen = {design: [] for design in designs}
    for seed in range(replications):
        rng = np.random.default_rng(seed)
        X = rng.normal(size=(n, 2))
        noise = 0.5 * rng.normal(size=n)
        slopes = {
            "constant": np.ones(n),
            "jump": np.where(np.arange(n) < n // 2, 1.0, -1.0),
            "random walk": np.cumsum(rng.normal(scale=0.05, size=n)),
        }
        for design, slope in slopes.items():
            y = slope * X[:, 0] + noise
            evidence = {}
            for name, parameters in models.items():
                model = KalmanLinearRegression(record_path=True, **parameters).fit(X, y)
                before = np.vstack([np.zeros(3), model.path_[:-1]])
                error = y - (np.column_stack([np.ones(n), X]) * before).sum(axis=1)
                found[name, design].append((error**2).mean() / 0.25)
                if not np.isnan(model.log_evidence_):
                    evidence[name] = model.log_evidence_
            best = max(evidence, key=evidence.get)
            chosen[design].append(found[best, design][-1])
    for name in models:
        cells = [mean_and_error(found[name, design]) for design in designs]
        rows.append(f"| {name} | {' | '.join(cells)} |")
    cells = [mean_and_error(chosen[design]) for design in designs]
    rows.append(f"| the exact one of largest evidence | {' | '.join(cells)} |")
    head = ["| model | constant | jump | random walk |", "|---|---|---|---|"]
    return [*head, *rows]


def coverage(replications):
    """Share of the next outcomes inside intervals of 90 %, after few and many rows."""
    rows = []
    for n in (10, 30, 100):
        for label, noise in (("estimated", "estimate"), ("known", 1.0)):
            inside = []
            for seed in range(replications):
                rng = np.random.default_rng([1, n, seed])
                X = rng.normal(size=(n + 50, 3))
                y = X @ [1.0, -1.0, 0.0] + rng.normal(size=n + 50)
                model = KalmanLinearRegression(noise_variance=noise).fit(X[:n], y[:n])
                lower, upper = model.predict_interval(X[n:], confidence_level=0.9).T
                inside.append(((lower < y[n:]) & (y[n:] < upper)).mean())
            rows.append(f"| {n} | {label} | {mean_and_error(inside)} |")
    return ["| rows before | noise variance | coverage |", "|---|---|---|", *rows]


def speed():
    """Rows per second, fastest of three, in one batch."""
    rows = []
    for q in (5, 10, 50):
        rng = np.random.default_rng(0)
        X = rng.normal(size=(200_000, q - 1))
        y = X[:, 0] + rng.normal(size=len(X))
        cells = []
        models = [
            KalmanLinearRegression(),
            KalmanLinearRegression(forgetting=0.9999),
            KalmanLinearRegression(drift_variance=1e-8),
            KalmanLinearRegression(mode="iterates"),
            SGDRegressor(penalty=None, max_iter=1, tol=None),
        ]
        for model in models:
            seconds = []
            for _ in range(3):
                start = time.perf_counter()
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")
                    model.fit(X, y)
                seconds.append(time.perf_counter() - start)
            cells.append(f"{len(X) / min(seconds) / 1e6:.2f}")
        rows.append(f"| {q} | {' | '.join(cells)} |")
    head = "| coefficients | static | forgetting | drift | iterates | SGDRegressor |"
    return [head, "|---|---|---|---|---|---|", *rows]


def surrogate_level(replications):
    """Level of the test of sensitivity where nothing depends on the setting."""
    rows = []
    for cov_type in ("nonrobust", "HC3"):
        for n in (30, 60, 200):
            p_values = []
            for seed in range(replications):
                rng = np.random.default_rng([2, n, seed])
                X = rng.integers(0, 2, size=(4 * n, 5)).astype(float)
                y = X @ [0.1, 0.2, 0.0, 0.0, -0.1] + rng.normal(size=4 * n)
                model = LocalSurrogateSensitivity(cov_type=cov_type)
                p_values.append(model.fit(X, y, groups=np.repeat(np.arange(4), n)).q_pvalue_)
            rejected = (np.array(p_values) < 0.05).mean(axis=1)
            uniform = kstest(np.array(p_values)[:, 0], "uniform").pvalue
            rows.append(f"| {cov_type} | {n} | {mean_and_error(rejected)} | {uniform:.2g} |")
    head = "| covariance | runs a setting | rejected at 5 % | p of uniformity |"
    return [head, "|---|---|---|---|", *rows]


def surrogate_power(replications):
    """How often the three sensitive switches of nine lead each ranking."""
    lead = {by: [] for by in ("q_pvalue", "tau2", "sensitivity", "influence")}
    for seed in range(replications):
        rng = np.random.default_rng([3, seed])
        X = rng.integers(0, 2, size=(256, 9)).astype(float)
        groups = np.repeat(np.arange(4), 64)
        effect = np.tile(rng.normal(scale=0.02, size=9), (4, 1))
        effect[:, :3] += rng.normal(scale=0.02, size=(4, 3))
        y = 0.9 + (X * effect[groups]).sum(axis=1) + 0.01 * rng.normal(size=256)
        model = LocalSurrogateSensitivity().fit(X, y, groups=groups)
        for by, hits in lead.items():
            hits.append(set(model.ranking(by)[:3]) == {"x0", "x1", "x2"})
    rows = [f"| {by} | {mean_and_error(hits)} |" for by, hits in lead.items()]
    return ["| ranking by | three sensitive switches first |", "|---|---|", *rows]


HEAD = """# Kalman regression and local surrogates

Made by `python benchmarks/small_systems.py --replications {replications}`; means plus or minus one
Monte-Carlo standard error. The papers behind the two methods give no figures that could be read and
reproduced; these are designs of our own.
"""


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--replications", type=int, default=100)
    parser.add_argument("--output", type=Path, default=HERE / "results" / "small_systems.md")
    options = parser.parse_args()
    n = options.replications
    sections = {
        "Squared one-step errors over the noise variance, 1000 rows": forecast_errors(n),
        "Coverage of 90 % intervals of a new outcome": coverage(n),
        "Million rows a second, one thread (depends on the machine and its load)": speed(),
        "Level of the test of sensitivity, four settings, five switches": surrogate_level(n),
        "Finding sensitive switches, 64 runs in each of four settings": surrogate_power(n),
    }
    lines = [HEAD.format(replications=n)]
    for title, table in sections.items():
        lines += [f"## {title}", "", *table, ""]
    options.output.parent.mkdir(exist_ok=True)
    options.output.write_text("\n".join(lines))


if __name__ == "__main__":
    main()

"""Averages of models beside what they replace: flips, pooled sites, stocks, mixed domains.

    python benchmarks/weight_space_experiments.py [--jobs 2] [EXPERIMENT ...]

Writes benchmarks/results/weight_space_experiments.md. Every data set ships with scikit-learn or
is drawn; each experiment has its seeds and is compared with the figures of the design that it
follows.
"""

import argparse
import time
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
from joblib import Parallel, delayed
from scipy import special
from sklearn.datasets import load_breast_cancer, load_digits
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.neural_network import MLPClassifier
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits

from reweight import (
    BackwardCompatibleClassifier,
    DynamicInterpolationClassifier,
    average_parameters,
    fisher_information,
    negative_flip_rate,
    pool_estimates,
    stock_weights,
)

HERE = Path(__file__).parent
RULES = ("tolerance", "max", "guarded", "one_se")


def digits() -> tuple[np.ndarray, np.ndarray]:
    X, y = load_digits(return_X_y=True)
    return X / 16, y


def breast_cancer() -> tuple[np.ndarray, np.ndarray]:
    X, y = load_breast_cancer(return_X_y=True)
    return StandardScaler().fit_transform(X), y


DESIGNS = {"digits": (digits, 150, 600, 400), "breast cancer": (breast_cancer, 40, 250, 150)}


def split(design: str, seed: int):
    """Rows of the old model, of the new one, for selection, for judging."""
    load, n_old, n_new, n_val = DESIGNS[design]
    X, y = load()
    order = np.random.default_rng(seed).permutation(len(y))
    parts = order[:n_old], order[:n_new], order[n_new : n_new + n_val], order[n_new + n_val :]
    return [(X[rows], y[rows]) for rows in parts]


def judge(model, old, X, y) -> tuple[float, float]:
    predicted = model.predict(X)
    return float((predicted == y).mean()), negative_flip_rate(y, old.predict(X), predicted)


def flips(design: str, seed: int) -> dict:
    """Accuracy, negative flips and weight of the old model, by rule."""
    old_rows, new_rows, (X_val, y_val), test = split(design, seed)
    old = LogisticRegression(max_iter=2000).fit(*old_rows)
    found = {"old": (*judge(old, old, *test), 1.0)}
    for rule in RULES:
        update = BackwardCompatibleClassifier(FrozenEstimator(old), selection=rule)
        update.fit(*new_rows, X_val=X_val, y_val=y_val)
        found["new"] = (*judge(update.new_estimators_[0], old, *test), 0.0)
        found[rule] = (*judge(update, old, *test), update.old_weight_)
    return found


def network_flips(seed: int) -> dict:
    """The same for networks that go on from the old one."""
    old_rows, new_rows, (X_val, y_val), test = split("digits", seed)
    net = MLPClassifier((64,), max_iter=60, learning_rate_init=0.005, random_state=seed)
    old = net.fit(*old_rows)
    further = MLPClassifier((64,), max_iter=40, learning_rate_init=0.005)
    found = {}
    for n_updates in (1, 4):
        update = BackwardCompatibleClassifier(
            FrozenEstimator(old),
            further,
            n_updates=n_updates,
            random_state=100 + seed,
            selection="tolerance",
        ).fit(*new_rows, X_val=X_val, y_val=y_val)
        if n_updates == 1:
            found["new"] = judge(update.new_estimators_[0], old, *test)
        found[f"merged with {n_updates} new"] = judge(update, old, *test)
    return found


def pooled_sites(replication: int) -> dict:
    """Squared errors of estimates from four sites that share no rows."""
    beta = np.array([-1, 0.8, -0.5, 0.3, 0, 1])
    rng = np.random.default_rng(replication)
    sites = []
    for k, n in enumerate((100, 200, 400, 800)):
        D = np.column_stack([np.ones(n), rng.normal(size=(n, 5)) * (1 + 0.5 * k)])
        sites.append((D, (rng.uniform(size=n) < special.expit(D @ beta)).astype(int)))
    model = LogisticRegression(C=np.inf, fit_intercept=False, max_iter=1000, tol=1e-8)
    fits = [LogisticRegression(**model.get_params()).fit(D, y) for D, y in sites]
    estimates = [fit.coef_[0] for fit in fits]
    full = pool_estimates(
        estimates,
        [fisher_information(f, D, kind="full") for f, (D, _) in zip(fits, sites, strict=True)],
    )
    diagonals = [fisher_information(f, D) for f, (D, _) in zip(fits, sites, strict=True)]
    everything = [np.concatenate(parts) for parts in zip(*sites, strict=True)]
    found = {
        "pooled rows": model.fit(*everything).coef_[0],
        "full Fisher": full.mean,
        "diagonal Fisher": average_parameters(fits, diagonals).coef_[0],
        "weighted by rows": average_parameters(fits, [len(y) for _, y in sites]).coef_[0],
        "plain mean": average_parameters(fits).coef_[0],
    }
    return {name: float(((value - beta) ** 2).sum()) for name, value in found.items()}


def stock(seed: int) -> dict:
    """Squared error of Model Stock beside the plain mean, and its ratio t."""
    rng = np.random.default_rng(seed)
    p, truth = 2000, rng.normal(scale=0.5, size=2000)
    found = {}
    for K in (2, 4):
        models = [{"w": truth + rng.normal(size=p)} for _ in range(K)]
        base = {"w": np.zeros(p)}
        weights = stock_weights(base, models)
        merged = average_parameters([base, *models], weights)["w"]
        plain = average_parameters(models)["w"]
        found[f"K={K}, t"] = 1 - weights[0]["w"]
        found[f"K={K}, squared error of Model Stock"] = float(np.mean((merged - truth) ** 2))
        found[f"K={K}, squared error of the mean"] = float(np.mean((plain - truth) ** 2))
    return found


def mixed_domains(seed: int) -> dict:
    """Accuracy on two domains of a robust and a special model and of what is between them."""
    X, y = digits()
    r = np.random.default_rng(seed)
    order = r.permutation(len(y))
    A, y = X[order], y[order]
    B = A[:, ::-1] + 0.25 * r.normal(size=A.shape)
    train, test = slice(0, 900), slice(900, None)
    model = LogisticRegression(C=0.3, max_iter=500)
    robust = LogisticRegression(**model.get_params()).fit(
        np.vstack([A[:120], B[train]]), np.concatenate([y[:120], y[train]])
    )
    special = model.fit(A[train], y[train])
    mixture = np.vstack([A[test], B[test]])
    dynamic = DynamicInterpolationClassifier([robust, special]).fit(mixture)
    static = average_parameters([robust, special])
    models = {"f0": robust, "f1": special, "static half": static, "dynamic": dynamic}
    return {
        name: (float(m.score(A[test], y[test])), float(m.score(B[test], y[test])))
        for name, m in models.items()
    }


def run(function, tasks, jobs):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return Parallel(n_jobs=jobs)(delayed(_quiet)(function, *task) for task in tasks)


def _quiet(function, *task):
    with warnings.catch_warnings(), threadpool_limits(1):
        warnings.simplefilter("ignore")
        return function(*task)


def averaged(found: list[dict], columns: list[str]) -> pd.DataFrame:
    """Means over replications with Monte-Carlo standard errors."""
    rows = {}
    for name in found[0]:
        values = np.array([np.atleast_1d(one[name]) for one in found])
        error = values.std(axis=0, ddof=1) / np.sqrt(len(values))
        rows[name] = [f"{m:.4f} ± {e:.4f}" for m, e in zip(values.mean(axis=0), error, strict=True)]
    return pd.DataFrame(rows, index=columns).T


def with_design(table: pd.DataFrame, figures: dict) -> pd.DataFrame:
    table["figures to reproduce"] = [figures.get(name, "") for name in table.index]
    return table


def experiment_flips(jobs: int) -> list[str]:
    figures = {
        "digits": {
            "old": ".9070",
            "new": ".9513, .0088",
            "tolerance": ".9475, .0058",
            "max": ".9481, .0062",
            "guarded": ".9494, .0068",
            "one_se": ".9438, .0049",
        },
        "breast cancer": {
            "old": ".9501",
            "new": ".9688, .0105",
            "tolerance": ".9643, .0027",
            "max": ".9670, .0034",
            "guarded": ".9664, .0038",
            "one_se": ".9618, .0022",
        },
    }
    lines = []
    for design, expected in figures.items():
        found = run(flips, [(design, seed) for seed in range(40)], jobs)
        columns = ["accuracy", "negative flips", "weight of the old model"]
        table = with_design(averaged(found, columns), expected)
        lines += [f"### {design}, 40 seeds", "", markdown(table), ""]
        if design == "digits":
            expected = {
                "old": ".906",
                "new": ".952, .0083",
                "tolerance": ".948, .0055; weight .24",
            }
            first = [{k: one[k] for k in expected} for one in found[:20]]
            table = with_design(averaged(first, columns), expected)
            lines += ["### digits, the first 20 seeds", "", markdown(table), ""]
    found = run(network_flips, [(seed,) for seed in range(8)], jobs)
    expected = {
        "new": ".950, .0085",
        "merged with 1 new": ".0074 flips",
        "merged with 4 new": ".946, .0071",
    }
    table = with_design(averaged(found, ["accuracy", "negative flips"]), expected)
    return [
        *lines,
        "### digits, networks that go on from the old one, 8 seeds",
        "",
        markdown(table),
    ]


def experiment_pooling(jobs: int) -> list[str]:
    found = pd.DataFrame(run(pooled_sites, [(r,) for r in range(300)], jobs))
    total = found.sum()
    rng = np.random.default_rng(0)
    resampled = [found.iloc[rng.integers(0, len(found), len(found))].sum() for _ in range(500)]
    errors = pd.DataFrame([r / r["pooled rows"] for r in resampled]).std()
    expected = {
        "full Fisher": ".96",
        "diagonal Fisher": "1.13",
        "weighted by rows": "1.31",
        "plain mean": "3.35",
    }
    ratio = total / total["pooled rows"]
    table = pd.DataFrame(
        {
            "error over that of pooled rows": [
                f"{ratio[n]:.3f} ± {errors[n]:.3f}" for n in total.index
            ]
        },
        index=total.index,
    )
    return [markdown(with_design(table, expected))]


def experiment_stock(jobs: int) -> list[str]:
    found = run(stock, [(seed,) for seed in range(50)], jobs)
    expected = {
        "K=2, t": "1/3",
        "K=4, t": "1/2",
        "K=2, squared error of Model Stock": ".167",
        "K=4, squared error of Model Stock": ".125",
        "K=2, squared error of the mean": ".5",
        "K=4, squared error of the mean": ".25",
    }
    return [markdown(with_design(averaged(found, ["mean"]), expected))]


def experiment_domains(jobs: int) -> list[str]:
    found = run(mixed_domains, [(seed,) for seed in range(20)], jobs)
    both = [{name: (a, b, (a + b) / 2) for name, (a, b) in one.items()} for one in found]
    expected = {
        "f0": ".539, .857",
        "f1": ".949, .366",
        "static half": ".902, .565, .734",
        "dynamic": ".920, .641, .780",
    }
    return [markdown(with_design(averaged(both, ["domain A", "domain B", "mean"]), expected))]


def markdown(table: pd.DataFrame) -> str:
    rows = [["", *table.columns], ["---"] * (len(table.columns) + 1)]
    rows += [[name, *row] for name, row in zip(table.index, table.to_numpy().tolist(), strict=True)]
    return "\n".join("| " + " | ".join(map(str, row)) + " |" for row in rows)


EXPERIMENTS = {
    "flips": ("E1: an update with few negative flips", experiment_flips),
    "pooling": ("E2: four sites, 300 replications", experiment_pooling),
    "stock": ("E3: noisy fits around a common truth, 50 seeds", experiment_stock),
    "domains": ("E4: interpolation sample by sample, 20 seeds", experiment_domains),
}
HEAD = """# Averages of models

Made by `python benchmarks/weight_space_experiments.py`. Means over replications plus or minus one
Monte-Carlo standard error; the last column has the figures of the design that each follows, in the
order of the columns.
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("experiments", nargs="*", metavar="EXPERIMENT", help=", ".join(EXPERIMENTS))
    parser.add_argument("--jobs", type=int, default=2)
    options = parser.parse_args()
    lines = [HEAD]
    for name in options.experiments or EXPERIMENTS:
        title, experiment = EXPERIMENTS[name]
        start = time.perf_counter()
        lines += [f"## {title}", "", *experiment(options.jobs), ""]
        print(f"{name}: {time.perf_counter() - start:.0f} s", flush=True)
    text = "\n".join(lines)
    if options.experiments:
        print(text)
        return
    path = HERE / "results" / "weight_space_experiments.md"
    path.parent.mkdir(exist_ok=True)
    path.write_text(text.rstrip() + "\n")


if __name__ == "__main__":
    main()

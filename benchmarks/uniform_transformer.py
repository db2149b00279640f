"""Effects by way of the uniform transformer in the simulation of Kang and Schafer, and their cost.

    python benchmarks/uniform_transformer.py [--cuts 30] [--replications 300] [--jobs 2]

Three tables. One study over random cuts, beside the figures of the authors' R code and of an
independent prototype (mean and spread over 20 to 30 cuts of the same study; they agree). Many
studies: bias and root mean squared error, beside entropy balancing of the means. Seconds of one
estimate by kernel sums, whose cost per row is constant for a compact kernel. The effect is zero;
only the distorted covariates are seen.
"""

import argparse
import time
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
from joblib import Parallel, delayed

from causal import EntropyBalancing, UniformTransformerEffect, WeightedEffect, make_kang_schafer
from reweight.exceptions import InfeasibleError

# The study of 200 rows, 112 of them treated, in which the arms differ by -20.91.
SEED = 7
# Method -> (parameters, mean and spread over random cuts to reproduce).
METHODS = {
    "kernel, marginal": ({"method": "kernel", "marginal": True}, -13.85, 0.04),
    "projection, marginal": ({"method": "projection", "marginal": True}, -2.56, 0.05),
    "kernel, joint": ({"method": "kernel", "marginal": False}, -15.9, 0.3),
    "projection, joint": ({"method": "projection", "marginal": False}, -3.3, 0.8),
}
DEFAULT = "projection, marginal, no draws"
TIMED = [(d, kernel, n) for d in (1, 2, 3) for kernel in ("epanechnikov", "rbf") for n in (10, 100)]


def estimate(study: dict, random_state: int = 0, **parameters) -> float:
    """Effect on the treated, without an interval."""
    effect = UniformTransformerEffect(n_resamples=None, random_state=random_state, **parameters)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return effect.fit(study.X, study.y, treatment=study.treatment).effect_


def over_cuts(n_cuts: int) -> pd.DataFrame:
    """Mean and spread of the estimates of one study over random cuts."""
    study = make_kang_schafer(200, random_state=SEED)
    rows = []
    for name, (parameters, published, spread) in METHODS.items():
        draws = [estimate(study, r, cut="random", **parameters) for r in range(n_cuts)]
        rows.append(
            {
                "method": name,
                "mean": np.mean(draws),
                "mc error": np.std(draws, ddof=1) / np.sqrt(n_cuts),
                "published": published,
                "spread": np.std(draws, ddof=1),
                "published spread": spread,
            }
        )
    return pd.DataFrame(rows).set_index("method")


def replicate(n: int, seed: int) -> list[dict]:
    """Every method on one study."""
    study = make_kang_schafer(n, random_state=seed)
    treated = study.treatment == 1
    effects = {"unweighted": study.y[treated].mean() - study.y[~treated].mean()}
    try:
        balancing = WeightedEffect(EntropyBalancing("ATT"), inference="robust")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            fitted = balancing.fit(study.X, study.y, treatment=study.treatment)
        effects["entropy balancing"] = fitted.effect_
    except InfeasibleError:
        effects["entropy balancing"] = np.nan
    effects[DEFAULT] = estimate(study)
    for name, (parameters, _, _) in METHODS.items():
        effects[name] = estimate(study, seed, cut="random", **parameters)
    return [{"n": n, "method": name, "effect": value} for name, value in effects.items()]


def over_studies(n_replications: int, jobs: int) -> pd.DataFrame:
    """Bias and root mean squared error over studies."""
    parts = Parallel(n_jobs=jobs)(
        delayed(replicate)(n, seed) for n in (200, 1000) for seed in range(n_replications)
    )
    frame = pd.DataFrame([row for part in parts for row in part])
    effects = frame.groupby(["n", "method"], sort=False)["effect"]
    return pd.DataFrame(
        {
            "studies": effects.count(),
            "bias": effects.mean(),
            "mc error": effects.std() / effects.count() ** 0.5,
            "rmse": effects.apply(lambda values: (values**2).mean() ** 0.5),
        }
    )


def timings() -> pd.DataFrame:
    """Seconds of one kernel estimate; best of two."""
    rows = []
    for d, kernel, thousands in TIMED:
        if kernel == "rbf" and d > 2 and thousands > 10:
            continue
        rng = np.random.default_rng(0)
        n = 1000 * thousands
        X, t, y = rng.normal(size=(n, d)), rng.integers(0, 2, n), rng.normal(size=n)
        effect = UniformTransformerEffect(
            method="kernel", kernel=kernel, n_resamples=None, random_state=0
        )
        seconds = []
        for _ in range(2):
            start = time.perf_counter()
            effect.fit(X, y, treatment=t)
            seconds.append(time.perf_counter() - start)
        best = min(seconds)
        rows.append(
            {
                "columns": d,
                "kernel": kernel,
                "rows": n,
                "seconds": best,
                "us per row": 1e6 * best / n,
            }
        )
    return pd.DataFrame(rows).set_index(["columns", "kernel", "rows"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cuts", type=int, default=30)
    parser.add_argument("--replications", type=int, default=300)
    parser.add_argument("--jobs", type=int, default=2)
    options = parser.parse_args()
    tables = {
        f"One study of 200 rows, {options.cuts} random cuts": over_cuts(options.cuts),
        f"{options.replications} studies": over_studies(options.replications, options.jobs),
        "Kernel estimate at the default bandwidth": timings(),
    }
    text = "\n\n".join(
        f"{title}\n{table.to_string(float_format=lambda value: f'{value:.3f}')}"
        for title, table in tables.items()
    )
    print(text)
    results = Path(__file__).parent / "results"
    results.mkdir(exist_ok=True)
    (results / "uniform_transformer.txt").write_text(text + "\n")


if __name__ == "__main__":
    main()
